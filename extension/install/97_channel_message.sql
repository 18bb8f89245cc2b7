-- Room: channels of notices, how each is spoken to. One function makes a request, one judges the answer; what the
-- providers want is from their documents. Nothing here touches a table but for secrets and tokens.

CREATE FUNCTION submeter.channel_secret(message submeter.notice_message, name text) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.secret_text((channel_secret.message).site_id, format('channel/%s/%s', (channel_secret.message).channel, channel_secret.name))
$$;
COMMENT ON FUNCTION submeter.channel_secret(submeter.notice_message, text) IS 'A secret of the message''s channel. 55000 when it is not set.';

CREATE FUNCTION submeter.has_channel_secret(message submeter.notice_message, name text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM submeter.secret s
		WHERE s.site_id = (has_channel_secret.message).site_id AND s.name = format('channel/%s/%s', (has_channel_secret.message).channel, has_channel_secret.name))
$$;
COMMENT ON FUNCTION submeter.has_channel_secret(submeter.notice_message, text) IS 'Whether a secret of the message''s channel is set.';

CREATE FUNCTION submeter.json_request(url text, body jsonb, headers text[] DEFAULT '{}') RETURNS submeter.outbound_request
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW('POST', json_request.url, ARRAY['Content-Type: application/json; charset=utf-8'] || json_request.headers,
		convert_to(json_request.body::text, 'UTF8'), 15000, '{}'::jsonb)::submeter.outbound_request
$$;
COMMENT ON FUNCTION submeter.json_request(text, jsonb, text[]) IS 'A POST of JSON.';

