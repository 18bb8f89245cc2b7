/*
 * model.c - register maps, read from models.conf
 *
 * A model is data: the farm knows quantities (energy, voltage, the relay), the file says where each
 * meter shows them. Models live as long as the farm; model_free releases them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "encode.h"
#include "model.h"
#include "parse.h"

#define TOKENS_MAX 16
#define POWER_FACTOR_BASE 10000

typedef struct SmNamed
{
	const char *name;
	int64_t value;
} SmNamed;

static const SmNamed quantity_names[] = {
	{"import_active_energy", QUANTITY_IMPORT_ENERGY},
	{"export_active_energy", QUANTITY_EXPORT_ENERGY},
	{"total_active_energy", QUANTITY_TOTAL_ENERGY},
	{"active_energy", QUANTITY_TOTAL_ENERGY},
	{"import_reactive_energy", QUANTITY_IMPORT_REACTIVE},
	{"export_reactive_energy", QUANTITY_EXPORT_REACTIVE},
	{"total_reactive_energy", QUANTITY_TOTAL_REACTIVE},
	{"voltage", QUANTITY_VOLTAGE},
	{"voltage_ln_avg", QUANTITY_VOLTAGE},
	{"current", QUANTITY_CURRENT},
	{"current_avg", QUANTITY_CURRENT},
	{"active_power", QUANTITY_POWER},
	{"import_active_power", QUANTITY_POWER},
	{"export_active_power", QUANTITY_EXPORT_POWER},
	{"reactive_power", QUANTITY_REACTIVE_POWER},
	{"apparent_power", QUANTITY_APPARENT_POWER},
	{"power_factor", QUANTITY_POWER_FACTOR},
	{"frequency", QUANTITY_FREQUENCY},
	{"leakage_current", QUANTITY_LEAKAGE},
	{"temperature_a", QUANTITY_TEMPERATURE},
	{"temperature_n", QUANTITY_TEMPERATURE},
	{"phase_angle", QUANTITY_PHASE_ANGLE},
	{"thd_voltage", QUANTITY_DISTORTION},
	{"relay", QUANTITY_RELAY},
	{"ct_ratio", QUANTITY_CT_RATIO},
	{"clock_year_month", QUANTITY_CLOCK_YEAR_MONTH},
	{"clock_day_hour", QUANTITY_CLOCK_DAY_HOUR},
	{"clock_minute_second", QUANTITY_CLOCK_MINUTE_SECOND},
	{"address", QUANTITY_ADDRESS},
	{"address_and_baud", QUANTITY_ADDRESS_AND_BAUD},
	{"word", QUANTITY_WORD},
	{NULL, 0},
};

/* How many of the farm's units (mWh, mV, ...) one unit of the file is. */
static const SmNamed unit_names[] = {
	{"kWh", 1000000}, {"Wh", 1000},      {"kvarh", 1000000}, {"V", 1000},  {"A", 1000},
	{"mA", 1},        {"W", 1000},       {"kW", 1000000},    {"VA", 1000}, {"kVA", 1000000},
	{"var", 1000},    {"kvar", 1000000}, {"Hz", 1000},       {"C", 1000},  {"deg", 1000},
	{"%", 1000},      {"-", 1},          {NULL, 0},
};

/* Looks a name up; false when it is not in the list. */
static bool
model_lookup(const SmNamed *names, const char *name, int64_t *value)
{
	for (; names->name != NULL; names++)
	{
		if (strcmp(names->name, name) != 0)
			continue;
		*value = names->value;
		return true;
	}
	return false;
}

/*
 * Takes the phase (_l2) and the tariff slot (_t3_flat) off a quantity's name and looks the rest up.
 * The farm's meters have no tariff table of their own: one slot, flat or the first, counts all.
 */
