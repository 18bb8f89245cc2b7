/*
 * quote.c
 *		submeter.quote(): what usage would cost, without storing anything.
 *
 * The same rating core that charges accounts prices a series of quantities
 * between bounds.  The series is read as a register: its running sum, in whole
 * watt-hours at every bound, so that the pieces add up whatever their places.
 * Every local calendar month is a cycle of its own, as on a bill: tiers start
 * anew, and each month is rounded once.
 *
 * Depends on its arguments only; reads no table and takes no lock.
 */
#include "module.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "tariff.h"

#define QUOTE_MAX_KWH 1000000000000
#define QUOTE_COLUMNS 6

/* what the lines add up to so far */
typedef struct QuoteTotal
{
	const SmTariff *tariff;
	int64_t start_wh;
	int64_t cycle_wh;
	int64_t energy_wh[SM_RATING_MAX_TIERS];
	int64_t amount[SM_RATING_MAX_TIERS];
} QuoteTotal;

SM_FUNCTION(submeter_quote);

/*
 * Refuse an argument: detail completes the sentence that begins with its name.
 */
static void
pg_attribute_noreturn() quote_refuse(const char *argument, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid argument %s", argument),
			 errdetail("%s %s.", argument, detail), errhint("%s", hint)));
}

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
 * An argument that must not be NULL.
 */
static Datum
quote_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		quote_refuse(name, "is NULL", "Pass a value.");
	return PG_GETARG_DATUM(number);
}

/*
 * The elements of a one-dimensional array argument without NULLs.
 */
static int
quote_elements(ArrayType *array, const char *name, Datum **elements)
{
	int16 length;
	bool by_value;
	char align;
	int count = 0;

	if (ARR_NDIM(array) > 1)
		quote_refuse(name, "has more than one dimension", "Pass a plain array.");
	if (array_contains_nulls(array))
		quote_refuse(name, "has a NULL element", "Pass only known values, 0 for no usage.");
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align, elements, NULL, &count);
	return count;
}

/*
 * Check that the bounds are points in time in rising order.
 */
static void
quote_check_bounds(const Datum *bounds, int n_bounds)
{
	int i;

	for (i = 0; i < n_bounds; i++)
	{
		TimestampTz at = DatumGetTimestampTz(bounds[i]);

		if (TIMESTAMP_NOT_FINITE(at))
			quote_refuse("bounds", psprintf("has infinity as element %d", i + 1),
						 "Pass ordinary points in time.");
		if (i > 0 && at <= DatumGetTimestampTz(bounds[i - 1]))
			quote_refuse("bounds", psprintf("is not in rising order at element %d", i + 1),
						 "Pass every bound once, the earliest first.");
	}
}

/*
 * Check a quantity in kWh: not NaN, not negative, not absurd.  Element is its
 * place in an array, 0 for none.
 */
static void
quote_check_kwh(Datum kwh, const char *name, int element)
{
	Numeric none = int64_to_numeric(0);
	Numeric most = int64_to_numeric(QUOTE_MAX_KWH);
	const char *problem = NULL;

	if (numeric_is_nan(DatumGetNumeric(kwh)))
		problem = "is NaN";
	else if (DatumGetBool(DirectFunctionCall2(numeric_lt, kwh, NumericGetDatum(none))))
		problem = "is negative";
	else if (DatumGetBool(DirectFunctionCall2(numeric_gt, kwh, NumericGetDatum(most))))
		problem = "is too large";
	if (problem != NULL && element > 0)
		problem = psprintf("%s at element %d", problem, element);
	if (problem != NULL)
		quote_refuse(name, problem, "Pass kWh from 0 to 1000000000000.");
	pfree(none);
	pfree(most);
}

/*
 * Whole watt-hours of a sum in kWh.
 */
