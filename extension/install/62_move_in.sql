-- Room: account, moving in. Lock order: see 62_account.sql.

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
