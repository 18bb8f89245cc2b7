-- Room: channels of notices, how each is spoken to. One function makes a request, one judges the answer; what the
-- providers want is from their documents. Nothing here touches a table but for secrets and tokens.

CREATE FUNCTION submeter.channel_secret(message submeter.notice_message, name text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN submeter.secret_text((channel_secret.message).site_id, format('channel/%s/%s', (channel_secret.message).channel, channel_secret.name));
END
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
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(channel_verdict.state, channel_verdict.receipt, left(channel_verdict.detail, 300), channel_verdict.gone)::submeter.channel_verdict;
END
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
