-- Room: account and credit. Moving in, moving out, a new meter; emergency credit, debt, deposits, refunds.
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
	RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, '')), 'ovement \d+', 'ovement N', 'g');
END
$$;

INSERT INTO submeter.site (site_id, code, name, locale) VALUES (1, 'mall', 'A mall', 'en'), (2, 'other', 'Another mall', 'en');
SELECT submeter.create_partitions('2024-12-01', '2025-06-01') > 0 AS partitions;
UPDATE submeter.credit_policy SET mode = 'automatic', low_balances = '{}', no_trip_windows = '[]';
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'bakery', 'The bakery'), (1, 2, 'flat1', 'Family of flat 1'), (1, 3, 'flat2', 'Family of flat 2'), (1, 4, 'stall', 'A stall'), (2, 20, 'far', 'Far away');
INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 1, 'g', '127.0.0.1:1'), (2, 2, 'g', '127.0.0.1:1');
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR', 1, n FROM generate_series(1, 9) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address) VALUES (2, 20, 'm1', 'DDS238-2 ZN/SR', 2, 1);
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT site_id, meter_id, 1000 FROM submeter.meter WHERE meter_id <> 9;
SELECT submeter.adopt_meters(1, NULL, 'taken over from the old system') AS taken_over;
SELECT submeter.create_tariff(1, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS flat \gset
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[100]}]},"energy":[{"tier":1,"price":0.5},{"price":1}]}', '2025-01-01 00:00+08') AS tiers \gset
SELECT submeter.create_tariff(2, 'flat', '{"energy":[{"price":1}]}', '2025-01-01 00:00+08') AS far \gset

-- Local time of Shanghai, kWh, and what a relay says.
CREATE FUNCTION pg_temp.ts(at text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT at::timestamp AT TIME ZONE 'Asia/Shanghai' $$;
CREATE FUNCTION pg_temp.read(meter bigint, at text, kwh numeric, relay text DEFAULT 'closed') RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
		jsonb_build_object('meter_id', meter, 'ts', pg_temp.ts(at), 'energy_wh', (kwh * 1000)::bigint, 'relay', relay))])
$$;
CREATE VIEW pg_temp.book AS
SELECT row_number() OVER (ORDER BY t.transfer_id, t.leg) AS nth, t.kind, d.code AS debit, c.code AS credit, t.amount, t.method, t.note,
	regexp_replace(t.idempotency_key, '\d+$', 'N') AS key
FROM submeter.transfer t
JOIN submeter.ledger_account d ON d.site_id = t.site_id AND d.ledger_account_id = t.debit_id
JOIN submeter.ledger_account c ON c.site_id = t.site_id AND c.ledger_account_id = t.credit_id
WHERE t.site_id = 1
ORDER BY t.transfer_id, t.leg;
CREATE VIEW pg_temp.purse AS
SELECT b.account, b.state, b.available, b.debt, b.emergency, b.deposit, b.emergency_offer AS offer FROM submeter.account_balance b WHERE b.site_id = 1 ORDER BY b.account_id;
CREATE VIEW pg_temp.fed AS
SELECT a.code AS account, m.code AS meter, f.code AS tariff, lower(y.during) AT TIME ZONE 'Asia/Shanghai' AS since, upper(y.during) AT TIME ZONE 'Asia/Shanghai' AS until,
	y.opening_wh, y.closing_wh, y.terms
FROM submeter.supply y JOIN submeter.account a USING (site_id, account_id) JOIN submeter.meter m USING (site_id, meter_id)
JOIN submeter.tariff f ON f.site_id = y.site_id AND f.tariff_id = y.tariff_id
WHERE y.site_id = 1 ORDER BY lower(y.during), m.code;

-- 1. Moving in

