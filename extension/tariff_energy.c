/*
 * tariff_energy.c
 *		Tiers of a tariff definition, and the price of energy in each tier and period.
 */
#include "module.h"

#include "tariff_build.h"

#define TARIFF_MAX_BOUND_WH INT64CONST(1000000000000)
#define TARIFF_BOUND_SCALE 3
#define TARIFF_MAX_HOUSEHOLD 1000

/* Which prices earlier rows have set. */
typedef bool TariffPriced[SM_RATING_MAX_TIERS][SM_MAX_PERIODS];

static const char *const tier_keys[] = {"cycle", "mode", "bounds", NULL};
static const char *const bound_keys[] = {"upto_kwh", "season", "household", NULL};
static const char *const energy_keys[] = {"price", "tier", "period", NULL};

/*
 * Read the upper bounds of one row.
 */
static void
energy_read_upto(SmTierBounds *row, JsonbContainer *array, const char *path, const char *hint)
{
	int n_bounds = JsonContainerSize(array);
	int i;

	for (i = 0; i < n_bounds; i++)
	{
		char *place = psprintf("%s[%d]", path, i);

		row->upto_wh[i] = tariff_number(getIthJsonbValueFromContainer(array, i), place,
										TARIFF_BOUND_SCALE, TARIFF_MAX_BOUND_WH, hint);
		if (row->upto_wh[i] == 0)
			tariff_refuse(place, "is not above zero", hint);
		if (i > 0 && row->upto_wh[i] <= row->upto_wh[i - 1])
			tariff_refuse(place, "is not above the bound before it", hint);
	}
}

/*
 * Read one row of $.tiers.bounds; all have the same number of bounds.
 */
static void
energy_add_bounds(SmTariff *tariff, JsonbValue *value, const char *path)
{
	const char *hint = "Write the upper bounds in kWh in rising order, such as [200, 400].";
	JsonbContainer *object =
		tariff_object(value, path, bound_keys, "Write {\"upto_kwh\": [200, 400]}.");
	SmTierBounds *row = &tariff->bounds[tariff->n_bounds];
	JsonbValue *season = tariff_member(object, "season");
	JsonbValue *household = tariff_member(object, "household");
	char *place = psprintf("%s.upto_kwh", path);
	JsonbContainer *upto = tariff_array(tariff_required(object, path, "upto_kwh", hint), place,
										SM_RATING_MAX_TIERS - 1, hint);

	if (tariff->n_bounds > 0 && (int) JsonContainerSize(upto) != tariff->n_tiers - 1)
		tariff_refuse(place,
					  psprintf("has %u elements, the row before it %d", JsonContainerSize(upto),
							   tariff->n_tiers - 1),
					  "Give every row the same number of bounds: one less than there are tiers.");
	tariff->n_tiers = (int) JsonContainerSize(upto) + 1;
	energy_read_upto(row, upto, place, hint);
	row->season =
		(season == NULL) ? -1 : tariff_season(tariff, season, psprintf("%s.season", path));
	if (household != NULL)
		row->household =
			(int) tariff_number(household, psprintf("%s.household", path), 0, TARIFF_MAX_HOUSEHOLD,
								"Write the least number of people, such as 5.");
	tariff->n_bounds++;
}

/*
 * Compile $.tiers; without it everything is one tier.
 */
void
tariff_compile_tiers(SmTariffBuild *build)
{
	static const char *const cycles[] = {[SM_TIER_MONTH] = "month",
										 [SM_TIER_YEAR] = "year",
										 [SM_TIER_CYCLE] = "cycle",
										 [SM_TIER_SEASON] = "season",
										 NULL};
	static const char *const modes[] = {"graduated", "volume", NULL};
	const char *hint = "Write {\"bounds\": [{\"upto_kwh\": [200, 400]}]}.";
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "tiers");
	JsonbValue *word;
	JsonbContainer *tiers;
	JsonbContainer *bounds;
	uint32 i;

	tariff->n_tiers = 1;
	if (value == NULL)
		return;
	tiers = tariff_object(value, "$.tiers", tier_keys, hint);
	if ((word = tariff_member(tiers, "cycle")) != NULL)
		tariff->tier_cycle = (SmTierCycle) tariff_word(
			word, "$.tiers.cycle", cycles,
			"Write when tiers start anew: \"month\", \"year\", \"cycle\" or \"season\".");
	if ((word = tariff_member(tiers, "mode")) != NULL)
		tariff->volume = tariff_word(word, "$.tiers.mode", modes,
									 "Write \"graduated\" (each slice at the price of its own "
									 "tier) or \"volume\" (all at the tier reached).") == 1;
	if (tariff->tier_cycle == SM_TIER_SEASON && tariff->schedule.n_seasons == 0)
		tariff_refuse("$.tiers.cycle", "is \"season\", but there are no seasons",
					  "Add $.seasons, or let tiers start anew by month, year or cycle.");
	bounds = tariff_array(tariff_required(tiers, "$.tiers", "bounds", hint), "$.tiers.bounds",
						  SM_RATING_MAX_BOUNDS, hint);
	for (i = 0; i < JsonContainerSize(bounds); i++)
		energy_add_bounds(tariff, getIthJsonbValueFromContainer(bounds, i),
						  psprintf("$.tiers.bounds[%u]", i));
	tariff_check_bounds(tariff);
}

