/* curve.h - load curves, read from CSV files */
#ifndef CURVE_H
#define CURVE_H

#include "farm.h"

extern bool curve_load(SmFarm *farm, const char *name, const char *path, int64_t slot_s,
					   const char *unit, SmError *error);
extern const SmCurve *curve_find(SmFarm *farm, const char *name);
extern int64_t curve_energy_mwh(const SmCurve *curve, int64_t sim_ns);
extern int64_t curve_power_mw(const SmCurve *curve, int64_t sim_ns);
extern void curve_free(SmFarm *farm);

#endif
