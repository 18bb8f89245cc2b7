-- Room: account, a new meter in the place of an old one. Lock order: see 62_account.sql.

CREATE FUNCTION submeter.replace_meter(site_id int, meter_id bigint, new_meter_id bigint, at timestamptz, opening_wh bigint, reason text,
	closing_wh bigint DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old submeter.meter;
	new submeter.meter;
	assumed bigint;
BEGIN
	PERFORM submeter.authorize('replace_meter', replace_meter.site_id);
	PERFORM submeter.require_text('reason', replace_meter.reason);
	PERFORM submeter.require_instant(replace_meter.at, 'replace_meter');
	PERFORM submeter.lock_meter(replace_meter.site_id, m) FROM unnest(ARRAY[replace_meter.meter_id, replace_meter.new_meter_id]) m ORDER BY m;
	SELECT m.* INTO STRICT old FROM submeter.meter m WHERE m.site_id = replace_meter.site_id AND m.meter_id = replace_meter.meter_id;
	SELECT m.* INTO STRICT new FROM submeter.meter m WHERE m.site_id = replace_meter.site_id AND m.meter_id = replace_meter.new_meter_id;
	IF old.retired_at = replace_meter.at AND submeter.counted_wh(new.site_id, new.meter_id, replace_meter.at) = replace_meter.opening_wh THEN
		RETURN;
	END IF;
	IF replace_meter.opening_wh IS NULL OR old.meter_id = new.meter_id OR replace_meter.at > replace_meter.as_of
		OR EXISTS (SELECT FROM submeter.meter_setup e WHERE e.site_id = old.site_id
			AND (e.meter_id, e.parent_meter_id) IN ((old.meter_id, new.meter_id), (new.meter_id, old.meter_id)))
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('meter %s is not replaced like this', old.code),
			DETAIL = 'A replacement is another meter, neither above nor below the old one, with the register it shows; and it has happened.',
			HINT = 'For example replace_meter(1, old_id, new_id, now(), 0, ''display dead'').';
	END IF;
	IF old.retired_at IS NOT NULL OR new.retired_at IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s is out of service', CASE WHEN old.retired_at IS NOT NULL THEN old.code ELSE new.code END),
			HINT = 'A retired meter is not replaced, and does not replace another.';
	END IF;
	PERFORM submeter.require_free(new.site_id, ARRAY[new.meter_id], replace_meter.at, NULL);
	PERFORM submeter.require_register(old.site_id, old.meter_id, replace_meter.at, replace_meter.closing_wh);
	PERFORM submeter.require_register(new.site_id, new.meter_id, replace_meter.at, replace_meter.opening_wh);
	PERFORM submeter.take_over_setup(old.site_id, old.meter_id, new.meter_id, replace_meter.at, replace_meter.reason);
	INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh, source)
	SELECT old.site_id, x.meter_id, replace_meter.at, x.wh, x.source
	FROM (VALUES (old.meter_id, replace_meter.closing_wh, 'final'), (new.meter_id, replace_meter.opening_wh, 'manual')) x(meter_id, wh, source)
	WHERE x.wh IS NOT NULL
	ON CONFLICT DO NOTHING;
	IF NOT submeter.has_final_reading(old.site_id, old.meter_id, replace_meter.at) THEN
		-- A dead meter cannot be read any more: what it would have counted since its last reading is assumed, and marked.
		assumed := submeter.closing_estimate(old.site_id, old.meter_id, replace_meter.at);
		INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason, by)
		SELECT old.site_id, old.meter_id, replace_meter.at, assumed, replace_meter.reason, (submeter.me()).login
		WHERE assumed IS NOT NULL
		ON CONFLICT ON CONSTRAINT register_estimate_site_id_meter_id_ts_key DO NOTHING;
	END IF;
	PERFORM submeter.take_over_supplies(old.site_id, old.meter_id, new.meter_id, replace_meter.at, replace_meter.closing_wh, replace_meter.opening_wh);
	UPDATE submeter.meter m SET retired_at = replace_meter.at WHERE m.site_id = old.site_id AND m.meter_id = old.meter_id;
	-- What the old meter fed for life and limb, the new one feeds.
	UPDATE submeter.meter m SET protection = old.protection, role = old.role
	WHERE m.site_id = new.site_id AND m.meter_id = new.meter_id AND (m.protection = 'none' AND old.protection <> 'none' OR m.role <> old.role);
	PERFORM submeter.take_over_causes(old.site_id, old.meter_id, new.meter_id, replace_meter.reason, replace_meter.as_of);
