/*
 * command.c - what tests can tell the farm
 *
 * Each command is one function and one row of the table at the end. Ports are named as in the
 * configuration or by number. README.md beside this file describes the commands for their users.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "dial.h"
#include "dlt.h"
#include "fault.h"
#include "meter.h"
#include "net.h"
#include "parse.h"
#include "snapshot.h"

#define TOKENS_MAX 32
#define ADVANCE_MOST_S 1000000000

typedef bool (*SmCommandFunction)(SmFarm *farm, char **tokens, int count, SmAnswer *answer,
								  SmError *error);

/* Adds text to an answer; what does not fit is cut. */
void
command_say(SmAnswer *answer, const char *format, ...)
{
	size_t room = sizeof(answer->text) - 2 - answer->length;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(answer->text + answer->length, room, format, args);
	va_end(args);
	if (length > 0)
		answer->length += (size_t) length < room ? (size_t) length : room - 1;
}

/* Finds the port a command names. */
static SmPort *
command_port(const SmFarm *farm, char **tokens, int count, SmError *error)
{
	SmPort *port = count > 1 ? farm_find_port(farm, tokens[1]) : NULL;

	if (port == NULL)
		farm_fail(error, "no such port as \"%.60s\"", count > 1 ? tokens[1] : "");
	return port;
}

/* Finds the meter a command names by port and unit. */
static SmMeter *
command_meter(const SmFarm *farm, char **tokens, int count, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);
	SmMeter *meter;

	if (port == NULL)
		return NULL;
	meter = count < 3 ? NULL : farm_find_meter(port, tokens[2]);
	if (meter == NULL)
		farm_fail(error, "no such unit as \"%.60s\"", count > 2 ? tokens[2] : "");
	return meter;
}

/* Reads an optional unit at tokens[2]; returns the index of the token after it. */
static int
command_unit(const SmPort *port, char **tokens, int count, int *unit)
{
	const SmMeter *meter = count > 2 ? farm_find_meter(port, tokens[2]) : NULL;
	int64_t number;

	*unit = ANY_UNIT;
	if (count > 2 && strcmp(tokens[2], "*") == 0)
		return 3;
	if (meter != NULL)
		*unit = meter->unit;
	else if (count > 2 && port->wire <= WIRE_RTU && parse_integer(tokens[2], 0, UNITS - 1, &number))
		*unit = (int) number;
	else
		return 2;
	return 3;
}

/* Says everything about a meter as key=value. */
static void
command_describe(SmMeter *meter, SmAnswer *answer)
{
	SmSnapshot now;

	snapshot_take(meter, &now);
	command_say(answer, "model=%s relay=%s locked=%s stuck=%s", meter->model->names[0],
				now.relay_closed ? "closed" : "open", meter->locked ? "yes" : "no",
				meter->stuck ? "yes" : "no");
	command_say(answer, " register_wh=%lld register_mwh=%lld export_wh=%lld",
				(long long) (now.import_mwh[0] / 1000), (long long) now.import_mwh[0],
				(long long) (now.export_mwh[0] / 1000));
	command_say(answer, " power_mw=%lld load_mw=%lld voltage_mv=%lld current_ma=%lld",
				(long long) now.power_mw[0], (long long) meter_load_mw(meter, now.sim_ns),
				(long long) now.voltage_mv[0], (long long) now.current_ma[0]);
	command_say(answer, " requests=%lld reads=%lld writes=%lld refusals=%lld switchings=%lld",
				(long long) meter->requests, (long long) meter->reads, (long long) meter->writes,
				(long long) meter->refusals, (long long) meter->switchings);
	command_say(answer, " clock_s=%lld", (long long) meter_clock_s(meter, now.sim_ns));
	if (meter->dlt != NULL)
		dlt_describe(meter, answer);
}

/* Keeps only the value of one key of an answer that is key=value throughout. */
static bool
command_pick(SmAnswer *answer, const char *key, SmError *error)
{
	size_t length = strlen(key);
	char *at = answer->text;

	while (at != NULL && (strncmp(at, key, length) != 0 || at[length] != '='))
	{
		at = strchr(at, ' ');
		at += at == NULL ? 0 : 1;
	}
	if (at == NULL)
		return farm_fail(error, "no such value as \"%.60s\"", key);
	at += length + 1;
	at[strcspn(at, " ")] = '\0';
	answer->length = strlen(at);
	memmove(answer->text, at, answer->length + 1);
	return true;
}

