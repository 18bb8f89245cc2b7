/*
 * tariff.c
 *		Tariff definitions: checks them and compiles them for rating.c.
 *
 * A definition is jsonb as published by submeter.tariff_schema().  Whatever is
 * not understood is refused with the place in the document, never ignored: a
 * tariff that silently drops a line costs somebody money every month.  What the
 * format knows but this version does not compute yet is refused as
 * feature_not_supported, everything else as invalid_parameter_value.
 *
 * Numbers go from jsonb's numeric through text into fixed point; no float is
 * ever involved.  Nothing here reads a table or takes a lock, so compiled
 * tariffs depend on their definition only.
 */
#include "module.h"

#include "utils/datetime.h"
#include "utils/memutils.h"

#include "tariff.h"
#include "tariff_json.h"

#define TARIFF_MAX_ADDERS 32
#define TARIFF_MAX_ROWS 1000
#define TARIFF_MAX_PRICE_E8 INT64CONST(100000000000000)
#define TARIFF_MAX_TIMES_E8 INT64CONST(100000000000)
#define TARIFF_MAX_BOUND_WH INT64CONST(1000000000000)
#define TARIFF_BOUND_SCALE 3

#define TARIFF_PRICE_HINT                                                                         \
	"Write a price as a number from 0 to 1000000 with at most 8 decimals, such as 0.6725, or as " \
	"{\"value\": 0.5802, \"times\": 1.7, \"digits\": 4}."

static const SmTariffKey tariff_keys[] = {
	{"energy", false},      {"tiers", false},       {"tier_adders", false}, {"adders", false},
	{"rounding", false},    {"periods", true},      {"seasons", true},      {"fees", true},
	{"demand", true},       {"power_factor", true}, {"minimum", true},      {"tax_rate", true},
	{"tax_included", true}, {NULL, false}};
static const SmTariffKey tier_keys[] = {{"cycle", false},
										{"mode", false},
										{"bounds", false},
										{NULL, false}};
static const SmTariffKey bound_keys[] = {{"upto_kwh", false}, {"season", true}, {NULL, false}};
static const SmTariffKey energy_keys[] = {{"price", false},
										  {"tier", false},
										  {"period", true},
										  {NULL, false}};
static const SmTariffKey price_keys[] = {{"value", false},  {"times", false}, {"plus", false},
										 {"digits", false}, {"ref", true},    {NULL, false}};
static const SmTariffKey adder_keys[] = {{"name", false}, {"price", false}, {NULL, false}};
static const SmTariffKey rounding_keys[] = {{"amount", false},
											{"digits", false},
											{"kwh_digits", false},
											{NULL, false}};

SM_FUNCTION(submeter_check_tariff);

/*
 * A price written as {value, times, plus, digits}: value x times, rounded half
 * up to digits places, and plus on top.
 *
 * Whether plus is rounded as well would make a difference only where it has
 * more places than digits keeps; nobody should have to guess that on a bill,
 * so it is refused.
 */
static int64
tariff_price_object(JsonbValue *value, const char *path)
{
	JsonbContainer *object = tariff_object(value, path, price_keys, TARIFF_PRICE_HINT);
	JsonbValue *times = tariff_member(object, "times");
	JsonbValue *plus = tariff_member(object, "plus");
	JsonbValue *digits = tariff_member(object, "digits");
	int64 times_e8 = INT64CONST(100000000);
	int64 plus_e8 = 0;
	int64 places = SM_RATING_PRICE_SCALE;
	int64 rounded_e8 = 0;
	int64 price_e8;

	price_e8 = tariff_number(tariff_required(object, path, "value", TARIFF_PRICE_HINT),
							 psprintf("%s.value", path), SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8,
							 TARIFF_PRICE_HINT);
	if (times != NULL)
		times_e8 = tariff_number(times, psprintf("%s.times", path), SM_RATING_PRICE_SCALE,
								 TARIFF_MAX_TIMES_E8, TARIFF_PRICE_HINT);
	if (plus != NULL)
		plus_e8 = tariff_number(plus, psprintf("%s.plus", path), SM_RATING_PRICE_SCALE,
								TARIFF_MAX_PRICE_E8, TARIFF_PRICE_HINT);
	if (digits != NULL)
		places = tariff_number(digits, psprintf("%s.digits", path), 0, SM_RATING_PRICE_SCALE,
							   "Write a whole number from 0 to 8.");
	if (!rating_scale_price(plus_e8, INT64CONST(100000000), places, &rounded_e8) ||
		rounded_e8 != plus_e8)
		tariff_refuse(psprintf("%s.plus", path), "has more decimals than digits keeps",
					  "Raise digits, or write the surcharge as a row of $.adders.");
	if (!rating_scale_price(price_e8, times_e8, places, &price_e8) ||
		price_e8 + plus_e8 > TARIFF_MAX_PRICE_E8)
		tariff_refuse(path, "comes to more than 1000000", TARIFF_PRICE_HINT);
	return price_e8 + plus_e8;
}

