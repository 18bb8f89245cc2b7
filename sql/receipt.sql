-- Whether a message arrived: what each provider is asked and answers, when it is asked again, and that nobody is cut on a
-- message that a channel took and did not deliver.
\pset footer off
\pset format unaligned
SET client_min_messages = warning;
SELECT submeter.create_storage() > 0 AS stored;
SET timezone = 'UTC';
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'S1', 'Mall', 'Asia/Shanghai');
SELECT submeter.set_channel(1, 'sms', 'sms_aliyun', '{"key_id":"key","sign_name":"商场","templates":{"low_balance":{"code":"SMS_1"},"trip_announced":{"code":"SMS_2"},"recharge_received":{"code":"SMS_3"}}}', true, 100, 60);
SELECT submeter.set_channel(1, 'sms2', 'sms_tencent', '{"secret_id":"id","app_id":"1400","sign_name":"商场","templates":{"low_balance":{"code":"77"}}}');
SELECT submeter.set_channel(1, 'app', 'jpush', '{"app_key":"appkey"}');
SELECT submeter.set_channel(1, 'mail', 'mail', '{"url":"smtp://mail.example.org:587","from":"power@mall.example"}');
SELECT count(submeter.set_secret(1, n, 'secret')) FROM unnest('{channel/sms/key_secret,channel/sms2/secret_key,channel/app/master_secret}'::text[]) n;

-- 1. Questions
CREATE FUNCTION pg_temp.message(channel text, address text) RETURNS submeter.notice_message LANGUAGE sql AS $$
	SELECT ROW(1, 7, 9, 'low_balance', c.channel, c.settings || CASE address WHEN 'token' THEN '{"reports":true}' ELSE '{}' END::jsonb, submeter.receipt_endpoint(c.kind, c.settings), NULL, address, '{}', 'zh', 's', 'b', '{}', false, '2020-09-06 02:47:53+00')::submeter.notice_message
	FROM submeter.notice_channel c WHERE c.channel = message.channel $$;
-- the day is that of China, a number of the mainland has no country code there, one from abroad has no +
SELECT regexp_replace(url, '^.*\?', '') AS asked, array_to_string(headers[1:3], ' ') AS headers FROM unnest('{13800000001,+85251234567}'::text[]) phone,
	submeter.ask_receipt_aliyun(pg_temp.message('sms', phone), '9006^0', '2020-09-05 17:00+00');
SELECT url, headers[2:4] AS headers, convert_from(body, 'UTF8') AS asked FROM submeter.ask_receipt_tencent(pg_temp.message('sms2', '13800000001'), '2028:f8', '2020-09-06 02:40+00');
SELECT url, convert_from(body, 'UTF8') AS asked FROM submeter.ask_receipt_jpush(pg_temp.message('app', '190e35f7e0d8f00'), '18100287008546816', '2020-09-06 02:40+00');
SELECT submeter.receipt_endpoint(k, s::jsonb) FROM (VALUES ('jpush', '{}'), ('jpush', '{"endpoint":"http://a"}'), ('jpush', '{"endpoint":"http://a","report_endpoint":"http://b"}'), ('sms_aliyun', '{"endpoint":"http://a"}'), ('sms_tencent', '{}')) v(k, s);

