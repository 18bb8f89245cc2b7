/* history.h - what a meter keeps of its past */
#ifndef HISTORY_H
#define HISTORY_H

#include "farm.h"

typedef enum SmFreeze
{
	FREEZE_HOUR,
	FREEZE_DAY,
	FREEZE_MONTH,
	FREEZE_COUNT
} SmFreeze;

typedef struct SmRecord
{
	int64_t clock_s; /* by the meter's own clock */
	int64_t import_mwh;
	int64_t export_mwh;
} SmRecord;

extern void history_create(SmMeter *meter);
extern void history_free(SmMeter *meter);
extern int64_t history_edge(SmMeter *meter);
extern void history_freeze(SmMeter *meter, int64_t sim_ns);
extern int history_depth(SmFreeze freeze);
extern const SmRecord *history_back(const SmMeter *meter, SmFreeze freeze, int back);
extern const SmRecord *history_of_day(const SmMeter *meter, int64_t clock_s);

#endif
