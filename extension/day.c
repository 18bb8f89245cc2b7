/*
 * day.c
 *		Local days and billing cycles as instants: where the clock on the wall meets time.
 *
 * A local day runs from its midnight to the next.  Where the local midnight
 * does not exist, the day begins with the jump over it.  Where the clock is
 * put back over midnight, the day begins twice; it counts from the second time
 * on, as it does in SQL with date_trunc('day', at, zone).
 *
 * Inside a day the time on the wall decides: an hour that is skipped has no
 * energy, one that comes twice is in the same period both times.
 */
#include "module.h"

#include "utils/datetime.h"

#include "day.h"
#include "tariff.h"

#define DAY_MAX_JUMPS 4

/* A stretch of instants in which the offset of the local time is the same. */
typedef struct DaySegment
{
	TimestampTz from;
	TimestampTz to;
	TimestampTz midnight; /* when 00:00 of the day would be by that offset */
} DaySegment;

/*
 * The first instant of a local date.  Infinity beyond the ends of time.
 */
static TimestampTz
day_date_start(int year, int month, int day_of_month, pg_tz *zone)
{
	struct pg_tm midnight;
	TimestampTz result;
	int offset;

	memset(&midnight, 0, sizeof(midnight));
	midnight.tm_year = year;
	midnight.tm_mon = month;
	midnight.tm_mday = day_of_month;
	offset = DetermineTimeZoneOffset(&midnight, zone);
	if (tm2timestamp(&midnight, 0, &offset, &result) != 0)
		return (year > 0) ? DT_NOEND : DT_NOBEGIN;
	return result;
}

/*
 * The first instant of a day, counted from 2000-01-01.
 */
TimestampTz
day_start(int32 day, pg_tz *zone)
{
	int year;
	int month;
	int day_of_month;

	calendar_date(day, &year, &month, &day_of_month);
	return day_date_start(year, month, day_of_month, zone);
}

/*
 * The local date of an instant.
 */
static void
day_date(TimestampTz at, pg_tz *zone, struct pg_tm *local)
{
	fsec_t fraction;
	int offset;

	if (timestamp2tm(at, &offset, local, &fraction, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"),
				 errhint("Pass an ordinary point in time, not infinity.")));
}

/*
 * The day an instant is in: the one whose start is not after it.
 */
int32
day_of(TimestampTz at, pg_tz *zone)
{
	struct pg_tm local;
	int32 day;

	day_date(at, zone, &local);
	day = calendar_day(local.tm_year, local.tm_mon, local.tm_mday);
	return (day_start(day, zone) > at) ? day - 1 : day;
}

/*
 * The first instant of the month that lies so many months after another, on
 * the given day of it.
 */
static TimestampTz
day_month_start(int year, int month, int months, int first_day, pg_tz *zone)
{
	int count = month - 1 + months;

	if (count < 0)
		return day_date_start(year - 1, count + 13, first_day, zone);
	return day_date_start(year + count / 12, count % 12 + 1, first_day, zone);
}

/*
 * The billing cycle [*from, *to) an instant is in: from the given day of the
 * local month (1 to 28) to that of the next.
 */
void
tariff_cycle(TimestampTz at, int first_day, pg_tz *zone, TimestampTz *from, TimestampTz *to)
{
	struct pg_tm local;
	int back;

	day_date(at, zone, &local);
	back = (local.tm_mday < first_day) ? -1 : 0;
	*from = day_month_start(local.tm_year, local.tm_mon, back, first_day, zone);
	*to = day_month_start(local.tm_year, local.tm_mon, back + 1, first_day, zone);
	if (*from > at)
	{
		*to = *from;
		*from = day_month_start(local.tm_year, local.tm_mon, back - 1, first_day, zone);
	}
}

/*
 * Seconds from UTC to local time at an instant.
 */
static int64
day_offset(TimestampTz at, pg_tz *zone)
{
	pg_time_t seconds = timestamptz_to_time_t(at);

	return pg_localtime(&seconds, zone)->tm_gmtoff;
}

/*
 * Cut [from, to) where the offset of the local time changes.  00:00 of the
 * day, as a local time, is so many microseconds from 2000-01-01 00:00.
 */
