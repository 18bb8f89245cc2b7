/*
 * ingest.c - effects of new readings: the latest state of each meter, suspects, marks for settle.
 *
 * One statement trigger does all of it for every way in (ingest(), INSERT, COPY). The usual case, a
 * batch of later and plausible readings, costs one UPDATE of one row per meter; whatever is late or
 * strange goes through refold.c. The UPDATE of meter_state, in the order of the keys, is also the lock
 * that makes concurrent batches of one meter take turns.
 */
#include "module.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include <math.h>

#include "db.h"
#include "ingest.h"
#include "plausible.h"

/* Rows looked at together; bounds the memory of one huge COPY. */
#define CHUNK_ROWS 65536

/* A stamp may run ahead of the database's clock by this much. */
#define FUTURE_TOLERANCE_US INT64CONST(300000000)

/* Columns of reading that live screens show from meter_state. */
static const char *const live_columns[] = {"v_a", "v_b", "v_c",     "i_a",
										   "i_b", "i_c", "power_w", "power_factor"};
#define N_LIVE ((int) lengthof(live_columns))

/* Other columns that may carry a NaN. */
static const char *const other_columns[] = {"i_n",       "i_leak_ma", "temperature_c", "power_a_w",
											"power_b_w", "power_c_w", "frequency_hz"};
#define N_OTHER ((int) lengthof(other_columns))

/* The batch continues the series of the meter: later than everything known, and every step plausible. */
#define SM_FOLLOWS                                                                             \
	"n.first_ts > s.ts IS NOT FALSE AND n.power <= coalesce(s.max_power_w, 66000)"             \
	" AND submeter.is_plausible(s.max_power_w, s.register_modulus_wh, s.valid_ts, s.valid_wh," \
	" n.first_ts, n.first_wh)"

typedef struct SmColumns
{
	int site_id;
	int meter_id;
	int ts;
	int energy_wh;
	int relay;
	int received_at;
	int live[N_LIVE];
	int other[N_OTHER];
} SmColumns;

typedef struct SmNewReading
{
	int32 site_id;
	int64 meter_id;
	TimestampTz ts;
	TimestampTz received_at;
	int64 energy_wh;
	bool has_energy;
	const char *rule; /* why the row by itself cannot be right, or NULL */
	char relay;       /* 'o', 'c' or 0 */
	uint16 live_set;
	float4 live[N_LIVE];
} SmNewReading;

/* What a batch holds of one meter: the rows that count, and what it takes to believe them. */
typedef struct SmMeterBatch
{
	const SmNewReading *newest; /* latest row of any kind */
	const SmNewReading *first;  /* first and last row with a register that can be right, or NULL */
	const SmNewReading *last;
	double power_w; /* least power that explains every step between them */
	bool steady;    /* none of those steps runs backwards */
	TimestampTz from_ts;
} SmMeterBatch;

/*
 * The usual case in one statement. "s" is the row as it is once locked, so a concurrent batch of the
 * same meter is taken into account; what does not follow the last valid reading is left to refold.
 */
static const char update_state[] =
	"UPDATE submeter.meter_state s SET"
	" ts = greatest(s.ts, n.ts),"
	" energy_wh = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.energy_wh ELSE s.energy_wh END,"
	" v_a = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.v_a ELSE s.v_a END,"
	" v_b = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.v_b ELSE s.v_b END,"
	" v_c = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.v_c ELSE s.v_c END,"
	" i_a = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.i_a ELSE s.i_a END,"
	" i_b = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.i_b ELSE s.i_b END,"
	" i_c = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.i_c ELSE s.i_c END,"
	" power_w = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.power_w ELSE s.power_w END,"
	" power_factor = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.power_factor ELSE s.power_factor END,"
	" relay = CASE WHEN n.relay IS NOT NULL AND n.ts > s.relay_at IS NOT FALSE THEN n.relay ELSE s.relay END,"
	" relay_at = CASE WHEN n.relay IS NOT NULL AND n.ts > s.relay_at IS NOT FALSE THEN n.ts ELSE s.relay_at END,"
	" received_at = CASE WHEN n.ts > s.ts IS NOT FALSE THEN n.received_at ELSE s.received_at END,"
	" valid_ts = CASE WHEN " SM_FOLLOWS " THEN n.last_ts ELSE s.valid_ts END,"
	" valid_wh = CASE WHEN " SM_FOLLOWS " THEN n.last_wh ELSE s.valid_wh END"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
	"  AS n(ord, site_id, meter_id, ts, energy_wh, received_at, relay, first_ts, first_wh, last_ts, last_wh,"
	"   power, v_a, v_b, v_c, i_a, i_b, i_c, power_w, power_factor)"
	" WHERE s.site_id = n.site_id AND s.meter_id = n.meter_id"
	" RETURNING n.ord, n.last_ts IS NULL OR s.valid_ts = n.last_ts";

