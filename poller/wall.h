/*
 * wall.h - what time it is, also while the clock of this machine jumps
 */
#ifndef WALL_H
#define WALL_H

#include <stdbool.h>
#include <stdint.h>

/* A clock that runs on steadily; offsets are from the steady clock of the machine. */
typedef struct SmWall
{
	bool begun;
	bool doubtful; /* the machine's clock jumped, and nobody has said which time is right */
	bool trusted;  /* the database has once agreed, or was followed */
	int64_t offset_ms;
	int64_t host_offset_ms; /* of the machine's clock when it was last followed */
} SmWall;

/* What the database's clock did to ours. */
typedef enum SmWallVerdict
{
	WALL_AGREES,
	WALL_MOVED_JUMP, /* stamps since the jump are wrong by the shift */
	WALL_MOVED_ALL   /* all stamps of this run are */
} SmWallVerdict;

extern int64_t wall_read(SmWall *wall, int64_t host_ms, int64_t steady_ms, bool *jumped);
extern SmWallVerdict wall_judge(SmWall *wall, int64_t host_ms, int64_t steady_ms,
								int64_t database_ms, int64_t *shift_ms);

extern int64_t wall_now_ms(void);
extern bool wall_has_jumped(void);
extern bool wall_is_doubtful(void);
extern SmWallVerdict wall_ask(int64_t database_ms, int64_t *shift_ms);

#endif
