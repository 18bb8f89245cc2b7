-- Room: clocks of meters. A meter obeys a command only for minutes, by its own clock; its freezes are stamped by it. So clocks
-- are watched, set a little by broadcast, and set for real only when a person says so.

CREATE FUNCTION submeter.parse_clock(clock text) RETURNS timestamp
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF parse_clock.clock !~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$' THEN
		RETURN NULL;
	END IF;
	RETURN make_timestamp(substr(parse_clock.clock, 1, 4)::int, substr(parse_clock.clock, 6, 2)::int, substr(parse_clock.clock, 9, 2)::int,
		substr(parse_clock.clock, 12, 2)::int, substr(parse_clock.clock, 15, 2)::int, substr(parse_clock.clock, 18, 2)::int);
EXCEPTION WHEN datetime_field_overflow THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.parse_clock(text) IS 'A meter''s own time, YYYY-MM-DD hh:mm:ss without a zone; NULL when it is none.';

CREATE FUNCTION submeter.note_clock(site_id int, meter_id bigint, clock text, error text, at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.meter_state AS s (site_id, meter_id, clock_offset_s, clock_at, clock_error)
	SELECT e.site_id, note_clock.meter_id, CASE WHEN c.shown IS NOT NULL
			THEN least(greatest(extract(epoch FROM c.shown - (note_clock.at AT TIME ZONE e.time_zone)), -2000000000), 2000000000)::int END,
		note_clock.at, CASE WHEN c.shown IS NULL THEN coalesce(note_clock.error, 'no time: ' || left(note_clock.clock, 40)) END
	FROM submeter.site e
	CROSS JOIN LATERAL submeter.parse_clock(note_clock.clock) c(shown)
	WHERE e.site_id = note_clock.site_id
	ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE
	SET clock_offset_s = EXCLUDED.clock_offset_s, clock_at = EXCLUDED.clock_at, clock_error = EXCLUDED.clock_error
$$;
COMMENT ON FUNCTION submeter.note_clock(int, bigint, text, text, timestamptz) IS
'Keeps how far the clock of a meter is off the local time of its site, or that it shows no time.';

CREATE FUNCTION submeter.clock_refusal(site_id int, meter_id bigint) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT 'the meter''s clock is wrong (' || CASE WHEN s.clock_error IS NOT NULL THEN s.clock_error
		ELSE format('%s %s', justify_interval(make_interval(secs => abs(s.clock_offset_s))), CASE WHEN s.clock_offset_s > 0 THEN 'ahead' ELSE 'behind' END) END || ')'
	FROM submeter.meter_state s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id
	WHERE s.site_id = clock_refusal.site_id AND s.meter_id = clock_refusal.meter_id
		AND (s.clock_error IS NOT NULL OR abs(s.clock_offset_s) > 86400)
		AND EXISTS (SELECT FROM submeter.meter_switch w WHERE w.model = m.model AND w.function = 28));
END
$$;
COMMENT ON FUNCTION submeter.clock_refusal(int, bigint) IS
'Why a breaker cannot be switched because of its meter''s clock: it shows no time, or one more than a day off. Less than that is reckoned with. NULL when it can.';

CREATE FUNCTION submeter.is_clock_fresh(site_id int, meter_id bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.meter_state s
		WHERE s.site_id = is_clock_fresh.site_id AND s.meter_id = is_clock_fresh.meter_id
			AND s.clock_offset_s IS NOT NULL AND s.clock_at > is_clock_fresh.at - interval '25 hours')
$$;
COMMENT ON FUNCTION submeter.is_clock_fresh(int, bigint, timestamptz) IS 'True when the clock of a meter was read within a day, so that a command may be timed by it.';

