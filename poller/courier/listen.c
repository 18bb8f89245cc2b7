/*
 * listen.c - notifications of the payment providers: from HTTP to payment_notify() and back
 *
 * Plain HTTP for a TLS proxy on the same machine or in the same network. A notification is taken
 * whole, bytes as they came, within limits of size and time; the database judges it and says what
 * is answered. While it does the connection sleeps. Without a database the answer is 503: every
 * provider comes again.
 *
 * libmicrohttpd ends connections on which nothing comes. One on which a byte comes now and then
 * would never end, so every connection has a time by which its request must be whole.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../log.h"
#include "courier.h"

#define LISTEN_BODY_MOST 65536
#define LISTEN_BODY_END (16 * LISTEN_BODY_MOST) /* nobody is listened to further than that */
#define LISTEN_HEADERS_MOST 16384
#define LISTEN_CONNECTIONS 512
#define LISTEN_CONNECTIONS_PER_PEER 256
#define LISTEN_TIMEOUT_S 10
#define LISTEN_WHOLE_US (20 * US_PER_S)
#define LISTEN_LOOK_US US_PER_S
#define LISTEN_DATABASES 8

static const char listen_sql[] =
	"SELECT n.status, n.body FROM submeter.payment_notify($1, $2::pg_catalog.jsonb,"
	" pg_catalog.decode($3, 'hex')) n";
static const char listen_greeting[] =
	"SET search_path = ''; SET statement_timeout = '4s';"
	" SET application_name = 'submeter-courier listen'; SET client_min_messages = warning";

/* Somebody who is connected. */
typedef struct SmVisitor
{
	struct SmVisitor *next;
	struct SmVisitor **place; /* the pointer that points here */
	int fd;
	int64_t whole_by_us; /* 0: we are at work for it */
} SmVisitor;

/* One request that is being taken in or judged. */
typedef struct SmNotification
{
	struct SmListen *listen;
	struct MHD_Connection *connection; /* NULL: the other side is gone */
	SmText body;                       /* hex digits */
	size_t size;
	bool asked; /* the database */
	bool asleep;
	int status; /* once it is known */
	char *answer;
} SmNotification;

struct SmListen
{
	SmLoop *loop;
	struct MHD_Daemon *daemon;
	SmWatch watch;
	SmTimer timer;
	SmDb *databases[LISTEN_DATABASES];
	int next_database;
	SmVisitor *visitors;
	SmTimer look;
	int open;   /* notifications that were asked about and are not answered yet */
	int asleep; /* of them, those the database has not answered */
	bool stopping;
};

/* Lets libmicrohttpd do what it can, and finds out when it wants to be woken. */
static void
listen_run(SmListen *listen)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;

	MHD_run(listen->daemon);
	if (MHD_get_timeout(listen->daemon, &wait_ms) == MHD_YES)
		loop_set(listen->loop, &listen->timer, base_now_us() + (int64_t) wait_ms * US_PER_MS);
	else
		loop_cancel(listen->loop, &listen->timer);
}

static void
listen_ready(void *context, uint32_t events)
{
	(void) events;
	listen_run(context);
}

static void
listen_timer(void *context)
{
	listen_run(context);
}

static void
listen_free_notification(SmNotification *notification)
{
	text_free(&notification->body);
	free(notification->answer);
	free(notification);
}

/* Sends an answer. */
static enum MHD_Result
listen_answer(struct MHD_Connection *connection, int status, const char *text)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (void *) text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result queued;

	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
							text[0] == '{' ? "application/json" : "text/plain; charset=utf-8");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "POST");
	queued = MHD_queue_response(connection, (unsigned int) status, response);
	MHD_destroy_response(response);
	return queued;
}

