-- Reconciliation: a provider's file of a day against orders, receipts, refunds and the ledger. What was lost is put right, the
-- rest waits for a person; the same file again changes nothing, a corrected one what differs.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'went through';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Other');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One'), (1, 2, 't2', 'Two');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101'), (1, 2, 2, 'A-102'), (1, 3, 2, 'A-103');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, key_serial, notify_base, api_base) VALUES
	(1, 7, 'wechat', 'Mall', 'wx1', '1900000001', 'AB12', 'https://pay.example.org', 'https://api.example.org'),
	(1, 8, 'alipay', 'Mall', '2021', '2088000000000001', NULL, 'https://pay.example.org', 'https://gw.example.org');
SELECT pg_temp.refusal($$UPDATE submeter.merchant SET other_numbers = '(' WHERE merchant_id = 7$$) AS no_expression;

-- What the providers have, and the files they make of it.
CREATE TABLE pg_temp.bill (provider text, day date, at text, tx text, no text, kind text, amount numeric, fee numeric, refund_no text, status text DEFAULT 'SUCCESS', account text, subject text DEFAULT '电费 A-101, 房间');
CREATE FUNCTION pg_temp.wechat(d date) RETURNS bytea
LANGUAGE sql
AS $$
	SELECT '\xefbbbf'::bytea || convert_to('交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注' || E'\r\n'
		|| coalesce(string_agg(concat_ws(',', '`' || d || ' ' || b.at, '`wx1', '`' || coalesce(b.account, '1900000001'), '`0', '`', '`' || b.tx, '`' || b.no, '`openid', '`NATIVE', CASE b.kind WHEN 'refund' THEN '`REFUND' ELSE '`SUCCESS' END, '`OTHERS', '`CNY',
			'`' || CASE b.kind WHEN 'refund' THEN 0.00 ELSE b.amount END, '`0.00', '`' || CASE b.kind WHEN 'refund' THEN '50' || b.refund_no ELSE '0' END, '`' || coalesce(b.refund_no, '0'),
			'`' || CASE b.kind WHEN 'refund' THEN b.amount ELSE 0.00 END, '`0.00', CASE b.kind WHEN 'refund' THEN '`ORIGINAL' ELSE '`' END, '`' || CASE b.kind WHEN 'refund' THEN b.status ELSE '' END, '`' || b.subject, '`',
			'`' || b.fee, '`0.60%', '`' || CASE b.kind WHEN 'refund' THEN 0.00 ELSE b.amount END, '`' || CASE b.kind WHEN 'refund' THEN b.amount ELSE 0.00 END, '`'), E'\r\n' ORDER BY b.at, b.tx, b.kind) || E'\r\n', '')
		|| '总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额' || E'\r\n'
		|| concat_ws(',', '`' || count(b.tx), '`' || coalesce(sum(b.amount) FILTER (WHERE b.kind <> 'refund'), 0.00), '`' || coalesce(sum(b.amount) FILTER (WHERE b.kind = 'refund'), 0.00), '`0.00', '`' || coalesce(sum(b.fee), 0.00),
			'`' || coalesce(sum(b.amount) FILTER (WHERE b.kind <> 'refund'), 0.00), '`' || coalesce(sum(b.amount) FILTER (WHERE b.kind = 'refund'), 0.00)) || E'\r\n', 'UTF8')
	FROM pg_temp.bill b WHERE b.provider = 'wechat' AND b.day = d
