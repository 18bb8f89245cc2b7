/*
 * test_poller_spool.c - the spool: order, sites, refusals, a second poller, damage, making room
 */
/* links: poller/spool.c poller/spool_trim.c poller/spool_event.c poller/spool_salvage.c poller/spool_shift.c poller/base.c poller/log.c */
/* libs: -lsqlite3 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../poller/base.h"
#include "../../poller/log.h"
#include "../../poller/spool.h"
#include "test_poller_tap.h"

static char directory[] = "/tmp/sm_spool_XXXXXX";
static char why[256];

/* Adds a row in a transaction of its own. */
static bool
add(SmSpool *spool, int site_id, int64_t ts_ms, const char *text)
{
	SmSpoolRow row = {.site_id = site_id, .meter_id = 7, .ts_ms = ts_ms, .row = (char *) text};

	return spool_begin(spool) && spool_add(spool, &row) && spool_commit(spool);
}

/* The texts of a fetch, joined with commas; static memory. */
static const char *
fetched(SmSpool *spool, const int *skip, int skip_count, int limit, int64_t *last_id)
{
	static char text[256];
	SmSpoolRow rows[16];
	int count = spool_fetch(spool, skip, skip_count, rows, limit);
	int i;

	text[0] = '\0';
	for (i = 0; i < count; i++)
	{
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? "," : "",
				 rows[i].row);
		*last_id = rows[i].id;
	}
	spool_free_rows(rows, count > 0 ? count : 0);
	return count < 0 ? "failed" : text;
}

static void
test_order(void)
{
	SmSpool *spool = spool_open(directory, why, sizeof(why));
	SmSpoolReject reject = {0, "22P02", "bad"};
	int skip[] = {1};
	int64_t id = 0;

	is(spool_count(spool), 0, "a new spool is empty");
	ok(add(spool, 1, 100, "a") && add(spool, 2, 300, "b") && add(spool, 1, 200, "c"), "three rows");
	is_text(fetched(spool, NULL, 0, 16, &id), "a,c", "the rows of the oldest one's site, in order");
	is_text(fetched(spool, NULL, 0, 1, &id), "a", "at most as many as asked for");
	is_text(fetched(spool, skip, 1, 16, &id), "b", "another site when that one waits");
	ok(spool_begin(spool) && spool_remove(spool, id) && spool_commit(spool), "one is removed");
	is(spool_count(spool), 2, "two are left");
	fetched(spool, NULL, 0, 1, &id);
	reject.id = id;
	ok(spool_begin(spool) && spool_reject(spool, &reject) && spool_commit(spool), "one is refused");
	ok(spool_count(spool) == 1 && spool_rejected(spool) == 1, "and put aside");
	ok(spool_begin(spool) && spool_remove(spool, 99999) && spool_commit(spool) &&
		   spool_count(spool) == 1,
	   "removing what is not there is no harm");
	ok(spool_begin(spool) && spool_remove(spool, id + 2), "a removal");
	spool_rollback(spool);
	is_text(fetched(spool, NULL, 0, 16, &id), "c", "that was not committed");
	ok(spool_bytes(spool) > 0, "it has a size");
	spool_close(spool);
}

static void
test_reopen(void)
{
	SmSpool *spool = spool_open(directory, why, sizeof(why));
	SmSpool *second;
	struct stat status;
	char path[64];
	int64_t count = 0;
	int64_t id = 0;

	ok(spool_count(spool) == 1 && spool_rejected(spool) == 1, "all is there after a restart");
	is(spool_last_ms(spool), 300, "the latest stamp too, though its row is gone");
	second = spool_open(directory, why, sizeof(why));
	ok(second == NULL && strstr(why, "in use by another poller") != NULL, "one poller at a time");
	ok(spool_retry_rejected(spool, &count) && count == 1, "refused rows can be tried again");
	is_text(fetched(spool, NULL, 0, 16, &id), "c,a", "after the others");
	snprintf(path, sizeof(path), "%s/spool.db", directory);
	ok(stat(path, &status) == 0 && (status.st_mode & 077) == 0, "nobody else can read it");
	spool_close(spool);
}

