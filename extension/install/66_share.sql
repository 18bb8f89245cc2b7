-- Room: sharing. Common energy, losses and whole grid bills over tenants, from frozen inputs, with a derivation each.
-- Inputs are gathered once (share_inputs) and kept with the run; what each account bears is a pure function of them
-- (share_split), so that anybody can derive it again years later. Compiling these queries would take a hundred times as
-- long as running them, so it is off.

CREATE FUNCTION submeter.apportion(total numeric, weights numeric[]) RETURNS numeric[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whole numeric := (SELECT coalesce(sum(w), 0) FROM unnest(apportion.weights) w);
BEGIN
	IF apportion.total IS NULL OR apportion.total <> trunc(apportion.total) OR apportion.weights IS NULL OR 'Infinity' IN (abs(apportion.total), whole) OR whole = 'NaN'
		OR EXISTS (SELECT FROM unnest(apportion.weights) w WHERE w < 0 OR w IS NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'only a whole number is apportioned, by weights that are not negative',
			DETAIL = format('Total %s, %s weights.', coalesce(apportion.total::text, 'NULL'), coalesce(cardinality(apportion.weights), 0)),
			HINT = 'Pass money in its smallest unit.';
	END IF;
	IF whole = 0 THEN
		IF apportion.total <> 0 THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'nobody has a weight to be apportioned by',
				DETAIL = format('%s is to be shared and all weights are zero.', apportion.total),
				HINT = 'Choose another method, or say who the members are.';
		END IF;
		RETURN array_fill(0::numeric, ARRAY[cardinality(apportion.weights)]);
	END IF;
	RETURN (
		WITH part AS (
			SELECT u.nth, div(abs(apportion.total) * u.weight, whole) AS base,
				row_number() OVER (ORDER BY mod(abs(apportion.total) * u.weight, whole) DESC, u.nth) AS place
			FROM unnest(apportion.weights) WITH ORDINALITY u(weight, nth)
		), left_over AS (
			SELECT abs(apportion.total) - sum(p.base) AS units FROM part p
		)
		SELECT array_agg(sign(apportion.total) * (p.base + CASE WHEN p.place <= o.units THEN 1 ELSE 0 END) ORDER BY p.nth)
		FROM part p CROSS JOIN left_over o);
END
$$;
COMMENT ON FUNCTION submeter.apportion(numeric, numeric[]) IS
'Divides a whole number in proportion to weights: the parts are whole and add up; what rounding down leaves over goes to the largest remainders, the first of equals first.';

CREATE FUNCTION submeter.share_split(inputs jsonb)
RETURNS TABLE (line int, account_id bigint, weight numeric, energy_wh bigint, due numeric, charged numeric, amount numeric, formula text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH member AS (
		SELECT m.nth, (m.item ->> 'account_id')::bigint AS account_id, (m.item ->> 'weight')::numeric AS weight, coalesce((m.item ->> 'charged')::numeric, 0) AS charged
		FROM jsonb_array_elements(share_split.inputs -> 'members') WITH ORDINALITY m(item, nth)
	), whole AS (
		SELECT (share_split.inputs ->> 'amount')::numeric AS amount, sum(m.weight) AS weight,
			submeter.apportion((share_split.inputs ->> 'amount')::numeric * 100, coalesce(array_agg(m.weight ORDER BY m.nth), '{}')) AS cents,
			submeter.apportion((share_split.inputs ->> 'energy_wh')::numeric, coalesce(array_agg(m.weight ORDER BY m.nth), '{}')) AS wh,
			CASE share_split.inputs ->> 'method' WHEN 'area' THEN 86400 WHEN 'heads' THEN 86400 WHEN 'equal' THEN 86400 ELSE 1000 END AS per,
			CASE share_split.inputs ->> 'method' WHEN 'area' THEN 'm2 days' WHEN 'heads' THEN 'head days' WHEN 'equal' THEN 'days' ELSE 'kWh' END AS unit
		FROM member m
	)
	SELECT m.nth::int, m.account_id, m.weight, w.wh[m.nth]::bigint, round(w.cents[m.nth] / 100, 2), m.charged, round(w.cents[m.nth] / 100, 2) - m.charged,
		format('%s x %s / %s %s = %s', round(w.amount, 2), trim_scale(round(m.weight / w.per, 4)), trim_scale(round(w.weight / w.per, 4)), w.unit,
			round(w.cents[m.nth] / 100, 2))
			|| CASE WHEN m.charged <> 0 THEN format('; less %s charged = %s', m.charged, round(w.cents[m.nth] / 100, 2) - m.charged) ELSE '' END
	FROM member m CROSS JOIN whole w
	ORDER BY m.nth
$$;
COMMENT ON FUNCTION submeter.share_split(jsonb) IS
'What each member bears, from the inputs of a run alone: amount x weight / weights, cents that are left over to the largest remainders. Anyone can derive a run again from share_run.inputs.';

CREATE FUNCTION submeter.share_last(site_id int, pool_id bigint, cycle_start timestamptz) RETURNS TABLE (run_id bigint, revision int, kind text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.run_id, r.revision, r.kind FROM submeter.share_run r
	WHERE r.site_id = share_last.site_id AND r.pool_id = share_last.pool_id AND r.cycle_start = share_last.cycle_start
	ORDER BY r.revision DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.share_last(int, bigint, timestamptz) IS 'The run of a pool and cycle that counts; no row when it was never run.';

CREATE FUNCTION submeter.share_difference(site_id int, last_run_id bigint, inputs jsonb)
RETURNS TABLE (line int, account_id bigint, weight numeric, energy_wh bigint, due numeric, charged numeric, amount numeric, posted numeric, formula text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH before AS (
		SELECT l.account_id, l.amount FROM submeter.share_line l
		WHERE l.site_id = share_difference.site_id AND l.run_id = share_difference.last_run_id
	), split AS (
		SELECT * FROM submeter.share_split(share_difference.inputs)
	)
	SELECT s.line, s.account_id, s.weight, s.energy_wh, s.due, s.charged, s.amount, s.amount - coalesce(b.amount, 0), s.formula
	FROM split s LEFT JOIN before b ON b.account_id IS NOT DISTINCT FROM s.account_id
	UNION ALL
	SELECT (SELECT coalesce(max(s.line), 0) FROM split s)::int + row_number() OVER (ORDER BY b.account_id)::int, b.account_id, 0, 0, 0, 0, 0, -b.amount,
		CASE WHEN share_difference.inputs -> 'members' = '[]' THEN 'taken back' ELSE 'no member any more' END
	FROM before b WHERE b.amount <> 0 AND NOT EXISTS (SELECT FROM split s WHERE s.account_id IS NOT DISTINCT FROM b.account_id)
$$;
COMMENT ON FUNCTION submeter.share_difference(int, bigint, jsonb) IS
'The lines of a run with these inputs and what each adds to an earlier run, members of that one who are none any more included.';

CREATE FUNCTION submeter.run_share(site_id int, pool text, cycle_start timestamptz, dry_run boolean DEFAULT true, reason text DEFAULT NULL,
	as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, state text, kwh numeric, due numeric, charged numeric, old numeric, new numeric,
	difference numeric, formula text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	cycle record;
	shared bigint;
	last record;
	inputs jsonb;
BEGIN
	PERFORM submeter.authorize('run_share', run_share.site_id);
	IF run_share.as_of IS NULL OR NOT isfinite(run_share.as_of) OR run_share.dry_run IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'run_share needs a point in time and to know whether it is a dry run',
			HINT = 'Leave as_of and dry_run out for a dry run now.';
	END IF;
	cycle := submeter.share_cycle(run_share.site_id, run_share.cycle_start);
	shared := submeter.share_pool_id(run_share.site_id, run_share.pool);
	-- Takes the lock of settle, so that what is frozen stands still, and two runs take turns.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = run_share.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	IF NOT run_share.dry_run THEN
		PERFORM submeter.share_ready(run_share.site_id, shared, run_share.cycle_start, cycle.cycle_end, run_share.as_of);
	END IF;
	inputs := submeter.share_inputs(run_share.site_id, shared, run_share.cycle_start);
	SELECT l.* INTO last FROM submeter.share_last(run_share.site_id, shared, run_share.cycle_start) l;
	RETURN QUERY
	SELECT d.account_id, a.code, t.code, a.state, round(d.energy_wh * 0.001, 3), d.due, d.charged, d.amount - d.posted, d.amount, d.posted, d.formula
	FROM submeter.share_difference(run_share.site_id, last.run_id, inputs) d
	LEFT JOIN submeter.account a ON a.site_id = run_share.site_id AND a.account_id = d.account_id
	LEFT JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	ORDER BY d.line;
	IF run_share.dry_run OR last.run_id IS NOT NULL AND NOT EXISTS (
		SELECT FROM submeter.share_difference(run_share.site_id, last.run_id, inputs) d WHERE d.posted <> 0)
	THEN
		RETURN;
	END IF;
	IF last.run_id IS NOT NULL THEN
		PERFORM submeter.require_text('reason', run_share.reason);
	END IF;
	PERFORM submeter.require_approval('run_share', run_share.site_id, jsonb_build_object('pool', run_share.pool, 'cycle', cycle.from_day));
	PERFORM submeter.share_post(run_share.site_id, shared, run_share.cycle_start, cycle.cycle_end, last.run_id, 'share', inputs, run_share.reason, run_share.as_of);
END
$$;
COMMENT ON FUNCTION submeter.run_share(int, text, timestamptz, boolean, text, timestamptz) IS
'Shares a pool out for a billing cycle: what each account bears, with its derivation; the row without an account is the landlord''s. A dry run stores nothing; a real one freezes the inputs and posts one movement per account. Again it posts the difference only, with a reason, and nothing when there is none. 55000 when the cycle or its readings are not complete. Passes the approval hook with {pool, cycle}.';

CREATE FUNCTION submeter.share_pool_id(site_id int, pool text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id bigint;
BEGIN
	SELECT p.pool_id INTO found_id FROM submeter.share_pool p WHERE p.site_id = share_pool_id.site_id AND p.code = share_pool_id.pool AND p.enabled;
	IF found_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no pool %s', share_pool_id.site_id, coalesce(share_pool_id.pool, 'NULL')),
			HINT = 'SELECT code, name FROM submeter.share_pool WHERE enabled lists the pools.';
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.share_pool_id(int, text) IS 'Number of the pool with a code; P0002 when there is none, or it is not enabled.';

CREATE FUNCTION submeter.share_ready(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	waiting text[];
BEGIN
	IF share_ready.as_of < share_ready.cycle_end THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the billing cycle is not over', HINT = 'Until then only a dry run is possible.';
	END IF;
	PERFORM submeter.settle(share_ready.site_id, share_ready.as_of);
	waiting := submeter.share_waiting(share_ready.site_id, share_ready.pool_id, share_ready.cycle_start, share_ready.cycle_end);
	IF cardinality(waiting) > 0 AND share_ready.as_of < share_ready.cycle_end + (
		SELECT s.close_delay FROM submeter.site s WHERE s.site_id = share_ready.site_id)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'readings at the end of the cycle are missing',
			DETAIL = format('Meters: %s.', array_to_string(waiting[1:10], ', ') || CASE WHEN cardinality(waiting) > 10 THEN ' …' ELSE '' END),
			HINT = 'Read them, or wait until site.close_delay after the end of the cycle: what is known by then is shared.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.share_ready(int, bigint, timestamptz, timestamptz, timestamptz) IS
'Settles, and refuses (55000) while the cycle or, for close_delay after it, the readings of the pool are not complete.';

CREATE FUNCTION submeter.share_post(site_id int, pool_id bigint, cycle_start timestamptz, cycle_end timestamptz, last_run_id bigint, kind text,
	inputs jsonb, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	run bigint;
	income bigint;
	who name := (submeter.me()).login;
	pool_code text;
BEGIN
	SELECT p.code INTO pool_code FROM submeter.share_pool p WHERE p.site_id = share_post.site_id AND p.pool_id = share_post.pool_id;
	income := submeter.system_ledger_account(share_post.site_id, 'share:' || pool_code, 'revenue');
	PERFORM FROM submeter.ledger_account l
	WHERE l.site_id = share_post.site_id AND l.kind = 'tenant' AND l.account_id IN (
		SELECT d.account_id FROM submeter.share_difference(share_post.site_id, share_post.last_run_id, share_post.inputs) d WHERE d.posted <> 0)
	ORDER BY l.ledger_account_id FOR NO KEY UPDATE;
	INSERT INTO submeter.share_run (site_id, pool_id, cycle_start, cycle_end, revision, kind, replaces_id, energy_wh, amount, inputs, reason, made_by)
	VALUES (share_post.site_id, share_post.pool_id, share_post.cycle_start, share_post.cycle_end,
		coalesce((SELECT r.revision + 1 FROM submeter.share_run r WHERE r.site_id = share_post.site_id AND r.run_id = share_post.last_run_id), 0),
		share_post.kind, share_post.last_run_id, (share_post.inputs ->> 'energy_wh')::bigint, (share_post.inputs ->> 'amount')::numeric,
		share_post.inputs, share_post.reason, who)
	RETURNING run_id INTO run;
	WITH line AS MATERIALIZED (
		SELECT d.*, CASE WHEN d.account_id IS NOT NULL AND d.posted <> 0 THEN submeter.next_movement(share_post.site_id) END AS transfer_id, l.ledger_account_id
		FROM submeter.share_difference(share_post.site_id, share_post.last_run_id, share_post.inputs) d
		LEFT JOIN submeter.ledger_account l ON l.site_id = share_post.site_id AND l.account_id = d.account_id AND l.kind = 'tenant'
	), moved AS (
		INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, cycle_start, note, idempotency_key, effective_at, created_by)
		SELECT share_post.site_id, x.transfer_id, CASE WHEN x.posted > 0 THEN x.ledger_account_id ELSE income END,
			CASE WHEN x.posted > 0 THEN income ELSE x.ledger_account_id END, abs(x.posted), 'share', x.account_id, share_post.cycle_start,
			coalesce(share_post.reason, pool_code), format('share:%s:%s', run, x.account_id), share_post.as_of, who
		FROM line x WHERE x.transfer_id IS NOT NULL
	), totals AS (
		UPDATE submeter.ledger_account l SET total = l.total - x.posted
		FROM line x
		WHERE x.transfer_id IS NOT NULL AND l.site_id = share_post.site_id AND l.ledger_account_id = x.ledger_account_id
	)
	INSERT INTO submeter.share_line (site_id, run_id, line, account_id, weight, energy_wh, due, charged, amount, posted, formula, transfer_id)
	SELECT share_post.site_id, run, x.line, x.account_id, x.weight, x.energy_wh, x.due, x.charged, x.amount, x.posted, x.formula, x.transfer_id
	FROM line x;
	PERFORM submeter.share_follow(share_post.site_id, run, share_post.as_of);
	RETURN run;
END
$$;
COMMENT ON FUNCTION submeter.share_post(int, bigint, timestamptz, timestamptz, bigint, text, jsonb, text, timestamptz) IS
'Writes a run, its lines and one movement per account with what it adds to the run it replaces; returns the run.';

CREATE FUNCTION submeter.share_follow(site_id int, run_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT l.account_id, l.posted, l.transfer_id, a.state, p.code, r.replaces_id
		FROM submeter.share_line l
		JOIN submeter.share_run r ON r.site_id = l.site_id AND r.run_id = l.run_id
		JOIN submeter.share_pool p ON p.site_id = r.site_id AND p.pool_id = r.pool_id
		JOIN submeter.account a ON a.site_id = l.site_id AND a.account_id = l.account_id
		WHERE l.site_id = share_follow.site_id AND l.run_id = share_follow.run_id AND l.transfer_id IS NOT NULL
		ORDER BY l.line
	LOOP
		-- What a former tenant owes is a debt of the person; what a correction asks for besides never cuts anybody.
		IF item.posted > 0 AND (item.state = 'closed' OR item.replaces_id IS NOT NULL) THEN
			PERFORM submeter.defer_debit(share_follow.site_id, item.account_id, item.posted, 'share ' || item.code, share_follow.as_of);
		END IF;
		IF item.state = 'closed' THEN
			INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
			VALUES (share_follow.site_id, item.account_id, CASE WHEN item.posted > 0 THEN 'debt' ELSE 'refund' END, abs(item.posted), 'share',
				format('share:%s:%s', share_follow.run_id, item.account_id),
				jsonb_build_object('pool', item.code, 'run_id', share_follow.run_id, 'transfer_id', item.transfer_id));
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.share_follow(int, bigint, timestamptz) IS
'After a run: of closed accounts a person decides; what they owe, and what a correction asks of open ones, is put aside as debt.';

CREATE FUNCTION submeter.reverse_share(site_id int, pool text, cycle_start timestamptz, reason text, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	cycle record;
	shared bigint;
	last record;
BEGIN
	PERFORM submeter.authorize('reverse_share', reverse_share.site_id);
	PERFORM submeter.require_text('reason', reverse_share.reason);
	IF reverse_share.as_of IS NULL OR NOT isfinite(reverse_share.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'reverse_share needs a point in time', HINT = 'Leave as_of out for now.';
	END IF;
	cycle := submeter.share_cycle(reverse_share.site_id, reverse_share.cycle_start);
	shared := submeter.share_pool_id(reverse_share.site_id, reverse_share.pool);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = reverse_share.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	SELECT l.* INTO last FROM submeter.share_last(reverse_share.site_id, shared, reverse_share.cycle_start) l;
	IF last.run_id IS NULL OR last.kind = 'reversal' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('pool %s is not shared out for this cycle', reverse_share.pool),
			DETAIL = CASE WHEN last.run_id IS NULL THEN 'It was never run.' ELSE format('Run %s took it back already.', last.run_id) END,
			HINT = 'SELECT * FROM submeter.share_run lists the runs.';
	END IF;
	PERFORM submeter.require_approval('reverse_share', reverse_share.site_id, jsonb_build_object('pool', reverse_share.pool, 'cycle', cycle.from_day));
	RETURN submeter.share_post(reverse_share.site_id, shared, reverse_share.cycle_start, cycle.cycle_end, last.run_id, 'reversal',
		'{"energy_wh":0,"amount":0,"members":[]}', reverse_share.reason, reverse_share.as_of);
END
$$;
COMMENT ON FUNCTION submeter.reverse_share(int, text, timestamptz, text, timestamptz) IS
'Takes a pool''s run for a cycle back by opposite movements and returns the run that did; it can be run again afterwards. 55000 when there is nothing to take back. Passes the approval hook with {pool, cycle}.';

CREATE FUNCTION submeter.share_lines(site_id int, account_ids bigint[], cycle_starts timestamptz[])
RETURNS TABLE (account_id bigint, cycle_start timestamptz, component text, energy_wh bigint, amount numeric, detail jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	SELECT l.account_id, b.cycle_start, 'share:' || p.code, l.energy_wh - coalesce(old.energy_wh, 0), l.posted,
		jsonb_build_object('run_id', r.run_id, 'pool', p.name, 'cycle', r.inputs -> 'cycle', 'formula', l.formula, 'transfer_id', l.transfer_id)
			|| CASE WHEN r.replaces_id IS NULL THEN '{}' ELSE jsonb_build_object('corrects', r.replaces_id, 'reason', r.reason, 'before', l.amount - l.posted) END
	FROM submeter.share_line l
	JOIN submeter.share_run r ON r.site_id = l.site_id AND r.run_id = l.run_id
	JOIN submeter.share_pool p ON p.site_id = r.site_id AND p.pool_id = r.pool_id
	LEFT JOIN submeter.share_line old ON old.site_id = l.site_id AND old.run_id = r.replaces_id AND old.account_id = l.account_id
	CROSS JOIN LATERAL (
		-- The first of the bills asked for that is not of an earlier cycle.
		SELECT min(w.cycle_start) AS cycle_start FROM unnest(share_lines.account_ids, share_lines.cycle_starts) w(account_id, cycle_start)
		WHERE w.account_id = l.account_id AND w.cycle_start >= r.cycle_start) b
	WHERE l.site_id = share_lines.site_id AND l.account_id = ANY (share_lines.account_ids) AND l.posted <> 0 AND b.cycle_start IS NOT NULL
		AND NOT EXISTS (
			SELECT FROM submeter.bill x JOIN submeter.bill_line y ON y.site_id = x.site_id AND y.bill_id = x.bill_id
			WHERE x.site_id = l.site_id AND x.account_id = l.account_id AND x.state = 'issued'
				AND y.component LIKE 'share:%' AND (y.detail ->> 'run_id')::bigint = r.run_id)
	ORDER BY l.account_id, b.cycle_start, r.run_id
$$;
COMMENT ON FUNCTION submeter.share_lines(int, bigint[], timestamptz[]) IS
'Lines for bills about to be made (accounts and cycles in pairs): shares of that cycle or earlier ones that are on no issued bill yet, each with its derivation.';

CREATE FUNCTION submeter.share_slip(site_id int, pool text, cycle_start timestamptz, account_id bigint)
RETURNS TABLE (line int, item text, label text, quantity numeric, unit text, remark text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	found_line submeter.share_line;
	run submeter.share_run;
	place submeter.site;
BEGIN
	PERFORM submeter.authorize('share_slip', share_slip.site_id);
	SELECT l.* INTO found_line
	FROM submeter.share_pool p
	JOIN submeter.share_run r ON r.site_id = p.site_id AND r.pool_id = p.pool_id AND r.cycle_start = share_slip.cycle_start
	JOIN submeter.share_line l ON l.site_id = r.site_id AND l.run_id = r.run_id AND l.account_id = share_slip.account_id
	WHERE p.site_id = share_slip.site_id AND p.code = share_slip.pool
		AND (NOT pg_has_role((submeter.me()).role, 'submeter_tenant', 'member') OR submeter.is_internal() OR l.account_id = ANY (submeter.my_accounts()))
	ORDER BY r.revision DESC LIMIT 1;
	IF found_line.run_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('account %s has no part in pool %s for this cycle', coalesce(share_slip.account_id::text, 'NULL'), coalesce(share_slip.pool, 'NULL')),
			HINT = 'SELECT * FROM submeter.share_line lists who has.';
	END IF;
	SELECT r.* INTO run FROM submeter.share_run r WHERE r.site_id = share_slip.site_id AND r.run_id = found_line.run_id;
	SELECT s.* INTO place FROM submeter.site s WHERE s.site_id = share_slip.site_id;
	RETURN QUERY
	SELECT row_number() OVER (ORDER BY v.nth)::int, v.item, CASE place.locale WHEN 'zh' THEN v.zh ELSE v.en END, trim_scale(v.quantity), v.unit, v.remark
	FROM (VALUES
		(1, 'grid_energy', '电网总表电量', 'energy on the grid bill', (run.inputs #>> '{price,grid_wh}')::numeric / 1000, 'kWh', run.inputs #>> '{price,document}'),
		(2, 'grid_amount', '电网电费总额', 'amount of the grid bill', (run.inputs #>> '{price,grid_amount}')::numeric, place.currency, run.inputs #>> '{price,document}'),
		(3, 'price', '购电均价', 'price per kWh', (run.inputs #>> '{price,price}')::numeric, place.currency || '/kWh', NULL),
		(4, 'other_energy', '其他用途电量(先扣除)', 'energy of another use, removed first', nullif((run.inputs #>> '{bill,other_wh}')::numeric, 0) / 1000, 'kWh', NULL),
		(5, 'other_amount', '其他用途电费(先扣除)', 'amount of another use, removed first', nullif((run.inputs #>> '{bill,other_amount}')::numeric, 0), place.currency, NULL),
		(6, 'divisor', '分摊电量合计', 'energy the bill is divided by', (run.inputs #>> '{bill,total_wh}')::numeric / 1000, 'kWh', run.inputs ->> 'method'),
		(7, 'shared_energy', '公摊电量', 'energy shared out', nullif(run.energy_wh, 0) / 1000.0, 'kWh', NULL),
		(8, 'shared_amount', '分摊金额', 'amount shared out', run.amount, place.currency, run.inputs ->> 'method'),
		(9, 'own_energy', '本户电量', 'energy of the account', CASE WHEN run.inputs ->> 'method' NOT IN ('area', 'heads', 'equal') THEN found_line.weight / 1000 END, 'kWh', NULL),
		(10, 'part_energy', '本户分摊电量', 'part of the energy', nullif(found_line.energy_wh, 0) / 1000.0, 'kWh', NULL),
		(11, 'due', '本户应承担', 'part of the account', found_line.due, place.currency, found_line.formula),
		(12, 'charged', '已收', 'charged before', nullif(found_line.charged, 0), place.currency, NULL),
		(13, 'amount', '应收(退)差额', 'to be paid, or given back', found_line.amount, place.currency,
			CASE WHEN run.replaces_id IS NOT NULL THEN format('corrected: %s', run.reason) END)
	) v(nth, item, zh, en, quantity, unit, remark)
	WHERE v.quantity IS NOT NULL;
END
$$;
COMMENT ON FUNCTION submeter.share_slip(int, text, timestamptz, bigint) IS
'The slip of a tenant for a pool and cycle: the totals, the tenant''s own figures and the derivation, in the language of the site. Runs are never deleted, so it can be had for as long as the law asks (at least 2 years) and longer. Tenants get their own; P0002 otherwise.';

CREATE FUNCTION submeter.verify_shares(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH line AS MATERIALIZED (
		SELECT l.* FROM submeter.share_line l WHERE l.site_id = verify_shares.site_id
	), moved AS MATERIALIZED (
		SELECT t.transfer_id, t.account_id, CASE WHEN l.account_id IS NOT NULL THEN t.amount ELSE -t.amount END AS amount
		FROM submeter.transfer t
		JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.debit_id
		WHERE t.site_id = verify_shares.site_id AND t.kind = 'share'
	)
	SELECT 'share movement differs from its line', coalesce(l.account_id, m.account_id), coalesce(l.transfer_id, m.transfer_id), coalesce(l.posted, 0), coalesce(m.amount, 0)
	FROM (SELECT * FROM line WHERE line.transfer_id IS NOT NULL) l
	FULL JOIN moved m ON m.transfer_id = l.transfer_id AND m.account_id = l.account_id
	WHERE coalesce(l.posted, 0) <> coalesce(m.amount, 0)
	UNION ALL
	SELECT format('share run %s does not follow from its inputs', r.run_id), d.account_id, NULL, d.derived, d.stored
	FROM submeter.share_run r
	CROSS JOIN LATERAL (
		SELECT x.account_id, sum(x.derived) AS derived, sum(x.stored) AS stored
		FROM (
			SELECT s.account_id, s.amount AS derived, 0 AS stored FROM submeter.share_split(r.inputs) s
			UNION ALL
			SELECT n.account_id, 0, n.amount FROM line n WHERE n.run_id = r.run_id) x
		GROUP BY x.account_id) d
	WHERE r.site_id = verify_shares.site_id AND d.derived <> d.stored
	UNION ALL
	SELECT format('lines of share run %s do not add up', r.run_id), NULL, NULL, r.amount, sum(n.due)
	FROM submeter.share_run r JOIN line n ON n.run_id = r.run_id
	WHERE r.site_id = verify_shares.site_id
	GROUP BY r.run_id, r.amount HAVING sum(n.due) <> r.amount
$$;
COMMENT ON FUNCTION submeter.verify_shares(int) IS
'Part of verify_ledger: shares in the ledger are those of the lines, lines follow from the frozen inputs of their run and add up to it.';