static const char insert_missing[] =
	"INSERT INTO submeter.meter_state AS s (site_id, meter_id, max_power_w, register_modulus_wh)"
	" SELECT k.site_id, k.meter_id, max(e.rated_current_a * e.rated_voltage_v * e.phases),"
	"  (array_agg(e.register_modulus_wh ORDER BY e.valid_from DESC, e.entered_at DESC))[1]"
	" FROM unnest($1, $2) AS k(site_id, meter_id)"
	" JOIN submeter.meter m ON m.site_id = k.site_id AND m.meter_id = k.meter_id"
	" LEFT JOIN submeter.meter_setup e ON e.site_id = k.site_id AND e.meter_id = k.meter_id"
	" GROUP BY k.site_id, k.meter_id"
	" ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE SET meter_id = s.meter_id";

static const char insert_suspect[] =
	"INSERT INTO submeter.reading_suspect (site_id, meter_id, ts, rule, energy_wh, detail)"
	" SELECT * FROM unnest($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

static const char delete_request[] =
	"DELETE FROM submeter.read_request q USING unnest($1, $2) AS k(site_id, meter_id)"
	" WHERE q.site_id = k.site_id AND q.meter_id = k.meter_id";

/*
 * Positions of the columns we use, by name: partitions and upgraded tables may order them otherwise.
 */
static void
columns_find(TupleDesc desc, SmColumns *columns)
{
	columns->site_id = SPI_fnumber(desc, "site_id");
	columns->meter_id = SPI_fnumber(desc, "meter_id");
	columns->ts = SPI_fnumber(desc, "ts");
	columns->energy_wh = SPI_fnumber(desc, "energy_wh");
	columns->relay = SPI_fnumber(desc, "relay");
	columns->received_at = SPI_fnumber(desc, "received_at");
	for (int i = 0; i < N_LIVE; i++)
		columns->live[i] = SPI_fnumber(desc, live_columns[i]);
	for (int i = 0; i < N_OTHER; i++)
		columns->other[i] = SPI_fnumber(desc, other_columns[i]);
}

/*
 * Why a row cannot be right whatever came before it; NULL when it can.
 */
static const char *
reading_rule(const SmNewReading *reading, bool has_nan)
{
	if (has_nan)
		return "nan";
	if (reading->has_energy && plausible_sentinel(reading->energy_wh))
		return "sentinel";
	if (reading->has_energy && reading->energy_wh < 0)
		return "negative";
	if (reading->ts > reading->received_at + FUTURE_TOLERANCE_US)
		return "future";
	return NULL;
}

/*
 * One row of the transition table.
 */
static void
reading_take(TupleTableSlot *slot, const SmColumns *columns, SmNewReading *reading)
{
	bool isnull;
	bool has_nan = false;
	Datum value;

	memset(reading, 0, sizeof(*reading));
	reading->site_id = DatumGetInt32(slot_getattr(slot, columns->site_id, &isnull));
	reading->meter_id = DatumGetInt64(slot_getattr(slot, columns->meter_id, &isnull));
	reading->ts = DatumGetTimestampTz(slot_getattr(slot, columns->ts, &isnull));
	reading->received_at = DatumGetTimestampTz(slot_getattr(slot, columns->received_at, &isnull));
	value = slot_getattr(slot, columns->energy_wh, &isnull);
	reading->has_energy = !isnull;
	reading->energy_wh = isnull ? 0 : DatumGetInt64(value);
	value = slot_getattr(slot, columns->relay, &isnull);
	if (!isnull)
		reading->relay = *VARDATA_ANY(DatumGetTextPP(value)) == 'o' ? 'o' : 'c';
	for (int i = 0; i < N_LIVE; i++)
	{
		value = slot_getattr(slot, columns->live[i], &isnull);
		if (isnull)
			continue;
		reading->live_set |= 1 << i;
		reading->live[i] = DatumGetFloat4(value);
		has_nan |= !isfinite(reading->live[i]);
	}
	for (int i = 0; i < N_OTHER; i++)
	{
		value = slot_getattr(slot, columns->other[i], &isnull);
		has_nan |= !isnull && !isfinite(DatumGetFloat4(value));
	}
	reading->rule = reading_rule(reading, has_nan);
}

