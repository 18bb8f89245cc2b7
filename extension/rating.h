/*
 * rating.h
 *		What energy costs: compiled tariffs, tiers, rounding, exact amounts.
 *
 * Pure: nothing here knows PostgreSQL, so that the same object is linked into
 * the extension, the unit tests and the fuzzers.  All numbers are integers
 * with their unit in the name:
 *
 *		_wh			energy in watt-hours
 *		_e8			price in 1e-8 currency per kWh, or money in 1e-8 currency
 *		_e11		amount in 1e-11 currency, which is exactly price_e8 x Wh
 *
 * so that an amount is exact until rating_round() makes money of it.  What has
 * to be divided (prorated fees, tax, power factor) is rounded half up to 1e-11.
 */
#ifndef SUBMETER_RATING_H
#define SUBMETER_RATING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calendar.h"

#define SM_RATING_MAX_TIERS 16
#define SM_RATING_MAX_BOUNDS 16
#define SM_RATING_MAX_ADDERS 32
#define SM_RATING_MAX_FEES 16
#define SM_RATING_MAX_DIGITS 2
#define SM_RATING_AMOUNT_SCALE 11
#define SM_RATING_PRICE_SCALE 8
#define SM_RATING_WH_DIGITS 3 /* of a kWh */

/* enough for any SmInt128 with sign, point and terminating zero */
#define SM_RATING_TEXT_SIZE 48

/* aligned as the server's memory is, not as the compiler would like it */
typedef __int128 SmInt128 __attribute__((aligned(8)));

/* "down" and "up" speak of the magnitude: towards zero and away from it */
typedef enum SmRoundMode
{
	SM_ROUND_HALF_UP,
	SM_ROUND_DOWN,
	SM_ROUND_UP
} SmRoundMode;

typedef enum SmTierCycle
{
	SM_TIER_MONTH,
	SM_TIER_YEAR,
	SM_TIER_CYCLE,
	SM_TIER_SEASON
} SmTierCycle;

/*
 * Upper bounds of all tiers but the last, up to and including; the first row
 * that fits day and household counts.
 */
typedef struct SmTierBounds
{
	int season;    /* -1: any */
	int household; /* for households of at least so many people; 0: any */
	int64_t upto_wh[SM_RATING_MAX_TIERS];
} SmTierBounds;

typedef struct SmAdder
{
	char name[SM_NAME_SIZE];
	int64_t price_e8;
} SmAdder;

typedef enum SmFeePer
{
	SM_FEE_DAY,
	SM_FEE_MONTH,
	SM_FEE_CYCLE
} SmFeePer;

typedef struct SmFee
{
	char name[SM_NAME_SIZE];
	SmFeePer per;
	bool prorate;
	int64_t amount_e8;
} SmFee;

typedef enum SmDemandBasis
{
	SM_DEMAND_NONE,
	SM_DEMAND_MAXIMUM,
	SM_DEMAND_CONTRACT,
	SM_DEMAND_CAPACITY
} SmDemandBasis;

/*
 * One tariff version with the named prices of a time filled in, ready for arithmetic.
 */
typedef struct SmTariff
{
	SmSchedule schedule;
	int n_tiers; /* at least 1 */
	bool volume; /* all energy of a cycle at the tier reached; else each slice at its own */
	SmTierCycle tier_cycle;
	int n_bounds;
	SmTierBounds bounds[SM_RATING_MAX_BOUNDS];
	int64_t price_e8[SM_RATING_MAX_TIERS][SM_MAX_PERIODS]; /* with the tier adder */
	int n_adders;
	SmAdder adders[SM_RATING_MAX_ADDERS];
	int64_t adders_e8; /* sum of all */
	int n_fees;
	SmFee fees[SM_RATING_MAX_FEES];
	SmDemandBasis demand;
	int64_t per_kw_e8;
	int window_minutes; /* of the demand: a divisor of a day */
	int power_factor;   /* standard in per cent: 80, 85 or 90; 0: none */
	int64_t minimum_e8;
	int64_t tax_rate_e8;
	bool tax_included;
	SmRoundMode rounding;
	int digits;
	int kwh_digits; /* -1: energy is not rounded */
	bool ordered;   /* the order of energy within a day matters: tiers meet periods */
	bool clock;     /* the amount grows with time alone: fees or demand */
} SmTariff;

/*
 * Energy of a time in which the tariff, the bounds, the period and the tier
 * cycle are the same; in time order.
 */
typedef struct SmRatingSpan
{
	const SmTariff *tariff;
	int bounds; /* row of tariff->bounds in force; not used when there is one tier */
	int period;
	bool restart; /* a tier cycle begins: the position is zero before this energy */
	int64_t energy_wh;
} SmRatingSpan;

/* A fee of a version: the share n/of of its amount, such as 12 of 30 days. */
typedef struct SmRatingFee
{
	const SmTariff *tariff;
	int fee;
	int64_t n;
	int64_t of;
} SmRatingFee;

