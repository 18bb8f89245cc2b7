-- Room: policy. Who is warned, announced, cut and reconnected, and why not.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END
$$;

-- 1. The pure core, as a truth table: from everything in order, one fact at a time is changed.
CREATE FUNCTION pg_temp.decide(facts jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql
AS $$
	SELECT action || ' ' || reason
	FROM jsonb_to_record('{"mode":"automatic","account_state":"open","account_mode":"prepaid","available":-5,"credit_limit":0,"reconnect_balance":0,
			"threshold":null,"warned_below":null,"meters":1,"protected":0,"unproved":0,"cuttable":1,"uncut":1,"has_cause":false,"any_open":false,"closed_by_hand":false,
			"in_grace":false,"has_contact":true,"announced":true,"outage":false,"phase":"due","payment_open":false,"can_pay":true,"stale":false,
			"suspect":false,"site_back":false,"in_window":false,"command_live":false,"switchings_left":3,"ticked":false,"mass":false}'::jsonb || facts)
		AS f(mode text, account_state text, account_mode text, available numeric, credit_limit numeric, reconnect_balance numeric, threshold numeric,
			warned_below numeric, meters int, protected int, unproved int, cuttable int, uncut int, has_cause boolean, any_open boolean, closed_by_hand boolean,
			in_grace boolean, has_contact boolean, announced boolean, outage boolean, phase text, payment_open boolean, can_pay boolean, stale boolean,
			suspect boolean, site_back boolean, in_window boolean, command_live boolean, switchings_left int, ticked boolean, mass boolean)
	CROSS JOIN LATERAL submeter.policy_decide(f.mode, f.account_state, f.account_mode, f.available, f.credit_limit, f.reconnect_balance, f.threshold,
		f.warned_below, f.meters, f.protected, f.unproved, f.cuttable, f.uncut, f.has_cause, f.any_open, f.closed_by_hand, f.in_grace, f.has_contact, f.announced,
		f.outage, f.phase, f.payment_open, f.can_pay, f.stale, f.suspect, f.site_back, f.in_window, f.command_live, f.switchings_left, f.ticked, f.mass) d
$$;
SELECT facts, pg_temp.decide(facts::jsonb) AS decision
FROM unnest(ARRAY[
	'{}',
	'{"account_state":"closed"}',
	'{"account_mode":"postpaid"}',
	'{"account_mode":"postpaid","has_cause":true}',
	'{"available":100}',
	'{"available":0}',
	'{"available":25,"threshold":30}',
	'{"available":25,"threshold":30,"warned_below":30}',
	'{"available":5,"threshold":10,"warned_below":30}',
	'{"available":25,"threshold":30,"warned_below":10}',
	'{"available":-5,"credit_limit":5}',
	'{"available":-5,"credit_limit":5,"threshold":10}',
	'{"available":-5.01,"credit_limit":5}',
	'{"meters":0,"cuttable":0,"uncut":0}',
	'{"has_cause":true,"any_open":true,"uncut":0}',
	'{"has_cause":true,"uncut":0,"command_live":true}',
	'{"has_cause":true,"uncut":0,"closed_by_hand":true}',
	'{"has_cause":true,"any_open":true,"available":0}',
	'{"has_cause":true,"any_open":false,"available":0}',
	'{"has_cause":true,"any_open":true,"available":5,"reconnect_balance":10}',
	'{"has_cause":true,"any_open":false,"available":5,"reconnect_balance":10}',
	'{"has_cause":true,"any_open":true,"available":10,"reconnect_balance":10}',
	'{"cuttable":0,"uncut":0,"protected":1}',
	'{"cuttable":0,"uncut":0}',
	'{"cuttable":0,"uncut":0,"unproved":1}',
	'{"cuttable":0,"uncut":0,"unproved":1,"protected":1}',
	'{"unproved":1}',
	'{"in_grace":true}',
	'{"in_grace":true,"announced":false}',
	'{"announced":false,"phase":"untold"}',
	'{"announced":false,"phase":"untold","has_contact":false}',
	'{"phase":"untold"}',
	'{"outage":true}',
	'{"outage":true,"phase":"lead"}',
	'{"phase":"lead"}',
	'{"phase":"window"}',
	'{"phase":"remind"}',
	'{"in_window":true}',
	'{"payment_open":true}',
	'{"can_pay":false}',
	'{"stale":true}',
	'{"suspect":true}',
	'{"site_back":true}',
	'{"command_live":true}',
	'{"switchings_left":0}',
	'{"mode":"observe"}',
	'{"mode":"observe","ticked":true}',
	'{"mode":"ask"}',
	'{"mode":"ask","ticked":true}',
	'{"mode":"ask","ticked":true,"stale":true}',
	'{"mass":true}',
	'{"mass":true,"ticked":true}',
	'{"payment_open":true,"stale":true,"can_pay":false}',
	'{"stale":true,"in_grace":true}'
]) WITH ORDINALITY u(facts, ord)
ORDER BY ord;
-- Every reason has its sentence in both languages.
SELECT count(*) AS reasons, count(submeter.policy_sentence(r, 'zh')) AS zh, count(submeter.policy_sentence(r, 'en')) AS en
FROM unnest('{closed,postpaid,paid,paid_in_time,below_reconnect,low_balance,warned,in_credit,no_supply,closed_by_hand,command_live,cut_off,protected,
	not_commissioned,no_breaker,grace,nobody_told,arrears,outage,after_window,lead_time,no_trip_window,payment_open,cannot_pay,stale_data,suspect_data,site_returned,
	switchings_used,observe,mass_trip,agreed}'::text[]) r;

-- 2. Times without trips
INSERT INTO submeter.site (code, name, locale) VALUES ('P', 'Plaza', 'en') RETURNING site_id, default_policy_id;
SELECT default_policy_id IS NOT NULL AS has_policy FROM submeter.site;
SELECT code, mode, low_balances FROM submeter.credit_policy;
SELECT code, kind FROM submeter.ledger_account ORDER BY code;
SELECT channel, works FROM submeter.payment_channel;
-- 2026-03-02 is a Monday; the 3rd a public holiday here, the 7th (Saturday) a make-up workday, the 9th a closure day.
INSERT INTO submeter.calendar_day (site_id, day, day_type, closed) VALUES
	(1, '2026-03-03', 'holiday', false), (1, '2026-03-07', 'workday', false), (1, '2026-03-09', NULL, true);
SELECT day::date, submeter.day_type(1, day::date), submeter.is_closure_day(1, day::date)
FROM generate_series('2026-03-01'::date, '2026-03-09', '1 day') day;
-- The standard windows: 17:00 to 09:00, weekends and holidays.
SELECT t, submeter.in_no_trip_window(1, 1, t::timestamptz) AS quiet, submeter.next_trip_time(1, 1, t::timestamptz) AS next
FROM unnest('{2026-03-02 08:59:59,2026-03-02 09:00:00,2026-03-02 16:59:59,2026-03-02 17:00:00,2026-03-03 12:00:00,2026-03-04 09:00:00,
	2026-03-06 18:00:00,2026-03-07 12:00:00,2026-03-07 18:00:00,2026-03-08 12:00:00,2026-03-10 08:00:00}'::text[]) t;
-- A window over midnight has the day type of its start: Friday night is a workday's, Sunday night is not.
UPDATE submeter.credit_policy SET no_trip_windows = '[{"from":"22:00","to":"06:00","days":["workday"]}]';
SELECT t, submeter.in_no_trip_window(1, 1, t::timestamptz) AS quiet
FROM unnest('{2026-03-13 23:00,2026-03-14 05:59,2026-03-14 23:00,2026-03-15 23:00,2026-03-16 05:00,2026-03-16 23:00,2026-03-09 12:00}'::text[]) t;
-- Whole days, days by name, the end of the day.
UPDATE submeter.credit_policy SET no_trip_windows = '[{"from":"20:00","to":"24:00"},{"days":["closed","weekend"]}]';
SELECT t, submeter.in_no_trip_window(1, 1, t::timestamptz) AS quiet, submeter.next_trip_time(1, 1, t::timestamptz) AS next
FROM unnest('{2026-03-02 20:00,2026-03-03 00:00,2026-03-08 20:00,2026-03-09 00:00}'::text[]) t;
-- Never: nothing within 60 days.
UPDATE submeter.credit_policy SET no_trip_windows = '[{}]';
SELECT submeter.next_trip_time(1, 1, '2026-03-02 10:00');
UPDATE submeter.credit_policy SET no_trip_windows = '[]';
SELECT submeter.next_trip_time(1, 1, '2026-03-02 20:00');
-- Daylight saving: in the night to 29 March 2026 Berlin has no 02:30, in the one to 25 October it has two.
UPDATE submeter.site SET time_zone = 'Europe/Berlin';
UPDATE submeter.credit_policy SET no_trip_windows = '[{"from":"22:00","to":"06:00"}]';
SELECT submeter.next_trip_time(1, 1, '2026-03-28 22:00+01') - '2026-03-28 22:00+01'::timestamptz AS short_night,
	submeter.next_trip_time(1, 1, '2026-10-24 22:00+02') - '2026-10-24 22:00+02'::timestamptz AS long_night;
UPDATE submeter.site SET time_zone = 'Asia/Shanghai';
-- What is not a window is refused, and nothing is changed.
SELECT windows, pg_temp.refusal(format('UPDATE submeter.credit_policy SET no_trip_windows = %L', windows))
FROM unnest(ARRAY['{}', 'null', '[1]', '[{"from":"17:00"}]', '[{"from":"25:00","to":"09:00"}]', '[{"from":"9:00","to":"10:00"}]', '[{"from":null,"to":null}]',
	'[{"days":"weekend"}]', '[{"days":["sunday"]}]', '[{"days":["weekend"]},{"until":"09:00"}]', '[{"from":"17:00","to":"24:00","days":["closed"]}]']) windows;
-- Thresholds are sorted downward, once each.
UPDATE submeter.credit_policy SET low_balances = '{10,50,10,20}' RETURNING low_balances;

-- 3. Lead times and windows: told at, lead time, policy's lead time; no spread.
UPDATE submeter.credit_policy SET no_trip_windows = '[{"from":"17:00","to":"09:00"}]';
SELECT told, lead, submeter.planned_trip(submeter.no_trip_spans(1, 1, '2026-03-01', '2026-03-20'), told::timestamptz, lead, lead, '0') AS due
FROM (VALUES ('2026-03-10 10:00', interval '2 h'), ('2026-03-10 16:30', '1 h'), ('2026-03-10 16:00', '1 h'), ('2026-03-10 20:00', '1 h'),
	('2026-03-10 10:00', '24 h'), ('2026-03-10 10:00', '3 days'), ('2026-03-10 12:00', '30 h')) v(told, lead);
-- The spread moves the trips after a window apart.
SELECT spread, submeter.planned_trip(submeter.no_trip_spans(1, 1, '2026-03-01', '2026-03-20'), '2026-03-10 16:30', '1 h', '1 h', spread) AS due
FROM unnest('{0,10 min,30 min}'::interval[]) spread;
SELECT at, submeter.trip_phase(submeter.no_trip_spans(1, 1, '2026-03-01', '2026-03-20'), '2026-03-10 16:30', '1 h', at::timestamptz) AS phase
FROM unnest('{2026-03-10 16:59,2026-03-10 17:10,2026-03-10 17:30,2026-03-11 08:59,2026-03-11 09:00}'::text[]) at;
SELECT at, submeter.trip_phase(submeter.no_trip_spans(1, 1, '2026-03-01', '2026-03-20'), '2026-03-10 10:00', '1 h', at::timestamptz) AS phase
FROM unnest('{2026-03-10 10:59,2026-03-10 11:00,2026-03-10 18:00,2026-03-11 09:00}'::text[]) at;

-- 4. The way of an account, run by run. Five shops, each with a meter that can be switched; the fifth has nobody to tell.
UPDATE submeter.credit_policy SET no_trip_windows = '[]', low_balances = '{30,10}', notice_lead = '1 h', window_spread = '0', mass_trip_share = 1;
INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'G1', '127.0.0.1:502');
INSERT INTO submeter.tenant (site_id, code, name) SELECT 1, 'T' || i, 'Shop ' || i FROM generate_series(1, 5) i;
INSERT INTO submeter.contact (site_id, tenant_id, name, role) SELECT 1, i, 'owner ' || i, 'owner' FROM generate_series(1, 4) i;
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address) SELECT 1, 'M' || i, 'DDS238-2 ZN/SR', 1, i::text FROM generate_series(1, 5) i;
INSERT INTO submeter.account (site_id, tenant_id, code) SELECT 1, i, 'A' || i FROM generate_series(1, 5) i;
INSERT INTO submeter.tariff (site_id, code) VALUES (1, 'flat');
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (1, 1, '2026-01-01', '{"energy":[{"price":0.8}]}');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, i, i, 1, '[2026-01-01,)' FROM generate_series(1, 5) i;
SELECT submeter.adopt_meters(1, NULL, 'taken over from the old system') AS taken_over;

