/*
 * modbus.c - Modbus frames, TCP and RTU
 *
 * Cuts requests out of what was received, has them answered by wire.c and puts the answer into a
 * frame, at every step of which faults can be put in. RTU follows "Modbus over Serial Line" V1.02:
 * a frame ends where its function says it does, and one with a wrong CRC is dropped with all that
 * came with it, as a unit does that waits for the next silence. An absent RTU unit says nothing.
 */
#include <string.h>

#include "dispatch.h"
#include "modbus.h"
#include "wire.h"

#define HEADER 7
#define RTU_EXTRA 3 /* unit and CRC around a PDU on the line */

/* The CRC of a serial frame: polynomial A001, start FFFF, low byte first on the line. */
static uint16_t
modbus_crc(const uint8_t *bytes, int length)
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

/* Builds the PDU of the answer; returns its length, 0 for none. */
static int
modbus_pdu(SmPort *port, SmMeter *meter, const SmPlan *plan, const uint8_t *pdu, int length,
		   uint8_t *answer)
{
	bool silent = port->absent_silent || port->wire == WIRE_RTU;

	if (plan->wire == FAULT_SILENCE || plan->wire == FAULT_DROP)
		return 0;
	if (meter == NULL)
		return silent ? 0 : wire_exception(pdu[0], WIRE_TARGET_FAILED, answer);
	if (plan->wire == FAULT_EXCEPTION)
		return wire_exception(pdu[0], (int) plan->argument, answer);
	return wire_serve(meter, pdu, length, &plan->twist, answer);
}

/* What the log says about a write: exception code, 0 = accepted, -1 = never reached the meter. */
static int
modbus_write_code(const SmMeter *meter, const SmPlan *plan, const uint8_t *answer, int length)
{
	if (meter == NULL || length == 0)
		return -1;
	if (plan->wire == FAULT_EXCEPTION || (answer[0] & 0x80) != 0)
		return answer[1];
	return 0;
}

/* Puts an answer into a frame like that of the request; returns the frame's length. */
static int
modbus_wrap(SmWire wire, const uint8_t *request, uint8_t unit, const uint8_t *pdu, int length,
			uint8_t *frame)
{
	uint16_t crc;

	if (wire == WIRE_TCP)
	{
		memcpy(frame, request, HEADER);
		frame[4] = 0;
		frame[5] = (uint8_t) (length + 1);
		frame[6] = unit;
		memcpy(frame + HEADER, pdu, (size_t) length);
		return HEADER + length;
	}
	frame[0] = unit;
	memcpy(frame + 1, pdu, (size_t) length);
	crc = modbus_crc(frame, length + 1);
	frame[length + 1] = (uint8_t) crc;
	frame[length + 2] = (uint8_t) (crc >> 8);
	return length + RTU_EXTRA;
}

/* Frames an answer, with the faults that damage it on the way. */
static void
modbus_frame(SmConnection *connection, const SmPlan *plan, const uint8_t *request, uint8_t unit,
			 const uint8_t *pdu, int length, SmReply *reply)
{
	SmWire wire = connection->port->wire;
	uint8_t other[2 * ADU_MAX];
	int other_length;

	reply->length = modbus_wrap(wire, request, unit, pdu, length, reply->bytes);
	reply->answer_chars = length + RTU_EXTRA;
	if (plan->wire == FAULT_WRONG_TRANSACTION && wire == WIRE_TCP)
		reply->bytes[1] += 1;
	if (plan->wire == FAULT_OTHER)
	{
		other_length = modbus_wrap(wire, request, (uint8_t) (unit + 1), pdu, length, other);
		fault_prepend(reply, other, other_length);
	}
	fault_line(plan, connection->last, connection->last_length, wire == WIRE_RTU ? 1 : 0, reply);
}

/* Serves one whole frame: request points at its first byte, pdu into it. */
static void
modbus_serve(SmConnection *connection, const uint8_t *request, int request_length, uint8_t unit,
			 const uint8_t *pdu, int pdu_length)
{
	SmPort *port = connection->port;
	SmMeter *meter = port->units[unit];
	bool is_write = wire_is_write(pdu, pdu_length);
	uint8_t answer[2 * ADU_MAX];
	SmReply reply = {0};
	SmPlan plan;
	int length;

	dispatch_count(port, meter, wire_is_read(pdu, pdu_length), is_write);
	dispatch_held(connection);
	fault_plan(port, unit, is_write, &plan);
	length = modbus_pdu(port, meter, &plan, pdu, pdu_length, answer);
	if (is_write)
		wire_note_write(port, unit, pdu, pdu_length,
						modbus_write_code(meter, &plan, answer, length));
	if (plan.wire == FAULT_DROP)
		net_close(connection);
	if (length == 0 || plan.wire == FAULT_REPLY_LOST)
	{
		dispatch_unanswered(port, pdu_length + RTU_EXTRA);
		return;
	}
	if (meter != NULL && (answer[0] & 0x80) != 0)
		meter->refusals++;
	reply.request = request;
	reply.request_length = request_length;
	reply.request_chars = pdu_length + RTU_EXTRA;
	length = fault_shape(&plan, &unit, answer, length);
	modbus_frame(connection, &plan, request, unit, answer, length, &reply);
	dispatch_answer(connection, &plan, &reply);
}

/* Cuts Modbus TCP frames out. A header that is not Modbus ends the connection. */
void
modbus_cut_tcp(SmConnection *connection)
{
	const uint8_t *in = connection->in;
	int at = 0;

	while (connection->fd >= 0 && connection->in_length - at >= HEADER)
	{
		int length = in[at + 4] << 8 | in[at + 5];

		if (in[at + 2] != 0 || in[at + 3] != 0 || length < 2 || length > PDU_MAX + 1)
		{
			connection->port->malformed++;
			net_close(connection);
			return;
		}
		if (connection->in_length - at < HEADER - 1 + length)
			break;
		modbus_serve(connection, in + at, HEADER - 1 + length, in[at + 6], in + at + HEADER,
					 length - 1);
		at += HEADER - 1 + length;
	}
	net_consume(connection, at);
}

/* How long the RTU request in front is; 0 when that cannot be told yet. */
static int
modbus_rtu_length(const uint8_t *in, int got)
{
	if (got < 2)
		return 0;
	if (in[1] == 15 || in[1] == 16)
		return got < 7 ? 0 : 9 + in[6];
	return in[1] >= 1 && in[1] <= 6 ? 8 : 4;
}

/* Cuts RTU frames out. */
void
modbus_cut_rtu(SmConnection *connection)
{
	const uint8_t *in = connection->in;
	int at = 0;
	int length;

	while (connection->fd >= 0 &&
		   (length = modbus_rtu_length(in + at, connection->in_length - at)) > 0 &&
		   connection->in_length - at >= length)
	{
		uint16_t crc = modbus_crc(in + at, length - 2);

		if (in[at + length - 2] != (crc & 0xFF) || in[at + length - 1] != crc >> 8)
		{
			connection->port->malformed++;
			at = connection->in_length;
			break;
		}
		modbus_serve(connection, in + at, length, in[at], in + at + 1, length - RTU_EXTRA);
		at += length;
	}
	net_consume(connection, at);
}
