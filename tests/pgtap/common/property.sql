-- A property of measured buildings with everything that happens to meters, tenants and prices, drawn at random; the same
-- number drawn gives the same property under any site. pg_temp.look_at() hands its facts to the reference.
\ir rating.sql
\ir tariffs.sql

-- What 41 buildings and a steel plant used, as registers at the end of each slot; n = 42 is the plant, every 15 minutes in January and February.
CREATE TEMP TABLE line (line text);
\copy line FROM PROGRAM 'gzip -dc tests/data/buildings_year.csv.gz | tail -n +2' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')
CREATE TEMP TABLE steel (ts timestamp, kwh numeric, kvarh numeric);
\copy steel FROM PROGRAM 'gzip -dc tests/data/steel_reactive.csv.gz' WITH (FORMAT csv, HEADER)
SELECT setseed(0.2017) \g /dev/null
CREATE TEMP TABLE register AS
SELECT n::int, l.ts + interval '1 hour' AS ts, (sum(round(u.kwh * 1000)) OVER w)::bigint AS wh, (sum(round(u.kwh * (300 + 400 * l.share))) OVER w)::bigint AS varh
FROM (SELECT split_part(line, ',', 1)::timestamp AS ts, string_to_array(substr(line, strpos(line, ',') + 1), ',')::numeric[] AS kwh, random()::numeric AS share FROM line) l
CROSS JOIN LATERAL unnest(l.kwh) WITH ORDINALITY u(kwh, n)
WINDOW w AS (PARTITION BY u.n ORDER BY l.ts)
UNION ALL
SELECT 42, ts - interval '1 year' + interval '15 minutes', sum(round(kwh * 1000)) OVER (ORDER BY ts), sum(round(kvarh * 1000)) OVER (ORDER BY ts) FROM steel;
CREATE INDEX ON register (n, ts);
ANALYZE register;

-- What the meters of a property showed: every third one each hour, the others every fourth, within twenty minutes after the
-- slot, one in twenty missing, some for a day.
CREATE TEMP TABLE shown (n int, ts timestamptz, wh bigint, varh bigint);
-- A property in the drawing. Meters are numbered by their buildings, accounts by their first meter (and 50 more for a later tenant).
CREATE TEMP TABLE plan_site (zone text, cycle_day int, from_day date, to_day date);
CREATE TEMP TABLE plan_meter (n int, modulus bigint, gap_after interval, reactive boolean, reset_at timestamptz);
CREATE TEMP TABLE plan_setup (n int, from_ts timestamptz, multiplier numeric);
CREATE TEMP TABLE plan_account (account int);
CREATE TEMP TABLE plan_supply (account int, n int, tariff int, from_ts timestamptz, to_ts timestamptz, terms jsonb);
CREATE TEMP TABLE plan_version (tariff int, from_ts timestamptz, definition jsonb);
CREATE TEMP TABLE plan_price (name text, from_ts timestamptz, price numeric);
CREATE TEMP TABLE plan_calendar (day date, day_type text, flags text[]);
CREATE TEMP TABLE plan_allowance (account int, tariff int, name text, kwh numeric, share numeric, amount numeric, from_ts timestamptz);

-- Some second between two days.
CREATE FUNCTION pg_temp.some_time(from_day date, to_day date, zone text) RETURNS timestamptz
LANGUAGE sql
AS $$
	SELECT date_trunc('second', pg_temp.instant(from_day, zone) + random() * (pg_temp.instant(to_day, zone) - pg_temp.instant(from_day, zone)))
$$;

