-- Room: tariff. What usage costs under every part of a tariff; figures worked by hand stand beside the statements.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- Bounds every so often, and the same quantity between them.
CREATE FUNCTION pg_temp.bounds(from_ts timestamptz, to_ts timestamptz, step interval) RETURNS timestamptz[]
LANGUAGE sql
AS $$
	SELECT array_agg(b ORDER BY b) FROM generate_series(from_ts, to_ts, step) AS b
$$;
CREATE FUNCTION pg_temp.each(kwh numeric, bounds timestamptz[]) RETURNS numeric[]
LANGUAGE sql
AS $$
	SELECT array_fill(kwh, ARRAY[cardinality(bounds) - 1])
$$;
CREATE FUNCTION pg_temp.total(definition jsonb, from_ts timestamptz, to_ts timestamptz, kwh numeric, calendar jsonb DEFAULT NULL, start_kwh numeric DEFAULT 0, terms jsonb DEFAULT NULL) RETURNS numeric
LANGUAGE sql
AS $$
	SELECT sum(q.amount) FROM submeter.quote(definition, ARRAY[from_ts, to_ts], ARRAY[kwh], 'Asia/Shanghai', calendar, start_kwh, terms) AS q
$$;

-- 1. Seasons and households: Guangdong, bounds 260/600 from May to October, else 200/400; five people and more: 100 kWh up

\set ladder '{"seasons":{"summer":["05-01","11-01"]},"tiers":{"bounds":[{"season":"summer","household":5,"upto_kwh":[360,700]},{"household":5,"upto_kwh":[300,500]},{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}]},"energy":[{"price":0.589}],"tier_adders":[0,0.05,0.30]}'
-- 260 x 0.589 + 340 x 0.639 = 370.40; 200 x (0.589 + 0.639 + 0.889) = 423.40
SELECT pg_temp.total(:'ladder', '2026-05-01', '2026-06-01', 600) AS may, pg_temp.total(:'ladder', '2026-12-01', '2027-01-01', 600) AS december;
-- 360 x 0.589 + 240 x 0.639 = 365.40; 300 x 0.589 + 200 x 0.639 + 100 x 0.889 = 393.40
SELECT pg_temp.total(:'ladder', '2026-05-01', '2026-06-01', 600, terms => '{"household_size":5}') AS may,
	pg_temp.total(:'ladder', '2026-12-01', '2027-01-01', 600, terms => '{"household_size":7}') AS december,
	pg_temp.total(:'ladder', '2026-12-01', '2027-01-01', 600, terms => '{"household_size":4}') AS four_people;

-- 2. Periods: a shop in Guangdong; sharp 1.4291, peak 1.1433, flat 0.6725, valley 0.2556

\set shop '{"seasons":{"hot":["07-01","10-01"]},"periods":[{"name":"sharp","windows":[{"from":"11:00","to":"12:00","seasons":["hot"]},{"from":"15:00","to":"17:00","seasons":["hot"]},{"from":"11:00","to":"12:00","flag":"hot_day"},{"from":"15:00","to":"17:00","flag":"hot_day","days":["workday","weekend"]}]},{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"flat"}],"energy":[{"period":"sharp","price":1.4291},{"period":"peak","price":1.1433},{"period":"valley","price":0.2556},{"price":0.6725}]}'
-- 24 kWh over a day in May: 7 x 1.1433 + 8 x 0.2556 + 9 x 0.6725 = 16.1004
SELECT * FROM submeter.quote(:'shop', '{2026-05-06,2026-05-07}', '{24}', 'Asia/Shanghai');
-- in July 3 of the 7 hours are sharp: 16.9578
SELECT * FROM submeter.quote(:'shop', '{2026-07-06,2026-07-07}', '{24}', 'Asia/Shanghai');
-- A hot day in May is as in July, a hot holiday only at 11 o'clock; as an object and as rows of calendar_day.
SELECT pg_temp.total(:'shop', '2026-05-06', '2026-05-07', 24, c)
FROM unnest(ARRAY['{"2026-05-06":{"flags":["hot_day"]}}', '{"2026-05-06":{"type":"holiday","flags":["windy","hot_day"]}}', '{"2026-05-05":{"flags":["hot_day"]}}',
	'[{"site_id":1,"day":"2026-05-06","day_type":null,"flags":["hot_day"],"closed":false,"name":null,"assumed":false,"reason":"forecast"}]', '[{"day":"2026-05-06","day_type":"holiday","flags":["hot_day"]}]', '{}']::jsonb[]) AS c;
