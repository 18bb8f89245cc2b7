/*
 * settle_span.c - billing cycles of an account on a tariff, and their spans.
 *
 * A span is a time in which one price and one tier cycle hold; its energy is one number, so late energy
 * is added where it belongs and the cycle is rated again. Where the order of energy within a day
 * matters (tiers meet periods, or free energy does) a span is one part of a local day. Elsewhere it is
 * a whole stretch of equal version, bounds and tier cycle, one span per period.
 *
 * Which span a time is in depends on tariffs, calendar and terms only. The cursor of a pair remembers
 * the last answer and how long it holds, so most pieces of energy cost one comparison.
 */
#include "module.h"

#include "datatype/timestamp.h"
#include "utils/memutils.h"

#include "settle.h"
#include "tariff.h"

/* ---- local days ---- */

/*
 * The local day that holds a time.
 */
void
day_find(SmDay *day, TimestampTz at, pg_tz *zone)
{
	if (at >= day->from && at < day->to)
		return;
	day->date = day_of(at, zone);
	day->from = day_start(day->date, zone);
	day->to = day_start(day->date + 1, zone);
}

/*
 * Number of the local day that holds a time.
 */
int32
settle_day_of(SmSettle *settle, TimestampTz at)
{
	day_find(&settle->other_day, at, settle->zone);
	return settle->other_day.date;
}

/* ---- cycles ---- */

/*
 * Appends an empty cycle to a pair.
 */
SmCycle *
pair_cycle_add(SmSettle *settle, SmPair *pair, TimestampTz from, TimestampTz to)
{
	SmCycle *cycle;

	if (settle->cycle.from != from || settle->cycle.to != to)
	{
		settle->cycle.from = from;
		settle->cycle.to = to;
		settle->cycle.first_day = settle_day_of(settle, from);
		settle->cycle.n_days = settle_day_of(settle, to) - settle->cycle.first_day;
	}
	if (pair->n_cycles == pair->max_cycles)
	{
		pair->max_cycles = Max(2, pair->max_cycles * 2);
		pair->cycles = pair->cycles == NULL
						   ? palloc(sizeof(SmCycle) * pair->max_cycles)
						   : repalloc_huge(pair->cycles, sizeof(SmCycle) * pair->max_cycles);
	}
	cycle = &pair->cycles[pair->n_cycles++];
	memset(cycle, 0, sizeof(*cycle));
	cycle->from = from;
	cycle->to = to;
	cycle->first_day = settle->cycle.first_day;
	cycle->n_days = settle->cycle.n_days;
	cycle->settled_to = from;
	cycle->accrued_to = SM_NO_DAY;
	for (int i = 0; i < pair->n_allowances; i++)
		cycle->ordered |= pair->allowances[i].free_wh > 0 && pair->allowances[i].from < to &&
						  pair->allowances[i].to > from;
	return cycle;
}

/*
 * The billing cycle that holds a time; made when nothing is in it yet.
 */
SmCycle *
pair_cycle_at(SmSettle *settle, SmPair *pair, TimestampTz at)
{
	TimestampTz from = settle->cycle.from;
	TimestampTz to = settle->cycle.to;

	for (int i = 0; i < pair->n_cycles; i++)
	{
		int tried = (pair->at + i) % pair->n_cycles;

		if (at >= pair->cycles[tried].from && at < pair->cycles[tried].to)
		{
			pair->at = tried;
			return &pair->cycles[tried];
		}
	}
	if (at < from || at >= to)
		tariff_cycle(at, settle->cycle_day, settle->zone, &from, &to);
	pair->at = pair->n_cycles;
	return pair_cycle_add(settle, pair, from, to);
}

static int
cycle_compare(const void *a, const void *b)
{
	TimestampTz left = ((const SmCycle *) a)->from;
	TimestampTz right = ((const SmCycle *) b)->from;

	return left < right ? -1 : left > right;
}

/*
 * Puts the cycles of a pair into the order of time.
 */
void
cycles_sort(SmPair *pair)
{
	bool sorted = true;

	for (int i = 1; i < pair->n_cycles; i++)
		sorted &= pair->cycles[i - 1].from < pair->cycles[i].from;
	if (!sorted)
		qsort(pair->cycles, pair->n_cycles, sizeof(SmCycle), cycle_compare);
	pair->at = 0;
	memset(&pair->cursor, 0, sizeof(pair->cursor));
}

/* ---- spans ---- */

/*
 * Room for so many spans of a cycle.
 */
void
cycle_spans_reserve(SmCycle *cycle, int n)
{
	if (n <= cycle->max_spans)
		return;
	cycle->max_spans = Max(n, Max(2, cycle->max_spans * 2));
	cycle->spans = cycle->spans == NULL
					   ? palloc(sizeof(SmSpan) * cycle->max_spans)
					   : repalloc_huge(cycle->spans, sizeof(SmSpan) * cycle->max_spans);
}

/*
 * Index of the span of a cycle with a start and a period; made in its place when it is new.
 */
