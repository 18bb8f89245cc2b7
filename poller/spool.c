/*
 * spool.c - readings on disk until the database has them
 *
 * One SQLite file in WAL mode with synchronous=FULL: what a commit has returned for survives a
 * power cut. A file that turns out to be damaged is put aside under another name, never deleted,
 * and a new one is begun, because a poller that does not start collects nothing at all.
 *
 * Locking: a spool belongs to one process (a lock on DIR/lock, held until the process ends) and
 * inside it to one thread at a time: to the main thread until the writer's thread is started.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "log.h"
#include "spool_inside.h"

#define SPOOL_VERSION 1

static const char spool_schema[] =
	"CREATE TABLE IF NOT EXISTS reading (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" site_id INTEGER NOT NULL, meter_id INTEGER NOT NULL, ts_ms INTEGER NOT NULL,"
	" row TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS rejected (id INTEGER PRIMARY KEY, site_id INTEGER NOT NULL,"
	" meter_id INTEGER NOT NULL, ts_ms INTEGER NOT NULL, row TEXT NOT NULL,"
	" sqlstate TEXT NOT NULL, message TEXT NOT NULL,"
	" rejected_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);"
	"CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
	" site_id INTEGER, count INTEGER NOT NULL, from_ms INTEGER, to_ms INTEGER,"
	" at_ms INTEGER NOT NULL, detail TEXT);"
	"CREATE TABLE IF NOT EXISTS mark (one INTEGER PRIMARY KEY CHECK (one = 1),"
	" last_ms INTEGER NOT NULL);"
	"INSERT OR IGNORE INTO mark VALUES (1, 0);";

/* Notes whether a result means that the file itself is broken; true when all is well. */
bool
spool_good(SmSpool *spool, int code)
{
	code &= 0xff;
	if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		spool->damaged = true;
	return code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW;
}

bool
spool_run(SmSpool *spool, const char *sql)
{
	return spool_good(spool, sqlite3_exec(spool->db, sql, NULL, NULL, NULL));
}

/* Runs a prepared statement whose parameters are bound, and makes it ready for the next time. */
static bool
spool_step(SmSpool *spool, sqlite3_stmt *statement)
{
	bool good = spool_good(spool, sqlite3_step(statement));

	sqlite3_reset(statement);
	return good;
}

/* The single number that a query returns. */
bool
spool_number(SmSpool *spool, const char *sql, int64_t *number)
{
	sqlite3_stmt *statement = NULL;
	bool good = spool_good(spool, sqlite3_prepare_v2(spool->db, sql, -1, &statement, NULL));

	if (good)
	{
		int code = sqlite3_step(statement);

		good = spool_good(spool, code) && code == SQLITE_ROW;
		if (good)
			*number = sqlite3_column_int64(statement, 0);
	}
	sqlite3_finalize(statement);
	return good;
}

static bool
spool_check_file(SmSpool *spool)
{
	sqlite3_stmt *statement = NULL;
	bool sound = false;

	if (spool_good(spool,
				   sqlite3_prepare_v2(spool->db, "PRAGMA quick_check(1)", -1, &statement, NULL)) &&
		spool_good(spool, sqlite3_step(statement)))
	{
		const unsigned char *answer = sqlite3_column_text(statement, 0);

		sound = answer != NULL && strcmp((const char *) answer, "ok") == 0;
		spool->damaged = spool->damaged || !sound;
	}
	sqlite3_finalize(statement);
	return sound;
}

static bool
spool_prepare(SmSpool *spool, const char *sql, sqlite3_stmt **statement)
{
	return spool_good(
		spool, sqlite3_prepare_v3(spool->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL));
}

