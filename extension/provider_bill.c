/*
 * provider_bill.c - bill files of the payment providers for SQL
 *
 * Unpacking and reading are in the pure files; here texts become UTF-8, lines become rows and what
 * is wrong with a file becomes one error. A text is turned into UTF-8 as a whole before it is read,
 * so that no byte of a Chinese character can be taken for a comma.
 */
#include "module.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "bill_read.h"

#define COLUMNS 13
#define CONVERT_PIECE (64 * 1024)
#define LINES_PER_LOOK 1024
#define UNIX_TO_POSTGRES_S ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* What is said of each fault, and what to do. */
static const struct
{
	const char *message;
	const char *hint;
} faults[] = {
	[BILL_PACKED_LARGE] = {"the bill file is too large",
						   "Pass the file of one day as the provider hands it out."},
	[BILL_PLAIN_LARGE] = {"the bill file is too large",
						  "Pass the file of one day as the provider hands it out."},
	[BILL_MANY_ENTRIES] = {"the bill file is no archive of a provider",
						   "Pass the archive as the provider hands it out, with its two texts."},
	[BILL_CORRUPT] = {"the bill file is damaged", "Download it again."},
	[BILL_LOCKED] = {"the bill file is locked with a password",
					 "Pass the archive as the provider hands it out, or the text in it."},
	[BILL_STRANGE] = {"the file is not a bill of %s",
					  "Pass the trade bill of a day, the ZIP or gzip file or the text in it."},
	[BILL_COLUMN] = {"the bill of %s does not have the columns it should",
					 "Download it anew; if it stays so, the provider has changed its bills."},
	[BILL_CELLS] = {"the bill of %s has a line that cannot be read",
					"Pass the file unchanged: not saved by a spreadsheet."},
	[BILL_NUMBER] = {"the bill of %s has a bad number",
					 "Pass the file unchanged: not saved by a spreadsheet."},
	[BILL_TIME] = {"the bill of %s has a bad time",
				   "Expected is a time such as 2026-03-22 23:59:59. Pass the file unchanged: not "
				   "saved by a spreadsheet."},
	[BILL_UNFINISHED] = {"the bill of %s is not whole", "Download it again."},
	[BILL_SUM] = {"the bill of %s does not add up",
				  "Download it again; if it stays so, ask the provider."},
	[BILL_BYTES] = {"the bill of %s is in a wrong character set",
					"Pass the file unchanged: WeChat Pay's is in UTF-8, Alipay's in GBK."},
};

/* Rows of one call. */
typedef struct Rows
{
	ReturnSetInfo *result;
	MemoryContext scratch;
} Rows;

/*
 * Says what is wrong with how the file is packed. Does not return.
 */
static void
refuse_file(SmBillFault fault, size_t size)
{
	if (fault == BILL_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("A bill file of %zu bytes could not be unpacked.", size)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg_internal("%s", faults[fault].message),
			 fault == BILL_CORRUPT || fault == BILL_LOCKED
				 ? errdetail("Its %zu bytes cannot be unpacked to their end.", size)
				 : errdetail("It has %zu bytes; read are at most %d MB packed, %d MB unpacked and "
							 "%d texts in an archive.",
							 size, (int) (BILL_PACKED_MAX >> 20), (int) (BILL_PLAIN_MAX >> 20),
							 BILL_ENTRIES_MAX),
			 errhint("%s", faults[fault].hint)));
}

/*
 * Says what is wrong with the text. Does not return.
 */
static void
refuse_text(const SmBillReader *reader)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(faults[reader->fault].message, reader->form->provider),
			 reader->fault_line > 0 ? errdetail("Line %d: %s.", reader->fault_line, reader->said)
									: errdetail("The file: %s.", reader->said),
			 errhint("%s", faults[reader->fault].hint)));
}

static void
free_file(void *file)
{
	bill_file_free(file);
}

/*
 * No file is not an empty day. Does not return.
 */
static void
refuse_null(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no bill file"),
					errdetail("The provider or the file is NULL."),
					errhint("Pass the name of the provider and the bytes of the file.")));
}

/*
 * Unpacks a file; what that took is given back with the caller's memory, whatever happens.
 */
