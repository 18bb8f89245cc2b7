/*
 * round.c - the routine: which meter of a bus is read next, and what its answers mean
 *
 * Of the meters that are due the one that has been due longest is read, so that on a bus that
 * cannot keep up every meter has its turn; a meter somebody waits for goes first. A meter is read
 * block by block; commands may come in between. A silent one is left alone for longer and longer,
 * up to five minutes, and costs its neighbours one timeout each time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "field.h"
#include "log.h"

#define ROUND_BACKOFF_MOST_US (300 * US_PER_S)
#define ROUND_BUSY_US US_PER_S
#define ROUND_BUSY_MOST 6 /* doublings: half a minute */
#define ROUND_URGENT_LEAST_US (10 * US_PER_S)
#define ROUND_PROBE_LEAST_MS 200
#define ROUND_FULL_EVERY 8
#define ROUND_CLOCK_JUMP_MS INT64_C(3600000)

static void round_done(void *context, const SmRequest *request, const SmAnswer *answer);

/* When a meter may be read; INT64_MAX when it may not. slowness as in SmFieldHooks. */
static int64_t
round_due_us(const SmMeter *meter, int slowness)
{
	const SmField *field = meter->bus->field;

	if (field->once && meter->tries_left == 0)
		return INT64_MAX;
	if (meter->urgent)
		return 0;
	return slowness > 0 || field->once ? meter->due_us : INT64_MAX;
}

static int
round_slowness(const SmBus *bus)
{
	return bus->field->hooks.slowness(bus->field->hooks.context);
}

/* When the routine wants the bus. */
int64_t
round_wake(const SmBus *bus, int64_t now_us)
{
	int slowness = round_slowness(bus);
	int64_t wake_us = slowness > 0 ? INT64_MAX : now_us + US_PER_S;
	int i;

	if (bus->field->stopping)
		return INT64_MAX;
	for (i = 0; i < bus->meter_count; i++)
	{
		int64_t due_us = round_due_us(bus->meters[i], slowness);

		if (due_us < wake_us)
			wake_us = due_us;
	}
	return wake_us;
}

/* The meter whose turn it is; NULL and the time when there will be one. */
static SmMeter *
round_pick(SmBus *bus, int64_t now_us, int64_t *wake_us)
{
	int slowness = round_slowness(bus);
	int64_t best_us = INT64_MAX;
	SmMeter *best = NULL;
	int i;

	for (i = 0; i < bus->meter_count; i++)
	{
		int64_t due_us = round_due_us(bus->meters[i], slowness);

		if (due_us < best_us)
		{
			best_us = due_us;
			best = bus->meters[i];
		}
	}
	if (best_us <= now_us)
		return best;
	if (slowness == 0 && now_us + US_PER_S < best_us)
		best_us = now_us + US_PER_S;
	if (best_us < *wake_us)
		*wake_us = best_us;
	return NULL;
}

/*
 * Notes how much later than its interval a meter that answers has its turn: more than a little
 * means that the bus cannot keep up.
 */
static void
round_note_spacing(SmBus *bus, const SmMeter *meter, int64_t now_us)
{
	int slowness = round_slowness(bus);
	int64_t late_us = now_us - meter->tried_us - bus->interval_us * (slowness > 0 ? slowness : 1);

	if (meter->failures > 0 || meter->tried_us <= bus->up_us || meter->urgent)
		return;
	if (late_us < 0)
		late_us = 0;
	if (bus->late_us < late_us)
		bus->late_us = late_us;
}

static void
round_start(SmBus *bus, SmMeter *meter, int64_t now_us)
{
	if (meter->ask_again_us != 0 && meter->ask_again_us <= now_us)
	{
		learn_reset(meter);
		meter->relearnt = true;
	}
	if (bus->round_count == 0)
		bus->round_started_us = now_us;
	if (meter->round != bus->round || bus->round_count == 0)
	{
		meter->round = bus->round;
		bus->round_count++;
	}
	round_note_spacing(bus, meter, now_us);
	meter->tried_us = now_us;
	bus->asked_twice = bus->doubtful = false;
	bus->reading = meter;
	bus->block = 0;
	bus->values_ms = 0;
	memset(&bus->values, 0, sizeof(bus->values));
}

/* When all meters that answer have had their turn, the round is over. */
static void
round_note_end(SmBus *bus, int64_t now_us)
{
	int i;

	for (i = 0; i < bus->meter_count; i++)
	{
		if (bus->meters[i]->round != bus->round && bus->meters[i]->failures < 2)
			return;
	}
	bus->round_ms = (now_us - bus->round_started_us) / US_PER_MS;
	bus->round++;
	bus->round_count = 0;
}

