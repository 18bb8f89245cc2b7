/*
 * test_rating.c
 *		A cycle: tiers, positions, versions, everything charged besides energy. Prints TAP.
 */
/* links: extension/rating.c extension/rating_energy.c extension/rating_number.c */
/* links: extension/rating_tier.c extension/calendar.c extension/power_factor.c */
#include "../../extension/rating.h"
#include "test_poller_tap.h"
#include "test_random.h"

#define E8 INT64_C(100000000)
#define MAX_LINES 2000

/* Guangzhou, ordinary household, prices rounded as people quote them */
#define TIERS(FIRST, SECOND)                                                            \
	{                                                                                   \
		.n_tiers = 3, .n_bounds = 1, .bounds = {{-1, 0, {FIRST, SECOND}}},              \
		.price_e8 = {{58900000}, {63900000}, {88900000}}, .digits = 2, .kwh_digits = -1 \
	}

static const SmTariff winter = TIERS(200000, 400000);
static const SmTariff summer = TIERS(260000, 600000);
static const SmTariff flat = {.n_tiers = 1,
							  .price_e8 = {{80000000}},
							  .digits = 2,
							  .kwh_digits = -1};

static SmRatedLine lines[MAX_LINES];

/*
 * A cycle of spans and nothing else.
 */
static bool
rate_spans(const SmRatingSpan *spans, int n_spans, int64_t start_wh, SmRated *rated)
{
	SmRatingCycle cycle = {.n_spans = n_spans, .spans = spans, .start_wh = start_wh};

	rated->lines = lines;
	rated->max_lines = MAX_LINES;
	return rating_cycle(&cycle, rated);
}

/*
 * Rounded amount, in fen; -1 when rating fails.
 */
static int64_t
fen_of(const SmRatingCycle *cycle)
{
	SmRated rated = {.lines = lines, .max_lines = MAX_LINES};
	SmInt128 sum_e11 = 0;
	int64_t out;
	int i;

	if (!rating_cycle(cycle, &rated) || !rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out))
		return -1;
	for (i = 0; i < rated.n_lines; i++)
		sum_e11 += lines[i].amount_e11;
	return (sum_e11 == rated.amount_e11) ? out : -2;
}

/*
 * The same for one span.
 */
static int64_t
fen(const SmTariff *tariff, int64_t energy_wh, int64_t start_wh)
{
	SmRatingSpan span = {.tariff = tariff, .energy_wh = energy_wh};
	SmRatingCycle cycle = {.n_spans = 1, .spans = &span, .start_wh = start_wh};

	return fen_of(&cycle);
}

static void
test_worked_bills(void)
{
	SmRatingSpan span = {.tariff = &winter, .energy_wh = 600000};
	SmRated rated;

	is(fen(&winter, 600000, 0), 42340, "600 kWh in December: 423.40");
	is(fen(&summer, 600000, 0), 37040, "600 kWh in May: 370.40");
	is(fen(&flat, 123456, 0), 9876, "123.456 kWh at 0.80: 98.7648 becomes 98.76");
	ok(rate_spans(&span, 1, 0, &rated), "a cycle is rated");
	is(rated.n_tiers, 3, "three tiers");
	is(rated.tier_wh[0], 200000, "first tier takes 200 kWh");
	is(rated.tier_wh[1], 200000, "second tier takes 200 kWh");
	is(rated.tier_wh[2], 200000, "third tier takes the rest");
	is(rated.position_wh, 600000, "position is what was used");
	is(rated.n_lines, 3, "one line per tier");
	ok(lines[0].amount_e11 + lines[1].amount_e11 + lines[2].amount_e11 == rated.amount_e11,
	   "lines add up to the amount");
	ok(rate_spans(NULL, 0, 0, &rated) && rated.amount_e11 == 0 && rated.position_wh == 0,
	   "no span, no amount");
	ok(rate_spans(NULL, 0, 300000, &rated) && rated.position_wh == 300000,
	   "no span, no other position");
}

