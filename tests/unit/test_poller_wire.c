/*
 * test_poller_wire.c - questions and answers on each kind of wire: what counts as the answer, what a
 * refusal comes to, answers of several frames, and what wants an answer itself. The DL/T 645 frames
 * are those printed in public descriptions of the protocol.
 */
/* links: poller/wire.c poller/mbap.c poller/rtu.c poller/dlt645.c poller/dlt645_build.c poller/q376.c */
#include "../../poller/rtu.h"
#include "../../poller/wire.h"
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

static bool
same(const uint8_t *bytes, int length, const char *text)
{
	uint8_t wanted[512];

	return hex(text, wanted) == length && memcmp(bytes, wanted, (size_t) length) == 0;
}

/* A frame of DL/T 645 from this meter with these data, as bytes. */
static int
meter_says(const SmTarget *target, uint8_t control, const char *data, uint8_t *bytes)
{
	uint8_t body[256];

	return dlt645_frame(target->address, control, body, hex(data, body), bytes);
}

/* Judges bytes as the answer to a question. */
static SmReplyKind
judge(const SmWire *wire, const SmRequest *request, const uint8_t *bytes, int length,
	  SmResult *result)
{
	static SmReply reply; /* results point into it */

	memset(result, 0, sizeof(*result));
	if (wire_take(wire, bytes, length, &reply) != FRAME_WHOLE)
		return REPLY_WRONG;
	return wire_check(wire, request, &reply, result);
}

static void
test_names(void)
{
	SmWireKind kind;
	SmProtocol protocol;
	SmTarget target;

	ok(wire_find_kind("rtu", &kind) && kind == WIRE_RTU && wire_find_kind("rtu-over-tcp", &kind) &&
		   kind == WIRE_RTU && wire_find_kind("dlt645", &kind) && kind == WIRE_DLT645 &&
		   wire_find_kind("q376-transparent", &kind) && kind == WIRE_Q376 &&
		   !wire_find_kind("modbus", &kind),
	   "transports");
	ok(wire_find_protocol("dlt645-1997", &protocol) && protocol == PROTOCOL_DLT645_1997 &&
		   !wire_find_protocol("dlt645", &protocol),
	   "protocols");
	ok(wire_carries(WIRE_RTU, PROTOCOL_MODBUS) && !wire_carries(WIRE_DLT645, PROTOCOL_MODBUS) &&
		   wire_carries(WIRE_Q376, PROTOCOL_DLT645_1997) &&
		   !wire_carries(WIRE_MODBUS_TCP, PROTOCOL_DLT645_2007),
	   "and what fits what");
	ok(wire_parse_target(PROTOCOL_MODBUS, "247", &target) && target.unit == 247 &&
		   !wire_parse_target(PROTOCOL_MODBUS, "256", &target) &&
		   !wire_parse_target(PROTOCOL_MODBUS, "", &target) &&
		   !wire_parse_target(PROTOCOL_MODBUS, "1 ", &target) &&
		   !wire_parse_target(PROTOCOL_MODBUS, "0001", &target),
	   "Modbus units");
	ok(wire_parse_target(PROTOCOL_DLT645_2007, "123456789012", &target) &&
		   memcmp(target.address, "\x12\x90\x78\x56\x34\x12", 6) == 0 &&
		   !wire_parse_target(PROTOCOL_DLT645_2007, "1234567890123", &target),
	   "addresses of DL/T 645");
}

static void
test_dlt645(void)
{
	SmWire wire = {.kind = WIRE_DLT645};
	SmTarget target;
	SmTarget other;
	SmRequest request;
	SmResult result;
	uint8_t bytes[WIRE_FRAME_MAX];
	int length;

	wire_parse_target(PROTOCOL_DLT645_2007, "11", &target);
	wire_parse_target(PROTOCOL_DLT645_2007, "12", &other);
	ok(dlt645_build_read(&request, &target, 0x00010000), "a read of 2007");
	length = wire_frame(&wire, &request, bytes);
	ok(same(bytes, length, "FE FE FE FE 68 11 00 00 00 00 00 68 11 04 33 33 34 33 C3 16"),
	   "as it goes out");
	length = meter_says(&target, 0x91, "00 00 01 00 78 56 34 12", bytes);
	is(judge(&wire, &request, bytes, length, &result), REPLY_GOOD, "its answer");
	ok(result.length == 4 && memcmp(result.data, "\x78\x56\x34\x12", 4) == 0,
	   "what follows the identifier");
	length = meter_says(&target, 0x91, "00 00 02 00 78 56 34 12", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "another item: wait on");
	length = meter_says(&other, 0x91, "00 00 01 00 78 56 34 12", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "another meter: wait on");
	length = wire_frame(&wire, &request, bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "the question itself: wait on");
	length = meter_says(&target, 0xD1, "02", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_NO_DATA && result.code == 2,
	   "no such data");
	length = meter_says(&target, 0xD1, "04", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_PASSWORD,
	   "not authorised");
	length = meter_says(&target, 0xD1, "01", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_OTHER,
	   "some other reason");
	wire_parse_target(PROTOCOL_DLT645_1997, "AAAAAAAAAAAA", &target);
	ok(dlt645_build_read(&request, &target, 0x9010), "a read of 1997, of anybody");
	length = wire_frame(&wire, &request, bytes);
	ok(same(bytes, length, "FE FE FE FE 68 AA AA AA AA AA AA 68 01 02 43 C3 D5 16"),
	   "two bytes of identifier");
	length = meter_says(&other, 0x81, "10 90 78 56 34 12", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_GOOD && result.length == 4,
	   "whoever answers");
	length = meter_says(&other, 0xC1, "01", bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_NO_DATA,
	   "bit 0 of 1997 is what bit 1 of 2007 is");
}

