-- Room: policy. Balance -> decisions -> notices and commands: who is warned, announced, cut and reconnected, and why not.
-- Facts are gathered by one statement per site and run, decided by a pure function, and only what changed has effects.
-- Lock order: the site's policy lock (advisory), then what switching takes.

CREATE FUNCTION submeter.credit_policy_check() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	NEW.low_balances := (SELECT coalesce(array_agg(DISTINCT x ORDER BY x DESC), '{}') FROM unnest(NEW.low_balances) x);
	IF jsonb_typeof(NEW.no_trip_windows) IS DISTINCT FROM 'array' THEN
		bad := 'it is not a list';
	ELSE
		SELECT format('window %s: %s', w.ord, coalesce(p.problem, 'it is not an object')) INTO bad
		FROM jsonb_array_elements(NEW.no_trip_windows) WITH ORDINALITY w(item, ord)
		CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(w.item) = 'object' THEN submeter.window_problem(w.item) END) p(problem)
		WHERE jsonb_typeof(w.item) <> 'object' OR p.problem IS NOT NULL
		ORDER BY w.ord LIMIT 1;
	END IF;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'no_trip_windows is malformed', DETAIL = format('%s.', bad),
			HINT = 'For example [{"from":"17:00","to":"09:00"},{"days":["weekend","holiday"]}].';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.credit_policy_check() IS
'Trigger of credit_policy: sorts low_balances downward and refuses (22023) windows that are not what no_trip_windows says.';

CREATE FUNCTION submeter.window_problem(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN EXISTS (SELECT FROM jsonb_object_keys(window_problem.item) k WHERE k NOT IN ('from', 'to', 'days'))
			THEN 'it has a key other than from, to and days'
		WHEN (window_problem.item ? 'from') <> (window_problem.item ? 'to') THEN 'from and to belong together'
		WHEN window_problem.item ? 'from' AND NOT coalesce(
			window_problem.item ->> 'from' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$' AND window_problem.item ->> 'to' ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$', false)
			THEN 'from and to are local times like 17:00'
		WHEN window_problem.item ? 'days' AND jsonb_typeof(window_problem.item -> 'days') <> 'array' THEN 'days is a list'
		WHEN window_problem.item ? 'days' AND EXISTS (
			SELECT FROM jsonb_array_elements(CASE jsonb_typeof(window_problem.item -> 'days') WHEN 'array' THEN window_problem.item -> 'days' ELSE '[]' END) d
			WHERE d NOT IN ('"workday"', '"weekend"', '"holiday"', '"closed"'))
			THEN 'days are workday, weekend, holiday and closed'
	END
$$;
COMMENT ON FUNCTION submeter.window_problem(jsonb) IS 'What is wrong with one no-trip window, in words; NULL when nothing is.';

CREATE FUNCTION submeter.site_furnish() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside an INSERT that the privileges of the table already let through.
	made bigint;
BEGIN
	INSERT INTO submeter.credit_policy (site_id, code) VALUES (NEW.site_id, 'standard') RETURNING policy_id INTO made;
	UPDATE submeter.site s SET default_policy_id = made WHERE s.site_id = NEW.site_id AND s.default_policy_id IS NULL;
	INSERT INTO submeter.site_member (site_id, login)
	SELECT NEW.site_id, (submeter.me()).login WHERE NOT submeter.is_internal()
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.ledger_account (site_id, code, kind)
	VALUES (NEW.site_id, 'revenue', 'revenue'), (NEW.site_id, 'adjustment', 'adjustment'), (NEW.site_id, 'clearing:cash', 'clearing')
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.payment_channel (site_id, channel) VALUES (NEW.site_id, 'cash') ON CONFLICT DO NOTHING;
	INSERT INTO submeter.duty_state (site_id, duty) SELECT NEW.site_id, d.duty FROM submeter.duty d ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.site_furnish() IS
'Gives a new site what it cannot do without: a credit policy (mode observe), its ledger accounts, cash as a way of paying, its duties, and its maker as a member.';

CREATE FUNCTION submeter.day_type(site_id int, day date) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT c.day_type FROM submeter.calendar_day c
		WHERE c.site_id = day_type.site_id AND c.day = day_type.day),
		CASE WHEN extract(isodow FROM day_type.day) >= 6 THEN 'weekend' ELSE 'workday' END)
