-- Room: commission. Is the meter what it is said to be, does it count right, does it feed this shop; and nothing is cut by rule before that.
SET timezone = 'Asia/Shanghai';
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

-- A day in January 2025. A main meter (1), two shops (2, 3) behind one gateway, a workshop on three phases with transformers (4), one more shop without a reading (5).
INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'P', 'Plaza <1>', 'en'), (2, 'Q', 'Quay', 'zh');
SELECT submeter.create_partitions('2024-12-01', '2025-03-01') > 0 AS partitions;
INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 1, 'A', 'Hall');
INSERT INTO submeter.unit (site_id, unit_id, building_id, code, name) VALUES (1, 2, 1, '101', 'Bakery & café'), (1, 3, 1, '102', NULL), (1, 4, 1, '103', NULL), (1, 5, 1, '104', NULL);
INSERT INTO submeter.gateway (site_id, gateway_id, code, address, poll_interval) VALUES (1, 1, 'g1', '10.0.0.5:502', '1 min'), (1, 2, 'g2', '10.0.0.6:502', '1 min'), (2, 9, 'g1', '10.0.0.5:502', '1 min');
INSERT INTO submeter.meter_model (model, vendor, protocol, phases, clock_di) VALUES ('645 meter', 'test', 'dlt645-2007', 1, '0400010C');
INSERT INTO submeter.meter (site_id, meter_id, code, serial, model, gateway_id, bus_address, role) VALUES
	(1, 1, 'main', '25-0001', 'SDM630', 1, '9', 'main'), (1, 2, 'm2', '25-0002', 'DDS238-2 ZN/SR', 1, '2', 'supply'), (1, 3, 'm3', '25-0003', 'DDS238-2 ZN/SR', 1, '3', 'supply'),
	(1, 4, 'm4', '25-0004', 'SDM630', 2, '4', 'supply'), (1, 5, 'm5', NULL, 'DDS238-2 ZN/SR', 2, '5', 'supply'), (1, 6, 'm6', '000025000006', '645 meter', 2, '000025000006', 'supply'),
	(2, 9, 'm2', '9', 'DDS238-2 ZN/SR', 9, '2', 'supply');
INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, rated_current_a, phases, parent_meter_id, unit_id) VALUES (1, 1, 1, 200, 3, NULL, NULL), (1, 2, 1, 60, 1, 1, 2), (1, 3, 1, 60, 1, 1, 3),
	(1, 4, 20, 5, 3, NULL, 4), (1, 6, 1, 60, 1, NULL, NULL), (2, 9, 1, 60, 1, NULL, NULL);
-- A reading a minute; registers and powers as the test likes them.
CREATE FUNCTION pg_temp.read(meter bigint, at text, wh bigint, w real, more jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', ('2025-01-10 ' || at)::timestamptz, 'energy_wh', wh, 'power_w', w, 'relay', 'closed') || more)])
$$;
CREATE FUNCTION pg_temp.at(clock text) RETURNS timestamptz LANGUAGE sql AS $$SELECT ('2025-01-10 ' || clock)::timestamptz$$;

-- 1. Nobody is in service yet.
SELECT meter_id, meter, unit, role, state, since, changed, due FROM submeter.meter_service WHERE site_id = 1 ORDER BY 1;
SELECT meter_id, state FROM submeter.not_in_service ORDER BY 1;
SELECT submeter.service_refusal(1, 2, pg_temp.at('10:00')) AS refusal;

-- 2. Step by step. Without an attempt there is nothing to record in.
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.record_commission_check(1, 2, 'serial', '{"serial":"25-0002"}')$$, $$SELECT submeter.finish_commission(1, 2)$$,
	$$SELECT submeter.begin_commission(1, 99)$$, $$SELECT submeter.begin_commission(1, NULL)$$, $$SELECT submeter.begin_commission(3, 2)$$, $$SELECT submeter.begin_commission(1, 2, NULL)$$,
	$$SELECT submeter.begin_commission(1, 2, 'infinity')$$]) s;
SELECT submeter.begin_commission(1, 2, pg_temp.at('10:00')) AS attempt \gset
SELECT submeter.begin_commission(1, 2, pg_temp.at('10:01')) = :attempt AS same;
SELECT state, steps, begun_at, kind FROM submeter.commission;
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');
-- What a person types wrongly.
SELECT s, pg_temp.refusal(format('SELECT submeter.record_commission_check(1, 2, %L, %L)', split_part(s, ' ', 1), substr(s, strpos(s, ' ') + 1)))
FROM unnest(ARRAY['serial []', 'serial {"sreial":"1"}', 'serial {"serial":null}', 'serial {"serial":["1"]}', 'nameplate {"multiplier":"two"}', 'nameplate {"multiplier":-1}', 'nameplate {"phases":2}',
	'display {"display_at":"10:30"}', 'display {"display_at":"2025-13-10T10:00:00Z"}', 'phases {"phase_order":"yes"}', 'weight {}', 'nameplate {"register_modulus_wh":1.5}']) s;
