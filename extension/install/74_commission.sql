-- Room: commission. Putting a meter into service: is it the meter it is said to be, does it count right, and does it feed the
-- shop it is said to feed? No rule opens a breaker before that is proved, and what proves it is kept, step by step.
-- Whether a proof still holds is no state but a comparison with the archive of now: nothing has to notice a change.
-- Lock order: meter, then commission, then what switching takes.

CREATE FUNCTION submeter.commission_steps(OUT step text, OUT ordinal int, OUT title_en text, OUT title_zh text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	VALUES ('serial', 1, 'Serial number', '出厂编号'), ('address', 2, 'Protocol address', '通信地址'), ('nameplate', 3, 'Model and setup', '型号与参数'),
		('display', 4, 'Display equals register', '显示与抄读一致'), ('phases', 5, 'Phases and CT direction', '相序与互感器方向'),
		('shop', 6, 'Feeds this shop', '户表对应'), ('own_trip', 7, 'The meter''s own trip', '电表自身跳闸功能'), ('clock', 8, 'Clock', '时钟'),
		('signal', 9, 'Signal', '通信质量')
$$;
COMMENT ON FUNCTION submeter.commission_steps() IS 'The steps of putting a meter into service, in order, with their titles.';

-- What a proof holds for, and whether it still does.

CREATE FUNCTION submeter.service_facts(site_id int, meter_ids bigint[], as_of timestamptz)
RETURNS TABLE(meter_id bigint, unit_id bigint, role text, facts jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	-- plpgsql keeps its plans; this is asked for every breaker that is to be opened.
	RETURN QUERY
	SELECT m.meter_id, e.unit_id, m.role, jsonb_build_object('model', m.model, 'serial', m.serial, 'bus_address', m.bus_address,
		'line', CASE
			-- An answer in DL/T 645 carries the meter's own number: behind whichever gateway, it is the same meter.
			WHEN o.protocol <> 'modbus' AND m.bus_address ~ '^[0-9]+$' THEN NULL
			WHEN g.dial_in THEN concat_ws(' ', g.gateway_id, g.registration)
			ELSE concat_ws(' ', g.gateway_id, least(g.address, g.backup_address), greatest(g.address, g.backup_address)) END,
		'multiplier', coalesce(e.multiplier, 1), 'phases', coalesce(e.phases, 1), 'unit_id', e.unit_id)
	FROM submeter.meter m
	JOIN submeter.meter_model o ON o.model = m.model
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN LATERAL (
		SELECT s.multiplier, s.phases, s.unit_id FROM submeter.meter_setup s
		WHERE s.site_id = m.site_id AND s.meter_id = m.meter_id AND s.valid_from <= service_facts.as_of
		ORDER BY s.valid_from DESC, s.entered_at DESC LIMIT 1) e ON true
	WHERE m.site_id = service_facts.site_id AND m.retired_at IS NULL
		AND (service_facts.meter_ids IS NULL OR m.meter_id = ANY (service_facts.meter_ids));
END
$$;
COMMENT ON FUNCTION submeter.service_facts(int, bigint[], timestamptz) IS
'What of a meter''s archive decides which breaker is moved and what it counts, at an instant; NULL meter_ids: all meters.';

CREATE FUNCTION submeter.service_changes(proved jsonb, facts jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- A serial number or a unit that nobody had entered yet is completed, not changed.
	SELECT coalesce(array_agg(k.name ORDER BY k.ord), '{}')
	FROM unnest('{model,serial,bus_address,line,multiplier,phases,unit_id}'::text[]) WITH ORDINALITY k(name, ord)
	WHERE service_changes.proved -> k.name IS DISTINCT FROM service_changes.facts -> k.name
		AND NOT (k.name IN ('serial', 'unit_id') AND service_changes.proved ->> k.name IS NULL)
$$;
COMMENT ON FUNCTION submeter.service_changes(jsonb, jsonb) IS 'What differs between the facts a meter was proved with and those of now.';

CREATE FUNCTION submeter.service_due(changed text[], role text) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Which device answers is told by its serial number and its display; whom it feeds only by its wires.
	SELECT coalesce(array_agg(s.step ORDER BY s.ordinal), '{}')
	FROM submeter.commission_steps() s
	WHERE (s.step <> 'shop' OR service_due.role = 'supply') AND (service_due.changed && '{never,withdrawn}' OR EXISTS (
		SELECT FROM (VALUES
			('model', '{address,nameplate,display,phases,own_trip,clock}'::text[]), ('serial', '{serial,address,display}'),
			('bus_address', '{address,display}'), ('line', '{address,signal}'), ('multiplier', '{nameplate,phases,shop}'),
			('phases', '{nameplate,phases,shop}'), ('unit_id', '{shop}'), ('crossed', '{shop}')) d(what, steps)
		WHERE d.what = ANY (service_due.changed) AND s.step = ANY (d.steps)))
$$;
COMMENT ON FUNCTION submeter.service_due(text[], text) IS 'The steps that have to be done (again) after these changes; a meter that feeds no tenant has no step shop.';

CREATE FUNCTION submeter.service_of(site_id int, meter_ids bigint[] DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE(meter_id bigint, unit_id bigint, state text, since timestamptz, changed text[], due text[], commission_id bigint, note text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT f.meter_id, f.unit_id, CASE WHEN c.commission_id IS NULL THEN 'new' WHEN x.changed = '{}' THEN 'in_service' ELSE 'to_check' END,
		c.finished_at, x.changed,
		CASE WHEN x.changed = '{}' THEN '{}' WHEN 'failed' = ANY (x.changed) THEN submeter.unproved_steps(service_of.site_id, c.commission_id, c.steps)
			ELSE submeter.service_due(x.changed, f.role) END,
		c.commission_id, c.note
	FROM submeter.service_facts(service_of.site_id, service_of.meter_ids, service_of.as_of) f
	LEFT JOIN LATERAL (
		SELECT k.commission_id, k.kind, k.state, k.steps, k.finished_at, k.proved, k.note FROM submeter.commission k
		WHERE k.site_id = service_of.site_id AND k.meter_id = f.meter_id AND k.state <> 'open'
		ORDER BY k.commission_id DESC LIMIT 1) c ON true
	CROSS JOIN LATERAL (
		SELECT CASE WHEN c.commission_id IS NULL THEN '{never}' WHEN c.proved = f.facts THEN '{}' WHEN c.state = 'passed' THEN submeter.service_changes(c.proved, f.facts)
			WHEN c.kind = 'test' THEN '{failed}' ELSE ARRAY[c.kind] END) x(changed);
END
$$;
COMMENT ON FUNCTION submeter.service_of(int, bigint[], timestamptz) IS
'Where meters stand: new (never tried), in_service (proved, and nothing that matters has changed since) or to_check, with why and what to do; NULL meter_ids: all meters.';

CREATE FUNCTION submeter.unproved_steps(site_id int, commission_id bigint, steps text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(s.step ORDER BY s.ordinal), '{}')
	FROM submeter.commission_steps() s
	WHERE s.step = ANY (unproved_steps.steps) AND coalesce((
		SELECT k.state FROM submeter.commission_check k
		WHERE k.site_id = unproved_steps.site_id AND k.commission_id = unproved_steps.commission_id AND k.step = s.step
		ORDER BY k.check_id DESC LIMIT 1), 'open') NOT IN ('passed', 'waived')
$$;
COMMENT ON FUNCTION submeter.unproved_steps(int, bigint, text[]) IS 'Those of the steps whose last word in an attempt is neither passed nor waived.';

CREATE FUNCTION submeter.rule_refusal(site_id int, meter_id bigint, at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (
		SELECT 'not in service: ' || CASE WHEN v.state = 'new' THEN 'never commissioned' ELSE array_to_string(v.changed, ', ') END
		FROM submeter.service_of(rule_refusal.site_id, ARRAY[rule_refusal.meter_id], rule_refusal.at) v
		WHERE v.state <> 'in_service');
END
$$;
COMMENT ON FUNCTION submeter.rule_refusal(int, bigint, timestamptz) IS
'Why no rule may open the breaker of a meter: it is not proved that it feeds the shop it is said to feed; NULL when that is proved.';

-- Attempts.

CREATE FUNCTION submeter.lock_commissioned(site_id int, meter_id bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone record;
BEGIN
	PERFORM submeter.lock_meter(lock_commissioned.site_id, lock_commissioned.meter_id);
	SELECT m.code, m.retired_at INTO gone FROM submeter.meter m
	WHERE m.site_id = lock_commissioned.site_id AND m.meter_id = lock_commissioned.meter_id AND m.retired_at IS NOT NULL;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s is out of service for good', gone.code),
			DETAIL = format('It was retired at %s.', gone.retired_at), HINT = 'Put the meter into service that replaced it.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.lock_commissioned(int, bigint) IS 'Locks a meter that is to be put into service; P0002 unknown, 55000 retired.';

CREATE FUNCTION submeter.open_commission(site_id int, meter_id bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found bigint;
BEGIN
	PERFORM submeter.lock_commissioned(open_commission.site_id, open_commission.meter_id);
	SELECT c.commission_id INTO found FROM submeter.commission c
	WHERE c.site_id = open_commission.site_id AND c.meter_id = open_commission.meter_id AND c.state = 'open';
	IF found IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('nobody is putting meter %s into service', open_commission.meter_id),
			DETAIL = 'There is no attempt under way.', HINT = 'begin_commission() begins one; commission_meter() does everything in one call.';
	END IF;
	RETURN found;
END
$$;
COMMENT ON FUNCTION submeter.open_commission(int, bigint) IS
'Locks a meter and returns the attempt that is under way at it; 55000 when there is none or the meter is retired, P0002 unknown.';

CREATE FUNCTION submeter.start_commission(site_id int, meter_id bigint, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	wanted text[];
	again text[];
	made bigint;
BEGIN
	PERFORM submeter.lock_commissioned(start_commission.site_id, start_commission.meter_id);
	SELECT c.commission_id INTO made FROM submeter.commission c
	WHERE c.site_id = start_commission.site_id AND c.meter_id = start_commission.meter_id AND c.state = 'open';
	IF made IS NOT NULL THEN
		RETURN made;
	END IF;
	-- A main meter feeds no shop.
	SELECT array_agg(s.step ORDER BY s.ordinal) INTO wanted
	FROM submeter.commission_steps() s
	JOIN submeter.meter m ON m.site_id = start_commission.site_id AND m.meter_id = start_commission.meter_id
	WHERE s.step <> 'shop' OR m.role = 'supply';
	SELECT CASE WHEN v.state = 'to_check' THEN v.due || CASE WHEN v.changed && '{failed}' THEN '{phases,shop}'::text[] ELSE '{}' END ELSE wanted END INTO again
	FROM submeter.service_of(start_commission.site_id, ARRAY[start_commission.meter_id], start_commission.as_of) v;
	INSERT INTO submeter.commission (site_id, meter_id, steps, begun_at, begun_by)
	VALUES (start_commission.site_id, start_commission.meter_id, wanted, start_commission.as_of, (submeter.me()).login)
	RETURNING commission_id INTO made;
	PERFORM submeter.carry_checks(start_commission.site_id, start_commission.meter_id, made,
		ARRAY(SELECT w FROM unnest(wanted) w WHERE NOT w = ANY (again)));
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.start_commission(int, bigint, timestamptz) IS
'The attempt that is under way at a meter, or a new one: with everything to do, or, where only something changed, with the steps that still hold carried over.';

CREATE FUNCTION submeter.carry_checks(site_id int, meter_id bigint, commission_id bigint, steps text[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.commission_check (site_id, commission_id, step, state, outcome, expected, found, evidence, by, at)
	SELECT carry_checks.site_id, carry_checks.commission_id, k.step, k.state, k.outcome, k.expected, k.found,
		k.evidence || jsonb_build_object('carried_from', k.commission_id), k.by, k.at
	FROM (
		SELECT DISTINCT ON (u.step) u.step, x.*
		FROM unnest(carry_checks.steps) u(step)
		CROSS JOIN LATERAL (
			SELECT c.commission_id, q.check_id, q.state, q.outcome, q.expected, q.found, q.evidence, q.by, q.at
			FROM submeter.commission c
			JOIN submeter.commission_check q ON q.site_id = c.site_id AND q.commission_id = c.commission_id AND q.step = u.step
			WHERE c.site_id = carry_checks.site_id AND c.meter_id = carry_checks.meter_id AND c.state <> 'open'
			UNION ALL
			-- A meter that was taken over was believed to have passed everything.
			SELECT c.commission_id, 0, 'waived', 'taken_over', NULL, c.note, '{}', c.finished_by, c.finished_at
			FROM submeter.commission c
			WHERE c.site_id = carry_checks.site_id AND c.meter_id = carry_checks.meter_id AND c.kind = 'adopted') x
		ORDER BY u.step, x.commission_id DESC, x.check_id DESC) k
	WHERE k.state IN ('passed', 'waived')
		-- A proof that was waived because nothing could be switched is none once something can.
		AND NOT (k.step = 'shop' AND k.outcome = 'waived' AND submeter.can_switch(carry_checks.site_id, carry_checks.meter_id, 'open'))
	ORDER BY (SELECT s.ordinal FROM submeter.commission_steps() s WHERE s.step = k.step)
$$;
COMMENT ON FUNCTION submeter.carry_checks(int, bigint, bigint, text[]) IS
'Carries steps that passed in an earlier attempt over into a new one, as they were, with where they come from.';

CREATE FUNCTION submeter.begin_commission(site_id int, meter_id bigint, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('begin_commission', begin_commission.site_id);
	PERFORM submeter.require_instant(begin_commission.as_of, 'begin_commission');
	RETURN submeter.start_commission(begin_commission.site_id, begin_commission.meter_id, begin_commission.as_of);
END
$$;
COMMENT ON FUNCTION submeter.begin_commission(int, bigint, timestamptz) IS
'Begins to put a meter into service and returns the commission_id (that of the attempt under way, if there is one). After a change only the steps it touches are to be done again. P0002 unknown meter, 55000 retired.';

CREATE FUNCTION submeter.note_check(site_id int, commission_id bigint, step text, state text, outcome text, expected text, found text,
	evidence jsonb, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.commission_check (site_id, commission_id, step, state, outcome, expected, found, evidence, by, at)
	SELECT note_check.site_id, note_check.commission_id, note_check.step, note_check.state, note_check.outcome, note_check.expected,
		note_check.found, jsonb_strip_nulls(coalesce(note_check.evidence, '{}')), (submeter.me()).login, note_check.as_of
	-- What cannot be told yet leaves no trace.
	WHERE note_check.state <> 'open'
$$;
COMMENT ON FUNCTION submeter.note_check(int, bigint, text, text, text, text, text, jsonb, timestamptz) IS 'Records the outcome of a step, unless it is still open.';

CREATE FUNCTION submeter.commission_result(site_id int, commission_id bigint)
RETURNS TABLE(step text, state text, expected text, found text, explanation text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.step, coalesce(k.state, 'open'), k.expected, k.found,
		submeter.notice_fill(submeter.commission_sentence(coalesce(k.outcome, 'to_do_' || s.step), p.locale), coalesce(k.evidence, '{}')
			|| jsonb_build_object('expected', k.expected, 'found', k.found))
	FROM submeter.commission c
	JOIN submeter.site p ON p.site_id = c.site_id
	JOIN submeter.commission_steps() s ON s.step = ANY (c.steps)
	LEFT JOIN LATERAL (
		SELECT q.* FROM submeter.commission_check q
		WHERE q.site_id = c.site_id AND q.commission_id = c.commission_id AND q.step = s.step
		ORDER BY q.check_id DESC LIMIT 1) k ON true
	WHERE c.site_id = commission_result.site_id AND c.commission_id = commission_result.commission_id
	ORDER BY s.ordinal
$$;
COMMENT ON FUNCTION submeter.commission_result(int, bigint) IS 'Where each step of an attempt stands, with a sentence in the language of the site.';

CREATE FUNCTION submeter.commission_sentence(outcome text, locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE commission_sentence.locale WHEN 'zh' THEN v.zh ELSE v.en END
	FROM (VALUES
		('serial_same', 'The nameplate says what the archive says.', '铭牌与档案一致。'),
		('serial_other', 'The nameplate says {found}, the archive {expected}: another device, or a wrong entry.', '铭牌为 {found},档案为 {expected}:设备不符或录入有误。'),
		('serial_unknown', 'The archive has no serial number to compare with: enter it in meter.serial.', '档案没有出厂编号,请先录入 meter.serial。'),
		('answers', 'It answers at its address, and what it says can be right.', '按地址应答正常,数据合理。'),
		('address_other', 'The device calls itself {found}, the archive {expected}.', '设备地址为 {found},档案为 {expected}。'),
		('address_wild', 'It is asked by the wildcard address: say which address the device has (device_address).', '使用通配地址通信,请填写设备真实地址(device_address)。'),
		('silent', 'It has not answered since the attempt began.', '开始投运后未收到应答。'),
		('suspect', 'It answers, but its readings cannot be right: {suspects}.', '有应答但读数异常:{suspects}。'),
		('nameplate_same', 'Model and setup are those of the nameplate.', '型号与参数和铭牌一致。'),
		('nameplate_other', 'The nameplate does not say what the archive says: {differs}.', '铭牌与档案不一致:{differs}。'),
		('display_same', 'The display fits the register read in the minutes around.', '显示值与前后抄读一致。'),
		('display_other', 'The display does not fit the register: another meter answers, or a scale is wrong.', '显示值与抄读不一致:应答的不是本表,或倍率有误。'),
		('display_unread', 'There is no reading on both sides of the time of the display yet: have it read, or read the display again.', '显示时刻前后尚无抄读数据,请召测或重新抄录显示值。'),
		('phases_right', 'Voltages, directions of power and power factors fit.', '电压、功率方向与功率因数正常。'),
		('phases_wrong', 'The values say: {problems}.', '数据显示:{problems}。'),
		('phases_unseen', 'Values cannot tell {unseen}: look, and say phase_order and ct_direction.', '数据无法判断 {unseen},请现场核对并填写 phase_order 和 ct_direction。'),
		('phases_unread', 'There is no reading of voltage or power since the attempt began.', '开始投运后没有电压或功率数据。'),
		('load_seen', 'A load of {load_w} W was switched on and off in the shop, and this meter alone saw it: {before_w} W, {during_w} W, {after_w} W.', '在铺位内投切 {load_w} W 负荷,仅本表响应:{before_w} W、{during_w} W、{after_w} W。'),
		('load_elsewhere', 'The load of {load_w} W was seen by {others}, not by this meter: the wires are crossed.', '{load_w} W 负荷由 {others} 计量,不是本表:户表接线错误。'),
		('load_twice', 'This meter saw the load of {load_w} W, and so did {others}: do it once more, at another moment.', '本表与 {others} 同时出现 {load_w} W 变化,请换时间重做。'),
		('load_size', 'This meter moved by {step_w} W for a load of {load_w} W: its multiplier or a phase is wrong.', '负荷 {load_w} W,本表变化 {step_w} W:倍率或相别有误。'),
		('load_nowhere', 'No meter saw the load of {load_w} W: {before_w} W, {during_w} W, {after_w} W.', '没有电表响应 {load_w} W 负荷:{before_w} W、{during_w} W、{after_w} W。'),
		('load_unread', 'There are no readings {unread}: leave the load on and off longer, and have the meter read.', '{unread}没有抄读数据,请延长投切时间并召测。'),
		('trip_dark', 'The breaker was opened, the shop was dark, and nothing flowed any more.', '断闸后铺位停电,且无电流。'),
		('trip_elsewhere', 'The breaker was opened and the shop was not dark: it feeds another one.', '断闸后铺位未停电:本表供给其他用户。'),
		('trip_draws', 'The breaker was opened and power flowed on: {power_w} W.', '断闸后仍有功率:{power_w} W。'),
		('trip_failed', 'The breaker did not open: {detail}', '断闸未成功:{detail}'),
		('own_trip_off', 'The meter does not trip by itself.', '电表自身不跳闸。'),
		('own_trip_noted', 'The meter may trip by itself: {found}.', '电表自身可能跳闸:{found}。'),
		('clock_none', 'The meter shows no clock.', '电表没有时钟。'),
		('clock_right', 'Its clock is {found} s ahead.', '时钟偏差 {found} 秒。'),
		('clock_wrong', 'Its clock is {found} s ahead: set it first.', '时钟偏差 {found} 秒,请先校时。'),
		('signal_good', '{got} of {slots} readings came.', '应抄 {slots} 次,实抄 {got} 次。'),
		('signal_bad', 'Only {got} of {slots} readings came.', '应抄 {slots} 次,仅实抄 {got} 次。'),
		('waived', 'Waived: {found}', '豁免:{found}'),
		('taken_over', 'Taken over: {found}', '接收:{found}'),
		('to_do_serial', 'Type the serial number of the nameplate (serial).', '请录入铭牌编号(serial)。'),
		('to_do_address', 'Wait until the meter has answered.', '等待电表应答。'),
		('to_do_nameplate', 'Type model, multiplier (or ct and pt), phases and rated_current_a of the nameplate.', '请录入铭牌 model、multiplier(或 ct、pt)、phases、rated_current_a。'),
		('to_do_display', 'Type what the display shows (display_kwh) and when (display_at).', '请录入显示值 display_kwh 和时刻 display_at。'),
		('to_do_phases', 'Say phase_order and ct_direction: ok or wrong.', '请填写 phase_order 和 ct_direction:ok 或 wrong。'),
		('to_do_shop', 'Switch a known load on and off in the shop (load_w, load_on_at, load_off_at), or do a trip test.', '在铺位内投切已知负荷(load_w、load_on_at、load_off_at),或做断闸试验。'),
		('to_do_own_trip', 'Say own_trip: off, or what its own trip is set to.', '请填写 own_trip:off 或自身跳闸设置。'),
		('to_do_clock', 'Wait until its clock has been read.', '等待读取电表时钟。'),
		('to_do_signal', 'Wait for ten rounds of readings.', '等待十轮抄表。')
	) v(outcome, en, zh)
	WHERE v.outcome = commission_sentence.outcome
$$;
COMMENT ON FUNCTION submeter.commission_sentence(text, text) IS 'The sentence that explains the outcome of a step, with {placeholders}, in zh or en.';
