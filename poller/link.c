/*
 * link.c - a stream of bytes to a gateway, whatever it is made of
 *
 * What all kinds have in common: opening within a time limit, reading and writing without waiting,
 * and telling whoever uses the link what becomes of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

static void link_ready(void *context, uint32_t events);
static void link_timer(void *context);

/* Makes a zeroed link ready for link_open(); host and port are set by the caller. */
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

/* Closes without telling anybody. */
void
link_close(SmLink *link)
{
	loop_unwatch(link->loop, &link->watch);
	loop_cancel(link->loop, &link->timer);
	dial_drop(link);
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	link->failure = NULL;
	link->state = LINK_CLOSED;
}

/* Closes and says why. */
static void
link_lose(SmLink *link, const char *why)
{
	link_close(link);
	link->events->lost(link->context, why);
}

/* Begins to open; up() or lost() is called later, within the limit. */
void
link_open(SmLink *link, int limit_ms)
{
	link->state = LINK_OPENING;
	link->limit_ms = limit_ms;
	dial_open(link);
}

/* Opening came to nothing: lost() is called in the next turn of the loop. */
void
link_fail(SmLink *link, const char *why)
{
	link->failure = why;
	loop_set(link->loop, &link->timer, base_now_us());
}

/* The link stands. */
void
link_opened(SmLink *link)
{
	loop_cancel(link->loop, &link->timer);
	loop_watch(link->loop, &link->watch, link->fd, EPOLLIN);
	link->state = LINK_OPEN;
	link->events->up(link->context);
}

/*
 * Sends without waiting; the number of bytes that were taken, which may be fewer than given, or -1
 * and why. A caller that cannot go on closes the link.
 */
ssize_t
link_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why)
{
	ssize_t sent = send(link->fd, bytes, length, MSG_NOSIGNAL);

	if (sent < 0)
		*why = strerror(errno);
	else
		*why = "the gateway does not take more bytes";
	return sent;
}

/* Takes what came in; 0 when there is nothing, -1 and why when the link is of no use any more. */
ssize_t
link_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why)
{
	ssize_t got = recv(link->fd, bytes, room, 0);

	if (got > 0)
		return got;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	*why = got == 0 ? "the gateway closed the connection" : strerror(errno);
	return -1;
}

/* Throws away what came in so far. */
void
link_drain(SmLink *link)
{
	uint8_t waste[512];

	while (recv(link->fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
		;
}

static void
link_ready(void *context, uint32_t events)
{
	SmLink *link = context;

	(void) events;
	if (link->state == LINK_OPENING)
		dial_connected(link);
	else
		link->events->readable(link->context);
}

static void
link_timer(void *context)
{
	SmLink *link = context;

	if (link->failure != NULL)
		link_lose(link, link->failure);
	else if (link->fd >= 0)
		link_lose(link, "could not connect in time");
	else
		dial_step(link);
}
