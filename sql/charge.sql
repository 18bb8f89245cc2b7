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

-- 6. What grows with time alone

SELECT submeter.create_tariff(1, 'fees', '{"energy":[{"price":1}],"fees":[{"name":"lamp","per":"day","amount":0.5},{"name":"service","per":"month","amount":31,"prorate":true},{"name":"meter","per":"month","amount":3},{"name":"bill","per":"cycle","amount":2}]}', '2025-03-01') AS fees \gset
SELECT pg_temp.furnish(1, 30, :fees, '2026-02-20 15:00');
-- No reading ever came. Nothing on the 19th; on the 20th a day has begun; 1 lamp, 31/28, 3 and 2.
SELECT submeter.settle(1, '2026-02-19 12:00') AS intervals, (SELECT count(*) FROM pg_temp.owed WHERE account = 30) AS charges;
SELECT submeter.settle(1, '2026-02-20 12:00') AS intervals;
SELECT cycle, wh, accrued_to, round(amount, 6) AS amount, rounded, rounded = round(0.5 + 31.0 / 28 + 3 + 2, 2) AS right FROM pg_temp.owed WHERE account = 30;
-- The same day again changes nothing; an older one takes nothing back.
SELECT submeter.settle(1, '2026-02-20 20:00') AS intervals, submeter.settle(1, '2026-02-19 20:00') AS earlier;
SELECT rounded FROM pg_temp.owed WHERE account = 30;
-- The 3rd of March: 9 days of February, 3 of March, month and cycle fees of both.
SELECT submeter.settle(1, '2026-03-03') AS intervals;
SELECT cycle, accrued_to, rounded FROM pg_temp.owed WHERE account = 30;
SELECT rounded = round(9 * 0.5 + 31.0 * 9 / 28 + 5, 2) AS february FROM pg_temp.owed WHERE account = 30 AND cycle = '2026-02-01';
SELECT component, wh, price, amount FROM pg_temp.lines(30);
-- It turns out to have begun on the 10th already, and to have ended on the 1st of March at noon.
UPDATE submeter.supply SET during = '["2026-02-10 15:00","2026-03-01 12:00")' WHERE account_id = 30;
SELECT submeter.settle(1, '2026-03-03') AS intervals;
SELECT cycle, accrued_to, rounded, rounded = round(CASE cycle WHEN '2026-02-01' THEN 19 * 0.5 + 31.0 * 19 / 28 + 5 ELSE 0.5 + 1 + 5 END, 2) AS right FROM pg_temp.owed WHERE account = 30;
-- A fee that came with a later version counts from its first day; energy beside it.
SELECT submeter.create_tariff(1, 'fees', '{"energy":[{"price":1}],"fees":[{"name":"lamp","per":"day","amount":2}]}', '2026-02-26') = :fees AS same, submeter.settle(1, '2026-03-03') AS intervals;
SELECT cycle, rounded, rounded = round(CASE cycle WHEN '2026-02-01' THEN 16 * 0.5 + 31.0 * 16 / 28 + 5 + 3 * 2 ELSE 2 END, 2) AS right FROM pg_temp.owed WHERE account = 30;
SELECT pg_temp.sound();
-- Billing cycles from the 15th: a fee per month is taken once in each calendar month.
SELECT submeter.create_tariff(2, 'fees', '{"energy":[{"price":1}],"fees":[{"name":"meter","per":"month","amount":3},{"name":"service","per":"month","amount":30,"prorate":true}]}', '2025-01-01') AS fees2 \gset
SELECT pg_temp.furnish(2, 31, :fees2, '2025-03-20');
SELECT submeter.settle(2, '2025-06-14 12:00') > 0;
-- 20 March to 14 April: 12/31 + 14/30, two months begin; then 16/30 + 14/31 and May; then 17/31 + 14/30 and June; six days of June
SELECT cycle, rounded, rounded = round(CASE cycle WHEN '2025-03-15' THEN 6 + 30 * (12.0/31 + 14.0/30) WHEN '2025-04-15' THEN 3 + 30 * (16.0/30 + 14.0/31) WHEN '2025-05-15' THEN 3 + 30 * (17.0/31 + 14.0/30) ELSE 6 END, 2) AS right FROM pg_temp.owed WHERE account = 31;
SELECT pg_temp.sound();

-- 7. Demand

