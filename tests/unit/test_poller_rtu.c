/*
 * test_poller_rtu.c - RTU frames in a stream: the exchanges of public Modbus RTU descriptions, noise,
 * tails and frames that come in pieces
 */
/* links: poller/rtu.c poller/mbap.c */
#include "../../poller/rtu.h"
#include "test_poller_tap.h"

static int
hex(const char *text, uint8_t *bytes)
{
	int count = 0;
	unsigned value;
	int used;

	while (sscanf(text, " %2x%n", &value, &used) == 1)
	{
		bytes[count++] = (uint8_t) value;
		text += used;
	}
	return count;
}

static SmFrameState
take(SmRtuSide side, const char *text, SmFrame *frame)
{
	static uint8_t bytes[1024];

	return rtu_take(side, bytes, hex(text, bytes), frame);
}

static void
test_printed(void)
{
	SmRequest request;
	uint8_t adu[RTU_FRAME_MAX];
	uint8_t wanted[RTU_FRAME_MAX];
	SmFrame frame;
	int length;

	mbap_build_read(&request, 17, 3, 107, 3);
	length = rtu_frame(&request, adu);
	is(length, hex("11 03 00 6B 00 03 76 87", wanted), "a read has eight bytes");
	ok(memcmp(adu, wanted, 8) == 0, "those printed");
	is(take(RTU_REQUEST, "11 03 00 6B 00 03 76 87", &frame), FRAME_WHOLE, "and is found");
	is(take(RTU_RESPONSE, "11 03 06 AE 41 56 52 43 40 49 AD", &frame), FRAME_WHOLE, "its answer");
	is(frame.unit, 17, "of unit 17");
	is(frame.length, 8, "eight bytes between unit and checksum");
	is(frame.taken, 11, "eleven in all");
	is(take(RTU_RESPONSE, "0A 81 02 B0 53", &frame), FRAME_WHOLE, "an exception");
	is(frame.pdu[1], 2, "with its code");
}

static void
test_stream(void)
{
	SmFrame frame;

	is(take(RTU_RESPONSE, "11 03 06 AE 41 56", &frame), FRAME_PARTIAL,
	   "half a frame may become one");
	is(take(RTU_RESPONSE, "00 11 03 06 AE 41 56 52 43 40 49 AD", &frame), FRAME_WHOLE,
	   "a byte of noise before");
	is(frame.taken, 12, "is skipped");
	is(take(RTU_RESPONSE, "11 03 00 6B 00 03 76 87 11 03 06 AE 41 56 52 43 40 49 AD", &frame),
	   FRAME_WHOLE, "the echo of the question before the answer");
	ok(frame.taken == 19 && frame.length == 8, "is no answer");
	is(take(RTU_RESPONSE, "11 03 FF 11 03 06 AE 41 56 52 43 40 49 AD", &frame), FRAME_WHOLE,
	   "the beginning of a long frame that never comes");
	is(frame.taken, 14, "hides nothing");
	is(take(RTU_RESPONSE, "11 03 06 AE 41 56 52 43 40 49 AE", &frame), FRAME_PARTIAL,
	   "a wrong checksum is no answer");
	is(take(RTU_REQUEST, "FF FF FF FF", &frame), FRAME_PARTIAL, "its last byte may begin another");
	is(frame.taken, 3, "and all before it can be forgotten");
}

static void
test_late(void)
{
	SmRequest request;
	SmFrame frame;
	int exception;
	const char *why;

	mbap_build_read(&request, 17, 3, 0, 2);
	take(RTU_RESPONSE, "11 03 06 AE 41 56 52 43 40 49 AD", &frame);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_WRONG,
	   "three registers are no answer to a question for two");
	mbap_build_read(&request, 18, 3, 0, 3);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_WRONG, "nor of another unit");
	mbap_build_read(&request, 17, 4, 0, 3);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_WRONG, "nor to another function");
	mbap_build_read(&request, 17, 3, 0, 3);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_GOOD, "but to this one they are");
}

int
main(void)
{
	test_printed();
	test_stream();
	test_late();
	return tap_done();
}
