/*
 * tariff_extra.c
 *		What a tariff definition charges besides energy: adders, fees, demand,
 *		power factor, minimum and tax; and how the sum is rounded.
 */
#include "module.h"

#include "tariff_build.h"

#define EXTRA_WINDOW_MINUTES 15
#define EXTRA_MAX_TAX_RATE_E8 INT64CONST(100000000)

static const char *const adder_keys[] = {"name", "price", NULL};
static const char *const fee_keys[] = {"name", "per", "amount", "prorate", NULL};
static const char *const demand_keys[] = {"per_kw", "window_minutes", "basis", NULL};
static const char *const power_factor_keys[] = {"standard", NULL};
static const char *const rounding_keys[] = {"amount", "digits", "kwh_digits", NULL};

/*
 * Compile $.adders, which are paid on every kWh.
 */
static void
extra_compile_adders(SmTariffBuild *build)
{
	const char *hint = "Write {\"name\": \"funds\", \"price\": 0.0297}, each name once.";
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "adders");
	JsonbContainer *rows;
	int i;
	int j;

	if (value == NULL)
		return;
	rows = tariff_array(value, "$.adders", SM_RATING_MAX_ADDERS,
						"Write [{\"name\": \"funds\", \"price\": 0.0297}].");
	for (i = 0; i < (int) JsonContainerSize(rows); i++)
	{
		char *path = psprintf("$.adders[%d]", i);
		JsonbContainer *row =
			tariff_object(getIthJsonbValueFromContainer(rows, i), path, adder_keys, hint);
		SmAdder *adder = &tariff->adders[tariff->n_adders++];
		char *place = psprintf("%s.name", path);

		strlcpy(adder->name, tariff_name(tariff_required(row, path, "name", hint), place, hint),
				sizeof(adder->name));
		for (j = 0; j < i; j++)
			if (strcmp(tariff->adders[j].name, adder->name) == 0)
				tariff_refuse(place, "is the name of an earlier row", hint);
		adder->price_e8 = tariff_price(build, tariff_required(row, path, "price", hint),
									   psprintf("%s.price", path));
		tariff->adders_e8 += adder->price_e8;
	}
}

/*
 * Compile $.fees, which are paid for time.
 */
static void
extra_compile_fees(SmTariffBuild *build)
{
	static const char *const pers[] = {
		[SM_FEE_DAY] = "day", [SM_FEE_MONTH] = "month", [SM_FEE_CYCLE] = "cycle", NULL};
	const char *hint = "Write {\"name\": \"service\", \"per\": \"month\", \"amount\": 10, "
					   "\"prorate\": true}, each name once.";
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "fees");
	JsonbContainer *rows;
	int i;
	int j;

	if (value == NULL)
		return;
	rows = tariff_array(value, "$.fees", SM_RATING_MAX_FEES, hint);
	for (i = 0; i < (int) JsonContainerSize(rows); i++)
	{
		char *path = psprintf("$.fees[%d]", i);
		JsonbContainer *row =
			tariff_object(getIthJsonbValueFromContainer(rows, i), path, fee_keys, hint);
		SmFee *fee = &tariff->fees[tariff->n_fees++];
		JsonbValue *prorate = tariff_member(row, "prorate");
		char *place = psprintf("%s.name", path);

		strlcpy(fee->name, tariff_name(tariff_required(row, path, "name", hint), place, hint),
				sizeof(fee->name));
		for (j = 0; j < i; j++)
			if (strcmp(tariff->fees[j].name, fee->name) == 0)
				tariff_refuse(place, "is the name of an earlier row", hint);
		fee->per = (SmFeePer) tariff_word(tariff_required(row, path, "per", hint),
										  psprintf("%s.per", path), pers,
										  "Write \"day\", \"month\" or \"cycle\".");
		fee->amount_e8 = tariff_price(build, tariff_required(row, path, "amount", hint),
									  psprintf("%s.amount", path));
		fee->prorate = prorate != NULL && tariff_boolean(prorate, psprintf("%s.prorate", path));
	}
}

/*
 * Compile $.demand.
 */
