/*
 * calendar.h
 *		Days, seasons and the windows of a day: which TOU period a local time is in.
 *
 * Pure, like rating.h.  Days are counted from 2000-01-01, minutes from local
 * midnight by the clock on the wall; what instant that is, the caller knows.
 */
#ifndef SUBMETER_CALENDAR_H
#define SUBMETER_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#define SM_DAY_MINUTES 1440
#define SM_MAX_SEASONS 16
#define SM_MAX_PERIODS 16
#define SM_MAX_WINDOWS 64 /* of all periods together */
#define SM_MAX_FLAGS 64
#define SM_MAX_DAY_PARTS (4 * SM_MAX_WINDOWS + 2)
#define SM_NAME_SIZE 64

typedef enum SmDayType
{
	SM_DAY_WORKDAY,
	SM_DAY_WEEKEND,
	SM_DAY_HOLIDAY
} SmDayType;

/* A day that differs from the plain week; flags are bits, see SmFlags. */
typedef struct SmCalendarDay
{
	int32_t day;
	SmDayType type;
	uint64_t flags;
} SmCalendarDay;

/* Sorted by day; days that are missing are as the weekday says and have no flags. */
typedef struct SmCalendar
{
	int n_days;
	const SmCalendarDay *days;
} SmCalendar;

/*
 * Names of day flags in play, by bit: filled while tariffs are compiled, read
 * when days are loaded.
 */
typedef struct SmFlags
{
	int n_names;
	char names[SM_MAX_FLAGS][SM_NAME_SIZE];
} SmFlags;

/*
 * Every year from one month and day (month x 100 + day) to another, which is no
 * part of it; may span the new year.
 */
typedef struct SmSeason
{
	char name[SM_NAME_SIZE];
	int16_t from_mmdd;
	int16_t to_mmdd;
} SmSeason;

/*
 * Part of days: to_minute <= from_minute goes over midnight and has the day
 * type, season and flags of the day it starts.
 */
typedef struct SmWindow
{
	int16_t from_minute;
	int16_t to_minute;
	uint8_t day_types; /* bits 1 << SmDayType */
	uint16_t seasons;  /* bits; 0: any */
	uint64_t flags;    /* bits, all of which the day must have; 0: any day */
} SmWindow;

typedef struct SmPeriod
{
	char name[SM_NAME_SIZE];
	int n_windows; /* 0: the rest of the day */
	int first_window;
} SmPeriod;

typedef struct SmSchedule
{
	int n_seasons;
	SmSeason seasons[SM_MAX_SEASONS];
	int n_periods; /* 0: a tariff without periods; everything is period 0 */
	SmPeriod periods[SM_MAX_PERIODS];
	int n_windows;
	SmWindow windows[SM_MAX_WINDOWS];
} SmSchedule;

/* From a minute of the day until the next part, or midnight. */
typedef struct SmDayPart
{
	int16_t from_minute;
	int16_t period;
} SmDayPart;

/* What windows ask of a day. */
typedef struct SmDayFacts
{
	SmDayType type;
	uint16_t seasons;
	uint64_t flags;
} SmDayFacts;

/* Minutes of a day taken by a window, and for which period. */
typedef struct SmDayStretch
{
	int16_t from_minute;
	int16_t to_minute;
	int16_t period;
	int16_t window;
} SmDayStretch;

#define SM_MAX_DAY_STRETCHES (2 * SM_MAX_WINDOWS)

/* calendar.c: days and their parts */
extern int32_t calendar_day(int year, int month, int day);
extern void calendar_date(int32_t day, int *year, int *month, int *day_of_month);
extern int calendar_month_days(int32_t day);
extern SmDayType calendar_day_type(const SmCalendar *calendar, int32_t day);
extern uint64_t calendar_day_flags(const SmCalendar *calendar, int32_t day);
extern bool calendar_in_season(const SmSchedule *schedule, int season, int32_t day);
extern uint16_t calendar_seasons(const SmSchedule *schedule, int32_t day);
extern int32_t calendar_season_start(const SmSchedule *schedule, uint16_t count, int32_t day);
extern int calendar_day_parts(const SmSchedule *schedule, const SmCalendar *calendar, int32_t day,
							  SmDayPart *parts);
extern int calendar_stretches(const SmSchedule *schedule, const SmDayFacts *today,
							  const SmDayFacts *yesterday, SmDayStretch *stretches);
extern int calendar_stretch_at(const SmDayStretch *stretches, int n_stretches, int minute,
							   int *until);

/* calendar_check.c: what no day can reach, and what nothing covers */
extern int calendar_dead_window(const SmSchedule *schedule);
extern int calendar_gap(const SmSchedule *schedule);

#endif /* SUBMETER_CALENDAR_H */
