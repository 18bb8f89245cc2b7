/*
 * ingest.h - see ingest.c and refold.c.
 */
#ifndef SUBMETER_INGEST_H
#define SUBMETER_INGEST_H

#include "datatype/timestamp.h"

extern void refold_meter(int32 site_id, int64 meter_id, TimestampTz from_ts, TimestampTz to_ts);

#endif
