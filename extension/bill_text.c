/*
 * bill_text.c - lines, cells, numbers and times of a bill in UTF-8
 */
#include "bill_text.h"

#include <string.h>

#define DIGITS_BEFORE 12
#define DIGITS_AFTER 6
/* The wall clock of all bills: China has had no other zone since 1991. */
#define CHINA_OFFSET_S (8 * 3600)

/*
 * Begins with a text of which so many lines were read before. A byte order mark is no text.
 */
void
bill_lines_begin(SmBillLines *lines, const char *text, size_t size, int before)
{
	bool marked = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;

	lines->at = marked ? text + 3 : text;
	lines->end = size == 0 ? text : text + size;
	lines->number = before;
}

/*
 * The next line without its LF or CRLF; false after the last.
 */
bool
bill_line(SmBillLines *lines, SmBytes *line)
{
	size_t left = (size_t) (lines->end - lines->at);
	const char *newline;

	if (left == 0)
		return false;
	newline = memchr(lines->at, '\n', left);
	line->at = lines->at;
	line->length = newline == NULL ? left : (size_t) (newline - lines->at);
	lines->at = newline == NULL ? lines->end : newline + 1;
	lines->number++;
	if (line->length > 0 && line->at[line->length - 1] == '\r')
		line->length--;
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/*
 * Without the blanks and TABs around it.
 */
SmBytes
bill_trim(SmBytes text)
{
	while (text.length > 0 && is_blank(text.at[0]))
	{
		text.at++;
		text.length--;
	}
	while (text.length > 0 && is_blank(text.at[text.length - 1]))
		text.length--;
	return text;
}

bool
bill_starts(SmBytes text, const char *start)
{
	size_t length = strlen(start);

	return text.length >= length && memcmp(text.at, start, length) == 0;
}

/*
 * Where a text first contains another; NULL when it does not.
 */
const char *
bill_find(SmBytes text, const char *wanted)
{
	return text.length == 0 ? NULL : memmem(text.at, text.length, wanted, strlen(wanted));
}

/*
 * Length of a quoted cell with both quotes, 0 when it is not one: the closing quote has to be
 * followed by a comma or the end. A name that merely begins with a quote is left as it is.
 */
static size_t
quoted_length(const char *at, const char *end)
{
	const char *quote = at;

	if (at >= end || *at != '"')
		return 0;
	while ((quote = memchr(quote + 1, '"', (size_t) (end - quote - 1))) != NULL)
	{
		if (quote + 1 == end || quote[1] == ',')
			return (size_t) (quote + 1 - at);
		if (quote[1] == '"')
			quote++;
		if (quote + 1 == end)
			return 0;
	}
	return 0;
}

/*
 * Cells between commas, quotes around them taken off; -1 when there are too many.
 */
int
bill_cells_comma(SmBytes line, SmBytes cells[BILL_CELLS_MAX])
{
	const char *at = line.at;
	const char *end = line.at + line.length;

	for (int n = 0; n < BILL_CELLS_MAX; n++)
	{
		size_t quoted = quoted_length(at, end);
		const char *comma = quoted > 0 ? at + quoted : memchr(at, ',', (size_t) (end - at));

		if (comma == NULL)
			comma = end;
		cells[n].at = quoted > 0 ? at + 1 : at;
		cells[n].length = quoted > 0 ? quoted - 2 : (size_t) (comma - at);
		if (comma == end)
			return n + 1;
		at = comma + 1;
	}
	return -1;
}

/*
 * Cells that each begin with a backtick; -1 when the line does not, or has too many.
 */
int
bill_cells_backtick(SmBytes line, SmBytes cells[BILL_CELLS_MAX])
{
	const char *at = line.at + 1;
	const char *end = line.at + line.length;

	if (line.length == 0 || line.at[0] != '`')
		return -1;
	for (int n = 0; n < BILL_CELLS_MAX; n++)
	{
		const char *next = memmem(at, (size_t) (end - at), ",`", 2);

		cells[n].at = at;
		cells[n].length = (size_t) ((next == NULL ? end : next) - at);
		if (next == NULL)
			return n + 1;
		at = next + 2;
	}
	return -1;
}

/*
 * Copies a cell of the line; where it was quoted, doubled quotes become one. Returns its length.
 */
size_t
bill_unquote(SmBytes line, SmBytes cell, char *to)
{
	bool quoted = cell.at > line.at && cell.at[-1] == '"';
	size_t length = 0;

	for (size_t i = 0; i < cell.length; i++)
	{
		to[length++] = cell.at[i];
		if (quoted && cell.at[i] == '"' && i + 1 < cell.length && cell.at[i + 1] == '"')
			i++;
	}
	return length;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * Reads digits, at most so many; returns how many, -1 when there are more.
 */
static int
read_digits(const char **at, const char *end, int most, int64_t *value)
{
	int n = 0;

	for (; *at < end && is_digit(**at); (*at)++)
	{
		if (++n > most)
			return -1;
		*value = *value * 10 + (**at - '0');
	}
	return n;
}

/*
 * A decimal number with an optional sign, blanks around it; false for anything else.
 */
bool
bill_number(SmBytes cell, SmBillNumber *number)
{
	SmBytes text = bill_trim(cell);
	const char *at = text.at;
	const char *end = text.at + text.length;
	bool negative = text.length > 0 && *at == '-';
	int64_t value = 0;
	int decimals = 0;

	if (negative)
		at++;
	if (read_digits(&at, end, DIGITS_BEFORE, &value) < 1)
		return false;
	if (at < end && *at == '.')
	{
		at++;
		decimals = read_digits(&at, end, DIGITS_AFTER, &value);
		if (decimals < 1)
			return false;
	}
	if (at != end)
		return false;
	for (int i = decimals; i < DIGITS_AFTER; i++)
		value *= 10;
	number->millionths = negative ? -value : value;
	number->decimals = decimals;
	return true;
}

/*
 * A number of exactly so many digits.
 */
static bool
read_part(const char **at, const char *end, int n_digits, int least, int most, int *part)
{
	int64_t value = 0;

	if (read_digits(at, end, n_digits, &value) != n_digits)
		return false;
	*part = (int) value;
	return *part >= least && *part <= most;
}

static bool
read_char(const char **at, const char *end, char c)
{
	return *at < end && *(*at)++ == c;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/*
 * Days since 1970-01-01, with years that begin in March so that the leap day is the last.
 */
static int64_t
days_of(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t m = month > 2 ? month - 3 : month + 9;

	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/*
 * "2026-03-22 23:59:59", China's wall clock, as seconds since 1970.
 */
bool
bill_time(SmBytes cell, int64_t *unix_s)
{
	SmBytes text = bill_trim(cell);
	const char *at = text.at;
	const char *end = text.at + text.length;
	int year, month, day, hour, minute, second;

	if (!read_part(&at, end, 4, 2000, 9999, &year) || !read_char(&at, end, '-') ||
		!read_part(&at, end, 2, 1, 12, &month) || !read_char(&at, end, '-') ||
		!read_part(&at, end, 2, 1, days_in_month(year, month), &day) || !read_char(&at, end, ' '))
		return false;
	while (at < end && *at == ' ')
		at++;
	if (!read_part(&at, end, 2, 0, 23, &hour) || !read_char(&at, end, ':') ||
		!read_part(&at, end, 2, 0, 59, &minute) || !read_char(&at, end, ':') ||
		!read_part(&at, end, 2, 0, 59, &second) || at != end)
		return false;
	*unix_s =
		days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - CHINA_OFFSET_S;
	return true;
}
