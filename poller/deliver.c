/*
 * deliver.c - readings: from the field to the spool, from the spool to the database
 *
 *   field --> pending --20 ms apart--> spool (durable) --in order--> ingest() --> out of the spool
 *
 * One batch is at work at a time, all of one site. When the database refuses a batch because of
 * its data, the batch is halved until the one bad row is found; that row goes to the table
 * "rejected" of the spool with the reason, the others go on. On any other refusal the site waits
 * and the others have their turn; while the connection is gone everything waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver_inside.h"
#include "log.h"
#include "wall.h"

#define DELIVER_BATCH 500
#define DELIVER_APART_US (20 * US_PER_MS)
#define DELIVER_RETRY_FIRST_US US_PER_S
#define DELIVER_RETRY_MOST_US (60 * US_PER_S)
#define DELIVER_PENDING_MOST 100000
#define DELIVER_SPOOLING_MOST 1000

static const char deliver_sql[] =
	"SELECT submeter.ingest($1::pg_catalog.int4, $2::submeter.reading_input[])";
static const char deliver_greeting[] =
	"SET search_path = ''; SET statement_timeout = '30s';"
	" SET application_name = 'submeter-poller'; SET client_min_messages = warning";

static void deliver_send(SmDeliver *deliver);
static void deliver_fetched(void *context, SmSpoolJob *job);

static void
deliver_up(void *context)
{
	SmDeliver *deliver = context;

	deliver->refusal_count = 0;
	deliver->starved = false;
	deliver->telling = -1;
	deliver->timed = false;
	deliver->asking_time = false;
	deliver_ask_time(deliver);
	loop_set(deliver->loop, &deliver->tell, base_now_us());
}

static void
deliver_retry(void *context)
{
	SmDeliver *deliver = context;

	deliver->starved = false;
	deliver_next(deliver);
}

static void
deliver_flush_timer(void *context)
{
	deliver_flush(context);
}

/* Makes a delivery of its own connection; freed by deliver_free(). */
SmDeliver *
deliver_create(SmLoop *loop, SmWriter *writer, const char *conninfo, const char *name,
			   int64_t most_bytes, void (*changed)(void *context),
			   void (*moved)(void *context, int64_t shift_ms), void *context)
{
	SmDeliver *deliver = base_alloc(sizeof(SmDeliver));
	SmDbEvents events = {deliver, deliver_up, NULL, NULL};

	deliver->loop = loop;
	deliver->writer = writer;
	deliver->db = db_create(loop, "readings", conninfo, deliver_greeting, &events);
	deliver->most_bytes = most_bytes;
	deliver->changed = changed;
	deliver->moved = moved;
	deliver->context = context;
	deliver->flush.fire = deliver_flush_timer;
	deliver->flush.context = deliver;
	deliver->retry.fire = deliver_retry;
	deliver->retry.context = deliver;
	deliver->name = base_copy(name);
	deliver->telling = -1;
	deliver->tell.fire = deliver_tell;
	deliver->tell.context = deliver;
	deliver->clock.fire = deliver_clock;
	deliver->clock.context = deliver;
	loop_set(loop, &deliver->clock, base_now_us() + DELIVER_CLOCK_US);
	return deliver;
}

void
deliver_start(SmDeliver *deliver)
{
	db_start(deliver->db);
}

static void
deliver_free_batch(SmDeliver *deliver)
{
	spool_free_rows(deliver->batch, deliver->batch_count);
	free(deliver->batch);
	free(deliver->removed);
	free(deliver->rejects);
	deliver->batch = NULL;
	deliver->removed = NULL;
	deliver->rejects = NULL;
	deliver->batch_count = deliver->removed_count = deliver->reject_count = 0;
}

/* Called after writer_stop(), which has ended all jobs. */
void
deliver_free(SmDeliver *deliver)
{
	loop_cancel(deliver->loop, &deliver->flush);
	loop_cancel(deliver->loop, &deliver->retry);
	loop_cancel(deliver->loop, &deliver->tell);
	loop_cancel(deliver->loop, &deliver->clock);
	free(deliver->name);
	db_free(deliver->db);
	deliver_free_batch(deliver);
	spool_free_rows(deliver->pending, deliver->pending_count);
	free(deliver->pending);
	free(deliver);
}

