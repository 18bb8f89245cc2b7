/*
 * settle_load.c - what concerns the meters and accounts that settle_plan.c found: setups, what is said
 * about single readings, estimates, terms, allowances, and what is charged already.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"

#include "settle.h"

#define HISTORY_DAYS 28

/* Of setups with one valid_from the one entered last counts. */
static const char find_setups[] =
	"SELECT k.ord::int4, e.valid_from, (e.multiplier * 10000)::int8, coalesce(e.register_modulus_wh, 0),"
	" (extract(epoch FROM e.gap_after) * 1000000)::int8, e.gap_shape = 'week'"
	" FROM unnest($2) WITH ORDINALITY AS k(meter_id, ord)"
	" CROSS JOIN LATERAL (SELECT DISTINCT ON (e.valid_from) e.valid_from, e.multiplier, e.register_modulus_wh, e.gap_after, e.gap_shape"
	"  FROM submeter.meter_setup e WHERE e.site_id = $1 AND e.meter_id = k.meter_id AND e.entered_at <= $3"
	"  ORDER BY e.valid_from, e.entered_at DESC) e"
	" ORDER BY k.ord, e.valid_from";

static const char find_overrides[] =
	"SELECT k.ord::int4, x.ts, x.kind, x.energy_wh"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord) JOIN ("
	"  (SELECT DISTINCT ON (v.meter_id, v.ts) v.meter_id, v.ts, CASE v.verdict WHEN 'withdraw' THEN 0 WHEN 'replace' THEN 1 ELSE 3 END AS kind,"
	"   v.energy_wh FROM submeter.reading_verdict v WHERE v.site_id = $1 AND v.at <= $4"
	"   ORDER BY v.meter_id, v.ts, v.verdict_id DESC)"
	"  UNION ALL"
	"  SELECT q.meter_id, q.ts, CASE WHEN bool_or(q.state = 'open') THEN 0 ELSE 2 END, NULL"
	"   FROM submeter.reading_suspect q WHERE q.site_id = $1 AND q.state IN ('open', 'confirmed')"
	"   AND q.rule IN ('backwards', 'jump', 'sentinel', 'nan', 'negative', 'future') GROUP BY q.meter_id, q.ts"
	"  ) x ON x.meter_id = k.meter_id AND x.ts >= k.from_ts"
	" ORDER BY k.ord, x.ts, x.kind DESC";

/*
 * As things are known now, an estimate counts behind the last valid reading only; for an earlier
 * knowledge the stream tells which reading was the last.
 */
static const char find_estimates[] =
	"SELECT k.ord::int4, e.ts, e.energy_wh FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord)"
	" JOIN submeter.register_estimate e ON e.site_id = $1 AND e.meter_id = k.meter_id AND e.ts > k.from_ts AND e.at <= $4"
	" LEFT JOIN submeter.meter_state s ON s.site_id = e.site_id AND s.meter_id = e.meter_id"
	" WHERE $4 < 'infinity' OR s.valid_ts IS NULL OR e.ts > s.valid_ts ORDER BY k.ord, e.ts";

static const char find_past[] =
	"SELECT k.ord::int4, u.day, u.hour_wh FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_day, ord)"
	" JOIN submeter.usage_day u ON u.site_id = $1 AND u.meter_id = k.meter_id AND u.day >= k.from_day ORDER BY k.ord, u.day";

static const char find_stays[] =
	"SELECT k.ord::int4, lower(s.during), upper(s.during), submeter.term_number(s.terms, 'capacity_kva', 1000),"
	" submeter.term_number(s.terms, 'contract_kw', 1000), submeter.term_number(s.terms, 'household_size', 1)"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(account_id, tariff_id, ord)"
	" JOIN submeter.supply s ON s.site_id = $1 AND s.account_id = k.account_id AND s.tariff_id = k.tariff_id"
	" ORDER BY k.ord, lower(s.during), s.supply_id";

static const char find_allowances[] =
	"SELECT k.ord::int4, lower(a.during), coalesce(upper(a.during), 'infinity'), coalesce((a.kwh * 1000)::int8, 0),"
	" (a.share * 100000000)::int8, coalesce((a.amount * 100000000)::int8, 0), a.name"
	" FROM unnest($2, $3, $4) WITH ORDINALITY AS k(account_id, tariff_id, from_ts, ord)"
	" JOIN submeter.allowance a ON a.site_id = $1 AND a.account_id = k.account_id AND a.tariff_id = k.tariff_id"
	" AND (upper_inf(a.during) OR upper(a.during) > k.from_ts) AND a.entered_at <= $5"
	" ORDER BY k.ord, lower(a.during), a.allowance_id";

static const char find_charges[] =
	"SELECT k.ord::int4, c.cycle_start, c.cycle_end, c.settled_to, c.span_from, c.span_period, c.span_wh, c.start_wh, c.position_wh,"
	" c.estimated_wh, c.active_wh, c.reactive_varh, c.demand_w, c.final"
	" FROM unnest($2, $3, $4) WITH ORDINALITY AS k(account_id, tariff_id, from_ts, ord)"
	" CROSS JOIN LATERAL (SELECT c.* FROM submeter.charge c WHERE c.site_id = $1 AND c.account_id = k.account_id"
	"  AND c.tariff_id = k.tariff_id AND c.cycle_end > k.from_ts"
	/* Cycles are at most 31 days long: their key alone leads to those wanted, however many there have been. */
	"  AND c.cycle_start > k.from_ts - interval '32 days' ORDER BY c.cycle_start) c ORDER BY k.ord, c.cycle_start";

static const char find_finals[] =
	"SELECT k.ord::int4, c.cycle_start, c.cycle_end"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(account_id, tariff_id, ord)"
	" JOIN submeter.charge c ON c.site_id = $1 AND c.account_id = k.account_id AND c.tariff_id = k.tariff_id AND c.final"
	" ORDER BY k.ord, c.cycle_start";

static const char find_before[] =
	"SELECT k.ord::int4, c.last_from, c.position_wh FROM unnest($2, $3, $4) WITH ORDINALITY AS k(account_id, tariff_id, from_ts, ord)"
	" CROSS JOIN LATERAL (SELECT c.span_from[cardinality(c.span_from)] AS last_from, c.position_wh FROM submeter.charge c"
	"  WHERE c.site_id = $1 AND c.account_id = k.account_id AND c.tariff_id = k.tariff_id AND c.cycle_end <= k.from_ts"
	"  AND cardinality(c.span_from) > 0 ORDER BY c.cycle_start DESC LIMIT 1) c";

/*
 * Arrays of the meters and of one of their times, as $2 and $3 of the queries here.
 */
void
meter_arrays(SmSettle *settle, size_t time_offset, Datum args[2])
{
	Datum *ids = palloc(sizeof(Datum) * Max(settle->n_meters, 1));
	Datum *times = palloc(sizeof(Datum) * Max(settle->n_meters, 1));

	for (int i = 0; i < settle->n_meters; i++)
	{
		ids[i] = Int64GetDatum(settle->meters[i].meter_id);
		times[i] =
			TimestampTzGetDatum(*(TimestampTz *) ((char *) &settle->meters[i] + time_offset));
	}
	args[0] = db_int64_array(ids, settle->n_meters);
	args[1] = db_time_array(times, settle->n_meters);
}

/* ---- meters ---- */

/*
 * Multipliers, moduli and gaps, by the date from which they hold.
 */
static void
setups_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZOID};
	SmSetup *setups;
	Datum args[4];

	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, read_from), &args[1]);
	args[2] = TimestampTzGetDatum(settle->known_at);
	db_execute(&plan, find_setups, 3, types, args, NULL, SPI_OK_SELECT);
	setups = palloc(sizeof(SmSetup) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];
		bool isnull;

		if (meter->n_setups++ == 0)
			meter->setups = &setups[i];
		setups[i].from = db_cell_time(i, 2, DT_NOBEGIN);
		setups[i].multiplier_e4 = db_cell_int64(i, 3);
		setups[i].modulus_wh = db_cell_int64(i, 4);
		setups[i].gap_usecs = db_cell_int64(i, 5);
		setups[i].gap_week = DatumGetBool(db_cell(i, 6, &isnull));
		meter->gap_week |= setups[i].gap_week;
	}
}

