/*
 * quote.h
 *		Between the files of submeter.quote().
 */
#ifndef SUBMETER_QUOTE_H
#define SUBMETER_QUOTE_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "day.h"
#include "tariff.h"

/* one tariff: every tier and period, adders, fees, and one of each other kind */
#define SM_QUOTE_MAX_LINES                                                              \
	(SM_RATING_MAX_TIERS * SM_MAX_PERIODS + SM_RATING_MAX_ADDERS + SM_RATING_MAX_FEES + \
	 SM_LINE_ALLOWANCE + 1)

/* What a contract says that prices depend on. */
typedef struct SmQuoteTerms
{
	int household;
	int64 contract_w; /* -1: not said */
	int64 capacity_w; /* -1: not said */
	int64 active_wh;  /* with reactive_varh of the power factor; 0: not said */
	int64 reactive_varh;
} SmQuoteTerms;

/* A line of the result: exact amounts of a month are shared out before they are summed. */
typedef struct SmQuoteLine
{
	SmRatedLine rated;
	int64 amount;
} SmQuoteLine;

typedef struct SmQuote
{
	const SmTariff *tariff;
	SmFlags flags;
	SmCalendar calendar;
	SmQuoteTerms terms;
	pg_tz *zone;
	int n_kwh;
	TimestampTz *bounds; /* n_kwh + 1 */
	int64 *register_wh;  /* at each of them */
	int64 start_wh;
	int64 position_wh; /* in the tier cycle, while walking */
	int n_lines;
	SmQuoteLine lines[SM_QUOTE_MAX_LINES];
} SmQuote;

/* quote_calendar.c: what the caller says about days and the contract */
extern void quote_read_calendar(SmQuote *quote, Jsonb *calendar);
extern void quote_read_terms(SmQuote *quote, Jsonb *terms);

/* quote_walk.c: month by month */
extern void quote_walk(SmQuote *quote);

#endif /* SUBMETER_QUOTE_H */