SELECT submeter.create_tariff(1, 'demand', '{"energy":[{"price":1}],"demand":{"per_kw":28,"window_minutes":15,"basis":"maximum"}}', '2025-01-01') AS demand \gset
SELECT submeter.create_tariff(1, 'contract', '{"energy":[{"price":1}],"demand":{"per_kw":28,"basis":"contract"}}', '2025-01-01') AS contract \gset
SELECT pg_temp.furnish(1, 40, :demand, '2026-02-01'), pg_temp.furnish(1, 41, :contract, '2026-02-01', '{"contract_kw":12.5}');
-- Half an hour with 10 kW, then with 40 kW: windows of 2.5 and of 10 kWh: 40 x 28 for the whole of February, three days of March.
SELECT pg_temp.read(40, '2026-02-01 10:00', 0), pg_temp.read(40, '2026-02-01 10:30', 5), pg_temp.read(40, '2026-02-01 11:00', 25);
SELECT submeter.settle(1, '2026-03-02') > 0;
SELECT day, window_minutes, max_w, window_wh[41:44] AS from_ten FROM submeter.demand_day WHERE account_id = 40;
SELECT cycle_start::date AS cycle, demand_w, accrued_to, amount FROM submeter.charge WHERE account_id = 40 ORDER BY 1;
SELECT component, wh, price, amount FROM pg_temp.lines(40) WHERE cycle = '2026-02-01';
-- A second meter of the account in the same windows, and one that is read only from 10:20 to 10:40: 10 kW over two windows.
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 42, 'm42', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) VALUES (1, 42, 100000);
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 40, 42, :demand, '["2026-02-01",)');
SELECT pg_temp.read(42, '2026-02-01 10:20', 0), pg_temp.read(42, '2026-02-01 10:40', 3.333), submeter.settle(1, '2026-03-02');
-- 10:15 has 2.5 + 1.667, 10:30 has 10 + 1.666: 46.664 kW
SELECT max_w, window_wh[41:44] AS from_ten FROM submeter.demand_day WHERE account_id = 40 AND day = '2026-02-01';
SELECT component, wh, amount FROM pg_temp.lines(40) WHERE cycle = '2026-02-01';
-- Reading by reading it comes to the same.
SELECT pg_temp.furnish(1, 43, :demand, '2026-02-01');
SELECT sum((SELECT submeter.settle(1, '2026-03-02') FROM (SELECT pg_temp.read(43, at, kwh)) r)) FROM (VALUES ('2026-02-01 10:00', 0), ('2026-02-01 10:07', 1), ('2026-02-01 10:30', 5), ('2026-02-01 11:00', 25)) r(at, kwh);
SELECT max_w, window_wh[41:44] AS from_ten FROM submeter.demand_day WHERE account_id = 43;
-- The contract is due though nothing was used; raised in the middle of the month, the higher one counts.
SELECT cycle, rounded FROM pg_temp.owed WHERE account = 41;
UPDATE submeter.supply SET during = '["2026-02-01","2026-02-15")' WHERE account_id = 41;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms) VALUES (1, 41, 41, :contract, '["2026-02-15",)', '{"contract_kw":20}');
SELECT submeter.settle(1, '2026-03-02');
SELECT cycle, rounded, rounded = CASE cycle WHEN '2026-02-01' THEN 20 * 28 ELSE round(20 * 28 * 3.0 / 31, 2) END AS right FROM pg_temp.owed WHERE account = 41;
SELECT pg_temp.sound();

-- 8. Power factor and minimum, when the cycle is closed

SELECT submeter.create_tariff(1, 'pf', '{"energy":[{"price":1}],"power_factor":{"standard":0.90},"minimum":500,"tax_rate":0.13}', '2025-01-01') AS pf \gset
SELECT pg_temp.furnish(1, 50, :pf, '2026-01-01'), pg_temp.furnish(1, 51, :pf, '2026-01-01');
-- The reactive register is missing once; the pair before and after it counts: 500 kWh and 296.7 kvarh, factor 0.86: +2 %.
SELECT pg_temp.read(50, '2026-01-01', 0, 0), pg_temp.read(50, '2026-01-11', 500, 296.7), pg_temp.read(50, '2026-01-21', 800), pg_temp.read(50, '2026-02-01', 1000, 900);
SELECT pg_temp.read(51, '2026-01-01', 0), pg_temp.read(51, '2026-02-01', 100);
SELECT submeter.settle(1, '2026-03-02') > 0;
SELECT account_id, active_wh, reactive_varh, rounded FROM submeter.charge WHERE account_id IN (50, 51) ORDER BY 1;
-- Closed: 1000 x 1.02 x 1.13, and 500 x 1.13.
UPDATE submeter.charge SET final = true WHERE account_id IN (50, 51) AND cycle_start = '2026-01-01';
SELECT submeter.rate_charges(1, '{50,51}', ARRAY[:pf, :pf]::bigint[], '{2026-01-01,2026-01-01}') AS rated;
SELECT account, component, amount FROM (VALUES (50), (51)) a(account) CROSS JOIN LATERAL pg_temp.lines(account);
SELECT account, rounded FROM pg_temp.owed WHERE account IN (50, 51);
SELECT pg_temp.refusal('SELECT submeter.rate_charges(1, ''{1,2}'', ''{1}'', ''{2025-01-01}'')'), pg_temp.refusal('SELECT submeter.rate_charges(1, ''{NULL}'', ''{1}'', ''{2025-01-01}'')'),
	pg_temp.refusal('SELECT submeter.rate_charges(1, ''{999}'', ''{1}'', ''{2025-01-01}'')');
