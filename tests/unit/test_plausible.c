/*
 * test_plausible.c
 *		Which readings can be right: the limits of one step, the fold over a series, and what the
 *		database relies on when it folds only a part again. Prints TAP.
 */
/* links: extension/plausible.c */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../extension/plausible.h"

#define MINUTE INT64_C(60000000)
#define HOUR (60 * MINUTE)
#define N_SERIES 400
#define N_ROUNDS 2000

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

/* 60 A at 220 V, one phase */
static const SmRating small = {.max_power_w = 13200};
static const SmRating rolling = {.max_power_w = 13200, .modulus_wh = 1000000};
static const SmRating unknown = {.max_power_w = 0};

/*
 * The limits of one step: 20 % overload, a minute of clock, 100 Wh of resolution.
 */
static void
test_step(void)
{
	int64_t delta;

	ok(plausible_step(&small, 0, 1000, 15 * MINUTE, 5324),
	   "13.2 kW, overload, a minute and 100 Wh");
	ok(!plausible_step(&small, 0, 1000, 15 * MINUTE, 5325), "one Wh more is too much");
	ok(plausible_step(&small, 0, 1000, 15 * MINUTE, 1000), "standing still");
	ok(!plausible_step(&small, 0, 1000, 15 * MINUTE, 999), "one Wh backwards");
	ok(plausible_step(&small, 0, 1000, 1, 1100), "the resolution of a register in no time at all");
	ok(plausible_step(&small, 0, 1000, 1, 1364), "and a minute's worth for the clocks");
	ok(!plausible_step(&small, 0, 1000, 1, 1365), "no more than that");
	ok(plausible_step(&unknown, 0, 0, HOUR, 80619), "without a rating 66 kW are assumed");
	ok(!plausible_step(&unknown, 0, 0, HOUR, 90000), "not 90");
	ok(plausible_step(&small, 0, 0, 8760 * HOUR, 100000000), "a year of silence explains a lot");

	ok(plausible_delta(&rolling, 0, 999900, 15 * MINUTE, 50, &delta), "a roll-over");
	is(delta, 150, "is counted through");
	ok(!plausible_delta(&rolling, 0, 500000, 15 * MINUTE, 499000, &delta), "back by 1 kWh is none");
	ok(!plausible_delta(&small, 0, 999900, 15 * MINUTE, 50, &delta),
	   "nor is anything without a modulus");
	ok(plausible_power_w(INT64_MAX / 2, 1) > 1e15, "absurd energies do not overflow");
	ok(plausible_power_w(100, 1) == 0, "the resolution needs no power");
}

/*
 * Values by which devices say "none".
 */
static void
test_sentinel(void)
{
	ok(plausible_sentinel(4294967295), "32 bits set");
	ok(plausible_sentinel(42949672950), "at one decimal");
	ok(plausible_sentinel(4294967295000), "in kWh");
	ok(plausible_sentinel(2147483647), "31 bits set");
	ok(plausible_sentinel(999999990), "eight nines at one decimal");
	ok(plausible_sentinel(INT64_MAX), "63 bits set");
	ok(!plausible_sentinel(99999999), "eight nines in Wh can be a register");
	ok(!plausible_sentinel(0) && !plausible_sentinel(-1) && !plausible_sentinel(4294967294),
	   "others");
}

/*
 * Folds registers a quarter of an hour apart; the classes come as letters: . valid, b backwards,
 * j jump, c confirms, w withdrawn.
 */
static const char *
fold_letters(const SmRating *rating, const int64_t *wh, const SmVerdict *verdicts, int n)
{
	static char letters[64];
	SmFold fold = {0};

	for (int i = 0; i < n; i++)
		letters[i] = ".bjcw"[plausible_fold(&fold, rating, verdicts ? verdicts[i] : SM_VERDICT_NONE,
											i * 15 * MINUTE, wh[i])];
	letters[n] = 0;
	return letters;
}

