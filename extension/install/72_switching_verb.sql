-- Room: switching, what people ask for: commands, tags, causes, readings. Lock order: see 72_switching.sql.

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
