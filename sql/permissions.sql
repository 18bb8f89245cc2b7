-- Who sees and does what: every role at its own site and at another one, on every table, view and verb.
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
SET client_min_messages = error;

-- Two sites alike; the first has two tenants.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall'), (2, 'other', 'Another mall');
SELECT submeter.create_partitions('2024-12-01', '2025-03-01') > 0 AS partitions;
-- In mode observe nothing would be sent, and there would be no notice to see.
UPDATE submeter.credit_policy SET mode = 'automatic';
INSERT INTO submeter.building (site_id, building_id, code, name) VALUES (1, 1, 'b', 'B'), (2, 2, 'b', 'B');
INSERT INTO submeter.unit (site_id, unit_id, building_id, code) VALUES (1, 1, 1, 'u1'), (1, 2, 1, 'u2'), (2, 20, 2, 'u1');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One'), (1, 2, 't2', 'Two'), (2, 20, 't1', 'Far');
INSERT INTO submeter.contact (site_id, tenant_id, name, phone, login) VALUES (1, 1, 'owner', '13800000001', 'regress_perm_tenant'), (1, 2, 'owner', '13800000002', NULL), (2, 20, 'owner', '13800000003', NULL);
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 1, 'g', '127.0.0.1:1'), (2, 2, 'g', '127.0.0.1:2');
SELECT submeter.create_tariff(s, 'flat', '{"energy":[{"price":0.8}]}', '2025-01-01 00:00+08') > 0 AS priced FROM generate_series(1, 2) s;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'a1'), (1, 2, 2, 'a2'), (2, 20, 20, 'a1');
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) VALUES (1, 1, 'm1', 'DDS238-2 ZN/SR', 1, '1'), (1, 2, 'm2', 'DDS238-2 ZN/SR', 1, '2'),
	(1, 3, 'main', 'DDS238-2 ZN/SR', 1, '3'), (2, 20, 'm1', 'DDS238-2 ZN/SR', 2, '1'), (2, 21, 'main', 'DDS238-2 ZN/SR', 2, '2');
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, parent_meter_id) VALUES (1, 1, 60, 3), (1, 2, 60, 3), (1, 3, 200, NULL), (2, 20, 60, 21), (2, 21, 200, NULL);
INSERT INTO submeter.meter_history (model, kind, di, depth) VALUES ((SELECT min(model) FROM submeter.meter_model), 'daily', '05060101', 62);
INSERT INTO submeter.reading_watch (site_id, meter_id, base_ts, counted_to) SELECT site_id, meter_id, '2025-01-01', '2025-01-01' FROM submeter.meter;
INSERT INTO submeter.reading_gap (site_id, meter_id, from_ts, to_ts, longest, noted_at) SELECT site_id, meter_id, '2025-01-01', '2025-01-02', '1 day', '2025-01-02' FROM submeter.meter;
INSERT INTO submeter.reading_day (site_id, meter_id, day, expected, got, restored) SELECT site_id, meter_id, '2025-01-01', 1, 1, 0 FROM submeter.meter;
INSERT INTO submeter.history_task (site_id, meter_id, gap_from, kind, from_ts, to_ts, queued_at) SELECT site_id, meter_id, '2025-01-01', 'daily', '2025-01-01', '2025-01-02', '2025-01-02' FROM submeter.meter;
INSERT INTO submeter.poller_spool (site_id, poller, waiting, rejected, bytes, most_bytes, failing, reported_at) SELECT site_id, 'p', 0, 0, 1, 2, false, '2025-01-01' FROM submeter.site;
INSERT INTO submeter.poller (site_id, poller, instance, since, seen_at) SELECT site_id, 'gone', 'i', '2025-01-01', '2025-01-01' FROM submeter.site;
INSERT INTO submeter.gateway_lease (site_id, gateway_id, poller, lease_until, since) SELECT site_id, gateway_id, 'gone', '2025-01-01', '2025-01-01' FROM submeter.gateway;
INSERT INTO submeter.gateway_stranger (site_id, address, peer, first_bytes, first_text, times, first_seen_at, seen_at) SELECT site_id, 'x', 'x', '', '', 1, '2025-01-01', '2025-01-01' FROM submeter.site;
INSERT INTO submeter.spool_event (site_id, poller, event_id, kind, count, at) SELECT site_id, 'p', 1, 'dropped', 1, '2025-01-01' FROM submeter.site;
INSERT INTO submeter.meter_key (site_id, meter_id) VALUES (1, 1), (2, 20);
INSERT INTO submeter.breaker_event (site_id, meter_id, kind, seen_at, detail) VALUES (1, 1, 'opened_by_hand', now(), 'x'), (1, 2, 'opened_by_hand', now(), 'x'), (2, 20, 'opened_by_hand', now(), 'x');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
SELECT t.site_id, a.account_id, a.account_id, t.tariff_id, '["2025-01-01 00:00+08",)' FROM submeter.tariff t JOIN submeter.account a USING (site_id);
INSERT INTO submeter.calendar_day (site_id, day, closed) VALUES (1, '2025-01-29', true), (2, '2025-01-29', true);
INSERT INTO submeter.outbound (site_id, kind, host, channel) SELECT site_id, 'x', 'x', 'x' FROM submeter.site;
INSERT INTO submeter.outbound_host (site_id, host) SELECT site_id, 'x' FROM submeter.site;
INSERT INTO submeter.outbound_channel (site_id, channel, per_minute) SELECT site_id, 'x', 1 FROM submeter.site;
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, app, seller, api_base) SELECT site_id, site_id, 'alipay', 'x', 'x', 'x', 'https://x' FROM submeter.site;
CREATE TEMP TABLE pem (line text, nr int GENERATED ALWAYS AS IDENTITY);
COPY pem (line) FROM PROGRAM 'openssl genrsa 2048 2>/dev/null | openssl rsa -pubout 2>/dev/null';
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) SELECT site_id, site_id, 'x', (SELECT string_agg(line, E'\n' ORDER BY nr) FROM pem) FROM submeter.site;
INSERT INTO submeter.payment_receipt (site_id, payment_receipt_id, merchant_id, provider_transaction, account_id, out_trade_no, amount, kind, paid_at, transfer_id)
SELECT a.site_id, a.account_id, a.site_id, 't' || a.account_id, a.account_id, 'x', 1, 'order', now(), 0 FROM submeter.account a;
INSERT INTO submeter.payment_refund (site_id, payment_receipt_id, account_id, amount, out_request_no, transfer_id, reason, asked_by) SELECT a.site_id, a.account_id, a.account_id, 1, 'refund' || a.account_id, 0, 'x', 'x' FROM submeter.account a;
INSERT INTO submeter.payment_event (site_id, merchant_id, source, body) SELECT site_id, site_id, 'notify', 'x' FROM submeter.site;
INSERT INTO submeter.reconcile_file (site_id, merchant_id, day, source, sha256, bytes, file, taken_by) SELECT site_id, site_id, '2025-01-01', 'fetched', sha256('x'), 1, 'x', 'x' FROM submeter.site;
INSERT INTO submeter.reconcile_day (site_id, merchant_id, day) SELECT site_id, site_id, '2025-01-01' FROM submeter.site;
INSERT INTO submeter.reconcile_row (site_id, merchant_id, day, item, kind, result, state) SELECT site_id, site_id, '2025-01-01', 'x', 'other', 'missing', 'done' FROM submeter.site;
SELECT count(submeter.set_secret(s.site_id, 'x', 'x')) AS secrets FROM submeter.site s;
INSERT INTO submeter.notice_channel (site_id, channel, kind) SELECT site_id, 'x', 'wechat' FROM submeter.site;
INSERT INTO submeter.channel_token (site_id, channel, sealed, expires_at) SELECT site_id, 'x', 'x', now() FROM submeter.site;
INSERT INTO submeter.wechat_login (site_id, state_hash, contact_id, channel, asked_by, created_at, expires_at)
SELECT site_id, 'x', min(contact_id), 'x', 'x', '2025-01-01', '2025-01-02' FROM submeter.contact GROUP BY site_id;
INSERT INTO submeter.device (site_id, contact_id, kind, token) SELECT site_id, min(contact_id), 'jpush', 'x' FROM submeter.contact GROUP BY site_id;
INSERT INTO submeter.payment_channel (site_id, channel) VALUES (1, 'cash'), (2, 'cash') ON CONFLICT DO NOTHING;
INSERT INTO submeter.payment_order (site_id, account_id, provider, amount, idempotency_key) VALUES (1, 1, 'alipay', 5, 'o1'), (1, 2, 'alipay', 5, 'o2'), (2, 20, 'alipay', 5, 'o1');
SELECT m.site_id, sum(submeter.ingest(m.site_id, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', m.meter_id,
	'ts', '2025-01-01 00:00+08'::timestamptz + n * interval '1 hour', 'energy_wh', wh, 'relay', 'closed', 'v_a', 220))])) AS readings
