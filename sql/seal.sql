-- Room: seals. Who edits the ledger is found out, whatever rights they have.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'A tenant'), (2, 2, 't', 'Another tenant');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 1, 'a2'), (2, 20, 2, 'b1');
-- Numbers of movements as a test can name them: first, second ... of the site.
CREATE FUNCTION pg_temp.nth(n bigint) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT transfer_id FROM submeter.transfer WHERE site_id = 1 ORDER BY transfer_id, leg OFFSET nth.n - 1 LIMIT 1$$;
CREATE TEMP TABLE number AS SELECT 0::bigint AS nth, 0::bigint AS transfer_id;
CREATE FUNCTION pg_temp.problems() RETURNS TABLE (problem text, nth bigint, expected numeric, found numeric)
LANGUAGE sql AS $$
	SELECT v.problem, coalesce((SELECT n.nth FROM number n WHERE n.transfer_id = v.transfer_id), v.transfer_id), v.expected, v.found FROM submeter.verify_ledger(1) v
$$;

-- Whoever takes a number of a movement holds the site for posting first.
SELECT p.proname FROM pg_proc p
WHERE p.pronamespace = 'submeter'::regnamespace AND p.prosrc LIKE '%nextval(''submeter.transfer_id_seq'')%'
	AND p.prosrc !~ 'hold_posting.*nextval\(''submeter\.transfer_id_seq' ORDER BY 1;
SELECT count(*) > 0 AS there_are_some FROM pg_proc p WHERE p.pronamespace = 'submeter'::regnamespace AND p.prosrc LIKE '%nextval(''submeter.transfer_id_seq'')%';

-- 1. Nothing to seal, then something, then nothing again

SELECT submeter.seal(1) AS nothing, (SELECT count(*) FROM submeter.ledger_head(1)) AS heads;
SELECT bool_and(submeter.recharge(1, 1 + n % 2, n, 'cash', 'k' || n, 'note ' || n) > 0) AS paid FROM generate_series(1, 6) n;
SELECT submeter.adjust(1, 1, -2.5, '电表 "误读"', 'a1') > 0 AS adjusted, submeter.recharge(2, 20, 7, 'cash', 'k1') > 0 AS elsewhere;
SELECT submeter.seal(1, '2026-01-01 00:00+08') AS sealed, submeter.seal(1, '2026-01-01 00:05+08') AS again;
SELECT submeter.reverse_movement(1, pg_temp.nth(6), 'twice', 'r1') > 0 AS reversed, submeter.recharge(1, 2, 0.01, 'bank', 'k9') > 0 AS paid;
-- An older as_of does not turn the clock of the chain back.
SELECT submeter.seal(1, '2025-12-31') AS sealed;
SELECT seal_no, legs, amount, sealed_at, cardinality(transfer_ids) AS ids, leg_nos, previous = lag(hash, 1, '\x0000000000000000000000000000000000000000000000000000000000000000') OVER (ORDER BY seal_no) AS follows
FROM submeter.ledger_seal WHERE site_id = 1 ORDER BY 1;
SELECT seal_no, legs, sealed_at, length(hash) FROM submeter.ledger_head(1);
SELECT submeter.seal(2) AS elsewhere;
INSERT INTO number SELECT row_number() OVER (ORDER BY transfer_id, leg), transfer_id FROM submeter.transfer WHERE site_id = 1;
SELECT * FROM pg_temp.problems();

-- 2. What is hashed is written down, and no setting of a session changes it