static void
overrides_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID};
	SmOverride *overrides;
	Datum args[4];

	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, read_from), &args[1]);
	args[3] = TimestampTzGetDatum(settle->known_at);
	db_execute(&plan, find_overrides, 4, types, args, NULL, SPI_OK_SELECT);
	overrides = palloc(sizeof(SmOverride) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];

		if (meter->n_overrides++ == 0)
			meter->overrides = &overrides[i];
		overrides[i].ts = db_cell_time(i, 2, DT_NOBEGIN);
		overrides[i].kind = (SmOverrideKind) db_cell_int32(i, 3);
		overrides[i].energy_wh = db_cell_int64(i, 4);
	}
}

static void
estimates_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID};
	SmEstimate *estimates;
	Datum args[4];

	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, read_from), &args[1]);
	args[3] = TimestampTzGetDatum(settle->known_at);
	db_execute(&plan, find_estimates, 4, types, args, NULL, SPI_OK_SELECT);
	estimates = palloc(sizeof(SmEstimate) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];

		if (meter->n_estimates++ == 0)
			meter->estimates = &estimates[i];
		estimates[i].ts = db_cell_time(i, 2, DT_NOBEGIN);
		estimates[i].energy_wh = db_cell_int64(i, 3);
	}
}

/*
 * Usage on record of the meters whose gaps take their shape from it; asked when what is computed anew
 * has been deleted.
 */
