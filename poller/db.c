/*
 * db.c - one connection to the database that never blocks
 *
 *   DOWN --timer--> CONNECTING --ready--> GREETING --done--> UP (idle or one statement at work)
 *    ^                  |                     |               |
 *    +------------------+---------------------+---------------+   refused, lost, silent too long
 *
 * Statements wait in a queue and are sent one at a time. When the connection goes away every one
 * of them gets a reply that says "lost", and a new connection is tried for ever, with jitter so
 * that many pollers do not come back in step.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "log.h"

#define DB_CONNECT_US (15 * US_PER_S)
#define DB_STATEMENT_US (60 * US_PER_S)
#define DB_RETRY_FIRST_US (200 * US_PER_MS)
#define DB_RETRY_MOST_US (10 * US_PER_S)

typedef enum SmDbState
{
	DB_DOWN,
	DB_CONNECTING,
	DB_GREETING,
	DB_UP
} SmDbState;

typedef struct SmDbStatement
{
	struct SmDbStatement *next;
	char *sql;
	int count;
	char **values;
	SmDbDone done;
	void *context;
} SmDbStatement;

struct SmDb
{
	SmLoop *loop;
	const char *name;
	char *conninfo;
	char *greeting;
	SmDbEvents events;
	SmDbState state;
	PGconn *conn;
	SmWatch watch;
	SmTimer timer;
	bool busy;
	SmDbStatement *head; /* the first one is at work when busy */
	SmDbStatement **tail;
	SmDbReply reply;
	int failures;
};

static void db_ready(void *context, uint32_t events);
static void db_timer(void *context);

/*
 * Makes a connection that is not yet tried. The greeting is run first on every new one. name is
 * for messages and must live on. Freed by db_free().
 */
SmDb *
db_create(SmLoop *loop, const char *name, const char *conninfo, const char *greeting,
		  const SmDbEvents *events)
{
	SmDb *db = base_alloc(sizeof(SmDb));

	db->loop = loop;
	db->name = name;
	db->conninfo = base_copy(conninfo);
	db->greeting = base_copy(greeting);
	db->events = *events;
	db->tail = &db->head;
	db->watch.ready = db_ready;
	db->watch.context = db;
	db->timer.fire = db_timer;
	db->timer.context = db;
	return db;
}

static void
db_free_statement(SmDbStatement *statement)
{
	int i;

	for (i = 0; i < statement->count; i++)
		free(statement->values[i]);
	free(statement->values);
	free(statement->sql);
	free(statement);
}

static void
db_clear_reply(SmDb *db)
{
	int i;

	for (i = 0; i < db->reply.count; i++)
		PQclear(db->reply.results[i]);
	memset(&db->reply, 0, sizeof(db->reply));
}

/* Copies a message without its line ends. */
static void
db_set_message(char *target, size_t size, const char *message)
{
	size_t length;

	snprintf(target, size, "%s", message != NULL ? message : "no message");
	for (length = strlen(target); length > 0 && target[length - 1] == '\n'; length--)
		target[length - 1] = '\0';
	for (; *target != '\0'; target++)
	{
		if (*target == '\n' || *target == '\t')
			*target = ' ';
	}
}

/* Gives up the connection, answers everybody who waits, and sets the time of the next try. */
static void
db_lose(SmDb *db, const char *message)
{
	SmDbStatement *waiting = db->head;
	SmDbReply lost = {.lost = true};
	int64_t wait_us = DB_RETRY_FIRST_US << (db->failures < 6 ? db->failures : 6);

	db_set_message(lost.message, sizeof(lost.message), message);
	loop_unwatch(db->loop, &db->watch);
	PQfinish(db->conn);
	db->conn = NULL;
	db->state = DB_DOWN;
	db->busy = false;
	db->head = NULL;
	db->tail = &db->head;
	db_clear_reply(db);
	if (db->failures++ == 0)
		log_warning("database (%s): %s; trying again until it works", db->name, lost.message);
	else
		log_debug("database (%s): %s", db->name, lost.message);
	loop_set(db->loop, &db->timer,
			 base_now_us() +
				 base_jitter_us(wait_us < DB_RETRY_MOST_US ? wait_us : DB_RETRY_MOST_US));
	if (db->events.down != NULL)
		db->events.down(db->events.context, lost.message);
	while (waiting != NULL)
	{
		SmDbStatement *statement = waiting;

		waiting = statement->next;
		if (statement->done != NULL)
			statement->done(statement->context, &lost);
		db_free_statement(statement);
	}
}

