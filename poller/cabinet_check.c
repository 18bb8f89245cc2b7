/*
 * cabinet_check.c - check-model: tries each point of a model on a device
 *
 * Says of every point whether it is good, refused or cannot be true, and what would make it so:
 * another scale, the other order of words, the register beside it, the other function. Then asks
 * for all at once, as the poller does, because some meters refuse long requests or holes.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cabinet.h"

typedef struct SmCheck
{
	const SmCabinetModel *own;
	SmPort *port;
	SmTarget target;
	SmValues values;
	int good;
	int refused;
	int odd;
} SmCheck;

/* Asks for one point by itself; the values are as they were when it has none. */
static SmPortOutcome
check_ask(SmCheck *check, const SmPoint *point, SmValues *values)
{
	SmBlock block = {.function = point->function,
					 .address = point->address,
					 .count = point->function != 0 ? point_words(point->type) : 0,
					 .di = point->di,
					 .points = 1};
	SmPortOutcome outcome;
	SmRequest request;
	SmTaken taken;

	if (!coalesce_request(&check->target, &block, &request))
		return PORT_REFUSED;
	if (check->own->model.turnaround_ms > 0)
		usleep((useconds_t) check->own->model.turnaround_ms * 1000);
	outcome = port_ask(check->port, &request, check->port->timeout_ms);
	if (outcome == PORT_GOOD)
		coalesce_take(point, &block, &request, check->port->join.data, check->port->join.length,
					  values, &taken);
	return outcome;
}

/* Whether a point that is changed so gives a value that can be true. */
static bool
check_try(SmCheck *check, const SmPoint *point)
{
	SmValues values = {0};
	char why[96];

	return point_check(point) == NULL && check_ask(check, point, &values) == PORT_GOOD &&
		   cabinet_look(&values, point->metric, why, sizeof(why)) == LOOK_GOOD &&
		   (point->metric == METRIC_RELAY || values.number[point->metric] != 0 ||
			point->metric <= METRIC_REACTIVE_VARH);
}

/* Tries other scales; tells which one would do. */
static bool
check_scales(SmCheck *check, const SmPoint *point)
{
	static const struct
	{
		int64_t times;
		int digits;
		const char *text;
	} steps[] = {{1, 1, "a tenth"},      {10, 0, "ten times"},
				 {1, 2, "a hundredth"},  {100, 0, "a hundred times"},
				 {1, 3, "a thousandth"}, {1000, 0, "a thousand times"}};
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		SmPoint other = *point;

		other.scale.times *= steps[i].times;
		other.scale.digits += steps[i].digits;
		if (check_try(check, &other))
		{
			printf("%14s try %s the scale\n", "", steps[i].text);
			return true;
		}
	}
	return false;
}

/* Tries the other order of words, the registers beside it and the other function. */
static void
check_places(SmCheck *check, const SmPoint *point)
{
	static const SmPointType swapped[POINT_TYPE_COUNT] = {
		[POINT_U32BE] = POINT_U32SW, [POINT_U32SW] = POINT_U32BE, [POINT_I32BE] = POINT_I32SW,
		[POINT_I32SW] = POINT_I32BE, [POINT_F32BE] = POINT_F32SW, [POINT_F32SW] = POINT_F32BE};
	SmPoint other = *point;
	int step;

	if (swapped[point->type] != POINT_U16)
	{
		other.type = swapped[point->type];
		if (check_try(check, &other))
			printf("%14s try the other order of words (be and sw)\n", "");
	}
	other = *point;
	other.function = point->function == 3 ? 4 : 3;
	if (point->function >= 3 && check_try(check, &other))
		printf("%14s try function %d\n", "", other.function);
	for (step = -1; step <= 1; step += 2)
	{
		other = *point;
		other.address += step;
		if (check_try(check, &other))
			printf("%14s try register %d: some lists count from 1\n", "", other.address);
	}
}

static void
check_where(SmProtocol protocol, const SmPoint *point, char *text, size_t size)
{
	if (protocol == PROTOCOL_MODBUS)
		snprintf(text, size, "%d:%d", point->function, point->address);
	else
		snprintf(text, size, "%0*X", protocol == PROTOCOL_DLT645_1997 ? 4 : 8,
				 (unsigned) point->di);
}

