/*
 * config.c - the file that says which ports and meters there are
 *
 * Lines are read in order: models and curves before the ports, each port before its meters. Paths
 * are relative to the file's own folder. A mistake names the line and stops the start.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "curve.h"
#include "meter.h"
#include "model.h"
#include "parse.h"

#define TOKENS_MAX 32
#define PATH_SIZE 512
#define REPEAT_MAX 10000

typedef struct SmReader
{
	SmFarm *farm;
	const char *path;
	int group_first; /* ports of the latest line "port" */
	int group_count;
} SmReader;

/* Makes a path relative to the configuration's folder. */
static void
config_path(const SmReader *reader, const char *name, char *path)
{
	const char *slash = strrchr(reader->path, '/');
	int folder = slash == NULL || name[0] == '/' ? 0 : (int) (slash - reader->path + 1);

	snprintf(path, PATH_SIZE, "%.*s%s", folder, reader->path, name);
}

/* Reads "curves NAME FILE slot_s=SECONDS [unit=kwh|kw]". */
static bool
config_curves(SmReader *reader, char **tokens, int count, SmError *error)
{
	char path[PATH_SIZE];
	const char *unit = "kwh";
	int64_t slot_s = 3600;
	char *key;
	char *value;
	int i;

	if (count < 3)
		return farm_fail(error, "curves need a name and a file");
	for (i = 3; i < count; i++)
	{
		bool good = parse_pair(tokens[i], &key, &value);

		if (good && strcmp(key, "slot_s") == 0)
			good = parse_integer(value, 1, 86400, &slot_s);
		else if (good && strcmp(key, "unit") == 0)
			unit = value;
		else
			good = false;
		if (!good || (strcmp(unit, "kwh") != 0 && strcmp(unit, "kw") != 0))
			return farm_fail(error, "cannot read \"%s\"", tokens[i]);
	}
	config_path(reader, tokens[2], path);
	return curve_load(reader->farm, tokens[1], path, slot_s, unit, error);
}

/* Reads "clock YYYY-MM-DDTHH:MM:SS", what the meters' own clocks show at the start, in UTC. */
static bool
config_clock(SmReader *reader, char **tokens, int count, SmError *error)
{
	struct tm parts = {0};
	const char *end = count == 2 ? strptime(tokens[1], "%Y-%m-%dT%H:%M:%S", &parts) : NULL;

	if (end == NULL || *end != '\0')
		return farm_fail(error, "clock wants YYYY-MM-DDTHH:MM:SS");
	reader->farm->epoch_s = timegm(&parts);
	return true;
}

/* Applies one key=value of a line "port". */
static bool
config_port_option(SmPort *port, const char *key, const char *value)
{
	int64_t number;

	if (strcmp(key, "absent") == 0)
	{
		port->absent_silent = strcmp(value, "silence") == 0;
		return port->absent_silent || strcmp(value, "exception") == 0;
	}
	if (strcmp(key, "latency_ms") == 0 && parse_fixed(value, 3, &number) && number >= 0)
		port->latency_ns = number * 1000;
	else if (strcmp(key, "baud") == 0 && parse_integer(value, 300, 1000000, &number))
		port->baud = number;
	else if (strcmp(key, "connections") == 0 && parse_integer(value, 0, 10000, &number))
		port->connections_max = (int) number;
	else
		return false;
	return true;
}

/* Adds one port to the farm; copy is 0, or the number of this copy of a repeated port. */
static SmPort *
config_add_port(SmFarm *farm, const char *name, int number, int copy)
{
	SmPort *port = farm_alloc(sizeof(SmPort));

	port->source = SOURCE_LISTENER;
	port->farm = farm;
	port->fd = -1;
	port->number = number == 0 || copy == 0 ? number : number + copy - 1;
	if (copy == 0)
		snprintf(port->name, NAME_SIZE, "%.50s", name);
	else
		snprintf(port->name, NAME_SIZE, "%.50s%d", name, copy);
	if (farm->port_count % 64 == 0)
	{
		size_t size = sizeof(SmPort *) * ((size_t) farm->port_count + 64);

		farm->ports = realloc(farm->ports, size);
		if (farm->ports == NULL)
			abort();
	}
	farm->ports[farm->port_count++] = port;
	return port;
}

/* Reads "port NAME NUMBER [repeat=N] [key=value ...]". */
static bool
config_port(SmReader *reader, char **tokens, int count, SmError *error)
{
	SmFarm *farm = reader->farm;
	int64_t number;
	int64_t repeat = 0;
	int64_t copy;
	int option;
	char *keys[TOKENS_MAX];
	char *values[TOKENS_MAX];

	if (count < 3 || !parse_integer(tokens[2], 0, 65535, &number))
		return farm_fail(error, "a port needs a name and a number");
	for (option = 3; option < count; option++)
	{
		if (!parse_pair(tokens[option], &keys[option], &values[option]))
			return farm_fail(error, "cannot read \"%s\"", tokens[option]);
		if (strcmp(keys[option], "repeat") == 0 &&
			!parse_integer(values[option], 1, REPEAT_MAX, &repeat))
			return farm_fail(error, "cannot read repeat=%s", values[option]);
	}
	if (number + repeat > 65536)
		return farm_fail(error, "there are not that many ports after %d", (int) number);
	if (farm_find_port(farm, tokens[1]) != NULL)
		return farm_fail(error, "there is already a port %s", tokens[1]);
	reader->group_first = farm->port_count;
	for (copy = repeat > 0 ? 1 : 0; copy <= repeat; copy++)
	{
		SmPort *port = config_add_port(farm, tokens[1], (int) number, (int) copy);

		for (option = 3; option < count; option++)
			if (strcmp(keys[option], "repeat") != 0 &&
				!config_port_option(port, keys[option], values[option]))
				return farm_fail(error, "cannot set %s=%s", keys[option], values[option]);
	}
	reader->group_count = farm->port_count - reader->group_first;
	return true;
}

