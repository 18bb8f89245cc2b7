/*
 * settle_write.c - rates the energy of cycles and stores what settle found.
 *
 * Everything goes out in statements over arrays. Hours of a day that is settled bit by bit are added to
 * the ones on record; days that are computed anew were deleted before.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "settle.h"

static const char clear_usage[] =
	"DELETE FROM submeter.usage_day u USING unnest($2, $3) AS k(meter_id, from_day)"
	" WHERE u.site_id = $1 AND u.meter_id = k.meter_id AND u.day >= k.from_day";

static const char write_usage[] =
	"INSERT INTO submeter.usage_day AS u (site_id, meter_id, day, energy_wh, max_power_w, hour_wh, hour_max_w)"
	" SELECT $1, k.meter_id, k.day, k.energy_wh, k.max_power_w, ($7::int8[])[k.at + 1 : k.at + k.n],"
	"  ($8::float4[])[k.at + 1 : k.at + k.n]"
	" FROM unnest($2, $3, $4, $5, $6, $9) AS k(meter_id, day, energy_wh, max_power_w, n, at)"
	" ON CONFLICT ON CONSTRAINT usage_day_pkey DO UPDATE SET"
	" energy_wh = u.energy_wh + EXCLUDED.energy_wh, max_power_w = greatest(u.max_power_w, EXCLUDED.max_power_w),"
	" hour_wh = submeter.hours_add(u.hour_wh, EXCLUDED.hour_wh), hour_max_w = submeter.hours_max(u.hour_max_w, EXCLUDED.hour_max_w)";

static const char write_charges[] =
	"INSERT INTO submeter.charge AS c (site_id, account_id, tariff_id, cycle_start, cycle_end, settled_to, span_from, span_wh,"
	"  tier_wh, energy_wh, unpriced_wh, amount, rounded)"
	" SELECT $1, k.account_id, k.tariff_id, k.cycle_start, k.cycle_end, k.settled_to,"
	"  ($12::timestamptz[])[k.span_at + 1 : k.span_at + k.n_spans], ($13::int8[])[k.span_at + 1 : k.span_at + k.n_spans],"
	"  ($14::int8[])[k.tier_at + 1 : k.tier_at + k.n_tiers], k.energy_wh, k.unpriced_wh, k.amount::numeric, k.rounded::numeric"
	" FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $15, $16, $17)"
	"  AS k(account_id, tariff_id, cycle_start, cycle_end, settled_to, energy_wh, unpriced_wh, amount, rounded, n_spans, span_at, n_tiers, tier_at)"
	" ON CONFLICT ON CONSTRAINT charge_pkey DO UPDATE SET"
	" settled_to = EXCLUDED.settled_to, span_from = EXCLUDED.span_from, span_wh = EXCLUDED.span_wh, tier_wh = EXCLUDED.tier_wh,"
	" energy_wh = EXCLUDED.energy_wh, unpriced_wh = EXCLUDED.unpriced_wh, amount = EXCLUDED.amount, rounded = EXCLUDED.rounded,"
	" updated_at = clock_timestamp()";

static const char write_meters[] =
	"INSERT INTO submeter.meter_settled AS t (site_id, meter_id, seq, settled_to)"
	" SELECT $1, k.meter_id, k.seq, k.settled_to FROM unnest($2, $3, $4) AS k(meter_id, seq, settled_to)"
	" ON CONFLICT ON CONSTRAINT meter_settled_pkey DO UPDATE SET seq = EXCLUDED.seq, settled_to = EXCLUDED.settled_to";

/* Columns of values on their way into unnest(). */
typedef struct SmColumn
{
	Oid type;
	int n;
	int max;
	Datum *values;
} SmColumn;

static void
column_put(SmColumn *column, Datum value)
{
	if (column->n == column->max)
	{
		column->max = Max(256, column->max * 2);
		column->values = column->values == NULL
							 ? palloc(sizeof(Datum) * column->max)
							 : repalloc_huge(column->values, sizeof(Datum) * column->max);
	}
	column->values[column->n++] = value;
}

