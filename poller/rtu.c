/*
 * rtu.c - Modbus RTU as bytes: checksum, requests and answers, found in a stream
 *
 *   | unit | function | ... | CRC low | CRC high |
 *
 * Over TCP the silence that ends a frame on the wire is gone, so the length of a frame follows
 * from its function, and a stream that is out of step is searched byte by byte for the next frame
 * whose checksum holds.
 */
#include <string.h>

#include "rtu.h"

#define RTU_UNKNOWN (-1)

/* CRC-16 of Modbus: polynomial A001H reflected, begun with FFFFH. */
uint16_t
rtu_crc(const uint8_t *bytes, int length)
{
	uint16_t crc = 0xFFFF;
	int i;
	int bit;

	for (i = 0; i < length; i++)
	{
		crc ^= bytes[i];
		for (bit = 0; bit < 8; bit++)
			crc = (uint16_t) ((crc & 1) != 0 ? crc >> 1 ^ 0xA001 : crc >> 1);
	}
	return crc;
}

/* Puts a question into a frame of at most RTU_FRAME_MAX bytes; returns its length. */
int
rtu_frame(const SmRequest *request, uint8_t *adu)
{
	uint16_t crc;
	int length = 1 + request->length;

	adu[0] = request->target.unit;
	memcpy(adu + 1, request->body, request->length);
	crc = rtu_crc(adu, length);
	adu[length] = (uint8_t) crc;
	adu[length + 1] = (uint8_t) (crc >> 8);
	return length + 2;
}

static int
rtu_request_length(const uint8_t *bytes, int length)
{
	switch (bytes[1])
	{
		case 1:
		case 2:
		case 3:
		case 4:
		case 5:
		case 6:
		case 8:
			return 8;
		case 7:
		case 11:
		case 12:
		case 17:
			return 4;
		case 15:
		case 16:
			return length < 7 ? 0 : 9 + bytes[6];
		default:
			return RTU_UNKNOWN;
	}
}

static int
rtu_response_length(const uint8_t *bytes, int length)
{
	if ((bytes[1] & 0x80) != 0)
		return 5;
	switch (bytes[1])
	{
		case 1:
		case 2:
		case 3:
		case 4:
		case 17:
			return length < 3 ? 0 : 5 + bytes[2];
		case 5:
		case 6:
		case 8:
		case 11:
		case 15:
		case 16:
			return 8;
		case 7:
			return 5;
		default:
			return RTU_UNKNOWN;
	}
}

/* Bytes of the frame that begins here; 0: more bytes are needed to tell, -1: none begins here. */
int
rtu_length(SmRtuSide side, const uint8_t *bytes, int length)
{
	int whole;

	if (length < 2)
		return 0;
	whole = side == RTU_REQUEST ? rtu_request_length(bytes, length)
								: rtu_response_length(bytes, length);
	return whole > RTU_FRAME_MAX ? RTU_UNKNOWN : whole;
}

/* Looks whether a frame begins with the first byte; frame->pdu points into the bytes. */
SmFrameState
rtu_at(SmRtuSide side, const uint8_t *bytes, int length, SmFrame *frame)
{
	int whole = rtu_length(side, bytes, length);

	if (whole == RTU_UNKNOWN)
		return FRAME_BROKEN;
	if (whole == 0 || whole > length)
		return FRAME_PARTIAL;
	if (rtu_crc(bytes, whole - 2) != (bytes[whole - 2] | bytes[whole - 1] << 8))
		return FRAME_BROKEN;
	frame->transaction = 0;
	frame->unit = bytes[0];
	frame->pdu = bytes + 1;
	frame->length = whole - 3;
	frame->taken = whole;
	return FRAME_WHOLE;
}

/*
 * Looks for the next frame; frame->taken counts what was skipped as well. Bytes that may still
 * become a frame do not hide a whole one behind them: noise can look like the beginning of a long
 * frame that never comes.
 */
SmFrameState
rtu_take(SmRtuSide side, const uint8_t *bytes, int length, SmFrame *frame)
{
	int partial = length;
	int at;

	for (at = 0; at < length; at++)
	{
		SmFrameState state = rtu_at(side, bytes + at, length - at, frame);

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
