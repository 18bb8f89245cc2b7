-- Room: archives. What may be entered, and who changed what.
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

-- The first lines of refusals by constraint: code and message, without the row itself.
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text
LANGUAGE sql
AS $$
	SELECT split_part(r, ' | ', 1) || ' ' || split_part(r, ' | ', 2) FROM pg_temp.refusal(statement) r
$$;

-- 1. Sites

SELECT v.site, pg_temp.refused('INSERT INTO submeter.site (code, name, ' || split_part(v.site, '=', 1) || ') VALUES (''x'', ''X'', ' || split_part(v.site, '=', 2) || ')') AS outcome
FROM unnest(ARRAY['time_zone=''Mars/Olympus''', 'time_zone=''+8''', 'time_zone=''''', 'time_zone=NULL', 'time_zone=''Asia/Shanghai; DROP''', 'currency=''yuan''', 'currency=''cny''', 'currency=NULL',
	'locale=''de''', 'locale=NULL', 'external_ref=NULL']) v(site);
-- The policy of a site may come after it, but not stay away.
INSERT INTO submeter.site (site_id, code, name, default_policy_id) VALUES (77, 'z', 'Z', 99);
SELECT pg_temp.refused('INSERT INTO submeter.site (code, name) VALUES (' || v || ')') FROM unnest(ARRAY['''x'', ''again''', ''''', ''no code''', 'NULL, ''no code''', '''y'', NULL']) v;
-- A new site is furnished: a policy that only watches, a duty each, ways to pay.
INSERT INTO submeter.site (site_id, code, name, time_zone) VALUES (1, 'mall', 'A mall', 'Asia/Shanghai'), (2, 'other', 'Another mall', 'Europe/Berlin');
SELECT s.code, p.code AS policy, p.mode, p.low_balances, p.credit_limit, p.notice_lead FROM submeter.site s JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = s.default_policy_id WHERE s.site_id IN (1, 2) ORDER BY 1;
SELECT site_id, count(*) AS duties FROM submeter.duty_state WHERE site_id IN (1, 2) GROUP BY 1 ORDER BY 1;

-- 2. Places and people

INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 101, 'b1', 'B'), (2, 102, 'b1', 'B');
INSERT INTO submeter.unit (site_id, unit_id, building_id, code) VALUES (1, 101, 101, 'u1');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name, external_ref) VALUES (1, 101, 't1', 'T', 'erp-1'), (2, 102, 't1', 'T', 'erp-1');
SELECT pg_temp.refused(s) FROM unnest(ARRAY[
	$$INSERT INTO submeter.building (site_id, code, name) VALUES (1, 'b1', 'again')$$,
	$$INSERT INTO submeter.building (site_id, code, name) VALUES (99, 'b1', 'no site')$$,
	$$INSERT INTO submeter.building (site_id, code, name) VALUES (NULL, 'b1', 'no site')$$,
	$$INSERT INTO submeter.building (site_id, code, name) VALUES (1, '', 'no code')$$,
	$$INSERT INTO submeter.unit (site_id, building_id, code) VALUES (1, 102, 'u2')$$,
	$$INSERT INTO submeter.unit (site_id, code) VALUES (1, 'u1')$$,
	$$INSERT INTO submeter.unit (site_id, code, area_m2) VALUES (1, 'u2', 0)$$,
	$$INSERT INTO submeter.unit (site_id, code, heads) VALUES (1, 'u2', -1)$$,
	$$INSERT INTO submeter.tenant (site_id, code, name) VALUES (1, 't1', 'again')$$,
	$$INSERT INTO submeter.tenant (site_id, code, name, external_ref) VALUES (1, 't2', 'x', 'erp-1')$$,
	$$INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 102, 't2', 'number of another site')$$,
	$$DELETE FROM submeter.building WHERE building_id = 101$$,
	$$UPDATE submeter.unit SET building_id = 102 WHERE unit_id = 101$$]) s;
SELECT v, pg_temp.refused('INSERT INTO submeter.contact (site_id, tenant_id, name, ' || split_part(v, '=', 1) || ') VALUES (1, 101, ''A person'', ' || split_part(v, '=', 2) || ')') AS outcome
FROM unnest(ARRAY['phone=''13800000000''', 'phone=''+8613800000000''', 'phone=''call me''', 'phone=''''', 'email=''a@example.com''', 'email=''a''', 'email=''a@b c''', 'email=''a@example.com,b@example.com''',
	'email=E''a@example.com\nBcc: b@example.com''', 'role=''boss''', 'locale=''fr''', 'channels=''{}''', 'quiet_from=''22:00''']) v;
SELECT pg_temp.refused($$INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 102, 'another site''s tenant')$$);

