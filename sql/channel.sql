-- The ways messages go out by: what is signed and sealed for each, what an answer means, who is reached by what, and when
-- the next way is tried.
\pset footer off
\pset format unaligned
SET client_min_messages = warning;
SELECT submeter.create_storage() > 0 AS stored;
SET timezone = 'UTC';
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'S1', 'Mall', 'Asia/Shanghai');

-- 1. Published examples.
-- RFC 4231, cases 1 and 2
SELECT encode(submeter.hmac('sha256', decode(repeat('0b', 20), 'hex'), 'Hi There'), 'hex') = 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7' AS case_1,
	encode(submeter.hmac('sha256', 'Jefe', 'what do ya want for nothing?'), 'hex') = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843' AS case_2,
	encode(submeter.hmac('sha1', 'Jefe', 'what do ya want for nothing?'), 'hex') = 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79' AS rfc_2202;
-- RFC 8291, appendix A
SELECT submeter.base64url(submeter.push_seal('When I grow up, I want to be a watermelon',
	submeter.base64url_bytes('BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4'), submeter.base64url_bytes('BTBZMqHH6r4Tts7J_aSIgg'),
	submeter.base64url_bytes('yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw'), submeter.base64url_bytes('DGv6ra1nlYgDCS1FRnbzlw'))) AS sealed;
SELECT submeter.base64url(submeter.push_public_key(submeter.base64url_bytes('yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw'))) AS public_key;
SELECT octet_length(submeter.push_seal('x', submeter.push_public_key(k), submeter.base64url_bytes('BTBZMqHH6r4Tts7J_aSIgg'))) = 86 + 1 + 1 + 16 AS any_key, octet_length(submeter.es256_sign('x', k)) AS signature
FROM (SELECT submeter.push_new_key() AS k) n;
SELECT submeter.push_seal('x', decode(repeat('00', 65), 'hex'), decode(repeat('00', 16), 'hex'));
SELECT submeter.push_seal('x', 'short', decode(repeat('00', 16), 'hex'));
SELECT submeter.push_seal(decode(repeat('00', 4000), 'hex'), decode(repeat('00', 65), 'hex'), decode(repeat('00', 16), 'hex'));
SELECT submeter.es256_sign('x', decode(repeat('ff', 32), 'hex'));
SELECT submeter.hmac('no such', 'x', 'x');
SELECT submeter.url_encode('a b*~+/=电&') AS encoded, submeter.url_encode('') AS empty, submeter.base64url(decode('fbff', 'hex')) AS url, submeter.base64url_bytes('-_8') = decode('fbff', 'hex') AS back;

-- 2. Setting up.
SELECT submeter.set_channel(1, 'mail', 'pigeon', '{}');
SELECT submeter.set_channel(1, 'mail', 'mail', '{"url":"smtp://mail.example.org:587"}');
SELECT submeter.set_channel(1, 'mail', 'mail', '{"url":"file:///etc/passwd","from":"a@b.c"}');
SELECT submeter.set_channel(1, 'mail', 'mail', '{"url":"smtp://mail.example.org","from":"a@b.c\r\nBcc: x@y.z"}');
SELECT submeter.set_channel(1, 'mail', 'mail', '{"url":"smtp://mail.example.org:587","from":"power@mall.example","from_name":"商场电费","user":"power"}');
SELECT submeter.set_channel(1, 'sms', 'sms_aliyun', '{"key_id":"key","sign_name":"商场","templates":{"low_balance":{"code":"SMS_1","fields":{"amount":"available","unit":"unit"}}}}', true, 3);
SELECT submeter.set_channel(1, 'sms2', 'sms_tencent', '{"secret_id":"id","app_id":"1400","sign_name":"商场","templates":{"low_balance":{"code":"77","fields":["available","unit"]}}}');
SELECT submeter.set_channel(1, 'push', 'webpush', '{"subject":"mailto:power@mall.example"}');
SELECT submeter.set_channel(1, 'wechat', 'wechat', '{"appid":"wx1","templates":{"low_balance":{"id":"T1","fields":{"thing1":"unit"}}}}');
SELECT submeter.set_channel(1, c, c, '{}'::jsonb) FROM unnest('{dingtalk,feishu,wecom}'::text[]) c;
SELECT submeter.set_channel(1, 'hook', 'webhook', '{"url":"https://erp.example.org/hook"}', per_minute => 10);
SELECT channel, kind, month_budget FROM submeter.notice_channel ORDER BY 1;
SELECT count(submeter.set_secret(1, n, v)) FROM (VALUES ('channel/mail/password', 'secret'), ('channel/sms/key_secret', 'secret'), ('channel/sms2/secret_key', 'secret'),
	('channel/dingtalk/token', 'TOKEN'), ('channel/dingtalk/sign', 'SEC1'), ('channel/feishu/token', 'HOOK'), ('channel/feishu/sign', 'demo'), ('channel/wecom/token', 'KEY'),
	('channel/hook/key', 'whsec')) v(n, v);
