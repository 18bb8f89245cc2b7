/*
 * spool_trim.c - making room in a full spool, with the least loss
 *
 * What a meter keeps itself is given up first: it can be fetched again (the gap shows in the
 * database and is asked for). Of every meter the last reading of each hour stays, so energy is
 * never lost, only when exactly it was used. When that is not enough the readings of other meters
 * are thinned, too, but keep the first and the last of the hour; then of four hours, then of a day.
 * Always from the oldest on, in pieces, and every reading that goes is counted in an event.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base.h"
#include "log.h"
#include "spool_inside.h"

#define TRIM_HOUR_MS INT64_C(3600000)

/* Which rows a level looks at, and of how much time it leaves one (kept) or two. */
typedef struct SmTrimLevel
{
	bool kept;
	int64_t bucket_ms;
} SmTrimLevel;

static const SmTrimLevel trim_levels[SPOOL_LEVELS] = {
	{true, TRIM_HOUR_MS},      {false, TRIM_HOUR_MS},     {true, 4 * TRIM_HOUR_MS},
	{false, 4 * TRIM_HOUR_MS}, {true, 24 * TRIM_HOUR_MS}, {false, 24 * TRIM_HOUR_MS},
};

/*
 * The number of the last row of the next piece, which is as much time as the level's bucket; 0 when
 * there are no more rows. Rows lie in the order in which they were read, so the end is found soon.
 */
static bool
trim_piece_end(SmSpool *spool, const SmTrimLevel *level, int64_t after, int64_t *end)
{
	int64_t limit = level->kept ? INT64_MAX : SPOOL_KEPT - 1;
	SmText sql = {0};
	bool good;

	text_printf(&sql,
				"WITH f AS (SELECT ts_ms / %" PRId64 " AS bucket FROM reading WHERE id > %" PRId64
				" AND id <= %" PRId64 " ORDER BY id LIMIT 1) SELECT coalesce((SELECT r.id - 1"
				" FROM reading r, f WHERE r.id > %" PRId64 " AND r.id <= %" PRId64
				" AND r.ts_ms / %" PRId64 " > f.bucket ORDER BY r.id LIMIT 1),"
				" (SELECT max(id) FROM reading WHERE id > %" PRId64 " AND id <= %" PRId64 "), 0)",
				level->bucket_ms, after, limit, after, limit, level->bucket_ms, after, limit);
	good = spool_number(spool, sql.data, end);
	text_free(&sql);
	return good;
}

/* Gives up what a level does not leave of the rows (after, end]; tells how many went. */
static bool
trim_piece(SmSpool *spool, const SmTrimLevel *level, int64_t after, int64_t end, int64_t *dropped)
{
	SmText sql = {0};
	bool good;

	text_printf(&sql,
				"CREATE TEMP TABLE IF NOT EXISTS doomed (id INTEGER PRIMARY KEY);"
				"DELETE FROM doomed; INSERT INTO doomed SELECT id FROM (SELECT id,"
				" row_number() OVER (PARTITION BY meter_id, ts_ms / %" PRId64
				" ORDER BY ts_ms DESC) AS last,"
				" row_number() OVER (PARTITION BY meter_id, ts_ms / %" PRId64
				" ORDER BY ts_ms) AS first FROM reading WHERE id > %" PRId64 " AND id <= %" PRId64
				") WHERE last > 1 AND first > %d;"
				"INSERT INTO event (kind, site_id, count, from_ms, to_ms, at_ms)"
				" SELECT 'dropped', site_id, count(*), min(ts_ms), max(ts_ms), %" PRId64
				" FROM reading WHERE id IN (SELECT id FROM doomed) GROUP BY site_id;"
				"DELETE FROM reading WHERE id IN (SELECT id FROM doomed)",
				level->bucket_ms, level->bucket_ms, after, end, level->kept ? 0 : 1,
				base_wall_ms());
	good = spool_run(spool, sql.data);
	*dropped = good ? sqlite3_changes(spool->db) : 0;
	text_free(&sql);
	return good;
}

/* One piece of one level, durably. */
static bool
trim_step(SmSpool *spool, int level, int64_t end, int64_t *dropped)
{
	if (!spool_begin(spool))
		return false;
	if (!trim_piece(spool, &trim_levels[level], spool->thinned_to[level], end, dropped))
	{
		spool_rollback(spool);
		return false;
	}
	spool->changed_count = -*dropped;
	if (!spool_commit(spool))
	{
		spool_rollback(spool);
		return false;
	}
	spool->thinned_to[level] = end;
	return true;
}

/*
 * Makes room until the spool holds nine tenths of what it may. False when that cannot be done, or
 * the spool does not work; *dropped is how many readings were given up.
 */
bool
spool_trim(SmSpool *spool, int64_t most_bytes, int64_t *dropped)
{
	int level;

	*dropped = 0;
	for (level = 0; level < SPOOL_LEVELS; level++)
	{
		int64_t end;
		int64_t gone;

		if (trim_levels[level].kept && spool->thinned_to[level] < SPOOL_KEPT)
			spool->thinned_to[level] = SPOOL_KEPT - 1;
		while (spool_bytes(spool) > most_bytes / 10 * 9)
		{
			if (!trim_piece_end(spool, &trim_levels[level], spool->thinned_to[level], &end))
				return false;
			if (end == 0)
				break;
			if (!trim_step(spool, level, end, &gone))
				return false;
			*dropped += gone;
		}
	}
	return spool_bytes(spool) <= most_bytes / 10 * 9;
}
