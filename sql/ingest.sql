-- Room: ingest. Which readings count, which are kept and skipped, and who settles a doubt.
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

-- A site with meters of 60 A, one phase: at most 13.2 kW, so 20 % overload is 15.84 kW, 3960 Wh in a quarter of an hour.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall');
SELECT submeter.create_partitions('2025-01-01', '2025-03-01') > 0 AS partitions;
INSERT INTO submeter.meter (site_id, meter_id, code, model)
SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 40) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (2, 201, 'm1', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, n, 60 FROM generate_series(1, 40) n;

-- Readings of a meter a quarter of an hour apart from midnight of the first of January, in one batch.
CREATE FUNCTION pg_temp.put(meter bigint, VARIADIC registers bigint[]) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, array_agg(jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', '2025-01-01'::timestamptz + (n - 1) * interval '15 min', 'energy_wh', wh))))
	FROM unnest(registers) WITH ORDINALITY r(wh, n) WHERE wh IS NOT NULL
$$;
-- One reading of a meter, n quarters of an hour after midnight.
CREATE FUNCTION pg_temp.one(meter bigint, n numeric, wh bigint, more jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', '2025-01-01'::timestamptz + n * interval '15 min', 'energy_wh', wh) || more)])
$$;
CREATE VIEW pg_temp.suspect AS
SELECT q.meter_id AS meter, to_char(q.ts, 'HH24:MI') AS at, q.rule, q.state, q.energy_wh, q.detail, q.payload IS NOT NULL AS whole
FROM submeter.reading_suspect q WHERE q.site_id = 1 ORDER BY q.meter_id, q.ts, q.suspect_id;
CREATE VIEW pg_temp.base AS
SELECT s.meter_id AS meter, to_char(s.valid_ts, 'HH24:MI') AS valid_at, s.valid_wh, to_char(s.ts, 'HH24:MI') AS latest_at, s.energy_wh AS latest_wh
FROM submeter.meter_state s WHERE s.site_id = 1 ORDER BY s.meter_id;

-- 1. Every rule by name

-- Plausible: nothing to say.
SELECT pg_temp.put(1, 1000, 1500, 5460, 9420);
-- Backwards. It is kept and listed, and never the baseline of the next difference.
SELECT pg_temp.put(2, 1000, 1500, 900, 1600);
-- Jump: 90 kWh in a quarter of an hour.
SELECT pg_temp.put(3, 1000, 1500, 91500, 2000);
-- The limit is 15.84 kW over 16 minutes (a minute for the clocks) and 100 Wh of resolution: 4324 Wh is the most.
SELECT pg_temp.put(4, 1000, 5324), pg_temp.put(5, 1000, 5325);
-- The same energy after a longer silence is no jump.
SELECT pg_temp.one(6, 0, 1000), pg_temp.one(6, 4 * 6, 91500);
-- Sentinel, negative, NaN, infinity, future.
SELECT pg_temp.put(7, 1000, 4294967295, 1100), pg_temp.put(8, 1000, -5, 1100);
SELECT pg_temp.one(9, 0, 1000), pg_temp.one(9, 1, 1100, '{"power_w":"NaN"}'), pg_temp.one(9, 2, 1200, '{"frequency_hz":"Infinity"}'), pg_temp.one(9, 3, 1300);
SELECT * FROM pg_temp.suspect;
SELECT * FROM pg_temp.base WHERE meter < 10;
-- A stamp five minutes ahead passes, an hour ahead does not.
SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
	jsonb_build_object('meter_id', 10, 'ts', clock_timestamp() + ahead, 'energy_wh', 1000))]) AS stored
FROM unnest('{4 min,1 hour}'::interval[]) ahead;
SELECT rule, state, energy_wh, ts > now() + interval '30 min' AS of_the_hour FROM submeter.reading_suspect WHERE site_id = 1 AND meter_id = 10;
SELECT valid_ts < now() + interval '30 min' AS baseline_is_the_first FROM submeter.meter_state WHERE site_id = 1 AND meter_id = 10;
-- Without a register there is nothing to compare; the values show all the same.
SELECT pg_temp.one(11, 0, 1000), pg_temp.one(11, 1, NULL, '{"power_w":2500,"relay":"open"}'), pg_temp.one(11, 2, 1100, '{"power_w":0}');
SELECT ts, energy_wh, power_w, relay, relay_at, valid_wh FROM submeter.meter_state WHERE site_id = 1 AND meter_id = 11;

