/*
 * tariff_price.c
 *		Prices of a tariff definition: a number, a derived or a named price.
 *
 * A named price ({"ref": "base"}) is looked up among the prices in force that
 * the caller hands in.  Its value is not the definition's, so that a price
 * within its own limits never makes a tariff unusable afterwards: results of
 * named prices are limited by arithmetic alone, and always fit.
 */
#include "module.h"

#include "tariff_build.h"

#define TARIFF_MAX_TIMES_E8 INT64CONST(100000000000)

#define TARIFF_PRICE_HINT                                                                         \
	"Write a price as a number from 0 to 1000000 with at most 8 decimals, such as 0.6725, or as " \
	"{\"value\": 0.5802, \"times\": 1.7, \"digits\": 4} or {\"ref\": \"base\", \"times\": 1.7}."

static const char *const price_keys[] = {"value", "ref", "times", "plus", "digits", NULL};

/*
 * What a named price is now.
 */
static int64
tariff_named_price(const SmTariffBuild *build, JsonbValue *value, const char *path)
{
	char *place = psprintf("%s.ref", path);
	char *name = tariff_name(value, place, TARIFF_PRICE_HINT);
	JsonbValue *price = NULL;

	if (build->open_refs)
		return 0;
	if (build->prices != NULL && JB_ROOT_IS_OBJECT(build->prices))
		price = tariff_member(&build->prices->root, name);
	if (price == NULL)
		tariff_refuse(place, psprintf("names the price \"%s\", which has no value", name),
					  "Enter the named price first, valid from the start of the tariff or before, "
					  "or write its value in the definition.");
	return tariff_number(price, psprintf("%s \"%s\"", place, name), SM_RATING_PRICE_SCALE,
						 TARIFF_MAX_PRICE_E8, TARIFF_PRICE_HINT);
}

/*
 * The price others are derived from: a value or a name, not both.
 */
static int64
tariff_base_price(const SmTariffBuild *build, JsonbContainer *object, const char *path)
{
	JsonbValue *ref = tariff_member(object, "ref");

	if (ref == NULL)
		return tariff_number(tariff_required(object, path, "value", TARIFF_PRICE_HINT),
							 psprintf("%s.value", path), SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8,
							 TARIFF_PRICE_HINT);
	if (tariff_member(object, "value") != NULL)
		tariff_refuse(path, "has both ref and value", "Keep one of them.");
	return tariff_named_price(build, ref, path);
}

/*
 * An optional number of a price object.
 */
static int64
tariff_price_member(JsonbContainer *object, const char *path, const char *key, int scale,
					int64 limit, int64 otherwise)
{
	JsonbValue *value = tariff_member(object, key);

	if (value == NULL)
		return otherwise;
	return tariff_number(value, psprintf("%s.%s", path, key), scale, limit,
						 (scale == 0) ? "Write a whole number from 0 to 8." : TARIFF_PRICE_HINT);
}

/*
 * A price written as {value|ref, times, plus, digits}: value x times, rounded
 * half up to digits places, and plus on top.
 *
 * Whether plus is rounded as well would make a difference only where it has
 * more places than digits keeps; nobody should have to guess that on a bill,
 * so it is refused.
 */
static int64
tariff_price_object(const SmTariffBuild *build, JsonbValue *value, const char *path)
{
	JsonbContainer *object = tariff_object(value, path, price_keys, TARIFF_PRICE_HINT);
	int64 base_e8 = tariff_base_price(build, object, path);
	int64 times_e8 = tariff_price_member(object, path, "times", SM_RATING_PRICE_SCALE,
										 TARIFF_MAX_TIMES_E8, INT64CONST(100000000));
	int64 plus_e8 =
		tariff_price_member(object, path, "plus", SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8, 0);
	int64 digits = tariff_price_member(object, path, "digits", 0, SM_RATING_PRICE_SCALE,
									   SM_RATING_PRICE_SCALE);
	int64 rounded_e8;
	int64 price_e8;

	if (!rating_scale_price(plus_e8, INT64CONST(100000000), (int) digits, &rounded_e8) ||
		rounded_e8 != plus_e8)
		tariff_refuse(psprintf("%s.plus", path), "has more decimals than digits keeps",
					  "Raise digits, or write the surcharge as a row of $.adders.");
	if (!rating_scale_price(base_e8, times_e8, (int) digits, &price_e8))
		tariff_refuse(path, "is out of range", TARIFF_PRICE_HINT);
	price_e8 += plus_e8;
	if (tariff_member(object, "ref") == NULL && price_e8 > TARIFF_MAX_PRICE_E8)
		tariff_refuse(path, "comes to more than 1000000", TARIFF_PRICE_HINT);
	return price_e8;
}

/*
 * A price: a number or an object.
 */
int64
tariff_price(const SmTariffBuild *build, JsonbValue *value, const char *path)
{
	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		return tariff_price_object(build, value, path);
	return tariff_number(value, path, SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8,
						 TARIFF_PRICE_HINT);
}