$$;
CREATE FUNCTION pg_temp.alipay(d date) RETURNS bytea
LANGUAGE sql
AS $$
	SELECT convert_to(E'#支付宝业务明细查询\r\n#账号:[20880000000000010156]\r\n' || format('#起始日期:[%s 00:00:00]   终止日期:[%s 00:00:00]', to_char(d, 'YYYY年MM月DD日'), to_char(d + 1, 'YYYY年MM月DD日'))
		|| E'\r\n#-----业务明细列表-----\r\n支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注' || E'\r\n'
		|| coalesce(string_agg(concat_ws(',', b.tx || E'\t', b.no || E'\t', CASE b.kind WHEN 'refund' THEN '退款' WHEN 'payment' THEN '交易' ELSE b.kind END, '"' || b.subject || '"', d || ' ' || b.at, d || ' ' || b.at, '', '', '', '', '*店(159****5620)',
			CASE b.kind WHEN 'refund' THEN -b.amount ELSE b.amount END, CASE b.kind WHEN 'refund' THEN -b.amount ELSE b.amount END, '0.00', '0.00', '0.00', '0.00', '0.00', '', '0.00', '0.00', coalesce(b.refund_no, ''), -b.fee, '0.00', ''), E'\r\n' ORDER BY b.at, b.tx, b.kind) || E'\r\n', '')
		|| E'#-----业务明细列表结束-----\r\n#导出时间:[2025-03-23 10:00:00]\r\n', 'GB18030')
	FROM pg_temp.bill b WHERE b.provider = 'alipay' AND b.day = d
$$;
CREATE FUNCTION pg_temp.took(provider text, merchant bigint, tx text, order_id bigint, no text, amount numeric, at timestamptz) RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.apply_payment(1, merchant, order_id, 'notify', ROW(true, 'paid', no, tx, amount, amount, at, 'payer', NULL, NULL, NULL, NULL, NULL, NULL)::submeter.payment_news, at)
$$;
CREATE VIEW pg_temp.rows AS
SELECT to_char(r.day, 'MM-DD') AS day, r.line, r.kind, r.provider_transaction AS tx, r.amount, r.ours, trim_scale(r.fee) AS fee, r.result, r.state, r.decision FROM submeter.reconcile_row r ORDER BY r.day, r.line, r.item;
CREATE VIEW pg_temp.books AS
SELECT l.code, CASE WHEN l.account_id IS NULL THEN (SELECT sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END) FROM submeter.transfer t WHERE l.ledger_account_id IN (t.debit_id, t.credit_id)) ELSE l.total END AS total
FROM submeter.ledger_account l WHERE l.site_id = 1 AND (l.kind IN ('clearing', 'suspense', 'cost') OR l.total <> 0) ORDER BY 1;
INSERT INTO submeter.payment_order (site_id, payment_order_id, account_id, provider, merchant_id, amount, idempotency_key, out_trade_no, created_at)
SELECT 1, n, CASE WHEN n < 6 THEN 1 ELSE 2 END, CASE WHEN n < 9 THEN 'wechat' ELSE 'alipay' END, CASE WHEN n < 9 THEN 7 ELSE 8 END, 10 * n, 'k' || n, format('s1_%s_abcdef', n), '2025-03-22 00:00+08' FROM generate_series(1, 12) n;

