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

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "tariff.h"

#define TARIFF_MAX_ADDERS 32
#define TARIFF_MAX_ROWS 1000
#define TARIFF_MAX_PRICE_E8 INT64CONST(100000000000000)
#define TARIFF_MAX_TIMES_E8 INT64CONST(100000000000)
#define TARIFF_MAX_BOUND_WH INT64CONST(1000000000000)
#define TARIFF_BOUND_SCALE 3
#define TARIFF_SHOWN_BYTES 60

#define TARIFF_PRICE_HINT                                                                         \
	"Write a price as a number from 0 to 1000000 with at most 8 decimals, such as 0.6725, or as " \
	"{\"value\": 0.5802, \"times\": 1.7, \"digits\": 4}."

/* a key of an object, and whether this version computes it */
typedef struct TariffKey
{
	const char *name;
	bool later;
} TariffKey;

static const TariffKey tariff_keys[] = {
	{"energy", false},      {"tiers", false},       {"tier_adders", false}, {"adders", false},
	{"rounding", false},    {"periods", true},      {"seasons", true},      {"fees", true},
	{"demand", true},       {"power_factor", true}, {"minimum", true},      {"tax_rate", true},
	{"tax_included", true}, {NULL, false}};
static const TariffKey tier_keys[] = {{"cycle", false},
									  {"mode", false},
									  {"bounds", false},
									  {NULL, false}};
static const TariffKey bound_keys[] = {{"upto_kwh", false}, {"season", true}, {NULL, false}};
static const TariffKey energy_keys[] = {{"price", false},
										{"tier", false},
										{"period", true},
										{NULL, false}};
static const TariffKey price_keys[] = {{"value", false},  {"times", false}, {"plus", false},
									   {"digits", false}, {"ref", true},    {NULL, false}};
static const TariffKey adder_keys[] = {{"name", false}, {"price", false}, {NULL, false}};
static const TariffKey rounding_keys[] = {{"amount", false},
										  {"digits", false},
										  {"kwh_digits", false},
										  {NULL, false}};

SM_FUNCTION(submeter_check_tariff);

/*
 * Refuse the definition: problem completes the sentence that begins with the
 * path.
 */
static void
pg_attribute_noreturn() tariff_refuse(const char *path, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid tariff definition"),
					errdetail("%s %s.", path, problem), errhint("%s", hint)));
}

/*
 * Refuse what the format knows and this version does not compute.
 */
static void
pg_attribute_noreturn() tariff_refuse_later(const char *path)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("invalid tariff definition"),
		 errdetail("%s is not supported by this version.", path),
		 errhint("Write a flat price or graduated monthly tiers; submeter.tariff_schema() shows "
				 "all that is accepted.")));
}

/*
 * The path of a member of an object, quoted when it is not a plain word and
 * clipped when it is long.  Palloc'ed.
 */
static char *
tariff_key_path(const char *path, const char *key, int length)
{
	StringInfoData quoted;
	char *word;

	length = pg_mbcliplen(key, length, TARIFF_SHOWN_BYTES);
	word = pnstrdup(key, length);
	if (length > 0 && strspn(word, "abcdefghijklmnopqrstuvwxyz_0123456789") == (size_t) length)
		return psprintf("%s.%s", path, word);
	initStringInfo(&quoted);
	escape_json(&quoted, word);
	return psprintf("%s.%s", path, quoted.data);
}

/*
 * Refuse keys that are not in the list, and those that are not computed yet.
 */
static void
tariff_check_keys(JsonbContainer *object, const char *path, const TariffKey *known)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue value;

	token = JsonbIteratorNext(&iterator, &value, false);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		const TariffKey *key = known;
		char *place;

		if (token != WJB_KEY)
			continue;
		place = tariff_key_path(path, value.val.string.val, value.val.string.len);
		while (key->name != NULL &&
			   (strlen(key->name) != (size_t) value.val.string.len ||
				memcmp(key->name, value.val.string.val, value.val.string.len) != 0))
			key++;
		if (key->name == NULL)
			tariff_refuse(place, "is not a known key",
						  "Check the spelling; submeter.tariff_schema() lists the keys.");
		if (key->later)
			tariff_refuse_later(place);
		pfree(place);
	}
}