SELECT pg_temp.sound();

-- 9. Gaps

SELECT pg_temp.furnish(1, 60, :tou, '2025-06-01'), pg_temp.furnish(1, 61, :tou, '2025-06-01');
UPDATE submeter.meter_setup SET gap_shape = 'week' WHERE meter_id = 61;
-- Two weeks with 1 kWh an hour from 8 to 12 and nothing else, read every two hours; then six days without a reading, 24 kWh.
SELECT count(pg_temp.read(n, ((timestamp '2025-06-02' + h * interval '2 hours')::text), (h / 12) * 4 + greatest(least(h % 12, 6) - 4, 0) * 2)) FROM generate_series(0, 168) h, generate_series(60, 61) n;
SELECT sum(pg_temp.read(n, '2025-06-22', 56 + 24)) FROM generate_series(60, 61) n;
SELECT submeter.settle(1, '2026-03-02') > 0;
-- Evenly 4 kWh a day; or 4 kWh a day from 8 to 12.
SELECT meter_id, day, energy_wh, estimated_wh, hour_wh FROM submeter.usage_day WHERE meter_id IN (60, 61) AND day IN ('2025-06-10', '2025-06-18') ORDER BY 2, 1;
SELECT account_id, energy_wh, estimated_wh, amount FROM submeter.charge WHERE account_id IN (60, 61) ORDER BY 1;
SELECT account, period, wh, amount FROM (VALUES (60), (61)) a(account) CROSS JOIN LATERAL pg_temp.lines(account);
-- However the readings come: day by day, with the gap in between, or the history after it.
SELECT pg_temp.furnish(1, 62, :tou, '2025-06-01'), pg_temp.furnish(1, 63, :tou, '2025-06-01');
UPDATE submeter.meter_setup SET gap_shape = 'week' WHERE meter_id IN (62, 63);
SELECT count((SELECT submeter.settle(1, '2026-03-02') FROM (SELECT count(pg_temp.read(62, (timestamp '2025-06-02' + h * interval '2 hours')::text, (h / 12) * 4 + greatest(least(h % 12, 6) - 4, 0) * 2)) FROM generate_series(d * 12, d * 12 + 11) h WHERE h <= 168) r))
FROM generate_series(0, 14) d;
SELECT pg_temp.read(62, '2025-06-22', 80), submeter.settle(1, '2026-03-02') AS intervals;
SELECT pg_temp.read(63, '2025-06-02', 0), pg_temp.read(63, '2025-06-16', 56), pg_temp.read(63, '2025-06-22', 80), submeter.settle(1, '2026-03-02') > 0;
SELECT count(pg_temp.read(63, (timestamp '2025-06-02' + h * interval '2 hours')::text, (h / 12) * 4 + greatest(least(h % 12, 6) - 4, 0) * 2)) FROM generate_series(0, 168) h;
SELECT submeter.settle(1, '2026-03-02') > 0;
SELECT energy_wh, estimated_wh, amount, array_agg(account_id ORDER BY account_id) AS accounts FROM submeter.charge WHERE account_id IN (61, 62, 63) GROUP BY 1, 2, 3;
SELECT count(*) AS differences FROM (SELECT day, energy_wh, estimated_wh, hour_wh FROM submeter.usage_day WHERE meter_id = 61) a
FULL JOIN (SELECT day, energy_wh, estimated_wh, hour_wh FROM submeter.usage_day WHERE meter_id = 62) b USING (day, energy_wh, estimated_wh, hour_wh)
FULL JOIN (SELECT day, energy_wh, estimated_wh, hour_wh FROM submeter.usage_day WHERE meter_id = 63) c USING (day, energy_wh, estimated_wh, hour_wh)
WHERE a IS NULL OR b IS NULL OR c IS NULL;
SELECT pg_temp.sound();

-- 10. Estimates

SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01') AS flat \gset
SELECT pg_temp.furnish(1, 70, :flat, '2025-07-01');
SELECT pg_temp.read(70, '2025-07-01', 0), pg_temp.read(70, '2025-07-21', 200), submeter.settle(1, '2026-03-02') > 0;
-- Nothing came until the end of July: 300 kWh are assumed.
INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason) VALUES (1, 70, '2025-08-01', 300000, 'no reading');
SELECT submeter.settle(1, '2026-03-02') AS intervals;
SELECT cycle, wh, amount FROM pg_temp.owed WHERE account = 70;
SELECT energy_wh, estimated_wh FROM submeter.charge WHERE account_id = 70;
SELECT settled_to, estimated_from FROM submeter.meter_settled WHERE meter_id = 70;
SELECT pg_temp.sound();
-- A second one; then a reading between them: the first is gone, the second counts from there.
INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason) VALUES (1, 70, '2025-09-01', 400000, 'no reading');
SELECT submeter.settle(1, '2026-03-02') AS intervals;
SELECT cycle, wh FROM pg_temp.owed WHERE account = 70;
SELECT pg_temp.sound();
SELECT pg_temp.read(70, '2025-08-11', 240), submeter.settle(1, '2026-03-02') AS intervals;
SELECT cycle, wh FROM pg_temp.owed WHERE account = 70;
SELECT settled_to, estimated_from FROM submeter.meter_settled WHERE meter_id = 70;
SELECT pg_temp.sound();
-- The next reading makes the rest vanish.
SELECT pg_temp.read(70, '2025-09-11', 271), submeter.settle(1, '2026-03-02') AS intervals;
SELECT c.cycle_start::date AS cycle, c.energy_wh, e.estimated FROM submeter.charge c CROSS JOIN LATERAL (SELECT count(*) AS estimated FROM submeter.register_estimate x WHERE x.meter_id = 70) e WHERE c.account_id = 70 ORDER BY 1;
SELECT settled_to, estimated_from FROM submeter.meter_settled WHERE meter_id = 70;
SELECT pg_temp.sound();
-- Withdrawn, the estimate is all there is again.
SELECT submeter.judge_reading(1, 70, '2025-09-11', 'withdraw', 'another meter') > 0 AS judged, submeter.settle(1, '2026-03-02') AS intervals;
SELECT cycle, wh FROM pg_temp.owed WHERE account = 70;
SELECT pg_temp.sound();

-- 11. Allowances

SELECT pg_temp.furnish(1, 80, :toutier, '2025-03-01'), pg_temp.furnish(1, 81, :flat, '2025-03-01');
SELECT pg_temp.read(80, '2025-03-03', 0), pg_temp.read(80, '2025-03-04', 24), pg_temp.read(81, '2025-03-03', 0), pg_temp.read(81, '2025-03-04', 24);
-- 6 kWh free in time order: at night, 3.00 of 44. Another account 5.00 and half of 10 kWh.
INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, share, amount, during) VALUES (1, 80, :toutier, 'poor', 6, 1, NULL, '["2025-03-01",)'),
	(1, 81, :flat, 'half', 10, 0.5, NULL, '["2025-03-01",)'), (1, 81, :flat, 'spring', NULL, 1, 3, '["2025-03-01","2025-03-02")'), (1, 81, :flat, 'street', NULL, 1, 2, '["2025-03-01",)');
SELECT submeter.settle(1, '2026-03-02') > 0;
SELECT account, component, tier, period, wh, amount FROM (VALUES (80), (81)) a(account) CROSS JOIN LATERAL pg_temp.lines(account) WHERE cycle = '2025-03-01';
SELECT pg_temp.refusal(format('INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, during) VALUES (1, 81, %s, ''x'', 5, ''["2025-05-01",)'')', :flat)) LIKE '23P01%' AS one_at_a_time;
-- Ended, and never more than there is to pay.
UPDATE submeter.allowance SET during = '["2025-01-01","2025-02-01")' WHERE name = 'half';
UPDATE submeter.allowance SET amount = 50 WHERE name = 'street';
SELECT submeter.settle(1, '2026-03-02');
SELECT component, amount FROM pg_temp.lines(81) WHERE cycle = '2025-03-01';
SELECT pg_temp.sound();

-- 12. What another tariff would have come to

