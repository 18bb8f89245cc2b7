/*
 * fault.c - faults on demand
 *
 * Three kinds of fault. Those of the wire damage, delay or swallow an answer; a request meets at
 * most one. Those of a value or the relay change what the answer says or what a command does. Those
 * of state (a stuck counter, a roll-over) live in the meter until they are cleared.
 */
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "meter.h"
#include "net.h"
#include "parse.h"

typedef enum SmFaultClass
{
	CLASS_WIRE,
	CLASS_TWIST,
	CLASS_STATE,
	CLASS_ONCE
} SmFaultClass;

typedef enum SmApplies
{
	APPLIES_ANY,
	APPLIES_READ,
	APPLIES_WRITE
} SmApplies;

typedef struct SmFaultName
{
	const char *name;
	SmFaultKind kind;
	SmFaultClass class;
	SmApplies applies;
	bool argument_needed;
	int64_t argument_most; /* 0 = takes no argument */
	int64_t argument_default;
} SmFaultName;

#define HOUR_MS 3600000
#define WH_MOST INT64_C(1000000000000)

static const SmFaultName fault_names[] = {
	{"silence", FAULT_SILENCE, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"drop", FAULT_DROP, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"exception", FAULT_EXCEPTION, CLASS_WIRE, APPLIES_ANY, true, 255, 0},
	{"delay", FAULT_DELAY, CLASS_WIRE, APPLIES_ANY, true, HOUR_MS, 0},
	{"late", FAULT_LATE, CLASS_WIRE, APPLIES_ANY, false, HOUR_MS, -1},
	{"wrong-unit", FAULT_WRONG_UNIT, CLASS_WIRE, APPLIES_ANY, false, 255, -1},
	{"wrong-transaction", FAULT_WRONG_TRANSACTION, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"wrong-function", FAULT_WRONG_FUNCTION, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"wrong-count", FAULT_WRONG_COUNT, CLASS_WIRE, APPLIES_READ, false, 0, 0},
	{"short", FAULT_SHORT, CLASS_WIRE, APPLIES_READ, false, 0, 0},
	{"garbage", FAULT_GARBAGE, CLASS_WIRE, APPLIES_ANY, false, ADU_MAX, 16},
	{"half", FAULT_HALF, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"split", FAULT_SPLIT, CLASS_WIRE, APPLIES_ANY, true, HOUR_MS, 0},
	{"duplicate", FAULT_DUPLICATE, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"repeat", FAULT_REPEAT, CLASS_WIRE, APPLIES_ANY, false, 100, 3},
	{"slow", FAULT_SLOW, CLASS_WIRE, APPLIES_ANY, true, 10000, 0},
	{"echo", FAULT_ECHO, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"tail", FAULT_TAIL, CLASS_WIRE, APPLIES_ANY, false, ADU_MAX, -1},
	{"other", FAULT_OTHER, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"preamble", FAULT_PREAMBLE, CLASS_WIRE, APPLIES_ANY, false, 2000, 500},
	{"bad-checksum", FAULT_BAD_CHECKSUM, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"wildcard", FAULT_WILDCARD, CLASS_WIRE, APPLIES_ANY, false, 0, 0},
	{"bcd", FAULT_BCD, CLASS_WIRE, APPLIES_READ, false, 0, 0},
	{"reply-lost", FAULT_REPLY_LOST, CLASS_WIRE, APPLIES_WRITE, false, 0, 0},
	{"sentinel", FAULT_SENTINEL, CLASS_TWIST, APPLIES_READ, false, 0, 0},
	{"nan", FAULT_NAN, CLASS_TWIST, APPLIES_READ, false, 0, 0},
	{"relay-ignore", FAULT_RELAY_IGNORE, CLASS_TWIST, APPLIES_WRITE, false, 0, 0},
	{"relay-slow", FAULT_RELAY_SLOW, CLASS_TWIST, APPLIES_WRITE, true, HOUR_MS, 0},
	{"stuck", FAULT_STUCK, CLASS_STATE, APPLIES_ANY, false, 0, 0},
	{"rollover", FAULT_ROLLOVER, CLASS_STATE, APPLIES_ANY, true, WH_MOST, 0},
	{"half-open", FAULT_HALF_OPEN, CLASS_STATE, APPLIES_ANY, false, 0, 0},
	{"reset", FAULT_RESET, CLASS_ONCE, APPLIES_ANY, false, WH_MOST, 0},
};

typedef struct SmFault
{
	struct SmFault *next;
	const SmFaultName *name;
	int unit;
	int64_t argument;
	int64_t left; /* requests still to be hit, -1 = until cleared */
} SmFault;

