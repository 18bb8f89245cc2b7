/*
 * decode.c - frames as JSON, one object a line, for a person and for programs
 *
 * Every protocol says how a frame looks at a place and how one is printed; the walk along the bytes
 * is the same for all: what is no frame is left byte by byte, so that a good frame behind a bad one
 * is found, and reported once.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "decode.h"
#include "decode_inside.h"

#define DECODE_EXIT_USAGE 2
#define DECODE_BUFFER 65536

typedef struct SmDecoder
{
	const char *name;
	SmSight (*look)(const uint8_t *bytes, int length);
	void (*print)(const uint8_t *bytes, int length);
	int filler; /* byte that may stand before a frame; -1: none */
} SmDecoder;

/* Where the walk stands. */
typedef struct SmWalk
{
	const SmDecoder *decoder;
	bool noisy; /* the bytes before this one are reported as no frame */
	int muted;  /* so many bytes from here belong to a bad frame that is reported */
	bool failed;
} SmWalk;

static void
decode_fault(const SmDecoder *decoder, const char *fault)
{
	decode_begin(decoder->name, false);
	decode_text("error", "%s", fault);
	decode_end();
}

static const SmDecoder decoders[] = {
	{"modbus-rtu-request", decode_look_rtu_request, decode_print_rtu_request, -1},
	{"modbus-rtu-response", decode_look_rtu_response, decode_print_rtu_response, -1},
	{"modbus-tcp", decode_look_tcp, decode_print_tcp, -1},
	{"dlt645", decode_look_dlt645, decode_print_dlt645, 0xFE},
	{"q376", decode_look_q376, decode_print_q376, -1},
};

/* Leaves one byte that begins no frame, and says so once for all of its kind. */
static void
walk_leave(SmWalk *walk, const uint8_t *byte, const SmSight *sight)
{
	if (walk->muted > 0)
	{
		walk->muted--;
		return;
	}
	if (sight->extent > 0)
	{
		decode_fault(walk->decoder, sight->fault);
		walk->failed = true;
		walk->muted = sight->extent - 1;
		walk->noisy = false;
	}
	else if (!walk->noisy && byte[0] != walk->decoder->filler)
	{
		decode_fault(walk->decoder, sight->fault);
		walk->failed = walk->noisy = true;
	}
}

/* Takes all frames out of the bytes; returns how many bytes are done with. */
static int
walk_bytes(SmWalk *walk, const uint8_t *bytes, int length, bool ended)
{
	int at = 0;

	while (at < length)
	{
		SmSight sight = walk->decoder->look(bytes + at, length - at);

		if (sight.state == FRAME_WHOLE)
		{
			walk->decoder->print(bytes + at, length - at);
			walk->muted = 0;
			walk->noisy = false;
			at += sight.extent;
			continue;
		}
		if (sight.state == FRAME_PARTIAL && !ended)
			return at;
		if (sight.state == FRAME_PARTIAL)
		{
			sight.fault = "the frame is not complete";
			sight.extent = length - at;
		}
		walk_leave(walk, bytes + at, &sight);
		at++;
	}
	return at;
}

static int
decode_stream(SmWalk *walk)
{
	static uint8_t buffer[DECODE_BUFFER];
	int held = 0;
	int used;
	ssize_t got;

	while ((got = read(STDIN_FILENO, buffer + held, sizeof(buffer) - (size_t) held)) > 0)
	{
		held += (int) got;
		used = walk_bytes(walk, buffer, held, false);
		held -= used;
		memmove(buffer, buffer + used, (size_t) held);
	}
	walk_bytes(walk, buffer, held, true);
	return walk->failed || got < 0 ? 1 : 0;
}

/* Reads hexadecimal digits; anything but digits may stand between two bytes. The number, or -1. */
static int
decode_parse_hex(int count, char **arguments, uint8_t *bytes, int most)
{
	int length = 0;
	unsigned value;
	int i;

	for (i = 0; i < count; i++)
	{
		const char *text = arguments[i];

		while (*(text += strspn(text, " :,\t\r\n")) != '\0')
		{
			if (length == most || strspn(text, "0123456789abcdefABCDEF") < 2 ||
				sscanf(text, "%2x", &value) != 1)
				return -1;
			bytes[length++] = (uint8_t) value;
			text += 2;
		}
	}
	return length;
}

/* Explains bytes of a protocol as decode_main() does. */
void
decode_bytes(const char *protocol, const uint8_t *bytes, int length)
{
	SmWalk walk = {0};
	size_t i;

	for (i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++)
	{
		if (strcmp(protocol, decoders[i].name) == 0)
			walk.decoder = &decoders[i];
	}
	if (walk.decoder != NULL)
		walk_bytes(&walk, bytes, length, true);
}

static int
decode_usage(const char *text)
{
	fprintf(
		stderr,
		"submeter-poller: %s\n"
		"Write: submeter-poller decode modbus-rtu-request|modbus-rtu-response|modbus-tcp|dlt645|q376 "
		"[HEX...]\n",
		text);
	return DECODE_EXIT_USAGE;
}

/*
 * decode PROTOCOL [HEX...]: prints a JSON object for each frame; without HEX the bytes come from
 * the standard input. Status 0: all was right, 1: something was no good frame, 2: bad usage.
 */
int
decode_main(int count, char **arguments)
{
	static uint8_t bytes[DECODE_BUFFER];
	SmWalk walk = {0};
	size_t i;
	int length;

	if (count < 3)
		return decode_usage("decode needs a protocol");
	for (i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++)
	{
		if (strcmp(arguments[2], decoders[i].name) == 0)
			walk.decoder = &decoders[i];
	}
	if (walk.decoder == NULL)
		return decode_usage("decode does not know this protocol");
	if (count == 3)
		return decode_stream(&walk);
	length = decode_parse_hex(count - 3, arguments + 3, bytes, sizeof(bytes));
	if (length < 1)
		return decode_usage("these are not hexadecimal bytes");
	walk_bytes(&walk, bytes, length, true);
	return walk.failed ? 1 : 0;
}
