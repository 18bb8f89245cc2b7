/*
 * history.c - what a meter keeps of its past
 *
 * At every full hour of the meter's own clock the registers are kept, at midnight as the day's and
 * on the first of a month as the settlement's too. Nothing is made up: a meter has no past before
 * the farm started, and an hour that the clock was set across is missing.
 */
#include <stdlib.h>
#include <time.h>

#include "history.h"
#include "meter.h"

#define HOUR_S 3600
#define DAY_S 86400

static const int depths[FREEZE_COUNT] = {254, 62, 12};

typedef struct SmRing
{
	int64_t count;
	SmRecord *records;
} SmRing;

typedef struct SmHistory
{
	SmRing rings[FREEZE_COUNT];
	int64_t clock_zero_s; /* what the clock showed at sim 0, when the edge was worked out */
	int64_t edge_ns;      /* the next full hour, in simulated time */
} SmHistory;

/* How many records of a kind a meter keeps. */
int
history_depth(SmFreeze freeze)
{
	return depths[freeze];
}

/* Works out the next full hour of the meter's clock. */
static void
history_align(SmMeter *meter)
{
	SmHistory *history = meter->history;
	int64_t now_s = meter_clock_s(meter, meter->settled_sim_ns);

	history->clock_zero_s = meter_clock_s(meter, 0);
	history->edge_ns = ((now_s / HOUR_S + 1) * HOUR_S - history->clock_zero_s) * NS_PER_S;
}

/* Gives a meter a memory. */
void
history_create(SmMeter *meter)
{
	int i;

	meter->history = farm_alloc(sizeof(SmHistory));
	for (i = 0; i < FREEZE_COUNT; i++)
		meter->history->rings[i].records = farm_alloc(sizeof(SmRecord) * (size_t) depths[i]);
	history_align(meter);
}

/* Takes it away again. */
void
history_free(SmMeter *meter)
{
	int i;

	if (meter->history == NULL)
		return;
	for (i = 0; i < FREEZE_COUNT; i++)
		free(meter->history->rings[i].records);
	free(meter->history);
}

/* When the next record is due, in simulated time; a clock that was set is taken into account. */
int64_t
history_edge(SmMeter *meter)
{
	if (meter->history->clock_zero_s != meter_clock_s(meter, 0))
		history_align(meter);
	return meter->history->edge_ns;
}

/* Adds the present registers to a ring. */
static void
history_add(SmMeter *meter, SmFreeze freeze, int64_t clock_s)
{
	SmRing *ring = &meter->history->rings[freeze];

	ring->records[ring->count++ % depths[freeze]] =
		(SmRecord){clock_s, meter->register_mwh, meter->export_mwh};
}

/* Keeps the registers at a full hour; the meter has been counted up to it. */
void
history_freeze(SmMeter *meter, int64_t sim_ns)
{
	int64_t clock_s = meter_clock_s(meter, sim_ns);
	time_t clock = (time_t) clock_s;
	struct tm parts;

	gmtime_r(&clock, &parts);
	history_add(meter, FREEZE_HOUR, clock_s);
	if (parts.tm_hour == 0)
		history_add(meter, FREEZE_DAY, clock_s);
	if (parts.tm_hour == 0 && parts.tm_mday == 1)
		history_add(meter, FREEZE_MONTH, clock_s);
	meter->history->edge_ns += HOUR_S * NS_PER_S;
}

/* The n-th last record, 1 being the newest; NULL when there is none. */
const SmRecord *
history_back(const SmMeter *meter, SmFreeze freeze, int back)
{
	const SmRing *ring = &meter->history->rings[freeze];

	if (back < 1 || back > depths[freeze] || back > ring->count)
		return NULL;
	return &ring->records[(ring->count - back) % depths[freeze]];
}

/* The record of the midnight that began a day; NULL when there is none. */
const SmRecord *
history_of_day(const SmMeter *meter, int64_t clock_s)
{
	const SmRecord *record;
	int back;

	for (back = 1; (record = history_back(meter, FREEZE_DAY, back)) != NULL; back++)
		if (record->clock_s == clock_s / DAY_S * DAY_S)
			return record;
	return NULL;
}
