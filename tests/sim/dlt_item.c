/*
 * dlt_item.c - the data items of a DL/T 645-2007 meter
 *
 * They have four bytes of identifier, DI3 first in this file's numbers: 00 energy, 02 measurements,
 * 03 and 1D/1E events, 04 parameters, 05 frozen values. Values are BCD, lowest digits first, cut off and not
 * rounded, as counters are. Of an absent phase a block shows FF.
 */
#include <string.h>
#include <time.h>

#include "dlt_item.h"
#include "meter.h"
#include "snapshot.h"

#define MWH_PER_DIGIT 10000 /* NNNNNN.NN kWh */
#define BLOCK 0xFF
#define AREA(di) ((di) >> 24 & 0xFF)
#define KIND(di) ((int) ((di) >> 16 & 0xFF))
#define PART(di) ((int) ((di) >> 8 & 0xFF))
#define LAST(di) ((int) ((di) &0xFF))
#define E4 10000

static const SmShow shows[] = {
	{1, 2, 100, false}, /* NNN.N V of mV */
	{2, 3, 1, false},   /* NNN.NNN A of mA */
	{3, 3, 100, true},  /* NN.NNNN kW of mW */
	{4, 3, 100, true},  /* kvar */
	{5, 3, 100, true},  /* kVA */
	{6, 2, 10, true},   /* N.NNN of 1/10000 */
	{7, 2, 100, false}, /* NNN.N degrees of 1/1000 */
};

/* The energy of one kind in whole or of one phase, before it is divided over the tariffs. */
static bool
item_energy_kind(const SmMeter *meter, const SmRecord *record, int kind, int64_t *mwh)
{
	int64_t import = record->import_mwh;
	int64_t export = record->export_mwh;
	int phase = kind < 0x15 ? 0 : (kind - 0x15) / 0x14 + 1;
	bool back = kind >= 0x15 && (kind - 0x15) % 0x14 == 1;

	if (phase > 0)
	{
		*mwh = (back ? export : import) * meter->split_percent[(phase - 1) % 3] / 100;
		return meter->model->phases == 3 && phase <= 3 && (kind - 0x15) % 0x14 <= 1;
	}
	*mwh = kind == 0                ? import + export
		   : kind == 1              ? import
		   : kind == 2              ? export
		   : kind == 9              ? (int64_t) ((SmWide) import * E4 / meter->power_factor_e4)
		   : kind == 10             ? (int64_t) ((SmWide) export * E4 / meter->power_factor_e4)
		   : kind == 3 || kind == 5 ? snapshot_reactive_energy(meter, import)
		   : kind == 4 || kind == 7 ? snapshot_reactive_energy(meter, export)
									: 0;
	return kind <= 10;
}

/* Shows an energy, in total, of one tariff or all of them; the length, 0 = there is none such. */
int
dlt_energy(const SmMeter *meter, const SmRecord *record, int kind, int tariff, uint8_t *to)
{
	int64_t mwh;
	int i;

	if (!item_energy_kind(meter, record, kind, &mwh) || (tariff > DLT_TARIFFS && tariff != BLOCK))
		return 0;
	if (kind >= 0x15 && tariff != 0)
		return 0;
	if (tariff != BLOCK)
	{
		int64_t part = tariff == 0 ? mwh : mwh * meter->dlt->tou[tariff - 1] / 100;

		dlt_bcd(to, 4, part / MWH_PER_DIGIT);
		return 4;
	}
	for (i = 0; i <= DLT_TARIFFS; i++)
		dlt_energy(meter, record, kind, i, to + 4 * i);
	return 4 * (DLT_TARIFFS + 1);
}

/* Fills the place of a record that was never made as the meter's setting says. */
int
dlt_item_empty(const SmMeter *meter, int length, uint8_t *to)
{
	memset(to, meter->dlt->empty == EMPTY_FF ? 0xFF : 0, (size_t) length);
	return meter->dlt->empty == EMPTY_ERROR ? 0 : length;
}

