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

CREATE FUNCTION submeter.load_meter_models() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.meter_model AS m (model, vendor, phases, max_registers, max_gap, turnaround_ms, note, builtin) VALUES
		('DDS238-2 ZN/SR', 'Hiking', 1, 30, 10, 0, 'Prepaid meter with relay; the relay takes FC16 only. Writing the energy register clears it: never done.', true),
		('DTSY1352', 'Acrel', 3, 50, 16, 0, 'Prepaid meter; forced relay control, no relay register known: power and current are the evidence. Other registers of the family are not confirmed.', true),
		('Sfere prepaid', 'Sfere', 3, 50, 16, 0, 'Prepaid meter; scale taken over from the Acrel path of the same source, to be checked on site. No relay register known.', true),
		('LX47LE-125', 'Lingxun', 1, 24, 4, 0, 'Smart breaker without energy register; its high status byte 01 is a local lock.', true),
		('SDM120', 'Eastron', 1, 80, 20, 0, 'No breaker.', true),
		('SDM630', 'Eastron', 3, 80, 20, 0, 'No breaker.', true),
		('DDSU666', 'Chint', 1, 60, 20, 0, 'No breaker. Power is in kW.', true),
		('DTSD1352', 'Acrel', 3, 60, 20, 0, 'No breaker. Secondary values: multiplier = CT x PT.', true)
	ON CONFLICT (model) DO UPDATE SET vendor = EXCLUDED.vendor, phases = EXCLUDED.phases, max_registers = EXCLUDED.max_registers,
		max_gap = EXCLUDED.max_gap, turnaround_ms = EXCLUDED.turnaround_ms, note = EXCLUDED.note
	WHERE m.builtin;

	DELETE FROM submeter.meter_point p USING submeter.meter_model m WHERE m.model = p.model AND m.builtin;
	INSERT INTO submeter.meter_point (model, metric, function, address, type, scale, bit_mask, closed_value, open_value, source)
	SELECT v.* FROM (VALUES
		('DDS238-2 ZN/SR', 'energy_wh', 3, 10, 'u32be', 10, 65535, NULL::int, NULL::int, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'v_a', 3, 12, 'u16', 0.1, 65535, NULL, NULL, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'i_a', 3, 13, 'u16', 0.01, 65535, NULL, NULL, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'power_w', 3, 14, 'i16', 1, 65535, NULL, NULL, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'power_factor', 3, 16, 'u16', 0.001, 65535, NULL, NULL, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'frequency_hz', 3, 17, 'u16', 0.01, 65535, NULL, NULL, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'relay', 3, 26, 'u16', 1, 65535, 1, 0, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DTSY1352', 'energy_wh', 3, 0, 'u32be', 10, 65535, NULL, NULL, 'jerryxiaosa/ems4j'),
		('Sfere prepaid', 'energy_wh', 3, 115, 'u32be', 10, 65535, NULL, NULL, 'jerryxiaosa/ems4j'),
		('LX47LE-125', 'relay', 4, 0, 'u16', 1, 255, 240, 15, 'public source, tried on the device'),
		('LX47LE-125', 'frequency_hz', 4, 4, 'u16', 0.01, 65535, NULL, NULL, 'public source, tried on the device'),
		('LX47LE-125', 'i_leak_ma', 4, 5, 'u16', 1, 65535, NULL, NULL, 'public source, tried on the device'),
		('LX47LE-125', 'temperature_c', 4, 7, 'u16', 1, 65535, NULL, NULL, 'public source, tried on the device'),
		('LX47LE-125', 'v_a', 4, 8, 'u16', 1, 65535, NULL, NULL, 'public source, tried on the device'),
		('LX47LE-125', 'i_a', 4, 9, 'u16', 0.01, 65535, NULL, NULL, 'public source, tried on the device'),
		('LX47LE-125', 'power_w', 4, 11, 'u16', 1, 65535, NULL, NULL, 'public source, tried on the device'),
		('SDM120', 'v_a', 4, 0, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM120', 'i_a', 4, 6, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM120', 'power_w', 4, 12, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM120', 'power_factor', 4, 30, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM120', 'frequency_hz', 4, 70, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM120', 'energy_wh', 4, 72, 'f32be', 1000, 65535, NULL, NULL, 'volkszaehler/mbmd sdm120.go'),
		('SDM630', 'v_a', 4, 0, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'v_b', 4, 2, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'v_c', 4, 4, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'i_a', 4, 6, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'i_b', 4, 8, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'i_c', 4, 10, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'power_a_w', 4, 12, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'power_b_w', 4, 14, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'power_c_w', 4, 16, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'power_w', 4, 52, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'frequency_hz', 4, 70, 'f32be', 1, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('SDM630', 'energy_wh', 4, 72, 'f32be', 1000, 65535, NULL, NULL, 'volkszaehler/mbmd sdm.go'),
		('DDSU666', 'v_a', 3, 8192, 'f32be', 1, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DDSU666', 'i_a', 3, 8194, 'f32be', 1, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DDSU666', 'power_w', 3, 8196, 'f32be', 1000, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DDSU666', 'power_factor', 3, 8202, 'f32be', 1, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DDSU666', 'frequency_hz', 3, 8206, 'f32be', 1, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DDSU666', 'energy_wh', 3, 16384, 'f32be', 1000, 65535, NULL, NULL, 'OpenEMS chint.ddsu666 and a public device file'),
		('DTSD1352', 'energy_wh', 3, 0, 'u32be', 10, 65535, NULL, NULL, 'public source; shares the family''s total register')
	) v;

	DELETE FROM submeter.meter_switch s USING submeter.meter_model m WHERE m.model = s.model AND m.builtin;
	INSERT INTO submeter.meter_switch (model, action, function, address, registers, settle_ms, source) VALUES
		('DDS238-2 ZN/SR', 'open', 16, 26, '{0}', 2000, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DDS238-2 ZN/SR', 'close', 16, 26, '{1}', 2000, 'e-tinkers/Modbus-RTU DDS238 README'),
		('DTSY1352', 'open', 16, 87, '{1,1}', 5000, 'jerryxiaosa/ems4j'),
		('DTSY1352', 'close', 16, 87, '{1,0}', 5000, 'jerryxiaosa/ems4j'),
		('Sfere prepaid', 'open', 16, 2853, '{2}', 5000, 'jerryxiaosa/ems4j'),
		('Sfere prepaid', 'close', 16, 2853, '{1}', 5000, 'jerryxiaosa/ems4j'),
		('LX47LE-125', 'open', 6, 13, '{0}', 3000, 'public source, tried on the device'),
		('LX47LE-125', 'close', 6, 13, '{65280}', 3000, 'public source, tried on the device');
$$;
COMMENT ON FUNCTION submeter.load_meter_models() IS
'Writes the built-in meter models, their points and switch instructions; users'' own models are not touched.';
