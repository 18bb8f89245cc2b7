-- Room: duties. What has to happen again and again; one poisoned row or site never stops the others.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- The error a statement ends with: one line, so that code, place and hint are all part of the contract.
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

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall'), (3, 'third', 'A third');
SELECT submeter.create_partitions('2024-12-01', '2025-03-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT n, n, 't', 'T' FROM generate_series(1, 3) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT n, n, n, 'a' FROM generate_series(1, 3) n;
SELECT submeter.create_tariff(n, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') > 0 AS priced FROM generate_series(1, 3) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT n, n, 'm', 'DDS238-2 ZN/SR' FROM generate_series(1, 3) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT n, n, 100000 FROM generate_series(1, 3) n;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT t.site_id, t.site_id, t.site_id, t.tariff_id, '["2025-01-01 00:00+08",)' FROM submeter.tariff t;
CREATE FUNCTION pg_temp.read(at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT sum(submeter.ingest(m.site_id, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', m.meter_id, 'ts', at::timestamp AT TIME ZONE 'Asia/Shanghai', 'energy_wh', (kwh * 1000)::bigint))])) FROM submeter.meter m
$$;
CREATE VIEW pg_temp.duty AS
SELECT d.site_id AS site, d.duty, d.done, d.failures, d.error, d.last_at FROM submeter.duty_state d JOIN submeter.duty x USING (duty) ORDER BY d.site_id, x.ordinal;

-- 1. Each site has each duty, and none ran yet

SELECT d.duty, x.every, count(*) AS sites, sum(d.done) AS done FROM submeter.duty_state d JOIN submeter.duty x USING (duty) GROUP BY 1, 2, x.ordinal ORDER BY x.ordinal;

-- 2. All of them once, as of a time: settled, posted, and said when

SELECT pg_temp.read('2025-01-01 00:00', 0), pg_temp.read('2025-01-02 12:00', 36);
SELECT submeter.run_duties('2025-01-03 00:00+08') AS failed;
SELECT * FROM pg_temp.duty WHERE site = 1;
SELECT account_id, rounded, posted FROM submeter.charge ORDER BY 1;
SELECT account_id, amount, effective_at FROM submeter.transfer ORDER BY 1;
-- Charges are posted once a local day; what comes later on the day accrues.
SELECT pg_temp.read('2025-01-03 08:00', 40), submeter.run_duties('2025-01-03 09:00+08') AS failed;
SELECT account_id, rounded, posted FROM submeter.charge ORDER BY 1;
SELECT submeter.run_duties('2025-01-04 00:00+08') AS failed, (SELECT sum(posted) FROM submeter.charge) AS posted_before;
SELECT account_id, rounded, posted FROM submeter.charge ORDER BY 1;
-- Again, and with an older point in time: nothing more, nothing less.
SELECT submeter.run_duties('2025-01-04 00:00+08') AS again, submeter.run_duties('2025-01-02 00:00+08') AS earlier;
SELECT count(*) AS movements, sum(amount) FROM submeter.transfer;
SELECT * FROM submeter.verify_ledger(1) UNION ALL SELECT * FROM submeter.verify_ledger(2) UNION ALL SELECT * FROM submeter.verify_ledger(3);

-- 3. Poison

-- A price nobody can have written stops the settlement of its site only, and is put on record.
BEGIN;
ALTER TABLE submeter.tariff_version DISABLE TRIGGER USER;
UPDATE submeter.tariff_version SET definition = '{"energy":"poison"}' WHERE site_id = 2;
ALTER TABLE submeter.tariff_version ENABLE TRIGGER USER;
COMMIT;
SELECT pg_temp.read('2025-01-04 08:00', 50), submeter.run_duties('2025-01-05 00:00+08') AS failed;
SELECT site, duty, failures, left(error, 30) AS error FROM pg_temp.duty WHERE failures > 0;
SELECT site_id, rounded, posted FROM submeter.charge ORDER BY 1;
-- The other duties of the site ran.
SELECT duty, last_at FROM pg_temp.duty WHERE site = 2;
-- Each failure in a row doubles the wait of the workers, up to ten minutes.
SELECT submeter.run_duties('2025-01-05 00:00+08') AS failed;
SELECT failures, round(extract(epoch FROM next_at - failed_at)) AS wait_s, failed_at > now() - interval '1 minute' AS at_once FROM submeter.duty_state WHERE site_id = 2 AND duty = 'settle';
SELECT count(submeter.duty_failed(3, 'notices', '57014', 'slow')) AS results FROM generate_series(1, 12);
SELECT failures, error, round(extract(epoch FROM next_at - failed_at)) AS wait_s FROM submeter.duty_state WHERE site_id = 3 AND duty = 'notices';
-- The antidote.
BEGIN;
ALTER TABLE submeter.tariff_version DISABLE TRIGGER USER;
UPDATE submeter.tariff_version SET definition = '{"energy":[{"price":1}]}' WHERE site_id = 2;
ALTER TABLE submeter.tariff_version ENABLE TRIGGER USER;
COMMIT;
SELECT submeter.run_duties('2025-01-05 00:00+08') AS failed;
SELECT site, duty, failures, error FROM pg_temp.duty WHERE failures > 0 OR error IS NOT NULL;
SELECT site_id, rounded, posted FROM submeter.charge ORDER BY 1;
SELECT failures, next_at > failed_at + interval '1 hour' AS stuck FROM submeter.duty_state WHERE site_id = 2 AND duty = 'settle';

-- 4. One duty, by hand

SELECT submeter.run_duty(1, 'settle', '2025-01-05 00:00+08') AS intervals, current_setting('submeter.duty') AS mark_left;
SELECT pg_temp.refusal('SELECT submeter.run_duty(1, ''dance'', now())'), pg_temp.refusal('SELECT submeter.run_duty(99, ''settle'', ''2025-01-05'')');
SELECT pg_temp.refusal('SELECT submeter.run_duties(' || a || ')') FROM unnest('{"NULL",''infinity'',''-infinity''}'::text[]) a;
-- A site that was never heard of has nothing to do, one without meters neither.
INSERT INTO submeter.site (site_id, code, name) VALUES (4, 'empty', 'Empty');
SELECT submeter.run_duties('2025-01-05 00:00+08') AS failed;
SELECT count(*) AS duties, min(done) AS least FROM pg_temp.duty WHERE site = 4;

-- 5. A copied database is asleep until somebody adopts it

SELECT submeter.is_adopted(), submeter.is_awake();
UPDATE submeter.installation SET database_oid = 1;
SELECT submeter.is_adopted(), submeter.is_awake();
SELECT part, ok, detail FROM submeter.health WHERE part = 'database';
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.run_duties(''2025-01-06 00:00+08'')', 'SELECT submeter.run_duty(1, ''settle'', ''2025-01-06'')', 'SELECT submeter.settle(1)',
	'SELECT submeter.recharge(1, 1, 5, ''cash'', ''k'')', 'SELECT submeter.ingest(1, ''{}'')', 'SELECT submeter.apply_policy(1)', 'SELECT * FROM submeter.claim_commands(''p'', 1)', 'SELECT * FROM submeter.poller_meters()']) s;
SELECT pg_temp.refusal('SELECT submeter.adopt(' || r || ')') FROM unnest('{"NULL","''''"}'::text[]) r;
SELECT submeter.adopt('the old server is scrapped');
SELECT submeter.is_adopted(), submeter.is_awake(), adopted_by, adopt_reason, adopted_at > now() - interval '1 minute' AS now FROM submeter.installation;
SELECT submeter.run_duties('2025-01-06 00:00+08') AS failed;
-- Another server: its identifier differs, the number of the database may not.
UPDATE submeter.installation SET system_identifier = '1';
SELECT left(pg_temp.refusal('SELECT submeter.run_duties(''2025-01-06 00:00+08'')'), 70);
SELECT submeter.adopt('again');
-- An older storage than the code expects.
UPDATE submeter.installation SET storage_version = storage_version - 1;
SELECT submeter.is_awake(), regexp_replace(pg_temp.refusal('SELECT submeter.run_duties(''2025-01-06 00:00+08'')'), '\d+, code expects \d+', 'N, code expects N');
UPDATE submeter.installation SET storage_version = storage_version + 1;
SELECT submeter.is_awake(), submeter.run_duties('2025-01-06 00:00+08') AS failed;

-- 6. The same with a real copy, as a person makes one to try something

INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 1, 'g', '127.0.0.1:1');
UPDATE submeter.meter SET gateway_id = 1, bus_address = '1' WHERE meter_id = 1;
SELECT submeter.recharge(1, 1, 500, 'cash', 'before the copy') > 0 AS paid, submeter.request_command(1, 1, 'open', 'before the copy') > 0 AS command;
UPDATE submeter.command SET state = 'claimed', claimed_by = 'p', attempts = 1;
SELECT submeter.balance(1, 1) AS balance \gset
\set original :DBNAME
\c postgres
CREATE DATABASE regress_duties_copy TEMPLATE :original;
\c regress_duties_copy
SET client_min_messages = warning;
SELECT submeter.is_adopted(), submeter.is_awake();
\set VERBOSITY terse
SELECT submeter.run_duties('2025-01-07 00:00+08');
SELECT submeter.recharge(1, 1, 5, 'cash', 'in the copy');
SELECT state FROM submeter.command;
-- What was on its way to a breaker is asked for and never sent again.
SELECT submeter.adopt('the original is gone');
SELECT state, detail FROM submeter.command;
SELECT submeter.run_duties('2025-01-07 00:00+08') AS failed, submeter.balance(1, 1) = :balance AS same_balance;
SELECT * FROM submeter.verify_ledger(1);
\c :original
DROP DATABASE regress_duties_copy;
-- The original never noticed.
SELECT submeter.is_adopted(), state FROM submeter.command;
