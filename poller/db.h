/*
 * db.h - one connection to the database that never blocks
 */
#ifndef DB_H
#define DB_H

#include <libpq-fe.h>

#include "loop.h"

#define DB_RESULTS_MAX 8

/* What became of a statement. */
typedef struct SmDbReply
{
	bool ok;
	bool lost; /* the connection went away: whether it was done is not known */
	char sqlstate[6];
	char message[512];
	int count;
	PGresult *results[DB_RESULTS_MAX];
} SmDbReply;

typedef void (*SmDbDone)(void *context, const SmDbReply *reply);

/* What happens to the connection; any of them may be NULL. */
typedef struct SmDbEvents
{
	void *context;
	void (*up)(void *context);
	void (*down)(void *context, const char *message);
	void (*notified)(void *context, const char *payload);
} SmDbEvents;

struct SmDb;
typedef struct SmDb SmDb;

extern SmDb *db_create(SmLoop *loop, const char *name, const char *conninfo, const char *greeting,
					   const SmDbEvents *events);
extern void db_start(SmDb *db);
extern void db_free(SmDb *db);
extern bool db_is_up(const SmDb *db);
extern bool db_is_idle(const SmDb *db);
extern bool db_send(SmDb *db, const char *sql, int count, const char *const *values, SmDbDone done,
					void *context);

#endif