-- Half an hour on both sides of an edge: 0.5 x 0.6725 + 0.5 x 1.1433 = 0.9079
SELECT period, kwh, amount FROM submeter.quote(:'shop', '{2026-05-06 09:30,2026-05-06 10:30}', '{1}', 'Asia/Shanghai');
-- The same energy in UTC is another part of the day: from 08:00 to 08:30 flat.
SELECT period, kwh, amount FROM submeter.quote(:'shop', '{2026-05-06 15:45,2026-05-06 16:15}', '{1}', 'UTC');

-- 3. A night over midnight has the day type of its start

\set night '{"periods":[{"name":"night","windows":[{"from":"22:00","to":"06:00","days":["workday"]}]},{"name":"day"}],"energy":[{"period":"night","price":0.1},{"price":1}]}'
-- Friday 2026-05-08 12:00 to Saturday 12:00: 8 hours of night; Saturday and Sunday have no night; Monday to Tuesday: 8 again
SELECT d, kwh FROM generate_series(timestamptz '2026-05-08 12:00', '2026-05-11 12:00', '1 day') AS d
LEFT JOIN LATERAL submeter.quote(:'night', ARRAY[d, d + interval '24 hours'], '{24}', 'Asia/Shanghai') AS q ON q.period = 'night' ORDER BY d;
-- A holiday on Monday leaves only its early hours, which are Sunday's: none. A Saturday worked has a night.
SELECT d, kwh FROM generate_series(timestamptz '2026-05-08 12:00', '2026-05-11 12:00', '1 day') AS d
LEFT JOIN LATERAL submeter.quote(:'night', ARRAY[d, d + interval '24 hours'], '{24}', 'Asia/Shanghai', '{"2026-05-11":"holiday","2026-05-09":{"type":"workday"}}') AS q ON q.period = 'night' ORDER BY d;

-- 4. Daylight saving: the clock on the wall decides. Berlin: 02:00 to 03:00 is missing on 2026-03-29 and comes twice on 2026-10-25

\set early '{"periods":[{"name":"early","windows":[{"from":"02:00","to":"03:00"}]},{"name":"rest"}],"energy":[{"period":"early","price":1},{"price":0.1}]}'
SELECT d::date, period, sum(kwh) AS kwh FROM unnest('{2026-03-28,2026-03-29,2026-03-30,2026-10-25}'::date[]) AS d
CROSS JOIN LATERAL (SELECT d::timestamp AT TIME ZONE 'Europe/Berlin' AS from_ts, (d + 1)::timestamp AT TIME ZONE 'Europe/Berlin' AS to_ts) AS t
CROSS JOIN LATERAL submeter.quote(:'early', ARRAY[from_ts, to_ts], ARRAY[extract(epoch FROM to_ts - from_ts) / 3600], 'Europe/Berlin') AS q
GROUP BY d, period ORDER BY d, period;
-- Where midnight comes twice (Havana, 2026-11-01), the hour before the second is the early hour by its clock; half-hour jumps (Lord Howe, 2026-04-05) work.
SELECT z, sum(q.kwh) FILTER (WHERE q.period = 'early') AS early, sum(q.kwh) AS kwh
FROM (VALUES ('America/Havana', timestamptz '2026-10-31 04:00Z', timestamptz '2026-11-02 05:00Z', 49), ('Australia/Lord_Howe', '2026-04-04 13:00Z', '2026-04-05 13:30Z', 24.5)) AS v(z, f, t, n)
CROSS JOIN LATERAL submeter.quote('{"periods":[{"name":"early","windows":[{"from":"00:00","to":"02:00"}]},{"name":"rest"}],"energy":[{"price":1}]}', ARRAY[f, t], ARRAY[n], z) AS q
GROUP BY z ORDER BY z;

