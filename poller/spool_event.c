/*
 * spool_event.c - what went wrong with the spool, kept in it until the database knows
 *
 * Each event has a number that is never used again, so that the database takes it once however
 * often it is told.
 */
#include <inttypes.h>
#include <string.h>

#include "base.h"
#include "spool_inside.h"

#define EVENT_MOST 200

/* Notes an event that concerns no site in particular. */
bool
spool_add_event(SmSpool *spool, const SmSpoolEvent *event)
{
	sqlite3_stmt *statement = NULL;
	bool good =
		spool_good(spool, sqlite3_prepare_v2(spool->db,
											 "INSERT INTO event (kind, count, at_ms, detail)"
											 " VALUES (?, ?, ?, ?)",
											 -1, &statement, NULL));

	if (good)
	{
		sqlite3_bind_text(statement, 1, event->kind, -1, SQLITE_STATIC);
		sqlite3_bind_int64(statement, 2, event->count);
		sqlite3_bind_int64(statement, 3, base_wall_ms());
		sqlite3_bind_text(statement, 4, event->detail, -1, SQLITE_STATIC);
		good = spool_good(spool, sqlite3_step(statement));
	}
	sqlite3_finalize(statement);
	return good;
}

/* Adds ,"name":number, or null where the column has none. */
static void
event_add_number(SmText *list, const char *name, sqlite3_stmt *statement, int column)
{
	if (sqlite3_column_type(statement, column) == SQLITE_NULL)
		text_printf(list, ",\"%s\":null", name);
	else
		text_printf(list, ",\"%s\":%" PRId64, name,
					(int64_t) sqlite3_column_int64(statement, column));
}

static void
event_add(SmText *list, sqlite3_stmt *statement)
{
	text_add(list, list->length > 1 ? ",{\"kind\":" : "{\"kind\":");
	text_add_json(list, (const char *) sqlite3_column_text(statement, 1));
	event_add_number(list, "id", statement, 0);
	event_add_number(list, "site_id", statement, 2);
	event_add_number(list, "count", statement, 3);
	event_add_number(list, "from_ms", statement, 4);
	event_add_number(list, "to_ms", statement, 5);
	event_add_number(list, "at_ms", statement, 6);
	text_add(list, ",\"detail\":");
	text_add_json(list, (const char *) sqlite3_column_text(statement, 7));
	text_add(list, "}");
}

/*
 * The oldest events as a JSON array, the caller's to free, and the number of the last of them (0:
 * there are none); NULL when they cannot be read.
 */
char *
spool_list_events(SmSpool *spool, int64_t *last_id)
{
	sqlite3_stmt *statement = NULL;
	SmText list = {0};
	int code;

	*last_id = 0;
	text_add(&list, "[");
	code = sqlite3_prepare_v2(spool->db,
							  "SELECT id, kind, site_id, count, from_ms, to_ms, at_ms, detail"
							  " FROM event ORDER BY id LIMIT ?",
							  -1, &statement, NULL);
	if (code == SQLITE_OK)
	{
		sqlite3_bind_int(statement, 1, EVENT_MOST);
		while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		{
			event_add(&list, statement);
			*last_id = sqlite3_column_int64(statement, 0);
		}
	}
	sqlite3_finalize(statement);
	text_add(&list, "]");
	if (spool_good(spool, code))
		return list.data;
	text_free(&list);
	return NULL;
}

/* The database knows the events up to this one. */
bool
spool_forget_events(SmSpool *spool, int64_t last_id)
{
	SmText sql = {0};
	bool good;

	text_printf(&sql, "DELETE FROM event WHERE id <= %" PRId64, last_id);
	good = spool_run(spool, sql.data);
	text_free(&sql);
	return good;
}