SELECT d.digest = sha256(convert_to(format('[1, %s, 1, %s, %s, 2.50, "adjustment", 1, null, null, null, "电表 \"误读\"", null, "a1", "%s", "%s", "%s"]',
		t.transfer_id, t.debit_id, t.credit_id, to_char(t.effective_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(t.posted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), t.created_by), 'UTF8')) AS as_documented
FROM submeter.transfer t JOIN submeter.transfer_digests(1, 0, 1000000) d USING (transfer_id) WHERE t.idempotency_key = 'a1';
SELECT s.hash = sha256(s.previous || convert_to(format('[1, 1, 0, %s, 7, 23.50, "2025-12-31T16:00:00.000000Z"]', s.last_id), 'UTF8')
	|| (SELECT string_agg(d, '' ORDER BY o) FROM unnest(s.digests) WITH ORDINALITY u(d, o))) AS as_documented
FROM submeter.ledger_seal s WHERE s.site_id = 1 AND s.seal_no = 1;
SET timezone = 'America/New_York';
SET datestyle = 'German';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -15;
SET bytea_output = 'escape';
SET standard_conforming_strings = off;
SELECT count(*) AS problems FROM submeter.verify_ledger(1);
RESET standard_conforming_strings;
RESET bytea_output;
RESET extra_float_digits;
RESET intervalstyle;
SET datestyle = 'ISO';
SET timezone = 'UTC';

-- 3. A head that was noted down

SELECT seal_no, hash FROM submeter.ledger_head(1) \gset
SELECT * FROM submeter.check_head(1, :seal_no, :'hash');
SELECT ok FROM submeter.check_head(1, :seal_no, ' \x' || upper(:'hash') || ' ');
SELECT * FROM submeter.check_head(1, 1, :'hash');
SELECT * FROM submeter.check_head(1, 3, :'hash');
SELECT pg_temp.refusal('SELECT submeter.check_head(' || a || ')') FROM unnest('{"1, NULL, repeat(''0'', 64)","1, 1, NULL","1, 1, ''abc''","1, 1, repeat(''g'', 64)","99, 1, repeat(''0'', 64)"}'::text[]) a;
SELECT pg_temp.refusal('SELECT submeter.seal(' || a || ')') FROM unnest('{"1, NULL","1, ''infinity''","99","NULL"}'::text[]) a;
SELECT pg_temp.refusal('SELECT submeter.' || f || '(99)') FROM unnest('{ledger_head,export_head,verify_ledger}'::text[]) f;
-- A snapshot of the past would seal what it sees as all there is.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.refusal('SELECT submeter.seal(1)');
ROLLBACK;

-- 4. Rows are never changed: refused for everybody, in replica mode too

SELECT pg_temp.refusal(s) FROM unnest(ARRAY['UPDATE submeter.transfer SET amount = 1', 'DELETE FROM submeter.transfer', 'TRUNCATE submeter.transfer',
	'UPDATE submeter.ledger_seal SET amount = 1', 'DELETE FROM submeter.ledger_seal', 'TRUNCATE submeter.ledger_seal']) s;
SET session_replication_role = replica;
SELECT left(pg_temp.refusal(s), 60) FROM unnest(ARRAY['UPDATE submeter.transfer SET amount = 1', 'DELETE FROM submeter.transfer', 'TRUNCATE submeter.transfer',
	'UPDATE submeter.ledger_seal SET amount = 1', 'DELETE FROM submeter.ledger_seal', 'TRUNCATE submeter.ledger_seal']) s;
RESET session_replication_role;

-- 5. A superuser takes the triggers away first; each deed is found and named

BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER ALL;
ALTER TABLE submeter.ledger_seal DISABLE TRIGGER ALL;
SAVEPOINT clean;

-- an amount, and the total along with it so that the books balance
UPDATE submeter.transfer SET amount = 500 WHERE transfer_id = pg_temp.nth(3);
SELECT * FROM pg_temp.problems();
UPDATE submeter.ledger_account SET total = total + 497 WHERE site_id = 1 AND account_id = 2;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
-- every other column, however little
CREATE FUNCTION pg_temp.edited(assignment text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	said text;
BEGIN
	EXECUTE format('UPDATE submeter.transfer SET %s WHERE transfer_id = pg_temp.nth(3)', assignment);
	said := (SELECT coalesce(string_agg(v.problem || ' ' || n.nth, ', ' ORDER BY v.problem), 'NOT FOUND') FROM submeter.verify_seals(1, NULL) v JOIN number n USING (transfer_id));
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = said;
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN RETURN SQLERRM;
END
$$;
SELECT a AS assignment, pg_temp.edited(a) AS found FROM unnest(ARRAY['debit_id = credit_id + 1', 'credit_id = credit_id - 1', 'amount = 3.01', 'kind = ''deposit''', 'account_id = 1', 'tariff_id = 1',
	'kind = ''share'', cycle_start = ''2026-01-01''', 'method = ''bank''', 'method = NULL', 'note = note || '' ''', 'note = ''''', 'kind = ''reversal'', reverses_id = 1', 'idempotency_key = ''k3 ''',
	'effective_at = effective_at + interval ''1 us''', 'posted_at = posted_at - interval ''1 us''', 'created_by = ''nobody''', 'leg = 2']) a;
-- a deletion
DELETE FROM submeter.transfer WHERE transfer_id = pg_temp.nth(2);
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
-- all gone
TRUNCATE submeter.transfer;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
-- a row with a number that was sealed as unused (the one of the other site)
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by)
SELECT 1, (SELECT transfer_id FROM submeter.transfer WHERE site_id = 2), debit_id, credit_id, 50, 'recharge', 1, 'cash', 'forged', effective_at, created_by FROM submeter.transfer WHERE transfer_id = pg_temp.nth(2);
UPDATE submeter.ledger_account SET total = total + 50 WHERE site_id = 1 AND account_id = 1;
SELECT problem, expected, found, nth = (SELECT transfer_id FROM submeter.transfer WHERE site_id = 2) AS named FROM pg_temp.problems();
ROLLBACK TO clean;
-- a row with a number of the future
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by)
SELECT 1, 999999999, debit_id, credit_id, 50, 'recharge', 1, 'cash', 'forged', effective_at, created_by FROM submeter.transfer WHERE transfer_id = pg_temp.nth(2);
UPDATE submeter.ledger_account SET total = total + 50 WHERE site_id = 1 AND account_id = 1;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
-- two rows change places
UPDATE submeter.transfer SET transfer_id = -1 WHERE transfer_id = pg_temp.nth(2);
UPDATE submeter.transfer SET transfer_id = (SELECT transfer_id FROM number WHERE nth = 2) WHERE transfer_id = (SELECT transfer_id FROM number WHERE nth = 4);
UPDATE submeter.transfer SET transfer_id = (SELECT transfer_id FROM number WHERE nth = 4) WHERE transfer_id = -1;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
-- the seal as well: its digest, then its hash too
UPDATE submeter.transfer SET amount = 500 WHERE transfer_id = pg_temp.nth(3);
UPDATE submeter.ledger_account SET total = total + 497 WHERE site_id = 1 AND account_id = 2;
UPDATE submeter.ledger_seal s SET amount = amount + 497, digests = (SELECT array_agg(d.digest ORDER BY d.transfer_id, d.leg) FROM submeter.transfer_digests(1, s.after_id, s.last_id) d)
WHERE site_id = 1 AND seal_no = 1;
SELECT * FROM pg_temp.problems();
UPDATE submeter.ledger_seal s SET hash = submeter.seal_hash(site_id, seal_no, after_id, last_id, legs, amount, digests, previous, sealed_at) WHERE site_id = 1 AND seal_no = 1;
SELECT * FROM pg_temp.problems();
SELECT * FROM submeter.check_head(1, :seal_no, :'hash');
-- and every later one: inside the database nothing is wrong any more, but the head that was noted down says otherwise
UPDATE submeter.ledger_seal s SET previous = (SELECT x.hash FROM submeter.ledger_seal x WHERE x.site_id = 1 AND x.seal_no = 1) WHERE site_id = 1 AND seal_no = 2;
UPDATE submeter.ledger_seal s SET hash = submeter.seal_hash(site_id, seal_no, after_id, last_id, legs, amount, digests, previous, sealed_at) WHERE site_id = 1 AND seal_no = 2;
SELECT * FROM pg_temp.problems();
SELECT * FROM submeter.check_head(1, :seal_no, :'hash');
ROLLBACK TO clean;
-- the end of the chain is cut off
DELETE FROM submeter.ledger_seal WHERE site_id = 1 AND seal_no = 2;
SELECT * FROM pg_temp.problems();
SELECT * FROM submeter.check_head(1, :seal_no, :'hash');
ROLLBACK TO clean;
-- the beginning, and the middle
DELETE FROM submeter.ledger_seal WHERE site_id = 1 AND seal_no = 1;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
UPDATE submeter.ledger_seal SET transfer_ids = transfer_ids[2:] WHERE site_id = 1 AND seal_no = 1;
SELECT * FROM pg_temp.problems();
ROLLBACK TO clean;
UPDATE submeter.ledger_seal SET sealed_at = sealed_at - interval '1 day' WHERE site_id = 1 AND seal_no = 2;
SELECT * FROM pg_temp.problems();
ROLLBACK;
SELECT * FROM pg_temp.problems();

