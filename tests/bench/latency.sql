-- How long a committed reading takes until the balance has it, with workers running. Times in milliseconds.
\set site 1
\set meters 50
\ir property.sql
CREATE TABLE public.took (ms numeric);
CREATE PROCEDURE public.measure(rounds int) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz;
	meter bigint;
	wh bigint := 1000000;
BEGIN
	FOR round IN 1 .. rounds LOOP
		meter := (SELECT m.meter_id FROM submeter.meter m ORDER BY m.meter_id OFFSET round % 50 LIMIT 1);
		wh := wh + 1;
		PERFORM submeter.ingest(1, ARRAY[ROW(meter, clock_timestamp(), wh, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
			NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::submeter.reading_input]);
		COMMIT;
		began := clock_timestamp();
		LOOP
			EXIT WHEN EXISTS (SELECT FROM submeter.meter_settled t JOIN submeter.meter_state s USING (site_id, meter_id)
				WHERE t.meter_id = meter AND t.settled_to = s.ts) OR clock_timestamp() > began + interval '20 s';
			COMMIT;
			PERFORM pg_sleep(0.002);
		END LOOP;
		INSERT INTO public.took VALUES (extract(epoch FROM clock_timestamp() - began) * 1000);
		COMMIT;
	END LOOP;
END $$;
-- The workers may still be starting.
CALL public.measure(5);
TRUNCATE public.took;
CALL public.measure(150);
SELECT format('p99_ms %s', round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1)) FROM public.took;
