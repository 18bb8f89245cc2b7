/*
 * dlt645_item.c - what the data of DL/T 645 mean: formats by data identifier
 *
 * The table holds what the two versions of the standard define and meters in use answer. An
 * identifier that is not in it keeps its bytes. In a number, a half byte that is no digit refuses
 * the whole value: a wrong reading is worse than none.
 */
#include <stdio.h>
#include <string.h>

#include "dlt645_item.h"

/* An identifier matches when (di & mask) == value. The first match counts. */
typedef struct SmDltRule
{
	uint32_t mask;
	uint32_t value;
	SmDltItem item;
} SmDltRule;

#define NUMBER(bytes, decimals, sign, unit)            \
	{                                                  \
		DLT645_BCD, bytes, decimals, sign, false, unit \
	}
#define BLOCK(bytes, decimals, sign, unit)            \
	{                                                 \
		DLT645_BCD, bytes, decimals, sign, true, unit \
	}

static const SmDltRule rules_2007[] = {
	/* 00 90: what is left of a prepaid purchase */
	{0xFFFFFF00, 0x00900100, NUMBER(4, 2, false, "kWh")},
	{0xFFFFFF00, 0x00900200, NUMBER(4, 2, false, "CNY")},
	/* 00: energy; DI2 what, DI1 tariff or FF for all, DI0 settlement day */
	{0xFFFFFF00, 0x0000FF00, BLOCK(4, 2, true, "kWh")},
	{0xFFFF0000, 0x00000000, NUMBER(4, 2, true, "kWh")},
	{0xFFFFFF00, 0x0001FF00, BLOCK(4, 2, false, "kWh")},
	{0xFFFFFF00, 0x0002FF00, BLOCK(4, 2, false, "kWh")},
	{0xFFFF0000, 0x00010000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x00020000, NUMBER(4, 2, false, "kWh")},
	{0xFFFFFF00, 0x0003FF00, BLOCK(4, 2, true, "kvarh")},
	{0xFFFFFF00, 0x0004FF00, BLOCK(4, 2, true, "kvarh")},
	{0xFFFF0000, 0x00030000, NUMBER(4, 2, true, "kvarh")},
	{0xFFFF0000, 0x00040000, NUMBER(4, 2, true, "kvarh")},
	{0xFFFCFF00, 0x0004FF00, BLOCK(4, 2, false, "kvarh")},
	{0xFFFFFF00, 0x0008FF00, BLOCK(4, 2, false, "kvarh")},
	{0xFFFF0000, 0x00050000, NUMBER(4, 2, false, "kvarh")},
	{0xFFFE0000, 0x00060000, NUMBER(4, 2, false, "kvarh")},
	{0xFFFF0000, 0x00080000, NUMBER(4, 2, false, "kvarh")},
	{0xFFFFFF00, 0x0009FF00, BLOCK(4, 2, false, "kVAh")},
	{0xFFFFFF00, 0x000AFF00, BLOCK(4, 2, false, "kVAh")},
	{0xFFFF0000, 0x00090000, NUMBER(4, 2, false, "kVAh")},
	{0xFFFF0000, 0x000A0000, NUMBER(4, 2, false, "kVAh")},
	{0xFFFF0000, 0x00150000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x00160000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x00290000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x002A0000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x003D0000, NUMBER(4, 2, false, "kWh")},
	{0xFFFF0000, 0x003E0000, NUMBER(4, 2, false, "kWh")},
	/* 02: what flows now */
	{0xFFFFFFFF, 0x0201FF00, BLOCK(2, 1, false, "V")},
	{0xFFFF0000, 0x02010000, NUMBER(2, 1, false, "V")},
	{0xFFFFFFFF, 0x0202FF00, BLOCK(3, 3, true, "A")},
	{0xFFFF0000, 0x02020000, NUMBER(3, 3, true, "A")},
	{0xFFFFFFFF, 0x0203FF00, BLOCK(3, 4, true, "kW")},
	{0xFFFF0000, 0x02030000, NUMBER(3, 4, true, "kW")},
	{0xFFFFFFFF, 0x0204FF00, BLOCK(3, 4, true, "kvar")},
	{0xFFFF0000, 0x02040000, NUMBER(3, 4, true, "kvar")},
	{0xFFFFFFFF, 0x0205FF00, BLOCK(3, 4, true, "kVA")},
	{0xFFFF0000, 0x02050000, NUMBER(3, 4, true, "kVA")},
	{0xFFFFFFFF, 0x0206FF00, BLOCK(2, 3, true, "")},
	{0xFFFF0000, 0x02060000, NUMBER(2, 3, true, "")},
	{0xFFFFFFFF, 0x0207FF00, BLOCK(2, 1, false, "deg")},
	{0xFFFF0000, 0x02070000, NUMBER(2, 1, false, "deg")},
	{0xFFFFFFFF, 0x020CFF00, BLOCK(2, 1, false, "V")},
	{0xFFFF0000, 0x020C0000, NUMBER(2, 1, false, "V")},
	{0xFFFFFFFF, 0x02800001, NUMBER(3, 3, true, "A")},
	{0xFFFFFFFF, 0x02800002, NUMBER(2, 2, false, "Hz")},
	{0xFFFFFFFF, 0x02800003, NUMBER(3, 4, false, "kW")},
	{0xFFFFFFFF, 0x02800007, NUMBER(2, 1, true, "degC")},
	{0xFFFFFFFF, 0x02800008, NUMBER(2, 2, false, "V")},
	{0xFFFFFFFF, 0x02800009, NUMBER(2, 2, false, "V")},
	{0xFFFFFFFF, 0x0280000A, NUMBER(4, 0, false, "min")},
	/* 03: counts of events */
	{0xFFFFFFFF, 0x03110000, NUMBER(3, 0, false, "")},
	{0xFFFFFFFF, 0x03300D00, NUMBER(3, 0, false, "")},
	{0xFFFFFFFF, 0x1D000001, NUMBER(3, 0, false, "")},
	/* 04: parameters */
	{0xFFFFFFFF, 0x04000101, {DLT645_DATE, 4, 0, false, false, ""}},
	{0xFFFFFFFF, 0x04000102, {DLT645_TIME, 3, 0, false, false, ""}},
	{0xFFFFFFFF, 0x0400010C, {DLT645_DATE_TIME, 7, 0, false, false, ""}},
	{0xFFFFFFFF, 0x04000306, NUMBER(3, 0, false, "")},
	{0xFFFFFFFF, 0x04000307, NUMBER(3, 0, false, "")},
	{0xFFFFFFFF, 0x04000401, {DLT645_DIGITS, 6, 0, false, false, ""}},
	{0xFFFFFFFF, 0x04000402, {DLT645_DIGITS, 6, 0, false, false, ""}},
	{0xFFFFFFFF, 0x04000403, {DLT645_ASCII, 32, 0, false, false, ""}},
	{0xFFFFFFFF, 0x04000409, NUMBER(3, 0, false, "imp/kWh")},
	{0xFFFFFFFF, 0x0400040A, NUMBER(3, 0, false, "imp/kvarh")},
	{0xFFFFFFFF, 0x040005FF, {DLT645_BITS, 2, 0, false, true, ""}},
	{0xFFFFFF00, 0x04000500, {DLT645_BITS, 2, 0, false, false, ""}},
	/* 05: freezes; DI1 0: when, 1 and 2: forward and reverse energy, total and tariffs */
	{0xFF00FF00, 0x05000000, {DLT645_STAMP, 5, 0, false, false, ""}},
	{0xFF00FF00, 0x05000100, BLOCK(4, 2, false, "kWh")},
	{0xFF00FF00, 0x05000200, BLOCK(4, 2, false, "kWh")},
};

