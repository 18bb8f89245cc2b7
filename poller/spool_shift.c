/*
 * spool_shift.c - rows that were stamped by a wrong clock get the right time
 *
 * Only rows of this run are touched, and only what the poller stamped itself: what came from a
 * meter's memory has the meter's time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "spool_inside.h"

#define SHIFT_STAMP 24 /* 2026-11-22T14:30:00.000Z */

/* Remembers that what is added from now on may have a wrong stamp. */
void
spool_note_jump(SmSpool *spool)
{
	spool->jump_id = spool->next_id;
}

/* A row with another time in it: (meter_id,time,...; false when it is not written like that. */
static bool
shift_row(const char *row, int64_t ts_ms, SmText *shifted)
{
	const char *stamp = strchr(row, ',');
	const char *rest = stamp != NULL ? strchr(stamp + 1, ',') : NULL;
	size_t length = strlen(row);

	if (rest == NULL || rest - stamp - 1 != SHIFT_STAMP || length < 10 ||
		strcmp(row + length - 10, ",backfill)") == 0)
		return false;
	text_clear(shifted);
	text_printf(shifted, "%.*s", (int) (stamp - row + 1), row);
	text_add_time(shifted, ts_ms);
	text_add(shifted, rest);
	return true;
}

/* Shifts the rows that a query returns. */
static bool
shift_all(SmSpool *spool, sqlite3_stmt *found, sqlite3_stmt *change, int64_t shift_ms,
		  int64_t *count)
{
	SmText shifted = {0};
	bool good = true;
	int code = SQLITE_DONE;

	while (good && (code = sqlite3_step(found)) == SQLITE_ROW)
	{
		int64_t ts_ms = sqlite3_column_int64(found, 1) + shift_ms;

		if (!shift_row((const char *) sqlite3_column_text(found, 2), ts_ms, &shifted))
			continue;
		sqlite3_bind_int64(change, 1, ts_ms);
		sqlite3_bind_text(change, 2, shifted.data, -1, SQLITE_STATIC);
		sqlite3_bind_int64(change, 3, sqlite3_column_int64(found, 0));
		good = spool_good(spool, sqlite3_step(change));
		sqlite3_reset(change);
		(*count)++;
	}
	text_free(&shifted);
	return good && spool_good(spool, code);
}

/* Moves the stamps of this run, or of what came since the jump, by so much; tells how many. */
bool
spool_shift(SmSpool *spool, int64_t shift_ms, bool all, int64_t *count)
{
	sqlite3_stmt *found = NULL;
	sqlite3_stmt *change = NULL;
	int64_t from_id = all ? spool->first_id : spool->jump_id;
	bool good;

	*count = 0;
	good = spool_good(spool, sqlite3_prepare_v2(spool->db,
												"SELECT id, ts_ms, row FROM reading"
												" WHERE id >= ?1 AND id < ?2 OR id >= ?1 + ?2",
												-1, &found, NULL)) &&
		   spool_good(spool, sqlite3_prepare_v2(
								 spool->db, "UPDATE reading SET ts_ms = ?, row = ? WHERE id = ?",
								 -1, &change, NULL));
	if (good)
	{
		sqlite3_bind_int64(found, 1, from_id);
		sqlite3_bind_int64(found, 2, SPOOL_KEPT);
		good = shift_all(spool, found, change, shift_ms, count);
	}
	sqlite3_finalize(found);
	sqlite3_finalize(change);
	if (good && spool->last_ms + shift_ms > 0 && shift_ms > 0)
		spool->last_ms += shift_ms;
	return good;
}
