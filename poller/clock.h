/*
 * clock.h - reading the clocks of meters, and broadcasting the time to a bus
 */
#ifndef CLOCK_H
#define CLOCK_H

#include "field.h"
#include "meter_clock.h"

/* A row of submeter.claim_clocks(). */
typedef struct SmClockClaim
{
	int site_id;
	int64_t gateway_id;
	int64_t meter_id;
	bool broadcast;
	const char *clock_di;
	const char *local_time;
} SmClockClaim;

/* What a clock showed; text is NULL when it showed no time. */
typedef struct SmClockResult
{
	int site_id;
	int64_t meter_id;
	const char *text;
	const char *error;
} SmClockResult;

extern void clock_start(SmField *field, const SmClockClaim *claim);
extern bool clock_is_late(const SmBus *bus, int64_t now_us);
extern bool clock_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us);
extern void clock_drop_all(SmBus *bus);

#endif
