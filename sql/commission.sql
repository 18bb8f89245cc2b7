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
SELECT submeter.rule_refusal(1, 2, pg_temp.at('10:00')) AS refusal;

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
SELECT submeter.rule_refusal(1, 2, now()) IS NULL AS may_be_cut;
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');
SELECT step, state, outcome FROM submeter.commission_check ORDER BY check_id;
SELECT pg_temp.refusal('UPDATE submeter.commission_check SET state = ''passed''');

-- 4. What changes the proof, and what does not. A corrected name, a completed unit, a better rating: in service all the same.
UPDATE submeter.meter SET code = 'm2 (bakery)', external_ref = 'ERP-7' WHERE meter_id = 2;
UPDATE submeter.gateway SET name = 'Gateway of the hall', timeout_ms = 900, poll_interval = '2 min' WHERE gateway_id = 1;
INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, rated_current_a, phases, parent_meter_id, unit_id, reason) VALUES (1, 2, 1, 80, 1, NULL, 2, 'rated current as on the nameplate');
SELECT state, changed, due FROM submeter.meter_service WHERE meter_id = 2;
UPDATE submeter.meter SET code = 'm2' WHERE meter_id = 2;
-- Each of these makes it a meter to check again, and so do they together; what was wrongly changed and is changed back is as it was proved.
CREATE FUNCTION pg_temp.after(change text) RETURNS TABLE(what text, state text, changed text[], due text[]) LANGUAGE plpgsql AS $$
DECLARE
	seen record;
BEGIN
	BEGIN
		EXECUTE after.change;
		SELECT v.state, v.changed, v.due INTO seen FROM submeter.meter_service v WHERE v.meter_id = 2;
		RAISE EXCEPTION USING ERRCODE = 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
	END;
	RETURN QUERY SELECT after.change, seen.state, seen.changed, seen.due;
END
$$;
SELECT a.* FROM unnest(ARRAY[
	$$UPDATE submeter.meter SET model = 'SDM120' WHERE meter_id = 2$$, $$UPDATE submeter.meter SET serial = '25-0099' WHERE meter_id = 2$$, $$UPDATE submeter.meter SET bus_address = '7' WHERE meter_id = 2$$,
	$$UPDATE submeter.meter SET gateway_id = 2 WHERE meter_id = 2$$, $$UPDATE submeter.gateway SET address = '10.0.0.7:502' WHERE gateway_id = 1$$, $$UPDATE submeter.gateway SET backup_address = '10.0.0.7:502' WHERE gateway_id = 1$$,
	$$INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, unit_id) VALUES (1, 2, 40, 2)$$, $$INSERT INTO submeter.meter_setup (site_id, meter_id, phases, unit_id) VALUES (1, 2, 3, 2)$$,
	$$INSERT INTO submeter.meter_setup (site_id, meter_id, unit_id) VALUES (1, 2, 3)$$, $$INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, unit_id) VALUES (1, 2, '2100-01-01', 40, 2)$$,
	$$UPDATE submeter.meter SET model = 'SDM120', serial = '25-0099' WHERE meter_id = 2$$, $$UPDATE submeter.meter SET retired_at = now() WHERE meter_id = 2$$]) c
CROSS JOIN LATERAL pg_temp.after(c) a;
-- A change planned for a day to come counts from that day on.
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, unit_id, phases) VALUES (1, 2, '2025-02-01 00:00+08', 40, 2, 1);
SELECT submeter.rule_refusal(1, 2, '2025-01-31 23:59+08') AS before, submeter.rule_refusal(1, 2, '2025-02-01 00:00+08') AS after;
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, unit_id, phases) VALUES (1, 2, '2025-02-01 00:00+08', 1, 2, 1);
-- A meter that speaks DL/T 645 says who it is in every answer, so the gateway does not matter.
SELECT f.facts -> 'line' AS line FROM submeter.service_facts(1, '{6}', now()) f;

