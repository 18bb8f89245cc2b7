-- Room: settle. Readings to usage to charge, to the watt-hour and to the cent.
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

-- Sites in China, where the clock never changes, and in Berlin, where it does.
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'mall', 'A mall', 'Asia/Shanghai'), (2, 'haus', 'Ein Haus', 'Europe/Berlin');
SELECT submeter.create_partitions('2024-12-01', '2025-12-31') > 0 AS partitions;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'A tenant'), (2, 2, 't', 'Ein Mieter');
-- Prices: 0.80 flat; three tiers at 200 and 400 kWh.
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":0.8}]}', '2025-01-01 00:00+08') AS flat,
	submeter.create_tariff(1, 'tiers', '{"tiers":{"cycle":"month","mode":"graduated","bounds":[{"upto_kwh":[200,400]}]},"energy":[{"tier":1,"price":0.589},{"tier":2,"price":0.639},{"price":0.889}]}', '2025-01-01 00:00+08') AS tiers,
	submeter.create_tariff(2, 'flat', '{"energy":[{"price":0.3}]}', '2025-01-01 00:00+01') AS berlin \gset

-- An account with a meter (same number) that feeds it from the first of January on; nobody's rating is in the way.
CREATE FUNCTION pg_temp.furnish(site int, n int, tariff bigint, during tstzrange DEFAULT '["2025-01-01 00:00+08",)') RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (site, n, site, 'a' || n);
	INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (site, n, 'm' || n, 'DDS238-2 ZN/SR');
	INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) VALUES (site, n, 100000);
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (site, n, n, tariff, during);
$$;
-- A register of a meter at a local time, in kWh.
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(m.site_id, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', at::timestamp AT TIME ZONE s.time_zone, 'energy_wh', (kwh * 1000)::bigint))])
	FROM submeter.meter m JOIN submeter.site s USING (site_id) WHERE m.meter_id = meter
$$;
CREATE VIEW pg_temp.owed AS
SELECT c.site_id AS site, c.account_id AS account, f.code AS tariff, (c.cycle_start AT TIME ZONE s.time_zone)::date AS cycle,
	(c.settled_to AT TIME ZONE s.time_zone) AS settled_to, c.energy_wh AS wh, c.tier_wh, c.unpriced_wh AS unpriced, c.amount, c.rounded
FROM submeter.charge c JOIN submeter.site s USING (site_id) JOIN submeter.tariff f USING (site_id, tariff_id) ORDER BY c.site_id, c.account_id, c.cycle_start, c.tariff_id;
-- Whatever is stored is what computing from scratch gives; said after every section.
CREATE FUNCTION pg_temp.sound() RETURNS text
LANGUAGE sql
AS $$
	SELECT coalesce(string_agg(v::text, '; '), 'sound') FROM submeter.site s CROSS JOIN LATERAL submeter.verify_ledger(s.site_id) v
$$;

-- 1. Flat and tiered

SELECT pg_temp.furnish(1, 1, :flat), pg_temp.furnish(1, 2, :tiers);
SELECT sum(pg_temp.read(n, at, kwh)) FROM (VALUES ('2025-01-01 00:00', 1000), ('2025-01-11 00:00', 1150), ('2025-01-31 00:00', 1450), ('2025-02-10 00:00', 1600)) r(at, kwh), generate_series(1, 2) n;
-- Up to the middle of January nothing later is known.
SELECT submeter.settle(1, '2025-01-20') AS intervals;
SELECT * FROM pg_temp.owed;
-- The rest. The interval over the month's edge is cut there: 15 kWh of 150 fall on the last day of January.
-- January 465 kWh: 200 at 0.589, 200 at 0.639, 65 at 0.889; February 135 at 0.589.
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT * FROM pg_temp.owed;
-- A second run has nothing to do, an older point in time takes nothing back.
SELECT submeter.settle(1, '2025-02-20') AS again, submeter.settle(1, '2025-01-15') AS earlier;
SELECT count(*), sum(amount) FROM pg_temp.owed;
-- Both bounds lie inside one interval, from 150 to 450 kWh.
SELECT account, wh, tier_wh, amount = 200 * 0.589 + 200 * 0.639 + 65 * 0.889 AS right FROM pg_temp.owed WHERE account = 2 AND cycle = '2025-01-01';
SELECT pg_temp.sound();

-- 2. Several meters on one account share its tiers, whichever is read when

SELECT pg_temp.furnish(1, 3, :tiers), pg_temp.furnish(1, 4, :flat, '["2024-12-01 00:00+08","2024-12-02 00:00+08")');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 3, 4, :tiers, '["2025-01-01 00:00+08",)');
SELECT pg_temp.read(3, '2025-01-01', 0), pg_temp.read(3, '2025-01-31', 300);
SELECT submeter.settle(1, '2025-02-20');
SELECT * FROM pg_temp.owed WHERE account = 3;
-- The second meter's readings come a month later; 300 + 250 kWh are tiered together.
SELECT pg_temp.read(4, '2025-01-01', 50), pg_temp.read(4, '2025-01-21', 300);
SELECT submeter.settle(1, '2025-02-20');
SELECT * FROM pg_temp.owed WHERE account = 3;
SELECT amount = 200 * 0.589 + 200 * 0.639 + 150 * 0.889 AS right FROM pg_temp.owed WHERE account = 3;
SELECT pg_temp.sound();