/*
 * A price: a number or an object.
 */
static int64
tariff_price(JsonbValue *value, const char *path)
{
	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		return tariff_price_object(value, path);
	return tariff_number(value, path, SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8,
						 TARIFF_PRICE_HINT);
}

/*
 * Read $.tiers.bounds[0].upto_kwh into the bounds of the tariff.
 */
static void
tariff_compile_bounds(SmTariff *tariff, JsonbValue *value, const char *path)
{
	const char *hint = "Write the upper bounds in kWh in rising order, such as [200, 400].";
	JsonbContainer *array = tariff_array(value, path, SM_RATING_MAX_TIERS - 1, hint);
	int n_bounds = JsonContainerSize(array);
	int i;

	for (i = 0; i < n_bounds; i++)
	{
		char *place = psprintf("%s[%d]", path, i);

		tariff->upto_wh[i] = tariff_number(getIthJsonbValueFromContainer(array, i), place,
										   TARIFF_BOUND_SCALE, TARIFF_MAX_BOUND_WH, hint);
		if (tariff->upto_wh[i] == 0)
			tariff_refuse(place, "is not above zero", hint);
		if (i > 0 && tariff->upto_wh[i] <= tariff->upto_wh[i - 1])
			tariff_refuse(place, "is not above the bound before it", hint);
	}
	tariff->n_tiers = n_bounds + 1;
}

/*
 * Compile $.tiers; without it everything is one tier.
 */
static void
tariff_compile_tiers(SmTariff *tariff, JsonbContainer *definition)
{
	static const char *const cycles[] = {"month", "year", "cycle", "season", NULL};
	static const char *const modes[] = {"graduated", "volume", NULL};
	const char *hint = "Write {\"bounds\": [{\"upto_kwh\": [200, 400]}]}.";
	JsonbValue *value = tariff_member(definition, "tiers");
	JsonbContainer *tiers;
	JsonbContainer *bounds;
	JsonbContainer *row;
	uint32 i;

	tariff->n_tiers = 1;
	if (value == NULL)
		return;
	tiers = tariff_object(value, "$.tiers", tier_keys, hint);
	tariff_first_word(tiers, "$.tiers", "cycle", cycles,
					  "Write \"month\": tiers start anew each local calendar month.");
	tariff_first_word(tiers, "$.tiers", "mode", modes,
					  "Write \"graduated\": each slice is paid at the price of its own tier.");
	bounds = tariff_array(tariff_required(tiers, "$.tiers", "bounds", hint), "$.tiers.bounds",
						  TARIFF_MAX_ROWS, hint);
	for (i = 0; i < JsonContainerSize(bounds); i++)
		tariff_object(getIthJsonbValueFromContainer(bounds, i), psprintf("$.tiers.bounds[%u]", i),
					  bound_keys, hint);
	if (JsonContainerSize(bounds) > 1)
		tariff_refuse("$.tiers.bounds[1]", "can never match", "Keep one row of bounds.");
	row = getIthJsonbValueFromContainer(bounds, 0)->val.binary.data;
	tariff_compile_bounds(tariff, tariff_required(row, "$.tiers.bounds[0]", "upto_kwh", hint),
						  "$.tiers.bounds[0].upto_kwh");
}

/*
 * The tier (from 0) an energy row is for, or -1 for any.
 */
static int
tariff_row_tier(const SmTariff *tariff, JsonbContainer *row, const char *path)
{
	const char *hint = "Write the number of a tier, counted from 1, or leave it out for all tiers.";
	JsonbValue *value = tariff_member(row, "tier");
	char *place = psprintf("%s.tier", path);
	int64 tier;

	if (value == NULL)
		return -1;
	tier = tariff_number(value, place, 0, 1000000, hint);
	if (tier < 1)
		tariff_refuse(place, "is less than 1", hint);
	if (tier > tariff->n_tiers)
		tariff_refuse(
			place, psprintf("names a tier that is not there: there are %d", tariff->n_tiers), hint);
	return (int) tier - 1;
}

/*
 * Let one row of $.energy price the tiers it matches and no earlier row did.
 */
