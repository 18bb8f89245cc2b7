-- Room: correction. A meter died, was replaced on an estimate, and is read at the bench weeks later.
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
CREATE FUNCTION pg_temp.ts(at text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT at::timestamp AT TIME ZONE 'Asia/Shanghai' $$;
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', pg_temp.ts(at), 'energy_wh', (kwh * 1000)::bigint))])
$$;

-- Ten kWh a day at 1 each; the last word of the meter is of the 18th, it is exchanged on the 20th.
INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'mall', 'A mall', 'en'), (2, 'other', 'Another mall', 'en');
SELECT submeter.create_partitions('2024-12-01', '2025-06-01') > 0 AS partitions;
UPDATE submeter.credit_policy SET mode = 'automatic', low_balances = '{}', no_trip_windows = '[]', notice_lead = '0';
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'bakery', 'The bakery'), (1, 2, 'bank', 'The bank');
INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 1, 'baker');
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 1, 'g', '127.0.0.1:1');
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR', 1, n FROM generate_series(1, 6) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, n, 60 FROM generate_series(1, 6) n;
SELECT submeter.adopt_meters(1, '{1,3,5}', 'taken over') AS adopted;
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
SELECT submeter.move_in(1, 1, '{1}', :flat, pg_temp.ts('2025-01-01 00:00'), '{100000}', code => 'bakery', as_of => pg_temp.ts('2025-01-01 00:00')) AS bakery \gset
SELECT submeter.move_in(1, 2, '{3}', :flat, pg_temp.ts('2025-01-01 00:00'), '{0}', code => 'bank', mode => 'postpaid', as_of => pg_temp.ts('2025-01-01 00:00')) AS bank \gset
SELECT submeter.recharge(1, :bakery, 400, 'cash', 'k1') > 0 AS paid;
SELECT sum(pg_temp.read(1, format('2025-01-%s 00:00', lpad(d::text, 2, '0')), 90 + 10 * d)) AS read FROM generate_series(2, 18) d;
SELECT pg_temp.read(3, '2025-01-20 00:00', 19);
SELECT pg_temp.refusal($$SELECT submeter.correct_final_register(1, 1, 290000, 'bench')$$) AS not_yet;
SELECT submeter.settle(1, pg_temp.ts('2025-01-18')) > 0 AS settled;
SELECT submeter.replace_meter(1, 1, 2, pg_temp.ts('2025-01-20 00:00'), 0, 'no display, no answer', as_of => pg_temp.ts('2025-01-20 01:00'));
SELECT meter_id, ts, energy_wh, reason FROM submeter.register_estimate;
-- The new meter is not in service: nobody has proved yet what it feeds.
SELECT meter_id, state, changed FROM submeter.meter_service WHERE meter_id IN (1, 2);
SELECT pg_temp.read(2, '2025-02-01 00:00', 120), pg_temp.read(3, '2025-02-01 00:00', 31), submeter.settle(1, pg_temp.ts('2025-02-01 01:00')) > 0 AS settled;
SELECT submeter.close_cycle(1, '2025-01-31') AS billed;
-- 200 by the old meter, 20 of them assumed, and 120 by the new one. (The estimate places them by day, so it counts as energy placed by estimate.)
SELECT a.code, b.energy_wh, b.estimated_wh, b.amount FROM submeter.bill b JOIN submeter.account a USING (site_id, account_id) ORDER BY 1;
SELECT account, available, debt FROM submeter.account_balance ORDER BY 1;

