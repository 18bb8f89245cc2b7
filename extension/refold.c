/*
 * refold.c - finds the suspects of one meter again from a point in time.
 *
 * Which readings are suspect is a fold over the readings in time order (plausible.c). A late reading, a
 * verdict or a strange value means folding again from the last valid reading before it, until the
 * outcome meets the one on record. The row of meter_state is locked meanwhile.
 *
 * A backfilled reading comes from another register of the meter, one that was frozen. It has to fit
 * between its neighbours on both sides: one that is above what the poller reads next is suspect, not
 * that next reading, and it neither confirms another suspect nor is confirmed by one. So the outcome
 * does not depend on which of them came first.
 */
#include "module.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "db.h"
#include "ingest.h"
#include "plausible.h"

#define FETCH_ROWS 1000

/* Readings looked at for one that a backfilled one must fit before. */
#define NEXT_TRIES 4

static const char lock_state[] =
	"SELECT max_power_w::float8, register_modulus_wh, valid_ts FROM submeter.meter_state"
	" WHERE site_id = $1 AND meter_id = $2 FOR NO KEY UPDATE";

/* Last word of a person on each reading, and whether a rule of its own keeps it out. */
#define SM_JUDGED_READING                                                                                       \
	" FROM submeter.reading r LEFT JOIN LATERAL (SELECT v.verdict, v.energy_wh FROM submeter.reading_verdict v" \
	"  WHERE v.site_id = r.site_id AND v.meter_id = r.meter_id AND v.ts = r.ts"                                 \
	"  ORDER BY v.verdict_id DESC LIMIT 1) v ON true"                                                           \
	" LEFT JOIN LATERAL (SELECT bool_or(q.rule IN ('backwards', 'jump')) AS folded,"                            \
	"   bool_or(q.rule IN ('nan', 'sentinel', 'negative', 'future') AND q.state = 'open') AS alone"             \
	"  FROM submeter.reading_suspect q WHERE q.site_id = r.site_id AND q.meter_id = r.meter_id"                 \
	"  AND q.ts = r.ts AND q.rule <> 'second_value' AND q.state <> 'judged') q ON true"                         \
	" WHERE r.site_id = $1 AND r.meter_id = $2 AND r.energy_wh IS NOT NULL"

/* Not a backfilled one: what follows it says whether it counts. */
static const char find_base[] =
	"SELECT r.ts, coalesce(v.energy_wh, r.energy_wh)" SM_JUDGED_READING
	" AND r.source <> 'backfill' AND r.ts < $3 AND v.verdict IS DISTINCT FROM 'withdraw'"
	" AND (v.verdict IS NOT NULL OR NOT coalesce(q.folded OR q.alone, false))"
	" ORDER BY r.ts DESC LIMIT 1";

static const char read_forward[] =
	"SELECT r.ts, coalesce(v.energy_wh, r.energy_wh), v.verdict, coalesce(q.folded, false), coalesce(q.alone, false),"
	" r.source = 'backfill'" SM_JUDGED_READING " AND r.ts > $3 ORDER BY r.ts";

/* The next reading of the poller, as far as one has been judged to count or not been judged at all. */
static const char find_next[] =
	"SELECT r.ts, coalesce(v.energy_wh, r.energy_wh)" SM_JUDGED_READING
	" AND r.source <> 'backfill' AND r.ts > $3 AND v.verdict IS DISTINCT FROM 'withdraw'"
	" AND (v.verdict IS NOT NULL OR NOT coalesce(q.alone, false)) ORDER BY r.ts LIMIT 1";

static const char write_suspects[] =
	"WITH found AS (SELECT * FROM unnest($3, $4, $5, $6, $7) AS f(ts, rule, state, energy_wh, detail)),"
	" gone AS (DELETE FROM submeter.reading_suspect q WHERE q.site_id = $1 AND q.meter_id = $2"
	"  AND q.ts > $8 AND q.ts <= $9 AND q.rule IN ('backwards', 'jump') AND q.state <> 'judged'"
	"  AND NOT EXISTS (SELECT FROM found f WHERE f.ts = q.ts AND f.rule = q.rule))"
	" INSERT INTO submeter.reading_suspect AS q (site_id, meter_id, ts, rule, state, energy_wh, detail, settled_at)"
	" SELECT $1, $2, f.ts, f.rule, f.state, f.energy_wh, f.detail,"
	"  CASE WHEN f.state = 'confirmed' THEN clock_timestamp() END FROM found f"
	" ON CONFLICT (site_id, meter_id, ts, rule, energy_wh) DO UPDATE"
	" SET state = EXCLUDED.state, settled_at = EXCLUDED.settled_at, detail = EXCLUDED.detail"
	" WHERE q.state <> 'judged'";

