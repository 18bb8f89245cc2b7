/*
 * log.c - messages to stderr with levels
 *
 * One line per message, written with one call, so that lines of the loop and of the spool's
 * thread do not mix. Under systemd the time is left to the journal and the level is told in the
 * way the journal understands.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base.h"
#include "log.h"

static SmLogLevel log_level = LOG_LEVEL_INFO;
static const char *const log_names[] = {"error", "warning", "info", "debug"};
static const int log_priorities[] = {3, 4, 6, 7};

/* Sets the level by its name; false when there is no such level. */
bool
log_set_level(const char *name)
{
	int level;

	for (level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
	{
		if (strcmp(name, log_names[level]) == 0)
		{
			log_level = (SmLogLevel) level;
			return true;
		}
	}
	return false;
}

/* Whether messages of this level are written: asked before composing costly ones. */
bool
log_wants(SmLogLevel level)
{
	return level <= log_level;
}

/* Begins a line: the journal's priority, or time and level. Returns the length. */
static int
log_prefix(SmLogLevel level, char *line, size_t size)
{
	int64_t now_ms = base_wall_ms();
	time_t seconds = (time_t) (now_ms / 1000);
	struct tm parts;
	size_t length;

	if (getenv("JOURNAL_STREAM") != NULL)
		return snprintf(line, size, "<%d>", log_priorities[level]);
	localtime_r(&seconds, &parts);
	length = strftime(line, size, "%Y-%m-%d %H:%M:%S", &parts);
	return (int) length + snprintf(line + length, size - length,
								   ".%03d %s: ", (int) (now_ms % 1000), log_names[level]);
}

static void __attribute__((format(printf, 2, 0)))
log_write(SmLogLevel level, const char *format, va_list arguments)
{
	char line[1024];
	int length;
	int more;

	if (!log_wants(level))
		return;
	length = log_prefix(level, line, sizeof(line));
	more = vsnprintf(line + length, sizeof(line) - (size_t) length - 1, format, arguments);
	if (more < 0)
		return;
	length += more;
	if (length > (int) sizeof(line) - 2)
		length = (int) sizeof(line) - 2;
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, (size_t) length) < 0)
		return;
}

#define LOG_FUNCTION(name, level)            \
	void name(const char *format, ...)       \
	{                                        \
		va_list arguments;                   \
                                             \
		va_start(arguments, format);         \
		log_write(level, format, arguments); \
		va_end(arguments);                   \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
