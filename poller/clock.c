/*
 * clock.c - reading the clocks of meters, and broadcasting the time to a bus
 *
 * The database says whose clock is to be read, and when a bus is to be told the time; it is told
 * what the clocks showed and decides what that means. Both come last on a bus, after commands and
 * the routine; only what has waited long goes before one question of the routine. What is not
 * done, because the meter is silent or the bus went away, is asked for again by the database.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"

#define CLOCK_PATIENCE_US (60 * US_PER_S)
#define CLOCK_STALE_US (600 * US_PER_S)
#define CLOCK_BROADCAST_STALE_US (60 * US_PER_S)

typedef struct SmClockTask
{
	struct SmClockTask *next;
	SmBus *bus;
	SmMeter *meter; /* NULL: a broadcast */
	SmMeterClock clock;
	int64_t local_s; /* of a broadcast: the time at started_us */
	int64_t started_us;
} SmClockTask;

static void clock_done(void *context, const SmRequest *request, const SmAnswer *answer);

/* Takes a task off its bus. */
static void
clock_end(SmClockTask *task)
{
	SmBus *bus = task->bus;
	SmClockTask **link;

	for (link = &bus->clocks; *link != task; link = &(*link)->next)
		;
	*link = task->next;
	bus_forget(bus, task);
	free(task);
}

static SmBus *
clock_find_bus(const SmField *field, int site_id, int64_t gateway_id)
{
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		if (field->buses[i]->site_id == site_id && field->buses[i]->gateway_id == gateway_id)
			return field->buses[i];
	}
	return NULL;
}

/* Whether this clock is being read already. */
static bool
clock_is_known(const SmBus *bus, const SmMeter *meter)
{
	const SmClockTask *task;

	for (task = bus->clocks; task != NULL; task = task->next)
	{
		if (task->meter == meter)
			return true;
	}
	return false;
}

/* Begins what the database wants done about a clock; what cannot be done is left. */
void
clock_start(SmField *field, const SmClockClaim *claim)
{
	SmMeter *meter =
		claim->broadcast ? NULL : field_find_meter(field, claim->site_id, claim->meter_id);
	SmBus *bus = claim->broadcast ? clock_find_bus(field, claim->site_id, claim->gateway_id)
				 : meter != NULL  ? meter->bus
								  : NULL;
	SmClockTask made = {.bus = bus, .meter = meter, .started_us = base_now_us()};
	SmDltTime local;
	SmClockTask *task;
	SmClockTask **link;

	if (bus == NULL || field->stopping || clock_is_known(bus, meter))
		return;
	if (meter == NULL && !meter_clock_parse(claim->local_time, &local))
		return;
	if (meter != NULL && (claim->clock_di == NULL ||
						  !meter_clock_begin(&made.clock, meter->model->protocol, claim->clock_di)))
	{
		log_warning("meter %d/%lld: its model names a clock that cannot be read", claim->site_id,
					(long long) claim->meter_id);
		return;
	}
	made.local_s = meter == NULL ? meter_clock_seconds(&local) : 0;
	task = base_alloc(sizeof(SmClockTask));
	*task = made;
	for (link = &bus->clocks; *link != NULL; link = &(*link)->next)
		;
	*link = task;
	bus_wake(bus);
}

/* Whether a clock has waited so long that it goes before the routine. */
bool
clock_is_late(const SmBus *bus, int64_t now_us)
{
	return bus->clocks != NULL && now_us - bus->clocks->started_us > CLOCK_PATIENCE_US;
}

static void
clock_build_broadcast(const SmClockTask *task, int64_t now_us, SmRequest *request)
{
	SmDltTime local;

	meter_clock_at(task->local_s + (now_us - task->started_us) / US_PER_S, &local);
	dlt645_build_clock(request, task->bus->meters[0]->model->protocol, &local);
}

/* Whether it has become too late: the database asks again, or the time of day is another. */
static bool
clock_is_stale(const SmClockTask *task, int64_t now_us)
{
	return now_us - task->started_us >
		   (task->meter == NULL ? CLOCK_BROADCAST_STALE_US : CLOCK_STALE_US);
}

/* The next question about a clock of this bus. */
bool
clock_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us)
{
	while (bus->clocks != NULL && clock_is_stale(bus->clocks, now_us))
		clock_end(bus->clocks);
	if (bus->clocks == NULL)
		return false;
	if (now_us < bus->clock_us)
	{
		*wake_us = bus->clock_us < *wake_us ? bus->clock_us : *wake_us;
		return false;
	}
	if (bus->clocks->meter == NULL)
		clock_build_broadcast(bus->clocks, now_us, &exchange->request);
	else
	{
		meter_clock_ask(&bus->clocks->clock, &bus->clocks->meter->target, &exchange->request);
		exchange->turnaround_ms = bus->clocks->meter->model->turnaround_ms;
	}
	exchange->done = clock_done;
	exchange->context = bus->clocks;
	return true;
}

/* Hands on what a clock showed. */
static void
clock_tell(const SmClockTask *task, const char *text, const char *error)
{
	SmField *field = task->bus->field;
	SmClockResult result = {task->meter->site_id, task->meter->meter_id, text, error};

	if (field->hooks.clock != NULL)
		field->hooks.clock(field->hooks.context, &result);
}

/* A part of a clock came; true when more is to be asked. */
static bool
clock_take(SmClockTask *task, const SmAnswer *answer)
{
	char text[METER_CLOCK_TEXT];

	switch (meter_clock_take(&task->clock, answer->data, answer->length))
	{
		case CLOCK_MORE:
			return true;
		case CLOCK_KNOWN:
			meter_clock_text(&task->clock.time, text);
			clock_tell(task, text, NULL);
			return false;
		default:
			clock_tell(task, NULL, "what it shows is no time");
			return false;
	}
}

/* A clock was read, or told, or not. */
static void
clock_done(void *context, const SmRequest *request, const SmAnswer *answer)
{
	SmClockTask *task = context;
	SmBus *bus = task->bus;

	(void) request;
	bus->clock_us = base_now_us() + bus_late_us(bus, answer);
	if (task->meter == NULL)
		log_info("gateway %d/%lld: the time was broadcast", bus->site_id,
				 (long long) bus->gateway_id);
	else if (answer->kind == ANSWER_GOOD && clock_take(task, answer))
		return;
	else if (answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_NO_DATA &&
			 meter_clock_fall_back(&task->clock))
		return;
	else if (answer->kind != ANSWER_GOOD)
		log_debug("meter %d/%lld: its clock is not read: %s", bus->site_id,
				  (long long) task->meter->meter_id, answer->text);
	clock_end(task);
}

/* Forgets all that was to be done about the clocks of a bus. */
void
clock_drop_all(SmBus *bus)
{
	while (bus->clocks != NULL)
		clock_end(bus->clocks);
}
