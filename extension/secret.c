/*
 * secret.c - what is sealed at rest, and the keys for it that are not in the database
 *
 * A sealed value is a version byte, the name of its key, a nonce, the ciphertext and its tag
 * (AES-256-GCM); the additional data ties it to its place, so that nobody can move it to another
 * row. The keys come from a file of the server (submeter.secret_key_file) or, without one, from the
 * variable SUBMETER_SECRET_KEY of its environment. They are read when they are needed and wiped
 * again: a key that was exchanged is in force at once, and no backend carries one around.
 *
 * What a statement with a secret in it looks like must not be found in the log: see
 * secret_hide_log().
 */
#include "module.h"

#include "secret.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands/prepare.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include <openssl/crypto.h>

#include "crypto.h"
#include "secret_key.h"

#define SEALED_VERSION 1
#define SEALED_HEAD (1 + SECRET_KEY_ID + CRYPTO_NONCE)
#define KEY_FILE_MAX 8192
#define KEY_VARIABLE "SUBMETER_SECRET_KEY"
#define HIDDEN_STATEMENT "a statement with a secret, not shown"

/* Functions that are given a secret: a statement that names one shows it. */
static const char *const secret_verbs[] = {"set_secret", "set_meter_key", "finish_wechat_login"};

/*
 * Functions that handle secrets in their parameters, results or statements: requests with
 * passwords, answers with tokens, commands with passwords of meters. The statement of the daemons
 * shows none.
 */
static const char *const secret_carriers[] = {"claim_outbound", "report_outbound", "send_command"};

static char *secret_key_file = NULL;
static emit_log_hook_type earlier_log_hook = NULL;

/*
 * Accepts a setting that is empty or absolute: a relative one would mean the data directory, and
 * its backups would hold the keys with what they seal.
 */
static bool
secret_key_file_check(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || is_absolute_path(*newval))
		return true;
	GUC_check_errdetail("The file must have an absolute path.");
	return false;
}

static bool
text_names(const char *text, const char *const *names, size_t n_names)
{
	for (size_t i = 0; text != NULL && i < n_names; i++)
		if (strcasestr(text, names[i]) != NULL)
			return true;
	return false;
}

/*
 * True when a text of the log would show a secret: it is or quotes a call of set_secret() or of
 * another function that is given one.
 */
static bool
secret_shows(const char *text)
{
	return text_names(text, secret_verbs, lengthof(secret_verbs));
}

/*
 * The text that a statement stands for: of EXECUTE that of the statement that was prepared.
 */
static const char *
statement_text(const char *text)
{
	char name[NAMEDATALEN];
	const char *at = text;
	PreparedStatement *prepared;
	size_t length;

	if (text == NULL)
		return NULL;
	at += strspn(at, " \t\r\n");
	if (pg_strncasecmp(at, "execute", 7) != 0 || strspn(at + 7, " \t\r\n\"") == 0)
		return text;
	at += 7;
	at += strspn(at, " \t\r\n\"");
	length = strcspn(at, " \t\r\n\"(;");
	if (length >= sizeof(name))
		return text;
	for (size_t i = 0; i < length; i++)
		name[i] = at[-1] == '"' ? at[i] : pg_tolower((unsigned char) at[i]);
	name[length] = '\0';
	prepared = FetchPreparedStatement(name, false);
	return prepared == NULL ? text : prepared->plansource->query_string;
}

/*
 * True for what auto_explain writes. A plan shows constants, and a parameter of a statement inside
 * a function is one.
 */
static bool
is_plan(const ErrorData *edata)
{
	return edata->message != NULL && strstr(edata->message, "plan:") != NULL;
}

/*
 * Keeps the message of an error out of the log, but not from the client, who sent what it quotes.
 */
static void
hide_error(ErrorData *edata)
{
	edata->output_to_server = false;
	ereport(LOG, (errcode(edata->sqlerrcode), errmsg_internal("%s: it failed", HIDDEN_STATEMENT),
				  errhidestmt(true), errhidecontext(true)));
}

/*
 * Takes statements that set a secret out of the server's log, whatever made the server write them
 * (an error, log_statement, a slow statement), with their parameters; of statements that carry one
 * the parameters and the plans. What our own functions say of an error shows none, but the parser
 * and casts quote what they do not understand.
 */