static int
cycle_span_at(SmCycle *cycle, TimestampTz from, int16 period)
{
	int low = 0;
	int high = cycle->n_spans;

	/* Mostly it is the last one, or new behind it. */
	if (high > 0 && cycle->spans[high - 1].from < from)
		low = high;
	while (low < high)
	{
		int middle = (low + high) / 2;
		const SmSpan *span = &cycle->spans[middle];

		if (span->from < from || (span->from == from && span->period < period))
			low = middle + 1;
		else
			high = middle;
	}
	if (low < cycle->n_spans && cycle->spans[low].from == from &&
		cycle->spans[low].period == period)
		return low;
	cycle_spans_reserve(cycle, cycle->n_spans + 1);
	memmove(&cycle->spans[low + 1], &cycle->spans[low], sizeof(SmSpan) * (cycle->n_spans - low));
	cycle->spans[low] = (SmSpan){.from = from, .period = period};
	cycle->n_spans++;
	return low;
}

/*
 * People of the household at a time: the most of any supply.
 */
int
pair_household_at(const SmPair *pair, TimestampTz at)
{
	int most = 0;

	for (int i = 0; i < pair->n_stays; i++)
	{
		if (at >= pair->stays[i].from && at < pair->stays[i].to)
			most = Max(most, pair->stays[i].household);
	}
	return most;
}

/*
 * Narrows a time around an instant to that in which bounds and tier cycle stay the same: between
 * changes of the household, and over days that agree.
 */
static void
stretch_clip(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, const SmTariff *tariff,
			 TimestampTz at, TimestampTz *from, TimestampTz *to)
{
	int household = pair->priced->household ? pair_household_at(pair, at) : 0;
	int32 day = settle_day_of(settle, at);
	int32 first = day;
	int32 end = day + 1;
	int bounds = rating_bounds_at(tariff, day, household);
	int32 start = rating_tier_start(tariff, day, cycle->first_day);

	for (int i = 0; pair->priced->household && i < pair->n_stays; i++)
	{
		for (int last = 0; last < 2; last++)
		{
			TimestampTz edge = last ? pair->stays[i].to : pair->stays[i].from;

			if (edge <= at)
				*from = Max(*from, edge);
			else
				*to = Min(*to, edge);
		}
	}
	if (tariff->n_bounds <= 1 && (tariff->tier_cycle == SM_TIER_CYCLE ||
								  (tariff->tier_cycle == SM_TIER_MONTH && settle->cycle_day == 1)))
		return;
	while (first > cycle->first_day && rating_bounds_at(tariff, first - 1, household) == bounds &&
		   rating_tier_start(tariff, first - 1, cycle->first_day) == start)
		first--;
	while (end < cycle->first_day + cycle->n_days &&
		   rating_bounds_at(tariff, end, household) == bounds &&
		   rating_tier_start(tariff, end, cycle->first_day) == start)
		end++;
	*from = Max(*from, day_start(first, settle->zone));
	*to = Min(*to, day_start(end, settle->zone));
}

/*
 * The part of the local day that holds a time; its period is the result.
 */
static int16
part_clip(SmSettle *settle, const SmVersion *version, TimestampTz at, TimestampTz *from,
		  TimestampTz *to)
{
	const SmDayCut *cut = version_day(settle, version, settle_day_of(settle, at));
	int low = 0;
	int high = cut->n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (cut->parts[middle].from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	*from = Max(*from, cut->parts[low - 1].from);
	*to = Min(*to, low < cut->n ? cut->parts[low].from : cut->to);
	return cut->parts[low - 1].period;
}

/*
 * Moves the cursor of a pair to the span that holds a time.
 */
void
pair_seek(SmSettle *settle, SmPair *pair, TimestampTz at)
{
	SmCycle *cycle = pair_cycle_at(settle, pair, at);
	const SmVersion *version = pair_version_at(pair, at);
	TimestampTz from = cycle->from;
	TimestampTz to = cycle->to;
	TimestampTz key;
	int16 period = 0;

	if (version != NULL)
	{
		from = Max(from, version->from);
		to = Min(to, version->to);
	}
	else if (pair->priced->n_versions > 0)
		to = Min(to, pair->priced->versions[0].from);
	/*
	 * Where a billing cycle is no calendar month, energy of a price without tiers is cut at months as
	 * well: a later version with tiers goes on from its place in the month.
	 */
	if (version != NULL && version->tariff != NULL &&
		(version->tariff->n_tiers > 1 || settle->cycle_day != 1))
		stretch_clip(settle, pair, cycle, version->tariff, at, &from, &to);
	key = from;
	if (version != NULL && version->tariff != NULL && version->tariff->schedule.n_periods > 1)
	{
		period = part_clip(settle, version, at, &from, &to);
		if (version->tariff->ordered || cycle->ordered)
			key = from;
	}
	pair->cursor.from = from;
	pair->cursor.to = to;
	pair->cursor.version = version;
	pair->cursor.cycle = cycle - pair->cycles;
	pair->cursor.span = cycle_span_at(cycle, key, period);
}