-- 5. Tiers of a year, a season, a billing cycle

\set year '{"tiers":{"cycle":"year","bounds":[{"upto_kwh":[2760,4800]}]},"energy":[{"tier":1,"price":0.538},{"tier":2,"price":0.588},{"price":0.838}]}'
-- Zhejiang, 500 kWh a month: 2760 x 0.538 + 2040 x 0.588 + 1200 x 0.838 = 3690.00
SELECT tier, kwh, amount, sum(amount) OVER () AS total
FROM (SELECT pg_temp.bounds('2026-01-01', '2027-01-01', '1 month') AS b) AS b, submeter.quote(:'year', b, pg_temp.each(500, b), 'Asia/Shanghai');
-- July after 2700 kWh: 60 x 0.538 + 440 x 0.588 = 291.00; a new year starts at zero: 500 x 0.538 more
SELECT pg_temp.total(:'year', '2026-07-01', '2026-08-01', 500, start_kwh => 2700) AS july;
SELECT sum(amount) AS over_new_year FROM submeter.quote(:'year', '{2026-12-01,2027-01-01,2027-02-01}', '{500,500}', 'Asia/Shanghai', start_kwh => 2700);
-- Seasons: April ends the winter, May starts at zero: 100 x 2 + 100 x 1 twice
SELECT tier, kwh, amount FROM submeter.quote('{"seasons":{"summer":["05-01","11-01"]},"tiers":{"cycle":"season","bounds":[{"season":"summer","upto_kwh":[100]},{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":1},{"price":2}]}',
	'{2026-03-01,2026-04-01,2026-05-01,2026-06-01}', '{100,100,200}', 'Asia/Shanghai');
-- A season that begins inside a month starts tiers anew there: 150 kWh on each side of the 15th
SELECT tier, kwh, amount FROM submeter.quote('{"seasons":{"summer":["05-15","11-01"]},"tiers":{"cycle":"season","bounds":[{"season":"summer","upto_kwh":[120]},{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":1},{"price":2}]}',
	'{2026-05-01,2026-05-15,2026-06-01}', '{150,150}', 'Asia/Shanghai');
-- By billing cycle, which is a month here
SELECT tier, kwh FROM submeter.quote('{"tiers":{"cycle":"cycle","bounds":[{"upto_kwh":[100]}]},"energy":[{"price":1}]}', '{2026-05-01,2026-06-01,2026-07-01}', '{150,150}', 'Asia/Shanghai');

-- 6. Volume: all at the tier reached, bounds included

SELECT used, q.tier, q.kwh, q.price, q.amount FROM unnest('{0,200,200.001,400,400.001}'::numeric[]) AS used
CROSS JOIN LATERAL submeter.quote('{"tiers":{"mode":"volume","bounds":[{"upto_kwh":[200,400]}]},"energy":[{"price":0.589}],"tier_adders":[0,0.05,0.30]}', '{2026-05-01,2026-06-01}', ARRAY[used], 'Asia/Shanghai') AS q;

-- 7. Tiers and periods in time order: 100 kWh at noon, then 100 at night; bound 150: the last 50 are second tier, at night

\set both '{"tiers":{"bounds":[{"upto_kwh":[150]}]},"periods":[{"name":"day","windows":[{"from":"08:00","to":"20:00"}]},{"name":"night"}],"energy":[{"period":"day","price":1},{"price":0.3}],"tier_adders":[0,0.05]}'
SELECT * FROM submeter.quote(:'both', '{2026-05-06 12:00,2026-05-06 13:00,2026-05-06 23:00,2026-05-06 24:00}', '{100,0,100}', 'Asia/Shanghai');
SELECT * FROM submeter.quote(:'both', '{2026-05-06 02:00,2026-05-06 03:00,2026-05-06 12:00,2026-05-06 13:00}', '{100,0,100}', 'Asia/Shanghai');

