/*
 * settle_plan.c - what a run of settle has to look at.
 *
 * A meter whose readings merely went on is settled from where it stood. When a fact behind that point
 * changed, its usage is computed anew from the start of the billing cycle of the last valid reading
 * before the change, and so is what is owed by every account it feeds from there on; other meters of
 * those accounts are then read again as helpers. When only what is owed is in doubt (prices, calendar,
 * supplies, allowances), the accounts are marked in charge_dirty and usage stays. When a local day has
 * begun, the accounts whose tariffs grow with time alone are looked at besides.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"

#include "settle.h"
#include "tariff.h"

static const char find_site[] =
	"SELECT s.cycle_day::int4, a.accrued_to FROM submeter.site s LEFT JOIN submeter.site_settled a ON a.site_id = s.site_id"
	" WHERE s.site_id = $1";

/* A meter settled on estimates starts again from the last reading when a later one is there. */
static const char find_meters[] =
	"SELECT s.meter_id, coalesce(d.seq, 0), t.settled_to,"
	" least(CASE WHEN d.seq > coalesce(t.seq, 0) AND d.from_ts <= t.settled_to"
	"  THEN coalesce(submeter.valid_before(s.site_id, s.meter_id, d.from_ts), d.from_ts) END,"
	"  CASE WHEN s.valid_ts > t.estimated_from THEN t.estimated_from END), t.estimated_from"
	" FROM submeter.meter_state s"
	" LEFT JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id"
	" LEFT JOIN submeter.meter_dirty d ON d.site_id = s.site_id AND d.meter_id = s.meter_id"
	" WHERE s.site_id = $1 AND (s.valid_ts > coalesce(t.settled_to, '-infinity') AND coalesce(t.settled_to, '-infinity') < $2"
	"  OR d.seq > coalesce(t.seq, 0) AND d.from_ts <= $2 OR s.valid_ts > t.estimated_from)"
	" ORDER BY s.meter_id";

static const char take_dirty[] =
	"DELETE FROM submeter.charge_dirty d USING (SELECT x.account_id, x.tariff_id FROM submeter.charge_dirty x"
	"  WHERE x.site_id = $1 FOR UPDATE SKIP LOCKED) k"
	" WHERE d.site_id = $1 AND d.account_id = k.account_id AND d.tariff_id = k.tariff_id"
	" RETURNING d.account_id, d.tariff_id, d.from_ts";

static const char find_supplies[] =
	"SELECT k.ord::int4, s.account_id, s.tariff_id, lower(s.during), upper(s.during)"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord)"
	" JOIN submeter.supply s ON s.site_id = $1 AND s.meter_id = k.meter_id"
	" AND (upper_inf(s.during) OR upper(s.during) > k.from_ts)"
	" ORDER BY k.ord, lower(s.during)";

static const char find_helpers[] =
	"SELECT s.meter_id, t.settled_to, s.account_id, s.tariff_id, lower(s.during), upper(s.during)"
	" FROM unnest($2, $3, $4) AS k(account_id, tariff_id, from_ts)"
	" JOIN submeter.supply s ON s.site_id = $1 AND s.account_id = k.account_id AND s.tariff_id = k.tariff_id"
	" AND (upper_inf(s.during) OR upper(s.during) > k.from_ts)"
	" JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id AND t.settled_to > lower(s.during)"
	" ORDER BY s.meter_id, lower(s.during)";

static const char find_clocks[] =
	"SELECT s.account_id, s.tariff_id FROM submeter.supply s WHERE s.site_id = $1"
	" AND s.tariff_id IN (SELECT v.tariff_id FROM submeter.tariff_version v WHERE v.site_id = $1 AND v.definition ?| '{fees,demand}')"
	" AND lower(s.during) < $3 AND (upper_inf(s.during) OR upper(s.during) > $2) GROUP BY s.account_id, s.tariff_id";

static const char find_dry_meters[] =
	"SELECT DISTINCT s.meter_id, coalesce(t.settled_to, '-infinity') FROM submeter.supply s"
	" LEFT JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id"
	" WHERE s.site_id = $1 AND ($2 = 0 OR s.account_id = $2) ORDER BY s.meter_id";

