/*
 * plan_model.c - the models of a plan: their limits, points and switch instructions
 */
#include <string.h>

#include "plan_part.h"

/* Parses the limits of the models in use. */
void
plan_parse_models(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;

	plan->models = base_alloc((size_t) rows * sizeof(SmModel));
	for (row = 0; row < rows; row++)
	{
		SmModel *model = &plan->models[plan->model_count];
		const char *protocol = plan_text(result, row, 4);
		int64_t numbers[3];

		if (plan_text(result, row, 0) == NULL)
			continue;
		if (protocol == NULL || !wire_find_protocol(protocol, &model->protocol))
		{
			plan_problem(plan, 0, false, 0, "model %s: its protocol is not known",
						 plan_text(result, row, 0));
			continue;
		}
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
		model->keeps = plan_text(result, row, 5) != NULL && plan_text(result, row, 5)[0] == 't';
		plan->model_count++;
	}
}

/* Parses where a point is in the registers of Modbus; what is wrong with it, or NULL. */
static const char *
plan_parse_register(PGresult *result, int row, SmPoint *point)
{
	int64_t function;
	int64_t address;

	if (!plan_int(result, row, 2, 1, 4, &function))
		return "function is not 1 to 4";
	if (!plan_int(result, row, 3, 0, 65535, &address))
		return "address is not 0 to 65535";
	point->function = (int) function;
	point->address = (int) address;
	return NULL;
}

/* Parses where a point is among the items of DL/T 645; what is wrong with it, or NULL. */
static const char *
plan_parse_item(PGresult *result, int row, SmProtocol protocol, SmPoint *point)
{
	const char *di = plan_text(result, row, 9);
	const char *block = plan_text(result, row, 10);
	int64_t offset = 0;
	int64_t bytes;

	if (di == NULL || !dlt645_parse_di(protocol, di, &point->di))
		return "identifier is not one of its protocol";
	if (block != NULL && !dlt645_parse_di(protocol, block, &point->block_di))
		return "identifier of the block is not one of its protocol";
	if (!plan_int(result, row, 12, 1, POINT_BYTES_MAX, &bytes))
		return "length is not 1 to 8 bytes";
	if (block != NULL && !plan_int(result, row, 11, 0, DLT645_DATA_MAX - 1, &offset))
		return "its place in the block is not known";
	point->in_block = block != NULL;
	point->block_offset = (int) offset;
	point->bytes = (int) bytes;
	return NULL;
}

/* Bits of a relay's item that say more than where it is, and their value; mostly there are none. */
static void
plan_parse_bits(PGresult *result, int row, int column, int64_t *mask, int64_t *value)
{
	if (!plan_int(result, row, column, INT32_MIN, INT32_MAX, mask) ||
		!plan_int(result, row, column + 1, INT32_MIN, INT32_MAX, value))
		*mask = *value = 0;
}

/* Parses one point; what is wrong with it, or NULL. */
static const char *
plan_parse_point(PGresult *result, int row, SmProtocol protocol, SmPoint *point)
{
	const char *metric = plan_text(result, row, 1);
	const char *type = plan_text(result, row, 4);
	const char *scale = plan_text(result, row, 5);
	const char *wrong;

	if (metric == NULL || !point_find_metric(metric, &point->metric))
		return "metric is unknown";
	wrong = protocol == PROTOCOL_MODBUS ? plan_parse_register(result, row, point)
										: plan_parse_item(result, row, protocol, point);
	if (wrong != NULL)
		return wrong;
	if (type == NULL || !point_find_type(type, &point->type))
		return "type is unknown";
	if (scale == NULL || !point_parse_scale(scale, &point->scale))
		return "scale is not a decimal of at most 12 digits";
	if (!plan_int(result, row, 6, INT32_MIN, INT32_MAX, &point->bit_mask))
		point->bit_mask = 65535;
	if (point->metric == METRIC_RELAY &&
		(!plan_int(result, row, 7, INT32_MIN, INT32_MAX, &point->closed_value) ||
		 !plan_int(result, row, 8, INT32_MIN, INT32_MAX, &point->open_value)))
		return "a relay needs the values of open and closed";
	plan_parse_bits(result, row, 13, &point->lock_mask, &point->lock_value);
	plan_parse_bits(result, row, 15, &point->keep_mask, &point->keep_value);
	return point_check(point);
}

/* Parses their points, and puts those together that are asked for together. */
void
plan_parse_points(SmPlan *plan, PGresult *result)
{
	int rows = PQntuples(result);
	int row;
	int i;

	for (row = 0; row < rows; row++)
	{
		SmModel *model = plan_find_model(plan, plan_text(result, row, 0));
		SmPoint point = {0};
		const char *wrong;

		if (model == NULL)
			continue;
		wrong = plan_parse_point(result, row, model->protocol, &point);
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

/* Parses what a switch instruction writes where; false when it cannot be sent. */
static bool
plan_parse_write(PGresult *result, int row, SmProtocol protocol, int function, SmSwitch *action)
{
	SmTarget target = {.protocol = protocol};
	SmDltKey key = {0};
	SmDltTime until = {0};
	uint8_t bytes[PLAN_SWITCH_MOST];
	SmRequest request;
	const char *di = plan_text(result, row, 6);
	int64_t number;
	int i;

	if (protocol == PROTOCOL_MODBUS)
	{
		if (!plan_int(result, row, 3, 0, 65535, &number))
			return false;
		action->address = (int) number;
		return mbap_build_write(&request, 1, function, action->address, action->words,
								action->count);
	}
	for (i = 0; i < action->count; i++)
	{
		if (action->words[i] > 255)
			return false;
		bytes[i] = (uint8_t) action->words[i];
	}
	action->valid_s = plan_int(result, row, 7, 1, 86400, &number) ? (int) number : 0;
	if (function == DLT645_SWITCH)
		return action->count == 1 && action->valid_s > 0 &&
			   dlt645_build_switch(&request, &target, &key, bytes[0], &until);
	return function == (protocol == PROTOCOL_DLT645_2007 ? DLT645_WRITE_2007 : DLT645_WRITE_1997) &&
		   action->count > 0 && di != NULL && dlt645_parse_di(protocol, di, &action->di) &&
		   dlt645_build_write(&request, &target, action->di, &key, bytes, action->count);
}

/* Parses the only writes that may be sent to them. */
void
plan_parse_switches(SmPlan *plan, PGresult *result)
{
	static const char *const names[SWITCH_ACTIONS] = {"open", "close", "permit_close", "keep",
													  "release"};
	int rows = PQntuples(result);
	int row;
	int i;

	for (row = 0; row < rows; row++)
	{
		SmModel *model = plan_find_model(plan, plan_text(result, row, 0));
		const char *name = PQgetvalue(result, row, 1);
		SmSwitch action = {.known = true};
		int64_t numbers[2];

		if (model == NULL)
			continue;
		action.count = plan_parse_array(plan_text(result, row, 4), action.words, PLAN_SWITCH_MOST);
		for (i = 0; i < SWITCH_ACTIONS && strcmp(name, names[i]) != 0; i++)
			;
		if (i == SWITCH_ACTIONS || !plan_int(result, row, 2, 1, 255, &numbers[0]) ||
			!plan_int(result, row, 5, 0, 600000, &numbers[1]) ||
			!plan_parse_write(result, row, model->protocol, (int) numbers[0], &action))
		{
			plan_problem(plan, 0, false, 0, "model %s: switch instruction \"%s\" cannot be sent",
						 model->name, name);
			continue;
		}
		action.function = (int) numbers[0];
		action.settle_ms = (int) numbers[1];
		model->switches[i] = action;
	}
}