static bool
model_parse_quantity(const char *text, SmRegister *reg)
{
	char name[NAME_SIZE];
	char *mark;
	int64_t quantity;

	if (strlen(text) >= sizeof(name))
		return false;
	strcpy(name, text);
	mark = strstr(name, "_t");
	while (mark != NULL && (mark[2] < '1' || mark[2] > '9'))
		mark = strstr(mark + 1, "_t");
	if (mark != NULL)
	{
		reg->slot_idle = mark[3] == '\0' ? mark[2] != '1' : strcmp(mark + 3, "_flat") != 0;
		*mark = '\0';
	}
	mark = strstr(name, "_l");
	if (mark != NULL && mark[2] >= '1' && mark[2] <= '3' && mark[3] == '\0')
	{
		reg->phase = mark[2] - '0';
		*mark = '\0';
	}
	if (!model_lookup(quantity_names, name, &quantity))
		return false;
	reg->quantity = (SmQuantity) quantity;
	return true;
}

/* Reads the key=value tail of a line "reg". */
static bool
model_parse_register_option(SmRegister *reg, char *token)
{
	char *key;
	char *value;
	int64_t number;

	if (!parse_pair(token, &key, &value) || !parse_integer(value, 0, 65535, &number))
		return false;
	if (strcmp(key, "init") == 0)
		reg->word_initial = (uint16_t) number;
	else if (strcmp(key, "open") == 0)
		reg->word_open = (uint16_t) number;
	else if (strcmp(key, "closed") == 0)
		reg->word_closed = (uint16_t) number;
	else if (strcmp(key, "locked") == 0)
		reg->word_locked = (uint16_t) number;
	else
		return false;
	return true;
}

/* Reads "reg FUNCTION ADDRESS TYPE SCALE UNIT QUANTITY [key=value ...]" into the model. */
static bool
model_parse_register(SmModel *model, char **tokens, int count, SmError *error)
{
	SmRegister reg = {0};
	int64_t function;
	int64_t address;
	int64_t base;
	int i;

	if (count < 7 || !parse_integer(tokens[1], 3, 4, &function) ||
		!parse_integer(tokens[2], 0, 65535, &address) || !encode_find(tokens[3], &reg.encoding) ||
		!parse_decimal(tokens[4], &reg.scale_num, &reg.scale_den) ||
		!model_lookup(unit_names, tokens[5], &base) || !model_parse_quantity(tokens[6], &reg))
		return farm_fail(error, "cannot read this register line");
	for (i = 7; i < count; i++)
		if (!model_parse_register_option(&reg, tokens[i]))
			return farm_fail(error, "unknown register option \"%s\"", tokens[i]);
	reg.function = (int) function;
	reg.address = (int) address;
	reg.scale_num *= reg.quantity == QUANTITY_POWER_FACTOR ? POWER_FACTOR_BASE : base;
	if (model->register_count % 16 == 0)
	{
		size_t size = sizeof(SmRegister) * ((size_t) model->register_count + 16);

		model->registers = realloc(model->registers, size);
		if (model->registers == NULL)
			abort();
	}
	model->registers[model->register_count++] = reg;
	return true;
}

/* Reads what follows the kind of a line "write". */
static bool
model_parse_values(SmWritable *writable, char **tokens, int count)
{
	char *key;
	char *value;
	uint16_t *words;
	int got;
	int i;

	for (i = 0; i < count; i++)
	{
		if (!parse_pair(tokens[i], &key, &value))
			return false;
		words = strcmp(key, "open") == 0 || strcmp(key, "values") == 0 ? writable->open
				: strcmp(key, "close") == 0                            ? writable->close
																	   : NULL;
		if (words == NULL || !parse_words(value, words, WRITE_WORDS_KEPT, &got) ||
			got != writable->count)
			return false;
	}
	return count == (writable->kind == WRITE_RELAY ? 2 : writable->kind == WRITE_CLEAR ? 1 : 0);
}

