-- Laws 2 and 3 under random tariffs: whatever the order, delay, duplication and batching of readings, whenever new
-- versions, prices, calendar days, transformers, supplies and allowances are entered, settled and posted at any time in
-- between, also backwards: charges, usage, demand, totals and then the bills are the same, and at every cut what is
-- stored is what computing from scratch gives. The reference agrees with it too. SM_SOAK=n draws n times as many.
\ir common/property.sql
\getenv soak SM_SOAK
\if :{?soak}
\else
	\set soak 1
\endif

SELECT submeter.create_partitions('2016-11-01', '2018-03-01') \g /dev/null
CREATE TEMP TABLE outcome (site int, kind text, what text);
CREATE TEMP TABLE run (site int, twin int, cuts int, wrong bigint, off bigint, first_off text);

-- What a property came to, without the numbers it goes by.
CREATE FUNCTION pg_temp.note(site int) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO outcome
	SELECT note.site, 'charge', concat_ws(' ', a.code, t.code, c.cycle_start, c.cycle_end, c.start_wh, c.position_wh, c.tier_wh, c.energy_wh, c.unpriced_wh, c.estimated_wh, c.active_wh, c.reactive_varh, c.demand_w, c.amount, c.rounded, c.posted)
	FROM submeter.charge c JOIN submeter.account a USING (site_id, account_id) JOIN submeter.tariff t USING (site_id, tariff_id) WHERE c.site_id = note.site AND (c.energy_wh <> 0 OR c.amount <> 0)
	UNION ALL
	SELECT note.site, 'usage', concat_ws(' ', m.code, u.day, u.energy_wh, u.estimated_wh, u.hour_wh) FROM submeter.usage_day u JOIN submeter.meter m USING (site_id, meter_id) WHERE u.site_id = note.site
	UNION ALL
	SELECT note.site, 'demand', concat_ws(' ', a.code, t.code, d.day, d.window_minutes, d.max_w, d.window_wh)
	FROM submeter.demand_day d JOIN submeter.account a USING (site_id, account_id) JOIN submeter.tariff t USING (site_id, tariff_id) WHERE d.site_id = note.site AND d.max_w > 0
	UNION ALL
	SELECT note.site, 'total', concat_ws(' ', a.code, l.kind, l.total) FROM submeter.ledger_account l JOIN submeter.account a USING (site_id, account_id) WHERE l.site_id = note.site
	UNION ALL
	SELECT note.site, 'bill', concat_ws(' ', a.code, b.cycle_start, b.energy_wh, b.estimated_wh, b.amount, b.opening_balance, b.closing_balance, n.line, t.code, n.component, n.tier, n.period, n.version_from, n.energy_wh, n.price, n.amount)
	FROM submeter.bill b JOIN submeter.bill_line n USING (site_id, bill_id) JOIN submeter.account a USING (site_id, account_id) LEFT JOIN submeter.tariff t ON t.site_id = n.site_id AND t.tariff_id = n.tariff_id WHERE b.site_id = note.site
	UNION ALL
	SELECT note.site, 'register', concat_ws(' ', a.code, b.cycle_start, m.code, r.from_ts, r.to_ts, r.from_wh, r.to_wh, r.multiplier, r.energy_wh, r.estimated)
	FROM submeter.bill b JOIN submeter.bill_meter r USING (site_id, bill_id) JOIN submeter.account a USING (site_id, account_id) JOIN submeter.meter m ON m.site_id = r.site_id AND m.meter_id = r.meter_id WHERE b.site_id = note.site
$$;

