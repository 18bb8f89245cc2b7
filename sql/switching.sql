-- Room: switching. Commands, causes, lockouts, and the poller's side of them.
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
SELECT command_id, meter_id, action, cause, state, attempts, claimed_by, relay_before, relay_after, evidence, detail FROM submeter.command;

INSERT INTO submeter.site (code, name, locale) VALUES ('S', 'Plaza', 'en'), ('X', 'Elsewhere', 'en');
UPDATE submeter.credit_policy SET mode = 'automatic', no_trip_windows = '[]', notice_lead = '0';
INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'G1', '127.0.0.1:502'), (2, 'G2', '127.0.0.1:503');
INSERT INTO submeter.tenant (site_id, code, name) VALUES (1, 'T1', 'Shop 1');
INSERT INTO submeter.contact (site_id, tenant_id, name, role) VALUES (1, 1, 'owner', 'owner'), (1, 1, 'guest', 'viewer');
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address, protection, retired_at) VALUES
	(1, 'M1', 'DDS238-2 ZN/SR', 1, '1', 'none', NULL), (1, 'M2', 'DDS238-2 ZN/SR', 1, '2', 'life_safety', NULL),
	(1, 'M3', 'DDS238-2 ZN/SR', 1, '3', 'protected', NULL), (1, 'M4', 'SDM120', 1, '4', 'none', NULL),
	(1, 'M5', 'DDS238-2 ZN/SR', NULL, NULL, 'none', NULL), (1, 'M6', 'DDS238-2 ZN/SR', 1, '6', 'none', '2026-01-01'),
	(2, 'M7', 'DDS238-2 ZN/SR', 2, '7', 'none', NULL);
INSERT INTO submeter.account (site_id, tenant_id, code) VALUES (1, 1, 'A1');
INSERT INTO submeter.tariff (site_id, code) VALUES (1, 'flat');
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (1, 1, '2026-01-01', '{"energy":[{"price":0.8}]}');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 1, 1, '[2026-01-01,)');
SELECT submeter.adopt_meters(s, NULL, 'taken over from the old system') AS taken_over FROM generate_series(1, 2) s;
INSERT INTO submeter.meter_state (site_id, meter_id, relay, relay_at) SELECT site_id, meter_id, 'closed', '2026-01-01' FROM submeter.meter
ON CONFLICT (site_id, meter_id) DO UPDATE SET relay = 'closed', relay_at = '2026-01-01';

-- 1. Bad input: one clear error each, and nothing on record.
SELECT pg_temp.refusal(call) FROM unnest(ARRAY[
	'SELECT submeter.request_command(99, 1, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 99, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 7, ''open'', ''why'')',
	'SELECT submeter.request_command(1, NULL, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 1, ''toggle'', ''why'')',
	'SELECT submeter.request_command(1, 1, NULL, ''why'')',
	'SELECT submeter.request_command(1, 1, ''open'', '' '')',
	'SELECT submeter.request_command(1, 1, ''open'', ''why'', ''arrears'')',
	'SELECT submeter.request_command(1, 1, ''open'', ''why'', ''lockout'')',
	'SELECT submeter.request_command(1, 1, ''close'', ''why'', ''operator'')',
	'SELECT submeter.request_command(1, 2, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 2, ''open'', ''why'', ''alarm'')',
	'SELECT submeter.request_command(1, 3, ''open'', ''why'', ''schedule'')',
	'SELECT submeter.request_command(1, 4, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 5, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 6, ''open'', ''why'')',
	'SELECT submeter.request_command(1, 1, ''open'', ''why'', not_before => ''2100-01-02'', expires_at => ''2100-01-01'')',
	'SELECT submeter.request_command(1, 1, ''open'', ''why'', expires_at => ''2020-01-01'', not_before => ''2019-01-01'')',
	'SELECT submeter.cancel_command(1, 99, ''why'')',
	'SELECT submeter.confirm_command(1, 99)',
	'SELECT submeter.clear_cause(1, 1, ''operator'', ''why'')',
	'SELECT submeter.clear_cause(1, 1, ''lockout'', ''why'')',
	'SELECT submeter.clear_lockout(1, 1, ''why'')',
	'SELECT submeter.set_lockout(1, 99, ''why'')',
	'SELECT submeter.request_read(1, 6, ''why'')']) WITH ORDINALITY u(call, ord) ORDER BY ord;
