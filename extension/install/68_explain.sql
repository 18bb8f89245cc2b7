-- Room: bills, afterwards. Takes a line down to its readings; takes a bill back and issues it again.

CREATE FUNCTION submeter.require_bill(site_id int, bill_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM submeter.bill b
		WHERE b.site_id = require_bill.site_id AND b.bill_id = require_bill.bill_id
			AND (NOT pg_has_role((submeter.me()).role, 'submeter_tenant', 'member') OR submeter.is_internal()
				OR b.account_id = ANY (submeter.my_accounts())))
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002',
			MESSAGE = format('site %s has no bill %s', require_bill.site_id, coalesce(require_bill.bill_id::text, 'NULL')),
			HINT = 'SELECT bill_id, account, cycle_start FROM submeter.bill_statement lists the bills.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_bill(int, bigint) IS 'Refuses (P0002) a bill that does not exist or is another tenant''s.';

CREATE FUNCTION submeter.explain_bill(site_id int, bill_id bigint, line int DEFAULT NULL)
RETURNS TABLE (bill_line int, component text, tariff text, tier int, period text, version_from timestamptz, price numeric, amount numeric,
	meter text, reading_from timestamptz, reading_to timestamptz, register_from_kwh numeric, register_to_kwh numeric, multiplier numeric,
	estimated boolean, from_ts timestamptz, to_ts timestamptz, kwh numeric, detail jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	head submeter.bill;
BEGIN
	PERFORM submeter.authorize('explain_bill', explain_bill.site_id);
	PERFORM submeter.require_bill(explain_bill.site_id, explain_bill.bill_id);
	SELECT b.* INTO STRICT head FROM submeter.bill b WHERE b.site_id = explain_bill.site_id AND b.bill_id = explain_bill.bill_id;
	IF explain_bill.line IS NOT NULL AND NOT EXISTS (
		SELECT FROM submeter.bill_line l WHERE l.site_id = head.site_id AND l.bill_id = head.bill_id AND l.line = explain_bill.line)
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('bill %s has no line %s', head.bill_id, explain_bill.line),
			HINT = 'Leave line out to have every line explained.';
	END IF;
	RETURN QUERY
	WITH told AS MATERIALIZED (
		SELECT l.*, t.code AS tariff FROM submeter.bill_line l
		LEFT JOIN submeter.tariff t ON t.site_id = l.site_id AND t.tariff_id = l.tariff_id
		WHERE l.site_id = head.site_id AND l.bill_id = head.bill_id AND (explain_bill.line IS NULL OR l.line = explain_bill.line)
	), slice AS MATERIALIZED (
		SELECT k.tariff_id, s.*, m.code AS meter
		FROM (SELECT DISTINCT l.tariff_id FROM told l WHERE l.component = 'energy' AND head.state <> 'reversal') k
		CROSS JOIN LATERAL submeter.charge_trace(head.site_id, head.account_id, k.tariff_id, head.cycle_start) s
		JOIN submeter.meter m ON m.site_id = head.site_id AND m.meter_id = s.meter_id
	), now AS (
		SELECT s.tariff_id, s.version_from, s.tier, s.period, sum(s.energy_wh) AS energy_wh FROM slice s GROUP BY 1, 2, 3, 4
	)
	SELECT x.* FROM (
		SELECT l.line, l.component, l.tariff, l.tier, l.period, l.version_from, l.price, l.amount, s.meter, s.reading_from, s.reading_to,
			round(s.register_from_wh * 0.001, 3), round(s.register_to_wh * 0.001, 3), s.multiplier, s.estimated, s.from_ts, s.to_ts,
			round(coalesce(s.energy_wh, l.energy_wh) * 0.001, 3),
			CASE WHEN n.energy_wh <> l.energy_wh THEN
				-- Closed is closed: what the readings say now and what was billed differ by adjustments.
				jsonb_build_object('billed_kwh', round(l.energy_wh * 0.001, 3), 'known_now_kwh', round(n.energy_wh * 0.001, 3)) ELSE l.detail END
		FROM told l
		LEFT JOIN slice s ON l.component = 'energy' AND s.tariff_id = l.tariff_id AND s.version_from IS NOT DISTINCT FROM l.version_from
			AND s.tier IS NOT DISTINCT FROM l.tier AND s.period IS NOT DISTINCT FROM l.period
		LEFT JOIN now n ON l.component = 'energy' AND n.tariff_id = l.tariff_id AND n.version_from IS NOT DISTINCT FROM l.version_from
			AND n.tier IS NOT DISTINCT FROM l.tier AND n.period IS NOT DISTINCT FROM l.period
		WHERE l.component <> 'adjustment'
		UNION ALL
		SELECT l.line, l.component, l.tariff, l.tier, l.period, l.version_from, l.price, l.amount, c.cause ->> 'meter', (c.cause ->> 'from')::timestamptz,
			(c.cause ->> 'to')::timestamptz, NULL, NULL, NULL, NULL, (l.detail ->> 'cycle_start')::timestamptz, NULL, NULL,
			(l.detail - 'cause') || jsonb_build_object('cause', c.cause)
		FROM told l
		CROSS JOIN LATERAL jsonb_array_elements(l.detail -> 'cause') c(cause)
		WHERE l.component = 'adjustment') x
	ORDER BY 1, x.from_ts, x.reading_from, x.meter;
END
$$;
COMMENT ON FUNCTION submeter.explain_bill(int, bigint, int) IS
'Takes the lines of a bill (or one of them) down to the readings they rest on: each stretch of time with its readings, registers and multiplier; adjustments to their causes, shares to their derivation. Tenants may explain their own bills. P0002 for an unknown bill or line.';

CREATE FUNCTION submeter.void_bill(site_id int, bill_id bigint, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	login name := (submeter.me()).login;
	head submeter.bill;
	reversal bigint;
BEGIN
	PERFORM submeter.authorize('void_bill', void_bill.site_id);
	PERFORM submeter.require_text('reason', void_bill.reason);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = void_bill.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	PERFORM submeter.require_bill(void_bill.site_id, void_bill.bill_id);
	SELECT b.* INTO STRICT head FROM submeter.bill b WHERE b.site_id = void_bill.site_id AND b.bill_id = void_bill.bill_id;
	IF head.state <> 'issued' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('bill %s cannot be taken back', head.bill_id),
			DETAIL = CASE head.state WHEN 'void' THEN 'It was taken back already.' ELSE format('It takes back bill %s itself.', head.reverses_id) END,
			HINT = 'SELECT bill_id, state FROM submeter.bill_statement shows which bills stand.';
	END IF;
	PERFORM submeter.require_approval('void_bill', void_bill.site_id, jsonb_build_object('bill_id', head.bill_id));
	UPDATE submeter.bill b SET state = 'void', reason = void_bill.reason WHERE b.site_id = head.site_id AND b.bill_id = head.bill_id;
	INSERT INTO submeter.bill (site_id, account_id, cycle_start, cycle_end, state, reverses_id, energy_wh, estimated_wh, amount, opening_balance, credited,
		closing_balance, issued_by, reason)
	VALUES (head.site_id, head.account_id, head.cycle_start, head.cycle_end, 'reversal', head.bill_id, -head.energy_wh, -head.estimated_wh, -head.amount,
		head.closing_balance, 0, head.closing_balance + head.amount, login, void_bill.reason)
	RETURNING submeter.bill.bill_id INTO reversal;
	INSERT INTO submeter.bill_line (site_id, bill_id, line, tariff_id, component, tier, period, version_from, from_ts, to_ts, energy_wh, price, amount, detail)
	SELECT l.site_id, reversal, l.line, l.tariff_id, l.component, l.tier, l.period, l.version_from, l.from_ts, l.to_ts, -l.energy_wh, l.price, -l.amount, l.detail
	FROM submeter.bill_line l WHERE l.site_id = head.site_id AND l.bill_id = head.bill_id;
	-- Adjustments it showed are to be shown again.
	UPDATE submeter.charge_adjustment x SET bill_id = NULL WHERE x.site_id = head.site_id AND x.bill_id = head.bill_id;
	RETURN reversal;
END
$$;
COMMENT ON FUNCTION submeter.void_bill(int, bigint, text) IS
'Takes a bill back by a reversal with the opposite lines and returns the number of that; no money moves, issue_bill() makes the right one. 55000 for a bill that does not stand. Passes the approval hook with {bill_id}.';

CREATE FUNCTION submeter.issue_bill(site_id int, account_id bigint, cycle_start timestamptz, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	former submeter.bill;
	issued bigint[];
BEGIN
	PERFORM submeter.authorize('issue_bill', issue_bill.site_id);
	PERFORM submeter.require_text('reason', issue_bill.reason);
	PERFORM FROM submeter.duty_state d WHERE d.site_id = issue_bill.site_id AND d.duty = 'settle' FOR NO KEY UPDATE;
	SELECT b.* INTO former FROM submeter.bill b
	WHERE b.site_id = issue_bill.site_id AND b.account_id = issue_bill.account_id AND b.cycle_start = issue_bill.cycle_start AND b.state <> 'reversal'
	ORDER BY b.state, b.bill_id DESC LIMIT 1;
	IF NOT FOUND OR former.state = 'issued' THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN former.state = 'issued' THEN '55000' ELSE 'P0002' END,
			MESSAGE = format('there is no bill of account %s from %s to issue again', coalesce(issue_bill.account_id::text, 'NULL'),
				coalesce(issue_bill.cycle_start::text, 'NULL')),
			DETAIL = CASE WHEN former.state = 'issued' THEN format('Bill %s stands.', former.bill_id) ELSE 'The cycle was never billed.' END,
			HINT = CASE WHEN former.state = 'issued' THEN 'Take it back with void_bill() first.' ELSE 'Cycles are closed by close_cycle().' END;
	END IF;
	PERFORM submeter.require_approval('issue_bill', issue_bill.site_id,
		jsonb_build_object('account_id', issue_bill.account_id, 'cycle_start', issue_bill.cycle_start));
	PERFORM submeter.settle(issue_bill.site_id);
	PERFORM submeter.post_adjustments(issue_bill.site_id);
	issued := submeter.make_bills(issue_bill.site_id, ARRAY[former.account_id], former.cycle_start, former.cycle_end, now(), issue_bill.reason);
	RETURN issued[1];
END
$$;
COMMENT ON FUNCTION submeter.issue_bill(int, bigint, timestamptz, text) IS
'Issues the bill of a cycle again, after void_bill(), from what is known now: the difference is posted, and what was adjusted meanwhile is in its lines. Returns its number. P0002 when the cycle was never billed, 55000 while its bill stands. Passes the approval hook with {account_id, cycle_start}.';
