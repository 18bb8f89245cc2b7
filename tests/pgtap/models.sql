-- The catalogue of meter models against a list of registers and data items kept apart from it: a slip in an address, a type, a scale or a sign in either fails here.
\set ON_ERROR_STOP on
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE register (model text, function int, address int, data_type text, scale text, unit text, quantity text, access text, source text);
\copy register FROM 'tests/data/meter_registers.csv' WITH (FORMAT csv, HEADER)
CREATE TEMP TABLE item (protocol text, di text, bytes int, decimals int, sign text, unit text, quantity text);
\copy item FROM 'tests/data/dlt645_items.csv' WITH (FORMAT csv, HEADER)

-- Which quantity becomes which column, best first, and what its unit is there.
CREATE TEMP TABLE meaning (metric text, quantity text, rank int, unit text, times numeric);
INSERT INTO meaning VALUES
	('energy_wh', 'import_active_energy', 1, 'kWh', 1000), ('energy_wh', 'total_active_energy', 2, 'kWh', 1000), ('energy_wh', 'forward_active_energy', 1, 'kWh', 1000),
	('reactive_varh', 'import_reactive_energy', 1, 'kvarh', 1000), ('reactive_varh', 'total_reactive_energy', 2, 'kvarh', 1000),
	('reactive_varh', 'combined_reactive_energy', 1, 'kvarh', 1000), ('reactive_varh', 'forward_reactive_energy', 1, 'kvarh', 1000),
	('v_a', 'voltage_l1', 1, 'V', 1), ('v_a', 'voltage', 2, 'V', 1), ('v_b', 'voltage_l2', 1, 'V', 1), ('v_c', 'voltage_l3', 1, 'V', 1),
	('i_a', 'current_l1', 1, 'A', 1), ('i_a', 'current', 2, 'A', 1), ('i_b', 'current_l2', 1, 'A', 1), ('i_c', 'current_l3', 1, 'A', 1), ('i_n', 'current_n', 1, 'A', 1),
	('i_leak_ma', 'leakage_current', 1, 'A', 1000), ('temperature_c', 'temperature_a', 1, 'C', 1), ('temperature_c', 'temperature', 1, 'C', 1),
	('power_w', 'active_power', 1, 'W', 1), ('power_w', 'active_power', 1, 'kW', 1000), ('power_w', 'import_active_power', 2, 'W', 1),
	('power_a_w', 'active_power_l1', 1, 'W', 1), ('power_a_w', 'active_power_l1', 1, 'kW', 1000), ('power_b_w', 'active_power_l2', 1, 'W', 1),
	('power_b_w', 'active_power_l2', 1, 'kW', 1000), ('power_c_w', 'active_power_l3', 1, 'W', 1), ('power_c_w', 'active_power_l3', 1, 'kW', 1000),
	('power_factor', 'power_factor', 1, NULL, 1), ('frequency_hz', 'frequency', 1, 'Hz', 1),
	('relay', 'relay', 1, NULL, 1), ('relay', 'breaker_status', 1, NULL, 1);
CREATE TEMP TABLE type_name (data_type text, type text, words int);
INSERT INTO type_name VALUES ('u16', 'u16', 1), ('i16', 'i16', 1), ('u32be', 'u32be', 2), ('i32be', 'i32be', 2), ('u32_word_swapped', 'u32sw', 2), ('i32_word_swapped', 'i32sw', 2),
	('f32be', 'f32be', 2), ('u64be', 'u64be', 4), ('i64be', 'i64be', 4);

-- A kind that was taken from another one of the list.
CREATE TEMP VIEW point AS
	SELECT p.*, m.protocol, CASE p.model WHEN 'DDSY1352' THEN 'DTSY1352' WHEN 'DDS238-2 ZN/S' THEN 'DDS238-2 ZN/SR' ELSE p.model END AS listed
	FROM submeter.meter_point p JOIN submeter.meter_model m USING (model) WHERE m.builtin;
-- What the list says a column should come from: the best quantity there is.
CREATE TEMP VIEW wanted AS
	SELECT DISTINCT ON (r.model, q.metric) r.model, q.metric, r.function, r.address, t.type, r.scale, q.times, r.quantity
	FROM register r JOIN meaning q ON q.quantity = r.quantity AND q.unit IS NOT DISTINCT FROM nullif(r.unit, '') JOIN type_name t USING (data_type)
	WHERE r.access <> 'w'
	ORDER BY r.model, q.metric, q.rank;

SELECT cmp_ok((SELECT count(*) FROM register), '>', 400::bigint, 'the list is there');
SELECT cmp_ok((SELECT count(DISTINCT listed) FROM point WHERE protocol = 'modbus'), '>=', 24::bigint, 'at least 24 real Modbus models');
SELECT is_empty('SELECT DISTINCT model FROM register EXCEPT SELECT listed FROM point', 'all models of the list are in the catalogue');
SELECT is_empty($$SELECT p.model, p.metric, p.function, p.address, p.type, p.scale, w.function, w.address, w.type, w.scale
	FROM point p LEFT JOIN wanted w ON w.model = p.listed AND w.metric = p.metric
	WHERE p.protocol = 'modbus' AND (w.model IS NULL OR (p.function, p.address, p.type) IS DISTINCT FROM (w.function::smallint, w.address, w.type))$$, 'every point is a register of the list');
SELECT is_empty($$SELECT p.model, p.metric, p.scale, w.scale FROM point p JOIN wanted w ON w.model = p.listed AND w.metric = p.metric
	WHERE p.protocol = 'modbus' AND w.scale <> '?' AND p.scale <> w.scale::numeric * w.times$$, 'with the scale of the list');