SELECT pg_temp.read(1, '2025-01-01 00:00', 10, 'open'), pg_temp.read(2, '2025-01-01 00:00', 20, 'open'), pg_temp.read(3, '2025-01-01 00:00', 30);
INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, reason) SELECT 1, n, 'vacant', '2025-01-01', 'built' FROM generate_series(1, 2) n;
INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, reason) VALUES (1, 2, 'operator', '2025-01-01', 'wiring');
SELECT submeter.move_in(1, 1, '{1,2}', :flat, pg_temp.ts('2025-01-01 12:00'), '{10000,20000}', terms => '{"capacity_kva":50}', as_of => pg_temp.ts('2025-01-01 12:00')) AS bakery \gset
-- The same call again is the same tenancy; the cause vacant is gone, another one is not, and a breaker without a cause closes.
SELECT submeter.move_in(1, 1, '{1,2}', :flat, pg_temp.ts('2025-01-01 12:00'), '{10000,20000}', as_of => pg_temp.ts('2025-01-01 12:01')) = :bakery AS same;
SELECT * FROM pg_temp.fed;
SELECT meter_id, cause FROM submeter.open_cause ORDER BY 1, 2;
SELECT meter_id, action, state, reason FROM submeter.command ORDER BY command_id;
SELECT code, tenant_id, state, mode, opened_at FROM submeter.account;
-- A second account of the tenant, a second supply and tariff on the first, a postpaid one.
SELECT submeter.move_in(1, 1, '{3}', :tiers, pg_temp.ts('2025-01-02 00:00'), account_id => :bakery, as_of => pg_temp.ts('2025-01-02 00:00')) = :bakery AS same_account;
SELECT submeter.move_in(1, 1, '{4}', :flat, pg_temp.ts('2025-01-02 00:00'), mode => 'postpaid', as_of => pg_temp.ts('2025-01-02 00:00')) AS later \gset
SELECT code, mode FROM submeter.account WHERE account_id = :later;
-- Who is there already is named.
SELECT pg_temp.refusal(replace(replace(s, '@F', :'flat'), '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.move_in(1, 2, '{5,1}', @F, '2025-01-10')$$,
	$$SELECT submeter.move_in(1, 2, '{1}', @F, '2024-12-20')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', account_id => @B)$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', code => 'bakery')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', account_id => 999)$$,
	$$SELECT submeter.move_in(1, 9, '{5}', @F, '2025-01-10')$$, $$SELECT submeter.move_in(1, NULL, '{5}', @F, '2025-01-10')$$,
	$$SELECT submeter.move_in(1, 2, '{20}', @F, '2025-01-10')$$, $$SELECT submeter.move_in(1, 2, '{}', @F, '2025-01-10')$$, $$SELECT submeter.move_in(1, 2, NULL, @F, '2025-01-10')$$,
	$$SELECT submeter.move_in(1, 2, '{5,5}', @F, '2025-01-10')$$, $$SELECT submeter.move_in(1, 2, '{5,NULL}', @F, '2025-01-10')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', 999, '2025-01-10')$$, $$SELECT submeter.move_in(1, 2, '{5}', NULL, '2025-01-10')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, NULL)$$, $$SELECT submeter.move_in(1, 2, '{5}', @F, 'infinity')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', until => '2025-01-10')$$, $$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', until => 'infinity')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', '{1,2}')$$, $$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', '{-1}')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2019-01-10', '{1}')$$,
	$$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', terms => '[]')$$, $$SELECT submeter.move_in(1, 2, '{5}', @F, '2025-01-10', mode => 'free')$$,
	$$SELECT submeter.move_in(99, 2, '{5}', @F, '2025-01-10')$$, $$SELECT submeter.move_in(NULL, 2, '{5}', @F, '2025-01-10')$$]) s;
SELECT count(*) AS accounts FROM submeter.account;

-- 2. Recharges, emergency credit and debt

UPDATE submeter.credit_policy SET emergency_credit = 20, emergency_below = 5, debt_share = 0.25, max_balance = 500 WHERE site_id = 1;
SELECT submeter.recharge(1, :bakery, 30, 'cash', 'c1') > 0 AS paid;
SELECT pg_temp.read(1, '2025-01-03 12:00', 38), submeter.settle(1, pg_temp.ts('2025-01-04'));
SELECT * FROM pg_temp.purse;
SELECT submeter.take_emergency_credit(1, :bakery, 'e1') AS taken \gset
SELECT submeter.take_emergency_credit(1, :bakery, 'e1') = :taken AS same;
SELECT * FROM pg_temp.purse;
SELECT pg_temp.refusal(replace(replace(s, '@B', :'bakery'), '@L', :'later')) FROM unnest(ARRAY[
	$$SELECT submeter.take_emergency_credit(1, @B, 'e2')$$, $$SELECT submeter.take_emergency_credit(1, @L, 'e2')$$, $$SELECT submeter.take_emergency_credit(1, @B, 'c1')$$,
	$$SELECT submeter.take_emergency_credit(1, 99, 'e2')$$, $$SELECT submeter.take_emergency_credit(1, @B, 'emergency:5')$$, $$SELECT submeter.take_emergency_credit(1, @B, ' ')$$,
	$$SELECT submeter.take_emergency_credit(99, @B, 'e2')$$]) s;
