-- Room: commission. The sheet to sign: one A4 page per meter, in Chinese or English.

CREATE FUNCTION submeter.html_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(replace(replace(replace(replace(html_text.value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '–')
$$;
COMMENT ON FUNCTION submeter.html_text(text) IS 'Text as it may stand in HTML, also inside quotes; a dash for NULL.';

CREATE FUNCTION submeter.sheet_word(word text, locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE sheet_word.locale WHEN 'zh' THEN v.zh ELSE v.en END
	FROM (VALUES
		('title', 'Commissioning sheet', '电表投运单'), ('number', 'No.', '编号'), ('site', 'Property', '园区/物业'), ('unit', 'Unit', '房间/铺位'), ('tenant', 'Tenant', '商户/租户'),
		('meter', 'Meter', '电表'), ('model', 'Model', '型号'), ('serial', 'Serial number', '出厂编号'), ('line', 'Gateway and address', '网关与通信地址'),
		('setup', 'Setup', '参数'), ('protection', 'Protection', '保电'), ('none', 'none', '无'), ('protected', 'protected', '保电'), ('life_safety', 'life safety', '生命安全'),
		('begun', 'Begun', '开始'), ('finished', 'Finished', '完成'), ('step', 'Step', '项目'), ('result', 'Result', '结果'), ('evidence', 'What was found', '检查情况'), ('by', 'By, at', '人员、时间'),
		('passed', 'passed', '合格'), ('failed', 'FAILED', '不合格'), ('waived', 'waived', '豁免'), ('taken_over', 'taken over', '接收'), ('open', 'open', '未做'),
		('in_service', 'In service: its breaker may be opened by rule.', '已投运:允许按策略断闸。'), ('new', 'Not in service: no rule opens its breaker.', '未投运:不允许按策略断闸。'),
		('to_check', 'To be checked again: no rule opens its breaker.', '待复核:不允许按策略断闸。'), ('changed', ' Why: {what}.', '原因:{what}。'),
		('adopted', 'Taken over from another system on somebody''s word: nothing was checked here.', '自其他系统接收,未在此逐项检查。'), ('crossed_found', 'Its wires were found crossed.', '发现户表接线互换。'),
		('withdrawn_found', 'Taken out of service.', '已撤销投运。'), ('never', 'never commissioned', '从未投运'), ('withdrawn', 'withdrawn', '已撤销'), ('crossed', 'wires crossed', '接线互换'), ('bus_address', 'bus address', '通信地址'),
		('multiplier', 'multiplier', '倍率'), ('phases', 'phases', '相数'), ('unit_id', 'unit', '房间/铺位'),
		('load', 'Load step', '投切负荷试验'), ('before', 'before', '投入前'), ('during', 'load on', '投入中'), ('after', 'after', '切除后'), ('this_meter', 'this meter', '本表'),
		('trip', 'Supervised trip test', '断闸试验'), ('values', 'Values by phase', '分相数据'), ('phase', 'phase', '相'), ('total', 'total', '总'),
		('success', 'Readings of the first 24 hours', '首 24 小时抄表成功率'), ('readings', '{got} of {slots} readings, {rate} %', '应抄 {slots} 次,实抄 {got} 次,{rate} %'),
		('no_readings', 'No readings yet.', '暂无抄表数据。'), ('so_far', 'so far, until {until}', '截至 {until}'), ('breaker', 'Breaker', '开关'), ('relay_open', 'open', '断开'),
		('relay_closed', 'closed', '闭合'), ('closed_by_hand', 'closed on the spot', '现场合闸'), ('opened_by_hand', 'opened on the spot', '现场断闸'), ('note', 'Note', '备注'),
		('electrician', 'Electrician: name, signature, date', '电工:姓名、签字、日期'), ('tenant_sign', 'Tenant or property: name, signature, date', '商户或物业:姓名、签字、日期'),
		('printed', 'Printed', '打印'), ('nobody', 'nobody', '无')
	) v(word, en, zh)
	WHERE v.word = sheet_word.word
$$;
COMMENT ON FUNCTION submeter.sheet_word(text, text) IS 'Words of the commissioning sheet in zh or en.';

CREATE FUNCTION submeter.sheet_cells(label text, value text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('<th>%s</th><td>%s</td>', submeter.html_text(sheet_cells.label), submeter.html_text(sheet_cells.value))
$$;
COMMENT ON FUNCTION submeter.sheet_cells(text, text) IS 'A label and its value as two cells of a table.';

CREATE FUNCTION submeter.sheet_head(site_id int, meter_id bigint, commission_id bigint, locale text, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('<h1>%s<small>%s %s</small></h1><table class="head"><tr>%s%s</tr><tr>%s%s</tr><tr>%s%s</tr><tr>%s%s</tr><tr>%s%s</tr></table>',
		submeter.sheet_word('title', sheet_head.locale), submeter.sheet_word('number', sheet_head.locale), coalesce(c.commission_id::text, '–'),
		submeter.sheet_cells(submeter.sheet_word('site', sheet_head.locale), s.code || ' ' || s.name),
		submeter.sheet_cells(submeter.sheet_word('meter', sheet_head.locale), m.code),
		submeter.sheet_cells(submeter.sheet_word('unit', sheet_head.locale), concat_ws(' ', b.name, u.code, u.name)),
		submeter.sheet_cells(submeter.sheet_word('tenant', sheet_head.locale), coalesce(t.code || ' ' || t.name, submeter.sheet_word('nobody', sheet_head.locale))),
		submeter.sheet_cells(submeter.sheet_word('model', sheet_head.locale), m.model),
		submeter.sheet_cells(submeter.sheet_word('serial', sheet_head.locale), m.serial),
		submeter.sheet_cells(submeter.sheet_word('line', sheet_head.locale), concat_ws(', ', g.code, g.transport, g.address, m.bus_address)),
		submeter.sheet_cells(submeter.sheet_word('setup', sheet_head.locale), concat_ws(', ', '× ' || trim_scale(coalesce(e.multiplier, 1))::text,
			coalesce(e.phases, 1) || ' P', trim_scale(e.rated_current_a) || ' A', trim_scale(e.rated_voltage_v) || ' V')),
		submeter.sheet_cells(submeter.sheet_word('begun', sheet_head.locale), to_char(c.begun_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI') || ' ' || c.begun_by),
		submeter.sheet_cells(submeter.sheet_word('finished', sheet_head.locale), to_char(c.finished_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI') || ' ' || c.finished_by))
	FROM submeter.site s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = sheet_head.meter_id
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN submeter.setup_at(sheet_head.site_id, sheet_head.as_of) e ON e.meter_id = m.meter_id
	LEFT JOIN submeter.unit u ON u.site_id = s.site_id AND u.unit_id = e.unit_id
	LEFT JOIN submeter.building b ON b.site_id = s.site_id AND b.building_id = u.building_id
	LEFT JOIN submeter.supply y ON y.site_id = s.site_id AND y.meter_id = m.meter_id AND y.during @> sheet_head.as_of
	LEFT JOIN submeter.account a ON a.site_id = s.site_id AND a.account_id = y.account_id
	LEFT JOIN submeter.tenant t ON t.site_id = s.site_id AND t.tenant_id = a.tenant_id
	LEFT JOIN submeter.commission c ON c.site_id = s.site_id AND c.commission_id = sheet_head.commission_id
	WHERE s.site_id = sheet_head.site_id
$$;
COMMENT ON FUNCTION submeter.sheet_head(int, bigint, bigint, text, timestamptz) IS 'The head of the sheet: which meter, where, for whom, when.';

CREATE FUNCTION submeter.sheet_detail(evidence jsonb, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat(
		CASE WHEN sheet_detail.evidence ->> 'test' = 'load' AND sheet_detail.evidence ? 'during_w' THEN (
			SELECT format('<table class="detail"><tr><th>W</th><th>%s</th><th>%s</th><th>%s</th></tr>%s</table>', submeter.sheet_word('before', sheet_detail.locale),
				submeter.sheet_word('during', sheet_detail.locale), submeter.sheet_word('after', sheet_detail.locale),
				string_agg(format('<tr><th>%s</th><td>%s</td><td>%s</td><td>%s</td></tr>', submeter.html_text(l.meter), submeter.html_text(l.before_w::text),
					submeter.html_text(l.during_w::text), submeter.html_text(l.after_w::text)), '' ORDER BY l.ord))
			FROM (
				SELECT 0 AS ord, submeter.sheet_word('this_meter', sheet_detail.locale) AS meter, (sheet_detail.evidence ->> 'before_w')::numeric AS before_w,
					(sheet_detail.evidence ->> 'during_w')::numeric AS during_w, (sheet_detail.evidence ->> 'after_w')::numeric AS after_w
				UNION ALL
				SELECT o.ord, concat_ws(' ', o.meter, o.unit), o.before_w, o.during_w, o.after_w
				FROM ROWS FROM (jsonb_to_recordset(coalesce(sheet_detail.evidence -> 'moved', '[]'))
					AS (meter text, unit text, before_w numeric, during_w numeric, after_w numeric)) WITH ORDINALITY o(meter, unit, before_w, during_w, after_w, ord)) l) END,
		CASE WHEN sheet_detail.evidence ? 'values' THEN (
			SELECT format('<table class="detail"><tr><th>%s</th><th>V</th><th>A</th><th>W</th></tr>%s</table>', submeter.sheet_word('phase', sheet_detail.locale),
				string_agg(format('<tr><th>%s</th><td>%s</td><td>%s</td><td>%s</td></tr>', CASE p.phase WHEN 'total' THEN submeter.sheet_word('total', sheet_detail.locale) ELSE submeter.html_text(p.phase) END,
					submeter.html_text(round(p.v, 1)::text), submeter.html_text(round(p.a, 2)::text), submeter.html_text(round(p.w)::text)), '' ORDER BY p.ord))
			FROM ROWS FROM (jsonb_to_recordset(sheet_detail.evidence -> 'values') AS (phase text, v numeric, a numeric, w numeric)) WITH ORDINALITY p(phase, v, a, w, ord)) END)
$$;
COMMENT ON FUNCTION submeter.sheet_detail(jsonb, text) IS 'The numbers behind a step as a small table: a load test by meter, values by phase.';

CREATE FUNCTION submeter.sheet_steps(site_id int, commission_id bigint, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN min(c.kind) <> 'test' THEN
		format('<p>%s</p>', submeter.sheet_word(CASE min(c.kind) WHEN 'adopted' THEN 'adopted' ELSE min(c.kind) || '_found' END, sheet_steps.locale))
	ELSE format('<table class="steps"><tr><th>%s</th><th>%s</th><th>%s</th><th>%s</th></tr>%s</table>', submeter.sheet_word('step', sheet_steps.locale),
		submeter.sheet_word('result', sheet_steps.locale), submeter.sheet_word('evidence', sheet_steps.locale), submeter.sheet_word('by', sheet_steps.locale),
		string_agg(format('<tr><td>%s. %s</td><td class="%s">%s</td><td>%s%s%s</td><td>%s<br>%s</td></tr>', s.ordinal,
			CASE sheet_steps.locale WHEN 'zh' THEN s.title_zh ELSE s.title_en END, coalesce(k.state, 'open'), submeter.sheet_word(CASE k.outcome WHEN 'taken_over' THEN k.outcome ELSE coalesce(k.state, 'open') END, sheet_steps.locale),
			CASE WHEN k.outcome IS NOT NULL THEN submeter.html_text(submeter.notice_fill(submeter.commission_sentence(k.outcome, sheet_steps.locale),
				k.evidence || jsonb_build_object('expected', k.expected, 'found', k.found))) END,
			CASE WHEN k.step IN ('serial', 'nameplate', 'display', 'address') AND k.state = 'passed' THEN
				format('<br><span class="facts">%s = %s</span>', submeter.html_text(k.found), submeter.html_text(k.expected)) END,
			submeter.sheet_detail(k.evidence, sheet_steps.locale), submeter.html_text(k.by),
			submeter.html_text(to_char(k.at AT TIME ZONE p.time_zone, 'YYYY-MM-DD HH24:MI'))), '' ORDER BY s.ordinal)) END
	FROM submeter.site p
	JOIN submeter.commission c ON c.site_id = p.site_id AND c.commission_id = sheet_steps.commission_id
	LEFT JOIN submeter.commission_steps() s ON s.step = ANY (c.steps)
	LEFT JOIN LATERAL (
		SELECT q.* FROM submeter.commission_check q
		WHERE q.site_id = c.site_id AND q.commission_id = c.commission_id AND q.step = s.step
		ORDER BY q.check_id DESC LIMIT 1) k ON true
	WHERE p.site_id = sheet_steps.site_id
$$;
COMMENT ON FUNCTION submeter.sheet_steps(int, bigint, text) IS 'The steps of an attempt as a table: result, what was found, by whom; of one without steps, what it was.';

CREATE FUNCTION submeter.sheet_success(site_id int, meter_id bigint, from_ts timestamptz, locale text, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH hour AS MATERIALIZED (
		SELECT h.hour, h.slots, h.got, row_number() OVER (ORDER BY h.hour) - 1 AS n
		FROM submeter.reading_slots(sheet_success.site_id, sheet_success.meter_id, sheet_success.from_ts,
			least(sheet_success.from_ts + interval '24 hours', sheet_success.as_of)) h
	)
	SELECT format('<h2>%s</h2>', submeter.sheet_word('success', sheet_success.locale)) || coalesce((
		SELECT format('<p>%s%s</p><svg width="100%%" viewBox="0 0 480 34">%s</svg>',
			submeter.notice_fill(submeter.sheet_word('readings', sheet_success.locale), jsonb_build_object('got', sum(h.got), 'slots', sum(h.slots),
				'rate', round(100.0 * sum(h.got) / sum(h.slots), 1))),
			CASE WHEN sheet_success.from_ts + interval '24 hours' > sheet_success.as_of THEN
				' (' || submeter.notice_fill(submeter.sheet_word('so_far', sheet_success.locale),
					jsonb_build_object('until', to_char(sheet_success.as_of AT TIME ZONE max(s.time_zone), 'YYYY-MM-DD HH24:MI'))) || ')' END,
			string_agg(format('<rect x="%s" y="0" width="17" height="24" fill="#eee" stroke="#888" stroke-width="0.5"/><rect x="%1$s" y="%s" width="17" height="%s" fill="#3a7"/><text x="%s" y="33" font-size="7" text-anchor="middle">%s</text>',
				h.n * 20 + 1, round(24 - 24.0 * h.got / h.slots, 1), round(24.0 * h.got / h.slots, 1), h.n * 20 + 10,
				to_char(h.hour AT TIME ZONE s.time_zone, CASE h.n WHEN 0 THEN 'HH24:MI' ELSE 'HH24' END)), '' ORDER BY h.n))
		FROM hour h
		JOIN submeter.site s ON s.site_id = sheet_success.site_id
		HAVING sum(h.slots) > 0), format('<p>%s</p>', submeter.sheet_word('no_readings', sheet_success.locale)))
$$;
COMMENT ON FUNCTION submeter.sheet_success(int, bigint, timestamptz, text, timestamptz) IS 'How many readings of the first 24 hours came, hour by hour.';

CREATE FUNCTION submeter.sheet_standing(site_id int, meter_id bigint, locale text, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('<p class="standing %s">%s%s</p>%s%s', v.state, submeter.sheet_word(v.state, sheet_standing.locale),
		CASE WHEN v.state = 'to_check' THEN submeter.notice_fill(submeter.sheet_word('changed', sheet_standing.locale), jsonb_build_object('what',
			(SELECT string_agg(coalesce(submeter.sheet_word(c, sheet_standing.locale), c), ', ' ORDER BY c) FROM unnest(v.changed) c))) END,
		format('<p>%s: %s%s</p>', submeter.sheet_word('breaker', sheet_standing.locale), coalesce(submeter.sheet_word('relay_' || t.relay, sheet_standing.locale), '–'),
			-- Moved by hand is a fact on record and nobody's fault.
			(SELECT string_agg(format('; %s %s', to_char(e.seen_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI'), submeter.sheet_word(e.kind, sheet_standing.locale)), '' ORDER BY e.seen_at)
				FROM (SELECT b.kind, b.seen_at FROM submeter.breaker_event b
					WHERE b.site_id = sheet_standing.site_id AND b.meter_id = v.meter_id ORDER BY b.seen_at DESC LIMIT 3) e)),
		CASE WHEN v.note IS NOT NULL THEN format('<p>%s: %s</p>', submeter.sheet_word('note', sheet_standing.locale), submeter.html_text(v.note)) END)
	FROM submeter.service_of(sheet_standing.site_id, ARRAY[sheet_standing.meter_id], sheet_standing.as_of) v
	JOIN submeter.site s ON s.site_id = sheet_standing.site_id
	LEFT JOIN submeter.meter_state t ON t.site_id = sheet_standing.site_id AND t.meter_id = v.meter_id
$$;
COMMENT ON FUNCTION submeter.sheet_standing(int, bigint, text, timestamptz) IS 'Whether the meter is in service now, where its breaker stands, and what was noted.';

CREATE FUNCTION submeter.commission_sheet(site_id int, meter_id bigint, locale text DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	spoken text;
	shown record;
	zone text;
BEGIN
	PERFORM submeter.authorize('commission_sheet', commission_sheet.site_id);
	PERFORM submeter.require_instant(commission_sheet.as_of, 'commission_sheet');
	SELECT coalesce(commission_sheet.locale, s.locale), s.time_zone INTO spoken, zone FROM submeter.site s WHERE s.site_id = commission_sheet.site_id;
	IF spoken NOT IN ('zh', 'en') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('there is no sheet in %s', quote_literal(commission_sheet.locale)), HINT = 'Use ''zh'' or ''en''.';
	END IF;
	IF NOT EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = commission_sheet.site_id AND m.meter_id = commission_sheet.meter_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no meter %s', commission_sheet.site_id, coalesce(commission_sheet.meter_id::text, 'NULL')),
			HINT = 'SELECT meter_id, code FROM submeter.meter lists the meters.';
	END IF;
	-- The attempt under way, or the one that counts; of a time gone by, the one of then.
	SELECT c.commission_id, c.kind, coalesce(c.finished_at, c.begun_at) AS since INTO shown FROM submeter.commission c
	WHERE c.site_id = commission_sheet.site_id AND c.meter_id = commission_sheet.meter_id
	ORDER BY c.begun_at <= commission_sheet.as_of DESC, c.commission_id DESC LIMIT 1;
	RETURN concat('<!DOCTYPE html><html lang="', spoken, '"><head><meta charset="utf-8"><title>', submeter.sheet_word('title', spoken), ' ',
		commission_sheet.meter_id, '</title><style>@page{size:A4;margin:12mm 14mm}body{font:9pt/1.25 "Noto Sans CJK SC","Noto Sans SC","Microsoft YaHei",sans-serif;max-width:181mm;margin:0 auto;padding:0 0.3mm;color:#111}',
		'h1{font-size:15pt;margin:0 0 2mm;border-bottom:0.6mm solid #111}h1 small{float:right;font-size:10pt;font-weight:normal;line-height:2.2}h2{font-size:10pt;margin:3mm 0 1mm}',
		'table{border-collapse:collapse;width:100%}td,th{border:0.2mm solid #999;padding:0.5mm 1.4mm;text-align:left;vertical-align:top}th{background:#f2f2f2;font-weight:normal}',
		'.head th{width:15%}.head td{width:35%}.steps{margin-top:2mm}.steps>tbody>tr>td:first-child{width:20%}.steps>tbody>tr>td:nth-child(2){width:9%}.steps>tbody>tr>td:last-child{width:17%;font-size:8pt}',
		'.detail{width:auto;margin-top:0.6mm;font-size:8pt}.detail td,.detail th{padding:0.1mm 1.4mm}.detail td{text-align:right}.facts{font-size:8pt;color:#444}.passed{color:#063}.failed{color:#b00;font-weight:bold}.waived{color:#850}.open{color:#666}',
		'p{margin:0.6mm 0}.standing{margin-top:2mm;font-weight:bold}.to_check,.new{color:#b00}.sign{margin-top:4mm}.sign td{height:17mm;width:50%}footer{font-size:8pt;color:#666;margin-top:2mm}tr{break-inside:avoid}',
		'</style></head><body>', submeter.sheet_head(commission_sheet.site_id, commission_sheet.meter_id, shown.commission_id, spoken, commission_sheet.as_of),
		submeter.sheet_standing(commission_sheet.site_id, commission_sheet.meter_id, spoken, commission_sheet.as_of),
		submeter.sheet_steps(commission_sheet.site_id, shown.commission_id, spoken),
		submeter.sheet_success(commission_sheet.site_id, commission_sheet.meter_id, shown.since, spoken, commission_sheet.as_of),
		'<table class="sign"><tr><td>', submeter.sheet_word('electrician', spoken), '</td><td>', submeter.sheet_word('tenant_sign', spoken), '</td></tr></table><footer>',
		submeter.sheet_word('printed', spoken), ' ', to_char(commission_sheet.as_of AT TIME ZONE zone, 'YYYY-MM-DD HH24:MI'), ' ',
		submeter.html_text((submeter.me()).login), '</footer></body></html>');
END
$$;
COMMENT ON FUNCTION submeter.commission_sheet(int, bigint, text, timestamptz) IS
'The sheet of a meter that is, or is being, put into service, as an HTML page of A4 to print and sign, in zh or en (the site''s when NULL): every step with its evidence, the readings of the first 24 hours, room for two signatures. 22023 another language, P0002 unknown meter.';
