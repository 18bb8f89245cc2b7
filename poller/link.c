/*
 * link.c - a stream of bytes to a gateway, whatever it is made of
 *
 * What all kinds have in common: opening within a time limit, reading and writing without waiting,
 * and telling whoever uses the link what becomes of it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"

#define LINK_IDLE_S 30
#define LINK_PROBE_S 10
#define LINK_PROBES 3
#define LINK_UNHEARD_MS 30000
#define LINK_PRIMARY_US (600 * US_PER_S)
#define LINK_SILENCE_LEAST_US 1750 /* above 19200 baud; else 3.5 characters */

static void link_ready(void *context, uint32_t events);
static void link_timer(void *context);

/* Makes a zeroed link ready for link_open(). The caller sets its route, too. */
void
link_init(SmLink *link, SmLoop *loop, const SmLinkEvents *events, void *context)
{
	link->loop = loop;
	link->events = events;
	link->context = context;
	link->fd = -1;
	link->watch.ready = link_ready;
	link->watch.context = link;
	link->timer.fire = link_timer;
	link->timer.context = link;
}

/* Sets what every TCP connection has: small packets at once, and an end when nobody is there. */
bool
link_tune(int fd)
{
	int on = 1;
	int idle_s = LINK_IDLE_S;
	int probe_s = LINK_PROBE_S;
	int probes = LINK_PROBES;
	unsigned unheard_ms = LINK_UNHEARD_MS;

	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
		   setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
		   setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) == 0 &&
		   setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s)) == 0 &&
		   setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) == 0 &&
		   setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof(unheard_ms)) == 0;
}

/* Closes without telling anybody. */
void
link_close(SmLink *link)
{
	loop_unwatch(link->loop, &link->watch);
	loop_cancel(link->loop, &link->timer);
	dial_drop(link);
	tls_end(link);
	if (link->char_us > 0)
		serial_release(link);
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	link->failure = NULL;
	link->state = LINK_CLOSED;
}

/*
 * The address in use is no good: the other one is next, if there is one. The first address is
 * preferred, but a working second one is not left before ten minutes have passed.
 */
void
link_blame(SmLink *link)
{
	if (link->route->backup_host == NULL)
		return;
	link->on_backup = !link->on_backup;
	link->primary_us = link->on_backup ? base_now_us() + LINK_PRIMARY_US : 0;
}

/* Closes and says why. */
static void
link_lose(SmLink *link, const char *why)
{
	if (link->state == LINK_OPENING)
		link_blame(link);
	link_close(link);
	link->events->lost(link->context, why);
}

/* Begins to open; up() or lost() is called later, within the limit. */
void
link_open(SmLink *link, int limit_ms)
{
	const SmRoute *route = link->route;

	link->state = LINK_OPENING;
	link->limit_us = base_now_us() + limit_ms * US_PER_MS;
	if (link->on_backup && base_now_us() >= link->primary_us)
		link->on_backup = false;
	switch (route->kind)
	{
		case ROUTE_DIAL:
			snprintf(link->via, sizeof(link->via), "%s:%s",
					 link->on_backup ? route->backup_host : route->host,
					 link->on_backup ? route->backup_port : route->port);
			dial_open(link);
			break;
		case ROUTE_SERIAL:
			snprintf(link->via, sizeof(link->via), "%s", route->host);
			serial_open(link);
			break;
		case ROUTE_LISTEN:
			if (link->excuse != NULL)
				link_fail(link, link->excuse);
			else
				loop_set(link->loop, &link->timer, link->limit_us);
			break;
	}
}

/* Opening came to nothing: lost() is called in the next turn of the loop. */
void
link_fail(SmLink *link, const char *why)
{
	loop_unwatch(link->loop, &link->watch);
	link->failure = why;
	loop_set(link->loop, &link->timer, base_now_us());
}

/* The link can be used. */
static void
link_opened(SmLink *link)
{
	loop_cancel(link->loop, &link->timer);
	loop_watch(link->loop, &link->watch, link->fd, EPOLLIN);
	link->state = LINK_OPEN;
	link->events->up(link->context);
}

/* The other side is there: the link is open, or TLS begins. */
void
link_connected(SmLink *link)
{
	const SmRoute *route = link->route;
	const char *name = route->kind == ROUTE_LISTEN ? NULL
					   : link->on_backup           ? route->backup_host
												   : route->host;
	const char *why;

	if (!route->tls)
	{
		link_opened(link);
		return;
	}
	why = tls_begin(link, name);
	if (why != NULL)
		link_fail(link, why);
	else
		loop_watch(link->loop, &link->watch, link->fd, name != NULL ? EPOLLOUT : EPOLLIN);
}

