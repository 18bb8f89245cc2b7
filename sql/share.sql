-- Room: sharing. Common energy, losses and whole grid bills over tenants; every figure below was worked out by hand.
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

-- 1. Arithmetic

-- Half away from zero, rounded once: 0.6666… , a half, a half below zero, and a quotient that numeric division rounds up to a half first.
SELECT submeter.divide(2, 3, 2), submeter.divide(1, 8, 2), submeter.divide(-1, 8, 2), submeter.divide(1, 7, 0), submeter.divide(499999999999999999999999999999, 1000000000000000000000000000000, 0);
-- The largest remainders get what is left, the first of equals first.
SELECT submeter.apportion(100, '{1,1,1}'), submeter.apportion(10, '{3,3,4}'), submeter.apportion(-7, '{1,1}'), submeter.apportion(1, '{0,1,0}'), submeter.apportion(0, '{0,0}'), submeter.apportion(0, '{}');
-- 81 lines, and no cent is lost: sums are right, no part is a cent or more off, what weighs nothing bears nothing.
SELECT count(*) AS cases, bool_and(x.added = x.total) AS adds_up, bool_and(x.near) AS within_a_cent, bool_and(x.none) AS nothing_for_nothing
FROM (
	SELECT c.total, (SELECT sum(p) FROM unnest(c.parts) p) AS added,
		(SELECT bool_and(abs(p.part - c.total * p.weight / c.whole) < 1) FROM unnest(c.parts, c.weights) p(part, weight)) AS near,
		(SELECT bool_and(p.part = 0) FROM unnest(c.parts, c.weights) p(part, weight) WHERE p.weight = 0) AS none
	FROM (
		SELECT w.total, w.weights, (SELECT sum(u) FROM unnest(w.weights) u) AS whole, submeter.apportion(w.total, w.weights) AS parts
		FROM (
			SELECT n * 12347 + 1 AS total, (SELECT array_agg((i * i * 7919 + n * 104729) % (1000 + n) * (i % 9) ORDER BY i) FROM generate_series(1, 81) i)::numeric[] AS weights
			FROM generate_series(1, 200) n) w) c) x;
SELECT pg_temp.refusal('SELECT submeter.apportion(' || a || ')') FROM unnest(ARRAY['1, ''{0,0}''', '1, ''{}''', '0.5, ''{1}''', '1, ''{-1,2}''', '1, ''{NaN}''', '1, ''{1,NULL}''', 'NULL, ''{1}''', '1, NULL', '''Infinity'', ''{1}''']) a;

-- 2. A property: unit 1 let all January, unit 2 let until the 11th and from noon of the 16th, unit 3 empty

INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'mall', 'A mall', 'en'), (2, 'other', 'Another mall', 'zh');
SELECT submeter.create_partitions('2024-12-01', '2025-04-01') > 0 AS partitions;
INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 1, 'A', 'Hall A'), (1, 2, 'B', 'Hall B');
INSERT INTO submeter.unit (site_id, unit_id, building_id, code, area_m2, heads) VALUES (1, 1, 1, 'u1', 40, 2), (1, 2, 2, 'u2', 60, 3), (1, 3, 2, 'u3', 100, 0);
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'Bakery'), (1, 2, 't2', 'Barber'), (1, 3, 't3', 'Tailor'), (2, 20, 't1', 'Far');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 2, 'a2'), (1, 3, 3, 'a3'), (2, 20, 20, 'b1');
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model, role) VALUES (1, 1, 'm1', 'SDM120', 'supply'), (1, 2, 'm2', 'SDM120', 'supply'), (1, 3, 'm3', 'SDM120', 'supply'),
	(1, 4, 'lift', 'SDM120', 'public'), (1, 5, 'light', 'SDM120', 'public'), (1, 6, 'office', 'SDM120', 'own'), (1, 10, 'main', 'SDM630', 'main'), (2, 20, 'far', 'SDM120', 'public');
