-- Service fee on recharges: dated rules, paid on top, a leg of its own; never in a balance, a refund or a bill.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'went through';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(regexp_replace(detail, '^Failing row.*', ''), ''));
END
$$;
CREATE VIEW pg_temp.legs AS
SELECT t.transfer_id AS id, t.leg, t.kind, d.code AS debit, c.code AS credit, t.amount, t.method
FROM submeter.transfer t
JOIN submeter.ledger_account d ON d.site_id = t.site_id AND d.ledger_account_id = t.debit_id
JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id = t.credit_id
ORDER BY t.transfer_id, t.leg;
\set statement 'SELECT account, kind, method, amount, fee, collected FROM submeter.recharge_statement ORDER BY transfer_id'

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Other');
UPDATE submeter.credit_policy SET max_balance = 1000, debt_share = 0.25;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One'), (1, 2, 't2', 'Two');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101'), (1, 2, 2, 'A-102');
CREATE ROLE regress_fee_admin LOGIN;
CREATE ROLE regress_fee_cashier LOGIN;
CREATE ROLE regress_fee_tenant LOGIN;
GRANT submeter_admin TO regress_fee_admin;
GRANT submeter_cashier TO regress_fee_cashier;
GRANT submeter_tenant TO regress_fee_tenant;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_fee_admin'), (1, 'regress_fee_cashier');
INSERT INTO submeter.contact (site_id, tenant_id, name, phone, login) VALUES (1, 1, 'owner', '13800000001', 'regress_fee_tenant');

