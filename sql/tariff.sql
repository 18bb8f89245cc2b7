-- Room: tariff. What is accepted, what usage costs, and every kind of bad input by name.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- The error a statement ends with: one line, so that code, place and hint are all part of the contract.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.bad(definition text) RETURNS text
LANGUAGE sql
AS $$
	SELECT pg_temp.refusal(format('SELECT submeter.check_tariff(%L)', definition))
$$;

\set guangzhou_winter '{"tiers":{"cycle":"month","mode":"graduated","bounds":[{"upto_kwh":[200,400]}]},"energy":[{"tier":2,"price":0.639},{"tier":3,"price":0.889},{"price":0.589}]}'
\set guangzhou_summer '{"tiers":{"bounds":[{"upto_kwh":[260,600]}]},"energy":[{"price":0.589}],"tier_adders":[0,0.05,0.30]}'
\set flat '{"energy":[{"price":0.8}]}'

-- 1. What usage costs

-- Guangzhou, 600 kWh: 423.40 in December, 370.40 in May.
SELECT * FROM submeter.quote(:'guangzhou_winter', '{2025-12-01 00:00+08,2026-01-01 00:00+08}', '{600}', 'Asia/Shanghai');
SELECT sum(amount) FROM submeter.quote(:'guangzhou_winter', '{2025-12-01 00:00+08,2026-01-01 00:00+08}', '{600}', 'Asia/Shanghai');
SELECT sum(amount) FROM submeter.quote(:'guangzhou_summer', '{2025-05-01 00:00+08,2025-06-01 00:00+08}', '{600}', 'Asia/Shanghai');
-- A flat price has no tier to name.
SELECT * FROM submeter.quote(:'flat', '{2025-12-01 00:00+08,2026-01-01 00:00+08}', '{123.456}', 'Asia/Shanghai');
-- Bounds are real numbers, up to and including.
SELECT used, q.tier, q.kwh, q.amount
FROM (VALUES (199.999), (200), (200.001), (400), (400.001)) AS u(used)
CROSS JOIN submeter.quote(:'guangzhou_winter', '{2025-12-01 00:00+08,2026-01-01 00:00+08}', ARRAY[used], 'Asia/Shanghai') AS q
ORDER BY used, q.tier;
-- What was used before in the month counts for its tiers.
SELECT * FROM submeter.quote(:'guangzhou_winter', '{2025-12-10 00:00+08,2025-12-11 00:00+08}', '{300}', 'Asia/Shanghai', start_kwh => 150);
-- Nothing used is one line of nothing.
SELECT * FROM submeter.quote(:'guangzhou_winter', '{2025-12-10 00:00+08,2025-12-11 00:00+08}', '{0}', 'Asia/Shanghai', start_kwh => 200);
-- Tiers start anew at the local month's edge, an interval over it is split by time: 300 kWh in November, 320 in December.
SELECT * FROM submeter.quote(:'guangzhou_winter', '{2025-11-16 00:00+08,2025-12-17 00:00+08}', '{620}', 'Asia/Shanghai');
-- Where the edge lies depends on the zone: 26 kWh a day are 390 and 416 per month in Shanghai, 398.667 and 407.333 in UTC.
SELECT zone, tier, q.kwh FROM unnest('{Asia/Shanghai,UTC}'::text[]) AS zone
CROSS JOIN submeter.quote(:'guangzhou_winter', '{2025-11-16 00:00+08,2025-12-17 00:00+08}', '{806}', zone) AS q;
-- Daylight saving: October 2025 in Berlin has 745 hours.
SELECT tier, kwh FROM submeter.quote(:'guangzhou_winter', '{2025-10-01 00:00+02,2025-11-02 00:00+01}', '{769}', 'Europe/Berlin');
-- The first of the month begins twice in Havana, where the clock was put back from one o'clock to midnight: the second counts.
SELECT tier, kwh FROM submeter.quote(:'guangzhou_winter', '{2015-11-01 04:00+00,2015-11-01 06:00+00}', '{500}', 'America/Havana');
-- Three months in one interval; each month is rounded for itself, as on a bill.
SELECT * FROM submeter.quote('{"energy":[{"price":0.5}],"rounding":{"amount":"down","digits":0}}',
	'{2025-01-01 00:00+08,2025-04-01 00:00+08}', '{9}', 'Asia/Shanghai');
