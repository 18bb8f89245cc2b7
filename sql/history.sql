-- Room: history. Gaps among readings, how many came, and what is fetched from meters' memories.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

INSERT INTO submeter.site (code, name) VALUES ('A', 'Plaza');
INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('keeps both', 'x', 'dlt645-2007'), ('keeps days', 'x', 'dlt645-2007'), ('keeps nothing', 'x', 'modbus');
INSERT INTO submeter.meter_history (model, kind, di, time_di, depth) VALUES ('keeps both', 'hourly', '05040101', '05040001', 254), ('keeps both', 'daily', '05060101', '05060001', 62),
	('keeps days', 'daily', '05060101', '05060001', 62), ('keeps days', 'settlement', '00010001', NULL, 12);
INSERT INTO submeter.gateway (site_id, code, address, poll_interval, online) VALUES (1, 'G1', '127.0.0.1:502', '15 min', true);
INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address)
SELECT 1, 'M' || i, (ARRAY['keeps both', 'keeps days', 'keeps nothing'])[i], 1, i::text FROM generate_series(1, 3) i;
INSERT INTO submeter.meter (site_id, code, model) VALUES (1, 'hand', 'keeps nothing');
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, i, 60 FROM generate_series(1, 4) i;
SELECT submeter.create_partitions('2026-01-01', '2026-05-01') > 0 AS made;

