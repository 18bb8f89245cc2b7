/*
 * test_poller_q376.c - frames of concentrators: login and heartbeat, and a DL/T 645 frame passed through
 */
/* links: poller/q376.c poller/dlt645.c */
#include "../../poller/dlt645.h"
#include "../../poller/q376.h"
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

/* A heartbeat written by the description: 12 bytes behind the second 68H, so L = 12 x 4 + 2. */
static const char heartbeat[] = "68 32 00 32 00 68 C9 03 44 D2 04 00 02 71 00 00 04 00 5D 16";

static void
test_link(void)
{
	uint8_t bytes[Q376_FRAME_MAX];
	uint8_t answer[Q376_FRAME_MAX];
	SmQ376Frame frame;
	SmQ376Frame ack;
	char text[Q376_ADDRESS_TEXT];
	int length = hex(heartbeat, bytes);
	int i;
	unsigned sum = 0;

	for (i = 6; i < length - 2; i++)
		sum += bytes[i];
	bytes[length - 2] = (uint8_t) sum;
	is(q376_take(bytes, length, &frame), FRAME_WHOLE, "a heartbeat");
	is(frame.afn, Q376_AFN_LINK, "is a link message");
	is(frame.function, 3, "F3");
	is(frame.point, 0, "of the concentrator itself");
	q376_address_text(&frame.address, text);
	is_text(text, "4403-01234", "region and number");

	length = q376_build_ack(&frame, answer);
	is(q376_take(answer, length, &ack), FRAME_WHOLE, "its answer is a frame");
	ok(ack.afn == Q376_AFN_ACK && ack.function == 1, "that says all right");
	is(ack.seq & 0x0F, frame.seq & 0x0F, "under the number of the question");
	is(ack.control & Q376_FROM_STATION, 0, "from the master");
	is(ack.address.terminal, 1234, "to the same station");
}

static void
test_forward(void)
{
	static const uint8_t meter[DLT645_ADDRESS] = {1, 0, 0, 0, 0, 0};
	static const uint8_t di[4] = {0, 0, 1, 0};
	static const uint8_t password[Q376_PASSWORD] = {0};
	SmQ376Address address = {0x4403, 1234, 0};
	uint8_t inner[DLT645_FRAME_MAX];
	uint8_t bytes[Q376_FRAME_MAX];
	SmQ376Frame frame;
	const uint8_t *got;
	int length = dlt645_frame(meter, DLT645_READ_2007, di, 4, inner);
	int got_length;
	int used;

	used = q376_build_forward(&address, 5, 1, 0x6B, 10000, inner, length, password, bytes);
	is(used, 8 + 12 + 6 + length + 16, "length with password");
	is(q376_take(bytes, used, &frame), FRAME_WHOLE, "a frame to forward");
	ok(frame.afn == Q376_AFN_FORWARD && frame.function == 1, "10H F1");
	ok(q376_forwarded(&frame, &got, &got_length), "carries one");
	ok(got_length == length && memcmp(got, inner, (size_t) length) == 0, "the one put in");

	used = q376_build_forward(&address, 5, 1, 0x6B, 10000, inner, 2000, NULL, bytes);
	is(used, 0, "what is too long is refused");
}

static void
test_stream(void)
{
	uint8_t bytes[2 * Q376_FRAME_MAX];
	SmQ376Frame frame;
	SmQ376Address address = {0x4403, 1, 0};
	int noise = hex("68 32 00 33 00 68 00", bytes);
	int length = q376_build(&address, 0xC9, Q376_AFN_LINK, 0x70, 1, NULL, 0, bytes + noise);

	is(q376_take(bytes, noise + length, &frame), FRAME_WHOLE, "behind noise");
	is(frame.taken, noise + length, "which is skipped");
	is(q376_take(bytes + noise, length - 3, &frame), FRAME_PARTIAL, "a frame in pieces");
	bytes[noise + 8] ^= 0xFF;
	ok(q376_take(bytes, noise + length, &frame) != FRAME_WHOLE, "a wrong checksum");
	/* A forwarded frame that claims to be longer than it is. */
	length = q376_build(&address, 0x88, Q376_AFN_FORWARD, 0x60, 1, (const uint8_t *) "\1\377\377",
						3, bytes);
	is(q376_take(bytes, length, &frame), FRAME_WHOLE, "a frame that lies about its inside");
	{
		const uint8_t *inner;
		int inner_length;

		ok(!q376_forwarded(&frame, &inner, &inner_length), "is found out");
	}
}

/* The record of a day: the question as the standard lays it out, and what counts as its answer. */
static void
test_daily(void)
{
	static const uint8_t day[3] = {0x31, 0x12, 0x25};
	static const uint8_t other[3] = {0x30, 0x12, 0x25};
	SmQ376Address address = {0x4401, 1, 0};
	SmQ376Frame frame;
	uint8_t bytes[Q376_FRAME_MAX];
	uint8_t data[3 + 5 + 1 + 5] = {0x31, 0x12, 0x25, 0,    0,    0,    1,
								   1,    0,    0x78, 0x56, 0x34, 0x12, 0x00};
	const uint8_t *total;
	int length;

	ok(q376_build_daily(&address, 3, 0, day, bytes) == 0 &&
		   q376_build_daily(&address, 3, 2041, day, bytes) == 0,
	   "points are 1 to 2040");
	length = q376_build_daily(&address, 3, 10, day, bytes);
	ok(q376_take(bytes, length, &frame) == FRAME_WHOLE && frame.afn == 0x0D && frame.point == 10 &&
		   frame.function == 161 && frame.length == 3,
	   "the question: AFN 0DH, point, F161, day");
	ok(bytes[14] == 0x02 && bytes[15] == 0x02 && bytes[16] == 0x01 && bytes[17] == 0x14,
	   "the tenth point is the second of the second group, F161 the first of group 20");
	ok(!q376_daily(&frame, 10, day, &total, &length), "which is no answer itself");
	frame.data = data;
	frame.length = sizeof(data);
	ok(q376_daily(&frame, 10, day, &total, &length) && length == 5 && total[0] == 0x78,
	   "the total");
	ok(!q376_daily(&frame, 11, day, &total, &length), "another point");
	ok(!q376_daily(&frame, 10, other, &total, &length), "another day");
	frame.length--;
	ok(!q376_daily(&frame, 10, day, &total, &length), "too short");
}

int
main(void)
{
	test_link();
	test_daily();
	test_forward();
	test_stream();
	return tap_done();
}
