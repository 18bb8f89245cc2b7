/*
 * test_poller_mbap.c - the Modbus codec against the exchanges printed in the Modbus Application
 * Protocol Specification V1.1b3, and against answers that must not count
 */
/* links: poller/mbap.c */
#include "../../poller/mbap.h"
#include "test_poller_tap.h"

/* Puts hexadecimal digits into bytes; returns their number. */
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

/* Whether the bytes are those printed. */
static bool
same(const uint8_t *bytes, int length, const char *text)
{
	uint8_t wanted[MBAP_ADU_MAX];

	return hex(text, wanted) == length && memcmp(bytes, wanted, (size_t) length) == 0;
}

/* A frame whose pdu is printed; the bytes must live as long as the frame. */
static SmFrame
answer(int unit, const char *text, uint8_t *bytes)
{
	SmFrame frame = {0};

	frame.unit = (uint8_t) unit;
	frame.length = hex(text, bytes);
	frame.pdu = bytes;
	return frame;
}

static SmReplyKind
check(const SmRequest *request, int unit, const char *text)
{
	uint8_t bytes[MBAP_ADU_MAX];
	SmFrame frame = answer(unit, text, bytes);
	int exception;
	const char *why;

	return mbap_check(request, &frame, &exception, &why);
}

static void
test_reads(void)
{
	SmRequest request;
	SmFrame frame;
	uint8_t bytes[MBAP_ADU_MAX];
	uint16_t words[MBAP_READ_MAX];
	int exception;
	const char *why;

	ok(mbap_build_read(&request, 17, 3, 107, 3), "read holding registers");
	ok(same(request.body, request.length, "03 00 6B 00 03"), "request as printed");
	frame = answer(17, "03 06 02 2B 00 00 00 64", bytes);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_GOOD, "answer as printed");
	is(mbap_words(&request, frame.pdu + 2, words), 3, "three registers");
	ok(words[0] == 555 && words[1] == 0 && words[2] == 100, "555, 0 and 100 as explained there");

	mbap_build_read(&request, 17, 4, 8, 1);
	ok(same(request.body, request.length, "04 00 08 00 01"), "read input registers");
	frame = answer(17, "04 02 00 0A", bytes);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_GOOD, "its answer");
	mbap_words(&request, frame.pdu + 2, words);
	is(words[0], 10, "is 10");

	mbap_build_read(&request, 17, 1, 19, 19);
	ok(same(request.body, request.length, "01 00 13 00 13"), "read coils 20 to 38");
	frame = answer(17, "01 03 CD 6B 05", bytes);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_GOOD, "their answer");
	is(mbap_words(&request, frame.pdu + 2, words), 19, "19 bits");
	ok(words[0] == 1 && words[1] == 0 && words[7] == 1 && words[16] == 1 && words[17] == 0 &&
		   words[18] == 1,
	   "coil 27 on, 26 on ... 38 on, 37 off, 36 on");

	mbap_build_read(&request, 17, 2, 196, 22);
	ok(same(request.body, request.length, "02 00 C4 00 16"), "read discrete inputs 197 to 218");
	is(check(&request, 17, "02 03 AC DB 35"), REPLY_GOOD, "their answer");

	ok(!mbap_build_read(&request, 1, 3, 0, 126), "126 registers are too many");
	ok(!mbap_build_read(&request, 1, 3, 65535, 2), "beyond 65535");
	ok(!mbap_build_read(&request, 256, 3, 0, 1), "unit 256");
	ok(!mbap_build_read(&request, 1, 3, 0, 0), "no registers at all");
	ok(!mbap_build_read(&request, 1, 5, 0, 1), "a write is no read");
}

