/*
 * bill_read.c - the detail lines of a provider's bill, and whether they add up
 */
#include "bill_read.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MOST_SHOWN 60
/* Sums of three kinds still fit into 64 bits. */
#define MOST_SUM (INT64_MAX / 4)
/* Separators astray in a line; with four texts, at most 495 ways to look at. */
#define MOST_SURPLUS 8

/* Surplus cells that are given to columns of free text. */
typedef struct Join
{
	const SmBillReader *reader;
	const SmBytes *cells;
	int surplus;
	int n_ways;
	/* How many each column gets: in the way that is tried, in the first that fits. */
	int extra[BILL_CELLS_MAX];
	int found[BILL_CELLS_MAX];
} Join;

void
bill_reader_init(SmBillReader *reader, const SmBillForm *form)
{
	memset(reader, 0, sizeof(*reader));
	reader->form = form;
}

/*
 * Remembers what is wrong and with which line; the first thing counts. Always false.
 */
bool
bill_refuse(SmBillReader *reader, SmBillFault fault, const char *format, ...)
{
	va_list args;

	if (reader->fault != BILL_FINE)
		return false;
	reader->fault = fault;
	reader->fault_line = reader->lines.number;
	va_start(args, format);
	vsnprintf(reader->said, sizeof(reader->said), format, args);
	va_end(args);
	return false;
}

/*
 * How much of a text of somebody else's to show: whole characters only.
 */
static int
shown(SmBytes text)
{
	size_t length = text.length;

	if (length <= MOST_SHOWN)
		return (int) length;
	length = MOST_SHOWN;
	while (length > 0 && ((unsigned char) text.at[length] & 0xc0) == 0x80)
		length--;
	return (int) length;
}

/*
 * A column's name without its unit in brackets, another name behind a stroke, and a backtick.
 */
SmBytes
bill_base_name(SmBytes cell)
{
	static const char *const ends[] = {"（", "(", "/"};
	SmBytes name = bill_trim(cell);

	if (name.length > 0 && name.at[0] == '`')
	{
		name.at++;
		name.length--;
	}
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
	{
		const char *end = bill_find(name, ends[i]);

		if (end != NULL)
			name.length = (size_t) (end - name.at);
	}
	return bill_trim(name);
}

static bool
ends_with(SmBytes text, const char *end)
{
	size_t length = strlen(end);

	return text.length >= length && memcmp(text.at + text.length - length, end, length) == 0;
}

/*
 * What the cells below a column's name look like. A text that stands there twice is none, so that
 * no header makes many of them.
 */
static char
column_type(SmBillReader *reader, SmBytes cell)
{
	SmBytes name = bill_base_name(cell);

	for (int i = 0; i < BILL_TEXTS && reader->form->texts[i] != NULL; i++)
		if (bytes_are(name, reader->form->texts[i]) && !reader->has_text[i])
		{
			reader->has_text[i] = true;
			return 'x';
		}
	if (ends_with(name, "时间"))
		return 't';
	if (bill_find(cell, "元") != NULL || ends_with(name, "金额") || bytes_are(name, "手续费"))
		return 'n';
	return ' ';
}

static bool
place_column(SmBillReader *reader, SmBytes cell, int at)
{
	SmBytes name = bill_base_name(cell);

	for (int field = 0; field < BILL_FIELDS; field++)
	{
		const char *wanted = reader->form->names[field];

		if (wanted == NULL || !bytes_are(name, wanted))
			continue;
		if (reader->column[field] >= 0)
			return bill_refuse(reader, BILL_COLUMN, "the column %s stands there twice", wanted);
		reader->column[field] = at;
	}
	return true;
}

static bool
has_needed(SmBillReader *reader)
{
	for (int field = 0; field < BILL_FIELDS; field++)
		if ((reader->form->needed & 1U << field) != 0 && reader->column[field] < 0)
			return bill_refuse(reader, BILL_COLUMN, "the column %s is missing",
							   reader->form->names[field]);
	return true;
}

static bool
read_header(SmBillReader *reader, SmBytes line)
{
	SmBytes cells[BILL_CELLS_MAX];

	reader->n_columns = bill_cells_comma(line, cells);
	memset(reader->has_text, 0, sizeof(reader->has_text));
	for (int field = 0; field < BILL_FIELDS; field++)
		reader->column[field] = -1;
	for (int i = 0; i < reader->n_columns; i++)
	{
		reader->type[i] = column_type(reader, cells[i]);
		if (!place_column(reader, cells[i], i))
			return false;
	}
	if (reader->column[BILL_F_TRANSACTION] < 0)
		return bill_refuse(reader, BILL_STRANGE, "it has no column %s but begins with: %.*s",
						   reader->form->names[BILL_F_TRANSACTION], shown(line), line.at);
	return has_needed(reader);
}

