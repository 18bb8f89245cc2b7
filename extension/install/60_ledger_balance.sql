-- Room: ledger. What charges became and the ledger does not know yet, and balances: posted, accrued, available, at any time.

CREATE FUNCTION submeter.post_differences(site_id int, as_of timestamptz, account_ids bigint[] DEFAULT NULL, cycle_start timestamptz DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	revenue bigint := submeter.system_ledger_account(post_differences.site_id, 'revenue', 'revenue');
	login name := (submeter.me()).login;
	posted bigint;
BEGIN
	PERFORM submeter.hold_posting(post_differences.site_id);
	WITH due AS MATERIALIZED (
		SELECT c.account_id, c.tariff_id, c.cycle_start, c.rounded - c.posted AS difference, c.rounded, l.ledger_account_id
		FROM submeter.charge c
		JOIN submeter.ledger_account l ON l.site_id = c.site_id AND l.account_id = c.account_id AND l.kind = 'tenant'
		WHERE c.site_id = post_differences.site_id AND c.billed IS NULL
			AND CASE WHEN post_differences.account_ids IS NULL THEN c.rounded <> c.posted
				ELSE c.account_id = ANY (post_differences.account_ids) AND c.cycle_start = post_differences.cycle_start END
		-- Accounts in the order of the ledger, as every movement locks them.
		ORDER BY l.ledger_account_id
		FOR NO KEY UPDATE OF l
	), totals AS (
		UPDATE submeter.ledger_account l SET total = l.total - s.difference
		FROM (SELECT d.ledger_account_id, sum(d.difference) AS difference FROM due d GROUP BY d.ledger_account_id) s
		WHERE l.site_id = post_differences.site_id AND l.ledger_account_id = s.ledger_account_id AND s.difference <> 0
	), stored AS (
		UPDATE submeter.charge c
		SET posted = d.rounded, billed = CASE WHEN post_differences.account_ids IS NOT NULL THEN d.rounded END
		FROM due d
		WHERE c.site_id = post_differences.site_id AND c.account_id = d.account_id AND c.tariff_id = d.tariff_id AND c.cycle_start = d.cycle_start
	)
	INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, tariff_id, cycle_start,
		idempotency_key, effective_at, created_by)
	SELECT post_differences.site_id, n.transfer_id,
		CASE WHEN n.difference > 0 THEN n.ledger_account_id ELSE revenue END,
		CASE WHEN n.difference > 0 THEN revenue ELSE n.ledger_account_id END,
		abs(n.difference), 'charge', n.account_id, n.tariff_id, n.cycle_start,
		'charge:' || n.transfer_id::text, post_differences.as_of, login
	FROM (SELECT d.*, nextval('submeter.transfer_id_seq') AS transfer_id FROM due d WHERE d.difference <> 0 OFFSET 0) n;
	GET DIAGNOSTICS posted = ROW_COUNT;
	RETURN posted;
END
$$;
COMMENT ON FUNCTION submeter.post_differences(int, timestamptz, bigint[], timestamptz) IS
'One movement per open charge whose rounded amount differs from what is posted; with accounts and a cycle those charges only, and they are closed: billed is frozen. The caller holds the site''s row of the duty settle. Returns the number of movements.';

