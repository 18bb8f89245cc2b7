/*
 * cabinet.c - commands for a person at a meter cabinet: the command line, and what they share
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cabinet.h"
#include "decode.h"

/* Which commands know an option. */
enum
{
	FOR_READ = 1,
	FOR_WATCH = 2,
	FOR_SCAN = 4,
	FOR_CHECK = 8,
	FOR_SWITCH = 16,
	FOR_MODELS = 32,
	FOR_BUS = FOR_READ | FOR_WATCH | FOR_SCAN | FOR_CHECK | FOR_SWITCH
};

static const struct
{
	const char *name;
	int mask;
	int words; /* behind the options, at most */
	int (*run)(const SmCabinet *cabinet);
} cabinet_commands[] = {
	{"read", FOR_READ, 0, cabinet_read},       {"watch", FOR_WATCH, 0, cabinet_watch},
	{"scan", FOR_SCAN, 0, cabinet_scan},       {"check-model", FOR_CHECK, 0, cabinet_check},
	{"switch", FOR_SWITCH, 1, cabinet_switch}, {"models", FOR_MODELS, 1, NULL},
};

/* An option: its text or its number, within limits. */
typedef struct SmCabinetOption
{
	const char *name;
	int mask;
	size_t text;   /* where its text goes, or 0 */
	size_t number; /* where its number goes, or 0 */
	size_t flag;   /* where it is noted, or 0 */
	int64_t low;
	int64_t high;
} SmCabinetOption;

#define AT(member) offsetof(SmCabinet, member)

static const SmCabinetOption cabinet_options[] = {
	{"address", FOR_BUS, AT(address), 0, 0, 0, 0},
	{"wire", FOR_BUS, AT(wire), 0, 0, 0, 0},
	{"dial-in", FOR_READ | FOR_SCAN | FOR_CHECK | FOR_SWITCH, 0, 0, AT(dial_in), 0, 0},
	{"unit", FOR_READ | FOR_WATCH | FOR_CHECK | FOR_SWITCH, AT(unit), 0, 0, 0, 0},
	{"model", FOR_READ | FOR_WATCH | FOR_CHECK | FOR_SWITCH, AT(model), 0, 0, 0, 0},
	{"models", FOR_BUS | FOR_MODELS, AT(models_file), 0, 0, 0, 0},
	{"timeout-ms", FOR_BUS, 0, AT(timeout_ms), 0, 10, 120000},
	{"frames", FOR_READ | FOR_SCAN | FOR_CHECK | FOR_SWITCH, 0, 0, AT(frames), 0, 0},
	{"function", FOR_READ, 0, AT(function), 0, 1, 4},
	{"register", FOR_READ, 0, AT(first), 0, 0, 65535},
	{"count", FOR_READ | FOR_WATCH, 0, AT(count), 0, 1, MBAP_READ_MAX},
	{"di", FOR_READ, AT(di), 0, 0, 0, 0},
	{"libmodbus", FOR_READ, 0, 0, AT(libmodbus), 0, 0},
	{"listen", FOR_WATCH, AT(listen), 0, 0, 0, 0},
	{"every", FOR_WATCH, 0, AT(every_s), 0, 1, 3600},
	{"from", FOR_SCAN, 0, AT(low), 0, 0, 255},
	{"to", FOR_SCAN, 0, AT(high), 0, 0, 255},
	{"thorough", FOR_SCAN, 0, 0, AT(thorough), 0, 0},
	{"password-file", FOR_SWITCH, AT(password_file), 0, 0, 0, 0},
	{"level", FOR_SWITCH, 0, AT(level), 0, 0, 99},
	{"operator", FOR_SWITCH, AT(operator_code), 0, 0, 0, 0},
	{"text", FOR_MODELS, 0, 0, AT(text), 0, 0},
};

#define CABINET_OPTIONS (sizeof(cabinet_options) / sizeof(cabinet_options[0]))
#define CABINET_COMMANDS (sizeof(cabinet_commands) / sizeof(cabinet_commands[0]))

