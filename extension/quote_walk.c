/*
 * quote_walk.c
 *		A quote month by month: cut time where prices change, rate, round, sum up.
 *
 * Every local calendar month is a billing cycle of its own and is closed, as on
 * a bill: it is rated with what time it has in the quote, rounded once, and
 * shared among its lines, which are then summed over the months.
 */
#include "module.h"

#include "miscadmin.h"

#include "quote.h"

#define QUOTE_FIRST_SPANS 64

/* A month while it is cut into spans. */
typedef struct QuoteMonth
{
	TimestampTz from; /* of the month, as far as the quote goes */
	TimestampTz to;
	int32 first_day; /* of the calendar month */
	int32 cycle_days;
	int64 days;
	bool restart; /* a tier cycle begins with the next span */
	int n_spans;
	int max_spans;
	SmRatingSpan *spans;
} QuoteMonth;

/*
 * A number ran out of its range: the quantities are sane, the product is not.
 */
static void
pg_attribute_noreturn() quote_overflow(void)
{
	ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("amount out of range"),
					errhint("Quote a shorter time or smaller quantities.")));
}

/*
 * The register at an instant.  at is the interval to look in; it moves on with
 * time and never back.
 */
static int64
quote_register_at(const SmQuote *quote, int *at, TimestampTz when)
{
	TimestampTz from;
	int64 result;

	while (*at < quote->n_kwh - 1 && quote->bounds[*at + 1] <= when)
		(*at)++;
	from = quote->bounds[*at];
	if (!rating_interpolate(quote->register_wh[*at], quote->register_wh[*at + 1], when - from,
							quote->bounds[*at + 1] - from, &result))
		quote_overflow();
	return result;
}

/*
 * Add energy to the month: to the span before where nothing changed since.
 */
static void
quote_add_span(const SmQuote *quote, QuoteMonth *month, int bounds, int period, int64 energy_wh)
{
	SmRatingSpan *last = (month->n_spans == 0) ? NULL : &month->spans[month->n_spans - 1];

	if (last != NULL && !month->restart && last->bounds == bounds && last->period == period)
	{
		last->energy_wh += energy_wh;
		return;
	}
	if (month->n_spans == month->max_spans)
	{
		month->max_spans *= 2;
		month->spans = repalloc(month->spans, month->max_spans * sizeof(SmRatingSpan));
	}
	last = &month->spans[month->n_spans++];
	last->tariff = quote->tariff;
	last->bounds = bounds;
	last->period = period;
	last->restart = month->restart;
	last->energy_wh = energy_wh;
	month->restart = false;
}

/*
 * Cut one day of a month; the result is when it ends.
 */
static TimestampTz
quote_cut_day(const SmQuote *quote, QuoteMonth *month, int32 day, int *at)
{
	const SmTariff *tariff = quote->tariff;
	int bounds = Max(rating_bounds_at(tariff, day, quote->terms.household), 0);
	SmInstantPart parts[SM_MAX_INSTANT_PARTS];
	TimestampTz day_from;
	TimestampTz day_to;
	int n_parts = day_parts(tariff, &quote->calendar, day, quote->zone, &day_from, &day_to, parts);
	int i;

	if (day_from > quote->bounds[0] && rating_tier_start(tariff, day, month->first_day) == day)
		month->restart = true;
	for (i = 0; i < n_parts; i++)
	{
		TimestampTz from = Max(parts[i].from, month->from);
		TimestampTz to = Min((i + 1 < n_parts) ? parts[i + 1].from : day_to, month->to);
		int64 before_wh;

		if (from >= to)
			continue;
		before_wh = quote_register_at(quote, at, from);
		quote_add_span(quote, month, bounds, parts[i].period,
					   quote_register_at(quote, at, to) - before_wh);
	}
	if (day_from < month->to && day_to > month->from && day_from < day_to)
		month->days++;
	return day_to;
}

/*
 * The largest mean power of a demand window of the month, in W.  Windows are
 * counted from local midnight; what of one lies outside the quote is empty.
 */
static int64
quote_demand_maximum(const SmQuote *quote, const QuoteMonth *month)
{
	int64 length = quote->tariff->window_minutes * USECS_PER_MINUTE;
	int64 most_wh = 0;
	int at = 0;
	int32 day = day_of(month->from, quote->zone);
	TimestampTz from = day_start(day, quote->zone);
	SmInt128 demand_w;

	while (from < month->to)
	{
		TimestampTz next_day = day_start(++day, quote->zone);

		CHECK_FOR_INTERRUPTS();
		for (; from < next_day && from < month->to; from += length)
		{
			TimestampTz begin = Max(from, month->from);
			TimestampTz end = Min(Min(from + length, next_day), month->to);

			if (begin < end)
			{
				int64 before_wh = quote_register_at(quote, &at, begin);

				most_wh = Max(most_wh, quote_register_at(quote, &at, end) - before_wh);
			}
		}
		from = next_day;
	}
	if (!rating_share(most_wh, 60, quote->tariff->window_minutes, &demand_w) ||
		demand_w > PG_INT64_MAX)
		quote_overflow();
	return (int64) demand_w;
}

/*
 * The demand the tariff charges, in W.
 */
static int64
quote_demand(const SmQuote *quote, const QuoteMonth *month)
{
	switch (quote->tariff->demand)
	{
		case SM_DEMAND_MAXIMUM:
			return quote_demand_maximum(quote, month);
		case SM_DEMAND_CONTRACT:
			return quote->terms.contract_w;
		case SM_DEMAND_CAPACITY:
			return quote->terms.capacity_w;
		case SM_DEMAND_NONE:
			break;
	}
	return 0;
}

/*
 * The fees of a month, each for the days it has in the quote.
 */
