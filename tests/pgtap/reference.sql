-- A slow reference of usage and charges in plain SQL, written from the rules and not from the code: every hour, every
-- charge and every tier of eight homes over two months agrees with it, to the watt-hour and to the last digit.
\ir common/homes.sql

SELECT plan(15);

SELECT pg_temp.furnish(1) \g /dev/null
-- One reading is withdrawn, one replaced, one suspect accepted.
SELECT pg_temp.batch(1, array_agg(s)) FROM shown s \g /dev/null
SELECT submeter.judge_reading(1, 103, (SELECT ts FROM shown WHERE n = 3 ORDER BY ts OFFSET 500 LIMIT 1), 'withdraw', 'x') \g /dev/null
SELECT submeter.judge_reading(1, 106, s.ts, 'replace', 'x', s.wh + 3) FROM (SELECT * FROM shown WHERE n = 6 ORDER BY ts OFFSET 700 LIMIT 1) s \g /dev/null
SELECT submeter.judge_reading(1, meter_id, ts, 'accept', 'x') FROM submeter.reading_suspect WHERE site_id = 1 AND meter_id = 104 AND state = 'open' ORDER BY ts LIMIT 1 \g /dev/null
SELECT submeter.settle(1, '2025-07-15') \g /dev/null

-- 1. Readings that count, with what a person said about them; a confirmed suspect begins a new series.
CREATE TEMP TABLE fact AS
SELECT r.meter_id, r.ts, coalesce(v.energy_wh, r.energy_wh)::numeric AS wh, q.confirmed
FROM submeter.reading r
LEFT JOIN (SELECT DISTINCT ON (v.meter_id, v.ts) v.* FROM submeter.reading_verdict v WHERE v.site_id = 1 ORDER BY v.meter_id, v.ts, v.verdict_id DESC) v USING (meter_id, ts)
LEFT JOIN (SELECT q.meter_id, q.ts, bool_or(q.state = 'open') AS open, bool_or(q.state = 'confirmed') AS confirmed
	FROM submeter.reading_suspect q WHERE q.site_id = 1 GROUP BY 1, 2) q USING (meter_id, ts)
WHERE r.site_id = 1 AND v.verdict IS DISTINCT FROM 'withdraw' AND (v.verdict IS NOT NULL OR NOT coalesce(q.open, false));
-- Intervals between them; a register that goes back proves nothing.
CREATE TEMP TABLE span AS
SELECT * FROM (
	SELECT f.meter_id, lag(f.ts) OVER w AS a, f.ts AS b, CASE WHEN f.confirmed THEN f.wh ELSE lag(f.wh) OVER w END AS a_wh,
		CASE WHEN f.confirmed THEN 0 ELSE greatest(f.wh - lag(f.wh) OVER w, 0) END AS wh
	FROM fact f WINDOW w AS (PARTITION BY f.meter_id ORDER BY f.ts)) s
WHERE a IS NOT NULL;

-- 2. Cut at every full hour (the zone has no summer time) and wherever a setup, a supply or a price changes.
CREATE TEMP TABLE edge AS
SELECT DISTINCT s.meter_id, s.a, s.b, e.ts
FROM span s
CROSS JOIN LATERAL (
	SELECT s.a UNION ALL SELECT s.b
	UNION ALL SELECT h FROM generate_series(date_trunc('hour', s.a), s.b, interval '1 hour') h WHERE h > s.a AND h < s.b
	UNION ALL SELECT valid_from FROM submeter.meter_setup m WHERE m.meter_id = s.meter_id AND m.valid_from > s.a AND m.valid_from < s.b
	UNION ALL SELECT x FROM submeter.supply u, unnest(ARRAY[lower(u.during), upper(u.during)]) x WHERE u.meter_id = s.meter_id AND x > s.a AND x < s.b
	UNION ALL SELECT v.valid_from FROM submeter.tariff_version v WHERE v.site_id = 1 AND v.valid_from > s.a AND v.valid_from < s.b) e(ts);