static int64
quote_wh(Datum kwh)
{
	Numeric thousand = int64_to_numeric(1000);
	Datum wh = DirectFunctionCall2(numeric_mul, kwh, NumericGetDatum(thousand));
	int64 result = DatumGetInt64(DirectFunctionCall1(numeric_int8, wh));

	pfree(thousand);
	pfree(DatumGetPointer(wh));
	return result;
}

/*
 * The register at every bound: the running sum of the quantities in whole Wh.
 * Palloc'ed, one element more than there are quantities.
 */
static int64 *
quote_register(const Datum *kwh, int n_kwh)
{
	int64 *register_wh = palloc((n_kwh + 1) * sizeof(int64));
	Datum sum = NumericGetDatum(int64_to_numeric(0));
	Datum most = NumericGetDatum(int64_to_numeric(QUOTE_MAX_KWH));
	int i;

	register_wh[0] = 0;
	for (i = 0; i < n_kwh; i++)
	{
		Datum next;

		quote_check_kwh(kwh[i], "kwh", i + 1);
		next = DirectFunctionCall2(numeric_add, sum, kwh[i]);
		pfree(DatumGetPointer(sum));
		sum = next;
		if (DatumGetBool(DirectFunctionCall2(numeric_gt, sum, most)))
			quote_refuse("kwh", psprintf("adds up to too much at element %d", i + 1),
						 "Pass no more than 1000000000000 kWh in all.");
		register_wh[i + 1] = quote_wh(sum);
	}
	return register_wh;
}

/*
 * Close a month: rate what it used, round it once, and share the result among
 * the tiers.
 */
static void
quote_close_cycle(QuoteTotal *total)
{
	SmRatingSpan span = {total->tariff, total->cycle_wh};
	SmRated rated;
	int64_t amount;
	int64_t share[SM_RATING_MAX_TIERS];
	int i;

	if (!rating_cycle(&span, 1, total->start_wh, &rated) ||
		!rating_round(rated.amount_e11, total->tariff->rounding, total->tariff->digits, &amount) ||
		!rating_apportion(rated.tier_amount_e11, rated.n_tiers, total->tariff->digits, amount,
						  share))
		quote_overflow();
	for (i = 0; i < rated.n_tiers; i++)
		if (__builtin_add_overflow(total->amount[i], share[i], &total->amount[i]) ||
			__builtin_add_overflow(total->energy_wh[i], rated.energy_wh[i], &total->energy_wh[i]))
			quote_overflow();
	total->start_wh = 0;
	total->cycle_wh = 0;
}

/*
 * Walk along the bounds and close a month at every edge.  An interval over an
 * edge is split in proportion to time.
 */
static void
quote_walk(QuoteTotal *total, const Datum *bounds, const int64 *register_wh, int n_kwh, pg_tz *zone)
{
	TimestampTz edge;
	TimestampTz start;
	int64 at_wh = 0;
	int i;

	tariff_cycle(DatumGetTimestampTz(bounds[0]), zone, &start, &edge);
	for (i = 0; i < n_kwh; i++)
	{
		TimestampTz from = DatumGetTimestampTz(bounds[i]);
		TimestampTz to = DatumGetTimestampTz(bounds[i + 1]);

		while (edge < to)
		{
			int64 edge_wh;

			CHECK_FOR_INTERRUPTS();
			if (!rating_interpolate(register_wh[i], register_wh[i + 1], edge - from, to - from,
									&edge_wh))
				quote_overflow();
			total->cycle_wh += edge_wh - at_wh;
			at_wh = edge_wh;
			quote_close_cycle(total);
			tariff_cycle(edge, zone, &start, &edge);
		}
		total->cycle_wh += register_wh[i + 1] - at_wh;
		at_wh = register_wh[i + 1];
	}
	quote_close_cycle(total);
}

/*
 * An exact decimal as numeric.
 */