static SmBillFile *
unpack(const bytea *packed)
{
	SmBillFile *file = palloc0(sizeof(SmBillFile));
	MemoryContextCallback *at_end = palloc0(sizeof(MemoryContextCallback));
	size_t size = VARSIZE_ANY_EXHDR(packed);
	SmBillFault fault;

	at_end->func = free_file;
	at_end->arg = file;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, at_end);
	fault = bill_unpack(VARDATA_ANY(packed), size, BILL_PLAIN_MAX, file);
	if (fault != BILL_FINE)
		refuse_file(fault, size);
	return file;
}

/*
 * Says on which line a text has other bytes than its character set. Does not return.
 */
static void
refuse_bytes(SmBillReader *reader, const char *text, size_t good, const char *charset)
{
	SmBillLines lines;
	SmBytes line;

	bill_lines_begin(&lines, text, good, reader->lines.number);
	while (bill_line(&lines, &line))
		;
	if (good == 0 || text[good - 1] == '\n')
		lines.number++;
	reader->lines.number = lines.number;
	bill_refuse(reader, BILL_BYTES, "it has bytes that are not %s", charset);
	refuse_text(reader);
}

/*
 * A text of Alipay in UTF-8. GB 18030 is GBK with more characters.
 */
static void
convert_text(SmBillReader *reader, SmBillEntry *text)
{
	Oid convert = FindDefaultConversionProc(PG_GB18030, PG_UTF8);
	/* Two bytes of GBK are three of UTF-8 at most; a piece asks for four times its size. */
	char *utf8 = MemoryContextAllocHuge(CurrentMemoryContext,
										text->size + text->size / 2 + 5 * CONVERT_PIECE);
	size_t done = 0;
	size_t length = 0;

	while (done < text->size)
	{
		int size = (int) Min(text->size - done, CONVERT_PIECE);
		int taken = pg_do_encoding_conversion_buf(
			convert, PG_GB18030, PG_UTF8, (unsigned char *) text->data + done, size,
			(unsigned char *) utf8 + length, 5 * CONVERT_PIECE, true);

		if (taken == 0)
			refuse_bytes(reader, text->data, done, "GBK");
		done += taken;
		length += strlen(utf8 + length);
	}
	text->data = utf8;
	text->size = length;
}

/*
 * Makes sure that a text is UTF-8. Alipay's is when somebody has saved it so; GBK with as much as
 * one Chinese header is not.
 */
static void
make_utf8(SmBillReader *reader, SmBillEntry *text)
{
	size_t good = (size_t) pg_encoding_verifymbstr(PG_UTF8, text->data, (int) text->size);

	if (good == text->size)
		return;
	if (reader->form != &bill_alipay)
		refuse_bytes(reader, text->data, good, "UTF-8");
	convert_text(reader, text);
}

static Datum
text_datum(const char *at, size_t length)
{
	char *text = unconstify(char *, at);

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char *terminated = pnstrdup(text, length);

		return PointerGetDatum(
			cstring_to_text(pg_any_to_server(terminated, (int) length, PG_UTF8)));
	}
	return PointerGetDatum(cstring_to_text_with_len(text, (int) length));
}

static Datum
id_datum(SmBytes id, bool *isnull)
{
	*isnull = id.length == 0;
	return *isnull ? (Datum) 0 : text_datum(id.at, id.length);
}

static Datum
subject_datum(const SmBillRecord *record, bool *isnull)
{
	char *subject = palloc(record->subject.length + 1);
	SmBytes unquoted = {subject, bill_unquote(record->raw, record->subject, subject)};

	return id_datum(unquoted, isnull);
}

/*
 * A number with as many decimals as were printed.
 */
static Datum
number_datum(SmBillNumber number)
{
	int64 value = number.millionths;

	for (int i = number.decimals; i < 6; i++)
		value /= 10;
	return NumericGetDatum(int64_div_fast_to_numeric(value, number.decimals));
}

static void
put_record(Rows *rows, const SmBillRecord *record)
{
	static const char *const kinds[] = {
		[BILL_PAYMENT] = "payment", [BILL_REFUND] = "refund", [BILL_OTHER] = "other"};
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	MemoryContext before = MemoryContextSwitchTo(rows->scratch);

	values[0] = Int32GetDatum(record->line);
	values[1] = id_datum(record->account, &nulls[1]);
	values[2] = PointerGetDatum(cstring_to_text(kinds[record->kind]));
	values[3] = id_datum(record->transaction, &nulls[3]);
	values[4] = id_datum(record->out_trade_no, &nulls[4]);
	values[5] = id_datum(record->refund_no, &nulls[5]);
	values[6] = id_datum(record->provider_refund, &nulls[6]);
	values[7] = number_datum(record->amount);
	values[8] = number_datum(record->fee);
	values[9] = number_datum(record->settled);
	nulls[10] = record->happened_s == BILL_NO_TIME;
	values[10] =
		nulls[10] ? (Datum) 0
				  : TimestampTzGetDatum((record->happened_s - UNIX_TO_POSTGRES_S) * USECS_PER_SEC);
	values[11] = subject_datum(record, &nulls[11]);
	values[12] = text_datum(record->raw.at, record->raw.length);
	MemoryContextSwitchTo(before);
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
	MemoryContextReset(rows->scratch);
}