FROM submeter.meter m, unnest('{1000,2000,3000,900000,4000}'::int[]) WITH ORDINALITY r(wh, n) GROUP BY 1 ORDER BY 1;
SELECT submeter.judge_reading(m.site_id, m.meter_id, '2025-01-01 02:00+08', 'accept', 'x') > 0 AS judged FROM submeter.meter m;
SELECT submeter.settle() > 0 AS settled;
-- Somebody is putting the tenants' meters into service.
SELECT count(submeter.begin_commission(m.site_id, m.meter_id)) AS begun, count(submeter.waive_commission_check(m.site_id, m.meter_id, 'clock', 'x')) AS waived FROM submeter.meter m WHERE m.meter_id IN (1, 20);
-- A grid bill, a pool shared out, bounds of resale.
SELECT count(submeter.enter_grid_bill(s.site_id, '2025-01-01 00:00+08', 5000, 4000, 'G-1')) AS grid_bills FROM submeter.site s;
INSERT INTO submeter.share_pool (site_id, code, name, method, source, fixed_amount) SELECT site_id, 'lift', 'Lift', 'equal', 'amount', 0.02 FROM submeter.site;
INSERT INTO submeter.share_member (site_id, pool_id, account_id) SELECT p.site_id, p.pool_id, a.account_id FROM submeter.share_pool p JOIN submeter.account a USING (site_id);
SELECT sum(r.difference) AS shared FROM submeter.site s, submeter.run_share(s.site_id, 'lift', '2025-01-01 00:00+08', false) r;
INSERT INTO submeter.resale_cap (site_id, valid_from, ceiling, source) SELECT site_id, '2025-01-01 00:00+08', 0.01, 'x' FROM submeter.site;
INSERT INTO submeter.recharge_fee (site_id, method, valid_from, fixed, reason) SELECT site_id, 'card', '2020-01-01', 1, 'x' FROM submeter.site;
SELECT sum(submeter.propose_refunds(s.site_id, '2025-01-01 00:00+08')) AS proposals FROM submeter.site s;
-- The second hour of the first meter is to be settled again, and an account lost a supply for a moment.
SELECT submeter.judge_reading(m.site_id, m.meter_id, '2025-01-01 02:00+08', 'accept', 'y') > 0 AS judged FROM submeter.meter m;
UPDATE submeter.supply SET terms = '{"a":1}';
SELECT bool_and(submeter.recharge(a.site_id, a.account_id, 1, 'cash', 'k' || a.account_id) > 0) AS paid FROM submeter.account a;
SELECT bool_and(submeter.post_charges(s.site_id) > 0) AS posted FROM submeter.site s;
SELECT bool_and(submeter.take_deposit(a.site_id, a.account_id, 5, 'cash', 'd' || a.account_id) > 0) AS deposited, bool_and(submeter.defer_debit(a.site_id, a.account_id, 5, 'x', now()) > 0) AS owing,
	count(submeter.set_instalments(a.site_id, a.account_id, 2)) AS plans FROM submeter.account a;
