-- Room: receipts. Whether a message that a provider took has arrived: the provider is asked a few times, and when it says no
-- the message goes out by the person's next channel, as if the first had refused it. Asking costs nothing.
-- Lock order: the request, then the notice, as everywhere.

CREATE TYPE submeter.receipt_verdict AS (state text, at timestamptz, detail text, gone boolean);
COMMENT ON TYPE submeter.receipt_verdict IS 'What a provider says of a message: state delivered (at), failed, or waiting (not known yet); gone: it does not know the device any more.';
REVOKE ALL ON TYPE submeter.receipt_verdict FROM PUBLIC;
GRANT USAGE ON TYPE submeter.receipt_verdict TO submeter_owner;

CREATE FUNCTION submeter.receipt_verdict(state text, at timestamptz DEFAULT NULL, detail text DEFAULT NULL, gone boolean DEFAULT false) RETURNS submeter.receipt_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW(receipt_verdict.state, receipt_verdict.at, left(receipt_verdict.detail, 300), receipt_verdict.gone)::submeter.receipt_verdict
$$;
COMMENT ON FUNCTION submeter.receipt_verdict(text, timestamptz, text, boolean) IS 'A verdict about a message.';

CREATE FUNCTION submeter.receipt_wait(asked int) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ('{3 min,7 min,20 min,1 hour,4 hours,12 hours}'::interval[])[receipt_wait.asked + 1]
$$;
COMMENT ON FUNCTION submeter.receipt_wait(int) IS 'How long to wait before the provider is asked (again); NULL when it was asked often enough.';

