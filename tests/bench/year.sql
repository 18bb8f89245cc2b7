-- A year of hourly readings of 1,000 meters at two sites, priced by a ladder; then the grid changes the tariff for all of that year.
SET client_min_messages = warning;
\set meters 500
\set site 1
\ir property.sql
\set site 2
\ir property.sql
SELECT count(submeter.create_partitions(m, m + interval '1 month')) FROM generate_series(timestamptz '2024-12-01', '2025-12-01', '1 month') m;
CREATE TEMP TABLE bench (name text, seconds numeric);
CREATE FUNCTION pg_temp.register(meter_id bigint, hour bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
	'SELECT 100000 + hour * (300 + meter_id % 700) + 60 * ((hour * 7 + meter_id) % 5)';

-- What was read long ago is put where it was: the rows between the first and the last reading come without their effects.
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT m.site_id, m.meter_id, timestamptz '2025-01-01 00:00+08', pg_temp.register(m.meter_id, 0) FROM submeter.meter m;
SET session_replication_role = replica;
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT m.site_id, m.meter_id, timestamptz '2025-01-01 00:00+08' + h * interval '1 hour', pg_temp.register(m.meter_id, h)
FROM submeter.meter m CROSS JOIN generate_series(1, 8759) h;
RESET session_replication_role;
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT m.site_id, m.meter_id, timestamptz '2026-01-01 00:00+08', pg_temp.register(m.meter_id, 8760) FROM submeter.meter m;
VACUUM ANALYZE;
SELECT sum(submeter.settle(s, '2026-01-01 00:30+08')) AS first FROM generate_series(1, 2) s \gset
VACUUM ANALYZE submeter.charge, submeter.usage_day;
CHECKPOINT;

-- The new tariff: the ladder in peak, valley and flat hours.
\set tou '{"tiers": {"bounds": [{"upto_kwh": [200, 400]}]}, "tier_adders": [0, 0.05, 0.30], "periods": [{"name": "peak", "windows": [{"from": "10:00", "to": "12:00"}, {"from": "14:00", "to": "19:00"}]}, {"name": "valley", "windows": [{"from": "00:00", "to": "08:00"}]}, {"name": "flat"}], "energy": [{"period": "peak", "price": 0.9863}, {"period": "valley", "price": 0.2205}, {"price": 0.5802}]}'
SELECT clock_timestamp() AS t \gset
SELECT count(*), sum(new) AS simulated FROM generate_series(1, 2) s CROSS JOIN submeter.simulate_tariff(s, :'tou', '2025-01-01 00:00+08', '2026-01-01 00:00+08') \gset
INSERT INTO bench SELECT 'simulate', extract(epoch FROM clock_timestamp() - :'t');
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, revision, definition, reason)
SELECT v.site_id, v.tariff_id, v.valid_from, 1, :'tou', 'the grid changed it' FROM submeter.tariff_version v;
SELECT clock_timestamp() AS t \gset
SELECT count(submeter.settle(s, '2026-01-01 00:30+08')) FROM generate_series(1, 2) s;
INSERT INTO bench SELECT 'resettle', extract(epoch FROM clock_timestamp() - :'t');

-- The same as one statement, for every tenth meter: differences, position in the month, three tiers in three periods.
SELECT clock_timestamp() AS t \gset
CREATE TABLE public.rated AS
WITH delta AS (
	SELECT r.site_id, r.meter_id, r.ts AT TIME ZONE 'Asia/Shanghai' - interval '1 hour' AS hour, r.energy_wh - lag(r.energy_wh) OVER w AS wh
	FROM submeter.reading r WHERE r.meter_id % 10 = 0 WINDOW w AS (PARTITION BY r.site_id, r.meter_id ORDER BY r.ts)
), placed AS (
	SELECT d.*, sum(d.wh) OVER (PARTITION BY d.site_id, d.meter_id, date_trunc('month', d.hour) ORDER BY d.hour) AS position
	FROM delta d WHERE d.wh IS NOT NULL
)
SELECT p.site_id, p.meter_id, p.hour, p.wh,
	p.wh * CASE WHEN extract(hour FROM p.hour) < 8 THEN 0.0002205 WHEN extract(hour FROM p.hour) IN (10, 11, 14, 15, 16, 17, 18) THEN 0.0009863 ELSE 0.0005802 END
	+ (least(greatest(p.position, 200000), 400000) - least(greatest(p.position - p.wh, 200000), 400000)) * 0.00005
	+ (greatest(p.position, 400000) - greatest(p.position - p.wh, 400000)) * 0.0003 AS amount
FROM placed p;
INSERT INTO bench SELECT 'window', extract(epoch FROM clock_timestamp() - :'t');
-- All three must come to the same money.
SELECT 1 / (abs((SELECT sum(amount) FROM public.rated) - (SELECT sum(c.amount) FROM submeter.charge c JOIN submeter.supply s USING (site_id, account_id)
	WHERE s.meter_id % 10 = 0)) < 0.000001)::int AS same_money,
	1 / (:simulated = (SELECT sum(rounded) FROM submeter.charge))::int AS same_simulated;
DROP TABLE public.rated;

SELECT format('%s seconds %s', name, seconds) FROM bench;
SELECT format('intervals %s', count(*) - 1000) FROM submeter.reading;
SELECT format('sample %s', count(*) - 100) FROM submeter.reading r WHERE r.meter_id % 10 = 0;
