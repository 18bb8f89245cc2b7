-- Room: payment, what goes to providers and comes from them, byte for byte: requests of the courier, its answers, notifications.

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

CREATE FUNCTION submeter.payment_reply(provider text, taken boolean, message text DEFAULT NULL, refusal int DEFAULT NULL) RETURNS TABLE (status int, body text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	payment_reply.status := CASE WHEN payment_reply.taken THEN 200 ELSE coalesce(payment_reply.refusal, CASE payment_reply.provider WHEN 'wechat' THEN 401 ELSE 200 END) END;
	payment_reply.body := CASE WHEN payment_reply.provider = 'wechat'
		THEN CASE WHEN payment_reply.taken THEN '' ELSE jsonb_build_object('code', 'FAIL', 'message', coalesce(payment_reply.message, 'try again'))::text END
		ELSE CASE WHEN payment_reply.taken THEN 'success' ELSE 'fail' END END;
	RETURN NEXT;
END
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

GRANT EXECUTE ON FUNCTION submeter.payment_notify(text, jsonb, bytea) TO submeter_courier;
