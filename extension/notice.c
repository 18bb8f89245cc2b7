/*
 * notice.c - the file channel of notices.
 *
 * Until something carries messages to the internet, a notice is one file in a directory that the
 * administrator names (submeter.notice_directory): a mail program, a printer or a person picks it
 * up from there. A message counts as accepted once it would survive a power cut, so it is written
 * beside its place, flushed, renamed and the directory flushed. Its name is stable, so that a
 * second try after a crash replaces the first one instead of telling the same thing twice.
 *
 * Locking: none; two writers of one name write the same bytes, each to a file of its own.
 */
#include "module.h"

#include "notice.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define SM_NOTICE_NAME_MAX 120

static char *notice_directory = NULL;

/*
 * Accepts a directory setting that is empty or absolute: a relative one would mean the data
 * directory, where nobody looks and where backups would copy the messages.
 */
static bool
notice_directory_check(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || is_absolute_path(*newval))
		return true;
	GUC_check_errdetail("The directory must be an absolute path.");
	return false;
}

/*
 * Defines the settings of the room. Called once by _PG_init.
 */
void
notice_init(void)
{
	DefineCustomStringVariable("submeter.notice_directory",
							   "Directory the file channel of notices writes into.",
							   "Empty: the channel does not work.", &notice_directory, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, notice_directory_check, NULL, NULL);
}

/*
 * True when name is safe as the name of a file: letters, digits, dot, minus and underscore,
 * and no dot in front.
 */
static bool
notice_name_is_safe(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > SM_NOTICE_NAME_MAX || name[0] == '.')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		   length;
}

/*
 * Reports a failed step on path, removing the unfinished file first. Does not return.
 */
static void
notice_fail(const char *step, const char *path, const char *unfinished)
{
	int saved_errno = errno;

	if (unfinished != NULL)
		(void) unlink(unfinished);
	errno = saved_errno;
	ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s \"%s\": %m", step, path),
					errhint("Check that the server may write into submeter.notice_directory.")));
}

/*
 * Writes all of content to the new file path and flushes it. The file is readable by the server's
 * user and group only, because messages name people and balances.
 */
static void
notice_write(const char *path, const text *content)
{
	const char *next = VARDATA_ANY(content);
	size_t left = VARSIZE_ANY_EXHDR(content);
	int file;

	file = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY, 0640);
	if (file < 0)
		notice_fail("create", path, NULL);
	while (left > 0)
	{
		ssize_t done;

		errno = 0;
		done = write(file, next, left);
		if (done <= 0)
		{
			if (done < 0 && errno == EINTR)
				continue;
			if (errno == 0)
				errno = ENOSPC;
			notice_fail("write", path, path);
		}
		next += done;
		left -= (size_t) done;
	}
	if (pg_fsync(file) != 0)
		notice_fail("flush", path, path);
	if (CloseTransientFile(file) != 0)
		notice_fail("close", path, path);
}

SM_FUNCTION(submeter_notice_directory_set);

/*
 * submeter.notice_file_works(): whether the file channel has a directory at all.
 */
Datum
submeter_notice_directory_set(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(notice_directory != NULL && notice_directory[0] != '\0');
}

SM_FUNCTION(submeter_notice_file_write);

/*
 * submeter.notice_file_write(name, content): writes one message. Returns after it is durable.
 */
Datum
submeter_notice_file_write(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text *content = PG_GETARG_TEXT_PP(1);
	char *path;
	char *unfinished;

	if (notice_directory == NULL || notice_directory[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the file channel of notices has no directory"),
						errhint("Set submeter.notice_directory and reload the server.")));
	if (!notice_name_is_safe(name))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a name for a message file", name),
						errdetail("Letters, digits, dot, minus and underscore are allowed.")));

	path = psprintf("%s/%s", notice_directory, name);
	unfinished = psprintf("%s/.%s.%d", notice_directory, name, MyProcPid);
	notice_write(unfinished, content);
	if (rename(unfinished, path) != 0)
		notice_fail("rename", unfinished, unfinished);
	fsync_fname(notice_directory, true);
	PG_RETURN_VOID();
}
