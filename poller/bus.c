/*
 * bus.c - one bus: the link to a gateway and the one question that is under way
 *
 *   DOWN --work due--> OPENING --the link is up--> READY <--answer, timeout-- WAITING
 *    ^                    |                          |  --question-------------->|
 *    +--------------------+--------------------------+---------------------------+
 *            no such host, refused, closed by the peer, bytes that are no Modbus
 *
 * Modbus TCP: transaction numbers tell answers apart; an answer that comes after its question was
 * given up is dropped, whoever it would fit. Where the stream itself is in doubt (half a frame and
 * then silence, a length that cannot be) the connection is closed, because TCP offers nothing to
 * find the next frame by.
 *
 * The other wires find their frames again after noise. Where answers carry no number (RTU, 645),
 * what came before a question is thrown away when it is asked; a frame that does not fit is dropped
 * and the wait goes on; and a meter that did not answer in time is not asked again until a late
 * answer can no longer be on its way (bus_late_us).
 *
 * An answer may come in several frames (DL/T 645): what follows is asked for at once, and whoever
 * asked sees one answer. A broadcast is answered by nobody and over after a moment.
 *
 * Nothing here blocks, and nothing here knows what the link is made of (link.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus_inside.h"
#include "clock.h"
#include "command.h"
#include "history.h"
#include "log.h"
#include "wall.h"

#define BUS_RETRY_FIRST_US (250 * US_PER_MS)
#define BUS_RETRY_MOST_US (30 * US_PER_S)
#define BUS_CONNECT_LEAST_MS 1000
#define BUS_DIAL_IN_MS 30000 /* a device that has not dialled in by then is offline */
#define BUS_SILENT_MOST 3
#define BUS_LATE_US (2 * US_PER_S)
#define BUS_BROADCAST_MS 300
#define BUS_REFUSED_MS 300

static void bus_up(void *context);
static void bus_readable(void *context);
static void bus_lost(void *context, const char *text);
static void bus_timer(void *context);

static const SmLinkEvents bus_link_events = {bus_up, bus_readable, bus_lost};

/* Makes a zeroed bus ready for bus_pump(). */
void
bus_init(SmBus *bus)
{
	link_init(&bus->link, bus->field->loop, &bus_link_events, bus);
	bus->online = -1;
	bus->late_us = -1;
	bus->timer.fire = bus_timer;
	bus->timer.context = bus;
}

static void
bus_set_online(SmBus *bus, bool online, const char *text)
{
	if (bus->online != online)
	{
		bus->online = online;
		bus->dirty = true;
		if (online)
			log_info("gateway %d/%lld (%s) answers", bus->site_id, (long long) bus->gateway_id,
					 bus->link.via);
		else
			log_warning("gateway %d/%lld (%s): %s", bus->site_id, (long long) bus->gateway_id,
						bus->link.route->address, text);
	}
	field_set_error(bus->error, online ? NULL : text, &bus->dirty);
}

/* Ends a question with an answer, or with the lack of one. */
static void
bus_finish(SmBus *bus, const SmAnswer *answer)
{
	SmExchange exchange = bus->exchange;

	bus->exchange.done = NULL;
	if (answer->kind != ANSWER_GOOD && answer->kind != ANSWER_EXCEPTION)
		bus->errors++;
	if (exchange.done != NULL)
		exchange.done(exchange.context, &exchange.request, answer);
}

/* Closes the connection without telling anybody; the next one is tried at retry_us. */
static void
bus_drop(SmBus *bus)
{
	loop_cancel(bus->field->loop, &bus->timer);
	link_close(&bus->link);
	bus->state = BUS_DOWN;
	bus->unclaimed = false;
	bus->input_length = 0;
	bus->silent = 0;
}

/* Closes the bus for good; a question under way is not answered any more. */
void
bus_close(SmBus *bus)
{
	bus_drop(bus);
	free(bus->join);
	bus->join = NULL;
	bus->exchange.done = NULL;
}

/* How long to wait before the next connection. */
static int64_t
bus_retry_us(const SmBus *bus)
{
	int shift = bus->failures > 8 ? 8 : bus->failures;
	int64_t wait_us = BUS_RETRY_FIRST_US << shift;

	return base_jitter_us(wait_us < BUS_RETRY_MOST_US ? wait_us : BUS_RETRY_MOST_US);
}