-- A debt of 40 that came from elsewhere: put aside, the balance is as before.
SELECT submeter.adjust(1, :bakery, -40, 'a correction', 'a1') > 0 AS adjusted, submeter.defer_debit(1, :bakery, 40, 'a correction', now()) > 0 AS deferred;
SELECT * FROM pg_temp.purse;
-- 5 and 30: emergency credit first (20 in two steps), then a quarter of the rest for the debt.
SELECT submeter.recharge(1, :bakery, 5, 'cash', 'c2') > 0 AS paid;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT submeter.recharge(1, :bakery, 35.02, 'bank', 'c3') AS third \gset
SELECT submeter.recharge(1, :bakery, 35.02, 'bank', 'c3') = :third AS same;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT kind, debit, credit, amount, method, key FROM pg_temp.book;
-- Taken back: what it had paid is owed again.
SELECT submeter.reverse_movement(1, :third, 'wrong tenant', 'r1') > 0 AS reversed;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT submeter.recharge(1, :bakery, 35.02, 'bank', 'c4') > 0 AS paid;
-- Not more than the account may hold; what goes to the debt does not count.
SELECT pg_temp.refusal(format('SELECT submeter.recharge(1, %s, 632, ''cash'', ''c5'')', :bakery));
SELECT submeter.recharge(1, :bakery, 40, 'cash', 'c5') > 0 AS paid;
SELECT * FROM pg_temp.purse LIMIT 1;
-- Debt is paid from the balance, or at the desk; a tenant cannot say it was paid at the desk.
SELECT submeter.pay_debt(1, :bakery, 6.25, 'd1') AS debt1 \gset
SELECT submeter.pay_debt(1, :bakery, 6.25, 'd1') = :debt1 AS same, submeter.pay_debt(1, :bakery, 1, 'd2', 'cash') > :debt1 AS at_the_desk;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT pg_temp.refusal(replace(s, '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.pay_debt(1, @B, 18.99, 'd3')$$, $$SELECT submeter.pay_debt(1, @B, 0, 'd3')$$, $$SELECT submeter.pay_debt(1, @B, -1, 'd3')$$, $$SELECT submeter.pay_debt(1, @B, 'NaN', 'd3')$$,
	$$SELECT submeter.pay_debt(1, @B, 6, 'd1')$$, $$SELECT submeter.pay_debt(1, 99, 1, 'd3')$$, $$SELECT submeter.pay_debt(1, @B, 1, 'd3', 'By Cheque')$$,
	$$SELECT submeter.write_off(1, @B, 100, 'x', 'w1')$$, $$SELECT submeter.write_off(1, @B, 1, '', 'w1')$$, $$SELECT submeter.write_off(1, @B, 1, 'x', 'debt:1')$$,
	$$SELECT submeter.set_instalments(1, @B, -1)$$, $$SELECT submeter.set_instalments(1, 99, 5)$$, $$SELECT submeter.set_instalments(1, @B, 'NaN')$$]) s;
SELECT submeter.write_off(1, :bakery, 0.74, 'rounding', 'w1') > 0 AS written_off;
SELECT account, debt FROM pg_temp.purse LIMIT 1;
-- By the month: 8 each out of what is available, never below zero; recharges give nothing then.
SELECT submeter.set_instalments(1, :bakery, 8);
SELECT submeter.collect_instalments(1, pg_temp.ts('2025-02-01')) AS february, submeter.collect_instalments(1, pg_temp.ts('2025-02-28')) AS again,
	submeter.collect_instalments(1, pg_temp.ts('2025-01-31')) AS older;
SELECT submeter.adjust(1, :bakery, 3 - submeter.balance(1, :bakery), 'nearly nothing left', 'a2') > 0 AS adjusted;
SELECT submeter.collect_instalments(1, pg_temp.ts('2025-03-01')) AS march;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT submeter.recharge(1, :bakery, 50, 'cash', 'c6') > 0 AS paid, submeter.collect_instalments(1, pg_temp.ts('2025-03-02')) AS the_rest_of_march, submeter.collect_instalments(1, pg_temp.ts('2025-04-01')) AS april,
	submeter.collect_instalments(1, pg_temp.ts('2025-05-01')) AS nothing_left;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT submeter.set_instalments(1, :bakery, NULL);
SELECT count(*) AS plans FROM submeter.debt_plan;

-- 3. Deposits, refunds, transfers

SELECT submeter.take_deposit(1, :bakery, 200, 'bank', 'dep1', 'key money') AS deposit \gset
SELECT submeter.take_deposit(1, :bakery, 200, 'bank', 'dep1') = :deposit AS same, submeter.return_deposit(1, :bakery, 50, 'smaller unit', 'dep2') > :deposit AS returned;
SELECT * FROM pg_temp.purse LIMIT 1;
SELECT pg_temp.refusal(replace(s, '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.take_deposit(1, @B, 100, 'bank', 'dep1')$$, $$SELECT submeter.take_deposit(1, @B, 50, 'bank', 'dep2')$$, $$SELECT submeter.take_deposit(1, @B, 1.005, 'bank', 'dep3')$$,
	$$SELECT submeter.take_deposit(1, @B, 1, NULL, 'dep3')$$, $$SELECT submeter.return_deposit(1, @B, 150.01, 'x', 'dep3')$$, $$SELECT submeter.return_deposit(1, @B, 1, NULL, 'dep3')$$,
	$$SELECT submeter.return_deposit(1, @B, 1, 'x', 'dep3', 'alipay')$$, $$SELECT submeter.return_deposit(1, @B, 200, 'x', 'dep1')$$, $$SELECT submeter.return_deposit(1, 99, 1, 'x', 'dep3')$$]) s;
