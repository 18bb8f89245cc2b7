/*
 * decode_dlt645.c - frames of DL/T 645: where they are, and what they say
 */
#include <stdio.h>

#include "decode_inside.h"
#include "dlt645_item.h"

SmSight
decode_look_dlt645(const uint8_t *bytes, int length)
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
			decode_text("value", "%s", text);
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
		decode_text("unit", "%s", item->unit);
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

	decode_text("di", "%0*X", di_bytes * 2, di);
	if (!answer)
	{
		printf(", \"value\": null");
		return NULL;
	}
	if (function == DLT645_FOLLOW_2007 || function == DLT645_FOLLOW_1997)
	{
		item.kind = DLT645_RAW;
		if (length > 0)
			decode_number("sequence", frame->data[frame->length - 1]);
		length = length > 0 ? length - 1 : 0;
	}
	if ((frame->control & DLT645_MORE) != 0)
		printf(", \"more\": true");
	return dlt645_print_value(&item, frame->data + di_bytes, length);
}

/* The members of a frame between the braces. */
void
decode_dlt645_members(const SmDltFrame *frame, const char **error, char *text, int size)
{
	char address[DLT645_ADDRESS_TEXT];
	uint32_t di;

	dlt645_address_text(frame->address, address);
	decode_text("direction", "%s", (frame->control & DLT645_REPLY) != 0 ? "response" : "request");
	decode_text("address", "%s", address);
	decode_text("control", "%02X", frame->control);
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
		decode_text("value", "%s", address);
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

void
decode_print_dlt645(const uint8_t *bytes, int length)
{
	SmDltFrame frame;
	SmDltFault fault;
	char text[256];
	const char *error;

	dlt645_at(bytes, length, &frame, &fault);
	decode_begin("dlt645", dlt645_is_good(&frame));
	decode_dlt645_members(&frame, &error, text, sizeof(text));
	if (error != NULL)
		decode_text("error", "%s", error);
	decode_end();
}