/* Everything that decides what a cycle comes to. */
typedef struct SmRatingCycle
{
	int n_spans;
	const SmRatingSpan *spans;
	int64_t start_wh; /* tier position at the start */
	int n_fees;
	const SmRatingFee *fees;
	/* version in force at the end: demand, power factor, minimum, tax, rounding; NULL: none */
	const SmTariff *last;
	int64_t demand_w;   /* by the basis of last: highest window, contract or capacity */
	int64_t days;       /* local days begun and supplied */
	int64_t cycle_days; /* local days of the whole cycle */
	bool final;         /* closed or moved out: power factor and minimum apply */
	bool has_reactive;
	int64_t active_wh; /* for the power factor: energy of the intervals with a reactive register */
	int64_t reactive_varh;
	int64_t free_wh;       /* allowance: so much of the first energy … */
	int64_t free_share_e8; /* … at this share of its price less: 1e8 is free */
	int64_t allowance_e8;  /* allowance in money, taken from the taxed amount, never below zero */
} SmRatingCycle;

typedef enum SmComponent
{
	SM_LINE_ENERGY,       /* tariff, tier, period, energy, price */
	SM_LINE_DEMAND,       /* energy: watts; price per kW */
	SM_LINE_POWER_FACTOR, /* adjustment of energy and demand */
	SM_LINE_ADDER,        /* item: adder; energy, price */
	SM_LINE_FEE,          /* item: fee */
	SM_LINE_MINIMUM,      /* what is missing to the minimum */
	SM_LINE_TAX,
	SM_LINE_FREE_ENERGY, /* negative: allowance in kWh */
	SM_LINE_ALLOWANCE    /* negative: allowance in money */
} SmComponent;

typedef struct SmRatedLine
{
	SmComponent component;
	const SmTariff *tariff; /* NULL: of the whole cycle */
	int tier;               /* from 0; -1: of no tier */
	int period;             /* from 0; -1: of no period */
	int item;               /* adder or fee of the tariff; -1: neither */
	int64_t energy_wh;
	int64_t price_e8;
	SmInt128 amount_e11;
} SmRatedLine;

/*
 * What a cycle came to.  Lines are wanted only where somebody reads them: set
 * lines to NULL and max_lines to 0 otherwise.  Lines add up to amount_e11.
 */
typedef struct SmRated
{
	int n_tiers; /* largest of all versions */
	int64_t tier_wh[SM_RATING_MAX_TIERS];
	int64_t position_wh; /* tier position at the end */
	int power_factor;    /* found, in per cent; 0: none */
	SmInt128 amount_e11;
	int n_lines;
	int max_lines;
	SmRatedLine *lines;
} SmRated;

/* what rating_parse_decimal() found */
typedef enum SmDecimal
{
	SM_DECIMAL_OK,
	SM_DECIMAL_NOT_A_NUMBER,
	SM_DECIMAL_NEGATIVE,
	SM_DECIMAL_TOO_LARGE,
	SM_DECIMAL_TOO_FINE
} SmDecimal;

/* rating.c: a cycle */
extern bool rating_cycle(const SmRatingCycle *cycle, SmRated *out);
extern size_t rating_max_lines(const SmRatingCycle *cycle);

/* rating_tier.c: bounds in force, tier cycles, positions */
extern void rating_tier_range(const SmTariff *tariff, int bounds, int tier, int64_t *from_wh,
							  int64_t *to_wh);
extern int rating_tier_at(const SmTariff *tariff, int bounds, int64_t position_wh);
extern int rating_tier_reached(const SmTariff *tariff, int bounds, int64_t total_wh);
extern int rating_bounds_at(const SmTariff *tariff, int32_t day, int household);
extern int32_t rating_tier_start(const SmTariff *tariff, int32_t day, int32_t cycle_first_day);

/* rating_number.c: decimals, rounding, shares */
extern bool rating_round(SmInt128 amount_e11, SmRoundMode mode, int digits, int64_t *out);
extern bool rating_share(SmInt128 value, int64_t n, int64_t of, SmInt128 *out);
extern bool rating_round_energy(int64_t energy_wh, int kwh_digits, int64_t *out);
extern bool rating_apportion(const SmInt128 *exact_e11, int n_lines, int digits, int64_t total,
							 int64_t *out);
extern bool rating_interpolate(int64_t from_wh, int64_t to_wh, int64_t elapsed, int64_t length,
							   int64_t *out);
extern SmDecimal rating_parse_decimal(const char *text, int scale, int64_t limit, int64_t *out);
extern bool rating_scale_price(int64_t value_e8, int64_t times_e8, int digits, int64_t *out);
extern char *rating_format(SmInt128 value, int scale, int keep, char *buffer, size_t size);
extern char *rating_format_e11(SmInt128 amount_e11, char *buffer, size_t size);

/* power_factor.c: the published table of 1983 as data */
typedef struct SmPowerFactorStep
{
	int standard;      /* in per cent */
	int factor;        /* in per cent */
	int adjustment_e4; /* of the fee: -75 is -0.75 % */
} SmPowerFactorStep;

extern const SmPowerFactorStep *power_factor_table(int *n_steps);
extern int power_factor_of(int64_t active_wh, int64_t reactive_varh);
extern int power_factor_adjustment_e4(int standard, int factor);

#endif /* SUBMETER_RATING_H */