static Datum
column_array(const SmColumn *column)
{
	switch (column->type)
	{
		case TEXTOID:
			return PointerGetDatum(
				construct_array(column->values, column->n, TEXTOID, -1, false, TYPALIGN_INT));
		case INT4OID:
		case DATEOID:
		case FLOAT4OID:
			return PointerGetDatum(
				construct_array(column->values, column->n, column->type, 4, true, TYPALIGN_INT));
		default:
			return PointerGetDatum(
				construct_array(column->values, column->n, column->type, 8, true, TYPALIGN_DOUBLE));
	}
}

/* ---- usage ---- */

/*
 * Deletes the days that are computed anew.
 */
void
usage_clear(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, DATEARRAYOID};
	SmColumn meters = {.type = INT8OID};
	SmColumn days = {.type = DATEOID};
	SmDay day = {0};
	Datum args[3];

	for (int i = 0; i < settle->n_meters; i++)
	{
		const SmMeter *meter = &settle->meters[i];

		if (!meter->candidate || meter->usage_from >= meter->settled_to)
			continue;
		column_put(&meters, Int64GetDatum(meter->meter_id));
		if (!TIMESTAMP_NOT_FINITE(meter->usage_from))
			day_find(&day, meter->usage_from, settle->zone);
		column_put(&days, DateADTGetDatum(TIMESTAMP_NOT_FINITE(meter->usage_from) ? DATEVAL_NOBEGIN
																				  : day.date));
	}
	if (meters.n == 0)
		return;
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = column_array(&meters);
	args[2] = column_array(&days);
	db_execute(&plan, clear_usage, 3, types, args, NULL, SPI_OK_DELETE);
}

/*
 * Writes the days collected so far; those of a meter always come together.
 */
void
usage_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[9] = {INT4OID,      INT8ARRAYOID,   DATEARRAYOID,
								 INT8ARRAYOID, FLOAT4ARRAYOID, INT4ARRAYOID,
								 INT8ARRAYOID, FLOAT4ARRAYOID, INT4ARRAYOID};
	SmColumn columns[8] = {{.type = INT8OID},   {.type = DATEOID}, {.type = INT8OID},
						   {.type = FLOAT4OID}, {.type = INT4OID}, {.type = INT8OID},
						   {.type = FLOAT4OID}, {.type = INT4OID}};
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "submeter usage", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	Datum args[9];

	for (int i = 0; i < settle->n_usage; i++)
	{
		const SmUsageDay *usage = &settle->usage[i];
		int64 energy_wh = 0;
		float4 max_w = 0;

		column_put(&columns[7], Int32GetDatum(columns[5].n));
		for (int hour = 0; hour < usage->n_hours; hour++)
		{
			energy_wh += usage->hour_wh[hour];
			max_w = Max(max_w, usage->hour_max_w[hour]);
			column_put(&columns[5], Int64GetDatum(usage->hour_wh[hour]));
			column_put(&columns[6], Float4GetDatum(usage->hour_max_w[hour]));
		}
		column_put(&columns[0], Int64GetDatum(usage->meter_id));
		column_put(&columns[1], DateADTGetDatum(usage->date));
		column_put(&columns[2], Int64GetDatum(energy_wh));
		column_put(&columns[3], Float4GetDatum(max_w));
		column_put(&columns[4], Int32GetDatum(usage->n_hours));
	}
	if (settle->n_usage > 0)
	{
		args[0] = Int32GetDatum(settle->site_id);
		for (int i = 0; i < 8; i++)
			args[i + 1] = column_array(&columns[i]);
		MemoryContextSwitchTo(caller);
		db_execute(&plan, write_usage, 9, types, args, NULL, SPI_OK_INSERT);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	settle->n_usage = 0;
}

/* ---- charges ---- */

/*
 * Exact and rounded amount of a cycle. Energy of a time without a tariff version is not priced at zero:
 * it waits, visible as unpriced_wh.
 */
