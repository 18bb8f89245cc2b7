-- Room: switching. Commands to breakers, the causes why a breaker is open, and what becomes of both.
-- Lock order: meter row, then command, then open_cause; everything that changes one of them takes the meter first.

CREATE FUNCTION submeter.wake_poller() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_notify('submeter_poller', TG_ARGV[0]);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.wake_poller() IS
'Trigger: tells listening pollers what changed, its argument being plan, command, read or clock.';

CREATE FUNCTION submeter.is_live(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT is_live.state IN ('held', 'queued', 'claimed', 'sent', 'awaiting_key', 'unknown')
$$;
COMMENT ON FUNCTION submeter.is_live(text) IS 'True for the states of a command that is not done yet; a meter has at most one of those.';

CREATE FUNCTION submeter.is_in_flight(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT is_in_flight.state IN ('claimed', 'sent', 'unknown')
$$;
COMMENT ON FUNCTION submeter.is_in_flight(text) IS 'True for the states in which a command may be on the wire: nothing supersedes it.';

CREATE FUNCTION submeter.lock_meter(site_id int, meter_id bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM submeter.meter m
	WHERE m.site_id = lock_meter.site_id AND m.meter_id = lock_meter.meter_id
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('meter %s does not exist at site %s', coalesce(lock_meter.meter_id::text, 'NULL'), lock_meter.site_id),
			HINT = 'SELECT meter_id, code FROM submeter.meter lists the meters.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.lock_meter(int, bigint) IS
'Takes the lock under which commands and causes of a meter change; P0002 for an unknown meter. Readings do not wait for it.';

CREATE FUNCTION submeter.meter_policy(site_id int, meter_id bigint, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce((
			SELECT a.policy_id
			FROM submeter.supply y
			JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
			WHERE y.site_id = s.site_id AND y.meter_id = meter_policy.meter_id AND y.during @> meter_policy.as_of), s.default_policy_id)
		FROM submeter.site s
		WHERE s.site_id = meter_policy.site_id);
END
$$;
COMMENT ON FUNCTION submeter.meter_policy(int, bigint, timestamptz) IS
'The credit policy that holds for a meter: that of the account it feeds, else the site''s.';

CREATE FUNCTION submeter.meter_close_mode(site_id int, meter_id bigint, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- A device that cannot wait for its key must not be closed from afar instead: a person confirms.
	SELECT CASE WHEN p.close_mode = 'local_key' AND NOT EXISTS (
			SELECT FROM submeter.meter m
			JOIN submeter.meter_switch w ON w.model = m.model AND w.action = 'permit_close'
			WHERE m.site_id = p.site_id AND m.meter_id = meter_close_mode.meter_id)
		THEN 'confirm' ELSE p.close_mode END
	FROM submeter.credit_policy p
	WHERE p.site_id = meter_close_mode.site_id
		AND p.policy_id = submeter.meter_policy(meter_close_mode.site_id, meter_close_mode.meter_id, meter_close_mode.as_of)
$$;
COMMENT ON FUNCTION submeter.meter_close_mode(int, bigint, timestamptz) IS
'How the breaker of a meter is closed by rule: direct, confirm or local_key; confirm where local_key is wanted and the model has no permit_close.';

CREATE FUNCTION submeter.can_switch(site_id int, meter_id bigint, action text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.meter m
		JOIN submeter.meter_switch w ON w.model = m.model
			AND (w.action = can_switch.action OR can_switch.action = 'close' AND w.action = 'permit_close')
		WHERE m.site_id = can_switch.site_id AND m.meter_id = can_switch.meter_id AND m.retired_at IS NULL AND m.gateway_id IS NOT NULL)
		AND submeter.write_refusal(can_switch.site_id, can_switch.meter_id, now()) IS NULL
$$;
COMMENT ON FUNCTION submeter.can_switch(int, bigint, text) IS
'True when a meter in service has a gateway, its model an instruction for the action (open or close), and nothing forbids to write to it.';

CREATE FUNCTION submeter.is_closed_by_hand(site_id int, meter_id bigint) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT c.action = 'open' AND c.state = 'confirmed' AND s.relay = 'closed' AND s.relay_at > c.finished_at
		FROM submeter.command c
		JOIN submeter.meter_state s ON s.site_id = c.site_id AND s.meter_id = c.meter_id
		WHERE c.site_id = is_closed_by_hand.site_id AND c.meter_id = is_closed_by_hand.meter_id AND c.action IN ('open', 'close')
			AND (c.state IN ('confirmed', 'failed') OR submeter.is_live(c.state))
		ORDER BY c.command_id DESC LIMIT 1), false)
		AND EXISTS (
			SELECT FROM submeter.open_cause o
			WHERE o.site_id = is_closed_by_hand.site_id AND o.meter_id = is_closed_by_hand.meter_id)
$$;
COMMENT ON FUNCTION submeter.is_closed_by_hand(int, bigint) IS
'True when the breaker was opened from here, is to be open, and reads closed: somebody closed it on the spot. Recorded, not called theft.';

CREATE FUNCTION submeter.finish_command(site_id int, command_id bigint, state text, detail text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done submeter.command%ROWTYPE;
BEGIN
	UPDATE submeter.command c
	SET state = finish_command.state, detail = finish_command.detail, finished_at = finish_command.as_of, lease_until = NULL
	WHERE c.site_id = finish_command.site_id AND c.command_id = finish_command.command_id
	RETURNING c.* INTO done;
	-- A breaker that was never opened is not on record as open; a tag is a person's word and stays.
	IF done.action = 'open' AND done.state IN ('failed', 'expired', 'cancelled') THEN
		DELETE FROM submeter.open_cause o
		WHERE o.site_id = done.site_id AND o.meter_id = done.meter_id AND o.command_id = done.command_id AND o.cause <> 'lockout'
			AND NOT EXISTS (
				SELECT FROM submeter.meter_state s
				WHERE s.site_id = done.site_id AND s.meter_id = done.meter_id AND s.relay = 'open');
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.finish_command(int, bigint, text, text, timestamptz) IS
'Ends a command; an open that never happened takes the causes it put on record with it.';

CREATE FUNCTION submeter.queue_command(site_id int, meter_id bigint, action text, cause text, reason text, close_mode text,
	not_before timestamptz, expires_at timestamptz, decision_id bigint, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	live submeter.command%ROWTYPE;
	is_open boolean;
	made bigint;
BEGIN
	PERFORM submeter.lock_meter(queue_command.site_id, queue_command.meter_id);
	SELECT c.* INTO live FROM submeter.command c
	WHERE c.site_id = queue_command.site_id AND c.meter_id = queue_command.meter_id AND submeter.is_live(c.state)
	FOR UPDATE;
	IF live.action = queue_command.action THEN
		made := live.command_id;
	ELSIF submeter.is_in_flight(live.state) THEN
		RETURN NULL;
	ELSE
		IF live.command_id IS NOT NULL THEN
			PERFORM submeter.finish_command(live.site_id, live.command_id, 'superseded',
				format('superseded by %s: %s', queue_command.action, queue_command.reason), queue_command.as_of);
		END IF;
		-- An open breaker needs another cause, not another command. A close is always read back: somebody waits for light.
		is_open := queue_command.action = 'open' AND EXISTS (
			SELECT FROM submeter.meter_state s
			WHERE s.site_id = queue_command.site_id AND s.meter_id = queue_command.meter_id AND s.relay = 'open');
		INSERT INTO submeter.command (site_id, meter_id, action, cause, reason, close_mode, state, requested_by, requested_at, not_before, expires_at,
			finished_at, relay_before, relay_after, evidence, detail, decision_id)
		SELECT queue_command.site_id, queue_command.meter_id, queue_command.action, queue_command.cause, queue_command.reason,
			coalesce(queue_command.close_mode, 'direct'),
			CASE WHEN is_open THEN 'confirmed' WHEN queue_command.close_mode = 'confirm' THEN 'held' ELSE 'queued' END,
			(submeter.me()).login, queue_command.as_of, queue_command.not_before, queue_command.expires_at,
			CASE WHEN is_open THEN queue_command.as_of END, CASE WHEN is_open THEN 'open' END, CASE WHEN is_open THEN 'open' END,
			CASE WHEN is_open THEN '{"kind": "relay", "already": true}'::jsonb END,
			CASE WHEN is_open THEN 'the breaker was open already' END, queue_command.decision_id
		RETURNING command_id INTO made;
	END IF;
	IF queue_command.action = 'open' THEN
		INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, by, command_id, reason)
		VALUES (queue_command.site_id, queue_command.meter_id, queue_command.cause, queue_command.as_of, (submeter.me()).login, made, queue_command.reason)
		ON CONFLICT DO NOTHING;
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.queue_command(int, bigint, text, text, text, text, timestamptz, timestamptz, bigint, timestamptz) IS
'Puts an open (with its cause) or close on the way and returns its command_id: the live one when the same action is pending, a confirmed one when it is to be opened and is open already. Supersedes what still waits; NULL when the opposite may be on the wire: try again later. Interlocks are the caller''s and send_command()''s.';

CREATE FUNCTION submeter.settle_causes(site_id int, meter_id bigint, as_of timestamptz, reason text, not_before timestamptz DEFAULT NULL, direct boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	live submeter.command%ROWTYPE;
	other text;
	starts timestamptz := coalesce(settle_causes.not_before, settle_causes.as_of);
	how text;
	ttl interval;
BEGIN
	PERFORM submeter.lock_meter(settle_causes.site_id, settle_causes.meter_id);
	SELECT o.cause INTO other FROM submeter.open_cause o
	WHERE o.site_id = settle_causes.site_id AND o.meter_id = settle_causes.meter_id
	ORDER BY o.cause IN ('lockout', 'unknown'), o.since LIMIT 1;
	SELECT c.* INTO live FROM submeter.command c
	WHERE c.site_id = settle_causes.site_id AND c.meter_id = settle_causes.meter_id AND submeter.is_live(c.state)
	FOR UPDATE;
	IF other IS NOT NULL THEN
		-- The breaker is to be open for another cause: a waiting open goes on under that one.
		UPDATE submeter.command c SET cause = nullif(other, 'unknown')
		WHERE live.state IN ('held', 'queued') AND live.action = 'open'
			AND c.site_id = live.site_id AND c.command_id = live.command_id
			AND NOT EXISTS (SELECT FROM submeter.open_cause o WHERE o.site_id = c.site_id AND o.meter_id = c.meter_id AND o.cause = c.cause);
		RETURN NULL;
	END IF;
	IF live.state IN ('held', 'queued') AND live.action = 'open' THEN
		PERFORM submeter.finish_command(live.site_id, live.command_id, 'cancelled', settle_causes.reason, settle_causes.as_of);
	ELSIF live.action IN ('open', 'close') OR submeter.is_in_flight(live.state) THEN
		RETURN CASE WHEN live.action = 'close' THEN live.command_id END;
	END IF;
	IF NOT EXISTS (
		SELECT FROM submeter.meter_state s
		WHERE s.site_id = settle_causes.site_id AND s.meter_id = settle_causes.meter_id AND s.relay = 'open')
		OR NOT submeter.can_switch(settle_causes.site_id, settle_causes.meter_id, 'close')
	THEN
		RETURN NULL;
	END IF;
	how := CASE WHEN settle_causes.direct THEN 'direct'
		ELSE submeter.meter_close_mode(settle_causes.site_id, settle_causes.meter_id, settle_causes.as_of) END;
	SELECT p.command_ttl INTO ttl FROM submeter.credit_policy p
	WHERE p.site_id = settle_causes.site_id
		AND p.policy_id = submeter.meter_policy(settle_causes.site_id, settle_causes.meter_id, settle_causes.as_of);
	RETURN submeter.queue_command(settle_causes.site_id, settle_causes.meter_id, 'close', NULL, settle_causes.reason, how, starts,
		starts + CASE how WHEN 'confirm' THEN interval '7 days' ELSE ttl END, NULL, settle_causes.as_of);
END
$$;
COMMENT ON FUNCTION submeter.settle_causes(int, bigint, timestamptz, text, timestamptz, boolean) IS
'After a cause was removed: when none is left, cancels a waiting open and, if the breaker is open, queues the close in the close mode of the policy (direct: at once, a person asked). Returns the close, else NULL.';

CREATE FUNCTION submeter.check_open(site_id int, meter_id bigint, cause text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class text;
	kept text;
BEGIN
	IF check_open.cause NOT IN ('operator', 'alarm', 'schedule', 'vacant') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a cause a person gives', check_open.cause),
			DETAIL = 'Arrears are decided by the policy, a lockout is a tag, unknown is what nobody asked for.',
			HINT = 'Use operator, alarm, schedule or vacant; set_lockout() hangs a tag.';
	END IF;
	SELECT m.protection, s.keep INTO class, kept
	FROM submeter.meter m
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	WHERE m.site_id = check_open.site_id AND m.meter_id = check_open.meter_id;
	IF class = 'life_safety' OR class = 'protected' AND check_open.cause = 'schedule' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s is protected (%s) and is not opened', check_open.meter_id, class),
			DETAIL = 'Life-safety supplies are never opened from here, protected ones neither for arrears nor by schedule.',
			HINT = 'An electrician switches it on the spot; the class is in meter.protection.';
	END IF;
	IF kept = 'on' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s keeps its power on (保电) and refuses to open', check_open.meter_id),
			DETAIL = 'The meter itself was told to keep power; it takes no trip until that is released.',
			HINT = 'Set meter.protection to none; the release is sent by itself, then ask again.';
	END IF;
	IF check_open.cause IN ('schedule', 'vacant') AND submeter.rule_refusal(check_open.site_id, check_open.meter_id, now()) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s is %s', check_open.meter_id,
				submeter.rule_refusal(check_open.site_id, check_open.meter_id, now())),
			DETAIL = 'It is not proved whom it feeds, so it is opened neither by schedule nor as vacant.',
			HINT = 'Put it into service with commission_meter(); a person who stands before it uses the cause operator.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_open(int, bigint, text) IS
'Refuses an open whose cause is not a person''s (22023), against a protection, or for a rule''s cause at a meter that is not in service (55000).';

CREATE FUNCTION submeter.release_causes(site_id int, meter_id bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	remaining text;
BEGIN
	DELETE FROM submeter.open_cause o
	WHERE o.site_id = release_causes.site_id AND o.meter_id = release_causes.meter_id AND o.cause NOT IN ('arrears', 'lockout');
	SELECT string_agg(o.cause, ', ' ORDER BY o.cause) INTO remaining FROM submeter.open_cause o
	WHERE o.site_id = release_causes.site_id AND o.meter_id = release_causes.meter_id;
	IF remaining IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the breaker of meter %s has causes to stay open: %s', release_causes.meter_id, remaining),
			DETAIL = 'A breaker closes only when no cause is left.',
			HINT = 'Arrears go with a recharge (or clear_cause() by a manager), a lockout with clear_lockout() once its tag is taken off.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.release_causes(int, bigint) IS
'Removes the causes a person''s close takes away (operator, vacant, schedule, alarm, unknown); 55000 with the list when arrears or a lockout remain.';