/* The database has judged a notification, or could not. */
static void
listen_judged(void *context, const SmDbReply *reply)
{
	SmNotification *notification = context;
	SmListen *listen = notification->listen;
	int64_t status = 0;

	listen->asleep--;
	notification->asleep = false;
	if (notification->connection == NULL)
	{
		listen->open--;
		listen_free_notification(notification);
		return;
	}
	notification->status = MHD_HTTP_SERVICE_UNAVAILABLE;
	if (reply->ok && reply->count > 0 && PQntuples(reply->results[0]) == 1 &&
		base_parse_int(PQgetvalue(reply->results[0], 0, 0), 200, 599, &status))
	{
		notification->status = (int) status;
		notification->answer = base_copy(PQgetvalue(reply->results[0], 0, 1));
	}
	else if (!reply->ok)
		log_error("a notification could not be judged: %s", reply->message);
	MHD_resume_connection(notification->connection);
	loop_set(listen->loop, &listen->timer, base_now_us());
}

typedef struct SmHeaderLimit
{
	SmHeaders headers;
	bool too_long;
	int lengths; /* headers that say where the body ends */
} SmHeaderLimit;

static enum MHD_Result
listen_take_header(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
				   const char *value, size_t value_size)
{
	SmHeaderLimit *limit = context;

	(void) kind;
	if (name != NULL && (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ||
						 strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0))
		limit->lengths++;
	if (limit->headers.json.length > LISTEN_HEADERS_MOST)
		limit->too_long = true;
	else if (name != NULL && value != NULL && name_size > 0 && name[0] != ':')
		headers_add(&limit->headers, name, name_size, value, value_size);
	return limit->too_long ? MHD_NO : MHD_YES;
}

/* Who sent it, in numbers. */
static void
listen_peer(struct MHD_Connection *connection, char *text, size_t size)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *peer = info != NULL ? info->client_addr : NULL;
	socklen_t length = peer != NULL && peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
																   : sizeof(struct sockaddr_in);

	if (peer == NULL ||
		getnameinfo(peer, length, text, (socklen_t) size, NULL, 0, NI_NUMERICHOST) != 0)
		snprintf(text, size, "unknown");
}

/*
 * Headers of a notification with path and sender, as the database wants them. The status to refuse
 * them with, 0 when they are good: where two headers say how long the body is, a proxy may have
 * taken the other one.
 */
static int
listen_headers(struct MHD_Connection *connection, const char *path, SmText *json)
{
	SmHeaderLimit limit = {0};
	char peer[64];

	listen_peer(connection, peer, sizeof(peer));
	headers_add(&limit.headers, ":path", 5, path, strlen(path));
	headers_add(&limit.headers, ":peer", 5, peer, strlen(peer));
	MHD_get_connection_values_n(connection, MHD_HEADER_KIND, listen_take_header, &limit);
	*json = headers_take(&limit.headers);
	if (limit.too_long)
		return MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
	return limit.lengths > 1 ? MHD_HTTP_BAD_REQUEST : 0;
}

/* Hands a whole notification to the database; false when there is none to hand it to. */
static bool
listen_ask(SmListen *listen, SmNotification *notification, const char *path, const char *provider)
{
	SmText headers;
	const char *values[3];
	bool sent = false;
	int i;

	notification->status = listen_headers(notification->connection, path, &headers);
	if (notification->status != 0)
	{
		text_free(&headers);
		return true;
	}
	values[0] = provider;
	values[1] = headers.data;
	values[2] = notification->body.data != NULL ? notification->body.data : "";
	for (i = 0; i < LISTEN_DATABASES && !sent; i++)
	{
		SmDb *db = listen->databases[listen->next_database++ % LISTEN_DATABASES];

		sent = db_is_up(db) && db_send(db, listen_sql, 3, values, listen_judged, notification);
	}
	text_free(&headers);
	return sent;
}

/* Keeps a piece of the body as hex digits; false when it is past all patience. */
static bool
listen_take_body(SmNotification *notification, const char *bytes, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	char piece[257];
	size_t i;

	notification->size += size;
	for (i = 0; i < size && notification->size <= LISTEN_BODY_MOST; i++)
	{
		piece[2 * (i % 128)] = digits[(unsigned char) bytes[i] >> 4];
		piece[2 * (i % 128) + 1] = digits[(unsigned char) bytes[i] & 15];
		piece[2 * (i % 128) + 2] = '\0';
		if (i % 128 == 127 || i == size - 1)
			text_add(&notification->body, piece);
	}
	return notification->size <= LISTEN_BODY_END;
}

