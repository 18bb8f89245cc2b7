/*
 * decode_modbus.c - frames of Modbus RTU and TCP: where they are, and what they say
 */
#include <stdio.h>

#include "decode_inside.h"
#include "rtu.h"

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
	decode_number("register", word_at(pdu + 1));
	if (function <= 4)
	{
		decode_number("count", word_at(pdu + 3));
		printf(", \"value\": null");
	}
	else if (function == 5 || function == 6)
		decode_number("value", word_at(pdu + 3));
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
		decode_number("register", word_at(pdu + 1));
		decode_number("value", word_at(pdu + 3));
	}
	else if ((function == 15 || function == 16) && length == 5)
	{
		decode_number("register", word_at(pdu + 1));
		decode_number("count", word_at(pdu + 3));
		printf(", \"value\": null");
	}
	else
		printf(", \"value\": null");
}

static void
modbus_print(const char *protocol, const SmFrame *frame, bool response)
{
	bool exception = (frame->pdu[0] & 0x80) != 0;

	decode_begin(protocol, !exception);
	decode_text("direction", "%s", response || exception ? "response" : "request");
	decode_number("address", frame->unit);
	decode_number("function", frame->pdu[0] & 0x7F);
	if (exception)
	{
		printf(", \"value\": null");
		decode_text("error", "%s", mbap_exception_text(frame->length > 1 ? frame->pdu[1] : 0));
	}
	else if (response)
		modbus_response(frame->pdu, frame->length);
	else
		modbus_request(frame->pdu, frame->length);
	decode_end();
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

SmSight
decode_look_rtu_request(const uint8_t *bytes, int length)
{
	return rtu_look(RTU_REQUEST, bytes, length);
}

SmSight
decode_look_rtu_response(const uint8_t *bytes, int length)
{
	return rtu_look(RTU_RESPONSE, bytes, length);
}

void
decode_print_rtu_request(const uint8_t *bytes, int length)
{
	SmFrame frame;

	rtu_at(RTU_REQUEST, bytes, length, &frame);
	modbus_print("modbus-rtu-request", &frame, false);
}

void
decode_print_rtu_response(const uint8_t *bytes, int length)
{
	SmFrame frame;

	rtu_at(RTU_RESPONSE, bytes, length, &frame);
	modbus_print("modbus-rtu-response", &frame, true);
}

SmSight
decode_look_tcp(const uint8_t *bytes, int length)
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
void
decode_print_tcp(const uint8_t *bytes, int length)
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