-- 6. What is not sealed yet can be edited unseen by the seals: a day of it is a problem of its own

BEGIN;
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, posted_at, created_by)
SELECT 1, nextval('submeter.transfer_id_seq'), debit_id, credit_id, 50, 'recharge', 1, 'cash', 'old ' || h, now() - h * interval '1 hour', '2026-01-01 00:00+00', created_by
FROM submeter.transfer, generate_series(1, 2) h WHERE transfer_id = pg_temp.nth(2);
UPDATE submeter.ledger_account SET total = total + 100 WHERE site_id = 1 AND account_id = 1;
SELECT problem, expected, found FROM pg_temp.problems();
SELECT submeter.seal(1) AS sealed;
SELECT * FROM pg_temp.problems();
ROLLBACK;

-- 7. Large ledgers are sealed in blocks, and a movement's legs stay together

BEGIN;
INSERT INTO submeter.transfer (site_id, transfer_id, leg, debit_id, credit_id, amount, kind, account_id, idempotency_key, effective_at, created_by)
SELECT 1, m.transfer_id, l.leg, CASE l.leg WHEN 1 THEN c.ledger_account_id ELSE a.ledger_account_id END, CASE l.leg WHEN 1 THEN a.ledger_account_id ELSE c.ledger_account_id END,
	1, 'adjustment', 1, 'many ' || m.n, now(), 'x'
