-- Room: payment. Orders, money that came, money that goes back, and the one function that everything providers say goes
-- through, whether they came to us (notify) or we asked them (query). What a provider's bytes mean is in the provider's own
-- part: <provider>_request() makes requests, <provider>_answer() and <provider>_notify() read what comes.
-- Lock order: a row of outbound, payment_order by payment_order_id (all with the same key at once), payment_refund, then the
-- ledger account of the tenant. Nothing here locks an order while it holds an account.

CREATE TYPE submeter.payment_order_info AS (payment_order_id bigint, provider text, method text, amount numeric, state text, out_trade_no text,
	qr text, url text, parameters jsonb, expires_at timestamptz, paid_at timestamptz, detail text, fee numeric, total numeric);
COMMENT ON TYPE submeter.payment_order_info IS
'A payment as the front end needs it: amount is what is credited, fee what is paid on top, total what the payer is asked for; qr is the text of the code to show (see qr_svg), url the page to go to, parameters what the provider''s script takes; all NULL until the provider answered.';
CREATE TYPE submeter.payment_news AS (verified boolean, result text, out_trade_no text, transaction text, amount numeric, settled numeric,
	paid_at timestamptz, payer text, qr text, url text, parameters jsonb, refund_no text, refund_state text, detail text);
COMMENT ON TYPE submeter.payment_news IS
'What a provider said, in our words. result: paid, ready (created), waiting, closed, not_exist, refused, unknown, none; refund_state: done, processing, failed, abnormal.';
REVOKE ALL ON TYPE submeter.payment_order_info, submeter.payment_news FROM PUBLIC;
GRANT USAGE ON TYPE submeter.payment_order_info TO submeter_owner, submeter_admin, submeter_operator, submeter_cashier, submeter_erp, submeter_tenant;
GRANT USAGE ON TYPE submeter.payment_news TO submeter_owner;

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES
	('payment_create', 'payment_build', 'payment_done', true, 100, 'an order at the provider; the same order again is the same order'),
	('payment_query', 'payment_build', 'payment_done', true, 6, 'whether an order was paid'),
	('payment_close', 'payment_build', 'payment_done', true, 20, 'an order that is not to be paid any more'),
	('payment_refund', 'payment_build', 'payment_done', true, 40, 'money back; the same number again moves nothing twice'),
	('payment_refund_query', 'payment_build', 'payment_done', true, 6, 'what became of a refund');

