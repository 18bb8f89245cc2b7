-- Room: poller. What the poller may ask and report: its plan, the commands it carries, and how the field fares.
-- A poller works at the sites its login is a member of. Everything here runs on the wall clock: breakers are real.

CREATE FUNCTION submeter.poller_sites() RETURNS int[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: the sites of the caller, and none at all in a copied database.
	PERFORM submeter.guard();
	RETURN submeter.my_sites();
END
$$;
COMMENT ON FUNCTION submeter.poller_sites() IS
'The sites the calling poller works at; 55000 in a copied database or one whose storage is older than its code.';

CREATE FUNCTION submeter.poller_gateways(poller text DEFAULT NULL, once boolean DEFAULT false)
RETURNS TABLE(site_id int, gateway_id bigint, code text, transport text, address text, timeout_ms int, gap_ms int, poll_interval_ms bigint,
	backup_address text, dial_in boolean, registration text, heartbeat text, heartbeat_answer text, tls boolean, q376_port int, q376_line int, held_by text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: poller_sites() guards and limits.
	SELECT g.site_id, g.gateway_id, g.code, g.transport, g.address, g.timeout_ms, g.gap_ms,
		(extract(epoch FROM g.poll_interval) * 1000)::bigint, g.backup_address, g.dial_in, g.registration, g.heartbeat, g.heartbeat_answer, g.tls,
		g.q376_port::int, g.q376_line::int, CASE WHEN poller_gateways.once THEN nullif(l.poller, poller_gateways.poller) END
	FROM submeter.gateway g
	LEFT JOIN submeter.gateway_lease l ON l.site_id = g.site_id AND l.gateway_id = g.gateway_id AND l.lease_until > clock_timestamp()
	WHERE g.site_id = ANY (submeter.poller_sites()) AND g.enabled
		AND (poller_gateways.poller IS NULL OR poller_gateways.once OR g.dial_in OR l.poller = poller_gateways.poller AND NOT l.leaving)
	ORDER BY g.site_id, g.gateway_id
$$;
COMMENT ON FUNCTION submeter.poller_gateways(text, boolean) IS
'The plan: enabled gateways, times in ms. For a poller: those it has leases on, and all that dial in. once: all, with the poller that holds each; without a name: all.';

CREATE FUNCTION submeter.poller_meters()
RETURNS TABLE(site_id int, meter_id bigint, gateway_id bigint, bus_address text, model text, refused text, ask_again_s int)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: poller_sites() guards and limits.
	SELECT m.site_id, m.meter_id, m.gateway_id, m.bus_address, m.model, s.refused,
		extract(epoch FROM s.refused_at + interval '1 day' - clock_timestamp())::int
	FROM submeter.meter m
	JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id AND s.refused_at > clock_timestamp() - interval '1 day'
	WHERE m.site_id = ANY (submeter.poller_sites()) AND m.retired_at IS NULL
	ORDER BY m.site_id, m.gateway_id, m.meter_id
$$;
COMMENT ON FUNCTION submeter.poller_meters() IS 'The plan: meters in service behind enabled gateways; refused: what a meter turned out not to have within the last day, and in how many seconds it is asked for again.';

CREATE FUNCTION submeter.poller_models() RETURNS TABLE(model text, max_registers int, max_gap int, turnaround_ms int, protocol text, keeps boolean)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: poller_sites() guards; models belong to all sites.
	SELECT o.model, o.max_registers, o.max_gap, o.turnaround_ms, o.protocol,
		EXISTS (SELECT FROM submeter.meter_history h WHERE h.model = o.model AND h.kind IN ('hourly', 'daily'))
	FROM submeter.meter_model o
	WHERE EXISTS (SELECT FROM submeter.meter m WHERE m.model = o.model AND m.site_id = ANY (submeter.poller_sites()))
	ORDER BY o.model
$$;
COMMENT ON FUNCTION submeter.poller_models() IS 'The plan: limits of the models in use, and whether they keep registers of each hour or day.';

CREATE FUNCTION submeter.poller_points()
RETURNS TABLE(model text, metric text, function int, address int, type text, scale text, bit_mask int, closed_value int, open_value int,
	di text, block_di text, block_offset int, bytes int, lock_mask int, lock_value int, keep_mask int, keep_value int)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: poller_sites() guards; models belong to all sites.
	SELECT p.model, p.metric, p.function::int, p.address, p.type, p.scale::text, p.bit_mask, p.closed_value, p.open_value,
		p.di, p.block_di, p.block_offset, p.bytes::int, p.lock_mask, p.lock_value, p.keep_mask, p.keep_value
	FROM submeter.meter_point p
	WHERE EXISTS (SELECT FROM submeter.meter m WHERE m.model = p.model AND m.site_id = ANY (submeter.poller_sites()))
	ORDER BY p.model, p.function, p.address, p.di, p.metric
$$;
COMMENT ON FUNCTION submeter.poller_points() IS 'The plan: registers and data items of the models in use; scale is a decimal number as text, raw x scale = value in Wh, V, A, W.';

CREATE FUNCTION submeter.poller_switches()
RETURNS TABLE(model text, action text, function int, address int, registers int[], settle_ms int, di text, valid_s int)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: poller_sites() guards; models belong to all sites.
	SELECT w.model, w.action, w.function::int, w.address, w.registers, w.settle_ms, w.di, w.valid_s
	FROM submeter.meter_switch w
	WHERE EXISTS (SELECT FROM submeter.meter m WHERE m.model = w.model AND m.site_id = ANY (submeter.poller_sites()))
	ORDER BY w.model, w.action
$$;
COMMENT ON FUNCTION submeter.poller_switches() IS 'The plan: the only writes that may ever be sent to a model, times in ms.';

CREATE FUNCTION submeter.return_hold_until(site_id int) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT s.recovered_at + p.return_hold
		FROM submeter.site s
		JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = s.default_policy_id
		WHERE s.site_id = return_hold_until.site_id);
END
$$;
COMMENT ON FUNCTION submeter.return_hold_until(int) IS
'Until when commands wait because the whole site came back from an outage; NULL when it never went.';

CREATE FUNCTION submeter.gone_since(site_id int) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- As long as the gateway that was seen last; one that was never seen says nothing.
	RETURN (SELECT max(coalesce(g.offline_since, g.last_contact_at + 3 * g.poll_interval))
		FROM submeter.gateway g
		WHERE g.site_id = gone_since.site_id AND g.enabled
		HAVING bool_and(g.last_contact_at IS NOT NULL));
END
$$;
COMMENT ON FUNCTION submeter.gone_since(int) IS
'Since when a whole site has not been heard of (in the future while it is); NULL when a gateway was never seen.';

CREATE FUNCTION submeter.is_site_held(site_id int, at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Readings may come in before the poller has told that the site is back: the hold begins with the outage.
	RETURN (SELECT coalesce(submeter.return_hold_until(s.site_id) > is_site_held.at, false)
			OR coalesce(is_site_held.at - submeter.gone_since(s.site_id) >= greatest(p.return_hold, interval '1 min'), false)
		FROM submeter.site s
		JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = s.default_policy_id
		WHERE s.site_id = is_site_held.site_id);
END
$$;
COMMENT ON FUNCTION submeter.is_site_held(int, timestamptz) IS
'Whether commands of a site wait because all of it is gone, or came back not long enough ago.';

CREATE FUNCTION submeter.claim_reads(poller text) RETURNS TABLE(site_id int, meter_id bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
BEGIN
	RETURN QUERY
	WITH due AS (
		SELECT r.site_id, r.meter_id
		FROM submeter.read_request r
		JOIN submeter.meter m ON m.site_id = r.site_id AND m.meter_id = r.meter_id
		WHERE r.site_id = ANY (sites) AND coalesce(r.claimed_at, '-infinity') < at - interval '30 s'
			AND (m.gateway_id IS NULL OR submeter.may_serve(m.site_id, m.gateway_id, claim_reads.poller, at))
			AND NOT EXISTS (
				SELECT FROM submeter.meter_state s
				WHERE s.site_id = r.site_id AND s.meter_id = r.meter_id AND s.received_at > r.requested_at)
		ORDER BY r.requested_at
		LIMIT 1000
		FOR UPDATE OF r SKIP LOCKED
	)
	UPDATE submeter.read_request r SET claimed_at = at
	FROM due d
	WHERE r.site_id = d.site_id AND r.meter_id = d.meter_id
	RETURNING r.site_id, r.meter_id;
END
$$;
COMMENT ON FUNCTION submeter.claim_reads(text) IS
'Meters somebody waits for, to be read before the routine; each is given out again after 30 s until its reading came.';

CREATE FUNCTION submeter.report_gateways(site_id int, gateways jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	outage interval;
	hold interval;
	restart interval;
BEGIN
	SELECT p.return_hold, (SELECT min(q.outage_restart) FROM submeter.credit_policy q WHERE q.site_id = p.site_id) INTO hold, restart
	FROM submeter.site s
	JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = s.default_policy_id
	WHERE s.site_id = report_gateways.site_id;
	outage := report_gateways.at - submeter.gone_since(report_gateways.site_id);
	UPDATE submeter.gateway g
	SET online = r.online,
		requests = g.requests + greatest(coalesce(r.requests, 0), 0),
		errors = g.errors + greatest(coalesce(r.errors, 0), 0),
		busy_ms = g.busy_ms + greatest(coalesce(r.busy_ms, 0), 0),
		-- Lately: about the last minute.
		utilisation = CASE WHEN r.over_ms > 0 THEN least(1, coalesce(g.utilisation, r.busy_ms::real / r.over_ms)
			+ (r.busy_ms::real / r.over_ms - coalesce(g.utilisation, r.busy_ms::real / r.over_ms)) * least(1, r.over_ms / 60000.0)) ELSE g.utilisation END,
		round_ms = coalesce(r.round_ms, g.round_ms),
		late_ms = CASE WHEN r.online THEN coalesce(r.late_ms, g.late_ms) END,
		last_error = r.last_error,
		via = coalesce(r.via, g.via),
		last_contact_at = CASE WHEN r.online THEN report_gateways.at ELSE g.last_contact_at END,
		-- A poller that was away itself says only now what went long ago.
		offline_since = CASE WHEN r.online THEN NULL
			WHEN r.online IS FALSE THEN coalesce(g.offline_since, least(report_gateways.at, g.last_contact_at + 3 * g.poll_interval)) ELSE g.offline_since END,
		recovered_at = CASE WHEN r.online AND report_gateways.at - coalesce(g.offline_since, g.last_contact_at + 3 * g.poll_interval) >= restart
			THEN report_gateways.at ELSE g.recovered_at END
	FROM jsonb_to_recordset(coalesce(report_gateways.gateways, '[]'))
		AS r(gateway_id bigint, online boolean, requests bigint, errors bigint, busy_ms bigint, over_ms bigint, round_ms int, late_ms int, last_error text, via text)
	WHERE g.site_id = report_gateways.site_id AND g.gateway_id = r.gateway_id;
	IF outage >= greatest(hold, interval '1 min') AND jsonb_path_exists(coalesce(report_gateways.gateways, '[]'), '$[*] ? (@.online == true)') THEN
		UPDATE submeter.site s SET recovered_at = report_gateways.at
		WHERE s.site_id = report_gateways.site_id;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.report_gateways(int, jsonb, timestamptz) IS
'Keeps the health of gateways: counters, since when one is gone, when one came back from an outage long enough to start lead times anew, and when the whole site came back.';

CREATE FUNCTION submeter.report_field(site_id int, gateways jsonb, meters jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.authorize('poller', report_field.site_id);
	IF coalesce(jsonb_typeof(report_field.gateways), 'array') <> 'array' OR coalesce(jsonb_typeof(report_field.meters), 'array') <> 'array' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'gateways and meters must be JSON arrays of objects',
			HINT = 'For example [{"gateway_id":1,"online":true,"requests":12,"errors":0,"round_ms":35,"last_error":null}].';
	END IF;
	PERFORM submeter.report_gateways(report_field.site_id, report_field.gateways, at);
	INSERT INTO submeter.meter_state AS s (site_id, meter_id, online, failures, last_error, last_contact_at, errors, refused, refused_at)
	SELECT m.site_id, m.meter_id, r.online, coalesce(r.failures, 0), r.last_error, CASE WHEN r.online THEN at END,
		greatest(coalesce(r.errors, 0), 0), r.refused, CASE WHEN r.refused IS NOT NULL THEN at END
	FROM jsonb_to_recordset(coalesce(report_field.meters, '[]')) AS r(meter_id bigint, online boolean, failures int, errors bigint, refused text, last_error text)
	JOIN submeter.meter m ON m.site_id = report_field.site_id AND m.meter_id = r.meter_id
	ORDER BY m.meter_id
	ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE
	SET online = EXCLUDED.online, failures = EXCLUDED.failures, last_error = EXCLUDED.last_error,
		last_contact_at = coalesce(EXCLUDED.last_contact_at, s.last_contact_at), errors = s.errors + EXCLUDED.errors, refused = EXCLUDED.refused,
		refused_at = CASE WHEN EXCLUDED.refused IS NOT DISTINCT FROM s.refused AND s.refused_at > at - interval '1 day' THEN s.refused_at ELSE EXCLUDED.refused_at END;
END
$$;
COMMENT ON FUNCTION submeter.report_field(int, jsonb, jsonb) IS
'How the field fares: per gateway online, requests, errors and time in use since the last report (busy_ms of over_ms), round_ms, late_ms, last_error; per meter online, failures in a row, errors since the last report, refused, last_error. Unknown ids are skipped. 22023 when malformed.';