/*
 * The tier (from 0) an energy row is for, or -1 for any.
 */
static int
energy_row_tier(const SmTariff *tariff, JsonbContainer *row, const char *path)
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
 * The period (from 0) an energy row is for, or -1 for any.
 */
static int
energy_row_period(const SmSchedule *schedule, JsonbContainer *row, const char *path)
{
	const char *hint = "Name one of $.periods, or leave it out for all periods.";
	JsonbValue *value = tariff_member(row, "period");
	char *place = psprintf("%s.period", path);
	char *name;
	int i;

	if (value == NULL)
		return -1;
	name = tariff_text(value, place, hint);
	for (i = 0; i < schedule->n_periods; i++)
		if (strcmp(schedule->periods[i].name, name) == 0)
			return i;
	tariff_refuse(place, psprintf("names the period \"%s\", which is not there", name), hint);
}

/*
 * How many periods have a price of their own: one where there are none.
 */
static int
energy_periods(const SmTariff *tariff)
{
	return (tariff->schedule.n_periods == 0) ? 1 : tariff->schedule.n_periods;
}

/*
 * Let one row of $.energy price what it matches and no earlier row did.
 */
static void
energy_add_row(SmTariffBuild *build, TariffPriced priced, JsonbValue *value, const char *path)
{
	SmTariff *tariff = build->tariff;
	JsonbContainer *row = tariff_object(value, path, energy_keys, "Write {\"price\": 0.8}.");
	int tier = energy_row_tier(tariff, row, path);
	int period = energy_row_period(&tariff->schedule, row, path);
	int64 price_e8 =
		tariff_price(build, tariff_required(row, path, "price", "Write {\"price\": 0.8}."),
					 psprintf("%s.price", path));
	bool matched = false;
	int i;
	int j;

	for (i = 0; i < tariff->n_tiers; i++)
		for (j = 0; j < energy_periods(tariff); j++)
		{
			if (priced[i][j] || (tier >= 0 && tier != i) || (period >= 0 && period != j))
				continue;
			tariff->price_e8[i][j] = price_e8;
			priced[i][j] = matched = true;
		}
	if (!matched)
		tariff_refuse(path, "can never match: earlier rows price all it is for",
					  "The first matching row wins; remove this row or move it up.");
}

/*
 * Refuse a tier and period without a price.
 */
static void
energy_check_holes(const SmTariff *tariff, TariffPriced priced)
{
	int i;
	int j;

	for (i = 0; i < tariff->n_tiers; i++)
		for (j = 0; j < energy_periods(tariff); j++)
		{
			if (priced[i][j])
				continue;
			if (tariff->schedule.n_periods == 0)
				tariff_refuse("$.energy", psprintf("has no price for tier %d", i + 1),
							  "Add a row for this tier, or a last row without tier for all the "
							  "rest.");
			tariff_refuse("$.energy",
						  psprintf("has no price for tier %d in period \"%s\"", i + 1,
								   tariff->schedule.periods[j].name),
						  "Add a row for this tier and period, or a last row without both for all "
						  "the rest.");
		}
}

/*
 * Add $.tier_adders to the prices: one per tier, in every period.
 */
static void
energy_add_tier_adders(SmTariffBuild *build)
{
	const char *hint = "Write one number per tier, such as [0, 0.05, 0.30].";
	SmTariff *tariff = build->tariff;
	JsonbValue *value = tariff_member(build->root, "tier_adders");
	JsonbContainer *adders;
	int i;
	int j;

	if (value == NULL)
		return;
	adders = tariff_array(value, "$.tier_adders", TARIFF_MAX_ROWS, hint);
	if ((int) JsonContainerSize(adders) != tariff->n_tiers)
		tariff_refuse(
			"$.tier_adders",
			psprintf("has %u elements for %d tiers", JsonContainerSize(adders), tariff->n_tiers),
			hint);
	for (i = 0; i < tariff->n_tiers; i++)
	{
		int64 adder_e8 = tariff_price(build, getIthJsonbValueFromContainer(adders, i),
									  psprintf("$.tier_adders[%d]", i));

		for (j = 0; j < energy_periods(tariff); j++)
			tariff->price_e8[i][j] += adder_e8;
	}
}

/*
 * Whether it makes a difference in which order energy falls into periods: each
 * slice has a tier of its own.  Where no price depends on the period the money
 * is the same anyhow, but the lines of a bill say both.
 */
static bool
energy_is_ordered(const SmTariff *tariff)
{
	return tariff->n_tiers > 1 && !tariff->volume && tariff->schedule.n_periods > 1;
}

/*
 * Compile $.energy and $.tier_adders: every tier and period must get a price.
 */
void
tariff_compile_energy(SmTariffBuild *build)
{
	const char *hint = "Write at least [{\"price\": 0.8}].";
	TariffPriced priced = {{false}};
	JsonbContainer *rows;
	uint32 i;

	rows = tariff_array(tariff_required(build->root, "$", "energy", hint), "$.energy",
						TARIFF_MAX_ROWS, hint);
	for (i = 0; i < JsonContainerSize(rows); i++)
		energy_add_row(build, priced, getIthJsonbValueFromContainer(rows, i),
					   psprintf("$.energy[%u]", i));
	energy_check_holes(build->tariff, priced);
	energy_add_tier_adders(build);
	build->tariff->ordered = energy_is_ordered(build->tariff);
}
