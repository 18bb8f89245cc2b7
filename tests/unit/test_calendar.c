/*
 * test_calendar.c
 *		Days, seasons and windows: which period a local time is in. Prints TAP.
 */
/* links: extension/calendar.c extension/calendar_check.c */
#include <stdlib.h>

#include "../../extension/calendar.h"
#include "test_poller_tap.h"
#include "test_random.h"

#define ALL_DAYS 7
#define HOT_DAY 1

enum
{
	SHARP,
	PEAK,
	VALLEY,
	FLAT
};

/* Guangdong commercial: sharp all of July to September, and on hot days */
static const SmSchedule guangdong = {
	.n_seasons = 2,
	.seasons = {{"hot", 701, 1001}, {"winter", 1101, 501}},
	.n_periods = 4,
	.periods = {{"sharp", 3, 0}, {"peak", 2, 3}, {"valley", 1, 5}, {"flat", 0, 6}},
	.n_windows = 6,
	.windows = {{660, 720, ALL_DAYS, 1, 0},
				{900, 1020, ALL_DAYS, 1, 0},
				{900, 1020, 1 << SM_DAY_WORKDAY | 1 << SM_DAY_WEEKEND, 0, HOT_DAY},
				{600, 720, ALL_DAYS, 0, 0},
				{840, 1140, ALL_DAYS, 0, 0},
				{0, 480, ALL_DAYS, 0, 0}}};

/*
 * The period of a minute of a day.
 */
static int
period_at(const SmSchedule *schedule, const SmCalendar *calendar, int32_t day, int minute)
{
	SmDayPart parts[SM_MAX_DAY_PARTS];
	int i = calendar_day_parts(schedule, calendar, day, parts) - 1;

	while (parts[i].from_minute > minute)
		i--;
	return parts[i].period;
}

static void
test_dates(void)
{
	int year;
	int month;
	int day_of_month;
	int wrong = 0;
	int32_t day;

	is(calendar_day(2000, 1, 1), 0, "days are counted from 2000-01-01");
	is(calendar_day(1970, 1, 1), -10957, "the epoch of Unix");
	is(calendar_day(2026, 11, 22), 9822, "a day of our time");
	is(calendar_day(2025, 2, 29), calendar_day(2025, 3, 1), "02-29 of a common year is 03-01");
	is(calendar_day(2024, 2, 29), calendar_day(2024, 3, 1) - 1, "02-29 of a leap year is itself");
	for (day = -800000; day < 800000; day++)
	{
		calendar_date(day, &year, &month, &day_of_month);
		wrong += calendar_day(year, month, day_of_month) != day || month < 1 || month > 12 ||
				 day_of_month < 1 || day_of_month > 31;
	}
	is(wrong, 0, "1.6 million days there and back");
	is(calendar_month_days(calendar_day(2024, 2, 10)), 29, "February of a leap year");
	is(calendar_month_days(calendar_day(1900, 2, 10)), 28, "1900 was none");
	is(calendar_month_days(calendar_day(2025, 12, 31)), 31, "December");
}

static void
test_day_types(void)
{
	SmCalendarDay days[2] = {{calendar_day(2026, 10, 1), SM_DAY_HOLIDAY, 0},
							 {calendar_day(2026, 10, 10), SM_DAY_WORKDAY, 5}};
	SmCalendar calendar = {2, days};

	is(calendar_day_type(NULL, calendar_day(2026, 11, 20)), SM_DAY_WORKDAY, "a Friday");
	is(calendar_day_type(NULL, calendar_day(2026, 11, 21)), SM_DAY_WEEKEND, "a Saturday");
	is(calendar_day_type(NULL, calendar_day(2026, 11, 22)), SM_DAY_WEEKEND, "a Sunday");
	is(calendar_day_type(NULL, calendar_day(2026, 11, 23)), SM_DAY_WORKDAY, "a Monday");
	is(calendar_day_type(NULL, calendar_day(1999, 12, 31)), SM_DAY_WORKDAY, "a Friday before 2000");
	is(calendar_day_type(NULL, calendar_day(1999, 12, 26)), SM_DAY_WEEKEND, "a Sunday before 2000");
	is(calendar_day_type(&calendar, days[0].day), SM_DAY_HOLIDAY, "a holiday on a Thursday");
	is(calendar_day_type(&calendar, days[1].day), SM_DAY_WORKDAY, "a Saturday worked");
	is(calendar_day_type(&calendar, days[1].day + 1), SM_DAY_WEEKEND, "the Sunday after it");
	is((int64_t) calendar_day_flags(&calendar, days[1].day), 5, "its flags");
	is((int64_t) calendar_day_flags(&calendar, days[1].day + 1), 0, "other days have none");
}

