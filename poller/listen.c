/*
 * listen.c - gateways that dial in: doors they knock at, and who is let in
 *
 * There is one door for each address the plan wants listened on. Who comes is a visitor until he
 * has said who he is: the longest registration of that door's gateways that his first bytes begin
 * with, or the login of a 376.1 concentrator. Then his connection becomes that gateway's, and the
 * newest one is always right: devices come back long before their old connection is known to be
 * dead. Who says something else, or nothing for half a minute, is a stranger: he is shown the
 * door, and the database is told what he said.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"
#include "q376.h"
#include "tls.h"

#define LISTEN_VISITORS_MOST 2000
#define LISTEN_VISITORS_PEER 200 /* many devices share the address of their mobile network */
#define LISTEN_HELLO_US (30 * US_PER_S)
#define LISTEN_LONGER_US (500 * US_PER_MS)
#define LISTEN_AGAIN_US (10 * US_PER_S)
#define LISTEN_BACKLOG 1024
#define LISTEN_ACCEPT_MOST 64

typedef struct SmDoor
{
	struct SmListen *listen;
	SmRoute route; /* of those who knock: they are nobody yet */
	int fd;
	SmWatch watch;
	SmTimer again; /* when opening it is tried again, or accepting goes on */
	bool kept;
	char why[FIELD_ERROR]; /* it cannot be opened */
	struct SmDoor *next;
} SmDoor;

typedef struct SmVisitor
{
	SmDoor *door;
	SmLink link;
	SmTimer timer;
	bool decided; /* no longer to wait for a longer registration */
	bool over;    /* to be freed in the next turn of the loop */
	int length;
	uint8_t bytes[LISTEN_HELLO];
	struct SmVisitor *next;
} SmVisitor;

struct SmListen
{
	SmField *field;
	SmDoor *doors;
	SmVisitor *visitors;
	int visitor_count;
	SmTimer sweep;
	SmStrangers strangers;
};

static void listen_up(void *context);
static void listen_readable(void *context);
static void listen_lost(void *context, const char *text);
static void listen_sweep(void *context);

static const SmLinkEvents listen_events = {listen_up, listen_readable, listen_lost};

/* Makes a listener without doors; freed by listen_free(). */
SmListen *
listen_create(SmField *field)
{
	SmListen *listen = base_alloc(sizeof(SmListen));

	listen->field = field;
	listen->sweep.fire = listen_sweep;
	listen->sweep.context = listen;
	return listen;
}

/* Frees the visitors that are over, or all of them. */
static void
listen_clear(SmListen *listen, bool all)
{
	SmVisitor **place = &listen->visitors;

	while (*place != NULL)
	{
		SmVisitor *visitor = *place;

		if (!all && !visitor->over)
		{
			place = &visitor->next;
			continue;
		}
		*place = visitor->next;
		link_close(&visitor->link);
		loop_cancel(listen->field->loop, &visitor->timer);
		free(visitor);
		listen->visitor_count--;
	}
}

static void
listen_sweep(void *context)
{
	listen_clear(context, false);
}

/* A visitor is done with; freed later, because his link may be calling us. */
static void
listen_end(SmVisitor *visitor)
{
	SmListen *listen = visitor->door->listen;

	link_close(&visitor->link);
	loop_cancel(listen->field->loop, &visitor->timer);
	visitor->over = true;
	loop_set(listen->field->loop, &listen->sweep, base_now_us());
}

/* Sends a visitor away who is not in the plan, and remembers him. */
static void
listen_refuse(SmVisitor *visitor, const char *why)
{
	SmListen *listen = visitor->door->listen;
	char peer[LINK_VIA];

	snprintf(peer, sizeof(peer), "%s", visitor->link.via);
	/* The port is another one each time. */
	*strrchr(peer, ':') = '\0';
	stranger_note(&listen->strangers, visitor->door->route.address, peer, visitor->bytes,
				  visitor->length, why);
	listen_end(visitor);
}

