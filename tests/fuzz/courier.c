/*
 * courier.c - any bytes as header lines, as the path of a notification or as an address: nothing is read
 * beyond them, what comes of headers is a JSON object in ASCII with every name once, and of an address
 * nothing is said aloud but scheme and host
 */
/* links: poller/courier/header.c poller/courier/address.c poller/base.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/courier/courier.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Reads a JSON string; aborts when it is none. Returns what is behind it. */
static const char *
skip_string(const char *at)
{
	if (*at++ != '"')
		abort();
	while (*at != '"')
	{
		if (*at < 0x20 || *at > 0x7E)
			abort();
		if (*at != '\\')
			at++;
		else if (at[1] == 'u' && strspn(at + 2, "0123456789abcdef") >= 4 &&
				 memcmp(at + 2, "0000", 4) != 0)
			at += 6;
		else
			abort();
	}
	return at + 1;
}

/* An object of strings and nulls, and nothing else. */
static void
check_object(const char *json)
{
	const char *at = json;

	if (*at++ != '{')
		abort();
	while (*at != '}')
	{
		at = skip_string(at);
		if (*at++ != ':')
			abort();
		if (strncmp(at, "null", 4) == 0)
			at += 4;
		else
			at = skip_string(at);
		if (*at == ',')
			at++;
		else if (*at != '}')
			abort();
	}
	if (at[1] != '\0')
		abort();
}

/* Every line of the bytes, as libcurl hands them out. */
static void
try_headers(const uint8_t *bytes, size_t size)
{
	SmHeaders headers = {0};
	size_t from = 0;
	SmText json;

	while (from < size)
	{
		const uint8_t *end = memchr(bytes + from, '\n', size - from);
		size_t length = end != NULL ? (size_t) (end - bytes) + 1 - from : size - from;
		char *line = malloc(length);
		size_t name;
		size_t start;
		size_t value;

		memcpy(line, bytes + from, length);
		if (header_split(line, length, &name, &start, &value))
		{
			if (name == 0 || start <= name || start + value > length)
				abort();
			headers_add(&headers, line, name, line + start, value);
		}
		free(line);
		from += length;
	}
	json = headers_take(&headers);
	check_object(json.data);
	text_free(&json);
}

static void
try_addresses(const uint8_t *bytes, size_t size)
{
	char *text = malloc(size + 1);
	char provider[32] = "";
	char host[64];

	memcpy(text, bytes, size);
	text[size] = '\0';
	if (address_provider(text, provider, sizeof(provider)) &&
		(provider[0] == '\0' || strncmp(text, "/notify/", 8) != 0 || strpbrk(text, "%?;.") != NULL))
		abort();
	address_host(text, host, sizeof(host));
	if (strchr(host, '@') != NULL || strchr(host, '?') != NULL || strlen(host) >= sizeof(host))
		abort();
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	try_headers(bytes, size);
	try_addresses(bytes, size);
	return 0;
}