-- What was paid and how; refunds go back the same ways, the latest first, each a leg.
SELECT method, amount FROM submeter.origins(1, :bakery, 'tenant') ORDER BY 1;
SELECT submeter.adjust(1, :bakery, 300, 'goodwill', 'a3') > 0 AS adjusted;
SELECT submeter.refundable(1, :bakery) AS refundable, submeter.balance(1, :bakery) AS available;
SELECT pg_temp.refusal(replace(s, '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.refund(1, @B, 160.03, 'x', 'f1')$$, $$SELECT submeter.refund(1, @B, 0, 'x', 'f1')$$, $$SELECT submeter.refund(1, @B, -5, 'x', 'f1')$$, $$SELECT submeter.refund(1, @B, 5, '', 'f1')$$,
	$$SELECT submeter.refund(1, @B, 5, 'x', 'c1')$$, $$SELECT submeter.refund(1, @B, 5, 'x', 'f1', 'wechat')$$, $$SELECT submeter.refund(1, @B, 5, 'x', 'f1', '$')$$, $$SELECT submeter.refund(1, 99, 5, 'x', 'f1')$$,
	$$SELECT submeter.refund(2, @B, 5, 'x', 'f1')$$]) s;
SELECT submeter.refund(1, :bakery, 145, 'paid too much', 'f1') AS refund \gset
SELECT submeter.refund(1, :bakery, 145, 'paid too much', 'f1') = :refund AS same;
SELECT leg, method, amount FROM submeter.transfer WHERE transfer_id = :refund ORDER BY leg;
SELECT pg_temp.refusal(format('SELECT submeter.refund(1, %s, 15.03, ''x'', ''f2'')', :bakery)) AS more_than_paid;
SELECT pg_temp.refusal(format('SELECT submeter.refund(1, %s, 145, ''x'', ''f1'', ''cash'')', :bakery)) AS another_way;
-- Between two accounts of one tenant, with where it came from.
SELECT submeter.transfer_balance(1, :bakery, :later, 50, 't1', 'for the shop upstairs') AS moved \gset
SELECT submeter.transfer_balance(1, :bakery, :later, 50, 't1') = :moved AS same;
SELECT leg, account_id = :bakery AS out, method, amount FROM submeter.transfer WHERE transfer_id = :moved ORDER BY leg;
SELECT submeter.refundable(1, :later) AS refundable_there, submeter.refundable(1, :bakery) AS left_here;
SELECT * FROM pg_temp.purse;
SELECT submeter.move_in(1, 2, '{5}', :flat, pg_temp.ts('2025-01-05 00:00'), '{5000}', as_of => pg_temp.ts('2025-01-05 00:00')) AS flat1 \gset
SELECT pg_temp.refusal(replace(replace(replace(s, '@B', :'bakery'), '@L', :'later'), '@C', :'flat1')) FROM unnest(ARRAY[
	$$SELECT submeter.transfer_balance(1, @B, @L, 5000, 't2')$$, $$SELECT submeter.transfer_balance(1, @B, @C, 5, 't2')$$, $$SELECT submeter.transfer_balance(1, @B, @B, 5, 't2')$$,
	$$SELECT submeter.transfer_balance(1, @B, 99, 5, 't2')$$, $$SELECT submeter.transfer_balance(1, NULL, @B, 5, 't2')$$, $$SELECT submeter.transfer_balance(1, @B, @L, 0, 't2')$$,
	$$SELECT submeter.transfer_balance(1, @L, @B, 50, 't1')$$, $$SELECT submeter.transfer_balance(1, @B, @C, 50, 't1')$$, $$SELECT submeter.transfer_balance(1, @B, @L, 51, 't1')$$]) s;
SELECT * FROM submeter.verify_ledger(1);

-- 4. Moving out

-- 100 there, 150 deposited.
SELECT submeter.adjust(1, :bakery, -149, 'as before', 'a4') > 0 AS adjusted, submeter.recharge(1, :bakery, 100, 'cash', 'c7') > 0 AS paid;
SELECT pg_temp.read(3, '2025-01-05 00:00', 30), submeter.settle(1, pg_temp.ts('2025-01-05'));
SELECT pg_temp.refusal(replace(s, '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.move_out(1, @B, NULL)$$, $$SELECT submeter.move_out(1, @B, '-infinity')$$, $$SELECT submeter.move_out(1, 99, '2025-01-06')$$, $$SELECT submeter.move_out(2, @B, '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-01 03:00+00', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m9":5}', as_of => '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m1":1.5}', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m1":"many"}', as_of => '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-06', '[5]', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m1":37000}', as_of => '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m1":-1}', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', '{"m1":50000}', as_of => '2025-01-05')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-03 04:00+00', '{"m1":39000}', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', NULL, 'alipay', as_of => '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-06', NULL, 'By Cheque', as_of => '2025-01-06')$$, $$SELECT submeter.move_out(1, @B, '2025-01-06', reason => '', as_of => '2025-01-06')$$,
	$$SELECT submeter.move_out(1, @B, '2025-01-06', meter_ids => '{5}', as_of => '2025-01-06')$$]) s;
