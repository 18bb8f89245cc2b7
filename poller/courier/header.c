/*
 * header.c - header lines of answers and notifications as JSON
 *
 * Pure. Headers are bytes from outside: they become text that is valid JSON and valid UTF-8
 * whatever they hold, byte for byte as Latin-1, so that what was signed can be had back.
 */
#include <ctype.h>
#include <string.h>

#include "courier.h"

/* Adds bytes as a JSON string. */
void
header_add_text(SmText *json, const char *bytes, size_t length, bool lower)
{
	size_t i;

	text_add(json, "\"");
	for (i = 0; i < length; i++)
	{
		unsigned char byte = (unsigned char) bytes[i];

		if (byte == 0)
			continue; /* jsonb has no such character */
		if (byte < 0x20 || byte == '"' || byte == '\\' || byte >= 0x7F)
			text_printf(json, "\\u%04x", byte);
		else
			text_printf(json, "%c", lower ? tolower(byte) : byte);
	}
	text_add(json, "\"");
}

/*
 * Adds a member to the object that json is the beginning of: "{" or "" before the first one. The
 * name is made lower case. The caller ends the object with "}".
 */
void
header_add_json(SmText *json, const char *name, size_t name_length, const char *value,
				size_t value_length)
{
	text_add(json, json->length == 0 ? "{" : ",");
	header_add_text(json, name, name_length, true);
	text_add(json, ":");
	header_add_text(json, value, value_length, false);
}

/*
 * Finds name and value in a header line; false for status lines, continuations and what is no
 * header. Blanks around the value do not belong to it.
 */
bool
header_split(const char *line, size_t length, size_t *name_length, size_t *value_start,
			 size_t *value_length)
{
	const char *colon = length > 0 ? memchr(line, ':', length) : NULL;
	size_t start;

	if (colon == NULL || colon == line || isspace((unsigned char) line[0]))
		return false;
	*name_length = (size_t) (colon - line);
	for (start = *name_length + 1; start < length && isspace((unsigned char) line[start]); start++)
		;
	while (length > start && isspace((unsigned char) line[length - 1]))
		length--;
	*value_start = start;
	*value_length = length - start;
	return true;
}
