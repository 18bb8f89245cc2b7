/*
 * bill_alipay.c - the trade bill of Alipay
 *
 * Comment lines begin with #: title, account, period before the header; the end and totals after
 * the details. Cells stand between commas and often end with a TAB. The archive has a second text
 * with the totals by shop. Its counts are compared; whether its amounts are before or after refunds
 * is documented nowhere, so they are not.
 */
#include "bill_read.h"

#include <stdlib.h>
#include <string.h>

#define BIT(field) (1U << (field))

/*
 * The seller in "#账号：[20880000000000010156]": its number and, behind that, 0156 for the currency.
 */
static void
read_account(SmBillReader *reader, SmBytes line)
{
	const char *open = memchr(line.at, '[', line.length);
	const char *end = line.at + line.length;
	SmBytes account = {"", 0};

	if (open == NULL || bill_find(line, "账号") == NULL)
		return;
	account.at = open + 1;
	while (account.at + account.length < end && account.at[account.length] >= '0' &&
		   account.at[account.length] <= '9')
		account.length++;
	if (account.length == 20 && memcmp(account.at + 16, "0156", 4) == 0)
		account.length = 16;
	if (account.length == 16)
		reader->account = account;
}

static bool
find_header(SmBillReader *reader, SmBytes *line)
{
	reader->account.length = 0;
	while (bill_line(&reader->lines, line))
	{
		if (bill_starts(*line, "#"))
			read_account(reader, *line);
		else if (bill_trim(*line).length > 0)
			return true;
	}
	return false;
}

/*
 * The number after a word, which ends at another one.
 */
static bool
number_between(SmBytes line, const char *before, const char *behind, SmBillNumber *number)
{
	const char *at = bill_find(line, before);
	SmBytes rest, cell;
	const char *end;

	if (at == NULL)
		return false;
	rest.at = at + strlen(before);
	rest.length = (size_t) (line.at + line.length - rest.at);
	end = bill_find(rest, behind);
	if (end == NULL)
		return false;
	cell.at = rest.at;
	cell.length = (size_t) (end - rest.at);
	return bill_number(cell, number);
}

/*
 * Whether a total is that of a kind's lines. Nobody says whether Alipay counts lines of kinds we do
 * not know among its trades, so both are right.
 */
static bool
check_kind(SmBillReader *reader, const char *what, int64_t said, int64_t counted, int64_t others)
{
	return said == counted + others || bill_equal(reader, what, said, counted);
}

/*
 * "#交易合计：6笔，商家实收共0.06元，…" and "#退款合计：4笔，商家实收退款共-0.04元，…".
 */
static bool
check_footer(SmBillReader *reader, SmBytes line, const char *word, SmBillKind kind)
{
	const SmBillTally *tally = &reader->tally[kind];
	const SmBillTally *others = &reader->tally[BILL_OTHER];
	SmBillField field = bill_find(line, "商家实收") != NULL ? BILL_F_SETTLED : BILL_F_AMOUNT;
	const char *at = bill_find(line, word);
	SmBillNumber said;
	SmBytes rest;

	if (at == NULL)
		return true;
	rest.at = at + strlen(word);
	rest.length = (size_t) (line.at + line.length - rest.at);
	/* The colon is one of either width. */
	if (!number_between(rest, bill_starts(rest, ":") ? ":" : "：", "笔", &said))
		return true;
	if (!check_kind(reader, word, said.millionths, tally->lines * 1000000, others->lines * 1000000))
		return false;
	if (!number_between(rest, "共", "元", &said))
		return true;
	/* Refunds are printed with a minus or, in older files, without. */
	return check_kind(reader, word, llabs(said.millionths), llabs(tally->sums[field]),
					  llabs(others->sums[field]));
}

static SmBillStep
next_line(SmBillReader *reader, SmBytes *line)
{
	while (bill_line(&reader->lines, line))
	{
		if (bill_trim(*line).length == 0)
			continue;
		if (!bill_starts(*line, "#"))
			return BILL_RECORD;
		if (bill_find(*line, "列表结束") != NULL)
			reader->ended = true;
		if (!check_footer(reader, *line, "交易合计", BILL_PAYMENT) ||
			!check_footer(reader, *line, "退款合计", BILL_REFUND))
			return BILL_FAILED;
	}
	if (!reader->ended)
		bill_refuse(reader, BILL_UNFINISHED, "the line that ends the list is missing");
	return BILL_END;
}

