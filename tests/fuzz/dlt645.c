/*
 * dlt645.c - any bytes as DL/T 645: nothing is read beyond them, a frame that is found is built again to
 * the same bytes, its data never make more values than there is room for, and a stream that comes in two
 * pieces gives the frames of the whole
 */
/* links: poller/dlt645.c poller/dlt645_item.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/dlt645.h"
#include "../../poller/dlt645_item.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
use_data(const SmDltFrame *frame)
{
	SmDltValue values[DLT645_VALUES_MAX];
	char text[DLT645_TEXT_MAX];
	const char *why;
	uint32_t di;
	int di_bytes = dlt645_di_bytes(frame->control);
	SmDltItem item;

	dlt645_error_text(frame, text, sizeof(text));
	if (!dlt645_di(frame, &di))
		return;
	item = dlt645_item(di, di_bytes);
	if (dlt645_values(&item, frame->data + di_bytes, frame->length - di_bytes, values,
					  DLT645_VALUES_MAX, &why) > DLT645_VALUES_MAX)
		abort();
	dlt645_text(&item, frame->data + di_bytes, frame->length - di_bytes, text, sizeof(text), &why);
}

/* Takes all frames and counts them; left: bytes from which on more are needed. */
static int
take_all(const uint8_t *bytes, int length, int *left)
{
	uint8_t again[DLT645_FRAME_MAX];
	SmDltFrame frame;
	int count = 0;
	int used = 0;

	while (dlt645_take(bytes + used, length - used, &frame) == FRAME_WHOLE)
	{
		int size = dlt645_frame(frame.address, frame.control, frame.data, frame.length, again);

		if (frame.taken < 1 || frame.taken > length - used || size != frame.taken - frame.skipped ||
			memcmp(again, bytes + used + frame.skipped, (size_t) size) != 0)
			abort();
		use_data(&frame);
		count++;
		used += frame.taken;
	}
	if (frame.skipped < 0 || frame.skipped > length - used)
		abort();
	*left = used + frame.skipped;
	return count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* Copies of their own size, so that a look beyond the end is seen. */
	uint8_t *copy = malloc(size + 1);
	int half = (int) size / 2;
	uint8_t *piece = malloc((size_t) half + 1);
	int left;
	int whole;
	int parts;

	memcpy(copy, bytes, size);
	memcpy(piece, bytes, (size_t) half);
	whole = take_all(copy, (int) size, &left);
	parts = take_all(piece, half, &left);
	parts += take_all(copy + left, (int) size - left, &left);
	/* A whole frame behind the first half of another is taken when the half comes alone. */
	if (parts < whole)
		abort();
	free(piece);
	free(copy);
	return 0;
}
