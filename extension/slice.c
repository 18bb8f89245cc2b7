/*
 * slice.c - cuts the time between two readings and puts the energy where it belongs.
 *
 * Inside an interval energy is linear. It is cut at local hours, supplies, setups and tariff versions;
 * the register at each edge is interpolated and rounded to whole Wh, so the parts always add up to the
 * difference of the registers. Nothing here talks to the database.
 */
#include "module.h"

#include "datatype/timestamp.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

#include "plausible.h"
#include "settle.h"
#include "tariff.h"

/*
 * The local day that holds a time.
 */
void
day_find(SmDay *day, TimestampTz at, pg_tz *zone)
{
	struct pg_tm local;
	fsec_t fraction;
	int offset;
	int32 date;

	if (at >= day->from && at < day->to)
		return;
	if (timestamp2tm(at, &offset, &local, &fraction, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	date = date2j(local.tm_year, local.tm_mon, local.tm_mday);
	day->date = date - POSTGRES_EPOCH_JDATE;
	for (int next = 0; next < 2; next++)
	{
		TimestampTz *edge = next ? &day->to : &day->from;
		Timestamp midnight = (Timestamp) (day->date + next) * USECS_PER_DAY;

		j2date(date + next, &local.tm_year, &local.tm_mon, &local.tm_mday);
		local.tm_hour = local.tm_min = local.tm_sec = 0;
		*edge = midnight + (int64) DetermineTimeZoneOffset(&local, zone) * USECS_PER_SEC;
	}
}

/*
 * Place for the usage of a meter and day; the day before is complete then.
 */
static SmUsageDay *
usage_day_at(SmSettle *settle, const SmMeter *meter)
{
	SmUsageDay *usage = settle->n_usage > 0 ? &settle->usage[settle->n_usage - 1] : NULL;

	if (usage != NULL && usage->meter_id == meter->meter_id && usage->date == settle->day.date)
		return usage;
	if (settle->n_usage == settle->max_usage)
	{
		settle->max_usage = Max(1024, settle->max_usage * 2);
		settle->usage = settle->usage == NULL
							? palloc(sizeof(SmUsageDay) * settle->max_usage)
							: repalloc_huge(settle->usage, sizeof(SmUsageDay) * settle->max_usage);
	}
	usage = &settle->usage[settle->n_usage++];
	memset(usage, 0, sizeof(*usage));
	usage->meter_id = meter->meter_id;
	usage->date = settle->day.date;
	return usage;
}

/*
 * The tariff version in force; NULL before the first one.
 */
const SmVersion *
pair_version_at(const SmPair *pair, TimestampTz at)
{
	int low = 0;
	int high = pair->n_versions;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (pair->versions[middle].from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? &pair->versions[low - 1] : NULL;
}

/*
 * Appends an empty cycle to a pair.
 */
SmCycle *
pair_cycle_add(SmPair *pair, TimestampTz from, TimestampTz to)
{
	SmCycle *cycle;

	if (pair->n_cycles == pair->max_cycles)
	{
		pair->max_cycles = Max(4, pair->max_cycles * 2);
		pair->cycles = pair->cycles == NULL
						   ? palloc(sizeof(SmCycle) * pair->max_cycles)
						   : repalloc(pair->cycles, sizeof(SmCycle) * pair->max_cycles);
	}
	cycle = &pair->cycles[pair->n_cycles++];
	memset(cycle, 0, sizeof(*cycle));
	cycle->from = from;
	cycle->to = to;
	cycle->settled_to = from;
	return cycle;
}

/*
 * The billing cycle that holds a time; made when it is the first energy in it.
 */
SmCycle *
pair_cycle_at(SmSettle *settle, SmPair *pair, TimestampTz at)
{
	TimestampTz from;
	TimestampTz to;

	for (int i = 0; i < pair->n_cycles; i++)
	{
		int tried = (pair->at + i) % pair->n_cycles;

		if (at >= pair->cycles[tried].from && at < pair->cycles[tried].to)
		{
			pair->at = tried;
			return &pair->cycles[tried];
		}
	}
	tariff_cycle(at, settle->zone, &from, &to);
	pair->at = pair->n_cycles;
	return pair_cycle_add(pair, from, to);
}

/*
 * Index of the span of a cycle that starts at a time; made in its place when it is new.
 */
int
cycle_span_at(SmCycle *cycle, TimestampTz from)
{
	int at = cycle->n_spans;

	while (at > 0 && cycle->span_from[at - 1] >= from)
		at--;
	if (at < cycle->n_spans && cycle->span_from[at] == from)
		return at;
	if (cycle->n_spans == cycle->max_spans)
	{
		int max = Max(2, cycle->max_spans * 2);
		TimestampTz *span_from = palloc(sizeof(TimestampTz) * max);
		int64 *span_wh = palloc(sizeof(int64) * max);

		if (cycle->n_spans > 0)
		{
			memcpy(span_from, cycle->span_from, sizeof(TimestampTz) * cycle->n_spans);
			memcpy(span_wh, cycle->span_wh, sizeof(int64) * cycle->n_spans);
		}
		cycle->span_from = span_from;
		cycle->span_wh = span_wh;
		cycle->max_spans = max;
	}
	memmove(&cycle->span_from[at + 1], &cycle->span_from[at],
			sizeof(TimestampTz) * (cycle->n_spans - at));
	memmove(&cycle->span_wh[at + 1], &cycle->span_wh[at], sizeof(int64) * (cycle->n_spans - at));
	cycle->span_from[at] = from;
	cycle->span_wh[at] = 0;
	cycle->n_spans++;
	return at;
}

/*
 * Adds energy to what an account owes on a tariff.
 */
static void
charge_add(SmSettle *settle, SmPair *pair, TimestampTz from, TimestampTz to, int64 wh)
{
	SmCycle *cycle = pair_cycle_at(settle, pair, from);
	const SmVersion *version = pair_version_at(pair, from);
	TimestampTz span_from = version != NULL ? Max(version->from, cycle->from) : cycle->from;
	int span;

	span = cycle_span_at(cycle, span_from);
	cycle->span_wh[span] += wh;
	cycle->settled_to = Max(cycle->settled_to, to);
	cycle->touched = true;
}

static const SmSupply *
supply_at(const SmMeter *meter, TimestampTz at)
{
	for (int i = 0; i < meter->n_supplies; i++)
	{
		if (at >= meter->supplies[i].from && at < meter->supplies[i].to)
			return &meter->supplies[i];
	}
	return NULL;
}

static const SmSetup *
setup_at(const SmMeter *meter, TimestampTz at)
{
	static const SmSetup plain = {DT_NOBEGIN, SM_SCALE_MULTIPLIER, 0};
	const SmSetup *found = &plain;

	for (int i = 0; i < meter->n_setups && meter->setups[i].from <= at; i++)
		found = &meter->setups[i];
	return found;
}

/*
 * The next time at which something other than an hour changes for a meter.
 */
static TimestampTz
meter_next_edge(const SmSettle *settle, const SmMeter *meter, const SmSupply *supply,
				TimestampTz at)
{
	TimestampTz edge = DT_NOEND;

	for (int i = 0; i < meter->n_setups; i++)
	{
		if (meter->setups[i].from > at)
			edge = Min(edge, meter->setups[i].from);
	}
	for (int i = 0; i < meter->n_supplies; i++)
	{
		if (meter->supplies[i].from > at)
			edge = Min(edge, meter->supplies[i].from);
		if (meter->supplies[i].to > at)
			edge = Min(edge, meter->supplies[i].to);
	}
	if (supply != NULL)
	{
		const SmPair *pair = &settle->pairs[supply->pair];

		for (int i = 0; i < pair->n_versions; i++)
		{
			if (pair->versions[i].from > at)
				edge = Min(edge, pair->versions[i].from);
		}
	}
	return edge;
}

/*
 * Energy at a register after the multiplier, rounded half up to whole Wh: of the register itself and not
 * of differences, so that differences add up.
 */
static inline int64
primary_wh(const SmSetup *setup, int64 register_wh)
{
	__int128 scaled = (__int128) register_wh * setup->multiplier_e4;

	return (int64) ((scaled + SM_SCALE_MULTIPLIER / 2) / SM_SCALE_MULTIPLIER);
}

static int64
register_at(TimestampTz from, int64 from_wh, TimestampTz to, int64 delta_wh, TimestampTz at)
{
	int64 wh;

	if (at >= to)
		return from_wh + delta_wh;
	if (!rating_interpolate(0, delta_wh, at - from, to - from, &wh))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("energy of an interval is out of range")));
	return from_wh + wh;
}

/*
 * Puts one part, inside one local hour, into the usage of the meter and the charge of the account.
 */
static void
slice_take(SmSettle *settle, const SmMeter *meter, const SmSupply *supply, TimestampTz from,
		   TimestampTz to, int64 wh)
{
	if (!settle->dry && from >= meter->usage_from)
	{
		SmUsageDay *usage = usage_day_at(settle, meter);
		int hour = (int) ((from - settle->day.from) / USECS_PER_HOUR);

		usage->hour_wh[hour] += wh;
		usage->n_hours = Max(usage->n_hours, hour + 1);
	}
	if (supply != NULL && from >= supply->count_from)
		charge_add(settle, &settle->pairs[supply->pair], from, to, wh);
}

/*
 * The power read at the end of an interval belongs to its last hour.
 */
static void
power_take(SmSettle *settle, const SmMeter *meter, TimestampTz to, float4 power_w)
{
	int hour = (int) ((to - 1 - settle->day.from) / USECS_PER_HOUR);
	SmUsageDay *usage;

	if (settle->dry || to - 1 < meter->usage_from || !(power_w > 0))
		return;
	usage = usage_day_at(settle, meter);
	power_w = power_w * setup_at(meter, to - 1)->multiplier_e4 / SM_SCALE_MULTIPLIER;
	usage->hour_max_w[hour] = Max(usage->hour_max_w[hour], power_w);
	usage->n_hours = Max(usage->n_hours, hour + 1);
}

/*
 * The energy between two valid readings. A register that went back without rolling over was reset or
 * exchanged: nothing can be proved for that interval, so nothing is counted.
 */
void
slice_interval(SmSettle *settle, SmMeter *meter, TimestampTz from, int64 from_wh, TimestampTz to,
			   int64 to_wh, float4 power_w, bool judged)
{
	const SmSetup *setup = setup_at(meter, from);
	const SmSupply *supply = supply_at(meter, from);
	TimestampTz edge = meter_next_edge(settle, meter, supply, from);
	TimestampTz at = from;
	int64 at_wh = from_wh;
	int64 delta_wh = to_wh - from_wh;

	if (delta_wh < 0)
	{
		delta_wh += setup->modulus_wh;
		/*
		 * The fold let it pass because the rating allows the roll-over. Where a person's word did,
		 * more than half a turn backwards is a roll-over, less is a reset.
		 */
		if (setup->modulus_wh == 0 || delta_wh < 0 || (judged && delta_wh > setup->modulus_wh / 2))
			delta_wh = 0;
	}
	while (at < to)
	{
		TimestampTz next;
		int64 next_wh;

		day_find(&settle->day, at, settle->zone);
		next = at + USECS_PER_HOUR - (at - settle->day.from) % USECS_PER_HOUR;
		next = Min(Min(next, settle->day.to), Min(edge, to));
		next_wh = register_at(from, from_wh, to, delta_wh, next);
		slice_take(settle, meter, supply, at, next,
				   primary_wh(setup, next_wh) - primary_wh(setup, at_wh));
		at = next;
		at_wh = next_wh;
		if (at == edge)
		{
			setup = setup_at(meter, at);
			supply = supply_at(meter, at);
			edge = meter_next_edge(settle, meter, supply, at);
		}
	}
	power_take(settle, meter, to, power_w);
}