SELECT * FROM pg_temp.purse;
-- One unit is given back first; its meter is to be read. Then all is given back with registers, and waits for that reading too.
SELECT submeter.move_out(1, :bakery, pg_temp.ts('2025-01-05 12:00'), meter_ids => '{2}', as_of => pg_temp.ts('2025-01-05 12:00')) AS unit \gset
SELECT submeter.move_out(1, :bakery, pg_temp.ts('2025-01-06 12:00'), '{"m1":48000,"m3":33000}', 'origin', 'lease over', as_of => pg_temp.ts('2025-01-06 12:00')) AS left \gset
SELECT o.at, o.closes, o.meter_ids, o.state, o.estimated, o.balance, o.refunded, o.debt, o.finished_at FROM submeter.move_out o ORDER BY move_out_id;
SELECT meter_id, reason FROM submeter.read_request ORDER BY 1;
SELECT * FROM pg_temp.purse;
SELECT kind, debit, credit, amount, method, note FROM pg_temp.book WHERE note = 'lease over';
SELECT * FROM pg_temp.fed;
-- Breakers are to be opened as vacant; a close that waited is overtaken. m2 was open.
SELECT meter_id, cause, reason FROM submeter.open_cause ORDER BY 1, 2;
SELECT meter_id, action, cause, state FROM submeter.command ORDER BY command_id;
SELECT submeter.move_out(1, :bakery, pg_temp.ts('2025-01-06 12:00'), as_of => pg_temp.ts('2025-01-06 12:30')) = :left AS same, submeter.run_moves(1, pg_temp.ts('2025-01-06 13:00')) AS not_yet;
-- 10 kWh of m1 since, 3 of the tiered m3, 4/5 of one of m2: 100 - 10 - 1.50 - 0.79 and the deposit go back the way they came, the latest first.
SELECT pg_temp.read(2, '2025-01-06 13:00', 21), submeter.run_moves(1, pg_temp.ts('2025-01-06 13:01')) AS done;
SELECT o.at, o.closes, o.meter_ids, o.state, o.estimated, o.balance, o.refunded, o.debt, o.finished_at FROM submeter.move_out o ORDER BY move_out_id;
SELECT kind, debit, credit, amount, method, note FROM pg_temp.book WHERE note = 'lease over';
SELECT * FROM pg_temp.purse;
-- All of it is known to a second call, and there is nothing to do with a closed account.
SELECT submeter.move_out(1, :bakery, pg_temp.ts('2025-01-06 12:00'), as_of => pg_temp.ts('2025-01-07')) = :left AS same;
SELECT pg_temp.refusal(replace(s, '@B', :'bakery')) FROM unnest(ARRAY[
	$$SELECT submeter.move_out(1, @B, '2025-01-08')$$, $$SELECT submeter.recharge(1, @B, 5, 'cash', 'c8')$$, $$SELECT submeter.take_deposit(1, @B, 5, 'cash', 'c8')$$,
	$$SELECT submeter.take_emergency_credit(1, @B, 'c8')$$, $$SELECT submeter.refund(1, @B, 1, 'x', 'c8')$$, $$SELECT submeter.return_deposit(1, @B, 1, 'x', 'c8')$$, $$SELECT submeter.pay_debt(1, @B, 1, 'c8', 'cash')$$,
	format($$SELECT submeter.transfer_balance(1, %s, @B, 1, 'c8')$$, :later), $$SELECT submeter.move_in(1, 1, '{9}', 1, '2025-01-10', account_id => @B)$$]) s;

