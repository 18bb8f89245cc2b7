-- Room: payment, what happens again and again: providers are asked about what is under way; and the part of verify_ledger().

CREATE FUNCTION submeter.payment_interval(checks int) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(interval '5 s' * power(1.5, least(payment_interval.checks, 20)), interval '1 minute')
$$;
COMMENT ON FUNCTION submeter.payment_interval(int) IS 'How long until a provider is asked again about an open order: 5 s, then half as long again each time, at most a minute.';

CREATE FUNCTION submeter.payment_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	asked bigint := 0;
BEGIN
	-- Whoever has an order or a refund now hears of it; it is asked about the next time.
	FOR item IN
		SELECT o.payment_order_id, o.merchant_id, o.state, CASE
			WHEN o.state = 'open' AND payment_duty.as_of < o.check_until THEN payment_duty.as_of + submeter.payment_interval(o.checks)
			WHEN o.state = 'open' AND payment_duty.as_of < o.check_until + interval '7 days' THEN payment_duty.as_of + interval '10 minutes'
			WHEN o.state = 'closed' AND payment_duty.as_of < o.check_until THEN least(o.check_until, payment_duty.as_of + interval '10 minutes') END AS next_check_at
		FROM submeter.payment_order o
		WHERE o.site_id = payment_duty.site_id AND o.next_check_at <= payment_duty.as_of
		ORDER BY o.payment_order_id FOR UPDATE SKIP LOCKED
	LOOP
		UPDATE submeter.payment_order o SET checks = o.checks + 1, next_check_at = item.next_check_at
		WHERE o.site_id = payment_duty.site_id AND o.payment_order_id = item.payment_order_id;
		asked := asked + 1;
		PERFORM submeter.queue_payment(payment_duty.site_id, 'payment_query', item.merchant_id, item.payment_order_id, NULL, payment_duty.as_of + interval '10 minutes');
		IF item.state = 'open' AND item.next_check_at IS NULL THEN
			PERFORM submeter.close_order(payment_duty.site_id, item.payment_order_id, 'the provider did not say in a week', payment_duty.as_of);
		END IF;
	END LOOP;
	FOR item IN
		SELECT f.payment_refund_id, r.merchant_id, f.state
		FROM submeter.payment_refund f
		JOIN submeter.payment_receipt r ON r.site_id = f.site_id AND r.payment_receipt_id = f.payment_receipt_id
		WHERE f.site_id = payment_duty.site_id AND f.next_check_at <= payment_duty.as_of AND f.state IN ('asked', 'processing', 'abnormal')
		ORDER BY f.payment_refund_id FOR UPDATE OF f SKIP LOCKED
	LOOP
		UPDATE submeter.payment_refund f
		SET checks = f.checks + 1, next_check_at = payment_duty.as_of + least(interval '1 minute' * power(2, least(f.checks, 10)), interval '6 hours')
		WHERE f.site_id = payment_duty.site_id AND f.payment_refund_id = item.payment_refund_id;
		asked := asked + 1;
		-- One that may never have arrived is asked for again under its number.
		PERFORM submeter.queue_payment(payment_duty.site_id, CASE item.state WHEN 'asked' THEN 'payment_refund' ELSE 'payment_refund_query' END, item.merchant_id, NULL,
			item.payment_refund_id, payment_duty.as_of + interval '7 days');
	END LOOP;
	PERFORM submeter.tidy_outbound(payment_duty.site_id, payment_duty.as_of);
	-- Anybody can send us nonsense; it is kept for a week.
	DELETE FROM submeter.payment_event e
	WHERE e.site_id = payment_duty.site_id AND e.source = 'notify' AND NOT e.verified AND e.received_at < payment_duty.as_of - interval '7 days';
	PERFORM submeter.ask_wechat_keys(m.site_id, m.merchant_id, NULL, payment_duty.as_of) FROM submeter.merchant m
	WHERE m.site_id = payment_duty.site_id AND m.provider = 'wechat' AND m.enabled
		AND coalesce(m.keys_asked_at < payment_duty.as_of - interval '12 hours', true);
	RETURN asked;
END
$$;
COMMENT ON FUNCTION submeter.payment_duty(int, timestamptz) IS
'Duty: has the providers asked about orders and refunds that are under way, sooner at first and less and less often; also for a while about orders that were closed. Returns how many.';

CREATE FUNCTION submeter.verify_payments(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH receipt AS (
		SELECT r.*, t.amount AS booked, coalesce(f.amount, 0) AS booked_fee, t.idempotency_key AS key, format('payment:%s:%s:%s', m.provider, r.merchant_id, r.provider_transaction) AS wanted
		FROM submeter.payment_receipt r
		JOIN submeter.merchant m ON m.site_id = r.site_id AND m.merchant_id = r.merchant_id
		LEFT JOIN submeter.transfer t ON t.site_id = r.site_id AND t.transfer_id = r.transfer_id AND t.leg = 1
		LEFT JOIN submeter.transfer f ON f.site_id = r.site_id AND f.transfer_id = r.transfer_id AND f.leg = 2
		WHERE r.site_id = verify_payments.site_id
	)
	SELECT format('receipt %s is not in the books', r.payment_receipt_id), r.account_id, r.transfer_id, r.amount, coalesce(r.booked, 0) + r.booked_fee
	FROM receipt r WHERE (r.booked, r.booked_fee) IS DISTINCT FROM (r.amount - r.fee, r.fee) OR r.key IS DISTINCT FROM r.wanted
	UNION ALL
	SELECT 'money of a provider without a receipt', t.account_id, t.transfer_id, 0, t.amount
	FROM submeter.transfer t
	WHERE t.site_id = verify_payments.site_id AND t.kind = 'recharge' AND t.idempotency_key LIKE 'payment:%'
		AND t.idempotency_key NOT LIKE 'payment:reconcile:%' AND NOT EXISTS (SELECT FROM receipt r WHERE r.transfer_id = t.transfer_id)
	UNION ALL
	SELECT format('order %s is paid without money, or the other way round', o.payment_order_id), o.account_id, NULL, o.total, coalesce(sum(r.amount), 0)
	FROM submeter.payment_order o
	LEFT JOIN receipt r ON r.payment_order_id = o.payment_order_id
	WHERE o.site_id = verify_payments.site_id AND o.merchant_id IS NOT NULL
	GROUP BY o.payment_order_id, o.account_id, o.total, o.state
	HAVING (o.state = 'paid') <> (count(r.payment_receipt_id) > 0)
	UNION ALL
	SELECT format('receipt %s was paid back more than once', r.payment_receipt_id), r.account_id, r.transfer_id, r.amount, sum(f.amount)
	FROM receipt r
	JOIN submeter.payment_refund f ON f.site_id = r.site_id AND f.payment_receipt_id = r.payment_receipt_id AND f.state <> 'failed'
	GROUP BY r.payment_receipt_id, r.account_id, r.transfer_id, r.amount
	HAVING sum(f.amount) > r.amount
$$;
COMMENT ON FUNCTION submeter.verify_payments(int) IS
'Part of verify_ledger: each receipt of a provider is one movement of its amount, fee included, and the other way round, orders are paid when there is money for them, and nothing goes back twice.';
