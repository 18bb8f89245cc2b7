/*
 * cabinet_port.c - one question at a time over a link, waiting for the answer
 *
 * A person waits, so this is a loop that turns until the answer is there or the time is over. What
 * came in before a question is thrown away when it is asked; an answer that is not the one asked
 * for is remembered and the wait goes on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cabinet_port.h"
#include "decode.h"

#define PORT_OPEN_MS 5000
#define PORT_GAP_US (5 * US_PER_MS)

static void
port_up(void *context)
{
	((SmPort *) context)->up = true;
}

static void
port_lost(void *context, const char *text)
{
	SmPort *port = context;

	port->up = false;
	port->down = true;
	snprintf(port->why, sizeof(port->why), "%s", text);
}

static void
port_readable(void *context)
{
	SmPort *port = context;
	const char *why = NULL;
	ssize_t got = 0;

	while (port->length < PORT_BYTES &&
		   (got = link_receive(&port->link, port->bytes + port->length,
							   (size_t) (PORT_BYTES - port->length), &why)) > 0)
		port->length += (int) got;
	port->fresh = true;
	if (got < 0)
	{
		link_close(&port->link);
		port_lost(port, why);
	}
}

static void
port_timer(void *context)
{
	((SmPort *) context)->late = true;
}

static const SmLinkEvents port_events = {port_up, port_readable, port_lost};

/* The name a transport has for this wire at this address. */
static const char *
port_transport(const char *address, const char *wire)
{
	bool serial = address[0] == '/';

	if (strcmp(wire, "rtu") == 0 || strcmp(wire, "rtu-over-tcp") == 0)
		return serial ? "rtu" : "rtu-over-tcp";
	if (strcmp(wire, "dlt645") == 0 || strcmp(wire, "dlt645-over-tcp") == 0)
		return serial ? "dlt645" : "dlt645-over-tcp";
	if (strcmp(wire, "modbus-tcp") == 0 && !serial)
		return wire;
	return NULL;
}

static void
port_wait(SmPort *port, int64_t due_us)
{
	port->late = false;
	loop_set(port->loop, &port->timer, due_us);
}

/* Connects again, or for the first time; false, with the reason in why, when it cannot be. */
static bool
port_connect(SmPort *port)
{
	if (port->up)
		return true;
	port->down = false;
	if (port->dial_in)
		return door_wait(port);
	link_open(&port->link, PORT_OPEN_MS);
	while (!port->up && !port->down)
		loop_turn(port->loop);
	return port->up;
}

/* Makes a zeroed port and connects it; false, with the reason in why. port_close() in any case. */
bool
port_open(SmPort *port, const char *address, const char *wire, int timeout_ms)
{
	SmRouteText text = {.transport = port_transport(address, wire),
						.address = address,
						.dial_in = port->dial_in,
						.registration = port->dial_in ? "any" : NULL};
	const char *why = "this wire does not go with this address";

	port->timeout_ms = timeout_ms;
	port->stray_unit = -1;
	port->loop = loop_create();
	port->timer.fire = port_timer;
	port->timer.context = port;
	link_init(&port->link, port->loop, &port_events, port);
	port->link.route = &port->route;
	if (text.transport == NULL || !route_parse(&text, &port->route, &why) ||
		!wire_find_kind(text.transport, &port->wire.kind))
	{
		snprintf(port->why, sizeof(port->why), "%s", why);
		return false;
	}
	return port_connect(port);
}

void
port_close(SmPort *port)
{
	if (port->loop == NULL)
		return;
	link_close(&port->link);
	loop_cancel(port->loop, &port->timer);
	loop_free(port->loop);
	route_free(&port->route);
	port->loop = NULL;
}

/* The decoder of frames that go this way. */
static const char *
port_decoder(const SmPort *port, char direction)
{
	switch (port->wire.kind)
	{
		case WIRE_MODBUS_TCP:
			return "modbus-tcp";
		case WIRE_RTU:
			return direction == '>' ? "modbus-rtu-request" : "modbus-rtu-response";
		default:
			return "dlt645";
	}
}

/* Shows bytes that went to the meter (>) or came from it (<): time, bytes, and what they mean. */
void
port_print(const SmPort *port, char direction, const uint8_t *bytes, int length)
{
	struct timespec now;
	struct tm local;
	int i;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	printf("%02d:%02d:%02d.%03d %c", local.tm_hour, local.tm_min, local.tm_sec,
		   (int) (now.tv_nsec / 1000000), direction);
	for (i = 0; i < length; i++)
		printf(" %02X", bytes[i]);
	putchar('\n');
	decode_bytes(port_decoder(port, direction), bytes, length);
	fflush(stdout);
}

/* Sends a question on a quiet line; false when the connection is lost. */
static bool
port_send(SmPort *port, const SmRequest *request)
{
	uint8_t frame[WIRE_FRAME_MAX];
	const char *why = NULL;
	int length;

	if (!port_connect(port))
		return false;
	port_wait(port, base_now_us() + PORT_GAP_US);
	while (!port->late && port->up)
		loop_turn(port->loop);
	if (!port_connect(port))
		return false;
	link_drain(&port->link);
	port->length = 0;
	port->stray[0] = '\0';
	length = wire_frame(&port->wire, request, frame);
	if (port->frames)
		port_print(port, '>', frame, length);
	/* A question is short: a link that does not take it whole is of no use. */
	if (link_send(&port->link, frame, (size_t) length, &why) == length)
		return true;
	link_close(&port->link);
	port_lost(port, why);
	return false;
}