$$;
COMMENT ON FUNCTION submeter.day_type(int, date) IS
'workday, weekend or holiday: what calendar_day says of a local day, else what the weekday says.';

CREATE FUNCTION submeter.is_closure_day(site_id int, day date) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.calendar_day c
		WHERE c.site_id = is_closure_day.site_id AND c.day = is_closure_day.day AND c.closed)
$$;
COMMENT ON FUNCTION submeter.is_closure_day(int, date) IS 'True on a closure day of the site: nobody can pay, so nobody is cut.';

CREATE FUNCTION submeter.day_spans(windows jsonb, day date, day_type text, closed boolean, time_zone text) RETURNS tstzmultirange
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Local times become instants one by one, so that a night with a change of the clocks is as long as it is.
	SELECT coalesce(range_agg(tstzrange(
			(day_spans.day + coalesce(w.item ->> 'from', '00:00')::time) AT TIME ZONE day_spans.time_zone,
			CASE WHEN NOT w.item ? 'from' OR w.item ->> 'to' = '24:00' THEN (day_spans.day + 1)::timestamp
				WHEN (w.item ->> 'from')::time < (w.item ->> 'to')::time THEN day_spans.day + (w.item ->> 'to')::time
				ELSE day_spans.day + 1 + (w.item ->> 'to')::time END AT TIME ZONE day_spans.time_zone)), '{}')
	FROM (
		SELECT i.item FROM jsonb_array_elements(day_spans.windows) i(item)
		WHERE NOT i.item ? 'days' OR i.item -> 'days' ? day_spans.day_type OR day_spans.closed AND i.item -> 'days' ? 'closed'
		UNION ALL SELECT '{}' WHERE day_spans.closed
	) w
$$;
COMMENT ON FUNCTION submeter.day_spans(jsonb, date, text, boolean, text) IS
'The times in which nobody is cut by the windows that begin on a local day; a window over midnight has the day type of its start, a closure day is one as a whole.';

CREATE FUNCTION submeter.no_trip_spans(site_id int, policy_id bigint, from_ts timestamptz, to_ts timestamptz) RETURNS tstzmultirange
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT range_agg(submeter.day_spans(p.no_trip_windows, g.day::date, submeter.day_type(s.site_id, g.day::date),
			submeter.is_closure_day(s.site_id, g.day::date), s.time_zone))
		FROM submeter.site s
		JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = no_trip_spans.policy_id
		CROSS JOIN generate_series((no_trip_spans.from_ts AT TIME ZONE s.time_zone)::date - 1, (no_trip_spans.to_ts AT TIME ZONE s.time_zone)::date, interval '1 day') g(day)
		WHERE s.site_id = no_trip_spans.site_id), '{}')
$$;
COMMENT ON FUNCTION submeter.no_trip_spans(int, bigint, timestamptz, timestamptz) IS
'All times from from_ts to to_ts (and somewhat around) in which the policy cuts nobody, joined where they touch.';

