/*
 * quote_calendar.c
 *		What the caller of submeter.quote() says about days and the contract.
 *
 * The calendar is an object by day, {"2026-10-01": "holiday", "2026-10-02":
 * {"type": "holiday", "flags": ["hot_day"]}}, or an array of rows as in
 * submeter.calendar_day, [{"day": "2026-10-01", "day_type": "holiday"}].  Days
 * that are not there, and days without a type, are as the weekday says.  Flags
 * no window asks for are facts all the same, and ignored.
 *
 * Terms are as in supply.terms: what is not read here is somebody else's.
 */
#include "module.h"

#include "quote.h"
#include "tariff_json.h"

#define QUOTE_CALENDAR_HINT                                                                     \
	"Pass {\"2026-10-01\": {\"type\": \"holiday\", \"flags\": [\"hot_day\"]}}, or an array of " \
	"rows with day, day_type and flags."
#define QUOTE_TERMS_HINT                                                         \
	"Pass {\"capacity_kva\": 315, \"contract_kw\": 200, \"household_size\": 5, " \
	"\"power_factor\": 0.86}, or what of it the tariff needs."
#define QUOTE_MAX_KW_W INT64CONST(1000000000000)
#define QUOTE_MAX_HOUSEHOLD 1000000
#define QUOTE_POWER_FACTOR_SCALE 4
#define QUOTE_APPARENT INT64CONST(100000000) /* 1e4 x 1e4 */

static const char *const day_keys[] = {"day",  "type",    "day_type", "flags",   "closed",
									   "name", "assumed", "reason",   "site_id", NULL};

/*
 * The day a text such as 2026-10-01 names.
 */
static int32
quote_day(const char *text, const char *path)
{
	int year;
	int month;
	int day;
	char end;

	if (strlen(text) != 10 || strspn(text, "0123456789-") != 10 ||
		sscanf(text, "%4d-%2d-%2d%c", &year, &month, &day, &end) != 3 || text[4] != '-' ||
		text[7] != '-' || year < 1 || month < 1 || month > 12 || day < 1 ||
		day > calendar_month_days(calendar_day(year, month, 1)))
		tariff_refuse(path, "is not a day such as 2026-10-01", QUOTE_CALENDAR_HINT);
	return calendar_day(year, month, day);
}

/*
 * The flags of a day, as bits of those the tariff asks for.
 */
static uint64
quote_flags(const SmFlags *flags, JsonbValue *value, const char *path)
{
	JsonbContainer *names = value->val.binary.data;
	uint64 bits = 0;
	uint32 i;
	int j;

	if (value->type != jbvBinary || !JsonContainerIsArray(names) || JsonContainerIsScalar(names))
		tariff_refuse(path, "is not an array", QUOTE_CALENDAR_HINT);
	for (i = 0; i < JsonContainerSize(names); i++)
	{
		char *name = tariff_text(getIthJsonbValueFromContainer(names, i),
								 psprintf("%s[%u]", path, i), QUOTE_CALENDAR_HINT);

		for (j = 0; j < flags->n_names; j++)
			if (strcmp(flags->names[j], name) == 0)
				bits |= UINT64CONST(1) << j;
	}
	return bits;
}

/*
 * The type of a day a text names.
 */
static SmDayType
quote_day_type(JsonbValue *value, const char *path)
{
	static const char *const types[] = {[SM_DAY_WORKDAY] = "workday",
										[SM_DAY_WEEKEND] = "weekend",
										[SM_DAY_HOLIDAY] = "holiday",
										NULL};

	return (SmDayType) tariff_word(value, path, types,
								   "Write \"workday\", \"weekend\" or \"holiday\".");
}

/*
 * Read what is said about a day.
 */
static SmCalendarDay
quote_calendar_day(const SmQuote *quote, int32 day, JsonbContainer *object, const char *path)
{
	const char *key = (tariff_member(object, "type") != NULL) ? "type" : "day_type";
	JsonbValue *type = tariff_member(object, key);
	JsonbValue *flags = tariff_member(object, "flags");
	SmCalendarDay row = {day, calendar_day_type(NULL, day), 0};

	if (type != NULL && type->type != jbvNull)
		row.type = quote_day_type(type, psprintf("%s.%s", path, key));
	if (flags != NULL && flags->type != jbvNull)
		row.flags = quote_flags(&quote->flags, flags, psprintf("%s.flags", path));
	return row;
}

/*
 * Read a calendar that is an object by day.
 */
static int
quote_read_days(const SmQuote *quote, JsonbContainer *calendar, SmCalendarDay *days)
{
	JsonbIterator *iterator = JsonbIteratorInit(calendar);
	JsonbValue key;
	JsonbValue value;
	int n_days = 0;

	(void) JsonbIteratorNext(&iterator, &key, false);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		char *path = tariff_key_path("calendar", key.val.string.val, key.val.string.len);
		int32 day = quote_day(tariff_text(&key, path, QUOTE_CALENDAR_HINT), path);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvString)
			days[n_days++] = (SmCalendarDay){day, quote_day_type(&value, path), 0};
		else
			days[n_days++] = quote_calendar_day(
				quote, day, tariff_object(&value, path, day_keys + 1, QUOTE_CALENDAR_HINT), path);
	}
	return n_days;
}