/* The request is whole: what is answered at once, or 0 when the database is asked. */
static int
listen_judge(SmListen *listen, SmNotification *notification, const char *method, const char *path)
{
	char provider[32];

	if (strcmp(path, "/health") == 0)
		return db_is_up(listen->databases[0]) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
	if (!address_provider(path, provider, sizeof(provider)))
		return MHD_HTTP_NOT_FOUND;
	if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	if (notification->size > LISTEN_BODY_MOST)
		return MHD_HTTP_CONTENT_TOO_LARGE;
	if (listen->stopping || !listen_ask(listen, notification, path, provider))
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	return notification->status;
}

/* Who is connected here. */
static SmVisitor *
listen_visitor(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

/* Somebody has this long for a whole request; 0: we are at work for it. */
static void
listen_allow(struct MHD_Connection *connection, int64_t us)
{
	SmVisitor *visitor = listen_visitor(connection);

	if (visitor != NULL)
		visitor->whole_by_us = us > 0 ? base_now_us() + us : 0;
}

/* libmicrohttpd: somebody has connected or is gone. */
static void
listen_visit(void *context, struct MHD_Connection *connection, void **own,
			 enum MHD_ConnectionNotificationCode code)
{
	SmListen *listen = context;
	SmVisitor *visitor = *own;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		visitor = base_alloc(sizeof(SmVisitor));
		visitor->fd =
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		visitor->whole_by_us = base_now_us() + LISTEN_WHOLE_US;
		visitor->next = listen->visitors;
		visitor->place = &listen->visitors;
		if (visitor->next != NULL)
			visitor->next->place = &visitor->next;
		listen->visitors = visitor;
		*own = visitor;
		return;
	}
	*own = NULL;
	if (visitor == NULL)
		return;
	*visitor->place = visitor->next;
	if (visitor->next != NULL)
		visitor->next->place = visitor->place;
	free(visitor);
}

/* Hangs up on those who took too long; libmicrohttpd then finds them gone. */
static void
listen_look(void *context)
{
	SmListen *listen = context;
	int64_t now_us = base_now_us();
	SmVisitor *visitor;

	for (visitor = listen->visitors; visitor != NULL; visitor = visitor->next)
	{
		if (visitor->whole_by_us == 0 || visitor->whole_by_us > now_us)
			continue;
		visitor->whole_by_us = 0;
		shutdown(visitor->fd, SHUT_RDWR);
	}
	loop_set(listen->loop, &listen->look, now_us + LISTEN_LOOK_US);
}

