/*
 * bill_read.h - the detail lines of a provider's bill, and whether they add up
 *
 * Pure: no I/O, no memory, any bytes. Columns are found by their names, whatever stands between
 * them. A bill is read line by line; its own totals are compared when it ends, so lines are only
 * good once bill_next() has said BILL_END.
 */
#ifndef SUBMETER_BILL_READ_H
#define SUBMETER_BILL_READ_H

#include "bill_file.h"
#include "bill_text.h"

#define BILL_SAID 400
#define BILL_TEXTS 4
/* The time of a line of a kind we do not know, where there is none. */
#define BILL_NO_TIME INT64_MIN

/* What a line says, by whatever name its provider has for it. */
typedef enum SmBillField
{
	BILL_F_TRANSACTION,
	BILL_F_ORDER,
	BILL_F_KIND,
	BILL_F_SUBJECT,
	BILL_F_ACCOUNT,
	BILL_F_TIME,
	BILL_F_REFUND_ASKED,
	BILL_F_REFUND_DONE,
	BILL_F_AMOUNT,
	BILL_F_SETTLED,
	BILL_F_FEE,
	BILL_F_REFUND_AMOUNT,
	BILL_F_REFUND_SETTLED,
	BILL_F_REFUND_NO,
	BILL_F_PROVIDER_REFUND,
	BILL_F_REFUND_STATE,
	BILL_FIELDS
} SmBillField;

typedef enum SmBillKind
{
	BILL_PAYMENT,
	BILL_REFUND,
	BILL_OTHER,
	BILL_KINDS
} SmBillKind;

/* One detail line. Texts without bytes are not there; amount is never negative. */
typedef struct SmBillRecord
{
	int line;
	SmBytes raw;
	SmBillKind kind;
	SmBytes account;
	SmBytes transaction;
	SmBytes out_trade_no;
	SmBytes refund_no;
	SmBytes provider_refund;
	SmBytes subject;
	SmBillNumber amount;
	SmBillNumber fee;
	SmBillNumber settled;
	int64_t happened_s;
} SmBillRecord;

/* Lines of a kind, and the sums of their cells as printed, in millionths. */
typedef struct SmBillTally
{
	int64_t lines;
	int64_t sums[BILL_FIELDS];
} SmBillTally;

typedef enum SmBillStep
{
	BILL_RECORD,
	BILL_END,
	BILL_FAILED
} SmBillStep;

typedef struct SmBillReader SmBillReader;

/* What is particular to a provider. */
typedef struct SmBillForm
{
	const char *provider;
	/* Names of the columns in the order of the fields; NULL where there is none. */
	const char *names[BILL_FIELDS];
	/* Fields without which nothing can be read, as bits. */
	unsigned needed;
	/* Free texts, in which a separator may have gone astray. */
	const char *texts[BILL_TEXTS];
	int (*cells)(SmBytes line, SmBytes cells[BILL_CELLS_MAX]);
	/* Reads on to the header line; false when there is none. */
	bool (*find_header)(SmBillReader *reader, SmBytes *line);
	/* The next detail line. */
	SmBillStep (*next_line)(SmBillReader *reader, SmBytes *line);
	/* Kind, amounts and times of a line. */
	bool (*judge)(SmBillReader *reader, const SmBytes *cells, SmBillRecord *record);
} SmBillForm;

struct SmBillReader
{
	const SmBillForm *form;
	SmBillLines lines;
	int n_columns;
	/* Where a field stands, -1 for nowhere. */
	int column[BILL_FIELDS];
	/* 'n' number, 't' time, 'x' free text, ' ' anything else. */
	char type[BILL_CELLS_MAX];
	bool has_text[BILL_TEXTS];
	SmBytes account;
	/* Whether the text said that it ends here. */
	bool ended;
	/* Of the text that is read, and the lines of all of them. */
	SmBillTally tally[BILL_KINDS];
	int64_t all_lines[BILL_KINDS];
	SmBillFault fault;
	int fault_line;
	char said[BILL_SAID];
};

extern const SmBillForm bill_alipay;
extern const SmBillForm bill_wechat;

/* bill_read.c */
extern void bill_reader_init(SmBillReader *reader, const SmBillForm *form);
extern bool bill_open(SmBillReader *reader, const char *text, size_t size);
extern SmBillStep bill_next(SmBillReader *reader, SmBillRecord *record);
extern bool bill_refuse(SmBillReader *reader, SmBillFault fault, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern SmBytes bill_cell(const SmBillReader *reader, const SmBytes *cells, SmBillField field);
extern bool bill_amount(SmBillReader *reader, const SmBytes *cells, SmBillField field,
						SmBillNumber *number);
extern bool bill_instant(SmBillReader *reader, SmBytes cell, SmBillRecord *record);
extern bool bill_equal(SmBillReader *reader, const char *what, int64_t said, int64_t counted);
extern SmBytes bill_base_name(SmBytes cell);

/* bill_alipay.c */
extern bool bill_is_detail(const char *text, size_t size);
extern bool bill_check_summary(SmBillReader *reader, const char *text, size_t size);

#endif
