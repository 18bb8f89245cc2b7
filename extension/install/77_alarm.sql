-- Room: alarms. Rules, their episodes, and the timed evaluation.

CREATE FUNCTION submeter.load_alarm_rules() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.alarm_rule AS r (rule, class, severity, hold_time, description, builtin)
	SELECT v.rule, v.class, v.severity, v.hold_time::interval, v.description, true
	FROM (VALUES
		('meter_silent', 'device', 'warning', '15 min', 'A meter does not answer while its gateway does. Check its supply, its address and the bus.'),
		('gateway_down', 'device', 'critical', '2 min', 'A gateway does not answer: none of its meters can be read or switched. Check its power and the network.'),
		('wrong_map', 'device', 'warning', '0', 'A meter says that it does not have what its model wants read: these values are missing. Check that the model is the right one (submeter-poller check-model), or correct a copy of it.'),
		('bus_overloaded', 'device', 'warning', '15 min', 'The meters behind a gateway cannot all be read within its poll_interval. Read less often, put fewer meters on the bus, or make the line faster.'),
		('suspect_reading', 'device', 'warning', '0', 'A reading cannot be right as it stands and is not used. Judge it with judge_reading().'),
		('register_jump', 'energy', 'warning', '0', 'A register ran backwards or faster than the meter can. Judge the reading; look for a reset or an exchanged meter.'),
		('overload', 'electrical', 'critical', '1 min', 'More power than the meter is rated for. Reduce the load before the breaker does.'),
		('no_voltage', 'electrical', 'warning', '1 min', 'The breaker is closed and there is no voltage: the supply upstream is off, or a fuse has blown.'),
		('breaker_mismatch', 'electrical', 'critical', '1 min', 'The breaker says it is open and the meter still measures a load: a welded contact, or a bridge around it. Have an electrician look.'),
		('breaker_by_hand', 'device', 'warning', '0', 'A breaker that was opened from here was closed on the spot. It is on record in breaker_event and is not taken for theft: ask who closed it and why.'),
		('breaker_locked', 'device', 'warning', '0', 'The breaker is locked on the spot: nobody closes it from afar. Have somebody unlock it there; it is tried again every ten minutes.'),
		('key_waiting', 'device', 'warning', '1 hour', 'A breaker may be closed by the key of its meter, and nobody has pressed it. Tell the tenant, or send somebody.'),
		('key_refused', 'device', 'critical', '0', 'The meter refused its password, so nothing is written to it any more: three refusals would lock it for a day. Find out the right one, then set_meter_key().'),
		('keep_failed', 'device', 'warning', '1 hour', 'A protected meter does not keep its power on (保电) by itself, or cannot be asked to. See the command in command_log.'),
		('clock_wrong', 'device', 'warning', '0', 'The clock of a meter is wrong by more than the threshold of this rule (seconds), or shows no time at all. Up to five minutes are set by broadcast; beyond that a person decides: set_meter_clock().'),
		('clock_host', 'device', 'critical', '10 min', 'The clocks of most meters agree with each other and not with the server, so the server is likely wrong and no meter is set by it. Check the time service of the server and of the pollers.'),
		('breaker_unknown', 'device', 'warning', '0', 'A breaker was found open and nobody had opened it from here. Find out why; request_command(…, ''close'', …) closes it.'),
		('command_failed', 'device', 'critical', '0', 'The last command to this breaker failed. Look at the command''s evidence, then try again or send an electrician.'),
		('command_unknown', 'device', 'critical', '0', 'A command was sent and its outcome is not known yet; the breaker is read, never switched again blindly.'),
		('mass_trip_held', 'energy', 'critical', '0', 'More accounts than usual would be cut in one run: all are held. Look for a wrong tariff or reading, then release them with tick_decision().'),
		('tariff_missing', 'energy', 'warning', '0', 'Energy was used at a time for which its tariff has no version: it waits without a price. Add the version with create_tariff().'),
		('calendar_missing', 'energy', 'warning', '0', 'The public holidays of the year are not loaded: only those with a fixed date are known. Load them with load_calendar() or install the newer version.'),
		('resale_over_cap', 'energy', 'warning', '0', 'Electricity is sold above what the grid is paid for it and the cap allows. Look at resale_check(), lower the price, and refund what was too much.'),
		('spool_full', 'device', 'critical', '0', 'A poller keeps readings on its disk because the database does not take them, and the disk is filling or broken. Look for why it is cut off.'),
		('spool_dropped', 'device', 'critical', '0', 'A poller''s spool was full and old readings were given up, those first that meters keep themselves. missing_reading shows what could not be filled; acknowledge when seen.'),
		('spool_damaged', 'device', 'critical', '0', 'The file of a poller''s spool was damaged: it was put aside, and what could be read of it saved. Have the disk checked; acknowledge when seen.'),
		('clock_jumped', 'device', 'warning', '0', 'The clock of a poller''s machine jumped. Readings keep their order; have its time service checked, acknowledge when seen.'),
		('payment_unassigned', 'energy', 'critical', '0', 'A payment provider took or paid back money that belongs to no order here. Look at payment_receipt and payment_event, and ask at the provider; acknowledge when seen.'),
		('payment_refund_failed', 'energy', 'critical', '0', 'A payment provider could not pay money back. Look at payment_refund: what failed is on the account again, what is abnormal has to be settled at the provider; acknowledge when seen.'),
		('payment_signature', 'device', 'critical', '0', 'Notifications came that the payment provider did not sign. Look whether its keys were exchanged, and who else calls the notify address; acknowledge when seen.'),
		('payment_certificate', 'device', 'critical', '0', 'A payment provider signs with a certificate that cannot be trusted, so nothing it says is believed. Compare it with the one on the provider''s platform and enter that in merchant_key; acknowledge when seen.'),
		('reconcile_open', 'energy', 'warning', '0', 'A payment provider''s daily file and the books differ, and a person has to decide what that is. Look at reconcile_row, then decide_reconcile().'),
		('reconcile_late', 'energy', 'warning', '0', 'A payment provider''s daily file has not come for two days. See detail in reconcile_day, or download it from the provider''s platform and hand it in with reconcile().'),
		('channel_budget', 'device', 'warning', '0', 'The messages of a channel for this month are used up: people are told by their next channel, if they have one. Raise the budget with set_channel() or wait for the month to end.'),
		('host_down', 'device', 'critical', '0', 'A host outside (a payment provider, a mail server, a robot) failed five times in a row, or refuses our login: what is for it waits. Look at outbound_host, and check its address, our password and the network.'),
		('notice_failed', 'device', 'warning', '0', 'A message could not be delivered on any channel. Check the channel and tell the person another way; acknowledge when seen.')
	) v(rule, class, severity, hold_time, description)
	ON CONFLICT (rule) DO UPDATE SET class = EXCLUDED.class, description = EXCLUDED.description, builtin = true;
	UPDATE submeter.alarm_rule r SET threshold = 120 WHERE r.rule = 'clock_wrong' AND r.threshold IS NULL;