void
charge_rate(const SmPair *pair, const SmCycle *cycle, SmChargeRow *row)
{
	SmRatingSpan *spans = palloc(sizeof(SmRatingSpan) * Max(cycle->n_spans, 1));
	const SmTariff *last = NULL;
	int64 rounded = 0;
	int digits = 0;
	int n = 0;
	char text[SM_RATING_TEXT_SIZE];

	memset(row, 0, sizeof(*row));
	for (int i = 0; i < cycle->n_spans; i++)
	{
		const SmVersion *version = pair_version_at(pair, cycle->span_from[i]);

		row->energy_wh += cycle->span_wh[i];
		if (version == NULL)
		{
			row->unpriced_wh += cycle->span_wh[i];
			continue;
		}
		last = version->tariff;
		digits = last->digits;
		spans[n].tariff = last;
		spans[n++].energy_wh = cycle->span_wh[i];
	}
	if (!rating_cycle(spans, n, 0, &row->rated) ||
		(last != NULL &&
		 !rating_round(row->rated.amount_e11, last->rounding, last->digits, &rounded)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("amount of account " INT64_FORMAT " is out of range", pair->account_id)));
	strlcpy(row->amount, rating_format_e11(row->rated.amount_e11, text, sizeof(text)),
			sizeof(row->amount));
	strlcpy(row->rounded, rating_format(rounded, digits, digits, text, sizeof(text)),
			sizeof(row->rounded));
	pfree(spans);
}

/* Order of the columns of write_charges after the site. */
enum
{
	CHARGE_ACCOUNT,
	CHARGE_TARIFF,
	CHARGE_START,
	CHARGE_END,
	CHARGE_SETTLED,
	CHARGE_ENERGY,
	CHARGE_UNPRICED,
	CHARGE_AMOUNT,
	CHARGE_ROUNDED,
	CHARGE_N_SPANS,
	CHARGE_SPAN_FROM,
	CHARGE_SPAN_WH,
	CHARGE_TIER_WH,
	CHARGE_SPAN_AT,
	CHARGE_N_TIERS,
	CHARGE_TIER_AT,
	CHARGE_COLUMNS
};

static void
charge_put(SmColumn *columns, const SmPair *pair, const SmCycle *cycle)
{
	SmChargeRow row;

	charge_rate(pair, cycle, &row);
	column_put(&columns[CHARGE_ACCOUNT], Int64GetDatum(pair->account_id));
	column_put(&columns[CHARGE_TARIFF], Int64GetDatum(pair->tariff_id));
	column_put(&columns[CHARGE_START], TimestampTzGetDatum(cycle->from));
	column_put(&columns[CHARGE_END], TimestampTzGetDatum(cycle->to));
	column_put(&columns[CHARGE_SETTLED], TimestampTzGetDatum(cycle->settled_to));
	column_put(&columns[CHARGE_ENERGY], Int64GetDatum(row.energy_wh));
	column_put(&columns[CHARGE_UNPRICED], Int64GetDatum(row.unpriced_wh));
	column_put(&columns[CHARGE_AMOUNT], CStringGetTextDatum(row.amount));
	column_put(&columns[CHARGE_ROUNDED], CStringGetTextDatum(row.rounded));
	column_put(&columns[CHARGE_N_SPANS], Int32GetDatum(cycle->n_spans));
	column_put(&columns[CHARGE_SPAN_AT], Int32GetDatum(columns[CHARGE_SPAN_WH].n));
	column_put(&columns[CHARGE_N_TIERS], Int32GetDatum(row.rated.n_tiers));
	column_put(&columns[CHARGE_TIER_AT], Int32GetDatum(columns[CHARGE_TIER_WH].n));
	for (int i = 0; i < cycle->n_spans; i++)
	{
		column_put(&columns[CHARGE_SPAN_FROM], TimestampTzGetDatum(cycle->span_from[i]));
		column_put(&columns[CHARGE_SPAN_WH], Int64GetDatum(cycle->span_wh[i]));
	}
	for (int i = 0; i < row.rated.n_tiers; i++)
		column_put(&columns[CHARGE_TIER_WH], Int64GetDatum(row.rated.energy_wh[i]));
}

/*
 * Rates and stores every cycle that got energy or was started anew.
 */
