/*
 * writer.h - the thread that owns the spool
 */
#ifndef WRITER_H
#define WRITER_H

#include "loop.h"
#include "spool.h"

#define WRITER_SKIP_MAX 16

/*
 * Work for the spool: add rows, remove delivered ones, put rejected ones aside, fetch the next;
 * any part may be empty. finished() is called on the loop's thread once all of it is durable; the
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
	int64_t count;
	int64_t rejected;
	int64_t bytes;
} SmSpoolState;

struct SmWriter;
typedef struct SmWriter SmWriter;

extern SmWriter *writer_create(SmLoop *loop, SmSpool *spool);
extern void writer_submit(SmWriter *writer, SmSpoolJob *job);
extern SmSpoolState writer_state(SmWriter *writer);
extern void writer_stop(SmWriter *writer);

#endif
