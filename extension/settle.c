/*
 * settle.c - readings to usage to charge, touching only what is new.
 *
 * settle_plan.c finds the meters with something new and loads what concerns them; one query then
 * streams their readings in the order (meter, time); slice.c puts the energy of each interval into local
 * hours and billing cycles; settle_write.c rates and stores. What an account owes is always rated anew
 * from the energy of its cycle, so the result depends on the facts and never on how they came.
 *
 * Locks: the site's row of duty_state for the duty settle, taken by the caller, makes settles of one
 * site take turns. Ingest is never waited for: it writes meter_state and meter_dirty, this room writes
 * meter_settled, usage_day and charge.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "settle.h"

/* Bounds the usage held in memory when years are computed anew. */
#define METERS_AT_ONCE 500

/* The lateral subquery keeps its own order, so rows come in the order of the arrays and of time. */
static const char read_series[] =
	"SELECT k.ord::int4, r.ts, r.energy_wh, r.power_w"
	" FROM unnest($2, $3, $4) WITH ORDINALITY AS k(meter_id, from_ts, to_ts, ord)"
	" CROSS JOIN LATERAL (SELECT r.ts, r.energy_wh, r.power_w FROM submeter.reading r"
	"  WHERE r.site_id = $1 AND r.meter_id = k.meter_id AND r.ts >= k.from_ts AND r.ts <= k.to_ts"
	"  AND r.energy_wh IS NOT NULL AND r.received_at <= $5 ORDER BY r.ts) r";

/* Where the stream stands. */
typedef struct SmStream
{
	SmMeter *meter;
	int n_seen; /* overrides of the meter that lie behind */
	bool has_last;
	TimestampTz last_ts;
	int64 last_wh;
} SmStream;

/* Takes rows from the executor as they come: no copy, no cursor. */
typedef struct SmReceiver
{
	DestReceiver pub;
	MemoryContext context; /* where what a row leaves behind lives */
	SmSettle *settle;
	SmMeter *meters;
	SmStream stream;
	int last_ord;
} SmReceiver;

/*
 * What is said about a reading, or NULL; readings and overrides are both in time order.
 */
static const SmOverride *
override_at(SmStream *stream, TimestampTz ts)
{
	const SmMeter *meter = stream->meter;

	while (stream->n_seen < meter->n_overrides && meter->overrides[stream->n_seen].ts < ts)
		stream->n_seen++;
	if (stream->n_seen < meter->n_overrides && meter->overrides[stream->n_seen].ts == ts)
		return &meter->overrides[stream->n_seen];
	return NULL;
}

/*
 * Takes the next reading of the stream.
 */
static void
stream_take(SmSettle *settle, SmStream *stream, SmMeter *meter, TimestampTz ts, int64 wh,
			float4 power_w)
{
	const SmOverride *override;

	if (stream->meter != meter)
	{
		memset(stream, 0, sizeof(*stream));
		stream->meter = meter;
	}
	if (stream->has_last && ts <= stream->last_ts)
		elog(ERROR, "readings of meter " INT64_FORMAT " are out of order", meter->meter_id);
	override = override_at(stream, ts);
	if (override != NULL && override->kind == SM_OVERRIDE_SKIP)
		return;
	if (override != NULL && override->kind == SM_OVERRIDE_VALUE)
		wh = override->energy_wh;
	if (stream->has_last)
	{
		bool new_beginning = override != NULL && override->kind == SM_OVERRIDE_BREAK;

		slice_interval(settle, meter, stream->last_ts, new_beginning ? wh : stream->last_wh, ts, wh,
					   power_w, override != NULL);
		settle->n_intervals += meter->candidate;
	}
	stream->has_last = true;
	stream->last_ts = ts;
	stream->last_wh = wh;
	if (meter->candidate)
		meter->settled_to = ts;
}

/*
 * One row of read_series, straight from the executor.
 */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	SmReceiver *receiver = (SmReceiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);
	int ord;

	slot_getallattrs(slot);
	ord = DatumGetInt32(slot->tts_values[0]);
	if (ord < receiver->last_ord)
		elog(ERROR, "meters are out of order");
	receiver->last_ord = ord;
	stream_take(receiver->settle, &receiver->stream, &receiver->meters[ord - 1],
				DatumGetTimestampTz(slot->tts_values[1]), DatumGetInt64(slot->tts_values[2]),
				slot->tts_isnull[3] ? 0 : DatumGetFloat4(slot->tts_values[3]));
	MemoryContextSwitchTo(caller);
	return true;
}