-- 3. A setup that changes on a date, in the middle of an interval

SELECT pg_temp.furnish(1, 5, :flat);
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier) VALUES (1, 5, '2025-01-06 00:00+08', 40);
SELECT pg_temp.read(5, '2025-01-01', 10), pg_temp.read(5, '2025-01-11', 20);
SELECT submeter.settle(1, '2025-02-20');
-- Half of 10 kWh at 1, half at 40: 205 kWh.
SELECT * FROM pg_temp.owed WHERE account = 5;
SELECT day, kwh FROM submeter.usage_daily WHERE meter_id = 5 ORDER BY day;
-- Corrected later, with a fraction: what was charged is charged anew, the old row stays visible.
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, reason) VALUES (1, 5, '2025-01-06 00:00+08', 37.5, 'nameplate');
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT wh, amount FROM pg_temp.owed WHERE account = 5;
SELECT submeter.settle(1, '2025-02-20') AS again;
SELECT pg_temp.sound();

-- 4. A verdict that withdraws

SELECT pg_temp.furnish(1, 6, :tiers);
SELECT pg_temp.read(6, '2025-01-01', 0), pg_temp.read(6, '2025-01-11', 100), pg_temp.read(6, '2025-01-21', 500), pg_temp.read(6, '2025-02-05', 560);
SELECT submeter.settle(1, '2025-02-20');
SELECT cycle, wh, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
-- Without it the 460 kWh between the others are spread evenly: 18.4 a day, 386.4 until the end of January.
SELECT submeter.judge_reading(1, 6, '2025-01-21 00:00+08', 'withdraw', 'photograph says 200') > 0 AS judged, submeter.settle(1, '2025-02-20') AS intervals;
SELECT cycle, wh, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
SELECT submeter.judge_reading(1, 6, '2025-01-21 00:00+08', 'replace', 'photograph says 200', 200000) > 0 AS judged, submeter.settle(1, '2025-02-20') AS intervals;
SELECT cycle, wh, tier_wh, amount FROM pg_temp.owed WHERE account = 6;
-- The last reading withdrawn: the energy waits for the next one.
SELECT submeter.judge_reading(1, 6, '2025-02-05 00:00+08', 'withdraw', 'misread') > 0 AS judged, submeter.settle(1, '2025-02-20') AS intervals;
SELECT cycle, settled_to, wh, amount FROM pg_temp.owed WHERE account = 6;
SELECT pg_temp.sound();
SELECT pg_temp.read(6, '2025-02-08', 590);
SELECT submeter.settle(1, '2025-02-20');
SELECT cycle, settled_to, wh, amount FROM pg_temp.owed WHERE account = 6;
SELECT pg_temp.sound();
-- The first reading withdrawn: there is nothing before the second to measure from.
SELECT submeter.judge_reading(1, 6, '2025-01-01 00:00+08', 'withdraw', 'another meter') > 0 AS judged, submeter.settle(1, '2025-02-20') AS intervals;
SELECT cycle, settled_to, wh, amount FROM pg_temp.owed WHERE account = 6;
SELECT pg_temp.sound();