SELECT * FROM submeter.simulate_tariff(1, '{"energy":[{"price":2}]}', '2025-01-01', '2025-02-01');
SELECT * FROM submeter.simulate_summary(1, '{"energy":[{"price":2}]}', '2025-01-01', '2025-02-01');
-- Their own tariffs change nothing; a part of a cycle is a cycle of its own; fees and minimum count as if closed.
SELECT account_id, kwh, old, new FROM submeter.simulate_tariff(1, '{"tiers":{"cycle":"year","bounds":[{"upto_kwh":[100,200]}]},"energy":[{"tier":1,"price":1},{"tier":2,"price":2},{"price":3}]}', '2025-11-01', '2026-01-01');
SELECT account_id, kwh, old, new FROM submeter.simulate_tariff(1, '{"energy":[{"price":{"ref":"grid"}}],"fees":[{"name":"x","per":"day","amount":1}],"minimum":100}', '2025-11-11', '2025-11-21');
SELECT pg_temp.refusal(format('SELECT * FROM submeter.simulate_tariff(%s)', a)) FROM unnest(ARRAY['1, ''{"energy":[]}'', ''2025-01-01'', ''2025-02-01''', '1, ''{"energy":[{"price":1}]}'', ''2025-02-01'', ''2025-02-01''', '1, NULL, ''2025-02-01'', ''2025-03-01''', '1, ''{"energy":[{"price":1}]}'', ''-infinity'', ''2025-02-01''']) a;

-- 13. Days that are not 24 hours long: the clock on the wall decides

SELECT submeter.create_tariff(3, 'tou', '{"tiers":{"bounds":[{"upto_kwh":[60]}]},"periods":[{"name":"night","windows":[{"from":"22:00","to":"06:00"}]},{"name":"day"}],
	"energy":[{"tier":1,"period":"night","price":1},{"tier":1,"price":2},{"period":"night","price":3},{"price":4}],"fees":[{"name":"lamp","per":"day","amount":0.01}]}', '2025-01-01 00:00+01') AS berlin \gset
SELECT pg_temp.furnish(3, 90, :berlin, '2025-03-01');
-- One kWh an hour over the last three days of March: 24, 23 and 24 hours, of which 8, 7 and 8 at night.
SELECT submeter.ingest(3, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 90, 'ts', t, 'energy_wh', (extract(epoch FROM t - '2025-03-01 00:00+01') / 3.6)::bigint)))) AS readings
FROM unnest('{2025-03-29 00:00+01,2025-03-30 01:17+01,2025-03-30 03:43+02,2025-04-01 00:00+02}'::timestamptz[]) t;
SELECT submeter.settle(3, '2025-04-01 12:00+02');
-- First tier: 8 + 16, 7 + 16, 6 + 7; second tier: 9 by day, 2 by night. Lamps from the first day of March.
SELECT cycle, tier, period, component, wh, amount FROM pg_temp.lines(90);
SELECT spans, accrued_to, amount, amount = 21 + 39 * 2 + 2 * 3 + 9 * 4 + 0.31 AS right FROM pg_temp.owed WHERE account = 90 AND cycle = '2025-03-01';
-- An hour that comes twice is of one period both times: 25 hours, 8 + 1 at night.
SELECT submeter.ingest(3, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 90, 'ts', t, 'energy_wh', (extract(epoch FROM t - '2025-03-01 00:00+01') / 3.6)::bigint)))) AS readings
FROM unnest('{2025-10-26 00:00+02,2025-10-27 00:00+01}'::timestamptz[]) t;
SELECT submeter.settle(3, '2025-10-28 12:00+01');
SELECT t.period, sum(t.energy_wh) AS wh FROM submeter.charge_trace(3, 90, :berlin, '2025-10-01 00:00+02') t WHERE t.from_ts >= '2025-10-26 00:00+02' GROUP BY 1 ORDER BY 1;
SELECT pg_temp.sound();

-- 14. What was known at an earlier time: prices, allowances and estimates that were written by then

SELECT clock_timestamp() AS before \gset
INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price, reason) VALUES (1, 'grid', '2025-01-11', 2, 1.65, 'a kilowatt-hour is dear');
INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, amount, during) VALUES (1, 2, :half, 'late', 11, '["2025-01-01",)');
INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason) VALUES (1, 2, '2025-01-07', 100000, 'x');
SELECT submeter.settle(1, '2026-03-03') AS intervals;
SELECT n.account_id, o.rounded AS known_before, n.rounded AS known_now, c.rounded AS stored
FROM (VALUES (2), (5)) a(account_id)
CROSS JOIN LATERAL submeter.rebuild_charges(1, a.account_id) n
JOIN submeter.charge c ON c.account_id = n.account_id AND c.cycle_start = n.cycle_start
LEFT JOIN LATERAL submeter.rebuild_charges(1, a.account_id, :'before') o ON o.cycle_start = n.cycle_start
WHERE n.cycle_start = '2025-01-01' ORDER BY 1;
SELECT pg_temp.sound();