-- 5. After a change only what it touches is done again; the rest is carried over with who did it and when.
UPDATE submeter.meter SET bus_address = '12' WHERE meter_id = 2;
SELECT submeter.begin_commission(1, 2, pg_temp.at('15:00')) AS again \gset
SELECT step, state, evidence -> 'carried_from' = to_jsonb(:attempt) AS carried, at FROM submeter.commission_check WHERE commission_id = :again ORDER BY check_id;
SELECT pg_temp.refusal('SELECT submeter.finish_commission(1, 2)');
SELECT pg_temp.read(2, '15:01:00', 1240000, 600), pg_temp.read(2, '15:02:00', 1240010, 600), pg_temp.read(2, '15:05:00', 1240010, 600);
SELECT * FROM submeter.commission_meter(1, 2, jsonb_build_object('display_kwh', '1240.00', 'display_at', pg_temp.at('15:01:30')), true, pg_temp.at('15:06'));
-- That was a dry run.
SELECT count(*) AS recorded FROM submeter.commission_check WHERE commission_id = :again;
SELECT state, changed FROM submeter.meter_service WHERE meter_id = 2;
SELECT step, state, found, explanation FROM submeter.commission_meter(1, 2, jsonb_build_object('display_kwh', '1240.00', 'display_at', pg_temp.at('15:01:30')), as_of => pg_temp.at('15:06'));
SELECT state, changed, due FROM submeter.meter_service WHERE meter_id = 2;
-- Taken out of service by a person who doubts: everything is to be done again.
SELECT submeter.fail_commission(1, 2, 'the tenant says his neighbour went dark', pg_temp.at('16:00')) > :again AS withdrawn;
SELECT state, changed, due, note FROM submeter.meter_service WHERE meter_id = 2;
-- A failed attempt: what had passed stays, phases and shop are proved anew.
SELECT submeter.begin_commission(1, 2, pg_temp.at('16:10')) AS third \gset
SELECT count(*) AS carried FROM submeter.commission_check WHERE commission_id = :third;
SELECT state FROM submeter.record_commission_check(1, 2, 'serial', '{"serial":"25-0002"}', pg_temp.at('16:11'));
SELECT submeter.waive_commission_check(1, 2, 'signal', 'the gateway is moved tomorrow', pg_temp.at('16:11'));
SELECT submeter.fail_commission(1, 2, 'shop closed', pg_temp.at('16:12')) = :third AS failed;
SELECT state, changed, due, note FROM submeter.meter_service WHERE meter_id = 2;
SELECT submeter.begin_commission(1, 2, pg_temp.at('16:20')) AS fourth \gset
SELECT step, state, outcome FROM submeter.commission_check WHERE commission_id = :fourth ORDER BY check_id;
SELECT submeter.fail_commission(1, 2, 'enough', pg_temp.at('16:21')) = :fourth AS failed;

-- 6. Taken over from another system: in bulk, by an administrator, with a reason. A completed serial number changes nothing, a new address does.
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.adopt_meters(1, '{2,99}', 'x')$$, $$SELECT submeter.adopt_meters(1, '{NULL}', 'x')$$, $$SELECT submeter.adopt_meters(1, NULL, '')$$,
	$$SELECT submeter.adopt_meters(1, '{9}', 'x')$$, $$SELECT submeter.adopt_meters(9, NULL, 'x')$$]) s;
