-- Room: notices. Texts, the outbox, and the file channel.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM);
END
$$;

-- 1. Filling a text: once, and what a fact contains is never a placeholder.
SELECT submeter.notice_fill('{tenant}: {amount} {currency} {missing} { x } {}', '{"tenant":"a {amount} b","amount":"5.00","currency":"CNY"}');
SELECT submeter.notice_fill('', '{}'), submeter.notice_fill('plain', '{}');
-- Both languages have all five texts, and the texts only use what is known.
SELECT locale, count(*), count(DISTINCT kind) FROM submeter.notice_template GROUP BY locale ORDER BY locale;
SELECT kind, locale, array_agg(DISTINCT p[1] ORDER BY p[1]) AS placeholders
FROM submeter.notice_template, regexp_matches(subject || body, '\{([^}]*)\}', 'g') p
GROUP BY kind, locale ORDER BY kind, locale;
-- A user's text survives an upgrade, a built-in one is refreshed.
UPDATE submeter.notice_template SET body = 'ours', builtin = false WHERE kind = 'tripped' AND locale = 'en';
UPDATE submeter.notice_template SET body = 'changed' WHERE kind = 'tripped' AND locale = 'zh';
SELECT submeter.load_notice_templates();
SELECT locale, body = 'ours' AS ours, body = 'changed' AS changed FROM submeter.notice_template WHERE kind = 'tripped' ORDER BY locale;

-- 2. The message
SELECT submeter.notice_header('plain'), submeter.notice_header('Café 停电'), submeter.notice_header('Doe, "J" <x@y>', true) AS phrase;
SELECT max(length(line)) <= 76 AS short, string_agg(convert_from(decode(substring(line FROM '=\?UTF-8\?B\?(.*)\?='), 'base64'), 'UTF8'), '' ORDER BY ord) AS back
FROM regexp_split_to_table(submeter.notice_header('园区三号楼二层二零五室欠费停电预告,请尽快充值以免影响用电,谢谢合作'), E'\r\n ') WITH ORDINALITY l(line, ord);
SELECT pg_temp.refusal(format('SELECT submeter.notice_header(%L)', E'hello\r\nBcc: everybody@example.org'));
SELECT replace(submeter.notice_message('notice.1.1', 'owner', 'owner@example.org', 'low balance', E'Dear owner,\nplease pay.', '2026-03-02 10:00+08'), E'\r', '<') AS message;
SELECT pg_temp.refusal($$SELECT submeter.notice_message('1', E'x\nBcc: y', NULL, 's', 'b', now())$$);

-- 3. Whom it goes to
INSERT INTO submeter.site (code, name, locale) VALUES ('N', '广场', 'zh');
UPDATE submeter.credit_policy SET mode = 'automatic';
INSERT INTO submeter.tenant (site_id, code, name) VALUES (1, 'T1', '面馆'), (1, 'T2', 'nobody');
INSERT INTO submeter.notice_channel (site_id, channel, kind) VALUES (1, 'sms', 'sms_aliyun');
INSERT INTO submeter.contact (site_id, tenant_id, name, role, locale, channels, quiet_from, quiet_to, email) VALUES
	(1, 1, '老板', 'owner', NULL, '{file}', NULL, NULL, 'boss@example.org'), (1, 1, 'Payer', 'payer', 'en', '{sms,file}', '22:00', '07:00', NULL),
	(1, 1, 'Viewer', 'viewer', 'en', '{file}', NULL, NULL, NULL), (1, 2, 'Looks on', 'viewer', NULL, '{file}', NULL, NULL, NULL);
INSERT INTO submeter.account (site_id, tenant_id, code) VALUES (1, 1, 'A1'), (1, 2, 'A2');
SELECT submeter.queue_notice(1, 1, 'low_balance', 'e1', '{"available":9.5,"threshold":10}', '2026-03-02 23:00');
SELECT submeter.queue_notice(1, 1, 'low_balance', 'e1', '{"available":8,"threshold":10}', '2026-03-02 23:01') AS the_same;
SELECT submeter.queue_notice(1, 2, 'low_balance', 'e2', '{"available":9.5,"threshold":10}', '2026-03-02 23:00') AS nobody;
SELECT submeter.queue_notice(1, 1, 'trip_announced', 'e3', '{"available":-3,"amount":3,"due_at":"2026-03-03 10:00+08"}', '2026-03-02 23:00', true);
SELECT submeter.queue_notice(1, 1, 'tripped', 'e4', '{"available":-3,"amount":3,"at":"2026-03-02 23:00+08"}', '2026-03-02 23:00', false);
SELECT n.notice_id, c.name, kind, channel, n.locale, urgent, subject, body FROM submeter.notice n JOIN submeter.contact c USING (site_id, contact_id) ORDER BY notice_id;
-- A policy that only observes is not heard.
UPDATE submeter.credit_policy SET mode = 'observe';
SELECT submeter.queue_notice(1, 1, 'low_balance', 'e5', '{}', '2026-03-02 23:00') AS nothing;
UPDATE submeter.credit_policy SET mode = 'automatic';

-- 4. Quiet hours
SELECT at, submeter.quiet_until('22:00', '07:00', 'Asia/Shanghai', at::timestamptz)
FROM unnest('{2026-03-02 21:59:59,2026-03-02 22:00,2026-03-03 00:30,2026-03-03 06:59:59,2026-03-03 07:00}'::text[]) at;
SELECT submeter.quiet_until('12:00', '14:00', 'Asia/Shanghai', '2026-03-02 13:00'), submeter.quiet_until(NULL, NULL, 'Asia/Shanghai', '2026-03-02 13:00');

