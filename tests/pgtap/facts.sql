-- What is owed follows from the facts and never from how they came. Properties go through hundreds of random events -
-- readings in any order, verdicts, transformers, tenants and prices that turn out to have been others, estimates,
-- holidays and allowances, under a tariff that has everything - settled and
-- posted in between; a twin that is told only what is true in the end, and settled once, must come to the same.
\ir common/homes.sql

-- Four of the homes, every fourth reading.
DELETE FROM shown WHERE n > 4;
DELETE FROM shown s USING (SELECT n, ts, row_number() OVER (PARTITION BY n ORDER BY ts) AS nth FROM shown) x WHERE x.n = s.n AND x.ts = s.ts AND x.nth % 4 <> 0;

CREATE TEMP TABLE event_count (site int, event text, happened bigint);

-- A property with four meters, three accounts and two prices.
CREATE FUNCTION pg_temp.begin_site(site int) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO submeter.site (site_id, code, name) VALUES (site, 'site' || site, 'Site ' || site);
	INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (site, site, 't', 'T');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT site, site * 100 + n, site, 'a' || n FROM generate_series(1, 3) n;
	INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT site, site * 100 + n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 4) n;
	INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, gap_shape) SELECT site, site * 100 + n, 100, CASE WHEN n % 2 = 0 THEN 'week' ELSE 'time' END FROM generate_series(1, 4) n;
	-- Everything at once: tiers of the year by periods by season, a fee, demand, a whole number of kWh.
	SELECT submeter.create_tariff(site, 't1', '{"seasons":{"june":["06-01","07-01"]},"tiers":{"cycle":"year","bounds":[{"season":"june","upto_kwh":[300,600]},{"upto_kwh":[200,400]}]},
		"periods":[{"name":"peak","windows":[{"from":"08:30","to":"11:15","days":["workday"]},{"from":"18:00","to":"21:00"}]},{"name":"valley","windows":[{"from":"23:00","to":"07:00"}]},{"name":"flat"}],
		"energy":[{"tier":1,"price":0.589},{"tier":2,"period":"peak","price":1.2},{"tier":2,"price":0.639},{"period":"valley","price":0.5},{"price":0.889}],
		"fees":[{"name":"lamp","per":"day","amount":0.13}],"demand":{"per_kw":3.5,"window_minutes":30,"basis":"maximum"},"rounding":{"kwh_digits":0}}', '2025-05-01 00:00+08');
	SELECT submeter.create_tariff(site, 't2', '{"energy":[{"price":0.77}]}', '2025-05-10 00:00+08');
$$;
CREATE FUNCTION pg_temp.some_time() RETURNS timestamptz
LANGUAGE sql
AS $$
	SELECT date_trunc('second', '2025-05-01 00:00+08'::timestamptz + random() * interval '61 days')
$$;

-- One random event; what the constraints refuse has not happened.
CREATE FUNCTION pg_temp.happen(site int) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	dice float := random() * 100;
	meter bigint := site * 100 + 1 + floor(random() * 4);
	account bigint := site * 100 + 1 + floor(random() * 3);
	tariff bigint := (SELECT t.tariff_id FROM submeter.tariff t WHERE t.site_id = site ORDER BY random() LIMIT 1);
	target record;
