/*
 * dlt645_item.h - what the data of DL/T 645 mean: formats by data identifier
 *
 * Pure: no I/O, no memory. Values are exact decimals; what is all FFH (an absent phase) has none.
 */
#ifndef DLT645_ITEM_H
#define DLT645_ITEM_H

#include <stdbool.h>
#include <stdint.h>

#define DLT645_VALUES_MAX 64
#define DLT645_TEXT_MAX 512

typedef enum SmDltKind
{
	DLT645_BCD,    /* number of the given bytes and decimals */
	DLT645_BITS,   /* status word, low byte first */
	DLT645_DIGITS, /* number on a nameplate: digits as text */
	DLT645_ASCII,
	DLT645_DATE,      /* YYMMDDWW */
	DLT645_TIME,      /* hhmmss */
	DLT645_DATE_TIME, /* YYMMDDWWhhmmss */
	DLT645_STAMP,     /* YYMMDDhhmm */
	DLT645_RAW
} SmDltKind;

/* How the data of an identifier are written. */
typedef struct SmDltItem
{
	SmDltKind kind;
	int bytes; /* of one value */
	int decimals;
	bool sign;  /* the highest bit is a sign */
	bool block; /* several values one after another */
	const char *unit;
} SmDltItem;

/* value x 10^-decimals; absent: all FFH. */
typedef struct SmDltValue
{
	bool absent;
	int64_t value;
} SmDltValue;

extern SmDltItem dlt645_item(uint32_t di, int di_bytes);
extern int dlt645_values(const SmDltItem *item, const uint8_t *data, int length, SmDltValue *values,
						 int most, const char **why);
extern bool dlt645_text(const SmDltItem *item, const uint8_t *data, int length, char *text,
						int size, const char **why);

#endif
