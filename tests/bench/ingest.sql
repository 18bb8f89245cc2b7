-- A million readings of 10,000 meters, one batch per round of all meters.
\set site 1
\set meters 10000
\ir property.sql
SELECT submeter.create_partitions('2026-03-01', '2026-04-01');
CREATE TEMP TABLE sample AS
SELECT m.meter_id, ts, 100000 + (extract(epoch FROM ts - timestamptz '2026-03-02') / 3600 * (300 + m.meter_id % 700))::bigint AS energy_wh,
	(300 + m.meter_id % 700)::real AS power_w
FROM generate_series(timestamptz '2026-03-02', timestamptz '2026-03-02' + 99 * interval '15 min', interval '15 min') ts
CROSS JOIN submeter.meter m;
CREATE TEMP TABLE batch AS
SELECT ts, array_agg(ROW(meter_id, ts, energy_wh, NULL, 220, NULL, NULL, power_w / 220, NULL, NULL, NULL, NULL, NULL, power_w,
	NULL, NULL, NULL, 0.98, 50, 'closed', 'poll')::submeter.reading_input ORDER BY meter_id) AS readings
FROM sample GROUP BY ts;
CREATE TABLE public.bare (LIKE submeter.reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (site_id, meter_id, ts)) PARTITION BY RANGE (ts);
CREATE TABLE public.bare_1 PARTITION OF public.bare FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TEMP TABLE bench (name text, seconds numeric);

-- In turn, so that a machine whose speed drifts is fair to all.
CREATE PROCEDURE public.ingest_all() LANGUAGE plpgsql AS $$
DECLARE b record;
BEGIN
	FOR b IN SELECT readings FROM pg_temp.batch ORDER BY ts LOOP
		PERFORM submeter.ingest(1, b.readings);
		COMMIT;
	END LOOP;
END $$;
CREATE PROCEDURE public.insert_all() LANGUAGE plpgsql AS $$
DECLARE b record;
BEGIN
	FOR b IN SELECT readings FROM pg_temp.batch ORDER BY ts LOOP
		INSERT INTO public.bare (site_id, meter_id, ts, energy_wh, v_a, i_a, power_w, power_factor, frequency_hz, relay, source)
		SELECT 1, u.meter_id, u.ts, u.energy_wh, u.v_a, u.i_a, u.power_w, u.power_factor, u.frequency_hz, u.relay, u.source
		FROM unnest(b.readings) u ON CONFLICT DO NOTHING;
		COMMIT;
	END LOOP;
END $$;
\set file `echo "$BENCH_FILE"`
\copy (SELECT 1, meter_id, ts, energy_wh, 220, power_w / 220, power_w, 0.98, 50, 'closed', 'poll', now() FROM sample ORDER BY ts, meter_id) TO PROGRAM 'cat >"$BENCH_FILE"'
SELECT clock_timestamp() AS t \gset
\copy public.bare (site_id, meter_id, ts, energy_wh, v_a, i_a, power_w, power_factor, frequency_hz, relay, source, received_at) FROM PROGRAM 'cat "$BENCH_FILE"'
INSERT INTO bench SELECT 'copy', extract(epoch FROM clock_timestamp() - :'t');
SELECT clock_timestamp() AS t \gset
CALL public.ingest_all();
INSERT INTO bench SELECT 'ingest', extract(epoch FROM clock_timestamp() - :'t');
TRUNCATE public.bare;
SELECT clock_timestamp() AS t \gset
CALL public.insert_all();
INSERT INTO bench SELECT 'insert', extract(epoch FROM clock_timestamp() - :'t');
TRUNCATE public.bare;
SELECT clock_timestamp() AS t \gset
\copy public.bare (site_id, meter_id, ts, energy_wh, v_a, i_a, power_w, power_factor, frequency_hz, relay, source, received_at) FROM PROGRAM 'cat "$BENCH_FILE"'
INSERT INTO bench SELECT 'copy', extract(epoch FROM clock_timestamp() - :'t');
DROP TABLE public.bare;

SELECT clock_timestamp() AS t \gset
SELECT submeter.settle(1, '2026-03-31') AS intervals \gset
INSERT INTO bench SELECT 'settle', extract(epoch FROM clock_timestamp() - :'t');
-- The same rating as one statement: deltas, position in the month, split over three tiers, stored.
SELECT clock_timestamp() AS t \gset
CREATE TABLE public.rated AS
WITH delta AS (
	SELECT r.meter_id, r.ts, r.energy_wh - lag(r.energy_wh) OVER w AS wh
	FROM submeter.reading r WHERE r.site_id = 1 WINDOW w AS (PARTITION BY r.meter_id ORDER BY r.ts)
), placed AS (
	SELECT d.meter_id, d.ts, d.wh, sum(d.wh) OVER (PARTITION BY d.meter_id, date_trunc('month', d.ts, 'Asia/Shanghai') ORDER BY d.ts) AS position
	FROM delta d WHERE d.wh IS NOT NULL
)
SELECT p.meter_id, p.ts, p.wh,
	(least(p.position, 200000) - least(p.position - p.wh, 200000)) * 0.000589
	+ (least(greatest(p.position, 200000), 400000) - least(greatest(p.position - p.wh, 200000), 400000)) * 0.000639
	+ (greatest(p.position, 400000) - greatest(p.position - p.wh, 400000)) * 0.000889 AS amount
FROM placed p;
INSERT INTO bench SELECT 'window', extract(epoch FROM clock_timestamp() - :'t');
-- Both must come to the same money.
SELECT 1 / (abs((SELECT sum(amount) FROM public.rated) - (SELECT sum(amount) FROM submeter.charge)) < 0.000001)::int AS same_money;
DROP TABLE public.rated;

SELECT * FROM submeter.verify_ledger(1);

SELECT format('%s seconds %s', name, avg(seconds)) FROM bench GROUP BY name;
SELECT format('intervals %s', :intervals);
