/*
 * test_poller_spool.c - the spool: order, sites, refusals, a second poller, damage
 */
/* links: poller/spool.c poller/base.c poller/log.c */
/* libs: -lsqlite3 */
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
	SmSpoolRow row = {0, site_id, 7, ts_ms, (char *) text};

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
	ok(spool_open("/proc/nowhere/spool", why, sizeof(why)) == NULL && why[0] != '\0',
	   "a directory that cannot be made");
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command) != 0 || tap_done();
}