INSERT INTO submeter.meter_setup (site_id, meter_id, parent_meter_id, unit_id, multiplier) VALUES (1, 1, 10, 1, 1), (1, 2, 10, 2, 1), (1, 3, 10, 3, 1), (1, 4, 10, NULL, 1), (1, 5, 10, NULL, 1), (1, 6, 10, NULL, 1), (1, 10, NULL, NULL, 10);
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 1, :flat, '["2025-01-01 00:00+08",)'),
	(1, 2, 2, :flat, '["2025-01-01 00:00+08","2025-01-11 00:00+08")'), (1, 3, 2, :flat, '["2025-01-16 12:00+08",)');
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', (kwh * 1000)::bigint))])
$$;
SELECT sum(pg_temp.read(m, at, kwh)) AS readings
FROM (VALUES (1, '2025-01-01', 0), (1, '2025-02-01', 310), (2, '2025-01-01', 0), (2, '2025-01-11', 100), (2, '2025-01-16 12:00', 100), (2, '2025-02-01', 255),
	(3, '2025-01-01', 5), (3, '2025-02-01', 5), (4, '2025-01-01', 100), (4, '2025-02-01', 162), (5, '2025-01-01', 0), (5, '2025-02-01', 31), (6, '2025-01-01', 0), (6, '2025-02-01', 50),
	(10, '2025-01-01', 0)) r(m, at, kwh);
SELECT submeter.settle(1, '2025-02-01 01:00+08') > 0 AS settled;
-- Energy between any two instants: both sides of a cut add up, inside an hour too.
SELECT submeter.meter_energy(1, 1, 'Asia/Shanghai', '2025-01-01 00:00+08', c) AS before, submeter.meter_energy(1, 1, 'Asia/Shanghai', c, '2025-02-01 00:00+08') AS after
FROM unnest('{2025-01-01 00:00+08,2025-01-07 04:12:07+08,2025-01-07 05:00+08,2025-02-01 00:00+08,2025-03-01 00:00+08}'::timestamptz[]) c;
CREATE VIEW pg_temp.book AS
SELECT t.kind, a.code AS account, CASE WHEN l.kind = 'tenant' THEN t.amount ELSE -t.amount END AS owes, c.code AS other_side, t.cycle_start, t.note, regexp_replace(t.idempotency_key, '\d+', 'N', 'g') AS key
FROM submeter.transfer t
JOIN submeter.account a ON a.site_id = t.site_id AND a.account_id = t.account_id
JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.debit_id
JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id IN (t.debit_id, t.credit_id) AND c.account_id IS NULL
ORDER BY t.transfer_id;

-- 3. The grid's bill

SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 720, 499, 'G-1') AS bill \gset
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 720.000, 499.00, 'G-1') = :bill AS same;
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 720, 500, 'G-1', components => '{"energy":480,"funds":20.00}', meter_ids => '{10}', reason => 'a digit was misread') > :bill AS corrected;
SELECT connection, cycle_start, cycle_end, revision, energy_wh, amount, components, meter_ids, document_ref, reason FROM submeter.grid_bill ORDER BY revision;
SELECT cycle_start, energy_wh, amount, average FROM submeter.purchase(1);
-- Where cycles begin on the 15th, bills do.
BEGIN;
UPDATE submeter.site SET cycle_day = 15 WHERE site_id = 2;
SELECT submeter.enter_grid_bill(2, '2025-01-15 00:00+08', 1, 1, 'G-15') > 0 AS entered;
SELECT cycle_start, cycle_end FROM submeter.grid_bill WHERE site_id = 2;
SELECT pg_temp.refusal($$SELECT submeter.enter_grid_bill(2, '2025-01-01 00:00+08', 1, 1, 'G-15')$$);
ROLLBACK;
SELECT pg_temp.refusal('SELECT submeter.enter_grid_bill(' || a || ')') FROM unnest(ARRAY[
	$$1, '2025-01-01 00:00+08', 720, 501, 'G-1'$$, $$1, '2025-01-01', 720, 500, 'G-1'$$, $$1, '2025-01-02 00:00+08', 720, 500, 'G-1'$$, $$1, NULL, 720, 500, 'G-1'$$, $$1, 'infinity', 720, 500, 'G-1'$$,
	$$1, '2025-02-01 00:00+08', -1, 500, 'G-2'$$, $$1, '2025-02-01 00:00+08', 'NaN', 500, 'G-2'$$, $$1, '2025-02-01 00:00+08', 1.0001, 500, 'G-2'$$, $$1, '2025-02-01 00:00+08', NULL, 500, 'G-2'$$,
	$$1, '2025-02-01 00:00+08', 1, -0.01, 'G-2'$$, $$1, '2025-02-01 00:00+08', 1, 0.001, 'G-2'$$, $$1, '2025-02-01 00:00+08', 1, 'Infinity', 'G-2'$$, $$1, '2025-02-01 00:00+08', 1, 5, ' '$$, $$1, '2025-02-01 00:00+08', 1, 5, 'G-2', ''$$,
	$$1, '2025-02-01 00:00+08', 1, 5, 'G-2', components => '{"a":4}'$$, $$1, '2025-02-01 00:00+08', 1, 5, 'G-2', components => '{"a":"5"}'$$, $$1, '2025-02-01 00:00+08', 1, 5, 'G-2', components => '[5]'$$,
	$$1, '2025-02-01 00:00+08', 1, 5, 'G-2', meter_ids => '{99}'$$, $$1, '2025-02-01 00:00+08', 1, 5, 'G-2', meter_ids => '{4}'$$, $$1, '2025-02-01 00:00+08', 1, 5, 'G-2', meter_ids => '{10,10}'$$, $$99, '2025-02-01 00:00+08', 1, 5, 'G-2'$$, $$NULL, '2025-02-01 00:00+08', 1, 5, 'G-2'$$]) a;