/* A request is whole or was woken up: it is answered, or sleeps until the database has judged. */
static enum MHD_Result
listen_whole(SmListen *listen, SmNotification *notification, const char *method, const char *path)
{
	struct MHD_Connection *connection = notification->connection;
	int status = notification->status;

	if (status == 0)
		status = listen_judge(listen, notification, method, path);
	if (status != 0)
	{
		listen_allow(connection, LISTEN_WHOLE_US);
		return listen_answer(connection, status,
							 notification->answer != NULL ? notification->answer : "");
	}
	listen_allow(connection, 0);
	listen->open++;
	listen->asleep++;
	notification->asked = true;
	notification->asleep = true;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

/* libmicrohttpd: a request begins, a piece of it came, it is whole, or it was woken up. */
static enum MHD_Result
listen_request(void *context, struct MHD_Connection *connection, const char *path,
			   const char *method, const char *version, const char *bytes, size_t *size, void **own)
{
	SmListen *listen = context;
	SmNotification *notification = *own;
	size_t came = *size;

	(void) version;
	if (notification == NULL)
	{
		notification = base_alloc(sizeof(SmNotification));
		notification->listen = listen;
		notification->connection = connection;
		*own = notification;
		return MHD_YES;
	}
	if (came == 0)
		return listen_whole(listen, notification, method, path);
	*size = 0;
	return listen_take_body(notification, bytes, came) ? MHD_YES : MHD_NO;
}

/* libmicrohttpd: the request is over, answered or not. */
static void
listen_over(void *context, struct MHD_Connection *connection, void **own,
			enum MHD_RequestTerminationCode code)
{
	SmNotification *notification = *own;

	(void) code;
	*own = NULL;
	if (notification == NULL)
		return;
	notification->connection = NULL;
	listen_allow(connection, LISTEN_WHOLE_US);
	if (notification->asleep)
		return;
	if (notification->asked)
		((SmListen *) context)->open--;
	listen_free_notification(notification);
}

/* libmicrohttpd: addresses stay as they stand in the request. */
static size_t
listen_keep_escapes(void *context, struct MHD_Connection *connection, char *text)
{
	(void) context;
	(void) connection;
	return strlen(text);
}

/* Finds the address of [HOST:]PORT; NULL and why when there is none. */
static struct addrinfo *
listen_resolve(const char *address, char *why, size_t why_size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
							 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	const char *colon = strrchr(address, ':');
	char *host = base_copy(colon != NULL ? address : "127.0.0.1");
	int error;

	if (colon != NULL)
		host[colon - address] = '\0';
	if (host[0] == '[' && host[strlen(host) - 1] == ']')
	{
		memmove(host, host + 1, strlen(host));
		host[strlen(host) - 1] = '\0';
	}
	error = getaddrinfo(host, colon != NULL ? colon + 1 : address, &hints, &found);
	free(host);
	if (error == 0)
		return found;
	snprintf(why, why_size, "--listen \"%s\" is not [HOST:]PORT with a numeric host: %s", address,
			 gai_strerror(error));
	return NULL;
}

/*
 * Listens on [HOST:]PORT, on loopback when there is no host; NULL and why when that is not
 * possible.
 */
SmListen *
listen_create(SmLoop *loop, const char *address, const char *conninfo, char *why, size_t why_size)
{
	SmListen *listen;
	SmDbEvents events = {0};
	struct addrinfo *found = listen_resolve(address, why, why_size);
	int i;

	if (found == NULL)
		return NULL;
	listen = base_alloc(sizeof(SmListen));
	listen->loop = loop;
	listen->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
			(found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0),
		0, NULL, NULL, listen_request, listen, MHD_OPTION_SOCK_ADDR, found->ai_addr,
		MHD_OPTION_NOTIFY_COMPLETED, listen_over, listen, MHD_OPTION_NOTIFY_CONNECTION,
		listen_visit, listen, MHD_OPTION_UNESCAPE_CALLBACK, listen_keep_escapes, NULL,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int) LISTEN_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int) LISTEN_CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned int) LISTEN_CONNECTIONS_PER_PEER, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t) 32768, MHD_OPTION_END);
	freeaddrinfo(found);
	if (listen->daemon == NULL)
	{
		snprintf(why, why_size, "could not listen on \"%s\": %s", address, strerror(errno));
		free(listen);
		return NULL;
	}
	for (i = 0; i < LISTEN_DATABASES; i++)
	{
		listen->databases[i] = db_create(loop, "listen", conninfo, listen_greeting, &events);
		db_start(listen->databases[i]);
	}
	listen->look.fire = listen_look;
	listen->look.context = listen;
	loop_set(loop, &listen->look, base_now_us() + LISTEN_LOOK_US);
	listen->timer.fire = listen_timer;
	listen->timer.context = listen;
	listen->watch.ready = listen_ready;
	listen->watch.context = listen;
	loop_watch(loop, &listen->watch,
			   MHD_get_daemon_info(listen->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EPOLLIN);
	return listen;
}

/* Nobody can connect any more and nothing new is taken; what is being judged is answered. */
void
listen_stop(SmListen *listen)
{
	MHD_socket fd = MHD_quiesce_daemon(listen->daemon);

	listen->stopping = true;
	if (fd != MHD_INVALID_SOCKET)
		close(fd);
}

/* Whether everything that was judged is answered, too. */
bool
listen_is_quiet(const SmListen *listen)
{
	return listen->open == 0;
}

void
listen_free(SmListen *listen)
{
	int i;

	loop_unwatch(listen->loop, &listen->watch);
	loop_cancel(listen->loop, &listen->timer);
	loop_cancel(listen->loop, &listen->look);
	for (i = 0; i < LISTEN_DATABASES; i++)
		db_free(listen->databases[i]);
	/* It must not be stopped while connections sleep; the end of the process closes them. */
	if (listen->asleep == 0)
		MHD_stop_daemon(listen->daemon);
	free(listen);
}