/* An answer of three frames. */
static void
test_following(void)
{
	SmWire wire = {.kind = WIRE_DLT645};
	SmTarget target;
	SmRequest first;
	SmRequest next;
	SmResult result;
	SmJoin join = {0};
	uint8_t bytes[WIRE_FRAME_MAX];
	const char *why;
	int length;

	wire_parse_target(PROTOCOL_DLT645_2007, "11", &target);
	dlt645_build_read(&first, &target, 0x0001FF00);
	length = meter_says(&target, 0xB1, "00 FF 01 00 01 02 03 04", bytes);
	is(judge(&wire, &first, bytes, length, &result), REPLY_MORE, "more follows");
	ok(wire_join(&join, &result, &why) && join.length == 4, "the first part");
	wire_follow(&first, &join, &next);
	ok(next.control == 0x12 && same(next.body, next.length, "00 FF 01 00 01"),
	   "the next is asked for by number");
	length = meter_says(&target, 0xB2, "00 FF 01 00 05 06 01", bytes);
	ok(judge(&wire, &next, bytes, length, &result) == REPLY_MORE && result.sequence == 1 &&
		   result.length == 2 && wire_join(&join, &result, &why),
	   "the second part");
	wire_follow(&first, &join, &next);
	length = meter_says(&target, 0xB2, "00 FF 01 00 05 06 01", bytes);
	ok(judge(&wire, &next, bytes, length, &result) == REPLY_MORE &&
		   !wire_join(&join, &result, &why) && why != NULL,
	   "the same part again is not the next");
	length = meter_says(&target, 0x92, "00 FF 01 00 07 02", bytes);
	ok(judge(&wire, &next, bytes, length, &result) == REPLY_GOOD &&
		   wire_join(&join, &result, &why) && join.length == 7 &&
		   memcmp(join.data, "\1\2\3\4\5\6\7", 7) == 0,
	   "the last part, and the whole");
	length = meter_says(&target, 0x92, "00 FF 01 00", bytes);
	is(judge(&wire, &next, bytes, length, &result), REPLY_WRONG, "a part without its number");
	join.length = WIRE_JOIN_MAX - 1;
	result = (SmResult){.data = bytes, .length = 2, .sequence = join.frames};
	ok(!wire_join(&join, &result, &why), "no more than there is room for");
	wire_parse_target(PROTOCOL_DLT645_1997, "11", &target);
	dlt645_build_read(&first, &target, 0x901F);
	wire_follow(&first, &join, &next);
	ok(next.control == 0x02 && next.length == 2, "1997 counts no frames");
}