SELECT length(submeter.make_push_key(1, 'push')) AS public_key, length(submeter.push_key(1, 'push')) AS again;

-- 3. Requests: what stands on the wire. Computed apart with openssl:
--   printf '1599360473\ndemo' as the key of an empty message (Feishu), printf 'STAMP\nSEC1' under SEC1 (DingTalk).
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Bakery');
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone, email, locale, channels) VALUES
	(1, 1, 1, '店主', '13800000001', 'boss@bakery.example', 'zh', '{sms,mail,file}'), (1, 2, 1, 'Clerk', NULL, NULL, 'en', '{push,hook}');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A1');
CREATE FUNCTION pg_temp.message(channel text, address text DEFAULT '', keys jsonb DEFAULT '{}') RETURNS submeter.notice_message LANGUAGE sql AS $$
	SELECT ROW(1, 7, 9, 'low_balance', c.channel, c.settings, coalesce(c.settings ->> 'endpoint', k.host), '店主', address, keys, 'zh', '余额不足', E'您好:\n\n余额 <5> 元。\n请充值',
		'{"available":"5.00","unit":"101"}', false, '2020-09-06 02:47:53+00')::submeter.notice_message
	FROM submeter.notice_channel c JOIN submeter.channel_kind k USING (kind) WHERE c.channel = message.channel $$;
SELECT url, headers, convert_from(body, 'UTF8') FROM submeter.build_dingtalk(pg_temp.message('dingtalk'));
SELECT url, convert_from(body, 'UTF8') FROM submeter.build_feishu(pg_temp.message('feishu'));
SELECT url, convert_from(body, 'UTF8') FROM submeter.build_wecom(pg_temp.message('wecom'));
SELECT url, headers[2:3], options FROM submeter.build_webhook(pg_temp.message('hook'));
SELECT substring(h FROM 'v1=(.*)') = encode(submeter.hmac('sha256', 'whsec', '1599360473.'::bytea || body), 'hex') AS signed FROM submeter.build_webhook(pg_temp.message('hook')), unnest(headers) h WHERE h LIKE 'X-Sub%';
SELECT url, headers[1:6], convert_from(body, 'UTF8') FROM submeter.build_sms_tencent(pg_temp.message('sms2', '13800000001'));
SELECT url, array_length(headers, 1), options FROM submeter.build_sms_aliyun(pg_temp.message('sms', '13800000001'));
SELECT method, url, options FROM submeter.build_mail(pg_temp.message('mail', 'boss@bakery.example'));
SELECT regexp_replace(convert_from(body, 'UTF8'), '\r', '', 'g') FROM submeter.build_mail(pg_temp.message('mail', 'boss@bakery.example'));
SELECT url, headers[2:4], octet_length(body) > 150 AS sealed FROM submeter.build_webpush(pg_temp.message('push', 'https://push.example/abc',
	'{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}'));
SELECT * FROM submeter.build_wechat_template(pg_temp.message('wechat', 'openid'));