/* Whether what becomes of a bus is for us to tell: another poller may have the device. */
static bool
bus_is_ours(const SmBus *bus)
{
	return bus->link.route->kind != ROUTE_LISTEN || bus->ours || bus->field->alone;
}

/* The connection came to nothing, or went away: close it and say so to who waits. */
void
bus_lose(SmBus *bus, const char *text)
{
	SmAnswer answer = {.kind = ANSWER_BROKEN, .text = text};
	bool waiting = bus->state == BUS_WAITING;
	bool useless = bus->state == BUS_OPENING || !bus->answered;

	log_debug("gateway %d/%lld: %s", bus->site_id, (long long) bus->gateway_id, text);
	if (bus->state != BUS_OPENING && !bus->heard)
		link_blame(&bus->link);
	bus_drop(bus);
	bus->retry_us = base_now_us() + bus_retry_us(bus);
	if (useless)
		bus->failures++;
	if ((useless || waiting) && bus_is_ours(bus))
		bus_set_online(bus, false, text);
	if (waiting)
		bus_finish(bus, &answer);
	if (useless && bus_is_ours(bus))
	{
		command_bus_failed(bus, text);
		round_bus_failed(bus, text);
		history_drop_all(bus);
		clock_drop_all(bus);
	}
	bus_pump(bus);
}

/* The link cannot be opened, or came to its end. */
static void
bus_lost(void *context, const char *text)
{
	bus_lose(context, text);
}

/* The link stands, and nothing was said on it yet. */
static void
bus_stand(SmBus *bus)
{
	bus->state = BUS_READY;
	bus->up_us = base_now_us();
	bus->answered = false;
	bus->heard = false;
	bus->silent = 0;
	if (bus->failures > 0 || bus->link.route->kind == ROUTE_LISTEN)
		round_bus_up(bus);
}

static void
bus_up(void *context)
{
	bus_stand(context);
	bus_pump(context);
}

/* Begins to open the link. */
static void
bus_open(SmBus *bus)
{
	int limit_ms = bus->timeout_ms > BUS_CONNECT_LEAST_MS ? bus->timeout_ms : BUS_CONNECT_LEAST_MS;

	if (bus->link.route->kind == ROUTE_LISTEN)
		limit_ms = BUS_DIAL_IN_MS;
	loop_cancel(bus->field->loop, &bus->timer);
	bus->state = BUS_OPENING;
	link_open(&bus->link, limit_ms);
}

static void
bus_reset_join(SmBus *bus)
{
	if (bus->join != NULL)
		bus->join->frames = bus->join->length = 0;
}

/* Throws away what came in before a question that could take it for its answer. */
static void
bus_drain(SmBus *bus)
{
	bus->input_length = 0;
	link_drain(&bus->link);
}

/* Puts what is asked on the wire; false when nothing, or not all of it, could be sent. */
bool
bus_put(SmBus *bus, const char **why, bool *sent_some)
{
	uint8_t bytes[WIRE_FRAME_MAX];
	int timeout_ms = bus->exchange.timeout_ms > 0 ? bus->exchange.timeout_ms : bus->timeout_ms;
	int length;
	ssize_t sent;

	*sent_some = false;
	/* A concentrator has to give up on a meter before we give up on the concentrator. */
	bus->wire.timeout_ms = timeout_ms > 2000 ? timeout_ms - 1000 : timeout_ms / 2;
	length = wire_frame(&bus->wire, &bus->asked, bytes);
	*why = "the concentrator has not said who it is";
	if (length == 0)
		return false;
	if (!wire_is_numbered(bus->wire.kind))
		bus_drain(bus);
	sent = link_send(&bus->link, bytes, (size_t) length, why);
	*sent_some = sent > 0;
	if (sent != length)
		return false;
	bus->sent_us = base_now_us();
	if (bus->asked.unanswered)
		timeout_ms = BUS_BROADCAST_MS;
	loop_set(bus->field->loop, &bus->timer, bus->sent_us + timeout_ms * US_PER_MS);
	return true;
}

/* Asks a question. */
static void
bus_send(SmBus *bus, const SmExchange *exchange)
{
	SmAnswer unsent = {.kind = ANSWER_UNSENT, .text = "the connection was gone before sending"};
	const char *why;
	bool sent_some;

	bus->exchange = *exchange;
	bus->asked = exchange->request;
	bus->state = BUS_WAITING;
	bus->asked_us = base_now_us();
	bus->requests++;
	bus_reset_join(bus);
	if (bus_put(bus, &why, &sent_some))
		return;
	if (!sent_some)
	{
		bus->state = BUS_READY;
		bus_finish(bus, &unsent);
	}
	bus_lose(bus, why);
}