CREATE FUNCTION submeter.post_charges(site_id int, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
BEGIN
	PERFORM submeter.authorize('post_charges', post_charges.site_id);
	IF post_charges.as_of IS NULL OR NOT isfinite(post_charges.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'post_charges needs a point in time',
			HINT = 'Leave as_of out to post up to now.';
	END IF;
	-- Not while settle is rating them; the same lock makes two posting runs take turns.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = post_charges.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.close_latecomers(post_charges.site_id);
	RETURN submeter.post_differences(post_charges.site_id, post_charges.as_of) + submeter.post_adjustments(post_charges.site_id, post_charges.as_of);
END
$$;
COMMENT ON FUNCTION submeter.post_charges(int, timestamptz) IS
'Posts what is charged and not yet in the ledger: one movement per account, tariff and cycle with the difference of its rounded amount; for closed cycles an adjustment. A second run posts nothing. Returns the number of movements. The duty runs it once a local day.';

CREATE FUNCTION submeter.account_balances(site_id int)
RETURNS TABLE (account_id bigint, posted numeric, accrued numeric, available numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.account_id, l.total, coalesce(c.accrued, 0), l.total - coalesce(c.accrued, 0)
	FROM submeter.ledger_account l
	LEFT JOIN (
		SELECT c.account_id, sum(c.rounded - c.posted - c.adjusted) AS accrued
		FROM submeter.charge c
		WHERE c.site_id = account_balances.site_id AND (c.billed IS NULL OR c.reopened) AND c.rounded <> c.posted + c.adjusted
		GROUP BY c.account_id) c ON c.account_id = l.account_id
	WHERE l.site_id = account_balances.site_id AND l.kind = 'tenant'
$$;
COMMENT ON FUNCTION submeter.account_balances(int) IS
'Posted, accrued (charged and not yet posted) and available balance of every account of a site now.';

CREATE FUNCTION submeter.require_my_account(site_id int, account_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM submeter.account a
		WHERE a.site_id = require_my_account.site_id AND a.account_id = require_my_account.account_id
			AND (NOT pg_has_role((submeter.me()).role, 'submeter_tenant', 'member') OR submeter.is_internal()
				OR a.account_id = ANY (submeter.my_accounts())))
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002',
			MESSAGE = format('site %s has no account %s', require_my_account.site_id, coalesce(require_my_account.account_id::text, 'NULL')),
			HINT = 'SELECT account_id, code FROM submeter.account lists the accounts.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_my_account(int, bigint) IS
'P0002 for an account the site does not have and, when a tenant asks, for another tenant''s: neither is told from the other.';

CREATE FUNCTION submeter.available_now(site_id int, account_id bigint) RETURNS numeric
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT l.total - coalesce((
			SELECT sum(c.rounded - c.posted - c.adjusted) FROM submeter.charge c
			WHERE c.site_id = l.site_id AND c.account_id = l.account_id AND c.rounded <> c.posted + c.adjusted), 0)
		FROM submeter.ledger_account l
		WHERE l.site_id = available_now.site_id AND l.account_id = available_now.account_id AND l.kind = 'tenant');
END
$$;
COMMENT ON FUNCTION submeter.available_now(int, bigint) IS 'Posted less accrued: what an account can spend now.';

CREATE FUNCTION submeter.balances_known(site_id int, account_id bigint, known_at timestamptz)
RETURNS TABLE (account_id bigint, posted numeric, accrued numeric, available numeric, debt numeric, emergency numeric, deposit numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH moved AS (
		-- What charges and their adjustments took is set against what is charged, however far posting had come.
		SELECT l.account_id, sum(x.amount) FILTER (WHERE l.kind = 'tenant') AS posted,
			coalesce(sum(-x.amount) FILTER (WHERE l.kind = 'tenant' AND (t.kind = 'charge' OR t.kind = 'adjustment' AND t.cycle_start IS NOT NULL)), 0) AS charged,
			sum(-x.amount) FILTER (WHERE l.kind = 'debt') AS debt, sum(-x.amount) FILTER (WHERE l.kind = 'emergency') AS emergency,
			sum(x.amount) FILTER (WHERE l.kind = 'deposit') AS deposit
		FROM submeter.transfer t
		CROSS JOIN LATERAL (VALUES (t.credit_id, t.amount), (t.debit_id, -t.amount)) x(ledger_account_id, amount)
		JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = x.ledger_account_id AND l.account_id IS NOT NULL
		WHERE t.site_id = balances_known.site_id AND t.posted_at <= balances_known.known_at
			AND (balances_known.account_id = 0 OR t.account_id = balances_known.account_id)
		GROUP BY l.account_id
	), owed AS (
		SELECT r.account_id, sum(r.rounded) AS charged
		FROM submeter.rebuild_charges(balances_known.site_id, balances_known.account_id, balances_known.known_at) r
		GROUP BY r.account_id
	)
	SELECT a.account_id, coalesce(m.posted, 0), b.accrued, coalesce(m.posted, 0) - b.accrued, coalesce(m.debt, 0), coalesce(m.emergency, 0),
		coalesce(m.deposit, 0)
	FROM submeter.account a
	LEFT JOIN moved m ON m.account_id = a.account_id
	LEFT JOIN owed o ON o.account_id = a.account_id
	CROSS JOIN LATERAL (SELECT coalesce(o.charged, 0) - coalesce(m.charged, 0)) b(accrued)
	WHERE a.site_id = balances_known.site_id AND (balances_known.account_id = 0 OR a.account_id = balances_known.account_id)
$$;
COMMENT ON FUNCTION submeter.balances_known(int, bigint, timestamptz) IS
'Balances of an account (0: of every account of the site) as they were known at a past instant: movements posted and readings received by then.';

CREATE FUNCTION submeter.balances_at(site_id int, as_of timestamptz)
RETURNS TABLE (account_id bigint, account text, posted numeric, accrued numeric, available numeric, debt numeric, emergency numeric, deposit numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('balances_at', balances_at.site_id);
	IF balances_at.as_of IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'balances_at needs a point in time', HINT = 'Pass now() for the balances now.';
	END IF;
	RETURN QUERY
	SELECT a.account_id, a.code, b.posted, b.accrued, b.available, b.debt, b.emergency, b.deposit
	FROM submeter.balances_known(balances_at.site_id, 0, balances_at.as_of) b
	JOIN submeter.account a ON a.site_id = balances_at.site_id AND a.account_id = b.account_id
	WHERE a.opened_at <= balances_at.as_of OR (b.posted, b.accrued, b.debt, b.emergency, b.deposit) IS DISTINCT FROM (0, 0, 0, 0, 0)
	ORDER BY a.account_id;
END
$$;
COMMENT ON FUNCTION submeter.balances_at(int, timestamptz) IS
'Every account of a site as it was known at any past instant: movements posted and readings received by then. debt and emergency are what is owed, deposit what is held; none of them is part of available.';

CREATE FUNCTION submeter.balance(site_id int, account_id bigint, as_of timestamptz DEFAULT now()) RETURNS numeric
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('balance', balance.site_id);
	PERFORM submeter.require_my_account(balance.site_id, balance.account_id);
	IF balance.as_of IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'balance needs a point in time', HINT = 'Leave as_of out for the balance now.';
	END IF;
	IF balance.as_of >= now() THEN
		RETURN submeter.available_now(balance.site_id, balance.account_id);
	END IF;
	RETURN (SELECT b.available FROM submeter.balances_known(balance.site_id, balance.account_id, balance.as_of) b);
END
$$;
COMMENT ON FUNCTION submeter.balance(int, bigint, timestamptz) IS
'Available balance of an account, now or as it was known at any past instant: movements posted and readings received by then. P0002 for an unknown account or another tenant''s.';