/* Finds a fault by name; NULL when there is none. */
static const SmFaultName *
fault_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(fault_names) / sizeof(fault_names[0]); i++)
		if (strcmp(fault_names[i].name, name) == 0)
			return &fault_names[i];
	return NULL;
}

/* Tells whether a fault concerns a unit. */
static bool
fault_hits(const SmFault *fault, int unit)
{
	return fault->unit == ANY_UNIT || fault->unit == unit;
}

/* Makes one meter's state agree with the faults that are on. */
static void
fault_refresh_meter(SmPort *port, SmMeter *meter)
{
	const SmFault *fault;

	meter_settle(meter, farm_mono_ns());
	meter->stuck = false;
	meter->modulus_mwh = meter->modulus_configured_mwh;
	for (fault = port->faults; fault != NULL; fault = fault->next)
	{
		if (!fault_hits(fault, meter->unit))
			continue;
		if (fault->name->kind == FAULT_STUCK)
			meter->stuck = true;
		if (fault->name->kind == FAULT_ROLLOVER)
			meter->modulus_mwh = fault->argument * 1000;
	}
}

/* Makes all meters of a port agree with the faults that are on. */
static void
fault_refresh(SmPort *port)
{
	const SmFault *fault;
	bool half_open = false;
	int i;

	for (i = 0; i < port->meter_count; i++)
		fault_refresh_meter(port, port->meters[i]);
	for (fault = port->faults; fault != NULL; fault = fault->next)
		half_open |= fault->name->kind == FAULT_HALF_OPEN;
	if (half_open != port->half_open)
		net_half_open(port, half_open);
}

/* Sets the counters of a port or unit to a value once. */
static void
fault_reset(SmPort *port, const SmFault *fault)
{
	int i;

	for (i = 0; i < port->meter_count; i++)
	{
		SmMeter *meter = port->meters[i];

		if (!fault_hits(fault, meter->unit))
			continue;
		meter_settle(meter, farm_mono_ns());
		meter->register_mwh = fault->argument * 1000;
	}
}

/* Reads "KIND [ARGUMENT] [count N]". */
static bool
fault_parse(SmFault *fault, char **tokens, int count, SmError *error)
{
	int at = 1;

	fault->name = count > 0 ? fault_find(tokens[0]) : NULL;
	if (fault->name == NULL)
		return farm_fail(error, "no such fault as \"%.60s\"", count > 0 ? tokens[0] : "");
	fault->argument = fault->name->argument_default;
	fault->left = -1;
	if (at < count && fault->name->argument_most > 0 && strcmp(tokens[at], "count") != 0)
	{
		if (!parse_integer(tokens[at++], 0, fault->name->argument_most, &fault->argument))
			return farm_fail(error, "the argument of %s is out of range", tokens[0]);
	}
	else if (fault->name->argument_needed)
		return farm_fail(error, "%s needs an argument", tokens[0]);
	if (at + 2 == count && strcmp(tokens[at], "count") == 0 &&
		(fault->name->class == CLASS_WIRE || fault->name->class == CLASS_TWIST) &&
		parse_integer(tokens[at + 1], 1, 1000000000, &fault->left))
		at += 2;
	return at == count || farm_fail(error, "cannot read \"%.60s\"", tokens[at]);
}

/* Switches a fault on for a port, or one unit of it. */
bool
fault_add(SmPort *port, int unit, char **tokens, int count, SmError *error)
{
	SmFault parsed = {0};
	SmFault **tail = &port->faults;
	SmFault *fault;

	parsed.unit = unit;
	if (!fault_parse(&parsed, tokens, count, error))
		return false;
	if (parsed.name->class == CLASS_ONCE)
	{
		fault_reset(port, &parsed);
		return true;
	}
	fault = farm_alloc(sizeof(SmFault));
	*fault = parsed;
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = fault;
	fault_refresh(port);
	return true;
}

/* Switches faults off: all of a port, those of a unit, those of a name (NULL = any). */
bool
fault_clear(SmPort *port, int unit, const char *name, SmError *error)
{
	SmFault **link = &port->faults;
	const SmFaultName *wanted = name == NULL ? NULL : fault_find(name);

	if (name != NULL && wanted == NULL)
		return farm_fail(error, "no such fault as \"%.60s\"", name);
	while (*link != NULL)
	{
		SmFault *fault = *link;

		if ((unit != ANY_UNIT && fault->unit != unit) || (wanted != NULL && fault->name != wanted))
		{
			link = &fault->next;
			continue;
		}
		*link = fault->next;
		free(fault);
	}
	fault_refresh(port);
	return true;
}

