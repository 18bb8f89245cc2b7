-- Room: calendar. Public holidays, make-up workdays, days with a flag.
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
AS $$SELECT pg_temp.refusal(format('SELECT submeter.load_calendar(1, %L, %L, as_of => ''2026-03-10 12:00+08'')', refused.csv, refused.reason))$$;
CREATE FUNCTION pg_temp.days(site int, from_day date, to_day date) RETURNS TABLE (day text, day_type text, flags text[], closed boolean, name text, assumed boolean)
LANGUAGE sql AS $$
	SELECT to_char(c.day, 'YYYY-MM-DD Dy'), c.day_type, c.flags, c.closed, c.name, c.assumed FROM submeter.calendar_day c
	WHERE c.site_id = days.site AND c.day BETWEEN days.from_day AND days.to_day ORDER BY c.day
$$;

INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'mall', 'A mall', 'Asia/Shanghai'), (2, 'berlin', 'Ein Markt', 'Europe/Berlin'), (3, 'west', 'A mall in the west', 'Asia/Urumqi');

-- 1. What the notices say of 2025 and 2026

SELECT extract(year FROM day) AS year, day_type, count(*) AS days, count(*) FILTER (WHERE extract(isodow FROM day) >= 6) AS on_weekends
FROM (SELECT * FROM submeter.chinese_holidays(2025) UNION ALL SELECT * FROM submeter.chinese_holidays(2026)) d GROUP BY 1, 2 ORDER BY 1, 2;
SELECT to_char(min(day), 'YYYY-MM-DD Dy') AS from_day, to_char(max(day), 'YYYY-MM-DD Dy') AS to_day, count(*) AS days, day_type, name
FROM (SELECT d.*, day - row_number() OVER (PARTITION BY day_type, name ORDER BY day)::int AS block
	FROM (SELECT * FROM submeter.chinese_holidays(2025) UNION ALL SELECT * FROM submeter.chinese_holidays(2026)) d) b
GROUP BY block, day_type, name ORDER BY min(day);
-- Every make-up workday is a Saturday or Sunday: it would not be needed otherwise.
SELECT count(*) AS wrong FROM submeter.chinese_holidays(2026) h WHERE day_type = 'workday' AND extract(isodow FROM day) < 6;
SELECT count(*) AS unknown_year FROM submeter.chinese_holidays(2027);

-- 2. The duty writes them, and of years not known only what has a fixed date

SELECT submeter.run_duty(1, 'calendar', '2026-11-22') AS written, submeter.run_duty(1, 'calendar', '2026-11-23') AS again;
SELECT * FROM pg_temp.days(1, '2026-09-18', '2027-12-31');
SELECT d AS day, submeter.day_type(1, d::date) FROM unnest('{2026-09-20,2026-09-21,2026-10-01,2026-10-08,2026-10-10,2027-01-01,2027-02-06,2027-10-03}'::text[]) d;
-- Elsewhere nobody assumes anything; the west has the same holidays.
SELECT submeter.run_duty(2, 'calendar', '2026-11-22') AS berlin, submeter.run_duty(3, 'calendar', '2026-11-22') AS urumqi;
-- A site with history needs the years of its history; a slip of the pen does not bring a thousand of them.
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (3, 3, 't', 'T');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (3, 3, 3, 'a');
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (3, 3, 'm', 'DDS238-2 ZN/SR');
SELECT submeter.create_tariff(3, 'flat', '{"energy":[{"price":0.8}]}', '2020-01-01') AS flat \gset
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (3, 3, 3, :flat, '[2024-06-01,)');
SELECT submeter.run_duty(3, 'calendar', '2026-11-22') AS written, min(day), count(*) FILTER (WHERE assumed) AS assumed FROM submeter.calendar_day WHERE site_id = 3;
SELECT min(day), count(*) FILTER (WHERE assumed) AS assumed FROM submeter.calendar_day WHERE site_id = 3;
UPDATE submeter.supply SET during = '[0024-06-01,)' WHERE site_id = 3;
SELECT submeter.run_duty(3, 'calendar', '2026-11-22') AS written;
SELECT min(day) FROM submeter.calendar_day WHERE site_id = 3;

-- A flag on such a day says nothing of what kind of day it is.
SELECT outcome FROM submeter.load_calendar(1, E'day,flags\n2027-10-03,hot_day', as_of => '2026-11-23');
SELECT * FROM pg_temp.days(1, '2027-10-03', '2027-10-03');
SELECT outcome FROM submeter.load_calendar(1, E'day,flags\n2027-10-03,', as_of => '2026-11-23');