-- 4. What answers mean.
SELECT v.judge, v.status, v.body, (j.verdict).* FROM (VALUES
	('judge_sms_aliyun', 200, '{"Code":"OK","BizId":"1^0","RequestId":"R"}'), ('judge_sms_aliyun', 200, '{"Code":"isv.BUSINESS_LIMIT_CONTROL","Message":"触发限流"}'), ('judge_sms_aliyun', 200, 'no json'),
	('judge_sms_tencent', 200, '{"Response":{"SendStatusSet":[{"SerialNo":"S","Code":"Ok"}]}}'), ('judge_sms_tencent', 200, '{"Response":{"Error":{"Code":"AuthFailure","Message":"m"}}}'),
	('judge_sms_tencent', 200, '{"Response":{"SendStatusSet":[{"Code":"LimitExceeded.PhoneNumberDailyLimit"}]}}'),
	('judge_jpush', 200, '{"sendno":"0","msg_id":"5"}'), ('judge_jpush', 400, '{"error":{"code":1011,"message":"cannot find user"}}'), ('judge_webpush', 201, ''), ('judge_webpush', 410, ''),
	('judge_wechat_template', 200, '{"errcode":0,"msgid":3}'), ('judge_wechat_template', 200, '{"errcode":42001}'), ('judge_wechat_template', 200, '{"errcode":43004,"errmsg":"require subscribe"}'),
	('judge_errcode', 200, '{"errcode":0}'), ('judge_errcode', 200, '{"errcode":310000,"errmsg":"sign not match"}'), ('judge_errcode', 200, '{"errcode":45009}'),
	('judge_feishu', 200, '{"code":0}'), ('judge_feishu', 200, '{"code":19021,"msg":"sign match fail"}'), ('judge_mail', 250, ''), ('judge_mail', 550, '')) v(judge, status, body)
CROSS JOIN LATERAL (SELECT CASE v.judge WHEN 'judge_sms_aliyun' THEN submeter.judge_sms_aliyun(v.status, v.body::bytea, now()) WHEN 'judge_sms_tencent' THEN submeter.judge_sms_tencent(v.status, v.body::bytea, now())
	WHEN 'judge_jpush' THEN submeter.judge_jpush(v.status, v.body::bytea, now()) WHEN 'judge_webpush' THEN submeter.judge_webpush(v.status, v.body::bytea, now())
	WHEN 'judge_wechat_template' THEN submeter.judge_wechat_template(v.status, v.body::bytea, now()) WHEN 'judge_errcode' THEN submeter.judge_errcode(v.status, v.body::bytea, now())
	WHEN 'judge_feishu' THEN submeter.judge_feishu(v.status, v.body::bytea, now()) ELSE submeter.judge_mail(v.status, v.body::bytea, now()) END AS verdict) j;

-- 5. Devices.
SELECT submeter.register_device(1, 2, 'fax', 'abcdefgh');
SELECT submeter.register_device(1, 2, 'webpush', 'https://push.example/a', '{"p256dh":"short"}');
SELECT submeter.register_device(1, 99, 'jpush', 'abcdefgh');
SELECT submeter.register_device(1, 2, 'webpush', 'https://push.example/a', '{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}')
	< submeter.register_device(1, 1, 'webpush', 'https://push.example/a', '{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}') AS handed_on;
SELECT contact_id, kind, gone_at FROM submeter.device;
-- the same person in another shop keeps it for both, and again is the same device
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone) VALUES (1, 8, 1, '店主', '13800000001');
SELECT submeter.put_device(1, 8, 'webpush', 'https://push.example/a', '{}') = submeter.put_device(1, 8, 'webpush', 'https://push.example/a', '{}') AS same;
SELECT contact_id FROM submeter.device ORDER BY 1;
DELETE FROM submeter.contact WHERE contact_id = 8;

-- 6. The next way. The courier is played by hand.
INSERT INTO submeter.credit_policy (site_id, code, mode) VALUES (1, 'auto', 'automatic');
UPDATE submeter.site s SET default_policy_id = (SELECT policy_id FROM submeter.credit_policy WHERE code = 'auto');
CREATE FUNCTION pg_temp.answer(outcome text, status int, body text) RETURNS TABLE(kind text, channel text, to_whom text, state text) LANGUAGE sql AS $$
	SELECT o.kind, o.channel, o.ref ->> 'address', submeter.report_outbound(c.site_id, c.outbound_id, 'test', answer.outcome, answer.status, '{}', convert_to(answer.body, 'UTF8'), NULL)
	FROM submeter.claim_outbound('test', 10) c JOIN submeter.outbound o USING (site_id, outbound_id) $$;
