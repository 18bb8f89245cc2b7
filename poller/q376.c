/*
 * q376.c - Q/GDW 1376.1 as bytes: what a concentrator says when it dials in, and how a frame of
 * another protocol is passed through it
 *
 *   68 | L L | L L | 68 | C | A1 A1 A2 A2 A3 | AFN | SEQ | DA DA DT DT | data | CS | 16
 *
 * L counts the bytes from C to the last data byte, times four, plus two bits for the protocol; it
 * is sent twice. CS is the sum over those bytes; nothing is added to them as DL/T 645 does. The
 * data of a forwarded frame (AFN 10H, F1) are port, line, timeouts, a length and the frame itself.
 */
#include <stdio.h>
#include <string.h>

#include "q376.h"

#define Q376_START 0x68
#define Q376_END 0x16
#define Q376_HEADER 6
#define Q376_POINT_MAX 2040
#define Q376_USER_MIN 12
#define Q376_PROTOCOL 0x02
#define Q376_FORWARD_HEAD 6

static int
q376_get(const uint8_t *bytes)
{
	return bytes[0] | bytes[1] << 8;
}

static void
q376_put(uint8_t *bytes, int value)
{
	bytes[0] = (uint8_t) value;
	bytes[1] = (uint8_t) (value >> 8);
}

static uint8_t
q376_sum(const uint8_t *bytes, int length)
{
	unsigned sum = 0;
	int i;

	for (i = 0; i < length; i++)
		sum += bytes[i];
	return (uint8_t) sum;
}

/* The number of the only bit that is set, from 1; 0 when there is none or several. */
static int
q376_bit(uint8_t bits)
{
	int i;

	for (i = 0; i < 8; i++)
	{
		if (bits == 1 << i)
			return i + 1;
	}
	return 0;
}

/* Data unit identifiers: DA names the measuring point, DT the function. */
static void
q376_units(const uint8_t *units, SmQ376Frame *frame)
{
	int point = q376_bit(units[0]);

	frame->point = units[0] == 0 && units[1] == 0 ? 0
				   : point == 0                   ? -1
												  : (units[1] - 1) * 8 + point;
	frame->function = q376_bit(units[2]) == 0 ? -1 : units[3] * 8 + q376_bit(units[2]);
}

/*
 * Looks whether a frame begins with the first byte. checksum: it looks like one, but for its sum.
 */
SmFrameState
q376_at(const uint8_t *bytes, int length, SmQ376Frame *frame, bool *checksum)
{
	int user;

	*checksum = false;
	if (length > 0 && bytes[0] != Q376_START)
		return FRAME_BROKEN;
	if (length >= 6 && (bytes[5] != Q376_START || q376_get(bytes + 1) != q376_get(bytes + 3)))
		return FRAME_BROKEN;
	if (length < Q376_HEADER)
		return FRAME_PARTIAL;
	user = q376_get(bytes + 1) >> 2;
	if (user < Q376_USER_MIN || user > Q376_USER_MAX)
		return FRAME_BROKEN;
	if (length < Q376_HEADER + user + 2)
		return FRAME_PARTIAL;
	if (bytes[Q376_HEADER + user + 1] != Q376_END)
		return FRAME_BROKEN;
	*checksum = q376_sum(bytes + Q376_HEADER, user) != bytes[Q376_HEADER + user];
	if (*checksum)
		return FRAME_BROKEN;
	frame->control = bytes[6];
	frame->address.region = (uint16_t) q376_get(bytes + 7);
	frame->address.terminal = (uint16_t) q376_get(bytes + 9);
	frame->address.master = bytes[11];
	frame->afn = bytes[12];
	frame->seq = bytes[13];
	q376_units(bytes + 14, frame);
	frame->data = bytes + 18;
	frame->length = user - Q376_USER_MIN;
	frame->taken = Q376_HEADER + user + 2;
	return FRAME_WHOLE;
}

/* Looks for the next frame, as dlt645_take() does. */
SmFrameState
q376_take(const uint8_t *bytes, int length, SmQ376Frame *frame)
{
	int partial = length;
	bool checksum;
	int at;

	for (at = 0; at < length; at++)
	{
		SmFrameState state = q376_at(bytes + at, length - at, frame, &checksum);

		if (state == FRAME_WHOLE)
		{
			frame->taken += at;
			return FRAME_WHOLE;
		}
		if (state == FRAME_PARTIAL && partial == length)
			partial = at;
	}
	frame->taken = partial;
	return partial < length ? FRAME_PARTIAL : FRAME_BROKEN;
}

/* Builds a frame about a measuring point, 0 being the concentrator itself. */
static int
q376_build_point(const SmQ376Address *address, uint8_t control, uint8_t afn, uint8_t seq, int point,
				 int function, const uint8_t *data, int length, uint8_t *bytes)
{
	int user = Q376_USER_MIN + length;

	if (length < 0 || user > Q376_USER_MAX || function < 1 || function > 248)
		return 0;
	bytes[0] = bytes[5] = Q376_START;
	q376_put(bytes + 1, user << 2 | Q376_PROTOCOL);
	q376_put(bytes + 3, user << 2 | Q376_PROTOCOL);
	bytes[6] = control;
	q376_put(bytes + 7, address->region);
	q376_put(bytes + 9, address->terminal);
	bytes[11] = address->master;
	bytes[12] = afn;
	bytes[13] = seq;
	bytes[14] = point > 0 ? (uint8_t) (1 << (point - 1) % 8) : 0;
	bytes[15] = point > 0 ? (uint8_t) ((point - 1) / 8 + 1) : 0;
	bytes[16] = (uint8_t) (1 << (function - 1) % 8);
	bytes[17] = (uint8_t) ((function - 1) / 8);
	if (length > 0)
		memcpy(bytes + 18, data, (size_t) length);
	bytes[Q376_HEADER + user] = q376_sum(bytes + Q376_HEADER, user);
	bytes[Q376_HEADER + user + 1] = Q376_END;
	return Q376_HEADER + user + 2;
}

