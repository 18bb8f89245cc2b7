/*
 * options.h - what the command line says
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "tls.h"

typedef struct SmOptions
{
	const char *dsn;
	const char *spool;
	const char *name;
	int64_t spool_most_bytes;
	bool once;
	bool check;
	bool retry_rejected;
	SmTlsFiles tls;
	bool allow_root;
	char host[256]; /* room for the default of name */
} SmOptions;

extern int options_parse(SmOptions *options, int count, char **arguments);

#endif
