/*
 * wire.c - how a question becomes bytes, and bytes become its answer, on each kind of wire
 *
 * Modbus TCP and 376.1 number their questions, so a late answer is told by its number. Modbus RTU
 * and DL/T 645 do not: there an answer must at least have the meter, the function and (645) the
 * item of the question or (RTU) its length, and a late answer to the very same question is kept
 * away by the bus, which does not ask it again too soon.
 */
#include <string.h>

#include "rtu.h"
#include "wire.h"

#define WIRE_Q376_LOGIN 1
#define WIRE_Q376_BEAT 3
#define WIRE_Q376_DENIED 2

static const struct
{
	const char *name;
	SmWireKind kind;
} wire_transports[] = {
	{"modbus-tcp", WIRE_MODBUS_TCP},  {"rtu-over-tcp", WIRE_RTU}, {"rtu", WIRE_RTU},
	{"dlt645-over-tcp", WIRE_DLT645}, {"dlt645", WIRE_DLT645},    {"q376-transparent", WIRE_Q376}};

/* The kind of wire behind gateway.transport. */
bool
wire_find_kind(const char *transport, SmWireKind *kind)
{
	size_t i;

	for (i = 0; i < sizeof(wire_transports) / sizeof(wire_transports[0]); i++)
	{
		if (strcmp(transport, wire_transports[i].name) == 0)
		{
			*kind = wire_transports[i].kind;
			return true;
		}
	}
	return false;
}

/* The protocol behind meter_model.protocol. */
bool
wire_find_protocol(const char *name, SmProtocol *protocol)
{
	static const char *const names[] = {"modbus", "dlt645-2007", "dlt645-1997"};
	int i;

	for (i = 0; i < 3; i++)
	{
		if (strcmp(name, names[i]) == 0)
		{
			*protocol = (SmProtocol) i;
			return true;
		}
	}
	return false;
}

/* Whether meters of this protocol can hang on this wire. */
bool
wire_carries(SmWireKind kind, SmProtocol protocol)
{
	bool modbus = kind == WIRE_MODBUS_TCP || kind == WIRE_RTU;

	return modbus == (protocol == PROTOCOL_MODBUS);
}

/* Whether answers carry the number of their question, so that late ones are known. */
bool
wire_is_numbered(SmWireKind kind)
{
	return kind == WIRE_MODBUS_TCP || kind == WIRE_Q376;
}

/* Reads meter.bus_address: a Modbus unit, or up to twelve digits of DL/T 645 (A: any). */
bool
wire_parse_target(SmProtocol protocol, const char *text, SmTarget *target)
{
	int unit = 0;
	int i;

	memset(target, 0, sizeof(*target));
	target->protocol = protocol;
	if (protocol != PROTOCOL_MODBUS)
		return dlt645_parse_address(text, target->address);
	for (i = 0; i < 3 && text[i] >= '0' && text[i] <= '9'; i++)
		unit = unit * 10 + text[i] - '0';
	target->unit = (uint8_t) unit;
	return i > 0 && text[i] == '\0' && unit <= 255;
}

/* The frame of DL/T 645, led in by bytes that wake what listens. */
static int
wire_frame_dlt645(const SmRequest *request, uint8_t *bytes)
{
	int lead = 4;

	memset(bytes, 0xFE, (size_t) lead);
	return lead + dlt645_frame(request->target.address, request->control, request->body,
							   request->length, bytes + lead);
}

/* The measuring point a question to the concentrator is about. */
static int
wire_point(const SmRequest *request)
{
	return request->body[0] | request->body[1] << 8;
}

static int
wire_frame_q376(SmWire *wire, const SmRequest *request, uint8_t *bytes)
{
	uint8_t inner[DLT645_FRAME_MAX + 4];
	int length;

	if (!wire->known)
		return 0;
	wire->seq = (wire->seq + 1) & 0x0F;
	if (request->station)
		return q376_build_daily(&wire->station, wire->seq, wire_point(request), request->body + 2,
								bytes);
	length = wire_frame_dlt645(request, inner);
	return q376_build_forward(&wire->station, wire->seq, wire->port, wire->line, wire->timeout_ms,
							  inner, length, NULL, bytes);
}