BEGIN
	CASE
		WHEN dice < 40 THEN
			PERFORM pg_temp.batch(site, (SELECT array_agg(x) FROM (SELECT s AS x FROM shown s ORDER BY random() LIMIT 1 + floor(random() * 25)) p));
			RETURN 'readings';
		WHEN dice < 50 THEN
			SELECT r.meter_id, r.ts, r.energy_wh INTO target FROM submeter.reading r WHERE r.site_id = site ORDER BY random() LIMIT 1;
			IF target.ts IS NULL THEN
				RETURN 'nothing';
			END IF;
			dice := random();
			PERFORM submeter.judge_reading(site, target.meter_id, target.ts, CASE WHEN dice < 0.4 THEN 'withdraw' WHEN dice < 0.7 THEN 'accept' ELSE 'replace' END, 'x',
				CASE WHEN dice >= 0.7 THEN target.energy_wh + floor(random() * 100)::bigint END);
			RETURN 'verdict';
		WHEN dice < 56 THEN
			INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, rated_current_a) VALUES (site, meter, pg_temp.some_time(), round((0.5 + random() * 3)::numeric, 4), 100);
			RETURN 'setup';
		WHEN dice < 60 THEN
			UPDATE submeter.meter_setup SET valid_from = pg_temp.some_time() WHERE site_id = site AND meter_id = meter AND valid_from > '-infinity';
			RETURN 'setup moved';
		WHEN dice < 63 THEN
			DELETE FROM submeter.meter_setup WHERE site_id = site AND meter_id = meter AND valid_from > '-infinity' AND random() < 0.5;
			RETURN 'setup removed';
		WHEN dice < 73 THEN
			INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
			VALUES (site, account, meter, tariff, tstzrange(pg_temp.some_time(), CASE WHEN random() < 0.8 THEN pg_temp.some_time() END));
			RETURN 'supply';
		WHEN dice < 78 THEN
			UPDATE submeter.supply s SET account_id = account WHERE s.supply_id = (SELECT supply_id FROM submeter.supply WHERE site_id = site ORDER BY random() LIMIT 1) AND s.site_id = site;
			RETURN 'other account';
		WHEN dice < 82 THEN
			UPDATE submeter.supply s SET tariff_id = tariff WHERE s.supply_id = (SELECT supply_id FROM submeter.supply WHERE site_id = site ORDER BY random() LIMIT 1) AND s.site_id = site;
			RETURN 'other tariff';
		WHEN dice < 86 THEN
			UPDATE submeter.supply s SET during = tstzrange(pg_temp.some_time(), CASE WHEN random() < 0.8 THEN pg_temp.some_time() END)
			WHERE s.supply_id = (SELECT supply_id FROM submeter.supply WHERE site_id = site ORDER BY random() LIMIT 1) AND s.site_id = site;
			RETURN 'other dates';
		WHEN dice < 88 THEN
			DELETE FROM submeter.supply s WHERE s.supply_id = (SELECT supply_id FROM submeter.supply WHERE site_id = site ORDER BY random() LIMIT 1) AND s.site_id = site;
			RETURN 'supply removed';
		WHEN dice < 88.7 THEN
			INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason)
			VALUES (site, meter, pg_temp.some_time(), coalesce((SELECT max(r.energy_wh) FROM submeter.reading r WHERE r.site_id = site AND r.meter_id = meter AND r.energy_wh < 1e9), 0) + floor(random() * 50000)::bigint, 'x');
			RETURN 'estimate';
		WHEN dice < 89.3 THEN
			INSERT INTO submeter.calendar_day (site_id, day, day_type) VALUES (site, pg_temp.some_time()::date, 'holiday');
			RETURN 'holiday';
		WHEN dice < 89.9 THEN
			INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, during)
			VALUES (site, account, tariff, 'x', 30, tstzrange(pg_temp.some_time(), NULL));
			RETURN 'allowance';
		WHEN dice < 92.2 THEN
			PERFORM submeter.create_tariff(site, 't2', jsonb_build_object('energy', jsonb_build_array(jsonb_build_object('price', round(random()::numeric + 0.1, 4)))), pg_temp.some_time());
			RETURN 'price';
		WHEN dice < 94.2 THEN
			PERFORM submeter.post_charges(site, '2025-07-01');
			RETURN 'posted';
		WHEN dice < 97 THEN
			PERFORM submeter.settle(site, pg_temp.some_time());
			RETURN 'settled a while ago';
		ELSE
			PERFORM submeter.settle(site, '2025-07-15');
			RETURN 'settled';
	END CASE;
EXCEPTION
	WHEN exclusion_violation OR check_violation OR unique_violation OR data_exception OR object_not_in_prerequisite_state THEN
		RETURN 'refused ' || SQLSTATE;
END
$$;

-- Differences between what is stored and what computing from scratch gives.
CREATE FUNCTION pg_temp.off(site int) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT count(*) FROM (SELECT account_id, tariff_id, cycle_start, energy_wh, amount, rounded FROM submeter.charge c WHERE c.site_id = site AND c.energy_wh <> 0) c
	FULL JOIN (SELECT * FROM submeter.rebuild_charges(site) r WHERE r.energy_wh <> 0) r USING (account_id, tariff_id, cycle_start, energy_wh, amount, rounded)
	WHERE c IS NULL OR r IS NULL
$$;
-- Events, with a look at the books whenever it was settled. Returns how often they were wrong.
CREATE FUNCTION pg_temp.live(site int, events int) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
	event text;
	wrong bigint := 0;
BEGIN
	PERFORM pg_temp.begin_site(site);
	FOR i IN 1..events
	LOOP
		event := pg_temp.happen(site);
		INSERT INTO event_count VALUES (site, event, 1);
		IF event = 'settled' THEN
			wrong := wrong + (pg_temp.off(site) > 0)::int;
		ELSIF event = 'settled a while ago' THEN
			wrong := wrong + EXISTS (SELECT FROM submeter.verify_ledger(site))::int;
		END IF;
	END LOOP;
	PERFORM submeter.settle(site, '2025-07-15');
	PERFORM submeter.post_charges(site, '2025-07-15');
	RETURN wrong + (pg_temp.off(site) > 0)::int;
