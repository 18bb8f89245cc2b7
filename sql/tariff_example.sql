-- Room: tariff. The ready-made definitions: each is accepted, and comes to what a person with a pencil finds.
SET timezone = 'Asia/Shanghai';
SET client_min_messages = warning;
\pset footer off

SELECT e.code, e.currency, e.verified, submeter.check_tariff(e.definition)::text = '' AS accepted FROM submeter.tariff_example e ORDER BY e.code COLLATE "C";
-- Nothing is called verified that nobody compared with the notice, and every figure says where it is from.
SELECT count(*) FILTER (WHERE e.verified) AS verified, count(*) FILTER (WHERE length(e.source) < 20) AS without_source FROM submeter.tariff_example e;

CREATE FUNCTION pg_temp.cost(example text, from_ts timestamptz, to_ts timestamptz, kwh numeric, start_kwh numeric DEFAULT 0,
	calendar jsonb DEFAULT NULL, terms jsonb DEFAULT NULL) RETURNS numeric
LANGUAGE sql
AS $$
	SELECT sum(q.amount)
	FROM submeter.tariff_example e
	CROSS JOIN submeter.quote(e.definition, ARRAY[cost.from_ts, cost.to_ts], ARRAY[cost.kwh], CASE e.currency WHEN 'JPY' THEN 'Asia/Tokyo' ELSE 'Asia/Shanghai' END,
		cost.calendar, cost.start_kwh, cost.terms) q
	WHERE e.code = cost.example
$$;

-- 1. Household ladder of Guangdong, 600 kWh
-- May:      260 x 0.58886875 + 340 x 0.63886875                       = 153.105875 + 217.215375              = 370.32125
-- December: 200 x 0.58886875 + 200 x 0.63886875 + 200 x 0.88886875    = 117.77375 + 127.77375 + 177.77375    = 423.32125
-- A household of five, May:      360 x 0.58886875 + 240 x 0.63886875  = 211.99275 + 153.3285                 = 365.32125
-- A household of five, December: 300, 200 and 100                     = 176.660625 + 127.77375 + 88.886875   = 393.32125
-- A household of four has the bounds of everybody.
SELECT c.name, pg_temp.cost('guangdong_ladder', c.month, c.month + interval '1 month', 600, terms => c.terms) AS cost, c.wanted
FROM (VALUES
	('May', timestamptz '2026-05-01', NULL::jsonb, 370.32), ('December', '2025-12-01', NULL, 423.32),
	('May, five people', '2026-05-01', '{"household_size": 5}', 365.32), ('December, five people', '2025-12-01', '{"household_size": 5}', 393.32),
	('May, four people', '2026-05-01', '{"household_size": 4}', 370.32), ('May, seven people', '2026-05-01', '{"household_size": 7}', 365.32)
) c(name, month, terms, wanted);
SELECT q.* FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2025-12-01,2026-01-01}', '{600}', 'Asia/Shanghai') q WHERE e.code = 'guangdong_ladder';
-- Over the change of season, 300 kWh a month: April 181.66 by 200 and 100, May 178.66 by 260 and 40.
SELECT sum(q.amount) AS cost FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2026-04-01,2026-05-01,2026-06-01}', '{300,300}', 'Asia/Shanghai') q WHERE e.code = 'guangdong_ladder';
-- Bounds are up to and including: the tier of the last Wh.
SELECT u.used, max(q.tier) AS tier FROM (VALUES (260), (260.001), (600), (600.001)) u(used), submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2026-07-01,2026-08-01}', ARRAY[u.used], 'Asia/Shanghai') q
WHERE e.code = 'guangdong_ladder' GROUP BY u.used ORDER BY u.used;
-- Behind one meter: 600 x 0.62586875 = 375.52125.
SELECT pg_temp.cost('guangdong_shared_meter', '2026-05-01', '2026-06-01', 600) AS cost;

-- 2. The same with peak and valley: a day of 1 kW in December
-- 7 x 0.9863 + 8 x 0.2205 + 9 x 0.5802 + 24 x 0.00866875 = 6.9041 + 1.764 + 5.2218 + 0.20805 = 14.09795
-- With 390 kWh used before, tiers meet periods in the order of the clock: valley 8 (to 398) and flat 2 (to 400) in tier 2, then
-- peak 2, flat 2, peak 5, flat 5 in tier 3: 8 x 0.2705 + 2 x 0.6302 + 7 x 1.2863 + 7 x 0.8802 + 0.20805
-- = 2.164 + 1.2604 + 9.0041 + 6.1614 + 0.20805 = 18.79795
SELECT pg_temp.cost('guangdong_ladder_tou', '2025-12-01', '2025-12-02', 24) AS first_tier, 14.10 AS wanted,
	pg_temp.cost('guangdong_ladder_tou', '2025-12-01', '2025-12-02', 24, 390) AS over_the_bound, 18.80 AS wanted;
SELECT q.* FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2025-12-01,2025-12-02}', '{24}', 'Asia/Shanghai', start_kwh => 390) q WHERE e.code = 'guangdong_ladder_tou';

