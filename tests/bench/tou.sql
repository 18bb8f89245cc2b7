-- A million intervals of 10,000 accounts whose three tiers meet four periods, beside one SQL statement doing the same.
\set site 1
\set meters 10000
\ir property.sql
SELECT submeter.create_partitions('2026-03-01', '2026-04-01');
SELECT submeter.create_tariff(:site, 'tou', '{"tiers":{"bounds":[{"upto_kwh":[5,10]}]},
	"periods":[{"name":"sharp","windows":[{"from":"11:00","to":"12:00"}]},{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},
		{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"flat"}],
	"energy":[{"period":"sharp","price":1.4291},{"period":"peak","price":1.1433},{"period":"valley","price":0.2556},{"price":0.6725}],"tier_adders":[0,0.05,0.3]}', '2020-01-01') AS tou \gset
UPDATE submeter.supply SET tariff_id = :tou;
DELETE FROM submeter.charge_dirty;
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, power_w)
SELECT 1, m.meter_id, ts, 100000 + (extract(epoch FROM ts - timestamptz '2026-03-02') / 3600 * (300 + m.meter_id % 700))::bigint, (300 + m.meter_id % 700)::real
FROM generate_series(timestamptz '2026-03-02', timestamptz '2026-03-02' + 99 * interval '15 min', interval '15 min') ts
CROSS JOIN submeter.meter m;
ANALYZE submeter.reading;
CREATE TEMP TABLE bench (name text, seconds numeric);
SELECT clock_timestamp() AS t \gset
SELECT submeter.settle(1, '2026-03-31') AS intervals \gset
INSERT INTO bench SELECT 'settle', extract(epoch FROM clock_timestamp() - :'t');
-- The same as one statement; readings and windows both lie on quarters of an hour, so nothing has to be cut.
SELECT clock_timestamp() AS t \gset
CREATE TABLE public.rated AS
WITH delta AS (
	SELECT r.meter_id, r.ts, r.energy_wh - lag(r.energy_wh) OVER w AS wh, (lag(r.ts) OVER w AT TIME ZONE 'Asia/Shanghai')::time AS at
	FROM submeter.reading r WHERE r.site_id = 1 WINDOW w AS (PARTITION BY r.meter_id ORDER BY r.ts)
), placed AS (
	SELECT d.meter_id, d.ts, d.wh, sum(d.wh) OVER (PARTITION BY d.meter_id, date_trunc('month', d.ts, 'Asia/Shanghai') ORDER BY d.ts) AS position,
		CASE WHEN d.at >= '11:00' AND d.at < '12:00' THEN 1.4291 WHEN d.at >= '10:00' AND d.at < '12:00' OR d.at >= '14:00' AND d.at < '19:00' THEN 1.1433
			WHEN d.at < '08:00' THEN 0.2556 ELSE 0.6725 END AS price
	FROM delta d WHERE d.wh IS NOT NULL
)
SELECT p.meter_id, p.ts, p.wh,
	(least(p.position, 5000) - least(p.position - p.wh, 5000)) * p.price / 1000
	+ (least(greatest(p.position, 5000), 10000) - least(greatest(p.position - p.wh, 5000), 10000)) * (p.price + 0.05) / 1000
	+ (greatest(p.position, 10000) - greatest(p.position - p.wh, 10000)) * (p.price + 0.3) / 1000 AS amount
FROM placed p;
INSERT INTO bench SELECT 'window', extract(epoch FROM clock_timestamp() - :'t');
-- Both must come to the same money.
SELECT 1 / (abs((SELECT sum(amount) FROM public.rated) - (SELECT sum(amount) FROM submeter.charge)) < 0.000001)::int AS same_money;
DROP TABLE public.rated;
SELECT format('%s seconds %s', name, seconds) FROM bench;
SELECT format('intervals %s', :intervals);
