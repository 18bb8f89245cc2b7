/*
 * spool_salvage.c - what can still be read of a damaged spool goes into the new one
 *
 * Rows are read from the beginning until it hurts, then from the end until it hurts. They keep
 * their numbers, so that a row read both ways comes once. A row must look like one that we wrote:
 * what is doubtful is left in the file that was put aside. A reading that had been delivered
 * already may be among them; the database ignores it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "log.h"
#include "spool_inside.h"

#define SALVAGE_ROW_MOST 1024

/* Whether a text can be a row of ours: (meter_id,...) in plain characters without quotes. */
static bool
salvage_is_row(int64_t meter_id, const char *row)
{
	char begin[32];
	size_t length;
	size_t i;

	snprintf(begin, sizeof(begin), "(%" PRId64 ",", meter_id);
	if (row == NULL || strncmp(row, begin, strlen(begin)) != 0)
		return false;
	length = strlen(row);
	if (length > SALVAGE_ROW_MOST || row[length - 1] != ')')
		return false;
	for (i = 0; i < length; i++)
	{
		if (strchr("0123456789abcdefghijklmnopqrstuvwxyzTZE(),.:+-_", row[i]) == NULL)
			return false;
	}
	return true;
}

/* Saves the row that a query stands on; false when the new file does not take it. */
static bool
salvage_row(SmSpool *spool, sqlite3_stmt *found, sqlite3_stmt *save, int64_t *saved)
{
	int64_t meter_id = sqlite3_column_int64(found, 2);
	int64_t ts_ms = sqlite3_column_int64(found, 3);
	const char *row = (const char *) sqlite3_column_text(found, 4);
	int i;

	if (sqlite3_column_int64(found, 1) <= 0 || ts_ms <= 0 || !salvage_is_row(meter_id, row))
		return true;
	for (i = 0; i < 4; i++)
		sqlite3_bind_int64(save, i + 1, sqlite3_column_int64(found, i));
	sqlite3_bind_text(save, 5, row, -1, SQLITE_TRANSIENT);
	if (!spool_good(spool, sqlite3_step(save)))
		return false;
	*saved += sqlite3_changes(spool->db);
	sqlite3_reset(save);
	/* Stamps go on from the latest one, unless that is nonsense. */
	if (ts_ms > spool->last_ms && ts_ms <= base_wall_ms())
		spool->last_ms = ts_ms;
	return true;
}

/* Saves rows in one direction, as far as they can be read. */
static bool
salvage_walk(SmSpool *spool, sqlite3 *old, const char *sql, sqlite3_stmt *save, int64_t *saved)
{
	sqlite3_stmt *found = NULL;
	bool good = true;

	if (sqlite3_prepare_v2(old, sql, -1, &found, NULL) == SQLITE_OK)
	{
		while (good && sqlite3_step(found) == SQLITE_ROW)
			good = salvage_row(spool, found, save, saved);
	}
	sqlite3_finalize(found);
	return good;
}

/* Copies what can be read of the old file. */
static bool
salvage_copy(SmSpool *spool, sqlite3 *old, int64_t *saved)
{
	sqlite3_stmt *save = NULL;
	bool good =
		spool_good(spool, sqlite3_prepare_v2(spool->db,
											 "INSERT OR IGNORE INTO reading (id, site_id, meter_id,"
											 " ts_ms, row) VALUES (?, ?, ?, ?, ?)",
											 -1, &save, NULL));

	good = good &&
		   salvage_walk(spool, old,
						"SELECT id, site_id, meter_id, ts_ms, row FROM reading ORDER BY id", save,
						saved) &&
		   salvage_walk(spool, old,
						"SELECT id, site_id, meter_id, ts_ms, row FROM reading ORDER BY id DESC",
						save, saved);
	sqlite3_finalize(save);
	return good;
}

/* Notes how it went, where people will see it. */
static bool
salvage_tell(SmSpool *spool, const char *path, int64_t saved)
{
	const char *name = strrchr(path, '/');
	SmSpoolEvent event = {.kind = "damaged", .count = saved};

	snprintf(event.detail, sizeof(event.detail),
			 "the file was damaged and is kept as %s; %" PRId64 " readings of it were saved",
			 name != NULL ? name + 1 : path, saved);
	log_error("spool: %s", event.detail);
	return spool_add_event(spool, &event);
}

/* Saves what can be read of a file that was put aside; false when the new file does not work. */
bool
spool_salvage(SmSpool *spool, const char *path)
{
	sqlite3 *old = NULL;
	int64_t saved = 0;
	bool good = spool_begin(spool);

	if (good &&
		sqlite3_open_v2(path, &old, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK)
		good = salvage_copy(spool, old, &saved);
	sqlite3_close(old);
	good = good && salvage_tell(spool, path, saved);
	spool->changed_count = saved;
	if (good && spool_commit(spool))
		return true;
	spool_rollback(spool);
	return false;
}
