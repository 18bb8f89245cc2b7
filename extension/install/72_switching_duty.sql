-- Room: switching, what happens by itself: relays nobody switched, expiry, proof by reading. Lock order: see 72_switching.sql.

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
