/*
 * spool.h - readings on disk until the database has them
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#define SPOOL_TEXT 256

/* A reading as it waits. row is the text of a submeter.reading_input. */
typedef struct SmSpoolRow
{
	int64_t id;
	int site_id;
	int64_t meter_id;
	int64_t ts_ms;
	bool kept; /* the meter keeps registers of this time, too */
	char *row;
} SmSpoolRow;

/* Why the database will never take a row. */
typedef struct SmSpoolReject
{
	int64_t id;
	char sqlstate[6];
	char message[SPOOL_TEXT];
} SmSpoolReject;

/* What went wrong with the spool, until the database knows it. */
typedef struct SmSpoolEvent
{
	const char *kind; /* dropped, damaged, clock */
	int64_t count;
	char detail[SPOOL_TEXT];
} SmSpoolEvent;

struct SmSpool;
typedef struct SmSpool SmSpool;

extern SmSpool *spool_open(const char *directory, char *why, int why_size);
extern bool spool_reopen(SmSpool *spool);
extern void spool_close(SmSpool *spool);
extern bool spool_begin(SmSpool *spool);
extern bool spool_commit(SmSpool *spool);
extern void spool_rollback(SmSpool *spool);
extern bool spool_add(SmSpool *spool, const SmSpoolRow *row);
extern bool spool_remove(SmSpool *spool, int64_t id);
extern bool spool_reject(SmSpool *spool, const SmSpoolReject *reject);
extern bool spool_retry_rejected(SmSpool *spool, int64_t *count);
extern int spool_fetch(SmSpool *spool, const int *skip_sites, int skip_count, SmSpoolRow *rows,
					   int limit);
extern void spool_free_rows(SmSpoolRow *rows, int count);
extern const char *spool_error(const SmSpool *spool);
extern int64_t spool_count(const SmSpool *spool);
extern int64_t spool_rejected(const SmSpool *spool);
extern int64_t spool_bytes(SmSpool *spool);
extern int64_t spool_last_ms(const SmSpool *spool);

/* spool_trim.c */
extern bool spool_trim(SmSpool *spool, int64_t most_bytes, int64_t *dropped);

/* spool_shift.c */
extern void spool_note_jump(SmSpool *spool);
extern bool spool_shift(SmSpool *spool, int64_t shift_ms, bool all, int64_t *count);

/* spool_event.c */
extern bool spool_add_event(SmSpool *spool, const SmSpoolEvent *event);
extern char *spool_list_events(SmSpool *spool, int64_t *last_id);
extern bool spool_forget_events(SmSpool *spool, int64_t last_id);

#endif
