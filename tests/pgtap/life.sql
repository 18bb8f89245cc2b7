-- A property lives through hundreds of random events: tenants come and go, pay, get refunds, take credit, meters are exchanged,
-- what was believed is corrected, cycles are closed. Whatever happens the books are right, nothing is refused but for a
-- reason, a dry run says what then happens, no correction lets a prepaid balance fall, and who has left is owed or owes
-- exactly what is on record.
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
BEGIN;
SELECT plan(15);
SELECT setseed(0.31);

INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall');
SELECT submeter.create_partitions('2024-12-01', '2025-08-01') > 0 AS partitions;
UPDATE submeter.site SET close_delay = '2 days';
UPDATE submeter.credit_policy SET emergency_credit = 30, emergency_below = 20, debt_share = 0.3, max_balance = 3000;
INSERT INTO submeter.recharge_fee (site_id, method, valid_from, rate, fixed, at_least, at_most, reason) VALUES (1, 'bank', '2020-01-01', 0.006, 0.1, 0.5, 1, 'x'), (1, 'alipay', '2020-01-01', 0.0055, 0, 0, NULL, 'x');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, n, 't' || n, 'Tenant ' || n FROM generate_series(1, 5) n;
INSERT INTO submeter.meter (site_id, meter_id, code, model) SELECT 1, n, 'm' || n, 'DDS238-2 ZN/SR' FROM generate_series(1, 60) n;
INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) SELECT 1, n, 1000 FROM generate_series(1, 60) n;
SELECT submeter.create_tariff(1, 'tiers', '{"tiers":{"bounds":[{"upto_kwh":[50,120]}]},"energy":[{"tier":1,"price":0.5},{"tier":2,"price":0.8},{"price":1.3}],"fees":[{"name":"service","per":"month","amount":6,"prorate":true}]}', '2024-12-01') AS tiers,
	submeter.create_tariff(1, 'times', '{"periods":[{"name":"peak","windows":[{"from":"09:00","to":"21:00"}]},{"name":"flat"}],"energy":[{"period":"peak","price":1.1},{"price":0.4}],"minimum":5}', '2024-12-01') AS times;

-- The meters in the cabinet: the first six are in use, the others replace them. What each shows is known here alone.
CREATE TEMP TABLE cabinet (meter_id bigint PRIMARY KEY, register_wh bigint NOT NULL DEFAULT 0, alive boolean NOT NULL DEFAULT true, in_use boolean NOT NULL);
INSERT INTO cabinet SELECT n, 0, true, n <= 6 FROM generate_series(1, 60) n;
CREATE TEMP TABLE late (ts timestamptz, meter_id bigint, wh bigint);
CREATE TEMP TABLE happened (event text, outcome text, message text);
CREATE TEMP TABLE broken (step int, what text);

CREATE FUNCTION pg_temp.one(list bigint[]) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT list[1 + floor(random() * cardinality(list))::int] $$;
CREATE FUNCTION pg_temp.open_account() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT pg_temp.one(array_agg(account_id ORDER BY account_id)) FROM submeter.account WHERE state = 'open' $$;
CREATE FUNCTION pg_temp.any_account() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT pg_temp.one(array_agg(account_id ORDER BY account_id)) FROM submeter.account $$;
CREATE FUNCTION pg_temp.who_owes() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT coalesce(pg_temp.one(array_agg(account_id ORDER BY account_id)), pg_temp.any_account()) FROM submeter.account_balance WHERE debt > 0 $$;
CREATE FUNCTION pg_temp.any_meter() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT pg_temp.one(array_agg(meter_id ORDER BY meter_id)) FROM cabinet WHERE in_use $$;
CREATE FUNCTION pg_temp.money(most numeric) RETURNS numeric LANGUAGE sql VOLATILE AS $$ SELECT round((random() * most)::numeric, 2) + 0.01 $$;

