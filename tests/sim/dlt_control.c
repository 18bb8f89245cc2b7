/*
 * dlt_control.c - what the control codes of a DL/T 645 request do
 *
 * 2007: 11 read, 12 what follows, 13 address, 14 write, 1C trip and close, 08 time to everybody.
 * 1997: 01, 02, 04 and 08; it has no trip. A meter that does not know a control code of the other
 * version stays silent. A password that is wrong three times closes the meter to writers for a day.
 */
#include <stdio.h>
#include <string.h>

#include "dlt.h"
#include "meter.h"

#define DAY_S 86400
#define LOCK_NS (DAY_S * NS_PER_S)
#define SYNC_MOST_S 300
#define MIDNIGHT_S 300 /* no broadcast is obeyed so near to midnight */
#define PASSWORDS_MOST 3

/* Reads a data identifier, DI0 first on the wire. */
static uint32_t
control_di(const uint8_t *bytes, int count)
{
	uint32_t di = 0;

	while (count-- > 0)
		di = di << 8 | bytes[count];
	return di;
}

/* Carries on with an answer that was too long for one frame; sequence < 0 for the first frame. */
static void
control_piece(SmMeter *meter, SmTalk *talk, int di_length, int sequence)
{
	SmDlt *dlt = meter->dlt;
	bool numbered = sequence >= 0 && di_length == 4;
	int room = (int) dlt->frame_bytes - di_length - (numbered ? 1 : 0);
	int left = dlt->rest_length - dlt->rest_at;
	int piece = left < room ? left : room;

	memcpy(talk->answer, dlt->rest_di, (size_t) di_length);
	memcpy(talk->answer + di_length, dlt->rest + dlt->rest_at, (size_t) piece);
	talk->answer_length = di_length + piece;
	dlt->rest_at += piece;
	if (numbered)
		talk->answer[talk->answer_length++] = (uint8_t) sequence;
	if (dlt->rest_at < dlt->rest_length)
		talk->answer_control |= 0x20;
}

/* Reads an item. */
static bool
control_read(SmMeter *meter, SmTalk *talk, int di_length)
{
	SmDlt *dlt = meter->dlt;
	uint32_t di;

	if (talk->length < di_length)
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	di = control_di(talk->data, di_length);
	dlt->rest_length =
		di_length == 4 ? dlt_item_2007(meter, di, dlt->rest) : dlt_item_1997(meter, di, dlt->rest);
	dlt->rest_at = 0;
	dlt->rest_sequence = 0;
	memcpy(dlt->rest_di, talk->data, (size_t) di_length);
	if (dlt->rest_length == 0)
		return dlt_refuse(talk, DLT_NO_DATA);
	control_piece(meter, talk, di_length, -1);
	return true;
}

/* Reads what follows: the next piece, or the last one again when the sequence says so. */
static bool
control_follow(SmMeter *meter, SmTalk *talk, int di_length)
{
	SmDlt *dlt = meter->dlt;
	int sequence = di_length == 4 && talk->length >= 5 ? talk->data[4] : dlt->rest_sequence + 1;

	if (talk->length < di_length || memcmp(dlt->rest_di, talk->data, (size_t) di_length) != 0 ||
		dlt->rest_at >= dlt->rest_length || sequence != dlt->rest_sequence + 1)
		return dlt_refuse(talk, DLT_NO_DATA);
	dlt->rest_sequence = sequence;
	control_piece(meter, talk, di_length, sequence);
	return true;
}

/* Checks PA P0 P1 P2; three wrong ones lock the meter for a day of its own time. */
static bool
control_admits(SmMeter *meter, const uint8_t *password)
{
	SmDlt *dlt = meter->dlt;
	int64_t digits;

	if (meter->settled_sim_ns < dlt->locked_until_ns)
		return false;
	if (password[0] == dlt->level && dlt_from_bcd(password + 1, 3, &digits) &&
		digits == dlt->password)
	{
		dlt->wrong_passwords = 0;
		return true;
	}
	if (++dlt->wrong_passwords >= PASSWORDS_MOST)
	{
		dlt->locked_until_ns = meter->settled_sim_ns + LOCK_NS;
		dlt->wrong_passwords = 0;
	}
	return false;
}

/* Sets the meter's clock. */
void
dlt_set_clock(SmMeter *meter, int64_t clock_s)
{
	meter->clock_offset_s += clock_s - meter_clock_s(meter, meter->settled_sim_ns);
	meter->dlt->clock_sets++;
}

