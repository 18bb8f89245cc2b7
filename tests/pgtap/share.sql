-- Sharing on a random property in the month summer time begins: weights counted hour by hour, cents that add up, and a
-- pool run again and again while facts change, which comes to what a single run at the end would.
\set ECHO none
\set QUIET 1
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(15);
SELECT setseed(0.42) \g /dev/null

-- 40 units with a meter each; 70 accounts move in and out at full hours, at times two in one unit on one day.
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 's', 'A property', 'Europe/Berlin');
SELECT submeter.create_partitions('2025-02-01', '2025-05-01') \g /dev/null
INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 1, 'A', 'A'), (1, 2, 'B', 'B');
INSERT INTO submeter.unit (site_id, unit_id, building_id, code, area_m2, heads)
SELECT 1, n, 1 + n % 2, 'u' || n, round((10 + random() * 200)::numeric, 2), (random() * 5)::int FROM generate_series(1, 40) n;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 't' || n, 't' FROM generate_series(1, 70) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, n, 'a' || n FROM generate_series(1, 70) n;
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":0.31}]}', '2025-01-01') AS flat \gset
INSERT INTO submeter.meter (site_id, meter_id, code, model, role) SELECT 1, n, 'm' || n, 'SDM630', CASE WHEN n <= 40 THEN 'supply' WHEN n <= 43 THEN 'public' WHEN n = 44 THEN 'own' ELSE 'main' END FROM generate_series(1, 45) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, parent_meter_id, unit_id) SELECT 1, n, CASE WHEN n < 45 THEN 45 END, CASE WHEN n <= 40 THEN n END FROM generate_series(1, 45) n;
CREATE TEMP TABLE edge AS
SELECT m, e, row_number() OVER (PARTITION BY m ORDER BY e) AS nth
FROM (SELECT DISTINCT m, timestamptz '2025-02-20 00:00+01' + (random() * 60 * 24)::int * interval '1 hour' AS e FROM generate_series(1, 40) m, generate_series(1, 4)) x;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
SELECT 1, 1 + (random() * 69)::int, a.m, :flat, tstzrange(a.e, b.e) FROM edge a JOIN edge b ON b.m = a.m AND b.nth = a.nth + 1 WHERE random() < 0.8;
-- A reading every three hours or so, for all alike up to the end.
INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh)
SELECT 1, m, ts, 1000 + sum(CASE WHEN m = 45 THEN 200000 ELSE 10 + floor(random() * 5000)::bigint END) OVER (PARTITION BY m ORDER BY ts)
FROM generate_series(1, 45) m, generate_series(timestamptz '2025-02-20 00:00+01', '2025-04-01 12:00+02', interval '3 hours') ts;
SELECT submeter.settle(1, '2025-04-01 12:00+02') \g /dev/null
SELECT submeter.enter_grid_bill(1, '2025-03-01 00:00+01', 65432.1, 20483.77, 'G') \g /dev/null
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount, vacancy)
SELECT 1, method || '-' || vacancy, 'x', method, 'amount', 1234.57, vacancy FROM unnest('{area,heads,equal,energy}'::text[]) method, unnest('{landlord,tenants}'::text[]) vacancy;
INSERT INTO submeter.share_pool (site_id, code, name, method, source, price_from, members) VALUES (1, 'public', 'x', 'area', 'meters', 'purchase', 'listed'), (1, 'loss', 'x', 'energy', 'loss', 'purchase', 'all');
INSERT INTO submeter.share_pool (site_id, code, name, method, source) VALUES (1, 'gd1', 'x', 'gd_all_metered', 'bill'), (1, 'gd2', 'x', 'gd_landlord_unmetered', 'bill');
INSERT INTO submeter.share_member (site_id, pool_id, building_id, unit_id, during)
SELECT 1, pool_id, b, u, d FROM submeter.share_pool, (VALUES (1, NULL::bigint, daterange('2025-03-05', '2025-03-31')), (NULL, 2, daterange('2025-03-29', NULL)), (NULL, 4, daterange(NULL, '2025-03-30')), (NULL, 6, daterange(NULL, NULL))) v(b, u, d) WHERE code = 'public';