/*
 * Read a calendar that is an array of rows.
 */
static int
quote_read_rows(const SmQuote *quote, JsonbContainer *calendar, SmCalendarDay *days)
{
	int n_days = JsonContainerSize(calendar);
	int i;

	for (i = 0; i < n_days; i++)
	{
		char *path = psprintf("calendar[%d]", i);
		JsonbContainer *row = tariff_object(getIthJsonbValueFromContainer(calendar, i), path,
											day_keys, QUOTE_CALENDAR_HINT);
		char *place = psprintf("%s.day", path);
		JsonbValue *day = tariff_required(row, path, "day", QUOTE_CALENDAR_HINT);

		days[i] = quote_calendar_day(
			quote, quote_day(tariff_text(day, place, QUOTE_CALENDAR_HINT), place), row, path);
	}
	return n_days;
}

/*
 * Order of days, for qsort.
 */
static int
quote_compare_days(const void *left, const void *right)
{
	int32 a = ((const SmCalendarDay *) left)->day;
	int32 b = ((const SmCalendarDay *) right)->day;

	return (a > b) - (a < b);
}

/*
 * Read the argument calendar into the quote; the flags of the tariff are known.
 */
void
quote_read_calendar(SmQuote *quote, Jsonb *calendar)
{
	JsonbContainer *root = &calendar->root;
	SmCalendarDay *days;
	int n_days;
	int i;

	if (JB_ROOT_IS_SCALAR(calendar))
		tariff_refuse("calendar", "is neither an object nor an array", QUOTE_CALENDAR_HINT);
	days = palloc((JsonContainerSize(root) + 1) * sizeof(SmCalendarDay));
	n_days = JB_ROOT_IS_OBJECT(calendar) ? quote_read_days(quote, root, days)
										 : quote_read_rows(quote, root, days);
	qsort(days, n_days, sizeof(SmCalendarDay), quote_compare_days);
	for (i = 1; i < n_days; i++)
		if (days[i].day == days[i - 1].day)
			tariff_refuse("calendar", "has a day twice", QUOTE_CALENDAR_HINT);
	quote->calendar.n_days = n_days;
	quote->calendar.days = days;
}

/*
 * A number of the terms, in units of 10^-scale; -1 when it is not there.
 */
static int64
quote_term(JsonbContainer *terms, const char *key, int scale, int64 limit)
{
	JsonbValue *value = (terms == NULL) ? NULL : tariff_member(terms, key);

	if (value == NULL || value->type == jbvNull)
		return -1;
	return tariff_number(value, psprintf("terms.%s", key), scale, limit, QUOTE_TERMS_HINT);
}

/*
 * The integer square root.
 */
static int64
quote_root(int64 value)
{
	int64 low = 0;
	int64 high = QUOTE_APPARENT;

	while (low < high)
	{
		int64 middle = high - (high - low) / 2;

		if (middle * middle <= value)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/*
 * Energies that have a given power factor.
 */
static void
quote_set_power_factor(SmQuoteTerms *terms, int64 factor_e4)
{
	terms->active_wh = factor_e4 * (QUOTE_APPARENT / 10000);
	terms->reactive_varh =
		quote_root(QUOTE_APPARENT * QUOTE_APPARENT - terms->active_wh * terms->active_wh);
}

/*
 * Read the argument terms (NULL: none) into the quote; what the tariff charges
 * by must be there.
 */
void
quote_read_terms(SmQuote *quote, Jsonb *terms)
{
	JsonbContainer *root = NULL;
	int64 household;
	int64 factor_e4;

	if (terms != NULL && !JB_ROOT_IS_OBJECT(terms))
		tariff_refuse("terms", "is not an object", QUOTE_TERMS_HINT);
	if (terms != NULL)
		root = &terms->root;
	household = quote_term(root, "household_size", 0, QUOTE_MAX_HOUSEHOLD);
	quote->terms.household = (household < 0) ? 0 : (int) household;
	quote->terms.contract_w = quote_term(root, "contract_kw", 3, QUOTE_MAX_KW_W);
	quote->terms.capacity_w = quote_term(root, "capacity_kva", 3, QUOTE_MAX_KW_W);
	factor_e4 = quote_term(root, "power_factor", QUOTE_POWER_FACTOR_SCALE, 10000);
	if (factor_e4 == 0)
		tariff_refuse("terms.power_factor", "is not above zero", QUOTE_TERMS_HINT);
	if (factor_e4 > 0)
		quote_set_power_factor(&quote->terms, factor_e4);
	if (quote->tariff->demand == SM_DEMAND_CONTRACT && quote->terms.contract_w < 0)
		tariff_refuse("terms.contract_kw", "is missing: the tariff charges by it",
					  QUOTE_TERMS_HINT);
	if (quote->tariff->demand == SM_DEMAND_CAPACITY && quote->terms.capacity_w < 0)
		tariff_refuse("terms.capacity_kva", "is missing: the tariff charges by it",
					  QUOTE_TERMS_HINT);
}