/* What the server remarks on goes to our log and not past it. */
static void
db_notice(void *context, const char *message)
{
	SmDb *db = context;
	char text[512];

	db_set_message(text, sizeof(text), message);
	log_debug("database (%s): %s", db->name, text);
}

/* Begins to connect. What the caller's conninfo says wins over our keepalives. */
static void
db_connect(SmDb *db)
{
	static const char *const keywords[] = {"keepalives_idle",           "keepalives_interval",
										   "keepalives_count",          "tcp_user_timeout",
										   "fallback_application_name", "dbname",
										   "client_encoding",           NULL};
	const char *const values[] = {"20",         "5",    "4", "30000", program_invocation_short_name,
								  db->conninfo, "UTF8", NULL};

	db->state = DB_CONNECTING;
	db->conn = PQconnectStartParams(keywords, values, 1);
	if (db->conn == NULL || PQstatus(db->conn) == CONNECTION_BAD)
	{
		db_lose(db, db->conn == NULL ? "out of memory" : PQerrorMessage(db->conn));
		return;
	}
	PQsetNoticeProcessor(db->conn, db_notice, db);
	loop_set(db->loop, &db->timer, base_now_us() + DB_CONNECT_US);
	loop_watch(db->loop, &db->watch, PQsocket(db->conn), EPOLLOUT);
}