CREATE FUNCTION pg_temp.draw_meters(ns int[], zone text, from_day date, to_day date) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO plan_meter SELECT n, CASE WHEN random() < 0.2 THEN 10 ^ (1 + ceil(log((SELECT max(wh) - min(wh) FROM register r WHERE r.n = x.n) / 2)))::bigint END,
		CASE WHEN n % 3 = 0 THEN pg_temp.one_of('{2 hours,2 hours,90 minutes,6 hours}'::interval[]) ELSE '5 hours' END, random() < 0.5 OR n = 42, CASE WHEN random() < 0.1 THEN pg_temp.some_time(from_day, to_day, zone) END
	FROM unnest(ns) x(n);
	UPDATE plan_meter SET reset_at = NULL WHERE modulus IS NOT NULL;
	UPDATE plan_meter SET reactive = false WHERE modulus IS NOT NULL OR reset_at IS NOT NULL;
	INSERT INTO plan_setup SELECT n, '-infinity', pg_temp.one_of('{1,1,1.3337,0.5,40}'::numeric[]) FROM unnest(ns) n;
	INSERT INTO plan_setup SELECT n, pg_temp.some_time(from_day, to_day, zone), pg_temp.one_of('{1,2.0001,0.75}'::numeric[]) FROM unnest(ns) n WHERE random() < 0.3;
	INSERT INTO shown
	SELECT s.n, s.ts, CASE WHEN m.modulus IS NOT NULL THEN mod(s.wh + m.modulus - s.first / 3, m.modulus) WHEN s.ts > m.reset_at THEN s.wh - s.reset_wh + 7 ELSE s.wh END, CASE WHEN m.reactive THEN s.varh END
	FROM (SELECT r.n, r.ts AT TIME ZONE zone + (random() * 1200000 * CASE r.n WHEN 42 THEN 0.5 ELSE 1 END)::int * interval '1 ms' AS ts, r.wh, r.varh, min(r.wh) OVER (PARTITION BY r.n) AS first,
			max(r.wh) FILTER (WHERE r.ts AT TIME ZONE zone < m.reset_at) OVER (PARTITION BY r.n) AS reset_wh, date_trunc('day', r.ts) AS day, r.ts AS slot
		FROM (SELECT * FROM register r WHERE r.n = ANY (ns) AND r.ts > from_day AND r.ts <= to_day ORDER BY n, ts) r JOIN plan_meter m USING (n)) s
	JOIN plan_meter m USING (n)
	WHERE (s.n % 3 = 0 OR extract(hour FROM s.slot)::int % 4 = s.n % 4) AND random() > 0.05 AND (hashtext(s.n || ' ' || s.day) % 40 <> 0 OR random() < 0.1);
$$;

CREATE FUNCTION pg_temp.draw_supplies(ns int[], zone text, from_day date, to_day date) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	n int;
	start_at timestamptz;
	change_at timestamptz;
BEGIN
	FOR i IN 1..cardinality(ns)
	LOOP
		n := ns[i];
		start_at := CASE WHEN pg_temp.chance(0.6) THEN pg_temp.instant(from_day, zone) ELSE pg_temp.some_time(from_day, from_day + (to_day - from_day) / 3, zone) END;
		change_at := pg_temp.some_time(from_day + (to_day - from_day) / 3, to_day, zone);
		CASE i % 8
			WHEN 1 THEN -- with the next meter on the same tariff
				INSERT INTO plan_supply VALUES (n, n, n, start_at, 'infinity');
			WHEN 2 THEN
				INSERT INTO plan_supply VALUES (ns[i - 1], n, ns[i - 1], start_at, CASE WHEN pg_temp.chance(0.5) THEN 'infinity' ELSE change_at END);
			WHEN 3 THEN -- another tenant in the middle of an interval
				INSERT INTO plan_supply VALUES (n, n, n, start_at, change_at), (n + 50, n, n, change_at, 'infinity');
			WHEN 4 THEN -- the meter is exchanged for the next one, which fed somebody else before
				INSERT INTO plan_supply VALUES (n, n, n, start_at, change_at);
				IF i < cardinality(ns) THEN
					INSERT INTO plan_supply VALUES (ns[i + 1], ns[i + 1], n, start_at, change_at), (n, ns[i + 1], n, change_at, 'infinity');
				END IF;
			WHEN 5 THEN
				NULL;
			WHEN 6 THEN -- empty for a while
				INSERT INTO plan_supply VALUES (n, n, n, start_at, change_at), (n, n, n, change_at + interval '19 days', 'infinity');
			WHEN 7 THEN -- two tariffs, one after the other
				INSERT INTO plan_supply VALUES (n, n, n, start_at, change_at), (n, n, ns[1], change_at, 'infinity');
			ELSE
				INSERT INTO plan_supply VALUES (n, n, n, start_at, 'infinity');
		END CASE;
	END LOOP;
	UPDATE plan_supply SET terms = jsonb_build_object('contract_kw', 10 + floor(random() * 90), 'capacity_kva', 50 + floor(random() * 400)) || CASE WHEN random() < 0.4 THEN jsonb_build_object('household_size', 1 + floor(random() * 7)) ELSE '{}' END;
