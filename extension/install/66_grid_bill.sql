-- Room: sharing. What the grid was paid, and what meters measured in a billing cycle.

CREATE FUNCTION submeter.divide(dividend numeric, divisor numeric, digits int) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Through integers: numeric division rounds by itself first, and rounding twice loses a cent now and then.
	SELECT round(sign(divide.dividend) * div(2 * abs(divide.dividend) * power(10::numeric, divide.digits) + divide.divisor, 2 * divide.divisor)
		* power(10::numeric, -divide.digits), divide.digits)
$$;
COMMENT ON FUNCTION submeter.divide(numeric, numeric, int) IS
'dividend / divisor (greater than zero), rounded once, half away from zero, to a number of digits.';

CREATE FUNCTION submeter.share_cycle(site_id int, cycle_start timestamptz, OUT cycle_end timestamptz, OUT from_day date, OUT to_day date)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place submeter.site;
	cycle record;
BEGIN
	IF share_cycle.cycle_start IS NULL OR NOT isfinite(share_cycle.cycle_start) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a billing cycle is needed',
			DETAIL = 'The argument cycle_start is NULL or infinite.', HINT = 'Pass the instant at which the cycle begins.';
	END IF;
	SELECT s.* INTO place FROM submeter.site s WHERE s.site_id = share_cycle.site_id;
	cycle := submeter.cycle_at(share_cycle.site_id, share_cycle.cycle_start);
	share_cycle.from_day := (cycle.cycle_start AT TIME ZONE place.time_zone)::date;
	IF cycle.cycle_start <> share_cycle.cycle_start THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'no billing cycle begins then',
			DETAIL = format('Cycles of site %s begin on day %s of the month at midnight in %s.', place.site_id, place.cycle_day, place.time_zone),
			HINT = format('The cycle in question begins at timestamp ''%s'' AT TIME ZONE ''%s''.', share_cycle.from_day, place.time_zone);
	END IF;
	share_cycle.cycle_end := cycle.cycle_end;
	share_cycle.to_day := (cycle.cycle_end AT TIME ZONE place.time_zone)::date;
END
$$;
COMMENT ON FUNCTION submeter.share_cycle(int, timestamptz) IS
'End of the billing cycle of a site that begins at an instant, and its local days [from_day, to_day); 22023 when none begins then.';

