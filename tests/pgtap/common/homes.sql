-- Eight measured homes as registers of eight meters, read at odd times, with holes and with the faults of the field.
-- pg_temp.furnish(site) makes the same property under another number; pg_temp.deliver() brings it readings.
SET timezone = 'UTC';
SET client_min_messages = warning;

CREATE TEMP TABLE home (ts timestamp, h1 numeric, h2 numeric, h3 numeric, h4 numeric, h5 numeric, h6 numeric, h7 numeric, h8 numeric);
\copy home FROM 'tests/data/homes_hourly.csv' WITH (FORMAT csv, HEADER)

-- Register of home n at each full hour, Wh; the years are moved to where partitions are cheap.
CREATE TEMP TABLE hour_end AS
SELECT n, (h.ts + interval '8 years 1 hour') AT TIME ZONE 'Asia/Shanghai' AS ts,
	n * 1000000 + sum(round(u.kwh * 1000)) OVER (PARTITION BY n ORDER BY h.ts) AS wh
FROM home h CROSS JOIN LATERAL unnest(ARRAY[h1, h2, h3, h4, h5, h6, h7, h8]) WITH ORDINALITY u(kwh, n);

SELECT setseed(0.2025) \g /dev/null
-- What the meters showed: within twenty minutes after the hour, one in ten missing.
CREATE TEMP TABLE shown AS
SELECT n, ts + (random() * 1200000)::int * interval '1 ms' AS ts, wh::bigint AS wh
FROM (SELECT * FROM hour_end ORDER BY n, ts) h WHERE random() > 0.1;
-- Faults: single values that jump or run backwards, a register that was reset, one that was exchanged, a sentinel.
UPDATE shown SET wh = wh + 600000 WHERE (n, ts) IN (SELECT n, ts FROM shown WHERE n IN (2, 3, 5) ORDER BY random() LIMIT 9);
UPDATE shown SET wh = wh - 500000 WHERE (n, ts) IN (SELECT n, ts FROM shown WHERE n IN (2, 4, 6) ORDER BY random() LIMIT 9);
UPDATE shown SET wh = wh - 7000000 WHERE n = 7 AND ts > '2025-05-23 11:00';
UPDATE shown SET wh = wh + 3000000 WHERE n = 8 AND ts > '2025-06-02 05:00';
UPDATE shown SET wh = 42949672950 WHERE (n, ts) IN (SELECT n, ts FROM shown WHERE n = 1 ORDER BY random() LIMIT 3);

-- A property: accounts a1 (homes 1 and 2), a3 … a8; home 4 changes hands in the middle of an interval, home 5 its
-- current transformer; the price changes in the middle of June.
CREATE FUNCTION pg_temp.furnish(site int) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	tariff bigint;
BEGIN
	INSERT INTO submeter.site (site_id, code, name) VALUES (site, 'site' || site, 'Site ' || site);
	tariff := submeter.create_tariff(site, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[200,400]}]},"energy":[{"tier":1,"price":0.589},{"tier":2,"price":0.639},{"price":0.889}]}', '2025-05-01 00:00+08');
	PERFORM submeter.create_tariff(site, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[150,500]}]},"energy":[{"tier":1,"price":0.6111},{"tier":2,"price":0.7},{"price":0.95}]}', '2025-06-12 00:00+08');
	INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (site, site, 't', 'T');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT site, site * 100 + n, site, 'a' || n FROM generate_series(1, 9) n WHERE n <> 2;
	INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT site, site * 100 + n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 8) n;
	INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT site, site * 100 + n, 100 FROM generate_series(1, 8) n;
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, rated_current_a) VALUES (site, site * 100 + 5, '2025-05-17 10:20+08', 1.3337, 100);
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
	SELECT site, site * 100 + CASE n WHEN 2 THEN 1 ELSE n END, site * 100 + n, tariff, CASE n WHEN 4 THEN '["2025-05-01 00:00+08","2025-05-20 15:31:07+08")' ELSE '["2025-05-01 00:00+08",)' END::tstzrange
	FROM generate_series(1, 8) n;
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (site, site * 100 + 9, site * 100 + 4, tariff, '["2025-05-20 15:31:07+08",)');
END
$$;

-- Readings of a property as ingest takes them.
CREATE FUNCTION pg_temp.batch(site int, rows shown[]) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(site, array_agg(ROW(site * 100 + r.n, r.ts, r.wh, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::submeter.reading_input)) FROM unnest(rows) r
$$;

SELECT submeter.create_partitions('2025-04-01', '2025-08-01') \g /dev/null