/* Everybody who was supplied in a range, or one account: asked apart, for the plans are worlds apart. */
#define SM_RANGE_METERS                                                                                         \
	"SELECT DISTINCT s.meter_id, t.settled_to FROM submeter.supply s"                                           \
	" JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id AND t.settled_to > $2" \
	" WHERE s.site_id = $1 AND s.during && tstzrange($2, $3)"
#define SM_RANGE_PAIRS                                                 \
	"SELECT DISTINCT s.account_id, s.tariff_id FROM submeter.supply s" \
	" WHERE s.site_id = $1 AND s.during && tstzrange($2, $3)"

static const char find_range_meters[] = SM_RANGE_METERS " ORDER BY s.meter_id";
static const char find_range_pairs[] = SM_RANGE_PAIRS " ORDER BY 1, 2";
static const char find_account_meters[] =
	SM_RANGE_METERS " AND s.account_id = $4 ORDER BY s.meter_id";
static const char find_account_pairs[] = SM_RANGE_PAIRS " AND s.account_id = $4 ORDER BY 1, 2";

static const char find_read_from[] =
	"SELECT k.ord::int4, submeter.valid_before($1, k.meter_id, k.from_ts + interval '1 microsecond')"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord) WHERE isfinite(k.from_ts) ORDER BY k.ord";

/* ---- meters ---- */

static SmMeter *
meter_add(SmSettle *settle, int64 meter_id)
{
	SmMeter *meter;

	if (settle->n_meters == settle->max_meters)
	{
		settle->max_meters = Max(64, settle->max_meters * 2);
		settle->meters = settle->meters == NULL
							 ? palloc(sizeof(SmMeter) * settle->max_meters)
							 : repalloc_huge(settle->meters, sizeof(SmMeter) * settle->max_meters);
	}
	meter = &settle->meters[settle->n_meters++];
	memset(meter, 0, sizeof(*meter));
	meter->meter_id = meter_id;
	meter->estimated_from = DT_NOEND;
	return meter;
}

/*
 * Start of the billing cycle that holds a time, which becomes the one at hand; the time itself where
 * there is no calendar.
 */
TimestampTz
cycle_start(SmSettle *settle, TimestampTz at)
{
	TimestampTz from;
	TimestampTz to;

	if (TIMESTAMP_NOT_FINITE(at))
		return at;
	if (at < settle->cycle.from || at >= settle->cycle.to)
	{
		tariff_cycle(at, settle->cycle_day, settle->zone, &from, &to);
		settle->cycle.first_day = settle_day_of(settle, from);
		settle->cycle.n_days = settle_day_of(settle, to) - settle->cycle.first_day;
		settle->cycle.from = from;
		settle->cycle.to = to;
	}
	return settle->cycle.from;
}

/*
 * What the site says: when its billing cycles begin, and which local days have begun.
 */
static void
site_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT4OID};
	Datum args[1] = {Int32GetDatum(settle->site_id)};
	bool isnull;
	Datum day;

	db_execute(&plan, find_site, 1, types, args, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no site %d", settle->site_id)));
	settle->cycle_day = db_cell_int32(0, 1);
	day = db_cell(0, 2, &isnull);
	settle->accrued_before = isnull ? SM_NO_DAY : DatumGetDateADT(day);
	settle->accrued_to = settle->accrued_before;
}

/*
 * Meters with something new.
 */
static void
meters_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum args[2] = {Int32GetDatum(settle->site_id), TimestampTzGetDatum(settle->as_of)};

	db_execute(&plan, find_meters, 2, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = meter_add(settle, db_cell_int64(i, 1));
		TimestampTz reset_at = db_cell_time(i, 4, DT_NOEND);

		meter->candidate = true;
		meter->seq = db_cell_int64(i, 2);
		meter->settled_to = db_cell_time(i, 3, DT_NOBEGIN);
		meter->estimated_from = db_cell_time(i, 5, DT_NOEND);
		meter->usage_from =
			reset_at == DT_NOEND ? meter->settled_to : cycle_start(settle, reset_at);
		/* An older as_of never takes back what was settled. */
		meter->horizon = Max(settle->as_of, meter->settled_to);
	}
}

/* ---- accounts on tariffs ---- */

typedef struct SmPairKey
{
	int64 account_id;
	int64 tariff_id;
} SmPairKey;

typedef struct SmPairEntry
{
	SmPairKey key;
	int pair;
} SmPairEntry;

