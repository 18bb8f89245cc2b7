/*
 * rating_number.c
 *		Exact numbers: rounding, shares, decimals in and out.
 *
 * Every operation that can overflow is checked and reported by a false result;
 * nothing wraps silently and no float is involved.
 *
 * Pure: no allocation, no error reporting, no locks, no global state.
 */
#include "rating.h"

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
 * The share n of a whole: value x n / of, rounded half up, away from zero.
 * n >= 0, of > 0.  The whole parts are taken out first, so that only results
 * that do not fit are refused.
 */
bool
rating_share(SmInt128 value, int64_t n, int64_t of, SmInt128 *out)
{
	SmInt128 whole;
	SmInt128 rest;

	if (n < 0 || of <= 0)
		return false;
	if (__builtin_mul_overflow(value / of, (SmInt128) n, &whole))
		return false;
	rest = rating_divide(value % of * n, of, SM_ROUND_HALF_UP);
	return !__builtin_add_overflow(whole, rest, out);
}

/*
 * Energy rounded half up to so many digits of a kWh; negative digits, and
 * those finer than a watt-hour, leave it alone.
 */
bool
rating_round_energy(int64_t energy_wh, int kwh_digits, int64_t *out)
{
	SmInt128 unit;

	*out = energy_wh;
	if (kwh_digits < 0 || kwh_digits >= SM_RATING_WH_DIGITS)
		return true;
	unit = rating_power10(SM_RATING_WH_DIGITS - kwh_digits);
	return rating_narrow(rating_divide(energy_wh, unit, SM_ROUND_HALF_UP) * unit, out);
}

/*
 * What rounding a line down to a unit leaves.
 */
static SmInt128
rating_remainder(SmInt128 exact_e11, SmInt128 unit)
{
	return exact_e11 - rating_floor(exact_e11, unit) * unit;
}

/*
 * How many lines have a remainder of at least so much.
 */
static SmInt128
rating_count_remainders(const SmInt128 *exact_e11, int n_lines, SmInt128 unit, SmInt128 least)
{
	SmInt128 count = 0;
	int i;

	for (i = 0; i < n_lines; i++)
		if (rating_remainder(exact_e11[i], unit) >= least)
			count++;
	return count;
}

/*
 * The largest remainder that at least so many lines reach.
 */
static SmInt128
rating_threshold(const SmInt128 *exact_e11, int n_lines, SmInt128 unit, SmInt128 missing)
{
	SmInt128 low = 0;
	SmInt128 high = unit;

	while (high - low > 1)
	{
		SmInt128 middle = low + (high - low) / 2;

		if (rating_count_remainders(exact_e11, n_lines, unit, middle) >= missing)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/*
 * Share a rounded total among its exact lines by largest remainder, so that
 * what is printed adds up.  Each line gets its amount rounded down, then the
 * missing units go one each to the lines that lost most, the earlier one first
 * among equals.  total must be the sum of the lines rounded up or down to the
 * next unit, else the result is false.
 *
 * Instead of sorting, the remainder from which on lines get a unit is found by
 * halving, so that no room is needed: at most 37 passes.
 */
bool
rating_apportion(const SmInt128 *exact_e11, int n_lines, int digits, int64_t total, int64_t *out)
{
	SmInt128 unit;
	SmInt128 missing = total;
	SmInt128 least;
	SmInt128 equals;
	int i;

	if (digits < 0 || digits > SM_RATING_MAX_DIGITS)
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
	if (missing == 0)
		return true;
	least = rating_threshold(exact_e11, n_lines, unit, missing);
	equals = missing - rating_count_remainders(exact_e11, n_lines, unit, least + 1);
	for (i = 0; i < n_lines; i++)
	{
		SmInt128 remainder = rating_remainder(exact_e11[i], unit);

		if (remainder < least || (remainder == least && equals-- <= 0))
			continue;
		if (__builtin_add_overflow(out[i], 1, &out[i]))
			return false;
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