/* Lets a job fetch the next batch, leaving out the sites that wait. */
static void
deliver_attach(SmDeliver *deliver, SmSpoolJob *job)
{
	int64_t now_us = base_now_us();
	int64_t wake_us = INT64_MAX;
	int i;

	deliver->busy = true;
	job->fetch_limit = DELIVER_BATCH;
	job->skip_count = 0;
	for (i = 0; i < deliver->refusal_count; i++)
	{
		const SmRefusal *refusal = &deliver->refusals[i];

		if (refusal->until_us <= now_us)
			continue;
		job->skip_sites[job->skip_count++] = refusal->site_id;
		if (refusal->until_us < wake_us)
			wake_us = refusal->until_us;
	}
	if (wake_us != INT64_MAX)
		loop_set(deliver->loop, &deliver->retry, wake_us);
}

static bool
deliver_may_fetch(const SmDeliver *deliver)
{
	return !deliver->busy && db_is_up(deliver->db) && deliver->timed && !wall_is_doubtful();
}

/* Fetches the next batch when there may be one and nothing else is at work. */
void
deliver_next(SmDeliver *deliver)
{
	SmSpoolJob *job;

	if (!deliver_may_fetch(deliver) || deliver->starved)
		return;
	job = base_alloc(sizeof(SmSpoolJob));
	job->finished = deliver_fetched;
	job->context = deliver;
	deliver_attach(deliver, job);
	writer_submit(deliver->writer, job);
}

/* A job is durable: what it fetched is the next batch. */
static void
deliver_fetched(void *context, SmSpoolJob *job)
{
	SmDeliver *deliver = context;

	if (job->row_count > 0)
	{
		deliver->spooling--;
		deliver->starved = false;
	}
	if (job->fetch_limit == 0)
	{
		deliver_next(deliver);
		return;
	}
	deliver->busy = false;
	if (job->fetched_count == 0)
	{
		deliver->starved = true;
		deliver->changed(deliver->context);
		return;
	}
	deliver->busy = true;
	deliver->batch = job->fetched;
	deliver->batch_count = job->fetched_count;
	job->fetched = NULL;
	job->fetched_count = 0;
	deliver->removed = base_alloc((size_t) deliver->batch_count * sizeof(int64_t));
	deliver->rejects = base_alloc((size_t) deliver->batch_count * sizeof(SmSpoolReject));
	deliver->from = 0;
	deliver->size = deliver->batch_count;
	deliver_send(deliver);
}

/* The batch is through as far as it goes: take it out of the spool and fetch the next. */
static void
deliver_settle(SmDeliver *deliver)
{
	SmSpoolJob *job;

	deliver->busy = false;
	if (deliver->removed_count + deliver->reject_count == 0 && !db_is_up(deliver->db))
	{
		deliver_free_batch(deliver);
		return;
	}
	job = base_alloc(sizeof(SmSpoolJob));
	job->removed = deliver->removed;
	job->removed_count = deliver->removed_count;
	job->rejects = deliver->rejects;
	job->reject_count = deliver->reject_count;
	deliver->removed = NULL;
	deliver->rejects = NULL;
	deliver_free_batch(deliver);
	job->finished = deliver_fetched;
	job->context = deliver;
	if (deliver_may_fetch(deliver))
		deliver_attach(deliver, job);
	writer_submit(deliver->writer, job);
}

/* Notes that the database does not take readings of this site now. */
static void
deliver_refuse_site(SmDeliver *deliver, int site_id, const SmDbReply *reply)
{
	SmRefusal *refusal = NULL;
	int64_t wait_us;
	int i;

	for (i = 0; i < deliver->refusal_count && refusal == NULL; i++)
	{
		if (deliver->refusals[i].site_id == site_id)
			refusal = &deliver->refusals[i];
	}
	if (refusal == NULL)
	{
		if (deliver->refusal_count == WRITER_SKIP_MAX)
			deliver->refusal_count = 0;
		refusal = &deliver->refusals[deliver->refusal_count++];
		*refusal = (SmRefusal){.site_id = site_id};
	}
	if (strncmp(refusal->message, reply->message, sizeof(refusal->message) - 1) != 0)
		log_error("site %d: the database does not take readings: %s (%s); they wait in the spool",
				  site_id, reply->message, reply->sqlstate);
	snprintf(refusal->message, sizeof(refusal->message), "%s", reply->message);
	wait_us = DELIVER_RETRY_FIRST_US << (refusal->failures < 6 ? refusal->failures : 6);
	refusal->failures++;
	refusal->until_us =
		base_now_us() +
		base_jitter_us(wait_us < DELIVER_RETRY_MOST_US ? wait_us : DELIVER_RETRY_MOST_US);
}

