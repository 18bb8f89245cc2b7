/*
 * test_poller_dlt645.c - DL/T 645 frames and values: a request printed in many public documents, frames
 * built here by the rule of the standard, and everything a shared line does to them
 */
/* links: poller/dlt645.c poller/dlt645_item.c */
#include "../../poller/dlt645.h"
#include "../../poller/dlt645_item.h"
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

/* Writes a frame byte by byte as the standard describes it, so that the codec is not its own judge. */
static int
wire(const char *address, int control, const char *data, uint8_t *bytes)
{
	uint8_t body[256];
	int length = hex(data, body);
	int used = 0;
	unsigned sum = 0;
	int i;

	bytes[used++] = 0x68;
	used += hex(address, bytes + used);
	bytes[used++] = 0x68;
	bytes[used++] = (uint8_t) control;
	bytes[used++] = (uint8_t) length;
	for (i = 0; i < length; i++)
		bytes[used++] = (uint8_t) ((body[i] + 0x33) & 0xFF);
	for (i = 0; i < used; i++)
		sum += bytes[i];
	bytes[used++] = (uint8_t) sum;
	bytes[used++] = 0x16;
	return used;
}

static const uint8_t meter_1[DLT645_ADDRESS] = {0x01, 0, 0, 0, 0, 0};
static const uint8_t any[DLT645_ADDRESS] = {0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA};
static const uint8_t total[4] = {0x00, 0x00, 0x01, 0x00};

static void
test_printed(void)
{
	static const char printed[] = "68 AA AA AA AA AA AA 68 11 04 33 33 34 33 AE 16";
	uint8_t wanted[64];
	uint8_t bytes[DLT645_FRAME_MAX];
	SmDltFrame frame;
	char text[DLT645_ADDRESS_TEXT];
	uint32_t di;

	is(dlt645_frame(any, DLT645_READ_2007, total, 4, bytes), hex(printed, wanted),
	   "a read of 16 bytes");
	ok(memcmp(bytes, wanted, 16) == 0, "those printed");
	is(dlt645_take(bytes, 16, &frame), FRAME_WHOLE, "and is found");
	ok(dlt645_di(&frame, &di) && di == 0x00010000, "asks for the forward total");
	dlt645_address_text(frame.address, text);
	is_text(text, "AAAAAAAAAAAA", "of anybody");
}

static void
test_address(void)
{
	uint8_t address[DLT645_ADDRESS];
	char text[DLT645_ADDRESS_TEXT];

	ok(dlt645_parse_address("123456789012", address), "twelve digits");
	ok(address[0] == 0x12 && address[5] == 0x12 && address[1] == 0x90, "lowest digits first");
	ok(dlt645_parse_address("123", address), "three digits");
	dlt645_address_text(address, text);
	is_text(text, "000000000123", "are the last of twelve");
	ok(!dlt645_parse_address("", address), "none is no address");
	ok(!dlt645_parse_address("1234567890123", address), "thirteen are not");
	ok(!dlt645_parse_address("12x", address), "letters are not");
}

static void
test_stream(void)
{
	uint8_t bytes[512];
	SmDltFrame frame;
	int length;
	int good;

	good = wire("01 00 00 00 00 00", 0x91, "00 00 01 00 78 56 34 12", bytes);
	is(dlt645_take(bytes, good, &frame), FRAME_WHOLE, "an answer");
	is(frame.length, 8, "of eight bytes");
	is(frame.data[4], 0x78, "without the 33H");
	is(dlt645_take(bytes, good - 1, &frame), FRAME_PARTIAL, "without its end it may become one");

	length = hex("FE FE FE FE 68 16 68 00", bytes);
	length += wire("01 00 00 00 00 00", 0x91, "00 00 01 00 78 56 34 12", bytes + length);
	is(dlt645_take(bytes, length, &frame), FRAME_WHOLE,
	   "behind a preamble and the tail of a frame");
	is(frame.skipped, 8, "which are skipped");
	is(frame.taken, length, "to its end");

	/* 68H and 16H inside the data: 35H + 33H and E3H + 33H. */
	length = wire("68 16 68 16 68 68", 0x91, "35 35 E3 E3 35 E3", bytes);
	is(dlt645_take(bytes, length, &frame), FRAME_WHOLE, "start and end marks inside");
	is(frame.data[2], 0xE3, "are data");

	length = hex("68 01 00 00 00 00 00 68 91 C8", bytes);
	length += wire("01 00 00 00 00 00", 0x91, "00 00 01 00 78 56 34 12", bytes + length);
	is(dlt645_take(bytes, length, &frame), FRAME_WHOLE,
	   "behind the head of a long frame that never comes");
	is(frame.skipped, 10, "found all the same");

	good = wire("01 00 00 00 00 00", 0x91, "00 00 01 00 78 56 34 12", bytes);
	bytes[15] ^= 1;
	ok(dlt645_take(bytes, good, &frame) != FRAME_WHOLE, "one bit wrong: no frame");
}

