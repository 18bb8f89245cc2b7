-- Room: bills. Closes billing cycles, explains every line of a bill, takes bills back.
-- Lock order: the site's row of the duty settle, then tenant ledger accounts by ledger_account_id.

CREATE FUNCTION submeter.bill_keep() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND OLD.state = 'issued' AND NEW.state = 'void'
		AND to_jsonb(OLD) - '{state,reason}'::text[] = to_jsonb(NEW) - '{state,reason}'::text[]
	THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('bill %s is never changed', OLD.bill_id),
		DETAIL = 'A bill that went out stays as it is; it can only be taken back as a whole.',
		HINT = 'Use submeter.void_bill() and submeter.issue_bill().';
END
$$;
COMMENT ON FUNCTION submeter.bill_keep() IS 'Trigger of bill: an issued one may become void, nothing else ever changes (55000).';

CREATE FUNCTION submeter.bill_part_belongs() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lost record;
BEGIN
	SELECT n.site_id, n.bill_id INTO lost
	FROM (SELECT DISTINCT x.site_id, x.bill_id FROM new_part x) n
	WHERE NOT EXISTS (SELECT FROM submeter.bill b WHERE b.site_id = n.site_id AND b.bill_id = n.bill_id);
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('site %s has no bill %s', lost.site_id, lost.bill_id),
			DETAIL = format('A row of %s belongs to a bill of its site.', TG_TABLE_NAME), HINT = 'Bills are made by close_cycle() and issue_bill() only.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.bill_part_belongs() IS 'Statement trigger of bill_line and bill_meter: the bill of every new row exists (23503).';

CREATE FUNCTION submeter.charge_keep_closed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = '55000',
		MESSAGE = format('the charge of account %s from %s is closed', OLD.account_id, OLD.cycle_start),
		DETAIL = 'What was posted and billed for a closed cycle stays; differences are adjustments.',
		HINT = 'Use submeter.post_adjustments().';
END
$$;
COMMENT ON FUNCTION submeter.charge_keep_closed() IS 'Trigger of charge: posted, billed and final of a closed cycle are frozen (55000).';

-- Making bills