static int
quote_fees(const SmQuote *quote, const QuoteMonth *month, SmRatingFee *fees)
{
	int i;

	for (i = 0; i < quote->tariff->n_fees; i++)
	{
		const SmFee *fee = &quote->tariff->fees[i];

		fees[i] = (SmRatingFee){quote->tariff, i, 1, 1};
		if (fee->per == SM_FEE_DAY)
			fees[i].n = month->days;
		else if (fee->prorate)
		{
			fees[i].n = month->days;
			fees[i].of = month->cycle_days;
		}
	}
	return quote->tariff->n_fees;
}

/*
 * Add a line of a month, and what it was rounded to, to the lines of the quote.
 */
static void
quote_add_line(SmQuote *quote, const SmRatedLine *line, int64 amount)
{
	SmQuoteLine *sum = quote->lines;
	SmQuoteLine *end = quote->lines + quote->n_lines;

	while (sum < end && (sum->rated.component != line->component || sum->rated.tier != line->tier ||
						 sum->rated.period != line->period || sum->rated.item != line->item ||
						 sum->rated.price_e8 != line->price_e8))
		sum++;
	if (sum == end)
	{
		Assert(quote->n_lines < SM_QUOTE_MAX_LINES);
		quote->n_lines++;
		sum->rated = *line;
		sum->amount = amount;
	}
	else if (__builtin_add_overflow(sum->rated.energy_wh, line->energy_wh, &sum->rated.energy_wh) ||
			 __builtin_add_overflow(sum->amount, amount, &sum->amount))
		quote_overflow();
}

/*
 * Close a month: rate it, round it once, and share the result among its lines.
 */
static void
quote_close_month(SmQuote *quote, const QuoteMonth *month)
{
	const SmTariff *tariff = quote->tariff;
	SmRatingFee fees[SM_RATING_MAX_FEES];
	SmRatedLine lines[SM_QUOTE_MAX_LINES];
	SmInt128 exact_e11[SM_QUOTE_MAX_LINES];
	int64_t share[SM_QUOTE_MAX_LINES];
	int64_t amount;
	SmRated rated = {.max_lines = SM_QUOTE_MAX_LINES, .lines = lines};
	SmRatingCycle cycle = {.n_spans = month->n_spans,
						   .spans = month->spans,
						   .start_wh = quote->position_wh,
						   .n_fees = quote_fees(quote, month, fees),
						   .fees = fees,
						   .last = tariff,
						   .demand_w = quote_demand(quote, month),
						   .days = month->days,
						   .cycle_days = month->cycle_days,
						   .final = true,
						   .has_reactive = quote->terms.active_wh > 0,
						   .active_wh = quote->terms.active_wh,
						   .reactive_varh = quote->terms.reactive_varh};
	int i;

	if (!rating_cycle(&cycle, &rated) ||
		!rating_round(rated.amount_e11, tariff->rounding, tariff->digits, &amount))
		quote_overflow();
	for (i = 0; i < rated.n_lines; i++)
		exact_e11[i] = lines[i].amount_e11;
	if (!rating_apportion(exact_e11, rated.n_lines, tariff->digits, amount, share))
		quote_overflow();
	for (i = 0; i < rated.n_lines; i++)
		quote_add_line(quote, &lines[i], share[i]);
	quote->position_wh = rated.position_wh;
}

/*
 * Where no energy was used, one line for the tier and period the next kWh at
 * the start would fall in, so that there is energy to read and sums are 0.
 */
static void
quote_add_nothing(SmQuote *quote)
{
	SmInstantPart parts[SM_MAX_INSTANT_PARTS];
	TimestampTz day_from;
	TimestampTz day_to;
	int32 day = day_of(quote->bounds[0], quote->zone);
	int bounds = Max(rating_bounds_at(quote->tariff, day, quote->terms.household), 0);
	int at =
		day_parts(quote->tariff, &quote->calendar, day, quote->zone, &day_from, &day_to, parts) - 1;
	SmRatedLine line = {.component = SM_LINE_ENERGY, .tariff = quote->tariff, .item = -1};

	while (at > 0 && parts[at].from > quote->bounds[0])
		at--;
	line.tier = rating_tier_at(quote->tariff, bounds, quote->start_wh);
	line.period = parts[at].period;
	line.price_e8 = quote->tariff->price_e8[line.tier][line.period];
	quote_add_line(quote, &line, 0);
}

/*
 * Walk from the first bound to the last and close every month on the way.
 */
void
quote_walk(SmQuote *quote)
{
	TimestampTz first = quote->bounds[0];
	TimestampTz last = quote->bounds[quote->n_kwh];
	QuoteMonth month = {.max_spans = QUOTE_FIRST_SPANS,
						.spans = palloc(QUOTE_FIRST_SPANS * sizeof(SmRatingSpan))};
	bool any = false;
	int at = 0;
	int i;
	TimestampTz month_from;
	TimestampTz month_to;

	quote->position_wh = quote->start_wh;
	for (month_to = first; month_to < last;)
	{
		int32 day;

		CHECK_FOR_INTERRUPTS();
		tariff_cycle(month_to, 1, quote->zone, &month_from, &month_to);
		month.from = Max(month_from, first);
		month.to = Min(month_to, last);
		month.first_day = day_of(month_from, quote->zone);
		month.cycle_days = calendar_month_days(month.first_day);
		month.days = 0;
		month.n_spans = 0;
		day = day_of(month.from, quote->zone);
		while (quote_cut_day(quote, &month, day, &at) < month.to)
			day++;
		quote_close_month(quote, &month);
	}
	for (i = 0; i < quote->n_lines; i++)
		any = any || quote->lines[i].rated.component == SM_LINE_ENERGY;
	if (!any)
		quote_add_nothing(quote);
}
