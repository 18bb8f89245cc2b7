/*
 * meter_clock.h - the clock of a DL/T 645 meter: asking for it, what it says, setting it
 *
 * Pure: no I/O, no memory. Times are what clocks on a wall show, without a zone.
 */
#ifndef METER_CLOCK_H
#define METER_CLOCK_H

#include "dlt645.h"

#define METER_CLOCK_TEXT 32

typedef enum SmClockState
{
	CLOCK_MORE, /* something is still to be asked for */
	CLOCK_KNOWN,
	CLOCK_NONSENSE /* what it shows is no time */
} SmClockState;

/* A reading of a clock under way: one item, or the date, the time and perhaps the date again. */
typedef struct SmMeterClock
{
	uint32_t di;
	bool whole; /* one item holds date and time */
	int step;
	SmDltTime time;
} SmMeterClock;

extern bool meter_clock_begin(SmMeterClock *clock, SmProtocol protocol, const char *di);
extern bool meter_clock_fall_back(SmMeterClock *clock);
extern bool meter_clock_ask(const SmMeterClock *clock, const SmTarget *target, SmRequest *request);
extern SmClockState meter_clock_take(SmMeterClock *clock, const uint8_t *data, int length);
extern bool meter_clock_set(const SmTarget *target, const SmDltKey *key, int step,
							const SmDltTime *time, SmRequest *request);
extern bool meter_clock_parse(const char *text, SmDltTime *time);
extern void meter_clock_text(const SmDltTime *time, char *text);
extern int64_t meter_clock_seconds(const SmDltTime *time);
extern void meter_clock_at(int64_t seconds, SmDltTime *time);

#endif