/*
 * Index of a pair, or -1.
 */
int
pair_find(SmSettle *settle, int64 account_id, int64 tariff_id)
{
	SmPairKey key = {account_id, tariff_id};
	SmPairEntry *entry =
		settle->pair_index == NULL ? NULL : hash_search(settle->pair_index, &key, HASH_FIND, NULL);

	return entry == NULL ? -1 : entry->pair;
}

/*
 * Index of a pair, which is made when it is new.
 */
int
pair_add(SmSettle *settle, int64 account_id, int64 tariff_id)
{
	SmPairKey key = {account_id, tariff_id};
	SmPairEntry *entry;
	SmPair *pair;
	bool found;

	if (settle->pair_index == NULL)
	{
		HASHCTL control = {.keysize = sizeof(SmPairKey),
						   .entrysize = sizeof(SmPairEntry),
						   .hcxt = CurrentMemoryContext};

		settle->pair_index =
			hash_create("submeter pairs", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(settle->pair_index, &key, HASH_ENTER, &found);
	if (found)
		return entry->pair;
	if (settle->n_pairs == settle->max_pairs)
	{
		settle->max_pairs = Max(64, settle->max_pairs * 2);
		settle->pairs = settle->pairs == NULL
							? palloc(sizeof(SmPair) * settle->max_pairs)
							: repalloc_huge(settle->pairs, sizeof(SmPair) * settle->max_pairs);
	}
	entry->pair = settle->n_pairs++;
	pair = &settle->pairs[entry->pair];
	memset(pair, 0, sizeof(*pair));
	pair->account_id = account_id;
	pair->tariff_id = tariff_id;
	pair->reset_from = DT_NOEND;
	pair->load_from = DT_NOEND;
	pair->accrue_from = DT_NOEND;
	pair->shadow = -1;
	pair->before_day = SM_NO_DAY;
	return entry->pair;
}

/*
 * Accounts whose charges are in doubt: they are computed anew, though no meter with something new may
 * lead there.
 */
static void
dirty_pairs_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT4OID};
	Datum args[1] = {Int32GetDatum(settle->site_id)};

	db_execute(&plan, take_dirty, 1, types, args, NULL, SPI_OK_DELETE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int at = pair_add(settle, db_cell_int64(i, 1), db_cell_int64(i, 2));
		TimestampTz from = cycle_start(settle, db_cell_time(i, 3, DT_NOBEGIN));

		settle->pairs[at].reset_from = from;
		settle->pairs[at].load_from = from;
	}
}

/*
 * Accounts that owe more because a local day has begun.
 */
static void
clocks_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz from = settle->accrued_before == SM_NO_DAY
						   ? DT_NOBEGIN
						   : day_start(settle->accrued_before + 1, settle->zone);
	Datum args[3] = {Int32GetDatum(settle->site_id), TimestampTzGetDatum(from)};
	int32 today = settle_day_of(settle, settle->as_of);

	if (settle->accrued_before != SM_NO_DAY && today <= settle->accrued_before)
		return;
	settle->accrued_to = today;
	args[2] = TimestampTzGetDatum(day_start(today + 1, settle->zone));
	db_execute(&plan, find_clocks, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int at = pair_add(settle, db_cell_int64(i, 1), db_cell_int64(i, 2));

		settle->pairs[at].accrue_from = from;
	}
}

static void
supply_add(SmMeter *meter, int pair, TimestampTz from, TimestampTz to, TimestampTz count_from)
{
	SmSupply *supply;

	/* Few per meter: grown one by one. */
	meter->supplies = meter->supplies == NULL
						  ? palloc(sizeof(SmSupply))
						  : repalloc(meter->supplies, sizeof(SmSupply) * (meter->n_supplies + 1));
	supply = &meter->supplies[meter->n_supplies++];
	supply->from = from;
	supply->to = to;
	supply->count_from = count_from;
	supply->pair = pair;
}

/*
 * What the meters feed from where they are settled again; an account fed by a meter that is computed
 * anew is computed anew from the same cycle on.
 */