-- 8. Fees: by the day begun, by the month, by the cycle, whole or in proportion

\set fees '{"energy":[{"price":0}],"fees":[{"name":"daily","per":"day","amount":0.5},{"name":"service","per":"month","amount":10,"prorate":true},{"name":"rent","per":"cycle","amount":30},{"name":"lift","per":"cycle","amount":31,"prorate":true}]}'
-- 15 January 10:00 to 15 February: 17 of 31 days and 14 of 28: 8.50 + 7.00, 5.48 + 5.00, 30 + 30, 17.00 + 15.50
SELECT * FROM submeter.quote(:'fees', '{2026-01-15 10:00,2026-02-15 00:00}', '{5}', 'Asia/Shanghai');
-- one minute more begins another day
SELECT component, amount FROM submeter.quote(:'fees', '{2026-01-15 10:00,2026-02-15 00:01}', '{5}', 'Asia/Shanghai') WHERE component LIKE 'fee:%';

-- 9. Demand: 32 per kW; 8 kWh in a quarter of an hour are 32 kW: 1024.00

\set demand '{"energy":[{"price":0}],"demand":{"per_kw":32}}'
SELECT * FROM submeter.quote(:'demand', '{2026-04-01,2026-04-10 10:00,2026-04-10 10:15,2026-05-01}', '{0,8,0}', 'Asia/Shanghai');
-- A quarter over a window's edge counts in parts: 16 kW. Windows of an hour: 8 kW. Half the month: half the price.
SELECT sum(amount) FROM submeter.quote(:'demand', '{2026-04-01,2026-04-10 10:07:30,2026-04-10 10:22:30,2026-05-01}', '{0,8,0}', 'Asia/Shanghai');
SELECT sum(amount) FROM submeter.quote('{"energy":[{"price":0}],"demand":{"per_kw":32,"window_minutes":60}}', '{2026-04-01,2026-04-10 10:00,2026-04-10 10:15,2026-05-01}', '{0,8,0}', 'Asia/Shanghai');
SELECT sum(amount) FROM submeter.quote(:'demand', '{2026-04-01,2026-04-10 10:00,2026-04-10 10:15,2026-04-16}', '{0,8,0}', 'Asia/Shanghai');
-- Capacity 315 kVA at 23: 7245.00; contract 200 kW at 38 for 10 of 30 days: 2533.33
SELECT pg_temp.total('{"energy":[{"price":0}],"demand":{"per_kw":23,"basis":"capacity"}}', '2026-04-01', '2026-05-01', 0, terms => '{"capacity_kva":315}') AS capacity,
	pg_temp.total('{"energy":[{"price":0}],"demand":{"per_kw":38,"basis":"contract"}}', '2026-04-01', '2026-04-11', 0, terms => '{"contract_kw":200}') AS contract;

-- 10. Power factor: the table, and what it does: 0.86 at 0.90 is 2 % of energy and demand, not of funds

SELECT standard, count(*) AS rows, min(power_factor) AS lowest,
	max(adjustment) FILTER (WHERE power_factor = 1.00) AS "1.00", max(adjustment) FILTER (WHERE power_factor = 0.95) AS "0.95", max(adjustment) FILTER (WHERE power_factor = 0.91) AS "0.91",
	max(adjustment) FILTER (WHERE power_factor = 0.90) AS "0.90", max(adjustment) FILTER (WHERE power_factor = 0.86) AS "0.86", max(adjustment) FILTER (WHERE power_factor = 0.75) AS "0.75",
	max(adjustment) FILTER (WHERE power_factor = 0.65) AS "0.65"
FROM submeter.power_factor_table() GROUP BY standard ORDER BY standard DESC;
SELECT component, amount FROM submeter.quote('{"energy":[{"price":0.5}],"adders":[{"name":"funds","price":0.03}],"demand":{"per_kw":23,"basis":"capacity"},"power_factor":{"standard":0.90}}',
	'{2026-04-01,2026-05-01}', '{1000}', 'Asia/Shanghai', terms => '{"capacity_kva":100,"power_factor":0.86}');
