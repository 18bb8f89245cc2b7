-- Room: payment, the part that speaks WeChat Pay's APIv3: how its requests are made and signed and what its answers and
-- notifications say. Amounts are in fen.

CREATE FUNCTION submeter.wechat_sign(merchant jsonb, message text) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT translate(encode(submeter.rsa_sha256_sign(convert_to(wechat_sign.message, 'UTF8'),
		submeter.secret_text((wechat_sign.merchant ->> 'site_id')::int, format('merchant/%s/private_key', wechat_sign.merchant ->> 'merchant_id'))), 'base64'), E'\n', '')
$$;
COMMENT ON FUNCTION submeter.wechat_sign(jsonb, text) IS 'Signature of the merchant in base64. 55000 when its key is not set.';

CREATE FUNCTION submeter.wechat_call(merchant jsonb, method text, path text, body text, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seconds text := floor(extract(epoch FROM wechat_call.as_of))::bigint::text;
	nonce text := replace(gen_random_uuid()::text, '-', '');
	-- Which of WeChat's keys we hold: the public key goes before certificates.
	key_id text := (SELECT max(k) FROM jsonb_object_keys(submeter.merchant_keys((wechat_call.merchant ->> 'site_id')::int, (wechat_call.merchant ->> 'merchant_id')::bigint, wechat_call.as_of)) k);
BEGIN
	RETURN ROW(wechat_call.method, (wechat_call.merchant ->> 'api_base') || wechat_call.path,
		array_remove(ARRAY[format('Authorization: WECHATPAY2-SHA256-RSA2048 mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"',
				wechat_call.merchant ->> 'seller', nonce, seconds, wechat_call.merchant ->> 'key_serial',
				submeter.wechat_sign(wechat_call.merchant, concat_ws(E'\n', wechat_call.method, wechat_call.path, seconds, nonce, coalesce(wechat_call.body, ''), ''))),
			'Accept: application/json', 'Content-Type: application/json', 'User-Agent: submeter/' || submeter.version(), 'Wechatpay-Serial: ' || key_id], NULL),
		convert_to(coalesce(wechat_call.body, ''), 'UTF8'), NULL, NULL)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.wechat_call(jsonb, text, text, text, timestamptz) IS 'One request to WeChat Pay, signed.';

CREATE FUNCTION submeter.wechat_order(merchant jsonb, payment_order jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('appid', wechat_order.merchant ->> 'app', 'mchid', wechat_order.merchant ->> 'seller',
		'description', wechat_order.payment_order ->> 'subject', 'out_trade_no', wechat_order.payment_order ->> 'out_trade_no',
		'time_expire', to_char((wechat_order.payment_order ->> 'expires_at')::timestamptz AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD"T"HH24:MI:SS"+08:00"'),
		'notify_url', (wechat_order.merchant ->> 'notify_base') || '/notify/wechat/' || (wechat_order.merchant ->> 'merchant_id'),
		'amount', jsonb_build_object('total', ((wechat_order.payment_order ->> 'total')::numeric * 100)::bigint, 'currency', 'CNY'),
		'payer', CASE wechat_order.payment_order ->> 'method' WHEN 'jsapi' THEN jsonb_build_object('openid', wechat_order.payment_order -> 'payer' ->> 'openid') END,
		'scene_info', CASE wechat_order.payment_order ->> 'method' WHEN 'h5'
			THEN jsonb_build_object('payer_client_ip', wechat_order.payment_order -> 'payer' ->> 'client_ip', 'h5_info', '{"type":"Wap"}'::jsonb) END))
$$;
COMMENT ON FUNCTION submeter.wechat_order(jsonb, jsonb) IS 'An order as WeChat Pay wants it.';

CREATE FUNCTION submeter.wechat_request(kind text, merchant jsonb, payment_order jsonb, refund jsonb, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	number text := wechat_request.payment_order ->> 'out_trade_no';
	mchid text := wechat_request.merchant ->> 'seller';
BEGIN
	CASE wechat_request.kind
		WHEN 'payment_create' THEN
			RETURN submeter.wechat_call(wechat_request.merchant, 'POST',
				'/v3/pay/transactions/' || CASE wechat_request.payment_order ->> 'method' WHEN 'qr' THEN 'native' ELSE wechat_request.payment_order ->> 'method' END,
				submeter.wechat_order(wechat_request.merchant, wechat_request.payment_order)::text, wechat_request.as_of);
		WHEN 'payment_query' THEN
			RETURN submeter.wechat_call(wechat_request.merchant, 'GET', format('/v3/pay/transactions/out-trade-no/%s?mchid=%s', number, mchid), NULL, wechat_request.as_of);
		WHEN 'payment_close' THEN
			RETURN submeter.wechat_call(wechat_request.merchant, 'POST', format('/v3/pay/transactions/out-trade-no/%s/close', number),
				jsonb_build_object('mchid', mchid)::text, wechat_request.as_of);
		WHEN 'payment_refund' THEN
			RETURN submeter.wechat_call(wechat_request.merchant, 'POST', '/v3/refund/domestic/refunds', jsonb_strip_nulls(jsonb_build_object(
				'transaction_id', wechat_request.refund ->> 'transaction', 'out_refund_no', wechat_request.refund ->> 'out_request_no',
				'reason', left(wechat_request.refund ->> 'reason', 26),
				'notify_url', (wechat_request.merchant ->> 'notify_base') || '/notify/wechat/' || (wechat_request.merchant ->> 'merchant_id'),
				'amount', jsonb_build_object('refund', ((wechat_request.refund ->> 'amount')::numeric * 100)::bigint,
					'total', ((wechat_request.refund ->> 'total')::numeric * 100)::bigint, 'currency', 'CNY')))::text, wechat_request.as_of);
		WHEN 'payment_refund_query' THEN
			RETURN submeter.wechat_call(wechat_request.merchant, 'GET', '/v3/refund/domestic/refunds/' || (wechat_request.refund ->> 'out_request_no'), NULL, wechat_request.as_of);
	END CASE;
END
$$;
COMMENT ON FUNCTION submeter.wechat_request(text, jsonb, jsonb, jsonb, timestamptz) IS 'A request to WeChat Pay, signed.';

CREATE FUNCTION submeter.wechat_state(merchant jsonb, said jsonb) RETURNS submeter.payment_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	news submeter.payment_news;
	state text := wechat_state.said ->> 'trade_state';
BEGIN
	news.verified := true;
	news.out_trade_no := wechat_state.said ->> 'out_trade_no';
	IF wechat_state.said ->> 'mchid' IS DISTINCT FROM wechat_state.merchant ->> 'seller' OR wechat_state.said ->> 'appid' IS DISTINCT FROM wechat_state.merchant ->> 'app' THEN
		news.verified := false;
		news.result := 'unknown';
		news.detail := 'signed, but for another application or merchant';
		RETURN news;
	END IF;
	news.transaction := wechat_state.said ->> 'transaction_id';
	news.amount := (wechat_state.said -> 'amount' ->> 'total')::numeric / 100;
	news.settled := news.amount;
	news.paid_at := (wechat_state.said ->> 'success_time')::timestamptz;
	news.payer := wechat_state.said -> 'payer' ->> 'openid';
	news.result := CASE
		WHEN state IN ('SUCCESS', 'REFUND') AND coalesce(news.transaction, '') <> '' AND news.amount IS NOT NULL
			AND wechat_state.said -> 'amount' ->> 'currency' = 'CNY' THEN 'paid'
		WHEN state IN ('CLOSED', 'REVOKED') THEN 'closed'
		WHEN state IN ('NOTPAY', 'USERPAYING', 'PAYERROR', 'ACCEPT') THEN 'waiting'
		ELSE 'unknown' END;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.wechat_state(jsonb, jsonb) IS
'What WeChat Pay''s fields of a transaction say, in our words; not verified when it is another merchant''s or application''s.';

CREATE FUNCTION submeter.wechat_jsapi(merchant jsonb, prepay_id text, as_of timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seconds text := floor(extract(epoch FROM wechat_jsapi.as_of))::bigint::text;
	nonce text := replace(gen_random_uuid()::text, '-', '');
	package text := 'prepay_id=' || wechat_jsapi.prepay_id;
BEGIN
	RETURN jsonb_build_object('appId', wechat_jsapi.merchant ->> 'app', 'timeStamp', seconds, 'nonceStr', nonce, 'package', package, 'signType', 'RSA',
		'paySign', submeter.wechat_sign(wechat_jsapi.merchant, concat_ws(E'\n', wechat_jsapi.merchant ->> 'app', seconds, nonce, package, '')));
END
$$;
COMMENT ON FUNCTION submeter.wechat_jsapi(jsonb, text, timestamptz) IS 'What a page inside WeChat hands to its script to pay.';

CREATE FUNCTION submeter.wechat_created(merchant jsonb, payment_order jsonb, said jsonb, as_of timestamptz) RETURNS submeter.payment_news
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	news submeter.payment_news;
BEGIN
	news.verified := true;
	news.qr := wechat_created.said ->> 'code_url';
	news.url := wechat_created.said ->> 'h5_url';
	IF wechat_created.payment_order ->> 'method' = 'jsapi' AND wechat_created.said ->> 'prepay_id' IS NOT NULL THEN
		news.parameters := submeter.wechat_jsapi(wechat_created.merchant, wechat_created.said ->> 'prepay_id', wechat_created.as_of);
	END IF;
	news.result := CASE WHEN coalesce(news.qr, news.url, news.parameters::text) IS NULL THEN 'unknown' ELSE 'ready' END;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.wechat_created(jsonb, jsonb, jsonb, timestamptz) IS 'What a created order gives the front end.';

CREATE FUNCTION submeter.wechat_refund_state(said jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE coalesce(wechat_refund_state.said ->> 'refund_status', wechat_refund_state.said ->> 'status')
		WHEN 'SUCCESS' THEN 'done' WHEN 'CLOSED' THEN 'failed' WHEN 'PROCESSING' THEN 'processing' WHEN 'ABNORMAL' THEN 'abnormal' END
$$;
COMMENT ON FUNCTION submeter.wechat_refund_state(jsonb) IS 'What WeChat Pay says about a refund; NULL for anything else.';

CREATE FUNCTION submeter.wechat_answer(kind text, merchant jsonb, payment_order jsonb, refund jsonb, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.payment_news
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said jsonb := submeter.json_of(wechat_answer.body);
	code text := coalesce(said ->> 'code', '');
	news submeter.payment_news;
BEGIN
	news.result := 'unknown';
	news.detail := nullif(concat_ws(' ', wechat_answer.status, nullif(code, ''), said ->> 'message'), '');
	news.verified := submeter.wechat_verify(coalesce(wechat_answer.headers, '{}'), wechat_answer.body,
		submeter.merchant_keys((wechat_answer.merchant ->> 'site_id')::int, (wechat_answer.merchant ->> 'merchant_id')::bigint, wechat_answer.as_of), wechat_answer.as_of);
	IF NOT news.verified THEN
		news.detail := concat_ws(' ', 'not signed by WeChat Pay:', news.detail);
		RETURN news;
	ELSIF wechat_answer.status BETWEEN 200 AND 299 THEN
		news.detail := NULL;
		CASE
			WHEN wechat_answer.refund IS NOT NULL THEN
				news.refund_state := CASE WHEN said ->> 'out_refund_no' = wechat_answer.refund ->> 'out_request_no' THEN submeter.wechat_refund_state(said) END;
				news.result := CASE WHEN news.refund_state IS NULL THEN 'unknown' ELSE 'none' END;
			WHEN wechat_answer.kind = 'payment_create' THEN
				news := submeter.wechat_created(wechat_answer.merchant, wechat_answer.payment_order, said, wechat_answer.as_of);
			WHEN wechat_answer.kind = 'payment_close' THEN news.result := 'closed';
			WHEN said ->> 'out_trade_no' = wechat_answer.payment_order ->> 'out_trade_no' THEN
				news := submeter.wechat_state(wechat_answer.merchant, said);
			ELSE news.detail := 'WeChat Pay answered about another order';
		END CASE;
		RETURN news;
	ELSIF wechat_answer.status >= 500 OR wechat_answer.status IN (401, 429) OR code IN ('SYSTEM_ERROR', 'FREQUENCY_LIMITED', 'FREQUENCY_LIMIT_EXCEED', 'NOT_ENOUGH', 'SIGN_ERROR') THEN
		RETURN news;
	ELSIF wechat_answer.refund IS NOT NULL THEN
		IF wechat_answer.kind = 'payment_refund' THEN
			news.refund_state := 'failed';
			news.result := 'none';
		END IF;
		RETURN news;
	END IF;
	news.result := CASE
		WHEN code IN ('ORDER_NOT_EXIST', 'ORDERNOTEXIST', 'RESOURCE_NOT_EXISTS') AND wechat_answer.kind <> 'payment_create' THEN 'not_exist'
		WHEN code IN ('ORDER_CLOSED', 'ORDERCLOSED') THEN 'closed'
		WHEN code IN ('ORDERPAID', 'OUT_TRADE_NO_USED') THEN 'none'
		WHEN wechat_answer.kind = 'payment_create' THEN 'refused'
		ELSE 'unknown' END;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.wechat_answer(text, jsonb, jsonb, jsonb, int, jsonb, bytea, timestamptz) IS
'What WeChat Pay answered, in our words. What it did not sign, its probes among them, says nothing: unknown, and asked again.';

CREATE FUNCTION submeter.wechat_notify(merchant jsonb, headers jsonb, body bytea, as_of timestamptz) RETURNS submeter.payment_news
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said jsonb;
	event text := submeter.json_of(wechat_notify.body) ->> 'event_type';
	news submeter.payment_news;
BEGIN
	news.verified := submeter.wechat_verify(coalesce(wechat_notify.headers, '{}'), wechat_notify.body,
		submeter.merchant_keys((wechat_notify.merchant ->> 'site_id')::int, (wechat_notify.merchant ->> 'merchant_id')::bigint, wechat_notify.as_of), wechat_notify.as_of);
	IF NOT news.verified THEN
		news.detail := CASE WHEN submeter.header_value(wechat_notify.headers, 'Wechatpay-Signature') LIKE 'WECHATPAY/SIGNTEST/%' THEN 'probe' END;
		RETURN news;
	END IF;
	said := submeter.wechat_open(wechat_notify.body,
		submeter.secret_text((wechat_notify.merchant ->> 'site_id')::int, format('merchant/%s/api_v3_key', wechat_notify.merchant ->> 'merchant_id')));
	IF event LIKE 'TRANSACTION.%' THEN
		news := submeter.wechat_state(wechat_notify.merchant, said);
	ELSIF said ->> 'mchid' IS DISTINCT FROM wechat_notify.merchant ->> 'seller' THEN
		news.verified := false;
		news.detail := 'signed, but for another merchant';
	ELSIF event LIKE 'REFUND.%' THEN
		news.out_trade_no := said ->> 'out_trade_no';
		news.refund_no := said ->> 'out_refund_no';
		news.refund_state := submeter.wechat_refund_state(said);
		news.result := 'none';
	END IF;
	IF coalesce(news.result, 'unknown') = 'unknown' THEN
		news.result := 'none';
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.wechat_notify(jsonb, jsonb, bytea, timestamptz) IS
'What a notification of WeChat Pay says, in our words; not verified unless WeChat Pay signed it and it is for this merchant.';

-- Platform certificates: WeChat Pay exchanges them every few years, and tells so by signing with one we do not have yet.

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES
	('wechat_keys', 'wechat_keys_build', 'wechat_keys_done', true, 6, 'the platform certificates of WeChat Pay');

CREATE FUNCTION submeter.ask_wechat_keys(site_id int, merchant_id bigint, headers jsonb, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	base text;
BEGIN
	-- Once in twelve hours; sooner when something is signed with a key that is not here. A merchant with the public key only
	-- has no certificates to ask for.
	UPDATE submeter.merchant m SET keys_asked_at = ask_wechat_keys.as_of
	WHERE m.site_id = ask_wechat_keys.site_id AND m.merchant_id = ask_wechat_keys.merchant_id AND m.provider = 'wechat'
		-- One that takes no new orders has older ones under way, and refunds.
		AND (m.enabled OR ask_wechat_keys.headers IS NOT NULL)
		AND coalesce(m.keys_asked_at < ask_wechat_keys.as_of - CASE WHEN ask_wechat_keys.headers IS NULL THEN interval '12 hours' ELSE interval '30 s' END, true)
		AND NOT coalesce((SELECT bool_and(k.key_name LIKE 'PUB\_KEY\_ID\_%') FROM submeter.merchant_key k WHERE k.site_id = m.site_id AND k.merchant_id = m.merchant_id), false)
		AND (ask_wechat_keys.headers IS NULL OR NOT EXISTS (
			SELECT FROM submeter.merchant_key k
			WHERE k.site_id = m.site_id AND k.merchant_id = m.merchant_id AND k.key_name = submeter.header_value(ask_wechat_keys.headers, 'Wechatpay-Serial')))
	RETURNING m.api_base INTO base;
	IF base IS NOT NULL THEN
		PERFORM submeter.queue_outbound(ask_wechat_keys.site_id, 'wechat_keys', jsonb_build_object('merchant_id', ask_wechat_keys.merchant_id),
			substring(base FROM '^https?://([^/]+)'), 'wechat', NULL, ask_wechat_keys.as_of + interval '1 hour', ask_wechat_keys.merchant_id::text);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.ask_wechat_keys(int, bigint, jsonb, timestamptz) IS
'Has a merchant''s platform certificates of WeChat Pay fetched when it is time, or when the headers of a message name a key that is not here.';

CREATE FUNCTION submeter.wechat_keys_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	request submeter.outbound_request;
BEGIN
	SELECT * INTO STRICT item FROM submeter.payment_facts(wechat_keys_build.site_id, wechat_keys_build.outbound_id);
	request := submeter.wechat_call(item.merchant, 'GET', '/v3/certificates', NULL, wechat_keys_build.as_of);
	request.options := jsonb_build_object('max_answer_bytes', 1048576) || (item.merchant -> 'options');
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.wechat_keys_build(int, bigint, timestamptz) IS 'Builder of the request for platform certificates.';

CREATE FUNCTION submeter.wechat_keys_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
	item record;
	fetched jsonb;
	api_key text;
BEGIN
	IF wechat_keys_done.outcome <> 'answered' OR wechat_keys_done.status <> 200 THEN
		RETURN NULL;
	END IF;
	SELECT * INTO STRICT item FROM submeter.payment_facts(wechat_keys_done.site_id, wechat_keys_done.outbound_id);
	api_key := submeter.secret_text(wechat_keys_done.site_id, format('merchant/%s/api_v3_key', item.merchant_id));
	-- Sealed with our APIv3 key, so nobody else made them; and one of them signed the answer as a whole.
	SELECT jsonb_object_agg(d.value ->> 'serial_no', jsonb_build_object('pem', convert_from(submeter.wechat_unwrap(d.value -> 'encrypt_certificate', api_key), 'UTF8'),
			'until', d.value ->> 'expire_time')) INTO fetched
	FROM jsonb_array_elements(submeter.json_of(wechat_keys_done.body) -> 'data') d;
	IF NOT submeter.wechat_verify(coalesce(wechat_keys_done.headers, '{}'), wechat_keys_done.body,
		(SELECT jsonb_object_agg(f.key, f.value -> 'pem') FROM jsonb_each(fetched) f), wechat_keys_done.as_of)
	THEN
		RETURN ROW('queued', NULL, 'not signed by one of the certificates in it')::submeter.outbound_verdict;
	END IF;
	INSERT INTO submeter.merchant_key AS k (site_id, merchant_id, key_name, pem, valid_until, fetched_at)
	SELECT wechat_keys_done.site_id, item.merchant_id, f.key, f.value ->> 'pem', (f.value ->> 'until')::timestamptz, wechat_keys_done.as_of
	FROM jsonb_each(fetched) f
	ON CONFLICT ON CONSTRAINT merchant_key_pkey DO UPDATE SET valid_until = EXCLUDED.valid_until, fetched_at = EXCLUDED.fetched_at
	WHERE k.pem = EXCLUDED.pem;
	PERFORM submeter.ask_payments_again(wechat_keys_done.site_id, item.merchant_id, wechat_keys_done.as_of);
	RETURN ROW('delivered', NULL, format('%s certificates', (SELECT count(*) FROM jsonb_object_keys(fetched))))::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.wechat_keys_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Taker of platform certificates: those that were sealed for this merchant and sign their own answer become keys of the merchant, until they expire.';