-- Quantities finer than a watt-hour are summed before they are rounded.
SELECT kwh, amount FROM submeter.quote(:'flat', '{2025-01-01 00:00,2025-01-01 01:00,2025-01-01 02:00,2025-01-01 03:00}', '{0.0004,0.0004,0.0004}', 'UTC');
-- Lines add up to the rounded total: 3 x 0.335 = 1.005, the odd fen goes to the largest remainder, the first among equals.
SELECT tier, kwh, amount, sum(amount) OVER () AS total
FROM submeter.quote('{"tiers":{"bounds":[{"upto_kwh":[1,2]}]},"energy":[{"price":0.335}]}', '{2025-01-01,2025-01-02}', '{3}', 'UTC');
-- Tier adders and adders come on top; a price can be derived from another and rounded as the official tables are.
SELECT * FROM submeter.quote('{"energy":[{"price":{"value":0.5802,"times":1.7,"digits":4}}],"adders":[{"name":"funds","price":0.00866875}]}',
	'{2025-01-01,2025-01-02}', '{100}', 'UTC');
SELECT price FROM submeter.quote('{"energy":[{"price":{"value":0.5802,"times":1.7,"plus":0.00866875}}]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC');
-- Rounding, each way.
SELECT mode, digits, q.amount
FROM (VALUES ('half_up', 2), ('down', 2), ('up', 2), ('half_up', 1), ('half_up', 0), ('up', 0)) AS r(mode, digits)
CROSS JOIN submeter.quote(jsonb_build_object('energy', '[{"price":0.1234}]'::jsonb, 'rounding', jsonb_build_object('amount', mode, 'digits', digits, 'kwh_digits', NULL)),
	'{2025-01-01,2025-01-02}', '{12.5}', 'UTC') AS q;
-- A calendar and terms change nothing where no price depends on them.
SELECT sum(amount) FROM submeter.quote(:'guangzhou_winter', '{2025-12-01 00:00+08,2026-01-01 00:00+08}', '{600}', 'Asia/Shanghai', '{}', 0, '{"household_size": 5}');

-- The same tiers as one window-function statement, over a year of hours: every month of it must agree to the cent.
WITH
hour AS (
	SELECT i, ts, (7 + i * 2654435761 % 2000)::numeric / 1000 AS kwh
	FROM generate_series(0, 8759) AS i, LATERAL (SELECT timestamptz '2025-01-01 00:00+08' + i * interval '1 hour' AS ts) AS t
),
used AS (
	SELECT date_trunc('month', ts, 'Asia/Shanghai') AS month, kwh,
		sum(kwh) OVER (PARTITION BY date_trunc('month', ts, 'Asia/Shanghai') ORDER BY ts) AS upto
	FROM hour
),
wanted AS (
	SELECT sum(round(amount, 2)) AS amount, sum(kwh) AS kwh
	FROM (
		SELECT month, sum(kwh) AS kwh,
			sum(0.589 * kwh + 0.05 * (greatest(upto - 200, 0) - greatest(upto - kwh - 200, 0))
				+ 0.25 * (greatest(upto - 400, 0) - greatest(upto - kwh - 400, 0))) AS amount
		FROM used
		GROUP BY month
	) AS m
),
got AS (
	SELECT sum(q.amount) AS amount, sum(q.kwh) AS kwh
	FROM (SELECT array_agg(ts ORDER BY ts) || timestamptz '2026-01-01 00:00+08' AS bounds, array_agg(kwh ORDER BY ts) AS kwh FROM hour) AS h
	CROSS JOIN submeter.quote(:'guangzhou_winter', h.bounds, h.kwh, 'Asia/Shanghai') AS q
)
SELECT got.kwh = wanted.kwh AS same_kwh, got.amount = wanted.amount AS same_amount, got.amount > 5000 AS plausible
FROM got, wanted;

-- 2. Definitions that are refused
\pset format unaligned

-- Not an object, or nothing to pay
SELECT pg_temp.bad(d) FROM unnest(ARRAY['[]', '5', '"flat"', 'null', '{}', '{"energy":[]}', '{"energy":{}}', '{"energy":0.8}', '{"energy":null}',
	'{"energy":[0.8]}', '{"energy":[{}]}', '{"energy":[[{"price":0.8}]]}']) AS d;
