/*
 * dlt.c - DL/T 645 frames and addresses
 *
 * Written from DL/T 645-2007 and -1997 as described in public documents. A frame is looked for byte
 * by byte: 68, six bytes of address, 68, control, length, data (+33 each), sum, 16. A meter answers
 * to its own address, to one whose high digits are replaced by AA, and obeys broadcasts to 99.
 * When several meters of a line answer a wildcard their bytes collide, a low level winning.
 */
#include <stdio.h>
#include <string.h>

#include "dispatch.h"
#include "dlt.h"
#include "meter.h"

#define OVERHEAD 12 /* of a frame around its data */
#define ADDRESS_AT 1
#define SECOND_AT 7
#define CONTROL_AT 8
#define LENGTH_AT 9
#define DATA_AT 10
#define START 0x68
#define END 0x16
#define OFFSET 0x33
#define WILD 0xAA
#define EVERYBODY 0x99
#define NOBODY (-2) /* no meter's place: only faults of the whole port hit it */

/* Makes the answer an error reply. Always true, for "return dlt_refuse(...)". */
bool
dlt_refuse(SmTalk *talk, uint8_t error)
{
	talk->answer_control = talk->control | 0xC0;
	talk->answer[0] = error;
	talk->answer_length = 1;
	return true;
}

/* Tells whether an address of a request is a meter's, digits AA fitting all. */
static bool
dlt_addresses(const uint8_t *wanted, const SmMeter *meter)
{
	int i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		if (wanted[i] != WILD && wanted[i] != meter->address[i])
			return false;
	return true;
}

/* Tells whether an address means everybody. */
static bool
dlt_is_broadcast(const uint8_t *wanted)
{
	int i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		if (wanted[i] != EVERYBODY)
			return false;
	return true;
}

/* Tells whether a control code of either version reads. */
static bool
dlt_is_read(uint8_t control)
{
	return (control >= 0x11 && control <= 0x13) || (control >= 0x01 && control <= 0x03);
}

/* Puts an answer into a frame behind its FE; returns the length. */
static int
dlt_wrap(const SmMeter *meter, const uint8_t *address, const SmTalk *talk, uint8_t *frame)
{
	int at = (int) meter->dlt->preamble;
	uint8_t sum = 0;
	int i;

	memset(frame, 0xFE, (size_t) at);
	frame += at;
	frame[0] = START;
	memcpy(frame + ADDRESS_AT, address, ADDRESS_BYTES);
	frame[SECOND_AT] = START;
	frame[CONTROL_AT] = talk->answer_control;
	frame[LENGTH_AT] = (uint8_t) talk->answer_length;
	for (i = 0; i < talk->answer_length; i++)
		frame[DATA_AT + i] = (uint8_t) (talk->answer[i] + OFFSET);
	for (i = 0; i < DATA_AT + talk->answer_length; i++)
		sum = (uint8_t) (sum + frame[i]);
	frame[DATA_AT + talk->answer_length] = sum;
	frame[DATA_AT + talk->answer_length + 1] = END;
	return at + OVERHEAD + talk->answer_length;
}

/* Makes an answer a wrong one in a right frame, as planned. */
static void
dlt_shape(const SmMeter *meter, const SmPlan *plan, uint8_t *address, SmTalk *talk)
{
	int di = meter->model->protocol == PROTOCOL_DLT_2007 ? 4 : 2;

	if (plan->twist.sentinel && talk->answer_length > di)
		memset(talk->answer + di, 0xFF, (size_t) (talk->answer_length - di));
	switch (plan->wire)
	{
		case FAULT_WRONG_UNIT:
			address[0] ^= 0x01;
			break;
		case FAULT_WILDCARD:
			memset(address, WILD, ADDRESS_BYTES);
			break;
		case FAULT_WRONG_FUNCTION:
			talk->answer_control ^= 0x03;
			break;
		case FAULT_WRONG_TRANSACTION:
			talk->answer[0] ^= 0x01;
			break;
		case FAULT_WRONG_COUNT:
			memset(talk->answer + talk->answer_length, 0, 2);
			talk->answer_length += 2;
			break;
		case FAULT_SHORT:
			talk->answer_length -= talk->answer_length > di ? 1 : 0;
			break;
		case FAULT_BCD:
			if (talk->answer_length > di)
				talk->answer[di] = 0x1B;
			break;
		default:
			break;
	}
}

