/*
 * day.h
 *		Local days and billing cycles as instants: where the clock on the wall meets time.
 */
#ifndef SUBMETER_DAY_H
#define SUBMETER_DAY_H

#include "postgres.h"
#include "pgtime.h"
#include "utils/timestamp.h"

#include "rating.h"

/* From an instant until the next part, or the end of the day. */
typedef struct SmInstantPart
{
	TimestampTz from;
	int16 period;
} SmInstantPart;

#define SM_MAX_INSTANT_PARTS (2 * SM_MAX_DAY_PARTS)

extern TimestampTz day_start(int32 day, pg_tz *zone);
extern int32 day_of(TimestampTz at, pg_tz *zone);
extern int day_parts(const SmTariff *tariff, const SmCalendar *calendar, int32 day, pg_tz *zone,
					 TimestampTz *day_from, TimestampTz *day_to, SmInstantPart *parts);

#endif /* SUBMETER_DAY_H */
