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

extern SmTariff *tariff_compile(Jsonb *definition);

extern void tariff_cycle(TimestampTz at, pg_tz *zone, TimestampTz *from, TimestampTz *to);

#endif /* SUBMETER_TARIFF_H */