-- 2. Answers. Jpush: 10 minutes after sending, and 30, by an app that reports and one that does not.
SELECT v.channel, v.body, (j.said).state, (j.said).at, (j.said).detail, (j.said).gone FROM (VALUES
	('sms', '{"Code":"OK","TotalCount":"1","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":3,"ErrCode":"DELIVERED","ReceiveDate":"2020-09-06 10:44:13"}]}}'),
	('sms', '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":3,"ReceiveDate":"2020-02-31 10:44:13"}]}}'),
	('sms', '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":2,"ErrCode":"MOBILE_NOT_ON_SERVICE"}]}}'),
	('sms', '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":1}]}}'), ('sms', '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[]}}'),
	('sms', '{"Code":"OK","SmsSendDetailDTOs":"?"}'), ('sms', '{"Code":"isv.ACCOUNT_ABNORMAL","Message":"m"}'), ('sms', '[]'), ('sms', 'no json'),
	('sms2', '{"Response":{"PullSmsSendStatusSet":[{"SerialNo":"other","ReportStatus":"FAIL"},{"SerialNo":"receipt","ReportStatus":"SUCCESS","UserReceiveTime":1599360473,"Description":"DELIVRD"}]}}'),
	('sms2', '{"Response":{"PullSmsSendStatusSet":[{"SerialNo":"receipt","ReportStatus":"FAIL","Description":"UNDELIV"}]}}'),
	('sms2', '{"Response":{"PullSmsSendStatusSet":[{"SerialNo":"other","ReportStatus":"FAIL"}]}}'), ('sms2', '{"Response":{"PullSmsSendStatusSet":[]}}'),
	('sms2', '{"Response":{"Error":{"Code":"UnauthorizedOperation","Message":"m"}}}'), ('sms2', '7'), ('sms2', ''),
	('app', '{"token":{"status":0}}'), ('app', '{"token":{"status":1}}'), ('app', '{"token":{"status":2}}'), ('app', '{"token":{"status":3}}'), ('app', '{"token":{"status":4}}'), ('app', '{"other":{"status":2}}'),
	('app', '{"error":{"code":3001,"message":"Basic authentication failed"}}'), ('later', '{"token":{"status":1}}'), ('silent', '{"silent":{"status":1}}')) v(channel, body)
CROSS JOIN LATERAL (SELECT pg_temp.message(CASE WHEN v.channel IN ('later', 'silent') THEN 'app' ELSE v.channel END, CASE v.channel WHEN 'silent' THEN 'silent' ELSE 'token' END) AS m,
	'2020-09-06 02:47:53+00'::timestamptz - CASE WHEN v.channel IN ('later', 'silent') THEN interval '30 min' ELSE interval '10 min' END AS sent_at) x
CROSS JOIN LATERAL (SELECT CASE v.channel WHEN 'sms' THEN submeter.judge_receipt_aliyun(x.m, 'receipt', x.sent_at, 200, convert_to(v.body, 'UTF8'))
	WHEN 'sms2' THEN submeter.judge_receipt_tencent(x.m, 'receipt', x.sent_at, 200, convert_to(v.body, 'UTF8'))
	ELSE submeter.judge_receipt_jpush(x.m, 'receipt', x.sent_at, 200, convert_to(v.body, 'UTF8')) END AS said) j;
SELECT string_agg(coalesce(submeter.receipt_wait(n)::text, 'no more'), ', ' ORDER BY n) AS waits FROM generate_series(0, 6) n;

-- 3. The way of a message. The courier is played by hand; a question is asked when the test says so.
INSERT INTO submeter.credit_policy (site_id, code, mode, notice_lead, low_balances, grace) VALUES (1, 'auto', 'automatic', '1 h', '{}', '0');
UPDATE submeter.site s SET default_policy_id = (SELECT policy_id FROM submeter.credit_policy WHERE code = 'auto');
UPDATE submeter.credit_policy SET mass_trip_share = 1, window_spread = '0', no_trip_windows = '[]';
INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'G1', '127.0.0.1:502');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Bakery');
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone, email, locale, channels) VALUES (1, 1, 1, 'Owner', '13800000001', 'boss@bakery.example', 'en', '{sms,mail}');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A1');
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) SELECT 1, 1, 'M1', 'DDS238-2 ZN/SR', gateway_id, '1' FROM submeter.gateway;
INSERT INTO submeter.tariff (site_id, tariff_id, code) VALUES (1, 1, 'flat');
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (1, 1, '2026-01-01', '{"energy":[{"price":0.8}]}');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 1, 1, 1, '[2026-01-01,)');
SELECT submeter.adopt_meters(1, NULL, 'taken over from the old system') AS taken_over;
INSERT INTO submeter.charge (site_id, account_id, tariff_id, cycle_start, cycle_end, settled_to, span_from, span_wh, tier_wh, energy_wh, amount, rounded, updated_at)
VALUES (1, 1, 1, '2026-02-01', '2026-03-01', '2026-02-01', '{}', '{}', '{}', 0, 50, 50, '2026-02-01');
GRANT submeter_courier TO CURRENT_USER;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, current_user);
CREATE FUNCTION pg_temp.answer(outcome text, status int, body text) RETURNS TABLE(kind text, channel text, state text) LANGUAGE sql AS $$
	UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued';
	SELECT o.kind, o.channel, submeter.report_outbound(c.site_id, c.outbound_id, 'test', answer.outcome, answer.status, '{}', convert_to(answer.body, 'UTF8'), NULL)
	FROM submeter.claim_outbound('test', 10) c JOIN submeter.outbound o USING (site_id, outbound_id) $$;
