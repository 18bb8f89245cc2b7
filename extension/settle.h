/*
 * settle.h - what the files of the room settle share.
 *
 *	settle.c          a run: plan, stream, slice, write
 *	settle_query.c    the same machinery for questions: rebuild, rate again, simulate
 *	settle_plan.c     which meters and accounts a run has to look at
 *	settle_load.c     what concerns them: setups, verdicts, estimates, terms, charges
 *	settle_version.c  tariff versions with the prices in force, the calendar, parts of days
 *	settle_stream.c   readings in the order (meter, time), into intervals
 *	slice.c           intervals into pieces
 *	settle_span.c     billing cycles and their spans
 *	settle_gap.c      how energy spreads over a gap
 *	settle_demand.c   energy of demand windows
 *	settle_clock.c    what grows with time alone: days, fees, demand share
 *	settle_rate.c     cycles into amounts
 *	settle_lines.c    amounts into lines
 *	settle_trace.c    lines back to readings
 *	settle_write.c    results into tables
 */
#ifndef SUBMETER_SETTLE_H
#define SUBMETER_SETTLE_H

#include "fmgr.h"
#include "pgtime.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "db.h"
#include "day.h"
#include "rating.h"

#define SM_DAY_HOURS 25 /* the longest local day */
#define SM_WEEK_HOURS 168
#define SM_SCALE_MULTIPLIER 10000
#define SM_NO_DAY PG_INT32_MIN
#define SM_MAX_WINDOWS_OF_DAY (SM_DAY_HOURS * 60)

/* ---- prices ---- */

/* The parts of one local day by period. */
typedef struct SmDayCut
{
	TimestampTz from;
	TimestampTz to;
	int n;
	SmInstantPart parts[FLEXIBLE_ARRAY_MEMBER];
} SmDayCut;

/* A price in force for a time. */
typedef struct SmVersion
{
	TimestampTz from;
	TimestampTz to;
	const SmTariff *tariff; /* NULL: a named price it refers to does not exist yet */
	int32 first_day;        /* of the cache of days */
	int n_days;
	SmDayCut **days;
} SmVersion;

/* A tariff with all versions in play. */
typedef struct SmPriced
{
	int64 tariff_id;
	int n_versions;
	SmVersion *versions;
	bool clock;     /* grows with time alone */
	bool tiers;     /* of any version */
	bool carries;   /* the tier position goes over from one billing cycle to the next */
	bool household; /* bounds depend on terms */
	bool supplies;  /* the times of the account's supplies matter */
} SmPriced;

/* ---- accounts on tariffs ---- */

/* Energy of a time in which price and tier cycle are the same. */
typedef struct SmSpan
{
	TimestampTz from;
	int64 wh;
	int16 period;
} SmSpan;

typedef struct SmCycle
{
	TimestampTz from;
	TimestampTz to;
	int32 first_day; /* local dates */
	int n_days;
	TimestampTz settled_to;
	int32 accrued_to; /* last covered day begun, SM_NO_DAY: none, or time alone does not matter */
	bool touched;
	bool final;
	bool ordered; /* the order of energy within a day matters */
	int64 start_wh;
	int64 position_wh;
	int64 estimated_wh;
	int64 active_wh;
	int64 reactive_varh;
	int64 demand_w;
	int n_spans;
	int max_spans;
	SmSpan *spans;
} SmCycle;

/* Where the last energy of a pair went: as long as time is inside, the next goes there too. */
typedef struct SmCursor
{
	TimestampTz from;
	TimestampTz to;
	int cycle;
	int span;
	const SmVersion *version;
} SmCursor;

/* A time in which a supply of the pair lasts, and its terms. */
typedef struct SmStay
{
	TimestampTz from;
	TimestampTz to;
	int32 from_day;
	int32 to_day; /* last day */
	int64 capacity_w;
	int64 contract_w;
	int household;
} SmStay;

