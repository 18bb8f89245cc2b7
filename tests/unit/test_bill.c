/*
 * test_bill.c - bill files of the payment providers: unpacked, split, read and added up
 */
/* links: extension/bill_file.c extension/bill_text.c extension/bill_read.c extension/bill_alipay.c extension/bill_wechat.c extension/alipay_form.c */
/* libs: -lzip -lz */
#include <stdlib.h>

#include <zip.h>
#include <zlib.h>

#include "../../extension/bill_read.h"
#include "test_poller_tap.h"

#define LIMIT ((size_t) 1 << 20)

static SmBytes
bytes(const char *text)
{
	SmBytes result = {text, strlen(text)};

	return result;
}

/* A text in a buffer of exactly its size, so that one byte too far is noticed. */
static char *
exactly(const char *text, size_t *size)
{
	char *copy;

	*size = strlen(text);
	copy = malloc(*size == 0 ? 1 : *size);
	memcpy(copy, text, *size);
	return copy;
}

static size_t
pack_gzip(const char *text, size_t length, char *packed, size_t room)
{
	z_stream stream = {0};

	deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
	stream.next_in = (Bytef *) text;
	stream.avail_in = (uInt) length;
	stream.next_out = (Bytef *) packed;
	stream.avail_out = (uInt) room;
	deflate(&stream, Z_FINISH);
	deflateEnd(&stream);
	return room - stream.avail_out;
}

/* An archive of so many entries with the same text. */
static size_t
pack_zip(int n_entries, const char *text, size_t length, char *packed, size_t room)
{
	zip_error_t error;
	zip_source_t *target;
	zip_t *archive;
	zip_int64_t size;
	char name[16];

	zip_error_init(&error);
	target = zip_source_buffer_create(NULL, 0, 0, &error);
	zip_source_keep(target);
	archive = zip_open_from_source(target, ZIP_TRUNCATE, &error);
	for (int i = 0; i < n_entries; i++)
	{
		snprintf(name, sizeof(name), "%d.csv", i);
		zip_file_add(archive, name, zip_source_buffer(archive, text, length, 0), 0);
	}
	zip_close(archive);
	zip_source_open(target);
	size = zip_source_read(target, packed, room);
	zip_source_close(target);
	zip_source_free(target);
	return (size_t) size;
}

static void
test_plain(void)
{
	SmBillFile file;

	ok(bill_unpack("", 0, LIMIT, &file) == BILL_FINE && file.n_entries == 1 &&
		   file.entries[0].size == 0,
	   "nothing is a text of nothing");
	ok(bill_unpack("abc", 3, 3, &file) == BILL_FINE && file.entries[0].size == 3,
	   "what is not packed is as it is");
	bill_file_free(&file);
	ok(bill_unpack("abc", 3, 2, &file) == BILL_PLAIN_LARGE, "up to the limit");
	ok(bill_unpack("PK\5\6", 4, LIMIT, &file) == BILL_CORRUPT, "half an archive is none");
}

static void
test_gzip(void)
{
	char text[3000];
	char packed[4096];
	SmBillFile file;
	size_t size;
	int n_bad = 0;

	memset(text, 'x', sizeof(text));
	size = pack_gzip(text, sizeof(text), packed, sizeof(packed));
	ok(bill_unpack(packed, size, sizeof(text), &file) == BILL_FINE &&
		   file.entries[0].size == sizeof(text) &&
		   memcmp(file.entries[0].data, text, sizeof(text)) == 0,
	   "gzip is unpacked");
	bill_file_free(&file);
	ok(bill_unpack(packed, size, sizeof(text) - 1, &file) == BILL_PLAIN_LARGE, "up to the limit");
	for (size_t cut = 2; cut < size; cut++)
		n_bad += bill_unpack(packed, cut, LIMIT, &file) == BILL_CORRUPT;
	ok(n_bad == (int) size - 2, "cut anywhere it is damaged");
	memcpy(packed + size, packed, size);
	ok(bill_unpack(packed, 2 * size, LIMIT, &file) == BILL_FINE &&
		   file.entries[0].size == 2 * sizeof(text),
	   "two members are one text");
	bill_file_free(&file);
	packed[size - 5] ^= 1;
	ok(bill_unpack(packed, size, LIMIT, &file) == BILL_CORRUPT, "the checksum counts");
}

