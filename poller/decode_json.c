/*
 * decode_json.c - the members of an object about a frame
 */
#include <stdarg.h>
#include <stdio.h>

#include "decode_inside.h"

/* Opens the object of a frame. */
void
decode_begin(const char *protocol, bool good)
{
	printf("{\"ok\": %s, \"protocol\": \"%s\"", good ? "true" : "false", protocol);
}

/* A member that is text; nothing that ends up here needs escaping. */
void
decode_text(const char *name, const char *format, ...)
{
	va_list arguments;

	printf(", \"%s\": \"", name);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('"');
}

/* A member that is a number. */
void
decode_number(const char *name, int value)
{
	printf(", \"%s\": %d", name, value);
}

/* Closes the object and its line. */
void
decode_end(void)
{
	puts("}");
}
