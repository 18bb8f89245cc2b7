-- Property: whatever happens to the archive, whoever commissions, doubts and takes over, in whatever order: a rule never opens the breaker
-- of a meter whose proof does not hold at that moment, and always may when nothing but the proof stood in the way.
-- The reference below knows only what was said last about a meter and what the archive said then; it shares no code with the room.
\set ECHO none
\set QUIET 1
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT plan(7);
SELECT setseed(0.7) \g /dev/null

INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'S', 'a property', 'en');
UPDATE submeter.credit_policy SET mode = 'automatic', no_trip_windows = '[]', low_balances = '{}', notice_lead = '0', max_switchings_per_day = 100000, mass_trip_min = 100000, outage_restart = '10 years';
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', now() - interval '40 days') AS tariff \gset
INSERT INTO submeter.unit (site_id, unit_id, code) SELECT 1, n, 'U' || n FROM generate_series(1, 12) n;
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) SELECT 1, n, 'G' || n, '10.0.0.' || n || ':502' FROM generate_series(1, 3) n;
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 'T' || n, 'tenant ' || n FROM generate_series(1, 6) n;
INSERT INTO submeter.contact (site_id, tenant_id, name) SELECT 1, n, 'owner' FROM generate_series(1, 6) n;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, n, 'A' || n FROM generate_series(1, 6) n;
-- Two meters an account.
INSERT INTO submeter.meter (site_id, meter_id, code, serial, model, gateway_id, bus_address) SELECT 1, n, 'M' || n, 'S' || n, 'DDS238-2 ZN/SR', 1 + n % 3, n FROM generate_series(1, 12) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, unit_id) SELECT 1, n, 60, n FROM generate_series(1, 12) n;
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
SELECT 1, 1 + n % 6, n, :tariff, tstzrange(now() - interval '30 days', NULL) FROM generate_series(1, 12) n;
SELECT submeter.ingest(1, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', n, 'ts', now(), 'energy_wh', 1000, 'relay', 'closed')))) FROM generate_series(1, 12) n \g /dev/null
SELECT count(submeter.adjust(1, n, -100, 'arrears', 'a' || n)) FROM generate_series(1, 6) n \g /dev/null

-- The reference: the last word about each meter, with what the archive said then.
CREATE TEMP TABLE said (meter_id bigint PRIMARY KEY, believed boolean, archive text);
CREATE FUNCTION pg_temp.archive(id bigint) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', m.model, m.serial, m.gateway_id, g.address, m.bus_address, trim_scale(e.multiplier), e.unit_id)
	FROM submeter.meter m JOIN submeter.gateway g USING (site_id, gateway_id)
	CROSS JOIN LATERAL (SELECT * FROM submeter.meter_setup s WHERE s.meter_id = m.meter_id AND s.valid_from <= clock_timestamp() ORDER BY s.valid_from DESC, s.entered_at DESC LIMIT 1) e
	WHERE m.meter_id = id
$$;
CREATE FUNCTION pg_temp.is_proved(id bigint) RETURNS boolean LANGUAGE sql AS $$
	SELECT coalesce((SELECT s.believed AND s.archive = pg_temp.archive(id) FROM said s WHERE s.meter_id = id), false)
$$;
CREATE FUNCTION pg_temp.say(id bigint, believed boolean) RETURNS void LANGUAGE sql AS $$
	INSERT INTO said VALUES (id, believed, pg_temp.archive(id)) ON CONFLICT (meter_id) DO UPDATE SET believed = EXCLUDED.believed, archive = EXCLUDED.archive
$$;
-- An attempt that passes: every step noted as if done, and finished by the verb.
CREATE FUNCTION pg_temp.pass(id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	attempt bigint := submeter.begin_commission(1, id);
BEGIN
	PERFORM submeter.note_check(1, attempt, s.step, 'passed', 'answers', NULL, NULL, '{}', now()) FROM submeter.commission_steps() s;
	PERFORM submeter.finish_commission(1, id);
	PERFORM pg_temp.say(id, true);
END
$$;
CREATE TEMP TABLE fault (round int, what text);
CREATE TEMP TABLE tally (what text, n int);
CREATE FUNCTION pg_temp.act(id bigint, dice int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CASE dice
		WHEN 0 THEN UPDATE submeter.meter SET serial = 'S' || id || '-' || (random() * 2)::int WHERE meter_id = id;
		WHEN 1 THEN UPDATE submeter.meter SET gateway_id = 1 + (random() * 2)::int, bus_address = 100 * (1 + (random() * 2)::int) + id WHERE meter_id = id;
		WHEN 2 THEN UPDATE submeter.gateway SET address = '10.0.' || (random() * 2)::int || '.' || gateway_id || ':502' WHERE gateway_id = 1 + id % 3;
		WHEN 3 THEN INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, rated_current_a, unit_id) VALUES (1, id, 1 + (random())::int, 60, 1 + (random() * 11)::int);
		WHEN 4 THEN UPDATE submeter.meter SET code = 'M' || id || ' ' || random() WHERE meter_id = id;
		WHEN 5 THEN
			IF submeter.adopt_meters(1, ARRAY[id], 'believed') > 0 THEN
				PERFORM pg_temp.say(id, true);
			END IF;
		WHEN 6 THEN
			PERFORM submeter.fail_commission(1, id, 'doubted');
			PERFORM pg_temp.say(id, false);
		WHEN 7 THEN PERFORM submeter.begin_commission(1, id);
		ELSE PERFORM pg_temp.pass(id);
	END CASE;
END
$$;
-- One round: something happens, the policy runs, something more happens before the wire, and the poller asks for its commands.
CREATE FUNCTION pg_temp.round(nth int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	item record;
	sent record;
BEGIN
	PERFORM pg_temp.act(1 + floor(random() * 12)::bigint, floor(random() * 10)::int);
	INSERT INTO fault SELECT nth, format('meter %s is %s, said to be %s', v.meter_id, v.state, pg_temp.is_proved(v.meter_id))
	FROM submeter.meter_service v WHERE (v.state = 'in_service') <> pg_temp.is_proved(v.meter_id);
	PERFORM submeter.apply_policy(1, clock_timestamp());
	UPDATE submeter.notice SET state = 'accepted', accepted_at = clock_timestamp() WHERE state = 'queued';
	INSERT INTO fault SELECT nth, format('account %s is %s %s', a.account_id, d.action, d.reason)
	FROM submeter.account a JOIN submeter.account_state t USING (site_id, account_id) JOIN submeter.decision d ON d.site_id = a.site_id AND d.decision_id = t.last_decision_id
	CROSS JOIN LATERAL (SELECT bool_or(pg_temp.is_proved(y.meter_id)) AS any_proved, bool_or(o.cause IS NOT NULL) AS any_cut FROM submeter.supply y
		LEFT JOIN submeter.open_cause o ON o.site_id = y.site_id AND o.meter_id = y.meter_id AND o.cause = 'arrears' WHERE y.account_id = a.account_id) p
	WHERE NOT p.any_cut AND (d.reason = 'not_commissioned') = p.any_proved;
	INSERT INTO tally SELECT 'held', count(*) FROM submeter.account_state t JOIN submeter.decision d ON d.decision_id = t.last_decision_id WHERE d.reason = 'not_commissioned';
	IF random() < 0.5 THEN
		PERFORM pg_temp.act(1 + floor(random() * 12)::bigint, floor(random() * 10)::int);
	END IF;
	FOR item IN SELECT c.command_id, c.meter_id, c.action FROM submeter.claim_commands('p', 100) c
	LOOP
		SELECT s.go, s.reason INTO sent FROM submeter.send_command(1, item.command_id, 'p') s;
		INSERT INTO fault SELECT nth, format('meter %s opened: %s', item.meter_id, sent.reason) WHERE item.action = 'open' AND sent.go AND NOT pg_temp.is_proved(item.meter_id);
		INSERT INTO fault SELECT nth, format('meter %s kept: %s', item.meter_id, sent.reason) WHERE item.action = 'open' AND sent.reason LIKE 'not in service%' AND pg_temp.is_proved(item.meter_id);
		INSERT INTO tally VALUES (CASE WHEN sent.go THEN 'opened' ELSE 'stopped' END, 1);
		IF sent.go THEN
			-- It opens, and the tenant's light is put back at once, so that the next round finds everything as before.
			PERFORM submeter.report_command(1, item.command_id, 'p', 'confirmed', 'closed', 'open', '{"kind":"relay"}', NULL);
			UPDATE submeter.meter_state SET relay = 'closed', relay_at = clock_timestamp() WHERE meter_id = item.meter_id;
			DELETE FROM submeter.open_cause WHERE meter_id = item.meter_id;
		END IF;
	END LOOP;
	DELETE FROM submeter.open_cause o WHERE NOT EXISTS (SELECT FROM submeter.command c WHERE c.meter_id = o.meter_id AND submeter.is_live(c.state));
END
$$;
SELECT count(pg_temp.round(n)) FROM generate_series(1, 150) n \g /dev/null
SELECT is((SELECT string_agg(round || ': ' || what, '; ') FROM (SELECT * FROM fault ORDER BY round LIMIT 5) f), NULL, '150 rounds: state, decisions and commands are what the last word and the archive say');
SELECT cmp_ok((SELECT sum(n) FROM tally WHERE what = 'opened'), '>', 20::bigint, 'breakers were opened');
SELECT cmp_ok((SELECT sum(n) FROM tally WHERE what = 'stopped'), '>', 2::bigint, 'some were stopped at the last moment');
SELECT cmp_ok((SELECT sum(n) FROM tally WHERE what = 'held'), '>', 100::bigint, 'and many were held before');
SELECT is((SELECT count(*) FROM (SELECT meter_id FROM submeter.commission WHERE state = 'open' GROUP BY meter_id HAVING count(*) > 1) x), 0::bigint, 'a meter has one attempt at a time');
SELECT is((SELECT count(*) FROM submeter.commission WHERE state = 'passed' AND kind = 'test' AND submeter.unproved_steps(site_id, commission_id, steps) <> '{}'), 0::bigint, 'nothing passed that lacks a step');
SELECT is((SELECT string_agg(problem, '; ') FROM submeter.verify_ledger(1)), NULL, 'the ledger is verified');
SELECT * FROM finish();
