/*
 * dlt645.c - DL/T 645-2007 and -1997 as bytes: frames, their resynchronisation, what an answer must be
 *
 *   [FE ...] 68 | A0 .. A5 | 68 | C | L | data, each byte + 33H | CS | 16
 *
 * CS is the sum of all bytes from the first 68H on. 68H and 16H also occur inside data and
 * addresses, and gateways leave echoes, tails of earlier frames and noise before an answer: what
 * does not hold is left by one byte and looked at again, so that no good frame is lost behind a
 * bad one. An answer counts only when direction, address, function and data identifier belong to
 * the question.
 */
#include <stdio.h>
#include <string.h>

#include "dlt645.h"

#define DLT645_START 0x68
#define DLT645_END 0x16
#define DLT645_OFFSET 0x33
#define DLT645_HEADER 10

static uint8_t
dlt645_sum(const uint8_t *bytes, int length)
{
	unsigned sum = 0;
	int i;

	for (i = 0; i < length; i++)
		sum += bytes[i];
	return (uint8_t) sum;
}

/*
 * Looks whether a frame begins with the first byte. FRAME_PARTIAL: it may, once more bytes are
 * there; FRAME_BROKEN: it does not, fault says why.
 */
SmFrameState
dlt645_at(const uint8_t *bytes, int length, SmDltFrame *frame, SmDltFault *fault)
{
	int body;
	int i;

	*fault = DLT645_FAULT_NO_START;
	if (length > 0 && bytes[0] != DLT645_START)
		return FRAME_BROKEN;
	if (length > 7 && bytes[7] != DLT645_START)
		return FRAME_BROKEN;
	if (length < DLT645_HEADER)
		return FRAME_PARTIAL;
	body = bytes[9];
	*fault = DLT645_FAULT_LENGTH;
	if (body > DLT645_DATA_MAX)
		return FRAME_BROKEN;
	if (length < DLT645_HEADER + body + 2)
		return FRAME_PARTIAL;
	*fault = DLT645_FAULT_CHECKSUM;
	if (dlt645_sum(bytes, DLT645_HEADER + body) != bytes[DLT645_HEADER + body])
		return FRAME_BROKEN;
	*fault = DLT645_FAULT_END;
	if (bytes[DLT645_HEADER + body + 1] != DLT645_END)
		return FRAME_BROKEN;
	*fault = DLT645_FAULT_NONE;
	memcpy(frame->address, bytes + 1, DLT645_ADDRESS);
	frame->control = bytes[8];
	frame->length = body;
	for (i = 0; i < body; i++)
		frame->data[i] = (uint8_t) (bytes[DLT645_HEADER + i] - DLT645_OFFSET);
	frame->skipped = 0;
	frame->taken = DLT645_HEADER + body + 2;
	return FRAME_WHOLE;
}

/*
 * Looks for the next frame. FRAME_PARTIAL: frame->skipped bytes can be forgotten, the rest may become
 * a frame; a whole one behind such a beginning is found all the same, for noise can look like the
 * beginning of a long frame that never comes. FRAME_BROKEN: no byte of these will begin a frame.
 */
SmFrameState
dlt645_take(const uint8_t *bytes, int length, SmDltFrame *frame)
{
	int partial = length;
	SmDltFault fault;
	int at;

	for (at = 0; at < length; at++)
	{
		SmFrameState state = dlt645_at(bytes + at, length - at, frame, &fault);

		if (state == FRAME_WHOLE)
		{
			frame->skipped = at;
			frame->taken += at;
			return FRAME_WHOLE;
		}
		if (state == FRAME_PARTIAL && partial == length)
			partial = at;
	}
	frame->skipped = frame->taken = partial;
	return partial < length ? FRAME_PARTIAL : FRAME_BROKEN;
}

/* Builds a frame of at most DLT645_FRAME_MAX bytes; its length, or 0 when the data are too long. */
int
dlt645_frame(const uint8_t address[DLT645_ADDRESS], uint8_t control, const uint8_t *data,
			 int length, uint8_t *bytes)
{
	int i;

	if (length < 0 || length > DLT645_DATA_MAX)
		return 0;
	bytes[0] = bytes[7] = DLT645_START;
	memcpy(bytes + 1, address, DLT645_ADDRESS);
	bytes[8] = control;
	bytes[9] = (uint8_t) length;
	for (i = 0; i < length; i++)
		bytes[DLT645_HEADER + i] = (uint8_t) (data[i] + DLT645_OFFSET);
	bytes[DLT645_HEADER + length] = dlt645_sum(bytes, DLT645_HEADER + length);
	bytes[DLT645_HEADER + length + 1] = DLT645_END;
	return DLT645_HEADER + length + 2;
}

/* Reads the 1 to 12 digits of a nameplate (A stands for any) into the order of the wire. */
bool
dlt645_parse_address(const char *text, uint8_t address[DLT645_ADDRESS])
{
	int digits = (int) strspn(text, "0123456789Aa");
	int i;

	if (digits < 1 || digits > 2 * DLT645_ADDRESS || text[digits] != '\0')
		return false;
	memset(address, 0, DLT645_ADDRESS);
	for (i = 0; i < digits; i++)
	{
		char digit = text[digits - 1 - i];
		unsigned value = digit <= '9' ? (unsigned) (digit - '0') : 0xA;

		address[i / 2] |= (uint8_t) (value << (i % 2 * 4));
	}
	return true;
}