/* Who was sent away. */
SmStrangers *
listen_strangers(SmListen *listen)
{
	return &listen->strangers;
}

/* Whether the first bytes are a frame by which this concentrator says who it is. */
static SmMatch
listen_match_station(const SmRoute *route, const uint8_t *bytes, int length, int *taken)
{
	unsigned region;
	unsigned terminal;
	SmQ376Frame frame;
	SmFrameState state = q376_take(bytes, length, &frame);

	*taken = 0; /* the frame wants an answer: the bus gives it */
	if (state == FRAME_PARTIAL)
		return MATCH_PARTIAL;
	if (state != FRAME_WHOLE || frame.afn != Q376_AFN_LINK ||
		!route_parse_station((const char *) route->registration.data, &region, &terminal))
		return MATCH_NONE;
	return frame.address.region == region && frame.address.terminal == terminal ? MATCH_WHOLE
																				: MATCH_NONE;
}

/* The gateway of this door a visitor turns out to be; NULL when nobody, or (wait) not yet. */
static SmBus *
listen_recognise(const SmVisitor *visitor, int *taken, bool *wait)
{
	const SmField *field = visitor->door->listen->field;
	const SmRoute *door = &visitor->door->route;
	SmBus *best = NULL;
	int i;

	*wait = false;
	for (i = 0; i < field->bus_count; i++)
	{
		const SmRoute *route = field->buses[i]->link.route;
		int used;
		SmMatch match;

		if (route->kind != ROUTE_LISTEN || route->tls != door->tls ||
			strcmp(route->address, door->address) != 0)
			continue;
		match = route->station
					? listen_match_station(route, visitor->bytes, visitor->length, &used)
					: route_match(&route->registration, visitor->bytes, visitor->length, &used);
		*wait = *wait || match == MATCH_PARTIAL;
		if (match == MATCH_WHOLE &&
			(best == NULL || route->registration.length > best->link.route->registration.length))
		{
			best = field->buses[i];
			*taken = used;
		}
	}
	return best;
}

/* Looks who a visitor is by what he has said so far. */
static void
listen_judge(SmVisitor *visitor)
{
	SmLoop *loop = visitor->door->listen->field->loop;
	int taken = 0;
	bool wait;
	SmBus *bus = listen_recognise(visitor, &taken, &wait);

	if (bus != NULL && (!wait || visitor->decided))
	{
		log_info("gateway %d/%lld dials in from %s", bus->site_id, (long long) bus->gateway_id,
				 visitor->link.via);
		bus_welcome(bus, &visitor->link, visitor->bytes + taken, visitor->length - taken);
		listen_end(visitor);
	}
	else if (bus != NULL)
	{
		visitor->decided = true;
		loop_set(loop, &visitor->timer, base_now_us() + LISTEN_LONGER_US);
	}
	else if (!wait)
		listen_refuse(visitor, "it is no gateway of the plan");
	else if (visitor->length == LISTEN_HELLO)
		listen_refuse(visitor, "it says too much before it says who it is");
}

/* A visitor takes too long, or a longer registration did not come. */
static void
listen_timer(void *context)
{
	SmVisitor *visitor = context;

	if (visitor->decided)
		listen_judge(visitor);
	else if (visitor->link.state == LINK_OPENING)
		listen_refuse(visitor, "it does not finish the greeting of TLS");
	else
		listen_refuse(visitor, "it did not say in time who it is");
}

static void
listen_up(void *context)
{
	SmVisitor *visitor = context;

	loop_set(visitor->door->listen->field->loop, &visitor->timer, base_now_us() + LISTEN_HELLO_US);
}