static void
tariff_compile_row(SmTariff *tariff, bool *priced, JsonbValue *value, const char *path)
{
	JsonbContainer *row = tariff_object(value, path, energy_keys, "Write {\"price\": 0.8}.");
	int tier = tariff_row_tier(tariff, row, path);
	int64 price_e8 = tariff_price(tariff_required(row, path, "price", TARIFF_PRICE_HINT),
								  psprintf("%s.price", path));
	bool matched = false;
	int i;

	for (i = 0; i < tariff->n_tiers; i++)
	{
		if (priced[i] || (tier >= 0 && tier != i))
			continue;
		tariff->price_e8[i] = price_e8;
		priced[i] = matched = true;
	}
	if (!matched)
		tariff_refuse(path, "can never match: earlier rows price all it is for",
					  "The first matching row wins; remove this row or move it up.");
}

/*
 * Compile $.energy: every tier must get a price.
 */
static void
tariff_compile_energy(SmTariff *tariff, JsonbContainer *definition)
{
	const char *hint = "Write at least [{\"price\": 0.8}].";
	bool priced[SM_RATING_MAX_TIERS] = {false};
	JsonbContainer *rows;
	uint32 i;

	rows = tariff_array(tariff_required(definition, "$", "energy", hint), "$.energy",
						TARIFF_MAX_ROWS, hint);
	for (i = 0; i < JsonContainerSize(rows); i++)
		tariff_compile_row(tariff, priced, getIthJsonbValueFromContainer(rows, i),
						   psprintf("$.energy[%u]", i));
	for (i = 0; i < (uint32) tariff->n_tiers; i++)
		if (!priced[i])
			tariff_refuse("$.energy", psprintf("has no price for tier %u", i + 1),
						  "Add a row for this tier, or a last row without tier for all the rest.");
}

/*
 * Add $.tier_adders to the prices: one per tier.
 */
static void
tariff_compile_tier_adders(SmTariff *tariff, JsonbContainer *definition)
{
	const char *hint = "Write one number per tier, such as [0, 0.05, 0.30].";
	JsonbValue *value = tariff_member(definition, "tier_adders");
	JsonbContainer *adders;
	int i;

	if (value == NULL)
		return;
	adders = tariff_array(value, "$.tier_adders", TARIFF_MAX_ROWS, hint);
	if ((int) JsonContainerSize(adders) != tariff->n_tiers)
		tariff_refuse(
			"$.tier_adders",
			psprintf("has %u elements for %d tiers", JsonContainerSize(adders), tariff->n_tiers),
			hint);
	for (i = 0; i < tariff->n_tiers; i++)
		tariff->price_e8[i] += tariff_price(getIthJsonbValueFromContainer(adders, i),
											psprintf("$.tier_adders[%d]", i));
}

/*
 * Refuse an adder whose name is missing, blank or that of an earlier row.
 */
static void
tariff_check_adder_name(JsonbContainer *adders, uint32 at, JsonbValue *name)
{
	const char *hint = "Write {\"name\": \"funds\", \"price\": 0.0297}, each name once.";
	char *path = psprintf("$.adders[%u].name", at);
	uint32 i;

	if (name->type != jbvString)
		tariff_refuse(path, "is not a text", hint);
	if (strspn(pnstrdup(name->val.string.val, name->val.string.len), " \t\r\n") ==
		(size_t) name->val.string.len)
		tariff_refuse(path, "is blank", hint);
	for (i = 0; i < at; i++)
	{
		JsonbValue *row = getIthJsonbValueFromContainer(adders, i);
		JsonbValue *other = tariff_member(row->val.binary.data, "name");

		if (other->val.string.len == name->val.string.len &&
			memcmp(other->val.string.val, name->val.string.val, name->val.string.len) == 0)
			tariff_refuse(path, "is the name of an earlier row", hint);
	}
}

/*
 * Add $.adders, which are paid on every kWh, to the prices.
 */
static void
tariff_compile_adders(SmTariff *tariff, JsonbContainer *definition)
{
	const char *hint = "Write [{\"name\": \"funds\", \"price\": 0.0297}].";
	JsonbValue *value = tariff_member(definition, "adders");
	JsonbContainer *adders;
	uint32 i;

	if (value == NULL)
		return;
	adders = tariff_array(value, "$.adders", TARIFF_MAX_ADDERS, hint);
	for (i = 0; i < JsonContainerSize(adders); i++)
	{
		char *path = psprintf("$.adders[%u]", i);
		JsonbContainer *row =
			tariff_object(getIthJsonbValueFromContainer(adders, i), path, adder_keys, hint);
		int64 price_e8;
		int tier;

		tariff_check_adder_name(adders, i, tariff_required(row, path, "name", hint));
		price_e8 =
			tariff_price(tariff_required(row, path, "price", hint), psprintf("%s.price", path));
		for (tier = 0; tier < tariff->n_tiers; tier++)
			tariff->price_e8[tier] += price_e8;
	}
}

