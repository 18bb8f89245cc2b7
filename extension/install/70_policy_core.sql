-- Room: policy, its pure core: nothing here looks at a table.

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