SELECT (SELECT count(*) FROM submeter.command) AS commands, (SELECT count(*) FROM submeter.open_cause) AS causes;

-- 2. One live command per meter: the same is the same, the opposite supersedes what still waits.
SELECT submeter.request_command(1, 1, 'open', 'cable work');
SELECT submeter.request_command(1, 1, 'open', 'cable work, again');
SELECT meter_id, cause, command_id FROM submeter.open_cause;
SELECT submeter.request_command(1, 1, 'close', 'never mind');
SELECT command_id, action, cause, state, detail FROM pg_temp.moves ORDER BY command_id;
SELECT count(*) AS causes FROM submeter.open_cause;
-- A protected meter may be opened by a person.
SELECT submeter.request_command(1, 3, 'open', 'water in the shop');
SELECT submeter.cancel_command(1, 3, 'dry again');
SELECT pg_temp.refusal('SELECT submeter.cancel_command(1, 3, ''twice'')');
SELECT command_id, state, detail FROM pg_temp.moves WHERE command_id = 3;
SELECT count(*) AS causes FROM submeter.open_cause;

-- 3. The poller carries it: claimed, checked, sent once, read back, believed.
CREATE ROLE regress_submeter_poller LOGIN;
GRANT submeter_poller TO regress_submeter_poller;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_submeter_poller');
SELECT submeter.request_command(1, 1, 'open', 'cable work');
SET ROLE regress_submeter_poller;
SELECT site_id, code, transport, address, timeout_ms, gap_ms, poll_interval_ms FROM submeter.poller_gateways();
SELECT * FROM submeter.poller_meters();
SELECT * FROM submeter.poller_models();
SELECT metric, function, address, type, scale, bit_mask, closed_value, open_value FROM submeter.poller_points() WHERE model = 'DDS238-2 ZN/SR';
SELECT * FROM submeter.poller_switches();
SELECT site_id, command_id, meter_id, gateway_id, action, step, close_mode, expires_in_ms BETWEEN 880000 AND 900000 AS expires FROM submeter.claim_commands('p1', 10);
SELECT count(*) AS for_another FROM submeter.claim_commands('p2', 10);
SELECT go, reason FROM submeter.send_command(1, 4, 'p2');
SELECT submeter.report_command(1, 4, 'p2', 'confirmed', 'closed', 'open', NULL, NULL);
SELECT go, reason FROM submeter.send_command(1, 4, 'p1');
SELECT go, reason FROM submeter.send_command(1, 4, 'p1');
SELECT pg_temp.refusal('SELECT submeter.report_command(1, 4, ''p1'', ''done'', NULL, NULL, NULL, NULL)');
SELECT pg_temp.refusal('SELECT submeter.report_command(1, 99, ''p1'', ''confirmed'', NULL, NULL, NULL, NULL)');
SELECT pg_temp.refusal('SELECT submeter.report_command(2, 4, ''p1'', ''confirmed'', NULL, NULL, NULL, NULL)');
SELECT submeter.report_command(1, 4, 'p1', 'confirmed', 'closed', 'open', '{"kind":"relay"}', 'read back');
SELECT submeter.report_command(1, 4, 'p1', 'failed', 'closed', 'closed', NULL, 'late');
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 1, ''close'', ''not its business'')');
SELECT pg_temp.refusal('SELECT count(*) FROM submeter.ledger_account');
RESET ROLE;
SELECT state, relay_before, relay_after, evidence, detail, attempts FROM pg_temp.moves WHERE command_id = 4;
SELECT relay, relay_at > now() - interval '1 min' AS just_now FROM submeter.meter_state WHERE meter_id = 1;
SELECT cause, command_id FROM submeter.open_cause;
-- Opened already: the cause is recorded, the evidence was there.
SELECT submeter.request_command(1, 1, 'open', 'nobody rents it', 'vacant');
SELECT state, evidence, detail FROM pg_temp.moves WHERE command_id = 5;
SELECT cause FROM submeter.open_cause ORDER BY cause;

