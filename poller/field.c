/*
 * field.c - the running field: what a plan makes of buses and meters
 *
 * A plan is applied in one go. Buses and meters that stay keep their connection, their turn and
 * what was learned about them; those that are gone are closed; a reading under way is begun anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "command.h"
#include "field.h"
#include "history.h"
#include "listen.h"
#include "log.h"

/* Makes an empty field; floor_ms is the latest stamp of an earlier run. Freed by field_free(). */
SmField *
field_create(SmLoop *loop, const SmFieldHooks *hooks, bool once, int64_t floor_ms)
{
	SmField *field = base_alloc(sizeof(SmField));

	field->loop = loop;
	field->hooks = *hooks;
	field->listen = listen_create(field);
	field->once = once;
	field->alone = once;
	field->until_us = INT64_MAX;
	field->floor_ms = floor_ms;
	return field;
}

static void
field_free_meter(SmMeter *meter)
{
	if (meter->own_blocks)
		free(meter->blocks);
	free(meter->refused);
	free(meter);
}

static void
field_free_bus(SmBus *bus)
{
	bus_close(bus);
	free(bus->meters);
	free(bus);
}

static void
field_free_left_out(SmField *field)
{
	int i;

	for (i = 0; i < field->left_out_count; i++)
		free(field->left_out[i].text);
	free(field->left_out);
	field->left_out = NULL;
	field->left_out_count = 0;
}

void
field_free(SmField *field)
{
	int i;

	listen_free(field->listen);
	for (i = 0; i < field->bus_count; i++)
	{
		command_drop_all(field->buses[i]);
		history_drop_all(field->buses[i]);
		clock_drop_all(field->buses[i]);
		field_free_bus(field->buses[i]);
	}
	for (i = 0; i < field->meter_count; i++)
		field_free_meter(field->meters[i]);
	field_free_left_out(field);
	free(field->buses);
	free(field->meters);
	plan_free(field->plan);
	free(field);
}

/* Changes an error text and marks its owner when it is another one; NULL clears it. */
void
field_set_error(char *target, const char *text, bool *dirty)
{
	if (text == NULL)
		text = "";
	if (strncmp(target, text, FIELD_ERROR - 1) == 0)
		return;
	snprintf(target, FIELD_ERROR, "%s", text);
	*dirty = true;
}

static int
field_compare(int site_a, int64_t id_a, int site_b, int64_t id_b)
{
	if (site_a != site_b)
		return site_a < site_b ? -1 : 1;
	return (id_a > id_b) - (id_a < id_b);
}

static int
field_compare_meter(const void *key, const void *entry)
{
	const SmMeter *a = key;
	const SmMeter *b = *(SmMeter *const *) entry;

	return field_compare(a->site_id, a->meter_id, b->site_id, b->meter_id);
}

static int
field_compare_bus(const void *key, const void *entry)
{
	const SmBus *a = key;
	const SmBus *b = *(SmBus *const *) entry;

	return field_compare(a->site_id, a->gateway_id, b->site_id, b->gateway_id);
}

/* The meter of that number; NULL when the plan does not have it. */
SmMeter *
field_find_meter(const SmField *field, int site_id, int64_t meter_id)
{
	SmMeter key = {.site_id = site_id, .meter_id = meter_id};
	SmMeter **found;

	if (field->meter_count == 0)
		return NULL;
	found = bsearch(&key, field->meters, (size_t) field->meter_count, sizeof(SmMeter *),
					field_compare_meter);
	return found != NULL ? *found : NULL;
}

static SmBus *
field_find_bus(SmBus **buses, int count, int site_id, int64_t gateway_id)
{
	SmBus key = {.site_id = site_id, .gateway_id = gateway_id};
	SmBus **found = NULL;

	if (count > 0)
		found = bsearch(&key, buses, (size_t) count, sizeof(SmBus *), field_compare_bus);
	return found != NULL ? *found : NULL;
}

/* The bus of that number; NULL when the plan does not have it. */
SmBus *
field_find(const SmField *field, int site_id, int64_t gateway_id)
{
	return field_find_bus(field->buses, field->bus_count, site_id, gateway_id);
}

