-- Room: payment, what follows from what a provider says: orders that are paid or closed, money in the books whatever became of
-- its order, refunds. Lock order: see 93_payment.sql.

CREATE FUNCTION submeter.expire_order(site_id int, payment_order_id bigint, detail text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	its_merchant bigint;
BEGIN
	UPDATE submeter.payment_order o
	SET expires_at = least(o.expires_at, greatest(expire_order.as_of, o.created_at)), detail = coalesce(expire_order.detail, o.detail)
	WHERE o.site_id = expire_order.site_id AND o.payment_order_id = expire_order.payment_order_id AND o.state = 'open'
	RETURNING o.merchant_id INTO its_merchant;
	IF its_merchant IS NOT NULL THEN
		PERFORM submeter.queue_payment(expire_order.site_id, 'payment_close', its_merchant, expire_order.payment_order_id, NULL, expire_order.as_of + interval '1 day');
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.expire_order(int, bigint, text, timestamptz) IS
'An open order is not to be paid any more: it no longer counts as under way and is closed at the provider. It stays open until the provider says so.';

CREATE FUNCTION submeter.close_order(site_id int, payment_order_id bigint, detail text, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- A code that was shown lives on for two hours at Alipay: it is asked about until then.
	UPDATE submeter.payment_order o
	SET state = 'closed', closed_at = close_order.as_of, detail = coalesce(o.detail, close_order.detail),
		next_check_at = CASE WHEN o.check_until > close_order.as_of THEN least(o.check_until, close_order.as_of + interval '10 minutes') END
	WHERE o.site_id = close_order.site_id AND o.payment_order_id = close_order.payment_order_id AND o.state = 'open'
$$;
COMMENT ON FUNCTION submeter.close_order(int, bigint, text, timestamptz) IS
'An open order is closed: the provider says that nothing was paid and nothing will be.';

CREATE FUNCTION submeter.receipt_kind(orders submeter.payment_order_info[], this_id bigint, amount numeric, account_state text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT CASE
			WHEN receipt_kind.account_state <> 'open' THEN 'closed_account'
			WHEN o.total <> receipt_kind.amount THEN 'other_amount'
			WHEN o.state = 'paid' THEN 'twice'
			WHEN EXISTS (SELECT FROM unnest(receipt_kind.orders) x WHERE x.state = 'paid') THEN 'second_channel'
			WHEN o.state = 'closed' THEN 'late'
			ELSE 'order' END
		FROM unnest(receipt_kind.orders) o
		WHERE o.payment_order_id = receipt_kind.this_id);
END
$$;
COMMENT ON FUNCTION submeter.receipt_kind(submeter.payment_order_info[], bigint, numeric, text) IS
'What money is that came for one of the orders of a key, given how all of them stand: order when it is as expected, otherwise what is odd about it.';

CREATE FUNCTION submeter.book_unassigned(site_id int, provider text, amount numeric, idempotency_key text, effective_at timestamptz, note text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint := submeter.next_movement(book_unassigned.site_id);
BEGIN
	PERFORM submeter.post_leg(book_unassigned.site_id, movement, 1,
		submeter.system_ledger_account(book_unassigned.site_id, 'clearing:' || book_unassigned.provider, 'clearing'),
		submeter.system_ledger_account(book_unassigned.site_id, 'suspense:' || book_unassigned.provider, 'suspense'),
		book_unassigned.amount, 'recharge', NULL, book_unassigned.idempotency_key, book_unassigned.effective_at, book_unassigned.provider, book_unassigned.note);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.book_unassigned(int, text, numeric, text, timestamptz, text) IS
'Books money of a provider that belongs to no account into suspense.';

CREATE FUNCTION submeter.book_payment(site_id int, merchant_id bigint, payment_order_id bigint, news submeter.payment_news, as_of timestamptz) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	provider text := (SELECT m.provider FROM submeter.merchant m WHERE m.site_id = book_payment.site_id AND m.merchant_id = book_payment.merchant_id);
	key text := format('payment:%s:%s:%s', provider, book_payment.merchant_id, book_payment.news.transaction);
	item submeter.payment_order;
	known submeter.payment_receipt;
	kind text := 'unknown_order';
	fee numeric := 0;
	movement bigint;
	receipt bigint;
BEGIN
	PERFORM submeter.require_amount(book_payment.news.amount);
	-- Notices of one transaction that has no order meet here; those of an order met at its row.
	PERFORM pg_advisory_xact_lock(hashtext(key), book_payment.site_id);
	SELECT r.* INTO known FROM submeter.payment_receipt r
	WHERE r.site_id = book_payment.site_id AND r.merchant_id = book_payment.merchant_id AND r.provider_transaction = book_payment.news.transaction;
	IF FOUND THEN
		RETURN CASE WHEN known.amount = book_payment.news.amount THEN 'known already' ELSE format('known already with %s', known.amount) END;
	END IF;
	SELECT o.* INTO item FROM submeter.payment_order o
	WHERE o.site_id = book_payment.site_id AND o.payment_order_id = book_payment.payment_order_id;
	IF item.payment_order_id IS NOT NULL THEN
		kind := submeter.receipt_kind(
			(SELECT array_agg(submeter.payment_info(o.site_id, o.payment_order_id)) FROM submeter.payment_order o
				WHERE o.site_id = item.site_id AND o.idempotency_key = item.idempotency_key),
			item.payment_order_id, book_payment.news.amount,
			(SELECT a.state FROM submeter.account a WHERE a.site_id = item.site_id AND a.account_id = item.account_id));
	END IF;
	CASE kind
		WHEN 'unknown_order' THEN
			movement := submeter.book_unassigned(book_payment.site_id, provider, book_payment.news.amount, key, book_payment.as_of,
				book_payment.news.out_trade_no);
		WHEN 'closed_account' THEN
			PERFORM submeter.lock_account(item.site_id, item.account_id);
			movement := submeter.post_movement(item.site_id, item.account_id, book_payment.news.amount, 'recharge',
				submeter.system_ledger_account(item.site_id, 'clearing:' || provider, 'clearing'), key, book_payment.as_of, provider, item.out_trade_no);
		ELSE
			-- Whatever did not come as ordered is the payer's in full.
			fee := CASE kind WHEN 'order' THEN item.fee ELSE 0 END;
			movement := submeter.credit_recharge(item.site_id, item.account_id, book_payment.news.amount - fee, provider, key, item.out_trade_no, false, fee);
	END CASE;
	INSERT INTO submeter.payment_receipt AS r (site_id, merchant_id, provider_transaction, payment_order_id, account_id, out_trade_no, amount, fee, settled, kind,
		paid_at, transfer_id, payer)
	VALUES (book_payment.site_id, book_payment.merchant_id, book_payment.news.transaction, item.payment_order_id, item.account_id,
		coalesce(book_payment.news.out_trade_no, item.out_trade_no), book_payment.news.amount, fee, book_payment.news.settled, kind,
		coalesce(book_payment.news.paid_at, book_payment.as_of), movement, book_payment.news.payer)
	RETURNING r.payment_receipt_id INTO receipt;
	IF kind NOT IN ('order', 'unknown_order') THEN
		PERFORM submeter.propose(item.site_id, item.account_id, 'refund', book_payment.news.amount, 'payment', 'payment:' || receipt::text,
			jsonb_build_object('payment_receipt_id', receipt, 'why', kind, 'ordered', item.total, 'out_trade_no', item.out_trade_no));
	END IF;
	IF item.payment_order_id IS NOT NULL THEN
		PERFORM submeter.order_paid(item.site_id, item.payment_order_id, item.idempotency_key, book_payment.as_of);
	END IF;
	RETURN kind;
END
$$;
COMMENT ON FUNCTION submeter.book_payment(int, bigint, bigint, submeter.payment_news, timestamptz) IS
'Books money a provider took, once per transaction, and returns what it was. Whatever is not as ordered is credited or kept in suspense, where people see it, and proposed for refund. The orders of its key are locked by the caller.';

CREATE FUNCTION submeter.order_paid(site_id int, payment_order_id bigint, idempotency_key text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	UPDATE submeter.payment_order o SET state = 'paid', paid_at = coalesce(o.paid_at, order_paid.as_of), next_check_at = NULL, detail = NULL
	WHERE o.site_id = order_paid.site_id AND o.payment_order_id = order_paid.payment_order_id;
	-- The other ways to pay the same thing are not to be used any more.
	PERFORM submeter.expire_order(o.site_id, o.payment_order_id, 'paid over another channel', order_paid.as_of)
	FROM submeter.payment_order o
	WHERE o.site_id = order_paid.site_id AND o.idempotency_key = order_paid.idempotency_key AND o.state = 'open';
END
$$;
COMMENT ON FUNCTION submeter.order_paid(int, bigint, text, timestamptz) IS 'An order is paid; the other ones of its key are closed at their providers.';

CREATE FUNCTION submeter.apply_payment(site_id int, merchant_id bigint, payment_order_id bigint, source text, news submeter.payment_news, as_of timestamptz)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.payment_order;
	kind text;
BEGIN
	-- All orders of the key, in their order: whoever else hears of one of them waits here.
	PERFORM FROM submeter.payment_order o
	WHERE o.site_id = apply_payment.site_id AND o.idempotency_key = (
		SELECT x.idempotency_key FROM submeter.payment_order x WHERE x.site_id = apply_payment.site_id AND x.payment_order_id = apply_payment.payment_order_id)
	ORDER BY o.payment_order_id FOR UPDATE;
	SELECT o.* INTO item FROM submeter.payment_order o
	WHERE o.site_id = apply_payment.site_id AND o.payment_order_id = apply_payment.payment_order_id;
	IF apply_payment.news.result = 'paid' THEN
		kind := submeter.book_payment(apply_payment.site_id, apply_payment.merchant_id, apply_payment.payment_order_id, apply_payment.news, apply_payment.as_of);
		-- Who decides whose it is need not be told.
		IF kind = 'unknown_order' AND apply_payment.source <> 'decision' THEN
			PERFORM submeter.raise_alarm(apply_payment.site_id, 'payment_unassigned', NULL, NULL,
				format('%s %s, %s', (SELECT m.provider FROM submeter.merchant m WHERE m.site_id = apply_payment.site_id AND m.merchant_id = apply_payment.merchant_id),
					apply_payment.news.transaction, apply_payment.news.amount), apply_payment.as_of);
		END IF;
		RETURN kind;
	ELSIF item.state IS DISTINCT FROM 'open' THEN
		RETURN 'nothing to do';
	END IF;
	CASE apply_payment.news.result
		WHEN 'ready' THEN
			UPDATE submeter.payment_order o
			SET qr = apply_payment.news.qr, url = apply_payment.news.url, parameters = apply_payment.news.parameters, detail = NULL
			WHERE o.site_id = item.site_id AND o.payment_order_id = item.payment_order_id;
		WHEN 'closed' THEN
			PERFORM submeter.close_order(item.site_id, item.payment_order_id, coalesce(apply_payment.news.detail, 'closed at the provider'), apply_payment.as_of);
		WHEN 'not_exist' THEN
			-- The provider has no such order before its code was scanned: not paid, and nothing to close.
			IF apply_payment.source = 'close' OR apply_payment.as_of >= item.expires_at THEN
				PERFORM submeter.close_order(item.site_id, item.payment_order_id, 'not paid in time', apply_payment.as_of);
			END IF;
		WHEN 'waiting' THEN
			IF apply_payment.as_of >= item.expires_at THEN
				PERFORM submeter.expire_order(item.site_id, item.payment_order_id, NULL, apply_payment.as_of);
			END IF;
		WHEN 'refused' THEN
			IF apply_payment.source = 'create' THEN
				PERFORM submeter.close_order(item.site_id, item.payment_order_id, coalesce(apply_payment.news.detail, 'refused by the provider'), apply_payment.as_of);
			END IF;
		ELSE NULL;
	END CASE;
	RETURN apply_payment.news.result;
END
$$;
COMMENT ON FUNCTION submeter.apply_payment(int, bigint, bigint, text, submeter.payment_news, timestamptz) IS
'What follows when a provider said something about an order, however it came: the one way into its state. Saying it again changes nothing. Returns what was done.';

CREATE FUNCTION submeter.send_refunds(site_id int, account_id bigint, provider text, amount numeric, transfer_id bigint, reason text, as_of timestamptz) RETURNS numeric
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	left_over numeric := send_refunds.amount;
	part record;
	refund_id bigint;
BEGIN
	FOR part IN
		SELECT r.payment_receipt_id, r.merchant_id, r.amount - r.fee - coalesce((SELECT sum(f.amount) FROM submeter.payment_refund f
			WHERE f.site_id = r.site_id AND f.payment_receipt_id = r.payment_receipt_id AND f.state <> 'failed'), 0) AS rest
		FROM submeter.payment_receipt r
		JOIN submeter.merchant m ON m.site_id = r.site_id AND m.merchant_id = r.merchant_id AND m.provider = send_refunds.provider
		WHERE r.site_id = send_refunds.site_id AND (r.account_id = send_refunds.account_id OR r.account_id IS NULL
			AND send_refunds.account_id = submeter.receipt_given_to(r.site_id, r.payment_receipt_id))
		ORDER BY r.payment_receipt_id DESC
	LOOP
		CONTINUE WHEN part.rest <= 0;
		EXIT WHEN left_over <= 0;
		refund_id := nextval(pg_get_serial_sequence('submeter.payment_refund', 'payment_refund_id'));
		INSERT INTO submeter.payment_refund (site_id, payment_refund_id, payment_receipt_id, account_id, amount, out_request_no, transfer_id, reason, asked_by, asked_at,
			next_check_at)
		VALUES (send_refunds.site_id, refund_id, part.payment_receipt_id, send_refunds.account_id, least(part.rest, left_over),
			format('s%s_r%s_%s', send_refunds.site_id, refund_id, substr(encode(sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'hex'), 1, 6)),
			send_refunds.transfer_id, send_refunds.reason, (submeter.me()).login, send_refunds.as_of, send_refunds.as_of + interval '1 minute');
		PERFORM submeter.queue_payment(send_refunds.site_id, 'payment_refund', part.merchant_id, NULL, refund_id, send_refunds.as_of + interval '7 days');
		left_over := left_over - least(part.rest, left_over);
	END LOOP;
	RETURN left_over;
END
$$;
COMMENT ON FUNCTION submeter.send_refunds(int, bigint, text, numeric, bigint, text, timestamptz) IS
'Has a provider pay back what a movement took from an account, out of the latest receipts first and without their fees; returns what no receipt covers, which a person pays out. The account is locked by the caller.';

CREATE FUNCTION submeter.apply_refund(site_id int, payment_refund_id bigint, state text, detail text, as_of timestamptz) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.payment_refund;
	provider text;
	reversal bigint;
BEGIN
	SELECT f.* INTO item FROM submeter.payment_refund f
	WHERE f.site_id = apply_refund.site_id AND f.payment_refund_id = apply_refund.payment_refund_id FOR UPDATE;
	IF item.state IN ('done', 'failed') OR apply_refund.state NOT IN ('processing', 'done', 'failed', 'abnormal') THEN
		RETURN item.state;
	END IF;
	IF apply_refund.state = 'failed' THEN
		SELECT m.provider INTO STRICT provider FROM submeter.payment_receipt r
		JOIN submeter.merchant m ON m.site_id = r.site_id AND m.merchant_id = r.merchant_id
		WHERE r.site_id = item.site_id AND r.payment_receipt_id = item.payment_receipt_id;
		PERFORM submeter.lock_account(item.site_id, item.account_id);
		reversal := submeter.post_movement(item.site_id, item.account_id, item.amount, 'refund',
			submeter.system_ledger_account(item.site_id, 'clearing:' || provider, 'clearing'),
			format('payment:refund:%s', item.payment_refund_id), apply_refund.as_of, provider, 'refund failed: ' || coalesce(apply_refund.detail, item.out_request_no));
	END IF;
	IF apply_refund.state IN ('failed', 'abnormal') THEN
		PERFORM submeter.raise_alarm(item.site_id, 'payment_refund_failed', NULL, NULL,
			format('refund %s of %s: %s', item.payment_refund_id, item.amount, coalesce(apply_refund.detail, apply_refund.state)), apply_refund.as_of);
	END IF;
	UPDATE submeter.payment_refund f
	SET state = apply_refund.state, detail = apply_refund.detail, reversal_id = reversal,
		finished_at = CASE WHEN apply_refund.state IN ('done', 'failed') THEN apply_refund.as_of END,
		next_check_at = CASE apply_refund.state WHEN 'processing' THEN least(f.next_check_at, apply_refund.as_of + interval '1 hour')
			WHEN 'abnormal' THEN apply_refund.as_of + interval '1 day' END
	WHERE f.site_id = item.site_id AND f.payment_refund_id = item.payment_refund_id;
	RETURN apply_refund.state;
END
$$;
COMMENT ON FUNCTION submeter.apply_refund(int, bigint, text, text, timestamptz) IS
'What follows when a provider said something about a refund: done; failed, then the money is back on the account; abnormal, then a person settles it at the provider. Saying it again changes nothing. Returns the state.';
