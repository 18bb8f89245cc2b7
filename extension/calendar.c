/*
 * calendar.c
 *		Days, seasons and the windows of a day: which TOU period a local time is in.
 *
 * A day is of the type its calendar row says, else workday from Monday to
 * Friday and weekend otherwise.  The first period with a matching window wins;
 * a period without windows takes what no other period wants, wherever it
 * stands.  A window over midnight belongs to the day it starts on, so the
 * early hours of a day ask the day before for its type, seasons and flags.
 *
 * Pure: no allocation, no error reporting, no locks, no global state.
 */
#include "calendar.h"

#include <stddef.h>

#define CALENDAR_SATURDAY 0 /* of 2000-01-01, day 0 */
#define CALENDAR_WEEK 7
#define CALENDAR_ERA_DAYS 146097 /* of 400 years */
#define CALENDAR_ERA_YEARS 400
#define CALENDAR_ERA_OFFSET 730425 /* from 0000-03-01 to 2000-01-01 */
#define CALENDAR_LEAP_YEARS 8      /* the longest time between two 29th of February */

/*
 * Quotient rounded towards minus infinity; divisor > 0.
 */
static int64_t
calendar_floor(int64_t value, int64_t divisor)
{
	int64_t quotient = value / divisor;

	return (value % divisor < 0) ? quotient - 1 : quotient;
}

/*
 * The number of a day.  A day of the month beyond its end runs on into the
 * next month, so that 02-29 is 03-01 in a common year.
 *
 * Years are counted from March, which puts the leap day at their end.
 */
int32_t
calendar_day(int year, int month, int day)
{
	int64_t years = (int64_t) year - (month <= 2 ? 1 : 0);
	int64_t era = calendar_floor(years, CALENDAR_ERA_YEARS);
	int64_t year_of_era = years - era * CALENDAR_ERA_YEARS;
	int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return (int32_t) (era * CALENDAR_ERA_DAYS + day_of_era - CALENDAR_ERA_OFFSET);
}

/*
 * The date of a day, the other way round.
 */
void
calendar_date(int32_t day, int *year, int *month, int *day_of_month)
{
	int64_t days = (int64_t) day + CALENDAR_ERA_OFFSET;
	int64_t era = calendar_floor(days, CALENDAR_ERA_DAYS);
	int64_t day_of_era = days - era * CALENDAR_ERA_DAYS;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t march_month = (5 * day_of_year + 2) / 153;

	*day_of_month = (int) (day_of_year - (153 * march_month + 2) / 5 + 1);
	*month = (int) (march_month < 10 ? march_month + 3 : march_month - 9);
	*year = (int) (year_of_era + era * CALENDAR_ERA_YEARS + (*month <= 2 ? 1 : 0));
}

/*
 * How many days the month of a day has.
 */
int
calendar_month_days(int32_t day)
{
	int year;
	int month;
	int day_of_month;

	calendar_date(day, &year, &month, &day_of_month);
	return calendar_day(month == 12 ? year + 1 : year, month % 12 + 1, 1) -
		   calendar_day(year, month, 1);
}

/*
 * The calendar's row for a day, or NULL.
 */
static const SmCalendarDay *
calendar_find(const SmCalendar *calendar, int32_t day)
{
	int low = 0;
	int high = (calendar == NULL) ? 0 : calendar->n_days;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (calendar->days[middle].day < day)
			low = middle + 1;
		else
			high = middle;
	}
	if (calendar == NULL || low == calendar->n_days || calendar->days[low].day != day)
		return NULL;
	return &calendar->days[low];
}

/*
 * What kind of day it is: as the calendar says, else as the weekday.
 */
SmDayType
calendar_day_type(const SmCalendar *calendar, int32_t day)
{
	const SmCalendarDay *row = calendar_find(calendar, day);
	int64_t weekday;

	if (row != NULL)
		return row->type;
	weekday = day - calendar_floor(day, CALENDAR_WEEK) * CALENDAR_WEEK;
	return (weekday <= CALENDAR_SATURDAY + 1) ? SM_DAY_WEEKEND : SM_DAY_WORKDAY;
}

/*
 * The flags of a day; none when the calendar does not know it.
 */
uint64_t
calendar_day_flags(const SmCalendar *calendar, int32_t day)
{
	const SmCalendarDay *row = calendar_find(calendar, day);

	return (row == NULL) ? 0 : row->flags;
}

/*
 * Whether a day given as month x 100 + day lies in a season.
 */
static bool
calendar_mmdd_in_season(const SmSeason *season, int mmdd)
{
	if (season->from_mmdd < season->to_mmdd)
		return mmdd >= season->from_mmdd && mmdd < season->to_mmdd;
	return mmdd >= season->from_mmdd || mmdd < season->to_mmdd;
}

/*
 * The seasons a day is in, as bits.
 */
uint16_t
calendar_seasons(const SmSchedule *schedule, int32_t day)
{
	uint16_t seasons = 0;
	int year;
	int month;
	int day_of_month;
	int i;

	if (schedule->n_seasons == 0)
		return 0;
	calendar_date(day, &year, &month, &day_of_month);
	for (i = 0; i < schedule->n_seasons; i++)
		if (calendar_mmdd_in_season(&schedule->seasons[i], month * 100 + day_of_month))
			seasons |= (uint16_t) (1u << i);
	return seasons;
}

/*
 * Whether a day is in a season.
 */
bool
calendar_in_season(const SmSchedule *schedule, int season, int32_t day)
{
	return (calendar_seasons(schedule, day) >> season & 1) != 0;
}

/*
 * The later of best and an edge of a season at which, up to day, one of the
 * seasons that count begins or ends.
 */