/* Whether the command line begins with a command for the cabinet. */
bool
cabinet_wants(int count, char **arguments)
{
	size_t i;

	for (i = 0; i < CABINET_COMMANDS && count > 1; i++)
	{
		if (strcmp(arguments[1], cabinet_commands[i].name) == 0)
			return true;
	}
	return count > 1 && strcmp(arguments[1], "decode") == 0;
}

/* Says what is wrong with the command line; the exit status. */
int
cabinet_usage(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "submeter-poller: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nTry \"submeter-poller --help\".\n");
	return CABINET_USAGE;
}

void
cabinet_say(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fprintf(stderr, "submeter-poller: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

/* Connects to the bus; says why when that fails. */
bool
cabinet_open(const SmCabinet *cabinet, SmProtocol protocol, SmPort *port)
{
	const char *wire = cabinet->wire;

	if (wire == NULL && protocol != PROTOCOL_MODBUS)
		wire = "dlt645";
	if (wire == NULL)
		wire = cabinet->address[0] == '/' ? "rtu" : "modbus-tcp";
	port->frames = cabinet->frames;
	port->dial_in = cabinet->dial_in;
	if (port_open(port, cabinet->address, wire, (int) cabinet->timeout_ms))
	{
		if (wire_carries(port->wire.kind, protocol))
			return true;
		snprintf(port->why, sizeof(port->why), "this model does not speak on this wire");
	}
	cabinet_say("%s: %s", cabinet->address, port->why);
	return false;
}

/* The built-in models and those of --models; false when the file is no good. */
static bool
cabinet_load_models(const SmCabinet *cabinet, SmCatalogue *catalogue)
{
	char why[160];

	if (!catalogue_read(catalogue, catalogue_built_in, false, why, sizeof(why)))
	{
		cabinet_say("built-in models: %s", why);
		return false;
	}
	if (cabinet->models_file != NULL &&
		!catalogue_read_file(catalogue, cabinet->models_file, why, sizeof(why)))
	{
		cabinet_say("%s: %s", cabinet->models_file, why);
		return false;
	}
	return true;
}

/* The model of --model; NULL, and said why, when there is none. */
const SmCabinetModel *
cabinet_find_model(const SmCabinet *cabinet, SmCatalogue *catalogue)
{
	const SmCabinetModel *found;

	if (!cabinet_load_models(cabinet, catalogue))
		return NULL;
	if (cabinet->model == NULL)
	{
		if (cabinet->models_file != NULL)
			return &catalogue->models[catalogue->count - 1];
		cabinet_usage("%s needs --model", cabinet->command);
		return NULL;
	}
	found = catalogue_find(catalogue, cabinet->model);
	if (found == NULL)
		cabinet_usage("there is no model \"%s\"; \"submeter-poller models\" lists them",
					  cabinet->model);
	return found;
}

/* The meter of --unit; false, and said why, when it is none. */
bool
cabinet_target(const SmCabinet *cabinet, SmProtocol protocol, SmTarget *target)
{
	if (cabinet->unit != NULL && wire_parse_target(protocol, cabinet->unit, target))
		return true;
	cabinet_usage(protocol == PROTOCOL_MODBUS ? "--unit is not 0 to 255"
											  : "--unit is no address of up to 12 digits");
	return false;
}

/* models: lists them, or prints one or all as text. */
static int
cabinet_models(const SmCabinet *cabinet)
{
	static const char *const protocols[] = {"modbus", "dlt645-2007", "dlt645-1997"};
	SmCatalogue catalogue = {0};
	int status = CABINET_GOOD;
	int i;

	if (cabinet->text)
	{
		fputs(catalogue_built_in, stdout);
		return CABINET_GOOD;
	}
	if (!cabinet_load_models(cabinet, &catalogue))
		status = CABINET_BAD;
	for (i = 0; i < catalogue.count && status == CABINET_GOOD; i++)
	{
		const SmCabinetModel *own = &catalogue.models[i];

		if (catalogue_find(&catalogue, own->model.name) != own)
			continue;
		if (cabinet->word_count == 0)
			printf("%-32s %-14s %-11s %d phase%s %2d points%s%s\n", own->model.name, own->vendor,
				   protocols[own->model.protocol], own->phases, own->phases == 1 ? " " : "s",
				   own->model.point_count,
				   own->model.switches[SWITCH_OPEN].known ? ", switches" : "",
				   own->own ? ", own" : "");
		else if (strcasecmp(cabinet->words[0], own->model.name) == 0)
			break;
	}
	if (status == CABINET_GOOD && cabinet->word_count > 0)
	{
		if (i == catalogue.count)
			status = cabinet_usage("there is no model \"%s\"", cabinet->words[0]);
		else
			printf("%s\n%s\n%s\n", catalogue.models[i].model.name, catalogue.models[i].vendor,
				   catalogue.models[i].note != NULL ? catalogue.models[i].note : "");
	}
	catalogue_free(&catalogue);
	return status;
}

/* Takes one option; false, and said why, when it is not right. */
static bool
cabinet_take(SmCabinet *cabinet, const SmCabinetOption *option, int mask, char *text)
{
	char *base = (char *) cabinet;

	if ((option->mask & mask) == 0)
		cabinet_usage("%s does not know --%s", cabinet->command, option->name);
	else if (option->flag != 0)
		return *(bool *) (base + option->flag) = true;
	else if (option->text != 0)
		return *(const char **) (base + option->text) = text, true;
	else if (base_parse_int(text, option->low, option->high, (int64_t *) (base + option->number)))
		return true;
	else
		cabinet_usage("--%s is not %lld to %lld", option->name, (long long) option->low,
					  (long long) option->high);
	return false;
}

static bool
cabinet_parse(SmCabinet *cabinet, int mask, int count, char **arguments)
{
	struct option known[CABINET_OPTIONS + 1] = {{0}};
	int option;
	size_t i;

	for (i = 0; i < CABINET_OPTIONS; i++)
	{
		known[i].name = cabinet_options[i].name;
		known[i].has_arg = cabinet_options[i].flag != 0 ? no_argument : required_argument;
		known[i].val = 256 + (int) i;
	}
	optind = 1;
	while ((option = getopt_long(count, arguments, "", known, NULL)) != -1)
	{
		if (option < 256)
			return cabinet_usage("an option is not understood"), false;
		if (!cabinet_take(cabinet, &cabinet_options[option - 256], mask, optarg))
			return false;
	}
	cabinet->words = arguments + optind;
	cabinet->word_count = count - optind;
	return true;
}

/* Runs a command of this room; returns the exit status. */
int
cabinet_main(int count, char **arguments)
{
	SmCabinet cabinet = {.command = arguments[1],
						 .function = 3,
						 .first = -1,
						 .count = 1,
						 .low = 1,
						 .high = 247,
						 .level = 2,
						 .operator_code = "00000000",
						 .every_s = 1};
	size_t i;

	if (strcmp(arguments[1], "decode") == 0)
		return decode_main(count, arguments);
	for (i = 0; strcmp(arguments[1], cabinet_commands[i].name) != 0; i++)
		;
	if (!cabinet_parse(&cabinet, cabinet_commands[i].mask, count - 1, arguments + 1))
		return CABINET_USAGE;
	if (cabinet.word_count > cabinet_commands[i].words)
		return cabinet_usage("\"%s\" is not understood", cabinet.words[cabinet_commands[i].words]);
	if (cabinet_commands[i].run == NULL)
		return cabinet_models(&cabinet);
	if (cabinet.address == NULL)
		return cabinet_usage("%s needs --address", cabinet.command);
	return cabinet_commands[i].run(&cabinet);
}
