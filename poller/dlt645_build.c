/*
 * dlt645_build.c - questions of DL/T 645: reads, writes under a password, breakers, the clock
 *
 * A password travels in clear behind its level: PA P0 P1 P2, then the operator C0 .. C3, digits in
 * pairs and the lowest pair first. A switch instruction carries until when the meter may obey, by
 * its own clock.
 */
#include <string.h>

#include "dlt645.h"

#define DLT645_WRITE_MAX 50

/* A pair of digits as one byte. */
static uint8_t
dlt645_pair(int value)
{
	return (uint8_t) ((value / 10 % 10) << 4 | value % 10);
}

/* Digits, highest first, into pairs, lowest first; false unless there are exactly as many. */
static bool
dlt645_parse_digits(const char *text, int pairs, uint8_t *bytes)
{
	int i;

	if ((int) strspn(text, "0123456789") != 2 * pairs || text[2 * pairs] != '\0')
		return false;
	for (i = 0; i < pairs; i++)
		bytes[i] = (uint8_t) ((text[2 * (pairs - 1 - i)] - '0') << 4 |
							  (text[2 * (pairs - 1 - i) + 1] - '0'));
	return true;
}

/* Makes a key of a level (0 to 99), six digits of password and eight of operator. */
bool
dlt645_parse_key(int level, const char *password, const char *operator_code, SmDltKey *key)
{
	if (level < 0 || level > 99 || !dlt645_parse_digits(password, 3, key->password) ||
		!dlt645_parse_digits(operator_code, 4, key->operator_code))
		return false;
	key->level = dlt645_pair(level);
	return true;
}

/* Reads an identifier of 8 (2007) or 4 (1997) hexadecimal digits. */
bool
dlt645_parse_di(SmProtocol protocol, const char *text, uint32_t *di)
{
	int wanted = protocol == PROTOCOL_DLT645_2007 ? 8 : 4;
	int i;

	*di = 0;
	if (protocol == PROTOCOL_MODBUS || (int) strspn(text, "0123456789ABCDEFabcdef") != wanted ||
		text[wanted] != '\0')
		return false;
	for (i = 0; i < wanted; i++)
	{
		int digit = text[i] <= '9' ? text[i] - '0' : (text[i] | 0x20) - 'a' + 10;

		*di = *di << 4 | (uint32_t) digit;
	}
	return true;
}

static void
dlt645_begin(SmRequest *request, const SmTarget *target, uint8_t control)
{
	memset(request, 0, sizeof(*request));
	request->target = *target;
	request->control = control;
}

static void
dlt645_append(SmRequest *request, const void *bytes, int length)
{
	memcpy(request->body + request->length, bytes, (size_t) length);
	request->length = (uint8_t) (request->length + length);
}

static void
dlt645_append_di(SmRequest *request, uint32_t di)
{
	int bytes = request->target.protocol == PROTOCOL_DLT645_2007 ? 4 : 2;

	for (; bytes > 0; bytes--, di >>= 8)
		request->body[request->length++] = (uint8_t) di;
}

static void
dlt645_append_key(SmRequest *request, const SmDltKey *key)
{
	request->body[request->length++] = key->level;
	dlt645_append(request, key->password, 3);
	/* The 1997 standard knows no operators. */
	if (request->target.protocol == PROTOCOL_DLT645_2007)
		dlt645_append(request, key->operator_code, 4);
}

/* Asks for an item; false when the target does not speak DL/T 645. */
bool
dlt645_build_read(SmRequest *request, const SmTarget *target, uint32_t di)
{
	if (target->protocol == PROTOCOL_MODBUS)
		return false;
	dlt645_begin(request, target,
				 target->protocol == PROTOCOL_DLT645_2007 ? DLT645_READ_2007 : DLT645_READ_1997);
	dlt645_append_di(request, di);
	return true;
}

/* Asks whoever is alone on the line for its address (2007). */
void
dlt645_build_read_address(SmRequest *request)
{
	SmTarget anybody = {PROTOCOL_DLT645_2007, 0, {0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA}};

	dlt645_begin(request, &anybody, DLT645_READ_ADDRESS);
}

/* Writes an item; only what meter_switch holds, and the clock, is ever written. */
bool
dlt645_build_write(SmRequest *request, const SmTarget *target, uint32_t di, const SmDltKey *key,
				   const uint8_t *data, int length)
{
	bool old = target->protocol == PROTOCOL_DLT645_1997;

	if (target->protocol == PROTOCOL_MODBUS || length < 0 || length > DLT645_WRITE_MAX - 12)
		return false;
	dlt645_begin(request, target, old ? DLT645_WRITE_1997 : DLT645_WRITE_2007);
	dlt645_append_di(request, di);
	dlt645_append_key(request, key);
	dlt645_append(request, data, length);
	return true;
}

/* ss mm hh DD MM YY as it stands in frames. */
static void
dlt645_append_time(SmRequest *request, const SmDltTime *time)
{
	const int parts[6] = {time->second, time->minute, time->hour,
						  time->day,    time->month,  time->year % 100};
	int i;

	for (i = 0; i < 6; i++)
		request->body[request->length++] = dlt645_pair(parts[i]);
}

/* Moves the breaker (2007, 1CH): command byte 1AH, 1BH, 1CH, 3AH ..., obeyed until then. */
bool
dlt645_build_switch(SmRequest *request, const SmTarget *target, const SmDltKey *key,
					uint8_t command, const SmDltTime *until)
{
	if (target->protocol != PROTOCOL_DLT645_2007)
		return false;
	dlt645_begin(request, target, DLT645_SWITCH);
	dlt645_append_key(request, key);
	request->body[request->length++] = command;
	request->body[request->length++] = 0;
	dlt645_append_time(request, until);
	return true;
}

/* Tells all meters of a line the time; none answers, and each takes only a small correction. */
void
dlt645_build_clock(SmRequest *request, SmProtocol protocol, const SmDltTime *now)
{
	SmTarget all = {protocol, 0, {0x99, 0x99, 0x99, 0x99, 0x99, 0x99}};

	dlt645_begin(request, &all, DLT645_CLOCK);
	request->unanswered = true;
	dlt645_append_time(request, now);
}