/* The site's readings are taken (again). */
static void
deliver_accept_site(SmDeliver *deliver, int site_id)
{
	int i;

	for (i = 0; i < deliver->refusal_count; i++)
	{
		if (deliver->refusals[i].site_id != site_id)
			continue;
		log_info("site %d: the database takes readings again", site_id);
		deliver->refusals[i] = deliver->refusals[--deliver->refusal_count];
		return;
	}
}

/* Whether it is the rows that the database refuses, and not the moment. */
static bool
deliver_is_data_error(const SmDbReply *reply)
{
	return strncmp(reply->sqlstate, "22", 2) == 0 || strncmp(reply->sqlstate, "23", 2) == 0 ||
		   strncmp(reply->sqlstate, "P0", 2) == 0;
}

static void
deliver_reject(SmDeliver *deliver, const SmDbReply *reply)
{
	const SmSpoolRow *row = &deliver->batch[deliver->from];
	SmSpoolReject *reject = &deliver->rejects[deliver->reject_count++];

	reject->id = row->id;
	snprintf(reject->sqlstate, sizeof(reject->sqlstate), "%s", reply->sqlstate);
	snprintf(reject->message, sizeof(reject->message), "%s", reply->message);
	log_error("site %d: the database refuses a reading of meter %lld: %s (%s); it is kept in the"
			  " table \"rejected\" of the spool: %s",
			  row->site_id, (long long) row->meter_id, reply->message, reply->sqlstate, row->row);
}

/* The database answered a part of the batch. */
static void
deliver_done(void *context, const SmDbReply *reply)
{
	SmDeliver *deliver = context;
	int site_id = deliver->batch[deliver->from].site_id;
	bool slow = strcmp(reply->sqlstate, "57014") == 0 && deliver->size > 1;
	int i;

	if (reply->ok)
	{
		deliver_accept_site(deliver, site_id);
		for (i = 0; i < deliver->size; i++)
			deliver->removed[deliver->removed_count++] = deliver->batch[deliver->from + i].id;
		deliver->from += deliver->size;
		deliver->size = deliver->batch_count - deliver->from;
	}
	else if ((deliver_is_data_error(reply) || slow) && deliver->size > 1)
		deliver->size /= 2;
	else if (deliver_is_data_error(reply))
	{
		deliver_reject(deliver, reply);
		deliver->from++;
		deliver->size = deliver->batch_count - deliver->from;
	}
	else
	{
		if (!reply->lost)
			deliver_refuse_site(deliver, site_id, reply);
		deliver->from = deliver->batch_count;
	}
	if (deliver->from < deliver->batch_count)
		deliver_send(deliver);
	else
		deliver_settle(deliver);
}

/* Sends the next part of the batch. */
static void
deliver_send(SmDeliver *deliver)
{
	SmText array = {0};
	char site[16];
	const char *values[2];
	SmDbReply lost = {.lost = true};
	int i;

	snprintf(site, sizeof(site), "%d", deliver->batch[deliver->from].site_id);
	text_add(&array, "{");
	for (i = 0; i < deliver->size; i++)
	{
		text_add(&array, i > 0 ? ",\"" : "\"");
		text_add(&array, deliver->batch[deliver->from + i].row);
		text_add(&array, "\"");
	}
	text_add(&array, "}");
	values[0] = site;
	values[1] = array.data;
	if (!db_send(deliver->db, deliver_sql, 2, values, deliver_done, deliver))
		deliver_done(deliver, &lost);
	text_free(&array);
}