static void
secret_hide_log(ErrorData *edata)
{
	static bool at_work = false;
	bool logged = edata->elevel == LOG;
	bool given;

	if (!at_work && edata->output_to_server)
	{
		const char *statement;

		at_work = true;
		statement = statement_text(debug_query_string);
		given = secret_shows(statement) || secret_shows(edata->message) ||
				secret_shows(edata->context) || (logged && secret_shows(edata->detail));
		/* A plan is written when its portal ends, and the statement may be over by then. */
		if (given || text_names(statement, secret_carriers, lengthof(secret_carriers)) ||
			text_names(edata->message, secret_carriers, lengthof(secret_carriers)))
		{
			edata->hide_ctx = true;
			edata->detail_log = logged ? NULL : edata->detail_log;
			if (logged)
				edata->detail = NULL;
			if (logged && (given || is_plan(edata)))
				edata->message = pstrdup(HIDDEN_STATEMENT);
		}
		if (given)
			edata->hide_stmt = true;
		if (given && !logged && !secret_shows(edata->context))
			hide_error(edata);
		at_work = false;
	}
	if (earlier_log_hook != NULL)
		earlier_log_hook(edata);
}

/*
 * Defines the settings of the room. Called once by _PG_init.
 */
void
secret_init(void)
{
	DefineCustomStringVariable(
		"submeter.secret_key_file", "File with the keys that secrets are sealed with.",
		"One key to a line, 32 bytes as base64; the first one seals. Empty: "
		"the variable " KEY_VARIABLE " of the server's environment.",
		&secret_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, secret_key_file_check, NULL, NULL);
	earlier_log_hook = emit_log_hook;
	emit_log_hook = secret_hide_log;
}

/*
 * Refuses a file that others than the server could have read.
 */
static void
key_file_check(int file)
{
	struct stat status;

	if (fstat(file, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not look at \"%s\": %m", secret_key_file),
				 errhint("Check submeter.secret_key_file.")));
	if (!S_ISREG(status.st_mode) || (status.st_uid != geteuid() && status.st_uid != 0) ||
		(status.st_mode & (status.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO)))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("\"%s\" is not private", secret_key_file),
			 errdetail("A file of keys is a plain file that belongs to the user of the server "
					   "with mode 0600, or to root with mode 0640."),
			 errhint("Run chmod 600 on it; if others could have read it, put a new key in front "
					 "and call submeter.rotate_secrets().")));
}

/*
 * Reads the file of keys into a buffer; returns its length.
 */
static size_t
key_file_read(char text[KEY_FILE_MAX])
{
	int file = OpenTransientFile(secret_key_file, O_RDONLY | PG_BINARY);
	ssize_t length;

	if (file < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open the file of keys \"%s\": %m", secret_key_file),
				 errhint("Check submeter.secret_key_file and that the user of the server may "
						 "read it.")));
	key_file_check(file);
	length = read(file, text, KEY_FILE_MAX);
	CloseTransientFile(file);
	if (length < 0 || length == KEY_FILE_MAX)
	{
		OPENSSL_cleanse(text, KEY_FILE_MAX);
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						errmsg("could not read the file of keys \"%s\"", secret_key_file),
						errdetail("It has to be shorter than %d bytes.", KEY_FILE_MAX),
						errhint("One key to a line, 32 bytes as base64.")));
	}
	return (size_t) length;
}

/*
 * The keys of the server, the current one first. The caller wipes them.
 */
static int
keys_load(SmSecretKey keys[SECRET_KEYS_MAX])
{
	bool from_file = secret_key_file != NULL && secret_key_file[0] != '\0';
	const char *variable = from_file ? NULL : getenv(KEY_VARIABLE);
	char text[KEY_FILE_MAX];
	int bad_line = 0;
	int count;

	if (from_file)
	{
		count = secret_keys_read(text, key_file_read(text), keys, &bad_line);
		OPENSSL_cleanse(text, sizeof(text));
	}
	else
		count =
			variable == NULL ? 0 : secret_keys_read(variable, strlen(variable), keys, &bad_line);
	if (count > 0)
		return count;
	OPENSSL_cleanse(keys, sizeof(SmSecretKey) * SECRET_KEYS_MAX);
	if (count == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the server has no key for secrets"),
			 errdetail("Secrets are sealed with a key that is not in the database."),
			 errhint("Write one with \"openssl rand -base64 32\" into a file of mode 0600, name it "
					 "in submeter.secret_key_file and reload the server.")));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("line %d of the keys for secrets is not a key", bad_line),
			 errdetail("A key is 32 bytes as base64 or as 64 hexadecimal digits; there are at "
					   "most %d.",
					   SECRET_KEYS_MAX),
			 errhint("Check %s.", from_file ? "the file that submeter.secret_key_file names"
											: "the variable " KEY_VARIABLE)));
}

SM_FUNCTION(submeter_secret_seal);

/*
 * submeter.secret_seal(plain, aad)
 */