static void
test_seasons(void)
{
	SmSchedule leap = {.n_seasons = 1, .seasons = {{"leap", 229, 301}}};

	ok(calendar_in_season(&guangdong, 0, calendar_day(2025, 7, 1)), "a season has its first day");
	ok(!calendar_in_season(&guangdong, 0, calendar_day(2025, 10, 1)), "and not its last");
	ok(calendar_in_season(&guangdong, 1, calendar_day(2025, 12, 31)) &&
		   calendar_in_season(&guangdong, 1, calendar_day(2026, 1, 1)) &&
		   calendar_in_season(&guangdong, 1, calendar_day(2026, 4, 30)) &&
		   !calendar_in_season(&guangdong, 1, calendar_day(2026, 5, 1)),
	   "a season goes over the new year");
	is(calendar_season_start(&guangdong, 3, calendar_day(2026, 2, 1)), calendar_day(2025, 11, 1),
	   "it began in the year before");
	is(calendar_season_start(&guangdong, 3, calendar_day(2025, 8, 1)), calendar_day(2025, 7, 1),
	   "summer within summer");
	is(calendar_season_start(&guangdong, 2, calendar_day(2025, 8, 1)), calendar_day(2025, 5, 1),
	   "a season that does not count changes nothing");
	is(calendar_season_start(&guangdong, 3, calendar_day(2025, 10, 1)), calendar_day(2025, 10, 1),
	   "the day on which it ends begins the next stretch");
	is(calendar_season_start(&guangdong, 0, calendar_day(2025, 10, 1)), calendar_day(2025, 1, 1),
	   "where no season counts it is the new year");
	is(calendar_season_start(&leap, 1, calendar_day(2027, 6, 1)), calendar_day(2024, 3, 1),
	   "a season of the leap day alone");
}

static void
test_guangdong(void)
{
	SmCalendarDay days[2] = {{calendar_day(2025, 10, 1), SM_DAY_HOLIDAY, HOT_DAY},
							 {calendar_day(2025, 10, 13), SM_DAY_WORKDAY, HOT_DAY}};
	SmCalendar calendar = {2, days};
	SmDayPart parts[SM_MAX_DAY_PARTS];
	int32_t spring = calendar_day(2025, 5, 6);
	int32_t summer = calendar_day(2025, 7, 6);

	is(calendar_day_parts(&guangdong, &calendar, spring, parts), 6, "six parts in spring");
	is(period_at(&guangdong, &calendar, spring, 0), VALLEY, "midnight is valley");
	is(period_at(&guangdong, &calendar, spring, 479), VALLEY, "07:59 is valley");
	is(period_at(&guangdong, &calendar, spring, 480), FLAT, "08:00 is flat");
	is(period_at(&guangdong, &calendar, spring, 660), PEAK, "11:00 is peak in May");
	is(period_at(&guangdong, &calendar, summer, 660), SHARP, "and sharp in July");
	is(period_at(&guangdong, &calendar, summer, 720), FLAT, "12:00 is flat");
	is(period_at(&guangdong, &calendar, summer, 1020), PEAK, "17:00 is peak again");
	is(period_at(&guangdong, &calendar, summer, 1439), FLAT, "the evening is flat");
	is(period_at(&guangdong, &calendar, days[1].day, 930), SHARP,
	   "15:30 of a hot workday is sharp");
	is(period_at(&guangdong, &calendar, days[0].day, 930), PEAK, "of a hot holiday it is not");
	is(period_at(&guangdong, &calendar, days[1].day, 690), PEAK,
	   "the hour before noon only in season");
}