-- 5. Suspects and new beginnings

-- A register that ran backwards and was confirmed: an exchange. Nothing is counted for that interval, all around it is.
SELECT pg_temp.furnish(1, 7, :flat);
SELECT pg_temp.read(7, '2025-01-01', 1000), pg_temp.read(7, '2025-01-02', 1010), pg_temp.read(7, '2025-01-03', 3), pg_temp.read(7, '2025-01-04', 8);
SELECT submeter.settle(1, '2025-02-20');
SELECT day, kwh FROM submeter.usage_daily WHERE meter_id = 7 ORDER BY day;
SELECT wh, amount FROM pg_temp.owed WHERE account = 7;
-- A single strange value is not counted, the next right one bridges it: 30 kWh over two days.
SELECT pg_temp.furnish(1, 8, :flat);
SELECT pg_temp.read(8, '2025-01-01', 1000), pg_temp.read(8, '2025-01-02', 5), pg_temp.read(8, '2025-01-03', 1030);
SELECT submeter.settle(1, '2025-02-20');
SELECT day, kwh FROM submeter.usage_daily WHERE meter_id = 8 ORDER BY day;
-- Accepted, it was an exchange by somebody who knew: the way down counts nothing, the way up 1025.
SELECT submeter.judge_reading(1, 8, '2025-01-02 00:00+08', 'accept', 'exchanged') > 0 AS judged, submeter.settle(1, '2025-02-20') AS intervals;
SELECT day, kwh FROM submeter.usage_daily WHERE meter_id = 8 ORDER BY day;
-- A roll-over is counted through.
SELECT pg_temp.furnish(1, 9, :flat);
UPDATE submeter.meter_setup SET register_modulus_wh = 100000000 WHERE meter_id = 9;
SELECT pg_temp.read(9, '2025-01-01', 99990), pg_temp.read(9, '2025-01-02', 14);
SELECT submeter.settle(1, '2025-02-20');
SELECT wh FROM pg_temp.owed WHERE account = 9;
-- Also after a silence in which it went more than half round, as far as the rating allows.
SELECT pg_temp.furnish(1, 17, :flat);
UPDATE submeter.meter_setup SET register_modulus_wh = 10000000, rated_current_a = 60 WHERE meter_id = 17;
SELECT pg_temp.read(17, '2025-01-01', 9000), pg_temp.read(17, '2025-01-18', 4100), submeter.settle(1, '2025-02-20');
SELECT wh, (SELECT count(*) FROM submeter.reading_suspect q WHERE q.meter_id = 17) AS suspects FROM pg_temp.owed WHERE account = 17;
-- In one day that cannot be: it is a suspect, and accepted by a person an exchange.
SELECT pg_temp.read(17, '2025-01-19', 300), submeter.settle(1, '2025-02-20');
SELECT wh, (SELECT array_agg(q.rule || ' ' || q.state) FROM submeter.reading_suspect q WHERE q.meter_id = 17) AS suspects FROM pg_temp.owed WHERE account = 17;
SELECT submeter.judge_reading(1, 17, '2025-01-19 00:00+08', 'accept', 'exchanged') > 0 AS judged, pg_temp.read(17, '2025-01-20', 310), submeter.settle(1, '2025-02-20');
SELECT wh FROM pg_temp.owed WHERE account = 17;
-- Suspects at the end wait for what comes next.
SELECT pg_temp.read(9, '2025-01-03', 99999999), submeter.settle(1, '2025-02-20');
SELECT wh, settled_to FROM pg_temp.owed WHERE account = 9;
SELECT pg_temp.sound();

-- 6. One meter, two accounts: the change lies in the middle of an interval

