/*
 * settle_rate.c - cycles into amounts.
 *
 * A cycle is rated from its spans, the tier position it begins with, its fees, its demand and whether
 * it is final. Cycles of an account are rated in the order of time, because the tier position goes over
 * from one to the next where a tier cycle is longer than a billing cycle; a later cycle is rated again
 * when the position it begins with changed.
 */
#include "module.h"

#include "utils/memutils.h"

#include "settle.h"

/*
 * The version that rounds: in force at the end of the cycle, or of the account's last supply in it.
 */
static const SmVersion *
cycle_last_version(const SmPair *pair, const SmCycle *cycle)
{
	const SmVersion *version = pair_version_at(pair, cycle_supplied_to(pair, cycle) - 1);

	while (version != NULL && version->tariff == NULL)
		version = version > pair->priced->versions ? version - 1 : NULL;
	return version;
}

/*
 * The tier cycle a time is in, by its first day.
 */
static int32
tier_start_at(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, TimestampTz at,
			  int32 *day)
{
	const SmVersion *version = pair_version_at(pair, at);

	*day = settle_day_of(settle, at);
	if (version == NULL || version->tariff == NULL)
		return SM_NO_DAY;
	return rating_tier_start(version->tariff, *day, cycle->first_day);
}

/*
 * The spans as rating takes them. Energy of a time without a price waits outside. Result: how many.
 */
int
spans_rate(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, SmChargeRow *row)
{
	const SmVersion *version = NULL;
	int32 before_day = SM_NO_DAY;
	int32 day = SM_NO_DAY;
	int32 start = SM_NO_DAY;
	int bounds = 0;
	int n = 0;

	if (cycle->n_spans > settle->max_rating_spans)
	{
		settle->max_rating_spans = cycle->n_spans * 2;
		settle->rating_spans = palloc(sizeof(SmRatingSpan) * settle->max_rating_spans);
	}
	for (int i = 0; i < cycle->n_spans; i++)
	{
		const SmSpan *span = &cycle->spans[i];
		SmRatingSpan *rated = &settle->rating_spans[n];
		bool other;

		if (span->wh == 0)
			continue;
		row->energy_wh += span->wh;
		other = version == NULL || span->from < version->from || span->from >= version->to;
		if (other)
			version = pair_version_at(pair, span->from);
		if (version == NULL || version->tariff == NULL)
		{
			row->unpriced_wh += span->wh;
			continue;
		}
		*rated = (SmRatingSpan){
			.tariff = version->tariff, .period = span->period, .energy_wh = span->wh};
		if (pair->priced->tiers)
		{
			int32 now = settle_day_of(settle, span->from);

			if (other || now != day || pair->priced->household)
			{
				bounds = rating_bounds_at(
					version->tariff, now,
					pair->priced->household ? pair_household_at(pair, span->from) : 0);
				/* Where no row fits, the last one counts. */
				if (bounds < 0)
					bounds = Max(version->tariff->n_bounds - 1, 0);
				start = rating_tier_start(version->tariff, now, cycle->first_day);
				day = now;
			}
			rated->bounds = bounds;
			rated->restart = before_day != SM_NO_DAY && start > before_day;
			before_day = now;
		}
		n++;
	}
	return n;
}

static int
days_count(uint32 days)
{
	return __builtin_popcount(days);
}

/*
 * Allowances that apply to a cycle: those that overlap it. Of those in energy the one that began last.
 */
static void
allowances_rate(const SmPair *pair, const SmCycle *cycle, SmRatingCycle *rating)
{
	for (int i = 0; i < pair->n_allowances; i++)
	{
		const SmAllowance *allowance = &pair->allowances[i];

		if (allowance->from >= cycle->to || allowance->to <= cycle->from)
			continue;
		if (allowance->free_wh > 0)
		{
			rating->free_wh = allowance->free_wh;
			rating->free_share_e8 = allowance->share_e8;
		}
		else
			rating->allowance_e8 += allowance->amount_e8;
	}
}

/*
 * Exact and rounded amount of a cycle, with its lines where they are wanted.
 */
