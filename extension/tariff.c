/*
 * tariff.c
 *		Tariff definitions: checks them and compiles them for rating.c.
 *
 * A definition is jsonb as published by submeter.tariff_schema().  Whatever is
 * not understood is refused with the place in the document, never ignored: a
 * tariff that silently drops a line costs somebody money every month.  So is
 * what could never matter, such as a row behind one that matches all.
 *
 * Numbers go from jsonb's numeric through text into fixed point; no float is
 * ever involved.  Nothing here reads a table or takes a lock, so compiled
 * tariffs depend on their definition and on the named prices handed in.
 */
#include "module.h"

#include "utils/memutils.h"

#include "tariff_build.h"

static const char *const tariff_keys[] = {
	"energy", "tiers",  "tier_adders",  "adders",  "rounding", "periods",      "seasons",
	"fees",   "demand", "power_factor", "minimum", "tax_rate", "tax_included", NULL};

SM_FUNCTION(submeter_check_tariff);

/*
 * Check a definition and compile it.  The result is palloc'ed in the current
 * memory context and belongs to the caller; what was needed on the way is
 * released.
 */
static SmTariff *
tariff_build(Jsonb *definition, SmTariffBuild *build)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "tariff definition", ALLOCSET_SMALL_SIZES);
	MemoryContext caller;

	build->root = &definition->root;
	build->tariff = palloc0(sizeof(SmTariff));
	caller = MemoryContextSwitchTo(scratch);
	if (!JB_ROOT_IS_OBJECT(definition))
		tariff_refuse("$", "is not an object", "Write at least {\"energy\": [{\"price\": 0.8}]}.");
	tariff_check_keys(build->root, "$", tariff_keys);
	tariff_compile_seasons(build);
	tariff_compile_periods(build);
	tariff_compile_tiers(build);
	tariff_compile_energy(build);
	tariff_compile_extras(build);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return build->tariff;
}

/*
 * Compile a definition with the named prices of a time.
 */
SmTariff *
tariff_compile(Jsonb *definition, Jsonb *prices, SmFlags *flags)
{
	SmTariffBuild build = {.prices = prices, .flags = flags};

	return tariff_build(definition, &build);
}

/*
 * What a line is for.
 */
char *
tariff_component(const SmRatedLine *line)
{
	switch (line->component)
	{
		case SM_LINE_ENERGY:
			return pstrdup("energy");
		case SM_LINE_DEMAND:
			return pstrdup("demand");
		case SM_LINE_POWER_FACTOR:
			return pstrdup("power_factor");
		case SM_LINE_ADDER:
			return psprintf("adder:%s", line->tariff->adders[line->item].name);
		case SM_LINE_FEE:
			return psprintf("fee:%s", line->tariff->fees[line->item].name);
		case SM_LINE_MINIMUM:
			return pstrdup("minimum");
		case SM_LINE_TAX:
			return pstrdup("tax");
		case SM_LINE_FREE_ENERGY:
		case SM_LINE_ALLOWANCE:
			break;
	}
	return pstrdup("allowance");
}

/*
 * submeter.check_tariff(definition jsonb, prices jsonb): nothing, or one clear
 * error; NULL without a definition.  Without prices a named price may have any
 * name: which there are depends on the site.
 */
Datum
submeter_check_tariff(PG_FUNCTION_ARGS)
{
	SmFlags *flags = palloc0(sizeof(SmFlags));
	SmTariffBuild build = {.flags = flags};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	build.open_refs = PG_ARGISNULL(1);
	if (!build.open_refs)
		build.prices = PG_GETARG_JSONB_P(1);
	pfree(tariff_build(PG_GETARG_JSONB_P(0), &build));
	pfree(flags);
	PG_RETURN_VOID();
}