SELECT pg_temp.refusal('UPDATE submeter.grid_bill SET amount = 1'), pg_temp.refusal('DELETE FROM submeter.grid_bill');

-- 4. Pools

INSERT INTO submeter.share_pool (site_id, code, name, method, source, meter_ids, price_from) VALUES (1, 'lift', 'The lift', 'area', 'meters', '{4}', 'purchase');
INSERT INTO submeter.share_pool (site_id, code, name, method, source, price_from) VALUES (1, 'loss', 'Losses', 'energy', 'loss', 'purchase');
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_kwh, price_from, price) VALUES (1, 'pump', 'Pump', 'heads', 'energy', 100, 'fixed', 0.8);
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount) VALUES (1, 'care', 'Care of the meters', 'equal', 'amount', 100);
SELECT regexp_replace(pg_temp.refusal('INSERT INTO submeter.share_pool (site_id, code, name, ' || p || ')'), ' . Failing row.*', '') FROM unnest(ARRAY[
	$$method, source) VALUES (1, 'x', 'x', 'gd_all_metered', 'meters'$$, $$method, source) VALUES (1, 'x', 'x', 'area', 'bill'$$, $$method, source) VALUES (1, 'x', 'x', 'area', 'meters'$$,
	$$method, source) VALUES (1, 'x', 'x', 'area', 'amount'$$, $$method, source, fixed_amount) VALUES (1, 'x', 'x', 'area', 'amount', -1$$, $$method, source, fixed_amount) VALUES (1, 'x', 'x', 'area', 'amount', 'NaN'$$,
	$$method, source, price_from) VALUES (1, 'x', 'x', 'area', 'meters', 'fixed'$$, $$method, source, price_from) VALUES (1, 'x', 'x', 'area', 'meters', 'tariff'$$,
	$$method, source, price_from, meter_ids) VALUES (1, 'x', 'x', 'area', 'meters', 'purchase', '{6}'$$, $$method, source, price_from, meter_ids) VALUES (1, 'x', 'x', 'area', 'meters', 'purchase', '{20}'$$,
	$$method, source, price_from, meter_ids) VALUES (1, 'x', 'x', 'area', 'loss', 'purchase', '{4}'$$, $$method, source, price_from, meter_ids) VALUES (1, 'x', 'x', 'area', 'meters', 'purchase', '{4,4}'$$,
	$$method, source, price_from, meter_ids) VALUES (1, 'x', 'x', 'area', 'meters', 'purchase', '{NULL}'$$, $$method, source, other_meter_ids) VALUES (1, 'x', 'x', 'gd_all_metered', 'bill', '{1}'$$,
	$$method, source, price_from) VALUES (1, 'lift', 'x', 'area', 'meters', 'purchase'$$]) p;
-- The main meter has no reading at the end yet: a dry run shows what is known, a real one waits.
SELECT account, kwh, due FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08');
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08', false, as_of => '2025-02-01 01:00+08')$$);
SELECT pg_temp.read(10, '2025-02-01', 72);
SELECT submeter.settle(1, '2025-02-01 02:00+08') > 0 AS settled;
-- By area: 62 kWh x 500 / 720 = 43.06, over 40 x 31 + 60 x 10 + 60 x 15.5 + (60 x 5.5 + 100 x 31) = 6200 m2 x days.
SELECT account, tenant, kwh, due, old, new, difference, formula FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET vacancy = 'tenants' WHERE code = 'lift';
SELECT account, due, formula FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET vacancy = 'landlord' WHERE code = 'lift';
-- Losses: 720 less 310 + 255 + 0 + 62 + 31 + 50 is 12 kWh = 8.33, by 310, 100 and 155 kWh.
SELECT account, kwh, due, formula FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08');
-- By heads, 80.00 over 2 x 31 + 3 x 10 + 3 x 15.5 + 3 x 5.5; equally by time, 100.00 over 31 + 10 + 15.5 days.
SELECT account, kwh, due, formula FROM submeter.run_share(1, 'pump', '2025-01-01 00:00+08');
SELECT account, kwh, due, formula FROM submeter.run_share(1, 'care', '2025-01-01 00:00+08');
SELECT count(*) AS stored FROM submeter.share_run;