-- 1. Rules are rows; nonsense is refused, and nothing is changed afterwards.
SET SESSION AUTHORIZATION regress_fee_admin;
SELECT pg_temp.refusal(format('INSERT INTO submeter.recharge_fee (site_id, method, valid_from, reason, %s', v)) AS refusal FROM unnest(ARRAY['rate) VALUES (1, ''cash'', ''2020-01-01'', ''x'', -0.001)',
	'rate) VALUES (1, ''cash'', ''2020-01-01'', ''x'', 0.6)', 'rate) VALUES (1, ''cash'', ''2020-01-01'', ''x'', ''NaN'')', 'rate) VALUES (1, ''cash'', ''2020-01-01'', ''x'', 0.0000001)',
	'fixed) VALUES (1, ''cash'', ''2020-01-01'', ''x'', -1)', 'fixed) VALUES (1, ''cash'', ''2020-01-01'', ''x'', 0.005)', 'fixed) VALUES (1, ''cash'', ''2020-01-01'', ''x'', ''Infinity'')',
	'at_least) VALUES (1, ''cash'', ''2020-01-01'', ''x'', ''NaN'')', 'at_least, at_most) VALUES (1, ''cash'', ''2020-01-01'', ''x'', 2, 1)', 'at_most) VALUES (1, ''cash'', ''2020-01-01'', ''x'', ''NaN'')',
	'at_most) VALUES (1, ''cash'', ''2020-01-01'', ''x'', -1)', 'rate) VALUES (1, ''cash'', ''infinity'', ''x'', 0)', 'rate) VALUES (1, ''Cash '', ''2020-01-01'', ''x'', 0)',
	'rate) VALUES (1, ''cash'', ''2020-01-01'', '''', 0)', 'rate) VALUES (1, ''cash'', ''2020-01-01'', ''x'', NULL)', 'rate) VALUES (2, ''cash'', ''2020-01-01'', ''x'', 0.01)']) v;
INSERT INTO submeter.recharge_fee (site_id, method, valid_from, rate, fixed, at_least, at_most, reason) VALUES
	(1, 'alipay', '2020-01-01', 0.006, 0, 0, NULL, 'the rate of the provider'), (1, 'wechat', '2020-01-01', 0.006, 0.1, 0.5, 5, 'the rate of the provider and a bit'),
	(1, 'bank', '2020-01-01', 0, 2, 0, NULL, 'the bank takes it'), (1, 'bank', '2020-06-01', 0, 3, 0, NULL, 'and more'), (1, 'bank', '2020-06-01', 0, 2.5, 0, NULL, 'a slip')
	ON CONFLICT DO NOTHING;
INSERT INTO submeter.recharge_fee (site_id, method, valid_from, revision, fixed, reason) VALUES (1, 'bank', '2020-06-01', 1, 2.5, 'not that much more');
SELECT pg_temp.refusal(s) AS refusal FROM unnest(ARRAY['UPDATE submeter.recharge_fee SET rate = 0', 'DELETE FROM submeter.recharge_fee']) s;
RESET SESSION AUTHORIZATION;
SELECT pg_temp.refusal(s) AS refusal FROM unnest(ARRAY['UPDATE submeter.recharge_fee SET rate = 0', 'DELETE FROM submeter.recharge_fee', 'TRUNCATE submeter.recharge_fee']) s;
SELECT operation, new_row ->> 'method' AS method, changed_by FROM submeter.audit WHERE relation = 'recharge_fee' ORDER BY audit_id;
SET SESSION AUTHORIZATION regress_fee_cashier;
SELECT pg_temp.refusal($$INSERT INTO submeter.recharge_fee (site_id, method, valid_from, rate, reason) VALUES (1, 'cash', '2020-01-01', 0.01, 'mine')$$);
RESET SESSION AUTHORIZATION;

-- 2. What it comes to: half up, at least and at most, by date, by revision; nothing without a rule.
SELECT method, amount, as_of::date, submeter.recharge_fee(1, method, amount, as_of) AS fee
FROM (VALUES ('alipay', 100, '2020-02-01'::timestamptz), ('alipay', 0.83, '2020-02-01'), ('alipay', 0.84, '2020-02-01'), ('alipay', 2.5, '2020-02-01'), ('alipay', 100, '2019-12-31'),
	('wechat', 1, '2020-02-01'), ('wechat', 66.66, '2020-02-01'), ('wechat', 75, '2020-02-01'), ('wechat', 100000, '2020-02-01'),
	('bank', 10, '2020-05-31'), ('bank', 10, '2020-06-01'), ('cash', 10, '2020-06-01'), (NULL, 10, '2020-06-01')) v(method, amount, as_of);
SELECT submeter.recharge_fee(2, 'alipay', 100, '2020-02-01') AS other_site;

-- 3. At the desk: the cashier asks first, collects both, and the balance gets the amount.
SET SESSION AUTHORIZATION regress_fee_cashier;
SELECT submeter.recharge_fee(1, 'bank', 50) AS to_add;
SELECT submeter.recharge(1, 1, 50, 'bank', 'b1') AS b1 \gset
SELECT submeter.recharge(1, 1, 50, 'bank', 'b1') = :b1 AS the_same, submeter.recharge(1, 2, 7, 'cash', 'c1') > :b1 AS without_a_rule;
SELECT pg_temp.refusal(s) AS refusal FROM unnest(ARRAY['SELECT submeter.recharge(1, 1, 52.5, ''bank'', ''b1'')', 'SELECT submeter.recharge(1, 1, NULL, ''bank'', ''b2'')', 'SELECT submeter.recharge(1, 1, ''NaN'', ''bank'', ''b2'')',
	'SELECT submeter.refund(1, 1, 50, ''x'', ''b1'')', 'SELECT submeter.recharge(1, 1, 950.01, ''bank'', ''b2'')']) s;
-- The policy's most is about the balance: the fee does not count.
SELECT submeter.recharge(1, 1, 950, 'bank', 'b2') > 0 AS to_the_brim;
:statement;
RESET SESSION AUTHORIZATION;
TABLE pg_temp.legs;
SELECT account, posted, available FROM submeter.account_balance ORDER BY 1;
-- Tenants see their own.
SET SESSION AUTHORIZATION regress_fee_tenant;
:statement;
SELECT submeter.recharge_fee(1, 'wechat', 100) AS beforehand, (SELECT count(*) FROM submeter.recharge_fee) AS rules;
RESET SESSION AUTHORIZATION;
-- Debt is paid from the amount alone, and a refund gives back what is on the balance, not the fee.
SELECT submeter.adjust(1, 2, -7, 'a lamp', 'l1') > 0 AS lamp;
SELECT submeter.defer_debit(1, 2, 40, 'old debt', now()) > 0 AS owed;
SELECT submeter.recharge(1, 2, 60, 'bank', 'b3') AS b3 \gset
SELECT account, available, debt FROM submeter.account_balance WHERE account = 'A-102';
SELECT method, amount FROM submeter.origins(1, 1, 'tenant');
SELECT pg_temp.refusal('SELECT submeter.refund(1, 1, 1000.01, ''moved out'', ''r1'')');
SELECT submeter.refund(1, 1, 900, 'moved out', 'r1') > 0 AS refunded;
SELECT * FROM submeter.money_between(1, '{1,2}', '-infinity', 'infinity') ORDER BY 1;
-- A mistake costs nothing: both legs are taken back, once.
SELECT submeter.reverse_movement(1, :b3, 'the wrong shop', 'u1') AS u1 \gset
SELECT submeter.reverse_movement(1, :b3, 'the wrong shop', 'u1') = :u1 AS the_same;
SELECT pg_temp.refusal(format('SELECT submeter.reverse_movement(1, %s, ''again'', ''u2'')', :b3));
SELECT leg, kind, debit, credit, amount, method FROM pg_temp.legs WHERE id = :u1;
SELECT account, available, debt FROM submeter.account_balance WHERE account = 'A-102';
:statement;
SELECT b.account, b.posted = coalesce((SELECT sum(r.amount) FROM submeter.recharge_statement r WHERE r.account_id = b.account_id), 0) AS adds_up FROM submeter.account_balance b ORDER BY 1;
SELECT * FROM submeter.verify_ledger(1);

-- 4. Over a provider: it is asked for amount and fee, and what comes as ordered is split.
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, api_base) VALUES (1, 7, 'alipay', 'Mall', '2021', '2088', 'https://ali.example.org');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, key_serial, notify_base, api_base) VALUES (1, 8, 'wechat', 'Mall', 'wx1', '1900', '0A', 'https://pay.example.org', 'https://wx.example.org');
CREATE FUNCTION pg_temp.paid(order_id bigint, transaction text, amount numeric) RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.apply_payment(1, o.merchant_id, o.payment_order_id, 'query', ROW(true, 'paid', o.out_trade_no, $2, $3, $3, now(), NULL, NULL, NULL, NULL, NULL, NULL, NULL)::submeter.payment_news, now())
	FROM submeter.payment_order o WHERE o.site_id = 1 AND o.payment_order_id = order_id
$$;
CREATE VIEW pg_temp.receipts AS SELECT payment_receipt_id AS id, payment_order_id AS "order", amount, fee, kind FROM submeter.payment_receipt ORDER BY 1;
SELECT (i).payment_order_id AS id, (i).provider, (i).amount, (i).fee, (i).total
FROM (SELECT submeter.create_payment(1, 2, 'alipay', 100, 'k1') UNION ALL SELECT submeter.create_payment(1, 2, 'wechat', 100, 'k1') UNION ALL SELECT submeter.create_payment(1, 2, 'wechat', 10, 'k2')) x(i);
SELECT submeter.alipay_order(to_jsonb(o)) ->> 'total_amount' AS alipay FROM submeter.payment_order o WHERE payment_order_id = 1;
SELECT submeter.wechat_order('{}', to_jsonb(o)) -> 'amount' AS wechat FROM submeter.payment_order o WHERE payment_order_id IN (2, 3) ORDER BY payment_order_id;
-- A rule that changes meanwhile changes nothing about an order, and the key stands for the amount, not for what is asked for.
INSERT INTO submeter.recharge_fee (site_id, method, valid_from, rate, reason) VALUES (1, 'alipay', '2020-02-01', 0.01, 'dearer');
SELECT (i).payment_order_id AS id, (i).amount, (i).fee, (i).total FROM (SELECT submeter.create_payment(1, 2, 'alipay', 100, 'k1') AS i) x;
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 2, 'alipay', 100.60, 'k1')$$);
SELECT pg_temp.paid(1, 'a1', 100.60) AS paid, pg_temp.paid(1, 'a1', 100.60) AS again;
TABLE pg_temp.receipts;
SELECT kind, debit, credit, amount, method FROM pg_temp.legs ORDER BY id DESC, leg LIMIT 3;
-- What did not come as ordered is credited in full: paid a second time, over the other channel, with another amount, late.
SELECT pg_temp.paid(1, 'a2', 100.60) AS twice, pg_temp.paid(2, 'w1', 100.70) AS other_channel, pg_temp.paid(3, 'w2', 10) AS without_the_fee;
SELECT (submeter.create_payment(1, 1, 'alipay', 20, 'k4')).total;
SELECT submeter.close_order(1, 4, 'nobody paid', now());
SELECT pg_temp.paid(4, 'a3', 20.20) AS late;
SELECT (submeter.create_payment(1, 1, 'alipay', 30, 'k5')).total;
UPDATE submeter.account SET state = 'closed', closed_at = now() WHERE account_id = 1;
SELECT pg_temp.paid(5, 'a4', 30.30) AS closed_account;
UPDATE submeter.account SET state = 'open', closed_at = NULL WHERE account_id = 1;
TABLE pg_temp.receipts;
SELECT amount, detail ->> 'why' AS why, detail ->> 'ordered' AS ordered FROM submeter.proposal ORDER BY proposal_id;
SELECT sum(amount) AS fees FROM submeter.transfer WHERE kind = 'fee' AND method IN ('alipay', 'wechat');
-- Money back: of the receipt with a fee, what was credited; WeChat Pay hears the whole it was of.
SELECT method, amount FROM submeter.origins(1, 2, 'tenant') ORDER BY 1;
SELECT submeter.refund(1, 2, 200.60, 'not needed', 'r2', 'alipay') > 0 AS refunded;
SELECT pg_temp.refusal($$SELECT submeter.refund(1, 2, 0.01, 'the fee', 'r3', 'alipay')$$);
SELECT payment_receipt_id AS receipt, amount FROM submeter.payment_refund ORDER BY payment_refund_id;
SELECT * FROM submeter.verify_ledger(1);
SELECT pg_temp.refusal($$INSERT INTO submeter.payment_receipt (site_id, merchant_id, provider_transaction, account_id, out_trade_no, amount, fee, kind, paid_at, transfer_id) VALUES (1, 7, 'x', 1, 'x', 5, 1, 'late', now(), 0)$$);

-- 5. What somebody does to the books behind their back is found.
SELECT submeter.seal(1) > 0 AS sealed;
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
DELETE FROM submeter.transfer WHERE kind = 'fee' AND transfer_id = :b1;
DELETE FROM submeter.transfer WHERE leg = 2 AND transfer_id = :u1;
DELETE FROM submeter.transfer WHERE leg = 1 AND idempotency_key = 'b2';
DELETE FROM submeter.transfer WHERE leg = 2 AND idempotency_key = 'payment:alipay:7:a1';
SELECT problem, account_id AS acct, expected, found FROM submeter.verify_ledger(1);
ROLLBACK;
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
UPDATE submeter.transfer SET account_id = 1 WHERE leg = 2 AND transfer_id = :b3;
SELECT problem, account_id AS acct, expected, found FROM submeter.verify_ledger(1);
ROLLBACK;
SELECT * FROM submeter.verify_ledger(1);
DROP OWNED BY regress_fee_admin, regress_fee_cashier, regress_fee_tenant;
DROP ROLE regress_fee_admin, regress_fee_cashier, regress_fee_tenant;
