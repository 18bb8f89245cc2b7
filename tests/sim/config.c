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
#include "dial.h"
#include "dlt.h"
#include "meter.h"
#include "model.h"
#include "parse.h"
#include "tls.h"

#define TOKENS_MAX 32
#define PATH_SIZE 512
#define REPEAT_MAX 10000
#define RANGE_MAX 10000
#define ADDRESS_MOST INT64_C(999999999999)

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

/* Reads "zone HOURS": what the meters' clocks show beyond the line "clock". */
static bool
config_zone(SmReader *reader, char **tokens, int count, SmError *error)
{
	int64_t hours;

	if (count != 2 || !parse_fixed(tokens[1], 2, &hours) || hours < -1200 || hours > 1400)
		return farm_fail(error, "zone wants hours from -12 to 14");
	reader->farm->zone_s = hours * 36;
	return true;
}

/* Reads "wire=...", and with it how many bits a character of the line has. */
static bool
config_wire(SmPort *port, const char *value)
{
	static const char *const names[WIRE_COUNT] = {"modbus-tcp", "rtu", "dlt645", "q376"};
	int wire;

	for (wire = 0; wire < WIRE_COUNT; wire++)
		if (strcmp(value, names[wire]) == 0)
			break;
	if (wire == WIRE_COUNT || (wire == WIRE_TCP && port->door == DOOR_PTY) ||
		(wire == WIRE_Q376 && port->door != DOOR_DIAL))
		return false;
	port->wire = (SmWire) wire;
	port->char_bits = wire == WIRE_TCP || wire == WIRE_RTU ? 10 : 11;
	return true;
}

/* Reads "tls=CERT,KEY[,CA]", paths relative to the configuration. */
static bool
config_tls(const SmReader *reader, SmPort *port, const char *value, SmError *error)
{
	char copy[2 * PATH_SIZE];
	char files[3 * PATH_SIZE + 3] = "";
	char path[PATH_SIZE];
	char *rest = copy;
	char *name;

	if (strlen(value) >= sizeof(copy) || port->tls != NULL)
		return farm_fail(error, "cannot read tls=");
	strcpy(copy, value);
	while ((name = strsep(&rest, ",")) != NULL && strlen(files) < 3 * PATH_SIZE - PATH_SIZE)
	{
		path[0] = '\0';
		if (*name != '\0')
			config_path(reader, name, path);
		snprintf(files + strlen(files), sizeof(files) - strlen(files), "%s%s",
				 name == copy ? "" : ",", path);
	}
	return tls_load(port, files, error);
}

/* Applies one key=value of a line "port" that is a number or a choice. */
static bool
config_port_setting(SmPort *port, const char *key, const char *value)
{
	int64_t number;

	if (strcmp(key, "absent") == 0)
	{
		port->absent_silent = strcmp(value, "silence") == 0;
		return port->absent_silent || strcmp(value, "exception") == 0;
	}
	if (strcmp(key, "wire") == 0)
		return config_wire(port, value);
	if (strcmp(key, "link") == 0)
	{
		snprintf(port->link, sizeof(port->link), "%s", value);
		return port->door == DOOR_PTY && strlen(value) < sizeof(port->link) && port->copy == 0;
	}
	if (strcmp(key, "latency_ms") == 0 && parse_fixed(value, 3, &number) && number >= 0)
		port->latency_ns = number * 1000;
	else if (strcmp(key, "baud") == 0 && parse_integer(value, 300, 1000000, &number))
		port->baud = number;
	else if (strcmp(key, "bits") == 0 && parse_integer(value, 9, 12, &number))
		port->char_bits = (int) number;
	else if (strcmp(key, "connections") == 0 && parse_integer(value, 0, 10000, &number))
		port->connections_max = (int) number;
	else
		return dial_option(port, key, value);
	return true;
}

/* Applies one key=value of a line "port"; error says what was wrong. */
static bool
config_port_option(const SmReader *reader, SmPort *port, const char *key, const char *value,
				   SmError *error)
{
	if (strcmp(key, "repeat") == 0)
		return true;
	if (strcmp(key, "tls") == 0 && port->door != DOOR_PTY)
		return config_tls(reader, port, value, error);
	return config_port_setting(port, key, value) ||
		   farm_fail(error, "cannot set %.60s=%.60s", key, value);
}

