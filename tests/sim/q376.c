/*
 * q376.c - concentrators of Q/GDW 376.1
 *
 * A concentrator dials in, logs in (AFN 02H F1) until that is confirmed, then sends heartbeats (F3).
 * It passes DL/T 645 frames on to the meters behind it (AFN 10H F1) and tells of its own memory the
 * daily registers (AFN 0DH F161: time mark, when it was read, number of tariffs, energies of five
 * bytes, as in public terminal sources). The mark of a day is taken to mean the midnight at its end,
 * which is common practice and not confirmed by a text. When a meter does not answer in time the
 * concentrator denies (AFN 00H F2), with absent=silence it says nothing.
 */
#include <string.h>

#include "dial.h"
#include "dispatch.h"
#include "dlt.h"
#include "meter.h"
#include "q376.h"

#define START 0x68
#define END 0x16
#define HEAD 6 /* 68 L L 68 */
#define APP 8  /* of the user data: control, address, AFN, sequence */
#define UNIT 4 /* DA and DT */
#define USER_MAX 1000
#define FROM_TERMINAL 0x80
#define BEGINS 0x40 /* the frame opens an exchange */
#define LINK_TEST 9
#define USER_DATA 8
#define SINGLE 0x60 /* first and last frame */
#define CONFIRM 0x10
#define AFN_CONFIRM 0x00
#define AFN_LINK 0x02
#define AFN_HISTORY 0x0D
#define AFN_FORWARD 0x10
#define DAY_S 86400

/* One message: what is between the head and the sum. */
typedef struct SmMessage
{
	int length;
	uint8_t user[USER_MAX];
} SmMessage;

/* Appends bytes to a message. */
static void
q376_add(SmMessage *message, const uint8_t *bytes, int length)
{
	if (message->length + length > USER_MAX)
		return;
	memcpy(message->user + message->length, bytes, (size_t) length);
	message->length += length;
}

/* Begins a message; msa is the address of the station it goes to. */
static void
q376_begin(const SmPort *port, SmMessage *message, uint8_t control, uint8_t msa, uint8_t afn,
		   uint8_t sequence)
{
	const SmDial *dial = port->dial;
	uint8_t head[APP] = {control,
						 (uint8_t) dial->region,
						 (uint8_t) (dial->region >> 8),
						 (uint8_t) dial->terminal,
						 (uint8_t) (dial->terminal >> 8),
						 msa,
						 afn,
						 sequence};

	message->length = 0;
	q376_add(message, head, APP);
}

/* Adds the identifier of a data unit: a point (0 = the terminal itself) and a function. */
static void
q376_unit(SmMessage *message, int point, int function)
{
	uint8_t unit[UNIT] = {0};

	if (point > 0)
	{
		unit[0] = (uint8_t) (1 << (point - 1) % 8);
		unit[1] = (uint8_t) ((point - 1) / 8 + 1);
	}
	unit[2] = (uint8_t) (1 << (function - 1) % 8);
	unit[3] = (uint8_t) ((function - 1) / 8);
	q376_add(message, unit, UNIT);
}

/* Puts a message into its frame; returns the length. */
static int
q376_wrap(const SmMessage *message, uint8_t *frame)
{
	int length = message->length << 2 | 2;
	uint8_t sum = 0;
	int i;

	frame[0] = START;
	frame[1] = frame[3] = (uint8_t) length;
	frame[2] = frame[4] = (uint8_t) (length >> 8);
	frame[5] = START;
	memcpy(frame + HEAD, message->user, (size_t) message->length);
	for (i = 0; i < message->length; i++)
		sum = (uint8_t) (sum + message->user[i]);
	frame[HEAD + message->length] = sum;
	frame[HEAD + message->length + 1] = END;
	return HEAD + message->length + 2;
}

/* Sends a message of the link: 1 login, 3 heartbeat. */
static void
q376_link(SmConnection *connection, int function)
{
	SmMessage message;
	uint8_t frame[USER_MAX + 8];

	connection->sequence = (connection->sequence + 1) & 0x0F;
	q376_begin(connection->port, &message, FROM_TERMINAL | BEGINS | LINK_TEST, 0, AFN_LINK,
			   SINGLE | CONFIRM | connection->sequence);
	q376_unit(&message, 0, function);
	net_send(connection, frame, q376_wrap(&message, frame));
}

