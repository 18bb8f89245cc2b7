/*
 * q376.c - any bytes as Q/GDW 1376.1: nothing is read beyond them, and what is passed through lies
 * inside the frame that carries it
 */
/* links: poller/q376.c poller/dlt645.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/dlt645.h"
#include "../../poller/q376.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
use_frame(const SmQ376Frame *frame)
{
	uint8_t answer[Q376_FRAME_MAX];
	char text[Q376_ADDRESS_TEXT];
	const uint8_t *inner;
	SmDltFrame carried;
	int length;

	q376_address_text(&frame->address, text);
	if (q376_build_ack(frame, answer) != 20)
		abort();
	if (!q376_forwarded(frame, &inner, &length))
		return;
	if (inner < frame->data || inner + length > frame->data + frame->length)
		abort();
	dlt645_take(inner, length, &carried);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	SmQ376Frame frame;
	int used = 0;

	memcpy(copy, bytes, size);
	while (q376_take(copy + used, (int) size - used, &frame) == FRAME_WHOLE)
	{
		if (frame.taken < 1 || frame.taken > (int) size - used)
			abort();
		use_frame(&frame);
		used += frame.taken;
	}
	free(copy);
	return 0;
}
