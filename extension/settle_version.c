/*
 * settle_version.c - tariff versions with the named prices of their time filled in, the site's
 * calendar, and the parts of local days by period.
 *
 * A version begins whenever its definition does and whenever a price it refers to changes. Each is
 * compiled once a run and shared by all accounts on the tariff.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "settle.h"
#include "tariff.h"

/*
 * $5: a definition that stands for every tariff at all times, or NULL. A version one of whose prices
 * does not exist yet comes without a definition.
 */
static const char find_versions[] =
	"WITH asked AS (SELECT k.tariff_id, k.from_ts FROM unnest($2, $3) AS k(tariff_id, from_ts)),"
	" written AS (SELECT DISTINCT ON (v.tariff_id, v.valid_from) v.tariff_id, v.valid_from, v.definition"
	"   FROM submeter.tariff_version v JOIN asked a ON a.tariff_id = v.tariff_id"
	"   WHERE v.site_id = $1 AND v.entered_at <= $4 AND $5 IS NULL ORDER BY v.tariff_id, v.valid_from, v.revision DESC),"
	" version AS (SELECT w.tariff_id, w.valid_from, w.definition,"
	"   lead(w.valid_from, 1, 'infinity') OVER (PARTITION BY w.tariff_id ORDER BY w.valid_from) AS until,"
	"   ARRAY(SELECT DISTINCT r #>> '{}' FROM jsonb_path_query(w.definition, '$.**.ref') r) AS names"
	"  FROM (SELECT * FROM written UNION ALL SELECT a.tariff_id, '-infinity', $5 FROM asked a WHERE $5 IS NOT NULL) w),"
	" moment AS (SELECT v.tariff_id, v.valid_from AS at, v.definition, v.names FROM version v"
	"  UNION SELECT v.tariff_id, p.valid_from, v.definition, v.names FROM version v"
	"   JOIN submeter.price_item p ON p.site_id = $1 AND p.name = ANY (v.names) AND p.entered_at <= $4"
	"   AND p.valid_from > v.valid_from AND p.valid_from < v.until),"
	" ended AS (SELECT m.*, lead(m.at, 1, 'infinity') OVER (PARTITION BY m.tariff_id ORDER BY m.at) AS until FROM moment m)"
	" SELECT e.tariff_id, e.at, e.until, CASE WHEN coalesce(p.n, 0) = cardinality(e.names) THEN e.definition END, p.prices"
	" FROM ended e JOIN asked a ON a.tariff_id = e.tariff_id AND e.until > a.from_ts"
	" LEFT JOIN LATERAL (SELECT jsonb_object_agg(x.name, x.price) AS prices, count(*) AS n FROM ("
	"   SELECT DISTINCT ON (p.name) p.name, p.price FROM submeter.price_item p"
	"   WHERE p.site_id = $1 AND p.name = ANY (e.names) AND p.valid_from <= e.at AND p.entered_at <= $4"
	"   ORDER BY p.name, p.valid_from DESC, p.revision DESC) x) p ON cardinality(e.names) > 0"
	" ORDER BY e.tariff_id, e.at";

static const char find_days[] =
	"SELECT c.day, c.day_type, c.flags FROM submeter.calendar_day c WHERE c.site_id = $1 ORDER BY c.day";

/* ---- versions ---- */

static int
priced_compare(const void *a, const void *b)
{
	int64 left = ((const SmPriced *) a)->tariff_id;
	int64 right = ((const SmPriced *) b)->tariff_id;

	return left < right ? -1 : left > right;
}

/*
 * The tariffs of all pairs, each once, with the time from which they are needed.
 */
