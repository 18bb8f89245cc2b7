/*
 * wall.c - what time it is, also while the clock of this machine jumps
 *
 * Stamps of readings come from a clock of our own: the machine's time as it was, plus what the
 * steady clock has counted since. Small corrections of the machine's clock are followed. When it
 * jumps, ours runs on, so readings keep their order and their distances, and the database says who
 * is right: the machine, we, or neither, and then the database's time holds. What waits in the
 * spool with a wrong time is put right before it is delivered.
 *
 * The first half of the file is pure. The second half is the one clock of the program; it belongs
 * to the loop's thread.
 */
#include <stdlib.h>

#include "base.h"
#include "wall.h"

#define WALL_JUMP_MS 2000
#define WALL_AGREE_MS 30000

static int64_t
wall_apart(int64_t a, int64_t b)
{
	return a > b ? a - b : b - a;
}

/* Our time; *jumped when the machine's clock has just been found to have jumped. */
int64_t
wall_read(SmWall *wall, int64_t host_ms, int64_t steady_ms, bool *jumped)
{
	int64_t host_offset_ms = host_ms - steady_ms;
	bool jump = wall->begun && wall_apart(host_offset_ms, wall->host_offset_ms) > WALL_JUMP_MS;

	*jumped = jump && !wall->doubtful;
	if (!wall->begun)
		wall->offset_ms = host_offset_ms;
	else if (!jump)
		wall->offset_ms += host_offset_ms - wall->host_offset_ms;
	if (!jump)
		wall->host_offset_ms = host_offset_ms;
	wall->begun = true;
	wall->doubtful = jump;
	return steady_ms + wall->offset_ms;
}

/* The database says what time it is. *shift_ms: by how much our time was wrong. */
SmWallVerdict
wall_judge(SmWall *wall, int64_t host_ms, int64_t steady_ms, int64_t database_ms, int64_t *shift_ms)
{
	int64_t host_offset_ms = host_ms - steady_ms;
	int64_t right_ms = database_ms - steady_ms;
	bool trusted = wall->trusted;

	if (wall_apart(host_offset_ms, right_ms) <= WALL_AGREE_MS)
		right_ms = host_offset_ms;
	else if (wall_apart(wall->offset_ms, right_ms) <= WALL_AGREE_MS)
		right_ms = wall->offset_ms;
	*shift_ms = right_ms - wall->offset_ms;
	wall->offset_ms = right_ms;
	wall->host_offset_ms = host_offset_ms;
	wall->doubtful = false;
	wall->trusted = true;
	if (wall_apart(*shift_ms, 0) <= WALL_JUMP_MS)
		return WALL_AGREES;
	return trusted ? WALL_MOVED_JUMP : WALL_MOVED_ALL;
}

static SmWall wall_clock;
static bool wall_jumped;

/* The stamp of this moment. */
int64_t
wall_now_ms(void)
{
	bool jumped;
	int64_t now_ms = wall_read(&wall_clock, base_wall_ms(), base_now_us() / US_PER_MS, &jumped);

	wall_jumped = wall_jumped || jumped;
	return now_ms;
}

/* Whether the machine's clock has jumped since this was asked last. */
bool
wall_has_jumped(void)
{
	bool jumped;

	wall_now_ms();
	jumped = wall_jumped;
	wall_jumped = false;
	return jumped;
}

bool
wall_is_doubtful(void)
{
	return wall_clock.doubtful;
}

/* Takes the database's time. */
SmWallVerdict
wall_ask(int64_t database_ms, int64_t *shift_ms)
{
	wall_now_ms();
	return wall_judge(&wall_clock, base_wall_ms(), base_now_us() / US_PER_MS, database_ms,
					  shift_ms);
}
