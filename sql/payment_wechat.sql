-- Payments over WeChat Pay: requests as it wants them, signed and unsigned answers, sealed notifications, probes, keys that
-- change, and the same thing paid over two providers.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'went through';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(detail, ''));
END
$$;

-- Keys of both sides, made anew each time.
CREATE TABLE pg_temp.pem (line text, nr int GENERATED ALWAYS AS IDENTITY, name text);
COPY pg_temp.pem (line) FROM PROGRAM 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null';
UPDATE pg_temp.pem SET name = 'merchant' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null';
UPDATE pg_temp.pem SET name = 'wechat' WHERE name IS NULL;
CREATE FUNCTION pg_temp.pem(name text) RETURNS text LANGUAGE sql AS $$SELECT string_agg(line, E'\n' ORDER BY nr) FROM pg_temp.pem p WHERE p.name = $1$$;
CREATE FUNCTION pg_temp.public(private text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	lines text[];
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS line (line text, nr int GENERATED ALWAYS AS IDENTITY);
	TRUNCATE line;
	EXECUTE format('COPY line (line) FROM PROGRAM %L', format('printf %%s %L | openssl rsa -pubout 2>/dev/null', private));
	RETURN (SELECT string_agg(l.line, E'\n' ORDER BY l.nr) FROM line l);
END
$$;

INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'mall', 'A mall', 'en');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, key_serial, notify_base, api_base)
VALUES (1, 8, 'wechat', 'Mall', 'wx0000000000000001', '1900000001', '0A1B2C', 'https://pay.example.org', 'https://api.mch.example.org');
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) VALUES (1, 8, 'PUB_KEY_ID_01', pg_temp.public(pg_temp.pem('wechat')));
SELECT submeter.set_secret(1, 'merchant/8/private_key', pg_temp.pem('merchant')), submeter.set_secret(1, 'merchant/8/api_v3_key', '0123456789abcdef0123456789abcdef');