-- 2. What reading cannot take is kept whole

-- An unknown meter, also one of another site; a time no partition covers, on both sides.
SELECT pg_temp.one(999, 0, 1000), pg_temp.one(201, 0, 1000), pg_temp.one(12, -4 * 24 * 365 * 10, 1000), pg_temp.one(12, 4 * 24 * 365 * 90, 1000);
SELECT meter_id AS meter, rule, state, energy_wh, detail, payload ->> 'energy_wh' AS payload_wh FROM submeter.reading_suspect
WHERE site_id = 1 AND rule IN ('unknown_meter', 'out_of_range') ORDER BY suspect_id;
-- Told again, it is listed once.
SELECT pg_temp.one(999, 0, 1000), count(*) FROM submeter.reading_suspect WHERE site_id = 1 AND meter_id = 999;
-- A plain INSERT of such rows fails whole.
SELECT pg_temp.refusal($$INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh) VALUES (1, 1, '2025-02-01', 10000), (1, 999, '2025-02-01', 1000)$$);
SELECT left(pg_temp.refusal($$INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh) VALUES (1, 1, '2025-02-01', 10000), (1, 1, '1999-02-01', 1000)$$), 50);
SELECT count(*) AS none_of_it FROM submeter.reading WHERE site_id = 1 AND ts >= '2025-02-01' AND meter_id = 1;

-- 3. Idempotency: the first value stays

SELECT pg_temp.put(13, 1000, 1100), pg_temp.put(13, 1000, 1100), pg_temp.put(13, 1000, 1100, 1200);
-- Another value for a key that has one, in a later batch and in the same one.
SELECT pg_temp.put(13, 1000, 1150);
SELECT submeter.ingest_json(1, '[{"meter_id":13,"ts":"2025-01-01T00:45:00Z","energy_wh":1300},{"meter_id":13,"ts":"2025-01-01T00:45:00Z","energy_wh":1301},{"meter_id":13,"ts":"2025-01-01T00:45:00Z","energy_wh":1300}]') AS new;
SELECT ts, energy_wh FROM submeter.reading WHERE site_id = 1 AND meter_id = 13 ORDER BY ts;
SELECT * FROM pg_temp.suspect WHERE meter = 13;

-- 4. A confirming second reading

-- Two that agree with each other are believed: the meter was exchanged or reset.
SELECT pg_temp.put(14, 1000, 1500, 900, 950, 1000);
-- Two strange ones that do not agree are not: each is compared with the last.
SELECT pg_temp.put(15, 1000, 1500, 900, 500000, 1600, 1700);
-- A jump is confirmed in the same way, also by a reading that comes in a later batch.
SELECT pg_temp.put(16, 1000, 1500, 91500);
SELECT * FROM pg_temp.suspect WHERE meter = 16;
SELECT pg_temp.one(16, 3, 92000);
-- The old series goes on: the suspect stays one.
SELECT pg_temp.put(17, 1000, 1500, 91500, 1600, 1700);
SELECT * FROM pg_temp.suspect WHERE meter BETWEEN 14 AND 17;
SELECT * FROM pg_temp.base WHERE meter BETWEEN 14 AND 17;
-- A roll-over is no suspect where the modulus is known, and one where it is not.
UPDATE submeter.meter_setup SET register_modulus_wh = 1000000 WHERE site_id = 1 AND meter_id IN (18, 19);
SELECT pg_temp.put(18, 999000, 999900, 50, 600), pg_temp.put(20, 999000, 999900, 50);
-- Far behind is no roll-over.
SELECT pg_temp.put(19, 500000, 400000);
SELECT * FROM pg_temp.suspect WHERE meter BETWEEN 18 AND 20;
SELECT * FROM pg_temp.base WHERE meter BETWEEN 18 AND 20;
-- A setup that comes later holds for what is compared from then on.
SELECT pg_temp.put(21, 1000, 9000);
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, phases) VALUES (1, 21, 100, 3);
SELECT * FROM pg_temp.suspect WHERE meter = 21;

-- 5. Late readings: the order of arrival changes nothing

