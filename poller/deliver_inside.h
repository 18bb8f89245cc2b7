/*
 * deliver_inside.h - what the files of the room deliver share; for nobody else
 */
#ifndef DELIVER_INSIDE_H
#define DELIVER_INSIDE_H

#include "deliver.h"

#define DELIVER_CLOCK_US US_PER_S

/* A site whose readings the database does not take for the time being. */
typedef struct SmRefusal
{
	int site_id;
	int failures;
	int64_t until_us;
	char message[160];
} SmRefusal;

struct SmDeliver
{
	SmLoop *loop;
	SmWriter *writer;
	SmDb *db;
	SmTimer flush;
	SmTimer retry;
	SmTimer tell;
	SmTimer clock;
	bool timed; /* the database has said what time it is */
	bool asking_time;
	int clock_turns; /* until it is asked again */
	int64_t asked_us;
	char *name;
	SmSpoolState told; /* what the database heard last */
	int64_t telling;   /* events up to this one are being told; -1: nothing is */
	bool listing;      /* the writer is listing events */
	int64_t most_bytes;
	void (*changed)(void *context);
	void (*moved)(void *context, int64_t shift_ms);
	void *context;

	SmSpoolRow *pending;
	int pending_count;
	int pending_room;
	int spooling; /* jobs with rows that are not durable yet */
	int64_t flushed_us;
	int64_t lost;
	int64_t told_us;

	bool busy;    /* a batch is being fetched, sent or removed */
	bool starved; /* the last fetch found nothing to do */
	SmSpoolRow *batch;
	int batch_count;
	int from;
	int size;
	int64_t *removed;
	int removed_count;
	SmSpoolReject *rejects;
	int reject_count;

	SmRefusal refusals[WRITER_SKIP_MAX];
	int refusal_count;
};

/* deliver.c */
extern void deliver_next(SmDeliver *deliver);

/* deliver_tell.c */
extern void deliver_tell(void *context);
extern void deliver_ask_time(SmDeliver *deliver);
extern void deliver_clock(void *context);

#endif