SELECT pg_temp.furnish(1, 10, :tiers, '["2025-01-01 00:00+08","2025-01-16 00:00+08")');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 11, 1, 'a11');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) VALUES (1, 11, 10, :tiers, '["2025-01-17 00:00+08",)');
SELECT pg_temp.read(10, '2025-01-11', 1000), pg_temp.read(10, '2025-01-21', 1100);
SELECT submeter.settle(1, '2025-02-20');
-- 50 and 40 kWh; the day between belongs to nobody but stays in the usage.
SELECT account, wh, amount FROM pg_temp.owed WHERE account IN (10, 11);
SELECT sum(kwh) FROM submeter.usage_daily WHERE meter_id = 10;
-- The opening register of a supply is a reading like any other and takes the place of the interpolation.
UPDATE submeter.supply SET closing_wh = 1030000 WHERE account_id = 10;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, wh, amount FROM pg_temp.owed WHERE account IN (10, 11);
-- Both on one day: the former tenant ended a day later than was thought.
UPDATE submeter.supply SET during = '["2025-01-01 00:00+08","2025-01-17 00:00+08")' WHERE account_id = 10;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, wh FROM pg_temp.owed WHERE account IN (10, 11);
-- A supply that goes takes its charge along; so does one that turns out to be another account's or on another tariff.
DELETE FROM submeter.supply WHERE account_id = 11;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, tariff, wh, tier_wh, amount, rounded FROM pg_temp.owed WHERE account IN (10, 11);
UPDATE submeter.supply SET account_id = 11 WHERE account_id = 10;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, tariff, wh, amount FROM pg_temp.owed WHERE account IN (10, 11);
UPDATE submeter.supply SET tariff_id = :flat WHERE account_id = 11;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, tariff, wh, amount FROM pg_temp.owed WHERE account IN (10, 11);
-- One of two supplies of an account: what the other meter brought stays.
UPDATE submeter.supply SET account_id = 11, tariff_id = :tiers WHERE account_id = 3 AND meter_id = 3;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, tariff, wh, tier_wh FROM pg_temp.owed WHERE account IN (3, 11) AND tariff = 'tiers';
UPDATE submeter.supply SET account_id = 3 WHERE meter_id = 3;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, tariff, wh, tier_wh FROM pg_temp.owed WHERE account IN (3, 11) AND tariff = 'tiers';
SELECT count(*) AS marks_left FROM submeter.charge_dirty;
-- A setup that begins later than was thought: 8 of the 10 days at 1, 2 at 37.5.
UPDATE submeter.meter_setup SET valid_from = '2025-01-09 00:00+08' WHERE meter_id = 5 AND multiplier = 37.5;
DELETE FROM submeter.meter_setup WHERE meter_id = 5 AND multiplier = 40;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT account, wh FROM pg_temp.owed WHERE account = 5;
SELECT pg_temp.sound();

-- 7. Prices that change, and prices that are missing

SELECT submeter.create_tariff(1, 'late', '{"energy":[{"price":0.5}]}', '2025-01-06 00:00+08') AS late \gset
SELECT pg_temp.furnish(1, 12, :late);
SELECT pg_temp.read(12, '2025-01-01', 0), pg_temp.read(12, '2025-01-11', 100);
SELECT submeter.settle(1, '2025-02-20');
-- 50 kWh before the first version wait without a price, and somebody is told.
SELECT wh, unpriced, amount FROM pg_temp.owed WHERE account = 12;
SELECT rule, detail, cleared_at IS NULL AS lasts FROM submeter.alarm WHERE site_id = 1 AND rule = 'tariff_missing';
-- The missing version comes; another one in mid-cycle.
SELECT submeter.create_tariff(1, 'late', '{"energy":[{"price":0.4}]}', '2025-01-01 00:00+08') = :late AS same;
SELECT submeter.settle(1, '2025-02-20');
SELECT wh, unpriced, amount FROM pg_temp.owed WHERE account = 12;
SELECT count(*) FILTER (WHERE cleared_at IS NULL) AS open FROM submeter.alarm WHERE site_id = 1 AND rule = 'tariff_missing';
SELECT submeter.create_tariff(1, 'late', '{"energy":[{"price":0.6}]}', '2025-01-09 00:00+08') = :late AS same, submeter.settle(1, '2025-02-20') AS intervals;
-- 50 x 0.4 + 30 x 0.5 + 20 x 0.6
SELECT wh, unpriced, amount FROM pg_temp.owed WHERE account = 12;
SELECT pg_temp.sound();
-- Tiers carry over a change of version: 150 kWh before, 100 after, bound 200.
SELECT submeter.create_tariff(1, 'tiers2', '{"tiers":{"bounds":[{"upto_kwh":[200]}]},"energy":[{"tier":1,"price":1},{"price":2}]}', '2025-01-01 00:00+08') AS tiers2 \gset
SELECT submeter.create_tariff(1, 'tiers2', '{"tiers":{"bounds":[{"upto_kwh":[200]}]},"energy":[{"tier":1,"price":10},{"price":20}]}', '2025-01-16 00:00+08') = :tiers2 AS same;
SELECT pg_temp.furnish(1, 13, :tiers2);
SELECT pg_temp.read(13, '2025-01-01', 0), pg_temp.read(13, '2025-01-16', 150), pg_temp.read(13, '2025-01-26', 250), submeter.settle(1, '2025-02-20');
SELECT wh, tier_wh, amount, amount = 150 * 1 + 50 * 10 + 50 * 20 AS right FROM pg_temp.owed WHERE account = 13;
SELECT pg_temp.sound();