void
charges_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid elements[CHARGE_COLUMNS] = {
		INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		INT8OID, TEXTOID, TEXTOID,        INT4OID,        TIMESTAMPTZOID, INT8OID,
		INT8OID, INT4OID, INT4OID,        INT4OID};
	SmColumn columns[CHARGE_COLUMNS];
	Oid types[CHARGE_COLUMNS + 1] = {INT4OID};
	Datum args[CHARGE_COLUMNS + 1] = {Int32GetDatum(settle->site_id)};

	memset(columns, 0, sizeof(columns));
	for (int i = 0; i < CHARGE_COLUMNS; i++)
		columns[i].type = elements[i];
	for (int i = 0; i < settle->n_pairs; i++)
	{
		for (int j = 0; j < settle->pairs[i].n_cycles; j++)
		{
			if (settle->pairs[i].cycles[j].touched)
				charge_put(columns, &settle->pairs[i], &settle->pairs[i].cycles[j]);
		}
	}
	if (columns[CHARGE_ACCOUNT].n == 0)
		return;
	for (int i = 0; i < CHARGE_COLUMNS; i++)
	{
		types[i + 1] = get_array_type(elements[i]);
		args[i + 1] = column_array(&columns[i]);
	}
	db_execute(&plan, write_charges, CHARGE_COLUMNS + 1, types, args, NULL, SPI_OK_INSERT);
}

/*
 * How far each meter is settled now.
 */
void
meters_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	SmColumn columns[3] = {{.type = INT8OID}, {.type = INT8OID}, {.type = TIMESTAMPTZOID}};
	Datum args[4] = {Int32GetDatum(settle->site_id)};

	for (int i = 0; i < settle->n_meters; i++)
	{
		const SmMeter *meter = &settle->meters[i];

		if (!meter->candidate)
			continue;
		column_put(&columns[0], Int64GetDatum(meter->meter_id));
		column_put(&columns[1], Int64GetDatum(meter->seq));
		column_put(&columns[2], TimestampTzGetDatum(meter->settled_to));
	}
	for (int i = 0; i < 3; i++)
		args[i + 1] = column_array(&columns[i]);
	db_execute(&plan, write_meters, 4, types, args, NULL, SPI_OK_INSERT);
}

/* ---- hours of a day that comes in parts ---- */

/*
 * Elements and length of a one-dimensional array without NULLs.
 */
static void
hours_open(ArrayType *array, int *n, void **values)
{
	if (ARR_HASNULL(array) || ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("hours of a day are a plain list")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	*values = (char *) array + ARR_OVERHEAD_NONULLS(ARR_NDIM(array));
}

SM_FUNCTION(submeter_hours_add);

/*
 * submeter.hours_add(bigint[], bigint[]): sum by position, as long as the longer one.
 */
Datum
submeter_hours_add(PG_FUNCTION_ARGS)
{
	int n[2];
	int64 *wh[2];
	Datum *sum;

	for (int i = 0; i < 2; i++)
		hours_open(PG_GETARG_ARRAYTYPE_P(i), &n[i], (void **) &wh[i]);
	sum = palloc(sizeof(Datum) * Max(Max(n[0], n[1]), 1));
	for (int i = 0; i < Max(n[0], n[1]); i++)
		sum[i] = Int64GetDatum((i < n[0] ? wh[0][i] : 0) + (i < n[1] ? wh[1][i] : 0));
	PG_RETURN_ARRAYTYPE_P(construct_array(sum, Max(n[0], n[1]), INT8OID, 8, true, TYPALIGN_DOUBLE));
}

SM_FUNCTION(submeter_hours_max);

/*
 * submeter.hours_max(real[], real[]): the larger by position, as long as the longer one.
 */
Datum
submeter_hours_max(PG_FUNCTION_ARGS)
{
	int n[2];
	float4 *w[2];
	Datum *most;

	for (int i = 0; i < 2; i++)
		hours_open(PG_GETARG_ARRAYTYPE_P(i), &n[i], (void **) &w[i]);
	most = palloc(sizeof(Datum) * Max(Max(n[0], n[1]), 1));
	for (int i = 0; i < Max(n[0], n[1]); i++)
		most[i] = Float4GetDatum(Max(i < n[0] ? w[0][i] : 0, i < n[1] ? w[1][i] : 0));
	PG_RETURN_ARRAYTYPE_P(construct_array(most, Max(n[0], n[1]), FLOAT4OID, 4, true, TYPALIGN_INT));
}
