/*
 * decode.c - frames as JSON, one object a line, for a person and for programs
 *
 * Every protocol says how a frame looks at a place and how one is printed; the walk along the bytes
 * is the same for all: what is no frame is left byte by byte, so that a good frame behind a bad one
 * is found, and reported once.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "decode.h"
#include "dlt645.h"
#include "dlt645_item.h"
#include "q376.h"
#include "rtu.h"

#define DECODE_EXIT_USAGE 2
#define DECODE_BUFFER 65536

/* What is found at a place: extent is the length of the frame, or that a bad one claims; 0: noise. */
typedef struct SmSight
{
	SmFrameState state;
	int extent;
	const char *fault;
} SmSight;

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

/* ---- JSON ---- */

static void
json_begin(const char *protocol, bool good)
{
	printf("{\"ok\": %s, \"protocol\": \"%s\"", good ? "true" : "false", protocol);
}

static void json_text(const char *name, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A member that is text; nothing that ends up here needs escaping. */
static void
json_text(const char *name, const char *format, ...)
{
	va_list arguments;

	printf(", \"%s\": \"", name);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('"');
}

static void
json_number(const char *name, int value)
{
	printf(", \"%s\": %d", name, value);
}

static void
json_end(void)
{
	puts("}");
}

static void
decode_fault(const SmDecoder *decoder, const char *fault)
{
	json_begin(decoder->name, false);
	json_text("error", "%s", fault);
	json_end();
}

/* ---- Modbus ---- */

static int
word_at(const uint8_t *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

static void
modbus_words(const uint8_t *bytes, int count)
{
	int i;

	printf(", \"value\": [");
	for (i = 0; i < count; i++)
		printf("%s%d", i > 0 ? ", " : "", word_at(bytes + 2 * i));
	putchar(']');
}

static void
modbus_bits(const uint8_t *bytes, int count)
{
	int i;

	printf(", \"value\": [");
	for (i = 0; i < count; i++)
		printf("%s%d", i > 0 ? ", " : "", bytes[i / 8] >> i % 8 & 1);
	putchar(']');
}

/* What a request says behind its function. */
static void
modbus_request(const uint8_t *pdu, int length)
{
	int function = pdu[0];

	if (length < 5 || function > 16)
	{
		printf(", \"value\": null");
		return;
	}
	json_number("register", word_at(pdu + 1));
	if (function <= 4)
	{
		json_number("count", word_at(pdu + 3));
		printf(", \"value\": null");
	}
	else if (function == 5 || function == 6)
		json_number("value", word_at(pdu + 3));
	else if (function == 16 && length >= 6 && pdu[5] == length - 6)
		modbus_words(pdu + 6, pdu[5] / 2);
	else if (function == 15 && length >= 6 && pdu[5] == length - 6 &&
			 (word_at(pdu + 3) + 7) / 8 <= pdu[5])
		modbus_bits(pdu + 6, word_at(pdu + 3));
	else
		printf(", \"value\": null");
}

static void
modbus_response(const uint8_t *pdu, int length)
{
	int function = pdu[0];

	if ((function == 3 || function == 4) && length == 2 + pdu[1])
		modbus_words(pdu + 2, pdu[1] / 2);
	else if ((function == 1 || function == 2) && length == 2 + pdu[1])
		modbus_bits(pdu + 2, pdu[1] * 8);
	else if ((function == 5 || function == 6) && length == 5)
	{
		json_number("register", word_at(pdu + 1));
		json_number("value", word_at(pdu + 3));
	}
	else if ((function == 15 || function == 16) && length == 5)
	{
		json_number("register", word_at(pdu + 1));
		json_number("count", word_at(pdu + 3));
		printf(", \"value\": null");
	}
	else
		printf(", \"value\": null");
}

static void
modbus_print(const char *protocol, const SmFrame *frame, bool response)
{
	bool exception = (frame->pdu[0] & 0x80) != 0;

	json_begin(protocol, !exception);
	json_text("direction", "%s", response || exception ? "response" : "request");
	json_number("address", frame->unit);
	json_number("function", frame->pdu[0] & 0x7F);
	if (exception)
	{
		printf(", \"value\": null");
		json_text("error", "%s", mbap_exception_text(frame->length > 1 ? frame->pdu[1] : 0));
	}
	else if (response)
		modbus_response(frame->pdu, frame->length);
	else
		modbus_request(frame->pdu, frame->length);
	json_end();
}

static SmSight
rtu_look(SmRtuSide side, const uint8_t *bytes, int length)
{
	SmFrame frame;
	SmSight sight = {rtu_at(side, bytes, length, &frame), 0, "no frame begins here"};

	if (sight.state == FRAME_WHOLE)
		sight.extent = frame.taken;
	else if (sight.state == FRAME_BROKEN && rtu_length(side, bytes, length) > 0)
	{
		sight.extent = rtu_length(side, bytes, length);
		sight.fault = "checksum is wrong";
	}
	return sight;
}

static SmSight
rtu_look_request(const uint8_t *bytes, int length)
{
	return rtu_look(RTU_REQUEST, bytes, length);
}

static SmSight
rtu_look_response(const uint8_t *bytes, int length)
{
	return rtu_look(RTU_RESPONSE, bytes, length);
}

static void
rtu_print_request(const uint8_t *bytes, int length)
{
	SmFrame frame;

	rtu_at(RTU_REQUEST, bytes, length, &frame);
	modbus_print("modbus-rtu-request", &frame, false);
}

static void
rtu_print_response(const uint8_t *bytes, int length)
{
	SmFrame frame;

	rtu_at(RTU_RESPONSE, bytes, length, &frame);
	modbus_print("modbus-rtu-response", &frame, true);
}

static SmSight
tcp_look(const uint8_t *bytes, int length)
{
	SmFrame frame;
	SmSight sight = {mbap_take(bytes, length, &frame), 0, "no frame begins here"};

	if (sight.state == FRAME_WHOLE)
		sight.extent = frame.taken;
	return sight;
}

/*
 * Modbus TCP does not say who speaks. A read of registers is told by its length; what looks alike
 * both ways (the echo of a write) is taken for the request.
 */
static void
tcp_print(const uint8_t *bytes, int length)
{
	SmFrame frame;
	int function;
	bool response;

	mbap_take(bytes, length, &frame);
	function = frame.pdu[0];
	response = function <= 4 ? frame.length != 5 && frame.length == 2 + frame.pdu[1]
							 : (function == 15 || function == 16) && frame.length == 5;
	modbus_print("modbus-tcp", &frame, response);
}

/* ---- DL/T 645 ---- */

static SmSight
dlt645_look(const uint8_t *bytes, int length)
{
	SmDltFrame frame;
	SmDltFault fault;
	SmSight sight = {dlt645_at(bytes, length, &frame, &fault), 0, NULL};

	sight.fault = dlt645_fault_text(fault);
	if (sight.state == FRAME_WHOLE)
		sight.extent = frame.taken;
	else if (sight.state == FRAME_BROKEN && fault != DLT645_FAULT_NO_START)
		sight.extent = fault == DLT645_FAULT_LENGTH ? 10 : 12 + bytes[9];
	return sight;
}

static void
decimal_print(int64_t value, int decimals)
{
	int64_t unit = 1;
	int i;

	for (i = 0; i < decimals; i++)
		unit *= 10;
	if (decimals == 0)
		printf("%lld", (long long) value);
	else
		printf("%s%lld.%0*lld", value < 0 ? "-" : "",
			   (long long) (value < 0 ? -value : value) / unit, decimals,
			   (long long) (value < 0 ? -value : value) % unit);
}

/* Prints the member value; what is wrong with the data, or NULL. */
static const char *
dlt645_print_value(const SmDltItem *item, const uint8_t *data, int length)
{
	SmDltValue values[DLT645_VALUES_MAX];
	char text[DLT645_TEXT_MAX];
	const char *why;
	int count;
	int i;

	if (item->kind != DLT645_BCD && item->kind != DLT645_BITS)
	{
		if (dlt645_text(item, data, length, text, sizeof(text), &why))
			json_text("value", "%s", text);
		else
			printf(", \"value\": null");
		return why;
	}
	count = dlt645_values(item, data, length, values, DLT645_VALUES_MAX, &why);
	printf(", \"value\": %s", count < 0 ? "null" : item->block ? "[" : "");
	for (i = 0; i < count; i++)
	{
		printf("%s", i > 0 ? ", " : "");
		if (values[i].absent)
			printf("null");
		else
			decimal_print(values[i].value, item->decimals);
	}
	if (count >= 0 && item->block)
		putchar(']');
	if (item->unit[0] != '\0')
		json_text("unit", "%s", item->unit);
	return why;
}

/* What stands behind the identifier: an answer has the data, its follow-ups a number at the end. */
static const char *
dlt645_print_body(const SmDltFrame *frame, uint32_t di)
{
	int di_bytes = dlt645_di_bytes(frame->control);
	int length = frame->length - di_bytes;
	SmDltItem item = dlt645_item(di, di_bytes);
	bool answer = (frame->control & DLT645_REPLY) != 0;
	int function = frame->control & DLT645_FUNCTION;

	json_text("di", "%0*X", di_bytes * 2, di);
	if (!answer)
	{
		printf(", \"value\": null");
		return NULL;
	}
	if (function == DLT645_FOLLOW_2007 || function == DLT645_FOLLOW_1997)
	{
		item.kind = DLT645_RAW;
		if (length > 0)
			json_number("sequence", frame->data[frame->length - 1]);
		length = length > 0 ? length - 1 : 0;
	}
	if ((frame->control & DLT645_MORE) != 0)
		printf(", \"more\": true");
	return dlt645_print_value(&item, frame->data + di_bytes, length);
}

/* The members of a frame between the braces. */
static void
dlt645_members(const SmDltFrame *frame, const char **error, char *text, int size)
{
	char address[DLT645_ADDRESS_TEXT];
	uint32_t di;

	dlt645_address_text(frame->address, address);
	json_text("direction", "%s", (frame->control & DLT645_REPLY) != 0 ? "response" : "request");
	json_text("address", "%s", address);
	json_text("control", "%02X", frame->control);
	*error = NULL;
	if ((frame->control & DLT645_ERROR) != 0)
	{
		printf(", \"value\": null");
		*error = dlt645_error_text(frame, text, size);
	}
	else if (dlt645_di(frame, &di))
		*error = dlt645_print_body(frame, di);
	else if ((frame->control & DLT645_FUNCTION) == DLT645_READ_ADDRESS &&
			 frame->length == DLT645_ADDRESS)
	{
		dlt645_address_text(frame->data, address);
		json_text("value", "%s", address);
	}
	else
		printf(", \"value\": null");
}

/* Whether a frame is all right stands first in the object, so it is found out before it is printed. */
static bool
dlt645_is_good(const SmDltFrame *frame)
{
	SmDltValue values[DLT645_VALUES_MAX];
	char text[DLT645_TEXT_MAX];
	const char *why;
	SmDltItem item;
	uint32_t di;
	int di_bytes = dlt645_di_bytes(frame->control);
	int function = frame->control & DLT645_FUNCTION;

	if ((frame->control & DLT645_ERROR) != 0)
		return false;
	if ((frame->control & DLT645_REPLY) == 0 || !dlt645_di(frame, &di) ||
		function == DLT645_FOLLOW_2007 || function == DLT645_FOLLOW_1997)
		return true;
	item = dlt645_item(di, di_bytes);
	if (item.kind == DLT645_BCD || item.kind == DLT645_BITS)
		return dlt645_values(&item, frame->data + di_bytes, frame->length - di_bytes, values,
							 DLT645_VALUES_MAX, &why) >= 0;
	return dlt645_text(&item, frame->data + di_bytes, frame->length - di_bytes, text, sizeof(text),
					   &why);
}

static void
dlt645_print(const uint8_t *bytes, int length)
{
	SmDltFrame frame;
	SmDltFault fault;
	char text[256];
	const char *error;

	dlt645_at(bytes, length, &frame, &fault);
	json_begin("dlt645", dlt645_is_good(&frame));
	dlt645_members(&frame, &error, text, sizeof(text));
	if (error != NULL)
		json_text("error", "%s", error);
	json_end();
}

/* ---- Q/GDW 1376.1 ---- */

static SmSight
q376_look(const uint8_t *bytes, int length)
{
	SmQ376Frame frame;
	bool checksum;
	SmSight sight = {q376_at(bytes, length, &frame, &checksum), 0, "no frame begins here"};

	if (sight.state == FRAME_WHOLE)
		sight.extent = frame.taken;
	else if (checksum)
	{
		sight.extent = 8 + ((bytes[1] | bytes[2] << 8) >> 2);
		sight.fault = "checksum is wrong";
	}
	return sight;
}

/* The frame inside: of DL/T 645, else as it is. */
static const char *
q376_print_inner(const uint8_t *inner, int length, char *text, int size)
{
	SmDltFrame frame;
	const char *error = NULL;
	int i;

	if (dlt645_take(inner, length, &frame) == FRAME_WHOLE)
	{
		printf(", \"frame\": {\"protocol\": \"dlt645\"");
		dlt645_members(&frame, &error, text, size);
		putchar('}');
		return error;
	}
	printf(", \"value\": \"");
	for (i = 0; i < length; i++)
		printf("%02X", inner[i]);
	putchar('"');
	return NULL;
}

static void
q376_print(const uint8_t *bytes, int length)
{
	SmQ376Frame frame;
	char address[Q376_ADDRESS_TEXT];
	char text[256];
	const char *error = NULL;
	const uint8_t *inner;
	bool checksum;
	int inner_length;

	q376_at(bytes, length, &frame, &checksum);
	q376_address_text(&frame.address, address);
	json_begin("q376", true);
	json_text("direction", "%s", (frame.control & Q376_FROM_STATION) != 0 ? "response" : "request");
	json_text("address", "%s", address);
	json_text("control", "%02X", frame.control);
	json_text("afn", "%02X", frame.afn);
	json_number("fn", frame.function);
	json_number("pn", frame.point);
	if (q376_forwarded(&frame, &inner, &inner_length))
		error = q376_print_inner(inner, inner_length, text, sizeof(text));
	else
		printf(", \"value\": null");
	if (error != NULL)
		json_text("error", "%s", error);
	json_end();
}

/* ---- the walk ---- */

static const SmDecoder decoders[] = {
	{"modbus-rtu-request", rtu_look_request, rtu_print_request, -1},
	{"modbus-rtu-response", rtu_look_response, rtu_print_response, -1},
	{"modbus-tcp", tcp_look, tcp_print, -1},
	{"dlt645", dlt645_look, dlt645_print, 0xFE},
	{"q376", q376_look, q376_print, -1},
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
