/*
 * fetch.c - which meters' memories the database wants read, and what became of it
 *
 * Asked for every ten seconds, and at once when the database says that there is something. What cannot
 * be reported because the connection is gone is given out again by the database when its time is
 * over; by then it knows what was found.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fetch.h"
#include "history.h"
#include "log.h"

#define FETCH_EVERY_US (10 * US_PER_S)
#define FETCH_MOST 200

struct SmFetch
{
	SmLoop *loop;
	SmField *field;
	SmDb *db;
	SmTimer timer;
	char *name;
	bool asking;
	bool again;
	bool complained;
};

static const char fetch_claim_sql[] =
	"SELECT site_id, task_id, meter_id, kind, di, time_di, byte_offset, bytes, scale,"
	" settlement_day, entries FROM submeter.claim_history($1, $2::pg_catalog.int4)";
static const char fetch_report_sql[] =
	"SELECT submeter.report_history($1::pg_catalog.int4, $2::pg_catalog.int8, $3, $4,"
	" $5::pg_catalog.int4, $6)";

static void
fetch_timer(void *context)
{
	fetch_look(context);
}

/* Makes a fetcher that works by itself from now on; freed by fetch_free(). */
SmFetch *
fetch_create(SmLoop *loop, SmField *field, SmDb *db, const char *name)
{
	SmFetch *fetch = base_alloc(sizeof(SmFetch));

	fetch->loop = loop;
	fetch->field = field;
	fetch->db = db;
	fetch->name = base_copy(name);
	fetch->timer.fire = fetch_timer;
	fetch->timer.context = fetch;
	loop_set(loop, &fetch->timer, base_now_us() + FETCH_EVERY_US);
	return fetch;
}

void
fetch_free(SmFetch *fetch)
{
	loop_cancel(fetch->loop, &fetch->timer);
	free(fetch->name);
	free(fetch);
}

/* How many more tasks may be taken. */
static int
fetch_room(const SmFetch *fetch)
{
	int room = FETCH_MOST;
	int i;

	for (i = 0; i < fetch->field->bus_count; i++)
		room -= history_count(fetch->field->buses[i]);
	return room;
}

/* Starts the tasks that were given to us. */
static void
fetch_claimed(void *context, const SmDbReply *reply)
{
	SmFetch *fetch = context;
	PGresult *result = reply->ok ? reply->results[0] : NULL;
	int row;

	fetch->asking = false;
	if (!reply->ok && !reply->lost && !fetch->complained)
		log_error("could not ask for memories to read: %s (%s)", reply->message, reply->sqlstate);
	fetch->complained = !reply->ok && !reply->lost;
	for (row = 0; reply->ok && row < PQntuples(result); row++)
	{
		SmHistoryClaim claim = {.site_id = atoi(PQgetvalue(result, row, 0)),
								.task_id = atoll(PQgetvalue(result, row, 1)),
								.meter_id = atoll(PQgetvalue(result, row, 2)),
								.kind = PQgetvalue(result, row, 3),
								.di = PQgetvalue(result, row, 4),
								.time_di =
									PQgetisnull(result, row, 5) ? NULL : PQgetvalue(result, row, 5),
								.byte_offset = atoi(PQgetvalue(result, row, 6)),
								.bytes = atoi(PQgetvalue(result, row, 7)),
								.scale = PQgetvalue(result, row, 8),
								.settlement_day = PQgetvalue(result, row, 9),
								.entries = PQgetvalue(result, row, 10)};

		history_start(fetch->field, &claim);
	}
	if (fetch->again)
		fetch_look(fetch);
}

/* Asks for tasks. Without a plan nothing could be done with them. */
void
fetch_look(SmFetch *fetch)
{
	char most[16];
	const char *values[2] = {fetch->name, most};
	int room = fetch_room(fetch);

	loop_set(fetch->loop, &fetch->timer, base_now_us() + FETCH_EVERY_US);
	fetch->again = fetch->asking;
	if (fetch->asking || fetch->field->plan == NULL || fetch->field->stopping || room <= 0)
		return;
	snprintf(most, sizeof(most), "%d", room);
	fetch->asking = db_send(fetch->db, fetch_claim_sql, 2, values, fetch_claimed, fetch);
}

static void
fetch_reported(void *context, const SmDbReply *reply)
{
	(void) context;
	if (!reply->ok && !reply->lost)
		log_error("the database refuses a report about a memory: %s (%s)", reply->message,
				  reply->sqlstate);
}

/* Tells the database what became of a task. */
void
fetch_report(SmFetch *fetch, const SmHistoryResult *result)
{
	char site[16];
	char task[24];
	char found[16];
	const char *values[6] = {site, task, fetch->name, result->outcome, found, result->detail};

	snprintf(site, sizeof(site), "%d", result->site_id);
	snprintf(task, sizeof(task), "%" PRId64, result->task_id);
	snprintf(found, sizeof(found), "%d", result->found);
	db_send(fetch->db, fetch_report_sql, 6, values, fetch_reported, fetch);
}
