-- Room: bills. A cycle is closed once; what comes later is an adjustment with its cause.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

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

INSERT INTO submeter.site (site_id, code, name, locale, cycle_day) VALUES (1, 'mall', 'A mall', 'en', 1), (2, 'other', 'Another mall', 'zh', 15);
UPDATE submeter.credit_policy SET mode = 'ask';
SELECT submeter.create_partitions('2024-12-01', '2025-07-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 't' || n, 'Tenant ' || n FROM generate_series(1, 7) n;
INSERT INTO submeter.contact (site_id, tenant_id, name) SELECT 1, n, 'Owner ' || n FROM generate_series(1, 3) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, mode) SELECT 1, n, n, 'a' || n, CASE n WHEN 2 THEN 'postpaid' ELSE 'prepaid' END FROM generate_series(1, 7) n;
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":0.5},{"price":0.777}]}', '2025-01-01 00:00+08') AS tiers \gset
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 7) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, gap_after, multiplier, register_modulus_wh) SELECT 1, n, 100000, '60 days', CASE n WHEN 2 THEN 30 ELSE 1 END, CASE n WHEN 4 THEN 1000000 END
FROM generate_series(1, 7) n;
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', (kwh * 1000)::bigint))])
$$;
CREATE FUNCTION pg_temp.local(at timestamptz) RETURNS text
LANGUAGE sql
AS $$
	SELECT to_char(at AT TIME ZONE 'Asia/Shanghai', 'MM-DD HH24:MI')
$$;
-- Bills by account and order of issue: numbers of bills are not part of the contract.
CREATE VIEW pg_temp.bills AS
SELECT account, row_number() OVER (PARTITION BY account ORDER BY bill_id) AS nth, state, pg_temp.local(cycle_start) AS from_local, pg_temp.local(cycle_end) AS to_local,
	kwh, estimated_kwh AS est, amount, opening_balance AS opening, credited, closing_balance AS closing, pg_temp.local(due_at) AS due, reason
FROM submeter.bill_statement WHERE site_id = 1;
CREATE VIEW pg_temp.lines AS
SELECT account, dense_rank() OVER (PARTITION BY account ORDER BY bill_id) AS nth, line, tariff, component AS what, tier, period, pg_temp.local(from_ts) AS from_local,
	pg_temp.local(to_ts) AS to_local, kwh, price, amount
FROM submeter.bill_line_statement WHERE site_id = 1;
CREATE VIEW pg_temp.meters AS
SELECT a.code AS account, dense_rank() OVER (PARTITION BY a.code ORDER BY b.bill_id) AS nth, m.code AS meter, pg_temp.local(x.from_ts) AS from_local, pg_temp.local(x.to_ts) AS to_local,
	x.from_wh, x.to_wh, x.multiplier::float, x.energy_wh, x.estimated
FROM submeter.bill_meter x JOIN submeter.bill b USING (site_id, bill_id) JOIN submeter.account a USING (site_id, account_id) JOIN submeter.meter m USING (site_id, meter_id)
WHERE x.site_id = 1;
-- No rows is right: lines add up to bills, registers to energy, bills to what was charged and adjusted, and the ledger verifies.
CREATE FUNCTION pg_temp.wrong() RETURNS TABLE (problem text, id bigint, wanted numeric, found numeric)
LANGUAGE sql
AS $$
	SELECT 'lines', b.bill_id, b.amount, coalesce(sum(l.amount), 0) FROM submeter.bill b LEFT JOIN submeter.bill_line l USING (site_id, bill_id)
	GROUP BY b.site_id, b.bill_id HAVING b.amount <> coalesce(sum(l.amount), 0)
	UNION ALL
	SELECT 'registers', b.bill_id, b.energy_wh, sum(m.energy_wh) FROM submeter.bill b JOIN submeter.bill_meter m USING (site_id, bill_id)
	GROUP BY b.site_id, b.bill_id HAVING b.energy_wh <> sum(m.energy_wh)
	UNION ALL
	SELECT 'bills and charges', c.account_id, c.owed, coalesce(b.amount, 0)
	FROM (SELECT c.site_id, c.account_id, sum(c.billed) + coalesce((SELECT sum(x.amount) FROM submeter.charge_adjustment x
			WHERE x.site_id = c.site_id AND x.account_id = c.account_id AND x.bill_id IS NOT NULL), 0) AS owed FROM submeter.charge c GROUP BY 1, 2) c
	LEFT JOIN (SELECT b.site_id, b.account_id, sum(b.amount) AS amount FROM submeter.bill b GROUP BY 1, 2) b USING (site_id, account_id)
	WHERE c.owed <> coalesce(b.amount, 0)
	UNION ALL
	SELECT 'adjusted', c.account_id, c.adjusted, coalesce((SELECT sum(x.amount) FROM submeter.charge_adjustment x
		WHERE (x.site_id, x.account_id, x.tariff_id, x.cycle_start) = (c.site_id, c.account_id, c.tariff_id, c.cycle_start)), 0)
	FROM submeter.charge c WHERE c.adjusted <> coalesce((SELECT sum(x.amount) FROM submeter.charge_adjustment x
		WHERE (x.site_id, x.account_id, x.tariff_id, x.cycle_start) = (c.site_id, c.account_id, c.tariff_id, c.cycle_start)), 0)
	UNION ALL
	SELECT v.problem, v.account_id, v.expected, v.found FROM submeter.verify_ledger(1) v
