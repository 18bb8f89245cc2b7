/*
 * deliver_tell.c - what the database hears of the spool, and what it says of the time
 *
 * Over the connection of the readings the database hears how the spool fares, and what went wrong
 * with it, and says what time it is. As long as that is in doubt nothing is delivered: stamps that
 * turn out to be wrong are put right in the spool first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "deliver_inside.h"
#include "log.h"
#include "wall.h"

#define DELIVER_TELL_US (20 * US_PER_S)
#define DELIVER_TELL_SOON_US US_PER_S
#define DELIVER_CLOCK_TURNS 60

static const char deliver_clock_sql[] =
	"SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8";
static const char deliver_tell_sql[] = "SELECT submeter.report_spool($1, $2::pg_catalog.jsonb)";

/* Whether the database is to hear of the spool before the next turn. */
static bool
deliver_has_news(const SmDeliver *deliver, const SmSpoolState *state)
{
	int64_t tight = deliver->most_bytes / 5 * 4;

	return state->failing != deliver->told.failing || state->full != deliver->told.full ||
		   (state->bytes >= tight) != (deliver->told.bytes >= tight);
}

/* The database knows: its events leave the spool. */
static void
deliver_told(void *context, const SmDbReply *reply)
{
	SmDeliver *deliver = context;
	int64_t known = deliver->telling;
	SmSpoolJob *job;

	deliver->telling = -1;
	if (!reply->ok && !reply->lost)
		log_error("the database refuses a report of the spool: %s (%s)", reply->message,
				  reply->sqlstate);
	if (!reply->ok || known <= 0)
		return;
	job = base_alloc(sizeof(SmSpoolJob));
	job->known_event = known;
	writer_submit(deliver->writer, job);
	loop_set(deliver->loop, &deliver->tell, base_now_us() + DELIVER_TELL_SOON_US);
}

/* Tells the database how the spool fares. */
static void
deliver_send_state(SmDeliver *deliver, const char *events)
{
	SmSpoolState state = writer_state(deliver->writer);
	SmText text = {0};
	const char *values[2];

	text_printf(&text,
				"{\"waiting\":%lld,\"rejected\":%lld,\"bytes\":%lld,\"most_bytes\":%lld,"
				"\"failing\":%s,\"events\":%s}",
				(long long) state.count, (long long) state.rejected, (long long) state.bytes,
				(long long) deliver->most_bytes, state.failing || state.full ? "true" : "false",
				events);
	values[0] = deliver->name;
	values[1] = text.data;
	if (db_send(deliver->db, deliver_tell_sql, 2, values, deliver_told, deliver))
		deliver->told = state;
	else
		deliver->telling = -1;
	text_free(&text);
}

/* The events are listed. */
static void
deliver_listed(void *context, SmSpoolJob *job)
{
	SmDeliver *deliver = context;

	deliver->listing = false;
	if (deliver->telling >= 0)
		return;
	deliver->telling = job->last_event;
	deliver_send_state(deliver, job->events);
}

/* The regular look whether there is something to tell. A spool that fails has no events to list. */
void
deliver_tell(void *context)
{
	SmDeliver *deliver = context;
	SmSpoolState state = writer_state(deliver->writer);
	SmSpoolJob *job;

	loop_set(deliver->loop, &deliver->tell,
			 base_now_us() +
				 (deliver_has_news(deliver, &state) ? DELIVER_TELL_SOON_US : DELIVER_TELL_US));
	if (deliver->telling >= 0 || !db_is_up(deliver->db))
		return;
	if (state.failing)
	{
		deliver->telling = 0;
		deliver_send_state(deliver, "[]");
		return;
	}
	if (deliver->listing)
		return;
	deliver->listing = true;
	job = base_alloc(sizeof(SmSpoolJob));
	job->wants_events = true;
	job->finished = deliver_listed;
	job->context = deliver;
	writer_submit(deliver->writer, job);
}

/* Keeps something that people are to hear of. */
void
deliver_note(SmDeliver *deliver, const SmSpoolEvent *event)
{
	SmSpoolJob *job = base_alloc(sizeof(SmSpoolJob));

	job->event = base_alloc(sizeof(SmSpoolEvent));
	*job->event = *event;
	writer_submit(deliver->writer, job);
	if (db_is_up(deliver->db))
		loop_set(deliver->loop, &deliver->tell, base_now_us() + DELIVER_TELL_SOON_US);
}

/* Stamps were wrong: those that wait are put right, and people hear of it. */
static void
deliver_shift(SmDeliver *deliver, int64_t shift_ms, bool all)
{
	SmSpoolJob *job = base_alloc(sizeof(SmSpoolJob));

	log_error("the clock of this machine was wrong by %lld ms; readings that wait get the right"
			  " time",
			  (long long) -shift_ms);
	deliver_flush(deliver);
	job->shift_ms = shift_ms;
	job->shift_all = all;
	job->event = base_alloc(sizeof(SmSpoolEvent));
	job->event->kind = "clock";
	job->event->count = shift_ms / 1000;
	snprintf(job->event->detail, sizeof(job->event->detail),
			 "its clock was wrong by %lld s; waiting readings were put right",
			 (long long) (-shift_ms / 1000));
	writer_submit(deliver->writer, job);
	deliver->moved(deliver->context, shift_ms);
}

/* The database said what time it is. */
static void
deliver_told_time(void *context, const SmDbReply *reply)
{
	SmDeliver *deliver = context;
	bool good = reply->ok && reply->count == 1 && PQntuples(reply->results[0]) == 1;
	SmWallVerdict verdict;
	int64_t shift_ms;

	deliver->asking_time = false;
	if (!good)
		return;
	verdict = wall_ask(atoll(PQgetvalue(reply->results[0], 0, 0)) +
						   (base_now_us() - deliver->asked_us) / 2 / US_PER_MS,
					   &shift_ms);
	if (verdict != WALL_AGREES)
		deliver_shift(deliver, shift_ms, verdict == WALL_MOVED_ALL);
	deliver->timed = true;
	deliver->clock_turns = DELIVER_CLOCK_TURNS;
	deliver_next(deliver);
}

/* Asks the database what time it is. */
void
deliver_ask_time(SmDeliver *deliver)
{
	deliver->asked_us = base_now_us();
	if (!deliver->asking_time)
		deliver->asking_time =
			db_send(deliver->db, deliver_clock_sql, 0, NULL, deliver_told_time, deliver);
}

/* Looks once a second whether the machine's clock jumped; the database is asked then, and at times. */
void
deliver_clock(void *context)
{
	SmDeliver *deliver = context;
	SmSpoolJob *job;

	loop_set(deliver->loop, &deliver->clock, base_now_us() + DELIVER_CLOCK_US);
	if (wall_has_jumped())
	{
		log_error("the clock of this machine jumped; readings go on by the time it had, until the"
				  " database says which is right");
		deliver_flush(deliver);
		job = base_alloc(sizeof(SmSpoolJob));
		job->jumped = true;
		writer_submit(deliver->writer, job);
	}
	if (db_is_idle(deliver->db) &&
		(wall_is_doubtful() || !deliver->timed || --deliver->clock_turns <= 0))
		deliver_ask_time(deliver);
}
