-- Room: meter models. Their text form, what is refused, and models of one's own.
SET timezone = 'UTC';
SET client_min_messages = warning;
\set VERBOSITY default
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, CASE WHEN SQLSTATE = '22023' THEN detail END);
END
$$;
CREATE FUNCTION pg_temp.add(body text) RETURNS text
LANGUAGE sql
AS $$
	SELECT pg_temp.refusal(format('SELECT submeter.add_meter_models(%L)', body))
$$;

-- 1. What is built in

SELECT protocol, phases, count(*) AS models, count(*) FILTER (WHERE EXISTS (SELECT FROM submeter.meter_switch s WHERE s.model = m.model)) AS that_switch
FROM submeter.meter_model m WHERE builtin GROUP BY 1, 2 ORDER BY 1, 2;
SELECT model, vendor, protocol, phases, max_registers AS max, max_gap AS gap, turnaround_ms AS pause,
	(SELECT count(*) FROM submeter.meter_point p WHERE p.model = m.model) AS points, (SELECT string_agg(action, ' ' ORDER BY action) FROM submeter.meter_switch s WHERE s.model = m.model) AS switches,
	(SELECT string_agg(kind, ' ' ORDER BY kind) FROM submeter.meter_history h WHERE h.model = m.model) AS keeps
FROM submeter.meter_model m ORDER BY protocol, model COLLATE "C";
-- nothing without a note or a source, no value without a place that fits its type
SELECT model FROM submeter.meter_model WHERE coalesce(note, '') = '';
SELECT model, metric FROM submeter.meter_point WHERE coalesce(source, '') = '';
SELECT model, action FROM submeter.meter_switch WHERE coalesce(source, '') = '';
SELECT model, kind FROM submeter.meter_history WHERE coalesce(source, '') = '';
-- two values of a model in one place, or overlapping
SELECT a.model, a.metric, b.metric FROM submeter.meter_point a JOIN submeter.meter_point b ON b.model = a.model AND b.metric > a.metric AND (b.di = a.di OR (b.function = a.function
	AND b.address < a.address + CASE WHEN a.type ~ '64' THEN 4 WHEN a.type ~ '32' THEN 2 ELSE 1 END AND a.address < b.address + CASE WHEN b.type ~ '64' THEN 4 WHEN b.type ~ '32' THEN 2 ELSE 1 END));
-- three phases have three voltages, one has one; these show none
SELECT m.model FROM submeter.meter_model m WHERE (phases = 3) <> EXISTS (SELECT FROM submeter.meter_point p WHERE p.model = m.model AND p.metric = 'v_c') ORDER BY 1;
-- whatever opens a breaker also closes it
SELECT model FROM submeter.meter_switch GROUP BY model HAVING NOT array_agg(action) @> '{open,close}';

-- 2. There and back: the text of all models makes the same rows

CREATE TEMP TABLE rows_before AS
SELECT to_jsonb(m) AS r FROM submeter.meter_model m UNION ALL SELECT to_jsonb(p) FROM submeter.meter_point p
UNION ALL SELECT to_jsonb(s) FROM submeter.meter_switch s UNION ALL SELECT to_jsonb(h) FROM submeter.meter_history h;
CREATE TEMP TABLE audited AS SELECT count(*) AS n FROM submeter.audit;
SELECT submeter.store_models(submeter.meter_models_text(), true) = (SELECT count(*) FROM submeter.meter_model) AS all_of_them;
SELECT count(*) - (SELECT n FROM audited) AS changes FROM submeter.audit;
DELETE FROM submeter.meter_model WHERE builtin;
SELECT submeter.create_storage() > 0 AS loaded;
CREATE TEMP VIEW rows_now AS
SELECT to_jsonb(m) AS r FROM submeter.meter_model m UNION ALL SELECT to_jsonb(p) FROM submeter.meter_point p
UNION ALL SELECT to_jsonb(s) FROM submeter.meter_switch s UNION ALL SELECT to_jsonb(h) FROM submeter.meter_history h;
SELECT (SELECT count(*) FROM (TABLE rows_now EXCEPT ALL TABLE rows_before) x) AS more, (SELECT count(*) FROM (TABLE rows_before EXCEPT ALL TABLE rows_now) x) AS fewer;

