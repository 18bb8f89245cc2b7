/*
 * bill_wechat.c - the trade bill of WeChat Pay
 *
 * UTF-8 with a byte order mark: header, details, the header of the totals, their line. Values begin
 * with a backtick and are not quoted. Bills of successful payments only lack the columns of
 * refunds, bills of refunds have two more with the times a refund was asked for and done.
 */
#include "bill_read.h"

#define BIT(field) (1U << (field))

/* Totals, and the column whose sum each is. */
static const struct
{
	const char *name;
	SmBillField field;
} totals[] = {
	{"应结订单总金额", BILL_F_SETTLED},
	{"退款总金额", BILL_F_REFUND_SETTLED},
	{"手续费总金额", BILL_F_FEE},
	{"订单总金额", BILL_F_AMOUNT},
	{"申请退款总金额", BILL_F_REFUND_AMOUNT},
};

static bool
find_header(SmBillReader *reader, SmBytes *line)
{
	while (bill_line(&reader->lines, line))
		if (bill_trim(*line).length > 0)
			return true;
	return false;
}

static int64_t
sum_of(const SmBillReader *reader, SmBillField field)
{
	return reader->tally[BILL_PAYMENT].sums[field] + reader->tally[BILL_REFUND].sums[field] +
		   reader->tally[BILL_OTHER].sums[field];
}

static int64_t
count_of(const SmBillReader *reader)
{
	return reader->tally[BILL_PAYMENT].lines + reader->tally[BILL_REFUND].lines +
		   reader->tally[BILL_OTHER].lines;
}

static bool
check_total(SmBillReader *reader, SmBytes name, SmBytes cell)
{
	SmBillNumber said;

	if (!bill_number(cell, &said))
		return bill_refuse(reader, BILL_NUMBER, "a total is no number");
	if (bytes_are(name, "总交易单数"))
		return bill_equal(reader, "总交易单数", said.millionths, count_of(reader) * 1000000);
	for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		if (bytes_are(name, totals[i].name) && reader->column[totals[i].field] >= 0)
			return bill_equal(reader, totals[i].name, said.millionths,
							  sum_of(reader, totals[i].field));
	return true;
}

/*
 * Compares the line of the totals, which follows on their header.
 */
static SmBillStep
check_totals(SmBillReader *reader, SmBytes header)
{
	SmBytes names[BILL_CELLS_MAX];
	SmBytes cells[BILL_CELLS_MAX];
	SmBytes line;
	int n_names = bill_cells_comma(header, names);

	if (!bill_line(&reader->lines, &line))
		return BILL_END;
	if (bill_cells_backtick(line, cells) != n_names)
	{
		bill_refuse(reader, BILL_CELLS, "the totals do not fit their header");
		return BILL_FAILED;
	}
	for (int i = 0; i < n_names; i++)
		if (!check_total(reader, bill_base_name(names[i]), cells[i]))
			return BILL_FAILED;
	reader->ended = true;
	return BILL_END;
}

static SmBillStep
next_line(SmBillReader *reader, SmBytes *line)
{
	SmBillStep step = BILL_END;

	while (bill_line(&reader->lines, line))
	{
		if (bill_trim(*line).length == 0)
			continue;
		if (!bill_starts(*line, "总交易单数"))
			return BILL_RECORD;
		step = check_totals(reader, *line);
		break;
	}
	if (step == BILL_END && !reader->ended)
		bill_refuse(reader, BILL_UNFINISHED, "the totals at its end are missing");
	return step;
}

/*
 * When a refund was done or, as long as it is not, asked for.
 */
static SmBytes
refund_time(const SmBillReader *reader, const SmBytes *cells)
{
	SmBytes done = bill_cell(reader, cells, BILL_F_REFUND_DONE);
	SmBytes asked = bill_cell(reader, cells, BILL_F_REFUND_ASKED);

	return done.length > 0    ? done
		   : asked.length > 0 ? asked
							  : bill_cell(reader, cells, BILL_F_TIME);
}

