/*
 * point.c - what registers mean: types, scales, metrics and the values of a reading
 *
 * A register that says "not available" gives no value: all bits set in an unsigned register, the
 * largest or smallest number in a signed one, and for energy also the patterns of the other kind;
 * NaN and infinities in a float. An item of DL/T 645 is all FFH for that. A missing value is
 * honest, 6553.5 V is an alarm at night.
 */
#include <math.h>
#include <string.h>

#include "point.h"

#define SCALE_TIMES_MAX INT64_C(1000000000000)
#define SCALE_DIGITS_MAX 12
#define REAL_MAX 3.4e38
#define REAL_MIN 1.2e-38

typedef __int128 SmWide;

static const char *const point_metrics[METRIC_COUNT] = {
	"energy_wh", "reactive_varh", "v_a",       "v_b",          "v_c",           "i_a",
	"i_b",       "i_c",           "i_n",       "i_leak_ma",    "temperature_c", "power_w",
	"power_a_w", "power_b_w",     "power_c_w", "power_factor", "frequency_hz",  "relay"};

static const struct
{
	const char *name;
	int words;
	bool is_signed;
} point_types[POINT_TYPE_COUNT] = {{"u16", 1, false},  {"i16", 1, true},    {"u32be", 2, false},
								   {"i32be", 2, true}, {"u32sw", 2, false}, {"i32sw", 2, true},
								   {"f32be", 2, true}, {"f32sw", 2, true},  {"u64be", 4, false},
								   {"i64be", 4, true}, {"bit", 1, false},   {"bcd", 0, false},
								   {"sbcd", 0, true},  {"bits", 0, false}};

bool
point_find_metric(const char *name, SmMetric *metric)
{
	int i;

	for (i = 0; i < METRIC_COUNT; i++)
	{
		if (strcmp(name, point_metrics[i]) == 0)
		{
			*metric = (SmMetric) i;
			return true;
		}
	}
	return false;
}

/* The column of submeter.reading; static memory. */
const char *
point_metric_name(SmMetric metric)
{
	return point_metrics[metric];
}

bool
point_find_type(const char *name, SmPointType *type)
{
	int i;

	for (i = 0; i < POINT_TYPE_COUNT; i++)
	{
		if (strcmp(name, point_types[i].name) == 0)
		{
			*type = (SmPointType) i;
			return true;
		}
	}
	return false;
}

/* Registers (or coils) that a value of this type takes. */
int
point_words(SmPointType type)
{
	return point_types[type].words;
}

/* Appends a digit; zeros at the end of a fraction are only counted until another digit follows. */
static bool
point_scale_digit(SmScale *scale, int digit, bool fraction, int *zeros)
{
	if (fraction && digit == 0)
	{
		(*zeros)++;
		return true;
	}
	for (; *zeros > 0 && scale->times <= SCALE_TIMES_MAX; (*zeros)--, scale->digits++)
		scale->times *= 10;
	scale->times = scale->times * 10 + digit;
	scale->digits += fraction;
	return scale->times <= SCALE_TIMES_MAX && scale->digits <= SCALE_DIGITS_MAX;
}

/* Parses a decimal such as 0.001, 10 or -1 exactly. Refuses zero and what would not fit. */
bool
point_parse_scale(const char *text, SmScale *scale)
{
	bool negative = *text == '-';
	bool fraction = false;
	int zeros = 0;

	*scale = (SmScale){0, 0};
	for (text += negative; *text != '\0'; text++)
	{
		if (*text == '.' && !fraction)
			fraction = true;
		else if (*text < '0' || *text > '9' ||
				 !point_scale_digit(scale, *text - '0', fraction, &zeros))
			return false;
	}
	if (negative)
		scale->times = -scale->times;
	return scale->times != 0;
}

/* Says what is wrong with an item of DL/T 645; NULL when nothing is. */
static const char *
point_check_item(const SmPoint *point)
{
	if (point->bytes < 1 || point->bytes > POINT_BYTES_MAX)
		return "length is not 1 to 8 bytes";
	if (point->block_offset < 0)
		return "its place in the block cannot be";
	if ((point->metric == METRIC_RELAY) != (point->type == POINT_BITS))
		return "bits are for the relay, and the relay is in bits";
	if (point->metric == METRIC_RELAY && point->closed_value == point->open_value)
		return "open and closed look alike";
	return NULL;
}

