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
 * Where energy is rounded (kwh_digits), tiers are found with energy as measured;
 * then the total of the cycle is rounded once and shared among its tiers and
 * periods by largest remainder, so that what is charged are whole units, adds
 * up, and does not depend on how time was cut.  The tier position counts
 * rounded energy.
 *
 * Pure: no allocation, no error reporting, no locks, no global state.  What
 * does not fit its type makes the result false; nothing wraps silently.
 */
#include "rating_work.h"

#include <string.h>

#define RATING_E8 INT64_C(100000000)
#define RATING_E4 10000
#define RATING_E8_TO_E11 1000
#define RATING_SCRATCH_LINES 1024 /* where energy is rounded and nobody wants the lines */

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
bool
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
bool
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
rating_put_amount(SmRatingWork *work, SmComponent component, int64_t quantity, int64_t price_e8,
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
 * Add demand, contracted demand or capacity: price per kW, W and days.
 */
static bool
rating_add_demand(SmRatingWork *work)
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
rating_add_power_factor(SmRatingWork *work)
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
rating_add_adders(SmRatingWork *work)
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
rating_add_fees(SmRatingWork *work)
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
rating_add_minimum(SmRatingWork *work)
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
rating_add_tax(SmRatingWork *work)
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
rating_take(SmRatingWork *work, SmComponent component, int64_t energy_wh, SmInt128 amount_e11)
{
	if (amount_e11 > work->out->amount_e11)
		amount_e11 = work->out->amount_e11;
	return amount_e11 <= 0 || rating_put_amount(work, component, energy_wh, 0, -amount_e11);
}

/*
 * Take both allowances off: the first energy, then money.
 */
static bool
rating_take_allowances(SmRatingWork *work)
{
	const SmRatingCycle *cycle = work->cycle;
	const SmTariff *last = cycle->last;
	SmInt128 free_e11;

	if (work->all_free)
		work->free_e11 = work->energy_e11;
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
 * Rate a cycle whose energy is rounded, for a caller who does not want the
 * lines: the rounding needs them.
 */
static bool
rating_cycle_rounded(const SmRatingCycle *cycle, SmRated *out)
{
	SmRatedLine lines[RATING_SCRATCH_LINES];
	bool good;

	out->lines = lines;
	out->max_lines = RATING_SCRATCH_LINES;
	good = rating_cycle(cycle, out);
	out->lines = NULL;
	out->max_lines = 0;
	out->n_lines = 0;
	return good;
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
	SmRatingWork work = {.cycle = cycle,
						 .out = out,
						 .kwh_digits = (cycle->last == NULL) ? -1 : cycle->last->kwh_digits,
						 .position_wh = cycle->start_wh,
						 .free_left_wh = cycle->free_wh};

	if (out->lines == NULL && work.kwh_digits >= 0 && work.kwh_digits < SM_RATING_WH_DIGITS)
		return rating_cycle_rounded(cycle, out);
	out->n_tiers = 0;
	memset(out->tier_wh, 0, sizeof(out->tier_wh));
	out->position_wh = 0;
	out->power_factor = 0;
	out->amount_e11 = 0;
	out->n_lines = 0;
	if (cycle->start_wh < 0 || !rating_add_energy(&work))
		return false;
	work.energy_e11 = out->amount_e11;
	work.all_free = work.used_wh > 0 && work.used_wh <= cycle->free_wh;
	return rating_add(&work.energy_e11, work.adders_e11) && rating_add_demand(&work) &&
		   rating_add_power_factor(&work) && rating_add_adders(&work) && rating_add_fees(&work) &&
		   rating_add_minimum(&work) && rating_add_tax(&work) && rating_take_allowances(&work);
}