/*
 * Begins to read a text; another one after the first goes on with its sums and line numbers. False
 * when it is no bill of this provider.
 */
bool
bill_open(SmBillReader *reader, const char *text, size_t size)
{
	SmBytes line;

	bill_lines_begin(&reader->lines, text, size, reader->lines.number);
	reader->ended = false;
	memset(reader->tally, 0, sizeof(reader->tally));
	if (!reader->form->find_header(reader, &line))
		return bill_refuse(reader, BILL_STRANGE, "it has no column %s and no lines",
						   reader->form->names[BILL_F_TRANSACTION]);
	return read_header(reader, line);
}

/*
 * Whether a cell can stand in a column. Where a place is looked for, numbers and times must be
 * there, but for the times of a refund under way.
 */
static bool
fits(const SmBillReader *reader, int column, SmBytes cell)
{
	char type = reader->type[column];
	SmBillNumber number;
	int64_t unix_s;

	if (type == 't' && bill_trim(cell).length == 0)
		return column == reader->column[BILL_F_REFUND_DONE] ||
			   column == reader->column[BILL_F_REFUND_ASKED];
	if (type == 't')
		return bill_time(cell, &unix_s);
	return type != 'n' || bill_number(cell, &number);
}

/*
 * Tries all ways to give the surplus cells to free texts, from a column on and with so many given
 * away already.
 */
static void
try_join(Join *join, int column, int given)
{
	const SmBillReader *reader = join->reader;

	if (column == reader->n_columns)
	{
		if (given == join->surplus && join->n_ways++ == 0)
			memcpy(join->found, join->extra, sizeof(join->found));
		return;
	}
	if (reader->type[column] == 'x')
		for (int n = 0; n <= join->surplus - given; n++)
		{
			join->extra[column] = n;
			try_join(join, column + 1, given + n);
		}
	else if (fits(reader, column, join->cells[column + given]))
		try_join(join, column + 1, given);
}

/*
 * Joins the cells that separators inside of free texts made. Only where there is exactly one way
 * to do it: a guess about money is worse than no answer.
 */
static bool
join_cells(const SmBillReader *reader, SmBytes *cells, int n_cells)
{
	Join join = {.reader = reader, .cells = cells, .surplus = n_cells - reader->n_columns};

	if (join.surplus > MOST_SURPLUS)
		return false;
	try_join(&join, 0, 0);
	if (join.n_ways != 1)
		return false;
	for (int i = 0, from = 0; i < reader->n_columns; i++, from++)
	{
		const char *at = cells[from].at;

		from += join.found[i];
		cells[i].length = (size_t) (cells[from].at + cells[from].length - at);
		cells[i].at = at;
	}
	return true;
}

static bool
split_line(SmBillReader *reader, SmBytes line, SmBytes cells[BILL_CELLS_MAX])
{
	int n_cells = reader->form->cells(line, cells);

	if (n_cells == reader->n_columns)
		return true;
	if (n_cells > reader->n_columns && join_cells(reader, cells, n_cells))
		return true;
	if (n_cells < 0)
		return bill_refuse(reader, BILL_CELLS, "it is no line of a bill: %.*s", shown(line),
						   line.at);
	return bill_refuse(reader, BILL_CELLS, "it has %d cells, the header has %d", n_cells,
					   reader->n_columns);
}

/*
 * A line's cell; without bytes where the bill has no such column.
 */
SmBytes
bill_cell(const SmBillReader *reader, const SmBytes *cells, SmBillField field)
{
	SmBytes none = {"", 0};

	return reader->column[field] < 0 ? none : bill_trim(cells[reader->column[field]]);
}

/*
 * A cell's number; an empty cell is nothing.
 */
bool
bill_amount(SmBillReader *reader, const SmBytes *cells, SmBillField field, SmBillNumber *number)
{
	SmBytes cell = bill_cell(reader, cells, field);

	number->millionths = 0;
	number->decimals = 2;
	if (cell.length == 0 || bill_number(cell, number))
		return true;
	return bill_refuse(reader, BILL_NUMBER, "%s is no number: \"%.*s\"", reader->form->names[field],
					   shown(cell), cell.at);
}

/*
 * Reads when it happened; only a line of a kind we do not know need not say so.
 */
bool
bill_instant(SmBillReader *reader, SmBytes cell, SmBillRecord *record)
{
	record->happened_s = BILL_NO_TIME;
	if ((cell.length == 0 && record->kind == BILL_OTHER) || bill_time(cell, &record->happened_s))
		return true;
	return bill_refuse(reader, BILL_TIME, "\"%.*s\" is no time", shown(cell), cell.at);
}