void
past_load(SmSettle *settle, SmMeter *meters, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, DATEARRAYOID};
	Datum args[3] = {Int32GetDatum(settle->site_id)};
	SmColumn ids = {.type = INT8OID};
	SmColumn days = {.type = DATEOID};
	SmMeter **asked = palloc(sizeof(SmMeter *) * Max(n, 1));
	SmPastDay *past;

	for (int i = 0; i < n; i++)
	{
		if (!meters[i].gap_week)
			continue;
		asked[ids.n] = &meters[i];
		column_put(&ids, Int64GetDatum(meters[i].meter_id));
		column_put(&days, DateADTGetDatum(TIMESTAMP_NOT_FINITE(meters[i].read_from)
											  ? DATEVAL_NOBEGIN
											  : settle_day_of(settle, meters[i].read_from) -
													HISTORY_DAYS));
	}
	if (ids.n == 0)
		return;
	args[1] = column_array(&ids);
	args[2] = column_array(&days);
	db_execute(&plan, find_past, 3, types, args, NULL, SPI_OK_SELECT);
	past = palloc(sizeof(SmPastDay) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = asked[db_cell_int32(i, 1) - 1];
		bool isnull;
		ArrayType *hours;

		if (meter->n_past++ == 0)
			meter->past = &past[i];
		past[i].date = DatumGetDateADT(db_cell(i, 2, &isnull));
		hours = DatumGetArrayTypePCopy(db_cell(i, 3, &isnull));
		past[i].n_hours = ArrayGetNItems(ARR_NDIM(hours), ARR_DIMS(hours));
		past[i].hour_wh = (const int64 *) ARR_DATA_PTR(hours);
	}
}

/* ---- accounts ---- */

/*
 * Arrays of the pairs for which something holds, with the time from which they are needed. which[n] is
 * the pair of ordinality n + 1.
 */