/*
 * The stamp of a reading: the wall clock, but never before an earlier reading of the meter. A
 * clock that was more than an hour ahead has been put right: then the new time is believed, for
 * stamps that stand still until the old ones are reached would be worse.
 */
static int64_t
round_stamp(SmMeter *meter, int64_t wall_ms)
{
	static int64_t told_us;
	int64_t floor_ms = meter->bus->field->floor_ms;
	int64_t now_us = base_now_us();

	if (meter->last_ms > floor_ms)
		floor_ms = meter->last_ms;
	if (wall_ms > floor_ms)
		return wall_ms;
	if (wall_ms < floor_ms && (told_us == 0 || now_us - told_us > 60 * US_PER_S))
	{
		told_us = now_us;
		log_error("the clock of this machine went back by %lld ms",
				  (long long) (floor_ms - wall_ms));
	}
	if (floor_ms - wall_ms > ROUND_CLOCK_JUMP_MS)
	{
		meter->bus->field->floor_ms = 0;
		return wall_ms;
	}
	return floor_ms + 1;
}

/* A meter answered all that was asked: hand its reading on. */
static void
round_succeed(SmBus *bus)
{
	SmMeter *meter = bus->reading;
	SmField *field = bus->field;
	SmReading reading = {.site_id = meter->site_id,
						 .meter_id = meter->meter_id,
						 .kept = meter->model->keeps,
						 .values = bus->values};
	int64_t now_us = base_now_us();
	int slowness = round_slowness(bus);
	int64_t wait_us = bus->interval_us * (slowness > 0 ? slowness : 1);
	bool urgent = meter->urgent;

	if (meter->online != 1 || meter->failures != 0 || meter->relearnt)
		meter->dirty = true;
	meter->relearnt = false;
	meter->online = 1;
	meter->failures = 0;
	meter->busy = 0;
	meter->urgent = false;
	meter->tries_left = 0;
	meter->due_us += wait_us;
	if (meter->due_us < now_us)
		meter->due_us = now_us;
	/* Read out of turn, it may have been due much later: its back-off is over now. */
	if (meter->due_us > now_us + wait_us)
		meter->due_us = now_us + wait_us;
	bus->reading = NULL;
	round_note_end(bus, now_us);
	if (bus->values.present != 0)
	{
		reading.ts_ms = round_stamp(meter, bus->values_ms);
		meter->last_ms = reading.ts_ms;
		if (!bus->doubtful && !learn_is_lacking(meter))
			field_set_error(meter->error, NULL, &meter->dirty);
		field->hooks.reading(field->hooks.context, &reading, urgent);
	}
	else
	{
		field_set_error(meter->error, "none of its registers holds a value", &meter->dirty);
		if (meter->due_us < now_us + US_PER_S)
			meter->due_us = now_us + US_PER_S;
	}
	field->hooks.changed(field->hooks.context);
}

/* How long to leave a meter alone after so many failures in a row. */
static int64_t
round_backoff_us(const SmBus *bus, int failures)
{
	int64_t base_us = bus->interval_us > US_PER_S ? bus->interval_us : US_PER_S;
	int shift = failures > 12 ? 10 : failures - 2;
	int64_t wait_us;

	if (bus->field->once)
		return 200 * US_PER_MS;
	if (failures < 2)
		return bus->interval_us < 2 * US_PER_S ? bus->interval_us : 2 * US_PER_S;
	if (base_us > ROUND_BACKOFF_MOST_US)
		return base_us;
	wait_us = base_us << shift;
	return wait_us < ROUND_BACKOFF_MOST_US ? wait_us : ROUND_BACKOFF_MOST_US;
}

/* How long to leave a meter alone that has something else to do. */
static int64_t
round_busy_us(SmMeter *meter)
{
	if (meter->busy < ROUND_BUSY_MOST)
		meter->busy++;
	return ROUND_BUSY_US << (meter->busy - 1);
}

