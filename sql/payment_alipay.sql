-- Payments over Alipay: requests as Alipay wants them, answers and notifications through one idempotent function, and
-- money that comes late, twice, over two channels, for a closed account, with another amount or for nobody.
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
UPDATE pg_temp.pem SET name = 'alipay' WHERE name IS NULL;
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

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Other');
UPDATE submeter.credit_policy SET max_balance = 1000;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One'), (1, 2, 't2', 'Two');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101'), (1, 2, 2, 'A-102');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, notify_base, api_base)
VALUES (1, 7, 'alipay', 'Mall', '2021000000000001', '2088000000000001', 'https://pay.example.org/x', 'https://sandbox.example.org');
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) VALUES (1, 7, 'public', pg_temp.public(pg_temp.pem('alipay')));
SELECT channel, works FROM submeter.payment_channel WHERE site_id = 1 ORDER BY 1;
SELECT pg_temp.refusal($$INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) VALUES (1, 7, 'bad', 'no key')$$);

-- Alipay's side: what it answers and sends, signed by its key.
CREATE FUNCTION pg_temp.sign(message text) RETURNS text LANGUAGE sql AS $$SELECT translate(encode(submeter.rsa_sha256_sign(convert_to(message, 'UTF8'), pg_temp.pem('alipay')), 'base64'), E'\n', '')$$;
CREATE FUNCTION pg_temp.answer(node text, content jsonb) RETURNS bytea
LANGUAGE sql AS $$SELECT convert_to(format('{"%s":%s,"sign":"%s"}', node, content, pg_temp.sign(content::text)), 'UTF8')$$;
CREATE FUNCTION pg_temp.form(fields jsonb) RETURNS bytea
LANGUAGE sql
AS $$
	SELECT convert_to(submeter.alipay_query_string(fields || jsonb_build_object('sign_type', 'RSA2', 'sign',
		pg_temp.sign((SELECT string_agg(f.key || '=' || f.value, '&' ORDER BY f.key COLLATE "C") FROM jsonb_each_text(fields) f)))), 'UTF8')
$$;
CREATE FUNCTION pg_temp.notify(order_id bigint, changes jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql
AS $$
	SELECT concat_ws(' ', n.status, n.body) FROM submeter.payment_notify('alipay', '{":path":"/x/notify/alipay/7","content-type":"application/x-www-form-urlencoded"}', pg_temp.form(
		(SELECT jsonb_build_object('app_id', '2021000000000001', 'seller_id', '2088000000000001', 'notify_id', 'n1', 'charset', 'utf-8', 'subject', '电费+充值 100%',
			'out_trade_no', o.out_trade_no, 'trade_no', '20260322' || o.payment_order_id, 'total_amount', o.amount, 'receipt_amount', o.amount, 'trade_status', 'TRADE_SUCCESS',
			'gmt_payment', '2026-03-22 23:59:59', 'buyer_logon_id', '138****0000')
		FROM submeter.payment_order o WHERE o.site_id = 1 AND o.payment_order_id = order_id) || changes)) n
$$;
-- The courier's side: what it has to send, and handing in an answer.
CREATE TABLE pg_temp.sent AS SELECT site_id, outbound_id, ''::text AS kind, ''::text AS method, ''::text AS url, '{}'::text[] AS headers, ''::bytea AS body FROM submeter.outbound;
CREATE FUNCTION pg_temp.carry() RETURNS text
LANGUAGE sql
AS $$
	WITH c AS (INSERT INTO pg_temp.sent SELECT x.site_id, x.outbound_id, '', x.method, x.url, x.headers, x.body FROM submeter.claim_outbound('c', 100) x RETURNING outbound_id)
	SELECT string_agg(o.kind || ' ' || coalesce(o.ref ->> 'payment_order_id', 'r' || (o.ref ->> 'payment_refund_id')), ', ' ORDER BY o.outbound_id) FROM c JOIN submeter.outbound o USING (outbound_id)
$$;
CREATE FUNCTION pg_temp.reply(what text, about text, body bytea, code int DEFAULT 200, outcome text DEFAULT 'answered') RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.report_outbound(o.site_id, o.outbound_id, 'c', outcome, CASE outcome WHEN 'answered' THEN code END, '{"content-type":"text/html"}', body, NULL)
	FROM submeter.outbound o WHERE o.kind = what AND o.dedupe_key = about AND o.state = 'claimed'
$$;
CREATE FUNCTION pg_temp.trade(order_id bigint, status text, changes jsonb DEFAULT '{}') RETURNS bytea
LANGUAGE sql
AS $$
	SELECT pg_temp.answer('alipay_trade_query_response', jsonb_build_object('code', '10000', 'msg', 'Success', 'out_trade_no', o.out_trade_no, 'trade_no', '20260322' || o.payment_order_id,
		'total_amount', o.amount, 'trade_status', status, 'send_pay_date', '2026-03-22 23:59:59') || changes)
	FROM submeter.payment_order o WHERE o.payment_order_id = order_id
$$;
CREATE FUNCTION pg_temp.missing(node text) RETURNS bytea LANGUAGE sql AS $$SELECT pg_temp.answer(node, '{"code":"40004","msg":"Business Failed","sub_code":"ACQ.TRADE_NOT_EXIST"}')$$;
CREATE FUNCTION pg_temp.later(period interval) RETURNS bigint
LANGUAGE sql AS $$UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued'; SELECT submeter.payment_duty(1, clock_timestamp() + period)$$;
CREATE VIEW pg_temp.orders AS
SELECT o.payment_order_id AS id, o.account_id AS acct, o.provider, o.amount, o.state, o.qr, o.url IS NOT NULL AS url, o.next_check_at IS NOT NULL AS watched, o.detail,
	(SELECT string_agg(r.kind || ' ' || r.amount, ', ' ORDER BY r.payment_receipt_id) FROM submeter.payment_receipt r WHERE r.payment_order_id = o.payment_order_id) AS receipts
FROM submeter.payment_order o ORDER BY 1;
CREATE VIEW pg_temp.books AS
SELECT l.code, CASE WHEN l.account_id IS NULL THEN (SELECT sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END) FROM submeter.transfer t WHERE l.ledger_account_id IN (t.debit_id, t.credit_id)) ELSE l.total END AS total
FROM submeter.ledger_account l WHERE l.site_id = 1 AND (l.kind IN ('clearing', 'suspense') OR l.total <> 0) ORDER BY 1;