void
charge_rate(SmSettle *settle, const SmPair *pair, SmCycle *cycle, bool lines, SmChargeRow *row)
{
	SmRatingCycle rating = {0};
	SmRatingFee *fees = NULL;
	uint32 covered = cycle_covered(settle, pair, cycle);
	char text[SM_RATING_TEXT_SIZE];

	memset(row, 0, sizeof(*row));
	row->last = cycle_last_version(pair, cycle);
	rating.n_spans = spans_rate(settle, pair, cycle, row);
	rating.spans = settle->rating_spans;
	rating.start_wh = cycle->start_wh;
	rating.last = row->last != NULL ? row->last->tariff : NULL;
	rating.days = days_count(covered);
	rating.cycle_days = cycle->n_days;
	rating.final = cycle->final;
	rating.has_reactive = cycle->active_wh != 0 || cycle->reactive_varh != 0;
	rating.active_wh = cycle->active_wh;
	rating.reactive_varh = cycle->reactive_varh;
	cycle->accrued_to = SM_NO_DAY;
	if (pair->priced->clock && covered != 0)
	{
		cycle->accrued_to = cycle->first_day + 31 - __builtin_clz(covered);
		rating.n_fees = cycle_fees(settle, pair, cycle, covered, &fees);
		rating.fees = fees;
	}
	if (rating.last != NULL && rating.last->demand != SM_DEMAND_NONE)
	{
		if (rating.last->demand != SM_DEMAND_MAXIMUM)
			cycle->demand_w = cycle_terms_w(pair, cycle, rating.last->demand);
		rating.demand_w = cycle->demand_w;
	}
	allowances_rate(pair, cycle, &rating);
	if (lines)
	{
		row->rated.max_lines = rating_max_lines(&rating);
		row->rated.lines = palloc(sizeof(SmRatedLine) * row->rated.max_lines);
	}
	if (!rating_cycle(&rating, &row->rated) ||
		(rating.last != NULL && !rating_round(row->rated.amount_e11, rating.last->rounding,
											  rating.last->digits, &row->rounded)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("amount of account " INT64_FORMAT " is out of range", pair->account_id),
				 errhint("Look at the readings and prices of its cycle.")));
	if (fees != NULL)
		pfree(fees);
	cycle->position_wh = row->rated.position_wh;
	if (rating.last != NULL)
		row->rated.n_tiers = Max(row->rated.n_tiers, rating.last->n_tiers);
	row->digits = rating.last != NULL ? rating.last->digits : 0;
	strlcpy(row->amount, rating_format_e11(row->rated.amount_e11, text, sizeof(text)),
			sizeof(row->amount));
	strlcpy(row->rounded_text,
			rating_format(row->rounded, row->digits, row->digits, text, sizeof(text)),
			sizeof(row->rounded_text));
}

/*
 * First and last span with energy, or NULL.
 */
static const SmSpan *
cycle_edge_span(const SmCycle *cycle, bool last)
{
	for (int i = 0; i < cycle->n_spans; i++)
	{
		const SmSpan *span = &cycle->spans[last ? cycle->n_spans - 1 - i : i];

		if (span->wh != 0)
			return span;
	}
	return NULL;
}

/*
 * Tier position at the start of a cycle, from the last span of the charge before and the position at
 * its end. A cycle without energy begins at zero and hands on what it was given.
 */
static int64
start_position(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, int32 before_day,
			   int64 before_wh)
{
	const SmSpan *first = cycle_edge_span(cycle, false);
	int32 day;

	if (first == NULL || before_day == SM_NO_DAY ||
		tier_start_at(settle, pair, cycle, first->from, &day) > before_day)
		return 0;
	return before_wh;
}

/*
 * Rates the cycles of an account that changed, and the later ones whose position changed with them.
 * Returns how many.
 */
int
pair_rate(SmSettle *settle, SmPair *pair, SmRatedSink put, void *sink)
{
	int32 before_day = pair->before_day;
	int64 before_wh = pair->before_wh;
	int n = 0;

	cycles_sort(pair);
	for (int i = 0; i < pair->n_cycles; i++)
	{
		SmCycle *cycle = &pair->cycles[i];
		const SmSpan *last;
		int64 start_wh = 0;

		if (pair->priced->carries)
			start_wh = start_position(settle, pair, cycle, before_day, before_wh);
		if (cycle->touched || start_wh != cycle->start_wh)
		{
			SmChargeRow row;

			cycle->start_wh = start_wh;
			charge_rate(settle, pair, cycle, false, &row);
			put(settle, pair, cycle, &row, sink);
			n++;
		}
		last = pair->priced->carries ? cycle_edge_span(cycle, true) : NULL;
		if (last != NULL)
		{
			before_day = settle_day_of(settle, last->from);
			before_wh = cycle->position_wh;
		}
	}
	return n;
}