-- Some hours pass: the meters count, and most of what they show arrives, some of it days later, some never.
CREATE FUNCTION pg_temp.pass(at timestamptz, hours int) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	UPDATE cabinet SET register_wh = register_wh + floor(random() * 1500 * hours)::bigint WHERE in_use;
	INSERT INTO late SELECT at, meter_id, register_wh FROM cabinet WHERE in_use AND alive AND random() < 0.9;
	PERFORM submeter.ingest(1, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', l.meter_id, 'ts', l.ts, 'energy_wh', l.wh)) ORDER BY random()))
	FROM late l WHERE l.ts < at - interval '4 days' OR l.meter_id % 3 <> extract(day FROM at)::int % 3
	HAVING count(*) > 0;
	DELETE FROM late l WHERE l.ts < at - interval '4 days' OR l.meter_id % 3 <> extract(day FROM at)::int % 3;
END
$$;

-- A correction of something: dry run, the real one, and the balances of prepaid accounts before and after.
CREATE FUNCTION pg_temp.correct(at timestamptz, step int) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	meter bigint := pg_temp.any_meter();
	other bigint := pg_temp.any_meter();
	since timestamptz := date_trunc('day', at - random() * interval '45 days');
	-- A quarter, so that a value comes back now and then.
	factor numeric := (ARRAY[1, 2, 5])[1 + floor(random() * 3)::int];
	price numeric := round(0.5 + random()::numeric, 4);
	call text;
	dry jsonb;
	real jsonb;
	fell text;
BEGIN
	call := CASE floor(random() * 4)::int
		WHEN 0 THEN format('submeter.correct_setup(1, %s, %L, ''s%s'', DRY, %s, as_of => %L)', meter, since, step, factor, at)
		WHEN 1 THEN format('submeter.correct_supply(1, %s, %s, %L, ''s%s'', DRY, as_of => %L)', meter, other, since, step, at)
		WHEN 2 THEN format('submeter.correct_tariff(1, ''times'', %L, %L, ''s%s'', DRY, as_of => %L)',
			jsonb_build_object('energy', jsonb_build_array(jsonb_build_object('price', price))), since, step, at)
		ELSE (SELECT format('submeter.judge_reading(1, %s, %L, ''replace'', ''s%s'', %s, DRY, as_of => %L)', r.meter_id, r.ts, step, r.energy_wh + floor(random() * 4000)::bigint, at)
			FROM submeter.reading r WHERE r.meter_id = meter AND r.energy_wh IS NOT NULL ORDER BY random() LIMIT 1) END;
	IF call IS NULL THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT jsonb_agg(to_jsonb(x) - ''state'' ORDER BY account_id, cycle_start) FROM %s x', replace(call, 'DRY', 'true')) INTO dry;
	CREATE TEMP TABLE purse AS SELECT b.account_id, b.available FROM submeter.account_balance b WHERE b.state = 'open' AND b.mode = 'prepaid';
	EXECUTE format('SELECT jsonb_agg(to_jsonb(x) - ''state'' ORDER BY account_id, cycle_start) FROM %s x', replace(call, 'DRY', 'false')) INTO real;
	IF dry IS DISTINCT FROM real THEN
		INSERT INTO broken VALUES (step, format('dry run of %s said %s and came to %s', call, dry, real));
	END IF;
	SELECT string_agg(format('account %s from %s to %s', p.account_id, p.available, b.available), ', ') INTO fell
	FROM purse p JOIN submeter.account_balance b ON b.account_id = p.account_id WHERE b.available < p.available;
	DROP TABLE purse;
	IF fell IS NOT NULL THEN
		INSERT INTO broken VALUES (step, format('%s let balances fall: %s', call, fell));
	END IF;
END
$$;

CREATE FUNCTION pg_temp.event(step int, at timestamptz) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	kind text := (ARRAY['move_in', 'move_in', 'move_in', 'move_out', 'move_out', 'part', 'plan', 'recharge', 'recharge', 'recharge', 'recharge', 'refund', 'refund', 'emergency', 'emergency',
		'deposit', 'deposit', 'return', 'transfer', 'reverse', 'debt', 'desk', 'instalments', 'writeoff', 'adjust', 'replace', 'correct', 'correct', 'correct', 'post', 'settle', 'close'])[1 + floor(random() * 32)::int];
	a bigint := pg_temp.open_account();
	b bigint := pg_temp.any_account();
	m bigint := pg_temp.any_meter();
	n bigint;
BEGIN
	CASE kind
		WHEN 'move_in' THEN
			PERFORM submeter.move_in(1, 1 + floor(random() * 5)::int, ARRAY[m], (SELECT pg_temp.one(array_agg(tariff_id ORDER BY tariff_id)) FROM submeter.tariff), at - floor(random() * 3) * interval '1 day',
				until => CASE WHEN random() < 0.2 THEN at + interval '12 days' END, mode => CASE WHEN random() < 0.1 THEN 'postpaid' ELSE 'prepaid' END,
				account_id => CASE WHEN random() < 0.3 THEN a END, as_of => at);
		WHEN 'move_out' THEN
			PERFORM submeter.move_out(1, a, at - floor(random() * 20) * interval '1 day', CASE WHEN random() < 0.3 THEN (
				SELECT jsonb_object_agg(x.code, c.register_wh) FROM submeter.supply y JOIN submeter.meter x USING (site_id, meter_id) JOIN cabinet c USING (meter_id) WHERE y.account_id = a) END,
				(ARRAY['origin', 'cash', NULL])[1 + floor(random() * 3)::int], as_of => at);
		WHEN 'part' THEN PERFORM submeter.move_out(1, a, at, meter_ids => ARRAY[m], as_of => at);
		WHEN 'plan' THEN PERFORM submeter.move_out(1, a, at + interval '9 days', NULL, 'origin', as_of => at);
		WHEN 'recharge' THEN PERFORM submeter.recharge(1, CASE WHEN random() < 0.9 THEN a ELSE b END, pg_temp.money(250), (ARRAY['cash', 'bank', 'alipay'])[1 + floor(random() * 3)::int], 'k' || step);
		WHEN 'refund' THEN PERFORM submeter.refund(1, b, least(pg_temp.money(80), greatest(submeter.refundable(1, b), 0.01)), 'asked', 'k' || step);
		WHEN 'emergency' THEN PERFORM submeter.take_emergency_credit(1, a, 'k' || step);
		WHEN 'deposit' THEN PERFORM submeter.take_deposit(1, a, pg_temp.money(100), 'bank', 'k' || step);
		WHEN 'return' THEN PERFORM submeter.return_deposit(1, b, pg_temp.money(50), 'asked', 'k' || step);
		WHEN 'transfer' THEN
			SELECT y.account_id, x.account_id INTO b, a
			FROM submeter.account_balance y
			JOIN submeter.account z ON z.account_id = y.account_id
			JOIN submeter.account x ON x.tenant_id = z.tenant_id AND x.account_id <> z.account_id AND x.state = 'open'
			WHERE y.available > 5 ORDER BY random() LIMIT 1;
			PERFORM submeter.transfer_balance(1, b, a, pg_temp.money(8), 'k' || step);
		WHEN 'reverse' THEN
			SELECT transfer_id INTO n FROM submeter.transfer t WHERE t.kind IN ('recharge', 'adjustment') AND t.cycle_start IS NULL ORDER BY random() LIMIT 1;
			PERFORM submeter.reverse_movement(1, n, 'by mistake', 'k' || step);
		WHEN 'debt' THEN PERFORM submeter.pay_debt(1, pg_temp.who_owes(), pg_temp.money(5), 'k' || step);
		WHEN 'desk' THEN PERFORM submeter.pay_debt(1, pg_temp.who_owes(), pg_temp.money(20), 'k' || step, 'cash');
		WHEN 'instalments' THEN PERFORM submeter.set_instalments(1, a, CASE WHEN random() < 0.7 THEN pg_temp.money(15) END);
		WHEN 'writeoff' THEN PERFORM submeter.write_off(1, pg_temp.who_owes(), pg_temp.money(5), 'no use', 'k' || step);
		WHEN 'adjust' THEN PERFORM submeter.adjust(1, a, pg_temp.money(20) - 10.005 + 0.005, 'goodwill', 'k' || step);
		WHEN 'replace' THEN
			SELECT min(c.meter_id) INTO n FROM cabinet c WHERE NOT c.in_use AND c.alive AND c.register_wh = 0;
			PERFORM submeter.replace_meter(1, m, n, at, 0, 'worn', CASE WHEN random() < 0.5 THEN (SELECT register_wh FROM cabinet WHERE meter_id = m) END, at);
			UPDATE cabinet SET in_use = meter_id = n, alive = meter_id = n WHERE meter_id IN (m, n);
			DELETE FROM late WHERE meter_id = m AND random() < 0.5;
		WHEN 'correct' THEN PERFORM pg_temp.correct(at, step);
		WHEN 'post' THEN PERFORM submeter.post_charges(1, at);
		WHEN 'settle' THEN PERFORM submeter.settle(1, at);
		WHEN 'close' THEN PERFORM submeter.close_due(1, date_trunc('month', at), at);
	END CASE;
	INSERT INTO happened VALUES (kind, 'done', NULL);
EXCEPTION WHEN OTHERS THEN
	INSERT INTO happened VALUES (kind, SQLSTATE, SQLERRM);
END
$$;

DO $$
DECLARE
	at timestamptz := '2025-01-01';
	hours int;
	step int := 0;
BEGIN
	PERFORM pg_temp.pass(at, 0);
	FOR n IN 1 .. 5 LOOP
		PERFORM submeter.move_in(1, n, ARRAY[n], (SELECT min(tariff_id) + n % 2 FROM submeter.tariff), at, as_of => at);
	END LOOP;
	WHILE at < '2025-05-01' LOOP
		hours := 3 + floor(random() * 16)::int;
		at := at + hours * interval '1 hour';
		PERFORM pg_temp.pass(at, hours);
		FOR i IN 1 .. 3 LOOP
			step := step + 1;
			PERFORM pg_temp.event(step, at);
		END LOOP;
		IF random() < 0.5 THEN
			PERFORM submeter.run_moves(1, at);
			PERFORM submeter.collect_instalments(1, at);
		END IF;
		IF step % 45 = 0 THEN
			INSERT INTO broken SELECT step, v.problem || ' ' || concat_ws(' ', v.account_id, v.transfer_id, v.expected, v.found) FROM submeter.verify_ledger(1) v;
		END IF;
	END LOOP;
	-- In the end everything that is late arrives, and everything is settled and closed.
	PERFORM submeter.ingest(1, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', l.meter_id, 'ts', l.ts, 'energy_wh', l.wh)))) FROM late l HAVING count(*) > 0;
	PERFORM submeter.settle(1, at + interval '5 days');
	PERFORM submeter.run_moves(1, at + interval '5 days');
	PERFORM submeter.close_due(1, '2025-05-01', at + interval '5 days');
	PERFORM submeter.post_charges(1, at + interval '5 days');
	PERFORM submeter.post_adjustments(1, at + interval '5 days');
	PERFORM submeter.run_moves(1, at + interval '6 days');
END
$$;

SELECT diag(string_agg(format('%s %s %s %s', h.event, h.outcome, h.n, h.message), E'\n' ORDER BY h.event, h.outcome)) FROM (SELECT event, outcome, count(*) AS n, left(min(message), 90) AS message FROM happened GROUP BY 1, 2) h;
SELECT cmp_ok((SELECT count(*) FROM happened WHERE outcome = 'done'), '>', 400::bigint, 'most events happen');
SELECT is((SELECT count(DISTINCT event) FROM happened WHERE outcome = 'done'), (SELECT count(DISTINCT event) FROM happened), 'each kind of them does');
SELECT is_empty($$SELECT event, outcome, message FROM happened WHERE outcome NOT IN ('done', '22023', '55000', 'P0002', '23505')$$, 'what does not was refused for a reason');
SELECT is_empty($$SELECT * FROM broken$$, 'the books were right all the time, dry runs told the truth, and no correction let a prepaid balance fall');
SELECT is_empty($$SELECT * FROM submeter.verify_ledger(1)$$, 'the books are right in the end');
SELECT is_empty($$SELECT * FROM submeter.move_out WHERE error IS NOT NULL OR state IN ('planned', 'waiting') AND at < '2025-05-01'$$, 'nobody is stuck on the way out');
SELECT cmp_ok((SELECT count(*) FROM submeter.account WHERE state = 'closed'), '>', 8::bigint, 'many have left');
SELECT is_empty($$SELECT account, available, emergency, deposit FROM submeter.account_balance WHERE state = 'closed' AND (available < 0 OR emergency <> 0 OR available > 0 AND debt > 0)$$,
	'who has left owes debt or has a credit, and nothing else');
SELECT is_empty($$SELECT y.* FROM submeter.supply y JOIN submeter.account a USING (site_id, account_id) WHERE a.state = 'closed' AND (upper_inf(y.during) OR upper(y.during) > a.closed_at)$$, 'and is fed no more');
SELECT is_empty($$SELECT m.code FROM submeter.meter m JOIN submeter.supply y USING (site_id, meter_id) WHERE m.retired_at < coalesce(upper(y.during), 'infinity')$$, 'no retired meter feeds anybody');
SELECT is_empty($$SELECT o.move_out_id, o.refunded, t.amount FROM submeter.move_out o
	LEFT JOIN (SELECT idempotency_key, sum(amount) AS amount FROM submeter.transfer WHERE kind = 'refund' GROUP BY 1) t ON t.idempotency_key = 'move_out:' || o.move_out_id
	WHERE coalesce(o.refunded, 0) <> coalesce(t.amount, 0)$$, 'what a move-out says was refunded is in the ledger');
SELECT is((SELECT sum(b.available - b.debt - b.emergency + b.deposit) FROM submeter.account_balance b),
	(SELECT sum(CASE WHEN l.account_id IS NOT NULL THEN l.total END) FROM submeter.ledger_account l)
	- (SELECT coalesce(sum(c.rounded - c.posted - c.adjusted), 0) FROM submeter.charge c), 'all balances together are what the ledger holds for the tenants');
-- What everybody paid in, less what was paid out, is there: as balance, or it was used, given or written off.
SELECT is((SELECT sum(CASE WHEN l.kind = 'clearing' THEN CASE WHEN t.debit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END END) FROM submeter.transfer t JOIN submeter.ledger_account l ON l.ledger_account_id IN (t.debit_id, t.credit_id)),
	(SELECT sum(total) FROM submeter.ledger_account WHERE account_id IS NOT NULL)
	+ (SELECT sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END) FROM submeter.transfer t JOIN submeter.ledger_account l ON l.ledger_account_id IN (t.debit_id, t.credit_id) AND l.kind IN ('revenue', 'adjustment')),
	'every cent that was paid is on record');
SELECT is((SELECT sum(fee) FROM submeter.recharge_statement), (SELECT sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END) FROM submeter.transfer t
	JOIN submeter.ledger_account l ON l.ledger_account_id IN (t.debit_id, t.credit_id) WHERE l.code = 'service_fee'), 'fees of recharges that stand are income');
SELECT is_empty($$SELECT b.account, b.posted FROM submeter.account_balance b WHERE b.posted <> coalesce((SELECT sum(r.amount) FROM submeter.recharge_statement r WHERE r.account_id = b.account_id), 0)
	- coalesce((SELECT sum(c.posted) FROM submeter.charge_statement c WHERE c.account_id = b.account_id), 0)$$, 'and no part of any balance: statements of money and of charges add up to it');
SELECT * FROM finish();
ROLLBACK;
