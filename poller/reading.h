/*
 * reading.h - one reading and the text it becomes
 */
#ifndef READING_H
#define READING_H

#include <stdint.h>

#include "base.h"
#include "point.h"

typedef struct SmReading
{
	int site_id;
	int64_t meter_id;
	int64_t ts_ms;
	bool kept;       /* the meter keeps registers of this time itself */
	bool backfilled; /* fetched from what it keeps */
	SmValues values;
} SmReading;

extern void reading_add_row(SmText *text, const SmReading *reading);

#endif