-- 4. A lockout: nothing closes this breaker.
SELECT submeter.set_lockout(1, 1, 'electrician at work');
SELECT pg_temp.refusal('SELECT submeter.request_command(1, 1, ''close'', ''light, please'')');
SELECT cause FROM submeter.open_cause ORDER BY cause;
SELECT submeter.clear_cause(1, 1, 'operator', 'done'), submeter.clear_cause(1, 1, 'vacant', 'let again');
SELECT submeter.clear_lockout(1, 1, 'tag taken off') IS NOT NULL AS closing;
SELECT count(*) AS causes FROM submeter.open_cause;
-- A tag hung while the close waits takes it back; hung while it is claimed, the last check sees it.
SELECT submeter.set_lockout(1, 1, 'forgot a screw');
SELECT action, state, detail FROM pg_temp.moves ORDER BY command_id DESC LIMIT 1;
SELECT submeter.clear_lockout(1, 1, 'tag taken off') AS command_id \gset
SELECT command_id = :command_id AS mine, action, step FROM submeter.claim_commands('p1', 10);
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 1, 'lockout');
SELECT go, reason FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.clear_lockout(1, 1, 'tag taken off') AS command_id \gset
-- Hung while it is on the wire: refused.
SELECT count(*) FROM submeter.claim_commands('p1', 10);
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT split_part(pg_temp.refusal('SELECT submeter.set_lockout(1, 1, ''too late'')'), ' | ', 2);
SELECT split_part(pg_temp.refusal('SELECT submeter.request_command(1, 1, ''open'', ''too late'')'), ' | ', 2);

-- 5. No word of the poller: the breaker is read, never switched again.
SELECT submeter.switch_duty(1, clock_timestamp() + interval '2 min');
SELECT state, detail FROM pg_temp.moves WHERE command_id = :command_id;
SELECT command_id = :command_id AS mine, step FROM submeter.claim_commands('p2', 10);
SELECT go, reason FROM submeter.send_command(1, :command_id, 'p2');
SELECT submeter.report_command(1, :command_id, 'p2', 'returned', NULL, NULL, NULL, 'no answer');
SELECT count(*) AS backed_off FROM submeter.claim_commands('p2', 10);
UPDATE submeter.command SET retry_at = NULL WHERE command_id = :command_id;
SELECT step FROM submeter.claim_commands('p2', 10);
-- A confirmation that the relay contradicts is none.
SELECT submeter.report_command(1, :command_id, 'p2', 'confirmed', NULL, 'open', NULL, NULL);
UPDATE submeter.command SET retry_at = NULL WHERE command_id = :command_id;
SELECT step FROM submeter.claim_commands('p2', 10);
SELECT submeter.report_command(1, :command_id, 'p2', 'confirmed', NULL, 'closed', '{"kind":"relay"}', 'it had worked');
SELECT relay FROM submeter.meter_state WHERE meter_id = 1;
-- Nothing was sent: back to the queue; a claim whose poller died goes to another.
SELECT submeter.request_command(1, 1, 'open', 'cable work') AS command_id \gset
SELECT step FROM submeter.claim_commands('p1', 10);
SELECT submeter.report_command(1, :command_id, 'p1', 'returned', NULL, NULL, NULL, 'meter silent');
UPDATE submeter.command SET retry_at = NULL WHERE command_id = :command_id;
SELECT step FROM submeter.claim_commands('p1', 10);
UPDATE submeter.command SET lease_until = now() - interval '1 s' WHERE command_id = :command_id;
SELECT step FROM submeter.claim_commands('p2', 10);
SELECT submeter.report_command(1, :command_id, 'p1', 'confirmed', 'closed', 'open', '{"kind":"relay"}', 'of one who lost it');
SELECT state, claimed_by, attempts FROM pg_temp.moves WHERE command_id = :command_id;
-- It failed: alarm, and the breaker is not on record as open.
SELECT go FROM submeter.send_command(1, :command_id, 'p2');
SELECT submeter.report_command(1, :command_id, 'p2', 'failed', 'closed', 'closed', '{"kind":"relay"}', 'local lock');
SELECT count(*) AS causes FROM submeter.open_cause;
SELECT rule, meter_id, detail FROM submeter.alarm;
-- Unknown for a day: failed.
SELECT submeter.request_command(1, 1, 'open', 'cable work') AS command_id \gset
SELECT step FROM submeter.claim_commands('p1', 10);
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'unknown', 'closed', NULL, NULL, 'line broke');
SELECT submeter.switch_duty(1, clock_timestamp() + interval '23 hours'), submeter.switch_duty(1, clock_timestamp() + interval '25 hours');
SELECT state, detail FROM pg_temp.moves WHERE command_id = :command_id;