/* A meter did not answer, or not with something of use. */
static void
round_fail(SmBus *bus, const SmAnswer *answer)
{
	SmMeter *meter = bus->reading;
	bool busy = answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_BUSY;
	int64_t wait_us;

	bus->reading = NULL;
	if (answer->kind == ANSWER_UNSENT)
		return;
	if (!busy)
		meter->failures++;
	meter->errors++;
	meter->urgent = false;
	meter->dirty = true;
	if (meter->failures >= 2 && meter->online != 0)
	{
		meter->online = 0;
		log_warning("meter %d/%lld: %s", meter->site_id, (long long) meter->meter_id, answer->text);
	}
	field_set_error(meter->error, answer->text, &meter->dirty);
	wait_us = base_jitter_us(busy ? round_busy_us(meter) : round_backoff_us(bus, meter->failures));
	if (wait_us < bus_late_us(bus, answer))
		wait_us = bus_late_us(bus, answer);
	meter->due_us = base_now_us() + wait_us;
	if (meter->tries_left > 0)
		meter->tries_left--;
	round_note_end(bus, base_now_us());
	bus->field->hooks.changed(bus->field->hooks.context);
}

/* Whether the meter said that it does not have what was asked for; of blocks many know nothing. */
static bool
round_is_refused(const SmBus *bus, const SmAnswer *answer)
{
	bool lax = bus->reading->blocks[bus->block].is_block && answer->code != 0;

	return answer->kind == ANSWER_EXCEPTION &&
		   (answer->refusal == REFUSAL_NO_DATA || answer->refusal == REFUSAL_FUNCTION ||
			answer->refusal == REFUSAL_PASSWORD || (answer->refusal == REFUSAL_OTHER && lax));
}

/* Values that cannot be are dropped and counted; the question is asked once more before that. */
static bool
round_is_nonsense(SmBus *bus, const SmTaken *taken)
{
	SmMeter *meter = bus->reading;
	char text[FIELD_ERROR];

	if (taken->nonsense == 0)
		return false;
	bus->errors++;
	meter->errors++;
	meter->dirty = true;
	if (!bus->asked_twice)
	{
		bus->asked_twice = true;
		return true;
	}
	snprintf(text, sizeof(text), "%s: what it answers is no number of its kind",
			 point_metric_name(taken->first_wrong));
	field_set_error(meter->error, text, &meter->dirty);
	bus->doubtful = true;
	return false;
}

/* Takes the values of a good answer; when they cannot be, the question stands. */
static void
round_take(SmBus *bus, const SmRequest *request, const SmAnswer *answer)
{
	SmMeter *meter = bus->reading;
	SmTaken taken;

	coalesce_take(meter->model->points, &meter->blocks[bus->block], request, answer->data,
				  answer->length, &bus->values, &taken);
	if (meter->longest_us < answer->took_us)
		meter->longest_us = answer->took_us;
	else
		meter->longest_us -= meter->longest_us / 64;
	if (bus->longest_us < meter->longest_us)
		bus->longest_us = meter->longest_us;
	if (round_is_nonsense(bus, &taken))
		return;
	if (taken.energy || !point_has(&bus->values, METRIC_ENERGY_WH))
		bus->values_ms = answer->wall_ms;
	bus->asked_twice = false;
	bus->block++;
}

/* The meter refuses this item now, without saying that it has none: the others are still asked for. */
static void
round_skip(SmBus *bus, const SmAnswer *answer)
{
	SmMeter *meter = bus->reading;
	char text[FIELD_ERROR];

	meter->errors++;
	snprintf(text, sizeof(text), "%s: %s",
			 point_metric_name(meter->model->points[meter->blocks[bus->block].first].metric),
			 answer->text);
	field_set_error(meter->error, text, &meter->dirty);
	bus->doubtful = true;
	bus->asked_twice = false;
	bus->block++;
}

/* Whether a meter that refuses an item of DL/T 645 for no clear reason may still give the others. */
static bool
round_is_skipped(const SmBus *bus, const SmAnswer *answer)
{
	return answer->kind == ANSWER_EXCEPTION && answer->refusal == REFUSAL_OTHER &&
		   bus->reading->target.protocol != PROTOCOL_MODBUS && answer->code != 0;
}

/*
 * A refusal names neither item nor registers: where answers carry no number, one that is sent
 * twice could be taken for that to the next question, and cost an item for a day. So the question
 * is asked once more before a refusal is believed.
 */
static bool
round_confirms(SmBus *bus)
{
	if (wire_is_numbered(bus->wire.kind) || bus->asked_twice)
	{
		bus->asked_twice = false;
		return false;
	}
	bus->asked_twice = true;
	return true;
}

