/*
 * history.c - fetching what meters keep of readings that were missed
 *
 *   DAY (settlement only)     TIME --not this one: another number--+
 *    |                         | ^--------------------------------+
 *    v                         v
 *   VALUE --settlement--> booked
 *     \--> AGAIN, the time once more --the same--> booked, on to the next entry's VALUE
 *                \--another: the entries moved on meanwhile--> TIME
 *
 * Entries are counted backwards and move on at midnight or with the hour: the time that is kept
 * with an entry is read before and after its register, and only when both are the wanted one it is
 * booked. The time read after one register serves as that before the next.
 *
 * A concentrator's record is asked by its day and answers with it, so that the value alone is read.
 *
 * All of it comes last on a bus, a question at a time, after commands and the routine; on a bus
 * that has no time left it gets a question every ten seconds. What was found goes the way of every
 * reading, through the spool. A task whose meter or bus goes away is given back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "freeze.h"
#include "history.h"
#include "log.h"

#define HISTORY_PATIENCE_US (10 * US_PER_S)
#define HISTORY_BUSY_US US_PER_S
#define HISTORY_TRIES 4
#define HISTORY_SILENT_MOST 3
#define HISTORY_REFUSED_MOST 3
#define HISTORY_DAY_DI_2007 0x04000B01
#define HISTORY_DAY_DI_1997 0xC117
#define HISTORY_BACK_1997 \
	0x0400 /* 94xx is of last month, 98xx of the one before, and that is all */
#define HISTORY_MOST_1997 2

typedef enum SmHistoryStep
{
	HISTORY_DAY,
	HISTORY_TIME,
	HISTORY_VALUE,
	HISTORY_AGAIN
} SmHistoryStep;

typedef struct SmHistory
{
	struct SmHistory *next;
	SmBus *bus;
	SmMeter *meter;
	int64_t task_id;
	SmFreezeKind kind;
	uint32_t di;
	uint32_t time_di;
	SmPoint point;
	int byte_offset;
	char settlement_day[5];
	SmHistoryStep step;
	int at;    /* entry */
	int shift; /* entries are so much further back than the database thought */
	int tries; /* for this entry */
	int silent;
	int refused; /* entries in a row that the meter does not have */
	int found;
	int64_t wait_us;
	SmValues values;
	int count;
	SmFreezeEntry entries[FREEZE_ENTRIES_MAX];
} SmHistory;

static void history_done(void *context, const SmRequest *request, const SmAnswer *answer);

/* Where an entry begins: with its time where entries are counted backwards. */
static SmHistoryStep
history_first_step(const SmHistory *history)
{
	return history->kind >= FREEZE_SETTLEMENT ? HISTORY_VALUE : HISTORY_TIME;
}

/* Takes a task off its bus and tells the database. */
static void
history_end(SmHistory *history, const char *outcome, const char *detail)
{
	SmHistoryResult result = {.site_id = history->meter->site_id,
							  .task_id = history->task_id,
							  .outcome = outcome,
							  .found = history->found,
							  .detail = detail};
	SmField *field = history->bus->field;
	SmHistory **link;

	for (link = &history->bus->histories; *link != history; link = &(*link)->next)
		;
	*link = history->next;
	bus_forget(history->bus, history);
	log_info("meter %d/%lld: its memory: %s, %d readings%s%s", result.site_id,
			 (long long) history->meter->meter_id, outcome, history->found,
			 detail != NULL ? ": " : "", detail != NULL ? detail : "");
	field->hooks.history(field->hooks.context, &result);
	free(history);
}

/* Reads what the database wants; NULL, or why it cannot be done. */
static const char *
history_parse(SmHistory *history, const SmHistoryClaim *claim)
{
	SmProtocol protocol = history->meter->target.protocol;

	if (protocol != PROTOCOL_DLT645_2007 && protocol != PROTOCOL_DLT645_1997)
		return "the meter speaks no DL/T 645";
	if (!freeze_find_kind(claim->kind, &history->kind))
		return "this memory cannot be read";
	if (history->kind == FREEZE_CONCENTRATOR)
	{
		if (history->bus->wire.kind != WIRE_Q376)
			return "the meter hangs on no concentrator";
		history->di = (uint32_t) strtoul(claim->di, NULL, 16);
	}
	else if (!dlt645_parse_di(protocol, claim->di, &history->di) ||
			 (history->kind != FREEZE_SETTLEMENT &&
			  (claim->time_di == NULL ||
			   !dlt645_parse_di(protocol, claim->time_di, &history->time_di))))
		return "the model does not say how it is read";
	history->point = (SmPoint){
		.metric = METRIC_ENERGY_WH, .di = history->di, .bytes = claim->bytes, .type = POINT_BCD};
	if (!point_parse_scale(claim->scale, &history->point.scale) || claim->bytes < 1 ||
		claim->bytes > 8)
		return "the model's scale cannot be used";
	history->byte_offset = claim->byte_offset;
	history->count = freeze_parse_entries(claim->entries, history->entries, FREEZE_ENTRIES_MAX);
	if (history->count < 0)
		return "the list of entries cannot be read";
	snprintf(history->settlement_day, sizeof(history->settlement_day), "%s", claim->settlement_day);
	return NULL;
}

