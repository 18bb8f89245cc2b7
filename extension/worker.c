/*
 * worker.c - background workers that run the duties.
 *
 * One or more equal workers per database of submeter.databases. Each takes the row of duty_state that is
 * due longest and nobody has locked, runs the duty and commits: one transaction per site and duty. When
 * it fails, that is rolled back and noted in a transaction of its own with a longer wait, and the other
 * sites go on. Nothing here knows what a duty does.
 *
 * The row lock is FOR NO KEY UPDATE SKIP LOCKED on duty_state, never on site, which foreign keys lock.
 */
#include "module.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "worker.h"

#define RESTART_SECONDS 5
#define MAX_WORKERS 16
/* How long to wait before looking again whether there is anything to work on at all. */
#define IDLE_MS 5000

static char *worker_databases = NULL;
static int worker_count = 1;
static int worker_naptime_ms = 500;
static int worker_duty_timeout_ms = 60000;

extern PGDLLEXPORT void submeter_worker_main(Datum index);

/* The duty in hand; survives the end of its transaction. */
typedef struct SmDuty
{
	int32 site_id;
	char name[NAMEDATALEN];
} SmDuty;

typedef enum SmTurn
{
	SM_TURN_WORKED,
	SM_TURN_NOTHING_DUE,
	SM_TURN_ASLEEP /* no extension, no storage, or a copy */
} SmTurn;

/*
 * Registers the workers of one database.
 */
static void
worker_register(const char *database)
{
	for (int i = 0; i < worker_count; i++)
	{
		BackgroundWorker worker;

		memset(&worker, 0, sizeof(worker));
		worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
		worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
		worker.bgw_restart_time = RESTART_SECONDS;
		worker.bgw_main_arg = Int32GetDatum(i);
		strlcpy(worker.bgw_library_name, "submeter", BGW_MAXLEN);
		strlcpy(worker.bgw_function_name, "submeter_worker_main", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "submeter worker %d of %s", i + 1, database);
		strlcpy(worker.bgw_type, "submeter worker", BGW_MAXLEN);
		strlcpy(worker.bgw_extra, database, BGW_EXTRALEN);
		RegisterBackgroundWorker(&worker);
	}
}

/*
 * Settings, and, when preloaded, one set of workers per database.
 */
void
worker_init(void)
{
	/* A server that was not told to preload cannot take settings that hold from its start on. */
	GucContext at_start =
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;
	List *names;
	ListCell *cell;
	char *list;

	DefineCustomStringVariable("submeter.databases", "Databases in which workers run the duties.",
							   "Comma-separated; needs shared_preload_libraries = 'submeter'.",
							   &worker_databases, "", at_start, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomIntVariable("submeter.duty_timeout", "Longest time one duty of one site may take.",
							NULL, &worker_duty_timeout_ms, 60000, 0, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("submeter.naptime", "Pause of a worker that found nothing due.", NULL,
							&worker_naptime_ms, 500, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("submeter.workers", "Workers per database.", "They share the sites.",
							&worker_count, 1, 1, MAX_WORKERS, at_start, 0, NULL, NULL, NULL);

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	list = pstrdup(worker_databases);
	if (!SplitGUCList(list, ',', &names))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid list syntax in parameter \"%s\"", "submeter.databases")));
	foreach (cell, names)
		worker_register((char *) lfirst(cell));
	list_free(names);
	pfree(list);
}