CREATE FUNCTION pg_temp.us(length interval) RETURNS numeric
LANGUAGE sql
AS $$
	SELECT round(extract(epoch FROM length) * 1000000)
$$;
-- Register at each edge: linear inside the interval, in whole Wh, half up.
CREATE TEMP TABLE at_edge AS
SELECT e.meter_id, e.a AS span_a, e.ts,
	s.a_wh + floor((2 * s.wh * pg_temp.us(e.ts - s.a) + pg_temp.us(s.b - s.a)) / (2 * pg_temp.us(s.b - s.a))) AS register
FROM edge e JOIN span s USING (meter_id, a, b);
-- Energy of each piece: both registers times the multiplier that holds at its start, each in whole Wh.
CREATE TEMP TABLE piece AS
SELECT p.meter_id, p.a, p.b, floor(p.b_wh * m.multiplier + 0.5) - floor(p.a_wh * m.multiplier + 0.5) AS wh
FROM (SELECT meter_id, ts AS a, register AS a_wh, lead(ts) OVER w AS b, lead(register) OVER w AS b_wh FROM at_edge WINDOW w AS (PARTITION BY meter_id, span_a ORDER BY ts)) p
CROSS JOIN LATERAL (SELECT m.multiplier FROM submeter.meter_setup m WHERE m.meter_id = p.meter_id AND m.valid_from <= p.a ORDER BY m.valid_from DESC, m.entered_at DESC LIMIT 1) m
WHERE p.b IS NOT NULL;

-- 3. Usage
CREATE TEMP TABLE hour_wanted AS
SELECT meter_id, date_trunc('hour', a) AS hour, sum(wh) AS wh FROM piece GROUP BY 1, 2;
SELECT cmp_ok((SELECT count(*) FROM piece), '>', 20000::bigint, 'there is enough to compare');
SELECT is_empty($$
	SELECT meter_id, hour, w.wh AS wanted, u.energy_wh AS got FROM hour_wanted w
	FULL JOIN (SELECT * FROM submeter.usage_hour WHERE site_id = 1 AND energy_wh <> 0) u USING (meter_id, hour)
	WHERE coalesce(w.wh, 0) <> coalesce(u.energy_wh, 0)$$, 'every hour of every meter');
SELECT is_empty($$
	SELECT meter_id, day FROM (SELECT meter_id, (hour AT TIME ZONE 'Asia/Shanghai')::date AS day, sum(wh) AS wh FROM hour_wanted GROUP BY 1, 2) w
	FULL JOIN (SELECT * FROM submeter.usage_day WHERE site_id = 1) u USING (meter_id, day) WHERE w.wh IS DISTINCT FROM u.energy_wh$$, 'every day of every meter');
SELECT is((SELECT sum(h) FROM submeter.usage_day u, unnest(u.hour_wh) h WHERE u.meter_id = m), (SELECT max(wh) - min(wh) FROM fact WHERE meter_id = m),
	'hours of meter ' || m || ' = difference of its registers') FROM unnest('{101,102,103}'::int[]) m;
SELECT is((SELECT sum(h) FROM submeter.usage_day u, unnest(u.hour_wh) h WHERE u.meter_id = 105),
	(SELECT sum(wh) FROM piece WHERE meter_id = 105), 'hours of the meter with the new transformer = its registers x multipliers');

-- 4. Charges: pieces of the account in time order, up to each bound of the version in force, positions carried over a change of price.
CREATE TEMP TABLE used AS
SELECT s.account_id, s.tariff_id, date_trunc('month', p.a AT TIME ZONE 'Asia/Shanghai') AT TIME ZONE 'Asia/Shanghai' AS cycle_start,
	v.valid_from, v.definition, sum(p.wh) AS wh
