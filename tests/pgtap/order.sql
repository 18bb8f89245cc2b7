-- Any order, delay, duplication and batching of the same readings, settled and posted at any time in between, ends in
-- the same charges, usage, suspects and totals; and whenever it is looked at, what is stored is what computing from
-- scratch gives.
\ir common/homes.sql

CREATE TEMP TABLE outcome (site int, kind text, what text);
-- What a property came to, without the numbers it goes by.
CREATE FUNCTION pg_temp.note(site int) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO outcome
	SELECT site, 'charge', concat_ws(' ', a.code, c.cycle_start, c.cycle_end, c.settled_to, c.span_from, c.span_wh, c.tier_wh, c.energy_wh, c.unpriced_wh, c.amount, c.rounded, c.span_period, c.estimated_wh)
	FROM submeter.charge c JOIN submeter.account a USING (site_id, account_id) WHERE c.site_id = site
	UNION ALL
	SELECT site, 'usage', concat_ws(' ', m.code, u.day, u.energy_wh, u.estimated_wh, u.max_power_w, u.hour_wh, u.hour_max_w)
	FROM submeter.usage_day u JOIN submeter.meter m USING (site_id, meter_id) WHERE u.site_id = site
	UNION ALL
	SELECT site, 'suspect', concat_ws(' ', m.code, q.ts, q.rule, q.state, q.energy_wh, q.detail)
	FROM submeter.reading_suspect q JOIN submeter.meter m USING (site_id, meter_id) WHERE q.site_id = site
	UNION ALL
	SELECT site, 'total', concat_ws(' ', a.code, l.total) FROM submeter.ledger_account l JOIN submeter.account a USING (site_id, account_id) WHERE l.site_id = site
	UNION ALL
	SELECT site, 'state', concat_ws(' ', m.code, s.ts, s.energy_wh, s.valid_ts, s.valid_wh) FROM submeter.meter_state s JOIN submeter.meter m USING (site_id, meter_id) WHERE s.site_id = site
$$;
-- Differences between what is stored and what computing from scratch gives.
CREATE FUNCTION pg_temp.off(site int) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT count(*) FROM (SELECT account_id, tariff_id, cycle_start, energy_wh, amount, rounded FROM submeter.charge c WHERE c.site_id = site AND c.energy_wh <> 0) c
	FULL JOIN (SELECT * FROM submeter.rebuild_charges(site) r WHERE r.energy_wh <> 0) r USING (account_id, tariff_id, cycle_start, energy_wh, amount, rounded)
	WHERE c IS NULL OR r IS NULL
$$;
-- Brings a property its readings: disorder 0 is one batch in order; the more, the further a reading may be delayed.
CREATE FUNCTION pg_temp.deliver(site int, disorder float, batches int) RETURNS TABLE (cuts int, wrong bigint)
LANGUAGE plpgsql
AS $$
DECLARE
	item record;
	as_of timestamptz;
BEGIN
	cuts := 0;
	wrong := 0;
	FOR item IN
		SELECT array_agg(p.s ORDER BY p.shuffle) AS rows, max((p.s).ts) AS latest
		FROM (SELECT d.s, random() AS shuffle, ntile(batches) OVER (ORDER BY extract(epoch FROM (d.s).ts) + disorder * random()) AS batch
			FROM (SELECT s FROM shown s UNION ALL SELECT s FROM shown s WHERE disorder > 0 AND random() < 0.2) d(s)) p
		GROUP BY p.batch ORDER BY p.batch
	LOOP
		PERFORM pg_temp.batch(site, item.rows);
		IF disorder > 0 AND random() < 0.4 THEN
			as_of := item.latest - random() * interval '5 days';
			PERFORM submeter.settle(site, as_of);
			cuts := cuts + 1;
			wrong := wrong + pg_temp.off(site);
		END IF;
		IF disorder > 0 AND random() < 0.2 THEN
			PERFORM submeter.post_charges(site, item.latest);
		END IF;
	END LOOP;
	PERFORM submeter.settle(site, '2025-07-15');
	PERFORM submeter.post_charges(site, '2025-07-15');
	PERFORM pg_temp.note(site);
	RETURN NEXT;
END
$$;

SELECT plan(33);

SELECT pg_temp.furnish(s) FROM generate_series(1, 5) s \g /dev/null
SELECT cuts AS cuts1, wrong AS wrong1 FROM pg_temp.deliver(1, 0, 1) \gset
-- within the hour; within days; everything anyhow; every batch a day or two, backwards
SELECT cuts AS cuts2, wrong AS wrong2 FROM pg_temp.deliver(2, 3600, 60) \gset
SELECT cuts AS cuts3, wrong AS wrong3 FROM pg_temp.deliver(3, 86400 * 6, 120) \gset
SELECT cuts AS cuts4, wrong AS wrong4 FROM pg_temp.deliver(4, 86400 * 365 * 10.0, 40) \gset
SELECT setseed(0.7) \g /dev/null
SELECT cuts AS cuts5, wrong AS wrong5 FROM pg_temp.deliver(5, 86400 * 20, 300) \gset

SELECT cmp_ok((SELECT count(*) FROM outcome WHERE site = 1 AND kind = 'charge'), '=', 22::bigint, 'seven accounts in May, June and the first minutes of July, one until it moved out');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE site = 1 AND kind = 'usage'), '>', 450::bigint, 'days of eight meters');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE site = 1 AND kind = 'suspect' AND what LIKE '% open %'), '>=', 18::bigint, 'faults are found');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE site = 1 AND kind = 'suspect' AND what LIKE '% confirmed %'), '>=', 2::bigint, 'the reset and the exchange are confirmed');
SELECT cmp_ok((SELECT sum(amount) FROM submeter.charge WHERE site_id = 1), '>', 1000::numeric, 'money is owed');

SELECT is_empty(format('SELECT what FROM outcome WHERE site = %1$s AND kind = %2$L EXCEPT SELECT what FROM outcome WHERE site = 1 AND kind = %2$L', site, kind),
	format('property %s: nothing in %s that in-order delivery does not give', site, kind))
FROM generate_series(2, 5) site, unnest('{charge,usage,suspect,total,state}'::text[]) kind;
SELECT is((SELECT count(*) FROM outcome WHERE site = s), (SELECT count(*) FROM outcome WHERE site = 1), format('property %s: and nothing is missing', s)) FROM generate_series(2, 5) s;
SELECT is(:wrong2 + :wrong3 + :wrong4 + :wrong5, 0, format('stored = from scratch at %s random cuts', :cuts2 + :cuts3 + :cuts4 + :cuts5));
SELECT cmp_ok(:cuts2 + :cuts3 + :cuts4 + :cuts5, '>', 100, 'there were cuts enough');
SELECT is_empty(format('SELECT * FROM submeter.verify_ledger(%s)', s), format('property %s: the ledger is sound', s)) FROM generate_series(1, 2) s;

SELECT * FROM finish();
