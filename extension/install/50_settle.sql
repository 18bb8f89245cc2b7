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

CREATE FUNCTION submeter.demand_w(window_wh bigint[], window_minutes int) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'submeter_demand_w';
COMMENT ON FUNCTION submeter.demand_w(bigint[], int) IS 'Mean power of the fullest of a day''s demand windows, rounded half up.';

CREATE FUNCTION submeter.term_number(terms jsonb, name text, scale int) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(CASE WHEN jsonb_typeof(term_number.terms -> term_number.name) = 'number'
		THEN (least(greatest((term_number.terms ->> term_number.name)::numeric, 0), 1000000000) * term_number.scale)::bigint END, 0)
$$;
COMMENT ON FUNCTION submeter.term_number(jsonb, text, int) IS 'A number of the terms of a supply, times scale; 0 when the terms do not name it.';

CREATE FUNCTION submeter.terms_are_sound(terms jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(bool_and(jsonb_typeof(t.value) = 'number' AND CASE WHEN jsonb_typeof(t.value) = 'number'
		THEN (t.value #>> '{}')::numeric BETWEEN 0 AND 1000000000 AND (t.key <> 'household_size' OR (t.value #>> '{}')::numeric % 1 = 0) END), true)
	FROM jsonb_each(terms_are_sound.terms) t
	WHERE t.key IN ('capacity_kva', 'contract_kw', 'household_size')
$$;
COMMENT ON FUNCTION submeter.terms_are_sound(jsonb) IS
'True when the terms of a supply that tariffs ask for (capacity_kva, contract_kw, household_size) are numbers from 0 on; other terms are free.';

-- What changes what is owed, but no usage: the accounts are computed anew from the cycle that holds the change.

CREATE FUNCTION submeter.mark_tariffs_dirty(site_id int, tariff_ids bigint[], from_ts timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.charge_dirty AS d (site_id, account_id, tariff_id, from_ts)
	SELECT s.site_id, s.account_id, s.tariff_id, greatest(min(lower(s.during)), mark_tariffs_dirty.from_ts)
	FROM submeter.supply s
	WHERE s.site_id = mark_tariffs_dirty.site_id AND s.tariff_id = ANY (mark_tariffs_dirty.tariff_ids)
		AND (upper_inf(s.during) OR upper(s.during) > mark_tariffs_dirty.from_ts)
	GROUP BY s.site_id, s.account_id, s.tariff_id
	ORDER BY s.account_id, s.tariff_id
	ON CONFLICT ON CONSTRAINT charge_dirty_pkey DO UPDATE SET from_ts = least(d.from_ts, EXCLUDED.from_ts)
$$;
COMMENT ON FUNCTION submeter.mark_tariffs_dirty(int, bigint[], timestamptz) IS
'Notes that the charges of all accounts on some tariffs are to be computed anew from from_ts on.';

CREATE FUNCTION submeter.price_item_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	item record;
BEGIN
	FOR item IN
		SELECT p.site_id, p.name, min(p.valid_from) AS valid_from FROM changed_price p GROUP BY p.site_id, p.name ORDER BY p.site_id, p.name
	LOOP
		PERFORM submeter.mark_tariffs_dirty(item.site_id, (
			SELECT array_agg(DISTINCT v.tariff_id) FROM submeter.tariff_version v
			WHERE v.site_id = item.site_id AND jsonb_path_exists(v.definition, '$.**.ref ? (@ == $name)', jsonb_build_object('name', item.name))),
			item.valid_from);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.price_item_follow() IS 'Marks the accounts on tariffs that refer to a named price for settlement from the time from which it changed.';

CREATE FUNCTION submeter.price_item_keep() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside a statement that row-level security already let through.
	IF EXISTS (
		SELECT FROM submeter.charge c
		WHERE c.site_id = OLD.site_id AND c.energy_wh <> 0 AND c.settled_to > OLD.valid_from
			AND NOT EXISTS (
				SELECT FROM submeter.price_item n
				WHERE n.site_id = OLD.site_id AND n.name = OLD.name AND n.valid_from > OLD.valid_from AND n.valid_from <= c.cycle_start)
			AND c.tariff_id IN (
				SELECT v.tariff_id FROM submeter.tariff_version v
				WHERE v.site_id = OLD.site_id
					AND jsonb_path_exists(v.definition, '$.**.ref ? (@ == $name)', jsonb_build_object('name', OLD.name))))
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('price %s of %s priced energy already and cannot be changed', OLD.name, OLD.valid_from),
			HINT = 'Enter a row with a higher revision; what it changes is charged as a difference.';
	END IF;
	RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION submeter.price_item_keep() IS 'Keeps named prices that priced anything as they are (55000).';

CREATE FUNCTION submeter.calendar_day_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	item record;
BEGIN
	FOR item IN
		SELECT s.site_id, s.time_zone, min(c.day) AS day
		FROM changed_day c JOIN submeter.site s ON s.site_id = c.site_id GROUP BY s.site_id ORDER BY s.site_id
	LOOP
		PERFORM submeter.mark_tariffs_dirty(item.site_id, (
			SELECT array_agg(DISTINCT v.tariff_id) FROM submeter.tariff_version v
			WHERE v.site_id = item.site_id AND jsonb_path_exists(v.definition, '$.periods[*].windows[*] ? (exists (@.days) || exists (@.flag))')),
			item.day::timestamp AT TIME ZONE item.time_zone);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.calendar_day_follow() IS
'Marks the accounts on tariffs whose windows look at the kind of day for settlement from the first day of the calendar that changed.';

CREATE FUNCTION submeter.site_cycle_keep() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside a statement that row-level security already let through.
	IF (NEW.cycle_day, NEW.time_zone) IS DISTINCT FROM (OLD.cycle_day, OLD.time_zone)
		AND EXISTS (SELECT FROM submeter.charge c WHERE c.site_id = OLD.site_id)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('billing cycles of site %s cannot be moved once something is charged', OLD.code),
			DETAIL = 'The day on which billing cycles begin and the time zone decide to which cycle energy belongs.',
			HINT = 'Leave cycle_day and time_zone as they are; a new site may begin with others.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.site_cycle_keep() IS 'Keeps the billing cycles of a site where they are once something is charged (55000).';

-- The machinery in C. Functions that end in _of take the site's time zone, which the others look up.

-- Plans over many partitions look dear enough to compile, which takes longer than to run them: no jit where readings are streamed.
CREATE FUNCTION submeter.settle_site(site_id int, time_zone text, as_of timestamptz) RETURNS bigint
LANGUAGE c STRICT SET jit = off AS 'MODULE_PATHNAME', 'submeter_settle_site';
COMMENT ON FUNCTION submeter.settle_site(int, text, timestamptz) IS
'Settles what is new at one site up to as_of and returns the number of intervals; the caller holds the site''s duty_state row.';

CREATE FUNCTION submeter.rebuild_charges_of(site_id int, time_zone text, account_id bigint, as_of timestamptz, known_at timestamptz)
RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, amount numeric, rounded numeric)
LANGUAGE c STRICT SET jit = off AS 'MODULE_PATHNAME', 'submeter_rebuild_charges';
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

CREATE FUNCTION submeter.rate_charges_of(site_id int, time_zone text, account_ids bigint[], tariff_ids bigint[], cycle_starts timestamptz[]) RETURNS int
LANGUAGE c STRICT SET jit = off AS 'MODULE_PATHNAME', 'submeter_rate_charges';
COMMENT ON FUNCTION submeter.rate_charges_of(int, text, bigint[], bigint[], timestamptz[]) IS 'See rate_charges().';

CREATE FUNCTION submeter.rate_charges(site_id int, account_ids bigint[], tariff_ids bigint[], cycle_starts timestamptz[]) RETURNS int
LANGUAGE sql STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.rate_charges_of(s.site_id, s.time_zone, rate_charges.account_ids, rate_charges.tariff_ids, rate_charges.cycle_starts)
	FROM submeter.site s WHERE s.site_id = rate_charges.site_id
$$;
COMMENT ON FUNCTION submeter.rate_charges(int, bigint[], bigint[], timestamptz[]) IS
'Rates charges again as they stand in the table, after final was set for instance, and later ones whose tier position changes with them; returns how many. The caller holds the site''s duty_state row.';

CREATE FUNCTION submeter.charge_lines_of(site_id int, time_zone text, account_ids bigint[], tariff_ids bigint[], cycle_starts timestamptz[])
RETURNS TABLE (ord int, line int, component text, tier int, period text, version_from timestamptz, from_ts timestamptz, to_ts timestamptz,
	energy_wh bigint, price numeric, amount numeric)
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'submeter_charge_lines';
COMMENT ON FUNCTION submeter.charge_lines_of(int, text, bigint[], bigint[], timestamptz[]) IS 'See charge_lines().';

CREATE FUNCTION submeter.charge_lines(site_id int, account_ids bigint[], tariff_ids bigint[], cycle_starts timestamptz[])
RETURNS TABLE (ord int, line int, component text, tier int, period text, version_from timestamptz, from_ts timestamptz, to_ts timestamptz,
	energy_wh bigint, price numeric, amount numeric)
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.* FROM submeter.site s
	CROSS JOIN LATERAL submeter.charge_lines_of(s.site_id, s.time_zone, charge_lines.account_ids, charge_lines.tariff_ids, charge_lines.cycle_starts) l
	WHERE s.site_id = charge_lines.site_id
$$;
COMMENT ON FUNCTION submeter.charge_lines(int, bigint[], bigint[], timestamptz[]) IS
'The lines of stored charges, ord telling which; amounts add up to charge.rounded. energy_wh is Wh, of a demand line W; price is per kWh, kW, or one fee.';

CREATE FUNCTION submeter.charge_trace_of(site_id int, time_zone text, account_id bigint, tariff_id bigint, cycle_start timestamptz)
RETURNS TABLE (meter_id bigint, reading_from timestamptz, reading_to timestamptz, register_from_wh bigint, register_to_wh bigint, multiplier numeric,
	estimated boolean, from_ts timestamptz, to_ts timestamptz, energy_wh bigint, version_from timestamptz, period text, tier int)
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'submeter_charge_trace';
COMMENT ON FUNCTION submeter.charge_trace_of(int, text, bigint, bigint, timestamptz) IS 'See charge_trace().';

CREATE FUNCTION submeter.charge_trace(site_id int, account_id bigint, tariff_id bigint, cycle_start timestamptz)
RETURNS TABLE (meter_id bigint, reading_from timestamptz, reading_to timestamptz, register_from_wh bigint, register_to_wh bigint, multiplier numeric,
	estimated boolean, from_ts timestamptz, to_ts timestamptz, energy_wh bigint, version_from timestamptz, period text, tier int)
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.* FROM submeter.site s
	CROSS JOIN LATERAL submeter.charge_trace_of(s.site_id, s.time_zone, charge_trace.account_id, charge_trace.tariff_id, charge_trace.cycle_start) t
	WHERE s.site_id = charge_trace.site_id
$$;
COMMENT ON FUNCTION submeter.charge_trace(int, bigint, bigint, timestamptz) IS
'The energy of a charge back to its readings, in time order, with the period and tier each piece fell in; pieces add up to the lines of charge_lines().';

CREATE FUNCTION submeter.simulate_charges_of(site_id int, time_zone text, definition jsonb, from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, old numeric, new numeric)
LANGUAGE c STRICT SET jit = off AS 'MODULE_PATHNAME', 'submeter_simulate_charges';
COMMENT ON FUNCTION submeter.simulate_charges_of(int, text, jsonb, timestamptz, timestamptz) IS 'See simulate_charges().';

CREATE FUNCTION submeter.simulate_charges(site_id int, definition jsonb, from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (account_id bigint, tariff_id bigint, cycle_start timestamptz, energy_wh bigint, old numeric, new numeric)
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.* FROM submeter.site s
	CROSS JOIN LATERAL submeter.simulate_charges_of(s.site_id, s.time_zone, simulate_charges.definition, simulate_charges.from_ts, simulate_charges.to_ts) c
	WHERE s.site_id = simulate_charges.site_id
$$;
COMMENT ON FUNCTION submeter.simulate_charges(int, jsonb, timestamptz, timestamptz) IS
'What every account would have paid for its energy from from_ts to to_ts under another tariff, beside its own, per cycle; every cycle or part of one as closed, tiers beginning at from_ts. Stores nothing.';

CREATE FUNCTION submeter.simulate_tariff(site_id int, definition jsonb, from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (account_id bigint, account text, tenant text, kwh numeric, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('simulate_tariff', simulate_tariff.site_id);
	IF simulate_tariff.definition IS NULL OR simulate_tariff.from_ts IS NULL OR simulate_tariff.to_ts IS NULL
		OR NOT isfinite(simulate_tariff.from_ts) OR NOT isfinite(simulate_tariff.to_ts) OR simulate_tariff.from_ts >= simulate_tariff.to_ts
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a simulation needs a tariff and a time from one instant to a later one',
			HINT = 'Pass a definition as for create_tariff() and two points in time, such as the bounds of a month.';
	END IF;
	PERFORM submeter.check_tariff(simulate_tariff.definition);
	RETURN QUERY
	SELECT a.account_id, a.code, t.code, round(sum(c.energy_wh) * 0.001, 3), sum(c.old), sum(c.new), sum(c.new) - sum(c.old)
	FROM submeter.simulate_charges(simulate_tariff.site_id, simulate_tariff.definition, simulate_tariff.from_ts, simulate_tariff.to_ts) c
	JOIN submeter.account a ON a.site_id = simulate_tariff.site_id AND a.account_id = c.account_id
	JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	GROUP BY a.account_id, a.code, t.code
	ORDER BY a.account_id;
END
$$;
COMMENT ON FUNCTION submeter.simulate_tariff(int, jsonb, timestamptz, timestamptz) IS
'What every account would have paid from from_ts to to_ts under a tariff, what it pays under its own, and the difference; stores nothing.';

CREATE FUNCTION submeter.simulate_summary(site_id int, definition jsonb, from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (accounts bigint, winners bigint, losers bigint, kwh numeric, old numeric, new numeric, difference numeric, most_won numeric, most_lost numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('simulate_summary', simulate_summary.site_id);
	RETURN QUERY
	SELECT count(*), count(*) FILTER (WHERE s.difference < 0), count(*) FILTER (WHERE s.difference > 0), coalesce(sum(s.kwh), 0),
		coalesce(sum(s.old), 0), coalesce(sum(s.new), 0), coalesce(sum(s.difference), 0),
		coalesce(greatest(-min(s.difference), 0), 0), coalesce(greatest(max(s.difference), 0), 0)
	FROM submeter.simulate_tariff(simulate_summary.site_id, simulate_summary.definition, simulate_summary.from_ts, simulate_summary.to_ts) s;
END
$$;
COMMENT ON FUNCTION submeter.simulate_summary(int, jsonb, timestamptz, timestamptz) IS
'simulate_tariff() in one row: who would pay less, who more, and what it comes to.';

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
