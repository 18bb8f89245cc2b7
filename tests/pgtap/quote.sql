-- quote() and settle price the same: sixty random tariffs with tiers, seasons, households, periods, day types, flags,
-- fees, demand, minimum, tax and rounding, each on an account with odd readings over ten weeks and a change of the
-- clock. Every month of every account comes to what quote() says, line by line.
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT plan(7);

SELECT setseed(0.1983) \g /dev/null
CREATE FUNCTION pg_temp.any_of(VARIADIC choices jsonb[]) RETURNS jsonb
LANGUAGE sql VOLATILE
AS $$
	SELECT choices[1 + floor(random() * cardinality(choices))::int]
$$;
CREATE FUNCTION pg_temp.price() RETURNS jsonb
LANGUAGE sql VOLATILE
AS $$
	SELECT CASE WHEN random() < 0.2 THEN jsonb_build_object('ref', 'base', 'times', round((0.3 + random() * 2)::numeric, 3), 'digits', 4)
		ELSE to_jsonb(round((random() * 1.5)::numeric, 1 + (random() * 7)::int)) END
$$;
-- A definition of random parts, in which every tier and period has a price of its own.
CREATE FUNCTION pg_temp.definition() RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	d jsonb := '{"seasons":{"spring":["03-10","06-01"],"hot":["04-05","10-01"]}}';
	n_tiers int := 1;
	periods jsonb;
BEGIN
	IF random() < 0.7 THEN
		n_tiers := 3;
		d := d || jsonb_build_object('tiers', jsonb_build_object('cycle', pg_temp.any_of('"month"', '"year"', '"cycle"', '"season"'), 'mode', pg_temp.any_of('"graduated"', '"graduated"', '"volume"'),
			'bounds', pg_temp.any_of('[{"upto_kwh":[100,250.5]}]', '[{"season":"spring","upto_kwh":[120,300]},{"upto_kwh":[80,160]}]',
				'[{"season":"hot","household":5,"upto_kwh":[200,400]},{"household":4,"upto_kwh":[150,333.333]},{"season":"spring","upto_kwh":[90,100]},{"upto_kwh":[50,300]}]')));
	END IF;
	periods := pg_temp.any_of(NULL, '[{"name":"peak","windows":[{"from":"10:00","to":"12:00"},{"from":"14:00","to":"19:00"}]},{"name":"valley","windows":[{"from":"00:00","to":"08:00"}]},{"name":"flat"}]',
		'[{"name":"sharp","windows":[{"from":"11:00","to":"12:30","seasons":["hot"]},{"from":"15:00","to":"17:00","flag":"hot_day","days":["workday","weekend"]}]},{"name":"flat"},{"name":"night","windows":[{"from":"22:15","to":"06:45","days":["workday"]},{"from":"01:30","to":"02:45"}]}]',
		'[{"name":"week","windows":[{"from":"00:00","to":"24:00","days":["workday"]}]},{"name":"end"}]');
	IF periods IS NOT NULL THEN
		d := d || jsonb_build_object('periods', periods);
	END IF;
	d := d || jsonb_build_object('energy', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('tier', t, 'period', p ->> 'name', 'price', pg_temp.price())))
		FROM generate_series(1, n_tiers) t CROSS JOIN jsonb_array_elements(coalesce(periods, '[{}]')) p));
	IF random() < 0.4 THEN
		d := d || jsonb_build_object('adders', pg_temp.any_of('[{"name":"funds","price":0.00866875}]', '[{"name":"funds","price":0.02},{"name":"grid","price":{"ref":"base","times":0.1}}]'));
	END IF;
	IF random() < 0.5 THEN
		d := d || jsonb_build_object('fees', pg_temp.any_of('[{"name":"daily","per":"day","amount":0.333}]', '[{"name":"service","per":"month","amount":10,"prorate":true}]',
			'[{"name":"rent","per":"cycle","amount":7.77},{"name":"lift","per":"cycle","amount":31,"prorate":true},{"name":"hall","per":"month","amount":3.33}]'));
	END IF;
	IF random() < 0.4 THEN
		d := d || jsonb_build_object('demand', pg_temp.any_of('{"per_kw":32}', '{"per_kw":12.5,"window_minutes":60}', '{"per_kw":23,"basis":"capacity"}', '{"per_kw":38,"basis":"contract"}'));
	END IF;
	IF random() < 0.3 THEN
		d := d || jsonb_build_object('minimum', round((random() * 300)::numeric, 2));
	END IF;
	IF random() < 0.4 THEN
		d := d || jsonb_build_object('tax_rate', 0.13, 'tax_included', random() < 0.3);
	END IF;
	IF random() < 0.5 THEN
		d := d || jsonb_build_object('rounding', jsonb_build_object('amount', pg_temp.any_of('"half_up"', '"down"', '"up"'), 'digits', (random() * 2)::int, 'kwh_digits', pg_temp.any_of('null', '0', '1')));
	END IF;
	RETURN d;
