/*
 * bus.c - one bus: the connection to a gateway and the one question that is under way
 *
 *   DOWN --work due--> RESOLVING --> CONNECTING --> READY <--answer, timeout-- WAITING
 *    ^                    |              |            |  --question-------------->|
 *    +--------------------+--------------+------------+---------------------------+
 *            no such host, refused, closed by the peer, bytes that are no Modbus
 *
 * Modbus TCP: transaction numbers tell answers apart; an answer that comes after its question was
 * given up is dropped, whoever it would fit. Where the stream itself is in doubt (half a frame and
 * then silence, a length that cannot be) the connection is closed, because TCP offers nothing to
 * find the next frame by.
 *
 * RTU over TCP: frames are found by their checksum, and an answer is told by unit, function and
 * length alone. What came before a question is thrown away when it is asked; a frame that does not
 * fit is dropped and the wait goes on; and a unit that did not answer in time is not asked again
 * until a late answer can no longer be on its way (bus_late_us).
 *
 * Nothing here blocks; names are looked up in the background by the C library.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "command.h"
#include "field.h"
#include "log.h"
#include "rtu.h"

#define BUS_RETRY_FIRST_US (250 * US_PER_MS)
#define BUS_RETRY_MOST_US (30 * US_PER_S)
#define BUS_RESOLVE_US (20 * US_PER_MS)
#define BUS_CONNECT_LEAST_MS 1000
#define BUS_SILENT_MOST 3
#define BUS_LATE_US (2 * US_PER_S)

typedef struct SmLookup
{
	struct gaicb request;
	struct gaicb *list[1];
	struct addrinfo hints;
} SmLookup;

static void bus_ready(void *context, uint32_t events);
static void bus_timer(void *context);

/* Makes a zeroed bus ready for bus_pump(). */
void
bus_init(SmBus *bus)
{
	bus->fd = -1;
	bus->online = -1;
	bus->watch.ready = bus_ready;
	bus->watch.context = bus;
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
			log_info("gateway %d/%lld (%s:%s) answers", bus->site_id, (long long) bus->gateway_id,
					 bus->host, bus->port);
		else
			log_warning("gateway %d/%lld (%s:%s): %s", bus->site_id, (long long) bus->gateway_id,
						bus->host, bus->port, text);
	}
	field_set_error(bus->error, online ? NULL : text, &bus->dirty);
}

/* Frees a finished or abandoned look-up. One that is still running is left to the C library. */
static void
bus_drop_lookup(SmBus *bus)
{
	SmLookup *lookup = bus->lookup;

	bus->lookup = NULL;
	if (lookup == NULL || gai_cancel(&lookup->request) == EAI_NOTCANCELED)
		return;
	if (lookup->request.ar_result != NULL)
		freeaddrinfo(lookup->request.ar_result);
	free((char *) lookup->request.ar_name);
	free((char *) lookup->request.ar_service);
	free(lookup);
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
	loop_unwatch(bus->field->loop, &bus->watch);
	loop_cancel(bus->field->loop, &bus->timer);
	bus_drop_lookup(bus);
	if (bus->fd >= 0)
		close(bus->fd);
	bus->fd = -1;
	bus->state = BUS_DOWN;
	bus->input_length = 0;
	bus->silent = 0;
}

