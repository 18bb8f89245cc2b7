-- Open and close one breaker after the other by hand; from queued to confirmed, in milliseconds.
CREATE TABLE public.took (ms numeric);
CREATE PROCEDURE public.measure(rounds int) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz;
	command bigint;
	done boolean;
BEGIN
	FOR round IN 0 .. rounds - 1 LOOP
		began := clock_timestamp();
		command := submeter.request_command(1, (SELECT m.meter_id FROM submeter.meter m ORDER BY m.meter_id OFFSET round / 2 % 20 LIMIT 1),
			CASE WHEN round % 2 = 0 THEN 'open' ELSE 'close' END, 'bench');
		COMMIT;
		LOOP
			done := EXISTS (SELECT FROM submeter.command c WHERE c.command_id = command AND c.state = 'confirmed');
			EXIT WHEN done OR clock_timestamp() > began + interval '20 s';
			COMMIT;
			PERFORM pg_sleep(0.001);
		END LOOP;
		IF NOT done THEN
			RAISE EXCEPTION 'command % was not confirmed: %', command, (SELECT c FROM submeter.command c WHERE c.command_id = command);
		END IF;
		INSERT INTO public.took VALUES (extract(epoch FROM clock_timestamp() - began) * 1000);
		COMMIT;
	END LOOP;
END $$;
CALL public.measure(200);
SELECT format('p99_ms %s', round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1)) FROM public.took;