static void
listen_readable(void *context)
{
	SmVisitor *visitor = context;
	const char *why;
	ssize_t got = link_receive(&visitor->link, visitor->bytes + visitor->length,
							   (size_t) (LISTEN_HELLO - visitor->length), &why);

	if (got < 0 && visitor->length > 0)
		listen_refuse(visitor, why);
	else if (got < 0)
		listen_end(visitor);
	if (got <= 0)
		return;
	visitor->length += (int) got;
	visitor->decided = false;
	listen_judge(visitor);
}

static void
listen_lost(void *context, const char *text)
{
	SmVisitor *visitor = context;

	listen_refuse(visitor, text);
}

/* How many visitors come from one address. */
static int
listen_count_peer(const SmListen *listen, const char *via)
{
	size_t length = (size_t) (strrchr(via, ':') - via);
	const SmVisitor *visitor;
	int count = 0;

	for (visitor = listen->visitors; visitor != NULL; visitor = visitor->next)
		count += !visitor->over && strncmp(visitor->link.via, via, length + 1) == 0;
	return count;
}

/* Lets a connection in as a visitor; the descriptor is ours. */
static void
listen_let_in(SmDoor *door, int fd, const struct sockaddr *address, socklen_t size)
{
	SmListen *listen = door->listen;
	SmVisitor *visitor = base_alloc(sizeof(SmVisitor));
	char host[NI_MAXHOST] = "?";
	char port[NI_MAXSERV] = "?";

	getnameinfo(address, size, host, sizeof(host), port, sizeof(port),
				NI_NUMERICHOST | NI_NUMERICSERV);
	visitor->door = door;
	visitor->timer.fire = listen_timer;
	visitor->timer.context = visitor;
	link_init(&visitor->link, listen->field->loop, &listen_events, visitor);
	visitor->link.route = &door->route;
	visitor->link.fd = fd;
	visitor->link.state = LINK_OPENING;
	snprintf(visitor->link.via, sizeof(visitor->link.via), "%.46s:%.6s", host, port);
	if (listen->visitor_count >= LISTEN_VISITORS_MOST ||
		listen_count_peer(listen, visitor->link.via) >= LISTEN_VISITORS_PEER || !link_tune(fd))
	{
		if (listen->strangers.untold++ == 0)
			log_warning("too many unknown connections: one from %s is closed", visitor->link.via);
		link_close(&visitor->link);
		free(visitor);
		return;
	}
	visitor->next = listen->visitors;
	listen->visitors = visitor;
	listen->visitor_count++;
	loop_set(listen->field->loop, &visitor->timer, base_now_us() + LISTEN_HELLO_US);
	link_connected(&visitor->link);
}