-- The balance is what a charge leaves of it, the reading what meter_state has of it: nothing else matters here.
CREATE FUNCTION pg_temp.available(account bigint, amount numeric) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.charge (site_id, account_id, tariff_id, cycle_start, cycle_end, settled_to, span_from, span_wh, tier_wh, energy_wh, amount, rounded, updated_at)
	VALUES (1, account, 1, '2026-02-01', '2026-03-01', '2026-02-01', '{}', '{}', '{}', 0, -amount, -amount, '2026-02-01')
	ON CONFLICT (site_id, account_id, tariff_id, cycle_start) DO UPDATE SET rounded = -available.amount, amount = -available.amount
$$;
CREATE FUNCTION pg_temp.reads(at timestamptz, relay text DEFAULT NULL, meters bigint[] DEFAULT '{1,2,3,4,5}') RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.meter_state (site_id, meter_id, ts, received_at, valid_ts, valid_wh, relay, relay_at)
	SELECT 1, m, at, at, at, 1000, coalesce(relay, 'closed'), at FROM unnest(meters) m
	ON CONFLICT (site_id, meter_id) DO UPDATE SET ts = at, received_at = at, valid_ts = at, relay_at = at, relay = coalesce(reads.relay, meter_state.relay)
$$;
-- One run of the policy, with delivery before it; shows what is new.
CREATE FUNCTION pg_temp.run(at timestamptz, deliver boolean DEFAULT true)
RETURNS TABLE(account text, decision text, sentence text)
LANGUAGE plpgsql
AS $$
DECLARE
	seen bigint := coalesce((SELECT max(decision_id) FROM submeter.decision), 0);