-- The month hour by hour: 743 of them, and who was where.
CREATE TEMP TABLE hour AS SELECT h FROM generate_series(timestamptz '2025-03-01 00:00+01', '2025-03-31 23:00+02', interval '1 hour') h;
SELECT is((SELECT count(*) FROM hour), 743::bigint, 'March has an hour less');
CREATE TEMP TABLE stay AS SELECT h.h, y.account_id, y.meter_id FROM hour h JOIN submeter.supply y ON y.during @> h.h;
SELECT cmp_ok((SELECT count(DISTINCT account_id) FROM stay), '>', 40::bigint, 'there are tenants');
CREATE TEMP TABLE weight AS
SELECT p.code, p.pool_id, w.account_id, w.weight FROM submeter.share_pool p
CROSS JOIN LATERAL jsonb_to_recordset(submeter.share_inputs(1, p.pool_id, '2025-03-01 00:00+01') -> 'members') w(account_id bigint, weight numeric);

PREPARE area AS SELECT s.account_id, sum(u.area_m2) * 3600 FROM (SELECT DISTINCT h, account_id, meter_id FROM stay) s JOIN submeter.unit u ON u.unit_id = s.meter_id GROUP BY 1;
PREPARE area_found AS SELECT account_id, weight FROM weight WHERE code = 'area-tenants';
SELECT bag_eq('area_found', 'area', 'area: square metres for every hour somebody was there');
SELECT is((SELECT weight FROM weight WHERE code = 'area-landlord' AND account_id IS NULL),
	(SELECT sum(u.area_m2) * 3600 FROM hour CROSS JOIN submeter.unit u WHERE NOT EXISTS (SELECT FROM stay s WHERE s.h = hour.h AND s.meter_id = u.unit_id)), 'the landlord bears the hours nobody was there');
PREPARE heads AS SELECT s.account_id, sum(u.heads)::numeric * 3600 FROM stay s JOIN submeter.unit u ON u.unit_id = s.meter_id GROUP BY 1;
PREPARE heads_found AS SELECT account_id, weight FROM weight WHERE code = 'heads-tenants';
SELECT bag_eq('heads_found', 'heads', 'heads: likewise');
PREPARE equal AS SELECT account_id, count(DISTINCT h)::numeric * 3600 FROM stay GROUP BY 1;
PREPARE equal_found AS SELECT account_id, weight FROM weight WHERE code = 'equal-tenants';
SELECT bag_eq('equal_found', 'equal', 'equally: an account with three units counts once');
PREPARE energy AS SELECT s.account_id, sum(g.energy_wh)::numeric FROM stay s JOIN submeter.usage_hour g ON g.meter_id = s.meter_id AND g.hour = s.h GROUP BY 1;
PREPARE energy_found AS SELECT account_id, weight FROM weight WHERE code = 'energy-tenants';
SELECT bag_eq('energy_found', 'energy', 'energy: what the charges say is what the hours of the meters say');
PREPARE listed AS SELECT s.account_id, sum(u.area_m2) * 3600 FROM stay s JOIN submeter.unit u ON u.unit_id = s.meter_id CROSS JOIN LATERAL (SELECT (s.h AT TIME ZONE 'Europe/Berlin')::date AS day) d
	WHERE u.building_id = 1 AND day >= '2025-03-05' AND day < '2025-03-31' OR u.unit_id = 2 AND day >= '2025-03-29' OR u.unit_id = 4 AND day < '2025-03-30' OR u.unit_id = 6 GROUP BY 1;
PREPARE listed_found AS SELECT account_id, weight FROM weight WHERE code = 'public' AND account_id IS NOT NULL;
SELECT bag_eq('listed_found', 'listed', 'listed units and buildings count on their local days, once');

