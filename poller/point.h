/*
 * point.h - what registers mean: types, scales, metrics and the values of a reading
 *
 * Pure: no I/O, no memory. Energy is int64 in Wh or varh and never goes through floating point,
 * except that a register which is itself a float is taken for exactly the number it holds.
 */
#ifndef POINT_H
#define POINT_H

#include <stdbool.h>
#include <stdint.h>

#define POINT_BYTES_MAX 8

/* In the order of the columns of submeter.reading_input. */
typedef enum SmMetric
{
	METRIC_ENERGY_WH,
	METRIC_REACTIVE_VARH,
	METRIC_V_A,
	METRIC_V_B,
	METRIC_V_C,
	METRIC_I_A,
	METRIC_I_B,
	METRIC_I_C,
	METRIC_I_N,
	METRIC_I_LEAK_MA,
	METRIC_TEMPERATURE_C,
	METRIC_POWER_W,
	METRIC_POWER_A_W,
	METRIC_POWER_B_W,
	METRIC_POWER_C_W,
	METRIC_POWER_FACTOR,
	METRIC_FREQUENCY_HZ,
	METRIC_RELAY,
	METRIC_COUNT
} SmMetric;

typedef enum SmPointType
{
	POINT_U16,
	POINT_I16,
	POINT_U32BE,
	POINT_I32BE,
	POINT_U32SW,
	POINT_I32SW,
	POINT_F32BE,
	POINT_F32SW,
	POINT_U64BE,
	POINT_I64BE,
	POINT_BIT,
	POINT_BCD,
	POINT_SBCD,
	POINT_BITS,
	POINT_TYPE_COUNT
} SmPointType;

typedef enum SmRelay
{
	RELAY_UNKNOWN,
	RELAY_OPEN,
	RELAY_CLOSED
} SmRelay;

/* Whether a meter keeps its power on, whatever it is told. */
typedef enum SmKeep
{
	KEEP_UNKNOWN,
	KEEP_OFF,
	KEEP_ON
} SmKeep;

/* value = raw x times / 10^digits */
typedef struct SmScale
{
	int64_t times;
	int digits;
} SmScale;

typedef struct SmPoint
{
	SmMetric metric;
	int function; /* Modbus; 0: an item of DL/T 645 */
	int address;
	uint32_t di; /* DL/T 645 */
	bool in_block;
	uint32_t block_di; /* of a block that holds it, too */
	int block_offset;
	int bytes;
	SmPointType type;
	SmScale scale;
	int64_t bit_mask;
	int64_t closed_value;
	int64_t open_value;
	/* of a relay: what the same bits say besides; a mask of 0: nothing */
	int64_t lock_mask;
	int64_t lock_value;
	int64_t keep_mask;
	int64_t keep_value;
} SmPoint;

/* What the data of a point came to. */
typedef enum SmPointState
{
	POINT_GOOD,
	POINT_ABSENT,  /* the meter says that it has no value */
	POINT_NONSENSE /* the data cannot be what they should be */
} SmPointState;

/* What a meter said. Only metrics whose bit is set in present count. */
typedef struct SmValues
{
	uint32_t present;
	int64_t energy[2]; /* METRIC_ENERGY_WH, METRIC_REACTIVE_VARH */
	double number[METRIC_COUNT];
	SmRelay relay;
	int64_t relay_raw; /* after the mask */
	bool locked;       /* on the spot: it cannot be closed from afar */
	SmKeep keep;
} SmValues;

extern bool point_find_metric(const char *name, SmMetric *metric);
extern const char *point_metric_name(SmMetric metric);
extern bool point_find_type(const char *name, SmPointType *type);
extern int point_words(SmPointType type);
extern bool point_parse_scale(const char *text, SmScale *scale);
extern const char *point_check(const SmPoint *point);
extern bool point_decode(const SmPoint *point, const uint16_t *words, SmValues *values);
extern SmPointState point_decode_item(const SmPoint *point, const uint8_t *data, int length,
									  SmValues *values);
extern bool point_has(const SmValues *values, SmMetric metric);
extern const char *point_relay_name(SmRelay relay);

#endif
