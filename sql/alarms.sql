-- Room: alarms. Conditions that hold long enough become episodes; what is over ends them.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

INSERT INTO submeter.site (code, name) VALUES ('A', 'Plaza');
INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'G1', '127.0.0.1:502'), (1, 'G2', '127.0.0.1:503');
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address, created_at)
SELECT 1, 'M' || i, 'DDS238-2 ZN/SR', CASE WHEN i < 4 THEN 1 ELSE 2 END, i::text, '2026-03-01' FROM generate_series(1, 5) i;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, i, 60 FROM generate_series(1, 5) i;

CREATE FUNCTION pg_temp.seen(at timestamptz, meters bigint[] DEFAULT '{1,2,3,4,5}', volts real DEFAULT 230, amps real DEFAULT 1, relay text DEFAULT 'closed') RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.meter_state (site_id, meter_id, ts, received_at, v_a, i_a, power_w, relay, relay_at)
	SELECT 1, m, at, at, volts, amps, volts * amps, seen.relay, at FROM unnest(meters) m
	ON CONFLICT (site_id, meter_id) DO UPDATE SET ts = at, received_at = at, v_a = volts, i_a = amps, power_w = volts * amps, relay = seen.relay, relay_at = at
$$;
-- One evaluation: how many episodes began or ended, and which are open after it.
CREATE FUNCTION pg_temp.run(at timestamptz, OUT changed int, OUT open text)
LANGUAGE plpgsql
AS $$
BEGIN
	changed := submeter.evaluate_alarms(1, at);
	SELECT string_agg(concat_ws(' ', a.rule, m.code, g.code), ', ' ORDER BY a.rule, m.code, g.code) INTO open
	FROM submeter.alarm a
	LEFT JOIN submeter.meter m USING (site_id, meter_id)
	LEFT JOIN submeter.gateway g ON g.site_id = a.site_id AND g.gateway_id = a.gateway_id
	WHERE a.cleared_at IS NULL;
END
$$;

-- Built-in rules; what the user set stays.
SELECT rule, class, severity, hold_time FROM submeter.alarm_rule ORDER BY rule;
UPDATE submeter.alarm_rule SET enabled = false, hold_time = '1 day', severity = 'info', description = 'x' WHERE rule = 'overload';
SELECT submeter.load_alarm_rules();
SELECT enabled, hold_time, severity, description <> 'x' AS refreshed FROM submeter.alarm_rule WHERE rule = 'overload';
UPDATE submeter.alarm_rule SET enabled = true, hold_time = '1 min' WHERE rule = 'overload';

-- Silence: of one meter, of a gateway (then its meters are not counted besides), of everything.
SELECT pg_temp.seen('2026-03-02 10:00');
SELECT * FROM pg_temp.run('2026-03-02 10:01');
SELECT pg_temp.seen('2026-03-02 10:20', '{1,2,4,5}');
SELECT * FROM pg_temp.run('2026-03-02 10:14');
SELECT * FROM pg_temp.run('2026-03-02 10:20');
SELECT detail, raised_at FROM submeter.alarm;
SELECT pg_temp.seen('2026-03-02 10:22');
SELECT * FROM pg_temp.run('2026-03-02 10:22');
SELECT rule, cleared_at FROM submeter.alarm;
UPDATE submeter.gateway SET online = false, offline_since = '2026-03-02 10:23' WHERE code = 'G2';
SELECT pg_temp.seen('2026-03-02 10:40', '{1,2,3}');
SELECT * FROM pg_temp.run('2026-03-02 10:24');
SELECT * FROM pg_temp.run('2026-03-02 10:40');
SELECT * FROM pg_temp.run('2026-03-02 12:00');
UPDATE submeter.gateway SET online = true, offline_since = NULL;
SELECT pg_temp.seen('2026-03-02 12:01');
SELECT * FROM pg_temp.run('2026-03-02 12:01');
-- A gateway that is switched off on purpose is no alarm.
UPDATE submeter.gateway SET enabled = false WHERE code = 'G2';
SELECT pg_temp.seen('2026-03-02 13:00', '{1,2,3}');
SELECT * FROM pg_temp.run('2026-03-02 13:00');
UPDATE submeter.gateway SET enabled = true;

