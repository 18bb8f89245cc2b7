/*
 * settle_stream.c - readings in the order (meter, time), as intervals.
 *
 * One query streams the readings of many meters straight from the executor. What is said about single
 * readings (verdicts, suspects) is applied here; estimates come after a meter's last reading.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "settle.h"

/* Bounds the usage held in memory when years are computed anew. */
#define METERS_AT_ONCE 500

/* The lateral subquery keeps its own order, so rows come in the order of the arrays and of time. */
static const char read_series[] =
	"SELECT k.ord::int4, r.ts, r.energy_wh, r.power_w, r.reactive_varh"
	" FROM unnest($2, $3, $4) WITH ORDINALITY AS k(meter_id, from_ts, to_ts, ord)"
	" CROSS JOIN LATERAL (SELECT r.ts, r.energy_wh, r.power_w, r.reactive_varh FROM submeter.reading r"
	"  WHERE r.site_id = $1 AND r.meter_id = k.meter_id AND r.ts >= k.from_ts AND r.ts <= k.to_ts"
	"  AND r.energy_wh IS NOT NULL AND r.received_at <= $5 ORDER BY r.ts) r";

/* A reading, or what stands for one. */
typedef struct SmPoint
{
	TimestampTz ts;
	int64 wh;
	bool has_varh;
	int64 varh;
	float4 power_w;
	bool estimated;
} SmPoint;

/* Where the stream stands. */
typedef struct SmStream
{
	SmMeter *meter;
	int n_seen; /* overrides of the meter that lie behind */
	bool has_last;
	SmPoint last;
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
 * Takes the next point that counts: an interval ends there, and it is how far the meter is settled.
 */
static void
stream_count(SmSettle *settle, SmStream *stream, const SmPoint *point, bool new_beginning,
			 bool judged)
{
	SmMeter *meter = stream->meter;

	if (stream->has_last)
	{
		const SmPoint *last = &stream->last;
		SmInterval interval = {.from = last->ts,
							   .to = point->ts,
							   .from_wh = new_beginning ? point->wh : last->wh,
							   .to_wh = point->wh,
							   .has_varh = last->has_varh && point->has_varh && !new_beginning,
							   .from_varh = last->varh,
							   .to_varh = point->varh,
							   .power_w = point->power_w,
							   .judged = judged,
							   .estimated = point->estimated};

		slice_interval(settle, meter, &interval);
		settle->n_intervals++;
	}
	if (meter->candidate)
	{
		if (!point->estimated)
			meter->estimated_from = DT_NOEND;
		else if (meter->estimated_from == DT_NOEND)
			meter->estimated_from = stream->has_last ? stream->last.ts : point->ts;
		meter->settled_to = point->ts;
	}
	stream->has_last = true;
	stream->last = *point;
}

/*
 * Takes the next reading of the stream.
 */
static void
stream_take(SmSettle *settle, SmStream *stream, SmPoint *point)
{
	const SmOverride *override = override_at(stream, point->ts);

	if (stream->has_last && point->ts <= stream->last.ts)
		elog(ERROR, "readings of meter " INT64_FORMAT " are out of order", stream->meter->meter_id);
	if (override != NULL && override->kind == SM_OVERRIDE_SKIP)
		return;
	if (override != NULL && override->kind == SM_OVERRIDE_VALUE)
		point->wh = override->energy_wh;
	stream_count(settle, stream, point, override != NULL && override->kind == SM_OVERRIDE_BREAK,
				 override != NULL);
}

/*
 * The estimates of a meter after its last reading.
 */
static void
stream_estimates(SmSettle *settle, SmStream *stream)
{
	const SmMeter *meter = stream->meter;

	for (int i = 0; i < meter->n_estimates; i++)
	{
		SmPoint point = {
			.ts = meter->estimates[i].ts, .wh = meter->estimates[i].energy_wh, .estimated = true};

		if (point.ts <= meter->horizon && (!stream->has_last || point.ts > stream->last.ts))
			stream_count(settle, stream, &point, false, false);
	}
}

/*
 * Goes on to a meter, ending those before it.
 */
static void
stream_advance(SmReceiver *receiver, int ord)
{
	for (; receiver->last_ord < ord; receiver->last_ord++)
	{
		if (receiver->last_ord > 0)
			stream_estimates(receiver->settle, &receiver->stream);
		memset(&receiver->stream, 0, sizeof(receiver->stream));
		receiver->stream.meter = &receiver->meters[receiver->last_ord];
	}
}

/*
 * One row of read_series, straight from the executor.
 */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	SmReceiver *receiver = (SmReceiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);
	SmPoint point;
	int ord;

	slot_getallattrs(slot);
	ord = DatumGetInt32(slot->tts_values[0]);
	if (ord < receiver->last_ord)
		elog(ERROR, "meters are out of order");
	if (ord > receiver->last_ord)
		stream_advance(receiver, ord);
	point.ts = DatumGetTimestampTz(slot->tts_values[1]);
	point.wh = DatumGetInt64(slot->tts_values[2]);
	point.power_w = slot->tts_isnull[3] ? 0 : DatumGetFloat4(slot->tts_values[3]);
	point.has_varh = !slot->tts_isnull[4];
	point.varh = point.has_varh ? DatumGetInt64(slot->tts_values[4]) : 0;
	point.estimated = false;
	stream_take(receiver->settle, &receiver->stream, &point);
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
	past_load(settle, meters, n);
	db_stream(&plan, read_series, 5, types, args, &receiver.pub);
	stream_advance(&receiver, n);
	stream_estimates(settle, &receiver.stream);
}

/*
 * Streams the readings of all planned meters, so many meters at a time that their usage fits in memory.
 */
void
stream_run(SmSettle *settle)
{
	for (int i = 0; i < settle->n_meters; i += METERS_AT_ONCE)
	{
		CHECK_FOR_INTERRUPTS();
		stream_meters(settle, &settle->meters[i], Min(METERS_AT_ONCE, settle->n_meters - i));
		if (!settle->dry)
		{
			usage_write(settle);
			demand_write(settle);
		}
	}
	if (settle->dry)
		demand_take(settle);
}