static int
reading_compare(const void *a, const void *b)
{
	const SmNewReading *x = a;
	const SmNewReading *y = b;

	if (x->site_id != y->site_id)
		return x->site_id < y->site_id ? -1 : 1;
	if (x->meter_id != y->meter_id)
		return x->meter_id < y->meter_id ? -1 : 1;
	return x->ts < y->ts ? -1 : x->ts > y->ts;
}

/*
 * Sums up the rows of one meter, which are in time order. Returns how many there are.
 */
static int
batch_of_meter(const SmNewReading *rows, int n_rows, SmMeterBatch *batch)
{
	int n = 0;

	memset(batch, 0, sizeof(*batch));
	batch->steady = true;
	batch->from_ts = rows[0].ts;
	for (; n < n_rows && rows[n].site_id == rows[0].site_id && rows[n].meter_id == rows[0].meter_id;
		 n++)
	{
		const SmNewReading *row = &rows[n];

		batch->newest = row;
		if (row->rule != NULL || !row->has_energy)
			continue;
		if (batch->first == NULL)
			batch->first = row;
		else if (row->energy_wh < batch->last->energy_wh)
			batch->steady = false;
		else
			batch->power_w =
				Max(batch->power_w, plausible_power_w(row->energy_wh - batch->last->energy_wh,
													  row->ts - batch->last->ts));
		batch->last = row;
	}
	return n;
}

/* ---- arrays for unnest() ---- */

/*
 * Makes an array Datum of n values of a built-in type; nulls may be NULL for "none".
 */
static Datum
array_of(Datum *values, bool *nulls, int n, Oid type)
{
	int16 length;
	bool by_value;
	char align;
	int lower = 1;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(
		construct_md_array(values, nulls, 1, &n, &lower, type, length, by_value, align));
}

#define STATE_COLUMNS (12 + N_LIVE)

static const Oid state_types[12] = {INT4OID, INT4OID,        INT8OID, TIMESTAMPTZOID,
									INT8OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID,
									INT8OID, TIMESTAMPTZOID, INT8OID, FLOAT8OID};

static inline Oid
state_type(int column)
{
	return column < 12 ? state_types[column] : FLOAT4OID;
}

/*
 * One element of the arrays of update_state.
 */
static void
state_value(const SmMeterBatch *batch, int ord, int column, Datum *value, bool *isnull)
{
	const SmNewReading *newest = batch->newest;
	double power_w = batch->steady ? batch->power_w : get_float8_infinity();

	*isnull = column >= 7 && column <= 10 && batch->first == NULL;
	switch (column)
	{
		case 0:
			*value = Int32GetDatum(ord);
			return;
		case 1:
			*value = Int32GetDatum(newest->site_id);
			return;
		case 2:
			*value = Int64GetDatum(newest->meter_id);
			return;
		case 3:
			*value = TimestampTzGetDatum(newest->ts);
			return;
		case 4:
			*isnull = !newest->has_energy;
			*value = Int64GetDatum(newest->energy_wh);
			return;
		case 5:
			*value = TimestampTzGetDatum(newest->received_at);
			return;
		case 6:
			*isnull = newest->relay == 0;
			*value =
				*isnull ? (Datum) 0 : CStringGetTextDatum(newest->relay == 'o' ? "open" : "closed");
			return;
		case 11:
			*value = Float8GetDatum(power_w);
			return;
		default:
			break;
	}
	if (*isnull)
		*value = (Datum) 0;
	else if (column < 11)
	{
		const SmNewReading *row = column < 9 ? batch->first : batch->last;

		*value = column % 2 ? TimestampTzGetDatum(row->ts) : Int64GetDatum(row->energy_wh);
	}
	else
	{
		*isnull = !(newest->live_set & (1 << (column - 12)));
		*value = Float4GetDatum(newest->live[column - 12]);
	}
}