static void
test_zip(void)
{
	char text[3000];
	char *packed = malloc(16384);
	SmBillFile file;
	size_t size;
	int n_good = 0;

	memset(text, 'x', sizeof(text));
	size = pack_zip(2, text, sizeof(text), packed, 16384);
	ok(bill_unpack(packed, size, 2 * sizeof(text), &file) == BILL_FINE && file.n_entries == 2 &&
		   file.entries[1].size == sizeof(text) &&
		   memcmp(file.entries[1].data, text, sizeof(text)) == 0,
	   "both entries are unpacked");
	bill_file_free(&file);
	bill_file_free(&file);
	ok(bill_unpack(packed, size, 2 * sizeof(text) - 1, &file) == BILL_PLAIN_LARGE,
	   "the limit is for all together");
	for (size_t cut = 4; cut < size; cut++)
	{
		n_good += bill_unpack(packed, cut, LIMIT, &file) == BILL_FINE;
		bill_file_free(&file);
	}
	ok(n_good == 0, "cut anywhere it is damaged");
	size = pack_zip(BILL_ENTRIES_MAX, "1", 1, packed, 16384);
	ok(bill_unpack(packed, size, LIMIT, &file) == BILL_FINE && file.n_entries == BILL_ENTRIES_MAX,
	   "so many entries");
	bill_file_free(&file);
	size = pack_zip(BILL_ENTRIES_MAX + 1, "1", 1, packed, 16384);
	ok(bill_unpack(packed, size, LIMIT, &file) == BILL_MANY_ENTRIES, "and no more");
	free(packed);
}

static void
test_lines(void)
{
	static const char text[] = "\xef\xbb\xbf"
							   "one\r\n\ntwo\r\r\nlast";
	static const char *const wanted[] = {"one", "", "two\r", "last"};
	SmBillLines lines;
	SmBytes line;
	size_t size;
	char *copy = exactly(text, &size);
	int n = 0;

	bill_lines_begin(&lines, copy, size, 0);
	while (bill_line(&lines, &line))
		ok(bytes_are(line, wanted[n]) && lines.number == ++n, "a line");
	ok(n == 4, "all of them");
	bill_lines_begin(&lines, NULL, 0, 7);
	ok(!bill_line(&lines, &line), "no text has no line");
	free(copy);
}

static void
is_split(const char *text, const char *wanted)
{
	SmBytes cells[BILL_CELLS_MAX];
	size_t size;
	char *copy = exactly(text, &size);
	SmBytes line = {copy, size};
	int n = bill_cells_comma(line, cells);
	char found[200] = "";
	char plain[100];

	for (int i = 0; i < n; i++)
	{
		size_t length = bill_unquote(line, cells[i], plain);

		snprintf(found + strlen(found), sizeof(found) - strlen(found), "[%.*s]", (int) length,
				 plain);
	}
	is_text(found, wanted, text);
	free(copy);
}

static void
test_cells(void)
{
	SmBytes cells[BILL_CELLS_MAX];
	char many[BILL_CELLS_MAX + 2];

	is_split("", "[]");
	is_split("a,b,", "[a][b][]");
	is_split("\"a,b\",c", "[a,b][c]");
	is_split("\"a\"\"b\",\"\"", "[a\"b][]");
	is_split("\"a\"\",\"\"b\"", "[a\",\"b]");
	is_split("\"a,b", "[\"a][b]");
	is_split("\"", "[\"]");
	is_split("\"\"\"", "[\"\"\"]");
	is_split("a\"b\",c", "[a\"b\"][c]");
	is_split("\"a\"b,c", "[\"a\"b][c]");
	ok(bill_cells_backtick(bytes("`a,`b,c,`"), cells) == 3 && bytes_are(cells[1], "b,c") &&
		   cells[2].length == 0,
	   "backticks");
	ok(bill_cells_backtick(bytes("a,`b"), cells) == -1 &&
		   bill_cells_backtick(bytes(""), cells) == -1,
	   "without one it is no line");
	memset(many, ',', sizeof(many));
	many[BILL_CELLS_MAX - 1] = '\0';
	ok(bill_cells_comma(bytes(many), cells) == BILL_CELLS_MAX, "so many cells");
	many[BILL_CELLS_MAX - 1] = ',';
	many[BILL_CELLS_MAX] = '\0';
	ok(bill_cells_comma(bytes(many), cells) == -1, "and no more");
}

