/*
 * rating.h
 *		What energy costs: compiled tariffs, tiers, rounding, exact amounts.
 *
 * Pure: nothing here knows PostgreSQL, so that the same object is linked into
 * the extension, the unit tests and the fuzzers.  All numbers are integers
 * with their unit in the name:
 *
 *		_wh			energy in watt-hours
 *		_e8			price in 1e-8 currency per kWh
 *		_e11		amount in 1e-11 currency, which is exactly price_e8 x Wh
 *
 * so that an amount is exact until rating_round() makes money of it.
 */
#ifndef SUBMETER_RATING_H
#define SUBMETER_RATING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SM_RATING_MAX_TIERS 16
#define SM_RATING_MAX_DIGITS 2
#define SM_RATING_AMOUNT_SCALE 11
#define SM_RATING_PRICE_SCALE 8

/* enough for any SmInt128 with sign, point and terminating zero */
#define SM_RATING_TEXT_SIZE 48

typedef __int128 SmInt128;

/* "down" and "up" speak of the magnitude: towards zero and away from it */
typedef enum SmRoundMode
{
	SM_ROUND_HALF_UP,
	SM_ROUND_DOWN,
	SM_ROUND_UP
} SmRoundMode;

/*
 * One tariff version, ready for arithmetic.  Tier i (from 0) reaches up to and
 * including upto_wh[i]; the last one is open and its upto_wh is not used.
 */
typedef struct SmTariff
{
	int n_tiers;
	int64_t upto_wh[SM_RATING_MAX_TIERS];
	int64_t price_e8[SM_RATING_MAX_TIERS];
	SmRoundMode rounding;
	int digits;
} SmTariff;

/* energy of one tier cycle under one tariff version, in time order */
typedef struct SmRatingSpan
{
	const SmTariff *tariff;
	int64_t energy_wh;
} SmRatingSpan;

/* what a cycle came to; n_tiers is the largest of all versions in it */
typedef struct SmRated
{
	int n_tiers;
	int64_t energy_wh[SM_RATING_MAX_TIERS];
	SmInt128 tier_amount_e11[SM_RATING_MAX_TIERS];
	SmInt128 amount_e11;
	int64_t position_wh;
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

extern int rating_tier_at(const SmTariff *tariff, int64_t position_wh);
extern bool rating_cycle(const SmRatingSpan *spans, int n_spans, int64_t start_wh, SmRated *out);

extern bool rating_round(SmInt128 amount_e11, SmRoundMode mode, int digits, int64_t *out);
extern bool rating_apportion(const SmInt128 *exact_e11, int n_lines, int digits, int64_t total,
							 int64_t *out);
extern bool rating_interpolate(int64_t from_wh, int64_t to_wh, int64_t elapsed, int64_t length,
							   int64_t *out);

extern SmDecimal rating_parse_decimal(const char *text, int scale, int64_t limit, int64_t *out);
extern bool rating_scale_price(int64_t value_e8, int64_t times_e8, int digits, int64_t *out);
extern char *rating_format(SmInt128 value, int scale, int keep, char *buffer, size_t size);
extern char *rating_format_e11(SmInt128 amount_e11, char *buffer, size_t size);

#endif /* SUBMETER_RATING_H */
