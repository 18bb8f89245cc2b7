-- Room: commission. The steps: each compares what a person typed or did with the archive and the readings, and says
-- passed, failed, or open when it cannot be told yet. Nothing here writes.

CREATE FUNCTION submeter.step_serial(site_id int, meter_id bigint, findings jsonb)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN f.typed = '' THEN 'open' WHEN f.typed = f.known THEN 'passed' ELSE 'failed' END,
		CASE WHEN f.typed = '' THEN 'to_do_serial' WHEN f.known = '' THEN 'serial_unknown' WHEN f.typed = f.known THEN 'serial_same' ELSE 'serial_other' END,
		m.serial, step_serial.findings ->> 'serial', '{}'::jsonb
	FROM submeter.meter m
	-- People type blanks, dashes and small letters as they see them.
	CROSS JOIN LATERAL (
		SELECT upper(regexp_replace(coalesce(step_serial.findings ->> 'serial', ''), '[^[:alnum:]]', '', 'g')) AS typed,
			upper(regexp_replace(coalesce(m.serial, ''), '[^[:alnum:]]', '', 'g')) AS known) f
	WHERE m.site_id = step_serial.site_id AND m.meter_id = step_serial.meter_id
$$;
COMMENT ON FUNCTION submeter.step_serial(int, bigint, jsonb) IS 'Serial number of the nameplate against the archive.';