-- A meter that lacks what its model wants; blocks it does not know are no matter. A bus that cannot keep up, for long.
UPDATE submeter.meter_state SET refused = '0201FF00*', refused_at = '2026-03-02 13:00' WHERE meter_id = 1;
SELECT * FROM pg_temp.run('2026-03-02 13:01');
UPDATE submeter.meter_state SET refused = '0201FF00* 02010200=v_b 02010300=v_c', refused_at = '2026-03-02 13:01' WHERE meter_id = 1;
SELECT pg_temp.seen('2026-03-02 13:02');
SELECT * FROM pg_temp.run('2026-03-02 13:02');
SELECT detail, raised_at FROM submeter.alarm WHERE rule = 'wrong_map';
UPDATE submeter.meter_state SET refused = NULL WHERE meter_id = 1;
UPDATE submeter.gateway SET online = true, late_ms = 31000, utilisation = 0.994, poll_interval = '1 min' WHERE code = 'G1';
SELECT * FROM pg_temp.run('2026-03-02 13:03');
SELECT pg_temp.seen('2026-03-02 13:17');
SELECT * FROM pg_temp.run('2026-03-02 13:17');
SELECT * FROM pg_temp.run('2026-03-02 13:18');
SELECT detail, raised_at FROM submeter.alarm WHERE rule = 'bus_overloaded';
UPDATE submeter.gateway SET late_ms = 29000 WHERE code = 'G1';
SELECT * FROM pg_temp.run('2026-03-02 13:19');

-- Overload must last; no voltage behind a closed breaker; an open one that draws.
SELECT pg_temp.seen('2026-03-02 14:00'), pg_temp.seen('2026-03-02 14:00', '{1}', 230, 61);
SELECT * FROM pg_temp.run('2026-03-02 14:00:10');
SELECT pg_temp.seen('2026-03-02 14:00:30', '{1}');
SELECT * FROM pg_temp.run('2026-03-02 14:00:40');
SELECT pg_temp.seen('2026-03-02 14:01', '{1}', 230, 61);
SELECT * FROM pg_temp.run('2026-03-02 14:01:30');
SELECT * FROM pg_temp.run('2026-03-02 14:02');
SELECT * FROM pg_temp.run('2026-03-02 14:02:30');
SELECT pg_temp.seen('2026-03-02 14:03'), pg_temp.seen('2026-03-02 14:03', '{2}', 3, 0), pg_temp.seen('2026-03-02 14:03', '{3}', 230, 2, 'open');
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 3, 'operator');
SELECT * FROM pg_temp.run('2026-03-02 14:03');
SELECT * FROM pg_temp.run('2026-03-02 14:04');
SELECT rule, detail FROM submeter.alarm WHERE cleared_at IS NULL ORDER BY rule;
-- Opened from here, to be open, and drawing with a closed breaker: somebody closed it on the spot.
INSERT INTO submeter.command (site_id, meter_id, action, cause, reason, state, requested_by, requested_at, not_before, expires_at, finished_at)
VALUES (1, 3, 'open', 'operator', 'test', 'confirmed', 'me', '2026-03-02 14:03', '2026-03-02 14:03', '2026-03-02 14:10', '2026-03-02 14:03');
SELECT pg_temp.seen('2026-03-02 14:05'), pg_temp.run('2026-03-02 14:05');
SELECT submeter.is_closed_by_hand(1, m) FROM generate_series(1, 3) m;
SELECT * FROM pg_temp.run('2026-03-02 14:06:30');
DELETE FROM submeter.open_cause;
SELECT * FROM pg_temp.run('2026-03-02 14:06:40');

-- What the records say: suspects, unknown causes, failed and unknown commands, messages.
INSERT INTO submeter.reading_suspect (site_id, meter_id, ts, rule, noted_at) VALUES (1, 1, '2026-03-02 14:06', 'jump', '2026-03-02 14:06'),
	(1, 2, '2026-03-02 14:06', 'nan', '2026-03-02 14:06'), (1, 99, '2026-03-02 14:06', 'unknown_meter', '2026-03-02 14:06');
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 4, 'unknown');
INSERT INTO submeter.command (site_id, meter_id, action, reason, state, requested_by, requested_at, not_before, expires_at, sent_at, finished_at) VALUES
	(1, 1, 'open', 'test', 'failed', 'me', '2026-03-02 14:06', '2026-03-02 14:06', '2026-03-02 14:10', NULL, '2026-03-02 14:06'),
	(1, 2, 'close', 'test', 'unknown', 'me', '2026-03-02 14:06', '2026-03-02 14:06', '2026-03-02 14:10', '2026-03-02 14:06', NULL);