END
$$;

INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'haus', 'Ein Haus', 'Europe/Berlin');
SELECT submeter.create_partitions('2026-01-01', '2026-06-01') \g /dev/null
INSERT INTO submeter.price_item (site_id, name, valid_from, price) VALUES (1, 'base', '2026-01-01', 0.5802);
INSERT INTO submeter.calendar_day (site_id, day, day_type, flags) VALUES (1, '2026-03-08', NULL, '{hot_day}'), (1, '2026-03-20', 'holiday', '{hot_day,windy}'), (1, '2026-03-29', 'workday', '{}'),
	(1, '2026-04-03', 'holiday', '{}'), (1, '2026-04-06', 'holiday', '{hot_day}'), (1, '2026-04-11', 'workday', '{hot_day}'), (1, '2026-04-13', NULL, '{hot_day}');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'A tenant');
CREATE TEMP TABLE plan AS
SELECT n, pg_temp.definition() AS definition, jsonb_build_object('household_size', 1 + (random() * 6)::int, 'contract_kw', round((random() * 20)::numeric, 2), 'capacity_kva', 50) AS terms
FROM generate_series(1, 60) n;
SELECT cmp_ok((SELECT count(DISTINCT jsonb_build_array(definition -> 'tiers', definition -> 'periods')) FROM plan), '>', 15::bigint, 'tariffs of many shapes');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, 1, 'a' || n FROM plan;
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM plan;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, n, 1000 FROM plan;
-- From the middle of a February day to the middle of an April one, at no round time.
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms)
SELECT 1, n, n, submeter.create_tariff(1, 't' || n, definition, '2026-01-01'), '["2026-02-15 08:31:07+00","2026-04-20 09:47:53+00")', terms FROM plan;
CREATE TEMP TABLE shown AS
SELECT n, ts, (n * 1000000 + sum(wh) OVER (PARTITION BY n ORDER BY ts))::bigint AS wh
FROM (
	SELECT n, timestamptz '2026-02-15 08:31:07+00' AS ts, 0 AS wh FROM plan
	UNION ALL SELECT n, '2026-04-20 09:47:53+00', 77 FROM plan
	UNION ALL
	SELECT n, timestamptz '2026-02-15 08:31:07+00' + i * interval '47 min' + (random() * 2500)::int * interval '1 s', (random() * random() * 1200)::int
	FROM plan, generate_series(1, 1950) i WHERE random() > 0.1) s;
SELECT submeter.ingest(1, (SELECT array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', n, 'ts', ts, 'energy_wh', wh)) ORDER BY ts)
	FROM shown WHERE ts <= '2026-04-20 09:47:53+00')) \g /dev/null
