/*
 * test_rating_number.c
 *		Exact numbers: rounding, shares, decimals in and out. Prints TAP.
 */
/* links: extension/rating_number.c */
#include "../../extension/rating.h"
#include "test_poller_tap.h"
#include "test_random.h"

#define MAX_LINES 400

static void
test_rounding(void)
{
	static const struct
	{
		int64_t amount_e11;
		int digits;
		int64_t half_up;
		int64_t down;
		int64_t up;
	} cases[] = {{1234000000, 2, 1, 1, 2},
				 {1500000000, 2, 2, 1, 2},
				 {1499999999, 2, 1, 1, 2},
				 {-1500000000, 2, -2, -1, -2},
				 {-1499999999, 2, -1, -1, -2},
				 {-1, 2, 0, 0, -1},
				 {1, 2, 0, 0, 1},
				 {0, 2, 0, 0, 0},
				 {2000000000, 2, 2, 2, 2},
				 {-2000000000, 2, -2, -2, -2},
				 {50000000000, 0, 1, 0, 1},
				 {49999999999, 0, 0, 0, 1},
				 {15000000000, 1, 2, 1, 2},
				 {-150000000000, 0, -2, -1, -2},
				 {123456789012345, 1, 12346, 12345, 12346}};
	size_t i;
	int64_t out;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[80];

		snprintf(name, sizeof(name), "%" PRId64 "e-11 to %d digits", cases[i].amount_e11,
				 cases[i].digits);
		ok(rating_round(cases[i].amount_e11, SM_ROUND_HALF_UP, cases[i].digits, &out) &&
			   out == cases[i].half_up &&
			   rating_round(cases[i].amount_e11, SM_ROUND_DOWN, cases[i].digits, &out) &&
			   out == cases[i].down &&
			   rating_round(cases[i].amount_e11, SM_ROUND_UP, cases[i].digits, &out) &&
			   out == cases[i].up,
		   name);
	}
	ok(!rating_round(0, SM_ROUND_DOWN, 3, &out) && !rating_round(0, SM_ROUND_DOWN, -1, &out),
	   "digits money does not have are refused");
}

static void
test_round_overflow(void)
{
	int64_t out;

	ok(rating_round((SmInt128) INT64_MAX * 1000000000, SM_ROUND_UP, 2, &out) && out == INT64_MAX,
	   "the largest money fits");
	ok(!rating_round((SmInt128) INT64_MAX * 1000000000 + 1, SM_ROUND_UP, 2, &out),
	   "one more does not");
	ok(rating_round((SmInt128) INT64_MIN * 1000000000, SM_ROUND_UP, 2, &out) && out == INT64_MIN,
	   "the smallest money fits");
}

static void
test_share(void)
{
	SmInt128 out = 0;
	SmInt128 most = (SmInt128) 1 << 120;

	ok(rating_share(1000, 12, 30, &out) && out == 400, "12 of 30 days of 1000");
	ok(rating_share(10, 1, 4, &out) && out == 3, "2.5 is rounded up");
	ok(rating_share(-10, 1, 4, &out) && out == -3, "-2.5 away from zero");
	ok(rating_share(100, 1, 3, &out) && out == 33 && rating_share(200, 1, 3, &out) && out == 67,
	   "thirds");
	ok(rating_share(7, 0, 5, &out) && out == 0, "a share of nothing");
	ok(rating_share(most, 31, 31, &out) && out == most, "the whole of a large number is itself");
	ok(!rating_share(most, 1 << 10, 1, &out), "what does not fit is refused");
	ok(!rating_share(1, 1, 0, &out) && !rating_share(1, -1, 2, &out),
	   "no share of nothing or less");
}