static const SmDltRule rules_1997[] = {
	{0xF3FF, 0x901F, BLOCK(4, 2, false, "kWh")},
	{0xF3FF, 0x902F, BLOCK(4, 2, false, "kWh")},
	{0xF3F0, 0x9010, NUMBER(4, 2, false, "kWh")},
	{0xF3F0, 0x9020, NUMBER(4, 2, false, "kWh")},
	{0xF3FF, 0x911F, BLOCK(4, 2, false, "kvarh")},
	{0xF3F0, 0x9110, NUMBER(4, 2, false, "kvarh")},
	{0xF3F0, 0x9120, NUMBER(4, 2, false, "kvarh")},
	{0xFFFF, 0xB61F, BLOCK(2, 0, false, "V")},
	{0xFFF0, 0xB610, NUMBER(2, 0, false, "V")},
	{0xFFFF, 0xB62F, BLOCK(2, 2, false, "A")},
	{0xFFF0, 0xB620, NUMBER(2, 2, false, "A")},
	{0xFFFF, 0xB63F, BLOCK(3, 4, true, "kW")},
	{0xFFFC, 0xB630, NUMBER(3, 4, true, "kW")},
	{0xFFFC, 0xB640, NUMBER(2, 2, true, "kvar")},
	{0xFFFC, 0xB650, NUMBER(2, 3, false, "")},
	{0xFFFF, 0xC010, {DLT645_DATE, 4, 0, false, false, ""}},
	{0xFFFF, 0xC011, {DLT645_TIME, 3, 0, false, false, ""}},
	{0xFFFE, 0xC030, NUMBER(3, 0, false, "imp/kWh")},
	{0xFFFF, 0xC032, {DLT645_DIGITS, 6, 0, false, false, ""}},
	{0xFFFF, 0xC020, {DLT645_BITS, 1, 0, false, false, ""}},
};