-- The things that are told late: only the first of each kind is there from the beginning.
CREATE TEMP TABLE news (kind text, row jsonb);
CREATE FUNCTION pg_temp.hold_back(share float) RETURNS void
LANGUAGE sql
AS $$
	TRUNCATE news;
	WITH gone AS (DELETE FROM plan_version p WHERE random() < share AND from_ts > (SELECT min(from_ts) FROM plan_version o WHERE o.tariff = p.tariff) RETURNING p.*) INSERT INTO news SELECT 'version', to_jsonb(gone) FROM gone;
	WITH gone AS (DELETE FROM plan_price p WHERE random() < share AND from_ts > (SELECT min(from_ts) FROM plan_price o WHERE o.name = p.name) RETURNING p.*) INSERT INTO news SELECT 'price', to_jsonb(gone) FROM gone;
	WITH gone AS (DELETE FROM plan_setup p WHERE random() < share AND isfinite(from_ts) RETURNING p.*) INSERT INTO news SELECT 'setup', to_jsonb(gone) FROM gone;
	WITH gone AS (DELETE FROM plan_supply p WHERE random() < share RETURNING p.*) INSERT INTO news SELECT 'supply', to_jsonb(gone) FROM gone;
	WITH gone AS (DELETE FROM plan_calendar p WHERE random() < share RETURNING p.*) INSERT INTO news SELECT 'calendar', to_jsonb(gone) FROM gone;
	WITH gone AS (DELETE FROM plan_allowance p WHERE random() < share RETURNING p.*) INSERT INTO news SELECT 'allowance', to_jsonb(gone) FROM gone;
$$;
-- One of them is told.
CREATE FUNCTION pg_temp.tell(site int, kind text, news jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	CASE kind
		WHEN 'version' THEN INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition) SELECT site, site * 1000 + tariff, from_ts, definition FROM jsonb_populate_record(NULL::plan_version, news) ON CONFLICT DO NOTHING;
		WHEN 'price' THEN INSERT INTO submeter.price_item (site_id, name, valid_from, price) SELECT site, name, from_ts, price FROM jsonb_populate_record(NULL::plan_price, news);
		WHEN 'setup' THEN INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, register_modulus_wh, rated_current_a, gap_after)
			SELECT site, site * 1000 + n, from_ts, multiplier, modulus, 99999, gap_after FROM jsonb_populate_record(NULL::plan_setup, news) JOIN plan_meter USING (n);
		WHEN 'supply' THEN INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during, terms)
			SELECT site, site * 1000 + account, site * 1000 + n, site * 1000 + tariff, tstzrange(from_ts, nullif(to_ts, 'infinity')), terms FROM jsonb_populate_record(NULL::plan_supply, news);
		WHEN 'calendar' THEN INSERT INTO submeter.calendar_day (site_id, day, day_type, flags) SELECT site, day, day_type, flags FROM jsonb_populate_record(NULL::plan_calendar, news);
		WHEN 'allowance' THEN INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, kwh, share, amount, during)
			SELECT site, site * 1000 + account, site * 1000 + tariff, name, kwh, share, amount, tstzrange(from_ts, NULL) FROM jsonb_populate_record(NULL::plan_allowance, news);
	END CASE;
END
$$;

-- Brings a property its readings and its news; disorder is how far a reading may be delayed, in seconds.
CREATE FUNCTION pg_temp.deliver(site int, disorder float, batches int, until timestamptz) RETURNS TABLE (cuts int, wrong bigint)
LANGUAGE plpgsql
AS $$
DECLARE
	item record;
BEGIN
	cuts := 0;
	wrong := 0;
	FOR item IN
		SELECT * FROM (
			SELECT p.batch + 0.5 AS place, array_agg(p.s ORDER BY p.shuffle) AS rows, max((p.s).ts) AS latest, NULL AS kind, NULL::jsonb AS row
			FROM (SELECT d.s, random() AS shuffle, ntile(batches) OVER (ORDER BY extract(epoch FROM (d.s).ts) + disorder * random()) AS batch
				FROM (SELECT s FROM shown s UNION ALL SELECT s FROM shown s WHERE random() < 0.1) d(s)) p
			GROUP BY p.batch
			UNION ALL
			SELECT random() * batches, NULL, NULL, n.kind, n.row FROM news n) x
		ORDER BY place
	LOOP
		IF item.kind IS NOT NULL THEN
			PERFORM pg_temp.tell(site, item.kind, item.row);
		ELSE
			PERFORM pg_temp.bring(site, item.rows);
		END IF;
		IF random() < 0.4 THEN
			PERFORM submeter.settle(site, coalesce(item.latest, until) - random() * interval '20 days');
			-- As of a time before what came late, that waits for a later run.
			IF NOT EXISTS (SELECT FROM submeter.meter_dirty d JOIN submeter.meter_settled t USING (site_id, meter_id) WHERE d.site_id = deliver.site AND d.seq > t.seq AND d.from_ts < t.settled_to) THEN
				cuts := cuts + 1;
				wrong := wrong + (SELECT count(*) FROM pg_temp.off(site));
			END IF;
		END IF;
		IF random() < 0.1 THEN
			PERFORM submeter.post_charges(site, until);
		END IF;
	END LOOP;
	RETURN NEXT;