static void
test_building(void)
{
	SmTarget target;
	SmDltKey key;
	SmDltTime until = {2026, 11, 22, 23, 59, 58};
	SmRequest request;
	uint8_t data[64] = {0};
	uint32_t di;

	wire_parse_target(PROTOCOL_DLT645_2007, "11", &target);
	ok(dlt645_parse_key(2, "123456", "00000078", &key) &&
		   !dlt645_parse_key(100, "123456", "00000000", &key) &&
		   !dlt645_parse_key(2, "12345", "00000000", &key) &&
		   !dlt645_parse_key(2, "12345x", "00000000", &key) &&
		   !dlt645_parse_key(2, "123456", "0", &key),
	   "keys");
	dlt645_parse_key(2, "123456", "00000078", &key);
	ok(dlt645_build_switch(&request, &target, &key, 0x1A, &until) && request.control == 0x1C &&
		   same(request.body, request.length, "02 56 34 12 78 00 00 00 1A 00 58 59 23 22 11 26"),
	   "a breaker: key, command, until when");
	ok(dlt645_build_write(&request, &target, 0x04000101, &key, data, 4) &&
		   request.control == 0x14 && request.length == 16 && !request.unanswered,
	   "a write");
	ok(!dlt645_build_write(&request, &target, 0x04000101, &key, data, 39), "not too long");
	dlt645_build_clock(&request, PROTOCOL_DLT645_2007, &until);
	ok(request.control == 0x08 && request.unanswered && request.target.address[5] == 0x99 &&
		   same(request.body, request.length, "58 59 23 22 11 26"),
	   "the time, for all and answered by none");
	wire_parse_target(PROTOCOL_DLT645_1997, "11", &target);
	ok(!dlt645_build_switch(&request, &target, &key, 0x1A, &until), "1997 knows no breakers");
	ok(dlt645_build_write(&request, &target, 0xDD78, &key, data, 1) && request.control == 0x04 &&
		   same(request.body, request.length, "78 DD 02 56 34 12 00"),
	   "but writes, without an operator");
	target.protocol = PROTOCOL_MODBUS;
	ok(!dlt645_build_read(&request, &target, 0) &&
		   !dlt645_build_write(&request, &target, 0, &key, data, 1),
	   "nothing of it in Modbus");
	ok(dlt645_parse_di(PROTOCOL_DLT645_2007, "0201ff00", &di) && di == 0x0201FF00 &&
		   dlt645_parse_di(PROTOCOL_DLT645_1997, "9010", &di) && di == 0x9010 &&
		   !dlt645_parse_di(PROTOCOL_DLT645_1997, "0201FF00", &di) &&
		   !dlt645_parse_di(PROTOCOL_DLT645_2007, "0201FG00", &di) &&
		   !dlt645_parse_di(PROTOCOL_MODBUS, "9010", &di),
	   "identifiers");
}