/*
 * Runs update_state for the batches whose ordinal is listed. done[ord] becomes 1 for those it found,
 * 2 where the readings follow and nothing else is to be done.
 */
static void
state_update(const SmMeterBatch *batches, const int *ords, int n, char *done)
{
	static SPIPlanPtr plan = NULL;
	Datum arrays[STATE_COLUMNS];
	Oid types[STATE_COLUMNS];
	Datum *values = palloc(sizeof(Datum) * n);
	bool *nulls = palloc(sizeof(bool) * n);

	for (int column = 0; column < STATE_COLUMNS; column++)
	{
		for (int i = 0; i < n; i++)
			state_value(&batches[ords[i]], ords[i], column, &values[i], &nulls[i]);
		arrays[column] = array_of(values, nulls, n, state_type(column));
		types[column] = get_array_type(state_type(column));
	}
	db_execute(&plan, update_state, STATE_COLUMNS, types, arrays, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int ord = DatumGetInt32(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		Datum follows = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull);

		done[ord] = !isnull && DatumGetBool(follows) ? 2 : 1;
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Arrays of the keys of the listed batches, for statements over (site_id, meter_id).
 */
static void
keys_of(const SmMeterBatch *batches, const int *ords, int n, Datum keys[2])
{
	Datum *sites = palloc(sizeof(Datum) * n);
	Datum *meters = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
	{
		sites[i] = Int32GetDatum(batches[ords[i]].newest->site_id);
		meters[i] = Int64GetDatum(batches[ords[i]].newest->meter_id);
	}
	keys[0] = array_of(sites, NULL, n, INT4OID);
	keys[1] = array_of(meters, NULL, n, INT8OID);
}

/*
 * Meters without a state row: gives them one, or refuses the statement when there is no such meter.
 */
static void
state_create(const SmMeterBatch *batches, const int *ords, int n, char *done)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4ARRAYOID, INT8ARRAYOID};
	Datum keys[2];

	keys_of(batches, ords, n, keys);
	db_execute(&plan, insert_missing, 2, types, keys, NULL, SPI_OK_INSERT);
	state_update(batches, ords, n, done);
	for (int i = 0; i < n; i++)
	{
		const SmNewReading *row = batches[ords[i]].newest;

		if (done[ords[i]] == 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("site %d has no meter " INT64_FORMAT, row->site_id, row->meter_id),
				 errdetail("A reading of an unknown meter cannot be stored."),
				 errhint(
					 "Use submeter.ingest(), which sets such rows aside, or add the meter first.")));
	}
}

/*
 * Lists the rows that cannot be right by themselves.
 */
static void
suspects_write(const SmNewReading *rows, int n_rows)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[6] = {INT4ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
								 TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID};
	static const Oid elements[6] = {INT4OID, INT8OID, TIMESTAMPTZOID, TEXTOID, INT8OID, TEXTOID};
	Datum *values[6];
	bool *nulls;
	Datum arrays[6];
	int n = 0;

	for (int i = 0; i < n_rows; i++)
		n += rows[i].rule != NULL;
	if (n == 0)
		return;
	for (int column = 0; column < 6; column++)
		values[column] = palloc(sizeof(Datum) * n);
	nulls = palloc0(sizeof(bool) * n);
	n = 0;
	for (int i = 0; i < n_rows; i++)
	{
		if (rows[i].rule == NULL)
			continue;
		values[0][n] = Int32GetDatum(rows[i].site_id);
		values[1][n] = Int64GetDatum(rows[i].meter_id);
		values[2][n] = TimestampTzGetDatum(rows[i].ts);
		values[3][n] = CStringGetTextDatum(rows[i].rule);
		values[4][n] = Int64GetDatum(rows[i].energy_wh);
		nulls[n] = !rows[i].has_energy;
		values[5][n] = CStringGetTextDatum("cannot be right by itself");
		n++;
	}
	for (int column = 0; column < 6; column++)
		arrays[column] = array_of(values[column], column == 4 ? nulls : NULL, n, elements[column]);
	db_execute(&plan, insert_suspect, 6, types, arrays, NULL, SPI_OK_INSERT);
}

