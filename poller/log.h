/*
 * log.h - messages to stderr with levels
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

typedef enum SmLogLevel
{
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
} SmLogLevel;

extern bool log_set_level(const char *name);
extern bool log_wants(SmLogLevel level);
extern void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