/* Tries one point; false when the connection is lost or nobody is there. */
static bool
check_point(SmCheck *check, const SmPoint *point)
{
	SmPortOutcome outcome = check_ask(check, point, &check->values);
	char where[24];
	char value[64];
	char why[96];
	SmVerdict look;

	check_where(check->target.protocol, point, where, sizeof(where));
	printf("%-14s %-10s ", point_metric_name(point->metric), where);
	if (outcome != PORT_GOOD)
	{
		printf("%s: %s\n", outcome == PORT_REFUSED ? "refused" : "silent",
			   port_outcome_text(check->port, outcome));
		check->refused++;
		if (outcome == PORT_REFUSED && point->function != 0)
			check_places(check, point);
		return outcome == PORT_REFUSED || check->values.present != 0;
	}
	look = cabinet_look(&check->values, point->metric, why, sizeof(why));
	cabinet_format(&check->values, point->metric, value, sizeof(value));
	printf("%-10s %s%s%s\n",
		   look == LOOK_GOOD     ? "good"
		   : look == LOOK_ABSENT ? "absent"
								 : "odd",
		   value, why[0] != '\0' ? ": " : "", why);
	check->good += look == LOOK_GOOD;
	check->odd += look == LOOK_ODD;
	if (look == LOOK_ODD && point->metric != METRIC_RELAY && !check_scales(check, point) &&
		point->function != 0)
		check_places(check, point);
	return true;
}

/* Asks for all at once, as the poller does, and tells what is refused then. */
static int
check_blocks(SmCheck *check)
{
	const SmModel *model = &check->own->model;
	int refused = 0;
	int i;

	for (i = 0; i < model->block_count; i++)
	{
		const SmBlock *block = &model->blocks[i];
		SmPortOutcome outcome;
		SmRequest request;

		if (block->points < 2 || !coalesce_request(&check->target, block, &request))
			continue;
		if (model->turnaround_ms > 0)
			usleep((useconds_t) model->turnaround_ms * 1000);
		outcome = port_ask(check->port, &request, check->port->timeout_ms);
		if (outcome == PORT_GOOD)
			continue;
		refused++;
		if (block->function != 0)
			printf("together       %d:%d to %d refused: %s; try a smaller gap or max\n",
				   block->function, block->address, block->address + block->count - 1,
				   port_outcome_text(check->port, outcome));
		else
			printf("together       block %0*X refused: %s; it is asked for singly then\n",
				   check->target.protocol == PROTOCOL_DLT645_1997 ? 4 : 8, (unsigned) block->di,
				   port_outcome_text(check->port, outcome));
	}
	return refused;
}

static int
check_run(SmCheck *check)
{
	const SmModel *model = &check->own->model;
	const char *together;
	bool there = true;
	int i;

	for (i = 0; i < model->point_count && there; i++)
		there = check_point(check, &model->points[i]);
	if (!there)
	{
		cabinet_say("%s: %s", check->port->route.address,
					check->port->down
						? check->port->why
						: "nobody answers: check unit, wiring and speed, or scan the bus");
		return CABINET_BAD;
	}
	if ((together = cabinet_look_together(&check->values)) != NULL)
	{
		printf("together       %s\n", together);
		check->odd++;
	}
	printf("%s: %d good, %d refused or silent, %d odd\n", model->name, check->good, check->refused,
		   check->odd);
	/* What is refused by itself is refused together, too. */
	if (check->refused == 0 && check_blocks(check) == 0)
		printf("All can be asked for together, as the poller does.\n");
	if (point_has(&check->values, METRIC_ENERGY_WH))
		printf("Compare with the display: %lld.%03lld kWh before transformers.\n",
			   (long long) (check->values.energy[0] / 1000),
			   (long long) (check->values.energy[0] % 1000));
	return check->refused == 0 && check->odd == 0 ? CABINET_GOOD : CABINET_BAD;
}

int
cabinet_check(const SmCabinet *cabinet)
{
	SmCatalogue catalogue = {0};
	SmPort port = {0};
	SmCheck check = {.port = &port};
	int status = CABINET_USAGE;

	check.own = cabinet_find_model(cabinet, &catalogue);
	if (check.own != NULL && cabinet_target(cabinet, check.own->model.protocol, &check.target))
	{
		status = CABINET_BAD;
		if (cabinet_open(cabinet, check.own->model.protocol, &port))
		{
			if (cabinet->timeout_ms == 0)
				port.timeout_ms = check.own->model.protocol == PROTOCOL_MODBUS ? 1000 : 2000;
			status = check_run(&check);
		}
	}
	port_close(&port);
	catalogue_free(&catalogue);
	return status;
}