CREATE VIEW pg_temp.log AS SELECT contact_id, channel, state, tried, receipt, last_error FROM submeter.notice ORDER BY notice_id;
GRANT submeter_courier TO CURRENT_USER;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, current_user);
SELECT submeter.queue_notice(1, 1, 'low_balance', 'low:1', '{"available":5,"threshold":20}', now()) > 0 AS queued;
SELECT submeter.deliver_notices(1);
TABLE pg_temp.log;
-- the SMS may have arrived: it is not sent again, the mail goes out; the hook costs nothing and is tried again
SELECT * FROM pg_temp.answer('no_answer', NULL, NULL);
SELECT submeter.deliver_notices(1);
TABLE pg_temp.log;
SELECT * FROM pg_temp.answer('answered', 250, '');
TABLE pg_temp.log;
-- one warning a day, over all shops of a person; a trip is announced all the same
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 2, 'T2', 'Second shop');
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone, channels) VALUES (1, 3, 2, '店主', '13800000001', '{sms}');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 2, 2, 'A2');
SELECT submeter.queue_notice(1, 2, 'low_balance', 'low:2', '{"available":5,"threshold":20}', now()) > 0 AS warned,
	submeter.queue_notice(1, 2, 'trip_announced', 'trip:2', '{"available":-5,"due_at":"2030-01-01","amount":5}', now(), true) > 0 AS announced;
-- no approved text for the occasion, no secret: another way is looked for; the budget: three a month
SELECT submeter.deliver_notices(1);
SELECT kind, state, next_try_at > now() AS later, last_error FROM submeter.notice WHERE contact_id = 3 ORDER BY notice_id;
UPDATE submeter.contact SET channels = '{sms,sms2,dingtalk}' WHERE contact_id = 3;
SELECT submeter.next_channel(1, 3, k, '{}', now()) AS "way for", k FROM unnest('{low_balance,trip_announced}'::text[]) k;
SELECT submeter.set_secret(1, 'channel/dingtalk/token', NULL);
SELECT submeter.next_channel(1, 3, 'trip_announced', '{}', now()) IS NULL AS no_way_left;
UPDATE submeter.notice_channel SET month_budget = 1 WHERE channel = 'sms';
-- The month may end within two days.
UPDATE submeter.outbound SET sent_at = sent_at + interval '2 days' WHERE channel = 'sms';
SELECT submeter.deliver_notices(1, now() + interval '2 days');
SELECT rule, detail, cleared_at FROM submeter.alarm;
SELECT contact_id, kind, state, channel, last_error FROM submeter.notice ORDER BY notice_id DESC LIMIT 2;

-- 7. Texts.
INSERT INTO submeter.notice_template (kind, channel, locale, subject, body) VALUES ('low_balance', 'sms', 'zh', 'x', '{avialable}');
INSERT INTO submeter.notice_template (kind, channel, locale, subject, body) VALUES ('low_balance', 'sms', 'zh', E'x\nBcc: y', 'x');
INSERT INTO submeter.notice_template (kind, channel, locale, subject, body) VALUES ('low_balance', 'mail', 'en', '{unit}: {available}', 'Only {available} {currency} left.');
SELECT * FROM submeter.preview_notice(1, 1, 'low_balance', 'en', 'mail', '{"available":12.5}', '2026-01-01');
SELECT * FROM submeter.preview_notice(1, 99, 'low_balance', 'en');

-- 8. What a channel takes at most: cut between two letters, however many bytes these have, and as it stands on the wire.
SELECT bytes, submeter.text_within(t, bytes) AS cut, octet_length(submeter.text_within(t, bytes)) AS has FROM unnest(ARRAY['abcdefghij', '余额不足请充值', '𠮷𠮷𠮷', 'é€𠮷é€𠮷']) t, unnest('{7,8,9,10,11}'::int[]) bytes ORDER BY t COLLATE "C", bytes;
SELECT submeter.text_within('', 10) = '' AS nothing, submeter.text_within('abc', 3) AS just, submeter.text_of('电表电表', 3) AS letters, submeter.text_of('电表电', 3) AS fits;
CREATE FUNCTION pg_temp.long(channel text, letter text, address text DEFAULT '', keys jsonb DEFAULT '{}') RETURNS submeter.notice_message LANGUAGE sql AS $$
	SELECT ROW(1, 7, 9, 'low_balance', c.channel, c.settings, coalesce(c.settings ->> 'endpoint', k.host), '店主', long.address, long.keys, 'zh', repeat(letter, 250), repeat(letter, 5000),
		jsonb_build_object('available', '5.00', 'unit', E'\n' || repeat(letter, 100)), false, '2020-09-06 02:47:53+00')::submeter.notice_message
	FROM submeter.notice_channel c JOIN submeter.channel_kind k USING (kind) WHERE c.channel = long.channel $$;