-- 3. A year that is only assumed is an alarm when it comes near, until it is loaded

SELECT submeter.evaluate_alarms(1, '2026-11-23') AS november, submeter.evaluate_alarms(1, '2026-12-20') AS december;
SELECT rule, detail, cleared_at IS NULL AS open FROM submeter.alarm WHERE site_id = 1;
SELECT line, day, outcome FROM submeter.load_calendar(1, E'day,day_type,name\n2027-01-01,holiday,元旦\n2027-01-02,holiday,元旦\n2027-02-06,holiday,春节\n2027-02-20,workday,春节调休\n2027-05-01,holiday,劳动节\n2027-10-01,holiday,国庆节\n2027-10-02,holiday,国庆节\n2027-10-03,holiday,国庆节\n',
	'国办通知', as_of => '2026-12-21');
SELECT submeter.evaluate_alarms(1, '2026-12-21') AS changed;
SELECT rule, cleared_at IS NULL AS open FROM submeter.alarm WHERE site_id = 1;
SELECT submeter.run_duty(1, 'calendar', '2026-12-22') AS nothing_left;
SELECT * FROM pg_temp.days(1, '2027-01-01', '2027-12-31');
SELECT DISTINCT reason FROM submeter.calendar_day WHERE site_id = 1 AND day >= '2027-01-01' ORDER BY 1;

-- 4. What a person wrote stays

INSERT INTO submeter.calendar_day (site_id, day, day_type, closed, name) VALUES (1, '2028-01-01', 'workday', false, 'stock-taking'), (1, '2028-05-01', NULL, true, NULL);
SELECT submeter.run_duty(1, 'calendar', '2027-11-22') AS written;
SELECT * FROM pg_temp.days(1, '2028-01-01', '2028-12-31');

-- 5. Files: hot days, closure days, corrections

SELECT line, day, day_type, flags, closed, outcome FROM submeter.load_calendar(1, E'\uFEFFday,flags\r\n2026/7/20,hot_day\r\n2026/7/21,hot_day;curfew hot_day\r\n', as_of => '2026-03-10', dry_run => true);
SELECT count(*) AS nothing_written FROM pg_temp.days(1, '2026-07-20', '2026-07-21');
SELECT line, outcome FROM submeter.load_calendar(1, E'day,flags\n2026-07-20,hot_day\n2026-07-21,hot_day curfew\n2026-10-01,hot_day', as_of => '2026-03-10');
SELECT line, outcome FROM submeter.load_calendar(1, E'day,flags\n2026-07-20,hot_day\n2026-07-21,curfew|hot_day\n2026-10-01,hot_day', as_of => '2026-03-10');
-- What the file does not have stays: the holiday is still one, the hot day still hot.
SELECT line, outcome FROM submeter.load_calendar(1, E'day,closed\n2026-10-01,yes\n2026-07-20,TRUE\n2026-07-21,0', as_of => '2026-03-10');
SELECT * FROM pg_temp.days(1, '2026-07-20', '2026-07-21') UNION ALL SELECT * FROM pg_temp.days(1, '2026-10-01', '2026-10-01');
SELECT line, outcome FROM submeter.load_calendar(1, E'day,flags,closed,name\n2026-07-20,,no,nothing special', as_of => '2026-03-10');
SELECT * FROM pg_temp.days(1, '2026-07-20', '2026-07-20');
-- The past, and today, only with a reason; what says the same, or touches no price, needs none.
SELECT pg_temp.refused(E'day,day_type\n2026-03-10,holiday\n2026-03-09,holiday\n2026-03-11,holiday');
SELECT pg_temp.refused(E'day,flags\n2026-03-10,hot_day');
SELECT line, outcome FROM submeter.load_calendar(1, E'day,day_type,name\n2026-03-10,workday,Tuesday\n2026-02-15,holiday,春节\n2026-02-16,holiday,Spring Festival', as_of => '2026-03-10 12:00+08');
SELECT line, outcome FROM submeter.load_calendar(1, E'day,day_type,reason\n2026-03-09,holiday,\n2026-03-08,workday,the other notice', 'declared late', as_of => '2026-03-10 12:00+08');
SELECT day, day_type, reason FROM submeter.calendar_day WHERE site_id = 1 AND day IN ('2026-03-08', '2026-03-09') ORDER BY 1;
-- Wrong lines are named, and nothing is written.
SELECT pg_temp.refused(E'day,day_type,flags,closed\n2026-12-01,holiday,,\n2026-02-30,holiday,,\n2026-12-02,Holiday,,\n2026-12-03,,Hot,\n2026-12-04,,,maybe\n,holiday,,\n2026-12-05 00:00,holiday,,\n2026-12-01,workday,,\n1066-12-01,holiday,,\n');
SELECT pg_temp.refused(c) FROM unnest(ARRAY[E'date,day_type\n2026-12-01,holiday', 'day', '', E'day,day_type\n2026-12-01,"holiday']) c;
SELECT count(*) AS nothing_written FROM pg_temp.days(1, '2026-12-01', '2026-12-31');
SELECT pg_temp.refusal('SELECT submeter.load_calendar(' || a || ')') FROM unnest('{"NULL, ''day''","99, ''day''","1, ''day'', as_of => NULL"}'::text[]) a;