static void
test_round_energy(void)
{
	int64_t out = 0;

	ok(rating_round_energy(1499, 0, &out) && out == 1000, "1.499 kWh is 1");
	ok(rating_round_energy(1500, 0, &out) && out == 2000, "1.5 kWh is 2");
	ok(rating_round_energy(-1500, 0, &out) && out == -2000, "-1.5 kWh is -2");
	ok(rating_round_energy(1250, 1, &out) && out == 1300, "1.25 kWh to one digit is 1.3");
	ok(rating_round_energy(1234, 2, &out) && out == 1230, "1.234 kWh to two digits is 1.23");
	ok(rating_round_energy(1234, 3, &out) && out == 1234, "to three digits it is as measured");
	ok(rating_round_energy(1234, -1, &out) && out == 1234, "without digits too");
	ok(!rating_round_energy(INT64_MAX, 0, &out), "the largest number has no room to be rounded up");
}

static void
test_apportion(void)
{
	static const SmInt128 thirds[3] = {3333333333, 3333333333, 3333333334};
	static const SmInt128 mixed[3] = {-1500000000, 500000000, 0};
	static const SmInt128 equal[5] = {600000000, 600000000, 600000000, 600000000, 600000000};
	int64_t out[MAX_LINES];
	int wrong = 0;
	int round;

	ok(rating_apportion(thirds, 3, 2, 10, out) && out[0] == 3 && out[1] == 3 && out[2] == 4,
	   "the largest remainder gets the missing fen");
	ok(rating_apportion(mixed, 3, 2, -1, out) && out[0] == -1 && out[1] == 0 && out[2] == 0,
	   "negative lines are shared too, the first of equals first");
	ok(!rating_apportion(thirds, 3, 2, 14, out) && !rating_apportion(thirds, 3, 2, 8, out),
	   "a total that is not theirs is refused");
	ok(rating_apportion(equal, 5, 2, 3, out) && out[0] == 1 && out[1] == 1 && out[2] == 1 &&
		   out[3] == 0 && out[4] == 0,
	   "of equal remainders the first ones get a fen each");
	ok(rating_apportion(NULL, 0, 2, 0, out) && !rating_apportion(NULL, 0, 2, 1, out),
	   "no lines share nothing");
	for (round = 0; round < 20000; round++)
	{
		SmInt128 lines[MAX_LINES];
		SmInt128 sum = 0;
		SmRoundMode mode = (SmRoundMode) (random_next() % 3);
		int n = 1 + (int) (random_next() % (round % 100 == 0 ? MAX_LINES : 16));
		int64_t total;
		int64_t shared = 0;
		int i;

		for (i = 0; i < n; i++)
		{
			lines[i] = (SmInt128) (random_next() % UINT64_C(900000000000)) - 300000000000;
			sum += lines[i];
		}
		if (!rating_round(sum, mode, 2, &total) || !rating_apportion(lines, n, 2, total, out))
		{
			wrong++;
			continue;
		}
		for (i = 0; i < n; i++)
		{
			SmInt128 off = (SmInt128) out[i] * 1000000000 - lines[i];

			shared += out[i];
			if (off <= -1000000000 || off > 1000000000)
				wrong++;
		}
		if (shared != total)
			wrong++;
	}
	is(wrong, 0, "20,000 random bills: lines add up and none is off by more than one fen");
}

