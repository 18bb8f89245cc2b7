/*
 * rating_tier.c
 *		Tiers: which bounds are in force, when a tier cycle begins, where a position falls.
 *
 * Pure, like rating.c.
 */
#include "rating.h"

/*
 * Where a tier begins and ends.  The first one also takes what lies below
 * zero, the last one has no end.
 */
void
rating_tier_range(const SmTariff *tariff, int bounds, int tier, int64_t *from_wh, int64_t *to_wh)
{
	const int64_t *upto_wh = tariff->bounds[bounds].upto_wh;

	*from_wh = (tier == 0) ? INT64_MIN : upto_wh[tier - 1];
	*to_wh = (tier == tariff->n_tiers - 1) ? INT64_MAX : upto_wh[tier];
}

/*
 * The tier (from 0) in which the next watt-hour after the position falls.  A
 * bound belongs to the tier below it, so at the bound itself the next
 * watt-hour is the first of the tier above.
 */
int
rating_tier_at(const SmTariff *tariff, int bounds, int64_t position_wh)
{
	int tier = 0;

	while (tier < tariff->n_tiers - 1 && position_wh >= tariff->bounds[bounds].upto_wh[tier])
		tier++;
	return tier;
}

/*
 * The tier (from 0) a total falls in: up to and including its bound.
 */
int
rating_tier_reached(const SmTariff *tariff, int bounds, int64_t total_wh)
{
	int tier = 0;

	while (tier < tariff->n_tiers - 1 && total_wh > tariff->bounds[bounds].upto_wh[tier])
		tier++;
	return tier;
}

/*
 * The first row of bounds that fits a day and a household; -1 when none does.
 */
int
rating_bounds_at(const SmTariff *tariff, int32_t day, int household)
{
	uint16_t seasons = calendar_seasons(&tariff->schedule, day);
	int i;

	for (i = 0; i < tariff->n_bounds; i++)
	{
		const SmTierBounds *row = &tariff->bounds[i];

		if ((row->season < 0 || (seasons >> row->season & 1) != 0) && household >= row->household)
			return i;
	}
	return -1;
}

/*
 * The first day of the tier cycle a day is in.  With cycle `season` it begins
 * where one of the seasons the bounds name begins or ends; where they name
 * none, any season counts.
 */
int32_t
rating_tier_start(const SmTariff *tariff, int32_t day, int32_t cycle_first_day)
{
	uint16_t seasons = 0;
	int year;
	int month;
	int day_of_month;
	int i;

	calendar_date(day, &year, &month, &day_of_month);
	switch (tariff->tier_cycle)
	{
		case SM_TIER_MONTH:
			return calendar_day(year, month, 1);
		case SM_TIER_YEAR:
			return calendar_day(year, 1, 1);
		case SM_TIER_CYCLE:
			return cycle_first_day;
		case SM_TIER_SEASON:
			break;
	}
	for (i = 0; i < tariff->n_bounds; i++)
		if (tariff->bounds[i].season >= 0)
			seasons |= (uint16_t) (1u << tariff->bounds[i].season);
	return calendar_season_start(&tariff->schedule, (seasons == 0) ? UINT16_MAX : seasons, day);
}