static int
day_segments(TimestampTz from, TimestampTz to, int64 local_midnight, pg_tz *zone,
			 DaySegment *segments)
{
	int n = 0;

	while (from < to && n < DAY_MAX_JUMPS)
	{
		pg_time_t now = timestamptz_to_time_t(from);
		pg_time_t boundary;
		long before_offset;
		long after_offset;
		int before_isdst;
		int after_isdst;
		TimestampTz until = to;

		if (pg_next_dst_boundary(&now, &before_offset, &before_isdst, &boundary, &after_offset,
								 &after_isdst, zone) > 0 &&
			time_t_to_timestamptz(boundary) > from && time_t_to_timestamptz(boundary) < to)
			until = time_t_to_timestamptz(boundary);
		segments[n].from = from;
		segments[n].to = until;
		segments[n].midnight = local_midnight - day_offset(from, zone) * USECS_PER_SEC;
		n++;
		from = until;
	}
	segments[n - 1].to = to;
	return n;
}

/*
 * Add a part unless it is empty or goes on with the period before it.
 */
static int
day_add_part(SmInstantPart *parts, int n_parts, TimestampTz from, TimestampTz to, int16 period)
{
	if (from >= to || n_parts == SM_MAX_INSTANT_PARTS ||
		(n_parts > 0 && parts[n_parts - 1].period == period))
		return n_parts;
	parts[n_parts].from = from;
	parts[n_parts].period = period;
	return n_parts + 1;
}

/*
 * Add the parts of a day by the clock on the wall that a segment shows.
 */
static int
day_add_segment(SmInstantPart *parts, int n_parts, const DaySegment *segment, TimestampTz midnight,
				const SmDayPart *wall, int n_wall)
{
	int i;

	for (i = 0; i < n_wall; i++)
	{
		int until = (i + 1 < n_wall) ? wall[i + 1].from_minute : SM_DAY_MINUTES;
		TimestampTz from = midnight + wall[i].from_minute * USECS_PER_MINUTE;
		TimestampTz to = midnight + until * USECS_PER_MINUTE;

		n_parts = day_add_part(parts, n_parts, Max(from, segment->from), Min(to, segment->to),
							   wall[i].period);
	}
	return n_parts;
}

/*
 * The parts of a local day as instants: [*day_from, *day_to), and where in it
 * each part begins and which period it is in.  Neighbours differ; the first
 * begins with the day.  parts has room for SM_MAX_INSTANT_PARTS; the result is
 * how many there are, at least one.  A date that a zone leaves out is empty.
 *
 * calendar must know the day itself, the day before it (for windows over
 * midnight) and the day after (where midnight comes twice).
 */
int
day_parts(const SmTariff *tariff, const SmCalendar *calendar, int32 day, pg_tz *zone,
		  TimestampTz *day_from, TimestampTz *day_to, SmInstantPart *parts)
{
	DaySegment segments[DAY_MAX_JUMPS];
	SmDayPart wall[SM_MAX_DAY_PARTS];
	int n_segments;
	int n_wall;
	int n_parts = 0;
	int i;

	*day_from = day_start(day, zone);
	*day_to = day_start(day + 1, zone);
	n_wall = calendar_day_parts(&tariff->schedule, calendar, day, wall);
	if (n_wall == 1 || *day_from >= *day_to)
	{
		parts[0].from = *day_from;
		parts[0].period = wall[0].period;
		return 1;
	}
	n_segments = day_segments(*day_from, *day_to, day * USECS_PER_DAY, zone, segments);
	for (i = 0; i < n_segments; i++)
	{
		TimestampTz next = segments[i].midnight + USECS_PER_DAY;

		n_parts = day_add_segment(parts, n_parts, &segments[i], segments[i].midnight, wall, n_wall);
		if (segments[i].to > next)
		{
			SmDayPart early[SM_MAX_DAY_PARTS];
			int n_early = calendar_day_parts(&tariff->schedule, calendar, day + 1, early);

			n_parts = day_add_segment(parts, n_parts, &segments[i], next, early, n_early);
		}
	}
	return n_parts;
}
