-- Room: ingest. The door for readings, the partitions they lie in, and people's word about them.

CREATE TYPE submeter.reading_input AS (
	meter_id bigint,
	ts timestamptz,
	energy_wh bigint,
	reactive_varh bigint,
	v_a real,
	v_b real,
	v_c real,
	i_a real,
	i_b real,
	i_c real,
	i_n real,
	i_leak_ma real,
	temperature_c real,
	power_w real,
	power_a_w real,
	power_b_w real,
	power_c_w real,
	power_factor real,
	frequency_hz real,
	relay text,
	source text
);
COMMENT ON TYPE submeter.reading_input IS 'One reading as ingest() takes it; columns as in submeter.reading. NULL source means poll.';
REVOKE ALL ON TYPE submeter.reading_input FROM PUBLIC;
GRANT USAGE ON TYPE submeter.reading_input TO submeter_owner, submeter_admin, submeter_field, submeter_poller;

CREATE FUNCTION submeter.create_partitions(from_ts timestamptz, to_ts timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '5s'
AS $$
DECLARE
	-- authorize: partitions belong to no site; the administrator and the duties make them.
	covered tstzrange;
	month timestamptz;
	child name;
	made int := 0;
BEGIN
	IF create_partitions.from_ts IS NULL OR create_partitions.to_ts IS NULL OR NOT isfinite(create_partitions.from_ts)
		OR NOT isfinite(create_partitions.to_ts) OR create_partitions.from_ts >= create_partitions.to_ts
		OR create_partitions.to_ts - create_partitions.from_ts > interval '50 years'
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'partitions need a range of time of at most 50 years',
			DETAIL = format('From %s to %s.', create_partitions.from_ts, create_partitions.to_ts),
			HINT = 'Pass two finite times, the earlier one first.';
	END IF;
	PERFORM pg_advisory_xact_lock(hashtext('submeter.create_partitions'));
	-- One range without holes, so that "is this time covered" is two comparisons.
	SELECT tstzrange(least(min(p.from_ts), date_trunc('month', create_partitions.from_ts)),
			greatest(max(p.to_ts), date_trunc('month', create_partitions.to_ts - interval '1 microsecond') + interval '1 month'))
	INTO covered FROM submeter.reading_partition p;
	FOR month IN
		SELECT m FROM generate_series(lower(covered), upper(covered) - interval '1 day', interval '1 month') m
		WHERE NOT EXISTS (SELECT FROM submeter.reading_partition p WHERE p.from_ts = m)
		ORDER BY m
	LOOP
		child := 'reading_' || to_char(month, 'YYYY_MM');
		-- Built alone and then attached: readers and writers of the parent are not locked out.
		EXECUTE format('CREATE TABLE submeter.%I (LIKE submeter.reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING COMMENTS)', child);
		EXECUTE format('ALTER TABLE submeter.%I ADD CONSTRAINT in_month CHECK (ts >= %L AND ts < %L), ENABLE ROW LEVEL SECURITY',
			child, month, month + interval '1 month');
		EXECUTE format('ALTER TABLE submeter.reading ATTACH PARTITION submeter.%I FOR VALUES FROM (%L) TO (%L)',
			child, month, month + interval '1 month');
		EXECUTE format('ALTER TABLE submeter.%I DROP CONSTRAINT in_month', child);
		-- A partition inherits neither the protection in replica mode nor the trigger on TRUNCATE.
		EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON submeter.%I FOR EACH STATEMENT EXECUTE FUNCTION submeter.refuse_change(%L)',
			child, 'Withdraw or replace a reading with submeter.judge_reading().');
		EXECUTE format('ALTER TABLE submeter.%I ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate', child);
		EXECUTE format('COMMENT ON TABLE submeter.%I IS %L', child, 'Readings of ' || to_char(month, 'YYYY-MM') || ' (UTC).');
		INSERT INTO submeter.reading_partition (from_ts, to_ts, name) VALUES (month, month + interval '1 month', child);
		made := made + 1;
	END LOOP;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.create_partitions(timestamptz, timestamptz) IS
'Makes the monthly partitions of reading for [from_ts, to_ts) and whatever lies between them and the existing ones; call it before importing history. Returns how many were made. 22023 for a bad range.';