BEGIN
	PERFORM pg_temp.reads(at);
	IF deliver THEN
		UPDATE submeter.notice SET state = 'accepted', accepted_at = at WHERE state = 'queued';
	END IF;
	PERFORM submeter.apply_policy(1, at);
	RETURN QUERY SELECT a.code, d.action || ' ' || d.reason, d.explanation
	FROM submeter.decision d JOIN submeter.account a USING (site_id, account_id)
	WHERE d.decision_id > seen ORDER BY d.decision_id;
END
$$;
CREATE VIEW pg_temp.outbox AS
SELECT notice_id, a.code AS account, kind, n.state, urgent, regexp_replace(body, E'\n', ' ', 'g') AS body
FROM submeter.notice n JOIN submeter.account a USING (site_id, account_id);
CREATE VIEW pg_temp.moves AS
SELECT command_id, meter_id, action, cause, state, close_mode, not_before, expires_at, detail FROM submeter.command;
SELECT pg_temp.available(i, 100) FROM generate_series(1, 5) i;

-- Observing: decisions, and nothing else.
SELECT * FROM pg_temp.run('2026-03-02 10:00');
SELECT * FROM pg_temp.run('2026-03-02 10:01');
SELECT pg_temp.available(1, 20), pg_temp.available(2, -5);
SELECT * FROM pg_temp.run('2026-03-02 10:02');
SELECT * FROM pg_temp.run('2026-03-02 10:03');
SELECT (SELECT count(*) FROM submeter.notice) AS notices, (SELECT count(*) FROM submeter.command) AS commands, (SELECT count(*) FROM submeter.open_cause) AS causes;