-- WeChat Pay's side.
CREATE FUNCTION pg_temp.headers(body bytea, serial text DEFAULT 'PUB_KEY_ID_01', at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_build_object('wechatpay-serial', serial, 'wechatpay-timestamp', t, 'wechatpay-nonce', 'n', ':path', '/notify/wechat/8',
		'wechatpay-signature', translate(encode(submeter.rsa_sha256_sign(convert_to(t || E'\nn\n', 'UTF8') || body || '\x0a', pg_temp.pem('wechat')), 'base64'), E'\n', ''))
	FROM (SELECT floor(extract(epoch FROM at))::bigint::text AS t) x
$$;
CREATE FUNCTION pg_temp.transaction(order_id bigint, changes jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql
AS $$
	SELECT jsonb_build_object('appid', 'wx0000000000000001', 'mchid', '1900000001', 'out_trade_no', o.out_trade_no, 'transaction_id', '4200' || o.payment_order_id,
		'trade_type', 'NATIVE', 'trade_state', 'SUCCESS', 'success_time', '2026-03-22T23:59:59+08:00', 'payer', '{"openid":"o1"}'::jsonb,
		'amount', jsonb_build_object('total', (o.amount * 100)::int, 'payer_total', (o.amount * 100)::int, 'currency', 'CNY')) || changes
	FROM submeter.payment_order o WHERE o.payment_order_id = order_id
$$;
-- Sealed as WeChat Pay does, with the program openssl has no command for: AES-GCM by Python's library.
CREATE FUNCTION pg_temp.seal(plain jsonb) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
	made text;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS line (line text, nr int GENERATED ALWAYS AS IDENTITY);
	TRUNCATE line;
	EXECUTE format('COPY line (line) FROM PROGRAM %L', format('/usr/bin/python3 -c %s %s', quote_literal('import sys,base64
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
print(base64.b64encode(AESGCM(b"0123456789abcdef0123456789abcdef").encrypt(b"abcdefghijkl", base64.b64decode(sys.argv[1]), b"transaction")).decode())'),
		translate(encode(convert_to(plain::text, 'UTF8'), 'base64'), E'\n', '')));
	SELECT l.line INTO made FROM line l;
	RETURN jsonb_build_object('algorithm', 'AEAD_AES_256_GCM', 'nonce', 'abcdefghijkl', 'associated_data', 'transaction', 'ciphertext', made);
END
$$;
CREATE FUNCTION pg_temp.message(event text, plain jsonb) RETURNS bytea
LANGUAGE sql AS $$SELECT convert_to(jsonb_build_object('id', 'EV-1', 'event_type', event, 'resource_type', 'encrypt-resource', 'resource', pg_temp.seal(plain))::text, 'UTF8')$$;
CREATE FUNCTION pg_temp.notify(body bytea, changes jsonb DEFAULT '{}', at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql AS $$SELECT concat_ws(' ', n.status, n.body) FROM submeter.payment_notify('wechat', pg_temp.headers(body, at => at) || changes, body) n$$;
CREATE TABLE pg_temp.sent AS SELECT site_id, outbound_id, ''::text AS method, ''::text AS url, '{}'::text[] AS headers, ''::bytea AS body FROM submeter.outbound;
CREATE FUNCTION pg_temp.carry() RETURNS text
LANGUAGE sql
AS $$
	UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued';
	WITH c AS (INSERT INTO pg_temp.sent SELECT x.site_id, x.outbound_id, x.method, x.url, x.headers, x.body FROM submeter.claim_outbound('c', 100) x RETURNING outbound_id)
	SELECT string_agg(o.kind || ' ' || coalesce(o.ref ->> 'payment_order_id', 'r' || (o.ref ->> 'payment_refund_id')), ', ' ORDER BY o.outbound_id) FROM c JOIN submeter.outbound o USING (outbound_id)
$$;
CREATE FUNCTION pg_temp.reply(what text, about text, content text, code int DEFAULT 200, changes jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.report_outbound(o.site_id, o.outbound_id, 'c', 'answered', code, pg_temp.headers(convert_to(content, 'UTF8')) || changes, convert_to(content, 'UTF8'), NULL)
	FROM submeter.outbound o WHERE o.kind = what AND o.dedupe_key = about AND o.state = 'claimed'
$$;
CREATE FUNCTION pg_temp.number(order_id bigint) RETURNS text LANGUAGE sql AS $$SELECT out_trade_no FROM submeter.payment_order WHERE payment_order_id = order_id$$;

-- 1. Arguments of the methods
SELECT pg_temp.refusal(format('SELECT submeter.create_payment(%s)', a)) AS refusal FROM unnest(ARRAY['1, 1, ''wechat'', 1, ''k'', ''wap''', '1, 1, ''wechat'', 1, ''k'', ''jsapi''', '1, 1, ''wechat'', 1, ''k'', ''jsapi'', ''{"openid":"a b"}''',
	'1, 1, ''wechat'', 1, ''k'', ''h5''', '1, 1, ''wechat'', 1, ''k'', NULL']) a;

-- 2. A code to scan: signed over method, path, time, nonce and body; a probe of our care and an unsigned answer say nothing.
SELECT (submeter.create_payment(1, 1, 'wechat', 12.34, 'k1')).payment_order_id;
SELECT pg_temp.carry();
CREATE FUNCTION pg_temp.signed(method text, url text, headers text[], body bytea) RETURNS boolean
LANGUAGE sql
AS $$
	SELECT submeter.rsa_sha256_verify(convert_to(concat_ws(E'\n', method, substring(url FROM '^https://[^/]+(.*)$'), substring(headers[1] FROM 'timestamp="(\d+)"'),
		substring(headers[1] FROM 'nonce_str="(\w+)"'), convert_from(body, 'UTF8'), ''), 'UTF8'), decode(substring(headers[1] FROM 'signature="([^"]+)"'), 'base64'), pg_temp.public(pg_temp.pem('merchant')))
$$;
SELECT method, url, regexp_replace(headers[1], '(nonce_str|timestamp|signature)="[^"]+"', '\1="…"', 'g') AS auth, headers[2:] AS headers, pg_temp.signed(method, url, headers, body),
	regexp_replace(convert_from(body, 'UTF8'), '(s1_1_)......|\d{4}-\d\d-\d\dT[0-9:]+', '\1…', 'g') AS body FROM pg_temp.sent;
SELECT pg_temp.reply('payment_create', '1', '{"code_url":"weixin://evil"}', changes => '{"wechatpay-signature":"WECHATPAY/SIGNTEST/xyz"}') AS probe, pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', '{"code_url":"weixin://evil"}', changes => '{"wechatpay-nonce":"m"}') AS unsigned, pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', '{"code":"SYSTEM_ERROR","message":"later"}', 500) AS system_error, pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', '{"code_url":"weixin://wxpay/bizpayurl?pr=1"}') AS created;
SELECT (i).state, (i).qr FROM (SELECT submeter.check_payment(1, 1) AS i) x;

-- 3. The notification: sealed, signed, believed once. Probes get what any bad signature gets, and are not counted.
SELECT pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1)), '{"wechatpay-signature":"WECHATPAY/SIGNTEST/xyz"}') AS probe FROM generate_series(1, 6);
SELECT pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1)), at => now() - interval '6 minutes') AS stale,
	pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1)), '{"wechatpay-serial":"other"}') AS other_key,
	pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1, '{"mchid":"1900000002"}'))) AS other_merchant;
