/*
 * history.h - fetching what meters keep of readings that were missed
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "field.h"

/* A row of submeter.claim_history(); texts as they came. */
typedef struct SmHistoryClaim
{
	int site_id;
	int64_t task_id;
	int64_t meter_id;
	const char *kind;
	const char *di;
	const char *time_di;
	int byte_offset;
	int bytes;
	const char *scale;
	const char *settlement_day;
	const char *entries;
} SmHistoryClaim;

/* What became of it, as submeter.report_history() wants it. */
typedef struct SmHistoryResult
{
	int site_id;
	int64_t task_id;
	const char *outcome;
	int found;
	const char *detail; /* or NULL */
} SmHistoryResult;

extern void history_start(SmField *field, const SmHistoryClaim *claim);
extern bool history_is_late(const SmBus *bus, int64_t now_us);
extern bool history_next(SmBus *bus, int64_t now_us, SmExchange *exchange, int64_t *wake_us);
extern void history_drop_all(SmBus *bus);
extern int history_count(const SmBus *bus);

#endif
