/*
 * decode_q376.c - frames of Q/GDW 376.1 and of DL/T 645 inside them
 */
#include <stdio.h>

#include "decode_inside.h"
#include "q376.h"

SmSight
decode_look_q376(const uint8_t *bytes, int length)
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
		decode_dlt645_members(&frame, &error, text, size);
		putchar('}');
		return error;
	}
	printf(", \"value\": \"");
	for (i = 0; i < length; i++)
		printf("%02X", inner[i]);
	putchar('"');
	return NULL;
}

void
decode_print_q376(const uint8_t *bytes, int length)
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
	decode_begin("q376", true);
	decode_text("direction", "%s",
				(frame.control & Q376_FROM_STATION) != 0 ? "response" : "request");
	decode_text("address", "%s", address);
	decode_text("control", "%02X", frame.control);
	decode_text("afn", "%02X", frame.afn);
	decode_number("fn", frame.function);
	decode_number("pn", frame.point);
	if (q376_forwarded(&frame, &inner, &inner_length))
		error = q376_print_inner(inner, inner_length, text, sizeof(text));
	else
		printf(", \"value\": null");
	if (error != NULL)
		decode_text("error", "%s", error);
	decode_end();
}
