-- Logins at WeChat: where people are sent and may come back to, whose the openid becomes, and that each is good once, in
-- time, and for whoever began it.
\pset footer off
\pset format unaligned
SET client_min_messages = warning;
SELECT submeter.create_storage() > 0 AS stored;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'S1', 'Mall'), (2, 'S2', 'Other');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Bakery'), (1, 2, 'T2', 'Tea'), (2, 3, 'T3', 'Far');
CREATE ROLE regress_login_baker LOGIN IN ROLE submeter_tenant;
CREATE ROLE regress_login_brewer LOGIN IN ROLE submeter_tenant;
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, login) VALUES (1, 1, 1, 'Baker', 'regress_login_baker'), (1, 2, 2, 'Brewer', 'regress_login_brewer'), (2, 3, 3, 'Far', NULL);
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A1'), (1, 2, 2, 'A2');
SELECT submeter.set_channel(1, 'wechat', 'wechat', '{"appid":"wxapp","templates":{},"return_hosts":["https://pay.example.org"]}');
SELECT submeter.set_channel(1, 'wechat', 'wechat', '{"appid":"wxapp","templates":{"low_balance":{"id":"T1"}},"return_hosts":["Pay.example.org","pay.example.org:8443"]}');
SELECT submeter.set_channel(1, 'other', 'wechat', '{"appid":"wxother","templates":{"low_balance":{"id":"T2"}},"return_hosts":["pay.example.org"]}');
SELECT submeter.set_channel(1, 'hook', 'webhook', '{"url":"https://erp.example.org"}');
SELECT submeter.set_secret(1, 'channel/wechat/app_secret', 'the secret&1'), submeter.set_secret(1, 'channel/other/app_secret', 'x');
GRANT submeter_courier TO CURRENT_USER;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, current_user);

-- 1. Begin: the address as WeChat wants it, letter by letter but for the state
SELECT regexp_replace(url, 'state=[0-9a-f]{64}#', 'state=STATE#') AS url FROM submeter.begin_wechat_login(1, 1, 'wechat', 'https://pay.example.org/me?a=1&b=2') url;
SELECT count(*), bool_and(expires_at - created_at = '10 minutes') AS ten_minutes, bool_and(octet_length(state_hash) = 32) AS hashed FROM submeter.wechat_login;
-- nobody can make us send people elsewhere
SELECT left(url, 60) AS url, pg_temp.refusal(format('SELECT submeter.begin_wechat_login(1, 1, %L, %L)', 'wechat', url)) FROM unnest(ARRAY['https://pay.example.org', 'https://PAY.example.org:8443/x', 'http://pay.example.org/', 'https://evil.example/', 'https://pay.example.org.evil.example/',
	'https://pay.example.org@evil.example/', 'https://user:pw@pay.example.org/', 'https://pay.example.org\@evil.example/', 'https://pay.example.org/#x', 'https://pay.example.org:443/', 'https://evil.example/https://pay.example.org/',
	'//pay.example.org/', 'javascript:alert(1)', E'https://pay.example.org/\r\nX: y', 'https://pay.example.org/ x', 'https://pay.example.org/' || repeat('x', 1000), '', NULL]) url;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.begin_wechat_login(1, 99, ''wechat'', ''https://pay.example.org'')', 'SELECT submeter.begin_wechat_login(1, 3, ''wechat'', ''https://pay.example.org'')',
	'SELECT submeter.begin_wechat_login(1, 1, ''hook'', ''https://pay.example.org'')', 'SELECT submeter.begin_wechat_login(1, 1, NULL, ''https://pay.example.org'')', 'SELECT submeter.begin_wechat_login(1, NULL, ''wechat'', ''https://pay.example.org'')']) s;

