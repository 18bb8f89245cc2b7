/*
 * rating.c
 *		What a cycle comes to: tiers, demand, power factor, fees, tax, allowances.
 *
 * The amount of a cycle is a function of its facts alone: the energy per span
 * of time, in time order, the tier position the cycle started at, the fees and
 * the demand to date.  It is kept exact (1e-11 currency) and becomes money
 * only in rating_round(), so charging by difference adds up to the bill
 * whatever order the readings came in.
 *
 * The order within a charge:
 *
 *	1. energy at its price, the adder of its tier included;
 *	2. demand (or contract, or capacity) for the share of the cycle's days;
 *	3. power factor: the table's percentage of 1 and 2, only of a final charge;
 *	4. adders on every kWh, which no power factor touches;
 *	5. fees;
 *	6. what is missing to the minimum, for the share of the cycle's days, only
 *	   of a final charge;
 *	7. tax on all that, unless prices include it;
 *	8. allowances: the first kWh free or cheaper, at what they cost with adders
 *	   and tax; then money.  An allowance never takes more than there is.
 *
 * Prices and adders are those of each span's own tariff version; demand, power
 * factor, minimum, tax and rounding those of the version in force at the end.
 *
 * Where energy is rounded (kwh_digits), the running sum of the cycle is rounded
 * at every edge of spans and a span gets the difference, so the total is
 * rounded once and the tier position counts rounded energy.
 *
 * Pure: no allocation, no error reporting, no locks, no global state.  What
 * does not fit its type makes the result false; nothing wraps silently.
 */
#include "rating.h"

#include <string.h>

#define RATING_E8 INT64_C(100000000)
#define RATING_E4 10000
#define RATING_E8_TO_E11 1000

/* What is known while a cycle is rated. */
typedef struct RatingWork
{
	const SmRatingCycle *cycle;
	SmRated *out;
	int kwh_digits;
	int64_t used_wh;      /* by the cycle so far, as measured */
	int64_t rounded_wh;   /* the same as it is charged */
	int64_t position_wh;  /* in the tier cycle */
	int64_t run_end_wh;   /* position where this tier cycle or the charge ends */
	int64_t free_left_wh; /* of the allowance */
	SmInt128 free_e11;    /* what the energy under the allowance costs */
	SmInt128 adders_e11;
} RatingWork;

/*
 * The most lines a cycle can have: room a caller has to give.
 */
size_t
rating_max_lines(const SmRatingCycle *cycle)
{
	size_t lines = (size_t) cycle->n_fees + SM_LINE_ALLOWANCE + 1;
	int i;

	for (i = 0; i < cycle->n_spans; i++)
		lines += (size_t) (cycle->spans[i].tariff->n_tiers + cycle->spans[i].tariff->n_adders);
	return lines;
}

/*
 * Add an amount to another.
 */
static bool
rating_add(SmInt128 *sum_e11, SmInt128 amount_e11)
{
	return !__builtin_add_overflow(*sum_e11, amount_e11, sum_e11);
}

/*
 * The line of the same kind, or a new one; NULL when there is no room.
 */
static SmRatedLine *
rating_find_line(SmRated *out, const SmRatedLine *like)
{
	int i;

	for (i = out->n_lines - 1; i >= 0; i--)
	{
		SmRatedLine *line = &out->lines[i];

		if (line->component == like->component && line->tariff == like->tariff &&
			line->tier == like->tier && line->period == like->period && line->item == like->item)
			return line;
	}
	if (out->n_lines >= out->max_lines)
		return NULL;
	out->lines[out->n_lines] = *like;
	out->lines[out->n_lines].energy_wh = 0;
	out->lines[out->n_lines].amount_e11 = 0;
	return &out->lines[out->n_lines++];
}

/*
 * Put an amount on its line, where lines are wanted.
 */
static bool
rating_put(SmRated *out, const SmRatedLine *add)
{
	SmRatedLine *line;

	if (out->lines == NULL)
		return true;
	line = rating_find_line(out, add);
	return line != NULL &&
		   !__builtin_add_overflow(line->energy_wh, add->energy_wh, &line->energy_wh) &&
		   rating_add(&line->amount_e11, add->amount_e11);
}

/*
 * Add an amount of the whole cycle to the charge, with a line unless it is
 * zero.
 */
static bool
rating_put_amount(RatingWork *work, SmComponent component, int64_t quantity, int64_t price_e8,
				  SmInt128 amount_e11)
{
	SmRatedLine line = {.component = component,
						.tariff = work->cycle->last,
						.tier = -1,
						.period = -1,
						.item = -1,
						.energy_wh = quantity,
						.price_e8 = price_e8,
						.amount_e11 = amount_e11};

	return (amount_e11 == 0 || rating_put(work->out, &line)) &&
		   rating_add(&work->out->amount_e11, amount_e11);
}

