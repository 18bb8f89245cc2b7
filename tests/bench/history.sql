-- 1,000 meters with :months months of readings behind them, one every six hours.
SET client_min_messages = warning;
\set site 1
\set meters 1000
\ir property.sql
SELECT timestamptz '2026-01-01 00:00+08' - :months * interval '1 month' AS began \gset
SELECT count(submeter.create_partitions(m, m + interval '1 month')) FROM generate_series(:'began', timestamptz '2026-01-01', '1 month') m;
-- Settled week by week, as it would have been, for that is how rows come to lie beside each other.
CREATE PROCEDURE public.live(from_ts timestamptz, to_ts timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	week timestamptz := from_ts;
BEGIN
	WHILE week < to_ts LOOP
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
		SELECT 1, m.meter_id, ts, 100000 + (extract(epoch FROM ts - from_ts) / 3600 * (300 + m.meter_id % 700))::bigint
		FROM submeter.meter m CROSS JOIN generate_series(week, least(week + interval '7 days', to_ts) - interval '6 hours', '6 hours') ts
		ORDER BY ts, m.meter_id;
		week := week + interval '7 days';
		PERFORM submeter.settle(1, least(week, to_ts));
		COMMIT;
	END LOOP;
	PERFORM submeter.post_charges(1, to_ts);
END $$;
CALL public.live(:'began', '2026-01-15 00:00+08');
CREATE TABLE public.took (round int, ms numeric);
CREATE PROCEDURE public.measure(from_round int, to_round int) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz;
BEGIN
	FOR round IN from_round .. to_round LOOP
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
		SELECT s.site_id, s.meter_id, s.valid_ts + interval '15 min', s.valid_wh + 100 FROM submeter.meter_state s WHERE s.site_id = 1;
		COMMIT;
		began := clock_timestamp();
		ASSERT submeter.settle(1, '2026-01-20 00:30+08') >= 1000;
		COMMIT;
		INSERT INTO public.took VALUES (round, extract(epoch FROM clock_timestamp() - began) * 1000);
	END LOOP;
END $$;
VACUUM ANALYZE;
CHECKPOINT;