-- What a meter with 1 kW shows at a time.
CREATE FUNCTION pg_temp.wh(at timestamptz) RETURNS bigint LANGUAGE sql AS $$SELECT 1000000 + (extract(epoch FROM at - '2026-03-01 00:00+08') / 3.6)::bigint$$;
CREATE FUNCTION pg_temp.read(meters bigint[], from_ts timestamptz, to_ts timestamptz, every interval DEFAULT '15 min', source text DEFAULT 'poll') RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, array_agg(json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', m, 'ts', t, 'energy_wh', pg_temp.wh(t), 'source', read.source)) ORDER BY t, m))
	FROM unnest(meters) m, generate_series(from_ts, to_ts, every) t
$$;
CREATE FUNCTION pg_temp.days(meter bigint) RETURNS TABLE(day date, expected int, got int, restored int)
LANGUAGE sql AS $$SELECT d.day, d.expected, d.got, d.restored FROM submeter.reading_day d WHERE d.meter_id = meter ORDER BY d.day$$;
CREATE FUNCTION pg_temp.gaps() RETURNS TABLE(meter bigint, from_ts timestamptz, to_ts timestamptz, state text, readings int, longest interval, detail text)
LANGUAGE sql AS $$SELECT g.meter_id, g.from_ts, g.to_ts, g.state, g.readings, g.longest, g.detail FROM submeter.reading_gap g ORDER BY 1, 2$$;

-- 1. Counting: each reading once, over days, however often the duty runs
SELECT pg_temp.read('{1,2,3,4}', '2026-03-01 00:00', '2026-03-01 10:00');
SELECT submeter.run_duty(1, 'history', '2026-03-01 10:01') AS asked;
SELECT * FROM pg_temp.days(1);
SELECT submeter.run_duty(1, 'history', '2026-03-01 10:02') AS asked, (SELECT count(*) FROM submeter.reading_watch) AS watched;
SELECT pg_temp.read('{1,2,3,4}', '2026-03-01 10:15', '2026-03-02 06:00'), submeter.run_duty(1, 'history', '2026-03-02 06:01') AS asked;
SELECT * FROM pg_temp.days(1);
-- Read once more because somebody waited: neither expected nor counted.
SELECT pg_temp.read('{1}', '2026-03-02 06:03', '2026-03-02 06:03'), pg_temp.read('{1,2,3}', '2026-03-02 06:15', '2026-03-02 07:00'), submeter.run_duty(1, 'history', '2026-03-02 07:01') AS asked;
SELECT * FROM pg_temp.days(1);
-- Two are missing: less than an hour is no gap, but counts.
SELECT pg_temp.read('{1,2,3}', '2026-03-02 07:45', '2026-03-02 08:00'), submeter.run_duty(1, 'history', '2026-03-02 08:01') AS asked;
SELECT * FROM pg_temp.days(1);
SELECT * FROM pg_temp.gaps();

-- 2. Silence shows at once, and counts
SELECT m.meter, m.from_ts, m.to_ts, m.state, m.fill_from, m.estimated FROM submeter.missing_reading m ORDER BY meter;
SELECT meter, day, expected, got, rate FROM submeter.reading_success(1, '2026-03-01', '2026-03-04', '2026-03-03 12:00') WHERE meter = 'M1' OR gateway IS NULL OR meter IS NULL;

-- 3. An outage of a day and a bit: what is kept is asked for, what is not is said
SELECT pg_temp.read('{1,2,3}', '2026-03-03 20:00', '2026-03-03 21:00'), submeter.run_duty(1, 'history', '2026-03-03 21:01') AS asked;
SELECT * FROM pg_temp.gaps();
SELECT task_id, meter_id, kind, from_ts, to_ts, state FROM submeter.history_task ORDER BY 1;
SELECT * FROM pg_temp.days(1);
SELECT submeter.run_duty(1, 'history', '2026-03-03 21:02') AS asked_again;

-- 4. The poller takes a task only for meters that answer, and never twice
SELECT submeter.report_field(1, NULL, '[{"meter_id":1,"online":false},{"meter_id":2,"online":false}]');
SELECT count(*) AS none FROM submeter.claim_history('p');
SELECT submeter.report_field(1, '[{"gateway_id":1,"online":true}]', '[{"meter_id":1,"online":true},{"meter_id":2,"online":true}]');
CREATE TEMP TABLE task AS SELECT * FROM submeter.claim_history('p', 1);
SELECT task_id, meter_id, kind, di, time_di, byte_offset, bytes, scale, settlement_day FROM task;
-- All that is left of them is too long ago now.
SELECT entries FROM task;
CREATE FUNCTION pg_temp.wanted(task bigint, as_of timestamptz) RETURNS TABLE(n int, stamp text, back int, good boolean)
LANGUAGE sql
AS $$
	SELECT o::int, split_part(e, '=', 1), split_part(e, '=', 3)::int, to_timestamp(split_part(e, '=', 2)::bigint / 1000) = to_timestamp(split_part(e, '=', 1), 'YYMMDDHH24MI')
	FROM submeter.history_task k JOIN submeter.meter m USING (site_id, meter_id) JOIN submeter.meter_history h ON h.model = m.model AND h.kind = k.kind,
		unnest(string_to_array(submeter.history_entries(1, k.meter_id, k.kind, h.depth, k.settlement_day, k.from_ts, k.to_ts, wanted.as_of), ' ')) WITH ORDINALITY x(e, o)
	WHERE k.task_id = task
$$;
SELECT count(*) AS wanted, bool_and(good) AS good, min(stamp) AS first, max(stamp) AS last, min(back) AS newest, max(back) AS oldest FROM pg_temp.wanted(1, '2026-03-03 21:01');
SELECT * FROM pg_temp.wanted(2, '2026-03-03 21:01');
SELECT count(*) AS within_reach FROM pg_temp.wanted(1, '2026-03-13 06:30');
SELECT task_id, kind FROM submeter.claim_history('q');
SELECT count(*) AS none FROM submeter.claim_history('q');
SELECT submeter.report_history(1, 1, 'q', 'done', 1, NULL) AS not_his;
SELECT submeter.report_history(1, 2, 'q', 'returned', 0, NULL), submeter.report_history(1, 2, 'q', 'done', 0, NULL) AS late;
SELECT task_id, state, attempts FROM submeter.history_task ORDER BY 1;

-- 5. What it found comes like any reading, and closes the gap
SELECT pg_temp.read('{1}', '2026-03-02 09:00', '2026-03-03 19:00', '1 hour', 'backfill'), submeter.report_history(1, 1, 'p', 'done', 35, NULL) AS state;
SELECT submeter.run_duty(1, 'history', '2026-03-03 21:05') AS asked;
SELECT * FROM pg_temp.gaps();
SELECT * FROM pg_temp.days(1);
SELECT meter, day, expected, got, restored, rate, rate_restored FROM submeter.reading_success(1, '2026-03-02', '2026-03-03', '2026-03-03 21:05') WHERE gateway = 'G1' AND (meter IS NULL OR meter = 'M1');
-- Midnight alone leaves the hours of the day open.
SELECT pg_temp.read('{2}', '2026-03-03 00:00', '2026-03-03 00:00', '1 hour', 'backfill'), (SELECT task_id FROM submeter.claim_history('p')) AS task;
SELECT submeter.report_history(1, 2, 'p', 'done', 1, NULL) AS state;
SELECT submeter.run_duty(1, 'history', '2026-03-03 21:06') AS asked;
SELECT * FROM pg_temp.gaps() WHERE meter = 2;
-- Some of it may still be in the spool: two minutes after the report it is decided.
SELECT submeter.run_duty(1, 'history', now() + interval '3 minutes') AS asked;
SELECT * FROM pg_temp.gaps();
SELECT * FROM pg_temp.days(2);

-- 6. Late readings of the poller: counted again from there, as if they had come in time
SELECT pg_temp.read('{3}', '2026-03-02 08:15', '2026-03-02 20:00') AS late, submeter.settle(1, '2026-03-03 21:00') > 0 AS settled, submeter.run_duty(1, 'history', '2026-03-03 21:10') AS asked;
SELECT * FROM pg_temp.gaps() WHERE meter = 3;
SELECT * FROM pg_temp.days(3);
SELECT pg_temp.read('{3}', '2026-03-02 20:15', '2026-03-03 19:45') AS late, submeter.run_duty(1, 'history', '2026-03-03 21:20') AS asked;
SELECT * FROM pg_temp.gaps() WHERE meter = 3;
SELECT * FROM pg_temp.days(3);

-- 7. A register that does not fit is a suspect, whenever it comes, and never spoils those around it
SELECT pg_temp.read('{1}', '2026-03-04 02:00', '2026-03-04 03:00');
SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-03 22:00+08', 'energy_wh', pg_temp.wh('2026-03-04 10:00'), 'source', 'backfill')),
	json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-03 23:00+08', 'energy_wh', pg_temp.wh('2026-03-04 10:00'), 'source', 'backfill')),
	json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-04 00:00+08', 'energy_wh', pg_temp.wh('2026-03-03 20:00'), 'source', 'backfill')),
	json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-04 01:00+08', 'energy_wh', pg_temp.wh('2026-03-04 01:00'), 'source', 'backfill'))]);
SELECT ts, rule, state, detail FROM submeter.reading_suspect WHERE meter_id = 1 ORDER BY 1;
SELECT valid_ts, valid_wh = pg_temp.wh(valid_ts) AS right FROM submeter.meter_state WHERE meter_id = 1;
-- The same when the memory was read before the poller's next reading came.
SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-04 04:00+08', 'energy_wh', pg_temp.wh('2026-03-04 12:00'), 'source', 'backfill'))]);
SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-04 05:00+08', 'energy_wh', pg_temp.wh('2026-03-04 13:00'), 'source', 'backfill'))]);
SELECT pg_temp.read('{1}', '2026-03-04 06:00', '2026-03-04 07:00');
SELECT ts, rule, state, detail FROM submeter.reading_suspect WHERE meter_id = 1 AND ts > '2026-03-04 03:00' ORDER BY 1;
SELECT valid_ts, valid_wh = pg_temp.wh(valid_ts) AS right FROM submeter.meter_state WHERE meter_id = 1;
-- A wrong reading of the poller does not make a right one of the memory suspect.
SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', 1, 'ts', '2026-03-04 10:00+08', 'energy_wh', 0))]);
SELECT pg_temp.read('{1}', '2026-03-04 10:15', '2026-03-04 11:00'), pg_temp.read('{1}', '2026-03-04 08:00', '2026-03-04 09:00', '1 hour', 'backfill');
SELECT ts, rule, state, detail FROM submeter.reading_suspect WHERE meter_id = 1 AND ts > '2026-03-04 07:00' ORDER BY 1;
-- A person's word goes before the rule.
SELECT submeter.judge_reading(1, 1, '2026-03-04 00:00+08', 'replace', 'read from the display', pg_temp.wh('2026-03-04 00:00')) > 0 AS judged;
SELECT count(*) AS open FROM submeter.reading_suspect WHERE meter_id = 1 AND state = 'open';

-- 8. Kinds and reaches: hours as far back as they are kept, then days, then months
INSERT INTO submeter.meter_history (model, kind, di, depth) VALUES ('keeps both', 'settlement', '00010001', 12);
SELECT pg_temp.read('{1}', '2026-03-25 12:00', '2026-03-25 13:00'), submeter.run_duty(1, 'history', '2026-03-25 13:01') AS asked;
SELECT kind, from_ts, to_ts FROM submeter.history_task WHERE meter_id = 1 AND state = 'queued' ORDER BY from_ts DESC;
SELECT h.kind, min(h.ts), max(h.ts), count(*) FROM (VALUES ('hourly', '0100'), ('daily', '0100'), ('settlement', '0100'), ('settlement', '1512')) k(kind, day)
CROSS JOIN LATERAL (SELECT k.kind || ' ' || k.day AS kind, s.ts FROM submeter.history_stamps(1, k.kind, k.day, '2026-01-15 12:00+08', '2026-03-15 13:00+08') s(ts)) h GROUP BY 1 ORDER BY 1;
SELECT submeter.report_history(1, k.task_id, 'p', 'failed', 0, 'no answer') AS state, k.kind FROM submeter.claim_history('p') k WHERE k.meter_id = 1 ORDER BY k.kind;
SELECT kind, state, attempts, round(extract(epoch FROM retry_at - clock_timestamp()) / 60) AS wait_min, detail FROM submeter.history_task WHERE meter_id = 1 AND state <> 'done' ORDER BY 1;
SELECT count(*) AS not_yet FROM submeter.claim_history('p');
UPDATE submeter.history_task SET retry_at = NULL, attempts = 7;
SELECT submeter.report_history(1, k.task_id, 'p', CASE kind WHEN 'daily' THEN 'refused' WHEN 'settlement' THEN 'moved' ELSE 'failed' END, 0, CASE kind WHEN 'settlement' THEN '1508' END) AS state, k.kind
FROM submeter.claim_history('p') k WHERE k.meter_id = 1 ORDER BY k.kind;
SELECT kind, state, settlement_day, detail FROM submeter.history_task WHERE meter_id = 1 AND state <> 'done' ORDER BY 1;
SELECT submeter.report_history(1, k.task_id, 'p', 'done', 0, NULL) AS state FROM submeter.claim_history('p') k;
SELECT submeter.run_duty(1, 'history', now() + interval '3 minutes') >= 0 AS ran;
SELECT from_ts, to_ts, state, detail FROM pg_temp.gaps() WHERE meter = 1 AND to_ts > '2026-03-20';

-- 9. What the poller says of its spool
SELECT submeter.report_spool('p', '{"waiting":5,"rejected":0,"bytes":100,"most_bytes":1000,"failing":false}');
SELECT submeter.report_spool('p', '{"waiting":9000,"rejected":0,"bytes":900,"most_bytes":1000,"failing":false,"events":[
	{"id":1,"kind":"dropped","site_id":1,"count":120,"from_ms":1772000000000,"to_ms":1772003600000,"at_ms":1772003700000},
	{"id":2,"kind":"damaged","count":40,"at_ms":1772003800000,"detail":"40 of its readings were saved"},
	{"id":3,"kind":"dropped","site_id":7,"count":1,"at_ms":1772003700000}]}');