/* Says what is wrong with a point; NULL when nothing is. Static memory. */
const char *
point_check(const SmPoint *point)
{
	bool coil = point->function == 1 || point->function == 2;

	if (point->type >= POINT_BCD)
		return point->function == 0 ? point_check_item(point) : "registers hold no BCD";
	if (point->function < 1 || point->function > 4)
		return "function is not 1 to 4";
	if (point->address < 0 || point->address + point_words(point->type) > 65536)
		return "address is beyond 65535";
	if (coil && point->type != POINT_BIT)
		return "functions 1 and 2 read bits only";
	if (point->metric == METRIC_RELAY && (point->type == POINT_F32BE || point->type == POINT_F32SW))
		return "a relay cannot be a floating point number";
	if (point->metric == METRIC_RELAY && point->closed_value == point->open_value)
		return "open and closed look alike";
	return NULL;
}

static int64_t
point_power_of_ten(int digits)
{
	int64_t power = 1;

	while (digits-- > 0)
		power *= 10;
	return power;
}

/* The bits of a value, high word first. */
static uint64_t
point_bits(SmPointType type, const uint16_t *words)
{
	int count = point_words(type);
	bool swapped = type == POINT_U32SW || type == POINT_I32SW || type == POINT_F32SW;
	uint64_t bits = 0;
	int i;

	for (i = 0; i < count; i++)
		bits = bits << 16 | words[swapped ? count - 1 - i : i];
	return bits;
}

/* Widens the bits of an integer type to its value. */
static SmWide
point_integer(SmPointType type, uint64_t bits)
{
	int width = point_words(type) * 16;

	if (point_types[type].is_signed && (bits >> (width - 1) & 1) != 0)
		return (SmWide) bits - ((SmWide) 1 << width);
	return (SmWide) bits;
}

/* Whether an integer register says that it has no value. */
static bool
point_is_sentinel(const SmPoint *point, uint64_t bits)
{
	int width = point_words(point->type) * 16;
	uint64_t all = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
	uint64_t top = UINT64_C(1) << (width - 1);
	bool energy = point->metric <= METRIC_REACTIVE_VARH;

	if (point->type == POINT_BIT)
		return false;
	if (point_types[point->type].is_signed)
		return bits == top - 1 || bits == top || (energy && bits == all);
	return bits == all || (energy && width > 16 && bits == top - 1);
}

/* numerator / denominator, half away from zero; false when it does not fit. */
static bool
point_round(SmWide numerator, SmWide denominator, int64_t *value)
{
	SmWide half = denominator / 2;
	SmWide result = (numerator + (numerator < 0 ? -half : half)) / denominator;

	if (result > INT64_MAX || result < INT64_MIN)
		return false;
	*value = (int64_t) result;
	return true;
}

static float
point_float(uint64_t bits)
{
	uint32_t narrow = (uint32_t) bits;
	float value;

	memcpy(&value, &narrow, sizeof(value));
	return value;
}

/*
 * Energy out of a float register: the float is mantissa x 2^exponent, so mantissa x scale is an
 * exact integer and only the last division rounds.
 */
static bool
point_energy_from_float(float raw, const SmScale *scale, int64_t *value)
{
	int exponent;
	SmWide numerator = (SmWide) ldexp(frexp((double) raw, &exponent), 24);
	SmWide denominator = point_power_of_ten(scale->digits);

	numerator *= scale->times; /* below 2^64 */
	exponent -= 24;
	if (exponent > 40)
		return numerator == 0;
	if (exponent >= 0)
		return point_round(numerator * ((SmWide) 1 << exponent), denominator, value);
	if (exponent < -80)
	{
		*value = 0; /* below 2^64 / 2^81 */
		return true;
	}
	return point_round(numerator, denominator << -exponent, value);
}

/* Stores a measurement; what the database's real cannot hold is no measurement. */
static bool
point_store_number(SmValues *values, SmMetric metric, double number)
{
	if (!isfinite(number) || fabs(number) > REAL_MAX)
		return false;
	if (fabs(number) < REAL_MIN)
		number = 0;
	values->number[metric] = number;
	return true;
}

static bool
point_decode_float(const SmPoint *point, uint64_t bits, SmValues *values)
{
	float raw = point_float(bits);

	if (!isfinite(raw))
		return false;
	if (point->metric <= METRIC_REACTIVE_VARH)
		return point_energy_from_float(raw, &point->scale, &values->energy[point->metric]);
	return point_store_number(values, point->metric,
							  (double) raw * (double) point->scale.times /
								  (double) point_power_of_ten(point->scale.digits));
}