-- Unknown keys, wherever they are
SELECT pg_temp.bad(d) FROM unnest(ARRAY['{"energy":[{"price":0.8}],"enrgy":1}', '{"energy":[{"price":0.8,"pirce":1}]}', '{"energy":[{"price":0.8}],"a b":1}',
	'{"energy":[{"price":0.8}],"":1}', '{"energy":[{"price":{"value":1,"time":2}}]}', '{"energy":[{"price":0.8}],"tiers":{"bounds":[{"upto_kwh":[1]}],"modes":"graduated"}}',
	'{"energy":[{"price":0.8}],"tiers":{"bounds":[{"upto":[1]}]}}', '{"energy":[{"price":0.8}],"adders":[{"name":"a","price":1,"per":"kwh"}]}',
	'{"energy":[{"price":0.8}],"rounding":{"mode":"up"}}']) AS d;
SELECT pg_temp.bad(jsonb_build_object('energy', '[{"price":1}]'::jsonb, repeat('电', 1000), 1)::text);
-- Prices
SELECT pg_temp.bad(format('{"energy":[{"price":%s}]}', p))
FROM unnest(ARRAY['"0.8"', 'null', 'true', '[1]', '-0.01', '1000000.00000001', '0.123456789', '"NaN"', '"Infinity"', '1e400', '1e-9', '{}', '{"value":"1"}', '{"times":2}',
	'{"value":1,"times":-1}', '{"value":1,"times":1001}', '{"value":1,"digits":9}', '{"value":1,"digits":1.5}', '{"value":1000,"times":1000,"plus":1}',
	'{"value":1,"plus":0.00866875,"digits":4}']) AS p;
SELECT pg_temp.bad(format('{"energy":[{"price":%s}]}', p))
FROM unnest(ARRAY['0', '1000000', '0.00000001', '0.800000000000', '1e-8', '{"value":1,"times":0}', '{"value":1,"plus":0.0086,"digits":4}']) AS p;
-- Tier bounds
SELECT pg_temp.bad(format('{"energy":[{"price":0.8}],"tiers":%s}', t))
FROM unnest(ARRAY['[]', '{}', '{"bounds":[]}', '{"bounds":[200,400]}', '{"bounds":[{}]}', '{"bounds":[{"upto_kwh":[]}]}', '{"bounds":[{"upto_kwh":200}]}',
	'{"bounds":[{"upto_kwh":["200"]}]}', '{"bounds":[{"upto_kwh":[0]}]}', '{"bounds":[{"upto_kwh":[-5]}]}', '{"bounds":[{"upto_kwh":[400,200]}]}',
	'{"bounds":[{"upto_kwh":[200,200]}]}', '{"bounds":[{"upto_kwh":[200.0005]}]}', '{"bounds":[{"upto_kwh":[1000000001]}]}', '{"bounds":[{"upto_kwh":[200,null]}]}',
	'{"bounds":[{"upto_kwh":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}]}', '{"bounds":[{"upto_kwh":[200]},{"upto_kwh":[300]}]}',
	'{"bounds":[{"upto_kwh":[200]}],"mode":"graded"}', '{"bounds":[{"upto_kwh":[200]}],"cycle":12}']) AS t;
SELECT pg_temp.bad('{"energy":[{"price":0.8}],"tiers":{"bounds":[{"upto_kwh":[0.001,2,3,4,5,6,7,8,9,10,11,12,13,14,1000000000]}]}}');
-- Holes, rows that can never match, tiers that are not there
SELECT pg_temp.bad(format('{"tiers":{"bounds":[{"upto_kwh":[200,400]}]},"energy":%s}', e))
FROM unnest(ARRAY['[{"tier":1,"price":1},{"tier":2,"price":2}]', '[{"tier":3,"price":1},{"tier":2,"price":2}]', '[{"tier":1,"price":1},{"tier":1,"price":2},{"price":3}]',
	'[{"price":1},{"tier":2,"price":2}]', '[{"tier":1,"price":1},{"tier":2,"price":1},{"tier":3,"price":1},{"price":2}]', '[{"tier":4,"price":1},{"price":2}]',
	'[{"tier":0,"price":1},{"price":2}]', '[{"tier":1.5,"price":1},{"price":2}]', '[{"tier":"1","price":1},{"price":2}]', '[{"tier":-1,"price":1}]']) AS e;