static Datum
quote_numeric(SmInt128 value, int scale, int keep)
{
	char text[SM_RATING_TEXT_SIZE];

	return DirectFunctionCall3(
		numeric_in, CStringGetDatum(rating_format(value, scale, keep, text, sizeof(text))),
		ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/*
 * Hand out one line: component, tier, period, kwh, price, amount.  A tariff
 * without tiers has no tier to name, one without periods no period.
 */
static void
quote_put_line(ReturnSetInfo *result, const QuoteTotal *total, int tier)
{
	const SmTariff *tariff = total->tariff;
	Datum values[QUOTE_COLUMNS] = {0};
	bool nulls[QUOTE_COLUMNS] = {false};

	values[0] = CStringGetTextDatum("energy");
	values[1] = Int32GetDatum(tier + 1);
	nulls[1] = (tariff->n_tiers == 1);
	nulls[2] = true;
	values[3] = quote_numeric(total->energy_wh[tier], 3, 3);
	values[4] = quote_numeric(tariff->price_e8[tier], SM_RATING_PRICE_SCALE, 2);
	values[5] = quote_numeric(total->amount[tier], tariff->digits, tariff->digits);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Hand out a line for every tier that was used; where nothing was used, one
 * line for the tier the next kWh would fall in, so that sums are 0 and not
 * NULL.
 */
static void
quote_put_lines(ReturnSetInfo *result, const QuoteTotal *total, int64 start_wh)
{
	bool any = false;
	int tier;

	for (tier = 0; tier < total->tariff->n_tiers; tier++)
		if (total->energy_wh[tier] != 0)
		{
			quote_put_line(result, total, tier);
			any = true;
		}
	if (!any)
		quote_put_line(result, total, rating_tier_at(total->tariff, start_wh));
}

/*
 * The time zone of a name.
 */
static pg_tz *
quote_zone(text *name)
{
	char *zone_name = text_to_cstring(name);
	pg_tz *zone = pg_tzset(zone_name);

	if (zone == NULL || !pg_tz_acceptable(zone))
		quote_refuse("time_zone", psprintf("\"%s\" is not known", zone_name),
					 "Pass a name of pg_timezone_names, such as Asia/Shanghai.");
	return zone;
}

/*
 * submeter.quote(definition, bounds, kwh, time_zone, calendar, start_kwh,
 * terms).  Calendar and terms belong to periods, flags and capacities, which
 * tariff_compile() does not accept yet: they have nothing to act on.
 */
Datum
submeter_quote(PG_FUNCTION_ARGS)
{
	QuoteTotal total = {0};
	Datum *bounds;
	Datum *kwh;
	Datum start;
	int64 start_wh;
	int n_bounds;
	int n_kwh;
	pg_tz *zone;

	total.tariff = tariff_compile(DatumGetJsonbP(quote_argument(fcinfo, 0, "definition")));
	n_bounds =
		quote_elements(DatumGetArrayTypeP(quote_argument(fcinfo, 1, "bounds")), "bounds", &bounds);
	n_kwh = quote_elements(DatumGetArrayTypeP(quote_argument(fcinfo, 2, "kwh")), "kwh", &kwh);
	if (n_kwh < 1 || n_bounds != n_kwh + 1)
		quote_refuse("bounds", psprintf("has %d elements for %d of kwh", n_bounds, n_kwh),
					 "Pass n quantities, at least one, and the n + 1 bounds between which they "
					 "were used.");
	quote_check_bounds(bounds, n_bounds);
	zone = quote_zone(DatumGetTextPP(quote_argument(fcinfo, 3, "time_zone")));
	start = quote_argument(fcinfo, 5, "start_kwh");
	quote_check_kwh(start, "start_kwh", 0);
	total.start_wh = start_wh = quote_wh(start);

	quote_walk(&total, bounds, quote_register(kwh, n_kwh), n_kwh, zone);
	InitMaterializedSRF(fcinfo, 0);
	quote_put_lines((ReturnSetInfo *) fcinfo->resultinfo, &total, start_wh);
	return (Datum) 0;
}