SELECT submeter.report_spool('p', '{"waiting":9000,"rejected":0,"bytes":900,"most_bytes":1000,"failing":false,"events":[{"id":1,"kind":"dropped","site_id":1,"count":120}]}') AS told_again;
SELECT site_id, poller, waiting, since IS NOT NULL AS tight FROM submeter.poller_spool;
SELECT event_id, kind, count, from_ts, to_ts, detail FROM submeter.spool_event ORDER BY 1;
SELECT submeter.evaluate_alarms(1, '2026-03-01 00:00') > 0 AS changed;
SELECT rule, severity, regexp_replace(detail, '^spool_full.*', '') AS detail FROM submeter.open_alarm WHERE rule LIKE 'spool%' ORDER BY 1;
SELECT submeter.acknowledge_alarm(1, alarm_id) FROM submeter.alarm WHERE rule = 'spool_dropped';
SELECT submeter.report_spool('p', '{"waiting":0,"rejected":0,"bytes":100,"most_bytes":1000,"failing":false}');
SELECT submeter.evaluate_alarms(1, '2026-03-01 00:01') > 0 AS changed;
SELECT rule FROM submeter.open_alarm WHERE rule LIKE 'spool%';

-- 10. Bad input: one clear error
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	said text; detail text; hint text;
BEGIN
	EXECUTE statement;
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, said, detail, hint);
END
$$;
SELECT pg_temp.refusal(c) FROM unnest(ARRAY[
	$$SELECT submeter.report_history(1, 1, 'p', 'eaten', 0, NULL)$$, $$SELECT submeter.report_history(1, 1, 'p', 'done', -1, NULL)$$,
	$$SELECT submeter.report_history(1, 1, 'p', 'moved', 0, '3200')$$, $$SELECT submeter.report_history(1, 1, 'p', NULL, 0, NULL)$$,
	$$SELECT * FROM submeter.claim_history('')$$, $$SELECT * FROM submeter.claim_history(NULL)$$,
	$$SELECT submeter.report_spool('p', '[]')$$, $$SELECT submeter.report_spool('p', NULL)$$, $$SELECT submeter.report_spool('p', '{"waiting":1}')$$,
	$$SELECT submeter.reading_success(1, '2026-03-02', '2026-03-01')$$, $$SELECT submeter.reading_success(1, NULL, '2026-03-01')$$,
	$$SELECT submeter.reading_success(99, '2026-03-01', '2026-03-01')$$]) c;