-- Given back without a register, debt left behind, and the next tenant at the same instant.
SELECT submeter.recharge(1, :flat1, 10, 'cash', 'ch1') > 0 AS paid, submeter.take_deposit(1, :flat1, 15, 'cash', 'ch2') > 0 AS deposited;
SELECT submeter.take_emergency_credit(1, :flat1, 'ch3') > 0 AS emergency FROM (SELECT pg_temp.read(5, '2025-01-10 00:00', 15), submeter.settle(1, pg_temp.ts('2025-01-10'))) x;
INSERT INTO submeter.open_cause (site_id, meter_id, cause, reason) VALUES (1, 5, 'arrears', 'as if cut');
SELECT submeter.move_out(1, :flat1, pg_temp.ts('2025-01-12 00:00'), NULL, 'cash', as_of => pg_temp.ts('2025-01-12 00:01')) AS flat1s \gset
SELECT state, waiting_since FROM submeter.move_out WHERE move_out_id = :flat1s;
SELECT pg_temp.refusal(format('SELECT submeter.move_out(1, %s, ''2025-01-13'', as_of => ''2025-01-14'')', :flat1)) AS at_another_time;
SELECT submeter.move_in(1, 3, '{5}', :tiers, pg_temp.ts('2025-01-12 00:00'), as_of => pg_temp.ts('2025-01-12 00:02')) AS flat2 \gset
SELECT meter_id, cause FROM submeter.open_cause WHERE meter_id = 5;
-- One reading a day later settles both, each for their time: 25 kWh of Chen until the 12th, half of the rest.
SELECT pg_temp.read(5, '2025-01-14 00:00', 55), submeter.run_moves(1, pg_temp.ts('2025-01-14 00:01')) AS done, submeter.settle(1, pg_temp.ts('2025-01-14 00:01'));
SELECT * FROM pg_temp.purse;
SELECT kind, debit, credit, amount, method, note FROM pg_temp.book WHERE nth > (SELECT max(nth) FROM pg_temp.book WHERE key = 'chN') AND (debit || credit) ~ ':3';
SELECT a.code, p.kind, p.amount, p.source, p.state FROM submeter.proposal p JOIN submeter.account a USING (site_id, account_id) ORDER BY proposal_id;
-- The debt is the person's: paid at the desk, and the proposal is done with it.
SELECT submeter.pay_debt(1, :flat1, (SELECT b.debt FROM submeter.account_balance b WHERE b.account_id = :flat1), 'ch4', 'cash') > 0 AS paid;
SELECT kind, state, decided_by IS NOT NULL AS decided FROM submeter.proposal;

-- A stall until a date: it moves out by itself. No reading comes: settled on an estimate after the delay of the site, marked.
SELECT submeter.move_in(1, 4, '{6}', :flat, pg_temp.ts('2025-01-10 08:00'), '{0}', until => pg_temp.ts('2025-01-20 08:00'), as_of => pg_temp.ts('2025-01-10 08:00')) AS stall \gset
SELECT submeter.recharge(1, :stall, 300, 'wechat', 's1') > 0 AS paid;
SELECT pg_temp.read(6, '2025-01-13 08:00', 30), submeter.settle(1, pg_temp.ts('2025-01-14'));
SELECT submeter.run_moves(1, pg_temp.ts('2025-01-20 07:59')) AS early, submeter.run_moves(1, pg_temp.ts('2025-01-20 08:00')) AS begun;
SELECT at, state, waiting_since FROM submeter.move_out WHERE account_id = :stall;
SELECT submeter.run_moves(1, pg_temp.ts('2025-01-23 07:59')) AS waiting, submeter.run_moves(1, pg_temp.ts('2025-01-23 08:00')) AS done;
SELECT state, estimated FROM submeter.move_out WHERE account_id = :stall;
SELECT meter_id, ts, energy_wh, reason FROM submeter.register_estimate;
SELECT account_id = :stall AS stall, kind, amount, state FROM submeter.proposal ORDER BY proposal_id DESC LIMIT 1;
-- Paid out by a person, and the proposal is done; another one is dismissed.
SELECT pg_temp.refusal('SELECT submeter.dismiss_proposal(1, 999, ''x'')'), pg_temp.refusal('SELECT submeter.dismiss_proposal(1, NULL, ''x'')'), pg_temp.refusal('SELECT submeter.dismiss_proposal(1, 1, NULL)');
SELECT submeter.refund(1, :stall, (SELECT p.amount FROM submeter.proposal p WHERE p.account_id = :stall AND p.kind = 'refund'), 'as proposed', 's2') > 0 AS refunded;
SELECT kind, state, reason FROM submeter.proposal WHERE account_id = :stall;
INSERT INTO submeter.proposal (site_id, account_id, kind, amount, source, dedupe_key) VALUES (1, :stall, 'debt', 3, 'adjustment', 'x');
SELECT submeter.dismiss_proposal(1, max(proposal_id), 'not worth a letter') FROM submeter.proposal;
SELECT kind, state, reason FROM submeter.proposal WHERE account_id = :stall ORDER BY proposal_id;
SELECT * FROM submeter.verify_ledger(1);

-- 5. A new meter

