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
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN alipay_instant.text ~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d' THEN left(alipay_instant.text, 19)::timestamp AT TIME ZONE 'Asia/Shanghai' END;
END
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

CREATE FUNCTION submeter.alipay_call(merchant jsonb, method text, biz_content jsonb, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parameters jsonb := submeter.alipay_parameters(alipay_call.merchant, alipay_call.method, alipay_call.biz_content, alipay_call.as_of);
BEGIN
	-- All but biz_content in the address: with the character set in the body Alipay takes it for GBK.
	RETURN ROW('POST', (alipay_call.merchant ->> 'api_base') || '/gateway.do?' || submeter.alipay_query_string(parameters - 'biz_content'),
		'{Content-Type: application/x-www-form-urlencoded;charset=utf-8}',
		convert_to('biz_content=' || submeter.url_encode(parameters ->> 'biz_content'), 'UTF8'), NULL, NULL)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.alipay_call(jsonb, text, jsonb, timestamptz) IS 'One request to Alipay, signed.';

CREATE FUNCTION submeter.alipay_request(kind text, merchant jsonb, payment_order jsonb, refund jsonb, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.alipay_call(alipay_request.merchant, submeter.alipay_method(alipay_request.kind), CASE alipay_request.kind
		WHEN 'payment_create' THEN submeter.alipay_order(alipay_request.payment_order)
		WHEN 'payment_refund' THEN jsonb_build_object('trade_no', alipay_request.refund ->> 'transaction', 'out_request_no', alipay_request.refund ->> 'out_request_no',
			'refund_amount', to_char((alipay_request.refund ->> 'amount')::numeric, 'FM999999999990.00'), 'refund_reason', left(alipay_request.refund ->> 'reason', 80))
		WHEN 'payment_refund_query' THEN jsonb_build_object('trade_no', alipay_request.refund ->> 'transaction', 'out_request_no', alipay_request.refund ->> 'out_request_no')
		ELSE jsonb_build_object('out_trade_no', alipay_request.payment_order ->> 'out_trade_no') END, alipay_request.as_of)
$$;
COMMENT ON FUNCTION submeter.alipay_request(text, jsonb, jsonb, jsonb, timestamptz) IS 'A request to Alipay about an order or refund.';

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

-- Certificate mode: Alipay names the certificate it signs with. One that is not here is fetched by its number.

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES
	('alipay_cert', 'alipay_cert_build', 'alipay_cert_done', true, 6, 'a certificate of Alipay');

CREATE FUNCTION submeter.alipay_key_sn(pem text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN submeter.alipay_cert_sn(alipay_key_sn.pem);
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.alipay_key_sn(text) IS 'alipay_cert_sn() of a key that may be no certificate; NULL then.';

CREATE FUNCTION submeter.ask_alipay_cert(site_id int, merchant_id bigint, body bytea, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	answer jsonb := submeter.json_of(ask_alipay_cert.body);
	sn text := CASE jsonb_typeof(answer) WHEN 'object' THEN answer ->> 'alipay_cert_sn' END;
	base text;
BEGIN
	UPDATE submeter.merchant m SET keys_asked_at = ask_alipay_cert.as_of
	WHERE m.site_id = ask_alipay_cert.site_id AND m.merchant_id = ask_alipay_cert.merchant_id AND m.provider = 'alipay' AND m.mode = 'certificate'
		AND sn ~ '^[0-9a-f]{32}$' AND coalesce(m.keys_asked_at < ask_alipay_cert.as_of - interval '30 s', true)
		AND NOT EXISTS (
			SELECT FROM submeter.merchant_key k
			WHERE k.site_id = m.site_id AND k.merchant_id = m.merchant_id AND (k.key_name = sn OR submeter.alipay_key_sn(k.pem) = sn))
		-- One that was refused does not get better by being asked for all the time.
		AND NOT EXISTS (
			SELECT FROM submeter.outbound o
			WHERE o.site_id = m.site_id AND o.kind = 'alipay_cert' AND o.state = 'failed' AND o.ref ->> 'alipay_cert_sn' = sn
				AND (o.ref ->> 'merchant_id')::bigint = m.merchant_id AND o.created_at > ask_alipay_cert.as_of - interval '1 hour')
	RETURNING m.api_base INTO base;
	IF base IS NOT NULL THEN
		PERFORM submeter.queue_outbound(ask_alipay_cert.site_id, 'alipay_cert', jsonb_build_object('merchant_id', ask_alipay_cert.merchant_id, 'alipay_cert_sn', sn),
			substring(base FROM '^https?://([^/]+)'), 'alipay', NULL, ask_alipay_cert.as_of + interval '1 hour', ask_alipay_cert.merchant_id::text);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.ask_alipay_cert(int, bigint, bytea, timestamptz) IS
'Has a certificate of Alipay fetched when an answer names one that is not here; one at a time, at most every 30 s, and after a refusal an hour later.';

CREATE FUNCTION submeter.alipay_cert_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	request submeter.outbound_request;
BEGIN
	SELECT to_jsonb(m) AS merchant, o.ref ->> 'alipay_cert_sn' AS sn INTO STRICT item
	FROM submeter.outbound o
	JOIN submeter.merchant m ON m.site_id = o.site_id AND m.merchant_id = (o.ref ->> 'merchant_id')::bigint
	WHERE o.site_id = alipay_cert_build.site_id AND o.outbound_id = alipay_cert_build.outbound_id;
	request := submeter.alipay_call(item.merchant, 'alipay.open.app.alipaycert.download', jsonb_build_object('alipay_cert_sn', item.sn), alipay_cert_build.as_of);
	request.options := jsonb_build_object('max_answer_bytes', 1048576) || (item.merchant -> 'options');
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.alipay_cert_build(int, bigint, timestamptz) IS 'Builder of the request for a certificate of Alipay.';

CREATE FUNCTION submeter.alipay_cert_from(merchant jsonb, sn text, body bytea, as_of timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node constant text := 'alipay_open_app_alipaycert_download_response';
	cert text;
	fault text;
BEGIN
	-- Nothing of the answer is believed before the chain is checked: it is signed with the key it brings.
	cert := submeter.trusted_cert(convert_from(decode(submeter.json_of(alipay_cert_from.body) -> node ->> 'alipay_cert_content', 'base64'), 'UTF8'),
		alipay_cert_from.merchant ->> 'root_cert', alipay_cert_from.as_of);
	-- The same root makes the certificates of all applications at Alipay. Alipay's own are told by whom they are for.
	fault := CASE
		WHEN cert IS NULL THEN 'There is no certificate in the answer.'
		WHEN submeter.alipay_cert_sn(cert) <> alipay_cert_from.sn THEN 'It is another one than was asked for.'
		WHEN NOT EXISTS (
			SELECT FROM submeter.merchant_key k
			WHERE k.site_id = (alipay_cert_from.merchant ->> 'site_id')::int AND k.merchant_id = (alipay_cert_from.merchant ->> 'merchant_id')::bigint
				AND (submeter.cert_facts(k.pem)).common_name = (submeter.cert_facts(cert)).common_name)
			THEN format('It is for %s, and none of the merchant''s keys is a certificate for that.', (submeter.cert_facts(cert)).common_name)
		WHEN NOT submeter.alipay_response_verify(alipay_cert_from.body, node, cert) THEN 'The answer is not signed with it.' END;
	IF fault IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the certificate is not trusted', DETAIL = fault,
			HINT = 'Compare it with the one on Alipay''s platform, and enter that in merchant_key.';
	END IF;
	RETURN cert;
END
$$;
COMMENT ON FUNCTION submeter.alipay_cert_from(jsonb, text, bytea, timestamptz) IS
'The certificate Alipay answered with, when it is the one asked for by number, chains to the merchant''s roots now, is for whom an earlier certificate of Alipay is for, and signs the answer. 22023 otherwise.';

CREATE FUNCTION submeter.ask_payments_again(site_id int, merchant_id bigint, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE submeter.outbound o SET not_before = ask_payments_again.as_of
	WHERE (o.site_id, o.outbound_id) IN (
		SELECT w.site_id, w.outbound_id FROM submeter.outbound w
		WHERE w.site_id = ask_payments_again.site_id AND w.state = 'queued' AND w.kind LIKE 'payment%' AND w.not_before > ask_payments_again.as_of
			AND (w.ref ->> 'merchant_id')::bigint = ask_payments_again.merchant_id
		FOR UPDATE SKIP LOCKED);
	SELECT pg_notify('submeter_courier', '')
$$;
COMMENT ON FUNCTION submeter.ask_payments_again(int, bigint, timestamptz) IS
'What waits because an answer was not believed is asked again with the keys that are here now.';

CREATE FUNCTION submeter.alipay_cert_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	said jsonb := submeter.json_of(alipay_cert_done.body) -> 'alipay_open_app_alipaycert_download_response';
	cert text;
	fault text;
BEGIN
	IF alipay_cert_done.outcome <> 'answered' OR alipay_cert_done.status <> 200 OR said ->> 'code' IS DISTINCT FROM '10000' THEN
		RETURN CASE WHEN alipay_cert_done.outcome = 'answered' AND alipay_cert_done.status = 200
			THEN ROW('queued', NULL, concat_ws(' ', said ->> 'code', said ->> 'sub_code', said ->> 'sub_msg'))::submeter.outbound_verdict END;
	END IF;
	SELECT to_jsonb(m) AS merchant, m.merchant_id, o.ref ->> 'alipay_cert_sn' AS sn INTO STRICT item
	FROM submeter.outbound o
	JOIN submeter.merchant m ON m.site_id = o.site_id AND m.merchant_id = (o.ref ->> 'merchant_id')::bigint
	WHERE o.site_id = alipay_cert_done.site_id AND o.outbound_id = alipay_cert_done.outbound_id;
	BEGIN
		cert := submeter.alipay_cert_from(item.merchant, item.sn, alipay_cert_done.body, alipay_cert_done.as_of);
	EXCEPTION WHEN data_exception THEN
		GET STACKED DIAGNOSTICS fault = PG_EXCEPTION_DETAIL;
		fault := concat_ws(': ', SQLERRM, nullif(fault, ''));
		PERFORM submeter.raise_alarm(alipay_cert_done.site_id, 'payment_certificate', NULL, NULL,
			format('merchant %s, certificate %s: %s', item.merchant_id, item.sn, fault), alipay_cert_done.as_of);
		RETURN ROW('failed', NULL, fault)::submeter.outbound_verdict;
	END;
	INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem, valid_until, fetched_at)
	VALUES (alipay_cert_done.site_id, item.merchant_id, item.sn, cert, (submeter.cert_facts(cert)).valid_until, alipay_cert_done.as_of)
	ON CONFLICT DO NOTHING;
	PERFORM submeter.ask_payments_again(alipay_cert_done.site_id, item.merchant_id, alipay_cert_done.as_of);
	RETURN ROW('delivered', NULL, 'certificate ' || item.sn)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.alipay_cert_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Taker of a certificate of Alipay: one that is trusted becomes a key of the merchant until it expires; one that is not is refused, with an alarm.';