/* Chooses the next question: commands before everything else, what is fetched later after it. */
static bool
bus_choose(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us)
{
	bool hold = false;

	if (command_next(bus, now_us, exchange, wake_us, &hold))
		return true;
	if (hold)
		return false;
	if (history_is_late(bus, now_us) && history_next(bus, now_us, exchange, wake_us))
		return true;
	if (clock_is_late(bus, now_us) && clock_next(bus, now_us, exchange, wake_us))
		return true;
	return round_next(bus, now_us, exchange, wake_us) ||
		   clock_next(bus, now_us, exchange, wake_us) ||
		   history_next(bus, now_us, exchange, wake_us);
}

/* Does what there is to do now, or sets the timer to when there will be something. */
void
bus_pump(SmBus *bus)
{
	int64_t now_us = base_now_us();
	int64_t wake_us = INT64_MAX;
	SmExchange exchange = {0};

	if (bus->state == BUS_DOWN)
	{
		int64_t command_us = command_wake(bus, now_us);

		wake_us = round_wake(bus, now_us);
		if (command_us < wake_us)
			wake_us = command_us;
		if (wake_us <= now_us && bus->retry_us <= now_us)
		{
			bus_open(bus);
			return;
		}
		if (wake_us != INT64_MAX && wake_us < bus->retry_us)
			wake_us = bus->retry_us;
	}
	else if (bus->state != BUS_READY || bus->unclaimed || now_us >= bus->field->until_us)
		return;
	else if (now_us < bus->quiet_us || now_us < bus->link.clear_us)
		wake_us = bus->quiet_us > bus->link.clear_us ? bus->quiet_us : bus->link.clear_us;
	else if (bus_choose(bus, now_us, &exchange, &wake_us))
	{
		bus_send(bus, &exchange);
		return;
	}
	if (wake_us != INT64_MAX)
		loop_set(bus->field->loop, &bus->timer, wake_us);
	else
		loop_cancel(bus->field->loop, &bus->timer);
}

/* Lets a bus look for work at the next turn of the loop. */
void
bus_wake(SmBus *bus)
{
	if (bus->state == BUS_DOWN || bus->state == BUS_READY)
		loop_set(bus->field->loop, &bus->timer, base_now_us());
}

/* Like bus_wake(), but does not wait for the time of the next connection either. */
void
bus_hurry(SmBus *bus)
{
	if (bus->state == BUS_DOWN)
		bus->retry_us = 0;
	bus_wake(bus);
}

/* Whoever is gone gets no answer any more. */
void
bus_forget(SmBus *bus, void *context)
{
	if (bus->exchange.context == context)
		bus->exchange.done = NULL;
}

/*
 * The pause after an answer or a timeout, and on to the next question. A refusal, which does not
 * say of what, is given time to come a second and a third time, as happens on real lines.
 */
static void
bus_rest(SmBus *bus, const SmExchange *exchange, bool refused)
{
	int pause_ms = bus->gap_ms > exchange->turnaround_ms ? bus->gap_ms : exchange->turnaround_ms;

	if (refused && bus->wire.kind == WIRE_DLT645 && pause_ms < BUS_REFUSED_MS)
		pause_ms = BUS_REFUSED_MS;
	if (bus->state != BUS_WAITING)
		return;
	bus->state = BUS_READY;
	bus->quiet_us = base_now_us() + pause_ms * US_PER_MS;
	bus->busy_us += bus->quiet_us - bus->asked_us;
	loop_cancel(bus->field->loop, &bus->timer);
}

/*
 * How long the meter that gave this answer, or none, must not be asked again: an answer without a
 * number that comes late would be taken for that to the next question, and where the question is
 * the same one, for a newer reading than it is.
 */
int64_t
bus_late_us(const SmBus *bus, const SmAnswer *answer)
{
	int64_t late_us = 2 * bus->timeout_ms * US_PER_MS;

	if (wire_is_numbered(bus->wire.kind) || answer->kind != ANSWER_TIMEOUT)
		return 0;
	return late_us > BUS_LATE_US ? late_us : BUS_LATE_US;
}