-- 1. Arguments
SELECT pg_temp.refusal(format('SELECT submeter.create_payment(%s)', a)) AS refusal FROM unnest(ARRAY['1, 1, ''alipay'', 0, ''k''', '1, 1, ''alipay'', 1.001, ''k''', '1, 1, ''alipay'', ''NaN'', ''k''',
	'1, 9, ''alipay'', 1, ''k''', '1, 1, ''wechat'', 1, ''k''', '1, 1, ''nobody'', 1, ''k''', '1, 1, ''alipay'', 1, ''''', '1, 1, ''alipay'', 1, ''payment:x''', '1, 1, ''alipay'', 1, ''k'', ''jsapi''',
	'1, 1, ''alipay'', 1000.01, ''k''', '2, 1, ''alipay'', 1, ''k''']) a;
SELECT count(*) AS orders FROM submeter.payment_order;

-- 2. A code to scan: the request is signed at claim time by the merchant's key (which is missing at first), the answer carries the code.
SELECT (i).payment_order_id AS id, (i).state, (i).qr, (i).out_trade_no ~ '^s1_1_[0-9a-f]{6}$' AS numbered FROM (SELECT submeter.create_payment(1, 1, 'alipay', 100, 'k1') AS i) x;
SELECT (i).payment_order_id AS the_same FROM (SELECT submeter.create_payment(1, 1, 'alipay', 100, 'k1') AS i) x;
SELECT pg_temp.refusal(format('SELECT submeter.create_payment(%s)', a)) AS refusal FROM unnest(ARRAY['1, 1, ''alipay'', 101, ''k1''', '1, 2, ''alipay'', 100, ''k1''', '1, 1, ''alipay'', 100, ''k1'', ''wap''']) a;
SELECT pg_temp.carry();
SELECT state, attempts, detail FROM submeter.outbound;
SELECT submeter.set_secret(1, 'merchant/7/private_key', pg_temp.pem('merchant'));
UPDATE submeter.outbound SET not_before = now();
SELECT pg_temp.carry();
CREATE FUNCTION pg_temp.parameters(url text, body bytea) RETURNS jsonb
LANGUAGE sql AS $$SELECT submeter.alipay_fields(convert_to(substring(url FROM '\?(.*)$') || CASE WHEN body = '' THEN '' ELSE '&' || convert_from(body, 'UTF8') END, 'UTF8'))$$;
SELECT method, split_part(url, '?', 1) AS url, headers, pg_temp.parameters(url, body) - '{sign,timestamp,biz_content}'::text[] AS parameters,
	regexp_replace(pg_temp.parameters(url, body) ->> 'biz_content', '(s1_1_)......|2[-0-9]{9} [0-9:]{8}', '\1…', 'g') AS biz_content,
	submeter.rsa_sha256_verify(convert_to(submeter.alipay_sign_text(pg_temp.parameters(url, body)), 'UTF8'), decode(pg_temp.parameters(url, body) ->> 'sign', 'base64'), pg_temp.public(pg_temp.pem('merchant'))) AS signed,
	abs(extract(epoch FROM (pg_temp.parameters(url, body) ->> 'timestamp')::timestamp AT TIME ZONE 'Asia/Shanghai' - now())) < 300 AS in_china
