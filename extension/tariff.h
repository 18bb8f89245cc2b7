/*
 * tariff.h
 *		Tariff definitions: from checked jsonb to what rating.c computes with.
 */
#ifndef SUBMETER_TARIFF_H
#define SUBMETER_TARIFF_H

#include "postgres.h"
#include "pgtime.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "rating.h"

/*
 * definition: checked, or refused with one clear error.  prices: named prices
 * in force, {"base": 0.5802, …}; NULL when there are none, then a ref is
 * refused.  flags: gets the names of the day flags the definition uses.
 */
extern SmTariff *tariff_compile(Jsonb *definition, Jsonb *prices, SmFlags *flags);

/*
 * What a line of a charge is for, in words: energy, demand, power_factor,
 * adder:NAME, fee:NAME, minimum, tax, allowance.  Palloc'ed.
 */
extern char *tariff_component(const SmRatedLine *line);

/*
 * The billing cycle [*from, *to) an instant is in: from the given day of the
 * local month (1 to 28) to that of the next.
 */
extern void tariff_cycle(TimestampTz at, int first_day, pg_tz *zone, TimestampTz *from,
						 TimestampTz *to);

#endif /* SUBMETER_TARIFF_H */
