/*
 * dial.c - gateways that call the poller
 *
 * A port with a telephone: it connects, sends its registration, then a heartbeat every so often, and
 * calls again when the connection is lost. A 376.1 concentrator logs in instead (q376.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dial.h"
#include "parse.h"
#include "q376.h"
#include "queue.h"

#define RETRY_NS NS_PER_S
#define EVERY_NS (30 * NS_PER_S)

static void dial_beat(SmPort *port);

/* Reads "HOST:PORT" and makes the port one that dials. */
bool
dial_parse(SmPort *port, const char *where, SmError *error)
{
	SmDial *dial = farm_alloc(sizeof(SmDial));
	const char *colon = strrchr(where, ':');
	int64_t number;

	port->dial = dial;
	port->door = DOOR_DIAL;
	dial->every_ns = EVERY_NS;
	dial->retry_ns = RETRY_NS;
	dial->terminal = (uint16_t) (port->copy > 0 ? port->copy : 1);
	if (colon == NULL || colon == where || colon - where >= NAME_SIZE ||
		!parse_integer(colon + 1, 1, 65535, &number))
		return farm_fail(error, "dial wants HOST:PORT");
	memcpy(dial->host, where, (size_t) (colon - where));
	dial->number = (int) number;
	return true;
}

/* Reads two hexadecimal digits. */
static bool
dial_hex(const char *text, uint8_t *byte)
{
	unsigned value;
	int read = 0;

	if (sscanf(text, "%2x%n", &value, &read) != 1 || read != 2)
		return false;
	*byte = (uint8_t) value;
	return true;
}

/* Writes the number of the port's copy in place of a run of '%' signs; returns their count. */
static int
dial_counter(const SmPort *port, const char *text, SmPacket *packet)
{
	char digits[32];
	int width = (int) strspn(text, "%");

	if (width > 12 || packet->length + width > PACKET_MAX)
		return 0;
	snprintf(digits, sizeof(digits), "%0*d", width, port->copy);
	memcpy(packet->bytes + packet->length, digits + strlen(digits) - (size_t) width,
		   (size_t) width);
	packet->length += width;
	return width;
}

/* Takes one character of a packet's text; returns how much of the text it was, 0 = no good. */
static int
dial_character(const SmPort *port, const char *text, SmPacket *packet)
{
	uint8_t *to = packet->bytes + packet->length;

	if (packet->length == PACKET_MAX)
		return 0;
	if (*text == '%')
		return dial_counter(port, text, packet);
	packet->length++;
	*to = (uint8_t) *text;
	if (*text != '\\')
		return 1;
	*to = text[1] == 'r' ? '\r' : text[1] == 'n' ? '\n' : text[1] == 's' ? ' ' : 0;
	if (*to != 0)
		return 2;
	return text[1] == 'x' && dial_hex(text + 2, to) ? 4 : 0;
}

/*
 * Reads a packet: text with \r \n \s \xNN and a run of '%' for the copy's number in as many digits,
 * or hex: and digits.
 */
bool
dial_packet(const SmPort *port, const char *text, SmPacket *packet)
{
	bool hex = strncmp(text, "hex:", 4) == 0;
	int step;

	packet->length = 0;
	for (text += hex ? 4 : 0; *text != '\0'; text += step)
	{
		step = 0;
		if (!hex)
			step = dial_character(port, text, packet);
		else if (packet->length < PACKET_MAX && dial_hex(text, &packet->bytes[packet->length]))
		{
			packet->length++;
			step = 2;
		}
		if (step == 0)
			return false;
	}
	return packet->length > 0;
}

/* Reads "REGION:NUMBER", the address of a 376.1 terminal; copies count up from the number. */
static bool
dial_terminal(SmPort *port, const char *value)
{
	unsigned region;
	unsigned number;
	int read = 0;

	if (sscanf(value, "%4x:%u%n", &region, &number, &read) != 2 || value[read] != '\0')
		return false;
	number += port->copy > 0 ? (unsigned) port->copy - 1 : 0;
	port->dial->region = (uint16_t) region;
	port->dial->terminal = (uint16_t) number;
	return number >= 1 && number <= 65534;
}

/* Applies one key=value of a line "port"; false when it is none of these. */
bool
dial_option(SmPort *port, const char *key, const char *value)
{
	SmDial *dial = port->dial;
	int64_t number;

	if (dial == NULL)
		return false;
	if (strcmp(key, "registration") == 0)
		return dial_packet(port, value, &dial->registration);
	if (strcmp(key, "heartbeat") == 0)
		return dial_packet(port, value, &dial->heartbeat);
	if (strcmp(key, "heartbeat_answer") == 0)
		return dial_packet(port, value, &dial->heartbeat_answer);
	if (strcmp(key, "terminal") == 0)
		return dial_terminal(port, value);
	if (!parse_fixed(value, 3, &number) || number <= 0)
		return false;
	if (strcmp(key, "every") == 0)
		dial->every_ns = number * NS_PER_MS;
	else if (strcmp(key, "retry") == 0)
		dial->retry_ns = number * NS_PER_MS;
	else
		return false;
	return true;
}

