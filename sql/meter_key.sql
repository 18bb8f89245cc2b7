-- Rooms: meter keys, breakers, clocks of meters. What is written to a DL/T 645 meter, with what password and by which clock, and what is
-- never written again.
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
CREATE VIEW pg_temp.moves AS
SELECT command_id, meter_id, action, state, attempts, relay_after, evidence, detail FROM submeter.command;

INSERT INTO submeter.site (code, name, locale) VALUES ('S', 'Plaza', 'en'), ('X', 'Elsewhere', 'en');
UPDATE submeter.credit_policy SET mode = 'automatic', no_trip_windows = '[]', notice_lead = '0';
INSERT INTO submeter.gateway (site_id, code, address, transport, online, last_contact_at) VALUES (1, 'G1', '127.0.0.1:502', 'dlt645-over-tcp', true, now()), (1, 'G2', '127.0.0.1:503', 'modbus-tcp', true, now());
-- A model of one's own, like a prepaid meter with a relay; one of 1997 with a private way; one whose lock shows.
INSERT INTO submeter.meter_model (model, vendor, protocol, clock_di, clock_set, clock_write) VALUES ('own 645', 'x', 'dlt645-2007', '0400010C', 'broadcast', true),
	('own 1997', 'x', 'dlt645-1997', 'C010', NULL, false);
INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale, bit_mask, closed_value, open_value, keep_mask, keep_value) VALUES
	('own 645', 'energy_wh', '00010000', 4, 'bcd', 10, 65535, NULL, NULL, NULL, NULL), ('own 645', 'relay', '04000503', 2, 'bits', 1, 16, 0, 16, 4096, 4096);
INSERT INTO submeter.meter_switch (model, action, function, di, registers, valid_s) VALUES ('own 645', 'open', 28, NULL, '{26}', 300), ('own 645', 'close', 28, NULL, '{28}', 300),
	('own 645', 'permit_close', 28, NULL, '{27}', 600), ('own 645', 'keep', 28, NULL, '{58}', 300), ('own 645', 'release', 28, NULL, '{59}', 300),
	('own 1997', 'open', 4, 'DD78', '{0}', 300);
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address, protection) VALUES (1, 'M1', 'own 645', 1, '000000000001', 'none'), (1, 'M2', 'own 645', 1, '000000000002', 'none'),
	(1, 'M3', 'own 645', 1, '000000000003', 'protected'), (1, 'M4', 'DDS238-2 ZN/SR', 2, '4', 'none'), (1, 'M5', 'own 1997', 1, '000000000005', 'none');
INSERT INTO submeter.tenant (site_id, code, name) VALUES (1, 'T1', 'Shop 1');
INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 1, 'owner');
INSERT INTO submeter.account (site_id, tenant_id, code) VALUES (1, 1, 'A1');
INSERT INTO submeter.tariff (site_id, code) VALUES (1, 'flat');
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (1, 1, '2026-01-01', '{"energy":[{"price":0.8}]}');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 1, 1, '[2026-01-01,)');
INSERT INTO submeter.meter_state (site_id, meter_id, relay, relay_at, online) SELECT site_id, meter_id, 'closed', '2026-01-01', true FROM submeter.meter
ON CONFLICT (site_id, meter_id) DO UPDATE SET relay = 'closed', relay_at = '2026-01-01', online = true;