-- 3. What is refused

SELECT pg_temp.add(body) FROM unnest(ARRAY[
	'',
	'# only a comment',
	'point v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nvolume 11',
	E'model x\nvendor',
	E'model x\nvendor v\npoint v_a 3:1 u16 1',
	E'model x\nread modbus\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus\n',
	E'model x\nvendor v\nread telepathy\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus phases=2\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus wings=2\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1.2.3',
	E'model x\nvendor v\nread modbus\npoint v_a 5:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:70000 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u17 1',
	E'model x\nvendor v\nread modbus\npoint colour 3:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint relay 3:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 0',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\npoint v_a 3:2 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 02010100 bcd2 0.1',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a B611 bcd2 0.1',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a 02010100 bcd9 0.1',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a 02010100 bcd2 0.1 block=0201FF00+200',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nswitch open 15:1 0',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nswitch open 16:1 70000',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nswitch open 16:1 1,2,3,4,5,6,7,8,9',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nswitch explode 16:1 1',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a 02010100 bcd2 0.1\nswitch open 16:1 0',
	E'model x\nvendor v\nread dlt645-1997\npoint v_a B611 bcd2 1\nswitch open 28 26',
	E'model x\nvendor v\nread dlt645-2007\npoint v_a 02010100 bcd2 0.1\nhistory yearly 05060101 depth=3',
	E'model SDM120\nvendor v\nread modbus\npoint v_a 3:1 u16 1',
	E'model x\nvendor v\nread modbus\npoint v_a 3:1 u16 1\nmodel x\nvendor v\nread modbus\npoint v_b 3:1 u16 1']) WITH ORDINALITY b(body, n) ORDER BY n;
SELECT pg_temp.refusal('SELECT submeter.add_meter_models(NULL)'), pg_temp.refusal($$SELECT submeter.add_meter_models(repeat('#', 1000001))$$);
SELECT count(*) AS left_behind FROM submeter.meter_model WHERE NOT builtin;

-- 4. Models of one's own

CREATE ROLE regress_model_admin LOGIN;
CREATE ROLE regress_model_field LOGIN;
GRANT submeter_admin TO regress_model_admin;
GRANT submeter_field TO regress_model_field;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall');
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_model_admin'), (1, 'regress_model_field');
SET SESSION AUTHORIZATION regress_model_field;
SELECT pg_temp.add(E'model ours\nvendor us\nread modbus\npoint v_a 3:1 u16 1');
SELECT pg_temp.refusal($$INSERT INTO submeter.meter_model (model, vendor) VALUES ('ours', 'us')$$);
SET SESSION AUTHORIZATION regress_model_admin;
SELECT submeter.add_meter_models($text$
# The board in the workshop
model ours
vendor us
source its manual, page 3
read modbus phases=1 max=20 gap=2 pause=50
note Never tried.   Twice.
point energy_wh 4:0x10 u32sw 10
$text$);
SELECT submeter.add_meter_models($text$
# The board in the workshop
model ours
vendor us
source its manual, page 3
read modbus phases=1 max=20 gap=2 pause=50
note Never tried.   Twice.
point energy_wh 4:16 u32sw 10      # counted once
point relay     1:3  bit   1   mask=1 closed=1 open=0 lock=2:2 keep=4:0
switch open     5:3  0     settle=100
switch close    5:3  65280 settle=100
$text$);
SELECT model, vendor, protocol, phases, max_registers, max_gap, turnaround_ms, note, builtin FROM submeter.meter_model WHERE model = 'ours';
SELECT metric, function, address, type, scale, bit_mask, closed_value, open_value, source FROM submeter.meter_point WHERE model = 'ours' ORDER BY 1;
SELECT action, function, address, registers, settle_ms, source FROM submeter.meter_switch WHERE model = 'ours' ORDER BY 1;
SELECT submeter.meter_models_text('{ours}');
-- The text again is no change; another text is the whole model.
SELECT submeter.add_meter_models(submeter.meter_models_text('{ours}'));
SELECT submeter.add_meter_models(E'model ours\nvendor us\nread dlt645-1997\npoint energy_wh 9010 bcd4 10\nswitch open 4:DD78 1,2');
SELECT protocol, max_registers, note FROM submeter.meter_model WHERE model = 'ours';
SELECT metric, function, address, di, bytes, type, source FROM submeter.meter_point WHERE model = 'ours';
SELECT action, function, address, di, registers FROM submeter.meter_switch WHERE model = 'ours';
-- With INSERTs
INSERT INTO submeter.meter_model (model, vendor, protocol, phases) VALUES ('by hand', 'us', 'dlt645-2007', 1);
INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale) VALUES ('by hand', 'energy_wh', '00010000', 4, 'bcd', 10);
INSERT INTO submeter.meter_switch (model, action, function, registers) VALUES ('by hand', 'open', 28, '{26}');
SELECT submeter.meter_models_text('{by hand}');
-- What no model may say
SELECT pg_temp.refusal(statement) FROM unnest(ARRAY[
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'close', 15, 0, '{0}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'close', 16, 0, '{}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'close', 16, 0, '{65536}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'close', 16, 0, '{-1}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'close', 16, 0, '{NULL}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, registers) VALUES ('by hand', 'close', 16, '{0}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('by hand', 'clear', 16, 0, '{0,0}')$$,
	$$INSERT INTO submeter.meter_switch (model, action, function, registers) VALUES ('by hand', 'close', 25, '{0}')$$]) WITH ORDINALITY x(statement, n) ORDER BY n;