static void
receive_start(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receive_end(DestReceiver *self)
{
}

/*
 * Streams the readings of n meters.
 */
static void
stream_meters(SmSettle *settle, SmMeter *meters, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
								 TIMESTAMPTZOID};
	SmReceiver receiver = {.pub = {.receiveSlot = receive_row,
								   .rStartup = receive_start,
								   .rShutdown = receive_end,
								   .rDestroy = receive_end,
								   .mydest = DestTuplestore},
						   .context = CurrentMemoryContext,
						   .settle = settle,
						   .meters = meters};
	Datum *columns[3];
	Datum args[5];

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = Int64GetDatum(meters[i].meter_id);
		columns[1][i] = TimestampTzGetDatum(meters[i].read_from);
		columns[2][i] = TimestampTzGetDatum(meters[i].horizon);
	}
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = db_int64_array(columns[0], n);
	args[2] = db_time_array(columns[1], n);
	args[3] = db_time_array(columns[2], n);
	args[4] = TimestampTzGetDatum(settle->known_at);
	db_stream(&plan, read_series, 5, types, args, &receiver.pub);
}

/*
 * Streams the readings of all planned meters, so many meters at a time that their usage fits in memory.
 */
static void
stream_run(SmSettle *settle)
{
	for (int i = 0; i < settle->n_meters; i += METERS_AT_ONCE)
	{
		CHECK_FOR_INTERRUPTS();
		stream_meters(settle, &settle->meters[i], Min(METERS_AT_ONCE, settle->n_meters - i));
		if (!settle->dry)
			usage_write(settle);
	}
}

/*
 * Room for everything of one run; SPI's procedure context, gone with SPI_finish().
 */
static SmSettle *
settle_begin(int32 site_id, text *time_zone)
{
	SmSettle *settle = palloc0(sizeof(SmSettle));

	settle->site_id = site_id;
	settle->known_at = DT_NOEND;
	settle->zone = pg_tzset(text_to_cstring(time_zone));
	if (settle->zone == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone \"%s\" is not known", text_to_cstring(time_zone))));
	settle->day.from = settle->day.to = 0;
	return settle;
}

SM_FUNCTION(submeter_settle_site);

/*
 * submeter.settle_site(site_id, time_zone, as_of)
 */
Datum
submeter_settle_site(PG_FUNCTION_ARGS)
{
	SmSettle *settle;
	int64 n_intervals;

	SPI_connect();
	settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	settle->as_of = PG_GETARG_TIMESTAMPTZ(2);
	settle_plan(settle);
	if (settle->n_meters > 0)
	{
		usage_clear(settle);
		stream_run(settle);
		charges_write(settle);
		meters_write(settle);
	}
	n_intervals = settle->n_intervals;
	SPI_finish();
	PG_RETURN_INT64(n_intervals);
}

/*
 * One row per cycle of a dry run into the caller's tuplestore.
 */
static void
rebuilt_put(SmSettle *settle, ReturnSetInfo *result)
{
	for (int i = 0; i < settle->n_pairs; i++)
	{
		const SmPair *pair = &settle->pairs[i];

		for (int j = 0; j < pair->n_cycles; j++)
		{
			bool nulls[6] = {false};
			Datum values[6];
			SmChargeRow row;

			charge_rate(pair, &pair->cycles[j], &row);
			values[0] = Int64GetDatum(pair->account_id);
			values[1] = Int64GetDatum(pair->tariff_id);
			values[2] = TimestampTzGetDatum(pair->cycles[j].from);
			values[3] = Int64GetDatum(row.energy_wh);
			values[4] = DirectFunctionCall3(numeric_in, CStringGetDatum(row.amount),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
			values[5] = DirectFunctionCall3(numeric_in, CStringGetDatum(row.rounded),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
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
	if (settle->n_meters > 0)
	{
		stream_run(settle);
		rebuilt_put(settle, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
