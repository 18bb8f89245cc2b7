/*
 * db.h - the few ways in which C files of the extension talk SQL.
 */
#ifndef SUBMETER_DB_H
#define SUBMETER_DB_H

#include "executor/spi.h"
#include "utils/timestamp.h"

extern void db_execute(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types,
					   Datum *values, const char *nulls, int expected);
extern Portal db_open(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types,
					  Datum *values, const char *nulls);
extern void db_stream(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types,
					  const Datum *values, DestReceiver *receiver);
extern int64 db_int64(HeapTuple tuple, int column, bool *isnull);
extern Datum db_cell(uint64 row, int column, bool *isnull);
extern int64 db_cell_int64(uint64 row, int column);
extern int db_cell_int32(uint64 row, int column);
extern TimestampTz db_cell_time(uint64 row, int column, TimestampTz when_null);
extern Datum db_int64_array(const Datum *values, int n);
extern Datum db_time_array(const Datum *values, int n);

#endif
