/*
 * cabinet_model.c - meter models out of their text form
 *
 * The same words as model_lines() and store_models() of the database know; what they would refuse
 * is refused here, with the number of the line.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cabinet_model.h"

#define CATALOGUE_WORDS 12
#define CATALOGUE_FILE_MAX (1 << 20)
#define CATALOGUE_MODEL_MAX 4000

/* A line in words; options are words with "=". */
typedef struct SmModelLine
{
	char *words[CATALOGUE_WORDS];
	int count; /* of words without "=" */
	char *options[CATALOGUE_WORDS];
	int option_count;
} SmModelLine;

const char catalogue_built_in[] =
#include "catalogue.inc"
	;

/* Cuts off a comment and squeezes blanks; text is changed. */
static char *
model_squeeze(char *text)
{
	char *out = text;
	char *in;

	for (in = text; *in != '\0'; in++)
	{
		bool blank = isspace((unsigned char) *in) != 0;

		if (*in == '#' && (out == text || out[-1] == ' '))
			break;
		if (!blank)
			*out++ = *in;
		else if (out > text && out[-1] != ' ')
			*out++ = ' ';
	}
	if (out > text && out[-1] == ' ')
		out--;
	*out = '\0';
	return text;
}

static bool
model_split(char *text, SmModelLine *line)
{
	char *rest = NULL;
	char *word;

	memset(line, 0, sizeof(*line));
	for (word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
	{
		if (strchr(word, '=') != NULL && line->option_count < CATALOGUE_WORDS)
			line->options[line->option_count++] = word;
		else if (strchr(word, '=') == NULL && line->count < CATALOGUE_WORDS)
			line->words[line->count++] = word;
		else
			return false;
	}
	return true;
}

/* The value of an option; NULL when it is not there. */
static const char *
model_option(const SmModelLine *line, const char *name)
{
	size_t length = strlen(name);
	int i;

	for (i = 0; i < line->option_count; i++)
	{
		if (strncmp(line->options[i], name, length) == 0 && line->options[i][length] == '=')
			return line->options[i] + length + 1;
	}
	return NULL;
}

/* Whether all options are among these, which are separated by blanks. */
static bool
model_knows(const SmModelLine *line, const char *names)
{
	int i;

	for (i = 0; i < line->option_count; i++)
	{
		size_t length = strcspn(line->options[i], "=");
		const char *found;

		for (found = names; *found != '\0'; found += strcspn(found, " "), found += *found == ' ')
		{
			if (strcspn(found, " ") == length && strncmp(found, line->options[i], length) == 0)
				break;
		}
		if (*found == '\0')
			return false;
	}
	return true;
}

/* A number of an option, or what it is without one; false when it is beyond its limits. */
static bool
model_number(const SmModelLine *line, const char *name, int64_t low, int64_t high, int64_t *value)
{
	const char *text = model_option(line, name);

	return text == NULL || base_parse_int(text, low, high, value);
}

/* read PROTOCOL phases=N max=N gap=N pause=MS */
static const char *
model_take_read(SmCabinetModel *own, const SmModelLine *line)
{
	int64_t phases = 1;
	int64_t most = MBAP_READ_MAX;
	int64_t gap = 16;
	int64_t pause = 0;

	if (line->count != 1 || !wire_find_protocol(line->words[0], &own->model.protocol) ||
		!model_knows(line, "phases max gap pause"))
		return "read wants modbus, dlt645-2007 or dlt645-1997, and phases, max, gap or pause";
	if (!model_number(line, "phases", 1, 3, &phases) || phases == 2 ||
		!model_number(line, "max", 1, MBAP_READ_MAX, &most) ||
		!model_number(line, "gap", 0, MBAP_READ_MAX - 1, &gap) ||
		!model_number(line, "pause", 0, 10000, &pause))
		return "phases, max, gap or pause is out of its limits";
	own->phases = (int) phases;
	own->model.max_registers = (int) most;
	own->model.max_gap = (int) gap;
	own->model.turnaround_ms = (int) pause;
	return NULL;
}

/* FUNCTION:ADDRESS */
static bool
model_register(const char *text, int64_t low, int64_t high, int *function, int *address)
{
	char digits[8];
	size_t length = strcspn(text, ":");
	int64_t number;

	if (text[length] == '\0' || length >= sizeof(digits))
		return false;
	memcpy(digits, text, length);
	digits[length] = '\0';
	if (!base_parse_int(digits, low, high, &number))
		return false;
	*function = (int) number;
	if (!base_parse_int(text + length + 1, 0, 65535, &number))
		return false;
	*address = (int) number;
	return true;
}

/* DI TYPEBYTES, and block=DI+OFFSET */
static const char *
model_item(SmProtocol protocol, const SmModelLine *line, SmPoint *point, char *type)
{
	const char *block = model_option(line, "block");
	size_t length = strlen(type);
	int64_t offset;
	char di[16];

	if (!dlt645_parse_di(protocol, line->words[1], &point->di))
		return "the identifier is none of its protocol";
	if (length < 2 || type[length - 1] < '1' || type[length - 1] > '8')
		return "the type has no length in bytes, as bcd4";
	point->bytes = type[length - 1] - '0';
	type[length - 1] = '\0';
	if (block == NULL)
		return NULL;
	length = strcspn(block, "+");
	if (length >= sizeof(di) || block[length] == '\0' ||
		!base_parse_int(block + length + 1, 0, DLT645_DATA_MAX - 1, &offset))
		return "block is not identifier+offset";
	memcpy(di, block, length);
	di[length] = '\0';
	if (!dlt645_parse_di(protocol, di, &point->block_di))
		return "the identifier of the block is none of its protocol";
	point->in_block = true;
	point->block_offset = (int) offset;
	return NULL;
}

/* Takes an option MASK:VALUE, which may be left out; false when it is something else. */
static bool
model_masked(const SmModelLine *line, const char *name, int64_t *mask, int64_t *value)
{
	const char *text = model_option(line, name);
	int left = 0;
	int right = 0;

	if (text != NULL && !model_register(text, 0, 65535, &left, &right))
		return false;
	*mask = left;
	*value = right;
	return true;
}

/* point METRIC WHERE TYPE SCALE block= mask= closed= open= */
static const char *
model_take_point(SmCabinetModel *own, const SmModelLine *line)
{
	SmModel *model = &own->model;
	SmPoint point = {0};
	const char *why = NULL;
	char type[16];
	int i;

	if (line->count != 4 || !model_knows(line, "block mask closed open lock keep"))
		return "point wants metric, place, type and scale, and block, mask, closed or open";
	if (!point_find_metric(line->words[0], &point.metric))
		return "this metric is not known";
	for (i = 0; i < model->point_count; i++)
	{
		if (model->points[i].metric == point.metric)
			return "this metric is there already";
	}
	snprintf(type, sizeof(type), "%s", line->words[2]);
	if (model->protocol != PROTOCOL_MODBUS)
		why = model_item(model->protocol, line, &point, type);
	else if (!model_register(line->words[1], 1, 4, &point.function, &point.address))
		why = "the place is not function:register";
	if (why != NULL)
		return why;
	if (!point_find_type(type, &point.type))
		return "this type is not known";
	if (!point_parse_scale(line->words[3], &point.scale))
		return "scale is not a decimal of at most 12 digits";
	point.bit_mask = 65535;
	if (!model_number(line, "mask", 0, 65535, &point.bit_mask) ||
		!model_number(line, "closed", 0, 65535, &point.closed_value) ||
		!model_number(line, "open", 0, 65535, &point.open_value))
		return "mask, closed or open is not 0 to 65535";
	if (!model_masked(line, "lock", &point.lock_mask, &point.lock_value) ||
		!model_masked(line, "keep", &point.keep_mask, &point.keep_value))
		return "lock or keep is not mask:value";
	if ((why = point_check(&point)) != NULL)
		return why;
	model->points = base_resize(model->points, (size_t) (model->point_count + 1) * sizeof(SmPoint));
	model->points[model->point_count++] = point;
	return NULL;
}

/* Values written, with commas; their number, or 0. */
static int
model_values(char *text, uint16_t *words)
{
	char *rest = NULL;
	char *value;
	int64_t number;
	int count = 0;

	for (value = strtok_r(text, ",", &rest); value != NULL; value = strtok_r(NULL, ",", &rest))
	{
		if (count == PLAN_SWITCH_MOST || !base_parse_int(value, 0, 65535, &number))
			return 0;
		words[count++] = (uint16_t) number;
	}
	return count;
}

/* Where a switch instruction writes; false when its protocol has no such place. */
static bool
model_switch_place(SmProtocol protocol, const char *place, SmSwitch *action)
{
	const char *colon = strchr(place, ':');

	if (protocol == PROTOCOL_MODBUS)
		return model_register(place, 5, 16, &action->function, &action->address) &&
			   (action->function == 5 || action->function == 6 || action->function == 16);
	if (strcmp(place, "28") == 0)
	{
		action->function = DLT645_SWITCH;
		return protocol == PROTOCOL_DLT645_2007 && action->count == 1;
	}
	if (colon == NULL || !dlt645_parse_di(protocol, colon + 1, &action->di))
		return false;
	if (protocol == PROTOCOL_DLT645_2007)
		action->function = strncmp(place, "20:", 3) == 0 ? DLT645_WRITE_2007 : 0;
	else
		action->function = strncmp(place, "4:", 2) == 0 ? DLT645_WRITE_1997 : 0;
	return action->function != 0;
}

/* switch ACTION WHERE VALUES settle= valid= */
static const char *
model_take_switch(SmCabinetModel *own, const SmModelLine *line)
{
	static const char *const names[SWITCH_ACTIONS] = {"open", "close", "permit_close", "keep",
													  "release"};
	SmSwitch action = {.known = true};
	int64_t settle = 3000;
	int64_t valid = 300;
	int i;

	if (line->count != 3 || !model_knows(line, "settle valid"))
		return "switch wants action, place and values, and settle or valid";
	for (i = 0; i < SWITCH_ACTIONS && strcmp(line->words[0], names[i]) != 0; i++)
		;
	if (i == SWITCH_ACTIONS)
		return "this action is not known";
	if (own->model.switches[i].known)
		return "this action is there already";
	if ((action.count = model_values(line->words[2], action.words)) == 0)
		return "the values are not 1 to 8 numbers of 0 to 65535";
	if (!model_switch_place(own->model.protocol, line->words[1], &action))
		return "its protocol does not write there";
	if (!model_number(line, "settle", 0, 60000, &settle) ||
		!model_number(line, "valid", 10, 86400, &valid))
		return "settle or valid is out of its limits";
	action.settle_ms = (int) settle;
	action.valid_s = (int) valid;
	own->model.switches[i] = action;
	return NULL;
}

static void
model_take_text(char **text, const char *rest)
{
	SmText joined = {0};

	if (*text != NULL)
		text_printf(&joined, "%s ", *text);
	text_add(&joined, rest);
	free(*text);
	*text = joined.data;
}

/* A line of a model behind its first word; what is wrong with it, or NULL. */
static const char *
model_take(SmCabinetModel *own, const char *word, char *rest)
{
	SmModelLine line;
	bool ready = own->model.max_registers > 0;

	if (strcmp(word, "vendor") == 0)
		return own->vendor == NULL ? (own->vendor = base_copy(rest), NULL)
								   : "the vendor is there already";
	if (strcmp(word, "note") == 0)
		return model_take_text(&own->note, rest), NULL;
	if (strcmp(word, "source") == 0)
		return NULL;
	if (!model_split(rest, &line))
		return "too many words";
	if (strcmp(word, "read") == 0)
		return ready ? "it is said already how it is read" : model_take_read(own, &line);
	if (!ready)
		return "first comes \"read\"";
	if (strcmp(word, "clock") == 0 || strcmp(word, "history") == 0)
		return NULL; /* for the poller alone */
	if (strcmp(word, "point") == 0)
		return model_take_point(own, &line);
	if (strcmp(word, "switch") == 0)
		return model_take_switch(own, &line);
	return "no word of a model";
}

/* Puts the points in order and makes the questions of a model that is complete. */
static const char *
model_finish(SmCabinetModel *own)
{
	SmModel *model = &own->model;

	if (own->vendor == NULL || model->max_registers == 0 || model->point_count == 0)
		return "the model has no vendor, no \"read\" or no point";
	coalesce_sort(model->points, model->point_count);
	model->blocks = base_alloc((size_t) model->point_count * sizeof(SmBlock));
	model->block_count = coalesce_blocks(model->points, model->point_count, model->max_registers,
										 model->max_gap, model->blocks);
	return NULL;
}

/* One line, with its end cut off; what is wrong with it, or NULL. */
static const char *
catalogue_take_line(SmCatalogue *catalogue, char *text, bool own, bool *begun)
{
	const char *why = NULL;
	char *rest;

	if (*model_squeeze(text) == '\0')
		return NULL;
	rest = text + strcspn(text, " ");
	if (*rest == '\0')
		return "it says nothing";
	*rest++ = '\0';
	if (strcmp(text, "model") != 0)
		return *begun ? model_take(&catalogue->models[catalogue->count - 1], text, rest)
					  : "it belongs to no model";
	if (*begun)
		why = model_finish(&catalogue->models[catalogue->count - 1]);
	if (why != NULL || catalogue->count == CATALOGUE_MODEL_MAX)
		return why != NULL ? "the model above is not complete" : "too many models";
	catalogue->models =
		base_resize(catalogue->models, (size_t) (catalogue->count + 1) * sizeof(SmCabinetModel));
	memset(&catalogue->models[catalogue->count], 0, sizeof(SmCabinetModel));
	catalogue->models[catalogue->count].model.name = base_copy(rest);
	catalogue->models[catalogue->count++].own = own;
	*begun = true;
	return NULL;
}

/* Adds the models of a text; false, and why, when a line is wrong. */
bool
catalogue_read(SmCatalogue *catalogue, const char *text, bool own, char *why, size_t size)
{
	char *copy = base_copy(text);
	char *line = copy;
	const char *wrong = NULL;
	bool begun = false;
	int number = 0;

	while (line != NULL && wrong == NULL)
	{
		char *next = strchr(line, '\n');

		if (next != NULL)
			*next++ = '\0';
		number++;
		wrong = catalogue_take_line(catalogue, line, own, &begun);
		line = next;
	}
	if (wrong == NULL && begun)
		wrong = model_finish(&catalogue->models[catalogue->count - 1]);
	if (wrong == NULL && !begun)
		wrong = "there is no model in it";
	free(copy);
	if (wrong != NULL)
		snprintf(why, size, "line %d: %s", number, wrong);
	return wrong == NULL;
}

/* Adds the models of a file, or of the standard input ("-"). */
bool
catalogue_read_file(SmCatalogue *catalogue, const char *path, char *why, size_t size)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	char *text = base_alloc(CATALOGUE_FILE_MAX + 1);
	size_t length = file != NULL ? fread(text, 1, CATALOGUE_FILE_MAX, file) : 0;
	bool good = file != NULL && ferror(file) == 0 && feof(file) != 0;

	if (file != NULL && file != stdin)
		fclose(file);
	text[length] = '\0';
	if (!good)
		snprintf(why, size, "%s",
				 file == NULL ? "the file cannot be opened"
							  : "the file cannot be read, or is too long");
	else if (strlen(text) != length)
		snprintf(why, size, "this is no text");
	else
		good = catalogue_read(catalogue, text, true, why, size);
	free(text);
	return good;
}

/* The model of a name, the one read last; NULL when there is none. */
const SmCabinetModel *
catalogue_find(const SmCatalogue *catalogue, const char *name)
{
	int i;

	for (i = catalogue->count - 1; i >= 0; i--)
	{
		if (strcasecmp(catalogue->models[i].model.name, name) == 0)
			return &catalogue->models[i];
	}
	return NULL;
}

void
catalogue_free(SmCatalogue *catalogue)
{
	int i;

	for (i = 0; i < catalogue->count; i++)
	{
		free(catalogue->models[i].model.name);
		free(catalogue->models[i].model.points);
		free(catalogue->models[i].model.blocks);
		free(catalogue->models[i].vendor);
		free(catalogue->models[i].note);
	}
	free(catalogue->models);
	memset(catalogue, 0, sizeof(*catalogue));
}