-- 3. Commerce in Zhongshan, a day of 1 kW
-- July: sharp 11-12 and 15-17, so 3 x 1.4291 + 4 x 1.1433 + 8 x 0.2556 + 9 x 0.6725 = 4.2873 + 4.5732 + 2.0448 + 6.0525 = 16.9578
-- June:                                7 x 1.1433 + 8 x 0.2556 + 9 x 0.6725 = 8.0031 + 2.0448 + 6.0525          = 16.1004
-- June, on a day declared hot: as in July; a holiday is no different.
SELECT c.name, pg_temp.cost('zhongshan_commercial_2021', c.day, c.day + interval '1 day', 24, calendar => c.calendar) AS cost, c.wanted
FROM (VALUES
	('July', timestamptz '2026-07-15', NULL::jsonb, 16.96), ('June', '2026-06-15', NULL, 16.10),
	('June, hot', '2026-06-15', '{"2026-06-15": {"flags": ["hot_day"]}}', 16.96), ('June, the day after', '2026-06-16', '{"2026-06-15": {"flags": ["hot_day"]}}', 16.10),
	('last of September', '2026-09-30', NULL, 16.96), ('first of October', '2026-10-01', '{"2026-10-01": {"type": "holiday"}}', 16.10),
	('October, hot holiday', '2026-10-01', '{"2026-10-01": {"type": "holiday", "flags": ["hot_day"]}}', 16.96)
) c(name, day, calendar, wanted);
-- Other months and places by the same hours:
-- October 2026: 7 x 1.34176875 + 8 x 0.32136875 + 9 x 0.80066875                  = 9.39238125 + 2.57095 + 7.20601875           = 19.16935
-- Heyuan, July: 3 x 1.37346875 + 4 x 1.10426875 + 8 x 0.26826875 + 9 x 0.66096875 = 4.12040625 + 4.417075 + 2.14615 + 5.94871875 = 16.63235
-- Fujian, July: sharp 11-12 and 17-18, peak 10-11, 15-17, 18-20 and 21-22: 2 x 0.93817215 + 6 x 0.85626769 + 8 x 0.40579316
--   + 8 x 0.64033775 = 1.8763443 + 5.13760614 + 3.24634528 + 5.122702 = 15.38299772
SELECT pg_temp.cost('zhongshan_commercial_2026_10', '2026-10-14', '2026-10-15', 24) AS zhongshan, 19.17 AS wanted,
	pg_temp.cost('heyuan_commercial_2026_07', '2026-07-15', '2026-07-16', 24) AS heyuan, 16.63 AS wanted,
	pg_temp.cost('fujian_commercial_2026_07', '2026-07-15', '2026-07-16', 24) AS fujian, 15.38 AS wanted;

-- 4. Zhejiang, tiers by the year
-- 320 kWh a month: 2,560 by August; September crosses 2,760 with 200 x 0.538 + 120 x 0.588 = 107.6 + 70.56 = 178.16;
-- the year is 2,760 x 0.538 + 1,080 x 0.588 = 1484.88 + 635.04 = 2119.92
-- Over the new year, 4,700 before: 100 x 0.588 + 100 x 0.838 + 200 x 0.538 = 58.8 + 83.8 + 107.6 = 250.20
SELECT pg_temp.cost('zhejiang_ladder', '2026-09-01', '2026-10-01', 320, 2560) AS september, 178.16 AS wanted;
SELECT sum(q.amount) AS year, 2119.92 AS wanted FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, (SELECT array_agg(m) FROM generate_series(timestamptz '2026-01-01', '2027-01-01', '1 month') m), array_fill(320::numeric, '{12}'), 'Asia/Shanghai') q
WHERE e.code = 'zhejiang_ladder';
SELECT q.* FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2025-12-01,2026-01-01,2026-02-01}', '{200,200}', 'Asia/Shanghai', start_kwh => 4700) q WHERE e.code = 'zhejiang_ladder';
-- With peak and valley, a day of 1 kW with 2,750 before: valley 8 and peak 2 to the bound, peak 12 and valley 2 beyond:
-- 8 x 0.288 + 2 x 0.568 + 12 x 0.618 + 2 x 0.338 = 2.304 + 1.136 + 7.416 + 0.676 = 11.532
SELECT q.*, sum(q.amount) OVER () AS total FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2026-10-14,2026-10-15}', '{24}', 'Asia/Shanghai', start_kwh => 2750) q WHERE e.code = 'zhejiang_ladder_tou';