/*
 * Whether a question is of a kind this program has: reads, the writes of switch instructions, the
 * clock of DL/T 645. Nothing else leaves, whoever built it: a meter must never be cleared (19H to
 * 1BH), nor its address, speed or password be changed.
 */
bool
wire_may_ask(const SmRequest *request)
{
	static const uint8_t modbus[] = {1, 2, 3, 4, 5, 6, 16};
	static const uint8_t dlt_2007[] = {DLT645_READ_2007,  DLT645_FOLLOW_2007, DLT645_READ_ADDRESS,
									   DLT645_WRITE_2007, DLT645_SWITCH,      DLT645_CLOCK};
	static const uint8_t dlt_1997[] = {DLT645_READ_1997, DLT645_FOLLOW_1997, DLT645_WRITE_1997,
									   DLT645_CLOCK};

	if (request->station)
		return true; /* only read: q376_build_daily() */
	switch (request->target.protocol)
	{
		case PROTOCOL_MODBUS:
			return memchr(modbus, request->body[0], sizeof(modbus)) != NULL && request->length > 0;
		case PROTOCOL_DLT645_2007:
			return memchr(dlt_2007, request->control, sizeof(dlt_2007)) != NULL;
		case PROTOCOL_DLT645_1997:
			break;
	}
	return memchr(dlt_1997, request->control, sizeof(dlt_1997)) != NULL;
}

/*
 * Puts a question into at most WIRE_FRAME_MAX bytes and counts its number on; returns their
 * number, or 0 when it cannot be asked: the concentrator has not said who it is yet, or it is of a
 * kind that is never asked.
 */
int
wire_frame(SmWire *wire, const SmRequest *request, uint8_t *bytes)
{
	if (!wire_may_ask(request) || (request->station && wire->kind != WIRE_Q376))
		return 0;
	switch (wire->kind)
	{
		case WIRE_MODBUS_TCP:
			return mbap_frame(request, ++wire->transaction, bytes);
		case WIRE_RTU:
			return rtu_frame(request, bytes);
		case WIRE_DLT645:
			return wire_frame_dlt645(request, bytes);
		case WIRE_Q376:
			break;
	}
	return wire_frame_q376(wire, request, bytes);
}

static SmFrameState
wire_take_q376(const uint8_t *bytes, int length, SmReply *reply)
{
	SmFrameState state = q376_take(bytes, length, &reply->q376);
	const uint8_t *inner;
	int inner_length;

	reply->taken = reply->q376.taken;
	reply->forwarded = state == FRAME_WHOLE &&
					   q376_forwarded(&reply->q376, &inner, &inner_length) &&
					   dlt645_take(inner, inner_length, &reply->dlt) == FRAME_WHOLE;
	return state;
}

/*
 * Looks for the next frame. reply->taken bytes can be forgotten whatever comes of it. FRAME_BROKEN:
 * none of these bytes will begin a frame; on Modbus TCP, which has no mark to find the next frame
 * by, the stream is out of step and the connection has to be closed.
 */
SmFrameState
wire_take(const SmWire *wire, const uint8_t *bytes, int length, SmReply *reply)
{
	SmFrameState state;

	reply->taken = 0;
	switch (wire->kind)
	{
		case WIRE_MODBUS_TCP:
			state = mbap_take(bytes, length, &reply->modbus);
			reply->taken = state == FRAME_WHOLE ? reply->modbus.taken : 0;
			return state;
		case WIRE_RTU:
			state = rtu_take(RTU_RESPONSE, bytes, length, &reply->modbus);
			reply->taken = reply->modbus.taken;
			return state;
		case WIRE_DLT645:
			state = dlt645_take(bytes, length, &reply->dlt);
			reply->taken = reply->dlt.taken;
			return state;
		case WIRE_Q376:
			break;
	}
	return wire_take_q376(bytes, length, reply);
}

