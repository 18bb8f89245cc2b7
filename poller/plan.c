/*
 * plan.c - what the database wants read and switched
 *
 * The whole plan is parsed before any of it is used. What cannot be right (an address without a
 * port, a type nobody knows) is left out and listed as a problem; the rest works.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

/* In the order in which plan_parse() takes the results. */
const char plan_sql[] =
	"SELECT model, max_registers, max_gap, turnaround_ms FROM submeter.poller_models()"
	" ORDER BY model COLLATE \"C\";"
	"SELECT model, metric, function, address, type, scale, bit_mask, closed_value, open_value"
	" FROM submeter.poller_points();"
	"SELECT model, action, function, address, registers, settle_ms"
	" FROM submeter.poller_switches();"
	"SELECT site_id, gateway_id, transport, address, timeout_ms, gap_ms, poll_interval_ms,"
	" backup_address, dial_in, registration, heartbeat, heartbeat_answer, tls, q376_port, q376_line"
	" FROM submeter.poller_gateways() ORDER BY site_id, gateway_id;"
	"SELECT site_id, meter_id, gateway_id, bus_address, model FROM submeter.poller_meters()"
	" ORDER BY site_id, meter_id";

static void __attribute__((format(printf, 5, 6)))
plan_problem(SmPlan *plan, int site_id, bool is_gateway, int64_t id, const char *format, ...)
{
	SmPlanProblem *problem;
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	plan->problems =
		base_resize(plan->problems, (size_t) (plan->problem_count + 1) * sizeof(SmPlanProblem));
	problem = &plan->problems[plan->problem_count++];
	*problem = (SmPlanProblem){site_id, is_gateway, id, base_copy(text)};
}