-- 6. Expiry: never sent after it.
SELECT submeter.request_command(1, 1, 'open', 'soon', expires_at => now() + interval '5 min') AS command_id \gset
SELECT step FROM submeter.claim_commands('p1', 10);
UPDATE submeter.command SET not_before = now() - interval '2 min', expires_at = now() - interval '1 min' WHERE command_id = :command_id;
SELECT go, reason FROM submeter.send_command(1, :command_id, 'p1');
SELECT state FROM pg_temp.moves WHERE command_id = :command_id;
SELECT submeter.request_command(1, 1, 'open', 'later', not_before => now() + interval '1 hour') AS command_id \gset
SELECT count(*) AS too_early FROM submeter.claim_commands('p1', 10);
SELECT submeter.switch_duty(1, now() + interval '2 hours');
SELECT state, detail FROM pg_temp.moves WHERE command_id = :command_id;
SELECT count(*) AS causes FROM submeter.open_cause;

-- 7. The last check of a trip for arrears.
SELECT submeter.adjust(1, 1, -5, 'start', 'k1') > 0 AS done;
CREATE FUNCTION pg_temp.trip() RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	made bigint;
	answer record;
BEGIN
	made := submeter.queue_command(1, 1, 'open', 'arrears', 'test', 'direct', now(), now() + interval '10 min', NULL, now());
	PERFORM submeter.claim_commands('p1', 10);
	SELECT * INTO answer FROM submeter.send_command(1, made, 'p1');
	IF answer.go THEN
		UPDATE submeter.command SET state = 'cancelled', finished_at = now(), sent_at = NULL WHERE command_id = made;
		DELETE FROM submeter.open_cause;
	END IF;
	RETURN coalesce(answer.reason, 'go');