-- The bench says 315 kWh: 25 more than assumed. First what it would come to.
SELECT account, state, cycle_start, old, new, difference FROM submeter.correct_final_register(1, 1, 315000, 'read at the bench, protocol 17', as_of => pg_temp.ts('2025-02-10'));
SELECT account, available, debt FROM submeter.account_balance ORDER BY 1;
SELECT meter_id, ts, source FROM submeter.reading WHERE source = 'final' AND meter_id = 1;
-- What it cannot have shown.
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.correct_final_register(1, 1, 269999, 'x', as_of => '2025-02-10')$$, $$SELECT submeter.correct_final_register(1, 1, 2700000, 'x', as_of => '2025-02-10')$$,
	$$SELECT submeter.correct_final_register(1, 1, -1, 'x', as_of => '2025-02-10')$$, $$SELECT submeter.correct_final_register(1, 1, NULL, 'x', as_of => '2025-02-10')$$,
	$$SELECT submeter.correct_final_register(1, 1, 315000, ' ', as_of => '2025-02-10')$$, $$SELECT submeter.correct_final_register(1, 2, 315000, 'x', as_of => '2025-02-10')$$,
	$$SELECT submeter.correct_final_register(1, 99, 315000, 'x')$$, $$SELECT submeter.correct_final_register(1, NULL, 315000, 'x')$$, $$SELECT submeter.correct_final_register(2, 1, 315000, 'x')$$,
	$$SELECT submeter.correct_final_register(1, 1, 315000, 'x', instalments => 0, as_of => '2025-02-10')$$]) s;
-- Then for good. The balance does not fall: 25 are debt, an adjustment of January in the cycle that is open, with its cause.
SELECT account, difference FROM submeter.correct_final_register(1, 1, 315000, 'read at the bench, protocol 17', false, as_of => pg_temp.ts('2025-02-10'));
SELECT account, available, debt FROM submeter.account_balance ORDER BY 1;
SELECT cycle_start, rounded, billed, adjusted FROM submeter.charge WHERE account_id = :bakery ORDER BY 1;
SELECT kind, change ->> 'closing_wh' AS closing_wh, reason, debited, credited FROM submeter.correction;
SELECT meter_id, during, closing_wh FROM submeter.supply WHERE account_id = :bakery ORDER BY during;
SELECT count(*) AS once_more FROM submeter.correct_final_register(1, 1, 315000, 'read at the bench, protocol 17', false, as_of => pg_temp.ts('2025-02-11'));
SELECT submeter.apply_policy(1, pg_temp.ts('2025-02-11')) > 0 AS decided;
SELECT d.action, d.reason FROM submeter.account_state t JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id WHERE t.account_id = :bakery;
-- The bench had read it wrongly: 295. A verdict on the first word, which stays on record; the credit takes the debt back.
SELECT pg_temp.refusal($$SELECT submeter.correct_final_register(1, 1, 269999, 'x', as_of => '2025-02-12')$$);
SELECT account, difference FROM submeter.correct_final_register(1, 1, 295000, 'the figure was misread', false, as_of => pg_temp.ts('2025-02-12'));
SELECT account, available, debt FROM submeter.account_balance ORDER BY 1;
SELECT r.energy_wh, v.verdict, v.energy_wh AS instead, v.reason FROM submeter.reading r JOIN submeter.reading_verdict v USING (site_id, meter_id, ts);
SELECT cycle_start, rounded, billed, adjusted FROM submeter.charge WHERE account_id = :bakery ORDER BY 1;
-- February's bill says why.
SELECT pg_temp.read(2, '2025-03-01 00:00', 400), pg_temp.read(3, '2025-03-01 00:00', 59), submeter.settle(1, pg_temp.ts('2025-03-01 01:00')) > 0 AS settled;
SELECT submeter.close_cycle(1, '2025-02-28') AS billed;
SELECT l.component, l.amount, jsonb_path_query_array(l.detail, '$.cause[*].reason') AS why FROM submeter.bill_line l JOIN submeter.bill b USING (site_id, bill_id)
WHERE b.account_id = :bakery AND b.cycle_start = pg_temp.ts('2025-02-01') ORDER BY line;
-- A register typed wrongly when the meter was exchanged is corrected the same way; a postpaid account owes it on its next bill, and nothing is put aside.
SELECT submeter.replace_meter(1, 3, 4, pg_temp.ts('2025-03-02 00:00'), 0, 'new model', 60000, pg_temp.ts('2025-03-02 01:00'));
SELECT account, state, difference FROM submeter.correct_final_register(1, 3, 61500, 'photo of the display', false, as_of => pg_temp.ts('2025-03-03'));
SELECT account, mode, available, debt FROM submeter.account_balance ORDER BY 1;
SELECT meter_id, closing_wh FROM submeter.supply WHERE account_id = :bank ORDER BY during;
SELECT * FROM submeter.verify_ledger(1);
