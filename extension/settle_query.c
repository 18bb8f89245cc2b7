/*
 * settle_query.c - the machinery of settle for questions: charges from scratch, charges rated again as
 * they stand, and what another tariff would have come to.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "settle.h"

/*
 * A number in the text the rating wrote it in.
 */
Datum
numeric_datum(const char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/* ---- from scratch ---- */

/*
 * One row per cycle of a dry run into the caller's tuplestore.
 */
static void
rebuilt_put(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, const SmChargeRow *row,
			void *sink)
{
	ReturnSetInfo *result = sink;
	bool nulls[6] = {false};
	Datum values[6];

	values[0] = Int64GetDatum(pair->account_id);
	values[1] = Int64GetDatum(pair->tariff_id);
	values[2] = TimestampTzGetDatum(cycle->from);
	values[3] = Int64GetDatum(row->energy_wh);
	values[4] = numeric_datum(row->amount);
	values[5] = numeric_datum(row->rounded_text);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SM_FUNCTION(submeter_rebuild_charges);

/*
 * submeter.rebuild_charges_of(site_id, time_zone, account_id, as_of, known_at)
 */
Datum
submeter_rebuild_charges(PG_FUNCTION_ARGS)
{
	SmSettle *settle;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	settle->as_of = PG_GETARG_TIMESTAMPTZ(3);
	settle->known_at = PG_GETARG_TIMESTAMPTZ(4);
	settle->dry = true;
	settle_plan_dry(settle, PG_GETARG_INT64(2));
	stream_run(settle);
	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];

		for (int j = 0; j < pair->n_cycles; j++)
			pair->cycles[j].touched = true;
		if (pair->asked)
			pair_rate(settle, pair, rebuilt_put, fcinfo->resultinfo);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* ---- as they stand ---- */

/*
 * An array argument without NULLs.
 */
static int
key_values(Datum argument, Oid type, Datum **values)
{
	ArrayType *array = DatumGetArrayTypeP(argument);
	int n;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("keys of charges are plain lists without NULL")));
	deconstruct_array(array, type, 8, true, TYPALIGN_DOUBLE, values, NULL, &n);
	return n;
}

/*
 * Keys of charges from three array arguments of one length.
 */
void
keys_read(FunctionCallInfo fcinfo, int first, SmChargeKeys *keys)
{
	Datum *accounts;
	Datum *tariffs;
	Datum *starts;

	keys->n = key_values(PG_GETARG_DATUM(first), INT8OID, &accounts);
	if (key_values(PG_GETARG_DATUM(first + 1), INT8OID, &tariffs) != keys->n ||
		key_values(PG_GETARG_DATUM(first + 2), TIMESTAMPTZOID, &starts) != keys->n)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("keys of charges need three lists of one length"),
						errhint("Pass one account, tariff and cycle start for each charge.")));
	keys->keys = palloc(sizeof(SmChargeKey) * Max(keys->n, 1));
	for (int i = 0; i < keys->n; i++)
		keys->keys[i] = (SmChargeKey){DatumGetInt64(accounts[i]), DatumGetInt64(tariffs[i]),
									  DatumGetTimestampTz(starts[i])};
}

/*
 * The cycle of a key, and its pair; NULL when there is no such charge.
 */
SmCycle *
key_cycle(SmSettle *settle, const SmChargeKey *key, SmPair **pair)
{
	int at = pair_find(settle, key->account_id, key->tariff_id);

	if (at < 0)
		return NULL;
	*pair = &settle->pairs[at];
	for (int i = 0; i < (*pair)->n_cycles; i++)
	{
		if ((*pair)->cycles[i].from == key->cycle_start)
			return &(*pair)->cycles[i];
	}
	return NULL;
}

SM_FUNCTION(submeter_rate_charges);

/*
 * submeter.rate_charges_of(site_id, time_zone, account_ids, tariff_ids, cycle_starts): rates the named
 * charges again, and later ones whose tier position changes with them.
 */
Datum
submeter_rate_charges(PG_FUNCTION_ARGS)
{
	SmSettle *settle;
	SmChargeKeys keys;
	int n;

	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	keys_read(fcinfo, 2, &keys);
	settle_plan_charges(settle, &keys);
	for (int i = 0; i < keys.n; i++)
	{
		SmPair *pair;
		SmCycle *cycle = key_cycle(settle, &keys.keys[i], &pair);

		if (cycle != NULL)
			cycle->touched = true;
	}
	n = charges_write(settle);
	SPI_finish();
	PG_RETURN_INT32(n);
}

