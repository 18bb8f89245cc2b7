-- Room: settle. What is owed under every kind of tariff, to the cent: periods, tiers over cycles, named prices, fees,
-- demand, power factor, gaps, estimates, allowances; each figure computed by hand beside it.
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET client_min_messages = warning;

-- The error a statement ends with.
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
INSERT INTO submeter.site (site_id, code, name, cycle_day) VALUES (1, 'mall', 'A mall', 1), (2, 'fifteen', 'Cycles from the 15th', 15);
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (3, 'haus', 'Ein Haus', 'Europe/Berlin');
SELECT submeter.create_partitions('2024-12-01', '2026-03-31') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT n, n, 't', 'A tenant' FROM generate_series(1, 3) n;

-- An account with a meter (same number) on a tariff from a local day on.
CREATE FUNCTION pg_temp.furnish(site int, n int, tariff bigint, since text DEFAULT '2025-01-01', terms jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (site, n, site, 'a' || n);
	INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (site, n, 'm' || n, 'DDS238-2 ZN/SR');
	INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) VALUES (site, n, 100000);
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms)
	SELECT site, n, n, tariff, tstzrange(since::timestamp AT TIME ZONE s.time_zone, NULL), terms FROM submeter.site s WHERE s.site_id = site;
$$;
-- A register of a meter at a local time, in kWh, with a reactive one if there is.
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric, kvarh numeric DEFAULT NULL) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(m.site_id, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_strip_nulls(
		jsonb_build_object('meter_id', meter, 'ts', at::timestamp AT TIME ZONE s.time_zone, 'energy_wh', (kwh * 1000)::bigint, 'reactive_varh', (kvarh * 1000)::bigint)))])
	FROM submeter.meter m JOIN submeter.site s USING (site_id) WHERE m.meter_id = meter
$$;
CREATE VIEW pg_temp.owed AS
SELECT c.account_id AS account, (c.cycle_start AT TIME ZONE s.time_zone)::date AS cycle, c.energy_wh AS wh, c.unpriced_wh AS unpriced,
	c.start_wh, c.position_wh AS position, c.tier_wh, c.accrued_to, c.amount, c.rounded, cardinality(c.span_wh) AS spans
FROM submeter.charge c JOIN submeter.site s USING (site_id) ORDER BY c.account_id, c.cycle_start, c.tariff_id;
-- The lines of all charges of an account.
CREATE FUNCTION pg_temp.lines(account bigint) RETURNS TABLE (cycle date, component text, tier int, period text, wh bigint, price numeric, amount numeric)
LANGUAGE sql
AS $$
	SELECT (c.cycle_start AT TIME ZONE s.time_zone)::date, l.component, l.tier, l.period, l.energy_wh, l.price, l.amount
	FROM submeter.site s
	CROSS JOIN LATERAL (SELECT array_agg(c.account_id ORDER BY c.cycle_start) AS a, array_agg(c.tariff_id ORDER BY c.cycle_start) AS t, array_agg(c.cycle_start ORDER BY c.cycle_start) AS c
		FROM submeter.charge c WHERE c.site_id = s.site_id AND c.account_id = account) k
	CROSS JOIN LATERAL submeter.charge_lines(s.site_id, k.a, k.t, k.c) l
	CROSS JOIN LATERAL (SELECT k.c[l.ord] AS cycle_start) c
	ORDER BY l.ord, l.line
$$;
-- Whatever is stored is what computing from scratch gives, lines add up to the rounded amount, and traces to the energy lines.
CREATE FUNCTION pg_temp.sound() RETURNS text
LANGUAGE sql
AS $$
	SELECT coalesce(string_agg(x, '; '), 'sound') FROM (
		SELECT v::text FROM submeter.site s CROSS JOIN LATERAL submeter.verify_ledger(s.site_id) v
		UNION ALL
		SELECT format('lines of %s %s: %s, charge %s', c.account_id, c.cycle_start, coalesce(l.amount, 0), c.rounded) FROM submeter.charge c
		CROSS JOIN LATERAL (SELECT sum(l.amount) AS amount FROM submeter.charge_lines(c.site_id, ARRAY[c.account_id], ARRAY[c.tariff_id], ARRAY[c.cycle_start]) l) l
		WHERE coalesce(l.amount, 0) <> c.rounded
		UNION ALL
		SELECT format('trace of %s %s', c.account_id, c.cycle_start) FROM submeter.charge c
		CROSS JOIN LATERAL (SELECT count(*) AS n FROM
			(SELECT l.version_from, l.tier, l.period, sum(l.energy_wh) AS wh FROM submeter.charge_lines(c.site_id, ARRAY[c.account_id], ARRAY[c.tariff_id], ARRAY[c.cycle_start]) l
				WHERE l.component = 'energy' AND l.energy_wh <> 0 GROUP BY 1, 2, 3) l
			FULL JOIN (SELECT t.version_from, t.tier, t.period, sum(t.energy_wh) AS wh FROM submeter.charge_trace(c.site_id, c.account_id, c.tariff_id, c.cycle_start) t
				WHERE t.version_from IS NOT NULL GROUP BY 1, 2, 3) t
				ON l.version_from = t.version_from AND l.tier IS NOT DISTINCT FROM t.tier AND l.period IS NOT DISTINCT FROM t.period
			WHERE l.wh IS DISTINCT FROM t.wh) d
		WHERE d.n > 0) p(x)
