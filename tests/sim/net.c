/*
 * net.c - ports and connections
 *
 * Moves bytes between a descriptor and the wire that is spoken on its port, whether the descriptor
 * was accepted, dialled or is a serial line, plain or in TLS. A connection may be closed while epoll
 * still holds an event for it or the queue holds bytes for it: it is freed by net_bury, after the
 * round, when nothing points at it any more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dial.h"
#include "dlt.h"
#include "modbus.h"
#include "net.h"
#include "pty.h"
#include "q376.h"
#include "queue.h"
#include "tls.h"

#define OUT_MAX 65536
#define STALE_NS (300 * NS_PER_MS) /* a piece of a frame that nothing follows is forgotten */

typedef void (*SmCut)(SmConnection *connection);

static const SmCut cutters[WIRE_COUNT] = {
	[WIRE_TCP] = modbus_cut_tcp,
	[WIRE_RTU] = modbus_cut_rtu,
	[WIRE_DLT] = dlt_cut,
	[WIRE_Q376] = q376_cut,
};

/* Registers a descriptor with the event loop. */
bool
net_watch(SmFarm *farm, int fd, uint32_t events, void *source)
{
	struct epoll_event event = {0};

	event.events = events;
	event.data.ptr = source;
	return epoll_ctl(farm->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Waits for what a connection needs now: bytes to read, and room when there is something to send. */
void
net_watch_for(SmConnection *connection)
{
	struct epoll_event event = {0};
	bool wants_out =
		connection->connecting || connection->out_length > 0 || tls_wants_write(connection);

	if (connection->fd < 0 || !connection->watched)
		return;
	event.events = EPOLLIN | (wants_out ? EPOLLOUT : 0u);
	event.data.ptr = connection;
	epoll_ctl(connection->port->farm->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Begins or stops listening to a connection's descriptor. */
static void
net_attend(SmConnection *connection, bool on)
{
	SmFarm *farm = connection->port->farm;

	if (connection->watched == on || connection->fd < 0)
		return;
	connection->watched = on;
	if (!on)
		epoll_ctl(farm->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
	else if (net_watch(farm, connection->fd, EPOLLIN, connection))
		net_watch_for(connection);
	else
		net_close(connection);
}

/* Gives one reference back; the last one lays the connection into the graveyard. */
void
net_release(SmConnection *connection)
{
	SmFarm *farm = connection->port->farm;

	if (--connection->references > 0)
		return;
	connection->next = farm->graveyard;
	farm->graveyard = connection;
}

/* Frees the connections that ended in this round. */
void
net_bury(SmFarm *farm)
{
	while (farm->graveyard != NULL)
	{
		SmConnection *next = farm->graveyard->next;

		free(farm->graveyard->out);
		free(farm->graveyard->held);
		free(farm->graveyard);
		farm->graveyard = next;
	}
}

/* Closes a connection; what was still to be sent to it is lost. */
void
net_close(SmConnection *connection)
{
	SmPort *port = connection->port;
	SmConnection **link = &port->connections;

	if (connection->fd < 0)
		return;
	tls_end(connection);
	close(connection->fd);
	connection->fd = -1;
	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	port->connection_count--;
	if (port->door == DOOR_DIAL)
		dial_lost(port, connection);
	net_release(connection);
}

/* Writes some bytes; the number taken, or -1 with errno. */
static ssize_t
net_write(SmConnection *connection, const uint8_t *bytes, size_t length)
{
	if (connection->connecting || connection->shaking)
	{
		errno = EAGAIN;
		return -1;
	}
	if (connection->ssl != NULL)
		return tls_write(connection, bytes, length);
	return write(connection->fd, bytes, length);
}

/* Keeps bytes the peer does not take yet; a peer that never reads is cut off. */
static void
net_keep(SmConnection *connection, const uint8_t *bytes, size_t length)
{
	if (connection->out_length + length > OUT_MAX)
	{
		net_close(connection);
		return;
	}
	if (connection->out == NULL)
		connection->out = farm_alloc(OUT_MAX);
	memcpy(connection->out + connection->out_length, bytes, length);
	connection->out_length += length;
	net_watch_for(connection);
}

/* Sends bytes now, or as soon as the peer takes them. */
void
net_send(SmConnection *connection, const uint8_t *bytes, int length)
{
	ssize_t sent = 0;

	if (connection->fd < 0 || length <= 0)
		return;
	if (connection->out_length == 0)
		sent = net_write(connection, bytes, (size_t) length);
	if (sent < 0 && errno != EAGAIN)
		net_close(connection);
	else if (sent < length)
		net_keep(connection, bytes + (sent < 0 ? 0 : sent),
				 (size_t) (length - (sent < 0 ? 0 : sent)));
}

/* Sends what was kept. */
static void
net_flush(SmConnection *connection)
{
	ssize_t sent = net_write(connection, connection->out, connection->out_length);

	if (sent < 0 && errno != EAGAIN)
	{
		net_close(connection);
		return;
	}
	if (sent > 0)
	{
		connection->out_length -= (size_t) sent;
		memmove(connection->out, connection->out + sent, connection->out_length);
	}
	net_watch_for(connection);
}

/* Takes bytes that were understood, or given up, off the front of what was received. */
void
net_consume(SmConnection *connection, int length)
{
	connection->in_length -= length;
	memmove(connection->in, connection->in + length, (size_t) connection->in_length);
}

/* Reads once; false when there is nothing more for now or the connection is gone. */
static bool
net_receive(SmConnection *connection)
{
	size_t room = sizeof(connection->in) - (size_t) connection->in_length;
	uint8_t *to = connection->in + connection->in_length;
	ssize_t got =
		connection->ssl != NULL ? tls_read(connection, to, room) : read(connection->fd, to, room);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got <= 0)
	{
		net_close(connection);
		return false;
	}
	connection->in_length += (int) got;
	return true;
}

/* Forgets the piece of a frame that came long before these bytes, as a meter on a line does. */
static void
net_forget(SmConnection *connection)
{
	int64_t now_ns = farm_mono_ns();

	if (connection->in_length > 0 && now_ns - connection->last_in_ns > STALE_NS &&
		connection->port->wire != WIRE_TCP)
	{
		connection->port->malformed++;
		connection->in_length = 0;
	}
	connection->last_in_ns = now_ns;
}

/* Reads everything there is and hands it to the wire. */
static void
net_take(SmConnection *connection)
{
	SmPort *port = connection->port;

	net_forget(connection);
	while (connection->fd >= 0 && net_receive(connection))
	{
		if (port->door == DOOR_DIAL)
			dial_take(port, connection);
		cutters[port->wire](connection);
		if (connection->in_length < IN_MAX)
			continue;
		port->malformed++;
		connection->in_length = 0;
	}
}

/* Handles an event on a connection. */
void
net_ready(SmConnection *connection, uint32_t events)
{
	if (connection->fd < 0 || !connection->watched)
		return;
	if (connection->connecting)
	{
		dial_connected(connection);
		if (connection->fd < 0 || connection->connecting)
			return;
	}
	if (connection->shaking)
	{
		if (!tls_shake(connection))
			net_close(connection);
		if (connection->fd < 0 || connection->shaking)
		{
			net_watch_for(connection);
			return;
		}
		if (connection->port->door == DOOR_DIAL)
			dial_begin(connection);
	}
	if (connection->out_length > 0)
		net_flush(connection);
	if (connection->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		net_take(connection);
	net_watch_for(connection);
}

/* Makes a connection of a descriptor. */
SmConnection *
net_connection(SmPort *port, int fd, bool connecting)
{
	SmConnection *connection = farm_alloc(sizeof(SmConnection));

	connection->source = SOURCE_CONNECTION;
	connection->port = port;
	connection->fd = fd;
	connection->references = 1;
	connection->connecting = connecting;
	connection->next = port->connections;
	port->connections = connection;
	port->connections_seen++;
	if (++port->connection_count > port->connections_most)
		port->connections_most = port->connection_count;
	if (port->tls != NULL && !tls_begin(connection))
		net_close(connection);
	else if (!port->half_open)
		net_attend(connection, true);
	return connection;
}

/* Takes in all connections that wait at a port. */
void
net_accept(SmPort *port)
{
	int on = 1;
	int fd;

	while (port->fd >= 0 && (fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		if (port->connections_max > 0 && port->connection_count >= port->connections_max)
		{
			port->connections_seen++;
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		net_connection(port, fd, false);
	}
}

/* Lets the connections of a port hang, open and unheard, or hears them again. */
void
net_half_open(SmPort *port, bool on)
{
	SmConnection *connection;
	SmConnection *next;

	port->half_open = on;
	for (connection = port->connections; connection != NULL; connection = next)
	{
		next = connection->next;
		if (!connection->abandoned)
			net_attend(connection, !on);
	}
}

/* Leaves the connections of a port open for ever, as a gateway does that lost its memory. */
void
net_abandon(SmPort *port)
{
	SmConnection *connection;

	for (connection = port->connections; connection != NULL; connection = connection->next)
	{
		net_attend(connection, false);
		connection->abandoned = true;
	}
}

/* Starts listening; a port of number 0 gets one from the system and keeps it. */
static bool
net_listen(SmPort *port, SmError *error)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof(address);
	int on = 1;

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) port->number);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	port->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (port->fd >= 0 && setsockopt(port->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(port->fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
		listen(port->fd, 128) == 0 &&
		getsockname(port->fd, (struct sockaddr *) &address, &length) == 0 &&
		net_watch(port->farm, port->fd, EPOLLIN, port))
	{
		port->number = ntohs(address.sin_port);
		return true;
	}
	farm_fail(error, "could not listen on port %s (%d): %s", port->name, port->number,
			  strerror(errno));
	if (port->fd >= 0)
		close(port->fd);
	port->fd = -1;
	return false;
}

/* Tells whether a port is in service. */
bool
net_is_up(const SmPort *port)
{
	return port->door == DOOR_DIAL ? port->wanted : port->fd >= 0;
}

/* Puts a port into service: listens, dials or opens the serial line. */
bool
net_open(SmPort *port, SmError *error)
{
	if (net_is_up(port))
		return true;
	if (port->door == DOOR_PTY)
		return pty_open(port, error);
	if (port->door == DOOR_LISTEN)
		return net_listen(port, error);
	port->wanted = true;
	dial_call(port);
	return true;
}

/* Takes a port out of service and closes its connections, as when a gateway loses power. */
void
net_down(SmPort *port)
{
	if (port->fd >= 0)
		close(port->fd);
	port->fd = -1;
	port->wanted = false;
	while (port->connections != NULL)
		net_close(port->connections);
	if (port->link[0] != '\0')
		unlink(port->link);
}