/* Sends the statement at the head, when there is one and nothing is at work. */
static void
db_send_next(SmDb *db)
{
	SmDbStatement *statement = db->head;
	int sent;

	if (db->busy || statement == NULL || db->state != DB_UP)
		return;
	if (statement->count == 0)
		sent = PQsendQuery(db->conn, statement->sql);
	else
		sent = PQsendQueryParams(db->conn, statement->sql, statement->count, NULL,
								 (const char *const *) statement->values, NULL, NULL, 0);
	db->busy = true;
	loop_set(db->loop, &db->timer, base_now_us() + (sent ? DB_STATEMENT_US : 0));
	if (!sent)
		return; /* db_timer() gives up: nobody is answered from within db_send() */
	loop_watch(db->loop, &db->watch, PQsocket(db->conn),
			   PQflush(db->conn) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The connection stands: greet. */
static void
db_greet(SmDb *db)
{
	db->state = DB_GREETING;
	PQsetnonblocking(db->conn, 1);
	loop_set(db->loop, &db->timer, base_now_us() + DB_CONNECT_US);
	if (!PQsendQuery(db->conn, db->greeting))
	{
		db_lose(db, PQerrorMessage(db->conn));
		return;
	}
	db->busy = true;
	loop_watch(db->loop, &db->watch, PQsocket(db->conn),
			   PQflush(db->conn) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
db_poll_connect(SmDb *db)
{
	switch (PQconnectPoll(db->conn))
	{
		case PGRES_POLLING_READING:
			loop_watch(db->loop, &db->watch, PQsocket(db->conn), EPOLLIN);
			break;
		case PGRES_POLLING_WRITING:
			loop_watch(db->loop, &db->watch, PQsocket(db->conn), EPOLLOUT);
			break;
		case PGRES_POLLING_OK:
			db_greet(db);
			break;
		default:
			db_lose(db, PQerrorMessage(db->conn));
	}
}

/* Takes one result into the reply. */
static void
db_take_result(SmDb *db, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (status == PGRES_TUPLES_OK && db->reply.count < DB_RESULTS_MAX)
	{
		db->reply.results[db->reply.count++] = result;
		return;
	}
	if (status == PGRES_FATAL_ERROR && db->reply.sqlstate[0] == '\0' &&
		db->reply.message[0] == '\0')
	{
		snprintf(db->reply.sqlstate, sizeof(db->reply.sqlstate), "%s", state != NULL ? state : "");
		db_set_message(db->reply.message, sizeof(db->reply.message),
					   message != NULL ? message : PQresultErrorMessage(result));
	}
	PQclear(result);
}

/* A statement is through: tell its sender. */
static void
db_finish(SmDb *db)
{
	SmDbStatement *statement = db->head;
	SmDbReply reply = db->reply;

	db->busy = false;
	loop_cancel(db->loop, &db->timer);
	reply.ok = reply.message[0] == '\0';
	if (db->state == DB_GREETING)
	{
		db_clear_reply(db);
		if (!reply.ok)
		{
			db_lose(db, reply.message);
			return;
		}
		if (db->failures > 0)
			log_info("database (%s): connected again", db->name);
		db->failures = 0;
		db->state = DB_UP;
		if (db->events.up != NULL)
			db->events.up(db->events.context);
		return;
	}
	memset(&db->reply, 0, sizeof(db->reply));
	db->head = statement->next;
	if (db->head == NULL)
		db->tail = &db->head;
	if (statement->done != NULL)
		statement->done(statement->context, &reply);
	while (reply.count > 0)
		PQclear(reply.results[--reply.count]);
	db_free_statement(statement);
}

static void
db_take_notifications(SmDb *db)
{
	PGnotify *notification;

	while (db->conn != NULL && (notification = PQnotifies(db->conn)) != NULL)
	{
		if (db->events.notified != NULL)
			db->events.notified(db->events.context, notification->extra);
		PQfreemem(notification);
	}
}

/* Takes in what the server sent, until there is nothing more to do without waiting. */
static void
db_work(SmDb *db)
{
	PGresult *result;

	if (!PQconsumeInput(db->conn))
	{
		db_lose(db, PQerrorMessage(db->conn));
		return;
	}
	db_take_notifications(db);
	while (db->busy && !PQisBusy(db->conn))
	{
		result = PQgetResult(db->conn);
		if (result != NULL)
		{
			db_take_result(db, result);
			continue;
		}
		if (PQstatus(db->conn) == CONNECTION_BAD)
		{
			db_lose(db,
					db->reply.message[0] != '\0' ? db->reply.message : PQerrorMessage(db->conn));
			return;
		}
		db_finish(db);
		if (db->state != DB_UP)
			return;
		db_send_next(db);
		if (db->state != DB_UP)
			return;
	}
	db_take_notifications(db);
}

static void
db_ready(void *context, uint32_t events)
{
	SmDb *db = context;
	int flushed;

	if (db->state == DB_CONNECTING)
	{
		db_poll_connect(db);
		return;
	}
	if (events & EPOLLOUT)
	{
		flushed = PQflush(db->conn);
		if (flushed < 0)
		{
			db_lose(db, PQerrorMessage(db->conn));
			return;
		}
		if (flushed == 0)
			loop_watch(db->loop, &db->watch, PQsocket(db->conn), EPOLLIN);
	}
	db_work(db);
}

static void
db_timer(void *context)
{
	SmDb *db = context;

	if (db->state == DB_DOWN)
		db_connect(db);
	else if (PQstatus(db->conn) == CONNECTION_BAD)
		db_lose(db, PQerrorMessage(db->conn));
	else
		db_lose(db, db->state == DB_UP ? "no answer to a statement within 60 s"
									   : "could not connect within 15 s");
}

/* Begins to connect, and keeps the connection from now on. */
void
db_start(SmDb *db)
{
	loop_set(db->loop, &db->timer, base_now_us());
}

/* Closes the connection; statements that wait are not answered any more. */
void
db_free(SmDb *db)
{
	loop_unwatch(db->loop, &db->watch);
	loop_cancel(db->loop, &db->timer);
	db_clear_reply(db);
	PQfinish(db->conn);
	while (db->head != NULL)
	{
		SmDbStatement *statement = db->head;

		db->head = statement->next;
		db_free_statement(statement);
	}
	free(db->conninfo);
	free(db->greeting);
	free(db);
}

bool
db_is_up(const SmDb *db)
{
	return db->state == DB_UP;
}

/* Whether it is up and nothing is queued. */
bool
db_is_idle(const SmDb *db)
{
	return db->state == DB_UP && db->head == NULL;
}

/*
 * Queues a statement; with count = 0 it may be several, separated by semicolons. Texts are copied.
 * False, and nothing queued, while the connection is down.
 */
bool
db_send(SmDb *db, const char *sql, int count, const char *const *values, SmDbDone done,
		void *context)
{
	SmDbStatement *statement;
	int i;

	if (db->state != DB_UP)
		return false;
	statement = base_alloc(sizeof(SmDbStatement));
	statement->sql = base_copy(sql);
	statement->count = count;
	statement->values = base_alloc((size_t) count * sizeof(char *));
	for (i = 0; i < count; i++)
		statement->values[i] = values[i] != NULL ? base_copy(values[i]) : NULL;
	statement->done = done;
	statement->context = context;
	*db->tail = statement;
	db->tail = &statement->next;
	db_send_next(db);
	return true;
}
