/*
 * calendar_check.c
 *		What no day can reach in a schedule, and what nothing covers.
 *
 * Both questions are answered by trying: every pair of seasons two days in a
 * row can have, every type each of them can be.  Flags are tried as they help
 * most: none at all where windows should leave a gap, only its own where a
 * window should show.
 *
 * Pure, like calendar.c.
 */
#include "calendar.h"

#define CHECK_MAX_PAIRS (4 * SM_MAX_SEASONS + 2)
#define CHECK_LEAP_YEAR_DAYS 366 /* 2000 was a leap year, which begins with day 0 */
#define CHECK_DAY_TYPES (SM_DAY_HOLIDAY + 1)

/* Two days in a row. */
typedef struct CheckPair
{
	SmDayFacts yesterday;
	SmDayFacts today;
} CheckPair;

/*
 * All pairs of seasons of two days in a row; the result is how many.
 */
static int
check_pairs(const SmSchedule *schedule, CheckPair *pairs)
{
	int n = 0;
	int32_t day;

	for (day = 0; day < CHECK_LEAP_YEAR_DAYS; day++)
	{
		CheckPair pair = {{SM_DAY_WORKDAY, calendar_seasons(schedule, day - 1), 0},
						  {SM_DAY_WORKDAY, calendar_seasons(schedule, day), 0}};
		int i = 0;

		while (i < n && (pairs[i].yesterday.seasons != pair.yesterday.seasons ||
						 pairs[i].today.seasons != pair.today.seasons))
			i++;
		if (i == n && n < CHECK_MAX_PAIRS)
			pairs[n++] = pair;
	}
	return n;
}

/*
 * The first minute of a day no window takes; -1 when all are taken.
 */
static int
check_day_gap(const SmSchedule *schedule, const CheckPair *pair)
{
	SmDayStretch stretches[SM_MAX_DAY_STRETCHES];
	int n_stretches = calendar_stretches(schedule, &pair->today, &pair->yesterday, stretches);
	int minute = 0;

	while (minute < SM_DAY_MINUTES)
	{
		int until;

		if (calendar_stretch_at(stretches, n_stretches, minute, &until) < 0)
			return minute;
		minute = until;
	}
	return -1;
}

/*
 * The windows that decide some minute of a day, as bits.
 */
static uint64_t
check_day_windows(const SmSchedule *schedule, const CheckPair *pair)
{
	SmDayStretch stretches[SM_MAX_DAY_STRETCHES];
	int n_stretches = calendar_stretches(schedule, &pair->today, &pair->yesterday, stretches);
	uint64_t windows = 0;
	int minute = 0;

	while (minute < SM_DAY_MINUTES)
	{
		int until;
		int found = calendar_stretch_at(stretches, n_stretches, minute, &until);

		if (found >= 0)
			windows |= UINT64_C(1) << stretches[found].window;
		minute = until;
	}
	return windows;
}

/*
 * Set the type of both days by a number from 0 to CHECK_DAY_TYPES squared.
 */
static void
check_set_types(CheckPair *pair, int types)
{
	pair->yesterday.type = (SmDayType) (types / CHECK_DAY_TYPES);
	pair->today.type = (SmDayType) (types % CHECK_DAY_TYPES);
}

/*
 * A minute that on some day no window takes, where no period is the rest of
 * the day; -1 when there is none.
 */
int
calendar_gap(const SmSchedule *schedule)
{
	CheckPair pairs[CHECK_MAX_PAIRS];
	int n_pairs = check_pairs(schedule, pairs);
	int i;
	int types;

	for (i = 0; i < schedule->n_periods; i++)
		if (schedule->periods[i].n_windows == 0)
			return -1;
	for (i = 0; i < n_pairs; i++)
		for (types = 0; types < CHECK_DAY_TYPES * CHECK_DAY_TYPES; types++)
		{
			int minute;

			check_set_types(&pairs[i], types);
			minute = check_day_gap(schedule, &pairs[i]);
			if (minute >= 0)
				return minute;
		}
	return -1;
}

/*
 * The windows that decide a minute of some day on which only the given flags
 * are set, today or yesterday.
 */
static uint64_t
check_flag_windows(const SmSchedule *schedule, CheckPair *pairs, int n_pairs, uint64_t flags)
{
	uint64_t windows = 0;
	int i;
	int types;

	for (i = 0; i < n_pairs; i++)
		for (types = 0; types < CHECK_DAY_TYPES * CHECK_DAY_TYPES; types++)
		{
			check_set_types(&pairs[i], types);
			pairs[i].today.flags = flags;
			pairs[i].yesterday.flags = 0;
			windows |= check_day_windows(schedule, &pairs[i]);
			pairs[i].today.flags = 0;
			pairs[i].yesterday.flags = flags;
			windows |= check_day_windows(schedule, &pairs[i]);
		}
	return windows;
}

/*
 * The first window that decides no minute of any day, because earlier ones
 * take all its time or its season has no day; -1 when there is none.
 */
int
calendar_dead_window(const SmSchedule *schedule)
{
	CheckPair pairs[CHECK_MAX_PAIRS];
	int n_pairs = check_pairs(schedule, pairs);
	uint64_t alive = check_flag_windows(schedule, pairs, n_pairs, 0);
	int i;

	for (i = 0; i < schedule->n_windows; i++)
	{
		if ((alive >> i & 1) == 0 && schedule->windows[i].flags != 0)
			alive |= check_flag_windows(schedule, pairs, n_pairs, schedule->windows[i].flags);
		if ((alive >> i & 1) == 0)
			return i;
	}
	return -1;
}
