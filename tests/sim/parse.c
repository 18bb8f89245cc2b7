/*
 * parse.c - numbers and words out of configuration lines and commands
 *
 * Decimal text becomes integers without passing through floating point, so that 0.1 in a file is
 * exactly a tenth in the farm. Nothing here allocates; tokens point into the caller's line.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

/* Reads a decimal number with up to digits decimals as an integer in units of 10^-digits. */
bool
parse_fixed(const char *text, int digits, int64_t *value)
{
	int64_t result = 0;
	bool negative = *text == '-';
	bool any = false;
	int decimals = -1;

	for (text += negative ? 1 : 0; *text != '\0'; text++)
	{
		if (*text == '.' && decimals < 0)
		{
			decimals = 0;
			continue;
		}
		if (!isdigit((unsigned char) *text) || decimals == digits)
			return false;
		if (__builtin_mul_overflow(result, 10, &result) ||
			__builtin_add_overflow(result, *text - '0', &result))
			return false;
		any = true;
		decimals += decimals >= 0 ? 1 : 0;
	}
	for (decimals = decimals < 0 ? 0 : decimals; decimals < digits; decimals++)
		if (__builtin_mul_overflow(result, 10, &result))
			return false;
	*value = negative ? -result : result;
	return any;
}

/* Reads a whole number, decimal or 0x hexadecimal, within [low, high]. */
bool
parse_integer(const char *text, int64_t low, int64_t high, int64_t *value)
{
	char *end;
	long long number;
	int base = strncmp(text, "0x", 2) == 0 || strncmp(text, "0X", 2) == 0 ? 16 : 10;

	if (!isalnum((unsigned char) text[0]) && text[0] != '-')
		return false;
	errno = 0;
	number = strtoll(text, &end, base);
	if (errno != 0 || end == text || *end != '\0' || number < low || number > high)
		return false;
	*value = number;
	return true;
}

/* Reads a positive decimal number as a fraction, 0.01 as 1/100. */
bool
parse_decimal(const char *text, int64_t *numerator, int64_t *denominator)
{
	const char *point = strchr(text, '.');
	int decimals = point == NULL ? 0 : (int) strlen(point + 1);

	if (decimals > 9 || !parse_fixed(text, decimals, numerator) || *numerator <= 0)
		return false;
	for (*denominator = 1; decimals > 0; decimals--)
		*denominator *= 10;
	return true;
}

/* Reads yes or no. */
bool
parse_flag(const char *text, bool *value)
{
	*value = strcmp(text, "yes") == 0;
	return *value || strcmp(text, "no") == 0;
}

/* Reads 16-bit words separated by commas; count says how many there were. */
bool
parse_words(const char *text, uint16_t *words, int most, int *count)
{
	char copy[128];
	char *rest = copy;
	char *item;
	int64_t number;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	for (*count = 0; (item = strsep(&rest, ",")) != NULL; (*count)++)
	{
		if (*count == most || !parse_integer(item, 0, 65535, &number))
			return false;
		words[*count] = (uint16_t) number;
	}
	return true;
}

/* Cuts a line at white space, up to a '#'. Returns the number of tokens, -1 when there are too many. */
int
parse_tokens(char *line, char **tokens, int most)
{
	int count = 0;
	char *rest = line;
	char *token;

	line[strcspn(line, "#\r\n")] = '\0';
	while ((token = strsep(&rest, " \t")) != NULL)
	{
		if (*token == '\0')
			continue;
		if (count == most)
			return -1;
		tokens[count++] = token;
	}
	return count;
}

/* Cuts key=value in two; false when there is no '=' or no key. */
bool
parse_pair(char *token, char **key, char **value)
{
	char *equals = strchr(token, '=');

	if (equals == NULL || equals == token)
		return false;
	*equals = '\0';
	*key = token;
	*value = equals + 1;
	return true;
}