SELECT submeter.set_secret(1, 'channel/dingtalk/token', 'TOKEN');
SELECT submeter.set_channel(1, 'app', 'jpush', '{"app_key":"k"}');
SELECT submeter.set_secret(1, 'channel/app/master_secret', 'x');
INSERT INTO submeter.channel_token (site_id, channel, sealed, expires_at) VALUES (1, 'wechat', submeter.secret_seal('token', 'token:1:wechat'), 'infinity');
SELECT letter, octet_length(convert_from(w.body, 'UTF8')::jsonb #>> '{text,content}') BETWEEN 1900 AND 2048 AS wecom, octet_length(d.body) BETWEEN 5000 AND 20000 AS dingtalk, octet_length(f.body) BETWEEN 5000 AND 20000 AS feishu,
	octet_length(convert_to((convert_from(j.body, 'UTF8')::jsonb -> 'notification')::text, 'UTF8')) BETWEEN 1500 AND 4000 AS jpush,
	octet_length(submeter.webpush_text(pg_temp.long('push', letter))) BETWEEN 1900 AND 3993 AS webpush, octet_length(p.body) < 4096 AS sealed,
	length(convert_from(x.body, 'UTF8')::jsonb #>> '{data,thing1,value}') AS thing, length((convert_from(t.body, 'UTF8')::jsonb #>> '{TemplateParamSet,1}')) AS field
FROM unnest(ARRAY['a', '余', '𠮷', '"', E'\n']) letter, submeter.build_wecom(pg_temp.long('wecom', letter)) w, submeter.build_dingtalk(pg_temp.long('dingtalk', letter)) d, submeter.build_feishu(pg_temp.long('feishu', letter)) f,
	submeter.build_jpush(pg_temp.long('app', letter)) j, submeter.build_wechat_template(pg_temp.long('wechat', letter)) x, submeter.build_sms_tencent(pg_temp.long('sms2', letter, '13800000001')) t,
	submeter.build_webpush(pg_temp.long('push', letter, 'https://push.example/abc', '{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}')) p;
SELECT k, submeter.wechat_field(pg_temp.long('wechat', '余'), k, 'unit') AS field FROM unnest('{thing2,phrase3,name1,character_string4,amount5,car_number1,time6}'::text[]) k;
-- a subject is one line, whatever it is filled with
SELECT length(subject) AS letters, subject ~ '[[:cntrl:]]' AS lines FROM submeter.notice_text('low_balance', 'en', 'file', jsonb_build_object('unit', E'101\r\nBcc: all@example.org' || repeat('x', 500)));
SELECT replace(body, E'\n', '|') AS body FROM submeter.notice_text('low_balance', 'en', 'file', jsonb_build_object('tenant', E'a\tb\x07c\r\n电表'));

-- 9. In the words of the channel it goes by; a crowd of messages does not overrun a budget.
DELETE FROM submeter.outbound;
DELETE FROM submeter.notice;
UPDATE submeter.notice_channel SET month_budget = 2 WHERE channel = 'sms';
UPDATE submeter.contact SET channels = '{sms,mail}', phone = '1380000000' || contact_id, email = 'person' || contact_id || '@shop.example', locale = 'en';
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone, email, channels, locale) SELECT 1, n, 1, 'Clerk ' || n, '1390000000' || n, 'clerk' || n || '@shop.example', '{sms,mail}', 'en' FROM generate_series(4, 6) n;
SELECT submeter.queue_notice(1, 1, 'low_balance', 'crowd', '{"available":5,"threshold":20}', now()) > 0 AS queued, submeter.deliver_notices(1);
SELECT channel, count(*), min(subject) AS subject FROM submeter.notice GROUP BY channel ORDER BY channel;
SELECT submeter.sent_in_month(1, 'sms', now()) AS spent, count(*) AS waiting FROM submeter.outbound WHERE channel = 'sms';
