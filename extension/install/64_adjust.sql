-- Room: adjustments. What registers showed between readings, and what turned out differently after a cycle was closed.
-- Lock order: the site's row of the duty settle, then tenant ledger accounts by ledger_account_id.

CREATE FUNCTION submeter.cycle_at(site_id int, at timestamptz, OUT cycle_start timestamptz, OUT cycle_end timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.first AT TIME ZONE s.time_zone, (m.first + interval '1 month') AT TIME ZONE s.time_zone
	FROM submeter.site s
	CROSS JOIN LATERAL (
		SELECT date_trunc('month', (cycle_at.at AT TIME ZONE s.time_zone) - (s.cycle_day - 1) * interval '1 day')
			+ (s.cycle_day - 1) * interval '1 day' AS first) m
	WHERE s.site_id = cycle_at.site_id
$$;
COMMENT ON FUNCTION submeter.cycle_at(int, timestamptz) IS 'The billing cycle of a site that holds an instant.';

-- What registers showed

CREATE FUNCTION submeter.reading_counts(site_id int, meter_id bigint, ts timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	word text := (SELECT v.verdict FROM submeter.reading_verdict v
		WHERE v.site_id = reading_counts.site_id AND v.meter_id = reading_counts.meter_id AND v.ts = reading_counts.ts
		ORDER BY v.verdict_id DESC LIMIT 1);
BEGIN
	RETURN CASE WHEN word IS NOT NULL THEN word <> 'withdraw'
		ELSE NOT EXISTS (SELECT FROM submeter.reading_suspect q
			WHERE q.site_id = reading_counts.site_id AND q.meter_id = reading_counts.meter_id AND q.ts = reading_counts.ts
				AND q.state = 'open' AND q.rule <> 'second_value') END;
END
$$;
COMMENT ON FUNCTION submeter.reading_counts(int, bigint, timestamptz) IS 'Whether a reading counts: not withdrawn, and not suspect unless a person let it pass.';

CREATE FUNCTION submeter.register_read(site_id int, meter_id bigint, ts timestamptz, energy_wh bigint) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT v.energy_wh FROM submeter.reading_verdict v
		WHERE v.site_id = register_read.site_id AND v.meter_id = register_read.meter_id AND v.ts = register_read.ts
		ORDER BY v.verdict_id DESC LIMIT 1), register_read.energy_wh)
$$;
COMMENT ON FUNCTION submeter.register_read(int, bigint, timestamptz, bigint) IS 'Register of a reading, or what a verdict replaced it by.';