SELECT submeter.settle(1, '2026-04-21 12:00+00') \g /dev/null
UPDATE submeter.charge SET final = true WHERE site_id = 1;
SELECT submeter.rate_charges(1, array_agg(account_id ORDER BY cycle_start), array_agg(tariff_id ORDER BY cycle_start), array_agg(cycle_start ORDER BY cycle_start)) FROM submeter.charge WHERE site_id = 1 \g /dev/null

-- Months one by one, so that each rounded charge is compared; tier cycles are carried by what was used before.
CREATE TEMP TABLE series AS
SELECT s.n, array_agg(s.ts ORDER BY s.ts) AS bounds, (array_agg(s.kwh ORDER BY s.ts))[2:] AS kwh
FROM (SELECT n, ts, (wh - lag(wh) OVER (PARTITION BY n ORDER BY ts)) / 1000.0 AS kwh FROM shown WHERE ts <= '2026-04-20 09:47:53+00') s GROUP BY s.n;
CREATE TEMP TABLE quoted AS
SELECT p.n, q.* FROM plan p JOIN series s USING (n)
CROSS JOIN LATERAL submeter.quote(p.definition, s.bounds, s.kwh, 'Europe/Berlin',
	(SELECT jsonb_agg(to_jsonb(c)) FROM submeter.calendar_day c WHERE c.site_id = 1), 0, p.terms || jsonb_build_object('prices', submeter.named_prices(1, '2026-02-01'))) q;
CREATE TEMP TABLE charged AS
SELECT c.account_id AS n, l.component, l.tier, l.period, sum(l.energy_wh) / 1000.0 AS kwh, sum(l.amount) AS amount
FROM (SELECT array_agg(account_id ORDER BY account_id, cycle_start) AS a, array_agg(tariff_id ORDER BY account_id, cycle_start) AS t, array_agg(cycle_start ORDER BY account_id, cycle_start) AS c
	FROM submeter.charge WHERE site_id = 1) k
CROSS JOIN LATERAL submeter.charge_lines(1, k.a, k.t, k.c) l
CROSS JOIN LATERAL (SELECT k.a[l.ord] AS account_id) c
GROUP BY 1, 2, 3, 4;
SELECT is((SELECT count(*) FROM submeter.charge WHERE site_id = 1), 180::bigint, 'three months of sixty accounts');
SELECT cmp_ok((SELECT count(*) FROM quoted), '>', 300::bigint, 'there is enough to compare');
SELECT is_empty($$
	SELECT n, c.rounded, q.amount FROM (SELECT account_id AS n, sum(rounded) AS rounded FROM submeter.charge WHERE site_id = 1 GROUP BY 1) c
	FULL JOIN (SELECT n, sum(amount) AS amount FROM quoted GROUP BY 1) q USING (n) WHERE c.rounded IS DISTINCT FROM q.amount$$, 'every account owes what was quoted');
SELECT is_empty($$
	SELECT coalesce(c.n, q.n) AS n, coalesce(c.component, q.component) AS component, q.tier, q.period, c.kwh, q.kwh, c.amount, q.amount FROM charged c
	FULL JOIN (SELECT n, component, coalesce(tier, 1) AS tier, period, sum(kwh) AS kwh, sum(amount) AS amount FROM quoted GROUP BY 1, 2, 3, 4) q
	ON (c.n, c.component, coalesce(c.tier, 1), coalesce(c.period, '')) = (q.n, q.component, q.tier, coalesce(q.period, ''))
	WHERE c.amount IS DISTINCT FROM q.amount OR (c.component = 'energy' AND c.kwh IS DISTINCT FROM q.kwh)$$, 'line by line');
SELECT is((SELECT sum(kwh) FROM quoted WHERE component = 'energy' AND n = p.n), (SELECT sum(k) FROM series s, unnest(s.kwh) k WHERE s.n = p.n), 'energy is all there')
FROM plan p WHERE definition #>> '{rounding,kwh_digits}' IS NULL ORDER BY n LIMIT 2;
SELECT * FROM finish();