END
$$;
-- The twin: told once what is true in the end.
CREATE FUNCTION pg_temp.twin(site int, twin int) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	shift constant int := (twin - site) * 100;
BEGIN
	PERFORM pg_temp.begin_site(twin);
	DELETE FROM submeter.meter_setup WHERE site_id = twin;
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, rated_current_a, gap_shape, entered_at)
	SELECT twin, meter_id + shift, valid_from, multiplier, rated_current_a, gap_shape, entered_at FROM submeter.meter_setup WHERE site_id = site;
	PERFORM submeter.create_tariff(twin, t.code, v.definition, v.valid_from)
	FROM submeter.tariff_version v JOIN submeter.tariff t USING (site_id, tariff_id)
	WHERE v.site_id = site AND NOT EXISTS (SELECT FROM submeter.tariff_version o JOIN submeter.tariff u USING (site_id, tariff_id) WHERE o.site_id = twin AND u.code = t.code AND o.valid_from = v.valid_from);
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
	SELECT twin, s.account_id + shift, s.meter_id + shift, u.tariff_id, s.during
	FROM submeter.supply s JOIN submeter.tariff t USING (site_id, tariff_id) JOIN submeter.tariff u ON u.site_id = twin AND u.code = t.code WHERE s.site_id = site;
	INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh) SELECT twin, meter_id + shift, ts, energy_wh FROM submeter.reading WHERE site_id = site ORDER BY ts;
	PERFORM submeter.judge_reading(twin, v.meter_id + shift, v.ts, v.verdict, v.reason, v.energy_wh)
	FROM (SELECT DISTINCT ON (v.meter_id, v.ts) v.* FROM submeter.reading_verdict v WHERE v.site_id = site ORDER BY v.meter_id, v.ts, v.verdict_id DESC) v;
	INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason) SELECT twin, meter_id + shift, ts, energy_wh, reason FROM submeter.register_estimate WHERE site_id = site;
	INSERT INTO submeter.calendar_day (site_id, day, day_type) SELECT twin, day, day_type FROM submeter.calendar_day WHERE site_id = site;
	INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, during)
	SELECT twin, a.account_id + shift, u.tariff_id, a.name, a.kwh, a.during
	FROM submeter.allowance a JOIN submeter.tariff t USING (site_id, tariff_id) JOIN submeter.tariff u ON u.site_id = twin AND u.code = t.code WHERE a.site_id = site;
	PERFORM submeter.settle(twin, '2025-07-15');
	PERFORM submeter.post_charges(twin, '2025-07-15');
END
$$;
CREATE TEMP VIEW outcome AS
SELECT c.site_id AS site, 'charge' AS kind, concat_ws(' ', a.code, t.code, c.cycle_start, c.cycle_end, c.settled_to, c.span_from, c.span_wh, c.tier_wh, c.energy_wh, c.unpriced_wh, c.amount, c.rounded, c.posted,
	c.span_period, c.start_wh, c.position_wh, c.estimated_wh, c.demand_w, c.accrued_to) AS what
FROM submeter.charge c JOIN submeter.account a USING (site_id, account_id) JOIN submeter.tariff t USING (site_id, tariff_id) WHERE c.energy_wh <> 0
UNION ALL
SELECT u.site_id, 'usage', concat_ws(' ', m.code, u.day, u.energy_wh, u.estimated_wh, u.hour_wh) FROM submeter.usage_day u JOIN submeter.meter m USING (site_id, meter_id)
UNION ALL
SELECT s.site_id, 'baseline', concat_ws(' ', m.code, s.valid_ts, s.valid_wh) FROM submeter.meter_state s JOIN submeter.meter m USING (site_id, meter_id)
UNION ALL
SELECT l.site_id, 'total', concat_ws(' ', a.code, l.total) FROM submeter.ledger_account l JOIN submeter.account a USING (site_id, account_id);

SELECT plan(17 + 12 * 6);

SELECT setseed(0.11) \g /dev/null
CREATE TEMP TABLE life AS SELECT s AS site, pg_temp.live(s, 250) AS wrong FROM generate_series(1, 12) s;
SELECT pg_temp.twin(s, s + 20) FROM generate_series(1, 12) s \g /dev/null

SELECT cmp_ok((SELECT count(*) FROM event_count WHERE event = e), '>', 40::bigint, 'there was enough of: ' || e)
FROM unnest('{readings,verdict,setup,setup moved,setup removed,supply,other account,other tariff,other dates,supply removed,price,posted,settled a while ago,settled}'::text[]) e;
SELECT cmp_ok((SELECT count(*) FROM event_count WHERE event = e), '>', 8::bigint, 'there was enough of: ' || e)
FROM unnest('{estimate,holiday,allowance}'::text[]) e;
SELECT is(wrong, 0::bigint, format('property %s: right whenever it was looked at', site)) FROM life;
SELECT is_empty(format('SELECT what FROM outcome WHERE site = %s AND kind = %L EXCEPT SELECT what FROM outcome WHERE site = %s AND kind = %2$L', s, kind, s + 20),
	format('property %s: no %s its twin does not have', s, kind))
FROM generate_series(1, 12) s, unnest('{charge,usage,baseline,total}'::text[]) kind;
SELECT is((SELECT count(*) FROM outcome WHERE site = s), (SELECT count(*) FROM outcome WHERE site = s + 20), format('property %s: and nothing is missing', s)) FROM generate_series(1, 12) s;

SELECT * FROM finish();
