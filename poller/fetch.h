/*
 * fetch.h - which meters' memories the database wants read, and what became of it
 */
#ifndef FETCH_H
#define FETCH_H

#include "db.h"
#include "field.h"

struct SmFetch;
typedef struct SmFetch SmFetch;

extern SmFetch *fetch_create(SmLoop *loop, SmField *field, SmDb *db, const char *name);
extern void fetch_free(SmFetch *fetch);
extern void fetch_look(SmFetch *fetch);
extern void fetch_report(SmFetch *fetch, const struct SmHistoryResult *result);

#endif