static void
supplies_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum args[3];

	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, usage_from), &args[1]);
	db_execute(&plan, find_supplies, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];
		int at = pair_add(settle, db_cell_int64(i, 2), db_cell_int64(i, 3));
		SmPair *pair = &settle->pairs[at];

		if (meter->usage_from < meter->settled_to)
			pair->reset_from = Min(pair->reset_from, meter->usage_from);
		pair->load_from = Min(pair->load_from, meter->usage_from);
		supply_add(meter, at, db_cell_time(i, 4, DT_NOBEGIN), db_cell_time(i, 5, DT_NOEND),
				   DT_NOBEGIN);
	}
}

static SmMeter *
meter_find(SmSettle *settle, int64 meter_id, int n_sorted)
{
	int low = 0;
	int high = n_sorted;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (settle->meters[middle].meter_id < meter_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n_sorted && settle->meters[low].meter_id == meter_id ? &settle->meters[low] : NULL;
}

/*
 * One supply of an account that is computed anew: known already, or of a helper, or of an earlier time
 * of a meter that is here for another reason.
 */
static void
helper_take(SmSettle *settle, uint64 row, int n_sorted)
{
	int pair = pair_find(settle, db_cell_int64(row, 3), db_cell_int64(row, 4));
	SmMeter *meter = meter_find(settle, db_cell_int64(row, 1), n_sorted);
	TimestampTz from = db_cell_time(row, 5, DT_NOBEGIN);

	if (meter == NULL && settle->n_meters > n_sorted &&
		settle->meters[settle->n_meters - 1].meter_id == db_cell_int64(row, 1))
		meter = &settle->meters[settle->n_meters - 1];
	if (meter == NULL)
	{
		meter = meter_add(settle, db_cell_int64(row, 1));
		meter->usage_from = DT_NOEND;
		meter->settled_to = meter->horizon = db_cell_time(row, 2, DT_NOBEGIN);
	}
	for (int i = 0; i < meter->n_supplies; i++)
	{
		if (meter->supplies[i].from == from)
			return;
	}
	supply_add(meter, pair, from, db_cell_time(row, 6, DT_NOEND), DT_NOBEGIN);
}

/*
 * The other meters of the accounts that are computed anew.
 */
static void
helpers_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum *columns[3];
	Datum args[4];
	int n_sorted = settle->n_meters;
	int n = 0;

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));
	for (int i = 0; i < settle->n_pairs; i++)
	{
		if (settle->pairs[i].reset_from == DT_NOEND)
			continue;
		columns[0][n] = Int64GetDatum(settle->pairs[i].account_id);
		columns[1][n] = Int64GetDatum(settle->pairs[i].tariff_id);
		columns[2][n++] = TimestampTzGetDatum(settle->pairs[i].reset_from);
	}
	if (n == 0)
		return;
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = db_int64_array(columns[0], n);
	args[2] = db_int64_array(columns[1], n);
	args[3] = db_time_array(columns[2], n);
	db_execute(&plan, find_helpers, 4, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		helper_take(settle, i, n_sorted);
}

/*
 * From where each meter's energy counts for each account, and from where it must be read for that.
 */
static void
ranges_set(SmSettle *settle)
{
	for (int i = 0; i < settle->n_meters; i++)
	{
		SmMeter *meter = &settle->meters[i];

		meter->read_from = Min(meter->usage_from, meter->estimated_from);
		for (int j = 0; j < meter->n_supplies; j++)
		{
			SmSupply *supply = &meter->supplies[j];
			const SmPair *pair = &settle->pairs[supply->pair];

			/* What lies behind the point where the meter stands has been counted, unless it is computed anew. */
			supply->count_from = Min(pair->reset_from, meter->settled_to);
			if (supply->to > supply->count_from)
				meter->read_from = Min(meter->read_from, Max(supply->count_from, supply->from));
		}
	}
}

/*
 * Reading starts at the last valid reading at or before the time from which energy counts.
 */
static void
read_from_set(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum args[3];
	bool needed = false;

	for (int i = 0; i < settle->n_meters; i++)
		needed |= !settle->meters[i].candidate ||
				  settle->meters[i].read_from != settle->meters[i].settled_to;
	if (!needed)
		return;
	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, read_from), &args[1]);
	db_execute(&plan, find_read_from, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];

		meter->read_from = db_cell_time(i, 2, meter->read_from);
	}
}

/*
 * Time alone counts from the cycle on that is computed anew.
 */
static void
accrual_set(SmSettle *settle)
{
	for (int i = 0; i < settle->n_pairs; i++)
		settle->pairs[i].accrue_from =
			Min(settle->pairs[i].accrue_from, settle->pairs[i].reset_from);
}

