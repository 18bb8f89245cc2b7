/*
 * bill.c - any bytes as a bill file: unpacked within the limit, and then as a text of either provider
 */
/* links: extension/bill_file.c extension/bill_text.c extension/bill_read.c extension/bill_alipay.c extension/bill_wechat.c extension/alipay_form.c */
/* libs: -lzip -lz */
#include <stdlib.h>
#include <string.h>

#include "../../extension/bill_read.h"

#define LIMIT ((size_t) 1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Every stretch lies inside of the line it was found in, or is none. */
static void
check_record(const SmBillRecord *record, const char *text, size_t size)
{
	const SmBytes *parts[] = {&record->transaction, &record->out_trade_no, &record->refund_no,
							  &record->provider_refund, &record->subject};

	if (record->raw.at < text || record->raw.at + record->raw.length > text + size)
		abort();
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (parts[i]->length > 0 &&
			(parts[i]->at < record->raw.at ||
			 parts[i]->at + parts[i]->length > record->raw.at + record->raw.length))
			abort();
	if (record->amount.millionths < 0 || record->amount.decimals > 6)
		abort();
}

static void
try_read(const SmBillForm *form, const char *text, size_t size)
{
	static SmBillReader reader;
	SmBillRecord record;
	SmBillStep step = BILL_FAILED;
	char *copy = malloc(size + 1);

	bill_reader_init(&reader, form);
	if (bill_open(&reader, text, size))
		while ((step = bill_next(&reader, &record)) == BILL_RECORD)
		{
			check_record(&record, text, size);
			if (bill_unquote(record.raw, record.subject, copy) > record.subject.length)
				abort();
		}
	if ((step == BILL_FAILED) != (reader.fault != BILL_FINE))
		abort();
	if (step == BILL_END && form == &bill_alipay)
		bill_check_summary(&reader, text, size);
	free(copy);
}

static void
try_text(const char *bytes, size_t size)
{
	/* As large as it is, so that one byte too far is noticed. */
	char *text = malloc(size == 0 ? 1 : size);

	if (size > 0)
		memcpy(text, bytes, size);
	(void) bill_is_detail(text, size);
	try_read(&bill_alipay, text, size);
	try_read(&bill_wechat, text, size);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	SmBillFile file;
	size_t unpacked = 0;

	if (bill_unpack((const char *) bytes, size, LIMIT, &file) != BILL_FINE)
		return 0;
	for (int i = 0; i < file.n_entries; i++)
	{
		unpacked += file.entries[i].size;
		try_text(file.entries[i].data, file.entries[i].size);
	}
	if (unpacked > LIMIT)
		abort();
	bill_file_free(&file);
	return 0;
}