-- The same series at once, backwards one by one, and in between.
SELECT pg_temp.put(22, 1000, 1500, 91500, 900, 1600, 1700, 200, 250);
SELECT pg_temp.one(23, n, wh) FROM unnest('{1000,1500,91500,900,1600,1700,200,250}'::bigint[]) WITH ORDINALITY r(wh, o), LATERAL (SELECT o - 1) x(n) ORDER BY o DESC;
SELECT pg_temp.put(24, 1000, NULL, 91500, NULL, 1600, NULL, 200, NULL), pg_temp.put(24, NULL, 1500, NULL, 900, NULL, 1700, NULL, 250);
SELECT at, rule, state, energy_wh, detail, array_agg(meter ORDER BY meter) AS meters FROM pg_temp.suspect WHERE meter IN (22, 23, 24) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2;
SELECT valid_at, valid_wh, latest_at, latest_wh, array_agg(meter ORDER BY meter) AS meters FROM pg_temp.base WHERE meter IN (22, 23, 24) GROUP BY 1, 2, 3, 4;
-- A late reading can make a valid one suspect: 4000 in half an hour was possible, 3900 in the last quarter after 100 is, 4400 is not.
SELECT pg_temp.one(25, 0, 1000), pg_temp.one(25, 2, 6000);
SELECT * FROM pg_temp.suspect WHERE meter = 25;
SELECT pg_temp.one(25, 1, 1100);
SELECT * FROM pg_temp.suspect WHERE meter = 25;
-- And the other way round: what it jumped from turns out to be the wrong one.
SELECT pg_temp.one(26, 8, 1000), pg_temp.one(26, 9, 7000);
SELECT * FROM pg_temp.suspect WHERE meter = 26;
SELECT pg_temp.one(26, 4, 1500);
SELECT * FROM pg_temp.suspect WHERE meter = 26;

-- 6. Every way in has the same effects

SELECT pg_temp.put(27, 1000, 1500, 91500, 1600, -3, 1700);
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT 1, 28, '2025-01-01'::timestamptz + (n - 1) * interval '15 min', wh FROM unnest('{1000,1500,91500,1600,-3,1700}'::bigint[]) WITH ORDINALITY r(wh, n);
COPY submeter.reading (site_id, meter_id, ts, energy_wh) FROM stdin;
1	29	2025-01-01 00:00+00	1000
1	29	2025-01-01 00:15+00	1500
1	29	2025-01-01 00:30+00	91500
1	29	2025-01-01 00:45+00	1600
1	29	2025-01-01 01:00+00	-3
1	29	2025-01-01 01:15+00	1700
\.
SELECT at, rule, state, energy_wh, detail, array_agg(meter ORDER BY meter) AS meters FROM pg_temp.suspect WHERE meter IN (27, 28, 29) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2;
SELECT valid_at, valid_wh, latest_at, latest_wh, array_agg(meter ORDER BY meter) AS meters FROM pg_temp.base WHERE meter IN (27, 28, 29) GROUP BY 1, 2, 3, 4;
-- Live values are those of the latest reading, whatever comes late.
SELECT pg_temp.one(30, 4, 2000, '{"v_a":231.5,"i_a":4.25,"power_w":980,"power_factor":0.99,"relay":"closed"}');
SELECT pg_temp.one(30, 2, 1500, '{"v_a":100,"i_a":1,"power_w":100,"power_factor":0.5,"relay":"open"}');
SELECT energy_wh, v_a, v_b, i_a, power_w, power_factor, relay FROM submeter.meter_state WHERE site_id = 1 AND meter_id = 30;

-- 7. A person's word

CREATE FUNCTION pg_temp.judge(meter bigint, n int, verdict text, wh bigint DEFAULT NULL) RETURNS boolean
LANGUAGE sql
AS $$
	SELECT submeter.judge_reading(1, meter, '2025-01-01'::timestamptz + n * interval '15 min', verdict, 'seen on the meter', wh) > 0