CREATE FUNCTION pg_temp.decision(ahead interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := clock_timestamp() + ahead;
	said text;
BEGIN
	INSERT INTO submeter.meter_state (site_id, meter_id, ts, received_at, valid_ts, valid_wh, relay, relay_at) VALUES (1, 1, at, at, at, 1000, 'closed', at)
	ON CONFLICT (site_id, meter_id) DO UPDATE SET ts = EXCLUDED.ts, received_at = EXCLUDED.ts, valid_ts = EXCLUDED.ts, relay_at = EXCLUDED.ts;
	PERFORM submeter.apply_policy(1, at);
	SELECT d.action || ' ' || d.reason INTO said FROM submeter.decision d ORDER BY d.decision_id DESC LIMIT 1;
	RETURN said;
END $$;
CREATE VIEW pg_temp.log AS SELECT kind, state, channel, delivery, delivered_at IS NOT NULL AS at, receipt, tried, undelivered, attempts, last_error FROM submeter.notice ORDER BY notice_id DESC LIMIT 1;

-- announced, taken by the SMS gate: the lead time runs
SELECT pg_temp.decision('0');
SELECT submeter.deliver_notices(1);
SELECT * FROM pg_temp.answer('answered', 200, '{"Code":"OK","BizId":"9006^0"}');
TABLE pg_temp.log;
SELECT o.host, o.channel, round(extract(epoch FROM o.not_before - n.accepted_at) / 60) AS minutes FROM submeter.outbound o, submeter.notice n WHERE o.kind = 'receipt';
SELECT pg_temp.decision('0') AS now, submeter.told_at(1, 1, notice_id) IS NOT NULL AS told FROM submeter.notice;
-- an hour later it would be cut
BEGIN;
SELECT pg_temp.decision('61 min') AS in_an_hour, (SELECT count(*) FROM submeter.command) AS commands;
SELECT submeter.open_refusal(1, 1, 'arrears', clock_timestamp() + interval '61 min') AS refusal;
ROLLBACK;
-- nothing known yet, the provider down, a wrong signature: it is asked again, later each time
SELECT a.* FROM (VALUES (200, '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":1}]}}')) v(status, body), pg_temp.answer('answered', v.status, v.body) a;
SELECT * FROM pg_temp.answer('no_answer', NULL, NULL);
SELECT attempts, round(extract(epoch FROM not_before - now()) / 60) AS minutes, detail FROM submeter.outbound WHERE kind = 'receipt';
-- and a message of the SMS channel's month is no question
SELECT submeter.sent_in_month(1, 'sms', now()) AS spent;
-- not delivered: nobody was told, nobody is cut, the mail goes out, and says the day as it is now
SELECT * FROM pg_temp.answer('answered', 200, '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":2,"ErrCode":"MOBILE_NOT_ON_SERVICE"}]}}');
TABLE pg_temp.log;
SELECT submeter.told_at(1, 1, notice_id) IS NULL AS nobody_told, pg_temp.decision('61 min') AS policy FROM submeter.notice;
SELECT count(*) AS commands FROM submeter.command;
-- a trip that was queued already is refused at the wire
BEGIN;
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 1, 'arrears');
SELECT submeter.open_refusal(1, 1, 'arrears', clock_timestamp() + interval '61 min') AS refusal;
ROLLBACK;
SELECT to_char((created_at + interval '1 h') AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI') <= facts ->> 'due_at' AS later, position(facts ->> 'due_at' IN body) > 0 AS said FROM submeter.notice;
SELECT submeter.deliver_notices(1);
SELECT * FROM pg_temp.answer('answered', 250, '');
TABLE pg_temp.log;
SELECT address, submeter.told_at(1, 1, notice_id) IS NOT NULL AS told, pg_temp.decision('0') AS policy FROM submeter.notice;
-- every way failed: the SMS is not paid for again, the mail is tried again
UPDATE submeter.notice SET state = 'queued', accepted_at = NULL, tried = '{sms,mail}', next_try_at = now();
SELECT submeter.deliver_notices(1);
SELECT tried, attempts FROM submeter.notice;

-- 4. What is not taken back: an announcement whose trip was carried out, or of another time; a confirmation; what is old.
CREATE FUNCTION pg_temp.taken_back() RETURNS TABLE(kind text, taken boolean, delivery text) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE submeter.notice n SET state = 'accepted', accepted_at = coalesce(n.accepted_at, now()), channel = 'sms', delivery = 'waiting';
	RETURN QUERY SELECT n.kind, submeter.take_back_notice(1, n.notice_id, 'sms', 'x', now()), n.delivery FROM submeter.notice n ORDER BY n.notice_id;
END $$;
SELECT count(submeter.queue_notice(1, 1, k, k, '{"available":1,"threshold":5,"amount":7}', now())) FROM unnest('{low_balance,recharge_received}'::text[]) k;
SELECT kind, taken FROM pg_temp.taken_back();
UPDATE submeter.notice SET accepted_at = now() - interval '13 hours', state = 'accepted';
INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 1, 'arrears');
SELECT kind, taken FROM pg_temp.taken_back();
DELETE FROM submeter.open_cause;
UPDATE submeter.account_state SET notice_id = NULL;
SELECT kind, taken FROM pg_temp.taken_back();

