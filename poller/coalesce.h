/*
 * coalesce.h - which registers and items are asked for together, and what the answers hold
 *
 * Pure: no I/O, no memory.
 */
#ifndef COALESCE_H
#define COALESCE_H

#include <stdbool.h>

#include "point.h"
#include "request.h"

#define COALESCE_KEY 24

/*
 * One question, for points[first .. first + points). Modbus: registers [address, address + count).
 * DL/T 645 (function 0): the identifier di, which is that of a block, or of the points themselves.
 */
typedef struct SmBlock
{
	int function;
	int address;
	int count;
	uint32_t di;
	bool is_block;
	int first;
	int points;
	bool refused; /* the meter said that it has no such thing */
} SmBlock;

/* What the answer to a question held. */
typedef struct SmTaken
{
	int good;             /* values */
	bool energy;          /* the counter was among them */
	int nonsense;         /* values that cannot be */
	SmMetric first_wrong; /* the first of these */
} SmTaken;

extern bool coalesce_same(const SmPoint *a, const SmPoint *b, const SmBlock *blocks_a,
						  const SmBlock *blocks_b, int points, int blocks);
extern void coalesce_sort(SmPoint *points, int count);
extern int coalesce_blocks(const SmPoint *points, int count, int max_registers, int max_gap,
						   SmBlock *blocks);
extern int coalesce_split(const SmPoint *points, const SmBlock *block, SmBlock *parts);
extern bool coalesce_request(const SmTarget *target, const SmBlock *block, SmRequest *request);
extern void coalesce_take(const SmPoint *points, const SmBlock *block, const SmRequest *request,
						  const uint8_t *data, int length, SmValues *values, SmTaken *taken);
extern void coalesce_key(const SmTarget *target, const SmBlock *block, char *key);

#endif