FROM pg_temp.sent;
-- An answer nobody signed, one of another order, and what Alipay's edge says in its own character set, say nothing; the same request goes out again.
SELECT pg_temp.reply('payment_create', '1', '{"alipay_trade_precreate_response":{"code":"10000","out_trade_no":"x","qr_code":"https://evil"}}');
SELECT pg_temp.later('0'), pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', pg_temp.answer('alipay_trade_precreate_response', '{"code":"10000","out_trade_no":"s1_9_000000","qr_code":"https://other"}'));
SELECT pg_temp.later('0'), pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', convert_to('{"error_response":{"code":"20000","msg":"未知错误","sub_code":"aop.unknow-error"}}', 'GBK'));
SELECT pg_temp.later('0'), pg_temp.carry();
SELECT source, verified, outcome FROM submeter.payment_event ORDER BY payment_event_id;
SELECT pg_temp.reply('payment_create', '1', pg_temp.answer('alipay_trade_precreate_response', jsonb_build_object('code', '10000', 'msg', 'Success', 'out_trade_no', (SELECT out_trade_no FROM submeter.payment_order), 'qr_code', 'https://qr.alipay.com/bax01')));
TABLE pg_temp.orders;

-- 3. Asked before it was scanned, while it is open: there is no such trade, and that means nothing. Then it is paid.
SELECT pg_temp.later('1 minute') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '1', pg_temp.missing('alipay_trade_query_response'));
SELECT pg_temp.later('2 minutes') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '1', pg_temp.trade(1, 'WAIT_BUYER_PAY'));
SELECT id, state, watched FROM pg_temp.orders;
SELECT pg_temp.notify(1) AS paid, pg_temp.notify(1) AS again, pg_temp.notify(1, '{"trade_status":"TRADE_FINISHED","notify_id":"n2"}') AS finished;
SELECT pg_temp.later('3 minutes') AS asked, pg_temp.carry();
TABLE pg_temp.orders;
TABLE pg_temp.books;
SELECT amount, settled, kind, paid_at, payer, provider_transaction FROM submeter.payment_receipt;
SELECT kind, amount, method, idempotency_key, note = (SELECT out_trade_no FROM submeter.payment_order) AS note FROM submeter.transfer ORDER BY transfer_id;
-- A partial refund sends TRADE_SUCCESS once more, a full one TRADE_CLOSED: neither credits nor takes anything.
SELECT pg_temp.notify(1, '{"refund_fee":"10.00","gmt_refund":"2026-03-23 10:00:00","out_biz_no":"at_the_provider"}') AS partial, pg_temp.notify(1, '{"trade_status":"TRADE_CLOSED","refund_fee":"100.00"}') AS full;
SELECT count(*) AS movements FROM submeter.transfer;
SELECT rule, detail ~ 'refund at_the_provider of s1_1_' AS detail FROM submeter.alarm WHERE site_id = 1;

-- 4. Notifications that are not for us, or not Alipay's.
SELECT (n).* FROM (SELECT submeter.payment_notify('alipay', h, 'a=b') AS n FROM unnest(ARRAY['{}', '{":path":"/notify/alipay/8"}', '{":path":"/notify/wechat/7"}', '{":path":"/notify/alipay/7?x=1"}',
	'{":path":"/notify/alipay/7"}', '[]', '{":path":"/notify/alipay/99999999999999999999"}']::jsonb[]) h) x;