static void
transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
transaction_end(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Whether the database has a submeter that is awake.
 */
static bool
is_awake(void)
{
	bool isnull = true;
	Datum awake = (Datum) 0;

	if (SPI_execute("SELECT 1 FROM pg_catalog.pg_extension WHERE extname = 'submeter'", true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed == 0)
		return false;
	if (SPI_execute("SELECT submeter.is_awake()", true, 1) == SPI_OK_SELECT && SPI_processed == 1)
		awake = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return !isnull && DatumGetBool(awake);
}

/*
 * Locks the duty that is due longest. False when none is.
 */
static bool
duty_take(SmDuty *duty)
{
	bool isnull;

	if (SPI_execute(
			"SELECT d.site_id, d.duty FROM submeter.duty_state d WHERE d.next_at <= pg_catalog.clock_timestamp()"
			" ORDER BY d.next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
			false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for duties");
	if (SPI_processed == 0)
		return false;
	duty->site_id =
		DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	strlcpy(duty->name, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2),
			sizeof(duty->name));
	return true;
}

static void
duty_run(const SmDuty *duty)
{
	Oid types[2] = {INT4OID, TEXTOID};
	Datum args[2] = {Int32GetDatum(duty->site_id), CStringGetTextDatum(duty->name)};
	char activity[NAMEDATALEN + 32];

	snprintf(activity, sizeof(activity), "%s of site %d", duty->name, duty->site_id);
	pgstat_report_activity(STATE_RUNNING, activity);
	/* statement_timeout is armed for clients only. */
	if (worker_duty_timeout_ms > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, worker_duty_timeout_ms);
	SPI_execute_with_args("SELECT submeter.run_duty($1, $2, pg_catalog.clock_timestamp())", 2,
						  types, args, NULL, false, 0);
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/*
 * Notes a failure in a transaction of its own.
 */
static void
duty_note_failure(const SmDuty *duty, const ErrorData *error)
{
	Oid types[4] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum args[4];

	transaction_begin();
	args[0] = Int32GetDatum(duty->site_id);
	args[1] = CStringGetTextDatum(duty->name);
	args[2] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	args[3] = CStringGetTextDatum(error->message != NULL ? error->message : "");
	SPI_execute_with_args("SELECT submeter.duty_failed($1, $2, $3, $4)", 4, types, args, NULL,
						  false, 0);
	transaction_end();
}

/*
 * One turn: at most one duty, guarded. The error is copied into the scratch context, which outlives the
 * transaction that failed.
 */
static SmTurn
worker_turn(MemoryContext scratch)
{
	SmDuty duty = {0};
	volatile bool has_duty = false;
	volatile SmTurn turn = SM_TURN_ASLEEP;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		transaction_begin();
		if (is_awake())
		{
			has_duty = duty_take(&duty);
			turn = has_duty ? SM_TURN_WORKED : SM_TURN_NOTHING_DUE;
			if (has_duty)
				duty_run(&duty);
		}
		transaction_end();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(scratch);
		error = CopyErrorData();
		EmitErrorReport();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortCurrentTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_END_TRY();
	if (error != NULL && has_duty)
		duty_note_failure(&duty, error);
	return error != NULL && !has_duty ? SM_TURN_ASLEEP : turn;
}

/*
 * The session of a worker: named, with the rights of submeter_owner and nothing found by accident.
 */
static void
worker_session(void)
{
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "10s", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("application_name", "submeter worker", PGC_USERSET, PGC_S_SESSION);
}

/*
 * The role exists once the extension does; until then the worker has nothing to do anyway.
 */
static void
worker_take_role(void)
{
	transaction_begin();
	if (SPI_execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'submeter_owner'", true,
					1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		SetConfigOption("role", "submeter_owner", PGC_SUSET, PGC_S_SESSION);
	transaction_end();
}

void
submeter_worker_main(Datum index)
{
	MemoryContext scratch;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, NULL, 0);
	worker_session();
	scratch = AllocSetContextCreate(TopMemoryContext, "submeter worker", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		SmTurn turn;

		MemoryContextSwitchTo(scratch);
		if (strcmp(GetConfigOption("role", false, false), "submeter_owner") != 0)
			worker_take_role();
		turn = worker_turn(scratch);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(scratch);
		if (turn != SM_TURN_WORKED)
		{
			WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  turn == SM_TURN_ASLEEP ? IDLE_MS : worker_naptime_ms, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