SELECT submeter.begin_commission(1, 3, pg_temp.at('16:30')) > 0 AS somebody_is_at_the_cabinet;
SELECT submeter.adopt_meters(1, NULL, 'run by the former system since 2019', pg_temp.at('16:31')) AS taken_over, submeter.adopt_meters(1, NULL, 'again', pg_temp.at('16:32')) AS again;
SELECT meter_id, state, changed, due, note FROM submeter.meter_service WHERE site_id = 1 ORDER BY 1;
SELECT submeter.fail_commission(1, 3, 'door locked', pg_temp.at('16:40')) > 0 AS failed, submeter.adopt_meters(1, '{3}', 'like the others', pg_temp.at('16:41')) AS taken_over;
UPDATE submeter.meter SET serial = '25-0005' WHERE meter_id = 5;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, unit_id) VALUES (1, 5, 60, 5);
SELECT state, changed FROM submeter.meter_service WHERE meter_id = 5;
UPDATE submeter.gateway SET address = '10.0.0.66:502' WHERE gateway_id = 2;
SELECT meter_id, state, changed, due FROM submeter.meter_service WHERE state = 'to_check' AND site_id = 1 ORDER BY 1;
-- Those behind the gateway that moved: they answer, and their registers go on. What was taken over stays taken over.
SELECT pg_temp.minutes(5, '16:50', 800000, 500, 0, '00:00', '00:00') AS read;
SELECT step, state, explanation FROM submeter.commission_meter(1, 5, as_of => pg_temp.at('16:50'));
SELECT step, state, explanation FROM submeter.commission_meter(1, 5, as_of => pg_temp.at('17:05')) WHERE step IN ('address', 'signal', 'in service');
-- The other one answers with another meter's register.
SELECT pg_temp.read(4, '16:45:00', 700000, 900), pg_temp.read(4, '16:46:00', 700010, 900), submeter.begin_commission(1, 4, pg_temp.at('16:47')) > 0 AS begun;
SELECT pg_temp.read(4, '16:48:00', 99000, 900);
SELECT * FROM submeter.record_commission_check(1, 4, 'address', '{}', pg_temp.at('16:49'));

-- 7. Three phases, transformers 20 : 1. Values tell what they can.
CREATE FUNCTION pg_temp.three(v_a real, i_a real, p_a real, v_b real, i_b real, p_b real, v_c real, i_c real, p_c real, p real, findings jsonb DEFAULT '{"phase_order":"ok"}')
RETURNS TABLE(state text, explanation text) LANGUAGE sql AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 4, 'ts', t, 'energy_wh', 700020 + extract(epoch FROM t - pg_temp.at('17:00'))::bigint,
		'v_a', v_a, 'i_a', i_a, 'power_a_w', p_a, 'v_b', v_b, 'i_b', i_b, 'power_b_w', p_b, 'v_c', v_c, 'i_c', i_c, 'power_c_w', p_c, 'power_w', p))])
	FROM (SELECT pg_temp.at('17:00') + interval '1 s' * (SELECT count(*) FROM submeter.reading r WHERE r.meter_id = 4 AND r.ts >= pg_temp.at('17:00')) AS t) x;
	SELECT s.state, submeter.said_in(1, s.outcome, s.expected, s.found, s.evidence) FROM submeter.step_phases(1, 4, findings, pg_temp.at('16:59'), pg_temp.at('18:00')) s
$$;
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 455, 229, 2, 448, 1353);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 455, 229, 2, 448, 1353, '{}');
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, -455, 229, 2, 448, 443);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, -230, 229, 2, -229, -9);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 20, 229, 2, 448, 918);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 900, 229, 2, 448, 1798);
SELECT * FROM pg_temp.three(230, 2, 450, 12, 2, 10, 229, 2, 448, 908);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 455, 229, 2, 448, 900);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 0.01, 0, 229, 2, 448, 898);
SELECT * FROM pg_temp.three(230, 2, 450, 231, 0.01, 0, 229, 2, 448, 898, '{"phase_order":"ok","ct_direction":"ok"}');
SELECT * FROM pg_temp.three(230, 2, 450, 231, 2, 455, 229, 2, 448, 1353, '{"phase_order":"wrong"}');
SELECT * FROM pg_temp.three(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1353, '{"phase_order":"ok"}');
-- A load of 8 kW behind the transformers is 400 W at the meter: with the wrong ratio it does not fit.
SELECT pg_temp.minutes(4, '17:25', 700100, 50, 400, '17:30', '17:35') AS read;
SELECT state, explanation FROM submeter.run_load_step(1, 4, 8000, pg_temp.at('17:30'), pg_temp.at('17:35'), as_of => pg_temp.at('17:41'));
SELECT state, explanation FROM submeter.run_load_step(1, 4, 16000, pg_temp.at('17:30'), pg_temp.at('17:35'), as_of => pg_temp.at('17:41'));
-- Without power registers the energy register must do; 2 kW are 33 Wh a minute.
SELECT sum(submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 6, 'ts', pg_temp.at('17:25:07') + n * interval '1 min',
	'energy_wh', 40000 + 10 * n + 33 * least(greatest(n - 5, 0), 5)))])) AS read FROM generate_series(0, 14) n;