static void
test_bounds(void)
{
	static const int64_t around[] = {199999, 200000, 200001};
	static const int64_t above[] = {0, 0, 1};
	SmRatingSpan span = {.tariff = &winter};
	SmRated rated;
	int i;

	for (i = 0; i < 3; i++)
	{
		char name[64];

		span.energy_wh = around[i];
		snprintf(name, sizeof(name), "%" PRId64 " Wh: %" PRId64 " Wh above the bound", around[i],
				 above[i]);
		ok(rate_spans(&span, 1, 0, &rated) && rated.tier_wh[1] == above[i] &&
			   rated.tier_wh[0] == around[i] - above[i],
		   name);
	}
	is(rating_tier_at(&winter, 0, 0), 0, "a cycle starts in the first tier");
	is(rating_tier_at(&winter, 0, 199999), 0, "the last Wh up to the bound is first tier");
	is(rating_tier_at(&winter, 0, 200000), 1, "after the bound comes the second tier");
	is(rating_tier_at(&winter, 0, 400000), 2, "after the second bound the third");
	is(rating_tier_at(&flat, 0, INT64_MAX), 0, "a flat price has one tier");
	is(fen(&winter, 100000, 150000), 6140, "start at 150: 50 kWh at 0.589 and 50 at 0.639");
	is(fen(&winter, 1000, 400000), 89, "start at the second bound: third tier");
	is(fen(&winter, 1, -1), -1, "a start below zero is refused");
}