END
$$;
COMMENT ON FUNCTION submeter.replace_meter(int, bigint, bigint, timestamptz, bigint, text, bigint, timestamptz) IS
'A new meter in the place of an old one from at on: supplies (with tariff, terms and tier position), setup, children, protection and open causes go over; the old one is retired. opening_wh: register of the new meter; closing_wh: of the old one, else from the readings around, else estimated from its last ones and marked. 22023 register, times or the same meter; 55000 retired, or the new one feeds somebody; P0002 unknown. The new meter has to be put into service (commission_meter) before a rule opens its breaker. The same call again changes nothing.';

CREATE FUNCTION submeter.take_over_setup(site_id int, meter_id bigint, new_meter_id bigint, at timestamptz, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old submeter.meter_setup;
	own submeter.meter_setup;
BEGIN
	SELECT e.* INTO old FROM submeter.meter_setup e
	WHERE e.site_id = take_over_setup.site_id AND e.meter_id = take_over_setup.meter_id AND e.valid_from <= take_over_setup.at
	ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1;
	SELECT e.* INTO own FROM submeter.meter_setup e
	WHERE e.site_id = take_over_setup.site_id AND e.meter_id = take_over_setup.new_meter_id AND e.valid_from <= take_over_setup.at
	ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1;
	-- A meter nobody has described sits behind the same transformers as the old one; where it sits is certain in any case.
	IF old.site_id IS NOT NULL AND (own.site_id IS NULL OR (own.unit_id, own.parent_meter_id) IS DISTINCT FROM (coalesce(own.unit_id, old.unit_id), coalesce(own.parent_meter_id, old.parent_meter_id))) THEN
		INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, register_modulus_wh, rated_current_a, rated_voltage_v, phases,
			parent_meter_id, unit_id, gap_after, gap_shape, entered_by, reason)
		SELECT take_over_setup.site_id, take_over_setup.new_meter_id, take_over_setup.at, e.multiplier, e.register_modulus_wh, e.rated_current_a,
			e.rated_voltage_v, e.phases, coalesce(own.parent_meter_id, old.parent_meter_id), coalesce(own.unit_id, old.unit_id), e.gap_after, e.gap_shape,
			(submeter.me()).login, take_over_setup.reason
		FROM (SELECT (CASE WHEN own.site_id IS NULL THEN old ELSE own END).*) e;
	END IF;
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, register_modulus_wh, rated_current_a, rated_voltage_v, phases,
		parent_meter_id, unit_id, gap_after, gap_shape, entered_by, reason)
	SELECT e.site_id, e.meter_id, take_over_setup.at, e.multiplier, e.register_modulus_wh, e.rated_current_a, e.rated_voltage_v, e.phases,
		take_over_setup.new_meter_id, e.unit_id, e.gap_after, e.gap_shape, (submeter.me()).login, take_over_setup.reason
	FROM (
		SELECT DISTINCT ON (x.meter_id) x.* FROM submeter.meter_setup x
		WHERE x.site_id = take_over_setup.site_id AND x.valid_from <= take_over_setup.at
		ORDER BY x.meter_id, x.valid_from DESC, x.entered_at DESC) e
	WHERE e.parent_meter_id = take_over_setup.meter_id;
END
$$;
COMMENT ON FUNCTION submeter.take_over_setup(int, bigint, bigint, timestamptz, text) IS
'The new meter takes the place of the old one: its unit and parent and, where it has no setup of its own, its ratings and multiplier; meters below the old one are below the new one.';