END
$$;

CREATE FUNCTION pg_temp.draw_prices(zone text, from_day date, to_day date) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	t record;
	definition jsonb;
BEGIN
	INSERT INTO plan_price
	SELECT name, pg_temp.instant(CASE WHEN d::date <= from_day THEN from_day - 40 ELSE d::date + CASE WHEN random() < 0.2 THEN floor(random() * 28)::int ELSE 0 END END, zone), round((0.3 + random() * 0.5)::numeric, pg_temp.one_of('{4,8}'::int[]))
	FROM unnest('{base,grid}'::text[]) name, generate_series(date_trunc('month', from_day), to_day::timestamp, '1 month') d
	WHERE random() < 0.6 OR d::date <= from_day;
	FOR t IN SELECT s.tariff, sum((SELECT (max(r.wh) - min(r.wh)) / 1000.0 * 30 / (to_day - from_day) FROM register r WHERE r.n = s.n AND r.ts BETWEEN from_day AND to_day)) / count(DISTINCT s.account) AS scale
		FROM plan_supply s GROUP BY 1 ORDER BY 1
	LOOP
		-- Where cycles begin in the middle of a month, tiers that come in with a later version are another matter.
		FOR nth IN 0..CASE (SELECT cycle_day FROM plan_site) WHEN 1 THEN pg_temp.one_of('{0,0,1,2}'::int[]) ELSE 0 END
		LOOP
			definition := pg_temp.random_tariff(greatest(t.scale, 10), '{base,grid}');
			INSERT INTO plan_version VALUES (t.tariff, CASE WHEN nth = 0 AND pg_temp.chance(0.9) THEN pg_temp.instant(from_day - 40, zone)
				WHEN definition ?| '{fees,demand}' OR pg_temp.chance(0.7) THEN pg_temp.instant(from_day + floor(random() * (to_day - from_day))::int, zone)
				ELSE date_trunc('minute', pg_temp.some_time(from_day, to_day, zone)) END, definition);
		END LOOP;
	END LOOP;
	INSERT INTO plan_calendar SELECT * FROM pg_temp.random_calendar(from_day, to_day);
	INSERT INTO plan_allowance
	SELECT account, tariff, CASE WHEN kwh THEN 'free' ELSE 'money' END, CASE WHEN kwh THEN round((10 + random() * 3000)::numeric, 3) END, CASE WHEN kwh THEN pg_temp.one_of('{1,0.5,0.333}'::numeric[]) ELSE 1 END,
		CASE WHEN kwh THEN NULL ELSE round((random() * 200)::numeric, 2) + 1 END, pg_temp.instant(from_day + floor(random() * 40)::int, zone)
	FROM (SELECT account, tariff, random() < 0.5 AS kwh FROM (SELECT DISTINCT account, tariff FROM plan_supply ORDER BY 1, 2) s WHERE random() < 0.2) a;
END
$$;