/* Logs in. */
void
q376_login(SmConnection *connection)
{
	connection->port->dial->registrations++;
	q376_link(connection, 1);
}

/* Sends a heartbeat, or the login again as long as it is not confirmed. */
void
q376_beat(SmConnection *connection)
{
	if (!connection->logged_in)
	{
		q376_login(connection);
		return;
	}
	connection->port->dial->heartbeats++;
	q376_link(connection, 3);
}

/* Takes a confirmation: F1 for all, F3 for single units with their errors. */
static void
q376_confirmed(SmConnection *connection, const uint8_t *user, int length)
{
	bool all = user[APP + 2] == 0x01 && user[APP + 3] == 0;
	bool single = user[APP + 2] == 0x04 && user[APP + 3] == 0 && length >= APP + UNIT + 6 &&
				  user[APP + UNIT + 5] == 0;

	if ((user[7] & 0x0F) != connection->sequence || (!all && !single))
		return;
	if (connection->logged_in)
		dial_heard(connection->port);
	connection->logged_in = true;
}

/* Sends a message as the answer to a request, with what it took on the line behind. */
static void
q376_answer(SmConnection *connection, const SmPlan *plan, const SmMessage *message, SmReply *reply)
{
	reply->length = q376_wrap(message, reply->bytes);
	dispatch_answer(connection, plan, reply);
}

/* Denies a request; after the time a meter had to answer, when it is about one. */
static void
q376_deny(SmConnection *connection, const uint8_t *user, const SmReply *asked, int64_t after_ms)
{
	SmPlan plan = {.wire = FAULT_DELAY, .argument = after_ms};
	SmReply reply = {.request_chars = asked == NULL ? 0 : asked->request_chars};
	SmMessage message;

	if (connection->port->absent_silent)
	{
		dispatch_unanswered(connection->port, reply.request_chars);
		return;
	}
	q376_begin(connection->port, &message, FROM_TERMINAL | USER_DATA, user[5], AFN_CONFIRM,
			   SINGLE | (user[7] & 0x0F));
	q376_unit(&message, 0, 2);
	q376_answer(connection, &plan, &message, &reply);
}

/* How long a concentrator waits for a meter: bit 7 = seconds, else steps of 10 ms. */
static int64_t
q376_wait_ms(uint8_t code)
{
	return (code & 0x7F) * (code >= 0x80 ? 1000 : 10);
}

/* Passes a frame on to the meters and their answer back. */
static void
q376_forward(SmConnection *connection, const uint8_t *user, int length)
{
	const uint8_t *data = user + APP + UNIT;
	int carried = length >= APP + UNIT + 6 ? data[4] | data[5] << 8 : -1;
	SmReply inner = {0};
	SmPlan plan = {0};
	SmMessage message;
	uint8_t head[3];
	int skip;
	int found;

	if (carried < 0 || APP + UNIT + 6 + carried > length)
	{
		connection->port->malformed++;
		q376_deny(connection, user, NULL, 0);
		return;
	}
	found = dlt_find(data + 6, carried, &skip);
	if (found <= 0 || !dlt_exchange(connection, data + 6 + skip, found, &plan, &inner))
	{
		if (plan.wire == FAULT_DROP)
			net_close(connection);
		else
			q376_deny(connection, user, &inner, q376_wait_ms(data[2]));
		return;
	}
	head[0] = data[0];
	head[1] = (uint8_t) inner.length;
	head[2] = (uint8_t) (inner.length >> 8);
	q376_begin(connection->port, &message, FROM_TERMINAL | USER_DATA, user[5], AFN_FORWARD,
			   SINGLE | (user[7] & 0x0F));
	q376_unit(&message, 0, 1);
	q376_add(&message, head, 3);
	q376_add(&message, inner.bytes, inner.length);
	q376_answer(connection, &plan, &message, &inner);
}

/* The point a unit names, 0 when it names none or several. */
static int
q376_point(const uint8_t *unit)
{
	int bit;

	for (bit = 0; bit < 8; bit++)
		if (unit[0] == 1 << bit && unit[1] > 0)
			return (unit[1] - 1) * 8 + bit + 1;
	return 0;
}

