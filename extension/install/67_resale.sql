-- Room: resale. What was collected for electricity against what was paid for it, per cycle and tenant. Compiling these queries would take
-- a hundred times as long as running them, so it is off.
--
-- Collected is everything that is charged with electricity: energy, demand, adders, fees, minimum and tax of the tariffs,
-- and shares of common energy. Nothing is left out: a surcharge does not become lawful by being called a fee. Energy is
-- what that money was for: the tenant's own, and the tenant's part of common energy.

CREATE FUNCTION submeter.purchase(site_id int)
RETURNS TABLE (site_id int, cycle_start timestamptz, cycle_end timestamptz, energy_wh bigint, amount numeric, average numeric)
LANGUAGE sql STABLE ROWS 24
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	SELECT b.site_id, b.cycle_start, max(b.cycle_end), sum(b.energy_wh)::bigint, sum(b.amount),
		CASE WHEN sum(b.energy_wh) > 0 THEN submeter.divide(sum(b.amount) * 1000, sum(b.energy_wh), 8) END
	FROM (
		SELECT DISTINCT ON (g.connection, g.cycle_start) g.site_id, g.cycle_start, g.cycle_end, g.energy_wh, g.amount
		FROM submeter.grid_bill g WHERE g.site_id = purchase.site_id
		ORDER BY g.connection, g.cycle_start, g.revision DESC) b
	GROUP BY b.site_id, b.cycle_start
$$;
COMMENT ON FUNCTION submeter.purchase(int) IS 'What the grid was paid per billing cycle over all connections, as last corrected, and the average per kWh.';