SELECT rule FROM submeter.alarm WHERE site_id = 1;
SELECT pg_temp.notify(m) AS paid, pg_temp.notify(m) AS again FROM (SELECT pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1)) AS m OFFSET 0) x;
SELECT verified, outcome, count(*) FROM submeter.payment_event WHERE source = 'notify' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT amount, kind, paid_at, payer, provider_transaction FROM submeter.payment_receipt;
SELECT submeter.balance(1, 1);
-- Signed and sealed with another APIv3 key: it stays in the journal and comes again.
SELECT submeter.set_secret(1, 'merchant/8/api_v3_key', 'another_key_of_32_bytes_________');
SELECT pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(1)));
SELECT outcome FROM submeter.payment_event ORDER BY payment_event_id DESC LIMIT 1;
SELECT submeter.set_secret(1, 'merchant/8/api_v3_key', '0123456789abcdef0123456789abcdef');

-- 4. Inside WeChat and on the phone: parameters for the script, signed; a page.
SELECT (submeter.create_payment(1, 1, 'wechat', 5, 'k2', 'jsapi', '{"openid":"oAbc_-1"}')).payment_order_id AS jsapi, (submeter.create_payment(1, 1, 'wechat', 6, 'k3', 'h5', '{"client_ip":"203.0.113.9"}')).payment_order_id AS h5;
SELECT pg_temp.carry();
SELECT url, convert_from(body, 'UTF8')::jsonb -> 'payer' AS payer, convert_from(body, 'UTF8')::jsonb -> 'scene_info' AS scene FROM pg_temp.sent ORDER BY outbound_id DESC LIMIT 2;
SELECT pg_temp.reply('payment_create', '2', '{"prepay_id":"wx26"}'), pg_temp.reply('payment_create', '3', '{"h5_url":"https://wx.tenpay.com/x"}');
SELECT (i).url, (i).parameters - '{timeStamp,nonceStr,paySign}'::text[] AS parameters,
	submeter.rsa_sha256_verify(convert_to(concat_ws(E'\n', (i).parameters ->> 'appId', (i).parameters ->> 'timeStamp', (i).parameters ->> 'nonceStr', (i).parameters ->> 'package', ''), 'UTF8'),
		decode((i).parameters ->> 'paySign', 'base64'), pg_temp.public(pg_temp.pem('merchant'))) AS signed
FROM (SELECT submeter.check_payment(1, n) AS i FROM generate_series(2, 3) n) x;

-- 5. Polling alone: waiting, user paying, paid; what nobody pays is closed at WeChat Pay, which says so.
SELECT submeter.payment_duty(1, clock_timestamp() + interval '1 minute') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '2', (pg_temp.transaction(2) - '{transaction_id,amount}'::text[] || '{"trade_state":"USERPAYING"}')::text) AS paying, pg_temp.reply('payment_query', '3', '{"code":"ORDER_NOT_EXIST","message":"x"}', 404) AS none;
SELECT submeter.payment_duty(1, clock_timestamp() + interval '3 minutes') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '2', pg_temp.transaction(2)::text) AS paid;
UPDATE submeter.payment_order SET created_at = now() - interval '20 minutes', expires_at = now() - interval '5 minutes' WHERE payment_order_id = 3;
SELECT pg_temp.reply('payment_query', '3', (pg_temp.transaction(3) || '{"trade_state":"NOTPAY"}')::text) AS not_paid, pg_temp.carry();
SELECT method, convert_from(body, 'UTF8') AS body, url ~ '/v3/pay/transactions/out-trade-no/s1_3_[0-9a-f]{6}/close$' AS url, pg_temp.signed(method, url, headers, body) FROM pg_temp.sent ORDER BY outbound_id DESC LIMIT 1;
SELECT pg_temp.reply('payment_close', '3', '', 204) AS closed;
SELECT payment_order_id AS id, state, detail FROM submeter.payment_order ORDER BY 1;

