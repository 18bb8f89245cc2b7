/*
 * settle_plan.c - what a run of settle has to look at, and everything that concerns it.
 *
 * A meter whose readings merely went on is settled from where it stood. When a fact behind that point
 * changed, its usage is computed anew from the start of the billing cycle of the last valid reading
 * before the change, and so is what is owed by every account it feeds from there on; other meters of
 * those accounts are then read again as helpers.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "settle.h"
#include "tariff.h"

static const char find_meters[] =
	"SELECT s.meter_id, coalesce(d.seq, 0), t.settled_to,"
	" CASE WHEN d.seq > coalesce(t.seq, 0) AND d.from_ts <= t.settled_to"
	"  THEN coalesce(submeter.valid_before(s.site_id, s.meter_id, d.from_ts), d.from_ts) END"
	" FROM submeter.meter_state s"
	" LEFT JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id"
	" LEFT JOIN submeter.meter_dirty d ON d.site_id = s.site_id AND d.meter_id = s.meter_id"
	" WHERE s.site_id = $1 AND (s.valid_ts > coalesce(t.settled_to, '-infinity') AND coalesce(t.settled_to, '-infinity') < $2"
	"  OR d.seq > coalesce(t.seq, 0) AND d.from_ts <= $2)"
	" ORDER BY s.meter_id";

static const char take_dirty[] =
	"DELETE FROM submeter.charge_dirty d USING (SELECT x.account_id, x.tariff_id FROM submeter.charge_dirty x"
	"  WHERE x.site_id = $1 FOR UPDATE SKIP LOCKED) k"
	" WHERE d.site_id = $1 AND d.account_id = k.account_id AND d.tariff_id = k.tariff_id"
	" RETURNING d.account_id, d.tariff_id, d.from_ts";

static const char find_supplies[] =
	"SELECT k.ord::int4, s.account_id, s.tariff_id, lower(s.during), upper(s.during)"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord)"
	" JOIN submeter.supply s ON s.site_id = $1 AND s.meter_id = k.meter_id"
	" AND (upper_inf(s.during) OR upper(s.during) > k.from_ts)"
	" ORDER BY k.ord, lower(s.during)";

static const char find_helpers[] =
	"SELECT s.meter_id, t.settled_to, s.account_id, s.tariff_id, lower(s.during), upper(s.during)"
	" FROM unnest($2, $3, $4) AS k(account_id, tariff_id, from_ts)"
	" JOIN submeter.supply s ON s.site_id = $1 AND s.account_id = k.account_id AND s.tariff_id = k.tariff_id"
	" AND (upper_inf(s.during) OR upper(s.during) > k.from_ts)"
	" JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id AND t.settled_to > lower(s.during)"
	" ORDER BY s.meter_id, lower(s.during)";

static const char find_dry_meters[] =
	"SELECT DISTINCT s.meter_id, coalesce(t.settled_to, '-infinity') FROM submeter.supply s"
	" LEFT JOIN submeter.meter_settled t ON t.site_id = s.site_id AND t.meter_id = s.meter_id"
	" WHERE s.site_id = $1 AND ($2 = 0 OR s.account_id = $2) ORDER BY s.meter_id";

static const char find_read_from[] =
	"SELECT k.ord::int4, submeter.valid_before($1, k.meter_id, k.from_ts + interval '1 microsecond')"
	" FROM unnest($2, $3) WITH ORDINALITY AS k(meter_id, from_ts, ord) WHERE isfinite(k.from_ts) ORDER BY k.ord";

/* ---- meters ---- */

static SmMeter *
meter_add(SmSettle *settle, int64 meter_id)
{
	SmMeter *meter;

	if (settle->n_meters == settle->max_meters)
	{
		settle->max_meters = Max(64, settle->max_meters * 2);
		settle->meters = settle->meters == NULL
							 ? palloc(sizeof(SmMeter) * settle->max_meters)
							 : repalloc_huge(settle->meters, sizeof(SmMeter) * settle->max_meters);
	}
	meter = &settle->meters[settle->n_meters++];
	memset(meter, 0, sizeof(*meter));
	meter->meter_id = meter_id;
	return meter;
}

/*
 * Start of the billing cycle that holds a time; the time itself where there is no calendar.
 */
static TimestampTz
cycle_start(const SmSettle *settle, TimestampTz at)
{
	TimestampTz from = at;
	TimestampTz to;

	if (!TIMESTAMP_NOT_FINITE(at))
		tariff_cycle(at, settle->zone, &from, &to);
	return from;
}

/*
 * Meters with something new.
 */
