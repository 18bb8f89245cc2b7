/*
 * rating.c
 *		What energy costs: tiers, exact amounts, rounding.
 *
 * The amount of a cycle is a function of its facts alone: the energy per
 * tariff version, in time order, and the position the cycle started at.  It is
 * kept exact (1e-11 currency) and becomes money only in rating_round(), so
 * charging by difference adds up to the bill whatever order the readings came
 * in.  Every operation that can overflow is checked and reported by a false
 * result; nothing wraps silently.
 *
 * Pure: no allocation, no error reporting, no locks, no global state.
 */
#include "rating.h"

#include <string.h>

/*
 * 10 to the power of n, for 0 <= n <= 38.
 */
static SmInt128
rating_power10(int n)
{
	SmInt128 power = 1;

	while (n-- > 0)
		power *= 10;
	return power;
}

/*
 * Quotient rounded towards minus infinity; divisor > 0.
 */
static SmInt128
rating_floor(SmInt128 value, SmInt128 divisor)
{
	SmInt128 quotient = value / divisor;

	return (value % divisor < 0) ? quotient - 1 : quotient;
}

/*
 * Quotient rounded in the given mode; divisor > 0.
 */
static SmInt128
rating_divide(SmInt128 value, SmInt128 divisor, SmRoundMode mode)
{
	SmInt128 quotient = value / divisor;
	SmInt128 rest = value % divisor;
	SmInt128 away = (value < 0) ? -1 : 1;

	if (rest < 0)
		rest = -rest;
	if (rest == 0 || mode == SM_ROUND_DOWN)
		return quotient;
	if (mode == SM_ROUND_UP || rest >= divisor - rest)
		return quotient + away;
	return quotient;
}

/*
 * Narrow to int64; false when it does not fit.
 */
static bool
rating_narrow(SmInt128 value, int64_t *out)
{
	if (value > INT64_MAX || value < INT64_MIN)
		return false;
	*out = (int64_t) value;
	return true;
}

/*
 * The tier (from 0) in which the next watt-hour after the position falls.  A
 * bound belongs to the tier below it, so at the bound itself the next
 * watt-hour is the first of the tier above.
 */
int
rating_tier_at(const SmTariff *tariff, int64_t position_wh)
{
	int tier = 0;

	while (tier < tariff->n_tiers - 1 && position_wh >= tariff->upto_wh[tier])
		tier++;
	return tier;
}

/*
 * Where a tier begins and ends.  The first one also takes what lies below
 * zero, the last one has no end.
 */
static void
rating_tier_range(const SmTariff *tariff, int tier, int64_t *from_wh, int64_t *to_wh)
{
	*from_wh = (tier == 0) ? INT64_MIN : tariff->upto_wh[tier - 1];
	*to_wh = (tier == tariff->n_tiers - 1) ? INT64_MAX : tariff->upto_wh[tier];
}

/*
 * Add energy of one tier to what was rated so far.
 */
static bool
rating_add_tier(SmRated *out, int tier, int64_t energy_wh, int64_t price_e8)
{
	SmInt128 amount_e11 = (SmInt128) energy_wh * price_e8;

	return !__builtin_add_overflow(out->energy_wh[tier], energy_wh, &out->energy_wh[tier]) &&
		   !__builtin_add_overflow(out->tier_amount_e11[tier], amount_e11,
								   &out->tier_amount_e11[tier]) &&
		   !__builtin_add_overflow(out->amount_e11, amount_e11, &out->amount_e11);
}

/*
 * Rate the way from one position to another, in either direction: a way back
 * takes energy out of the tiers it goes through, at the prices in force.
 */
static bool
rating_add_way(SmRated *out, const SmTariff *tariff, int64_t from_wh, int64_t to_wh)
{
	int64_t low = (from_wh < to_wh) ? from_wh : to_wh;
	int64_t high = (from_wh < to_wh) ? to_wh : from_wh;
	int tier;

	for (tier = 0; tier < tariff->n_tiers; tier++)
	{
		int64_t tier_from;
		int64_t tier_to;
		int64_t part_wh;

		rating_tier_range(tariff, tier, &tier_from, &tier_to);
		if (tier_from < low)
			tier_from = low;
		if (tier_to > high)
			tier_to = high;
		if (tier_from >= tier_to)
			continue;
		if (__builtin_sub_overflow(tier_to, tier_from, &part_wh))
			return false;
		if (!rating_add_tier(out, tier, (from_wh < to_wh) ? part_wh : -part_wh,
							 tariff->price_e8[tier]))
			return false;
	}
	return true;
}

