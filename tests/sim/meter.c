/*
 * meter.c - one simulated meter: its counter, its relay, its settings
 *
 * Nothing ticks. A meter is brought up to date when somebody looks at it or changes it: the counter
 * grows by the difference of the load's energy between two moments, which is exact whatever the
 * speed and however often it is done. An open relay or a stuck counter skips that energy.
 */
#include <stdlib.h>
#include <string.h>

#include "curve.h"
#include "dlt.h"
#include "history.h"
#include "meter.h"
#include "parse.h"

#define MW_NS_PER_MWH INT64_C(3600000000000)
#define NS_PER_HOUR (3600 * NS_PER_S)

/* Makes a meter with the settings of a common 230 V, 50 Hz connection; meter_free releases it. */
SmMeter *
meter_create(SmFarm *farm, const SmModel *model, int unit, uint32_t seed)
{
	SmMeter *meter = farm_alloc(sizeof(SmMeter));

	meter->farm = farm;
	meter->model = model;
	meter->unit = unit;
	meter->seed = seed;
	meter->load_permille = 1000;
	meter->ct = 1;
	meter->nominal_mv = 230000;
	meter->power_factor_e4 = 9500;
	meter->temperature_mc = 25000;
	meter->leakage_ma = 2;
	meter->holes = -1;
	meter->relay_closed = true;
	meter->split_percent[0] = model->phases == 3 ? 34 : 100;
	meter->split_percent[1] = model->phases == 3 ? 33 : 0;
	meter->split_percent[2] = model->phases == 3 ? 33 : 0;
	return meter;
}

/* Energy of the load from the beginning up to a moment, as the register counts it (after the CT). */
static int64_t
meter_load_mwh(const SmMeter *meter, int64_t sim_ns)
{
	SmWide energy_mwh;

	if (meter->curve != NULL)
		energy_mwh = curve_energy_mwh(meter->curve, sim_ns + meter->offset_ns);
	else
		energy_mwh = (SmWide) meter->load_mw * sim_ns / MW_NS_PER_MWH;
	return (int64_t) (energy_mwh * meter->load_permille / (1000 * meter->ct));
}

/* The share of the load, in percent, that the meter counts: phases that are reversed count against it. */
static int
meter_net_percent(const SmMeter *meter)
{
	int net = 0;
	int phase;

	for (phase = 0; phase < PHASES_MAX; phase++)
		net += meter->reversed[phase] ? -meter->split_percent[phase] : meter->split_percent[phase];
	return net;
}

/* Adds the energy between two moments to the register of its direction. */
static void
meter_add(SmMeter *meter, int64_t from_ns, int64_t to_ns)
{
	int net = meter_net_percent(meter);
	int64_t before = meter_load_mwh(meter, from_ns);
	int64_t after = meter_load_mwh(meter, to_ns);
	int share = net < 0 ? -net : net;

	if (net < 0)
		meter->export_mwh += after * share / 100 - before * share / 100;
	else
		meter->register_mwh += after * share / 100 - before * share / 100;
}

/* Power the load would draw at a moment if the relay were closed, after the CT. */
int64_t
meter_load_mw(const SmMeter *meter, int64_t sim_ns)
{
	SmWide power_mw = meter->load_mw;

	if (meter->curve != NULL)
		power_mw = curve_power_mw(meter->curve, sim_ns + meter->offset_ns);
	return (int64_t) (power_mw * meter->load_permille / (1000 * meter->ct));
}

/* What the meter's own clock shows at a moment of simulated time, in seconds since 1970. */
int64_t
meter_clock_s(const SmMeter *meter, int64_t sim_ns)
{
	return meter->farm->epoch_s + meter->farm->zone_s + meter->clock_offset_s + sim_ns / NS_PER_S;
}

/* Counts the energy up to a moment of simulated time. */
static void
meter_count_to(SmMeter *meter, int64_t sim_ns)
{
	if (sim_ns <= meter->settled_sim_ns)
		return;
	if (meter->relay_closed && !meter->stuck && meter->nominal_mv > 0)
		meter_add(meter, meter->settled_sim_ns, sim_ns);
	meter->settled_sim_ns = sim_ns;
}

/* Counts up to a moment, with what the meter freezes on the way. */
static void
meter_count(SmMeter *meter, int64_t sim_ns)
{
	int64_t edge_ns;

	while (meter->history != NULL && (edge_ns = history_edge(meter)) <= sim_ns)
	{
		meter_count_to(meter, edge_ns);
		history_freeze(meter, edge_ns);
	}
	meter_count_to(meter, sim_ns);
}

/* Moves the contacts, if that is a change. */
static void
meter_switch(SmMeter *meter, bool closed)
{
	if (meter->relay_closed != closed)
		meter->switchings++;
	meter->relay_closed = closed;
}

