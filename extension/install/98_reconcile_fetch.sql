-- Room: reconciliation, the way files come: each day is asked for until it is read. A provider first says where the file is,
-- signed; what comes from there is not signed, and the address is good for half a minute.

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, keeps_answer, description) VALUES
	('bill_ask', 'bill_ask_build', 'bill_ask_done', true, 8, true, 'where a provider''s file of a day is'),
	('bill_file', 'bill_file_build', 'bill_file_done', true, 1, false, 'a provider''s file of a day; it is kept in reconcile_file');

CREATE TYPE submeter.bill_news AS (verified boolean, result text, url text, hash text, detail text);
COMMENT ON TYPE submeter.bill_news IS
'What a provider said about the file of a day: ready (url; hash: SHA-1 of the text unpacked, in hex, where the provider gives one), none (there is no such file), unknown.';
REVOKE ALL ON TYPE submeter.bill_news FROM PUBLIC;
GRANT USAGE ON TYPE submeter.bill_news TO submeter_owner;

CREATE FUNCTION submeter.alipay_bill_request(merchant jsonb, day date, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.alipay_call(alipay_bill_request.merchant, 'alipay.data.dataservice.bill.downloadurl.query',
		jsonb_build_object('bill_type', 'trade', 'bill_date', to_char(alipay_bill_request.day, 'YYYY-MM-DD')), alipay_bill_request.as_of)
$$;
COMMENT ON FUNCTION submeter.alipay_bill_request(jsonb, date, timestamptz) IS 'Asks Alipay where the file of a day is, signed.';

CREATE FUNCTION submeter.alipay_bill_answer(merchant jsonb, status int, headers jsonb, body bytea, as_of timestamptz) RETURNS submeter.bill_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node text := 'alipay_data_dataservice_bill_downloadurl_query_response';
	answer jsonb := submeter.json_of(alipay_bill_answer.body);
	said jsonb;
	news submeter.bill_news;
BEGIN
	IF coalesce(jsonb_typeof(answer), '') <> 'object' OR NOT answer ? node THEN
		node := 'error_response';
	END IF;
	said := answer -> node;
	news.result := 'unknown';
	news.detail := nullif(concat_ws(' ', said ->> 'code', said ->> 'sub_code', coalesce(said ->> 'sub_msg', said ->> 'msg')), '');
	news.verified := said IS NOT NULL AND submeter.alipay_answer_signed(alipay_bill_answer.merchant, alipay_bill_answer.body, node, alipay_bill_answer.as_of);
	IF NOT news.verified THEN
		news.detail := concat_ws(' ', 'not signed by Alipay:', 'status', alipay_bill_answer.status, news.detail);
	ELSIF said ->> 'code' = '10000' AND said ->> 'bill_download_url' IS NOT NULL THEN
		news.result := 'ready';
		news.url := said ->> 'bill_download_url';
	ELSIF coalesce(said ->> 'sub_code', '') ~* 'bill_not_exist' THEN
		news.result := 'none';
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.alipay_bill_answer(jsonb, int, jsonb, bytea, timestamptz) IS 'What Alipay said about the file of a day, in our words.';

CREATE FUNCTION submeter.alipay_bill_download(merchant jsonb, url text, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The address is all there is to it: whose and until when is in it.
	SELECT ROW('GET', alipay_bill_download.url, NULL, NULL, NULL, NULL)::submeter.outbound_request
	WHERE alipay_bill_download.merchant IS NOT NULL AND alipay_bill_download.as_of IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.alipay_bill_download(jsonb, text, timestamptz) IS 'Fetches a file of Alipay.';

CREATE FUNCTION submeter.wechat_bill_request(merchant jsonb, day date, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.wechat_call(wechat_bill_request.merchant, 'GET',
		format('/v3/bill/tradebill?bill_date=%s&bill_type=ALL&tar_type=GZIP', to_char(wechat_bill_request.day, 'YYYY-MM-DD')), NULL, wechat_bill_request.as_of)
$$;
COMMENT ON FUNCTION submeter.wechat_bill_request(jsonb, date, timestamptz) IS 'Asks WeChat Pay where the file of a day is, signed.';

CREATE FUNCTION submeter.wechat_bill_answer(merchant jsonb, status int, headers jsonb, body bytea, as_of timestamptz) RETURNS submeter.bill_news
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said jsonb := submeter.json_of(wechat_bill_answer.body);
	news submeter.bill_news;
BEGIN
	news.result := 'unknown';
	news.detail := nullif(concat_ws(' ', wechat_bill_answer.status, said ->> 'code', said ->> 'message'), '');
	news.verified := submeter.wechat_verify(coalesce(wechat_bill_answer.headers, '{}'), wechat_bill_answer.body,
		submeter.merchant_keys((wechat_bill_answer.merchant ->> 'site_id')::int, (wechat_bill_answer.merchant ->> 'merchant_id')::bigint, wechat_bill_answer.as_of),
		wechat_bill_answer.as_of);
	IF NOT news.verified THEN
		news.detail := concat_ws(' ', 'not signed by WeChat Pay:', news.detail);
	ELSIF wechat_bill_answer.status = 200 AND said ->> 'download_url' IS NOT NULL AND said ->> 'hash_type' = 'SHA1' THEN
		news.result := 'ready';
		news.url := said ->> 'download_url';
		news.hash := lower(said ->> 'hash_value');
	ELSIF said ->> 'code' = 'NO_STATEMENT_EXIST' THEN
		news.result := 'none';
	END IF;
	RETURN news;
END
$$;
COMMENT ON FUNCTION submeter.wechat_bill_answer(jsonb, int, jsonb, bytea, timestamptz) IS 'What WeChat Pay said about the file of a day, in our words.';

CREATE FUNCTION submeter.wechat_bill_download(merchant jsonb, url text, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	request submeter.outbound_request;
BEGIN
	request := submeter.wechat_call(wechat_bill_download.merchant, 'GET', substring(wechat_bill_download.url FROM '^https?://[^/]+(/.*)$'), NULL, wechat_bill_download.as_of);
	request.url := wechat_bill_download.url;
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.wechat_bill_download(jsonb, text, timestamptz) IS 'Fetches a file of WeChat Pay; the request is signed, what comes is not.';

CREATE FUNCTION submeter.is_bill_url(url text, api_base text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Where the interface is, or a host of the provider beside it (openapi.alipay.com: dwbillcenter.alipay.com), and no weaker protocol.
	SELECT coalesce(u.part[1] IN ('https', b.part[1]) AND (u.part[2] = b.part[2]
		OR u.part[2] ~ '(^|[.])(alipay[.]com|alipaydev[.]com)$' AND b.part[2] ~ '(^|[.])(alipay[.]com|alipaydev[.]com)$'
		OR u.part[2] ~ '(^|[.])(mch[.]weixin[.]qq[.]com|wechatpay[.]cn)$' AND b.part[2] ~ '(^|[.])(mch[.]weixin[.]qq[.]com|wechatpay[.]cn)$'), false)
	FROM regexp_match(is_bill_url.url, '^(https?)://([0-9a-z.-]+(?::[0-9]{1,5})?)/[!-~]*$') u(part),
		regexp_match(is_bill_url.api_base, '^(https?)://([^/]+)') b(part)
$$;
COMMENT ON FUNCTION submeter.is_bill_url(text, text) IS 'True for an address of the provider whose interface is at api_base: nothing else is asked for a file.';

CREATE FUNCTION submeter.bill_facts(site_id int, outbound_id bigint, OUT merchant_id bigint, OUT merchant jsonb, OUT provider text, OUT day date, OUT url text, OUT hash text, OUT wanted boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.merchant_id, to_jsonb(m), m.provider, (o.ref ->> 'day')::date, o.ref ->> 'url', o.ref ->> 'hash', d.state IN ('asked', 'failed')
	FROM submeter.outbound o
	JOIN submeter.merchant m ON m.site_id = o.site_id AND m.merchant_id = (o.ref ->> 'merchant_id')::bigint
	JOIN submeter.reconcile_day d ON d.site_id = m.site_id AND d.merchant_id = m.merchant_id AND d.day = (o.ref ->> 'day')::date
	WHERE o.site_id = bill_facts.site_id AND o.outbound_id = bill_facts.outbound_id
$$;
COMMENT ON FUNCTION submeter.bill_facts(int, bigint) IS 'Merchant and day a request of the courier is about, and whether its file is still wanted.';

CREATE FUNCTION submeter.ask_bill(site_id int, merchant_id bigint, day date, not_before timestamptz, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM submeter.queue_outbound(m.site_id, 'bill_ask', jsonb_build_object('merchant_id', m.merchant_id, 'day', to_char(ask_bill.day, 'YYYY-MM-DD')),
		substring(m.api_base FROM '^https?://([^/]+)'), m.provider, ask_bill.not_before, greatest(ask_bill.not_before, ask_bill.as_of) + interval '50 minutes',
		format('%s:%s', m.merchant_id, to_char(ask_bill.day, 'YYYY-MM-DD')))
	FROM submeter.merchant m
	WHERE m.site_id = ask_bill.site_id AND m.merchant_id = ask_bill.merchant_id;
	UPDATE submeter.reconcile_day d
	SET tries = d.tries + 1, next_at = greatest(ask_bill.not_before, ask_bill.as_of) + interval '1 hour'
	WHERE d.site_id = ask_bill.site_id AND d.merchant_id = ask_bill.merchant_id AND d.day = ask_bill.day;
END
$$;
COMMENT ON FUNCTION submeter.ask_bill(int, bigint, date, timestamptz, timestamptz) IS 'Has a provider asked for the file of a day, not before a time; once while that waits.';

CREATE FUNCTION submeter.ask_bill_again(site_id int, merchant_id bigint, day date, state text, detail text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	tried int;
BEGIN
	UPDATE submeter.reconcile_day d SET state = ask_bill_again.state, detail = ask_bill_again.detail
	WHERE d.site_id = ask_bill_again.site_id AND d.merchant_id = ask_bill_again.merchant_id AND d.day = ask_bill_again.day AND d.state IN ('asked', 'failed')
	RETURNING d.tries INTO tried;
	IF FOUND THEN
		PERFORM submeter.ask_bill(ask_bill_again.site_id, ask_bill_again.merchant_id, ask_bill_again.day,
			ask_bill_again.as_of + least(interval '1 s' * power(2, least(tried, 20)), interval '1 hour'), ask_bill_again.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.ask_bill_again(int, bigint, date, text, text, timestamptz) IS
'The file of a day did not come, or could not be used: it is asked for anew after 2 s, 4 s, 8 s … up to an hour.';

CREATE FUNCTION submeter.note_no_bill(site_id int, merchant_id bigint, day date, detail text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM submeter.lock_day(note_no_bill.site_id, note_no_bill.merchant_id, note_no_bill.day);
	UPDATE submeter.reconcile_day d
	SET no_bill_at = coalesce(d.no_bill_at, note_no_bill.as_of), detail = note_no_bill.detail, next_at = note_no_bill.as_of + interval '6 hours',
		state = CASE WHEN submeter.china_day(d.no_bill_at) < submeter.china_day(note_no_bill.as_of) THEN 'empty' ELSE 'asked' END,
		read_at = CASE WHEN submeter.china_day(d.no_bill_at) < submeter.china_day(note_no_bill.as_of) THEN note_no_bill.as_of END
	WHERE d.site_id = note_no_bill.site_id AND d.merchant_id = note_no_bill.merchant_id AND d.day = note_no_bill.day AND d.state IN ('asked', 'failed');
	-- A provider may be late with its file; said again the next day it is a fact, and what we have of the day is missing there.
	PERFORM submeter.find_missing(d.site_id, d.merchant_id, d.day, 'infinity') FROM submeter.reconcile_day d
	WHERE d.site_id = note_no_bill.site_id AND d.merchant_id = note_no_bill.merchant_id AND d.day = note_no_bill.day AND d.state = 'empty';
END
$$;
COMMENT ON FUNCTION submeter.note_no_bill(int, bigint, date, text, timestamptz) IS
'A provider says that a day has no file. It is believed when it says so on a later day, too.';

CREATE FUNCTION submeter.bill_ask_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	request submeter.outbound_request;
BEGIN
	SELECT * INTO STRICT item FROM submeter.bill_facts(bill_ask_build.site_id, bill_ask_build.outbound_id);
	IF item.wanted THEN
		EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3)', item.provider || '_bill_request') INTO request USING item.merchant, item.day, bill_ask_build.as_of;
		request.options := jsonb_build_object('max_answer_bytes', 1048576) || (item.merchant -> 'options');
	END IF;
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.bill_ask_build(int, bigint, timestamptz) IS 'Builder of the question where the file of a day is; NULL when it is here already.';

CREATE FUNCTION submeter.bill_ask_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	news submeter.bill_news;
BEGIN
	IF bill_ask_done.outcome <> 'answered' THEN
		RETURN NULL;
	END IF;
	SELECT * INTO STRICT item FROM submeter.bill_facts(bill_ask_done.site_id, bill_ask_done.outbound_id);
	EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4, $5)', item.provider || '_bill_answer') INTO news
	USING item.merchant, bill_ask_done.status, bill_ask_done.headers, coalesce(bill_ask_done.body, ''), bill_ask_done.as_of;
	INSERT INTO submeter.payment_event (site_id, merchant_id, source, headers, body, verified, outcome)
	VALUES (bill_ask_done.site_id, item.merchant_id, 'bill', bill_ask_done.headers, coalesce(bill_ask_done.body, ''), coalesce(news.verified, false),
		concat_ws(' ', to_char(item.day, 'YYYY-MM-DD'), news.result, news.detail));
	IF news.result = 'ready' AND submeter.is_bill_url(news.url, item.merchant ->> 'api_base') THEN
		PERFORM submeter.queue_outbound(bill_ask_done.site_id, 'bill_file', jsonb_strip_nulls(jsonb_build_object('merchant_id', item.merchant_id,
			'day', to_char(item.day, 'YYYY-MM-DD'), 'url', news.url, 'hash', news.hash)), substring(news.url FROM '^https?://([^/]+)'), item.provider, NULL,
			bill_ask_done.as_of + interval '25 s', format('%s:%s', item.merchant_id, to_char(item.day, 'YYYY-MM-DD')));
		RETURN ROW('delivered', NULL, 'ready')::submeter.outbound_verdict;
	ELSIF news.result = 'none' THEN
		PERFORM submeter.note_no_bill(bill_ask_done.site_id, item.merchant_id, item.day, news.detail, bill_ask_done.as_of);
		RETURN ROW('delivered', NULL, news.detail)::submeter.outbound_verdict;
	ELSIF NOT coalesce(news.verified, false) THEN
		PERFORM submeter.ask_wechat_keys(bill_ask_done.site_id, item.merchant_id, coalesce(bill_ask_done.headers, '{}'), bill_ask_done.as_of);
		PERFORM submeter.ask_alipay_cert(bill_ask_done.site_id, item.merchant_id, bill_ask_done.body, bill_ask_done.as_of);
	END IF;
	UPDATE submeter.reconcile_day d SET detail = CASE news.result WHEN 'ready' THEN 'the address of the file is none of the provider''s' ELSE news.detail END
	WHERE d.site_id = bill_ask_done.site_id AND d.merchant_id = item.merchant_id AND d.day = item.day;
	RETURN ROW('queued', NULL, news.detail)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.bill_ask_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Taker of the answer where a file is: has it fetched at once, or notes that there is none. What is not signed says nothing.';

CREATE FUNCTION submeter.bill_file_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	request submeter.outbound_request;
BEGIN
	SELECT * INTO STRICT item FROM submeter.bill_facts(bill_file_build.site_id, bill_file_build.outbound_id);
	IF item.wanted THEN
		EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3)', item.provider || '_bill_download') INTO request USING item.merchant, item.url, bill_file_build.as_of;
		request.timeout_ms := 60000;
		request.options := jsonb_build_object('max_answer_bytes', 33554432) || (item.merchant -> 'options');
	END IF;
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.bill_file_build(int, bigint, timestamptz) IS 'Builder of the request for a file; NULL when it is here already.';

CREATE FUNCTION submeter.bill_file_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	problem text;
BEGIN
	SELECT * INTO STRICT item FROM submeter.bill_facts(bill_file_done.site_id, bill_file_done.outbound_id);
	IF bill_file_done.outcome <> 'answered' OR bill_file_done.status <> 200 THEN
		PERFORM submeter.ask_bill_again(bill_file_done.site_id, item.merchant_id, item.day, 'asked',
			'the file did not come: ' || CASE bill_file_done.outcome WHEN 'answered' THEN 'status ' || bill_file_done.status::text ELSE bill_file_done.outcome END, bill_file_done.as_of);
		RETURN ROW('cancelled', NULL, 'asked for anew')::submeter.outbound_verdict;
	END IF;
	problem := submeter.use_bill(bill_file_done.site_id, item.merchant_id, item.merchant ->> 'seller', item.provider, item.day, item.hash, coalesce(bill_file_done.body, ''),
		bill_file_done.as_of);
	IF problem IS NOT NULL THEN
		PERFORM submeter.ask_bill_again(bill_file_done.site_id, item.merchant_id, item.day, 'failed', problem, bill_file_done.as_of);
		RETURN ROW('cancelled', NULL, problem)::submeter.outbound_verdict;
	END IF;
	RETURN ROW('delivered', NULL, NULL)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.bill_file_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Taker of a file: follows it, or has it asked for anew: the address was good for half a minute.';

CREATE FUNCTION submeter.use_bill(site_id int, merchant_id bigint, seller text, provider text, day date, hash text, file bytea, as_of timestamptz) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	problem text;
	detail text;
BEGIN
	IF use_bill.hash IS NOT NULL AND use_bill.hash <> submeter.sha1_hex(submeter.bill_plain(use_bill.file)) THEN
		RETURN 'the file is another one than the provider promised (SHA-1)';
	ELSIF submeter.check_bill(use_bill.provider, use_bill.day, use_bill.file) <> use_bill.seller THEN
		RETURN 'the file is of another account';
	END IF;
	PERFORM submeter.take_bill(use_bill.site_id, use_bill.merchant_id, use_bill.provider, use_bill.day, use_bill.file, 'fetched', use_bill.as_of);
	RETURN NULL;
EXCEPTION
	WHEN serialization_failure OR deadlock_detected THEN RAISE;
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
		problem := concat_ws(': ', problem, nullif(detail, ''));
		-- For whoever has to find out what the provider changed.
		PERFORM submeter.lock_day(use_bill.site_id, use_bill.merchant_id, use_bill.day);
		PERFORM submeter.keep_bill(use_bill.site_id, use_bill.merchant_id, use_bill.day, 'fetched', use_bill.file, problem);
		RETURN problem;
END
$$;
COMMENT ON FUNCTION submeter.use_bill(int, bigint, text, text, date, text, bytea, timestamptz) IS
'Follows a file that was fetched when it is the one that was promised; returns what is wrong with it otherwise, and keeps one that could not be read.';

CREATE FUNCTION submeter.reconcile_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	today date := submeter.china_day(reconcile_duty.as_of);
	-- Files of yesterday are there from ten o'clock on.
	last_day date := submeter.china_day(reconcile_duty.as_of - interval '10 hours 30 minutes') - 1;
	asked bigint := 0;
	item record;
BEGIN
	INSERT INTO submeter.reconcile_day (site_id, merchant_id, day)
	SELECT m.site_id, m.merchant_id, d::date
	FROM submeter.merchant m, generate_series(today - 7, last_day, interval '1 day') d
	WHERE m.site_id = reconcile_duty.site_id AND submeter.is_reconciled(m.site_id, m.merchant_id, reconcile_duty.as_of) AND d::date >= submeter.china_day(m.created_at)
	ON CONFLICT DO NOTHING;
	FOR item IN
		SELECT d.merchant_id, d.day FROM submeter.reconcile_day d
		WHERE d.site_id = reconcile_duty.site_id AND submeter.is_reconciled(d.site_id, d.merchant_id, reconcile_duty.as_of)
			AND d.state IN ('asked', 'failed') AND d.day BETWEEN today - 7 AND last_day
			AND coalesce(d.next_at <= reconcile_duty.as_of, true)
		ORDER BY d.merchant_id, d.day FOR UPDATE OF d SKIP LOCKED
	LOOP
		PERFORM submeter.ask_bill(reconcile_duty.site_id, item.merchant_id, item.day, reconcile_duty.as_of, reconcile_duty.as_of);
		asked := asked + 1;
	END LOOP;
	RETURN asked;
END
$$;
COMMENT ON FUNCTION submeter.reconcile_duty(int, timestamptz) IS
'Duty: asks for the files of the last seven days that are not here yet, of each merchant that is enabled or was heard of in the last eight days, since it was entered; for that of yesterday from 10:30 China time on. Returns how many.';