-- Automatic: what was only watched is told now. A threshold fires once, two at once make one notice, rising re-arms.
UPDATE submeter.credit_policy SET mode = 'automatic';
SELECT pg_temp.available(2, 100);
SELECT * FROM pg_temp.run('2026-03-02 11:00');
SELECT * FROM pg_temp.run('2026-03-02 11:01');
SELECT pg_temp.available(1, 5), pg_temp.available(2, 3);
SELECT * FROM pg_temp.run('2026-03-02 11:02');
SELECT pg_temp.available(1, 25), pg_temp.available(2, 9);
SELECT * FROM pg_temp.run('2026-03-02 11:03');
SELECT pg_temp.available(1, 9), pg_temp.available(2, 50);
SELECT * FROM pg_temp.run('2026-03-02 11:04');
SELECT * FROM pg_temp.outbox ORDER BY notice_id;

-- Arrears: announced, accepted, cut when the lead time is over, with a cause; a second run adds nothing.
SELECT pg_temp.available(3, -12.34);
SELECT * FROM pg_temp.run('2026-03-02 12:00');
SELECT * FROM pg_temp.run('2026-03-02 12:01', false);
SELECT * FROM pg_temp.run('2026-03-02 12:10');
SELECT account_id, arrears_since, announced_at, lead, trip_due_at FROM submeter.account_state WHERE account_id = 3;
SELECT * FROM pg_temp.run('2026-03-02 13:09');
SELECT * FROM pg_temp.run('2026-03-02 13:10');
SELECT * FROM pg_temp.run('2026-03-02 13:11');
SELECT kind, urgent, body FROM pg_temp.outbox WHERE account = 'A3';
SELECT * FROM pg_temp.moves;
SELECT meter_id, cause, since, command_id FROM submeter.open_cause;
-- It expires unsent: the cause goes with it and the policy asks again.
SELECT submeter.switch_duty(1, '2026-03-02 13:25');
SELECT * FROM pg_temp.run('2026-03-02 13:25');
SELECT * FROM pg_temp.moves;
SELECT meter_id, cause, command_id FROM submeter.open_cause;
-- A recharge before the breaker moved cancels the trip, and it is re-armed from the beginning.
SELECT pg_temp.available(3, 80);
SELECT * FROM pg_temp.run('2026-03-02 13:27');
SELECT * FROM pg_temp.moves ORDER BY command_id DESC LIMIT 1;
SELECT count(*) AS causes FROM submeter.open_cause;
SELECT announced_at, trip_due_at, arrears_since FROM submeter.account_state WHERE account_id = 3;

