/*
 * settle_gap.c - how the energy of a gap between two readings spreads over it.
 *
 * By default evenly. With the shape "week" as the meter used energy in the hours of the week over the
 * 28 local days before the gap began: the register at a time inside is interpolated by the weight of
 * the hours so far. The history is what is on record and what this run has found, so it does not matter
 * in how many runs the readings came.
 */
#include "module.h"

#include "datatype/timestamp.h"

#include "settle.h"

#define HISTORY_DAYS 28

/*
 * Hour of the local week at so many hours after local midnight: by the clock on the wall, also on days
 * that are not 24 hours long.
 */
static int
week_hour(const SmSettle *settle, const SmDay *day, int hour)
{
	int weekday = ((day->date % 7) + 7) % 7;

	if (day->to - day->from != USECS_PER_DAY)
	{
		struct pg_tm local;
		fsec_t fraction;
		int offset;

		if (timestamp2tm(day->from + hour * USECS_PER_HOUR, &offset, &local, &fraction, NULL,
						 settle->zone) != 0)
			ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
							errmsg("timestamp out of range")));
		hour = local.tm_hour;
	}
	return weekday * 24 + Min(hour, 23);
}

static void
history_take(SmSettle *settle, SmShape *shape, int32 date, const int64 *hour_wh, int n_hours)
{
	SmDay day = {0};

	day_find(&day, day_start(date, settle->zone), settle->zone);
	for (int i = 0; i < n_hours; i++)
		shape->weight[week_hour(settle, &day, i)] += hour_wh[i];
}

/*
 * The hours of the weeks before a gap: days on record, and those found in this run.
 */
static void
history_sum(SmSettle *settle, const SmMeter *meter, int32 before, SmShape *shape)
{
	for (int i = 0; i < meter->n_past; i++)
	{
		const SmPastDay *past = &meter->past[i];

		if (past->date >= before - HISTORY_DAYS && past->date < before)
			history_take(settle, shape, past->date, past->hour_wh, past->n_hours);
	}
	for (int i = settle->n_usage - 1; i >= 0; i--)
	{
		const SmUsageDay *usage = &settle->usage[i];

		if (usage->meter_id != meter->meter_id || usage->date < before - HISTORY_DAYS)
			break;
		if (usage->date < before)
			history_take(settle, shape, usage->date, usage->hour_wh, usage->n_hours);
	}
}

/*
 * End of the local hour that holds a time, not after a limit.
 */
static TimestampTz
hour_end(SmSettle *settle, TimestampTz at, TimestampTz limit)
{
	TimestampTz end;

	day_find(&settle->day, at, settle->zone);
	end = at + USECS_PER_HOUR - (at - settle->day.from) % USECS_PER_HOUR;
	return Min(Min(end, settle->day.to), limit);
}

/*
 * Weight of a time inside one local hour.
 */
static SmInt128
hour_weight(SmSettle *settle, const SmShape *shape, TimestampTz from, TimestampTz to)
{
	int hour;

	day_find(&settle->day, from, settle->zone);
	hour = (int) ((from - settle->day.from) / USECS_PER_HOUR);
	return (SmInt128) Max(shape->weight[week_hour(settle, &settle->day, hour)], 0) * (to - from);
}

/*
 * The shape of a gap; false when the meter has no history for it.
 */
bool
shape_begin(SmSettle *settle, const SmMeter *meter, const SmInterval *interval, SmShape *shape)
{
	TimestampTz at = interval->from;

	memset(shape, 0, sizeof(*shape));
	history_sum(settle, meter, settle_day_of(settle, interval->from), shape);
	while (at < interval->to)
	{
		TimestampTz next = hour_end(settle, at, interval->to);

		shape->total += hour_weight(settle, shape, at, next);
		at = next;
	}
	return shape->total > 0;
}

/*
 * Passes over a piece inside one local hour. Result: energy from the start of the gap to its end.
 */
int64
shape_pass(SmSettle *settle, SmShape *shape, TimestampTz from, TimestampTz to, int64 delta_wh)
{
	SmInt128 product;

	shape->passed += hour_weight(settle, shape, from, to);
	if (__builtin_mul_overflow((SmInt128) delta_wh, shape->passed, &product) ||
		__builtin_mul_overflow(product, (SmInt128) 2, &product) ||
		__builtin_add_overflow(product, shape->total, &product))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("energy of an interval is out of range")));
	return (int64) (product / (shape->total * 2));
}