SELECT pg_temp.bad('{"energy":[{"tier":2,"price":1}]}');
-- Adders
SELECT pg_temp.bad(format('{"tiers":{"bounds":[{"upto_kwh":[200,400]}]},"energy":[{"price":1}],%s}', a))
FROM unnest(ARRAY['"tier_adders":[0,0.05]', '"tier_adders":[0,0.05,0.3,0.4]', '"tier_adders":[]', '"tier_adders":0.05', '"tier_adders":[0,"0.05",0.3]', '"tier_adders":[0,-0.05,0.3]',
	'"adders":[]', '"adders":0.03', '"adders":[{"price":0.03}]', '"adders":[{"name":"funds"}]', '"adders":[{"name":" ","price":0.03}]', '"adders":[{"name":7,"price":0.03}]',
	'"adders":[{"name":"funds","price":0.03},{"name":"funds","price":0.04}]', '"adders":[{"name":"funds","price":-0.03}]']) AS a;
-- Rounding
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"rounding":%s}', r))
FROM unnest(ARRAY['"half_up"', '{"amount":"half_even"}', '{"amount":2}', '{"digits":3}', '{"digits":-1}', '{"digits":"2"}', '{"digits":1.5}', '{}']) AS r;
-- Seasons
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"seasons":%s}', d))
FROM unnest(ARRAY['{}', '{"summer":["05-01","11-01"],"winter":["11-01","05-01"],"leap":["02-29","03-01"]}', '[]', '"summer"', '{"summer":"05-01"}', '{"summer":["05-01"]}',
	'{"summer":["05-01","11-01","12-01"]}', '{"summer":["05-01","05-01"]}', '{"summer":["5-1","11-01"]}', '{"summer":["05-01","11-31"]}', '{"summer":["13-01","11-01"]}',
	'{"summer":["00-10","11-01"]}', '{"summer":["02-30","11-01"]}', '{"summer":[501,1101]}', '{" ":["05-01","11-01"]}']) AS d;
SELECT pg_temp.bad(jsonb_build_object('energy', '[{"price":1}]'::jsonb, 'seasons', jsonb_build_object(repeat('x', 64), '["05-01","11-01"]'::jsonb))::text);
SELECT pg_temp.bad(jsonb_build_object('energy', '[{"price":1}]'::jsonb, 'seasons',
	(SELECT jsonb_object_agg('s' || i, '["05-01","11-01"]'::jsonb) FROM generate_series(1, 17) AS i))::text);
-- Periods
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"periods":%s}', d))
FROM unnest(ARRAY['[{"name":"all"}]', '{}', '[]', '["flat"]', '[{}]', '[{"name":7}]', '[{"name":""}]', '[{"name":"flat","window":[]}]', '[{"name":"flat","windows":[]}]',
	'[{"name":"flat","windows":{}}]', '[{"name":"a"},{"name":"b"}]', '[{"name":"a","windows":[{"from":"08:00","to":"09:00"}]},{"name":"a"}]']) AS d;
-- Windows
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"seasons":{"hot":["07-01","10-01"]},"periods":[{"name":"peak","windows":[%s]},{"name":"flat"}]}', d))
FROM unnest(ARRAY['{"from":"08:00","to":"24:00"}', '{"from":"00:00","to":"24:00"}', '{"from":"22:00","to":"06:00"}', '{"from":"22:00","to":"00:00"}',
	'{"from":"08:00","to":"09:00","seasons":["hot"],"days":["workday","holiday"],"flag":"hot_day"}',
	'5', '{}', '{"from":"08:00"}', '{"to":"08:00"}', '{"from":"8:00","to":"09:00"}', '{"from":"08:00:30","to":"09:00"}', '{"from":"08:60","to":"09:00"}',
	'{"from":"24:00","to":"09:00"}', '{"from":"08:00","to":"24:01"}', '{"from":8,"to":9}', '{"from":"08:00","to":"08:00"}', '{"from":"00:00","to":"00:00"}',
	'{"from":"08:00","to":"09:00","season":"hot"}', '{"from":"08:00","to":"09:00","seasons":"hot"}', '{"from":"08:00","to":"09:00","seasons":[]}',
	'{"from":"08:00","to":"09:00","seasons":["cold"]}', '{"from":"08:00","to":"09:00","seasons":["hot","hot"]}', '{"from":"08:00","to":"09:00","days":["monday"]}',
	'{"from":"08:00","to":"09:00","days":["workday","workday"]}', '{"from":"08:00","to":"09:00","days":[]}', '{"from":"08:00","to":"09:00","flag":["hot_day"]}',
	'{"from":"08:00","to":"09:00","flag":" "}']) AS d;
