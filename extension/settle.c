/*
 * settle.c - readings to usage to charge, touching only what is new.
 *
 * settle_plan.c finds the meters with something new and loads what concerns them; one cursor then
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
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "settle.h"

#define FETCH_ROWS 5000
#define USAGE_BUFFER 4096

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

static Portal
stream_open(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
								 TIMESTAMPTZOID};
	Datum *columns[3];
	Datum args[5];
	int n = settle->n_meters;

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = Int64GetDatum(settle->meters[i].meter_id);
		columns[1][i] = TimestampTzGetDatum(settle->meters[i].read_from);
		columns[2][i] = TimestampTzGetDatum(settle->meters[i].horizon);
	}
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = PointerGetDatum(construct_array(columns[0], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[2] =
		PointerGetDatum(construct_array(columns[1], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[3] =
		PointerGetDatum(construct_array(columns[2], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[4] = TimestampTzGetDatum(settle->known_at);
	return db_open(&plan, read_series, 5, types, args, NULL);
}

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
 * Streams the readings of all planned meters.
 */
static void
stream_run(SmSettle *settle)
{
	Portal portal = stream_open(settle);
	SmStream stream = {0};
	int last_ord = 0;
	uint64 n_rows;

	do
	{
		SPITupleTable *table;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		/* Slicing may write, which replaces SPI's own idea of the current result. */
		table = SPI_tuptable;
		n_rows = SPI_processed;
		for (uint64 i = 0; i < n_rows; i++)
		{
			bool isnull;
			int ord = DatumGetInt32(SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull));
			TimestampTz ts =
				DatumGetTimestampTz(SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull));
			int64 wh = DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 3, &isnull));
			Datum power = SPI_getbinval(table->vals[i], table->tupdesc, 4, &isnull);

			if (ord < last_ord)
				elog(ERROR, "meters are out of order");
			last_ord = ord;
			stream_take(settle, &stream, &settle->meters[ord - 1], ts, wh,
						isnull ? 0 : DatumGetFloat4(power));
		}
		SPI_freetuptable(table);
	} while (n_rows == FETCH_ROWS);
	SPI_cursor_close(portal);
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
	settle->max_usage = USAGE_BUFFER;
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
		settle->usage = palloc(sizeof(SmUsageDay) * settle->max_usage);
		usage_clear(settle);
		stream_run(settle);
		usage_write(settle);
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