/* Remembers who answered a question of somebody else. */
static void
port_note_stray(SmPort *port, const SmReply *reply)
{
	char address[DLT645_ADDRESS_TEXT];

	if (port->wire.kind == WIRE_MODBUS_TCP || port->wire.kind == WIRE_RTU)
	{
		port->stray_unit = reply->modbus.unit;
		snprintf(port->stray, sizeof(port->stray), "unit %d: %s", reply->modbus.unit,
				 port->result.text);
		return;
	}
	dlt645_address_text(reply->dlt.address, address);
	snprintf(port->stray, sizeof(port->stray), "%s: %s", address, port->result.text);
}

/* Looks for the answer among the bytes that have come; false: not there yet. */
static bool
port_take(SmPort *port, const SmRequest *request, SmReplyKind *kind)
{
	SmReply reply;

	while (port->length > 0)
	{
		SmFrameState state = wire_take(&port->wire, port->bytes, port->length, &reply);

		if (state == FRAME_BROKEN && reply.taken == 0)
			reply.taken = port->length;
		if (state == FRAME_WHOLE)
		{
			*kind = wire_check(&port->wire, request, &reply, &port->result);
			if (*kind == REPLY_GOOD || *kind == REPLY_MORE)
			{
				const char *why;

				if (!wire_join(&port->join, &port->result, &why))
				{
					port->result.text = why;
					*kind = REPLY_EXCEPTION;
				}
			}
		}
		if (port->frames && reply.taken > 0)
			port_print(port, '<', port->bytes, reply.taken);
		if (state == FRAME_WHOLE && *kind == REPLY_WRONG)
			port_note_stray(port, &reply);
		port->length -= reply.taken;
		memmove(port->bytes, port->bytes + reply.taken, (size_t) port->length);
		if (state == FRAME_WHOLE && *kind != REPLY_WRONG)
			return true;
		if (state == FRAME_PARTIAL)
			return false;
	}
	return false;
}

/* Asks one question, and for the rest of its answer where it is long. */
SmPortOutcome
port_ask(SmPort *port, const SmRequest *request, int timeout_ms)
{
	SmRequest question = *request;
	SmReplyKind kind;

	memset(&port->join, 0, sizeof(port->join));
	port->stray_unit = -1;
	for (;;)
	{
		if (!port_send(port, &question))
			return PORT_LOST;
		port_wait(port, base_now_us() + timeout_ms * US_PER_MS +
							link_transit_us(&port->link, WIRE_FRAME_MAX));
		while (!port_take(port, &question, &kind))
		{
			if (port->late || port->down)
				return port->down ? PORT_LOST : PORT_SILENT;
			loop_turn(port->loop);
		}
		loop_cancel(port->loop, &port->timer);
		if (kind != REPLY_MORE)
			return kind == REPLY_GOOD ? PORT_GOOD : PORT_REFUSED;
		wire_follow(request, &port->join, &question);
	}
}

/* Bytes that are neither a frame nor what may lead one in. */
static int
port_noise(const uint8_t *bytes, int length)
{
	int noise = 0;
	int i;

	for (i = 0; i < length; i++)
		noise += bytes[i] != 0xFE;
	return noise;
}

/*
 * Asks a question of DL/T 645 that several meters may answer and listens to the end of the time.
 * False when the connection is lost.
 */
bool
port_collect(SmPort *port, const SmRequest *request, int timeout_ms, SmPortCatch *caught)
{
	SmReply reply;
	SmFrameState state;

	memset(caught, 0, sizeof(*caught));
	if (!port_send(port, request))
		return false;
	port_wait(port, base_now_us() + timeout_ms * US_PER_MS);
	while (!port->late && !port->down)
		loop_turn(port->loop);
	while (port->length > 0 && caught->count < 32)
	{
		state = wire_take(&port->wire, port->bytes, port->length, &reply);
		if (state != FRAME_WHOLE)
			break;
		if (port->frames)
			port_print(port, '<', port->bytes, reply.taken);
		caught->noise += port_noise(port->bytes, reply.dlt.skipped);
		caught->frames[caught->count++] = reply.dlt;
		port->length -= reply.taken;
		memmove(port->bytes, port->bytes + reply.taken, (size_t) port->length);
	}
	caught->noise += port_noise(port->bytes, port->length);
	if (port->frames && port->length > 0)
		port_print(port, '<', port->bytes, port->length);
	port->length = 0;
	return !port->down;
}

/* What became of a question, in words. */
const char *
port_outcome_text(const SmPort *port, SmPortOutcome outcome)
{
	switch (outcome)
	{
		case PORT_GOOD:
			return "good";
		case PORT_REFUSED:
			return port->result.text != NULL ? port->result.text : "refused";
		case PORT_SILENT:
			return port->stray[0] != '\0' ? port->stray : "no answer";
		case PORT_LOST:
			break;
	}
	return port->why;
}