/*
 * An identifier; "0" is WeChat Pay's way to say that there is none.
 */
static SmBytes
id_cell(const SmBillReader *reader, const SmBytes *cells, SmBillField field)
{
	SmBytes cell = bill_cell(reader, cells, field);

	if (bytes_are(cell, "0"))
		cell.length = 0;
	return cell;
}

/*
 * Adds a line's printed numbers to the sums of its kind.
 */
static bool
count_line(SmBillReader *reader, const SmBytes *cells, SmBillKind kind)
{
	SmBillTally *tally = &reader->tally[kind];
	SmBillNumber number;

	tally->lines++;
	reader->all_lines[kind]++;
	for (int field = BILL_F_AMOUNT; field <= BILL_F_REFUND_SETTLED; field++)
	{
		int64_t *sum = &tally->sums[field];

		if (!bill_amount(reader, cells, (SmBillField) field, &number))
			return false;
		*sum += number.millionths;
		if (*sum > MOST_SUM || *sum < -MOST_SUM)
			return bill_refuse(reader, BILL_NUMBER, "the sum of %s is too large",
							   reader->form->names[field]);
	}
	return true;
}

/*
 * What moved money says whose it is, which transaction it was and how much: an empty cell is not
 * nothing there.
 */
static bool
is_complete(SmBillReader *reader, const SmBytes *cells, const SmBillRecord *record)
{
	SmBillField amount = record->kind == BILL_REFUND && reader->column[BILL_F_REFUND_SETTLED] >= 0
							 ? BILL_F_REFUND_SETTLED
							 : BILL_F_AMOUNT;

	if (record->kind == BILL_OTHER)
		return true;
	if (record->transaction.length == 0 || record->account.length == 0)
		return bill_refuse(reader, BILL_CELLS, "its %s or account is empty",
						   reader->form->names[BILL_F_TRANSACTION]);
	if (bill_cell(reader, cells, amount).length == 0)
		return bill_refuse(reader, BILL_NUMBER, "%s is empty", reader->form->names[amount]);
	return true;
}

static bool
read_record(SmBillReader *reader, SmBytes line, SmBillRecord *record)
{
	SmBytes cells[BILL_CELLS_MAX];

	if (!split_line(reader, line, cells))
		return false;
	record->line = reader->lines.number;
	record->raw = line;
	record->account = reader->column[BILL_F_ACCOUNT] < 0 ? reader->account
														 : id_cell(reader, cells, BILL_F_ACCOUNT);
	record->transaction = id_cell(reader, cells, BILL_F_TRANSACTION);
	record->out_trade_no = id_cell(reader, cells, BILL_F_ORDER);
	record->refund_no = id_cell(reader, cells, BILL_F_REFUND_NO);
	record->provider_refund = id_cell(reader, cells, BILL_F_PROVIDER_REFUND);
	record->subject = bill_cell(reader, cells, BILL_F_SUBJECT);
	if (!reader->form->judge(reader, cells, record) || !is_complete(reader, cells, record))
		return false;
	if (record->amount.millionths < 0)
		record->amount.millionths = -record->amount.millionths;
	return count_line(reader, cells, record->kind);
}

/*
 * The next detail line.
 */
SmBillStep
bill_next(SmBillReader *reader, SmBillRecord *record)
{
	SmBytes line;
	SmBillStep step = reader->form->next_line(reader, &line);

	if (step == BILL_RECORD && !read_record(reader, line, record))
		step = BILL_FAILED;
	return reader->fault != BILL_FINE ? BILL_FAILED : step;
}

/*
 * Millionths as people write them.
 */
static void
print_decimal(int64_t millionths, char text[32])
{
	uint64_t value = millionths < 0 ? -(uint64_t) millionths : (uint64_t) millionths;
	int length = snprintf(text, 32, "%s%" PRIu64 ".%06" PRIu64, millionths < 0 ? "-" : "",
						  value / 1000000, value % 1000000);

	while (text[length - 1] == '0')
		text[--length] = '\0';
	if (text[length - 1] == '.')
		text[--length] = '\0';
}

/*
 * Compares one of the file's totals, in millionths, with what its lines add up to.
 */
bool
bill_equal(SmBillReader *reader, const char *what, int64_t said, int64_t counted)
{
	char said_text[32];
	char counted_text[32];

	if (said == counted)
		return true;
	print_decimal(said, said_text);
	print_decimal(counted, counted_text);
	return bill_refuse(reader, BILL_SUM, "%s is %s there, the lines add up to %s", what, said_text,
					   counted_text);
}
