-- 1,000 meters with :months months of readings behind them, one every six hours, all settled.
SET client_min_messages = warning;
\set site 1
\set meters 1000
\ir property.sql
SELECT timestamptz '2026-01-01 00:00+08' - :months * interval '1 month' AS began \gset
SELECT count(submeter.create_partitions(m, m + interval '1 month')) FROM generate_series(:'began', timestamptz '2026-01-01', '1 month') m;
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT 1, m.meter_id, ts, 100000 + (extract(epoch FROM ts - :'began') / 3600 * (300 + m.meter_id % 700))::bigint
FROM submeter.meter m CROSS JOIN generate_series(:'began', timestamptz '2026-01-15 00:00+08', '6 hours') ts
ORDER BY ts, m.meter_id;
SELECT submeter.settle(1, '2026-01-15 00:30+08') > 0;
SELECT submeter.post_charges(1, '2026-01-15 00:30+08') > 0;
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