FROM (SELECT n, nextval('submeter.transfer_id_seq') AS transfer_id FROM generate_series(1, 8000) n) m, generate_series(1, 3) l(leg),
	submeter.ledger_account a, submeter.ledger_account c
WHERE a.site_id = 1 AND a.account_id = 1 AND c.site_id = 1 AND c.code = 'adjustment';
UPDATE submeter.ledger_account SET total = total - 8000 WHERE site_id = 1 AND account_id = 1;
SELECT submeter.seal(1) AS sealed;
SELECT seal_no, legs, legs = (SELECT count(*) FROM submeter.transfer t WHERE t.site_id = 1 AND t.transfer_id > s.after_id AND t.transfer_id <= s.last_id) AS whole
FROM submeter.ledger_seal s WHERE site_id = 1 ORDER BY 1;
SELECT * FROM pg_temp.problems();
ALTER TABLE submeter.transfer DISABLE TRIGGER ALL;
DELETE FROM submeter.transfer WHERE idempotency_key = 'many 5000' AND leg = 2;
SELECT problem, expected, found FROM pg_temp.problems();
ROLLBACK;

-- 8. Other lies the books can tell

BEGIN;
ALTER TABLE submeter.transfer DISABLE TRIGGER ALL;
DROP INDEX submeter.transfer_key;
SAVEPOINT clean;
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by)
SELECT 1, nextval('submeter.transfer_id_seq'), debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by FROM submeter.transfer WHERE idempotency_key = 'k2' AND site_id = 1;
UPDATE submeter.ledger_account SET total = total + 2 WHERE site_id = 1 AND account_id = 1;
SELECT problem, expected, found FROM pg_temp.problems();
ROLLBACK TO clean;
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, reverses_id, idempotency_key, effective_at, created_by)
SELECT 1, nextval('submeter.transfer_id_seq'), credit_id, debit_id, amount + 1, 'reversal', account_id, method, transfer_id, 'wrong', effective_at, created_by FROM submeter.transfer WHERE idempotency_key = 'k2' AND site_id = 1;
UPDATE submeter.ledger_account SET total = total - 3 WHERE site_id = 1 AND account_id = 1;
SELECT problem, expected, found FROM pg_temp.problems();
ROLLBACK TO clean;
UPDATE submeter.ledger_account SET total = 5 WHERE site_id = 1 AND code = 'clearing:cash';
SELECT problem, expected, found FROM pg_temp.problems();
ROLLBACK TO clean;
SET session_replication_role = replica;
INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, idempotency_key, effective_at, created_by)
SELECT 1, nextval('submeter.transfer_id_seq'), -7, credit_id, amount, kind, account_id, method, 'stray', effective_at, created_by FROM submeter.transfer WHERE idempotency_key = 'k2' AND site_id = 1;
UPDATE submeter.ledger_account SET total = total + 2 WHERE site_id = 1 AND account_id = 1;
SELECT problem, expected, found FROM pg_temp.problems();
ROLLBACK;

