/*
 * test_rating.c
 *		The rating core: tiers, positions, rounding, exact text. Prints TAP.
 */
/* links: extension/rating.c */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../extension/rating.h"

static int tests_run = 0;
static int tests_failed = 0;

/*
 * One line of TAP.
 */
static void
ok(bool good, const char *name)
{
	tests_run++;
	if (!good)
		tests_failed++;
	printf("%sok %d - %s\n", good ? "" : "not ", tests_run, name);
}

/*
 * Two numbers are the same; says what they are when not.
 */
static void
is(int64_t got, int64_t wanted, const char *name)
{
	ok(got == wanted, name);
	if (got != wanted)
		printf("# got %" PRId64 ", wanted %" PRId64 "\n", got, wanted);
}

/*
 * Two texts are the same.
 */
static void
is_text(const char *got, const char *wanted, const char *name)
{
	bool same = got != NULL && strcmp(got, wanted) == 0;

	ok(same, name);
	if (!same)
		printf("# got %s, wanted %s\n", got ? got : "NULL", wanted);
}

/* Guangzhou, ordinary household, prices rounded as people quote them */
static const SmTariff winter = {.n_tiers = 3,
								.upto_wh = {200000, 400000},
								.price_e8 = {58900000, 63900000, 88900000},
								.rounding = SM_ROUND_HALF_UP,
								.digits = 2};
static const SmTariff summer = {.n_tiers = 3,
								.upto_wh = {260000, 600000},
								.price_e8 = {58900000, 63900000, 88900000},
								.rounding = SM_ROUND_HALF_UP,
								.digits = 2};
static const SmTariff flat = {.n_tiers = 1,
							  .price_e8 = {80000000},
							  .rounding = SM_ROUND_HALF_UP,
							  .digits = 2};

/*
 * Rounded amount of one span, in fen; -1 when rating fails.
 */
static int64_t
fen(const SmTariff *tariff, int64_t energy_wh, int64_t start_wh)
{
	SmRatingSpan span = {tariff, energy_wh};
	SmRated rated;
	int64_t out;

	if (!rating_cycle(&span, 1, start_wh, &rated) ||
		!rating_round(rated.amount_e11, tariff->rounding, tariff->digits, &out))
		return -1;
	return out;
}

static void
test_worked_bills(void)
{
	SmRatingSpan span = {&winter, 600000};
	SmRated rated;

	is(fen(&winter, 600000, 0), 42340, "600 kWh in December: 423.40");
	is(fen(&summer, 600000, 0), 37040, "600 kWh in May: 370.40");
	is(fen(&flat, 123456, 0), 9876, "123.456 kWh at 0.80: 98.7648 becomes 98.76");
	ok(rating_cycle(&span, 1, 0, &rated), "a cycle is rated");
	is(rated.n_tiers, 3, "three tiers");
	is(rated.energy_wh[0], 200000, "first tier takes 200 kWh");
	is(rated.energy_wh[1], 200000, "second tier takes 200 kWh");
	is(rated.energy_wh[2], 200000, "third tier takes the rest");
	is(rated.position_wh, 600000, "position is what was used");
	ok(rated.tier_amount_e11[0] + rated.tier_amount_e11[1] + rated.tier_amount_e11[2] ==
		   rated.amount_e11,
	   "tiers add up to the amount");
	ok(rating_cycle(NULL, 0, 0, &rated) && rated.amount_e11 == 0 && rated.position_wh == 0,
	   "no span, no amount");
}

static void
test_bounds(void)
{
	static const int64_t around[] = {199999, 200000, 200001};
	static const int64_t above[] = {0, 0, 1};
	SmRatingSpan span = {&winter, 0};
	SmRated rated;
	int i;

	for (i = 0; i < 3; i++)
	{
		char name[64];

		span.energy_wh = around[i];
		snprintf(name, sizeof(name), "%" PRId64 " Wh: %" PRId64 " Wh above the bound", around[i],
				 above[i]);
		ok(rating_cycle(&span, 1, 0, &rated) && rated.energy_wh[1] == above[i] &&
			   rated.energy_wh[0] == around[i] - above[i],
		   name);
	}
	is(rating_tier_at(&winter, 0), 0, "a cycle starts in the first tier");
	is(rating_tier_at(&winter, 199999), 0, "the last Wh up to the bound is first tier");
	is(rating_tier_at(&winter, 200000), 1, "after the bound comes the second tier");
	is(rating_tier_at(&winter, 400000), 2, "after the second bound the third");
	is(rating_tier_at(&flat, INT64_MAX), 0, "a flat price has one tier");
	is(fen(&winter, 100000, 150000), 6140, "start at 150: 50 kWh at 0.589 and 50 at 0.639");
	is(fen(&winter, 1000, 400000), 89, "start at the second bound: third tier");
	is(fen(&winter, 1, -1), -1, "a start below zero is refused");
}

