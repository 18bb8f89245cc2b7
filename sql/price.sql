-- Room: named prices. One file changes the prices of all tariffs, or nothing.
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
CREATE FUNCTION pg_temp.refused(csv text, reason text DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$SELECT pg_temp.refusal(format('SELECT submeter.load_prices(1, %L, %L)', refused.csv, refused.reason))$$;

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'far', 'Another mall');
UPDATE submeter.site SET time_zone = 'Europe/Berlin' WHERE site_id = 2;

-- 1. CSV as spreadsheets write it

SELECT * FROM submeter.csv_rows(E'a,b\n1,2\n');
SELECT * FROM submeter.csv_rows(E'\uFEFFa;b,"c ""d"", e"\r\n\r\n,,\r\n1 , 2\r\n"two\r\nlines",');
SELECT * FROM submeter.csv_rows(E'a,b\r"",x');
-- A quote in the wrong place: the line, and nothing is guessed.
SELECT line FROM submeter.csv_rows(E'a,b\n1,2\n3,x"y"\n');
SELECT line FROM submeter.csv_rows(E'a,b\n1,2\n3,"y"z\n4,5\n');
SELECT line FROM submeter.csv_rows(E'a,b\n1,2\n3,"open\n4,5\n');
SELECT pg_temp.refusal('SELECT submeter.csv_rows(' || c || ')') FROM unnest('{"NULL","''''","E''\\uFEFF\\n \\n''","repeat(''x'', 4000001)"}'::text[]) c;
SELECT v AS value, submeter.csv_time(v, 'Asia/Shanghai') FROM unnest('{2026-01-01,2026/1/1,2026/01-01,2026-1-1 8:30,2026-01-01T08:30:15,2026-01-01 08:30Z,2026-01-01 08:30+0800,2026-02-30,2026-13-01,2026-01-01 24:30,26-01-01,01/02/2026,today,infinity,now,2026-01-01 08:30 Europe/Berlin}'::text[]) v;
SET datestyle = 'SQL, DMY';
SELECT to_char(submeter.csv_time('2026/3/4', 'UTC'), 'YYYY-MM-DD') AS march;
SET datestyle = 'ISO';

-- 2. A list is loaded

SELECT * FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2026-01-01,0.58023125\nfund,2026-01-01,0.0297\nbase,2026-07-01 00:30,0.6', 'decree 12', true);
SELECT count(*) AS nothing_written FROM submeter.price_item;
SELECT * FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2026-01-01,0.58023125\nfund,2026-01-01,0.0297\nbase,2026-07-01 00:30,0.6', 'decree 12');
-- Again: nothing happens. In another order of columns, with a reason of its own, as a spreadsheet exports it.
SELECT line, name, outcome FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2026-01-01,0.58023125\nfund,2026-01-01,0.0297\nbase,2026-07-01 00:30,0.6');
SELECT line, name, price, previous, outcome FROM submeter.load_prices(1, E'\uFEFF"Price","reason",NAME,valid_from\r\n0.0300,"粤发改价格〔2026〕1号, 附件 ""二""",fund,2026/1/1\r\n,,,\r\n0.58023125,,base,2026-01-01\r\n');
SELECT name, valid_from, revision, price, reason, entered_by = session_user AS by_me FROM submeter.price_item ORDER BY 1, 2, 3;
-- Days are local to the site.
SELECT valid_from FROM submeter.load_prices(2, E'name,valid_from,price\nbase,2026-07-01,0.3');
-- Back to the first price: a revision as well.
SELECT name, price, previous, outcome FROM submeter.load_prices(1, E'name,valid_from,price\nfund,2026-01-01,0.0297', 'the decree was withdrawn');
SELECT max(revision) AS revision FROM submeter.price_item WHERE site_id = 1 AND name = 'fund';
-- Who uses a name: a name nobody uses is perhaps a slip.
INSERT INTO submeter.tariff (site_id, tariff_id, code) VALUES (1, 1, 'a'), (1, 2, 'b'), (1, 3, 'c');
SET session_replication_role = replica;
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES
	(1, 1, '2026-01-01', '{"energy":[{"price":{"ref":"base","times":2}}]}'), (1, 1, '2026-02-01', '{"energy":[{"price":{"ref":"base"}}]}'),
	(1, 2, '2026-01-01', '{"energy":[{"price":0.5}],"adders":[{"name":"x","price":{"ref":"base"}}]}'), (1, 3, '2026-01-01', '{"energy":[{"price":0.5}],"adders":[{"name":"base","price":0.1}]}');
RESET session_replication_role;
SELECT name, tariffs FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2027-01-01,0.58\nbasis,2027-01-01,0.58', NULL, true);

-- 3. One line that is wrong refuses all of them, and each is named

SELECT pg_temp.refused(E'name,valid_from,price\nnew,2026-01-01,1\nBase,2026-01-01,0.5802\nfund,2026/13/1,0.04\nfund,2026-03-01,1e3\nbase,2026-01-01,0.7\nfund,2026-03-01,-1\nfund,2026-03-01,"1,5"\nfund,2026-03-01,1.123456789\nfund,2026-03-01,1000000.01\n,2026-03-01,1\nfund,,1\nfund,2026-03-01,\nfund,0001-01-01,1\nfund,2026-03-01,NaN\nfund,2026-03-01,0x1\nnew,2026-01-01 00:00,1');
SELECT pg_temp.refused(E'name,valid_from,price\n' || string_agg(format('n%s,never,1', n), E'\n')) FROM generate_series(1, 25) n;
SELECT pg_temp.refused(c) FROM unnest(ARRAY[E'name;valid_from;price\nbase;2026-01-01;1', E'name,valid_from\nbase,2026-01-01', E'name,valid_from,price,price,colour\nbase,2026-01-01,1,1,red',
	E'name,valid_from,price\nbase,2026-01-01\nbase,2026-01-01,1,2', E'name,valid_from,price\nbase,2026-01-01,"1\nbase,2026-01-01,2', '', 'x']) c;
SELECT pg_temp.refusal('SELECT submeter.load_prices(' || a || ', E''name,valid_from,price\nbase,2026-01-01,1'')') FROM unnest('{"NULL",99}'::text[]) a;
-- Only the header: nothing to do.
SELECT count(*) FROM submeter.load_prices(1, 'name,valid_from,price');
SELECT count(*) AS as_before FROM submeter.price_item;
-- A reason of blanks is none.
SELECT pg_temp.refused(E'name,valid_from,price\nbase,2026-01-01,0.7', '  ');
SELECT pg_temp.refused(E'name,valid_from,price,reason\nbase,2026-01-01,0.7,because\nfund,2026-01-01,0.7, ');

-- 4. A second person, where the site wants one

UPDATE submeter.site SET approval_verbs = '{load_prices}' WHERE site_id = 1;
SELECT pg_temp.refused(E'name,valid_from,price\nbase,2028-01-01,0.7', 'x');
SELECT outcome FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2028-01-01,0.7', 'x', true);
SELECT submeter.ask_approval(1, 'load_prices', jsonb_build_object('csv', E'name,valid_from,price\nbase,2028-01-01,0.7', 'reason', 'x'), 'new decree') AS asked \gset
UPDATE submeter.approval SET asked_by = 'another' WHERE approval_id = :asked;
SELECT submeter.decide_approval(1, :asked, true);
SELECT outcome FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2028-01-01,0.7', 'x');
SELECT outcome FROM submeter.load_prices(1, E'name,valid_from,price\nbase,2028-01-01,0.7', 'x');
SELECT used_at IS NOT NULL AS used FROM submeter.approval WHERE approval_id = :asked;

-- 5. A price that was charged already: corrected at once, and a debit is put aside

INSERT INTO submeter.site (site_id, code, name) VALUES (4, 'hot', 'A hot mall');
SELECT submeter.create_partitions('2026-07-01', '2026-09-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (4, 4, 't', 'T');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) VALUES (4, 4, 4, 'a', '2026-07-01');
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (4, 4, 'm', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (4, 4, '2026-07-01', 60);
SELECT name, outcome FROM submeter.load_prices(4, E'name,valid_from,price\nbase,2026-07-01,0.5\nother,2026-07-01,0.1');
SELECT submeter.create_tariff(4, 'grid', '{"energy":[{"price":{"ref":"base","times":2}}]}', '2026-07-01') AS tariff \gset
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (4, 4, 4, :tariff, '[2026-07-20 00:00+08,)');
SELECT submeter.recharge(4, 4, 100, 'cash', 'k') > 0 AS paid;
-- One kWh an hour, for four days.
SELECT submeter.ingest(4, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 4, 'ts', '2026-07-20 00:00+08'::timestamptz + n * interval '1 hour', 'energy_wh', n * 1000)) ORDER BY n))
FROM generate_series(0, 96) n;
SELECT submeter.settle(4, '2026-07-24 00:00+08') > 0 AS settled;
CREATE FUNCTION pg_temp.state() RETURNS TABLE (energy_wh bigint, rounded numeric, available numeric, debt numeric, corrections bigint)
LANGUAGE sql AS $$
	SELECT c.energy_wh, c.rounded, submeter.balance(4, 4), submeter.side_total(4, 4, 'debt'), (SELECT count(*) FROM submeter.correction WHERE site_id = 4)
	FROM submeter.charge c WHERE c.site_id = 4
$$;
SELECT * FROM pg_temp.state();
SELECT outcome, tariffs FROM submeter.load_prices(4, E'name,valid_from,price\nbase,2026-08-01,0.7\nother,2026-07-21,0.3', as_of => '2026-07-24 00:00+08');
SELECT * FROM pg_temp.state();
-- From the 23rd: a day at 1.20 instead of 1.00 a kWh.
SELECT outcome, tariffs FROM submeter.load_prices(4, E'name,valid_from,price\nbase,2026-07-23,0.6\nother,2026-07-23,0.4', 'decree 13', as_of => '2026-07-24 00:00+08');
SELECT * FROM pg_temp.state();
SELECT kind, reason, accounts, debited, credited FROM submeter.correction WHERE site_id = 4;
-- Revised: cheaper from the first.
SELECT outcome, previous FROM submeter.load_prices(4, E'name,valid_from,price\nbase,2026-07-01,0.4', 'decree 14', as_of => '2026-07-24 00:00+08');
SELECT * FROM pg_temp.state();
SELECT * FROM submeter.verify_ledger(4);