CREATE FUNCTION submeter.command_clock(site_id int, meter_id bigint, action text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT o.clock_di
	FROM submeter.meter m
	JOIN submeter.meter_model o ON o.model = m.model
	WHERE m.site_id = command_clock.site_id AND m.meter_id = command_clock.meter_id AND (command_clock.action = 'set_clock'
		OR EXISTS (
			SELECT FROM submeter.meter_switch w
			WHERE w.model = m.model AND w.function = 28 AND (w.action = command_clock.action OR w.action = 'permit_close' AND command_clock.action = 'close')))
$$;
COMMENT ON FUNCTION submeter.command_clock(int, bigint, text) IS 'Identifier of the clock a command of this kind is timed by; NULL when it is timed by none, or the meter shows none.';

CREATE FUNCTION submeter.is_clock_host_doubtful(site_id int, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Clocks of meters drift each for itself. When most of them agree on another time, ours is the wrong one.
	SELECT count(*) >= 4 AND abs(percentile_disc(0.5) WITHIN GROUP (ORDER BY s.clock_offset_s)) > 30
		AND count(*) FILTER (WHERE abs(s.clock_offset_s - m.middle) <= 15) * 2 > count(*)
	FROM submeter.meter_state s
	CROSS JOIN (
		SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY x.clock_offset_s) AS middle FROM submeter.meter_state x
		WHERE x.site_id = is_clock_host_doubtful.site_id AND x.clock_at > is_clock_host_doubtful.at - interval '2 days' AND abs(x.clock_offset_s) < 86400) m
	WHERE s.site_id = is_clock_host_doubtful.site_id AND s.clock_at > is_clock_host_doubtful.at - interval '2 days' AND abs(s.clock_offset_s) < 86400
$$;
COMMENT ON FUNCTION submeter.is_clock_host_doubtful(int, timestamptz) IS
'True when more than half of at least four meters agree, within 15 s, on a time more than 30 s away from the server''s.';

CREATE FUNCTION submeter.claim_clocks(poller text, wall timestamptz)
RETURNS TABLE(site_id int, gateway_id bigint, meter_id bigint, action text, clock_di text, local_time text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.require_text('poller', claim_clocks.poller);
	RETURN QUERY
	WITH due AS (
		SELECT s.site_id, s.meter_id, m.gateway_id, o.clock_di
		FROM submeter.meter m
		JOIN submeter.meter_model o ON o.model = m.model AND o.clock_di IS NOT NULL
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled
		JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
		WHERE m.site_id = ANY (sites) AND m.retired_at IS NULL AND s.online
			AND (s.clock_at IS NULL OR s.clock_at < at - interval '24 hours' OR s.clock_at < g.recovered_at)
			AND coalesce(s.clock_asked_at, '-infinity') < at - interval '10 minutes'
			AND submeter.may_serve(m.site_id, m.gateway_id, claim_clocks.poller, at)
		ORDER BY s.clock_at NULLS FIRST, s.meter_id
		LIMIT 500
		FOR NO KEY UPDATE OF s SKIP LOCKED
	)
	UPDATE submeter.meter_state s SET clock_asked_at = at
	FROM due d
	WHERE s.site_id = d.site_id AND s.meter_id = d.meter_id
	RETURNING d.site_id, d.gateway_id, d.meter_id, 'read'::text, d.clock_di, NULL::text;
	-- Two clocks that know nothing of each other must agree before meters are set by them.
	IF abs(extract(epoch FROM claim_clocks.wall - at)) > 2 IS NOT FALSE THEN
		RETURN;
	END IF;
	RETURN QUERY
	WITH due AS (
		SELECT g.site_id, g.gateway_id, e.time_zone
		FROM submeter.gateway g
		JOIN submeter.site e ON e.site_id = g.site_id
		-- Between ten past and ten to: not near midnight, the end of a cycle, or a freeze on the hour.
		WHERE g.site_id = ANY (sites) AND g.enabled AND g.online AND extract(minute FROM at AT TIME ZONE e.time_zone) BETWEEN 10 AND 49
			AND (g.clock_set_at IS NULL OR (g.clock_set_at AT TIME ZONE e.time_zone)::date < (at AT TIME ZONE e.time_zone)::date)
			AND EXISTS (
				SELECT FROM submeter.meter m
				JOIN submeter.meter_model o ON o.model = m.model AND o.clock_set = 'broadcast'
				JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
				WHERE m.site_id = g.site_id AND m.gateway_id = g.gateway_id AND m.retired_at IS NULL
					AND s.clock_at > at - interval '25 hours' AND abs(s.clock_offset_s) BETWEEN 30 AND 300)
			AND submeter.may_serve(g.site_id, g.gateway_id, claim_clocks.poller, at)
			AND NOT submeter.is_clock_host_doubtful(g.site_id, at)
		ORDER BY g.site_id, g.gateway_id
		FOR NO KEY UPDATE OF g SKIP LOCKED
	), told AS (
		UPDATE submeter.gateway g SET clock_set_at = at
		FROM due d
		WHERE g.site_id = d.site_id AND g.gateway_id = d.gateway_id
		RETURNING g.site_id, g.gateway_id, d.time_zone
	), unknown AS (
		-- Nobody answers a broadcast: how far the clocks are off is to be read again.
		UPDATE submeter.meter_state s SET clock_at = NULL, clock_asked_at = at - interval '9 minutes'
		FROM told t
		JOIN submeter.meter m ON m.site_id = t.site_id AND m.gateway_id = t.gateway_id
		WHERE s.site_id = m.site_id AND s.meter_id = m.meter_id
	)
	SELECT t.site_id, t.gateway_id, NULL::bigint, 'broadcast'::text, NULL::text, to_char(clock_timestamp() AT TIME ZONE t.time_zone, 'YYMMDDHH24MISS') FROM told t;
END
$$;
COMMENT ON FUNCTION submeter.claim_clocks(text, timestamptz) IS
'What a poller is to do about clocks of the gateways it holds: read those not read for a day or since their gateway came back; and broadcast the local time to a bus some of whose clocks are 30 s to 5 min off, at most once a local day, between ten past and ten to the hour, and only when the poller''s clock (wall) agrees with the server''s within 2 s.';

CREATE FUNCTION submeter.report_clocks(site_id int, clocks jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('poller', report_clocks.site_id);
	IF coalesce(jsonb_typeof(report_clocks.clocks), 'array') <> 'array' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'clocks must be a JSON array of objects',
			HINT = 'For example [{"meter_id":1,"clock":"2026-03-01 12:00:00","age_ms":20,"error":null}].';
	END IF;
	PERFORM submeter.note_clock(m.site_id, m.meter_id, r.clock, r.error, clock_timestamp() - interval '1 ms' * greatest(coalesce(r.age_ms, 0), 0))
	FROM jsonb_to_recordset(coalesce(report_clocks.clocks, '[]')) AS r(meter_id bigint, clock text, age_ms int, error text)
	JOIN submeter.meter m ON m.site_id = report_clocks.site_id AND m.meter_id = r.meter_id;
END
$$;
COMMENT ON FUNCTION submeter.report_clocks(int, jsonb) IS
'What meters'' clocks showed: per meter its own local time as text, how long ago that was, or why it is none. Unknown meters are skipped. 22023 when malformed.';

CREATE FUNCTION submeter.set_meter_clock(site_id int, meter_id bigint, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := clock_timestamp();
	refusal text;
	made bigint;
BEGIN
	PERFORM submeter.authorize('set_meter_clock', set_meter_clock.site_id);
	PERFORM submeter.require_text('reason', set_meter_clock.reason);
	PERFORM submeter.lock_meter(set_meter_clock.site_id, set_meter_clock.meter_id);
	IF NOT EXISTS (
		SELECT FROM submeter.meter m
		JOIN submeter.meter_model o ON o.model = m.model AND o.clock_write AND o.clock_di IS NOT NULL
		WHERE m.site_id = set_meter_clock.site_id AND m.meter_id = set_meter_clock.meter_id AND m.retired_at IS NULL AND m.gateway_id IS NOT NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the clock of meter %s cannot be set from here', set_meter_clock.meter_id),
			DETAIL = 'It is out of service, has no gateway, or its model does not say that its clock may be written.',
			HINT = 'See meter.gateway_id, meter_model.clock_di and meter_model.clock_write.';
	END IF;
	refusal := submeter.key_refusal(set_meter_clock.site_id, set_meter_clock.meter_id, at);
	IF refusal IS NOT NULL THEN
		PERFORM submeter.require_writable(set_meter_clock.site_id, set_meter_clock.meter_id, at);
	END IF;
	made := submeter.queue_service(set_meter_clock.site_id, set_meter_clock.meter_id, 'set_clock', set_meter_clock.reason, at);
	IF made IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('another command to meter %s is under way', set_meter_clock.meter_id),
			HINT = 'Wait until it is done (command_log shows it), then ask again.';
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.set_meter_clock(int, bigint, text) IS
'A person has date and time written to a meter (DL/T 645, with its password); read back like every command. Its freezes around that time are doubtful, so choose the moment. Returns the command_id. 55000 when it cannot be done, P0002 unknown meter.';

CREATE FUNCTION submeter.clock_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'clock_wrong', m.meter_id, NULL::bigint, s.clock_at, format('clock of meter %s: %s', m.code,
		coalesce(s.clock_error, format('%s s %s', abs(s.clock_offset_s), CASE WHEN s.clock_offset_s > 0 THEN 'ahead' ELSE 'behind' END)))
	FROM submeter.meter_state s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id AND m.retired_at IS NULL
	JOIN submeter.alarm_rule r ON r.rule = 'clock_wrong'
	WHERE s.site_id = clock_conditions.site_id AND (s.clock_error IS NOT NULL OR abs(s.clock_offset_s) > coalesce(r.threshold, 120))
	UNION ALL
	SELECT 'clock_host', NULL, NULL, clock_conditions.as_of, 'most meters agree on another time than the server''s'
	WHERE submeter.is_clock_host_doubtful(clock_conditions.site_id, clock_conditions.as_of)
$$;
COMMENT ON FUNCTION submeter.clock_conditions(int, timestamptz) IS
'Clocks of meters that are wrong beyond the threshold of the rule or show no time, and a server that most meters disagree with.';

GRANT EXECUTE ON FUNCTION submeter.claim_clocks(text, timestamptz), submeter.report_clocks(int, jsonb) TO submeter_poller;