static bool
point_decode_relay(const SmPoint *point, uint64_t bits, SmValues *values)
{
	values->relay_raw = (int64_t) (bits & (uint64_t) point->bit_mask);
	values->relay = RELAY_UNKNOWN;
	if (values->relay_raw == point->closed_value)
		values->relay = RELAY_CLOSED;
	else if (values->relay_raw == point->open_value)
		values->relay = RELAY_OPEN;
	values->locked = point->lock_mask != 0 &&
					 (int64_t) (bits & (uint64_t) point->lock_mask) == point->lock_value;
	values->keep = KEEP_UNKNOWN;
	if (point->keep_mask != 0)
		values->keep = (int64_t) (bits & (uint64_t) point->keep_mask) == point->keep_value
						   ? KEEP_ON
						   : KEEP_OFF;
	return values->relay != RELAY_UNKNOWN;
}

static bool
point_decode_value(const SmPoint *point, const uint16_t *words, SmValues *values)
{
	uint64_t bits = point_bits(point->type, words);
	SmWide scaled;

	if (point->metric == METRIC_RELAY)
		return point_decode_relay(point, bits, values);
	if (point->type == POINT_F32BE || point->type == POINT_F32SW)
		return point_decode_float(point, bits, values);
	if (point->type == POINT_BIT)
		bits &= (uint64_t) point->bit_mask;
	if (point_is_sentinel(point, bits))
		return false;
	scaled = point_integer(point->type, bits) * point->scale.times;
	if (point->metric <= METRIC_REACTIVE_VARH)
		return point_round(scaled, point_power_of_ten(point->scale.digits),
						   &values->energy[point->metric]);
	return point_store_number(values, point->metric,
							  (double) scaled / (double) point_power_of_ten(point->scale.digits));
}

/* A BCD number, low digits first; false when a half byte is no digit. */
static bool
point_bcd(const uint8_t *data, int bytes, bool is_signed, int64_t *value)
{
	bool negative = is_signed && (data[bytes - 1] & 0x80) != 0;
	int i;

	*value = 0;
	for (i = bytes - 1; i >= 0; i--)
	{
		int byte = is_signed && i == bytes - 1 ? data[i] & 0x7F : data[i];

		if (byte >> 4 > 9 || (byte & 0x0F) > 9)
			return false;
		*value = *value * 100 + (byte >> 4) * 10 + (byte & 0x0F);
	}
	if (negative)
		*value = -*value;
	return true;
}

/* The number of an item: bits low byte first, or digits. */
static SmPointState
point_item_number(const SmPoint *point, const uint8_t *data, int64_t *number)
{
	uint64_t bits = 0;
	bool all = true;
	int i;

	for (i = point->bytes - 1; i >= 0; i--)
	{
		bits = bits << 8 | data[i];
		all = all && data[i] == 0xFF;
	}
	*number = (int64_t) bits;
	if (all)
		return POINT_ABSENT;
	if (point->type == POINT_BITS)
		return POINT_GOOD;
	return point_bcd(data, point->bytes, point->type == POINT_SBCD, number) ? POINT_GOOD
																			: POINT_NONSENSE;
}

static SmPointState
point_item_value(const SmPoint *point, int64_t number, SmValues *values)
{
	SmWide scaled = (SmWide) number * point->scale.times;
	int64_t divisor = point_power_of_ten(point->scale.digits);
	bool good;

	if (point->metric == METRIC_RELAY)
		good = point_decode_relay(point, (uint64_t) number, values);
	else if (point->metric <= METRIC_REACTIVE_VARH)
		good = point_round(scaled, divisor, &values->energy[point->metric]);
	else
		good = point_store_number(values, point->metric, (double) scaled / (double) divisor);
	return good ? POINT_GOOD : POINT_NONSENSE;
}

/* Decodes one item of DL/T 645 from where its data begin. */
SmPointState
point_decode_item(const SmPoint *point, const uint8_t *data, int length, SmValues *values)
{
	SmPointState state = POINT_NONSENSE;
	int64_t number;

	if (length >= point->bytes)
		state = point_item_number(point, data, &number);
	if (state == POINT_GOOD)
		state = point_item_value(point, number, values);
	if (state == POINT_GOOD)
		values->present |= UINT32_C(1) << point->metric;
	else
		values->present &= ~(UINT32_C(1) << point->metric);
	return state;
}

/* Decodes one point from its words into the values; false (and no value) when it has none. */
bool
point_decode(const SmPoint *point, const uint16_t *words, SmValues *values)
{
	bool good = point_decode_value(point, words, values);

	if (good)
		values->present |= UINT32_C(1) << point->metric;
	else
		values->present &= ~(UINT32_C(1) << point->metric);
	return good;
}

bool
point_has(const SmValues *values, SmMetric metric)
{
	return (values->present >> metric & 1) != 0;
}

/* open, closed, or NULL; static memory. */
const char *
point_relay_name(SmRelay relay)
{
	return relay == RELAY_OPEN ? "open" : relay == RELAY_CLOSED ? "closed" : NULL;
}