static void
test_writes(void)
{
	SmRequest request;
	uint16_t on[] = {1};
	uint16_t three[] = {3};
	uint16_t pair[] = {0x000A, 0x0102};

	ok(mbap_build_write(&request, 17, 5, 172, on, 1), "write coil 173");
	ok(same(request.body, request.length, "05 00 AC FF 00"), "request as printed");
	is(check(&request, 17, "05 00 AC FF 00"), REPLY_GOOD, "echo as printed");
	is(check(&request, 17, "05 00 AC 00 00"), REPLY_WRONG, "the opposite is no echo");
	mbap_build_write(&request, 17, 6, 1, three, 1);
	ok(same(request.body, request.length, "06 00 01 00 03"), "write register 2");
	is(check(&request, 17, "06 00 01 00 03"), REPLY_GOOD, "its echo");
	is(check(&request, 17, "06 00 01 00 04"), REPLY_WRONG, "another value is no echo");
	mbap_build_write(&request, 17, 16, 1, pair, 2);
	ok(same(request.body, request.length, "10 00 01 00 02 04 00 0A 01 02"), "write two registers");
	is(check(&request, 17, "10 00 01 00 02"), REPLY_GOOD, "their answer");
	is(check(&request, 17, "10 00 01 00 01"), REPLY_WRONG, "only one was written");
	is(check(&request, 17, "90 03"), REPLY_EXCEPTION, "refused");
	ok(!mbap_build_write(&request, 17, 6, 1, pair, 2), "function 6 writes one register");
	ok(!mbap_build_write(&request, 17, 15, 1, pair, 2), "function 15 is never used");
	ok(!mbap_build_write(&request, 17, 16, 1, pair, 0), "nothing to write");
}

static void
test_refusals(void)
{
	SmRequest request;
	SmFrame frame;
	uint8_t bytes[MBAP_ADU_MAX];
	int exception = 0;
	const char *why;

	mbap_build_read(&request, 17, 1, 0x04A1, 1);
	ok(same(request.body, request.length, "01 04 A1 00 01"), "the read that is refused there");
	frame = answer(17, "81 02", bytes);
	is(mbap_check(&request, &frame, &exception, &why), REPLY_EXCEPTION, "its exception");
	is(exception, 2, "illegal data address");
	mbap_build_read(&request, 17, 3, 107, 3);
	is(check(&request, 18, "03 06 02 2B 00 00 00 64"), REPLY_WRONG, "another unit");
	is(check(&request, 18, "83 02"), REPLY_WRONG, "an exception of another unit");
	is(check(&request, 17, "04 06 02 2B 00 00 00 64"), REPLY_WRONG, "another function");
	is(check(&request, 17, "84 02"), REPLY_WRONG, "an exception to another function");
	is(check(&request, 17, "03 04 02 2B 00 00"), REPLY_WRONG, "too few registers");
	is(check(&request, 17, "03 08 02 2B 00 00 00 64 00 00"), REPLY_WRONG, "too many");
	is(check(&request, 17, "03 06 02 2B 00 00"), REPLY_WRONG, "fewer bytes than it says");
	is(check(&request, 17, "03 08 02 2B 00 00 00 64"), REPLY_WRONG, "more said than sent");
}

static void
test_frames(void)
{
	SmRequest request;
	SmFrame frame;
	uint8_t adu[MBAP_ADU_MAX];
	uint8_t two[64];
	int length;
	int i;
	bool partial = true;

	mbap_build_read(&request, 0xFF, 3, 4, 1);
	length = mbap_frame(&request, 0x1501, adu);
	ok(same(adu, length, "15 01 00 00 00 06 FF 03 00 04 00 01"), "a question in its frame");
	for (i = 0; i < length; i++)
		partial = partial && mbap_take(adu, i, &frame) == FRAME_PARTIAL;
	ok(partial, "each part of it is partial");
	is(mbap_take(adu, length, &frame), FRAME_WHOLE, "the whole is whole");
	ok(frame.transaction == 0x1501 && frame.unit == 0xFF && frame.length == 5 && frame.taken == 12,
	   "and taken apart");
	length = hex("00 01 00 00 00 05 01 03 02 00 0A 00 02 00 00 00 03 01 83 02", two);
	is(mbap_take(two, length, &frame), FRAME_WHOLE, "the first of two");
	is(mbap_take(two + frame.taken, length - frame.taken, &frame), FRAME_WHOLE, "the second");
	is(frame.transaction, 2, "has its own number");
	hex("00 01 00 01 00 05", two);
	is(mbap_take(two, 6, &frame), FRAME_BROKEN, "another protocol");
	hex("00 01 00 00 00 02", two);
	is(mbap_take(two, 6, &frame), FRAME_BROKEN, "too short to be an answer");
	hex("00 01 00 00 00 FF", two);
	is(mbap_take(two, 6, &frame), FRAME_BROKEN, "longer than any answer");
	hex("00 01 00 00 00 FE", two);
	is(mbap_take(two, 6, &frame), FRAME_PARTIAL, "as long as an answer can be");
}

int
main(void)
{
	test_reads();
	test_writes();
	test_refusals();
	test_frames();
	return tap_done();
}
