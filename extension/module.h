/*
 * module.h - what every C file of the extension that talks to the server starts from.
 *
 * Symbols are hidden by default (-fvisibility=hidden), so that no name of ours can meet one of
 * another library in the same backend. What SQL calls is exported by SM_FUNCTION, which stands
 * before the definition as PG_FUNCTION_INFO_V1 would.
 */
#ifndef SUBMETER_MODULE_H
#define SUBMETER_MODULE_H

#include "postgres.h"
#include "fmgr.h"

#define SM_FUNCTION(name)                            \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

#endif