-- Windows that can never match, days that are not covered
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"seasons":{"hot":["07-01","10-01"],"cold":["10-01","07-01"]},"periods":[%s]}', d))
FROM unnest(ARRAY[
	'{"name":"peak","windows":[{"from":"08:00","to":"12:00"}]},{"name":"sharp","windows":[{"from":"09:00","to":"11:00","flag":"hot_day"}]},{"name":"flat"}',
	'{"name":"peak","windows":[{"from":"08:00","to":"12:00"},{"from":"11:00","to":"12:00"}]},{"name":"flat"}',
	'{"name":"peak","windows":[{"from":"08:00","to":"12:00","seasons":["hot"]},{"from":"08:00","to":"12:00","seasons":["cold"]}]},{"name":"sharp","windows":[{"from":"09:00","to":"11:00"}]},{"name":"flat"}',
	'{"name":"peak","windows":[{"from":"08:00","to":"12:00","days":["workday","weekend"]}]},{"name":"sharp","windows":[{"from":"09:00","to":"11:00"}]},{"name":"flat"}',
	'{"name":"peak","windows":[{"from":"08:00","to":"20:00"}]},{"name":"night","windows":[{"from":"20:00","to":"07:59"}]}',
	'{"name":"peak","windows":[{"from":"08:00","to":"20:00"}]},{"name":"night","windows":[{"from":"20:00","to":"08:00"}]}',
	'{"name":"peak","windows":[{"from":"00:00","to":"24:00","days":["workday"]}]},{"name":"weekend","windows":[{"from":"00:00","to":"24:00","days":["weekend"]}]}',
	'{"name":"a","windows":[{"from":"00:00","to":"24:00","seasons":["hot"]}]},{"name":"b","windows":[{"from":"00:00","to":"24:00","seasons":["cold"]}]}',
	'{"name":"a","windows":[{"from":"00:00","to":"24:00","flag":"x"}]},{"name":"b","windows":[{"from":"00:00","to":"12:00"}]}']) AS d;
-- Bounds by season and household
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"seasons":{"summer":["05-01","11-01"],"winter":["11-01","05-01"]},"tiers":{"bounds":[%s]}}', d))
FROM unnest(ARRAY['{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}', '{"season":"summer","upto_kwh":[260,600]},{"season":"winter","upto_kwh":[200,400]}',
	'{"household":5,"upto_kwh":[300]},{"upto_kwh":[200]}', '{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200]}', '{"season":"spring","upto_kwh":[260]},{"upto_kwh":[200]}',
	'{"season":"summer","upto_kwh":[260]}', '{"household":5,"upto_kwh":[260]}', '{"upto_kwh":[200]},{"season":"summer","upto_kwh":[260]}',
	'{"upto_kwh":[200]},{"household":5,"upto_kwh":[260]}', '{"season":["summer"],"upto_kwh":[260]},{"upto_kwh":[200]}', '{"household":"5","upto_kwh":[260]},{"upto_kwh":[200]}']) AS d;
SELECT pg_temp.bad('{"energy":[{"price":1}],"tiers":{"cycle":"season","bounds":[{"upto_kwh":[200]}]}}');
-- Energy by tier and period
SELECT pg_temp.bad(format('{"tiers":{"bounds":[{"upto_kwh":[200]}]},"periods":[{"name":"peak","windows":[{"from":"08:00","to":"20:00"}]},{"name":"flat"}],"energy":[%s]}', d))
FROM unnest(ARRAY['{"period":"peak","price":2},{"price":1}', '{"period":"peak","tier":1,"price":2},{"tier":2,"price":1}', '{"period":"peak","price":2},{"tier":1,"price":1}',
	'{"price":1},{"period":"peak","price":2}', '{"period":"peak","price":1},{"period":"flat","price":1},{"tier":2,"price":3}', '{"period":"sharp","price":2},{"price":1}',
	'{"period":1,"price":2},{"price":1}']) AS d;
