-- What people look at: names, units and numbers of every view.
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
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'The bakery'), (1, 2, 't2', 'The barber');
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 1, 'g1', '127.0.0.1:1');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 2, 'a2');
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[50]}]},"energy":[{"tier":1,"price":0.5},{"price":0.777}]}', '2025-01-01 00:00+08') AS tariff \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address, role) VALUES (1, 1, 'm1', 'DDS238-2 ZN/SR', 1, '1', 'supply'), (1, 2, 'm2', 'DDS238-2 ZN/SR', 1, '2', 'supply'), (1, 3, 'main', 'DDS238-2 ZN/SR', 1, '3', 'main'),
	(1, 4, 'gone', 'DDS238-2 ZN/SR', NULL, NULL, 'supply');
UPDATE submeter.meter SET retired_at = '2025-01-01' WHERE meter_id = 4;
INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, rated_current_a, parent_meter_id) VALUES (1, 1, 1, 60, 3), (1, 2, 2, 60, 3), (1, 3, 10, 200, NULL);
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 1, :tariff, '["2025-01-01 00:00+08",)'), (1, 2, 2, :tariff, '["2025-01-01 00:00+08",)');
SELECT sum(submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', m, 'ts', t::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', wh, 'power_w', w, 'v_a', 220.5, 'i_a', 1.25, 'relay', 'closed'))])) AS readings
FROM (VALUES (1, '2025-01-01 00:00', 0, 100), (1, '2025-01-01 12:00', 24000, 2500), (1, '2025-01-02 00:00', 60000, 500), (1, '2025-02-01 06:00', 60123, 0),
	(2, '2025-01-01 00:00', 5000, 0), (2, '2025-01-02 00:00', 15500, 0), (2, '2025-02-01 06:00', 15500, 0),
	(3, '2025-01-01 00:00', 0, 0), (3, '2025-01-02 00:00', 9000, 0), (3, '2025-01-03 00:00', 4000, 0)) r(m, t, wh, w);
SELECT submeter.settle(1, '2025-02-02');
SELECT submeter.recharge(1, 1, 40, 'cash', 'k1', 'at the counter') > 0 AS paid, submeter.adjust(1, 2, -3.5, 'key card', 'k2') > 0 AS adjusted;
SELECT submeter.reverse_movement(1, (SELECT transfer_id FROM submeter.transfer WHERE idempotency_key = 'k2'), 'was mine', 'k3') > 0 AS reversed;
SELECT submeter.post_charges(1, '2025-02-02') AS posted;
-- One more kWh that is charged and not posted yet.
SELECT submeter.ingest_json(1, '[{"meter_id":1,"ts":"2025-02-01T06:00:00Z","energy_wh":61123,"relay":"open"}]'), submeter.settle(1, '2025-02-02');
SELECT submeter.request_command(1, 2, 'open', 'repair') > 0 AS command;

-- 1. Money

SELECT account, tenant, tenant_name, state, mode, posted, accrued, available, credit_limit, policy_mode, arrears_since, trip_due_at FROM submeter.account_balance ORDER BY account;
SELECT b.account, b.available = submeter.balance(b.site_id, b.account_id) AS agrees_with_the_verb FROM submeter.account_balance b ORDER BY 1;
SELECT account, tariff, cycle_start, cycle_end, settled_to, kwh, tier_wh, exact_amount, amount, posted, accrued FROM submeter.charge_statement ORDER BY account, cycle_start;
SELECT account, kind, method, amount, note, created_by FROM submeter.recharge_statement ORDER BY transfer_id;
-- What a statement adds up to is the balance: money in and out less charges.
SELECT b.account, b.posted = coalesce((SELECT sum(r.amount) FROM submeter.recharge_statement r WHERE r.account_id = b.account_id), 0) - (SELECT sum(c.posted) FROM submeter.charge_statement c WHERE c.account_id = b.account_id) AS adds_up
FROM submeter.account_balance b ORDER BY 1;

-- 2. Energy

SELECT meter, day, kwh, max_power_w FROM submeter.usage_daily WHERE day <= '2025-01-03' ORDER BY meter, day;
SELECT meter, month, kwh, max_power_w FROM submeter.usage_monthly ORDER BY meter, month;
SELECT hour, energy_wh, kwh, max_power_w FROM submeter.usage_hour WHERE meter_id = 1 AND day = '2025-01-01' AND (max_power_w IS NOT NULL OR hour = '2024-12-31 16:00+00' OR hour = '2025-01-01 04:00+00') ORDER BY hour;
SELECT count(*) AS hours, sum(energy_wh) AS wh FROM submeter.usage_hour WHERE meter_id = 1 AND day = '2025-01-01';
-- The main meter against those below it: 90 kWh, of which 60 and 21 are accounted for.
SELECT meter, day, kwh, children_kwh, difference_kwh, difference_percent FROM submeter.energy_balance WHERE day = '2025-01-01';

-- 3. The field

SELECT meter, role, gateway, bus_address, ts, register_kwh, power_w, v_a, i_a, relay, open_causes FROM submeter.live_meter ORDER BY meter;
SELECT meter, action, cause, state, reason, requested_by, attempts FROM submeter.command_log;
SELECT count(submeter.evaluate_alarms(1, now())) AS evaluated;
SELECT rule, class, severity, meter, gateway, acknowledged_by FROM submeter.open_alarm WHERE rule IN ('register_jump', 'suspect_reading', 'tariff_missing') ORDER BY 1, 4;

-- 4. Everything

SELECT code, meters, breakers_open, accounts, accounts_in_arrears, available, open_suspects FROM submeter.site_overview ORDER BY code;
SELECT part, site_id, ok FROM submeter.health WHERE part NOT LIKE 'duty%' ORDER BY 1, 2;
SELECT detail FROM submeter.health WHERE part = 'duty settle' AND site_id = 2;
SELECT submeter.run_duties('2025-02-02') AS failed;
SELECT part, site_id, ok FROM submeter.health WHERE part = 'duty settle' ORDER BY 2;
SELECT submeter.run_duties() AS failed;
SELECT count(*) FILTER (WHERE ok) AS well, count(*) FILTER (WHERE NOT ok) AS not_well FROM submeter.health WHERE part LIKE 'duty%';
SELECT submeter.duty_failed(1, 'settle', '22023', 'poison');
SELECT ok, detail FROM submeter.health WHERE part = 'duty settle' AND site_id = 1;

-- 5. Columns are a contract with reports and dashboards

SELECT c.relname AS view, string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind = 'v' GROUP BY 1 ORDER BY 1;