/* Reads "write FUNCTION ADDRESS COUNT relay|clear|store ..." into the model. */
static bool
model_parse_writable(SmModel *model, char **tokens, int count, SmError *error)
{
	static const SmNamed kinds[] = {
		{"relay", WRITE_RELAY}, {"clear", WRITE_CLEAR}, {"store", WRITE_STORE}, {NULL, 0}};
	SmWritable writable = {0};
	int64_t numbers[3];
	int64_t kind;
	size_t size = sizeof(SmWritable) * ((size_t) model->writable_count + 1);

	if (count < 5 || !parse_integer(tokens[1], 5, 16, &numbers[0]) ||
		!parse_integer(tokens[2], 0, 65535, &numbers[1]) ||
		!parse_integer(tokens[3], 1, 123, &numbers[2]) || !model_lookup(kinds, tokens[4], &kind))
		return farm_fail(error, "cannot read this write line");
	writable.function = (int) numbers[0];
	writable.address = (int) numbers[1];
	writable.count = (int) numbers[2];
	writable.kind = (SmWriteKind) kind;
	if (!model_parse_values(&writable, tokens + 5, count - 5))
		return farm_fail(error, "the values of this write line do not fit");
	model->writables = realloc(model->writables, size);
	if (model->writables == NULL)
		abort();
	model->writables[model->writable_count++] = writable;
	return true;
}

/* Reads one key=value of a line "model". */
static bool
model_parse_option(SmModel *model, char *token)
{
	char *key;
	char *value;
	int64_t number;
	int read = 0;

	if (!parse_pair(token, &key, &value))
		return false;
	if (strcmp(key, "holes") == 0)
	{
		model->holes_zero = strcmp(value, "zero") == 0;
		return model->holes_zero || strcmp(value, "refuse") == 0;
	}
	if (strcmp(key, "protocol") == 0)
	{
		model->protocol = strcmp(value, "dlt645-2007") == 0   ? PROTOCOL_DLT_2007
						  : strcmp(value, "dlt645-1997") == 0 ? PROTOCOL_DLT_1997
															  : PROTOCOL_MODBUS;
		return model->protocol != PROTOCOL_MODBUS || strcmp(value, "modbus") == 0;
	}
	if (strcmp(key, "relay") == 0)
		return parse_flag(value, &model->has_relay);
	if (strcmp(key, "also") == 0)
		return sscanf(value, "%d:%d%n", &model->also_like, &model->also_function, &read) == 2 &&
			   value[read] == '\0';
	if (!parse_integer(value, 1, 125, &number))
		return false;
	if (strcmp(key, "phases") == 0)
		model->phases = (int) number;
	else if (strcmp(key, "max") == 0)
		model->registers_max = (int) number;
	else
		return false;
	return model->phases == 1 || model->phases == 3;
}

/* Starts a new model from "model NAME [alias ...] [key=value ...]". */
static SmModel *
model_parse_head(SmFarm *farm, char **tokens, int count, SmError *error)
{
	SmModel *model = farm_alloc(sizeof(SmModel));
	int i;

	model->phases = 1;
	model->registers_max = 125;
	model->next = farm->models;
	farm->models = model;
	for (i = 1; i < count; i++)
	{
		bool good = true;

		if (strchr(tokens[i], '=') != NULL)
			good = model_parse_option(model, tokens[i]);
		else if (model->name_count < 4 && strlen(tokens[i]) < NAME_SIZE)
			strcpy(model->names[model->name_count++], tokens[i]);
		else
			good = false;
		if (!good)
		{
			farm_fail(error, "cannot read \"%s\" of this model line", tokens[i]);
			return NULL;
		}
	}
	if (model->name_count > 0)
		return model;
	farm_fail(error, "a model needs a name");
	return NULL;
}

/* Orders registers by function and address, as a read walks them. */
static int
model_compare(const void *left, const void *right)
{
	const SmRegister *a = left;
	const SmRegister *b = right;

	if (a->function != b->function)
		return a->function < b->function ? -1 : 1;
	return a->address < b->address ? -1 : a->address > b->address;
}

