/*
 * settle_clock.c - what grows with time alone: covered days, fees, terms.
 *
 * A local day of a cycle is covered when any supply of the account on the tariff covers part of it, and
 * counts once it has begun at the site (settle->accrued_to). Fees, the share of demand and the share of
 * the minimum are functions of the covered days.
 */
#include "module.h"

#include "datatype/timestamp.h"
#include "miscadmin.h"

#include "settle.h"

/*
 * True when a version with fees or demand is in force in a cycle.
 */
static bool
cycle_has_clock(const SmPair *pair, const SmCycle *cycle)
{
	for (int i = 0; i < pair->priced->n_versions; i++)
	{
		const SmVersion *version = &pair->priced->versions[i];

		if (version->tariff != NULL && version->tariff->clock && version->from < cycle->to &&
			version->to > cycle->from)
			return true;
	}
	return false;
}

/*
 * Makes and marks the cycles of an account in which days have begun since the last run.
 */
static void
pair_touch(SmSettle *settle, SmPair *pair)
{
	TimestampTz end = day_start(settle->accrued_to + 1, settle->zone);

	for (int i = 0; i < pair->n_stays; i++)
	{
		TimestampTz at = Max(pair->stays[i].from, pair->accrue_from);
		TimestampTz to = Min(pair->stays[i].to, end);

		while (at < to)
		{
			SmCycle probe = {0};
			SmCycle *cycle;

			CHECK_FOR_INTERRUPTS();
			probe.from = cycle_start(settle, at);
			probe.to = settle->cycle.to;
			if (cycle_has_clock(pair, &probe))
			{
				cycle = pair_cycle_at(settle, pair, at);
				cycle->touched = true;
			}
			at = probe.to;
		}
	}
}

/*
 * The same for all accounts of the run.
 */
void
clock_touch(SmSettle *settle)
{
	if (settle->accrued_to == SM_NO_DAY)
		return;
	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];

		if (pair->accrue_from != DT_NOEND && pair->priced->clock)
			pair_touch(settle, pair);
	}
}

/*
 * The days of a cycle that are covered and count, as bits from its first day. Where time alone does not
 * matter no run looks after the days, so all covered ones count.
 */
uint32
cycle_covered(const SmSettle *settle, const SmPair *pair, const SmCycle *cycle)
{
	int32 end = cycle->first_day + cycle->n_days;
	uint32 covered = 0;

	if (pair->priced->clock)
		end = settle->accrued_to == SM_NO_DAY ? cycle->first_day : Min(end, settle->accrued_to + 1);
	for (int i = 0; i < pair->n_stays; i++)
	{
		int32 from = Max(pair->stays[i].from_day, cycle->first_day);
		int32 to = Min(pair->stays[i].to_day + 1, end);

		for (int32 day = from; day < to; day++)
			covered |= 1u << (day - cycle->first_day);
	}
	return covered;
}

/*
 * True when a day before the cycle, but in the same calendar month, is covered: a fee of that month
 * has been taken then.
 */
static bool
month_began_before(const SmPair *pair, const SmCycle *cycle, int32 month_from)
{
	for (int i = 0; i < pair->n_stays; i++)
	{
		if (pair->stays[i].from_day < cycle->first_day && pair->stays[i].to_day >= month_from)
			return true;
	}
	return false;
}

/* Fees of a cycle as they are found. */
typedef struct SmFees
{
	int n;
	int max;
	SmRatingFee *fees;
} SmFees;

/*
 * Adds one day of a version to its fee.
 */
static void
fee_add(SmFees *fees, const SmTariff *tariff, int fee, int64 of)
{
	for (int i = fees->n - 1; i >= 0; i--)
	{
		SmRatingFee *known = &fees->fees[i];

		if (known->tariff == tariff && known->fee == fee && known->of == of)
		{
			known->n++;
			return;
		}
	}
	if (fees->n == fees->max)
	{
		fees->max = Max(8, fees->max * 2);
		fees->fees = fees->fees == NULL ? palloc(sizeof(SmRatingFee) * fees->max)
										: repalloc(fees->fees, sizeof(SmRatingFee) * fees->max);
	}
	fees->fees[fees->n++] = (SmRatingFee){tariff, fee, 1, of};
}

/*
 * Fees of the version in force at the beginning of each covered day: by the day, by the share of its
 * month or cycle, or whole on the first covered day of a month or cycle.
 */
int
cycle_fees(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, uint32 covered,
		   SmRatingFee **out)
{
	SmFees fees = {0};
	int32 month_taken = SM_NO_DAY;
	bool cycle_taken = false;

	for (int i = 0; i < cycle->n_days; i++)
	{
		int32 day = cycle->first_day + i;
		const SmVersion *version;
		int year;
		int month;
		int day_of_month;
		int32 month_from;
		bool first_of_month;

		if (!(covered & (1u << i)))
			continue;
		calendar_date(day, &year, &month, &day_of_month);
		month_from = day - day_of_month + 1;
		first_of_month =
			month_taken != month_from &&
			!(month_from < cycle->first_day && month_began_before(pair, cycle, month_from));
		version = pair_version_at(pair, i == 0 ? cycle->from : day_start(day, settle->zone));
		if (version != NULL && version->tariff != NULL)
		{
			const SmTariff *tariff = version->tariff;

			for (int fee = 0; fee < tariff->n_fees; fee++)
			{
				SmFeePer per = tariff->fees[fee].per;
				bool prorate = tariff->fees[fee].prorate;

				if (per == SM_FEE_DAY)
					fee_add(&fees, tariff, fee, 1);
				else if (prorate)
					fee_add(&fees, tariff, fee,
							per == SM_FEE_MONTH ? calendar_month_days(day) : cycle->n_days);
				else if (per == SM_FEE_MONTH ? first_of_month : !cycle_taken)
					fee_add(&fees, tariff, fee, 1);
			}
		}
		month_taken = month_from;
		cycle_taken = true;
	}
	*out = fees.fees;
	return fees.n;
}

/*
 * Capacity or contract of an account: of the supplies that last at one time together; the most of any
 * time in the cycle.
 */
int64
cycle_terms_w(const SmPair *pair, const SmCycle *cycle, SmDemandBasis basis)
{
	int64 most = 0;

	for (int i = 0; i < pair->n_stays; i++)
	{
		TimestampTz at = Max(pair->stays[i].from, cycle->from);
		int64 sum = 0;

		if (at >= cycle->to || at >= pair->stays[i].to)
			continue;
		for (int j = 0; j < pair->n_stays; j++)
		{
			const SmStay *stay = &pair->stays[j];

			if (at >= stay->from && at < stay->to)
				sum += basis == SM_DEMAND_CAPACITY ? stay->capacity_w : stay->contract_w;
		}
		most = Max(most, sum);
	}
	return most;
}

/*
 * Until when the account is supplied in a cycle: the version in force then is the one that rounds.
 */
TimestampTz
cycle_supplied_to(const SmPair *pair, const SmCycle *cycle)
{
	TimestampTz to = DT_NOBEGIN;

	for (int i = 0; i < pair->n_stays; i++)
	{
		if (pair->stays[i].from < cycle->to && pair->stays[i].to > cycle->from)
			to = Max(to, pair->stays[i].to);
	}
	return to == DT_NOBEGIN ? cycle->to : Min(to, cycle->to);
}