static void
meters_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum args[2] = {Int32GetDatum(settle->site_id), TimestampTzGetDatum(settle->as_of)};

	db_execute(&plan, find_meters, 2, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = meter_add(settle, db_cell_int64(i, 1));
		TimestampTz reset_at = db_cell_time(i, 4, DT_NOEND);

		meter->candidate = true;
		meter->seq = db_cell_int64(i, 2);
		meter->settled_to = db_cell_time(i, 3, DT_NOBEGIN);
		meter->usage_from =
			reset_at == DT_NOEND ? meter->settled_to : cycle_start(settle, reset_at);
		/* An older as_of never takes back what was settled. */
		meter->horizon = Max(settle->as_of, meter->settled_to);
	}
}

/* ---- accounts on tariffs ---- */

static int
pair_find(SmSettle *settle, int64 account_id, int64 tariff_id)
{
	/* Supplies come meter by meter, and most meters feed one account: look at the newest first. */
	for (int i = settle->n_pairs - 1; i >= 0; i--)
	{
		if (settle->pairs[i].account_id == account_id && settle->pairs[i].tariff_id == tariff_id)
			return i;
	}
	return -1;
}

static int
pair_add(SmSettle *settle, int64 account_id, int64 tariff_id)
{
	SmPair *pair;

	if (settle->n_pairs == settle->max_pairs)
	{
		settle->max_pairs = Max(64, settle->max_pairs * 2);
		settle->pairs = settle->pairs == NULL
							? palloc(sizeof(SmPair) * settle->max_pairs)
							: repalloc_huge(settle->pairs, sizeof(SmPair) * settle->max_pairs);
	}
	pair = &settle->pairs[settle->n_pairs++];
	memset(pair, 0, sizeof(*pair));
	pair->account_id = account_id;
	pair->tariff_id = tariff_id;
	pair->reset_from = DT_NOEND;
	pair->load_from = DT_NOEND;
	return settle->n_pairs - 1;
}

typedef struct SmPairKey
{
	int64 account_id;
	int64 tariff_id;
} SmPairKey;

typedef struct SmPairEntry
{
	SmPairKey key;
	int pair;
} SmPairEntry;

/*
 * An index of the pairs so far.
 */
static HTAB *
pair_index(const SmSettle *settle)
{
	HASHCTL control = {.keysize = sizeof(SmPairKey),
					   .entrysize = sizeof(SmPairEntry),
					   .hcxt = CurrentMemoryContext};

	HTAB *index =
		hash_create("submeter pairs", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < settle->n_pairs; i++)
	{
		SmPairKey key = {settle->pairs[i].account_id, settle->pairs[i].tariff_id};
		SmPairEntry *entry = hash_search(index, &key, HASH_ENTER, NULL);

		entry->pair = i;
	}
	return index;
}

/*
 * Accounts that lost a supply: they are computed anew, though no meter with something new may lead there.
 */
static void
dirty_pairs_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT4OID};
	Datum args[1] = {Int32GetDatum(settle->site_id)};

	db_execute(&plan, take_dirty, 1, types, args, NULL, SPI_OK_DELETE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int at = pair_add(settle, db_cell_int64(i, 1), db_cell_int64(i, 2));
		TimestampTz from = cycle_start(settle, db_cell_time(i, 3, DT_NOBEGIN));

		settle->pairs[at].reset_from = from;
		settle->pairs[at].load_from = from;
	}
}

static void
supply_add(SmMeter *meter, int pair, TimestampTz from, TimestampTz to, TimestampTz count_from)
{
	SmSupply *supply;

	/* Few per meter: grown one by one. */
	meter->supplies = meter->supplies == NULL
						  ? palloc(sizeof(SmSupply))
						  : repalloc(meter->supplies, sizeof(SmSupply) * (meter->n_supplies + 1));
	supply = &meter->supplies[meter->n_supplies++];
	supply->from = from;
	supply->to = to;
	supply->count_from = count_from;
	supply->pair = pair;
}

/*
 * What the meters feed from where they are settled again; an account fed by a meter that is computed
 * anew is computed anew from the same cycle on.
 */
static void
supplies_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	HTAB *index = pair_index(settle);
	Datum args[3];

	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, usage_from), &args[1]);
	db_execute(&plan, find_supplies, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];
		SmPairKey key = {db_cell_int64(i, 2), db_cell_int64(i, 3)};
		bool found;
		SmPairEntry *entry = hash_search(index, &key, HASH_ENTER, &found);
		SmPair *pair;

		if (!found)
			entry->pair = pair_add(settle, key.account_id, key.tariff_id);
		pair = &settle->pairs[entry->pair];
		if (meter->usage_from < meter->settled_to)
			pair->reset_from = Min(pair->reset_from, meter->usage_from);
		pair->load_from = Min(pair->load_from, meter->usage_from);
		supply_add(meter, entry->pair, db_cell_time(i, 4, DT_NOBEGIN), db_cell_time(i, 5, DT_NOEND),
				   DT_NOBEGIN);
	}
	hash_destroy(index);
}

