/*
 * dial.c - links that this side opens: a name or number is looked up and connected to by TCP
 *
 * Nothing here blocks; names are looked up in the background by the C library.
 */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "link.h"

#define DIAL_LOOK_US (20 * US_PER_MS)

typedef struct SmLookup
{
	struct gaicb request;
	struct gaicb *list[1];
	struct addrinfo hints;
} SmLookup;

/* Frees a finished or abandoned look-up. One that is still running is left to the C library. */
void
dial_drop(SmLink *link)
{
	SmLookup *lookup = link->lookup;

	link->lookup = NULL;
	if (lookup == NULL || gai_cancel(&lookup->request) == EAI_NOTCANCELED)
		return;
	if (lookup->request.ar_result != NULL)
		freeaddrinfo(lookup->request.ar_result);
	free((char *) lookup->request.ar_name);
	free((char *) lookup->request.ar_service);
	free(lookup);
}

/* The connection was accepted or refused. */
void
dial_done(SmLink *link)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error == 0 && link_tune(link->fd))
		link_connected(link);
	else
		link_fail(link, strerror(error != 0 ? error : errno));
}

/* Begins to connect to the first address a look-up gave. The time limit begins anew with it. */
static void
dial_connect(SmLink *link, const struct addrinfo *address)
{
	int done;

	link->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->fd < 0)
	{
		link_fail(link, strerror(errno));
		return;
	}
	done = connect(link->fd, address->ai_addr, address->ai_addrlen);
	if (done != 0 && errno != EINPROGRESS)
	{
		link_fail(link, strerror(errno));
		return;
	}
	loop_watch(link->loop, &link->watch, link->fd, EPOLLOUT);
	loop_set(link->loop, &link->timer, link->limit_us);
}

/* Looks whether the name is known by now. */
void
dial_step(SmLink *link)
{
	SmLookup *lookup = link->lookup;
	int error = gai_error(&lookup->request);

	if (error == EAI_INPROGRESS)
		loop_set(link->loop, &link->timer, base_now_us() + DIAL_LOOK_US);
	else if (error != 0)
		link_fail(link, gai_strerror(error));
	else
	{
		dial_connect(link, lookup->request.ar_result);
		dial_drop(link);
	}
}

/* Begins to find out the address; numbers are known at once, names are asked for aside. */
void
dial_open(SmLink *link)
{
	const char *host = link->on_backup ? link->route->backup_host : link->route->host;
	const char *port = link->on_backup ? link->route->backup_port : link->route->port;
	SmLookup *lookup = base_alloc(sizeof(SmLookup));
	struct addrinfo *result = NULL;
	int error;

	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	if (getaddrinfo(host, port, &lookup->hints, &result) == 0)
	{
		free(lookup);
		dial_connect(link, result);
		freeaddrinfo(result);
		return;
	}
	lookup->hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
	lookup->request.ar_name = base_copy(host);
	lookup->request.ar_service = base_copy(port);
	lookup->request.ar_request = &lookup->hints;
	lookup->list[0] = &lookup->request;
	link->lookup = lookup;
	error = getaddrinfo_a(GAI_NOWAIT, lookup->list, 1, NULL);
	if (error != 0)
		link_fail(link, gai_strerror(error));
	else
		loop_set(link->loop, &link->timer, base_now_us() + DIAL_LOOK_US);
}