/* Adds one fault to what a request meets; false when it does not apply. */
static bool
fault_apply(const SmFault *fault, bool is_write, SmPlan *plan)
{
	SmApplies applies = fault->name->applies;

	if (applies != APPLIES_ANY && (applies == APPLIES_WRITE) != is_write)
		return false;
	if (fault->name->class == CLASS_WIRE)
	{
		if (plan->wire != FAULT_NONE)
			return false;
		plan->wire = fault->name->kind;
		plan->argument = fault->argument;
		return true;
	}
	plan->twist.sentinel |= fault->name->kind == FAULT_SENTINEL;
	plan->twist.nan |= fault->name->kind == FAULT_NAN;
	plan->twist.relay_ignored |= fault->name->kind == FAULT_RELAY_IGNORE;
	if (fault->name->kind == FAULT_RELAY_SLOW)
		plan->twist.relay_delay_ns = fault->argument * NS_PER_MS;
	return fault->name->class == CLASS_TWIST;
}

/* Collects what one request to a unit meets, and counts down the faults it used. */
void
fault_plan(SmPort *port, int unit, bool is_write, SmPlan *plan)
{
	SmFault **link = &port->faults;

	memset(plan, 0, sizeof(*plan));
	while (*link != NULL)
	{
		SmFault *fault = *link;

		if (fault_hits(fault, unit) && fault_apply(fault, is_write, plan) && fault->left > 0 &&
			--fault->left == 0)
		{
			*link = fault->next;
			free(fault);
			continue;
		}
		link = &fault->next;
	}
}

/* Fills an answer with bytes that are nothing, the same in every run. */
int
fault_garbage(uint8_t *bytes, int64_t length)
{
	uint32_t state = 12345;
	int i;

	for (i = 0; i < length; i++)
	{
		state = state * 1664525u + 1013904223u;
		bytes[i] = (uint8_t) (state >> 24);
	}
	return (int) length;
}

/* Takes the last register out of a read's answer, so that the frame looks whole. */
static int
fault_shorten(uint8_t *pdu, int length)
{
	if ((pdu[0] & 0x80) != 0 || pdu[1] < 2)
		return length;
	pdu[1] -= 2;
	return length - 2;
}

/* Makes a Modbus answer a wrong one in a right frame, as planned; returns its new length. */
int
fault_shape(const SmPlan *plan, uint8_t *unit, uint8_t *pdu, int length)
{
	switch (plan->wire)
	{
		case FAULT_WRONG_UNIT:
			*unit = (uint8_t) (plan->argument < 0 ? *unit + 1 : plan->argument);
			return length;
		case FAULT_WRONG_FUNCTION:
			pdu[0] ^= 0x07;
			return length;
		case FAULT_WRONG_COUNT:
			pdu[1] += 2;
			return length;
		case FAULT_SHORT:
			return fault_shorten(pdu, length);
		default:
			return length;
	}
}

/* Puts bytes in front of an answer, as far as there is room. */
void
fault_prepend(SmReply *reply, const uint8_t *bytes, int length)
{
	if (length <= 0 || reply->length + length > REPLY_MAX)
		return;
	memmove(reply->bytes + length, reply->bytes, (size_t) reply->length);
	memcpy(reply->bytes, bytes, (size_t) length);
	reply->length += length;
}

/*
 * Damages the bytes of an answer on a line as planned. "last" is the answer before this one; the
 * checksum lies checksum_back bytes before the end of the frame, 0 where there is none.
 */
void
fault_line(const SmPlan *plan, const uint8_t *last, int last_length, int checksum_back,
		   SmReply *reply)
{
	uint8_t flood[REPLY_MAX];
	int length = (int) plan->argument;

	switch (plan->wire)
	{
		case FAULT_GARBAGE:
			reply->length = fault_garbage(reply->bytes, plan->argument);
			break;
		case FAULT_HALF:
			reply->length /= 2;
			break;
		case FAULT_BAD_CHECKSUM:
			if (checksum_back > 0)
				reply->bytes[reply->length - checksum_back] ^= 0x55;
			break;
		case FAULT_ECHO:
			fault_prepend(reply, reply->request, reply->request_length);
			break;
		case FAULT_TAIL:
			length = length < 0 ? last_length / 2 : length;
			length = length < last_length ? length : last_length;
			fault_prepend(reply, last + last_length - length, length);
			break;
		case FAULT_PREAMBLE:
			memset(flood, 0xFE, sizeof(flood));
			fault_prepend(reply, flood, length);
			break;
		default:
			break;
	}
}
