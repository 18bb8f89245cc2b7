/*
 * writer.h - the thread that owns the spool
 */
#ifndef WRITER_H
#define WRITER_H

#include "loop.h"
#include "spool.h"

#define WRITER_SKIP_MAX 16

/*
 * Work for the spool: add rows, remove delivered ones, put rejected ones aside, note an event, forget
 * those that are known, list the others, fetch the next batch; any part may be empty. finished() is called on the loop's thread once all of it is durable; the
 * job with its arrays is freed after it.
 */
typedef struct SmSpoolJob
{
	struct SmSpoolJob *next;
	SmSpoolRow *rows;
	int row_count;
	int64_t *removed;
	int removed_count;
	SmSpoolReject *rejects;
	int reject_count;
	SmSpoolEvent *event;
	bool jumped;      /* the clock did: rows from here on may have to be shifted */
	int64_t shift_ms; /* rows stamped wrongly: since the jump, or all of this run */
	bool shift_all;
	int64_t shifted;
	int64_t known_event; /* events up to this number are known to the database */
	bool wants_events;
	char *events; /* JSON array */
	int64_t last_event;
	int fetch_limit;
	int skip_sites[WRITER_SKIP_MAX];
	int skip_count;
	SmSpoolRow *fetched;
	int fetched_count;
	void (*finished)(void *context, struct SmSpoolJob *job);
	void *context;
} SmSpoolJob;

/* How the spool fares, as of the last transaction. */
typedef struct SmSpoolState
{
	bool failing;
	bool full; /* and nothing more can be given up */
	int64_t count;
	int64_t rejected;
	int64_t bytes;
} SmSpoolState;

struct SmWriter;
typedef struct SmWriter SmWriter;

extern SmWriter *writer_create(SmLoop *loop, SmSpool *spool, int64_t most_bytes);
extern void writer_submit(SmWriter *writer, SmSpoolJob *job);
extern SmSpoolState writer_state(SmWriter *writer);
extern void writer_stop(SmWriter *writer);

#endif