INSERT INTO submeter.move_out (site_id, account_id, at, meter_ids, state, reason, requested_by, requested_at, finished_at) SELECT site_id, account_id, '2025-01-09', '{}', 'cancelled', 'x', 'x', '2025-01-08', '2025-01-08' FROM submeter.account;
INSERT INTO submeter.correction (site_id, kind, change, reason, by, accounts, debited, credited) SELECT site_id, 'setup', '{}', 'x', 'x', 0, 0, 0 FROM submeter.site;
UPDATE submeter.credit_policy SET emergency_credit = 5, emergency_below = 1000;
SELECT bool_and(submeter.seal(s.site_id) > 0) AS sealed FROM submeter.site s;
SELECT count(*) AS prices FROM submeter.site s CROSS JOIN LATERAL submeter.load_prices(s.site_id, E'name,valid_from,price\nbase,2025-01-01,0.5') p;
INSERT INTO submeter.allowance (site_id, account_id, tariff_id, name, amount, during) SELECT a.site_id, a.account_id, t.tariff_id, 'x', 1, '[2030-01-01,)' FROM submeter.account a JOIN submeter.tariff t USING (site_id);
INSERT INTO submeter.demand_day (site_id, account_id, tariff_id, day, window_minutes, window_wh, max_w) SELECT a.site_id, a.account_id, t.tariff_id, '2025-01-01', 15, '{1}', 4 FROM submeter.account a JOIN submeter.tariff t USING (site_id);
INSERT INTO submeter.head_recipient (site_id, email, name) SELECT site_id, 'audit@example.org', 'auditor' FROM submeter.site;
INSERT INTO submeter.head_export (site_id, day, email, seal_no, hash, exported_at) SELECT site_id, '2025-01-02', 'audit@example.org', seal_no, hash, now() FROM submeter.ledger_seal;
SELECT bool_and(submeter.request_command(m.site_id, m.meter_id, 'open', 'x') > 0) AS commands FROM submeter.meter m;
SELECT count(submeter.request_read(m.site_id, m.meter_id, 'x')) AS reads FROM submeter.meter m;
SELECT count(submeter.apply_policy(s.site_id)) AS policies, count(submeter.evaluate_alarms(s.site_id)) AS alarms, bool_and(submeter.ask_approval(s.site_id, 'adjust', '{}', 'x') > 0) AS asked FROM submeter.site s;
INSERT INTO submeter.alarm (site_id, rule, detail, raised_at) SELECT site_id, 'notice_failed', 'x', now() FROM submeter.site ON CONFLICT DO NOTHING;
INSERT INTO submeter.alarm_pending (site_id, rule, since) SELECT site_id, 'notice_failed', now() FROM submeter.site ON CONFLICT DO NOTHING;
-- A bill of a cycle before all this, with what belongs to one.
WITH made AS (
	INSERT INTO submeter.bill (site_id, account_id, cycle_start, cycle_end, energy_wh, amount, opening_balance, credited, closing_balance)
	SELECT a.site_id, a.account_id, '2024-12-01 00:00+08', '2025-01-01 00:00+08', 0, 1, 0, 0, -1 FROM submeter.account a RETURNING *
), line AS (
	INSERT INTO submeter.bill_line (site_id, bill_id, line, component, amount, detail) SELECT m.site_id, m.bill_id, 1, 'adjustment', 1, '{"cause":[]}' FROM made m
), meter AS (
	INSERT INTO submeter.bill_meter (site_id, bill_id, supply_id, meter_id, from_ts, to_ts, from_wh, to_wh, multiplier, energy_wh)
	SELECT m.site_id, m.bill_id, s.supply_id, s.meter_id, m.cycle_start, m.cycle_end, 0, 0, 1, 0 FROM made m JOIN submeter.supply s USING (site_id, account_id)
), adjustment AS (
	INSERT INTO submeter.charge_adjustment (site_id, account_id, tariff_id, cycle_start, transfer_id, amount, cause, bill_id)
	SELECT m.site_id, m.account_id, 1, m.cycle_start, 1, 1, '[]', m.bill_id FROM made m
), proposal AS (
	INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key) SELECT m.site_id, m.account_id, 'refund', 1, 'adjustment', 'x' || m.account_id FROM made m
)
INSERT INTO submeter.register_estimate (site_id, meter_id, ts, energy_wh, reason) SELECT m.site_id, m.meter_id, '2024-12-15', 0, 'x' FROM submeter.meter m;

-- Who works where: everybody but the tenant at the first site only.
CREATE FUNCTION pg_temp.staff() RETURNS text[] LANGUAGE sql AS $$SELECT '{admin,operator,cashier,field,auditor,erp,poller,courier,tenant,nobody}'::text[]$$;
DO $$
DECLARE
	who text;
BEGIN
	FOREACH who IN ARRAY pg_temp.staff()
	LOOP
		EXECUTE format('CREATE ROLE %I LOGIN', 'regress_perm_' || who);
		IF who <> 'nobody' THEN
			EXECUTE format('GRANT %I TO %I', 'submeter_' || who, 'regress_perm_' || who);
		END IF;
		IF who NOT IN ('tenant', 'nobody') THEN
			INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_perm_' || who);
		END IF;
	END LOOP;
	INSERT INTO submeter.site_member (site_id, login) VALUES (2, 'somebody else');
END
$$;

-- 1. What a plain SELECT shows

