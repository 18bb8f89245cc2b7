-- Room: the bill as a document. One page of A4 in Chinese or English that needs nothing from elsewhere: it is printed,
-- mailed and kept. What it says is what bill, bill_line and bill_meter say.

CREATE FUNCTION submeter.bill_word(word text, locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN bill_word.locale = 'zh' THEN v.zh ELSE v.en END
	FROM (VALUES
		('title', '电费账单', 'Electricity bill'), ('number', '账单编号', 'Bill number'), ('account', '账户', 'Account'), ('tenant', '用户', 'Tenant'), ('units', '房号', 'Premises'),
		('cycle', '计费周期', 'Billing cycle'), ('issued', '出账时间', 'Issued'), ('due', '缴费截止', 'Due'), ('meter', '电表', 'Meter'), ('from', '上期示数', 'Previous'), ('to', '本期示数', 'Current'),
		('multiplier', '倍率', 'Multiplier'), ('kwh', '电量 (kWh)', 'Energy (kWh)'), ('item', '项目', 'Item'), ('tier', '阶梯', 'Tier'), ('period', '时段', 'Period'), ('quantity', '数量', 'Quantity'),
		('price', '单价', 'Price'), ('amount', '金额', 'Amount'), ('total', '合计', 'Total'), ('words', '大写', ''), ('opening', '期初余额', 'Balance at the start'), ('credited', '本期充值', 'Paid in the cycle'),
		('closing', '期末余额', 'Balance at the end'), ('daily', '每日用电量 (kWh)', 'Energy of each day (kWh)'), ('estimated', '含估算电量', 'of this estimated'), ('estimate', '估', 'est.'),
		('void', '已作废', 'VOID'), ('reversal', '冲红', 'REVERSAL'), ('energy', '电量电费', 'Energy'), ('demand', '需量电费', 'Demand'), ('capacity', '容量电费', 'Capacity'),
		('power_factor', '力调电费', 'Power factor'), ('adder', '附加费', 'Surcharge'), ('fee', '固定费用', 'Fee'), ('minimum', '最低收费', 'Minimum charge'), ('tax', '税费', 'Tax'), ('allowance', '优惠', 'Allowance'),
		('sharp', '尖', 'sharp'), ('peak', '峰', 'peak'), ('flat', '平', 'flat'), ('valley', '谷', 'valley'), ('deep', '深谷', 'deep valley'),
		('adjustment', '前期调整', 'Adjustment of an earlier cycle'), ('share', '公摊电费', 'Shared energy')) v(word, zh, en)
	WHERE v.word = bill_word.word
$$;
COMMENT ON FUNCTION submeter.bill_word(text, text) IS 'A word of a bill in Chinese or English.';

CREATE FUNCTION submeter.chinese_amount(amount numeric) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- The financial numerals of China: nobody can add a stroke to them.
	words CONSTANT text := '零壹贰叁肆伍陆柒捌玖';
	steps CONSTANT text[] := '{"",拾,佰,仟}';
	groups CONSTANT text[] := '{"",万,亿,万亿}';
	rounded numeric := round(abs(chinese_amount.amount), 2);
	yuan text := trunc(rounded)::text;
	jiao int := trunc(rounded * 10) % 10;
	fen int := trunc(rounded * 100) % 10;
	spelt text := '';
	digit int;
	place int;
	owed boolean := false;
	group_used boolean := false;
BEGIN
	FOR n IN 1..length(yuan) LOOP
		digit := substr(yuan, n, 1)::int;
		place := length(yuan) - n;
		IF digit = 0 THEN
			owed := spelt <> '';
		ELSE
			-- Noughts in a row are one, and only before a digit.
			spelt := spelt || CASE WHEN owed THEN '零' ELSE '' END || substr(words, digit + 1, 1) || steps[place % 4 + 1];
			owed := false;
			group_used := true;
		END IF;
		IF place % 4 = 0 THEN
			spelt := spelt || CASE WHEN group_used THEN groups[place / 4 + 1] ELSE '' END;
			group_used := false;
		END IF;
	END LOOP;
	spelt := CASE WHEN spelt <> '' THEN spelt || '元' WHEN rounded = 0 THEN '零元' ELSE '' END;
	RETURN CASE WHEN chinese_amount.amount < 0 AND rounded <> 0 THEN '负' ELSE '' END || spelt || CASE
		WHEN jiao = 0 AND fen = 0 THEN '整'
		ELSE CASE WHEN jiao > 0 THEN substr(words, jiao + 1, 1) || '角' WHEN spelt <> '' THEN '零' ELSE '' END
			|| CASE WHEN fen > 0 THEN substr(words, fen + 1, 1) || '分' ELSE '' END END;
END
$$;
COMMENT ON FUNCTION submeter.chinese_amount(numeric) IS 'An amount of yuan in the numerals of Chinese vouchers, such as 壹佰贰拾元零伍分; up to 999,999,999,999.99.';

CREATE FUNCTION submeter.bill_money(amount numeric, currency text, locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN bill_money.currency = 'CNY' AND bill_money.locale = 'zh' THEN CASE WHEN bill_money.amount < 0 THEN '-' ELSE '' END || '¥' || to_char(abs(bill_money.amount), 'FM999,999,999,990.00')
		ELSE to_char(bill_money.amount, 'FM999,999,999,990.00') || ' ' || bill_money.currency END
$$;
COMMENT ON FUNCTION submeter.bill_money(numeric, text, text) IS 'Money as a bill shows it.';

CREATE FUNCTION submeter.daily_bars(days date[], kwh numeric[], estimated boolean[], locale text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 700 by 180 units; the axis ends at a round number above the largest day.
	WITH scale AS (
		SELECT cardinality(daily_bars.days) AS n, 650.0 / greatest(cardinality(daily_bars.days), 1) AS step, coalesce(nullif(m.top, 0), 1) AS top
		FROM (SELECT min(r.round) AS top FROM (SELECT s.f * power(10::numeric, p) AS round FROM generate_series(-2, 7) p, unnest('{1,2,2.5,5}'::numeric[]) s(f)) r
			WHERE r.round >= (SELECT coalesce(max(k), 0) FROM unnest(daily_bars.kwh) k)) m
	)
	SELECT concat('<svg viewBox="0 0 700 180" role="img" aria-label="', submeter.bill_word('daily', daily_bars.locale), '">',
		(SELECT string_agg(format('<line x1="44" x2="696" y1="%1$s" y2="%1$s" stroke="#ccc" stroke-width="0.6"/><text x="40" y="%2$s" text-anchor="end">%3$s</text>',
			round(150 - 140 * g / 2.0, 1), round(153 - 140 * g / 2.0, 1), trim_scale(round(s.top * g / 2, 3))), '' ORDER BY g) FROM generate_series(0, 2) g),
		(SELECT string_agg(format('<rect x="%s" y="%s" width="%s" height="%s" fill="%s"><title>%s: %s kWh</title></rect>',
				round(45 + (b.ord - 1) * s.step + s.step * 0.12, 2), round(150 - 140 * b.kwh / s.top, 2), round(s.step * 0.76, 2), round(140 * b.kwh / s.top, 2),
				CASE WHEN b.estimated THEN '#c9a227' ELSE '#1f6f8b' END, b.day, round(b.kwh, 2))
			|| CASE WHEN (b.ord - 1) % greatest(ceil(s.n / 10.0)::int, 1) = 0 THEN format('<text x="%s" y="168" text-anchor="middle">%s</text>',
				round(45 + (b.ord - 0.5) * s.step, 1), to_char(b.day, 'MM-DD')) ELSE '' END, '' ORDER BY b.ord)
			FROM unnest(daily_bars.days, daily_bars.kwh, daily_bars.estimated) WITH ORDINALITY b(day, kwh, estimated, ord)),
		'</svg>')
	FROM scale s
$$;
COMMENT ON FUNCTION submeter.daily_bars(date[], numeric[], boolean[], text) IS 'Energy of days as bars (SVG); days with estimates in another colour.';

CREATE FUNCTION submeter.bill_curve(site_id int, bill_id bigint, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH used AS (
		SELECT u.day, sum(u.energy_wh) * 0.001 AS kwh, bool_or(u.estimated_wh <> 0) AS estimated
		FROM submeter.bill b
		JOIN submeter.site s ON s.site_id = b.site_id
		JOIN submeter.supply y ON y.site_id = b.site_id AND y.account_id = b.account_id AND y.during && tstzrange(b.cycle_start, b.cycle_end)
		JOIN submeter.usage_day u ON u.site_id = y.site_id AND u.meter_id = y.meter_id
			AND u.day >= (greatest(b.cycle_start, lower(y.during)) AT TIME ZONE s.time_zone)::date
			AND u.day < (least(b.cycle_end, coalesce(upper(y.during), 'infinity')) AT TIME ZONE s.time_zone)
		WHERE b.site_id = bill_curve.site_id AND b.bill_id = bill_curve.bill_id
		GROUP BY u.day
	)
	SELECT CASE WHEN count(*) > 0 THEN submeter.daily_bars(array_agg(u.day ORDER BY u.day), array_agg(u.kwh ORDER BY u.day), array_agg(u.estimated ORDER BY u.day), bill_curve.locale) ELSE '' END
	FROM used u
$$;
COMMENT ON FUNCTION submeter.bill_curve(int, bigint, text) IS 'Energy of each day of a bill''s cycle as bars.';

CREATE FUNCTION submeter.bill_meters_html(site_id int, bill_id bigint, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(format('<table><thead><tr><th>%s</th><th class="n">%s</th><th class="n">%s</th><th class="n">%s</th><th class="n">%s</th></tr></thead><tbody>%s</tbody></table>',
		submeter.bill_word('meter', bill_meters_html.locale), submeter.bill_word('from', bill_meters_html.locale), submeter.bill_word('to', bill_meters_html.locale),
		submeter.bill_word('multiplier', bill_meters_html.locale), submeter.bill_word('kwh', bill_meters_html.locale),
		string_agg(format('<tr><td>%s</td><td class="n">%s</td><td class="n">%s%s</td><td class="n">%s</td><td class="n">%s</td></tr>',
			submeter.html_text(m.code), to_char(g.from_wh * 0.001, 'FM999999990.00'), to_char(g.to_wh * 0.001, 'FM999999990.00'),
			CASE WHEN g.estimated THEN ' ' || submeter.bill_word('estimate', bill_meters_html.locale) ELSE '' END, trim_scale(g.multiplier), to_char(g.energy_wh * 0.001, 'FM999999990.00')),
			'' ORDER BY g.from_ts, m.code)), '')
	FROM submeter.bill_meter g
	JOIN submeter.meter m ON m.site_id = g.site_id AND m.meter_id = g.meter_id
	WHERE g.site_id = bill_meters_html.site_id AND g.bill_id = bill_meters_html.bill_id
$$;
COMMENT ON FUNCTION submeter.bill_meters_html(int, bigint, text) IS 'The registers a bill rests on, as a table.';

CREATE FUNCTION submeter.bill_lines_html(site_id int, bill_id bigint, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('<table><thead><tr><th>%s</th><th>%s</th><th>%s</th><th class="n">%s</th><th class="n">%s</th><th class="n">%s</th></tr></thead><tbody>%s</tbody></table>',
		submeter.bill_word('item', bill_lines_html.locale), submeter.bill_word('tier', bill_lines_html.locale), submeter.bill_word('period', bill_lines_html.locale),
		submeter.bill_word('quantity', bill_lines_html.locale), submeter.bill_word('price', bill_lines_html.locale), submeter.bill_word('amount', bill_lines_html.locale),
		string_agg(format('<tr><td>%s</td><td>%s</td><td>%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td></tr>',
			submeter.html_text(concat_ws(': ', coalesce(submeter.bill_word(split_part(l.component, ':', 1), bill_lines_html.locale), l.component), nullif(split_part(l.component, ':', 2), ''))),
			coalesce(l.tier::text, ''), submeter.html_text(coalesce(submeter.bill_word(l.period, bill_lines_html.locale), l.period, '')),
			CASE WHEN l.energy_wh IS NOT NULL THEN to_char(l.energy_wh * 0.001, 'FM999999990.00') || CASE l.component WHEN 'demand' THEN ' kW' ELSE ' kWh' END ELSE '' END,
			coalesce(trim_scale(l.price)::text, ''), to_char(l.amount, 'FM999,999,990.00')), '' ORDER BY l.line))
	FROM submeter.bill_line l
	WHERE l.site_id = bill_lines_html.site_id AND l.bill_id = bill_lines_html.bill_id
	HAVING count(*) > 0
$$;
COMMENT ON FUNCTION submeter.bill_lines_html(int, bigint, text) IS 'The lines of a bill as a table.';

CREATE FUNCTION submeter.bill_document(site_id int, bill_id bigint, locale text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat('<!DOCTYPE html><html lang="', p.spoken, '"><head><meta charset="utf-8"/><title>', submeter.bill_word('title', p.spoken), ' ', b.bill_id, '</title>',
		'<style>@page{size:A4;margin:14mm}body{font:10pt/1.4 "Noto Sans CJK SC","Noto Sans SC","Microsoft YaHei",sans-serif;max-width:182mm;margin:0 auto;color:#111}',
		'h1{font-size:17pt;margin:0 0 1mm}h2{font-size:11pt;margin:6mm 0 1mm}table{border-collapse:collapse;width:100%;margin-top:3mm}th,td{border-bottom:.3mm solid #bbb;padding:1.2mm 2mm;text-align:left;vertical-align:top}',
		'th{background:#eef2f4}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.sum{font-size:14pt;font-weight:bold;margin-top:4mm;text-align:right}.words{text-align:right;color:#444}',
		'.state{color:#b3261e;font-weight:bold}dl{display:grid;grid-template-columns:auto 1fr auto 1fr;gap:1mm 4mm;margin:4mm 0}dt{color:#555}dd{margin:0}svg{width:100%;height:auto;font-size:9px}footer{margin-top:6mm;color:#666;font-size:8.5pt}</style></head><body>',
		'<h1>', submeter.bill_word('title', p.spoken), CASE WHEN b.state <> 'issued' THEN ' <span class="state">' || submeter.bill_word(b.state, p.spoken) || '</span>' ELSE '' END, '</h1><div>', submeter.html_text(s.name), '</div><dl>',
		(SELECT string_agg(format('<dt>%s</dt><dd>%s</dd>', submeter.bill_word(f.word, p.spoken), submeter.html_text(f.value)), '' ORDER BY f.ord) FROM (VALUES
			(1, 'tenant', t.name), (2, 'number', b.bill_id::text), (3, 'account', a.code), (4, 'units', p.facts ->> 'unit'),
			(5, 'cycle', to_char(b.cycle_start AT TIME ZONE s.time_zone, 'YYYY-MM-DD') || ' – ' || to_char((b.cycle_end AT TIME ZONE s.time_zone)::date - 1, 'YYYY-MM-DD')),
			(6, 'issued', to_char(b.issued_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI')), (7, 'due', to_char(b.due_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD'))) f(ord, word, value) WHERE f.value IS NOT NULL), '</dl>',
		submeter.bill_meters_html(b.site_id, b.bill_id, p.spoken), submeter.bill_lines_html(b.site_id, b.bill_id, p.spoken),
		'<div class="sum">', submeter.bill_word('total', p.spoken), ' ', submeter.bill_money(b.amount, s.currency, p.spoken), '</div>',
		CASE WHEN p.spoken = 'zh' AND s.currency = 'CNY' THEN '<div class="words">' || submeter.bill_word('words', 'zh') || ':' || submeter.chinese_amount(b.amount) || '</div>' ELSE '' END,
		'<dl>', (SELECT string_agg(format('<dt>%s</dt><dd>%s</dd>', submeter.bill_word(f.word, p.spoken), f.value), '' ORDER BY f.ord) FROM (VALUES
			(1, 'opening', submeter.bill_money(b.opening_balance, s.currency, p.spoken)), (2, 'credited', submeter.bill_money(b.credited, s.currency, p.spoken)),
			(3, 'closing', submeter.bill_money(b.closing_balance, s.currency, p.spoken)), (4, 'kwh', to_char(b.energy_wh * 0.001, 'FM999,999,990.00')
				|| CASE WHEN b.estimated_wh <> 0 THEN format(' (%s %s)', submeter.bill_word('estimated', p.spoken), to_char(b.estimated_wh * 0.001, 'FM999,999,990.00')) ELSE '' END)) f(ord, word, value)), '</dl>',
		'<h2>', submeter.bill_word('daily', p.spoken), '</h2>', submeter.bill_curve(b.site_id, b.bill_id, p.spoken), '</body></html>')
	FROM submeter.bill b
	JOIN submeter.site s ON s.site_id = b.site_id
	JOIN submeter.account a ON a.site_id = b.site_id AND a.account_id = b.account_id
	JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	CROSS JOIN LATERAL (SELECT coalesce(bill_document.locale, s.locale) AS spoken) o
	CROSS JOIN LATERAL (SELECT o.spoken, submeter.notice_facts(b.site_id, b.account_id, o.spoken, '{"available":0}', b.cycle_end - interval '1 s') AS facts) p
	WHERE b.site_id = bill_document.site_id AND b.bill_id = bill_document.bill_id
$$;
COMMENT ON FUNCTION submeter.bill_document(int, bigint, text) IS 'A bill as a page; NULL when there is no such bill. For functions of submeter: bill_html() is the verb.';

CREATE FUNCTION submeter.bill_html(site_id int, bill_id bigint, locale text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('bill_html', bill_html.site_id);
	PERFORM submeter.require_bill(bill_html.site_id, bill_html.bill_id);
	IF bill_html.locale NOT IN ('zh', 'en') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('bills are not printed in "%s"', bill_html.locale), HINT = 'There are zh and en; NULL is the language of the site.';
	END IF;
	RETURN submeter.bill_document(bill_html.site_id, bill_html.bill_id, bill_html.locale);
END
$$;
COMMENT ON FUNCTION submeter.bill_html(int, bigint, text) IS
'A bill as one page of A4 (HTML with its curve as SVG; nothing is loaded from elsewhere), in Chinese or English; locale NULL: the site''s. Tenants see their own. P0002 unknown bill, 22023 another language.';
