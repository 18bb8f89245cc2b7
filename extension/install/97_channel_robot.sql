-- Room: channels of notices, robots in rooms and hooks of others.

CREATE FUNCTION submeter.build_dingtalk(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stamp text := floor(extract(epoch FROM message.as_of) * 1000)::bigint::text;
	sign text := '';
	secret text;
BEGIN
	IF submeter.has_channel_secret(message, 'sign') THEN
		-- The secret is the key, and part of what is signed.
		secret := submeter.channel_secret(message, 'sign');
		sign := format('&timestamp=%s&sign=%s', stamp,
			submeter.url_encode(encode(submeter.hmac('sha256', convert_to(secret, 'UTF8'), convert_to(stamp || E'\n' || secret, 'UTF8')), 'base64')));
	END IF;
	RETURN submeter.json_request(format('%s/robot/send?access_token=%s%s', message.endpoint, submeter.url_encode(submeter.channel_secret(message, 'token')), sign),
		jsonb_build_object('msgtype', 'text', 'text', jsonb_build_object('content', submeter.text_within(message.subject || E'\n' || message.body, 8000))));
END
$$;
COMMENT ON FUNCTION submeter.build_dingtalk(submeter.notice_message) IS 'Channel dingtalk: a text by a robot, signed when the secret sign is set. 55000 without the token.';

CREATE FUNCTION submeter.build_feishu(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stamp text := floor(extract(epoch FROM message.as_of))::bigint::text;
	sign jsonb := '{}';
BEGIN
	IF submeter.has_channel_secret(message, 'sign') THEN
		-- Here time and secret together are the key, and nothing is signed with it.
		sign := jsonb_build_object('timestamp', stamp,
			'sign', encode(submeter.hmac('sha256', convert_to(stamp || E'\n' || submeter.channel_secret(message, 'sign'), 'UTF8'), ''), 'base64'));
	END IF;
	RETURN submeter.json_request(format('%s/open-apis/bot/v2/hook/%s', message.endpoint, submeter.url_encode(submeter.channel_secret(message, 'token'))),
		sign || jsonb_build_object('msg_type', 'text', 'content', jsonb_build_object('text', submeter.text_within(message.subject || E'\n' || message.body, 8000))));
END
$$;
COMMENT ON FUNCTION submeter.build_feishu(submeter.notice_message) IS 'Channel feishu: a text by a robot, signed when the secret sign is set. 55000 without the token.';

CREATE FUNCTION submeter.build_wecom(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.json_request(format('%s/cgi-bin/webhook/send?key=%s', (build_wecom.message).endpoint, submeter.url_encode(submeter.channel_secret(build_wecom.message, 'token'))),
		jsonb_build_object('msgtype', 'text', 'text', jsonb_build_object('content', submeter.text_within((build_wecom.message).subject || E'\n' || (build_wecom.message).body, 2048))))
$$;
COMMENT ON FUNCTION submeter.build_wecom(submeter.notice_message) IS 'Channel wecom: a text of at most 2048 bytes by a robot. 55000 without the token.';

CREATE FUNCTION submeter.judge_errcode(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 45009 (WeCom), 130101 and 410100 (DingTalk): too many in a minute.
	SELECT CASE WHEN a.j ->> 'errcode' = '0' THEN submeter.channel_verdict('delivered', NULL, NULL)
		WHEN a.j ->> 'errcode' IN ('45009', '130101', '410100') THEN submeter.channel_verdict('queued', NULL, 'over the rate of the robot')
		ELSE submeter.channel_verdict('failed', NULL, concat_ws(': ', coalesce(a.j ->> 'errcode', format('answer %s', judge_errcode.status)), a.j ->> 'errmsg')) END
	FROM (SELECT submeter.answer_json(judge_errcode.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_errcode(int, bytea, timestamptz) IS 'Robots of DingTalk and WeCom: errcode 0 in the body is taken, whatever the HTTP status.';

CREATE FUNCTION submeter.judge_feishu(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN coalesce(a.j ->> 'code', a.j ->> 'StatusCode') = '0' THEN submeter.channel_verdict('delivered', NULL, NULL)
		WHEN a.j ->> 'code' IN ('11232', '9499') THEN submeter.channel_verdict('queued', NULL, 'over the rate of the robot')
		ELSE submeter.channel_verdict('failed', NULL, concat_ws(': ', coalesce(a.j ->> 'code', format('answer %s', judge_feishu.status)), a.j ->> 'msg')) END
	FROM (SELECT submeter.answer_json(judge_feishu.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_feishu(int, bytea, timestamptz) IS 'Robot of Feishu: code 0 in the body is taken, whatever the HTTP status.';

CREATE FUNCTION submeter.build_webhook(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stamp text := floor(extract(epoch FROM message.as_of))::bigint::text;
	body bytea := convert_to(jsonb_build_object('id', format('%s.%s', message.site_id, message.notice_id), 'site_id', message.site_id, 'kind', message.kind, 'locale', message.locale,
		'recipient', message.recipient, 'subject', message.subject, 'body', message.body, 'facts', message.facts, 'urgent', message.urgent)::text, 'UTF8');
BEGIN
	RETURN ROW('POST', message.settings ->> 'url', ARRAY['Content-Type: application/json; charset=utf-8', format('Idempotency-Key: %s.%s', message.site_id, message.notice_id),
			format('X-Submeter-Signature: t=%s,v1=%s', stamp, encode(submeter.hmac('sha256', convert_to(submeter.channel_secret(message, 'key'), 'UTF8'),
				convert_to(stamp || '.', 'UTF8') || body), 'hex'))],
		body, 15000, '{}'::jsonb)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.build_webhook(submeter.notice_message) IS 'Channel webhook: the notice as JSON, signed with the secret key; Idempotency-Key is the same when it is sent again. 55000 without the key.';

CREATE FUNCTION submeter.judge_status(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN submeter.channel_verdict(CASE WHEN judge_status.status BETWEEN 200 AND 299 THEN 'delivered' ELSE 'failed' END, NULL,
		CASE WHEN judge_status.status >= 300 THEN format('answer %s', judge_status.status) END);
END
$$;
COMMENT ON FUNCTION submeter.judge_status(int, bytea, timestamptz) IS 'Any 2xx is taken.';