static const char write_state[] =
	"UPDATE submeter.meter_state SET valid_ts = $3, valid_wh = $4 WHERE site_id = $1 AND meter_id = $2";

static const char mark_changed[] = "SELECT submeter.mark_dirty($1, $2, $3)";

typedef struct SmSuspect
{
	TimestampTz ts;
	int64 energy_wh;
	int64 base_wh;
	SmClass class;
	bool confirmed;
	bool above; /* backfilled, and above what the poller read next */
} SmSuspect;

typedef struct SmRefold
{
	Datum key[3]; /* site, meter, time */
	TimestampTz base_ts;
	TimestampTz valid_to; /* time of the last valid reading so far */
	TimestampTz to_ts;    /* readings up to here changed */
	TimestampTz end_ts;   /* where the fold stopped */
	bool converged;
	SmRating rating;
	SmFold fold;
	TimestampTz next_ts; /* the poller's next reading, as far as it was looked up */
	int64 next_wh;
	int candidate; /* suspect that a further reading may confirm */
	SmSuspect *suspects;
	int n_suspects;
	int max_suspects;
} SmRefold;

static const Oid key_types[3] = {INT4OID, INT8OID, TIMESTAMPTZOID};

/*
 * Locks the meter's state and takes its rating.
 */
static void
refold_lock(SmRefold *refold)
{
	static SPIPlanPtr plan = NULL;
	bool isnull;
	Datum power;

	db_execute(&plan, lock_state, 2, key_types, refold->key, NULL, SPI_OK_SELECT);
	if (SPI_processed != 1)
		return;
	power = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	refold->rating.max_power_w = isnull ? 0 : DatumGetFloat8(power);
	refold->rating.modulus_wh = db_int64(SPI_tuptable->vals[0], 2, &isnull);
	refold->valid_to = db_int64(SPI_tuptable->vals[0], 3, &isnull);
	if (isnull)
		refold->valid_to = DT_NOBEGIN;
}

/*
 * The last reading before the change that is valid whatever comes after it.
 */