END
$$;

-- A property told everything at once, and two twins that hear it anyhow; the first is held against the reference.
CREATE FUNCTION pg_temp.tell_all(nth int, seed float, ns int[], zone text, cycle_day int, from_day date, to_day date) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	until constant timestamptz := pg_temp.instant(to_day, zone) + interval '30 hours';
	site int;
	n_cuts int;
	n_wrong bigint;
BEGIN
	FOR twin IN 0..2
	LOOP
		site := nth * 10 + twin;
		PERFORM pg_temp.draw_property(seed, ns, zone, cycle_day, from_day, to_day);
		PERFORM setseed(seed / (twin + 2));
		IF twin > 0 THEN
			PERFORM pg_temp.hold_back(0.5);
		ELSE
			TRUNCATE news;
		END IF;
		PERFORM pg_temp.furnish(site);
		IF twin = 0 THEN
			PERFORM pg_temp.bring(site, (SELECT array_agg(s ORDER BY ts) FROM shown s));
			n_cuts := 0;
			n_wrong := 0;
		ELSE
			SELECT d.cuts, d.wrong INTO n_cuts, n_wrong FROM pg_temp.deliver(site, 86400 * 400.0 ^ (twin - 1), 30 * twin, until) d;
		END IF;
		PERFORM submeter.settle(site, until);
		PERFORM submeter.post_charges(site, until);
		INSERT INTO run SELECT site, twin, n_cuts, n_wrong + (SELECT count(*) FROM pg_temp.off(site));
		PERFORM submeter.close_due(site, pg_temp.instant(to_day, zone), until);
		PERFORM submeter.post_charges(site, until);
		PERFORM pg_temp.note(site);
		IF twin = 0 THEN
			PERFORM pg_temp.look_at(site);
			UPDATE run SET off = d.n, first_off = d.first FROM (SELECT count(*) AS n, min(x::text) AS first FROM pg_temp.differences(site) x) d WHERE run.site = tell_all.nth * 10;
		END IF;
	END LOOP;
END
$$;

SELECT pg_temp.tell_all(n * 2 - 1, 0.2 + 0.0317 * (n - 1), ARRAY[6, 1, 9, 14, 12, 15, 42], 'Asia/Shanghai', 1, '2017-01-01', '2017-04-01'),
	pg_temp.tell_all(n * 2, -0.6 + 0.0171 * (n - 1), ARRAY[18, 24, 2, 33, 36], 'Europe/Berlin', 15, '2017-02-10', '2017-05-15')
FROM generate_series(1, :soak) n \g /dev/null

SELECT plan(5 + 2 * :soak * (1 + 3 + 2 * 7));
SELECT cmp_ok((SELECT sum(cuts) FROM run), '>', 30::bigint, 'there were cuts enough');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE kind = 'charge'), '>', 60::bigint, 'charges');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE kind = 'bill'), '>', 200::bigint, 'lines of bills');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE kind = 'register'), '>', 40::bigint, 'registers of bills');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE kind = 'demand'), '>', 40::bigint, 'days with demand');
SELECT is(off, 0::bigint, concat(format('property %s: as the reference says', site), '; first: ' || first_off)) FROM run WHERE twin = 0;
SELECT is(wrong, 0::bigint, format('property %s: stored = from scratch at %s cuts', site, cuts)) FROM run;
SELECT is_empty(format('(SELECT what FROM outcome WHERE site = %1$s AND kind = %2$L EXCEPT SELECT what FROM outcome WHERE site = %3$s AND kind = %2$L) UNION ALL
	(SELECT what FROM outcome WHERE site = %3$s AND kind = %2$L EXCEPT SELECT what FROM outcome WHERE site = %1$s AND kind = %2$L)', site, kind, site - twin), format('property %s: the same %s as told at once', site, kind))
FROM run, unnest('{charge,usage,demand,total,bill,register}'::text[]) kind WHERE twin > 0;
SELECT is_empty(format('SELECT * FROM submeter.verify_ledger(%s)', site), format('property %s: the ledger is sound', site)) FROM run WHERE twin > 0;

SELECT * FROM finish();