$$;

-- 1. A month is closed

-- a1: one meter; a2: postpaid, behind a CT; a3: two meters on two tariffs; a4: a register that rolls over; a5: never read; a6: stops reading; a7: no supply.
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES
	(1, 1, 1, :tiers, '["2025-01-01 00:00+08",)'), (1, 2, 2, :flat, '["2025-01-10 00:00+08",)'), (1, 3, 3, :tiers, '["2025-01-01 00:00+08",)'),
	(1, 4, 4, :flat, '["2025-01-01 00:00+08",)'), (1, 5, 5, :flat, '["2025-01-01 00:00+08",)'), (1, 6, 6, :flat, '["2025-01-01 00:00+08",)'),
	(1, 3, 7, :flat, '["2025-01-01 00:00+08","2025-01-21 00:00+08")');
UPDATE submeter.account SET opened_at = '2025-01-01 00:00+08' WHERE site_id = 1;
SELECT count(pg_temp.read(m, at, kwh)) FROM (VALUES
	(1, '2025-01-01 00:00', 10.000), (1, '2025-01-16 00:00', 100.000), (1, '2025-01-31 23:00', 160.333), (1, '2025-02-01 01:00', 160.433),
	(2, '2025-01-10 00:00', 5.000), (2, '2025-02-01 00:00', 6.001),
	(3, '2025-01-01 00:00', 0.000), (3, '2025-02-01 02:00', 50.000), (7, '2025-01-01 00:00', 7.000), (7, '2025-01-20 00:00', 26.000), (7, '2025-01-22 00:00', 28.000),
	(4, '2025-01-01 00:00', 990.000), (4, '2025-02-01 00:00', 30.000),
	(6, '2025-01-01 00:00', 0.000), (6, '2025-01-11 00:00', 100.000)) v(m, at, kwh);
-- What a2 paid in the cycle; recharge() would take it as of today.
WITH paid AS (UPDATE submeter.ledger_account SET total = total + 20 WHERE site_id = 1 AND account_id = 2 RETURNING ledger_account_id)
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by)
SELECT 1, nextval('submeter.transfer_id_seq'), submeter.system_ledger_account(1, 'clearing:cash', 'clearing'), ledger_account_id, 20, 'recharge', 2, 'cash', 'paid', '2025-01-15', 'x' FROM paid;
-- Nothing has ended yet; nothing is due.
SELECT submeter.close_due(1, '2025-01-31 15:59+00', '2025-01-31 15:59+00') AS too_early;
SELECT submeter.close_due(1, '2025-02-01 00:00+08', '2025-02-01 03:00+08') AS bills;
SELECT * FROM pg_temp.bills ORDER BY 1, 2;
SELECT * FROM pg_temp.lines ORDER BY 1, 2, 3;
SELECT * FROM pg_temp.meters ORDER BY 1, 2, 3, 4;
SELECT account, tariff, amount, posted, billed, adjusted, accrued FROM submeter.charge_statement WHERE cycle_start = '2025-01-01 00:00+08' ORDER BY 1, 2;
SELECT round(sum(amount), 2) AS posted, string_agg(DISTINCT kind, ' ') AS kinds FROM submeter.transfer WHERE site_id = 1 AND cycle_start IS NOT NULL;
-- Closing again does nothing, and neither does posting.
SELECT submeter.close_due(1, '2025-02-01 00:00+08', '2025-02-01 03:00+08') AS again, submeter.post_adjustments(1) AS adjusted;
SELECT * FROM pg_temp.wrong();
SELECT kind, subject, body FROM submeter.notice ORDER BY notice_id;

