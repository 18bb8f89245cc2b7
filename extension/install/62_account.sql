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

-- Moving in.

CREATE FUNCTION submeter.move_in_check(site_id int, tenant_id bigint, meter_ids bigint[], tariff_id bigint, opening_wh bigint[],
	at timestamptz, until timestamptz, terms jsonb, mode text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	PERFORM submeter.require_instant(move_in_check.at, 'move_in');
	bad := CASE
		WHEN coalesce(cardinality(move_in_check.meter_ids), 0) = 0 OR array_position(move_in_check.meter_ids, NULL) IS NOT NULL
			OR (SELECT count(DISTINCT m) FROM unnest(move_in_check.meter_ids) m) <> cardinality(move_in_check.meter_ids)
			THEN 'meter_ids is a list of different meters'
		WHEN cardinality(move_in_check.opening_wh) <> cardinality(move_in_check.meter_ids) THEN 'opening_wh has one register per meter'
		WHEN move_in_check.until <= move_in_check.at OR NOT isfinite(move_in_check.until) THEN 'until is after at'
		WHEN move_in_check.terms IS NULL OR jsonb_typeof(move_in_check.terms) <> 'object' THEN 'terms is a JSON object'
		WHEN move_in_check.mode IS NULL OR move_in_check.mode NOT IN ('prepaid', 'postpaid') THEN 'mode is prepaid or postpaid' END;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'nobody moves in like this', DETAIL = format('Wanted: %s.', bad),
			HINT = 'For example move_in(1, tenant_id, ARRAY[meter_id], tariff_id, now()).';
	END IF;
	bad := CASE
		WHEN NOT EXISTS (SELECT FROM submeter.tenant t WHERE t.site_id = move_in_check.site_id AND t.tenant_id = move_in_check.tenant_id)
			THEN format('tenant %s', coalesce(move_in_check.tenant_id::text, 'NULL'))
		WHEN NOT EXISTS (SELECT FROM submeter.tariff t WHERE t.site_id = move_in_check.site_id AND t.tariff_id = move_in_check.tariff_id)
			THEN format('tariff %s', coalesce(move_in_check.tariff_id::text, 'NULL'))
		ELSE (
			SELECT format('meter %s in service', u.meter_id) FROM unnest(move_in_check.meter_ids) WITH ORDINALITY u(meter_id, ord)
			WHERE NOT EXISTS (
				SELECT FROM submeter.meter m
				WHERE m.site_id = move_in_check.site_id AND m.meter_id = u.meter_id AND (m.retired_at IS NULL OR m.retired_at >= move_in_check.until))
			ORDER BY u.ord LIMIT 1) END;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no %s', move_in_check.site_id, bad),
			HINT = 'The tables tenant, tariff and meter list what there is.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.move_in_check(int, bigint, bigint[], bigint, bigint[], timestamptz, timestamptz, jsonb, text) IS
'Refuses arguments of move_in() that are malformed (22023) or name what the site does not have (P0002).';

CREATE FUNCTION submeter.require_free(site_id int, meter_ids bigint[], from_ts timestamptz, to_ts timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	busy record;
BEGIN
	SELECT m.code AS meter, a.code AS account, t.name AS tenant, y.during INTO busy
	FROM submeter.supply y
	JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id
	JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id
	JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	WHERE y.site_id = require_free.site_id AND y.meter_id = ANY (require_free.meter_ids)
		AND y.during && tstzrange(require_free.from_ts, require_free.to_ts)
	ORDER BY y.meter_id, y.during LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s feeds account %s at that time', busy.meter, busy.account),
			DETAIL = format('It feeds %s %s.', busy.tenant, CASE WHEN upper_inf(busy.during) THEN format('since %s', lower(busy.during))
				ELSE format('from %s to %s', lower(busy.during), upper(busy.during)) END),
			HINT = 'Let that account move out first: move_out().';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_free(int, bigint[], timestamptz, timestamptz) IS
'Refuses (55000) meters that feed somebody in a time, naming the account; NULL to_ts: for ever.';

CREATE FUNCTION submeter.free_account_code(site_id int, tenant_id bigint) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.code
	FROM submeter.tenant t
	CROSS JOIN generate_series(1, 1 + (SELECT count(*) FROM submeter.account a WHERE a.site_id = t.site_id)) n
	CROSS JOIN LATERAL (SELECT CASE WHEN n = 1 THEN t.code ELSE t.code || '-' || n::text END AS code) c
	WHERE t.site_id = free_account_code.site_id AND t.tenant_id = free_account_code.tenant_id
		AND NOT EXISTS (SELECT FROM submeter.account a WHERE a.site_id = t.site_id AND a.code = c.code)
	ORDER BY n LIMIT 1
$$;
COMMENT ON FUNCTION submeter.free_account_code(int, bigint) IS 'A code for another account of a tenant: the tenant''s own, or with a number behind it.';

CREATE FUNCTION submeter.move_in_account(site_id int, tenant_id bigint, account_id bigint, code text, mode text, policy_id bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	own record;
	made bigint;
BEGIN
	SELECT a.* INTO own FROM submeter.account a
	WHERE a.site_id = move_in_account.site_id
		AND (a.account_id = move_in_account.account_id OR move_in_account.account_id IS NULL AND a.code = move_in_account.code)
	FOR NO KEY UPDATE;
	IF NOT FOUND AND move_in_account.account_id IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no account %s', move_in_account.site_id, move_in_account.account_id),
			HINT = 'SELECT account_id, code FROM submeter.account lists the accounts.';
	END IF;
	IF FOUND AND (own.tenant_id <> move_in_account.tenant_id OR own.state <> 'open') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s is not an open account of this tenant', own.code),
			DETAIL = format('It is %s and belongs to tenant %s.', own.state, own.tenant_id),
			HINT = 'Name an open account of the tenant, or let move_in() make a new one: a new tenancy starts clean.';
	END IF;
	IF FOUND THEN
		RETURN own.account_id;
	END IF;
	INSERT INTO submeter.account (site_id, tenant_id, code, mode, policy_id, opened_at)
	VALUES (move_in_account.site_id, move_in_account.tenant_id,
		coalesce(move_in_account.code, submeter.free_account_code(move_in_account.site_id, move_in_account.tenant_id)), move_in_account.mode,
		move_in_account.policy_id, move_in_account.at)
	RETURNING account_id INTO made;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.move_in_account(int, bigint, bigint, text, text, bigint, timestamptz) IS
'The account a tenant moves in with: the named one if it is open and theirs (55000 otherwise, P0002 unknown), else a new one.';

CREATE FUNCTION submeter.move_in(site_id int, tenant_id bigint, meter_ids bigint[], tariff_id bigint, at timestamptz,
	opening_wh bigint[] DEFAULT NULL, account_id bigint DEFAULT NULL, code text DEFAULT NULL, until timestamptz DEFAULT NULL,
	terms jsonb DEFAULT '{}', mode text DEFAULT 'prepaid', policy_id bigint DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	home bigint;
	is_new boolean;
	item record;
BEGIN
	PERFORM submeter.authorize('move_in', move_in.site_id);
	PERFORM submeter.move_in_check(move_in.site_id, move_in.tenant_id, move_in.meter_ids, move_in.tariff_id, move_in.opening_wh, move_in.at,
		move_in.until, move_in.terms, move_in.mode);
	-- Two who move in at one meter meet here, and the second one finds the first.
	PERFORM submeter.lock_meter(move_in.site_id, m) FROM unnest(move_in.meter_ids) m ORDER BY m;
	-- The same call again: it has been done.
	SELECT min(y.account_id) INTO home
	FROM submeter.supply y
	JOIN submeter.account a ON a.site_id = y.site_id AND a.account_id = y.account_id AND a.tenant_id = move_in.tenant_id
	WHERE y.site_id = move_in.site_id AND y.meter_id = ANY (move_in.meter_ids) AND lower(y.during) = move_in.at AND y.tariff_id = move_in.tariff_id
		AND upper(y.during) IS NOT DISTINCT FROM move_in.until
		AND (move_in.account_id IS NULL OR a.account_id = move_in.account_id) AND (move_in.code IS NULL OR a.code = move_in.code)
	HAVING count(*) = cardinality(move_in.meter_ids) AND min(y.account_id) = max(y.account_id);
	IF home IS NOT NULL THEN
		RETURN home;
	END IF;
	PERFORM submeter.require_free(move_in.site_id, move_in.meter_ids, move_in.at, move_in.until);
	PERFORM submeter.require_register(move_in.site_id, u.meter_id, move_in.at, u.wh) FROM unnest(move_in.meter_ids, move_in.opening_wh) u(meter_id, wh);
	is_new := NOT EXISTS (SELECT FROM submeter.account a WHERE a.site_id = move_in.site_id
		AND (a.account_id = move_in.account_id OR move_in.account_id IS NULL AND a.code = move_in.code));
	home := submeter.move_in_account(move_in.site_id, move_in.tenant_id, move_in.account_id, move_in.code, move_in.mode, move_in.policy_id, move_in.at);
	IF EXISTS (SELECT FROM submeter.move_out o WHERE o.site_id = move_in.site_id AND o.account_id = home AND o.closes
		AND o.state IN ('planned', 'waiting') AND o.at < coalesce(move_in.until, 'infinity'))
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s is moving out', home),
			HINT = 'Move in with a new account, or ask for a move-out at a later time first.';
	END IF;
	-- Without a register the one at the start is read off the readings around it.
	FOR item IN SELECT u.meter_id, u.wh FROM unnest(move_in.meter_ids, move_in.opening_wh) u(meter_id, wh) ORDER BY u.meter_id
	LOOP
		INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, opening_wh, terms, created_by)
		VALUES (move_in.site_id, home, item.meter_id, move_in.tariff_id, tstzrange(move_in.at, move_in.until), item.wh, move_in.terms, (submeter.me()).login);
		IF move_in.at <= move_in.as_of AND coalesce(move_in.until, 'infinity') > move_in.as_of THEN
			PERFORM submeter.release_vacant(move_in.site_id, item.meter_id, move_in.as_of);
		END IF;
	END LOOP;
	IF move_in.until IS NOT NULL THEN
		INSERT INTO submeter.move_out (site_id, account_id, at, closes, meter_ids, state, reason, requested_by, requested_at)
		VALUES (move_in.site_id, home, move_in.until, is_new, ARRAY(SELECT m FROM unnest(move_in.meter_ids) m ORDER BY m), 'planned',
			'let until then', (submeter.me()).login, move_in.as_of);
	END IF;
	RETURN home;
END
$$;
COMMENT ON FUNCTION submeter.move_in(int, bigint, bigint[], bigint, timestamptz, bigint[], bigint, text, timestamptz, jsonb, text, bigint, timestamptz) IS
'Meters feed a tenant from at on: a new account, or an open one of theirs (account_id or code); until: the supply ends then and a new account moves out by itself. Opening registers as read, else from the readings around. Takes the cause vacant off the breakers. Returns account_id; the same call again changes nothing. 55000 a meter feeds somebody then, or the account is not theirs; 22023 malformed, register or times; P0002 unknown.';

-- Moving out.

CREATE FUNCTION submeter.end_supplies(site_id int, account_id bigint, meter_ids bigint[], at timestamptz, closing_wh jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT DISTINCT ON (y.meter_id) y.supply_id, y.meter_id, lower(y.during) AS since, upper(y.during) AS until,
			(end_supplies.closing_wh ->> m.code)::bigint AS wh
		FROM submeter.supply y
		JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id
		WHERE y.site_id = end_supplies.site_id AND y.account_id = end_supplies.account_id AND y.meter_id = ANY (end_supplies.meter_ids)
		ORDER BY y.meter_id, y.during DESC
	LOOP
		IF item.since >= end_supplies.at THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('nobody moves out before moving in: at %s', end_supplies.at),
				DETAIL = format('Meter %s feeds the account since %s.', item.meter_id, item.since), HINT = 'Pass a later time.';
		END IF;
		PERFORM submeter.require_register(end_supplies.site_id, item.meter_id, end_supplies.at, item.wh);
		IF item.until < end_supplies.at THEN
			PERFORM submeter.require_free(end_supplies.site_id, ARRAY[item.meter_id], item.until, end_supplies.at);
		END IF;
		UPDATE submeter.supply y SET during = tstzrange(item.since, end_supplies.at), closing_wh = coalesce(item.wh, y.closing_wh)
		WHERE y.site_id = end_supplies.site_id AND y.supply_id = item.supply_id
			AND (y.during, y.closing_wh) IS DISTINCT FROM (tstzrange(item.since, end_supplies.at), coalesce(item.wh, y.closing_wh));
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.end_supplies(int, bigint, bigint[], timestamptz, jsonb) IS
'Ends the supplies of an account by these meters at a time, with the registers given by meter code; one that was to end earlier or later is moved, if nobody else is in the way.';

CREATE FUNCTION submeter.start_move_out(site_id int, move_out_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	meter bigint;
BEGIN
	UPDATE submeter.move_out o SET state = 'waiting', waiting_since = start_move_out.as_of
	WHERE o.site_id = start_move_out.site_id AND o.move_out_id = start_move_out.move_out_id
	RETURNING o.* INTO leaving;
	FOREACH meter IN ARRAY leaving.meter_ids
	LOOP
		PERFORM submeter.open_vacant(leaving.site_id, meter, leaving.open_breaker, leaving.reason, start_move_out.as_of);
		IF NOT submeter.has_final_reading(leaving.site_id, meter, leaving.at)
			AND EXISTS (SELECT FROM submeter.meter m WHERE m.site_id = leaving.site_id AND m.meter_id = meter AND m.retired_at IS NULL)
		THEN
			PERFORM submeter.queue_read(leaving.site_id, meter, leaving.reason, start_move_out.as_of);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.start_move_out(int, bigint, timestamptz) IS
'The time of a move-out has come: breakers are opened, and the meters whose register at the end is not known yet are read at once.';

CREATE FUNCTION submeter.move_out_check(site_id int, account_id bigint, at timestamptz, closing_wh jsonb, refund_method text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	PERFORM submeter.require_instant(move_out_check.at, 'move_out');
	PERFORM submeter.require_my_account(move_out_check.site_id, move_out_check.account_id);
	IF move_out_check.refund_method IS NOT NULL AND move_out_check.refund_method <> 'origin' THEN
		PERFORM submeter.require_method(move_out_check.refund_method);
	END IF;
	bad := CASE
		WHEN move_out_check.refund_method IN ('alipay', 'wechat') THEN 'refund_method is origin, or a way of paying that is ours; a provider pays back only what it took'
		WHEN move_out_check.closing_wh IS NULL THEN NULL
		WHEN move_out_check.at > move_out_check.as_of THEN 'closing_wh is not known before the time has come'
		WHEN jsonb_typeof(move_out_check.closing_wh) <> 'object' THEN 'closing_wh is an object of registers by meter code'
		ELSE (
			SELECT CASE WHEN jsonb_typeof(k.value) = 'number' AND k.value::numeric % 1 = 0 AND abs(k.value::numeric) < 1e15
				THEN format('closing_wh names meters of the account; %s is none', k.key)
				ELSE format('a register is a whole number of Wh; that of %s is not', k.key) END
			FROM jsonb_each(CASE jsonb_typeof(move_out_check.closing_wh) WHEN 'object' THEN move_out_check.closing_wh ELSE '{}' END) k
			WHERE NOT (jsonb_typeof(k.value) = 'number' AND k.value::numeric % 1 = 0 AND abs(k.value::numeric) < 1e15)
				OR NOT EXISTS (
					SELECT FROM submeter.supply y
					JOIN submeter.meter m ON m.site_id = y.site_id AND m.meter_id = y.meter_id
					WHERE y.site_id = move_out_check.site_id AND y.account_id = move_out_check.account_id AND m.code = k.key)
			ORDER BY k.key LIMIT 1) END;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('account %s does not move out like this', move_out_check.account_id),
			DETAIL = format('Wanted: %s.', bad), HINT = 'For example move_out(1, account_id, now(), ''{"M-101": 1234567}'', ''origin'').';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.move_out_check(int, bigint, timestamptz, jsonb, text, timestamptz) IS
'Refuses arguments of move_out() that are malformed (22023) or an account the site does not have (P0002).';

CREATE FUNCTION submeter.move_out(site_id int, account_id bigint, at timestamptz, closing_wh jsonb DEFAULT NULL, refund_method text DEFAULT NULL,
	reason text DEFAULT 'moved out', open_breaker boolean DEFAULT true, meter_ids bigint[] DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	leaving bigint;
	known submeter.move_out;
	meters bigint[];
	all_meters bigint[];
BEGIN
	PERFORM submeter.authorize('move_out', move_out.site_id);
	PERFORM submeter.require_text('reason', move_out.reason);
	PERFORM submeter.move_out_check(move_out.site_id, move_out.account_id, move_out.at, move_out.closing_wh, move_out.refund_method, move_out.as_of);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = move_out.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.lock_meter(move_out.site_id, m.meter_id)
	FROM (SELECT DISTINCT y.meter_id FROM submeter.supply y
		WHERE y.site_id = move_out.site_id AND y.account_id = move_out.account_id ORDER BY y.meter_id) m;
	PERFORM submeter.lock_account(move_out.site_id, move_out.account_id);
	-- The meters it has at that time, or gives back by a plan made before.
	SELECT o.* INTO known FROM submeter.move_out o
	WHERE o.site_id = move_out.site_id AND o.account_id = move_out.account_id AND o.closes AND o.state <> 'cancelled'
	ORDER BY o.move_out_id DESC LIMIT 1;
	SELECT array_agg(DISTINCT y.meter_id) INTO all_meters FROM submeter.supply y
	WHERE y.site_id = move_out.site_id AND y.account_id = move_out.account_id
		AND (upper_inf(y.during) OR upper(y.during) >= move_out.at OR known.state = 'planned' AND upper(y.during) = known.at);
	meters := coalesce((SELECT array_agg(DISTINCT m ORDER BY m) FROM unnest(move_out.meter_ids) m), all_meters, '{}');
	IF NOT meters <@ coalesce(all_meters, '{}') THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('account %s does not have all of these meters then', move_out.account_id),
			DETAIL = format('It has %s.', coalesce(all_meters::text, 'none')), HINT = 'Leave meter_ids out to give back all of them.';
	END IF;
	IF known.state IN ('waiting', 'done') AND known.at = move_out.at THEN
		-- The same call again, perhaps with the registers somebody has read meanwhile.
		leaving := known.move_out_id;
		IF known.state = 'done' THEN
			RETURN leaving;
		END IF;
	END IF;
	IF known.state = 'waiting' AND known.at <> move_out.at THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s is moving out already', move_out.account_id),
			DETAIL = format('It ends at %s and waits for its final readings.', known.at), HINT = 'Call with the same time, and the registers if they are known.';
	END IF;
	PERFORM submeter.require_open_account(move_out.site_id, move_out.account_id);
	IF leaving IS NULL THEN
		PERFORM submeter.require_approval('move_out', move_out.site_id, jsonb_build_object('account_id', move_out.account_id));
	END IF;
	PERFORM submeter.end_supplies(move_out.site_id, move_out.account_id, meters, move_out.at, move_out.closing_wh);
	IF leaving IS NULL THEN
		leaving := submeter.plan_move_out(move_out.site_id, move_out.account_id, move_out.at, meters, move_out.meter_ids IS NULL OR meters = all_meters,
			move_out.refund_method, move_out.open_breaker, move_out.reason, move_out.as_of);
	END IF;
	IF move_out.at <= move_out.as_of THEN
		IF known.state IS DISTINCT FROM 'waiting' THEN
			PERFORM submeter.start_move_out(move_out.site_id, leaving, move_out.as_of);
		END IF;
		PERFORM submeter.finish_move_out(move_out.site_id, leaving, move_out.as_of);
	END IF;
	RETURN leaving;
END
$$;
COMMENT ON FUNCTION submeter.move_out(int, bigint, timestamptz, jsonb, text, text, boolean, bigint[], timestamptz) IS
'Ends the supplies of an account at a time (also one to come), settles and closes it; with meter_ids it only gives these back. closing_wh has final registers by meter code; others are read over the air and waited for, at most site.close_delay, then estimated. refund_method: origin, or a method; else a credit is proposed to a person. A debt stays with the closed account. Returns move_out_id; the same call again goes on with it. Passes the approval hook with {account_id}. 22023 malformed, register or times; 55000 closed or moving out at another time; P0002 unknown.';

CREATE FUNCTION submeter.plan_move_out(site_id int, account_id bigint, at timestamptz, meter_ids bigint[], closes boolean, refund_method text,
	open_breaker boolean, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	planned bigint;
BEGIN
	-- A plan made before (a lease until a date) is overtaken.
	UPDATE submeter.move_out o SET state = 'cancelled', finished_at = plan_move_out.as_of, reason = o.reason || '; overtaken: ' || plan_move_out.reason
	WHERE o.site_id = plan_move_out.site_id AND o.account_id = plan_move_out.account_id AND o.state = 'planned'
		AND (plan_move_out.closes OR o.closes OR o.meter_ids && plan_move_out.meter_ids);
	INSERT INTO submeter.move_out (site_id, account_id, at, closes, meter_ids, state, refund_method, open_breaker, reason, requested_by, requested_at)
	VALUES (plan_move_out.site_id, plan_move_out.account_id, plan_move_out.at, plan_move_out.closes, plan_move_out.meter_ids, 'planned',
		plan_move_out.refund_method, plan_move_out.open_breaker, plan_move_out.reason, (submeter.me()).login, plan_move_out.as_of)
	RETURNING move_out_id INTO planned;
	RETURN planned;
END
$$;
COMMENT ON FUNCTION submeter.plan_move_out(int, bigint, timestamptz, bigint[], boolean, text, boolean, text, timestamptz) IS
'Writes a planned move-out and cancels the plan it overtakes.';

CREATE FUNCTION submeter.unread_ends(site_id int, move_out_id bigint) RETURNS TABLE (meter_id bigint, ends_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT y.meter_id, upper(y.during)
	FROM submeter.move_out o
	JOIN submeter.supply y ON y.site_id = o.site_id AND y.account_id = o.account_id AND upper(y.during) <= o.at
		AND (o.closes OR y.meter_id = ANY (o.meter_ids))
	WHERE o.site_id = unread_ends.site_id AND o.move_out_id = unread_ends.move_out_id
		AND NOT submeter.has_final_reading(y.site_id, y.meter_id, upper(y.during))
$$;
COMMENT ON FUNCTION submeter.unread_ends(int, bigint) IS
'Meters whose register at the end of their supply a move-out still waits for; an account that closes waits for all it ever had.';

CREATE FUNCTION submeter.finish_move_out(site_id int, move_out_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	assumed int := 0;
BEGIN
	SELECT o.* INTO leaving FROM submeter.move_out o
	WHERE o.site_id = finish_move_out.site_id AND o.move_out_id = finish_move_out.move_out_id AND o.state = 'waiting' FOR UPDATE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	IF EXISTS (SELECT FROM submeter.unread_ends(leaving.site_id, leaving.move_out_id)) THEN
		IF finish_move_out.as_of < leaving.waiting_since + (SELECT s.close_delay FROM submeter.site s WHERE s.site_id = leaving.site_id) THEN
			RETURN false;
		END IF;
		INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason, by)
		SELECT leaving.site_id, u.meter_id, u.ends_at, e.wh, 'no final reading came: ' || leaving.reason, (submeter.me()).login
		FROM submeter.unread_ends(leaving.site_id, leaving.move_out_id) u
		CROSS JOIN LATERAL submeter.closing_estimate(leaving.site_id, u.meter_id, u.ends_at) e(wh)
		WHERE e.wh IS NOT NULL
		ON CONFLICT ON CONSTRAINT register_estimate_site_id_meter_id_ts_key DO NOTHING;
		GET DIAGNOSTICS assumed = ROW_COUNT;
	END IF;
	PERFORM submeter.settle_now(leaving.site_id, finish_move_out.as_of);
	IF leaving.closes THEN
		PERFORM submeter.close_account_cycles(leaving.site_id, leaving.account_id, leaving.at);
		PERFORM submeter.close_account(leaving.site_id, leaving.move_out_id, finish_move_out.as_of);
	END IF;
	UPDATE submeter.move_out o SET state = 'done', finished_at = finish_move_out.as_of, estimated = assumed > 0, error = NULL
	WHERE o.site_id = leaving.site_id AND o.move_out_id = leaving.move_out_id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.finish_move_out(int, bigint, timestamptz) IS
'Finishes a move-out once the registers at its end are known, or site.close_delay is over (then with estimates that a later reading replaces): settles and, if it closes, settles the money and closes the account. True when it did. The caller holds the duty settle.';

CREATE FUNCTION submeter.settle_now(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM submeter.duty_state d WHERE d.site_id = settle_now.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	RETURN (SELECT submeter.settle_site(s.site_id, s.time_zone, settle_now.as_of) FROM submeter.site s WHERE s.site_id = settle_now.site_id);
END
$$;
COMMENT ON FUNCTION submeter.settle_now(int, timestamptz) IS
'settle() of one site inside another verb, whose caller need not have the right to settle.';

CREATE FUNCTION submeter.close_account(site_id int, move_out_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaving submeter.move_out;
	rest numeric;
	due numeric;
	paid numeric := 0;
BEGIN
	SELECT o.* INTO leaving FROM submeter.move_out o WHERE o.site_id = close_account.site_id AND o.move_out_id = close_account.move_out_id;
	PERFORM submeter.lock_account(leaving.site_id, leaving.account_id);
	rest := submeter.settle_sides(leaving.site_id, leaving.account_id, leaving.reason, close_account.as_of);
	due := submeter.side_total(leaving.site_id, leaving.account_id, 'debt');
	IF due > 0 THEN
		PERFORM submeter.propose(leaving.site_id, leaving.account_id, 'debt', due, 'move_out', format('move_out:%s:debt', leaving.move_out_id),
			jsonb_build_object('move_out_id', leaving.move_out_id, 'at', leaving.at));
	END IF;
	rest := least(rest, submeter.refundable(leaving.site_id, leaving.account_id));
	IF rest > 0 AND leaving.refund_method IS NOT NULL THEN
		PERFORM submeter.pay_out(leaving.site_id, leaving.account_id, 'refund', 'tenant', rest, nullif(leaving.refund_method, 'origin'),
			leaving.reason, 'move_out:' || leaving.move_out_id::text, close_account.as_of);
		paid := rest;
	ELSIF rest > 0 THEN
		PERFORM submeter.propose(leaving.site_id, leaving.account_id, 'refund', rest, 'move_out', format('move_out:%s:refund', leaving.move_out_id),
			jsonb_build_object('move_out_id', leaving.move_out_id, 'at', leaving.at));
	END IF;
	UPDATE submeter.account a SET state = 'closed', closed_at = leaving.at
	WHERE a.site_id = leaving.site_id AND a.account_id = leaving.account_id;
	DELETE FROM submeter.debt_plan p WHERE p.site_id = leaving.site_id AND p.account_id = leaving.account_id;
	UPDATE submeter.account_state t SET warned_below = NULL, arrears_since = NULL, announced_at = NULL, notice_id = NULL, lead = NULL, trip_due_at = NULL
	WHERE t.site_id = leaving.site_id AND t.account_id = leaving.account_id;
	UPDATE submeter.notice n SET state = 'cancelled'
	WHERE n.site_id = leaving.site_id AND n.account_id = leaving.account_id AND n.kind IN ('trip_announced', 'low_balance') AND n.state = 'queued';
	UPDATE submeter.move_out o SET balance = rest - due, refunded = paid, debt = due
	WHERE o.site_id = leaving.site_id AND o.move_out_id = leaving.move_out_id;
END
$$;
COMMENT ON FUNCTION submeter.close_account(int, bigint, timestamptz) IS
'Settles the money of an account that moves out and closes it: a credit is paid back or proposed, a debt stays on record with the closed account, and nobody is warned any more.';

CREATE FUNCTION submeter.settle_sides(site_id int, account_id bigint, reason text, as_of timestamptz) RETURNS numeric
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	part record;
	amount numeric;
BEGIN
	amount := submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'emergency');
	IF amount > 0 THEN
		PERFORM submeter.move_aside(settle_sides.site_id, settle_sides.account_id, 'emergency', -amount, 'emergency:%', settle_sides.as_of, settle_sides.reason);
	END IF;
	-- The deposit becomes balance with the ways it was paid, so that what is left of it goes back by them.
	amount := submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'deposit');
	IF amount > 0 THEN
		movement := submeter.next_movement(settle_sides.site_id);
		FOR part IN SELECT * FROM submeter.share_out(settle_sides.site_id, settle_sides.account_id, 'deposit', amount, NULL)
		LOOP
			PERFORM submeter.post_leg(settle_sides.site_id, movement, part.leg,
				submeter.side_account(settle_sides.site_id, settle_sides.account_id, 'deposit'),
				submeter.lock_account(settle_sides.site_id, settle_sides.account_id), part.amount, 'deposit', settle_sides.account_id,
				'move_out:deposit:' || movement::text, settle_sides.as_of, part.method, settle_sides.reason);
		END LOOP;
	END IF;
	amount := least(submeter.available_now(settle_sides.site_id, settle_sides.account_id), submeter.side_total(settle_sides.site_id, settle_sides.account_id, 'debt'));
	IF amount > 0 THEN
		PERFORM submeter.move_aside(settle_sides.site_id, settle_sides.account_id, 'debt', -amount, 'debt:%', settle_sides.as_of, settle_sides.reason);
	END IF;
	amount := submeter.available_now(settle_sides.site_id, settle_sides.account_id);
	IF amount < 0 THEN
		PERFORM submeter.defer_debit(settle_sides.site_id, settle_sides.account_id, -amount, settle_sides.reason, settle_sides.as_of);
	END IF;
	RETURN greatest(amount, 0);
END
$$;
COMMENT ON FUNCTION submeter.settle_sides(int, bigint, text, timestamptz) IS
'Brings everything an account owes and holds together: emergency credit paid back, the deposit set against what is owed, debt paid; what is then missing becomes debt. Returns the credit that is left.';

CREATE FUNCTION submeter.propose(site_id int, account_id bigint, kind text, amount numeric, source text, dedupe_key text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
	VALUES (propose.site_id, propose.account_id, propose.kind, propose.amount, propose.source, propose.dedupe_key, propose.detail)
	ON CONFLICT ON CONSTRAINT proposal_site_id_dedupe_key_key DO NOTHING
$$;
COMMENT ON FUNCTION submeter.propose(int, bigint, text, numeric, text, text, jsonb) IS
'Proposes a refund or a debt to a person, once per dedupe_key.';

CREATE FUNCTION submeter.tidy_closed(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	available numeric;
	owed numeric;
BEGIN
	FOR item IN
		SELECT l.account_id FROM submeter.ledger_account l
		JOIN submeter.account a ON a.site_id = l.site_id AND a.account_id = l.account_id AND a.state = 'closed'
		LEFT JOIN submeter.ledger_account d ON d.site_id = l.site_id AND d.account_id = l.account_id AND d.kind = 'debt'
		WHERE l.site_id = tidy_closed.site_id AND l.kind = 'tenant' AND (l.total < 0 OR l.total > 0 AND d.total < 0)
		ORDER BY l.ledger_account_id
	LOOP
		PERFORM submeter.lock_account(tidy_closed.site_id, item.account_id);
		available := submeter.available_now(tidy_closed.site_id, item.account_id);
		owed := submeter.side_total(tidy_closed.site_id, item.account_id, 'debt');
		IF available < 0 THEN
			PERFORM submeter.defer_debit(tidy_closed.site_id, item.account_id, -available, 'owed after moving out', tidy_closed.as_of);
		ELSIF least(available, owed) > 0 THEN
			PERFORM submeter.move_aside(tidy_closed.site_id, item.account_id, 'debt', -least(available, owed), 'debt:%', tidy_closed.as_of,
				'credit after moving out');
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.tidy_closed(int, timestamptz) IS
'What adjustments did to accounts of former tenants: a debit becomes debt of the person, which can be paid at the desk; a credit pays debt first.';

CREATE FUNCTION submeter.run_moves(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	message text;
	done int := 0;
BEGIN
	PERFORM submeter.guard();
	-- Somebody's supply has begun: the breaker was kept open for nobody.
	FOR item IN
		SELECT o.meter_id FROM submeter.open_cause o
		JOIN submeter.supply y ON y.site_id = o.site_id AND y.meter_id = o.meter_id AND y.during @> run_moves.as_of AND lower(y.during) >= o.since
		WHERE o.site_id = run_moves.site_id AND o.cause = 'vacant'
		ORDER BY o.meter_id
	LOOP
		PERFORM submeter.release_vacant(run_moves.site_id, item.meter_id, run_moves.as_of);
		done := done + 1;
	END LOOP;
	PERFORM submeter.tidy_closed(run_moves.site_id, run_moves.as_of);
	IF NOT EXISTS (SELECT FROM submeter.move_out o WHERE o.site_id = run_moves.site_id AND o.state IN ('planned', 'waiting') AND o.at <= run_moves.as_of) THEN
		RETURN done;
	END IF;
	PERFORM FROM submeter.duty_state d WHERE d.site_id = run_moves.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	FOR item IN
		SELECT o.move_out_id, o.state FROM submeter.move_out o
		WHERE o.site_id = run_moves.site_id AND o.state IN ('planned', 'waiting') AND o.at <= run_moves.as_of
		ORDER BY o.at, o.move_out_id
	LOOP
		BEGIN
			IF item.state = 'planned' THEN
				PERFORM submeter.start_move_out(run_moves.site_id, item.move_out_id, run_moves.as_of);
			END IF;
			done := done + submeter.finish_move_out(run_moves.site_id, item.move_out_id, run_moves.as_of)::int;
		EXCEPTION WHEN OTHERS THEN
			-- One that cannot be finished holds up no other; it is tried again and says why.
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			UPDATE submeter.move_out o SET error = SQLSTATE || ': ' || message
			WHERE o.site_id = run_moves.site_id AND o.move_out_id = item.move_out_id;
		END;
	END LOOP;
	RETURN done;
END
$$;
COMMENT ON FUNCTION submeter.run_moves(int, timestamptz) IS
'Duty: move-outs whose time has come and final readings are there, and breakers kept open for nobody where a supply has begun. Returns how many were done.';

-- A new meter.

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
