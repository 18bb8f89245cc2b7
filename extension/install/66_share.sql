-- Room: sharing. Common energy, losses and whole grid bills over tenants, from frozen inputs, with a derivation each.
-- Inputs are gathered once (share_inputs) and kept with the run; what each account bears is a pure function of them
-- (share_split), so that anybody can derive it again years later. Compiling these queries would take a hundred times as
-- long as running them, so it is off.

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

CREATE FUNCTION submeter.apportion(total numeric, weights numeric[]) RETURNS numeric[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whole numeric := (SELECT coalesce(sum(w), 0) FROM unnest(apportion.weights) w);
BEGIN
	IF apportion.total IS NULL OR apportion.total <> trunc(apportion.total) OR apportion.weights IS NULL OR 'Infinity' IN (abs(apportion.total), whole) OR whole = 'NaN'
		OR EXISTS (SELECT FROM unnest(apportion.weights) w WHERE w < 0 OR w IS NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'only a whole number is apportioned, by weights that are not negative',
			DETAIL = format('Total %s, %s weights.', coalesce(apportion.total::text, 'NULL'), coalesce(cardinality(apportion.weights), 0)),
			HINT = 'Pass money in its smallest unit.';
	END IF;
	IF whole = 0 THEN
		IF apportion.total <> 0 THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'nobody has a weight to be apportioned by',
				DETAIL = format('%s is to be shared and all weights are zero.', apportion.total),
				HINT = 'Choose another method, or say who the members are.';
		END IF;
		RETURN array_fill(0::numeric, ARRAY[cardinality(apportion.weights)]);
	END IF;
	RETURN (
		WITH part AS (
			SELECT u.nth, div(abs(apportion.total) * u.weight, whole) AS base,
				row_number() OVER (ORDER BY mod(abs(apportion.total) * u.weight, whole) DESC, u.nth) AS place
			FROM unnest(apportion.weights) WITH ORDINALITY u(weight, nth)
		), left_over AS (
			SELECT abs(apportion.total) - sum(p.base) AS units FROM part p
		)
		SELECT array_agg(sign(apportion.total) * (p.base + CASE WHEN p.place <= o.units THEN 1 ELSE 0 END) ORDER BY p.nth)
		FROM part p CROSS JOIN left_over o);
END
$$;
COMMENT ON FUNCTION submeter.apportion(numeric, numeric[]) IS
'Divides a whole number in proportion to weights: the parts are whole and add up; what rounding down leaves over goes to the largest remainders, the first of equals first.';

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

CREATE FUNCTION submeter.share_pool_check() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.method IN ('gd_all_metered', 'gd_landlord_unmetered') AND NEW.source <> 'bill' THEN
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = format('method %s settles a grid bill', NEW.method),
			DETAIL = format('The source of pool %s is %s.', NEW.code, NEW.source), HINT = 'Set source to bill.';
	END IF;
	PERFORM submeter.require_meters(NEW.site_id, 'meter_ids', NEW.meter_ids, CASE WHEN NEW.source = 'loss' THEN '{main}'::text[] ELSE '{public}' END);
	PERFORM submeter.require_meters(NEW.site_id, 'other_meter_ids', NEW.other_meter_ids, '{supply,public,own}');
	IF TG_OP = 'UPDATE' AND NEW.code <> OLD.code AND EXISTS (
		SELECT FROM submeter.share_run r WHERE r.site_id = OLD.site_id AND r.pool_id = OLD.pool_id)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s keeps its code', OLD.code),
			DETAIL = 'Bills name it.', HINT = 'Change its name, or make a new pool.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.share_pool_check() IS 'Refuses pools whose meters do not exist or have the wrong role; the manager''s own meters are never a source.';

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
AS $$
	SELECT jsonb_object_agg(e.side, jsonb_build_object('at', to_char(r.ts AT TIME ZONE meter_registers.time_zone, 'YYYY-MM-DD HH24:MI:SS'), 'register_wh', coalesce(v.energy_wh, r.energy_wh)))
	FROM (VALUES ('from', meter_registers.from_ts), ('to', meter_registers.to_ts)) e(side, ts)
	JOIN submeter.reading r ON r.site_id = meter_registers.site_id AND r.meter_id = meter_registers.meter_id
		AND r.ts = submeter.valid_before(meter_registers.site_id, meter_registers.meter_id, e.ts + interval '1 microsecond')
	LEFT JOIN LATERAL (
		SELECT x.energy_wh FROM submeter.reading_verdict x
		WHERE x.site_id = r.site_id AND x.meter_id = r.meter_id AND x.ts = r.ts ORDER BY x.verdict_id DESC LIMIT 1) v ON true
$$;
COMMENT ON FUNCTION submeter.meter_registers(int, bigint, text, timestamptz, timestamptz) IS
'The last valid readings of a meter at or before two instants, local time and register before the multiplier.';

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

CREATE FUNCTION submeter.share_stretches(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (account_id bigint, meter_id bigint, unit_id bigint, during tstzrange)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH pool AS MATERIALIZED (
		SELECT p.members, p.source, p.other_meter_ids, s.time_zone, b.meter_ids AS main_ids
		FROM submeter.share_pool p
		JOIN submeter.site s ON s.site_id = p.site_id
		LEFT JOIN LATERAL submeter.grid_bill_of(p.site_id, p.connection, share_stretches.cycle_start) b ON true
		WHERE p.site_id = share_stretches.site_id AND p.pool_id = share_stretches.pool_id
	), fed AS MATERIALIZED (
		SELECT y.account_id, y.meter_id, e.unit_id, n.building_id, y.during * tstzrange(share_stretches.cycle_start, share_stretches.cycle_end) AS during
		FROM submeter.supply y
		LEFT JOIN LATERAL (
			SELECT x.unit_id FROM submeter.meter_setup x
			WHERE x.site_id = y.site_id AND x.meter_id = y.meter_id AND x.valid_from <= greatest(lower(y.during), share_stretches.cycle_start)
			ORDER BY x.valid_from DESC, x.entered_at DESC LIMIT 1) e ON true
		LEFT JOIN submeter.unit n ON n.site_id = y.site_id AND n.unit_id = e.unit_id
		WHERE y.site_id = share_stretches.site_id AND y.during && tstzrange(share_stretches.cycle_start, share_stretches.cycle_end)
	)
	SELECT f.account_id, f.meter_id, f.unit_id, part.during
	FROM fed f
	CROSS JOIN pool p
	CROSS JOIN LATERAL unnest(CASE WHEN p.members = 'all' THEN tstzmultirange(f.during) ELSE (
		SELECT range_agg(f.during * tstzrange(lower(m.during)::timestamp AT TIME ZONE p.time_zone, upper(m.during)::timestamp AT TIME ZONE p.time_zone))
		FROM submeter.share_member m
		WHERE m.site_id = share_stretches.site_id AND m.pool_id = share_stretches.pool_id
			AND (m.account_id = f.account_id OR m.unit_id = f.unit_id OR m.building_id = f.building_id)) END) part(during)
	WHERE f.meter_id <> ALL (p.other_meter_ids)
		AND (p.source <> 'bill' OR cardinality(coalesce(p.main_ids, '{}')) = 0 OR f.meter_id IN (
			SELECT submeter.submeters(share_stretches.site_id, p.main_ids, share_stretches.cycle_start, share_stretches.cycle_end)))
$$;
COMMENT ON FUNCTION submeter.share_stretches(int, bigint, timestamptz, timestamptz) IS
'From when to when which account was a member of a pool in a cycle, by which meter and in which unit (the one it fed at the start).';


CREATE FUNCTION submeter.share_weights(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (account_id bigint, weight numeric, parts jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	by_what text;
	zone text;
BEGIN
	SELECT p.method, s.time_zone INTO by_what, zone
	FROM submeter.share_pool p JOIN submeter.site s ON s.site_id = p.site_id
	WHERE p.site_id = share_weights.site_id AND p.pool_id = share_weights.pool_id;
	IF by_what IN ('area', 'heads') THEN
		RETURN QUERY SELECT * FROM submeter.share_unit_weights(share_weights.site_id, share_weights.pool_id, share_weights.cycle_start, share_weights.cycle_end);
	ELSIF by_what = 'equal' THEN
		RETURN QUERY
		SELECT s.account_id, submeter.seconds_of(range_agg(s.during)), submeter.parts_of(range_agg(s.during), zone)
		FROM submeter.share_stretches(share_weights.site_id, share_weights.pool_id, share_weights.cycle_start, share_weights.cycle_end) s
		GROUP BY s.account_id;
	ELSE
		RETURN QUERY
		WITH part AS MATERIALIZED (
			SELECT s.account_id, s.meter_id, submeter.parts_of(range_agg(s.during), zone) AS parts, sum(submeter.seconds_of(tstzmultirange(s.during))) AS seconds,
				sum(greatest(submeter.meter_energy(share_weights.site_id, s.meter_id, zone, lower(s.during), upper(s.during)), 0)) AS wh
			FROM submeter.share_stretches(share_weights.site_id, share_weights.pool_id, share_weights.cycle_start, share_weights.cycle_end) s
			GROUP BY s.account_id, s.meter_id
		), fed AS (
			SELECT y.account_id, sum(submeter.seconds_of(tstzmultirange(y.during * tstzrange(share_weights.cycle_start, share_weights.cycle_end)))) AS seconds
			FROM submeter.supply y
			WHERE y.site_id = share_weights.site_id AND y.during && tstzrange(share_weights.cycle_start, share_weights.cycle_end)
			GROUP BY y.account_id
		), charged AS (
			SELECT c.account_id, sum(c.energy_wh) AS wh FROM submeter.charge c
			WHERE c.site_id = share_weights.site_id AND c.cycle_start = share_weights.cycle_start GROUP BY c.account_id
		)
		-- A member with all it has weighs what its charges say, to the Wh; else what its meters used meanwhile.
		SELECT p.account_id, CASE WHEN sum(p.seconds) = min(f.seconds) THEN coalesce(min(c.wh), 0) ELSE sum(p.wh) END,
			jsonb_agg(jsonb_build_object('meter', m.code, 'during', p.parts, 'wh', p.wh) ORDER BY m.code)
		FROM part p
		JOIN submeter.meter m ON m.site_id = share_weights.site_id AND m.meter_id = p.meter_id
		JOIN fed f ON f.account_id = p.account_id
		LEFT JOIN charged c ON c.account_id = p.account_id
		GROUP BY p.account_id;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.share_weights(int, bigint, timestamptz, timestamptz) IS
'Weight of each member of a pool in a cycle, and what it is made of: Wh, or square metres, heads or 1 times the seconds it was a member. A row without an account is what empty units weigh.';

CREATE FUNCTION submeter.seconds_of(during tstzmultirange) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT trim_scale(coalesce(sum(extract(epoch FROM upper(r) - lower(r))), 0)) FROM unnest(seconds_of.during) r
$$;
COMMENT ON FUNCTION submeter.seconds_of(tstzmultirange) IS 'Length of ranges of time in seconds.';

CREATE FUNCTION submeter.parts_of(during tstzmultirange, time_zone text) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_agg(jsonb_build_array(to_char(lower(r) AT TIME ZONE parts_of.time_zone, 'YYYY-MM-DD HH24:MI:SS'),
		to_char(upper(r) AT TIME ZONE parts_of.time_zone, 'YYYY-MM-DD HH24:MI:SS')) ORDER BY r)
	FROM unnest(parts_of.during) r
$$;
COMMENT ON FUNCTION submeter.parts_of(tstzmultirange, text) IS 'Ranges of time as pairs of local times: the same text whatever the session''s time zone.';

CREATE FUNCTION submeter.share_unit_weights(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (account_id bigint, weight numeric, parts jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	pool submeter.share_pool;
	zone text;
	bad text;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_unit_weights.site_id AND p.pool_id = share_unit_weights.pool_id;
	SELECT s.time_zone INTO zone FROM submeter.site s WHERE s.site_id = share_unit_weights.site_id;
	SELECT string_agg(DISTINCT a.code, ', ' ORDER BY a.code) INTO bad
	FROM submeter.share_stretches(share_unit_weights.site_id, share_unit_weights.pool_id, share_unit_weights.cycle_start, share_unit_weights.cycle_end) s
	JOIN submeter.account a ON a.site_id = share_unit_weights.site_id AND a.account_id = s.account_id
	LEFT JOIN submeter.unit n ON n.site_id = a.site_id AND n.unit_id = s.unit_id
	WHERE CASE pool.method WHEN 'area' THEN n.area_m2 ELSE n.heads END IS NULL;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s is shared by %s, which is not known of every member', pool.code, pool.method),
			DETAIL = format('Accounts: %s.', bad), HINT = 'Name the unit in the setup of their meters, and its area_m2 or heads in unit.';
	END IF;
	RETURN QUERY
	WITH stay AS MATERIALIZED (
		SELECT s.account_id, s.unit_id, range_agg(s.during) AS during
		FROM submeter.share_stretches(share_unit_weights.site_id, share_unit_weights.pool_id, share_unit_weights.cycle_start, share_unit_weights.cycle_end) s
		GROUP BY s.account_id, s.unit_id
	), place AS MATERIALIZED (
		-- When each unit is in the pool at all, whoever is in it.
		SELECT n.unit_id, n.code, CASE pool.method WHEN 'area' THEN n.area_m2 ELSE n.heads END AS measure,
			CASE WHEN pool.members = 'all' THEN tstzmultirange(tstzrange(share_unit_weights.cycle_start, share_unit_weights.cycle_end)) ELSE (
				SELECT range_agg(tstzrange(share_unit_weights.cycle_start, share_unit_weights.cycle_end)
					* tstzrange(lower(m.during)::timestamp AT TIME ZONE zone, upper(m.during)::timestamp AT TIME ZONE zone))
				FROM submeter.share_member m
				WHERE m.site_id = n.site_id AND m.pool_id = pool.pool_id AND (m.unit_id = n.unit_id OR m.building_id = n.building_id)) END AS member
		FROM submeter.unit n WHERE n.site_id = share_unit_weights.site_id
	), empty AS (
		SELECT p.code, p.measure, p.member - coalesce((SELECT range_agg(r) FROM stay s CROSS JOIN unnest(s.during) r WHERE s.unit_id = p.unit_id), '{}'::tstzmultirange) AS during
		FROM place p WHERE pool.vacancy = 'landlord' AND p.member IS NOT NULL AND p.measure > 0
	), part AS (
		SELECT s.account_id, p.code, p.measure, s.during FROM stay s JOIN place p ON p.unit_id = s.unit_id
		UNION ALL
		SELECT NULL, e.code, e.measure, e.during FROM empty e WHERE NOT isempty(e.during)
	)
	SELECT x.account_id, sum(x.measure * submeter.seconds_of(x.during)),
		jsonb_agg(jsonb_build_object('unit', x.code, pool.method, x.measure, 'during', submeter.parts_of(x.during, zone)) ORDER BY x.code)
	FROM part x GROUP BY x.account_id;
END
$$;
COMMENT ON FUNCTION submeter.share_unit_weights(int, bigint, timestamptz, timestamptz) IS
'share_weights() for area and heads; 55000 when a member''s unit or its measure is not known.';

CREATE FUNCTION submeter.share_source(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	zone text;
	outcome jsonb;
	measured numeric;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_source.site_id AND p.pool_id = share_source.pool_id;
	SELECT s.time_zone INTO zone FROM submeter.site s WHERE s.site_id = share_source.site_id;
	IF pool.source = 'energy' THEN
		RETURN jsonb_build_object('energy_wh', (pool.fixed_kwh * 1000)::bigint);
	ELSIF pool.source IN ('amount', 'bill') THEN
		RETURN jsonb_build_object('energy_wh', 0);
	END IF;
	PERFORM submeter.share_source_check(share_source.site_id, share_source.pool_id, share_source.cycle_start, share_source.cycle_end);
	SELECT sum(x.wh * x.side), jsonb_build_object('meters', jsonb_agg(jsonb_build_object('meter', x.code, 'side', x.side, 'wh', x.wh,
			'readings', submeter.meter_registers(share_source.site_id, x.meter_id, zone, share_source.cycle_start, share_source.cycle_end)) ORDER BY x.side DESC, x.code))
	INTO measured, outcome
	FROM (
		SELECT s.meter_id, s.code, s.side, submeter.meter_energy(share_source.site_id, s.meter_id, zone, share_source.cycle_start, share_source.cycle_end) AS wh
		FROM submeter.share_source_meters(share_source.site_id, share_source.pool_id, share_source.cycle_start, share_source.cycle_end) s) x;
	-- Meters are not exact: where those below measure more than the main meter there is no loss, and nothing to share.
	RETURN outcome || jsonb_build_object('measured_wh', measured, 'own_wh', (pool.own_kwh * 1000)::bigint,
		'energy_wh', greatest(measured - pool.own_kwh * 1000, 0)::bigint);
END
$$;
COMMENT ON FUNCTION submeter.share_source(int, bigint, timestamptz, timestamptz) IS
'Energy a pool shares out in a cycle and the meters and readings it follows from; own_wh, the manager''s own use, is taken off.';

CREATE FUNCTION submeter.share_source_meters(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (meter_id bigint, code text, side int)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH pool AS (
		SELECT p.source, p.meter_ids FROM submeter.share_pool p
		WHERE p.site_id = share_source_meters.site_id AND p.pool_id = share_source_meters.pool_id
	), link AS MATERIALIZED (
		SELECT * FROM submeter.meter_links(share_source_meters.site_id, share_source_meters.cycle_end)
	), chosen AS (
		SELECT m.meter_id, m.code, p.source FROM submeter.meter m CROSS JOIN pool p
		WHERE m.site_id = share_source_meters.site_id AND (m.retired_at IS NULL OR m.retired_at > share_source_meters.cycle_start)
			AND CASE WHEN cardinality(p.meter_ids) > 0 THEN m.meter_id = ANY (p.meter_ids)
				WHEN p.source = 'loss' THEN m.role = 'main' AND m.meter_id IN (SELECT l.parent_meter_id FROM link l)
				ELSE m.role = 'public' END
	)
	SELECT c.meter_id, c.code, 1 FROM chosen c
	UNION ALL
	SELECT m.meter_id, m.code, -1 FROM chosen c
	JOIN link l ON l.parent_meter_id = c.meter_id
	JOIN submeter.meter m ON m.site_id = share_source_meters.site_id AND m.meter_id = l.meter_id
		AND (m.retired_at IS NULL OR m.retired_at > share_source_meters.cycle_start)
	WHERE c.source = 'loss'
$$;
COMMENT ON FUNCTION submeter.share_source_meters(int, bigint, timestamptz, timestamptz) IS
'The meters a pool''s energy follows from; side -1: taken off, being below a main meter.';

CREATE FUNCTION submeter.share_source_check(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	bad record;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_source_check.site_id AND p.pool_id = share_source_check.pool_id;
	IF NOT EXISTS (
		SELECT FROM submeter.share_source_meters(share_source_check.site_id, share_source_check.pool_id, share_source_check.cycle_start, share_source_check.cycle_end) s
		WHERE s.side = CASE pool.source WHEN 'loss' THEN -1 ELSE 1 END)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s has no meters to take its energy from', pool.code),
			DETAIL = CASE pool.source WHEN 'loss' THEN 'There is no main meter with meters below it.' ELSE 'There is no meter whose role is public.' END,
			HINT = 'Set the role of the meters, parent_meter_id in their setup, or meter_ids of the pool.';
	END IF;
	SELECT m.code, m.role, a.code AS account INTO bad
	FROM submeter.share_source_meters(share_source_check.site_id, share_source_check.pool_id, share_source_check.cycle_start, share_source_check.cycle_end) s
	JOIN submeter.meter m ON m.site_id = share_source_check.site_id AND m.meter_id = s.meter_id
	LEFT JOIN submeter.supply y ON y.site_id = m.site_id AND y.meter_id = m.meter_id
		AND y.during && tstzrange(share_source_check.cycle_start, share_source_check.cycle_end)
	LEFT JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
	WHERE s.side = 1 AND (a.code IS NOT NULL OR m.role <> CASE pool.source WHEN 'loss' THEN 'main' ELSE 'public' END)
	ORDER BY m.code LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('energy of meter %s is not to be shared out', bad.code),
			DETAIL = CASE WHEN bad.account IS NOT NULL THEN format('It feeds account %s in this cycle, which pays for it.', bad.account)
				WHEN bad.role = 'own' THEN 'It measures the manager''s own use.' ELSE format('Its role is %s.', bad.role) END,
			HINT = 'Take it out of the pool.';
	END IF;
	-- What one of two meters in a row measured is in the other as well.
	SELECT m.code INTO bad
	FROM submeter.share_source_meters(share_source_check.site_id, share_source_check.pool_id, share_source_check.cycle_start, share_source_check.cycle_end) s
	JOIN submeter.meter m ON m.site_id = share_source_check.site_id AND m.meter_id = s.meter_id
	WHERE pool.source = 'meters' AND EXISTS (
		SELECT FROM submeter.share_source_meters(share_source_check.site_id, share_source_check.pool_id, share_source_check.cycle_start, share_source_check.cycle_end) o
		WHERE o.meter_id <> s.meter_id
			AND s.meter_id IN (SELECT submeter.meters_below(share_source_check.site_id, ARRAY[o.meter_id], share_source_check.cycle_end)))
	ORDER BY m.code LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('energy of meter %s would be counted twice', bad.code),
			DETAIL = 'It is below another meter of the pool.', HINT = 'Name one of the two in meter_ids.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.share_source_check(int, bigint, timestamptz, timestamptz) IS
'Refuses (55000) pools without a source, with meters that somebody pays for or that are the manager''s own, and with one meter below another.';

CREATE FUNCTION submeter.share_price(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, source jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	grid record;
	wh numeric := (share_price.source ->> 'energy_wh')::numeric;
	-- Of a quantity nobody measured there are no hours to price.
	priced_wh numeric := coalesce((share_price.source ->> 'measured_wh')::numeric, wh);
	money numeric;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_price.site_id AND p.pool_id = share_price.pool_id;
	IF pool.source = 'amount' THEN
		RETURN jsonb_build_object('amount', pool.fixed_amount);
	ELSIF pool.price_from = 'fixed' THEN
		RETURN jsonb_build_object('price', pool.price, 'amount', submeter.divide(wh * pool.price, 1000, 2));
	ELSIF pool.price_from = 'tariff' THEN
		money := CASE WHEN priced_wh = 0 THEN 0 ELSE submeter.divide(wh * submeter.share_tariff_amount(share_price.site_id, share_price.pool_id,
			share_price.cycle_start, share_price.cycle_end), priced_wh, 2) END;
		RETURN jsonb_build_object('tariff', (SELECT t.code FROM submeter.tariff t WHERE t.site_id = pool.site_id AND t.tariff_id = pool.tariff_id), 'amount', money);
	END IF;
	SELECT b.* INTO grid FROM submeter.grid_bill_of(share_price.site_id, pool.connection, share_price.cycle_start) b;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the grid bill of connection %s for this cycle is not entered', pool.connection),
			DETAIL = format('Pool %s is priced by it.', pool.code), HINT = 'Enter it with enter_grid_bill().';
	END IF;
	IF grid.energy_wh = 0 AND (wh > 0 OR pool.source = 'bill') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('grid bill %s has an amount and no energy', grid.document_ref),
			DETAIL = 'There is no average price per kWh.', HINT = 'Correct it with enter_grid_bill() and a reason.';
	END IF;
	money := CASE WHEN pool.source = 'bill' THEN grid.amount WHEN wh = 0 THEN 0 ELSE submeter.divide(wh * grid.amount, grid.energy_wh, 2) END;
	RETURN jsonb_build_object('grid_bill_id', grid.grid_bill_id, 'revision', grid.revision, 'document', grid.document_ref, 'grid_wh', grid.energy_wh,
		'grid_amount', grid.amount, 'price', CASE WHEN grid.energy_wh > 0 THEN submeter.divide(grid.amount * 1000, grid.energy_wh, 8) END, 'amount', money);
END
$$;
COMMENT ON FUNCTION submeter.share_price(int, bigint, timestamptz, timestamptz, jsonb) IS
'What the energy of a pool costs in a cycle and where the price comes from; of a settled bill, the bill. 55000 when the grid bill is missing.';

CREATE FUNCTION submeter.share_tariff_amount(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz) RETURNS numeric
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	zone text;
	part record;
	used record;
	so_far numeric := 0;
	total numeric := 0;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_tariff_amount.site_id AND p.pool_id = share_tariff_amount.pool_id;
	SELECT s.time_zone INTO zone FROM submeter.site s WHERE s.site_id = share_tariff_amount.site_id;
	FOR part IN
		SELECT * FROM submeter.share_tariff_parts(pool.site_id, pool.tariff_id, share_tariff_amount.cycle_start, share_tariff_amount.cycle_end) x ORDER BY x.from_ts
	LOOP
		IF part.definition IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the tariff of pool %s has no version at the start of the cycle', pool.code),
				HINT = 'Add one with create_tariff().';
		END IF;
		SELECT * INTO used FROM submeter.share_hours(pool.site_id, pool.pool_id, zone, share_tariff_amount.cycle_start, share_tariff_amount.cycle_end, part.from_ts, part.to_ts);
		total := total + (SELECT sum(q.amount) FROM submeter.quote(part.definition, used.bounds, used.kwh, zone,
			submeter.share_calendar(pool.site_id, share_tariff_amount.cycle_start, share_tariff_amount.cycle_end), so_far, part.terms) q);
		so_far := so_far + (SELECT sum(k) FROM unnest(used.kwh) k);
	END LOOP;
	RETURN total;
END
$$;
COMMENT ON FUNCTION submeter.share_tariff_amount(int, bigint, timestamptz, timestamptz) IS
'What the tariff of a pool makes of the hours of its meters, or of a fixed quantity used evenly: each version and named price for its time, tiers going on from one to the next. 55000 when there is no version.';

CREATE FUNCTION submeter.share_tariff_parts(site_id int, tariff_id bigint, cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (from_ts timestamptz, to_ts timestamptz, definition jsonb, terms jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH cut AS (
		SELECT share_tariff_parts.cycle_start AS at
		UNION SELECT v.valid_from FROM submeter.tariff_version v WHERE v.site_id = share_tariff_parts.site_id AND v.tariff_id = share_tariff_parts.tariff_id
		UNION SELECT i.valid_from FROM submeter.price_item i WHERE i.site_id = share_tariff_parts.site_id
	)
	SELECT c.at, lead(c.at, 1, share_tariff_parts.cycle_end) OVER (ORDER BY c.at), (
			SELECT v.definition FROM submeter.tariff_version v
			WHERE v.site_id = share_tariff_parts.site_id AND v.tariff_id = share_tariff_parts.tariff_id AND v.valid_from <= c.at
			ORDER BY v.valid_from DESC, v.revision DESC LIMIT 1), (
			SELECT jsonb_build_object('prices', jsonb_object_agg(n.name, n.price))
			FROM (
				SELECT DISTINCT ON (i.name) i.name, i.price FROM submeter.price_item i
				WHERE i.site_id = share_tariff_parts.site_id AND i.valid_from <= c.at
				ORDER BY i.name, i.valid_from DESC, i.revision DESC) n
			HAVING count(*) > 0)
	FROM cut c
	WHERE c.at >= share_tariff_parts.cycle_start AND c.at < share_tariff_parts.cycle_end
$$;
COMMENT ON FUNCTION submeter.share_tariff_parts(int, bigint, timestamptz, timestamptz) IS
'The stretches of a cycle in which one version of a tariff and the same named prices are in force, as quote() takes them.';

CREATE FUNCTION submeter.share_hours(site_id int, pool_id bigint, time_zone text, cycle_start timestamptz, cycle_end timestamptz,
	from_ts timestamptz, to_ts timestamptz, OUT bounds timestamptz[], OUT kwh numeric[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT array_agg(h.at ORDER BY h.at) || share_hours.to_ts, array_agg(h.kwh ORDER BY h.at)
	INTO share_hours.bounds, share_hours.kwh
	FROM (
		SELECT g.at, sum(submeter.meter_energy(p.site_id, m.meter_id, share_hours.time_zone, g.at, least(g.at + interval '1 hour', share_hours.to_ts))) / 1000 AS kwh
		FROM submeter.share_pool p
		CROSS JOIN LATERAL submeter.share_source_meters(p.site_id, p.pool_id, share_hours.cycle_start, share_hours.cycle_end) m
		CROSS JOIN generate_series(share_hours.from_ts, share_hours.to_ts - interval '1 microsecond', interval '1 hour') g(at)
		WHERE p.site_id = share_hours.site_id AND p.pool_id = share_hours.pool_id AND p.source = 'meters'
		GROUP BY g.at
		UNION ALL
		SELECT share_hours.from_ts, submeter.divide(p.fixed_kwh * extract(epoch FROM share_hours.to_ts - share_hours.from_ts),
			extract(epoch FROM share_hours.cycle_end - share_hours.cycle_start), 3)
		FROM submeter.share_pool p
		WHERE p.site_id = share_hours.site_id AND p.pool_id = share_hours.pool_id AND p.source = 'energy') h;
END
$$;
COMMENT ON FUNCTION submeter.share_hours(int, bigint, text, timestamptz, timestamptz, timestamptz, timestamptz) IS
'Energy of a pool''s meters hour by hour, or a fixed quantity in one piece, as quote() takes it.';

CREATE FUNCTION submeter.share_calendar(site_id int, from_ts timestamptz, to_ts timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_object_agg(c.day, jsonb_strip_nulls(jsonb_build_object('type', c.day_type, 'flags', nullif(to_jsonb(c.flags), '[]'))))
	FROM submeter.calendar_day c
	WHERE c.site_id = share_calendar.site_id AND c.day BETWEEN share_calendar.from_ts::date - 2 AND share_calendar.to_ts::date + 2
		AND (c.day_type IS NOT NULL OR c.flags <> '{}')
$$;
COMMENT ON FUNCTION submeter.share_calendar(int, timestamptz, timestamptz) IS
'The days of a site that differ from the plain week, as quote() takes them.';

CREATE FUNCTION submeter.share_waiting(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH wanted AS (
		SELECT s.meter_id, least(upper(s.during), m.retired_at) AS until
		FROM submeter.share_stretches(share_waiting.site_id, share_waiting.pool_id, share_waiting.cycle_start, share_waiting.cycle_end) s
		JOIN submeter.meter m ON m.site_id = share_waiting.site_id AND m.meter_id = s.meter_id
		JOIN submeter.share_pool p ON p.site_id = share_waiting.site_id AND p.pool_id = share_waiting.pool_id
		WHERE p.method NOT IN ('area', 'heads', 'equal')
		UNION ALL
		SELECT s.meter_id, least(share_waiting.cycle_end, m.retired_at)
		FROM submeter.share_pool p
		CROSS JOIN LATERAL submeter.share_source_meters(p.site_id, p.pool_id, share_waiting.cycle_start, share_waiting.cycle_end) s
		JOIN submeter.meter m ON m.site_id = share_waiting.site_id AND m.meter_id = s.meter_id
		WHERE p.site_id = share_waiting.site_id AND p.pool_id = share_waiting.pool_id AND p.source IN ('meters', 'loss')
	)
	SELECT coalesce(array_agg(DISTINCT m.code ORDER BY m.code), '{}')
	FROM wanted w
	JOIN submeter.meter m ON m.site_id = share_waiting.site_id AND m.meter_id = w.meter_id
	LEFT JOIN submeter.meter_settled e ON e.site_id = m.site_id AND e.meter_id = m.meter_id
	WHERE coalesce(e.settled_to, '-infinity') < w.until
$$;
COMMENT ON FUNCTION submeter.share_waiting(int, bigint, timestamptz, timestamptz) IS
'Codes of the meters whose energy a run needs and that have no valid reading at or after the end yet.';

CREATE FUNCTION submeter.share_charged(site_id int, pool_id bigint, cycle_start timestamptz) RETURNS TABLE (account_id bigint, charged numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT x.account_id, sum(x.amount)
	FROM (
		SELECT c.account_id, c.rounded AS amount FROM submeter.charge c
		WHERE c.site_id = share_charged.site_id AND c.cycle_start = share_charged.cycle_start
		UNION ALL
		SELECT l.account_id, l.posted FROM submeter.share_line l
		JOIN submeter.share_run r ON r.site_id = l.site_id AND r.run_id = l.run_id
		WHERE l.site_id = share_charged.site_id AND l.account_id IS NOT NULL AND r.cycle_start = share_charged.cycle_start
			AND r.pool_id <> share_charged.pool_id
	) x GROUP BY x.account_id
$$;
COMMENT ON FUNCTION submeter.share_charged(int, bigint, timestamptz) IS
'What each account was charged for a cycle already, by tariffs and by other pools.';

CREATE FUNCTION submeter.share_inputs(site_id int, pool_id bigint, cycle_start timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	cycle record := submeter.share_cycle(share_inputs.site_id, share_inputs.cycle_start);
	source jsonb;
	price jsonb;
	bill jsonb := '{}';
	members jsonb;
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_inputs.site_id AND p.pool_id = share_inputs.pool_id;
	source := submeter.share_source(share_inputs.site_id, share_inputs.pool_id, share_inputs.cycle_start, cycle.cycle_end);
	price := submeter.share_price(share_inputs.site_id, share_inputs.pool_id, share_inputs.cycle_start, cycle.cycle_end, source);
	SELECT jsonb_agg(jsonb_build_object('account_id', w.account_id, 'account', a.code, 'weight', w.weight, 'parts', w.parts)
		|| CASE WHEN pool.source = 'bill' THEN jsonb_build_object('charged', coalesce(c.charged, 0)) ELSE '{}' END ORDER BY a.code)
	INTO members
	FROM submeter.share_weights(share_inputs.site_id, share_inputs.pool_id, share_inputs.cycle_start, cycle.cycle_end) w
	LEFT JOIN submeter.account a ON a.site_id = share_inputs.site_id AND a.account_id = w.account_id
	LEFT JOIN submeter.share_charged(share_inputs.site_id, share_inputs.pool_id, share_inputs.cycle_start) c ON c.account_id = w.account_id;
	IF members IS NULL AND pool.source <> 'bill' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s has no members in this cycle', pool.code),
			DETAIL = CASE pool.members WHEN 'all' THEN 'No account was supplied in it.' ELSE 'No account was supplied where share_member names one, a unit or a building.' END,
			HINT = 'List the members in share_member, or set members to all.';
	END IF;
	IF pool.source = 'bill' THEN
		bill := submeter.share_bill(share_inputs.site_id, share_inputs.pool_id, share_inputs.cycle_start, cycle.cycle_end, price,
			(SELECT coalesce(sum((m ->> 'weight')::numeric), 0) FROM jsonb_array_elements(members) m));
		members := coalesce(members, '[]') || jsonb_build_object('account_id', NULL, 'weight', bill -> 'rest_wh', 'charged', 0);
	END IF;
	RETURN jsonb_build_object('pool', pool.code, 'method', pool.method, 'cycle', jsonb_build_array(cycle.from_day, cycle.to_day),
		'energy_wh', source -> 'energy_wh', 'amount', coalesce(bill -> 'amount', price -> 'amount'), 'source', source, 'price', price,
		'members', coalesce(members, '[]')) || CASE WHEN bill = '{}' THEN '{}' ELSE jsonb_build_object('bill', bill) END;
END
$$;
COMMENT ON FUNCTION submeter.share_inputs(int, bigint, timestamptz) IS
'Everything the outcome of a pool in a cycle rests on, gathered now: energy with meters and readings, price with its document, weights with their parts.';

CREATE FUNCTION submeter.share_bill(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, price jsonb, members_wh numeric) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pool submeter.share_pool;
	zone text;
	other_wh numeric;
	other_amount numeric;
	total_wh numeric;
	main_ids bigint[];
BEGIN
	SELECT p.* INTO pool FROM submeter.share_pool p WHERE p.site_id = share_bill.site_id AND p.pool_id = share_bill.pool_id;
	SELECT s.time_zone INTO zone FROM submeter.site s WHERE s.site_id = share_bill.site_id;
	SELECT b.meter_ids INTO main_ids FROM submeter.grid_bill_of(pool.site_id, pool.connection, share_bill.cycle_start) b;
	SELECT coalesce(sum(submeter.meter_energy(pool.site_id, m, zone, share_bill.cycle_start, share_bill.cycle_end)), 0) INTO other_wh
	FROM unnest(pool.other_meter_ids) m;
	other_amount := CASE WHEN pool.other_price IS NULL THEN 0 ELSE submeter.divide(other_wh * pool.other_price, 1000, 2) END;
	IF other_amount > (share_bill.price ->> 'grid_amount')::numeric OR other_wh > (share_bill.price ->> 'grid_wh')::numeric THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the other use of pool %s is more than the whole grid bill', pool.code),
			DETAIL = format('Other use %s kWh, %s; bill %s kWh, %s.', round(other_wh / 1000, 3), other_amount,
				round((share_bill.price ->> 'grid_wh')::numeric / 1000, 3), share_bill.price ->> 'grid_amount'),
			HINT = 'Check other_meter_ids, other_price and the grid bill.';
	END IF;
	IF pool.method = 'gd_all_metered' THEN
		SELECT coalesce(sum(greatest(submeter.meter_energy(pool.site_id, m.meter_id, zone, share_bill.cycle_start, share_bill.cycle_end), 0)), 0) INTO total_wh
		FROM submeter.submeters(pool.site_id, main_ids, share_bill.cycle_start, share_bill.cycle_end) m(meter_id)
		WHERE m.meter_id <> ALL (pool.other_meter_ids);
	ELSE
		total_wh := (share_bill.price ->> 'grid_wh')::numeric - other_wh;
	END IF;
	-- Tenants never pay more than the bill together, even where their meters show more than the main meter.
	total_wh := greatest(total_wh, share_bill.members_wh);
	RETURN jsonb_build_object('other_wh', other_wh, 'other_amount', other_amount, 'total_wh', total_wh, 'rest_wh', total_wh - share_bill.members_wh,
		'amount', (share_bill.price ->> 'grid_amount')::numeric - other_amount);
END
$$;
COMMENT ON FUNCTION submeter.share_bill(int, bigint, timestamptz, timestamptz, jsonb, numeric) IS
'Of a grid bill that is settled: what is left of it when another use is removed, the energy it is divided by, and the energy the landlord bears.';

CREATE FUNCTION submeter.share_split(inputs jsonb)
RETURNS TABLE (line int, account_id bigint, weight numeric, energy_wh bigint, due numeric, charged numeric, amount numeric, formula text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH member AS (
		SELECT m.nth, (m.item ->> 'account_id')::bigint AS account_id, (m.item ->> 'weight')::numeric AS weight, coalesce((m.item ->> 'charged')::numeric, 0) AS charged
		FROM jsonb_array_elements(share_split.inputs -> 'members') WITH ORDINALITY m(item, nth)
	), whole AS (
		SELECT (share_split.inputs ->> 'amount')::numeric AS amount, sum(m.weight) AS weight,
			submeter.apportion((share_split.inputs ->> 'amount')::numeric * 100, coalesce(array_agg(m.weight ORDER BY m.nth), '{}')) AS cents,
			submeter.apportion((share_split.inputs ->> 'energy_wh')::numeric, coalesce(array_agg(m.weight ORDER BY m.nth), '{}')) AS wh,
			CASE share_split.inputs ->> 'method' WHEN 'area' THEN 86400 WHEN 'heads' THEN 86400 WHEN 'equal' THEN 86400 ELSE 1000 END AS per,
			CASE share_split.inputs ->> 'method' WHEN 'area' THEN 'm2 days' WHEN 'heads' THEN 'head days' WHEN 'equal' THEN 'days' ELSE 'kWh' END AS unit
		FROM member m
	)
	SELECT m.nth::int, m.account_id, m.weight, w.wh[m.nth]::bigint, round(w.cents[m.nth] / 100, 2), m.charged, round(w.cents[m.nth] / 100, 2) - m.charged,
		format('%s x %s / %s %s = %s', round(w.amount, 2), trim_scale(round(m.weight / w.per, 4)), trim_scale(round(w.weight / w.per, 4)), w.unit,
			round(w.cents[m.nth] / 100, 2))
			|| CASE WHEN m.charged <> 0 THEN format('; less %s charged = %s', m.charged, round(w.cents[m.nth] / 100, 2) - m.charged) ELSE '' END
	FROM member m CROSS JOIN whole w
	ORDER BY m.nth
$$;
COMMENT ON FUNCTION submeter.share_split(jsonb) IS
'What each member bears, from the inputs of a run alone: amount x weight / weights, cents that are left over to the largest remainders. Anyone can derive a run again from share_run.inputs.';

CREATE FUNCTION submeter.share_last(site_id int, pool_id bigint, cycle_start timestamptz) RETURNS TABLE (run_id bigint, revision int, kind text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.run_id, r.revision, r.kind FROM submeter.share_run r
	WHERE r.site_id = share_last.site_id AND r.pool_id = share_last.pool_id AND r.cycle_start = share_last.cycle_start
	ORDER BY r.revision DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.share_last(int, bigint, timestamptz) IS 'The run of a pool and cycle that counts; no row when it was never run.';

CREATE FUNCTION submeter.share_difference(site_id int, last_run_id bigint, inputs jsonb)
RETURNS TABLE (line int, account_id bigint, weight numeric, energy_wh bigint, due numeric, charged numeric, amount numeric, posted numeric, formula text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH before AS (
		SELECT l.account_id, l.amount FROM submeter.share_line l
		WHERE l.site_id = share_difference.site_id AND l.run_id = share_difference.last_run_id
	), split AS (
		SELECT * FROM submeter.share_split(share_difference.inputs)
	)
	SELECT s.line, s.account_id, s.weight, s.energy_wh, s.due, s.charged, s.amount, s.amount - coalesce(b.amount, 0), s.formula
	FROM split s LEFT JOIN before b ON b.account_id IS NOT DISTINCT FROM s.account_id
	UNION ALL
	SELECT (SELECT coalesce(max(s.line), 0) FROM split s)::int + row_number() OVER (ORDER BY b.account_id)::int, b.account_id, 0, 0, 0, 0, 0, -b.amount,
		CASE WHEN share_difference.inputs -> 'members' = '[]' THEN 'taken back' ELSE 'no member any more' END
	FROM before b WHERE b.amount <> 0 AND NOT EXISTS (SELECT FROM split s WHERE s.account_id IS NOT DISTINCT FROM b.account_id)
$$;
COMMENT ON FUNCTION submeter.share_difference(int, bigint, jsonb) IS
'The lines of a run with these inputs and what each adds to an earlier run, members of that one who are none any more included.';

CREATE FUNCTION submeter.run_share(site_id int, pool text, cycle_start timestamptz, dry_run boolean DEFAULT true, reason text DEFAULT NULL,
	as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, kwh numeric, due numeric, charged numeric, old numeric, new numeric,
	difference numeric, formula text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	cycle record;
	shared bigint;
	last record;
	inputs jsonb;
BEGIN
	PERFORM submeter.authorize('run_share', run_share.site_id);
	IF run_share.as_of IS NULL OR NOT isfinite(run_share.as_of) OR run_share.dry_run IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'run_share needs a point in time and to know whether it is a dry run',
			HINT = 'Leave as_of and dry_run out for a dry run now.';
	END IF;
	cycle := submeter.share_cycle(run_share.site_id, run_share.cycle_start);
	shared := submeter.share_pool_id(run_share.site_id, run_share.pool);
	-- Takes the lock of settle, so that what is frozen stands still, and two runs take turns.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = run_share.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	IF NOT run_share.dry_run THEN
		PERFORM submeter.share_ready(run_share.site_id, shared, run_share.cycle_start, cycle.cycle_end, run_share.as_of);
	END IF;
	inputs := submeter.share_inputs(run_share.site_id, shared, run_share.cycle_start);
	SELECT l.* INTO last FROM submeter.share_last(run_share.site_id, shared, run_share.cycle_start) l;
	RETURN QUERY
	SELECT d.account_id, a.code, t.code, a.state, round(d.energy_wh * 0.001, 3), d.due, d.charged, d.amount - d.posted, d.amount, d.posted, d.formula
	FROM submeter.share_difference(run_share.site_id, last.run_id, inputs) d
	LEFT JOIN submeter.account a ON a.site_id = run_share.site_id AND a.account_id = d.account_id
	LEFT JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	ORDER BY d.line;
	IF run_share.dry_run OR last.run_id IS NOT NULL AND NOT EXISTS (
		SELECT FROM submeter.share_difference(run_share.site_id, last.run_id, inputs) d WHERE d.posted <> 0)
	THEN
		RETURN;
	END IF;
	IF last.run_id IS NOT NULL THEN
		PERFORM submeter.require_text('reason', run_share.reason);
	END IF;
	PERFORM submeter.require_approval('run_share', run_share.site_id, jsonb_build_object('pool', run_share.pool, 'cycle', cycle.from_day));
	PERFORM submeter.share_post(run_share.site_id, shared, run_share.cycle_start, cycle.cycle_end, last.run_id, 'share', inputs, run_share.reason, run_share.as_of);
END
$$;
COMMENT ON FUNCTION submeter.run_share(int, text, timestamptz, boolean, text, timestamptz) IS
'Shares a pool out for a billing cycle: what each account bears, with its derivation; the row without an account is the landlord''s. A dry run stores nothing; a real one freezes the inputs and posts one movement per account. Again it posts the difference only, with a reason, and nothing when there is none. 55000 when the cycle or its readings are not complete. Passes the approval hook with {pool, cycle}.';

CREATE FUNCTION submeter.share_pool_id(site_id int, pool text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id bigint;
BEGIN
	SELECT p.pool_id INTO found_id FROM submeter.share_pool p WHERE p.site_id = share_pool_id.site_id AND p.code = share_pool_id.pool AND p.enabled;
	IF found_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no pool %s', share_pool_id.site_id, coalesce(share_pool_id.pool, 'NULL')),
			HINT = 'SELECT code, name FROM submeter.share_pool WHERE enabled lists the pools.';
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.share_pool_id(int, text) IS 'Number of the pool with a code; P0002 when there is none, or it is not enabled.';

CREATE FUNCTION submeter.share_ready(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	waiting text[];
BEGIN
	IF share_ready.as_of < share_ready.cycle_end THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the billing cycle is not over', HINT = 'Until then only a dry run is possible.';
	END IF;
	PERFORM submeter.settle(share_ready.site_id, share_ready.as_of);
	waiting := submeter.share_waiting(share_ready.site_id, share_ready.pool_id, share_ready.cycle_start, share_ready.cycle_end);
	IF cardinality(waiting) > 0 AND share_ready.as_of < share_ready.cycle_end + (
		SELECT s.close_delay FROM submeter.site s WHERE s.site_id = share_ready.site_id)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'readings at the end of the cycle are missing',
			DETAIL = format('Meters: %s.', array_to_string(waiting[1:10], ', ') || CASE WHEN cardinality(waiting) > 10 THEN ' …' ELSE '' END),
			HINT = 'Read them, or wait until site.close_delay after the end of the cycle: what is known by then is shared.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.share_ready(int, bigint, timestamptz, timestamptz, timestamptz) IS
'Settles, and refuses (55000) while the cycle or, for close_delay after it, the readings of the pool are not complete.';

CREATE FUNCTION submeter.share_post(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, last_run_id bigint, kind text,
	inputs jsonb, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	run bigint;
	income bigint;
	who name := (submeter.me()).login;
	pool_code text;
BEGIN
	SELECT p.code INTO pool_code FROM submeter.share_pool p WHERE p.site_id = share_post.site_id AND p.pool_id = share_post.pool_id;
	income := submeter.system_ledger_account(share_post.site_id, 'share:' || pool_code, 'revenue');
	PERFORM FROM submeter.ledger_account l
	WHERE l.site_id = share_post.site_id AND l.kind = 'tenant' AND l.account_id IN (
		SELECT d.account_id FROM submeter.share_difference(share_post.site_id, share_post.last_run_id, share_post.inputs) d WHERE d.posted <> 0)
	ORDER BY l.ledger_account_id FOR NO KEY UPDATE;
	INSERT INTO submeter.share_run (site_id, pool_id, cycle_start, cycle_end, revision, kind, replaces_id, energy_wh, amount, inputs, reason, made_by)
	VALUES (share_post.site_id, share_post.pool_id, share_post.cycle_start, share_post.cycle_end,
		coalesce((SELECT r.revision + 1 FROM submeter.share_run r WHERE r.site_id = share_post.site_id AND r.run_id = share_post.last_run_id), 0),
		share_post.kind, share_post.last_run_id, (share_post.inputs ->> 'energy_wh')::bigint, (share_post.inputs ->> 'amount')::numeric,
		share_post.inputs, share_post.reason, who)
	RETURNING run_id INTO run;
	WITH line AS MATERIALIZED (
		SELECT d.*, CASE WHEN d.account_id IS NOT NULL AND d.posted <> 0 THEN submeter.next_movement(share_post.site_id) END AS transfer_id, l.ledger_account_id
		FROM submeter.share_difference(share_post.site_id, share_post.last_run_id, share_post.inputs) d
		LEFT JOIN submeter.ledger_account l ON l.site_id = share_post.site_id AND l.account_id = d.account_id AND l.kind = 'tenant'
	), moved AS (
		INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, cycle_start, note, idempotency_key, effective_at, created_by)
		SELECT share_post.site_id, x.transfer_id, CASE WHEN x.posted > 0 THEN x.ledger_account_id ELSE income END,
			CASE WHEN x.posted > 0 THEN income ELSE x.ledger_account_id END, abs(x.posted), 'share', x.account_id, share_post.cycle_start,
			coalesce(share_post.reason, pool_code), format('share:%s:%s', run, x.account_id), share_post.as_of, who
		FROM line x WHERE x.transfer_id IS NOT NULL
	), totals AS (
		UPDATE submeter.ledger_account l SET total = l.total - x.posted
		FROM line x
		WHERE x.transfer_id IS NOT NULL AND l.site_id = share_post.site_id AND l.ledger_account_id = x.ledger_account_id
	)
	INSERT INTO submeter.share_line (site_id, run_id, line, account_id, weight, energy_wh, due, charged, amount, posted, formula, transfer_id)
	SELECT share_post.site_id, run, x.line, x.account_id, x.weight, x.energy_wh, x.due, x.charged, x.amount, x.posted, x.formula, x.transfer_id
	FROM line x;
	PERFORM submeter.share_follow(share_post.site_id, run, share_post.as_of);
	RETURN run;
END
$$;
COMMENT ON FUNCTION submeter.share_post(int, bigint, timestamptz, timestamptz, bigint, text, jsonb, text, timestamptz) IS
'Writes a run, its lines and one movement per account with what it adds to the run it replaces; returns the run.';

CREATE FUNCTION submeter.share_follow(site_id int, run_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT l.account_id, l.posted, l.transfer_id, a.state, p.code, r.replaces_id
		FROM submeter.share_line l
		JOIN submeter.share_run r ON r.site_id = l.site_id AND r.run_id = l.run_id
		JOIN submeter.share_pool p ON p.site_id = r.site_id AND p.pool_id = r.pool_id
		JOIN submeter.account a ON a.site_id = l.site_id AND a.account_id = l.account_id
		WHERE l.site_id = share_follow.site_id AND l.run_id = share_follow.run_id AND l.transfer_id IS NOT NULL
		ORDER BY l.line
	LOOP
		-- What a former tenant owes is a debt of the person; what a correction asks for besides never cuts anybody.
		IF item.posted > 0 AND (item.state = 'closed' OR item.replaces_id IS NOT NULL) THEN
			PERFORM submeter.defer_debit(share_follow.site_id, item.account_id, item.posted, 'share ' || item.code, share_follow.as_of);
		END IF;
		IF item.state = 'closed' THEN
			INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
			VALUES (share_follow.site_id, item.account_id, CASE WHEN item.posted > 0 THEN 'debt' ELSE 'refund' END, abs(item.posted), 'share',
				format('share:%s:%s', share_follow.run_id, item.account_id),
				jsonb_build_object('pool', item.code, 'run_id', share_follow.run_id, 'transfer_id', item.transfer_id));
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.share_follow(int, bigint, timestamptz) IS
'After a run: of closed accounts a person decides; what they owe, and what a correction asks of open ones, is put aside as debt.';

CREATE FUNCTION submeter.reverse_share(site_id int, pool text, cycle_start timestamptz, reason text, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	cycle record;
	shared bigint;
	last record;
BEGIN
	PERFORM submeter.authorize('reverse_share', reverse_share.site_id);
	PERFORM submeter.require_text('reason', reverse_share.reason);
	IF reverse_share.as_of IS NULL OR NOT isfinite(reverse_share.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'reverse_share needs a point in time', HINT = 'Leave as_of out for now.';
	END IF;
	cycle := submeter.share_cycle(reverse_share.site_id, reverse_share.cycle_start);
	shared := submeter.share_pool_id(reverse_share.site_id, reverse_share.pool);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = reverse_share.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	SELECT l.* INTO last FROM submeter.share_last(reverse_share.site_id, shared, reverse_share.cycle_start) l;
	IF last.run_id IS NULL OR last.kind = 'reversal' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s is not shared out for this cycle', reverse_share.pool),
			DETAIL = CASE WHEN last.run_id IS NULL THEN 'It was never run.' ELSE format('Run %s took it back already.', last.run_id) END,
			HINT = 'SELECT * FROM submeter.share_run lists the runs.';
	END IF;
	PERFORM submeter.require_approval('reverse_share', reverse_share.site_id, jsonb_build_object('pool', reverse_share.pool, 'cycle', cycle.from_day));
	RETURN submeter.share_post(reverse_share.site_id, shared, reverse_share.cycle_start, cycle.cycle_end, last.run_id, 'reversal',
		'{"energy_wh":0,"amount":0,"members":[]}', reverse_share.reason, reverse_share.as_of);
END
$$;
COMMENT ON FUNCTION submeter.reverse_share(int, text, timestamptz, text, timestamptz) IS
'Takes a pool''s run for a cycle back by opposite movements and returns the run that did; it can be run again afterwards. 55000 when there is nothing to take back. Passes the approval hook with {pool, cycle}.';

CREATE FUNCTION submeter.share_lines(site_id int, account_ids bigint[], cycle_starts timestamptz[])
RETURNS TABLE (account_id bigint, cycle_start timestamptz, component text, energy_wh bigint, amount numeric, detail jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	SELECT l.account_id, b.cycle_start, 'share:' || p.code, l.energy_wh - coalesce(old.energy_wh, 0), l.posted,
		jsonb_build_object('run_id', r.run_id, 'pool', p.name, 'cycle', r.inputs -> 'cycle', 'formula', l.formula, 'transfer_id', l.transfer_id)
			|| CASE WHEN r.replaces_id IS NULL THEN '{}' ELSE jsonb_build_object('corrects', r.replaces_id, 'reason', r.reason, 'before', l.amount - l.posted) END
	FROM submeter.share_line l
	JOIN submeter.share_run r ON r.site_id = l.site_id AND r.run_id = l.run_id
	JOIN submeter.share_pool p ON p.site_id = r.site_id AND p.pool_id = r.pool_id
	LEFT JOIN submeter.share_line old ON old.site_id = l.site_id AND old.run_id = r.replaces_id AND old.account_id = l.account_id
	CROSS JOIN LATERAL (
		-- The first of the bills asked for that is not of an earlier cycle.
		SELECT min(w.cycle_start) AS cycle_start FROM unnest(share_lines.account_ids, share_lines.cycle_starts) w(account_id, cycle_start)
		WHERE w.account_id = l.account_id AND w.cycle_start >= r.cycle_start) b
	WHERE l.site_id = share_lines.site_id AND l.account_id = ANY (share_lines.account_ids) AND l.posted <> 0 AND b.cycle_start IS NOT NULL
		AND NOT EXISTS (
			SELECT FROM submeter.bill x JOIN submeter.bill_line y ON y.site_id = x.site_id AND y.bill_id = x.bill_id
			WHERE x.site_id = l.site_id AND x.account_id = l.account_id AND x.state = 'issued'
				AND y.component LIKE 'share:%' AND (y.detail ->> 'run_id')::bigint = r.run_id)
	ORDER BY l.account_id, b.cycle_start, r.run_id
$$;
COMMENT ON FUNCTION submeter.share_lines(int, bigint[], timestamptz[]) IS
'Lines for bills about to be made (accounts and cycles in pairs): shares of that cycle or earlier ones that are on no issued bill yet, each with its derivation.';

CREATE FUNCTION submeter.share_slip(site_id int, pool text, cycle_start timestamptz, account_id bigint)
RETURNS TABLE (line int, item text, label text, quantity numeric, unit text, remark text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	found_line submeter.share_line;
	run submeter.share_run;
	place submeter.site;
BEGIN
	PERFORM submeter.authorize('share_slip', share_slip.site_id);
	SELECT l.* INTO found_line
	FROM submeter.share_pool p
	JOIN submeter.share_run r ON r.site_id = p.site_id AND r.pool_id = p.pool_id AND r.cycle_start = share_slip.cycle_start
	JOIN submeter.share_line l ON l.site_id = r.site_id AND l.run_id = r.run_id AND l.account_id = share_slip.account_id
	WHERE p.site_id = share_slip.site_id AND p.code = share_slip.pool
		AND (NOT pg_has_role((submeter.me()).role, 'submeter_tenant', 'member') OR submeter.is_internal() OR l.account_id = ANY (submeter.my_accounts()))
	ORDER BY r.revision DESC LIMIT 1;
	IF found_line.run_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('account %s has no part in pool %s for this cycle', coalesce(share_slip.account_id::text, 'NULL'), coalesce(share_slip.pool, 'NULL')),
			HINT = 'SELECT * FROM submeter.share_line lists who has.';
	END IF;
	SELECT r.* INTO run FROM submeter.share_run r WHERE r.site_id = share_slip.site_id AND r.run_id = found_line.run_id;
	SELECT s.* INTO place FROM submeter.site s WHERE s.site_id = share_slip.site_id;
	RETURN QUERY
	SELECT row_number() OVER (ORDER BY v.nth)::int, v.item, CASE place.locale WHEN 'zh' THEN v.zh ELSE v.en END, trim_scale(v.quantity), v.unit, v.remark
	FROM (VALUES
		(1, 'grid_energy', '电网总表电量', 'energy on the grid bill', (run.inputs #>> '{price,grid_wh}')::numeric / 1000, 'kWh', run.inputs #>> '{price,document}'),
		(2, 'grid_amount', '电网电费总额', 'amount of the grid bill', (run.inputs #>> '{price,grid_amount}')::numeric, place.currency, run.inputs #>> '{price,document}'),
		(3, 'price', '购电均价', 'price per kWh', (run.inputs #>> '{price,price}')::numeric, place.currency || '/kWh', NULL),
		(4, 'other_energy', '其他用途电量(先扣除)', 'energy of another use, removed first', nullif((run.inputs #>> '{bill,other_wh}')::numeric, 0) / 1000, 'kWh', NULL),
		(5, 'other_amount', '其他用途电费(先扣除)', 'amount of another use, removed first', nullif((run.inputs #>> '{bill,other_amount}')::numeric, 0), place.currency, NULL),
		(6, 'divisor', '分摊电量合计', 'energy the bill is divided by', (run.inputs #>> '{bill,total_wh}')::numeric / 1000, 'kWh', run.inputs ->> 'method'),
		(7, 'shared_energy', '公摊电量', 'energy shared out', nullif(run.energy_wh, 0) / 1000.0, 'kWh', NULL),
		(8, 'shared_amount', '分摊金额', 'amount shared out', run.amount, place.currency, run.inputs ->> 'method'),
		(9, 'own_energy', '本户电量', 'energy of the account', CASE WHEN run.inputs ->> 'method' NOT IN ('area', 'heads', 'equal') THEN found_line.weight / 1000 END, 'kWh', NULL),
		(10, 'part_energy', '本户分摊电量', 'part of the energy', nullif(found_line.energy_wh, 0) / 1000.0, 'kWh', NULL),
		(11, 'due', '本户应承担', 'part of the account', found_line.due, place.currency, found_line.formula),
		(12, 'charged', '已收', 'charged before', nullif(found_line.charged, 0), place.currency, NULL),
		(13, 'amount', '应收(退)差额', 'to be paid, or given back', found_line.amount, place.currency,
			CASE WHEN run.replaces_id IS NOT NULL THEN format('corrected: %s', run.reason) END)
	) v(nth, item, zh, en, quantity, unit, remark)
	WHERE v.quantity IS NOT NULL;
END
$$;
COMMENT ON FUNCTION submeter.share_slip(int, text, timestamptz, bigint) IS
'The slip of a tenant for a pool and cycle: the totals, the tenant''s own figures and the derivation, in the language of the site. Runs are never deleted, so it can be had for as long as the law asks (at least 2 years) and longer. Tenants get their own; P0002 otherwise.';

CREATE FUNCTION submeter.verify_shares(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH line AS MATERIALIZED (
		SELECT l.* FROM submeter.share_line l WHERE l.site_id = verify_shares.site_id
	), moved AS MATERIALIZED (
		SELECT t.transfer_id, t.account_id, CASE WHEN l.account_id IS NOT NULL THEN t.amount ELSE -t.amount END AS amount
		FROM submeter.transfer t
		JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.debit_id
		WHERE t.site_id = verify_shares.site_id AND t.kind = 'share'
	)
	SELECT 'share movement differs from its line', coalesce(l.account_id, m.account_id), coalesce(l.transfer_id, m.transfer_id), coalesce(l.posted, 0), coalesce(m.amount, 0)
	FROM (SELECT * FROM line WHERE line.transfer_id IS NOT NULL) l
	FULL JOIN moved m ON m.transfer_id = l.transfer_id AND m.account_id = l.account_id
	WHERE coalesce(l.posted, 0) <> coalesce(m.amount, 0)
	UNION ALL
	SELECT format('share run %s does not follow from its inputs', r.run_id), d.account_id, NULL, d.derived, d.stored
	FROM submeter.share_run r
	CROSS JOIN LATERAL (
		SELECT x.account_id, sum(x.derived) AS derived, sum(x.stored) AS stored
		FROM (
			SELECT s.account_id, s.amount AS derived, 0 AS stored FROM submeter.share_split(r.inputs) s
			UNION ALL
			SELECT n.account_id, 0, n.amount FROM line n WHERE n.run_id = r.run_id) x
		GROUP BY x.account_id) d
	WHERE r.site_id = verify_shares.site_id AND d.derived <> d.stored
	UNION ALL
	SELECT format('lines of share run %s do not add up', r.run_id), NULL, NULL, r.amount, sum(n.due)
	FROM submeter.share_run r JOIN line n ON n.run_id = r.run_id
	WHERE r.site_id = verify_shares.site_id
	GROUP BY r.run_id, r.amount HAVING sum(n.due) <> r.amount
$$;
COMMENT ON FUNCTION submeter.verify_shares(int) IS
'Part of verify_ledger: shares in the ledger are those of the lines, lines follow from the frozen inputs of their run and add up to it.';
