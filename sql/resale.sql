-- Room: resale. What was collected for electricity against what was paid for it; the figures were worked out by hand.
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

-- Three shops and a January: 100 kWh at 1.20, 200 kWh at 0.70, 50 kWh at 0.77, and one that used nothing.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall');
SELECT submeter.create_partitions('2024-12-01', '2025-04-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'Bakery'), (1, 2, 't2', 'Barber'), (1, 3, 't3', 'Tailor'), (1, 4, 't4', 'Store');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 2, 'a2'), (1, 3, 3, 'a3'), (1, 4, 4, 'a4');
SELECT submeter.create_tariff(1, 'dear', '{"energy":[{"price":1.2}]}', '2025-01-01 00:00+08') AS dear, submeter.create_tariff(1, 'fair', '{"energy":[{"price":0.65}],"adders":[{"name":"funds","price":0.05}]}', '2025-01-01 00:00+08') AS fair,
	submeter.create_tariff(1, 'edge', '{"energy":[{"price":0.77}]}', '2025-01-01 00:00+08') AS edge, submeter.create_tariff(1, 'unused', '{"energy":[{"price":9}]}', '2025-01-01 00:00+08') AS unused \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'SDM120' FROM generate_series(1, 4) n;
INSERT INTO submeter.meter_setup (site_id, meter_id) SELECT 1, n FROM generate_series(1, 4) n;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, n, n, CASE n WHEN 1 THEN :dear WHEN 3 THEN :edge ELSE :fair END, '["2025-01-01 00:00+08",)' FROM generate_series(1, 4) n;
SELECT sum(submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', m, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', wh))])) AS readings
FROM (VALUES (1, '2025-01-01', 0), (1, '2025-02-01', 100000), (2, '2025-01-01', 0), (2, '2025-02-01', 200000), (3, '2025-01-01', 0), (3, '2025-02-01', 50000), (4, '2025-01-01', 7), (4, '2025-02-01', 7)) r(m, at, wh);
SELECT submeter.settle(1, '2025-02-01 01:00+08') > 0 AS settled, submeter.post_charges(1, '2025-02-01 01:00+08') AS posted;

-- 1. The check

