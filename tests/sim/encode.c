/*
 * encode.c - values into register words
 *
 * A meter's counter shows completed units, so integers are cut, not rounded; a value too large for
 * the register wraps when it is a counter and stays at the limit when it is a measurement, as in
 * real meters. Floating point appears only here, at the edge where the wire wants it.
 */
#include <stdio.h>
#include <string.h>

#include "encode.h"
#include "parse.h"

typedef struct SmEncodingName
{
	const char *name;
	SmForm form;
	bool is_signed;
	int words;
} SmEncodingName;

static const SmEncodingName encoding_names[] = {
	{"u16", FORM_INTEGER, false, 1}, {"i16", FORM_INTEGER, true, 1},
	{"u32", FORM_INTEGER, false, 2}, {"i32", FORM_INTEGER, true, 2},
	{"u64", FORM_INTEGER, false, 4}, {"i64", FORM_INTEGER, true, 4},
	{"f32", FORM_FLOAT, true, 2},
};

/* Finds the byte order behind the first three letters of a type name. */
static bool
encode_find_order(const char *suffix, SmOrder *order)
{
	if (strcmp(suffix, "be") == 0 || *suffix == '\0')
		*order = ORDER_BIG;
	else if (strcmp(suffix, "_word_swapped") == 0)
		*order = ORDER_WORD_SWAPPED;
	else if (strcmp(suffix, "_byte_swapped") == 0)
		*order = ORDER_BYTE_SWAPPED;
	else if (strcmp(suffix, "le") == 0)
		*order = ORDER_LITTLE;
	else
		return false;
	return true;
}

/* Finds a type by its name in models.conf, such as u32be or i32_word_swapped or raw6. */
bool
encode_find(const char *name, SmEncoding *encoding)
{
	int64_t words;
	size_t i;

	if (strncmp(name, "raw", 3) == 0 && parse_integer(name + 3, 1, 123, &words))
	{
		*encoding = (SmEncoding){FORM_RAW, ORDER_BIG, false, (int) words};
		return true;
	}
	for (i = 0; i < sizeof(encoding_names) / sizeof(encoding_names[0]); i++)
	{
		const SmEncodingName *known = &encoding_names[i];

		if (strncmp(name, known->name, 3) != 0)
			continue;
		encoding->form = known->form;
		encoding->is_signed = known->is_signed;
		encoding->words = known->words;
		return encode_find_order(name + 3, &encoding->order);
	}
	return false;
}

/* Puts the low bits of a big-endian pattern into words in the register's order. */
static void
encode_pattern(const SmEncoding *encoding, uint64_t pattern, uint16_t *words)
{
	int i;

	for (i = 0; i < encoding->words; i++)
	{
		bool reversed = encoding->order == ORDER_WORD_SWAPPED || encoding->order == ORDER_LITTLE;
		int at = reversed ? i : encoding->words - 1 - i;
		uint16_t word = (uint16_t) (pattern >> (16 * at));

		if (encoding->order == ORDER_BYTE_SWAPPED || encoding->order == ORDER_LITTLE)
			word = (uint16_t) (word << 8 | word >> 8);
		words[i] = word;
	}
}

/* Tells whether a quantity counts up, and so wraps instead of stopping at the limit. */
static bool
encode_is_counter(SmQuantity quantity)
{
	return quantity <= QUANTITY_TOTAL_REACTIVE;
}

/* Keeps a measurement inside the range of its register. */
static SmWide
encode_clamp(const SmRegister *reg, SmWide raw)
{
	int bits = 16 * reg->encoding.words - (reg->encoding.is_signed ? 1 : 0);
	SmWide high = ((SmWide) 1 << bits) - 1;
	SmWide low = reg->encoding.is_signed ? -high - 1 : 0;

	if (raw > high)
		return high;
	return raw < low ? low : raw;
}

/* Encodes a value in the farm's units (mWh, mV, ...) as the register shows it. */
void
encode_value(const SmRegister *reg, int64_t value, uint16_t *words)
{
	SmWide scaled = (SmWide) value * reg->scale_den;
	SmWide raw = scaled / reg->scale_num;
	uint32_t bits;
	float number;

	if (reg->encoding.form == FORM_FLOAT)
	{
		number = (float) ((double) scaled / (double) reg->scale_num);
		memcpy(&bits, &number, sizeof(bits));
		encode_pattern(&reg->encoding, bits, words);
		return;
	}
	if (!encode_is_counter(reg->quantity))
		raw = encode_clamp(reg, raw);
	encode_pattern(&reg->encoding, (uint64_t) raw, words);
}

/* Puts "not a number" into a float register; other registers stay as they are. */
void
encode_nan(const SmRegister *reg, uint16_t *words)
{
	if (reg->encoding.form == FORM_FLOAT)
		encode_pattern(&reg->encoding, 0x7FC00000, words);
}