CREATE FUNCTION submeter.qr_svg(text text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_qr_svg';
COMMENT ON FUNCTION submeter.qr_svg(text) IS
'A text as a code to scan (QR, error correction M) in SVG, for pages, bills and mails. 22023 for nothing and for more than 1024 bytes.';

CREATE FUNCTION submeter.merchant_channel() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: row-level security let the merchant through.
	INSERT INTO submeter.payment_channel (site_id, channel) VALUES (NEW.site_id, NEW.provider) ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.merchant_channel() IS 'Trigger of merchant: its provider is a way of paying at the site.';

CREATE FUNCTION submeter.payment_info(site_id int, payment_order_id bigint) RETURNS submeter.payment_order_info
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	info submeter.payment_order_info;
BEGIN
	SELECT o.payment_order_id, o.provider, o.method, o.amount, o.state, o.out_trade_no,
		CASE WHEN o.state = 'open' THEN o.qr END, CASE WHEN o.state = 'open' THEN o.url END, CASE WHEN o.state = 'open' THEN o.parameters END,
		o.expires_at, o.paid_at, o.detail, o.fee, o.total INTO info
	FROM submeter.payment_order o
	WHERE o.site_id = payment_info.site_id AND o.payment_order_id = payment_info.payment_order_id;
	RETURN info;
END
$$;
COMMENT ON FUNCTION submeter.payment_info(int, bigint) IS 'An order as the front end needs it.';

CREATE FUNCTION submeter.payment_subject(site_id int, account_id bigint) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT left(CASE s.locale WHEN 'zh' THEN '电费 ' ELSE 'Electricity ' END || regexp_replace(a.code || ' ' || s.name, '[^[:alnum:] ._-]', ' ', 'g'), 60)
	FROM submeter.account a JOIN submeter.site s ON s.site_id = a.site_id
	WHERE a.site_id = payment_subject.site_id AND a.account_id = payment_subject.account_id
$$;
COMMENT ON FUNCTION submeter.payment_subject(int, bigint) IS 'What the payer sees that he pays for.';

CREATE FUNCTION submeter.json_of(body bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN convert_from(json_of.body, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
	-- Errors of Alipay's edge come in its own character set whatever was asked for.
	BEGIN
		RETURN convert_from(json_of.body, 'GB18030')::jsonb;
	EXCEPTION WHEN data_exception OR statement_too_complex THEN
		RETURN NULL;
	END;
END
$$;
COMMENT ON FUNCTION submeter.json_of(bytea) IS 'What a body says as JSON, in UTF-8 or GB 18030; NULL when it is none.';

CREATE FUNCTION submeter.merchant_keys(site_id int, merchant_id bigint, as_of timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_object_agg(k.key_name, k.pem), '{}') FROM submeter.merchant_key k
	WHERE k.site_id = merchant_keys.site_id AND k.merchant_id = merchant_keys.merchant_id AND coalesce(k.valid_until > merchant_keys.as_of, true)
$$;
COMMENT ON FUNCTION submeter.merchant_keys(int, bigint, timestamptz) IS 'The keys by which a provider''s messages to a merchant are verified: id to PEM.';

CREATE FUNCTION submeter.queue_payment(site_id int, kind text, merchant_id bigint, payment_order_id bigint, payment_refund_id bigint, expires_at timestamptz)
RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.queue_outbound(queue_payment.site_id, queue_payment.kind,
		jsonb_strip_nulls(jsonb_build_object('merchant_id', m.merchant_id, 'payment_order_id', queue_payment.payment_order_id,
			'payment_refund_id', queue_payment.payment_refund_id)),
		substring(m.api_base FROM '^https?://([^/]+)'), m.provider, NULL, queue_payment.expires_at,
		coalesce(queue_payment.payment_refund_id, queue_payment.payment_order_id)::text)
	FROM submeter.merchant m
	WHERE m.site_id = queue_payment.site_id AND m.merchant_id = queue_payment.merchant_id
$$;
COMMENT ON FUNCTION submeter.queue_payment(int, text, bigint, bigint, bigint, timestamptz) IS
'Has the courier ask the provider something about an order or refund; once while the same question waits.';

CREATE FUNCTION submeter.payment_merchant(site_id int, provider text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id bigint;
BEGIN
	SELECT m.merchant_id INTO found_id FROM submeter.merchant m
	WHERE m.site_id = payment_merchant.site_id AND m.provider = payment_merchant.provider AND m.enabled
	ORDER BY m.merchant_id DESC LIMIT 1;
	IF found_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('site %s has no account at %s', payment_merchant.site_id, coalesce(payment_merchant.provider, 'NULL')),
			DETAIL = 'There is no enabled merchant of this provider.', HINT = 'SELECT provider, name, enabled FROM submeter.merchant lists them.';
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.payment_merchant(int, text) IS 'The merchant new orders of a provider go to: the latest enabled one; 55000 when there is none.';

CREATE FUNCTION submeter.require_payment(site_id int, account_id bigint, provider text, amount numeric, method text, payer jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fault text;
BEGIN
	fault := CASE
		WHEN (SELECT s.currency FROM submeter.site s WHERE s.site_id = require_payment.site_id) <> 'CNY' THEN 'The provider takes yuan only, and the site has another currency.'
		WHEN require_payment.provider = 'alipay' AND coalesce(require_payment.method, '') NOT IN ('qr', 'wap') THEN 'Alipay has the methods qr and wap.'
		WHEN require_payment.provider = 'wechat' AND coalesce(require_payment.method, '') NOT IN ('qr', 'h5', 'jsapi') THEN 'WeChat Pay has the methods qr, h5 and jsapi.'
		WHEN require_payment.provider = 'wechat' AND require_payment.method = 'jsapi' AND coalesce(require_payment.payer ->> 'openid', '') !~ '^[0-9A-Za-z_-]{1,128}$'
			THEN 'For jsapi the payer''s openid is needed.'
		WHEN require_payment.provider = 'wechat' AND require_payment.method = 'h5' AND coalesce(require_payment.payer ->> 'client_ip', '') !~ '^[0-9A-Fa-f.:]{2,45}$'
			THEN 'For h5 the payer''s client_ip is needed.' END;
	IF fault IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the payment cannot be made this way', DETAIL = fault,
			HINT = 'See create_payment() for what each provider and method needs.';
	END IF;
	PERFORM submeter.require_open_account(require_payment.site_id, require_payment.account_id);
	PERFORM submeter.require_room(require_payment.site_id, require_payment.account_id, require_payment.amount);
END
$$;
COMMENT ON FUNCTION submeter.require_payment(int, bigint, text, numeric, text, jsonb) IS
'Refuses what a provider would refuse (22023), closed accounts and more than the policy''s max_balance (55000).';

CREATE FUNCTION submeter.known_payment(site_id int, account_id bigint, provider text, amount numeric, idempotency_key text, method text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	earlier submeter.payment_order;
	found_id bigint;
BEGIN
	FOR earlier IN
		SELECT o.* FROM submeter.payment_order o
		WHERE o.site_id = known_payment.site_id AND o.idempotency_key = known_payment.idempotency_key ORDER BY o.payment_order_id
	LOOP
		IF (earlier.account_id, earlier.amount) IS DISTINCT FROM (known_payment.account_id, known_payment.amount)
			OR earlier.provider = known_payment.provider AND earlier.method IS DISTINCT FROM known_payment.method
		THEN
			RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('idempotency key "%s" was used for another payment', known_payment.idempotency_key),
				DETAIL = format('Order %s: %s by %s (%s) for account %s.', earlier.payment_order_id, earlier.amount, earlier.provider, earlier.method, earlier.account_id),
				HINT = 'Use a new key for a new payment; the same key with another provider is another way to pay the same thing.';
		ELSIF earlier.provider = known_payment.provider THEN
			found_id := earlier.payment_order_id;
		ELSIF earlier.state = 'paid' THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('payment "%s" is paid already', known_payment.idempotency_key),
				DETAIL = format('Order %s by %s.', earlier.payment_order_id, earlier.provider), HINT = 'Use a new key for a new payment.';
		END IF;
	END LOOP;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.known_payment(int, bigint, text, numeric, text, text) IS
'The order already made under a key with this provider; NULL when there is none, 23505 when the key stands for something else, 55000 when it was paid over another provider.';

CREATE FUNCTION submeter.create_payment(site_id int, account_id bigint, provider text, amount numeric, idempotency_key text,
	method text DEFAULT 'qr', payer jsonb DEFAULT NULL) RETURNS submeter.payment_order_info
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	as_of timestamptz := clock_timestamp();
	order_id bigint;
	target submeter.merchant;
BEGIN
	PERFORM submeter.authorize('create_payment', create_payment.site_id);
	PERFORM submeter.require_my_account(create_payment.site_id, create_payment.account_id);
	PERFORM submeter.require_amount(create_payment.amount);
	PERFORM submeter.require_key(create_payment.idempotency_key);
	-- The same key in two sessions meets here.
	PERFORM submeter.lock_account(create_payment.site_id, create_payment.account_id);
	order_id := submeter.known_payment(create_payment.site_id, create_payment.account_id, create_payment.provider, create_payment.amount,
		create_payment.idempotency_key, create_payment.method);
	IF order_id IS NOT NULL THEN
		RETURN submeter.payment_info(create_payment.site_id, order_id);
	END IF;
	SELECT m.* INTO target FROM submeter.merchant m
	WHERE m.site_id = create_payment.site_id AND m.merchant_id = submeter.payment_merchant(create_payment.site_id, create_payment.provider);
	IF target.provider = 'wechat' AND create_payment.method = 'jsapi' THEN
		create_payment.payer := submeter.jsapi_payer(create_payment.site_id, target.app, create_payment.payer);
	END IF;
	PERFORM submeter.require_payment(create_payment.site_id, create_payment.account_id, create_payment.provider, create_payment.amount,
		create_payment.method, create_payment.payer);
	order_id := nextval(pg_get_serial_sequence('submeter.payment_order', 'payment_order_id'));
	INSERT INTO submeter.payment_order (site_id, payment_order_id, account_id, provider, merchant_id, method, amount, fee, idempotency_key, out_trade_no,
		payer, created_at, expires_at, check_until, next_check_at)
	-- The number is new even where a backup was brought back and numbers begin anew.
	VALUES (create_payment.site_id, order_id, create_payment.account_id, create_payment.provider, target.merchant_id, create_payment.method,
		create_payment.amount, submeter.recharge_fee(create_payment.site_id, create_payment.provider, create_payment.amount, as_of), create_payment.idempotency_key,
		format('s%s_%s_%s', create_payment.site_id, order_id, substr(encode(sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'hex'), 1, 6)),
		create_payment.payer, as_of, as_of + target.order_ttl, as_of + interval '2 hours 15 minutes', as_of + interval '5 s');
	IF create_payment.method = 'wap' THEN
		UPDATE submeter.payment_order o
		SET url = submeter.alipay_page(to_jsonb(target), to_jsonb(o) || jsonb_build_object('subject', submeter.payment_subject(o.site_id, o.account_id)), as_of)
		WHERE o.site_id = create_payment.site_id AND o.payment_order_id = order_id;
	ELSE
		PERFORM submeter.queue_payment(create_payment.site_id, 'payment_create', target.merchant_id, order_id, NULL, as_of + target.order_ttl);
	END IF;
	RETURN submeter.payment_info(create_payment.site_id, order_id);
END
$$;
COMMENT ON FUNCTION submeter.create_payment(int, bigint, text, numeric, text, text, jsonb) IS
'Begins a payment of an amount to be credited to the site''s merchant at a provider and returns it; the payer is asked for its total, which has the fee of recharge_fee() on top. check_payment() tells when its code is there and when it is paid. Methods: alipay qr, wap; wechat qr, h5 (payer {"client_ip"}), jsapi (payer {"openid"}; without it the one openid that begin_wechat_login() bound to the calling person at the merchant''s appid). The same key, account, amount and method return the same order; the same key with another provider is another way to pay the same thing. 22023 bad argument, 23505 key used otherwise, P0002 unknown account, 55000 closed account, no merchant, or more than the policy''s max_balance.';

CREATE FUNCTION submeter.require_my_payment(site_id int, payment_order_id bigint, account_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.require_my_account(require_my_payment.site_id, require_my_payment.account_id);
EXCEPTION WHEN no_data_found THEN
	RAISE EXCEPTION USING ERRCODE = 'P0002',
		MESSAGE = format('site %s has no payment %s', require_my_payment.site_id, coalesce(require_my_payment.payment_order_id::text, 'NULL')),
		HINT = 'SELECT payment_order_id, state FROM submeter.payment_order lists the payments.';
END
$$;
COMMENT ON FUNCTION submeter.require_my_payment(int, bigint, bigint) IS
'P0002 for a payment the site does not have and, when a tenant asks, for another tenant''s.';

CREATE FUNCTION submeter.check_payment(site_id int, payment_order_id bigint) RETURNS submeter.payment_order_info
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.payment_order;
BEGIN
	PERFORM submeter.authorize('check_payment', check_payment.site_id);
	SELECT o.* INTO item FROM submeter.payment_order o
	WHERE o.site_id = check_payment.site_id AND o.payment_order_id = check_payment.payment_order_id;
	PERFORM submeter.require_my_payment(check_payment.site_id, check_payment.payment_order_id, item.account_id);
	-- A person waits at the screen: the provider is asked a little sooner, once at a time.
	IF item.state = 'open' AND item.next_check_at > clock_timestamp() AND clock_timestamp() > item.created_at + interval '2 s' THEN
		PERFORM submeter.queue_payment(item.site_id, 'payment_query', item.merchant_id, item.payment_order_id, NULL, clock_timestamp() + interval '1 minute')
		WHERE NOT EXISTS (SELECT FROM submeter.outbound o WHERE o.site_id = item.site_id AND o.kind = 'payment_query'
			AND o.dedupe_key = item.payment_order_id::text AND o.created_at > clock_timestamp() - interval '2 s');
	END IF;
	RETURN submeter.payment_info(check_payment.site_id, check_payment.payment_order_id);
END
$$;
COMMENT ON FUNCTION submeter.check_payment(int, bigint) IS
'How a payment stands, for a front end that asks every second or two; has the provider asked, too. P0002 for an order that is none of the caller''s.';

CREATE FUNCTION submeter.cancel_payment(site_id int, payment_order_id bigint) RETURNS submeter.payment_order_info
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.payment_order;
BEGIN
	PERFORM submeter.authorize('cancel_payment', cancel_payment.site_id);
	SELECT o.* INTO item FROM submeter.payment_order o
	WHERE o.site_id = cancel_payment.site_id AND o.payment_order_id = cancel_payment.payment_order_id FOR UPDATE;
	PERFORM submeter.require_my_payment(cancel_payment.site_id, cancel_payment.payment_order_id, item.account_id);
	IF item.state = 'open' AND item.merchant_id IS NOT NULL THEN
		PERFORM submeter.expire_order(item.site_id, item.payment_order_id, 'cancelled', clock_timestamp());
	END IF;
	RETURN submeter.payment_info(cancel_payment.site_id, cancel_payment.payment_order_id);
END
$$;
COMMENT ON FUNCTION submeter.cancel_payment(int, bigint) IS
'The payer does not want to pay any more: the order is closed at the provider. Money that came meanwhile is credited. P0002 for an order that is none of the caller''s.';

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
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN receipt_kind.account_state <> 'open' THEN 'closed_account'
		WHEN o.total <> receipt_kind.amount THEN 'other_amount'
		WHEN o.state = 'paid' THEN 'twice'
		WHEN EXISTS (SELECT FROM unnest(receipt_kind.orders) x WHERE x.state = 'paid') THEN 'second_channel'
		WHEN o.state = 'closed' THEN 'late'
		ELSE 'order' END
	FROM unnest(receipt_kind.orders) o
	WHERE o.payment_order_id = receipt_kind.this_id
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

CREATE FUNCTION submeter.payment_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	request submeter.outbound_request;
BEGIN
	SELECT * INTO STRICT item FROM submeter.payment_facts(payment_build.site_id, payment_build.outbound_id);
	IF item.kind = 'payment_create' AND (item.payment_order ->> 'state' <> 'open' OR payment_build.as_of >= (item.payment_order ->> 'expires_at')::timestamptz)
		OR item.kind = 'payment_close' AND item.payment_order ->> 'state' <> 'open'
		OR item.kind = 'payment_refund' AND item.refund ->> 'state' <> 'asked'
		OR item.kind = 'payment_refund_query' AND item.refund ->> 'state' IN ('done', 'failed')
	THEN
		RETURN NULL;
	END IF;
	EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4, $5)', (item.merchant ->> 'provider') || '_request') INTO request
	USING item.kind, item.merchant, item.payment_order, item.refund, payment_build.as_of;
	request.timeout_ms := 15000;
	-- An answer locks orders and accounts, as notifications do that come meanwhile.
	request.options := jsonb_build_object('max_answer_bytes', 1048576, 'alone', true) || (item.merchant -> 'options');
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.payment_build(int, bigint, timestamptz) IS
'Builder of the courier''s payment requests: asks the provider''s own part; NULL when the order or refund does not need it any more.';

CREATE FUNCTION submeter.payment_facts(site_id int, outbound_id bigint, OUT kind text, OUT merchant_id bigint, OUT payment_order_id bigint, OUT payment_refund_id bigint,
	OUT merchant jsonb, OUT payment_order jsonb, OUT refund jsonb)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT b.kind, m.merchant_id, o.payment_order_id, f.payment_refund_id, to_jsonb(m),
		to_jsonb(o) || jsonb_build_object('subject', submeter.payment_subject(o.site_id, o.account_id)), to_jsonb(f) || jsonb_build_object('transaction', r.provider_transaction, 'out_trade_no', r.out_trade_no, 'total', r.amount)
	FROM submeter.outbound b
	JOIN submeter.merchant m ON m.site_id = b.site_id AND m.merchant_id = (b.ref ->> 'merchant_id')::bigint
	LEFT JOIN submeter.payment_order o ON o.site_id = b.site_id AND o.payment_order_id = (b.ref ->> 'payment_order_id')::bigint
	LEFT JOIN submeter.payment_refund f ON f.site_id = b.site_id AND f.payment_refund_id = (b.ref ->> 'payment_refund_id')::bigint
	LEFT JOIN submeter.payment_receipt r ON r.site_id = f.site_id AND r.payment_receipt_id = f.payment_receipt_id
	WHERE b.site_id = payment_facts.site_id AND b.outbound_id = payment_facts.outbound_id
$$;
COMMENT ON FUNCTION submeter.payment_facts(int, bigint) IS 'Merchant, order and refund a request of the courier is about.';

CREATE FUNCTION submeter.payment_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	news submeter.payment_news;
	event bigint;
	said text;
	again timestamptz;
BEGIN
	SELECT * INTO STRICT item FROM submeter.payment_facts(payment_done.site_id, payment_done.outbound_id);
	-- Somebody waits for the code: no longer than this, unless the provider asks us to.
	IF item.kind = 'payment_create' AND payment_done.status IS DISTINCT FROM 429 THEN
		again := payment_done.as_of + CASE WHEN payment_done.as_of < (item.payment_order ->> 'created_at')::timestamptz + interval '1 minute'
			THEN interval '3 s' ELSE interval '10 s' END;
	END IF;
	IF payment_done.outcome <> 'answered' THEN
		-- A question without an answer is nothing a person has to look at: the duty asks again.
		RETURN CASE WHEN item.kind IN ('payment_query', 'payment_refund_query') THEN ROW('cancelled', NULL, payment_done.outcome)::submeter.outbound_verdict
			WHEN again IS NOT NULL AND payment_done.outcome <> 'expired' THEN ROW('queued', again, NULL)::submeter.outbound_verdict END;
	END IF;
	INSERT INTO submeter.payment_event AS e (site_id, merchant_id, source, headers, body, payment_order_id)
	VALUES (payment_done.site_id, item.merchant_id, substr(item.kind, 9), payment_done.headers, coalesce(payment_done.body, ''), item.payment_order_id)
	RETURNING e.payment_event_id INTO event;
	EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4, $5, $6, $7, $8)', (item.merchant ->> 'provider') || '_answer') INTO news
	USING item.kind, item.merchant, item.payment_order, item.refund, payment_done.status, payment_done.headers, coalesce(payment_done.body, ''), payment_done.as_of;
	IF news.result <> 'unknown' THEN
		said := CASE WHEN item.payment_order_id IS NOT NULL
			THEN submeter.apply_payment(payment_done.site_id, item.merchant_id, item.payment_order_id, substr(item.kind, 9), news, payment_done.as_of)
			ELSE submeter.apply_refund(payment_done.site_id, item.payment_refund_id, news.refund_state, news.detail, payment_done.as_of) END;
	END IF;
	IF NOT coalesce(news.verified, false) THEN
		PERFORM submeter.ask_wechat_keys(payment_done.site_id, item.merchant_id, coalesce(payment_done.headers, '{}'), payment_done.as_of);
		PERFORM submeter.ask_alipay_cert(payment_done.site_id, item.merchant_id, payment_done.body, payment_done.as_of);
	END IF;
	UPDATE submeter.payment_event e SET verified = coalesce(news.verified, false), outcome = coalesce(said, 'unknown: ' || coalesce(news.detail, ''))
	WHERE e.site_id = payment_done.site_id AND e.payment_event_id = event;
	RETURN CASE WHEN (news.result = 'unknown' OR said IS NULL) AND item.kind IN ('payment_query', 'payment_refund_query')
			THEN ROW('cancelled', NULL, news.detail)::submeter.outbound_verdict
		WHEN news.result = 'unknown' OR said IS NULL THEN ROW('queued', again, news.detail)::submeter.outbound_verdict
		WHEN news.result = 'refused' OR said = 'failed' THEN ROW('failed', NULL, news.detail)::submeter.outbound_verdict
		ELSE ROW('delivered', NULL, said)::submeter.outbound_verdict END;
END
$$;
COMMENT ON FUNCTION submeter.payment_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Taker of the courier''s payment answers: keeps the bytes, has the provider''s own part read them and applies what they say. Where that stays unknown the question is asked again.';

CREATE FUNCTION submeter.payment_reply(provider text, taken boolean, message text DEFAULT NULL, status int DEFAULT NULL) RETURNS TABLE (status int, body text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN payment_reply.taken THEN 200 ELSE coalesce(payment_reply.status, CASE payment_reply.provider WHEN 'wechat' THEN 401 ELSE 200 END) END,
		CASE WHEN payment_reply.provider = 'wechat'
			THEN CASE WHEN payment_reply.taken THEN '' ELSE jsonb_build_object('code', 'FAIL', 'message', coalesce(payment_reply.message, 'try again'))::text END
			ELSE CASE WHEN payment_reply.taken THEN 'success' ELSE 'fail' END END
$$;
COMMENT ON FUNCTION submeter.payment_reply(text, boolean, text, int) IS
'What a provider wants to hear: Alipay exactly "success" (or anything else, and it comes again), WeChat Pay a status of 200 (or 4xx, 5xx).';

CREATE FUNCTION submeter.take_notice(site_id int, merchant_id bigint, payment_event_id bigint, headers jsonb, body bytea, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	merchant jsonb := (SELECT to_jsonb(m) FROM submeter.merchant m WHERE m.site_id = take_notice.site_id AND m.merchant_id = take_notice.merchant_id);
	news submeter.payment_news;
	order_id bigint;
	refund_id bigint;
	said text := 'nothing to do';
BEGIN
	EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4)', (merchant ->> 'provider') || '_notify') INTO news
	USING merchant, take_notice.headers, take_notice.body, take_notice.as_of;
	IF news.verified THEN
		SELECT o.payment_order_id INTO order_id FROM submeter.payment_order o
		WHERE o.site_id = take_notice.site_id AND o.out_trade_no = news.out_trade_no AND o.merchant_id = take_notice.merchant_id;
		IF news.result = 'paid' OR order_id IS NOT NULL AND news.result <> 'none' THEN
			said := submeter.apply_payment(take_notice.site_id, take_notice.merchant_id, order_id, 'notify', news, take_notice.as_of);
		END IF;
		IF news.refund_state IS NOT NULL THEN
			SELECT f.payment_refund_id INTO refund_id FROM submeter.payment_refund f
			WHERE f.site_id = take_notice.site_id AND f.out_request_no = news.refund_no;
			said := said || CASE WHEN refund_id IS NULL THEN '; a refund that was not asked for here'
				ELSE '; refund ' || submeter.apply_refund(take_notice.site_id, refund_id, news.refund_state, news.detail, take_notice.as_of) END;
			IF refund_id IS NULL THEN
				PERFORM submeter.raise_alarm(take_notice.site_id, 'payment_unassigned', NULL, NULL,
					format('refund %s of %s was made at the provider', news.refund_no, news.out_trade_no), take_notice.as_of);
			END IF;
		END IF;
	END IF;
	UPDATE submeter.payment_event e SET verified = news.verified, payment_order_id = order_id, outcome = CASE WHEN news.verified THEN said ELSE coalesce(news.detail, 'not signed') END
	WHERE e.site_id = take_notice.site_id AND e.payment_event_id = take_notice.payment_event_id;
	RETURN news.verified;
END
$$;
COMMENT ON FUNCTION submeter.take_notice(int, bigint, bigint, jsonb, bytea, timestamptz) IS
'Reads a notification that is in the journal, and applies it when it is the provider''s; false when it is not.';

CREATE FUNCTION submeter.watch_signatures(site_id int, merchant_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Probes of the provider are wrong on purpose and do not count.
	IF (SELECT count(*) FROM submeter.payment_event e
		WHERE e.site_id = watch_signatures.site_id AND e.merchant_id = watch_signatures.merchant_id
			AND e.received_at > watch_signatures.as_of - interval '10 minutes' AND e.source = 'notify' AND NOT e.verified AND e.outcome <> 'probe') >= 5
	THEN
		PERFORM submeter.raise_alarm(watch_signatures.site_id, 'payment_signature', NULL, NULL,
			format('merchant %s: messages that are not signed by the provider', watch_signatures.merchant_id), watch_signatures.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.watch_signatures(int, bigint, timestamptz) IS
'Raises an alarm when five notifications of a merchant within ten minutes were not the provider''s.';

CREATE FUNCTION submeter.hear_provider(provider text, headers jsonb, message bytea) RETURNS TABLE (status int, body text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	as_of timestamptz := clock_timestamp();
	path text[] := regexp_match(submeter.header_value(hear_provider.headers, ':path'), '/notify/([a-z]+)/([0-9]{1,18})$');
	target record;
	event bigint;
	taken boolean;
	problem text;
BEGIN
	SELECT m.site_id, m.merchant_id, m.provider INTO target FROM submeter.merchant m
	WHERE m.merchant_id = path[2]::bigint AND m.provider = path[1] AND m.provider = hear_provider.provider;
	IF NOT FOUND THEN
		RETURN QUERY SELECT 404, 'unknown address'::text;
		RETURN;
	END IF;
	PERFORM submeter.authorize('courier', target.site_id);
	IF hear_provider.message IS NULL OR octet_length(hear_provider.message) > 65536 THEN
		RETURN QUERY SELECT r.status, r.body FROM submeter.payment_reply(target.provider, false, 'too long', 413) r;
		RETURN;
	END IF;
	INSERT INTO submeter.payment_event AS e (site_id, merchant_id, source, headers, body)
	VALUES (target.site_id, target.merchant_id, 'notify', hear_provider.headers, hear_provider.message)
	RETURNING e.payment_event_id INTO event;
	BEGIN
		taken := submeter.take_notice(target.site_id, target.merchant_id, event, hear_provider.headers, hear_provider.message, as_of);
	EXCEPTION
		WHEN serialization_failure OR deadlock_detected THEN RAISE;
		WHEN OTHERS THEN
			-- It stays in the journal; the provider comes again, and asking it finds the money as well.
			problem := SQLSTATE || ': ' || SQLERRM;
			UPDATE submeter.payment_event e SET outcome = 'failed: ' || problem WHERE e.site_id = target.site_id AND e.payment_event_id = event;
	END;
	IF NOT taken THEN
		PERFORM submeter.ask_wechat_keys(target.site_id, target.merchant_id, coalesce(hear_provider.headers, '{}'), as_of);
		PERFORM submeter.watch_signatures(target.site_id, target.merchant_id, as_of);
	END IF;
	RETURN QUERY SELECT r.status, r.body FROM submeter.payment_reply(target.provider, coalesce(taken, false),
		CASE WHEN problem IS NULL THEN 'signature' ELSE 'try again' END, CASE WHEN problem IS NOT NULL THEN 500 END) r;
END
$$;
COMMENT ON FUNCTION submeter.hear_provider(text, jsonb, bytea) IS 'Body of payment_notify().';

CREATE FUNCTION submeter.payment_notify(provider text, headers jsonb, body bytea) RETURNS TABLE (status int, body text)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: asked for the site of the merchant by hear_provider().
	SELECT r.status, r.body FROM submeter.hear_provider(payment_notify.provider, payment_notify.headers, payment_notify.body) r
$$;
COMMENT ON FUNCTION submeter.payment_notify(text, jsonb, bytea) IS
'A provider''s notification as it came, with the HTTP headers and the path as ":path" (…/notify/{provider}/{merchant}); returns what to answer. It goes into the journal first, is verified, and credits once. Never fails because of what is in it.';

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

GRANT EXECUTE ON FUNCTION submeter.payment_notify(text, jsonb, bytea) TO submeter_courier;