static void
refold_base(SmRefold *refold)
{
	static SPIPlanPtr plan = NULL;
	bool isnull;

	refold->base_ts = DT_NOBEGIN;
	db_execute(&plan, find_base, 3, key_types, refold->key, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	refold->base_ts = db_int64(SPI_tuptable->vals[0], 1, &isnull);
	refold->fold.has_base = true;
	refold->fold.base_us = refold->base_ts;
	refold->fold.base_wh = db_int64(SPI_tuptable->vals[0], 2, &isnull);
}

static SmVerdict
verdict_of(HeapTuple tuple, int column)
{
	char *verdict = SPI_getvalue(tuple, SPI_tuptable->tupdesc, column);

	if (verdict == NULL)
		return SM_VERDICT_NONE;
	if (strcmp(verdict, "withdraw") == 0)
		return SM_VERDICT_WITHDRAW;
	return strcmp(verdict, "replace") == 0 ? SM_VERDICT_REPLACE : SM_VERDICT_ACCEPT;
}

static void
suspect_add(SmRefold *refold, TimestampTz ts, int64 wh, SmClass class)
{
	SmSuspect *suspect;

	if (refold->n_suspects == refold->max_suspects)
	{
		refold->max_suspects = Max(16, refold->max_suspects * 2);
		if (refold->suspects == NULL)
			refold->suspects = palloc(sizeof(SmSuspect) * refold->max_suspects);
		else
			refold->suspects = repalloc(refold->suspects, sizeof(SmSuspect) * refold->max_suspects);
	}
	suspect = &refold->suspects[refold->n_suspects++];
	suspect->ts = ts;
	suspect->energy_wh = wh;
	suspect->base_wh = refold->fold.base_wh;
	suspect->class = class;
	suspect->confirmed = false;
	suspect->above = false;
}

/*
 * Looks up the poller's reading after a time; the same one serves all backfilled readings before it.
 */
static void
refold_find_next(SmRefold *refold, TimestampTz ts)
{
	static SPIPlanPtr plan = NULL;
	SPITupleTable *fetched = SPI_tuptable;
	uint64 count = SPI_processed;
	Datum args[3] = {refold->key[0], refold->key[1], TimestampTzGetDatum(ts)};
	bool isnull;

	db_execute(&plan, find_next, 3, key_types, args, NULL, SPI_OK_SELECT);
	refold->next_ts = DT_NOEND;
	if (SPI_processed > 0)
	{
		refold->next_ts = db_int64(SPI_tuptable->vals[0], 1, &isnull);
		refold->next_wh = db_int64(SPI_tuptable->vals[0], 2, &isnull);
	}
	SPI_freetuptable(SPI_tuptable);
	/* the caller walks through what its cursor fetched */
	SPI_tuptable = fetched;
	SPI_processed = count;
}

/*
 * Judges a backfilled reading about which nobody has spoken; a suspect one leaves the fold as it is. A
 * later reading that cannot follow the last valid one says nothing: the one after it is asked.
 */
static SmClass
refold_backfilled(SmRefold *refold, TimestampTz ts, int64 wh)
{
	const SmRating *rating = &refold->rating;
	const SmFold *fold = &refold->fold;

	if (fold->has_base && !plausible_step(rating, fold->base_us, fold->base_wh, ts, wh))
		return wh < fold->base_wh ? SM_CLASS_BACKWARDS : SM_CLASS_JUMP;
	if (refold->next_ts <= ts)
		refold_find_next(refold, ts);
	for (int tries = 0; tries < NEXT_TRIES && refold->next_ts != DT_NOEND; tries++)
	{
		if (plausible_step(rating, ts, wh, refold->next_ts, refold->next_wh))
			break;
		if (!fold->has_base ||
			plausible_step(rating, fold->base_us, fold->base_wh, refold->next_ts, refold->next_wh))
			return wh > refold->next_wh ? SM_CLASS_JUMP : SM_CLASS_BACKWARDS;
		refold_find_next(refold, refold->next_ts);
	}
	return plausible_fold(&refold->fold, rating, SM_VERDICT_NONE, ts, wh);
}

/*
 * Folds one reading. True when from here on everything is as it is on record.
 */
static bool
refold_step(SmRefold *refold, HeapTuple tuple)
{
	bool isnull;
	TimestampTz ts = db_int64(tuple, 1, &isnull);
	int64 wh = db_int64(tuple, 2, &isnull);
	SmVerdict verdict = verdict_of(tuple, 3);
	bool was_suspect = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 4, &isnull));
	bool alone = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 5, &isnull));
	bool backfilled = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 6, &isnull));
	SmClass class;

	refold->end_ts = ts;
	if (alone && verdict == SM_VERDICT_NONE)
		return false;
	if (backfilled && verdict == SM_VERDICT_NONE)
		class = refold_backfilled(refold, ts, wh);
	else
		class = plausible_fold(&refold->fold, &refold->rating, verdict, ts, wh);
	if (class == SM_CLASS_CONFIRMS)
		refold->suspects[refold->candidate].confirmed = true;
	else if (class == SM_CLASS_BACKWARDS || class == SM_CLASS_JUMP)
	{
		if (!backfilled)
			refold->candidate = refold->n_suspects;
		suspect_add(refold, ts, wh, class);
		refold->suspects[refold->n_suspects - 1].above =
			backfilled &&
			plausible_step(&refold->rating, refold->fold.base_us, refold->fold.base_wh, ts, wh);
	}
	return ts > refold->to_ts && class == SM_CLASS_VALID && !was_suspect && !backfilled;
}

static void
refold_forward(SmRefold *refold)
{
	static SPIPlanPtr plan = NULL;
	Datum args[3] = {refold->key[0], refold->key[1], TimestampTzGetDatum(refold->base_ts)};
	Portal portal = db_open(&plan, read_forward, 3, key_types, args, NULL);

	refold->end_ts = refold->to_ts;
	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed && !refold->converged; i++)
			refold->converged = refold_step(refold, SPI_tuptable->vals[i]);
	} while (SPI_processed == FETCH_ROWS && !refold->converged);
	SPI_cursor_close(portal);
}

/*
 * Text of a suspect for the person who will judge it.
 */