/* Adds the registers at the end of a day to an answer; false when the concentrator has none. */
static bool
q376_add_day(SmMessage *message, SmMeter *meter, int point, const uint8_t *mark)
{
	uint8_t day[6] = {0, 0, 0, mark[0], mark[1], mark[2]};
	uint8_t read[6];
	uint8_t energies[4 * (DLT_TARIFFS + 1)];
	uint8_t tail[6 + 5 * (DLT_TARIFFS + 1)] = {0};
	const SmRecord *record;
	int64_t clock_s;
	int i;

	if (!dlt_parse_time(day, &clock_s))
		return false;
	meter_settle(meter, farm_mono_ns());
	record = history_of_day(meter, clock_s + DAY_S);
	if (record == NULL)
		return false;
	dlt_time(record->clock_s, read);
	memcpy(tail, read + 1, 5);
	tail[5] = DLT_TARIFFS;
	dlt_energy(meter, record, 1, 0xFF, energies);
	for (i = 0; i <= DLT_TARIFFS; i++)
		memcpy(tail + 6 + 5 * i + 1, energies + 4 * i, 4);
	q376_unit(message, point, 161);
	q376_add(message, mark, 3);
	q376_add(message, tail, sizeof(tail));
	return true;
}

/* Tells of the concentrator's memory: F161 of the points asked for. */
static void
q376_history(SmConnection *connection, const uint8_t *user, int length)
{
	SmPort *port = connection->port;
	SmPlan plan = {0};
	SmReply reply = {0};
	SmMessage message;
	bool any = false;
	int at;

	q376_begin(port, &message, FROM_TERMINAL | USER_DATA, user[5], AFN_HISTORY,
			   SINGLE | (user[7] & 0x0F));
	dispatch_count(port, NULL, true, false);
	for (at = APP; at + UNIT + 3 <= length; at += UNIT + 3)
	{
		int point = q376_point(user + at);

		if (user[at + 2] == 0x01 && user[at + 3] == 160 / 8 && point >= 1 &&
			point <= port->meter_count)
			any |= q376_add_day(&message, port->meters[point - 1], point, user + at + UNIT);
	}
	if (any)
		q376_answer(connection, &plan, &message, &reply);
	else
		q376_deny(connection, user, NULL, 0);
}

/* Handles one message. */
static void
q376_message(SmConnection *connection, const uint8_t *user, int length)
{
	const SmDial *dial = connection->port->dial;
	int region = user[1] | user[2] << 8;
	int terminal = user[3] | user[4] << 8;

	if ((user[0] & FROM_TERMINAL) != 0 || region != dial->region || terminal != dial->terminal)
	{
		connection->port->malformed++;
		return;
	}
	if (user[6] == AFN_CONFIRM)
		q376_confirmed(connection, user, length);
	else if (!connection->logged_in)
		connection->port->malformed++;
	else if (user[6] == AFN_FORWARD && user[APP + 2] == 0x01 && user[APP + 3] == 0)
		q376_forward(connection, user, length);
	else if (user[6] == AFN_HISTORY)
		q376_history(connection, user, length);
	else
		q376_deny(connection, user, NULL, 0);
}

/* The length of the frame in front; 0 when more bytes are needed, -1 when it is none. */
static int
q376_find(const uint8_t *in, int got)
{
	uint8_t sum = 0;
	int length;
	int i;

	if (got < HEAD)
		return in[0] == START ? 0 : -1;
	length = (in[1] | in[2] << 8) >> 2;
	if (in[0] != START || in[5] != START || in[1] != in[3] || in[2] != in[4] ||
		length < APP + UNIT || length > USER_MAX)
		return -1;
	if (got < HEAD + length + 2)
		return 0;
	for (i = 0; i < length; i++)
		sum = (uint8_t) (sum + in[HEAD + i]);
	return in[HEAD + length] == sum && in[HEAD + length + 1] == END ? HEAD + length + 2 : -1;
}

/* Cuts messages out of what was received, resynchronising byte by byte. */
void
q376_cut(SmConnection *connection)
{
	const uint8_t *in = connection->in;
	int at = 0;
	int found;

	while (connection->fd >= 0 && at < connection->in_length &&
		   (found = q376_find(in + at, connection->in_length - at)) != 0)
	{
		if (found > 0)
			q376_message(connection, in + at + HEAD, found - HEAD - 2);
		else
			connection->port->malformed++;
		at += found > 0 ? found : 1;
	}
	net_consume(connection, at);
}