-- A property of the buildings ns from one day to another.
CREATE FUNCTION pg_temp.draw_property(seed float, ns int[], zone text, cycle_day int, from_day date, to_day date) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	TRUNCATE shown, plan_account, plan_site, plan_meter, plan_setup, plan_supply, plan_version, plan_price, plan_calendar, plan_allowance;
	PERFORM setseed(seed);
	INSERT INTO plan_site VALUES (zone, cycle_day, from_day, to_day);
	PERFORM pg_temp.draw_meters(ns, zone, from_day, to_day);
	PERFORM pg_temp.draw_supplies(ns, zone, from_day, to_day);
	INSERT INTO plan_account SELECT DISTINCT account FROM plan_supply;
	PERFORM pg_temp.draw_prices(zone, from_day, to_day);
END
$$;

-- What is drawn, as a site. Its meters and accounts are numbered site x 1000 + number in the drawing.
CREATE FUNCTION pg_temp.furnish(site int) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	INSERT INTO submeter.site (site_id, code, name, time_zone, cycle_day) SELECT site, 'site' || site, 'Site ' || site, zone, cycle_day FROM plan_site;
	INSERT INTO submeter.price_item (site_id, name, valid_from, price) SELECT DISTINCT ON (name, from_ts) site, name, from_ts, price FROM plan_price ORDER BY name, from_ts, price;
	INSERT INTO submeter.tariff (site_id, tariff_id, code) SELECT DISTINCT site, site * 1000 + tariff, 'T' || tariff FROM plan_version;
	INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) SELECT DISTINCT ON (tariff, from_ts) site, site * 1000 + tariff, from_ts, definition FROM plan_version ORDER BY tariff, from_ts, definition;
	INSERT INTO submeter.calendar_day (site_id, day, day_type, flags) SELECT site, day, day_type, flags FROM plan_calendar;
	INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (site, site, 't', 'T');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT site, site * 1000 + account, site, 'a' || account FROM plan_account;
	INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT site, site * 1000 + n, 'm' || n, 'DDS238-2 ZN/SR' FROM plan_meter;
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, register_modulus_wh, rated_current_a, gap_after)
	SELECT site, site * 1000 + n, from_ts, multiplier, modulus, 99999, gap_after FROM plan_setup JOIN plan_meter USING (n);
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms)
	SELECT site, site * 1000 + account, site * 1000 + n, site * 1000 + tariff, tstzrange(from_ts, nullif(to_ts, 'infinity')), terms FROM plan_supply ORDER BY 1, 2, 3, from_ts;
	INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, share, amount, during)
	SELECT site, site * 1000 + account, site * 1000 + tariff, name, kwh, share, amount, tstzrange(from_ts, NULL) FROM plan_allowance;
END
$$;
CREATE FUNCTION pg_temp.bring(site int, rows shown[]) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, reactive_varh) SELECT site, site * 1000 + r.n, r.ts, r.wh, r.varh FROM unnest(rows) r ON CONFLICT DO NOTHING
$$;