-- 1. One day: as it should be, lost, other amounts, nobody's, another system's, missing, refunds of all kinds
SELECT pg_temp.took('wechat', 7, '4200001', 1, 's1_1_abcdef', 10, '2025-03-22 00:00:00+08'), pg_temp.took('wechat', 7, '4200003', 3, 's1_3_abcdef', 30, '2025-03-22 12:00+08'), pg_temp.took('wechat', 7, '4200005', 5, 's1_5_abcdef', 50, '2025-03-22 23:59:59+08');
SELECT submeter.refund(1, 1, 4, 'moved out', 'r1') > 0 AS refund;
UPDATE submeter.payment_refund SET out_request_no = 's1_r1_abcdef';
UPDATE submeter.merchant SET other_numbers = '^shop-' WHERE merchant_id = 7;
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee, refund_no) VALUES
	('wechat', '2025-03-22', '00:00:00', '4200001', 's1_1_abcdef', 'payment', 10.00, 0.06, NULL),
	('wechat', '2025-03-22', '08:00:00', '4200002', 's1_2_abcdef', 'payment', 20.00, 0.12, NULL),
	('wechat', '2025-03-22', '08:30:00', '4200012', 's1_4_abcdef', 'payment', 40.01, 0.24, NULL),
	('wechat', '2025-03-22', '12:00:00', '4200003', 's1_3_abcdef', 'payment', 30.01, 0.18, NULL),
	('wechat', '2025-03-22', '13:00:00', '4200007', 's1_700_abcdef', 'payment', 7.00, 0.04, NULL),
	('wechat', '2025-03-22', '14:00:00', '4200008', 'shop-1', 'payment', 8.00, 0.05, NULL),
	('wechat', '2025-03-22', '15:00:00', '4200009', 'ORDER-9', 'payment', 9.00, 0.05, NULL),
	('wechat', '2025-03-22', '16:00:00', '4200005', 's1_5_abcdef', 'refund', 4.00, -0.02, 's1_r1_abcdef'),
	('wechat', '2025-03-22', '17:00:00', '4200001', 's1_1_abcdef', 'refund', 2.00, -0.01, 'at-the-desk'),
	('wechat', '2025-03-22', '18:00:00', '4200099', 'ORDER-8', 'refund', 1.00, -0.01, 'theirs');
