-- Room: archives. Triggers that keep derived facts in step, and the built-in meter models.

CREATE FUNCTION submeter.is_time_zone(name text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Bare offsets such as '+8' would silently miss daylight saving; the trade writes IANA names.
	RETURN is_time_zone.name ~ '^[A-Za-z]' AND timezone(is_time_zone.name, 'epoch'::timestamptz) IS NOT NULL;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN false;
END
$$;
COMMENT ON FUNCTION submeter.is_time_zone(text) IS 'True for a time zone name the server knows.';

CREATE FUNCTION submeter.account_furnish() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside an INSERT that row-level security already let through.
	INSERT INTO submeter.ledger_account (site_id, code, kind, account_id)
	VALUES (NEW.site_id, 'tenant:' || NEW.account_id::text, 'tenant', NEW.account_id)
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.account_state (site_id, account_id)
	VALUES (NEW.site_id, NEW.account_id)
	ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.account_furnish() IS 'Gives a new account its ledger account and its state row.';

CREATE FUNCTION submeter.mark_dirty(site_id int, meter_id bigint, from_ts timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- When everything noted before is settled, the mark starts afresh instead of reaching ever further back.
	INSERT INTO submeter.meter_dirty AS d (site_id, meter_id, from_ts)
	VALUES (mark_dirty.site_id, mark_dirty.meter_id, mark_dirty.from_ts)
	ON CONFLICT ON CONSTRAINT meter_dirty_pkey DO UPDATE
	SET from_ts = CASE WHEN d.seq <= (SELECT t.seq FROM submeter.meter_settled t WHERE t.site_id = d.site_id AND t.meter_id = d.meter_id)
			THEN EXCLUDED.from_ts ELSE least(d.from_ts, EXCLUDED.from_ts) END,
		seq = d.seq + 1
$$;
COMMENT ON FUNCTION submeter.mark_dirty(int, bigint, timestamptz) IS
'Notes that a meter must be settled again from from_ts on, because a fact behind what is settled changed.';

CREATE FUNCTION submeter.mark_charge_dirty(site_id int, account_id bigint, tariff_id bigint, from_ts timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.charge_dirty AS d (site_id, account_id, tariff_id, from_ts)
	VALUES (mark_charge_dirty.site_id, mark_charge_dirty.account_id, mark_charge_dirty.tariff_id, mark_charge_dirty.from_ts)
	ON CONFLICT ON CONSTRAINT charge_dirty_pkey DO UPDATE SET from_ts = least(d.from_ts, EXCLUDED.from_ts)
$$;
COMMENT ON FUNCTION submeter.mark_charge_dirty(int, bigint, bigint, timestamptz) IS
'Notes that what an account owes on a tariff is to be computed anew from from_ts on.';

CREATE FUNCTION submeter.supply_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside a statement that row-level security already let through.
	IF TG_OP <> 'DELETE' AND NEW.opening_wh IS NOT NULL THEN
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, source)
		VALUES (NEW.site_id, NEW.meter_id, lower(NEW.during), NEW.opening_wh, 'manual')
		ON CONFLICT DO NOTHING;
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.closing_wh IS NOT NULL AND NOT upper_inf(NEW.during) THEN
		INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, source)
		VALUES (NEW.site_id, NEW.meter_id, upper(NEW.during), NEW.closing_wh, 'final')
		ON CONFLICT DO NOTHING;
	END IF;
	IF TG_OP <> 'INSERT' THEN
		PERFORM submeter.mark_dirty(OLD.site_id, OLD.meter_id, lower(OLD.during));
		-- The account may not be reached from the meter any more: what it was charged is to be computed anew all the same.
		PERFORM submeter.mark_charge_dirty(OLD.site_id, OLD.account_id, OLD.tariff_id, lower(OLD.during));
	END IF;
	IF TG_OP <> 'DELETE' THEN
		PERFORM submeter.mark_dirty(NEW.site_id, NEW.meter_id, lower(NEW.during));
		-- A tariff that grows with time alone is owed though the meter may never be read.
		INSERT INTO submeter.charge_dirty AS d (site_id, account_id, tariff_id, from_ts)
		SELECT NEW.site_id, NEW.account_id, NEW.tariff_id, lower(NEW.during)
		WHERE EXISTS (SELECT FROM submeter.tariff_version v
			WHERE v.site_id = NEW.site_id AND v.tariff_id = NEW.tariff_id AND v.definition ?| '{fees,demand}')
		ON CONFLICT ON CONSTRAINT charge_dirty_pkey DO UPDATE SET from_ts = least(d.from_ts, EXCLUDED.from_ts);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.supply_follow() IS
'Turns opening and closing registers of a supply into readings and marks its meter, and the account it fed, for settlement.';

CREATE FUNCTION submeter.meter_setup_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	changed submeter.meter_setup;
BEGIN
	changed := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
	INSERT INTO submeter.meter_state AS s (site_id, meter_id, max_power_w, register_modulus_wh)
	SELECT changed.site_id, changed.meter_id, max(e.rated_current_a * e.rated_voltage_v * e.phases),
		(array_agg(e.register_modulus_wh ORDER BY e.valid_from DESC, e.entered_at DESC))[1]
	FROM submeter.meter_setup e
	WHERE e.site_id = changed.site_id AND e.meter_id = changed.meter_id
	ON CONFLICT ON CONSTRAINT meter_state_pkey DO UPDATE
	SET max_power_w = EXCLUDED.max_power_w, register_modulus_wh = EXCLUDED.register_modulus_wh;
	PERFORM submeter.mark_dirty(changed.site_id, changed.meter_id,
		CASE WHEN TG_OP = 'UPDATE' THEN least(OLD.valid_from, NEW.valid_from) ELSE changed.valid_from END)
	WHERE EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = changed.site_id AND r.meter_id = changed.meter_id);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.meter_setup_follow() IS