-- 1. Bad input: one clear error each, never the password itself.
SELECT pg_temp.refusal(call) FROM unnest(ARRAY[
	'SELECT submeter.set_meter_key(99, 1, 2, ''000000'')',
	'SELECT submeter.set_meter_key(1, 99, 2, ''000000'')',
	'SELECT submeter.set_meter_key(1, 4, 2, ''000000'')',
	'SELECT submeter.set_meter_key(1, 1, 98, ''000000'')',
	'SELECT submeter.set_meter_key(1, 1, NULL, ''000000'')',
	'SELECT submeter.set_meter_key(1, 1, -1, ''000000'')',
	'SELECT submeter.set_meter_key(1, 1, 2, ''72515x'')',
	'SELECT submeter.set_meter_key(1, 1, 2, NULL)',
	'SELECT submeter.set_meter_key(1, 1, 2, ''7251535'')',
	'SELECT submeter.set_meter_key(1, 1, 2, ''725153'', ''1'')',
	'SELECT submeter.set_meter_clock(1, 99, ''why'')',
	'SELECT submeter.set_meter_clock(1, 1, '' '')',
	'SELECT submeter.set_meter_clock(1, 4, ''why'')',
	'SELECT submeter.set_meter_clock(1, 5, ''why'')',
	'SELECT submeter.set_meter_clock(1, 1, ''why'')',
	'SELECT submeter.request_command(1, 1, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 1, ''keep'', ''why'')',
	'SELECT submeter.report_clocks(1, ''{}'')']) WITH ORDINALITY u(call, ord) ORDER BY ord;
SELECT (SELECT count(*) FROM submeter.command) AS commands, (SELECT count(*) FROM submeter.meter_key) AS keys, (SELECT count(*) FROM submeter.secret) AS secrets;

-- 2. A password is kept, sealed, and seen by nobody; it goes out with a command that may be sent.
CREATE ROLE regress_key_field LOGIN;
GRANT submeter_field TO regress_key_field;
CREATE ROLE regress_key_poller LOGIN;
GRANT submeter_poller TO regress_key_poller;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_key_field'), (1, 'regress_key_poller');
SET ROLE regress_key_field;
SELECT submeter.set_meter_key(1, m, 2, '725153', '00000042') FROM generate_series(1, 3) m;
SELECT pg_temp.refusal('SELECT * FROM submeter.meter_key');
SELECT pg_temp.refusal('SELECT sealed FROM submeter.secret');
SELECT pg_temp.refusal('SELECT submeter.take_key(1, 1)');
SELECT pg_temp.refusal('SELECT submeter.send_command(1, 1, ''p1'')');
RESET ROLE;
SELECT relation, new_row, changed_by FROM submeter.audit WHERE relation = 'meter_key' ORDER BY audit_id;
SELECT count(*) AS in_clear FROM submeter.secret WHERE encode(sealed, 'escape') LIKE '%725153%';
SELECT submeter.request_command(1, 1, 'open', 'cable work') AS command_id \gset
SET ROLE regress_key_poller;
SELECT action, step, clock_di FROM submeter.claim_commands('p1', 10);
-- Its clock is not known: it is read first, and nothing is lost by having forgotten to.
SELECT go, reason, password FROM submeter.send_command(1, :command_id, 'p1');
RESET ROLE;
UPDATE submeter.command SET retry_at = NULL;
SET ROLE regress_key_poller;
SELECT action, clock_di FROM submeter.claim_commands('p1', 10);
-- The meter is 100 s behind: the command ends 300 s later by the meter's clock.
SELECT go, reason, level, password, operator,
	to_timestamp(valid_until, 'YYMMDDHH24MISS')::timestamp - to_timestamp(local_time, 'YYMMDDHH24MISS')::timestamp BETWEEN interval '198 s' AND interval '202 s' AS until_by_its_clock
FROM submeter.send_command(1, :command_id, 'p1', to_char((clock_timestamp() AT TIME ZONE 'Asia/Shanghai') - interval '100 s', 'YYYY-MM-DD HH24:MI:SS'));
RESET ROLE;
SELECT clock_offset_s BETWEEN -102 AND -99 AS behind, clock_error FROM submeter.meter_state WHERE meter_id = 1;
SELECT tries, refusals, refused_at FROM submeter.meter_key WHERE meter_id = 1;