-- Built-in models are nobody's to change: no other register of theirs is ever written.
SELECT pg_temp.refusal(statement) FROM unnest(ARRAY[
	$$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('DDS238-2 ZN/SR', 'permit_close', 16, 0, '{0,0}')$$,
	$$INSERT INTO submeter.meter_point (model, metric, function, address, type) VALUES ('SDM120', 'v_b', 4, 2, 'f32be')$$,
	$$INSERT INTO submeter.meter_model (model, vendor, builtin) VALUES ('fake', 'us', true)$$,
	$$UPDATE submeter.meter_model SET builtin = true WHERE model = 'ours'$$,
	$$SELECT submeter.store_models(E'model SDM120\nvendor v\nread modbus\npoint v_a 3:1 u16 1', true)$$,
	$$SELECT submeter.load_meter_models()$$]) WITH ORDINALITY x(statement, n) ORDER BY n;
WITH u AS (UPDATE submeter.meter_switch SET address = 0 WHERE model = 'DDS238-2 ZN/SR' RETURNING 1), d AS (DELETE FROM submeter.meter_point WHERE model = 'SDM120' RETURNING 1)
SELECT (SELECT count(*) FROM u) AS updated, (SELECT count(*) FROM d) AS deleted;
RESET SESSION AUTHORIZATION;

-- 5. What is one's own survives create_storage(), also under a name that becomes built in later

UPDATE submeter.meter_model SET builtin = false WHERE model = 'WE-504';
DELETE FROM submeter.meter_point WHERE model = 'WE-504' AND metric <> 'v_a';
UPDATE submeter.meter_point SET scale = 7 WHERE model = 'SDM120' AND metric = 'v_a';
INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('SDM120', 'open', 16, 0, '{0}');
SELECT submeter.create_storage() > 0 AS loaded;
SELECT model, builtin, (SELECT count(*) FROM submeter.meter_point p WHERE p.model = m.model) AS points FROM submeter.meter_model m WHERE model IN ('ours', 'by hand', 'WE-504', 'SDM120') ORDER BY 1;
SELECT scale FROM submeter.meter_point WHERE model = 'SDM120' AND metric = 'v_a';
SELECT count(*) AS back_to_none FROM submeter.meter_switch WHERE model = 'SDM120';
