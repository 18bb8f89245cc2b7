-- Room: policy, gathering: balances, meters and outlook of all accounts of a site at once.

CREATE FUNCTION submeter.policy_balances(site_id int, as_of timestamptz)
RETURNS TABLE(account_id bigint, policy_id bigint, account_mode text, tenant_id bigint, available numeric, threshold numeric, in_arrears boolean, in_focus boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.account_id, p.policy_id, a.mode, a.tenant_id, b.available, h.threshold, b.available < -p.credit_limit,
		b.available < -p.credit_limit OR EXISTS (
			SELECT FROM submeter.supply y
			JOIN submeter.open_cause o ON o.site_id = y.site_id AND o.meter_id = y.meter_id AND o.cause = 'arrears'
			WHERE y.site_id = a.site_id AND y.account_id = a.account_id AND y.during @> policy_balances.as_of)
	FROM submeter.account_balances(policy_balances.site_id) b
	JOIN submeter.account a ON a.site_id = policy_balances.site_id AND a.account_id = b.account_id AND a.state = 'open'
	JOIN submeter.site s ON s.site_id = a.site_id
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
	LEFT JOIN LATERAL (SELECT min(x.low) AS threshold FROM unnest(p.low_balances) x(low) WHERE b.available < x.low) h ON true
$$;
COMMENT ON FUNCTION submeter.policy_balances(int, timestamptz) IS
'Where the open accounts of a site stand against their policy; in focus are those in arrears or cut for arrears, whose meters must be looked at.';

CREATE FUNCTION submeter.policy_meters(site_id int, account_ids bigint[], as_of timestamptz)
RETURNS TABLE(account_id bigint, meter_id bigint, protected boolean, unproved boolean, cuttable boolean, has_cause boolean, is_open boolean, live text, live_action text,
	by_hand boolean, stale boolean, suspect boolean, switchings_left int, recovered_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT y.account_id, m.meter_id, m.protection <> 'none', k.can AND v.state IS DISTINCT FROM 'in_service', k.can AND v.state = 'in_service',
		o.cause IS NOT NULL, coalesce(s.relay = 'open', false), c.state, c.action,
		CASE WHEN o.cause IS NOT NULL AND s.relay = 'closed' THEN submeter.is_closed_by_hand(m.site_id, m.meter_id) ELSE false END,
		coalesce(s.valid_ts, '-infinity') < policy_meters.as_of - p.stale_after
			-- A fact behind what is settled has changed and the balance does not know it yet.
			OR coalesce(d.seq > t.seq AND d.from_ts < t.settled_to, false)
			OR EXISTS (SELECT FROM submeter.charge_dirty x WHERE x.site_id = y.site_id AND x.account_id = y.account_id)
			-- Its gateway was gone so long that lead times begin anew, and the poller has not told of its return yet.
			OR coalesce(policy_meters.as_of - coalesce(g.offline_since, g.last_contact_at + 3 * g.poll_interval) >= (
				SELECT min(q.outage_restart) FROM submeter.credit_policy q WHERE q.site_id = e.site_id), false),
		EXISTS (
			SELECT FROM submeter.reading_suspect r
			WHERE r.site_id = m.site_id AND r.meter_id = m.meter_id AND r.state = 'open' AND r.ts >= coalesce(s.valid_ts, '-infinity')
				AND r.rule NOT IN ('future', 'unknown_meter', 'out_of_range')),
		-- As switchings_left() says; a command waits a week at most, so older ones were not sent today.
		p.max_switchings_per_day - (
			SELECT count(*)::int FROM submeter.command x
			WHERE x.site_id = m.site_id AND x.meter_id = m.meter_id AND x.action IN ('open', 'close') AND x.requested_at > policy_meters.as_of - interval '9 days'
				AND x.sent_at >= ((policy_meters.as_of AT TIME ZONE e.time_zone)::date)::timestamp AT TIME ZONE e.time_zone),
		g.recovered_at
	FROM submeter.site e
	JOIN submeter.account a ON a.site_id = e.site_id AND a.account_id = ANY (policy_meters.account_ids)
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, e.default_policy_id)
	JOIN submeter.supply y ON y.site_id = a.site_id AND y.account_id = a.account_id AND y.during @> policy_meters.as_of
	JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id AND m.retired_at IS NULL
	LEFT JOIN submeter.service_of(policy_meters.site_id, ARRAY(
		SELECT z.meter_id FROM submeter.supply z
		WHERE z.site_id = policy_meters.site_id AND z.account_id = ANY (policy_meters.account_ids) AND z.during @> policy_meters.as_of), policy_meters.as_of) v
		ON v.meter_id = m.meter_id
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	CROSS JOIN LATERAL (
		SELECT m.protection = 'none' AND m.gateway_id IS NOT NULL AND m.model IN (SELECT w.model FROM submeter.meter_switch w WHERE w.action = 'open')
			AND s.keep IS DISTINCT FROM 'on' AND submeter.write_refusal(m.site_id, m.meter_id, policy_meters.as_of) IS NULL AS can
		-- Asked once, though two columns depend on it.
		OFFSET 0) k
	LEFT JOIN submeter.meter_dirty d ON d.site_id = m.site_id AND d.meter_id = m.meter_id
	LEFT JOIN submeter.meter_settled t ON t.site_id = m.site_id AND t.meter_id = m.meter_id
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN submeter.open_cause o ON o.site_id = m.site_id AND o.meter_id = m.meter_id AND o.cause = 'arrears'
	LEFT JOIN submeter.command c ON c.site_id = m.site_id AND c.meter_id = m.meter_id
		AND c.state IN ('held', 'queued', 'claimed', 'sent', 'awaiting_key', 'unknown')
	WHERE e.site_id = policy_meters.site_id
$$;
COMMENT ON FUNCTION submeter.policy_meters(int, bigint[], timestamptz) IS
'What the policy must know of each meter that feeds one of these accounts: may it be cut, is it, is its data fit to act on.';

CREATE FUNCTION submeter.policy_outlook(site_id int, as_of timestamptz)
RETURNS TABLE(account_id bigint, policy_id bigint, mode text, action text, reason text, inputs jsonb, available numeric, threshold numeric,
	in_arrears boolean, lead interval, due_at timestamptz, last_action text, last_reason text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH policy AS MATERIALIZED (
		SELECT p.*, n.spans, n.spans @> policy_outlook.as_of AS in_window,
			coalesce(submeter.is_site_held(p.site_id, policy_outlook.as_of), false) AS site_back,
			EXISTS (SELECT FROM submeter.payment_channel c WHERE c.site_id = p.site_id AND c.works) AS can_pay
		FROM submeter.credit_policy p
		CROSS JOIN LATERAL submeter.no_trip_spans(p.site_id, p.policy_id, policy_outlook.as_of - interval '10 days',
			policy_outlook.as_of + p.notice_lead + interval '20 days') n(spans)
		WHERE p.site_id = policy_outlook.site_id
	), balance AS MATERIALIZED (
		SELECT b.* FROM submeter.policy_balances(policy_outlook.site_id, policy_outlook.as_of) b
	), meter AS MATERIALIZED (
		SELECT q.account_id, count(*)::int AS meters, count(*) FILTER (WHERE q.protected)::int AS protected, count(*) FILTER (WHERE q.unproved)::int AS unproved,
			count(*) FILTER (WHERE q.cuttable)::int AS cuttable,
			count(*) FILTER (WHERE q.cuttable AND NOT (q.has_cause AND (q.is_open OR q.live_action IS NOT DISTINCT FROM 'open' OR q.by_hand)))::int AS uncut,
			bool_or(q.has_cause) AS has_cause, bool_or(q.has_cause AND q.is_open) AS any_open,
			bool_or(q.has_cause AND q.by_hand) AS closed_by_hand, bool_or(q.live IS NOT NULL) AS command_live,
			bool_or(q.stale) AS stale, bool_or(q.suspect) AS suspect,
			min(q.switchings_left) FILTER (WHERE q.cuttable AND NOT q.is_open) AS switchings_left, max(q.recovered_at) AS recovered_at
		FROM submeter.policy_meters(policy_outlook.site_id, ARRAY(SELECT b.account_id FROM balance b WHERE b.in_focus), policy_outlook.as_of) q
		GROUP BY q.account_id
	), fact AS MATERIALIZED (
		SELECT b.*, p.mode, p.credit_limit, p.reconnect_balance, p.site_back, p.can_pay, p.notice_lead, p.in_window,
			t.warned_below, t.arrears_since, t.announced_at, t.notice_id,
			CASE WHEN b.in_arrears AND t.notice_id IS NOT NULL THEN submeter.told_at(p.site_id, b.account_id, t.notice_id) END AS told_at,
			p.window_spread * ((b.account_id % 1000 * 617 % 1000) / 1000.0::float8) AS spread,
			coalesce(t.arrears_since, policy_outlook.as_of) + p.grace > policy_outlook.as_of AS in_grace,
			coalesce(t.lead, p.notice_lead) AS lead,
			EXISTS (
				SELECT FROM submeter.contact c
				WHERE b.in_arrears AND c.site_id = p.site_id AND c.tenant_id = b.tenant_id AND c.role <> 'viewer') AS has_contact,
			EXISTS (
				SELECT FROM submeter.payment_order o
				WHERE b.in_arrears AND o.site_id = p.site_id AND o.account_id = b.account_id AND o.state = 'open' AND o.expires_at > policy_outlook.as_of) AS payment_open,
			coalesce(m.meters, 0) AS meters, coalesce(m.protected, 0) AS protected, coalesce(m.unproved, 0) AS unproved, coalesce(m.cuttable, 0) AS cuttable, coalesce(m.uncut, 0) AS uncut,
			coalesce(m.has_cause, false) AS has_cause, coalesce(m.any_open, false) AS any_open, coalesce(m.closed_by_hand, false) AS closed_by_hand,
			coalesce(m.command_live, false) AS command_live, coalesce(m.stale, false) AS stale, coalesce(m.suspect, false) AS suspect,
			m.switchings_left, m.recovered_at, d.action AS last_action, d.reason AS last_reason,
			d.ticked_at IS NOT NULL AND (d.action = 'ask' OR d.reason = 'mass_trip') AS ticked
		FROM balance b
		JOIN policy p ON p.policy_id = b.policy_id
		LEFT JOIN submeter.account_state t ON t.site_id = p.site_id AND t.account_id = b.account_id
		LEFT JOIN submeter.decision d ON d.site_id = p.site_id AND d.decision_id = t.last_decision_id
		LEFT JOIN meter m ON m.account_id = b.account_id
	), decided AS MATERIALIZED (
		SELECT f.*, x.*, w.phase
		FROM fact f
		JOIN policy p ON p.policy_id = f.policy_id
		CROSS JOIN LATERAL (SELECT CASE WHEN f.in_arrears THEN submeter.trip_phase(p.spans, f.told_at, f.lead, policy_outlook.as_of) END) w(phase)
		CROSS JOIN LATERAL submeter.policy_decide(f.mode, 'open', f.account_mode, f.available, f.credit_limit, f.reconnect_balance, f.threshold,
			f.warned_below, f.meters, f.protected, f.unproved, f.cuttable, f.uncut, f.has_cause, f.any_open, f.closed_by_hand, f.in_grace, f.has_contact,
			f.announced_at IS NOT NULL AND f.notice_id IS NOT NULL, coalesce(f.recovered_at > f.announced_at, false), w.phase, f.payment_open, f.can_pay,
			f.stale, f.suspect, f.site_back, f.in_window, f.command_live, coalesce(f.switchings_left, 1), coalesce(f.ticked, false), false) x
	), guard AS MATERIALIZED (
		-- Once held, those whose data is unfit for a moment still count: the others must not slip through meanwhile.
		SELECT submeter.is_mass_trip(policy_outlook.site_id, n.due, policy_outlook.as_of)
			OR submeter.is_mass_held(policy_outlook.site_id) AND submeter.is_mass_trip(policy_outlook.site_id, n.due + n.unfit, policy_outlook.as_of) AS mass
		FROM (
			SELECT count(*) FILTER (WHERE d.action = 'trip' AND d.reason = 'arrears') AS due,
				count(*) FILTER (WHERE d.action = 'hold' AND d.reason IN ('stale_data', 'suspect_data')) AS unfit
			FROM decided d) n
	)
	SELECT d.account_id, d.policy_id, d.mode, CASE WHEN h.held THEN 'hold' ELSE d.action END, CASE WHEN h.held THEN 'mass_trip' ELSE d.reason END,
		-- Most accounts are well, and were before: nobody will read what that rested on.
		CASE WHEN d.in_focus OR (d.action, d.reason) IS DISTINCT FROM (d.last_action, d.last_reason) THEN jsonb_strip_nulls(jsonb_build_object('available', d.available, 'credit_limit', d.credit_limit, 'reconnect_balance', d.reconnect_balance,
			'threshold', d.threshold, 'warned_below', d.warned_below)
			|| CASE WHEN NOT d.in_focus THEN '{}' ELSE jsonb_build_object('meters', d.meters, 'protected', d.protected, 'unproved', d.unproved, 'cuttable', d.cuttable, 'uncut', d.uncut,
				'has_cause', d.has_cause, 'any_open', d.any_open, 'closed_by_hand', d.closed_by_hand, 'arrears_since', d.arrears_since, 'in_grace', d.in_grace,
				'has_contact', d.has_contact, 'announced_at', d.announced_at, 'told_at', d.told_at, 'phase', d.phase, 'payment_open', d.payment_open,
				'can_pay', d.can_pay, 'stale', d.stale, 'suspect', d.suspect, 'site_back', d.site_back, 'in_window', d.in_window,
				'command_live', d.command_live, 'switchings_left', d.switchings_left, 'recovered_at', d.recovered_at, 'ticked', d.ticked, 'due_at', v.due_at) END) END,
		d.available, d.threshold, d.in_arrears,
		CASE d.reason WHEN 'after_window' THEN submeter.reminder_lead(p.spans, policy_outlook.as_of, d.told_at + d.lead, d.notice_lead, d.spread)
			WHEN 'arrears' THEN d.notice_lead WHEN 'outage' THEN d.notice_lead ELSE d.lead END,
		v.due_at, d.last_action, d.last_reason
	FROM decided d
	JOIN policy p ON p.policy_id = d.policy_id
	CROSS JOIN guard
	CROSS JOIN LATERAL (SELECT d.action = 'trip' AND d.reason = 'arrears' AND guard.mass AS held) h
	CROSS JOIN LATERAL (
		SELECT CASE WHEN NOT d.in_arrears THEN NULL
			WHEN d.action = 'announce' AND d.reason = 'after_window'
				THEN policy_outlook.as_of + submeter.reminder_lead(p.spans, policy_outlook.as_of, d.told_at + d.lead, d.notice_lead, d.spread)
			WHEN d.action = 'announce' THEN submeter.planned_trip(p.spans, policy_outlook.as_of, d.notice_lead, d.notice_lead, d.spread)
			WHEN d.announced_at IS NOT NULL
				THEN submeter.planned_trip(p.spans, coalesce(d.told_at, policy_outlook.as_of), d.lead, d.notice_lead, d.spread) END AS due_at) v
$$;
COMMENT ON FUNCTION submeter.policy_outlook(int, timestamptz) IS
'The decision about every open account of a site as it would be made now, with what it rests on (NULL where nothing is the matter and nothing is new) and the decision before; changes nothing.';

CREATE FUNCTION submeter.is_mass_trip(site_id int, trips bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p submeter.credit_policy%ROWTYPE;
	live bigint;
BEGIN
	SELECT c.* INTO p FROM submeter.credit_policy c
	JOIN submeter.site s ON s.site_id = c.site_id AND s.default_policy_id = c.policy_id
	WHERE c.site_id = is_mass_trip.site_id;
	IF is_mass_trip.trips < p.mass_trip_min THEN
		RETURN false;
	END IF;
	SELECT count(DISTINCT y.account_id) INTO live
	FROM submeter.supply y
	JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id AND a.state = 'open'
	JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id AND m.retired_at IS NULL
	LEFT JOIN submeter.meter_state s ON s.site_id = y.site_id AND s.meter_id = y.meter_id
	WHERE y.site_id = is_mass_trip.site_id AND y.during @> is_mass_trip.as_of AND s.relay IS DISTINCT FROM 'open';
	RETURN is_mass_trip.trips > p.mass_trip_share * live;
END
$$;
COMMENT ON FUNCTION submeter.is_mass_trip(int, bigint, timestamptz) IS
'True when so many accounts would be cut in one run that something is more likely wrong than they are: at least mass_trip_min, and more than mass_trip_share of the accounts with power (both of the site''s policy).';

CREATE FUNCTION submeter.is_mass_held(site_id int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (
		SELECT FROM submeter.alarm x
		WHERE x.site_id = is_mass_held.site_id AND x.rule = 'mass_trip_held' AND x.cleared_at IS NULL);
END
$$;
COMMENT ON FUNCTION submeter.is_mass_held(int) IS 'True while too many accounts are due at once and all are held: the alarm that says so lasts.';

CREATE FUNCTION submeter.count_unfit(site_id int) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT count(*)
	FROM submeter.account_state t
	JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id
	WHERE t.site_id = count_unfit.site_id AND d.action = 'hold' AND d.reason IN ('stale_data', 'suspect_data')
$$;
COMMENT ON FUNCTION submeter.count_unfit(int) IS 'How many accounts of a site are due to be cut but for data that is not fit to act on, by their latest decisions.';