CREATE FUNCTION submeter.enter_grid_bill(site_id int, cycle_start timestamptz, kwh numeric, amount numeric, document_ref text,
	connection text DEFAULT 'main', components jsonb DEFAULT '{}', meter_ids bigint[] DEFAULT '{}', reason text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cycle record;
	known submeter.grid_bill;
	entered bigint;
BEGIN
	PERFORM submeter.authorize('enter_grid_bill', enter_grid_bill.site_id);
	cycle := submeter.share_cycle(enter_grid_bill.site_id, enter_grid_bill.cycle_start);
	PERFORM submeter.require_text('document_ref', enter_grid_bill.document_ref);
	PERFORM submeter.require_text('connection', enter_grid_bill.connection);
	PERFORM submeter.check_grid_figures(enter_grid_bill.kwh, enter_grid_bill.amount, enter_grid_bill.components);
	PERFORM submeter.require_meters(enter_grid_bill.site_id, 'meter_ids', enter_grid_bill.meter_ids, '{main}');
	-- Two clerks with one bill meet here.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = enter_grid_bill.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	SELECT b.* INTO known FROM submeter.grid_bill b
	WHERE b.site_id = enter_grid_bill.site_id AND b.connection = enter_grid_bill.connection AND b.cycle_start = enter_grid_bill.cycle_start
	ORDER BY b.revision DESC LIMIT 1;
	IF (known.energy_wh, known.amount, known.components, known.meter_ids, known.document_ref)
		= ((enter_grid_bill.kwh * 1000)::bigint, enter_grid_bill.amount, coalesce(enter_grid_bill.components, '{}'), coalesce(enter_grid_bill.meter_ids, '{}'), enter_grid_bill.document_ref)
	THEN
		RETURN known.grid_bill_id;
	END IF;
	IF known.grid_bill_id IS NOT NULL AND btrim(coalesce(enter_grid_bill.reason, '')) = '' THEN
		RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('the grid bill of connection %s for this cycle is entered already', enter_grid_bill.connection),
			DETAIL = format('Document %s: %s kWh, %s.', known.document_ref, round(known.energy_wh * 0.001, 3), known.amount),
			HINT = 'Pass a reason to correct it, or another connection.';
	END IF;
	PERFORM submeter.require_approval('enter_grid_bill', enter_grid_bill.site_id, jsonb_build_object('connection', enter_grid_bill.connection,
		'cycle', cycle.from_day, 'kwh', enter_grid_bill.kwh, 'amount', enter_grid_bill.amount));
	INSERT INTO submeter.grid_bill (site_id, connection, cycle_start, cycle_end, revision, energy_wh, amount, components, meter_ids, document_ref, reason, entered_by)
	VALUES (enter_grid_bill.site_id, enter_grid_bill.connection, enter_grid_bill.cycle_start, cycle.cycle_end, coalesce(known.revision + 1, 0),
		enter_grid_bill.kwh * 1000, enter_grid_bill.amount, coalesce(enter_grid_bill.components, '{}'), coalesce(enter_grid_bill.meter_ids, '{}'),
		enter_grid_bill.document_ref, enter_grid_bill.reason, (submeter.me()).login)
	RETURNING grid_bill_id INTO entered;
	RETURN entered;
END
$$;
COMMENT ON FUNCTION submeter.enter_grid_bill(int, timestamptz, numeric, numeric, text, text, jsonb, bigint[], text) IS
'Records what the grid billed for a billing cycle (kWh with at most 3 decimals, amount in the currency of the site) and returns its number; the same figures again return the same. Other figures need a reason and become a new revision (23505 without). Passes the approval hook with {connection, cycle, kwh, amount}.';

CREATE FUNCTION submeter.check_grid_figures(kwh numeric, amount numeric, components jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	listed numeric;
BEGIN
	IF check_grid_figures.kwh IS NULL OR check_grid_figures.kwh NOT BETWEEN 0 AND 1000000000000 OR scale(trim_scale(check_grid_figures.kwh)) > 3 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not the energy of a grid bill', coalesce(check_grid_figures.kwh::text, 'NULL')),
			DETAIL = 'It is a number of kWh, not negative, with at most 3 decimals.', HINT = 'Copy it from the bill.';
	END IF;
	IF check_grid_figures.amount IS NULL OR check_grid_figures.amount NOT BETWEEN 0 AND 999999999999 OR scale(trim_scale(check_grid_figures.amount)) > 2 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not the amount of a grid bill', coalesce(check_grid_figures.amount::text, 'NULL')),
			DETAIL = 'It is an amount of money, not negative, with at most 2 decimals.', HINT = 'Copy it from the bill.';
	END IF;
	IF coalesce(check_grid_figures.components, '{}') <> '{}' THEN
		IF jsonb_typeof(check_grid_figures.components) <> 'object' OR EXISTS (
			SELECT FROM jsonb_each(check_grid_figures.components) c WHERE jsonb_typeof(c.value) <> 'number')
		THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'components of a grid bill are names with an amount each',
				HINT = 'Write {"energy": 700.00, "funds": 27.30}.';
		END IF;
		SELECT sum(c.value::numeric) INTO listed FROM jsonb_each_text(check_grid_figures.components) c;
		IF listed <> check_grid_figures.amount THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'components of the grid bill do not add up to its amount',
				DETAIL = format('They add up to %s, the amount is %s.', listed, check_grid_figures.amount), HINT = 'Compare with the bill; leave components out if in doubt.';
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_grid_figures(numeric, numeric, jsonb) IS 'Refuses (22023) energy, amount or components that cannot be those of a grid bill.';

CREATE FUNCTION submeter.require_meters(site_id int, argument text, meter_ids bigint[], roles text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad record;
BEGIN
	SELECT w.meter_id, m.code, m.role INTO bad FROM unnest(require_meters.meter_ids) w(meter_id)
	LEFT JOIN submeter.meter m ON m.site_id = require_meters.site_id AND m.meter_id = w.meter_id
	WHERE m.meter_id IS NULL OR m.role <> ALL (require_meters.roles) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN bad.code IS NULL THEN 'P0002' ELSE '22023' END,
			MESSAGE = CASE WHEN bad.code IS NULL THEN format('site %s has no meter %s', require_meters.site_id, coalesce(bad.meter_id::text, 'NULL'))
				ELSE format('meter %s cannot be one of %s', bad.code, require_meters.argument) END,
			DETAIL = CASE WHEN bad.code IS NULL THEN format('It is named in %s.', require_meters.argument)
				ELSE format('Its role is %s, wanted: %s.', bad.role, array_to_string(require_meters.roles, ', ')) END,
			HINT = 'SELECT meter_id, code, role FROM submeter.meter lists the meters.';
	END IF;
	IF (SELECT count(*) > count(DISTINCT w) FROM unnest(require_meters.meter_ids) w) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s names a meter twice', require_meters.argument), HINT = 'Name each meter once.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_meters(int, text, bigint[], text[]) IS
'Refuses unknown meters (P0002), meters of another role and meters named twice (22023).';

CREATE FUNCTION submeter.grid_bill_of(site_id int, connection text, cycle_start timestamptz)
RETURNS TABLE (grid_bill_id bigint, revision int, energy_wh bigint, amount numeric, meter_ids bigint[], document_ref text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT b.grid_bill_id, b.revision, b.energy_wh, b.amount, b.meter_ids, b.document_ref
	FROM submeter.grid_bill b
	WHERE b.site_id = grid_bill_of.site_id AND b.connection = grid_bill_of.connection AND b.cycle_start = grid_bill_of.cycle_start
	ORDER BY b.revision DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.grid_bill_of(int, text, timestamptz) IS 'The grid bill of a connection for a billing cycle as last corrected; no row when there is none.';

CREATE FUNCTION submeter.meter_links(site_id int, as_of timestamptz) RETURNS TABLE (meter_id bigint, parent_meter_id bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT ON (e.meter_id) e.meter_id, e.parent_meter_id
	FROM submeter.meter_setup e
	WHERE e.site_id = meter_links.site_id AND e.valid_from < meter_links.as_of
	ORDER BY e.meter_id, e.valid_from DESC, e.entered_at DESC
$$;
COMMENT ON FUNCTION submeter.meter_links(int, timestamptz) IS 'Which meter is below which, by the last setup before an instant.';

CREATE FUNCTION submeter.meters_below(site_id int, main_ids bigint[], as_of timestamptz) RETURNS SETOF bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE link AS MATERIALIZED (
		SELECT * FROM submeter.meter_links(meters_below.site_id, meters_below.as_of)
	), below AS (
		SELECT l.meter_id FROM link l WHERE l.parent_meter_id = ANY (meters_below.main_ids)
		UNION
		SELECT l.meter_id FROM link l JOIN below b ON l.parent_meter_id = b.meter_id
	)
	SELECT b.meter_id FROM below b
$$;
COMMENT ON FUNCTION submeter.meters_below(int, bigint[], timestamptz) IS 'All meters below some meters, at any depth.';

CREATE FUNCTION submeter.submeters(site_id int, main_ids bigint[], cycle_start timestamptz, cycle_end timestamptz) RETURNS SETOF bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.meter_id FROM submeter.meter m
	WHERE m.site_id = submeters.site_id AND m.role <> 'main' AND (m.retired_at IS NULL OR m.retired_at > submeters.cycle_start)
		AND (cardinality(submeters.main_ids) = 0
			OR m.meter_id IN (SELECT submeter.meters_below(submeters.site_id, submeters.main_ids, submeters.cycle_end)))
		-- What a meter in between measured is measured again by the meters below it.
		AND m.meter_id NOT IN (SELECT l.parent_meter_id FROM submeter.meter_links(submeters.site_id, submeters.cycle_end) l WHERE l.parent_meter_id IS NOT NULL)
$$;
COMMENT ON FUNCTION submeter.submeters(int, bigint[], timestamptz, timestamptz) IS
'The last meters below some main meters in a cycle, tenants'', public and own alike; all of the site when none is named.';

CREATE FUNCTION submeter.meter_energy(site_id int, meter_id bigint, time_zone text, from_ts timestamptz, to_ts timestamptz) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(CASE WHEN d.from_ts >= meter_energy.from_ts AND d.to_ts <= meter_energy.to_ts THEN u.energy_wh ELSE (
		-- Within the hour of an edge by time; both sides are differences of one rounded number, so nothing is lost between them.
		SELECT sum(round(h.wh * least(greatest(extract(epoch FROM meter_energy.to_ts - d.from_ts) - 3600 * (h.nth - 1), 0), 3600) / 3600)
			- round(h.wh * least(greatest(extract(epoch FROM meter_energy.from_ts - d.from_ts) - 3600 * (h.nth - 1), 0), 3600) / 3600))
		FROM unnest(u.hour_wh) WITH ORDINALITY h(wh, nth)) END), 0)
	FROM submeter.usage_day u
	CROSS JOIN LATERAL (SELECT u.day::timestamp AT TIME ZONE meter_energy.time_zone AS from_ts,
		(u.day + 1)::timestamp AT TIME ZONE meter_energy.time_zone AS to_ts) d
	WHERE u.site_id = meter_energy.site_id AND u.meter_id = meter_energy.meter_id
		AND u.day BETWEEN (meter_energy.from_ts AT TIME ZONE meter_energy.time_zone)::date AND (meter_energy.to_ts AT TIME ZONE meter_energy.time_zone)::date
$$;
COMMENT ON FUNCTION submeter.meter_energy(int, bigint, text, timestamptz, timestamptz) IS
'Energy (Wh) a meter measured between two instants, from usage_day; inside an hour in proportion to time.';

CREATE FUNCTION submeter.meter_registers(site_id int, meter_id bigint, time_zone text, from_ts timestamptz, to_ts timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH side AS MATERIALIZED (
		SELECT e.name, submeter.valid_before(meter_registers.site_id, meter_registers.meter_id, e.ts + interval '1 microsecond') AS ts
		FROM (VALUES ('from', meter_registers.from_ts), ('to', meter_registers.to_ts)) e(name, ts)
	)
	SELECT jsonb_object_agg(e.name, jsonb_build_object('at', to_char(e.ts AT TIME ZONE meter_registers.time_zone, 'YYYY-MM-DD HH24:MI:SS'), 'register_wh', coalesce((
			SELECT v.energy_wh FROM submeter.reading_verdict v
			WHERE v.site_id = meter_registers.site_id AND v.meter_id = meter_registers.meter_id AND v.ts = e.ts ORDER BY v.verdict_id DESC LIMIT 1), (
			SELECT r.energy_wh FROM submeter.reading r
			WHERE r.site_id = meter_registers.site_id AND r.meter_id = meter_registers.meter_id AND r.ts = e.ts))))
	FROM side e WHERE e.ts IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.meter_registers(int, bigint, text, timestamptz, timestamptz) IS
'The last valid readings of a meter at or before two instants, local time and register before the multiplier.';