END
$$;
SELECT pg_temp.trip();
SELECT submeter.queue_notice(1, 1, 'trip_announced', 'e1', '{}', now(), true) AS notice_id \gset
UPDATE submeter.account_state SET notice_id = :notice_id, announced_at = now(), trip_due_at = now() WHERE account_id = 1;
SELECT pg_temp.trip();
UPDATE submeter.notice SET state = 'accepted', accepted_at = now();
SELECT pg_temp.trip();
UPDATE submeter.payment_channel SET works = false;
SELECT pg_temp.trip();
UPDATE submeter.payment_channel SET works = true;
INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key) VALUES (1, 1, 'test', 10, 'k');
SELECT pg_temp.trip();
UPDATE submeter.payment_order SET state = 'closed';
UPDATE submeter.credit_policy SET no_trip_windows = '[{}]';
SELECT pg_temp.trip();
UPDATE submeter.credit_policy SET no_trip_windows = '[]', max_switchings_per_day = 1;
SELECT pg_temp.trip();
UPDATE submeter.credit_policy SET max_switchings_per_day = 100;
UPDATE submeter.meter SET protection = 'protected' WHERE meter_id = 1;
SELECT pg_temp.trip();
UPDATE submeter.meter SET protection = 'life_safety' WHERE meter_id = 1;
SELECT pg_temp.trip();
UPDATE submeter.meter SET protection = 'none' WHERE meter_id = 1;
UPDATE submeter.account SET mode = 'postpaid';
SELECT pg_temp.trip();
UPDATE submeter.account SET mode = 'prepaid';
SELECT submeter.adjust(1, 1, 5, 'paid', 'k2') > 0 AS done;
SELECT pg_temp.trip();
SELECT count(*) AS causes FROM submeter.open_cause;
-- Paid while the open is on the wire: it opens, and closes again at once.
SELECT submeter.adjust(1, 1, -5, 'again', 'k3') > 0 AS done;
SELECT submeter.queue_command(1, 1, 'open', 'arrears', 'test', 'direct', now(), now() + interval '10 min', NULL, now()) AS command_id \gset
SELECT step FROM submeter.claim_commands('p1', 10);
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.recharge(1, 1, 50, 'cash', 'r1') > 0 AS paid;
SELECT submeter.policy_reconnect(1, 1, 'paid', 0, '0', now()) AS closes;
SELECT submeter.report_command(1, :command_id, 'p1', 'confirmed', 'closed', 'open', '{"kind":"relay"}', NULL);
SELECT action, state FROM pg_temp.moves WHERE submeter.is_live(state);
SELECT kind, c.role, n.state FROM submeter.notice n JOIN submeter.contact c USING (site_id, contact_id) WHERE event <> 'e1' ORDER BY notice_id;

-- 8. Close modes
UPDATE submeter.credit_policy SET close_mode = 'confirm';
SELECT submeter.request_command(1, 1, 'open', 'cable work') > 0 AS opened;
SELECT submeter.clear_cause(1, 1, 'operator', 'done') AS command_id \gset
SELECT state, close_mode FROM submeter.command WHERE command_id = :command_id;
SELECT count(*) AS not_yet FROM submeter.claim_commands('p1', 10);
SELECT submeter.confirm_command(1, :command_id);
SELECT step, close_mode FROM submeter.claim_commands('p1', 10);
SELECT submeter.report_command(1, :command_id, 'p1', 'confirmed', 'closed', 'closed', '{"kind":"relay"}', 'closed already');
-- A key on the meter: the model must know how to wait for it.
UPDATE submeter.credit_policy SET close_mode = 'local_key';
SELECT submeter.meter_close_mode(1, 1, now());
INSERT INTO submeter.meter_model (model, vendor) VALUES ('Keyed', 'test');
INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('Keyed', 'open', 6, 1, '{0}'), ('Keyed', 'permit_close', 6, 1, '{2}');
UPDATE submeter.meter SET model = 'Keyed' WHERE meter_id = 1;
SELECT submeter.meter_close_mode(1, 1, now());
SELECT submeter.note_relay(1, 1, 'open', clock_timestamp());
SELECT submeter.request_command(1, 1, 'close', 'let there be light') AS command_id \gset
SELECT step, close_mode FROM submeter.claim_commands('p1', 10);
SELECT go FROM submeter.send_command(1, :command_id, 'p1');
SELECT submeter.report_command(1, :command_id, 'p1', 'awaiting_key', 'open', 'open', NULL, NULL);
SELECT submeter.switch_duty(1, now());
UPDATE submeter.meter_state SET ts = now(), received_at = now(), v_a = 230 WHERE meter_id = 1;
SELECT step, ok, answer, next_step FROM submeter.why_dark(1, 1, now());
UPDATE submeter.meter_state SET relay = 'closed', relay_at = clock_timestamp() WHERE meter_id = 1;
SELECT submeter.switch_duty(1, clock_timestamp());
SELECT state, relay_after, evidence ->> 'kind' AS kind, detail FROM submeter.command WHERE command_id = :command_id;
UPDATE submeter.credit_policy SET close_mode = 'direct';
UPDATE submeter.meter SET model = 'DDS238-2 ZN/SR' WHERE meter_id = 1;