SELECT pg_temp.refusal(format('SELECT submeter.record_commission_check(1, 2, ''serial'', jsonb_build_object(''serial'', repeat(''x'', 201)))')), pg_temp.refusal('SELECT submeter.record_commission_check(1, 2, ''serial'', NULL)');
-- The serial number: blanks and small letters do not matter, digits do; a serial the archive does not have cannot be compared.
SELECT * FROM submeter.record_commission_check(1, 2, 'serial', '{"serial":"25-0003"}', pg_temp.at('10:02'));
SELECT * FROM submeter.record_commission_check(1, 2, 'serial', '{"serial":" 250 002"}', pg_temp.at('10:02'));
SELECT * FROM submeter.record_commission_check(1, 2, 'serial', '{}', pg_temp.at('10:02'));
-- The address: it must answer, now.
SELECT * FROM submeter.record_commission_check(1, 2, 'address', '{}', pg_temp.at('10:02'));
SELECT sum(pg_temp.read(2, format('10:%s:30', lpad(n::text, 2, '0')), 1234500 + 10 * n, 600, '{"v_a":221,"i_a":2.8}')) AS read FROM generate_series(0, 9) n;
SELECT * FROM submeter.record_commission_check(1, 2, 'address', '{}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'address', '{"device_address":"7"}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'address', '{"device_address":"02"}', pg_temp.at('10:10'));
-- The nameplate.
SELECT * FROM submeter.record_commission_check(1, 2, 'nameplate', '{"model":"dds238-2 zn/sr","multiplier":1}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'nameplate', '{"model":"SDM120","ct":40,"phases":3,"rated_current_a":80,"register_modulus_wh":100000000}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'nameplate', '{"model":"dds238-2 zn/sr","ct":1,"pt":1,"phases":1,"rated_current_a":60}', pg_temp.at('10:10'));
-- The display: within a digit of what was read around that time; 1234.54 kWh at 10:04:30, 1234.55 a minute later.
SELECT k AS display_kwh, t AS display_at, x.state, x.expected, x.found, x.explanation
FROM (VALUES ('1234.54', '10:04:50'), ('1234.55', '10:04:50'), ('1234.56', '10:04:50'), ('1234.57', '10:04:50'), ('1234.53', '10:04:50'), ('1234.52', '10:04:50'), ('1234.5', '10:04:50'), ('1234', '10:04:50'), ('1235.6', '10:04:50'),
	('1234.54', '10:20:00'), ('1234.54', '09:59:00')) v(k, t)
CROSS JOIN LATERAL submeter.step_display(1, 2, jsonb_build_object('display_kwh', k, 'display_at', pg_temp.at(t))) s
CROSS JOIN LATERAL (SELECT s.state, s.expected, s.found, submeter.said_in(1, s.outcome, s.expected, s.found, s.evidence) AS explanation) x;
SELECT * FROM submeter.record_commission_check(1, 2, 'display', jsonb_build_object('display_kwh', '1234.55', 'display_at', pg_temp.at('10:04:50')), pg_temp.at('10:10'));
-- Phases: one phase with load tells everything.
SELECT * FROM submeter.record_commission_check(1, 2, 'phases', '{}', pg_temp.at('10:10'));
-- The rest.
SELECT * FROM submeter.record_commission_check(1, 2, 'own_trip', '{}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'own_trip', '{"own_trip":"overload at 80 A"}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'clock', '{}', pg_temp.at('10:10'));
SELECT * FROM submeter.record_commission_check(1, 2, 'signal', '{}', pg_temp.at('10:05'));
SELECT * FROM submeter.record_commission_check(1, 2, 'signal', '{}', pg_temp.at('10:11'));
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');

-- 3. The shop: a load of 2000 W from 11:00 to 11:05, which the neighbour's meter sees: the wires are crossed.
CREATE FUNCTION pg_temp.minutes(meter bigint, from_clock text, base_wh bigint, base_w real, load_w real, on_at text, off_at text) RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', meter, 'ts', t, 'energy_wh', base_wh + 40 * n,
		'power_w', base_w + CASE WHEN t >= pg_temp.at(on_at) AND t < pg_temp.at(off_at) THEN load_w ELSE 0 END, 'v_a', 220, 'i_a', (base_w + 20) / 220, 'relay', 'closed'))]))::bigint
	FROM generate_series(0, 14) n CROSS JOIN LATERAL (SELECT pg_temp.at(from_clock) + n * interval '1 min' + interval '7 s' AS t) x