-- Named prices: any name will do for the definition alone, with prices it must be there.
SELECT pg_temp.bad(format('{"energy":[{"price":%s}]}', p))
FROM unnest(ARRAY['{"ref":"base"}', '{"ref":"base","times":2.125,"plus":0.00866875}', '{"ref":"base","value":1}', '{"ref":7}', '{"ref":""}', '{"ref":"base","digits":9}']) AS p;
SELECT pg_temp.refusal(format('SELECT submeter.check_tariff(%L, %L)', '{"energy":[{"price":{"ref":"base","times":2}}]}', p))
FROM unnest(ARRAY['{"base":0.5}', '{}', '{"bases":0.5}', '{"base":"0.5"}', '{"base":-1}', '[]']) AS p;
-- Fees
SELECT pg_temp.bad(format('{"energy":[{"price":1}],"fees":%s}', f))
FROM unnest(ARRAY['[{"name":"service","per":"day","amount":0.5},{"name":"rent","per":"cycle","amount":{"ref":"rent"},"prorate":false}]', '[]', '{}', '[{"per":"day","amount":1}]',
	'[{"name":"a","amount":1}]', '[{"name":"a","per":"day"}]', '[{"name":"a","per":"week","amount":1}]', '[{"name":"a","per":"day","amount":-1}]',
	'[{"name":"a","per":"day","amount":1,"prorate":"yes"}]', '[{"name":"a","per":"day","amount":1},{"name":"a","per":"month","amount":1}]', '[{"name":"a","per":"day","price":1}]']) AS f;
-- Demand, power factor, minimum, tax, whole kWh
SELECT pg_temp.bad(format('{"energy":[{"price":1}],%s}', d))
FROM unnest(ARRAY['"demand":{"per_kw":32}', '"demand":{"per_kw":{"ref":"demand"},"basis":"contract"}', '"demand":32', '"demand":{}', '"demand":{"per_kw":32,"basis":"max"}', '"demand":{"per_kw":32,"window_minutes":7}',
	'"demand":{"per_kw":32,"window_minutes":0}', '"demand":{"per_kw":32,"window_minutes":2880}', '"demand":{"per_kva":32}',
	'"power_factor":{"standard":0.90}', '"power_factor":{"standard":0.8}', '"power_factor":{"standard":0.95}', '"power_factor":{"standard":90}', '"power_factor":0.9', '"power_factor":{}',
	'"minimum":5.00', '"minimum":-5', '"minimum":{"ref":"least"}', '"tax_rate":0.13', '"tax_rate":13', '"tax_rate":"13%"', '"tax_included":true', '"tax_included":0',
	'"rounding":{"kwh_digits":0}', '"rounding":{"kwh_digits":3}', '"rounding":{"kwh_digits":4}', '"rounding":{"kwh_digits":"0"}']) AS d;

-- 3. Quotes that are refused
SELECT pg_temp.refusal(format('SELECT * FROM submeter.quote(%s)', a)) FROM unnest(ARRAY[
	$q$'{"energy":[{"price":{"ref":"base"}}]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":0.8}],"demand":{"per_kw":32,"basis":"contract"}}', '{2025-01-01,2025-01-02}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":0.8}],"demand":{"per_kw":32,"basis":"capacity"}}', '{2025-01-01,2025-01-02}', '{1}', 'UTC', terms => '{"contract_kw":5}'$q$,
	$q$'{"energy":[]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC'$q$,
	$q$NULL, '{2025-01-01,2025-01-02}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', NULL, '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', NULL, 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', NULL$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC', start_kwh => NULL$q$,
	$q$'{"energy":[{"price":1}]}', '{}', '{}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01}', '{}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1,2}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02,2025-01-03}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-02,2025-01-01}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-02,2025-01-02}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,infinity}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,NULL}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{NULL}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{{1},{2}}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{-1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{NaN}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{Infinity}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1000000000001}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02,2025-01-03}', '{999999999999,2}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{ten}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{yesterdayish,2025-01-02}', '{1}', 'UTC'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', 'Asia/Canton'$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', ''$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC', start_kwh => -1$q$,
	$q$'{"energy":[{"price":1}]}', '{2025-01-01,2025-01-02}', '{1}', 'UTC', start_kwh => 'NaN'$q$,
	$q$'{"energy":[{"price":1000000}]}', '{2025-01-01,2025-01-02}', '{1000000000000}', 'UTC'$q$]) AS a;