-- Prices of names that hold at a time put in the place of the names. A name without one stays.
CREATE FUNCTION pg_temp.resolve(site int, definition jsonb, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
	price record;
BEGIN
	FOR price IN SELECT DISTINCT ON (p.name) p.name, p.price FROM submeter.price_item p WHERE p.site_id = site AND p.valid_from <= at ORDER BY p.name, p.valid_from DESC, p.revision DESC
	LOOP
		definition := replace(definition::text, format('"ref": "%s"', price.name), format('"value": %s', price.price))::jsonb;
	END LOOP;
	RETURN definition;
END
$$;

-- The facts of a site, from its tables, as the reference wants them.
CREATE TEMP TABLE look (id int, account_id bigint, tariff_id bigint, PRIMARY KEY (id));
CREATE FUNCTION pg_temp.look_at(site int) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	TRUNCATE look, ref_case, ref_calendar, ref_version, ref_supply, ref_setup, ref_interval, ref_final, ref_allowance;
	INSERT INTO look SELECT row_number() OVER (ORDER BY account_id, tariff_id), account_id, tariff_id FROM (SELECT DISTINCT account_id, tariff_id FROM submeter.supply s WHERE s.site_id = look_at.site) s;
	INSERT INTO ref_case SELECT id, time_zone, cycle_day, 0, coalesce((SELECT accrued_to FROM submeter.site_settled t WHERE t.site_id = look_at.site), '-infinity') FROM look, submeter.site p WHERE p.site_id = look_at.site;
	INSERT INTO ref_calendar SELECT id, day, day_type, flags FROM look, submeter.calendar_day WHERE site_id = look_at.site;
	INSERT INTO ref_supply SELECT l.id, s.meter_id, lower(s.during), coalesce(upper(s.during), 'infinity'), s.terms FROM look l JOIN submeter.supply s USING (account_id, tariff_id) WHERE s.site_id = look_at.site;
	INSERT INTO ref_allowance SELECT l.id, a.name, a.kwh, a.share, a.amount, lower(a.during), coalesce(upper(a.during), 'infinity') FROM look l JOIN submeter.allowance a USING (account_id, tariff_id) WHERE a.site_id = look_at.site;
	INSERT INTO ref_final SELECT l.id, (c.cycle_start AT TIME ZONE s.time_zone)::date FROM look l JOIN submeter.charge c USING (account_id, tariff_id) JOIN submeter.site s USING (site_id) WHERE c.site_id = look_at.site AND c.final;
	INSERT INTO ref_setup SELECT meter_id, valid_from, lead(valid_from, 1, 'infinity') OVER (PARTITION BY meter_id ORDER BY valid_from), multiplier
	FROM (SELECT DISTINCT ON (meter_id, valid_from) * FROM submeter.meter_setup WHERE site_id = look_at.site ORDER BY meter_id, valid_from, entered_at DESC) p;

	-- A tariff changes when it gets a version and when a price it names changes; while one of those is not known it has no price.
	INSERT INTO ref_version
	SELECT l.id, t.at, t.upto, x.definition
	FROM look l
	JOIN (SELECT v.tariff_id, v.definition, x.at, lead(x.at, 1, 'infinity') OVER (PARTITION BY v.tariff_id ORDER BY x.at) AS upto
		FROM (SELECT tariff_id, valid_from, definition, lead(valid_from, 1, 'infinity') OVER (PARTITION BY tariff_id ORDER BY valid_from) AS valid_to
			FROM (SELECT DISTINCT ON (tariff_id, valid_from) * FROM submeter.tariff_version WHERE site_id = look_at.site ORDER BY tariff_id, valid_from, revision DESC) v) v
		CROSS JOIN LATERAL (SELECT v.valid_from AS at UNION SELECT p.valid_from FROM submeter.price_item p WHERE p.site_id = look_at.site AND p.valid_from > v.valid_from AND p.valid_from < v.valid_to
			AND p.name IN (SELECT value #>> '{}' FROM jsonb_path_query(v.definition, 'strict $.**.ref') value)) x) t USING (tariff_id)
	CROSS JOIN LATERAL (SELECT pg_temp.resolve(look_at.site, t.definition, t.at) AS definition) x
	WHERE NOT jsonb_path_exists(x.definition, 'strict $.**.ref');

	-- Readings that count, with what a person said about them; a confirmed suspect begins a new series, a register that
	-- fell by more than half a turn has rolled over, any other that fell proves nothing.
	INSERT INTO ref_interval
	WITH fact AS (
		SELECT r.meter_id, r.ts, coalesce(v.energy_wh, r.energy_wh)::numeric AS wh, r.reactive_varh::numeric AS varh, coalesce(q.confirmed, false) AND v.verdict IS NULL AS anew, p.register_modulus_wh AS modulus, p.gap_after
		FROM submeter.reading r
		LEFT JOIN (SELECT DISTINCT ON (v.meter_id, v.ts) v.* FROM submeter.reading_verdict v WHERE v.site_id = look_at.site ORDER BY v.meter_id, v.ts, v.verdict_id DESC) v USING (meter_id, ts)
		LEFT JOIN (SELECT q.meter_id, q.ts, bool_or(q.state = 'open') AS open, bool_or(q.state = 'confirmed') AS confirmed FROM submeter.reading_suspect q WHERE q.site_id = look_at.site GROUP BY 1, 2) q USING (meter_id, ts)
		JOIN (SELECT DISTINCT ON (meter_id) * FROM submeter.meter_setup WHERE site_id = look_at.site ORDER BY meter_id, valid_from DESC, entered_at DESC) p USING (meter_id)
		WHERE r.site_id = look_at.site AND v.verdict IS DISTINCT FROM 'withdraw' AND (v.verdict IS NOT NULL OR NOT coalesce(q.open, false)) AND r.energy_wh IS NOT NULL)
	SELECT meter_id, a, b, a_wh, CASE WHEN anew THEN a_wh WHEN b_wh >= a_wh THEN b_wh WHEN a_wh - b_wh > modulus / 2 THEN b_wh + modulus ELSE a_wh END,
		CASE WHEN b_varh >= a_varh AND NOT anew THEN a_varh END, CASE WHEN b_varh >= a_varh AND NOT anew THEN b_varh END, b - a > gap_after
	FROM (SELECT meter_id, lag(ts) OVER w AS a, ts AS b, lag(wh) OVER w AS a_wh, wh AS b_wh, lag(varh) OVER w AS a_varh, varh AS b_varh, anew, modulus, gap_after
		FROM fact WINDOW w AS (PARTITION BY meter_id ORDER BY ts)) f
	WHERE a IS NOT NULL;
	PERFORM pg_temp.rate();
END
$$;

-- Where a site and the reference differ: what, whose, wanted and got. Nothing is left out but rows that say nothing.
CREATE FUNCTION pg_temp.differences(site int) RETURNS TABLE (what text, account_id bigint, tariff_id bigint, cycle_from date, wanted text, got text)
LANGUAGE sql
AS $$
	WITH got AS (
		SELECT l.id, (c.cycle_start AT TIME ZONE s.time_zone)::date AS cycle_from, c.energy_wh::numeric AS energy_wh, c.unpriced_wh::numeric AS unpriced_wh, c.estimated_wh::numeric AS estimated_wh,
			regexp_replace(array_to_string(c.tier_wh, ' '), '( ?\y0)*$', '') AS tier_wh, c.demand_w::numeric AS demand_w, c.active_wh::numeric AS active_wh, c.reactive_varh::numeric AS varh, c.amount, c.rounded
		FROM submeter.charge c JOIN submeter.site s USING (site_id) JOIN look l USING (account_id, tariff_id) WHERE c.site_id = differences.site),
	want AS (
		SELECT c.id, c.cycle_from, c.energy_wh, c.unpriced_wh, c.gap_wh,
			regexp_replace(array_to_string(c.tier_wh, ' '), '( ?\y0)*$', '') AS tier_wh,
			CASE WHEN v.definition #>> '{demand,basis}' = 'maximum' THEN coalesce(c.demand_w, 0) END AS demand_w,
			CASE WHEN v.definition ? 'power_factor' THEN c.active_wh END AS active_wh, CASE WHEN v.definition ? 'power_factor' THEN c.varh END AS varh, coalesce(c.amount, 0) AS amount, coalesce(c.rounded, 0) AS rounded
		FROM ref_charge c LEFT JOIN ref_version v ON v.id = c.id AND v.from_ts = c.version)
	SELECT x.what, l.account_id, l.tariff_id, x.cycle_from, x.wanted, x.got
	FROM (
		SELECT v.what, id, cycle_from, v.wanted, v.got
		FROM want w FULL JOIN got g USING (id, cycle_from)
		CROSS JOIN LATERAL (VALUES
			('energy', coalesce(w.energy_wh, 0)::bigint::text, coalesce(g.energy_wh, 0)::text),
			('unpriced', coalesce(w.unpriced_wh, 0)::bigint::text, coalesce(g.unpriced_wh, 0)::text),
			('estimated', coalesce(w.gap_wh, 0)::bigint::text, coalesce(g.estimated_wh, 0)::text),
			('tiers', coalesce(w.tier_wh, ''), coalesce(g.tier_wh, '')),
			('demand', w.demand_w::bigint::text, CASE WHEN w.demand_w IS NOT NULL THEN coalesce(g.demand_w, 0)::text END),
			('active', w.active_wh::bigint::text, CASE WHEN w.active_wh IS NOT NULL THEN coalesce(g.active_wh, 0)::text END),
			('reactive', w.varh::bigint::text, CASE WHEN w.varh IS NOT NULL THEN coalesce(g.varh, 0)::text END),
			('amount', trim_scale(coalesce(w.amount, 0))::text, trim_scale(coalesce(g.amount, 0))::text),
			('rounded', trim_scale(coalesce(w.rounded, 0))::text, trim_scale(coalesce(g.rounded, 0))::text)) v(what, wanted, got)) x
	JOIN look l USING (id)
	WHERE x.wanted IS DISTINCT FROM x.got
$$;
-- The same for lines. Their amounts are in whole cents: parts of a cent went to those that lost most.
CREATE TEMP TABLE got_line (id int, cycle_from date, component text, tier int, period text, version timestamptz, wh numeric, price numeric, amount numeric);
CREATE FUNCTION pg_temp.line_differences(site int) RETURNS TABLE (what text, account_id bigint, tariff_id bigint, cycle_from date, component text, tier int, period text, version timestamptz, wanted text, got text)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
	TRUNCATE got_line;
	INSERT INTO got_line
	SELECT l.id, (x.starts[n.ord] AT TIME ZONE s.time_zone)::date, n.component, coalesce(n.tier, CASE WHEN n.component = 'energy' THEN 1 END), n.period, n.version_from, n.energy_wh, n.price, n.amount
	FROM (SELECT array_agg(c.account_id ORDER BY c.account_id, c.tariff_id, c.cycle_start) AS accounts, array_agg(c.tariff_id ORDER BY c.account_id, c.tariff_id, c.cycle_start) AS tariffs,
			array_agg(c.cycle_start ORDER BY c.account_id, c.tariff_id, c.cycle_start) AS starts FROM submeter.charge c WHERE c.site_id = line_differences.site) x
	CROSS JOIN LATERAL submeter.charge_lines(line_differences.site, x.accounts, x.tariffs, x.starts) n
	JOIN submeter.site s ON s.site_id = line_differences.site
	JOIN look l ON l.account_id = x.accounts[n.ord] AND l.tariff_id = x.tariffs[n.ord];
	RETURN QUERY
	WITH want AS (
		SELECT r.id, r.cycle_from, r.component, r.tier, r.period, r.version, r.wh, r.price, r.amount, 10 ^ -coalesce((v.definition #>> '{rounding,digits}')::numeric, 2) AS unit
		FROM ref_line r JOIN ref_charge c USING (id, cycle_from) JOIN ref_version v ON v.id = r.id AND v.from_ts = c.version),
	pair AS (
		SELECT id, cycle_from, component, w.tier, w.period, coalesce(w.version, g.version) AS version, w.wh AS wanted_wh, g.wh AS got_wh, w.price AS wanted_price, g.price AS got_price, w.amount AS wanted_amount, g.amount AS got_amount, w.unit
		FROM want w FULL JOIN (SELECT * FROM got_line g WHERE coalesce(g.wh, 0) <> 0 OR g.amount <> 0) g USING (id, cycle_from, component)
		WHERE w.id IS NULL OR g.id IS NULL OR (w.tier IS NOT DISTINCT FROM g.tier AND w.period IS NOT DISTINCT FROM g.period AND (w.version = g.version OR component NOT IN ('energy') AND component NOT LIKE 'adder:%' AND component NOT LIKE 'fee:%')))
	SELECT d.what, l.account_id, l.tariff_id, p.cycle_from, p.component, p.tier, p.period, p.version, d.wanted, d.got
	FROM pair p JOIN look l USING (id)
	CROSS JOIN LATERAL (VALUES
		('energy', CASE WHEN p.component = 'energy' OR p.component LIKE 'adder:%' THEN coalesce(p.wanted_wh, 0)::bigint::text END, CASE WHEN p.component = 'energy' OR p.component LIKE 'adder:%' THEN coalesce(p.got_wh, 0)::text END),
		('price', CASE WHEN p.component = 'energy' OR p.component LIKE 'adder:%' THEN trim_scale(p.wanted_price)::text END, CASE WHEN p.component = 'energy' OR p.component LIKE 'adder:%' THEN trim_scale(p.got_price)::text END),
		('amount', CASE WHEN abs(coalesce(p.wanted_amount, 0) - coalesce(p.got_amount, 0)) >= coalesce(p.unit, 0.01) THEN p.wanted_amount::text END, CASE WHEN abs(coalesce(p.wanted_amount, 0) - coalesce(p.got_amount, 0)) >= coalesce(p.unit, 0.01) THEN coalesce(p.got_amount, 0)::text END)) d(what, wanted, got)
	WHERE d.wanted IS DISTINCT FROM d.got
	UNION ALL
	SELECT 'sum', c.account_id, c.tariff_id, g.cycle_from, NULL, NULL, NULL, NULL, c.rounded::text, g.amount::text
	FROM (SELECT id, n.cycle_from, sum(n.amount) AS amount FROM got_line n GROUP BY 1, 2) g JOIN look l USING (id)
	JOIN submeter.charge c ON c.site_id = line_differences.site AND c.account_id = l.account_id AND c.tariff_id = l.tariff_id
	JOIN submeter.site s ON s.site_id = c.site_id WHERE (c.cycle_start AT TIME ZONE s.time_zone)::date = g.cycle_from AND c.rounded <> g.amount;
END
$$;
-- Days of meters that one supply covers whole.
CREATE FUNCTION pg_temp.usage_differences(site int) RETURNS TABLE (meter_id bigint, day date, wanted numeric, got bigint)
LANGUAGE sql
AS $$
	WITH want AS (
		SELECT p.meter AS meter_id, d.day, sum(p.wh) AS wh FROM ref_piece p JOIN ref_day d ON d.id = p.id AND p.a >= d.from_ts AND p.a < d.to_ts
		JOIN ref_supply s ON s.id = p.id AND s.meter = p.meter AND s.from_ts <= d.from_ts AND s.to_ts >= d.to_ts GROUP BY 1, 2)
	SELECT w.meter_id, w.day, w.wh, u.energy_wh FROM want w LEFT JOIN submeter.usage_day u ON u.site_id = usage_differences.site AND u.meter_id = w.meter_id AND u.day = w.day
	WHERE w.wh <> coalesce(u.energy_wh, 0)
$$;
-- What is stored against what computing from scratch gives.
CREATE FUNCTION pg_temp.off(site int) RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, amount numeric, rounded numeric, stored boolean)
LANGUAGE sql
AS $$
	SELECT account_id, tariff_id, cycle_start, energy_wh, amount, rounded, r IS NULL
	FROM (SELECT account_id, tariff_id, cycle_start, energy_wh, amount, rounded FROM submeter.charge c WHERE c.site_id = off.site AND (c.energy_wh <> 0 OR c.amount <> 0)) c
	FULL JOIN (SELECT * FROM submeter.rebuild_charges(off.site) r WHERE r.energy_wh <> 0 OR r.amount <> 0) r USING (account_id, tariff_id, cycle_start, energy_wh, amount, rounded)
	WHERE c IS NULL OR r IS NULL
$$;