$$;
-- Accept: the suspect is the baseline from then on, and what came after it is seen in that light.
SELECT pg_temp.put(31, 1000, 1500, 91500, 1600), pg_temp.judge(31, 2, 'accept');
SELECT * FROM pg_temp.suspect WHERE meter = 31;
SELECT * FROM pg_temp.base WHERE meter = 31;
-- The next verdict counts: withdrawn, the old series is right again.
SELECT pg_temp.judge(31, 2, 'withdraw');
SELECT * FROM pg_temp.suspect WHERE meter = 31;
SELECT * FROM pg_temp.base WHERE meter = 31;
-- Replace: by what a person read.
SELECT pg_temp.put(32, 1000, 1500, 91500, 5800), pg_temp.judge(32, 2, 'replace', 1900);
SELECT * FROM pg_temp.suspect WHERE meter = 32;
SELECT * FROM pg_temp.base WHERE meter = 32;
-- Withdrawing the last valid reading moves the baseline back.
SELECT pg_temp.put(33, 1000, 1500), pg_temp.judge(33, 1, 'withdraw');
SELECT * FROM pg_temp.base WHERE meter = 33;
-- Withdrawing the only one leaves none.
SELECT pg_temp.put(34, 1000), pg_temp.judge(34, 0, 'withdraw');
SELECT * FROM pg_temp.base WHERE meter = 34;
SELECT pg_temp.one(34, 1, 50);
SELECT * FROM pg_temp.base WHERE meter = 34;
SELECT * FROM pg_temp.suspect WHERE meter = 34;
-- What cannot be right by itself can be accepted too.
SELECT pg_temp.one(35, 0, 1000), pg_temp.one(35, 1, 1100, '{"power_w":"NaN"}'), pg_temp.judge(35, 1, 'accept');
SELECT * FROM pg_temp.base WHERE meter = 35;
SELECT meter_id, verdict, energy_wh, reason, by FROM submeter.reading_verdict WHERE site_id = 1 ORDER BY verdict_id;
SELECT pg_temp.refusal('SELECT submeter.judge_reading(1, 31, ''2025-01-01'', ' || arguments || ')') FROM unnest(ARRAY[
	$$'believe', 'x'$$, $$NULL, 'x'$$, $$'accept', NULL$$, $$'accept', '  '$$, $$'replace', 'x'$$, $$'replace', 'x', -1$$, $$'accept', 'x', 5$$, $$'withdraw', 'x', 5$$]) arguments;
SELECT pg_temp.refusal($$SELECT submeter.judge_reading(1, 31, '2025-01-01 07:00', 'accept', 'x')$$);
SELECT pg_temp.refusal($$SELECT submeter.judge_reading(1, 999, '2025-01-01', 'accept', 'x')$$);
SELECT pg_temp.refusal($$SELECT submeter.judge_reading(2, 31, '2025-01-01', 'accept', 'x')$$);
SELECT pg_temp.refusal($$SELECT submeter.judge_reading(1, NULL, NULL, 'accept', 'x')$$);

-- A typing error of many digits would otherwise stop the settlement of the whole site.
SELECT pg_temp.refusal($$SELECT submeter.judge_reading(1, 31, '2025-01-01', 'replace', 'x', 100000000000000)$$);
SELECT pg_temp.one(37, 0, 5000000000000000000), pg_temp.refusal($$SELECT submeter.judge_reading(1, 37, '2025-01-01', 'accept', 'x')$$);

-- 8. Bad input: one clear error, nothing stored

CREATE FUNCTION pg_temp.bad(readings text, site text DEFAULT '1') RETURNS text
LANGUAGE sql
AS $$
	SELECT pg_temp.refusal(format('SELECT submeter.ingest_json(%s, %L)', site, readings))
$$;
SELECT count(*) AS readings_before FROM submeter.reading \gset
SELECT pg_temp.bad(r) FROM unnest(ARRAY[
	'{"meter_id":36}', '"text"', '[1]', '["x"]', '[null]', '[{}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":"1000"}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":"NaN"}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000.5}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":99999999999999999999}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000},{"meter_id":36,"ts":"2025-01-01T00:15:00Z","kwh":1}]',
	'[{"meter_id":36,"ts":1735689600,"energy_wh":1000}]',
	'[{"meter_id":36,"ts":"yesterday week","energy_wh":1000}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","power_w":true}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","power_w":"12"}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","power_w":1e39}]',
	'[{"meter_id":"36","ts":"2025-01-01T00:00:00Z"}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000},{"ts":"2025-01-01T00:15:00Z","energy_wh":1100}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000},{"meter_id":36,"energy_wh":1100}]',
	'[{"meter_id":36,"ts":"infinity","energy_wh":1000}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":[1]}]']) r;
SELECT left(pg_temp.bad(r), 86) FROM unnest(ARRAY[
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000},{"meter_id":36,"ts":"2025-01-01T00:15:00Z","relay":"ajar"}]',
	'[{"meter_id":36,"ts":"2025-01-01T00:00:00Z","energy_wh":1000},{"meter_id":36,"ts":"2025-01-01T00:15:00Z","source":"rumour"}]']) r;