$$;
COMMENT ON FUNCTION submeter.load_alarm_rules() IS
'Writes the built-in alarm rules; severity, hold_time, threshold and enabled of existing ones stay as the user set them.';

CREATE FUNCTION submeter.raise_alarm(site_id int, rule text, meter_id bigint, gateway_id bigint, detail text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	raised bigint;
BEGIN
	INSERT INTO submeter.alarm (site_id, rule, meter_id, gateway_id, detail, raised_at)
	SELECT raise_alarm.site_id, r.rule, raise_alarm.meter_id, raise_alarm.gateway_id, raise_alarm.detail, raise_alarm.as_of
	FROM submeter.alarm_rule r
	WHERE r.rule = raise_alarm.rule AND r.enabled
	ON CONFLICT DO NOTHING
	RETURNING alarm_id INTO raised;
	RETURN raised;
END
$$;
COMMENT ON FUNCTION submeter.raise_alarm(int, text, bigint, bigint, text, timestamptz) IS
'Opens an episode of a rule for a meter, a gateway or the whole site; one that is open already stays the only one. Returns its alarm_id, NULL when there was nothing to open.';

CREATE FUNCTION submeter.clear_alarm(site_id int, rule text, meter_id bigint, gateway_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE submeter.alarm a
	SET cleared_at = greatest(clear_alarm.as_of, a.raised_at)
	WHERE a.site_id = clear_alarm.site_id AND a.rule = clear_alarm.rule AND a.cleared_at IS NULL
		AND a.meter_id IS NOT DISTINCT FROM clear_alarm.meter_id AND a.gateway_id IS NOT DISTINCT FROM clear_alarm.gateway_id;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION submeter.clear_alarm(int, text, bigint, bigint, timestamptz) IS
'Ends the open episode of a rule; true when there was one.';

CREATE FUNCTION submeter.setup_at(site_id int, as_of timestamptz)
RETURNS TABLE(meter_id bigint, multiplier numeric, rated_current_a numeric, rated_voltage_v numeric, phases smallint, unit_id bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT ON (e.meter_id) e.meter_id, e.multiplier, e.rated_current_a, e.rated_voltage_v, e.phases, e.unit_id
	FROM submeter.meter_setup e
	WHERE e.site_id = setup_at.site_id AND e.valid_from <= setup_at.as_of
	ORDER BY e.meter_id, e.valid_from DESC, e.entered_at DESC
$$;
COMMENT ON FUNCTION submeter.setup_at(int, timestamptz) IS 'The setup of each meter of the site that holds at an instant.';

CREATE FUNCTION submeter.line_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH meter AS (
		SELECT m.meter_id, m.gateway_id, m.code, g.poll_interval, s.online,
			coalesce(greatest(s.last_contact_at, s.ts), m.created_at) AS contact_at
		FROM submeter.meter m
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled
		LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
		WHERE m.site_id = line_conditions.site_id AND m.retired_at IS NULL
	), gateway AS (
		SELECT g.gateway_id, g.code, coalesce(g.offline_since, max(m.contact_at)) AS since
		FROM submeter.gateway g
		JOIN meter m ON m.gateway_id = g.gateway_id
		WHERE g.site_id = line_conditions.site_id
		GROUP BY g.gateway_id, g.code, g.offline_since, g.online, g.poll_interval
		-- A poller that is gone reports nothing: silence of all meters says the same.
		HAVING g.online IS FALSE OR max(m.contact_at) + 3 * g.poll_interval < line_conditions.as_of
	)
	SELECT 'gateway_down', NULL::bigint, g.gateway_id, g.since, format('gateway %s does not answer', g.code)
	FROM gateway g
	UNION ALL
	SELECT 'bus_overloaded', NULL, g.gateway_id, line_conditions.as_of,
		format('gateway %s: meters are read up to %s s late, the bus is in use %s %% of the time', g.code, round(g.late_ms / 1000.0), round((100 * g.utilisation)::numeric))
	FROM submeter.gateway g
	WHERE g.site_id = line_conditions.site_id AND g.enabled AND g.online AND g.late_ms > extract(epoch FROM g.poll_interval) * 500
	UNION ALL
	SELECT 'wrong_map', m.meter_id, NULL, s.refused_at, format('meter %s does not have: %s', m.code, (
		SELECT string_agg(split_part(k.key, '=', 2), ', ') FROM regexp_split_to_table(s.refused, ' ') k(key) WHERE k.key LIKE '%=%'))
	FROM submeter.meter_state s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id AND m.retired_at IS NULL
	JOIN submeter.meter_model o ON o.model = m.model
	-- Models of DL/T 645 are of any maker and ask for what many a meter has not.
	WHERE s.site_id = line_conditions.site_id AND s.refused ~ CASE o.protocol WHEN 'modbus' THEN '=' ELSE '=(energy_wh|relay|power_w|v_a)' END
	UNION ALL
	SELECT 'meter_silent', m.meter_id, NULL, m.contact_at, format('meter %s does not answer', m.code)
	FROM meter m
	WHERE NOT EXISTS (SELECT FROM gateway g WHERE g.gateway_id = m.gateway_id)
		AND (m.online IS FALSE OR m.contact_at + 3 * m.poll_interval < line_conditions.as_of)
$$;
COMMENT ON FUNCTION submeter.line_conditions(int, timestamptz) IS
'Gateways and meters that do not answer (a meter behind a silent gateway is not counted besides), buses that cannot keep up, meters that lack what their model wants.';

CREATE FUNCTION submeter.meter_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH live AS (
		SELECT m.meter_id, m.code, s.relay, s.ts, abs(coalesce(s.power_w, 0)) AS power_w,
			greatest(s.i_a, s.i_b, s.i_c, 0) AS most_a, greatest(s.v_a, s.v_b, s.v_c) AS most_v,
			e.rated_current_a, e.rated_voltage_v, e.phases,
			abs(coalesce(s.power_w, 0)) >= 20 OR greatest(s.i_a, s.i_b, s.i_c, 0) >= greatest(0.2, 0.01 * e.rated_current_a) AS draws
		FROM submeter.meter m
		JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
		LEFT JOIN submeter.setup_at(meter_conditions.site_id, meter_conditions.as_of) e ON e.meter_id = m.meter_id
		WHERE m.site_id = meter_conditions.site_id AND m.retired_at IS NULL AND s.ts IS NOT NULL
	)
	SELECT 'overload', l.meter_id, NULL::bigint, l.ts,
		format('meter %s: %s W, %s A; rated current %s A', l.code, l.power_w, l.most_a, l.rated_current_a)
	FROM live l
	WHERE l.most_a > l.rated_current_a OR l.power_w > l.rated_current_a * l.rated_voltage_v * l.phases
	UNION ALL
	SELECT 'no_voltage', l.meter_id, NULL, l.ts, format('meter %s: breaker closed, %s V', l.code, l.most_v)
	FROM live l
	WHERE l.relay = 'closed' AND l.most_v < 0.1 * coalesce(l.rated_voltage_v, 220)
	UNION ALL
	SELECT 'breaker_mismatch', l.meter_id, NULL, l.ts,
		format('meter %s: breaker %s, %s W, %s A', l.code, l.relay, l.power_w, l.most_a)
	FROM live l
	WHERE l.draws AND l.relay = 'open'
	UNION ALL
	SELECT 'breaker_by_hand', l.meter_id, NULL, l.ts, format('meter %s: opened from here and found closed, %s W', l.code, l.power_w)
	FROM live l
	WHERE l.relay = 'closed'
		AND l.meter_id IN (SELECT o.meter_id FROM submeter.open_cause o WHERE o.site_id = meter_conditions.site_id)
		AND submeter.is_closed_by_hand(meter_conditions.site_id, l.meter_id)
$$;
COMMENT ON FUNCTION submeter.meter_conditions(int, timestamptz) IS
'What the latest values of the meters say: overload, no voltage, a breaker that does not do what it says or was moved on the spot.';

CREATE FUNCTION submeter.record_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN r.rule IN ('jump', 'backwards') THEN 'register_jump' ELSE 'suspect_reading' END, m.meter_id, NULL::bigint,
		min(r.noted_at), format('%s readings cannot be right, first: %s', count(*), min(r.rule))
	FROM submeter.reading_suspect r
	LEFT JOIN submeter.meter m ON m.site_id = r.site_id AND m.meter_id = r.meter_id
	WHERE r.site_id = record_conditions.site_id AND r.state = 'open'
	GROUP BY 1, 2
	UNION ALL
	SELECT 'breaker_unknown', o.meter_id, NULL, o.since, 'breaker found open; nobody had opened it from here'
	FROM submeter.open_cause o
	WHERE o.site_id = record_conditions.site_id AND o.cause = 'unknown'
	UNION ALL
	SELECT CASE WHEN c.state = 'unknown' THEN 'command_unknown' WHEN c.evidence ->> 'kind' = 'local_lock' THEN 'breaker_locked' ELSE 'command_failed' END, c.meter_id, NULL,
		coalesce(c.finished_at, c.sent_at, c.requested_at), format('%s, command %s: %s', c.action, c.command_id, coalesce(c.detail, c.state))
	FROM (
		SELECT DISTINCT ON (c.meter_id) c.*
		FROM submeter.command c
		WHERE c.site_id = record_conditions.site_id AND c.state IN ('confirmed', 'failed', 'unknown') AND c.action IN ('open', 'close')
		ORDER BY c.meter_id, c.command_id DESC) c
	WHERE c.state IN ('failed', 'unknown')
	UNION ALL
	SELECT 'notice_failed', NULL, NULL, max(n.next_try_at), format('%s messages of the last day could not be delivered', count(*))
	FROM submeter.notice n
	WHERE n.site_id = record_conditions.site_id AND n.state = 'failed'
		AND n.created_at > record_conditions.as_of - interval '1 day'
	HAVING count(*) > 0
	UNION ALL
	SELECT 'calendar_missing', NULL, NULL, record_conditions.as_of, format('the public holidays of %s are not loaded', min(extract(year FROM c.day)))
	FROM submeter.calendar_day c
	JOIN submeter.site s ON s.site_id = c.site_id
	-- The notice for the next year comes in November.
	WHERE c.site_id = record_conditions.site_id AND c.assumed
		AND extract(year FROM c.day) BETWEEN extract(year FROM record_conditions.as_of AT TIME ZONE s.time_zone)
			AND extract(year FROM (record_conditions.as_of + interval '17 days') AT TIME ZONE s.time_zone)
	HAVING count(*) > 0
$$;
COMMENT ON FUNCTION submeter.record_conditions(int, timestamptz) IS
'What the records say: open suspects, breakers of unknown cause, failed and unknown commands, undelivered notices, a year without its public holidays.';

CREATE FUNCTION submeter.evaluate_alarms(site_id int, as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	changed int;
BEGIN
	PERFORM submeter.authorize('evaluate_alarms', evaluate_alarms.site_id);
	WITH seen AS MATERIALIZED (
		SELECT * FROM submeter.line_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.meter_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.record_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.breaker_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.clock_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.resale_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.spool_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
		UNION ALL SELECT * FROM submeter.reconcile_conditions(evaluate_alarms.site_id, evaluate_alarms.as_of)
	), gone AS (
		DELETE FROM submeter.alarm_pending p
		WHERE p.site_id = evaluate_alarms.site_id AND NOT EXISTS (
			SELECT FROM seen s WHERE s.rule = p.rule AND s.meter_id IS NOT DISTINCT FROM p.meter_id AND s.gateway_id IS NOT DISTINCT FROM p.gateway_id)
	), pending AS (
		INSERT INTO submeter.alarm_pending (site_id, rule, meter_id, gateway_id, since)
		SELECT evaluate_alarms.site_id, s.rule, s.meter_id, s.gateway_id, least(s.since, evaluate_alarms.as_of)
		FROM seen s
		ON CONFLICT DO NOTHING
		RETURNING rule, meter_id, gateway_id, since
	), due AS (
		SELECT s.rule, s.meter_id, s.gateway_id, s.detail
		FROM seen s
		JOIN submeter.alarm_rule r ON r.rule = s.rule AND r.enabled
		JOIN (
			SELECT p.rule, p.meter_id, p.gateway_id, p.since FROM pending p
			UNION ALL
			SELECT p.rule, p.meter_id, p.gateway_id, p.since FROM submeter.alarm_pending p WHERE p.site_id = evaluate_alarms.site_id
		) p ON p.rule = s.rule AND p.meter_id IS NOT DISTINCT FROM s.meter_id AND p.gateway_id IS NOT DISTINCT FROM s.gateway_id
		WHERE p.since + r.hold_time <= evaluate_alarms.as_of
	), raised AS (
		INSERT INTO submeter.alarm (site_id, rule, meter_id, gateway_id, detail, raised_at)
		SELECT evaluate_alarms.site_id, d.rule, d.meter_id, d.gateway_id, d.detail, evaluate_alarms.as_of
		FROM due d
		ON CONFLICT DO NOTHING
		RETURNING 1
	), cleared AS (
		UPDATE submeter.alarm a
		SET cleared_at = greatest(evaluate_alarms.as_of, a.raised_at)
		-- These are raised and cleared by their own rooms, in their own runs; those about something that happened end when a person has seen them.
		WHERE a.site_id = evaluate_alarms.site_id AND a.cleared_at IS NULL AND a.rule NOT IN ('mass_trip_held', 'channel_budget', 'host_down')
			AND (a.acknowledged_at IS NOT NULL OR a.rule NOT IN ('notice_failed', 'payment_unassigned', 'payment_refund_failed', 'payment_signature', 'payment_certificate'))
			AND NOT EXISTS (
			SELECT FROM seen s WHERE s.rule = a.rule AND s.meter_id IS NOT DISTINCT FROM a.meter_id AND s.gateway_id IS NOT DISTINCT FROM a.gateway_id)
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM raised) + (SELECT count(*) FROM cleared) INTO changed;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.evaluate_alarms(int, timestamptz) IS
'Duty and verb: raises alarms whose condition has held for the hold_time of their rule and clears those whose condition is over; returns how many episodes began or ended.';

CREATE FUNCTION submeter.acknowledge_alarm(site_id int, alarm_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('acknowledge_alarm', acknowledge_alarm.site_id);
	UPDATE submeter.alarm a
	SET acknowledged_by = coalesce(a.acknowledged_by, (submeter.me()).login), acknowledged_at = coalesce(a.acknowledged_at, clock_timestamp())
	WHERE a.site_id = acknowledge_alarm.site_id AND a.alarm_id = acknowledge_alarm.alarm_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('alarm %s does not exist at site %s', acknowledge_alarm.alarm_id, acknowledge_alarm.site_id),
			HINT = 'SELECT * FROM submeter.alarm WHERE cleared_at IS NULL lists the open ones.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.acknowledge_alarm(int, bigint) IS
'Notes that the caller has seen an alarm; the first one stays on record. P0002 for an unknown alarm.';
