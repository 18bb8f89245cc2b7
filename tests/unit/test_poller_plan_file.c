/*
 * test_poller_plan_file.c - a plan on disk comes back as it was, and nothing else does
 */
/* links: poller/plan_file.c poller/base.c poller/log.c */
/* libs: -lpq -lm */
#include <stdlib.h>
#include <unistd.h>

#include "../../poller/log.h"
#include "../../poller/plan_file.h"
#include "test_poller_tap.h"

#define RESULTS 2

static char path[] = "/tmp/plan_file.XXXXXX";

static PGresult *
table(int columns, int rows)
{
	static PGresAttDesc names[4];
	PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	int i;

	for (i = 0; i < columns; i++)
		names[i].name = (char *) "c";
	PQsetResultAttrs(result, columns, names);
	for (i = 0; i < rows * columns; i++)
	{
		static const char *const cells[] = {"12", "", "a line\nand: another", "-", "end"};

		if (i % 7 == 6)
			PQsetvalue(result, i / columns, i % columns, NULL, -1);
		else
			PQsetvalue(result, i / columns, i % columns, (char *) cells[i % 5],
					   (int) strlen(cells[i % 5]));
	}
	return result;
}

static bool
same(const PGresult *a, const PGresult *b)
{
	int row;
	int column;

	if (PQnfields(a) != PQnfields(b) || PQntuples(a) != PQntuples(b))
		return false;
	for (row = 0; row < PQntuples(a); row++)
	{
		for (column = 0; column < PQnfields(a); column++)
		{
			if (PQgetisnull(a, row, column) != PQgetisnull(b, row, column) ||
				strcmp(PQgetvalue(a, row, column), PQgetvalue(b, row, column)) != 0)
				return false;
		}
	}
	return true;
}

/* How many results come out of a file of these bytes. */
static int
load(const char *bytes, size_t length)
{
	PGresult *results[RESULTS];
	FILE *file = fopen(path, "w");
	int count;
	int i;

	fwrite(bytes, 1, length, file);
	fclose(file);
	count = plan_file_load(path, "p", results, RESULTS);
	for (i = 0; i < count; i++)
		PQclear(results[i]);
	return count;
}

/* Every beginning of a good file but the whole is refused, and no byte that is changed does harm. */
static void
test_damage(void)
{
	static const char columns[] = "submeter-plan 1 p\n99 1\nend\n";
	static const char cell[] = "submeter-plan 1 p\n1 1\n9999999:a\nend\n";
	char bytes[4096];
	FILE *file = fopen(path, "r");
	size_t length = fread(bytes, 1, sizeof(bytes), file);
	int taken = 0;
	size_t i;

	fclose(file);
	for (i = 0; i < length; i++)
		taken += load(bytes, i);
	is(taken, 0, "half a file is none");
	for (i = 0; i < length; i++)
	{
		char kept = bytes[i];

		bytes[i] = (char) (kept ^ 0x11);
		load(bytes, length);
		bytes[i] = kept;
	}
	is(load(bytes, length), RESULTS, "the whole is taken");
	is(load(columns, strlen(columns)), 0, "too many columns");
	is(load(cell, strlen(cell)), 0, "a cell that is too long");
	is(load("", 0), 0, "an empty file");
}

int
main(void)
{
	PGresult *kept[RESULTS] = {table(3, 5), table(1, 0)};
	PGresult *results[RESULTS];
	int fd = mkstemp(path);

	close(fd);
	log_set_level("error");
	ok(plan_file_save(path, "p", kept, RESULTS), "it is kept");
	is(plan_file_load(path, "other", results, RESULTS), 0, "for nobody else");
	is(plan_file_load(path, "p", results, RESULTS), RESULTS, "and comes back");
	ok(same(kept[0], results[0]) && same(kept[1], results[1]), "as it was");
	PQclear(results[0]);
	PQclear(results[1]);
	is(plan_file_load(path, "p", results, 1), 0, "more results than wanted are none");
	test_damage();
	plan_file_forget(path);
	is(plan_file_load(path, "p", results, RESULTS), 0, "forgotten");
	plan_file_forget(path);
	ok(!plan_file_save("/nowhere/plan", "p", kept, RESULTS), "a directory that is not there");
	PQclear(kept[0]);
	PQclear(kept[1]);
	return tap_done();
}
