/*
 * tariff_build.h
 *		Between the files that compile a tariff definition.
 */
#ifndef SUBMETER_TARIFF_BUILD_H
#define SUBMETER_TARIFF_BUILD_H

#include "tariff.h"
#include "tariff_json.h"

#define TARIFF_MAX_ROWS 1000
#define TARIFF_MAX_PRICE_E8 INT64CONST(100000000000000)

/* A definition on its way to a tariff. */
typedef struct SmTariffBuild
{
	JsonbContainer *root;
	SmTariff *tariff;
	SmFlags *flags;
	Jsonb *prices;  /* by name; NULL: none */
	bool open_refs; /* names need not be there: only the definition is looked at */
} SmTariffBuild;

/* tariff_price.c */
extern int64 tariff_price(const SmTariffBuild *build, JsonbValue *value, const char *path);

/* tariff_schedule.c: seasons, periods, windows */
extern void tariff_compile_seasons(SmTariffBuild *build);
extern void tariff_compile_periods(SmTariffBuild *build);
extern int tariff_season(const SmTariff *tariff, JsonbValue *value, const char *path);

/* tariff_energy.c: tiers and the prices of energy */
extern void tariff_compile_tiers(SmTariffBuild *build);
extern void tariff_compile_energy(SmTariffBuild *build);

/* tariff_extra.c: what is charged besides energy, and how it is rounded */
extern void tariff_compile_extras(SmTariffBuild *build);

/* tariff_check.c: what no day can ever reach, and what no row covers */
extern void tariff_check_bounds(const SmTariff *tariff);
extern void tariff_check_windows(const SmTariff *tariff);

#endif /* SUBMETER_TARIFF_BUILD_H */