static char *
suspect_detail(const SmSuspect *suspect)
{
	const char *why = "more than the meter can measure in the time";

	if (suspect->above)
		why = "fetched later, it does not fit before the next reading";
	else if (suspect->class == SM_CLASS_BACKWARDS)
		why = "it ran backwards";
	return psprintf("register " INT64_FORMAT " Wh after " INT64_FORMAT " Wh: %s",
					suspect->energy_wh, suspect->base_wh, why);
}

/*
 * Puts the outcome on record: suspects of the folded stretch, and the last valid reading.
 */
static void
refold_write(SmRefold *refold)
{
	static SPIPlanPtr suspects_plan = NULL;
	static SPIPlanPtr state_plan = NULL;
	static const Oid types[9] = {INT4OID,      INT8OID,        TIMESTAMPTZARRAYOID,
								 TEXTARRAYOID, TEXTARRAYOID,   INT8ARRAYOID,
								 TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid state_types[4] = {INT4OID, INT8OID, TIMESTAMPTZOID, INT8OID};
	int n = refold->n_suspects;
	Datum *columns[5];
	Datum args[9];

	for (int i = 0; i < 5; i++)
		columns[i] = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const SmSuspect *suspect = &refold->suspects[i];

		columns[0][i] = TimestampTzGetDatum(suspect->ts);
		columns[1][i] =
			CStringGetTextDatum(suspect->class == SM_CLASS_BACKWARDS ? "backwards" : "jump");
		columns[2][i] = CStringGetTextDatum(suspect->confirmed ? "confirmed" : "open");
		columns[3][i] = Int64GetDatum(suspect->energy_wh);
		columns[4][i] = CStringGetTextDatum(suspect_detail(suspect));
	}
	args[0] = refold->key[0];
	args[1] = refold->key[1];
	args[2] =
		PointerGetDatum(construct_array(columns[0], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[3] = PointerGetDatum(construct_array(columns[1], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = PointerGetDatum(construct_array(columns[2], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[5] = PointerGetDatum(construct_array(columns[3], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[6] = PointerGetDatum(construct_array(columns[4], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[7] = TimestampTzGetDatum(refold->base_ts);
	args[8] = TimestampTzGetDatum(refold->end_ts);
	db_execute(&suspects_plan, write_suspects, 9, types, args, NULL, SPI_OK_INSERT);

	if (refold->converged)
		return;
	args[2] = TimestampTzGetDatum(refold->fold.base_us);
	args[3] = Int64GetDatum(refold->fold.base_wh);
	db_execute(&state_plan, write_state, 4, state_types, args,
			   refold->fold.has_base ? NULL : "  nn", SPI_OK_UPDATE);
}

/*
 * Folds a meter again after its readings in [from_ts, to_ts] changed. SPI must be connected.
 */
void
refold_meter(int32 site_id, int64 meter_id, TimestampTz from_ts, TimestampTz to_ts)
{
	static SPIPlanPtr plan = NULL;
	SmRefold refold = {0};

	refold.key[0] = Int32GetDatum(site_id);
	refold.key[1] = Int64GetDatum(meter_id);
	refold.key[2] = TimestampTzGetDatum(from_ts);
	refold.to_ts = to_ts;
	refold.valid_to = DT_NOBEGIN;
	refold.next_ts = DT_NOBEGIN;
	refold_lock(&refold);
	refold_base(&refold);
	refold_forward(&refold);
	refold_write(&refold);

	/*
	 * Everything after the base may mean something else now. Whether it is settled already cannot be
	 * asked, for a settlement that is under way does not show yet; but what was not valid was not.
	 */
	if (refold.valid_to <= refold.base_ts)
		return;
	refold.key[2] = TimestampTzGetDatum(refold.base_ts);
	db_execute(&plan, mark_changed, 3, key_types, refold.key, NULL, SPI_OK_SELECT);
}

SM_FUNCTION(submeter_refold);

/*
 * submeter.refold(site_id, meter_id, from_ts)
 */
Datum
submeter_refold(PG_FUNCTION_ARGS)
{
	SPI_connect();
	refold_meter(PG_GETARG_INT32(0), PG_GETARG_INT64(1), PG_GETARG_TIMESTAMPTZ(2),
				 PG_GETARG_TIMESTAMPTZ(2));
	SPI_finish();
	PG_RETURN_VOID();
}