SELECT state, outcome, found, evidence -> 'before_w' AS before_w, evidence -> 'during_w' AS during_w, evidence -> 'after_w' AS after_w
FROM submeter.step_load(1, 6, 2000, pg_temp.at('17:30'), pg_temp.at('17:35'), '5 s', pg_temp.at('17:41'));
-- Clocks are read by the poller: none yet, right, wrong, read long ago.
SELECT * FROM submeter.step_clock(1, 6, pg_temp.at('17:00'));
UPDATE submeter.meter_state SET clock_offset_s = -119, clock_at = pg_temp.at('16:00') WHERE meter_id = 6;
SELECT state, outcome, found FROM submeter.step_clock(1, 6, pg_temp.at('17:00'));
UPDATE submeter.meter_state SET clock_offset_s = 121 WHERE meter_id = 6;
SELECT state, outcome, found FROM submeter.step_clock(1, 6, pg_temp.at('17:00'));
UPDATE submeter.meter_state SET clock_at = '2025-01-01' WHERE meter_id = 6;
SELECT state, outcome, found FROM submeter.step_clock(1, 6, pg_temp.at('17:00'));
-- A meter asked by the wildcard must say who it is.
UPDATE submeter.meter SET bus_address = 'AAAAAAAAAAAA' WHERE meter_id = 6;
SELECT state, outcome FROM submeter.step_address(1, 6, '{}', pg_temp.at('17:20'));
SELECT state, outcome FROM submeter.step_address(1, 6, '{"device_address":"25000006","device_number":"25000006"}', pg_temp.at('17:20'));
SELECT state, outcome, expected, found FROM submeter.step_address(1, 6, '{"device_address":"25000006","device_number":"25000007"}', pg_temp.at('17:20'));
-- Signal: every third reading lost.
SELECT sum(pg_temp.read(3, to_char(pg_temp.at('18:00') + n * interval '2 min', 'HH24:MI:SS'), 600000 + n, 100)) AS read FROM generate_series(0, 29) n WHERE n % 3 <> 2;
DELETE FROM submeter.meter_setup WHERE meter_id = 99;
SELECT hour, slots, got FROM submeter.reading_slots(1, 3, pg_temp.at('18:00'), pg_temp.at('19:00'));
SELECT hour, slots, got FROM submeter.reading_slots(1, 3, pg_temp.at('18:00'), pg_temp.at('20:30'));

