/*
 * test_poller_wall.c - the clock of stamps: small corrections, jumps, and who is right
 */
/* links: poller/wall.c poller/base.c */
#include "../../poller/wall.h"
#include "test_poller_tap.h"

#define HOUR INT64_C(3600000)

static bool jumped;
static int64_t shift;

static void
test_follow(void)
{
	SmWall wall = {0};

	is(wall_read(&wall, 1000000, 500, &jumped), 1000000, "it begins with the machine's time");
	is(wall_read(&wall, 1001000, 1500, &jumped), 1001000, "a second passes on both");
	is(wall_read(&wall, 1001900, 2500, &jumped), 1001900, "the machine's clock is slowed");
	is(wall_read(&wall, 1004900, 3500, &jumped), 1004900, "and put forth by two seconds");
	ok(!jumped && !wall.doubtful, "all of that is followed");
}

static void
test_jump(void)
{
	SmWall wall = {0};

	wall_read(&wall, 10 * HOUR, 0, &jumped);
	is(wall_judge(&wall, 10 * HOUR, 0, 10 * HOUR + 5000, &shift), WALL_AGREES,
	   "the database agrees");
	is(wall_read(&wall, 13 * HOUR, 1000, &jumped), 10 * HOUR + 1000,
	   "a jump forth is not followed");
	ok(jumped && wall.doubtful, "but noticed");
	is(wall_read(&wall, 13 * HOUR + 1000, 2000, &jumped), 10 * HOUR + 2000, "ours runs on");
	ok(!jumped && wall.doubtful, "it is told once");
	is(wall_judge(&wall, 13 * HOUR + 1000, 2000, 10 * HOUR + 2500, &shift), WALL_AGREES,
	   "we were right");
	is(shift, 0, "nothing is moved");
	is(wall_read(&wall, 13 * HOUR + 2000, 3000, &jumped), 10 * HOUR + 3000, "we stay with it");
	ok(!jumped, "without a further word");
	is(wall_read(&wall, 8 * HOUR, 4000, &jumped), 10 * HOUR + 4000, "nor is a jump back followed");
	ok(jumped, "it is noticed");
	is(wall_judge(&wall, 8 * HOUR, 4000, 8 * HOUR + 10, &shift), WALL_MOVED_JUMP,
	   "now the machine is right: a pause that nothing counted");
	is(shift, -(2 * HOUR + 4000), "by so much the stamps since the jump are wrong");
	is(wall_read(&wall, 8 * HOUR + 1000, 5000, &jumped), 8 * HOUR + 1000, "its time holds");
	is(wall_judge(&wall, 8 * HOUR + 1000, 5000, 20 * HOUR, &shift), WALL_MOVED_JUMP,
	   "neither is right");
	is(wall_read(&wall, 8 * HOUR + 2000, 6000, &jumped), 20 * HOUR + 1000,
	   "then the database's time holds");
}

static void
test_start(void)
{
	SmWall wall = {0};

	wall_read(&wall, HOUR, 0, &jumped);
	wall_read(&wall, 100 * HOUR, 5000, &jumped);
	is(wall_judge(&wall, 100 * HOUR, 5000, 100 * HOUR + 20000, &shift), WALL_MOVED_ALL,
	   "a machine that did not know the time when it started");
	is(shift, 99 * HOUR - 5000, "all stamps of this run are wrong");
	ok(wall.trusted && !wall.doubtful, "from now on it is trusted");
}

int
main(void)
{
	test_follow();
	test_jump();
	test_start();
	return tap_done();
}