/* Adds one port to the farm; copy is 0, or the number of this copy of a repeated port. */
static SmPort *
config_add_port(SmFarm *farm, const char *name, int number, int copy)
{
	SmPort *port = farm_alloc(sizeof(SmPort));

	port->source = SOURCE_LISTENER;
	port->farm = farm;
	port->fd = -1;
	port->copy = copy;
	port->char_bits = 10;
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

/* Takes the door of a port line apart: NUMBER, "pty", or "dial HOST:PORT"; the index after it, or 0. */
static int
config_door(char **tokens, int count, SmDoor *door, int64_t *number)
{
	*door = DOOR_LISTEN;
	*number = 0;
	if (count < 3)
		return 0;
	if (strcmp(tokens[2], "pty") == 0)
	{
		*door = DOOR_PTY;
		return 3;
	}
	if (strcmp(tokens[2], "dial") == 0)
	{
		*door = DOOR_DIAL;
		return count > 3 ? 4 : 0;
	}
	return parse_integer(tokens[2], 0, 65535, number) ? 3 : 0;
}

/* Makes one port of a port line. */
static bool
config_one_port(SmReader *reader, char **tokens, SmDoor door, int64_t number, int copy, char **keys,
				char **values, int count, SmError *error)
{
	SmPort *port = config_add_port(reader->farm, tokens[1], (int) number, copy);
	int i;

	port->door = door;
	if (door == DOOR_DIAL && !dial_parse(port, tokens[3], error))
		return false;
	if (door == DOOR_PTY)
		port->wire = WIRE_RTU;
	for (i = 0; i < count; i++)
		if (!config_port_option(reader, port, keys[i], values[i], error))
			return false;
	return true;
}

/* Reads "port NAME NUMBER|pty|dial HOST:PORT [repeat=N] [key=value ...]". */
static bool
config_port(SmReader *reader, char **tokens, int count, SmError *error)
{
	SmFarm *farm = reader->farm;
	SmDoor door;
	int64_t number;
	int64_t repeat = 0;
	int64_t copy;
	int first = config_door(tokens, count, &door, &number);
	int option;
	char *keys[TOKENS_MAX];
	char *values[TOKENS_MAX];

	if (first == 0)
		return farm_fail(error, "a port needs a name and a number, pty, or dial HOST:PORT");
	for (option = first; option < count; option++)
	{
		if (!parse_pair(tokens[option], &keys[option - first], &values[option - first]))
			return farm_fail(error, "cannot read \"%s\"", tokens[option]);
		if (strcmp(keys[option - first], "repeat") == 0 &&
			!parse_integer(values[option - first], 1, REPEAT_MAX, &repeat))
			return farm_fail(error, "cannot read repeat=%s", values[option - first]);
	}
	if (number + repeat > 65536)
		return farm_fail(error, "there are not that many ports after %d", (int) number);
	if (farm_find_port(farm, tokens[1]) != NULL)
		return farm_fail(error, "there is already a port %s", tokens[1]);
	reader->group_first = farm->port_count;
	for (copy = repeat > 0 ? 1 : 0; copy <= repeat; copy++)
		if (!config_one_port(reader, tokens, door, number, (int) copy, keys, values, count - first,
							 error))
			return false;
	reader->group_count = farm->port_count - reader->group_first;
	return true;
}

/* Appends a meter to those of a port. */
static void
config_append(SmPort *port, SmMeter *meter)
{
	if (port->meter_count % 16 == 0)
	{
		size_t size = sizeof(SmMeter *) * ((size_t) port->meter_count + 16);

		port->meters = realloc(port->meters, size);
		if (port->meters == NULL)
			abort();
	}
	port->meters[port->meter_count++] = meter;
}

/* Puts one meter behind one port, at a unit or a DL/T 645 address. */
static bool
config_add_meter(SmPort *port, const SmModel *model, const char *where, char **keys, char **values,
				 int count, SmError *error)
{
	SmFarm *farm = port->farm;
	bool modbus = port->wire == WIRE_TCP || port->wire == WIRE_RTU;
	SmMeter *meter;
	int unit = modbus ? atoi(where) : port->meter_count;
	int i;

	if (modbus != (model->protocol == PROTOCOL_MODBUS))
		return farm_fail(error, "%s does not speak what port %s speaks", model->names[0],
						 port->name);
	if (farm_find_meter(port, where) != NULL)
		return farm_fail(error, "port %s already has a unit %s", port->name, where);
	meter = meter_create(farm, model, unit, (uint32_t) farm->meter_count++);
	config_append(port, meter);
	if (modbus)
		port->units[unit] = meter;
	else if (!farm_parse_address(where, meter->address))
		return farm_fail(error, "%s is no address", where);
	if (!modbus)
		dlt_create(meter);
	for (i = 0; i < count; i++)
		if (!meter_set(meter, keys[i], values[i], error))
			return false;
	return true;
}

/* Replaces each run of '%' in an address by the number of a port's copy in as many digits. */
static void
config_address(const SmPort *port, const char *text, char *address)
{
	size_t used = 0;
	int width;

	for (; *text != '\0' && used<NAME_SIZE - 1; text += width> 0 ? width : 1)
	{
		width = (int) strspn(text, "%");
		if (width == 0)
			address[used++] = *text;
		else
			used += (size_t) snprintf(address + used, NAME_SIZE - used, "%0*d", width, port->copy);
	}
	address[used < NAME_SIZE ? used : NAME_SIZE - 1] = '\0';
}

/* Puts the meters of a line behind one port: one address, or a range of them. */
static bool
config_meters(SmPort *port, const SmModel *model, const char *where, char **keys, char **values,
			  int count, SmError *error)
{
	bool modbus = port->wire == WIRE_TCP || port->wire == WIRE_RTU;
	int64_t most = modbus ? UNITS - 1 : ADDRESS_MOST;
	char address[NAME_SIZE];
	char *dash;
	int64_t first;
	int64_t last;

	config_address(port, where, address);
	dash = strchr(address, '-');
	if (dash != NULL)
		*dash = '\0';
	/* The digits of an address are decimal even behind zeros. */
	if (strspn(address, "0123456789") != strlen(address) || *address == '\0' ||
		(first = strtoll(address, NULL, 10)) > most ||
		(last = dash == NULL ? first : strtoll(dash + 1, NULL, 10)) > most || last < first ||
		last - first > RANGE_MAX)
		return farm_fail(error, "a meter needs a unit or an address and a model");
	for (; first <= last; first++)
	{
		snprintf(address, sizeof(address), "%lld", (long long) first);
		if (!config_add_meter(port, model, address, keys, values, count, error))
			return false;
	}
	return true;
}

/* Reads "meter UNIT[-UNIT] MODEL [key=value ...]", for all ports of the latest line "port". */
static bool
config_meter(SmReader *reader, char **tokens, int count, SmError *error)
{
	const SmModel *model = count < 3 ? NULL : model_find(reader->farm, tokens[2]);
	char *keys[TOKENS_MAX];
	char *values[TOKENS_MAX];
	int i;

	if (count < 3 || strlen(tokens[1]) > 30)
		return farm_fail(error, "a meter needs a unit or an address and a model");
	if (model == NULL)
		return farm_fail(error, "no such model as %s", tokens[2]);
	if (reader->group_count == 0)
		return farm_fail(error, "a meter needs a port before it");
	for (i = 3; i < count; i++)
		if (!parse_pair(tokens[i], &keys[i - 3], &values[i - 3]))
			return farm_fail(error, "cannot read \"%s\"", tokens[i]);
	for (i = 0; i < reader->group_count; i++)
		if (!config_meters(reader->farm->ports[reader->group_first + i], model, tokens[1], keys,
						   values, count - 3, error))
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
	if (strcmp(tokens[0], "zone") == 0)
		return config_zone(reader, tokens, count, error);
	if (strcmp(tokens[0], "speed") == 0)
		return config_speed(reader, tokens, count, error);
	if (strcmp(tokens[0], "control") == 0)
		return config_control(reader, tokens, count, error);
	if (strcmp(tokens[0], "port") == 0)
		return config_port(reader, tokens, count, error);
	if (strcmp(tokens[0], "meter") == 0)
		return config_meter(reader, tokens, count, error);
	return farm_fail(error, "expected models, curves, clock, zone, speed, control, port or meter");
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