-- all: every row of the own site; some: not all; none: no row; -: no right. A row of the other site is a LEAK, and so is another tenant's.
-- (The audit also has rows of no site, about the models all sites share; tenants need the name of the gateway in no view.)
CREATE FUNCTION pg_temp.look(relation text, who text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	has_site boolean := EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation::regclass AND a.attname = 'site_id' AND NOT a.attisdropped);
	-- What a row of the tenant must say, as far as the relation has the columns.
	not_mine text := (SELECT string_agg(format('%I IS DISTINCT FROM 1', a.attname), ' OR ') FROM pg_attribute a
		WHERE a.attrelid = relation::regclass AND a.attname IN ('account_id', 'meter_id', 'tenant_id') AND NOT a.attisdropped);
	own bigint;
	total bigint;
	foreign_rows bigint := 0;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s %s', relation, CASE WHEN has_site THEN 'WHERE site_id = 1 OR site_id IS NULL' ELSE '' END) INTO total;
	EXECUTE format('SET SESSION AUTHORIZATION %I', 'regress_perm_' || who);
	BEGIN
		IF has_site THEN
			EXECUTE format('SELECT count(*) FILTER (WHERE site_id = 1 OR site_id IS NULL), count(*) FILTER (WHERE site_id <> 1 %s) FROM %s',
				CASE WHEN who = 'tenant' AND not_mine IS NOT NULL THEN 'OR ' || not_mine ELSE '' END, relation) INTO own, foreign_rows;
		ELSE
			EXECUTE format('SELECT count(*) FROM %s', relation) INTO own;
		END IF;
	EXCEPTION
		WHEN insufficient_privilege THEN
			RESET SESSION AUTHORIZATION;
			RETURN CASE WHEN SQLERRM LIKE 'permission denied for ' || CASE WHEN (SELECT relkind FROM pg_class WHERE oid = relation::regclass) = 'v' THEN 'view ' ELSE 'table ' END || split_part(relation, '.', 2)
				THEN '-' ELSE SQLERRM END;
		WHEN OTHERS THEN
			RESET SESSION AUTHORIZATION;
			RETURN SQLERRM;
	END;
	RESET SESSION AUTHORIZATION;
	RETURN CASE WHEN foreign_rows > 0 THEN 'LEAK' WHEN own = 0 THEN 'none' WHEN own = total THEN 'all' ELSE 'some' END;
END
$$;
CREATE TEMP TABLE sight AS
SELECT c.relkind, 'submeter.' || c.relname AS relation, who, pg_temp.look('submeter.' || c.relname, who) AS sees
FROM pg_class c, unnest(pg_temp.staff()) who
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition;
-- Every table has something to see, in both sites.
SELECT relation FROM sight WHERE who = 'admin' AND relation NOT IN ('submeter.storage_step') AND pg_temp.look(relation, 'admin') = 'none' ORDER BY 1;
CREATE FUNCTION pg_temp.is_empty(relation regclass, site int) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
	found boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE site_id = %s)', relation, site) INTO found;
	RETURN NOT found;
END
$$;
WITH r AS MATERIALIZED (
	SELECT c.oid::regclass AS relation FROM pg_class c
	WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'site_id'))
SELECT relation AS empty_at_the_other_site FROM r WHERE pg_temp.is_empty(relation, 2) ORDER BY 1;
SELECT split_part(relation, '.', 2) AS "table",
	max(sees) FILTER (WHERE who = 'admin') AS admin, max(sees) FILTER (WHERE who = 'operator') AS operator, max(sees) FILTER (WHERE who = 'cashier') AS cashier,
	max(sees) FILTER (WHERE who = 'field') AS field, max(sees) FILTER (WHERE who = 'auditor') AS auditor, max(sees) FILTER (WHERE who = 'erp') AS erp,
	max(sees) FILTER (WHERE who = 'poller') AS poller, max(sees) FILTER (WHERE who = 'courier') AS courier, max(sees) FILTER (WHERE who = 'tenant') AS tenant
FROM sight WHERE relkind <> 'v' GROUP BY 1 ORDER BY 1;
SELECT split_part(relation, '.', 2) AS view,
	max(sees) FILTER (WHERE who = 'admin') AS admin, max(sees) FILTER (WHERE who = 'operator') AS operator, max(sees) FILTER (WHERE who = 'cashier') AS cashier,
	max(sees) FILTER (WHERE who = 'field') AS field, max(sees) FILTER (WHERE who = 'auditor') AS auditor, max(sees) FILTER (WHERE who = 'erp') AS erp,
	max(sees) FILTER (WHERE who = 'poller') AS poller, max(sees) FILTER (WHERE who = 'courier') AS courier, max(sees) FILTER (WHERE who = 'tenant') AS tenant
FROM sight WHERE relkind = 'v' GROUP BY 1 ORDER BY 1;
-- A login without a role of Submeter is not even told what there is.
SELECT DISTINCT sees FROM sight WHERE who = 'nobody';
SELECT count(*) AS leaks FROM sight WHERE sees = 'LEAK';

-- 2. What plain statements change: rights by the catalogue, a: insert, w: update, d: delete, D: truncate; (w): some columns

WITH r AS (
	SELECT c.oid, c.relname, who,
		CASE WHEN has_table_privilege('regress_perm_' || who, c.oid, 'INSERT') THEN 'a' ELSE '' END
		|| CASE WHEN has_table_privilege('regress_perm_' || who, c.oid, 'UPDATE') THEN 'w' WHEN has_any_column_privilege('regress_perm_' || who, c.oid, 'UPDATE') THEN '(w)' ELSE '' END
		|| CASE WHEN has_table_privilege('regress_perm_' || who, c.oid, 'DELETE') THEN 'd' ELSE '' END
		|| CASE WHEN has_table_privilege('regress_perm_' || who, c.oid, 'TRUNCATE') THEN 'D' ELSE '' END AS rights
	FROM pg_class c, unnest(pg_temp.staff()) who
	WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND NOT c.relispartition)