-- 2. A tenant: own people only. Whoever is only a member of the role is a tenant, too.
CREATE TABLE pg_temp.begun (n int, state text);
GRANT ALL ON pg_temp.begun TO PUBLIC;
CREATE FUNCTION pg_temp.begin(n int, person bigint, channel text DEFAULT 'wechat') RETURNS void LANGUAGE sql AS $$
	INSERT INTO pg_temp.begun SELECT n, substring(submeter.begin_wechat_login(1, person, channel, 'https://pay.example.org/') FROM 'state=([0-9a-f]+)') $$;
CREATE FUNCTION pg_temp.finish(n int, code text DEFAULT 'code-0001') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.refusal(format('SELECT submeter.finish_wechat_login(1, %L, %L)', (SELECT state FROM pg_temp.begun b WHERE b.n = finish.n), code)) $$;
SET SESSION AUTHORIZATION regress_login_baker;
SELECT pg_temp.refusal('SELECT pg_temp.begin(0, 2)') AS another, pg_temp.refusal('SELECT pg_temp.begin(1, 1)') AS own;
SELECT pg_temp.refusal($$SELECT submeter.register_device(1, 2, 'wechat', 'oStolenStolen')$$) AS another, pg_temp.refusal($$SELECT submeter.register_device(1, 1, 'jpush', '190e35f7e0d8f00')$$) AS own;
-- 3. Finish: by whoever began it, once, in time, with what may be a code
SET SESSION AUTHORIZATION regress_login_brewer;
SELECT pg_temp.finish(1) AS another_caller;
RESET SESSION AUTHORIZATION;
SELECT pg_temp.finish(1) AS even_an_administrator;
SET SESSION AUTHORIZATION regress_login_baker;
SELECT left(code, 20) AS code, pg_temp.finish(1, code) FROM unnest(ARRAY['', 'short', 'with blank 1', E'line\nbreak1', 'x&secret=1234', repeat('x', 513), NULL]) code;
SELECT pg_temp.refusal($$SELECT submeter.finish_wechat_login(1, 'nonsense', 'code-0001')$$) AS no_state, pg_temp.refusal($$SELECT submeter.finish_wechat_login(1, NULL, 'code-0001')$$) AS nothing;
SELECT pg_temp.finish(1) AS first, pg_temp.finish(1) AS second;
SELECT login_id AS login FROM (SELECT max(login_id) AS login_id FROM generate_series(1, 20) login_id WHERE pg_temp.refusal(format('SELECT * FROM submeter.check_wechat_login(1, %s)', login_id)) = 'accepted') x \gset
SELECT * FROM submeter.check_wechat_login(1, :login);
RESET SESSION AUTHORIZATION;
SELECT pg_temp.refusal(format('SELECT * FROM submeter.check_wechat_login(1, %s)', :login)) LIKE 'P0002%' AS not_yours;
SELECT state, code IS NOT NULL AND position('code-0001' IN encode(code, 'escape')) = 0 AS sealed FROM submeter.wechat_login WHERE login_id = :login;
SELECT count(*) AS in_the_outbox FROM submeter.outbound o WHERE o::text ~ 'code-0001|the secret';
-- 4. What goes out, and what comes of it
CREATE FUNCTION pg_temp.answer(outcome text, status int, body text) RETURNS TABLE(method text, url text, state text) LANGUAGE sql AS $$
	UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued';
	SELECT c.method, c.url, submeter.report_outbound(c.site_id, c.outbound_id, 'test', answer.outcome, answer.status, '{}', convert_to(answer.body, 'UTF8'), NULL)
	FROM submeter.claim_outbound('test', 10) c $$;
