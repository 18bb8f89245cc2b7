/*
 * link.h - a stream of bytes to a gateway, whatever it is made of
 *
 * A link is CLOSED, OPENING or OPEN. link_open() begins, and one of two events follows: up() or
 * lost(). After up() come readable() and, once, lost(). When lost() is called the link is closed
 * already and may be opened again from within; link_close() is silent. The events are called from
 * the loop only, never from within link_open(), link_send() or link_receive().
 */
#ifndef LINK_H
#define LINK_H

#include <sys/types.h>

#include "loop.h"

typedef enum SmLinkState
{
	LINK_CLOSED,
	LINK_OPENING,
	LINK_OPEN
} SmLinkState;

typedef struct SmLinkEvents
{
	void (*up)(void *context);
	void (*readable)(void *context);
	void (*lost)(void *context, const char *text);
} SmLinkEvents;

typedef struct SmLink
{
	SmLoop *loop;
	const SmLinkEvents *events;
	void *context;
	char *host;
	char *port;
	SmLinkState state;
	int fd;
	SmWatch watch;
	SmTimer timer;       /* of opening */
	int limit_ms;        /* for connecting */
	const char *failure; /* why opening failed; told in the next turn of the loop */
	void *lookup;
} SmLink;

extern void link_init(SmLink *link, SmLoop *loop, const SmLinkEvents *events, void *context);
extern void link_open(SmLink *link, int limit_ms);
extern void link_close(SmLink *link);
extern ssize_t link_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why);
extern ssize_t link_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why);
extern void link_drain(SmLink *link);

/* for the kinds of links */
extern void link_opened(SmLink *link);
extern void link_fail(SmLink *link, const char *why);

/* dial.c */
extern void dial_open(SmLink *link);
extern void dial_step(SmLink *link);
extern void dial_connected(SmLink *link);
extern void dial_drop(SmLink *link);

#endif
