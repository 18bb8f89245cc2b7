/*
 * bill_file.h - a provider's bill file unpacked in memory
 *
 * Pure: no I/O, any bytes; memory by malloc, within the limits below.
 */
#ifndef SUBMETER_BILL_FILE_H
#define SUBMETER_BILL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BILL_PACKED_MAX ((size_t) 64 << 20)
#define BILL_PLAIN_MAX ((size_t) 256 << 20)
#define BILL_ENTRIES_MAX 32

/* What can be wrong with a bill file, from its wrapping to its sums. */
typedef enum SmBillFault
{
	BILL_FINE = 0,
	/* bill_file.c */
	BILL_NO_MEMORY,
	BILL_PACKED_LARGE,
	BILL_PLAIN_LARGE,
	BILL_MANY_ENTRIES,
	BILL_CORRUPT,
	BILL_LOCKED,
	/* bill_read.c */
	BILL_STRANGE,
	BILL_COLUMN,
	BILL_CELLS,
	BILL_NUMBER,
	BILL_TIME,
	BILL_UNFINISHED,
	BILL_SUM,
	/* whoever knows character sets */
	BILL_BYTES
} SmBillFault;

typedef struct SmBillEntry
{
	char *data;
	size_t size;
} SmBillEntry;

/* Texts in the order of the archive. What was not packed is the caller's own text. */
typedef struct SmBillFile
{
	int n_entries;
	bool owned;
	SmBillEntry entries[BILL_ENTRIES_MAX];
} SmBillFile;

extern SmBillFault bill_unpack(const char *packed, size_t size, size_t plain_max, SmBillFile *file);
extern void bill_file_free(SmBillFile *file);

#endif
