/*
 * settle_write.c - stores what settle found.
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
	"INSERT INTO submeter.usage_day AS u (site_id, meter_id, day, energy_wh, max_power_w, hour_wh, hour_max_w, estimated_wh)"
	" SELECT $1, k.meter_id, k.day, k.energy_wh, k.max_power_w, ($7::int8[])[k.at + 1 : k.at + k.n],"
	"  ($8::float4[])[k.at + 1 : k.at + k.n], k.estimated_wh"
	" FROM unnest($2, $3, $4, $5, $6, $9, $10) AS k(meter_id, day, energy_wh, max_power_w, n, at, estimated_wh)"
	" ON CONFLICT ON CONSTRAINT usage_day_pkey DO UPDATE SET"
	" energy_wh = u.energy_wh + EXCLUDED.energy_wh, max_power_w = greatest(u.max_power_w, EXCLUDED.max_power_w),"
	" hour_wh = submeter.hours_add(u.hour_wh, EXCLUDED.hour_wh), hour_max_w = submeter.hours_max(u.hour_max_w, EXCLUDED.hour_max_w),"
	" estimated_wh = u.estimated_wh + EXCLUDED.estimated_wh";

static const char write_charges[] =
	"INSERT INTO submeter.charge AS c (site_id, account_id, tariff_id, cycle_start, cycle_end, settled_to, span_from, span_wh, span_period,"
	"  tier_wh, energy_wh, unpriced_wh, amount, rounded, start_wh, position_wh, estimated_wh, active_wh, reactive_varh, demand_w, accrued_to)"
	" SELECT $1, k.account_id, k.tariff_id, k.cycle_start, k.cycle_end, k.settled_to,"
	"  ($12::timestamptz[])[k.span_at + 1 : k.span_at + k.n_spans], ($13::int8[])[k.span_at + 1 : k.span_at + k.n_spans],"
	"  ($18::int2[])[k.span_at + 1 : k.span_at + k.n_spans],"
	"  ($14::int8[])[k.tier_at + 1 : k.tier_at + k.n_tiers], k.energy_wh, k.unpriced_wh, k.amount::numeric, k.rounded::numeric,"
	"  k.start_wh, k.position_wh, k.estimated_wh, k.active_wh, k.reactive_varh, k.demand_w, nullif(k.accrued_to, '-infinity')"
	" FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $15, $16, $17, $19, $20, $21, $22, $23, $24, $25)"
	"  AS k(account_id, tariff_id, cycle_start, cycle_end, settled_to, energy_wh, unpriced_wh, amount, rounded, n_spans, span_at, n_tiers, tier_at,"
	"   start_wh, position_wh, estimated_wh, active_wh, reactive_varh, demand_w, accrued_to)"
	" ON CONFLICT ON CONSTRAINT charge_pkey DO UPDATE SET"
	" settled_to = EXCLUDED.settled_to, span_from = EXCLUDED.span_from, span_wh = EXCLUDED.span_wh, span_period = EXCLUDED.span_period,"
	" tier_wh = EXCLUDED.tier_wh, energy_wh = EXCLUDED.energy_wh, unpriced_wh = EXCLUDED.unpriced_wh, amount = EXCLUDED.amount,"
	" rounded = EXCLUDED.rounded, start_wh = EXCLUDED.start_wh, position_wh = EXCLUDED.position_wh, estimated_wh = EXCLUDED.estimated_wh,"
	" active_wh = EXCLUDED.active_wh, reactive_varh = EXCLUDED.reactive_varh, demand_w = EXCLUDED.demand_w, accrued_to = EXCLUDED.accrued_to,"
	" updated_at = clock_timestamp()";

static const char write_meters[] =
	"INSERT INTO submeter.meter_settled AS t (site_id, meter_id, seq, settled_to, estimated_from)"
	" SELECT $1, k.meter_id, k.seq, k.settled_to, nullif(k.estimated_from, 'infinity')"
	" FROM unnest($2, $3, $4, $5) AS k(meter_id, seq, settled_to, estimated_from)"
	" ON CONFLICT ON CONSTRAINT meter_settled_pkey DO UPDATE SET seq = EXCLUDED.seq, settled_to = EXCLUDED.settled_to,"
	" estimated_from = EXCLUDED.estimated_from";

static const char write_accrued[] =
	"INSERT INTO submeter.site_settled (site_id, accrued_to) VALUES ($1, $2)"
	" ON CONFLICT ON CONSTRAINT site_settled_pkey DO UPDATE SET accrued_to = EXCLUDED.accrued_to";

/*
 * Adds a value to a column on its way into unnest().
 */