static bool
spool_prepare_all(SmSpool *spool)
{
	return spool_prepare(spool,
						 "INSERT INTO reading (id, site_id, meter_id, ts_ms, row)"
						 " VALUES (?, ?, ?, ?, ?)",
						 &spool->add) &&
		   spool_prepare(spool, "DELETE FROM reading WHERE id = ?", &spool->remove) &&
		   spool_prepare(spool,
						 "INSERT OR REPLACE INTO rejected (id, site_id, meter_id, ts_ms, row,"
						 " sqlstate, message)"
						 " SELECT id, site_id, meter_id, ts_ms, row, ?, ? FROM reading"
						 " WHERE id = ?",
						 &spool->reject) &&
		   spool_prepare(spool, "UPDATE mark SET last_ms = ?", &spool->mark);
}

/* Makes the tables where they are missing. An event must never have the number of an older one. */
static bool
spool_furnish(SmSpool *spool)
{
	SmText sql = {0};
	bool good;

	text_printf(&sql,
				"%s INSERT INTO sqlite_sequence SELECT 'event', %" PRId64
				" WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'event');"
				" PRAGMA user_version = %d",
				spool_schema, base_wall_ms() * 1000, SPOOL_VERSION);
	good = spool_run(spool, sql.data);
	text_free(&sql);
	return good;
}

/*
 * The number of the next row. They begin at the time: a delivery under way when a damaged file was
 * put aside must not remove rows of the new one.
 */
static bool
spool_find_next_id(SmSpool *spool)
{
	SmText sql = {0};
	int64_t last = 0;
	bool good;

	text_printf(&sql,
				"SELECT max(coalesce((SELECT max(id) FROM reading WHERE id < %" PRId64 "), 0),"
				" coalesce((SELECT max(id) - %" PRId64 " FROM reading WHERE id >= %" PRId64 "), 0),"
				" coalesce((SELECT max(id %% %" PRId64 ") FROM rejected), 0))",
				SPOOL_KEPT, SPOOL_KEPT, SPOOL_KEPT, SPOOL_KEPT);
	good = spool_number(spool, sql.data, &last);
	text_free(&sql);
	if (spool->next_id < base_wall_ms() * 1000)
		spool->next_id = base_wall_ms() * 1000;
	if (spool->next_id <= last)
		spool->next_id = last + 1;
	return good;
}

/* Reads how things stand in the file. */
static bool
spool_take_stock(SmSpool *spool)
{
	if (!spool_number(spool, "SELECT count(*) FROM reading", &spool->count) ||
		!spool_number(spool, "SELECT count(*) FROM rejected", &spool->rejected) ||
		!spool_number(spool, "SELECT last_ms FROM mark", &spool->marked_ms))
		return false;
	if (spool->last_ms < spool->marked_ms)
		spool->last_ms = spool->marked_ms;
	return true;
}

/* Opens the file that path names and makes it ready; false when that does not work. */
static bool
spool_open_file(SmSpool *spool)
{
	int64_t version = 0;

	if (!spool_good(
			spool, sqlite3_open_v2(spool->path, &spool->db,
								   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
								   NULL)))
		return false;
	sqlite3_busy_timeout(spool->db, 5000);
	if (!spool_run(spool, "PRAGMA journal_mode = WAL") ||
		!spool_run(spool, "PRAGMA synchronous = FULL") || !spool_check_file(spool) ||
		!spool_number(spool, "PRAGMA user_version", &version))
		return false;
	if (version > SPOOL_VERSION)
	{
		log_error("spool \"%s\" is of a newer version than this program", spool->path);
		return false;
	}
	memset(spool->thinned_to, 0, sizeof(spool->thinned_to));
	return spool_furnish(spool) && spool_prepare_all(spool) && spool_take_stock(spool) &&
		   spool_find_next_id(spool);
}

static void
spool_close_file(SmSpool *spool)
{
	sqlite3_finalize(spool->add);
	sqlite3_finalize(spool->remove);
	sqlite3_finalize(spool->reject);
	sqlite3_finalize(spool->mark);
	spool->add = spool->remove = spool->reject = spool->mark = NULL;
	sqlite3_close(spool->db);
	spool->db = NULL;
}

/*
 * Gives the damaged file and its companions another name. Returns that of the file, the caller's to
 * free; NULL when it could not be moved.
 */
