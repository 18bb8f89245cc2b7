-- Room: correction. What was believed was wrong: setups, supplies, tariffs, prices, readings. Each verb has a dry run, which is
-- the real thing rolled back, so it cannot say anything else than what would happen.
-- Lock order: duty_state (settle), then meters, then ledger accounts of tenants.

CREATE FUNCTION submeter.run_correction(site_id int, kind text, change jsonb, reason text, dry_run boolean, instalments int, as_of timestamptz)
RETURNS TABLE (account_id bigint, account text, tenant text, state text, cycle_start timestamptz, old numeric, new numeric, difference numeric)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	accounts bigint[];
	tariffs bigint[];
	cycles timestamptz[];
	amounts numeric[];
	report jsonb;
BEGIN
	IF run_correction.instalments <= 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a debit is not paid in %s instalments', run_correction.instalments),
			HINT = 'Pass the number of months, or leave it out: then a share of each recharge pays it.';
	END IF;
	-- What is new but has nothing to do with the correction is settled first.
	PERFORM submeter.settle_now(run_correction.site_id, run_correction.as_of);
	SELECT array_agg(c.account_id), array_agg(c.tariff_id), array_agg(c.cycle_start), array_agg(c.rounded)
	INTO accounts, tariffs, cycles, amounts
	FROM submeter.charge c WHERE c.site_id = run_correction.site_id;
	BEGIN
		PERFORM submeter.apply_change(run_correction.site_id, run_correction.kind, run_correction.change, run_correction.reason);
		PERFORM submeter.settle_now(run_correction.site_id, run_correction.as_of);
		SELECT coalesce(jsonb_agg(d), '[]') INTO report
		FROM (
			SELECT coalesce(b.account_id, c.account_id) AS account_id, coalesce(b.cycle_start, c.cycle_start) AS cycle_start,
				coalesce(sum(b.rounded), 0) AS old, coalesce(sum(c.rounded), 0) AS new
			FROM unnest(accounts, tariffs, cycles, amounts) b(account_id, tariff_id, cycle_start, rounded)
			FULL JOIN (SELECT x.* FROM submeter.charge x WHERE x.site_id = run_correction.site_id) c
				ON c.account_id = b.account_id AND c.tariff_id = b.tariff_id AND c.cycle_start = b.cycle_start
			GROUP BY 1, 2
			HAVING coalesce(sum(b.rounded), 0) <> coalesce(sum(c.rounded), 0)) d;
		IF run_correction.dry_run THEN
			RAISE EXCEPTION USING ERRCODE = 'SMDRY', MESSAGE = 'dry run';
		END IF;
		PERFORM submeter.book_correction(run_correction.site_id, run_correction.kind, run_correction.change, run_correction.reason, report,
			run_correction.instalments, run_correction.as_of);
	EXCEPTION WHEN SQLSTATE 'SMDRY' THEN
		-- Nothing of it has happened; what it came to is known all the same.
		NULL;
	END;
	RETURN QUERY
	SELECT r.account_id, a.code, t.name, a.state, r.cycle_start, r.old, r.new, r.new - r.old
	FROM jsonb_to_recordset(report) r(account_id bigint, cycle_start timestamptz, old numeric, new numeric)
	JOIN submeter.account a ON a.site_id = run_correction.site_id AND a.account_id = r.account_id
	JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
	ORDER BY r.account_id, r.cycle_start;
END
$$;
COMMENT ON FUNCTION submeter.run_correction(int, text, jsonb, text, boolean, int, timestamptz) IS
'Makes a change, settles, and returns what every account owed before and owes now, per cycle, closed accounts included; a dry run then takes all of it back.';

CREATE FUNCTION submeter.apply_change(site_id int, kind text, change jsonb, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE apply_change.kind
		WHEN 'setup' THEN PERFORM submeter.change_setup(apply_change.site_id, apply_change.change, apply_change.reason);
		WHEN 'supply' THEN
			PERFORM submeter.swap_supplies(apply_change.site_id, (apply_change.change ->> 'meter_id')::bigint,
				(apply_change.change ->> 'other_meter_id')::bigint, (apply_change.change ->> 'since')::timestamptz);
			-- What was proved about them was not so, or holds for another shop now.
			PERFORM submeter.note_crossed(apply_change.site_id, ARRAY[(apply_change.change ->> 'meter_id')::bigint,
				(apply_change.change ->> 'other_meter_id')::bigint], apply_change.reason);
			PERFORM submeter.swap_units(apply_change.site_id, (apply_change.change ->> 'meter_id')::bigint,
				(apply_change.change ->> 'other_meter_id')::bigint, (apply_change.change ->> 'since')::timestamptz, apply_change.reason);
		WHEN 'final' THEN PERFORM submeter.write_final_register(apply_change.site_id, (apply_change.change ->> 'meter_id')::bigint,
			(apply_change.change ->> 'at')::timestamptz, (apply_change.change ->> 'closing_wh')::bigint, apply_change.reason);
		WHEN 'tariff' THEN
			INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition, revision, reason, entered_by)
			SELECT apply_change.site_id, (apply_change.change ->> 'tariff_id')::bigint, (apply_change.change ->> 'valid_from')::timestamptz,
				apply_change.change -> 'definition', coalesce(max(v.revision) + 1, 0), apply_change.reason, (submeter.me()).login
			FROM submeter.tariff_version v
			WHERE v.site_id = apply_change.site_id AND v.tariff_id = (apply_change.change ->> 'tariff_id')::bigint
				AND v.valid_from = (apply_change.change ->> 'valid_from')::timestamptz;
		WHEN 'price' THEN
			INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price, reason, entered_by)
			SELECT apply_change.site_id, apply_change.change ->> 'name', (apply_change.change ->> 'valid_from')::timestamptz,
				coalesce(max(p.revision) + 1, 0), (apply_change.change ->> 'price')::numeric, apply_change.reason, (submeter.me()).login
			FROM submeter.price_item p
			WHERE p.site_id = apply_change.site_id AND p.name = apply_change.change ->> 'name'
				AND p.valid_from = (apply_change.change ->> 'valid_from')::timestamptz;
		WHEN 'prices' THEN PERFORM submeter.write_prices(apply_change.site_id, apply_change.change);
		WHEN 'days' THEN PERFORM submeter.write_days(apply_change.site_id, apply_change.change);
		WHEN 'verdict' THEN PERFORM submeter.write_verdict(apply_change.site_id, (apply_change.change ->> 'meter_id')::bigint,
			(apply_change.change ->> 'ts')::timestamptz, apply_change.change ->> 'verdict', apply_change.reason, (apply_change.change ->> 'energy_wh')::bigint);
	END CASE;