CREATE FUNCTION submeter.step_address(site_id int, meter_id bigint, findings jsonb, begun_at timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.word[1], w.word[2],
		CASE w.word[2] WHEN 'address_other' THEN CASE WHEN f.number_other THEN m.serial ELSE m.bus_address END ELSE m.bus_address END,
		CASE w.word[2] WHEN 'address_other' THEN CASE WHEN f.number_other THEN f.number ELSE f.address END ELSE coalesce(f.address, m.bus_address) END,
		jsonb_build_object('gateway', g.code, 'address', g.address, 'answered_at', f.answered_at, 'device_address', f.address,
			'device_number', f.number, 'suspects', f.suspects)
	FROM submeter.meter m
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN submeter.meter_state t ON t.site_id = m.site_id AND t.meter_id = m.meter_id
	CROSS JOIN LATERAL (
		SELECT greatest(t.ts, t.last_contact_at) AS answered_at,
			nullif(btrim(step_address.findings ->> 'device_address'), '') AS address, nullif(btrim(step_address.findings ->> 'device_number'), '') AS number,
			ltrim(btrim(step_address.findings ->> 'device_number'), '0') <> ltrim(m.serial, '0') AS number_other,
			(SELECT string_agg(DISTINCT r.rule, ', ') FROM submeter.reading_suspect r
				WHERE r.site_id = m.site_id AND r.meter_id = m.meter_id AND r.state = 'open' AND r.ts >= step_address.begun_at) AS suspects) f
	CROSS JOIN LATERAL (
		SELECT CASE
			WHEN ltrim(f.address, '0') <> ltrim(m.bus_address, '0') AND m.bus_address !~* '^A+$' OR f.number_other THEN '{failed,address_other}'::text[]
			WHEN f.suspects IS NOT NULL THEN '{failed,suspect}'
			WHEN coalesce(f.answered_at < step_address.begun_at OR NOT coalesce(t.online, true), true) THEN '{open,silent}'
			WHEN m.bus_address ~* '^A+$' AND f.address IS NULL THEN '{open,address_wild}'
			ELSE '{passed,answers}' END) w(word)
	WHERE m.site_id = step_address.site_id AND m.meter_id = step_address.meter_id
$$;
COMMENT ON FUNCTION submeter.step_address(int, bigint, jsonb, timestamptz) IS
'Whether the meter answers at its address since the attempt began, with readings that go on from those before; device_address and device_number, where the device shows them (DL/T 645: 04000401, 04000402), must fit the archive.';

CREATE FUNCTION submeter.step_nameplate(site_id int, meter_id bigint, findings jsonb, as_of timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN f.is_short THEN 'open' WHEN d.differs IS NULL THEN 'passed' ELSE 'failed' END,
		CASE WHEN f.is_short THEN 'to_do_nameplate' WHEN d.differs IS NULL THEN 'nameplate_same' ELSE 'nameplate_other' END,
		concat_ws(', ', m.model, trim_scale(e.multiplier)::text || ' x', e.phases || ' P', trim_scale(e.rated) || ' A', e.modulus || ' Wh'),
		concat_ws(', ', f.model, trim_scale(f.multiplier)::text || ' x', f.phases || ' P', trim_scale(f.rated) || ' A', f.modulus || ' Wh'),
		jsonb_build_object('differs', d.differs, 'ct', step_nameplate.findings -> 'ct', 'pt', step_nameplate.findings -> 'pt')
	FROM submeter.meter m
	LEFT JOIN LATERAL (
		SELECT s.multiplier, s.phases, s.rated_current_a AS rated, s.register_modulus_wh AS modulus FROM submeter.meter_setup s
		WHERE s.site_id = m.site_id AND s.meter_id = m.meter_id AND s.valid_from <= step_nameplate.as_of
		ORDER BY s.valid_from DESC, s.entered_at DESC LIMIT 1) e ON true
	CROSS JOIN LATERAL (
		SELECT n.*, n.model IS NULL OR n.multiplier IS NULL OR n.phases IS NULL AS is_short
		FROM (
			SELECT btrim(step_nameplate.findings ->> 'model') AS model,
				coalesce((step_nameplate.findings ->> 'multiplier')::numeric,
					(step_nameplate.findings ->> 'ct')::numeric * coalesce((step_nameplate.findings ->> 'pt')::numeric, 1)) AS multiplier,
				(step_nameplate.findings ->> 'phases')::int AS phases, (step_nameplate.findings ->> 'rated_current_a')::numeric AS rated,
				(step_nameplate.findings ->> 'register_modulus_wh')::bigint AS modulus) n) f
	CROSS JOIN LATERAL (
		-- What the nameplate was not read for is not compared; what the archive does not have cannot be right.
		SELECT nullif(concat_ws(', ', CASE WHEN lower(f.model) <> lower(m.model) THEN 'model' END,
			CASE WHEN f.multiplier <> coalesce(e.multiplier, 1) THEN 'multiplier' END, CASE WHEN f.phases <> coalesce(e.phases, 1) THEN 'phases' END,
			CASE WHEN f.rated IS NOT NULL AND f.rated IS DISTINCT FROM e.rated THEN 'rated_current_a' END,
			CASE WHEN f.modulus IS NOT NULL AND f.modulus IS DISTINCT FROM e.modulus THEN 'register_modulus_wh' END), '') AS differs) d
	WHERE m.site_id = step_nameplate.site_id AND m.meter_id = step_nameplate.meter_id
$$;
COMMENT ON FUNCTION submeter.step_nameplate(int, bigint, jsonb, timestamptz) IS
'Model, multiplier (or ct and pt), phases and, where given, rated_current_a and register_modulus_wh of the nameplate against the archive.';

CREATE FUNCTION submeter.step_display(site_id int, meter_id bigint, findings jsonb)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN f.at IS NULL OR f.kwh IS NULL OR b.energy_wh IS NULL OR a.energy_wh IS NULL THEN 'open' WHEN x.fits THEN 'passed' ELSE 'failed' END,
		CASE WHEN f.at IS NULL OR f.kwh IS NULL THEN 'to_do_display' WHEN b.energy_wh IS NULL OR a.energy_wh IS NULL THEN 'display_unread' WHEN x.fits THEN 'display_same' ELSE 'display_other' END,
		CASE WHEN b.energy_wh = a.energy_wh THEN trim_scale(b.energy_wh / 1000.0)::text
			ELSE concat_ws(' – ', trim_scale(b.energy_wh / 1000.0), trim_scale(a.energy_wh / 1000.0)) END || ' kWh',
		f.kwh || ' kWh', jsonb_build_object('at', f.at, 'before_at', b.ts, 'before_wh', b.energy_wh, 'after_at', a.ts, 'after_wh', a.energy_wh)
	FROM (
		SELECT (step_display.findings ->> 'display_at')::timestamptz AS at, (step_display.findings ->> 'display_kwh')::numeric AS kwh) f
	LEFT JOIN LATERAL (
		SELECT r.ts, r.energy_wh FROM submeter.reading r
		WHERE r.site_id = step_display.site_id AND r.meter_id = step_display.meter_id AND r.ts <= f.at AND r.ts > f.at - interval '15 min' AND r.energy_wh IS NOT NULL
		ORDER BY r.ts DESC LIMIT 1) b ON true
	LEFT JOIN LATERAL (
		SELECT r.ts, r.energy_wh FROM submeter.reading r
		WHERE r.site_id = step_display.site_id AND r.meter_id = step_display.meter_id AND r.ts >= f.at AND r.ts < f.at + interval '15 min' AND r.energy_wh IS NOT NULL
		ORDER BY r.ts LIMIT 1) a ON true
	CROSS JOIN LATERAL (
		-- One digit of the display as it was typed, and not less than what registers resolve.
		SELECT f.kwh * 1000 BETWEEN b.energy_wh - d.digit AND a.energy_wh + d.digit AS fits
		FROM (SELECT greatest(1000 / power(10::numeric, scale(f.kwh)), 10) AS digit) d) x
$$;
COMMENT ON FUNCTION submeter.step_display(int, bigint, jsonb) IS
'What the display showed (display_kwh, with the decimals it has) at a time (display_at) against the readings just before and after: within one digit. Before the multiplier, like the register.';

CREATE FUNCTION submeter.phase_values(site_id int, meter_id bigint, since timestamptz)
RETURNS TABLE(phase text, v real, i real, w real)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.* FROM (
		SELECT r.* FROM submeter.reading r
		WHERE r.site_id = phase_values.site_id AND r.meter_id = phase_values.meter_id AND r.ts >= phase_values.since
			AND coalesce(r.v_a, r.v_b, r.v_c, r.power_w) IS NOT NULL
		ORDER BY r.ts DESC LIMIT 1) r
	CROSS JOIN LATERAL (VALUES ('A', r.v_a, r.i_a, r.power_a_w), ('B', r.v_b, r.i_b, r.power_b_w), ('C', r.v_c, r.i_c, r.power_c_w),
		('total', NULL::real, NULL::real, r.power_w)) p(phase, v, i, w)
$$;
COMMENT ON FUNCTION submeter.phase_values(int, bigint, timestamptz) IS
'Voltage, current and power of each phase, and the power of all, of the latest reading since a time that has any.';

CREATE FUNCTION submeter.step_phases(site_id int, meter_id bigint, findings jsonb, begun_at timestamptz, as_of timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH setup AS (
		SELECT coalesce(s.phases, 1) AS phases, coalesce(s.rated_voltage_v, 220) AS rated_v
		FROM (SELECT 1) one
		LEFT JOIN LATERAL (
			SELECT e.phases, e.rated_voltage_v FROM submeter.meter_setup e
			WHERE e.site_id = step_phases.site_id AND e.meter_id = step_phases.meter_id AND e.valid_from <= step_phases.as_of
			ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1) s ON true
	), value AS (
		SELECT p.phase, p.v, p.i, CASE WHEN s.phases = 1 AND p.phase = 'A' THEN coalesce(p.w, t.w) ELSE p.w END AS w, s.rated_v, s.phases,
			-- The sign of little power says nothing; some meters show the current of a transformer the wrong way round negative.
			abs(p.v * p.i) AS va, abs(p.v * p.i) >= 50 AS loaded
		FROM submeter.phase_values(step_phases.site_id, step_phases.meter_id, step_phases.begun_at) p
		CROSS JOIN setup s
		LEFT JOIN submeter.phase_values(step_phases.site_id, step_phases.meter_id, step_phases.begun_at) t ON t.phase = 'total'
		WHERE p.phase = 'total' OR s.phases = 3 OR p.phase = 'A'
	), problem AS (
		SELECT p.ord, p.text FROM value v
		CROSS JOIN LATERAL (VALUES
			(1, CASE WHEN v.v NOT BETWEEN 0.8 * v.rated_v AND 1.2 * v.rated_v THEN format('%s: %s V', v.phase, round(v.v::numeric, 1)) END),
			(2, CASE WHEN v.loaded AND v.w < -0.05 * v.va OR v.phase = 'total' AND v.w < -20 THEN format('%s: %s W flow backwards', v.phase, round(v.w::numeric)) END),
			(3, CASE WHEN v.loaded AND abs(v.w) > 1.15 * v.va + 20 THEN format('%s: %s W with %s VA', v.phase, round(v.w::numeric), round(v.va::numeric)) END),
			(4, CASE WHEN v.loaded AND v.phases = 3 AND v.w >= -0.05 * v.va AND v.w < 0.3 * v.va
				THEN format('%s: power factor %s, as if voltage and current were of two phases', v.phase, round((v.w / v.va)::numeric, 2)) END)) p(ord, text)
		WHERE p.text IS NOT NULL
		UNION ALL
		SELECT 5, format('phases sum to %s W, the total says %s W', round(sum(v.w) FILTER (WHERE v.phase <> 'total')::numeric), round(max(v.w) FILTER (WHERE v.phase = 'total')::numeric))
		FROM value v
		HAVING count(v.w) FILTER (WHERE v.phase <> 'total') = 3
			AND abs(sum(v.w) FILTER (WHERE v.phase <> 'total') - max(v.w) FILTER (WHERE v.phase = 'total')) > 0.1 * abs(max(v.w) FILTER (WHERE v.phase = 'total')) + 50
		UNION ALL
		SELECT 6, k.key || ': wrong' FROM jsonb_each_text(step_phases.findings) k WHERE k.key IN ('phase_order', 'ct_direction') AND k.value = 'wrong'
	), seen AS (
		SELECT (SELECT string_agg(p.text, '; ' ORDER BY p.ord, p.text) FROM problem p) AS problems,
			nullif(concat_ws(', ',
				CASE WHEN s.phases = 3 AND step_phases.findings ->> 'phase_order' IS DISTINCT FROM 'ok' THEN 'phase_order' END,
				CASE WHEN step_phases.findings ->> 'ct_direction' IS DISTINCT FROM 'ok'
					AND NOT coalesce((SELECT bool_and(v.loaded AND v.w IS NOT NULL) FROM value v WHERE v.phase <> 'total'), false) THEN 'ct_direction' END), '') AS unseen,
			EXISTS (SELECT FROM value) AS has_values,
			(SELECT jsonb_agg(jsonb_build_object('phase', v.phase, 'v', v.v, 'a', v.i, 'w', v.w) ORDER BY v.phase = 'total', v.phase) FROM value v
				WHERE coalesce(v.v, v.i, v.w) IS NOT NULL) AS values
		FROM setup s
	)
	SELECT CASE WHEN x.problems IS NOT NULL THEN 'failed' WHEN NOT x.has_values OR x.unseen IS NOT NULL THEN 'open' ELSE 'passed' END,
		CASE WHEN x.problems IS NOT NULL THEN 'phases_wrong' WHEN NOT x.has_values THEN 'phases_unread' WHEN x.unseen IS NOT NULL THEN 'phases_unseen' ELSE 'phases_right' END,
		NULL::text, nullif(concat_ws(', ', 'phase_order ' || (step_phases.findings ->> 'phase_order'), 'ct_direction ' || (step_phases.findings ->> 'ct_direction')), ''),
		jsonb_build_object('problems', x.problems, 'unseen', x.unseen, 'values', x.values)
	FROM seen x
$$;
COMMENT ON FUNCTION submeter.step_phases(int, bigint, jsonb, timestamptz, timestamptz) IS
'What voltages, signs of power and power factors of the latest reading tell of phases and CT direction; the electrician says the rest (phase_order on three phases, ct_direction where nothing flows): ok or wrong.';

CREATE FUNCTION submeter.step_own_trip(findings jsonb)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- A trip of the meter's own cannot be forbidden from here; it must be known, or its work would be taken for ours.
	SELECT CASE WHEN t.typed IS NULL THEN 'open' ELSE 'passed' END, CASE WHEN t.typed IS NULL THEN 'to_do_own_trip' WHEN lower(t.typed) IN ('off', 'none') THEN 'own_trip_off' ELSE 'own_trip_noted' END,
		NULL::text, t.typed, '{}'::jsonb
	FROM (SELECT nullif(btrim(step_own_trip.findings ->> 'own_trip'), '') AS typed) t
$$;
COMMENT ON FUNCTION submeter.step_own_trip(jsonb) IS 'The prepaid or overload trip of the meter itself: off, none, or what it is set to, in words.';

CREATE FUNCTION submeter.step_clock(site_id int, meter_id bigint, begun_at timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN o.clock_di IS NULL THEN 'passed' WHEN t.clock_at IS NULL OR t.clock_at < step_clock.begun_at - interval '1 day' THEN 'open'
			WHEN abs(t.clock_offset_s) <= 120 THEN 'passed' ELSE 'failed' END,
		CASE WHEN o.clock_di IS NULL THEN 'clock_none' WHEN t.clock_at IS NULL OR t.clock_at < step_clock.begun_at - interval '1 day' THEN 'to_do_clock' WHEN abs(t.clock_offset_s) <= 120 THEN 'clock_right' ELSE 'clock_wrong' END,
		CASE WHEN o.clock_di IS NOT NULL THEN '-120 … 120' END, CASE WHEN o.clock_di IS NOT NULL THEN t.clock_offset_s::text END,
		jsonb_build_object('clock_at', t.clock_at)
	FROM submeter.meter m
	JOIN submeter.meter_model o ON o.model = m.model
	LEFT JOIN submeter.meter_state t ON t.site_id = m.site_id AND t.meter_id = m.meter_id
	WHERE m.site_id = step_clock.site_id AND m.meter_id = step_clock.meter_id
$$;
COMMENT ON FUNCTION submeter.step_clock(int, bigint, timestamptz) IS 'The clock of the meter, read not longer than a day before the attempt began: within two minutes.';

CREATE FUNCTION submeter.reading_slots(site_id int, meter_id bigint, from_ts timestamptz, to_ts timestamptz) RETURNS TABLE(hour timestamptz, slots bigint, got bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- A slot is one poll interval. They lie around the readings, so that one that is a little early or late is in its own.
	WITH line AS (
		SELECT extract(epoch FROM g.poll_interval) AS step_s, extract(epoch FROM reading_slots.to_ts - reading_slots.from_ts) AS length_s
		FROM submeter.meter m
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
		WHERE m.site_id = reading_slots.site_id AND m.meter_id = reading_slots.meter_id
	), seen AS (
		SELECT extract(epoch FROM r.ts - reading_slots.from_ts) AS at_s, extract(epoch FROM min(r.ts) OVER () - reading_slots.from_ts) AS first_s
		FROM submeter.reading r
		WHERE r.site_id = reading_slots.site_id AND r.meter_id = reading_slots.meter_id AND r.ts >= reading_slots.from_ts AND r.ts < reading_slots.to_ts
			AND r.source = 'poll'
	)
	SELECT reading_slots.from_ts + interval '1 hour' * h.n, x.slots, least(x.slots, (
		SELECT count(DISTINCT floor((s.at_s - s.first_s) / l.step_s + 0.5)) FROM seen s WHERE s.at_s >= 3600 * h.n AND s.at_s < 3600 * (h.n + 1)))
	FROM line l
	CROSS JOIN LATERAL generate_series(0, ceil(l.length_s / 3600)::int - 1) h(n)
	CROSS JOIN LATERAL (
		SELECT (floor(least(3600 * (h.n + 1), l.length_s) / l.step_s) - floor(3600 * h.n / l.step_s))::bigint AS slots) x
	WHERE x.slots > 0
	ORDER BY h.n
$$;
COMMENT ON FUNCTION submeter.reading_slots(int, bigint, timestamptz, timestamptz) IS
'Per hour since a time, how often a meter was to be read and was: readings that came by backfill do not count. Nothing for a meter without a gateway.';

CREATE FUNCTION submeter.step_signal(site_id int, meter_id bigint, as_of timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN coalesce(n.slots, 0) < 10 THEN 'open' WHEN n.got >= 0.9 * n.slots THEN 'passed' ELSE 'failed' END,
		CASE WHEN coalesce(n.slots, 0) < 10 THEN 'to_do_signal' WHEN n.got >= 0.9 * n.slots THEN 'signal_good' ELSE 'signal_bad' END, '90 %', round(100.0 * n.got / nullif(n.slots, 0), 1)::text || ' %',
		jsonb_build_object('from', f.first_at, 'slots', n.slots, 'got', n.got)
	FROM (
		SELECT min(r.ts) AS first_at FROM submeter.reading r
		WHERE r.site_id = step_signal.site_id AND r.meter_id = step_signal.meter_id AND r.source = 'poll'
			AND r.ts > step_signal.as_of - interval '24 hours' AND r.ts <= step_signal.as_of) f
	CROSS JOIN LATERAL (
		SELECT sum(s.slots)::bigint AS slots, sum(s.got)::bigint AS got
		FROM submeter.reading_slots(step_signal.site_id, step_signal.meter_id, f.first_at, step_signal.as_of) s) n
$$;
COMMENT ON FUNCTION submeter.step_signal(int, bigint, timestamptz) IS
'How many of the readings of the last 24 hours, from the first one on, came: at least nine in ten of at least ten.';