static int
pair_arrays(SmSettle *settle, bool (*wanted)(const SmSettle *, const SmPair *), int **which,
			Datum args[3])
{
	Datum *columns[3];
	int n = 0;

	*which = palloc(sizeof(int) * Max(settle->n_pairs, 1));
	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));
	for (int i = 0; i < settle->n_pairs; i++)
	{
		const SmPair *pair = &settle->pairs[i];

		if (!wanted(settle, pair))
			continue;
		(*which)[n] = i;
		columns[0][n] = Int64GetDatum(pair->account_id);
		columns[1][n] = Int64GetDatum(pair->tariff_id);
		columns[2][n++] =
			TimestampTzGetDatum(Min(Min(pair->load_from, pair->reset_from), pair->accrue_from));
	}
	args[0] = db_int64_array(columns[0], n);
	args[1] = db_int64_array(columns[1], n);
	args[2] = db_time_array(columns[2], n);
	return n;
}

static bool
pair_any(const SmSettle *settle, const SmPair *pair)
{
	return true;
}

static bool
pair_needs_stays(const SmSettle *settle, const SmPair *pair)
{
	return pair->priced->supplies || settle->clip_to != DT_NOEND;
}

static bool
pair_carries(const SmSettle *settle, const SmPair *pair)
{
	return pair->priced->carries;
}

/*
 * When the supplies of the accounts last, and their terms, as far as the tariff asks for them.
 */
static void
stays_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID};
	Datum args[4] = {Int32GetDatum(settle->site_id)};
	SmStay *stays;
	int *which;
	int n = 0;

	if (pair_arrays(settle, pair_needs_stays, &which, &args[1]) == 0)
		return;
	db_execute(&plan, find_stays, 3, types, args, NULL, SPI_OK_SELECT);
	stays = palloc(sizeof(SmStay) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[which[db_cell_int32(i, 1) - 1]];
		SmStay *stay = &stays[n];

		stay->from = Max(db_cell_time(i, 2, DT_NOBEGIN), settle->clip_from);
		stay->to = Min(db_cell_time(i, 3, DT_NOEND), settle->clip_to);
		if (stay->from >= stay->to)
			continue;
		stay->from_day = settle_day_of(settle, stay->from);
		stay->to_day =
			stay->to == DT_NOEND ? PG_INT32_MAX - 1 : settle_day_of(settle, stay->to - 1);
		stay->capacity_w = db_cell_int64(i, 4);
		stay->contract_w = db_cell_int64(i, 5);
		stay->household = (int) Min(db_cell_int64(i, 6), PG_INT32_MAX);
		if (pair->n_stays++ == 0)
			pair->stays = stay;
		n++;
	}
}

static void
allowances_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
								 TIMESTAMPTZOID};
	Datum args[5] = {Int32GetDatum(settle->site_id)};
	SmAllowance *allowances;
	int *which;

	pair_arrays(settle, pair_any, &which, &args[1]);
	args[4] = TimestampTzGetDatum(settle->known_at);
	db_execute(&plan, find_allowances, 5, types, args, NULL, SPI_OK_SELECT);
	allowances = palloc(sizeof(SmAllowance) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[which[db_cell_int32(i, 1) - 1]];
		SmAllowance *allowance = &allowances[i];
		bool isnull;

		if (pair->n_allowances++ == 0)
			pair->allowances = allowance;
		allowance->from = db_cell_time(i, 2, DT_NOBEGIN);
		allowance->to = db_cell_time(i, 3, DT_NOEND);
		allowance->free_wh = db_cell_int64(i, 4);
		allowance->share_e8 = db_cell_int64(i, 5);
		allowance->amount_e8 = db_cell_int64(i, 6);
		allowance->name = TextDatumGetCString(db_cell(i, 7, &isnull));
	}
}

/*
 * The values of an array column, which has no NULLs.
 */
static const void *
array_values(uint64 row, int column, int *n)
{
	bool isnull;
	ArrayType *array = DatumGetArrayTypeP(db_cell(row, column, &isnull));

	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return ARR_DATA_PTR(array);
}

/*
 * The spans of a stored charge.
 */