CREATE FUNCTION submeter.resale_cap_at(site_id int, as_of timestamptz)
RETURNS TABLE (ceiling numeric, percent_over numeric, margin_percent numeric, average_cycles int, source text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.ceiling, c.percent_over, c.margin_percent, c.average_cycles, c.source
	FROM submeter.resale_cap c
	WHERE c.site_id = resale_cap_at.site_id AND c.valid_from <= resale_cap_at.as_of
	ORDER BY c.valid_from DESC, c.revision DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.resale_cap_at(int, timestamptz) IS 'The bounds of resale in force at an instant; no row when none are entered.';

CREATE FUNCTION submeter.resale_collected(site_id int, cycle_start timestamptz)
RETURNS TABLE (account_id bigint, energy_wh bigint, charged numeric, shared numeric, refunded numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT x.account_id, sum(x.energy_wh)::bigint, sum(x.charged), sum(x.shared), sum(x.refunded)
	FROM (
		SELECT c.account_id, c.energy_wh - c.unpriced_wh AS energy_wh, c.rounded AS charged, 0::numeric AS shared, 0::numeric AS refunded
		FROM submeter.charge c
		WHERE c.site_id = resale_collected.site_id AND c.cycle_start = resale_collected.cycle_start
		UNION ALL
		-- The last run of a pool says how much energy it was for.
		SELECT l.account_id, CASE WHEN EXISTS (SELECT FROM submeter.share_run n WHERE n.site_id = r.site_id AND n.replaces_id = r.run_id) THEN 0 ELSE l.energy_wh END,
			0, l.posted, 0
		FROM submeter.share_run r
		JOIN submeter.share_line l ON l.site_id = r.site_id AND l.run_id = r.run_id AND l.account_id IS NOT NULL
		WHERE r.site_id = resale_collected.site_id AND r.cycle_start = resale_collected.cycle_start
		UNION ALL
		SELECT p.account_id, 0, 0, 0, p.amount FROM submeter.proposal p
		WHERE p.site_id = resale_collected.site_id AND p.source = 'resale' AND p.state = 'done'
			AND (p.detail ->> 'cycle_epoch')::numeric = extract(epoch FROM resale_collected.cycle_start)
	) x GROUP BY x.account_id
$$;
COMMENT ON FUNCTION submeter.resale_collected(int, timestamptz) IS
'What each account was charged for electricity of a cycle, tariffs and shares, the energy it was for, and what the resale check gave back.';

CREATE FUNCTION submeter.resale_accounts(site_id int, cycle_start timestamptz)
RETURNS TABLE (account_id bigint, energy_wh bigint, charged numeric, shared numeric, refunded numeric, collected numeric, unit_price numeric,
	purchase_average numeric, cap_price numeric, over_price numeric, over_total numeric, over_by numeric)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH paid AS MATERIALIZED (
		SELECT p.amount, p.average FROM submeter.purchase(resale_accounts.site_id) p WHERE p.cycle_start = resale_accounts.cycle_start
	), cap AS MATERIALIZED (
		SELECT p.amount, p.average, least(c.ceiling, p.average * (1 + c.percent_over / 100)) AS price, p.amount * (1 + c.margin_percent / 100) AS total
		FROM (SELECT 1) one
		LEFT JOIN paid p ON true
		LEFT JOIN submeter.resale_cap_at(resale_accounts.site_id, resale_accounts.cycle_start) c ON true
	), taken AS MATERIALIZED (
		SELECT t.*, t.charged + t.shared - t.refunded AS collected, cap.average, cap.price, cap.total,
			-- A bill is rounded to the cent; less than that is not too much.
			greatest(trunc(t.charged + t.shared - t.refunded - cap.price * t.energy_wh / 1000, 2), 0.00) AS over_price
		FROM submeter.resale_collected(resale_accounts.site_id, resale_accounts.cycle_start) t CROSS JOIN cap
	), excess AS (
		-- What is too much in all is given back in proportion to what each paid.
		SELECT array_agg(t.account_id ORDER BY t.account_id) AS accounts,
			submeter.apportion(100 * CASE WHEN sum(greatest(t.collected - coalesce(t.over_price, 0), 0)) = 0 THEN 0
				ELSE greatest(trunc(sum(t.collected - coalesce(t.over_price, 0)) - min(t.total), 2), 0) END,
				array_agg(greatest(t.collected - coalesce(t.over_price, 0), 0) ORDER BY t.account_id)) AS cents
		FROM taken t HAVING min(t.total) IS NOT NULL
	)
	SELECT t.account_id, t.energy_wh, t.charged, t.shared, t.refunded, t.collected,
		CASE WHEN t.energy_wh > 0 THEN submeter.divide(t.collected * 1000, t.energy_wh, 8) END, t.average, round(t.price, 8), t.over_price,
		round(x.cents / 100, 2), coalesce(t.over_price, 0.00) + coalesce(round(x.cents / 100, 2), 0)
	FROM taken t
	LEFT JOIN (SELECT u.account_id, u.cents FROM excess e CROSS JOIN LATERAL unnest(e.accounts, e.cents) u(account_id, cents)) x ON x.account_id = t.account_id
$$;
COMMENT ON FUNCTION submeter.resale_accounts(int, timestamptz) IS
'Resale check per account of a cycle: collected and price per kWh against the purchase average and the cap; over_price: above the cap of a tenant''s price; over_total: the account''s part of what is too much in all; over_by: both.';

CREATE FUNCTION submeter.resale_check(site_id int, cycle_start timestamptz, as_of timestamptz DEFAULT now())
RETURNS TABLE (account_id bigint, account text, tenant text, kwh numeric, collected numeric, unit_price numeric, paid_kwh numeric, paid numeric, margin numeric,
	purchase_average numeric, cap_price numeric, over_by numeric, proposed numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	bought record;
BEGIN
	PERFORM submeter.authorize('resale_check', resale_check.site_id);
	PERFORM submeter.share_cycle(resale_check.site_id, resale_check.cycle_start);
	IF resale_check.as_of IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'resale_check needs a point in time', HINT = 'Leave as_of out for now.';
	END IF;
	SELECT p.* INTO bought FROM submeter.purchase(resale_check.site_id) p WHERE p.cycle_start = resale_check.cycle_start;
	IF bought.cycle_start IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'no grid bill of this cycle is entered', HINT = 'Enter it with enter_grid_bill().';
	END IF;
	RETURN QUERY
	WITH own AS MATERIALIZED (
		SELECT r.*, coalesce((SELECT sum(p.amount) FROM submeter.proposal p
			WHERE p.site_id = resale_check.site_id AND p.account_id = r.account_id AND p.source = 'resale' AND p.state = 'open' AND p.made_at <= resale_check.as_of
				AND (p.detail ->> 'cycle_epoch')::numeric = extract(epoch FROM resale_check.cycle_start)), 0.00) AS proposed
		FROM submeter.resale_accounts(resale_check.site_id, resale_check.cycle_start) r
	)
	SELECT NULL::bigint, NULL::text, NULL::text, round(coalesce(sum(o.energy_wh), 0) * 0.001, 3), coalesce(sum(o.collected), 0),
		CASE WHEN sum(o.energy_wh) > 0 THEN submeter.divide(sum(o.collected) * 1000, sum(o.energy_wh), 8) END,
		round(bought.energy_wh * 0.001, 3), bought.amount, coalesce(sum(o.collected), 0) - bought.amount, bought.average, min(o.cap_price),
		coalesce(sum(o.over_by), 0.00), coalesce(sum(o.proposed), 0.00)
	FROM own o
	UNION ALL
	(SELECT o.account_id, a.code, t.code, round(o.energy_wh * 0.001, 3), o.collected, o.unit_price, NULL, NULL, NULL, o.purchase_average, o.cap_price, o.over_by, o.proposed
	FROM own o
	JOIN submeter.account a ON a.site_id = resale_check.site_id AND a.account_id = o.account_id
	JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	ORDER BY a.code);
END
$$;
COMMENT ON FUNCTION submeter.resale_check(int, timestamptz, timestamptz) IS
'Collected against paid for a billing cycle: first the property (without account), then each tenant with price per kWh, cap, what is over it and what of that is proposed as refund and still open at as_of. 55000 without a grid bill.';

CREATE FUNCTION submeter.propose_refunds(site_id int, cycle_start timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	cycle record;
	item record;
	known record;
	changed int := 0;
BEGIN
	PERFORM submeter.authorize('propose_refunds', propose_refunds.site_id);
	cycle := submeter.share_cycle(propose_refunds.site_id, propose_refunds.cycle_start);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = propose_refunds.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	FOR item IN
		SELECT r.* FROM submeter.resale_accounts(propose_refunds.site_id, propose_refunds.cycle_start) r ORDER BY r.account_id
	LOOP
		SELECT max(p.proposal_id) FILTER (WHERE p.state = 'open') AS open_id, coalesce(sum(p.amount) FILTER (WHERE p.state = 'open'), 0) AS open_amount,
			coalesce(sum(p.amount) FILTER (WHERE p.state = 'dismissed' AND NOT p.detail ? 'withdrawn'), 0) AS dismissed, count(*) AS so_far
		INTO known FROM submeter.proposal p
		WHERE p.site_id = propose_refunds.site_id AND p.account_id = item.account_id AND p.source = 'resale'
			AND (p.detail ->> 'cycle_epoch')::numeric = extract(epoch FROM propose_refunds.cycle_start);
		-- What was refunded is not collected any more; what a person dismissed is not asked again.
		IF item.over_by - known.dismissed = known.open_amount THEN
			CONTINUE;
		END IF;
		changed := changed + 1;
		IF known.open_id IS NOT NULL THEN
			UPDATE submeter.proposal p
			SET amount = CASE WHEN item.over_by > known.dismissed THEN item.over_by - known.dismissed ELSE p.amount END,
				state = CASE WHEN item.over_by > known.dismissed THEN 'open' ELSE 'dismissed' END,
				decided_at = CASE WHEN item.over_by > known.dismissed THEN NULL ELSE clock_timestamp() END,
				decided_by = CASE WHEN item.over_by > known.dismissed THEN NULL ELSE (submeter.me()).login END,
				reason = CASE WHEN item.over_by > known.dismissed THEN NULL ELSE 'not over the cap any more' END,
				detail = p.detail || submeter.resale_detail(item.energy_wh, item.collected, item.purchase_average, item.cap_price, item.over_price, item.over_total)
					|| CASE WHEN item.over_by > known.dismissed THEN '{}' ELSE '{"withdrawn":true}' END::jsonb
			WHERE p.site_id = propose_refunds.site_id AND p.proposal_id = known.open_id;
		ELSIF item.over_by > known.dismissed THEN
			INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key, detail)
			VALUES (propose_refunds.site_id, item.account_id, 'refund', item.over_by - known.dismissed, 'resale',
				format('resale:%s:%s:%s', cycle.from_day, item.account_id, known.so_far + 1),
				submeter.resale_detail(item.energy_wh, item.collected, item.purchase_average, item.cap_price, item.over_price, item.over_total)
					|| jsonb_build_object('cycle', cycle.from_day, 'cycle_epoch', trim_scale(extract(epoch FROM propose_refunds.cycle_start))));
		ELSE
			changed := changed - 1;
		END IF;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.propose_refunds(int, timestamptz) IS
'Writes a refund proposal per account and cycle for what is over the cap, keeps open ones in step with what is known now, and returns how many it made or changed. What was refunded or dismissed is not proposed again.';

CREATE FUNCTION submeter.resale_detail(energy_wh bigint, collected numeric, purchase_average numeric, cap_price numeric, over_price numeric, over_total numeric) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('kwh', round(resale_detail.energy_wh * 0.001, 3), 'collected', resale_detail.collected, 'purchase_average', resale_detail.purchase_average,
		'cap_price', resale_detail.cap_price, 'over_price', resale_detail.over_price, 'over_total', resale_detail.over_total)
$$;
COMMENT ON FUNCTION submeter.resale_detail(bigint, numeric, numeric, numeric, numeric, numeric) IS 'The figures a refund proposal rests on.';

CREATE FUNCTION submeter.accept_proposal(site_id int, proposal_id bigint, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked submeter.proposal;
	movement bigint;
BEGIN
	PERFORM submeter.authorize('accept_proposal', accept_proposal.site_id);
	PERFORM submeter.require_text('reason', accept_proposal.reason);
	SELECT p.* INTO asked FROM submeter.proposal p
	WHERE p.site_id = accept_proposal.site_id AND p.proposal_id = accept_proposal.proposal_id;
	IF FOUND THEN
		PERFORM submeter.lock_account(accept_proposal.site_id, asked.account_id);
		SELECT p.* INTO asked FROM submeter.proposal p
		WHERE p.site_id = accept_proposal.site_id AND p.proposal_id = accept_proposal.proposal_id FOR UPDATE;
	END IF;
	IF asked.state = 'done' THEN
		RETURN asked.transfer_id;
	END IF;
	PERFORM submeter.require_open_proposal(accept_proposal.site_id, accept_proposal.proposal_id, asked.state);
	IF asked.kind = 'debt' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('proposal %s is a debt', asked.proposal_id),
			DETAIL = format('The person owes %s.', asked.amount), HINT = 'Take the money with pay_debt(), or give it up with write_off().';
	END IF;
	PERFORM submeter.require_approval('accept_proposal', accept_proposal.site_id,
		jsonb_build_object('proposal_id', accept_proposal.proposal_id, 'amount', asked.amount));
	movement := submeter.pay_proposal(accept_proposal.site_id, asked.account_id, asked.proposal_id, asked.source, asked.amount, accept_proposal.reason);
	UPDATE submeter.proposal p
	SET state = 'done', decided_at = clock_timestamp(), decided_by = (submeter.me()).login, reason = accept_proposal.reason, transfer_id = movement
	WHERE p.site_id = accept_proposal.site_id AND p.proposal_id = accept_proposal.proposal_id;
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.accept_proposal(int, bigint, text) IS
'A person agrees to a proposed refund: what the resale check found is credited to the account, and a closed account is paid out as refund() does. Returns the movement; again the same. 55000 for a debt, when it was dismissed, or when there is not as much to pay out; P0002 unknown. Passes the approval hook with {proposal_id, amount}.';

CREATE FUNCTION submeter.pay_proposal(site_id int, account_id bigint, proposal_id bigint, source text, amount numeric, reason text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	most numeric;
BEGIN
	-- Adjustments, shares and move-outs are in the books already; of the resale check only the proposal is.
	IF pay_proposal.source = 'resale' THEN
		movement := submeter.post_movement(pay_proposal.site_id, pay_proposal.account_id, pay_proposal.amount, 'adjustment',
			submeter.system_ledger_account(pay_proposal.site_id, 'adjustment', 'adjustment'),
			'adjustment:proposal:' || pay_proposal.proposal_id::text, clock_timestamp(), NULL, pay_proposal.reason);
	END IF;
	IF EXISTS (SELECT FROM submeter.account a WHERE a.site_id = pay_proposal.site_id AND a.account_id = pay_proposal.account_id AND a.state = 'open') THEN
		RETURN movement;
	END IF;
	most := least(submeter.refundable(pay_proposal.site_id, pay_proposal.account_id), pay_proposal.amount);
	-- A credit may also go against what the account still owes; what is in the books already is paid or it is not.
	IF most < pay_proposal.amount AND pay_proposal.source <> 'resale' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s cannot be refunded %s', pay_proposal.account_id, pay_proposal.amount),
			DETAIL = format('At most %s: what is available, and not more than was paid in and not paid back.', most),
			HINT = 'Look at account_balance; refund() pays a part.';
	END IF;
	IF most > 0 THEN
		movement := submeter.pay_out(pay_proposal.site_id, pay_proposal.account_id, 'refund', 'tenant', most, NULL, pay_proposal.reason,
			'adjustment:refund:' || pay_proposal.proposal_id::text, clock_timestamp());
	END IF;
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.pay_proposal(int, bigint, bigint, text, numeric, text) IS
'Moves the money of an accepted refund; the account is locked by the caller.';

CREATE FUNCTION submeter.require_open_proposal(site_id int, proposal_id bigint, state text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_open_proposal.state IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no proposal %s', require_open_proposal.site_id, coalesce(require_open_proposal.proposal_id::text, 'NULL')),
			HINT = 'SELECT * FROM submeter.proposal WHERE state = ''open'' lists what waits for a decision.';
	ELSIF require_open_proposal.state <> 'open' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('proposal %s is decided already', require_open_proposal.proposal_id),
			DETAIL = format('It is %s.', require_open_proposal.state), HINT = 'SELECT * FROM submeter.proposal WHERE state = ''open'' lists what waits for a decision.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_open_proposal(int, bigint, text) IS 'Refuses proposals that do not exist (P0002) or are decided (55000).';

CREATE FUNCTION submeter.price_of(site_id int, price jsonb, as_of timestamptz) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE jsonb_typeof(price_of.price)
		WHEN 'number' THEN price_of.price::numeric
		WHEN 'object' THEN round(coalesce((price_of.price ->> 'value')::numeric, (
			SELECT i.price FROM submeter.price_item i
			WHERE i.site_id = price_of.site_id AND i.name = price_of.price ->> 'ref' AND i.valid_from <= price_of.as_of
			ORDER BY i.valid_from DESC, i.revision DESC LIMIT 1)) * coalesce((price_of.price ->> 'times')::numeric, 1), coalesce((price_of.price ->> 'digits')::int, 8))
			+ coalesce((price_of.price ->> 'plus')::numeric, 0)
		END
$$;
COMMENT ON FUNCTION submeter.price_of(int, jsonb, timestamptz) IS 'What a price in a tariff definition comes to at an instant: a number, or value or named price x times + plus.';

CREATE FUNCTION submeter.lowest_price(site_id int, definition jsonb, as_of timestamptz) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ((SELECT min(submeter.price_of(lowest_price.site_id, e -> 'price', lowest_price.as_of)) FROM jsonb_array_elements(lowest_price.definition -> 'energy') e)
		+ coalesce((SELECT sum(submeter.price_of(lowest_price.site_id, a -> 'price', lowest_price.as_of)) FROM jsonb_array_elements(lowest_price.definition -> 'adders') a), 0))
		* CASE WHEN (lowest_price.definition ->> 'tax_included')::boolean THEN 1 ELSE 1 + coalesce((lowest_price.definition ->> 'tax_rate')::numeric, 0) END
$$;
COMMENT ON FUNCTION submeter.lowest_price(int, jsonb, timestamptz) IS
'The least a kWh costs under a tariff definition, adders and tax included: of a flat price, that price.';

CREATE FUNCTION submeter.resale_conditions(site_id int, as_of timestamptz)
RETURNS TABLE (rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
	WITH paid AS (
		SELECT submeter.divide(sum(p.amount) * 1000, sum(p.energy_wh), 8) AS average
		FROM (
			SELECT p.energy_wh, p.amount, row_number() OVER (ORDER BY p.cycle_start DESC) AS back
			FROM submeter.purchase(resale_conditions.site_id) p WHERE p.cycle_end <= resale_conditions.as_of) p
		WHERE p.back <= coalesce((SELECT c.average_cycles FROM submeter.resale_cap_at(resale_conditions.site_id, resale_conditions.as_of) c), 3)
		HAVING sum(p.energy_wh) > 0
	), bound AS (
		SELECT p.average, coalesce(least(c.ceiling, p.average * (1 + coalesce(c.percent_over, c.margin_percent) / 100)), p.average) AS price
		FROM paid p LEFT JOIN submeter.resale_cap_at(resale_conditions.site_id, resale_conditions.as_of) c ON true
	), used AS (
		SELECT t.code, submeter.lowest_price(t.site_id, v.definition, resale_conditions.as_of) AS price
		FROM submeter.tariff t
		CROSS JOIN LATERAL (
			SELECT x.definition FROM submeter.tariff_version x
			WHERE x.site_id = t.site_id AND x.tariff_id = t.tariff_id AND x.valid_from <= resale_conditions.as_of
			ORDER BY x.valid_from DESC, x.revision DESC LIMIT 1) v
		WHERE t.site_id = resale_conditions.site_id AND EXISTS (
			SELECT FROM submeter.supply y WHERE y.site_id = t.site_id AND y.tariff_id = t.tariff_id AND y.during @> resale_conditions.as_of)
	)
	SELECT 'resale_over_cap', NULL::bigint, NULL::bigint, resale_conditions.as_of,
		format('%s above %s per kWh (purchase average %s)', string_agg(format('%s: %s', u.code, trim_scale(u.price)), ', ' ORDER BY u.code),
			trim_scale(round(b.price, 8)), trim_scale(b.average))
	FROM used u CROSS JOIN bound b
	WHERE u.price > b.price
	GROUP BY b.price, b.average
$$;
COMMENT ON FUNCTION submeter.resale_conditions(int, timestamptz) IS
'Tariffs in use whose lowest price is above what resale allows, by the moving purchase average of the last grid bills; none while no grid bill is entered.';
