/*
 * coalesce.h - which registers are asked for together
 *
 * Pure: no I/O, no memory.
 */
#ifndef COALESCE_H
#define COALESCE_H

#include <stdbool.h>

#include "point.h"

/* One request: registers [address, address + count) hold points[first .. first + points). */
typedef struct SmBlock
{
	int function;
	int address;
	int count;
	int first;
	int points;
	bool refused; /* the meter said that it has no such registers */
} SmBlock;

extern void coalesce_sort(SmPoint *points, int count);
extern int coalesce_blocks(const SmPoint *points, int count, int max_registers, int max_gap,
						   SmBlock *blocks);
extern bool coalesce_split(const SmPoint *points, const SmBlock *block, SmBlock *left,
						   SmBlock *right);

#endif