/*
 * Everything one run needs, from the database into memory.
 */
void
settle_plan(SmSettle *settle)
{
	site_find(settle);
	meters_find(settle);
	dirty_pairs_find(settle);
	clocks_find(settle);
	supplies_find(settle);
	helpers_find(settle);
	ranges_set(settle);
	read_from_set(settle);
	accrual_set(settle);
	settle_load(settle);
	clock_touch(settle);
}

/*
 * The same for computing the charges of an account (0: all) from scratch, as far as its meters are
 * settled and facts were known. With a tariff: of that pair only.
 */
void
settle_plan_dry(SmSettle *settle, int64 account_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, INT8OID};
	Datum args[2] = {Int32GetDatum(settle->site_id), Int64GetDatum(account_id)};
	TimestampTz known_at = Min(settle->known_at, settle->as_of);

	site_find(settle);
	if (settle->accrued_to != SM_NO_DAY && !TIMESTAMP_NOT_FINITE(known_at))
		settle->accrued_to = Min(settle->accrued_to, settle_day_of(settle, known_at));
	db_execute(&plan, find_dry_meters, 2, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = meter_add(settle, db_cell_int64(i, 1));

		meter->settled_to = DT_NOBEGIN;
		meter->usage_from = DT_NOBEGIN;
		meter->horizon = Min(settle->as_of, db_cell_time(i, 2, DT_NOBEGIN));
	}
	supplies_find(settle);
	for (int i = 0; i < settle->n_pairs; i++)
	{
		settle->pairs[i].asked = account_id == 0 || settle->pairs[i].account_id == account_id;
		settle->pairs[i].accrue_from = DT_NOBEGIN;
	}
	ranges_set(settle);
	settle_load(settle);
	clock_touch(settle);
}

/*
 * For a simulation: all accounts that were supplied in a range, and their meters' readings around it.
 * What lies outside does not exist.
 */
void
settle_plan_range(SmSettle *settle)
{
	static SPIPlanPtr meter_plans[2] = {NULL, NULL};
	static SPIPlanPtr pair_plans[2] = {NULL, NULL};
	static const Oid types[4] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID};
	Datum args[4] = {Int32GetDatum(settle->site_id), TimestampTzGetDatum(settle->clip_from),
					 TimestampTzGetDatum(settle->clip_to), Int64GetDatum(settle->only_account)};
	int one = settle->only_account != 0;

	site_find(settle);
	if (settle->accrued_to != SM_NO_DAY)
		settle->accrued_to = Min(settle->accrued_to, settle_day_of(settle, settle->clip_to - 1));
	db_execute(&meter_plans[one], one ? find_account_meters : find_range_meters, 3 + one, types,
			   args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = meter_add(settle, db_cell_int64(i, 1));

		meter->settled_to = meter->usage_from = settle->clip_from;
		meter->horizon = db_cell_time(i, 2, DT_NOBEGIN);
	}
	supplies_find(settle);
	db_execute(&pair_plans[one], one ? find_account_pairs : find_range_pairs, 3 + one, types, args,
			   NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		pair_add(settle, db_cell_int64(i, 1), db_cell_int64(i, 2));
	for (int i = 0; i < settle->n_pairs; i++)
		settle->pairs[i].accrue_from = settle->clip_from;
	for (int i = 0; i < settle->n_meters; i++)
	{
		for (int j = 0; j < settle->meters[i].n_supplies; j++)
		{
			SmSupply *supply = &settle->meters[i].supplies[j];

			supply->from = Max(supply->from, settle->clip_from);
			supply->to = Max(supply->from, Min(supply->to, settle->clip_to));
		}
	}
	ranges_set(settle);
	read_from_set(settle);
	settle_load(settle);
}

/*
 * For charges as they stand: they and later ones of their accounts.
 */
void
settle_plan_charges(SmSettle *settle, const SmChargeKeys *keys)
{
	site_find(settle);
	for (int i = 0; i < keys->n; i++)
	{
		const SmChargeKey *key = &keys->keys[i];
		int at = pair_add(settle, key->account_id, key->tariff_id);

		settle->pairs[at].load_from = Min(settle->pairs[at].load_from, key->cycle_start);
	}
	settle_load(settle);
}