/* An answer to a routine question came, or none. */
static void
round_done(void *context, const SmRequest *request, const SmAnswer *answer)
{
	SmBus *bus = context;

	if (bus->reading == NULL)
		return;
	if (answer->kind == ANSWER_GOOD)
		round_take(bus, request, answer);
	else if (round_is_refused(bus, answer) && round_confirms(bus))
		return;
	else if (round_is_refused(bus, answer))
		bus->block += !learn_refused(bus->reading, bus->block, answer);
	else if (round_is_skipped(bus, answer))
		round_skip(bus, answer);
	else
	{
		round_fail(bus, answer);
		return;
	}
	while (bus->block < bus->reading->block_count && bus->reading->blocks[bus->block].refused)
		bus->block++;
	if (bus->block == bus->reading->block_count)
		round_succeed(bus);
}

/* Whether some meter of this bus answers. */
bool
round_has_life(const SmBus *bus)
{
	int i;

	for (i = 0; i < bus->meter_count; i++)
	{
		if (bus->meters[i]->online == 1 && bus->meters[i]->failures == 0)
			return true;
	}
	return false;
}

/*
 * How long to wait for this meter; 0: as the gateway says. One that was silent is given twice the
 * longest time that it, or its neighbours, took lately, so that the dead cost the living little;
 * now and then the whole time, for it may have become slower. Where none answers there is nobody
 * to spare, and the gateway itself may be slow.
 */
static int
round_timeout_ms(const SmBus *bus, const SmMeter *meter)
{
	int64_t longest_us = meter->longest_us > 0 ? meter->longest_us : bus->longest_us;
	int64_t probe_ms = 2 * longest_us / US_PER_MS;

	if (meter->failures % ROUND_FULL_EVERY == 0 || longest_us == 0 || !round_has_life(bus))
		return 0;
	if (probe_ms < ROUND_PROBE_LEAST_MS)
		probe_ms = ROUND_PROBE_LEAST_MS;
	return probe_ms < bus->timeout_ms ? (int) probe_ms : 0;
}

/* The next question of the routine, if there is one now. */
bool
round_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us)
{
	SmMeter *meter;
	const SmBlock *block;

	if (bus->field->stopping)
		bus->reading = NULL;
	while (bus->reading == NULL)
	{
		meter = bus->field->stopping ? NULL : round_pick(bus, now_us, wake_us);
		if (meter == NULL)
			return false;
		round_start(bus, meter, now_us);
		while (bus->block < meter->block_count && meter->blocks[bus->block].refused)
			bus->block++;
		if (bus->block == meter->block_count)
			round_succeed(bus);
	}
	meter = bus->reading;
	block = &meter->blocks[bus->block];
	coalesce_request(&meter->target, block, &exchange->request);
	exchange->timeout_ms = round_timeout_ms(bus, meter);
	exchange->turnaround_ms = meter->model->turnaround_ms;
	exchange->is_command = false;
	exchange->done = round_done;
	exchange->context = bus;
	return true;
}

/* The gateway cannot be reached; from the second time on its meters count as gone, too. */
void
round_bus_failed(SmBus *bus, const char *text)
{
	char error[FIELD_ERROR];
	int i;

	bus->reading = NULL;
	snprintf(error, sizeof(error), "gateway: %s", text);
	for (i = 0; i < bus->meter_count; i++)
	{
		SmMeter *meter = bus->meters[i];

		meter->urgent = false;
		if (bus->failures < 2)
			continue;
		meter->tries_left = 0;
		if (meter->online != 0)
			meter->dirty = true;
		meter->online = 0;
		if (meter->failures == 0)
			meter->failures = 1;
		field_set_error(meter->error, error, &meter->dirty);
	}
	bus->field->hooks.changed(bus->field->hooks.context);
}

/* The gateway is back: its meters did not fail, it did. */
void
round_bus_up(SmBus *bus)
{
	int64_t now_us = base_now_us();
	int i;

	for (i = 0; i < bus->meter_count; i++)
	{
		SmMeter *meter = bus->meters[i];

		if (meter->due_us > now_us)
			meter->due_us = now_us;
		if (meter->failures > 1)
			meter->failures = 1;
	}
}

/* Gives up the reading under way; the meter stays due. */
void
round_abandon(SmBus *bus)
{
	bus_forget(bus, bus);
	bus->reading = NULL;
}

/*
 * Somebody waits for this meter. One that has been silent is not asked again each time somebody
 * asks: its neighbours would pay for it.
 */
void
field_read_soon(SmField *field, int site_id, int64_t meter_id)
{
	SmMeter *meter = field_find_meter(field, site_id, meter_id);

	if (meter == NULL || (meter->failures >= 2 && meter->tried_us != 0 &&
						  base_now_us() - meter->tried_us < ROUND_URGENT_LEAST_US))
		return;
	meter->urgent = true;
	bus_hurry(meter->bus);
}
