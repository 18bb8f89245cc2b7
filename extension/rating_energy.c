/*
 * rating_energy.c
 *		The energy of a cycle: through the tiers in time order, and rounded where the tariff says so.
 *
 * Pure, like rating.c.
 */
#include "rating_work.h"

#define RATING_MAX_UNIT 1001 /* Wh of a kWh, and one */

/*
 * Let the allowance take its part of energy that has just been rated, as long
 * as there is some left of it.
 */
static bool
rating_take_free(SmRatingWork *work, const SmTariff *tariff, int64_t energy_wh, int64_t price_e8)
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
rating_add_tier(SmRatingWork *work, const SmRatingSpan *span, int tier, int64_t energy_wh)
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
rating_add_way(SmRatingWork *work, const SmRatingSpan *span, int64_t from_wh, int64_t to_wh)
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
 * Begin a run of spans of the same tier cycle: find the position at its end,
 * which decides the price of volume tiers and counts rounded energy.
 */
static bool
rating_begin_run(SmRatingWork *work, int first)
{
	int64_t from_wh;
	int64_t to_wh = work->used_wh;
	int i;

	if (work->cycle->spans[first].restart)
		work->position_wh = 0;
	for (i = first; i < work->cycle->n_spans && (i == first || !work->cycle->spans[i].restart); i++)
		if (__builtin_add_overflow(to_wh, work->cycle->spans[i].energy_wh, &to_wh))
			return false;
	return rating_round_energy(work->used_wh, work->kwh_digits, &from_wh) &&
		   rating_round_energy(to_wh, work->kwh_digits, &to_wh) &&
		   !__builtin_sub_overflow(to_wh, from_wh, &to_wh) &&
		   !__builtin_add_overflow(work->position_wh, to_wh, &work->run_end_wh);
}

/*
 * Rate one span.
 */
static bool
rating_add_span(SmRatingWork *work, const SmRatingSpan *span)
{
	const SmTariff *tariff = span->tariff;
	int64_t next_wh;
	int tier;

	if (work->out->n_tiers < tariff->n_tiers)
		work->out->n_tiers = tariff->n_tiers;
	if (__builtin_add_overflow(work->used_wh, span->energy_wh, &work->used_wh) ||
		__builtin_add_overflow(work->position_wh, span->energy_wh, &next_wh))
		return false;
	if (!tariff->volume || tariff->n_tiers == 1)
	{
		if (!rating_add_way(work, span, work->position_wh, next_wh))
			return false;
	}
	else if (span->energy_wh != 0)
	{
		tier = rating_tier_reached(tariff, span->bounds, work->run_end_wh);
		if (!rating_add_tier(work, span, tier, span->energy_wh))
			return false;
	}
	work->position_wh = next_wh;
	return true;
}

/*
 * What rounding the energy of a line down to a unit leaves.
 */
static int64_t
rating_rest(const SmRatedLine *line, int64_t unit)
{
	return (line->energy_wh % unit + unit) % unit;
}

/*
 * Of the lines with just that remainder the one of the lowest tier and period,
 * so that it does not matter which of them had energy first; NULL when there
 * is none.
 */
static SmRatedLine *
rating_first_line(const SmRated *out, int64_t unit, int64_t rest_wh)
{
	SmRatedLine *first = NULL;
	int i;

	for (i = 0; i < out->n_lines; i++)
	{
		SmRatedLine *line = &out->lines[i];

		if (rating_rest(line, unit) == rest_wh &&
			(first == NULL || line->tier < first->tier ||
			 (line->tier == first->tier && line->period < first->period)))
			first = line;
	}
	return first;
}

/*
 * From which remainder on lines get one of the missing units, and how many
 * lines with just that remainder do, by counting lines per remainder.
 */
static int
rating_line_threshold(const SmRated *out, int64_t unit, int64_t missing, int64_t *equals)
{
	int count[RATING_MAX_UNIT] = {0};
	int least = (int) unit;
	int i;

	for (i = 0; i < out->n_lines; i++)
		count[rating_rest(&out->lines[i], unit)]++;
	*equals = 0;
	while (missing > 0 && least > 0)
	{
		*equals = missing;
		missing -= count[--least];
	}
	return least;
}

/*
 * Give a line other energy, and what was added up with it.
 */
static bool
rating_set_energy(SmRatingWork *work, SmRatedLine *line, int64_t energy_wh)
{
	SmRated *out = work->out;
	int64_t more_wh = energy_wh - line->energy_wh;

	line->energy_wh = energy_wh;
	out->tier_wh[line->tier] += more_wh;
	line->amount_e11 = (SmInt128) energy_wh * line->price_e8;
	return rating_add(&out->amount_e11, (SmInt128) more_wh * line->price_e8) &&
		   rating_add(&work->adders_e11, (SmInt128) more_wh * line->tariff->adders_e8);
}

/*
 * Round the energy of the cycle and share it among the lines of energy, which
 * are all there are so far, by largest remainder.
 */
static bool
rating_round_lines(SmRatingWork *work)
{
	SmRated *out = work->out;
	int64_t unit = 1;
	int64_t missing;
	int64_t equals;
	int least;
	int i;

	if (work->kwh_digits < 0 || work->kwh_digits >= SM_RATING_WH_DIGITS)
		return true;
	for (i = work->kwh_digits; i < SM_RATING_WH_DIGITS; i++)
		unit *= 10;
	if (!rating_round_energy(work->used_wh, work->kwh_digits, &missing))
		return false;
	missing /= unit;
	for (i = 0; i < out->n_lines; i++)
		missing -= out->lines[i].energy_wh / unit - (out->lines[i].energy_wh % unit < 0);
	least = rating_line_threshold(out, unit, missing, &equals);
	for (; equals > 0; equals--)
	{
		SmRatedLine *line = rating_first_line(out, unit, least);

		if (line != NULL && !rating_set_energy(work, line, line->energy_wh - least + unit))
			return false;
	}
	for (i = 0; i < out->n_lines; i++)
	{
		SmRatedLine *line = &out->lines[i];
		int64_t rest_wh = rating_rest(line, unit);

		if (!rating_set_energy(work, line,
							   line->energy_wh - rest_wh + (rest_wh > least ? unit : 0)))
			return false;
	}
	return true;
}

/*
 * Rate all energy of the cycle, before anything else: there is no line yet.
 */
bool
rating_add_energy(SmRatingWork *work)
{
	int i;

	work->run_end_wh = work->position_wh;
	for (i = 0; i < work->cycle->n_spans; i++)
	{
		const SmRatingSpan *span = &work->cycle->spans[i];

		if ((i == 0 || span->restart) && !rating_begin_run(work, i))
			return false;
		if (!rating_add_span(work, span))
			return false;
	}
	work->out->position_wh = (work->run_end_wh > 0) ? work->run_end_wh : 0;
	return rating_round_lines(work);
}
