-- Room: correction. What was believed was wrong; what it comes to is shown before it is done, and a debit never cuts anybody.
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

INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'mall', 'A mall', 'en'), (2, 'other', 'Another mall', 'en');
SELECT submeter.create_partitions('2024-12-01', '2025-06-01') > 0 AS partitions;
UPDATE submeter.credit_policy SET mode = 'automatic', low_balances = '{}', no_trip_windows = '[]', notice_lead = '0';
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 't' || n, 'Tenant ' || n FROM generate_series(1, 5) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 6) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, multiplier) SELECT 1, n, 1000, CASE n WHEN 1 THEN 20 ELSE 1 END FROM generate_series(1, 6) n;
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":0.5},{"price":1}]}', '2025-01-01 00:00+08') AS tiers \gset
CREATE FUNCTION pg_temp.ts(at text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT at::timestamp AT TIME ZONE 'Asia/Shanghai' $$;
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', pg_temp.ts(at), 'energy_wh', (kwh * 1000)::bigint))])
$$;
CREATE VIEW pg_temp.purse AS SELECT b.account, b.state, b.mode, b.available, b.debt FROM submeter.account_balance b WHERE b.site_id = 1 ORDER BY b.account_id;
CREATE VIEW pg_temp.owed AS SELECT c.account_id, f.code AS tariff, c.cycle_start AT TIME ZONE 'Asia/Shanghai' AS cycle, c.energy_wh, c.rounded FROM submeter.charge c JOIN submeter.tariff f USING (site_id, tariff_id) ORDER BY 1, 3, 2;
-- Numbers as everything else counts them, so that "nothing happened" is one comparison.
CREATE FUNCTION pg_temp.world() RETURNS text LANGUAGE sql AS $$
	SELECT md5(concat((SELECT jsonb_agg(to_jsonb(c) - 'updated_at' ORDER BY c.account_id, c.tariff_id, c.cycle_start) FROM submeter.charge c),
		(SELECT jsonb_agg(t ORDER BY t.transfer_id, t.leg) FROM submeter.transfer t), (SELECT jsonb_agg(e ORDER BY e.meter_id, e.valid_from, e.entered_at) FROM submeter.meter_setup e),
		(SELECT jsonb_agg(y ORDER BY y.supply_id) FROM submeter.supply y), (SELECT jsonb_agg(v ORDER BY v.tariff_id, v.valid_from, v.revision) FROM submeter.tariff_version v),
		(SELECT jsonb_agg(p ORDER BY p.name, p.valid_from, p.revision) FROM submeter.price_item p), (SELECT jsonb_agg(v ORDER BY v.verdict_id) FROM submeter.reading_verdict v),
		(SELECT jsonb_agg(l ORDER BY l.ledger_account_id) FROM submeter.ledger_account l), (SELECT jsonb_agg(c) FROM submeter.correction c),
		(SELECT jsonb_agg(u ORDER BY u.meter_id, u.day) FROM submeter.usage_day u), (SELECT jsonb_agg(s ORDER BY s.suspect_id) FROM submeter.reading_suspect s)))
$$;

-- Meter 1 was entered with transformers 100/5 and has 50/5: everything counted twice. Its first tenant has left.
SELECT submeter.move_in(1, 1, '{1}', :tiers, pg_temp.ts('2025-01-01 00:00'), '{0}', code => 'former', as_of => pg_temp.ts('2025-01-01 00:00')) AS former \gset
SELECT pg_temp.read(1, '2025-01-21 00:00', 10);
SELECT submeter.recharge(1, :former, 300, 'cash', 'f1') > 0 AS paid, submeter.move_out(1, :former, pg_temp.ts('2025-01-21 00:00'), NULL, 'origin', as_of => pg_temp.ts('2025-01-21 00:01')) > 0 AS left;
SELECT submeter.move_in(1, 2, '{1}', :tiers, pg_temp.ts('2025-01-21 00:00'), code => 'present', as_of => pg_temp.ts('2025-01-21 00:02')) AS present \gset
SELECT submeter.move_in(1, 3, '{2}', :flat, pg_temp.ts('2025-01-01 00:00'), '{0}', code => 'baker', as_of => pg_temp.ts('2025-01-01 00:00')) AS baker \gset
SELECT submeter.move_in(1, 4, '{3}', :flat, pg_temp.ts('2025-01-11 00:00'), '{0}', code => 'tailor', as_of => pg_temp.ts('2025-01-11 00:00')) AS tailor \gset
SELECT submeter.move_in(1, 5, '{4}', :flat, pg_temp.ts('2025-01-01 00:00'), '{0}', code => 'bank', mode => 'postpaid', as_of => pg_temp.ts('2025-01-01 00:00')) AS bank \gset
SELECT bool_and(submeter.recharge(1, a, 100, 'cash', 'k' || a) > 0) AS paid FROM unnest(ARRAY[:present, :baker, :tailor]) a;
SELECT pg_temp.read(1, '2025-02-11 00:00', 15.5), pg_temp.read(2, '2025-02-01 00:00', 62), pg_temp.read(3, '2025-02-01 00:00', 21), pg_temp.read(4, '2025-02-01 00:00', 31), pg_temp.read(2, '2025-02-11 00:00', 82), pg_temp.read(3, '2025-02-11 00:00', 26), submeter.settle(1, pg_temp.ts('2025-02-11'));
SELECT submeter.post_charges(1, pg_temp.ts('2025-02-11')) > 0 AS posted;
SELECT * FROM pg_temp.owed;
SELECT * FROM pg_temp.purse;

-- 1. The transformers

SELECT pg_temp.world() AS before \gset
SELECT * FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 50/5, not 100/5', multiplier => 10, as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, cycle_start, old, new, difference FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 50/5, not 100/5', false, 10, as_of => pg_temp.ts('2025-02-11'));
SELECT * FROM pg_temp.purse;
-- Done once: the same again is right already.
SELECT count(*) AS rows FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 50/5, not 100/5', false, 10, as_of => pg_temp.ts('2025-02-11'));
-- The other way round, a debit: put aside as debt, the balance of nobody falls; in four instalments.
SELECT pg_temp.world() AS before \gset
SELECT account, state, cycle_start, old, new, difference FROM submeter.correct_setup(1, 2, pg_temp.ts('2025-01-01 00:00'), 'CT 10/5 forgotten', multiplier => 2, as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.correct_setup(1, 2, pg_temp.ts('2025-01-01 00:00'), 'CT 10/5 forgotten', false, 2, instalments => 4, as_of => pg_temp.ts('2025-02-11'));
SELECT * FROM pg_temp.purse;
SELECT monthly_amount FROM submeter.debt_plan;
SELECT t.kind, t.amount, t.note FROM submeter.transfer t WHERE t.account_id = :baker AND t.kind <> 'charge' ORDER BY t.transfer_id;
SELECT submeter.apply_policy(1, pg_temp.ts('2025-02-11')) > 0 AS decided;
SELECT d.action, d.reason FROM submeter.decision d WHERE d.account_id = :baker;
-- Taken back: the credit pays what was put aside, and nothing is left of it.
SELECT account, difference FROM submeter.correct_setup(1, 2, pg_temp.ts('2025-01-01 00:00'), 'they were not forgotten', false, 1, as_of => pg_temp.ts('2025-02-11'));
SELECT * FROM pg_temp.purse WHERE account = 'baker';
-- From a date on only, and only what is named.
SELECT account, cycle_start, difference FROM submeter.correct_setup(1, 2, pg_temp.ts('2025-02-01 00:00'), 'new transformers since February', multiplier => 3, as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_setup(1, 2, '2025-02-01', '', multiplier => 2, as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(1, 2, '2025-02-12', 'x', multiplier => 2, as_of => '2025-02-11')$$, $$SELECT submeter.correct_setup(1, 2, NULL, 'x', multiplier => 2, as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', multiplier => 0, as_of => '2025-02-11')$$, $$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', multiplier => 'NaN', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', multiplier => 1.00001, as_of => '2025-02-11')$$, $$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', gap_shape => 'round', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(1, 99, '2025-02-01', 'x', multiplier => 2, as_of => '2025-02-11')$$, $$SELECT submeter.correct_setup(2, 2, '2025-02-01', 'x', multiplier => 2, as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(99, 2, '2025-02-01', 'x', multiplier => 2)$$, $$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', multiplier => 2, instalments => 0, as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', register_modulus_wh => -1, as_of => '2025-02-11')$$]) s;
-- A meter that rolls over at 100 kWh, which nobody had said: its readings were suspect until then.
SELECT submeter.move_in(1, 5, '{5}', :flat, pg_temp.ts('2025-01-01 00:00'), '{90000}', account_id => :bank, as_of => pg_temp.ts('2025-01-01 00:00')) = :bank AS second_supply;
SELECT pg_temp.read(5, '2025-01-11 00:00', 98), pg_temp.read(5, '2025-01-21 00:00', 7), submeter.settle(1, pg_temp.ts('2025-02-11'));
SELECT rule, state FROM submeter.reading_suspect WHERE meter_id = 5;
SELECT account, cycle_start, old, new, difference FROM submeter.correct_setup(1, 5, '-infinity', 'five digits', false, register_modulus_wh => 100000, as_of => pg_temp.ts('2025-02-11'));
SELECT rule, state FROM submeter.reading_suspect WHERE meter_id = 5;
-- Postpaid: nothing to put aside.
SELECT * FROM pg_temp.purse WHERE account = 'bank';
SELECT * FROM submeter.verify_ledger(1);

-- 2. Crossed meters

-- The baker (2 kWh a day) and the tailor (1, then 0.5) have each other's meter since the 11th of January; the tailor's tenancy begins then.
SELECT pg_temp.world() AS before \gset
SELECT account, state, cycle_start, old, new, difference FROM submeter.correct_supply(1, 2, 3, pg_temp.ts('2025-01-11 00:00'), 'wires crossed in the cabinet', as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.correct_supply(1, 3, 2, pg_temp.ts('2025-01-11 00:00'), 'wires crossed in the cabinet', false, as_of => pg_temp.ts('2025-02-11'));
SELECT count(*) AS again FROM submeter.correct_supply(1, 2, 3, pg_temp.ts('2025-01-11 00:00'), 'wires crossed in the cabinet', false, as_of => pg_temp.ts('2025-02-11'));
SELECT a.code, y.meter_id, y.during, y.opening_wh FROM submeter.supply y JOIN submeter.account a USING (site_id, account_id) WHERE y.meter_id IN (2, 3) ORDER BY 1, 3;
SELECT * FROM pg_temp.purse;
-- For another reason it is swapped back, and everybody owes what they owed.
SELECT account, difference FROM submeter.correct_supply(1, 2, 3, pg_temp.ts('2025-01-11 00:00'), 'they were not crossed', false, as_of => pg_temp.ts('2025-02-11'));
SELECT account_id, sum(rounded) FROM submeter.charge WHERE account_id IN (:baker, :tailor) GROUP BY 1 ORDER BY 1;
SELECT * FROM pg_temp.purse WHERE account IN ('baker', 'tailor');
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.correct_supply(1, 2, 2, '2025-01-11', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_supply(1, 2, 99, '2025-01-11', 'x', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_supply(1, 2, NULL, '2025-01-11', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_supply(1, 2, 3, '2025-02-12', 'x', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_supply(1, 2, 3, '-infinity', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_supply(1, 2, 3, '2025-01-11', ' ', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_supply(2, 2, 3, '2025-01-11', 'x', as_of => '2025-02-11')$$]) s;
SELECT * FROM submeter.verify_ledger(1);

-- 3. A price that was lowered after the fact, former tenants included

SELECT pg_temp.world() AS before \gset
SELECT account, state, cycle_start, old, new, difference FROM submeter.correct_tariff(1, 'tiers', '{"energy":[{"price":0.4}]}', pg_temp.ts('2025-01-01 00:00'), 'the grid lowered it', as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.correct_tariff(1, 'tiers', '{"energy":[{"price":0.4}]}', pg_temp.ts('2025-01-01 00:00'), 'the grid lowered it', false, as_of => pg_temp.ts('2025-02-11'));
SELECT count(*) AS again FROM submeter.correct_tariff(1, 'tiers', '{"energy":[{"price":0.4}]}', pg_temp.ts('2025-01-01 00:00'), 'the grid lowered it', false, as_of => pg_temp.ts('2025-02-11'));
-- A version in between: the flat price is 2 since February; and what it comes to by the month.
SELECT account, cycle_start, difference FROM submeter.correct_tariff(1, 'flat', '{"energy":[{"price":2}]}', pg_temp.ts('2025-02-01 00:00'), 'the letter came late', false, 2, pg_temp.ts('2025-02-11'));
SELECT f.code, v.valid_from, v.revision, v.definition -> 'energy' -> 0 -> 'price' AS first_price, v.reason FROM submeter.tariff_version v JOIN submeter.tariff f USING (site_id, tariff_id) ORDER BY 1, 2, 3;
SELECT * FROM pg_temp.purse;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.correct_tariff(1, 'none', '{"energy":[{"price":1}]}', '2025-01-01', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_tariff(1, 'flat', NULL, '2025-01-01', 'x', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_tariff(1, 'flat', '{"energy":[]}', '2025-01-01', 'x', as_of => '2025-02-11')$$, $$SELECT submeter.correct_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-03-01', 'x', as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01', NULL, as_of => '2025-02-11')$$, $$SELECT submeter.correct_tariff(2, 'flat', '{"energy":[{"price":1}]}', '2025-01-01', 'x', as_of => '2025-02-11')$$]) s;

-- 4. Readings

SELECT pg_temp.world() AS before \gset
SELECT account, cycle_start, old, new, difference FROM submeter.judge_reading(1, 3, pg_temp.ts('2025-02-11 00:00'), 'replace', 'photograph', 36000, true, as_of => pg_temp.ts('2025-02-11'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.judge_reading(1, 3, pg_temp.ts('2025-02-11 00:00'), 'replace', 'photograph', 36000, false, as_of => pg_temp.ts('2025-02-11'));
SELECT * FROM pg_temp.purse WHERE account = 'tailor';
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.judge_reading(1, 3, '2025-02-10 16:00+00', 'maybe', 'x', NULL, true)$$, $$SELECT submeter.judge_reading(1, 3, '2025-02-10 16:00+00', 'replace', 'x', NULL, true)$$,
	$$SELECT submeter.judge_reading(1, 3, '2025-02-09', 'withdraw', 'x', NULL, true)$$, $$SELECT submeter.judge_reading(1, 3, '2025-02-10 16:00+00', 'withdraw', '', NULL, true)$$]) s;

-- 5. Closed cycles stay as they were billed; the difference is an adjustment, with its cause, and as before nobody's balance falls

SELECT pg_temp.read(n, '2025-02-12 00:00', w) FROM (VALUES (4, 40), (5, 8), (2, 84), (3, 37)) r(n, w);
SELECT submeter.close_due(1, pg_temp.ts('2025-02-01 00:00'), pg_temp.ts('2025-02-12')) AS bills;
SELECT a.code, b.state, b.amount FROM submeter.bill b JOIN submeter.account a USING (site_id, account_id) ORDER BY 1, b.cycle_start;
SELECT * FROM pg_temp.purse;
SELECT pg_temp.world() AS before \gset
SELECT account, state, cycle_start, old, new, difference FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 50/5 after all 75/5', true, 15, as_of => pg_temp.ts('2025-02-12'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 50/5 after all 75/5', false, 15, as_of => pg_temp.ts('2025-02-12'));
SELECT * FROM pg_temp.purse;
SELECT a.code, j.cycle_start, j.amount,
	ARRAY(SELECT DISTINCT k ->> 'kind' FROM jsonb_array_elements(j.cause) k WHERE k ->> 'kind' <> 'reading' ORDER BY 1) AS cause
FROM submeter.charge_adjustment j JOIN submeter.account a USING (site_id, account_id) ORDER BY 1, 2, j.adjustment_id;
SELECT a.code, p.kind, p.amount, p.source, p.state FROM submeter.proposal p JOIN submeter.account a USING (site_id, account_id) ORDER BY p.proposal_id;
SELECT a.code, b.state, b.amount FROM submeter.bill b JOIN submeter.account a USING (site_id, account_id) ORDER BY 1, b.cycle_start;
-- What the former tenant owes after all is debt of the person, paid at the desk.
SELECT submeter.tidy_closed(1, pg_temp.ts('2025-02-12'));
SELECT * FROM pg_temp.purse WHERE state = 'closed';
-- 110 to pay back and 20 owed are 90: paid, and all three proposals are settled with it.
SELECT submeter.refund(1, :former, 90, 'as proposed', 'f2') > 0 AS refunded;
SELECT DISTINCT p.state FROM submeter.proposal p WHERE p.account_id = :former;
SELECT account, difference FROM submeter.correct_setup(1, 1, pg_temp.ts('2025-01-01 00:00'), 'CT 100/5 after all', false, 20, as_of => pg_temp.ts('2025-02-12'));
SELECT submeter.tidy_closed(1, pg_temp.ts('2025-02-12'));
SELECT * FROM pg_temp.purse WHERE account IN ('former', 'present');
SELECT submeter.pay_debt(1, :former, 20, 'f3', 'bank') > 0 AS paid;
SELECT kind, amount, state FROM submeter.proposal WHERE account_id = :former ORDER BY proposal_id;
SELECT * FROM submeter.verify_ledger(1);

-- 6. A named price, for all tariffs that refer to it

SELECT count(*) > 0 AS loaded FROM submeter.load_prices(1, E'name,valid_from,price\ngrid,2025-01-01,0.5\n', 'the grid''s list');
SELECT submeter.create_tariff(1, 'named', '{"energy":[{"price":{"ref":"grid","plus":0.1}}]}', '2025-01-01 00:00+08') AS named \gset
SELECT submeter.move_in(1, 1, '{6}', :named, pg_temp.ts('2025-01-15 00:00'), '{0}', code => 'named', as_of => pg_temp.ts('2025-01-15')) AS with_name \gset
SELECT submeter.recharge(1, :with_name, 50, 'cash', 'n1') > 0 AS paid, pg_temp.read(6, '2025-02-12 00:00', 28), submeter.settle(1, pg_temp.ts('2025-02-12'));
SELECT pg_temp.world() AS before \gset
SELECT account, cycle_start, old, new, difference FROM submeter.correct_price(1, 'grid', 0.7, pg_temp.ts('2025-02-01'), 'misread', as_of => pg_temp.ts('2025-02-12'));
SELECT pg_temp.world() = :'before' AS nothing_happened;
SELECT account, difference FROM submeter.correct_price(1, 'grid', 0.7, pg_temp.ts('2025-02-01'), 'misread', false, as_of => pg_temp.ts('2025-02-12'));
SELECT account, difference FROM submeter.correct_price(1, 'grid', 0.6, pg_temp.ts('2025-02-01'), 'misread twice', false, as_of => pg_temp.ts('2025-02-12'));
SELECT valid_from, revision, price, reason FROM submeter.price_item WHERE name = 'grid' ORDER BY 1, 2;
SELECT * FROM pg_temp.purse WHERE account = 'named';
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.correct_price(1, 'none', 1, '2025-02-01', 'x', as_of => '2025-02-12')$$, $$SELECT submeter.correct_price(1, 'grid', -1, '2025-02-01', 'x', as_of => '2025-02-12')$$,
	$$SELECT submeter.correct_price(1, 'grid', 'NaN', '2025-02-01', 'x', as_of => '2025-02-12')$$, $$SELECT submeter.correct_price(1, 'grid', 0.123456789, '2025-02-01', 'x', as_of => '2025-02-12')$$,
	$$SELECT submeter.correct_price(1, 'grid', 1, '2025-03-01', 'x', as_of => '2025-02-12')$$, $$SELECT submeter.correct_price(1, 'grid', 1, '-infinity', 'x', as_of => '2025-02-12')$$]) s;

-- 7. Free energy: a row is a grant; used first, and what was granted late comes back as a credit

INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, during) VALUES (1, :with_name, :named, 'hardship', 10, tstzrange(pg_temp.ts('2025-02-01'), NULL));
SELECT submeter.settle(1, pg_temp.ts('2025-02-12')) >= 0 AS settled;
SELECT cycle_start, energy_wh, rounded FROM submeter.charge WHERE account_id = :with_name ORDER BY 1;
SELECT available FROM pg_temp.purse WHERE account = 'named';
-- What was not paid is not paid back: 50 was paid, whatever the allowance gave.
SELECT submeter.refundable(1, :with_name) < 50 AS bounded;
UPDATE submeter.allowance SET during = tstzrange(pg_temp.ts('2025-02-01'), pg_temp.ts('2025-03-01'));
SELECT submeter.settle(1, pg_temp.ts('2025-02-12')) >= 0 AS settled;
SELECT * FROM submeter.verify_ledger(1);

-- 8. On record, and for two persons where the site wants it

SELECT kind, change - 'definition' AS change, reason, accounts, debited, credited FROM submeter.correction ORDER BY correction_id;
SELECT left(pg_temp.refusal('UPDATE submeter.correction SET credited = 0'), 60) AS kept;
CREATE ROLE regress_correction_boss LOGIN;
GRANT submeter_admin TO regress_correction_boss;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_correction_boss');
UPDATE submeter.site SET approval_verbs = '{correct_setup,correct_supply,correct_tariff,correct_price,judge_reading}' WHERE site_id = 1;
SET SESSION AUTHORIZATION regress_correction_boss;
SELECT count(*) AS a_dry_run_is_free FROM submeter.correct_setup(1, 2, pg_temp.ts('2025-02-01 00:00'), 'x', true, 5, as_of => pg_temp.ts('2025-02-11'));
SELECT left(pg_temp.refusal(s), 80) FROM unnest(ARRAY[
	$$SELECT submeter.correct_setup(1, 2, '2025-02-01', 'x', false, 5, as_of => '2025-02-11')$$, $$SELECT submeter.correct_supply(1, 2, 3, '2025-01-11', 'y', false, as_of => '2025-02-11')$$,
	$$SELECT submeter.correct_tariff(1, 'flat', '{"energy":[{"price":3}]}', '2025-01-01', 'x', false, as_of => '2025-02-11')$$,
	$$SELECT submeter.judge_reading(1, 3, '2025-02-10 16:00+00', 'accept', 'x', NULL, false, as_of => '2025-02-11')$$]) s;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_correction_boss;
SELECT * FROM submeter.verify_ledger(1);