-- 8. Days of 23 and of 25 hours

SELECT pg_temp.furnish(2, 20, :berlin, '["2025-01-01 00:00+01",)');
-- One kWh an hour over the last days of March and of October, read in strange places.
SELECT submeter.ingest(2, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 20, 'ts', t, 'energy_wh', (extract(epoch FROM t - '2025-01-01 00:00+01') / 3.6)::bigint)))) AS readings
FROM unnest('{2025-03-28 23:00+00,2025-03-29 23:00+00,2025-03-30 00:20+00,2025-03-30 01:40+00,2025-03-31 00:00+00,2025-10-24 22:00+00,2025-10-26 00:30+00,2025-10-26 01:30+00,2025-10-28 00:00+00}'::timestamptz[]) t;
SELECT submeter.settle(2, '2025-12-01');
SELECT day, energy_wh, cardinality(hour_wh) AS hours, hour_wh[1] AS first, hour_wh[cardinality(hour_wh)] AS last
FROM submeter.usage_day WHERE meter_id = 20 AND day IN ('2025-03-29', '2025-03-30', '2025-10-25', '2025-10-26', '2025-10-27') ORDER BY day;
-- Hours as people see them: two o'clock is missing in March and comes twice in October.
SELECT to_char(hour AT TIME ZONE 'Europe/Berlin', 'MM-DD HH24:MI') AS local, energy_wh FROM submeter.usage_hour
WHERE meter_id = 20 AND (day = '2025-03-30' OR day = '2025-10-26') AND extract(hour FROM hour AT TIME ZONE 'Europe/Berlin') BETWEEN 1 AND 3 ORDER BY hour;
-- March from the 29th has 71 hours, October up to the 28th, one o'clock, 650; cycles begin at local midnight.
SELECT cycle, wh, amount FROM pg_temp.owed WHERE site = 2;
SELECT pg_temp.sound();

-- 9. The rollups lose nothing: hours = days = difference of the registers x multiplier, for every meter without a new beginning

SELECT u.meter_id AS meter, u.days, u.hours, r.registers, u.hours = u.days AND u.days = r.registers AS equal
FROM (SELECT u.meter_id, sum(u.energy_wh) AS days, sum((SELECT sum(h) FROM unnest(u.hour_wh) h)) AS hours FROM submeter.usage_day u GROUP BY u.meter_id) u
JOIN (SELECT r.meter_id, max(r.energy_wh) - min(r.energy_wh) AS registers FROM submeter.reading r GROUP BY r.meter_id) r USING (meter_id)
WHERE u.meter_id IN (1, 2, 3, 4, 10, 12, 13, 20) ORDER BY 1;
SELECT (SELECT sum(energy_wh) FROM submeter.usage_hour) = (SELECT sum(energy_wh) FROM submeter.usage_day) AS view_agrees,
	(SELECT sum(kwh) FROM submeter.usage_monthly) = (SELECT sum(kwh) FROM submeter.usage_daily) AS months_agree;