Datum
submeter_secret_seal(PG_FUNCTION_ARGS)
{
	bytea *plain = PG_GETARG_BYTEA_PP(0);
	text *aad = PG_GETARG_TEXT_PP(1);
	size_t length = VARSIZE_ANY_EXHDR(plain);
	size_t size = VARHDRSZ + SEALED_HEAD + length + CRYPTO_TAG;
	bytea *sealed = palloc(size);
	uint8_t *head = (uint8_t *) VARDATA(sealed);
	SmSecretKey keys[SECRET_KEYS_MAX];
	bool good;

	SET_VARSIZE(sealed, size);
	(void) keys_load(keys);
	head[0] = SEALED_VERSION;
	memcpy(head + 1, keys[0].id, SECRET_KEY_ID);
	good = pg_strong_random(head + 1 + SECRET_KEY_ID, CRYPTO_NONCE) &&
		   crypto_gcm_seal(keys[0].key, SECRET_KEY, head + 1 + SECRET_KEY_ID, CRYPTO_NONCE,
						   (const uint8_t *) VARDATA_ANY(aad), VARSIZE_ANY_EXHDR(aad),
						   (const uint8_t *) VARDATA_ANY(plain), length, head + SEALED_HEAD);
	OPENSSL_cleanse(keys, sizeof(keys));
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not seal a secret")));
	PG_RETURN_BYTEA_P(sealed);
}

/*
 * The place of the key that sealed a value among the server's; -1 when it is not there.
 */
static int
key_find(const SmSecretKey *keys, int n_keys, const uint8_t *id)
{
	for (int i = 0; i < n_keys; i++)
		if (memcmp(keys[i].id, id, SECRET_KEY_ID) == 0)
			return i;
	return -1;
}

SM_FUNCTION(submeter_secret_unseal);

/*
 * submeter.secret_unseal(sealed, aad)
 */
Datum
submeter_secret_unseal(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	text *aad = PG_GETARG_TEXT_PP(1);
	const uint8_t *head = (const uint8_t *) VARDATA_ANY(sealed);
	size_t length = VARSIZE_ANY_EXHDR(sealed);
	SmSecretKey keys[SECRET_KEYS_MAX];
	bytea *plain;
	int found;
	bool good;

	if (length < SEALED_HEAD + CRYPTO_TAG || head[0] != SEALED_VERSION)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the value is not a sealed secret"),
						errhint("Store secrets with submeter.set_secret().")));
	plain = palloc(VARHDRSZ + length - SEALED_HEAD - CRYPTO_TAG);
	SET_VARSIZE(plain, VARHDRSZ + length - SEALED_HEAD - CRYPTO_TAG);
	found = key_find(keys, keys_load(keys), head + 1);
	good = found >= 0 &&
		   crypto_gcm_open(keys[found].key, SECRET_KEY, head + 1 + SECRET_KEY_ID, CRYPTO_NONCE,
						   (const uint8_t *) VARDATA_ANY(aad), VARSIZE_ANY_EXHDR(aad),
						   head + SEALED_HEAD, length - SEALED_HEAD, (uint8_t *) VARDATA(plain));
	OPENSSL_cleanse(keys, sizeof(keys));
	if (found < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a secret was sealed with a key this server does not have"),
				 errhint("Add the earlier key to the file that submeter.secret_key_file names, "
						 "or set the secret again.")));
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a secret does not open"),
						errdetail("It was changed, or moved here from another place."),
						errhint("Set the secret again.")));
	PG_RETURN_BYTEA_P(plain);
}

SM_FUNCTION(submeter_secret_key_id);

/*
 * submeter.secret_key_id(): the name of the key that seals now.
 */
Datum
submeter_secret_key_id(PG_FUNCTION_ARGS)
{
	bytea *id = palloc(VARHDRSZ + SECRET_KEY_ID);
	SmSecretKey keys[SECRET_KEYS_MAX];

	(void) keys_load(keys);
	SET_VARSIZE(id, VARHDRSZ + SECRET_KEY_ID);
	memcpy(VARDATA(id), keys[0].id, SECRET_KEY_ID);
	OPENSSL_cleanse(keys, sizeof(keys));
	PG_RETURN_BYTEA_P(id);
}

SM_FUNCTION(submeter_hide_statement);

/*
 * submeter.hide_statement(): others who look at the sessions see that a secret is set, not which.
 */
Datum
submeter_hide_statement(PG_FUNCTION_ARGS)
{
	pgstat_report_activity(STATE_RUNNING, HIDDEN_STATEMENT);
	PG_RETURN_VOID();
}
