/*
 * freeze.c - the registers that a DL/T 645 meter froze; see freeze.h
 *
 * Entries are counted backwards from now, so what was the third last a moment ago may be the fourth
 * last now, and a meter that was without power has fewer. Only the time kept with an entry says of
 * when it is; the number is a guess that freeze_shift() puts right.
 */
#include <stdlib.h>
#include <string.h>

#include "freeze.h"

#define FREEZE_STAMP 5

bool
freeze_find_kind(const char *name, SmFreezeKind *kind)
{
	static const char *const names[] = {"hourly", "daily", "settlement", "concentrator"};
	int i;

	for (i = 0; i < 4; i++)
	{
		if (strcmp(name, names[i]) == 0)
		{
			*kind = (SmFreezeKind) i;
			return true;
		}
	}
	return false;
}

static int
freeze_days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && year % 4 == 0);
}

/* Minutes since 2000 of a time in this century; false when there is no such time. */
static bool
freeze_minutes(const int part[FREEZE_STAMP], int64_t *minute)
{
	int64_t days;
	int month;

	if (part[1] < 1 || part[1] > 12 || part[2] < 1 ||
		part[2] > freeze_days_of_month(part[0], part[1]) || part[3] > 23 || part[4] > 59)
		return false;
	days = part[0] * 365 + (part[0] + 3) / 4 + part[2] - 1;
	for (month = 1; month < part[1]; month++)
		days += freeze_days_of_month(part[0], month);
	*minute = (days * 24 + part[3]) * 60 + part[4];
	return true;
}

/* Two digits of text; -1 when they are none. */
static int
freeze_digits(const char *text)
{
	if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
		return -1;
	return (text[0] - '0') * 10 + text[1] - '0';
}

/* One entry, "YYMMDDhhmm=ms=n"; where it ends, NULL when it is none. */
static const char *
freeze_parse_entry(const char *text, SmFreezeEntry *entry)
{
	int part[FREEZE_STAMP];
	char *end;
	int i;

	if (strnlen(text, 12) < 12)
		return NULL;
	for (i = 0; i < FREEZE_STAMP; i++)
	{
		part[i] = freeze_digits(text + 2 * i);
		if (part[i] < 0)
			return NULL;
	}
	if (!freeze_minutes(part, &entry->minute) || text[10] != '=')
		return NULL;
	entry->ts_ms = strtoll(text + 11, &end, 10);
	if (end == text + 11 || *end != '=')
		return NULL;
	text = end + 1;
	entry->back = (int) strtol(text, &end, 10);
	return end == text || entry->back < 1 || entry->back > FREEZE_ENTRIES_MAX ? NULL : end;
}

/* Reads a list of entries with spaces between them; returns their number, -1 when it is no list. */
int
freeze_parse_entries(const char *text, SmFreezeEntry *entries, int most)
{
	int count = 0;

	while (*text != '\0')
	{
		if (count == most)
			return -1;
		text = freeze_parse_entry(text, &entries[count]);
		if (text == NULL || (*text != ' ' && *text != '\0'))
			return -1;
		count++;
		text += *text == ' ';
	}
	return count;
}

/* A byte of two decimal digits; -1 when it is none. */
static int
freeze_bcd(uint8_t byte)
{
	return (byte & 0x0F) > 9 || byte >> 4 > 9 ? -1 : (byte >> 4) * 10 + (byte & 0x0F);
}

/* The time an entry is of: YYMMDDhhmm, lowest first. All FFH or all 0: there is no entry. */
SmFreezeTime
freeze_time(const uint8_t *data, int length, int64_t *minute)
{
	static const uint8_t nothing[2][FREEZE_STAMP] = {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, {0}};
	int part[FREEZE_STAMP];
	int i;

	if (length < FREEZE_STAMP)
		return FREEZE_NONSENSE;
	if (memcmp(data, nothing[0], FREEZE_STAMP) == 0 || memcmp(data, nothing[1], FREEZE_STAMP) == 0)
		return FREEZE_ABSENT;
	for (i = 0; i < FREEZE_STAMP; i++)
	{
		part[i] = freeze_bcd(data[FREEZE_STAMP - 1 - i]);
		if (part[i] < 0)
			return FREEZE_NONSENSE;
	}
	return freeze_minutes(part, minute) ? FREEZE_KNOWN : FREEZE_NONSENSE;
}

/* The day and hour on which the meter ends its month, as DDhh; false when it says none. */
bool
freeze_settlement_day(const uint8_t *data, int length, char text[5])
{
	int hour = length < 2 ? -1 : freeze_bcd(data[0]);
	int day = length < 2 ? -1 : freeze_bcd(data[1]);

	if (hour < 0 || hour > 23 || day < 1 || day > 28)
		return false;
	text[0] = (char) ('0' + day / 10);
	text[1] = (char) ('0' + day % 10);
	text[2] = (char) ('0' + hour / 10);
	text[3] = (char) ('0' + hour % 10);
	text[4] = '\0';
	return true;
}

static uint8_t
freeze_to_bcd(int number)
{
	return (uint8_t) (number / 10 << 4 | number % 10);
}

/* The day that ended at a midnight, as a concentrator names it: day, month, year. */
void
freeze_day(int64_t minute, uint8_t day[3])
{
	int64_t left = (minute - 1) / 1440;
	int year = 0;
	int month = 1;

	for (; left >= 365 + (year % 4 == 0); year++)
		left -= 365 + (year % 4 == 0);
	for (; left >= freeze_days_of_month(year, month); month++)
		left -= freeze_days_of_month(year, month);
	day[0] = freeze_to_bcd((int) left + 1);
	day[1] = freeze_to_bcd(month);
	day[2] = freeze_to_bcd(year);
}

/*
 * How much further back the wanted entry is than the one that was found in its place. False when
 * the two are not whole steps apart, so that there may be no such entry at all.
 */
bool
freeze_shift(SmFreezeKind kind, int64_t wanted, int64_t found, int *shift)
{
	int64_t step = kind == FREEZE_HOURLY ? 60 : 1440;
	int64_t apart = found - wanted;

	if (kind >= FREEZE_SETTLEMENT || apart % step != 0 || apart / step > FREEZE_ENTRIES_MAX ||
		apart / step < -FREEZE_ENTRIES_MAX)
		return false;
	*shift = (int) (apart / step);
	return true;
}
