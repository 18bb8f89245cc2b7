/*
 * cabinet_watch.c - watch: what goes over a wire, both ways, with what it means
 *
 *   --model and --unit     asks the meter itself, again and again
 *   --listen HOST:PORT     stands between somebody and the gateway and hands everything on
 *   neither                only listens, on a serial line beside the one who asks
 *
 * Bytes of one direction are shown together once the other one speaks or the line is quiet.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cabinet.h"
#include "decode.h"
#include "rtu.h"

#define WATCH_QUIET_US (30 * US_PER_MS)

typedef struct SmEavesdrop
{
	SmPort port; /* towards the gateway; its bytes are what it says */
	int listener;
	int client;
	SmWatch arrivals;
	SmWatch asking;
	SmTimer quiet;
	uint8_t asked[PORT_BYTES];
	int asked_length;
	bool broken;
} SmEavesdrop;

static volatile sig_atomic_t watch_over;

static void
watch_signal(int number)
{
	(void) number;
	watch_over = 1;
}

/* Shows what has come from one side and forgets it. */
static void
watch_show(SmEavesdrop *ear, char direction, uint8_t *bytes, int *length)
{
	if (*length > 0)
		port_print(&ear->port, direction, bytes, *length);
	*length = 0;
}

/* Shows bytes of a line on which both sides are heard: who speaks is told by the frames. */
static void
watch_show_both(SmEavesdrop *ear)
{
	const uint8_t *bytes = ear->port.bytes;
	int length = ear->port.length;
	bool answer = false;
	SmFrame frame;

	if (ear->port.wire.kind != WIRE_RTU)
	{
		watch_show(ear, '|', ear->port.bytes, &ear->port.length);
		return;
	}
	while (length > 0)
	{
		SmRtuSide side = answer ? RTU_RESPONSE : RTU_REQUEST;

		frame.taken = 0;
		if (rtu_at(side, bytes, length, &frame) != FRAME_WHOLE)
		{
			side = answer ? RTU_REQUEST : RTU_RESPONSE;
			frame.taken = 0;
			if (rtu_at(side, bytes, length, &frame) != FRAME_WHOLE)
				frame.taken = length;
		}
		port_print(&ear->port, side == RTU_REQUEST ? '>' : '<', bytes, frame.taken);
		answer = side == RTU_REQUEST;
		bytes += frame.taken;
		length -= frame.taken;
	}
	ear->port.length = 0;
}

static void
watch_quiet(void *context)
{
	SmEavesdrop *ear = context;

	if (ear->listener < 0)
	{
		watch_show_both(ear);
		return;
	}
	watch_show(ear, '>', ear->asked, &ear->asked_length);
	watch_show(ear, '<', ear->port.bytes, &ear->port.length);
}

static void
watch_drop_client(SmEavesdrop *ear)
{
	loop_unwatch(ear->port.loop, &ear->asking);
	if (ear->client >= 0)
		close(ear->client);
	ear->client = -1;
}

