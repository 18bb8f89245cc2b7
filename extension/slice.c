/*
 * slice.c - cuts the time between two readings and puts the energy where it belongs.
 *
 * Inside an interval energy is linear, or spread by the shape of a gap. It is cut where a supply, a
 * setup or the span of an account changes, at local hours where usage is kept, and at demand windows.
 * The register at each edge is interpolated and rounded to whole Wh, and so is the register after the
 * multiplier: the parts always add up to the difference of the registers, and where else it is cut
 * changes no part. Nothing here talks to the database.
 */
#include "module.h"

#include "datatype/timestamp.h"
#include "utils/memutils.h"

#include "settle.h"

/* An interval on its way. */
typedef struct SmSlicer
{
	const SmInterval *interval;
	const SmSetup *setup;
	const SmSupply *supply;
	TimestampTz edge; /* where setup or supply may change */
	int64 delta_wh;
	int64 delta_varh;
	bool has_varh;
	bool estimated;
	bool shaped;
	SmShape shape;
	TimestampTz at;
	int64 at_wh;
	int64 at_varh;
} SmSlicer;

/*
 * Place for the usage of a meter and day; the day before is complete then.
 */
static SmUsageDay *
usage_day_at(SmSettle *settle, const SmMeter *meter)
{
	SmUsageDay *usage = settle->n_usage > 0 ? &settle->usage[settle->n_usage - 1] : NULL;

	if (usage != NULL && usage->meter_id == meter->meter_id && usage->date == settle->day.date)
		return usage;
	if (settle->n_usage == settle->max_usage)
	{
		settle->max_usage = Max(1024, settle->max_usage * 2);
		settle->usage = settle->usage == NULL
							? palloc(sizeof(SmUsageDay) * settle->max_usage)
							: repalloc_huge(settle->usage, sizeof(SmUsageDay) * settle->max_usage);
	}
	usage = &settle->usage[settle->n_usage++];
	memset(usage, 0, sizeof(*usage));
	usage->meter_id = meter->meter_id;
	usage->date = settle->day.date;
	return usage;
}

static const SmSupply *
supply_at(const SmMeter *meter, TimestampTz at)
{
	for (int i = 0; i < meter->n_supplies; i++)
	{
		if (at >= meter->supplies[i].from && at < meter->supplies[i].to)
			return &meter->supplies[i];
	}
	return NULL;
}

/*
 * What holds for a meter at a time.
 */
const SmSetup *
setup_at(const SmMeter *meter, TimestampTz at)
{
	static const SmSetup plain = {DT_NOBEGIN, SM_SCALE_MULTIPLIER, 0, 0, false};
	const SmSetup *found = &plain;

	for (int i = 0; i < meter->n_setups && meter->setups[i].from <= at; i++)
		found = &meter->setups[i];
	return found;
}

/*
 * Setup and supply at the time at hand, and until when they hold.
 */
static void
slicer_look(SmSlicer *slicer, const SmMeter *meter)
{
	TimestampTz at = slicer->at;
	TimestampTz edge = meter->usage_from > at ? meter->usage_from : DT_NOEND;

	slicer->setup = setup_at(meter, at);
	slicer->supply = supply_at(meter, at);
	for (int i = 0; i < meter->n_setups; i++)
	{
		if (meter->setups[i].from > at)
			edge = Min(edge, meter->setups[i].from);
	}
	for (int i = 0; i < meter->n_supplies; i++)
	{
		const SmSupply *supply = &meter->supplies[i];

		if (supply->from > at)
			edge = Min(edge, supply->from);
		if (supply->to > at)
			edge = Min(edge, supply->to);
		if (supply->count_from > at)
			edge = Min(edge, supply->count_from);
	}
	slicer->edge = edge;
}

/*
 * A register after the multiplier, rounded half up to whole units: of the register itself and not of
 * differences, so that differences add up.
 */
static inline int64
primary(const SmSetup *setup, int64 value)
{
	__int128 scaled = (__int128) value * setup->multiplier_e4;

	if (setup->multiplier_e4 == SM_SCALE_MULTIPLIER)
		return value;
	return (int64) ((scaled + SM_SCALE_MULTIPLIER / 2) / SM_SCALE_MULTIPLIER);
}

/*
 * What a register rose by. One that went back without rolling over was reset or exchanged: nothing can
 * be proved for that interval, so nothing is counted.
 */