-- 2. After the delay it is closed with an estimate; a meter that never read has none

SELECT submeter.close_due(1, '2025-02-04 00:00+08', '2025-02-03 23:59+08') AS waiting;
SELECT submeter.close_due(1, '2025-02-04 00:00+08', '2025-02-04 00:00+08') AS bills;
SELECT * FROM pg_temp.bills WHERE account IN ('a5', 'a6') ORDER BY 1, 2;
SELECT * FROM pg_temp.lines WHERE account IN ('a5', 'a6') ORDER BY 1, 2, 3;
SELECT * FROM pg_temp.meters WHERE account IN ('a5', 'a6') ORDER BY 1, 2, 3;
SELECT m.code AS meter, pg_temp.local(e.ts) AS at, e.energy_wh, e.reason FROM submeter.register_estimate e JOIN submeter.meter m USING (site_id, meter_id);
SELECT * FROM pg_temp.wrong();

-- 3. Late facts: the bill stays, the next one has the difference and its cause

-- a6 read again: 10 kWh a day were estimated, 8 it was. a1: a reading in between moves energy, not money of a flat month. a3: a verdict.
SELECT pg_temp.read(6, '2025-02-10 00:00', 340.000), pg_temp.read(1, '2025-01-20 00:00', 150.000);
SELECT submeter.judge_reading(1, 3, '2025-02-01 02:00+08', 'replace', 'misread', 60000) > 0 AS judged;
SELECT submeter.settle(1, '2025-02-10 00:00+08') > 0 AS settled;
SELECT account, tariff, amount, posted, billed, adjusted, accrued FROM submeter.charge_statement WHERE cycle_start = '2025-01-01 00:00+08' AND accrued <> 0 ORDER BY 1, 2;
SELECT submeter.post_charges(1, '2025-02-10 00:00+08') AS posted, submeter.post_charges(1, '2025-02-10 00:00+08') AS again;
SELECT a.code, x.amount, x.cause, x.bill_id FROM submeter.charge_adjustment x JOIN submeter.account a USING (site_id, account_id) ORDER BY 1;
SELECT count(*) FILTER (WHERE kind = 'adjustment' AND idempotency_key LIKE 'adjustment:%') AS adjustments FROM submeter.transfer;
SELECT * FROM pg_temp.wrong();
SELECT pg_temp.read(1, '2025-03-01 00:00', 260.433), pg_temp.read(2, '2025-03-01 00:00', 7.001), pg_temp.read(3, '2025-03-01 00:00', 70.000),
	pg_temp.read(4, '2025-03-01 00:00', 130.000), pg_temp.read(6, '2025-03-01 00:00', 500.000);
SELECT submeter.close_due(1, '2025-03-01 00:00+08', '2025-03-05 00:00+08') AS bills;
SELECT * FROM pg_temp.bills WHERE nth = 2 ORDER BY 1, 2;
SELECT * FROM pg_temp.lines WHERE nth = 2 ORDER BY 1, 2, 3;
SELECT * FROM pg_temp.meters WHERE nth = 2 ORDER BY 1, 2, 3;
SELECT * FROM pg_temp.bills WHERE nth = 1 ORDER BY 1, 2;
SELECT * FROM pg_temp.wrong();

-- 4. Every line down to its readings

CREATE FUNCTION pg_temp.nth_bill(account text, nth int) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT b.bill_id FROM submeter.bill_statement b WHERE b.site_id = 1 AND b.account = nth_bill.account ORDER BY b.bill_id OFFSET nth - 1 LIMIT 1
$$;
SELECT bill_line AS line, component AS what, tier, price, amount, meter, pg_temp.local(reading_from) AS read_from, pg_temp.local(reading_to) AS read_to,
	register_from_kwh, register_to_kwh, multiplier::float AS times, estimated AS est, pg_temp.local(from_ts) AS from_local, pg_temp.local(to_ts) AS to_local, kwh, detail