/* Energy now, or at one of the last settlement days. */
static int
item_energy(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	SmRecord now = {0, meter->register_mwh, meter->export_mwh};
	const SmRecord *record = &now;
	int length = dlt_energy(meter, &now, KIND(di), PART(di), to);

	if (length == 0 || LAST(di) == 0)
		return length;
	record = history_back(meter, FREEZE_MONTH, LAST(di));
	if (record == NULL)
		return LAST(di) > history_depth(FREEZE_MONTH) ? 0 : dlt_item_empty(meter, length, to);
	return dlt_energy(meter, record, KIND(di), PART(di), to);
}

/* Remaining energy or money of a prepaid meter, and what is overdrawn. */
static int
item_prepaid(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	int64_t left_wh = meter->dlt->prepaid_wh;

	if (left_wh < 0 || PART(di) < 1 || PART(di) > 2 || LAST(di) > 1)
		return 0;
	dlt_bcd(to, 4, LAST(di) == 1 ? 0 : left_wh / 10);
	return 4;
}

/* One measurement of one phase, 0 being the whole. */
static int64_t
item_measure(const SmSnapshot *snapshot, int kind, int phase)
{
	switch (kind)
	{
		case 1:
			return snapshot->voltage_mv[phase];
		case 2:
			return snapshot->current_ma[phase];
		case 3:
			return snapshot->power_mw[phase];
		case 4:
			return snapshot->reactive_mvar[phase];
		case 5:
			return snapshot->apparent_mva[phase];
		case 6:
			return snapshot->power_factor_e4;
		default:
			return 0;
	}
}

/* Shows one measurement; FF for a phase that is not there. */
void
dlt_item_show(const SmMeter *meter, const SmSnapshot *snapshot, const SmShow *show, int phase,
			  uint8_t *to)
{
	int64_t value = item_measure(snapshot, show->kind, phase);
	bool below = value < 0 || (show->kind == 2 && snapshot->reversed[phase]);

	if (phase > meter->model->phases)
	{
		memset(to, 0xFF, (size_t) show->bytes);
		return;
	}
	dlt_bcd(to, show->bytes, (value < 0 ? -value : value) / show->divide);
	to[show->bytes - 1] |= below ? 0x80 : 0;
}

/* Measurements by phase, and as a block of all. */
static int
item_phases(const SmMeter *meter, const SmSnapshot *snapshot, uint32_t di, uint8_t *to)
{
	const SmShow *show = NULL;
	size_t i;
	int phase;
	int length = 0;

	for (i = 0; i < sizeof(shows) / sizeof(shows[0]); i++)
		if (shows[i].kind == KIND(di))
			show = &shows[i];
	if (show == NULL || LAST(di) != 0)
		return 0;
	if (PART(di) != BLOCK)
	{
		phase = PART(di);
		if (phase > PHASES_MAX || (phase == 0 && !show->has_total))
			return 0;
		dlt_item_show(meter, snapshot, show, phase, to);
		return show->bytes;
	}
	for (phase = show->has_total ? 0 : 1; phase <= PHASES_MAX; phase++, length += show->bytes)
		dlt_item_show(meter, snapshot, show, phase, to + length);
	return length;
}

/* Measurements of the whole meter. */
static int
item_whole(const SmSnapshot *snapshot, uint32_t di, uint8_t *to)
{
	switch (di)
	{
		case 0x02800001: /* neutral current NNN.NNN A */
			dlt_bcd(to, 3, snapshot->current_ma[1]);
			return 3;
		case 0x02800002: /* frequency XX.XX Hz */
			dlt_bcd(to, 2, snapshot->frequency_mhz / 10);
			return 2;
		case 0x02800007: /* temperature NNN.N, top bit = below zero */
			dlt_bcd(to, 2,
					snapshot->temperature_mc < 0 ? -snapshot->temperature_mc / 100
												 : snapshot->temperature_mc / 100);
			to[1] |= snapshot->temperature_mc < 0 ? 0x80 : 0;
			return 2;
		case 0x02800008: /* voltage of the clock's battery XX.XX V */
			dlt_bcd(to, 2, 360);
			return 2;
		default:
			return 0;
	}
}