static void
test_numbers(void)
{
	static const struct
	{
		const char *text;
		int64_t millionths;
		int decimals;
	} good[] = {{"0", 0, 0},
				{"-0.00", 0, 2},
				{" 12.30\t", 12300000, 2},
				{"-30.01", -30010000, 2},
				{"0.00001", 10, 5},
				{"999999999999.999999", 999999999999999999, 6}};
	static const char *const bad[] = {"",      "-",   "+1",        ".5",           "5.",
									  "1,000", "1e3", "1.2.3",     "0x1",          "--1",
									  "1 2",   "NaN", "1.0000001", "1234567890123"};
	SmBillNumber number;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(bill_number(bytes(good[i].text), &number) && number.millionths == good[i].millionths &&
			   number.decimals == good[i].decimals,
		   good[i].text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!bill_number(bytes(bad[i]), &number), "and this is none");
}

static void
test_times(void)
{
	static const char *const bad[] = {"",
									  "2026-03-22",
									  "2026-02-29 00:00:00",
									  "2026-13-01 00:00:00",
									  "2026-00-01 00:00:00",
									  "1999-12-31 00:00:00",
									  "2026-03-22 24:00:00",
									  "2026-03-22 23:60:00",
									  "2026-03-22 23:59:60",
									  "2026-03-22 1:02:03",
									  "2026-03-22T01:02:03",
									  "2026-03-22 01:02:03+08",
									  "20260-03-22 01:02:03",
									  "2026/03/22 01:02:03"};
	int64_t at;

	ok(bill_time(bytes("2026-03-22 23:59:59"), &at) && at == 1774195199, "China's time");
	ok(bill_time(bytes("2000-02-29  08:00:00\t"), &at) && at == 951782400, "a leap day");
	ok(bill_time(bytes("9999-12-31 23:59:59"), &at) && at == 253402271999, "the last one");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!bill_time(bytes(bad[i]), &at), "and this is none");
}

/* Reads a whole text: its lines as KIND AMOUNT FEE SETTLED, in cents, and how it ends. */
static void
is_read(const SmBillForm *form, const char *text, const char *wanted)
{
	static const char kinds[] = "pro";
	static const char *const ends[] = {
		[BILL_FINE] = "fine",   [BILL_STRANGE] = "strange", [BILL_COLUMN] = "column",
		[BILL_CELLS] = "cells", [BILL_NUMBER] = "number",   [BILL_UNFINISHED] = "unfinished",
		[BILL_SUM] = "sum"};
	char said[1000];
	static SmBillReader reader;
	SmBillRecord record;
	size_t size;
	char *copy = exactly(text, &size);

	said[0] = '\0';
	bill_reader_init(&reader, form);
	if (bill_open(&reader, copy, size))
		while (bill_next(&reader, &record) == BILL_RECORD)
			snprintf(said + strlen(said), sizeof(said) - strlen(said), "%c %lld %lld %lld; ",
					 kinds[record.kind], (long long) record.amount.millionths / 10000,
					 (long long) record.fee.millionths / 10000,
					 (long long) record.settled.millionths / 10000);
	snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s", ends[reader.fault]);
	free(copy);
	is_text(said, wanted, form->provider);
}

#define ALIPAY_HEAD                                                                                                             \
	"#账号：[20881117373712940156]\n支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间," \
	"对方账户,订单金额（元）,商家实收（元）,退款批次号/请求号,服务费（元）,备注\n"
#define ALIPAY_LINE \
	"T1\t,P1\t,交易,电,费,2026-03-22 10:00:00,2026-03-22 10:00:01,x,50.00,45.00,\t,-0.27,a,b\n"
#define ALIPAY_BACK \
	"T1\t,P1\t,退款,电费,2026-03-22 10:00:00,2026-03-22 10:00:01,x,-5.00,-4.50,R1\t,0.03,\n"
#define ALIPAY_END "#----业务明细列表结束----\n"

