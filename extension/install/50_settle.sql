-- Room: settle. Readings to usage to charge.

CREATE FUNCTION submeter.valid_before(site_id int, meter_id bigint, ts timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.ts
	FROM submeter.reading r
	LEFT JOIN LATERAL (
		SELECT v.verdict FROM submeter.reading_verdict v
		WHERE v.site_id = r.site_id AND v.meter_id = r.meter_id AND v.ts = r.ts
		ORDER BY v.verdict_id DESC LIMIT 1) v ON true
	WHERE r.site_id = valid_before.site_id AND r.meter_id = valid_before.meter_id AND r.ts < valid_before.ts
		AND r.energy_wh IS NOT NULL AND v.verdict IS DISTINCT FROM 'withdraw'
		AND (v.verdict IS NOT NULL OR NOT EXISTS (
			SELECT FROM submeter.reading_suspect q
			WHERE q.site_id = r.site_id AND q.meter_id = r.meter_id AND q.ts = r.ts AND q.state = 'open' AND q.rule <> 'second_value'))
	ORDER BY r.ts DESC
	LIMIT 1
$$;
COMMENT ON FUNCTION submeter.valid_before(int, bigint, timestamptz) IS
'Time of the last reading of a meter before ts that counts (not suspect, not withdrawn); NULL when there is none.';

CREATE FUNCTION submeter.hours_add(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'submeter_hours_add';
COMMENT ON FUNCTION submeter.hours_add(bigint[], bigint[]) IS 'Adds the hours of two parts of a day by position.';

CREATE FUNCTION submeter.hours_max(a real[], b real[]) RETURNS real[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'submeter_hours_max';
COMMENT ON FUNCTION submeter.hours_max(real[], real[]) IS 'Larger hour of two parts of a day by position.';

CREATE FUNCTION submeter.settle_site(site_id int, time_zone text, as_of timestamptz) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'submeter_settle_site';
COMMENT ON FUNCTION submeter.settle_site(int, text, timestamptz) IS
'Settles what is new at one site up to as_of and returns the number of intervals; the caller holds the site''s duty_state row.';

CREATE FUNCTION submeter.rebuild_charges_of(site_id int, time_zone text, account_id bigint, as_of timestamptz, known_at timestamptz)
RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, amount numeric, rounded numeric)
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'submeter_rebuild_charges';
COMMENT ON FUNCTION submeter.rebuild_charges_of(int, text, bigint, timestamptz, timestamptz) IS
'What an account (0: every account of the site) owes per tariff and cycle, computed from scratch from the readings up to as_of that were known at known_at; stores nothing.';

CREATE FUNCTION submeter.rebuild_charges(site_id int, account_id bigint DEFAULT 0, known_at timestamptz DEFAULT 'infinity')
RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, amount numeric, rounded numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.* FROM submeter.site s
	CROSS JOIN LATERAL submeter.rebuild_charges_of(s.site_id, s.time_zone, rebuild_charges.account_id, 'infinity', rebuild_charges.known_at) c
	WHERE s.site_id = rebuild_charges.site_id
$$;
COMMENT ON FUNCTION submeter.rebuild_charges(int, bigint, timestamptz) IS
'Charges of an account (0: all) from scratch, as known at known_at: law 3 compares them with the stored ones.';

CREATE FUNCTION submeter.settle(site_id int DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place record;
	settled bigint := 0;
BEGIN
	IF settle.as_of IS NULL OR NOT isfinite(settle.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'settle needs a point in time',
			HINT = 'Leave as_of out to settle up to now.';
	END IF;
	IF settle.site_id IS NOT NULL THEN
		PERFORM submeter.authorize('settle', settle.site_id);
	END IF;
	FOR place IN
		SELECT s.site_id, s.time_zone FROM submeter.site s
		WHERE s.site_id = settle.site_id OR settle.site_id IS NULL AND s.site_id = ANY (submeter.my_sites())
		ORDER BY s.site_id
	LOOP
		PERFORM submeter.authorize('settle', place.site_id);
		PERFORM FROM submeter.duty_state d WHERE d.site_id = place.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
		settled := settled + submeter.settle_site(place.site_id, place.time_zone, settle.as_of);
		PERFORM submeter.alarm_unpriced(place.site_id, settle.as_of);
	END LOOP;
	RETURN settled;
END
$$;
COMMENT ON FUNCTION submeter.settle(int, timestamptz) IS
'Readings up to as_of to usage and charge, touching only what is new; all the caller''s sites when site_id is NULL. Returns the number of intervals. An older as_of takes nothing back.';

CREATE FUNCTION submeter.alarm_unpriced(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM submeter.charge c WHERE c.site_id = alarm_unpriced.site_id AND c.unpriced_wh <> 0) THEN
		PERFORM submeter.raise_alarm(alarm_unpriced.site_id, 'tariff_missing', NULL, NULL,
			'energy was used at a time for which its tariff has no version; it waits unpriced', alarm_unpriced.as_of);
	ELSE
		PERFORM submeter.clear_alarm(alarm_unpriced.site_id, 'tariff_missing', NULL, NULL, alarm_unpriced.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.alarm_unpriced(int, timestamptz) IS
'Raises tariff_missing while charges have energy without a price, and clears it when they have none.';