-- Thirds of a watt-hour: five readings over hours of odd length still add up.
SELECT pg_temp.furnish(1, 14, :flat);
UPDATE submeter.meter_setup SET multiplier = 0.3333 WHERE meter_id = 14;
SELECT pg_temp.read(14, '2025-01-01 00:07', 0.001), pg_temp.read(14, '2025-01-01 03:31', 0.108), pg_temp.read(14, '2025-01-01 03:32', 0.109), pg_temp.read(14, '2025-01-02 17:59', 1.777);
SELECT submeter.settle(1, '2025-02-20');
-- round(1777 x 0.3333) - round(1 x 0.3333)
SELECT sum(energy_wh) AS days, (SELECT sum(energy_wh) FROM submeter.usage_hour WHERE meter_id = 14) AS hours, (SELECT wh FROM pg_temp.owed WHERE account = 14) AS charged,
	round(1777 * 0.3333) - round(1 * 0.3333) AS wanted FROM submeter.usage_day WHERE meter_id = 14;
-- The largest power of each hour, times the multiplier.
SELECT submeter.ingest_json(1, '[{"meter_id":14,"ts":"2025-01-02T10:30:00Z","energy_wh":1800,"power_w":3000},{"meter_id":14,"ts":"2025-01-02T10:45:00Z","energy_wh":1810,"power_w":1500}]'), submeter.settle(1, '2025-02-20');
SELECT hour, energy_wh, round(max_power_w) AS max_power_w FROM submeter.usage_hour WHERE meter_id = 14 AND hour >= '2025-01-02 09:00+00' ORDER BY hour;

-- 10. Late readings, by a batch of any size, end in the same charges

SELECT pg_temp.furnish(1, 15, :tiers), pg_temp.furnish(1, 16, :tiers);
SELECT sum(pg_temp.read(15, (timestamp '2025-01-01' + n * interval '7 hours')::text, n * 9 + n % 5)) FROM generate_series(0, 140) n;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT sum(pg_temp.read(16, (timestamp '2025-01-01' + n * interval '7 hours')::text, n * 9 + n % 5)) FROM generate_series(0, 140, 4) n;
SELECT submeter.settle(1, '2025-01-20') AS intervals;
SELECT sum(pg_temp.read(16, (timestamp '2025-01-01' + n * interval '7 hours')::text, n * 9 + n % 5)) FROM generate_series(141, 1, -3) n WHERE n <= 140;
SELECT submeter.settle(1, '2025-01-25') AS intervals;
SELECT sum(pg_temp.read(16, (timestamp '2025-01-01' + n * interval '7 hours')::text, n * 9 + n % 5)) FROM generate_series(0, 140) n;
SELECT submeter.settle(1, '2025-02-20') AS intervals;
SELECT cycle, settled_to, wh, tier_wh, amount, rounded, array_agg(account ORDER BY account) AS accounts FROM pg_temp.owed WHERE account IN (15, 16) GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1;
SELECT count(*) AS differences FROM (SELECT day, energy_wh, hour_wh FROM submeter.usage_day WHERE meter_id = 15) a
FULL JOIN (SELECT day, energy_wh, hour_wh FROM submeter.usage_day WHERE meter_id = 16) b USING (day, energy_wh, hour_wh) WHERE a IS NULL OR b IS NULL;
SELECT pg_temp.sound();

-- 11. All sites at once, and bad input

SELECT submeter.settle(as_of => '2025-12-01') AS nothing_left;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.settle(99)', 'SELECT submeter.settle(1, NULL)', 'SELECT submeter.settle(1, ''infinity'')', 'SELECT submeter.settle(NULL, ''-infinity'')']) s;
SELECT count(*) FROM submeter.rebuild_charges(99);
SELECT pg_temp.refusal('SELECT submeter.hours_add(''{1,NULL}'', ''{1}'')'), submeter.hours_add('{1,2,3}', '{10}'), submeter.hours_max('{1,2}', '{0,5,1}'), submeter.hours_add('{}', '{}');