/* How the data of an identifier of 4 (2007) or 2 (1997) bytes are written. */
SmDltItem
dlt645_item(uint32_t di, int di_bytes)
{
	static const SmDltItem unknown = {DLT645_RAW, 0, 0, false, false, ""};
	const SmDltRule *rules = di_bytes == 4 ? rules_2007 : rules_1997;
	int count = di_bytes == 4 ? (int) (sizeof(rules_2007) / sizeof(rules_2007[0]))
							  : (int) (sizeof(rules_1997) / sizeof(rules_1997[0]));
	int i;

	for (i = 0; i < count; i++)
	{
		if ((di & rules[i].mask) == rules[i].value)
			return rules[i].item;
	}
	return unknown;
}

/* A BCD number, low digits first; false when a half byte is no digit. */
static bool
dlt645_bcd(const uint8_t *data, int bytes, bool sign, int64_t *value)
{
	bool negative = sign && (data[bytes - 1] & 0x80) != 0;
	int i;

	*value = 0;
	for (i = bytes - 1; i >= 0; i--)
	{
		int byte = i == bytes - 1 && sign ? data[i] & 0x7F : data[i];

		if (byte >> 4 > 9 || (byte & 0x0F) > 9)
			return false;
		*value = *value * 100 + (byte >> 4) * 10 + (byte & 0x0F);
	}
	if (negative)
		*value = -*value;
	return true;
}

static bool
dlt645_absent(const uint8_t *data, int bytes)
{
	int i;

	for (i = 0; i < bytes; i++)
	{
		if (data[i] != 0xFF)
			return false;
	}
	return true;
}

static bool
dlt645_one(const SmDltItem *item, const uint8_t *data, SmDltValue *value)
{
	int i;

	value->value = 0;
	value->absent = item->kind == DLT645_BCD && dlt645_absent(data, item->bytes);
	if (value->absent)
		return true;
	if (item->kind == DLT645_BCD)
		return dlt645_bcd(data, item->bytes, item->sign, &value->value);
	for (i = item->bytes - 1; i >= 0; i--)
		value->value = value->value << 8 | data[i];
	return true;
}

