/*
 * plan.h - what the database wants read and switched
 */
#ifndef PLAN_H
#define PLAN_H

#include <libpq-fe.h>

#include "base.h"
#include "coalesce.h"
#include "route.h"
#include "wire.h"

#define PLAN_RESULTS 5
#define PLAN_SWITCH_MOST 8

typedef enum SmSwitchAction
{
	SWITCH_OPEN,
	SWITCH_CLOSE,
	SWITCH_PERMIT_CLOSE,
	SWITCH_KEEP,
	SWITCH_RELEASE,
	SWITCH_ACTIONS
} SmSwitchAction;

/* The only writes that are ever sent to a model. */
typedef struct SmSwitch
{
	bool known;
	int function; /* of Modbus, or control byte of DL/T 645 */
	int address;
	uint32_t di;                      /* DL/T 645: what is written, unless it is a command of 1CH */
	uint16_t words[PLAN_SWITCH_MOST]; /* registers, or bytes */
	int count;
	int valid_s; /* of 1CH: how long the meter may obey */
	int settle_ms;
} SmSwitch;

typedef struct SmModel
{
	char *name;
	SmProtocol protocol;
	int max_registers;
	int max_gap;
	int turnaround_ms;
	bool keeps;      /* registers of each hour or day */
	SmPoint *points; /* sorted as coalesce_sort() does */
	int point_count;
	SmBlock *blocks;
	int block_count;
	SmSwitch switches[SWITCH_ACTIONS];
} SmModel;

typedef struct SmPlanGateway
{
	int site_id;
	int64_t gateway_id;
	SmRoute route;
	SmWire wire;
	int timeout_ms;
	int gap_ms;
	int64_t poll_interval_ms;
	bool good;
} SmPlanGateway;

typedef struct SmPlanMeter
{
	int site_id;
	int64_t meter_id;
	int64_t gateway_id;
	SmTarget target;
	char *refused;       /* what it does not have, as round_refused_text() writes it; or NULL */
	int64_t ask_again_s; /* when that is asked for again */
	bool alone;          /* or not, but with an address of its own */
	const SmModel *model;
} SmPlanMeter;

/* Something that is left out of the plan, and why. */
typedef struct SmPlanProblem
{
	int site_id;
	bool is_gateway; /* else a meter; 0 = a model, told only in the log */
	int64_t id;
	char *text;
} SmPlanProblem;

typedef struct SmPlan
{
	SmModel *models; /* by name */
	int model_count;
	SmPlanGateway *gateways; /* by site and id */
	int gateway_count;
	SmPlanMeter *meters; /* by site and id */
	int meter_count;
	SmPlanProblem *problems;
	int problem_count;
} SmPlan;

extern void plan_query(SmText *query, const char *poller, bool once);
extern SmPlan *plan_create(void);
extern SmPlan *plan_parse(PGresult *const *results, int count, const char **why);
extern void plan_free(SmPlan *plan);
extern int plan_parse_array(const char *text, uint16_t *words, int most);
extern const SmPlanGateway *plan_find_gateway(const SmPlan *plan, int site_id, int64_t gateway_id);

#endif