-- 5. Arrived; never known; forgotten meanwhile.
DELETE FROM submeter.outbound;
DELETE FROM submeter.notice;
CREATE FUNCTION pg_temp.send(key text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM submeter.queue_notice(1, 1, 'recharge_received', key, '{"amount":7}', now());
	PERFORM submeter.deliver_notices(1);
	RETURN QUERY SELECT a.state FROM pg_temp.answer('answered', 200, '{"Code":"OK","BizId":"7^0"}') a;
END $$;
SELECT pg_temp.send('a');
SELECT * FROM pg_temp.answer('answered', 200, '{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":[{"SendStatus":3,"ReceiveDate":"2026-03-01 10:00:00"}]}}');
SELECT delivery, delivered_at FROM submeter.notice;
DELETE FROM submeter.notice;
SELECT pg_temp.send('b');
SELECT n, a.state FROM generate_series(1, 6) n, pg_temp.answer('answered', 400 + n, 'busy') a;
SELECT delivery FROM submeter.notice;
SELECT state, attempts, detail FROM submeter.outbound WHERE kind = 'receipt' ORDER BY outbound_id DESC LIMIT 1;
SELECT count(*) AS asked_a_seventh_time FROM pg_temp.answer('answered', 200, '');
DELETE FROM submeter.notice;
SELECT pg_temp.send('c');
UPDATE submeter.outbound SET expires_at = now() WHERE kind = 'receipt' AND state = 'queued';
SELECT count(*) AS asked FROM pg_temp.answer('answered', 200, '');
SELECT delivery FROM submeter.notice;
DELETE FROM submeter.notice;
SELECT pg_temp.send('d');
UPDATE submeter.notice SET outbound_id = 0;
SELECT count(*) AS asked FROM pg_temp.answer('answered', 200, '');
SELECT state, detail FROM submeter.outbound WHERE kind = 'receipt' ORDER BY outbound_id DESC LIMIT 1;
-- a refused SMS has a number too, and nothing is asked about it
DELETE FROM submeter.notice;
SELECT submeter.queue_notice(1, 1, 'recharge_received', 'e', '{"amount":7}', now()) > 0 AS queued, submeter.deliver_notices(1);
SELECT * FROM pg_temp.answer('answered', 200, '{"Code":"isv.BUSINESS_LIMIT_CONTROL","RequestId":"R"}');
SELECT count(*) FROM submeter.outbound WHERE kind = 'receipt' AND state = 'queued';
-- whoever is no contact any more is told nothing
UPDATE submeter.notice SET state = 'queued', accepted_at = NULL, tried = '{}', next_try_at = now();
DELETE FROM submeter.contact;
SELECT submeter.deliver_notices(1);
SELECT state, last_error FROM submeter.notice;