static const char *
plan_text(PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* An integer of a result within limits; false when it is missing or beyond them. */
static bool
plan_int(PGresult *result, int row, int column, int64_t low, int64_t high, int64_t *value)
{
	return base_parse_int(plan_text(result, row, column), low, high, value);
}

static bool
plan_is_true(PGresult *result, int row, int column)
{
	const char *text = plan_text(result, row, column);

	return text != NULL && text[0] == 't';
}

static int
plan_compare_model(const void *name, const void *model)
{
	return strcmp(name, ((const SmModel *) model)->name);
}

static SmModel *
plan_find_model(const SmPlan *plan, const char *name)
{
	if (name == NULL || plan->model_count == 0)
		return NULL;
	return bsearch(name, plan->models, (size_t) plan->model_count, sizeof(SmModel),
				   plan_compare_model);
}

static int
plan_compare_gateway(const void *left, const void *right)
{
	const SmPlanGateway *a = left;
	const SmPlanGateway *b = right;

	if (a->site_id != b->site_id)
		return a->site_id < b->site_id ? -1 : 1;
	return (a->gateway_id > b->gateway_id) - (a->gateway_id < b->gateway_id);
}

/* A gateway of the plan; NULL when it has none of that number. */
const SmPlanGateway *
plan_find_gateway(const SmPlan *plan, int site_id, int64_t gateway_id)
{
	SmPlanGateway key = {.site_id = site_id, .gateway_id = gateway_id};

	if (plan->gateway_count == 0)
		return NULL;
	return bsearch(&key, plan->gateways, (size_t) plan->gateway_count, sizeof(SmPlanGateway),
				   plan_compare_gateway);
}

/* Parses {1,65280} as PostgreSQL writes it; the number of words, or -1. */
int
plan_parse_array(const char *text, uint16_t *words, int most)
{
	int count = 0;

	if (text == NULL || *text++ != '{')
		return -1;
	while (*text != '}')
	{
		char *end;
		long value = strtol(text, &end, 10);

		if (end == text || value < 0 || value > 65535 || count == most ||
			(*end != ',' && *end != '}'))
			return -1;
		words[count++] = (uint16_t) value;
		text = *end == ',' ? end + 1 : end;
	}
	return text[1] == '\0' ? count : -1;
}

static void
plan_parse_models(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;

	plan->models = base_alloc((size_t) rows * sizeof(SmModel));
	for (row = 0; row < rows; row++)
	{
		SmModel *model = &plan->models[plan->model_count];
		int64_t numbers[3];

		if (plan_text(result, row, 0) == NULL)
			continue;
		if (!plan_int(result, row, 1, 1, MBAP_READ_MAX, &numbers[0]) ||
			!plan_int(result, row, 2, 0, MBAP_READ_MAX, &numbers[1]) ||
			!plan_int(result, row, 3, 0, 60000, &numbers[2]))
		{
			plan_problem(plan, 0, false, 0, "model %s: limits are out of range",
						 plan_text(result, row, 0));
			continue;
		}
		model->name = base_copy(plan_text(result, row, 0));
		model->max_registers = (int) numbers[0];
		model->max_gap = (int) numbers[1];
		model->turnaround_ms = (int) numbers[2];
		plan->model_count++;
	}
}

/* Parses one point; what is wrong with it, or NULL. */
static const char *
plan_parse_point(PGresult *result, int row, SmPoint *point)
{
	const char *metric = plan_text(result, row, 1);
	const char *type = plan_text(result, row, 4);
	const char *scale = plan_text(result, row, 5);
	int64_t function;
	int64_t address;

	if (metric == NULL || !point_find_metric(metric, &point->metric))
		return "metric is unknown";
	if (!plan_int(result, row, 2, 1, 4, &function))
		return "function is not 1 to 4";
	if (!plan_int(result, row, 3, 0, 65535, &address))
		return "address is not 0 to 65535";
	if (type == NULL || !point_find_type(type, &point->type))
		return "type is unknown";
	if (scale == NULL || !point_parse_scale(scale, &point->scale))
		return "scale is not a decimal of at most 12 digits";
	point->function = (int) function;
	point->address = (int) address;
	if (!plan_int(result, row, 6, INT32_MIN, INT32_MAX, &point->bit_mask))
		point->bit_mask = 65535;
	if (point->metric == METRIC_RELAY &&
		(!plan_int(result, row, 7, INT32_MIN, INT32_MAX, &point->closed_value) ||
		 !plan_int(result, row, 8, INT32_MIN, INT32_MAX, &point->open_value)))
		return "a relay needs the values of open and closed";
	return point_check(point);
}

static void
plan_parse_points(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;
	int i;

	for (row = 0; row < rows; row++)
	{
		SmModel *model = plan_find_model(plan, plan_text(result, row, 0));
		SmPoint point = {0};
		const char *wrong = plan_parse_point(result, row, &point);

		if (model == NULL)
			continue;
		if (wrong == NULL && point_words(point.type) > model->max_registers)
			wrong = "the value is longer than the model's longest request";
		if (wrong != NULL)
		{
			plan_problem(plan, 0, false, 0, "model %s, metric %s: %s", model->name,
						 PQgetvalue(result, row, 1), wrong);
			continue;
		}
		model->points =
			base_resize(model->points, (size_t) (model->point_count + 1) * sizeof(SmPoint));
		model->points[model->point_count++] = point;
	}
	for (i = 0; i < plan->model_count; i++)
	{
		SmModel *model = &plan->models[i];

		if (model->point_count == 0)
			continue;
		coalesce_sort(model->points, model->point_count);
		model->blocks = base_alloc((size_t) model->point_count * sizeof(SmBlock));
		model->block_count = coalesce_blocks(model->points, model->point_count,
											 model->max_registers, model->max_gap, model->blocks);
	}
}

static void
plan_parse_switches(SmPlan *plan, PGresult *result)
{
	static const char *const names[SWITCH_ACTIONS] = {"open", "close", "permit_close"};
	int rows = PQntuples(result);
	int row;
	int i;

	for (row = 0; row < rows; row++)
	{
		SmModel *model = plan_find_model(plan, plan_text(result, row, 0));
		const char *name = PQgetvalue(result, row, 1);
		SmSwitch action = {.known = true};
		SmRequest request;
		int64_t numbers[3];

		if (model == NULL)
			continue;
		action.count = plan_parse_array(plan_text(result, row, 4), action.words, MBAP_WRITE_MAX);
		for (i = 0; i < SWITCH_ACTIONS && strcmp(name, names[i]) != 0; i++)
			;
		if (i == SWITCH_ACTIONS || !plan_int(result, row, 2, 5, 16, &numbers[0]) ||
			!plan_int(result, row, 3, 0, 65535, &numbers[1]) ||
			!plan_int(result, row, 5, 0, 600000, &numbers[2]) ||
			!mbap_build_write(&request, 1, (int) numbers[0], (int) numbers[1], action.words,
							  action.count))
		{
			plan_problem(plan, 0, false, 0, "model %s: switch instruction \"%s\" cannot be sent",
						 model->name, name);
			continue;
		}
		action.function = (int) numbers[0];
		action.address = (int) numbers[1];
		action.settle_ms = (int) numbers[2];
		model->switches[i] = action;
	}
}

/* Understands how a gateway is reached and how fast; what is wrong with it, or NULL. */
static const char *
plan_parse_gateway(PGresult *result, int row, SmPlanGateway *gateway)
{
	SmRouteText text = {.transport = plan_text(result, row, 2),
						.address = plan_text(result, row, 3),
						.backup = plan_text(result, row, 7),
						.registration = plan_text(result, row, 9),
						.heartbeat = plan_text(result, row, 10),
						.heartbeat_answer = plan_text(result, row, 11),
						.dial_in = plan_is_true(result, row, 8),
						.tls = plan_is_true(result, row, 12)};
	const char *why = NULL;
	int64_t timeout_ms;
	int64_t gap_ms;

	gateway->rtu = text.transport != NULL && strcmp(text.transport, "rtu-over-tcp") == 0;
	if (text.transport == NULL || (!gateway->rtu && strcmp(text.transport, "modbus-tcp") != 0))
		return "its transport is not one this poller speaks";
	if (!plan_int(result, row, 4, 1, 600000, &timeout_ms) ||
		!plan_int(result, row, 5, 0, 600000, &gap_ms) ||
		!plan_int(result, row, 6, 1, INT64_C(86400000) * 366, &gateway->poll_interval_ms))
		return "its times are out of range";
	gateway->timeout_ms = (int) timeout_ms;
	gateway->gap_ms = (int) gap_ms;
	gateway->good = route_parse(&text, &gateway->route, &why);
	return why;
}

static void
plan_parse_gateways(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;

	plan->gateways = base_alloc((size_t) rows * sizeof(SmPlanGateway));
	for (row = 0; row < rows; row++)
	{
		SmPlanGateway *gateway = &plan->gateways[plan->gateway_count];
		const char *wrong;
		int64_t site_id;

		if (!plan_int(result, row, 0, INT32_MIN, INT32_MAX, &site_id) ||
			!plan_int(result, row, 1, INT64_MIN, INT64_MAX, &gateway->gateway_id))
			continue;
		gateway->site_id = (int) site_id;
		plan->gateway_count++;
		wrong = plan_parse_gateway(result, row, gateway);
		if (wrong != NULL)
			plan_problem(plan, gateway->site_id, true, gateway->gateway_id,
						 "address \"%s\", transport \"%s\": %s",
						 plan_text(result, row, 3) != NULL ? plan_text(result, row, 3) : "",
						 plan_text(result, row, 2) != NULL ? plan_text(result, row, 2) : "", wrong);
	}
}

/* Whether a meter can be read as it stands in the plan; notes the problem when it cannot. */
static bool
plan_check_meter(SmPlan *plan, SmPlanMeter *meter, const char *address, const char *model)
{
	int64_t unit;

	meter->model = plan_find_model(plan, model);
	if (!base_parse_int(address, 0, 255, &unit))
		plan_problem(plan, meter->site_id, false, meter->meter_id,
					 "bus address \"%s\" is not a Modbus unit (0 to 255)",
					 address != NULL ? address : "");
	else if (meter->model == NULL || meter->model->point_count == 0)
		plan_problem(plan, meter->site_id, false, meter->meter_id,
					 "model \"%s\" has no registers that can be read", model != NULL ? model : "");
	else
	{
		meter->unit = (int) unit;
		return true;
	}
	return false;
}

static void
plan_parse_meters(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;

	plan->meters = base_alloc((size_t) rows * sizeof(SmPlanMeter));
	for (row = 0; row < rows; row++)
	{
		SmPlanMeter *meter = &plan->meters[plan->meter_count];
		const SmPlanGateway *gateway;
		int64_t site_id;

		if (!plan_int(result, row, 0, INT32_MIN, INT32_MAX, &site_id) ||
			!plan_int(result, row, 1, INT64_MIN, INT64_MAX, &meter->meter_id) ||
			!plan_int(result, row, 2, INT64_MIN, INT64_MAX, &meter->gateway_id))
			continue;
		meter->site_id = (int) site_id;
		gateway = plan_find_gateway(plan, meter->site_id, meter->gateway_id);
		if (gateway == NULL || !gateway->good)
			continue;
		if (plan_check_meter(plan, meter, plan_text(result, row, 3), plan_text(result, row, 4)))
			plan->meter_count++;
	}
}

/*
 * Makes a plan out of the results of plan_sql; NULL and why when they are not what was asked for.
 * Freed by plan_free().
 */
SmPlan *
plan_parse(PGresult *const *results, int count, const char **why)
{
	static const int columns[PLAN_RESULTS] = {4, 9, 6, 15, 5};
	SmPlan *plan;
	int i;

	for (i = 0; i < PLAN_RESULTS; i++)
	{
		if (count != PLAN_RESULTS || PQnfields(results[i]) != columns[i])
		{
			*why = "the database answered with another number of tables or columns";
			return NULL;
		}
	}
	plan = base_alloc(sizeof(SmPlan));
	plan_parse_models(plan, results[0]);
	plan_parse_points(plan, results[1]);
	plan_parse_switches(plan, results[2]);
	plan_parse_gateways(plan, results[3]);
	plan_parse_meters(plan, results[4]);
	return plan;
}

void
plan_free(SmPlan *plan)
{
	int i;

	if (plan == NULL)
		return;
	for (i = 0; i < plan->model_count; i++)
	{
		free(plan->models[i].name);
		free(plan->models[i].points);
		free(plan->models[i].blocks);
	}
	for (i = 0; i < plan->gateway_count; i++)
		route_free(&plan->gateways[i].route);
	for (i = 0; i < plan->problem_count; i++)
		free(plan->problems[i].text);
	free(plan->models);
	free(plan->gateways);
	free(plan->meters);
	free(plan->problems);
	free(plan);
}