CREATE FUNCTION submeter.extend_partitions(as_of timestamptz) RETURNS int
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.create_partitions(extend_partitions.as_of - interval '2 months', extend_partitions.as_of + interval '3 months')
$$;
COMMENT ON FUNCTION submeter.extend_partitions(timestamptz) IS
'Duty: keeps partitions of reading from two months back to three months ahead, so that one is never missing at insert time.';

CREATE FUNCTION submeter.ingest(site_id int, readings submeter.reading_input[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	wanted bigint := coalesce(cardinality(ingest.readings), 0);
	inserted bigint;
	first_ts timestamptz;
	end_ts timestamptz;
BEGIN
	PERFORM submeter.authorize('ingest', ingest.site_id);
	IF wanted = 0 THEN
		RETURN 0;
	END IF;
	-- An acknowledged reading survives a power cut, whatever the session prefers.
	IF current_setting('synchronous_commit') IN ('off', 'local') THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	-- Nearly every batch is new as a whole: then no row has to be looked up before it is inserted.
	BEGIN
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, reactive_varh, v_a, v_b, v_c, i_a, i_b, i_c, i_n, i_leak_ma,
			temperature_c, power_w, power_a_w, power_b_w, power_c_w, power_factor, frequency_hz, relay, source)
		SELECT ingest.site_id, u.meter_id, u.ts, u.energy_wh, u.reactive_varh, u.v_a, u.v_b, u.v_c, u.i_a, u.i_b, u.i_c, u.i_n, u.i_leak_ma,
			u.temperature_c, u.power_w, u.power_a_w, u.power_b_w, u.power_c_w, u.power_factor, u.frequency_hz, u.relay,
			coalesce(u.source, 'poll')
		FROM unnest(ingest.readings) u;
		RETURN wanted;
	EXCEPTION WHEN unique_violation OR foreign_key_violation OR check_violation OR not_null_violation THEN
		NULL;
	END;
	SELECT min(p.from_ts), max(p.to_ts) INTO first_ts, end_ts FROM submeter.reading_partition p;
	INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, reactive_varh, v_a, v_b, v_c, i_a, i_b, i_c, i_n, i_leak_ma,
		temperature_c, power_w, power_a_w, power_b_w, power_c_w, power_factor, frequency_hz, relay, source)
	SELECT ingest.site_id, u.meter_id, u.ts, u.energy_wh, u.reactive_varh, u.v_a, u.v_b, u.v_c, u.i_a, u.i_b, u.i_c, u.i_n, u.i_leak_ma,
		u.temperature_c, u.power_w, u.power_a_w, u.power_b_w, u.power_c_w, u.power_factor, u.frequency_hz, u.relay,
		coalesce(u.source, 'poll')
	FROM unnest(ingest.readings) u
	WHERE u.ts >= first_ts AND u.ts < end_ts
		AND EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = ingest.site_id AND m.meter_id = u.meter_id)
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS inserted = ROW_COUNT;
	IF inserted < wanted THEN
		PERFORM submeter.set_aside(ingest.site_id, ingest.readings);
	END IF;
	RETURN inserted;
END
$$;
COMMENT ON FUNCTION submeter.ingest(int, submeter.reading_input[]) IS
'The door for the poller and importers: stores readings and returns how many were new. Idempotent per (meter, ts). Unknown meters, times beyond the partitions and second values for a key are kept in reading_suspect. 22004 for a reading without meter or time, 22P02/23514 for malformed values: then nothing is stored.';