-- 3. Gateways, models, meters

INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 101, 'g1', '127.0.0.1:1'), (2, 102, 'g1', '127.0.0.1:1');
SELECT v, pg_temp.refused('INSERT INTO submeter.gateway (site_id, code, address, ' || split_part(v, '=', 1) || ') VALUES (1, ''g2'', ''127.0.0.1:2'', ' || split_part(v, '=', 2) || ')') AS outcome
FROM unnest(ARRAY['transport=''carrier-pigeon''', 'timeout_ms=0', 'timeout_ms=-1', 'timeout_ms=1000000', 'gap_ms=-1', 'poll_interval=''0''', 'poll_interval=''-1 s''', 'poll_interval=''2 days''']) v;
SELECT pg_temp.refused(s) FROM unnest(ARRAY[
	$$INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'g1', '127.0.0.1:2')$$,
	$$INSERT INTO submeter.gateway (site_id, code, address) VALUES (1, 'g2', '')$$,
	$$INSERT INTO submeter.meter_model (model, vendor, phases) VALUES ('m', 'v', 2)$$,
	$$INSERT INTO submeter.meter_model (model, vendor, max_registers) VALUES ('m', 'v', 126)$$,
	$$INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('m', 'v', 'telepathy')$$]) s;
INSERT INTO submeter.meter_model (model, vendor) VALUES ('ours', 'us');
SELECT pg_temp.refused('INSERT INTO submeter.meter_point (model, metric, function, address, type, scale) VALUES (' || v || ')') FROM unnest(ARRAY[
	$$'ours', 'energy_wh', 3, 0, 'u32be', 10$$, $$'ours', 'energy_wh', 3, 2, 'u32be', 10$$, $$'ours', 'colour', 3, 0, 'u32be', 1$$, $$'ours', 'v_a', 5, 0, 'u16', 1$$, $$'ours', 'v_a', 3, 65536, 'u16', 1$$,
	$$'ours', 'v_a', 3, -1, 'u16', 1$$, $$'ours', 'v_a', 3, 0, 'float', 1$$, $$'ours', 'v_a', 3, 0, 'u16', 0$$, $$'ours', 'relay', 3, 0, 'u16', 1$$, $$'nobody', 'v_a', 3, 0, 'u16', 1$$]) v;
SELECT pg_temp.refused('INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES (' || v || ')') FROM unnest(ARRAY[
	$$'ours', 'open', 6, 0, '{1}'$$, $$'ours', 'toggle', 6, 0, '{1}'$$, $$'ours', 'close', 3, 0, '{1}'$$, $$'ours', 'close', 6, 0, '{}'$$, $$'ours', 'close', 6, 0, '{1,2,3,4,5,6,7,8,9}'$$]) v;
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) VALUES (1, 101, 'm1', 'ours', 101, '1'), (1, 102, 'm2', 'ours', NULL, NULL), (1, 103, 'm3', 'ours', NULL, NULL);
SELECT pg_temp.refused(s) FROM unnest(ARRAY[
	$$INSERT INTO submeter.meter (site_id, code, model) VALUES (1, 'm1', 'ours')$$,
	$$INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (2, 101, 'm1', 'ours')$$,
	$$INSERT INTO submeter.meter (site_id, code, model) VALUES (1, 'm4', 'none')$$,
	$$INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address) VALUES (1, 'm4', 'ours', 101, '1')$$,
	$$INSERT INTO submeter.meter (site_id, code, model, gateway_id, bus_address) VALUES (1, 'm4', 'ours', 102, '1')$$,
	$$INSERT INTO submeter.meter (site_id, code, model, gateway_id) VALUES (1, 'm4', 'ours', 101)$$,
	$$INSERT INTO submeter.meter (site_id, code, model, role) VALUES (1, 'm4', 'ours', 'guest')$$,
	$$INSERT INTO submeter.meter (site_id, code, model, protection) VALUES (1, 'm4', 'ours', 'sacred')$$,
	$$DELETE FROM submeter.meter_model WHERE model = 'ours'$$,
	$$DELETE FROM submeter.gateway WHERE gateway_id = 101$$]) s;