'Keeps the limits of plausible readings in meter_state and marks the meter for settlement from the date from which its setup changed.';

CREATE FUNCTION submeter.tariff_version_check() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.check_tariff(NEW.definition, submeter.named_prices(NEW.site_id, NEW.valid_from));
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.tariff_version_check() IS 'Refuses a tariff version whose definition is not right, or names prices that have no value when it begins (see check_tariff).';

CREATE FUNCTION submeter.tariff_version_keep() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside a statement that row-level security already let through.
	IF EXISTS (
		SELECT FROM submeter.charge c
		WHERE c.site_id = OLD.site_id AND c.tariff_id = OLD.tariff_id AND c.energy_wh <> 0
			AND OLD.valid_from < c.settled_to
			AND NOT EXISTS (
				SELECT FROM submeter.tariff_version n
				WHERE n.site_id = OLD.site_id AND n.tariff_id = OLD.tariff_id
					AND n.valid_from > OLD.valid_from AND n.valid_from <= c.cycle_start))
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('tariff version of %s priced energy already and cannot be changed', OLD.valid_from),
			HINT = 'Add a successor with create_tariff(); a retroactive one makes adjustments.';
	END IF;
	RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION submeter.tariff_version_keep() IS 'Keeps tariff versions that priced anything as they are (55000).';

CREATE FUNCTION submeter.tariff_version_dirty() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	changed submeter.tariff_version;
BEGIN
	changed := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
	PERFORM submeter.mark_tariffs_dirty(changed.site_id, ARRAY[changed.tariff_id],
		CASE WHEN TG_OP = 'UPDATE' THEN least(OLD.valid_from, NEW.valid_from) ELSE changed.valid_from END);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.tariff_version_dirty() IS 'Marks the accounts on a tariff for settlement from the date from which its price changed.';

CREATE FUNCTION submeter.allowance_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: runs inside a statement that row-level security already let through.
	IF TG_OP <> 'INSERT' THEN
		PERFORM submeter.mark_charge_dirty(OLD.site_id, OLD.account_id, OLD.tariff_id, lower(OLD.during));
	END IF;
	IF TG_OP <> 'DELETE' THEN
		PERFORM submeter.mark_charge_dirty(NEW.site_id, NEW.account_id, NEW.tariff_id, lower(NEW.during));
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.allowance_follow() IS 'Marks the account of an allowance for settlement from its start on.';

CREATE FUNCTION submeter.register_estimate_follow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: only verbs write estimates.
	PERFORM submeter.mark_dirty(NEW.site_id, NEW.meter_id, NEW.ts);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.register_estimate_follow() IS 'Marks the meter of an estimate for settlement.';