-- 8. The policy: two shops in arrears, told and due. The wires of m2 and m3 were found crossed, so neither is cut until it is proved again.
UPDATE submeter.credit_policy SET mode = 'automatic', no_trip_windows = '[]', low_balances = '{}', notice_lead = '0', mass_trip_share = 1, stale_after = '1 day' WHERE site_id = 1;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 2, 'bakery', 'The bakery'), (1, 3, 'tailor', 'The <b>tailor</b>');
INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 2, 'baker'), (1, 3, 'tailor');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 2, 2, 'bakery'), (1, 3, 3, 'tailor');
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, n, n, :flat, '["2025-01-10 00:00+08",)' FROM generate_series(2, 3) n;
SELECT sum(pg_temp.read(n, '19:00:00', 1300000, 500)) AS read FROM generate_series(2, 3) n;
SELECT submeter.judge_reading(1, s.meter_id, s.ts, 'accept', 'test') > 0 AS accepted FROM submeter.reading_suspect s WHERE s.state = 'open' AND s.meter_id IN (2, 3);
SELECT count(*) AS adjusted FROM (SELECT submeter.adjust(1, n, -2000 - submeter.balance(1, n), 'arrears', 'arrears:' || n) FROM generate_series(2, 3) n) x;
-- No new attempt is under way and both were taken over: m2 at 10 o'clock, m3 like the others.
SELECT meter_id, state FROM submeter.meter_service WHERE meter_id IN (2, 3) ORDER BY 1;
SELECT m AS meter_id, submeter.setup_at(1, m, pg_temp.at('19:00')) -> 'unit_id' AS unit_id FROM generate_series(2, 3) m ORDER BY 1;
SELECT account, old, new FROM submeter.correct_supply(1, 2, 3, pg_temp.at('00:00'), 'crossed behind the panel', true, as_of => pg_temp.at('19:05')) ORDER BY 1;
SELECT meter_id, state FROM submeter.meter_service WHERE meter_id IN (2, 3) ORDER BY 1;
SELECT count(*) AS corrected FROM submeter.correct_supply(1, 2, 3, pg_temp.at('00:00'), 'crossed behind the panel', false, as_of => pg_temp.at('19:05'));
-- Each stands for the unit of the other now.
SELECT m AS meter_id, submeter.setup_at(1, m, pg_temp.at('19:00')) -> 'unit_id' AS unit_id FROM generate_series(2, 3) m ORDER BY 1;
SELECT meter_id, state, changed, due, note FROM submeter.meter_service WHERE meter_id IN (2, 3) ORDER BY 1;
CREATE FUNCTION pg_temp.run(at text) RETURNS TABLE(account text, decision text, explanation text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM submeter.settle(1, pg_temp.at(run.at));
	PERFORM submeter.apply_policy(1, pg_temp.at(run.at));
	RETURN QUERY SELECT a.code, d.action || ' ' || d.reason, d.explanation FROM submeter.account_state t JOIN submeter.account a USING (site_id, account_id)
		JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id WHERE t.site_id = 1 ORDER BY 1;
END
$$;
SELECT * FROM pg_temp.run('19:10');
SELECT count(*) AS announced FROM submeter.notice WHERE kind = 'trip_announced';
SELECT d.inputs -> 'unproved' AS unproved, d.inputs -> 'cuttable' AS cuttable FROM submeter.decision d WHERE d.reason = 'not_commissioned' ORDER BY decision_id LIMIT 1;
SELECT step, ok, answer FROM submeter.why_dark(1, 2, pg_temp.at('19:10')) WHERE step = 10;
-- The cause of a rule is refused to a person too; a person's own is not.
SELECT pg_temp.refusal($$SELECT submeter.request_command(1, 2, 'open', 'empty shop', 'vacant')$$), pg_temp.refusal($$SELECT submeter.request_command(1, 2, 'open', 'night', 'schedule')$$);
-- m2 is proved again by a load of 1500 W; m3 is not, and stays.
SELECT submeter.begin_commission(1, 2, pg_temp.at('19:12')) > 0 AS begun;
SELECT pg_temp.minutes(2, '19:15', 1300100, 600, 1500, '19:20', '19:25') AS own, pg_temp.minutes(3, '19:15', 1300100, 300, 0, '19:20', '19:25') AS neighbour;
SELECT step, state FROM submeter.commission_meter(1, 2, jsonb_build_object('load_w', 1500, 'load_on_at', pg_temp.at('19:20'), 'load_off_at', pg_temp.at('19:25'), 'note', 'proved after the correction'), as_of => pg_temp.at('19:31'))
WHERE step IN ('shop', 'in service');
SELECT * FROM pg_temp.run('19:32');
UPDATE submeter.notice SET state = 'accepted', accepted_at = pg_temp.at('19:32') WHERE kind = 'trip_announced' AND state = 'queued';
SELECT account, decision FROM pg_temp.run('19:33');
SELECT meter_id, action, cause, state FROM submeter.command ORDER BY command_id;
-- On its way the meter gets another gateway: the last check before the wire stops it, and no cause is left on record.
UPDATE submeter.meter SET gateway_id = 2, bus_address = '22' WHERE meter_id = 2;
SELECT submeter.open_refusal(1, 2, 'arrears', pg_temp.at('19:33')) AS refusal;
UPDATE submeter.meter SET gateway_id = 1, bus_address = '12' WHERE meter_id = 2;
SELECT submeter.open_refusal(1, 2, 'arrears', pg_temp.at('19:33')) AS refusal;
SELECT submeter.finish_command(1, command_id, 'cancelled', 'enough for a test', pg_temp.at('19:34')) FROM submeter.command WHERE state = 'queued';

-- 9. The supervised trip test at m3: opened by its own command, looked at, closed again.
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.start_trip_test(1, 3, 'who is it?')$$, $$SELECT submeter.finish_trip_test(1, 3, true)$$]) s;
SELECT submeter.begin_commission(1, 3, pg_temp.at('19:40')) > 0 AS begun;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.finish_trip_test(1, 3, true)$$, $$SELECT submeter.start_trip_test(1, 3, '')$$]) s;
INSERT INTO submeter.open_cause (site_id, meter_id, cause, reason) VALUES (1, 3, 'lockout', 'tag');
SELECT pg_temp.refusal($$SELECT submeter.start_trip_test(1, 3, 'who is it?')$$);
DELETE FROM submeter.open_cause WHERE meter_id = 3;
UPDATE submeter.meter SET protection = 'life_safety' WHERE meter_id = 3;
SELECT pg_temp.refusal($$SELECT submeter.start_trip_test(1, 3, 'who is it?')$$);
UPDATE submeter.meter SET protection = 'none' WHERE meter_id = 3;
SELECT submeter.start_trip_test(1, 3, 'the tailor stands in the dark', pg_temp.at('19:45')) AS trip \gset
SELECT submeter.start_trip_test(1, 3, 'again', pg_temp.at('19:46')) = :trip AS same;
SELECT meter_id, action, cause, state, reason FROM submeter.command WHERE command_id = :trip;
SELECT pg_temp.refusal('SELECT submeter.finish_trip_test(1, 3, true)'), pg_temp.refusal('SELECT submeter.fail_commission(1, 3, ''tired'')');
-- The poller opens it; the electrician sees light: another shop is dark.
CREATE FUNCTION pg_temp.opened(id bigint, at text) RETURNS void LANGUAGE sql AS $$
	UPDATE submeter.command SET state = 'confirmed', sent_at = pg_temp.at(at), finished_at = pg_temp.at(at), relay_before = 'closed', relay_after = 'open', evidence = '{"kind":"relay"}' WHERE command_id = id;
	UPDATE submeter.meter_state SET relay = 'open', relay_at = pg_temp.at(at) WHERE meter_id = 3
