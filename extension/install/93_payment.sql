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
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT left(CASE s.locale WHEN 'zh' THEN '电费 ' ELSE 'Electricity ' END || regexp_replace(a.code || ' ' || s.name, '[^[:alnum:] ._-]', ' ', 'g'), 60)
		FROM submeter.account a JOIN submeter.site s ON s.site_id = a.site_id
		WHERE a.site_id = payment_subject.site_id AND a.account_id = payment_subject.account_id);
END
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
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_object_agg(k.key_name, k.pem), '{}') FROM submeter.merchant_key k
		WHERE k.site_id = merchant_keys.site_id AND k.merchant_id = merchant_keys.merchant_id AND coalesce(k.valid_until > merchant_keys.as_of, true));
END
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