static SmReplyKind
judge(const uint8_t *asked, const char *address, int control, const char *data)
{
	uint8_t bytes[DLT645_FRAME_MAX];
	SmDltFrame frame;
	const char *why;
	int length = wire(address, control, data, bytes);

	if (dlt645_take(bytes, length, &frame) != FRAME_WHOLE)
		return (SmReplyKind) -1;
	return dlt645_check(asked, DLT645_READ_2007, total, 4, &frame, &why);
}

static void
test_answers(void)
{
	SmDltFrame frame = {.control = 0xD1, .length = 1, .data = {0x06}};
	char text[128];

	is(judge(meter_1, "01 00 00 00 00 00", 0x91, "00 00 01 00 00 00 00 00"), REPLY_GOOD,
	   "the answer");
	is(judge(any, "01 00 00 00 00 00", 0x91, "00 00 01 00 00 00 00 00"), REPLY_GOOD,
	   "to a question to anybody");
	is(judge(meter_1, "02 00 00 00 00 00", 0x91, "00 00 01 00 00 00 00 00"), REPLY_WRONG,
	   "another meter's");
	is(judge(meter_1, "01 00 00 00 00 00", 0x11, "00 00 01 00"), REPLY_WRONG, "the echo");
	is(judge(meter_1, "01 00 00 00 00 00", 0x91, "00 01 01 00 00 00 00 00"), REPLY_WRONG,
	   "the late answer to another question");
	is(judge(meter_1, "01 00 00 00 00 00", 0x93, "01 00 00 00 00 00"), REPLY_WRONG,
	   "another function");
	is(judge(meter_1, "01 00 00 00 00 00", 0xD1, "02"), REPLY_EXCEPTION, "a refusal");
	is(judge(meter_1, "01 00 00 00 00 00", 0xD1, ""), REPLY_WRONG, "one without a reason");
	is_text(dlt645_error_text(&frame, text, sizeof(text)),
			"no such data, password wrong or not authorised", "its reasons");
}

/* One value of an identifier from printed data. */
static int
values(uint32_t di, int di_bytes, const char *data, SmDltValue *out)
{
	uint8_t bytes[256];
	int length = hex(data, bytes);
	SmDltItem item = dlt645_item(di, di_bytes);
	const char *why;

	return dlt645_values(&item, bytes, length, out, DLT645_VALUES_MAX, &why);
}

static void
test_values(void)
{
	SmDltValue v[DLT645_VALUES_MAX];

	is(values(0x00010000, 4, "78 56 34 12", v), 1, "a register");
	is(v[0].value, 12345678, "123456.78 kWh");
	is(values(0x00000000, 4, "01 00 00 80", v), 1, "the combined total");
	is(v[0].value, -1, "may be below zero");
	is(values(0x00010000, 4, "7A 56 34 12", v), -1, "a half byte that is no digit");
	is(values(0x00010000, 4, "78 56 34", v), -1, "three bytes are no register");
	is(values(0x0001FF00, 4, "50 00 00 00 10 00 00 00 20 00 00 00 15 00 00 00 05 00 00 00", v), 5,
	   "a block of tariffs");
	ok(v[0].value == 50 && v[4].value == 5, "in their order");
	is(values(0x0201FF00, 4, "00 22 FF FF 05 23", v), 3, "three phases");
	ok(v[0].value == 2200 && v[1].absent && v[2].value == 2305, "220.0 V, absent, 230.5 V");
	is(values(0x02020100, 4, "34 12 80", v), 1, "a current");
	is(v[0].value, -1234, "with its sign: -1.234 A");
	is(values(0x04000503, 4, "50 00", v), 1, "status word 3");
	ok((v[0].value >> 4 & 1) == 1 && (v[0].value >> 6 & 1) == 1, "relay open and told so");
	is(values(0x901F, 2, "50 00 00 00 10 00 00 00 AA", v), 2, "a block of 1997 closed by AA");
	is(values(0x901F, 2, "50 00 00 00 AA 10 00 00 00 AA", v), 2, "or with AA behind each item");
	ok(v[0].value == 50 && v[1].value == 10, "the same values");
	is(values(0xB611, 2, "20 02", v), 1, "voltage of 1997");
	is(v[0].value, 220, "whole volts");
}

static void
text_is(uint32_t di, const char *data, const char *wanted, const char *name)
{
	uint8_t bytes[256];
	int length = hex(data, bytes);
	SmDltItem item = dlt645_item(di, 4);
	char text[DLT645_TEXT_MAX];
	const char *why;

	is_text(dlt645_text(&item, bytes, length, text, sizeof(text), &why) ? text : why, wanted, name);
}

static void
test_texts(void)
{
	text_is(0x0400010C, "56 34 12 07 22 11 26", "2026-11-22 12:34:56", "date and time");
	text_is(0x05060001, "00 00 22 11 26", "2026-11-22 00:00", "when a freeze was made");
	text_is(0x04000402, "12 90 78 56 34 12", "123456789012", "number of the meter");
	text_is(0x04000101, "07 2A 11 26", "a half byte is no digit", "a date that is none");
	text_is(0x0F0F0F0F, "DE AD", "DEAD", "what is not known stays as it is");
}

int
main(void)
{
	test_printed();
	test_address();
	test_stream();
	test_answers();
	test_values();
	test_texts();
	return tap_done();
}