/* Builds a frame about the concentrator itself (p0); its length, or 0 when the data are too long. */
int
q376_build(const SmQ376Address *address, uint8_t control, uint8_t afn, uint8_t seq, int function,
		   const uint8_t *data, int length, uint8_t *bytes)
{
	return q376_build_point(address, control, afn, seq, 0, function, data, length, bytes);
}

/* Asks for what the concentrator recorded of a point at the end of a day (F161). */
int
q376_build_daily(const SmQ376Address *address, uint8_t seq, int point, const uint8_t day[3],
				 uint8_t *bytes)
{
	if (point < 1 || point > Q376_POINT_MAX)
		return 0;
	return q376_build_point(address, 0x4B, Q376_AFN_RECORD, (uint8_t) (0x70 | (seq & 0x0F)), point,
							Q376_DAILY_ENERGY, day, 3, bytes);
}

/*
 * The total of such an answer: it stands behind the day, the time it was read (five bytes) and the
 * number of tariffs. False when the frame is of another point or day, or too short.
 */
bool
q376_daily(const SmQ376Frame *frame, int point, const uint8_t day[3], const uint8_t **total,
		   int *length)
{
	static const int head = 3 + 5 + 1;

	if (frame->afn != Q376_AFN_RECORD || frame->function != Q376_DAILY_ENERGY ||
		frame->point != point || frame->length < head + 5 || memcmp(frame->data, day, 3) != 0)
		return false;
	*total = frame->data + head;
	*length = frame->length - head;
	return true;
}

/* The answer "all right" (AFN 00, F1) that a login or a heartbeat waits for. */
int
q376_build_ack(const SmQ376Frame *heard, uint8_t *bytes)
{
	/* From the master, answering, one frame, no confirmation wanted, under the number heard. */
	return q376_build(&heard->address, 0x0B, Q376_AFN_ACK, (uint8_t) (0x60 | (heard->seq & 0x0F)),
					  1, NULL, 0, bytes);
}

/* How long the concentrator waits for its meter: in steps of 10 ms, or of a second with the top bit. */
static uint8_t
q376_wait(int timeout_ms)
{
	if (timeout_ms < 10)
		return 1;
	if (timeout_ms <= 1270)
		return (uint8_t) (timeout_ms / 10);
	return (uint8_t) (0x80 | (timeout_ms < 127000 ? timeout_ms / 1000 : 127));
}

/* Wraps a frame for a meter behind the concentrator; password may be NULL. */
int
q376_build_forward(const SmQ376Address *address, uint8_t seq, uint8_t port, uint8_t line,
				   int timeout_ms, const uint8_t *inner, int length, const uint8_t *password,
				   uint8_t *bytes)
{
	uint8_t data[Q376_USER_MAX];
	int used = Q376_FORWARD_HEAD + length;

	if (length < 1 || used + Q376_PASSWORD > Q376_USER_MAX - Q376_USER_MIN)
		return 0;
	data[0] = port;
	data[1] = line;
	data[2] = q376_wait(timeout_ms);
	data[3] = 50; /* x 10 ms between two bytes */
	q376_put(data + 4, length);
	memcpy(data + Q376_FORWARD_HEAD, inner, (size_t) length);
	if (password != NULL)
	{
		memcpy(data + used, password, Q376_PASSWORD);
		used += Q376_PASSWORD;
	}
	return q376_build(address, 0x4B, Q376_AFN_FORWARD, (uint8_t) (0x70 | (seq & 0x0F)), 1, data,
					  used, bytes);
}

/* The frame that was passed through, in either direction; false when this frame carries none. */
bool
q376_forwarded(const SmQ376Frame *frame, const uint8_t **inner, int *length)
{
	bool answer = (frame->control & Q376_FROM_STATION) != 0;
	int head = answer ? 3 : Q376_FORWARD_HEAD;

	if (frame->afn != Q376_AFN_FORWARD || frame->function != 1 || frame->length < head)
		return false;
	*length = q376_get(frame->data + head - 2);
	*inner = frame->data + head;
	return *length <= frame->length - head;
}

/* Region and number of a concentrator, such as 4403-01234; text has Q376_ADDRESS_TEXT bytes. */
void
q376_address_text(const SmQ376Address *address, char *text)
{
	snprintf(text, Q376_ADDRESS_TEXT, "%04X-%05u", address->region, address->terminal);
}

/* Reads such a text; false when it is none. */
bool
q376_parse_address(const char *text, SmQ376Address *address)
{
	unsigned terminal = 0;
	int i;

	memset(address, 0, sizeof(*address));
	for (i = 0; i < 4; i++, text++)
	{
		if (*text < '0' || *text > '9')
			return false;
		address->region = (uint16_t) (address->region << 4 | (*text - '0'));
	}
	if (*text++ != '-')
		return false;
	for (i = 0; i < 5 && *text >= '0' && *text <= '9'; i++, text++)
		terminal = terminal * 10 + (unsigned) (*text - '0');
	address->terminal = (uint16_t) terminal;
	return i > 0 && *text == '\0' && terminal <= UINT16_MAX;
}