-- Open for arrears and by an operator: money removes arrears and nothing else.
SELECT pg_temp.available(3, -1);
SELECT count(*) FROM pg_temp.run('2026-03-02 14:00');
SELECT count(*) FROM pg_temp.run('2026-03-02 14:01');
SELECT * FROM pg_temp.run('2026-03-02 15:01');
UPDATE submeter.command SET state = 'confirmed', sent_at = '2026-03-02 15:02', finished_at = '2026-03-02 15:02' WHERE state = 'queued';
SELECT pg_temp.reads('2026-03-02 15:02', 'open', '{3}');
SELECT submeter.request_command(1, 3, 'open', 'cable work', as_of => '2026-03-02 15:03') IS NOT NULL AS asked;
SELECT * FROM pg_temp.run('2026-03-02 15:04');
SELECT meter_id, cause FROM submeter.open_cause ORDER BY cause;
-- The shopkeeper asks, before and after a payment was begun, and in the language of the site.
SELECT * FROM submeter.why_dark(1, 3, '2026-03-02 15:04');
INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key, expires_at) VALUES (1, 3, 'test', 51, 'w', '2026-03-02 15:10');
SELECT step, ok, answer, next_step FROM submeter.why_dark(1, 3, '2026-03-02 15:04') WHERE NOT ok;
UPDATE submeter.payment_order SET state = 'closed';
UPDATE submeter.site SET locale = 'zh';
SELECT * FROM submeter.why_dark(1, 3, '2026-03-02 15:04');
SELECT step, answer, next_step FROM submeter.why_dark(1, 3, '2026-03-02 16:04') WHERE step = 1;
UPDATE submeter.site SET locale = 'en';
SELECT pg_temp.available(3, 50);
SELECT * FROM pg_temp.run('2026-03-02 15:05');
SELECT meter_id, cause FROM submeter.open_cause ORDER BY cause;
SELECT count(*) AS live FROM submeter.command WHERE submeter.is_live(state);
-- The operator is done: now it closes.
SELECT submeter.clear_cause(1, 3, 'operator', 'work done') IS NOT NULL AS closing;
SELECT action, state, close_mode FROM pg_temp.moves ORDER BY command_id DESC LIMIT 1;
UPDATE submeter.command SET state = 'confirmed', sent_at = '2026-03-02 15:06', finished_at = '2026-03-02 15:06' WHERE state = 'queued';
SELECT pg_temp.reads('2026-03-02 15:07', 'closed', '{3}');

