-- Room: policy, effects: decisions become notices and commands.

CREATE FUNCTION submeter.policy_announce(site_id int, account_id bigint, available numeric, lead interval, due_at timestamptz, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	told bigint;
	missing numeric;
BEGIN
	SELECT greatest(p.reconnect_balance, -p.credit_limit) - policy_announce.available INTO missing
	FROM submeter.account a
	JOIN submeter.site s ON s.site_id = a.site_id
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
	WHERE a.site_id = policy_announce.site_id AND a.account_id = policy_announce.account_id;
	UPDATE submeter.notice n SET state = 'cancelled'
	WHERE n.site_id = policy_announce.site_id AND n.account_id = policy_announce.account_id AND n.kind = 'trip_announced' AND n.state = 'queued';
	told := submeter.queue_notice(policy_announce.site_id, policy_announce.account_id, 'trip_announced',
		format('trip_announced:%s:%s', policy_announce.account_id, extract(epoch FROM policy_announce.as_of)),
		jsonb_build_object('available', policy_announce.available, 'arrears', greatest(-policy_announce.available, 0), 'amount', missing,
			'due_at', policy_announce.due_at), policy_announce.as_of, true);
	UPDATE submeter.account_state t
	SET announced_at = policy_announce.as_of, notice_id = told, lead = policy_announce.lead, trip_due_at = policy_announce.due_at
	WHERE t.site_id = policy_announce.site_id AND t.account_id = policy_announce.account_id;
END
$$;
COMMENT ON FUNCTION submeter.policy_announce(int, bigint, numeric, interval, timestamptz, timestamptz) IS
'Announces a trip to the people of an account (urgent: also in quiet hours) and starts its lead time; an announcement not delivered yet is replaced.';

CREATE FUNCTION submeter.policy_trip(site_id int, account_id bigint, policy_id bigint, reason text, decision_id bigint, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target bigint;
	ttl interval;
	queued int := 0;
BEGIN
	SELECT p.command_ttl INTO ttl FROM submeter.credit_policy p
	WHERE p.site_id = policy_trip.site_id AND p.policy_id = policy_trip.policy_id;
	FOR target IN
		SELECT m.meter_id
		FROM submeter.policy_meters(policy_trip.site_id, ARRAY[policy_trip.account_id], policy_trip.as_of) m
		WHERE m.cuttable AND NOT (m.has_cause AND (m.is_open OR m.by_hand OR m.live_action IS NOT DISTINCT FROM 'open'))
		ORDER BY m.meter_id
	LOOP
		IF submeter.queue_command(policy_trip.site_id, target, 'open', 'arrears', policy_trip.reason, 'direct', policy_trip.as_of,
			policy_trip.as_of + ttl, policy_trip.decision_id, policy_trip.as_of) IS NOT NULL
		THEN
			queued := queued + 1;
		END IF;
	END LOOP;
	RETURN queued;
END
$$;
COMMENT ON FUNCTION submeter.policy_trip(int, bigint, bigint, text, bigint, timestamptz) IS
'Queues an open for every breaker of an account that may be cut and is not; returns how many. One whose opposite is under way is tried again in the next run.';

CREATE FUNCTION submeter.policy_reconnect(site_id int, account_id bigint, reason text, nth int, stagger interval, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target bigint;
	closes int := policy_reconnect.nth;
BEGIN
	FOR target IN
		SELECT o.meter_id FROM submeter.open_cause o
		JOIN submeter.supply y ON y.site_id = o.site_id AND y.meter_id = o.meter_id AND y.during @> policy_reconnect.as_of
		WHERE o.site_id = policy_reconnect.site_id AND y.account_id = policy_reconnect.account_id AND o.cause = 'arrears'
		ORDER BY o.meter_id
	LOOP
		PERFORM submeter.lock_meter(policy_reconnect.site_id, target);
		DELETE FROM submeter.open_cause o
		WHERE o.site_id = policy_reconnect.site_id AND o.meter_id = target AND o.cause = 'arrears';
		IF submeter.settle_causes(policy_reconnect.site_id, target, policy_reconnect.as_of, policy_reconnect.reason,
			policy_reconnect.as_of + policy_reconnect.stagger * closes) IS NOT NULL
		THEN
			closes := closes + 1;
		END IF;
	END LOOP;
	RETURN closes;
END
$$;
COMMENT ON FUNCTION submeter.policy_reconnect(int, bigint, text, int, interval, timestamptz) IS
'Removes the cause arrears, and nothing else, from the breakers of an account; those without a cause are closed one after the other. nth closes came before in this run; returns the new count.';

CREATE FUNCTION submeter.policy_record(site_id int, account_id bigint, mode text, action text, reason text, inputs jsonb, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	made bigint;
BEGIN
	INSERT INTO submeter.decision (site_id, account_id, action, reason, explanation, inputs, mode, decided_at)
	SELECT s.site_id, policy_record.account_id, policy_record.action, policy_record.reason,
		submeter.notice_fill(submeter.policy_sentence(policy_record.reason, s.locale), jsonb_build_object(
			'available', to_char((policy_record.inputs ->> 'available')::numeric, 'FM999999999990.00'),
			'credit_limit', policy_record.inputs ->> 'credit_limit', 'reconnect_balance', policy_record.inputs ->> 'reconnect_balance',
			'threshold', policy_record.inputs ->> 'threshold',
			'due_at', to_char((policy_record.inputs ->> 'due_at')::timestamptz AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI'))),
		policy_record.inputs, policy_record.mode, policy_record.as_of
	FROM submeter.site s
	WHERE s.site_id = policy_record.site_id
	RETURNING decision_id INTO made;
	UPDATE submeter.account_state t SET last_decision_id = made
	WHERE t.site_id = policy_record.site_id AND t.account_id = policy_record.account_id;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.policy_record(int, bigint, text, text, text, jsonb, timestamptz) IS
'Writes a decision with its explanation in the language of the site and makes it the account''s latest.';

CREATE FUNCTION submeter.policy_state(site_id int, account_id bigint, threshold numeric, in_arrears boolean, due_at timestamptz, told boolean, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO submeter.account_state (site_id, account_id)
	VALUES (policy_state.site_id, policy_state.account_id)
	ON CONFLICT ON CONSTRAINT account_state_pkey DO NOTHING;
	UPDATE submeter.account_state t
	SET warned_below = CASE WHEN policy_state.told THEN policy_state.threshold ELSE t.warned_below END,
		arrears_since = CASE WHEN policy_state.in_arrears THEN coalesce(t.arrears_since, policy_state.as_of) END,
		announced_at = CASE WHEN policy_state.in_arrears THEN t.announced_at END,
		notice_id = CASE WHEN policy_state.in_arrears THEN t.notice_id END,
		lead = CASE WHEN policy_state.in_arrears THEN t.lead END,
		trip_due_at = CASE WHEN policy_state.in_arrears AND t.announced_at IS NOT NULL THEN policy_state.due_at END
	WHERE t.site_id = policy_state.site_id AND t.account_id = policy_state.account_id;
	IF NOT policy_state.in_arrears THEN
		UPDATE submeter.notice n SET state = 'cancelled'
		WHERE n.site_id = policy_state.site_id AND n.account_id = policy_state.account_id AND n.kind = 'trip_announced' AND n.state = 'queued';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.policy_state(int, bigint, numeric, boolean, timestamptz, boolean, timestamptz) IS
'Keeps where an account stands: thresholds re-arm when the balance rises, arrears begin and end; who is out of arrears is not announced any more.';

CREATE FUNCTION submeter.apply_policy(site_id int, as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	decided bigint;
	decisions int := 0;
	closes int := 0;
	held int := 0;
	sentence text;
BEGIN
	PERFORM submeter.authorize('apply_policy', apply_policy.site_id);
	PERFORM pg_advisory_xact_lock(hashtext('submeter.apply_policy'), apply_policy.site_id);
	FOR item IN
		SELECT o.*, p.close_stagger, (o.action, o.reason) IS DISTINCT FROM (o.last_action, o.last_reason) AS is_new
		FROM submeter.policy_outlook(apply_policy.site_id, apply_policy.as_of) o
		JOIN submeter.credit_policy p ON p.site_id = apply_policy.site_id AND p.policy_id = o.policy_id
		LEFT JOIN submeter.account_state t ON t.site_id = apply_policy.site_id AND t.account_id = o.account_id
		WHERE (o.action, o.reason) IS DISTINCT FROM (o.last_action, o.last_reason)
			OR o.reason = 'mass_trip'
			OR o.mode <> 'observe' AND (o.action IN ('warn', 'announce', 'trip', 'reconnect') OR o.threshold IS DISTINCT FROM t.warned_below)
			OR o.in_arrears <> (t.arrears_since IS NOT NULL)
			OR o.in_arrears AND t.announced_at IS NOT NULL AND o.due_at IS DISTINCT FROM t.trip_due_at
		ORDER BY o.account_id
	LOOP
		held := held + (item.reason = 'mass_trip')::int;
		PERFORM submeter.policy_state(apply_policy.site_id, item.account_id, item.threshold, item.in_arrears, item.due_at, item.mode <> 'observe', apply_policy.as_of);
		decided := NULL;
		IF item.is_new THEN
			decided := submeter.policy_record(apply_policy.site_id, item.account_id, item.mode, item.action, item.reason, item.inputs, apply_policy.as_of);
			decisions := decisions + 1;
		END IF;
		CONTINUE WHEN item.mode = 'observe';
		SELECT d.explanation, d.decision_id INTO sentence, decided
		FROM submeter.account_state t
		JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id
		WHERE t.site_id = apply_policy.site_id AND t.account_id = item.account_id;
		CASE item.action
			WHEN 'warn' THEN
				PERFORM submeter.queue_notice(apply_policy.site_id, item.account_id, 'low_balance',
					format('low_balance:%s:%s:%s', item.account_id, item.threshold, extract(epoch FROM apply_policy.as_of)),
					jsonb_build_object('available', item.available, 'threshold', item.threshold), apply_policy.as_of);
			WHEN 'announce' THEN
				PERFORM submeter.policy_announce(apply_policy.site_id, item.account_id, item.available, item.lead, item.due_at, apply_policy.as_of);
			WHEN 'trip' THEN
				PERFORM submeter.policy_trip(apply_policy.site_id, item.account_id, item.policy_id, sentence, decided, apply_policy.as_of);
			WHEN 'reconnect' THEN
				closes := submeter.policy_reconnect(apply_policy.site_id, item.account_id, sentence, closes, item.close_stagger, apply_policy.as_of);
			ELSE
				IF item.is_new AND item.reason IN ('stale_data', 'suspect_data') THEN
					PERFORM submeter.queue_read(apply_policy.site_id, y.meter_id, item.reason, apply_policy.as_of)
					FROM submeter.supply y
					WHERE y.site_id = apply_policy.site_id AND y.account_id = item.account_id AND y.during @> apply_policy.as_of;
				END IF;
		END CASE;
	END LOOP;
	IF held > 0 THEN
		PERFORM submeter.raise_alarm(apply_policy.site_id, 'mass_trip_held', NULL, NULL, format('%s accounts would be cut at once; all are held', held), apply_policy.as_of);
	ELSIF submeter.is_mass_held(apply_policy.site_id)
		AND NOT submeter.is_mass_trip(apply_policy.site_id, submeter.count_unfit(apply_policy.site_id), apply_policy.as_of)
	THEN
		PERFORM submeter.clear_alarm(apply_policy.site_id, 'mass_trip_held', NULL, NULL, apply_policy.as_of);
	END IF;
	RETURN decisions;
END
$$;
COMMENT ON FUNCTION submeter.apply_policy(int, timestamptz) IS
'Duty and verb: decides about every open account of the site and carries the decisions out (notices, commands, causes, reads); in mode observe it only decides. Returns how many decisions are new: one is written when action or reason change.';

CREATE FUNCTION submeter.tick_decision(site_id int, decision_id bigint, as_of timestamptz DEFAULT now()) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked record;
	became text;
BEGIN
	PERFORM submeter.authorize('apply_policy', tick_decision.site_id);
	PERFORM pg_advisory_xact_lock(hashtext('submeter.apply_policy'), tick_decision.site_id);
	SELECT d.account_id, d.action, d.reason, d.ticked_at, t.last_decision_id INTO asked
	FROM submeter.decision d
	JOIN submeter.account_state t ON t.site_id = d.site_id AND t.account_id = d.account_id
	WHERE d.site_id = tick_decision.site_id AND d.decision_id = tick_decision.decision_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('decision %s does not exist at site %s', tick_decision.decision_id, tick_decision.site_id),
			HINT = 'SELECT * FROM submeter.decision lists them.';
	END IF;
	IF asked.last_decision_id <> tick_decision.decision_id OR NOT (asked.action = 'ask' OR asked.reason = 'mass_trip') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('decision %s does not wait for anybody', tick_decision.decision_id),
			DETAIL = format('It says %s (%s)%s.', asked.action, asked.reason,
				CASE WHEN asked.last_decision_id <> tick_decision.decision_id THEN ' and is not the latest of its account' ELSE '' END),
			HINT = 'Tick the latest decision of an account, while it is ask or held as mass_trip.';
	END IF;
	UPDATE submeter.decision d
	SET ticked_by = (submeter.me()).login, ticked_at = tick_decision.as_of
	WHERE d.site_id = tick_decision.site_id AND d.decision_id = tick_decision.decision_id AND d.ticked_at IS NULL;
	PERFORM submeter.apply_policy(tick_decision.site_id, tick_decision.as_of);
	SELECT d.action || ' ' || d.reason INTO became
	FROM submeter.account_state t
	JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id
	WHERE t.site_id = tick_decision.site_id AND t.account_id = asked.account_id;
	RETURN became;
END
$$;
COMMENT ON FUNCTION submeter.tick_decision(int, bigint, timestamptz) IS
'A person agrees to a trip the policy asks for (mode ask, or held as mass_trip); everything is checked again and then done. Returns the decision it became. P0002 unknown, 55000 when it does not wait or is not the latest.';

GRANT EXECUTE ON FUNCTION submeter.tick_decision(int, bigint, timestamptz) TO submeter_admin, submeter_operator;