-- 6. A hot day is declared the evening before

SELECT pg_temp.refusal($$SELECT submeter.declare_day(1, '2026-07-25', 'hot_day', as_of => '2026-07-24 18:00+08')$$);
INSERT INTO submeter.tariff (site_id, tariff_id, code) VALUES (1, 1000, 'tou');
SET session_replication_role = replica;
INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) VALUES (1, 1000, '2026-01-01',
	'{"periods":[{"name":"sharp","windows":[{"from":"15:00","to":"17:00","flag":"hot_day"}]},{"name":"flat"}],"energy":[{"period":"sharp","price":1.2},{"price":0.6}]}');
RESET session_replication_role;
SELECT submeter.declare_day(1, '2026-07-25', 'hot_day', as_of => '2026-07-24 18:00+08') AS declared, submeter.declare_day(1, '2026-07-25', 'hot_day', as_of => '2026-07-24 18:00+08') AS again;
SELECT submeter.declare_day(1, '2026-10-02', 'hot_day', as_of => '2026-07-24 18:00+08') AS on_a_holiday;
SELECT * FROM pg_temp.days(1, '2026-07-25', '2026-07-25') UNION ALL SELECT * FROM pg_temp.days(1, '2026-10-02', '2026-10-02');
SELECT submeter.declare_day(1, '2026-07-25', 'hot_day', false, as_of => '2026-07-24 19:00+08') AS taken_back, submeter.declare_day(1, '2026-07-26', 'hot_day', false, as_of => '2026-07-24 19:00+08') AS was_none;
SELECT flags FROM pg_temp.days(1, '2026-07-25', '2026-07-25');
-- Midnight of the site decides, not that of the server.
SELECT submeter.declare_day(1, '2026-07-25', 'hot_day', as_of => '2026-07-24 23:59+08') AS before_midnight;
SELECT pg_temp.refusal($$SELECT submeter.declare_day(1, '2026-07-25', 'hot_day', false, as_of => '2026-07-25 00:00+08')$$);
SELECT pg_temp.refusal($$SELECT submeter.declare_day(1, '2026-07-24', 'hot_day', true, ' ', '2026-07-25 00:00+08')$$);
SELECT submeter.declare_day(1, '2026-07-24', 'hot_day', true, 'the grid declared it late', '2026-07-25 00:00+08') AS corrected;
-- A correction takes a second person where the site wants one; a day to come does not.
UPDATE submeter.site SET approval_verbs = '{declare_day,load_calendar}' WHERE site_id = 1;
SELECT pg_temp.refusal($$SELECT submeter.declare_day(1, '2026-07-23', 'hot_day', true, 'late', '2026-07-25 00:00+08')$$);
SELECT submeter.declare_day(1, '2026-07-27', 'hot_day', as_of => '2026-07-25 00:00+08') AS to_come;
SELECT pg_temp.refused(E'day,day_type\n2026-12-01,holiday');
SELECT pg_temp.refusal('SELECT submeter.declare_day(' || a || ', as_of => ''2026-07-25'')')
FROM unnest(ARRAY['NULL, ''2026-07-28'', ''hot_day''', '99, ''2026-07-28'', ''hot_day''', '1, NULL, ''hot_day''', '1, ''infinity'', ''hot_day''', '1, ''2030-01-01'', ''hot_day''', '1, ''2026-07-28'', NULL', '1, ''2026-07-28'', ''Hot day''',
	'1, ''2026-07-28'', ''hot_day'', NULL', '1, ''2026-07-28'', ''heat''']) a;

