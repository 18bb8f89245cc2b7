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
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT a.policy_id
		FROM submeter.supply y
		JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
		WHERE y.site_id = s.site_id AND y.meter_id = meter_policy.meter_id AND y.during @> meter_policy.as_of), s.default_policy_id)
	FROM submeter.site s
	WHERE s.site_id = meter_policy.site_id
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

CREATE FUNCTION submeter.request_command(site_id int, meter_id bigint, action text, reason text, cause text DEFAULT NULL,
	not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	starts timestamptz := coalesce(request_command.not_before, request_command.as_of);
	ends timestamptz;
	made bigint;
BEGIN
	PERFORM submeter.authorize('request_command', request_command.site_id);
	IF request_command.action IS NULL OR request_command.action NOT IN ('open', 'close') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not an action', coalesce(quote_literal(request_command.action), 'NULL')),
			HINT = 'Use ''open'' or ''close''.';
	END IF;
	PERFORM submeter.require_text('reason', request_command.reason);
	PERFORM submeter.lock_meter(request_command.site_id, request_command.meter_id);
	IF EXISTS (
		SELECT FROM submeter.meter m
		WHERE m.site_id = request_command.site_id AND m.meter_id = request_command.meter_id AND m.retired_at IS NOT NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('meter %s is out of service', request_command.meter_id),
			HINT = 'Ask for the meter that replaced it.';
	END IF;
	PERFORM submeter.require_writable(request_command.site_id, request_command.meter_id, request_command.as_of);
	IF NOT submeter.can_switch(request_command.site_id, request_command.meter_id, request_command.action) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s cannot be switched: %s', request_command.meter_id, request_command.action),
			DETAIL = 'It has no gateway, or its model has no instruction for the action.',
			HINT = 'See meter.gateway_id and meter_switch.';
	END IF;
	SELECT coalesce(request_command.expires_at, starts + p.command_ttl) INTO ends FROM submeter.credit_policy p
	WHERE p.site_id = request_command.site_id
		AND p.policy_id = submeter.meter_policy(request_command.site_id, request_command.meter_id, request_command.as_of);
	IF NOT (isfinite(starts) AND isfinite(ends) AND starts < ends AND request_command.as_of < ends) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a command must be able to be sent before it expires',
			DETAIL = format('Not before %s, expires at %s.', starts, ends), HINT = 'Pass an expiry after not_before and after now.';
	END IF;
	IF request_command.action = 'open' THEN
		PERFORM submeter.check_open(request_command.site_id, request_command.meter_id, coalesce(request_command.cause, 'operator'));
	ELSIF request_command.cause IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a close has no cause', HINT = 'Leave cause out; the reason says why.';
	END IF;
	PERFORM submeter.require_approval('request_command', request_command.site_id,
		jsonb_build_object('meter_id', request_command.meter_id, 'action', request_command.action));
	IF request_command.action = 'close' THEN
		PERFORM submeter.release_causes(request_command.site_id, request_command.meter_id);
	END IF;
	made := submeter.queue_command(request_command.site_id, request_command.meter_id, request_command.action,
		CASE request_command.action WHEN 'open' THEN coalesce(request_command.cause, 'operator') END, request_command.reason,
		CASE WHEN request_command.action = 'open' THEN 'direct'
			ELSE replace(submeter.meter_close_mode(request_command.site_id, request_command.meter_id, request_command.as_of), 'confirm', 'direct') END,
		starts, ends, NULL, request_command.as_of);
	IF made IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('another command to meter %s is under way', request_command.meter_id),
			DETAIL = 'The opposite action may be on the wire or its outcome is not known yet.',
			HINT = 'Wait until it is confirmed or failed (command_log shows it), then ask again.';
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.request_command(int, bigint, text, text, text, timestamptz, timestamptz, timestamptz) IS
'A person opens or closes a breaker; returns the command_id (the pending one when the same is asked twice). open puts a cause on record (operator, alarm, schedule or vacant); close removes the causes a person may remove. 22023 bad action, cause or times; P0002 unknown or retired meter; 55000 cannot be switched, protected, causes remain, or the opposite is under way.';

CREATE FUNCTION submeter.lock_command(site_id int, command_id bigint, states text[] DEFAULT NULL) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found submeter.command%ROWTYPE;
BEGIN
	SELECT c.* INTO found FROM submeter.command c
	WHERE c.site_id = lock_command.site_id AND c.command_id = lock_command.command_id;
	IF found.command_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('command %s does not exist at site %s', lock_command.command_id, lock_command.site_id),
			HINT = 'SELECT * FROM submeter.command lists them.';
	END IF;
	PERFORM submeter.lock_meter(found.site_id, found.meter_id);
	SELECT c.* INTO found FROM submeter.command c
	WHERE c.site_id = lock_command.site_id AND c.command_id = lock_command.command_id
	FOR UPDATE;
	IF NOT found.state = ANY (lock_command.states) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('command %s is %s', found.command_id, found.state),
			DETAIL = format('This is possible while a command is %s.', array_to_string(lock_command.states, ' or ')),
			HINT = 'Look at the command again; ask for a new one if it is done.';
	END IF;
	RETURN found.state;
END
$$;
COMMENT ON FUNCTION submeter.lock_command(int, bigint, text[]) IS
'Locks a command (its meter first) and returns its state; P0002 when there is none, 55000 when it is in none of the wanted states.';

CREATE FUNCTION submeter.cancel_command(site_id int, command_id bigint, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('cancel_command', cancel_command.site_id);
	PERFORM submeter.require_text('reason', cancel_command.reason);
	PERFORM submeter.lock_command(cancel_command.site_id, cancel_command.command_id, '{held,queued}');
	PERFORM submeter.finish_command(cancel_command.site_id, cancel_command.command_id, 'cancelled',
		format('%s: %s', (submeter.me()).login, cancel_command.reason), clock_timestamp());
END
$$;
COMMENT ON FUNCTION submeter.cancel_command(int, bigint, text) IS
'Takes back a command nobody has begun with (held or queued); P0002 unknown, 55000 too late.';

CREATE FUNCTION submeter.confirm_command(site_id int, command_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	held submeter.command%ROWTYPE;
BEGIN
	PERFORM submeter.authorize('confirm_command', confirm_command.site_id);
	PERFORM submeter.lock_command(confirm_command.site_id, confirm_command.command_id, '{held}');
	SELECT c.* INTO held FROM submeter.command c
	WHERE c.site_id = confirm_command.site_id AND c.command_id = confirm_command.command_id;
	UPDATE submeter.command c
	SET state = 'queued', not_before = clock_timestamp(), detail = format('confirmed by %s', (submeter.me()).login),
		expires_at = clock_timestamp() + (
			SELECT p.command_ttl FROM submeter.credit_policy p
			WHERE p.site_id = held.site_id AND p.policy_id = submeter.meter_policy(held.site_id, held.meter_id, now()))
	WHERE c.site_id = held.site_id AND c.command_id = held.command_id;
END
$$;
COMMENT ON FUNCTION submeter.confirm_command(int, bigint) IS
'A person confirms a held close (close mode confirm): it is queued now. P0002 unknown, 55000 not held.';

CREATE FUNCTION submeter.set_lockout(site_id int, meter_id bigint, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	live submeter.command%ROWTYPE;
BEGIN
	PERFORM submeter.authorize('set_lockout', set_lockout.site_id);
	PERFORM submeter.require_text('reason', set_lockout.reason);
	PERFORM submeter.lock_meter(set_lockout.site_id, set_lockout.meter_id);
	SELECT c.* INTO live FROM submeter.command c
	WHERE c.site_id = set_lockout.site_id AND c.meter_id = set_lockout.meter_id AND submeter.is_live(c.state) AND c.action = 'close'
	FOR UPDATE;
	-- A tag that may be overtaken by a write on the wire would kill somebody: refuse it, loudly.
	IF live.state IN ('sent', 'unknown') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s cannot be locked out: a close is on the wire', set_lockout.meter_id),
			DETAIL = format('Command %s is %s.', live.command_id, live.state),
			HINT = 'Do not touch the installation. Try again when the command is done.';
	END IF;
	INSERT INTO submeter.open_cause (site_id, meter_id, cause, by, reason)
	VALUES (set_lockout.site_id, set_lockout.meter_id, 'lockout', (submeter.me()).login, set_lockout.reason)
	ON CONFLICT DO NOTHING;
	IF live.command_id IS NOT NULL THEN
		PERFORM submeter.finish_command(live.site_id, live.command_id, 'cancelled', 'locked out: ' || set_lockout.reason, clock_timestamp());
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.set_lockout(int, bigint, text) IS
'Hangs a tag on a breaker: nothing closes it until clear_lockout(). It does not open it. P0002 unknown meter; 55000 while a close is on the wire.';

CREATE FUNCTION submeter.clear_lockout(site_id int, meter_id bigint, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('clear_lockout', clear_lockout.site_id);
	PERFORM submeter.require_text('reason', clear_lockout.reason);
	PERFORM submeter.require_approval('clear_lockout', clear_lockout.site_id, jsonb_build_object('meter_id', clear_lockout.meter_id));
	RETURN submeter.remove_cause(clear_lockout.site_id, clear_lockout.meter_id, 'lockout', clear_lockout.reason);
END
$$;
COMMENT ON FUNCTION submeter.clear_lockout(int, bigint, text) IS
'Takes the tag off a breaker; when no cause is left it is closed as the policy says. Returns the close, if there is one. P0002 when there is no lockout.';

CREATE FUNCTION submeter.remove_cause(site_id int, meter_id bigint, cause text, reason text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.lock_meter(remove_cause.site_id, remove_cause.meter_id);
	DELETE FROM submeter.open_cause o
	WHERE o.site_id = remove_cause.site_id AND o.meter_id = remove_cause.meter_id AND o.cause = remove_cause.cause;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('meter %s has no cause %s on record', remove_cause.meter_id, remove_cause.cause),
			HINT = 'SELECT * FROM submeter.open_cause lists the causes.';
	END IF;
	RETURN submeter.settle_causes(remove_cause.site_id, remove_cause.meter_id, now(),
		format('%s removed: %s', remove_cause.cause, remove_cause.reason));
END
$$;
COMMENT ON FUNCTION submeter.remove_cause(int, bigint, text, text) IS
'Removes one cause and closes the breaker when it was the last; P0002 when it is not on record.';

CREATE FUNCTION submeter.clear_cause(site_id int, meter_id bigint, cause text, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('clear_cause', clear_cause.site_id);
	PERFORM submeter.require_text('reason', clear_cause.reason);
	IF clear_cause.cause = 'lockout' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'a lockout is not cleared as a cause',
			DETAIL = 'The tag hangs on a breaker somebody may be working at.', HINT = 'Use clear_lockout() once the tag is taken off.';
	END IF;
	PERFORM submeter.require_approval('clear_cause', clear_cause.site_id,
		jsonb_build_object('meter_id', clear_cause.meter_id, 'cause', clear_cause.cause));
	IF clear_cause.cause = 'arrears' THEN
		-- Whoever is let off is told again before being cut again.
		UPDATE submeter.account_state t
		SET arrears_since = NULL, announced_at = NULL, notice_id = NULL, lead = NULL, trip_due_at = NULL
		FROM submeter.supply y
		WHERE y.site_id = clear_cause.site_id AND y.meter_id = clear_cause.meter_id AND y.during @> now()
			AND t.site_id = y.site_id AND t.account_id = y.account_id;
	END IF;
	RETURN submeter.remove_cause(clear_cause.site_id, clear_cause.meter_id, clear_cause.cause, clear_cause.reason);
END
$$;
COMMENT ON FUNCTION submeter.clear_cause(int, bigint, text, text) IS
'Removes one open cause, also arrears (the account is then announced anew before it is cut again); returns the close if it was the last cause. P0002 not on record; 55000 for a lockout.';

CREATE FUNCTION submeter.request_read(site_id int, meter_id bigint, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('request_read', request_read.site_id);
	PERFORM submeter.require_text('reason', request_read.reason);
	IF NOT EXISTS (
		SELECT FROM submeter.meter m
		WHERE m.site_id = request_read.site_id AND m.meter_id = request_read.meter_id AND m.retired_at IS NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('meter %s is not in service at site %s', request_read.meter_id, request_read.site_id),
			HINT = 'SELECT meter_id, code FROM submeter.meter lists the meters.';
	END IF;
	PERFORM submeter.queue_read(request_read.site_id, request_read.meter_id, request_read.reason, clock_timestamp());
END
$$;
COMMENT ON FUNCTION submeter.request_read(int, bigint, text) IS
'Has a meter read at once, before the routine; P0002 for an unknown or retired meter.';

CREATE FUNCTION submeter.queue_read(site_id int, meter_id bigint, reason text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO submeter.read_request AS r (site_id, meter_id, requested_at, requested_by, reason)
	VALUES (queue_read.site_id, queue_read.meter_id, queue_read.as_of, (submeter.me()).login, queue_read.reason)
	ON CONFLICT ON CONSTRAINT read_request_pkey DO UPDATE
	SET requested_at = EXCLUDED.requested_at, reason = EXCLUDED.reason, claimed_at = NULL;
END
$$;
COMMENT ON FUNCTION submeter.queue_read(int, bigint, text, timestamptz) IS 'Notes that somebody or a decision waits for a reading of a meter.';

CREATE FUNCTION submeter.adopt_relay_states(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	seen record;
	changed int := 0;
BEGIN
	FOR seen IN
		SELECT m.meter_id, m.code, s.relay_at, c.action, c.finished_at, f.finished_at AS tried_at
		FROM submeter.meter_state s
		JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id AND m.retired_at IS NULL
		LEFT JOIN LATERAL (
			SELECT c.action, c.finished_at FROM submeter.command c
			WHERE c.site_id = s.site_id AND c.meter_id = s.meter_id AND c.state = 'confirmed' AND c.action IN ('open', 'close')
			ORDER BY c.command_id DESC LIMIT 1) c ON true
		LEFT JOIN LATERAL (
			SELECT max(c.finished_at) AS finished_at FROM submeter.command c
			WHERE c.site_id = s.site_id AND c.meter_id = s.meter_id AND c.action = 'close' AND c.state IN ('failed', 'expired', 'cancelled')) f ON true
		WHERE s.site_id = adopt_relay_states.site_id AND s.relay = 'open'
			AND NOT EXISTS (SELECT FROM submeter.open_cause o WHERE o.site_id = s.site_id AND o.meter_id = s.meter_id)
			AND NOT EXISTS (
				SELECT FROM submeter.command c
				WHERE c.site_id = s.site_id AND c.meter_id = s.meter_id
					AND c.state IN ('held', 'queued', 'claimed', 'sent', 'awaiting_key', 'unknown'))
		ORDER BY m.meter_id
	LOOP
		IF seen.action IS DISTINCT FROM 'open' THEN
			-- A reading from before the last close says nothing about now.
			CONTINUE WHEN seen.relay_at <= seen.finished_at;
			PERFORM submeter.lock_meter(adopt_relay_states.site_id, seen.meter_id);
			PERFORM submeter.note_breaker_event(adopt_relay_states.site_id, seen.meter_id, 'opened_by_hand', coalesce(seen.relay_at, adopt_relay_states.as_of));
			INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, by, reason)
			VALUES (adopt_relay_states.site_id, seen.meter_id, 'unknown', coalesce(seen.relay_at, adopt_relay_states.as_of), 'meter', 'found open')
			ON CONFLICT DO NOTHING;
			PERFORM submeter.raise_alarm(adopt_relay_states.site_id, 'breaker_unknown', seen.meter_id, NULL,
				format('breaker of meter %s found open; nobody had opened it from here', seen.code), adopt_relay_states.as_of);
			changed := changed + 1;
		ELSIF coalesce(seen.tried_at, '-infinity') + interval '10 min' <= adopt_relay_states.as_of THEN
			-- Opened from here, no cause left, and no close came of it: once more, but not in a hurry.
			IF submeter.switchings_left(adopt_relay_states.site_id, seen.meter_id, adopt_relay_states.as_of) > 0
				AND submeter.settle_causes(adopt_relay_states.site_id, seen.meter_id, adopt_relay_states.as_of, 'no cause is left') IS NOT NULL
			THEN
				changed := changed + 1;
			END IF;
		END IF;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.adopt_relay_states(int, timestamptz) IS
'Takes over what the meters say: an open breaker nobody opened from here gets the cause unknown and an alarm; one that was opened from here and has no cause left is closed (again, at most every 10 minutes). Returns how many were dealt with.';

CREATE FUNCTION submeter.switchings_left(site_id int, meter_id bigint, as_of timestamptz) RETURNS int
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.max_switchings_per_day - (
		SELECT count(*)::int FROM submeter.command c
		WHERE c.site_id = s.site_id AND c.meter_id = switchings_left.meter_id AND c.action IN ('open', 'close')
			AND c.sent_at >= ((switchings_left.as_of AT TIME ZONE s.time_zone)::date)::timestamp AT TIME ZONE s.time_zone)
	FROM submeter.site s
	JOIN submeter.credit_policy p ON p.site_id = s.site_id
		AND p.policy_id = submeter.meter_policy(s.site_id, switchings_left.meter_id, switchings_left.as_of)
	WHERE s.site_id = switchings_left.site_id
$$;
COMMENT ON FUNCTION submeter.switchings_left(int, bigint, timestamptz) IS
'How often the breaker of a meter may still be moved by rule on this local day; only commands that were sent count.';

CREATE FUNCTION submeter.expire_commands(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	found submeter.command%ROWTYPE;
	changed int := 0;
BEGIN
	FOR item IN
		SELECT c.command_id, c.meter_id FROM submeter.command c
		WHERE c.site_id = expire_commands.site_id AND c.state IN ('held', 'queued', 'claimed', 'sent', 'awaiting_key', 'unknown')
			AND (c.state IN ('held', 'queued') AND c.expires_at <= expire_commands.as_of
				OR c.state IN ('claimed', 'sent') AND c.lease_until <= expire_commands.as_of
				OR c.state = 'unknown' AND c.sent_at + interval '24 hours' <= expire_commands.as_of
				OR c.state = 'awaiting_key')
		ORDER BY c.meter_id
	LOOP
		PERFORM submeter.lock_meter(expire_commands.site_id, item.meter_id);
		SELECT c.* INTO found FROM submeter.command c
		WHERE c.site_id = expire_commands.site_id AND c.command_id = item.command_id
		FOR UPDATE;
		IF found.state IN ('held', 'queued') AND found.expires_at <= expire_commands.as_of THEN
			PERFORM submeter.finish_command(found.site_id, found.command_id, 'expired', 'not sent in time', expire_commands.as_of);
		ELSIF found.state = 'claimed' AND found.lease_until <= expire_commands.as_of THEN
			UPDATE submeter.command c SET state = 'queued', lease_until = NULL, claimed_by = NULL, detail = 'the poller that had it was lost before sending'
			WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
		ELSIF found.state = 'sent' AND found.lease_until <= expire_commands.as_of THEN
			-- claimed_by stays: the poller that sent it may still come back with the answer.
			UPDATE submeter.command c SET state = 'unknown', lease_until = NULL, detail = 'sent, and no word since: the breaker is read, not switched again'
			WHERE c.site_id = found.site_id AND c.command_id = found.command_id;
		ELSIF found.state = 'unknown' AND found.sent_at + interval '24 hours' <= expire_commands.as_of THEN
			PERFORM submeter.finish_command(found.site_id, found.command_id, 'failed', 'the breaker could not be read for 24 hours', expire_commands.as_of);
			PERFORM submeter.raise_alarm(found.site_id, 'command_failed', found.meter_id, NULL,
				format('%s, command %s: the breaker could not be read for 24 hours', found.action, found.command_id), expire_commands.as_of);
		ELSIF found.state = 'awaiting_key' THEN
			CONTINUE WHEN NOT submeter.confirm_by_reading(found.site_id, found.command_id, expire_commands.as_of);
		ELSE
			CONTINUE;
		END IF;
		changed := changed + 1;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.expire_commands(int, timestamptz) IS
'Ends commands whose time is over: unsent ones expire, a lost poller''s go back to the queue (unsent) or become unknown (sent), unknown ones fail after 24 hours. Returns how many changed.';

CREATE FUNCTION submeter.confirm_by_reading(site_id int, command_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen record;
BEGIN
	SELECT c.meter_id, s.relay_at INTO seen
	FROM submeter.command c
	JOIN submeter.meter_state s ON s.site_id = c.site_id AND s.meter_id = c.meter_id
	WHERE c.site_id = confirm_by_reading.site_id AND c.command_id = confirm_by_reading.command_id
		AND s.relay = 'closed' AND s.relay_at > c.sent_at;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM submeter.finish_command(confirm_by_reading.site_id, confirm_by_reading.command_id, 'confirmed', 'the key was pressed', confirm_by_reading.as_of);
	UPDATE submeter.command c
	SET relay_after = 'closed', evidence = coalesce(c.evidence, '{}') || jsonb_build_object('kind', 'reading', 'relay_at', seen.relay_at)
	WHERE c.site_id = confirm_by_reading.site_id AND c.command_id = confirm_by_reading.command_id;
	PERFORM submeter.tell_switched(confirm_by_reading.site_id, confirm_by_reading.command_id, confirm_by_reading.as_of);
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.confirm_by_reading(int, bigint, timestamptz) IS
'Confirms a close that waited for the key of the meter once a reading shows the contact closed; true when it did.';

CREATE FUNCTION submeter.tell_switched(site_id int, command_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done record;
BEGIN
	SELECT c.action, c.cause, y.account_id, p.mode, b.available,
		greatest(p.reconnect_balance, -p.credit_limit) - b.available AS missing
	INTO done
	FROM submeter.command c
	JOIN submeter.supply y ON y.site_id = c.site_id AND y.meter_id = c.meter_id AND y.during @> tell_switched.as_of
	JOIN submeter.credit_policy p ON p.site_id = c.site_id AND p.policy_id = submeter.meter_policy(c.site_id, c.meter_id, tell_switched.as_of)
	JOIN submeter.account_balances(tell_switched.site_id) b ON b.account_id = y.account_id
	WHERE c.site_id = tell_switched.site_id AND c.command_id = tell_switched.command_id;
	IF NOT FOUND OR done.mode = 'observe' OR done.action NOT IN ('open', 'close') OR done.action = 'open' AND done.cause IS DISTINCT FROM 'arrears' THEN
		RETURN;
	END IF;
	PERFORM submeter.queue_notice(tell_switched.site_id, done.account_id,
		CASE done.action WHEN 'open' THEN 'tripped' ELSE 'reconnected' END, format('switched:%s', tell_switched.command_id),
		jsonb_build_object('available', done.available, 'amount', greatest(done.missing, 0), 'at', tell_switched.as_of),
		tell_switched.as_of, true);
EXCEPTION WHEN OTHERS THEN
	-- What happened at the breaker must be recorded even if nobody can be told of it.
	RAISE WARNING USING ERRCODE = SQLSTATE, MESSAGE = format('notice about command %s could not be written: %s', tell_switched.command_id, SQLERRM);
END
$$;
COMMENT ON FUNCTION submeter.tell_switched(int, bigint, timestamptz) IS
'Writes the notices tripped (arrears only) and reconnected to the people of the account the meter feeds; never in mode observe.';

CREATE FUNCTION submeter.switch_duty(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changed int;
BEGIN
	PERFORM submeter.guard();
	changed := submeter.expire_commands(switch_duty.site_id, coalesce(switch_duty.as_of, clock_timestamp()));
	changed := changed + submeter.adopt_relay_states(switch_duty.site_id, coalesce(switch_duty.as_of, clock_timestamp()));
	DELETE FROM submeter.read_request r
	WHERE r.site_id = switch_duty.site_id AND (r.requested_at < coalesce(switch_duty.as_of, clock_timestamp()) - interval '1 hour'
		OR EXISTS (
			SELECT FROM submeter.meter_state s
			WHERE s.site_id = r.site_id AND s.meter_id = r.meter_id AND s.received_at > r.requested_at));
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.switch_duty(int, timestamptz) IS
'Duty: commands whose time is over, breakers found open, read requests that were answered. Returns how many commands and breakers it dealt with; 55000 in a copied database.';
