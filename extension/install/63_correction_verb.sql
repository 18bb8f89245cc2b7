-- Room: correction. The verbs: what is checked before, and what each changes.

-- Setups.

CREATE FUNCTION submeter.setup_at(site_id int, meter_id bigint, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT to_jsonb(e) FROM submeter.meter_setup e
	WHERE e.site_id = setup_at.site_id AND e.meter_id = setup_at.meter_id AND e.valid_from <= setup_at.at
	ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.setup_at(int, bigint, timestamptz) IS 'The setup of a meter in force at a time, as an object; NULL when there is none.';

CREATE FUNCTION submeter.change_setup(site_id int, change jsonb, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	meter bigint := (change_setup.change ->> 'meter_id')::bigint;
	since timestamptz := (change_setup.change ->> 'valid_from')::timestamptz;
	suspect timestamptz;
BEGIN
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, register_modulus_wh, rated_current_a, rated_voltage_v, phases,
		parent_meter_id, unit_id, gap_after, gap_shape, entered_by, reason)
	SELECT change_setup.site_id, meter, since, coalesce(e.multiplier, 1), e.register_modulus_wh, e.rated_current_a, coalesce(e.rated_voltage_v, 220),
		coalesce(e.phases, 1), e.parent_meter_id, e.unit_id, coalesce(e.gap_after, '2 hours'), coalesce(e.gap_shape, 'time'), (submeter.me()).login,
		change_setup.reason
	FROM jsonb_populate_record(NULL::submeter.meter_setup,
		coalesce(submeter.setup_at(change_setup.site_id, meter, since), '{}') || (change_setup.change - '{meter_id,valid_from}'::text[])) e;
	-- Which readings can be right follows from the ratings.
	IF change_setup.change ?| '{register_modulus_wh,rated_current_a}' THEN
		FOR suspect IN
			SELECT DISTINCT q.ts FROM submeter.reading_suspect q
			WHERE q.site_id = change_setup.site_id AND q.meter_id = meter AND q.ts >= since AND q.state <> 'judged' AND q.rule IN ('backwards', 'jump')
			ORDER BY q.ts
		LOOP
			PERFORM submeter.refold(change_setup.site_id, meter, suspect);
		END LOOP;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.change_setup(int, jsonb, text) IS
'A new setup row from valid_from on: what was in force, with the named values changed.';

CREATE FUNCTION submeter.correct_setup(site_id int, meter_id bigint, valid_from timestamptz, reason text, dry_run boolean DEFAULT true,
	multiplier numeric DEFAULT NULL, register_modulus_wh bigint DEFAULT NULL, rated_current_a numeric DEFAULT NULL, gap_after interval DEFAULT NULL,
	gap_shape text DEFAULT NULL, instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	named jsonb := jsonb_strip_nulls(jsonb_build_object('multiplier', correct_setup.multiplier, 'register_modulus_wh', correct_setup.register_modulus_wh,
		'rated_current_a', correct_setup.rated_current_a, 'gap_after', correct_setup.gap_after, 'gap_shape', correct_setup.gap_shape));
	change jsonb;
BEGIN
	PERFORM submeter.authorize('correct_setup', correct_setup.site_id);
	PERFORM submeter.require_text('reason', correct_setup.reason);
	PERFORM submeter.require_past(correct_setup.valid_from, correct_setup.as_of, 'valid_from');
	IF NOT EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = correct_setup.site_id AND m.meter_id = correct_setup.meter_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no meter %s', correct_setup.site_id, coalesce(correct_setup.meter_id::text, 'NULL')),
			HINT = 'SELECT meter_id, code FROM submeter.meter lists the meters.';
	END IF;
	IF named = '{}' OR correct_setup.multiplier <= 0 OR correct_setup.multiplier = 'NaN' OR correct_setup.multiplier >= 100000000
		OR scale(trim_scale(correct_setup.multiplier)) > 4 OR correct_setup.register_modulus_wh <= 0 OR correct_setup.rated_current_a <= 0
		OR correct_setup.rated_current_a = 'NaN' OR correct_setup.rated_current_a >= 100000000 OR correct_setup.gap_after <= interval '0'
		OR correct_setup.gap_shape NOT IN ('time', 'week')
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a setup is not corrected like this',
			DETAIL = format('Named are %s.', named), HINT = 'Name at least one value, all above zero (gap_shape: time or week); a multiplier has at most 4 decimals.';
	END IF;
	change := jsonb_build_object('meter_id', correct_setup.meter_id, 'valid_from', correct_setup.valid_from) || named;
	IF submeter.setup_at(correct_setup.site_id, correct_setup.meter_id, correct_setup.valid_from) @> named THEN
		-- It is as it should be already.
		RETURN;
	END IF;
	IF NOT coalesce(correct_setup.dry_run, true) THEN
		PERFORM submeter.require_approval('correct_setup', correct_setup.site_id, change);
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(correct_setup.site_id, 'setup', change, correct_setup.reason, coalesce(correct_setup.dry_run, true),
		correct_setup.instalments, correct_setup.as_of);
END
$$;
COMMENT ON FUNCTION submeter.correct_setup(int, bigint, timestamptz, text, boolean, numeric, bigint, numeric, interval, text, int, timestamptz) IS
'A setup was entered wrongly: from valid_from until its next setup the meter has the named values. Returns what each account owed and owes per cycle; dry_run (the default) changes nothing. Net debits of prepaid accounts become debt, paid by instalments months if given. Passes the approval hook with {meter_id, valid_from, values named}, times in UTC. 22023 malformed, P0002 unknown meter.';

-- Supplies.

CREATE FUNCTION submeter.swap_supplies(site_id int, meter_id bigint, other_meter_id bigint, since timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	piece submeter.supply;
	pieces submeter.supply[];
BEGIN
	SELECT array_agg(y ORDER BY y.meter_id, y.during) INTO pieces FROM submeter.supply y
	WHERE y.site_id = swap_supplies.site_id AND y.meter_id IN (swap_supplies.meter_id, swap_supplies.other_meter_id)
		AND y.during && tstzrange(swap_supplies.since, NULL);
	-- First all of them make room, then each takes its place at the other meter: a meter feeds one account at a time.
	FOREACH piece IN ARRAY pieces
	LOOP
		IF lower(piece.during) < swap_supplies.since THEN
			UPDATE submeter.supply y SET during = tstzrange(lower(piece.during), swap_supplies.since), closing_wh = NULL
			WHERE y.site_id = piece.site_id AND y.supply_id = piece.supply_id;
		ELSE
			DELETE FROM submeter.supply y WHERE y.site_id = piece.site_id AND y.supply_id = piece.supply_id;
		END IF;
	END LOOP;
	FOREACH piece IN ARRAY pieces
	LOOP
		-- Registers that were read belong to the meter they were read at: they stay readings of that one.
		INSERT INTO submeter.supply (site_id, supply_id, account_id, meter_id, tariff_id, during, terms, created_by)
		SELECT piece.site_id,
			CASE WHEN lower(piece.during) < swap_supplies.since THEN nextval(pg_get_serial_sequence('submeter.supply', 'supply_id')) ELSE piece.supply_id END,
			piece.account_id, CASE piece.meter_id WHEN swap_supplies.meter_id THEN swap_supplies.other_meter_id ELSE swap_supplies.meter_id END,
			piece.tariff_id, piece.during * tstzrange(swap_supplies.since, NULL), piece.terms, (submeter.me()).login;
		UPDATE submeter.move_out o
		SET meter_ids = ARRAY(SELECT CASE m WHEN swap_supplies.meter_id THEN swap_supplies.other_meter_id WHEN swap_supplies.other_meter_id THEN swap_supplies.meter_id ELSE m END
			FROM unnest(o.meter_ids) m)
		WHERE o.site_id = piece.site_id AND o.account_id = piece.account_id AND o.state IN ('planned', 'waiting')
			AND piece.meter_id = ANY (o.meter_ids) AND o.at = upper(piece.during);
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.swap_supplies(int, bigint, bigint, timestamptz) IS
'From a time on what one meter was believed to feed is fed by the other, and the other way round; supplies that began before are cut there.';

CREATE FUNCTION submeter.swap_units(site_id int, meter_id bigint, other_meter_id bigint, since timestamptz, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changes jsonb[];
BEGIN
	-- At every time from which either had another setup; all of them are read before the first is written.
	SELECT array_agg(jsonb_build_object('meter_id', p.own, 'valid_from', t.valid_from, 'unit_id', x.theirs) ORDER BY t.valid_from, p.own) INTO changes
	FROM (VALUES (swap_units.meter_id, swap_units.other_meter_id), (swap_units.other_meter_id, swap_units.meter_id)) p(own, other)
	CROSS JOIN (
		SELECT swap_units.since AS valid_from
		UNION SELECT e.valid_from FROM submeter.meter_setup e
		WHERE e.site_id = swap_units.site_id AND e.meter_id IN (swap_units.meter_id, swap_units.other_meter_id) AND e.valid_from > swap_units.since) t
	CROSS JOIN LATERAL (
		SELECT submeter.setup_at(swap_units.site_id, p.own, t.valid_from) -> 'unit_id' AS ours,
			submeter.setup_at(swap_units.site_id, p.other, t.valid_from) -> 'unit_id' AS theirs) x
	WHERE coalesce(x.ours, 'null') <> coalesce(x.theirs, 'null');
	PERFORM submeter.change_setup(swap_units.site_id, c.change, swap_units.reason) FROM unnest(changes) WITH ORDINALITY c(change, ord) ORDER BY c.ord;
END
$$;
COMMENT ON FUNCTION submeter.swap_units(int, bigint, bigint, timestamptz, text) IS
'From a time on each of two meters stands for the unit the other was believed to: by new setups beside the old ones, and nothing where both have the same.';

CREATE FUNCTION submeter.correct_supply(site_id int, meter_id bigint, other_meter_id bigint, since timestamptz, reason text, dry_run boolean DEFAULT true,
	instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	pair jsonb;
BEGIN
	PERFORM submeter.authorize('correct_supply', correct_supply.site_id);
	PERFORM submeter.require_text('reason', correct_supply.reason);
	PERFORM submeter.require_past(correct_supply.since, correct_supply.as_of, 'since');
	IF correct_supply.meter_id = correct_supply.other_meter_id OR NOT isfinite(correct_supply.since) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'two different meters are crossed since a date',
			DETAIL = format('Meters %s and %s, since %s.', correct_supply.meter_id, correct_supply.other_meter_id, correct_supply.since),
			HINT = 'For example correct_supply(1, meter_id, other_meter_id, ''2026-01-15'', ''wires crossed'').';
	END IF;
	PERFORM FROM submeter.duty_state d WHERE d.site_id = correct_supply.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.lock_meter(correct_supply.site_id, m) FROM unnest(ARRAY[correct_supply.meter_id, correct_supply.other_meter_id]) m ORDER BY m;
	IF NOT EXISTS (SELECT FROM submeter.supply y WHERE y.site_id = correct_supply.site_id
		AND y.meter_id IN (correct_supply.meter_id, correct_supply.other_meter_id) AND y.during && tstzrange(correct_supply.since, NULL))
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('neither meter %s nor meter %s feeds anybody since %s', correct_supply.meter_id,
				correct_supply.other_meter_id, correct_supply.since), HINT = 'SELECT * FROM submeter.supply shows who is fed by what.';
	END IF;
	pair := jsonb_build_object('meter_id', least(correct_supply.meter_id, correct_supply.other_meter_id),
		'other_meter_id', greatest(correct_supply.meter_id, correct_supply.other_meter_id), 'since', correct_supply.since);
	-- Swapping twice is not swapping: the same call again finds that it was done.
	IF (SELECT (c.change, c.reason) = (pair, correct_supply.reason)
		FROM (SELECT x.change, x.reason FROM submeter.correction x
			WHERE x.site_id = correct_supply.site_id AND x.kind = 'supply' AND x.change -> 'meter_id' = pair -> 'meter_id'
				AND x.change -> 'other_meter_id' = pair -> 'other_meter_id'
			ORDER BY x.correction_id DESC LIMIT 1) c)
	THEN
		RETURN;
	END IF;
	IF NOT coalesce(correct_supply.dry_run, true) THEN
		PERFORM submeter.require_approval('correct_supply', correct_supply.site_id, pair);
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(correct_supply.site_id, 'supply', pair, correct_supply.reason, coalesce(correct_supply.dry_run, true),
		correct_supply.instalments, correct_supply.as_of);
END
$$;
COMMENT ON FUNCTION submeter.correct_supply(int, bigint, bigint, timestamptz, text, boolean, int, timestamptz) IS
'Two meters are crossed since a date: from then on each feeds what the other was believed to feed, and stands for its unit. Returns what each account owed and owes per cycle; dry_run (the default) changes nothing. The same call again, reason included, changes nothing; with another reason it swaps back. Passes the approval hook with {meter_id, other_meter_id, since}, the lower number first, times in UTC. 22023 malformed, 55000 nobody is fed, P0002 unknown meter.';

-- Tariffs and named prices.

CREATE FUNCTION submeter.correct_tariff(site_id int, code text, definition jsonb, valid_from timestamptz, reason text, dry_run boolean DEFAULT true,
	instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	wanted bigint;
	change jsonb;
BEGIN
	PERFORM submeter.authorize('correct_tariff', correct_tariff.site_id);
	PERFORM submeter.require_text('reason', correct_tariff.reason);
	PERFORM submeter.require_past(correct_tariff.valid_from, correct_tariff.as_of, 'valid_from');
	SELECT t.tariff_id INTO wanted FROM submeter.tariff t WHERE t.site_id = correct_tariff.site_id AND t.code = correct_tariff.code;
	IF wanted IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no tariff %s', correct_tariff.site_id, coalesce(correct_tariff.code, 'NULL')),
			HINT = 'SELECT code FROM submeter.tariff lists the tariffs; create_tariff() makes one.';
	END IF;
	IF correct_tariff.definition IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('tariff %s needs a definition', correct_tariff.code),
			HINT = 'Pass what it should have said from valid_from on.';
	END IF;
	PERFORM submeter.check_tariff(correct_tariff.definition);
	IF correct_tariff.definition = (
		SELECT v.definition FROM submeter.tariff_version v
		WHERE v.site_id = correct_tariff.site_id AND v.tariff_id = wanted AND v.valid_from = correct_tariff.valid_from
		ORDER BY v.revision DESC LIMIT 1)
	THEN
		RETURN;
	END IF;
	change := jsonb_build_object('tariff_id', wanted, 'definition', correct_tariff.definition, 'valid_from', correct_tariff.valid_from);
	IF NOT coalesce(correct_tariff.dry_run, true) THEN
		PERFORM submeter.require_approval('correct_tariff', correct_tariff.site_id, jsonb_build_object('code', correct_tariff.code,
			'definition', correct_tariff.definition, 'valid_from', correct_tariff.valid_from));
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(correct_tariff.site_id, 'tariff', change, correct_tariff.reason, coalesce(correct_tariff.dry_run, true),
		correct_tariff.instalments, correct_tariff.as_of);
END
$$;
COMMENT ON FUNCTION submeter.correct_tariff(int, text, jsonb, timestamptz, text, boolean, int, timestamptz) IS
'A tariff should have said something else from a past time until its next version: a new revision of the version from then, or a version in between. Returns what each account owed and owes per cycle, former tenants included; dry_run (the default) changes nothing. Passes the approval hook with {code, definition, valid_from}, times in UTC. 22023 malformed, P0002 unknown tariff.';

CREATE FUNCTION submeter.correct_price(site_id int, name text, price numeric, valid_from timestamptz, reason text, dry_run boolean DEFAULT true,
	instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	change jsonb := jsonb_build_object('name', correct_price.name, 'price', correct_price.price, 'valid_from', correct_price.valid_from);
BEGIN
	PERFORM submeter.authorize('correct_price', correct_price.site_id);
	PERFORM submeter.require_text('reason', correct_price.reason);
	PERFORM submeter.require_past(correct_price.valid_from, correct_price.as_of, 'valid_from');
	IF NOT EXISTS (SELECT FROM submeter.price_item p WHERE p.site_id = correct_price.site_id AND p.name = correct_price.name) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no price %s', correct_price.site_id, coalesce(correct_price.name, 'NULL')),
			HINT = 'SELECT DISTINCT name FROM submeter.price_item lists the named prices; load_prices() adds some.';
	END IF;
	IF correct_price.price IS NULL OR NOT correct_price.price BETWEEN 0 AND 1000000 OR scale(trim_scale(correct_price.price)) > 8
		OR NOT isfinite(correct_price.valid_from)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a price', coalesce(correct_price.price::text, 'NULL')),
			DETAIL = 'A price is from 0 to 1000000 with at most 8 decimals, from a time on.', HINT = 'Pass the price the tariffs should have used.';
	END IF;
	IF correct_price.price = (
		SELECT p.price FROM submeter.price_item p
		WHERE p.site_id = correct_price.site_id AND p.name = correct_price.name AND p.valid_from = correct_price.valid_from
		ORDER BY p.revision DESC LIMIT 1)
	THEN
		RETURN;
	END IF;
	IF NOT coalesce(correct_price.dry_run, true) THEN
		PERFORM submeter.require_approval('correct_price', correct_price.site_id, jsonb_build_object('name', correct_price.name,
			'price', correct_price.price, 'valid_from', correct_price.valid_from));
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(correct_price.site_id, 'price', change, correct_price.reason, coalesce(correct_price.dry_run, true),
		correct_price.instalments, correct_price.as_of);
END
$$;
COMMENT ON FUNCTION submeter.correct_price(int, text, numeric, timestamptz, text, boolean, int, timestamptz) IS
'A named price should have been another one from a past time until its next one, for all tariffs that refer to it. Returns what each account owed and owes per cycle, former tenants included; dry_run (the default) changes nothing. Passes the approval hook with {name, price, valid_from}, times in UTC. 22023 malformed, P0002 unknown name.';

-- Readings.

CREATE FUNCTION submeter.judge_reading(site_id int, meter_id bigint, ts timestamptz, verdict text, reason text, energy_wh bigint, dry_run boolean,
	instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	change jsonb := jsonb_build_object('meter_id', judge_reading.meter_id, 'ts', judge_reading.ts, 'verdict', judge_reading.verdict, 'energy_wh', judge_reading.energy_wh);
BEGIN
	PERFORM submeter.authorize('judge_reading', judge_reading.site_id);
	PERFORM submeter.check_verdict(judge_reading.site_id, judge_reading.meter_id, judge_reading.ts, judge_reading.verdict, judge_reading.reason,
		judge_reading.energy_wh);
	IF NOT coalesce(judge_reading.dry_run, true) THEN
		PERFORM submeter.require_approval('judge_reading', judge_reading.site_id,
			jsonb_build_object('meter_id', judge_reading.meter_id, 'ts', judge_reading.ts, 'verdict', judge_reading.verdict));
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(judge_reading.site_id, 'verdict', change, judge_reading.reason, coalesce(judge_reading.dry_run, true),
		judge_reading.instalments, judge_reading.as_of);
END
$$;
COMMENT ON FUNCTION submeter.judge_reading(int, bigint, timestamptz, text, text, bigint, boolean, int, timestamptz) IS
'judge_reading() that settles at once and returns what each account owed and owes per cycle; with dry_run true it changes nothing. A net debit of a prepaid account becomes debt, so that it never trips. 22023 bad verdict or register, P0002 no such reading.';

-- Final registers.

CREATE FUNCTION submeter.write_final_register(site_id int, meter_id bigint, at timestamptz, closing_wh bigint, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM submeter.reading r
		WHERE r.site_id = write_final_register.site_id AND r.meter_id = write_final_register.meter_id AND r.ts = write_final_register.at)
	THEN
		PERFORM submeter.write_verdict(write_final_register.site_id, write_final_register.meter_id, write_final_register.at, 'replace',
			write_final_register.reason, write_final_register.closing_wh);
	ELSE
		-- A reading at the time of an estimate makes it vanish.
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, source)
		VALUES (write_final_register.site_id, write_final_register.meter_id, write_final_register.at, write_final_register.closing_wh, 'final');
	END IF;
	UPDATE submeter.supply y SET closing_wh = write_final_register.closing_wh
	WHERE y.site_id = write_final_register.site_id AND y.meter_id = write_final_register.meter_id AND upper(y.during) = write_final_register.at;
END
$$;
COMMENT ON FUNCTION submeter.write_final_register(int, bigint, timestamptz, bigint, text) IS
'The register a meter had when it was taken out, as a reading, or as a verdict on the one there is.';

CREATE FUNCTION submeter.correct_final_register(site_id int, meter_id bigint, closing_wh bigint, reason text, dry_run boolean DEFAULT true,
	instalments int DEFAULT NULL, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	gone record;
	known bigint;
	before timestamptz;
	change jsonb;
BEGIN
	PERFORM submeter.authorize('correct_final_register', correct_final_register.site_id);
	PERFORM submeter.require_text('reason', correct_final_register.reason);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = correct_final_register.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.lock_meter(correct_final_register.site_id, correct_final_register.meter_id);
	SELECT m.code, m.retired_at, s.max_power_w, s.register_modulus_wh INTO gone
	FROM submeter.meter m
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	WHERE m.site_id = correct_final_register.site_id AND m.meter_id = correct_final_register.meter_id;
	IF gone.retired_at IS NULL OR gone.retired_at > correct_final_register.as_of THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s has not been taken out', gone.code),
			DETAIL = 'A final register is that of a meter that was replaced.', HINT = 'Have it read, or judge its readings with judge_reading().';
	END IF;
	IF correct_final_register.closing_wh IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the final register of meter %s is missing', gone.code),
			HINT = 'Pass closing_wh as it was read at the bench: in Wh, before the multiplier.';
	END IF;
	known := submeter.counted_wh(correct_final_register.site_id, correct_final_register.meter_id, gone.retired_at);
	IF known = correct_final_register.closing_wh THEN
		-- It is as it should be already.
		RETURN;
	END IF;
	before := submeter.valid_before(correct_final_register.site_id, correct_final_register.meter_id, gone.retired_at);
	IF known IS NULL THEN
		PERFORM submeter.require_register(correct_final_register.site_id, correct_final_register.meter_id, gone.retired_at, correct_final_register.closing_wh);
	ELSIF correct_final_register.closing_wh < 0 OR correct_final_register.closing_wh >= 100000000000000 OR before IS NOT NULL
		AND NOT submeter.is_plausible(gone.max_power_w, gone.register_modulus_wh, before,
			submeter.counted_wh(correct_final_register.site_id, correct_final_register.meter_id, before), gone.retired_at, correct_final_register.closing_wh)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s Wh cannot be the final register of meter %s', correct_final_register.closing_wh, gone.code),
			DETAIL = format('It read %s Wh at %s.', submeter.counted_wh(correct_final_register.site_id, correct_final_register.meter_id, before), before),
			HINT = 'Look at the meter again; a wrong earlier reading is withdrawn or replaced with judge_reading().';
	END IF;
	change := jsonb_build_object('meter_id', correct_final_register.meter_id, 'at', gone.retired_at, 'closing_wh', correct_final_register.closing_wh);
	IF NOT coalesce(correct_final_register.dry_run, true) THEN
		PERFORM submeter.require_approval('correct_final_register', correct_final_register.site_id,
			jsonb_build_object('meter_id', correct_final_register.meter_id, 'closing_wh', correct_final_register.closing_wh));
	END IF;
	RETURN QUERY SELECT * FROM submeter.run_correction(correct_final_register.site_id, 'final', change, correct_final_register.reason,
		coalesce(correct_final_register.dry_run, true), correct_final_register.instalments, correct_final_register.as_of);
END
$$;
COMMENT ON FUNCTION submeter.correct_final_register(int, bigint, bigint, text, boolean, int, timestamptz) IS
'A meter that was replaced has been read at the bench: its final register in place of the estimate, or of the one that was typed. Returns what each account owed and owes per cycle; dry_run (the default) changes nothing. Net debits of prepaid accounts become debt, paid by instalments months if given. Passes the approval hook with {meter_id, closing_wh}. 22023 a register it cannot have, 55000 not taken out, P0002 unknown meter.';