-- 5. Industry, 200 kW all June, 144,000 kWh
-- energy 42,000 x 0.775005 + 48,000 x 0.23485 + 54,000 x 0.4697 = 32550.21 + 11272.8 + 25363.8 = 69186.81; funds 144,000 x 0.00866875 = 1248.3
-- demand 200 kW x 32 = 6400, together 75586.81; power factor 0.86: + 2 % = 1511.7362                 -> 78346.8462
-- 0.95: - 0.75 % = - 566.901075                                                                      -> 76268.208925
-- 0.60: + 25 % = 18896.7025                                                                          -> 95731.8125
-- capacity 400 kVA x 23 = 9200, together 78386.81; 0.86: + 2 % = 1567.7362                           -> 81202.8462
SELECT c.example, c.terms ->> 'power_factor' AS power_factor, pg_temp.cost(c.example, '2026-06-01', '2026-07-01', 144000, terms => c.terms) AS cost, c.wanted
FROM (VALUES
	('industry_two_part_demand', '{"power_factor": 0.86}'::jsonb, 78346.85), ('industry_two_part_demand', '{"power_factor": 0.95}', 76268.21),
	('industry_two_part_demand', '{"power_factor": 0.60}', 95731.81), ('industry_two_part_demand', '{"power_factor": 0.90}', 76835.11),
	('industry_two_part_capacity', '{"power_factor": 0.86, "capacity_kva": 400}', 81202.85)
) c(example, terms, wanted);
SELECT q.* FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2026-06-01,2026-07-01}', '{144000}', 'Asia/Shanghai', terms => '{"power_factor": 0.86}') q WHERE e.code = 'industry_two_part_demand';

-- 6. Tokyo: 350.4 kWh are 350: 120 x 19.88 + 180 x 26.48 + 50 x 30.57 + 858 = 2385.6 + 4766.4 + 1528.5 + 858 = 9538.5, down to 9538;
-- 350.5 are 351: 9569.07; nothing used: the basic fee.
SELECT u.kwh, pg_temp.cost('tepco_juryo_b_30a', '2020-06-01 00:00+09', '2020-07-01 00:00+09', u.kwh) AS cost, u.wanted
FROM (VALUES (350.4, 9538), (350.5, 9569), (0, 858)) u(kwh, wanted);

-- 7. In use: by name, and with named prices that have to be there
INSERT INTO submeter.site (site_id, code, name) VALUES (933, 'EXAMPLE', 'Examples');
SELECT count(submeter.create_tariff(933, e.code, e.definition, '2026-01-01')) AS created FROM submeter.tariff_example e WHERE e.code <> 'zhongshan_commercial' AND e.currency = 'CNY';
\set VERBOSITY terse
SELECT submeter.create_tariff(933, 'zhongshan_commercial', e.definition, '2026-01-01') FROM submeter.tariff_example e WHERE e.code = 'zhongshan_commercial';
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (933, 'base', '2026-01-01', 0.6725), (933, 'funds', '2026-01-01', 0.0277);
SELECT submeter.create_tariff(933, 'zhongshan_commercial', e.definition, '2026-01-01') > 0 AS created FROM submeter.tariff_example e WHERE e.code = 'zhongshan_commercial';
-- A shop on it, three days of 1 kW in June: the 15th declared hot, the 16th as usual, and from the 17th the grid asks for more.
-- 15: 3 x 1.4291 + 4 x 1.1433 + 8 x 0.2556 + 9 x 0.6725 + 24 x 0.0277 = 16.9578 + 0.6648 = 17.6226
-- 16:              7 x 1.1433 + 8 x 0.2556 + 9 x 0.6725 + 24 x 0.0277 = 16.1004 + 0.6648 = 16.7652
-- 17: base 0.70:   7 x 1.19   + 8 x 0.266  + 9 x 0.70   + 24 x 0.0277 = 16.758  + 0.6648 = 17.4228; together 51.8106
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (933, 'base', '2026-06-17', 0.70);
INSERT INTO submeter.calendar_day (site_id, day, flags) VALUES (933, '2026-06-15', '{hot_day}');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (933, 933, 'shop', 'A shop');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (933, 933, 933, 'shop');
INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (933, 933, 'm', 'DDS238-2 ZN/SR');
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from) VALUES (933, 933, '2026-06-01');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
SELECT 933, 933, 933, t.tariff_id, '[2026-06-15,)' FROM submeter.tariff t WHERE t.site_id = 933 AND t.code = 'zhongshan_commercial';
SELECT submeter.create_partitions('2026-06-01', '2026-07-01') >= 0 AS partitions;
SELECT submeter.ingest_json(933, jsonb_agg(jsonb_build_object('meter_id', 933, 'ts', h, 'energy_wh', 1000 * (extract(epoch FROM h - '2026-06-15') / 3600)::int))) AS readings
FROM generate_series(timestamptz '2026-06-15', '2026-06-18', '1 hour') h;
SELECT submeter.settle(933, '2026-06-18') > 0 AS settled;
SELECT c.kwh, c.exact_amount, 51.8106 AS wanted, c.amount FROM submeter.charge_statement c WHERE c.site_id = 933;
-- Quoted with the prices of a day, as the first two of them: 34.3878.
SELECT sum(q.amount) AS quoted FROM submeter.tariff_example e
CROSS JOIN submeter.quote(e.definition, '{2026-06-15,2026-06-17}', '{48}', 'Asia/Shanghai', '{"2026-06-15": {"flags": ["hot_day"]}}',
	terms => jsonb_build_object('prices', submeter.named_prices(933, '2026-06-15'))) q WHERE e.code = 'zhongshan_commercial';

-- 8. Reference rows belong to the extension, nobody writes them
SET ROLE submeter_admin;
SELECT count(*) > 10 AS readable FROM submeter.tariff_example;
UPDATE submeter.tariff_example SET verified = true;
RESET ROLE;
