/*
 * settle_demand.c - energy of the demand windows of an account, over all its meters on a tariff.
 *
 * Windows are aligned to local midnight. Energy is added to what is on record for a day, like hours;
 * days that are computed anew are deleted before. The demand of a cycle is the mean power of its
 * fullest window.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/memutils.h"

#include "settle.h"

static const char clear_demand[] =
	"DELETE FROM submeter.demand_day d USING unnest($2, $3, $4) AS k(account_id, tariff_id, from_day)"
	" WHERE d.site_id = $1 AND d.account_id = k.account_id AND d.tariff_id = k.tariff_id AND d.day >= k.from_day";

static const char write_demand[] =
	"INSERT INTO submeter.demand_day AS d (site_id, account_id, tariff_id, day, window_minutes, window_wh, max_w)"
	" SELECT $1, k.account_id, k.tariff_id, k.day, k.minutes, x.wh, submeter.demand_w(x.wh, k.minutes)"
	" FROM unnest($2, $3, $4, $5, $6, $8) AS k(account_id, tariff_id, day, minutes, n, at)"
	" CROSS JOIN LATERAL (SELECT ($7::int8[])[k.at + 1 : k.at + k.n] AS wh) x"
	" ON CONFLICT ON CONSTRAINT demand_day_pkey DO UPDATE SET window_wh = submeter.hours_add(d.window_wh, EXCLUDED.window_wh),"
	" max_w = submeter.demand_w(submeter.hours_add(d.window_wh, EXCLUDED.window_wh), d.window_minutes)"
	" RETURNING account_id, tariff_id, day, max_w";

/*
 * End of the window that holds a time of a day.
 */
TimestampTz
demand_window_end(const SmDay *day, int minutes, TimestampTz at)
{
	int64 length = minutes * USECS_PER_MINUTE;

	return Min(day->to, at + length - (at - day->from) % length);
}

/*
 * Mean power of a window, rounded half up.
 */
static int64
window_w(int64 wh, int minutes)
{
	return (wh * 60 * 2 + minutes) / (2 * minutes);
}

/*
 * Adds energy to the window that holds a time.
 */
void
demand_add(SmPair *pair, const SmDay *day, int minutes, TimestampTz at, int64 wh)
{
	int window = (int) ((at - day->from) / (minutes * USECS_PER_MINUTE));
	SmDemandDay *demand = NULL;

	for (int i = pair->n_demand - 1; i >= 0; i--)
	{
		if (pair->demand[i].date == day->date && pair->demand[i].minutes == minutes)
		{
			demand = &pair->demand[i];
			break;
		}
	}
	if (demand == NULL)
	{
		int n = (int) ((day->to - day->from + minutes * USECS_PER_MINUTE - 1) /
					   (minutes * USECS_PER_MINUTE));

		if (pair->n_demand == pair->max_demand)
		{
			pair->max_demand = Max(4, pair->max_demand * 2);
			pair->demand =
				pair->demand == NULL
					? palloc(sizeof(SmDemandDay) * pair->max_demand)
					: repalloc_huge(pair->demand, sizeof(SmDemandDay) * pair->max_demand);
		}
		demand = &pair->demand[pair->n_demand++];
		demand->date = day->date;
		demand->minutes = minutes;
		demand->n_windows = n;
		demand->window_wh = palloc0(sizeof(int64) * n);
	}
	demand->window_wh[window] += wh;
}

/*
 * Deletes the days of accounts that are computed anew.
 */
