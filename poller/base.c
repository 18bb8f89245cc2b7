/*
 * base.c - memory, clocks, growing text and chance
 *
 * Memory that cannot be had ends the program: what counts is in the spool on disk, and a poller
 * that limps on without memory would do worse than one that is started again.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"

/* Zeroed memory; the caller frees it. */
void *
base_alloc(size_t size)
{
	void *memory = calloc(1, size > 0 ? size : 1);

	if (memory == NULL)
	{
		fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
		abort();
	}
	return memory;
}

/* Like realloc(); what is added is not zeroed. */
void *
base_resize(void *memory, size_t size)
{
	memory = realloc(memory, size > 0 ? size : 1);
	if (memory == NULL)
	{
		fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
		abort();
	}
	return memory;
}

/* A copy of the text; the caller frees it. */
char *
base_copy(const char *text)
{
	size_t size = strlen(text) + 1;

	return memcpy(base_alloc(size), text, size);
}

/* The clock of all timers: it never jumps. */
int64_t
base_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

/* The clock of all stamps: milliseconds since 1970. */
int64_t
base_wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A time between three quarters and five quarters of the one given. */
int64_t
base_jitter_us(int64_t around_us)
{
	return around_us - around_us / 4 + (int64_t) (drand48() * (double) (around_us / 2));
}

/* Parses a whole decimal number within [low, high]; nothing may follow it. */
bool
base_parse_int(const char *text, int64_t low, int64_t high, int64_t *value)
{
	char *end;
	long long parsed;

	if (text == NULL || ((text[0] < '0' || text[0] > '9') && text[0] != '-'))
		return false;
	errno = 0;
	parsed = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || parsed < low || parsed > high)
		return false;
	*value = parsed;
	return true;
}

void
text_free(SmText *text)
{
	free(text->data);
	*text = (SmText){NULL, 0, 0};
}

/* Empties the text and keeps its memory. */
void
text_clear(SmText *text)
{
	text->length = 0;
	if (text->data != NULL)
		text->data[0] = '\0';
}

/* Makes room for so many more bytes and the final zero. */
static void
text_reserve(SmText *text, size_t more)
{
	size_t need = text->length + more + 1;

	if (need <= text->room)
		return;
	text->room = need < 128 ? 256 : need * 2;
	text->data = base_resize(text->data, text->room);
}

void
text_add(SmText *text, const char *piece)
{
	size_t length = strlen(piece);

	text_reserve(text, length);
	memcpy(text->data + text->length, piece, length + 1);
	text->length += length;
}

void
text_printf(SmText *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	text_reserve(text, (size_t) length);
	va_start(arguments, format);
	vsnprintf(text->data + text->length, (size_t) length + 1, format, arguments);
	va_end(arguments);
	text->length += (size_t) length;
}

/* Adds a JSON string with its quotes, or null. Bytes outside ASCII become '?': messages of other
 * machines need not be UTF-8, and the database refuses what is not. */
void
text_add_json(SmText *text, const char *string)
{
	const char *at;

	if (string == NULL)
	{
		text_add(text, "null");
		return;
	}
	text_add(text, "\"");
	for (at = string; *at != '\0'; at++)
	{
		unsigned char byte = (unsigned char) *at;

		if (byte == '"' || byte == '\\')
			text_printf(text, "\\%c", byte);
		else if (byte < 0x20)
			text_printf(text, "\\u%04x", byte);
		else
			text_printf(text, "%c", byte < 0x7f ? byte : '?');
	}
	text_add(text, "\"");
}

/* Adds a stamp such as 2026-03-02T10:00:00.123Z, which needs no quotes in a row. */
void
text_add_time(SmText *text, int64_t wall_ms)
{
	time_t seconds = (time_t) (wall_ms / 1000);
	struct tm parts;

	gmtime_r(&seconds, &parts);
	text_printf(text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
				parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (int) (wall_ms % 1000));
}