CREATE FUNCTION submeter.set_aside(site_id int, readings submeter.reading_input[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	kept bigint;
BEGIN
	IF EXISTS (SELECT FROM unnest(set_aside.readings) u WHERE u.meter_id IS NULL OR u.ts IS NULL OR NOT isfinite(u.ts)) THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'every reading needs a meter and a time',
			DETAIL = 'At least one reading has NULL or infinity there; none was stored.',
			HINT = 'Fill meter_id and ts of each element.';
	END IF;
	INSERT INTO submeter.reading_suspect (site_id, meter_id, ts, rule, energy_wh, detail, payload)
	SELECT set_aside.site_id, u.meter_id, u.ts,
		CASE WHEN m.meter_id IS NULL THEN 'unknown_meter'
			WHEN r.ts IS NULL THEN 'out_of_range'
			ELSE 'second_value' END,
		u.energy_wh,
		CASE WHEN m.meter_id IS NULL THEN 'the site has no such meter'
			WHEN r.ts IS NULL THEN 'no partition covers this time'
			ELSE format('the reading on record has %s Wh', r.energy_wh) END,
		to_jsonb(u)
	FROM unnest(set_aside.readings) u
	LEFT JOIN submeter.meter m ON m.site_id = set_aside.site_id AND m.meter_id = u.meter_id
	LEFT JOIN submeter.reading r ON r.site_id = set_aside.site_id AND r.meter_id = u.meter_id AND r.ts = u.ts
	WHERE r.ts IS NULL OR r.energy_wh IS DISTINCT FROM u.energy_wh
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS kept = ROW_COUNT;
	RETURN kept;
END
$$;
COMMENT ON FUNCTION submeter.set_aside(int, submeter.reading_input[]) IS
'Keeps the rows of a batch that reading could not take in reading_suspect; rows that are there already with the same register are duplicates and need nothing.';

CREATE FUNCTION submeter.ingest_json(site_id int, readings jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad record;
	batch submeter.reading_input[];
BEGIN
	PERFORM submeter.authorize('ingest', ingest_json.site_id);
	IF ingest_json.readings IS NULL OR jsonb_typeof(ingest_json.readings) <> 'array' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'readings must be a JSON array of objects',
			HINT = 'For example [{"meter_id":1,"ts":"2026-01-01T00:00:00Z","energy_wh":1000}].';
	END IF;
	SELECT e.ord, coalesce(k.key, '(element)') AS key, jsonb_typeof(coalesce(k.value, e.value)) AS kind INTO bad
	FROM jsonb_array_elements(ingest_json.readings) WITH ORDINALITY e(value, ord)
	LEFT JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(e.value) = 'object' THEN e.value ELSE '{}' END) k ON true
	WHERE jsonb_typeof(e.value) <> 'object'
		OR NOT CASE
			WHEN k.key IS NULL THEN false
			WHEN k.key IN ('ts', 'relay', 'source') THEN jsonb_typeof(k.value) IN ('string', 'null')
			WHEN k.key IN ('meter_id', 'energy_wh', 'reactive_varh') THEN jsonb_typeof(k.value) = 'null'
				OR jsonb_typeof(k.value) = 'number' AND (k.value #>> '{}')::numeric % 1 = 0
			WHEN k.key IN ('v_a', 'v_b', 'v_c', 'i_a', 'i_b', 'i_c', 'i_n', 'i_leak_ma', 'temperature_c', 'power_w', 'power_a_w',
				'power_b_w', 'power_c_w', 'power_factor', 'frequency_hz') THEN jsonb_typeof(k.value) IN ('number', 'null')
			ELSE false END
	ORDER BY e.ord LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a reading is malformed; none was stored',
			DETAIL = format('Reading %s: %s is not what is expected there (found %s).', bad.ord, bad.key, bad.kind),
			HINT = 'Keys are the columns of submeter.reading_input; registers are whole numbers of Wh, times are ISO 8601 strings.';
	END IF;
	SELECT array_agg(jsonb_populate_record(NULL::submeter.reading_input, e.value)) INTO batch
	FROM jsonb_array_elements(ingest_json.readings) e;
	RETURN submeter.ingest(ingest_json.site_id, batch);
END
$$;
COMMENT ON FUNCTION submeter.ingest_json(int, jsonb) IS
'ingest() for a JSON array of objects with the columns of reading_input. 22023 names the first malformed reading; then nothing is stored.';

CREATE FUNCTION submeter.reading_effects() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'submeter_reading_effects';
COMMENT ON FUNCTION submeter.reading_effects() IS
'Statement trigger of reading, the only place with effects of new readings: latest state, suspects, what must be settled. 23503 for unknown meters.';

CREATE FUNCTION submeter.refold(site_id int, meter_id bigint, from_ts timestamptz) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'submeter_refold';
COMMENT ON FUNCTION submeter.refold(int, bigint, timestamptz) IS
'Finds the suspects of a meter from a time on again, because a verdict or a late reading changed what the later ones are compared with; marks the meter for settlement.';

CREATE FUNCTION submeter.check_verdict(site_id int, meter_id bigint, ts timestamptz, verdict text, reason text, energy_wh bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.require_text('reason', check_verdict.reason);
	IF check_verdict.verdict IS NULL OR check_verdict.verdict NOT IN ('accept', 'withdraw', 'replace')
		OR (check_verdict.verdict = 'replace') <> (check_verdict.energy_wh IS NOT NULL) OR check_verdict.energy_wh < 0
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a verdict on a reading', coalesce(check_verdict.verdict, 'NULL')),
			HINT = 'Use accept, withdraw, or replace with the right register in energy_wh.';
	END IF;
	IF NOT EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = check_verdict.site_id
		AND r.meter_id = check_verdict.meter_id AND r.ts = check_verdict.ts)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002',
			MESSAGE = format('meter %s has no reading at %s', coalesce(check_verdict.meter_id::text, 'NULL'), coalesce(check_verdict.ts::text, 'NULL')),
			HINT = 'SELECT ts, rule FROM submeter.reading_suspect lists the readings to judge.';
	END IF;
	-- One absurd register would make an amount nothing can hold, and stop the settlement of the whole site.
	IF check_verdict.verdict <> 'withdraw' AND coalesce(check_verdict.energy_wh, (SELECT r.energy_wh FROM submeter.reading r
		WHERE r.site_id = check_verdict.site_id AND r.meter_id = check_verdict.meter_id AND r.ts = check_verdict.ts)) >= 100000000000000
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'no meter counts that far',
			DETAIL = 'A register that counts is below 10^14 Wh (100 TWh).', HINT = 'Registers are in Wh, before the multiplier.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_verdict(int, bigint, timestamptz, text, text, bigint) IS
'Refuses a verdict that is none or has a register no meter reaches (22023), and one on a reading that does not exist (P0002).';

CREATE FUNCTION submeter.write_verdict(site_id int, meter_id bigint, ts timestamptz, verdict text, reason text, energy_wh bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	judged bigint;
BEGIN
	INSERT INTO submeter.reading_verdict (site_id, meter_id, ts, verdict, energy_wh, reason, by)
	VALUES (write_verdict.site_id, write_verdict.meter_id, write_verdict.ts, write_verdict.verdict, write_verdict.energy_wh,
		write_verdict.reason, (submeter.me()).login)
	RETURNING verdict_id INTO judged;
	UPDATE submeter.reading_suspect s SET state = 'judged', settled_at = clock_timestamp()
	WHERE s.site_id = write_verdict.site_id AND s.meter_id = write_verdict.meter_id AND s.ts = write_verdict.ts;
	PERFORM submeter.refold(write_verdict.site_id, write_verdict.meter_id, write_verdict.ts);
	RETURN judged;
END
$$;
COMMENT ON FUNCTION submeter.write_verdict(int, bigint, timestamptz, text, text, bigint) IS
'Records a checked verdict; what follows from it is found again and marked for settlement.';

CREATE FUNCTION submeter.judge_reading(site_id int, meter_id bigint, ts timestamptz, verdict text, reason text,
	energy_wh bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
BEGIN
	PERFORM submeter.authorize('judge_reading', judge_reading.site_id);
	PERFORM submeter.check_verdict(judge_reading.site_id, judge_reading.meter_id, judge_reading.ts, judge_reading.verdict, judge_reading.reason,
		judge_reading.energy_wh);
	PERFORM submeter.require_approval('judge_reading', judge_reading.site_id,
		jsonb_build_object('meter_id', judge_reading.meter_id, 'ts', judge_reading.ts, 'verdict', judge_reading.verdict));
	RETURN submeter.write_verdict(judge_reading.site_id, judge_reading.meter_id, judge_reading.ts, judge_reading.verdict, judge_reading.reason,
		judge_reading.energy_wh);
END
$$;
COMMENT ON FUNCTION submeter.judge_reading(int, bigint, timestamptz, text, text, bigint) IS
'A person''s verdict on one reading: accept, withdraw, or replace by energy_wh; everything that follows from it is settled again. Returns the verdict_id. 22023 for a bad verdict or register, P0002 when there is no such reading.';

CREATE FUNCTION submeter.is_plausible(max_power_w real, register_modulus_wh bigint, from_ts timestamptz, from_wh bigint,
	to_ts timestamptz, to_wh bigint) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'submeter_is_plausible';
COMMENT ON FUNCTION submeter.is_plausible(real, bigint, timestamptz, bigint, timestamptz, bigint) IS
'Whether one reading can follow another: the register does not run backwards (roll-over aside) and moved no more than the rating allows in the time, with 20 % overload, a minute of clock and 100 Wh of resolution. NULL power: 66 kW is assumed; NULL modulus: no roll-over.';