-- Nobody to tell: held, and held again, until somebody can be told.
SELECT pg_temp.available(5, -3);
SELECT * FROM pg_temp.run('2026-03-03 10:00');
SELECT * FROM pg_temp.run('2026-03-04 10:00');
INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 5, 'owner 5');
SELECT * FROM pg_temp.run('2026-03-04 10:01');
-- Told on no channel is not told.
SELECT * FROM pg_temp.run('2026-03-04 12:00', false);
SELECT * FROM pg_temp.run('2026-03-04 12:01');
-- What holds a trip that is due, one thing at a time.
INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key, expires_at) VALUES (1, 5, 'test', 10, 'k', '2026-03-04 14:00');
SELECT * FROM pg_temp.run('2026-03-04 13:30');
UPDATE submeter.payment_channel SET works = false;
SELECT * FROM pg_temp.run('2026-03-04 14:00');
UPDATE submeter.payment_channel SET works = true;
UPDATE submeter.credit_policy SET stale_after = '1 s';
UPDATE submeter.meter_state SET valid_ts = '2026-03-04 14:00';
SELECT submeter.apply_policy(1, '2026-03-04 14:01');
SELECT action, reason FROM submeter.decision ORDER BY decision_id DESC LIMIT 1;
SELECT meter_id, reason FROM submeter.read_request;
UPDATE submeter.credit_policy SET stale_after = '2 h';
INSERT INTO submeter.reading_suspect (site_id, meter_id, ts, rule, energy_wh) VALUES (1, 5, '2026-03-04 14:05', 'jump', 99999999);
SELECT submeter.apply_policy(1, '2026-03-04 14:06');
SELECT action, reason FROM submeter.decision ORDER BY decision_id DESC LIMIT 1;
-- A plausible reading came after it.
UPDATE submeter.site SET recovered_at = '2026-03-04 14:06';
SELECT * FROM pg_temp.run('2026-03-04 14:10');
UPDATE submeter.meter SET protection = 'protected' WHERE meter_id = 5;
SELECT * FROM pg_temp.run('2026-03-04 14:30');
UPDATE submeter.meter SET protection = 'none' WHERE meter_id = 5;
-- An outage that was long enough: told anew, and the lead time starts anew.
UPDATE submeter.gateway SET recovered_at = '2026-03-04 14:31';
SELECT * FROM pg_temp.run('2026-03-04 14:32');
SELECT * FROM pg_temp.run('2026-03-04 14:33');
SELECT trip_due_at FROM submeter.account_state WHERE account_id = 5;
SELECT * FROM pg_temp.run('2026-03-04 15:33');
-- Paid before the breaker moved.
SELECT pg_temp.available(5, 100);
SELECT * FROM pg_temp.run('2026-03-04 15:34');