/*
 * Let the allowance take its part of energy that has just been rated, as long
 * as there is some left of it.
 */
static bool
rating_take_free(RatingWork *work, const SmTariff *tariff, int64_t energy_wh, int64_t price_e8)
{
	int64_t free_wh = (energy_wh < work->free_left_wh) ? energy_wh : work->free_left_wh;
	SmInt128 cost_e11;

	if (free_wh <= 0)
		return true;
	work->free_left_wh -= free_wh;
	return !__builtin_mul_overflow((SmInt128) free_wh, (SmInt128) price_e8 + tariff->adders_e8,
								   &cost_e11) &&
		   rating_add(&work->free_e11, cost_e11);
}

/*
 * Rate energy of one tier of a span.
 */
static bool
rating_add_tier(RatingWork *work, const SmRatingSpan *span, int tier, int64_t energy_wh)
{
	const SmTariff *tariff = span->tariff;
	SmRated *out = work->out;
	int64_t price_e8 = tariff->price_e8[tier][span->period];
	SmRatedLine line = {.component = SM_LINE_ENERGY,
						.tariff = tariff,
						.tier = tier,
						.period = span->period,
						.item = -1,
						.energy_wh = energy_wh,
						.price_e8 = price_e8,
						.amount_e11 = (SmInt128) energy_wh * price_e8};

	return !__builtin_add_overflow(out->tier_wh[tier], energy_wh, &out->tier_wh[tier]) &&
		   rating_add(&out->amount_e11, line.amount_e11) &&
		   rating_add(&work->adders_e11, (SmInt128) energy_wh * tariff->adders_e8) &&
		   rating_take_free(work, tariff, energy_wh, price_e8) && rating_put(out, &line);
}

/*
 * Rate the way of a span from one position to another, in either direction: a
 * way back takes energy out of the tiers it goes through, at the prices in
 * force.
 */
static bool
rating_add_way(RatingWork *work, const SmRatingSpan *span, int64_t from_wh, int64_t to_wh)
{
	int64_t low = (from_wh < to_wh) ? from_wh : to_wh;
	int64_t high = (from_wh < to_wh) ? to_wh : from_wh;
	int tier;

	for (tier = 0; tier < span->tariff->n_tiers; tier++)
	{
		int64_t tier_from;
		int64_t tier_to;
		int64_t part_wh;

		rating_tier_range(span->tariff, span->bounds, tier, &tier_from, &tier_to);
		if (tier_from < low)
			tier_from = low;
		if (tier_to > high)
			tier_to = high;
		if (tier_from >= tier_to)
			continue;
		if (__builtin_sub_overflow(tier_to, tier_from, &part_wh))
			return false;
		if (!rating_add_tier(work, span, tier, (from_wh < to_wh) ? part_wh : -part_wh))
			return false;
	}
	return true;
}

/*
 * The energy a span is charged, after what the cycle used before.
 */
static bool
rating_step(int kwh_digits, int64_t energy_wh, int64_t *used_wh, int64_t *rounded_wh,
			int64_t *step_wh)
{
	int64_t before_wh = *rounded_wh;

	return !__builtin_add_overflow(*used_wh, energy_wh, used_wh) &&
		   rating_round_energy(*used_wh, kwh_digits, rounded_wh) &&
		   !__builtin_sub_overflow(*rounded_wh, before_wh, step_wh);
}

/*
 * Begin a run of spans of the same tier cycle: find the position at its end,
 * which decides the price of volume tiers.
 */
static bool
rating_begin_run(RatingWork *work, int first)
{
	int64_t used_wh = work->used_wh;
	int64_t rounded_wh = work->rounded_wh;
	int i;

	if (work->cycle->spans[first].restart)
		work->position_wh = 0;
	work->run_end_wh = work->position_wh;
	for (i = first; i < work->cycle->n_spans; i++)
	{
		int64_t step_wh;

		if (i > first && work->cycle->spans[i].restart)
			break;
		if (!rating_step(work->kwh_digits, work->cycle->spans[i].energy_wh, &used_wh, &rounded_wh,
						 &step_wh) ||
			__builtin_add_overflow(work->run_end_wh, step_wh, &work->run_end_wh))
			return false;
	}
	return true;
}

/*
 * Rate one span.
 */