/* The question under way is over. */
void
bus_answer(SmBus *bus, SmAnswer *answer)
{
	SmExchange exchange = bus->exchange;

	answer->wall_ms = wall_now_ms();
	answer->took_us = base_now_us() - bus->sent_us;
	bus->answered = true;
	bus->heard = true;
	bus->silent = 0;
	bus->failures = 0;
	bus_set_online(bus, true, NULL);
	bus_rest(bus, &exchange, answer->kind == ANSWER_EXCEPTION);
	bus_finish(bus, answer);
}

/*
 * A device has dialled in and said who it is; bytes are what it said after that. The newest
 * connection is the right one.
 */
void
bus_welcome(SmBus *bus, SmLink *from, const uint8_t *bytes, int length)
{
	SmAnswer answer = {.kind = ANSWER_BROKEN, .text = "the device dialled in anew"};
	bool waiting = bus->state == BUS_WAITING;

	bus_drop(bus);
	link_adopt(&bus->link, from);
	memcpy(bus->input, bytes, (size_t) length);
	bus->input_length = length;
	if (waiting)
		bus_finish(bus, &answer);
	bus->unclaimed = !bus->field->hooks.dialled_in(bus->field->hooks.context, bus);
	bus->ours = bus->ours || !bus->unclaimed;
	bus_stand(bus);
	/* A greeting is answered before anything is asked. */
	if (length == 0 || bus_take_input(bus))
		bus_pump(bus);
}

/* The database knows that the device has dialled in here. */
void
bus_admit(SmBus *bus)
{
	if (!bus->unclaimed)
		return;
	bus->unclaimed = false;
	bus->ours = true;
	bus_wake(bus);
}

/* The device has dialled in at another poller: we let go of it and say nothing about it. */
void
bus_dismiss(SmBus *bus)
{
	SmAnswer answer = {.kind = ANSWER_BROKEN, .text = "the device dialled in at another poller"};
	bool waiting = bus->state == BUS_WAITING;
	int i;

	if (bus->state != BUS_READY && !waiting)
		return;
	log_info("gateway %d/%lld: %s", bus->site_id, (long long) bus->gateway_id, answer.text);
	bus_drop(bus);
	if (waiting)
		bus_finish(bus, &answer);
	bus->ours = false;
	bus->online = -1;
	bus->dirty = false;
	for (i = 0; i < bus->meter_count; i++)
	{
		bus->meters[i]->online = -1;
		bus->meters[i]->dirty = false;
	}
	bus_pump(bus);
}

/* Bytes came in. */
static void
bus_readable(void *context)
{
	SmBus *bus = context;
	const char *why;
	ssize_t got = link_receive(&bus->link, bus->input + bus->input_length,
							   sizeof(bus->input) - (size_t) bus->input_length, &why);

	if (got < 0)
		bus_lose(bus, why);
	if (got <= 0)
		return;
	bus->input_length += (int) got;
	if (bus_take_input(bus))
		bus_pump(bus);
}

/* No answer came in time. */
static void
bus_timeout(SmBus *bus)
{
	SmExchange exchange = bus->exchange;
	SmAnswer answer = {.kind = ANSWER_TIMEOUT, .text = "no answer in time"};

	if (bus->asked.unanswered)
	{
		answer = (SmAnswer){.kind = ANSWER_GOOD, .wall_ms = wall_now_ms()};
		bus_rest(bus, &exchange, false);
		bus_finish(bus, &answer);
		bus_pump(bus);
		return;
	}
	/* A meter known to be gone says nothing about the gateway, while others answer. */
	if (exchange.timeout_ms == 0 || !round_has_life(bus))
		bus->silent++;
	bus_rest(bus, &exchange, false);
	bus_finish(bus, &answer);
	if (bus->input_length > 0 && !bus_take_input(bus))
		return;
	if (bus->input_length > 0 && bus->wire.kind == WIRE_MODBUS_TCP)
		bus_lose(bus, "half a frame came and then nothing more");
	else if (bus->silent >= BUS_SILENT_MOST)
	{
		bus_set_online(bus, false, answer.text);
		bus->answered = true; /* connecting is not what fails here */
		bus_lose(bus, answer.text);
	}
	else
		bus_pump(bus);
}

static void
bus_timer(void *context)
{
	SmBus *bus = context;

	if (bus->state == BUS_WAITING)
		bus_timeout(bus);
	else
		bus_pump(bus);
}
