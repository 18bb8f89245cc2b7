-- Room: sharing. The inputs of a run: how much energy, at what price, over whom. Gathered once and frozen with the run.
-- Compiling these queries would take a hundred times as long as running them, so it is off.

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