/* Somebody knocks. */
static void
listen_knock(void *context, uint32_t events)
{
	SmDoor *door = context;
	struct sockaddr_storage address;
	int i;

	(void) events;
	for (i = 0; i < LISTEN_ACCEPT_MOST; i++)
	{
		socklen_t size = sizeof(address);
		int fd =
			accept4(door->fd, (struct sockaddr *) &address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			listen_let_in(door, fd, (struct sockaddr *) &address, size);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		{
			log_error("could not let anybody in at %s: %s", door->route.address, strerror(errno));
			loop_unwatch(door->listen->field->loop, &door->watch);
			loop_set(door->listen->field->loop, &door->again, base_now_us() + US_PER_S);
			return;
		}
		else
			return;
	}
}

/* Binds to an address of this machine; the descriptor, or -1 and why. */
int
listen_bind(const SmRoute *route, const char **why)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
							 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	const char *host = strcmp(route->host, "*") == 0 ? NULL : route->host;
	int on = 1;
	int fd;

	if (getaddrinfo(host, route->port, &hints, &found) != 0)
	{
		*why = "not a number of this machine, such as 0.0.0.0";
		return -1;
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
	{
		*why = strerror(errno);
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

/* Tells the gateways of a door why they cannot dial in, or that they can. */
static void
listen_excuse(SmDoor *door)
{
	const SmField *field = door->listen->field;
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		SmBus *bus = field->buses[i];
		const SmRoute *route = bus->link.route;

		if (route->kind != ROUTE_LISTEN || strcmp(route->address, door->route.address) != 0)
			continue;
		bus->link.excuse = door->why[0] != '\0' ? door->why : NULL;
		if (route->tls != door->route.tls)
			bus->link.excuse = "another gateway uses this port with, or without, TLS";
		if (bus->link.excuse != NULL)
			bus_hurry(bus);
	}
}

/* Opens a door, or tries again later. */
static void
listen_open(void *context)
{
	SmDoor *door = context;
	SmLoop *loop = door->listen->field->loop;
	const char *why = NULL;

	if (door->fd < 0)
		door->fd = listen_bind(&door->route, &why);
	if (door->fd < 0)
	{
		if (door->why[0] == '\0')
			log_error("could not listen on %s: %s", door->route.address, why);
		snprintf(door->why, sizeof(door->why), "could not listen on %s: %s", door->route.address,
				 why);
		loop_set(loop, &door->again, base_now_us() + LISTEN_AGAIN_US);
	}
	else
	{
		if (door->why[0] != '\0')
			log_info("listening on %s now", door->route.address);
		door->why[0] = '\0';
		loop_watch(loop, &door->watch, door->fd, EPOLLIN);
	}
	listen_excuse(door);
}

static SmDoor *
listen_find_door(const SmListen *listen, const char *address)
{
	SmDoor *door = listen->doors;

	while (door != NULL && strcmp(door->route.address, address) != 0)
		door = door->next;
	return door;
}

/* Makes a door for the gateways that dial in where this one does. */
static SmDoor *
listen_add_door(SmListen *listen, const SmRoute *route)
{
	SmDoor *door = base_alloc(sizeof(SmDoor));

	door->listen = listen;
	door->fd = -1;
	door->route.kind = ROUTE_LISTEN;
	door->route.tls = route->tls;
	door->route.address = base_copy(route->address);
	door->route.host = base_copy(route->host);
	door->route.port = base_copy(route->port);
	door->watch.ready = listen_knock;
	door->watch.context = door;
	door->again.fire = listen_open;
	door->again.context = door;
	door->next = listen->doors;
	listen->doors = door;
	return door;
}

/* Closes a door and sends away who stands in it. */
static void
listen_remove_door(SmListen *listen, SmDoor *door)
{
	SmVisitor *visitor;

	for (visitor = listen->visitors; visitor != NULL; visitor = visitor->next)
		visitor->over = visitor->over || visitor->door == door;
	listen_clear(listen, false);
	loop_unwatch(listen->field->loop, &door->watch);
	loop_cancel(listen->field->loop, &door->again);
	if (door->fd >= 0)
		close(door->fd);
	route_free(&door->route);
	free(door);
}

/* Closes the doors that are not wanted any more. */
static void
listen_sweep_doors(SmListen *listen)
{
	SmDoor **place = &listen->doors;

	while (*place != NULL)
	{
		SmDoor *door = *place;

		if (door->kept)
		{
			door->kept = false;
			place = &door->next;
			continue;
		}
		*place = door->next;
		listen_remove_door(listen, door);
	}
}

/* Opens and closes doors as the buses of the field want them. */
void
listen_apply(SmListen *listen)
{
	const SmField *field = listen->field;
	SmDoor *door;
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		const SmRoute *route = field->buses[i]->link.route;

		if (route->kind != ROUTE_LISTEN)
			continue;
		door = listen_find_door(listen, route->address);
		if (door == NULL)
			door = listen_add_door(listen, route);
		if (!door->kept)
			door->route.tls = route->tls;
		door->kept = true;
	}
	listen_sweep_doors(listen);
	for (door = listen->doors; door != NULL; door = door->next)
		listen_open(door);
}

void
listen_free(SmListen *listen)
{
	loop_cancel(listen->field->loop, &listen->sweep);
	listen_clear(listen, true);
	listen_sweep_doors(listen);
	free(listen);
}
