/*
 * bill_text.h - lines, cells, numbers and times of a bill in UTF-8
 *
 * Pure: no I/O, no memory, any bytes. Cells are stretches of the text itself.
 */
#ifndef SUBMETER_BILL_TEXT_H
#define SUBMETER_BILL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alipay.h"

#define BILL_CELLS_MAX 96

/* What is left of a text, and the number of the line read last. */
typedef struct SmBillLines
{
	const char *at;
	const char *end;
	int number;
} SmBillLines;

/* A decimal number in millionths, and how many of its decimals were printed. */
typedef struct SmBillNumber
{
	int64_t millionths;
	int decimals;
} SmBillNumber;

extern void bill_lines_begin(SmBillLines *lines, const char *text, size_t size, int before);
extern bool bill_line(SmBillLines *lines, SmBytes *line);
extern SmBytes bill_trim(SmBytes text);
extern bool bill_starts(SmBytes text, const char *start);
extern const char *bill_find(SmBytes text, const char *wanted);
extern int bill_cells_comma(SmBytes line, SmBytes cells[BILL_CELLS_MAX]);
extern int bill_cells_backtick(SmBytes line, SmBytes cells[BILL_CELLS_MAX]);
extern size_t bill_unquote(SmBytes line, SmBytes cell, char *to);
extern bool bill_number(SmBytes cell, SmBillNumber *number);
extern bool bill_time(SmBytes cell, int64_t *unix_s);

#endif
