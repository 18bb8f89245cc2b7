/* fault.h - faults on demand */
#ifndef FAULT_H
#define FAULT_H

#include "farm.h"
#include "wire.h"

typedef enum SmFaultKind
{
	FAULT_NONE,
	FAULT_SILENCE,
	FAULT_DROP,
	FAULT_EXCEPTION,
	FAULT_DELAY,
	FAULT_LATE,
	FAULT_WRONG_UNIT,
	FAULT_WRONG_TRANSACTION,
	FAULT_WRONG_FUNCTION,
	FAULT_WRONG_COUNT,
	FAULT_SHORT,
	FAULT_GARBAGE,
	FAULT_HALF,
	FAULT_SPLIT,
	FAULT_DUPLICATE,
	FAULT_REPLY_LOST,
	FAULT_SENTINEL,
	FAULT_NAN,
	FAULT_RELAY_IGNORE,
	FAULT_RELAY_SLOW,
	FAULT_STUCK,
	FAULT_ROLLOVER,
	FAULT_RESET
} SmFaultKind;

/* What one request meets: at most one fault of the wire, any of the others. */
typedef struct SmPlan
{
	SmFaultKind wire;
	int64_t argument;
	SmTwist twist;
} SmPlan;

extern bool fault_add(SmPort *port, int unit, char **tokens, int count, SmError *error);
extern bool fault_clear(SmPort *port, int unit, const char *name, SmError *error);
extern void fault_plan(SmPort *port, int unit, bool is_write, SmPlan *plan);
extern int fault_shape(const SmPlan *plan, uint8_t *adu, int length);

#endif