static bool
judge_refund(SmBillReader *reader, const SmBytes *cells, SmBillRecord *record)
{
	/* Older bills do not say what was asked for; with coupons it is more than what was settled. */
	bool says_asked = bill_cell(reader, cells, BILL_F_REFUND_AMOUNT).length > 0;
	SmBillField asked = says_asked ? BILL_F_REFUND_AMOUNT : BILL_F_REFUND_SETTLED;
	SmBytes state = bill_cell(reader, cells, BILL_F_REFUND_STATE);

	if (reader->column[BILL_F_REFUND_SETTLED] < 0)
		return bill_refuse(reader, BILL_COLUMN, "the column %s is missing and here is a refund",
						   reader->form->names[BILL_F_REFUND_SETTLED]);
	/* A refund that failed has moved nothing; older bills do not say how it stands. */
	record->kind =
		bytes_are(state, "SUCCESS") || bytes_are(state, "PROCESSING") || state.length == 0
			? BILL_REFUND
			: BILL_OTHER;
	if (!bill_amount(reader, cells, asked, &record->amount) ||
		!bill_amount(reader, cells, BILL_F_REFUND_SETTLED, &record->settled))
		return false;
	record->settled.millionths = -record->settled.millionths;
	return bill_instant(reader, refund_time(reader, cells), record);
}

static bool
judge(SmBillReader *reader, const SmBytes *cells, SmBillRecord *record)
{
	SmBytes state = bill_cell(reader, cells, BILL_F_KIND);

	if (!bill_amount(reader, cells, BILL_F_FEE, &record->fee))
		return false;
	/* A payment that was revoked: the money went back. */
	if (bytes_are(state, "REFUND") || bytes_are(state, "REVOKED"))
		return judge_refund(reader, cells, record);
	record->kind = bytes_are(state, "SUCCESS") ? BILL_PAYMENT : BILL_OTHER;
	return bill_amount(reader, cells, BILL_F_AMOUNT, &record->amount) &&
		   bill_amount(reader, cells, BILL_F_SETTLED, &record->settled) &&
		   bill_instant(reader, bill_cell(reader, cells, BILL_F_TIME), record);
}

const SmBillForm bill_wechat = {
	.provider = "WeChat Pay",
	.names =
		{
			[BILL_F_TRANSACTION] = "微信订单号",
			[BILL_F_ORDER] = "商户订单号",
			[BILL_F_KIND] = "交易状态",
			[BILL_F_SUBJECT] = "商品名称",
			[BILL_F_ACCOUNT] = "商户号",
			[BILL_F_TIME] = "交易时间",
			[BILL_F_REFUND_ASKED] = "退款申请时间",
			[BILL_F_REFUND_DONE] = "退款成功时间",
			[BILL_F_AMOUNT] = "订单金额",
			[BILL_F_SETTLED] = "应结订单金额",
			[BILL_F_FEE] = "手续费",
			[BILL_F_REFUND_AMOUNT] = "申请退款金额",
			[BILL_F_REFUND_SETTLED] = "退款金额",
			[BILL_F_REFUND_NO] = "商户退款单号",
			[BILL_F_PROVIDER_REFUND] = "微信退款单号",
			[BILL_F_REFUND_STATE] = "退款状态",
		},
	.needed = BIT(BILL_F_TRANSACTION) | BIT(BILL_F_ORDER) | BIT(BILL_F_KIND) | BIT(BILL_F_ACCOUNT) |
			  BIT(BILL_F_TIME) | BIT(BILL_F_AMOUNT) | BIT(BILL_F_SETTLED) | BIT(BILL_F_FEE),
	.texts = {"商品名称", "费率备注"},
	.cells = bill_cells_backtick,
	.find_header = find_header,
	.next_line = next_line,
	.judge = judge,
};
