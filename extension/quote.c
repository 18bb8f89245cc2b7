/*
 * quote.c
 *		submeter.quote(): what usage would cost, without storing anything.
 *
 * The same rating core that charges accounts prices a series of quantities
 * between bounds.  The series is read as a register: its running sum, in whole
 * watt-hours at every bound, so that the pieces add up whatever their places.
 *
 * Depends on its arguments only; reads no table and takes no lock.
 */
#include "module.h"

#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "quote.h"

#define QUOTE_MAX_KWH 1000000000000
#define QUOTE_COLUMNS 6

SM_FUNCTION(submeter_quote);
SM_FUNCTION(submeter_power_factor_table);

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
 * Whether a line has a quantity in kWh: demand is in kW, and what is not there
 * has none.
 */
static bool
quote_has_kwh(SmComponent component)
{
	return component == SM_LINE_ENERGY || component == SM_LINE_ADDER;
}

/*
 * Whether a line has a price: per kWh, per kW, or the whole amount of a fee.
 */
static bool
quote_has_price(SmComponent component)
{
	return quote_has_kwh(component) || component == SM_LINE_DEMAND || component == SM_LINE_FEE;
}

/*
 * Hand out one line: component, tier, period, kwh, price, amount.  A tariff
 * without tiers has no tier to name, one without periods no period.
 */
static void
quote_put_line(ReturnSetInfo *result, const SmTariff *tariff, const SmQuoteLine *line)
{
	const SmRatedLine *rated = &line->rated;
	Datum values[QUOTE_COLUMNS] = {0};
	bool nulls[QUOTE_COLUMNS] = {false};

	values[0] = CStringGetTextDatum(tariff_component(rated));
	nulls[1] = (rated->tier < 0 || tariff->n_tiers == 1);
	values[1] = Int32GetDatum(rated->tier + 1);
	nulls[2] = (rated->period < 0 || tariff->schedule.n_periods == 0);
	if (!nulls[2])
		values[2] = CStringGetTextDatum(tariff->schedule.periods[rated->period].name);
	nulls[3] = !quote_has_kwh(rated->component);
	if (!nulls[3])
		values[3] = quote_numeric(rated->energy_wh, SM_RATING_WH_DIGITS, SM_RATING_WH_DIGITS);
	nulls[4] = !quote_has_price(rated->component);
	if (!nulls[4])
		values[4] = quote_numeric(rated->price_e8, SM_RATING_PRICE_SCALE, 2);
	values[5] = quote_numeric(line->amount, tariff->digits, tariff->digits);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Order of lines, for qsort: as a charge is built up, tier by tier.
 */
static int
quote_compare_lines(const void *left, const void *right)
{
	const SmRatedLine *a = &((const SmQuoteLine *) left)->rated;
	const SmRatedLine *b = &((const SmQuoteLine *) right)->rated;

	if (a->component != b->component)
		return (int) a->component - (int) b->component;
	if (a->tier != b->tier)
		return a->tier - b->tier;
	if (a->period != b->period)
		return a->period - b->period;
	return a->item - b->item;
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
 * Read what was used and when: bounds, kwh, time_zone, start_kwh.
 */
static void
quote_read_usage(SmQuote *quote, FunctionCallInfo fcinfo)
{
	Datum *bounds;
	Datum *kwh;
	Datum start;
	int n_bounds;
	int i;

	n_bounds =
		quote_elements(DatumGetArrayTypeP(quote_argument(fcinfo, 1, "bounds")), "bounds", &bounds);
	quote->n_kwh =
		quote_elements(DatumGetArrayTypeP(quote_argument(fcinfo, 2, "kwh")), "kwh", &kwh);
	if (quote->n_kwh < 1 || n_bounds != quote->n_kwh + 1)
		quote_refuse("bounds", psprintf("has %d elements for %d of kwh", n_bounds, quote->n_kwh),
					 "Pass n quantities, at least one, and the n + 1 bounds between which they "
					 "were used.");
	quote_check_bounds(bounds, n_bounds);
	quote->bounds = palloc(n_bounds * sizeof(TimestampTz));
	for (i = 0; i < n_bounds; i++)
		quote->bounds[i] = DatumGetTimestampTz(bounds[i]);
	quote->zone = quote_zone(DatumGetTextPP(quote_argument(fcinfo, 3, "time_zone")));
	start = quote_argument(fcinfo, 5, "start_kwh");
	quote_check_kwh(start, "start_kwh", 0);
	quote->start_wh = quote_wh(start);
	quote->register_wh = quote_register(kwh, quote->n_kwh);
}

/*
 * The named prices of a quote: the member prices of terms, where it is an
 * object.
 */
static Jsonb *
quote_prices(Jsonb *terms)
{
	JsonbValue *prices;

	if (terms == NULL || !JB_ROOT_IS_OBJECT(terms))
		return NULL;
	prices = getKeyJsonValueFromContainer(&terms->root, "prices", strlen("prices"), NULL);
	return (prices == NULL) ? NULL : JsonbValueToJsonb(prices);
}

/*
 * submeter.quote(definition, bounds, kwh, time_zone, calendar, start_kwh,
 * terms).
 */
Datum
submeter_quote(PG_FUNCTION_ARGS)
{
	SmQuote *quote = palloc0(sizeof(SmQuote));
	Jsonb *definition = DatumGetJsonbP(quote_argument(fcinfo, 0, "definition"));
	Jsonb *terms = PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6);
	int i;

	quote->tariff = tariff_compile(definition, quote_prices(terms), &quote->flags);
	quote_read_usage(quote, fcinfo);
	if (!PG_ARGISNULL(4))
		quote_read_calendar(quote, PG_GETARG_JSONB_P(4));
	quote_read_terms(quote, terms);
	quote_walk(quote);
	qsort(quote->lines, quote->n_lines, sizeof(SmQuoteLine), quote_compare_lines);
	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < quote->n_lines; i++)
		quote_put_line((ReturnSetInfo *) fcinfo->resultinfo, quote->tariff, &quote->lines[i]);
	return (Datum) 0;
}

/*
 * submeter.power_factor_table(): the table as published, as shares.
 */
Datum
submeter_power_factor_table(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int n_steps;
	const SmPowerFactorStep *steps = power_factor_table(&n_steps);
	int i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n_steps; i++)
	{
		Datum values[3] = {quote_numeric(steps[i].standard, 2, 2),
						   quote_numeric(steps[i].factor, 2, 2),
						   quote_numeric(steps[i].adjustment_e4, 4, 4)};
		bool nulls[3] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