/* Reads one line of the file; current is the model that is being filled. */
static bool
model_parse_line(SmFarm *farm, SmModel **current, char *line, SmError *error)
{
	char *tokens[TOKENS_MAX];
	int count = parse_tokens(line, tokens, TOKENS_MAX);

	if (count == 0)
		return true;
	if (count > 0 && strcmp(tokens[0], "model") == 0)
	{
		*current = model_parse_head(farm, tokens, count, error);
		return *current != NULL;
	}
	if (count > 0 && *current != NULL && strcmp(tokens[0], "reg") == 0)
		return model_parse_register(*current, tokens, count, error);
	if (count > 0 && *current != NULL && strcmp(tokens[0], "write") == 0)
		return model_parse_writable(*current, tokens, count, error);
	return farm_fail(error, "expected model, reg or write");
}

/* Reads the file of register maps. False with the line named in error. */
bool
model_load(SmFarm *farm, const char *path, SmError *error)
{
	FILE *file = fopen(path, "r");
	char line[512];
	SmModel *current = NULL;
	SmError why;
	int number = 0;
	bool good = true;

	if (file == NULL)
		return farm_fail(error, "could not open \"%s\": %s", path, strerror(errno));
	while (good && fgets(line, sizeof(line), file) != NULL)
	{
		number++;
		good = model_parse_line(farm, &current, line, &why);
	}
	fclose(file);
	if (!good)
		return farm_fail(error, "%s line %d: %.150s", path, number, why.text);
	for (current = farm->models; current != NULL; current = current->next)
		if (current->register_count > 0)
			qsort(current->registers, (size_t) current->register_count, sizeof(SmRegister),
				  model_compare);
	return true;
}

/* Finds a model by its name or an alias, whatever the case; NULL when there is none. */
const SmModel *
model_find(const SmFarm *farm, const char *name)
{
	const SmModel *model;
	int i;

	for (model = farm->models; model != NULL; model = model->next)
		for (i = 0; i < model->name_count; i++)
			if (strcasecmp(model->names[i], name) == 0)
				return model;
	return NULL;
}

/* Finds what a write of count registers at address does; NULL when the map has no such write. */
const SmWritable *
model_writable(const SmModel *model, int function, int address, int count)
{
	int i;

	for (i = 0; i < model->writable_count; i++)
		if (model->writables[i].function == function && model->writables[i].address == address &&
			model->writables[i].count == count)
			return &model->writables[i];
	return NULL;
}

/* Returns the function whose map answers a read, or 0 when the model does not know the function. */
int
model_read_function(const SmModel *model, int function)
{
	int wanted = function == model->also_function && function != 0 ? model->also_like : function;
	int i;

	for (i = 0; i < model->register_count; i++)
		if (model->registers[i].function == wanted)
			return wanted;
	return 0;
}

/* Tells whether the model understands a write function at all. */
bool
model_writes_with(const SmModel *model, int function)
{
	int i;

	for (i = 0; i < model->writable_count; i++)
		if (model->writables[i].function == function)
			return true;
	return false;
}

/* Tells whether [address, address + count) lies between the first and the last register. */
bool
model_spans(const SmModel *model, int function, int address, int count)
{
	int first = 65536;
	int last = -1;
	int i;

	for (i = 0; i < model->register_count; i++)
	{
		const SmRegister *reg = &model->registers[i];

		if (reg->function != function)
			continue;
		first = reg->address < first ? reg->address : first;
		last =
			reg->address + reg->encoding.words > last ? reg->address + reg->encoding.words : last;
	}
	return address >= first && address + count <= last;
}

/* Releases all models. */
void
model_free(SmFarm *farm)
{
	while (farm->models != NULL)
	{
		SmModel *next = farm->models->next;

		free(farm->models->registers);
		free(farm->models->writables);
		free(farm->models);
		farm->models = next;
	}
}