/*
 * Rate one tier cycle: spans in time order, one per tariff version in force.
 *
 * The tier position starts at start_wh (0 for a whole cycle) and is carried
 * from span to span; the bounds and prices of each span's own version apply to
 * it.  Energy may be negative, as after a correction: the amount then goes
 * down again the way it came.  Inside the cycle a debt of energy is remembered
 * and counts as first tier, so that the result depends on sums and not on how
 * they were cut; the position handed back is never below zero.
 *
 * False when a number does not fit or start_wh is negative; *out is then
 * unusable.
 */
bool
rating_cycle(const SmRatingSpan *spans, int n_spans, int64_t start_wh, SmRated *out)
{
	int64_t position_wh = start_wh;
	int i;

	memset(out, 0, sizeof(*out));
	if (start_wh < 0)
		return false;
	for (i = 0; i < n_spans; i++)
	{
		int64_t next_wh;

		if (out->n_tiers < spans[i].tariff->n_tiers)
			out->n_tiers = spans[i].tariff->n_tiers;
		if (__builtin_add_overflow(position_wh, spans[i].energy_wh, &next_wh))
			return false;
		if (!rating_add_way(out, spans[i].tariff, position_wh, next_wh))
			return false;
		position_wh = next_wh;
	}
	out->position_wh = (position_wh > 0) ? position_wh : 0;
	return true;
}

/*
 * Make money of an exact amount: *out counts units of 10^-digits currency
 * (fen for 2 digits).  False when the digits are out of range or the result
 * does not fit.
 */
bool
rating_round(SmInt128 amount_e11, SmRoundMode mode, int digits, int64_t *out)
{
	if (digits < 0 || digits > SM_RATING_MAX_DIGITS)
		return false;
	return rating_narrow(
		rating_divide(amount_e11, rating_power10(SM_RATING_AMOUNT_SCALE - digits), mode), out);
}

/*
 * Share a rounded total among its exact lines by largest remainder, so that
 * what is printed adds up.  Each line gets its amount rounded down, then the
 * missing units go one each to the lines that lost most, the earlier one first
 * among equals.  total must be the sum of the lines rounded up or down to the
 * next unit, else the result is false.
 */
bool
rating_apportion(const SmInt128 *exact_e11, int n_lines, int digits, int64_t total, int64_t *out)
{
	SmInt128 unit;
	SmInt128 missing = total;
	bool given[SM_RATING_MAX_TIERS] = {false};
	int i;

	if (digits < 0 || digits > SM_RATING_MAX_DIGITS || n_lines > SM_RATING_MAX_TIERS)
		return false;
	unit = rating_power10(SM_RATING_AMOUNT_SCALE - digits);
	for (i = 0; i < n_lines; i++)
	{
		if (!rating_narrow(rating_floor(exact_e11[i], unit), &out[i]))
			return false;
		missing -= out[i];
	}
	if (missing < 0 || missing > n_lines)
		return false;
	for (; missing > 0; missing--)
	{
		SmInt128 best_rest = -1;
		int best = 0;

		for (i = 0; i < n_lines; i++)
		{
			SmInt128 rest = exact_e11[i] - rating_floor(exact_e11[i], unit) * unit;

			if (!given[i] && rest > best_rest)
			{
				best = i;
				best_rest = rest;
			}
		}
		given[best] = true;
		out[best]++;
	}
	return true;
}

/*
 * The register between two readings, at elapsed out of length: a straight
 * line, rounded to whole watt-hours.  Both pieces of the interval are
 * differences against it, so nothing is lost by the rounding.
 */
bool
rating_interpolate(int64_t from_wh, int64_t to_wh, int64_t elapsed, int64_t length, int64_t *out)
{
	SmInt128 step = (SmInt128) to_wh - from_wh;

	if (length <= 0 || elapsed < 0 || elapsed > length)
		return false;
	if (__builtin_mul_overflow(step, (SmInt128) elapsed, &step))
		return false;
	return rating_narrow(from_wh + rating_divide(step, length, SM_ROUND_HALF_UP), out);
}