-- Li's m5 becomes m7 behind the same transformers: registers as read, the tier position goes on, the breaker's causes go along.
INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, multiplier, rated_current_a, reason) VALUES (1, 5, '2025-01-14 00:00+08', 10, 1000, 'transformers 50/5');
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a, parent_meter_id) VALUES (1, 3, 1000, 5);
UPDATE submeter.meter SET protection = 'protected' WHERE meter_id = 5;
INSERT INTO submeter.open_cause (site_id, meter_id, cause, reason) VALUES (1, 5, 'operator', 'wiring'), (1, 5, 'lockout', 'tag 7');
DELETE FROM submeter.meter_setup WHERE meter_id = 7;
SELECT pg_temp.read(5, '2025-01-16 00:00', 63), submeter.settle(1, pg_temp.ts('2025-01-16'));
SELECT energy_wh, rounded FROM submeter.charge WHERE account_id = :flat2;
SELECT pg_temp.refusal(s) FROM unnest(ARRAY[
	$$SELECT submeter.replace_meter(1, 5, 5, '2025-01-17', 0, 'x')$$, $$SELECT submeter.replace_meter(1, 5, 7, '2025-01-17', NULL, 'x')$$, $$SELECT submeter.replace_meter(1, 5, 7, NULL, 0, 'x')$$,
	$$SELECT submeter.replace_meter(1, 5, 7, '2025-01-17', 0, ' ')$$, $$SELECT submeter.replace_meter(1, 5, 7, '2025-01-17', -1, 'x')$$, $$SELECT submeter.replace_meter(1, 5, 99, '2025-01-17', 0, 'x')$$,
	$$SELECT submeter.replace_meter(1, 99, 7, '2025-01-17', 0, 'x')$$, $$SELECT submeter.replace_meter(1, NULL, 7, '2025-01-17', 0, 'x')$$, $$SELECT submeter.replace_meter(2, 5, 7, '2025-01-17', 0, 'x')$$,
	$$SELECT submeter.replace_meter(1, 5, 4, '2025-01-17', 0, 'x')$$, $$SELECT submeter.replace_meter(1, 5, 7, '2025-01-17', 0, 'x', 62000)$$,
	$$SELECT submeter.replace_meter(1, 5, 7, '2025-01-17', 0, 'x', as_of => '2025-01-16')$$]) s;
SELECT submeter.replace_meter(1, 5, 7, pg_temp.ts('2025-01-17 00:00'), 500, 'display dead', 64000, pg_temp.ts('2025-01-17 01:00'));
SELECT submeter.replace_meter(1, 5, 7, pg_temp.ts('2025-01-17 00:00'), 500, 'display dead', 64000, pg_temp.ts('2025-01-17 02:00'));
SELECT * FROM pg_temp.fed WHERE account = 'flat2';
SELECT meter_id, valid_from, multiplier, parent_meter_id, reason FROM submeter.meter_setup WHERE meter_id IN (3, 7) ORDER BY 1, 2, entered_at;
SELECT meter_id, protection, retired_at FROM submeter.meter WHERE meter_id IN (5, 7) ORDER BY 1;
SELECT meter_id, cause, reason FROM submeter.open_cause WHERE meter_id IN (5, 7) ORDER BY 1, 2;
SELECT meter_id, action, cause, state FROM submeter.command WHERE meter_id IN (5, 7);
-- 20 kWh, 80 and 10 by the old meter, 40 by the new one: 100 at 0.5 and 50 at 1.
SELECT pg_temp.read(7, '2025-01-19 00:00', 4.5), submeter.settle(1, pg_temp.ts('2025-01-19'));
SELECT energy_wh, tier_wh, rounded FROM submeter.charge WHERE account_id = :flat2;
SELECT pg_temp.refusal($$SELECT submeter.replace_meter(1, 5, 8, '2025-01-20', 0, 'x')$$), pg_temp.refusal($$SELECT submeter.replace_meter(1, 8, 5, '2025-01-20', 0, 'x')$$);
-- One that died without a last word: what it would have counted is assumed, and marked.
SELECT submeter.replace_meter(1, 7, 8, pg_temp.ts('2025-01-20 00:00'), 0, 'burnt', NULL, pg_temp.ts('2025-01-20 01:00'));
SELECT meter_id, ts, energy_wh, reason FROM submeter.register_estimate WHERE meter_id = 7;
SELECT * FROM pg_temp.fed WHERE account = 'flat2';
SELECT * FROM submeter.verify_ledger(1);

-- 6. Plans that change