-- A night in between: no trip in it, a fresh notice after it, then the lead time and the spread.
UPDATE submeter.credit_policy SET no_trip_windows = '[{"from":"17:00","to":"09:00"}]', window_spread = '30 min';
SELECT pg_temp.available(4, -2);
SELECT * FROM pg_temp.run('2026-03-04 16:30');
SELECT * FROM pg_temp.run('2026-03-04 16:40');
SELECT * FROM pg_temp.run('2026-03-04 17:45');
SELECT * FROM pg_temp.run('2026-03-05 08:59');
SELECT * FROM pg_temp.run('2026-03-05 09:00');
SELECT * FROM pg_temp.run('2026-03-05 09:01');
SELECT trip_due_at, lead FROM submeter.account_state WHERE account_id = 4;
SELECT * FROM pg_temp.run('2026-03-05 10:10');
SELECT * FROM pg_temp.run('2026-03-05 10:20');
SELECT kind, state, body FROM pg_temp.outbox WHERE account = 'A4' ORDER BY notice_id;
SELECT pg_temp.available(4, 100);
SELECT * FROM pg_temp.run('2026-03-05 10:21');

-- Mode ask: a person ticks; everything is looked at again.
UPDATE submeter.credit_policy SET no_trip_windows = '[]', mode = 'ask', notice_lead = '0', grace = '1 h';
SELECT pg_temp.available(4, -2);
SELECT * FROM pg_temp.run('2026-03-06 10:00');
SELECT * FROM pg_temp.run('2026-03-06 11:00');
SELECT * FROM pg_temp.run('2026-03-06 11:01');
SELECT pg_temp.refusal(format('SELECT submeter.tick_decision(1, %s, ''2026-03-06 11:02'')', decision_id - 1)) ~ '^55000' AS refused
FROM submeter.decision ORDER BY decision_id DESC LIMIT 1;
SELECT pg_temp.refusal('SELECT submeter.tick_decision(1, 999999)');
SELECT pg_temp.reads('2026-03-06 11:02');
SELECT submeter.tick_decision(1, max(decision_id), '2026-03-06 11:02') FROM submeter.decision;
SELECT action, state, cause FROM pg_temp.moves ORDER BY command_id DESC LIMIT 1;
SELECT action, reason, ticked_by IS NOT NULL AS ticked FROM submeter.decision ORDER BY decision_id DESC LIMIT 2;

-- The guard: too many at once are all held, with an alarm; each is released by a person.
UPDATE submeter.credit_policy SET mode = 'automatic', mass_trip_share = 0.5, mass_trip_min = 3, grace = '0';
SELECT pg_temp.available(i, -2) FROM generate_series(1, 5) i;
SELECT count(*) FROM pg_temp.run('2026-03-06 11:10');
SELECT account, decision FROM pg_temp.run('2026-03-06 11:11');
SELECT rule, cleared_at IS NULL AS open, detail FROM submeter.alarm;
SELECT submeter.tick_decision(1, decision_id, '2026-03-06 11:12') FROM submeter.decision
WHERE reason = 'mass_trip' ORDER BY decision_id LIMIT 1;
SELECT account, decision FROM pg_temp.run('2026-03-06 11:13');
SELECT meter_id, action, cause, state FROM pg_temp.moves WHERE state = 'queued' ORDER BY command_id;
-- Fewer than would be suspicious: they go.
SELECT pg_temp.available(i, 100) FROM generate_series(1, 3) i;
SELECT account, decision FROM pg_temp.run('2026-03-06 11:14');
SELECT rule, cleared_at FROM submeter.alarm;

-- Two shops come back at once: one after the other.
UPDATE submeter.command SET state = 'confirmed', finished_at = '2026-03-06 11:15' WHERE state = 'queued' AND action = 'open';
SELECT pg_temp.reads('2026-03-06 11:15', 'open', '{4,5}');
SELECT pg_temp.available(4, 1), pg_temp.available(5, 1);
UPDATE submeter.credit_policy SET reconnect_balance = 5;
SELECT account, decision, sentence FROM pg_temp.run('2026-03-06 11:16');
SELECT pg_temp.available(4, 5), pg_temp.available(5, 5);
SELECT account, decision, sentence FROM pg_temp.run('2026-03-06 11:17');
SELECT meter_id, action, state, not_before, expires_at FROM pg_temp.moves WHERE submeter.is_live(state) ORDER BY command_id;

-- Bad input
SELECT pg_temp.refusal('SELECT submeter.apply_policy(99)');
SELECT pg_temp.refusal('SELECT submeter.apply_policy(NULL)');
SELECT pg_temp.refusal('SELECT * FROM submeter.why_dark(1, 99)');