SELECT (n).* FROM (SELECT submeter.payment_notify('alipay', '{":path":"/notify/alipay/7"}', b) AS n FROM unnest(ARRAY['', '\x00ff', repeat('a', 70000)::bytea, NULL]::bytea[]) b) x;
SELECT pg_temp.notify(1, '{"app_id":"2021000000000002"}') AS other_app, pg_temp.notify(1, '{"seller_id":"2088"}') AS other_seller, pg_temp.notify(1, '{"total_amount":"abc"}') AS nonsense;
SELECT verified, outcome, count(*) FROM submeter.payment_event WHERE source = 'notify' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT rule, count(*) FROM submeter.alarm WHERE site_id = 1 GROUP BY 1 ORDER BY 1;

-- 5. An order nobody pays: asked when it expires, closed at the provider, and watched for two hours more.
SELECT (submeter.create_payment(1, 1, 'alipay', 20, 'k2')).payment_order_id;
SELECT pg_temp.carry();
SELECT pg_temp.reply('payment_create', '2', NULL, NULL, 'no_answer');
SELECT pg_temp.later('0'), pg_temp.carry();
SELECT pg_temp.reply('payment_create', '2', pg_temp.answer('alipay_trade_precreate_response', jsonb_build_object('code', '10000', 'out_trade_no', (SELECT out_trade_no FROM submeter.payment_order WHERE payment_order_id = 2), 'qr_code', 'https://qr.alipay.com/2')));
UPDATE submeter.payment_order SET created_at = now() - interval '20 minutes', expires_at = now() - interval '5 minutes', check_until = now() + interval '2 hours' WHERE payment_order_id = 2;
SELECT pg_temp.later('1 minute') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '2', pg_temp.trade(2, 'WAIT_BUYER_PAY'));
SELECT pg_temp.carry();
SELECT pg_temp.reply('payment_close', '2', pg_temp.missing('alipay_trade_close_response'));
SELECT id, state, watched, detail FROM pg_temp.orders WHERE id = 2;
-- Late money is credited and proposed for refund.
SELECT pg_temp.later('11 minutes') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_query', '2', pg_temp.trade(2, 'TRADE_SUCCESS'));
SELECT id, state, watched, receipts FROM pg_temp.orders WHERE id = 2;
SELECT account_id, kind, amount, source, detail ->> 'why' AS why, state FROM submeter.proposal ORDER BY proposal_id;

-- 6. Twice, with another amount, for an order of nobody, and for an account that was closed meanwhile.
SELECT pg_temp.notify(1, '{"trade_no":"another"}') AS twice;
SELECT (submeter.create_payment(1, 1, 'alipay', 30, 'k3')).payment_order_id, (submeter.create_payment(1, 2, 'alipay', 40, 'k4')).payment_order_id;
SELECT pg_temp.notify(3, '{"total_amount":"29.99"}') AS less;
UPDATE submeter.account SET state = 'closed', closed_at = now() WHERE account_id = 2;
SELECT pg_temp.notify(4) AS closed_account;
SELECT pg_temp.notify(1, '{"out_trade_no":"s1_77_abcdef","trade_no":"nobody","total_amount":"5.00"}') AS nobody, pg_temp.notify(1, '{"out_trade_no":"s1_77_abcdef","trade_no":"nobody","total_amount":"5.00"}') AS again;
SELECT payment_order_id AS id, account_id AS acct, amount, kind FROM submeter.payment_receipt ORDER BY payment_receipt_id;
SELECT account_id, amount, detail ->> 'why' AS why FROM submeter.proposal ORDER BY proposal_id;
TABLE pg_temp.books;

