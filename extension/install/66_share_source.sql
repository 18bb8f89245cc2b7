-- Room: sharing. What is shared: the energy of a pool, measured or as the difference of meters, and its price.
-- Compiling these queries would take a hundred times as long as running them, so it is off.

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
