/*
 * settle.h - what the files of the room settle share (settle.c, settle_plan.c, settle_load.c, slice.c, settle_write.c).
 */
#ifndef SUBMETER_SETTLE_H
#define SUBMETER_SETTLE_H

#include "pgtime.h"
#include "utils/timestamp.h"

#include "db.h"
#include "rating.h"

#define SM_DAY_HOURS 25 /* the longest local day */
#define SM_SCALE_MULTIPLIER 10000

/* A price in force from a time on; NULL before the first version. */
typedef struct SmVersion
{
	TimestampTz from;
	const SmTariff *tariff;
} SmVersion;

/* Energy of one billing cycle, by the tariff version in force. */
typedef struct SmCycle
{
	TimestampTz from;
	TimestampTz to;
	TimestampTz settled_to;
	bool touched;
	int n_spans;
	int max_spans;
	TimestampTz *span_from;
	int64 *span_wh;
} SmCycle;

/* An account on a tariff. */
typedef struct SmPair
{
	int64 account_id;
	int64 tariff_id;
	TimestampTz reset_from; /* cycles from here on are computed anew; DT_NOEND: only added to */
	TimestampTz load_from;  /* cycles that end after this are needed */
	int n_versions;
	const SmVersion *versions;
	int n_cycles;
	int max_cycles;
	int at; /* cycle used last */
	SmCycle *cycles;
} SmPair;

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

typedef struct SmMeter
{
	int64 meter_id;
	int64 seq;
	bool candidate;         /* has something new; others only help to compute a pair anew */
	TimestampTz settled_to; /* DT_NOBEGIN: never */
	TimestampTz usage_from; /* days before this stay as they are */
	TimestampTz read_from;
	TimestampTz horizon;
	int n_supplies;
	int n_setups;
	int n_overrides;
	SmSupply *supplies;
	SmSetup *setups;
	SmOverride *overrides;
} SmMeter;

/* The local day at hand, as hours since its midnight. */
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
	int64 hour_wh[SM_DAY_HOURS];
	float4 hour_max_w[SM_DAY_HOURS];
} SmUsageDay;

typedef struct SmSettle
{
	int32 site_id;
	TimestampTz as_of;
	TimestampTz known_at; /* facts that came later do not count */
	bool dry;             /* compute charges, write nothing */
	pg_tz *zone;
	SmDay day;
	int n_meters;
	int max_meters;
	SmMeter *meters;
	int n_pairs;
	int max_pairs;
	SmPair *pairs;
	int n_usage;
	int max_usage;
	SmUsageDay *usage;
	int64 n_intervals;
} SmSettle;

/* settle_plan.c */
extern void settle_plan(SmSettle *settle);
extern void settle_plan_dry(SmSettle *settle, int64 account_id);

/* settle_load.c */
extern void settle_load(SmSettle *settle);
extern void meter_arrays(SmSettle *settle, size_t time_offset, Datum args[2]);

/* slice.c */
extern void day_find(SmDay *day, TimestampTz at, pg_tz *zone);
extern void slice_interval(SmSettle *settle, SmMeter *meter, TimestampTz from, int64 from_wh,
						   TimestampTz to, int64 to_wh, float4 power_w, bool judged);
extern const SmVersion *pair_version_at(const SmPair *pair, TimestampTz at);
extern SmCycle *pair_cycle_at(SmSettle *settle, SmPair *pair, TimestampTz at);
extern SmCycle *pair_cycle_add(SmPair *pair, TimestampTz from, TimestampTz to);
extern int cycle_span_at(SmCycle *cycle, TimestampTz from);

/* settle_write.c */
extern void usage_write(SmSettle *settle);
extern void usage_clear(SmSettle *settle);
extern void charges_write(SmSettle *settle);
extern void meters_write(SmSettle *settle);

typedef struct SmChargeRow
{
	SmRated rated;
	int64 energy_wh;
	int64 unpriced_wh;
	char amount[SM_RATING_TEXT_SIZE];
	char rounded[SM_RATING_TEXT_SIZE];
} SmChargeRow;

extern void charge_rate(const SmPair *pair, const SmCycle *cycle, SmChargeRow *row);

#endif
