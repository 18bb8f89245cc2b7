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
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "log.h"
#include "spool.h"

#define SPOOL_VERSION 1

struct SmSpool
{
	char *directory;
	char *path;
	int lock_fd;
	sqlite3 *db;
	sqlite3_stmt *add;
	sqlite3_stmt *remove;
	sqlite3_stmt *reject;
	sqlite3_stmt *mark;
	bool damaged;
	int64_t count;
	int64_t rejected;
	int64_t last_ms;
	int64_t marked_ms; /* last_ms as it is in the file */
	int64_t changed_count;
	int64_t changed_rejected;
};

static const char spool_schema[] =
	"CREATE TABLE IF NOT EXISTS reading (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" site_id INTEGER NOT NULL, meter_id INTEGER NOT NULL, ts_ms INTEGER NOT NULL,"
	" row TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS rejected (id INTEGER PRIMARY KEY, site_id INTEGER NOT NULL,"
	" meter_id INTEGER NOT NULL, ts_ms INTEGER NOT NULL, row TEXT NOT NULL,"
	" sqlstate TEXT NOT NULL, message TEXT NOT NULL,"
	" rejected_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);"
	"CREATE TABLE IF NOT EXISTS mark (one INTEGER PRIMARY KEY CHECK (one = 1),"
	" last_ms INTEGER NOT NULL);"
	"INSERT OR IGNORE INTO mark VALUES (1, 0);";

/* Notes whether a result means that the file itself is broken; true when all is well. */
static bool
spool_good(SmSpool *spool, int code)
{
	code &= 0xff;
	if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		spool->damaged = true;
	return code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW;
}

static bool
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
static bool
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
						 "INSERT INTO reading (site_id, meter_id, ts_ms, row) VALUES (?, ?, ?, ?)",
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

/*
 * Makes the tables where they are missing. Numbers of a new file begin at the time: a delivery
 * under way when a damaged file was put aside must not remove rows of the new one.
 */
static bool
spool_furnish(SmSpool *spool)
{
	SmText sql = {0};
	bool good;

	text_printf(&sql,
				"%s INSERT INTO sqlite_sequence SELECT 'reading', %" PRId64
				" WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'reading');"
				" PRAGMA user_version = %d",
				spool_schema, base_wall_ms() * 1000, SPOOL_VERSION);
	good = spool_run(spool, sql.data);
	text_free(&sql);
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
	return spool_furnish(spool) && spool_prepare_all(spool) && spool_take_stock(spool);
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

/* Gives the damaged file and its companions another name. */
static bool
spool_put_aside(SmSpool *spool)
{
	static const char *const tails[] = {"", "-wal", "-shm"};
	int64_t now_ms = base_wall_ms();
	bool good = true;
	size_t i;

	for (i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
	{
		SmText from = {0};
		SmText to = {0};

		text_printf(&from, "%s%s", spool->path, tails[i]);
		text_printf(&to, "%s/damaged-%" PRId64 ".db%s", spool->directory, now_ms, tails[i]);
		if (rename(from.data, to.data) == 0)
			log_error("the spool is damaged; its file is kept as \"%s\" and a new one is begun",
					  to.data);
		else if (errno != ENOENT)
		{
			log_error("could not rename \"%s\": %s", from.data, strerror(errno));
			good = false;
		}
		text_free(&from);
		text_free(&to);
	}
	return good;
}

/* Closes the file and opens it again, putting it aside first when it is damaged. */
bool
spool_reopen(SmSpool *spool)
{
	bool good;

	spool_close_file(spool);
	if (spool->damaged && !spool_put_aside(spool))
		return false;
	spool->damaged = false;
	good = spool_open_file(spool);
	if (!good && spool->damaged)
	{
		spool_close_file(spool);
		good = spool_put_aside(spool);
		spool->damaged = false;
		good = good && spool_open_file(spool);
	}
	return good;
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
	sqlite3_bind_int(spool->add, 1, row->site_id);
	sqlite3_bind_int64(spool->add, 2, row->meter_id);
	sqlite3_bind_int64(spool->add, 3, row->ts_ms);
	sqlite3_bind_text(spool->add, 4, row->row, -1, SQLITE_STATIC);
	if (!spool_step(spool, spool->add))
		return false;
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
	*count = spool->rejected;
	if (!spool_run(spool, "BEGIN IMMEDIATE; INSERT INTO reading (site_id, meter_id, ts_ms, row)"
						  " SELECT site_id, meter_id, ts_ms, row FROM rejected ORDER BY id;"
						  " DELETE FROM rejected; COMMIT"))
	{
		spool_rollback(spool);
		return false;
	}
	spool->count += spool->rejected;
	spool->rejected = 0;
	return true;
}

/*
 * Fetches the oldest rows of the site whose turn it is, in order; sites to skip are those the
 * database does not take from now. Returns their number, -1 on failure; free with
 * spool_free_rows().
 */
int
spool_fetch(SmSpool *spool, const int *skip_sites, int skip_count, SmSpoolRow *rows, int limit)
{
	SmText skip = {0};
	SmText sql = {0};
	sqlite3_stmt *statement = NULL;
	int count = 0;
	int code;
	int i;

	text_add(&skip, "(");
	for (i = 0; i < skip_count; i++)
		text_printf(&skip, i > 0 ? ", %d" : "%d", skip_sites[i]);
	text_add(&skip, ")");
	text_printf(&sql,
				"SELECT id, site_id, meter_id, ts_ms, row FROM reading WHERE site_id ="
				" (SELECT site_id FROM reading WHERE site_id NOT IN %s ORDER BY id LIMIT 1)"
				" ORDER BY id LIMIT %d",
				skip.data, limit);
	code = sqlite3_prepare_v2(spool->db, sql.data, -1, &statement, NULL);
	if (code == SQLITE_OK)
	{
		while ((code = sqlite3_step(statement)) == SQLITE_ROW && count < limit)
		{
			rows[count].id = sqlite3_column_int64(statement, 0);
			rows[count].site_id = sqlite3_column_int(statement, 1);
			rows[count].meter_id = sqlite3_column_int64(statement, 2);
			rows[count].ts_ms = sqlite3_column_int64(statement, 3);
			rows[count++].row = base_copy((const char *) sqlite3_column_text(statement, 4));
		}
	}
	if (!spool_good(spool, code))
	{
		spool_free_rows(rows, count);
		count = -1;
	}
	sqlite3_finalize(statement);
	text_free(&skip);
	text_free(&sql);
	return count;
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