static SmRefusal
wire_modbus_refusal(int exception)
{
	switch (exception)
	{
		case 1:
			return REFUSAL_FUNCTION;
		case 2:
		case 3:
			return REFUSAL_NO_DATA;
		case 5:
		case 6:
			return REFUSAL_BUSY;
		case 10:
		case 11:
			return REFUSAL_UNREACHED;
		default:
			return REFUSAL_OTHER;
	}
}

static SmReplyKind
wire_check_modbus(const SmRequest *request, const SmFrame *frame, SmResult *result)
{
	SmReplyKind kind = mbap_check(request, frame, &result->code, &result->text);

	if (kind == REPLY_EXCEPTION)
	{
		result->refusal = wire_modbus_refusal(result->code);
		result->text = mbap_exception_text(result->code);
	}
	else if (kind == REPLY_GOOD && request->body[0] <= 4)
	{
		result->data = frame->pdu + 2;
		result->length = frame->length - 2;
	}
	return kind;
}

/* The bits of an error byte say: 1997 0 illegal data, 1 identifier; 2007 1 no data; both 2 password. */
static SmRefusal
wire_dlt645_refusal(SmProtocol protocol, int code)
{
	int no_data = protocol == PROTOCOL_DLT645_1997 ? 0x03 : 0x02;

	if ((code & 0x04) != 0)
		return REFUSAL_PASSWORD;
	return (code & no_data) != 0 ? REFUSAL_NO_DATA : REFUSAL_OTHER;
}

/* A good answer: what follows the identifier, and the number at the end of a follow-up frame. */
static SmReplyKind
wire_good_dlt645(const SmRequest *request, const SmDltFrame *frame, SmResult *result)
{
	int function = request->control & DLT645_FUNCTION;
	bool follows = function == DLT645_FOLLOW_2007 || function == DLT645_FOLLOW_1997;
	int di = function == 0x14 || function == 0x04 ? 0 : dlt645_di_bytes(request->control);

	result->data = frame->data + di;
	result->length = frame->length - di;
	if (follows && function == DLT645_FOLLOW_2007)
	{
		if (result->length < 1)
		{
			result->text = "a follow-up frame without its number";
			return REPLY_WRONG;
		}
		result->sequence = result->data[--result->length];
	}
	return (frame->control & DLT645_MORE) != 0 ? REPLY_MORE : REPLY_GOOD;
}

static SmReplyKind
wire_check_dlt645(const SmRequest *request, const SmDltFrame *frame, SmResult *result)
{
	SmReplyKind kind = dlt645_check(request->target.address, request->control, request->body,
									request->length, frame, &result->text);

	if (kind == REPLY_EXCEPTION)
	{
		result->code = frame->data[0];
		result->refusal = wire_dlt645_refusal(request->target.protocol, result->code);
		result->text = dlt645_error_text(frame, result->words, sizeof(result->words));
	}
	return kind == REPLY_GOOD ? wire_good_dlt645(request, frame, result) : kind;
}

/* An answer out of the concentrator's own record. */
static SmReplyKind
wire_check_record(const SmRequest *request, const SmQ376Frame *frame, SmResult *result)
{
	if (frame->afn == Q376_AFN_ACK && frame->function == WIRE_Q376_DENIED)
	{
		result->foreign = false;
		result->refusal = REFUSAL_NO_DATA;
		result->text = "the concentrator has no record of that day";
		return REPLY_EXCEPTION;
	}
	if (!q376_daily(frame, wire_point(request), request->body + 2, &result->data, &result->length))
		return REPLY_WRONG;
	result->foreign = false;
	return REPLY_GOOD;
}

