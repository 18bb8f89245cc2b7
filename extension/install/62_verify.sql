-- Room: verification. Everything the ledger claims, computed again. No rows mean that all of it holds.

CREATE FUNCTION submeter.verify_movements(site_id int, since timestamptz)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leg AS (
		SELECT t.debit_id AS ledger_account_id, -t.amount AS amount FROM submeter.transfer t WHERE t.site_id = verify_movements.site_id
		UNION ALL
		SELECT t.credit_id, t.amount FROM submeter.transfer t WHERE t.site_id = verify_movements.site_id
	), summed AS MATERIALIZED (
		SELECT x.ledger_account_id, sum(x.amount) AS amount FROM leg x GROUP BY x.ledger_account_id
	), sided AS (
		SELECT t.*, d.account_id AS debit_of, c.account_id AS credit_of, d.ledger_account_id IS NULL OR c.ledger_account_id IS NULL AS stray,
			t.leg > 1 AND d.account_id IS NULL AND c.account_id IS NULL AND 'service_fee' IN (d.code, c.code) AS fee
		FROM submeter.transfer t
		LEFT JOIN submeter.ledger_account d ON d.site_id = t.site_id AND d.ledger_account_id = t.debit_id
		LEFT JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id = t.credit_id
		WHERE t.site_id = verify_movements.site_id AND (verify_movements.since IS NULL OR t.posted_at >= verify_movements.since)
	)
	SELECT 'trial balance is not zero', NULL::bigint, NULL::bigint, 0::numeric, sum(s.amount) FROM summed s HAVING sum(s.amount) <> 0
	UNION ALL
	SELECT 'total of the account differs from its movements', l.account_id, NULL, coalesce(s.amount, 0), l.total
	FROM submeter.ledger_account l LEFT JOIN summed s ON s.ledger_account_id = l.ledger_account_id
	WHERE l.site_id = verify_movements.site_id AND l.account_id IS NOT NULL AND l.total <> coalesce(s.amount, 0)
	UNION ALL
	SELECT 'ledger account of the site keeps a total', NULL, NULL, 0, l.total
	FROM submeter.ledger_account l
	WHERE l.site_id = verify_movements.site_id AND l.account_id IS NULL AND l.total <> 0
	UNION ALL
	SELECT * FROM (
		SELECT CASE WHEN m.stray THEN 'movement names a ledger account that does not exist'
				ELSE 'movement names an account that is no side of it' END, m.account_id, m.transfer_id, NULL::numeric, m.amount
		FROM sided m
		WHERE m.stray OR m.account_id IS NULL AND (m.debit_of IS NOT NULL OR m.credit_of IS NOT NULL)
			OR m.account_id IS NOT NULL AND m.account_id IS DISTINCT FROM m.debit_of AND m.account_id IS DISTINCT FROM m.credit_of AND NOT m.fee
		ORDER BY m.transfer_id, m.leg LIMIT 100) x
	UNION ALL
	SELECT * FROM (
		SELECT 'reversal is not the opposite of its movement', r.account_id, r.transfer_id, o.amount, r.amount
		FROM submeter.transfer r
		LEFT JOIN submeter.transfer o ON o.site_id = r.site_id AND o.transfer_id = r.reverses_id AND o.leg = r.leg
		WHERE r.site_id = verify_movements.site_id AND r.reverses_id IS NOT NULL
			AND (verify_movements.since IS NULL OR r.posted_at >= verify_movements.since)
			AND (r.debit_id, r.credit_id, r.amount) IS DISTINCT FROM (o.credit_id, o.debit_id, o.amount)
		ORDER BY r.transfer_id, r.leg LIMIT 100) x
$$;
COMMENT ON FUNCTION submeter.verify_movements(int, timestamptz) IS
'Part of verify_ledger: trial balance, totals of ledger accounts, the sides of each movement, reversals.';