static void
put_text(Rows *rows, SmBillReader *reader, const SmBillEntry *text)
{
	SmBillRecord record;
	SmBillStep step = BILL_RECORD;

	if (!bill_open(reader, text->data, text->size))
		refuse_text(reader);
	while ((step = bill_next(reader, &record)) == BILL_RECORD)
	{
		if (record.line % LINES_PER_LOOK == 0)
			CHECK_FOR_INTERRUPTS();
		put_record(rows, &record);
	}
	if (step == BILL_FAILED)
		refuse_text(reader);
}

/*
 * Reads the texts with detail lines, then those with Alipay's totals.
 */
static void
put_file(Rows *rows, SmBillReader *reader, SmBillFile *file)
{
	bool is_total[BILL_ENTRIES_MAX] = {false};
	SmBillEntry texts[BILL_ENTRIES_MAX];
	int n_details = 0;

	memcpy(texts, file->entries, sizeof(texts));
	for (int i = 0; i < file->n_entries; i++)
	{
		make_utf8(reader, &texts[i]);
		is_total[i] = reader->form == &bill_alipay && file->n_entries > 1 &&
					  !bill_is_detail(texts[i].data, texts[i].size);
		if (is_total[i])
			continue;
		put_text(rows, reader, &texts[i]);
		n_details++;
	}
	if (n_details == 0)
	{
		bill_refuse(reader, BILL_STRANGE, "none of the %d texts in it has detail lines",
					file->n_entries);
		refuse_text(reader);
	}
	for (int i = 0; i < file->n_entries; i++)
		if (is_total[i] && !bill_check_summary(reader, texts[i].data, texts[i].size))
			refuse_text(reader);
}

static const SmBillForm *
form_of(const text *provider)
{
	char *name = text_to_cstring(provider);

	if (strcmp(name, "alipay") == 0)
		return &bill_alipay;
	if (strcmp(name, "wechat") == 0)
		return &bill_wechat;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("provider \"%s\" has no bill files we know", name),
					errdetail("Known are those of alipay and wechat."),
					errhint("Pass one of these names.")));
}

SM_FUNCTION(submeter_provider_bill);

/*
 * submeter.provider_bill(provider, file)
 */
Datum
submeter_provider_bill(PG_FUNCTION_ARGS)
{
	SmBillReader *reader = palloc(sizeof(SmBillReader));
	SmBillFile *file;
	Rows rows;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		refuse_null();
	bill_reader_init(reader, form_of(PG_GETARG_TEXT_PP(0)));
	InitMaterializedSRF(fcinfo, 0);
	rows.result = (ReturnSetInfo *) fcinfo->resultinfo;
	rows.scratch =
		AllocSetContextCreate(CurrentMemoryContext, "line of a bill", ALLOCSET_DEFAULT_SIZES);
	file = unpack(PG_GETARG_BYTEA_PP(1));
	put_file(&rows, reader, file);
	bill_file_free(file);
	MemoryContextDelete(rows.scratch);
	return (Datum) 0;
}

SM_FUNCTION(submeter_bill_plain);

/*
 * submeter.bill_plain(file)
 */
Datum
submeter_bill_plain(PG_FUNCTION_ARGS)
{
	SmBillFile *file;
	bytea *plain;
	size_t size;

	if (PG_ARGISNULL(0))
		refuse_null();
	file = unpack(PG_GETARG_BYTEA_PP(0));
	size = file->n_entries == 0 ? 0 : file->entries[0].size;
	plain = palloc(VARHDRSZ + size);
	SET_VARSIZE(plain, VARHDRSZ + size);
	if (size > 0)
		memcpy(VARDATA(plain), file->entries[0].data, size);
	bill_file_free(file);
	PG_RETURN_BYTEA_P(plain);
}
