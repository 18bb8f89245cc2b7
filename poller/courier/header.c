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

/* Whether a name was there before; notes it otherwise. Names have no line ends. */
static bool
headers_have(SmHeaders *headers, const char *name, size_t length)
{
	size_t from = headers->names.length;
	size_t i;

	text_add(&headers->names, "\n");
	for (i = 0; i < length; i++)
		text_printf(&headers->names, "%c",
					name[i] == '\0' ? ' ' : tolower((unsigned char) name[i]));
	text_add(&headers->names, "\n");
	return memmem(headers->names.data, from, headers->names.data + from,
				  headers->names.length - from) != NULL;
}

/*
 * Adds a header; its name is made lower case. One that comes again has no value any more: two
 * readers could take different ones.
 */
void
headers_add(SmHeaders *headers, const char *name, size_t name_length, const char *value,
			size_t value_length)
{
	SmText *json = &headers->json;

	text_add(json, json->length == 0 ? "{" : ",");
	header_add_text(json, name, name_length, true);
	text_add(json, ":");
	if (headers_have(headers, name, name_length))
		text_add(json, "null");
	else
		header_add_text(json, value, value_length, false);
}

/* The headers as a JSON object, which the caller frees; nothing is left of them here. */
SmText
headers_take(SmHeaders *headers)
{
	SmText json = headers->json;

	text_add(&json, json.length == 0 ? "{}" : "}");
	text_free(&headers->names);
	*headers = (SmHeaders){0};
	return json;
}

void
headers_clear(SmHeaders *headers)
{
	text_clear(&headers->json);
	text_clear(&headers->names);
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

	if (colon == NULL || colon == line || isspace((unsigned char) line[0]) ||
		memchr(line, '\n', (size_t) (colon - line)) != NULL)
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