-- 3. One refusal, and nothing is written any more.
SELECT submeter.report_command(1, :command_id, 'p1', 'refused', 'closed', NULL, '{"kind":"password_refused"}', 'the meter refuses the password');
SELECT state, detail FROM pg_temp.moves WHERE command_id = :command_id;
SELECT tries, refusals, refused_at IS NOT NULL AS refused FROM submeter.meter_key WHERE meter_id = 1;
SELECT rule, detail FROM submeter.alarm WHERE cleared_at IS NULL ORDER BY rule;
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 1, ''open'', ''again'')');
SELECT pg_temp.refusal('SELECT submeter.set_meter_clock(1, 1, ''why'')');
SELECT submeter.can_switch(1, 1, 'open'), submeter.can_switch(1, 2, 'open');
-- Neither by the policy, whatever is queued.
SELECT cuttable FROM submeter.policy_meters(1, '{1}', now());
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 1, 'operator');
SELECT submeter.queue_command(1, 1, 'open', 'operator', 'slipped in', 'direct', now(), now() + interval '10 min', NULL, now()) AS command_id \gset
SELECT count(*) FROM submeter.claim_commands('p1', 10);
SELECT go, reason, password FROM submeter.send_command(1, :command_id, 'p1');
SELECT state, detail FROM submeter.command_log WHERE command_id = :command_id;
UPDATE submeter.meter_state SET relay = 'open', relay_at = now(), ts = now(), v_a = 230 WHERE meter_id = 1;
DELETE FROM submeter.open_cause;
SELECT step, ok, answer, next_step FROM submeter.why_dark(1, 1) WHERE NOT ok;
SELECT submeter.evaluate_alarms(1) > 0 AS changed;
SELECT rule, detail FROM submeter.alarm WHERE cleared_at IS NULL AND rule = 'key_refused';
-- A new password: writing goes on; a second refusal within a day, and it does not, whatever is set.
SELECT submeter.set_meter_key(1, 1, 2, '000001');
SELECT count(*) AS open FROM submeter.alarm WHERE rule = 'key_refused' AND cleared_at IS NULL;
SELECT submeter.request_command(1, 1, 'close', 'try') AS command_id \gset
SELECT count(*) FROM submeter.claim_commands('p1', 10);
SELECT go, password, operator FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'refused', 'open', NULL, '{"kind":"password_refused"}', 'the meter refuses the password');
SELECT submeter.set_meter_key(1, 1, 2, '000002');
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 1, ''close'', ''again'')');
SELECT rule, detail FROM submeter.alarm WHERE rule = 'key_refused' AND cleared_at IS NULL;
SELECT submeter.key_refusal(1, 1, now() + interval '23 hours'), submeter.key_refusal(1, 1, now() + interval '25 hours');
-- Not answered may be refused: two such writes are the most.
UPDATE submeter.meter_key SET refusals = 0, last_refused_at = NULL, refused_at = NULL;
CREATE FUNCTION pg_temp.unanswered(outcome text, evidence jsonb) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	made bigint := submeter.request_command(1, 1, 'close', 'try');
BEGIN
	PERFORM submeter.claim_commands('p1', 10);
	IF NOT (SELECT go FROM submeter.send_command(1, made, 'p1')) THEN
		RETURN 'not sent';
	END IF;
	PERFORM submeter.report_command(1, made, 'p1', unanswered.outcome, 'open', 'open', unanswered.evidence, unanswered.outcome);
	RETURN (SELECT format('%s, tries %s', c.state, k.tries) FROM submeter.command c JOIN submeter.meter_key k USING (site_id, meter_id) WHERE c.command_id = made);