-- 9. The duty, and the head for those who keep it

INSERT INTO submeter.head_recipient (site_id, email, name) VALUES (1, 'auditor@example.org', 'Auditor');
SELECT pg_temp.refusal($$INSERT INTO submeter.head_recipient (site_id, email, name) VALUES (1, 'nobody', 'x')$$);
SELECT pg_temp.refusal($$INSERT INTO submeter.head_recipient (site_id, email, name) VALUES (1, 'a@b', E'x\nBcc: y')$$) LIKE '23514%' AS refused;
-- Without a directory for messages nothing leaves, and health says so.
SELECT submeter.export_head(1) AS exported;
SELECT ok, detail FROM submeter.health WHERE part = 'head of the ledger';
SELECT submeter.recharge(1, 1, 3, 'cash', 'k10') > 0 AS paid;
SELECT submeter.run_duty(1, 'seal', '2026-03-01') AS sealed;
SELECT done, failures FROM submeter.duty_state WHERE site_id = 1 AND duty = 'seal';
SELECT regexp_replace(regexp_replace(replace(submeter.head_message(1, 'auditor@example.org', '2026-03-01'), E'\r', ''), '[0-9a-f]{64}', 'HASH', 'g'), 'last movement: \d+', 'last movement: N');
SELECT count(*) AS seals FROM submeter.ledger_seal WHERE site_id = 1;
-- What was exported is a witness inside the database too, as far as it goes.
INSERT INTO submeter.head_export (site_id, day, email, seal_no, hash, exported_at)
SELECT 1, '2026-03-01', 'auditor@example.org', seal_no, hash, '2026-03-01' FROM submeter.ledger_seal WHERE site_id = 1 AND seal_no = 3;
SELECT * FROM pg_temp.problems();
BEGIN;
ALTER TABLE submeter.ledger_seal DISABLE TRIGGER ALL;
DELETE FROM submeter.ledger_seal WHERE site_id = 1 AND seal_no = 3;
SELECT * FROM pg_temp.problems();
ROLLBACK;
SELECT * FROM pg_temp.problems();

-- 10. What was charged, closed and billed is verified too

