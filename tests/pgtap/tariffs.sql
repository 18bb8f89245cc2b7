-- quote() against a slow reference in plain SQL: random tariffs with everything the format knows, random calendars, zones
-- with and without summer time, usage by the hour, day and month. Every line agrees. SM_SOAK=n draws n times as many.
\ir common/rating.sql
\ir common/tariffs.sql
\getenv soak SM_SOAK
\if :{?soak}
\else
	\set soak 1
\endif

CREATE TEMP TABLE asked (id int PRIMARY KEY, definition jsonb, bounds timestamptz[], kwh numeric[], zone text, calendar jsonb, start_kwh numeric, terms jsonb);
CREATE TEMP TABLE answer (id int, component text, tier int, period text, kwh numeric, price numeric, amount numeric);

-- A question: some months by the month, some by the day, weeks by the hour, or anyhow.
CREATE FUNCTION pg_temp.ask(id int) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	zone constant text := pg_temp.one_of('{Asia/Shanghai,Europe/Berlin,America/New_York,Asia/Kolkata}'::text[]);
	first constant date := '2025-01-01'::date + floor(random() * 365)::int;
	style constant int := floor(random() * 4);
	day_kwh constant numeric := round((2 + random() * 60)::numeric, 3);
	definition constant jsonb := pg_temp.random_tariff(day_kwh * 30);
	bounds timestamptz[];
BEGIN
	bounds := CASE style
		WHEN 0 THEN ARRAY(SELECT pg_temp.instant((date_trunc('month', first) + n * interval '1 month')::date, zone) FROM generate_series(0, 2 + floor(random() * 13)::int) n)
		WHEN 1 THEN ARRAY(SELECT pg_temp.instant(first + n, zone) FROM generate_series(0, 20 + floor(random() * 80)::int) n)
		WHEN 2 THEN ARRAY(SELECT pg_temp.instant(first, zone) + n * interval '1 hour' FROM generate_series(0, 100 + floor(random() * 400)::int) n)
		ELSE ARRAY(SELECT DISTINCT date_trunc('second', pg_temp.instant(first, zone) + random() * interval '70 days') AS t FROM generate_series(1, 40) ORDER BY t) END;
	INSERT INTO asked
	SELECT id, definition, bounds,
		ARRAY(SELECT CASE WHEN random() < 0.05 THEN 0 ELSE round((day_kwh * extract(epoch FROM bounds[n + 1] - bounds[n]) / 86400 * (random() * 2)::numeric), 3) END FROM generate_series(1, cardinality(bounds) - 1) n),
		zone, CASE WHEN random() < 0.7 THEN (SELECT jsonb_object_agg(c.day, jsonb_strip_nulls(jsonb_build_object('type', c.day_type, 'flags', c.flags))) FROM pg_temp.random_calendar((bounds[1] AT TIME ZONE zone)::date - 1, (bounds[cardinality(bounds)] AT TIME ZONE zone)::date) c) END,
		CASE WHEN random() < 0.3 THEN round((random() * 300)::numeric, 3) ELSE 0 END,
		jsonb_build_object('contract_kw', 20 + floor(random() * 50), 'capacity_kva', 100) || CASE WHEN random() < 0.4 THEN jsonb_build_object('household_size', 1 + floor(random() * 7)) ELSE '{}' END
			|| CASE WHEN random() < 0.7 THEN jsonb_build_object('power_factor', round((0.5 + random() * 0.5)::numeric, 2)) ELSE '{}' END;
END
$$;

SELECT setseed(0.62) \g /dev/null
SELECT count(pg_temp.ask(n)) FROM generate_series(1, 100 * :soak) n \g /dev/null
INSERT INTO answer
SELECT a.id, q.* FROM asked a CROSS JOIN LATERAL submeter.quote(a.definition, a.bounds, a.kwh, a.zone, a.calendar, a.start_kwh, a.terms) q;

-- The same for the reference: one meter that begins at zero; every month is closed.
INSERT INTO ref_case SELECT id, zone, 1, start_kwh * 1000, 'infinity', (terms ->> 'power_factor')::numeric FROM asked;
INSERT INTO ref_calendar SELECT id, c.key::date, c.value ->> 'type', coalesce((SELECT array_agg(f) FROM jsonb_array_elements_text(c.value -> 'flags') f), '{}') FROM asked, jsonb_each(calendar) c;
INSERT INTO ref_version SELECT id, '-infinity', 'infinity', definition FROM asked;
INSERT INTO ref_supply SELECT id, id, bounds[1], bounds[cardinality(bounds)], terms FROM asked;
INSERT INTO ref_setup SELECT id, '-infinity', 'infinity', 1 FROM asked;
INSERT INTO ref_interval
SELECT id, bounds[n], bounds[n + 1], sum(k * 1000) OVER (PARTITION BY id ORDER BY n) - k * 1000, sum(k * 1000) OVER (PARTITION BY id ORDER BY n) FROM asked, unnest(kwh) WITH ORDINALITY x(k, n);
INSERT INTO ref_final SELECT id, d::date FROM asked, generate_series(date_trunc('month', bounds[1] AT TIME ZONE zone), bounds[cardinality(bounds)] AT TIME ZONE zone, '1 month') d;
SELECT pg_temp.rate() \g /dev/null