static bool
rating_add_span(RatingWork *work, const SmRatingSpan *span)
{
	const SmTariff *tariff = span->tariff;
	int64_t step_wh;
	int64_t next_wh;
	bool good;

	if (work->out->n_tiers < tariff->n_tiers)
		work->out->n_tiers = tariff->n_tiers;
	if (!rating_step(work->kwh_digits, span->energy_wh, &work->used_wh, &work->rounded_wh,
					 &step_wh) ||
		__builtin_add_overflow(work->position_wh, step_wh, &next_wh))
		return false;
	if (tariff->volume && tariff->n_tiers > 1)
		good =
			step_wh == 0 ||
			rating_add_tier(work, span, rating_tier_reached(tariff, span->bounds, work->run_end_wh),
							step_wh);
	else
		good = rating_add_way(work, span, work->position_wh, next_wh);
	work->position_wh = next_wh;
	return good;
}

/*
 * Rate all energy of the cycle.
 */
static bool
rating_add_energy(RatingWork *work)
{
	int i;

	for (i = 0; i < work->cycle->n_spans; i++)
	{
		const SmRatingSpan *span = &work->cycle->spans[i];

		if ((i == 0 || span->restart) && !rating_begin_run(work, i))
			return false;
		if (!rating_add_span(work, span))
			return false;
	}
	work->out->position_wh = (work->position_wh > 0) ? work->position_wh : 0;
	return true;
}

/*
 * Add demand, contracted demand or capacity: price per kW, W and days.
 */
static bool
rating_add_demand(RatingWork *work)
{
	const SmRatingCycle *cycle = work->cycle;
	const SmTariff *last = cycle->last;
	SmInt128 amount_e11;

	if (last == NULL || last->demand == SM_DEMAND_NONE || cycle->demand_w == 0 || cycle->days == 0)
		return true;
	return rating_share((SmInt128) last->per_kw_e8 * cycle->demand_w, cycle->days,
						cycle->cycle_days, &amount_e11) &&
		   rating_put_amount(work, SM_LINE_DEMAND, cycle->demand_w, last->per_kw_e8, amount_e11);
}

/*
 * Add what the power factor gives or takes of energy and demand.
 */
static bool
rating_add_power_factor(RatingWork *work)
{
	const SmRatingCycle *cycle = work->cycle;
	SmInt128 amount_e11;
	int adjustment_e4;

	if (!cycle->final || !cycle->has_reactive || cycle->last == NULL ||
		cycle->last->power_factor == 0)
		return true;
	work->out->power_factor = power_factor_of(cycle->active_wh, cycle->reactive_varh);
	if (work->out->power_factor == 0)
		return true;
	adjustment_e4 = power_factor_adjustment_e4(cycle->last->power_factor, work->out->power_factor);
	return rating_share(work->out->amount_e11, (adjustment_e4 < 0) ? -adjustment_e4 : adjustment_e4,
						RATING_E4, &amount_e11) &&
		   rating_put_amount(work, SM_LINE_POWER_FACTOR, 0, 0,
							 (adjustment_e4 < 0) ? -amount_e11 : amount_e11);
}

/*
 * Add the adders of every kWh, with a line for each adder of each version that
 * has energy.
 */
static bool
rating_add_adders(RatingWork *work)
{
	SmRated *out = work->out;
	int n_energy = out->n_lines;
	int i;
	int item;

	for (i = 0; i < n_energy && out->lines != NULL; i++)
	{
		const SmRatedLine *energy = &out->lines[i];

		for (item = 0; energy->component == SM_LINE_ENERGY && item < energy->tariff->n_adders;
			 item++)
		{
			const SmAdder *adder = &energy->tariff->adders[item];
			SmRatedLine line = {.component = SM_LINE_ADDER,
								.tariff = energy->tariff,
								.tier = -1,
								.period = -1,
								.item = item,
								.energy_wh = energy->energy_wh,
								.price_e8 = adder->price_e8,
								.amount_e11 = (SmInt128) energy->energy_wh * adder->price_e8};

			if (!rating_put(out, &line))
				return false;
		}
	}
	return rating_add(&out->amount_e11, work->adders_e11);
}

/*
 * Add fees, each for its share of time.
 */
static bool
rating_add_fees(RatingWork *work)
{
	int i;

	for (i = 0; i < work->cycle->n_fees; i++)
	{
		const SmRatingFee *fee = &work->cycle->fees[i];
		int64_t amount_e8 = fee->tariff->fees[fee->fee].amount_e8;
		SmRatedLine line = {.component = SM_LINE_FEE,
							.tariff = fee->tariff,
							.tier = -1,
							.period = -1,
							.item = fee->fee,
							.price_e8 = amount_e8};

		if (!rating_share((SmInt128) amount_e8 * RATING_E8_TO_E11, fee->n, fee->of,
						  &line.amount_e11) ||
			!rating_put(work->out, &line) || !rating_add(&work->out->amount_e11, line.amount_e11))
			return false;
	}
	return true;
}

