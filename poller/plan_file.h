/*
 * plan_file.h - the plan on disk, for a start while the database is away
 */
#ifndef PLAN_FILE_H
#define PLAN_FILE_H

#include <libpq-fe.h>

#include "base.h"

extern bool plan_file_save(const char *path, const char *poller, PGresult *const *results,
						   int count);
extern int plan_file_load(const char *path, const char *poller, PGresult **results, int most);
extern void plan_file_forget(const char *path);

#endif