-- 7. Rows that cannot be

SELECT left(pg_temp.refusal('INSERT INTO submeter.calendar_day (site_id, day, flags) VALUES (1, ' || v || ')'), 70) FROM unnest(ARRAY['''infinity'', ''{}''', '''2030-01-01'', ''{NULL}''', '''2030-01-01'', array_fill(''x''::text, ARRAY[17])']) v;

-- 8. What the kind of a day costs: corrected where it was charged, and a debit is put aside

INSERT INTO submeter.site (site_id, code, name) VALUES (4, 'hot', 'A hot mall');
SELECT submeter.create_partitions('2026-07-01', '2026-10-01') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (4, 4, 't', 'T');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) VALUES (4, 4, 4, 'a', '2026-07-01');
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (4, 4, 'm', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (4, 4, '2026-07-01', 60);
SELECT submeter.create_tariff(4, 'tou', '{"periods":[{"name":"deep","windows":[{"from":"00:00","to":"24:00","days":["holiday"]}]},{"name":"sharp","windows":[{"from":"15:00","to":"17:00","flag":"hot_day"}]},{"name":"flat"}],
	"energy":[{"period":"deep","price":0.3},{"period":"sharp","price":1.2},{"price":0.6}]}', '2026-07-01') AS tariff \gset
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
-- A day to come: nothing is settled again.
SELECT submeter.declare_day(4, '2026-07-25', 'hot_day', as_of => '2026-07-24 00:00+08') AS declared;
SELECT * FROM pg_temp.state();
-- Two hot hours cost 0.60 more each; the balance does not fall.
SELECT submeter.declare_day(4, '2026-07-21', 'hot_day', true, 'the grid declared it late', '2026-07-24 00:00+08') AS corrected;
SELECT * FROM pg_temp.state();
SELECT kind, reason, accounts, debited, credited FROM submeter.correction WHERE site_id = 4;
-- A holiday that was forgotten: half price for a day, less what is still owed.
SELECT outcome FROM submeter.load_calendar(4, E'day,day_type,name,closed\n2026-07-22,holiday,市民节,no\n2026-07-23,,,yes', '通知', as_of => '2026-07-24 00:00+08');
SELECT * FROM pg_temp.state();
-- A name or a closure is no matter of prices.
SELECT outcome FROM submeter.load_calendar(4, E'day,name,closed\n2026-07-22,citizens,yes', 'a name', as_of => '2026-07-24 00:00+08');
SELECT corrections FROM pg_temp.state();
-- Written by hand in the table it is settled again by the next settle.
UPDATE submeter.calendar_day SET flags = '{}' WHERE site_id = 4 AND day = '2026-07-21';
SELECT submeter.settle(4, '2026-07-24 00:00+08') >= 0 AS settled;
SELECT * FROM pg_temp.state();
SELECT * FROM submeter.verify_ledger(4);
-- The duty finds days nobody had entered: a correction as well where something was charged on them, though nobody asked for it.
UPDATE submeter.calendar_day SET day_type = NULL WHERE site_id = 4;
SELECT submeter.settle(4, '2026-07-24 00:00+08') >= 0 AS settled;
SELECT submeter.run_duty(4, 'calendar', '2026-07-24 00:00+08') AS written;
SELECT corrections FROM pg_temp.state();
SELECT submeter.ingest(4, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 4, 'ts', '2026-07-20 00:00+08'::timestamptz + n * interval '1 hour', 'energy_wh', n * 1000)) ORDER BY n)) > 0 AS read
FROM generate_series(97, 72 * 24) n;
DELETE FROM submeter.calendar_day WHERE site_id = 4 AND day = '2026-09-25';
SELECT submeter.settle(4, '2026-09-30 00:00+08') > 0 AS settled;
SELECT submeter.balance(4, 4) AS balance \gset
SELECT submeter.run_duty(4, 'calendar', '2026-09-30 00:00+08') AS written;
SELECT submeter.balance(4, 4) - :balance AS credited;
SELECT kind, reason, accounts, debited, credited FROM submeter.correction WHERE site_id = 4 ORDER BY correction_id DESC LIMIT 1;
SELECT * FROM submeter.verify_ledger(4);
