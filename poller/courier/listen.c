/*
 * listen.c - notifications of the payment providers: from HTTP to payment_notify() and back
 *
 * Plain HTTP for a TLS proxy on the same machine or in the same network. A notification is taken
 * whole, bytes as they came, within limits of size and time; the database judges it and says what
 * is answered. While it does the connection sleeps. Without a database the answer is 503: every
 * provider comes again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "courier.h"

#define LISTEN_BODY_MOST 65536
#define LISTEN_HEADERS_MOST 16384
#define LISTEN_CONNECTIONS 512
#define LISTEN_CONNECTIONS_PER_PEER 256
#define LISTEN_TIMEOUT_S 10
#define LISTEN_DATABASES 8

static const char listen_sql[] =
	"SELECT n.status, n.body FROM submeter.payment_notify($1, $2::pg_catalog.jsonb,"
	" pg_catalog.decode($3, 'hex')) n";
static const char listen_greeting[] =
	"SET search_path = ''; SET statement_timeout = '4s';"
	" SET application_name = 'submeter-courier listen'; SET client_min_messages = warning";

/* One request that is being taken in or judged. */
typedef struct SmNotification
{
	struct SmListen *listen;
	struct MHD_Connection *connection; /* NULL: the other side is gone */
	SmText body;                       /* hex digits */
	bool too_long;
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
	int open; /* notifications the database has not answered */
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

	listen->open--;
	notification->asleep = false;
	if (notification->connection == NULL)
	{
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

typedef struct SmHeaders
{
	SmText json;
	bool too_long;
} SmHeaders;

static enum MHD_Result
listen_take_header(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	SmHeaders *headers = context;

	(void) kind;
	if (headers->json.length > LISTEN_HEADERS_MOST)
		headers->too_long = true;
	else if (name != NULL && value != NULL && name[0] != ':')
		header_add_json(&headers->json, name, strlen(name), value, strlen(value));
	return headers->too_long ? MHD_NO : MHD_YES;
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

/* Headers of a notification with path and sender, as the database wants them. */
static bool
listen_headers(struct MHD_Connection *connection, const char *path, SmText *json)
{
	SmHeaders headers = {0};
	char peer[64];

	listen_peer(connection, peer, sizeof(peer));
	header_add_json(&headers.json, ":path", 5, path, strlen(path));
	header_add_json(&headers.json, ":peer", 5, peer, strlen(peer));
	MHD_get_connection_values(connection, MHD_HEADER_KIND, listen_take_header, &headers);
	text_add(&headers.json, "}");
	*json = headers.json;
	return !headers.too_long;
}

/* The provider of /notify/PROVIDER/MERCHANT; false when the path is another. */
static bool
listen_provider(const char *path, char *provider, size_t size)
{
	static const char start[] = "/notify/";
	size_t length;

	if (strncmp(path, start, sizeof(start) - 1) != 0)
		return false;
	path += sizeof(start) - 1;
	length = strcspn(path, "/");
	if (length == 0 || length >= size || path[length] != '/' || path[length + 1] == '\0' ||
		strchr(path + length + 1, '/') != NULL ||
		strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
		return false;
	memcpy(provider, path, length);
	provider[length] = '\0';
	return true;
}

/* Hands a whole notification to the database; false when there is none to hand it to. */
static bool
listen_ask(SmListen *listen, SmNotification *notification, const char *path, const char *provider)
{
	SmText headers;
	const char *values[3];
	bool sent = false;
	int i;

	if (!listen_headers(notification->connection, path, &headers))
	{
		text_free(&headers);
		notification->status = MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
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

/* Keeps a piece of the body as hex digits. */
static void
listen_take_body(SmNotification *notification, const char *bytes, size_t size)
{
	size_t i;

	if (notification->body.length + 2 * size > 2 * LISTEN_BODY_MOST)
		notification->too_long = true;
	for (i = 0; i < size && !notification->too_long; i++)
		text_printf(&notification->body, "%02x", (unsigned char) bytes[i]);
}

/* The request is whole: what is answered at once, or 0 when the database is asked. */
static int
listen_judge(SmListen *listen, SmNotification *notification, const char *method, const char *path)
{
	char provider[32];

	if (strcmp(path, "/health") == 0)
		return db_is_up(listen->databases[0]) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
	if (!listen_provider(path, provider, sizeof(provider)))
		return MHD_HTTP_NOT_FOUND;
	if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	if (notification->too_long)
		return MHD_HTTP_CONTENT_TOO_LARGE;
	if (listen->stopping || !listen_ask(listen, notification, path, provider))
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	return notification->status;
}

/* libmicrohttpd: a request begins, a piece of it came, it is whole, or it was woken up. */
static enum MHD_Result
listen_request(void *context, struct MHD_Connection *connection, const char *path,
			   const char *method, const char *version, const char *bytes, size_t *size, void **own)
{
	SmListen *listen = context;
	SmNotification *notification = *own;
	int status;

	(void) version;
	if (notification == NULL)
	{
		notification = base_alloc(sizeof(SmNotification));
		notification->listen = listen;
		notification->connection = connection;
		*own = notification;
		return MHD_YES;
	}
	if (*size > 0)
	{
		listen_take_body(notification, bytes, *size);
		*size = 0;
		return MHD_YES;
	}
	if (notification->status != 0)
		return listen_answer(connection, notification->status,
							 notification->answer != NULL ? notification->answer : "");
	status = listen_judge(listen, notification, method, path);
	if (status != 0)
		return listen_answer(connection, status, "");
	listen->open++;
	notification->asleep = true;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

/* libmicrohttpd: the request is over, answered or not. */
static void
listen_over(void *context, struct MHD_Connection *connection, void **own,
			enum MHD_RequestTerminationCode code)
{
	SmNotification *notification = *own;

	(void) context;
	(void) connection;
	(void) code;
	*own = NULL;
	if (notification == NULL)
		return;
	notification->connection = NULL;
	if (!notification->asleep)
		listen_free_notification(notification);
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
		MHD_OPTION_NOTIFY_COMPLETED, listen_over, listen, MHD_OPTION_CONNECTION_TIMEOUT,
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
	listen->timer.fire = listen_timer;
	listen->timer.context = listen;
	listen->watch.ready = listen_ready;
	listen->watch.context = listen;
	loop_watch(loop, &listen->watch,
			   MHD_get_daemon_info(listen->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EPOLLIN);
	return listen;
}

/* Takes nothing new; what is being judged is answered. */
void
listen_stop(SmListen *listen)
{
	listen->stopping = true;
}

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
	for (i = 0; i < LISTEN_DATABASES; i++)
		db_free(listen->databases[i]);
	/* It must not be stopped while connections sleep; the end of the process closes them. */
	if (listen->open == 0)
		MHD_stop_daemon(listen->daemon);
	free(listen);
}
