/*
 * stranger.h - who dialled in and is no gateway of the plan
 */
#ifndef STRANGER_H
#define STRANGER_H

#include "base.h"

#define STRANGER_SHOWN 48
#define STRANGER_MOST 100

typedef struct SmStranger
{
	char address[64]; /* where it knocked */
	char peer[64];
	uint8_t said[STRANGER_SHOWN];
	int length;
	int64_t times; /* since the database was told last */
	int64_t seen_us;
} SmStranger;

/* The latest of them; starts zeroed. */
typedef struct SmStrangers
{
	SmStranger list[STRANGER_MOST];
	int count;
	int64_t told_us; /* when the log was told last */
	int untold;
} SmStrangers;

extern void stranger_note(SmStrangers *strangers, const char *address, const char *peer,
						  const uint8_t *bytes, int length, const char *why);

#endif