static SmReplyKind
wire_check_q376(const SmWire *wire, const SmRequest *request, const SmReply *reply,
				SmResult *result)
{
	const SmQ376Frame *frame = &reply->q376;

	result->foreign = true;
	result->text = "not an answer of the concentrator";
	if ((frame->control & Q376_FROM_STATION) == 0 || !wire->known ||
		frame->address.region != wire->station.region ||
		frame->address.terminal != wire->station.terminal ||
		(frame->seq & 0x0F) != (wire->seq & 0x0F))
		return REPLY_WRONG;
	if (request->station)
		return wire_check_record(request, frame, result);
	if (frame->afn == Q376_AFN_ACK && frame->function == WIRE_Q376_DENIED)
	{
		result->refusal = REFUSAL_UNREACHED;
		result->text = "the concentrator denies the request: the meter does not answer it";
		return REPLY_EXCEPTION;
	}
	if (frame->afn != Q376_AFN_FORWARD)
		return REPLY_WRONG;
	result->foreign = false;
	if (!reply->forwarded)
	{
		result->refusal = REFUSAL_UNREACHED;
		result->text = "the concentrator has no answer of the meter";
		return REPLY_EXCEPTION;
	}
	return wire_check_dlt645(request, &reply->dlt, result);
}

/* Judges a frame as the answer to the question under way. */
SmReplyKind
wire_check(const SmWire *wire, const SmRequest *request, const SmReply *reply, SmResult *result)
{
	SmReplyKind kind;

	memset(result, 0, sizeof(*result));
	result->sequence = -1;
	switch (wire->kind)
	{
		case WIRE_MODBUS_TCP:
			if (reply->modbus.transaction == wire->transaction)
				return wire_check_modbus(request, &reply->modbus, result);
			result->text = "a late answer";
			result->foreign = true;
			return REPLY_WRONG;
		case WIRE_RTU:
			kind = wire_check_modbus(request, &reply->modbus, result);
			break;
		case WIRE_DLT645:
			kind = wire_check_dlt645(request, &reply->dlt, result);
			break;
		default:
			return wire_check_q376(wire, request, reply, result);
	}
	result->foreign = kind == REPLY_WRONG;
	return kind;
}

/*
 * Builds into at most WIRE_FRAME_MAX bytes what a frame wants to hear that came unasked: logins and
 * heartbeats of a concentrator. Returns their number; 0: nothing. A concentrator that the plan
 * does not know by its address is known from its first login on.
 */
int
wire_unasked(SmWire *wire, const SmReply *reply, uint8_t *bytes)
{
	const SmQ376Frame *frame = &reply->q376;

	if (wire->kind != WIRE_Q376 || (frame->control & Q376_FROM_STATION) == 0 ||
		frame->afn != Q376_AFN_LINK || frame->function < WIRE_Q376_LOGIN ||
		frame->function > WIRE_Q376_BEAT)
		return 0;
	if (!wire->known)
	{
		wire->known = true;
		wire->station = frame->address;
	}
	if (frame->address.region != wire->station.region ||
		frame->address.terminal != wire->station.terminal)
		return 0;
	return q376_build_ack(frame, bytes);
}

/* Adds the part of an answer that came; false when it does not follow the part before. */
bool
wire_join(SmJoin *join, const SmResult *result, const char **why)
{
	*why = "a follow-up frame has the wrong number";
	if (join->frames > 0 && result->sequence >= 0 && result->sequence != join->frames)
		return false;
	*why = "the answer is longer than it may be";
	if (join->length + result->length > WIRE_JOIN_MAX || join->frames == UINT8_MAX)
		return false;
	if (result->length > 0) /* an acknowledgement has no data */
		memcpy(join->data + join->length, result->data, (size_t) result->length);
	join->length += result->length;
	join->frames++;
	*why = NULL;
	return true;
}

/* Builds the question for what follows the frames that are there. */
void
wire_follow(const SmRequest *first, const SmJoin *join, SmRequest *next)
{
	bool old = first->target.protocol == PROTOCOL_DLT645_1997;
	int di = dlt645_di_bytes(first->control);

	*next = *first;
	next->control = old ? DLT645_FOLLOW_1997 : DLT645_FOLLOW_2007;
	next->length = (uint8_t) di;
	if (!old)
		next->body[next->length++] = (uint8_t) join->frames;
}