static void
test_midnight(void)
{
	/* night 22-06 on workdays, the weekend 20-00 and its holidays 23-24 */
	static const SmSchedule night = {.n_periods = 2,
									 .periods = {{"day", 0, 0}, {"night", 3, 0}},
									 .n_windows = 3,
									 .windows = {{1320, 360, 1 << SM_DAY_WORKDAY, 0, 0},
												 {1200, 0, 1 << SM_DAY_WEEKEND, 0, 0},
												 {1380, 1440, 1 << SM_DAY_HOLIDAY, 0, 0}}};
	int32_t friday = calendar_day(2026, 11, 20);
	SmCalendarDay holiday = {friday, SM_DAY_HOLIDAY, 0};
	SmCalendar calendar = {1, &holiday};
	SmDayPart parts[SM_MAX_DAY_PARTS];

	is(period_at(&night, NULL, friday, 1400), 1, "Friday night");
	is(period_at(&night, NULL, friday + 1, 300), 1, "goes on into Saturday");
	is(period_at(&night, NULL, friday + 1, 360), 0, "until six");
	is(period_at(&night, NULL, friday + 1, 1200), 1, "Saturday's begins at eight");
	is(period_at(&night, NULL, friday + 2, 0), 0, "and ends at midnight");
	is(period_at(&night, NULL, friday + 3, 300), 0, "Monday's early hours are Sunday's");
	is(period_at(&night, &calendar, friday + 1, 300), 0, "so are Saturday's after a holiday");
	is(period_at(&night, &calendar, friday, 300), 1,
	   "a holiday begins with the night of the workday before");
	is(period_at(&night, &calendar, friday, 1379), 0, "its own window");
	is(period_at(&night, &calendar, friday, 1439), 1, "ends with the day");
	is(calendar_day_parts(&night, NULL, friday + 2, parts), 2,
	   "a rest that comes first is the rest");
}

/*
 * The period of a minute by the words of the design, minute by minute.
 */
static int
period_by_definition(const SmSchedule *schedule, const SmCalendar *calendar, int32_t day,
					 int minute)
{
	int rest = schedule->n_periods - 1;
	int period;
	int i;
	int s;

	for (period = 0; period < schedule->n_periods; period++)
	{
		const SmPeriod *row = &schedule->periods[period];

		if (row->n_windows == 0)
			rest = period;
		for (i = row->first_window; i < row->first_window + row->n_windows; i++)
		{
			const SmWindow *window = &schedule->windows[i];
			bool late = minute >= window->from_minute;
			bool in = window->to_minute > window->from_minute ? late && minute < window->to_minute
															  : late || minute < window->to_minute;
			int32_t owner = late ? day : day - 1;
			bool season = window->seasons == 0;

			for (s = 0; s < schedule->n_seasons; s++)
				season = season || ((window->seasons >> s & 1) != 0 &&
									calendar_in_season(schedule, s, owner));
			if (in && season &&
				(window->day_types >> calendar_day_type(calendar, owner) & 1) != 0 &&
				(window->flags & calendar_day_flags(calendar, owner)) == window->flags)
				return period;
		}
	}
	return rest;
}

/*
 * Any schedule with a rest of the day.
 */
static void
random_schedule(SmSchedule *schedule)
{
	int i;

	memset(schedule, 0, sizeof(*schedule));
	schedule->n_seasons = (int) random_below(4);
	for (i = 0; i < schedule->n_seasons; i++)
	{
		schedule->seasons[i].from_mmdd =
			(int16_t) (100 * (1 + random_below(12)) + 1 + random_below(28));
		schedule->seasons[i].to_mmdd =
			(int16_t) (100 * (1 + random_below(12)) + 1 + random_below(28));
	}
	schedule->n_periods = 1 + (int) random_below(5);
	for (i = 0; i < schedule->n_periods; i++)
	{
		SmPeriod *period = &schedule->periods[i];
		int n = (i == schedule->n_periods - 1) ? 0 : 1 + (int) random_below(4);

		period->first_window = schedule->n_windows;
		period->n_windows = n;
		while (n-- > 0)
		{
			SmWindow *window = &schedule->windows[schedule->n_windows++];

			window->from_minute = (int16_t) random_below(SM_DAY_MINUTES);
			do
				window->to_minute = (int16_t) random_below(SM_DAY_MINUTES + 1);
			while (window->to_minute == window->from_minute);
			window->day_types = (uint8_t) (1 + random_below(7));
			window->seasons = (uint16_t) random_below(1 << schedule->n_seasons);
			window->flags = random_below(3) == 0 ? 1 + (uint64_t) random_below(3) : 0;
		}
	}
}

