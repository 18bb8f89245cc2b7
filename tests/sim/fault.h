/* fault.h - faults on demand */
#ifndef FAULT_H
#define FAULT_H

#include "farm.h"
#include "wire.h"

#define REPLY_MAX 4096

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
	FAULT_REPEAT,
	FAULT_SLOW,
	FAULT_ECHO,
	FAULT_TAIL,
	FAULT_OTHER,
	FAULT_PREAMBLE,
	FAULT_BAD_CHECKSUM,
	FAULT_WILDCARD,
	FAULT_BCD,
	FAULT_REPLY_LOST,
	FAULT_SENTINEL,
	FAULT_NAN,
	FAULT_RELAY_IGNORE,
	FAULT_RELAY_SLOW,
	FAULT_STUCK,
	FAULT_ROLLOVER,
	FAULT_HALF_OPEN,
	FAULT_RESET
} SmFaultKind;

/* What one request meets: at most one fault of the wire, any of the others. */
typedef struct SmPlan
{
	SmFaultKind wire;
	int64_t argument;
	SmTwist twist;
} SmPlan;

/* An answer on its way, as bytes of the line. */
typedef struct SmReply
{
	const uint8_t *request; /* as it came */
	int request_length;
	int request_chars; /* what the request took on the line behind the port */
	int answer_chars;
	int length;
	uint8_t bytes[REPLY_MAX];
} SmReply;

extern bool fault_add(SmPort *port, int unit, char **tokens, int count, SmError *error);
extern bool fault_clear(SmPort *port, int unit, const char *name, SmError *error);
extern void fault_plan(SmPort *port, int unit, bool is_write, SmPlan *plan);
extern int fault_shape(const SmPlan *plan, uint8_t *unit, uint8_t *pdu, int length);
extern int fault_garbage(uint8_t *bytes, int64_t length);
extern void fault_prepend(SmReply *reply, const uint8_t *bytes, int length);
extern void fault_line(const SmPlan *plan, const uint8_t *last, int last_length, int checksum_back,
					   SmReply *reply);

#endif