typedef struct SmAllowance
{
	TimestampTz from;
	TimestampTz to;
	int64 free_wh; /* 0: in money */
	int64 share_e8;
	int64 amount_e8;
	const char *name;
} SmAllowance;

/* Energy of the demand windows of a local day. */
typedef struct SmDemandDay
{
	int32 date;
	int minutes;
	int n_windows;
	int64 *window_wh;
} SmDemandDay;

/* An account on a tariff. */
typedef struct SmPair
{
	int64 account_id;
	int64 tariff_id;
	TimestampTz reset_from;  /* cycles from here on are computed anew; DT_NOEND: only added to */
	TimestampTz load_from;   /* cycles that end after this are needed */
	TimestampTz accrue_from; /* time alone counts from here on; DT_NOEND: not in this run */
	bool asked;              /* its charges are wanted; others only came along with a meter */
	const SmPriced *priced;
	int shadow; /* pair that gets the same energy under another tariff; -1: none */
	int n_stays;
	int n_allowances;
	SmStay *stays;
	SmAllowance *allowances;
	int32
		before_day; /* of the charge before the first cycle: day of its last span, SM_NO_DAY: none */
	int64 before_wh; /* and tier position at its end */
	int n_cycles;
	int max_cycles;
	int at; /* cycle used last */
	SmCycle *cycles;
	SmCursor cursor;
	int n_demand;
	int max_demand;
	SmDemandDay *demand;
} SmPair;

/* ---- meters ---- */

typedef struct SmSupply
{
	TimestampTz from;
	TimestampTz to;
	TimestampTz count_from; /* energy before this is in the pair's cycles already */
	int pair;
} SmSupply;

typedef struct SmSetup
{
	TimestampTz from;
	int64 multiplier_e4;
	int64 modulus_wh;
	int64 gap_usecs; /* a longer interval is a gap */
	bool gap_week;   /* its energy is spread as in the weeks before */
} SmSetup;

typedef enum SmOverrideKind
{
	SM_OVERRIDE_SKIP,
	SM_OVERRIDE_VALUE,
	SM_OVERRIDE_BREAK, /* a new beginning: nothing is counted up to it */
	SM_OVERRIDE_ACCEPT
} SmOverrideKind;

typedef struct SmOverride
{
	TimestampTz ts;
	SmOverrideKind kind;
	int64 energy_wh;
} SmOverride;

/* A register assumed where no reading came. */
typedef struct SmEstimate
{
	TimestampTz ts;
	int64 energy_wh;
} SmEstimate;

/* Usage of a meter and day that is on record, for the shape of a gap. */
typedef struct SmPastDay
{
	int32 date;
	int n_hours;
	const int64 *hour_wh;
} SmPastDay;

typedef struct SmMeter
{
	int64 meter_id;
	int64 seq;
	bool candidate;         /* has something new; others only help to compute a pair anew */
	TimestampTz settled_to; /* DT_NOBEGIN: never */
	TimestampTz
		estimated_from;     /* last reading when settled_to is that of an estimate; else DT_NOEND */
	TimestampTz usage_from; /* days before this stay as they are */
	TimestampTz read_from;
	TimestampTz horizon;
	bool gap_week; /* of any setup */
	int n_supplies;
	int n_setups;
	int n_overrides;
	int n_estimates;
	int n_past;
	SmSupply *supplies;
	SmSetup *setups;
	SmOverride *overrides;
	SmEstimate *estimates;
	SmPastDay *past;
} SmMeter;

/* From one counted reading to the next. */
typedef struct SmInterval
{
	TimestampTz from;
	TimestampTz to;
	int64 from_wh;
	int64 to_wh;
	bool has_varh;
	int64 from_varh;
	int64 to_varh;
	float4 power_w; /* at the end */
	bool judged;    /* the end counts by a person's word */
	bool estimated; /* the end is an estimate */
} SmInterval;

/* The local day at hand. */
typedef struct SmDay
{
	TimestampTz from;
	TimestampTz to;
	int32 date;
} SmDay;