void
demand_clear(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, DATEARRAYOID};
	SmColumn columns[3] = {{.type = INT8OID}, {.type = INT8OID}, {.type = DATEOID}};
	Datum args[4] = {Int32GetDatum(settle->site_id)};

	for (int i = 0; i < settle->n_pairs; i++)
	{
		const SmPair *pair = &settle->pairs[i];

		if (pair->reset_from == DT_NOEND)
			continue;
		column_put(&columns[0], Int64GetDatum(pair->account_id));
		column_put(&columns[1], Int64GetDatum(pair->tariff_id));
		column_put(&columns[2], DateADTGetDatum(TIMESTAMP_NOT_FINITE(pair->reset_from)
													? DATEVAL_NOBEGIN
													: settle_day_of(settle, pair->reset_from)));
	}
	if (columns[0].n == 0)
		return;
	for (int i = 0; i < 3; i++)
		args[i + 1] = column_array(&columns[i]);
	db_execute(&plan, clear_demand, 4, types, args, NULL, SPI_OK_DELETE);
}

/*
 * The highest demand of the cycle that holds a day.
 */
static void
demand_raise(SmPair *pair, int32 date, int64 watts)
{
	for (int i = 0; i < pair->n_cycles; i++)
	{
		SmCycle *cycle = &pair->cycles[i];

		if (date >= cycle->first_day && date < cycle->first_day + cycle->n_days)
			cycle->demand_w = Max(cycle->demand_w, watts);
	}
}

/*
 * Writes the windows collected so far.
 */
void
demand_write(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[8] = {INT4OID,      INT8ARRAYOID, INT8ARRAYOID, DATEARRAYOID,
								 INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT4ARRAYOID};
	SmColumn columns[7] = {{.type = INT8OID}, {.type = INT8OID}, {.type = DATEOID},
						   {.type = INT4OID}, {.type = INT4OID}, {.type = INT8OID},
						   {.type = INT4OID}};
	Datum args[8] = {Int32GetDatum(settle->site_id)};

	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];

		for (int j = 0; j < pair->n_demand; j++)
		{
			SmDemandDay *demand = &pair->demand[j];

			column_put(&columns[0], Int64GetDatum(pair->account_id));
			column_put(&columns[1], Int64GetDatum(pair->tariff_id));
			column_put(&columns[2], DateADTGetDatum(demand->date));
			column_put(&columns[3], Int32GetDatum(demand->minutes));
			column_put(&columns[4], Int32GetDatum(demand->n_windows));
			column_put(&columns[6], Int32GetDatum(columns[5].n));
			for (int k = 0; k < demand->n_windows; k++)
				column_put(&columns[5], Int64GetDatum(demand->window_wh[k]));
			pfree(demand->window_wh);
		}
		pair->n_demand = 0;
	}
	if (columns[0].n == 0)
		return;
	for (int i = 0; i < 7; i++)
		args[i + 1] = column_array(&columns[i]);
	db_execute(&plan, write_demand, 8, types, args, NULL, SPI_OK_INSERT_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int at = pair_find(settle, db_cell_int64(i, 1), db_cell_int64(i, 2));

		if (at >= 0)
			demand_raise(&settle->pairs[at], DatumGetDateADT(db_cell(i, 3, &isnull)),
						 db_cell_int64(i, 4));
	}
}

/*
 * The same for a dry run, which has all energy of its accounts in memory.
 */
void
demand_take(SmSettle *settle)
{
	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPair *pair = &settle->pairs[i];

		for (int j = 0; j < pair->n_demand; j++)
		{
			const SmDemandDay *demand = &pair->demand[j];
			int64 most = 0;

			for (int k = 0; k < demand->n_windows; k++)
				most = Max(most, demand->window_wh[k]);
			demand_raise(pair, demand->date, window_w(most, demand->minutes));
		}
	}
}

SM_FUNCTION(submeter_demand_w);

/*
 * submeter.demand_w(window_wh bigint[], minutes int): mean power of the fullest window.
 */
Datum
submeter_demand_w(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	int minutes = PG_GETARG_INT32(1);
	const int64 *wh = (const int64 *) ARR_DATA_PTR(array);
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int64 most = 0;

	if (ARR_HASNULL(array) || minutes <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("demand needs the energy of windows of some minutes")));
	for (int i = 0; i < n; i++)
		most = Max(most, wh[i]);
	PG_RETURN_INT64(window_w(most, minutes));
}
