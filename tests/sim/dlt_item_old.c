/*
 * dlt_item_old.c - the data items of a DL/T 645-1997 meter
 *
 * Two bytes of identifier; mostly the values of 2007 with other digits.
 */
#include "dlt_item.h"
#include "meter.h"
#include "snapshot.h"

#define BLOCK 0xFF

/* Energies of 1997: 90xx now, 94xx and 98xx one and two months ago, x1 active, 2x back. */
static int
item_old_energy(const SmMeter *meter, uint32_t di, uint8_t *to)
{
	static const SmRecord nothing = {0};
	SmRecord now = {0, meter->register_mwh, meter->export_mwh};
	int month = ((int) (di >> 8) - 0x90) / 4;
	const SmRecord *record = month == 0 ? &now : history_back(meter, FREEZE_MONTH, month);
	int reactive = di >> 8 & 1;
	int direction = (int) (di >> 4 & 0x0F);
	int tariff = (int) (di & 0x0F) == 0x0F ? BLOCK : (int) (di & 0x0F);
	int length;

	if (direction < 1 || direction > 2 || (reactive != 0 && direction != 1))
		return 0;
	length = dlt_energy(meter, record == NULL ? &nothing : record, reactive != 0 ? 3 : direction,
						tariff, to);
	if (tariff == BLOCK && length > 0 && meter->dlt->separators)
		to[length++] = 0xAA;
	return record == NULL && length > 0 ? dlt_item_empty(meter, length, to) : length;
}

/* Measurements of 1997: B61x voltage, B62x current, B63x power, B64x reactive, B65x power factor. */
static int
item_old_variable(SmMeter *meter, uint32_t di, uint8_t *to)
{
	static const SmShow old_shows[] = {
		{1, 2, 1000, false}, /* NNN V */
		{2, 2, 10, false},   /* XX.XX A */
		{3, 3, 100, true},   /* NN.NNNN kW */
		{4, 2, 10000, true}, /* XX.XX kvar */
		{6, 2, 10, true},    /* N.NNN */
	};
	int row = (int) (di >> 4 & 0x0F) - 1;
	int phase = (int) (di & 0x0F);
	const SmShow *show = &old_shows[row < 0 || row > 4 ? 0 : row];
	SmSnapshot snapshot;
	int length = 0;

	if (row < 0 || row > 4)
		return 0;
	snapshot_take(meter, &snapshot);
	if (phase != 0x0F)
	{
		if (phase > meter->model->phases || (phase == 0 && !show->has_total))
			return 0;
		dlt_item_show(meter, &snapshot, show, phase, to);
		return show->bytes;
	}
	for (phase = show->has_total ? 0 : 1; phase <= PHASES_MAX; phase++, length += show->bytes)
		dlt_item_show(meter, &snapshot, show, phase, to + length);
	return length;
}

/* Shows an item of 1997; the length, 0 = the meter has no such item. */
int
dlt_item_1997(SmMeter *meter, uint32_t di, uint8_t *to)
{
	if (!meter->dlt->blocks && (di & 0x0F) == 0x0F)
		return 0;
	switch (di >> 8)
	{
		case 0x90:
		case 0x91:
		case 0x94:
		case 0x95:
		case 0x98:
		case 0x99:
			return item_old_energy(meter, di, to);
		case 0xB6:
			return item_old_variable(meter, di, to);
		default:
			break;
	}
	switch (di)
	{
		case 0xC010:
			return dlt_item_clock(meter, 1, to);
		case 0xC011:
			return dlt_item_clock(meter, 2, to);
		case 0xC020:
			to[0] = 0;
			return 1;
		case 0xC117:
			to[0] = 0x00; /* settlement at 0 o'clock of the first */
			to[1] = 0x01;
			return 2;
		case 0xC030:
			return dlt_item_identity(meter, 9, to);
		case 0xC032:
			return dlt_item_identity(meter, 2, to);
		default:
			return 0;
	}
}