CREATE FUNCTION submeter.in_no_trip_window(site_id int, policy_id bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.no_trip_spans(in_no_trip_window.site_id, in_no_trip_window.policy_id, in_no_trip_window.at, in_no_trip_window.at) @> in_no_trip_window.at
$$;
COMMENT ON FUNCTION submeter.in_no_trip_window(int, bigint, timestamptz) IS 'True at an instant at which the policy cuts nobody.';

CREATE FUNCTION submeter.next_trip_time(site_id int, policy_id bigint, from_ts timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN r.span IS NULL THEN next_trip_time.from_ts
		WHEN upper(r.span) <= next_trip_time.from_ts + interval '60 days' THEN upper(r.span)
	END
	FROM (SELECT submeter.no_trip_spans(next_trip_time.site_id, next_trip_time.policy_id, next_trip_time.from_ts,
		next_trip_time.from_ts + interval '61 days')) s(spans)
	LEFT JOIN LATERAL (SELECT u.span FROM unnest(s.spans) u(span) WHERE u.span @> next_trip_time.from_ts) r ON true
$$;
COMMENT ON FUNCTION submeter.next_trip_time(int, bigint, timestamptz) IS
'The earliest instant from from_ts on at which the policy may cut; NULL when there is none within 60 days.';

-- The pure core. Nothing below until policy_decide looks at a table.

CREATE FUNCTION submeter.last_span(spans tstzmultirange, after timestamptz, until timestamptz) RETURNS tstzrange
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT u.span FROM unnest(last_span.spans) u(span)
	WHERE upper(u.span) > last_span.after AND lower(u.span) <= last_span.until
	ORDER BY u.span DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.last_span(tstzmultirange, timestamptz, timestamptz) IS
'The last no-trip span that ends after one instant and begins not later than another; NULL when there is none.';

CREATE FUNCTION submeter.reminder_lead(spans tstzmultirange, at timestamptz, base timestamptz, notice_lead interval, spread interval) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The full lead time was given before; now it must fit before the next window, or nobody would ever be cut.
	SELECT least(greatest(reminder_lead.base - reminder_lead.at, least(reminder_lead.notice_lead, g.gap / 2)) + least(reminder_lead.spread, g.gap / 4), g.gap * 0.9)
	FROM (
		SELECT coalesce(min(lower(u.span)), reminder_lead.at + interval '365 days') - reminder_lead.at
		FROM unnest(reminder_lead.spans) u(span)
		WHERE lower(u.span) > reminder_lead.at) g(gap)
$$;
COMMENT ON FUNCTION submeter.reminder_lead(tstzmultirange, timestamptz, timestamptz, interval, interval) IS
'Lead time of the fresh notice after a no-trip window: the policy''s, but at most half of the time until the next window, plus the account''s share of the spread.';

CREATE FUNCTION submeter.planned_trip(spans tstzmultirange, told_at timestamptz, lead interval, notice_lead interval, spread interval) RETURNS timestamptz
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN w.span IS NULL THEN planned_trip.told_at + planned_trip.lead
		ELSE upper(w.span) + submeter.reminder_lead(planned_trip.spans, upper(w.span), planned_trip.told_at + planned_trip.lead,
			planned_trip.notice_lead, planned_trip.spread) END
	FROM (SELECT submeter.last_span(planned_trip.spans, planned_trip.told_at, planned_trip.told_at + planned_trip.lead)) w(span)
$$;
COMMENT ON FUNCTION submeter.planned_trip(tstzmultirange, timestamptz, interval, interval, interval) IS
'When a trip that was announced at told_at is due: after the lead time or, when a no-trip window lies in between, after the window, the fresh notice and its lead time.';

CREATE FUNCTION submeter.trip_phase(spans tstzmultirange, told_at timestamptz, lead interval, as_of timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN trip_phase.told_at IS NULL THEN 'untold'
		WHEN trip_phase.spans @> trip_phase.as_of AND trip_phase.as_of >= trip_phase.told_at + trip_phase.lead THEN 'window'
		WHEN upper(w.span) <= trip_phase.as_of THEN CASE WHEN trip_phase.spans @> trip_phase.as_of THEN 'window' ELSE 'remind' END
		WHEN trip_phase.as_of < trip_phase.told_at + trip_phase.lead THEN 'lead'
		ELSE 'due' END
	FROM (SELECT submeter.last_span(trip_phase.spans, trip_phase.told_at, greatest(trip_phase.told_at + trip_phase.lead, trip_phase.as_of))) w(span)
$$;
COMMENT ON FUNCTION submeter.trip_phase(tstzmultirange, timestamptz, interval, timestamptz) IS
'Where an announced trip stands: untold, lead (time runs), window (nobody is cut now), remind (a window is over: tell again) or due.';

CREATE FUNCTION submeter.policy_decide(mode text, account_state text, account_mode text, available numeric, credit_limit numeric,
	reconnect_balance numeric, threshold numeric, warned_below numeric, meters int, protected int, unproved int, cuttable int, uncut int, has_cause boolean,
	any_open boolean, closed_by_hand boolean, in_grace boolean, has_contact boolean, announced boolean, outage boolean, phase text,
	payment_open boolean, can_pay boolean, stale boolean, suspect boolean, site_back boolean, in_window boolean, command_live boolean,
	switchings_left int, ticked boolean, mass boolean)
RETURNS TABLE(action text, reason text)
LANGUAGE sql IMMUTABLE
AS $$
	SELECT split_part(d.word, ' ', 1), split_part(d.word, ' ', 2)
	FROM (SELECT CASE
		WHEN account_state = 'closed' THEN 'none closed'
		WHEN account_mode = 'postpaid' THEN CASE WHEN has_cause THEN 'reconnect postpaid' ELSE 'none postpaid' END
		-- Money is there: back on, or off the way to being cut.
		WHEN has_cause AND available >= -credit_limit AND NOT any_open THEN 'reconnect paid_in_time'
		WHEN has_cause AND available >= reconnect_balance THEN 'reconnect paid'
		WHEN has_cause AND available >= -credit_limit THEN 'wait below_reconnect'
		WHEN available >= -credit_limit THEN CASE
			WHEN threshold < coalesce(warned_below, 'infinity') THEN 'warn low_balance'
			WHEN threshold IS NOT NULL THEN 'none warned'
			ELSE 'none in_credit' END
		-- In arrears. What there is to cut, and whether it is cut.
		WHEN meters = 0 THEN 'none no_supply'
		WHEN has_cause AND uncut = 0 THEN CASE
			WHEN closed_by_hand THEN 'hold closed_by_hand'
			WHEN command_live THEN 'wait command_live'
			ELSE 'none cut_off' END
		-- A trip that never comes is not threatened.
		WHEN cuttable = 0 THEN CASE WHEN unproved > 0 THEN 'hold not_commissioned' WHEN protected > 0 THEN 'hold protected' ELSE 'hold no_breaker' END
		WHEN in_grace THEN 'wait grace'
		-- Telling, and telling again.
		WHEN NOT has_contact AND phase = 'untold' THEN 'hold nobody_told'
		WHEN NOT announced THEN 'announce arrears'
		WHEN outage THEN 'announce outage'
		WHEN phase = 'untold' THEN 'hold nobody_told'
		WHEN phase = 'remind' THEN 'announce after_window'
		WHEN phase = 'lead' THEN 'wait lead_time'
		WHEN phase = 'window' OR in_window THEN 'hold no_trip_window'
		-- Everybody was told and the time has come: may it be done?
		WHEN payment_open THEN 'hold payment_open'
		WHEN NOT can_pay THEN 'hold cannot_pay'
		WHEN stale THEN 'hold stale_data'
		WHEN suspect THEN 'hold suspect_data'
		WHEN site_back THEN 'hold site_returned'
		WHEN command_live THEN 'wait command_live'
		WHEN switchings_left <= 0 THEN 'hold switchings_used'
		WHEN mode = 'observe' THEN 'hold observe'
		WHEN ticked THEN 'trip agreed'
		WHEN mode = 'ask' THEN 'ask arrears'
		WHEN mass THEN 'hold mass_trip'
		ELSE 'trip arrears' END) d(word)
$$;
COMMENT ON FUNCTION submeter.policy_decide(text, text, text, numeric, numeric, numeric, numeric, numeric, int, int, int, int, int, boolean, boolean,
	boolean, boolean, boolean, boolean, boolean, text, boolean, boolean, boolean, boolean, boolean, boolean, boolean, int, boolean, boolean) IS
'The decision about one account from its facts, as action and reason. Pure: the same facts give the same decision. Money in the site''s currency; threshold is the lowest low_balance the available balance is below, phase that of trip_phase().';

CREATE FUNCTION submeter.policy_sentence(reason text, locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE policy_sentence.locale WHEN 'zh' THEN v.zh ELSE v.en END
	FROM (VALUES
		('closed', 'The account is closed.', '账户已销户。'),
		('postpaid', 'The account pays later and is never cut by the policy.', '后付费账户,不按策略停电。'),
		('paid', 'Available {available}: at or above the reconnect balance of {reconnect_balance}, so the power comes back.', '可用余额 {available},已达到复电余额 {reconnect_balance},恢复供电。'),
		('paid_in_time', 'Available {available}: paid before the breaker opened, so the trip is called off.', '可用余额 {available},断闸前已付款,取消停电。'),
		('below_reconnect', 'Available {available}: no longer in arrears, but below the reconnect balance of {reconnect_balance}.', '可用余额 {available},已不欠费,但未达到复电余额 {reconnect_balance}。'),
		('low_balance', 'Available {available} is below {threshold}: a low-balance notice is due.', '可用余额 {available} 低于 {threshold},发送余额不足提醒。'),
		('warned', 'Available {available} is below {threshold}; the tenant has been warned.', '可用余额 {available} 低于 {threshold},已提醒。'),
		('in_credit', 'Available {available}: nothing to do.', '可用余额 {available},无需处理。'),
		('no_supply', 'In arrears with {available}, but no meter feeds the account.', '欠费,可用余额 {available},但账户没有在用电表。'),
		('closed_by_hand', 'A breaker that was opened for arrears reads closed: somebody closed it on the spot; a person looks.', '因欠费断开的开关现为合闸状态,现场被人合上,需人工查看。'),
		('command_live', 'A command to a breaker of the account is under way.', '该账户有指令正在执行。'),
		('cut_off', 'In arrears with {available}; the power is cut.', '欠费,可用余额 {available},已停电。'),
		('protected', 'In arrears with {available}, but its supply is protected.', '欠费,可用余额 {available},但为保电用户。'),
		('not_commissioned', 'In arrears with {available}, but it is not proved that its meter feeds this shop: put it into service first.', '欠费,可用余额 {available},但电表尚未投运(户表对应未核实),不停电。'),
		('no_breaker', 'In arrears with {available}, but none of its meters can be switched from here.', '欠费,可用余额 {available},但电表不能远程断电。'),
		('grace', 'In arrears with {available}, within the grace period.', '欠费,可用余额 {available},在宽限期内。'),
		('nobody_told', 'In arrears with {available}, but no channel has accepted an announcement: nobody was told, so nobody is cut.', '欠费,可用余额 {available},但停电预告未送达任何渠道,不停电。'),
		('arrears', 'In arrears with {available}, beyond the credit limit of {credit_limit}.', '欠费,可用余额 {available},超出透支额度 {credit_limit}。'),
		('outage', 'In arrears with {available}; after an outage the trip is announced anew.', '欠费,可用余额 {available},通信中断恢复后重新预告。'),
		('after_window', 'In arrears with {available}; a time without trips is over, so the trip is announced once more.', '欠费,可用余额 {available},免停电时段结束,再次预告。'),
		('lead_time', 'In arrears with {available}; the trip was announced and is due at {due_at}.', '欠费,可用余额 {available},已预告,{due_at} 到期。'),
		('no_trip_window', 'In arrears with {available}, but nobody is cut at this time.', '欠费,可用余额 {available},当前为免停电时段。'),
		('payment_open', 'In arrears with {available}, but a payment is under way.', '欠费,可用余额 {available},有付款正在进行。'),
		('cannot_pay', 'In arrears with {available}, but no way of paying works.', '欠费,可用余额 {available},当前没有可用的缴费渠道。'),
		('stale_data', 'In arrears with {available}, but its readings are too old to act on; a fresh one is asked for.', '欠费,可用余额 {available},抄表数据过旧,已请求重新抄表。'),
		('suspect_data', 'In arrears with {available}, but the latest reading is suspect; a fresh one is asked for.', '欠费,可用余额 {available},最新读数存疑,已请求重新抄表。'),
		('site_returned', 'In arrears with {available}, but the site has just come back from an outage.', '欠费,可用余额 {available},园区刚恢复通信,暂缓。'),
		('switchings_used', 'In arrears with {available}, but its breaker was switched too often today.', '欠费,可用余额 {available},今日开关次数已达上限。'),
		('observe', 'In arrears with {available}: would be cut now, if the policy were not only observing.', '欠费,可用余额 {available},观察模式,不执行停电。'),
		('mass_trip', 'In arrears with {available}, but too many accounts would be cut at once: held until a person agrees.', '欠费,可用余额 {available},一次停电户数过多,待人工确认。'),
		('agreed', 'In arrears with {available}; a person agreed to the trip.', '欠费,可用余额 {available},已由人工确认停电。')
	) v(reason, en, zh)
	WHERE v.reason = policy_sentence.reason
$$;
COMMENT ON FUNCTION submeter.policy_sentence(text, text) IS 'The sentence that explains a reason of policy_decide(), with {placeholders}, in zh or en.';

-- Gathering.

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
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.alarm x
		WHERE x.site_id = is_mass_held.site_id AND x.rule = 'mass_trip_held' AND x.cleared_at IS NULL)
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

-- Effects.

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