CREATE FUNCTION submeter.bill_lines_of(site_id int, account_ids bigint[], cycle_start timestamptz)
RETURNS TABLE (account_id bigint, ord int, line bigint, tariff_id bigint, component text, tier int, period text, version_from timestamptz,
	from_ts timestamptz, to_ts timestamptz, energy_wh bigint, price numeric, amount numeric, detail jsonb, adjustment_id bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	of_cycle record;
BEGIN
	SELECT array_agg(c.account_id) AS accounts, array_agg(c.tariff_id) AS tariffs, array_agg(c.cycle_start) AS starts INTO of_cycle
	FROM submeter.charge c
	WHERE c.site_id = bill_lines_of.site_id AND c.account_id = ANY (bill_lines_of.account_ids) AND c.cycle_start = bill_lines_of.cycle_start;
	RETURN QUERY
	SELECT of_cycle.accounts[l.ord], 1, of_cycle.tariffs[l.ord] * 1000000 + l.line, of_cycle.tariffs[l.ord], l.component, l.tier, l.period, l.version_from,
		l.from_ts, l.to_ts, l.energy_wh, l.price, l.amount, NULL::jsonb, NULL::bigint
	FROM submeter.charge_lines(bill_lines_of.site_id, of_cycle.accounts, of_cycle.tariffs, of_cycle.starts) l;
	RETURN QUERY
	SELECT s.account_id, 2, row_number() OVER (ORDER BY s.component), NULL::bigint, s.component, NULL::int, NULL::text, NULL::timestamptz,
		NULL::timestamptz, NULL::timestamptz, s.energy_wh, NULL::numeric, s.amount, s.detail, NULL::bigint
	FROM submeter.share_lines(bill_lines_of.site_id, bill_lines_of.account_ids,
		array_fill(bill_lines_of.cycle_start, ARRAY[cardinality(bill_lines_of.account_ids)])) s;
	-- What came out for earlier cycles since their bills; and, in a bill issued anew, what later bills have of it already.
	RETURN QUERY
	SELECT x.account_id, 3, x.adjustment_id, x.tariff_id, 'adjustment', NULL::int, NULL::text, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::numeric,
		CASE WHEN x.bill_id IS NULL THEN x.amount ELSE -x.amount END,
		jsonb_strip_nulls(jsonb_build_object('adjustment_id', x.adjustment_id, 'cycle_start', x.cycle_start, 'cause', x.cause, 'in_bill', x.bill_id)),
		CASE WHEN x.bill_id IS NULL THEN x.adjustment_id END
	FROM submeter.charge_adjustment x
	WHERE x.site_id = bill_lines_of.site_id AND x.account_id = ANY (bill_lines_of.account_ids)
		AND (x.bill_id IS NULL AND x.cycle_start < bill_lines_of.cycle_start OR x.bill_id IS NOT NULL AND x.cycle_start = bill_lines_of.cycle_start);
END
$$;
COMMENT ON FUNCTION submeter.bill_lines_of(int, bigint[], timestamptz) IS
'Lines of the bills of accounts for a cycle from the present charges, shares and open adjustments; ord and line say their order.';

CREATE FUNCTION submeter.money_between(site_id int, account_ids bigint[], from_ts timestamptz, to_ts timestamptz)
RETURNS TABLE (account_id bigint, opening numeric, credited numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.account_id, coalesce(sum(x.amount) FILTER (WHERE t.effective_at < money_between.from_ts), 0),
		coalesce(sum(x.amount) FILTER (WHERE t.effective_at >= money_between.from_ts), 0)
	FROM submeter.transfer t
	JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.account_id = t.account_id AND l.kind = 'tenant' AND l.ledger_account_id IN (t.debit_id, t.credit_id)
	CROSS JOIN LATERAL (SELECT CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END AS amount) x
	WHERE t.site_id = money_between.site_id AND t.account_id = ANY (money_between.account_ids) AND t.cycle_start IS NULL
		AND t.effective_at < money_between.to_ts
	GROUP BY l.account_id
$$;
COMMENT ON FUNCTION submeter.money_between(int, bigint[], timestamptz, timestamptz) IS
'What accounts were credited before a cycle and in it, less what was taken from them otherwise than for a billed cycle; no row where there was nothing.';

CREATE FUNCTION submeter.make_bills(site_id int, account_ids bigint[], cycle_start timestamptz, cycle_end timestamptz, as_of timestamptz,
	reason text DEFAULT NULL) RETURNS bigint[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	login name := (submeter.me()).login;
	made bigint[];
BEGIN
	WITH line AS MATERIALIZED (
		SELECT l.*, row_number() OVER (PARTITION BY l.account_id ORDER BY l.ord, l.line)::int AS number
		FROM submeter.bill_lines_of(make_bills.site_id, make_bills.account_ids, make_bills.cycle_start) l
	), head AS MATERIALIZED (
		SELECT nextval('submeter.bill_bill_id_seq') AS bill_id, x.* FROM (
		SELECT a.account_id, a.mode, s.bill_term, coalesce(t.amount, 0) AS amount,
			coalesce(c.energy_wh, 0) AS energy_wh, coalesce(c.estimated_wh, 0) AS estimated_wh, coalesce(b.amount, 0) AS billed,
			coalesce(m.opening, 0) AS opening, coalesce(m.credited, 0) AS credited
		FROM submeter.account a
		JOIN submeter.site s ON s.site_id = a.site_id
		LEFT JOIN (SELECT l.account_id, sum(l.amount) AS amount FROM line l GROUP BY l.account_id) t ON t.account_id = a.account_id
		LEFT JOIN (SELECT c.account_id, sum(c.energy_wh)::bigint AS energy_wh, sum(c.estimated_wh)::bigint AS estimated_wh FROM submeter.charge c
			WHERE c.site_id = make_bills.site_id AND c.account_id = ANY (make_bills.account_ids) AND c.cycle_start = make_bills.cycle_start
			GROUP BY c.account_id) c ON c.account_id = a.account_id
		LEFT JOIN (SELECT b.account_id, sum(b.amount) AS amount FROM submeter.bill b
			WHERE b.site_id = make_bills.site_id AND b.account_id = ANY (make_bills.account_ids) AND b.state = 'issued'
				AND b.cycle_start < make_bills.cycle_start GROUP BY b.account_id) b ON b.account_id = a.account_id
		LEFT JOIN submeter.money_between(make_bills.site_id, make_bills.account_ids, make_bills.cycle_start, make_bills.cycle_end) m ON m.account_id = a.account_id
		WHERE a.site_id = make_bills.site_id AND a.account_id = ANY (make_bills.account_ids)
		ORDER BY a.code) x
	), bill AS (
		INSERT INTO submeter.bill (site_id, bill_id, account_id, cycle_start, cycle_end, energy_wh, estimated_wh, amount,
			opening_balance, credited, closing_balance, due_at, issued_by, reason)
		SELECT make_bills.site_id, h.bill_id, h.account_id, make_bills.cycle_start, make_bills.cycle_end, h.energy_wh, h.estimated_wh, h.amount,
			h.opening - h.billed, h.credited, h.opening + h.credited - h.billed - h.amount,
			CASE WHEN h.mode = 'postpaid' THEN make_bills.as_of + h.bill_term END, login, make_bills.reason
		FROM head h
	), stored AS (
		INSERT INTO submeter.bill_line (site_id, bill_id, line, tariff_id, component, tier, period, version_from, from_ts, to_ts, energy_wh, price, amount, detail)
		SELECT make_bills.site_id, h.bill_id, l.number, l.tariff_id, l.component, l.tier, l.period, l.version_from, l.from_ts, l.to_ts, l.energy_wh, l.price,
			l.amount, l.detail
		FROM line l JOIN head h ON h.account_id = l.account_id
	), shown AS (
		UPDATE submeter.charge_adjustment x SET bill_id = h.bill_id
		FROM head h
		WHERE x.site_id = make_bills.site_id AND x.account_id = h.account_id AND x.bill_id IS NULL AND x.cycle_start <= make_bills.cycle_start
	)
	SELECT array_agg(h.bill_id ORDER BY h.bill_id) INTO made FROM head h;
	PERFORM submeter.store_bill_meters(make_bills.site_id, made);
	PERFORM submeter.announce_bills(make_bills.site_id, made, make_bills.as_of);
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.make_bills(int, bigint[], timestamptz, timestamptz, timestamptz, text) IS
'Writes the bills of accounts for one cycle with their lines and registers, takes in open adjustments of earlier cycles, and tells the tenants. The caller holds the site''s row of the duty settle.';

CREATE FUNCTION submeter.bill_registers(site_id int, bill_ids bigint[])
RETURNS TABLE (bill_id bigint, account_id bigint, supply_id bigint, meter_id bigint, from_ts timestamptz, to_ts timestamptz, from_wh bigint, to_wh bigint,
	multiplier numeric, energy_wh bigint, estimated boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH part AS MATERIALIZED (
		SELECT b.bill_id, b.account_id, s.supply_id, s.meter_id, greatest(lower(s.during), b.cycle_start) AS lo,
			least(coalesce(upper(s.during), 'infinity'), b.cycle_end) AS hi
		FROM submeter.bill b
		JOIN submeter.supply s ON s.site_id = b.site_id AND s.account_id = b.account_id AND s.during && tstzrange(b.cycle_start, b.cycle_end)
		WHERE b.site_id = bill_registers.site_id AND b.bill_id = ANY (bill_registers.bill_ids)
	), piece AS MATERIALIZED (
		SELECT p.bill_id, p.account_id, p.supply_id, p.meter_id, greatest(p.lo, x.lo) AS lo, least(p.hi, x.hi) AS hi, coalesce(x.multiplier, 1) AS multiplier, x.modulus
		FROM part p
		LEFT JOIN LATERAL (
			-- Setups by the time from which they hold, those that change nothing left out.
			SELECT CASE WHEN lag(c.valid_from) OVER w IS NULL THEN '-infinity' ELSE c.valid_from END AS lo, lead(c.valid_from, 1, 'infinity') OVER w AS hi,
				c.multiplier, c.modulus
			FROM (
				SELECT s.*, lag(s.multiplier) OVER v IS NOT DISTINCT FROM s.multiplier AND lag(s.modulus) OVER v IS NOT DISTINCT FROM s.modulus AS same
				FROM (
					SELECT DISTINCT ON (e.valid_from) e.valid_from, e.multiplier, e.register_modulus_wh AS modulus
					FROM submeter.meter_setup e
					WHERE e.site_id = bill_registers.site_id AND e.meter_id = p.meter_id
					ORDER BY e.valid_from, e.entered_at DESC) s
				WINDOW v AS (ORDER BY s.valid_from)) c
			WHERE NOT c.same WINDOW w AS (ORDER BY c.valid_from)) x ON x.lo < p.hi AND x.hi > p.lo
	), edge AS MATERIALIZED (
		SELECT r.* FROM (SELECT array_agg(k.meter_id) AS meters, array_agg(k.at) AS ats FROM (
			SELECT p.meter_id, p.lo AS at FROM piece p UNION SELECT p.meter_id, p.hi FROM piece p) k) g
		CROSS JOIN LATERAL submeter.register_bounds(bill_registers.site_id, g.meters, g.ats) r
	), at_edge AS (
		-- In proportion to time between two readings, in whole Wh; where there is only one reading, its register.
		SELECT p.*, g.is_end, e.after_estimated, CASE
			WHEN e.before_ts IS NULL THEN e.after_wh
			WHEN e.after_ts IS NULL OR e.at = e.before_ts OR e.after_wh < e.before_wh AND p.modulus IS NULL THEN e.before_wh
			ELSE mod(e.before_wh + round((e.after_wh - e.before_wh + CASE WHEN e.after_wh < e.before_wh THEN p.modulus ELSE 0 END)::numeric
				* extract(epoch FROM e.at - e.before_ts) / extract(epoch FROM e.after_ts - e.before_ts))::bigint,
				coalesce(p.modulus, 9223372036854775807)) END AS wh
		FROM piece p
		CROSS JOIN LATERAL (VALUES (false, p.lo), (true, p.hi)) g(is_end, at)
		JOIN edge e ON e.meter_id = p.meter_id AND e.at = g.at
	), read AS (
		SELECT k.bill_id, k.account_id, k.supply_id, k.meter_id, k.lo, k.hi, k.multiplier, k.modulus,
			max(k.wh) FILTER (WHERE NOT k.is_end) AS from_wh, max(k.wh) FILTER (WHERE k.is_end) AS to_wh,
			bool_or(k.is_end AND k.after_estimated) AS estimated
		FROM at_edge k GROUP BY k.bill_id, k.account_id, k.supply_id, k.meter_id, k.lo, k.hi, k.multiplier, k.modulus
	)
	SELECT r.bill_id, r.account_id, r.supply_id, r.meter_id, r.lo, r.hi, r.from_wh, r.to_wh, r.multiplier,
		CASE WHEN r.to_wh >= r.from_wh THEN round(r.to_wh * r.multiplier) - round(r.from_wh * r.multiplier)
			ELSE round((r.to_wh + coalesce(r.modulus, r.from_wh - r.to_wh)) * r.multiplier) - round(r.from_wh * r.multiplier) END::bigint, r.estimated
	FROM read r
	WHERE r.from_wh IS NOT NULL AND r.to_wh IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.bill_registers(int, bigint[]) IS
'Registers at both ends of every supply of bills, and where a setup changed in between, with the energy that follows from them.';

CREATE FUNCTION submeter.store_bill_meters(site_id int, bill_ids bigint[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	WITH read AS MATERIALIZED (
		SELECT r.* FROM submeter.bill_registers(store_bill_meters.site_id, store_bill_meters.bill_ids) r
	), odd AS MATERIALIZED (
		-- Registers do not tell all: one was reset, exchanged or confirmed after a jump in the middle.
		SELECT b.bill_id, b.account_id, b.cycle_start
		FROM submeter.bill b
		JOIN (SELECT r.bill_id, sum(r.energy_wh) AS energy_wh FROM read r GROUP BY r.bill_id) s ON s.bill_id = b.bill_id
		WHERE b.site_id = store_bill_meters.site_id AND b.energy_wh <> s.energy_wh
	), traced AS (
		SELECT r.bill_id, r.supply_id, r.from_ts, sum(t.energy_wh)::bigint AS energy_wh
		FROM odd o
		JOIN submeter.charge c ON c.site_id = store_bill_meters.site_id AND c.account_id = o.account_id AND c.cycle_start = o.cycle_start
		CROSS JOIN LATERAL submeter.charge_trace(c.site_id, c.account_id, c.tariff_id, c.cycle_start) t
		JOIN read r ON r.bill_id = o.bill_id AND r.meter_id = t.meter_id AND t.from_ts >= r.from_ts AND t.to_ts <= r.to_ts
		GROUP BY r.bill_id, r.supply_id, r.from_ts
	)
	INSERT INTO submeter.bill_meter (site_id, bill_id, supply_id, meter_id, from_ts, to_ts, from_wh, to_wh, multiplier, energy_wh, estimated)
	SELECT store_bill_meters.site_id, r.bill_id, r.supply_id, r.meter_id, r.from_ts, r.to_ts, r.from_wh, r.to_wh, r.multiplier,
		CASE WHEN o.bill_id IS NULL THEN r.energy_wh ELSE coalesce(t.energy_wh, 0) END, r.estimated
	FROM read r
	LEFT JOIN odd o ON o.bill_id = r.bill_id
	LEFT JOIN traced t ON t.bill_id = r.bill_id AND t.supply_id = r.supply_id AND t.from_ts = r.from_ts
$$;
COMMENT ON FUNCTION submeter.store_bill_meters(int, bigint[]) IS 'Writes the registers bills rest on; their energy adds up to that of the bill.';

CREATE FUNCTION submeter.announce_bills(site_id int, bill_ids bigint[], as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.queue_notice(b.site_id, b.account_id, CASE WHEN b.due_at IS NULL THEN 'bill_issued' ELSE 'bill_due' END, 'bill:' || b.bill_id::text,
		jsonb_build_object('amount', b.amount, 'kwh', round(b.energy_wh * 0.001, 2)::text, 'due_at', b.due_at, 'number', b.bill_id::text,
			'cycle', to_char(b.cycle_start AT TIME ZONE s.time_zone, 'YYYY-MM-DD') || ' – '
				|| to_char(b.cycle_end AT TIME ZONE s.time_zone - interval '1 microsecond', 'YYYY-MM-DD'),
			'available', b.closing_balance), announce_bills.as_of, false)
	FROM submeter.bill b
	JOIN submeter.site s ON s.site_id = b.site_id
	JOIN submeter.account a ON a.site_id = b.site_id AND a.account_id = b.account_id
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id) AND p.mode <> 'observe'
	WHERE b.site_id = announce_bills.site_id AND b.bill_id = ANY (announce_bills.bill_ids) AND (b.amount <> 0 OR b.energy_wh <> 0)
		AND EXISTS (SELECT FROM submeter.contact c WHERE c.site_id = a.site_id AND c.tenant_id = a.tenant_id)
	ORDER BY b.bill_id
$$;
COMMENT ON FUNCTION submeter.announce_bills(int, bigint[], timestamptz) IS 'Tells the tenants of new bills; nobody is told of a bill about nothing, or while the policy only observes.';

-- Closing cycles

CREATE FUNCTION submeter.open_cycles(site_id int, upto timestamptz, account_id bigint DEFAULT NULL)
RETURNS TABLE (account_id bigint, from_ts timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.account_id, f.from_ts
	FROM submeter.site s
	JOIN submeter.account a ON a.site_id = s.site_id
	LEFT JOIN LATERAL (
		SELECT b.cycle_start FROM submeter.bill b WHERE b.site_id = a.site_id AND b.account_id = a.account_id
		ORDER BY b.cycle_start DESC LIMIT 1) b ON true
	-- The first cycle is that of the first charge, or the one in which the account was entered: supplies may be older than the books.
	LEFT JOIN LATERAL (
		SELECT c.cycle_start FROM submeter.charge c WHERE b.cycle_start IS NULL AND c.site_id = a.site_id AND c.account_id = a.account_id
		ORDER BY c.cycle_start LIMIT 1) c ON true
	-- As cycle_at() has it, but for a whole site at once.
	CROSS JOIN LATERAL (
		SELECT (date_trunc('month', (coalesce(b.cycle_start, least(a.opened_at, c.cycle_start)) AT TIME ZONE s.time_zone) - (s.cycle_day - 1) * interval '1 day')
			+ (s.cycle_day - 1) * interval '1 day' + CASE WHEN b.cycle_start IS NULL THEN interval '0' ELSE interval '1 month' END) AT TIME ZONE s.time_zone AS from_ts) f
	WHERE s.site_id = open_cycles.site_id AND (open_cycles.account_id IS NULL OR a.account_id = open_cycles.account_id) AND f.from_ts < open_cycles.upto
		AND EXISTS (SELECT FROM submeter.supply y WHERE y.site_id = a.site_id AND y.account_id = a.account_id
			AND y.during && tstzrange(f.from_ts, open_cycles.upto))
$$;
COMMENT ON FUNCTION submeter.open_cycles(int, timestamptz, bigint) IS
'Accounts of a site (or one) with a supply since their last bill, and from when on they have none.';

CREATE FUNCTION submeter.unread_supplies(site_id int, account_ids bigint[], cycle_start timestamptz, cycle_end timestamptz)
RETURNS TABLE (account_id bigint, meter_id bigint, at timestamptz, ever_read boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.account_id, s.meter_id, e.at, r.valid_ts IS NOT NULL
	FROM submeter.supply s
	CROSS JOIN LATERAL (SELECT least(coalesce(upper(s.during), 'infinity'), unread_supplies.cycle_end) AS at) e
	LEFT JOIN submeter.meter_settled m ON m.site_id = s.site_id AND m.meter_id = s.meter_id
	LEFT JOIN submeter.meter_state r ON r.site_id = s.site_id AND r.meter_id = s.meter_id
	WHERE s.site_id = unread_supplies.site_id AND s.account_id = ANY (unread_supplies.account_ids)
		AND s.during && tstzrange(unread_supplies.cycle_start, unread_supplies.cycle_end)
		AND (m.settled_to IS NULL OR m.settled_to < e.at)
		AND NOT EXISTS (SELECT FROM submeter.register_estimate x WHERE x.site_id = s.site_id AND x.meter_id = s.meter_id AND x.ts >= e.at)
$$;
COMMENT ON FUNCTION submeter.unread_supplies(int, bigint[], timestamptz, timestamptz) IS
'Supplies of accounts in a cycle that are not settled up to their end in it.';

CREATE FUNCTION submeter.estimate_unread(site_id int, account_ids bigint[], cycle_start timestamptz, cycle_end timestamptz, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	estimated int;
BEGIN
	INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason, by)
	SELECT estimate_unread.site_id, u.meter_id, u.at, u.wh, 'no reading at the end of the billing cycle', (submeter.me()).login
	FROM (
		SELECT DISTINCT x.meter_id, x.at, submeter.estimate_register(estimate_unread.site_id, x.meter_id, x.at) AS wh
		FROM submeter.unread_supplies(estimate_unread.site_id, estimate_unread.account_ids, estimate_unread.cycle_start, estimate_unread.cycle_end) x
		WHERE x.ever_read) u
	WHERE u.wh IS NOT NULL
	ORDER BY u.meter_id
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS estimated = ROW_COUNT;
	IF estimated > 0 THEN
		PERFORM submeter.settle_now(estimate_unread.site_id, estimate_unread.as_of);
	END IF;
	RETURN estimated;
END
$$;
COMMENT ON FUNCTION submeter.estimate_unread(int, bigint[], timestamptz, timestamptz, timestamptz) IS
'Assumes registers for the supplies of accounts that lack a reading at the end of a cycle, and settles on them; meters that never read stay without.';

CREATE FUNCTION submeter.close_accounts(site_id int, account_ids bigint[], cycle_start timestamptz, cycle_end timestamptz, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	closing record;
	whole record := submeter.cycle_at(close_accounts.site_id, close_accounts.cycle_start);
BEGIN
	-- Where nothing was used there is a charge of nothing, so that what comes later finds it closed.
	INSERT INTO submeter.charge (site_id, account_id, tariff_id, cycle_start, cycle_end, settled_to, span_from, span_wh, tier_wh, energy_wh, amount, rounded)
	SELECT DISTINCT s.site_id, s.account_id, s.tariff_id, whole.cycle_start, whole.cycle_end, whole.cycle_start, '{}'::timestamptz[], '{}'::bigint[], '{}'::bigint[], 0, 0, 0
	FROM submeter.supply s
	WHERE s.site_id = close_accounts.site_id AND s.account_id = ANY (close_accounts.account_ids)
		AND s.during && tstzrange(close_accounts.cycle_start, close_accounts.cycle_end)
		AND NOT EXISTS (SELECT FROM submeter.charge c WHERE c.site_id = s.site_id AND c.account_id = s.account_id AND c.tariff_id = s.tariff_id
			AND c.cycle_start = close_accounts.cycle_start);
	WITH made AS (
		UPDATE submeter.charge c SET final = true
		WHERE c.site_id = close_accounts.site_id AND c.account_id = ANY (close_accounts.account_ids) AND c.cycle_start = close_accounts.cycle_start
			AND c.billed IS NULL
		RETURNING c.account_id, c.tariff_id, c.cycle_start
	)
	SELECT array_agg(m.account_id) AS accounts, array_agg(m.tariff_id) AS tariffs, array_agg(m.cycle_start) AS starts INTO closing FROM made m;
	PERFORM submeter.rate_charges(close_accounts.site_id, closing.accounts, closing.tariffs, closing.starts);
	PERFORM submeter.post_differences(close_accounts.site_id, close_accounts.as_of, close_accounts.account_ids, close_accounts.cycle_start);
	RETURN cardinality(submeter.make_bills(close_accounts.site_id, close_accounts.account_ids, close_accounts.cycle_start, close_accounts.cycle_end,
		close_accounts.as_of));
END
$$;
COMMENT ON FUNCTION submeter.close_accounts(int, bigint[], timestamptz, timestamptz, timestamptz) IS
'Closes one cycle of accounts: final rating, posting, bills. The caller holds the site''s row of the duty settle and knows that they can be closed. Returns the number of bills.';

CREATE FUNCTION submeter.close_due(site_id int, upto timestamptz, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	delay interval := (SELECT s.close_delay FROM submeter.site s WHERE s.site_id = close_due.site_id);
	cycle record;
	ids bigint[];
	froms timestamptz[];
	here bigint[];
	ready bigint[];
	closed int := 0;
BEGIN
	PERFORM FROM submeter.duty_state d WHERE d.site_id = close_due.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.settle(close_due.site_id, close_due.as_of);
	PERFORM submeter.post_adjustments(close_due.site_id, close_due.as_of);
	SELECT array_agg(o.account_id), array_agg(o.from_ts) INTO ids, froms FROM submeter.open_cycles(close_due.site_id, close_due.upto) o;
	SELECT (submeter.cycle_at(close_due.site_id, min(f))).* INTO cycle FROM unnest(froms) f;
	WHILE cycle.cycle_end <= close_due.upto LOOP
		SELECT array_agg(k.account_id ORDER BY k.account_id) INTO here
		FROM unnest(ids, froms) k(account_id, from_ts)
		WHERE k.from_ts <= cycle.cycle_start AND EXISTS (
			SELECT FROM submeter.supply s WHERE s.site_id = close_due.site_id AND s.account_id = k.account_id
				AND s.during && tstzrange(cycle.cycle_start, cycle.cycle_end));
		IF here IS NOT NULL THEN
			IF cycle.cycle_end + delay <= close_due.as_of THEN
				PERFORM submeter.estimate_unread(close_due.site_id, here, cycle.cycle_start, cycle.cycle_end, close_due.as_of);
			END IF;
			ready := submeter.closable(close_due.site_id, here, cycle.cycle_start, cycle.cycle_end, cycle.cycle_end + delay <= close_due.as_of);
			IF cardinality(ready) > 0 THEN
				closed := closed + submeter.close_accounts(close_due.site_id, ready, cycle.cycle_start, cycle.cycle_end, close_due.as_of);
			END IF;
			-- Who has to wait waits with all later cycles.
			SELECT array_agg(k.account_id), array_agg(k.from_ts) INTO ids, froms
			FROM unnest(ids, froms) k(account_id, from_ts) WHERE k.account_id <> ALL (here) OR k.account_id = ANY (ready);
		END IF;
		cycle := submeter.cycle_at(close_due.site_id, cycle.cycle_end);
	END LOOP;
	RETURN closed;
END
$$;
COMMENT ON FUNCTION submeter.close_due(int, timestamptz, timestamptz) IS
'Closes, in the order of time, the cycles that ended at or before upto of all accounts that can be closed as of a time. Returns the number of bills.';

CREATE FUNCTION submeter.closable(site_id int, account_ids bigint[], cycle_start timestamptz, cycle_end timestamptz, is_late boolean) RETURNS bigint[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(k.account_id ORDER BY k.account_id), '{}')
	FROM unnest(closable.account_ids) k(account_id)
	-- Late, only meters that never read are still without: nothing is known of them.
	WHERE k.account_id NOT IN (
			SELECT u.account_id FROM submeter.unread_supplies(closable.site_id, closable.account_ids, closable.cycle_start, closable.cycle_end) u
			WHERE u.ever_read OR NOT closable.is_late)
		AND k.account_id NOT IN (
			SELECT c.account_id FROM submeter.charge c
			WHERE c.site_id = closable.site_id AND c.cycle_start <= closable.cycle_start AND c.billed IS NULL AND c.unpriced_wh <> 0)
$$;
COMMENT ON FUNCTION submeter.closable(int, bigint[], timestamptz, timestamptz, boolean) IS
'Those of the accounts whose supplies are read (or, late, estimated) to the end of a cycle and whose energy has a price.';

CREATE FUNCTION submeter.close_cycle(site_id int, upto date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ended timestamptz;
BEGIN
	PERFORM submeter.authorize('close_cycle', close_cycle.site_id);
	IF close_cycle.upto IS NULL OR NOT isfinite(close_cycle.upto) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'close_cycle needs a day',
			DETAIL = 'Cycles that ended on or before that local day are closed.', HINT = 'Pass current_date to close all that have ended.';
	END IF;
	SELECT least((close_cycle.upto + 1)::timestamp AT TIME ZONE s.time_zone, now()) INTO ended FROM submeter.site s WHERE s.site_id = close_cycle.site_id;
	RETURN submeter.close_due(close_cycle.site_id, ended, now());
END
$$;
COMMENT ON FUNCTION submeter.close_cycle(int, date) IS
'Closes every billing cycle that ended on or before a local day and makes the bills: of accounts whose supplies have a reading at or after its end, after site.close_delay with an estimate. Closing again does nothing. Returns the number of bills.';

CREATE FUNCTION submeter.close_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted boolean;
BEGIN
	SELECT s.close_cycles AND EXISTS (
			SELECT FROM submeter.open_cycles(s.site_id, (submeter.cycle_at(s.site_id, close_duty.as_of)).cycle_start))
	INTO wanted FROM submeter.site s WHERE s.site_id = close_duty.site_id;
	RETURN CASE WHEN wanted THEN submeter.close_due(close_duty.site_id, close_duty.as_of, close_duty.as_of) ELSE 0 END;
END
$$;
COMMENT ON FUNCTION submeter.close_duty(int, timestamptz) IS 'Closes the cycles that ended by as_of where the site wants that done (site.close_cycles).';

CREATE FUNCTION submeter.close_account_cycles(site_id int, account_id bigint, upto timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	cycle record;
	ids bigint[] := ARRAY[close_account_cycles.account_id];
	ends timestamptz;
	closed int := 0;
BEGIN
	PERFORM FROM submeter.duty_state d WHERE d.site_id = close_account_cycles.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.settle_now(close_account_cycles.site_id, close_account_cycles.upto);
	PERFORM submeter.post_adjustments(close_account_cycles.site_id, close_account_cycles.upto);
	SELECT (submeter.cycle_at(close_account_cycles.site_id, o.from_ts)).* INTO cycle
	FROM submeter.open_cycles(close_account_cycles.site_id, close_account_cycles.upto, close_account_cycles.account_id) o;
	WHILE cycle.cycle_start < close_account_cycles.upto LOOP
		ends := least(cycle.cycle_end, close_account_cycles.upto);
		IF EXISTS (SELECT FROM submeter.supply s WHERE s.site_id = close_account_cycles.site_id AND s.account_id = close_account_cycles.account_id
			AND s.during && tstzrange(cycle.cycle_start, ends))
		THEN
			PERFORM submeter.estimate_unread(close_account_cycles.site_id, ids, cycle.cycle_start, ends, close_account_cycles.upto);
			IF submeter.closable(close_account_cycles.site_id, ids, cycle.cycle_start, ends, true) = '{}' THEN
				RAISE EXCEPTION USING ERRCODE = '55000',
					MESSAGE = format('account %s cannot be closed up to %s', close_account_cycles.account_id, close_account_cycles.upto),
					DETAIL = 'Energy was used at a time for which its tariff has no version; it waits unpriced.',
					HINT = 'Add the version with create_tariff(), then close the account.';
			END IF;
			closed := closed + submeter.close_accounts(close_account_cycles.site_id, ids, cycle.cycle_start, ends, close_account_cycles.upto);
		END IF;
		cycle := submeter.cycle_at(close_account_cycles.site_id, cycle.cycle_end);
	END LOOP;
	RETURN closed;
END
$$;
COMMENT ON FUNCTION submeter.close_account_cycles(int, bigint, timestamptz) IS
'Closes all cycles of an account up to an instant, the running one as its last: for moving out. Missing registers are estimated; 55000 while energy has no price. Returns the number of bills.';