SELECT is_empty($$SELECT p.model, p.metric FROM point p JOIN wanted w ON w.model = p.listed AND w.metric = p.metric WHERE w.scale = '?' AND p.source !~ 'disagree'$$, 'where sources disagree the row says so');
SELECT results_eq($$SELECT p.model, p.metric FROM point p WHERE p.source ~ 'disagree' ORDER BY 1, 2$$,
	$$VALUES ('DTSD1352', 'frequency_hz'), ('DTSD1352', 'power_factor'), ('PZEM-016', 'energy_wh')$$, 'these three');
SELECT is_empty($$SELECT w.model, w.metric, w.quantity FROM wanted w WHERE NOT EXISTS (SELECT FROM point p WHERE p.listed = w.model AND p.metric = w.metric)$$, 'and what the list knows of a model is in the catalogue');
SELECT is_empty($$SELECT p.model, p.metric FROM point p WHERE p.protocol = 'modbus'
	AND NOT EXISTS (SELECT FROM register r WHERE r.model = p.listed AND starts_with(p.source, replace(r.source, ' ; ', '; ')))$$, 'the source is that of the list');

-- DL/T 645
SELECT is_empty($$SELECT p.model, p.metric, p.di, p.bytes, p.type, p.scale FROM point p
	LEFT JOIN item i ON i.protocol = p.protocol AND i.di = p.di
	LEFT JOIN meaning q ON q.metric = p.metric AND q.quantity = i.quantity AND q.unit IS NOT DISTINCT FROM i.unit
	WHERE p.protocol <> 'modbus' AND (q.metric IS NULL OR p.bytes <> i.bytes OR p.scale <> q.times / 10 ^ i.decimals
		OR p.type <> CASE WHEN p.metric = 'relay' THEN 'bits' WHEN i.sign IS NULL THEN 'bcd' ELSE 'sbcd' END)$$, 'every data item is as the protocol has it');
SELECT is_empty('SELECT di FROM item EXCEPT SELECT di FROM point', 'and every one that is listed is used');
SELECT is_empty($$SELECT p.model, p.metric, p.block_di, p.block_offset FROM point p WHERE p.block_di IS NOT NULL AND (left(p.block_di, 4) || 'FF00' <> p.block_di OR left(p.di, 4) <> left(p.block_di, 4)
	OR p.block_offset <> p.bytes * (substr(p.di, 5, 2)::int - CASE WHEN left(p.di, 4) = '0203' THEN 0 ELSE 1 END))$$, 'in a block the items stand one behind the other, power with its total first');
SELECT results_eq($$SELECT p.bit_mask, p.closed_value, p.open_value FROM point p WHERE p.metric = 'relay' AND p.protocol = 'dlt645-2007' GROUP BY 1, 2, 3$$, 'VALUES (16, 0, 16)', 'bit 4 of the status word is set when open');

-- What may be written
SELECT results_eq($$SELECT s.model, s.action, s.function::int, s.address, s.registers FROM submeter.meter_switch s WHERE s.address IS NOT NULL ORDER BY 1, 2$$, $$VALUES
	('DDS238-2 ZN/SR', 'close', 16, 26, '{1}'::int[]), ('DDS238-2 ZN/SR', 'open', 16, 26, '{0}'), ('DDSY1352', 'close', 16, 87, '{1,0}'), ('DDSY1352', 'open', 16, 87, '{1,1}'),
	('DTSY1352', 'close', 16, 87, '{1,0}'), ('DTSY1352', 'open', 16, 87, '{1,1}'), ('LX47LE-125', 'close', 6, 13, '{65280}'), ('LX47LE-125', 'open', 6, 13, '{0}'),
	('Sfere prepaid', 'close', 16, 2853, '{1}'), ('Sfere prepaid', 'open', 16, 2853, '{2}')$$, 'what is written to Modbus meters');
SELECT is_empty($$SELECT s.model, s.action FROM submeter.meter_switch s WHERE s.address IS NOT NULL AND NOT EXISTS (SELECT FROM register r
	WHERE r.model = replace(s.model, 'DDSY1352', 'DTSY1352') AND r.address = s.address AND r.access ~ 'w' AND r.quantity ~ 'relay|remote_control')$$, 'each of it is a relay in the list');
SELECT is_empty($$SELECT s.model, s.action FROM submeter.meter_switch s JOIN register r ON r.model = s.model AND r.quantity ~ 'energy' JOIN type_name t USING (data_type)
	WHERE s.function = 16 AND s.address < r.address + t.words AND s.address + cardinality(s.registers) > r.address$$, 'and none is near a register of energy');
SELECT results_eq($$SELECT DISTINCT s.action, s.function::int, s.registers FROM submeter.meter_switch s WHERE s.address IS NULL ORDER BY 1$$, $$VALUES
	('close', 28, '{28}'::int[]), ('keep', 28, '{58}'), ('open', 28, '{26}'), ('permit_close', 28, '{27}'), ('release', 28, '{59}')$$, 'what is written to DL/T 645 meters');
SELECT is_empty($$SELECT m.model FROM submeter.meter_model m WHERE m.builtin AND NOT EXISTS (SELECT FROM submeter.meter_switch s WHERE s.model = m.model) AND m.note !~ '(No breaker|without relay|[Nn]o standard switching|Breaker status only)'$$, 'a model that cannot switch says so');

SELECT * FROM finish();
ROLLBACK;