static SmMeter *
meter_find(SmSettle *settle, int64 meter_id, int n_sorted)
{
	int low = 0;
	int high = n_sorted;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (settle->meters[middle].meter_id < meter_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n_sorted && settle->meters[low].meter_id == meter_id ? &settle->meters[low] : NULL;
}

/*
 * One supply of an account that is computed anew: known already, or of a helper, or of an earlier time
 * of a meter that is here for another reason.
 */
static void
helper_take(SmSettle *settle, uint64 row, int n_sorted)
{
	int pair = pair_find(settle, db_cell_int64(row, 3), db_cell_int64(row, 4));
	SmMeter *meter = meter_find(settle, db_cell_int64(row, 1), n_sorted);
	TimestampTz from = db_cell_time(row, 5, DT_NOBEGIN);

	if (meter == NULL && settle->n_meters > n_sorted &&
		settle->meters[settle->n_meters - 1].meter_id == db_cell_int64(row, 1))
		meter = &settle->meters[settle->n_meters - 1];
	if (meter == NULL)
	{
		meter = meter_add(settle, db_cell_int64(row, 1));
		meter->usage_from = DT_NOEND;
		meter->settled_to = meter->horizon = db_cell_time(row, 2, DT_NOBEGIN);
	}
	for (int i = 0; i < meter->n_supplies; i++)
	{
		if (meter->supplies[i].from == from)
			return;
	}
	supply_add(meter, pair, from, db_cell_time(row, 6, DT_NOEND), DT_NOBEGIN);
}

/*
 * The other meters of the accounts that are computed anew.
 */
static void
helpers_find(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum *columns[3];
	Datum args[4];
	int n_sorted = settle->n_meters;
	int n = 0;

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * Max(settle->n_pairs, 1));
	for (int i = 0; i < settle->n_pairs; i++)
	{
		if (settle->pairs[i].reset_from == DT_NOEND)
			continue;
		columns[0][n] = Int64GetDatum(settle->pairs[i].account_id);
		columns[1][n] = Int64GetDatum(settle->pairs[i].tariff_id);
		columns[2][n++] = TimestampTzGetDatum(settle->pairs[i].reset_from);
	}
	if (n == 0)
		return;
	args[0] = Int32GetDatum(settle->site_id);
	args[1] = db_int64_array(columns[0], n);
	args[2] = db_int64_array(columns[1], n);
	args[3] = db_time_array(columns[2], n);
	db_execute(&plan, find_helpers, 4, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		helper_take(settle, i, n_sorted);
}

/*
 * From where each meter's energy counts for each account, and from where it must be read for that.
 */
static void
ranges_set(SmSettle *settle)
{
	for (int i = 0; i < settle->n_meters; i++)
	{
		SmMeter *meter = &settle->meters[i];

		meter->read_from = meter->usage_from;
		for (int j = 0; j < meter->n_supplies; j++)
		{
			SmSupply *supply = &meter->supplies[j];
			const SmPair *pair = &settle->pairs[supply->pair];

			supply->count_from =
				pair->reset_from != DT_NOEND ? pair->reset_from : meter->settled_to;
			if (supply->to > supply->count_from)
				meter->read_from = Min(meter->read_from, Max(supply->count_from, supply->from));
		}
	}
}

/*
 * Reading starts at the last valid reading at or before the time from which energy counts.
 */
static void
read_from_set(SmSettle *settle)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum args[3];
	bool needed = false;

	for (int i = 0; i < settle->n_meters; i++)
		needed |= settle->meters[i].read_from != settle->meters[i].settled_to;
	if (!needed)
		return;
	args[0] = Int32GetDatum(settle->site_id);
	meter_arrays(settle, offsetof(SmMeter, read_from), &args[1]);
	db_execute(&plan, find_read_from, 3, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = &settle->meters[db_cell_int32(i, 1) - 1];

		meter->read_from = db_cell_time(i, 2, meter->read_from);
	}
}

/*
 * Everything one run needs, from the database into memory.
 */
void
settle_plan(SmSettle *settle)
{
	meters_find(settle);
	if (settle->n_meters == 0)
		return;
	dirty_pairs_find(settle);
	supplies_find(settle);
	helpers_find(settle);
	ranges_set(settle);
	read_from_set(settle);
	settle_load(settle);
}

/*
 * The same for computing the charges of an account (0: all) from scratch, as far as its meters are
 * settled and facts were known.
 */
void
settle_plan_dry(SmSettle *settle, int64 account_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, INT8OID};
	Datum args[2] = {Int32GetDatum(settle->site_id), Int64GetDatum(account_id)};

	db_execute(&plan, find_dry_meters, 2, types, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SmMeter *meter = meter_add(settle, db_cell_int64(i, 1));

		meter->settled_to = meter->usage_from = DT_NOBEGIN;
		meter->horizon = Min(settle->as_of, db_cell_time(i, 2, DT_NOBEGIN));
	}
	if (settle->n_meters == 0)
		return;
	supplies_find(settle);
	ranges_set(settle);
	settle_load(settle);
}