static void
test_versions(void)
{
	SmRatingSpan spans[2] = {{&winter, 250000}, {&summer, 100000}};
	SmRatingSpan back[2] = {{&summer, 250000}, {&winter, 100000}};
	SmRatingSpan mixed[2] = {{&flat, 300000}, {&winter, 200000}};
	SmRated rated;
	int64_t out;

	/* 200 x 0.589 + 50 x 0.639, then from 250: 10 x 0.589 + 90 x 0.639 */
	ok(rating_cycle(spans, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out),
	   "a version change inside the cycle is rated");
	is(out, 21315, "the position carries over, the new bounds apply: 213.15");
	is(rated.energy_wh[0], 210000, "first tier got energy from both versions");
	is(rated.position_wh, 350000, "position over both versions");

	/* 250 x 0.589, then from 250: 100 x 0.639 */
	ok(rating_cycle(back, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 21115,
	   "a lower bound in the later version: 211.15");

	/* 300 x 0.80, then from 300: 100 x 0.639 + 100 x 0.889 */
	ok(rating_cycle(mixed, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 39280,
	   "from flat to tiers: what was used before counts: 392.80");
	is(rated.n_tiers, 3, "as many tiers as the version with most");
}

static void
test_negative_energy(void)
{
	SmRatingSpan down[2] = {{&winter, 250000}, {&winter, -100000}};
	SmRatingSpan below[2] = {{&winter, -5000}, {&winter, 205000}};
	SmRatingSpan only = {&winter, -5000};
	SmRated rated;
	int64_t out;

	ok(rating_cycle(down, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 8835,
	   "energy taken back leaves the tiers it came from: 150 x 0.589");
	ok(rated.energy_wh[1] == 0 && rated.tier_amount_e11[1] == 0,
	   "nothing stays behind in the second tier");
	is(rated.position_wh, 150000, "and the position goes back");
	ok(rating_cycle(&only, 1, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == -295,
	   "less than nothing is a credit at the first price: -2.945 becomes -2.95");
	is(rated.position_wh, 0, "the position is never below zero");
	ok(rating_cycle(below, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 11780,
	   "a debt of energy is paid back before the second tier begins");
}

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
test_overflow(void)
{
	SmTariff dear = {.n_tiers = 1, .price_e8 = {INT64_MAX}};
	SmRatingSpan many[4] = {{&dear, INT64_MAX}, {&dear, INT64_MIN}, {&dear, INT64_MAX}, {&flat, 1}};
	SmRatingSpan twice[2] = {{&flat, INT64_MAX}, {&flat, 1}};
	SmRated rated;
	int64_t out;

	ok(!rating_cycle(twice, 2, 0, &rated), "a position beyond int64 is refused");
	ok(rating_cycle(many, 1, 0, &rated), "the largest product fits the exact amount");
	ok(rated.amount_e11 == (SmInt128) INT64_MAX * INT64_MAX, "and is exact");
	ok(!rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out), "but is no money");
	ok(!rating_cycle(many + 1, 1, INT64_MAX, &rated),
	   "the way from one end to the other does not wrap");
	ok(!rating_cycle(&twice[1], 1, INT64_MAX, &rated), "a start at the end is refused");
	ok(rating_round((SmInt128) INT64_MAX * 1000000000, SM_ROUND_UP, 2, &out) && out == INT64_MAX,
	   "the largest money fits");
	ok(!rating_round((SmInt128) INT64_MAX * 1000000000 + 1, SM_ROUND_UP, 2, &out),
	   "one more does not");
	ok(rating_round((SmInt128) INT64_MIN * 1000000000, SM_ROUND_UP, 2, &out) && out == INT64_MIN,
	   "the smallest money fits");
}

/*
 * xorshift: the same numbers on every machine.
 */
static uint64_t
random_next(void)
{
	static uint64_t state = UINT64_C(88172645463325252);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/*
 * A tariff of up to 16 tiers with prices to 1e-8.
 */
static void
random_tariff(SmTariff *tariff)
{
	int64_t bound_wh = 0;
	int i;

	memset(tariff, 0, sizeof(*tariff));
	tariff->n_tiers = 1 + (int) (random_next() % SM_RATING_MAX_TIERS);
	for (i = 0; i < tariff->n_tiers; i++)
	{
		bound_wh += 1 + (int64_t) (random_next() % 100000);
		tariff->upto_wh[i] = bound_wh;
		tariff->price_e8[i] = (int64_t) (random_next() % 500000000);
	}
}

/*
 * Watt-hour by watt-hour would be slow: the amount of a use from zero by the
 * definition of graduated tiers, written another way than in rating.c.
 */
static SmInt128
amount_by_definition(const SmTariff *tariff, int64_t used_wh)
{
	SmInt128 amount_e11 = 0;
	int tier;

	for (tier = tariff->n_tiers - 1; tier >= 0; tier--)
	{
		int64_t below_wh = (tier == 0) ? 0 : tariff->upto_wh[tier - 1];

		if (used_wh > below_wh)
		{
			amount_e11 += (SmInt128) (used_wh - below_wh) * tariff->price_e8[tier];
			used_wh = below_wh;
		}
	}
	return amount_e11;
}

static void
test_partitions(void)
{
	int wrong_sum = 0;
	int wrong_parts = 0;
	int wrong_back = 0;
	int round;

	for (round = 0; round < 20000; round++)
	{
		SmRatingSpan spans[20];
		SmTariff tariff;
		SmRated rated;
		SmRated part;
		SmInt128 sum_e11 = 0;
		int64_t total_wh = 0;
		int n = 1 + (int) (random_next() % 19);
		int i;

		random_tariff(&tariff);
		for (i = 0; i < n; i++)
		{
			spans[i].tariff = &tariff;
			spans[i].energy_wh = (int64_t) (random_next() % 150000);
			if (!rating_cycle(&spans[i], 1, total_wh, &part))
				wrong_parts++;
			sum_e11 += part.amount_e11;
			total_wh += spans[i].energy_wh;
		}
		if (!rating_cycle(spans, n, 0, &rated) || rated.position_wh != total_wh ||
			rated.amount_e11 != amount_by_definition(&tariff, total_wh))
			wrong_sum++;
		if (rated.amount_e11 != sum_e11)
			wrong_parts++;
		spans[n].tariff = &tariff;
		spans[n].energy_wh = -total_wh;
		if (!rating_cycle(spans, n + 1, 0, &rated) || rated.amount_e11 != 0)
			wrong_back++;
	}
	is(wrong_sum, 0, "20,000 random tariffs: pieces cost what the whole costs by definition");
	is(wrong_parts, 0, "pieces rated one by one from their positions cost the same");
	is(wrong_back, 0, "taking all energy back leaves exactly nothing");
}

static void
test_apportion(void)
{
	static const SmInt128 thirds[3] = {3333333333, 3333333333, 3333333334};
	static const SmInt128 mixed[3] = {-1500000000, 500000000, 0};
	int64_t out[SM_RATING_MAX_TIERS];
	int wrong = 0;
	int round;

	ok(rating_apportion(thirds, 3, 2, 10, out) && out[0] == 3 && out[1] == 3 && out[2] == 4,
	   "the largest remainder gets the missing fen");
	ok(rating_apportion(mixed, 3, 2, -1, out) && out[0] == -1 && out[1] == 0 && out[2] == 0,
	   "negative lines are shared too, the first of equals first");
	ok(!rating_apportion(thirds, 3, 2, 14, out) && !rating_apportion(thirds, 3, 2, 8, out),
	   "a total that is not theirs is refused");
	for (round = 0; round < 20000; round++)
	{
		SmInt128 lines[SM_RATING_MAX_TIERS];
		SmInt128 sum = 0;
		SmRoundMode mode = (SmRoundMode) (random_next() % 3);
		int n = 1 + (int) (random_next() % SM_RATING_MAX_TIERS);
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
	test_worked_bills();
	test_bounds();
	test_versions();
	test_negative_energy();
	test_rounding();
	test_overflow();
	test_partitions();
	test_apportion();
	test_decimals();
	test_prices_and_text();
	test_interpolation();
	printf("1..%d\n", tests_run);
	return tests_failed == 0 ? 0 : 1;
}