static int64
energy_delta(const SmSlicer *slicer)
{
	const SmInterval *interval = slicer->interval;
	const SmSetup *setup = slicer->setup;
	int64 delta_wh = interval->to_wh - interval->from_wh;

	if (delta_wh >= 0)
		return delta_wh;
	delta_wh += setup->modulus_wh;
	/*
	 * The fold let it pass because the rating allows the roll-over. Where a person's word did, more
	 * than half a turn backwards is a roll-over, less is a reset.
	 */
	if (setup->modulus_wh == 0 || delta_wh < 0 ||
		(interval->judged && delta_wh > setup->modulus_wh / 2))
		return 0;
	return delta_wh;
}

static int64
share_at(const SmSlicer *slicer, int64 delta, TimestampTz at)
{
	const SmInterval *interval = slicer->interval;
	int64 share;

	if (at >= interval->to)
		return delta;
	if (!rating_interpolate(0, delta, at - interval->from, interval->to - interval->from, &share))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("energy of an interval is out of range")));
	return share;
}

static void
slicer_begin(SmSettle *settle, SmSlicer *slicer, const SmMeter *meter, const SmInterval *interval)
{
	int64 length = interval->to - interval->from;

	slicer->interval = interval;
	slicer->at = interval->from;
	slicer->at_wh = interval->from_wh;
	slicer->at_varh = interval->from_varh;
	slicer_look(slicer, meter);
	slicer->delta_wh = energy_delta(slicer);
	slicer->delta_varh = interval->to_varh - interval->from_varh;
	slicer->has_varh = interval->has_varh && interval->to_wh >= interval->from_wh &&
					   interval->to_varh >= interval->from_varh;
	slicer->shaped = false;
	slicer->estimated =
		interval->estimated || (slicer->setup->gap_usecs > 0 && length > slicer->setup->gap_usecs);
	if (slicer->estimated && slicer->setup->gap_week && slicer->delta_wh > 0)
		slicer->shaped = shape_begin(settle, meter, interval, &slicer->shape);
}

/*
 * How far the span of an account reaches from a time on, demand windows included.
 */
static TimestampTz
pair_reach(SmSettle *settle, SmPair *pair, TimestampTz at)
{
	const SmTariff *tariff;
	TimestampTz reach;

	if (at < pair->cursor.from || at >= pair->cursor.to)
		pair_seek(settle, pair, at);
	reach = pair->cursor.to;
	tariff = pair->cursor.version != NULL ? pair->cursor.version->tariff : NULL;
	if (tariff != NULL && tariff->demand == SM_DEMAND_MAXIMUM)
	{
		day_find(&settle->day, at, settle->zone);
		reach = Min(reach, demand_window_end(&settle->day, tariff->window_minutes, at));
	}
	return reach;
}

/*
 * Adds a piece to the span under the cursor of an account.
 */
static void
charge_add(SmSettle *settle, SmPair *pair, const SmSlicer *slicer, TimestampTz to, int64 wh,
		   int64 varh)
{
	SmCycle *cycle = &pair->cycles[pair->cursor.cycle];
	const SmTariff *tariff = pair->cursor.version != NULL ? pair->cursor.version->tariff : NULL;

	cycle->spans[pair->cursor.span].wh += wh;
	cycle->settled_to = Max(cycle->settled_to, to);
	cycle->touched = true;
	if (slicer->estimated)
		cycle->estimated_wh += wh;
	if (tariff == NULL)
		return;
	if (tariff->power_factor != 0 && slicer->has_varh)
	{
		cycle->active_wh += wh;
		cycle->reactive_varh += varh;
	}
	if (tariff->demand == SM_DEMAND_MAXIMUM)
	{
		day_find(&settle->day, slicer->at, settle->zone);
		demand_add(pair, &settle->day, tariff->window_minutes, slicer->at, wh);
	}
}

/*
 * Keeps a piece for a trace.
 */
static void
trace_add(SmSettle *settle, const SmMeter *meter, const SmSlicer *slicer, int pair, TimestampTz to,
		  int64 wh)
{
	SmTrace *trace = settle->trace;
	const SmCursor *cursor = &settle->pairs[pair].cursor;
	const SmCycle *cycle = &settle->pairs[pair].cycles[cursor->cycle];
	SmTracePiece *piece;

	if (cycle->from != trace->from || !settle->pairs[pair].asked)
		return;
	if (trace->n == trace->max)
	{
		trace->max = Max(256, trace->max * 2);
		trace->pieces = trace->pieces == NULL
							? palloc(sizeof(SmTracePiece) * trace->max)
							: repalloc_huge(trace->pieces, sizeof(SmTracePiece) * trace->max);
	}
	piece = &trace->pieces[trace->n++];
	piece->meter_id = meter->meter_id;
	piece->interval = *slicer->interval;
	piece->multiplier_e4 = slicer->setup->multiplier_e4;
	piece->from = slicer->at;
	piece->to = to;
	piece->wh = wh;
	piece->estimated = slicer->estimated;
	piece->pair = pair;
	piece->span_from = cycle->spans[cursor->span].from;
	piece->period = cycle->spans[cursor->span].period;
}

