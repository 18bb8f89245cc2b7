/*
 * freeze.h - the registers that a DL/T 645 meter froze: of when they are, and which one is wanted
 *
 * Pure: no I/O, no memory. Times are those of the meter's own clock, as minutes since 2000.
 */
#ifndef FREEZE_H
#define FREEZE_H

#include <stdbool.h>
#include <stdint.h>

#define FREEZE_ENTRIES_MAX 254

typedef enum FreezeKind
{
	FREEZE_HOURLY,
	FREEZE_DAILY,
	FREEZE_SETTLEMENT,
	FREEZE_CONCENTRATOR /* the concentrator's own record of the end of each day */
} SmFreezeKind;

/* A register that is wanted: of when it is, the same instant in ms, and that it is the n-th last. */
typedef struct SmFreezeEntry
{
	int64_t minute;
	int64_t ts_ms;
	int back;
} SmFreezeEntry;

typedef enum SmFreezeTime
{
	FREEZE_KNOWN,
	FREEZE_ABSENT, /* the meter has no such entry yet */
	FREEZE_NONSENSE
} SmFreezeTime;

extern bool freeze_find_kind(const char *name, SmFreezeKind *kind);
extern int freeze_parse_entries(const char *text, SmFreezeEntry *entries, int most);
extern SmFreezeTime freeze_time(const uint8_t *data, int length, int64_t *minute);
extern bool freeze_settlement_day(const uint8_t *data, int length, char text[5]);
extern void freeze_day(int64_t minute, uint8_t day[3]);
extern bool freeze_shift(SmFreezeKind kind, int64_t wanted, int64_t found, int *shift);

#endif