void
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

/*
 * The column as an array.
 */
Datum
column_array(const SmColumn *column)
{
	switch (column->type)
	{
		case TEXTOID:
			return PointerGetDatum(
				construct_array(column->values, column->n, TEXTOID, -1, false, TYPALIGN_INT));
		case INT2OID:
			return PointerGetDatum(
				construct_array(column->values, column->n, INT2OID, 2, true, TYPALIGN_SHORT));
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
	static const Oid types[10] = {INT4OID,        INT8ARRAYOID, DATEARRAYOID, INT8ARRAYOID,
								  FLOAT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, FLOAT4ARRAYOID,
								  INT4ARRAYOID,   INT8ARRAYOID};
	SmColumn columns[9] = {{.type = INT8OID},   {.type = DATEOID}, {.type = INT8OID},
						   {.type = FLOAT4OID}, {.type = INT4OID}, {.type = INT8OID},
						   {.type = FLOAT4OID}, {.type = INT4OID}, {.type = INT8OID}};
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "submeter usage", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	Datum args[10];

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
		column_put(&columns[8], Int64GetDatum(usage->estimated_wh));
	}
	if (settle->n_usage > 0)
	{
		args[0] = Int32GetDatum(settle->site_id);
		for (int i = 0; i < 9; i++)
			args[i + 1] = column_array(&columns[i]);
		MemoryContextSwitchTo(caller);
		db_execute(&plan, write_usage, 10, types, args, NULL, SPI_OK_INSERT);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	settle->n_usage = 0;
}

/* ---- charges ---- */

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
	CHARGE_SPAN_PERIOD,
	CHARGE_START_WH,
	CHARGE_POSITION,
	CHARGE_ESTIMATED,
	CHARGE_ACTIVE,
	CHARGE_REACTIVE,
	CHARGE_DEMAND,
	CHARGE_ACCRUED,
	CHARGE_COLUMNS
};

/*
 * Puts a rated cycle into the columns. Spans without energy are left out: whether there are any depends
 * on how the readings came.
 */
static void
charge_put(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, const SmChargeRow *row,
		   void *sink)
{
	SmColumn *columns = sink;
	int span_at = columns[CHARGE_SPAN_WH].n;

	for (int i = 0; i < cycle->n_spans; i++)
	{
		if (cycle->spans[i].wh == 0)
			continue;
		column_put(&columns[CHARGE_SPAN_FROM], TimestampTzGetDatum(cycle->spans[i].from));
		column_put(&columns[CHARGE_SPAN_WH], Int64GetDatum(cycle->spans[i].wh));
		column_put(&columns[CHARGE_SPAN_PERIOD], Int16GetDatum(cycle->spans[i].period));
	}
	column_put(&columns[CHARGE_ACCOUNT], Int64GetDatum(pair->account_id));
	column_put(&columns[CHARGE_TARIFF], Int64GetDatum(pair->tariff_id));
	column_put(&columns[CHARGE_START], TimestampTzGetDatum(cycle->from));
	column_put(&columns[CHARGE_END], TimestampTzGetDatum(cycle->to));
	column_put(&columns[CHARGE_SETTLED], TimestampTzGetDatum(cycle->settled_to));
	column_put(&columns[CHARGE_ENERGY], Int64GetDatum(row->energy_wh));
	column_put(&columns[CHARGE_UNPRICED], Int64GetDatum(row->unpriced_wh));
	column_put(&columns[CHARGE_AMOUNT], CStringGetTextDatum(row->amount));
	column_put(&columns[CHARGE_ROUNDED], CStringGetTextDatum(row->rounded_text));
	column_put(&columns[CHARGE_N_SPANS], Int32GetDatum(columns[CHARGE_SPAN_WH].n - span_at));
	column_put(&columns[CHARGE_SPAN_AT], Int32GetDatum(span_at));
	column_put(&columns[CHARGE_N_TIERS], Int32GetDatum(row->rated.n_tiers));
	column_put(&columns[CHARGE_TIER_AT], Int32GetDatum(columns[CHARGE_TIER_WH].n));
	for (int i = 0; i < row->rated.n_tiers; i++)
		column_put(&columns[CHARGE_TIER_WH], Int64GetDatum(row->rated.tier_wh[i]));
	column_put(&columns[CHARGE_START_WH], Int64GetDatum(cycle->start_wh));
	column_put(&columns[CHARGE_POSITION], Int64GetDatum(cycle->position_wh));
	column_put(&columns[CHARGE_ESTIMATED], Int64GetDatum(cycle->estimated_wh));
	column_put(&columns[CHARGE_ACTIVE], Int64GetDatum(cycle->active_wh));
	column_put(&columns[CHARGE_REACTIVE], Int64GetDatum(cycle->reactive_varh));
	column_put(&columns[CHARGE_DEMAND], Int64GetDatum(cycle->demand_w));
	column_put(
		&columns[CHARGE_ACCRUED],
		DateADTGetDatum(cycle->accrued_to == SM_NO_DAY ? DATEVAL_NOBEGIN : cycle->accrued_to));
}