#define LETTERS(rating, verdicts, ...)                             \
	fold_letters(rating, (const int64_t[]){__VA_ARGS__}, verdicts, \
				 (int) (sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static void
is_letters(const char *got, const char *wanted, const char *name)
{
	ok(strcmp(got, wanted) == 0, name);
	if (strcmp(got, wanted) != 0)
		printf("# got %s, wanted %s\n", got, wanted);
}

static void
test_fold(void)
{
	static const SmVerdict accept_third[] = {0, 0, SM_VERDICT_ACCEPT, 0, 0, 0};
	static const SmVerdict withdraw_second[] = {0, SM_VERDICT_WITHDRAW, 0, 0, 0, 0};
	static const SmVerdict replace_third[] = {0, 0, SM_VERDICT_REPLACE, 0, 0, 0};

	is_letters(LETTERS(&small, NULL, 1000, 1500, 2000, 2000), "....", "a plain series");
	is_letters(LETTERS(&small, NULL, 5), ".", "the first reading is believed");
	is_letters(LETTERS(&small, NULL, 1000, 900, 1100), ".b.", "one backwards, skipped");
	is_letters(LETTERS(&small, NULL, 1000, 90000, 1100), ".j.", "one jump, skipped");
	is_letters(LETTERS(&small, NULL, 1000, 900, 950, 1000), ".bc.", "two that agree are believed");
	is_letters(LETTERS(&small, NULL, 1000, 90000, 90500, 91000), ".jc.", "up as well as down");
	is_letters(LETTERS(&small, NULL, 1000, 900, 90000, 1100), ".bj.",
			   "two that do not agree are not");
	is_letters(LETTERS(&small, NULL, 1000, 90000, 900, 950), ".jbc",
			   "each is compared with the last");
	is_letters(LETTERS(&small, NULL, 1000, 900, 1100, 950, 960), ".b.bc",
			   "a candidate is forgotten when the series goes on");
	is_letters(LETTERS(&small, NULL, 1000, 90000, 80000, 90500), ".jjj",
			   "a candidate that is left is not come back to");
	is_letters(LETTERS(&rolling, NULL, 999000, 999900, 50, 600), "....", "a roll-over");
	is_letters(LETTERS(&small, accept_third, 1000, 1500, 90000, 1600, 90100), "...b.",
			   "accepted, it is what the next ones are compared with");
	is_letters(LETTERS(&small, withdraw_second, 1000, 1500, 1200, 1700), ".w..",
			   "withdrawn, it is nothing");
	is_letters(LETTERS(&small, replace_third, 1000, 1500, 1400, 1450), "....",
			   "what a person read counts even when it is less");
}

/* ---- what the database relies on ---- */

typedef struct SmPoint
{
	int64_t us;
	int64_t wh;
	SmClass class;
} SmPoint;

static SmPoint series[N_SERIES];

/*
 * A series with glitches of every kind: single values, runs that confirm each other, resets.
 */
static void
series_make(void)
{
	int64_t us = 0;
	int64_t wh = 1000000;

	for (int i = 0; i < N_SERIES; i++)
	{
		int what = rand() % 40;

		us += (1 + rand() % 60) * MINUTE;
		wh += rand() % 800;
		if (what == 0)
			wh = rand() % 2000000;
		series[i].us = us;
		series[i].wh = what == 1 ? rand() % 3000000 : what == 2 ? wh + rand() % 100000 : wh;
	}
}

static void
series_fold(const SmRating *rating)
{
	SmFold fold = {0};

	for (int i = 0; i < N_SERIES; i++)
		series[i].class =
			plausible_fold(&fold, rating, SM_VERDICT_NONE, series[i].us, series[i].wh);
}

/*
 * Folding again from a reading that is valid for good gives the same from there on. Without this
 * a late reading would have to fold the whole history.
 */
static bool
restarts_agree(const SmRating *rating)
{
	for (int from = 0; from < N_SERIES; from++)
	{
		SmFold fold = {.has_base = true, .base_us = series[from].us, .base_wh = series[from].wh};

		if (series[from].class != SM_CLASS_VALID && series[from].class != SM_CLASS_CONFIRMS)
			continue;
		for (int i = from + 1; i < N_SERIES; i++)
		{
			if (plausible_fold(&fold, rating, SM_VERDICT_NONE, series[i].us, series[i].wh) !=
				series[i].class)
				return false;
		}
	}
	return true;
}

/*
 * A baseline is never left by a step that is not plausible, but where two suspects agreed.
 */
static bool
baselines_hold(const SmRating *rating)
{
	int base = -1;

	for (int i = 0; i < N_SERIES; i++)
	{
		if (series[i].class == SM_CLASS_VALID && base >= 0 &&
			!plausible_step(rating, series[base].us, series[base].wh, series[i].us, series[i].wh))
			return false;
		if (series[i].class == SM_CLASS_CONFIRMS &&
			(i == 0 ||
			 (series[i - 1].class != SM_CLASS_BACKWARDS && series[i - 1].class != SM_CLASS_JUMP) ||
			 !plausible_step(rating, series[i - 1].us, series[i - 1].wh, series[i].us,
							 series[i].wh)))
			return false;
		if (series[i].class == SM_CLASS_VALID || series[i].class == SM_CLASS_CONFIRMS)
			base = i;
	}
	return true;
}

/*
 * One strange value in a series that is right otherwise: it alone is suspect.
 */
static bool
glitch_stays_alone(const SmRating *rating)
{
	int at = 1 + rand() % (N_SERIES - 1);
	int64_t wh = 1000000;

	for (int i = 0; i < N_SERIES; i++)
	{
		wh += rand() % 500;
		series[i].us = (i + 1) * 15 * MINUTE;
		series[i].wh = wh;
	}
	series[at].wh = rand() % 2 ? series[at].wh - 600000 : series[at].wh + 600000;
	series_fold(rating);
	for (int i = 0; i < N_SERIES; i++)
	{
		if ((series[i].class == SM_CLASS_VALID) != (i != at))
			return false;
	}
	return true;
}

static void
test_properties(void)
{
	int restarts = 0;
	int baselines = 0;
	int glitches = 0;
	int suspects = 0;
	int confirmed = 0;

	srand(20250101);
	for (int i = 0; i < N_ROUNDS; i++)
	{
		const SmRating *rating = i % 2 ? &small : &rolling;

		series_make();
		series_fold(rating);
		for (int j = 0; j < N_SERIES; j++)
		{
			suspects += series[j].class == SM_CLASS_BACKWARDS || series[j].class == SM_CLASS_JUMP;
			confirmed += series[j].class == SM_CLASS_CONFIRMS;
		}
		/* The restarts of one series are many; some series will do. */
		restarts += i % 40 != 0 || restarts_agree(rating);
		baselines += baselines_hold(rating);
		glitches += glitch_stays_alone(&small);
	}
	ok(suspects > N_ROUNDS && confirmed > N_ROUNDS, "the series have suspects and confirmations");
	is(restarts, N_ROUNDS, "folding again from any valid reading gives the same");
	is(baselines, N_ROUNDS, "no implausible step leaves a baseline");
	is(glitches, N_ROUNDS, "a single strange value stays the only suspect");
}

int
main(void)
{
	test_step();
	test_sentinel();
	test_fold();
	test_properties();
	printf("1..%d\n", tests_run);
	return tests_failed == 0 ? 0 : 1;
}