-- 5. For real

SELECT account, due, difference FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, as_of => '2025-02-03 00:00+08');
SELECT * FROM pg_temp.book;
SELECT account, posted FROM submeter.account_balance WHERE site_id = 1 ORDER BY 1;
-- Again: nothing.
SELECT sum(difference) AS difference FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, as_of => '2025-02-03 00:00+08');
SELECT count(*) AS runs, (SELECT count(*) FROM pg_temp.book) AS movements FROM submeter.share_run;
-- What it rests on is frozen, and the lines follow from it.
SELECT jsonb_pretty(inputs - 'members') AS inputs, jsonb_array_length(inputs -> 'members') AS members FROM submeter.share_run;
SELECT m FROM submeter.share_run r, jsonb_array_elements(r.inputs -> 'members') m;
SELECT count(*) AS lines, bool_and((l.account_id, l.weight, l.energy_wh, l.due, l.formula) IS NOT DISTINCT FROM (s.account_id, s.weight, s.energy_wh, s.due, s.formula)) AS derived_again
FROM submeter.share_run r CROSS JOIN LATERAL submeter.share_split(r.inputs) s JOIN submeter.share_line l ON l.run_id = r.run_id AND l.line = s.line;
SELECT item, label, quantity, unit, remark FROM submeter.share_slip(1, 'lift', '2025-01-01 00:00+08', 2);
SELECT account, kwh, due, difference FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08', false, as_of => '2025-02-03 00:00+08');
SELECT account_id, cycle_start, component, energy_wh, amount, detail - 'run_id' - 'transfer_id' AS detail FROM submeter.share_lines(1, '{1,3}', '{2025-01-01 00:00+08,2025-01-01 00:00+08}');

-- 6. Corrections post the difference, with a reason

SELECT pg_temp.read(4, '2025-01-20', 130) AS nothing_new_at_the_end;
SELECT submeter.judge_reading(1, 4, '2025-02-01 00:00+08', 'replace', 'misread', 172000) > 0 AS judged, submeter.settle(1, '2025-02-04 00:00+08') > 0 AS settled;
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, as_of => '2025-02-05 00:00+08')$$);
-- 72 kWh now: 50.00.
SELECT account, old, new, difference FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, 'meter misread', '2025-02-05 00:00+08');
SELECT revision, kind, energy_wh, amount, reason, replaces_id IS NOT NULL AS replaces FROM submeter.share_run r JOIN submeter.share_pool p USING (site_id, pool_id) WHERE p.code = 'lift' ORDER BY revision;
SELECT account, owes, note FROM pg_temp.book WHERE kind = 'share' AND other_side = 'share:lift' OFFSET 3;
-- On the bill of January both; when that is out, what comes later is on the next one.
SELECT account_id, cycle_start, component, energy_wh, amount, detail ->> 'before' AS before, detail ->> 'reason' AS reason FROM submeter.share_lines(1, '{1}', '{2025-01-01 00:00+08}');
WITH b AS (INSERT INTO submeter.bill (site_id, account_id, cycle_start, cycle_end, energy_wh, amount, opening_balance, credited, closing_balance)
	VALUES (1, 1, '2025-01-01 00:00+08', '2025-02-01 00:00+08', 0, 14.57, 0, 0, -14.57) RETURNING bill_id)
INSERT INTO submeter.bill_line (site_id, bill_id, line, component, amount, detail)
SELECT 1, b.bill_id, row_number() OVER (), l.component, l.amount, l.detail FROM b, submeter.share_lines(1, '{1}', '{2025-01-01 00:00+08}') l;
SELECT submeter.reverse_share(1, 'lift', '2025-01-01 00:00+08', 'the lift is the landlord''s') > 0 AS taken_back;
SELECT cycle_start, component, energy_wh, amount FROM submeter.share_lines(1, '{1,1}', '{2025-02-01 00:00+08,2025-03-01 00:00+08}');
SELECT account, sum(owes) AS owes FROM pg_temp.book WHERE other_side = 'share:lift' GROUP BY 1 ORDER BY 1;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.reverse_share(1, 'lift', '2025-01-01 00:00+08', 'again')$$, $$SELECT submeter.reverse_share(1, 'pump', '2025-01-01 00:00+08', 'never run')$$,
	$$SELECT submeter.reverse_share(1, 'lift', '2025-01-01 00:00+08', ' ')$$, $$SELECT submeter.reverse_share(1, 'x', '2025-01-01 00:00+08', 'x')$$, $$SELECT submeter.reverse_share(1, 'lift', '2025-01-01 00:00+08', 'x', NULL)$$,
	$$UPDATE submeter.share_line SET amount = 0$$, $$DELETE FROM submeter.share_run$$, $$UPDATE submeter.share_pool SET code = 'elevator' WHERE code = 'lift'$$]) s;