static void
usage_add(SmSettle *settle, const SmMeter *meter, const SmSlicer *slicer, int64 wh)
{
	SmUsageDay *usage = usage_day_at(settle, meter);
	int hour = (int) ((slicer->at - settle->day.from) / USECS_PER_HOUR);

	usage->hour_wh[hour] += wh;
	usage->n_hours = Max(usage->n_hours, hour + 1);
	if (slicer->estimated)
		usage->estimated_wh += wh;
}

/*
 * The power read at the end of an interval belongs to its last hour.
 */
static void
power_take(SmSettle *settle, const SmMeter *meter, TimestampTz to, float4 power_w)
{
	int hour;
	SmUsageDay *usage;

	if (settle->dry || to - 1 < meter->usage_from || !(power_w > 0))
		return;
	day_find(&settle->day, to - 1, settle->zone);
	hour = (int) ((to - 1 - settle->day.from) / USECS_PER_HOUR);
	usage = usage_day_at(settle, meter);
	power_w = power_w * setup_at(meter, to - 1)->multiplier_e4 / SM_SCALE_MULTIPLIER;
	usage->hour_max_w[hour] = Max(usage->hour_max_w[hour], power_w);
	usage->n_hours = Max(usage->n_hours, hour + 1);
}

/*
 * The next piece: as far as everything stays as it is.
 */
static void
slicer_step(SmSettle *settle, SmMeter *meter, SmSlicer *slicer)
{
	const SmSupply *supply = slicer->supply;
	TimestampTz at = slicer->at;
	TimestampTz next = Min(slicer->edge, slicer->interval->to);
	bool usage = !settle->dry && at >= meter->usage_from;
	bool charged = supply != NULL && at >= supply->count_from;
	int shadow = charged ? settle->pairs[supply->pair].shadow : -1;
	int64 next_wh;
	int64 next_varh = 0;
	int64 wh;
	int64 varh = 0;

	if (usage || slicer->shaped)
	{
		day_find(&settle->day, at, settle->zone);
		next = Min(next, at + USECS_PER_HOUR - (at - settle->day.from) % USECS_PER_HOUR);
		next = Min(next, settle->day.to);
	}
	if (charged)
		next = Min(next, pair_reach(settle, &settle->pairs[supply->pair], at));
	if (shadow >= 0)
		next = Min(next, pair_reach(settle, &settle->pairs[shadow], at));
	next_wh = slicer->interval->from_wh +
			  (slicer->shaped ? shape_pass(settle, &slicer->shape, at, next, slicer->delta_wh)
							  : share_at(slicer, slicer->delta_wh, next));
	wh = primary(slicer->setup, next_wh) - primary(slicer->setup, slicer->at_wh);
	if (slicer->has_varh)
	{
		next_varh = slicer->interval->from_varh + share_at(slicer, slicer->delta_varh, next);
		varh = primary(slicer->setup, next_varh) - primary(slicer->setup, slicer->at_varh);
	}
	if (charged)
		charge_add(settle, &settle->pairs[supply->pair], slicer, next, wh, varh);
	if (shadow >= 0)
		charge_add(settle, &settle->pairs[shadow], slicer, next, wh, varh);
	if (charged && settle->trace != NULL)
		trace_add(settle, meter, slicer, supply->pair, next, wh);
	if (usage)
	{
		day_find(&settle->day, at, settle->zone);
		usage_add(settle, meter, slicer, wh);
	}
	slicer->at = next;
	slicer->at_wh = next_wh;
	slicer->at_varh = next_varh;
}

/*
 * The energy between two counted readings.
 */
void
slice_interval(SmSettle *settle, SmMeter *meter, const SmInterval *interval)
{
	SmSlicer slicer;

	slicer_begin(settle, &slicer, meter, interval);
	while (slicer.at < interval->to)
	{
		slicer_step(settle, meter, &slicer);
		if (slicer.at == slicer.edge)
			slicer_look(&slicer, meter);
	}
	power_take(settle, meter, interval->to, interval->power_w);
}