CREATE FUNCTION submeter.take_over_supplies(site_id int, meter_id bigint, new_meter_id bigint, at timestamptz, closing_wh bigint, opening_wh bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item submeter.supply;
BEGIN
	FOR item IN
		SELECT y.* FROM submeter.supply y
		WHERE y.site_id = take_over_supplies.site_id AND y.meter_id = take_over_supplies.meter_id
			AND (upper_inf(y.during) OR upper(y.during) > take_over_supplies.at)
		ORDER BY y.during
	LOOP
		IF lower(item.during) < take_over_supplies.at THEN
			UPDATE submeter.supply y SET during = tstzrange(lower(item.during), take_over_supplies.at), closing_wh = take_over_supplies.closing_wh
			WHERE y.site_id = item.site_id AND y.supply_id = item.supply_id;
			INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, opening_wh, terms, created_by)
			VALUES (item.site_id, item.account_id, take_over_supplies.new_meter_id, item.tariff_id,
				tstzrange(take_over_supplies.at, upper(item.during)), take_over_supplies.opening_wh, item.terms, (submeter.me()).login);
		ELSE
			UPDATE submeter.supply y SET meter_id = take_over_supplies.new_meter_id, opening_wh = NULL, closing_wh = NULL
			WHERE y.site_id = item.site_id AND y.supply_id = item.supply_id;
		END IF;
		UPDATE submeter.move_out o SET meter_ids = array_replace(o.meter_ids, take_over_supplies.meter_id, take_over_supplies.new_meter_id)
		WHERE o.site_id = item.site_id AND o.account_id = item.account_id AND o.state = 'planned';
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.take_over_supplies(int, bigint, bigint, timestamptz, bigint, bigint) IS
'Cuts the supplies of a meter at a time and lets another meter go on with them, same account, tariff and terms.';

CREATE FUNCTION submeter.take_over_causes(site_id int, meter_id bigint, new_meter_id bigint, reason text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	live record;
	why record;
	-- What a rule asks for needs a new meter that is known to feed the same shop.
	kept text[] := CASE WHEN submeter.rule_refusal(take_over_causes.site_id, take_over_causes.new_meter_id, take_over_causes.as_of) IS NULL
		THEN '{operator,alarm,lockout,arrears,schedule,vacant}' ELSE '{operator,alarm,lockout}' END;
BEGIN
	FOR live IN
		SELECT c.command_id FROM submeter.command c
		WHERE c.site_id = take_over_causes.site_id AND c.meter_id = take_over_causes.meter_id AND c.state IN ('held', 'queued')
	LOOP
		PERFORM submeter.finish_command(take_over_causes.site_id, live.command_id, 'cancelled', 'the meter was replaced', take_over_causes.as_of);
	END LOOP;
	FOR why IN
		SELECT o.cause, coalesce(o.reason, take_over_causes.reason) AS reason FROM submeter.open_cause o
		WHERE o.site_id = take_over_causes.site_id AND o.meter_id = take_over_causes.meter_id AND o.cause <> 'lockout' AND o.cause = ANY (kept)
		ORDER BY o.since
	LOOP
		EXIT WHEN NOT submeter.can_switch(take_over_causes.site_id, take_over_causes.new_meter_id, 'open');
		PERFORM submeter.queue_command(take_over_causes.site_id, take_over_causes.new_meter_id, 'open', why.cause, why.reason, 'direct',
			take_over_causes.as_of, take_over_causes.as_of + interval '1 day', NULL, take_over_causes.as_of);
	END LOOP;
	INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, by, reason)
	SELECT o.site_id, take_over_causes.new_meter_id, o.cause, o.since, o.by, o.reason FROM submeter.open_cause o
	WHERE o.site_id = take_over_causes.site_id AND o.meter_id = take_over_causes.meter_id AND o.cause = ANY (kept)
	ON CONFLICT DO NOTHING;
	DELETE FROM submeter.open_cause o WHERE o.site_id = take_over_causes.site_id AND o.meter_id = take_over_causes.meter_id;
END
$$;
COMMENT ON FUNCTION submeter.take_over_causes(int, bigint, bigint, text, timestamptz) IS
'What an old breaker was open for, the new one is opened for (what a rule asked for only if the new meter is in service); a tag goes with it. Commands to the old one that nobody has begun with are cancelled.';
