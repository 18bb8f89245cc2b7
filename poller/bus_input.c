/*
 * bus_input.c - what comes in on a bus: answers, parts of answers, and what a device says by itself
 *
 * A frame that does not answer the question under way is dropped, and the wait goes on. What a
 * device says of its own accord (heartbeats, its registration again) is taken out wherever no
 * frame stands.
 */
#include <string.h>

#include "bus_inside.h"
#include "log.h"

#define BUS_CHATTER_SURE 4 /* so many bytes at least are hardly the beginning of an answer */

/* Whether the first part of an answer is there. */
static bool
bus_is_joining(const SmBus *bus)
{
	return bus->join != NULL && bus->join->frames > 0;
}

/* A frame that answers nothing: a late answer, or one that wants to hear something itself. */
static void
bus_take_unasked(SmBus *bus, const SmReply *reply)
{
	uint8_t bytes[WIRE_FRAME_MAX];
	int length = wire_unasked(&bus->wire, reply, bytes);
	const char *why;

	if (length == 0)
		log_debug("gateway %d/%lld: a late answer is dropped", bus->site_id,
				  (long long) bus->gateway_id);
	else if (link_send(&bus->link, bytes, (size_t) length, &why) != length)
		log_debug("gateway %d/%lld: a greeting could not be answered", bus->site_id,
				  (long long) bus->gateway_id);
}

/* A part of an answer came: it is kept, and what follows is asked for. */
static void
bus_ask_on(SmBus *bus)
{
	SmAnswer broken = {.kind = ANSWER_WRONG};
	bool sent_some;

	wire_follow(&bus->exchange.request, bus->join, &bus->asked);
	if (bus_put(bus, &broken.text, &sent_some))
		return;
	bus_lose(bus, broken.text);
}

/* Adds a part to an answer of several frames; false when it is not the next one. */
static bool
bus_join(SmBus *bus, const SmResult *result, SmAnswer *answer)
{
	if (bus->join == NULL)
		bus->join = base_alloc(sizeof(SmJoin));
	if (!wire_join(bus->join, result, &answer->text))
	{
		answer->kind = ANSWER_WRONG;
		return false;
	}
	answer->data = bus->join->data;
	answer->length = bus->join->length;
	return true;
}

/* Judges a frame; one that belongs to another question is dropped, and the wait goes on. */
static void
bus_take_frame(SmBus *bus, const SmReply *reply)
{
	SmResult result;
	SmAnswer answer = {.kind = ANSWER_GOOD};
	SmReplyKind kind = REPLY_WRONG;

	if (bus->state == BUS_WAITING)
		kind = wire_check(&bus->wire, &bus->asked, reply, &result);
	if (bus->state != BUS_WAITING || (kind == REPLY_WRONG && result.foreign))
	{
		bus_take_unasked(bus, reply);
		return;
	}
	answer.data = result.data;
	answer.length = result.length;
	answer.text = result.text;
	answer.code = result.code;
	answer.refusal = result.refusal;
	if (kind == REPLY_EXCEPTION)
		answer.kind = ANSWER_EXCEPTION;
	else if (kind == REPLY_WRONG)
		answer.kind = ANSWER_WRONG;
	else if ((kind == REPLY_MORE || bus_is_joining(bus)) && bus_join(bus, &result, &answer) &&
			 kind == REPLY_MORE)
	{
		bus_ask_on(bus);
		return;
	}
	bus_answer(bus, &answer);
}

/*
 * Takes what a device says of its own accord from where a frame could begin, and answers its
 * heartbeat. Something short could as well be the beginning of the answer that is awaited: that is
 * decided when it has turned out to be no frame. MATCH_PARTIAL: it may become chatter.
 */
static SmMatch
bus_take_chatter(SmBus *bus, int *used, bool no_frame)
{
	const SmRoute *route = bus->link.route;
	const SmBytes *answer = &route->heartbeat_answer;
	const char *why;
	int taken = 0;
	bool beat = false;
	SmMatch match;

	if (bus->input_length == *used)
		return MATCH_NONE;
	match = route_chatter(route, bus->input + *used, bus->input_length - *used, &taken, &beat);
	if (match != MATCH_WHOLE)
		return match;
	if (bus->state == BUS_WAITING && taken < BUS_CHATTER_SURE && !no_frame)
		return MATCH_NONE;
	*used += taken;
	if (beat && answer->length > 0 &&
		link_send(&bus->link, answer->data, (size_t) answer->length, &why) != answer->length)
		log_debug("gateway %d/%lld: its heartbeat could not be answered: %s", bus->site_id,
				  (long long) bus->gateway_id, why);
	return MATCH_WHOLE;
}

/* Takes whole frames out of what came in; false when the connection was lost over it. */
bool
bus_take_input(SmBus *bus)
{
	SmReply reply;
	int used = 0;
	SmFrameState state;
	SmMatch chatter;

	for (;;)
	{
		chatter = bus_take_chatter(bus, &used, false);
		if (chatter == MATCH_WHOLE)
			continue;
		state = wire_take(&bus->wire, bus->input + used, bus->input_length - used, &reply);
		if (state == FRAME_WHOLE)
		{
			used += reply.taken;
			bus_take_frame(bus, &reply);
			if (bus->state == BUS_DOWN)
				return false;
			if (bus->input_length == 0)
				return true; /* thrown away with what came before the question just asked */
		}
		else if (chatter == MATCH_PARTIAL || state == FRAME_PARTIAL ||
				 bus_take_chatter(bus, &used, true) != MATCH_WHOLE)
			break;
	}
	if (chatter != MATCH_PARTIAL)
		used += reply.taken; /* noise */
	if (state == FRAME_BROKEN && chatter != MATCH_PARTIAL && bus->wire.kind == WIRE_MODBUS_TCP)
	{
		bus_lose(bus, "bytes that are no Modbus TCP came in");
		return false;
	}
	memmove(bus->input, bus->input + used, (size_t) (bus->input_length - used));
	bus->input_length -= used;
	return true;
}