static int32_t
calendar_later_edge(const SmSchedule *schedule, uint16_t count, int year, int mmdd, int32_t day,
					int32_t best)
{
	int32_t edge = calendar_day(year, mmdd / 100, mmdd % 100);

	if (edge > day || edge <= best ||
		((calendar_seasons(schedule, edge) ^ calendar_seasons(schedule, edge - 1)) & count) == 0)
		return best;
	return edge;
}

/*
 * The first day of the stretch of days around a day that are in the same ones
 * of some seasons (as bits), or in none of them.  Where nothing ever changes
 * it is the day's New Year.
 */
int32_t
calendar_season_start(const SmSchedule *schedule, uint16_t count, int32_t day)
{
	int year;
	int month;
	int day_of_month;
	int back;
	int i;

	calendar_date(day, &year, &month, &day_of_month);
	for (back = 0; back <= CALENDAR_LEAP_YEARS; back++)
	{
		int32_t best = INT32_MIN;

		for (i = 0; i < schedule->n_seasons; i++)
		{
			const SmSeason *season = &schedule->seasons[i];

			best = calendar_later_edge(schedule, count, year - back, season->from_mmdd, day, best);
			best = calendar_later_edge(schedule, count, year - back, season->to_mmdd, day, best);
		}
		if (best != INT32_MIN)
			return best;
	}
	return calendar_day(year, 1, 1);
}

/*
 * The facts of a day.
 */
static SmDayFacts
calendar_facts(const SmSchedule *schedule, const SmCalendar *calendar, int32_t day)
{
	SmDayFacts facts;

	facts.type = calendar_day_type(calendar, day);
	facts.seasons = calendar_seasons(schedule, day);
	facts.flags = calendar_day_flags(calendar, day);
	return facts;
}

/*
 * Whether a window holds on a day with these facts.
 */
static bool
calendar_window_holds(const SmWindow *window, const SmDayFacts *facts)
{
	return (window->day_types >> facts->type & 1) != 0 &&
		   (window->seasons == 0 || (window->seasons & facts->seasons) != 0) &&
		   (window->flags & ~facts->flags) == 0;
}

/*
 * All stretches windows take of a day, the first period's first.  A window
 * over midnight gives two: its evening today and its morning from yesterday.
 */
int
calendar_stretches(const SmSchedule *schedule, const SmDayFacts *today, const SmDayFacts *yesterday,
				   SmDayStretch *stretches)
{
	int n = 0;
	int period;
	int i;

	for (period = 0; period < schedule->n_periods; period++)
		for (i = 0; i < schedule->periods[period].n_windows; i++)
		{
			int at = schedule->periods[period].first_window + i;
			const SmWindow *window = &schedule->windows[at];
			bool night = window->to_minute <= window->from_minute;
			SmDayStretch stretch = {window->from_minute, window->to_minute, (int16_t) period,
									(int16_t) at};

			if (night)
				stretch.to_minute = SM_DAY_MINUTES;
			if (calendar_window_holds(window, today))
				stretches[n++] = stretch;
			stretch.from_minute = 0;
			stretch.to_minute = window->to_minute;
			if (night && window->to_minute > 0 && calendar_window_holds(window, yesterday))
				stretches[n++] = stretch;
		}
	return n;
}

/*
 * The period without windows, else the last one.
 */
static int16_t
calendar_rest(const SmSchedule *schedule)
{
	int16_t period;

	for (period = 0; period < schedule->n_periods - 1; period++)
		if (schedule->periods[period].n_windows == 0)
			break;
	return period;
}

/*
 * The first stretch a minute is in, -1 when in none, and until when nothing
 * changes at the earliest.
 */
int
calendar_stretch_at(const SmDayStretch *stretches, int n_stretches, int minute, int *until)
{
	int found = -1;
	int i;

	*until = SM_DAY_MINUTES;
	for (i = 0; i < n_stretches; i++)
	{
		const SmDayStretch *stretch = &stretches[i];

		if (stretch->from_minute > minute && stretch->from_minute < *until)
			*until = stretch->from_minute;
		if (stretch->from_minute > minute || stretch->to_minute <= minute)
			continue;
		if (stretch->to_minute < *until)
			*until = stretch->to_minute;
		if (found < 0)
			found = i;
	}
	return found;
}

/*
 * The parts of a local day by the clock on the wall: where each begins and
 * which period it is in.  Neighbours differ.  parts has room for
 * SM_MAX_DAY_PARTS; the result is how many there are, at least one.
 */
int
calendar_day_parts(const SmSchedule *schedule, const SmCalendar *calendar, int32_t day,
				   SmDayPart *parts)
{
	SmDayStretch stretches[SM_MAX_DAY_STRETCHES];
	SmDayFacts today;
	SmDayFacts yesterday;
	int16_t rest;
	int n_stretches;
	int n_parts = 0;
	int minute = 0;

	if (schedule->n_periods == 0)
	{
		parts[0] = (SmDayPart){0, 0};
		return 1;
	}
	today = calendar_facts(schedule, calendar, day);
	yesterday = calendar_facts(schedule, calendar, day - 1);
	rest = calendar_rest(schedule);
	n_stretches = calendar_stretches(schedule, &today, &yesterday, stretches);
	while (minute < SM_DAY_MINUTES)
	{
		int until;
		int found = calendar_stretch_at(stretches, n_stretches, minute, &until);
		int16_t period = (found < 0) ? rest : stretches[found].period;

		if (n_parts == 0 || parts[n_parts - 1].period != period)
			parts[n_parts++] = (SmDayPart){(int16_t) minute, period};
		minute = until;
	}
	return n_parts;
}