SELECT relname AS "table", string_agg(who || ' ' || rights, ', ' ORDER BY who) AS writers FROM r WHERE rights <> '' GROUP BY 1 ORDER BY 1;
-- The administrator of one site changes nothing of another, brings nothing into it and takes nothing from it.
CREATE FUNCTION pg_temp.reach(relation text, who text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	column_name text := (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = relation::regclass AND a.attnum > 0 AND has_column_privilege('regress_perm_' || who, relation::regclass, a.attnum, 'UPDATE') ORDER BY a.attname <> 'site_id', a.attnum LIMIT 1);
	touched bigint;
	said text := '';
BEGIN
	EXECUTE format('SET SESSION AUTHORIZATION %I', 'regress_perm_' || who);
	BEGIN
		EXECUTE format('UPDATE %s SET %2$I = %2$I WHERE site_id = 2', relation, column_name);
		GET DIAGNOSTICS touched = ROW_COUNT;
		said := said || touched || ' updated';
		RAISE EXCEPTION USING ERRCODE = 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL; WHEN insufficient_privilege THEN said := said || 'no update';
	END;
	IF column_name = 'site_id' THEN
		BEGIN
			EXECUTE format('UPDATE %s SET site_id = 2', relation);
			said := said || ', moved to site 2';
		EXCEPTION WHEN insufficient_privilege THEN said := said || ', not moved';
			WHEN OTHERS THEN said := said || ', ' || SQLSTATE;
		END;
		BEGIN
			EXECUTE format('DELETE FROM %s WHERE site_id = 2', relation);
			GET DIAGNOSTICS touched = ROW_COUNT;
			said := said || ', ' || touched || ' deleted';
			RAISE EXCEPTION USING ERRCODE = 'UNDO1';
		EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
		END;
	END IF;
	RESET SESSION AUTHORIZATION;
	RETURN said;
END
$$;
SELECT who, pg_temp.reach('submeter.' || c.relname, who) AS outcome, string_agg(c.relname, ' ' ORDER BY c.relname) AS tables
FROM unnest('{admin,field}'::text[]) who, pg_class c
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind = 'r' AND has_any_column_privilege('regress_perm_' || who, c.oid, 'UPDATE')
	AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'site_id')
GROUP BY 1, 2 ORDER BY 1, 2;
SET SESSION AUTHORIZATION regress_perm_admin;
SELECT left(pg_temp.refusal($$INSERT INTO submeter.building (site_id, code, name) VALUES (2, 'mine', 'Mine')$$), 90) AS into_another_site;
SELECT pg_temp.refusal($$INSERT INTO submeter.building (site_id, code, name) VALUES (1, 'mine', 'Mine')$$) AS into_the_own;
SELECT left(pg_temp.refusal($$INSERT INTO submeter.site_member (site_id, login) VALUES (2, 'regress_perm_admin')$$), 90) AS membership;
SELECT left(pg_temp.refusal($$INSERT INTO submeter.site (code, name) VALUES ('new', 'New')$$), 90) AS a_site;
SELECT left(pg_temp.refusal($$UPDATE submeter.ledger_account SET total = 1000000$$), 90) AS money;
SELECT left(pg_temp.refusal($$SELECT nextval('submeter.transfer_id_seq')$$), 90) AS numbers;
RESET SESSION AUTHORIZATION;

-- 3. Verbs: at the own site by role; at another site nobody gets further than the door

