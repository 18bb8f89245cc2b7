/*
 * db.c - SPI with kept plans. Each statement is a constant text with its own static plan, prepared at
 * first use in a backend; what it returns must be what its caller expects.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "db.h"

static void
plan_prepare(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types)
{
	SPIPlanPtr made;

	if (*plan != NULL)
		return;
	made = SPI_prepare(sql, n_args, (Oid *) types);
	if (made == NULL || SPI_keepplan(made) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	*plan = made;
}

/*
 * Runs a statement; its rows are in SPI_tuptable until the next one.
 */
void
db_execute(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types, Datum *values,
		   const char *nulls, int expected)
{
	int result;

	plan_prepare(plan, sql, n_args, types);
	result = SPI_execute_plan(*plan, values, nulls, false, 0);
	if (result != expected)
		elog(ERROR, "unexpected result %s of \"%s\"", SPI_result_code_string(result), sql);
}

/*
 * Opens a cursor on a query, for results that are streamed.
 */
Portal
db_open(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types, Datum *values,
		const char *nulls)
{
	plan_prepare(plan, sql, n_args, types);
	return SPI_cursor_open(NULL, *plan, values, nulls, false);
}

/*
 * Runs a query whose rows go straight to a receiver, which must not use SPI meanwhile.
 */
void
db_stream(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types, const Datum *values,
		  DestReceiver *receiver)
{
	SPIExecuteOptions options = {.read_only = false, .dest = receiver};
	ParamListInfo params = makeParamList(n_args);
	int result;

	plan_prepare(plan, sql, n_args, types);
	for (int i = 0; i < n_args; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}
	options.params = params;
	result = SPI_execute_plan_extended(*plan, &options);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result %s of \"%s\"", SPI_result_code_string(result), sql);
}

/*
 * A bigint or timestamptz column of the current result.
 */
int64
db_int64(HeapTuple tuple, int column, bool *isnull)
{
	Datum value = SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, isnull);

	return *isnull ? 0 : DatumGetInt64(value);
}

/*
 * A value of the current result.
 */
Datum
db_cell(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/*
 * A bigint of the current result; 0 for NULL.
 */
int64
db_cell_int64(uint64 row, int column)
{
	bool isnull;
	Datum value = db_cell(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/*
 * An integer of the current result, which is never NULL.
 */
int
db_cell_int32(uint64 row, int column)
{
	bool isnull;

	return DatumGetInt32(db_cell(row, column, &isnull));
}

/*
 * A timestamptz of the current result, or what stands for NULL.
 */
TimestampTz
db_cell_time(uint64 row, int column, TimestampTz when_null)
{
	bool isnull;
	Datum value = db_cell(row, column, &isnull);

	return isnull ? when_null : DatumGetTimestampTz(value);
}

/*
 * A bigint[] of n values.
 */
Datum
db_int64_array(const Datum *values, int n)
{
	return PointerGetDatum(construct_array((Datum *) values, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

/*
 * A timestamptz[] of n values.
 */
Datum
db_time_array(const Datum *values, int n)
{
	return PointerGetDatum(
		construct_array((Datum *) values, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
}