-- A retired meter frees its place on the bus; a model may be renamed.
UPDATE submeter.meter SET retired_at = now() WHERE meter_id = 101;
SELECT pg_temp.refused($$INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) VALUES (1, 104, 'm4', 'ours', 101, '1')$$) AS freed;
SELECT pg_temp.refused($$UPDATE submeter.meter_model SET model = 'renamed' WHERE model = 'ours'$$) AS renamed, (SELECT array_agg(DISTINCT model) FROM submeter.meter);
SELECT v, pg_temp.refused('INSERT INTO submeter.meter_setup (site_id, meter_id, ' || split_part(v, '=', 1) || ') VALUES (1, 102, ' || split_part(v, '=', 2) || ')') AS outcome
FROM unnest(ARRAY['multiplier=0', 'multiplier=-40', 'multiplier=''NaN''', 'multiplier=NULL', 'multiplier=0.00001', 'register_modulus_wh=0', 'rated_current_a=0', 'rated_current_a=''NaN''', 'rated_voltage_v=0', 'rated_voltage_v=''NaN''', 'phases=2', 'parent_meter_id=102', 'parent_meter_id=99', 'unit_id=99', 'valid_from=NULL', 'multiplier=40']) v;
SELECT pg_temp.refused($$INSERT INTO submeter.meter_setup (site_id, meter_id) VALUES (2, 102)$$) AS another_site;

-- 4. Accounts and supplies

INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 101, 101, 'a1'), (1, 102, 101, 'a2'), (2, 103, 102, 'a1');
SELECT site_id, account_id, kind, total FROM submeter.ledger_account WHERE site_id IN (1, 2) ORDER BY 1, 2, 3;
SELECT pg_temp.refused(s) FROM unnest(ARRAY[
	$$INSERT INTO submeter.account (site_id, tenant_id, code) VALUES (1, 101, 'a1')$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code) VALUES (1, 102, 'a3')$$,
	$$INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (2, 101, 102, 'a3')$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code, state) VALUES (1, 101, 'a3', 'closed')$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code, closed_at) VALUES (1, 101, 'a3', now())$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code, state) VALUES (1, 101, 'a3', 'frozen')$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code, mode) VALUES (1, 101, 'a3', 'barter')$$,
	$$INSERT INTO submeter.account (site_id, tenant_id, code, policy_id) SELECT 1, 101, 'a3', default_policy_id FROM submeter.site WHERE site_id = 2$$]) s;
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":0.8}]}', '2025-01-01') AS t1, submeter.create_tariff(2, 'flat', '{"energy":[{"price":0.8}]}', '2025-01-01') AS t2 \gset
SELECT submeter.create_partitions('2024-12-01', '2025-06-01') > 0 AS partitions;
CREATE FUNCTION pg_temp.supply(during text, account int DEFAULT 101, meter int DEFAULT 102, more text DEFAULT '') RETURNS text
LANGUAGE sql
AS $$
	SELECT pg_temp.refused(format('INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during%s) VALUES (1, %s, %s, (SELECT tariff_id FROM submeter.tariff WHERE site_id = 1), %s%s)',
		CASE WHEN more = '' THEN '' ELSE ', ' || split_part(more, '=', 1) END, account, meter, during, CASE WHEN more = '' THEN '' ELSE ', ' || split_part(more, '=', 2) END))
$$;
SELECT during, pg_temp.supply(during) AS outcome FROM unnest(ARRAY[
	'NULL', '''empty''', '''[2025-01-01,2025-01-01)''', '''[2025-02-01,2025-01-01)''', '''(,2025-02-01)''', '''(,)''', '''[-infinity,2025-02-01)''', '''[2025-01-01,2025-02-01]''', '''(2025-01-01,2025-02-01)''',
	'''[2025-01-01,2025-02-01)''', '''[2025-01-15,2025-01-16)''', '''[2024-12-15,2025-01-01 00:00:00.000001)''', '''[2025-01-31,)''', '''[2025-02-01,2025-03-01)''', '''[2025-03-01,)''', '''[2030-01-01,)''']) during;
-- Another account of the same meter at the same time; another meter of the same account.
SELECT pg_temp.supply('''[2025-01-10,2025-01-20)''', 102) AS same_time, pg_temp.supply('''[2025-01-01,)''', 101, 103) AS another_meter;
SELECT pg_temp.supply('''[2025-01-01,)''', 103, 104) AS account_of_another_site, pg_temp.supply('''[2025-01-01,)''', 101, 99) AS no_meter, pg_temp.supply('''[2025-01-01,)''', 99, 104) AS no_account;
SELECT pg_temp.supply('''[2025-01-01,2025-02-01)''', 101, 104, 'opening_wh=-1') AS opening, pg_temp.supply('''[2025-01-01,)''', 101, 104, 'terms=''[]''') AS terms, pg_temp.supply('''[2025-01-01,)''', 101, 104, 'terms=NULL') AS no_terms;
SELECT pg_temp.refused($$INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, 101, 104, tariff_id, '[2025-01-01,)' FROM submeter.tariff WHERE site_id = 2$$) AS tariff_of_another_site;
-- Opening and closing registers become readings at the ends of the range, which say where they are from.
SELECT pg_temp.supply('''[2025-01-01,2025-02-01)''', 101, 104, 'opening_wh=1000');
UPDATE submeter.supply SET closing_wh = 5000 WHERE meter_id = 104;
SELECT ts, energy_wh, source FROM submeter.reading WHERE meter_id = 104 ORDER BY ts;
SELECT pg_temp.refused('DELETE FROM submeter.account WHERE account_id = 101') AS account, pg_temp.refused('DELETE FROM submeter.meter WHERE meter_id = 102') AS meter, pg_temp.refused('DELETE FROM submeter.tenant WHERE tenant_id = 101') AS tenant;