-- 7. Members: listed units, buildings and accounts, dated

INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount, members) VALUES (1, 'hall', 'Hall B', 'energy', 'amount', 31, 'listed');
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'hall', '2025-01-01 00:00+08')$$);
INSERT INTO submeter.share_member (site_id, pool_id, building_id) SELECT 1, pool_id, 2 FROM submeter.share_pool WHERE code = 'hall';
SELECT account, due, formula FROM submeter.run_share(1, 'hall', '2025-01-01 00:00+08');
-- The bakery joins for the days from the 6th to the 10th: 5 of its 31 days at 10 kWh a day.
INSERT INTO submeter.share_member (site_id, pool_id, account_id, during) SELECT 1, pool_id, 1, '[2025-01-06,2025-01-10]' FROM submeter.share_pool WHERE code = 'hall';
SELECT account, due, formula FROM submeter.run_share(1, 'hall', '2025-01-01 00:00+08');
-- A unit named besides its building changes nothing.
INSERT INTO submeter.share_member (site_id, pool_id, unit_id) SELECT 1, pool_id, 2 FROM submeter.share_pool WHERE code = 'hall';
UPDATE submeter.share_pool SET method = 'area', fixed_amount = 62 WHERE code = 'hall';
DELETE FROM submeter.share_member WHERE account_id IS NOT NULL;
SELECT account, due, formula FROM submeter.run_share(1, 'hall', '2025-01-01 00:00+08');
UPDATE submeter.share_member SET during = '[2025-01-01,2025-01-11)';
SELECT account, due, formula FROM submeter.run_share(1, 'hall', '2025-01-01 00:00+08');
SELECT regexp_replace(pg_temp.refusal('INSERT INTO submeter.share_member (site_id, pool_id, ' || m), ' . Failing row.*', '') FROM unnest(ARRAY['account_id, unit_id) SELECT 1, pool_id, 1, 1 FROM submeter.share_pool WHERE code = ''hall''', 'during) SELECT 1, pool_id, ''empty'' FROM submeter.share_pool WHERE code = ''hall''',
	'account_id) SELECT 1, pool_id, 20 FROM submeter.share_pool WHERE code = ''hall''']) m;
-- What is not known cannot be shared by: an area that is missing, weights that are all zero.
UPDATE submeter.unit SET area_m2 = NULL, heads = 0;
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08')$$), pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'pump', '2025-01-01 00:00+08')$$);
UPDATE submeter.unit SET area_m2 = u.a, heads = u.h FROM (VALUES (1, 40, 2), (2, 60, 3), (3, 100, 0)) u(id, a, h) WHERE unit_id = u.id;
-- Nothing to share is shared without a movement: no energy, and a main meter that shows less than those below it.
UPDATE submeter.share_pool SET fixed_kwh = 0 WHERE code = 'pump';
SELECT account, due, difference FROM submeter.run_share(1, 'pump', '2025-01-01 00:00+08', false, as_of => '2025-02-05 00:00+08');
UPDATE submeter.share_pool SET fixed_kwh = 100 WHERE code = 'pump';
SELECT submeter.judge_reading(1, 10, '2025-02-01 00:00+08', 'replace', 'within its class', 70000) > 0 AS judged, submeter.settle(1, '2025-02-04 00:00+08') > 0 AS settled;
SELECT account, kwh, old, new, difference FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08');
SELECT submeter.judge_reading(1, 10, '2025-02-01 00:00+08', 'replace', 'read again', 72000) > 0 AS judged, submeter.settle(1, '2025-02-04 00:00+08') > 0 AS settled;
-- The manager's own use comes off first: 5 kWh of the light, 26 kWh are left; and when it is more, nothing is left.
INSERT INTO submeter.share_pool (site_id, code, name, method, source, meter_ids, own_kwh, price_from, price) VALUES (1, 'light', 'Light', 'equal', 'meters', '{5}', 5, 'fixed', 1);
SELECT sum(kwh) AS kwh, sum(due) AS due FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET own_kwh = 50 WHERE code = 'light';
SELECT sum(kwh) AS kwh, sum(due) AS due FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET own_kwh = 5 WHERE code = 'light';
-- A meter that became the manager's own, one that somebody pays for, one below another.
BEGIN;
UPDATE submeter.meter SET role = 'own' WHERE meter_id = 5;
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08')$$);
UPDATE submeter.meter SET role = 'public' WHERE meter_id = 5;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 5, :flat, '["2025-01-31 00:00+08",)');
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08')$$);
DELETE FROM submeter.supply WHERE meter_id = 5;
UPDATE submeter.share_pool SET meter_ids = '{4,5}' WHERE code = 'light';
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, parent_meter_id) VALUES (1, 5, '2025-01-02', 4);
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08')$$);
ROLLBACK;

