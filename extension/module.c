/*
 * module.c - the front door of the library.
 *
 * _PG_init is a table of contents: one init function per room that has settings, hooks or workers.
 * Each of them must work without preload as well (CREATE EXTENSION, pg_dump and pg_upgrade load the
 * library on servers nobody configured) and do its postmaster-only part only when
 * process_shared_preload_libraries_in_progress is set. Takes no locks.
 */
#include "module.h"

#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "notice.h"
#include "secret.h"
#include "worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static char *module_duty = NULL;
static int module_poller_lease_s = 30;

/*
 * Settings that belong to no room. The prefix is reserved, so even a mark that only SQL reads has
 * to be defined. submeter.duty is no key: submeter.is_worker() asks for the owner's rights too.
 */
static void
module_init(void)
{
	DefineCustomStringVariable("submeter.duty", "Duty that runs in this transaction.",
							   "Set by run_duties() and by the workers, empty otherwise.",
							   &module_duty, "", PGC_USERSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	DefineCustomIntVariable("submeter.poller_lease",
							"How long a poller that is not heard of keeps its gateways.",
							"Pollers renew three times as often.", &module_poller_lease_s, 30, 6,
							3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/*
 * Called once when the library is loaded. The prefix is reserved last, so that every room has
 * defined its settings and a misspelt one in postgresql.conf is reported.
 */
void
_PG_init(void)
{
	module_init();
	notice_init();
	secret_init();
	worker_init();

	MarkGUCPrefixReserved("submeter");
}

SM_FUNCTION(submeter_version);

/*
 * submeter.version(): the version this library was built as.
 */
Datum
submeter_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(SUBMETER_VERSION));
}

SM_FUNCTION(submeter_system_identifier);

/*
 * submeter.system_identifier(): as text, because SQL has no unsigned 64 bit type.
 */
Datum
submeter_system_identifier(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT, GetSystemIdentifier())));
}