/* Begins a task; one that cannot be done is given back or refused at once. */
void
history_start(SmField *field, const SmHistoryClaim *claim)
{
	SmHistoryResult result = {claim->site_id, claim->task_id, "returned", 0, NULL};
	SmMeter *meter = field_find_meter(field, claim->site_id, claim->meter_id);
	SmHistory *history;
	SmHistory **link;
	const char *why;

	if (meter == NULL || field->stopping)
	{
		field->hooks.history(field->hooks.context, &result);
		return;
	}
	history = base_alloc(sizeof(SmHistory));
	history->meter = meter;
	history->bus = meter->bus;
	history->task_id = claim->task_id;
	for (link = &meter->bus->histories; *link != NULL; link = &(*link)->next)
		;
	*link = history;
	why = history_parse(history, claim);
	history->step = history->kind == FREEZE_SETTLEMENT ? HISTORY_DAY : history_first_step(history);
	if (why != NULL)
		history_end(history, "refused", why);
	else if (history->count == 0)
		history_end(history, "done", NULL);
	else
		bus_wake(meter->bus);
}

/* Gives all tasks of a bus back. */
void
history_drop_all(SmBus *bus)
{
	while (bus->histories != NULL)
		history_end(bus->histories, "returned", NULL);
}

/* How many tasks a bus has. */
int
history_count(const SmBus *bus)
{
	const SmHistory *history;
	int count = 0;

	for (history = bus->histories; history != NULL; history = history->next)
		count++;
	return count;
}

/* Goes on to the next entry; the last one ends the task. */
static void
history_advance(SmHistory *history, SmHistoryStep step)
{
	history->at++;
	history->tries = 0;
	history->step = step;
	if (history->at == history->count)
		history_end(history, "done", NULL);
}

/* Another try for the entry, or none any more. */
static void
history_try_again(SmHistory *history)
{
	history->step = history_first_step(history);
	if (++history->tries >= HISTORY_TRIES)
		history_advance(history, history_first_step(history));
}

/* The meter has no such entry. When it has none of the first ones either, it has no such memory. */
static void
history_lack(SmHistory *history, const SmAnswer *answer)
{
	history->refused++;
	if (answer != NULL && history->found == 0 &&
		(history->step == HISTORY_DAY || history->refused >= HISTORY_REFUSED_MOST ||
		 history->refused >= history->count))
		history_end(history, "refused", answer->text);
	else
		history_advance(history, history_first_step(history));
}

/* Books the register of the entry. */
static void
history_book(SmHistory *history)
{
	SmField *field = history->bus->field;
	SmReading reading = {.site_id = history->meter->site_id,
						 .meter_id = history->meter->meter_id,
						 .ts_ms = history->entries[history->at].ts_ms,
						 .kept = true,
						 .backfilled = true,
						 .values = history->values};

	history->found++;
	history->refused = 0;
	field->hooks.reading(field->hooks.context, &reading, false);
	history_advance(history, HISTORY_VALUE);
}

/* The time an entry is of came. */
static void
history_take_time(SmHistory *history, const SmAnswer *answer)
{
	const SmFreezeEntry *entry = &history->entries[history->at];
	int64_t minute = 0;
	int shift;

	switch (freeze_time(answer->data, answer->length, &minute))
	{
		case FREEZE_ABSENT:
			history_lack(history, NULL);
			return;
		case FREEZE_NONSENSE:
			history_try_again(history);
			return;
		default:
			break;
	}
	if (minute == entry->minute && history->step == HISTORY_AGAIN)
		history_book(history);
	else if (minute == entry->minute)
		history->step = HISTORY_VALUE;
	else if (freeze_shift(history->kind, entry->minute, minute, &shift))
	{
		history->shift += shift;
		history_try_again(history);
	}
	else
		history_advance(history, HISTORY_TIME);
}

/* The register came. */
static void
history_take_value(SmHistory *history, const SmAnswer *answer)
{
	int length = answer->length - history->byte_offset;

	/* A concentrator writes EEH where it has nothing. */
	if (history->kind == FREEZE_CONCENTRATOR && length > 0 && answer->data[0] == 0xEE)
	{
		history_lack(history, NULL);
		return;
	}
	memset(&history->values, 0, sizeof(history->values));
	switch (length <= 0 ? POINT_NONSENSE
						: point_decode_item(&history->point, answer->data + history->byte_offset,
											length, &history->values))
	{
		case POINT_GOOD:
			if (history->kind >= FREEZE_SETTLEMENT)
				history_book(history);
			else
				history->step = HISTORY_AGAIN;
			return;
		case POINT_ABSENT:
			history_lack(history, NULL);
			return;
		default:
			history_try_again(history);
	}
}