$$;

-- 1. Periods: one span per period while tiers do not come in

SELECT submeter.create_tariff(1, 'tou', '{"periods":[{"name":"peak","windows":[{"from":"08:00","to":"12:00","days":["workday"]},{"from":"18:00","to":"21:00"}]},{"name":"valley","windows":[{"from":"23:00","to":"07:00"}]},{"name":"flat"}],
	"energy":[{"period":"peak","price":1.2},{"period":"valley","price":0.3},{"price":0.7}]}', '2025-01-01') AS tou \gset
SELECT pg_temp.furnish(1, 1, :tou);
-- One kWh an hour over Monday the 6th (7 h peak, 8 valley, 9 flat) and Saturday the 11th (3, 8, 13), the days between not used at all.
SELECT pg_temp.read(1, '2025-01-06', 0), pg_temp.read(1, '2025-01-07', 24), pg_temp.read(1, '2025-01-11', 24), pg_temp.read(1, '2025-01-12', 48);
SELECT submeter.settle(1, '2025-01-20');
SELECT * FROM pg_temp.lines(1);
SELECT wh, spans, amount, amount = 10 * 1.2 + 16 * 0.3 + 22 * 0.7 AS right FROM pg_temp.owed WHERE account = 1;
-- Saturday was a workday after all; the balance knows it with the next run.
INSERT INTO submeter.calendar_day (site_id, day, day_type) VALUES (1, '2025-01-11', 'workday');
SELECT submeter.settle(1, '2025-01-20') AS intervals;
SELECT amount, amount = 14 * 1.2 + 16 * 0.3 + 18 * 0.7 AS right FROM pg_temp.owed WHERE account = 1;
UPDATE submeter.calendar_day SET day_type = 'holiday' WHERE site_id = 1;
SELECT submeter.settle(1, '2025-01-20') AS intervals;
SELECT amount FROM pg_temp.owed WHERE account = 1;
-- A window edge inside an hour, inside a reading interval: 18:00 to 18:30 of the hour read at 17:45 and 18:45.
SELECT submeter.create_tariff(1, 'half', '{"periods":[{"name":"dear","windows":[{"from":"18:00","to":"18:30"}]},{"name":"rest"}],"energy":[{"period":"dear","price":2},{"price":1}]}', '2025-01-01') AS half \gset
SELECT pg_temp.furnish(1, 2, :half);
SELECT pg_temp.read(2, '2025-01-06 17:45', 0), pg_temp.read(2, '2025-01-06 18:45', 60), submeter.settle(1, '2025-01-20');
SELECT component, period, wh, amount FROM pg_temp.lines(2);
SELECT hour, energy_wh FROM submeter.usage_hour WHERE meter_id = 2 ORDER BY hour;
SELECT pg_temp.sound();

-- 2. Tiers that meet periods: the order within the day decides

SELECT submeter.create_tariff(1, 'toutier', '{"tiers":{"bounds":[{"upto_kwh":[10]}]},"periods":[{"name":"day","windows":[{"from":"08:00","to":"20:00"}]},{"name":"night"}],
	"energy":[{"tier":1,"period":"day","price":1},{"tier":1,"price":0.5},{"period":"day","price":3},{"price":2}]}', '2025-01-01') AS toutier \gset