SELECT pg_temp.refusal($$SELECT * FROM submeter.resale_check(1, '2025-01-01 00:00+08')$$);
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 300, 210, 'G-1') > 0 AS entered, submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 100, 70, 'G-2', 'second') > 0 AS entered_too;
-- Without bounds only the totals say anything: 298.50 collected, 280.00 paid for 400 kWh.
SELECT account, kwh, collected, unit_price, paid_kwh, paid, margin, purchase_average, cap_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
-- 10 per cent over 0.70 is 0.77: the bakery paid 120.00 where 77.00 was right; 0.77 itself is.
INSERT INTO submeter.resale_cap (site_id, valid_from, percent_over, source) VALUES (1, '2025-01-01 00:00+08', 10, 'contract with the city');
SELECT account, kwh, collected, unit_price, cap_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
-- A ceiling of 0.75 besides: the lower of both holds, and 1.00 of the tailor's 38.50 is too much.
INSERT INTO submeter.resale_cap (site_id, valid_from, revision, percent_over, ceiling, source) VALUES (1, '2025-01-01 00:00+08', 1, 10, 0.75, 'notice 1');
SELECT account, cap_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
-- Zero margin only: the 18.50 that are too much in all go back in proportion to what each paid, to the cent.
INSERT INTO submeter.resale_cap (site_id, valid_from, revision, margin_percent, source) VALUES (1, '2025-01-01 00:00+08', 2, 0, 'zero margin');
SELECT account, cap_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
SELECT account_id, over_price, over_total, over_by FROM submeter.resale_accounts(1, '2025-01-01 00:00+08') ORDER BY 1;
-- Both bounds: what goes back because of the price is not too much in all besides.
INSERT INTO submeter.resale_cap (site_id, valid_from, revision, percent_over, margin_percent, source) VALUES (1, '2025-01-01 00:00+08', 3, 50, 0, 'both');
SELECT account_id, cap_price, over_price, over_total, over_by FROM submeter.resale_accounts(1, '2025-01-01 00:00+08') ORDER BY 1;
INSERT INTO submeter.resale_cap (site_id, valid_from, revision, percent_over, source) VALUES (1, '2025-01-01 00:00+08', 4, 10, 'as in the contract');
-- A later bound does not reach back.
INSERT INTO submeter.resale_cap (site_id, valid_from, ceiling, source) VALUES (1, '2025-01-01 00:00:01+08', 0.01, 'for February');
SELECT account, cap_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
SELECT regexp_replace(pg_temp.refusal('INSERT INTO submeter.resale_cap (site_id, valid_from, source' || c), ' . Failing row.*', '') FROM unnest(ARRAY[') VALUES (1, ''2026-01-01'', ''x'')', ', ceiling) VALUES (1, ''2026-01-01'', ''x'', -1)', ', ceiling) VALUES (1, ''2026-01-01'', ''x'', ''NaN'')',
	', percent_over) VALUES (1, ''infinity'', ''x'', 1)', ', percent_over) VALUES (1, ''2026-01-01'', ''x'', ''NaN'')', ', percent_over) VALUES (1, ''2026-01-01'', '''', 1)', ', average_cycles, percent_over) VALUES (1, ''2026-01-01'', ''x'', 0, 1)']) c;
SELECT pg_temp.refusal('UPDATE submeter.resale_cap SET ceiling = 1');

-- 2. Shares count, with the energy they were for

BEGIN;
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_kwh, price_from) VALUES (1, 'lift', 'Lift', 'energy', 'energy', 35, 'purchase');
SELECT account, kwh, due FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, as_of => '2025-02-03 00:00+08');
-- (120 + 7) / (100 + 10), (140 + 14) / (200 + 20), (38.50 + 3.50) / (50 + 5)
SELECT account, kwh, collected, unit_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08');
UPDATE submeter.share_pool SET fixed_kwh = 70 WHERE code = 'lift';
SELECT sum(difference) AS difference FROM submeter.run_share(1, 'lift', '2025-01-01 00:00+08', false, 'twice as much', as_of => '2025-02-03 00:00+08');
SELECT account, kwh, collected, unit_price FROM submeter.resale_check(1, '2025-01-01 00:00+08');
-- A fee is not electricity: whoever used none was charged too much.
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount) VALUES (1, 'fee', 'Fee', 'equal', 'amount', 20);
SELECT sum(due) AS due FROM submeter.run_share(1, 'fee', '2025-01-01 00:00+08', false, as_of => '2025-02-03 00:00+08');
SELECT account, kwh, collected, unit_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08') WHERE account = 'a4';
ROLLBACK;
-- 33.333 kWh at 0.77 are 25.67, a third of a cent above the cap: no more than rounding.
BEGIN;
SELECT submeter.judge_reading(1, 3, '2025-02-01 00:00+08', 'replace', 'x', 33333) > 0 AS judged, submeter.settle(1, '2025-02-02 00:00+08') > 0 AS settled;
SELECT account, kwh, collected, unit_price, over_by FROM submeter.resale_check(1, '2025-01-01 00:00+08') WHERE account = 'a3';
ROLLBACK;

-- 3. Refunds are proposed once, and kept in step

CREATE VIEW pg_temp.asked AS
SELECT row_number() OVER (ORDER BY p.proposal_id) AS nth, p.account_id, p.kind, p.amount, p.source, p.state, p.reason, p.dedupe_key, p.transfer_id IS NOT NULL AS moved FROM submeter.proposal p ORDER BY p.proposal_id;
SELECT submeter.propose_refunds(1, '2025-01-01 00:00+08'), submeter.propose_refunds(1, '2025-01-01 00:00+08') AS again;
SELECT * FROM pg_temp.asked;
SELECT detail FROM submeter.proposal;
SELECT account, over_by, proposed FROM submeter.resale_check(1, '2025-01-01 00:00+08');
SELECT proposal_id AS p1 FROM submeter.proposal WHERE account_id = 1 \gset
SELECT pg_temp.refusal(format(s, :p1)) FROM unnest(ARRAY['SELECT submeter.accept_proposal(1, %s, NULL)', 'SELECT submeter.accept_proposal(1, 0, ''x'')', 'SELECT submeter.accept_proposal(1, NULL, ''x'')', 'SELECT submeter.accept_proposal(2, %s, ''x'')',
	'SELECT submeter.dismiss_proposal(1, %s, '' '')', 'SELECT submeter.dismiss_proposal(1, 0, ''x'')']) s;
UPDATE submeter.site SET approval_verbs = '{accept_proposal}' WHERE site_id = 1;
SELECT left(pg_temp.refusal(format(s, :p1)), 80) FROM unnest(ARRAY['SELECT submeter.accept_proposal(1, %s, ''x'')']) s;
UPDATE submeter.site SET approval_verbs = '{}' WHERE site_id = 1;
SELECT submeter.accept_proposal(1, :p1, 'above the cap') AS paid \gset
SELECT submeter.accept_proposal(1, :p1, 'again') = :paid AS same, kind, amount, note FROM submeter.transfer WHERE transfer_id = :paid;
SELECT account, posted FROM submeter.account_balance WHERE account = 'a1';
SELECT account, collected, over_by, proposed FROM submeter.resale_check(1, '2025-01-01 00:00+08') WHERE account = 'a1';
SELECT submeter.propose_refunds(1, '2025-01-01 00:00+08') AS nothing_more;
SELECT regexp_replace(pg_temp.refusal(format('SELECT submeter.dismiss_proposal(1, %s, ''x'')', :p1)), '\d+ is', 'N is');
-- The grid's price falls: 240.00 for 400 kWh, a cap of 0.66. The bakery paid 77.00 by now.
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 300, 170, 'G-1', reason => 'the grid lowered its price') > 0 AS corrected;
SELECT submeter.propose_refunds(1, '2025-01-01 00:00+08');
SELECT * FROM pg_temp.asked;
SELECT submeter.dismiss_proposal(1, proposal_id, 'settled with the rent') FROM submeter.proposal WHERE account_id = 2;
SELECT submeter.propose_refunds(1, '2025-01-01 00:00+08') AS nothing_asked_twice;
-- It falls further: only what is more is asked; and back up: what is not over any more is withdrawn.
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 300, 130, 'G-1', reason => 'again') > 0 AS corrected, submeter.propose_refunds(1, '2025-01-01 00:00+08');
SELECT * FROM pg_temp.asked OFFSET 1;
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 300, 210, 'G-1', reason => 'it was right') > 0 AS corrected, submeter.propose_refunds(1, '2025-01-01 00:00+08');
SELECT * FROM pg_temp.asked OFFSET 1;
SELECT submeter.enter_grid_bill(1, '2025-01-01 00:00+08', 300, 130, 'G-1', reason => 'it was not') > 0 AS corrected, submeter.propose_refunds(1, '2025-01-01 00:00+08');
SELECT * FROM pg_temp.asked WHERE state = 'open';
-- A former tenant who paid 50.00 for 38.50: 11.50 are there, and with 11.00 from the check 22.50; the 11.00 go back as they came.
SELECT submeter.recharge(1, 3, 50, 'cash', 'r3') > 0 AS recharged;
UPDATE submeter.account SET state = 'closed', closed_at = '2025-02-02' WHERE account_id = 3;
SELECT submeter.accept_proposal(1, proposal_id, 'above the cap') > 0 AS credited FROM submeter.proposal WHERE account_id = 3 AND state = 'open';
SELECT t.kind, t.amount, t.method, t.note FROM submeter.transfer t WHERE t.account_id = 3 AND t.kind IN ('adjustment', 'refund') ORDER BY t.transfer_id;
SELECT account, state, posted FROM submeter.account_balance WHERE account = 'a3';
SELECT pg_temp.refusal('SELECT submeter.propose_refunds(' || a || ')') FROM unnest(ARRAY['1, NULL', '1, ''2025-01-15''', '99, ''2025-01-01 00:00+08''', 'NULL, ''2025-01-01 00:00+08''']) a;
SELECT pg_temp.refusal('SELECT * FROM submeter.resale_check(' || a || ')') FROM unnest(ARRAY['1, NULL', '1, ''2025-01-15''', '1, ''2025-03-01 00:00+08''', '1, ''2025-01-01 00:00+08'', NULL', '99, ''2025-01-01 00:00+08''']) a;