SELECT * FROM submeter.reconcile(1, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22'));
TABLE pg_temp.rows;
TABLE pg_temp.books;
SELECT payment_order_id AS "order", account_id AS acct, amount, kind, provider_transaction AS tx, paid_at FROM submeter.payment_receipt ORDER BY payment_receipt_id;
SELECT state, detail, finished_at IS NOT NULL AS finished FROM submeter.payment_refund;
SELECT account_id, amount, detail ->> 'why' AS why FROM submeter.proposal;
SELECT day, provider, state, lines, matched, repaired, open, paid_there, paid_here, refunded_there, refunded_here, fee, fee_booked, difference, open_difference FROM submeter.reconcile_statement;
SELECT kind, amount, idempotency_key, method, note FROM submeter.transfer WHERE kind = 'provider_fee';
SELECT * FROM submeter.verify_ledger(1);

-- 2. The same file again changes nothing, not even a version of a row.
CREATE TABLE pg_temp.before AS SELECT (SELECT sum(xmin::text::bigint) FROM submeter.reconcile_row) AS rows, (SELECT count(*) FROM submeter.transfer) AS movements, (SELECT count(*) FROM submeter.reconcile_file) AS files;
SELECT count(*) AS results FROM submeter.reconcile(1, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22'));
SELECT b.* = ROW((SELECT sum(xmin::text::bigint) FROM submeter.reconcile_row), (SELECT count(*) FROM submeter.transfer), (SELECT count(*) FROM submeter.reconcile_file)) AS the_same FROM pg_temp.before b;

-- 3. Midnight: the next day's file has what this day lacks.
SELECT rule, detail FROM submeter.reconcile_conditions(1, now());
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee) VALUES ('wechat', '2025-03-23', '00:00:01', '4200005', 's1_5_abcdef', 'payment', 50.00, 0.30);
SELECT * FROM submeter.reconcile(1, 'wechat', '2025-03-23', pg_temp.wechat('2025-03-23'));
SELECT * FROM pg_temp.rows WHERE tx = '4200005';

-- 4. Decisions: what a row allows, and what is not a decision
CREATE FUNCTION pg_temp.decide(the_tx text, the_kind text, what text, account bigint DEFAULT NULL, why text DEFAULT 'looked at it') RETURNS text
LANGUAGE sql
AS $$
	SELECT pg_temp.refusal(format('SELECT submeter.decide_reconcile(1, %s, %L, %L, %L)', r.reconcile_row_id, what, why, account))
	FROM submeter.reconcile_row r WHERE r.provider_transaction = the_tx AND r.kind = the_kind AND r.result <> 'repeated'
$$;
SELECT pg_temp.refusal($$SELECT submeter.decide_reconcile(1, 9999, 'settled', 'x')$$) AS unknown, pg_temp.refusal($$SELECT submeter.decide_reconcile(2, 1, 'settled', 'x')$$) AS other_site;
SELECT pg_temp.decide('4200001', 'payment', 'settled') AS done_already;
SELECT d, regexp_replace(pg_temp.decide('4200009', 'payment', d, a), 'row \d+', 'row N', 'g') AS refusal FROM (VALUES ('book_refund', NULL::bigint), ('credit', NULL), ('foreign', 1), ('nonsense', NULL), (NULL, NULL), ('credit', 99)) v(d, a);
SELECT pg_temp.decide('4200009', 'payment', 'settled', NULL, ' ') AS no_reason, regexp_replace(pg_temp.decide('4200007', 'payment', 'foreign'), 'row \d+', 'row N', 'g') AS in_suspense;
UPDATE submeter.account SET state = 'closed', closed_at = now() WHERE account_id = 3;
SELECT pg_temp.decide('4200009', 'payment', 'credit', 3) AS closed;
SELECT pg_temp.decide('4200009', 'payment', 'credit', 2) AS orphan, pg_temp.decide('4200007', 'payment', 'credit', 2) AS suspense, pg_temp.decide('4200003', 'payment', 'book_difference') AS difference,
	pg_temp.decide('4200001', 'refund', 'book_refund') AS elsewhere, pg_temp.decide('4200099', 'refund', 'foreign') AS theirs;
SELECT * FROM pg_temp.rows WHERE decision IS NOT NULL;
TABLE pg_temp.books;
SELECT kind, account_id AS acct, amount, method, regexp_replace(idempotency_key, '\d+:1$', 'N:1') AS key FROM submeter.transfer WHERE idempotency_key LIKE 'payment:reconcile:%' ORDER BY transfer_id;
SELECT rule FROM submeter.alarm WHERE site_id = 1 ORDER BY 1;
SELECT rule, detail FROM submeter.reconcile_conditions(1, now());
SELECT old_row ->> 'result' AS result, new_row ->> 'decision' AS decision, new_row ->> 'reason' AS reason, changed_by = session_user AS by_me FROM submeter.audit WHERE relation = 'reconcile_row' ORDER BY audit_id;
SELECT * FROM submeter.verify_ledger(1);
-- Decided is decided: the file of the day again leaves it so. What was credited goes back through the provider like any other payment.
SELECT result, sum(rows) AS rows FROM submeter.reconcile(1, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22')) GROUP BY 1 ORDER BY 1;
SELECT count(*) AS open FROM submeter.reconcile_row WHERE state = 'open';
SELECT submeter.refund(1, 2, 16, 'not wanted', 'r2') > 0 AS refund;
SELECT f.amount, t.provider_transaction, f.account_id FROM submeter.payment_refund f JOIN submeter.payment_receipt t USING (site_id, payment_receipt_id) WHERE f.account_id = 2 ORDER BY 2;

-- 5. A corrected file: one line gone, one with another amount, one new; fees follow.
DELETE FROM pg_temp.bill WHERE tx IN ('4200008', '4200002');
UPDATE pg_temp.bill SET amount = 30.02, fee = 0.19 WHERE tx = '4200003';
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee) VALUES ('wechat', '2025-03-22', '20:00:00', '4200006', 's1_6_abcdef', 'payment', 60.00, 0.36);
SELECT * FROM submeter.reconcile(1, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22'));
SELECT * FROM pg_temp.rows WHERE tx IN ('4200008', '4200002', '4200003', '4200006');
SELECT amount, idempotency_key, (SELECT kind FROM submeter.ledger_account l WHERE l.ledger_account_id = t.debit_id) AS debit FROM submeter.transfer t WHERE kind = 'provider_fee' ORDER BY transfer_id;
SELECT pg_temp.decide('4200003', 'payment', 'book_difference') AS once_more, pg_temp.decide('4200002', 'payment', 'settled') AS explained;
SELECT * FROM pg_temp.rows WHERE tx IN ('4200002', '4200003');
SELECT problem FROM submeter.verify_ledger(1);
-- ... and back again: what is missing is there.
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee) VALUES ('wechat', '2025-03-22', '08:00:00', '4200002', 's1_2_abcdef', 'payment', 20.00, 0.12);
SELECT result, rows FROM submeter.reconcile(1, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22'));
SELECT * FROM pg_temp.rows WHERE tx = '4200002';
SELECT count(*) AS files, count(DISTINCT sha256) AS different FROM submeter.reconcile_file WHERE day = '2025-03-22';
SELECT pg_temp.refusal('UPDATE submeter.reconcile_file SET problem = ''x''') AS facts;

-- 6. Alipay: another form of the same; lines of other kinds, twice the same, a refund under way, one that failed here
SELECT pg_temp.took('alipay', 8, '2025032201', 9, 's1_9_abcdef', 90, '2025-03-22 10:00+08');
SELECT submeter.refund(1, 2, 1, 'a', 'r3', 'alipay') > 0 AS one, submeter.refund(1, 2, 2, 'b', 'r4', 'alipay') > 0 AS two;
UPDATE submeter.payment_refund SET out_request_no = 's1_r_a' || amount::int WHERE out_request_no LIKE 's1\_r%' AND account_id = 2 AND payment_receipt_id = (SELECT max(payment_receipt_id) FROM submeter.payment_receipt);
SELECT submeter.apply_refund(1, payment_refund_id, 'failed', 'refused', now()) FROM submeter.payment_refund WHERE out_request_no = 's1_r_a2';
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee, refund_no) VALUES
	('alipay', '2025-03-22', '10:00:00', '2025032201', 's1_9_abcdef', 'payment', 90.00, 0.54, NULL),
	('alipay', '2025-03-22', '10:00:01', '2025032201', 's1_9_abcdef', 'payment', 90.00, 0.54, NULL),
	('alipay', '2025-03-22', '11:00:00', '2025032202', 's1_10_abcdef', 'payment', 100.00, 0.60, NULL),
	('alipay', '2025-03-22', '12:00:00', '2025032201', 's1_9_abcdef', 'refund', 1.00, 0.00, 's1_r_a1'),
	('alipay', '2025-03-22', '12:00:01', '2025032201', 's1_9_abcdef', 'refund', 2.00, 0.00, 's1_r_a2'),
	('alipay', '2025-03-22', '13:00:00', '2025032203', 'x', '红包退回', 3.00, 0.00, NULL);
SELECT * FROM submeter.reconcile(1, 'alipay', '2025-03-22', pg_temp.alipay('2025-03-22'));
SELECT * FROM pg_temp.rows WHERE tx LIKE '20250322%';
SELECT pg_temp.decide('2025032203', 'other', 'settled') AS other;
SELECT pg_temp.refusal(format('SELECT submeter.decide_reconcile(1, %s, ''book_refund'', ''it was made after all'')', reconcile_row_id)) AS failed_here FROM submeter.reconcile_row WHERE refund_no = 's1_r_a2';
SELECT pg_temp.refusal(format('SELECT submeter.decide_reconcile(1, %s, ''settled'', ''printed twice'')', reconcile_row_id)) AS repeated FROM submeter.reconcile_row WHERE result = 'repeated';
SELECT result, rows FROM submeter.reconcile(1, 'alipay', '2025-03-22', pg_temp.alipay('2025-03-22'));
SELECT count(*) FILTER (WHERE state = 'open') AS open, count(*) AS rows FROM submeter.reconcile_row;
SELECT problem, expected, found FROM submeter.verify_ledger(1);
-- WeChat Pay lists a refund when it is asked for: on its way it agrees, and is still asked about.
SELECT submeter.refund(1, 1, 3, 'c', 'r5', 'wechat') > 0 AS refund;
UPDATE submeter.payment_refund SET out_request_no = 's1_r_w3' WHERE reason = 'c';
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee, refund_no, status)
SELECT 'wechat', '2025-03-24', '09:00:00', t.provider_transaction, t.out_trade_no, 'refund', 3.00, 0.00, f.out_request_no, 'PROCESSING' FROM submeter.payment_refund f JOIN submeter.payment_receipt t USING (site_id, payment_receipt_id) WHERE f.reason = 'c';
SELECT * FROM submeter.reconcile(1, 'wechat', '2025-03-24', pg_temp.wechat('2025-03-24'));
SELECT state FROM submeter.payment_refund WHERE reason = 'c';