static void
priced_collect(SmSettle *settle, Datum *ids, Datum *times)
{
	int n = 0;

	settle->priced = palloc0(sizeof(SmPriced) * Max(settle->n_pairs, 1));
	for (int i = 0; i < settle->n_pairs; i++)
		settle->priced[i].tariff_id = settle->pairs[i].tariff_id;
	qsort(settle->priced, settle->n_pairs, sizeof(SmPriced), priced_compare);
	for (int i = 0; i < settle->n_pairs; i++)
	{
		if (n == 0 || settle->priced[n - 1].tariff_id != settle->priced[i].tariff_id)
			settle->priced[n++].tariff_id = settle->priced[i].tariff_id;
	}
	settle->n_priced = n;
	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(settle->priced[i].tariff_id);
		times[i] = TimestampTzGetDatum(DT_NOEND);
	}
	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];
		SmPriced key = {.tariff_id = pair->tariff_id};
		TimestampTz from = Min(Min(pair->load_from, pair->reset_from), pair->accrue_from);
		int at;

		pair->priced = bsearch(&key, settle->priced, n, sizeof(SmPriced), priced_compare);
		at = pair->priced - settle->priced;
		if (from < DatumGetTimestampTz(times[at]))
			times[at] = TimestampTzGetDatum(cycle_start(settle, from));
	}
}

/*
 * What of a tariff matters for how a run goes about it.
 */
static void
priced_note(const SmSettle *settle, SmPriced *priced, const SmTariff *tariff)
{
	bool whole = tariff->tier_cycle == SM_TIER_CYCLE ||
				 (tariff->tier_cycle == SM_TIER_MONTH && settle->cycle_day == 1);

	priced->clock |= tariff->clock;
	priced->tiers |= tariff->n_tiers > 1;
	priced->carries |= tariff->n_tiers > 1 && !whole;
	for (int i = 0; i < tariff->n_bounds; i++)
		priced->household |= tariff->n_tiers > 1 && tariff->bounds[i].household > 0;
	priced->supplies |= tariff->clock || tariff->minimum_e8 > 0 || priced->household;
}

static bool
calendar_needed(const SmPriced *priced)
{
	for (int i = 0; i < priced->n_versions; i++)
	{
		const SmTariff *tariff = priced->versions[i].tariff;

		if (tariff != NULL && tariff->schedule.n_periods > 1)
			return true;
	}
	return false;
}

static uint64
calendar_flags(const SmSettle *settle, Datum names)
{
	Datum *elements;
	bool *nulls;
	uint64 flags = 0;
	int n;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *name = nulls[i] ? "" : TextDatumGetCString(elements[i]);

		for (int j = 0; j < settle->flags.n_names; j++)
		{
			if (strcmp(settle->flags.names[j], name) == 0)
				flags |= UINT64CONST(1) << j;
		}
	}
	return flags;
}

/*
 * The days on record at the site; those without a type are as their weekday says.
 */
static void
calendar_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT4OID};
	Datum args[1] = {Int32GetDatum(settle->site_id)};
	SmCalendar plain = {0};
	SmCalendarDay *days;

	db_execute(&plan, find_days, 1, types, args, NULL, SPI_OK_SELECT);
	days = palloc0(sizeof(SmCalendarDay) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Datum type;

		days[i].day = DatumGetDateADT(db_cell(i, 1, &isnull));
		type = db_cell(i, 2, &isnull);
		if (isnull)
			days[i].type = calendar_day_type(&plain, days[i].day);
		else
		{
			const char *name = TextDatumGetCString(type);

			days[i].type = strcmp(name, "workday") == 0   ? SM_DAY_WORKDAY
						   : strcmp(name, "weekend") == 0 ? SM_DAY_WEEKEND
														  : SM_DAY_HOLIDAY;
		}
		days[i].flags = calendar_flags(settle, db_cell(i, 3, &isnull));
	}
	settle->calendar.n_days = SPI_processed;
	settle->calendar.days = days;
}

/*
 * Fetches and compiles the versions of n tariffs, sorted by number, from a time each on. definition: a
 * jsonb that takes the place of all of them, or 0.
 */
