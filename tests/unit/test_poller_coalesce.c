/*
 * test_poller_coalesce.c - which registers are asked for together, and what becomes of a request
 * that a meter refuses
 */
/* links: poller/coalesce.c poller/point.c poller/mbap.c poller/dlt645.c poller/dlt645_build.c */
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
	SmBlock parts[4];

	is(coalesce_blocks(points, 4, 125, 16, &block), 1, "one request");
	is(coalesce_split(points, &block, parts), 2, "is split");
	ok(parts[0].address == 0 && parts[0].count == 2 && parts[0].points == 2 &&
		   parts[1].address == 9 && parts[1].count == 5 && parts[1].points == 2,
	   "at its widest hole");
	block = parts[0];
	ok(coalesce_split(points, &block, parts) == 2 && parts[0].count == 1 && parts[1].address == 1,
	   "in the middle without a hole");
	block = parts[0];
	is(coalesce_split(points, &block, parts), 0, "one point is not split");
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
			SmBlock parts[POINTS_MAX];

			if (coalesce_split(points, &blocks[i], parts) == 0)
			{
				i++;
				continue;
			}
			memmove(&blocks[i + 1], &blocks[i], (size_t) (made - i) * sizeof(SmBlock));
			blocks[i] = parts[0];
			blocks[i + 1] = parts[1];
			made++;
		}
		split_good = split_good && made == count && sound(points, count, blocks, made, most);
	}
	ok(good, "2000 random maps: every point once, whole, within the limit");
	ok(split_good, "and split down to single points");
}

/* A meter of DL/T 645: three voltages of one block, the counter and the relay by themselves. */
static const SmTarget meter = {PROTOCOL_DLT645_2007, 0, {0x12, 0x90, 0x78, 0x56, 0x34, 0x12}};

static SmPoint
item(SmMetric metric, uint32_t di, SmPointType type, int bytes, int64_t times, int digits)
{
	SmPoint point = {.metric = metric,
					 .di = di,
					 .type = type,
					 .bytes = bytes,
					 .scale = {times, digits},
					 .bit_mask = 16,
					 .closed_value = 0,
					 .open_value = 16};

	return point;
}

static int
items(SmPoint *points)
{
	int i;

	points[0] = item(METRIC_V_C, 0x02010300, POINT_BCD, 2, 1, 1);
	points[1] = item(METRIC_RELAY, 0x04000503, POINT_BITS, 2, 1, 0);
	points[2] = item(METRIC_V_A, 0x02010100, POINT_BCD, 2, 1, 1);
	points[3] = item(METRIC_ENERGY_WH, 0x00000000, POINT_SBCD, 4, 10, 0);
	points[4] = item(METRIC_V_B, 0x02010200, POINT_BCD, 2, 1, 1);
	for (i = 0; i < 5; i += 2)
	{
		points[i].in_block = true;
		points[i].block_di = 0x0201FF00;
		points[i].block_offset = i == 2 ? 0 : i == 4 ? 2 : 4;
	}
	coalesce_sort(points, 5);
	return 5;
}

static void
test_items(void)
{
	SmPoint points[5];
	SmBlock blocks[5];
	SmBlock parts[5];
	SmRequest request;
	char key[COALESCE_KEY];
	int count = items(points);

	is(coalesce_blocks(points, count, 125, 16, blocks), 3, "three questions for five items");
	ok(blocks[0].di == 0 && blocks[1].di == 0x0201FF00 && blocks[1].is_block &&
		   blocks[1].points == 3 && blocks[2].di == 0x04000503,
	   "one of them a block");
	ok(coalesce_request(&meter, &blocks[1], &request) && request.control == 0x11 &&
		   request.length == 4 && memcmp(request.body, "\x00\xFF\x01\x02", 4) == 0,
	   "asked for by its identifier, low byte first");
	coalesce_key(&meter, &blocks[1], key);
	is_text(key, "0201FF00*", "named as a block");
	is(coalesce_split(points, &blocks[1], parts), 3, "refused, it falls into its items");
	ok(parts[2].di == 0x02010300 && !parts[2].is_block && parts[2].points == 1, "each by itself");
	coalesce_key(&meter, &parts[2], key);
	is_text(key, "02010300", "named by its identifier");
	is(coalesce_split(points, &parts[2], blocks), 0, "and into nothing smaller");
}

/* The values that the answer to one question holds. */
static SmTaken
take(const SmPoint *points, const SmBlock *block, const char *bytes, int length, SmValues *values)
{
	SmRequest request;
	SmTaken taken;

	memset(values, 0, sizeof(*values));
	coalesce_request(&meter, block, &request);
	coalesce_take(points, block, &request, (const uint8_t *) bytes, length, values, &taken);
	return taken;
}

static void
test_taking(void)
{
	SmPoint points[5];
	SmBlock blocks[5];
	SmValues values;
	SmTaken taken;

	coalesce_blocks(points, items(points), 125, 16, blocks);
	taken = take(points, &blocks[1], "\x01\x23\xFF\xFF\x99\x22", 6, &values);
	ok(taken.good == 2 && taken.nonsense == 0 && values.number[METRIC_V_A] == 230.1 &&
		   values.number[METRIC_V_C] == 229.9 && !point_has(&values, METRIC_V_B),
	   "an absent phase has no value");
	taken = take(points, &blocks[1], "\x01\x23\xAA\xFF\xFF\xAA\x99\x22\xAA", 9, &values);
	ok(taken.good == 2 && values.number[METRIC_V_C] == 229.9, "items closed by AAH each");
	taken = take(points, &blocks[1], "\x01\x23\xAA", 3, &values);
	ok(taken.good == 1 && taken.nonsense == 0, "a block of one phase, closed by AAH");
	taken = take(points, &blocks[1], "\x01\x23\x1A\x23\x99\x22", 6, &values);
	ok(taken.good == 2 && taken.nonsense == 1 && taken.first_wrong == METRIC_V_B,
	   "a half byte that is no digit spoils its value only");
	taken = take(points, &blocks[1], "\x01\x23\x01", 3, &values);
	ok(taken.good == 1 && taken.nonsense == 1, "half a value is none");
	taken = take(points, &blocks[0], "\x56\x34\x12\x80", 4, &values);
	ok(taken.energy && values.energy[METRIC_ENERGY_WH] == -1234560, "a sign, and Wh");
	taken = take(points, &blocks[0], "\x56\x34\x12\x00\x00", 5, &values);
	ok(!taken.energy && taken.nonsense == 1, "an item of another length is not what was meant");
	taken = take(points, &blocks[0], "\x56\x34\x12\x00\xAA", 5, &values);
	ok(taken.energy && values.energy[METRIC_ENERGY_WH] == 1234560, "but for AAH at its end");
	take(points, &blocks[2], "\x10\x00", 2, &values);
	ok(values.relay == RELAY_OPEN, "bit 4: open");
	take(points, &blocks[2], "\x4F\x00", 2, &values);
	ok(values.relay == RELAY_CLOSED, "other bits: closed");
	taken = take(points, &blocks[2], "\xFF\xFF", 2, &values);
	ok(taken.good == 0 && values.relay == RELAY_UNKNOWN, "all ones: not known");
}

int
main(void)
{
	test_items();
	test_taking();
	test_merging();
	test_overlap();
	test_splitting();
	test_random();
	return tap_done();
}