static void
extra_compile_demand(SmTariffBuild *build)
{
	static const char *const bases[] = {[SM_DEMAND_MAXIMUM - 1] = "maximum",
										[SM_DEMAND_CONTRACT - 1] = "contract",
										[SM_DEMAND_CAPACITY - 1] = "capacity",
										NULL};
	const char *hint = "Write {\"per_kw\": 32, \"window_minutes\": 15, \"basis\": \"maximum\"}.";
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "demand");
	JsonbContainer *demand;
	JsonbValue *member;

	if (value == NULL)
		return;
	demand = tariff_object(value, "$.demand", demand_keys, hint);
	tariff->per_kw_e8 =
		tariff_price(build, tariff_required(demand, "$.demand", "per_kw", hint), "$.demand.per_kw");
	tariff->demand = SM_DEMAND_MAXIMUM;
	if ((member = tariff_member(demand, "basis")) != NULL)
		tariff->demand =
			(SmDemandBasis) (tariff_word(member, "$.demand.basis", bases,
										 "Write \"maximum\", \"contract\" or \"capacity\".") +
							 SM_DEMAND_MAXIMUM);
	tariff->window_minutes = EXTRA_WINDOW_MINUTES;
	if ((member = tariff_member(demand, "window_minutes")) != NULL)
		tariff->window_minutes = (int) tariff_number(member, "$.demand.window_minutes", 0,
													 SM_DAY_MINUTES, "Write minutes, such as 15.");
	if (tariff->window_minutes == 0 || SM_DAY_MINUTES % tariff->window_minutes != 0)
		tariff_refuse("$.demand.window_minutes", "does not divide a day into equal parts",
					  "Write a divisor of 1440, such as 15, 30 or 60.");
}

/*
 * Compile $.power_factor: one of the standards of the published table.
 */
static void
extra_compile_power_factor(SmTariffBuild *build)
{
	const char *hint = "Write {\"standard\": 0.90}: 0.80, 0.85 or 0.90.";
	JsonbValue *value = tariff_member(build->root, "power_factor");
	JsonbContainer *object;
	int64 standard;

	if (value == NULL)
		return;
	object = tariff_object(value, "$.power_factor", power_factor_keys, hint);
	standard = tariff_number(tariff_required(object, "$.power_factor", "standard", hint),
							 "$.power_factor.standard", 2, 100, hint);
	if (standard != 80 && standard != 85 && standard != 90)
		tariff_refuse("$.power_factor.standard", "is not a standard of the published table", hint);
	build->tariff->power_factor = (int) standard;
}

/*
 * Compile $.minimum, $.tax_rate and $.tax_included.
 */
static void
extra_compile_tax(SmTariffBuild *build)
{
	SmTariff *tariff = build->tariff;
	JsonbValue *minimum = tariff_member(build->root, "minimum");
	JsonbValue *rate = tariff_member(build->root, "tax_rate");
	JsonbValue *included = tariff_member(build->root, "tax_included");

	if (minimum != NULL)
		tariff->minimum_e8 =
			tariff_number(minimum, "$.minimum", SM_RATING_PRICE_SCALE, TARIFF_MAX_PRICE_E8,
						  "Write an amount per cycle, such as 5.00.");
	if (rate != NULL)
		tariff->tax_rate_e8 = tariff_number(rate, "$.tax_rate", SM_RATING_PRICE_SCALE,
											EXTRA_MAX_TAX_RATE_E8, "Write 0.13 for 13 per cent.");
	if (included != NULL)
		tariff->tax_included = tariff_boolean(included, "$.tax_included");
}

/*
 * Compile $.rounding; half up to 2 digits, energy as measured when not given.
 */
static void
extra_compile_rounding(SmTariffBuild *build)
{
	static const char *const modes[] = {
		[SM_ROUND_HALF_UP] = "half_up", [SM_ROUND_DOWN] = "down", [SM_ROUND_UP] = "up", NULL};
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "rounding");
	JsonbContainer *rounding;
	JsonbValue *member;

	tariff->rounding = SM_ROUND_HALF_UP;
	tariff->digits = SM_RATING_MAX_DIGITS;
	tariff->kwh_digits = -1;
	if (value == NULL)
		return;
	rounding = tariff_object(value, "$.rounding", rounding_keys,
							 "Write {\"amount\": \"half_up\", \"digits\": 2}.");
	if ((member = tariff_member(rounding, "amount")) != NULL)
		tariff->rounding = (SmRoundMode) tariff_word(member, "$.rounding.amount", modes,
													 "Write \"half_up\", \"down\" or \"up\".");
	if ((member = tariff_member(rounding, "digits")) != NULL)
		tariff->digits = (int) tariff_number(member, "$.rounding.digits", 0, SM_RATING_MAX_DIGITS,
											 "Write 0, 1 or 2: money is posted with at most 2.");
	if ((member = tariff_member(rounding, "kwh_digits")) != NULL && member->type != jbvNull)
		tariff->kwh_digits =
			(int) tariff_number(member, "$.rounding.kwh_digits", 0, SM_RATING_WH_DIGITS,
								"Write 0 to 3, or null: energy is as measured.");
}

/*
 * Compile all that is not the price of energy.
 */
void
tariff_compile_extras(SmTariffBuild *build)
{
	extra_compile_adders(build);
	extra_compile_fees(build);
	extra_compile_demand(build);
	extra_compile_power_factor(build);
	extra_compile_tax(build);
	extra_compile_rounding(build);
	build->tariff->clock = build->tariff->n_fees > 0 || build->tariff->demand != SM_DEMAND_NONE;
}