-- … for what they say about days and the contract
SELECT pg_temp.refusal(format('SELECT * FROM submeter.quote(%L, %L, %L, %L, %L, 0, %L)', :'flat', '{2025-01-01,2025-01-02}', '{1}', 'UTC', c, t))
FROM (VALUES ('5', NULL), ('{"2025-02-29":{}}', NULL), ('{"2025-1-1":{}}', NULL), ('{"tomorrow":{}}', NULL), ('{"2025-01-01":"holiday"}', NULL), ('{"2025-01-01":"sunday"}', NULL), ('{"2025-01-01":7}', NULL), ('{"2025-01-01":{"type":"sunday"}}', NULL),
	('{"2025-01-01":{"flags":"hot_day"}}', NULL), ('{"2025-01-01":{"flags":[7]}}', NULL), ('{"2025-01-01":{"kind":"holiday"}}', NULL), ('[{"day_type":"holiday"}]', NULL), ('[5]', NULL),
	('[{"day":"2025-01-01"},{"day":"2025-01-01"}]', NULL), ('[]', NULL), ('{"2025-01-01":{"type":null,"flags":null}}', NULL), ('[{"site_id":1,"day":"2025-01-01","day_type":"holiday","flags":[],"closed":false,"name":"x"}]', NULL),
	(NULL, '5'), (NULL, '{"household_size":-1}'), (NULL, '{"household_size":2.5}'), (NULL, '{"contract_kw":"many"}'), (NULL, '{"capacity_kva":0.0001}'), (NULL, '{"power_factor":1.01}'),
	(NULL, '{"power_factor":0}'), (NULL, '{"power_factor":0.86,"capacity_kva":null,"remark":"paid yearly"}')) AS v(c, t);

-- 4. The published schema says the same keys
\pset format aligned
SELECT jsonb_object_keys(submeter.tariff_schema() -> 'properties') AS key ORDER BY key;
-- The definition of the reference, whole
\set everything '{"tiers":{"cycle":"month","mode":"graduated","bounds":[{"season":"summer","upto_kwh":[260,600]},{"upto_kwh":[200,400]}]},"seasons":{"summer":["05-01","11-01"],"hot":["07-01","10-01"]},"periods":[{"name":"sharp","windows":[{"from":"11:00","to":"12:00","seasons":["hot"]},{"from":"15:00","to":"17:00","flag":"hot_day","days":["workday","weekend"]}]},{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"flat"}],"energy":[{"period":"sharp","price":{"ref":"base","times":2.125,"plus":0.00866875,"digits":8}},{"period":"peak","price":1.1433},{"period":"valley","price":0.2556},{"tier":3,"price":0.90},{"price":0.6725}],"tier_adders":[0,0.05,0.30],"adders":[{"name":"funds","price":0.0297}],"fees":[{"name":"service","per":"month","amount":10,"prorate":true}],"demand":{"per_kw":32,"window_minutes":15,"basis":"maximum"},"power_factor":{"standard":0.90},"minimum":5.00,"tax_rate":0.13,"tax_included":false,"rounding":{"amount":"half_up","digits":2,"kwh_digits":null}}'
SELECT pg_temp.bad(:'everything') AS everything_at_once;

-- 5. Writing tariffs
INSERT INTO submeter.site (site_id, code, name) VALUES (901, 'TARIFF', 'Tariff test');
SELECT submeter.create_tariff(901, 'HOME', :'guangzhou_winter', '2025-01-01 00:00+08') AS home \gset
SELECT submeter.create_tariff(901, 'SHOP', :'flat', '2025-01-01 00:00+08') AS shop \gset
SELECT :home <> :shop AS two_tariffs;
-- The same call again, and the same content written another way, change nothing.
SELECT submeter.create_tariff(901, 'SHOP', :'flat', '2025-01-01 00:00+08') = :shop AS same,
	submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":0.800}]}', '2024-12-31 16:00+00') = :shop AS same_content;
