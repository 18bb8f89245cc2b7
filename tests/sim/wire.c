/*
 * wire.c - Modbus requests and answers, without the transport
 *
 * Written from the Modbus Application Protocol Specification V1.1b3: functions 3, 4, 6 and 16, and
 * exceptions 1 (function), 2 (address) and 3 (value). Like the meters, the farm knows only the
 * functions its register map uses.
 */
#include <stdio.h>
#include <string.h>

#include "dispatch.h"
#include "encode.h"
#include "meter.h"
#include "model.h"
#include "snapshot.h"
#include "wire.h"

#define READ_REGISTERS_MAX 125
#define WRITE_REGISTERS_MAX 123

/* Reads a big-endian word. */
static int
wire_word(const uint8_t *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

/* Tells whether a request reads registers. */
bool
wire_is_read(const uint8_t *pdu, int length)
{
	return length > 0 && (pdu[0] == 3 || pdu[0] == 4);
}

/* Tells whether a request writes registers. */
bool
wire_is_write(const uint8_t *pdu, int length)
{
	return length > 0 && (pdu[0] == 6 || pdu[0] == 16);
}

/* Builds an exception answer; returns its length. */
int
wire_exception(uint8_t function, int code, uint8_t *answer)
{
	answer[0] = function | 0x80;
	answer[1] = (uint8_t) code;
	return 2;
}

/*
 * Copies the registers of the map that lie in [address, address + count) into words and marks the
 * addresses they cover.
 */
static void
wire_collect(SmMeter *meter, int function, int address, int count, const SmTwist *twist,
			 uint16_t *words, bool *covered)
{
	SmSnapshot snapshot;
	uint16_t value[WRITE_REGISTERS_MAX];
	int i;
	int j;

	snapshot_take(meter, &snapshot);
	for (i = 0; i < meter->model->register_count; i++)
	{
		const SmRegister *reg = &meter->model->registers[i];

		if (reg->function != function || reg->address + reg->encoding.words <= address ||
			reg->address >= address + count)
			continue;
		snapshot_encode(meter, &snapshot, reg, value);
		if (twist->nan)
			encode_nan(reg, value);
		for (j = 0; j < reg->encoding.words; j++)
		{
			int at = reg->address + j - address;

			if (at < 0 || at >= count)
				continue;
			words[at] = twist->sentinel ? 0xFFFF : value[j];
			covered[at] = true;
		}
	}
}

/* Tells whether a read that meets a hole is refused. */
static bool
wire_refuses_holes(const SmMeter *meter, int function, int address, int count)
{
	bool zero = meter->holes < 0 ? meter->model->holes_zero : meter->holes == 1;

	return !zero || !model_spans(meter->model, function, address, count);
}

/* Answers functions 3 and 4. */
static int
wire_read(SmMeter *meter, const uint8_t *pdu, int length, const SmTwist *twist, uint8_t *answer)
{
	uint16_t words[READ_REGISTERS_MAX] = {0};
	bool covered[READ_REGISTERS_MAX] = {false};
	int function = model_read_function(meter->model, pdu[0]);
	int address;
	int count;
	int i;

	if (function == 0)
		return wire_exception(pdu[0], WIRE_ILLEGAL_FUNCTION, answer);
	if (length != 5)
		return wire_exception(pdu[0], WIRE_ILLEGAL_VALUE, answer);
	address = wire_word(pdu + 1);
	count = wire_word(pdu + 3);
	if (count < 1 || count > READ_REGISTERS_MAX || count > meter->model->registers_max)
		return wire_exception(pdu[0], WIRE_ILLEGAL_VALUE, answer);
	wire_collect(meter, function, address, count, twist, words, covered);
	for (i = 0; i < count; i++)
	{
		if (!covered[i] && wire_refuses_holes(meter, function, address, count))
			return wire_exception(pdu[0], WIRE_ILLEGAL_ADDRESS, answer);
		answer[2 + 2 * i] = (uint8_t) (words[i] >> 8);
		answer[3 + 2 * i] = (uint8_t) words[i];
	}
	answer[0] = pdu[0];
	answer[1] = (uint8_t) (2 * count);
	return 2 + 2 * count;
}

/* Takes a write request apart; returns 0 or the exception code that its form deserves. */
static int
wire_parse_write(const uint8_t *pdu, int length, int *address, int *count, uint16_t *words)
{
	int i;

	if (length < 5)
		return WIRE_ILLEGAL_VALUE;
	*address = wire_word(pdu + 1);
	*count = pdu[0] == 16 ? wire_word(pdu + 3) : 1;
	if (pdu[0] != 16)
	{
		words[0] = (uint16_t) wire_word(pdu + 3);
		return length == 5 ? 0 : WIRE_ILLEGAL_VALUE;
	}
	if (*count < 1 || *count > WRITE_REGISTERS_MAX || length != 6 + 2 * *count ||
		pdu[5] != 2 * *count)
		return WIRE_ILLEGAL_VALUE;
	for (i = 0; i < *count; i++)
		words[i] = (uint16_t) wire_word(pdu + 6 + 2 * i);
	return 0;
}

/* Obeys a write to a relay; returns 0 or an exception code. */
static int
wire_write_relay(SmMeter *meter, const SmWritable *writable, const uint16_t *words,
				 const SmTwist *twist)
{
	size_t size = sizeof(uint16_t) * (size_t) writable->count;
	bool open = memcmp(words, writable->open, size) == 0;
	bool close = memcmp(words, writable->close, size) == 0;

	if (!open && !close)
		return WIRE_ILLEGAL_VALUE;
	meter_settle(meter, farm_mono_ns());
	if (!twist->relay_ignored)
		meter_command(meter, close, twist->relay_delay_ns);
	return 0;
}

/* Does what a write line of the model says; returns 0 or an exception code. */
static int
wire_obey(SmMeter *meter, const SmWritable *writable, const uint16_t *words, const SmTwist *twist)
{
	int i;

	if (writable->kind == WRITE_RELAY)
		return wire_write_relay(meter, writable, words, twist);
	if (writable->kind == WRITE_CLEAR)
	{
		if (memcmp(words, writable->open, sizeof(uint16_t) * (size_t) writable->count) != 0)
			return WIRE_ILLEGAL_VALUE;
		meter_settle(meter, farm_mono_ns());
		meter_clear(meter);
		return 0;
	}
	for (i = 0; i < writable->count; i++)
		meter_store(meter, 3, writable->address + i, words[i]);
	return 0;
}

/* Answers functions 6 and 16. */
static int
wire_write(SmMeter *meter, const uint8_t *pdu, int length, const SmTwist *twist, uint8_t *answer)
{
	uint16_t words[WRITE_REGISTERS_MAX];
	const SmWritable *writable;
	int address;
	int count;
	int code;

	if (!model_writes_with(meter->model, pdu[0]))
		return wire_exception(pdu[0], WIRE_ILLEGAL_FUNCTION, answer);
	code = wire_parse_write(pdu, length, &address, &count, words);
	if (code == 0)
	{
		writable = model_writable(meter->model, pdu[0], address, count);
		code = writable == NULL ? WIRE_ILLEGAL_ADDRESS : wire_obey(meter, writable, words, twist);
	}
	if (code != 0)
		return wire_exception(pdu[0], code, answer);
	memcpy(answer, pdu, 5);
	return 5;
}

/* Answers one request; returns the length of the answer, which is never more than PDU_MAX. */
int
wire_serve(SmMeter *meter, const uint8_t *pdu, int length, const SmTwist *twist, uint8_t *answer)
{
	if (wire_is_read(pdu, length))
		return wire_read(meter, pdu, length, twist, answer);
	if (wire_is_write(pdu, length))
		return wire_write(meter, pdu, length, twist, answer);
	return wire_exception(pdu[0], WIRE_ILLEGAL_FUNCTION, answer);
}

/* Remembers a write for the command "log"; code is an exception, 0 = obeyed, -1 = never heard. */
void
wire_note_write(SmPort *port, int unit, const uint8_t *pdu, int length, int code)
{
	uint16_t words[WRITE_REGISTERS_MAX] = {0};
	char text[WRITE_TEXT] = "";
	char answer[24] = "ok";
	int address = 0;
	int count = 0;
	int used = 0;
	int i;

	if (wire_parse_write(pdu, length, &address, &count, words) != 0)
		count = 0;
	for (i = 0; i < count && i < WRITE_WORDS_KEPT; i++)
		used += snprintf(text + used, sizeof(text) - (size_t) used, "%s%d", i == 0 ? "" : ",",
						 words[i]);
	if (code < 0)
		strcpy(answer, "unheard");
	else if (code > 0)
		snprintf(answer, sizeof(answer), "exception%d", code);
	dispatch_note(port, "%d:%d:0x%04X:%s:%s", unit, pdu[0], address, text, answer);
}