END
$$;
SELECT pg_temp.unanswered('failed', '{"kind":"relay_register","write":{"echo":true}}');
-- An error that is not about the password is an answer; but the clock may be why, and is read again.
SELECT pg_temp.unanswered('failed', '{"kind":"relay_register","write":{"echo":false,"error":1}}');
SELECT clock_at FROM submeter.meter_state WHERE meter_id = 1;
UPDATE submeter.meter_state SET clock_at = now() WHERE meter_id = 1;
SELECT pg_temp.unanswered('failed', '{"kind":"relay_register","write":{"echo":false}}');
SELECT pg_temp.unanswered('failed', '{"kind":"relay_register","write":{"echo":false}}');
SELECT pg_temp.refusal($$SELECT pg_temp.unanswered('failed', '{}')$$);
SELECT rule, detail FROM submeter.alarm WHERE rule = 'key_refused' AND cleared_at IS NULL;
-- The doubtful ones count as refused when a new password is set: no third try before a day is over.
SELECT submeter.set_meter_key(1, 1, 2, '725153', '00000042');
SELECT tries, refusals FROM submeter.meter_key WHERE meter_id = 1;
SELECT split_part(pg_temp.refusal($$SELECT pg_temp.unanswered('failed', '{}')$$), ' | ', 2);
UPDATE submeter.meter_key SET last_refused_at = now() - interval '25 hours' WHERE meter_id = 1;
SELECT pg_temp.unanswered('failed', '{"kind":"relay_register","write":{"echo":true}}');
SELECT tries, refusals FROM submeter.meter_key WHERE meter_id = 1;
-- A refusal that is reported late, by a poller that lost the command, counts as well.
SELECT submeter.request_command(1, 1, 'close', 'try') AS command_id \gset
SELECT count(*) FROM submeter.claim_commands('p1', 10);
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.switch_duty(1, clock_timestamp() + interval '5 min') > 0 AS lost;
SELECT step FROM submeter.claim_commands('p2', 10);
SELECT submeter.report_command(1, :command_id, 'p1', 'refused', 'open', NULL, '{"kind":"password_refused"}', 'late');
SELECT submeter.key_refusal(1, 1, now());
SELECT submeter.report_command(1, :command_id, 'p2', 'failed', 'open', 'open', '{"kind":"relay_register"}', 'the breaker stays open');
SELECT submeter.set_meter_key(1, 1, 2, '725153');

