-- Room: account. Moving in, moving out, a new meter: who is fed by what from when to when, and what becomes of the money.
-- Lock order: duty_state (settle), then meters by meter_id, then the ledger account of the tenant.

CREATE FUNCTION submeter.require_instant(at timestamptz, verb text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_instant.at IS NULL OR NOT isfinite(require_instant.at) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s needs a point in time', require_instant.verb),
			DETAIL = format('at is %s.', coalesce(require_instant.at::text, 'NULL')), HINT = 'Pass the instant at which the supply begins or ends.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_instant(timestamptz, text) IS 'Refuses (22023) NULL and infinity where a verb needs a time.';

CREATE FUNCTION submeter.counted_wh(site_id int, meter_id bigint, ts timestamptz) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(v.energy_wh, r.energy_wh)
	FROM submeter.reading r
	LEFT JOIN LATERAL (
		SELECT v.verdict, v.energy_wh FROM submeter.reading_verdict v
		WHERE v.site_id = r.site_id AND v.meter_id = r.meter_id AND v.ts = r.ts
		ORDER BY v.verdict_id DESC LIMIT 1) v ON true
	WHERE r.site_id = counted_wh.site_id AND r.meter_id = counted_wh.meter_id AND r.ts = counted_wh.ts AND v.verdict IS DISTINCT FROM 'withdraw'
$$;
COMMENT ON FUNCTION submeter.counted_wh(int, bigint, timestamptz) IS 'The register a reading counts with: its own, or what a verdict put in its place; NULL when there is none or it is withdrawn.';

CREATE FUNCTION submeter.has_final_reading(site_id int, meter_id bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.meter_state s
		WHERE s.site_id = has_final_reading.site_id AND s.meter_id = has_final_reading.meter_id AND s.valid_ts >= has_final_reading.at)
		OR EXISTS (
			SELECT FROM submeter.register_estimate e
			WHERE e.site_id = has_final_reading.site_id AND e.meter_id = has_final_reading.meter_id AND e.ts >= has_final_reading.at)
$$;
COMMENT ON FUNCTION submeter.has_final_reading(int, bigint, timestamptz) IS
'Whether a meter has a reading that counts at an instant or after it (then the register at the instant is known, by interpolation at worst), or an estimate that stands for one.';

CREATE FUNCTION submeter.require_register(site_id int, meter_id bigint, at timestamptz, energy_wh bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place record;
	known bigint;
	before timestamptz;
BEGIN
	IF require_register.energy_wh IS NULL THEN
		RETURN;
	END IF;
	SELECT m.code, s.max_power_w, s.register_modulus_wh INTO place
	FROM submeter.meter m
	LEFT JOIN submeter.meter_state s ON s.site_id = m.site_id AND s.meter_id = m.meter_id
	WHERE m.site_id = require_register.site_id AND m.meter_id = require_register.meter_id;
	IF require_register.energy_wh < 0 OR require_register.energy_wh >= 100000000000000 OR require_register.at > clock_timestamp() + interval '1 minute'
		OR NOT EXISTS (SELECT FROM submeter.reading_partition p WHERE p.from_ts <= require_register.at AND require_register.at < p.to_ts)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s Wh at %s is no register meter %s can have', require_register.energy_wh, require_register.at, place.code),
			DETAIL = 'A register is at least 0 and below 10^14 Wh; nobody has read it in the future, or before readings are kept.',
			HINT = 'Registers are in Wh, before the multiplier. Leave it out to have it read over the air.';
	END IF;
	known := submeter.counted_wh(require_register.site_id, require_register.meter_id, require_register.at);
	IF known <> require_register.energy_wh THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('meter %s read %s Wh at %s, not %s', place.code, known, require_register.at, require_register.energy_wh),
			DETAIL = 'There is a reading at exactly this time.', HINT = 'Leave the register out, or replace the reading with judge_reading() first.';
	END IF;
	before := submeter.valid_before(require_register.site_id, require_register.meter_id, require_register.at);
	IF known IS NULL AND before IS NOT NULL AND NOT submeter.is_plausible(place.max_power_w, place.register_modulus_wh, before,
		submeter.counted_wh(require_register.site_id, require_register.meter_id, before), require_register.at, require_register.energy_wh)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s Wh at %s cannot follow what meter %s showed before', require_register.energy_wh, require_register.at, place.code),
			DETAIL = format('It read %s Wh at %s.', submeter.counted_wh(require_register.site_id, require_register.meter_id, before), before),
			HINT = 'Look at the meter again; a wrong earlier reading is withdrawn or replaced with judge_reading().';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_register(int, bigint, timestamptz, bigint) IS
'Refuses (22023) a register a person gives that is none, contradicts a reading at the same time, or cannot follow the reading before; NULL is no register and passes.';

CREATE FUNCTION submeter.closing_estimate(site_id int, meter_id bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last_ts timestamptz := submeter.valid_before(closing_estimate.site_id, closing_estimate.meter_id, closing_estimate.at);
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = closing_estimate.site_id);
	since timestamptz;
	used_wh numeric;
	ratio numeric;
BEGIN
	IF last_ts IS NULL THEN
		RETURN NULL;
	END IF;
	-- What the unit used before anybody lived in it says nothing.
	since := greatest(((last_ts AT TIME ZONE zone)::date - 28)::timestamp AT TIME ZONE zone,
		(SELECT min(r.ts) FROM submeter.reading r WHERE r.site_id = closing_estimate.site_id AND r.meter_id = closing_estimate.meter_id),
		(SELECT lower(y.during) FROM submeter.supply y
			WHERE y.site_id = closing_estimate.site_id AND y.meter_id = closing_estimate.meter_id AND y.during @> last_ts));
	SELECT sum(u.energy_wh) INTO used_wh FROM submeter.usage_day u
	WHERE u.site_id = closing_estimate.site_id AND u.meter_id = closing_estimate.meter_id
		AND u.day BETWEEN (since AT TIME ZONE zone)::date AND (last_ts AT TIME ZONE zone)::date;
	SELECT e.multiplier INTO ratio FROM submeter.meter_setup e
	WHERE e.site_id = closing_estimate.site_id AND e.meter_id = closing_estimate.meter_id AND e.valid_from <= last_ts
	ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1;
	RETURN submeter.counted_wh(closing_estimate.site_id, closing_estimate.meter_id, last_ts)
		+ round(coalesce(used_wh * extract(epoch FROM closing_estimate.at - last_ts) / nullif(extract(epoch FROM last_ts - since), 0), 0)
			/ coalesce(ratio, 1))::bigint;
END
$$;
COMMENT ON FUNCTION submeter.closing_estimate(int, bigint, timestamptz) IS
'The register a meter without a reading would have reached: its last one, and on as it was used in the 28 days before; NULL when it never read.';

-- Breakers of units that are given back.

CREATE FUNCTION submeter.open_vacant(site_id int, meter_id bigint, open_breaker boolean, reason text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.lock_meter(open_vacant.site_id, open_vacant.meter_id);
	IF open_vacant.open_breaker AND submeter.can_switch(open_vacant.site_id, open_vacant.meter_id, 'open')
		AND EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = open_vacant.site_id AND m.meter_id = open_vacant.meter_id AND m.protection = 'none')
		AND submeter.rule_refusal(open_vacant.site_id, open_vacant.meter_id, open_vacant.as_of) IS NULL
		AND NOT EXISTS (
			SELECT FROM submeter.supply y
			WHERE y.site_id = open_vacant.site_id AND y.meter_id = open_vacant.meter_id AND y.during @> open_vacant.as_of)
	THEN
		IF submeter.queue_command(open_vacant.site_id, open_vacant.meter_id, 'open', 'vacant', open_vacant.reason, 'direct', open_vacant.as_of,
			open_vacant.as_of + interval '1 day', NULL, open_vacant.as_of) IS NULL
		THEN
			-- A close is on the wire. The cause stays on record; who finds the contact closed can see why it should not be.
			INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, by, reason)
			VALUES (open_vacant.site_id, open_vacant.meter_id, 'vacant', open_vacant.as_of, (submeter.me()).login, open_vacant.reason)
			ON CONFLICT DO NOTHING;
		END IF;
	END IF;
	-- Arrears were the leaving tenant's and go with them.
	DELETE FROM submeter.open_cause o
	WHERE o.site_id = open_vacant.site_id AND o.meter_id = open_vacant.meter_id AND o.cause = 'arrears';
	IF FOUND THEN
		PERFORM submeter.settle_causes(open_vacant.site_id, open_vacant.meter_id, open_vacant.as_of, open_vacant.reason);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.open_vacant(int, bigint, boolean, text, timestamptz) IS
'A meter whose tenant left: its breaker is opened under the cause vacant (unless it is protected, not in service, cannot be switched, feeds somebody again, or is to be left), and the leaving tenant''s arrears are taken off it.';

CREATE FUNCTION submeter.release_vacant(site_id int, meter_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.lock_meter(release_vacant.site_id, release_vacant.meter_id);
	DELETE FROM submeter.open_cause o
	WHERE o.site_id = release_vacant.site_id AND o.meter_id = release_vacant.meter_id AND o.cause = 'vacant';
	IF FOUND THEN
		PERFORM submeter.settle_causes(release_vacant.site_id, release_vacant.meter_id, release_vacant.as_of, 'a tenant moved in');
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.release_vacant(int, bigint, timestamptz) IS
'A meter somebody moved in at: the cause vacant goes, and the breaker closes as the policy says when no other cause is left.';
