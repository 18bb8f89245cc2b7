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
-- What the format knows and this version does not compute is refused as such, never ignored.
SELECT pg_temp.bad(d) FROM unnest(ARRAY[
	'{"energy":[{"price":0.8}],"periods":[{"name":"flat"}]}', '{"energy":[{"price":0.8}],"seasons":{"summer":["05-01","11-01"]}}',
	'{"energy":[{"price":0.8}],"fees":[{"name":"service","per":"month","amount":10}]}', '{"energy":[{"price":0.8}],"demand":{"per_kw":32}}',
	'{"energy":[{"price":0.8}],"power_factor":{"standard":0.90}}', '{"energy":[{"price":0.8}],"minimum":5.00}', '{"energy":[{"price":0.8}],"tax_rate":0.13}',
	'{"energy":[{"price":0.8}],"tax_included":false}', '{"energy":[{"period":"peak","price":0.8},{"price":0.5}]}', '{"energy":[{"price":{"ref":"base"}}]}',
	'{"energy":[{"price":0.8}],"tiers":{"cycle":"year","bounds":[{"upto_kwh":[200]}]}}', '{"energy":[{"price":0.8}],"tiers":{"mode":"volume","bounds":[{"upto_kwh":[200]}]}}',
	'{"energy":[{"price":0.8}],"tiers":{"bounds":[{"season":"summer","upto_kwh":[260]},{"upto_kwh":[200]}]}}', '{"energy":[{"price":0.8}],"rounding":{"kwh_digits":0}}']) AS d;

-- 3. Quotes that are refused
SELECT pg_temp.refusal(format('SELECT * FROM submeter.quote(%s)', a)) FROM unnest(ARRAY[
	$q$'{"energy":[{"price":0.8}],"minimum":5}', '{2025-01-01,2025-01-02}', '{1}', 'UTC'$q$,
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

-- 4. The published schema says the same keys
\pset format aligned
SELECT jsonb_object_keys(submeter.tariff_schema() -> 'properties') AS key ORDER BY key;
SELECT pg_temp.bad('{"energy":[{"tier":1,"price":{"value":0.5,"times":1.5,"plus":0.01,"digits":8}},{"price":0.9}],
	"tiers":{"cycle":"month","mode":"graduated","bounds":[{"upto_kwh":[200]}]}, "tier_adders":[0,0.05],
	"adders":[{"name":"funds","price":0.03}], "rounding":{"amount":"half_up","digits":2,"kwh_digits":null}}') AS everything_at_once;

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
-- A site may demand a second person: the approval names the date in UTC, and repeating the call needs none.
UPDATE submeter.site SET approval_verbs = '{create_tariff}' WHERE site_id = 901;
SELECT left(pg_temp.refusal($q$SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":1}]}', '2026-01-01 00:00+08')$q$), 5) AS code;
INSERT INTO submeter.approval (site_id, verb, arguments, reason, asked_by, state, decided_by)
VALUES (901, 'create_tariff', '{"code":"SHOP","definition":{"energy":[{"price":1}]},"valid_from_utc":"2025-12-31T16:00:00"}', 'new year', 'one', 'approved', 'two');
SET timezone = 'Asia/Shanghai';
SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":1}]}', '2026-01-01 00:00') = :shop AS approved;
SET timezone = 'UTC';
SELECT submeter.create_tariff(901, 'SHOP', '{"energy":[{"price":0.9}]}', '2025-07-01 00:00+08') = :shop AS no_approval_for_a_repeat;