/*
 * The numbers in the data behind the identifier; their count, or -1 and why not. Some meters close
 * a block, or each item of it, with AAH, and some append a byte for the sequence of follow-ups.
 */
int
dlt645_values(const SmDltItem *item, const uint8_t *data, int length, SmDltValue *values, int most,
			  const char **why)
{
	int step = item->bytes;
	int count;
	int i;

	*why = "length of the data does not fit the identifier";
	if (item->kind != DLT645_BCD && item->kind != DLT645_BITS)
		return -1;
	if (length > 0 && length % step == 1 && data[length - 1] == 0xAA)
		length--;
	if (item->block && length % step != 0 && length % (step + 1) == 0)
		step++;
	count = length / step;
	if (length < step || length % step != 0 || count > most || (!item->block && count != 1))
		return -1;
	*why = "a half byte is no digit";
	for (i = 0; i < count; i++)
	{
		if (!dlt645_one(item, data + i * step, &values[i]))
			return -1;
	}
	*why = NULL;
	return count;
}

/* Appends the BCD digits of a byte; false when it has none. */
static bool
dlt645_two(char **text, uint8_t byte)
{
	if (byte >> 4 > 9 || (byte & 0x0F) > 9)
		return false;
	*(*text)++ = (char) ('0' + (byte >> 4));
	*(*text)++ = (char) ('0' + (byte & 0x0F));
	return true;
}

/*
 * Writes bytes after a pattern: # takes the digits of the next byte from the end, W skips one (the
 * day of the week), anything else stands for itself.
 */
static bool
dlt645_pattern(const char *pattern, const uint8_t *data, int length, char *text)
{
	int at = length - 1;

	for (; *pattern != '\0'; pattern++)
	{
		if (*pattern == 'W')
			at--;
		else if (*pattern == '#')
		{
			if (!dlt645_two(&text, data[at--]))
				return false;
		}
		else
			*text++ = *pattern;
	}
	*text = '\0';
	return true;
}

static void
dlt645_ascii(const uint8_t *data, int length, char *text)
{
	int i;

	/* The last character comes first; what cannot be printed is left out. */
	for (i = length - 1; i >= 0; i--)
	{
		if (data[i] > ' ' && data[i] < 0x7F && data[i] != '"' && data[i] != '\\')
			*text++ = (char) data[i];
	}
	*text = '\0';
}

static void
dlt645_raw(const uint8_t *data, int length, char *text)
{
	int i;

	for (i = 0; i < length; i++)
		text += sprintf(text, "%02X", data[i]);
	*text = '\0';
}

/* The data as text, for what is no number; raw data as hexadecimal digits in the order of the wire. */
bool
dlt645_text(const SmDltItem *item, const uint8_t *data, int length, char *text, int size,
			const char **why)
{
	static const char *const patterns[] = {
		[DLT645_DIGITS] = "######",     [DLT645_DATE] = "20#-#-#W",
		[DLT645_TIME] = "#:#:#",        [DLT645_DATE_TIME] = "20#-#-#W #:#:#",
		[DLT645_STAMP] = "20#-#-# #:#", [DLT645_RAW] = NULL};

	*why = NULL;
	text[0] = '\0';
	if (2 * length + 8 > size)
		*why = "the data are too long";
	else if (item->kind == DLT645_RAW)
		dlt645_raw(data, length, text);
	else if (item->kind == DLT645_ASCII)
		dlt645_ascii(data, length, text);
	else if (patterns[item->kind] == NULL)
		*why = "the identifier is that of a number";
	else if (length != item->bytes)
		*why = "length of the data does not fit the identifier";
	else if (!dlt645_pattern(patterns[item->kind], data, length, text))
		*why = "a half byte is no digit";
	return *why == NULL;
}