/* Takes over the connection of another link, which is closed then; up() is not called. */
void
link_adopt(SmLink *link, SmLink *from)
{
	link_close(link);
	loop_unwatch(from->loop, &from->watch);
	link->fd = from->fd;
	link->tls = from->tls;
	memcpy(link->via, from->via, sizeof(link->via));
	from->fd = -1;
	from->tls = NULL;
	link_close(from);
	loop_watch(link->loop, &link->watch, link->fd, EPOLLIN);
	link->state = LINK_OPEN;
	if (tls_has_more(link))
		loop_set(link->loop, &link->timer, base_now_us());
}

/* How long so many bytes are on their way; nothing counts but a serial line. */
int64_t
link_transit_us(const SmLink *link, size_t length)
{
	return (int64_t) length * link->char_us;
}

/* Something was on the line until at least so long from now. */
static void
link_note_line(SmLink *link, int64_t busy_us)
{
	int64_t silence_us = (int64_t) link->char_us * 7 / 2;

	if (link->char_us == 0)
		return;
	if (silence_us < LINK_SILENCE_LEAST_US)
		silence_us = LINK_SILENCE_LEAST_US;
	link->clear_us = base_now_us() + busy_us + silence_us;
}

/*
 * Sends without waiting; the number of bytes that were taken, which may be fewer than given, or -1
 * and why. A caller that cannot go on closes the link.
 */
ssize_t
link_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why)
{
	ssize_t sent;

	*why = "the gateway does not take more bytes";
	if (link->tls != NULL)
		return tls_send(link, bytes, length, why);
	sent = write(link->fd, bytes, length);
	if (sent < 0)
		*why = strerror(errno);
	else
		link_note_line(link, link_transit_us(link, (size_t) sent));
	return sent;
}

/* Takes what came in; 0 when there is nothing, -1 and why when the link is of no use any more. */
ssize_t
link_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why)
{
	ssize_t got;

	if (link->tls != NULL)
		return tls_receive(link, bytes, room, why);
	got = read(link->fd, bytes, room);
	if (got > 0)
	{
		link_note_line(link, 0);
		return got;
	}
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	*why = link->char_us > 0 ? "the serial line is gone"
		   : got < 0         ? strerror(errno)
							 : "the gateway closed the connection";
	return -1;
}

/* Throws away what came in so far. An end of the connection shows at the next reading. */
void
link_drain(SmLink *link)
{
	uint8_t waste[512];
	const char *why;

	while (link_receive(link, waste, sizeof(waste), &why) > 0)
		;
}

/* Goes on with the greeting of TLS. */
static void
link_greet(SmLink *link)
{
	const char *why;

	switch (tls_step(link, &why))
	{
		case TLS_WAITING:
			break;
		case TLS_DONE:
			link_opened(link);
			break;
		case TLS_FAILED:
			link_lose(link, why);
			break;
	}
}

static void
link_ready(void *context, uint32_t events)
{
	SmLink *link = context;

	(void) events;
	if (link->state == LINK_OPENING && link->tls != NULL)
		link_greet(link);
	else if (link->state == LINK_OPENING && link->route->kind == ROUTE_SERIAL)
		link_opened(link);
	else if (link->state == LINK_OPENING)
		dial_done(link);
	else
		link->events->readable(link->context);
	/* What TLS has unpacked already does not make the descriptor ready again. */
	if (link->state == LINK_OPEN && tls_has_more(link))
		loop_set(link->loop, &link->timer, base_now_us());
}

/* Opening takes too long, has failed, or goes on; or TLS has more to give. */
static void
link_timer(void *context)
{
	SmLink *link = context;

	if (link->state == LINK_OPEN)
		link_ready(link, EPOLLIN);
	else if (link->failure != NULL)
		link_lose(link, link->failure);
	else if (link->route->kind == ROUTE_LISTEN && link->fd < 0)
		link_lose(link, "the device has not dialled in");
	else if (link->tls != NULL)
		link_lose(link, "TLS: no answer in time");
	else if (link->fd >= 0)
		link_lose(link, "could not connect in time");
	else
		dial_step(link);
}