/* Calls again after a while. */
static void
dial_later(SmPort *port)
{
	port->dial->next_call_ns = farm_mono_ns() + port->dial->retry_ns;
	queue_call(port, port->dial->next_call_ns, dial_call);
}

/* Opens a socket to the peer, not waiting for it to answer; -1 when it cannot be called. */
static int
dial_socket(const SmDial *dial, bool *connecting)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char number[16];
	int on = 1;
	int fd = -1;

	snprintf(number, sizeof(number), "%d", dial->number);
	if (getaddrinfo(dial->host, number, &hints, &found) != 0)
		return -1;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*connecting = false;
	if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0)
	{
		*connecting = errno == EINPROGRESS;
		if (!*connecting)
		{
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	return fd;
}

/* Calls the peer, unless there is a connection already or it is not time yet. */
void
dial_call(SmPort *port)
{
	SmDial *dial = port->dial;
	bool connecting;
	int fd;

	if (!port->wanted || dial->current != NULL || farm_mono_ns() < dial->next_call_ns)
		return;
	dial->calls++;
	fd = dial_socket(dial, &connecting);
	if (fd < 0)
	{
		dial_later(port);
		return;
	}
	dial->current = net_connection(port, fd, true);
	if (dial->current->fd < 0)
	{
		dial->current = NULL;
		dial_later(port);
		return;
	}
	net_watch_for(dial->current);
}

/* Calls anew: hangs up first, or leaves the old connection open as a modem does that restarted. */
void
dial_again(SmPort *port, bool leave_open)
{
	SmDial *dial = port->dial;
	SmConnection *old = dial->current;

	dial->current = NULL;
	dial->next_call_ns = 0;
	if (leave_open)
		net_abandon(port);
	else if (old != NULL)
		net_close(old);
	dial_call(port);
}

/* Learns how a call went; a plain connection begins at once, one with TLS after its handshake. */
void
dial_connected(SmConnection *connection)
{
	int problem = 0;
	socklen_t length = sizeof(problem);

	if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0 || problem != 0)
	{
		net_close(connection);
		return;
	}
	connection->connecting = false;
	if (connection->ssl == NULL)
		dial_begin(connection);
	net_watch_for(connection);
}

/* Says who is calling. */
void
dial_begin(SmConnection *connection)
{
	SmPort *port = connection->port;
	SmDial *dial = port->dial;

	if (port->wire == WIRE_Q376)
		q376_login(connection);
	else if (dial->registration.length > 0)
	{
		dial->registrations++;
		net_send(connection, dial->registration.bytes, dial->registration.length);
	}
	if (port->wire != WIRE_Q376 && dial->heartbeat.length == 0)
		return;
	dial->next_beat_ns = farm_mono_ns() + dial->every_ns;
	queue_call(port, dial->next_beat_ns, dial_beat);
}

/* Sends the heartbeat that is due and arranges for the next. */
static void
dial_beat(SmPort *port)
{
	SmDial *dial = port->dial;
	SmConnection *connection = dial->current;

	if (connection == NULL || connection->connecting || connection->shaking ||
		farm_mono_ns() < dial->next_beat_ns)
		return;
	dial->next_beat_ns = farm_mono_ns() + dial->every_ns;
	queue_call(port, dial->next_beat_ns, dial_beat);
	if (port->half_open)
		return;
	if (port->wire == WIRE_Q376)
		q376_beat(connection);
	else
	{
		dial->heartbeats++;
		net_send(connection, dial->heartbeat.bytes, dial->heartbeat.length);
	}
}

/* Counts an answered heartbeat. */
void
dial_heard(SmPort *port)
{
	port->dial->heartbeat_answers++;
}

/* Takes answers to heartbeats off the front of what was received. */
void
dial_take(SmPort *port, SmConnection *connection)
{
	const SmPacket *answer = &port->dial->heartbeat_answer;

	while (answer->length > 0 && connection->in_length >= answer->length &&
		   memcmp(connection->in, answer->bytes, (size_t) answer->length) == 0)
	{
		net_consume(connection, answer->length);
		dial_heard(port);
	}
}

/* The connection is gone: call again after a while. */
void
dial_lost(SmPort *port, const SmConnection *connection)
{
	if (port->dial->current != connection)
		return;
	port->dial->current = NULL;
	if (port->wanted)
		dial_later(port);
}

/* Has the handshake check that the peer's certificate is for the host that was called. */
bool
dial_name(const SmPort *port, struct ssl_st *ssl)
{
	const char *host = port->dial->host;
	uint8_t address[16];

	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}
