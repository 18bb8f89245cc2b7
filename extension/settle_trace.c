/*
 * settle_trace.c - the energy of a charge back to its readings: each piece with the period and the tier
 * it fell in.
 *
 * The readings are sliced again as settle does it. Tiers fill span by span, and inside a span in time
 * order, so the pieces of each version, tier and period add up to the line of the bill.
 */
#include "module.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "settle.h"

#define TRACE_COLUMNS 13

/* A piece with what became of it. */
typedef struct SmTraced
{
	const SmTracePiece *piece;
	TimestampTz from;
	TimestampTz to;
	int64 wh;
	const SmVersion *version;
	int tier; /* from 0; -1: of no tier */
} SmTraced;

typedef struct SmTracer
{
	SmSettle *settle;
	const SmPair *pair;
	SmCycle *cycle;
	int n;
	int max;
	SmTraced *traced;
} SmTracer;

static int
piece_compare(const void *a, const void *b)
{
	const SmTracePiece *left = a;
	const SmTracePiece *right = b;

	if (left->span_from != right->span_from)
		return left->span_from < right->span_from ? -1 : 1;
	if (left->period != right->period)
		return left->period < right->period ? -1 : 1;
	if (left->from != right->from)
		return left->from < right->from ? -1 : 1;
	return left->meter_id < right->meter_id ? -1 : left->meter_id > right->meter_id;
}

static int
traced_compare(const void *a, const void *b)
{
	const SmTraced *left = a;
	const SmTraced *right = b;

	if (left->from != right->from)
		return left->from < right->from ? -1 : 1;
	if (left->piece->meter_id != right->piece->meter_id)
		return left->piece->meter_id < right->piece->meter_id ? -1 : 1;
	return left->tier - right->tier;
}

static void
traced_add(SmTracer *tracer, const SmTraced *traced)
{
	if (tracer->n == tracer->max)
	{
		tracer->max = Max(256, tracer->max * 2);
		tracer->traced = tracer->traced == NULL
							 ? palloc(sizeof(SmTraced) * tracer->max)
							 : repalloc_huge(tracer->traced, sizeof(SmTraced) * tracer->max);
	}
	tracer->traced[tracer->n++] = *traced;
}

/*
 * Tier of a volume tariff: that of the position at the end of the tier cycle's part in this charge, up
 * to and including its bound.
 */
static int
volume_tier(const SmRatingSpan *spans, int n, int at, int64 position_wh)
{
	const SmTariff *tariff = spans[at].tariff;
	int tier = 0;

	for (int i = at; i < n && (i == at || !spans[i].restart); i++)
		position_wh += spans[i].energy_wh;
	while (tier < tariff->n_tiers - 1 &&
		   position_wh > tariff->bounds[spans[at].bounds].upto_wh[tier])
		tier++;
	return tier;
}

/*
 * A piece from a tier position on: cut at the bounds inside it, in proportion to time.
 */
static void
piece_trace(SmTracer *tracer, const SmTracePiece *piece, const SmRatingSpan *span, int fixed_tier,
			int64 position_wh)
{
	const SmTariff *tariff = span->tariff;
	SmTraced traced = {.piece = piece,
					   .from = piece->from,
					   .to = piece->to,
					   .version = pair_version_at(tracer->pair, piece->from)};
	int64 done_wh = 0;

	while (done_wh < piece->wh)
	{
		int tier = fixed_tier >= 0 ? fixed_tier
								   : rating_tier_at(tariff, span->bounds, position_wh + done_wh);
		int64 left_wh = piece->wh - done_wh;

		traced.tier = tier;
		traced.wh = left_wh;
		if (fixed_tier < 0 && tier < tariff->n_tiers - 1)
			traced.wh =
				Min(left_wh, tariff->bounds[span->bounds].upto_wh[tier] - position_wh - done_wh);
		done_wh += traced.wh;
		traced.to =
			piece->from + (int64) ((SmInt128) (piece->to - piece->from) * done_wh / piece->wh);
		traced_add(tracer, &traced);
		traced.from = traced.to;
	}
}

/*
 * Walks over the spans as rating does, and over the pieces of each.
 */