static void
test_decimals(void)
{
	static const struct
	{
		const char *text;
		int scale;
		int64_t limit;
		SmDecimal result;
		int64_t value;
	} cases[] = {
		{"0.67250000", 8, 100000000, SM_DECIMAL_OK, 67250000},
		{"0", 8, 10, SM_DECIMAL_OK, 0},
		{"-0.0", 8, 10, SM_DECIMAL_OK, 0},
		{"260", 3, 1000000000, SM_DECIMAL_OK, 260000},
		{"0.001", 3, 1000, SM_DECIMAL_OK, 1},
		{"1.0000000000000000000000000000000000000000", 0, 5, SM_DECIMAL_OK, 1},
		{"5.00", 0, 5, SM_DECIMAL_OK, 5},
		{"5.01", 2, 500, SM_DECIMAL_TOO_LARGE, 0},
		{"123456789012345678901234567890123456789012345678901", 8, 100, SM_DECIMAL_TOO_LARGE, 0},
		{"9223372036854775807", 0, INT64_MAX, SM_DECIMAL_OK, INT64_MAX},
		{"9223372036854775808", 0, INT64_MAX, SM_DECIMAL_TOO_LARGE, 0},
		{"0.0001", 3, 1000, SM_DECIMAL_TOO_FINE, 0},
		{"-1", 8, 10, SM_DECIMAL_NEGATIVE, 0},
		{"-0.000000001", 8, 10, SM_DECIMAL_NEGATIVE, 0},
		{"NaN", 8, 10, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"Infinity", 8, 10, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"", 8, 10, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"-", 8, 10, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"1.", 8, 1000000000, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"1e5", 8, 1000000000, SM_DECIMAL_NOT_A_NUMBER, 0},
		{"1.5x", 8, 1000000000, SM_DECIMAL_NOT_A_NUMBER, 0},
		{".5", 8, 1000000000, SM_DECIMAL_NOT_A_NUMBER, 0},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char name[100];
		int64_t value = 0;
		SmDecimal result =
			rating_parse_decimal(cases[i].text, cases[i].scale, cases[i].limit, &value);

		snprintf(name, sizeof(name), "decimal '%.60s' at scale %d", cases[i].text, cases[i].scale);
		ok(result == cases[i].result && (result != SM_DECIMAL_OK || value == cases[i].value), name);
	}
}

static void
test_prices_and_text(void)
{
	char text[SM_RATING_TEXT_SIZE];
	SmInt128 least = (SmInt128) 1 << 126;
	int64_t price = 0;

	ok(rating_scale_price(58020000, 170000000, 4, &price) && price == 98630000,
	   "0.5802 x 1.7 to 4 digits is 0.9863");
	ok(rating_scale_price(58020000, 38000000, 4, &price) && price == 22050000,
	   "0.5802 x 0.38 to 4 digits is 0.2205");
	ok(rating_scale_price(58020000, 170000000, 8, &price) && price == 98634000,
	   "0.5802 x 1.7 exactly is 0.98634");
	ok(!rating_scale_price(INT64_MAX, INT64_MAX, 8, &price), "a price beyond int64 is refused");
	is_text(rating_format_e11(42340000000000, text, sizeof(text)), "423.40", "an amount as text");
	is_text(rating_format_e11(-1, text, sizeof(text)), "-0.00000000001", "the smallest amount");
	is_text(rating_format_e11(0, text, sizeof(text)), "0.00", "nothing");
	is_text(rating_format(600000, 3, 3, text, sizeof(text)), "600.000", "kept places");
	is_text(rating_format(600000, 3, 0, text, sizeof(text)), "600", "dropped places");
	is_text(rating_format(5, 0, 0, text, sizeof(text)), "5", "no places");
	is_text(rating_format(-least - least, 11, 2, text, sizeof(text)),
			"-1701411834604692317316873037.15884105728", "the smallest number there is");
	ok(rating_format(1, 0, 0, text, sizeof(text) - 1) == NULL, "a small buffer is refused");
}

static void
test_interpolation(void)
{
	int64_t at = 0;

	ok(rating_interpolate(1000, 2000, 1, 3, &at) && at == 1333, "a third of the way");
	ok(rating_interpolate(1000, 2000, 2, 3, &at) && at == 1667, "two thirds of the way");
	ok(rating_interpolate(0, 1, 1, 2, &at) && at == 1, "half a watt-hour goes up");
	ok(rating_interpolate(5, 9, 0, 7, &at) && at == 5 && rating_interpolate(5, 9, 7, 7, &at) &&
		   at == 9,
	   "the ends are the readings");
	ok(rating_interpolate(INT64_MIN, INT64_MAX, 1, INT64_MAX, &at) && at == INT64_MIN + 2,
	   "the whole range does not wrap");
	ok(!rating_interpolate(0, 1, 1, 0, &at) && !rating_interpolate(0, 1, 2, 1, &at) &&
		   !rating_interpolate(0, 1, -1, 1, &at),
	   "points outside the interval are refused");
}

int
main(void)
{
	test_rounding();
	test_round_overflow();
	test_share();
	test_round_energy();
	test_apportion();
	test_decimals();
	test_prices_and_text();
	test_interpolation();
	return tap_done();
}
