/*
 * dlt_meter.c - what a DL/T 645 meter is: its settings, its key, its digits and its time
 */
#include <string.h>
#include <time.h>

#include "dlt.h"
#include "meter.h"
#include "parse.h"

/* Makes a meter one of DL/T 645. */
void
dlt_create(SmMeter *meter)
{
	SmDlt *dlt = farm_alloc(sizeof(SmDlt));

	dlt->level = 2;
	dlt->blocks = true;
	dlt->checks_validity = true;
	dlt->broadcast_time = true;
	dlt->frame_bytes = DLT_DATA_MAX;
	dlt->preamble = 4;
	dlt->prepaid_wh = -1;
	dlt->tou[2] = 100;
	dlt->synced_day = -1;
	meter->dlt = dlt;
	history_create(meter);
}

/* Sets how the energy divides over the four tariffs, in percent: 10/20/30/40. */
static bool
dlt_set_tou(SmDlt *dlt, const char *value)
{
	char copy[NAME_SIZE];
	char *rest = copy;
	char *item;
	int64_t parts[DLT_TARIFFS] = {0};
	int count = 0;

	if (strlen(value) >= sizeof(copy))
		return false;
	strcpy(copy, value);
	while ((item = strsep(&rest, "/")) != NULL)
		if (count == DLT_TARIFFS || !parse_integer(item, 0, 100, &parts[count++]))
			return false;
	if (count != DLT_TARIFFS || parts[0] + parts[1] + parts[2] + parts[3] != 100)
		return false;
	for (count = 0; count < DLT_TARIFFS; count++)
		dlt->tou[count] = (int) parts[count];
	return true;
}

/* Sets what an empty place of the memory reads as. */
static bool
dlt_set_empty(SmDlt *dlt, const char *value)
{
	static const char *const names[] = {"error", "zero", "ff"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strcmp(value, names[i]) != 0)
			continue;
		dlt->empty = (SmEmpty) i;
		return true;
	}
	return false;
}

/* Sets a setting that is a number. */
static bool
dlt_set_number(SmDlt *dlt, const char *key, const char *value)
{
	uint8_t digits[ADDRESS_BYTES];

	if (strcmp(key, "password") == 0)
		return strlen(value) == 6 && farm_parse_address(value, digits) &&
			   dlt_from_bcd(digits, 3, &dlt->password);
	if (strcmp(key, "level") == 0)
		return parse_integer(value, 0, 99, &dlt->level);
	if (strcmp(key, "frame_bytes") == 0)
		return parse_integer(value, 8, DLT_DATA_MAX, &dlt->frame_bytes);
	if (strcmp(key, "preamble") == 0)
		return parse_integer(value, 0, 64, &dlt->preamble);
	if (strcmp(key, "prepaid_kwh") == 0)
		return parse_fixed(value, 3, &dlt->prepaid_wh) && dlt->prepaid_wh >= 0;
	return false;
}

/* Applies a setting that only a DL/T 645 meter has; false when it is none or no good. */
bool
dlt_set(SmMeter *meter, const char *key, const char *value)
{
	SmDlt *dlt = meter->dlt;

	if (strcmp(key, "blocks") == 0)
		return parse_flag(value, &dlt->blocks);
	if (strcmp(key, "separators") == 0)
		return parse_flag(value, &dlt->separators);
	if (strcmp(key, "checks_validity") == 0)
		return parse_flag(value, &dlt->checks_validity);
	if (strcmp(key, "broadcast_time") == 0)
		return parse_flag(value, &dlt->broadcast_time);
	if (strcmp(key, "keep") == 0)
		return parse_flag(value, &dlt->keep);
	if (strcmp(key, "tou") == 0)
		return dlt_set_tou(dlt, value);
	if (strcmp(key, "empty") == 0)
		return dlt_set_empty(dlt, value);
	return dlt_set_number(dlt, key, value);
}

/* Tells what only a DL/T 645 meter has. */
void
dlt_describe(const SmMeter *meter, SmAnswer *answer)
{
	const SmDlt *dlt = meter->dlt;
	char address[2 * ADDRESS_BYTES + 1];

	farm_address_text(meter->address, address);
	command_say(answer, " address=%s keep=%s alarm=%s wants_key=%s", address,
				dlt->keep ? "yes" : "no", dlt->alarm ? "yes" : "no", dlt->wants_key ? "yes" : "no");
	command_say(answer, " wrong_passwords=%lld password_locked=%s clock_sets=%lld",
				(long long) dlt->wrong_passwords,
				dlt->locked_until_ns > farm_sim_now(meter->farm) ? "yes" : "no",
				(long long) dlt->clock_sets);
}

/* Somebody presses the key of a meter that may be closed; false when that does nothing. */
bool
dlt_press_key(SmMeter *meter)
{
	if (meter->dlt == NULL || !meter->dlt->wants_key)
		return false;
	meter_settle(meter, farm_mono_ns());
	meter->dlt->wants_key = false;
	meter_command(meter, true, 0);
	return true;
}

/* Writes a number as BCD, lowest digits first; digits that do not fit are lost, as in a register. */
void
dlt_bcd(uint8_t *to, int bytes, int64_t value)
{
	int i;

	for (i = 0; i < bytes; i++)
	{
		to[i] = (uint8_t) (value % 10 | (value / 10 % 10) << 4);
		value /= 100;
	}
}

/* Reads BCD, lowest digits first; false when a nibble is no digit. */
bool
dlt_from_bcd(const uint8_t *from, int bytes, int64_t *value)
{
	int i;

	*value = 0;
	for (i = bytes - 1; i >= 0; i--)
	{
		if ((from[i] & 0x0F) > 9 || from[i] >> 4 > 9)
			return false;
		*value = *value * 100 + (from[i] >> 4) * 10 + (from[i] & 0x0F);
	}
	return true;
}

/* Writes a time as ss mm hh DD MM YY. */
void
dlt_time(int64_t clock_s, uint8_t *seconds_up)
{
	time_t clock = (time_t) clock_s;
	struct tm parts;

	gmtime_r(&clock, &parts);
	dlt_bcd(seconds_up, 1, parts.tm_sec);
	dlt_bcd(seconds_up + 1, 1, parts.tm_min);
	dlt_bcd(seconds_up + 2, 1, parts.tm_hour);
	dlt_bcd(seconds_up + 3, 1, parts.tm_mday);
	dlt_bcd(seconds_up + 4, 1, parts.tm_mon + 1);
	dlt_bcd(seconds_up + 5, 1, parts.tm_year % 100);
}

/* Reads ss mm hh DD MM YY of this century; false when there is no such time. */
bool
dlt_parse_time(const uint8_t *seconds_up, int64_t *clock_s)
{
	struct tm parts = {0};
	struct tm back;
	int64_t numbers[6];
	time_t clock;
	int i;

	for (i = 0; i < 6; i++)
		if (!dlt_from_bcd(seconds_up + i, 1, &numbers[i]))
			return false;
	parts.tm_sec = (int) numbers[0];
	parts.tm_min = (int) numbers[1];
	parts.tm_hour = (int) numbers[2];
	parts.tm_mday = (int) numbers[3];
	parts.tm_mon = (int) numbers[4] - 1;
	parts.tm_year = (int) numbers[5] + 100;
	back = parts;
	clock = timegm(&back);
	*clock_s = clock;
	return back.tm_sec == parts.tm_sec && back.tm_min == parts.tm_min &&
		   back.tm_hour == parts.tm_hour && back.tm_mday == parts.tm_mday &&
		   back.tm_mon == parts.tm_mon;
}