-- 4. What is published

SELECT cycle_start, paid_kwh, paid, purchase_average, sold_kwh, collected, selling_average, margin, margin_percent, refunded, accounts, over_cap, over_by FROM submeter.resale_statement WHERE site_id = 1;

-- 5. The alarm: a price above the moving average of what the grid is paid

SELECT submeter.enter_grid_bill(1, '2025-02-01 00:00+08', 1000, 900, 'G-3') > 0 AS entered;
INSERT INTO submeter.resale_cap (site_id, valid_from, percent_over, average_cycles, source) VALUES (1, '2025-02-01 00:00+08', 10, 1, 'last bill only'), (1, '2025-04-01 00:00+08', 10, 2, 'last two');
UPDATE submeter.supply SET during = tstzrange(lower(during), NULL);
-- In March the last bill counts, 0.90: only 1.20 is above 0.99. In April the last two: 1100.00 for 1400 kWh and 10 per cent.
SELECT detail FROM submeter.resale_conditions(1, '2025-03-05');
SELECT detail FROM submeter.resale_conditions(1, '2025-04-05');
SELECT count(*) AS while_the_cycle_runs FROM submeter.resale_conditions(1, '2025-01-20');
SELECT count(*) AS without_bills FROM submeter.resale_conditions(2, '2025-04-05');
SELECT submeter.evaluate_alarms(1, '2025-03-05') > 0 AS raised;
SELECT rule, class, severity, detail FROM submeter.open_alarm WHERE rule = 'resale_over_cap';
SELECT submeter.create_tariff(1, 'dear', '{"energy":[{"price":{"value":0.5,"times":1.5,"plus":0.02}}],"adders":[{"name":"funds","price":0.1}]}', '2025-03-06 00:00+08') = :dear AS lowered;
SELECT submeter.lowest_price(1, definition, '2025-03-10') FROM submeter.tariff_version WHERE tariff_id = :dear ORDER BY valid_from;
SELECT submeter.evaluate_alarms(1, '2025-03-10') > 0 AS cleared;
SELECT count(*) AS still_open FROM submeter.open_alarm WHERE rule = 'resale_over_cap';
SELECT * FROM submeter.verify_ledger(1);
