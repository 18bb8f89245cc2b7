-- Room: breakers. What is not a person's or the policy's command: keep-power of protected meters, breakers moved on
-- the spot, and keys nobody presses.

CREATE FUNCTION submeter.queue_service(site_id int, meter_id bigint, action text, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	made bigint;
BEGIN
	PERFORM submeter.lock_meter(queue_service.site_id, queue_service.meter_id);
	INSERT INTO submeter.command (site_id, meter_id, action, reason, requested_by, requested_at, not_before, expires_at)
	SELECT queue_service.site_id, queue_service.meter_id, queue_service.action, queue_service.reason, (submeter.me()).login,
		queue_service.as_of, queue_service.as_of, queue_service.as_of + interval '15 minutes'
	WHERE NOT EXISTS (
		SELECT FROM submeter.command c
		WHERE c.site_id = queue_service.site_id AND c.meter_id = queue_service.meter_id AND submeter.is_live(c.state))
	RETURNING command_id INTO made;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.queue_service(int, bigint, text, text, timestamptz) IS
'Puts a keep, release or set_clock on the way; NULL while any other command of the meter is live. Opening and closing go first and supersede one that still waits.';

CREATE FUNCTION submeter.keep_wanted(site_id int) RETURNS TABLE(meter_id bigint, action text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.meter_id, w.action
	FROM submeter.meter m
	JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	JOIN submeter.meter_switch w ON w.model = m.model
		AND w.action = CASE WHEN m.protection <> 'none' THEN 'keep' WHEN s.keep = 'on' THEN 'release' END
	WHERE m.site_id = keep_wanted.site_id AND m.retired_at IS NULL
		AND (m.protection <> 'none' AND s.keep IS DISTINCT FROM 'on' OR m.protection = 'none' AND s.keep = 'on')
$$;
COMMENT ON FUNCTION submeter.keep_wanted(int) IS
'Meters whose keep-power (保电) is not what meter.protection asks for, and what is to be sent: keep, or release where it was kept.';

CREATE FUNCTION submeter.queue_keeps(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	queued int := 0;
BEGIN
	FOR item IN
		SELECT k.meter_id, k.action
		FROM submeter.keep_wanted(queue_keeps.site_id) k
		WHERE submeter.write_refusal(queue_keeps.site_id, k.meter_id, queue_keeps.as_of) IS NULL
			AND NOT EXISTS (
				SELECT FROM submeter.command c
				WHERE c.site_id = queue_keeps.site_id AND c.meter_id = k.meter_id AND (submeter.is_live(c.state)
					-- Once more, but not in a hurry: after one that came to nothing an hour, after one that was overtaken a minute.
					OR c.action = k.action AND c.finished_at > queue_keeps.as_of
						- CASE c.state WHEN 'superseded' THEN interval '1 min' ELSE interval '1 hour' END))
		ORDER BY k.meter_id
	LOOP
		IF submeter.queue_service(queue_keeps.site_id, item.meter_id, item.action,
			CASE item.action WHEN 'keep' THEN 'the meter is protected' ELSE 'the meter is protected no longer' END, queue_keeps.as_of) IS NOT NULL
		THEN
			queued := queued + 1;
		END IF;
	END LOOP;
	RETURN queued;
END
$$;
COMMENT ON FUNCTION submeter.queue_keeps(int, timestamptz) IS
'Sends keep-power to protected meters that can be told and do not have it, and releases it where the protection is gone; returns how many.';

CREATE FUNCTION submeter.note_keep(site_id int, meter_id bigint, keep text, at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.meter_state AS s (site_id, meter_id, keep, keep_at)
	SELECT note_keep.site_id, note_keep.meter_id, note_keep.keep, note_keep.at
	WHERE note_keep.keep IN ('on', 'off')
	ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE SET keep = EXCLUDED.keep, keep_at = EXCLUDED.keep_at
$$;
COMMENT ON FUNCTION submeter.note_keep(int, bigint, text, timestamptz) IS 'Keeps whether a meter keeps its power on (保电), as it was read back.';

CREATE FUNCTION submeter.note_breaker_event(site_id int, meter_id bigint, kind text, seen_at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.breaker_event (site_id, meter_id, kind, seen_at, command_id, detail)
	SELECT note_breaker_event.site_id, note_breaker_event.meter_id, note_breaker_event.kind, note_breaker_event.seen_at, c.command_id,
		CASE note_breaker_event.kind WHEN 'closed_by_hand' THEN format('opened by command %s (%s) and found closed', c.command_id, c.reason)
			ELSE 'found open; nobody had opened it from here' END
	FROM (SELECT 1) one
	LEFT JOIN LATERAL (
		SELECT x.command_id, x.reason FROM submeter.command x
		WHERE x.site_id = note_breaker_event.site_id AND x.meter_id = note_breaker_event.meter_id AND x.action IN ('open', 'close')
			AND x.state IN ('confirmed', 'failed')
		ORDER BY x.command_id DESC LIMIT 1) c ON true
	ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION submeter.note_breaker_event(int, bigint, text, timestamptz) IS 'Puts on record that a breaker was moved, and not from here; one row as long as it lasts.';

CREATE FUNCTION submeter.follow_breakers(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changed int;
	ended int;
BEGIN
	PERFORM submeter.note_breaker_event(s.site_id, s.meter_id, 'closed_by_hand', s.relay_at)
	FROM submeter.meter_state s
	WHERE s.site_id = follow_breakers.site_id AND s.relay = 'closed'
		AND s.meter_id IN (SELECT o.meter_id FROM submeter.open_cause o WHERE o.site_id = follow_breakers.site_id)
		AND submeter.is_closed_by_hand(s.site_id, s.meter_id)
		AND NOT EXISTS (
			SELECT FROM submeter.breaker_event e
			WHERE e.site_id = s.site_id AND e.meter_id = s.meter_id AND e.kind = 'closed_by_hand' AND e.ended_at IS NULL);
	GET DIAGNOSTICS changed = ROW_COUNT;
	UPDATE submeter.breaker_event e
	SET ended_at = greatest(coalesce(s.relay_at, follow_breakers.as_of), e.seen_at)
	FROM submeter.meter_state s
	WHERE e.site_id = follow_breakers.site_id AND e.ended_at IS NULL AND s.site_id = e.site_id AND s.meter_id = e.meter_id
		AND CASE e.kind WHEN 'closed_by_hand' THEN NOT submeter.is_closed_by_hand(e.site_id, e.meter_id) ELSE s.relay = 'closed' END;
	GET DIAGNOSTICS ended = ROW_COUNT;
	RETURN changed + ended;
END
$$;
COMMENT ON FUNCTION submeter.follow_breakers(int, timestamptz) IS
'Keeps the record of breakers that were moved on the spot: begins and ends its rows; returns how many.';

CREATE FUNCTION submeter.tell_press_key(site_id int, command_id bigint, nth int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.queue_notice(c.site_id, y.account_id, 'press_key', format('key:%s:%s', c.command_id, tell_press_key.nth),
		jsonb_build_object('at', tell_press_key.as_of), tell_press_key.as_of, tell_press_key.nth = 0)
	FROM submeter.command c
	JOIN submeter.supply y ON y.site_id = c.site_id AND y.meter_id = c.meter_id AND y.during @> tell_press_key.as_of
	WHERE c.site_id = tell_press_key.site_id AND c.command_id = tell_press_key.command_id;
EXCEPTION WHEN OTHERS THEN
	-- What happened at the breaker must be recorded even if nobody can be told of it.
	RAISE WARNING USING ERRCODE = SQLSTATE, MESSAGE = format('notice about command %s could not be written: %s', tell_press_key.command_id, SQLERRM);
END
$$;
COMMENT ON FUNCTION submeter.tell_press_key(int, bigint, int, timestamptz) IS
'Tells the people of the account a meter feeds to press its key; nth is 0 for the first message and counts the reminders.';

CREATE FUNCTION submeter.remind_keys(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	told int := 0;
BEGIN
	FOR item IN
		SELECT c.command_id, r.nth
		FROM submeter.command c
		CROSS JOIN LATERAL (
			SELECT max(v.nth) AS nth FROM (VALUES (1, interval '1 hour'), (2, interval '1 day'), (3, interval '3 days')) v(nth, after)
			WHERE c.sent_at + v.after <= remind_keys.as_of) r
		WHERE c.site_id = remind_keys.site_id AND c.state = 'awaiting_key' AND r.nth IS NOT NULL
			AND NOT EXISTS (
				SELECT FROM submeter.notice n
				JOIN submeter.supply y ON y.site_id = c.site_id AND y.meter_id = c.meter_id AND y.during @> remind_keys.as_of
				WHERE n.site_id = c.site_id AND n.account_id = y.account_id AND n.event = format('key:%s:%s', c.command_id, r.nth))
	LOOP
		PERFORM submeter.tell_press_key(remind_keys.site_id, item.command_id, item.nth, remind_keys.as_of);
		told := told + 1;
	END LOOP;
	RETURN told;
END
$$;
COMMENT ON FUNCTION submeter.remind_keys(int, timestamptz) IS
'Reminds the people whose breaker waits for the key of its meter: after an hour, a day and three days; returns how many.';

CREATE FUNCTION submeter.breaker_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'key_refused', k.meter_id, NULL::bigint, coalesce(k.refused_at, k.last_refused_at, k.changed_at), format('meter %s: %s', m.code, r.why)
	FROM submeter.meter_key k
	JOIN submeter.meter m ON m.site_id = k.site_id AND m.meter_id = k.meter_id AND m.retired_at IS NULL
	CROSS JOIN LATERAL submeter.key_refusal(k.site_id, k.meter_id, breaker_conditions.as_of) r(why)
	WHERE k.site_id = breaker_conditions.site_id AND r.why IS NOT NULL
	UNION ALL
	SELECT 'key_waiting', c.meter_id, NULL, coalesce(c.sent_at, c.requested_at), format('close, command %s: the key of the meter is to be pressed', c.command_id)
	FROM submeter.command c
	WHERE c.site_id = breaker_conditions.site_id AND c.state = 'awaiting_key'
	UNION ALL
	SELECT 'keep_failed', w.meter_id, NULL, coalesce(c.since, breaker_conditions.as_of),
		format('meter %s: %s', m.code, coalesce(submeter.write_refusal(breaker_conditions.site_id, w.meter_id, breaker_conditions.as_of), c.detail, 'not done yet'))
	FROM submeter.keep_wanted(breaker_conditions.site_id) w
	JOIN submeter.meter m ON m.site_id = breaker_conditions.site_id AND m.meter_id = w.meter_id
	LEFT JOIN LATERAL (
		SELECT min(x.requested_at) AS since, (array_agg(x.detail ORDER BY x.command_id DESC) FILTER (WHERE x.detail IS NOT NULL))[1] AS detail
		FROM submeter.command x
		WHERE x.site_id = breaker_conditions.site_id AND x.meter_id = w.meter_id AND x.action = w.action
			AND x.requested_at > breaker_conditions.as_of - interval '1 day') c ON true
$$;
COMMENT ON FUNCTION submeter.breaker_conditions(int, timestamptz) IS
'Refused passwords, breakers that wait for a key, protected meters that do not keep their power.';

CREATE FUNCTION submeter.breaker_duty(site_id int, as_of timestamptz) RETURNS int
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.follow_breakers(breaker_duty.site_id, breaker_duty.as_of) + submeter.queue_keeps(breaker_duty.site_id, breaker_duty.as_of)
		+ submeter.remind_keys(breaker_duty.site_id, breaker_duty.as_of)
$$;
COMMENT ON FUNCTION submeter.breaker_duty(int, timestamptz) IS
'Duty: breakers moved on the spot, keep-power of protected meters, reminders to press a key; returns how many it dealt with.';