$$;
SELECT pg_temp.minutes(1, '10:55', 9000000, 1800, 2000, '11:00', '11:05') AS main, pg_temp.minutes(2, '10:55', 1236000, 610, 0, '11:00', '11:05') AS own, pg_temp.minutes(3, '10:55', 500000, 850, 1900, '11:00', '11:05') AS neighbour;
SELECT state, expected, found, explanation, evidence - '{on_at,off_at}'::text[] AS evidence FROM submeter.run_load_step(1, 2, 2000, pg_temp.at('11:00'), pg_temp.at('11:05'), as_of => pg_temp.at('11:10'));
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.run_load_step(1, 2, 50, pg_temp.at('11:00'), pg_temp.at('11:05'))$$, $$SELECT submeter.run_load_step(1, 2, NULL, pg_temp.at('11:00'), pg_temp.at('11:05'))$$,
	$$SELECT submeter.run_load_step(1, 2, 'NaN', pg_temp.at('11:00'), pg_temp.at('11:05'))$$, $$SELECT submeter.run_load_step(1, 2, 2000, pg_temp.at('11:05'), pg_temp.at('11:00'))$$,
	$$SELECT submeter.run_load_step(1, 2, 2000, pg_temp.at('11:00'), pg_temp.at('11:00:09'))$$, $$SELECT submeter.run_load_step(1, 2, 2000, pg_temp.at('11:00'), pg_temp.at('11:05'), as_of => pg_temp.at('11:04'))$$,
	$$SELECT submeter.run_load_step(1, 3, 2000, pg_temp.at('11:00'), pg_temp.at('11:05'))$$, $$SELECT submeter.waive_commission_check(1, 2, 'shop', 'looks right')$$,
	$$SELECT submeter.waive_commission_check(1, 2, 'clock', ' ')$$, $$SELECT submeter.fail_commission(1, 2, NULL)$$]) s;
-- An electrician changes the wires. Then: nothing read while the load was on; both moved; neither; half of it; and at last as it should be.
SELECT state, explanation FROM submeter.run_load_step(1, 2, 2000, pg_temp.at('11:30'), pg_temp.at('11:35'), as_of => pg_temp.at('11:40'));
SELECT pg_temp.minutes(2, '11:55', 1237000, 600, 2000, '12:00', '12:05') AS own, pg_temp.minutes(3, '11:55', 501000, 850, 1900, '12:00', '12:05') AS neighbour;
SELECT state, explanation FROM submeter.run_load_step(1, 2, 2000, pg_temp.at('12:00'), pg_temp.at('12:05'), as_of => pg_temp.at('12:10'));
SELECT state, explanation FROM submeter.run_load_step(1, 2, 5000, pg_temp.at('12:00'), pg_temp.at('12:05'), as_of => pg_temp.at('12:10'));
SELECT pg_temp.minutes(2, '12:55', 1238000, 600, 0, '13:00', '13:05') AS own, pg_temp.minutes(3, '12:55', 502000, 850, 0, '13:00', '13:05') AS neighbour;
SELECT state, explanation FROM submeter.run_load_step(1, 2, 2000, pg_temp.at('13:00'), pg_temp.at('13:05'), as_of => pg_temp.at('13:10'));
SELECT pg_temp.minutes(1, '13:55', 9010000, 1800, 2000, '14:00', '14:05') AS main, pg_temp.minutes(2, '13:55', 1239000, 600, 1850, '14:00', '14:05') AS own, pg_temp.minutes(3, '13:55', 503000, 850, 0, '14:00', '14:05') AS neighbour;
SELECT state, expected, found, explanation FROM submeter.run_load_step(1, 2, 2000, pg_temp.at('14:00'), pg_temp.at('14:05'), as_of => pg_temp.at('14:10'));
SELECT submeter.finish_commission(1, 2, 'as found, after the wires were changed', pg_temp.at('14:15')) = :attempt AS finished;
SELECT meter_id, state, since, changed, due, note FROM submeter.meter_service WHERE meter_id = 2;
SELECT submeter.service_refusal(1, 2, now()) IS NULL AS may_be_cut;
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');
SELECT step, state, outcome FROM submeter.commission_check ORDER BY check_id;
SELECT pg_temp.refusal('UPDATE submeter.commission_check SET state = ''passed''');
