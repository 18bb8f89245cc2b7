-- Room: channels of notices, push to apps and browsers, and WeChat.

-- Push ---------------------------------------------------------------------------------------------------------------

CREATE FUNCTION submeter.jpush_login(message submeter.notice_message) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'Authorization: Basic ' || replace(encode(convert_to(format('%s:%s', (jpush_login.message).settings ->> 'app_key',
		submeter.channel_secret(jpush_login.message, 'master_secret')), 'UTF8'), 'base64'), E'\n', '')
$$;
COMMENT ON FUNCTION submeter.jpush_login(submeter.notice_message) IS 'Header by which JPush knows us. 55000 without the secret.';

CREATE FUNCTION submeter.build_jpush(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	-- All of it together has at most 4000 bytes as it stands in JSON, where a quote takes two.
	SELECT submeter.json_request((build_jpush.message).endpoint || '/v3/push', jsonb_build_object('platform', 'all',
		'audience', jsonb_build_object('registration_id', jsonb_build_array((build_jpush.message).address)),
		'notification', jsonb_build_object('alert', t.title,
			'android', jsonb_build_object('title', t.title, 'alert', t.alert, 'extras', jsonb_build_object('kind', (build_jpush.message).kind)),
			'ios', jsonb_build_object('alert', jsonb_build_object('title', t.title, 'body', t.alert), 'extras', jsonb_build_object('kind', (build_jpush.message).kind))),
		'options', jsonb_build_object('time_to_live', 86400, 'apns_production', coalesce((build_jpush.message).settings -> 'production', 'true'))),
		ARRAY[submeter.jpush_login(build_jpush.message)])
	FROM (SELECT submeter.text_within((build_jpush.message).subject, 150) AS title, submeter.text_within((build_jpush.message).body, 600) AS alert) t
$$;
COMMENT ON FUNCTION submeter.build_jpush(submeter.notice_message) IS 'Channel jpush: push v3 to one registration id. 55000 without the secret.';

CREATE FUNCTION submeter.judge_jpush(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 1011: nobody registered under this id (any more); 2002: over the rate.
	SELECT CASE WHEN judge_jpush.status = 200 AND a.j ? 'msg_id' THEN submeter.channel_verdict('delivered', a.j ->> 'msg_id', NULL)
		WHEN a.j #>> '{error,code}' = '2002' THEN submeter.channel_verdict('queued', NULL, 'over the rate of the plan')
		ELSE submeter.channel_verdict('failed', NULL, coalesce(a.j #>> '{error,message}', format('answer %s', judge_jpush.status)), coalesce(a.j #>> '{error,code}' = '1011', false)) END
	FROM (SELECT submeter.answer_json(judge_jpush.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_jpush(int, bytea, timestamptz) IS 'Channel jpush: 200 with a msg_id is taken; an unknown registration id is forgotten.';

CREATE FUNCTION submeter.vapid_token(audience text, subject text, private_key bytea, as_of timestamptz) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.signed || '.' || submeter.base64url(submeter.es256_sign(convert_to(t.signed, 'UTF8'), vapid_token.private_key))
	FROM (SELECT submeter.base64url('{"typ":"JWT","alg":"ES256"}') || '.' || submeter.base64url(convert_to(json_build_object('aud', vapid_token.audience,
		'exp', floor(extract(epoch FROM vapid_token.as_of))::bigint + 12 * 3600, 'sub', vapid_token.subject)::text, 'UTF8')) AS signed) t
$$;
COMMENT ON FUNCTION submeter.vapid_token(text, text, bytea, timestamptz) IS 'Who pushes (RFC 8292): a token for the push service, good for 12 hours.';

CREATE FUNCTION submeter.webpush_text(message submeter.notice_message) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	room int := 3000;
	plain bytea;
BEGIN
	-- 3993 bytes as they stand in JSON, where quotes and line breaks take more than one each.
	LOOP
		plain := convert_to(jsonb_build_object('title', submeter.text_within(webpush_text.message.subject, least(room, 400)), 'body', submeter.text_within(webpush_text.message.body, room),
			'kind', webpush_text.message.kind, 'notice_id', webpush_text.message.notice_id)::text, 'UTF8');
		EXIT WHEN octet_length(plain) <= 3993;
		room := room / 2;
	END LOOP;
	RETURN plain;
END
$$;
COMMENT ON FUNCTION submeter.webpush_text(submeter.notice_message) IS 'What a browser is told: JSON with title, body, kind and notice_id, at most 3993 bytes.';

CREATE FUNCTION submeter.build_webpush(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key bytea := submeter.secret_value(message.site_id, format('channel/%s/private_key', message.channel));
BEGIN
	RETURN ROW('POST', message.address, ARRAY['Content-Type: application/octet-stream', 'Content-Encoding: aes128gcm', 'TTL: 86400',
			'Urgency: ' || CASE WHEN message.urgent THEN 'high' ELSE 'normal' END,
			format('Authorization: vapid t=%s, k=%s', submeter.vapid_token(substring(message.address FROM '^https?://[^/]+'), message.settings ->> 'subject', key, message.as_of),
				submeter.base64url(submeter.push_public_key(key)))],
		submeter.push_seal(submeter.webpush_text(message),
			submeter.base64url_bytes(message.device_keys ->> 'p256dh'), submeter.base64url_bytes(message.device_keys ->> 'auth')),
		15000, '{}'::jsonb)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.build_webpush(submeter.notice_message) IS 'Channel webpush: sealed for the browser (RFC 8291), signed by us (RFC 8292). 55000 without make_push_key().';

CREATE FUNCTION submeter.judge_webpush(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN judge_webpush.status BETWEEN 200 AND 299 THEN submeter.channel_verdict('delivered', NULL, NULL)
		ELSE submeter.channel_verdict('failed', NULL, format('the push service answered %s', judge_webpush.status), judge_webpush.status IN (404, 410)) END
$$;
COMMENT ON FUNCTION submeter.judge_webpush(int, bytea, timestamptz) IS 'Channel webpush: 2xx is taken; after 404 and 410 the subscription is forgotten.';

-- WeChat -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION submeter.wechat_field(message submeter.notice_message, key text, name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The most letters of a field by its type, which its name says (thing1, amount2 …).
	SELECT submeter.text_of(submeter.sms_field(wechat_field.message, wechat_field.name), CASE substring(wechat_field.key FROM '^[a-z_]+')
		WHEN 'character_string' THEN 32 WHEN 'number' THEN 32 WHEN 'letter' THEN 32 WHEN 'phone_number' THEN 17 WHEN 'name' THEN 10 WHEN 'phrase' THEN 5 WHEN 'symbol' THEN 5
		WHEN 'car_number' THEN 8 WHEN 'time' THEN 32 WHEN 'date' THEN 32 ELSE 20 END)
$$;
COMMENT ON FUNCTION submeter.wechat_field(submeter.notice_message, text, text) IS 'A fact as a field of a WeChat template, cut to what a field of its type takes.';

CREATE FUNCTION submeter.build_wechat_template(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	template jsonb := message.settings #> ARRAY['templates', message.kind];
	token text := submeter.wechat_token(message.site_id, message.channel, message.as_of);
BEGIN
	IF coalesce(template ->> 'id', '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the channel has no template for %s', message.kind),
			HINT = format('Add it at the WeChat account and put its id into settings.templates.%s.', message.kind);
	END IF;
	-- client_msg_id lets WeChat drop what it has already.
	RETURN submeter.json_request(message.endpoint || '/cgi-bin/message/template/send?access_token=' || submeter.url_encode(token), jsonb_strip_nulls(jsonb_build_object(
		'touser', message.address, 'template_id', template ->> 'id', 'url', template ->> 'url', 'client_msg_id', format('%s.%s', message.site_id, message.notice_id),
		'data', coalesce((SELECT jsonb_object_agg(f.key, jsonb_build_object('value', submeter.wechat_field(message, f.key, f.value))) FROM jsonb_each_text(template -> 'fields') f), '{}'))));
END
$$;
COMMENT ON FUNCTION submeter.build_wechat_template(submeter.notice_message) IS 'Channel wechat: a template message to an openid. 22023 without a template for the occasion, 55000 while there is no access token.';

CREATE FUNCTION submeter.judge_wechat_template(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 40001, 40014, 42001: the token; 43004, 43101, 40003: this person is not to be reached; 45009: over the day's quota.
	SELECT CASE WHEN a.j ->> 'errcode' = '0' THEN submeter.channel_verdict('delivered', a.j ->> 'msgid', NULL)
		WHEN a.j ->> 'errcode' IN ('40001', '40014', '42001') THEN submeter.channel_verdict('queued', NULL, 'the access token is no longer good')
		ELSE submeter.channel_verdict('failed', NULL, concat_ws(': ', coalesce(a.j ->> 'errcode', format('answer %s', judge_wechat_template.status)), a.j ->> 'errmsg'),
			coalesce(a.j ->> 'errcode' IN ('40003', '43004'), false)) END
	FROM (SELECT submeter.answer_json(judge_wechat_template.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_wechat_template(int, bytea, timestamptz) IS 'Channel wechat: errcode 0 with a msgid is taken; who does not follow the account any more is forgotten.';

CREATE FUNCTION submeter.wechat_token(site_id int, channel text, as_of timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	kept bytea;
BEGIN
	SELECT t.sealed INTO kept FROM submeter.channel_token t
	WHERE t.site_id = wechat_token.site_id AND t.channel = wechat_token.channel AND t.expires_at > wechat_token.as_of;
	IF kept IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('channel %s has no access token yet', wechat_token.channel),
			HINT = 'It is fetched by the courier; look at submeter.outbound of kind wechat_token when it does not come.';
	END IF;
	RETURN convert_from(submeter.secret_unseal(kept, format('token:%s:%s', wechat_token.site_id, wechat_token.channel)), 'UTF8');
END
$$;
COMMENT ON FUNCTION submeter.wechat_token(int, text, timestamptz) IS 'The one access token of a WeChat channel. 55000 while there is none.';

CREATE FUNCTION submeter.ask_wechat_token(site_id int, channel text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	way submeter.notice_channel;
BEGIN
	-- One asks for all: a second token would make the first one invalid.
	SELECT c.* INTO STRICT way FROM submeter.notice_channel c
	WHERE c.site_id = ask_wechat_token.site_id AND c.channel = ask_wechat_token.channel FOR UPDATE;
	PERFORM submeter.queue_outbound(way.site_id, 'wechat_token', jsonb_build_object('channel', way.channel), submeter.channel_host(way.kind, way.settings, NULL), way.channel,
		NULL, ask_wechat_token.as_of + interval '1 hour', way.channel);
END
$$;
COMMENT ON FUNCTION submeter.ask_wechat_token(int, text, timestamptz) IS 'Has the courier fetch the access token of a WeChat channel; once, however many want it.';

CREATE FUNCTION submeter.build_wechat_token(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.json_request(coalesce(w.settings ->> 'endpoint', k.host) || '/cgi-bin/stable_token', jsonb_build_object('grant_type', 'client_credential',
		'appid', w.settings ->> 'appid', 'secret', submeter.secret_text(w.site_id, format('channel/%s/app_secret', w.channel))))
	FROM submeter.outbound o
	JOIN submeter.notice_channel w ON w.site_id = o.site_id AND w.channel = o.ref ->> 'channel'
	JOIN submeter.channel_kind k ON k.kind = w.kind
	WHERE o.site_id = build_wechat_token.site_id AND o.outbound_id = build_wechat_token.outbound_id
$$;
COMMENT ON FUNCTION submeter.build_wechat_token(int, bigint, timestamptz) IS 'Asks WeChat for an access token; the stable kind, which two askers share.';

CREATE FUNCTION submeter.wechat_token_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
	name text := (SELECT o.ref ->> 'channel' FROM submeter.outbound o WHERE o.site_id = wechat_token_done.site_id AND o.outbound_id = wechat_token_done.outbound_id);
	answer jsonb := submeter.answer_json(wechat_token_done.body);
BEGIN
	IF wechat_token_done.outcome <> 'answered' OR wechat_token_done.status >= 500 THEN
		RETURN NULL;
	END IF;
	IF coalesce(answer ->> 'access_token', '') = '' THEN
		RETURN ROW('failed', NULL, concat_ws(': ', answer ->> 'errcode', answer ->> 'errmsg'))::submeter.outbound_verdict;
	END IF;
	INSERT INTO submeter.channel_token AS t (site_id, channel, sealed, expires_at)
	VALUES (wechat_token_done.site_id, name, submeter.secret_seal(convert_to(answer ->> 'access_token', 'UTF8'), format('token:%s:%s', wechat_token_done.site_id, name)),
		wechat_token_done.as_of + interval '1 s' * greatest(coalesce((answer ->> 'expires_in')::int, 7200) - 300, 60))
	ON CONFLICT ON CONSTRAINT channel_token_pkey DO UPDATE SET sealed = EXCLUDED.sealed, expires_at = EXCLUDED.expires_at;
	RETURN ROW('delivered', NULL, NULL)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.wechat_token_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS 'Keeps the access token WeChat gave, sealed, until five minutes before its end.';

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, keeps_answer, description) VALUES
	('wechat_token', 'build_wechat_token', 'wechat_token_done', true, 6, false, 'the access token of a WeChat account');
