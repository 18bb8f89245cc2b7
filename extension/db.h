/*
 * db.h - the few ways in which C files of the extension talk SQL.
 */
#ifndef SUBMETER_DB_H
#define SUBMETER_DB_H

#include "executor/spi.h"

extern void db_execute(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types,
					   Datum *values, const char *nulls, int expected);
extern Portal db_open(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types,
					  Datum *values, const char *nulls);
extern int64 db_int64(HeapTuple tuple, int column, bool *isnull);

#endif