CREATE FUNCTION submeter.answer_json(body bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN convert_from(answer_json.body, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.answer_json(bytea) IS 'A provider''s answer as JSON; NULL when it is none.';

CREATE FUNCTION submeter.text_within(value text, bytes int) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whole bytea := convert_to(text_within.value, 'UTF8');
	-- Room for the dots.
	cut int := text_within.bytes - 3;
BEGIN
	IF octet_length(whole) <= text_within.bytes THEN
		RETURN text_within.value;
	END IF;
	-- Bytes 10xxxxxx continue a character.
	WHILE cut > 0 AND get_byte(whole, cut) & 192 = 128 LOOP
		cut := cut - 1;
	END LOOP;
	RETURN convert_from(substring(whole FROM 1 FOR cut), 'UTF8') || '…';
END
$$;
COMMENT ON FUNCTION submeter.text_within(text, int) IS 'A text in at most so many bytes of UTF-8, cut between two characters and marked by dots.';

CREATE FUNCTION submeter.text_of(value text, letters int) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN length(text_of.value) <= text_of.letters THEN text_of.value ELSE left(text_of.value, text_of.letters - 1) || '…' END
$$;
COMMENT ON FUNCTION submeter.text_of(text, int) IS 'A text in at most so many letters, marked by dots where it was cut.';

CREATE FUNCTION submeter.channel_verdict(state text, receipt text, detail text, gone boolean DEFAULT false) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW(channel_verdict.state, channel_verdict.receipt, left(channel_verdict.detail, 300), channel_verdict.gone)::submeter.channel_verdict
$$;
COMMENT ON FUNCTION submeter.channel_verdict(text, text, text, boolean) IS 'A verdict of a channel.';

-- E-mail -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION submeter.mail_base64(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- encode() breaks lines after 76 letters with a line feed; mail wants both.
	SELECT replace(encode(mail_base64.bytes, 'base64'), E'\n', E'\r\n')
$$;
COMMENT ON FUNCTION submeter.mail_base64(bytea) IS 'Base64 in lines as mail wants them.';

CREATE FUNCTION submeter.mail_html(message submeter.notice_message) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('<!DOCTYPE html><html lang="%s"><head><meta charset="utf-8"><title>%s</title></head>'
		'<body style="margin:0;background:#f4f5f7"><div style="max-width:560px;margin:0 auto;padding:24px;background:#fff;color:#1c1e21;font:16px/1.6 sans-serif">'
		'<h1 style="margin:0 0 16px;font-size:20px;%s">%s</h1>%s</div></body></html>',
		(mail_html.message).locale, submeter.html_text((mail_html.message).subject), CASE WHEN (mail_html.message).urgent THEN 'color:#b3261e' ELSE '' END,
		submeter.html_text((mail_html.message).subject),
		(SELECT string_agg('<p style="margin:0 0 12px">' || replace(submeter.html_text(p.paragraph), E'\n', '<br>') || '</p>', '' ORDER BY p.ord)
			FROM regexp_split_to_table((mail_html.message).body, E'\n\n+') WITH ORDINALITY p(paragraph, ord)))
$$;
COMMENT ON FUNCTION submeter.mail_html(submeter.notice_message) IS 'The HTML of a mail: the text in paragraphs, nothing loaded from elsewhere.';

CREATE FUNCTION submeter.mail_part(type text, content text, boundary text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat('--', mail_part.boundary, E'\r\nContent-Type: ', mail_part.type, E'; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n',
		submeter.mail_base64(convert_to(mail_part.content, 'UTF8')), E'\r\n')
$$;
COMMENT ON FUNCTION submeter.mail_part(text, text, text) IS 'A part of a MIME message.';

CREATE FUNCTION submeter.mail_attachment(message submeter.notice_message, boundary text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The bill itself goes along with the message about it.
	SELECT concat('--', mail_attachment.boundary, E'\r\nContent-Type: text/html; charset=utf-8; name="bill-', d.number, E'.html"\r\nContent-Disposition: attachment; filename="bill-', d.number,
		E'.html"\r\nContent-Transfer-Encoding: base64\r\n\r\n', submeter.mail_base64(convert_to(submeter.bill_document((mail_attachment.message).site_id, d.number, (mail_attachment.message).locale), 'UTF8')), E'\r\n')
	FROM (SELECT substring((mail_attachment.message).facts ->> 'number' FROM '^[0-9]{1,18}$')::bigint AS number) d
	WHERE (mail_attachment.message).kind IN ('bill_issued', 'bill_due') AND submeter.bill_document((mail_attachment.message).site_id, d.number, 'en') IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.mail_attachment(submeter.notice_message, text) IS 'What is attached to a mail: the bill it is about; NULL for other mails.';

CREATE FUNCTION submeter.mail_text(message submeter.notice_message) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat(
		'Date: ', submeter.mail_date((mail_text.message).as_of), E'\r\n',
		'From: ', submeter.notice_header(coalesce(u.settings ->> 'from_name', 'Submeter'), true), ' <', submeter.notice_header(u.settings ->> 'from'), E'>\r\n',
		'To: ', submeter.notice_header((mail_text.message).recipient, true), ' <', submeter.notice_header((mail_text.message).address), E'>\r\n',
		'Subject: ', submeter.notice_header((mail_text.message).subject), E'\r\n',
		-- The same message tried again is the same message to whoever gets it twice.
		'Message-ID: <notice.', (mail_text.message).site_id, '.', (mail_text.message).notice_id, '@', coalesce(substring(u.settings ->> 'from' FROM '@(.+)$'), 'submeter.localhost'), E'>\r\n',
		E'Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n',
		CASE WHEN u.attached IS NOT NULL THEN concat('Content-Type: multipart/mixed; boundary="', u.boundary, E'-whole"\r\n\r\n--', u.boundary, E'-whole\r\n') END,
		'Content-Type: multipart/alternative; boundary="', u.boundary, E'"\r\n\r\n',
		submeter.mail_part('text/plain', regexp_replace((mail_text.message).body, E'\r?\n', E'\r\n', 'g'), u.boundary),
		submeter.mail_part('text/html', submeter.mail_html(mail_text.message), u.boundary),
		'--', u.boundary, E'--\r\n', u.attached, CASE WHEN u.attached IS NOT NULL THEN concat('--', u.boundary, E'-whole--\r\n') END)
	FROM (SELECT (mail_text.message).settings AS settings, d.boundary, submeter.mail_attachment(mail_text.message, d.boundary || '-whole') AS attached
		FROM (SELECT '=_' || left(submeter.sha256_hex(convert_to(format('%s.%s', (mail_text.message).site_id, (mail_text.message).notice_id), 'UTF8')), 24) AS boundary) d) u
$$;
COMMENT ON FUNCTION submeter.mail_text(submeter.notice_message) IS
'A mail as RFC 5322 and MIME want it: text and HTML, and the bill when it is about one. Whoever gets one twice sees one Message-ID. 22023 for control characters in a header.';

CREATE FUNCTION submeter.build_mail(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW('MAIL', (build_mail.message).settings ->> 'url', '{}'::text[], convert_to(submeter.mail_text(build_mail.message), 'UTF8'), 60000,
		jsonb_strip_nulls(jsonb_build_object('from', (build_mail.message).settings ->> 'from', 'to', jsonb_build_array((build_mail.message).address),
			'starttls', coalesce((build_mail.message).settings -> 'starttls', 'true'), 'user', (build_mail.message).settings ->> 'user',
			'password', CASE WHEN (build_mail.message).settings ? 'user' THEN submeter.channel_secret(build_mail.message, 'password') END)))::submeter.outbound_request
$$;
COMMENT ON FUNCTION submeter.build_mail(submeter.notice_message) IS 'Channel mail: SMTP, with STARTTLS unless settings.starttls is false. 55000 without the password of its user.';

CREATE FUNCTION submeter.judge_mail(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.channel_verdict(CASE WHEN judge_mail.status BETWEEN 200 AND 299 THEN 'delivered' ELSE 'failed' END, NULL,
		CASE WHEN judge_mail.status >= 300 THEN format('the mail server answered %s', judge_mail.status) END)
$$;
COMMENT ON FUNCTION submeter.judge_mail(int, bytea, timestamptz) IS 'Channel mail: 2yz is taken.';

-- SMS ----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION submeter.sms_template(message submeter.notice_message) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce((sms_template.message).settings #>> ARRAY['templates', (sms_template.message).kind, 'code'], '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the channel has no template for %s', (sms_template.message).kind),
			HINT = format('Have one approved by the provider and put it into settings.templates.%s.', (sms_template.message).kind);
	END IF;
	RETURN (sms_template.message).settings #> ARRAY['templates', (sms_template.message).kind];
END
$$;
COMMENT ON FUNCTION submeter.sms_template(submeter.notice_message) IS 'The approved template for the occasion: {"code", "fields"}. 22023 when there is none.';

CREATE FUNCTION submeter.sms_field(message submeter.notice_message, name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.text_of(regexp_replace(coalesce((sms_field.message).facts ->> sms_field.name, '-'), '[[:cntrl:]]', ' ', 'g'), 35)
$$;
COMMENT ON FUNCTION submeter.sms_field(submeter.notice_message, text) IS 'A fact as a field of an SMS: one line, at most 35 letters, as the providers want.';

CREATE FUNCTION submeter.aliyun_number(phone text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ltrim(regexp_replace(submeter.mobile_number(aliyun_number.phone), '^\+86', ''), '+')
$$;
COMMENT ON FUNCTION submeter.aliyun_number(text) IS 'A mobile number as Aliyun wants it: 11 digits of the mainland, country code and number abroad, without +.';

CREATE FUNCTION submeter.aliyun_call(message submeter.notice_message, action text, parameters jsonb) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	host text := regexp_replace(aliyun_call.message.endpoint, '^[a-z]+://', '');
	stamp text := to_char(aliyun_call.message.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
	nonce text := gen_random_uuid()::text;
	payload text := submeter.sha256_hex('');
	query text;
	signed text := 'host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version';
	canonical text;
BEGIN
	-- ACS3-HMAC-SHA256: everything is in the query, sorted by name.
	SELECT string_agg(submeter.url_encode(p.key) || '=' || submeter.url_encode(p.value), '&' ORDER BY p.key COLLATE "C") INTO query
	FROM jsonb_each_text(aliyun_call.parameters) p;
	canonical := concat_ws(E'\n', 'POST', '/', query, 'host:' || host, 'x-acs-action:' || aliyun_call.action, 'x-acs-content-sha256:' || payload, 'x-acs-date:' || stamp,
		'x-acs-signature-nonce:' || nonce, 'x-acs-version:2017-05-25', '', signed, payload);
	RETURN ROW('POST', aliyun_call.message.endpoint || '/?' || query, ARRAY['x-acs-action: ' || aliyun_call.action, 'x-acs-version: 2017-05-25', 'x-acs-date: ' || stamp,
			'x-acs-signature-nonce: ' || nonce, 'x-acs-content-sha256: ' || payload,
			format('Authorization: ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%s', aliyun_call.message.settings ->> 'key_id', signed,
				encode(submeter.hmac('sha256', convert_to(submeter.channel_secret(aliyun_call.message, 'key_secret'), 'UTF8'),
					convert_to('ACS3-HMAC-SHA256' || E'\n' || submeter.sha256_hex(convert_to(canonical, 'UTF8')), 'UTF8')), 'hex'))],
		''::bytea, 15000, '{"fresh":true}'::jsonb)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.aliyun_call(submeter.notice_message, text, jsonb) IS 'A call of Aliyun''s SMS interface of 2017-05-25, signed by ACS3-HMAC-SHA256. 55000 without the secret.';

CREATE FUNCTION submeter.build_sms_aliyun(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	template jsonb := submeter.sms_template(message);
BEGIN
	RETURN submeter.aliyun_call(message, 'SendSms', jsonb_build_object('PhoneNumbers', submeter.aliyun_number(message.address), 'SignName', message.settings ->> 'sign_name',
		'TemplateCode', template ->> 'code', 'OutId', format('%s.%s', message.site_id, message.notice_id),
		'TemplateParam', coalesce((SELECT jsonb_object_agg(f.key, submeter.sms_field(message, f.value)) FROM jsonb_each_text(template -> 'fields') f), '{}')::text));
END
$$;
COMMENT ON FUNCTION submeter.build_sms_aliyun(submeter.notice_message) IS 'Channel sms_aliyun: SendSms of 2017-05-25, signed by ACS3-HMAC-SHA256. 22023 without a template for the occasion, 55000 without the secret.';

CREATE FUNCTION submeter.judge_sms_aliyun(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Whatever the HTTP status is, only the code OK means that it was taken.
	SELECT CASE WHEN a.j ->> 'Code' = 'OK' THEN submeter.channel_verdict('delivered', a.j ->> 'BizId', NULL)
		ELSE submeter.channel_verdict('failed', a.j ->> 'RequestId', coalesce(a.j ->> 'Code', format('answer %s', judge_sms_aliyun.status)) || ': ' || coalesce(a.j ->> 'Message', '')) END
	FROM (SELECT submeter.answer_json(judge_sms_aliyun.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_sms_aliyun(int, bytea, timestamptz) IS 'Channel sms_aliyun: Code OK with a BizId is taken, everything else is not, whatever the HTTP status.';

CREATE FUNCTION submeter.tencent_call(message submeter.notice_message, action text, parameters jsonb) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	host text := regexp_replace(tencent_call.message.endpoint, '^[a-z]+://', '');
	stamp text := floor(extract(epoch FROM tencent_call.message.as_of))::bigint::text;
	day text := to_char(tencent_call.message.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD');
	body bytea := convert_to(tencent_call.parameters::text, 'UTF8');
	scope text := day || '/sms/tc3_request';
	canonical text;
	key bytea;
BEGIN
	canonical := concat_ws(E'\n', 'POST', '/', '', 'content-type:application/json; charset=utf-8', 'host:' || host, 'x-tc-action:' || lower(tencent_call.action), '',
		'content-type;host;x-tc-action', submeter.sha256_hex(body));
	-- TC3-HMAC-SHA256: a key for the day, the service and the request.
	key := submeter.hmac('sha256', convert_to('TC3' || submeter.channel_secret(tencent_call.message, 'secret_key'), 'UTF8'), convert_to(day, 'UTF8'));
	key := submeter.hmac('sha256', submeter.hmac('sha256', key, 'sms'), 'tc3_request');
	RETURN ROW('POST', tencent_call.message.endpoint || '/', ARRAY['Content-Type: application/json; charset=utf-8', 'X-TC-Action: ' || tencent_call.action, 'X-TC-Version: 2021-01-11',
			'X-TC-Region: ' || coalesce(tencent_call.message.settings ->> 'region', 'ap-guangzhou'), 'X-TC-Timestamp: ' || stamp,
			format('Authorization: TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=content-type;host;x-tc-action, Signature=%s', tencent_call.message.settings ->> 'secret_id', scope,
				encode(submeter.hmac('sha256', key, convert_to(concat_ws(E'\n', 'TC3-HMAC-SHA256', stamp, scope, submeter.sha256_hex(convert_to(canonical, 'UTF8'))), 'UTF8')), 'hex'))],
		body, 15000, '{"fresh":true}'::jsonb)::submeter.outbound_request;
END
$$;
COMMENT ON FUNCTION submeter.tencent_call(submeter.notice_message, text, jsonb) IS 'A call of Tencent Cloud''s SMS interface of 2021-01-11, signed by TC3-HMAC-SHA256. 55000 without the secret.';

CREATE FUNCTION submeter.build_sms_tencent(message submeter.notice_message) RETURNS submeter.outbound_request
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	template jsonb := submeter.sms_template(message);
BEGIN
	RETURN submeter.tencent_call(message, 'SendSms', jsonb_build_object('PhoneNumberSet', jsonb_build_array(submeter.mobile_number(message.address)),
		'SmsSdkAppId', message.settings ->> 'app_id', 'SignName', message.settings ->> 'sign_name', 'TemplateId', template ->> 'code',
		'TemplateParamSet', coalesce((SELECT jsonb_agg(submeter.sms_field(message, f.name) ORDER BY f.ord)
			FROM jsonb_array_elements_text(template -> 'fields') WITH ORDINALITY f(name, ord)), '[]'),
		'SessionContext', format('%s.%s', message.site_id, message.notice_id)));
END
$$;
COMMENT ON FUNCTION submeter.build_sms_tencent(submeter.notice_message) IS 'Channel sms_tencent: SendSms of 2021-01-11, signed by TC3-HMAC-SHA256. 22023 without a template for the occasion, 55000 without the secret.';

CREATE FUNCTION submeter.judge_sms_tencent(status int, body bytea, as_of timestamptz) RETURNS submeter.channel_verdict
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN a.j #>> '{Response,SendStatusSet,0,Code}' = 'Ok' THEN submeter.channel_verdict('delivered', a.j #>> '{Response,SendStatusSet,0,SerialNo}', NULL)
		ELSE submeter.channel_verdict('failed', a.j #>> '{Response,RequestId}', concat_ws(': ',
			coalesce(a.j #>> '{Response,Error,Code}', a.j #>> '{Response,SendStatusSet,0,Code}', format('answer %s', judge_sms_tencent.status)),
			coalesce(a.j #>> '{Response,Error,Message}', a.j #>> '{Response,SendStatusSet,0,Message}'))) END
	FROM (SELECT submeter.answer_json(judge_sms_tencent.body) AS j) a
$$;
COMMENT ON FUNCTION submeter.judge_sms_tencent(int, bytea, timestamptz) IS 'Channel sms_tencent: the number''s own code Ok is taken.';

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

-- Rooms and hooks ----------------------------------------------------------------------------------------------------

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
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.channel_verdict(CASE WHEN judge_status.status BETWEEN 200 AND 299 THEN 'delivered' ELSE 'failed' END, NULL,
		CASE WHEN judge_status.status >= 300 THEN format('answer %s', judge_status.status) END)
$$;
COMMENT ON FUNCTION submeter.judge_status(int, bytea, timestamptz) IS 'Any 2xx is taken.';
