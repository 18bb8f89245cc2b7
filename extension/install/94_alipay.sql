-- Room: payment, the part that speaks Alipay's OpenAPI (gateway.do, RSA2): how its requests are made and signed and what its
-- answers and notifications say. Wall clocks of Alipay are China's whatever the site's are.

CREATE FUNCTION submeter.alipay_time(at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT to_char(alipay_time.at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI:SS')
$$;
COMMENT ON FUNCTION submeter.alipay_time(timestamptz) IS 'A time as Alipay writes it.';

CREATE FUNCTION submeter.alipay_instant(text text) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN alipay_instant.text ~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d' THEN left(alipay_instant.text, 19)::timestamp AT TIME ZONE 'Asia/Shanghai' END
$$;
COMMENT ON FUNCTION submeter.alipay_instant(text) IS 'The instant of a time as Alipay writes it; NULL for anything else.';

CREATE FUNCTION submeter.alipay_sign_text(parameters jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(p.key || '=' || p.value, '&' ORDER BY p.key COLLATE "C")
	FROM jsonb_each_text(alipay_sign_text.parameters) p
	WHERE p.key <> 'sign' AND p.value <> ''
$$;
COMMENT ON FUNCTION submeter.alipay_sign_text(jsonb) IS
'The text Alipay wants signed of a request: all parameters but sign, without empty ones, in the order of their names'' bytes.';

CREATE FUNCTION submeter.alipay_query_string(parameters jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(p.key || '=' || submeter.url_encode(p.value), '&' ORDER BY p.key COLLATE "C")
	FROM jsonb_each_text(alipay_query_string.parameters) p
	WHERE p.value <> ''
$$;
COMMENT ON FUNCTION submeter.alipay_query_string(jsonb) IS 'Parameters as they stand in an address.';

CREATE FUNCTION submeter.alipay_parameters(merchant jsonb, method text, biz_content jsonb, as_of timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parameters jsonb := jsonb_strip_nulls(jsonb_build_object(
		'app_id', alipay_parameters.merchant ->> 'app', 'method', alipay_parameters.method, 'format', 'JSON', 'charset', 'utf-8',
		'sign_type', 'RSA2', 'timestamp', submeter.alipay_time(alipay_parameters.as_of), 'version', '1.0', 'biz_content', alipay_parameters.biz_content::text,
		'notify_url', CASE WHEN alipay_parameters.method ~ '(precreate|pay)$'
			THEN (alipay_parameters.merchant ->> 'notify_base') || '/notify/alipay/' || (alipay_parameters.merchant ->> 'merchant_id') END));
BEGIN
	IF alipay_parameters.merchant ->> 'mode' = 'certificate' THEN
		parameters := parameters || jsonb_build_object('app_cert_sn', submeter.alipay_cert_sn(alipay_parameters.merchant ->> 'app_cert'),
			'alipay_root_cert_sn', submeter.alipay_root_cert_sn(alipay_parameters.merchant ->> 'root_cert'));
	END IF;
	RETURN parameters || jsonb_build_object('sign', translate(encode(submeter.rsa_sha256_sign(convert_to(submeter.alipay_sign_text(parameters), 'UTF8'),
		submeter.secret_text((alipay_parameters.merchant ->> 'site_id')::int, format('merchant/%s/private_key', alipay_parameters.merchant ->> 'merchant_id'))), 'base64'), E'\n', ''));
END
$$;
COMMENT ON FUNCTION submeter.alipay_parameters(jsonb, text, jsonb, timestamptz) IS
'All parameters of a request to Alipay, signed with the merchant''s key. 55000 when the key is not set.';

CREATE FUNCTION submeter.alipay_order(payment_order jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('out_trade_no', alipay_order.payment_order ->> 'out_trade_no',
		'total_amount', to_char((alipay_order.payment_order ->> 'total')::numeric, 'FM999999999990.00'), 'subject', alipay_order.payment_order ->> 'subject',
		'time_expire', submeter.alipay_time((alipay_order.payment_order ->> 'expires_at')::timestamptz))
$$;
COMMENT ON FUNCTION submeter.alipay_order(jsonb) IS 'An order as Alipay wants it.';

CREATE FUNCTION submeter.alipay_page(merchant jsonb, payment_order jsonb, as_of timestamptz) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (alipay_page.merchant ->> 'api_base') || '/gateway.do?' || submeter.alipay_query_string(submeter.alipay_parameters(alipay_page.merchant, 'alipay.trade.wap.pay',
		submeter.alipay_order(alipay_page.payment_order) || '{"product_code":"QUICK_WAP_WAY"}', alipay_page.as_of))
$$;
COMMENT ON FUNCTION submeter.alipay_page(jsonb, jsonb, timestamptz) IS 'The page on which a phone pays: nothing is asked of Alipay beforehand, the signed address is all.';

CREATE FUNCTION submeter.alipay_method(kind text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE alipay_method.kind WHEN 'payment_create' THEN 'alipay.trade.precreate' WHEN 'payment_query' THEN 'alipay.trade.query'
		WHEN 'payment_close' THEN 'alipay.trade.close' WHEN 'payment_refund' THEN 'alipay.trade.refund'
		WHEN 'payment_refund_query' THEN 'alipay.trade.fastpay.refund.query' END
$$;
COMMENT ON FUNCTION submeter.alipay_method(text) IS 'Alipay''s name for a kind of request.';

CREATE FUNCTION submeter.alipay_request(kind text, merchant jsonb, payment_order jsonb, refund jsonb, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parameters jsonb;
	biz_content jsonb := CASE alipay_request.kind
		WHEN 'payment_create' THEN submeter.alipay_order(alipay_request.payment_order)
		WHEN 'payment_refund' THEN jsonb_build_object('trade_no', alipay_request.refund ->> 'transaction', 'out_request_no', alipay_request.refund ->> 'out_request_no',
			'refund_amount', to_char((alipay_request.refund ->> 'amount')::numeric, 'FM999999999990.00'), 'refund_reason', left(alipay_request.refund ->> 'reason', 80))
		WHEN 'payment_refund_query' THEN jsonb_build_object('trade_no', alipay_request.refund ->> 'transaction', 'out_request_no', alipay_request.refund ->> 'out_request_no')
		ELSE jsonb_build_object('out_trade_no', alipay_request.payment_order ->> 'out_trade_no') END;
BEGIN
	parameters := submeter.alipay_parameters(alipay_request.merchant, submeter.alipay_method(alipay_request.kind), biz_content, alipay_request.as_of);
	-- All but biz_content in the address: with the character set in the body Alipay takes it for GBK.
	RETURN ROW('POST', (alipay_request.merchant ->> 'api_base') || '/gateway.do?' || submeter.alipay_query_string(parameters - 'biz_content'),
		'{Content-Type: application/x-www-form-urlencoded;charset=utf-8}',
		convert_to('biz_content=' || submeter.url_encode(parameters ->> 'biz_content'), 'UTF8'), NULL, NULL)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.alipay_request(text, jsonb, jsonb, jsonb, timestamptz) IS 'A request to Alipay, signed.';

CREATE FUNCTION submeter.alipay_state(said jsonb) RETURNS submeter.payment_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	news submeter.payment_news;
	status text := alipay_state.said ->> 'trade_status';
BEGIN
	news.out_trade_no := alipay_state.said ->> 'out_trade_no';
	news.transaction := alipay_state.said ->> 'trade_no';
	news.amount := (alipay_state.said ->> 'total_amount')::numeric;
	news.settled := (alipay_state.said ->> 'receipt_amount')::numeric;
	news.paid_at := submeter.alipay_instant(coalesce(alipay_state.said ->> 'gmt_payment', alipay_state.said ->> 'send_pay_date'));
	news.payer := coalesce(alipay_state.said ->> 'buyer_logon_id', alipay_state.said ->> 'buyer_id', alipay_state.said ->> 'buyer_open_id');
	-- A closed trade that was paid once has been refunded in full: the money came all the same.
	news.result := CASE
		WHEN status IN ('TRADE_SUCCESS', 'TRADE_FINISHED') THEN 'paid'
		WHEN status = 'TRADE_CLOSED' AND (news.paid_at IS NOT NULL OR alipay_state.said ? 'refund_fee') THEN 'paid'
		WHEN status = 'TRADE_CLOSED' THEN 'closed'
		WHEN status = 'WAIT_BUYER_PAY' THEN 'waiting'
		ELSE 'unknown' END;
	IF news.result = 'paid' AND (coalesce(news.transaction, '') = '' OR news.amount IS NULL) THEN
		news.result := 'unknown';
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.alipay_state(jsonb) IS 'What Alipay''s fields of a trade say, in our words.';

CREATE FUNCTION submeter.alipay_answer_signed(merchant jsonb, body bytea, node text, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(bool_or(submeter.alipay_response_verify(alipay_answer_signed.body, alipay_answer_signed.node, k.value)), false)
	FROM jsonb_each_text(submeter.merchant_keys((alipay_answer_signed.merchant ->> 'site_id')::int, (alipay_answer_signed.merchant ->> 'merchant_id')::bigint,
		alipay_answer_signed.as_of)) k
$$;
COMMENT ON FUNCTION submeter.alipay_answer_signed(jsonb, bytea, text, timestamptz) IS 'True when one of the merchant''s keys of Alipay signed the node of an answer.';

CREATE FUNCTION submeter.alipay_refund_state(kind text, said jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN alipay_refund_state.said ->> 'code' = '10000' AND alipay_refund_state.kind = 'payment_refund'
			THEN CASE WHEN alipay_refund_state.said ->> 'fund_change' = 'Y' THEN 'done' ELSE 'processing' END
		WHEN alipay_refund_state.said ->> 'code' = '10000'
			THEN CASE alipay_refund_state.said ->> 'refund_status' WHEN 'REFUND_SUCCESS' THEN 'done' WHEN 'REFUND_FAIL' THEN 'failed' ELSE 'processing' END
		WHEN alipay_refund_state.kind = 'payment_refund' AND alipay_refund_state.said ->> 'code' IN ('40001', '40002', '40004')
			AND coalesce(alipay_refund_state.said ->> 'sub_code', '') !~ '(SYSTEM_ERROR|SELLER_BALANCE_NOT_ENOUGH|FREQUENCY)' THEN 'failed' END
$$;
COMMENT ON FUNCTION submeter.alipay_refund_state(text, jsonb) IS 'What an answer about a refund says; NULL when it says nothing final.';

CREATE FUNCTION submeter.alipay_answer(kind text, merchant jsonb, payment_order jsonb, refund jsonb, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.payment_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node text := replace(submeter.alipay_method(alipay_answer.kind), '.', '_') || '_response';
	answer jsonb := submeter.json_of(alipay_answer.body);
	said jsonb;
	sub text;
	news submeter.payment_news;
BEGIN
	IF coalesce(jsonb_typeof(answer), '') <> 'object' OR NOT answer ? node THEN
		node := 'error_response';
	END IF;
	said := answer -> node;
	sub := coalesce(said ->> 'sub_code', '');
	news.detail := nullif(concat_ws(' ', said ->> 'code', nullif(sub, ''), coalesce(said ->> 'sub_msg', said ->> 'msg')), '');
	news.result := 'unknown';
	news.verified := said IS NOT NULL AND submeter.alipay_answer_signed(alipay_answer.merchant, alipay_answer.body, node, alipay_answer.as_of);
	IF NOT news.verified THEN
		news.detail := concat_ws(' ', 'not signed by Alipay:', 'status', alipay_answer.status, news.detail);
		RETURN news;
	ELSIF alipay_answer.refund IS NOT NULL THEN
		news.refund_state := submeter.alipay_refund_state(alipay_answer.kind, said);
		news.result := CASE WHEN news.refund_state IS NULL THEN 'unknown' ELSE 'none' END;
		RETURN news;
	ELSIF said ->> 'out_trade_no' IS DISTINCT FROM alipay_answer.payment_order ->> 'out_trade_no' AND said ->> 'code' = '10000' THEN
		news.detail := 'Alipay answered about another order';
		RETURN news;
	END IF;
	IF said ->> 'code' = '10000' AND alipay_answer.kind = 'payment_query' THEN
		news := submeter.alipay_state(said);
		news.verified := true;
	ELSE
		news.qr := said ->> 'qr_code';
		news.result := CASE
			WHEN said ->> 'code' = '10000' AND alipay_answer.kind = 'payment_create' AND news.qr IS NOT NULL THEN 'ready'
			WHEN said ->> 'code' = '10000' AND alipay_answer.kind = 'payment_close' THEN 'closed'
			WHEN sub = 'ACQ.TRADE_NOT_EXIST' AND alipay_answer.kind <> 'payment_create' THEN 'not_exist'
			WHEN sub = 'ACQ.TRADE_HAS_CLOSE' THEN 'closed'
			WHEN sub IN ('ACQ.TRADE_HAS_SUCCESS', 'ACQ.TRADE_HAS_FINISHED', 'ACQ.TRADE_STATUS_ERROR', 'ACQ.REASON_TRADE_STATUS_INVALID') THEN 'none'
			WHEN said ->> 'code' IN ('10000', '10003', '20000', '40005') OR sub ~ 'SYSTEM_ERROR' THEN 'unknown'
			WHEN alipay_answer.kind = 'payment_create' THEN 'refused'
			ELSE 'unknown' END;
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.alipay_answer(text, jsonb, jsonb, jsonb, int, jsonb, bytea, timestamptz) IS
'What Alipay answered, in our words. What it did not sign says nothing: unknown, never "no such trade".';

CREATE FUNCTION submeter.alipay_fields(body bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts bytea[] := submeter.form_fields(alipay_fields.body);
	charset text := 'UTF8';
	fields jsonb := '{}';
BEGIN
	FOR i IN 1 .. coalesce(cardinality(parts), 0) / 2 LOOP
		IF parts[2 * i - 1] = 'charset' AND parts[2 * i] IN ('GBK', 'gbk', 'GB2312', 'gb2312', 'GB18030', 'gb18030') THEN
			charset := 'GB18030';
		END IF;
	END LOOP;
	FOR i IN 1 .. coalesce(cardinality(parts), 0) / 2 LOOP
		fields := fields || jsonb_build_object(convert_from(parts[2 * i - 1], charset), convert_from(parts[2 * i], charset));
	END LOOP;
	RETURN fields;
END
$$;
COMMENT ON FUNCTION submeter.alipay_fields(bytea) IS 'Fields of a notification as text, in the character set it names.';

CREATE FUNCTION submeter.alipay_notify(merchant jsonb, headers jsonb, body bytea, as_of timestamptz) RETURNS submeter.payment_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said jsonb;
	news submeter.payment_news;
BEGIN
	SELECT coalesce(bool_or(submeter.alipay_notify_verify(alipay_notify.body, k.value)), false) INTO news.verified
	FROM jsonb_each_text(submeter.merchant_keys((alipay_notify.merchant ->> 'site_id')::int, (alipay_notify.merchant ->> 'merchant_id')::bigint, alipay_notify.as_of)) k;
	IF NOT news.verified THEN
		RETURN news;
	END IF;
	said := submeter.alipay_fields(alipay_notify.body);
	IF said ->> 'app_id' IS DISTINCT FROM alipay_notify.merchant ->> 'app' OR coalesce(said ->> 'seller_id', '') NOT IN ('', alipay_notify.merchant ->> 'seller') THEN
		news.verified := false;
		news.detail := 'signed, but for another application or seller';
		RETURN news;
	END IF;
	news := submeter.alipay_state(said);
	news.verified := true;
	IF said ? 'refund_fee' AND said ? 'out_biz_no' THEN
		news.refund_no := said ->> 'out_biz_no';
		news.refund_state := 'done';
	END IF;
	IF news.result = 'unknown' THEN
		news.result := 'none';
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.alipay_notify(jsonb, jsonb, bytea, timestamptz) IS
'What a notification of Alipay says, in our words; not verified unless Alipay signed it and it is for this application and seller.';