CREATE FUNCTION pg_temp.try(who text, call text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	outcome text;
BEGIN
	EXECUTE format('SET SESSION AUTHORIZATION %I', 'regress_perm_' || who);
	BEGIN
		EXECUTE 'SELECT ' || call;
		RAISE EXCEPTION USING ERRCODE = 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN outcome := 'yes';
		WHEN insufficient_privilege THEN outcome := 'no';
		WHEN OTHERS THEN outcome := SQLSTATE || ' ' || SQLERRM;
	END;
	RESET SESSION AUTHORIZATION;
	RETURN outcome;
END
$$;
CREATE TEMP TABLE verb_call (verb text PRIMARY KEY, call text);
INSERT INTO verb_call VALUES
	('ingest', 'submeter.ingest(S, ''{}'')'), ('ingest_json', 'submeter.ingest_json(S, ''[]'')'),
	('judge_reading', 'submeter.judge_reading(S, M, ''2025-01-01 01:00+08'', ''accept'', ''x'')'),
	('create_tariff', 'submeter.create_tariff(S, ''new'', ''{"energy":[{"price":1}]}'', ''2030-01-01'')'),
	('simulate_tariff', $$submeter.simulate_tariff(S, '{"energy":[{"price":0.8}]}', '2025-01-01', '2025-01-02')$$),
	('simulate_summary', $$submeter.simulate_summary(S, '{"energy":[{"price":0.8}]}', '2025-01-01', '2025-01-02')$$),
	('settle', 'submeter.settle(S)'), ('post_charges', 'submeter.post_charges(S)'),
	('close_cycle', 'submeter.close_cycle(S, ''2024-12-31'')'), ('void_bill', 'submeter.void_bill(S, B, ''x'')'), ('explain_bill', 'count(*) FROM submeter.explain_bill(S, B)'),
	('issue_bill', 'submeter.issue_bill(S, A, ''2024-12-01 00:00+08'', ''x'')'),
	('recharge', 'submeter.recharge(S, A, 5, ''cash'', ''key'')'), ('adjust', 'submeter.adjust(S, A, 5, ''x'', ''key'')'),
	('move_in', 'submeter.move_in(S, A, ''{3}'', (SELECT tariff_id FROM submeter.tariff WHERE code = ''flat'' LIMIT 1), ''2025-01-02'', NULL, 1)'),
	('move_out', 'submeter.move_out(S, A, ''2025-01-05'', as_of => ''2025-01-05'')'), ('replace_meter', 'submeter.replace_meter(S, M, 2, ''2025-01-05'', 5000, ''x'', as_of => ''2025-01-06'')'),
	('correct_final_register', 'count(*) FROM submeter.correct_final_register(S, M, 5000, ''x'')'), ('begin_commission', 'submeter.begin_commission(S, M)'),
	('record_commission_check', 'count(*) FROM submeter.record_commission_check(S, M, ''serial'')'), ('waive_commission_check', 'submeter.waive_commission_check(S, M, ''signal'', ''x'')'),
	('run_load_step', 'count(*) FROM submeter.run_load_step(S, M, 2000, ''2025-01-02 10:00+08'', ''2025-01-02 10:05+08'')'), ('start_trip_test', 'submeter.start_trip_test(S, M, ''x'')'),
	('finish_trip_test', 'count(*) FROM submeter.finish_trip_test(S, M, true)'), ('finish_commission', 'submeter.finish_commission(S, M)'), ('fail_commission', 'submeter.fail_commission(S, M, ''x'')'),
	('commission_meter', 'count(*) FROM submeter.commission_meter(S, M)'), ('adopt_meters', 'submeter.adopt_meters(S, ''{2}'', ''x'')'), ('commission_sheet', 'submeter.commission_sheet(S, M)'),
	('take_emergency_credit', 'submeter.take_emergency_credit(S, A, ''key'')'), ('pay_debt', 'submeter.pay_debt(S, A, 1, ''key'')'), ('set_instalments', 'submeter.set_instalments(S, A, 5)'),
	('write_off', 'submeter.write_off(S, A, 1, ''x'', ''key'')'), ('refund', 'submeter.refund(S, A, 1, ''x'', ''key'')'), ('take_deposit', 'submeter.take_deposit(S, A, 5, ''cash'', ''key'')'),
	('return_deposit', 'submeter.return_deposit(S, A, 1, ''x'', ''key'')'), ('transfer_balance', 'submeter.transfer_balance(S, A, 2, 1, ''key'')'),
	('dismiss_proposal', 'submeter.dismiss_proposal(S, 0, ''x'')'), ('balances_at', 'count(*) FROM submeter.balances_at(S, now())'),
	('correct_setup', 'count(*) FROM submeter.correct_setup(S, M, ''2025-01-01'', ''x'', multiplier => 2)'), ('correct_supply', 'count(*) FROM submeter.correct_supply(S, M, 2, ''2025-01-02'', ''x'')'),
	('correct_tariff', 'count(*) FROM submeter.correct_tariff(S, ''flat'', ''{"energy":[{"price":2}]}'', ''2025-01-02'', ''x'')'), ('correct_price', 'count(*) FROM submeter.correct_price(S, ''none'', 1, ''2025-01-02'', ''x'')'),
	('reverse_movement', 'submeter.reverse_movement(S, T, ''x'', ''key'')'), ('balance', 'submeter.balance(S, A)'),
	('seal', 'submeter.seal(S)'), ('ledger_head', 'count(*) FROM submeter.ledger_head(S)'), ('export_head', 'submeter.export_head(S)'),
	('check_head', 'count(*) FROM submeter.check_head(S, 1, repeat(''0'', 64))'),
	('load_prices', 'count(*) FROM submeter.load_prices(S, E''name,valid_from,price\nbase,2030-01-01,1'')'),
	('load_calendar', 'count(*) FROM submeter.load_calendar(S, E''day,day_type\n2040-01-01,holiday'')'),
	('declare_day', 'submeter.declare_day(S, current_date + 1, ''hot_day'', false)'),
	('verify_ledger', 'count(*) FROM submeter.verify_ledger(S)'), ('request_command', 'submeter.request_command(S, M, ''close'', ''x'')'),
	('cancel_command', 'submeter.cancel_command(S, C, ''x'')'), ('confirm_command', 'submeter.confirm_command(S, C)'), ('tick_decision', 'submeter.tick_decision(S, D)'), ('set_lockout', 'submeter.set_lockout(S, M, ''x'')'),
	('clear_lockout', 'submeter.clear_lockout(S, M, ''x'')'), ('clear_cause', 'submeter.clear_cause(S, M, ''operator'', ''x'')'),
	('set_meter_key', 'submeter.set_meter_key(S, M, 2, ''000000'')'), ('set_meter_clock', 'submeter.set_meter_clock(S, M, ''x'')'),
	('request_read', 'submeter.request_read(S, M, ''x'')'), ('apply_policy', 'submeter.apply_policy(S)'),
	('why_dark', 'count(*) FROM submeter.why_dark(S, M)'), ('evaluate_alarms', 'submeter.evaluate_alarms(S)'),
	('acknowledge_alarm', 'submeter.acknowledge_alarm(S, L)'), ('ask_approval', 'submeter.ask_approval(S, ''adjust'', ''{}'', ''x'')'),
	('decide_approval', 'submeter.decide_approval(S, P, false)'), ('run_duties', 'submeter.run_duties(''2025-01-01'')'),
	('bill_html', 'length(submeter.bill_html(S, 0))'), ('set_channel', 'submeter.set_channel(S, ''x'', ''mail'', ''{"url":"smtp://x","from":"a@b"}'')'), ('preview_notice', 'submeter.preview_notice(S, 0, ''x'', ''en'')'),
	('register_device', 'submeter.register_device(S, 0, ''jpush'', ''abcdefgh'')'),
	('begin_wechat_login', 'submeter.begin_wechat_login(S, 0, ''x'', ''https://x'')'),
	('finish_wechat_login', 'submeter.finish_wechat_login(S, ''x'', ''abcdefgh'')'),
	('check_wechat_login', 'submeter.check_wechat_login(S, 0)'),
	('set_secret', 'submeter.set_secret(S, ''x'', ''x'')'), ('rotate_secrets', 'submeter.rotate_secrets(S)'),
	('reconcile', 'submeter.reconcile(S, ''alipay'', ''2025-01-01'', ''x'')'), ('decide_reconcile', 'submeter.decide_reconcile(S, 0, ''settled'', ''x'')'),
	('resend_outbound', 'submeter.resend_outbound(S, 0, ''x'')'), ('create_payment', 'submeter.create_payment(S, A, ''alipay'', 5, ''key'')'),
	('check_payment', 'submeter.check_payment(S, O)'), ('cancel_payment', 'submeter.cancel_payment(S, O)'), ('payment_notify', 'submeter.payment_notify(''alipay'', jsonb_build_object('':path'', ''/notify/alipay/1''), ''x'')'),
	('claim_outbound', 'count(*) FROM submeter.claim_outbound(''c'', 1)'),
	('report_outbound', 'submeter.report_outbound(S, 0, ''c'', ''not_sent'', NULL, NULL, NULL, NULL)'),
	('create_partitions', 'submeter.create_partitions(''2025-01-01'', ''2025-02-01'')'), ('create_storage', 'submeter.create_storage()'), ('adopt', 'submeter.adopt(''x'')'),
	('enter_grid_bill', 'submeter.enter_grid_bill(S, ''2025-02-01 00:00+08'', 5, 4, ''G-2'')'),
	('run_share', 'count(*) FROM submeter.run_share(S, ''lift'', ''2025-01-01 00:00+08'')'), ('reverse_share', 'submeter.reverse_share(S, ''lift'', ''2025-01-01 00:00+08'', ''x'')'),
	('share_slip', 'count(*) FROM submeter.share_slip(S, ''lift'', ''2025-01-01 00:00+08'', A)'), ('resale_check', 'count(*) FROM submeter.resale_check(S, ''2025-01-01 00:00+08'')'),
	('reading_success', 'count(*) FROM submeter.reading_success(S, ''2025-01-01'', ''2025-01-02'')'), ('claim_history', 'count(*) FROM submeter.claim_history(''p'')'),
	('report_history', 'submeter.report_history(S, 0, ''p'', ''done'', 0, NULL)'), ('report_spool', $$submeter.report_spool('p', '{"waiting":0,"rejected":0,"bytes":1,"most_bytes":2,"failing":false}')$$),
	('propose_refunds', 'submeter.propose_refunds(S, ''2025-01-01 00:00+08'')'), ('accept_proposal', 'submeter.accept_proposal(S, R, ''x'')'),
	('poller_meters', 'count(*) FROM submeter.poller_meters()'), ('claim_commands', 'count(*) FROM submeter.claim_commands(''p'', 9)'), ('claim_reads', 'count(*) FROM submeter.claim_reads(''p'')');
CREATE FUNCTION pg_temp.fill(call text, site int) RETURNS text
LANGUAGE sql
AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(call,
		'\(S\M', '(' || site), ', [AM]\M', ', ' || CASE site WHEN 1 THEN 1 ELSE 20 END),
		', B\M', ', ' || (SELECT min(bill_id) FROM submeter.bill WHERE site_id = site)),
		', C\M', ', ' || (SELECT min(command_id) FROM submeter.command WHERE site_id = site)),
		', L\M', ', ' || (SELECT min(alarm_id) FROM submeter.alarm WHERE site_id = site)),
		', P\M', ', ' || (SELECT min(approval_id) FROM submeter.approval WHERE site_id = site)),
		', O\M', ', ' || (SELECT min(payment_order_id) FROM submeter.payment_order WHERE site_id = site)),
		', R\M', ', ' || (SELECT min(proposal_id) FROM submeter.proposal WHERE site_id = site)),
		', D\M', ', ' || (SELECT min(decision_id) FROM submeter.decision WHERE site_id = site)),
		', T\M', ', ' || (SELECT min(transfer_id) FROM submeter.transfer WHERE site_id = site AND kind = 'recharge'))