-- Money: every pool adds up to its amount, and nobody is a cent off.
CREATE TEMP TABLE line AS
SELECT p.code, i.amount, l.* FROM submeter.share_pool p
CROSS JOIN LATERAL (SELECT submeter.share_inputs(1, p.pool_id, '2025-03-01 00:00+01') AS inputs OFFSET 0) x
CROSS JOIN LATERAL (SELECT (x.inputs ->> 'amount')::numeric AS amount) i
CROSS JOIN LATERAL (SELECT s.line, s.account_id, s.weight, s.energy_wh, s.due, s.charged FROM submeter.share_split(x.inputs) s) l;
SELECT is_empty('SELECT code FROM line GROUP BY code, amount HAVING sum(due) <> amount', 'the parts add up');
SELECT is_empty('SELECT code, line FROM (SELECT *, amount * weight / sum(weight) OVER (PARTITION BY code) AS exact FROM line) l WHERE abs(due - exact) >= 0.01', 'no part is a cent off');
SELECT is((SELECT amount FROM line WHERE code = 'loss' LIMIT 1), (SELECT round(sum(CASE WHEN meter_id = 45 THEN energy_wh ELSE -energy_wh END) * 20483.77 / 65432100, 2) FROM submeter.usage_day WHERE day BETWEEN '2025-03-01' AND '2025-03-31'), 'the loss is main meter less the others, at the price of the grid');
SELECT ok((SELECT max(abs(l.due - 20483.77 * l.weight / 65432100)) < 0.01 FROM line l WHERE code = 'gd2'), 'landlord not metered: bill / main meter x own energy');
SELECT ok((SELECT max(abs(l.due - 20483.77 * l.weight / t.wh)) < 0.01 FROM line l, (SELECT sum(energy_wh) AS wh FROM submeter.usage_day WHERE meter_id <= 44 AND day BETWEEN '2025-03-01' AND '2025-03-31') t WHERE code = 'gd1'), 'all metered: bill / sum of sub-meters x own energy');

-- The same pool again and again: a unit measured anew, the grid's bill corrected, readings withdrawn, runs taken back.
DO $$
DECLARE
	wanted text;
BEGIN
	FOR n IN 1..30
	LOOP
		CASE floor(random() * 4)
			WHEN 0 THEN UPDATE submeter.unit SET area_m2 = round((10 + random() * 200)::numeric, 2) WHERE unit_id = 1 + floor(random() * 40);
			WHEN 1 THEN PERFORM submeter.enter_grid_bill(1, '2025-03-01 00:00+01', 65432.1, round((15000 + random() * 9000)::numeric, 2), 'G', reason => 'corrected');
			WHEN 2 THEN PERFORM submeter.judge_reading(1, 41 + floor(random() * 3)::bigint, timestamptz '2025-03-01 12:00+01' + floor(random() * 200) * interval '3 hours', 'withdraw', 'x');
			ELSE NULL;
		END CASE;
		wanted := ('{public,loss,gd1,area-landlord}'::text[])[1 + floor(random() * 4)];
		IF random() < 0.15 AND EXISTS (SELECT FROM submeter.share_pool p CROSS JOIN LATERAL submeter.share_last(1, p.pool_id, '2025-03-01 00:00+01') l WHERE p.code = wanted AND l.kind = 'share') THEN
			PERFORM submeter.reverse_share(1, wanted, '2025-03-01 00:00+01', 'x', '2025-04-05');
		ELSE
			PERFORM submeter.run_share(1, wanted, '2025-03-01 00:00+01', false, 'x', '2025-04-05');
		END IF;
	END LOOP;
	PERFORM submeter.run_share(1, p.code, '2025-03-01 00:00+01', false, 'x', '2025-04-05') FROM submeter.share_pool p WHERE p.code IN ('public', 'loss', 'area-landlord');
END
$$;
PREPARE moved AS SELECT p.code, t.account_id, sum(CASE WHEN l.kind = 'tenant' THEN t.amount ELSE -t.amount END)
	FROM submeter.transfer t JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.debit_id
	JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id IN (t.debit_id, t.credit_id) AND c.kind = 'revenue'
	JOIN submeter.share_pool p ON c.code = 'share:' || p.code
	WHERE t.kind = 'share' AND p.code IN ('public', 'loss', 'area-landlord') GROUP BY 1, 2 HAVING sum(CASE WHEN l.kind = 'tenant' THEN t.amount ELSE -t.amount END) <> 0;
PREPARE at_once AS SELECT p.code, s.account_id, s.due FROM submeter.share_pool p CROSS JOIN LATERAL submeter.share_split(submeter.share_inputs(1, p.pool_id, '2025-03-01 00:00+01')) s
	WHERE p.code IN ('public', 'loss', 'area-landlord') AND s.account_id IS NOT NULL AND s.due <> 0;
SELECT bag_eq('moved', 'at_once', 'all runs together moved what one run at the end would');
SELECT is_empty('SELECT * FROM submeter.verify_ledger(1)', 'the books are right');
SELECT * FROM finish();