/*
 * Compile $.rounding; half up to 2 digits when not given.
 */
static void
tariff_compile_rounding(SmTariff *tariff, JsonbContainer *definition)
{
	static const char *const modes[] = {
		[SM_ROUND_HALF_UP] = "half_up", [SM_ROUND_DOWN] = "down", [SM_ROUND_UP] = "up", NULL};
	JsonbValue *value = tariff_member(definition, "rounding");
	JsonbContainer *rounding;
	JsonbValue *member;

	tariff->rounding = SM_ROUND_HALF_UP;
	tariff->digits = SM_RATING_MAX_DIGITS;
	if (value == NULL)
		return;
	rounding = tariff_object(value, "$.rounding", rounding_keys,
							 "Write {\"amount\": \"half_up\", \"digits\": 2}.");
	member = tariff_member(rounding, "amount");
	if (member != NULL)
		tariff->rounding = (SmRoundMode) tariff_word(member, "$.rounding.amount", modes,
													 "Write \"half_up\", \"down\" or \"up\".");
	member = tariff_member(rounding, "digits");
	if (member != NULL)
		tariff->digits = (int) tariff_number(member, "$.rounding.digits", 0, SM_RATING_MAX_DIGITS,
											 "Write 0, 1 or 2: money is posted with at most 2.");
	member = tariff_member(rounding, "kwh_digits");
	if (member != NULL && member->type != jbvNull)
		tariff_refuse_later("$.rounding.kwh_digits");
}

/*
 * Check a definition and compile it.  The result is palloc'ed in the current
 * memory context and belongs to the caller; what was needed on the way is
 * released.
 */
SmTariff *
tariff_compile(Jsonb *definition)
{
	SmTariff *tariff = palloc0(sizeof(SmTariff));
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "tariff definition", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);

	if (!JB_ROOT_IS_OBJECT(definition))
		tariff_refuse("$", "is not an object", "Write at least {\"energy\": [{\"price\": 0.8}]}.");
	tariff_check_keys(&definition->root, "$", tariff_keys);
	tariff_compile_tiers(tariff, &definition->root);
	tariff_compile_energy(tariff, &definition->root);
	tariff_compile_tier_adders(tariff, &definition->root);
	tariff_compile_adders(tariff, &definition->root);
	tariff_compile_rounding(tariff, &definition->root);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return tariff;
}

/*
 * submeter.check_tariff(definition jsonb): nothing, or one clear error.
 */
Datum
submeter_check_tariff(PG_FUNCTION_ARGS)
{
	pfree(tariff_compile(PG_GETARG_JSONB_P(0)));
	PG_RETURN_VOID();
}

/*
 * The first instant of the month that lies so many months after that of a
 * local time.  Where the local midnight does not exist, the month begins with
 * the jump over it.  Infinity beyond the calendar's ends.
 */
static TimestampTz
tariff_month_start(const struct pg_tm *local, int months, pg_tz *zone)
{
	struct pg_tm first;
	TimestampTz result;
	int month = local->tm_mon - 1 + months;
	int offset;

	memset(&first, 0, sizeof(first));
	first.tm_year = local->tm_year + month / 12;
	first.tm_mon = month % 12 + 1;
	first.tm_mday = 1;
	offset = DetermineTimeZoneOffset(&first, zone);
	if (tm2timestamp(&first, 0, &offset, &result) != 0)
		return (months > 0) ? DT_NOEND : DT_NOBEGIN;
	return result;
}

/*
 * The local calendar month [*from, *to) an instant is in.
 *
 * Where the clock is put back over midnight, the first of the month begins
 * twice; it counts from the second time on, as it does in SQL with
 * date_trunc('month', at, zone).
 */
void
tariff_cycle(TimestampTz at, pg_tz *zone, TimestampTz *from, TimestampTz *to)
{
	struct pg_tm local;
	fsec_t fraction;
	int offset;

	if (timestamp2tm(at, &offset, &local, &fraction, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"),
				 errhint("Pass an ordinary point in time, not infinity.")));
	*from = tariff_month_start(&local, 0, zone);
	*to = tariff_month_start(&local, 1, zone);
	if (*from > at)
	{
		*to = *from;
		if (local.tm_mon == 1)
		{
			local.tm_year--;
			local.tm_mon = 13;
		}
		local.tm_mon--;
		*from = tariff_month_start(&local, 0, zone);
	}
}