CREATE FUNCTION submeter.register_bounds(site_id int, meter_ids bigint[], ats timestamptz[])
RETURNS TABLE (meter_id bigint, at timestamptz, before_ts timestamptz, before_wh bigint, after_ts timestamptz, after_wh bigint, after_estimated boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Most meters never had a strange reading: theirs are taken as they are, in the order of the index.
	WITH odd AS MATERIALIZED (
		SELECT q.meter_id FROM submeter.reading_suspect q WHERE q.site_id = register_bounds.site_id AND q.state = 'open'
		UNION SELECT v.meter_id FROM submeter.reading_verdict v WHERE v.site_id = register_bounds.site_id
	), wanted AS MATERIALIZED (
		SELECT k.meter_id, k.at, k.meter_id IN (SELECT o.meter_id FROM odd o) AS odd
		FROM unnest(register_bounds.meter_ids, register_bounds.ats) k(meter_id, at)
	), found AS MATERIALIZED (
		SELECT w.*, b.ts AS before_ts, b.energy_wh AS before_wh, a.ts AS after_ts, a.energy_wh AS after_wh
		FROM wanted w
		LEFT JOIN LATERAL (
			SELECT r.ts, r.energy_wh FROM submeter.reading r
			WHERE r.site_id = register_bounds.site_id AND r.meter_id = w.meter_id AND r.ts <= w.at AND r.energy_wh IS NOT NULL
				AND (NOT w.odd OR submeter.reading_counts(r.site_id, r.meter_id, r.ts))
			ORDER BY r.ts DESC LIMIT 1) b ON true
		LEFT JOIN LATERAL (
			SELECT r.ts, r.energy_wh FROM submeter.reading r
			WHERE r.site_id = register_bounds.site_id AND r.meter_id = w.meter_id AND r.ts >= w.at AND r.energy_wh IS NOT NULL
				AND (NOT w.odd OR submeter.reading_counts(r.site_id, r.meter_id, r.ts))
			ORDER BY r.ts LIMIT 1) a ON true
	)
	SELECT f.meter_id, f.at, coalesce(eb.ts, f.before_ts),
		coalesce(eb.wh, CASE WHEN f.odd THEN submeter.register_read(register_bounds.site_id, f.meter_id, f.before_ts, f.before_wh) ELSE f.before_wh END),
		coalesce(f.after_ts, ea.ts),
		coalesce(CASE WHEN f.odd THEN submeter.register_read(register_bounds.site_id, f.meter_id, f.after_ts, f.after_wh) ELSE f.after_wh END, ea.wh),
		f.after_ts IS NULL AND ea.ts IS NOT NULL
	FROM found f
	-- Estimates count while no reading is later.
	LEFT JOIN LATERAL (
		SELECT e.ts, e.energy_wh AS wh FROM submeter.register_estimate e
		WHERE f.after_ts IS NULL AND e.site_id = register_bounds.site_id AND e.meter_id = f.meter_id AND e.ts <= f.at AND e.ts > coalesce(f.before_ts, '-infinity')
		ORDER BY e.ts DESC LIMIT 1) eb ON true
	LEFT JOIN LATERAL (
		SELECT e.ts, e.energy_wh AS wh FROM submeter.register_estimate e
		WHERE f.after_ts IS NULL AND e.site_id = register_bounds.site_id AND e.meter_id = f.meter_id AND e.ts >= f.at
		ORDER BY e.ts LIMIT 1) ea ON true
$$;
COMMENT ON FUNCTION submeter.register_bounds(int, bigint[], timestamptz[]) IS
'For pairs of meter and instant the readings that count on either side of it (or at it), estimates included where no reading is later.';

CREATE FUNCTION submeter.estimate_register(site_id int, meter_id bigint, at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last record;
	history record;
	setup record;
	estimate numeric;
BEGIN
	SELECT m.valid_ts, m.valid_wh, s.time_zone, (m.valid_ts AT TIME ZONE s.time_zone)::date AS day INTO last
	FROM submeter.meter_state m JOIN submeter.site s ON s.site_id = m.site_id
	WHERE m.site_id = estimate_register.site_id AND m.meter_id = estimate_register.meter_id AND m.valid_ts IS NOT NULL;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	-- Whole days before the last reading; a meter that is younger counts from its first one.
	SELECT sum(u.energy_wh) AS wh, last.day::timestamp AT TIME ZONE last.time_zone - greatest(min(u.day)::timestamp AT TIME ZONE last.time_zone,
		(SELECT min(r.ts) FROM submeter.reading r WHERE r.site_id = estimate_register.site_id AND r.meter_id = estimate_register.meter_id
			AND r.ts >= (last.day - 28)::timestamp AT TIME ZONE last.time_zone)) AS span
	INTO history
	FROM submeter.usage_day u
	WHERE u.site_id = estimate_register.site_id AND u.meter_id = estimate_register.meter_id AND u.day >= last.day - 28 AND u.day < last.day;
	SELECT e.multiplier, e.register_modulus_wh INTO setup
	FROM submeter.meter_setup e
	WHERE e.site_id = estimate_register.site_id AND e.meter_id = estimate_register.meter_id AND e.valid_from <= estimate_register.at
	ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1;
	estimate := last.valid_wh;
	IF history.span > interval '0' AND estimate_register.at > last.valid_ts THEN
		estimate := estimate + round(history.wh * extract(epoch FROM estimate_register.at - last.valid_ts)
			/ extract(epoch FROM history.span) / coalesce(setup.multiplier, 1));
	END IF;
	RETURN CASE WHEN setup.register_modulus_wh IS NULL THEN estimate ELSE mod(estimate, setup.register_modulus_wh) END;
END
$$;
COMMENT ON FUNCTION submeter.estimate_register(int, bigint, timestamptz) IS
'Register a meter would show at an instant after its last reading if it went on as in the 28 days before that; NULL for a meter that never read.';

-- Posting what turned out differently

CREATE FUNCTION submeter.close_latecomers(site_id int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	late record;
BEGIN
	WITH late AS (
		UPDATE submeter.charge c SET final = true, billed = c.posted
		WHERE c.site_id = close_latecomers.site_id AND c.billed IS NULL AND EXISTS (
			SELECT FROM submeter.bill b WHERE b.site_id = c.site_id AND b.account_id = c.account_id AND b.cycle_start = c.cycle_start)
		RETURNING c.account_id, c.tariff_id, c.cycle_start
	)
	SELECT array_agg(l.account_id) AS accounts, array_agg(l.tariff_id) AS tariffs, array_agg(l.cycle_start) AS starts INTO late FROM late l;
	IF late.accounts IS NOT NULL THEN
		PERFORM submeter.rate_charges(close_latecomers.site_id, late.accounts, late.tariffs, late.starts);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.close_latecomers(int) IS
'Charges that came into being after the bill of their account and cycle (a supply was corrected) are closed ones as well: all of them is adjustment.';

CREATE FUNCTION submeter.adjustment_facts(site_id int, account_id bigint, tariff_id bigint, from_ts timestamptz, to_ts timestamptz, since timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH fed AS (
		SELECT DISTINCT s.meter_id, m.code FROM submeter.supply s JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id
		WHERE s.site_id = adjustment_facts.site_id AND s.account_id = adjustment_facts.account_id AND s.tariff_id = adjustment_facts.tariff_id
			AND s.during && tstzrange(adjustment_facts.from_ts, adjustment_facts.to_ts)
	), reach AS (
		-- A reading moves energy as far as the readings on either side that were known.
		SELECT f.meter_id, f.code,
			coalesce((SELECT r.ts FROM submeter.reading r WHERE r.site_id = adjustment_facts.site_id AND r.meter_id = f.meter_id
				AND r.ts <= adjustment_facts.from_ts AND r.received_at <= adjustment_facts.since ORDER BY r.ts DESC LIMIT 1), adjustment_facts.from_ts) AS lo,
			coalesce((SELECT r.ts FROM submeter.reading r WHERE r.site_id = adjustment_facts.site_id AND r.meter_id = f.meter_id
				AND r.ts >= adjustment_facts.to_ts ORDER BY r.ts LIMIT 1), adjustment_facts.to_ts) AS hi
		FROM fed f
	), fact(ord, at, fact) AS (
		SELECT 1, min(r.ts), jsonb_build_object('kind', 'reading', 'meter', x.code, 'from', min(r.ts), 'to', max(r.ts), 'count', count(*), 'source', r.source)
		FROM reach x JOIN submeter.reading r ON r.site_id = adjustment_facts.site_id AND r.meter_id = x.meter_id AND r.ts BETWEEN x.lo AND x.hi
		WHERE r.received_at > adjustment_facts.since GROUP BY x.code, r.source
		UNION ALL
		SELECT 2, min(v.ts), jsonb_build_object('kind', 'verdict', 'meter', x.code, 'from', min(v.ts), 'to', max(v.ts), 'count', count(*),
			'verdict', v.verdict, 'by', v.by, 'reason', v.reason)
		FROM reach x JOIN submeter.reading_verdict v ON v.site_id = adjustment_facts.site_id AND v.meter_id = x.meter_id AND v.ts BETWEEN x.lo AND x.hi
		WHERE v.at > adjustment_facts.since GROUP BY x.code, v.verdict, v.by, v.reason
		UNION ALL
		SELECT 3, e.ts, jsonb_build_object('kind', 'estimate', 'meter', x.code, 'from', e.ts, 'to', e.ts, 'by', e.by, 'reason', e.reason)
		FROM reach x JOIN submeter.register_estimate e ON e.site_id = adjustment_facts.site_id AND e.meter_id = x.meter_id AND e.ts >= x.lo
		WHERE e.at > adjustment_facts.since AND e.ts <= adjustment_facts.to_ts
		UNION ALL
		SELECT 4, s.entered_at, jsonb_build_object('kind', 'setup', 'meter', f.code, 'from', nullif(s.valid_from, '-infinity'), 'by', s.entered_by, 'reason', s.reason)
		FROM fed f JOIN submeter.meter_setup s ON s.site_id = adjustment_facts.site_id AND s.meter_id = f.meter_id
		WHERE s.entered_at > adjustment_facts.since AND s.valid_from < adjustment_facts.to_ts
		UNION ALL
		SELECT 5, a.changed_at, jsonb_build_object('kind', 'supply', 'meter', m.code, 'operation', lower(a.operation),
			'from', lower((r.row ->> 'during')::tstzrange), 'to', upper((r.row ->> 'during')::tstzrange), 'by', a.changed_by)
		FROM submeter.audit a
		CROSS JOIN LATERAL (SELECT coalesce(a.new_row, a.old_row) AS row) r
		LEFT JOIN submeter.meter m ON m.site_id = a.site_id AND m.meter_id = (r.row ->> 'meter_id')::bigint
		WHERE a.site_id = adjustment_facts.site_id AND a.relation = 'supply' AND a.changed_at > adjustment_facts.since
			AND adjustment_facts.account_id IN ((a.old_row ->> 'account_id')::bigint, (a.new_row ->> 'account_id')::bigint)
			AND (r.row ->> 'during')::tstzrange && tstzrange(adjustment_facts.from_ts, adjustment_facts.to_ts)
		UNION ALL
		SELECT 6, v.entered_at, jsonb_build_object('kind', 'tariff', 'tariff', t.code, 'from', v.valid_from, 'by', v.entered_by, 'reason', v.reason)
		FROM submeter.tariff_version v JOIN submeter.tariff t ON t.site_id = v.site_id AND t.tariff_id = v.tariff_id
		WHERE v.site_id = adjustment_facts.site_id AND v.tariff_id = adjustment_facts.tariff_id
			AND v.entered_at > adjustment_facts.since AND v.valid_from < adjustment_facts.to_ts
		UNION ALL
		SELECT 7, p.entered_at, jsonb_build_object('kind', 'price', 'name', p.name, 'from', p.valid_from, 'by', p.entered_by, 'reason', p.reason)
		FROM submeter.price_item p
		WHERE p.site_id = adjustment_facts.site_id AND p.entered_at > adjustment_facts.since AND p.valid_from < adjustment_facts.to_ts
			AND EXISTS (SELECT FROM submeter.tariff_version v WHERE v.site_id = p.site_id AND v.tariff_id = adjustment_facts.tariff_id
				AND jsonb_path_exists(v.definition, '$.**.ref ? (@ == $name)', jsonb_build_object('name', p.name)))
		UNION ALL
		SELECT 8, a.changed_at, jsonb_build_object('kind', CASE a.relation WHEN 'allowance' THEN 'allowance' ELSE 'calendar' END,
			'operation', lower(a.operation), 'by', a.changed_by)
			|| CASE a.relation WHEN 'allowance' THEN jsonb_build_object('name', r.row ->> 'name') ELSE jsonb_build_object('day', r.row ->> 'day') END
		FROM submeter.audit a
		JOIN submeter.site s ON s.site_id = a.site_id
		CROSS JOIN LATERAL (SELECT coalesce(a.new_row, a.old_row) AS row) r
		WHERE a.site_id = adjustment_facts.site_id AND a.changed_at > adjustment_facts.since
			AND CASE a.relation WHEN 'allowance' THEN (r.row ->> 'account_id')::bigint = adjustment_facts.account_id
					AND (r.row ->> 'tariff_id')::bigint = adjustment_facts.tariff_id
				WHEN 'calendar_day' THEN (r.row ->> 'day')::date BETWEEN (adjustment_facts.from_ts AT TIME ZONE s.time_zone)::date
					AND (adjustment_facts.to_ts AT TIME ZONE s.time_zone)::date ELSE false END
		UNION ALL
		SELECT 9, c.at, jsonb_build_object('kind', 'final_register', 'meter', x.code, 'from', c.change ->> 'at', 'energy_wh', c.change -> 'closing_wh', 'by', c.by, 'reason', c.reason)
		FROM submeter.correction c
		JOIN reach x ON x.meter_id = (c.change ->> 'meter_id')::bigint AND (c.change ->> 'at')::timestamptz BETWEEN x.lo AND x.hi
		WHERE c.site_id = adjustment_facts.site_id AND c.kind = 'final' AND c.at > adjustment_facts.since
	)
	SELECT coalesce(jsonb_agg(jsonb_strip_nulls(f.fact) ORDER BY f.ord, f.at, f.fact::text), '[]') FROM fact f
$$;
COMMENT ON FUNCTION submeter.adjustment_facts(int, bigint, bigint, timestamptz, timestamptz, timestamptz) IS
'Facts behind the charges of an account on a tariff in a time that were entered after since: readings, verdicts, estimates, setups, supplies, versions, prices, allowances and days.';

CREATE FUNCTION submeter.adjustment_cause(site_id int, account_id bigint, tariff_id bigint, cycle_start timestamptz, since timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	upto timestamptz := (submeter.cycle_at(adjustment_cause.site_id, adjustment_cause.cycle_start)).cycle_end;
	found jsonb;
BEGIN
	found := submeter.adjustment_facts(adjustment_cause.site_id, adjustment_cause.account_id, adjustment_cause.tariff_id,
		adjustment_cause.cycle_start, upto, adjustment_cause.since);
	IF found = '[]' THEN
		-- Something earlier in the same tier cycle moved the tiers of this one.
		SELECT coalesce(jsonb_agg(f.fact || '{"through": "tier position"}'), '[]') INTO found
		FROM jsonb_array_elements(submeter.adjustment_facts(adjustment_cause.site_id, adjustment_cause.account_id, adjustment_cause.tariff_id,
			adjustment_cause.cycle_start - interval '1 year', adjustment_cause.cycle_start, adjustment_cause.since)) f(fact);
	END IF;
	IF found = '[]' THEN
		-- What was on its way while the bill was made came in just before it by its own clock.
		found := submeter.adjustment_facts(adjustment_cause.site_id, adjustment_cause.account_id, adjustment_cause.tariff_id,
			adjustment_cause.cycle_start, upto, adjustment_cause.since - interval '1 minute');
	END IF;
	RETURN CASE WHEN found = '[]' THEN '[{"kind": "unknown"}]' ELSE found END;
END
$$;
COMMENT ON FUNCTION submeter.adjustment_cause(int, bigint, bigint, timestamptz, timestamptz) IS
'Why the charge of a closed cycle differs from what was known at since: a list of {kind, meter, from, to, count, by, reason …}.';

CREATE FUNCTION submeter.post_adjustments(site_id int, as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	revenue bigint := submeter.system_ledger_account(post_adjustments.site_id, 'revenue', 'revenue');
	login name := (submeter.me()).login;
	posted int;
BEGIN
	PERFORM FROM submeter.duty_state d WHERE d.site_id = post_adjustments.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.close_latecomers(post_adjustments.site_id);
	PERFORM submeter.hold_posting(post_adjustments.site_id);
	WITH due AS MATERIALIZED (
		SELECT c.account_id, c.tariff_id, c.cycle_start, c.rounded - c.billed - c.adjusted AS difference, l.ledger_account_id
		FROM submeter.charge c
		JOIN submeter.ledger_account l ON l.site_id = c.site_id AND l.account_id = c.account_id AND l.kind = 'tenant'
		-- Energy without a price waits; to take it back meanwhile would be wrong as well.
		WHERE c.site_id = post_adjustments.site_id AND c.reopened AND c.unpriced_wh = 0
		ORDER BY l.ledger_account_id
		FOR NO KEY UPDATE OF l
	), numbered AS MATERIALIZED (
		SELECT d.*, nextval('submeter.charge_adjustment_adjustment_id_seq') AS adjustment_id, nextval('submeter.transfer_id_seq') AS transfer_id,
			submeter.adjustment_cause(post_adjustments.site_id, d.account_id, d.tariff_id, d.cycle_start, greatest(
				(SELECT max(b.issued_at) FROM submeter.bill b WHERE b.site_id = post_adjustments.site_id AND b.account_id = d.account_id
					AND b.cycle_start = d.cycle_start AND b.state <> 'reversal'),
				(SELECT max(x.made_at) FROM submeter.charge_adjustment x WHERE x.site_id = post_adjustments.site_id AND x.account_id = d.account_id
					AND x.tariff_id = d.tariff_id AND x.cycle_start = d.cycle_start))) AS cause
		FROM due d
	), totals AS (
		UPDATE submeter.ledger_account l SET total = l.total - s.difference
		FROM (SELECT n.ledger_account_id, sum(n.difference) AS difference FROM numbered n GROUP BY n.ledger_account_id) s
		WHERE l.site_id = post_adjustments.site_id AND l.ledger_account_id = s.ledger_account_id
	), stored AS (
		UPDATE submeter.charge c SET adjusted = c.adjusted + n.difference
		FROM numbered n
		WHERE c.site_id = post_adjustments.site_id AND c.account_id = n.account_id AND c.tariff_id = n.tariff_id AND c.cycle_start = n.cycle_start
	), noted AS (
		INSERT INTO submeter.charge_adjustment (site_id, adjustment_id, account_id, tariff_id, cycle_start, transfer_id, amount, cause)
		SELECT post_adjustments.site_id, n.adjustment_id, n.account_id, n.tariff_id, n.cycle_start, n.transfer_id, n.difference, n.cause FROM numbered n
	), proposed AS (
		INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
		SELECT post_adjustments.site_id, n.account_id, CASE WHEN n.difference > 0 THEN 'debt' ELSE 'refund' END, abs(n.difference), 'adjustment',
			'adjustment:' || n.adjustment_id::text,
			jsonb_build_object('adjustment_id', n.adjustment_id, 'tariff_id', n.tariff_id, 'cycle_start', n.cycle_start, 'cause', n.cause)
		FROM numbered n
		JOIN submeter.account a ON a.site_id = post_adjustments.site_id AND a.account_id = n.account_id AND a.state = 'closed'
	)
	INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, tariff_id, cycle_start,
		idempotency_key, effective_at, created_by)
	SELECT post_adjustments.site_id, n.transfer_id,
		CASE WHEN n.difference > 0 THEN n.ledger_account_id ELSE revenue END,
		CASE WHEN n.difference > 0 THEN revenue ELSE n.ledger_account_id END,
		abs(n.difference), 'adjustment', n.account_id, n.tariff_id, n.cycle_start,
		'adjustment:' || n.adjustment_id::text, post_adjustments.as_of, login
	FROM numbered n;
	GET DIAGNOSTICS posted = ROW_COUNT;
	RETURN posted;
END
$$;
COMMENT ON FUNCTION submeter.post_adjustments(int, timestamptz) IS
'What is owed for closed cycles after all: one movement per account, tariff and cycle, with its cause in charge_adjustment; of closed accounts a proposal to refund or collect besides. A second run posts nothing. Part of post_charges().';