/* Brings a meter up to date: counts, and lets a slow relay move at the moment it was due. */
void
meter_settle(SmMeter *meter, int64_t mono_ns)
{
	if (meter->relay_pending && meter->relay_due_mono_ns <= mono_ns)
	{
		meter_count(meter, farm_sim_at(meter->farm, meter->relay_due_mono_ns));
		meter->relay_pending = false;
		meter_switch(meter, meter->relay_pending_closed);
	}
	meter_count(meter, farm_sim_at(meter->farm, mono_ns));
	if (meter->modulus_mwh > 0)
		meter->register_mwh %= meter->modulus_mwh;
}

/* Obeys an open or close command; the caller has settled the meter. A local lock forbids closing. */
void
meter_command(SmMeter *meter, bool closed, int64_t delay_ns)
{
	int64_t wait_ns = meter->relay_delay_ns > delay_ns ? meter->relay_delay_ns : delay_ns;

	if (closed && meter->locked)
		return;
	meter->relay_pending = wait_ns > 0;
	meter->relay_pending_closed = closed;
	meter->relay_due_mono_ns = farm_mono_ns() + wait_ns;
	if (wait_ns == 0)
		meter_switch(meter, closed);
}

/* Sets all energy registers to zero, as a write to the total register of some meters does. */
void
meter_clear(SmMeter *meter)
{
	meter->register_mwh = 0;
	meter->export_mwh = 0;
}

/* Looks for a stored word; false when the register shows what the meter computes. */
bool
meter_stored(const SmMeter *meter, int function, int address, uint16_t *word)
{
	const SmOverride *override;

	for (override = meter->overrides; override != NULL; override = override->next)
	{
		if (override->function != function || override->address != address)
			continue;
		*word = override->word;
		return true;
	}
	return false;
}

/* Stores a word at an address, in place of an earlier one. */
void
meter_store(SmMeter *meter, int function, int address, uint16_t word)
{
	SmOverride *override;

	for (override = meter->overrides; override != NULL; override = override->next)
		if (override->function == function && override->address == address)
			break;
	if (override == NULL)
	{
		override = farm_alloc(sizeof(SmOverride));
		override->function = function;
		override->address = address;
		override->next = meter->overrides;
		meter->overrides = override;
	}
	override->word = word;
}

/* Takes a stored word away again. */
static void
meter_unstore(SmMeter *meter, int function, int address)
{
	SmOverride **link = &meter->overrides;

	while (*link != NULL)
	{
		SmOverride *override = *link;

		if (override->function == function && override->address == address)
		{
			*link = override->next;
			free(override);
			return;
		}
		link = &override->next;
	}
}

/* Sets "word:FUNCTION:ADDRESS" to a value, or takes it away when the value is empty. */
static bool
meter_set_word(SmMeter *meter, const char *where, const char *value)
{
	char copy[NAME_SIZE];
	char *rest = copy;
	char *item;
	int64_t function;
	int64_t address;
	int64_t word;

	if (strlen(where) >= sizeof(copy))
		return false;
	strcpy(copy, where);
	item = strsep(&rest, ":");
	if (rest == NULL || !parse_integer(item, 3, 4, &function) ||
		!parse_integer(rest, 0, 65535, &address))
		return false;
	if (*value == '\0')
		meter_unstore(meter, (int) function, (int) address);
	else if (parse_integer(value, 0, 65535, &word))
		meter_store(meter, (int) function, (int) address, (uint16_t) word);
	else
		return false;
	return true;
}

/* Sets how the load divides over the phases, in percent: 40/35/25. */
static bool
meter_set_split(SmMeter *meter, const char *value)
{
	char copy[NAME_SIZE];
	char *rest = copy;
	char *item;
	int64_t parts[PHASES_MAX] = {0, 0, 0};
	int count = 0;

	if (strlen(value) >= sizeof(copy))
		return false;
	strcpy(copy, value);
	while ((item = strsep(&rest, "/")) != NULL)
		if (count == meter->model->phases || !parse_integer(item, 0, 100, &parts[count++]))
			return false;
	if (parts[0] + parts[1] + parts[2] != 100)
		return false;
	for (count = 0; count < PHASES_MAX; count++)
		meter->split_percent[count] = (int) parts[count];
	return true;
}

/* Sets the phases whose current transformer is the wrong way round: 0/1/0. */
static bool
meter_set_reversed(SmMeter *meter, const char *value)
{
	int phases = meter->model->phases;
	int i;

	if ((int) strlen(value) != 2 * phases - 1)
		return false;
	for (i = 0; value[i] != '\0'; i++)
		if (i % 2 == 1 ? value[i] != '/' : value[i] != '0' && value[i] != '1')
			return false;
	for (i = 0; i < phases; i++)
		meter->reversed[i] = value[2 * i] == '1';
	return true;
}

/* Sets the load: a curve by NAME:COLUMN, or constant power. */
static bool
meter_set_load(SmMeter *meter, const char *key, const char *value)
{
	const SmCurve *curve;
	int64_t power_mw;

	if (strcmp(key, "curve") == 0)
	{
		curve = curve_find(meter->farm, value);
		if (curve == NULL)
			return false;
		meter->curve = curve;
		return true;
	}
	if (!parse_fixed(value, 3, &power_mw) || power_mw < 0 || power_mw > INT64_C(1000000000000))
		return false;
	meter->curve = NULL;
	meter->load_mw = power_mw;
	return true;
}