/*
 * A line whose sign does not fit its kind is none we know.
 */
static SmBillKind
kind_of(SmBytes cell, int64_t amount)
{
	if (bytes_are(cell, "交易") && amount >= 0)
		return BILL_PAYMENT;
	if (bytes_are(cell, "退款") && amount <= 0)
		return BILL_REFUND;
	return BILL_OTHER;
}

static bool
judge(SmBillReader *reader, const SmBytes *cells, SmBillRecord *record)
{
	if (reader->account.length == 0)
		return bill_refuse(reader, BILL_STRANGE, "the line with the account is missing before it");
	record->account = reader->account;
	if (!bill_amount(reader, cells, BILL_F_AMOUNT, &record->amount) ||
		!bill_amount(reader, cells, BILL_F_SETTLED, &record->settled) ||
		!bill_amount(reader, cells, BILL_F_FEE, &record->fee))
		return false;
	record->kind = kind_of(bill_cell(reader, cells, BILL_F_KIND), record->amount.millionths);
	/* Printed is what the balance changes by. */
	record->fee.millionths = -record->fee.millionths;
	return bill_instant(reader, bill_cell(reader, cells, BILL_F_TIME), record);
}

const SmBillForm bill_alipay = {
	.provider = "Alipay",
	.names =
		{
			[BILL_F_TRANSACTION] = "支付宝交易号",
			[BILL_F_ORDER] = "商户订单号",
			[BILL_F_KIND] = "业务类型",
			[BILL_F_SUBJECT] = "商品名称",
			[BILL_F_TIME] = "完成时间",
			[BILL_F_AMOUNT] = "订单金额",
			[BILL_F_SETTLED] = "商家实收",
			[BILL_F_FEE] = "服务费",
			[BILL_F_REFUND_NO] = "退款批次号",
		},
	.needed = BIT(BILL_F_TRANSACTION) | BIT(BILL_F_ORDER) | BIT(BILL_F_KIND) | BIT(BILL_F_TIME) |
			  BIT(BILL_F_AMOUNT) | BIT(BILL_F_SETTLED) | BIT(BILL_F_FEE) | BIT(BILL_F_REFUND_NO),
	.texts = {"商品名称", "对方账户", "券名称", "备注"},
	.cells = bill_cells_comma,
	.find_header = find_header,
	.next_line = next_line,
	.judge = judge,
};

/*
 * True for the text with the detail lines, false for that with the totals.
 */
bool
bill_is_detail(const char *text, size_t size)
{
	SmBillLines lines;
	SmBytes line;

	bill_lines_begin(&lines, text, size, 0);
	while (bill_line(&lines, &line))
		if (!bill_starts(line, "#") && bill_trim(line).length > 0)
			return bill_find(line, bill_alipay.names[BILL_F_TRANSACTION]) != NULL;
	return false;
}

static bool
check_count(SmBillReader *reader, SmBytes name, SmBytes cell)
{
	bool is_refunds = bytes_are(name, "退款订单总笔数");
	SmBillNumber said;

	if (!is_refunds && !bytes_are(name, "交易订单总笔数"))
		return true;
	if (!bill_number(cell, &said))
		return bill_refuse(reader, BILL_NUMBER, "a total is no number");
	return check_kind(reader, is_refunds ? "退款订单总笔数" : "交易订单总笔数", said.millionths,
					  reader->all_lines[is_refunds ? BILL_REFUND : BILL_PAYMENT] * 1000000,
					  reader->all_lines[BILL_OTHER] * 1000000);
}

/*
 * Compares the counts of the text with the totals, in its line 合计, with those of all lines read.
 */
bool
bill_check_summary(SmBillReader *reader, const char *text, size_t size)
{
	SmBytes names[BILL_CELLS_MAX];
	SmBytes cells[BILL_CELLS_MAX];
	SmBytes line;
	int n_names = 0;

	bill_lines_begin(&reader->lines, text, size, reader->lines.number);
	while (bill_line(&reader->lines, &line))
	{
		if (bill_starts(line, "#"))
			continue;
		if (n_names == 0 && bill_find(line, "总笔数") != NULL)
			n_names = bill_cells_comma(line, names);
		else if (n_names > 0 && bill_starts(line, "合计") &&
				 bill_cells_comma(line, cells) == n_names)
			for (int i = 0; i < n_names; i++)
				if (!check_count(reader, bill_base_name(names[i]), cells[i]))
					return false;
	}
	return true;
}
