/*
 * dispatch.c - answers on their way, and the books kept about them
 *
 * An answer leaves when those before it have left and the line behind the port has had the time for
 * its characters; faults of delivery make it late, doubled or slow.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

#include "dispatch.h"
#include "queue.h"

/* Counts a request for the port and the meter it is for. */
void
dispatch_count(SmPort *port, SmMeter *meter, bool is_read, bool is_write)
{
	port->requests++;
	port->overlaps += port->pending > 0 ? 1 : 0;
	port->reads += is_read ? 1 : 0;
	if (meter == NULL)
		return;
	meter->requests++;
	meter->reads += is_read ? 1 : 0;
	meter->writes += is_write ? 1 : 0;
}

/* Remembers a write for the command "log", behind the moment it came. */
void
dispatch_note(SmPort *port, const char *format, ...)
{
	SmWriteSeen *seen = &port->writes_seen[port->writes++ % WRITES_KEPT];
	int64_t now_ms = (farm_mono_ns() - port->farm->mono_start_ns) / NS_PER_MS;
	va_list args;
	int length = snprintf(seen->text, sizeof(seen->text), "%lld:", (long long) now_ms);

	va_start(args, format);
	vsnprintf(seen->text + length, sizeof(seen->text) - (size_t) length, format, args);
	va_end(args);
}

/* Makes a chunk of bytes; whoever takes it frees it. */
static SmChunk *
dispatch_chunk(SmConnection *connection, const uint8_t *bytes, int length)
{
	SmChunk *chunk = farm_alloc(sizeof(SmChunk) + (size_t) length);

	chunk->connection = connection;
	chunk->length = length;
	memcpy(chunk->bytes, bytes, (size_t) length);
	return chunk;
}

/* Sends bytes at a moment. An owed answer counts as outstanding until then. */
static void
dispatch_at(SmConnection *connection, int64_t due_ns, const uint8_t *bytes, int length, bool owed)
{
	SmChunk *chunk;

	if (connection->fd < 0)
		return;
	if (due_ns <= farm_mono_ns())
	{
		net_send(connection, bytes, length);
		return;
	}
	chunk = dispatch_chunk(connection, bytes, length);
	chunk->due_ns = due_ns;
	chunk->owed = owed;
	connection->references++;
	connection->port->pending += owed ? 1 : 0;
	queue_push(connection->port->farm, chunk);
}

/* Sends, or does, everything that is due. */
void
dispatch_due(SmFarm *farm)
{
	int64_t now_ns = farm_mono_ns();
	SmChunk *chunk;

	while ((chunk = queue_first(farm)) != NULL && chunk->due_ns <= now_ns)
	{
		queue_pop(farm);
		if (chunk->run != NULL)
			chunk->run(chunk->port);
		else
		{
			chunk->connection->port->pending -= chunk->owed ? 1 : 0;
			net_send(chunk->connection, chunk->bytes, chunk->length);
			net_release(chunk->connection);
		}
		free(chunk);
	}
}

/* Sets the timer to the next chunk that is due. */
void
dispatch_arm(SmFarm *farm)
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

/* What characters take on the line behind a port. */
static int64_t
dispatch_line_ns(const SmPort *port, int chars)
{
	if (port->baud == 0)
		return 0;
	return (int64_t) chars * port->char_bits * NS_PER_S / port->baud;
}

/* A request that nobody answers has still been on the line. */
void
dispatch_unanswered(SmPort *port, int request_chars)
{
	int64_t line_ns = dispatch_line_ns(port, request_chars);
	int64_t now_ns = farm_mono_ns();

	port->wire_ns += line_ns;
	if (line_ns > 0)
		port->busy_until_ns =
			(port->busy_until_ns > now_ns ? port->busy_until_ns : now_ns) + line_ns;
}

/* When an answer leaves: after those before it, the line's latency and the time its bytes take. */
static int64_t
dispatch_when(SmConnection *connection, const SmReply *reply, int64_t extra_ns)
{
	SmPort *port = connection->port;
	int64_t due_ns = farm_mono_ns();
	int64_t wire_ns = dispatch_line_ns(port, reply->request_chars + reply->answer_chars);
	int64_t line_ns = port->latency_ns + wire_ns;

	port->wire_ns += wire_ns;
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

/* Sends the answer that the fault "late" held back until the next request. */
void
dispatch_held(SmConnection *connection)
{
	if (connection->held == NULL)
		return;
	net_send(connection, connection->held->bytes, connection->held->length);
	free(connection->held);
	connection->held = NULL;
}

/* Sends an answer whose time has been fixed whole, doubled or in pieces as planned. */
static void
dispatch_pieces(SmConnection *connection, const SmPlan *plan, int64_t due_ns, const SmReply *reply)
{
	int64_t step_ns = plan->argument * NS_PER_MS;
	int half = reply->length / 2;
	int i;

	if (plan->wire == FAULT_SPLIT)
	{
		dispatch_at(connection, due_ns, reply->bytes, half, true);
		dispatch_at(connection, due_ns + step_ns, reply->bytes + half, reply->length - half, true);
		connection->last_due_ns = due_ns + step_ns;
		return;
	}
	if (plan->wire == FAULT_SLOW)
	{
		for (i = 0; i < reply->length; i++)
			dispatch_at(connection, due_ns + i * step_ns, reply->bytes + i, 1, true);
		connection->last_due_ns = due_ns + reply->length * step_ns;
		return;
	}
	dispatch_at(connection, due_ns, reply->bytes, reply->length, true);
	i = plan->wire == FAULT_DUPLICATE ? 2 : plan->wire == FAULT_REPEAT ? (int) plan->argument : 1;
	while (--i > 0)
		dispatch_at(connection, due_ns, reply->bytes, reply->length, false);
}

/* Sends an answer on its way. */
void
dispatch_answer(SmConnection *connection, const SmPlan *plan, const SmReply *reply)
{
	int64_t delay_ns = plan->wire == FAULT_DELAY ? plan->argument * NS_PER_MS : 0;
	int keep = reply->length < LAST_MAX ? reply->length : LAST_MAX;

	connection->port->answers++;
	if (plan->wire == FAULT_LATE && plan->argument < 0)
	{
		free(connection->held);
		connection->held = dispatch_chunk(connection, reply->bytes, reply->length);
		return;
	}
	if (plan->wire == FAULT_LATE)
	{
		dispatch_at(connection, farm_mono_ns() + plan->argument * NS_PER_MS, reply->bytes,
					reply->length, false);
		return;
	}
	memcpy(connection->last, reply->bytes + reply->length - keep, (size_t) keep);
	connection->last_length = keep;
	dispatch_pieces(connection, plan, dispatch_when(connection, reply, delay_ns), reply);
}