/* Closes the bus for good; a question under way is not answered any more. */
void
bus_close(SmBus *bus)
{
	bus_drop(bus);
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

/* The connection came to nothing, or went away: close it and say so to who waits. */
static void
bus_lose(SmBus *bus, const char *text)
{
	SmAnswer answer = {.kind = ANSWER_BROKEN, .text = text};
	bool waiting = bus->state == BUS_WAITING;
	bool useless = bus->state == BUS_RESOLVING || bus->state == BUS_CONNECTING || !bus->answered;

	log_debug("gateway %d/%lld: %s", bus->site_id, (long long) bus->gateway_id, text);
	bus_drop(bus);
	bus->retry_us = base_now_us() + bus_retry_us(bus);
	if (useless)
		bus->failures++;
	if (useless || waiting)
		bus_set_online(bus, false, text);
	if (waiting)
		bus_finish(bus, &answer);
	if (useless)
	{
		command_bus_failed(bus, text);
		round_bus_failed(bus, text);
	}
	bus_pump(bus);
}

/* The connection stands. */
static void
bus_connected(SmBus *bus)
{
	int error = 0;
	socklen_t size = sizeof(error);
	int on = 1;
	int idle_s = 30;

	getsockopt(bus->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0)
	{
		bus_lose(bus, strerror(error));
		return;
	}
	setsockopt(bus->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(bus->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(bus->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	loop_cancel(bus->field->loop, &bus->timer);
	loop_watch(bus->field->loop, &bus->watch, bus->fd, EPOLLIN);
	bus->state = BUS_READY;
	bus->answered = false;
	bus->silent = 0;
	if (bus->failures > 0)
		round_bus_up(bus);
	bus_pump(bus);
}

/* Begins to connect to the first address a look-up gave. */
static void
bus_connect(SmBus *bus, const struct addrinfo *address)
{
	int limit_ms = bus->timeout_ms > BUS_CONNECT_LEAST_MS ? bus->timeout_ms : BUS_CONNECT_LEAST_MS;
	int done;

	bus->state = BUS_CONNECTING;
	bus->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bus->fd < 0)
	{
		bus_lose(bus, strerror(errno));
		return;
	}
	done = connect(bus->fd, address->ai_addr, address->ai_addrlen);
	bus_drop_lookup(bus);
	if (done != 0 && errno != EINPROGRESS)
	{
		bus_lose(bus, strerror(errno));
		return;
	}
	loop_watch(bus->field->loop, &bus->watch, bus->fd, EPOLLOUT);
	loop_set(bus->field->loop, &bus->timer, base_now_us() + limit_ms * US_PER_MS);
}

/* Looks whether the name is known by now. */
static void
bus_check_lookup(SmBus *bus)
{
	SmLookup *lookup = bus->lookup;
	int error = gai_error(&lookup->request);

	if (error == EAI_INPROGRESS)
		loop_set(bus->field->loop, &bus->timer, base_now_us() + BUS_RESOLVE_US);
	else if (error != 0)
		bus_lose(bus, gai_strerror(error));
	else
		bus_connect(bus, lookup->request.ar_result);
}

/* Begins to find out the address; numbers are known at once, names are asked for aside. */
static void
bus_resolve(SmBus *bus)
{
	SmLookup *lookup = base_alloc(sizeof(SmLookup));
	struct addrinfo *result = NULL;
	int error;

	bus->state = BUS_RESOLVING;
	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	if (getaddrinfo(bus->host, bus->port, &lookup->hints, &result) == 0)
	{
		free(lookup);
		bus_connect(bus, result);
		freeaddrinfo(result);
		return;
	}
	lookup->hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
	lookup->request.ar_name = base_copy(bus->host);
	lookup->request.ar_service = base_copy(bus->port);
	lookup->request.ar_request = &lookup->hints;
	lookup->list[0] = &lookup->request;
	bus->lookup = lookup;
	error = getaddrinfo_a(GAI_NOWAIT, lookup->list, 1, NULL);
	if (error != 0)
		bus_lose(bus, gai_strerror(error));
	else
		loop_set(bus->field->loop, &bus->timer, base_now_us() + BUS_RESOLVE_US);
}

/* Throws away what came in before a question that could take it for its answer. */
static void
bus_drain(SmBus *bus)
{
	bus->input_length = 0;
	while (recv(bus->fd, bus->input, sizeof(bus->input), MSG_DONTWAIT) > 0)
		;
}

/* Puts a question on the wire. */
static void
bus_send(SmBus *bus, const SmExchange *exchange)
{
	uint8_t adu[MBAP_ADU_MAX];
	int length = bus->rtu ? rtu_frame(&exchange->request, adu)
						  : mbap_frame(&exchange->request, ++bus->transaction, adu);
	ssize_t sent;
	SmAnswer unsent = {.kind = ANSWER_UNSENT, .text = "the connection was gone before sending"};

	if (bus->rtu)
		bus_drain(bus);
	sent = send(bus->fd, adu, (size_t) length, MSG_NOSIGNAL);
	bus->exchange = *exchange;
	bus->state = BUS_WAITING;
	bus->requests++;
	if (sent == length)
	{
		loop_set(bus->field->loop, &bus->timer, base_now_us() + bus->timeout_ms * US_PER_MS);
		return;
	}
	if (sent <= 0)
	{
		bus->state = BUS_READY;
		bus_finish(bus, &unsent);
	}
	bus_lose(bus, sent < 0 ? strerror(errno) : "the gateway does not take more bytes");
}

/* Chooses the next question: commands before everything else. */
static bool
bus_choose(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us)
{
	bool hold = false;

	if (command_next(bus, now_us, exchange, wake_us, &hold))
		return true;
	return !hold && round_next(bus, now_us, exchange, wake_us);
}

/* Does what there is to do now, or sets the timer to when there will be something. */
void
bus_pump(SmBus *bus)
{
	int64_t now_us = base_now_us();
	int64_t wake_us = INT64_MAX;
	SmExchange exchange;

	if (bus->state == BUS_DOWN)
	{
		int64_t command_us = command_wake(bus, now_us);

		wake_us = round_wake(bus, now_us);
		if (command_us < wake_us)
			wake_us = command_us;
		if (wake_us <= now_us && bus->retry_us <= now_us)
		{
			bus_resolve(bus);
			return;
		}
		if (wake_us != INT64_MAX && wake_us < bus->retry_us)
			wake_us = bus->retry_us;
	}
	else if (bus->state != BUS_READY)
		return;
	else if (now_us < bus->quiet_us)
		wake_us = bus->quiet_us;
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

/* The pause after an answer or a timeout, and on to the next question. */
static void
bus_rest(SmBus *bus, const SmExchange *exchange)
{
	int pause_ms = bus->gap_ms > exchange->turnaround_ms ? bus->gap_ms : exchange->turnaround_ms;

	if (bus->state != BUS_WAITING)
		return;
	bus->state = BUS_READY;
	bus->quiet_us = base_now_us() + pause_ms * US_PER_MS;
	loop_cancel(bus->field->loop, &bus->timer);
}

/*
 * How long the unit that gave this answer, or none, must not be asked again: an answer without a
 * number that comes late would be taken for that to the next question.
 */
int64_t
bus_late_us(const SmBus *bus, const SmAnswer *answer)
{
	int64_t late_us = 2 * bus->timeout_ms * US_PER_MS;

	if (!bus->rtu || answer->kind != ANSWER_TIMEOUT)
		return 0;
	return late_us > BUS_LATE_US ? late_us : BUS_LATE_US;
}

/* Whether a frame is to be judged at all; one that belongs to another question is not. */
static bool
bus_is_awaited(const SmBus *bus, const SmFrame *frame)
{
	int exception;
	const char *why;

	if (bus->state != BUS_WAITING)
		return false;
	if (!bus->rtu)
		return frame->transaction == bus->transaction;
	return mbap_check(&bus->exchange.request, frame, &exception, &why) != REPLY_WRONG;
}

/* Judges a frame; one that is late is dropped. */
static void
bus_take_frame(SmBus *bus, const SmFrame *frame)
{
	SmExchange exchange = bus->exchange;
	SmAnswer answer = {.frame = frame, .wall_ms = base_wall_ms()};

	if (!bus_is_awaited(bus, frame))
	{
		log_debug("gateway %d/%lld: a late answer is dropped", bus->site_id,
				  (long long) bus->gateway_id);
		return;
	}
	switch (mbap_check(&exchange.request, frame, &answer.exception, &answer.text))
	{
		case REPLY_GOOD:
			answer.kind = ANSWER_GOOD;
			break;
		case REPLY_EXCEPTION:
			answer.kind = ANSWER_EXCEPTION;
			answer.text = mbap_exception_text(answer.exception);
			break;
		default:
			answer.kind = ANSWER_WRONG;
	}
	bus->answered = true;
	bus->silent = 0;
	bus->failures = 0;
	bus_set_online(bus, true, NULL);
	bus_rest(bus, &exchange);
	bus_finish(bus, &answer);
}

static SmFrameState
bus_find_frame(const SmBus *bus, int used, SmFrame *frame)
{
	const uint8_t *bytes = bus->input + used;
	int length = bus->input_length - used;

	return bus->rtu ? rtu_take(RTU_RESPONSE, bytes, length, frame)
					: mbap_take(bytes, length, frame);
}

/* Takes whole frames out of what came in; false when the connection was lost over it. */
static bool
bus_take_input(SmBus *bus)
{
	SmFrame frame;
	int used = 0;
	SmFrameState state;

	while ((state = bus_find_frame(bus, used, &frame)) == FRAME_WHOLE)
	{
		used += frame.taken;
		bus_take_frame(bus, &frame);
		if (bus->state == BUS_DOWN)
			return false;
	}
	if (bus->rtu)
		used += frame.taken; /* noise */
	else if (state == FRAME_BROKEN)
	{
		bus_lose(bus, "bytes that are no Modbus TCP came in");
		return false;
	}
	memmove(bus->input, bus->input + used, (size_t) (bus->input_length - used));
	bus->input_length -= used;
	return true;
}

static void
bus_ready(void *context, uint32_t events)
{
	SmBus *bus = context;
	ssize_t got;

	(void) events;
	if (bus->state == BUS_CONNECTING)
	{
		bus_connected(bus);
		return;
	}
	got = recv(bus->fd, bus->input + bus->input_length, sizeof(bus->input) - bus->input_length, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
	{
		bus_lose(bus, got == 0 ? "the gateway closed the connection" : strerror(errno));
		return;
	}
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

	bus->silent++;
	bus_rest(bus, &exchange);
	bus_finish(bus, &answer);
	if (bus->input_length > 0 && !bus->rtu)
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

	if (bus->state == BUS_RESOLVING)
		bus_check_lookup(bus);
	else if (bus->state == BUS_CONNECTING)
		bus_lose(bus, "could not connect in time");
	else if (bus->state == BUS_WAITING)
		bus_timeout(bus);
	else
		bus_pump(bus);
}
