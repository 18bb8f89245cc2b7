/*
 * test_poller_point.c - registers into values: every type, exact scales, missing values, and the
 * text of a reading
 */
/* links: poller/point.c poller/reading.c poller/base.c */
/* libs: -lm */
#include "../../poller/point.h"
#include "../../poller/reading.h"
#include "test_poller_tap.h"

/* A point of a metric and type with a scale. */
static SmPoint
point(SmMetric metric, const char *type, const char *scale)
{
	SmPoint made = {.metric = metric, .function = 3, .bit_mask = 0xFFFF};

	if (!point_find_type(type, &made.type) || !point_parse_scale(scale, &made.scale))
		printf("# %s or %s is not understood\n", type, scale);
	return made;
}

/* The energy of up to four words; INT64_MIN when there is none. */
static int64_t
energy(const char *type, const char *scale, uint16_t a, uint16_t b, uint16_t c, uint16_t d)
{
	SmPoint made = point(METRIC_ENERGY_WH, type, scale);
	uint16_t words[4] = {a, b, c, d};
	SmValues values = {0};

	return point_decode(&made, words, &values) ? values.energy[METRIC_ENERGY_WH] : INT64_MIN;
}

/* A measurement as it is written into the row; "" when there is none. */
static const char *
number(SmMetric metric, const char *type, const char *scale, uint16_t a, uint16_t b)
{
	static char text[64];
	SmPoint made = point(metric, type, scale);
	uint16_t words[4] = {a, b, 0, 0};
	SmValues values = {0};

	text[0] = '\0';
	if (point_decode(&made, words, &values))
		snprintf(text, sizeof(text), "%.9g", values.number[metric]);
	return text;
}

static void
test_integers(void)
{
	is(energy("u32be", "10", 0x0001, 0x0002, 0, 0), 655380, "u32be: high word first, 0.01 kWh");
	is(energy("u32sw", "10", 0x0002, 0x0001, 0, 0), 655380, "u32sw: low word first");
	is(energy("i32be", "1", 0xFFFF, 0xFFFE, 0, 0), -2, "i32be: negative");
	is(energy("i32sw", "1", 0xFFFE, 0xFFFF, 0, 0), -2, "i32sw: negative");
	is(energy("u16", "1000", 65534, 0, 0, 0), 65534000, "u16");
	is(energy("i16", "1000", 0xFFFE, 0, 0, 0), -2000, "i16: negative");
	is(energy("u64be", "10", 0, 1, 0, 0), INT64_C(42949672960), "u64be");
	is(energy("i64be", "1", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFF6), -10, "i64be: negative");
	is(energy("u64be", "1", 0x7FFF, 0xFFFF, 0xFFFF, 0xFFFE), INT64_MAX - 1, "u64be: just fits");
	is(energy("u64be", "10", 0x7FFF, 0xFFFF, 0xFFFF, 0xFFFE), INT64_MIN, "u64be: too large for Wh");
	is(energy("u32be", "0.1", 0, 14, 0, 0), 1, "1.4 Wh is 1");
	is(energy("u32be", "0.1", 0, 15, 0, 0), 2, "1.5 Wh is 2");
	is(energy("i32be", "0.1", 0xFFFF, 0xFFF1, 0, 0), -2, "-1.5 Wh is -2");
	is(energy("u32be", "0.001", 0x05F5, 0xE0FF, 0, 0), 100000, "99999.999 Wh");
	is(energy("u32be", "3.125", 0, 8, 0, 0), 25, "an odd scale is exact");
	is(energy("u32be", "0.000000000001", 0xFFFF, 0xFFFE, 0, 0), 0, "the smallest scale");
	is(energy("u32be", "1000000000000", 0, 9, 0, 0), INT64_C(9000000000000), "the largest");
}