static void
test_alipay(void)
{
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_LINE ALIPAY_BACK ALIPAY_END,
			"p 5000 27 4500; r 500 -3 -450; fine");
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_END, "fine");
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_LINE, "p 5000 27 4500; unfinished");
	is_read(&bill_alipay,
			ALIPAY_HEAD ALIPAY_LINE ALIPAY_END "#交易合计：1笔，商家实收共45.00元\n"
											   "#退款合计：0笔，商家实收退款共0.00元\n",
			"p 5000 27 4500; fine");
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_LINE ALIPAY_END "#交易合计：1笔，交易金额共50.00元\n",
			"p 5000 27 4500; fine");
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_LINE ALIPAY_END "#交易合计：2笔\n",
			"p 5000 27 4500; sum");
	is_read(&bill_alipay, ALIPAY_HEAD ALIPAY_LINE ALIPAY_END "#退款合计：0笔，退款共-1元\n",
			"p 5000 27 4500; sum");
	is_read(&bill_alipay, "", "strange");
	is_read(&bill_alipay, "#账号：[2088\n", "strange");
	is_read(&bill_alipay, "a,b\n", "strange");
	is_read(&bill_alipay, "支付宝交易号\n", "column");
}

#define WECHAT_HEAD                                                                                                                 \
	"交易时间,商户号,微信订单号,商户订单号,交易状态,应结订单金额,微信退款单号,商户退款单号," \
	"退款金额,退款状态,商品名称,手续费,费率,订单金额,申请退款金额,费率备注\r\n"
#define WECHAT_LINE                                                                              \
	"`2026-03-22 10:00:00,`16,`T1,`P1,`SUCCESS,`45.00,`0,`0,`0.00,`,`电,`费,`0.27000,`0.60%,`" \
	"50.00,`0.00,`\r\n"
#define WECHAT_BACK                                                                                \
	"`2026-03-22 10:00:00,`16,`T1,`P1,`REFUND,`0.00,`W1,`R1,`4.50,`SUCCESS,`电费,`-0.03,`0.60%," \
	"`0.00,`5.00,`\r\n"
#define WECHAT_END "总交易单数,应结订单总金额,退款总金额,手续费总金额,订单总金额\r\n"

static void
test_wechat(void)
{
	is_read(&bill_wechat,
			"\xef\xbb\xbf" WECHAT_HEAD WECHAT_LINE WECHAT_BACK WECHAT_END
			"`2.0,`45,`4.5,`0.24,`50.00\r\n",
			"p 5000 27 4500; r 500 -3 -450; fine");
	is_read(&bill_wechat, WECHAT_HEAD WECHAT_END "`0,`0,`0,`0,`0", "fine");
	is_read(&bill_wechat, WECHAT_HEAD WECHAT_END, "unfinished");
	is_read(&bill_wechat, WECHAT_HEAD WECHAT_LINE, "p 5000 27 4500; unfinished");
	is_read(&bill_wechat, WECHAT_HEAD WECHAT_LINE WECHAT_END "`1,`45,`0,`0.28,`50\n",
			"p 5000 27 4500; sum");
	is_read(&bill_wechat, WECHAT_HEAD WECHAT_LINE WECHAT_END "`1,`45,`0,`x,`50\n",
			"p 5000 27 4500; number");
	is_read(&bill_wechat, WECHAT_HEAD "`a\n", "cells");
	is_read(&bill_wechat, "交易时间,微信订单号\n", "column");
	is_read(&bill_wechat, "", "strange");
}

static void
test_summary(void)
{
	static const char totals[] =
		"#业务汇总\n门店编号,交易订单总笔数,退款订单总笔数\n1,1,0\n合计\t,1,0\n";
	static const char wrong[] = "门店编号,交易订单总笔数,退款订单总笔数\n合计\t,1,1\n";
	static SmBillReader reader;
	SmBillRecord record;

	bill_reader_init(&reader, &bill_alipay);
	ok(bill_is_detail(ALIPAY_HEAD, strlen(ALIPAY_HEAD)) &&
		   !bill_is_detail(totals, strlen(totals)) && !bill_is_detail("", 0),
	   "details and totals are told apart");
	bill_open(&reader, ALIPAY_HEAD ALIPAY_LINE ALIPAY_END,
			  strlen(ALIPAY_HEAD ALIPAY_LINE ALIPAY_END));
	while (bill_next(&reader, &record) == BILL_RECORD)
		;
	ok(bill_check_summary(&reader, totals, strlen(totals)), "totals that fit");
	ok(!bill_check_summary(&reader, wrong, strlen(wrong)) && reader.fault == BILL_SUM &&
		   strstr(reader.said, "退款订单总笔数 is 1 there, the lines add up to 0") != NULL,
	   "totals that do not");
}

int
main(void)
{
	test_plain();
	test_gzip();
	test_zip();
	test_lines();
	test_cells();
	test_numbers();
	test_times();
	test_alipay();
	test_wechat();
	test_summary();
	return tap_done();
}