$$;
CREATE TEMP TABLE deed AS
SELECT v.verb, who, pg_temp.try(who, pg_temp.fill(v.call, 1)) AS here, CASE WHEN v.call LIKE '%(S%' THEN pg_temp.try(who, pg_temp.fill(v.call, 2)) END AS there
FROM verb_call v, unnest(pg_temp.staff()) who;
-- Verbs nobody tries here.
SELECT v.verb FROM submeter.verb v WHERE v.verb NOT IN (SELECT c.verb FROM verb_call c) AND v.verb NOT IN ('poller', 'courier') ORDER BY 1;
SELECT verb, string_agg(who, ' ' ORDER BY who) FILTER (WHERE here <> 'no') AS may, string_agg(DISTINCT here, ', ') FILTER (WHERE here NOT IN ('yes', 'no')) AS otherwise
FROM deed GROUP BY 1 ORDER BY 1;
SELECT verb, who, there FROM deed WHERE there <> 'no' ORDER BY 1, 2;
-- Whatever else has effects or the owner's rights, and who may call it.
SELECT p.proname AS function, string_agg(replace(g.rolname, 'submeter_', ''), ' ' ORDER BY g.rolname) AS roles
FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a JOIN pg_roles g ON g.oid = a.grantee
WHERE p.pronamespace = 'submeter'::regnamespace AND (p.provolatile = 'v' OR p.prosecdef) AND g.rolname LIKE 'submeter\_%' AND g.rolname <> 'submeter_owner'
	AND p.proname NOT IN (SELECT c.verb FROM verb_call c)
GROUP BY 1 ORDER BY 1;
-- The plan of a poller ends at its sites.
SET SESSION AUTHORIZATION regress_perm_poller;
SELECT array_agg(DISTINCT site_id) AS sites FROM submeter.poller_meters();
SELECT array_agg(DISTINCT site_id) AS sites FROM submeter.claim_reads('p');
SELECT array_agg(DISTINCT site_id) AS sites FROM submeter.claim_commands('p', 9);
RESET SESSION AUTHORIZATION;
-- A role alone is not enough: without membership there is no site.
DELETE FROM submeter.site_member WHERE login = 'regress_perm_cashier';
SELECT pg_temp.try('cashier', pg_temp.fill('submeter.recharge(S, A, 5, ''cash'', ''key'')', 1)), pg_temp.look('submeter.account', 'cashier');
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_perm_cashier');

-- 4. A tenant: their own balance, meter and messages, while they have them