-- An existing code gets a further version.
SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":0.9}]}', '2025-07-01 00:00+08') = :shop AS further;
SELECT t.code, v.valid_from, v.definition FROM submeter.tariff t JOIN submeter.tariff_version v USING (site_id, tariff_id)
WHERE t.site_id = 901 AND t.code = 'SHOP' ORDER BY v.valid_from;
\pset format unaligned
SELECT pg_temp.refusal(format('SELECT submeter.create_tariff(%s)', a)) FROM unnest(ARRAY[
	$q$901, 'SHOP', '{"energy":[{"price":0.7}]}', '2025-07-01 00:00+08'$q$,
	$q$901, 'NEW', '{"energy":[{"price":-1}]}', '2025-07-01 00:00+08'$q$,
	$q$901, 'NEW', '{"energy":[{"price":1}],"periods":[]}', '2025-07-01 00:00+08'$q$,
	$q$901, 'NEW', '{"energy":[{"price":{"ref":"base"}}]}', '2025-07-01 00:00+08'$q$,
	$q$901, 'NEW', NULL, '2025-07-01 00:00+08'$q$,
	$q$901, 'NEW', '{"energy":[{"price":1}]}', NULL$q$,
	$q$901, 'NEW', '{"energy":[{"price":1}]}', 'infinity'$q$]) AS a;
-- What every verb refuses: only the code is this room's business.
SELECT left(pg_temp.refusal(format('SELECT submeter.create_tariff(%s)', a)), 5) AS code FROM unnest(ARRAY[
	$q$901, ' ', '{"energy":[{"price":1}]}', '2025-07-01 00:00+08'$q$,
	$q$901, NULL, '{"energy":[{"price":1}]}', '2025-07-01 00:00+08'$q$,
	$q$999, 'NEW', '{"energy":[{"price":1}]}', '2025-07-01 00:00+08'$q$,
	$q$NULL, 'NEW', '{"energy":[{"price":1}]}', '2025-07-01 00:00+08'$q$]) AS a;
-- Nothing of what was refused is there; and a plain INSERT is checked as the verb is.
SELECT count(*) AS tariffs FROM submeter.tariff WHERE site_id = 901;
SELECT pg_temp.refusal(format('INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (901, %s, ''2026-01-01'', ''{"energy":[]}'')', :shop));
-- A price the site keeps must have a value when the version begins; the newest row of the newest revision counts.
INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price) VALUES
	(901, 'base', '2025-01-01 00:00+08', 0, 0.5), (901, 'base', '2025-03-01 00:00+08', 0, 0.55), (901, 'base', '2025-03-01 00:00+08', 1, 0.56), (901, 'rent', '2025-02-01 00:00+08', 0, 12);
SELECT at, submeter.named_prices(901, at) FROM unnest('{2024-12-31 15:59Z,2024-12-31 16:00Z,2025-02-15 00:00Z,2025-06-01 00:00Z}'::timestamptz[]) AS at;
SELECT pg_temp.refusal(format('SELECT submeter.create_tariff(901, ''NAMED'', %L, %L)', d, f))
FROM (VALUES ('{"energy":[{"price":{"ref":"base"}}]}', '2024-12-31 23:59+08'), ('{"energy":[{"price":{"ref":"base"}}]}', '2025-01-01 00:00+08'),
	('{"energy":[{"price":{"ref":"base"}}],"fees":[{"name":"rent","per":"month","amount":{"ref":"rent"}}]}', '2025-01-02 00:00+08'),
	('{"energy":[{"price":{"ref":"base"}}],"fees":[{"name":"rent","per":"month","amount":{"ref":"rent"}}]}', '2025-02-02 00:00+08')) AS v(d, f);
SELECT pg_temp.refusal(format('INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (901, %s, ''2026-01-01'', ''{"energy":[{"price":{"ref":"bass"}}]}'')', :shop));
-- A site may demand a second person: the approval names the date in UTC, and repeating the call needs none.
UPDATE submeter.site SET approval_verbs = '{create_tariff}' WHERE site_id = 901;
SELECT left(pg_temp.refusal($q$SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":1}]}', '2026-01-01 00:00+08')$q$), 5) AS code;
INSERT INTO submeter.approval (site_id, verb, arguments, reason, asked_by, state, decided_by)
VALUES (901, 'create_tariff', '{"code":"SHOP","definition":{"energy":[{"price":1}]},"valid_from_utc":"2025-12-31T16:00:00"}', 'new year', 'one', 'approved', 'two');
SET timezone = 'Asia/Shanghai';
SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":1}]}', '2026-01-01 00:00') = :shop AS approved;
SET timezone = 'UTC';
SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":0.9}]}', '2025-07-01 00:00+08') = :shop AS no_approval_for_a_repeat;