-- A password that cannot be opened any more (a restored database without the server's key): not sent, and said so.
SELECT submeter.request_command(1, 1, 'close', 'try') AS command_id \gset
SELECT count(*) FROM submeter.claim_commands('p1', 10);
BEGIN;
UPDATE submeter.secret SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE name = 'meter/1/key';
SELECT go, split_part(reason, ':', 1) AS reason, password FROM submeter.send_command(1, :command_id, 'p1');
SELECT state, split_part(detail, ':', 1) AS detail, retry_at > now() AS later FROM submeter.command WHERE command_id = :command_id;
SELECT tries FROM submeter.meter_key WHERE meter_id = 1;
ROLLBACK;
SELECT submeter.report_command(1, :command_id, 'p1', 'returned', NULL, NULL, NULL, 'not sent');
SELECT submeter.cancel_command(1, :command_id, 'enough');

-- 4. The clock of a meter: a command is timed by it, and refused when it cannot be right.
SELECT submeter.parse_clock(t) FROM unnest(ARRAY['2026-03-01 12:34:56', '2026-13-01 12:34:56', '2026-02-30 00:00:00', '2026-02-28 25:00:00', 'nonsense', '', NULL]) WITH ORDINALITY u(t, o) ORDER BY o;
UPDATE submeter.meter_state SET clock_at = NULL WHERE meter_id = 1;
SELECT submeter.request_command(1, 1, 'close', 'try') AS command_id \gset
SELECT clock_di FROM submeter.claim_commands('p1', 10);
SELECT go, split_part(reason, ' (', 1) AS reason, password FROM submeter.send_command(1, :command_id, 'p1', '2000-01-01 00:00:10');
SELECT state FROM pg_temp.moves WHERE command_id = :command_id;
SELECT split_part(pg_temp.refusal('SELECT submeter.request_command(1, 1, ''close'', ''again'')'), ' | ', 4);
SELECT submeter.note_clock(1, 1, 'FFFF', 'no time: FF FF FF', now());
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 1, ''close'', ''again'')');
SELECT submeter.evaluate_alarms(1) > 0 AS changed;
SELECT rule, detail FROM submeter.alarm WHERE rule = 'clock_wrong' AND cleared_at IS NULL;
-- A person has it set; it is read back, and all is well.
SELECT submeter.set_meter_clock(1, 1, 'battery was empty') AS command_id \gset
SELECT pg_temp.refusal('SELECT submeter.set_meter_clock(1, 1, ''twice'')');
SELECT action, step, close_mode, clock_di FROM submeter.claim_commands('p1', 10);
SELECT go, reason, level, password, valid_until, local_time = to_char(clock_timestamp() AT TIME ZONE 'Asia/Shanghai', 'YYMMDDHH24MISS')
	OR local_time = to_char((clock_timestamp() - interval '1 s') AT TIME ZONE 'Asia/Shanghai', 'YYMMDDHH24MISS') AS now FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'confirmed', NULL, NULL, jsonb_build_object('kind', 'clock', 'write', '{"echo":true}'::jsonb,
	'clock', to_char(clock_timestamp() AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI:SS')), 'the clock is right');
SELECT state, relay_after FROM pg_temp.moves WHERE command_id = :command_id;
SELECT clock_offset_s BETWEEN -1 AND 1 AS right, clock_error FROM submeter.meter_state WHERE meter_id = 1;
SELECT submeter.evaluate_alarms(1) > 0 AS changed;
SELECT count(*) AS clock_alarms FROM submeter.alarm WHERE rule = 'clock_wrong' AND cleared_at IS NULL;
-- The threshold of the alarm is the user's.
SELECT submeter.note_clock(1, 1, to_char((now() AT TIME ZONE 'Asia/Shanghai') + interval '90 s', 'YYYY-MM-DD HH24:MI:SS'), NULL, now());
SELECT rule FROM submeter.clock_conditions(1, now());
UPDATE submeter.alarm_rule SET threshold = 60 WHERE rule = 'clock_wrong';
SELECT submeter.load_alarm_rules();
SELECT rule, detail ~ '^clock of meter M1: (89|90) s ahead$' AS said FROM submeter.clock_conditions(1, now());

-- 5. Reading clocks is asked for once a day, a broadcast at the right time only.
UPDATE submeter.meter_state SET clock_at = NULL, clock_offset_s = NULL, clock_error = NULL, clock_asked_at = NULL;
SET ROLE regress_key_poller;
SELECT meter_id, gateway_id, action FROM submeter.claim_clocks('p1', clock_timestamp()) ORDER BY 1;
SELECT count(*) AS again FROM submeter.claim_clocks('p1', clock_timestamp());
SELECT submeter.report_clocks(1, jsonb_build_array(
	jsonb_build_object('meter_id', 1, 'clock', to_char((clock_timestamp() AT TIME ZONE 'Asia/Shanghai') + interval '60 s', 'YYYY-MM-DD HH24:MI:SS'), 'age_ms', 0),
	jsonb_build_object('meter_id', 2, 'clock', to_char((clock_timestamp() - interval '1 min') AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI:SS'), 'age_ms', 60000),
	jsonb_build_object('meter_id', 3, 'clock', NULL, 'error', 'the meter refuses it'), jsonb_build_object('meter_id', 99, 'clock', '2026-01-01 00:00:00')));
SELECT pg_temp.refusal('SELECT submeter.report_clocks(2, ''[]'')');
RESET ROLE;
SELECT meter_id, round(clock_offset_s, -1) AS offset_s, clock_error FROM submeter.meter_state WHERE meter_id <= 3 ORDER BY 1;
-- The zone is chosen so that it is five past, and then twenty-five past the hour.
CREATE FUNCTION pg_temp.broadcasts(wall timestamptz DEFAULT clock_timestamp()) RETURNS TABLE(gateway_id bigint, sane boolean)
LANGUAGE sql
AS $$
	SELECT c.gateway_id, abs(extract(epoch FROM to_timestamp(c.local_time, 'YYMMDDHH24MISS')::timestamp - clock_timestamp() AT TIME ZONE s.time_zone)) < 5
	FROM submeter.claim_clocks('p1', wall) c JOIN submeter.site s USING (site_id) WHERE c.action = 'broadcast'
$$;
CREATE FUNCTION pg_temp.set_zone(minute int) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	shift int := (set_zone.minute - extract(minute FROM clock_timestamp())::int + 60) % 60;
BEGIN
	UPDATE submeter.site SET time_zone = format('ABC-00:%s', lpad(shift::text, 2, '0')) WHERE site_id = 1;
END
$$;
UPDATE submeter.meter_state SET clock_offset_s = 60, clock_at = now(), clock_error = NULL, clock_asked_at = now() WHERE meter_id = 1;
UPDATE submeter.meter_state SET clock_offset_s = 0, clock_at = now(), clock_error = NULL, clock_asked_at = now() WHERE meter_id <> 1;
SELECT pg_temp.set_zone(5);
SELECT count(*) AS too_near_the_hour FROM pg_temp.broadcasts();
SELECT pg_temp.set_zone(25);
SELECT count(*) AS clocks_disagree FROM pg_temp.broadcasts(clock_timestamp() + interval '3 s');
SELECT count(*) AS no_clock FROM pg_temp.broadcasts(NULL);
UPDATE submeter.meter_state SET clock_offset_s = 20 WHERE meter_id = 1;
SELECT count(*) AS near_enough FROM pg_temp.broadcasts();
UPDATE submeter.meter_state SET clock_offset_s = 301 WHERE meter_id = 1;
SELECT count(*) AS too_far FROM pg_temp.broadcasts();
-- Four that agree with each other: the server is more likely wrong.
UPDATE submeter.meter_state SET clock_offset_s = 60 + meter_id, clock_at = now();
SELECT count(*) AS server_doubtful FROM pg_temp.broadcasts();
SELECT rule, detail FROM submeter.clock_conditions(1, now()) WHERE rule = 'clock_host';
UPDATE submeter.meter_state SET clock_offset_s = 0 WHERE meter_id > 1;
SELECT * FROM pg_temp.broadcasts();
SELECT count(*) AS once_a_day FROM pg_temp.broadcasts();
-- How far off they are is to be read again.
SELECT meter_id, clock_at FROM submeter.meter_state WHERE meter_id IN (1, 4) AND clock_at IS NULL;
UPDATE submeter.meter_state SET clock_asked_at = NULL;
SELECT meter_id, action FROM submeter.claim_clocks('p1', clock_timestamp()) ORDER BY 1;
UPDATE submeter.site SET time_zone = 'Asia/Shanghai';

-- 6. Keep-power: protected meters are told, read back, and released when the protection goes.
SELECT action, meter_id FROM submeter.keep_wanted(1);
SELECT submeter.breaker_duty(1, now()), submeter.breaker_duty(1, now()) AS again;
SELECT submeter.note_clock(1, m, to_char(now() AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI:SS'), NULL, now()) FROM generate_series(1, 3) m;
SELECT command_id, action, step FROM submeter.claim_commands('p1', 10) \gset
SELECT :'action' AS action, :'step' AS step;
SELECT go, password, valid_until IS NOT NULL AS timed FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'confirmed', 'closed', 'closed', '{"kind":"keep_bit","before":{"keep":"off"},"after":{"keep":"on"},"write":{"echo":true}}', 'keep-power is on');
SELECT keep, keep_at IS NOT NULL AS at FROM submeter.meter_state WHERE meter_id = 3;
SELECT count(*) AS wanted FROM submeter.keep_wanted(1);
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 3, ''open'', ''water in the shop'')');
-- Acknowledged and not read back as on is no success.
UPDATE submeter.meter_state SET keep = 'off' WHERE meter_id = 3;
DELETE FROM submeter.command WHERE action = 'keep';
SELECT submeter.breaker_duty(1, now());
SELECT command_id FROM submeter.claim_commands('p1', 10) \gset
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'failed', 'closed', 'closed', '{"kind":"keep_bit","after":{"keep":"off"},"write":{"echo":true}}', 'keep-power stays off');
SELECT submeter.breaker_duty(1, now()) AS at_once, submeter.breaker_duty(1, now() + interval '61 min') AS an_hour_later;
SELECT submeter.evaluate_alarms(1) >= 0 AS evaluated, submeter.evaluate_alarms(1, now() + interval '61 min') > 0 AS raised;
SELECT rule, detail FROM submeter.alarm WHERE rule = 'keep_failed' AND cleared_at IS NULL;
-- Protected no longer while it waits: not sent.
SELECT command_id FROM submeter.command WHERE action = 'keep' AND state = 'queued' \gset
UPDATE submeter.command SET not_before = now() - interval '1 min' WHERE command_id = :command_id;
SELECT count(*) FROM submeter.claim_commands('p1', 10);
UPDATE submeter.meter SET protection = 'none' WHERE meter_id = 3;
SELECT go, reason FROM submeter.send_command(1, :command_id, 'p1');
UPDATE submeter.meter_state SET keep = 'on' WHERE meter_id = 3;
SELECT submeter.breaker_duty(1, now());
SELECT action, state FROM submeter.command WHERE meter_id = 3 ORDER BY command_id DESC LIMIT 1;
-- Opening and closing go first.
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 3, ''open'', ''water in the shop'')');
SELECT submeter.request_command(1, 3, 'close', 'light') > 0 AS done;
SELECT action, state, detail FROM submeter.command WHERE meter_id = 3 ORDER BY command_id DESC LIMIT 2;
SELECT submeter.breaker_duty(1, now() + interval '2 min') AS while_a_close_waits;

-- 7. Waiting for the key: told at once, reminded, confirmed by a reading.
DELETE FROM submeter.command;
UPDATE submeter.credit_policy SET close_mode = 'local_key';
UPDATE submeter.meter_state SET relay = 'open', relay_at = now() - interval '1 min' WHERE meter_id = 1;
SELECT submeter.request_command(1, 1, 'close', 'paid') AS command_id \gset
SELECT close_mode FROM submeter.claim_commands('p1', 10);
SELECT go, to_timestamp(valid_until, 'YYMMDDHH24MISS') - to_timestamp(local_time, 'YYMMDDHH24MISS') BETWEEN interval '595 s' AND interval '605 s' AS permit_is_longer FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'awaiting_key', 'open', 'open', '{"kind":"relay_register","write":{"echo":true}}', 'closing is permitted; the key is to be pressed');
SELECT kind, subject, urgent FROM submeter.notice ORDER BY notice_id;
SELECT submeter.remind_keys(1, now() + interval '30 min') AS too_early, submeter.remind_keys(1, now() + interval '2 hours') AS reminded, submeter.remind_keys(1, now() + interval '3 hours') AS again,
	submeter.remind_keys(1, now() + interval '25 hours') AS a_day_later;
UPDATE submeter.meter_state SET ts = now(), v_a = 230 WHERE meter_id = 1;
SELECT step, ok, answer, next_step FROM submeter.why_dark(1, 1) WHERE NOT ok;
SELECT submeter.evaluate_alarms(1) >= 0 AS evaluated, submeter.evaluate_alarms(1, now() + interval '2 hours') > 0 AS raised;
SELECT rule, detail FROM submeter.alarm WHERE rule = 'key_waiting' AND cleared_at IS NULL;
UPDATE submeter.meter_state SET relay = 'closed', relay_at = clock_timestamp() WHERE meter_id = 1;
SELECT submeter.switch_duty(1, clock_timestamp());
SELECT state, detail FROM pg_temp.moves WHERE command_id = :command_id;
-- Locked on the spot: a failure with its reason, an alarm of its own, and an answer to the shopkeeper.
UPDATE submeter.credit_policy SET close_mode = 'direct';
UPDATE submeter.meter_state SET relay = 'open', relay_at = clock_timestamp() WHERE meter_id = 1;
SELECT submeter.request_command(1, 1, 'close', 'paid') AS command_id \gset
SELECT count(*) FROM submeter.claim_commands('p1', 10);
SELECT submeter.report_command(1, :command_id, 'p1', 'failed', 'open', 'open', '{"kind":"local_lock"}', 'the breaker is locked on the spot');
SELECT rule, detail FROM submeter.alarm WHERE rule IN ('breaker_locked', 'command_failed') AND cleared_at IS NULL;
SELECT submeter.evaluate_alarms(1) >= 0 AS evaluated;
SELECT rule FROM submeter.alarm WHERE rule IN ('breaker_locked', 'command_failed') AND cleared_at IS NULL;
SELECT step, ok, answer, next_step FROM submeter.why_dark(1, 1) WHERE NOT ok;

-- 8. Moved on the spot: on record, not theft.
UPDATE submeter.meter_state SET relay = 'closed', relay_at = now() WHERE meter_id = 1;
DELETE FROM submeter.command;
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 2, 'operator');
INSERT INTO submeter.command (site_id, meter_id, action, cause, reason, state, requested_by, requested_at, not_before, expires_at, finished_at)
VALUES (1, 2, 'open', 'operator', 'cable work', 'confirmed', 'me', '2026-03-02 14:03', '2026-03-02 14:03', '2026-03-02 14:10', '2026-03-02 14:03');
UPDATE submeter.meter_state SET relay = 'closed', relay_at = '2026-03-02 15:00', ts = '2026-03-02 15:00', power_w = 0 WHERE meter_id = 2;
SELECT submeter.follow_breakers(1, now()), submeter.follow_breakers(1, now()) AS again;
SELECT meter_id, kind, seen_at, ended_at, detail ~ 'cable work' AS named FROM submeter.breaker_event;
SELECT rule, detail FROM submeter.meter_conditions(1, now()) WHERE meter_id = 2 AND rule <> 'no_voltage';
UPDATE submeter.meter_state SET relay = 'open', relay_at = '2026-03-02 16:00', ts = '2026-03-02 16:00', power_w = 100 WHERE meter_id = 2;
SELECT submeter.follow_breakers(1, now());
SELECT kind, ended_at FROM submeter.breaker_event;
SELECT rule, detail FROM submeter.meter_conditions(1, now()) WHERE meter_id = 2 AND rule <> 'no_voltage';
-- Closed again by hand is another event; found open is one, too.
UPDATE submeter.meter_state SET relay = 'closed', relay_at = '2026-03-02 17:00' WHERE meter_id = 2;
UPDATE submeter.meter_state SET relay = 'open', relay_at = '2026-03-02 17:00' WHERE meter_id = 5;
SELECT submeter.adopt_relay_states(1, '2026-03-02 17:00:01'), submeter.follow_breakers(1, '2026-03-02 17:00:02');
SELECT meter_id, kind, seen_at, ended_at, detail FROM submeter.breaker_event ORDER BY event_id;
UPDATE submeter.meter_state SET relay = 'closed', relay_at = '2026-03-02 18:00' WHERE meter_id = 5;
SELECT submeter.follow_breakers(1, now());
SELECT kind, ended_at FROM submeter.breaker_event WHERE meter_id = 5;