/* The day on which the meter ends its month came. */
static void
history_take_day(SmHistory *history, const SmAnswer *answer)
{
	char day[5];

	if (!freeze_settlement_day(answer->data, answer->length, day))
		history_end(history, "refused", "the meter does not say when it ends its month");
	else if (strcmp(day, history->settlement_day) != 0)
		history_end(history, "moved", day);
	else
		history->step = HISTORY_VALUE;
}

/* A meter that says no. */
static void
history_take_refusal(SmHistory *history, const SmAnswer *answer)
{
	if (answer->refusal == REFUSAL_BUSY)
		history->wait_us = base_now_us() + HISTORY_BUSY_US;
	else if (answer->refusal == REFUSAL_NO_DATA || answer->refusal == REFUSAL_FUNCTION ||
			 answer->refusal == REFUSAL_PASSWORD)
		history_lack(history, answer);
	else if (++history->silent >= HISTORY_SILENT_MOST)
		history_end(history, "failed", answer->text);
}

/* An answer came, or none. */
static void
history_done(void *context, const SmRequest *request, const SmAnswer *answer)
{
	SmHistory *history = context;

	(void) request;
	history->bus->history_us = base_now_us();
	if (answer->kind == ANSWER_EXCEPTION)
		history_take_refusal(history, answer);
	else if (answer->kind != ANSWER_GOOD)
	{
		history->wait_us = base_now_us() + bus_late_us(history->bus, answer);
		if (++history->silent >= HISTORY_SILENT_MOST)
			history_end(history, "failed", answer->text);
	}
	else
	{
		history->silent = 0;
		if (history->step == HISTORY_DAY)
			history_take_day(history, answer);
		else if (history->step == HISTORY_VALUE)
			history_take_value(history, answer);
		else
			history_take_time(history, answer);
	}
}

/* The identifier of the next question; false when the entry is beyond what can be counted. */
static bool
history_find_di(const SmHistory *history, uint32_t *di)
{
	int back = history->entries[history->at].back + history->shift;
	SmProtocol protocol = history->meter->target.protocol;

	if (history->kind == FREEZE_CONCENTRATOR)
	{
		*di = history->di;
		return true;
	}
	if (history->step == HISTORY_DAY)
		*di = protocol == PROTOCOL_DLT645_2007 ? HISTORY_DAY_DI_2007 : HISTORY_DAY_DI_1997;
	else
		*di = (history->step == HISTORY_VALUE ? history->di : history->time_di) +
			  (uint32_t) (back - 1) * (protocol == PROTOCOL_DLT645_1997 ? HISTORY_BACK_1997 : 1);
	/* The lowest byte of the first one is 1 where it counts, and never more than a byte. */
	return history->step == HISTORY_DAY ||
		   (back >= 1 &&
			back <= (protocol == PROTOCOL_DLT645_1997 ? HISTORY_MOST_1997 : FREEZE_ENTRIES_MAX));
}

/* Builds the next question. */
static bool
history_build(const SmHistory *history, uint32_t di, SmRequest *request)
{
	if (history->kind != FREEZE_CONCENTRATOR)
		return dlt645_build_read(request, &history->meter->target, di);
	memset(request, 0, sizeof(*request));
	request->target = history->meter->target;
	request->station = true;
	request->length = 5;
	request->body[0] = (uint8_t) history->di;
	request->body[1] = (uint8_t) (history->di >> 8);
	freeze_day(history->entries[history->at].minute, request->body + 2);
	return true;
}

/* The task whose turn it is: the first one that does not wait. */
static SmHistory *
history_pick(SmBus *bus, int64_t now_us, int64_t *wake_us)
{
	SmHistory *history;

	for (history = bus->histories; history != NULL; history = history->next)
	{
		if (history->wait_us <= now_us)
			return history;
		if (history->wait_us < *wake_us)
			*wake_us = history->wait_us;
	}
	return NULL;
}

/* The next question, if there is one now. */
bool
history_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us)
{
	SmField *field = bus->field;
	SmHistory *history;
	uint32_t di;

	if (bus->histories == NULL || field->stopping)
		return false;
	/* While the spool is tight nothing is added that meters keep anyway. */
	if (field->hooks.slowness(field->hooks.context) != 1)
	{
		if (now_us + 5 * US_PER_S < *wake_us)
			*wake_us = now_us + 5 * US_PER_S;
		return false;
	}
	while ((history = history_pick(bus, now_us, wake_us)) != NULL)
	{
		if (!history_find_di(history, &di))
		{
			history_advance(history, HISTORY_TIME);
			continue;
		}
		if (history_build(history, di, &exchange->request))
			break;
		history_end(history, "refused", "the identifier cannot be asked for");
	}
	if (history == NULL)
		return false;
	exchange->turnaround_ms = history->meter->model->turnaround_ms;
	exchange->timeout_ms = 0;
	exchange->is_command = false;
	exchange->done = history_done;
	exchange->context = history;
	return true;
}

/* Whether the routine has left no time for this for long, so that one question may go before it. */
bool
history_is_late(const SmBus *bus, int64_t now_us)
{
	return bus->histories != NULL && now_us - bus->history_us > HISTORY_PATIENCE_US;
}
