/*
 * meter_clock.c - the clock of a DL/T 645 meter: asking for it, what it says, setting it
 *
 * Meters show date and time in one item (0400010C) or in two that follow each other: 04000101 and
 * 04000102, C010 and C011. Of two, the date comes first; when the time then is just past midnight
 * the date may be that of the day before, so it is asked for again.
 */
#include <stdio.h>
#include <string.h>

#include "meter_clock.h"

#define METER_CLOCK_WHOLE 0x0400010CU
#define METER_CLOCK_DATE 0x04000101U
#define METER_CLOCK_DATE_1997 0xC010U
#define METER_CLOCK_DATE_BYTES 4
#define METER_CLOCK_TIME_BYTES 3
#define METER_CLOCK_MIDNIGHT_S 60
#define METER_CLOCK_DAY_S 86400

/* Begins to read a clock by what the model says of it; false when that is no clock we know. */
bool
meter_clock_begin(SmMeterClock *clock, SmProtocol protocol, const char *di)
{
	memset(clock, 0, sizeof(*clock));
	if (!dlt645_parse_di(protocol, di, &clock->di))
		return false;
	clock->whole = clock->di == METER_CLOCK_WHOLE;
	return clock->whole || clock->di == METER_CLOCK_DATE || clock->di == METER_CLOCK_DATE_1997;
}

/* A meter without the item that holds both is asked for the two; false when it was already. */
bool
meter_clock_fall_back(SmMeterClock *clock)
{
	if (!clock->whole)
		return false;
	clock->whole = false;
	clock->di = METER_CLOCK_DATE;
	clock->step = 0;
	return true;
}

/* Builds the next question. */
bool
meter_clock_ask(const SmMeterClock *clock, const SmTarget *target, SmRequest *request)
{
	return dlt645_build_read(request, target, clock->di + (clock->step == 1 ? 1 : 0));
}

/* A pair of digits; -1 when it is none. */
static int
meter_clock_pair(uint8_t byte)
{
	if (byte >> 4 > 9 || (byte & 0x0F) > 9)
		return -1;
	return (byte >> 4) * 10 + (byte & 0x0F);
}

static int
meter_clock_month_days(int year, int month)
{
	static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && year % 4 == 0 ? 29 : days[month - 1];
}

/* WW DD MM YY, as they stand in a frame. */
static bool
meter_clock_date(const uint8_t *data, SmDltTime *time)
{
	time->day = meter_clock_pair(data[1]);
	time->month = meter_clock_pair(data[2]);
	time->year = meter_clock_pair(data[3]);
	return time->year >= 0 && time->month >= 1 && time->month <= 12 && time->day >= 1 &&
		   time->day <= meter_clock_month_days(time->year, time->month);
}

/* ss mm hh, as they stand in a frame. */
static bool
meter_clock_time(const uint8_t *data, SmDltTime *time)
{
	time->second = meter_clock_pair(data[0]);
	time->minute = meter_clock_pair(data[1]);
	time->hour = meter_clock_pair(data[2]);
	return time->second >= 0 && time->second < 60 && time->minute >= 0 && time->minute < 60 &&
		   time->hour >= 0 && time->hour < 24;
}

/* Takes an answer: the data behind its identifier. */
SmClockState
meter_clock_take(SmMeterClock *clock, const uint8_t *data, int length)
{
	int wanted = clock->whole       ? METER_CLOCK_TIME_BYTES + METER_CLOCK_DATE_BYTES
				 : clock->step == 1 ? METER_CLOCK_TIME_BYTES
									: METER_CLOCK_DATE_BYTES;
	SmDltTime *time = &clock->time;

	if (length != wanted)
		return CLOCK_NONSENSE;
	if (clock->whole)
		return meter_clock_time(data, time) && meter_clock_date(data + METER_CLOCK_TIME_BYTES, time)
				   ? CLOCK_KNOWN
				   : CLOCK_NONSENSE;
	if (clock->step == 1 ? !meter_clock_time(data, time) : !meter_clock_date(data, time))
		return CLOCK_NONSENSE;
	clock->step++;
	if (clock->step == 1)
		return CLOCK_MORE;
	if (clock->step == 2 &&
		time->hour * 60 * 60 + time->minute * 60 + time->second < METER_CLOCK_MIDNIGHT_S)
		return CLOCK_MORE;
	return CLOCK_KNOWN;
}