/* Usage of a meter and day, collected until the next one begins. */
typedef struct SmUsageDay
{
	int64 meter_id;
	int32 date;
	int n_hours;
	int64 estimated_wh;
	int64 hour_wh[SM_DAY_HOURS];
	float4 hour_max_w[SM_DAY_HOURS];
} SmUsageDay;

/* A piece of a charge on its way back to its readings. */
typedef struct SmTracePiece
{
	int64 meter_id;
	SmInterval interval;
	int64 multiplier_e4;
	TimestampTz from;
	TimestampTz to;
	int64 wh;
	bool estimated;
	int pair;
	TimestampTz span_from;
	int16 period;
} SmTracePiece;

typedef struct SmTrace
{
	TimestampTz from; /* the cycle that is asked for */
	int n;
	int max;
	SmTracePiece *pieces;
} SmTrace;

/* ---- a run ---- */

typedef struct SmSettle
{
	int32 site_id;
	int cycle_day;
	TimestampTz as_of;
	TimestampTz known_at;  /* facts that came later do not count */
	bool dry;              /* compute charges, write nothing */
	int64 only_account;    /* of a range: nobody else's; 0: everybody's */
	TimestampTz clip_from; /* of a simulation: what lies outside does not exist */
	TimestampTz clip_to;
	int32 accrued_to;     /* last local day begun; SM_NO_DAY: none */
	int32 accrued_before; /* the same before this run */
	pg_tz *zone;
	SmDay day;       /* of the energy at hand */
	SmDay other_day; /* of whatever else is asked */
	SmCycle cycle;   /* billing cycle made last: most accounts share it */
	SmFlags flags;
	SmCalendar calendar;
	int n_priced;
	SmPriced *priced;
	int n_meters;
	int max_meters;
	SmMeter *meters;
	int n_pairs;
	int max_pairs;
	SmPair *pairs;
	HTAB *pair_index;
	int n_usage;
	int max_usage;
	SmUsageDay *usage;
	int max_rating_spans;
	SmRatingSpan *rating_spans;
	SmTrace *trace;
	int64 n_intervals;
} SmSettle;

/* What a cycle came to. */
typedef struct SmChargeRow
{
	SmRated rated;
	const SmVersion *last; /* version that rounds; NULL: nothing has a price */
	int64 energy_wh;
	int64 unpriced_wh;
	int64 rounded; /* in units of the last digit */
	int digits;
	char amount[SM_RATING_TEXT_SIZE];
	char rounded_text[SM_RATING_TEXT_SIZE];
} SmChargeRow;

/* Which charges somebody asks for. */
typedef struct SmChargeKey
{
	int64 account_id;
	int64 tariff_id;
	TimestampTz cycle_start;
} SmChargeKey;

typedef struct SmChargeKeys
{
	int n;
	SmChargeKey *keys;
} SmChargeKeys;

/* settle_query.c */
extern Datum numeric_datum(const char *text);
extern void keys_read(FunctionCallInfo fcinfo, int first, SmChargeKeys *keys);
extern SmCycle *key_cycle(SmSettle *settle, const SmChargeKey *key, SmPair **pair);

/* settle.c */
extern SmSettle *settle_begin(int32 site_id, text *time_zone);

/* settle_plan.c */
extern void settle_plan(SmSettle *settle);
extern void settle_plan_dry(SmSettle *settle, int64 account_id);
extern int pair_add(SmSettle *settle, int64 account_id, int64 tariff_id);
extern int pair_find(SmSettle *settle, int64 account_id, int64 tariff_id);
extern TimestampTz cycle_start(SmSettle *settle, TimestampTz at);

extern void settle_plan_range(SmSettle *settle);
extern void settle_plan_charges(SmSettle *settle, const SmChargeKeys *keys);