static void
test_modbus(void)
{
	SmWire tcp = {.kind = WIRE_MODBUS_TCP, .transaction = 6};
	SmWire rtu = {.kind = WIRE_RTU};
	SmRequest request;
	SmResult result;
	uint16_t crc;
	uint8_t bytes[WIRE_FRAME_MAX];
	int length;

	mbap_build_read(&request, 17, 3, 107, 1);
	wire_frame(&tcp, &request, bytes);
	is(tcp.transaction, 7, "each question has its number");
	length = hex("00 07 00 00 00 05 11 03 02 02 2B", bytes);
	ok(judge(&tcp, &request, bytes, length, &result) == REPLY_GOOD && result.length == 2 &&
		   memcmp(result.data, "\x02\x2B", 2) == 0,
	   "its answer");
	length = hex("00 06 00 00 00 05 11 03 02 02 2B", bytes);
	ok(judge(&tcp, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "a late one: wait on");
	length = hex("00 07 00 00 00 05 12 03 02 02 2B", bytes);
	ok(judge(&tcp, &request, bytes, length, &result) == REPLY_WRONG && !result.foreign,
	   "another unit under its number: nothing else will come");
	length = hex("00 07 00 00 00 03 11 83 0B", bytes);
	ok(judge(&tcp, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_UNREACHED,
	   "the gateway says that the unit is not there");
	length = hex("00 07 00 00 00 03 11 83 02", bytes);
	judge(&tcp, &request, bytes, length, &result);
	is(result.refusal, REFUSAL_NO_DATA, "02: no such registers");
	length = hex("00 07 00 00 00 03 11 83 06", bytes);
	judge(&tcp, &request, bytes, length, &result);
	is(result.refusal, REFUSAL_BUSY, "06: busy");
	length = hex("00 07 00 00 00 03 11 83 01", bytes);
	judge(&tcp, &request, bytes, length, &result);
	is(result.refusal, REFUSAL_FUNCTION, "01: not this way");
	length = hex("12 03 02 02 2B", bytes);
	crc = rtu_crc(bytes, length);
	bytes[length++] = (uint8_t) crc;
	bytes[length++] = (uint8_t) (crc >> 8);
	ok(judge(&rtu, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "RTU: another unit, wait on");
}

static void
test_concentrator(void)
{
	SmWire wire = {.kind = WIRE_Q376, .port = 2, .line = 0x6B, .timeout_ms = 3000};
	SmQ376Address station = {0x4403, 1234, 0};
	SmQ376Address stranger = {0x4403, 1235, 0};
	SmTarget target;
	SmRequest request;
	SmReply reply;
	SmResult result;
	const uint8_t *inner;
	uint8_t bytes[512];
	uint8_t data[256] = {2};
	int length;
	int inner_length;

	wire_parse_target(PROTOCOL_DLT645_2007, "11", &target);
	dlt645_build_read(&request, &target, 0x00010000);
	is(wire_frame(&wire, &request, bytes), 0, "nothing is asked before it is known");
	length = q376_build(&station, 0xC9, Q376_AFN_LINK, 0x71, 1, NULL, 0, bytes);
	ok(wire_take(&wire, bytes, length, &reply) == FRAME_WHOLE, "a login");
	length = wire_unasked(&wire, &reply, bytes);
	ok(length > 0 && wire.known && wire.station.terminal == 1234, "says who it is");
	ok(wire_take(&wire, bytes, length, &reply) == FRAME_WHOLE && reply.q376.afn == 0 &&
		   (reply.q376.seq & 0x0F) == 1,
	   "and is confirmed under its number");
	is(wire_unasked(&wire, &reply, bytes), 0, "a confirmation is not confirmed");
	length = q376_build(&stranger, 0xC9, Q376_AFN_LINK, 0x71, 3, NULL, 0, bytes);
	wire_take(&wire, bytes, length, &reply);
	is(wire_unasked(&wire, &reply, bytes), 0, "another concentrator is not");
	length = wire_frame(&wire, &request, bytes);
	ok(length > 0 && wire_take(&wire, bytes, length, &reply) == FRAME_WHOLE && reply.forwarded &&
		   reply.q376.data[0] == 2 && reply.q376.data[1] == 0x6B && reply.q376.data[2] == 0x83 &&
		   reply.dlt.control == 0x11,
	   "a question to a meter, to be waited for 3 s");
	wire.timeout_ms = 250;
	length = wire_frame(&wire, &request, bytes);
	wire_take(&wire, bytes, length, &reply);
	ok(reply.q376.data[2] == 25 && (reply.q376.seq & 0x0F) == wire.seq, "or for 250 ms");
	inner = data + 3;
	inner_length = meter_says(&target, 0x91, "00 00 01 00 78 56 34 12", data + 3);
	data[1] = (uint8_t) inner_length;
	length = q376_build(&station, 0x88, Q376_AFN_FORWARD, (uint8_t) (0x60 | wire.seq), 1, data,
						3 + inner_length, bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_GOOD && result.length == 4 &&
		   memcmp(result.data, "\x78\x56\x34\x12", 4) == 0 && inner[0] == 0x68,
	   "the meter's answer");
	length = q376_build(&station, 0x88, Q376_AFN_FORWARD, (uint8_t) (0x60 | ((wire.seq + 15) & 15)),
						1, data, 3 + inner_length, bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_WRONG && result.foreign,
	   "that to an earlier question: wait on");
	length = q376_build(&stranger, 0x88, Q376_AFN_FORWARD, (uint8_t) (0x60 | wire.seq), 1, data,
						3 + inner_length, bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_WRONG, "of another concentrator");
	data[1] = 0;
	length = q376_build(&station, 0x88, Q376_AFN_FORWARD, (uint8_t) (0x60 | wire.seq), 1, data, 3,
						bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_UNREACHED,
	   "an empty answer: the meter is not there");
	length =
		q376_build(&station, 0x88, Q376_AFN_ACK, (uint8_t) (0x60 | wire.seq), 2, NULL, 0, bytes);
	ok(judge(&wire, &request, bytes, length, &result) == REPLY_EXCEPTION &&
		   result.refusal == REFUSAL_UNREACHED,
	   "a denial");
}

/* What a program that reads and switches may ever say; all else must not leave. */
static void
test_allowed(void)
{
	static const char *const allowed[] = {"1 2 3 4 5 6 16 ", "8 17 18 19 20 28 ", "1 2 4 8 "};
	static const SmWireKind kinds[] = {WIRE_RTU, WIRE_DLT645, WIRE_DLT645};
	uint8_t bytes[WIRE_FRAME_MAX];
	char text[1024];
	int protocol;
	int code;
	int used;

	for (protocol = 0; protocol < 3; protocol++)
	{
		SmWire wire = {.kind = kinds[protocol]};

		text[0] = '\0';
		for (code = 0, used = 0; code < 256; code++)
		{
			SmRequest request = {.target = {.protocol = (SmProtocol) protocol},
								 .control = (uint8_t) code,
								 .length = 5,
								 .body = {(uint8_t) (protocol == 0 ? code : 0)}};

			if (wire_frame(&wire, &request, bytes) > 0)
				used += snprintf(text + used, sizeof(text) - (size_t) used, "%d ", code);
		}
		is_text(text, allowed[protocol],
				"nothing is asked but reads, switch instructions and the clock");
	}
}

int
main(void)
{
	test_allowed();
	test_names();
	test_dlt645();
	test_following();
	test_building();
	test_modbus();
	test_concentrator();
	return tap_done();
}