/* ---- as another tariff would have it ---- */

/*
 * Every account gets a shadow, which receives the same energy under another tariff.
 */
static void
shadows_add(SmSettle *settle, Datum definition)
{
	const SmPriced *priced = versions_of(settle, definition, settle->clip_from);
	int n = settle->n_pairs;

	for (int i = 0; i < n; i++)
	{
		const SmPair *pair;
		int at = pair_add(settle, settle->pairs[i].account_id, -settle->pairs[i].tariff_id);
		SmPair *shadow = &settle->pairs[at];

		pair = &settle->pairs[i];
		shadow->priced = priced;
		shadow->n_stays = pair->n_stays;
		shadow->stays = pair->stays;
		shadow->n_allowances = pair->n_allowances;
		shadow->allowances = pair->allowances;
		shadow->accrue_from = pair->accrue_from;
		settle->pairs[i].shadow = at;
	}
}

/*
 * Rates the cycle of a pair that begins at a time as closed; false when there is none.
 */
static bool
compared_rate(SmSettle *settle, SmPair *pair, TimestampTz from, SmChargeRow *row)
{
	for (int i = 0; i < pair->n_cycles; i++)
	{
		if (pair->cycles[i].from == from)
		{
			charge_rate(settle, pair, &pair->cycles[i], false, row);
			return true;
		}
	}
	return false;
}

/*
 * Nobody asks for the rows when a pair is rated for the tier positions of its cycles.
 */
static void
nothing_put(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, const SmChargeRow *row,
			void *sink)
{
}

/*
 * Rates all cycles of a pair as closed.
 */
static void
pair_close(SmSettle *settle, SmPair *pair)
{
	for (int i = 0; i < pair->n_cycles; i++)
	{
		pair->cycles[i].final = true;
		pair->cycles[i].touched = true;
	}
	pair_rate(settle, pair, nothing_put, NULL);
}

/*
 * One row per cycle with what it came to under both tariffs.
 */
static void
compared_put(SmSettle *settle, SmPair *pair, SmPair *shadow, ReturnSetInfo *result)
{
	for (int i = 0; i < pair->n_cycles + shadow->n_cycles; i++)
	{
		bool second = i >= pair->n_cycles;
		const SmCycle *cycle = second ? &shadow->cycles[i - pair->n_cycles] : &pair->cycles[i];
		bool nulls[6] = {false};
		Datum values[6];
		SmChargeRow old;
		SmChargeRow new;
		bool had = compared_rate(settle, pair, cycle->from, &old);

		if (second && had)
			continue;
		nulls[4] = !had;
		nulls[5] = !compared_rate(settle, shadow, cycle->from, &new);
		values[0] = Int64GetDatum(pair->account_id);
		values[1] = Int64GetDatum(pair->tariff_id);
		values[2] = TimestampTzGetDatum(cycle->from);
		values[3] = Int64GetDatum(had ? old.energy_wh : new.energy_wh);
		values[4] = numeric_datum(nulls[4] ? "0" : old.rounded_text);
		values[5] = numeric_datum(nulls[5] ? "0" : new.rounded_text);
		nulls[4] = nulls[5] = false;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

SM_FUNCTION(submeter_simulate_charges);

/*
 * submeter.simulate_charges_of(site_id, time_zone, definition, from_ts, to_ts)
 */
Datum
submeter_simulate_charges(PG_FUNCTION_ARGS)
{
	SmSettle *settle;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	settle->clip_from = PG_GETARG_TIMESTAMPTZ(3);
	settle->clip_to = PG_GETARG_TIMESTAMPTZ(4);
	settle->dry = true;
	settle_plan_range(settle);
	n = settle->n_pairs;
	shadows_add(settle, PG_GETARG_DATUM(2));
	clock_touch(settle);
	stream_run(settle);
	for (int i = 0; i < settle->n_pairs; i++)
		pair_close(settle, &settle->pairs[i]);
	for (int i = 0; i < n; i++)
		compared_put(settle, &settle->pairs[i], &settle->pairs[settle->pairs[i].shadow],
					 (ReturnSetInfo *) fcinfo->resultinfo);
	SPI_finish();
	PG_RETURN_NULL();
}