/* The bus of a planned gateway: the one there is, or a new one when its address is another. */
static SmBus *
field_take_bus(SmField *field, const SmPlanGateway *gateway)
{
	SmBus *bus =
		field_find_bus(field->buses, field->bus_count, gateway->site_id, gateway->gateway_id);

	if (bus == NULL || !route_is_same(bus->link.route, &gateway->route) ||
		bus->wire.kind != gateway->wire.kind)
	{
		bus = base_alloc(sizeof(SmBus));
		bus->field = field;
		bus->site_id = gateway->site_id;
		bus->gateway_id = gateway->gateway_id;
		bus->wire = gateway->wire;
		bus_init(bus);
	}
	else
		round_abandon(bus);
	bus->kept = true;
	bus->link.route = &gateway->route;
	bus->wire.port = gateway->wire.port;
	bus->wire.line = gateway->wire.line;
	bus->timeout_ms = gateway->timeout_ms;
	bus->gap_ms = gateway->gap_ms;
	bus->interval_us = gateway->poll_interval_ms * US_PER_MS;
	bus->meter_count = 0;
	bus->round_count = 0;
	return bus;
}

/* Whether two models are read in the same way, so that what a meter refused still holds. */
static bool
field_same_map(const SmModel *a, const SmModel *b)
{
	return a->point_count == b->point_count && a->block_count == b->block_count &&
		   coalesce_same(a->points, b->points, a->blocks, b->blocks, a->point_count,
						 a->block_count);
}

/* Gives a meter its model and bus. */
static void
field_place_meter(SmMeter *meter, const SmPlanMeter *planned, SmBus *bus)
{
	bool moved =
		meter->bus != bus || memcmp(&meter->target, &planned->target, sizeof(SmTarget)) != 0;

	if (!meter->own_blocks || moved || !field_same_map(meter->model, planned->model))
	{
		meter->relearnt = meter->bus != NULL;
		meter->model = planned->model;
		meter->target = planned->target;
		learn_reset(meter);
		if (planned->refused != NULL && meter->bus == NULL)
			learn_restore(meter, planned->refused, planned->ask_again_s);
	}
	if (moved)
	{
		meter->failures = 0;
		meter->due_us = base_now_us();
	}
	else if (meter->failures == 0 && meter->due_us > base_now_us() + bus->interval_us)
		meter->due_us = base_now_us() + bus->interval_us;
	meter->model = planned->model;
	meter->target = planned->target;
	meter->bus = bus;
	meter->kept = true;
	bus->meters = base_resize(bus->meters, (size_t) (bus->meter_count + 1) * sizeof(SmMeter *));
	bus->meters[bus->meter_count++] = meter;
}

static SmMeter *
field_take_meter(SmField *field, const SmPlanMeter *planned)
{
	SmMeter *meter = field_find_meter(field, planned->site_id, planned->meter_id);

	if (meter != NULL)
		return meter;
	meter = base_alloc(sizeof(SmMeter));
	meter->site_id = planned->site_id;
	meter->meter_id = planned->meter_id;
	meter->online = -1;
	meter->tries_left = field->once ? 2 : 0;
	return meter;
}

/* Builds the buses of a plan; returns their number. The array is the caller's. */
static SmBus **
field_build_buses(SmField *field, const SmPlan *plan, int *count)
{
	SmBus **buses = base_alloc((size_t) plan->gateway_count * sizeof(SmBus *));
	int i;

	*count = 0;
	for (i = 0; i < plan->gateway_count; i++)
	{
		if (plan->gateways[i].good)
			buses[(*count)++] = field_take_bus(field, &plan->gateways[i]);
	}
	return buses;
}

/* Puts the meters of a plan on its buses. The array is the caller's. */
static SmMeter **
field_build_meters(SmField *field, const SmPlan *plan, SmBus **buses, int bus_count, int *count)
{
	SmMeter **meters = base_alloc((size_t) plan->meter_count * sizeof(SmMeter *));
	int i;

	*count = 0;
	for (i = 0; i < plan->meter_count; i++)
	{
		const SmPlanMeter *planned = &plan->meters[i];
		SmBus *bus = field_find_bus(buses, bus_count, planned->site_id, planned->gateway_id);
		SmMeter *meter;

		if (bus == NULL)
			continue;
		meter = field_take_meter(field, planned);
		field_place_meter(meter, planned, bus);
		meters[(*count)++] = meter;
	}
	return meters;
}

/* The same problem in the plan before this one; NULL when it is new. */
static const SmLeftOut *
field_find_left_out(const SmField *field, const SmPlanProblem *problem)
{
	int i;

	for (i = 0; i < field->left_out_count; i++)
	{
		const SmLeftOut *entry = &field->left_out[i];

		if (entry->site_id == problem->site_id && entry->id == problem->id &&
			entry->is_gateway == problem->is_gateway && strcmp(entry->text, problem->text) == 0)
			return entry;
	}
	return NULL;
}