-- 6. The same thing over two providers: when one is paid the other is closed; if it is paid too, that money is credited and proposed for refund.
CREATE TABLE pg_temp.other AS SELECT pg_temp.pem('merchant') AS pem;
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, api_base) VALUES (1, 9, 'alipay', 'Mall', '2021', '2088', 'https://ali.example.org');
SELECT submeter.set_secret(1, 'merchant/9/private_key', pem) FROM pg_temp.other;
SELECT (submeter.create_payment(1, 1, 'wechat', 50, 'bill-1')).payment_order_id AS wechat, (submeter.create_payment(1, 1, 'alipay', 50, 'bill-1')).payment_order_id AS alipay;
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 1, 'alipay', 51, 'bill-1')$$);
SELECT pg_temp.carry();
SELECT pg_temp.notify(pg_temp.message('TRANSACTION.SUCCESS', pg_temp.transaction(4))) AS paid;
SELECT payment_order_id AS id, provider, state, expires_at <= clock_timestamp() AS expired, detail FROM submeter.payment_order WHERE idempotency_key = 'bill-1' ORDER BY 1;
SELECT pg_temp.carry();
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 1, 'alipay', 50, 'bill-1')$$) AS the_order;
SELECT submeter.apply_payment(1, 9, 5, 'query', ROW(true, 'paid', pg_temp.number(5), 'ali-1', 50, 50, now(), NULL, NULL, NULL, NULL, NULL, NULL, NULL)::submeter.payment_news, now());
SELECT payment_order_id AS id, amount, kind FROM submeter.payment_receipt ORDER BY payment_receipt_id;
SELECT amount, detail ->> 'why' AS why FROM submeter.proposal;

-- 7. Refunds: under way, abnormal, done by notification.
SELECT submeter.refund(1, 1, 12.34, 'wrong room', 'r1', 'wechat') > 0 AS booked;
SELECT pg_temp.carry();
SELECT url, regexp_replace(convert_from(body, 'UTF8'), '(s1_r1_)......', '\1…') AS body FROM pg_temp.sent ORDER BY outbound_id DESC LIMIT 1;
SELECT pg_temp.reply('payment_refund', '1', jsonb_build_object('out_refund_no', (SELECT out_request_no FROM submeter.payment_refund), 'status', 'PROCESSING')::text) AS processing;
SELECT state FROM submeter.payment_refund;
SELECT pg_temp.notify(pg_temp.message('REFUND.ABNORMAL', jsonb_build_object('mchid', '1900000001', 'out_trade_no', pg_temp.number(4), 'out_refund_no', (SELECT out_request_no FROM submeter.payment_refund), 'refund_status', 'ABNORMAL'))) AS abnormal;
SELECT state, finished_at IS NULL AS open FROM submeter.payment_refund;
SELECT pg_temp.notify(pg_temp.message('REFUND.SUCCESS', jsonb_build_object('mchid', '1900000001', 'out_trade_no', pg_temp.number(4), 'out_refund_no', (SELECT out_request_no FROM submeter.payment_refund), 'refund_status', 'SUCCESS'))) AS success;
SELECT state, finished_at IS NULL AS open FROM submeter.payment_refund;
SELECT rule FROM submeter.alarm WHERE site_id = 1 ORDER BY 1;

-- 8. A second key beside the first, then the first withdrawn.
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) VALUES (1, 8, '7132D72A', pg_temp.public(pg_temp.pem('wechat')));
SELECT (submeter.create_payment(1, 1, 'wechat', 1, 'k8')).payment_order_id;
SELECT pg_temp.carry();
UPDATE submeter.merchant_key SET valid_until = now() - interval '1 s' WHERE key_name = 'PUB_KEY_ID_01';
SELECT pg_temp.reply('payment_create', '6', '{"code_url":"weixin://old"}') AS withdrawn, pg_temp.carry();
SELECT pg_temp.reply('payment_create', '6', '{"code_url":"weixin://new"}', changes => '{"wechatpay-serial":"7132D72A"}') AS in_force;
SELECT qr FROM submeter.payment_order WHERE payment_order_id = 6;
SELECT * FROM submeter.verify_ledger(1);

-- 9. One that takes no new orders still hears of older ones: a key it does not know is fetched; by itself it asks for none.
UPDATE submeter.merchant SET enabled = false, keys_asked_at = NULL WHERE merchant_id = 8;
DELETE FROM submeter.outbound WHERE kind = 'wechat_keys';
SELECT submeter.ask_wechat_keys(1, 8, NULL, now());
SELECT count(*) FROM submeter.outbound WHERE kind = 'wechat_keys';
SELECT submeter.ask_wechat_keys(1, 8, '{"Wechatpay-Serial":"7132D72B"}', now());
SELECT count(*) FROM submeter.outbound WHERE kind = 'wechat_keys';