/*
 * Reads that somebody waited for have come.
 */
static void
requests_answer(const SmMeterBatch *batches, int n)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr probe = NULL;
	static const Oid types[2] = {INT4ARRAYOID, INT8ARRAYOID};
	Datum keys[2];
	int *ords;

	db_execute(&probe, "SELECT FROM submeter.read_request LIMIT 1", 0, NULL, NULL, NULL,
			   SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	ords = palloc(sizeof(int) * n);
	for (int i = 0; i < n; i++)
		ords[i] = i;
	keys_of(batches, ords, n, keys);
	db_execute(&plan, delete_request, 2, types, keys, NULL, SPI_OK_DELETE);
}

/*
 * All effects of one chunk of new rows, which it sorts.
 */
static void
chunk_apply(SmNewReading *rows, int n_rows)
{
	SmMeterBatch *batches = palloc(sizeof(SmMeterBatch) * n_rows);
	int *ords = palloc(sizeof(int) * n_rows);
	char *done;
	int n_batches = 0;
	int n = 0;

	qsort(rows, n_rows, sizeof(SmNewReading), reading_compare);
	for (int at = 0; at < n_rows; n_batches++)
		at += batch_of_meter(&rows[at], n_rows - at, &batches[n_batches]);
	done = palloc0(n_batches);
	for (int i = 0; i < n_batches; i++)
		ords[i] = i;

	suspects_write(rows, n_rows);
	state_update(batches, ords, n_batches, done);
	for (int i = 0; i < n_batches; i++)
	{
		if (done[i] == 0)
			ords[n++] = i;
	}
	if (n > 0)
		state_create(batches, ords, n, done);
	for (int i = 0; i < n_batches; i++)
	{
		if (done[i] != 2)
			refold_meter(batches[i].newest->site_id, batches[i].newest->meter_id,
						 batches[i].from_ts, batches[i].newest->ts);
	}
	requests_answer(batches, n_batches);
}

SM_FUNCTION(submeter_reading_effects);

/*
 * Statement trigger of reading (see submeter.reading_effects() in 40_ingest.sql).
 */
Datum
submeter_reading_effects(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	MemoryContext chunk_context;
	MemoryContext caller;
	TupleTableSlot *slot;
	SmNewReading *rows;
	SmColumns columns;
	int n = 0;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_newtable == NULL)
		elog(ERROR, "reading_effects must be a trigger with a transition table");

	SPI_connect();
	columns_find(RelationGetDescr(trigger->tg_relation), &columns);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	rows = palloc(sizeof(SmNewReading) * CHUNK_ROWS);
	chunk_context =
		AllocSetContextCreate(CurrentMemoryContext, "submeter readings", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(chunk_context);
	tuplestore_rescan(trigger->tg_newtable);
	while (tuplestore_gettupleslot(trigger->tg_newtable, true, false, slot))
	{
		reading_take(slot, &columns, &rows[n++]);
		if (n == CHUNK_ROWS)
		{
			chunk_apply(rows, n);
			/* a row read back from disk is the slot's to free, and lies in the context */
			ExecClearTuple(slot);
			MemoryContextReset(chunk_context);
			n = 0;
		}
	}
	if (n > 0)
		chunk_apply(rows, n);
	MemoryContextSwitchTo(caller);
	ExecDropSingleTupleTableSlot(slot);
	SPI_finish();
	return PointerGetDatum(NULL);
}

SM_FUNCTION(submeter_is_plausible);

/*
 * submeter.is_plausible(): plausible_step() for SQL. Nothing known before: anything can follow.
 */
Datum
submeter_is_plausible(PG_FUNCTION_ARGS)
{
	SmRating rating;

	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(4) || PG_ARGISNULL(5))
		PG_RETURN_NULL();
	rating.max_power_w = PG_ARGISNULL(0) ? 0 : PG_GETARG_FLOAT4(0);
	rating.modulus_wh = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	PG_RETURN_BOOL(plausible_step(&rating, PG_GETARG_TIMESTAMPTZ(2), PG_GETARG_INT64(3),
								  PG_GETARG_TIMESTAMPTZ(4), PG_GETARG_INT64(5)));
}
