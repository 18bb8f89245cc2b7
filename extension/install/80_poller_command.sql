-- Room: poller. Commands on their way: who may take one, whether it may still be sent, and what its answer proves.

CREATE FUNCTION submeter.claim_commands(poller text, max_commands int)
RETURNS TABLE(site_id int, command_id bigint, meter_id bigint, gateway_id bigint, action text, step text, close_mode text, expires_in_ms bigint,
	clock_di text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.require_text('poller', claim_commands.poller);
	RETURN QUERY
	WITH open_site AS MATERIALIZED (
		SELECT s.site_id, coalesce(submeter.is_site_held(s.site_id, at), false) AS held
		FROM unnest(sites) s(site_id)
	), due AS (
		SELECT c.site_id, c.command_id, g.timeout_ms
		FROM open_site s
		JOIN submeter.command c ON c.site_id = s.site_id
		JOIN submeter.meter m ON m.site_id = c.site_id AND m.meter_id = c.meter_id
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
		WHERE (c.state = 'queued' AND c.not_before <= at AND c.expires_at > at AND NOT s.held
				OR c.state = 'claimed' AND c.lease_until <= at AND c.expires_at > at AND NOT s.held
				OR c.state = 'unknown' AND coalesce(c.lease_until, '-infinity') <= at)
			AND coalesce(c.retry_at, '-infinity') <= at
			AND submeter.may_serve(c.site_id, m.gateway_id, claim_commands.poller, at)
		ORDER BY c.not_before, c.command_id
		LIMIT greatest(coalesce(claim_commands.max_commands, 0), 0)
		FOR UPDATE OF c SKIP LOCKED
	), claimed AS (
		UPDATE submeter.command c
		SET state = CASE c.state WHEN 'unknown' THEN 'unknown' ELSE 'claimed' END, claimed_by = claim_commands.poller,
			-- A carrier takes its time for each question.
			lease_until = at + interval '30 s' + interval '4 ms' * d.timeout_ms, attempts = c.attempts + 1
		FROM due d
		WHERE c.site_id = d.site_id AND c.command_id = d.command_id
		RETURNING c.site_id, c.command_id, c.meter_id, c.action, c.state, c.close_mode, c.not_before, c.expires_at
	)
	SELECT c.site_id, c.command_id, c.meter_id, m.gateway_id, c.action,
		CASE c.state WHEN 'unknown' THEN 'verify' ELSE 'switch' END, c.close_mode,
		CASE c.state WHEN 'unknown' THEN 30000 ELSE (extract(epoch FROM c.expires_at - at) * 1000)::bigint END,
		CASE WHEN c.action = 'set_clock' OR c.state <> 'unknown' AND NOT submeter.is_clock_fresh(c.site_id, c.meter_id, at)
			THEN submeter.command_clock(c.site_id, c.meter_id, c.action) END
	FROM claimed c
	JOIN submeter.meter m ON m.site_id = c.site_id AND m.meter_id = c.meter_id
	ORDER BY c.not_before, c.command_id;
END
$$;
COMMENT ON FUNCTION submeter.claim_commands(text, int) IS
'Gives a poller up to max_commands due commands for 30 s: step switch (carry it out) or verify (only read the breaker: an earlier attempt''s outcome is unknown); clock_di is that of the meter''s clock, when it is to be read and told to send_command(). Nothing in a copied database (55000) nor while a whole site is gone or has just come back.';

CREATE FUNCTION submeter.open_refusal(site_id int, meter_id bigint, cause text, at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f record;
BEGIN
	SELECT m.protection, s.keep, y.account_id, a.mode AS account_mode, t.notice_id, t.trip_due_at, p.credit_limit, p.policy_id,
		p.max_switchings_per_day INTO f
	FROM submeter.meter m
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	LEFT JOIN submeter.supply y ON y.site_id = m.site_id AND y.meter_id = m.meter_id AND y.during @> open_refusal.at
	LEFT JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
	LEFT JOIN submeter.account_state t ON t.site_id = y.site_id AND t.account_id = y.account_id
	LEFT JOIN submeter.credit_policy p ON p.site_id = m.site_id AND p.policy_id = submeter.meter_policy(m.site_id, m.meter_id, open_refusal.at)
	WHERE m.site_id = open_refusal.site_id AND m.meter_id = open_refusal.meter_id;
	RETURN CASE
		WHEN f.protection = 'life_safety' THEN 'life-safety supply'
		WHEN f.keep = 'on' THEN 'the meter keeps its power on'
		WHEN NOT EXISTS (
			SELECT FROM submeter.open_cause o
			WHERE o.site_id = open_refusal.site_id AND o.meter_id = open_refusal.meter_id AND o.cause = open_refusal.cause)
			THEN 'its cause is gone'
		WHEN open_refusal.cause IN ('arrears', 'schedule', 'vacant')
			AND submeter.rule_refusal(open_refusal.site_id, open_refusal.meter_id, open_refusal.at) IS NOT NULL
			THEN submeter.rule_refusal(open_refusal.site_id, open_refusal.meter_id, open_refusal.at)
		WHEN open_refusal.cause NOT IN ('arrears', 'schedule') THEN NULL
		WHEN f.protection = 'protected' THEN 'protected supply'
		WHEN submeter.in_no_trip_window(open_refusal.site_id, f.policy_id, open_refusal.at) THEN 'in a no-trip window'
		WHEN submeter.switchings_left(open_refusal.site_id, open_refusal.meter_id, open_refusal.at) <= 0 THEN 'switched too often today'
		WHEN open_refusal.cause = 'schedule' THEN NULL
		WHEN f.account_id IS NULL OR f.account_mode = 'postpaid' THEN 'the meter feeds no prepaid account'
		WHEN coalesce((
			SELECT b.available >= -f.credit_limit FROM submeter.account_balances(open_refusal.site_id) b
			WHERE b.account_id = f.account_id), true) THEN 'no longer in arrears'
		WHEN EXISTS (
			SELECT FROM submeter.payment_order o
			WHERE o.site_id = open_refusal.site_id AND o.account_id = f.account_id AND o.state = 'open' AND o.expires_at > open_refusal.at)
			THEN 'a payment is under way'
		WHEN NOT EXISTS (SELECT FROM submeter.payment_channel c WHERE c.site_id = open_refusal.site_id AND c.works) THEN 'no way of paying works'
		WHEN submeter.told_at(open_refusal.site_id, f.account_id, f.notice_id) IS NULL OR f.trip_due_at IS NULL THEN 'nobody was told'
	END;
END
$$;
COMMENT ON FUNCTION submeter.open_refusal(int, bigint, text, timestamptz) IS
'Why an open must not be sent now, NULL when it may: the interlocks, checked once more just before the wire. What a rule asks for (arrears, schedule, vacant) needs a meter in service. Those of arrears also look at balance, payments, announcement, windows and switchings of the day.';

CREATE FUNCTION submeter.close_refusal(site_id int, meter_id bigint) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'causes to stay open: ' || string_agg(o.cause, ', ' ORDER BY o.cause)
	FROM submeter.open_cause o
	WHERE o.site_id = close_refusal.site_id AND o.meter_id = close_refusal.meter_id
$$;
COMMENT ON FUNCTION submeter.close_refusal(int, bigint) IS 'Why a close must not be sent now: the causes left; NULL when there is none.';

CREATE FUNCTION submeter.service_refusal(site_id int, meter_id bigint, action text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN service_refusal.action = 'keep' AND m.protection = 'none' THEN 'the meter is protected no longer'
		WHEN service_refusal.action = 'release' AND m.protection <> 'none' THEN 'the meter is protected' END
	FROM submeter.meter m
	WHERE m.site_id = service_refusal.site_id AND m.meter_id = service_refusal.meter_id
$$;
COMMENT ON FUNCTION submeter.service_refusal(int, bigint, text) IS 'Why a keep or release must not be sent now; NULL when it may.';

CREATE FUNCTION submeter.valid_until(site_id int, meter_id bigint, action text, permit boolean, at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- By the meter's own clock, and short: whoever records the frame cannot use it again.
	SELECT to_char((valid_until.at AT TIME ZONE e.time_zone) + make_interval(secs => coalesce(s.clock_offset_s, 0) + w.valid_s), 'YYMMDDHH24MISS')
	FROM submeter.meter m
	JOIN submeter.site e ON e.site_id = m.site_id
	JOIN submeter.meter_switch w ON w.model = m.model AND w.function = 28
		AND w.action = CASE WHEN valid_until.permit AND valid_until.action = 'close' THEN 'permit_close' ELSE valid_until.action END
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	WHERE m.site_id = valid_until.site_id AND m.meter_id = valid_until.meter_id
$$;
COMMENT ON FUNCTION submeter.valid_until(int, bigint, text, boolean, timestamptz) IS
'Until when a meter may obey a command of DL/T 645, YYMMDDhhmmss by its own clock; NULL for other ways of switching.';

CREATE FUNCTION submeter.send_command(site_id int, command_id bigint, poller text, meter_clock text DEFAULT NULL)
RETURNS TABLE(go boolean, reason text, level int, password text, operator text, valid_until text, local_time text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	at timestamptz := clock_timestamp();
	found submeter.command%ROWTYPE;
	refusal text;
	key record;
BEGIN
	PERFORM submeter.authorize('poller', send_command.site_id);
	PERFORM submeter.lock_command(send_command.site_id, send_command.command_id);
	SELECT c.* INTO found FROM submeter.command c
	WHERE c.site_id = send_command.site_id AND c.command_id = send_command.command_id;
	IF found.state <> 'claimed' OR found.claimed_by IS DISTINCT FROM send_command.poller THEN
		RETURN QUERY SELECT false, CASE found.state WHEN 'claimed' THEN 'another poller has the command' ELSE format('the command is %s', found.state) END,
			NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END IF;
	IF NOT (SELECT submeter.may_serve(m.site_id, m.gateway_id, send_command.poller, at) FROM submeter.meter m
			WHERE m.site_id = found.site_id AND m.meter_id = found.meter_id AND m.gateway_id IS NOT NULL) THEN
		RETURN QUERY SELECT false, 'another poller has the gateway', NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END IF;
	IF found.expires_at <= at THEN
		PERFORM submeter.finish_command(found.site_id, found.command_id, 'expired', 'not sent in time', at);
		RETURN QUERY SELECT false, 'expired'::text, NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END IF;
	IF send_command.meter_clock IS NOT NULL THEN
		PERFORM submeter.note_clock(found.site_id, found.meter_id, send_command.meter_clock, NULL, at);
	END IF;
	refusal := coalesce(
		CASE found.action WHEN 'open' THEN submeter.open_refusal(found.site_id, found.meter_id, found.cause, at)
			WHEN 'close' THEN submeter.close_refusal(found.site_id, found.meter_id)
			ELSE submeter.service_refusal(found.site_id, found.meter_id, found.action) END,
		CASE found.action WHEN 'set_clock' THEN submeter.key_refusal(found.site_id, found.meter_id, at)
			ELSE submeter.write_refusal(found.site_id, found.meter_id, at) END);
	IF refusal IS NOT NULL THEN
		PERFORM submeter.finish_command(found.site_id, found.command_id, 'cancelled', refusal, at);
		RETURN QUERY SELECT false, refusal, NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END IF;
	IF found.action <> 'set_clock' AND submeter.command_clock(found.site_id, found.meter_id, found.action) IS NOT NULL
		AND NOT submeter.is_clock_fresh(found.site_id, found.meter_id, at)
	THEN
		UPDATE submeter.command c
		SET state = 'queued', lease_until = NULL, claimed_by = NULL, retry_at = at + interval '1 s', detail = 'the clock of the meter is to be read first'
		WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
		RETURN QUERY SELECT false, 'the clock of the meter is to be read first', NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END IF;
	SELECT NULL::int AS level, NULL::text AS password, NULL::text AS operator INTO key;
	BEGIN
		IF submeter.needs_key(found.site_id, found.meter_id) THEN
			SELECT * INTO key FROM submeter.take_key(found.site_id, found.meter_id);
		END IF;
	EXCEPTION WHEN SQLSTATE '55000' OR SQLSTATE 'XX001' OR SQLSTATE '22023' THEN
		-- The server has lost the key that opens it: somebody has to put that right, and the command waits as long as it may.
		refusal := 'the password cannot be opened: ' || SQLERRM;
		UPDATE submeter.command c
		SET state = 'queued', lease_until = NULL, claimed_by = NULL, retry_at = at + interval '1 min', detail = refusal
		WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
		RETURN QUERY SELECT false, refusal, NULL::int, NULL::text, NULL::text, NULL::text, NULL::text;
		RETURN;
	END;
	UPDATE submeter.command c
	SET state = 'sent', sent_at = at, lease_until = at + interval '1 min' + interval '2 ms' * coalesce((
		SELECT max(w.settle_ms) + 2 * max(g.timeout_ms) FROM submeter.meter m
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
		LEFT JOIN submeter.meter_switch w ON w.model = m.model
		WHERE m.site_id = c.site_id AND m.meter_id = c.meter_id), 0)
	WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
	RETURN QUERY
	SELECT true, NULL::text, key.level, key.password, key.operator,
		submeter.valid_until(found.site_id, found.meter_id, found.action, found.close_mode = 'local_key', at),
		to_char(at AT TIME ZONE e.time_zone, 'YYMMDDHH24MISS')
	FROM submeter.site e
	WHERE e.site_id = found.site_id;
END
$$;
COMMENT ON FUNCTION submeter.send_command(int, bigint, text, text) IS
'The last check before the wire: go = true means the command is on record as sent and may be written once; otherwise reason says why not, and the command is over (or waits for the clock of the meter to be read). For DL/T 645 the password, given out for this one write, until when the meter may obey by its own clock, and the local time for setting it. meter_clock is what the clock of the meter showed just now. P0002 unknown command.';

CREATE FUNCTION submeter.report_command(site_id int, command_id bigint, poller text, outcome text, relay_before text, relay_after text,
	evidence jsonb, detail text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	at timestamptz := clock_timestamp();
	found submeter.command%ROWTYPE;
	verdict text;
BEGIN
	PERFORM submeter.authorize('poller', report_command.site_id);
	IF report_command.outcome IS NULL OR report_command.outcome NOT IN ('confirmed', 'failed', 'refused', 'awaiting_key', 'unknown', 'returned')
		OR report_command.relay_before NOT IN ('open', 'closed') OR report_command.relay_after NOT IN ('open', 'closed')
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the report of a command is malformed',
			DETAIL = format('Outcome %s, relay before %s, after %s.', report_command.outcome, report_command.relay_before, report_command.relay_after),
			HINT = 'Outcomes are confirmed, failed, refused, awaiting_key, unknown, returned; a relay is open, closed or NULL.';
	END IF;
	PERFORM submeter.lock_command(report_command.site_id, report_command.command_id);
	SELECT c.* INTO found FROM submeter.command c
	WHERE c.site_id = report_command.site_id AND c.command_id = report_command.command_id;
	-- That the meter refused a password counts whoever says so and however late: it was counted there, too.
	IF report_command.outcome = 'refused' AND NOT (submeter.is_in_flight(found.state) AND found.claimed_by IS NOT DISTINCT FROM report_command.poller) THEN
		PERFORM submeter.note_key(found.site_id, found.meter_id, 'refused', false, at);
	END IF;
	-- A late report, or one of a poller that has lost the command, changes nothing else.
	IF NOT submeter.is_in_flight(found.state) OR found.claimed_by IS DISTINCT FROM report_command.poller THEN
		RETURN found.state;
	END IF;
	verdict := submeter.command_verdict(found.action, found.state, report_command.outcome, report_command.relay_after, report_command.evidence);
	UPDATE submeter.command c
	SET state = CASE WHEN submeter.is_live(verdict) THEN verdict ELSE c.state END,
		relay_before = coalesce(report_command.relay_before, c.relay_before), relay_after = coalesce(report_command.relay_after, c.relay_after),
		evidence = CASE WHEN report_command.evidence IS NULL THEN c.evidence ELSE coalesce(c.evidence, '{}') || report_command.evidence END,
		detail = coalesce(report_command.detail, c.detail), lease_until = NULL,
		sent_at = CASE WHEN verdict = 'unknown' THEN coalesce(c.sent_at, at) ELSE c.sent_at END,
		retry_at = CASE WHEN verdict IN ('queued', 'unknown') THEN at + interval '1 s' * least(power(2, least(c.attempts, 9)), 300) END
	WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
	PERFORM submeter.note_relay(found.site_id, found.meter_id, coalesce(report_command.relay_after,
		CASE WHEN verdict = 'confirmed' THEN CASE found.action WHEN 'open' THEN 'open' WHEN 'close' THEN 'closed' END END), at);
	PERFORM submeter.note_keep(found.site_id, found.meter_id, coalesce(report_command.evidence #>> '{after,keep}', report_command.evidence #>> '{before,keep}',
		-- A model that does not show it: its acknowledgement is all there is.
		CASE WHEN verdict = 'confirmed' THEN CASE found.action WHEN 'keep' THEN 'on' WHEN 'release' THEN 'off' END END), at);
	IF report_command.evidence ? 'clock' THEN
		PERFORM submeter.note_clock(found.site_id, found.meter_id, report_command.evidence ->> 'clock', NULL,
			at - interval '1 ms' * greatest(coalesce((report_command.evidence ->> 'clock_age_ms')::bigint, 0), 0));
	END IF;
	IF found.sent_at IS NOT NULL THEN
		PERFORM submeter.note_key(found.site_id, found.meter_id, report_command.outcome,
			-- A meter that says anything but that the password is wrong has taken it.
			coalesce((report_command.evidence #>> '{write,echo}')::boolean, false) OR report_command.evidence #> '{write,error}' IS NOT NULL
				OR verdict = 'confirmed' AND NOT coalesce((report_command.evidence ->> 'already')::boolean, false), at);
	END IF;
	-- Refused for another reason: its clock may have changed since it was read, so it is read before the next command.
	UPDATE submeter.meter_state s SET clock_at = NULL
	WHERE report_command.evidence #> '{write,error}' IS NOT NULL AND s.site_id = found.site_id AND s.meter_id = found.meter_id;
	IF verdict = 'awaiting_key' THEN
		PERFORM submeter.tell_press_key(found.site_id, found.command_id, 0, at);
	ELSIF NOT submeter.is_live(verdict) THEN
		PERFORM submeter.finish_command(found.site_id, found.command_id, verdict, coalesce(report_command.detail, verdict), at);
		PERFORM submeter.command_done(found.site_id, found.command_id, at);
	END IF;
	RETURN verdict;
END
$$;
COMMENT ON FUNCTION submeter.report_command(int, bigint, text, text, text, text, jsonb, text) IS
'What became of a command: confirmed, failed, refused (the meter does not take its password), awaiting_key, unknown (sent, not read back) or returned (nothing was sent); returns its state now. Late or foreign reports change nothing but what is known of the password. 22023 malformed, P0002 unknown command.';

CREATE FUNCTION submeter.command_verdict(action text, state text, outcome text, relay_after text, evidence jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		-- Believed only when the meter says so: in the wanted position, or with other evidence that is named.
		WHEN command_verdict.outcome = 'confirmed' AND (command_verdict.action NOT IN ('open', 'close') AND command_verdict.evidence ->> 'kind' IS NOT NULL
				OR command_verdict.action IN ('open', 'close') AND command_verdict.relay_after = CASE command_verdict.action WHEN 'open' THEN 'open' ELSE 'closed' END
				OR command_verdict.action IN ('open', 'close') AND command_verdict.relay_after IS NULL AND command_verdict.evidence ->> 'kind' IS NOT NULL)
			THEN 'confirmed'
		WHEN command_verdict.outcome IN ('failed', 'refused') THEN 'failed'
		WHEN command_verdict.outcome = 'awaiting_key' AND command_verdict.action = 'close' AND command_verdict.state = 'sent' THEN 'awaiting_key'
		WHEN command_verdict.outcome = 'returned' AND command_verdict.state = 'claimed' THEN 'queued'
		ELSE 'unknown' END
$$;
COMMENT ON FUNCTION submeter.command_verdict(text, text, text, text, jsonb) IS
'The state a command takes after a report: a confirmation without evidence or against the relay read back is unknown, never a success; what was sent is never queued again.';

CREATE FUNCTION submeter.note_relay(site_id int, meter_id bigint, relay text, at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.meter_state AS s (site_id, meter_id, relay, relay_at)
	SELECT note_relay.site_id, note_relay.meter_id, note_relay.relay, note_relay.at
	WHERE note_relay.relay IS NOT NULL
	ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE SET relay = EXCLUDED.relay, relay_at = EXCLUDED.relay_at
	WHERE s.relay_at IS NULL OR s.relay_at < EXCLUDED.relay_at
$$;
COMMENT ON FUNCTION submeter.note_relay(int, bigint, text, timestamptz) IS 'Keeps the position of a contact as it was read back, if that is newer than what is known.';

CREATE FUNCTION submeter.command_done(site_id int, command_id bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done submeter.command%ROWTYPE;
BEGIN
	SELECT c.* INTO done FROM submeter.command c
	WHERE c.site_id = command_done.site_id AND c.command_id = command_done.command_id;
	-- Other writes have conditions of their own: keep_failed, clock_wrong.
	IF done.action NOT IN ('open', 'close') THEN
		RETURN;
	END IF;
	IF done.state = 'failed' THEN
		PERFORM submeter.raise_alarm(done.site_id, CASE done.evidence ->> 'kind' WHEN 'local_lock' THEN 'breaker_locked' ELSE 'command_failed' END, done.meter_id, NULL,
			format('%s, command %s: %s', done.action, done.command_id, done.detail), command_done.at);
		RETURN;
	END IF;
	PERFORM submeter.clear_alarm(done.site_id, 'command_failed', done.meter_id, NULL, command_done.at);
	PERFORM submeter.clear_alarm(done.site_id, 'breaker_locked', done.meter_id, NULL, command_done.at);
	PERFORM submeter.clear_alarm(done.site_id, 'command_unknown', done.meter_id, NULL, command_done.at);
	UPDATE submeter.open_cause o SET command_id = done.command_id
	WHERE done.action = 'open' AND o.site_id = done.site_id AND o.meter_id = done.meter_id AND o.cause = done.cause;
	PERFORM submeter.tell_switched(done.site_id, done.command_id, command_done.at);
	-- Paid while the open was on the wire: it goes straight back.
	IF done.action = 'open' THEN
		PERFORM submeter.settle_causes(done.site_id, done.meter_id, command_done.at, 'no cause is left');
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.command_done(int, bigint, timestamptz) IS
'What follows from a confirmed or failed command: alarms, notices, and a close at once when the cause of an open went away while it was on the wire.';

GRANT EXECUTE ON FUNCTION submeter.poller_gateways(text, boolean), submeter.poller_meters(), submeter.poller_models(), submeter.poller_points(),
	submeter.poller_switches(), submeter.claim_commands(text, int), submeter.send_command(int, bigint, text, text),
	submeter.report_command(int, bigint, text, text, text, text, jsonb, text), submeter.claim_reads(text),
	submeter.report_field(int, jsonb, jsonb) TO submeter_poller;