/* Writes the date (WW DD MM YY), the time (ss mm hh) or both; false when it is no such moment. */
static bool
control_write_clock(SmMeter *meter, int item, const uint8_t *data, int length)
{
	uint8_t time[6];
	int64_t clock_s;

	dlt_time(meter_clock_s(meter, meter->settled_sim_ns), time);
	if (length != (item == 1 ? 4 : item == 2 ? 3 : 7))
		return false;
	if (item != 1)
		memcpy(time, data, 3);
	if (item != 2)
		memcpy(time + 3, data + (item == 1 ? 1 : 4), 3);
	if (!dlt_parse_time(time, &clock_s))
		return false;
	dlt_set_clock(meter, clock_s);
	return true;
}

/* Notes bytes as digits, the first of them last when they come lowest digits first. */
static void
control_note_bytes(SmTalk *talk, const uint8_t *bytes, int count, bool turned)
{
	size_t used = strlen(talk->note);
	int i;

	for (i = 0; i < count && i < 16; i++, used += 2)
		snprintf(talk->note + used, sizeof(talk->note) - used, "%02X",
				 bytes[turned ? count - 1 - i : i]);
}

/*
 * Notes what a write wants, without its password: of a trip the order and the time it is valid
 * until, of an item its identifier and the bytes, of a broadcast the time.
 */
void
dlt_note_request(const SmMeter *meter, SmTalk *talk)
{
	int di_length = meter->model->protocol == PROTOCOL_DLT_2007 ? 4 : 2;
	int data_at = di_length == 4 ? 12 : 6;

	talk->note[0] = '\0';
	if (talk->control == 0x1C && talk->length == 16)
	{
		snprintf(talk->note, sizeof(talk->note), "%02X:", talk->data[8]);
		control_note_bytes(talk, talk->data + 10, 6, true);
	}
	else if ((talk->control == 0x14 || talk->control == 0x04) && talk->length >= data_at)
	{
		snprintf(talk->note, sizeof(talk->note), "%0*X:", 2 * di_length,
				 control_di(talk->data, di_length));
		control_note_bytes(talk, talk->data + data_at, talk->length - data_at, false);
	}
	else if (talk->control == 0x08)
		control_note_bytes(talk, talk->data, talk->length < 6 ? talk->length : 6, true);
}

/* Writes an item of 2007: DI, password, operator, data. Only the clock can be written. */
static bool
control_write(SmMeter *meter, SmTalk *talk)
{
	uint8_t scratch[DLT_ITEM_MAX];
	uint32_t di;

	if (talk->length < 12)
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	di = control_di(talk->data, 4);
	if (!control_admits(meter, talk->data + 4))
		return dlt_refuse(talk, DLT_NOT_ALLOWED);
	if (di != 0x04000101 && di != 0x04000102 && di != 0x0400010C)
		return dlt_refuse(talk,
						  dlt_item_2007(meter, di, scratch) == 0 ? DLT_NO_DATA : DLT_NOT_ALLOWED);
	if (!control_write_clock(meter, (int) (di & 0xFF), talk->data + 12, talk->length - 12))
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	return true;
}

/* Tells whether a command is still valid by the meter's own clock; all 99 and all 00 are for ever. */
static bool
control_is_valid(const SmMeter *meter, const uint8_t *until)
{
	static const uint8_t nines[6] = {0x99, 0x99, 0x99, 0x99, 0x99, 0x99};
	static const uint8_t zeros[6] = {0};
	int64_t until_s;

	if (!meter->dlt->checks_validity || memcmp(until, nines, 6) == 0 ||
		memcmp(until, zeros, 6) == 0)
		return true;
	return dlt_parse_time(until, &until_s) &&
		   until_s >= meter_clock_s(meter, meter->settled_sim_ns);
}

/* Moves, or promises to move, the relay. */
static void
control_relay(SmMeter *meter, uint8_t order, const SmTwist *twist)
{
	SmDlt *dlt = meter->dlt;

	dlt->ordered_open = order == 0x1A;
	dlt->trips += order == 0x1A ? 1 : 0;
	dlt->closes += order == 0x1A ? 0 : 1;
	dlt->wants_key = order == 0x1B && !meter->relay_closed && !twist->relay_ignored;
	if (order != 0x1B && !twist->relay_ignored)
		meter_command(meter, order == 0x1C, twist->relay_delay_ns);
}