static void
test_damage(void)
{
	char path[64];
	char command[128];
	SmSpool *spool;
	FILE *file;
	int64_t id = 0;
	int64_t before = 0;

	spool = spool_open(directory, why, sizeof(why));
	fetched(spool, NULL, 0, 16, &before);
	spool_close(spool);
	snprintf(path, sizeof(path), "%s/spool.db", directory);
	file = fopen(path, "r+");
	fseek(file, 4096, SEEK_SET);
	fwrite("this is no page of a b-tree, it is only text that somebody wrote", 1, 64, file);
	fclose(file);
	spool = spool_open(directory, why, sizeof(why));
	ok(spool != NULL && spool_count(spool) == 0, "a damaged spool is put aside");
	snprintf(command, sizeof(command), "ls %s/damaged-*.db >/dev/null", directory);
	is(system(command), 0, "and kept");
	ok(add(spool, 1, 400, "d"), "the new one works");
	fetched(spool, NULL, 0, 16, &id);
	ok(id > before, "and its numbers are not those of the old one");
	spool_close(spool);
}

/* The number a query on the closed spool gives, for what spool.h does not tell. */
static int64_t
look(const char *sql)
{
	char path[64];
	sqlite3 *db = NULL;
	sqlite3_stmt *statement = NULL;
	int64_t number = -1;

	snprintf(path, sizeof(path), "%s/spool.db", directory);
	if (sqlite3_open(path, &db) == SQLITE_OK &&
		sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
		sqlite3_step(statement) == SQLITE_ROW)
		number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(db);
	return number;
}

/* Adds a reading a minute for so many minutes to each of four meters; 1 and 2 keep their own. */
static void
fill(SmSpool *spool, int minutes)
{
	char text[160];
	int i;

	ok(spool_begin(spool), "begin to fill");
	for (i = 0; i < minutes * 4; i++)
	{
		SmSpoolRow row = {.site_id = i % 2 + 1, .meter_id = i % 4 + 1, .row = text};

		row.ts_ms = INT64_C(1767225600000) + i / 4 * INT64_C(60000);
		row.kept = row.meter_id <= 2;
		snprintf(text, sizeof(text), "(%d,2026-01-01T00:00:00.000Z,%d,,,,,,,,,,,,,,,,,,poll)",
				 (int) row.meter_id, i);
		if (!spool_add(spool, &row))
			break;
	}
	ok(i == minutes * 4 && spool_commit(spool), "filled");
}

#define KEPT_HOURS "SELECT count(*) FROM (SELECT DISTINCT meter_id, ts_ms / 3600000 FROM reading)"

/* Begins with an empty spool. */
static SmSpool *
fresh(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/spool.db", directory);
	unlink(path);
	return spool_open(directory, why, sizeof(why));
}

static void
test_room(void)
{
	SmSpool *spool = fresh();
	int64_t bytes;
	int64_t dropped = -1;
	int64_t last;
	int64_t first_dropped;
	char *events;

	fill(spool, 6000);
	bytes = spool_bytes(spool);
	ok(!spool_trim(spool, bytes * 2, &dropped) == false && dropped == 0, "enough room: none goes");
	ok(spool_trim(spool, bytes - bytes / 10, &dropped) && dropped > 0, "a little too full");
	first_dropped = dropped;
	ok(spool_bytes(spool) <= bytes / 10 * 9, "there is room again");
	is(spool_count(spool), 24000 - dropped, "the count is right");
	spool_close(spool);
	is(look("SELECT count(*) FROM reading WHERE meter_id > 2"), 12000,
	   "only what meters keep went");
	is(look(KEPT_HOURS), 400, "of each hour one is left");
	is(look("SELECT count(*) FROM reading WHERE meter_id = 1 AND ts_ms % 3600000 <> 3540000"
			" AND ts_ms < (SELECT max(to_ms) FROM event)"),
	   0, "the oldest went");
	is(look("SELECT count(*) FROM event WHERE kind <> 'dropped'"), 0, "each that went");
	is(look("SELECT sum(count) FROM event"), first_dropped, "is counted in an event");

	spool = spool_open(directory, why, sizeof(why));
	ok(spool_trim(spool, bytes / 10, &dropped) && dropped > 0, "much too full");
	spool_close(spool);
	ok(look("SELECT count(*) FROM reading WHERE meter_id <= 2") <= 202,
	   "what meters keep: one an hour");
	is(look(KEPT_HOURS), 400, "of each hour something is left");
	ok(look("SELECT count(*) FROM reading WHERE meter_id > 2") < 12000, "others went, too");
	is(look("SELECT count(*) FROM (SELECT meter_id, min(ts_ms) AS f, max(ts_ms) AS l FROM reading"
			" WHERE meter_id > 2 GROUP BY meter_id, ts_ms / 3600000)"
			" WHERE f % 3600000 <> 0 OR l % 3600000 <> 3540000"),
	   0, "but kept the first and the last of each hour");

	spool = spool_open(directory, why, sizeof(why));
	ok(!spool_trim(spool, 20000, &dropped), "what is left cannot be made smaller for ever");
	ok(spool_count(spool) >= 20, "it ends with a few a day");
	events = spool_list_events(spool, &last);
	ok(events != NULL && last > 0 && strstr(events, "\"kind\":\"dropped\",\"id\":") != NULL &&
		   strstr(events, "\"site_id\":1,\"count\":") != NULL,
	   "the events as JSON");
	free(events);
	while (last > 0)
	{
		if (!spool_begin(spool) || !spool_forget_events(spool, last) || !spool_commit(spool))
			break;
		events = spool_list_events(spool, &last);
		ok(events != NULL && (last > 0) == (strcmp(events, "[]") != 0), "those that are told go");
		free(events);
	}
	is(last, 0, "until none is left");
	spool_close(spool);
}