-- 9. Breakers nobody opened from here are taken over; they close when a person says so.
UPDATE submeter.meter_state SET relay = 'open', relay_at = clock_timestamp() WHERE meter_id IN (1, 3);
SELECT submeter.switch_duty(1, clock_timestamp());
SELECT meter_id, cause, by FROM submeter.open_cause ORDER BY meter_id;
SELECT rule, meter_id FROM submeter.alarm WHERE rule = 'breaker_unknown' ORDER BY meter_id;
SELECT submeter.switch_duty(1, clock_timestamp());
SELECT submeter.request_command(1, 3, 'close', 'we looked') > 0 AS closing;
SELECT meter_id, cause FROM submeter.open_cause ORDER BY meter_id;
SELECT submeter.cancel_command(1, command_id, 'enough') FROM submeter.command WHERE state = 'queued';
-- Opened from here, no cause left, and the close came to nothing: again, but not in a hurry.
DELETE FROM submeter.open_cause;
INSERT INTO submeter.command (site_id, meter_id, action, reason, state, requested_by, requested_at, not_before, expires_at, sent_at, finished_at)
SELECT 1, 3, a.action, 'test', a.state, 'me', now() - interval '1 hour', now() - interval '1 hour', now(), now() - interval '1 hour', now() - a.ago
FROM (VALUES (1, 'open', 'confirmed', interval '50 min'), (2, 'close', 'expired', '5 min')) a(ord, action, state, ago) ORDER BY a.ord;
DELETE FROM submeter.meter_state WHERE meter_id = 1;
UPDATE submeter.command SET finished_at = now() - interval '5 min' WHERE meter_id = 3 AND state = 'cancelled';
SELECT submeter.switch_duty(1, now()) AS at_once, submeter.switch_duty(1, now() + interval '6 min') AS later;
SELECT meter_id, action, state FROM pg_temp.moves WHERE submeter.is_live(state);

