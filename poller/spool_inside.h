/*
 * spool_inside.h - what the files of the room spool share; for nobody else
 */
#ifndef SPOOL_INSIDE_H
#define SPOOL_INSIDE_H

#include <sqlite3.h>

#include "spool.h"

/*
 * Readings whose meter keeps them, too, have this added to their number. So they lie in pages of
 * their own, and giving most of them up frees these pages.
 */
#define SPOOL_KEPT (INT64_C(1) << 62)

/* Ways of making room, one after the other; see spool_trim.c. */
#define SPOOL_LEVELS 6

struct SmSpool
{
	char *directory;
	char *path;
	int lock_fd;
	sqlite3 *db;
	sqlite3_stmt *add;
	sqlite3_stmt *remove;
	sqlite3_stmt *reject;
	sqlite3_stmt *mark;
	bool damaged;
	int64_t count;
	int64_t rejected;
	int64_t last_ms;
	int64_t marked_ms; /* last_ms as it is in the file */
	int64_t next_id;   /* without SPOOL_KEPT */
	int64_t first_id;  /* of this run */
	int64_t jump_id;   /* the first one after the clock last jumped */
	int64_t changed_count;
	int64_t changed_rejected;
	int64_t thinned_to[SPOOL_LEVELS]; /* rows up to this number are thinned at the level */
};

extern bool spool_good(SmSpool *spool, int code);
extern bool spool_run(SmSpool *spool, const char *sql);
extern bool spool_number(SmSpool *spool, const char *sql, int64_t *number);
extern bool spool_salvage(SmSpool *spool, const char *path);

#endif