$$;
SELECT pg_temp.opened(:trip, '19:46');
SELECT cause, reason FROM submeter.open_cause WHERE meter_id = 3;
SELECT state, expected, found, explanation, close_command_id > :trip AS closes FROM submeter.finish_trip_test(1, 3, false, pg_temp.at('19:48'));
SELECT action, cause, state FROM submeter.command WHERE command_id > :trip;
SELECT count(*) AS causes FROM submeter.open_cause WHERE meter_id = 3;
-- Once more, after the wires were changed: dark, but something flows; then dark and nothing flows.
CREATE FUNCTION pg_temp.closed(at text) RETURNS void LANGUAGE sql AS $$
	UPDATE submeter.command SET state = 'confirmed', sent_at = pg_temp.at(at), finished_at = pg_temp.at(at), relay_after = 'closed' WHERE meter_id = 3 AND action = 'close' AND state = 'queued';
	UPDATE submeter.meter_state SET relay = 'closed', relay_at = pg_temp.at(at) WHERE meter_id = 3
$$;
SELECT pg_temp.closed('19:49');
SELECT submeter.start_trip_test(1, 3, 'second try', pg_temp.at('19:50')) AS trip2 \gset
SELECT pg_temp.opened(:trip2, '19:51'), pg_temp.read(3, '19:52:00', 1302000, 350, '{"relay":"open"}');
SELECT state, explanation FROM submeter.finish_trip_test(1, 3, true, pg_temp.at('19:53'));
SELECT pg_temp.closed('19:54');
SELECT submeter.start_trip_test(1, 3, 'third try', pg_temp.at('19:55')) AS trip3 \gset
SELECT pg_temp.opened(:trip3, '19:56'), pg_temp.read(3, '19:57:00', 1302000, 0, '{"relay":"open"}');
SELECT state, explanation FROM submeter.finish_trip_test(1, 3, true, pg_temp.at('19:58'));
SELECT pg_temp.closed('19:59');
-- A breaker that does not open.
SELECT submeter.start_trip_test(1, 3, 'and once more', pg_temp.at('20:00')) AS trip4 \gset
SELECT submeter.finish_command(1, :trip4, 'failed', 'the contact did not move', pg_temp.at('20:01'));
SELECT state, explanation, close_command_id FROM submeter.finish_trip_test(1, 3, true, pg_temp.at('20:02'));