SELECT pg_temp.furnish(1, 3, :toutier);
-- One kWh an hour for a day: 8 in the night and 2 of the day in the first tier, then 10 by day and 4 by night.
SELECT pg_temp.read(3, '2025-01-06', 0), pg_temp.read(3, '2025-01-07', 24), submeter.settle(1, '2025-01-20');
SELECT tier, period, wh, price, amount FROM pg_temp.lines(3);
SELECT spans, amount, amount = 8 * 0.5 + 2 * 1 + 10 * 3 + 4 * 2 AS right FROM pg_temp.owed WHERE account = 3;
SELECT from_ts, to_ts, energy_wh, period, tier, register_from_wh, register_to_wh, estimated FROM submeter.charge_trace(1, 3, :toutier, '2025-01-01');
-- A reading at noon comes late: all was used until then, 16 kWh by night and 8 by day.
SELECT pg_temp.read(3, '2025-01-06 12:00', 24), submeter.settle(1, '2025-01-20') AS intervals;
SELECT amount, amount = 10 * 0.5 + 6 * 2 + 8 * 3 AS right FROM pg_temp.owed WHERE account = 3;
-- A second meter that lags delays nobody: its energy is inserted at its true time and later energy tiered again.
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 4, 'm4', 'DDS238-2 ZN/SR');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 3, 4, :toutier, '["2025-01-01",)');
SELECT pg_temp.read(4, '2025-01-05', 0), pg_temp.read(4, '2025-01-06', 6), submeter.settle(1, '2025-01-20') AS intervals;
-- 6 kWh of the 5th, 3 by night and 3 by day; then 4 by night in the first tier, 12 by night, 8 by day
SELECT amount, tier_wh FROM pg_temp.owed WHERE account = 3;
SELECT tier, period, wh, price, amount FROM pg_temp.lines(3);
SELECT pg_temp.sound();

-- 3. Named prices

SELECT pg_temp.refusal(format('SELECT submeter.create_tariff(1, ''named'', %L, ''2025-01-01'')', '{"energy":[{"price":{"ref":"grid","plus":0.1}}]}')) LIKE '22023%' AS needs_a_price;
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (1, 'grid', '2025-01-01', 0.5), (1, 'other', '2025-01-01', 7);
SELECT submeter.create_tariff(1, 'named', '{"energy":[{"price":{"ref":"grid","plus":0.1}}]}', '2025-01-01') AS named \gset
SELECT pg_temp.furnish(1, 5, :named);
SELECT pg_temp.read(5, '2025-01-01', 0), pg_temp.read(5, '2025-01-21', 200), submeter.settle(1, '2025-01-25');
SELECT wh, spans, amount FROM pg_temp.owed WHERE account = 5;
-- The grid's price has changed on the 11th: 100 x 0.6 + 100 x 0.7, without a new reading.
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (1, 'grid', '2025-01-11', 0.6);
SELECT submeter.settle(1, '2025-01-25') AS intervals;
SELECT wh, spans, amount FROM pg_temp.owed WHERE account = 5;
-- It was wrong: a higher revision counts.
INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price, reason) VALUES (1, 'grid', '2025-01-11', 1, 0.65, 'misprint');
SELECT submeter.settle(1, '2025-01-25') AS intervals;
SELECT amount FROM pg_temp.owed WHERE account = 5;
-- Another price is no business of this tariff's; a price that priced something stays.
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (1, 'other', '2025-01-12', 8);
SELECT count(*) AS marks FROM submeter.charge_dirty;
SELECT pg_temp.refusal('UPDATE submeter.price_item SET price = 1 WHERE name = ''grid'''), pg_temp.refusal('DELETE FROM submeter.price_item WHERE name = ''grid'''), pg_temp.refusal('DELETE FROM submeter.price_item WHERE name = ''other''');
-- The version itself from a later time on: two changes in one cycle.
SELECT submeter.create_tariff(1, 'named', '{"energy":[{"price":{"ref":"grid","times":2}}]}', '2025-01-16') = :named AS same, submeter.settle(1, '2025-01-25') AS intervals;
SELECT amount, amount = 100 * 0.6 + 50 * 0.75 + 50 * 1.3 AS right FROM pg_temp.owed WHERE account = 5;
SELECT version_from, from_ts, to_ts, energy_wh, price, amount FROM submeter.charge_lines(1, '{5}', ARRAY[:named], '{2025-01-01}');
SELECT pg_temp.sound();

-- 4. Tier cycles longer than a billing cycle