static void
test_floats(void)
{
	/* 0x42F6E979 is 123.456001281738..., 0x47F12030 is 123456.375 exactly */
	is(energy("f32be", "1000", 0x42F6, 0xE979, 0, 0), 123456, "f32be in kWh");
	is(energy("f32sw", "1000", 0xE979, 0x42F6, 0, 0), 123456, "f32sw");
	is(energy("f32be", "1000", 0x47F1, 0x2030, 0, 0), 123456375, "a float that is exact");
	is(energy("f32be", "1", 0x3F00, 0x0000, 0, 0), 1, "0.5 Wh is 1");
	is(energy("f32be", "1", 0x3EFF, 0xFFFF, 0, 0), 0, "just below 0.5 Wh is 0");
	is(energy("f32be", "1", 0xBF00, 0x0000, 0, 0), -1, "-0.5 Wh is -1");
	is(energy("f32be", "1000", 0, 0, 0, 0), 0, "0");
	is(energy("f32be", "1000", 0, 1, 0, 0), 0, "the smallest float there is");
	is(energy("f32be", "1000", 0x7F7F, 0xFFFF, 0, 0), INT64_MIN, "the largest is no energy");
	is(energy("f32be", "1000", 0x7FC0, 0, 0, 0), INT64_MIN, "NaN is no energy");
	is(energy("f32be", "1000", 0xFFFF, 0xFFFF, 0, 0), INT64_MIN, "all ones is a NaN");
	is(energy("f32be", "1000", 0x7F80, 0, 0, 0), INT64_MIN, "infinity is no energy");
	is(energy("f32be", "1000", 0xFF80, 0, 0, 0), INT64_MIN, "nor is its opposite");
	is_text(number(METRIC_V_A, "f32be", "1", 0x4366, 0x199A), "230.100006", "the float it is");
	is_text(number(METRIC_V_A, "f32be", "1", 0x7FC0, 0), "", "NaN is no voltage");
	is_text(number(METRIC_V_A, "f32be", "0.1", 0x0000, 0x0001), "0", "too small for a real is 0");
	is_text(number(METRIC_V_A, "f32be", "1000", 0x7F7F, 0xFFFF), "", "too large is no value");
}

static void
test_numbers(void)
{
	is_text(number(METRIC_V_A, "u16", "0.1", 2301, 0), "230.1", "230.1 V");
	is_text(number(METRIC_I_A, "u16", "0.01", 1234, 0), "12.34", "12.34 A");
	is_text(number(METRIC_I_A, "i32be", "0.001", 0xFFFF, 0xFB2E), "-1.234", "-1.234 A");
	is_text(number(METRIC_POWER_W, "i16", "1", 0xFFFF, 0), "-1", "-1 W is a value");
	is_text(number(METRIC_POWER_FACTOR, "u16", "0.001", 999, 0), "0.999", "power factor");
	is_text(number(METRIC_V_A, "u16", "0.1", 0xFFFF, 0), "", "u16 FFFF is no value");
	is_text(number(METRIC_POWER_W, "u16", "1", 0x7FFF, 0), "32767", "u16 7FFF is one");
	is_text(number(METRIC_POWER_W, "i16", "1", 0x7FFF, 0), "", "i16 7FFF is none");
	is_text(number(METRIC_POWER_W, "i16", "1", 0x8000, 0), "", "i16 8000 is none");
	is_text(number(METRIC_POWER_W, "u32be", "1", 0xFFFF, 0xFFFF), "", "u32 FFFFFFFF is none");
	is_text(number(METRIC_POWER_W, "i32be", "1", 0x7FFF, 0xFFFF), "", "i32 7FFFFFFF is none");
	is(energy("u32be", "10", 0xFFFF, 0xFFFF, 0, 0), INT64_MIN, "no energy: FFFFFFFF");
	is(energy("u32be", "10", 0x7FFF, 0xFFFF, 0, 0), INT64_MIN, "no energy: 7FFFFFFF");
	is(energy("i32be", "10", 0xFFFF, 0xFFFF, 0, 0), INT64_MIN, "no energy: i32 FFFFFFFF");
	is(energy("u64be", "10", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF), INT64_MIN, "no energy: u64");
	is(energy("i64be", "10", 0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF), INT64_MIN, "no energy: i64");
}

static void
test_relay(void)
{
	SmPoint relay = {.metric = METRIC_RELAY,
					 .type = POINT_U16,
					 .bit_mask = 0xFF,
					 .closed_value = 0xF0,
					 .open_value = 0x0F};
	SmValues values = {0};
	uint16_t word = 0x01F0;

	ok(point_decode(&relay, &word, &values) && values.relay == RELAY_CLOSED, "closed, locked");
	word = 0x000F;
	ok(point_decode(&relay, &word, &values) && values.relay == RELAY_OPEN, "open");
	word = 0x0033;
	ok(!point_decode(&relay, &word, &values) && !point_has(&values, METRIC_RELAY) &&
		   values.relay_raw == 0x33,
	   "neither is no position");
	word = 0xFFFF;
	ok(!point_decode(&relay, &word, &values), "all ones is no position");
	relay = (SmPoint){.metric = METRIC_RELAY,
					  .function = 1,
					  .type = POINT_BIT,
					  .bit_mask = 0xFFFF,
					  .closed_value = 1,
					  .open_value = 0};
	word = 1;
	ok(point_decode(&relay, &word, &values) && values.relay == RELAY_CLOSED, "a coil that is on");
	ok(!values.locked && values.keep == KEEP_UNKNOWN, "and says nothing of locks and keep-power");
}

