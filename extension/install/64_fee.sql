-- Room: fee. What a site takes for a recharge beside what is credited. It is paid on top and goes from clearing to the site's
-- own income, so it never touches a balance: the second leg of the movement that credits.

CREATE FUNCTION submeter.recharge_fee(site_id int, method text, amount numeric, as_of timestamptz DEFAULT now()) RETURNS numeric
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN round(coalesce((
		SELECT least(greatest(recharge_fee.amount * f.rate + f.fixed, f.at_least), f.at_most)
		FROM submeter.recharge_fee f
		WHERE f.site_id = recharge_fee.site_id AND f.method = recharge_fee.method AND f.valid_from <= recharge_fee.as_of
		ORDER BY f.valid_from DESC, f.revision DESC LIMIT 1), 0), 2);
END
$$;
COMMENT ON FUNCTION submeter.recharge_fee(int, text, numeric, timestamptz) IS
'Service fee on a recharge of an amount by a method (cash, bank, alipay …), on top of what is credited: rounded half up to 2 decimals, 0 where no rule says otherwise. To collect are amount and fee.';

CREATE FUNCTION submeter.post_fee(site_id int, account_id bigint, movement bigint, method text, fee numeric, idempotency_key text, effective_at timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF post_fee.fee > 0 THEN
		PERFORM submeter.post_leg(post_fee.site_id, post_fee.movement, 2,
			submeter.system_ledger_account(post_fee.site_id, 'clearing:' || post_fee.method, 'clearing'),
			submeter.system_ledger_account(post_fee.site_id, 'service_fee', 'revenue'),
			post_fee.fee, 'fee', post_fee.account_id, post_fee.idempotency_key, post_fee.effective_at, post_fee.method);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.post_fee(int, bigint, bigint, text, numeric, text, timestamptz) IS
'The fee of a recharge as the second leg of its movement: clearing to service_fee. Nothing where there is none.';

CREATE FUNCTION submeter.reverse_fee(site_id int, movement bigint, reversal bigint) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.transfer (site_id, transfer_id, leg, debit_id, credit_id, amount, kind, account_id, method, note, reverses_id,
		idempotency_key, effective_at, created_by)
	SELECT r.site_id, r.transfer_id, t.leg, t.credit_id, t.debit_id, t.amount, r.kind, r.account_id, r.method, r.note, r.reverses_id,
		r.idempotency_key, r.effective_at, r.created_by
	FROM submeter.transfer r
	JOIN submeter.transfer t ON t.site_id = r.site_id AND t.transfer_id = reverse_fee.movement AND t.kind = 'fee'
	WHERE r.site_id = reverse_fee.site_id AND r.transfer_id = reverse_fee.reversal AND r.leg = 1
$$;
COMMENT ON FUNCTION submeter.reverse_fee(int, bigint, bigint) IS
'Gives a reversal the opposite of its movement''s fee: a recharge that was a mistake costs nothing.';

CREATE FUNCTION submeter.verify_fees(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM (
		SELECT CASE WHEN o.transfer_id IS NULL THEN 'fee without the recharge it belongs to' ELSE 'recharge was taken back without its fee' END,
			f.account_id, f.transfer_id, NULL::numeric, f.amount
		FROM submeter.transfer f
		LEFT JOIN submeter.transfer o ON o.site_id = f.site_id AND o.transfer_id = f.transfer_id AND o.leg = 1 AND o.kind = 'recharge'
			AND o.account_id = f.account_id AND o.debit_id = f.debit_id
		WHERE f.site_id = verify_fees.site_id AND f.kind = 'fee' AND (o.transfer_id IS NULL
			OR (SELECT count(*) FROM submeter.transfer r WHERE r.site_id = f.site_id AND r.reverses_id = f.transfer_id) = 1)
		ORDER BY f.transfer_id LIMIT 100) x
$$;
COMMENT ON FUNCTION submeter.verify_fees(int) IS
'Part of verify_ledger: a fee is a leg of a recharge of the same account and out of the same clearing, and goes with it when it is taken back.';