-- 8. A tariff as price of common energy: the hours of its meters

SELECT submeter.create_tariff(1, 'common', '{"energy":[{"price":0.5}]}', '2025-01-01 00:00+08') AS common \gset
SELECT submeter.create_tariff(1, 'common', '{"energy":[{"price":0.8}]}', '2025-01-11 00:00+08') = :common AS same;
UPDATE submeter.share_pool SET price_from = 'tariff', price = NULL, tariff_id = :common WHERE code = 'light';
-- 31 kWh in 31 days: 10 x 0.5 + 21 x 0.8 = 21.80, 26 of the 31 kWh are 18.28.
SELECT sum(kwh) AS kwh, sum(due) AS due FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08');
-- A named price that changes in the middle, and tiers that go on over it: 10 kWh at 0.5, 5 at 0.8, 11 at 0.8 + 0.2, 5 at 0.9 + 0.2.
BEGIN;
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (1, 'grid', '2025-01-01 00:00+08', 0.8), (1, 'grid', '2025-01-27 00:00+08', 0.9);
SELECT submeter.create_tariff(1, 'named', '{"energy":[{"price":0.5}]}', '2025-01-01 00:00+08') AS named \gset
SELECT submeter.create_tariff(1, 'named', '{"tiers":{"bounds":[{"upto_kwh":[15]}]},"energy":[{"price":{"ref":"grid"}}],"tier_adders":[0,0.2]}', '2025-01-11 00:00+08') = :named AS same;
UPDATE submeter.share_pool SET tariff_id = :named, own_kwh = 0 WHERE code = 'light';
SELECT sum(kwh) AS kwh, sum(due) AS due FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET source = 'energy', meter_ids = '{}', fixed_kwh = 31 WHERE code = 'light';
SELECT sum(kwh) AS kwh, sum(due) AS due FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08');
ROLLBACK;
BEGIN;
DELETE FROM submeter.tariff_version WHERE tariff_id = :common AND valid_from < '2025-01-11 00:00+08';
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'light', '2025-01-01 00:00+08')$$);
ROLLBACK;

-- 9. A grid bill settled at cost (粤价[2012]276号)

