/*
 * test_poller_coalesce.c - which registers are asked for together, and what becomes of a request
 * that a meter refuses
 */
/* links: poller/coalesce.c poller/point.c */
/* libs: -lm */
#include <stdlib.h>

#include "../../poller/coalesce.h"
#include "test_poller_tap.h"

#define POINTS_MAX 32

static SmPoint
at(int function, int address, SmPointType type)
{
	SmPoint point = {.function = function, .address = address, .type = type};

	return point;
}

/* Whether the blocks hold every point exactly once and whole, within the limits. */
static bool
sound(const SmPoint *points, int count, const SmBlock *blocks, int made, int most)
{
	int next = 0;
	int i;
	int j;

	for (i = 0; i < made; i++)
	{
		if (blocks[i].first != next || blocks[i].points < 1 || blocks[i].count > most)
			return false;
		for (j = next; j < next + blocks[i].points; j++)
		{
			if (points[j].function != blocks[i].function || points[j].address < blocks[i].address ||
				points[j].address + point_words(points[j].type) >
					blocks[i].address + blocks[i].count)
				return false;
		}
		next += blocks[i].points;
	}
	return next == count;
}

static void
test_merging(void)
{
	SmPoint points[] = {at(4, 0x48, POINT_F32BE), at(4, 0, POINT_F32BE), at(4, 6, POINT_F32BE),
						at(3, 0, POINT_U16), at(4, 12, POINT_F32BE)};
	SmBlock blocks[5];
	int made;

	coalesce_sort(points, 5);
	made = coalesce_blocks(points, 5, 80, 16, blocks);
	is(made, 3, "two functions, and one hole too wide");
	ok(blocks[0].function == 3 && blocks[0].count == 1, "function 3 alone");
	ok(blocks[1].address == 0 && blocks[1].count == 14 && blocks[1].points == 3,
	   "small holes are read along");
	ok(blocks[2].address == 0x48 && blocks[2].count == 2, "a wide one is not");
	is(coalesce_blocks(points, 5, 80, 124, blocks), 2, "unless the model allows it");
	is(coalesce_blocks(points, 5, 6, 124, blocks), 5, "no request is longer than the model takes");
	is(coalesce_blocks(points, 5, 80, 0, blocks), 5, "without holes each has its own request");
}

static void
test_overlap(void)
{
	SmPoint points[] = {at(3, 10, POINT_U64BE), at(3, 10, POINT_U16), at(3, 11, POINT_U16),
						at(3, 14, POINT_U16)};
	SmBlock blocks[4];

	coalesce_sort(points, 4);
	is(coalesce_blocks(points, 4, 125, 0, blocks), 1, "points may share registers");
	ok(blocks[0].address == 10 && blocks[0].count == 5, "the longest counts");
}

static void
test_splitting(void)
{
	SmPoint points[] = {at(3, 0, POINT_U16), at(3, 1, POINT_U16), at(3, 9, POINT_U16),
						at(3, 12, POINT_U32BE)};
	SmBlock block;
	SmBlock left;
	SmBlock right;

	is(coalesce_blocks(points, 4, 125, 16, &block), 1, "one request");
	ok(coalesce_split(points, &block, &left, &right), "is split");
	ok(left.address == 0 && left.count == 2 && left.points == 2 && right.address == 9 &&
		   right.count == 5 && right.points == 2,
	   "at its widest hole");
	ok(coalesce_split(points, &left, &left, &right) && left.count == 1 && right.address == 1,
	   "in the middle without a hole");
	ok(!coalesce_split(points, &left, &left, &right), "one point is not split");
}

/* Random maps: every block is sound, and splitting ends with single points and loses none. */
static void
test_random(void)
{
	SmPoint points[POINTS_MAX];
	SmBlock blocks[POINTS_MAX * 2];
	bool good = true;
	bool split_good = true;
	int turn;
	int i;

	srand(7);
	for (turn = 0; turn < 2000; turn++)
	{
		int count = 1 + rand() % POINTS_MAX;
		int most = 4 + rand() % 122;
		int made;

		for (i = 0; i < count; i++)
		{
			points[i] = at(3 + rand() % 2, rand() % 400, (SmPointType) (rand() % POINT_BIT));
			points[i].metric = (SmMetric) (i % METRIC_COUNT);
		}
		coalesce_sort(points, count);
		made = coalesce_blocks(points, count, most, rand() % 20, blocks);
		good = good && sound(points, count, blocks, made, most);
		for (i = 0; i < made;)
		{
			SmBlock left;
			SmBlock right;

			if (!coalesce_split(points, &blocks[i], &left, &right))
			{
				i++;
				continue;
			}
			memmove(&blocks[i + 1], &blocks[i], (size_t) (made - i) * sizeof(SmBlock));
			blocks[i] = left;
			blocks[i + 1] = right;
			made++;
		}
		split_good = split_good && made == count && sound(points, count, blocks, made, most);
	}
	ok(good, "2000 random maps: every point once, whole, within the limit");
	ok(split_good, "and split down to single points");
}

int
main(void)
{
	test_merging();
	test_overlap();
	test_splitting();
	test_random();
	return tap_done();
}
