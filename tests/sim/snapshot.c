/*
 * snapshot.c - what a meter measures at one moment
 *
 * Everything follows from the load: current from power, voltage and power factor, the phases from
 * the split, so that a reader can check one value against another. Voltage and frequency wander a
 * little with the simulated minute, the same way in every run. Behind an open relay current and
 * power are zero; the voltage is measured upstream of it and stays.
 */
#include <string.h>
#include <time.h>

#include "encode.h"
#include "meter.h"
#include "snapshot.h"

#define E4 10000
#define NS_PER_MINUTE (60 * NS_PER_S)

/* Mixes a meter's seed, a minute and a purpose into a number that looks random but never changes. */
static uint32_t
snapshot_noise(const SmMeter *meter, int64_t sim_ns, uint32_t purpose)
{
	uint64_t x = (uint64_t) (sim_ns / NS_PER_MINUTE) * 0x9E3779B97F4A7C15u;

	x ^= ((uint64_t) meter->seed << 8 | purpose) * 0xBF58476D1CE4E5B9u;
	x ^= x >> 31;
	x *= 0x94D049BB133111EBu;
	return (uint32_t) (x >> 33);
}

/* Integer square root by Newton's method. */
static int64_t
snapshot_root(SmWide square)
{
	SmWide guess = square;
	SmWide next = (square + 1) / 2;

	while (next < guess)
	{
		guess = next;
		next = (guess + square / guess) / 2;
	}
	return (int64_t) guess;
}

/* Reactive part of an apparent and an active amount. */
static int64_t
snapshot_reactive(int64_t apparent, int64_t active)
{
	return snapshot_root((SmWide) apparent * apparent - (SmWide) active * active);
}

/* Fills in one phase from its power. */
static void
snapshot_phase(const SmMeter *meter, SmSnapshot *snapshot, int phase)
{
	int64_t nominal_mv = meter->nominal_mv;
	int64_t ripple =
		(int64_t) (snapshot_noise(meter, snapshot->sim_ns, (uint32_t) phase) % 101) - 50;
	int64_t power_mw = snapshot->power_mw[phase];

	snapshot->voltage_mv[phase] =
		meter->voltage_fixed ? nominal_mv : nominal_mv + nominal_mv * ripple / E4;
	snapshot->apparent_mva[phase] = power_mw * E4 / snapshot->power_factor_e4;
	snapshot->reactive_mvar[phase] = snapshot_reactive(snapshot->apparent_mva[phase], power_mw);
	if (snapshot->voltage_mv[phase] > 0)
		snapshot->current_ma[phase] =
			snapshot->apparent_mva[phase] * 1000 / snapshot->voltage_mv[phase];
}

/* Divides a whole over the phases; the last one takes what rounding leaves. */
static void
snapshot_split(const SmMeter *meter, int64_t *parts)
{
	int phases = meter->model->phases;
	int64_t left = parts[0];
	int phase;

	for (phase = 1; phase <= phases; phase++)
	{
		SmWide share = (SmWide) parts[0] * meter->split_percent[phase - 1] / 100;

		parts[phase] = phase == phases ? left : (int64_t) share;
		left -= parts[phase];
	}
}

/* Turns the power of the phases round whose current transformer is the wrong way round. */
static void
snapshot_reverse(const SmMeter *meter, SmSnapshot *snapshot)
{
	int phase;

	for (phase = 1; phase <= meter->model->phases; phase++)
	{
		if (!meter->reversed[phase - 1])
			continue;
		snapshot->power_mw[0] -= 2 * snapshot->power_mw[phase];
		snapshot->power_mw[phase] = -snapshot->power_mw[phase];
		snapshot->reversed[phase] = true;
	}
}

/* Adds the phases up; the voltage of the whole is that of the first phase. */
static void
snapshot_total(const SmMeter *meter, SmSnapshot *snapshot)
{
	int phase;

	snapshot->voltage_mv[0] = snapshot->voltage_mv[1];
	for (phase = 1; phase <= meter->model->phases; phase++)
	{
		snapshot->current_ma[0] += snapshot->current_ma[phase];
		snapshot->apparent_mva[0] += snapshot->apparent_mva[phase];
		snapshot->reactive_mvar[0] += snapshot->reactive_mvar[phase];
	}
	if (meter->model->phases == 3)
		snapshot->current_ma[0] /= 3;
}

/* Settles the meter and measures everything. */
void
snapshot_take(SmMeter *meter, SmSnapshot *snapshot)
{
	bool drawing;
	int phase;

	memset(snapshot, 0, sizeof(*snapshot));
	meter_settle(meter, farm_mono_ns());
	drawing = meter->relay_closed && meter->nominal_mv > 0;
	snapshot->sim_ns = meter->settled_sim_ns;
	snapshot->relay_closed = meter->relay_closed;
	snapshot->power_mw[0] = drawing ? meter_load_mw(meter, snapshot->sim_ns) : 0;
	snapshot->power_factor_e4 = snapshot->power_mw[0] > 0 ? meter->power_factor_e4 : E4;
	snapshot->import_mwh[0] = meter->register_mwh;
	snapshot->export_mwh[0] = meter->export_mwh;
	snapshot->frequency_mhz = 49980 + snapshot_noise(meter, snapshot->sim_ns, 9) % 41;
	snapshot->leakage_ma = drawing ? meter->leakage_ma : 0;
	snapshot_split(meter, snapshot->power_mw);
	snapshot_split(meter, snapshot->import_mwh);
	snapshot_split(meter, snapshot->export_mwh);
	for (phase = 1; phase <= meter->model->phases; phase++)
		snapshot_phase(meter, snapshot, phase);
	snapshot_total(meter, snapshot);
	snapshot_reverse(meter, snapshot);
	snapshot->temperature_mc = meter->temperature_mc;
	if (!meter->temperature_fixed)
		snapshot->temperature_mc += snapshot->current_ma[0] / 2;
}

