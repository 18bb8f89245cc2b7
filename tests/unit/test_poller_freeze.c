/*
 * test_poller_freeze.c - times of frozen registers, lists of wanted ones, and what moved
 */
/* links: poller/freeze.c */
#include <string.h>

#include "../../poller/freeze.h"
#include "test_poller_tap.h"

/* The minute of a time as the meter sends it, in hex; -1 absent, -2 nonsense. */
static int64_t
minute_of(const char *hex)
{
	uint8_t data[8];
	int64_t minute = 0;
	int length = 0;
	unsigned byte;

	while (sscanf(hex + 2 * length, "%2x", &byte) == 1)
		data[length++] = (uint8_t) byte;
	switch (freeze_time(data, length, &minute))
	{
		case FREEZE_KNOWN:
			return minute;
		case FREEZE_ABSENT:
			return -1;
		default:
			return -2;
	}
}

static void
test_time(void)
{
	is(minute_of("0000010100"), 0, "the first minute of 2000");
	is(minute_of("0000020100"), 1440, "a day later");
	is(minute_of("0000010300"), 60 * 1440, "after a 29 February");
	is(minute_of("0000010101"), 366 * 1440, "after a leap year");
	is(minute_of("5923311299"), (INT64_C(36525) * 1440) - 1, "the last minute of the century");
	is(minute_of("3014221126"), (INT64_C(9822) * 24 + 14) * 60 + 30, "22 November 2026, 14:30");
	is(minute_of("FFFFFFFFFF"), -1, "all FF: nothing there");
	is(minute_of("0000000000"), -1, "all zero: nothing there");
	is(minute_of("00000101"), -2, "too short");
	is(minute_of("0A00010100"), -2, "not decimal");
	is(minute_of("6000010100"), -2, "minute 60");
	is(minute_of("0024010100"), -2, "hour 24");
	is(minute_of("0000290201"), -2, "29 February 2001");
	is(minute_of("0000011301"), -2, "month 13");
	is(minute_of("0000000101"), -2, "day 0");
}

static void
test_entries(void)
{
	SmFreezeEntry entries[3];

	is(freeze_parse_entries("", entries, 3), 0, "an empty list");
	is(freeze_parse_entries("0001010100=1000=2 0001010000=-5=3", entries, 3), 2, "two entries");
	ok(entries[0].minute == 60 && entries[0].ts_ms == 1000 && entries[0].back == 2, "the first");
	ok(entries[1].minute == 0 && entries[1].ts_ms == -5 && entries[1].back == 3, "the second");
	is(freeze_parse_entries("0001010100=1=1 0001010000=1=2", entries, 1), -1, "more than fit");
	is(freeze_parse_entries("0001010100=1", entries, 3), -1, "no place");
	is(freeze_parse_entries("0001010100=1=0", entries, 3), -1, "place 0");
	is(freeze_parse_entries("0001010100=1=255", entries, 3), -1, "place 255");
	is(freeze_parse_entries("0013010100=1=1", entries, 3), -1, "no such time");
	is(freeze_parse_entries("00010101", entries, 3), -1, "half a time");
	is(freeze_parse_entries("0001010100=x=1", entries, 3), -1, "no number");
	is(freeze_parse_entries("0001010100=1=1,0001010100=1=1", entries, 3), -1, "no space between");
}

static void
test_rest(void)
{
	static const uint8_t first[] = {0x00, 0x01};
	static const uint8_t middle[] = {0x23, 0x28};
	static const uint8_t never[] = {0x99, 0x99};
	static const uint8_t late[] = {0x00, 0x29};
	SmFreezeKind kind;
	char day[5];
	int shift = 0;

	ok(freeze_settlement_day(first, 2, day) && strcmp(day, "0100") == 0, "the first at 0:00");
	ok(freeze_settlement_day(middle, 2, day) && strcmp(day, "2823") == 0, "the 28th at 23:00");
	ok(!freeze_settlement_day(never, 2, day) && !freeze_settlement_day(late, 2, day) &&
		   !freeze_settlement_day(first, 1, day),
	   "no day");
	ok(freeze_find_kind("daily", &kind) && kind == FREEZE_DAILY, "a kind");
	ok(freeze_find_kind("concentrator", &kind) && kind == FREEZE_CONCENTRATOR, "another kind");
	ok(!freeze_find_kind("yearly", &kind), "no kind");
	ok(freeze_shift(FREEZE_HOURLY, 600, 720, &shift) && shift == 2, "found a newer one");
	ok(freeze_shift(FREEZE_DAILY, 14400, 1440, &shift) && shift == -9, "found an older one");
	ok(!freeze_shift(FREEZE_HOURLY, 600, 630, &shift), "half an hour is no step");
	ok(!freeze_shift(FREEZE_HOURLY, 0, 60 * 255, &shift), "too far");
	ok(!freeze_shift(FREEZE_SETTLEMENT, 0, 1440, &shift), "settlement days are not even");
}

/* The midnight that ends a day, as entries have it, and the day a concentrator calls it. */
static void
test_day(void)
{
	static const struct
	{
		const char *entry;
		uint8_t day[3];
	} cases[] = {{"2601010000=0=1", {0x31, 0x12, 0x25}},
				 {"2403010000=0=1", {0x29, 0x02, 0x24}},
				 {"2503010000=0=1", {0x28, 0x02, 0x25}},
				 {"2612310000=0=1", {0x30, 0x12, 0x26}},
				 {"0001020000=0=1", {0x01, 0x01, 0x00}}};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		SmFreezeEntry entry;
		uint8_t day[3];

		ok(freeze_parse_entries(cases[i].entry, &entry, 1) == 1, "an entry");
		freeze_day(entry.minute, day);
		ok(memcmp(day, cases[i].day, 3) == 0, cases[i].entry);
	}
}

int
main(void)
{
	test_time();
	test_day();
	test_entries();
	test_rest();
	return tap_done();
}