/* Everything that is measured. */
static int
item_variable(SmMeter *meter, uint32_t di, uint8_t *to)
{
	SmSnapshot snapshot;

	snapshot_take(meter, &snapshot);
	if (KIND(di) == 0x80)
		return item_whole(&snapshot, di, to);
	return item_phases(meter, &snapshot, di, to);
}

/* Date and time: WW DD MM YY, ss mm hh, or both with the time first. */
int
dlt_item_clock(const SmMeter *meter, int item, uint8_t *to)
{
	int64_t clock_s = meter_clock_s(meter, meter->settled_sim_ns);
	uint8_t time[6];
	uint8_t date[4];

	dlt_time(clock_s, time);
	date[0] = (uint8_t) ((clock_s / 86400 + 4) % 7); /* 1970 began on a Thursday; 0 = Sunday */
	memcpy(date + 1, time + 3, 3);
	if (item == 1)
		memcpy(to, date, 4);
	else
		memcpy(to, time, 3);
	if (item == 0x0C)
		memcpy(to + 3, date, 4);
	return item == 1 ? 4 : item == 2 ? 3 : 7;
}

/*
 * Status words. Word 3: bit 4 the relay is open, bit 6 it was told to open, bit 7 alarm before a
 * trip, bits 8 and 9 kind of prepaid meter, bit 12 keep power (as in the firmware sources that are
 * public; the text of 2007 leaves the bits above 4 unused).
 */
static int
item_status(const SmMeter *meter, int word, uint8_t *to)
{
	const SmDlt *dlt = meter->dlt;
	unsigned bits = 0;

	if (word == 3)
		bits = (meter->relay_closed ? 0u : 1u << 4) | (dlt->ordered_open ? 1u << 6 : 0u) |
			   (dlt->alarm ? 1u << 7 : 0u) | (dlt->prepaid_wh >= 0 ? 1u << 8 : 0u) |
			   (dlt->keep ? 1u << 12 : 0u);
	to[0] = (uint8_t) bits;
	to[1] = (uint8_t) (bits >> 8);
	return 2;
}

/* Writes text as meters send it, last character first, padded with zeros. */
static int
item_text(const char *text, int bytes, uint8_t *to)
{
	int length = (int) strlen(text);
	int i;

	memset(to, 0, (size_t) bytes);
	for (i = 0; i < length && i < bytes; i++)
		to[bytes - 1 - i] = (uint8_t) text[i];
	return bytes;
}

/* Identity: address, number, asset number, constant, kind of meter. */
int
dlt_item_identity(const SmMeter *meter, int item, uint8_t *to)
{
	char address[2 * ADDRESS_BYTES + 1];

	farm_address_text(meter->address, address);
	switch (item)
	{
		case 1:
		case 2:
			memcpy(to, meter->address, ADDRESS_BYTES);
			return ADDRESS_BYTES;
		case 3:
			return item_text(address, 32, to);
		case 9:
		case 0x0A:
			dlt_bcd(to, 3, 1600);
			return 3;
		case 0x0B:
			return item_text(meter->model->names[0], 10, to);
		default:
			return 0;
	}
}

