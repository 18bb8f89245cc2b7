/*
 * deliver.h - readings: from the field to the spool, from the spool to the database
 */
#ifndef DELIVER_H
#define DELIVER_H

#include "db.h"
#include "reading.h"
#include "writer.h"

struct SmDeliver;
typedef struct SmDeliver SmDeliver;

extern SmDeliver *deliver_create(SmLoop *loop, SmWriter *writer, const char *conninfo,
								 const char *name, int64_t most_bytes,
								 void (*changed)(void *context),
								 void (*moved)(void *context, int64_t shift_ms), void *context);
extern void deliver_start(SmDeliver *deliver);
extern void deliver_free(SmDeliver *deliver);
extern void deliver_add(SmDeliver *deliver, const SmReading *reading, bool urgent);
extern void deliver_flush(SmDeliver *deliver);
extern void deliver_note(SmDeliver *deliver, const SmSpoolEvent *event);
extern bool deliver_is_done(const SmDeliver *deliver);
extern bool deliver_is_drained(const SmDeliver *deliver);
extern bool deliver_is_spooled(const SmDeliver *deliver);
extern int deliver_slowness(SmDeliver *deliver);

#endif