/*
 * Add what is missing to the minimum of the days supplied.
 */
static bool
rating_add_minimum(RatingWork *work)
{
	const SmRatingCycle *cycle = work->cycle;
	SmInt128 least_e11;
	SmInt128 missing_e11;

	if (!cycle->final || cycle->last == NULL || cycle->last->minimum_e8 == 0 || cycle->days == 0)
		return true;
	if (!rating_share((SmInt128) cycle->last->minimum_e8 * RATING_E8_TO_E11, cycle->days,
					  cycle->cycle_days, &least_e11) ||
		__builtin_sub_overflow(least_e11, work->out->amount_e11, &missing_e11))
		return false;
	return missing_e11 <= 0 || rating_put_amount(work, SM_LINE_MINIMUM, 0, 0, missing_e11);
}

/*
 * Add tax where prices do not include it.
 */
static bool
rating_add_tax(RatingWork *work)
{
	const SmTariff *last = work->cycle->last;
	SmInt128 amount_e11;

	if (last == NULL || last->tax_included || last->tax_rate_e8 == 0)
		return true;
	return rating_share(work->out->amount_e11, last->tax_rate_e8, RATING_E8, &amount_e11) &&
		   rating_put_amount(work, SM_LINE_TAX, 0, 0, amount_e11);
}

/*
 * Take an allowance off, but no more than there is to pay.
 */
static bool
rating_take(RatingWork *work, SmComponent component, int64_t energy_wh, SmInt128 amount_e11)
{
	if (amount_e11 > work->out->amount_e11)
		amount_e11 = work->out->amount_e11;
	return amount_e11 <= 0 || rating_put_amount(work, component, energy_wh, 0, -amount_e11);
}

/*
 * Take both allowances off: the first energy, then money.
 */
static bool
rating_take_allowances(RatingWork *work)
{
	const SmRatingCycle *cycle = work->cycle;
	const SmTariff *last = cycle->last;
	SmInt128 free_e11;

	if (!rating_share(work->free_e11, cycle->free_share_e8, RATING_E8, &free_e11))
		return false;
	if (last != NULL && !last->tax_included &&
		!rating_share(free_e11, RATING_E8 + last->tax_rate_e8, RATING_E8, &free_e11))
		return false;
	return rating_take(work, SM_LINE_FREE_ENERGY, cycle->free_wh - work->free_left_wh, free_e11) &&
		   rating_take(work, SM_LINE_ALLOWANCE, 0,
					   (SmInt128) cycle->allowance_e8 * RATING_E8_TO_E11);
}

/*
 * Rate a cycle.
 *
 * The tier position starts at start_wh and is carried from span to span; a
 * span with restart begins a tier cycle at zero.  The bounds and prices of
 * each span's own version apply.  Graduated, each slice costs the price of its
 * own tier; by volume, all energy of a tier cycle in this charge costs that of
 * the tier reached by its total.  Energy may be negative, as after a
 * correction: the amount then goes down again the way it came.  Inside the
 * cycle a debt of energy is remembered and counts as first tier, so that the
 * result depends on sums and not on how they were cut; the position handed
 * back is never below zero.
 *
 * out->lines and out->max_lines are the caller's, all else is filled in.
 * Without cycle->last nothing but energy, adders, fees and allowances apply.
 *
 * False when a number does not fit, start_wh is negative, or there is no room
 * for a line; *out is then unusable.
 */
bool
rating_cycle(const SmRatingCycle *cycle, SmRated *out)
{
	RatingWork work = {.cycle = cycle,
					   .out = out,
					   .kwh_digits = (cycle->last == NULL) ? -1 : cycle->last->kwh_digits,
					   .position_wh = cycle->start_wh,
					   .free_left_wh = cycle->free_wh};

	out->n_tiers = 0;
	memset(out->tier_wh, 0, sizeof(out->tier_wh));
	out->position_wh = 0;
	out->power_factor = 0;
	out->amount_e11 = 0;
	out->n_lines = 0;
	return cycle->start_wh >= 0 && rating_add_energy(&work) && rating_add_demand(&work) &&
		   rating_add_power_factor(&work) && rating_add_adders(&work) && rating_add_fees(&work) &&
		   rating_add_minimum(&work) && rating_add_tax(&work) && rating_take_allowances(&work);
}
