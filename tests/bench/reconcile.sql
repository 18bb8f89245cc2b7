-- A day of 100,000 payments and WeChat Pay's file of them: what reconcile() takes, and what it takes to read the same file once, join
-- what is here and insert equal bare rows. Nothing is lost: that is the usual day.
SET client_min_messages = warning;
SET jit = off;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 's', 'S');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'T');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, key_serial, notify_base, api_base) VALUES (1, 1, 'wechat', 'M', 'wx1', '1900000001', 'AB', 'https://x', 'https://x');
INSERT INTO submeter.payment_order (site_id, payment_order_id, account_id, provider, merchant_id, amount, idempotency_key, out_trade_no, state, paid_at)
SELECT 1, n, 1, 'wechat', 1, 10, 'k' || n, 's1_' || n || '_bench', 'paid', now() FROM generate_series(1, 100000) n;
INSERT INTO submeter.payment_receipt (site_id, merchant_id, provider_transaction, payment_order_id, account_id, out_trade_no, amount, kind, paid_at, transfer_id)
SELECT 1, 1, '4200001' || lpad(n::text, 21, '0'), n, 1, 's1_' || n || '_bench', 10, 'order', '2025-03-22 00:00+08'::timestamptz + n * interval '0.8 s', n FROM generate_series(1, 100000) n;
CREATE TABLE public.file AS
SELECT convert_to('交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注' || E'\r\n'
	|| string_agg(format('`%s,`wx1,`1900000001,`0,`,`4200001%s,`s1_%s_bench,`oABCDEFGHIJKLMNOPQRSTUVWXYZ,`NATIVE,`SUCCESS,`OTHERS,`CNY,`10.00,`0.00,`0,`0,`0.00,`0.00,`,`,`电费 A-101 房间,`,`0.06000,`0.60%%,`10.00,`0.00,`',
		to_char('2025-03-22 00:00'::timestamp + n * interval '0.8 s', 'YYYY-MM-DD HH24:MI:SS'), lpad(n::text, 21, '0'), n), E'\r\n' ORDER BY n)
	|| E'\r\n总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`100000,`1000000.00,`0.00,`0.00,`6000.00000,`1000000.00,`0.00\r\n', 'UTF8') AS file
FROM generate_series(1, 100000) n;
CREATE TABLE public.bare (site_id int, row_id bigint GENERATED ALWAYS AS IDENTITY, merchant_id bigint, day date, item text, file_id bigint, line int, kind text, provider_transaction text, out_trade_no text,
	amount numeric(14, 2), ours numeric(14, 2), fee numeric(14, 5), settled numeric(14, 2), happened_at timestamptz, subject text, payment_order_id bigint, payment_receipt_id bigint, result text, state text,
	PRIMARY KEY (site_id, row_id), UNIQUE (site_id, merchant_id, day, item));
CREATE INDEX ON public.bare (site_id, payment_receipt_id);
VACUUM ANALYZE;
CREATE FUNCTION pg_temp.seconds(statement text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
BEGIN
	EXECUTE statement;
	RETURN extract(epoch FROM clock_timestamp() - began);
END
$$;
CHECKPOINT;
SELECT 'bare ' || pg_temp.seconds($$
	INSERT INTO public.bare (site_id, merchant_id, day, item, file_id, line, kind, provider_transaction, out_trade_no, amount, ours, fee, settled, happened_at, subject, payment_order_id, payment_receipt_id, result, state)
	SELECT 1, 1, '2025-03-22', 'p:' || b.provider_transaction, 1, b.line, b.kind, b.provider_transaction, b.out_trade_no, b.amount, r.amount, b.fee, b.settled, b.happened_at, b.subject, o.payment_order_id, r.payment_receipt_id,
		CASE WHEN r.amount = b.amount THEN 'matched' ELSE 'other' END, 'done'
	FROM submeter.provider_bill('wechat', (SELECT file FROM public.file)) b
	LEFT JOIN submeter.payment_receipt r ON r.site_id = 1 AND r.merchant_id = 1 AND r.provider_transaction = b.provider_transaction
	LEFT JOIN submeter.payment_order o ON o.site_id = 1 AND o.out_trade_no = b.out_trade_no$$);
CHECKPOINT;
SELECT 'reconcile ' || pg_temp.seconds($$SELECT submeter.reconcile(1, 'wechat', '2025-03-22', (SELECT file FROM public.file))$$);
SELECT 'again ' || pg_temp.seconds($$SELECT submeter.reconcile(1, 'wechat', '2025-03-22', (SELECT file FROM public.file))$$);
SELECT 'read ' || pg_temp.seconds($$SELECT count(*) FROM submeter.provider_bill('wechat', (SELECT file FROM public.file))$$);
SELECT 'matched ' || count(*) FROM submeter.reconcile_row WHERE result = 'matched' AND state = 'done';
