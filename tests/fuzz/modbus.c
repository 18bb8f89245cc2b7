/*
 * modbus.c - any bytes as Modbus, over TCP and RTU: nothing is read beyond them, a frame that is found
 * is one, and words taken from an accepted answer lie inside it
 */
/* links: poller/mbap.c poller/rtu.c */
#include <stdlib.h>
#include <string.h>

#include "../../poller/mbap.h"
#include "../../poller/rtu.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What an answer may be used for, when it is taken for that to some question of the same function. */
static void
use_answer(const SmFrame *frame)
{
	SmRequest request;
	uint16_t words[2048];
	int exception;
	const char *why;
	int function = frame->pdu[0] & 0x7F;
	int count = frame->length > 1 ? frame->pdu[1] / (function <= 2 ? 1 : 2) : 1;

	if (mbap_build_read(&request, frame->unit, function, 0, count) &&
		mbap_check(&request, frame, &exception, &why) == REPLY_GOOD &&
		mbap_words(&request, frame->pdu + 2, words) != count)
		abort();
}

static void
try_rtu(SmRtuSide side, const uint8_t *bytes, int length)
{
	SmFrame frame;

	while (length > 0)
	{
		SmFrameState state = rtu_take(side, bytes, length, &frame);

		if (frame.taken < 0 || frame.taken > length)
			abort();
		if (state != FRAME_WHOLE)
			return;
		if (rtu_crc(frame.pdu - 1, frame.length + 1) !=
			(frame.pdu[frame.length] | frame.pdu[frame.length + 1] << 8))
			abort();
		if (side == RTU_RESPONSE)
			use_answer(&frame);
		bytes += frame.taken;
		length -= frame.taken;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* A copy of its own size, so that a look beyond the end is seen. */
	uint8_t *copy = malloc(size + 1);
	SmFrame frame;
	int used = 0;

	memcpy(copy, bytes, size);
	try_rtu(RTU_REQUEST, copy, (int) size);
	try_rtu(RTU_RESPONSE, copy, (int) size);
	while (mbap_take(copy + used, (int) size - used, &frame) == FRAME_WHOLE)
	{
		use_answer(&frame);
		used += frame.taken;
	}
	free(copy);
	return 0;
}
