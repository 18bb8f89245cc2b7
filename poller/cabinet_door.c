/*
 * cabinet_door.c - a device that dials in is waited for, and the person told what it says of itself
 *
 * One device, and whoever it is: the person stands before it. What it says first (its registration)
 * and in between (heartbeats) is no frame, so the questions that follow step over it. Heartbeats are
 * not answered; a device that hangs up over it dials in again.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cabinet_port.h"
#include "listen.h"

#define DOOR_WAIT_MS 300000
#define DOOR_HELLO_US (5 * US_PER_S)
#define DOOR_QUIET_US (300 * US_PER_MS)

/* Waits at the door; the connection, or -1 and why. */
static int
door_accept(int door, struct sockaddr_storage *address, socklen_t *size, const char **why)
{
	struct pollfd ready = {.fd = door, .events = POLLIN};
	int count;
	int fd;

	while ((count = poll(&ready, 1, DOOR_WAIT_MS)) < 0 && errno == EINTR)
		;
	*why = "nobody dialled in for five minutes";
	if (count <= 0)
		return -1;
	fd = accept4(door, (struct sockaddr *) address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	*why = strerror(errno);
	return fd;
}

/* Turns the loop until nothing more comes for a moment, or the time is up. */
static void
door_listen(SmPort *port)
{
	int64_t end_us = base_now_us() + DOOR_HELLO_US;
	int64_t quiet_us = end_us;

	while (port->up && base_now_us() < quiet_us)
	{
		port->late = false;
		port->fresh = false;
		loop_set(port->loop, &port->timer, quiet_us);
		loop_turn(port->loop);
		if (port->fresh && base_now_us() + DOOR_QUIET_US < end_us)
			quiet_us = base_now_us() + DOOR_QUIET_US;
	}
	loop_cancel(port->loop, &port->timer);
}

/* Tells the person who it is, in the forms gateway.registration takes. */
static void
door_tell(const SmPort *port)
{
	bool text = port->length > 0;
	int i;

	fprintf(stderr, "submeter-poller: %s dialled in", port->link.via);
	for (i = 0; i < port->length; i++)
		text = text && port->bytes[i] >= 0x20 && port->bytes[i] < 0x7F;
	if (port->length > 0)
		fprintf(stderr, " and says \\x");
	for (i = 0; i < port->length; i++)
		fprintf(stderr, "%02x", port->bytes[i]);
	if (text)
		fprintf(stderr, " (%.*s)", port->length, (const char *) port->bytes);
	fputc('\n', stderr);
}

/* Waits until a device dials in and has said who it is; false, with the reason in why. */
bool
door_wait(SmPort *port)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	char host[NI_MAXHOST] = "?";
	char service[NI_MAXSERV] = "?";
	const char *why;
	int door = listen_bind(&port->route, &why);
	int fd = -1;

	if (door >= 0)
	{
		fprintf(stderr, "submeter-poller: waiting at %s for a device to dial in\n",
				port->route.address);
		fd = door_accept(door, &address, &size, &why);
		close(door);
	}
	if (fd < 0)
	{
		snprintf(port->why, sizeof(port->why), "%s", why);
		return false;
	}
	getnameinfo((struct sockaddr *) &address, size, host, sizeof(host), service, sizeof(service),
				NI_NUMERICHOST | NI_NUMERICSERV);
	port->link.fd = fd;
	port->link.state = LINK_OPENING;
	snprintf(port->link.via, sizeof(port->link.via), "%.46s:%.6s", host, service);
	port->length = 0;
	link_tune(fd);
	link_connected(&port->link);
	door_listen(port);
	door_tell(port);
	return port->up;
}