END
$$;
COMMENT ON FUNCTION submeter.apply_change(int, text, jsonb, text) IS 'Writes the fact a correction is about, as a new row beside the old one where rows are kept.';

CREATE FUNCTION submeter.book_correction(site_id int, kind text, change jsonb, reason text, report jsonb, instalments int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	owed numeric;
BEGIN
	INSERT INTO submeter.correction (site_id, kind, change, reason, by, accounts, debited, credited)
	SELECT book_correction.site_id, book_correction.kind, book_correction.change, book_correction.reason, (submeter.me()).login, count(*),
		coalesce(sum(n.difference) FILTER (WHERE n.difference > 0), 0), coalesce(-sum(n.difference) FILTER (WHERE n.difference < 0), 0)
	FROM (
		SELECT r.account_id, sum(r.new - r.old) AS difference
		FROM jsonb_to_recordset(book_correction.report) r(account_id bigint, old numeric, new numeric)
		GROUP BY r.account_id) n;
	PERFORM submeter.post_adjustments(book_correction.site_id, book_correction.as_of);
	-- Locks in the order of the ledger. A postpaid account is never cut, so there is nothing to put aside.
	FOR item IN
		SELECT r.account_id, sum(r.new - r.old) AS difference
		FROM jsonb_to_recordset(book_correction.report) r(account_id bigint, old numeric, new numeric)
		JOIN submeter.account a ON a.site_id = book_correction.site_id AND a.account_id = r.account_id AND a.state = 'open' AND a.mode = 'prepaid'
		JOIN submeter.ledger_account l ON l.site_id = a.site_id AND l.account_id = a.account_id AND l.kind = 'tenant'
		GROUP BY r.account_id, l.ledger_account_id
		HAVING sum(r.new - r.old) <> 0
		ORDER BY l.ledger_account_id
	LOOP
		PERFORM submeter.lock_account(book_correction.site_id, item.account_id);
		owed := submeter.side_total(book_correction.site_id, item.account_id, 'debt');
		IF item.difference > 0 THEN
			PERFORM submeter.defer_debit(book_correction.site_id, item.account_id, item.difference, book_correction.reason, book_correction.as_of);
			IF book_correction.instalments IS NOT NULL THEN
				INSERT INTO submeter.debt_plan AS p (site_id, account_id, monthly_amount, set_by)
				VALUES (book_correction.site_id, item.account_id,
					ceil((owed + item.difference) * 100 / book_correction.instalments) / 100, (submeter.me()).login)
				ON CONFLICT ON CONSTRAINT debt_plan_pkey DO UPDATE
				SET monthly_amount = EXCLUDED.monthly_amount, set_by = EXCLUDED.set_by, set_at = clock_timestamp();
			END IF;
		ELSIF owed > 0 THEN
			-- A credit takes back what an earlier correction put aside, before it is balance.
			PERFORM submeter.move_aside(book_correction.site_id, item.account_id, 'debt', -least(owed, -item.difference), 'debt:%',
				book_correction.as_of, book_correction.reason);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.book_correction(int, text, jsonb, text, jsonb, int, timestamptz) IS
'What a correction comes to, in the books: closed cycles get adjustments, a net debit of a prepaid account becomes debt at once (the balance does not fall, nobody is cut for it), a net credit first pays debt.';

CREATE FUNCTION submeter.require_past(at timestamptz, as_of timestamptz, what text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_past.at IS NULL OR require_past.at > require_past.as_of OR NOT isfinite(require_past.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a correction is about the past: %s is %s', require_past.what, coalesce(require_past.at::text, 'NULL')),
			HINT = 'What is to hold from a later time on is entered as a new row of its own.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_past(timestamptz, timestamptz, text) IS 'Refuses (22023) a correction from NULL or from a time to come.';
