-- 4,000 open orders of 200 accounts and the signed notification of each; what is measured runs in pgbench.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 's', 'S');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 't' || n, 'T' FROM generate_series(1, 200) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, n, 'a' || n FROM generate_series(1, 200) n;
CREATE TABLE public.pem (line text, nr int GENERATED ALWAYS AS IDENTITY, name text);
COPY public.pem (line) FROM PROGRAM 'umask 077; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null | tee /tmp/submeter_bench.$PPID.pem';
UPDATE public.pem SET name = 'private';
COPY public.pem (line) FROM PROGRAM 'openssl rsa -in /tmp/submeter_bench.$PPID.pem -pubout 2>/dev/null; rm -f /tmp/submeter_bench.$PPID.pem';
UPDATE public.pem SET name = 'public' WHERE name IS NULL;
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, api_base) VALUES (1, 1, 'alipay', 'M', '2021', '2088', 'https://x');
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) SELECT 1, 1, 'public', string_agg(line, E'\n' ORDER BY nr) FROM public.pem WHERE name = 'public';
INSERT INTO submeter.payment_order (site_id, payment_order_id, account_id, provider, merchant_id, amount, idempotency_key, out_trade_no)
SELECT 1, n, n % 200 + 1, 'alipay', 1, 10, 'k' || n, 's1_' || n || '_bench' FROM generate_series(1, 4000) n;
CREATE TABLE public.message AS
SELECT m.n, '{":path":"/notify/alipay/1"}'::jsonb AS headers, convert_to(m.form || '&sign_type=RSA2&sign=' || submeter.url_encode(translate(encode(submeter.rsa_sha256_sign(convert_to(m.signed, 'UTF8'), k.pem), 'base64'), E'\n', '')), 'UTF8') AS body
FROM (SELECT string_agg(line, E'\n' ORDER BY nr) AS pem FROM public.pem WHERE name = 'private') k,
	LATERAL (SELECT n, string_agg(f.key || '=' || submeter.url_encode(f.value), '&' ORDER BY f.key) AS form, string_agg(f.key || '=' || f.value, '&' ORDER BY f.key COLLATE "C") AS signed
		FROM generate_series(1, 4000) n, LATERAL (VALUES ('app_id', '2021'), ('charset', 'utf-8'), ('buyer_logon_id', '138****0000'), ('gmt_create', '2026-03-22 12:00:00'), ('gmt_payment', '2026-03-22 12:00:05'),
			('notify_id', 'ac05099524730693a8b330c45cf72da9' || n), ('notify_type', 'trade_status_sync'), ('out_trade_no', 's1_' || n || '_bench'), ('receipt_amount', '10.00'), ('seller_id', '2088'),
			('subject', '电费 A-101'), ('total_amount', '10.00'), ('trade_no', '2026032222001' || n), ('trade_status', 'TRADE_SUCCESS')) f(key, value)
		GROUP BY n) m;
ALTER TABLE public.message ADD PRIMARY KEY (n);
CREATE SEQUENCE public.next_message;
CREATE SEQUENCE public.next_recharge;
-- Not those that are empty yet: they would be planned for as if they stayed so.
VACUUM ANALYZE submeter.tenant, submeter.account, submeter.ledger_account, submeter.account_state, submeter.merchant, submeter.merchant_key, submeter.payment_order, public.message;