-- 0.8549 is 0.85, 0.855 is 0.86, half up; without one, nothing
SELECT f, pg_temp.total('{"energy":[{"price":1}],"power_factor":{"standard":0.90}}', '2026-04-01', '2026-05-01', 1000, terms => jsonb_build_object('power_factor', f))
FROM unnest('{1,0.95,0.91,0.90,0.89,0.86,0.855,0.8549,0.60,0.01,NULL}'::numeric[]) AS f;

-- 11. Minimum and tax: the minimum before tax, for the share of the days

SELECT component, amount FROM submeter.quote('{"energy":[{"price":0.5}],"minimum":5.00,"tax_rate":0.13}', '{2026-04-01,2026-05-01}', '{4}', 'Asia/Shanghai');
SELECT pg_temp.total('{"energy":[{"price":0.5}],"minimum":5.00}', '2026-04-01', '2026-04-16', 1) AS half_a_month,
	pg_temp.total('{"energy":[{"price":0.5}],"minimum":5.00}', '2026-04-01', '2026-05-01', 100) AS above_it,
	pg_temp.total('{"energy":[{"price":0.5}],"tax_rate":0.13,"tax_included":true}', '2026-04-01', '2026-05-01', 100) AS included;

-- 12. TEPCO: whole kWh, whole yen downwards, a minimum. 250.6 kWh are 251: 120 x 19.88 + 131 x 26.48 + 858 = 6712.48

\set tepco '{"tiers":{"bounds":[{"upto_kwh":[120,300]}]},"energy":[{"tier":1,"price":19.88},{"tier":2,"price":26.48},{"price":30.57}],"fees":[{"name":"30 A","per":"month","amount":858,"prorate":true}],"minimum":231.55,"tax_rate":0.1,"tax_included":true,"rounding":{"amount":"down","digits":0,"kwh_digits":0}}'
SELECT * FROM submeter.quote(:'tepco', '{2026-04-01 00:00+09,2026-05-01 00:00+09}', '{250.6}', 'Asia/Tokyo');
-- Many small pieces are still rounded once: 720 hours of 0.348 kWh are 250.56, 251 kWh; without the fee 5 kWh come to the minimum
SELECT sum(amount), sum(kwh) FROM (SELECT pg_temp.bounds('2026-04-01 00:00+09', '2026-05-01 00:00+09', '1 hour') AS b) AS b, submeter.quote(:'tepco', b, pg_temp.each(0.348, b), 'Asia/Tokyo');
SELECT component, kwh, amount FROM submeter.quote(:'tepco'::jsonb - 'fees', '{2026-04-01 00:00+09,2026-05-01 00:00+09}', '{5}', 'Asia/Tokyo');

-- 13. Named prices: 0.5802 x 1.7 to 4 digits is 0.9863

SELECT component, kwh, price, amount FROM submeter.quote('{"energy":[{"price":{"ref":"base","times":1.7,"digits":4}}],"adders":[{"name":"funds","price":{"ref":"funds"}}]}',
	'{2026-04-01,2026-05-01}', '{100}', 'Asia/Shanghai', terms => '{"prices":{"base":0.5802,"funds":0.00866875}}');

-- 14. Everything at once: one quote of two months is the sum of two quotes; cut into hours it is the same