FROM submeter.explain_bill(1, pg_temp.nth_bill('a1', 1));
SELECT bill_line AS line, component AS what, tariff, meter, pg_temp.local(reading_from) AS read_from, pg_temp.local(reading_to) AS read_to, register_from_kwh, register_to_kwh, kwh, detail
FROM submeter.explain_bill(1, pg_temp.nth_bill('a3', 1));
SELECT bill_line AS line, component AS what, meter, amount, pg_temp.local(reading_from) AS read_from, pg_temp.local(reading_to) AS read_to, detail - 'adjustment_id' AS detail
FROM submeter.explain_bill(1, pg_temp.nth_bill('a3', 2), 2);
-- Lines and what explains them have the same energy, unless something came in since.
SELECT b.account, l.line, l.kwh AS line_kwh, e.kwh AS explained_kwh
FROM submeter.bill_statement b
CROSS JOIN LATERAL (SELECT x.bill_line AS line, sum(x.kwh) AS kwh FROM submeter.explain_bill(1, b.bill_id) x WHERE x.component = 'energy' GROUP BY 1) e
JOIN submeter.bill_line_statement l ON l.bill_id = b.bill_id AND l.line = e.line
WHERE b.state = 'issued' AND l.kwh <> e.kwh ORDER BY 1, 2;
SELECT regexp_replace(pg_temp.refusal('SELECT * FROM submeter.explain_bill(' || a || ')'), 'bill \d+', 'bill N')
FROM unnest(ARRAY['1, -1', '1, NULL', '2, ' || pg_temp.nth_bill('a1', 1), '99, 1', 'NULL, 1', '1, ' || pg_temp.nth_bill('a1', 1) || ', 9']) a;

-- 5. Taken back and issued again

SELECT submeter.void_bill(1, pg_temp.nth_bill('a3', 1), 'wrong address') > 0 AS reversed;
SELECT * FROM pg_temp.bills WHERE account = 'a3' ORDER BY nth;
SELECT sum(amount) AS nothing_left FROM pg_temp.bills WHERE account = 'a3' AND nth IN (1, 3);
SELECT regexp_replace(pg_temp.refusal(format(s, pg_temp.nth_bill('a3', 1), pg_temp.nth_bill('a3', 3), pg_temp.nth_bill('a3', 2))), 'ill \d+', 'ill N', 'g') FROM unnest(ARRAY[
	'SELECT submeter.void_bill(1, %1$s, ''again'')', 'SELECT submeter.void_bill(1, %2$s, ''the reversal'')', 'SELECT submeter.void_bill(1, %3$s, '' '')',
	'SELECT submeter.void_bill(1, %3$s, NULL)', 'SELECT submeter.void_bill(1, -1, ''x'')', 'SELECT submeter.void_bill(2, %3$s, ''x'')', 'SELECT submeter.void_bill(NULL, %3$s, ''x'')']) s;
-- The cycle is not closed a second time.
SELECT submeter.close_due(1, '2025-03-01 00:00+08', '2025-03-05 00:00+08') AS bills;
-- Another fact of January comes in; it and the adjustment that bill 2 shows already meet in the new bill.
SELECT submeter.judge_reading(1, 7, '2025-01-22 00:00+08', 'replace', 'misread', 30000) > 0 AS judged;
SELECT submeter.issue_bill(1, 3, '2025-01-01 00:00+08', 'right address') > 0 AS issued;
SELECT * FROM pg_temp.bills WHERE account = 'a3' ORDER BY nth;
SELECT * FROM pg_temp.lines WHERE account = 'a3' AND nth IN (3, 4) ORDER BY nth, line;
SELECT x.amount, x.bill_id = pg_temp.nth_bill('a3', 4) AS in_the_new_bill FROM submeter.charge_adjustment x WHERE x.account_id = 3 ORDER BY x.adjustment_id;
-- Voided together with the adjustments it showed, a bill shows them again.
SELECT submeter.void_bill(1, pg_temp.nth_bill('a6', 2), 'twice') > 0 AS reversed;
SELECT bill_id AS shown_in FROM submeter.charge_adjustment WHERE account_id = 6;
SELECT submeter.issue_bill(1, 6, '2025-02-01 00:00+08', 'once more') > 0 AS issued;
SELECT * FROM pg_temp.lines WHERE account = 'a6' ORDER BY nth, line;
SELECT regexp_replace(pg_temp.refusal('SELECT submeter.issue_bill(' || a || ')'), 'Bill \d+', 'Bill N') FROM unnest(ARRAY[
	'1, 3, ''2025-01-01 00:00+08'', ''twice''', '1, 3, ''2025-01-02 00:00+08'', ''no cycle begins then''', '1, 7, ''2025-01-01 00:00+08'', ''never billed''', '1, 99, ''2025-01-01 00:00+08'', ''x''',
	'1, 3, NULL, ''x''', '1, 3, ''2025-01-01 00:00+08'', NULL', '2, 3, ''2025-01-01 00:00+08'', ''x''', '99, 3, ''2025-01-01 00:00+08'', ''x''']) a;