/* Lists what the plan leaves out, and says what is new in it. */
static void
field_note_problems(SmField *field, const SmPlan *plan)
{
	SmLeftOut *list = base_alloc((size_t) plan->problem_count * sizeof(SmLeftOut));
	int i;

	for (i = 0; i < plan->problem_count; i++)
	{
		const SmPlanProblem *problem = &plan->problems[i];
		const SmLeftOut *old = field_find_left_out(field, problem);

		list[i] = (SmLeftOut){problem->site_id, problem->is_gateway, problem->id,
							  old != NULL && old->told, base_copy(problem->text)};
		if (old != NULL)
			continue;
		if (problem->id == 0)
			log_warning("plan: %s", problem->text);
		else
			log_warning("plan: %s %d/%lld is left out: %s",
						problem->is_gateway ? "gateway" : "meter", problem->site_id,
						(long long) problem->id, problem->text);
	}
	field_free_left_out(field);
	field->left_out = list;
	field->left_out_count = plan->problem_count;
}

/* Ends what a new plan does not have any more; commands on it go back to the database. */
static void
field_sweep(SmField *field, SmBus **buses, int bus_count, SmMeter **meters, int meter_count)
{
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		command_plan_changed(field->buses[i]);
		history_drop_all(field->buses[i]);
		clock_drop_all(field->buses[i]);
	}
	for (i = 0; i < field->bus_count; i++)
	{
		if (!field->buses[i]->kept)
			field_free_bus(field->buses[i]);
	}
	for (i = 0; i < field->meter_count; i++)
	{
		if (!field->meters[i]->kept)
			field_free_meter(field->meters[i]);
	}
	free(field->buses);
	free(field->meters);
	field->buses = buses;
	field->bus_count = bus_count;
	field->meters = meters;
	field->meter_count = meter_count;
	for (i = 0; i < bus_count; i++)
		buses[i]->kept = false;
	for (i = 0; i < meter_count; i++)
		meters[i]->kept = false;
}

/* Runs the field by this plan from now on. The plan becomes the field's. */
void
field_apply(SmField *field, SmPlan *plan)
{
	SmBus **buses;
	SmMeter **meters;
	int bus_count;
	int meter_count;
	int i;

	buses = field_build_buses(field, plan, &bus_count);
	meters = field_build_meters(field, plan, buses, bus_count, &meter_count);
	field_sweep(field, buses, bus_count, meters, meter_count);
	field_note_problems(field, plan);
	plan_free(field->plan);
	field->plan = plan;
	if (!field->stopping)
		listen_apply(field->listen);
	for (i = 0; i < bus_count; i++)
		bus_wake(buses[i]);
	log_info("plan: %d gateways, %d meters, %d problems", bus_count, meter_count,
			 plan->problem_count);
}

/* Stamps were wrong by so much: the next ones follow on those that were put right. */
void
field_shift_time(SmField *field, int64_t shift_ms)
{
	int i;

	for (i = 0; i < field->meter_count; i++)
	{
		if (field->meters[i]->last_ms != 0)
			field->meters[i]->last_ms += shift_ms;
	}
}

/* Starts nothing new; commands that were written are still read back. */
void
field_stop(SmField *field)
{
	int i;

	field->stopping = true;
	for (i = 0; i < field->bus_count; i++)
	{
		command_stop(field->buses[i]);
		history_drop_all(field->buses[i]);
		clock_drop_all(field->buses[i]);
		bus_wake(field->buses[i]);
	}
}

/* Whether no question is under way and no command is left. */
bool
field_is_quiet(const SmField *field)
{
	int i;

	for (i = 0; i < field->bus_count; i++)
	{
		if (field->buses[i]->state == BUS_WAITING || field->buses[i]->commands != NULL)
			return false;
	}
	return true;
}

/* With --once: whether every meter has answered or failed for good, and how many failed. */
bool
field_round_is_done(const SmField *field, int *failed)
{
	int i;

	*failed = 0;
	for (i = 0; i < field->meter_count; i++)
	{
		const SmMeter *meter = field->meters[i];

		if (meter->tries_left > 0 || meter->bus->reading == meter)
			return false;
		*failed += meter->online != 1 || meter->failures > 0;
	}
	return true;
}