SELECT submeter.create_tariff(1, 'year', '{"tiers":{"cycle":"year","bounds":[{"upto_kwh":[100,200]}]},"energy":[{"tier":1,"price":1},{"tier":2,"price":2},{"price":3}]}', '2025-01-01') AS year \gset
SELECT pg_temp.furnish(1, 6, :year, '2025-11-01');
SELECT pg_temp.read(6, '2025-11-01', 0), pg_temp.read(6, '2025-12-01', 90), pg_temp.read(6, '2026-01-01', 180), pg_temp.read(6, '2026-02-01', 270), submeter.settle(1, '2026-02-10') > 0;
-- November 90 x 1; December 10 x 1 + 80 x 2; January starts anew.
SELECT cycle, wh, start_wh, position, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
-- A reading that comes late moves energy from December into November: December is rated again from another position.
SELECT pg_temp.read(6, '2025-11-16', 20), submeter.judge_reading(1, 6, '2025-12-01', 'replace', 'misread', 130000) > 0, submeter.settle(1, '2026-02-10') > 0;
SELECT cycle, wh, start_wh, position, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
-- The same through a second meter that lags: only November gets energy, December is rated again.
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 7, 'm7', 'DDS238-2 ZN/SR');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 6, 7, :year, '["2025-11-01",)');
SELECT pg_temp.read(7, '2025-11-01', 0), submeter.settle(1, '2026-02-10') >= 0, pg_temp.read(7, '2025-11-11', 60), submeter.settle(1, '2026-02-10') AS intervals;
SELECT cycle, wh, start_wh, position, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
SELECT pg_temp.sound();
-- Calendar months in billing cycles from the 15th: the tier begins anew inside the cycle, and goes over its end.
SELECT submeter.create_tariff(2, 'month', '{"tiers":{"cycle":"month","bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":1},{"price":2}]}', '2025-01-01') AS month2 \gset
SELECT submeter.create_tariff(2, 'cycle', '{"tiers":{"cycle":"cycle","bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":1},{"price":2}]}', '2025-01-01') AS cycle2 \gset
SELECT pg_temp.furnish(2, 20, :month2), pg_temp.furnish(2, 21, :cycle2);
SELECT sum(pg_temp.read(n, at, kwh)) FROM (VALUES ('2025-01-15', 0), ('2025-02-01', 80), ('2025-02-15', 160), ('2025-03-01', 240)) r(at, kwh), generate_series(20, 21) n;
SELECT submeter.settle(2, '2025-03-10') > 0;
-- By month: 80 and 80 x 1, then 20 x 1 + 60 x 2. By cycle: 100 x 1 + 60 x 2, then 80 x 1.
SELECT account, cycle, wh, start_wh, position, tier_wh, amount FROM pg_temp.owed WHERE account IN (20, 21);
SELECT pg_temp.refusal('UPDATE submeter.site SET cycle_day = 1 WHERE site_id = 2');
UPDATE submeter.site SET name = 'Another name' WHERE site_id = 2;
SELECT pg_temp.sound();

-- 5. Terms: bounds by season and household

SELECT submeter.create_tariff(1, 'homes', '{"seasons":{"summer":["05-01","11-01"]},"tiers":{"bounds":[{"household":5,"season":"summer","upto_kwh":[360]},{"household":5,"upto_kwh":[300]},{"season":"summer","upto_kwh":[260]},{"upto_kwh":[200]}]},
	"energy":[{"tier":1,"price":1},{"price":2}]}', '2025-01-01') AS homes \gset
SELECT pg_temp.furnish(1, 8, :homes, '2025-04-01', '{"household_size":4}'), pg_temp.furnish(1, 9, :homes, '2025-04-01', '{"household_size":6}');
SELECT sum(pg_temp.read(n, at, kwh)) FROM (VALUES ('2025-04-01', 0), ('2025-05-01', 310), ('2025-06-01', 620)) r(at, kwh), generate_series(8, 9) n;
SELECT submeter.settle(1, '2026-02-10') > 0;
SELECT account, cycle, tier_wh, amount FROM pg_temp.owed WHERE account IN (8, 9);
-- The child was born a year ago.
UPDATE submeter.supply SET terms = '{"household_size":5}' WHERE account_id = 8;
SELECT submeter.settle(1, '2026-02-10') > 0;
SELECT account, cycle, tier_wh, amount FROM pg_temp.owed WHERE account = 8;
SELECT pg_temp.refusal($$UPDATE submeter.supply SET terms = '{"household_size":"five"}' WHERE account_id = 8$$) LIKE '23514%' AS refused,
	pg_temp.refusal($$UPDATE submeter.supply SET terms = '{"capacity_kva":-1}' WHERE account_id = 8$$) LIKE '23514%' AS refused_too;
-- Tiers by season start anew where the season does, also inside a billing cycle.
SELECT submeter.create_tariff(2, 'season', '{"seasons":{"summer":["05-01","11-01"]},"tiers":{"cycle":"season","bounds":[{"season":"summer","upto_kwh":[100]},{"upto_kwh":[50]}]},"energy":[{"tier":1,"price":1},{"price":2}]}', '2025-01-01') AS season \gset
SELECT pg_temp.furnish(2, 22, :season);
SELECT sum(pg_temp.read(22, at, kwh)) FROM (VALUES ('2025-04-15', 0), ('2025-05-01', 60), ('2025-05-15', 120), ('2025-06-15', 220)) r(at, kwh);
SELECT submeter.settle(2, '2025-06-20') > 0;
-- 50 + 10 x 2 in winter, 60 in summer; then 40 + 60 x 2.
SELECT account, cycle, wh, spans, start_wh, position, amount FROM pg_temp.owed WHERE account = 22;
SELECT pg_temp.sound();