\set everything '{"tiers":{"bounds":[{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}]},"seasons":{"summer":["05-01","11-01"],"hot":["07-01","10-01"]},"periods":[{"name":"sharp","windows":[{"from":"11:00","to":"12:00","seasons":["hot"]},{"from":"15:00","to":"17:00","flag":"hot_day","days":["workday","weekend"]}]},{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"flat"}],"energy":[{"period":"sharp","price":{"ref":"base","times":2.125,"plus":0.00866875,"digits":8}},{"period":"peak","price":1.1433},{"period":"valley","price":0.2556},{"tier":3,"price":0.90},{"price":0.6725}],"tier_adders":[0,0.05,0.30],"adders":[{"name":"funds","price":0.0297}],"fees":[{"name":"service","per":"month","amount":10,"prorate":true}],"demand":{"per_kw":32},"power_factor":{"standard":0.90},"minimum":5.00,"tax_rate":0.13}'
\set terms '{"prices":{"base":0.6},"power_factor":0.86}'
\set hot '{"2026-07-04":{"flags":["hot_day"]},"2026-06-20":{"type":"holiday","flags":["hot_day"]},"2026-06-21":{"flags":["hot_day"]}}'
SELECT * FROM submeter.quote(:'everything', '{2026-06-01,2026-07-01,2026-08-01}', '{900,930}', 'Asia/Shanghai', :'hot', 0, :'terms');
SELECT pg_temp.total(:'everything', '2026-06-01', '2026-07-01', 900, :'hot', 0, :'terms') + pg_temp.total(:'everything', '2026-07-01', '2026-08-01', 930, :'hot', 0, :'terms') AS two_quotes,
	(SELECT sum(amount) FROM submeter.quote(:'everything', '{2026-06-01,2026-07-01,2026-08-01}', '{900,930}', 'Asia/Shanghai', :'hot', 0, :'terms')) AS one_quote,
	(SELECT sum(q.amount) FROM (SELECT pg_temp.bounds('2026-06-01', '2026-08-01', '1 hour') AS b) AS b, submeter.quote(:'everything', b, pg_temp.each(1.25, b), 'Asia/Shanghai', :'hot', 0, :'terms') AS q) AS by_the_hour;

-- 15. Periods and tiers over a year of hours as one window-function statement: it must agree to the cent, month by month

WITH
hour AS (
	SELECT i, ts, (1 + i * 2654435761 % 1500)::numeric / 1000 AS kwh, extract(hour FROM ts)::int AS h, extract(month FROM ts)::int AS m
	FROM generate_series(0, 8759) AS i, LATERAL (SELECT timestamptz '2026-01-01 00:00+08' + i * interval '1 hour' AS ts) AS t
),
used AS (
	SELECT ts, m, kwh, sum(kwh) OVER (PARTITION BY m ORDER BY ts) AS upto,
		CASE WHEN m BETWEEN 5 AND 10 THEN 260 ELSE 200 END AS b1, CASE WHEN m BETWEEN 5 AND 10 THEN 600 ELSE 400 END AS b2,
		CASE WHEN h IN (10, 11, 14, 15, 16, 17, 18) THEN 0.99496875 WHEN h < 8 THEN 0.22916875 ELSE 0.58886875 END AS price
	FROM hour
),
wanted AS (
	SELECT m, round(sum(kwh * price + 0.05 * (greatest(upto - b1, 0) - greatest(upto - kwh - b1, 0)) + 0.25 * (greatest(upto - b2, 0) - greatest(upto - kwh - b2, 0))), 2) AS amount
	FROM used GROUP BY m
),
got AS (
	SELECT m, sum(q.amount) AS amount
	FROM (SELECT m, array_agg(ts ORDER BY ts) || max(ts) + interval '1 hour' AS bounds, array_agg(kwh ORDER BY ts) AS kwh FROM hour GROUP BY m) AS h
	CROSS JOIN LATERAL submeter.quote('{"seasons":{"summer":["05-01","11-01"]},"tiers":{"bounds":[{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}]},
		"periods":[{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},{"name":"flat"}],
		"energy":[{"period":"peak","price":0.99496875},{"period":"valley","price":0.22916875},{"price":0.58886875}],"tier_adders":[0,0.05,0.30]}', h.bounds, h.kwh, 'Asia/Shanghai') AS q
	GROUP BY m
)
SELECT count(*) AS months, count(*) FILTER (WHERE got.amount = wanted.amount) AS same, min(got.amount) > 250 AS plausible FROM got JOIN wanted USING (m);
