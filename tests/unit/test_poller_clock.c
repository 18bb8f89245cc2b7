/*
 * test_poller_clock.c - clocks of DL/T 645 meters: what they show, across midnight, and setting them
 */
/* links: poller/meter_clock.c poller/dlt645_build.c */
#include <string.h>

#include "../../poller/meter_clock.h"
#include "test_poller_tap.h"

static SmTarget
target(SmProtocol protocol)
{
	SmTarget made = {.protocol = protocol, .address = {1, 0, 0, 0, 0, 0}};

	return made;
}

static const char *
shown(const SmMeterClock *clock)
{
	static char text[METER_CLOCK_TEXT];

	meter_clock_text(&clock->time, text);
	return text;
}

static void
test_whole(void)
{
	/* 2026-03-01 (a Sunday) 23:59:58 */
	uint8_t data[] = {0x58, 0x59, 0x23, 0x00, 0x01, 0x03, 0x26};
	SmTarget meter = target(PROTOCOL_DLT645_2007);
	SmMeterClock clock;
	SmRequest request;

	ok(meter_clock_begin(&clock, PROTOCOL_DLT645_2007, "0400010C"), "one item of 2007");
	ok(meter_clock_ask(&clock, &meter, &request) && request.length == 4 &&
		   memcmp(request.body, "\x0C\x01\x00\x04", 4) == 0,
	   "is asked for by its identifier");
	is(meter_clock_take(&clock, data, 7), CLOCK_KNOWN, "and holds all");
	is_text(shown(&clock), "2026-03-01 23:59:58", "date and time");
	is(meter_clock_take(&clock, data, 6), CLOCK_NONSENSE, "too short");
	data[1] = 0x60;
	is(meter_clock_take(&clock, data, 7), CLOCK_NONSENSE, "minute 60");
	data[1] = 0x5A;
	is(meter_clock_take(&clock, data, 7), CLOCK_NONSENSE, "no digit");
	memset(data, 0xFF, sizeof(data));
	is(meter_clock_take(&clock, data, 7), CLOCK_NONSENSE, "all FF");
	memset(data, 0, sizeof(data));
	is(meter_clock_take(&clock, data, 7), CLOCK_NONSENSE, "all zero: no month");
	ok(!meter_clock_begin(&clock, PROTOCOL_DLT645_2007, "04000102"), "the time alone is no clock");
	ok(!meter_clock_begin(&clock, PROTOCOL_DLT645_2007, "C010"), "nor an item of 1997");
	ok(!meter_clock_begin(&clock, PROTOCOL_MODBUS, "0400010C"), "Modbus has none");
}

static void
test_parts(void)
{
	const uint8_t date[] = {0x00, 0x01, 0x03, 0x26};
	const uint8_t next[] = {0x01, 0x02, 0x03, 0x26};
	const uint8_t noon[] = {0x07, 0x30, 0x12};
	const uint8_t midnight[] = {0x01, 0x00, 0x00};
	SmTarget meter = target(PROTOCOL_DLT645_1997);
	SmMeterClock clock;
	SmRequest request;

	ok(meter_clock_begin(&clock, PROTOCOL_DLT645_1997, "C010"), "two items of 1997");
	ok(meter_clock_ask(&clock, &meter, &request) && memcmp(request.body, "\x10\xC0", 2) == 0,
	   "the date first");
	is(meter_clock_take(&clock, date, 4), CLOCK_MORE, "then more");
	ok(meter_clock_ask(&clock, &meter, &request) && memcmp(request.body, "\x11\xC0", 2) == 0,
	   "the time");
	is(meter_clock_take(&clock, noon, 3), CLOCK_KNOWN, "at noon that is all");
	is_text(shown(&clock), "2026-03-01 12:30:07", "of one day");

	meter_clock_begin(&clock, PROTOCOL_DLT645_2007, "04000101");
	meter_clock_take(&clock, date, 4);
	is(meter_clock_take(&clock, midnight, 3), CLOCK_MORE, "just past midnight the date is old");
	meter = target(PROTOCOL_DLT645_2007);
	ok(meter_clock_ask(&clock, &meter, &request) && request.body[0] == 0x01,
	   "and is asked for again");
	is(meter_clock_take(&clock, next, 4), CLOCK_KNOWN, "now it is known");
	is_text(shown(&clock), "2026-03-02 00:00:01", "the next day");
	meter_clock_begin(&clock, PROTOCOL_DLT645_2007, "04000101");
	is(meter_clock_take(&clock, noon, 3), CLOCK_NONSENSE, "a time where the date should be");
}

static void
test_count(void)
{
	SmDltTime time;
	SmDltTime back;
	int64_t seconds;
	int wrong = 0;

	ok(meter_clock_parse("260301123007", &time) && time.year == 26 && time.second == 7, "parsed");
	ok(!meter_clock_parse("260229000000", &time), "2026 has no 29 February");
	ok(meter_clock_parse("280229000000", &time), "2028 has");
	ok(!meter_clock_parse("2603011230", &time) && !meter_clock_parse(NULL, &time) &&
		   !meter_clock_parse("26030112300x", &time) && !meter_clock_parse("260301246007", &time),
	   "what is no time is refused");
	meter_clock_parse("000101000000", &time);
	is(meter_clock_seconds(&time), 0, "seconds begin with the year 2000");
	meter_clock_parse("991231235959", &time);
	is(meter_clock_seconds(&time), 36525LL * 86400 - 1, "and end with 2099");
	for (seconds = 0; seconds < 36525LL * 86400; seconds += 39119)
	{
		meter_clock_at(seconds, &back);
		wrong += meter_clock_seconds(&back) != seconds;
	}
	is(wrong, 0, "there and back for a century");
}

static void
test_set(void)
{
	SmTarget meter = target(PROTOCOL_DLT645_2007);
	SmDltKey key;
	SmDltTime time;
	SmRequest request;

	dlt645_parse_key(2, "123456", "00000042", &key);
	meter_clock_parse("260301123007", &time);
	ok(meter_clock_set(&meter, &key, 0, &time, &request), "the date");
	is(request.control, 0x14, "is a write");
	ok(request.length == 16 &&
		   memcmp(request.body, "\x01\x01\x00\x04\x02\x56\x34\x12\x42\0\0\0", 12) == 0,
	   "of 04000101, with level, password and operator");
	ok(memcmp(request.body + 12, "\x00\x01\x03\x26", 4) == 0,
	   "weekday 0 (Sunday), day, month, year");
	ok(meter_clock_set(&meter, &key, 1, &time, &request) && request.length == 15 &&
		   request.body[0] == 0x02 && memcmp(request.body + 12, "\x07\x30\x12", 3) == 0,
	   "then the time");
	meter_clock_parse("261122000000", &time);
	meter_clock_set(&meter, &key, 0, &time, &request);
	is(request.body[12], 0, "22 November 2026 is a Sunday");
	meter_clock_parse("261128000000", &time);
	meter_clock_set(&meter, &key, 0, &time, &request);
	is(request.body[12], 6, "the 28th a Saturday");
	meter.protocol = PROTOCOL_DLT645_1997;
	ok(!meter_clock_set(&meter, &key, 0, &time, &request), "meters of 1997 are not set");
}

int
main(void)
{
	test_whole();
	test_parts();
	test_count();
	test_set();
	return tap_done();
}