/*
 * A member of an object, or NULL.
 */
static JsonbValue *
tariff_member(JsonbContainer *object, const char *key)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

/*
 * A member that must be there.
 */
static JsonbValue *
tariff_required(JsonbContainer *object, const char *path, const char *key, const char *hint)
{
	JsonbValue *value = tariff_member(object, key);

	if (value == NULL)
		tariff_refuse(psprintf("%s.%s", path, key), "is missing", hint);
	return value;
}

/*
 * The container of a value that must be an object with known keys only.
 */
static JsonbContainer *
tariff_object(JsonbValue *value, const char *path, const TariffKey *known, const char *hint)
{
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		tariff_refuse(path, "is not an object", hint);
	tariff_check_keys(value->val.binary.data, path, known);
	return value->val.binary.data;
}

/*
 * The container of a value that must be an array of 1 to most elements.
 */
static JsonbContainer *
tariff_array(JsonbValue *value, const char *path, int most, const char *hint)
{
	JsonbContainer *array = value->val.binary.data;

	if (value->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		tariff_refuse(path, "is not an array", hint);
	if (JsonContainerSize(array) == 0)
		tariff_refuse(path, "is empty", hint);
	if (JsonContainerSize(array) > (uint32) most)
		tariff_refuse(path, psprintf("has more than %d elements", most), hint);
	return array;
}

/*
 * A value that must be a number, in units of 10^-scale, from 0 to limit.
 */
static int64
tariff_number(JsonbValue *value, const char *path, int scale, int64 limit, const char *hint)
{
	char shown[SM_RATING_TEXT_SIZE];
	char *text;
	int64 result = 0;

	if (value->type != jbvNumeric)
		tariff_refuse(path, "is not a number", hint);
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	switch (rating_parse_decimal(text, scale, limit, &result))
	{
		case SM_DECIMAL_OK:
			break;
		case SM_DECIMAL_NOT_A_NUMBER:
			tariff_refuse(path, "is not a finite number", hint);
			break;
		case SM_DECIMAL_NEGATIVE:
			tariff_refuse(path, "is negative", hint);
			break;
		case SM_DECIMAL_TOO_LARGE:
			tariff_refuse(
				path,
				psprintf("is larger than %s", rating_format(limit, scale, 0, shown, sizeof(shown))),
				hint);
			break;
		case SM_DECIMAL_TOO_FINE:
			if (scale == 0)
				tariff_refuse(path, "is not a whole number", hint);
			tariff_refuse(path, psprintf("has more than %d decimals", scale), hint);
			break;
	}
	pfree(text);
	return result;
}

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
 * Match a text value with a list of words; the result is its place in it.
 */
static int
tariff_word(JsonbValue *value, const char *path, const char *const *words, const char *hint)
{
	int i;

	if (value->type != jbvString)
		tariff_refuse(path, "is not a text", hint);
	for (i = 0; words[i] != NULL; i++)
		if (strlen(words[i]) == (size_t) value->val.string.len &&
			memcmp(words[i], value->val.string.val, value->val.string.len) == 0)
			return i;
	tariff_refuse(path, "is not one of the known words", hint);
}

/*
 * A member whose first word is the one computed and whose others come later.
 */
static void
tariff_first_word(JsonbContainer *object, const char *path, const char *key,
				  const char *const *words, const char *hint)
{
	JsonbValue *value = tariff_member(object, key);
	char *place = psprintf("%s.%s", path, key);

	if (value != NULL && tariff_word(value, place, words, hint) > 0)
		tariff_refuse_later(place);
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