/* Spoils one page in the middle of the file. */
static void
spoil(int page)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/spool.db", directory);
	file = fopen(path, "r+");
	fseek(file, page * 4096L, SEEK_SET);
	fwrite("\0\0nonsense where a page of a b-tree was", 1, 40, file);
	fclose(file);
}

static void
test_salvage(void)
{
	SmSpool *spool = fresh();
	int64_t count;
	int64_t last_ms;
	int64_t last;
	char *events;

	fill(spool, 1000);
	count = spool_count(spool);
	last_ms = spool_last_ms(spool);
	spool_close(spool);
	spoil(60);
	spool = spool_open(directory, why, sizeof(why));
	ok(spool != NULL && spool_count(spool) > count - 200 && spool_count(spool) < count,
	   "of a damaged spool nearly all is saved");
	is(spool_last_ms(spool), last_ms, "and stamps go on");
	events = spool_list_events(spool, &last);
	ok(events != NULL && strstr(events, "\"kind\":\"damaged\"") != NULL, "people will hear of it");
	free(events);
	spool_close(spool);
	is(look("SELECT count(*) FROM reading WHERE row NOT LIKE '(' || meter_id || ',2026-%,poll)'"),
	   0, "only whole rows");
}

static void
test_shift(void)
{
	SmSpool *spool = fresh();
	SmSpoolRow row = {.site_id = 1, .meter_id = 7, .ts_ms = 3600000};
	int64_t count = 0;
	int64_t id;

	row.row = (char *) "(7,1970-01-01T01:00:00.000Z,5,,poll)";
	ok(spool_begin(spool) && spool_add(spool, &row) && spool_commit(spool), "of an earlier run");
	spool_close(spool);
	spool = spool_open(directory, why, sizeof(why));
	row.kept = true;
	ok(spool_begin(spool) && spool_add(spool, &row), "of this run");
	row.row = (char *) "(7,1970-01-01T01:00:00.000Z,6,,backfill)";
	ok(spool_add(spool, &row), "from a meter's memory");
	spool_note_jump(spool);
	row.kept = false;
	row.row = (char *) "(7,1970-01-01T01:00:00.000Z,7,,poll)";
	ok(spool_add(spool, &row) && spool_commit(spool), "after a jump of the clock");
	ok(spool_begin(spool) && spool_shift(spool, 1000, false, &count) && spool_commit(spool) &&
		   count == 1,
	   "what came after it is shifted");
	ok(spool_begin(spool) && spool_shift(spool, 60000, true, &count) && spool_commit(spool) &&
		   count == 2,
	   "or all of this run");
	is_text(fetched(spool, NULL, 0, 16, &id),
			"(7,1970-01-01T01:00:00.000Z,5,,poll),(7,1970-01-01T01:01:01.000Z,7,,poll)",
			"the text as well");
	spool_close(spool);
	is(look(
		   "SELECT count(*) FROM reading WHERE row LIKE '%T01:00:00.000Z,6,,backfill)' AND ts_ms = 3600000"),
	   1, "but not what the meter kept");
	is(look("SELECT max(ts_ms) FROM reading"), 3661000, "and the number");
}

int
main(void)
{
	char command[64];

	umask(0077);
	log_set_level("error");
	if (mkdtemp(directory) == NULL)
		return 1;
	test_order();
	test_reopen();
	test_damage();
	test_room();
	test_salvage();
	test_shift();
	ok(spool_open("/proc/nowhere/spool", why, sizeof(why)) == NULL && why[0] != '\0',
	   "a directory that cannot be made");
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command) != 0 || tap_done();
}