-- 5. Delivery. Without a directory the file channel does not work: nothing is lost, nothing is used up.
SHOW submeter.notice_directory;
SELECT submeter.notice_file_works();
SELECT submeter.deliver_notices(1, '2026-03-02 23:00');
SELECT notice_id, state, attempts, next_try_at, last_error FROM submeter.notice ORDER BY notice_id;
SELECT pg_temp.refusal($$SELECT submeter.notice_file_write('n', 'x')$$);
SELECT pg_temp.refusal($$SET submeter.notice_directory = 'relative/path'$$);
SELECT pg_temp.refusal($$ALTER SYSTEM SET submeter.notice_directory = 'relative/path'$$);
-- With one, urgent messages go at once, the others after the quiet hours.
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir -p notices';
SELECT current_setting('data_directory') || '/notices' AS directory \gset
\set ECHO none
ALTER SYSTEM SET submeter.notice_directory = :'directory';
SELECT pg_reload_conf() AS reloaded \gset
-- A setting arrives between two statements: as many of them as it takes, and none once it is there.
SELECT $$DO 'BEGIN IF NOT submeter.notice_file_works() THEN PERFORM pg_sleep(0.02); END IF; END'$$ FROM generate_series(1, 300) \gexec
\set ECHO all
SELECT submeter.notice_file_works();
SELECT submeter.deliver_notices(1, '2026-03-02 23:10');
SELECT notice_id, state, attempts, channel, accepted_at, next_try_at, last_error FROM submeter.notice ORDER BY notice_id;
SELECT submeter.deliver_notices(1, '2026-03-03 06:59'), submeter.deliver_notices(1, '2026-03-03 07:00');
SELECT notice_id, state, accepted_at FROM submeter.notice WHERE event IN ('e1', 'e4') ORDER BY notice_id;
SELECT name FROM pg_ls_dir('notices') name ORDER BY name COLLATE "C";
SELECT replace(pg_read_file('notices/notice-1-1.eml'), E'\r', '<');
-- When somebody was told: the first contact a message about the event reached.
SELECT submeter.told_at(1, 1, 1), submeter.told_at(1, 1, 2), submeter.told_at(1, 1, 99);
-- The same name again replaces the message; names that lead elsewhere are refused.
SELECT submeter.notice_file_write('twice', 'first'), submeter.notice_file_write('twice', 'second, longer'), submeter.notice_file_write('empty', '');
SELECT pg_read_file('notices/twice'), length(pg_read_file('notices/empty')), (SELECT count(*) FROM pg_ls_dir('notices') n WHERE n LIKE '.%') AS unfinished;
SELECT name, pg_temp.refusal(format('SELECT submeter.notice_file_write(%L, ''x'')', name))
FROM unnest(ARRAY['../up', 'a/b', '.hidden', '', 'ü', E'a\nb', repeat('x', 121)]) name;

-- 6. A poison row never stops the others: a name with a line break cannot become a header.
SELECT pg_temp.refusal($$UPDATE submeter.contact SET name = E'Boss\r\nBcc: all@example.org' WHERE contact_id = 1$$);
ALTER TABLE submeter.contact DISABLE TRIGGER check_contact;
UPDATE submeter.contact SET name = E'Boss\r\nBcc: all@example.org' WHERE contact_id = 1;
ALTER TABLE submeter.contact ENABLE TRIGGER check_contact;
SELECT submeter.queue_notice(1, 1, 'low_balance', 'e6', '{"available":1,"threshold":10}', '2026-03-03 12:00') > 0 AS queued;
SELECT submeter.deliver_notices(1, '2026-03-03 12:00');
SELECT contact_id, state, attempts, next_try_at, last_error FROM submeter.notice WHERE event = 'e6' ORDER BY notice_id;
-- Each failure doubles the wait; the eighth is the last and raises an alarm.
SELECT sum(submeter.deliver_notices(1, at)) AS delivered
FROM generate_series('2026-03-03 12:00:30'::timestamptz, '2026-03-03 13:02', '30 s') at;
SELECT state, attempts, next_try_at FROM submeter.notice WHERE event = 'e6' AND contact_id = 1;
SELECT submeter.deliver_notices(1, '2026-03-03 13:05');
SELECT state, attempts FROM submeter.notice WHERE event = 'e6' AND contact_id = 1;
SELECT rule, raised_at, detail FROM submeter.alarm;
SELECT submeter.deliver_notices(1, '2026-03-04 12:00');
-- A disk that refuses is the same: the directory is gone, the message waits for its next try.
UPDATE submeter.contact SET name = 'Boss' WHERE contact_id = 1;
SELECT submeter.queue_notice(1, 1, 'low_balance', 'e7', '{"available":1,"threshold":10}', '2026-03-05 12:00') > 0 AS queued;
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mv notices notices.away';
SELECT submeter.deliver_notices(1, '2026-03-05 12:00');
SELECT state, attempts, last_error ~ '^could not create' AS told_why FROM submeter.notice WHERE event = 'e7' ORDER BY notice_id;
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mv notices.away notices';
SELECT submeter.deliver_notices(1, '2026-03-05 12:01');
SELECT state, attempts, last_error FROM submeter.notice WHERE event = 'e7' ORDER BY notice_id;

\set ECHO none
ALTER SYSTEM RESET submeter.notice_directory;
SELECT pg_reload_conf() AS reloaded \gset
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm -r notices';