/* get PORT UNIT [KEY] */
static bool
command_get(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmMeter *meter = command_meter(farm, tokens, count, error);

	if (meter == NULL)
		return false;
	command_describe(meter, answer);
	return count < 4 || command_pick(answer, tokens[3], error);
}

/* set PORT UNIT KEY=VALUE ... */
static bool
command_set(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmMeter *meter = command_meter(farm, tokens, count, error);
	char *key;
	char *value;
	int i;

	(void) answer;
	if (meter == NULL)
		return false;
	if (count < 4)
		return farm_fail(error, "set what?");
	for (i = 3; i < count; i++)
	{
		if (!parse_pair(tokens[i], &key, &value))
			return farm_fail(error, "cannot read \"%.60s\"", tokens[i]);
		if (!meter_set(meter, key, value, error))
			return false;
	}
	return true;
}

/* fault PORT [UNIT|*] KIND [ARGUMENT] [count N] */
static bool
command_fault(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);
	int unit;
	int at;

	(void) answer;
	if (port == NULL)
		return false;
	at = command_unit(port, tokens, count, &unit);
	return fault_add(port, unit, tokens + at, count - at, error);
}

/* clear all | clear PORT [UNIT|*] [KIND] */
static bool
command_clear(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port;
	int unit;
	int at;
	int i;

	(void) answer;
	if (count == 2 && strcmp(tokens[1], "all") == 0)
	{
		for (i = 0; i < farm->port_count; i++)
			fault_clear(farm->ports[i], ANY_UNIT, NULL, error);
		return true;
	}
	port = command_port(farm, tokens, count, error);
	if (port == NULL)
		return false;
	at = command_unit(port, tokens, count, &unit);
	return fault_clear(port, unit, at < count ? tokens[at] : NULL, error);
}

/* Says what a gateway that dials has done. */
static void
command_say_dial(const SmDial *dial, SmAnswer *answer)
{
	command_say(answer, " calls=%lld registrations=%lld heartbeats=%lld heartbeat_answers=%lld",
				(long long) dial->calls, (long long) dial->registrations,
				(long long) dial->heartbeats, (long long) dial->heartbeat_answers);
}

/* log PORT [KEY] */
static bool
command_log(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);
	int64_t at;

	if (port == NULL)
		return false;
	command_say(answer, "requests=%lld reads=%lld writes=%lld answers=%lld overlaps=%lld",
				(long long) port->requests, (long long) port->reads, (long long) port->writes,
				(long long) port->answers, (long long) port->overlaps);
	command_say(answer, " malformed=%lld connections=%d connections_seen=%lld connections_most=%d",
				(long long) port->malformed, port->connection_count,
				(long long) port->connections_seen, port->connections_most);
	command_say(answer, " up=%s now_ms=%lld wire_us=%lld", net_is_up(port) ? "yes" : "no",
				(long long) ((farm_mono_ns() - farm->mono_start_ns) / NS_PER_MS),
				(long long) (port->wire_ns / 1000));
	if (port->dial != NULL)
		command_say_dial(port->dial, answer);
	if (count > 2)
		return command_pick(answer, tokens[2], error);
	at = port->writes > WRITES_KEPT ? port->writes - WRITES_KEPT : 0;
	for (; at < port->writes; at++)
		command_say(answer, " write=%s", port->writes_seen[at % WRITES_KEPT].text);
	return true;
}

/* speed [N] */
static bool
command_speed(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	int64_t speed_milli;

	if (count > 1)
	{
		if (!farm_parse_speed(tokens[1], &speed_milli))
			return farm_fail(error, "speed wants a number from 0 to %d", SPEED_MOST);
		farm_set_speed(farm, speed_milli);
	}
	command_say(answer, "speed_milli=%lld", (long long) farm->speed_milli);
	return true;
}

