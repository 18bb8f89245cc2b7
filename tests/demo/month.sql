-- A property whose meters are read by the hour, and a month of it: two flats on household ladders, a noodle shop with peak,
-- valley and sharp hours, a workshop with demand and power factor, all on ready-made tariffs and measured loads.
-- psql variables: data (the folder of the load curves), month (its first day).
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
\set homes `cut -d, -f2,5 :'data'/homes_hourly.csv | sed 1d`
\set buildings `cut -d, -f10 :'data'/buildings_hourly.csv | sed 1d`
\set steel `cut -d, -f2 :'data'/steel_15min.csv | sed 1d`

BEGIN;
INSERT INTO submeter.site (code, name, locale, close_cycles) VALUES ('court', 'Riverside Court', 'en', false) RETURNING site_id AS court \gset
INSERT INTO submeter.site_member (site_id, login) SELECT :court, r.rolname FROM pg_roles r WHERE r.rolname = 'manager';
CREATE TEMP TABLE customer (ord int, code text, name text, meter text, model text, multiplier numeric, example text, terms jsonb) ON COMMIT DROP;
INSERT INTO customer VALUES
	(1, 'flat-301', 'Flat 301', 'F-301', 'DDS238-2 ZN/SR', 1, 'guangdong_ladder', '{}'),
	(2, 'flat-302', 'Flat 302, five people', 'F-302', 'DDS238-2 ZN/SR', 1, 'guangdong_ladder_tou', '{"household_size": 5}'),
	(3, 'noodles', 'The noodle shop', 'S-1', 'SDM630', 1, 'zhongshan_commercial_2021', '{}'),
	(4, 'workshop', 'The workshop', 'W-1', 'SDM630', 40, 'industry_two_part_demand', '{}');
INSERT INTO submeter.tenant (site_id, code, name) SELECT :court, c.code, c.name FROM customer c ORDER BY c.ord;
-- Bills are told of, and one of the tenants has mail.
UPDATE submeter.credit_policy SET mode = 'ask', low_balances = '{}' WHERE site_id = :court;
SELECT count(submeter.set_channel(:court, 'mail', 'mail', '{"url":"smtp://localhost","from":"power@market.example"}', false)) AS channels \gset
INSERT INTO submeter.contact (site_id, tenant_id, name, email, locale, channels)
SELECT t.site_id, t.tenant_id, 'The tenant of flat 301', 'flat-301@court.example', 'en', '{mail,file}' FROM submeter.tenant t WHERE t.site_id = :court AND t.code = 'flat-301';
INSERT INTO submeter.account (site_id, tenant_id, code, opened_at)
SELECT t.site_id, t.tenant_id, t.code, :'month' FROM submeter.tenant t WHERE t.site_id = :court ORDER BY t.tenant_id;
INSERT INTO submeter.meter (site_id, code, model) SELECT :court, c.meter, c.model FROM customer c ORDER BY c.ord;
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, rated_current_a, phases, reason)
SELECT m.site_id, m.meter_id, :'month', c.multiplier, 100, CASE c.model WHEN 'SDM630' THEN 3 ELSE 1 END, 'installed' FROM customer c JOIN submeter.meter m ON m.site_id = :court AND m.code = c.meter;
SELECT count(submeter.create_tariff(:court, e.code, e.definition, '2024-01-01')) AS tariffs FROM submeter.tariff_example e JOIN customer c ON c.example = e.code \gset
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms)
SELECT :court, a.account_id, m.meter_id, f.tariff_id, tstzrange(:'month', NULL), c.terms
FROM customer c
JOIN submeter.account a ON a.site_id = :court AND a.code = c.code
JOIN submeter.meter m ON m.site_id = :court AND m.code = c.meter
JOIN submeter.tariff f ON f.site_id = :court AND f.code = c.example;

-- Registers at the end of each hour or quarter of an hour; the workshop's load has a power factor of 0.86.
CREATE TEMP TABLE load (meter text, slot interval, n bigint, kwh numeric) ON COMMIT DROP;
INSERT INTO load SELECT 'F-301', '1 hour', n, split_part(line, ',', 2)::numeric FROM string_to_table(:'homes', E'\n') WITH ORDINALITY x(line, n);
INSERT INTO load SELECT 'F-302', '1 hour', n, split_part(line, ',', 1)::numeric FROM string_to_table(:'homes', E'\n') WITH ORDINALITY x(line, n);
INSERT INTO load SELECT 'S-1', '1 hour', n, line::numeric FROM string_to_table(:'buildings', E'\n') WITH ORDINALITY x(line, n);
INSERT INTO load SELECT 'W-1', '15 min', n + days * 2688, line::numeric FROM string_to_table(:'steel', E'\n') WITH ORDINALITY x(line, n), generate_series(0, 1) days;
INSERT INTO load SELECT DISTINCT l.meter, l.slot, 0, 0::numeric FROM load l;
SELECT count(submeter.create_partitions(d, d + interval '1 month')) AS partitions FROM unnest(ARRAY[:'month'::date - 1, :'month'::date + 20]) d \gset
SELECT submeter.ingest_json(:court, jsonb_agg(jsonb_build_object('meter_id', m.meter_id, 'ts', r.ts, 'energy_wh', 5000000 + round(r.kwh * 1000 / c.multiplier),
	'reactive_varh', CASE m.code WHEN 'W-1' THEN round(0.6 * r.kwh * 1000 / c.multiplier) END))) AS readings
FROM (
	SELECT l.meter, :'month'::timestamptz + l.n * l.slot AS ts, sum(l.kwh) OVER (PARTITION BY l.meter ORDER BY l.n) AS kwh FROM load l
) r
JOIN submeter.meter m ON m.site_id = :court AND m.code = r.meter
JOIN customer c ON c.meter = m.code
WHERE r.ts <= :'month'::timestamptz + interval '1 month' \gset
SELECT count(submeter.recharge(:court, a.account_id, CASE a.code WHEN 'workshop' THEN 60000 WHEN 'noodles' THEN 8000 ELSE 800 END, 'transfer', 'opening ' || a.code)) AS recharges
FROM submeter.account a WHERE a.site_id = :court \gset
COMMIT;
SELECT submeter.settle(:court) AS intervals \gset