-- 10. The field: outages, and the return of a whole site.
SET ROLE regress_submeter_poller;
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true,"requests":12,"errors":1,"round_ms":35},{"gateway_id":99,"online":true}]',
	'[{"meter_id":1,"online":true,"failures":0},{"meter_id":2,"online":false,"failures":3,"last_error":"timeout"},{"meter_id":7,"online":false}]');
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":false,"requests":3,"errors":3,"last_error":"connection refused"}]', '[]');
SELECT pg_temp.refusal('SELECT submeter.report_field(1, ''{}'', NULL)');
SELECT split_part(pg_temp.refusal('SELECT submeter.report_field(2, NULL, NULL)'), ' | ', 1);
RESET ROLE;
SELECT online, requests, errors, round_ms, last_error, last_contact_at IS NOT NULL AS seen, offline_since IS NOT NULL AS gone, recovered_at FROM submeter.gateway WHERE gateway_id = 1;
SELECT meter_id, online, failures, last_error FROM submeter.meter_state WHERE online IS NOT NULL ORDER BY meter_id;
-- Time in use adds up, its share follows; what a meter does not have comes back with the plan, for a day.
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true,"busy_ms":15000,"over_ms":20000,"late_ms":0}]',
	'[{"meter_id":1,"online":true,"errors":2,"refused":"0201FF00* 02010200=v_b"}]');
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true,"busy_ms":6000,"over_ms":20000}]', '[{"meter_id":1,"online":true,"errors":1,"refused":"0201FF00* 02010200=v_b"}]');
SELECT busy_ms, round(utilisation::numeric, 3) AS utilisation, late_ms FROM submeter.gateway WHERE gateway_id = 1;
SELECT refused, ask_again_s BETWEEN 86390 AND 86400 AS in_a_day FROM submeter.poller_meters() WHERE meter_id = 1;
SELECT errors, refused_at < clock_timestamp() AS noted_once FROM submeter.meter_state WHERE meter_id = 1;
UPDATE submeter.meter_state SET refused_at = now() - interval '1 day' WHERE meter_id = 1;
SELECT refused, ask_again_s FROM submeter.poller_meters() WHERE meter_id = 1;
SELECT submeter.report_field(1, NULL, '[{"meter_id":1,"online":true,"refused":null}]');
SELECT refused, refused_at FROM submeter.meter_state WHERE meter_id = 1;
-- A blip is no outage.
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true}]', NULL);
SELECT g.online, g.offline_since, g.recovered_at, s.recovered_at FROM submeter.gateway g JOIN submeter.site s USING (site_id) WHERE gateway_id = 1;
-- Three days are: lead times start anew and commands wait.
UPDATE submeter.gateway SET online = false, offline_since = now() - interval '3 days' WHERE gateway_id = 1;
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true}]', NULL);
SELECT g.recovered_at IS NOT NULL AS gateway_back, s.recovered_at IS NOT NULL AS site_back FROM submeter.gateway g JOIN submeter.site s USING (site_id) WHERE gateway_id = 1;
UPDATE submeter.command SET not_before = now() - interval '1 min' WHERE state = 'queued';
SELECT count(*) AS held FROM submeter.claim_commands('p1', 10);
UPDATE submeter.site SET recovered_at = now() - interval '16 min' WHERE site_id = 1;
SELECT count(*) AS after_the_hold FROM submeter.claim_commands('p1', 10);

-- 11. Reads somebody waits for
SELECT submeter.request_read(1, 1, 'tenant at the counter');
SELECT * FROM submeter.claim_reads('p1');
SELECT count(*) AS again FROM submeter.claim_reads('p1');
INSERT INTO submeter.meter_state (site_id, meter_id, received_at) VALUES (1, 1, clock_timestamp())
ON CONFLICT (site_id, meter_id) DO UPDATE SET received_at = clock_timestamp();
SELECT submeter.switch_duty(1, clock_timestamp()) >= 0 AS ran;
SELECT count(*) AS waiting FROM submeter.read_request;

-- 12. A second person where the site wants one
UPDATE submeter.site SET approval_verbs = '{request_command}' WHERE site_id = 1;
SELECT split_part(pg_temp.refusal('SELECT submeter.request_command(1, 1, ''open'', ''alone'')'), ' | ', 2);
UPDATE submeter.site SET approval_verbs = '{}' WHERE site_id = 1;

-- 13. A copied database claims nothing and sends nothing.
UPDATE submeter.installation SET database_oid = 1;
SELECT split_part(pg_temp.refusal('SELECT * FROM submeter.claim_commands(''p1'', 10)'), ' | ', 2);
SELECT split_part(pg_temp.refusal('SELECT * FROM submeter.poller_gateways()'), ' | ', 2);
SELECT split_part(pg_temp.refusal('SELECT submeter.switch_duty(1, now())'), ' | ', 2);
SELECT split_part(pg_temp.refusal('SELECT submeter.deliver_notices(1, now())'), ' | ', 2);

-- 14. What wakes the poller: changes of the plan, not the health of a gateway.
SELECT tgrelid::regclass AS relation, tgattr <> '' AS some_columns, encode(tgargs, 'escape') AS tells
FROM pg_trigger WHERE tgname = 'wake_poller' ORDER BY tgrelid::regclass::text;
DELETE FROM submeter.site_member WHERE login = 'regress_submeter_poller';
DROP OWNED BY regress_submeter_poller;
DROP ROLE regress_submeter_poller;