static void
test_random_schedules(void)
{
	int wrong = 0;
	int dead = 0;
	int alive = 0;
	int round;

	for (round = 0; round < 3000; round++)
	{
		SmSchedule schedule;
		SmCalendarDay days[20];
		SmCalendar calendar = {20, days};
		SmDayPart parts[SM_MAX_DAY_PARTS];
		int32_t first = (int32_t) random_below(20000);
		int32_t day;
		int n;
		int i;

		random_schedule(&schedule);
		for (i = 0; i < 20; i++)
		{
			days[i].day = first + 2 * i;
			days[i].type = (SmDayType) random_below(3);
			days[i].flags = (uint64_t) random_below(4);
		}
		day = first + (int32_t) random_below(40);
		n = calendar_day_parts(&schedule, &calendar, day, parts);
		wrong += n < 1 || parts[0].from_minute != 0;
		for (i = 1; i < n; i++)
			wrong += parts[i].from_minute <= parts[i - 1].from_minute ||
					 parts[i].period == parts[i - 1].period;
		for (i = 0; i < 100; i++)
		{
			int minute = (int) random_below(SM_DAY_MINUTES);

			wrong += period_at(&schedule, &calendar, day, minute) !=
					 period_by_definition(&schedule, &calendar, day, minute);
		}
		if (calendar_dead_window(&schedule) >= 0)
			dead++;
		else
			alive++;
	}
	is(wrong, 0, "3,000 random schedules: every minute is in the period the words say");
	ok(dead > 100 && alive > 100, "some have windows that can never match, some have not");
}

static void
test_checks(void)
{
	SmSchedule schedule = guangdong;

	is(calendar_dead_window(&schedule), -1, "every window of a sane schedule matters");
	is(calendar_gap(&schedule), -1, "and the rest of the day leaves no gap");
	schedule.n_periods = 3;
	is(calendar_gap(&schedule), 480, "without it the gap begins at 08:00");
	schedule.periods[2] = (SmPeriod){"valley", 1, 5};
	schedule.windows[5] = (SmWindow){1140, 600, ALL_DAYS, 0, 0};
	is(calendar_gap(&schedule), 720, "noon is left over");
	schedule.windows[3] = (SmWindow){600, 840, ALL_DAYS, 0, 0};
	is(calendar_gap(&schedule), -1, "windows that meet leave none");
	schedule.windows[5].day_types = 1 << SM_DAY_WORKDAY;
	is(calendar_gap(&schedule), 1140, "only workdays: Saturday's evening is in none");
	schedule = guangdong;
	schedule.windows[2] = (SmWindow){915, 1000, ALL_DAYS, 1, HOT_DAY};
	is(calendar_dead_window(&schedule), 2,
	   "a flag inside a window of the same season decides nothing");
	schedule.windows[2].seasons = 0;
	is(calendar_dead_window(&schedule), -1, "in other seasons it does");
	schedule.windows[5] = (SmWindow){1100, 615, 1 << SM_DAY_HOLIDAY, 0, 0};
	is(calendar_dead_window(&schedule), -1, "a night that peeks out behind the peak");
	schedule.windows[5] = (SmWindow){1000, 1100, ALL_DAYS, 0, 0};
	is(calendar_dead_window(&schedule), 5, "a window inside the peak does not");
}

int
main(void)
{
	test_dates();
	test_day_types();
	test_seasons();
	test_guangdong();
	test_midnight();
	test_random_schedules();
	test_checks();
	return tap_done();
}
