/*
 * coalesce.c - which registers are asked for together
 *
 * A request costs a turn of the bus however short it is, so points that lie near one another are
 * read with one request, the registers between them included. Some meters refuse to read holes
 * along; then the request is split at its widest hole, again and again, until each part is taken.
 */
#include <stdlib.h>

#include "coalesce.h"

static int
coalesce_end(const SmPoint *point)
{
	return point->address + point_words(point->type);
}

static int
coalesce_compare(const void *left, const void *right)
{
	const SmPoint *a = left;
	const SmPoint *b = right;

	if (a->function != b->function)
		return a->function - b->function;
	if (a->address != b->address)
		return a->address - b->address;
	return (int) a->metric - (int) b->metric;
}

/* Puts points into the order that the other functions expect. */
void
coalesce_sort(SmPoint *points, int count)
{
	qsort(points, (size_t) count, sizeof(SmPoint), coalesce_compare);
}

/* The block that holds exactly these points. */
static SmBlock
coalesce_cover(const SmPoint *points, int first, int count)
{
	SmBlock block = {points[first].function, points[first].address, 0, first, count, false};
	int end = 0;
	int i;

	for (i = first; i < first + count; i++)
	{
		if (coalesce_end(&points[i]) > end)
			end = coalesce_end(&points[i]);
	}
	block.count = end - block.address;
	return block;
}

/* Makes the blocks of sorted points; there is room for one per point. Returns their number. */
int
coalesce_blocks(const SmPoint *points, int count, int max_registers, int max_gap, SmBlock *blocks)
{
	int made = 0;
	int i;

	for (i = 0; i < count; i++)
	{
		SmBlock *last = made > 0 ? &blocks[made - 1] : NULL;

		if (last != NULL && last->function == points[i].function &&
			points[i].address - (last->address + last->count) <= max_gap &&
			coalesce_end(&points[i]) - last->address <= max_registers)
			*last = coalesce_cover(points, last->first, last->points + 1);
		else
			blocks[made++] = coalesce_cover(points, i, 1);
	}
	return made;
}

/*
 * Splits a refused block at its widest hole, or in the middle when it has none. False for a block
 * of one point: there is nothing left to try.
 */
bool
coalesce_split(const SmPoint *points, const SmBlock *block, SmBlock *left, SmBlock *right)
{
	int cut = block->first + block->points / 2;
	int end = coalesce_end(&points[block->first]);
	int widest = 0;
	int i;

	if (block->points < 2)
		return false;
	for (i = block->first + 1; i < block->first + block->points; i++)
	{
		if (points[i].address - end > widest)
		{
			widest = points[i].address - end;
			cut = i;
		}
		if (coalesce_end(&points[i]) > end)
			end = coalesce_end(&points[i]);
	}
	*left = coalesce_cover(points, block->first, cut - block->first);
	*right = coalesce_cover(points, cut, block->first + block->points - cut);
	return true;
}