/* The twelve digits of an address as on the nameplate; text has DLT645_ADDRESS_TEXT bytes. */
void
dlt645_address_text(const uint8_t address[DLT645_ADDRESS], char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	int i;

	for (i = 0; i < DLT645_ADDRESS; i++)
	{
		text[2 * i] = digits[address[DLT645_ADDRESS - 1 - i] >> 4];
		text[2 * i + 1] = digits[address[DLT645_ADDRESS - 1 - i] & 0x0F];
	}
	text[2 * DLT645_ADDRESS] = '\0';
}

/* Bytes of the data identifier that frames with this control byte begin with; 0: none. */
int
dlt645_di_bytes(uint8_t control)
{
	switch (control & DLT645_FUNCTION)
	{
		case DLT645_READ_2007:
		case DLT645_FOLLOW_2007:
		case 0x14:
		case 0x18:
			return 4;
		case DLT645_READ_1997:
		case DLT645_FOLLOW_1997:
		case 0x03:
		case 0x04:
			return 2;
		default:
			return 0;
	}
}

/* The data identifier of a frame; false when it has none, as errors and acknowledgements. */
bool
dlt645_di(const SmDltFrame *frame, uint32_t *di)
{
	int bytes = dlt645_di_bytes(frame->control);
	int i;

	*di = 0;
	if (bytes == 0 || (frame->control & DLT645_ERROR) != 0 || frame->length < bytes)
		return false;
	for (i = bytes - 1; i >= 0; i--)
		*di = *di << 8 | frame->data[i];
	return true;
}

/* Whether an answer of this address may come to a question to that one; AAH asks anybody. */
static bool
dlt645_same_address(const uint8_t asked[DLT645_ADDRESS], const uint8_t got[DLT645_ADDRESS])
{
	int i;

	for (i = 0; i < DLT645_ADDRESS; i++)
	{
		if (asked[i] != got[i] && asked[i] != 0xAA)
			return false;
	}
	return true;
}

/*
 * Judges a frame as the answer to a question, whose data begin with the identifier that has to
 * come back. REPLY_EXCEPTION: the meter refuses, see dlt645_error_text().
 */
SmReplyKind
dlt645_check(const uint8_t asked[DLT645_ADDRESS], uint8_t control, const uint8_t *data, int length,
			 const SmDltFrame *frame, const char **why)
{
	int di = dlt645_di_bytes(control);

	*why = NULL;
	if ((frame->control & DLT645_REPLY) == 0)
		*why = "the question came back";
	else if (!dlt645_same_address(asked, frame->address))
		*why = "another meter answered";
	else if ((frame->control & DLT645_FUNCTION) != (control & DLT645_FUNCTION))
		*why = "another function was answered";
	else if ((frame->control & DLT645_ERROR) != 0)
	{
		if (frame->length >= 1)
			return REPLY_EXCEPTION;
		*why = "a refusal without a reason";
	}
	/* A write is acknowledged without its identifier. */
	else if ((control & DLT645_FUNCTION) == 0x14 || (control & DLT645_FUNCTION) == 0x04 ||
			 (control & DLT645_FUNCTION) == 0x18)
		return REPLY_GOOD;
	else if (length < di || frame->length < di || memcmp(data, frame->data, (size_t) di) != 0)
		*why = "another item was answered";
	return *why == NULL ? REPLY_GOOD : REPLY_WRONG;
}

/* The reasons of a refusal in words, into text. */
const char *
dlt645_error_text(const SmDltFrame *frame, char *text, int size)
{
	static const char *const reasons_2007[8] = {
		"other error",           "no such data",        "password wrong or not authorised",
		"baud rate not changed", "too many year zones", "too many day periods",
		"too many tariffs",      "reserved error bit 7"};
	static const char *const reasons_1997[8] = {
		"illegal data",        "identifier wrong",     "password wrong",   "reserved error bit 3",
		"too many year zones", "too many day periods", "too many tariffs", "reserved error bit 7"};
	const char *const *reasons =
		(frame->control & DLT645_FUNCTION) < 0x08 ? reasons_1997 : reasons_2007;
	int used = 0;
	int bit;

	text[0] = '\0';
	for (bit = 0; bit < 8; bit++)
	{
		if (frame->length > 0 && (frame->data[0] >> bit & 1) != 0 && used < size)
			used += snprintf(text + used, (size_t) (size - used), "%s%s", used > 0 ? ", " : "",
							 reasons[bit]);
	}
	if (used == 0)
		snprintf(text, (size_t) size, "refused without a reason");
	return text;
}

const char *
dlt645_fault_text(SmDltFault fault)
{
	switch (fault)
	{
		case DLT645_FAULT_LENGTH:
			return "length is not possible";
		case DLT645_FAULT_CHECKSUM:
			return "checksum is wrong";
		case DLT645_FAULT_END:
			return "the end mark 16H is missing";
		case DLT645_FAULT_NO_START:
			return "no frame begins here";
		case DLT645_FAULT_NONE:
			break;
	}
	return "";
}