SELECT * FROM pg_temp.wrong();

-- 6. Nothing of a closed cycle is edited

SELECT regexp_replace(pg_temp.refusal(s), '(bill|account) \d+ ', '\1 N ') FROM unnest(ARRAY[
	'UPDATE submeter.bill SET amount = 0', 'UPDATE submeter.bill SET state = ''issued'' WHERE state = ''void''', 'UPDATE submeter.bill SET state = ''void'', amount = 1 WHERE state = ''issued''',
	'DELETE FROM submeter.bill', 'TRUNCATE submeter.bill CASCADE', 'UPDATE submeter.bill_line SET amount = 0', 'DELETE FROM submeter.bill_line', 'UPDATE submeter.bill_meter SET to_wh = 0',
	'UPDATE submeter.charge SET billed = 0 WHERE billed IS NOT NULL', 'UPDATE submeter.charge SET billed = NULL WHERE billed IS NOT NULL',
	'UPDATE submeter.charge SET posted = posted + 1 WHERE billed IS NOT NULL', 'UPDATE submeter.charge SET final = false WHERE billed IS NOT NULL', 'DELETE FROM submeter.charge WHERE billed IS NOT NULL']) s;

-- 7. Moving out: the running cycle ends when the account does

SELECT pg_temp.read(1, '2025-03-11 12:00', 300.433);
UPDATE submeter.supply SET during = '["2025-01-01 00:00+08","2025-03-11 12:00+08")' WHERE site_id = 1 AND account_id = 1;
SELECT submeter.close_account_cycles(1, 1, '2025-03-11 12:00+08') AS bills;
UPDATE submeter.account SET state = 'closed', closed_at = '2025-03-11 12:00+08' WHERE site_id = 1 AND account_id = 1;
SELECT * FROM pg_temp.bills WHERE account = 'a1' ORDER BY nth;
SELECT submeter.close_account_cycles(1, 1, '2025-03-11 12:00+08') AS again, submeter.close_due(1, '2025-04-01 00:00+08', '2025-03-31 23:00+08') AS later;
-- The reading at the end was wrong: the former tenant gets money back; nobody pays it out by itself.
SELECT submeter.judge_reading(1, 1, '2025-03-11 12:00+08', 'replace', 'photograph', 290433) > 0 AS judged, submeter.settle(1, '2025-03-12') > 0 AS settled;
SELECT submeter.post_charges(1, '2025-03-12') AS posted;
SELECT a.code AS account, p.kind, p.amount, p.source, p.state, p.dedupe_key = 'adjustment:' || (p.detail ->> 'adjustment_id') AS keyed, p.detail -> 'cause' AS cause
FROM submeter.proposal p JOIN submeter.account a USING (site_id, account_id);
SELECT * FROM pg_temp.wrong();

-- 8. Wrong calls

SELECT pg_temp.refusal('SELECT submeter.close_cycle(' || a || ')') FROM unnest('{"1, NULL","1, ''infinity''","99, ''2025-01-01''","NULL, ''2025-01-01''"}'::text[]) a;

-- 9. Another site: cycles from the 15th, a whole tariff, and who decides when cycles are closed

INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (2, 8, 't8', 'Tenant 8');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) SELECT 2, n, 8, 'b' || n, '2025-01-15 00:00+08' FROM generate_series(8, 10) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 2, n, 'x' || n, 'DDS238-2 ZN/SR' FROM generate_series(8, 10) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, gap_after) SELECT 2, n, 100000, '60 days' FROM generate_series(8, 10) n;
SELECT submeter.create_tariff(2, 'whole', '{"periods":[{"name":"peak","windows":[{"from":"08:00","to":"20:00"}]},{"name":"flat"}],"energy":[{"period":"peak","price":1.2},{"price":0.4}],
	"adders":[{"name":"funds","price":0.01}],"fees":[{"name":"service","per":"cycle","amount":10}],"minimum":20,"tax_rate":0.13}', '2025-01-01 00:00+08') AS whole \gset
