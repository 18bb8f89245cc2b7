/*
 * coalesce.c - which registers and items are asked for together, and what the answers hold
 *
 * A question costs a turn of the bus however short it is, so points that lie near one another are
 * read with one request, the registers between them included; items of DL/T 645 that stand in one
 * block are read with the block. Some meters refuse to read holes along: then the request is split
 * at its widest hole, again and again, until each part is taken. Some know no blocks: then each
 * item is asked for by itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coalesce.h"
#include "dlt645.h"
#include "mbap.h"

#define COALESCE_TERMINATOR 0xAA

static int
coalesce_end(const SmPoint *point)
{
	return point->address + point_words(point->type);
}

/* What is asked for when this item of DL/T 645 is wanted. */
static uint32_t
coalesce_asked(const SmPoint *point)
{
	return point->in_block ? point->block_di : point->di;
}

static int
coalesce_compare(const void *left, const void *right)
{
	const SmPoint *a = left;
	const SmPoint *b = right;

	if (a->function != b->function)
		return a->function - b->function;
	if (coalesce_asked(a) != coalesce_asked(b))
		return coalesce_asked(a) < coalesce_asked(b) ? -1 : 1;
	if (a->address != b->address)
		return a->address - b->address;
	return (int) a->metric - (int) b->metric;
}

/* Whether two maps of as many points and blocks are read in the same way. */
bool
coalesce_same(const SmPoint *a, const SmPoint *b, const SmBlock *blocks_a, const SmBlock *blocks_b,
			  int points, int blocks)
{
	bool same = true;
	int i;

	for (i = 0; i < points && same; i++)
		same = a[i].metric == b[i].metric && a[i].function == b[i].function &&
			   a[i].address == b[i].address && a[i].di == b[i].di &&
			   a[i].in_block == b[i].in_block && a[i].block_di == b[i].block_di &&
			   a[i].block_offset == b[i].block_offset && a[i].bytes == b[i].bytes &&
			   a[i].type == b[i].type;
	for (i = 0; i < blocks && same; i++)
		same = blocks_a[i].first == blocks_b[i].first && blocks_a[i].points == blocks_b[i].points;
	return same;
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
	SmBlock block = {0};
	int end = 0;
	int i;

	block.function = points[first].function;
	block.address = points[first].address;
	block.di = coalesce_asked(&points[first]);
	block.is_block = points[first].in_block;
	block.first = first;
	block.points = count;
	for (i = first; i < first + count; i++)
	{
		if (coalesce_end(&points[i]) > end)
			end = coalesce_end(&points[i]);
	}
	block.count = end - block.address;
	return block;
}

/* Whether a point can be asked for along with the block before it. */
static bool
coalesce_fits(const SmBlock *block, const SmPoint *point, int max_registers, int max_gap)
{
	if (block->function != point->function)
		return false;
	if (point->function == 0)
		return block->is_block == point->in_block && block->di == coalesce_asked(point);
	return point->address - (block->address + block->count) <= max_gap &&
		   coalesce_end(point) - block->address <= max_registers;
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

		if (last != NULL && coalesce_fits(last, &points[i], max_registers, max_gap))
			*last = coalesce_cover(points, last->first, last->points + 1);
		else
			blocks[made++] = coalesce_cover(points, i, 1);
	}
	return made;
}

/* Where the points of a block are cut in two: at the widest hole, or in the middle without one. */
static int
coalesce_cut(const SmPoint *points, const SmBlock *block)
{
	int cut = block->first + block->points / 2;
	int end = coalesce_end(&points[block->first]);
	int widest = 0;
	int i;

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
	return cut;
}

/*
 * Splits a refused block into parts, at most one per point; returns their number. 0: there is
 * nothing left to try.
 */
int
coalesce_split(const SmPoint *points, const SmBlock *block, SmBlock *parts)
{
	int cut;
	int i;

	if (block->function == 0)
	{
		for (i = 0; block->is_block && i < block->points; i++)
		{
			parts[i] = coalesce_cover(points, block->first + i, 1);
			parts[i].di = points[block->first + i].di;
			parts[i].is_block = false;
		}
		return i;
	}
	if (block->points < 2)
		return 0;
	cut = coalesce_cut(points, block);
	parts[0] = coalesce_cover(points, block->first, cut - block->first);
	parts[1] = coalesce_cover(points, cut, block->first + block->points - cut);
	return 2;
}

/* Builds the question for a block; false when it is an impossible one. */
bool
coalesce_request(const SmTarget *target, const SmBlock *block, SmRequest *request)
{
	if (target->protocol == PROTOCOL_MODBUS)
		return mbap_build_read(request, target->unit, block->function, block->address,
							   block->count);
	return dlt645_build_read(request, target, block->di);
}

/* How far apart the items of a block stand: some meters close each with AAH, which is no digit. */
static int
coalesce_step(int bytes, const uint8_t *data, int length)
{
	int i;

	if (length < bytes + 1 || length % (bytes + 1) != 0)
		return bytes;
	for (i = bytes; i < length; i += bytes + 1)
	{
		if (data[i] != COALESCE_TERMINATOR)
			return bytes;
	}
	return bytes + 1;
}

static SmPointState
coalesce_take_item(const SmPoint *point, bool is_block, const uint8_t *data, int length,
				   SmValues *values)
{
	int step = coalesce_step(point->bytes, data, length);
	int at = is_block ? point->block_offset : 0;

	if (!is_block && length != step)
		return POINT_NONSENSE; /* not what the model says this item is */
	at += at / point->bytes * (step - point->bytes);
	if (at >= length)
		return POINT_ABSENT; /* a block ends where the meter has no more phases or tariffs */
	return point_decode_item(point, data + at, length - at, values);
}

/* Takes the values out of a good answer; the data are what SmAnswer says. */
void
coalesce_take(const SmPoint *points, const SmBlock *block, const SmRequest *request,
			  const uint8_t *data, int length, SmValues *values, SmTaken *taken)
{
	uint16_t words[MBAP_READ_MAX];
	SmPointState state;
	int i;

	memset(taken, 0, sizeof(*taken));
	if (block->function != 0)
		mbap_words(request, data, words);
	for (i = block->first; i < block->first + block->points; i++)
	{
		const SmPoint *point = &points[i];

		if (block->function == 0)
			state = coalesce_take_item(point, block->is_block, data, length, values);
		else
			state = point_decode(point, words + point->address - block->address, values)
						? POINT_GOOD
						: POINT_ABSENT;
		taken->good += state == POINT_GOOD;
		if (state == POINT_GOOD && point->metric == METRIC_ENERGY_WH)
			taken->energy = true;
		if (state == POINT_NONSENSE && taken->nonsense++ == 0)
			taken->first_wrong = point->metric;
	}
}

/*
 * What names a question among those of a meter, over restarts, such as 0201FF00* (a block),
 * 02010100 or 3/4096/12; key has COALESCE_KEY bytes.
 */
void
coalesce_key(const SmTarget *target, const SmBlock *block, char *key)
{
	if (target->protocol == PROTOCOL_DLT645_2007)
		snprintf(key, COALESCE_KEY, "%08X%s", (unsigned) block->di, block->is_block ? "*" : "");
	else if (target->protocol == PROTOCOL_DLT645_1997)
		snprintf(key, COALESCE_KEY, "%04X%s", (unsigned) block->di & 0xFFFF,
				 block->is_block ? "*" : "");
	else
		snprintf(key, COALESCE_KEY, "%d/%d/%d", block->function & 0xFF, block->address & 0xFFFF,
				 block->count & 0xFFFF);
}