/* Moves the relay by hand, as a person at the cabinet would: at once and whatever the lock says. */
static bool
meter_set_relay(SmMeter *meter, const char *value)
{
	bool closed = strcmp(value, "closed") == 0;

	if (!closed && strcmp(value, "open") != 0)
		return false;
	meter->relay_pending = false;
	meter_switch(meter, closed);
	return true;
}

typedef struct SmSetting
{
	const char *key;
	int decimals; /* of the value's text */
	int64_t low;
	int64_t high;
	size_t offset;
	int64_t times; /* from the text's unit to the field's */
} SmSetting;

#define SETTING(key, decimals, low, high, field, times)           \
	{                                                             \
		key, decimals, low, high, offsetof(SmMeter, field), times \
	}

static const SmSetting settings[] = {
	SETTING("register_wh", 3, 0, INT64_C(1000000000000000), register_mwh, 1),
	SETTING("start_wh", 3, 0, INT64_C(1000000000000000), register_mwh, 1),
	SETTING("start_kwh", 6, 0, INT64_C(1000000000000000), register_mwh, 1),
	SETTING("export_wh", 3, 0, INT64_C(1000000000000000), export_mwh, 1),
	SETTING("scale", 3, 0, 1000000, load_permille, 1),
	SETTING("offset_h", 0, 0, 1000000, offset_ns, NS_PER_HOUR),
	SETTING("ct", 0, 1, 100000, ct, 1),
	SETTING("pf", 4, 1, 10000, power_factor_e4, 1),
	SETTING("leak_ma", 0, 0, 60000, leakage_ma, 1),
	SETTING("clock_offset_s", 0, -1000000000, 1000000000, clock_offset_s, 1),
	SETTING("relay_ms", 0, 0, 3600000, relay_delay_ns, NS_PER_MS),
	SETTING("modulus_wh", 3, 0, INT64_C(1000000000000000), modulus_mwh, 1),
	SETTING("voltage_v", 3, 0, 1000000, nominal_mv, 1),
	SETTING("temperature_c", 3, -100000, 500000, temperature_mc, 1),
};

/* Sets a field that is a plain number; false when the key is another or the number is no good. */
static bool
meter_set_number(SmMeter *meter, const char *key, const char *value)
{
	size_t i;
	int64_t number;

	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		const SmSetting *setting = &settings[i];

		if (strcmp(key, setting->key) != 0)
			continue;
		if (!parse_fixed(value, setting->decimals, &number) || number < setting->low ||
			number > setting->high)
			return false;
		number *= setting->times;
		memcpy((char *) meter + setting->offset, &number, sizeof(number));
		return true;
	}
	return false;
}

/* Sets the settings that are words rather than numbers. */
static bool
meter_set_choice(SmMeter *meter, const char *key, const char *value)
{
	if (strcmp(key, "relay") == 0)
		return meter_set_relay(meter, value);
	if (strcmp(key, "watts") == 0 || strcmp(key, "load_w") == 0 || strcmp(key, "curve") == 0)
		return meter_set_load(meter, key, value);
	if (strcmp(key, "split") == 0)
		return meter_set_split(meter, value);
	if (strcmp(key, "reversed") == 0)
		return meter_set_reversed(meter, value);
	if (strcmp(key, "locked") == 0)
		return parse_flag(value, &meter->locked);
	if (strcmp(key, "holes") == 0)
	{
		meter->holes = strcmp(value, "zero") == 0 ? 1 : 0;
		return meter->holes == 1 || strcmp(value, "refuse") == 0;
	}
	if (strncmp(key, "word:", 5) == 0)
		return meter_set_word(meter, key + 5, value);
	if (meter->dlt != NULL && dlt_set(meter, key, value))
		return true;
	return meter_set_number(meter, key, value);
}

/* Applies one key=value of the configuration or of a command "set". */
bool
meter_set(SmMeter *meter, const char *key, const char *value, SmError *error)
{
	meter_settle(meter, farm_mono_ns());
	if (!meter_set_choice(meter, key, value))
		return farm_fail(error, "cannot set %.60s=%.60s", key, value);
	if (strcmp(key, "voltage_v") == 0)
		meter->voltage_fixed = true;
	if (strcmp(key, "temperature_c") == 0)
		meter->temperature_fixed = true;
	if (strcmp(key, "modulus_wh") == 0)
		meter->modulus_configured_mwh = meter->modulus_mwh;
	return true;
}

/* Releases a meter. */
void
meter_free(SmMeter *meter)
{
	while (meter->overrides != NULL)
	{
		SmOverride *next = meter->overrides->next;

		free(meter->overrides);
		meter->overrides = next;
	}
	free(meter->dlt);
	history_free(meter);
	free(meter);
}
