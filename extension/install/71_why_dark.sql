-- Room: policy. The answer to the shopkeeper who has no light.

CREATE FUNCTION submeter.sees_meter(meter_id bigint) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.is_internal() OR sees_meter.meter_id = ANY (submeter.my_meters()) OR EXISTS (
		SELECT FROM unnest('{submeter_admin,submeter_operator,submeter_cashier,submeter_field,submeter_auditor}'::name[]) r(name)
		WHERE pg_has_role((submeter.me()).role, r.name, 'member'))
$$;
COMMENT ON FUNCTION submeter.sees_meter(bigint) IS 'True for people who work here, and for a tenant whom the meter feeds now.';

CREATE FUNCTION submeter.dark_facts(site_id int, meter_id bigint, as_of timestamptz,
	OUT locale text, OUT currency text, OUT time_zone text, OUT relay text, OUT seen_at timestamptz, OUT answers boolean, OUT volts real, OUT has_voltage boolean,
	OUT gateway text, OUT gateway_online boolean, OUT account text, OUT account_mode text, OUT available numeric, OUT credit_limit numeric,
	OUT reconnect_balance numeric, OUT policy_mode text, OUT pending numeric, OUT causes text, OUT has_arrears boolean, OUT has_lockout boolean,
	OUT command text, OUT command_state text, OUT command_action text, OUT command_detail text,
	OUT refusal text, OUT locked boolean, OUT unproved text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.locale, s.currency, s.time_zone, t.relay, greatest(t.ts, t.last_contact_at),
		coalesce(t.online, true) AND coalesce(greatest(t.ts, t.last_contact_at) >= dark_facts.as_of - greatest(3 * g.poll_interval, interval '5 min'), false),
		greatest(t.v_a, t.v_b, t.v_c), coalesce(greatest(t.v_a, t.v_b, t.v_c) >= 0.1 * coalesce(e.rated_voltage_v, 220), true),
		g.code, coalesce(g.online, true), a.code, a.mode, b.available, p.credit_limit, p.reconnect_balance, p.mode,
		(SELECT sum(o.amount) FROM submeter.payment_order o
			WHERE o.site_id = m.site_id AND o.account_id = a.account_id AND o.state = 'open' AND o.expires_at > dark_facts.as_of),
		(SELECT string_agg(o.cause, ', ' ORDER BY o.cause) FROM submeter.open_cause o WHERE o.site_id = m.site_id AND o.meter_id = m.meter_id),
		EXISTS (SELECT FROM submeter.open_cause o WHERE o.site_id = m.site_id AND o.meter_id = m.meter_id AND o.cause = 'arrears'),
		EXISTS (SELECT FROM submeter.open_cause o WHERE o.site_id = m.site_id AND o.meter_id = m.meter_id AND o.cause = 'lockout'),
		c.command_id::text, c.state, c.action, c.detail, submeter.write_refusal(m.site_id, m.meter_id, dark_facts.as_of),
		coalesce(c.action = 'close' AND c.state = 'failed' AND c.evidence ->> 'kind' = 'local_lock', false),
		submeter.rule_refusal(m.site_id, m.meter_id, dark_facts.as_of)
	FROM submeter.site s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = dark_facts.meter_id
	LEFT JOIN submeter.meter_state t ON t.site_id = m.site_id AND t.meter_id = m.meter_id
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN submeter.setup_at(dark_facts.site_id, dark_facts.as_of) e ON e.meter_id = m.meter_id
	LEFT JOIN submeter.supply y ON y.site_id = m.site_id AND y.meter_id = m.meter_id AND y.during @> dark_facts.as_of
	LEFT JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
	LEFT JOIN submeter.account_balances(dark_facts.site_id) b ON b.account_id = a.account_id
	LEFT JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
	LEFT JOIN LATERAL (
		SELECT c.* FROM submeter.command c
		WHERE c.site_id = m.site_id AND c.meter_id = m.meter_id AND c.action IN ('open', 'close')
		ORDER BY c.command_id DESC LIMIT 1) c ON true
	WHERE s.site_id = dark_facts.site_id
$$;
COMMENT ON FUNCTION submeter.dark_facts(int, bigint, timestamptz) IS 'Everything why_dark() answers from, in one row.';

CREATE FUNCTION submeter.why_dark(site_id int, meter_id bigint, as_of timestamptz DEFAULT now())
RETURNS TABLE(step int, question text, ok boolean, answer text, next_step text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	f record;
	money text;
	missing text;
	seen text;
BEGIN
	PERFORM submeter.authorize('why_dark', why_dark.site_id);
	f := submeter.dark_facts(why_dark.site_id, why_dark.meter_id, why_dark.as_of);
	IF f.locale IS NULL OR NOT submeter.sees_meter(why_dark.meter_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('meter %s does not exist at site %s', why_dark.meter_id, why_dark.site_id),
			HINT = 'SELECT meter_id, code FROM submeter.meter lists the meters.';
	END IF;
	money := to_char(f.available, 'FM999999999990.00') || ' ' || f.currency;
	missing := to_char(greatest(f.reconnect_balance, -f.credit_limit) - f.available, 'FM999999999990.00') || ' ' || f.currency;
	seen := to_char(f.seen_at AT TIME ZONE f.time_zone, 'YYYY-MM-DD HH24:MI');
	RETURN QUERY
	WITH line AS (
		SELECT v.step, v.ok, CASE f.locale WHEN 'zh' THEN v.question_zh ELSE v.question_en END AS question,
			CASE f.locale WHEN 'zh' THEN v.answer_zh ELSE v.answer_en END AS answer, CASE f.locale WHEN 'zh' THEN v.next_zh ELSE v.next_en END AS next_step
		FROM (VALUES
			(1, f.answers AND f.has_voltage, 'Is there power upstream of the breaker?', '上级是否有电?',
				CASE WHEN NOT f.answers THEN format('The meter does not answer; last heard of: %s.', coalesce(seen, 'never'))
					WHEN NOT f.has_voltage THEN format('The meter measures %s V.', f.volts) ELSE 'The meter answers and has voltage.' END,
				CASE WHEN NOT f.answers THEN format('电表无应答,最后通信:%s。', coalesce(seen, '从未'))
					WHEN NOT f.has_voltage THEN format('电表电压 %s V。', f.volts) ELSE '电表通信正常,有电压。' END,
				CASE WHEN f.gateway_online THEN 'Send an electrician to look at the supply and the fuses before the meter.'
					ELSE format('Gateway %s does not answer: check its power and network, and the mains of the building.', f.gateway) END,
				CASE WHEN f.gateway_online THEN '请电工检查表前电源和熔断器。' ELSE format('网关 %s 离线,请检查网关电源、网络和楼栋总电源。', f.gateway) END),
			(2, f.account IS NULL OR f.account_mode = 'postpaid' OR f.available >= -f.credit_limit OR f.pending IS NOT NULL, 'Has it been paid?', '是否已缴费?',
				CASE WHEN f.account IS NULL THEN 'The meter feeds no account.' ELSE format('Account %s has %s available.', f.account, money) END,
				CASE WHEN f.account IS NULL THEN '电表未关联账户。' ELSE format('账户 %s 可用余额 %s。', f.account, money) END,
				format('Recharge at least %s.', missing), format('请至少充值 %s。', missing)),
			(3, f.pending IS NULL, 'Has the payment been credited?', '缴费是否已到账?',
				CASE WHEN f.pending IS NULL THEN 'No payment is under way.' ELSE format('A payment of %s %s is under way.', f.pending, f.currency) END,
				CASE WHEN f.pending IS NULL THEN '没有在途付款。' ELSE format('有 %s %s 的付款在途。', f.pending, f.currency) END,
				'Wait a few minutes; if it is still missing, bring the receipt to the property office.', '请稍候几分钟;仍未到账请持付款凭证联系物业。'),
			(4, NOT f.has_arrears OR f.available >= f.reconnect_balance, 'Is the balance above the reconnect balance?', '是否达到复电余额?',
				format('Reconnect balance %s %s.', f.reconnect_balance, f.currency), format('复电余额 %s %s。', f.reconnect_balance, f.currency),
				format('Recharge at least %s.', missing), format('请至少充值 %s。', missing)),
			(5, f.causes IS NULL, 'Are causes left to keep the breaker open?', '是否还有断电原因?',
				coalesce('Causes on record: ' || f.causes || '.', 'None.'), coalesce('断电原因:' || f.causes || '。', '无。'),
				CASE WHEN f.has_lockout THEN 'Somebody works there: ask who hung the tag; clear_lockout() once it is off.'
					WHEN f.has_arrears AND f.policy_mode = 'observe' THEN 'The policy only observes: an operator calls clear_cause(… arrears …).'
					WHEN f.has_arrears THEN 'The next run of the policy removes arrears; wait a minute.'
					ELSE 'An operator decides: request_command(… close …) removes these causes.' END,
				CASE WHEN f.has_lockout THEN '有人正在作业:请联系挂牌人,摘牌后执行 clear_lockout()。'
					WHEN f.has_arrears AND f.policy_mode = 'observe' THEN '策略处于观察模式:请管理员执行 clear_cause(… arrears …)。'
					WHEN f.has_arrears THEN '策略下次运行会解除欠费原因,请等待一分钟。'
					ELSE '请运行人员决定:request_command(… close …) 可解除以上原因。' END),
			(6, f.relay IS NOT DISTINCT FROM 'closed' OR f.command_action = 'close' AND f.command_state IN ('confirmed', 'awaiting_key') OR f.locked,
				'Is a command to close under way?', '合闸指令状态?',
				CASE WHEN f.command IS NULL THEN 'There is no command.' ELSE format('Command %s (%s) is %s.', f.command, f.command_action, f.command_state) END,
				CASE WHEN f.command IS NULL THEN '没有指令。' ELSE format('指令 %s(%s):%s。', f.command, f.command_action, f.command_state) END,
				CASE WHEN f.refusal IS NOT NULL AND NOT coalesce(submeter.is_live(f.command_state), false)
						THEN format('Nothing can be sent: %s. Put that right (set_meter_key(), set_meter_clock()), or close it on the spot.', f.refusal)
					WHEN f.command_state = 'held' THEN 'A person confirms it: confirm_command().'
					WHEN submeter.is_live(f.command_state) THEN 'It is on its way; wait a minute.'
					ELSE format('An operator calls request_command(… close …)%s', coalesce('; the last attempt: ' || f.command_detail, '.')) END,
				CASE WHEN f.refusal IS NOT NULL AND NOT coalesce(submeter.is_live(f.command_state), false)
						THEN format('不能下发指令:%s。请处理(set_meter_key()、set_meter_clock())或现场合闸。', f.refusal)
					WHEN f.command_state = 'held' THEN '等待人工确认:confirm_command()。'
					WHEN submeter.is_live(f.command_state) THEN '指令执行中,请等待一分钟。'
					ELSE format('请运行人员执行 request_command(… close …)%s', coalesce(';上次结果:' || f.command_detail, '。')) END),
			(7, f.gateway_online, 'Does the gateway answer?', '网关是否在线?',
				format('Gateway %s: %s.', coalesce(f.gateway, '–'), CASE WHEN f.gateway_online THEN 'answers' ELSE 'does not answer' END),
				format('网关 %s:%s。', coalesce(f.gateway, '–'), CASE WHEN f.gateway_online THEN '在线' ELSE '离线' END),
				'Check the power and the network of the gateway.', '请检查网关电源和网络。'),
			(8, NOT (f.command_state IS NOT DISTINCT FROM 'awaiting_key' OR f.locked), 'Does the meter wait for its key, or is it locked on the spot?', '电表是否等待本地按键,或被现场锁定?',
				CASE WHEN f.command_state = 'awaiting_key' THEN 'Yes: closing is permitted.' WHEN f.locked THEN 'Yes: it is locked on the spot.' ELSE 'No.' END,
				CASE WHEN f.command_state = 'awaiting_key' THEN '是,已允许合闸。' WHEN f.locked THEN '是,现场已锁定。' ELSE '否。' END,
				CASE WHEN f.locked THEN 'Have it unlocked and closed on the spot.' ELSE 'Switch off what is connected, then press the key of the meter.' END,
				CASE WHEN f.locked THEN '请现场解锁并合闸。' ELSE '请先关闭用电设备,然后按电表按键合闸。' END),
			(9, f.relay IS DISTINCT FROM 'closed', 'Is it dark although the breaker is closed?', '开关已合闸仍无电?',
				CASE f.relay WHEN 'closed' THEN 'The breaker is closed.' ELSE format('The breaker is %s.', coalesce(f.relay, 'of unknown position')) END,
				CASE f.relay WHEN 'closed' THEN '开关已合闸。' WHEN 'open' THEN '开关已断开。' ELSE '开关位置未知。' END,
				'Look at the switches and fuses inside the unit.', '请检查室内开关和熔断器。'),
			(10, f.unproved IS NULL, 'Is it proved that this meter feeds this shop?', '是否已核实户表对应?',
				CASE WHEN f.unproved IS NULL THEN 'Yes: the meter is in service.' ELSE format('No: it is %s. Another breaker may be the one that is open.', f.unproved) END,
				CASE WHEN f.unproved IS NULL THEN '是,电表已投运。' ELSE format('否(%s)。断开的可能是其他开关。', f.unproved) END,
				'Put the meter into service: commission_meter(), with a load switched on and off in the shop.', '请投运该电表:commission_meter(),在铺位内投切负荷核对。')
		) v(step, ok, question_en, question_zh, answer_en, answer_zh, next_en, next_zh)
	)
	SELECT l.step, l.question, l.ok, l.answer,
		CASE WHEN NOT l.ok AND NOT EXISTS (SELECT FROM line e WHERE e.step < l.step AND NOT e.ok) THEN l.next_step END
	FROM line l
	ORDER BY l.step;
END
$$;
COMMENT ON FUNCTION submeter.why_dark(int, bigint, timestamptz) IS
'Why a shop has no light, question by question in the language of the site; next_step is given at the first one that is not as it should be. P0002 for a meter the caller cannot see.';