CREATE FUNCTION submeter.verify_keys(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The legs of one movement share a key and are numbered from 1.
	SELECT 'idempotency key stands for more than one movement', min(k.account_id), max(k.transfer_id), 1::numeric,
		count(DISTINCT k.transfer_id)::numeric
	FROM submeter.transfer k
	WHERE k.site_id = verify_keys.site_id
	GROUP BY k.idempotency_key
	HAVING count(*) > 1 AND min(k.transfer_id) <> max(k.transfer_id)
	UNION ALL
	SELECT 'movement lacks a leg, or has one twice', min(k.account_id), k.transfer_id, max(k.leg)::numeric, count(*)::numeric
	FROM submeter.transfer k
	WHERE k.site_id = verify_keys.site_id
	GROUP BY k.transfer_id
	HAVING count(*) <> max(k.leg)
$$;
COMMENT ON FUNCTION submeter.verify_keys(int) IS 'Part of verify_ledger: keys are unique, movements are whole.';

CREATE FUNCTION submeter.verify_cycles(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH moved AS MATERIALIZED (
		SELECT x.account_id, x.tariff_id, x.cycle_start,
			sum(CASE WHEN l.account_id IS NOT NULL THEN x.amount ELSE -x.amount END) FILTER (WHERE x.kind = 'charge') AS posted,
			sum(CASE WHEN l.account_id IS NOT NULL THEN x.amount ELSE -x.amount END) FILTER (WHERE x.kind = 'adjustment') AS adjusted
		FROM submeter.transfer x
		JOIN submeter.ledger_account l ON l.site_id = x.site_id AND l.ledger_account_id = x.debit_id
		WHERE x.site_id = verify_cycles.site_id AND x.kind IN ('charge', 'adjustment') AND x.cycle_start IS NOT NULL
		GROUP BY x.account_id, x.tariff_id, x.cycle_start
	), cycle AS MATERIALIZED (
		SELECT coalesce(c.account_id, m.account_id) AS account_id, c.billed, coalesce(c.posted, 0) AS posted, coalesce(c.adjusted, 0) AS adjusted,
			coalesce(m.posted, 0) AS moved, coalesce(m.adjusted, 0) AS moved_after, coalesce(a.amount, 0) AS recorded
		FROM (SELECT * FROM submeter.charge x WHERE x.site_id = verify_cycles.site_id) c
		FULL JOIN moved m ON m.account_id = c.account_id AND m.tariff_id = c.tariff_id AND m.cycle_start = c.cycle_start
		LEFT JOIN (
			SELECT x.account_id, x.tariff_id, x.cycle_start, sum(x.amount) AS amount
			FROM submeter.charge_adjustment x
			WHERE x.site_id = verify_cycles.site_id
			GROUP BY x.account_id, x.tariff_id, x.cycle_start) a
			ON a.account_id = coalesce(c.account_id, m.account_id) AND a.tariff_id = coalesce(c.tariff_id, m.tariff_id)
				AND a.cycle_start = coalesce(c.cycle_start, m.cycle_start)
	)
	SELECT 'charge movements differ from charge.posted', c.account_id, NULL::bigint, c.posted, c.moved FROM cycle c WHERE c.posted <> c.moved
	UNION ALL
	SELECT 'adjustments of a cycle differ from charge.adjusted', c.account_id, NULL, c.adjusted, c.moved_after FROM cycle c WHERE c.adjusted <> c.moved_after
	UNION ALL
	SELECT 'adjustments of a cycle differ from those on record', c.account_id, NULL, c.recorded, c.moved_after FROM cycle c WHERE c.recorded <> c.moved_after
	UNION ALL
	SELECT 'billed cycle was posted to again', c.account_id, NULL, c.billed, c.posted FROM cycle c WHERE c.billed <> c.posted
$$;
COMMENT ON FUNCTION submeter.verify_cycles(int) IS
'Part of verify_ledger: per account, tariff and cycle the charge movements add up to charge.posted, what was posted after the close to charge.adjusted, and what is billed stayed.';

CREATE FUNCTION submeter.verify_bills(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH line AS (
		-- A bill issued anew has what was adjusted meanwhile in its lines, less what other bills show of it.
		SELECT l.bill_id, sum(l.amount) AS amount, sum(l.amount) FILTER (WHERE l.component !~ '^(adjustment|share)' OR l.detail ? 'in_bill') AS charged
		FROM submeter.bill_line l WHERE l.site_id = verify_bills.site_id GROUP BY l.bill_id
	), owed AS (
		SELECT c.account_id, c.cycle_start, sum(c.billed) AS amount
		FROM submeter.charge c WHERE c.site_id = verify_bills.site_id AND c.billed IS NOT NULL GROUP BY c.account_id, c.cycle_start
	)
	SELECT format('bill %s is not the sum of its lines', b.bill_id), b.account_id, NULL::bigint, coalesce(n.amount, 0), b.amount
	FROM submeter.bill b LEFT JOIN line n ON n.bill_id = b.bill_id
	WHERE b.site_id = verify_bills.site_id AND b.amount <> coalesce(n.amount, 0)
	UNION ALL
	SELECT format('bill %s differs from what was charged', b.bill_id), b.account_id, NULL, coalesce(o.amount, 0) + coalesce(x.amount, 0), coalesce(n.charged, 0)
	FROM submeter.bill b
	LEFT JOIN line n ON n.bill_id = b.bill_id
	LEFT JOIN owed o ON o.account_id = b.account_id AND o.cycle_start = b.cycle_start
	LEFT JOIN (SELECT x.bill_id, x.cycle_start, sum(x.amount) AS amount FROM submeter.charge_adjustment x
		WHERE x.site_id = verify_bills.site_id GROUP BY x.bill_id, x.cycle_start) x ON x.bill_id = b.bill_id AND x.cycle_start = b.cycle_start
	WHERE b.site_id = verify_bills.site_id AND b.state = 'issued' AND coalesce(n.charged, 0) <> coalesce(o.amount, 0) + coalesce(x.amount, 0)
	UNION ALL
	SELECT format('bill %s does not take back bill %s', r.bill_id, r.reverses_id), r.account_id, NULL, -b.amount, r.amount
	FROM submeter.bill r LEFT JOIN submeter.bill b ON b.site_id = r.site_id AND b.bill_id = r.reverses_id
	WHERE r.site_id = verify_bills.site_id AND r.state = 'reversal' AND (b.state IS DISTINCT FROM 'void' OR r.amount <> -b.amount)
$$;
COMMENT ON FUNCTION submeter.verify_bills(int) IS
'Part of verify_ledger: bills are the sums of their lines, their charges are what was billed, reversals take back what they name.';

CREATE FUNCTION submeter.verify_seals(site_id int, since timestamptz)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first_no bigint;
	after_id bigint;
	last_id bigint;
	given bigint;
BEGIN
	RETURN QUERY
	SELECT format('seal %s does not follow from what it says or from the one before', b.seal_no), NULL::bigint, NULL::bigint, NULL::numeric, NULL::numeric
	FROM submeter.broken_seals(verify_seals.site_id) b(seal_no)
	ORDER BY b.seal_no LIMIT 100;
	RETURN QUERY
	SELECT format('head exported on %s is not in the chain of seals', to_char(e.day, 'YYYY-MM-DD')), NULL::bigint, NULL::bigint, NULL::numeric, NULL::numeric
	FROM submeter.head_export e
	WHERE e.site_id = verify_seals.site_id AND NOT EXISTS (
		SELECT FROM submeter.ledger_seal s WHERE s.site_id = e.site_id AND s.seal_no = e.seal_no AND s.hash = e.hash)
	GROUP BY e.day ORDER BY e.day LIMIT 100;

	SELECT min(s.seal_no), min(s.after_id) INTO first_no, after_id FROM submeter.ledger_seal s
	WHERE s.site_id = verify_seals.site_id AND (verify_seals.since IS NULL OR s.sealed_at >= verify_seals.since);
	SELECT coalesce(max(s.last_id), 0) INTO last_id FROM submeter.ledger_seal s WHERE s.site_id = verify_seals.site_id;
	RETURN QUERY
	SELECT CASE WHEN s.digest IS NULL THEN 'movement was added to a sealed block' WHEN t.digest IS NULL THEN 'sealed movement is missing'
			ELSE 'sealed movement was changed' END,
		t.account_id, coalesce(t.transfer_id, s.transfer_id), NULL::numeric, t.amount
	FROM submeter.transfer_digests(verify_seals.site_id, after_id, last_id) t
	FULL JOIN (
		SELECT u.transfer_id, u.leg, u.digest
		FROM submeter.ledger_seal x
		CROSS JOIN LATERAL unnest(x.transfer_ids, x.leg_nos, x.digests) u(transfer_id, leg, digest)
		WHERE x.site_id = verify_seals.site_id AND x.seal_no >= first_no) s ON s.transfer_id = t.transfer_id AND s.leg = t.leg
	WHERE t.digest IS DISTINCT FROM s.digest
	ORDER BY 3 LIMIT 100;

	SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO given FROM submeter.transfer_id_seq s;
	RETURN QUERY
	SELECT 'movement has a number that was never given out', t.account_id, t.transfer_id, NULL::numeric, t.amount
	FROM submeter.transfer t
	WHERE t.site_id = verify_seals.site_id AND t.transfer_id > given
	ORDER BY t.transfer_id LIMIT 100;
	-- Posting goes on while the sealer is away; a day without it leaves a day that can be edited unseen.
	RETURN QUERY
	SELECT format('%s movements wait for their seal since %s', count(*), to_char(min(t.posted_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')),
		NULL::bigint, min(t.transfer_id), NULL::numeric, NULL::numeric
	FROM submeter.transfer t
	WHERE t.site_id = verify_seals.site_id AND t.transfer_id > last_id AND t.posted_at < now() - interval '1 day'
	HAVING count(*) > 0;
END
$$;
COMMENT ON FUNCTION submeter.verify_seals(int, timestamptz) IS
'Part of verify_ledger: the chain of seals is intact and every sealed row is there and unchanged, nothing was slipped in, nothing waits for its seal for more than a day. since skips the rows of seals made before.';

CREATE FUNCTION submeter.verify_charges(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Charges of meters with something new lag behind the facts; what is settled must rebuild to the same.
	SELECT 'charge does not rebuild to the same amount', coalesce(c.account_id, r.account_id), NULL::bigint,
		coalesce(r.amount, 0), coalesce(c.amount, 0)
	FROM (SELECT * FROM submeter.charge x WHERE x.site_id = verify_charges.site_id) c
	FULL JOIN submeter.rebuild_charges(verify_charges.site_id) r
		ON r.account_id = c.account_id AND r.tariff_id = c.tariff_id AND r.cycle_start = c.cycle_start
	WHERE (coalesce(c.amount, 0) <> coalesce(r.amount, 0) OR coalesce(c.rounded, 0) <> coalesce(r.rounded, 0)
			OR coalesce(c.energy_wh, 0) <> coalesce(r.energy_wh, 0))
		AND NOT EXISTS (
			SELECT FROM submeter.supply s
			JOIN submeter.meter_dirty d ON d.site_id = s.site_id AND d.meter_id = s.meter_id
			LEFT JOIN submeter.meter_settled e ON e.site_id = s.site_id AND e.meter_id = s.meter_id
			WHERE s.site_id = verify_charges.site_id AND s.account_id = coalesce(c.account_id, r.account_id)
				AND d.seq > coalesce(e.seq, 0))
		AND NOT EXISTS (
			SELECT FROM submeter.supply s
			JOIN submeter.meter_state t ON t.site_id = s.site_id AND t.meter_id = s.meter_id
			LEFT JOIN submeter.meter_settled e ON e.site_id = s.site_id AND e.meter_id = s.meter_id
			WHERE s.site_id = verify_charges.site_id AND s.account_id = coalesce(c.account_id, r.account_id)
				AND t.valid_ts > coalesce(e.settled_to, '-infinity') AND coalesce(upper(s.during) > e.settled_to, true))
		AND NOT EXISTS (
			SELECT FROM submeter.charge_dirty d
			WHERE d.site_id = verify_charges.site_id AND d.account_id = coalesce(c.account_id, r.account_id))
$$;
COMMENT ON FUNCTION submeter.verify_charges(int) IS
'Part of verify_ledger: charges of settled meters rebuild from the readings to the same amounts.';

CREATE FUNCTION submeter.verify_ledger(site_id int, since timestamptz DEFAULT NULL)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('verify_ledger', verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_seals(verify_ledger.site_id, verify_ledger.since);
	RETURN QUERY SELECT * FROM submeter.verify_movements(verify_ledger.site_id, verify_ledger.since);
	RETURN QUERY SELECT * FROM submeter.verify_keys(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_fees(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_cycles(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_bills(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_shares(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_payments(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_reconcile(verify_ledger.site_id);
	RETURN QUERY SELECT * FROM submeter.verify_charges(verify_ledger.site_id);
END
$$;
COMMENT ON FUNCTION submeter.verify_ledger(int, timestamptz) IS
'No rows means: the seals are intact and every sealed movement is as it was, the trial balance is zero, totals equal their movements, keys are unique, fees go with their recharges, charge movements equal charge.posted and adjustments charge.adjusted, bills are the sums of their lines, what providers took and paid back is in the books once, what was reconciled is as it says, and all charges rebuild from the readings to the same amounts. What is wrong with a movement names it (transfer_id), the first one first, at most 100 of a kind. since limits the checks of single movements and of seals'' rows.';