/*
 * Rates and stores every cycle that changed. Returns how many.
 */
int
charges_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid elements[CHARGE_COLUMNS] = {
		INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		INT8OID, TEXTOID, TEXTOID,        INT4OID,        TIMESTAMPTZOID, INT8OID,
		INT8OID, INT4OID, INT4OID,        INT4OID,        INT2OID,        INT8OID,
		INT8OID, INT8OID, INT8OID,        INT8OID,        INT8OID,        DATEOID};
	SmColumn columns[CHARGE_COLUMNS];
	Oid types[CHARGE_COLUMNS + 1] = {INT4OID};
	Datum args[CHARGE_COLUMNS + 1] = {Int32GetDatum(settle->site_id)};
	int n = 0;

	memset(columns, 0, sizeof(columns));
	for (int i = 0; i < CHARGE_COLUMNS; i++)
		columns[i].type = elements[i];
	for (int i = 0; i < settle->n_pairs; i++)
		n += pair_rate(settle, &settle->pairs[i], charge_put, columns);
	if (n == 0)
		return 0;
	for (int i = 0; i < CHARGE_COLUMNS; i++)
	{
		types[i + 1] = get_array_type(elements[i]);
		args[i + 1] = column_array(&columns[i]);
	}
	db_execute(&plan, write_charges, CHARGE_COLUMNS + 1, types, args, NULL, SPI_OK_INSERT);
	return n;
}

/*
 * How far time alone is settled now.
 */
void
accrued_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, DATEOID};
	Datum args[2] = {Int32GetDatum(settle->site_id), DateADTGetDatum(settle->accrued_to)};

	if (settle->accrued_to != settle->accrued_before)
		db_execute(&plan, write_accrued, 2, types, args, NULL, SPI_OK_INSERT);
}

/*
 * How far each meter is settled now.
 */
void
meters_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
								 TIMESTAMPTZARRAYOID};
	SmColumn columns[4] = {
		{.type = INT8OID}, {.type = INT8OID}, {.type = TIMESTAMPTZOID}, {.type = TIMESTAMPTZOID}};
	Datum args[5] = {Int32GetDatum(settle->site_id)};

	for (int i = 0; i < settle->n_meters; i++)
	{
		const SmMeter *meter = &settle->meters[i];

		if (!meter->candidate)
			continue;
		column_put(&columns[0], Int64GetDatum(meter->meter_id));
		column_put(&columns[1], Int64GetDatum(meter->seq));
		column_put(&columns[2], TimestampTzGetDatum(meter->settled_to));
		column_put(&columns[3], TimestampTzGetDatum(meter->estimated_from));
	}
	if (columns[0].n == 0)
		return;
	for (int i = 0; i < 4; i++)
		args[i + 1] = column_array(&columns[i]);
	db_execute(&plan, write_meters, 5, types, args, NULL, SPI_OK_INSERT);
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
