-- Room: ledger. Money moves once, in two legs, and stays where it was put.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- The error a statement ends with: one line, so that code, place and hint are all part of the contract.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall');
SELECT submeter.create_partitions('2024-12-01', '2025-03-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'A tenant'), (2, 2, 't', 'Another tenant');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 1, 'a2'), (1, 3, 1, 'a3'), (1, 4, 1, 'a4'), (2, 20, 2, 'b1');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, state, closed_at) VALUES (1, 9, 1, 'old', 'closed', '2025-01-01');
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":0.5},{"price":0.777}]}', '2025-01-01 00:00+08') AS tariff \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 3) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, n, 100000 FROM generate_series(1, 3) n;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, n, n, :tariff, '["2025-01-01 00:00+08",)' FROM generate_series(1, 3) n;
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', (kwh * 1000)::bigint))])
$$;
CREATE VIEW pg_temp.book AS
SELECT row_number() OVER (ORDER BY t.transfer_id) AS nth, t.kind, d.code AS debit, c.code AS credit, t.amount, t.method, t.note, t.idempotency_key AS key, t.reverses_id IS NOT NULL AS reverses
FROM submeter.transfer t
JOIN submeter.ledger_account d ON d.site_id = t.site_id AND d.ledger_account_id = t.debit_id
JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id = t.credit_id
ORDER BY t.transfer_id;
CREATE FUNCTION pg_temp.balances() RETURNS text
LANGUAGE sql
AS $$
	SELECT string_agg(b.account || ' ' || b.posted || ' - ' || b.accrued || ' = ' || b.available, ', ' ORDER BY b.account) FROM submeter.account_balance b WHERE b.site_id = 1
$$;

-- 1. Recharge, and the same one again

SELECT pg_temp.balances();
SELECT submeter.recharge(1, 1, 100, 'cash', 'k1', 'at the counter') AS first \gset
SELECT submeter.recharge(1, 1, 100, 'cash', 'k1') = :first AS same, submeter.recharge(1, 1, 100.00, 'cash', 'k1', 'another note') = :first AS same_too;
SELECT submeter.recharge(1, 1, 0.01, 'bank', 'k2') > :first AS another, submeter.recharge(1, 2, 999999999.99, 'erp', 'k3') > :first AS most;
SELECT * FROM pg_temp.book;
SELECT pg_temp.balances();
-- The key says another amount, account, method or kind of movement.
SELECT regexp_replace(pg_temp.refusal(s), 'Movement \d+', 'Movement N') FROM unnest(ARRAY[
	$$SELECT submeter.recharge(1, 1, 100.01, 'cash', 'k1')$$,
	$$SELECT submeter.recharge(1, 2, 100, 'cash', 'k1')$$,
	$$SELECT submeter.recharge(1, 1, 100, 'bank', 'k1')$$,
	$$SELECT submeter.adjust(1, 1, 100, 'x', 'k1')$$]) s;
-- Keys are those of a site.
SELECT submeter.recharge(2, 20, 5, 'cash', 'k1') > :first AS another_site;
-- Amounts.
SELECT pg_temp.refusal('SELECT submeter.recharge(1, 1, ' || a || ', ''cash'', ''bad'')')
FROM unnest('{0,-1,0.001,1.005,1000000000,1e30,''NaN'',''Infinity'',''-Infinity'',"NULL",0.00}'::text[]) a;
SELECT pg_temp.refusal('SELECT submeter.recharge(1, 1, ''ten'', ''cash'', ''bad'')');
-- Methods and keys.
SELECT pg_temp.refusal('SELECT submeter.recharge(1, 1, 5, ' || m || ', ''bad'')') FROM unnest(ARRAY['NULL', '''''', '''Cash''', '''by cheque''', '''' || repeat('x', 33) || '''']) m;
SELECT pg_temp.refusal('SELECT submeter.recharge(1, 1, 5, ''cash'', ' || k || ')') FROM unnest(ARRAY['NULL', '''''', '''  ''', '''charge:7''']) k;
-- Accounts and sites.
SELECT pg_temp.refusal('SELECT submeter.recharge(' || a || ', 5, ''cash'', ''bad'')') FROM unnest('{"1, 99","1, NULL","1, 20","2, 1","1, 9","99, 1","NULL, 1"}'::text[]) a;
SELECT count(*) AS nothing_posted FROM submeter.transfer WHERE idempotency_key = 'bad';
-- What was paid before an account was closed is found by its key afterwards.
BEGIN;
UPDATE submeter.account SET state = 'closed', closed_at = now() WHERE site_id = 1 AND account_id = 1;
SELECT submeter.recharge(1, 1, 100, 'cash', 'k1') = :first AS same_after_closing;
SELECT pg_temp.refusal($$SELECT submeter.recharge(1, 1, 100, 'cash', 'k1 again')$$);
ROLLBACK;

-- 2. Adjust

SELECT submeter.adjust(1, 1, -20.50, 'broken window', 'k4') AS down \gset
SELECT submeter.adjust(1, 1, -20.50, 'broken window', 'k4') = :down AS same, submeter.adjust(1, 1, 3, 'goodwill', 'k5') > :down AS up;
SELECT regexp_replace(pg_temp.refusal(s), 'Movement \d+', 'Movement N') FROM unnest(ARRAY[
	$$SELECT submeter.adjust(1, 1, 20.50, 'broken window', 'k4')$$, $$SELECT submeter.adjust(1, 1, -20.51, 'x', 'k4')$$,
	$$SELECT submeter.adjust(1, 1, 0, 'x', 'k6')$$, $$SELECT submeter.adjust(1, 1, -0.001, 'x', 'k6')$$, $$SELECT submeter.adjust(1, 1, 'NaN', 'x', 'k6')$$,
	$$SELECT submeter.adjust(1, 1, 5, NULL, 'k6')$$, $$SELECT submeter.adjust(1, 1, 5, ' ', 'k6')$$, $$SELECT submeter.adjust(1, 9, 5, 'x', 'k6')$$, $$SELECT submeter.adjust(1, 99, 5, 'x', 'k6')$$]) s;
SELECT pg_temp.balances();

-- 3. Reverse

SELECT submeter.reverse_movement(1, :first, 'wrong account', 'r1') AS reversal \gset
SELECT submeter.reverse_movement(1, :first, 'wrong account', 'r1') = :reversal AS same;
SELECT submeter.reverse_movement(1, :down, 'it was another tenant', 'r2') > :reversal AS reversed;
SELECT submeter.recharge(1, 4, 30, 'cash', 'e1') AS equal1, submeter.recharge(1, 4, 30, 'cash', 'e2') AS equal2 \gset
SELECT submeter.reverse_movement(1, :equal1, 'twice keyed', 'r3') > 0 AS reversed;
SELECT regexp_replace(pg_temp.refusal(format(s, :first, :reversal, :equal2)), 'ovement \d+', 'ovement N', 'g') FROM unnest(ARRAY[
	$$SELECT submeter.reverse_movement(1, %1$s, 'again', 'r9')$$,
	$$SELECT submeter.reverse_movement(1, %2$s, 'the reversal', 'r9')$$,
	$$SELECT submeter.reverse_movement(1, %3$s, 'the key of the other reversal', 'r3')$$,
	$$SELECT submeter.reverse_movement(1, %3$s, 'the key of a recharge', 'k2')$$,
	$$SELECT submeter.reverse_movement(1, %1$s, NULL, 'r9')$$,
	$$SELECT submeter.reverse_movement(1, %1$s, 'x', NULL)$$,
	$$SELECT submeter.reverse_movement(1, 999999, 'x', 'r9')$$,
	$$SELECT submeter.reverse_movement(1, NULL, 'x', 'r9')$$,
	$$SELECT submeter.reverse_movement(2, %1$s, 'movement of another site', 'r9')$$]) s;
-- A provider's payment is refunded, not reversed.
SELECT submeter.recharge(1, 4, 12, 'alipay', 'p1') AS paid \gset
SELECT pg_temp.refusal(format('SELECT submeter.reverse_movement(1, %s, ''x'', ''r9'')', :paid));
SELECT * FROM pg_temp.book OFFSET 3;
SELECT pg_temp.balances();

-- 4. Charges: by difference, once

SELECT pg_temp.read(1, '2025-01-01', 0), pg_temp.read(1, '2025-01-11', 33.333), pg_temp.read(2, '2025-01-01', 0), pg_temp.read(2, '2025-01-11', 200);
SELECT submeter.settle(1, '2025-01-12');
-- Accrued at once, posted when the day asks for it.
SELECT pg_temp.balances();
SELECT submeter.balance(1, 1), submeter.balance(1, 2);
SELECT submeter.post_charges(1, '2025-01-12') AS posted, submeter.post_charges(1, '2025-01-12') AS again;
SELECT pg_temp.balances();
-- A charge of 16.6665 is 16.67; the next posting brings the sum to the rounded amount to date, not to the sum of rounded parts.
SELECT pg_temp.read(1, '2025-01-12', 66.666), pg_temp.read(1, '2025-01-13', 99.999), submeter.settle(1, '2025-01-14');
SELECT submeter.post_charges(1, '2025-01-14') AS posted, round(99.999 * 0.5, 2) AS wanted;
-- A correction downwards is posted the other way round.
SELECT submeter.judge_reading(1, 2, '2025-01-11 00:00+08', 'replace', 'photograph', 120000) > 0 AS judged, submeter.settle(1, '2025-01-14');
SELECT submeter.post_charges(1, '2025-01-15') AS posted;
SELECT nth - (SELECT min(nth) FROM pg_temp.book WHERE kind = 'charge') + 1 AS nth, kind, debit, credit, amount FROM pg_temp.book WHERE kind = 'charge';
SELECT account_id, rounded, posted FROM submeter.charge ORDER BY account_id;
-- Charges are never reversed.
SELECT pg_temp.refusal(format('SELECT submeter.reverse_movement(1, %s, ''x'', ''r9'')', (SELECT max(transfer_id) FROM submeter.transfer WHERE kind = 'charge')));
SELECT pg_temp.refusal('SELECT submeter.post_charges(' || a || ')') FROM unnest('{"1, NULL","1, ''infinity''","99","NULL"}'::text[]) a;
SELECT * FROM submeter.verify_ledger(1);

-- 5. The balance as it was known at any past instant

SELECT clock_timestamp() AS t0 \gset
SELECT submeter.balance(1, 3) AS now;
SELECT submeter.recharge(1, 3, 100, 'cash', 'h1') > 0 AS paid;
SELECT clock_timestamp() AS t1 \gset
SELECT pg_temp.read(3, '2025-01-01', 0), pg_temp.read(3, '2025-01-11', 50), submeter.settle(1, '2025-01-20');
SELECT clock_timestamp() AS t2 \gset
SELECT submeter.post_charges(1, '2025-01-20');
SELECT clock_timestamp() AS t3 \gset
SELECT submeter.judge_reading(1, 3, '2025-01-11 00:00+08', 'replace', 'misread', 40000) > 0 AS judged, submeter.settle(1, '2025-01-20');
SELECT clock_timestamp() AS t4 \gset
SELECT submeter.adjust(1, 3, -7, 'x', 'h2') > 0 AS adjusted;
SELECT submeter.balance(1, 3, :'t0') AS t0, submeter.balance(1, 3, :'t1') AS recharged, submeter.balance(1, 3, :'t2') AS accrued, submeter.balance(1, 3, :'t3') AS posted,
	submeter.balance(1, 3, :'t4') AS corrected, submeter.balance(1, 3) AS now, submeter.balance(1, 3, '2020-01-01') AS long_ago, submeter.balance(1, 3, 'infinity') AS ever;
SELECT pg_temp.refusal('SELECT submeter.balance(' || a || ')') FROM unnest('{"1, 99","1, NULL","2, 1","99, 1","NULL, 1","1, 1, NULL"}'::text[]) a;
SELECT * FROM submeter.verify_ledger(1);

-- 6. A row on record is never changed, by nobody, replica mode included

SELECT pg_temp.refusal(s) FROM unnest(ARRAY['UPDATE submeter.transfer SET amount = 1', 'DELETE FROM submeter.transfer', 'TRUNCATE submeter.transfer']) s;
SELECT left(pg_temp.refusal('TRUNCATE submeter.site CASCADE'), 5);
SET session_replication_role = replica;
SELECT left(pg_temp.refusal(s), 41) FROM unnest(ARRAY['UPDATE submeter.transfer SET amount = 1', 'DELETE FROM submeter.transfer', 'TRUNCATE submeter.transfer']) s;
RESET session_replication_role;
-- Rows that cannot be: by constraint, whoever writes them.
SELECT left(pg_temp.refusal($$INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, idempotency_key, effective_at, created_by, cycle_start, reverses_id)
	SELECT 1, 1000000, l.ledger_account_id, $$ || credit || ', ' || rest || $$ FROM submeter.ledger_account l WHERE l.site_id = 1 AND l.code = 'revenue'$$), 85)
FROM (VALUES
	('l.ledger_account_id', $$5, 'adjustment', 'z', now(), 'x', NULL, NULL$$),
	('-1', $$5, 'adjustment', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$0, 'adjustment', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$-5, 'adjustment', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$5, 'gift', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$5, 'charge', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$5, 'reversal', 'z', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$5, 'adjustment', 'k1', now(), 'x', NULL, NULL$$),
	('l.ledger_account_id + 1', $$5, 'adjustment', '', now(), 'x', NULL, NULL$$)) v(credit, rest);

-- 7. A superuser who changes one is found out

CREATE VIEW pg_temp.found AS SELECT problem, account_id AS account, transfer_id IS NOT NULL AS movement, expected, found FROM submeter.verify_ledger(1) ORDER BY 1, 2;
SELECT * FROM pg_temp.found;
-- an amount
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
UPDATE submeter.transfer SET amount = amount + 1 WHERE site_id = 1 AND idempotency_key = 'k2';
SELECT * FROM pg_temp.found;
ROLLBACK;
-- a movement that is gone
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
DELETE FROM submeter.transfer WHERE site_id = 1 AND idempotency_key = 'h1';
SELECT * FROM pg_temp.found;
ROLLBACK;
-- a charge movement that is gone, and the total made to fit
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
DELETE FROM submeter.transfer WHERE site_id = 1 AND kind = 'charge' AND account_id = 3;
UPDATE submeter.ledger_account SET total = total + 25 WHERE account_id = 3;
SELECT * FROM pg_temp.found;
ROLLBACK;
-- a movement that names another account than the one it credits
BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER append_only;
UPDATE submeter.transfer SET account_id = 2 WHERE site_id = 1 AND idempotency_key = 'h1';
SELECT * FROM pg_temp.found;
ROLLBACK;
-- a total
BEGIN;
UPDATE submeter.ledger_account SET total = total + 1000 WHERE account_id = 1;
SELECT * FROM pg_temp.found;
ROLLBACK;
-- what a charge says is posted
BEGIN;
UPDATE submeter.charge SET posted = posted - 1 WHERE account_id = 1;
SELECT * FROM pg_temp.found;
ROLLBACK;
-- what a charge says is owed
BEGIN;
UPDATE submeter.charge SET amount = amount - 1, rounded = rounded - 1 WHERE account_id = 1;
SELECT * FROM pg_temp.found;
ROLLBACK;
-- a charge that is gone
BEGIN;
DELETE FROM submeter.charge WHERE account_id = 1;
SELECT * FROM pg_temp.found;
ROLLBACK;
-- the reading it follows from
BEGIN;
ALTER TABLE submeter.reading_2025_01 DISABLE TRIGGER append_only;
UPDATE submeter.reading_2025_01 SET energy_wh = 90000 WHERE meter_id = 1 AND ts = '2025-01-13 00:00+08';
SELECT * FROM pg_temp.found;
ROLLBACK;
SELECT * FROM pg_temp.found;
-- a reading that is not settled yet is nothing wrong
BEGIN;
SELECT pg_temp.read(1, '2025-01-14 00:00', 101) AS new;
SELECT * FROM pg_temp.found;
ROLLBACK;
SELECT pg_temp.refusal('SELECT * FROM submeter.verify_ledger(99)'), pg_temp.refusal('SELECT * FROM submeter.verify_ledger(NULL)');

-- 8. Two persons for one movement, where the site wants it

CREATE ROLE regress_ledger_boss LOGIN;
CREATE ROLE regress_ledger_clerk LOGIN;
GRANT submeter_admin TO regress_ledger_boss;
GRANT submeter_operator TO regress_ledger_clerk;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_ledger_boss'), (1, 'regress_ledger_clerk');
UPDATE submeter.site SET approval_verbs = '{adjust,reverse_movement}' WHERE site_id = 1;
SET SESSION AUTHORIZATION regress_ledger_clerk;
SELECT pg_temp.refusal($$SELECT submeter.adjust(1, 1, 9, 'x', 'ap1')$$);
-- Who says that a duty runs gets no further.
SET submeter.duty = 'policy';
SELECT left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 9, 'x', 'ap1')$$), 60);
RESET submeter.duty;
SELECT submeter.ask_approval(1, 'adjust', '{"account_id": 1, "amount": 9}', 'tenant was promised') AS approval \gset
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.ask_approval(1, 'recharge', '{}', 'x')$$, $$SELECT submeter.ask_approval(1, NULL, '{}', 'x')$$, $$SELECT submeter.ask_approval(1, 'adjust', '{}', '')$$]) s;
-- A clerk decides nothing.
SELECT left(pg_temp.refusal(format('SELECT submeter.decide_approval(1, %s, true)', :approval)), 80);
SELECT left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 9, 'x', 'ap1')$$), 60) AS still_waiting;
SET SESSION AUTHORIZATION regress_ledger_boss;
SELECT submeter.ask_approval(1, 'adjust', '{"account_id": 1, "amount": 8}', 'my own') AS own \gset
SELECT regexp_replace(pg_temp.refusal(format('SELECT submeter.decide_approval(1, %s, true)', :own)), 'pproval \d+', 'pproval N');
SELECT submeter.decide_approval(1, :approval, true, 'fine');
SELECT regexp_replace(pg_temp.refusal(format('SELECT submeter.decide_approval(1, %s, false)', :approval)), 'pproval \d+', 'pproval N') AS decided_once;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.decide_approval(1, 999999, true)', 'SELECT submeter.decide_approval(1, NULL, true)', format('SELECT submeter.decide_approval(1, %s, NULL)', 999999)]) s;
-- Exactly these arguments, once.
SET SESSION AUTHORIZATION regress_ledger_clerk;
SELECT left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 10, 'x', 'ap1')$$), 60) AS other_amount, left(pg_temp.refusal($$SELECT submeter.adjust(1, 2, 9, 'x', 'ap1')$$), 60) AS other_account;
SELECT submeter.adjust(1, 1, 9.00, 'as approved', 'ap1') > 0 AS adjusted, submeter.adjust(1, 1, 9, 'as approved', 'ap1') > 0 AS the_same_again;
SELECT left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 9, 'x', 'ap2')$$), 60) AS used_up;
-- A refused one and one that is too old serve nobody.
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_ledger_clerk;
SELECT submeter.ask_approval(1, 'adjust', '{"account_id": 1, "amount": 7}', 'x') AS refused, submeter.ask_approval(1, 'adjust', '{"account_id": 1, "amount": 6}', 'x') AS old \gset
SET SESSION AUTHORIZATION regress_ledger_boss;
SELECT submeter.decide_approval(1, :refused, false), submeter.decide_approval(1, :old, true);
RESET SESSION AUTHORIZATION;
UPDATE submeter.approval SET expires_at = now() WHERE approval_id = :old;
SET SESSION AUTHORIZATION regress_ledger_clerk;
SELECT left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 7, 'x', 'ap3')$$), 60) AS refused, left(pg_temp.refusal($$SELECT submeter.adjust(1, 1, 6, 'x', 'ap3')$$), 60) AS too_old;
RESET SESSION AUTHORIZATION;
SELECT verb, arguments, asked_by, state, decided_by, used_at IS NOT NULL AS used FROM submeter.approval ORDER BY approval_id;
SELECT note, amount, created_by FROM submeter.transfer WHERE idempotency_key LIKE 'ap%';
SELECT * FROM submeter.verify_ledger(1);
SELECT sum(CASE WHEN l.kind = 'tenant' THEN l.total END) = (SELECT sum(CASE WHEN c.kind = 'tenant' THEN t.amount ELSE 0 END - CASE WHEN d.kind = 'tenant' THEN t.amount ELSE 0 END)
	FROM submeter.transfer t JOIN submeter.ledger_account c ON c.ledger_account_id = t.credit_id JOIN submeter.ledger_account d ON d.ledger_account_id = t.debit_id) AS totals_are_sums
FROM submeter.ledger_account l;
DROP ROLE regress_ledger_boss, regress_ledger_clerk;