SELECT submeter.create_partitions('2025-12-31', '2026-03-01') > 0 AS partitions;
SELECT submeter.create_tariff(2, 'flat', '{"energy":[{"price":1}]}', '2025-01-01') AS tariff \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (2, 2, 'm', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (2, 2, '2026-01-01', 1000);
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (2, 20, 2, :tariff, '[2026-01-01 00:00+08,)');
SELECT submeter.ingest(2, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 2, 'ts', ts, 'energy_wh', wh))))
FROM (VALUES ('2026-01-01 00:00+08'::timestamptz, 0), ('2026-01-20 00:00+08', 30000), ('2026-02-01 00:00+08', 50000), ('2026-02-03 00:00+08', 54000)) r(ts, wh);
SELECT submeter.settle(2, '2026-02-03 00:00+08') > 0 AS settled;
SELECT submeter.close_cycle(2, '2026-02-01') AS bills;
-- A correction after that, and the open cycle posted.
SELECT submeter.judge_reading(2, 2, '2026-02-01 00:00+08', 'replace', 'misread', 49000) > 0 AS judged;
SELECT submeter.settle(2, '2026-02-03 00:00+08') >= 0 AS settled;
SELECT submeter.post_charges(2, '2026-02-03 00:00+08') AS posted;
SELECT cycle_start, rounded, posted, billed, adjusted FROM submeter.charge WHERE site_id = 2 ORDER BY 1;
SELECT * FROM submeter.verify_ledger(2);
CREATE FUNCTION pg_temp.lie(statement text) RETURNS TABLE (problem text, expected numeric, found numeric)
LANGUAGE plpgsql
AS $$
DECLARE
	said jsonb;
BEGIN
	EXECUTE lie.statement;
	said := (SELECT jsonb_agg(to_jsonb(v)) FROM submeter.verify_ledger(2) v);
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = coalesce(said::text, '[{"problem": "NOT FOUND"}]');
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN QUERY SELECT regexp_replace(r.problem, 'bill \d+', 'bill N', 'g'), r.expected, r.found FROM jsonb_to_recordset(SQLERRM::jsonb) r(problem text, expected numeric, found numeric);
END
$$;
BEGIN;
ALTER TABLE submeter.bill DISABLE TRIGGER USER;
ALTER TABLE submeter.bill_line DISABLE TRIGGER USER;
ALTER TABLE submeter.charge DISABLE TRIGGER USER;
ALTER TABLE submeter.charge_adjustment DISABLE TRIGGER USER;
SELECT s.statement, l.* FROM unnest(ARRAY[
	$$UPDATE submeter.charge SET posted = posted + 1 WHERE site_id = 2 AND billed IS NULL$$,
	$$UPDATE submeter.charge SET posted = posted + 1, billed = billed + 1 WHERE site_id = 2 AND billed IS NOT NULL$$,
	$$UPDATE submeter.charge SET billed = billed + 1 WHERE site_id = 2 AND billed IS NOT NULL$$,
	$$UPDATE submeter.charge SET adjusted = adjusted - 1 WHERE site_id = 2 AND billed IS NOT NULL$$,
	$$UPDATE submeter.charge SET amount = amount + 0.001 WHERE site_id = 2 AND billed IS NULL$$,
	$$DELETE FROM submeter.charge WHERE site_id = 2 AND billed IS NULL$$,
	$$UPDATE submeter.charge_adjustment SET amount = amount - 1 WHERE site_id = 2$$,
	$$UPDATE submeter.bill SET amount = amount + 1 WHERE site_id = 2$$,
	$$UPDATE submeter.bill_line SET amount = amount + 1 WHERE site_id = 2$$,
	$$WITH b AS (UPDATE submeter.bill SET amount = amount + 1 WHERE site_id = 2) UPDATE submeter.bill_line SET amount = amount + 1 WHERE site_id = 2$$,
	$$UPDATE submeter.bill SET state = 'reversal', reverses_id = bill_id WHERE site_id = 2$$]) WITH ORDINALITY s(statement, ord)
CROSS JOIN LATERAL pg_temp.lie(s.statement) l ORDER BY s.ord, l.problem;
ROLLBACK;
SELECT * FROM submeter.verify_ledger(2);