/* Hands what is pending to the spool. */
void
deliver_flush(SmDeliver *deliver)
{
	SmSpoolJob *job;

	loop_cancel(deliver->loop, &deliver->flush);
	if (deliver->pending_count == 0)
		return;
	job = base_alloc(sizeof(SmSpoolJob));
	job->rows = deliver->pending;
	job->row_count = deliver->pending_count;
	job->finished = deliver_fetched;
	job->context = deliver;
	if (deliver_may_fetch(deliver))
		deliver_attach(deliver, job);
	deliver->pending = NULL;
	deliver->pending_count = deliver->pending_room = 0;
	deliver->spooling++;
	deliver->flushed_us = base_now_us();
	writer_submit(deliver->writer, job);
}

/* Says loudly, but not each time, that nothing more can be kept. */
static void
deliver_tell_full(SmDeliver *deliver, const SmSpoolState *state)
{
	int64_t now_us = base_now_us();

	if (deliver->told_us != 0 && now_us - deliver->told_us < 60 * US_PER_S)
		return;
	deliver->told_us = now_us;
	log_error("THE SPOOL IS FULL (%lld bytes, %lld readings): meters are not read until the"
			  " database takes readings again; %lld readings could not be kept so far",
			  (long long) state->bytes, (long long) state->count, (long long) deliver->lost);
}

/* Whether one more reading can be kept. */
static bool
deliver_has_room(SmDeliver *deliver)
{
	SmSpoolState state = writer_state(deliver->writer);

	if (!state.full && deliver->pending_count < DELIVER_PENDING_MOST &&
		(!state.failing || deliver->spooling < DELIVER_SPOOLING_MOST))
		return true;
	deliver->lost++;
	deliver_tell_full(deliver, &state);
	return false;
}

/* Takes a reading. It counts as kept only after the spool's commit. */
void
deliver_add(SmDeliver *deliver, const SmReading *reading, bool urgent)
{
	SmText row = {0};
	SmSpoolRow *entry;
	int64_t due_us = deliver->flushed_us + DELIVER_APART_US;
	int64_t now_us = base_now_us();

	if (!deliver_has_room(deliver))
		return;
	if (deliver->pending_count == deliver->pending_room)
	{
		deliver->pending_room = deliver->pending_room * 2 + 64;
		deliver->pending =
			base_resize(deliver->pending, (size_t) deliver->pending_room * sizeof(SmSpoolRow));
	}
	reading_add_row(&row, reading);
	entry = &deliver->pending[deliver->pending_count++];
	*entry = (SmSpoolRow){.site_id = reading->site_id,
						  .meter_id = reading->meter_id,
						  .ts_ms = reading->ts_ms,
						  .kept = reading->kept,
						  .row = row.data};
	if (urgent)
		deliver_flush(deliver);
	else if (deliver->flush.place == 0)
		loop_set(deliver->loop, &deliver->flush, due_us > now_us ? due_us : now_us);
}

/* Whether every reading taken is durable. */
bool
deliver_is_spooled(const SmDeliver *deliver)
{
	return deliver->pending_count == 0 && deliver->spooling == 0;
}

/* Whether there is nothing that could be delivered now. */
bool
deliver_is_drained(const SmDeliver *deliver)
{
	return deliver_is_spooled(deliver) &&
		   (!db_is_up(deliver->db) || (!deliver->busy && deliver->starved));
}

/* Whether every reading taken is in the database, or put aside. */
bool
deliver_is_done(const SmDeliver *deliver)
{
	return deliver_is_spooled(deliver) && !deliver->busy &&
		   writer_state(deliver->writer).count == 0;
}

/*
 * How much slower meters are to be read: 1 as planned, 4 when the spool is four fifths full, 0 not
 * at all: it is full of what cannot be given up, or does not work.
 */
int
deliver_slowness(SmDeliver *deliver)
{
	SmSpoolState state = writer_state(deliver->writer);

	if (state.failing)
		return 0;
	if (state.full)
	{
		deliver_tell_full(deliver, &state);
		return 0;
	}
	return state.bytes >= deliver->most_bytes / 5 * 4 ? 4 : 1;
}