/* Obeys an order of 1C; returns the error to answer, 0 for none. */
static uint8_t
control_order(SmMeter *meter, uint8_t order, const SmTwist *twist)
{
	SmDlt *dlt = meter->dlt;

	switch (order)
	{
		case 0x1A:
			if (dlt->keep)
				return DLT_OTHER_ERROR;
			control_relay(meter, order, twist);
			return 0;
		case 0x1B:
		case 0x1C:
			control_relay(meter, order, twist);
			return 0;
		case 0x2A:
		case 0x2B:
			dlt->alarm = order == 0x2A;
			return 0;
		case 0x3A:
		case 0x3B:
			dlt->keep = order == 0x3A;
			return 0;
		default:
			return DLT_OTHER_ERROR;
	}
}

/* Trip, close, alarm, keep: PA P0 P1 P2, operator, N1, N2, valid until ss mm hh DD MM YY. */
static bool
control_switch(SmMeter *meter, SmTalk *talk)
{
	const uint8_t *data = talk->data;
	uint8_t error;

	if (!meter->model->has_relay || talk->length != 16)
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	if (!control_admits(meter, data))
		return dlt_refuse(talk, DLT_NOT_ALLOWED);
	if (!control_is_valid(meter, data + 10))
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	error = control_order(meter, data[8], talk->twist);
	return error == 0 || dlt_refuse(talk, error);
}

/* Obeys a broadcast; true when it changed something. */
bool
dlt_broadcast(SmMeter *meter, SmTalk *talk)
{
	SmDlt *dlt = meter->dlt;
	int64_t now_s = meter_clock_s(meter, meter->settled_sim_ns);
	int64_t wanted_s;
	int64_t of_day_s = now_s % DAY_S;

	if (talk->control != 0x08 || talk->length != 6)
		return false;
	if (!dlt->broadcast_time || !dlt_parse_time(talk->data, &wanted_s) ||
		dlt->synced_day == now_s / DAY_S || wanted_s - now_s > SYNC_MOST_S ||
		now_s - wanted_s > SYNC_MOST_S || of_day_s < MIDNIGHT_S || of_day_s >= DAY_S - MIDNIGHT_S)
		return false;
	dlt->synced_day = now_s / DAY_S;
	dlt_set_clock(meter, wanted_s);
	return true;
}

/* Answers a meter of 2007; false for silence. */
bool
dlt_control_2007(SmMeter *meter, SmTalk *talk)
{
	switch (talk->control)
	{
		case 0x11:
			return control_read(meter, talk, 4);
		case 0x12:
			return control_follow(meter, talk, 4);
		case 0x13:
			memcpy(talk->answer, meter->address, ADDRESS_BYTES);
			talk->answer_length = ADDRESS_BYTES;
			return true;
		case 0x14:
			return control_write(meter, talk);
		case 0x1C:
			return control_switch(meter, talk);
		case 0x08:
			dlt_broadcast(meter, talk);
			return false;
		case 0x15:
		case 0x16:
		case 0x17:
		case 0x18:
		case 0x19:
		case 0x1A:
		case 0x1B:
			return dlt_refuse(talk, DLT_NOT_ALLOWED);
		default:
			return false;
	}
}

/* Writes an item of 1997: DI, password, data. */
static bool
control_write_old(SmMeter *meter, SmTalk *talk)
{
	uint32_t di;

	if (talk->length < 6)
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	di = control_di(talk->data, 2);
	if (!control_admits(meter, talk->data + 2))
		return dlt_refuse(talk, DLT_NOT_ALLOWED);
	if (di != 0xC010 && di != 0xC011)
		return dlt_refuse(talk, DLT_NO_DATA);
	if (!control_write_clock(meter, di == 0xC010 ? 1 : 2, talk->data + 6, talk->length - 6))
		return dlt_refuse(talk, DLT_OTHER_ERROR);
	return true;
}

/* Answers a meter of 1997; false for silence. */
bool
dlt_control_1997(SmMeter *meter, SmTalk *talk)
{
	switch (talk->control)
	{
		case 0x01:
			return control_read(meter, talk, 2);
		case 0x02:
			return control_follow(meter, talk, 2);
		case 0x04:
			return control_write_old(meter, talk);
		case 0x08:
			dlt_broadcast(meter, talk);
			return false;
		default:
			return false;
	}
}
