/*
 * mbap.c - Modbus TCP as bytes: requests, frames and what may count as an answer
 *
 *   question  | transaction | 0 0 | length | unit | function | address | count            |
 *   answer    | transaction | 0 0 | length | unit | function | bytes   | values ...       |
 *   exception | transaction | 0 0 | length | unit | function + 0x80 | code |
 *
 * Written from the Modbus Application Protocol Specification V1.1b3 and the TCP/IP implementation
 * guide V1.0b. An answer counts only when unit, function and length belong to the question and a
 * write comes back as it was sent; the transaction number is compared by the bus.
 */
#include <string.h>

#include "mbap.h"

static void
mbap_put(uint8_t *bytes, int value)
{
	bytes[0] = (uint8_t) (value >> 8);
	bytes[1] = (uint8_t) value;
}

static int
mbap_get(const uint8_t *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

/* Builds a read with function 1 to 4; false when the question itself is impossible. */
bool
mbap_build_read(SmRequest *request, int unit, int function, int address, int count)
{
	if (unit < 0 || unit > 255 || function < 1 || function > 4 || count < 1 ||
		count > MBAP_READ_MAX || address < 0 || address + count > 65536)
		return false;
	memset(request, 0, sizeof(*request));
	request->target.unit = (uint8_t) unit;
	request->length = 5;
	request->body[0] = (uint8_t) function;
	mbap_put(request->body + 1, address);
	mbap_put(request->body + 3, count);
	return true;
}

/* Builds a write: function 5 (a coil: any value but 0 is on), 6 (one register) or 16. */
bool
mbap_build_write(SmRequest *request, int unit, int function, int address, const uint16_t *words,
				 int count)
{
	int i;

	if (unit < 0 || unit > 255 || count < 1 || count > MBAP_WRITE_MAX || address < 0 ||
		address + count > 65536)
		return false;
	memset(request, 0, sizeof(*request));
	request->target.unit = (uint8_t) unit;
	request->body[0] = (uint8_t) function;
	mbap_put(request->body + 1, address);
	if ((function == 5 || function == 6) && count == 1)
	{
		mbap_put(request->body + 3, function == 6 ? words[0] : words[0] != 0 ? 0xFF00 : 0);
		request->length = 5;
		return true;
	}
	if (function != 16)
		return false;
	mbap_put(request->body + 3, count);
	request->body[5] = (uint8_t) (count * 2);
	for (i = 0; i < count; i++)
		mbap_put(request->body + 6 + i * 2, words[i]);
	request->length = (uint8_t) (6 + count * 2);
	return true;
}

/* Puts a question into a frame of at most MBAP_ADU_MAX bytes; returns its length. */
int
mbap_frame(const SmRequest *request, uint16_t transaction, uint8_t *adu)
{
	mbap_put(adu, transaction);
	mbap_put(adu + 2, 0);
	mbap_put(adu + 4, request->length + 1);
	adu[6] = request->target.unit;
	memcpy(adu + MBAP_HEADER, request->body, request->length);
	return MBAP_HEADER + request->length;
}

/*
 * Looks for a frame at the beginning of the bytes. FRAME_BROKEN means that the stream is out of
 * step: there is no mark to find the next frame by, so the connection has to be closed.
 */
SmFrameState
mbap_take(const uint8_t *bytes, int length, SmFrame *frame)
{
	int body;

	if (length >= 4 && mbap_get(bytes + 2) != 0)
		return FRAME_BROKEN;
	if (length < 6)
		return FRAME_PARTIAL;
	body = mbap_get(bytes + 4);
	if (body < 3 || body > MBAP_PDU_MAX + 1)
		return FRAME_BROKEN;
	if (length < 6 + body)
		return FRAME_PARTIAL;
	frame->transaction = (uint16_t) mbap_get(bytes);
	frame->unit = bytes[6];
	frame->pdu = bytes + MBAP_HEADER;
	frame->length = body - 1;
	frame->taken = 6 + body;
	return FRAME_WHOLE;
}

/* Bytes of values that a good answer to this read carries. */
static int
mbap_expected_bytes(const SmRequest *request)
{
	int count = mbap_get(request->body + 3);

	return request->body[0] <= 2 ? (count + 7) / 8 : count * 2;
}

/* Tells what is wrong with an answer whose unit and function are right; NULL when nothing is. */
static const char *
mbap_check_body(const SmRequest *request, const SmFrame *frame)
{
	if (request->body[0] <= 4)
	{
		int expected = mbap_expected_bytes(request);

		if (frame->length != 2 + expected || frame->pdu[1] != expected)
			return "the answer has another length than was asked for";
		return NULL;
	}
	if (frame->length != 5 || memcmp(frame->pdu, request->body, 5) != 0)
		return "the write was not echoed as it was sent";
	return NULL;
}

/* Judges a frame as the answer to a question. Fills the exception code or says why it is wrong. */
SmReplyKind
mbap_check(const SmRequest *request, const SmFrame *frame, int *exception, const char **why)
{
	*exception = 0;
	*why = NULL;
	if (frame->unit != request->target.unit)
		*why = "another unit answered";
	else if (frame->length == 2 && frame->pdu[0] == (request->body[0] | 0x80))
	{
		*exception = frame->pdu[1];
		return REPLY_EXCEPTION;
	}
	else if (frame->pdu[0] != request->body[0])
		*why = "another function was answered";
	else
		*why = mbap_check_body(request, frame);
	return *why == NULL ? REPLY_GOOD : REPLY_WRONG;
}

/*
 * Makes words of the values of a good answer to a read (what follows its byte count), bits as
 * words of 0 and 1, at most MBAP_READ_MAX; returns their number.
 */
int
mbap_words(const SmRequest *request, const uint8_t *data, uint16_t *words)
{
	int count = mbap_get(request->body + 3);
	int i;

	for (i = 0; i < count; i++)
	{
		if (request->body[0] <= 2)
			words[i] = data[i / 8] >> (i % 8) & 1;
		else
			words[i] = (uint16_t) mbap_get(data + i * 2);
	}
	return count;
}

/* An exception code in words; static memory. */
const char *
mbap_exception_text(int code)
{
	switch (code)
	{
		case 1:
			return "exception 01: illegal function";
		case 2:
			return "exception 02: illegal data address";
		case 3:
			return "exception 03: illegal data value";
		case 4:
			return "exception 04: device failure";
		case 5:
			return "exception 05: acknowledged, still working";
		case 6:
			return "exception 06: device busy";
		case 8:
			return "exception 08: memory parity error";
		case 10:
			return "exception 0A: gateway path unavailable";
		case 11:
			return "exception 0B: target device failed to respond";
		default:
			return "exception with an unknown code";
	}
}