SELECT * FROM pg_temp.run('2026-03-02 14:06:50');
SELECT * FROM pg_temp.run('2026-03-02 14:06:51');
UPDATE submeter.reading_suspect SET state = 'judged';
DELETE FROM submeter.open_cause;
UPDATE submeter.command SET state = 'confirmed', finished_at = '2026-03-02 14:06:52' WHERE state = 'unknown';
INSERT INTO submeter.command (site_id, meter_id, action, reason, state, requested_by, requested_at, not_before, expires_at, finished_at)
VALUES (1, 1, 'open', 'again', 'confirmed', 'me', '2026-03-02 14:06', '2026-03-02 14:06', '2026-03-02 14:10', '2026-03-02 14:06:52');
SELECT * FROM pg_temp.run('2026-03-02 14:06:53');

-- One episode at a time; raising twice is once; a disabled rule raises nothing.
SELECT submeter.raise_alarm(1, 'breaker_unknown', 5, NULL, 'first', '2026-03-02 15:00') IS NOT NULL AS raised,
	submeter.raise_alarm(1, 'breaker_unknown', 5, NULL, 'second', '2026-03-02 15:01') AS again;
SELECT submeter.clear_alarm(1, 'breaker_unknown', 5, NULL, '2026-03-02 14:59'), submeter.clear_alarm(1, 'breaker_unknown', 5, NULL, '2026-03-02 15:02') AS again;
SELECT detail, raised_at, cleared_at FROM submeter.alarm ORDER BY alarm_id DESC LIMIT 1;
UPDATE submeter.alarm_rule SET enabled = false WHERE rule = 'breaker_unknown';
SELECT submeter.raise_alarm(1, 'breaker_unknown', 5, NULL, 'third', '2026-03-02 15:03') AS nothing;

-- Who saw it first stays on record.
SELECT submeter.raise_alarm(1, 'mass_trip_held', NULL, NULL, 'test', '2026-03-02 15:00') AS alarm_id \gset
SELECT submeter.acknowledge_alarm(1, :alarm_id);
SELECT acknowledged_at AS first FROM submeter.alarm WHERE alarm_id = :alarm_id \gset
SELECT submeter.acknowledge_alarm(1, :alarm_id);
SELECT acknowledged_by IS NOT NULL AS by_somebody, acknowledged_at = :'first' AS kept FROM submeter.alarm WHERE alarm_id = :alarm_id;
-- It is the policy's own: the evaluation leaves it open.
SELECT pg_temp.seen('2026-03-02 15:05'), pg_temp.run('2026-03-02 15:05');

-- Bad input
\set VERBOSITY terse
SELECT submeter.acknowledge_alarm(1, 999);
SELECT submeter.evaluate_alarms(99, now());
SELECT submeter.evaluate_alarms(NULL, now());

-- What happened ends when a person has seen it, not by itself.
SELECT submeter.raise_alarm(1, 'notice_failed', NULL, NULL, 'nobody could be told', '2026-06-01 00:00+08') > 0 AS raised;
SELECT submeter.evaluate_alarms(1, '2026-06-01 00:01+08') >= 0 AS evaluated;
SELECT cleared_at IS NULL AS still_there FROM submeter.alarm WHERE rule = 'notice_failed' ORDER BY alarm_id DESC LIMIT 1;
SELECT submeter.acknowledge_alarm(1, (SELECT max(alarm_id) FROM submeter.alarm WHERE rule = 'notice_failed'));
SELECT submeter.evaluate_alarms(1, '2026-06-01 00:02+08') >= 0 AS evaluated;
SELECT cleared_at IS NULL AS still_there FROM submeter.alarm WHERE rule = 'notice_failed' ORDER BY alarm_id DESC LIMIT 1;