/* Somebody asks: the bytes go on to the gateway. */
static void
watch_asking(void *context, uint32_t events)
{
	SmEavesdrop *ear = context;
	uint8_t *room = ear->asked + ear->asked_length;
	const char *why;
	ssize_t got;

	(void) events;
	watch_show(ear, '<', ear->port.bytes, &ear->port.length);
	got = recv(ear->client, room, sizeof(ear->asked) - (size_t) ear->asked_length, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
	{
		watch_quiet(ear);
		printf("the caller has gone\n");
		fflush(stdout);
		watch_drop_client(ear);
		return;
	}
	if (link_send(&ear->port.link, room, (size_t) got, &why) != got)
		ear->broken = true;
	ear->asked_length += (int) got;
	if (ear->asked_length == (int) sizeof(ear->asked))
		watch_show(ear, '>', ear->asked, &ear->asked_length);
	loop_set(ear->port.loop, &ear->quiet, base_now_us() + WATCH_QUIET_US);
}

static void
watch_arrival(void *context, uint32_t events)
{
	SmEavesdrop *ear = context;
	int client = accept4(ear->listener, NULL, NULL, SOCK_CLOEXEC);

	(void) events;
	if (client < 0)
		return;
	watch_drop_client(ear);
	ear->client = client;
	printf("a caller has come\n");
	fflush(stdout);
	loop_watch(ear->port.loop, &ear->asking, client, EPOLLIN);
}

/* Opens the socket others connect to; NULL, or why it cannot be. */
static const char *
watch_listen(SmEavesdrop *ear, const char *address)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found;
	char *host;
	char *port;
	int on = 1;
	int wrong;

	if (!route_split_address(address, &host, &port))
		return "--listen is not host:port";
	wrong = getaddrinfo(host, port, &hints, &found);
	free(host);
	free(port);
	if (wrong != 0)
		return gai_strerror(wrong);
	ear->listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	wrong = ear->listener < 0 ||
			setsockopt(ear->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
			bind(ear->listener, found->ai_addr, found->ai_addrlen) != 0 ||
			listen(ear->listener, 4) != 0;
	freeaddrinfo(found);
	return wrong ? strerror(errno) : NULL;
}

/* Hands on what the gateway has said since; returns whether the connections still stand. */
static bool
watch_turn(SmEavesdrop *ear)
{
	int before = ear->port.length;

	ear->port.fresh = false;
	loop_turn(ear->port.loop);
	if (!ear->port.fresh)
		return !ear->port.down && !ear->broken;
	if (ear->port.length > before && ear->asked_length > 0)
		watch_show(ear, '>', ear->asked, &ear->asked_length);
	if (ear->client >= 0 && ear->port.length > before &&
		send(ear->client, ear->port.bytes + before, (size_t) (ear->port.length - before),
			 MSG_NOSIGNAL) < 0)
		watch_drop_client(ear);
	if (ear->port.length == PORT_BYTES)
		watch_quiet(ear);
	loop_set(ear->port.loop, &ear->quiet, base_now_us() + WATCH_QUIET_US);
	return !ear->port.down && !ear->broken;
}

static int
watch_run(SmEavesdrop *ear, const SmCabinet *cabinet)
{
	const char *why = cabinet->listen != NULL ? watch_listen(ear, cabinet->listen) : NULL;

	if (why != NULL)
	{
		cabinet_say("%s: %s", cabinet->listen, why);
		return CABINET_BAD;
	}
	ear->quiet.fire = watch_quiet;
	ear->quiet.context = ear;
	ear->arrivals.ready = watch_arrival;
	ear->arrivals.context = ear;
	ear->asking.ready = watch_asking;
	ear->asking.context = ear;
	if (ear->listener >= 0)
		loop_watch(ear->port.loop, &ear->arrivals, ear->listener, EPOLLIN);
	printf("watching %s\n", cabinet->address);
	fflush(stdout);
	while (!watch_over && watch_turn(ear))
		;
	watch_quiet(ear);
	if (!watch_over)
		cabinet_say("%s: %s", cabinet->address,
					ear->broken ? "the gateway takes no more" : ear->port.why);
	watch_drop_client(ear);
	loop_cancel(ear->port.loop, &ear->quiet);
	loop_unwatch(ear->port.loop, &ear->arrivals);
	if (ear->listener >= 0)
		close(ear->listener);
	return watch_over ? CABINET_GOOD : CABINET_BAD;
}

int
cabinet_watch(const SmCabinet *cabinet)
{
	bool dlt = cabinet->wire != NULL && strncmp(cabinet->wire, "dlt645", 6) == 0;
	struct sigaction action = {.sa_handler = watch_signal};
	SmCabinet polling = *cabinet;
	SmEavesdrop *ear;
	int status = CABINET_BAD;

	if (cabinet->model != NULL || cabinet->unit != NULL || cabinet->models_file != NULL)
	{
		polling.frames = true;
		return cabinet->listen != NULL ? cabinet_usage("watch polls a model or listens, not both")
									   : cabinet_watch_model(&polling);
	}
	if (cabinet->listen == NULL && cabinet->address[0] != '/')
		return cabinet_usage("watch wants --listen, or --unit and --model, unless it listens on a "
							 "serial line");
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	ear = base_alloc(sizeof(SmEavesdrop));
	ear->listener = ear->client = -1;
	if (cabinet_open(cabinet, dlt ? PROTOCOL_DLT645_2007 : PROTOCOL_MODBUS, &ear->port))
		status = watch_run(ear, cabinet);
	port_close(&ear->port);
	free(ear);
	return status;
}