/* Parameters and status words. */
static int
item_parameter(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	int word;

	switch (di >> 8)
	{
		case 0x040001:
			return LAST(di) == 1 || LAST(di) == 2 || LAST(di) == 0x0C
					   ? dlt_item_clock(meter, LAST(di), to)
					   : 0;
		case 0x040002:
			dlt_bcd(to, 1, DLT_TARIFFS);
			return LAST(di) == 4 ? 1 : 0;
		case 0x040003:
			dlt_bcd(to, 3, meter->ct);
			return LAST(di) == 6 ? 3 : 0;
		case 0x040004:
			return dlt_item_identity(meter, LAST(di), to);
		case 0x040005:
			if (LAST(di) >= 1 && LAST(di) <= 7)
				return item_status(meter, LAST(di), to);
			for (word = 1; word <= 7; word++)
				item_status(meter, word, to + 2 * (word - 1));
			return LAST(di) == BLOCK ? 14 : 0;
		case 0x040007:
			to[0] = 0x08; /* 2400 baud */
			return LAST(di) == 3 ? 1 : 0;
		case 0x04000B:
			to[0] = 0x00; /* settlement at 0 o'clock of the first */
			to[1] = 0x01;
			return LAST(di) == 1 ? 2 : 0;
		default:
			return 0;
	}
}

/* Counts of events. */
static int
item_count(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	int64_t count = di == 0x1D000001   ? meter->dlt->trips
					: di == 0x1E000001 ? meter->dlt->closes
									   : 0;

	if (di != 0x03300D00 && di != 0x03110000 && di != 0x1D000001 && di != 0x1E000001)
		return 0;
	dlt_bcd(to, 3, count);
	return 3;
}

/* One part of a frozen record: 0 its time, 1 to 8 energies. */
static int
item_frozen_part(const SmMeter *meter, const SmRecord *record, bool hourly, int part, uint8_t *to)
{
	uint8_t time[6];

	if (part > (hourly ? 2 : 8))
		return 0;
	if (part > 0)
		return dlt_energy(meter, record, part, hourly ? 0 : BLOCK, to);
	dlt_time(record->clock_s, time);
	memcpy(to, time + 1, 5); /* mm hh DD MM YY */
	return 5;
}

/* Frozen values: 0504 of every hour, 0506 of every midnight, the n-th last. */
static int
item_frozen(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	static const SmRecord nothing = {0};
	bool hourly = KIND(di) == 4;
	const SmRecord *record = history_back(meter, hourly ? FREEZE_HOUR : FREEZE_DAY, LAST(di));
	const SmRecord *shown = record == NULL ? &nothing : record;
	int length = 0;
	int part;

	if ((!hourly && KIND(di) != 6) || LAST(di) < 1 ||
		LAST(di) > history_depth(hourly ? FREEZE_HOUR : FREEZE_DAY))
		return 0;
	if (PART(di) != BLOCK)
		length = item_frozen_part(meter, shown, hourly, PART(di), to);
	for (part = 0; PART(di) == BLOCK && part <= (hourly ? 2 : 8); part++)
	{
		length += item_frozen_part(meter, shown, hourly, part, to + length);
		if (meter->dlt->separators)
			to[length++] = 0xAA;
	}
	return record == NULL && length > 0 ? dlt_item_empty(meter, length, to) : length;
}

/* Tells whether an item is a block of others. */
static bool
item_is_block(uint32_t di)
{
	return PART(di) == BLOCK || LAST(di) == BLOCK || KIND(di) == BLOCK;
}

/* Shows an item of 2007; the length, 0 = the meter has no such item. */
int
dlt_item_2007(SmMeter *meter, uint32_t di, uint8_t *to)
{
	/* the energies of a day's freeze are a block by nature and not an FF block */
	if (!meter->dlt->blocks && item_is_block(di))
		return 0;
	switch (AREA(di))
	{
		case 0x00:
			return KIND(di) == 0x90 ? item_prepaid(meter, di, to) : item_energy(meter, di, to);
		case 0x02:
			return item_variable(meter, di, to);
		case 0x04:
			return item_parameter(meter, di, to);
		case 0x05:
			return item_frozen(meter, di, to);
		default:
			return item_count(meter, di, to);
	}
}