static void
test_versions(void)
{
	SmRatingSpan spans[2] = {{.tariff = &winter, .energy_wh = 250000},
							 {.tariff = &summer, .energy_wh = 100000}};
	SmRatingSpan back[2] = {{.tariff = &summer, .energy_wh = 250000},
							{.tariff = &winter, .energy_wh = 100000}};
	SmRatingSpan mixed[2] = {{.tariff = &flat, .energy_wh = 300000},
							 {.tariff = &winter, .energy_wh = 200000}};
	SmRated rated;
	int64_t out;

	/* 200 x 0.589 + 50 x 0.639, then from 250: 10 x 0.589 + 90 x 0.639 */
	ok(rate_spans(spans, 2, 0, &rated) && rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out),
	   "a version change inside the cycle is rated");
	is(out, 21315, "the position carries over, the new bounds apply: 213.15");
	is(rated.tier_wh[0], 210000, "first tier got energy from both versions");
	is(rated.position_wh, 350000, "position over both versions");
	is(rated.n_lines, 4, "lines are kept apart by version");

	/* 250 x 0.589, then from 250: 100 x 0.639 */
	ok(rate_spans(back, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 21115,
	   "a lower bound in the later version: 211.15");

	/* 300 x 0.80, then from 300: 100 x 0.639 + 100 x 0.889 */
	ok(rate_spans(mixed, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 39280,
	   "from flat to tiers: what was used before counts: 392.80");
	is(rated.n_tiers, 3, "as many tiers as the version with most");
	spans[1].restart = true;
	ok(rate_spans(spans, 2, 100000, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out),
	   "a tier cycle may begin inside a charge");
	/* from 100: 100 x 0.589 + 150 x 0.639, then from 0: 100 x 0.589 */
	is(out, 5890 + 9585 + 5890, "then the position is zero: 213.65");
	is(rated.position_wh, 100000, "and goes on from there");
}

static void
test_negative_energy(void)
{
	SmRatingSpan down[2] = {{.tariff = &winter, .energy_wh = 250000},
							{.tariff = &winter, .energy_wh = -100000}};
	SmRatingSpan below[2] = {{.tariff = &winter, .energy_wh = -5000},
							 {.tariff = &winter, .energy_wh = 205000}};
	SmRatingSpan only = {.tariff = &winter, .energy_wh = -5000};
	SmRated rated;
	int64_t out;

	ok(rate_spans(down, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 8835,
	   "energy taken back leaves the tiers it came from: 150 x 0.589");
	ok(rated.tier_wh[1] == 0 && lines[1].energy_wh == 0 && lines[1].amount_e11 == 0,
	   "nothing stays behind in the second tier");
	is(rated.position_wh, 150000, "and the position goes back");
	ok(rate_spans(&only, 1, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == -295,
	   "less than nothing is a credit at the first price: -2.945 becomes -2.95");
	is(rated.position_wh, 0, "the position is never below zero");
	ok(rate_spans(below, 2, 0, &rated) &&
		   rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out) && out == 11780,
	   "a debt of energy is paid back before the second tier begins");
}

static void
test_volume(void)
{
	SmTariff volume = winter;
	SmRatingSpan spans[3] = {{.tariff = &volume, .energy_wh = 150000},
							 {.tariff = &volume, .energy_wh = 50000},
							 {.tariff = &volume, .energy_wh = 0}};
	SmRatingCycle cycle = {.n_spans = 3, .spans = spans};

	volume.volume = true;
	is(fen_of(&cycle), 11780, "200 kWh: all in the first tier, its bound included");
	spans[2].energy_wh = 1;
	is(fen_of(&cycle), 12780, "one Wh more: all in the second: 200.001 x 0.639");
	spans[2].energy_wh = 200001;
	is(fen_of(&cycle), 35560, "400.001 kWh in the third: x 0.889");
	spans[2].restart = true;
	is(fen_of(&cycle), 11780 + 12780, "a tier cycle that begins has its own total");
	cycle.start_wh = 1000;
	is(fen_of(&cycle), 12780 + 12780, "what the tier cycle used before decides the tier too");
}

static void
test_periods(void)
{
	/* peak 1.00 and valley 0.30, second tier 0.05 more */
	static const SmTariff tou = {
		.schedule = {.n_periods = 2, .periods = {{.name = "peak"}, {.name = "valley"}}},
		.n_tiers = 2,
		.n_bounds = 1,
		.bounds = {{-1, 0, {100000}}},
		.price_e8 = {{E8, 30000000}, {105000000, 35000000}},
		.digits = 2,
		.kwh_digits = -1,
		.ordered = true};
	SmRatingSpan spans[4] = {{.tariff = &tou, .period = 0, .energy_wh = 60000},
							 {.tariff = &tou, .period = 1, .energy_wh = 60000},
							 {.tariff = &tou, .period = 0, .energy_wh = 10000},
							 {.tariff = &tou, .period = 1, .energy_wh = 5000}};
	SmRatingCycle cycle = {.n_spans = 4, .spans = spans};
	SmRated rated = {.lines = lines, .max_lines = MAX_LINES};

	/* 60 x 1 + 40 x 0.30 + 20 x 0.35 + 10 x 1.05 + 5 x 0.35 */
	is(fen_of(&cycle), 6000 + 1200 + 700 + 1050 + 175, "tiers fill over periods in time order");
	ok(rating_cycle(&cycle, &rated) && rated.n_lines == 4, "one line per tier and period");
	is(lines[2].tier * 10 + lines[2].period, 11, "the third: second tier, valley");
	is(lines[2].energy_wh, 25000, "with energy from before and after");
}

static void
test_kwh_digits(void)
{
	static const SmTariff tou = {.n_tiers = 1, .price_e8 = {{E8, 30000000}}, .digits = 2};
	SmRatingSpan many[200];
	int i;
	SmTariff whole = winter;
	SmRatingSpan spans[3] = {{.tariff = &whole, .energy_wh = 400},
							 {.tariff = &whole, .energy_wh = 400},
							 {.tariff = &whole, .energy_wh = 400}};
	SmRatingCycle cycle = {.n_spans = 3, .spans = spans, .last = &whole};
	SmRated rated = {.lines = lines, .max_lines = MAX_LINES};

	whole.kwh_digits = 0;
	ok(rating_cycle(&cycle, &rated) && rated.tier_wh[0] == 1000 && rated.position_wh == 1000,
	   "three times 0.4 kWh are 1 kWh: the total is rounded, not the pieces");
	is(lines[0].energy_wh, 1000, "the line says so");
	spans[2].energy_wh = 700;
	is(fen_of(&cycle), 118, "1.5 kWh are 2");
	cycle.start_wh = 199000;
	is(fen_of(&cycle), 59 + 64, "the tier position counts rounded energy: 1 x 0.589 + 1 x 0.639");

	memset(many, 0, sizeof(many));
	for (i = 0; i < 200; i++)
		many[i] = (SmRatingSpan){.tariff = &tou, .period = i % 2, .energy_wh = 403 + i % 2};
	cycle = (SmRatingCycle){.n_spans = 200, .spans = many, .last = &tou};
	ok(rating_cycle(&cycle, &rated) && rated.n_lines == 2 && lines[0].energy_wh == 40000 &&
		   lines[1].energy_wh == 41000,
	   "40.3 and 40.4 kWh in turns are 80.7, so 81: the larger remainder gets the kWh");
	is(fen_of(&cycle), 4000 + 1230, "at 1.00 and 0.30");
	rated.lines = NULL;
	rated.max_lines = 0;
	ok(rating_cycle(&cycle, &rated) && rated.tier_wh[0] == 81000 && rated.n_lines == 0 &&
		   rated.amount_e11 == (SmInt128) 5230 * 1000000000,
	   "the same without lines");
	cycle.free_wh = 90000;
	cycle.free_share_e8 = E8;
	is(fen_of(&cycle), 0, "an allowance that covers all covers what was rounded up");
}

/*
 * A tariff with everything, and a cycle of 30 days with 100 kWh and 10 kW.
 */
static const SmTariff whole_tariff = {.n_tiers = 1,
									  .price_e8 = {{50000000}},
									  .n_adders = 2,
									  .adders = {{"funds", 3000000}, {"fund", 2000000}},
									  .adders_e8 = 5000000,
									  .n_fees = 1,
									  .fees = {{"service", SM_FEE_MONTH, true, 10 * E8}},
									  .demand = SM_DEMAND_MAXIMUM,
									  .per_kw_e8 = 30 * E8,
									  .power_factor = 90,
									  .minimum_e8 = 600 * E8,
									  .tax_rate_e8 = 10000000,
									  .digits = 2,
									  .kwh_digits = -1};
static const SmRatingSpan whole_span = {.tariff = &whole_tariff, .energy_wh = 100000};
static const SmRatingFee whole_fee = {&whole_tariff, 0, 30, 30};
static const SmRatingCycle whole_cycle = {.n_spans = 1,
										  .spans = &whole_span,
										  .n_fees = 1,
										  .fees = &whole_fee,
										  .last = &whole_tariff,
										  .demand_w = 10000,
										  .days = 30,
										  .cycle_days = 30,
										  .has_reactive = true,
										  .active_wh = 86,
										  .reactive_varh = 51};

static void
test_order_of_a_charge(void)
{
	SmRatingFee fee = whole_fee;
	SmRatingCycle cycle = whole_cycle;

	/* 50 + 300 + 5 + 10, x 1.1 */
	is(fen_of(&cycle), 40150, "an open charge: energy, demand, adders, fee, tax");
	cycle.days = fee.n = 12;
	cycle.fees = &fee;
	/* 50 + 120 + 5 + 4 */
	is(fen_of(&cycle), 19690, "demand and fee for 12 of 30 days");
	cycle = whole_cycle;
	cycle.final = true;
	/* 350 x 1.02 = 357, + 5 + 10 = 372, minimum 600 */
	is(fen_of(&cycle), 66000, "closed: the power factor, and the minimum before tax");
	cycle.demand_w = 30000;
	/* (50 + 900) x 1.02 + 15 = 984 */
	is(fen_of(&cycle), 108240, "above the minimum: 0.86 at 0.90 is 2 % on energy and demand only");
	cycle.has_reactive = false;
	is(fen_of(&cycle), 106150, "without a reactive register no power factor");
	cycle.days = fee.n = 15;
	cycle.fees = &fee;
	cycle.demand_w = 1000;
	/* 50 + 15 + 5 + 5 = 75, minimum 300 */
	is(fen_of(&cycle), 33000, "the minimum of half a cycle is half of it");
	cycle.days = 0;
	cycle.n_fees = 0;
	cycle.n_spans = 0;
	is(fen_of(&cycle), 0, "no day, nothing to pay");
}

static void
test_lines(void)
{
	SmRatingCycle cycle = whole_cycle;
	SmRated rated = {.lines = lines, .max_lines = MAX_LINES};
	int i;

	cycle.final = true;
	cycle.allowance_e8 = E8;
	cycle.free_wh = 10000;
	cycle.free_share_e8 = E8;
	ok(rating_cycle(&cycle, &rated), "a charge with every kind of line");
	is(rated.n_lines, 10, "two adders and one of each other kind");
	ok((size_t) rated.n_lines <= rating_max_lines(&cycle), "no more than announced");
	for (i = 1; i < rated.n_lines; i++)
		if (lines[i].component < lines[i - 1].component)
			break;
	is(i, rated.n_lines, "in the order of the charge");
	is(rated.power_factor, 86, "the power factor found");
	rated.max_lines = 9;
	ok(!rating_cycle(&cycle, &rated), "no room for a line is an error");
	rated.lines = NULL;
	rated.max_lines = 0;
	ok(rating_cycle(&cycle, &rated) && rated.n_lines == 0,
	   "without lines there is only the amount");
}

static void
test_allowances(void)
{
	SmRatingSpan spans[2] = {{.tariff = &winter, .energy_wh = 150000},
							 {.tariff = &winter, .energy_wh = 100000}};
	SmRatingCycle cycle = {
		.n_spans = 2, .spans = spans, .last = &winter, .free_wh = 220000, .free_share_e8 = E8};

	/* all: 200 x 0.589 + 50 x 0.639 = 149.75; first 220: 130.58 */
	is(fen_of(&cycle), 1917, "the first 220 kWh are free, tiers count them: 30 x 0.639");
	cycle.free_share_e8 = E8 / 2;
	is(fen_of(&cycle), 14975 - 6529, "half price takes half");
	cycle.free_wh = 1000000;
	cycle.free_share_e8 = E8;
	is(fen_of(&cycle), 0, "more than is used costs nothing, and gives nothing back");
	cycle.free_wh = 0;
	cycle.allowance_e8 = 20 * E8;
	is(fen_of(&cycle), 12975, "an allowance in money");
	cycle.allowance_e8 = 200 * E8;
	is(fen_of(&cycle), 0, "never takes more than there is");
	cycle = whole_cycle;
	cycle.free_wh = 10000;
	cycle.free_share_e8 = E8;
	/* 401.50 less 10 x 0.55 x 1.1 */
	is(fen_of(&cycle), 40150 - 605, "free energy is free of adders and tax too");
}

static void
test_seasons_and_households(void)
{
	/* Guangdong: summer from May to October, 100 kWh more for five and more people */
	SmTariff tariff = {
		.schedule = {.n_seasons = 2, .seasons = {{"summer", 501, 1101}, {"hot", 701, 1001}}},
		.n_tiers = 3,
		.n_bounds = 4,
		.bounds = {{0, 5, {360000, 700000}},
				   {-1, 5, {300000, 500000}},
				   {0, 0, {260000, 600000}},
				   {-1, 0, {200000, 400000}}}};
	int32_t may = calendar_day(2026, 5, 1);
	int32_t december = calendar_day(2026, 12, 10);

	is(rating_bounds_at(&tariff, may, 0), 2, "summer");
	is(rating_bounds_at(&tariff, may - 1, 4), 3, "the day before it, four people");
	is(rating_bounds_at(&tariff, may, 5), 0, "five people in summer");
	is(rating_bounds_at(&tariff, december, 9), 1, "nine in winter");
	tariff.n_bounds = 1;
	is(rating_bounds_at(&tariff, december, 9), -1, "no row fits");
	tariff.n_bounds = 4;
	is(rating_tier_start(&tariff, december, 5), calendar_day(2026, 12, 1), "month");
	tariff.tier_cycle = SM_TIER_YEAR;
	is(rating_tier_start(&tariff, december, 5), calendar_day(2026, 1, 1), "year");
	tariff.tier_cycle = SM_TIER_CYCLE;
	is(rating_tier_start(&tariff, december, 5), 5, "billing cycle");
	tariff.tier_cycle = SM_TIER_SEASON;
	is(rating_tier_start(&tariff, december, 5), calendar_day(2026, 11, 1), "season");
	is(rating_tier_start(&tariff, calendar_day(2026, 8, 1), 5), may, "only of those bounds name");
	tariff.bounds[0].season = tariff.bounds[2].season = -1;
	is(rating_tier_start(&tariff, calendar_day(2026, 8, 1), 5), calendar_day(2026, 7, 1),
	   "where they name none, any season");
}

static void
test_power_factor(void)
{
	int n;
	int i;
	int wrong = 0;
	const SmPowerFactorStep *steps = power_factor_table(&n);

	is(n, 123, "rows of the published table");
	for (i = 1; i < n; i++)
		if (steps[i].standard == steps[i - 1].standard)
			wrong += steps[i].factor != steps[i - 1].factor - 1 ||
					 steps[i].adjustment_e4 < steps[i - 1].adjustment_e4;
	is(wrong, 0, "every percentage once, a worse one never cheaper");
	is(power_factor_adjustment_e4(90, 86), 200, "0.86 at 0.90: +2 %");
	is(power_factor_adjustment_e4(90, 60), 2500, "0.60 at 0.90: +25 %");
	is(power_factor_adjustment_e4(90, 95), -75, "0.95 at 0.90: -0.75 %");
	is(power_factor_adjustment_e4(90, 100), -75, "and no more above");
	is(power_factor_adjustment_e4(90, 90), 0, "the standard itself");
	is(power_factor_adjustment_e4(90, 70), 1000, "0.70 at 0.90: +10 %");
	is(power_factor_adjustment_e4(90, 65), 1500, "0.65: +15 %");
	is(power_factor_adjustment_e4(90, 64), 1700, "0.64: +17 %");
	is(power_factor_adjustment_e4(85, 91), -65, "0.91 at 0.85: -0.65 %");
	is(power_factor_adjustment_e4(85, 100), -110, "1.00 at 0.85: -1.10 %");
	is(power_factor_adjustment_e4(85, 59), 1700, "0.59 at 0.85: +17 %");
	is(power_factor_adjustment_e4(80, 92), -130, "0.92 at 0.80: -1.30 %");
	is(power_factor_adjustment_e4(80, 55), 1500, "0.55 at 0.80: +15 %");
	is(power_factor_adjustment_e4(70, 55), 0, "no such standard, no adjustment");
	is(power_factor_of(1000, 0), 100, "no reactive energy");
	is(power_factor_of(3000, 4000), 60, "3, 4, 5");
	is(power_factor_of(3000, -4000), 60, "leading counts like lagging");
	is(power_factor_of(1, 1000000), 1, "never below 0.01");
	is(power_factor_of(0, 5), 0, "without active energy there is none");
	is(power_factor_of(INT64_MAX, INT64_MAX), 71, "the largest numbers: 0.707 is 0.71");
	is(power_factor_of(INT64_MAX, INT64_MIN), 71, "and their mirror image");
	/* 171 / sqrt(171^2 + Q^2) = 0.855 at Q = 103.7256 */
	is(power_factor_of(171000000, 103725500), 86, "a little above 0.855 is 0.86");
	is(power_factor_of(171000000, 103725700), 85, "a little below it is 0.85");
}

static void
test_overflow(void)
{
	static const SmTariff dear = {.n_tiers = 1, .price_e8 = {{INT64_MAX}}, .kwh_digits = -1};
	SmRatingSpan many[3] = {{.tariff = &dear, .energy_wh = INT64_MAX},
							{.tariff = &dear, .energy_wh = INT64_MIN},
							{.tariff = &flat, .energy_wh = 1}};
	SmRatingSpan twice[2] = {{.tariff = &flat, .energy_wh = INT64_MAX},
							 {.tariff = &flat, .energy_wh = 1}};
	SmTariff dues = {
		.n_tiers = 1, .kwh_digits = -1, .demand = SM_DEMAND_MAXIMUM, .per_kw_e8 = INT64_MAX};
	SmRatingCycle cycle = {
		.last = &dues, .demand_w = INT64_MAX, .days = INT64_MAX, .cycle_days = 1};
	SmRated rated = {0};
	int64_t out;

	ok(!rate_spans(twice, 2, 0, &rated), "a position beyond int64 is refused");
	ok(rate_spans(many, 1, 0, &rated), "the largest product fits the exact amount");
	ok(rated.amount_e11 == (SmInt128) INT64_MAX * INT64_MAX, "and is exact");
	ok(!rating_round(rated.amount_e11, SM_ROUND_HALF_UP, 2, &out), "but is no money");
	ok(!rate_spans(many + 1, 1, INT64_MAX, &rated),
	   "the way from one end to the other does not wrap");
	ok(!rate_spans(&twice[1], 1, INT64_MAX, &rated), "a start at the end is refused");
	ok(!rating_cycle(&cycle, &rated), "demand that does not fit is refused");
	cycle.days = 1;
	ok(rating_cycle(&cycle, &rated), "what fits is not");
	dues.tax_rate_e8 = E8;
	dues.per_kw_e8 = INT64_MAX;
	cycle.days = cycle.cycle_days = 31;
	ok(!rating_cycle(&cycle, &rated) || rated.amount_e11 > 0, "tax does not wrap");
}

/*
 * A tariff of up to 16 tiers with prices to 1e-8.
 */
static void
random_tariff(SmTariff *tariff)
{
	int64_t bound_wh = 0;
	int i;
	int j;

	memset(tariff, 0, sizeof(*tariff));
	tariff->n_tiers = 1 + (int) random_below(SM_RATING_MAX_TIERS);
	tariff->n_bounds = 1;
	tariff->kwh_digits = -1;
	tariff->schedule.n_periods = 1 + (int) random_below(4);
	for (i = 0; i < tariff->n_tiers; i++)
	{
		bound_wh += 1 + random_below(100000);
		tariff->bounds[0].upto_wh[i] = bound_wh;
		for (j = 0; j < tariff->schedule.n_periods; j++)
			tariff->price_e8[i][j] = random_below(500000000);
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
		int64_t below_wh = (tier == 0) ? 0 : tariff->bounds[0].upto_wh[tier - 1];

		if (used_wh > below_wh)
		{
			amount_e11 += (SmInt128) (used_wh - below_wh) * tariff->price_e8[tier][0];
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
		SmRatingSpan spans[20] = {{0}};
		SmTariff tariff;
		SmRated rated;
		SmRated part;
		SmInt128 sum_e11 = 0;
		int64_t total_wh = 0;
		int n = 1 + (int) random_below(19);
		int i;

		random_tariff(&tariff);
		for (i = 0; i < n; i++)
		{
			spans[i].tariff = &tariff;
			spans[i].energy_wh = random_below(150000);
			if (!rate_spans(&spans[i], 1, total_wh, &part))
				wrong_parts++;
			sum_e11 += part.amount_e11;
			total_wh += spans[i].energy_wh;
		}
		if (!rate_spans(spans, n, 0, &rated) || rated.position_wh != total_wh ||
			rated.amount_e11 != amount_by_definition(&tariff, total_wh))
			wrong_sum++;
		if (rated.amount_e11 != sum_e11)
			wrong_parts++;
		spans[n].tariff = &tariff;
		spans[n].energy_wh = -total_wh;
		if (!rate_spans(spans, n + 1, 0, &rated) || rated.amount_e11 != 0)
			wrong_back++;
	}
	is(wrong_sum, 0, "20,000 random tariffs: pieces cost what the whole costs by definition");
	is(wrong_parts, 0, "pieces rated one by one from their positions cost the same");
	is(wrong_back, 0, "taking all energy back leaves exactly nothing");
}

/*
 * Anything a cycle can have, over two random versions.
 */
static void
random_cycle(SmRatingCycle *cycle, SmTariff *tariffs, SmRatingSpan *spans, SmRatingFee *fees)
{
	int i;

	for (i = 0; i < 2; i++)
	{
		random_tariff(&tariffs[i]);
		tariffs[i].n_adders = (int) random_below(3);
		tariffs[i].adders[0].price_e8 = random_below(5000000);
		tariffs[i].adders[1].price_e8 = random_below(5000000);
		tariffs[i].adders_e8 = tariffs[i].n_adders > 0 ? tariffs[i].adders[0].price_e8 : 0;
		tariffs[i].adders_e8 += tariffs[i].n_adders > 1 ? tariffs[i].adders[1].price_e8 : 0;
		tariffs[i].volume = random_below(4) == 0;
		tariffs[i].n_fees = 1;
		tariffs[i].fees[0].amount_e8 = random_below(100 * E8);
		tariffs[i].kwh_digits = (int) random_below(5) - 1;
		tariffs[i].demand = random_below(2) ? SM_DEMAND_MAXIMUM : SM_DEMAND_NONE;
		tariffs[i].per_kw_e8 = random_below(50 * E8);
		tariffs[i].power_factor = random_below(2) ? 90 : 0;
		tariffs[i].minimum_e8 = random_below(2) * random_below(1000 * E8);
		tariffs[i].tax_rate_e8 = random_below(2) * random_below(E8);
		tariffs[i].tax_included = random_below(3) == 0;
		fees[i] = (SmRatingFee){&tariffs[i], 0, random_below(31), 30};
	}
	memset(cycle, 0, sizeof(*cycle));
	cycle->n_spans = 1 + (int) random_below(10);
	for (i = 0; i < cycle->n_spans; i++)
	{
		spans[i].tariff = &tariffs[i * 2 / (cycle->n_spans + 1)];
		spans[i].bounds = 0;
		spans[i].period = (int) random_below(spans[i].tariff->schedule.n_periods);
		spans[i].restart = random_below(8) == 0;
		spans[i].energy_wh = random_below(150000);
	}
	cycle->spans = spans;
	cycle->start_wh = random_below(2) * random_below(300000);
	cycle->n_fees = 2;
	cycle->fees = fees;
	cycle->last = &tariffs[1];
	cycle->demand_w = random_below(100000);
	cycle->cycle_days = 31;
	cycle->days = random_below(32);
	cycle->final = random_below(2) == 0;
	cycle->has_reactive = random_below(2) == 0;
	cycle->active_wh = random_below(100000);
	cycle->reactive_varh = random_below(100000);
	cycle->free_wh = random_below(2) * random_below(200000);
	cycle->free_share_e8 = random_below(E8 + 1);
	cycle->allowance_e8 = random_below(2) * random_below(100 * E8);
}

static void
test_random_cycles(void)
{
	int wrong_sum = 0;
	int wrong_energy = 0;
	int wrong_split = 0;
	int wrong_sign = 0;
	int round;

	for (round = 0; round < 20000; round++)
	{
		SmTariff tariffs[2];
		SmRatingSpan spans[12];
		SmRatingFee fees[2];
		SmRatingCycle cycle;
		SmRated rated = {.lines = lines, .max_lines = MAX_LINES};
		SmRated again = {0};
		SmInt128 sum_e11 = 0;
		int64_t used_wh = 0;
		int64_t line_wh = 0;
		int i;
		int at;

		random_cycle(&cycle, tariffs, spans, fees);
		if (!rating_cycle(&cycle, &rated) || (size_t) rated.n_lines > rating_max_lines(&cycle))
			wrong_sum++;
		for (i = 0; i < rated.n_lines; i++)
		{
			sum_e11 += lines[i].amount_e11;
			line_wh += lines[i].component == SM_LINE_ENERGY ? lines[i].energy_wh : 0;
		}
		for (i = 0; i < cycle.n_spans; i++)
			used_wh += spans[i].energy_wh;
		wrong_sum += sum_e11 != rated.amount_e11;
		wrong_sign += rated.amount_e11 < 0;
		if (!rating_round_energy(used_wh, tariffs[1].kwh_digits, &used_wh) || used_wh != line_wh)
			wrong_energy++;
		/* cut one span in two */
		at = (int) random_below(cycle.n_spans);
		memmove(&spans[at + 1], &spans[at], (size_t) (cycle.n_spans - at) * sizeof(spans[0]));
		cycle.n_spans++;
		spans[at + 1].energy_wh = random_below(spans[at].energy_wh + 1);
		spans[at].energy_wh -= spans[at + 1].energy_wh;
		spans[at + 1].restart = false;
		if (!rating_cycle(&cycle, &again) || again.amount_e11 != rated.amount_e11 ||
			again.position_wh != rated.position_wh)
			wrong_split++;
	}
	is(wrong_sum, 0, "20,000 random cycles: lines add up to the amount exactly");
	is(wrong_energy, 0, "their energy to the rounded energy of the cycle");
	is(wrong_split, 0, "a span cut in two costs the same");
	is(wrong_sign, 0, "no allowance makes a charge negative");
}

int
main(void)
{
	test_worked_bills();
	test_bounds();
	test_versions();
	test_negative_energy();
	test_volume();
	test_periods();
	test_kwh_digits();
	test_order_of_a_charge();
	test_lines();
	test_allowances();
	test_seasons_and_households();
	test_power_factor();
	test_overflow();
	test_partitions();
	test_random_cycles();
	return tap_done();
}