-- 5. Policies, calendar, payment channels

SELECT v, pg_temp.refused('UPDATE submeter.credit_policy SET ' || v || ' WHERE site_id = 1') AS outcome
FROM unnest(ARRAY['mode=''brutal''', 'credit_limit=-1', 'grace=''-1 s''', 'notice_lead=''-1 s''', 'reconnect_balance=-1', 'max_switchings_per_day=0', 'mass_trip_share=0', 'mass_trip_share=1.1', 'command_ttl=''0''', 'stale_after=''0''',
	'low_balances=''{1,NULL}''', 'low_balances=''{1,NaN}''', 'credit_limit=''NaN''', 'reconnect_balance=''NaN''', 'low_balances=''{1,2,3,4,5,6,7,8,9}''', 'close_mode=''never''']) v;
SELECT pg_temp.refused(s) FROM unnest(ARRAY[
	$$INSERT INTO submeter.calendar_day (site_id, day, day_type) VALUES (1, '2025-01-01', 'doomsday')$$,
	$$INSERT INTO submeter.calendar_day (site_id, day) VALUES (1, '2025-01-01'), (1, '2025-01-01')$$,
	$$INSERT INTO submeter.payment_channel (site_id, channel) VALUES (1, 'By Cash')$$,
	$$INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key) VALUES (1, 101, 'alipay', 0, 'k')$$,
	$$INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key) VALUES (1, 103, 'alipay', 1, 'k')$$,
	$$INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key) VALUES (1, 101, 'alipay', 'NaN', 'k')$$]) s;

-- 6. Who changed what

CREATE ROLE regress_archive_admin LOGIN;
GRANT submeter_admin TO regress_archive_admin;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_archive_admin');
SELECT max(audit_id) AS mark FROM submeter.audit \gset
SET SESSION AUTHORIZATION regress_archive_admin;
INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 9, 'b9', 'Nine');
UPDATE submeter.building SET name = 'Neun' WHERE building_id = 9;
UPDATE submeter.building SET name = 'Neun' WHERE building_id = 9;
DELETE FROM submeter.building WHERE building_id = 9;
UPDATE submeter.meter SET protection = 'life_safety' WHERE meter_id = 102;
UPDATE submeter.gateway SET address = '127.0.0.1:9' WHERE gateway_id = 101;
UPDATE submeter.tariff SET name = 'Flat' WHERE site_id = 1;
SELECT relation, operation, old_row ->> 'name' AS old_name, new_row ->> 'name' AS new_name, new_row ->> 'protection' AS protection, changed_by FROM submeter.audit WHERE audit_id > :mark ORDER BY audit_id;
SELECT pg_temp.refused(s) FROM unnest(ARRAY['DELETE FROM submeter.audit', 'UPDATE submeter.audit SET changed_by = ''x''', 'INSERT INTO submeter.audit (site_id, relation, operation, changed_by) VALUES (1, ''x'', ''x'', ''x'')']) s;
RESET SESSION AUTHORIZATION;
SELECT pg_temp.refused(s) FROM unnest(ARRAY['DELETE FROM submeter.audit', 'UPDATE submeter.audit SET changed_by = ''x''', 'TRUNCATE submeter.audit']) s;
-- What a refused statement wrote is gone with it.
SELECT count(*) AS of_refused FROM submeter.audit WHERE new_row ->> 'code' IN ('b2', 'u2', 't2');
-- Archives that are not audited (nobody changes the others but functions that leave their own traces).
-- (what the poller reports is none of their changes)
UPDATE submeter.gateway SET online = true, requests = requests + 1 WHERE gateway_id = 101;
SELECT count(*) AS reports_of_the_poller FROM submeter.audit WHERE relation = 'gateway' AND operation = 'UPDATE' AND changed_by = session_user;
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind = 'r' AND has_any_column_privilege('submeter_admin', c.oid, 'UPDATE')
	AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'audit') ORDER BY 1;
DROP OWNED BY regress_archive_admin;
DROP ROLE regress_archive_admin;