SET SESSION AUTHORIZATION regress_perm_tenant;
SELECT account, available FROM submeter.account_balance;
SELECT meter, register_kwh FROM submeter.live_meter;
SELECT count(*) > 0 AS rows, bool_and(account_id = 1) AS own FROM submeter.charge_statement;
SELECT submeter.balance(1, 1);
SELECT left(pg_temp.refusal('SELECT submeter.balance(1, 2)'), 30) AS neighbour, left(pg_temp.refusal('SELECT submeter.balance(2, 20)'), 30) AS elsewhere;
SELECT left(pg_temp.refusal('SELECT * FROM submeter.why_dark(1, 1)'), 30) AS own, left(pg_temp.refusal('SELECT * FROM submeter.why_dark(1, 2)'), 30) AS neighbour;
SELECT label, quantity FROM submeter.share_slip(1, 'lift', '2025-01-01 00:00+08', 1) WHERE item = 'due';
SELECT left(pg_temp.refusal($$SELECT * FROM submeter.share_slip(1, 'lift', '2025-01-01 00:00+08', 2)$$), 60) AS neighbour;
SELECT count(*) AS lines, bool_and(account_id = 1) AS own FROM submeter.share_line;
RESET SESSION AUTHORIZATION;
UPDATE submeter.supply SET during = '["2025-01-01 00:00+08","2025-01-02 00:00+08")' WHERE account_id = 1;
SET SESSION AUTHORIZATION regress_perm_tenant;
SELECT count(*) AS meters FROM submeter.live_meter;
SELECT count(*) AS readings FROM submeter.reading;
SELECT count(*) AS accounts FROM submeter.account_balance;
RESET SESSION AUTHORIZATION;

-- 5. Tokens count in sessions of the web gateway only

SET SESSION AUTHORIZATION regress_perm_tenant;
SET request.jwt.claims = '{"login":"regress_perm_admin","site_id":2,"tenant_id":20}';
SELECT login, role, site_id, tenant_id FROM submeter.me();
SELECT submeter.my_sites(), submeter.my_tenants(), submeter.my_accounts();
SELECT account FROM submeter.account_balance;
SET SESSION AUTHORIZATION regress_perm_nobody;
SELECT left(pg_temp.refusal('SELECT * FROM submeter.account_balance'), 40);
RESET SESSION AUTHORIZATION;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT submeter_tenant TO authenticator;
SET SESSION AUTHORIZATION authenticator;
SET ROLE submeter_tenant;
SET request.jwt.claims = '{"login":"web:20","site_id":2,"tenant_id":20}';
SELECT login, role, site_id, tenant_id FROM submeter.me();
SELECT account, available FROM submeter.account_balance;
SELECT submeter.balance(2, 20) AS own, left(pg_temp.refusal('SELECT submeter.balance(1, 1)'), 30) AS elsewhere;
-- A site that is not the tenant's, no token, an empty one.
SET request.jwt.claims = '{"login":"web:20","site_id":1,"tenant_id":20}';
SELECT count(*) AS accounts FROM submeter.account_balance;
SET request.jwt.claims = '';
SELECT count(*) AS accounts FROM submeter.account_balance;
SET request.jwt.claims = '{}';
SELECT count(*) AS accounts FROM submeter.account_balance;
RESET request.jwt.claims;
RESET ROLE;
RESET SESSION AUTHORIZATION;

-- 6. Nobody gets in by way of the path or of a function of their own

SET SESSION AUTHORIZATION regress_perm_cashier;
SELECT left(pg_temp.refusal('CREATE FUNCTION submeter.trojan() RETURNS int LANGUAGE sql AS ''SELECT 1'''), 60) AS in_the_schema;
CREATE TEMP TABLE site_member (site_id int, login name);
INSERT INTO pg_temp.site_member VALUES (2, 'regress_perm_cashier');
CREATE FUNCTION pg_temp.my_sites() RETURNS int[] LANGUAGE sql AS 'SELECT ARRAY[1, 2]';
SET search_path = pg_temp, submeter, pg_catalog;
SELECT left(pg_temp.refusal('SELECT submeter.recharge(2, 20, 5, ''cash'', ''key'')'), 30) AS another_site, submeter.my_sites();
SELECT count(*) AS accounts_of_another_site FROM submeter.account WHERE site_id = 2;
RESET search_path;
DROP FUNCTION pg_temp.my_sites();
DROP TABLE pg_temp.site_member;
RESET SESSION AUTHORIZATION;
-- A function that is cheap and talks must not see rows before the policy has.
SET SESSION AUTHORIZATION regress_perm_tenant;
CREATE FUNCTION pg_temp.tell(code text, amount numeric) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$BEGIN RAISE NOTICE '% %', code, amount; RETURN true; END$$;
SET client_min_messages = notice;
SELECT account FROM submeter.account_balance WHERE pg_temp.tell(account, available);
SET client_min_messages = error;
DROP FUNCTION pg_temp.tell(text, numeric);
RESET SESSION AUTHORIZATION;
-- Built-in models, and with them all that may ever be written to a meter, are not for one site's administrator.
SET SESSION AUTHORIZATION regress_perm_admin;
WITH changed AS (UPDATE submeter.meter_switch SET address = 10 WHERE model = 'DDS238-2 ZN/SR' RETURNING 1) SELECT count(*) AS built_in_changed FROM changed;
WITH gone AS (DELETE FROM submeter.meter_point WHERE model = 'SDM120' RETURNING 1) SELECT count(*) AS built_in_deleted FROM gone;
SELECT left(pg_temp.refusal($$INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('SDM120', 'open', 16, 10, '{0}')$$), 80) AS added;
SELECT pg_temp.refusal($$INSERT INTO submeter.meter_model (model, vendor) VALUES ('own', 'us'); INSERT INTO submeter.meter_switch (model, action, function, address, registers) VALUES ('own', 'open', 16, 10, '{0}')$$) AS own_model;
RESET SESSION AUTHORIZATION;

DROP OWNED BY authenticator;
DROP ROLE authenticator;
DO $$
DECLARE
	who text;
BEGIN
	FOREACH who IN ARRAY pg_temp.staff()
	LOOP
		EXECUTE format('DROP ROLE %I', 'regress_perm_' || who);
	END LOOP;
END
$$;