INSERT INTO submeter.share_pool (site_id, code, name, method, source) VALUES (1, 'gd1', 'All metered', 'gd_all_metered', 'bill'), (1, 'gd2', 'Landlord not metered', 'gd_landlord_unmetered', 'bill');
-- 500 / 718 kWh of all sub-meters x kWh; the landlord bears lift, light and office: 153 kWh. Charged at 1.00, and for the loss, before.
SELECT account, due, charged, new, formula FROM submeter.run_share(1, 'gd1', '2025-01-01 00:00+08');
-- 500 / 720 kWh of the main meter x kWh; the landlord bears 155 kWh, losses included.
SELECT account, due, charged, new, formula FROM submeter.run_share(1, 'gd2', '2025-01-01 00:00+08');
-- Mixed use: the bakery is a business at 0.90; its 310 kWh and 279.00 come off first, 221.00 are settled over 408 kWh.
UPDATE submeter.share_pool SET other_meter_ids = '{1}', other_price = 0.9 WHERE code = 'gd1';
SELECT account, due, formula FROM submeter.run_share(1, 'gd1', '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET other_price = 2 WHERE code = 'gd1';
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'gd1', '2025-01-01 00:00+08')$$);
UPDATE submeter.share_pool SET other_meter_ids = '{}', other_price = NULL WHERE code = 'gd1';
-- The barber is gone: his part is posted, and a person decides about it.
UPDATE submeter.account SET state = 'closed', closed_at = '2025-01-11 00:00+08' WHERE account_id = 2;
SELECT account, state, due, charged, difference FROM submeter.run_share(1, 'gd1', '2025-01-01 00:00+08', false, as_of => '2025-02-06 00:00+08');
SELECT p.account_id, p.kind, p.amount, p.source, p.state, p.detail ->> 'pool' AS pool FROM submeter.proposal p;
SELECT label, quantity, unit, remark FROM submeter.share_slip(1, 'gd1', '2025-01-01 00:00+08', 1);
UPDATE submeter.site SET locale = 'zh' WHERE site_id = 1;
SELECT label, quantity, unit FROM submeter.share_slip(1, 'gd1', '2025-01-01 00:00+08', 1);
-- The grid corrects its bill: only the difference moves. What a correction asks for is no reason to cut anybody.
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 720, 514.16, 'G-1a', meter_ids => '{10}', reason => 'the grid corrected it') > 0 AS corrected;
SELECT account, old, new, difference FROM submeter.run_share(1, 'gd1', '2025-01-01 00:00+08', false, 'grid bill corrected', '2025-02-20 00:00+08');
SELECT account, posted, debt, available FROM submeter.account_balance WHERE site_id = 1 ORDER BY 1;
SELECT p.account_id, p.kind, p.amount, p.source, p.state FROM submeter.proposal p ORDER BY p.proposal_id;
-- A debt is paid, not accepted; a refund of what nobody paid in cannot go out.
SELECT regexp_replace(pg_temp.refusal(format('SELECT submeter.accept_proposal(1, %s, ''x'')', p.proposal_id)), 'proposal \d+', 'proposal N') FROM submeter.proposal p ORDER BY p.proposal_id;
SELECT submeter.pay_debt(1, 2, 1.97, 'paid', 'cash') > 0 AS paid;
SELECT p.kind, p.amount, p.state, p.reason FROM submeter.proposal p ORDER BY p.proposal_id;
-- Where the meters of the tenants show more than the main meter, they still pay no more than the bill.
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 500, 500, 'G-1b', meter_ids => '{10}', reason => 'to see') > 0 AS corrected;
SELECT account, due, formula FROM submeter.run_share(1, 'gd2', '2025-01-01 00:00+08');
-- A bill without energy has no price.
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 0, 500, 'G-1c', reason => 'to see') > 0 AS corrected;
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'gd2', '2025-01-01 00:00+08')$$), pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'loss', '2025-01-01 00:00+08')$$);
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 720, 514.16, 'G-1a', meter_ids => '{10}', reason => 'seen enough') > 0 AS corrected;

-- 10. Bad input

SELECT pg_temp.refusal('SELECT * FROM submeter.run_share(' || a || ')') FROM unnest(ARRAY[
	$$1, 'nothing', '2025-01-01 00:00+08'$$, $$1, NULL, '2025-01-01 00:00+08'$$, $$2, 'lift', '2025-01-01 00:00+08'$$, $$1, 'lift', '2025-01-01'$$, $$1, 'lift', NULL$$,
	$$1, 'lift', '2025-01-01 00:00+08', NULL$$, $$1, 'lift', '2025-01-01 00:00+08', as_of => NULL$$, $$1, 'lift', '2025-01-01 00:00+08', as_of => 'infinity'$$,
	$$1, 'care', '2025-01-01 00:00+08', false, as_of => '2025-01-31 23:59:59+08'$$, $$1, 'gd1', '2025-03-01 00:00+08'$$, $$99, 'lift', '2025-01-01 00:00+08'$$, $$NULL, 'lift', '2025-01-01 00:00+08'$$]) a;
UPDATE submeter.share_pool SET enabled = false WHERE code = 'care';
SELECT pg_temp.refusal($$SELECT * FROM submeter.run_share(1, 'care', '2025-01-01 00:00+08')$$);
SELECT pg_temp.refusal('SELECT * FROM submeter.share_slip(' || a || ')') FROM unnest(ARRAY[$$1, 'gd1', '2025-01-01 00:00+08', 99$$, $$1, 'gd1', '2025-01-01 00:00+08', NULL$$, $$1, 'x', '2025-01-01 00:00+08', 1$$, $$2, 'gd1', '2025-01-01 00:00+08', 1$$]) a;
-- With a second person.
UPDATE submeter.site SET approval_verbs = '{run_share,reverse_share,enter_grid_bill}' WHERE site_id = 1;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT * FROM submeter.run_share(1, 'pump', '2025-01-01 00:00+08', false, 'x')$$, $$SELECT submeter.reverse_share(1, 'gd1', '2025-01-01 00:00+08', 'x')$$, $$SELECT submeter.enter_grid_bill(1, '2025-02-01 00:00+08', 5, 4, 'G-2')$$]) s;
UPDATE submeter.site SET approval_verbs = '{}' WHERE site_id = 1;