static void
spans_trace(SmTracer *tracer, const SmTrace *trace, int n_spans)
{
	const SmRatingSpan *spans = tracer->settle->rating_spans;
	int64 position_wh = tracer->cycle->start_wh;
	int at = 0;
	int rated = 0;

	for (int i = 0; i < tracer->cycle->n_spans; i++)
	{
		const SmSpan *span = &tracer->cycle->spans[i];
		const SmVersion *version = pair_version_at(tracer->pair, span->from);
		bool priced = span->wh != 0 && version != NULL && version->tariff != NULL;
		int64 before_wh;
		int tier = -1;

		if (priced && spans[rated].restart)
			position_wh = 0;
		before_wh = position_wh;
		if (priced && spans[rated].tariff->n_tiers == 1)
			tier = 0;
		else if (priced && spans[rated].tariff->volume)
			tier = volume_tier(spans, n_spans, rated, position_wh);
		for (; at < trace->n && trace->pieces[at].span_from == span->from &&
			   trace->pieces[at].period == span->period;
			 at++)
		{
			const SmTracePiece *piece = &trace->pieces[at];
			SmTraced waiting = {piece, piece->from, piece->to, piece->wh, NULL, -1};

			if (piece->wh <= 0)
				continue;
			if (priced)
				piece_trace(tracer, piece, &spans[rated], tier, position_wh);
			else
				traced_add(tracer, &waiting);
			position_wh += priced ? piece->wh : 0;
		}
		/* A volume tariff's run goes on from the span's own total. */
		if (priced)
		{
			position_wh = before_wh + span->wh;
			rated++;
		}
	}
}

static void
traced_put(ReturnSetInfo *result, const SmTraced *traced)
{
	const SmTracePiece *piece = traced->piece;
	const SmTariff *tariff = traced->version != NULL ? traced->version->tariff : NULL;
	char text[SM_RATING_TEXT_SIZE];
	bool nulls[TRACE_COLUMNS] = {false};
	Datum values[TRACE_COLUMNS];

	values[0] = Int64GetDatum(piece->meter_id);
	values[1] = TimestampTzGetDatum(piece->interval.from);
	values[2] = TimestampTzGetDatum(piece->interval.to);
	values[3] = Int64GetDatum(piece->interval.from_wh);
	values[4] = Int64GetDatum(piece->interval.to_wh);
	values[5] = numeric_datum(rating_format(piece->multiplier_e4, 4, 0, text, sizeof(text)));
	values[6] = BoolGetDatum(piece->estimated);
	values[7] = TimestampTzGetDatum(traced->from);
	values[8] = TimestampTzGetDatum(traced->to);
	values[9] = Int64GetDatum(traced->wh);
	nulls[10] = tariff == NULL;
	values[10] = TimestampTzGetDatum(tariff != NULL ? traced->version->from : 0);
	nulls[11] = tariff == NULL || tariff->schedule.n_periods == 0;
	values[11] = nulls[11] ? 0 : CStringGetTextDatum(tariff->schedule.periods[piece->period].name);
	nulls[12] = tariff == NULL || tariff->n_tiers == 1;
	values[12] = Int32GetDatum(traced->tier + 1);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SM_FUNCTION(submeter_charge_trace);

/*
 * submeter.charge_trace_of(site_id, time_zone, account_id, tariff_id, cycle_start)
 */
Datum
submeter_charge_trace(PG_FUNCTION_ARGS)
{
	SmChargeKey key = {PG_GETARG_INT64(2), PG_GETARG_INT64(3), PG_GETARG_TIMESTAMPTZ(4)};
	SmChargeKeys keys = {1, &key};
	SmTrace trace = {.from = key.cycle_start};
	SmTracer tracer = {0};
	SmChargeRow row = {0};
	SmSettle *stored;
	SmSettle *settle;
	SmPair *pair;
	SmCycle *cycle;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	stored = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
	settle_plan_charges(stored, &keys);
	cycle = key_cycle(stored, &key, &pair);
	if (cycle != NULL)
	{
		settle = settle_begin(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1));
		settle->dry = true;
		settle->trace = &trace;
		settle->only_account = key.account_id;
		settle->clip_from = cycle->from;
		settle->clip_to = cycle->to;
		settle_plan_range(settle);
		for (int i = 0; i < settle->n_pairs; i++)
			settle->pairs[i].asked = settle->pairs[i].account_id == key.account_id &&
									 settle->pairs[i].tariff_id == key.tariff_id;
		stream_run(settle);
		tracer.settle = settle;
		tracer.cycle = key_cycle(settle, &key, &pair);
		tracer.pair = pair;
		if (tracer.cycle != NULL)
		{
			tracer.cycle->start_wh = cycle->start_wh;
			qsort(trace.pieces, trace.n, sizeof(SmTracePiece), piece_compare);
			spans_trace(&tracer, &trace, spans_rate(settle, pair, tracer.cycle, &row));
			qsort(tracer.traced, tracer.n, sizeof(SmTraced), traced_compare);
		}
		for (int i = 0; i < tracer.n; i++)
			traced_put((ReturnSetInfo *) fcinfo->resultinfo, &tracer.traced[i]);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