CREATE FUNCTION submeter.receipt_endpoint(kind text, settings jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(receipt_endpoint.settings ->> 'report_endpoint', k.receipt_host, receipt_endpoint.settings ->> 'endpoint', k.host)
	FROM submeter.channel_kind k WHERE k.kind = receipt_endpoint.kind
$$;
COMMENT ON FUNCTION submeter.receipt_endpoint(text, jsonb) IS 'Where a kind of channel is asked about messages: where they go to, unless it has a place of its own for that.';

CREATE FUNCTION submeter.expect_receipt(site_id int, outbound_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	way record;
BEGIN
	SELECT c.kind, c.channel, c.settings, o.ref INTO way
	FROM submeter.outbound o
	JOIN submeter.notice_channel c ON c.site_id = o.site_id AND c.channel = o.ref ->> 'channel'
	JOIN submeter.channel_kind k ON k.kind = c.kind AND k.ask_receipt IS NOT NULL
	WHERE o.site_id = expect_receipt.site_id AND o.outbound_id = expect_receipt.outbound_id;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	UPDATE submeter.notice n SET delivery = 'waiting'
	WHERE n.site_id = expect_receipt.site_id AND n.notice_id = (way.ref ->> 'notice_id')::bigint;
	-- Questions are no messages: they have a rate of their own.
	PERFORM submeter.queue_outbound(expect_receipt.site_id, 'receipt', way.ref || jsonb_build_object('outbound_id', expect_receipt.outbound_id),
		coalesce(substring(submeter.receipt_endpoint(way.kind, way.settings) FROM '^[a-z]+://([^/?#]+)'), 'unknown'), way.channel || ':receipt', expect_receipt.as_of + submeter.receipt_wait(0),
		expect_receipt.as_of + interval '2 days', expect_receipt.outbound_id::text);
END
$$;
COMMENT ON FUNCTION submeter.expect_receipt(int, bigint, timestamptz) IS
'Has the provider asked whether a message it accepted arrives; nothing where a kind of channel has no receipts.';

CREATE FUNCTION submeter.receipt_message(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.notice_message
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW(o.site_id, n.notice_id, o.outbound_id, n.kind, w.channel, w.settings, submeter.receipt_endpoint(w.kind, w.settings), NULL, o.ref ->> 'address', o.ref -> 'keys',
		n.locale, n.subject, n.body, n.facts, n.urgent, receipt_message.as_of)::submeter.notice_message
	FROM submeter.outbound o
	JOIN submeter.notice n ON n.site_id = o.site_id AND n.notice_id = (o.ref ->> 'notice_id')::bigint AND n.state = 'accepted'
		AND n.outbound_id = (o.ref ->> 'outbound_id')::bigint
	JOIN submeter.notice_channel w ON w.site_id = o.site_id AND w.channel = o.ref ->> 'channel'
	JOIN submeter.channel_kind k ON k.kind = w.kind AND k.ask_receipt IS NOT NULL
	WHERE o.site_id = receipt_message.site_id AND o.outbound_id = receipt_message.outbound_id
$$;
COMMENT ON FUNCTION submeter.receipt_message(int, bigint, timestamptz) IS
'The message a question is about; NULL when it is no longer as it was accepted, or its channel is gone.';

CREATE FUNCTION submeter.build_receipt(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message submeter.notice_message := submeter.receipt_message(build_receipt.site_id, build_receipt.outbound_id, build_receipt.as_of);
	asker name;
	item record;
	request submeter.outbound_request;
BEGIN
	IF message.notice_id IS NULL THEN
		PERFORM submeter.note_delivery(o.site_id, (o.ref ->> 'notice_id')::bigint, (o.ref ->> 'outbound_id')::bigint, 'none', NULL)
		FROM submeter.outbound o WHERE o.site_id = build_receipt.site_id AND o.outbound_id = build_receipt.outbound_id;
		RETURN NULL;
	END IF;
	SELECT n.receipt, n.accepted_at INTO STRICT item FROM submeter.notice n WHERE n.site_id = message.site_id AND n.notice_id = message.notice_id;
	SELECT k.ask_receipt INTO STRICT asker FROM submeter.channel_kind k
	JOIN submeter.notice_channel w ON w.kind = k.kind WHERE w.site_id = message.site_id AND w.channel = message.channel;
	EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3)', asker) INTO request USING message, item.receipt, item.accepted_at;
	request.options := coalesce(request.options, '{}') || jsonb_strip_nulls(jsonb_build_object('ca', message.settings -> 'ca', 'proxy', message.settings -> 'proxy'));
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.build_receipt(int, bigint, timestamptz) IS 'Makes the question about a message by the function of its channel''s kind.';

CREATE FUNCTION submeter.note_delivery(site_id int, notice_id bigint, outbound_id bigint, delivery text, at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE submeter.notice n SET delivery = note_delivery.delivery, delivered_at = CASE WHEN note_delivery.delivery = 'delivered' THEN note_delivery.at END
	WHERE n.site_id = note_delivery.site_id AND n.notice_id = note_delivery.notice_id AND n.outbound_id = note_delivery.outbound_id AND n.state = 'accepted'
$$;
COMMENT ON FUNCTION submeter.note_delivery(int, bigint, bigint, text, timestamptz) IS 'Keeps what became of a message that one request carried, unless it went another way since.';

CREATE FUNCTION submeter.receipt_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.outbound;
	message submeter.notice_message := submeter.receipt_message(receipt_done.site_id, receipt_done.outbound_id, receipt_done.as_of);
	sent record;
	judge name;
	said submeter.receipt_verdict;
	wait interval;
BEGIN
	SELECT o.* INTO STRICT item FROM submeter.outbound o WHERE o.site_id = receipt_done.site_id AND o.outbound_id = receipt_done.outbound_id;
	IF message.notice_id IS NULL THEN
		RETURN ROW('cancelled', NULL, 'not needed any more')::submeter.outbound_verdict;
	END IF;
	SELECT n.receipt, n.accepted_at INTO STRICT sent FROM submeter.notice n WHERE n.site_id = message.site_id AND n.notice_id = message.notice_id;
	IF receipt_done.outcome = 'answered' THEN
		SELECT k.judge_receipt INTO STRICT judge FROM submeter.channel_kind k
		JOIN submeter.notice_channel w ON w.kind = k.kind WHERE w.site_id = message.site_id AND w.channel = message.channel;
		EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4, $5)', judge) INTO said
		USING message, sent.receipt, sent.accepted_at, receipt_done.status, receipt_done.body;
	END IF;
	UPDATE submeter.device d SET gone_at = receipt_done.as_of
	WHERE said.gone AND d.site_id = item.site_id AND d.device_id = (item.ref ->> 'device_id')::bigint;
	IF said.state = 'delivered' THEN
		PERFORM submeter.note_delivery(item.site_id, message.notice_id, (item.ref ->> 'outbound_id')::bigint, 'delivered', coalesce(said.at, receipt_done.as_of));
		RETURN ROW('delivered', NULL, said.detail)::submeter.outbound_verdict;
	ELSIF said.state = 'failed' THEN
		PERFORM submeter.note_delivery(item.site_id, message.notice_id, (item.ref ->> 'outbound_id')::bigint, 'failed', NULL);
		PERFORM submeter.take_back_notice(item.site_id, message.notice_id, message.channel, coalesce(said.detail, 'not delivered'), receipt_done.as_of);
		RETURN ROW('delivered', NULL, said.detail)::submeter.outbound_verdict;
	END IF;
	wait := submeter.receipt_wait(item.attempts);
	IF receipt_done.outcome = 'expired' OR wait IS NULL OR receipt_done.as_of + wait >= item.expires_at THEN
		PERFORM submeter.note_delivery(item.site_id, message.notice_id, (item.ref ->> 'outbound_id')::bigint, 'none', NULL);
		RETURN ROW(CASE WHEN receipt_done.outcome = 'answered' THEN 'delivered' ELSE 'failed' END, NULL, coalesce(said.detail, 'no receipt'))::submeter.outbound_verdict;
	END IF;
	RETURN ROW('queued', receipt_done.as_of + wait, said.detail)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.receipt_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'What a provider says of a message it had accepted: delivered, not delivered (the acceptance is taken back while the message is of use), or not known yet: asked again after a longer wait, at most six times.';

CREATE FUNCTION submeter.is_notice_of_use(site_id int, notice_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE n.kind
		-- As long as the trip it announces is still to come.
		WHEN 'trip_announced' THEN EXISTS (
				SELECT FROM submeter.account_state t
				JOIN submeter.notice a ON a.site_id = t.site_id AND a.notice_id = t.notice_id AND a.event = n.event
				WHERE t.site_id = n.site_id AND t.account_id = n.account_id AND t.arrears_since IS NOT NULL)
			AND NOT EXISTS (
				SELECT FROM submeter.supply y
				JOIN submeter.open_cause o ON o.site_id = y.site_id AND o.meter_id = y.meter_id AND o.cause = 'arrears'
				WHERE y.site_id = n.site_id AND y.account_id = n.account_id AND y.during @> is_notice_of_use.as_of)
		WHEN 'low_balance' THEN n.accepted_at > is_notice_of_use.as_of - interval '12 hours'
		WHEN 'tripped' THEN n.accepted_at > is_notice_of_use.as_of - interval '12 hours'
		WHEN 'press_key' THEN n.accepted_at > is_notice_of_use.as_of - interval '2 hours'
		WHEN 'bill_issued' THEN n.accepted_at > is_notice_of_use.as_of - interval '3 days'
		WHEN 'bill_due' THEN n.accepted_at > is_notice_of_use.as_of - interval '3 days'
		ELSE false END
	FROM submeter.notice n WHERE n.site_id = is_notice_of_use.site_id AND n.notice_id = is_notice_of_use.notice_id
$$;
COMMENT ON FUNCTION submeter.is_notice_of_use(int, bigint, timestamptz) IS
'Whether a message that did not arrive is worth sending another way now: an announcement while its trip is to come, the others for hours or days, a confirmation never.';

CREATE FUNCTION submeter.take_back_notice(site_id int, notice_id bigint, channel text, error text, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.notice;
	fresh jsonb;
BEGIN
	SELECT n.* INTO item FROM submeter.notice n
	WHERE n.site_id = take_back_notice.site_id AND n.notice_id = take_back_notice.notice_id AND n.state = 'accepted' AND n.channel = take_back_notice.channel FOR UPDATE;
	IF NOT FOUND OR NOT submeter.is_notice_of_use(item.site_id, item.notice_id, take_back_notice.as_of) THEN
		RETURN false;
	END IF;
	-- The lead time begins with the acceptance, so the day that an announcement names moves with it.
	SELECT item.facts || jsonb_build_object('due_at', to_char(greatest(t.trip_due_at, take_back_notice.as_of + t.lead) AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI')) INTO fresh
	FROM submeter.account_state t JOIN submeter.site s ON s.site_id = t.site_id
	WHERE item.kind = 'trip_announced' AND t.site_id = item.site_id AND t.account_id = item.account_id AND t.lead IS NOT NULL;
	UPDATE submeter.notice n
	SET state = 'queued', accepted_at = NULL, facts = f.facts, subject = coalesce(w.subject, n.subject), body = coalesce(w.body, n.body),
		tried = n.tried || take_back_notice.channel, undelivered = n.undelivered || take_back_notice.channel, next_try_at = take_back_notice.as_of,
		last_error = format('%s: not delivered: %s', take_back_notice.channel, take_back_notice.error)
	FROM (SELECT coalesce(fresh, item.facts) AS facts) f
	LEFT JOIN LATERAL submeter.notice_text(item.kind, item.locale, item.channel, f.facts) w ON true
	WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.take_back_notice(int, bigint, text, text, timestamptz) IS
'A channel had accepted a message and did not deliver it: it counts as not told (told_at() sees no acceptance any more) and the person''s next channel is tried at once. False when the message is of no use any more; then it stays as it was.';

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES
	('receipt', 'build_receipt', 'receipt_done', true, 6, 'whether a message that was accepted has arrived');

-- What each provider is asked and answers ------------------------------------------------------------------------------

CREATE FUNCTION submeter.china_time(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN china_time.value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}$' THEN china_time.value::timestamp AT TIME ZONE 'Asia/Shanghai' END;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.china_time(text) IS 'A time as Chinese providers write it; NULL when it is none.';

CREATE FUNCTION submeter.ask_receipt_aliyun(message submeter.notice_message, receipt text, sent_at timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.aliyun_call(ask_receipt_aliyun.message, 'QuerySendDetails', jsonb_build_object('PhoneNumber', submeter.aliyun_number((ask_receipt_aliyun.message).address),
		'BizId', ask_receipt_aliyun.receipt, 'SendDate', to_char(ask_receipt_aliyun.sent_at AT TIME ZONE 'Asia/Shanghai', 'YYYYMMDD'), 'PageSize', '10', 'CurrentPage', '1'))
$$;
COMMENT ON FUNCTION submeter.ask_receipt_aliyun(submeter.notice_message, text, timestamptz) IS 'Channel sms_aliyun: QuerySendDetails by number, day (in China) and BizId.';

CREATE FUNCTION submeter.judge_receipt_aliyun(message submeter.notice_message, receipt text, sent_at timestamptz, status int, body bytea) RETURNS submeter.receipt_verdict
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- SendStatus 1: no receipt of the operator yet, 2: failed, 3: arrived.
	SELECT CASE WHEN a.j ->> 'Code' IS DISTINCT FROM 'OK' THEN submeter.receipt_verdict('waiting', NULL, concat_ws(': ', coalesce(a.j ->> 'Code', format('answer %s', judge_receipt_aliyun.status)), a.j ->> 'Message'))
		WHEN a.d ->> 'SendStatus' = '3' THEN submeter.receipt_verdict('delivered', submeter.china_time(a.d ->> 'ReceiveDate'))
		WHEN a.d ->> 'SendStatus' = '2' THEN submeter.receipt_verdict('failed', NULL, coalesce(a.d ->> 'ErrCode', 'failed'))
		ELSE submeter.receipt_verdict('waiting') END
	FROM (SELECT j, CASE WHEN jsonb_typeof(j #> '{SmsSendDetailDTOs,SmsSendDetailDTO}') = 'array' THEN j #> '{SmsSendDetailDTOs,SmsSendDetailDTO,0}' END AS d
		FROM (SELECT submeter.answer_json(judge_receipt_aliyun.body) AS j) x) a
$$;
COMMENT ON FUNCTION submeter.judge_receipt_aliyun(submeter.notice_message, text, timestamptz, int, bytea) IS 'Channel sms_aliyun: SendStatus 3 arrived, 2 did not, anything else is not known yet.';

CREATE FUNCTION submeter.ask_receipt_tencent(message submeter.notice_message, receipt text, sent_at timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.tencent_call(ask_receipt_tencent.message, 'PullSmsSendStatusByPhoneNumber', jsonb_build_object('SmsSdkAppId', (ask_receipt_tencent.message).settings ->> 'app_id',
		'PhoneNumber', submeter.mobile_number((ask_receipt_tencent.message).address), 'Offset', 0, 'Limit', 100,
		-- Clocks differ a little.
		'BeginTime', floor(extract(epoch FROM ask_receipt_tencent.sent_at))::bigint - 300, 'EndTime', floor(extract(epoch FROM (ask_receipt_tencent.message).as_of))::bigint + 60))
$$;
COMMENT ON FUNCTION submeter.ask_receipt_tencent(submeter.notice_message, text, timestamptz) IS 'Channel sms_tencent: PullSmsSendStatusByPhoneNumber since the message was accepted.';

CREATE FUNCTION submeter.judge_receipt_tencent(message submeter.notice_message, receipt text, sent_at timestamptz, status int, body bytea) RETURNS submeter.receipt_verdict
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN a.j #> '{Response,Error}' IS NOT NULL OR a.j IS NULL
			THEN submeter.receipt_verdict('waiting', NULL, concat_ws(': ', coalesce(a.j #>> '{Response,Error,Code}', format('answer %s', judge_receipt_tencent.status)), a.j #>> '{Response,Error,Message}'))
		WHEN a.d ->> 'ReportStatus' = 'SUCCESS' THEN submeter.receipt_verdict('delivered', CASE WHEN a.d ->> 'UserReceiveTime' ~ '^[0-9]{9,10}$' THEN to_timestamp((a.d ->> 'UserReceiveTime')::bigint) END)
		WHEN a.d ->> 'ReportStatus' = 'FAIL' THEN submeter.receipt_verdict('failed', NULL, coalesce(a.d ->> 'Description', 'failed'))
		ELSE submeter.receipt_verdict('waiting') END
	FROM (SELECT x.j, (SELECT e FROM jsonb_path_query(x.j, '$.Response.PullSmsSendStatusSet[*]') e WHERE e ->> 'SerialNo' = judge_receipt_tencent.receipt LIMIT 1) AS d
		FROM (SELECT submeter.answer_json(judge_receipt_tencent.body) AS j) x) a
$$;
COMMENT ON FUNCTION submeter.judge_receipt_tencent(submeter.notice_message, text, timestamptz, int, bytea) IS 'Channel sms_tencent: the entry with our SerialNo says SUCCESS or FAIL; without one it is not known yet.';

CREATE FUNCTION submeter.ask_receipt_jpush(message submeter.notice_message, receipt text, sent_at timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.json_request((ask_receipt_jpush.message).endpoint || '/v3/status/message',
		jsonb_build_object('msg_id', substring(ask_receipt_jpush.receipt FROM '^[0-9]{1,20}$')::numeric, 'registration_ids', jsonb_build_array((ask_receipt_jpush.message).address),
			'date', to_char(ask_receipt_jpush.sent_at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD')),
		ARRAY[submeter.jpush_login(ask_receipt_jpush.message)])
$$;
COMMENT ON FUNCTION submeter.ask_receipt_jpush(submeter.notice_message, text, timestamptz) IS 'Channel jpush: the status of one message at one registration id. 55000 without the secret.';

CREATE FUNCTION submeter.judge_receipt_jpush(message submeter.notice_message, receipt text, sent_at timestamptz, status int, body bytea) RETURNS submeter.receipt_verdict
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 0: on the device, 1: not, or nobody told (an iPhone tells only when the app was made so: settings.reports says that it
	-- was), 2: no registration id of the app, 3: not sent to it, 4: an error of theirs.
	SELECT CASE WHEN a.d = '0' THEN submeter.receipt_verdict('delivered')
		WHEN a.d IN ('2', '3') THEN submeter.receipt_verdict('failed', NULL, format('the app is not known any more (status %s)', a.d), a.d = '2')
		WHEN a.d = '1' AND coalesce((judge_receipt_jpush.message).settings -> 'reports' = 'true', false) AND (judge_receipt_jpush.message).as_of >= judge_receipt_jpush.sent_at + interval '29 minutes' THEN submeter.receipt_verdict('failed', NULL, 'not on the device after half an hour')
		ELSE submeter.receipt_verdict('waiting', NULL, CASE WHEN a.d IS NULL THEN coalesce(a.j #>> '{error,message}', format('answer %s', judge_receipt_jpush.status)) END) END
	FROM (SELECT x.j, x.j -> (judge_receipt_jpush.message).address ->> 'status' AS d FROM (SELECT submeter.answer_json(judge_receipt_jpush.body) AS j) x) a
$$;
COMMENT ON FUNCTION submeter.judge_receipt_jpush(submeter.notice_message, text, timestamptz, int, bytea) IS 'Channel jpush: on the device, unknown to the app or, where the app reports (settings.reports), not there after half an hour; anything else is not known yet.';

UPDATE submeter.channel_kind k SET ask_receipt = v.ask, judge_receipt = v.judge, receipt_host = v.host
FROM (VALUES ('sms_aliyun', 'ask_receipt_aliyun', 'judge_receipt_aliyun', NULL), ('sms_tencent', 'ask_receipt_tencent', 'judge_receipt_tencent', NULL),
	('jpush', 'ask_receipt_jpush', 'judge_receipt_jpush', 'https://report.jpush.cn')) v(kind, ask, judge, host)
WHERE k.kind = v.kind;