/* Reads a unit or a range of units, 1 or 1-32. */
static bool
config_units(char *text, int64_t *first, int64_t *last)
{
	char *dash = strchr(text, '-');

	if (dash != NULL)
		*dash = '\0';
	return parse_integer(text, 0, UNITS - 1, first) &&
		   parse_integer(dash == NULL ? text : dash + 1, *first, UNITS - 1, last);
}

/* Puts one meter behind one port. */
static bool
config_add_meter(SmPort *port, const SmModel *model, int unit, char **keys, char **values,
				 int count, SmError *error)
{
	SmFarm *farm = port->farm;
	SmMeter *meter;
	int i;

	if (port->units[unit] != NULL)
		return farm_fail(error, "port %s already has a unit %d", port->name, unit);
	meter = meter_create(farm, model, unit, (uint32_t) farm->meter_count++);
	port->units[unit] = meter;
	for (i = 0; i < count; i++)
		if (!meter_set(meter, keys[i], values[i], error))
			return false;
	return true;
}

/* Reads "meter UNIT[-UNIT] MODEL [key=value ...]", for all ports of the latest line "port". */
static bool
config_meter(SmReader *reader, char **tokens, int count, SmError *error)
{
	const SmModel *model = count < 3 ? NULL : model_find(reader->farm, tokens[2]);
	char *keys[TOKENS_MAX];
	char *values[TOKENS_MAX];
	int64_t first;
	int64_t last;
	int64_t unit;
	int i;

	if (count < 3 || !config_units(tokens[1], &first, &last))
		return farm_fail(error, "a meter needs a unit and a model");
	if (model == NULL)
		return farm_fail(error, "no such model as %s", tokens[2]);
	if (reader->group_count == 0)
		return farm_fail(error, "a meter needs a port before it");
	for (i = 3; i < count; i++)
		if (!parse_pair(tokens[i], &keys[i - 3], &values[i - 3]))
			return farm_fail(error, "cannot read \"%s\"", tokens[i]);
	for (i = 0; i < reader->group_count; i++)
		for (unit = first; unit <= last; unit++)
			if (!config_add_meter(reader->farm->ports[reader->group_first + i], model, (int) unit,
								  keys, values, count - 3, error))
				return false;
	return true;
}

/* Reads "speed N". */
static bool
config_speed(SmReader *reader, char **tokens, int count, SmError *error)
{
	if (count == 2 && farm_parse_speed(tokens[1], &reader->farm->speed_milli))
		return true;
	return farm_fail(error, "speed wants a number from 0 to %d", SPEED_MOST);
}

/* Reads "control ADDRESS". */
static bool
config_control(SmReader *reader, char **tokens, int count, SmError *error)
{
	if (count != 2 || strlen(tokens[1]) >= sizeof(reader->farm->control_address))
		return farm_fail(error, "control wants a socket path or a port number");
	strcpy(reader->farm->control_address, tokens[1]);
	return true;
}

/* Reads one line. */
static bool
config_line(SmReader *reader, char *line, SmError *error)
{
	char *tokens[TOKENS_MAX];
	char path[PATH_SIZE];
	int count = parse_tokens(line, tokens, TOKENS_MAX);

	if (count == 0)
		return true;
	if (count < 0)
		return farm_fail(error, "this line has too many words");
	if (strcmp(tokens[0], "models") == 0 && count == 2)
	{
		config_path(reader, tokens[1], path);
		return model_load(reader->farm, path, error);
	}
	if (strcmp(tokens[0], "curves") == 0)
		return config_curves(reader, tokens, count, error);
	if (strcmp(tokens[0], "clock") == 0)
		return config_clock(reader, tokens, count, error);
	if (strcmp(tokens[0], "speed") == 0)
		return config_speed(reader, tokens, count, error);
	if (strcmp(tokens[0], "control") == 0)
		return config_control(reader, tokens, count, error);
	if (strcmp(tokens[0], "port") == 0)
		return config_port(reader, tokens, count, error);
	if (strcmp(tokens[0], "meter") == 0)
		return config_meter(reader, tokens, count, error);
	return farm_fail(error, "expected models, curves, clock, speed, control, port or meter");
}

/* Reads the register maps and then the configuration. */
bool
config_load(SmFarm *farm, const char *path, const char *models_path, SmError *error)
{
	FILE *file;
	char line[1024];
	SmReader reader = {farm, path, 0, 0};
	SmError why;
	int number = 0;

	if (!model_load(farm, models_path, error))
		return false;
	file = fopen(path, "r");
	if (file == NULL)
		return farm_fail(error, "could not open \"%s\": %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL)
	{
		number++;
		if (config_line(&reader, line, &why))
			continue;
		fclose(file);
		return farm_fail(error, "%.80s line %d: %.150s", path, number, why.text);
	}
	fclose(file);
	if (farm->port_count == 0)
		return farm_fail(error, "%.150s names no port", path);
	return true;
}