static uint8_t
meter_clock_bcd(int value)
{
	return (uint8_t) ((value / 10 % 10) << 4 | value % 10);
}

/*
 * Builds the write of the date (step 0) or the time (step 1) of a 2007 meter; false for others.
 * Weekdays count from 0, Sunday.
 */
bool
meter_clock_set(const SmTarget *target, const SmDltKey *key, int step, const SmDltTime *time,
				SmRequest *request)
{
	int64_t days = meter_clock_seconds(time) / METER_CLOCK_DAY_S;
	const uint8_t date[METER_CLOCK_DATE_BYTES] = {
		/* 1 January 2000 was a Saturday */
		meter_clock_bcd((int) ((days + 6) % 7)), meter_clock_bcd(time->day),
		meter_clock_bcd(time->month), meter_clock_bcd(time->year)};
	const uint8_t clock[METER_CLOCK_TIME_BYTES] = {
		meter_clock_bcd(time->second), meter_clock_bcd(time->minute), meter_clock_bcd(time->hour)};

	if (target->protocol != PROTOCOL_DLT645_2007)
		return false;
	if (step == 0)
		return dlt645_build_write(request, target, METER_CLOCK_DATE, key, date, sizeof(date));
	return dlt645_build_write(request, target, METER_CLOCK_DATE + 1, key, clock, sizeof(clock));
}

/* Reads YYMMDDhhmmss. */
bool
meter_clock_parse(const char *text, SmDltTime *time)
{
	int *const parts[6] = {&time->year, &time->month,  &time->day,
						   &time->hour, &time->minute, &time->second};
	int i;

	if (text == NULL || strspn(text, "0123456789") != 12 || text[12] != '\0')
		return false;
	for (i = 0; i < 6; i++)
		*parts[i] = (text[2 * i] - '0') * 10 + text[2 * i + 1] - '0';
	return time->month >= 1 && time->month <= 12 && time->day >= 1 &&
		   time->day <= meter_clock_month_days(time->year, time->month) && time->hour < 24 &&
		   time->minute < 60 && time->second < 60;
}

/* Writes YYYY-MM-DD hh:mm:ss, as the database reads it. */
void
meter_clock_text(const SmDltTime *time, char *text)
{
	snprintf(text, METER_CLOCK_TEXT, "20%02d-%02d-%02d %02d:%02d:%02d", time->year % 100,
			 time->month % 100, time->day % 100, time->hour % 100, time->minute % 100,
			 time->second % 100);
}

/* Seconds since the beginning of the year 2000. */
int64_t
meter_clock_seconds(const SmDltTime *time)
{
	int64_t days = time->year * 365 + (time->year + 3) / 4;
	int month;

	for (month = 1; month < time->month; month++)
		days += meter_clock_month_days(time->year, month);
	return ((days + time->day - 1) * 24 + time->hour) * 3600 + time->minute * 60 + time->second;
}

/* The time that many seconds after the beginning of the year 2000; the years end with 2099. */
void
meter_clock_at(int64_t seconds, SmDltTime *time)
{
	int64_t days = seconds / METER_CLOCK_DAY_S;
	int rest = (int) (seconds % METER_CLOCK_DAY_S);

	memset(time, 0, sizeof(*time));
	for (time->year = 0; days >= (time->year % 4 == 0 ? 366 : 365); time->year++)
		days -= time->year % 4 == 0 ? 366 : 365;
	for (time->month = 1; days >= meter_clock_month_days(time->year, time->month); time->month++)
		days -= meter_clock_month_days(time->year, time->month);
	time->day = (int) days + 1;
	time->hour = rest / 3600;
	time->minute = rest / 60 % 60;
	time->second = rest % 60;
}
