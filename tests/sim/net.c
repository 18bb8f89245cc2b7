/*
 * net.c - ports and connections
 *
 * One MBAP frame in, one frame out, cut and glued here so that faults can be put in byte by byte.
 * A connection may be closed while epoll still holds an event for it or the queue holds bytes for
 * it: it is freed by net_bury, after the round, when nothing points at it any more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fault.h"
#include "net.h"
#include "queue.h"
#include "wire.h"

#define HEADER 7
#define OUT_MAX 65536
#define BITS_PER_CHARACTER 10 /* 8N1 */
#define RTU_EXTRA 3           /* unit and CRC around a PDU on the line */

typedef struct SmConnection
{
	SmSourceKind source;
	struct SmConnection *next;
	SmPort *port;
	int fd;
	int references; /* one for being open, one for each chunk in the queue */
	int64_t last_due_ns;
	SmChunk *held; /* a late answer, sent when the next request comes */
	int in_length;
	uint8_t in[2 * ADU_MAX];
	uint8_t *out; /* what the peer does not take yet */
	size_t out_length;
} SmConnection;

/* Registers a descriptor with the event loop. */
bool
net_watch(SmFarm *farm, int fd, uint32_t events, void *source)
{
	struct epoll_event event = {0};

	event.events = events;
	event.data.ptr = source;
	return epoll_ctl(farm->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Gives one reference back; the last one lays the connection into the graveyard. */
static void
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
static void
net_close(SmConnection *connection)
{
	SmConnection **link = &connection->port->connections;

	if (connection->fd < 0)
		return;
	close(connection->fd);
	connection->fd = -1;
	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	connection->port->connection_count--;
	net_release(connection);
}

/* Keeps bytes the peer does not take yet; a peer that never reads is cut off. */
static void
net_keep(SmConnection *connection, const uint8_t *bytes, size_t length)
{
	struct epoll_event event = {0};

	if (connection->out_length + length > OUT_MAX)
	{
		net_close(connection);
		return;
	}
	if (connection->out == NULL)
		connection->out = farm_alloc(OUT_MAX);
	memcpy(connection->out + connection->out_length, bytes, length);
	connection->out_length += length;
	event.events = EPOLLIN | EPOLLOUT;
	event.data.ptr = connection;
	epoll_ctl(connection->port->farm->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Sends bytes now. */
static void
net_send(SmConnection *connection, const uint8_t *bytes, int length)
{
	ssize_t sent = 0;

	if (connection->fd < 0)
		return;
	if (connection->out_length == 0)
		sent = send(connection->fd, bytes, (size_t) length, MSG_NOSIGNAL | MSG_DONTWAIT);
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
	struct epoll_event event = {0};
	ssize_t sent =
		send(connection->fd, connection->out, connection->out_length, MSG_NOSIGNAL | MSG_DONTWAIT);

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
	event.events = EPOLLIN | (connection->out_length > 0 ? EPOLLOUT : 0u);
	event.data.ptr = connection;
	epoll_ctl(connection->port->farm->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Makes a chunk of an answer; whoever takes it frees it. */
static SmChunk *
net_chunk(SmConnection *connection, const uint8_t *bytes, int length)
{
	SmChunk *chunk = farm_alloc(sizeof(SmChunk));

	chunk->connection = connection;
	chunk->length = length;
	memcpy(chunk->bytes, bytes, (size_t) length);
	return chunk;
}

/* Sends bytes at a moment. An owed answer counts as outstanding until then. */
static void
net_send_at(SmConnection *connection, int64_t due_ns, const uint8_t *bytes, int length, bool owed)
{
	SmChunk *chunk;

	if (connection->fd < 0)
		return;
	if (due_ns <= farm_mono_ns())
	{
		net_send(connection, bytes, length);
		return;
	}
	chunk = net_chunk(connection, bytes, length);
	chunk->due_ns = due_ns;
	chunk->owed = owed;
	connection->references++;
	connection->port->pending += owed ? 1 : 0;
	queue_push(connection->port->farm, chunk);
}

/* Sends everything that is due. */
void
net_send_due(SmFarm *farm)
{
	int64_t now_ns = farm_mono_ns();
	SmChunk *chunk;

	while ((chunk = queue_first(farm)) != NULL && chunk->due_ns <= now_ns)
	{
		queue_pop(farm);
		chunk->connection->port->pending -= chunk->owed ? 1 : 0;
		net_send(chunk->connection, chunk->bytes, chunk->length);
		net_release(chunk->connection);
		free(chunk);
	}
}

/* Sets the timer to the next chunk that is due. */
void
net_arm_timer(SmFarm *farm)
{
	const SmChunk *first = queue_first(farm);
	int64_t due_ns = first == NULL ? 0 : first->due_ns;
	struct itimerspec when = {0};

	if (due_ns == farm->armed_ns)
		return;
	when.it_value.tv_sec = due_ns / NS_PER_S;
	when.it_value.tv_nsec = due_ns % NS_PER_S;
	timerfd_settime(farm->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
	farm->armed_ns = due_ns;
}

/* When an answer leaves: after those before it, the line's latency and the time its bytes take. */
static int64_t
net_due(SmConnection *connection, int request_length, int answer_length, int64_t extra_ns)
{
	SmPort *port = connection->port;
	int64_t due_ns = farm_mono_ns();
	int64_t line_ns = port->latency_ns;

	if (port->baud > 0)
		line_ns += (request_length + answer_length + 2 * RTU_EXTRA) * BITS_PER_CHARACTER *
				   NS_PER_S / port->baud;
	if (line_ns > 0 && due_ns < port->busy_until_ns)
		due_ns = port->busy_until_ns;
	due_ns += line_ns + extra_ns;
	if (line_ns > 0)
		port->busy_until_ns = due_ns;
	if (due_ns < connection->last_due_ns)
		due_ns = connection->last_due_ns;
	connection->last_due_ns = due_ns;
	return due_ns;
}

/* Sends an answer on its way, as whole, late, doubled or in pieces as planned. */
static void
net_dispatch(SmConnection *connection, const SmPlan *plan, int request_length, uint8_t *adu,
			 int length)
{
	int64_t delay_ns = plan->wire == FAULT_DELAY ? plan->argument * NS_PER_MS : 0;
	int64_t due_ns;

	if (plan->wire == FAULT_LATE && plan->argument < 0)
	{
		free(connection->held);
		connection->held = net_chunk(connection, adu, length);
		return;
	}
	if (plan->wire == FAULT_LATE)
	{
		due_ns = farm_mono_ns() + plan->argument * NS_PER_MS;
		net_send_at(connection, due_ns, adu, length, false);
		return;
	}
	due_ns = net_due(connection, request_length, length - HEADER, delay_ns);
	if (plan->wire == FAULT_SPLIT)
	{
		net_send_at(connection, due_ns, adu, length / 2, true);
		due_ns += plan->argument * NS_PER_MS;
		net_send_at(connection, due_ns, adu + length / 2, length - length / 2, true);
		return;
	}
	net_send_at(connection, due_ns, adu, length, true);
	if (plan->wire == FAULT_DUPLICATE)
		net_send_at(connection, due_ns, adu, length, false);
}

/* Counts a request for the port and the unit it is for. */
static void
net_count(SmPort *port, SmMeter *meter, const uint8_t *pdu, int length)
{
	bool is_read = wire_is_read(pdu, length);
	bool is_write = wire_is_write(pdu, length);

	port->requests++;
	port->overlaps += port->pending > 0 ? 1 : 0;
	port->reads += is_read ? 1 : 0;
	if (meter == NULL)
		return;
	meter->requests++;
	meter->reads += is_read ? 1 : 0;
	meter->writes += is_write ? 1 : 0;
}

/* Builds the PDU of the answer; returns its length, 0 for none. */
static int
net_answer(SmPort *port, SmMeter *meter, const SmPlan *plan, const uint8_t *pdu, int length,
		   uint8_t *answer)
{
	if (plan->wire == FAULT_SILENCE || plan->wire == FAULT_DROP)
		return 0;
	if (meter == NULL)
		return port->absent_silent ? 0 : wire_exception(pdu[0], WIRE_TARGET_FAILED, answer);
	if (plan->wire == FAULT_EXCEPTION)
		return wire_exception(pdu[0], (int) plan->argument, answer);
	return wire_serve(meter, pdu, length, &plan->twist, answer);
}

/* What SmWriteSeen.answer says about a write. */
static int
net_write_code(const SmMeter *meter, const SmPlan *plan, const uint8_t *answer, int length)
{
	if (meter == NULL || length == 0)
		return -1;
	if (plan->wire == FAULT_EXCEPTION || (answer[0] & 0x80) != 0)
		return answer[1];
	return 0;
}

/* Serves one whole frame of a connection. */
static void
net_serve(SmConnection *connection, const uint8_t *frame, int pdu_length)
{
	SmPort *port = connection->port;
	const uint8_t *pdu = frame + HEADER;
	SmMeter *meter = port->units[frame[6]];
	uint8_t adu[2 * ADU_MAX];
	SmPlan plan;
	int length;

	net_count(port, meter, pdu, pdu_length);
	if (connection->held != NULL)
	{
		net_send(connection, connection->held->bytes, connection->held->length);
		free(connection->held);
		connection->held = NULL;
	}
	fault_plan(port, frame[6], wire_is_write(pdu, pdu_length), &plan);
	length = net_answer(port, meter, &plan, pdu, pdu_length, adu + HEADER);
	if (wire_is_write(pdu, pdu_length))
		wire_note_write(port, frame[6], pdu, pdu_length,
						net_write_code(meter, &plan, adu + HEADER, length));
	if (plan.wire == FAULT_DROP)
		net_close(connection);
	if (length == 0 || plan.wire == FAULT_REPLY_LOST)
		return;
	if (meter != NULL && (adu[HEADER] & 0x80) != 0)
		meter->refusals++;
	memcpy(adu, frame, HEADER);
	adu[4] = 0;
	adu[5] = (uint8_t) (length + 1);
	port->answers++;
	length = fault_shape(&plan, adu, HEADER + length);
	net_dispatch(connection, &plan, pdu_length, adu, length);
}

/* Cuts frames out of what was received. A header that is not Modbus ends the connection. */
static void
net_cut(SmConnection *connection)
{
	const uint8_t *in = connection->in;
	int at = 0;

	while (connection->fd >= 0 && connection->in_length - at >= HEADER)
	{
		int length = in[at + 4] << 8 | in[at + 5];

		if (in[at + 2] != 0 || in[at + 3] != 0 || length < 2 || length > PDU_MAX + 1)
		{
			connection->port->malformed++;
			net_close(connection);
			return;
		}
		if (connection->in_length - at < HEADER - 1 + length)
			break;
		net_serve(connection, in + at, length - 1);
		at += HEADER - 1 + length;
	}
	connection->in_length -= at;
	memmove(connection->in, connection->in + at, (size_t) connection->in_length);
}

/* Handles an event on a connection. */
void
net_ready(SmConnection *connection, uint32_t events)
{
	ssize_t got;

	if (connection->fd < 0)
		return;
	if ((events & EPOLLOUT) != 0 && connection->out_length > 0)
		net_flush(connection);
	if (connection->fd < 0 || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return;
	got = recv(connection->fd, connection->in + connection->in_length,
			   sizeof(connection->in) - (size_t) connection->in_length, MSG_DONTWAIT);
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		net_close(connection);
	else if (got > 0)
	{
		connection->in_length += (int) got;
		net_cut(connection);
	}
}

/* Takes one connection in. */
static void
net_welcome(SmPort *port, int fd)
{
	SmConnection *connection;
	int on = 1;

	port->connections_seen++;
	if (port->connections_max > 0 && port->connection_count >= port->connections_max)
	{
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connection = farm_alloc(sizeof(SmConnection));
	connection->source = SOURCE_CONNECTION;
	connection->port = port;
	connection->fd = fd;
	connection->references = 1;
	connection->next = port->connections;
	port->connections = connection;
	if (++port->connection_count > port->connections_most)
		port->connections_most = port->connection_count;
	if (!net_watch(port->farm, fd, EPOLLIN, connection))
		net_close(connection);
}

/* Takes in all connections that wait at a port. */
void
net_accept(SmPort *port)
{
	int fd;

	while (port->fd >= 0 && (fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		net_welcome(port, fd);
}

/* Starts listening; a port of number 0 gets one from the system and keeps it. */
bool
net_listen(SmPort *port, SmError *error)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof(address);
	int on = 1;

	if (port->fd >= 0)
		return true;
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

/* Stops listening and closes the connections, as when a gateway loses power. */
void
net_down(SmPort *port)
{
	if (port->fd >= 0)
		close(port->fd);
	port->fd = -1;
	while (port->connections != NULL)
		net_close(port->connections);
}