-- Months add up in the lines of a quote; what has no energy or no money in it need not be said.
CREATE TEMP VIEW wanted_line AS
SELECT id, component, tier, period, sum(wh) / 1000 AS kwh, price, sum(amount) AS exact, count(*) AS months
FROM ref_line WHERE component IN ('energy') OR component LIKE 'adder:%' GROUP BY id, component, tier, period, price;
CREATE TEMP VIEW wanted_sum AS
SELECT id, component, sum(amount) AS exact, count(*) AS n FROM ref_line GROUP BY id, component;

SELECT plan(12);
SELECT cmp_ok((SELECT count(*) FROM draw WHERE accepted), '>=', 100::bigint, 'tariffs were drawn');
SELECT cmp_ok((SELECT count(*) FROM draw WHERE NOT accepted)::numeric / (SELECT count(*) FROM draw), '<', 0.5, 'and most draws are sound tariffs');
SELECT is_empty($$ SELECT f FROM unnest('{tiers,periods,seasons,tier_adders,adders,fees,demand,power_factor,minimum,tax_rate,rounding}'::text[]) f
	WHERE (SELECT count(*) FROM asked WHERE definition ? f) < 15 $$, 'every part of the format is there often enough');
SELECT cmp_ok((SELECT count(*) FROM ref_slice), '>', 30000::bigint, 'there is enough to compare');
SELECT is_empty($$ SELECT id, w.rounded, a.amount FROM (SELECT id, sum(rounded) AS rounded FROM ref_charge GROUP BY 1) w
	FULL JOIN (SELECT id, sum(amount) AS amount FROM answer GROUP BY 1) a USING (id) WHERE coalesce(w.rounded, 0) <> coalesce(a.amount, 0) $$, 'totals: each month rounded once');
SELECT is_empty($$ SELECT w, a FROM (SELECT * FROM wanted_line WHERE component = 'energy') w
	FULL JOIN (SELECT * FROM answer WHERE component = 'energy' AND kwh <> 0) a
	ON a.id = w.id AND coalesce(a.tier, 1) = coalesce(w.tier, 1) AND a.period IS NOT DISTINCT FROM w.period AND a.price = w.price WHERE w.kwh IS DISTINCT FROM a.kwh $$, 'energy of every tier, period and price');
SELECT is_empty($$ SELECT w, a FROM (SELECT * FROM wanted_line WHERE component <> 'energy') w
	FULL JOIN (SELECT * FROM answer WHERE component LIKE 'adder:%' AND kwh <> 0) a USING (id, component, price) WHERE w.kwh IS DISTINCT FROM a.kwh $$, 'energy of every adder');
-- Shares of a cent go to the lines that lost most: no line is off by a whole unit in any month.
SELECT is_empty($$ SELECT w, a FROM wanted_line w JOIN answer a ON a.id = w.id AND a.component = w.component AND coalesce(a.tier, 1) = coalesce(w.tier, 1) AND a.period IS NOT DISTINCT FROM w.period AND a.price = w.price
	JOIN asked q ON q.id = w.id WHERE abs(w.exact - a.amount) >= w.months * 10 ^ -coalesce((q.definition #>> '{rounding,digits}')::numeric, 2) $$, 'amount of every line');
SELECT is_empty($$ SELECT w, a FROM wanted_sum w FULL JOIN (SELECT id, component, sum(amount) AS amount FROM answer GROUP BY 1, 2) a USING (id, component)
	JOIN asked q USING (id) WHERE abs(coalesce(w.exact, 0) - coalesce(a.amount, 0)) >= coalesce(w.n, 1) * 10 ^ -coalesce((q.definition #>> '{rounding,digits}')::numeric, 2) $$, 'amount of every component');
SELECT is_empty($$ SELECT c FROM unnest('{energy,demand,power_factor,adder:funds,fee:service,minimum,tax}'::text[]) c WHERE (SELECT count(*) FROM ref_line WHERE component = c) < 10 $$, 'every component came up');
SELECT is_empty($$ SELECT id, component, amount FROM answer JOIN asked USING (id) WHERE amount <> round(amount, coalesce((definition #>> '{rounding,digits}')::int, 2)) $$, 'lines have no more places than the tariff');
-- The reference is right where others have published what is right.
TRUNCATE ref_case, ref_calendar, ref_version, ref_supply, ref_setup, ref_interval, ref_final;
INSERT INTO ref_case SELECT n, 'Asia/Shanghai' FROM generate_series(1, 2) n;
INSERT INTO ref_version SELECT n, '-infinity', 'infinity', '{"tiers":{"bounds":[{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}]},"seasons":{"summer":["05-01","11-01"]},"energy":[{"tier":1,"price":0.589},{"tier":2,"price":0.639},{"price":0.889}]}' FROM generate_series(1, 2) n;
INSERT INTO ref_setup SELECT n, '-infinity', 'infinity', 1 FROM generate_series(1, 2) n;
INSERT INTO ref_supply VALUES (1, 1, '2025-05-01 00:00+08', '2025-06-01 00:00+08'), (2, 2, '2025-12-01 00:00+08', '2026-01-01 00:00+08');
INSERT INTO ref_interval SELECT meter, from_ts, to_ts, 0, 600000 FROM ref_supply;
SELECT pg_temp.rate() \g /dev/null
SELECT results_eq('SELECT rounded FROM ref_charge ORDER BY id', '{370.40,423.40}'::numeric[], 'Guangzhou, 600 kWh: 370.40 in May, 423.40 in December');

SELECT * FROM finish();
