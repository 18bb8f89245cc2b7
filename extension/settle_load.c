/*
 * settle_load.c - what concerns the meters and accounts that settle_plan.c found: setups, what is said
 * about single readings, tariff versions, and what is charged already.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "settle.h"
#include "tariff.h"

/* Of setups with one valid_from the one entered last counts. */
static const char find_setups[] =
	"SELECT k.ord::int4, e.valid_from, (e.multiplier * 10000)::int8, coalesce(e.register_modulus_wh, 0)"
	" FROM unnest($2) WITH ORDINALITY AS k(meter_id, ord)"
	" JOIN (SELECT DISTINCT ON (e.meter_id, e.valid_from) e.meter_id, e.valid_from, e.multiplier, e.register_modulus_wh"
	"  FROM submeter.meter_setup e WHERE e.site_id = $1 AND e.entered_at <= $3"
	"  ORDER BY e.meter_id, e.valid_from, e.entered_at DESC) e ON e.meter_id = k.meter_id"
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

static const char find_versions[] =
	"SELECT v.tariff_id, v.valid_from, v.definition FROM submeter.tariff_version v"
	" WHERE v.site_id = $1 AND v.tariff_id = ANY ($2) AND v.entered_at <= $3 ORDER BY v.tariff_id, v.valid_from, v.revision";

static const char find_charges[] =
	"SELECT k.ord::int4, c.cycle_start, c.cycle_end, c.settled_to, c.span_from, c.span_wh"
	" FROM unnest($2, $3, $4) WITH ORDINALITY AS k(account_id, tariff_id, from_ts, ord)"
	" JOIN submeter.charge c ON c.site_id = $1 AND c.account_id = k.account_id AND c.tariff_id = k.tariff_id"
	" AND c.cycle_end > k.from_ts ORDER BY k.ord, c.cycle_start";

/*
 * Arrays of the meters and of one of their times, as $2 and $3 of the queries here.
 */
void
meter_arrays(SmSettle *settle, size_t time_offset, Datum args[2])
{
	Datum *ids = palloc(sizeof(Datum) * settle->n_meters);
	Datum *times = palloc(sizeof(Datum) * settle->n_meters);

	for (int i = 0; i < settle->n_meters; i++)
	{
		ids[i] = Int64GetDatum(settle->meters[i].meter_id);
		times[i] =
			TimestampTzGetDatum(*(TimestampTz *) ((char *) &settle->meters[i] + time_offset));
	}
	args[0] = db_int64_array(ids, settle->n_meters);
	args[1] = db_time_array(times, settle->n_meters);
}

/*
 * Multipliers and moduli, by the date from which they hold.
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

		if (meter->n_setups++ == 0)
			meter->setups = &setups[i];
		setups[i].from = db_cell_time(i, 2, DT_NOBEGIN);
		setups[i].multiplier_e4 = db_cell_int64(i, 3);
		setups[i].modulus_wh = db_cell_int64(i, 4);
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

/*
 * Compiles the versions of all tariffs in play.
 */
static void
versions_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZOID};
	Datum *ids = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));
	SmVersion *versions;
	int64 *tariffs;
	uint64 n;
	Datum args[3];

	for (int i = 0; i < settle->n_pairs; i++)
		ids[i] = Int64GetDatum(settle->pairs[i].tariff_id);
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = db_int64_array(ids, settle->n_pairs);
	args[2] = TimestampTzGetDatum(settle->known_at);
	db_execute(&plan, find_versions, 3, types, args, NULL, SPI_OK_SELECT);
	n = SPI_processed;
	versions = palloc(sizeof(SmVersion) * Max(n, 1));
	tariffs = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		tariffs[i] = db_cell_int64(i, 1);
		versions[i].from = db_cell_time(i, 2, DT_NOBEGIN);
		versions[i].tariff = tariff_compile(DatumGetJsonbP(db_cell(i, 3, &isnull)));
	}
	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];

		for (uint64 j = 0; j < n; j++)
		{
			if (tariffs[j] == pair->tariff_id && pair->n_versions++ == 0)
				pair->versions = &versions[j];
		}
	}
}

/*
 * The spans of a stored charge.
 */
static void
spans_load(SmCycle *cycle, uint64 row)
{
	bool isnull;
	Datum *from;
	Datum *wh;
	int n;

	deconstruct_array(DatumGetArrayTypeP(db_cell(row, 5, &isnull)), TIMESTAMPTZOID, 8, true,
					  TYPALIGN_DOUBLE, &from, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(db_cell(row, 6, &isnull)), INT8OID, 8, true,
					  TYPALIGN_DOUBLE, &wh, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		int span = cycle_span_at(cycle, DatumGetTimestampTz(from[i]));

		cycle->span_wh[span] = DatumGetInt64(wh[i]);
	}
}

/*
 * What is charged already: to add to, or to start anew from nothing.
 */
static void
charges_load(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum *columns[3];
	Datum args[4];
	int n = settle->n_pairs;

	if (n == 0)
		return;
	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = Int64GetDatum(settle->pairs[i].account_id);
		columns[1][i] = Int64GetDatum(settle->pairs[i].tariff_id);
		columns[2][i] =
			TimestampTzGetDatum(Min(settle->pairs[i].load_from, settle->pairs[i].reset_from));
	}
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = db_int64_array(columns[0], n);
	args[2] = db_int64_array(columns[1], n);
	args[3] = db_time_array(columns[2], n);
	db_execute(&plan, find_charges, 4, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmPair *pair = &settle->pairs[db_cell_int32(i, 1) - 1];
		SmCycle *cycle =
			pair_cycle_add(pair, db_cell_time(i, 2, DT_NOBEGIN), db_cell_time(i, 3, DT_NOEND));

		if (pair->reset_from != DT_NOEND && cycle->from >= pair->reset_from)
			cycle->touched = true;
		else
		{
			cycle->settled_to = db_cell_time(i, 4, cycle->from);
			spans_load(cycle, i);
		}
	}
}

/*
 * All of it. A dry run starts from nothing, so it loads no charges.
 */
void
settle_load(SmSettle *settle)
{
	setups_load(settle);
	overrides_load(settle);
	versions_load(settle);
	if (!settle->dry)
		charges_load(settle);
}