static char *
spool_put_aside(SmSpool *spool)
{
	static const char *const tails[] = {"-wal", "-shm", ""};
	int64_t now_ms = base_wall_ms();
	SmText name = {0};
	bool good = true;
	size_t i;

	text_printf(&name, "%s/damaged-%" PRId64 ".db", spool->directory, now_ms);
	for (i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
	{
		SmText from = {0};
		SmText to = {0};

		text_printf(&from, "%s%s", spool->path, tails[i]);
		text_printf(&to, "%s%s", name.data, tails[i]);
		if (rename(from.data, to.data) != 0 && errno != ENOENT)
		{
			log_error("could not rename \"%s\": %s", from.data, strerror(errno));
			good = false;
		}
		text_free(&from);
		text_free(&to);
	}
	if (good)
	{
		log_error("the spool is damaged; its file is kept as \"%s\" and a new one is begun",
				  name.data);
		return name.data;
	}
	text_free(&name);
	return NULL;
}

/* Puts the damaged file aside, begins a new one and saves into it what can be read of the old. */
static bool
spool_begin_anew(SmSpool *spool)
{
	char *aside = spool_put_aside(spool);
	bool good = aside != NULL;

	spool->damaged = false;
	good =
		good && spool_open_file(spool) && spool_salvage(spool, aside) && spool_find_next_id(spool);
	free(aside);
	return good;
}

/* Closes the file and opens it again, putting it aside first when it is damaged. */
bool
spool_reopen(SmSpool *spool)
{
	spool_close_file(spool);
	if (spool->damaged)
		return spool_begin_anew(spool);
	if (spool_open_file(spool))
		return true;
	if (!spool->damaged)
		return false;
	spool_close_file(spool);
	return spool_begin_anew(spool);
}

/* Makes the directory where it is missing and takes its lock. */
static bool
spool_lock(SmSpool *spool, char *why, int why_size)
{
	SmText path = {0};

	if (mkdir(spool->directory, 0700) != 0 && errno != EEXIST)
	{
		snprintf(why, (size_t) why_size, "could not create directory \"%s\": %s", spool->directory,
				 strerror(errno));
		return false;
	}
	text_printf(&path, "%s/lock", spool->directory);
	spool->lock_fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (spool->lock_fd < 0)
		snprintf(why, (size_t) why_size, "could not open \"%s\": %s", path.data, strerror(errno));
	else if (flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0)
	{
		snprintf(why, (size_t) why_size, "spool \"%s\" is in use by another poller",
				 spool->directory);
		close(spool->lock_fd);
		spool->lock_fd = -1;
	}
	text_free(&path);
	return spool->lock_fd >= 0;
}

/* Opens the spool of a directory; NULL and why when it cannot be. Freed by spool_close(). */
SmSpool *
spool_open(const char *directory, char *why, int why_size)
{
	SmSpool *spool = base_alloc(sizeof(SmSpool));
	SmText path = {0};

	spool->directory = base_copy(directory);
	text_printf(&path, "%s/spool.db", directory);
	spool->path = path.data;
	spool->lock_fd = -1;
	if (!spool_lock(spool, why, why_size))
	{
		spool_close(spool);
		return NULL;
	}
	if (!spool_reopen(spool))
	{
		snprintf(why, (size_t) why_size, "could not open spool \"%s\": %s", spool->path,
				 spool_error(spool));
		spool_close(spool);
		return NULL;
	}
	spool->first_id = spool->jump_id = spool->next_id;
	return spool;
}

void
spool_close(SmSpool *spool)
{
	spool_close_file(spool);
	if (spool->lock_fd >= 0)
		close(spool->lock_fd);
	free(spool->directory);
	free(spool->path);
	free(spool);
}

bool
spool_begin(SmSpool *spool)
{
	spool->changed_count = 0;
	spool->changed_rejected = 0;
	return spool_run(spool, "BEGIN IMMEDIATE");
}

/* Makes everything since spool_begin() durable. */
bool
spool_commit(SmSpool *spool)
{
	if (spool->last_ms > spool->marked_ms)
	{
		sqlite3_bind_int64(spool->mark, 1, spool->last_ms);
		if (!spool_step(spool, spool->mark))
			return false;
	}
	if (!spool_run(spool, "COMMIT"))
		return false;
	spool->marked_ms = spool->last_ms;
	spool->count += spool->changed_count;
	spool->rejected += spool->changed_rejected;
	return true;
}

void
spool_rollback(SmSpool *spool)
{
	if (spool->db != NULL && !sqlite3_get_autocommit(spool->db))
		sqlite3_exec(spool->db, "ROLLBACK", NULL, NULL, NULL);
}

bool
spool_add(SmSpool *spool, const SmSpoolRow *row)
{
	sqlite3_bind_int64(spool->add, 1, spool->next_id + (row->kept ? SPOOL_KEPT : 0));
	sqlite3_bind_int(spool->add, 2, row->site_id);
	sqlite3_bind_int64(spool->add, 3, row->meter_id);
	sqlite3_bind_int64(spool->add, 4, row->ts_ms);
	sqlite3_bind_text(spool->add, 5, row->row, -1, SQLITE_STATIC);
	if (!spool_step(spool, spool->add))
		return false;
	spool->next_id++;
	spool->changed_count++;
	if (row->ts_ms > spool->last_ms)
		spool->last_ms = row->ts_ms;
	return true;
}

bool
spool_remove(SmSpool *spool, int64_t id)
{
	sqlite3_bind_int64(spool->remove, 1, id);
	if (!spool_step(spool, spool->remove))
		return false;
	spool->changed_count -= sqlite3_changes(spool->db);
	return true;
}

/* Moves a row to the table of those that the database refused for good. */
bool
spool_reject(SmSpool *spool, const SmSpoolReject *reject)
{
	sqlite3_bind_text(spool->reject, 1, reject->sqlstate, -1, SQLITE_STATIC);
	sqlite3_bind_text(spool->reject, 2, reject->message, -1, SQLITE_STATIC);
	sqlite3_bind_int64(spool->reject, 3, reject->id);
	if (!spool_step(spool, spool->reject))
		return false;
	spool->changed_rejected += sqlite3_changes(spool->db);
	return spool_remove(spool, reject->id);
}

/* Puts all rejected rows back to wait; tells how many. */
bool
spool_retry_rejected(SmSpool *spool, int64_t *count)
{
	SmText sql = {0};
	bool good;

	*count = spool->rejected;
	text_printf(&sql,
				"BEGIN IMMEDIATE; INSERT INTO reading (id, site_id, meter_id, ts_ms, row)"
				" SELECT %" PRId64
				" + row_number() OVER (ORDER BY id), site_id, meter_id, ts_ms, row"
				" FROM rejected; DELETE FROM rejected; COMMIT",
				spool->next_id);
	good = spool_run(spool, sql.data);
	text_free(&sql);
	if (!good)
	{
		spool_rollback(spool);
		return false;
	}
	spool->next_id += spool->rejected + 1;
	spool->count += spool->rejected;
	spool->rejected = 0;
	return true;
}

/* The oldest row of one kind that may be delivered; 0 when there is none. */
static bool
spool_find_oldest(SmSpool *spool, const char *skip, int64_t from_id, int64_t *id, int *site_id)
{
	sqlite3_stmt *statement = NULL;
	SmText sql = {0};
	int code;

	*id = 0;
	text_printf(&sql,
				"SELECT id, site_id FROM reading WHERE id >= %" PRId64 " AND id < %" PRId64
				" AND site_id NOT IN %s ORDER BY id LIMIT 1",
				from_id, from_id + SPOOL_KEPT - 1, skip);
	code = sqlite3_prepare_v2(spool->db, sql.data, -1, &statement, NULL);
	if (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW)
	{
		*id = sqlite3_column_int64(statement, 0);
		*site_id = sqlite3_column_int(statement, 1);
	}
	sqlite3_finalize(statement);
	text_free(&sql);
	return spool_good(spool, code);
}

/* Fetches rows of a site from the one with this number on, of its kind; -1 on failure. */
static int
spool_fetch_from(SmSpool *spool, int site_id, int64_t id, SmSpoolRow *rows, int limit)
{
	sqlite3_stmt *statement = NULL;
	SmText sql = {0};
	int count = 0;
	int code;

	text_printf(&sql,
				"SELECT id, site_id, meter_id, ts_ms, row FROM reading WHERE id >= %" PRId64
				" AND id < %" PRId64 " AND site_id = %d ORDER BY id LIMIT %d",
				id, id < SPOOL_KEPT ? SPOOL_KEPT : INT64_MAX, site_id, limit);
	code = sqlite3_prepare_v2(spool->db, sql.data, -1, &statement, NULL);
	if (code == SQLITE_OK)
	{
		while ((code = sqlite3_step(statement)) == SQLITE_ROW && count < limit)
		{
			rows[count].id = sqlite3_column_int64(statement, 0);
			rows[count].site_id = sqlite3_column_int(statement, 1);
			rows[count].meter_id = sqlite3_column_int64(statement, 2);
			rows[count].ts_ms = sqlite3_column_int64(statement, 3);
			rows[count].kept = rows[count].id >= SPOOL_KEPT;
			rows[count++].row = base_copy((const char *) sqlite3_column_text(statement, 4));
		}
	}
	if (!spool_good(spool, code))
	{
		spool_free_rows(rows, count);
		count = -1;
	}
	sqlite3_finalize(statement);
	text_free(&sql);
	return count;
}

/*
 * Fetches the oldest rows of the site whose turn it is, in order for each meter; sites to skip are
 * those the database does not take from now. Returns their number, -1 on failure; free with
 * spool_free_rows().
 */
int
spool_fetch(SmSpool *spool, const int *skip_sites, int skip_count, SmSpoolRow *rows, int limit)
{
	SmText skip = {0};
	int64_t plain = 0;
	int64_t kept = 0;
	int plain_site = 0;
	int kept_site = 0;
	bool good;
	int i;

	text_add(&skip, "(");
	for (i = 0; i < skip_count; i++)
		text_printf(&skip, i > 0 ? ", %d" : "%d", skip_sites[i]);
	text_add(&skip, ")");
	good = spool_find_oldest(spool, skip.data, 0, &plain, &plain_site) &&
		   spool_find_oldest(spool, skip.data, SPOOL_KEPT, &kept, &kept_site);
	text_free(&skip);
	if (!good)
		return -1;
	if (plain == 0 && kept == 0)
		return 0;
	if (kept == 0 || (plain != 0 && plain < kept - SPOOL_KEPT))
		return spool_fetch_from(spool, plain_site, plain, rows, limit);
	return spool_fetch_from(spool, kept_site, kept, rows, limit);
}

/* Frees what rows point at, not the array. */
void
spool_free_rows(SmSpoolRow *rows, int count)
{
	int i;

	for (i = 0; i < count; i++)
		free(rows[i].row);
}

/* The last error in words; valid until the next call. */
const char *
spool_error(const SmSpool *spool)
{
	return spool->db != NULL ? sqlite3_errmsg(spool->db) : "the file could not be opened";
}

/* Readings waiting. */
int64_t
spool_count(const SmSpool *spool)
{
	return spool->count;
}

int64_t
spool_rejected(const SmSpool *spool)
{
	return spool->rejected;
}

/* Bytes in use, without the pages that removed rows left free. */
int64_t
spool_bytes(SmSpool *spool)
{
	int64_t pages = 0;
	int64_t unused = 0;
	int64_t page_size = 0;

	spool_number(spool, "PRAGMA page_count", &pages);
	spool_number(spool, "PRAGMA freelist_count", &unused);
	spool_number(spool, "PRAGMA page_size", &page_size);
	return (pages - unused) * page_size;
}

/* The latest stamp ever spooled, so that time does not run backwards over a restart. */
int64_t
spool_last_ms(const SmSpool *spool)
{
	return spool->last_ms;
}