-- 7. Money back: a refund over the method it came by goes to the provider, once whatever happens.
SELECT submeter.refund(1, 1, 130, 'moved out', 'r1') > 0 AS booked, submeter.refund(1, 1, 130, 'moved out', 'r1') > 0 AS again;
SELECT payment_refund_id AS id, payment_receipt_id AS receipt, amount, state FROM submeter.payment_refund ORDER BY 1;
SELECT pg_temp.carry();
SELECT pg_temp.parameters(url, body) ->> 'method' AS method, regexp_replace(pg_temp.parameters(url, body) ->> 'biz_content', '(s1_r._)......', '\1…') AS biz_content
FROM pg_temp.sent WHERE outbound_id IN (SELECT outbound_id FROM submeter.outbound WHERE kind = 'payment_refund') ORDER BY outbound_id;
SELECT pg_temp.reply('payment_refund', '1', pg_temp.answer('alipay_trade_refund_response', '{"code":"10000","fund_change":"Y"}')) AS done,
	pg_temp.reply('payment_refund', '2', pg_temp.answer('alipay_trade_refund_response', '{"code":"20000","sub_code":"aop.ACQ.SYSTEM_ERROR"}')) AS unknown;
SELECT pg_temp.later('0') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_refund', '2', pg_temp.answer('alipay_trade_refund_response', '{"code":"10000","fund_change":"N"}')) AS under_way;
SELECT payment_refund_id AS id, state, next_check_at IS NOT NULL AS watched FROM submeter.payment_refund ORDER BY 1;
SELECT pg_temp.later('2 minutes') AS asked, pg_temp.carry();
SELECT pg_temp.reply('payment_refund_query', '2', pg_temp.answer('alipay_trade_fastpay_refund_query_response', '{"code":"10000","refund_status":"REFUND_SUCCESS"}')) AS done;
SELECT submeter.refund(1, 1, 5, 'x', 'r2') > 0 AS booked;
SELECT pg_temp.carry();
SELECT total AS before FROM submeter.ledger_account WHERE site_id = 1 AND account_id = 1 AND kind = 'tenant';
SELECT pg_temp.reply('payment_refund', '3', pg_temp.answer('alipay_trade_refund_response', '{"code":"40004","sub_code":"ACQ.REASON_TRADE_REFUND_FEE_ERR"}')) AS failed;
SELECT payment_refund_id AS id, amount, state, reversal_id IS NOT NULL AS back FROM submeter.payment_refund ORDER BY 1;
SELECT total AS after FROM submeter.ledger_account WHERE site_id = 1 AND account_id = 1 AND kind = 'tenant';
SELECT pg_temp.refusal($$SELECT submeter.refund(1, 1, 1000, 'x', 'r3')$$);

-- 8. A page on the phone is an address of ours, signed; nothing is asked of Alipay before.
SELECT split_part((i).url, '?', 1) AS url, pg_temp.parameters((i).url, '') ->> 'method' AS method, pg_temp.parameters((i).url, '') ->> 'notify_url' AS notify_url,
	submeter.rsa_sha256_verify(convert_to(submeter.alipay_sign_text(pg_temp.parameters((i).url, '')), 'UTF8'), decode(pg_temp.parameters((i).url, '') ->> 'sign', 'base64'), pg_temp.public(pg_temp.pem('merchant'))) AS signed
FROM (SELECT submeter.create_payment(1, 1, 'alipay', 12.5, 'k5', 'wap') AS i) x;
SELECT count(*) AS waiting FROM submeter.outbound WHERE state = 'queued';
-- Cancelled by the payer: closed at the provider; money that came all the same is late.
SELECT (submeter.cancel_payment(1, 5)).state, pg_temp.carry();
SELECT pg_temp.reply('payment_close', '5', pg_temp.missing('alipay_trade_close_response'));
SELECT state, detail, watched FROM pg_temp.orders WHERE id = 5;
SELECT pg_temp.refusal('SELECT submeter.check_payment(1, 99)') AS unknown;

-- A code to scan: 29 modules for this text, four of white around; its three corners.
SELECT left(submeter.qr_svg('https://qr.alipay.com/bax01'), 140) AS begins, submeter.qr_svg('https://qr.alipay.com/bax01') ~ 'M4 4h7v1h-7z.*M26 4h7v1h-7z.*M4 26h7v1h-7z.*"/></svg>$' AS corners,
	length(submeter.qr_svg(repeat('x', 1024))) > 20000 AS longest;
SELECT pg_temp.refusal($$SELECT submeter.qr_svg('')$$) AS nothing, pg_temp.refusal($$SELECT submeter.qr_svg(repeat('x', 1025))$$) AS too_long;

SELECT * FROM submeter.verify_ledger(1);
