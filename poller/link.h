/*
 * link.h - a stream of bytes to a gateway, whatever it is made of
 *
 * A link is CLOSED, OPENING or OPEN. link_open() begins, and one of two events follows: up() or
 * lost(). After up() come readable() and, once, lost(). When lost() is called the link is closed
 * already and may be opened again from within; link_close() is silent. The events are called from
 * the loop only, never from within link_open(), link_send() or link_receive().
 *
 * A link to a gateway that dials in stays OPENING until listen.c hands it a connection.
 */
#ifndef LINK_H
#define LINK_H

#include <sys/types.h>

#include "loop.h"
#include "route.h"

#define LINK_VIA 64

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
	const SmRoute *route; /* not ours */
	SmLinkState state;
	int fd;
	SmWatch watch;
	SmTimer timer;       /* of opening */
	int64_t limit_us;    /* when opening has taken too long */
	const char *failure; /* why opening failed; told in the next turn of the loop */
	const char *excuse;  /* why nobody can dial in; not ours */
	void *lookup;
	void *tls;          /* the connection is wrapped */
	bool on_backup;     /* the second address is in use */
	int64_t primary_us; /* when the first one is tried again */
	int char_us;        /* time of one character on a serial line, else 0 */
	int64_t clear_us;   /* when the line is silent long enough for a new frame */
	char via[LINK_VIA]; /* what it is, or was, connected to */
} SmLink;

extern void link_init(SmLink *link, SmLoop *loop, const SmLinkEvents *events, void *context);
extern void link_open(SmLink *link, int limit_ms);
extern void link_close(SmLink *link);
extern void link_blame(SmLink *link);
extern void link_adopt(SmLink *link, SmLink *from);
extern ssize_t link_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why);
extern ssize_t link_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why);
extern void link_drain(SmLink *link);
extern int64_t link_transit_us(const SmLink *link, size_t length);

/* for the kinds of links */
extern void link_connected(SmLink *link);
extern void link_fail(SmLink *link, const char *why);
extern bool link_tune(int fd);

/* dial.c */
extern void dial_open(SmLink *link);
extern void dial_step(SmLink *link);
extern void dial_done(SmLink *link);
extern void dial_drop(SmLink *link);

/* serial.c */
extern void serial_open(SmLink *link);
extern void serial_release(SmLink *link);

#endif