FROM piece p
JOIN submeter.supply s ON s.site_id = 1 AND s.meter_id = p.meter_id AND s.during @> p.a
CROSS JOIN LATERAL (SELECT v.valid_from, v.definition FROM submeter.tariff_version v WHERE v.site_id = 1 AND v.tariff_id = s.tariff_id AND v.valid_from <= p.a ORDER BY v.valid_from DESC LIMIT 1) v
GROUP BY 1, 2, 3, 4, 5;
CREATE TEMP TABLE tiered AS
SELECT u.account_id, u.tariff_id, u.cycle_start, t.tier, t.price, greatest(least(u.upto, t.upto) - greatest(u.upto - u.wh, t.above), 0) AS wh
FROM (SELECT *, sum(wh) OVER (PARTITION BY account_id, tariff_id, cycle_start ORDER BY valid_from) AS upto FROM used) u
CROSS JOIN LATERAL (
	SELECT b.tier, lag(b.upto, 1, 0) OVER (ORDER BY b.tier) AS above, b.upto, (u.definition #>> ARRAY['energy', (b.tier - 1)::text, 'price'])::numeric AS price
	FROM (SELECT o AS tier, value::numeric * 1000 AS upto FROM jsonb_array_elements_text(u.definition #> '{tiers,bounds,0,upto_kwh}') WITH ORDINALITY x(value, o)
		UNION ALL SELECT 3, 1e15) b) t;
CREATE TEMP TABLE owed AS
SELECT account_id, tariff_id, cycle_start, sum(wh) AS wh, sum(wh * price) / 1000 AS amount,
	ARRAY[sum(wh) FILTER (WHERE tier = 1), sum(wh) FILTER (WHERE tier = 2), sum(wh) FILTER (WHERE tier = 3)]::bigint[] AS tier_wh
FROM tiered GROUP BY 1, 2, 3;
SELECT cmp_ok((SELECT count(*) FROM tiered WHERE wh > 0 AND tier > 1), '>', 8::bigint, 'tiers above the first are reached');
SELECT cmp_ok((SELECT count(*) FROM (SELECT FROM used GROUP BY account_id, cycle_start HAVING count(*) > 1) x), '=', 7::bigint, 'the price changed in the middle of June for everybody there');
SELECT is_empty($$
	SELECT account_id, cycle_start, o.wh AS wanted, c.energy_wh AS got FROM owed o FULL JOIN (SELECT * FROM submeter.charge WHERE site_id = 1) c USING (account_id, tariff_id, cycle_start)
	WHERE o.wh IS DISTINCT FROM c.energy_wh$$, 'energy of every charge');
SELECT is_empty($$
	SELECT account_id, cycle_start, o.tier_wh AS wanted, c.tier_wh AS got FROM owed o JOIN submeter.charge c USING (account_id, tariff_id, cycle_start) WHERE o.tier_wh <> c.tier_wh$$, 'energy of every tier');
SELECT is_empty($$
	SELECT account_id, cycle_start, o.amount AS wanted, c.amount AS got FROM owed o JOIN submeter.charge c USING (account_id, tariff_id, cycle_start) WHERE o.amount <> c.amount$$, 'exact amount of every charge');
SELECT is_empty($$
	SELECT account_id, cycle_start, o.amount, c.rounded FROM owed o JOIN submeter.charge c USING (account_id, tariff_id, cycle_start) WHERE round(o.amount, 2) <> c.rounded$$, 'rounded amount of every charge');
-- Deductions add up to the bill, whenever they were taken.
SELECT submeter.post_charges(1, '2025-07-15') \g /dev/null
SELECT is((SELECT -sum(total) FROM submeter.ledger_account WHERE site_id = 1 AND kind = 'tenant'), (SELECT sum(round(amount, 2)) FROM owed), 'what the ledger took = what the reference says');
SELECT is_empty('SELECT * FROM submeter.verify_ledger(1)', 'the ledger is sound');

SELECT * FROM finish();