SELECT submeter.create_tariff(2, 'late', '{"energy":[{"price":1}]}', '2025-02-01 00:00+08') AS late \gset
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (2, 8, 8, :whole, '["2025-01-15 00:00+08",)'), (2, 9, 9, :late, '["2025-01-15 00:00+08",)'), (2, 10, 10, :whole, '["2025-01-15 00:00+08",)');
SELECT submeter.ingest(2, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', m, 'ts', at, 'energy_wh', wh)))) AS read
FROM (VALUES (8, '2025-01-15 00:00+08', 0), (8, '2025-02-15 00:00+08', 310000), (9, '2025-01-15 00:00+08', 0), (9, '2025-02-15 00:00+08', 31000),
	(10, '2025-01-15 00:00+08', 0), (10, '2025-02-15 00:00+08', 1000)) v(m, at, wh);
UPDATE submeter.site SET close_cycles = false WHERE site_id = 2;
SELECT submeter.close_duty(2, '2025-02-15 00:10+08') AS not_wanted;
UPDATE submeter.site SET close_cycles = true WHERE site_id = 2;
SELECT submeter.close_duty(2, '2025-02-14 23:59+08') AS too_early;
SELECT submeter.close_duty(2, '2025-02-15 00:10+08') AS bills;
SELECT account, pg_temp.local(cycle_start) AS from_local, pg_temp.local(cycle_end) AS to_local, kwh, amount FROM submeter.bill_statement WHERE site_id = 2 ORDER BY 1;
-- (155 x 1.2 + 155 x 0.4 + 3.1 + 10) x 1.13 = 295.04; (0.5 x 1.2 + 0.5 x 0.4 + 0.01 + 10) to 20, x 1.13 = 22.60.
SELECT account, line, component AS what, period, kwh, price::float, amount FROM submeter.bill_line_statement WHERE site_id = 2 ORDER BY 1, 2;
-- Energy without a price waits, also when it is late; with a price it is billed.
SELECT submeter.close_duty(2, '2025-03-01') AS still_waiting, (SELECT sum(unpriced_wh) FROM submeter.charge WHERE site_id = 2) AS unpriced_wh;
SELECT left(pg_temp.refusal('SELECT submeter.close_account_cycles(2, 9, ''2025-02-15 00:00+08'')'), 120);
SELECT submeter.create_tariff(2, 'late', '{"energy":[{"price":2}]}', '2025-01-01 00:00+08') > 0 AS priced;
SELECT submeter.close_duty(2, '2025-03-01') AS bills;
SELECT kwh, amount FROM submeter.bill_statement WHERE account = 'b9';
-- A supply is found to have been another account's: the charge of a cycle that was billed without it is an adjustment as a whole.
UPDATE submeter.supply SET account_id = 9 WHERE site_id = 2 AND account_id = 10;
SELECT submeter.settle(2, '2025-03-01') > 0 AS settled;
SELECT submeter.post_charges(2, '2025-03-01') AS posted;
SELECT a.code AS account, t.code AS tariff, c.rounded, c.billed, c.adjusted, jsonb_path_query_array(x.cause, '$[*].kind') AS cause
FROM submeter.charge c JOIN submeter.account a USING (site_id, account_id) JOIN submeter.tariff t USING (site_id, tariff_id) JOIN submeter.charge_adjustment x USING (site_id, account_id, tariff_id, cycle_start)
WHERE c.site_id = 2 ORDER BY 1, 2;
SELECT * FROM pg_temp.wrong();
SELECT * FROM submeter.verify_ledger(2);

-- 10. A tenant explains their own bills

CREATE ROLE regress_bill_tenant LOGIN;
GRANT submeter_tenant TO regress_bill_tenant;
UPDATE submeter.contact SET login = 'regress_bill_tenant' WHERE site_id = 1 AND tenant_id = 2;
SELECT pg_temp.nth_bill('a2', 1) AS own, pg_temp.nth_bill('a4', 1) AS neighbour \gset
SET SESSION AUTHORIZATION regress_bill_tenant;
SELECT bill_line AS line, component AS what, amount, meter, kwh FROM submeter.explain_bill(1, :own);
SELECT regexp_replace(pg_temp.refusal('SELECT * FROM submeter.explain_bill(1, ' || :neighbour || ')'), 'bill \d+', 'bill N');
SELECT count(*) > 0 AS bills, bool_and(account = 'a2') AS own FROM submeter.bill_statement;
SELECT left(pg_temp.refusal('SELECT submeter.void_bill(1, ' || :own || ', ''I do not like it'')'), 50);
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_bill_tenant;
DROP ROLE regress_bill_tenant;