/* advance SECONDS */
static bool
command_advance(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	int64_t seconds;

	if (count != 2 || !parse_integer(tokens[1], 0, ADVANCE_MOST_S, &seconds))
		return farm_fail(error, "advance wants whole seconds");
	farm_advance(farm, seconds * NS_PER_S);
	command_say(answer, "sim_s=%lld", (long long) (farm_sim_now(farm) / NS_PER_S));
	return true;
}

/* time */
static bool
command_time(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	(void) tokens;
	(void) count;
	(void) error;
	command_say(answer, "now_ms=%lld sim_ms=%lld speed_milli=%lld",
				(long long) ((farm_mono_ns() - farm->mono_start_ns) / NS_PER_MS),
				(long long) (farm_sim_now(farm) / NS_PER_MS), (long long) farm->speed_milli);
	return true;
}

/* down PORT */
static bool
command_down(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);

	(void) answer;
	if (port != NULL)
		net_down(port);
	return port != NULL;
}

/* up PORT */
static bool
command_up(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);

	(void) answer;
	return port != NULL && net_open(port, error);
}

/* list */
static bool
command_list(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	int i;

	(void) tokens;
	(void) count;
	(void) error;
	command_say(answer, "ports=%d meters=%d", farm->port_count, farm->meter_count);
	for (i = 0; i < farm->port_count; i++)
	{
		const SmPort *port = farm->ports[i];

		if (port->door == DOOR_LISTEN)
			command_say(answer, " %s=%d", port->name, port->number);
		else
			command_say(answer, " %s=%s", port->name, port->door == DOOR_PTY ? port->path : "dial");
	}
	return true;
}

/* reconnect PORT [hang] */
static bool
command_reconnect(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmPort *port = command_port(farm, tokens, count, error);
	bool hang = count > 2 && strcmp(tokens[2], "hang") == 0;

	(void) answer;
	if (port == NULL)
		return false;
	if (port->door != DOOR_DIAL || !port->wanted)
		return farm_fail(error, "port %s does not dial", port->name);
	dial_again(port, hang);
	return true;
}

/* key PORT ADDRESS */
static bool
command_key(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	SmMeter *meter = command_meter(farm, tokens, count, error);

	(void) answer;
	if (meter == NULL)
		return false;
	return dlt_press_key(meter) || farm_fail(error, "the key does nothing now");
}

/* quit */
static bool
command_quit(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	(void) tokens;
	(void) count;
	(void) answer;
	(void) error;
	farm->stopping = true;
	return true;
}

typedef struct SmCommand
{
	const char *name;
	SmCommandFunction run;
} SmCommand;

static const SmCommand commands[] = {
	{"advance", command_advance},     {"clear", command_clear}, {"down", command_down},
	{"fault", command_fault},         {"get", command_get},     {"key", command_key},
	{"list", command_list},           {"log", command_log},     {"quit", command_quit},
	{"reconnect", command_reconnect}, {"set", command_set},     {"speed", command_speed},
	{"time", command_time},           {"up", command_up},
};

/* Does what a command says; error says why not. */
static bool
command_dispatch(SmFarm *farm, char **tokens, int count, SmAnswer *answer, SmError *error)
{
	size_t i;

	if (count < 1)
		return farm_fail(error, "expected a command");
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, tokens[0]) == 0)
			return commands[i].run(farm, tokens, count, answer, error);
	return farm_fail(error, "no such command as \"%.60s\"", tokens[0]);
}

/* Runs one line and writes its answer, without the line's end. */
void
command_run(SmFarm *farm, char *line, SmAnswer *answer)
{
	char *tokens[TOKENS_MAX];
	SmError error = {{0}};
	int count = parse_tokens(line, tokens, TOKENS_MAX);
	bool good = command_dispatch(farm, tokens, count, answer, &error);
	const char *verdict = good ? "ok" : "error";
	size_t prefix = strlen(verdict);

	if (!good)
	{
		answer->length = 0;
		command_say(answer, "%s", error.text);
	}
	if (answer->length > sizeof(answer->text) - prefix - 3)
		answer->length = sizeof(answer->text) - prefix - 3;
	memmove(answer->text + prefix + 1, answer->text, answer->length);
	memcpy(answer->text, verdict, prefix);
	answer->text[prefix] = ' ';
	answer->length += prefix + (answer->length > 0 ? 1 : 0);
	answer->text[answer->length] = '\0';
}