/* Reactive energy that goes with an active energy at the meter's power factor. */
int64_t
snapshot_reactive_energy(const SmMeter *meter, int64_t active)
{
	int64_t sine_e4 = snapshot_reactive(E4, meter->power_factor_e4);

	return (int64_t) ((SmWide) active * sine_e4 / meter->power_factor_e4);
}

/* Energy registers of all kinds. */
static int64_t
snapshot_energy(const SmMeter *meter, const SmSnapshot *snapshot, const SmRegister *reg)
{
	int64_t import = snapshot->import_mwh[reg->phase];
	int64_t export = snapshot->export_mwh[reg->phase];

	if (reg->slot_idle)
		return 0;
	switch (reg->quantity)
	{
		case QUANTITY_IMPORT_ENERGY:
			return import;
		case QUANTITY_EXPORT_ENERGY:
			return export;
		case QUANTITY_TOTAL_ENERGY:
			return import + export;
		case QUANTITY_IMPORT_REACTIVE:
			return snapshot_reactive_energy(meter, import);
		case QUANTITY_EXPORT_REACTIVE:
			return snapshot_reactive_energy(meter, export);
		default:
			return snapshot_reactive_energy(meter, import + export);
	}
}

/* The meter's own clock, two bytes per register. */
static int64_t
snapshot_clock(const SmMeter *meter, const SmSnapshot *snapshot, SmQuantity quantity)
{
	time_t now = (time_t) meter_clock_s(meter, snapshot->sim_ns);
	struct tm parts;

	gmtime_r(&now, &parts);
	if (quantity == QUANTITY_CLOCK_YEAR_MONTH)
		return (parts.tm_year % 100) << 8 | (parts.tm_mon + 1);
	if (quantity == QUANTITY_CLOCK_DAY_HOUR)
		return parts.tm_mday << 8 | parts.tm_hour;
	return parts.tm_min << 8 | parts.tm_sec;
}

/* Measurements other than energy and clock, in the farm's units. */
static int64_t
snapshot_measure(const SmMeter *meter, const SmSnapshot *snapshot, const SmRegister *reg)
{
	switch (reg->quantity)
	{
		case QUANTITY_VOLTAGE:
			return snapshot->voltage_mv[reg->phase];
		case QUANTITY_CURRENT:
			return snapshot->current_ma[reg->phase];
		case QUANTITY_POWER:
			return snapshot->power_mw[reg->phase];
		case QUANTITY_REACTIVE_POWER:
			return snapshot->reactive_mvar[reg->phase];
		case QUANTITY_APPARENT_POWER:
			return snapshot->apparent_mva[reg->phase];
		case QUANTITY_POWER_FACTOR:
			return snapshot->power_factor_e4;
		case QUANTITY_FREQUENCY:
			return snapshot->frequency_mhz;
		case QUANTITY_LEAKAGE:
			return snapshot->leakage_ma;
		case QUANTITY_TEMPERATURE:
			return snapshot->temperature_mc;
		case QUANTITY_RELAY:
			return (snapshot->relay_closed ? reg->word_closed : reg->word_open) |
				   (meter->locked ? reg->word_locked : 0);
		case QUANTITY_CT_RATIO:
			return meter->ct;
		case QUANTITY_ADDRESS:
			return meter->unit;
		case QUANTITY_ADDRESS_AND_BAUD:
			return meter->unit << 8 | 1;
		case QUANTITY_WORD:
			return reg->word_initial;
		default:
			return 0;
	}
}

/* Shows one register of a meter as the words on the wire, stored words included. */
void
snapshot_encode(const SmMeter *meter, const SmSnapshot *snapshot, const SmRegister *reg,
				uint16_t *words)
{
	int i;

	if (reg->encoding.form == FORM_RAW)
		memset(words, 0, sizeof(uint16_t) * (size_t) reg->encoding.words);
	else if (reg->quantity <= QUANTITY_TOTAL_REACTIVE)
		encode_value(reg, snapshot_energy(meter, snapshot, reg), words);
	else if (reg->quantity >= QUANTITY_CLOCK_YEAR_MONTH &&
			 reg->quantity <= QUANTITY_CLOCK_MINUTE_SECOND)
		encode_value(reg, snapshot_clock(meter, snapshot, reg->quantity), words);
	else
		encode_value(reg, snapshot_measure(meter, snapshot, reg), words);
	for (i = 0; i < reg->encoding.words && meter->overrides != NULL; i++)
		meter_stored(meter, reg->function, reg->address + i, &words[i]);
}