-- 10. The sheet, in both languages; what people typed is text, never markup.
SELECT lang, sheet LIKE '<!DOCTYPE html>%</html>' AS whole, sheet LIKE '%<b>tailor%' AS markup, sheet LIKE '%The &lt;b&gt;tailor&lt;/b&gt;%' AS escaped, sheet LIKE '%Plaza &lt;1&gt;%' AS site,
	(length(sheet) - length(replace(sheet, '<tr><td>', ''))) / length('<tr><td>') AS lines, strpos(sheet, '{') > 0 AND sheet ~ '>[^<]*\{[a-z_]+\}' AS unfilled
FROM unnest('{en,zh}'::text[]) lang CROSS JOIN LATERAL submeter.commission_sheet(1, 2, lang, pg_temp.at('20:30')) sheet;
SELECT m AS meter, length(submeter.commission_sheet(1, m, 'en', pg_temp.at('20:30'))) > 1500 AS sheet FROM unnest('{1,3,4,5,6}'::bigint[]) m;
SELECT regexp_replace(regexp_replace(submeter.commission_sheet(1, 2, 'en', pg_temp.at('20:30')), '<style>.*</style>|<rect [^>]*>|<text .*?</text>', '', 'g'), '<(h1|h2|p|tr|table)\M', E'\n<\\1', 'g') AS sheet;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[$$SELECT submeter.commission_sheet(1, 2, 'fr')$$, $$SELECT submeter.commission_sheet(1, 9)$$, $$SELECT submeter.commission_sheet(1, NULL)$$, $$SELECT submeter.commission_sheet(3, 2)$$, $$SELECT submeter.commission_sheet(1, 2, 'en', NULL)$$]) s;
-- Every outcome has its sentence, every word of the sheet both languages.
SELECT outcome FROM submeter.commission_check WHERE submeter.commission_sentence(outcome, 'en') IS NULL OR submeter.commission_sentence(outcome, 'zh') IS NULL;
SELECT s.step FROM submeter.commission_steps() s WHERE submeter.commission_sentence('to_do_' || s.step, 'zh') IS NULL;

-- 11. The other site sees and touches nothing of it: its meter has the same address behind the same gateway.
SELECT meter_id, state FROM submeter.meter_service WHERE site_id = 2;
SELECT pg_temp.refusal('SELECT submeter.begin_commission(2, 2)');
SELECT * FROM submeter.verify_ledger(1);
