/*
 * plan_file.c - the plan on disk, for a start while the database is away
 *
 *   submeter-plan 1 NAME-OF-POLLER
 *   COLUMNS ROWS              of each result, then its cells row by row:
 *   LENGTH:BYTES              one line each; "-" alone is NULL
 *   end
 *
 * The file is written anew and put in the place of the old one, so that it is whole or not there.
 * What cannot be read to its last line is not used at all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "plan_file.h"

#define PLAN_FILE_HEAD "submeter-plan 1 "
#define PLAN_FILE_COLUMNS_MOST 64
#define PLAN_FILE_CELL_MOST 1000000

static void
plan_file_put(FILE *file, const PGresult *result)
{
	int columns = PQnfields(result);
	int rows = PQntuples(result);
	int i;

	fprintf(file, "%d %d\n", columns, rows);
	for (i = 0; i < rows * columns; i++)
	{
		if (PQgetisnull(result, i / columns, i % columns))
			fputs("-\n", file);
		else
			fprintf(file, "%d:%s\n", PQgetlength(result, i / columns, i % columns),
					PQgetvalue(result, i / columns, i % columns));
	}
}

/* Writes all of it to the disk; false when that failed. */
static bool
plan_file_write(const char *path, const char *poller, PGresult *const *results, int count)
{
	FILE *file = fopen(path, "w");
	bool good;
	int i;

	if (file == NULL)
		return false;
	fprintf(file, PLAN_FILE_HEAD "%s\n", poller);
	for (i = 0; i < count; i++)
		plan_file_put(file, results[i]);
	fputs("end\n", file);
	good = fflush(file) == 0 && ferror(file) == 0 && fsync(fileno(file)) == 0;
	return fclose(file) == 0 && good;
}

/* Keeps the results a plan was made of. A failure is logged, and the old file stays. */
bool
plan_file_save(const char *path, const char *poller, PGresult *const *results, int count)
{
	SmText draft = {0};
	bool good;

	text_printf(&draft, "%s.new", path);
	good = plan_file_write(draft.data, poller, results, count) && rename(draft.data, path) == 0;
	if (!good)
	{
		log_warning("the plan could not be kept in \"%s\": %s", path, strerror(errno));
		unlink(draft.data);
	}
	text_free(&draft);
	return good;
}

/* A plan that must not be used any more: others may be at work. */
void
plan_file_forget(const char *path)
{
	if (unlink(path) != 0 && errno != ENOENT)
		log_warning("the plan kept in \"%s\" could not be removed: %s", path, strerror(errno));
}

/* Reads one cell; false when the file is not what it should be. */
static bool
plan_file_get_cell(FILE *file, PGresult *result, int row, int column)
{
	long length;
	char *text;
	bool good;
	int first = fgetc(file);

	if (first == '-')
		return fgetc(file) == '\n' && PQsetvalue(result, row, column, NULL, -1);
	ungetc(first, file);
	if (fscanf(file, "%ld", &length) != 1 || length < 0 || length > PLAN_FILE_CELL_MOST ||
		fgetc(file) != ':')
		return false;
	text = base_alloc((size_t) length + 1);
	good = fread(text, 1, (size_t) length, file) == (size_t) length && fgetc(file) == '\n' &&
		   PQsetvalue(result, row, column, text, (int) length);
	free(text);
	return good;
}

/* Reads one result; NULL when the file is not what it should be. */
static PGresult *
plan_file_get(FILE *file)
{
	static PGresAttDesc names[PLAN_FILE_COLUMNS_MOST];
	PGresult *result;
	int columns;
	int rows;
	int i;

	if (fscanf(file, "%d %d", &columns, &rows) != 2 || columns < 1 ||
		columns > PLAN_FILE_COLUMNS_MOST || rows < 0 || rows > 10000000 || fgetc(file) != '\n')
		return NULL;
	for (i = 0; i < columns; i++)
		names[i].name = (char *) "";
	result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	if (result == NULL || !PQsetResultAttrs(result, columns, names))
	{
		PQclear(result);
		return NULL;
	}
	for (i = 0; i < rows * columns; i++)
	{
		if (!plan_file_get_cell(file, result, i / columns, i % columns))
		{
			PQclear(result);
			return NULL;
		}
	}
	return result;
}

/* Reads the first line; false when this is no plan of this poller. */
static bool
plan_file_is_ours(FILE *file, const char *poller)
{
	SmText wanted = {0};
	char line[512];
	bool same;

	text_printf(&wanted, PLAN_FILE_HEAD "%s\n", poller);
	same = fgets(line, sizeof(line), file) != NULL && strcmp(line, wanted.data) == 0;
	text_free(&wanted);
	return same;
}

/* Reads all results and the last line; false when the file is not what it should be. */
static bool
plan_file_get_all(FILE *file, PGresult **results, int most, int *count)
{
	char end[8] = "";
	int next;

	while ((next = fgetc(file)) != 'e')
	{
		ungetc(next, file);
		if (*count == most || (results[*count] = plan_file_get(file)) == NULL)
			return false;
		(*count)++;
	}
	return fgets(end, sizeof(end), file) != NULL && strcmp(end, "nd\n") == 0;
}

/*
 * Reads what was kept; the number of results, which are the caller's to clear, or 0 when there is
 * nothing of use.
 */
int
plan_file_load(const char *path, const char *poller, PGresult **results, int most)
{
	FILE *file = fopen(path, "r");
	int count = 0;

	if (file == NULL)
		return 0;
	if (plan_file_is_ours(file, poller) && !plan_file_get_all(file, results, most, &count))
	{
		while (count > 0)
			PQclear(results[--count]);
		log_warning("the plan kept in \"%s\" is damaged and not used", path);
	}
	fclose(file);
	return count;
}