/* Has one meter answer; false when it stays silent. */
static bool
dlt_obey(SmMeter *meter, const SmPlan *plan, SmTalk *talk)
{
	talk->twist = &plan->twist;
	talk->answer_control = talk->control | 0x80;
	meter_settle(meter, farm_mono_ns());
	if (plan->wire == FAULT_EXCEPTION)
		return dlt_refuse(talk, (uint8_t) plan->argument);
	if (meter->model->protocol == PROTOCOL_DLT_2007)
		return dlt_control_2007(meter, talk);
	return dlt_control_1997(meter, talk);
}

/* Remembers a write for the log. */
static void
dlt_note(SmPort *port, const SmMeter *meter, const SmTalk *talk, const char *outcome)
{
	char address[2 * ADDRESS_BYTES + 1];

	farm_address_text(meter->address, address);
	dispatch_note(port, "%s:%02X:%s:%s", address, talk->control, talk->note, outcome);
}

/* Says how a write went: ok, errorNN, or silent. */
static void
dlt_note_outcome(SmPort *port, const SmMeter *meter, const SmTalk *talk, bool answered)
{
	char outcome[16] = "ok";

	if (!answered)
		strcpy(outcome, "silent");
	else if ((talk->answer_control & 0x40) != 0)
		snprintf(outcome, sizeof(outcome), "error%02X", talk->answer[0]);
	dlt_note(port, meter, talk, outcome);
}

/* Has everybody obey a broadcast; nobody answers one. */
static void
dlt_everybody(SmPort *port, SmTalk *talk)
{
	int i;

	for (i = 0; i < port->meter_count; i++)
	{
		SmMeter *meter = port->meters[i];
		SmTalk copy = *talk;

		meter_settle(meter, farm_mono_ns());
		meter->requests++;
		dlt_note_request(meter, &copy);
		if (!dlt_is_read(copy.control))
			dlt_note(port, meter, &copy, dlt_broadcast(meter, &copy) ? "ok" : "ignored");
	}
}

/* Lets the answer of another meter to the same wildcard collide with this one. */
static void
dlt_collide(SmMeter *meter, const SmPlan *plan, const SmTalk *request, SmReply *reply)
{
	SmTalk talk = *request;
	uint8_t frame[DLT_FRAME_MAX + 80];
	int length;
	int i;

	if (!dlt_obey(meter, plan, &talk))
		return;
	length = dlt_wrap(meter, meter->address, &talk, frame);
	if (length > reply->length)
	{
		memset(reply->bytes + reply->length, 0xFF, (size_t) (length - reply->length));
		reply->length = length;
	}
	for (i = 0; i < length; i++)
		reply->bytes[i] &= frame[i];
}

/* Frames the answer of a meter, with the faults that damage it on the way. */
static void
dlt_reply(SmConnection *connection, SmMeter *meter, const SmPlan *plan, SmTalk *talk,
		  SmReply *reply)
{
	uint8_t other[DLT_FRAME_MAX + 80];
	uint8_t address[ADDRESS_BYTES];

	memcpy(address, meter->address, ADDRESS_BYTES);
	dlt_shape(meter, plan, address, talk);
	reply->length = dlt_wrap(meter, address, talk, reply->bytes);
	reply->answer_chars = reply->length;
	if (plan->wire == FAULT_OTHER)
	{
		address[0] ^= 0x01;
		fault_prepend(reply, other, dlt_wrap(meter, address, talk, other));
	}
	fault_line(plan, connection->last, connection->last_length, 2, reply);
}

/* Finds the meters an address means: the first, and how many there are. */
static SmMeter *
dlt_meter(const SmPort *port, const uint8_t *address, int *count)
{
	SmMeter *found = NULL;
	int i;

	*count = 0;
	for (i = 0; i < port->meter_count; i++)
		if (dlt_addresses(address, port->meters[i]))
		{
			found = *count == 0 ? port->meters[i] : found;
			(*count)++;
		}
	return found;
}

