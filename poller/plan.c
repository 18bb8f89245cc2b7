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

#include "plan_part.h"

/* In the order in which plan_parse() takes the results; $ stands for who asks. */
static const char plan_sql[] =
	"SELECT model, max_registers, max_gap, turnaround_ms, protocol, keeps"
	" FROM submeter.poller_models()"
	" ORDER BY model COLLATE \"C\";"
	"SELECT model, metric, function, address, type, scale, bit_mask, closed_value, open_value,"
	" di, block_di, block_offset, bytes, lock_mask, lock_value, keep_mask, keep_value"
	" FROM submeter.poller_points();"
	"SELECT model, action, function, address, registers, settle_ms, di, valid_s"
	" FROM submeter.poller_switches();"
	"SELECT site_id, gateway_id, transport, address, timeout_ms, gap_ms, poll_interval_ms,"
	" backup_address, dial_in, registration, heartbeat, heartbeat_answer, tls, q376_port, q376_line,"
	" held_by FROM submeter.poller_gateways($) ORDER BY site_id, gateway_id;"
	"SELECT site_id, meter_id, gateway_id, bus_address, model, refused, ask_again_s"
	" FROM submeter.poller_meters() ORDER BY site_id, meter_id";

/*
 * Composes the question for a plan: what this poller has leases on; once: all, and who has it;
 * without a name: all.
 */
void
plan_query(SmText *query, const char *poller, bool once)
{
	const char *place = strchr(plan_sql, '$');
	char letter[2] = "";

	text_printf(query, "%.*s", (int) (place - plan_sql), plan_sql);
	if (poller != NULL)
	{
		text_add(query, "E'");
		for (; *poller != '\0'; poller++)
		{
			letter[0] = *poller;
			text_add(query, *poller == '\'' || *poller == '\\' ? "\\" : "");
			text_add(query, letter);
		}
		text_add(query, once ? "', true" : "'");
	}
	text_add(query, place + 1);
}

/* A plan without anything. */
SmPlan *
plan_create(void)
{
	return base_alloc(sizeof(SmPlan));
}

/* Notes something that is left out of the plan, and why. */
void
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

/* A cell of a result; NULL when it holds none. */
const char *
plan_text(PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* An integer of a result within limits; false when it is missing or beyond them. */
bool
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

/* The model of that name; NULL when the plan does not have it. */
SmModel *
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

/* Who a concentrator is and where its meters hang; without an address, the first login tells. */
static const char *
plan_parse_station(PGresult *result, int row, SmPlanGateway *gateway)
{
	const char *registration = plan_text(result, row, 9);
	int64_t port;
	int64_t line;

	if (!plan_int(result, row, 13, 0, 31, &port) || !plan_int(result, row, 14, 0, 255, &line))
		return "the concentrator's port or line is out of range";
	if (registration != NULL)
		gateway->wire.known = q376_parse_address(registration, &gateway->wire.station);
	if (registration != NULL && !gateway->wire.known)
		return "registration is not the address of a concentrator, such as 4403-01234";
	gateway->wire.port = (uint8_t) port;
	gateway->wire.line = (uint8_t) line;
	return NULL;
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

	if (plan_text(result, row, 15) != NULL)
		return "another poller reads it now";
	if (text.transport == NULL || !wire_find_kind(text.transport, &gateway->wire.kind))
		return "its transport is not one this poller speaks";
	if (!plan_int(result, row, 4, 1, 600000, &timeout_ms) ||
		!plan_int(result, row, 5, 0, 600000, &gap_ms) ||
		!plan_int(result, row, 6, 1, INT64_C(86400000) * 366, &gateway->poll_interval_ms))
		return "its times are out of range";
	gateway->timeout_ms = (int) timeout_ms;
	gateway->gap_ms = (int) gap_ms;
	if (gateway->wire.kind == WIRE_Q376)
		why = plan_parse_station(result, row, gateway);
	if (why == NULL)
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
plan_check_meter(SmPlan *plan, SmPlanMeter *meter, SmWireKind wire, const char *address,
				 const char *model)
{
	meter->model = plan_find_model(plan, model);
	if (meter->model == NULL || meter->model->point_count == 0)
		plan_problem(plan, meter->site_id, false, meter->meter_id,
					 "model \"%s\" has no registers that can be read", model != NULL ? model : "");
	else if (!wire_carries(wire, meter->model->protocol))
		plan_problem(plan, meter->site_id, false, meter->meter_id,
					 "model \"%s\" does not speak what its gateway carries", model);
	else if (address == NULL || !wire_parse_target(meter->model->protocol, address, &meter->target))
		plan_problem(plan, meter->site_id, false, meter->meter_id, "bus address \"%s\" is not %s",
					 address != NULL ? address : "",
					 meter->model->protocol == PROTOCOL_MODBUS
						 ? "a Modbus unit (0 to 255)"
						 : "a DL/T 645 address (1 to 12 digits, A for any)");
	else
		return true;
	return false;
}

/* Whether the address of a meter may be that of others, too. */
static bool
plan_is_wildcard(const SmTarget *target)
{
	int i;

	for (i = 0; target->protocol != PROTOCOL_MODBUS && i < REQUEST_ADDRESS; i++)
	{
		if (target->address[i] >> 4 == 0xA || (target->address[i] & 0x0F) == 0xA)
			return true;
	}
	return false;
}

/* Leaves out meters under a wildcard address that are not alone behind their gateway. */
static void
plan_check_wildcards(SmPlan *plan)
{
	int kept = 0;
	int i;
	int j;

	for (i = 0; i < plan->meter_count; i++)
	{
		SmPlanMeter *meter = &plan->meters[i];
		bool alone = true;

		for (j = 0; plan_is_wildcard(&meter->target) && j < plan->meter_count; j++)
			alone = alone && (j == i || plan->meters[j].site_id != meter->site_id ||
							  plan->meters[j].gateway_id != meter->gateway_id);
		meter->alone = alone;
	}
	for (i = 0; i < plan->meter_count; i++)
	{
		SmPlanMeter *meter = &plan->meters[i];

		if (meter->alone)
			plan->meters[kept++] = *meter;
		else
		{
			plan_problem(plan, meter->site_id, false, meter->meter_id,
						 "its address asks any meter, and it is not alone behind its gateway");
			free(meter->refused);
		}
	}
	plan->meter_count = kept;
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
		if (!plan_check_meter(plan, meter, gateway->wire.kind, plan_text(result, row, 3),
							  plan_text(result, row, 4)))
			continue;
		if (plan_text(result, row, 5) != NULL &&
			plan_int(result, row, 6, 0, INT32_MAX, &meter->ask_again_s))
			meter->refused = base_copy(plan_text(result, row, 5));
		plan->meter_count++;
	}
	plan_check_wildcards(plan);
}

/*
 * Makes a plan out of the results of plan_sql; NULL and why when they are not what was asked for.
 * Freed by plan_free().
 */
SmPlan *
plan_parse(PGresult *const *results, int count, const char **why)
{
	static const int columns[PLAN_RESULTS] = {6, 17, 8, 16, 7};
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
	plan = plan_create();
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
	for (i = 0; i < plan->meter_count; i++)
		free(plan->meters[i].refused);
	for (i = 0; i < plan->problem_count; i++)
		free(plan->problems[i].text);
	free(plan->models);
	free(plan->gateways);
	free(plan->meters);
	free(plan->problems);
	free(plan);
}