/* settle_load.c */
extern void settle_load(SmSettle *settle);
extern void meter_arrays(SmSettle *settle, size_t time_offset, Datum args[2]);
extern void pairs_load(SmSettle *settle);
extern void past_load(SmSettle *settle, SmMeter *meters, int n);

/* settle_version.c */
extern void versions_load(SmSettle *settle);
extern const SmPriced *versions_of(SmSettle *settle, Datum definition, TimestampTz from);
extern const SmVersion *pair_version_at(const SmPair *pair, TimestampTz at);
extern const SmDayCut *version_day(SmSettle *settle, const SmVersion *version, int32 day);

/* settle_stream.c */
extern void stream_run(SmSettle *settle);

/* slice.c */
extern void slice_interval(SmSettle *settle, SmMeter *meter, const SmInterval *interval);
extern const SmSetup *setup_at(const SmMeter *meter, TimestampTz at);

/* settle_span.c */
extern void day_find(SmDay *day, TimestampTz at, pg_tz *zone);
extern int32 settle_day_of(SmSettle *settle, TimestampTz at);
extern SmCycle *pair_cycle_at(SmSettle *settle, SmPair *pair, TimestampTz at);
extern SmCycle *pair_cycle_add(SmSettle *settle, SmPair *pair, TimestampTz from, TimestampTz to);
extern void pair_seek(SmSettle *settle, SmPair *pair, TimestampTz at);
extern void cycle_spans_reserve(SmCycle *cycle, int n);
extern int pair_household_at(const SmPair *pair, TimestampTz at);
extern void cycles_sort(SmPair *pair);

/* settle_gap.c */
typedef struct SmShape
{
	int64 weight[SM_WEEK_HOURS];
	SmInt128 total;  /* over the whole gap, in weight x microseconds */
	SmInt128 passed; /* so far */
} SmShape;

extern bool shape_begin(SmSettle *settle, const SmMeter *meter, const SmInterval *interval,
						SmShape *shape);
extern int64 shape_pass(SmSettle *settle, SmShape *shape, TimestampTz from, TimestampTz to,
						int64 delta_wh);

/* settle_demand.c */
extern TimestampTz demand_window_end(const SmDay *day, int minutes, TimestampTz at);
extern void demand_add(SmPair *pair, const SmDay *day, int minutes, TimestampTz at, int64 wh);
extern void demand_clear(SmSettle *settle);
extern void demand_write(SmSettle *settle);
extern void demand_take(SmSettle *settle);

/* settle_clock.c */
extern void clock_touch(SmSettle *settle);
extern uint32 cycle_covered(const SmSettle *settle, const SmPair *pair, const SmCycle *cycle);
extern int cycle_fees(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, uint32 covered,
					  SmRatingFee **fees);
extern int64 cycle_terms_w(const SmPair *pair, const SmCycle *cycle, SmDemandBasis basis);
extern TimestampTz cycle_supplied_to(const SmPair *pair, const SmCycle *cycle);

/* settle_rate.c */
extern int spans_rate(SmSettle *settle, const SmPair *pair, const SmCycle *cycle, SmChargeRow *row);
extern void charge_rate(SmSettle *settle, const SmPair *pair, SmCycle *cycle, bool lines,
						SmChargeRow *row);
typedef void (*SmRatedSink)(SmSettle *settle, const SmPair *pair, const SmCycle *cycle,
							const SmChargeRow *row, void *sink);
extern int pair_rate(SmSettle *settle, SmPair *pair, SmRatedSink put, void *sink);

/* settle_write.c */
typedef struct SmColumn
{
	Oid type;
	int n;
	int max;
	Datum *values;
} SmColumn;

extern void column_put(SmColumn *column, Datum value);
extern Datum column_array(const SmColumn *column);
extern void usage_write(SmSettle *settle);
extern void usage_clear(SmSettle *settle);
extern int charges_write(SmSettle *settle);
extern void meters_write(SmSettle *settle);
extern void accrued_write(SmSettle *settle);

#endif