-- their trouble is tried again while the code lives
SELECT * FROM pg_temp.answer('answered', 503, '');
SELECT state FROM pg_temp.answer('answered', 200, '{"errcode":-1,"errmsg":"system error"}');
SELECT state FROM pg_temp.answer('answered', 200, '{"access_token":"AT-0001","expires_in":7200,"refresh_token":"RT-0001","openid":"oBakerBakerBaker","scope":"snsapi_base"}');
SELECT l.state, l.code IS NULL AS code_gone, l.detail, d.contact_id, d.kind, d.token, d.keys FROM submeter.wechat_login l JOIN submeter.device d USING (site_id, device_id) WHERE login_id = :login;
SELECT count(*) AS left_behind FROM submeter.outbound o WHERE o::text ~ 'AT-0001|RT-0001|oBaker|code-0001|the secret';
SELECT submeter.next_channel(1, 1, 'low_balance', '{}', now()) IS NULL AS not_in_the_order;
UPDATE submeter.contact SET channels = '{other,wechat}' WHERE contact_id = 1;
SELECT submeter.next_channel(1, 1, 'low_balance', '{}', now()) AS "only the account that knows the person";
CREATE FUNCTION pg_temp.try(n int, body text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.begin(n, 1);
	PERFORM pg_temp.finish(n, 'code-' || n);
	PERFORM pg_temp.answer('answered', 200, body);
	RETURN (SELECT concat_ws(' | ', l.state, l.detail) FROM submeter.wechat_login l ORDER BY l.login_id DESC LIMIT 1);
END $$;
SELECT body, pg_temp.try(n, body) FROM (VALUES (1001, '{"errcode":40029,"errmsg":"invalid code, rid: 1"}'), (1002, '{"errcode":40163,"errmsg":"code been used"}'), (1003, '{"errcode":42003}'), (1004, '{"errcode":40125,"errmsg":"invalid appsecret"}'),
	(1005, '{"openid":"oSnapshotSnap","is_snapshotuser":1}'), (1006, '{"openid":"has blank in it"}'), (1007, 'no json'), (1008, '{"openid":7}'), (1009, '[]')) v(n, body) ORDER BY n;
SELECT count(*) AS codes_kept FROM submeter.wechat_login WHERE code IS NOT NULL;
-- too late: for the person, and for the code
SELECT pg_temp.begin(200, 1);
UPDATE submeter.wechat_login SET expires_at = now() WHERE state = 'begun';
SELECT pg_temp.finish(200);
SELECT pg_temp.begin(201, 1), pg_temp.finish(201);
UPDATE submeter.outbound SET expires_at = now() WHERE state = 'queued';
SELECT count(*) AS sent FROM pg_temp.answer('answered', 200, '');
SELECT state, detail FROM submeter.wechat_login ORDER BY login_id DESC LIMIT 1;
-- a login begun anew ends the one before
SELECT pg_temp.begin(202, 1), pg_temp.begin(203, 1), pg_temp.finish(202);

-- 5. Paying inside WeChat: the openid of the calling person at the merchant's appid
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, key_serial, notify_base, api_base) VALUES (1, 1, 'wechat', 'x', 'wxapp', '1900000001', 'ABC', 'https://pay.example.org', 'https://api.mch.weixin.qq.com');
SET SESSION AUTHORIZATION regress_login_baker;
SELECT (submeter.create_payment(1, 1, 'wechat', 10, 'k1', 'jsapi')).state;
SET SESSION AUTHORIZATION regress_login_brewer;
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 2, 'wechat', 10, 'k2', 'jsapi')$$);
RESET SESSION AUTHORIZATION;
SELECT payer FROM submeter.payment_order;
UPDATE submeter.merchant SET app = 'wxother';
SET SESSION AUTHORIZATION regress_login_baker;
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 1, 'wechat', 10, 'k3', 'jsapi')$$) AS another_appid;
RESET SESSION AUTHORIZATION;
UPDATE submeter.merchant SET app = 'wxapp';
SELECT submeter.put_device(1, 1, 'wechat', 'oSecondSecond', '{"appid":"wxapp"}') > 0 AS second;
SET SESSION AUTHORIZATION regress_login_baker;
SELECT pg_temp.refusal($$SELECT submeter.create_payment(1, 1, 'wechat', 10, 'k4', 'jsapi')$$) AS two_of_them, (submeter.create_payment(1, 1, 'wechat', 10, 'k4', 'jsapi', '{"openid":"oSecondSecond"}')).state AS said_which;
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_login_baker, regress_login_brewer;
DROP ROLE regress_login_baker, regress_login_brewer;