-- 7. Files that are none, of another day, another account, a day that is not over; nothing is changed.
CREATE TABLE pg_temp.count AS SELECT (SELECT count(*) FROM submeter.transfer) AS movements, (SELECT count(*) FROM submeter.reconcile_row) AS rows;
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee, account) VALUES
	('wechat', '2025-04-01', '09:00:00', '1', 's1_8_abcdef', 'payment', 80.00, 0.48, '1900000002'),
	('wechat', '2025-04-02', '09:00:00', '1', 's1_8_abcdef', 'payment', 80.00, 0.48, NULL), ('wechat', '2025-04-02', '09:00:00', '2', 's1_8_abcdef', 'payment', 80.00, 0.48, '1900000002'),
	('wechat', '2025-04-03', '09:00:00', '1', 's1_8_abcdef', 'payment', 0.00, 0.00, NULL),
	('wechat', '2025-04-04', '09:00:00', '', 's1_8_abcdef', 'payment', 80.00, 0.00, NULL);
SELECT pg_temp.refusal(format('SELECT submeter.reconcile(1, %s)', a)) AS refusal FROM unnest(ARRAY['''nobody'', ''2025-03-22'', ''x''', 'NULL, ''2025-03-22'', ''x''', '''wechat'', NULL, ''x''', '''wechat'', ''infinity'', ''x''',
	'''wechat'', ''9999-01-01'', ''x''', '''wechat'', ''2025-03-22'', NULL', '''wechat'', ''2025-03-22'', ''''']) a;
SELECT left(pg_temp.refusal($$SELECT submeter.reconcile(1, 'wechat', '2025-03-22', 'x')$$), 5) AS not_a_file, left(pg_temp.refusal($$SELECT submeter.reconcile(1, 'alipay', '2025-03-22', '\x504b0304')$$), 5) AS no_zip,
	left(pg_temp.refusal($$SELECT submeter.reconcile(1, 'wechat', '2025-03-22', substr(pg_temp.wechat('2025-03-22'), 1, 2000))$$), 5) AS cut_off, left(pg_temp.refusal($$SELECT submeter.reconcile(1, 'alipay', '2025-03-22', pg_temp.wechat('2025-03-22'))$$), 5) AS of_the_other;
SELECT pg_temp.refusal($$SELECT submeter.reconcile(1, 'wechat', '2025-03-23', pg_temp.wechat('2025-03-22'))$$) AS other_day, pg_temp.refusal($$SELECT submeter.reconcile(2, 'wechat', '2025-03-22', pg_temp.wechat('2025-03-22'))$$) AS other_site;
SELECT pg_temp.refusal(format('SELECT submeter.reconcile(1, ''wechat'', %L, pg_temp.wechat(%L))', d, d)) AS refusal FROM generate_series('2025-04-01'::date, '2025-04-04', interval '1 day') x, to_char(x, 'YYYY-MM-DD') d;
SELECT c.* = ROW((SELECT count(*) FROM submeter.transfer), (SELECT count(*) FROM submeter.reconcile_row)) AS nothing_changed FROM pg_temp.count c;
-- A day without anything in its file is read as well.
SELECT * FROM submeter.reconcile(1, 'wechat', '2025-05-01', pg_temp.wechat('2025-05-01'));
SELECT day, state, lines FROM submeter.reconcile_day WHERE day = '2025-05-01';

-- 8. Who may, and the second person
CREATE ROLE regress_reconcile_cashier LOGIN;
CREATE ROLE regress_reconcile_operator LOGIN;
CREATE ROLE regress_reconcile_admin LOGIN;
GRANT submeter_cashier TO regress_reconcile_cashier;
GRANT submeter_operator TO regress_reconcile_operator;
GRANT submeter_admin TO regress_reconcile_admin;
INSERT INTO submeter.site_member (site_id, login) SELECT 1, 'regress_reconcile_' || r FROM unnest('{cashier,operator,admin}'::text[]) r;
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee) VALUES ('wechat', '2025-05-02', '09:00:00', '4200050', 'ORDER-50', 'payment', 5.00, 0.03);
CREATE FUNCTION pg_temp.as_role(who text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	PERFORM set_config('role', 'regress_reconcile_' || who, true);
	said := pg_temp.refusal(statement);
	PERFORM set_config('role', 'none', true);
	RETURN said;
END
$$;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;
GRANT SELECT ON pg_temp.bill TO PUBLIC;
SELECT who, left(pg_temp.as_role(who, $$SELECT submeter.reconcile(1, 'wechat', '2025-05-02', pg_temp.wechat('2025-05-02'))$$), 60) AS said FROM unnest('{cashier,operator,admin}'::text[]) who;
SELECT who, left(pg_temp.as_role(who, 'SELECT file FROM submeter.reconcile_file'), 60) AS files, pg_temp.as_role(who, 'SELECT * FROM submeter.reconcile_statement') AS statement FROM unnest('{cashier,operator,admin}'::text[]) who;
UPDATE submeter.site SET approval_verbs = '{reconcile,decide_reconcile}' WHERE site_id = 1;
SELECT regexp_replace(pg_temp.as_role('admin', $$SELECT submeter.reconcile(1, 'wechat', '2025-05-02', pg_temp.wechat('2025-05-02'))$$), '[0-9a-f]{64}', '…', 'g') AS admin;
SELECT regexp_replace(pg_temp.as_role('operator', format($$SELECT submeter.decide_reconcile(1, %s, 'credit', 'x', 1)$$, max(reconcile_row_id))), '("?reconcile_row_id"?: )\d+', '\1N', 'g') AS operator FROM submeter.reconcile_row WHERE provider_transaction = '4200050';
UPDATE submeter.site SET approval_verbs = '{}' WHERE site_id = 1;
SELECT who, left(pg_temp.as_role(who, format($$SELECT submeter.decide_reconcile(1, %s, 'foreign', 'x')$$, max(reconcile_row_id))), 60) AS said FROM submeter.reconcile_row, unnest('{cashier,operator}'::text[]) who WHERE provider_transaction = '4200050' GROUP BY who ORDER BY who;
SELECT decided_by, decision FROM submeter.reconcile_row WHERE provider_transaction = '4200050';
TABLE pg_temp.books;
SELECT problem, expected, found FROM submeter.verify_ledger(1);
-- A day that goes on is compared as far as its file goes, and is not done with.
SELECT pg_temp.took('wechat', 7, '420006' || h, NULL, 'ORDER-6' || h, 6.00, format('2025-06-01 %s:30:00+08', h)::timestamptz) FROM unnest('{09,11}'::text[]) h;
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee) VALUES ('wechat', '2025-06-01', '10:00:00', '42000610', 'ORDER-610', 'payment', 7.00, 0.04);
SELECT submeter.take_bill(1, 7, 'wechat', '2025-06-01', pg_temp.wechat('2025-06-01'), 'uploaded', '2025-06-01 12:00+08');
SELECT provider_transaction, result, state FROM submeter.reconcile_row WHERE day = '2025-06-01' ORDER BY 1;
SELECT state, lines, paid, read_at FROM submeter.reconcile_day WHERE day = '2025-06-01';
SELECT submeter.take_bill(1, 7, 'wechat', '2025-06-01', pg_temp.wechat('2025-06-01'), 'fetched', '2025-06-02 11:00+08');
SELECT provider_transaction, result, state FROM submeter.reconcile_row WHERE day = '2025-06-01' ORDER BY 1;
SELECT state, lines, paid, read_at FROM submeter.reconcile_day WHERE day = '2025-06-01';
DELETE FROM pg_temp.bill WHERE day = '2025-06-01';
SELECT pg_temp.took('wechat', 7, '42000620', NULL, 'ORDER-620', 6.00, '2025-06-02 09:00+08');
SELECT submeter.take_bill(1, 7, 'wechat', '2025-06-02', pg_temp.wechat('2025-06-02'), 'uploaded', '2025-06-02 12:00+08');
SELECT count(*) FROM submeter.reconcile_row WHERE day = '2025-06-02';
SELECT problem, expected, found FROM submeter.verify_ledger(1);
-- A refund that failed there and was booked back here is nobody's work.
SELECT submeter.refund(1, 1, 1, 'f', 'refund-f', 'wechat') > 0 AS asked;
SELECT submeter.apply_refund(1, payment_refund_id, 'failed', 'no card', '2025-06-03 11:00+08') FROM submeter.payment_refund WHERE reason = 'f';
INSERT INTO pg_temp.bill (provider, day, at, tx, no, kind, amount, fee, refund_no, status)
SELECT 'wechat', '2025-06-03', '10:00:00', r.provider_transaction, r.out_trade_no, 'refund', f.amount, 0, f.out_request_no, 'FAIL'
FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE f.reason = 'f';
SELECT submeter.take_bill(1, 7, 'wechat', '2025-06-03', pg_temp.wechat('2025-06-03'), 'uploaded', '2025-06-04 12:00+08');
SELECT result, state, ours FROM submeter.reconcile_row WHERE day = '2025-06-03';
-- A merchant that takes no new orders is reconciled as long as something is heard of it.
UPDATE submeter.merchant SET enabled = false WHERE merchant_id = 7;
SELECT submeter.is_reconciled(1, 7, '2025-07-01') AS quiet;
INSERT INTO submeter.payment_event (site_id, merchant_id, source, body, received_at) VALUES (1, 7, 'bill', '', '2025-06-25');
SELECT submeter.is_reconciled(1, 7, '2025-07-01') AS only_of_files;
INSERT INTO submeter.payment_event (site_id, merchant_id, source, body, received_at) VALUES (1, 7, 'query', '', '2025-06-25');
SELECT submeter.is_reconciled(1, 7, '2025-07-01') AS heard_of, submeter.is_reconciled(1, 8, '2025-07-01') AS enabled;
UPDATE submeter.merchant SET enabled = true WHERE merchant_id = 7;
-- What is not in the books is found out.
UPDATE submeter.reconcile_row SET payment_receipt_id = NULL WHERE provider_transaction = '4200006';
UPDATE submeter.reconcile_row SET fee = 1 WHERE provider_transaction = '4200005' AND day = '2025-03-23';
UPDATE submeter.reconcile_row SET transfer_id = 1 WHERE provider_transaction = '4200009';
SELECT regexp_replace(problem, 'row \d+', 'row N') AS problem, expected, found FROM submeter.verify_ledger(1) ORDER BY 1;
RESET ROLE;
DROP OWNED BY regress_reconcile_cashier, regress_reconcile_operator, regress_reconcile_admin;
DROP ROLE regress_reconcile_cashier, regress_reconcile_operator, regress_reconcile_admin;