/* Has a meter answer, with the books kept; false when nothing comes. */
static bool
dlt_serve(SmConnection *connection, SmMeter *meter, int matches, const uint8_t *address,
		  const SmPlan *plan, SmTalk *talk, SmReply *reply)
{
	SmPort *port = connection->port;
	const SmTalk request = *talk;
	bool is_read = dlt_is_read(talk->control);
	bool heard = plan->wire != FAULT_SILENCE && plan->wire != FAULT_DROP;
	bool answered;
	int i;

	dlt_note_request(meter, talk);
	answered = heard && dlt_obey(meter, plan, talk);
	if (!is_read && heard)
		dlt_note_outcome(port, meter, talk, answered);
	else if (!is_read)
		dlt_note(port, meter, talk, "unheard");
	if (!answered || plan->wire == FAULT_REPLY_LOST)
		return false;
	meter->refusals += (talk->answer_control & 0x40) != 0 ? 1 : 0;
	dlt_reply(connection, meter, plan, talk, reply);
	for (i = 0; i < port->meter_count && matches > 1; i++)
		if (port->meters[i] != meter && dlt_addresses(address, port->meters[i]))
			dlt_collide(port->meters[i], plan, &request, reply);
	return true;
}

/*
 * Takes one whole frame to the meters of a port; false when nothing comes back. The plan of faults
 * is the caller's to carry out where it concerns delivery.
 */
bool
dlt_exchange(SmConnection *connection, const uint8_t *frame, int length, SmPlan *plan,
			 SmReply *reply)
{
	SmPort *port = connection->port;
	const uint8_t *address = frame + ADDRESS_AT;
	uint8_t data[256];
	SmTalk talk = {.control = frame[CONTROL_AT], .length = frame[LENGTH_AT], .data = data};
	SmMeter *meter;
	int matches;
	int i;

	memset(plan, 0, sizeof(*plan));
	if ((talk.control & 0x80) != 0)
		return false; /* an answer of somebody else */
	for (i = 0; i < talk.length; i++)
		data[i] = (uint8_t) (frame[DATA_AT + i] - OFFSET);
	meter = dlt_meter(port, address, &matches);
	dispatch_count(port, meter, dlt_is_read(talk.control), !dlt_is_read(talk.control));
	dispatch_held(connection);
	reply->request = frame;
	reply->request_length = length;
	reply->request_chars = length;
	if (dlt_is_broadcast(address))
	{
		dlt_everybody(port, &talk);
		return false;
	}
	fault_plan(port, meter == NULL ? NOBODY : meter->unit, !dlt_is_read(talk.control), plan);
	return meter != NULL && dlt_serve(connection, meter, matches, address, plan, &talk, reply);
}

/*
 * Looks for a frame: returns its length, 0 when more bytes are needed, -1 when there is none at the
 * place found. "skip" is how many bytes come before that place.
 */
int
dlt_find(const uint8_t *bytes, int length, int *skip)
{
	uint8_t sum = 0;
	int total;
	int i;

	for (*skip = 0; *skip < length && bytes[*skip] != START; (*skip)++)
		continue;
	bytes += *skip;
	length -= *skip;
	if (length <= SECOND_AT)
		return 0;
	if (bytes[SECOND_AT] != START)
		return -1;
	if (length <= LENGTH_AT)
		return 0;
	total = OVERHEAD + bytes[LENGTH_AT];
	if (length < total)
		return 0;
	for (i = 0; i < total - 2; i++)
		sum = (uint8_t) (sum + bytes[i]);
	return sum == bytes[total - 2] && bytes[total - 1] == END ? total : -1;
}

/* Cuts frames out of what was received; a place that only looks like one is passed by one byte. */
void
dlt_cut(SmConnection *connection)
{
	SmPort *port = connection->port;
	int at = 0;
	int skip;
	int found;

	while (connection->fd >= 0 &&
		   (found = dlt_find(connection->in + at, connection->in_length - at, &skip)) != 0)
	{
		SmReply reply = {0};
		SmPlan plan;
		int begin = at + skip;

		at = begin + (found < 0 ? 1 : found);
		port->malformed += found < 0 ? 1 : 0;
		if (found < 0)
			continue;
		if (dlt_exchange(connection, connection->in + begin, found, &plan, &reply))
			dispatch_answer(connection, &plan, &reply);
		else
			dispatch_unanswered(port, found);
		if (plan.wire == FAULT_DROP)
			net_close(connection);
	}
	net_consume(connection, at);
}
