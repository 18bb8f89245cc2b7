-- The database of year.sql, with workers running: how long they take to settle both sites after another change of the tariff.
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS public.took (seconds numeric);
TRUNCATE public.took;
CREATE OR REPLACE PROCEDURE public.resettle() LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz;
BEGIN
	INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, revision, definition, reason)
	SELECT v.site_id, v.tariff_id, v.valid_from, v.revision + 1, v.definition || jsonb_build_object('adders', jsonb_build_array(jsonb_build_object('name', 'funds', 'price', 0.001 * v.revision))), 'again'
	FROM submeter.tariff_version v
	WHERE v.revision = (SELECT max(x.revision) FROM submeter.tariff_version x WHERE x.site_id = v.site_id AND x.tariff_id = v.tariff_id);
	UPDATE submeter.duty_state SET next_at = CASE duty WHEN 'settle' THEN clock_timestamp() ELSE '2100-01-01' END;
	COMMIT;
	began := clock_timestamp();
	LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM submeter.charge_dirty);
		ASSERT clock_timestamp() < began + interval '5 min', 'the workers did not settle';
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
	INSERT INTO public.took VALUES (extract(epoch FROM clock_timestamp() - began));
END $$;
CALL public.resettle();
SELECT format('seconds %s', seconds) FROM public.took;