-- 11. The books are right

SELECT * FROM submeter.verify_ledger(1);
-- ... and what an administrator of the database turns in them is found out.
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE submeter.share_line DISABLE TRIGGER append_only;
ALTER TABLE submeter.share_run DISABLE TRIGGER append_only;
UPDATE submeter.share_line SET posted = posted + 1 WHERE line = 1 AND run_id = 1;
UPDATE submeter.share_line SET due = due + 1, amount = amount + 1 WHERE line = 2 AND run_id = 1;
UPDATE submeter.share_run SET inputs = jsonb_set(inputs, '{amount}', '100') WHERE run_id = 2;
SELECT problem, account_id, expected, found FROM submeter.verify_shares(1) ORDER BY 1, 2;
ROLLBACK;
SELECT account_id, sum(posted) AS shared, (SELECT sum(CASE WHEN d.account_id IS NULL THEN -t.amount ELSE t.amount END) FROM submeter.transfer t JOIN submeter.ledger_account d ON d.site_id = t.site_id AND d.ledger_account_id = t.debit_id
	WHERE t.kind = 'share' AND t.account_id = l.account_id) AS moved FROM submeter.share_line l WHERE account_id IS NOT NULL GROUP BY 1 ORDER BY 1;

-- 12. On the bill: a share that is known when the cycle is closed is on its bill, what comes later on the next one

INSERT INTO submeter.site (site_id, code, name, close_cycles) VALUES (3, 'third', 'A third mall', false);
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (3, 30, 't', 'Tenant');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (3, 30, 30, 'c1');
SELECT submeter.create_tariff(3, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS third \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (3, 30, 'm', 'SDM120');
INSERT INTO submeter.meter_setup (site_id, meter_id) VALUES (3, 30);
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (3, 30, 30, :third, '["2025-01-01 00:00+08",)');
SELECT sum(submeter.ingest(3, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 30, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', wh))])) AS readings
FROM (VALUES ('2025-01-01', 0), ('2025-02-01', 100000), ('2025-03-01', 150000), ('2025-04-01', 150000)) r(at, wh);
SELECT submeter.settle(3, '2025-03-02 00:00+08') > 0 AS settled;
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount) VALUES (3, 'lift', 'Lift', 'equal', 'amount', 7), (3, 'pump', 'Pump', 'equal', 'amount', 3);
SELECT sum(difference) AS shared FROM submeter.run_share(3, 'lift', '2025-01-01 00:00+08', false, as_of => '2025-02-02 00:00+08');
SELECT submeter.close_cycle(3, '2025-02-01') AS bills;
SELECT sum(difference) AS shared FROM submeter.run_share(3, 'pump', '2025-01-01 00:00+08', false, as_of => '2025-02-02 00:00+08');
UPDATE submeter.share_pool SET fixed_amount = 6 WHERE site_id = 3 AND code = 'lift';
SELECT sum(difference) AS shared FROM submeter.run_share(3, 'lift', '2025-01-01 00:00+08', false, 'cheaper than it was', '2025-02-05 00:00+08');
SELECT submeter.close_cycle(3, '2025-03-01') AS bills;
SELECT b.cycle_start, b.amount AS bill, l.line, l.component, l.amount, l.detail ->> 'formula' AS formula, l.detail ->> 'reason' AS reason
FROM submeter.bill b JOIN submeter.bill_line l USING (site_id, bill_id) WHERE b.site_id = 3 ORDER BY b.cycle_start, l.line;
-- A bill taken back frees them: they come again with the one that is issued instead.
SELECT submeter.void_bill(3, bill_id, 'wrong address') > 0 AS voided FROM submeter.bill WHERE site_id = 3 AND cycle_start = '2025-02-01 00:00+08';
SELECT component, amount FROM submeter.share_lines(3, '{30}', '{2025-02-01 00:00+08}');
SELECT submeter.issue_bill(3, 30, '2025-02-01 00:00+08', 'right address') > 0 AS issued;
SELECT b.state, b.amount, array_agg(l.component || ' ' || l.amount ORDER BY l.line) AS lines FROM submeter.bill b JOIN submeter.bill_line l USING (site_id, bill_id)
WHERE b.site_id = 3 AND b.cycle_start = '2025-02-01 00:00+08' GROUP BY b.bill_id, b.state, b.amount ORDER BY b.bill_id;
SELECT * FROM submeter.verify_ledger(3);