static void
priced_fetch(SmSettle *settle, SmPriced *priced, int n, Datum ids, Datum times, Datum definition)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID,
								 JSONBOID};
	Datum args[5] = {Int32GetDatum(settle->site_id), ids, times,
					 TimestampTzGetDatum(settle->known_at), definition};
	SmVersion *versions;

	db_execute(&plan, find_versions, 5, types, args, definition == 0 ? "    n" : NULL,
			   SPI_OK_SELECT);
	versions = palloc0(sizeof(SmVersion) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmVersion *version = &versions[i];
		bool isnull;
		bool no_prices;
		Datum text;
		Datum prices;

		while (priced->tariff_id != db_cell_int64(i, 1))
			priced++;
		if (priced->n_versions++ == 0)
			priced->versions = version;
		version->from = db_cell_time(i, 2, DT_NOBEGIN);
		version->to = db_cell_time(i, 3, DT_NOEND);
		text = db_cell(i, 4, &isnull);
		prices = db_cell(i, 5, &no_prices);
		priced->supplies |= priced->n_versions > 1;
		if (isnull)
			continue;
		version->tariff = tariff_compile(DatumGetJsonbP(text),
										 no_prices ? NULL : DatumGetJsonbP(prices), &settle->flags);
		priced_note(settle, priced, version->tariff);
	}
}

/*
 * All tariffs in play, and the calendar if one of them asks for it.
 */
void
versions_load(SmSettle *settle)
{
	Datum *ids = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));
	Datum *times = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));

	if (settle->n_pairs == 0)
		return;
	priced_collect(settle, ids, times);
	priced_fetch(settle, settle->priced, settle->n_priced, db_int64_array(ids, settle->n_priced),
				 db_time_array(times, settle->n_priced), 0);
	for (int i = 0; i < settle->n_priced; i++)
	{
		if (calendar_needed(&settle->priced[i]))
		{
			calendar_load(settle);
			break;
		}
	}
}

/*
 * A definition as a tariff that holds from a time on, with the named prices of the site.
 */
const SmPriced *
versions_of(SmSettle *settle, Datum definition, TimestampTz from)
{
	SmPriced *priced = palloc0(sizeof(SmPriced));
	Datum id = Int64GetDatum(0);
	Datum time = TimestampTzGetDatum(from);

	priced_fetch(settle, priced, 1, db_int64_array(&id, 1), db_time_array(&time, 1), definition);
	/* Its flags may be new ones. */
	calendar_load(settle);
	return priced;
}

/*
 * The tariff version in force; NULL before the first one.
 */
const SmVersion *
pair_version_at(const SmPair *pair, TimestampTz at)
{
	int low = 0;
	int high = pair->priced->n_versions;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (pair->priced->versions[middle].from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? &pair->priced->versions[low - 1] : NULL;
}

/* ---- days ---- */

/*
 * Place of a day in the cache of a version, which reaches over the days that were asked for.
 */
static SmDayCut **
version_day_slot(SmVersion *version, int32 day)
{
	int32 first = version->n_days == 0 ? day : Min(version->first_day, day);
	int32 end = version->n_days == 0 ? day + 1 : Max(version->first_day + version->n_days, day + 1);

	if (end - first > version->n_days)
	{
		/* Grows on the side that was asked for, so that a walk over the days is not quadratic. */
		int32 spare = Min(version->n_days, 400);
		SmDayCut **days;

		if (first == day)
			first -= spare;
		else
			end += spare;
		days = palloc0(sizeof(SmDayCut *) * (end - first));
		if (version->n_days > 0)
			memcpy(&days[version->first_day - first], version->days,
				   sizeof(SmDayCut *) * version->n_days);
		version->days = days;
		version->first_day = first;
		version->n_days = end - first;
	}
	return &version->days[day - version->first_day];
}

/*
 * The parts of a local day under a version, computed once.
 */
const SmDayCut *
version_day(SmSettle *settle, const SmVersion *version, int32 day)
{
	SmDayCut **slot = version_day_slot((SmVersion *) version, day);
	SmInstantPart parts[SM_MAX_DAY_PARTS * 2];
	TimestampTz from;
	TimestampTz to;
	int n;

	if (*slot != NULL)
		return *slot;
	n = day_parts(version->tariff, &settle->calendar, day, settle->zone, &from, &to, parts);
	*slot = palloc(offsetof(SmDayCut, parts) + sizeof(SmInstantPart) * n);
	(*slot)->from = from;
	(*slot)->to = to;
	(*slot)->n = n;
	memcpy((*slot)->parts, parts, sizeof(SmInstantPart) * n);
	return *slot;
}