static void
spans_load(SmCycle *cycle, uint64 row)
{
	int n;
	int n_periods;
	int n_wh;
	const TimestampTz *from = array_values(row, 5, &n);
	const int16 *period = array_values(row, 6, &n_periods);
	const int64 *wh = array_values(row, 7, &n_wh);

	if (n_periods != n || n_wh != n)
		elog(ERROR, "spans of a charge have different lengths");
	cycle_spans_reserve(cycle, n + 1);
	cycle->n_spans = n;
	for (int i = 0; i < n; i++)
		cycle->spans[i] = (SmSpan){.from = from[i], .period = period[i], .wh = wh[i]};
}

/*
 * What is charged already: to add to, or to start anew from nothing.
 */
static void
charges_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum args[4] = {Int32GetDatum(settle->site_id)};
	int *which;

	pair_arrays(settle, pair_any, &which, &args[1]);
	db_execute(&plan, find_charges, 4, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[which[db_cell_int32(i, 1) - 1]];
		SmCycle *cycle = pair_cycle_add(settle, pair, db_cell_time(i, 2, DT_NOBEGIN),
										db_cell_time(i, 3, DT_NOEND));
		bool isnull;

		cycle->final = DatumGetBool(db_cell(i, 14, &isnull));
		if (pair->reset_from != DT_NOEND && cycle->from >= pair->reset_from)
		{
			cycle->touched = true;
			continue;
		}
		cycle->settled_to = db_cell_time(i, 4, cycle->from);
		spans_load(cycle, i);
		cycle->start_wh = db_cell_int64(i, 8);
		cycle->position_wh = db_cell_int64(i, 9);
		cycle->estimated_wh = db_cell_int64(i, 10);
		cycle->active_wh = db_cell_int64(i, 11);
		cycle->reactive_varh = db_cell_int64(i, 12);
		cycle->demand_w = db_cell_int64(i, 13);
	}
}

/*
 * Which cycles are closed. As was known at an earlier time: those that were over then.
 */
static void
finals_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID};
	Datum args[4] = {Int32GetDatum(settle->site_id)};
	int *which;

	pair_arrays(settle, pair_any, &which, &args[1]);
	db_execute(&plan, find_finals, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[which[db_cell_int32(i, 1) - 1]];
		SmCycle *cycle = pair_cycle_add(settle, pair, db_cell_time(i, 2, DT_NOBEGIN),
										db_cell_time(i, 3, DT_NOEND));

		cycle->final = cycle_supplied_to(pair, cycle) <= settle->known_at;
	}
}

/*
 * The charge before the first cycle that is loaded, where a tier cycle may have begun in it.
 */
static void
before_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum args[4] = {Int32GetDatum(settle->site_id)};
	int *which;

	if (pair_arrays(settle, pair_carries, &which, &args[1]) == 0)
		return;
	db_execute(&plan, find_before, 4, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[which[db_cell_int32(i, 1) - 1]];

		pair->before_day = settle_day_of(settle, db_cell_time(i, 2, DT_NOBEGIN));
		pair->before_wh = db_cell_int64(i, 3);
	}
}

/*
 * What concerns the accounts. A dry run starts from nothing, so it loads no charges.
 */
void
pairs_load(SmSettle *settle)
{
	if (settle->n_pairs == 0)
		return;
	versions_load(settle);
	stays_load(settle);
	allowances_load(settle);
	if (settle->dry && settle->clip_to == DT_NOEND)
		finals_load(settle);
	if (!settle->dry)
	{
		charges_load(settle);
		before_load(settle);
	}
}

/*
 * What concerns the meters.
 */
static void
meters_load(SmSettle *settle)
{
	if (settle->n_meters == 0)
		return;
	setups_load(settle);
	overrides_load(settle);
	estimates_load(settle);
}

/*
 * All of it.
 */
void
settle_load(SmSettle *settle)
{
	meters_load(settle);
	pairs_load(settle);
}