/* What the bits of a relay's item say beside its position. */
static void
test_relay_bits(void)
{
	SmPoint breaker = {.metric = METRIC_RELAY,
					   .function = 4,
					   .type = POINT_U16,
					   .bit_mask = 0xFF,
					   .closed_value = 0xF0,
					   .open_value = 0x0F,
					   .lock_mask = 0xFF00,
					   .lock_value = 0x0100};
	SmPoint status = {.metric = METRIC_RELAY,
					  .di = 0x04000503,
					  .bytes = 2,
					  .type = POINT_BITS,
					  .scale = {1, 0},
					  .bit_mask = 16,
					  .closed_value = 0,
					  .open_value = 16,
					  .keep_mask = 4096,
					  .keep_value = 4096};
	const uint8_t kept[] = {0x00, 0x10};
	const uint8_t open[] = {0x10, 0x00};
	SmValues values = {0};
	uint16_t word = 0x010F;

	ok(point_decode(&breaker, &word, &values) && values.relay == RELAY_OPEN && values.locked,
	   "open, and locked on the spot");
	word = 0x020F;
	ok(point_decode(&breaker, &word, &values) && !values.locked, "another high byte is no lock");
	is(point_decode_item(&status, kept, 2, &values), POINT_GOOD, "a status word");
	ok(values.relay == RELAY_CLOSED && values.keep == KEEP_ON && !values.locked,
	   "closed, and power is kept: bit 12");
	is(point_decode_item(&status, open, 2, &values), POINT_GOOD, "another one");
	ok(values.relay == RELAY_OPEN && values.keep == KEEP_OFF, "open, and not kept");
}

static void
test_descriptions(void)
{
	SmScale scale;
	SmPoint bad = {.metric = METRIC_V_A, .function = 3, .address = 65535, .type = POINT_U32BE};
	SmMetric metric;

	ok(point_parse_scale("0.010", &scale) && scale.times == 1 && scale.digits == 2, "0.010");
	ok(point_parse_scale("-10", &scale) && scale.times == -10 && scale.digits == 0, "-10");
	ok(point_parse_scale("1000.000000000000000", &scale) && scale.times == 1000, "1000.000...");
	ok(!point_parse_scale("", &scale) && !point_parse_scale("x", &scale) &&
		   !point_parse_scale("1.2.3", &scale) && !point_parse_scale("0", &scale) &&
		   !point_parse_scale("0.00", &scale) && !point_parse_scale("NaN", &scale) &&
		   !point_parse_scale("1e3", &scale) && !point_parse_scale("99999999999999999999", &scale),
	   "what is no scale");
	ok(point_check(&bad) != NULL, "a value that ends beyond 65535");
	bad = (SmPoint){.metric = METRIC_V_A, .function = 1, .type = POINT_U16};
	ok(point_check(&bad) != NULL, "a coil is no u16");
	bad = (SmPoint){.metric = METRIC_RELAY, .function = 3, .type = POINT_U16};
	ok(point_check(&bad) != NULL, "open and closed must differ");
	ok(!point_find_metric("energy_kwh", &metric), "an unknown metric");
}

static void
test_row(void)
{
	SmReading reading = {.site_id = 1, .meter_id = 42, .ts_ms = INT64_C(1772445600123)};
	SmPoint made = point(METRIC_V_A, "u16", "0.1");
	uint16_t word = 2301;
	SmText text = {0};

	point_decode(&made, &word, &reading.values);
	made = point(METRIC_ENERGY_WH, "u16", "1000");
	point_decode(&made, &word, &reading.values);
	reading.values.relay = RELAY_OPEN;
	reading.values.present |= 1u << METRIC_RELAY;
	reading_add_row(&text, &reading);
	is_text(text.data, "(42,2026-03-02T10:00:00.123Z,2301000,,230.1,,,,,,,,,,,,,,,open,poll)",
			"a row: missing values are empty");
	text_free(&text);
}

int
main(void)
{
	test_integers();
	test_floats();
	test_numbers();
	test_relay();
	test_relay_bits();
	test_descriptions();
	test_row();
	return tap_done();
}