SELECT pg_temp.bad('[]', 'NULL'), pg_temp.bad('[]', '99'), pg_temp.refusal('SELECT submeter.ingest_json(1, NULL)');
SELECT pg_temp.refusal('SELECT submeter.ingest(NULL, NULL)'), pg_temp.refusal('SELECT submeter.ingest(99, NULL)');
SELECT pg_temp.refusal($$SELECT submeter.ingest(1, ARRAY[NULL::submeter.reading_input])$$);
SELECT count(*) - :readings_before AS stored, (SELECT count(*) FROM submeter.reading_suspect WHERE meter_id = 36) AS suspects FROM submeter.reading;
-- Nothing to do is no error.
SELECT submeter.ingest(1, NULL), submeter.ingest(1, '{}'), submeter.ingest_json(1, '[]');
-- Keys that are missing are NULL, keys that are null too.
SELECT submeter.ingest_json(1, '[{"meter_id":36,"ts":"2025-01-01T08:00:00+08:00","energy_wh":1000,"v_a":231.5,"relay":null,"source":"manual"}]');
SELECT ts, energy_wh, v_a, v_b, relay, source FROM submeter.reading WHERE site_id = 1 AND meter_id = 36;

-- 9. Facts are never changed, by nobody, replica mode included

SELECT pg_temp.refusal(s) FROM unnest(ARRAY['UPDATE submeter.reading SET energy_wh = 0 WHERE meter_id = 1', 'DELETE FROM submeter.reading WHERE meter_id = 1',
	'TRUNCATE submeter.reading', 'UPDATE submeter.reading_2025_01 SET energy_wh = 0 WHERE meter_id = 1', 'DELETE FROM submeter.reading_2025_01 WHERE meter_id = 1',
	'TRUNCATE submeter.reading_2025_01', 'UPDATE submeter.reading_verdict SET reason = ''y''', 'DELETE FROM submeter.reading_verdict', 'TRUNCATE submeter.reading_verdict']) s;
SET session_replication_role = replica;
SELECT left(pg_temp.refusal(s), 40) FROM unnest(ARRAY['UPDATE submeter.reading SET energy_wh = 0 WHERE meter_id = 1', 'DELETE FROM submeter.reading WHERE meter_id = 1',
	'TRUNCATE submeter.reading', 'UPDATE submeter.reading_2025_01 SET energy_wh = 0 WHERE meter_id = 1', 'DELETE FROM submeter.reading_2025_01 WHERE meter_id = 1',
	'TRUNCATE submeter.reading_2025_01', 'UPDATE submeter.reading_verdict SET reason = ''y''', 'DELETE FROM submeter.reading_verdict', 'TRUNCATE submeter.reading_verdict']) s;
RESET session_replication_role;

-- 10. Partitions

SELECT pg_temp.refusal('SELECT submeter.create_partitions(' || a || ')') FROM unnest(ARRAY['NULL, ''2025-02-01''', '''2025-02-01'', NULL', '''2025-02-01'', ''2025-02-01''',
	'''2025-02-01'', ''2025-01-01''', '''-infinity'', ''2025-02-01''', '''2025-02-01'', ''infinity''', '''1900-01-01'', ''2000-01-01''']) a;
-- Made twice, nothing is made; what lies between is made too, months are those of UTC whatever the session says.
SELECT submeter.create_partitions('2025-01-01', '2025-03-01');
SET timezone = 'Asia/Shanghai';
SELECT submeter.create_partitions('2024-10-15 00:00+00', '2024-10-16 00:00+00');
SET timezone = 'UTC';
SELECT name, from_ts, to_ts FROM submeter.reading_partition WHERE from_ts < '2025-02-02' ORDER BY from_ts;
SELECT count(*) AS holes FROM (SELECT to_ts, lead(from_ts) OVER (ORDER BY from_ts) AS next FROM submeter.reading_partition) p WHERE next <> to_ts;
-- A partition is protected like its parent: nobody but the owner reaches it directly.
SELECT c.relname FROM pg_class c WHERE c.relispartition AND c.relkind = 'r' AND c.relnamespace = 'submeter'::regnamespace
	AND (NOT c.relrowsecurity OR c.relacl IS NOT NULL AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner));