/*
 * Read the fraction of a decimal number: up to scale digits are taken into
 * *value, zeros beyond them are ignored.
 */
static SmDecimal
rating_parse_fraction(const char *text, int scale, SmInt128 *value)
{
	bool any = false;
	bool fine = false;

	for (; *text >= '0' && *text <= '9'; text++)
	{
		any = true;
		if (scale > 0)
			*value = *value * 10 + (*text - '0');
		else if (*text != '0')
			fine = true;
		scale--;
	}
	if (!any || *text != '\0')
		return SM_DECIMAL_NOT_A_NUMBER;
	while (scale-- > 0)
		*value *= 10;
	return fine ? SM_DECIMAL_TOO_FINE : SM_DECIMAL_OK;
}

/*
 * Read a plain decimal number such as PostgreSQL prints for numeric into
 * units of 10^-scale.  Nothing is rounded: a number with more places is
 * TOO_FINE, one above limit (in the same units) TOO_LARGE.  Negative numbers
 * have no place in a tariff and are told apart from noise.
 */
SmDecimal
rating_parse_decimal(const char *text, int scale, int64_t limit, int64_t *out)
{
	bool negative = (*text == '-');
	bool large = false;
	SmInt128 value = 0;
	SmInt128 ceiling = (SmInt128) limit + 1;
	const char *digit = text + (negative ? 1 : 0);
	SmDecimal result;

	if (*digit < '0' || *digit > '9')
		return SM_DECIMAL_NOT_A_NUMBER;
	for (; *digit >= '0' && *digit <= '9'; digit++)
	{
		value = value * 10 + (*digit - '0');
		if (value > ceiling)
		{
			large = true;
			value = ceiling;
		}
	}
	result = rating_parse_fraction((*digit == '.')    ? digit + 1
								   : (*digit == '\0') ? "0"
													  : "",
								   scale, &value);
	if (result == SM_DECIMAL_NOT_A_NUMBER)
		return result;
	if (negative && (value > 0 || result == SM_DECIMAL_TOO_FINE))
		return SM_DECIMAL_NEGATIVE;
	if (large || value > limit)
		return SM_DECIMAL_TOO_LARGE;
	*out = (int64_t) value;
	return result;
}

/*
 * A price derived from another: value x times, rounded half up to so many
 * digits after the point.
 */
bool
rating_scale_price(int64_t value_e8, int64_t times_e8, int digits, int64_t *out)
{
	SmInt128 product = (SmInt128) value_e8 * times_e8;
	SmInt128 unit;

	if (digits < 0 || digits > SM_RATING_PRICE_SCALE)
		return false;
	unit = rating_power10(SM_RATING_PRICE_SCALE - digits);
	product =
		rating_divide(product, rating_power10(SM_RATING_PRICE_SCALE) * unit, SM_ROUND_HALF_UP);
	return rating_narrow(product * unit, out);
}

/*
 * Write value x 10^-scale as an exact decimal, dropping zeros at the end down
 * to keep places.  The text is in the caller's buffer, which must have
 * SM_RATING_TEXT_SIZE bytes; the result is where it starts, or NULL when the
 * buffer is too small.
 */
char *
rating_format(SmInt128 value, int scale, int keep, char *buffer, size_t size)
{
	unsigned __int128 rest = (value < 0) ? -(unsigned __int128) value : (unsigned __int128) value;
	char *at;
	int places;
	bool blank = true;

	if (size < SM_RATING_TEXT_SIZE)
		return NULL;
	at = buffer + size;
	*--at = '\0';
	for (places = scale; places > 0; places--, rest /= 10)
	{
		blank = blank && places > keep && rest % 10 == 0;
		if (!blank)
			*--at = (char) ('0' + (int) (rest % 10));
	}
	if (!blank)
		*--at = '.';
	do
	{
		*--at = (char) ('0' + (int) (rest % 10));
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--at = '-';
	return at;
}

/*
 * An exact amount as text, with at least two places.
 */
char *
rating_format_e11(SmInt128 amount_e11, char *buffer, size_t size)
{
	return rating_format(amount_e11, SM_RATING_AMOUNT_SCALE, 2, buffer, size);
}
