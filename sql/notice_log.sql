-- The log of messages: what it shows, to whom, and that nobody who looks at a day, a person or an account reads all of it.
\pset footer off
\pset format unaligned
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SELECT submeter.create_storage() > 0 AS stored;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'S1', 'Mall'), (2, 'S2', 'Other');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 'T' || n, 'tenant ' || n FROM generate_series(1, 200) n;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (2, 1001, 'T1', 'far');
CREATE ROLE regress_log_tenant LOGIN IN ROLE submeter_tenant;
CREATE ROLE regress_log_manager LOGIN IN ROLE submeter_operator;
CREATE ROLE regress_log_auditor LOGIN IN ROLE submeter_auditor;
CREATE ROLE regress_log_cashier LOGIN IN ROLE submeter_cashier;
INSERT INTO submeter.site_member (site_id, login) SELECT 1, login FROM unnest('{regress_log_manager,regress_log_auditor,regress_log_cashier}'::name[]) login;
INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, login) SELECT 1, n, n, 'person ' || n, CASE n WHEN 7 THEN 'regress_log_tenant' END FROM generate_series(1, 200) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, n, 'A' || n FROM generate_series(1, 200) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (2, 1001, 1001, 'A1');
-- a year of a hundred messages a day, and some of another site
INSERT INTO submeter.notice (site_id, account_id, contact_id, kind, channel, locale, subject, body, event, dedupe_key, next_try_at, created_at, state, accepted_at, address, delivery, delivered_at, receipt)
SELECT 1, 1 + n % 200, 1 + n % 200, 'low_balance', 'sms', 'zh', '余额不足 ' || n, '您的电费账户余额不足,编号 ' || n, 'e' || n, 'k' || n, at, at, 'accepted', at + interval '2 s', '138****0001', 'delivered', at + interval '5 s', 'r' || n
FROM (SELECT n, '2025-01-01 00:00'::timestamptz + n * interval '864 s' AS at FROM generate_series(0, 36499) n) g;
INSERT INTO submeter.notice (site_id, account_id, kind, channel, locale, subject, body, event, dedupe_key, next_try_at, created_at) VALUES (2, 1001, 'low_balance', 'sms', 'zh', 's', 'b', 'e', 'k', now(), '2025-03-01 12:00');
VACUUM ANALYZE submeter.notice;
ANALYZE submeter.contact, submeter.account, submeter.tenant;

-- 1. What it shows
SELECT * FROM submeter.notice_log WHERE site_id = 1 AND at >= '2025-03-01 12:00' ORDER BY at LIMIT 1;
-- 2. To whom
CREATE FUNCTION pg_temp.seen(who name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', who);
	SELECT format('%s messages of %s sites to %s tenants', count(*), count(DISTINCT site_id), count(DISTINCT tenant)) INTO seen FROM submeter.notice_log;
	RESET SESSION AUTHORIZATION;
	RETURN seen;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN SQLERRM;
END $$;
SELECT who, pg_temp.seen(who) FROM unnest('{regress_log_manager,regress_log_auditor,regress_log_tenant,regress_log_cashier}'::name[]) who;
-- 3. How it is found, with the rights of a manager: by which index, and how many rows of the log are read
CREATE FUNCTION pg_temp.reads(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
	seen text;
BEGIN
	SET LOCAL SESSION AUTHORIZATION regress_log_manager;
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF, TIMING OFF) ' || query INTO plan;
	RESET SESSION AUTHORIZATION;
	SELECT format('%s, at most %s rows', string_agg(DISTINCT p ->> 'Index Name', ' '), max((p ->> 'Actual Rows')::int + coalesce((p ->> 'Rows Removed by Filter')::int, 0))) INTO seen
	FROM jsonb_path_query(plan, 'strict $.**') p WHERE p ? 'Node Type' AND (p ->> 'Relation Name' = 'notice' OR p ->> 'Index Name' LIKE 'notice%');
	RETURN seen;
END $$;
SELECT q AS query, pg_temp.reads('SELECT * FROM submeter.notice_log WHERE site_id = 1 AND ' || q) AS reads FROM unnest(ARRAY[
	'at >= ''2025-03-01'' AND at < ''2025-03-02''', 'at >= ''2025-03-01'' AND at < ''2025-03-02'' AND body ILIKE ''%编号 5950%''',
	'contact_id = 7 AND at >= ''2025-03-01'' AND at < ''2025-04-01'' ORDER BY at DESC', 'account_id = 7', 'at >= ''2025-03-01'' AND at < ''2025-03-02'' AND state = ''failed''']) q;
SELECT count(*) AS found FROM submeter.notice_log WHERE site_id = 1 AND at >= '2025-03-01' AND at < '2025-03-02' AND body ILIKE '%编号 5950%';
DROP OWNED BY regress_log_tenant, regress_log_manager, regress_log_auditor, regress_log_cashier;
DROP ROLE regress_log_tenant, regress_log_manager, regress_log_auditor, regress_log_cashier;