SELECT submeter.move_in(1, 4, '{6}', :flat, pg_temp.ts('2025-02-01 00:00'), code => 'fair', until => pg_temp.ts('2025-02-10 00:00'), as_of => pg_temp.ts('2025-01-25')) AS fair \gset
SELECT meter_id, cause FROM submeter.open_cause WHERE meter_id = 6;
-- The breaker is closed when the tenancy begins, not when it is booked.
SELECT submeter.run_moves(1, pg_temp.ts('2025-01-31 23:59')) AS early, submeter.run_moves(1, pg_temp.ts('2025-02-01 00:00')) AS begun;
SELECT meter_id, cause FROM submeter.open_cause WHERE meter_id = 6;
-- Longer, if nobody is in the way; then shorter.
SELECT submeter.move_in(1, 2, '{6}', :flat, pg_temp.ts('2025-02-20 00:00'), code => 'next', as_of => pg_temp.ts('2025-02-02')) > 0 AS next;
SELECT pg_temp.refusal(format($$SELECT submeter.move_out(1, %s, '2025-02-21', as_of => '2025-02-02')$$, :fair));
SELECT submeter.move_out(1, :fair, pg_temp.ts('2025-02-20 00:00'), reason => 'stays longer', as_of => pg_temp.ts('2025-02-02')) > 0 AS longer;
SELECT submeter.move_out(1, :fair, pg_temp.ts('2025-02-05 00:00'), reason => 'leaves early', as_of => pg_temp.ts('2025-02-03')) > 0 AS shorter;
SELECT at, state, reason FROM submeter.move_out WHERE account_id = :fair ORDER BY move_out_id;
SELECT * FROM pg_temp.fed WHERE meter = 'm6';
SELECT pg_temp.refusal(format($$SELECT submeter.move_in(1, 4, '{9}', %s, '2025-02-06', account_id => %s)$$, :flat, :fair)) AS into_a_leaving_account;
SELECT pg_temp.read(6, '2025-02-05 00:00', 90), submeter.run_moves(1, pg_temp.ts('2025-02-05 00:00')) AS done;
SELECT state FROM submeter.account WHERE account_id = :fair;

-- 7. Every account at any past instant

SELECT clock_timestamp() AS t1 \gset
SELECT submeter.recharge(1, :later, 7, 'cash', 'b1') > 0 AS paid, submeter.take_deposit(1, :later, 9, 'cash', 'b2') > 0 AS deposited;
SELECT b.account, b.posted, b.accrued, b.available, b.debt, b.emergency, b.deposit FROM submeter.balances_at(1, :'t1') b;
SELECT b.account, a.posted = b.posted AND a.accrued = b.accrued AND a.available = b.available AND (a.debt, a.emergency, a.deposit) = (b.debt, b.emergency, b.deposit) AS same
FROM submeter.account_balance a JOIN submeter.balances_at(1, clock_timestamp()) b USING (account_id);
SELECT submeter.balance(1, :later, :'t1') AS before, submeter.balance(1, :later) AS now;
SELECT count(*) AS before_everything FROM submeter.balances_at(1, '2020-01-01');
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['SELECT submeter.balances_at(1, NULL)', 'SELECT submeter.balances_at(99, now())', 'SELECT submeter.balances_at(NULL, now())']) s;

-- 8. Postpaid accounts are never cut by the policy, however much they owe

INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, 1, 'owner'), (1, 3, 'owner');
SELECT submeter.adjust(1, :later, -500, 'much', 'pp1') > 0 AS owes;
SELECT submeter.apply_policy(1, pg_temp.ts('2025-02-06')) > 0 AS decided;
SELECT a.code, a.mode, d.action, d.reason FROM submeter.account_state t JOIN submeter.account a USING (site_id, account_id) JOIN submeter.decision d ON d.site_id = t.site_id AND d.decision_id = t.last_decision_id
WHERE a.account_id IN (:later, :flat2) ORDER BY 1;

-- 9. Left long ago: cycles that were billed since are adjusted before the account is closed

SELECT submeter.create_tariff(1, 'service', '{"energy":[{"price":1}],"fees":[{"name":"service","per":"month","amount":31,"prorate":true}]}', '2025-01-01 00:00+08') AS service \gset
SELECT submeter.move_in(1, 4, '{2}', :service, pg_temp.ts('2025-03-01'), '{21000}', code => 'gone', as_of => pg_temp.ts('2025-03-01')) AS gone \gset
SELECT submeter.recharge(1, :gone, 400, 'bank', 'g1') > 0 AS paid, pg_temp.read(2, '2025-04-01', 52), pg_temp.read(2, '2025-05-01', 82), submeter.settle(1, pg_temp.ts('2025-05-02'));
SELECT submeter.close_due(1, pg_temp.ts('2025-05-01'), pg_temp.ts('2025-05-05')) > 0 AS billed;
SELECT available FROM pg_temp.purse WHERE account = 'gone';
SELECT submeter.move_out(1, :gone, pg_temp.ts('2025-03-21'), NULL, 'origin', 'had left in March', as_of => pg_temp.ts('2025-05-05')) > 0 AS left;
-- 20 days: 20 kWh and 20/31 of the fee are 40; all of April comes back.
SELECT cycle_start, energy_wh, rounded, billed, adjusted FROM submeter.charge WHERE account_id = :gone ORDER BY 1;
SELECT state, balance, refunded, debt FROM submeter.move_out WHERE account_id = :gone;
SELECT * FROM pg_temp.purse WHERE account = 'gone';
SELECT * FROM submeter.verify_ledger(1);
