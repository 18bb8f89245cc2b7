-- Room: credit. What an account owes and holds beside its balance: emergency credit, debt, deposits; and how money leaves
-- an account again. Each is a ledger account of its own, so that no balance has to be explained by a comment.
-- Lock order: the tenant ledger account first, as for every movement; the accounts beside it are only touched under that lock.

CREATE FUNCTION submeter.side_account(site_id int, account_id bigint, kind text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id bigint;
BEGIN
	SELECT l.ledger_account_id INTO found_id FROM submeter.ledger_account l
	WHERE l.site_id = side_account.site_id AND l.account_id = side_account.account_id AND l.kind = side_account.kind;
	IF found_id IS NULL THEN
		INSERT INTO submeter.ledger_account (site_id, code, kind, account_id)
		VALUES (side_account.site_id, side_account.kind || ':' || side_account.account_id::text, side_account.kind, side_account.account_id)
		RETURNING ledger_account_id INTO found_id;
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.side_account(int, bigint, text) IS
'The ledger account an account has for its debt, emergency credit or deposit; made when first needed, under the lock of its tenant ledger account.';

CREATE FUNCTION submeter.side_total(site_id int, account_id bigint, kind text) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT CASE WHEN l.kind = 'deposit' THEN l.total ELSE -l.total END FROM submeter.ledger_account l
		WHERE l.site_id = side_total.site_id AND l.account_id = side_total.account_id AND l.kind = side_total.kind), 0)
$$;
COMMENT ON FUNCTION submeter.side_total(int, bigint, text) IS
'What an account owes (debt, emergency) or has deposited (deposit), as a positive number.';

CREATE FUNCTION submeter.next_movement(site_id int) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.hold_posting(next_movement.site_id);
	RETURN nextval('submeter.transfer_id_seq');
END
$$;
COMMENT ON FUNCTION submeter.next_movement(int) IS 'The number of a new movement, drawn under the site''s shared hold so that the sealer knows when a block of numbers is final.';

CREATE FUNCTION submeter.post_leg(site_id int, transfer_id bigint, leg int, debit_id bigint, credit_id bigint, amount numeric, kind text,
	account_id bigint, idempotency_key text, effective_at timestamptz, method text DEFAULT NULL, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	INSERT INTO submeter.transfer (site_id, transfer_id, leg, debit_id, credit_id, amount, kind, account_id, method, note, idempotency_key,
		effective_at, created_by)
	VALUES (post_leg.site_id, post_leg.transfer_id, post_leg.leg, post_leg.debit_id, post_leg.credit_id, post_leg.amount, post_leg.kind,
		post_leg.account_id, post_leg.method, post_leg.note, post_leg.idempotency_key, post_leg.effective_at, (submeter.me()).login)
	ON CONFLICT (site_id, idempotency_key, leg) DO NOTHING;
	IF NOT FOUND THEN
		-- Another account took the key since the caller looked; the lock of this one did not meet it.
		RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('idempotency key "%s" was used for another movement', post_leg.idempotency_key),
			HINT = 'Use a new key for a new movement; repeat a call with exactly its first arguments.';
	END IF;
	UPDATE submeter.ledger_account l
	SET total = l.total + CASE WHEN l.ledger_account_id = post_leg.credit_id THEN post_leg.amount ELSE -post_leg.amount END
	WHERE l.site_id = post_leg.site_id AND l.ledger_account_id IN (post_leg.debit_id, post_leg.credit_id) AND l.account_id IS NOT NULL;
END
$$;
COMMENT ON FUNCTION submeter.post_leg(int, bigint, int, bigint, bigint, numeric, text, bigint, text, timestamptz, text, text) IS
'Writes one leg of a movement and keeps the totals of the accounts it touches; whoever calls it holds their locks and makes the legs balance by giving each a debit and a credit.';

CREATE FUNCTION submeter.known_posting(site_id int, idempotency_key text, account_id bigint, kind text, credit_kind text, amount numeric, method text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first record;
BEGIN
	PERFORM submeter.require_key(known_posting.idempotency_key);
	SELECT t.transfer_id, min(t.account_id) FILTER (WHERE t.leg = 1) AS account_id, min(t.kind) FILTER (WHERE t.leg = 1) AS kind,
		sum(t.amount) FILTER (WHERE t.account_id = known_posting.account_id) AS amount, array_agg(DISTINCT t.method) AS methods,
		min(l.kind) FILTER (WHERE t.leg = 1) AS credit_kind
	INTO first
	FROM submeter.transfer t
	JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.credit_id
	WHERE t.site_id = known_posting.site_id AND t.idempotency_key = known_posting.idempotency_key
	GROUP BY t.transfer_id;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF (first.account_id, first.kind, first.credit_kind) IS DISTINCT FROM (known_posting.account_id, known_posting.kind, known_posting.credit_kind)
		OR known_posting.amount IS DISTINCT FROM first.amount AND known_posting.amount IS NOT NULL
		OR known_posting.method IS NOT NULL AND first.methods <> ARRAY[known_posting.method]
	THEN
		RAISE EXCEPTION USING ERRCODE = '23505',
			MESSAGE = format('idempotency key "%s" was used for another movement', known_posting.idempotency_key),
			DETAIL = format('Movement %s is a %s of account %s.', first.transfer_id, first.kind, first.account_id),
			HINT = 'Use a new key for a new movement; repeat a call with exactly its first arguments.';
	END IF;
	RETURN first.transfer_id;
END
$$;
COMMENT ON FUNCTION submeter.known_posting(int, text, bigint, text, text, numeric, text) IS
'known_movement() for movements of several legs: the one already made under a key by the same call, NULL when the key is new, 23505 when it stands for something else. credit_kind is the kind of ledger account its first leg credits; NULL amount or method: any.';

-- Emergency credit and debt.

CREATE FUNCTION submeter.account_policy(site_id int, account_id bigint, OUT max_balance numeric, OUT emergency_credit numeric,
	OUT emergency_below numeric, OUT debt_share numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.max_balance, p.emergency_credit, p.emergency_below, p.debt_share
	FROM submeter.account a
	JOIN submeter.site s ON s.site_id = a.site_id
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
	WHERE a.site_id = account_policy.site_id AND a.account_id = account_policy.account_id
$$;
COMMENT ON FUNCTION submeter.account_policy(int, bigint) IS 'What the credit policy of an account (its own, else the site''s) says about its money.';

CREATE FUNCTION submeter.recharge_split(site_id int, account_id bigint, amount numeric, OUT emergency numeric, OUT debt numeric)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Who pays off debt by instalments is not asked twice.
	share numeric := CASE WHEN EXISTS (
			SELECT FROM submeter.debt_plan p WHERE p.site_id = recharge_split.site_id AND p.account_id = recharge_split.account_id) THEN 0
		ELSE (submeter.account_policy(recharge_split.site_id, recharge_split.account_id)).debt_share END;
BEGIN
	recharge_split.emergency := least(recharge_split.amount, submeter.side_total(recharge_split.site_id, recharge_split.account_id, 'emergency'));
	recharge_split.debt := least(round((recharge_split.amount - recharge_split.emergency) * share, 2),
		submeter.side_total(recharge_split.site_id, recharge_split.account_id, 'debt'));
END
$$;
COMMENT ON FUNCTION submeter.recharge_split(int, bigint, numeric) IS
'What of a recharge goes where before it is balance: all emergency credit taken is paid back, then the policy''s share of the rest pays off debt (none where instalments are agreed).';

CREATE FUNCTION submeter.require_room(site_id int, account_id bigint, amount numeric) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most numeric := (submeter.account_policy(require_room.site_id, require_room.account_id)).max_balance;
	available numeric;
	part record;
BEGIN
	IF most IS NULL THEN
		RETURN;
	END IF;
	available := submeter.available_now(require_room.site_id, require_room.account_id);
	part := submeter.recharge_split(require_room.site_id, require_room.account_id, require_room.amount);
	IF available + require_room.amount - part.emergency - part.debt > most THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('a recharge of %s is more than the account may hold', require_room.amount),
			DETAIL = format('The available balance is %s, the policy allows at most %s.', available, most),
			HINT = 'Check the amount for a slip of the finger; credit_policy.max_balance is the limit.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_room(int, bigint, numeric) IS
'Refuses (55000) a recharge that would lift the available balance above the policy''s max_balance.';

CREATE FUNCTION submeter.move_aside(site_id int, account_id bigint, kind text, amount numeric, idempotency_key text, effective_at timestamptz,
	note text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint := submeter.next_movement(move_aside.site_id);
	tenant bigint := submeter.lock_account(move_aside.site_id, move_aside.account_id);
	side bigint := submeter.side_account(move_aside.site_id, move_aside.account_id, move_aside.kind);
	to_tenant boolean := move_aside.amount > 0;
BEGIN
	PERFORM submeter.post_leg(move_aside.site_id, movement, 1, CASE WHEN to_tenant THEN side ELSE tenant END,
		CASE WHEN to_tenant THEN tenant ELSE side END, abs(move_aside.amount), move_aside.kind, move_aside.account_id,
		replace(move_aside.idempotency_key, '%', movement::text), move_aside.effective_at, NULL, move_aside.note);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.move_aside(int, bigint, text, numeric, text, timestamptz, text) IS
'Moves money between the balance of an account (positive: into it) and its debt, emergency credit or deposit; % in the key becomes the number of the movement.';

CREATE FUNCTION submeter.allocate_recharge(site_id int, account_id bigint, amount numeric, movement bigint, effective_at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	part record := submeter.recharge_split(allocate_recharge.site_id, allocate_recharge.account_id, allocate_recharge.amount);
BEGIN
	IF part.emergency > 0 THEN
		PERFORM submeter.move_aside(allocate_recharge.site_id, allocate_recharge.account_id, 'emergency', -part.emergency,
			'emergency:' || allocate_recharge.movement::text, allocate_recharge.effective_at, 'paid back by a recharge');
	END IF;
	IF part.debt > 0 THEN
		PERFORM submeter.move_aside(allocate_recharge.site_id, allocate_recharge.account_id, 'debt', -part.debt,
			'debt:' || allocate_recharge.movement::text, allocate_recharge.effective_at, 'share of a recharge');
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.allocate_recharge(int, bigint, numeric, bigint, timestamptz) IS
'After a recharge: pays back emergency credit, then a share of debt, each as a movement of its own whose key names the recharge.';

CREATE FUNCTION submeter.unallocate_recharge(site_id int, account_id bigint, movement bigint, reversal bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	part record;
BEGIN
	FOR part IN
		SELECT t.kind, t.amount FROM submeter.transfer t
		WHERE t.site_id = unallocate_recharge.site_id
			AND t.idempotency_key IN ('emergency:' || unallocate_recharge.movement::text, 'debt:' || unallocate_recharge.movement::text)
			AND t.transfer_id <> unallocate_recharge.movement
		ORDER BY t.transfer_id
	LOOP
		PERFORM submeter.move_aside(unallocate_recharge.site_id, unallocate_recharge.account_id, part.kind, part.amount,
			part.kind || ':' || unallocate_recharge.reversal::text, clock_timestamp(), 'the recharge was taken back');
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.unallocate_recharge(int, bigint, bigint, bigint) IS
'When a recharge is reversed, what it had paid back and off is owed again.';

CREATE FUNCTION submeter.wake_policy(site_id int, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- A run under way is not waited for; it comes again by itself.
	UPDATE submeter.duty_state d SET next_at = '-infinity'
	WHERE d.site_id = wake_policy.site_id AND d.duty = 'policy' AND d.next_at > wake_policy.as_of
		AND d.duty = (SELECT x.duty FROM submeter.duty_state x
			WHERE x.site_id = d.site_id AND x.duty = 'policy' FOR NO KEY UPDATE SKIP LOCKED)
$$;
COMMENT ON FUNCTION submeter.wake_policy(int, timestamptz) IS 'Lets the policy look at the accounts of a site at once: somebody is waiting.';

CREATE FUNCTION submeter.emergency_offer(site_id int, account_id bigint) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.emergency_credit
	FROM submeter.account a
	CROSS JOIN LATERAL submeter.account_policy(a.site_id, a.account_id) p
	WHERE a.site_id = emergency_offer.site_id AND a.account_id = emergency_offer.account_id AND a.state = 'open' AND a.mode = 'prepaid'
		AND p.emergency_credit > 0 AND submeter.side_total(a.site_id, a.account_id, 'emergency') = 0
		AND submeter.available_now(a.site_id, a.account_id) < p.emergency_below
$$;
COMMENT ON FUNCTION submeter.emergency_offer(int, bigint) IS
'The emergency credit an account may take now: the policy has some, the balance is below its threshold, and none is owed. NULL when none is offered.';

CREATE FUNCTION submeter.take_emergency_credit(site_id int, account_id bigint, idempotency_key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	offer numeric;
	tenant bigint;
BEGIN
	PERFORM submeter.authorize('take_emergency_credit', take_emergency_credit.site_id);
	PERFORM submeter.require_my_account(take_emergency_credit.site_id, take_emergency_credit.account_id);
	tenant := submeter.lock_account(take_emergency_credit.site_id, take_emergency_credit.account_id);
	movement := submeter.known_posting(take_emergency_credit.site_id, take_emergency_credit.idempotency_key, take_emergency_credit.account_id,
		'emergency', 'tenant', NULL, NULL);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	PERFORM submeter.require_open_account(take_emergency_credit.site_id, take_emergency_credit.account_id);
	offer := submeter.emergency_offer(take_emergency_credit.site_id, take_emergency_credit.account_id);
	IF offer IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('no emergency credit is offered to account %s', take_emergency_credit.account_id),
			DETAIL = format('The available balance is %s; of emergency credit %s is still owed.',
				submeter.available_now(take_emergency_credit.site_id, take_emergency_credit.account_id),
				submeter.side_total(take_emergency_credit.site_id, take_emergency_credit.account_id, 'emergency')),
			HINT = 'It is offered below the balance credit_policy.emergency_below, and again once the last one was paid back.';
	END IF;
	movement := submeter.next_movement(take_emergency_credit.site_id);
	PERFORM submeter.post_leg(take_emergency_credit.site_id, movement, 1,
		submeter.side_account(take_emergency_credit.site_id, take_emergency_credit.account_id, 'emergency'), tenant, offer, 'emergency',
		take_emergency_credit.account_id, take_emergency_credit.idempotency_key, clock_timestamp(), NULL, 'emergency credit taken');
	PERFORM submeter.wake_policy(take_emergency_credit.site_id, clock_timestamp());
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.take_emergency_credit(int, bigint, text) IS
'A tenant (or somebody for them) takes the emergency credit of the policy into the balance; paid back first by the next recharges. Returns the movement, for a repeated key the first one. 55000 when none is offered, P0002 unknown or another tenant''s account.';

CREATE FUNCTION submeter.defer_debit(site_id int, account_id bigint, amount numeric, note text, effective_at timestamptz) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.move_aside(defer_debit.site_id, defer_debit.account_id, 'debt', defer_debit.amount, 'debt:%', defer_debit.effective_at,
		defer_debit.note)
$$;
COMMENT ON FUNCTION submeter.defer_debit(int, bigint, numeric, text, timestamptz) IS
'Puts a debit aside as debt, so that the available balance does not fall because of it; paid off by a share of each recharge or by instalments.';

CREATE FUNCTION submeter.pay_debt(site_id int, account_id bigint, amount numeric, idempotency_key text, method text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	source bigint;
	owed numeric;
	there numeric;
BEGIN
	PERFORM submeter.authorize('pay_debt', pay_debt.site_id);
	PERFORM submeter.require_my_account(pay_debt.site_id, pay_debt.account_id);
	PERFORM submeter.require_amount(pay_debt.amount);
	source := submeter.lock_account(pay_debt.site_id, pay_debt.account_id);
	IF pay_debt.method IS NOT NULL THEN
		-- Money over the counter is for those who may take it.
		PERFORM submeter.authorize('recharge', pay_debt.site_id);
		PERFORM submeter.require_method(pay_debt.method);
		source := submeter.system_ledger_account(pay_debt.site_id, 'clearing:' || pay_debt.method, 'clearing');
	END IF;
	movement := submeter.known_posting(pay_debt.site_id, pay_debt.idempotency_key, pay_debt.account_id, 'debt', 'debt', pay_debt.amount, pay_debt.method);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	owed := submeter.side_total(pay_debt.site_id, pay_debt.account_id, 'debt');
	there := CASE WHEN pay_debt.method IS NULL THEN submeter.available_now(pay_debt.site_id, pay_debt.account_id) END;
	IF pay_debt.amount > owed OR pay_debt.amount > there THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s cannot pay %s of its debt', pay_debt.account_id, pay_debt.amount),
			DETAIL = format('It owes %s%s.', owed, ' and has ' || there::text || ' available'),
			HINT = 'Pay at most what is owed and there; of each recharge a share is paid by itself.';
	END IF;
	movement := submeter.next_movement(pay_debt.site_id);
	PERFORM submeter.post_leg(pay_debt.site_id, movement, 1, source, submeter.side_account(pay_debt.site_id, pay_debt.account_id, 'debt'),
		pay_debt.amount, 'debt', pay_debt.account_id, pay_debt.idempotency_key, clock_timestamp(), pay_debt.method, 'debt paid');
	PERFORM submeter.settle_proposals(pay_debt.site_id, pay_debt.account_id, 'debt', pay_debt.amount, movement, 'paid');
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.pay_debt(int, bigint, numeric, text, text) IS
'Pays debt of an account, out of its available balance (never below zero) or, with a method, by money over the counter: also the debt of a former tenant whose account is closed. Returns the movement. 55000 more than is owed or there, P0002 unknown or another tenant''s account, 22023 amount or method, 23505 key used otherwise.';

CREATE FUNCTION submeter.write_off(site_id int, account_id bigint, amount numeric, reason text, idempotency_key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	owed numeric;
BEGIN
	PERFORM submeter.authorize('write_off', write_off.site_id);
	PERFORM submeter.require_amount(write_off.amount);
	PERFORM submeter.require_text('reason', write_off.reason);
	PERFORM submeter.lock_account(write_off.site_id, write_off.account_id);
	movement := submeter.known_posting(write_off.site_id, write_off.idempotency_key, write_off.account_id, 'adjustment', 'debt', write_off.amount, NULL);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	owed := submeter.side_total(write_off.site_id, write_off.account_id, 'debt');
	IF write_off.amount > owed THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s has no debt of %s', write_off.account_id, write_off.amount),
			DETAIL = format('It owes %s.', owed), HINT = 'Write off at most that.';
	END IF;
	PERFORM submeter.require_approval('write_off', write_off.site_id, jsonb_build_object('account_id', write_off.account_id, 'amount', write_off.amount));
	movement := submeter.next_movement(write_off.site_id);
	PERFORM submeter.post_leg(write_off.site_id, movement, 1, submeter.system_ledger_account(write_off.site_id, 'adjustment', 'adjustment'),
		submeter.side_account(write_off.site_id, write_off.account_id, 'debt'), write_off.amount, 'adjustment', write_off.account_id,
		write_off.idempotency_key, clock_timestamp(), NULL, write_off.reason);
	PERFORM submeter.settle_proposals(write_off.site_id, write_off.account_id, 'debt', write_off.amount, movement, write_off.reason);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.write_off(int, bigint, numeric, text, text) IS
'Gives up debt nobody will pay, at the cost of the site (ledger account adjustment); returns the movement. Passes the approval hook with {account_id, amount}. 55000 more than is owed, 22023 amount or reason, 23505 key used otherwise, P0002 unknown.';

CREATE FUNCTION submeter.set_instalments(site_id int, account_id bigint, monthly_amount numeric) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('set_instalments', set_instalments.site_id);
	PERFORM submeter.lock_account(set_instalments.site_id, set_instalments.account_id);
	IF set_instalments.monthly_amount IS NULL OR set_instalments.monthly_amount = 0 THEN
		DELETE FROM submeter.debt_plan p
		WHERE p.site_id = set_instalments.site_id AND p.account_id = set_instalments.account_id;
		RETURN;
	END IF;
	PERFORM submeter.require_amount(set_instalments.monthly_amount);
	INSERT INTO submeter.debt_plan AS p (site_id, account_id, monthly_amount, set_by)
	VALUES (set_instalments.site_id, set_instalments.account_id, set_instalments.monthly_amount, (submeter.me()).login)
	ON CONFLICT ON CONSTRAINT debt_plan_pkey DO UPDATE
	SET monthly_amount = EXCLUDED.monthly_amount, set_by = EXCLUDED.set_by, set_at = clock_timestamp();
END
$$;
COMMENT ON FUNCTION submeter.set_instalments(int, bigint, numeric) IS
'Has the debt of an account paid by a fixed amount each local month out of what is available, instead of by a share of each recharge; NULL or 0 ends that. 22023 amount, P0002 unknown.';

CREATE FUNCTION submeter.collect_instalments(site_id int, as_of timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	this_month date;
	plan record;
	due numeric;
	moved int := 0;
BEGIN
	PERFORM submeter.guard();
	SELECT date_trunc('month', collect_instalments.as_of AT TIME ZONE s.time_zone)::date INTO this_month
	FROM submeter.site s WHERE s.site_id = collect_instalments.site_id;
	FOR plan IN
		SELECT p.account_id FROM submeter.debt_plan p
		JOIN submeter.ledger_account l ON l.site_id = p.site_id AND l.account_id = p.account_id AND l.kind = 'tenant'
		WHERE p.site_id = collect_instalments.site_id AND (p.month IS NULL OR p.month < this_month OR p.month = this_month AND p.paid < p.monthly_amount)
			AND submeter.side_total(p.site_id, p.account_id, 'debt') > 0
		ORDER BY l.ledger_account_id
	LOOP
		PERFORM submeter.lock_account(collect_instalments.site_id, plan.account_id);
		SELECT least(p.monthly_amount - CASE WHEN p.month = this_month THEN p.paid ELSE 0 END,
			submeter.side_total(p.site_id, p.account_id, 'debt'), submeter.available_now(p.site_id, p.account_id)) INTO due
		FROM submeter.debt_plan p
		WHERE p.site_id = collect_instalments.site_id AND p.account_id = plan.account_id;
		CONTINUE WHEN due IS NULL OR due <= 0;
		PERFORM submeter.move_aside(collect_instalments.site_id, plan.account_id, 'debt', -due, 'debt:%', collect_instalments.as_of, 'instalment');
		UPDATE submeter.debt_plan p
		SET paid = CASE WHEN p.month = this_month THEN p.paid ELSE 0 END + due, month = this_month
		WHERE p.site_id = collect_instalments.site_id AND p.account_id = plan.account_id;
		moved := moved + 1;
	END LOOP;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION submeter.collect_instalments(int, timestamptz) IS
'Duty: takes this local month''s instalments of debt out of available balances, never below zero; what is not there yet is taken when it is. An older as_of takes nothing. Returns how many were moved.';

-- Money that leaves an account.

CREATE FUNCTION submeter.origins(site_id int, account_id bigint, kind text) RETURNS TABLE (method text, amount numeric, last_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Kinds of movement that bring money in or take it out carry its method; a negative one (another way out was chosen) counts too.
	SELECT t.method, sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END),
		max(t.posted_at) FILTER (WHERE t.credit_id = l.ledger_account_id)
	FROM submeter.ledger_account l
	JOIN submeter.transfer t ON t.site_id = l.site_id AND t.account_id = l.account_id AND l.ledger_account_id IN (t.debit_id, t.credit_id)
	WHERE l.site_id = origins.site_id AND l.account_id = origins.account_id AND l.kind = origins.kind AND t.method IS NOT NULL
	GROUP BY t.method
$$;
COMMENT ON FUNCTION submeter.origins(int, bigint, text) IS
'By which methods the money in the balance (tenant) or deposit of an account was paid and has not been paid back, and when last.';

CREATE FUNCTION submeter.refundable(site_id int, account_id bigint) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT greatest(least(
		submeter.available_now(refundable.site_id, refundable.account_id) - submeter.side_total(refundable.site_id, refundable.account_id, 'emergency')
			- submeter.side_total(refundable.site_id, refundable.account_id, 'debt'),
		coalesce((SELECT sum(o.amount) FROM submeter.origins(refundable.site_id, refundable.account_id, 'tenant') o), 0)), 0)
$$;
COMMENT ON FUNCTION submeter.refundable(int, bigint) IS
'What may be paid out of an account: not more than is available once emergency credit and debt are paid, and not more than was paid in.';

CREATE FUNCTION submeter.share_out(site_id int, account_id bigint, kind text, amount numeric, method text)
RETURNS TABLE (leg int, method text, amount numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (row_number() OVER (ORDER BY x.nth))::int, x.method, x.part
	FROM (
		SELECT o.nth, o.method, least(o.amount, share_out.amount - o.before) AS part
		FROM (
			SELECT o.method, o.amount, row_number() OVER w AS nth, sum(o.amount) OVER w - o.amount AS before
			FROM submeter.origins(share_out.site_id, share_out.account_id, share_out.kind) o
			WHERE o.amount > 0
			WINDOW w AS (ORDER BY o.last_at DESC, o.method)) o
		WHERE share_out.method IS NULL AND o.before < share_out.amount
		UNION ALL
		SELECT 1, share_out.method, share_out.amount WHERE share_out.method IS NOT NULL) x
$$;
COMMENT ON FUNCTION submeter.share_out(int, bigint, text, numeric, text) IS
'Splits an amount over the methods it was paid by, the latest first; all by the given method when a person chose one.';

CREATE FUNCTION submeter.require_way_out(site_id int, account_id bigint, kind text, amount numeric, method text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	came numeric;
BEGIN
	PERFORM submeter.require_method(require_way_out.method);
	-- A provider pays back what it took, and nothing else.
	IF require_way_out.method IN ('alipay', 'wechat') THEN
		came := coalesce((SELECT o.amount FROM submeter.origins(require_way_out.site_id, require_way_out.account_id, require_way_out.kind) o
			WHERE o.method = require_way_out.method), 0);
		IF require_way_out.amount > came THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s cannot pay back %s', require_way_out.method, require_way_out.amount),
				DETAIL = format('Of what was paid by it, %s has not been paid back.', came), HINT = 'Leave method out, or choose cash or bank.';
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_way_out(int, bigint, text, numeric, text) IS
'Refuses a method that is none (22023) and a provider that would pay back more than it took (55000).';

CREATE FUNCTION submeter.pay_out(site_id int, account_id bigint, kind text, ledger_kind text, amount numeric, method text, note text,
	idempotency_key text, effective_at timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint := submeter.next_movement(pay_out.site_id);
	source bigint;
	part record;
BEGIN
	SELECT l.ledger_account_id INTO STRICT source FROM submeter.ledger_account l
	WHERE l.site_id = pay_out.site_id AND l.account_id = pay_out.account_id AND l.kind = pay_out.ledger_kind;
	FOR part IN
		SELECT * FROM submeter.share_out(pay_out.site_id, pay_out.account_id, pay_out.ledger_kind, pay_out.amount, pay_out.method)
	LOOP
		PERFORM submeter.post_leg(pay_out.site_id, movement, part.leg, source,
			submeter.system_ledger_account(pay_out.site_id, 'clearing:' || part.method, 'clearing'), part.amount, pay_out.kind, pay_out.account_id,
			pay_out.idempotency_key, pay_out.effective_at, part.method, pay_out.note);
		-- What a provider took it pays back itself.
		IF part.method IN ('alipay', 'wechat') THEN
			PERFORM submeter.send_refunds(pay_out.site_id, pay_out.account_id, part.method, part.amount, movement,
				coalesce(pay_out.note, pay_out.kind), pay_out.effective_at);
		END IF;
	END LOOP;
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.pay_out(int, bigint, text, text, numeric, text, text, text, timestamptz) IS
'Pays money of an account out, one leg per method; bounds and locks are the caller''s.';

CREATE FUNCTION submeter.refund(site_id int, account_id bigint, amount numeric, reason text, idempotency_key text, method text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	most numeric;
BEGIN
	PERFORM submeter.authorize('refund', refund.site_id);
	PERFORM submeter.require_amount(refund.amount);
	PERFORM submeter.require_text('reason', refund.reason);
	PERFORM submeter.lock_account(refund.site_id, refund.account_id);
	movement := submeter.known_posting(refund.site_id, refund.idempotency_key, refund.account_id, 'refund', 'clearing', refund.amount, refund.method);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	most := submeter.refundable(refund.site_id, refund.account_id);
	IF refund.amount > most THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s cannot be refunded %s', refund.account_id, refund.amount),
			DETAIL = format('At most %s: what is available once emergency credit and debt are paid, and not more than was paid in and not paid back.', most),
			HINT = 'SELECT * FROM submeter.account_balance shows what is available and owed.';
	END IF;
	IF refund.method IS NOT NULL THEN
		PERFORM submeter.require_way_out(refund.site_id, refund.account_id, 'tenant', refund.amount, refund.method);
	END IF;
	PERFORM submeter.require_approval('refund', refund.site_id, jsonb_build_object('account_id', refund.account_id, 'amount', refund.amount));
	movement := submeter.pay_out(refund.site_id, refund.account_id, 'refund', 'tenant', refund.amount, refund.method, refund.reason,
		refund.idempotency_key, clock_timestamp());
	PERFORM submeter.settle_proposals(refund.site_id, refund.account_id, 'refund', refund.amount, movement, refund.reason);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.refund(int, bigint, numeric, text, text, text) IS
'Pays money back to a tenant, also of a closed account: by the methods it was paid, the latest first, or all by method when one is given; one leg each. Bounded by what is available and by what was paid and not paid back. Passes the approval hook with {account_id, amount}. 55000 too much, 22023 amount or method, 23505 key used otherwise, P0002 unknown.';

CREATE FUNCTION submeter.settle_proposals(site_id int, account_id bigint, kind text, amount numeric, movement bigint, reason text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- The oldest first, as far as the money reaches.
	UPDATE submeter.proposal p
	SET state = 'done', decided_at = clock_timestamp(), decided_by = (submeter.me()).login, reason = settle_proposals.reason,
		transfer_id = settle_proposals.movement
	FROM (
		SELECT q.proposal_id, sum(q.amount) OVER (ORDER BY q.proposal_id) AS upto FROM submeter.proposal q
		WHERE q.site_id = settle_proposals.site_id AND q.account_id = settle_proposals.account_id AND q.kind = settle_proposals.kind AND q.state = 'open'
			-- What the resale check found is not in the books until it is accepted.
			AND q.source <> 'resale') q
	WHERE p.site_id = settle_proposals.site_id AND p.proposal_id = q.proposal_id AND q.upto <= settle_proposals.amount;
	-- Refunds and debts proposed one after the other net out: when nothing is left to pay, all of them are settled.
	UPDATE submeter.proposal p
	SET state = 'done', decided_at = clock_timestamp(), decided_by = (submeter.me()).login, reason = settle_proposals.reason
	WHERE p.site_id = settle_proposals.site_id AND p.account_id = settle_proposals.account_id AND p.state = 'open' AND p.source <> 'resale'
		AND submeter.refundable(p.site_id, p.account_id) = 0 AND submeter.side_total(p.site_id, p.account_id, 'debt') = 0
$$;
COMMENT ON FUNCTION submeter.settle_proposals(int, bigint, text, numeric, bigint, text) IS
'Marks the open proposals of an account as done that a payment covers, the oldest first; all of them when nothing is left to pay either way.';

CREATE FUNCTION submeter.dismiss_proposal(site_id int, proposal_id bigint, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('dismiss_proposal', dismiss_proposal.site_id);
	PERFORM submeter.require_text('reason', dismiss_proposal.reason);
	PERFORM submeter.require_approval('dismiss_proposal', dismiss_proposal.site_id, jsonb_build_object('proposal_id', dismiss_proposal.proposal_id));
	UPDATE submeter.proposal p
	SET state = 'dismissed', decided_at = clock_timestamp(), decided_by = (submeter.me()).login, reason = dismiss_proposal.reason
	WHERE p.site_id = dismiss_proposal.site_id AND p.proposal_id = dismiss_proposal.proposal_id AND p.state = 'open';
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('proposal %s is not waiting for a decision', coalesce(dismiss_proposal.proposal_id::text, 'NULL')),
			HINT = 'SELECT * FROM submeter.proposal WHERE state = ''open'' lists the open ones.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.dismiss_proposal(int, bigint, text) IS
'A person decides that a proposed refund or debt is not followed; the books stay as they are. Passes the approval hook with {proposal_id}. 55000 when it is not open.';

CREATE FUNCTION submeter.take_deposit(site_id int, account_id bigint, amount numeric, method text, idempotency_key text, note text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
BEGIN
	PERFORM submeter.authorize('take_deposit', take_deposit.site_id);
	PERFORM submeter.require_amount(take_deposit.amount);
	PERFORM submeter.require_method(take_deposit.method);
	PERFORM submeter.lock_account(take_deposit.site_id, take_deposit.account_id);
	movement := submeter.known_posting(take_deposit.site_id, take_deposit.idempotency_key, take_deposit.account_id, 'deposit', 'deposit',
		take_deposit.amount, take_deposit.method);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	PERFORM submeter.require_open_account(take_deposit.site_id, take_deposit.account_id);
	movement := submeter.next_movement(take_deposit.site_id);
	PERFORM submeter.post_leg(take_deposit.site_id, movement, 1,
		submeter.system_ledger_account(take_deposit.site_id, 'clearing:' || take_deposit.method, 'clearing'),
		submeter.side_account(take_deposit.site_id, take_deposit.account_id, 'deposit'), take_deposit.amount, 'deposit', take_deposit.account_id,
		take_deposit.idempotency_key, clock_timestamp(), take_deposit.method, take_deposit.note);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.take_deposit(int, bigint, numeric, text, text, text) IS
'Takes a deposit: held for the tenant, no part of the available balance, set against what is owed on moving out. Returns the movement. 22023 amount or method, 23505 key used otherwise, P0002 unknown, 55000 closed.';

CREATE FUNCTION submeter.return_deposit(site_id int, account_id bigint, amount numeric, reason text, idempotency_key text, method text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	held numeric;
BEGIN
	PERFORM submeter.authorize('return_deposit', return_deposit.site_id);
	PERFORM submeter.require_amount(return_deposit.amount);
	PERFORM submeter.require_text('reason', return_deposit.reason);
	PERFORM submeter.lock_account(return_deposit.site_id, return_deposit.account_id);
	movement := submeter.known_posting(return_deposit.site_id, return_deposit.idempotency_key, return_deposit.account_id, 'deposit', 'clearing',
		return_deposit.amount, return_deposit.method);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	held := submeter.side_total(return_deposit.site_id, return_deposit.account_id, 'deposit');
	IF return_deposit.amount > held THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s has no deposit of %s to return', return_deposit.account_id, return_deposit.amount),
			DETAIL = format('Its deposit is %s.', held), HINT = 'Return at most that.';
	END IF;
	IF return_deposit.method IS NOT NULL THEN
		PERFORM submeter.require_way_out(return_deposit.site_id, return_deposit.account_id, 'deposit', return_deposit.amount, return_deposit.method);
	END IF;
	PERFORM submeter.require_approval('return_deposit', return_deposit.site_id,
		jsonb_build_object('account_id', return_deposit.account_id, 'amount', return_deposit.amount));
	RETURN submeter.pay_out(return_deposit.site_id, return_deposit.account_id, 'deposit', 'deposit', return_deposit.amount, return_deposit.method,
		return_deposit.reason, return_deposit.idempotency_key, clock_timestamp());
END
$$;
COMMENT ON FUNCTION submeter.return_deposit(int, bigint, numeric, text, text, text) IS
'Pays a deposit back, by the methods it was paid or all by the given one. Passes the approval hook with {account_id, amount}. 55000 more than is held, 22023 amount or method, 23505 key used otherwise, P0002 unknown.';

CREATE FUNCTION submeter.transfer_balance(site_id int, from_account_id bigint, to_account_id bigint, amount numeric, idempotency_key text,
	note text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	payer bigint;
	payee bigint;
	available numeric;
BEGIN
	PERFORM submeter.authorize('transfer_balance', transfer_balance.site_id);
	PERFORM submeter.require_amount(transfer_balance.amount);
	-- Both accounts in the order of the ledger, as every movement locks them.
	PERFORM FROM submeter.ledger_account l
	WHERE l.site_id = transfer_balance.site_id AND l.kind = 'tenant'
		AND l.account_id IN (transfer_balance.from_account_id, transfer_balance.to_account_id)
	ORDER BY l.ledger_account_id FOR NO KEY UPDATE;
	payer := submeter.lock_account(transfer_balance.site_id, transfer_balance.from_account_id);
	payee := submeter.lock_account(transfer_balance.site_id, transfer_balance.to_account_id);
	movement := submeter.known_posting(transfer_balance.site_id, transfer_balance.idempotency_key, transfer_balance.from_account_id, 'transfer',
		'clearing', transfer_balance.amount, NULL);
	IF movement IS NOT NULL THEN
		IF NOT EXISTS (SELECT FROM submeter.transfer t WHERE t.site_id = transfer_balance.site_id AND t.transfer_id = movement
			AND t.account_id = transfer_balance.to_account_id)
		THEN
			RAISE EXCEPTION USING ERRCODE = '23505',
				MESSAGE = format('idempotency key "%s" was used for another movement', transfer_balance.idempotency_key),
				DETAIL = format('Movement %s went to another account than %s.', movement, transfer_balance.to_account_id),
				HINT = 'Use a new key for a new movement; repeat a call with exactly its first arguments.';
		END IF;
		RETURN movement;
	END IF;
	IF payer = payee OR (
		SELECT count(DISTINCT a.tenant_id) <> 1 FROM submeter.account a
		WHERE a.site_id = transfer_balance.site_id AND a.account_id IN (transfer_balance.from_account_id, transfer_balance.to_account_id))
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'money is transferred between two accounts of one tenant only',
			DETAIL = format('From account %s to account %s.', transfer_balance.from_account_id, transfer_balance.to_account_id),
			HINT = 'Refund it to one tenant and recharge it for the other.';
	END IF;
	PERFORM submeter.require_open_account(transfer_balance.site_id, transfer_balance.to_account_id);
	available := submeter.available_now(transfer_balance.site_id, transfer_balance.from_account_id)
		- submeter.side_total(transfer_balance.site_id, transfer_balance.from_account_id, 'emergency')
		- submeter.side_total(transfer_balance.site_id, transfer_balance.from_account_id, 'debt');
	IF transfer_balance.amount > available THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s has not %s to give', transfer_balance.from_account_id, transfer_balance.amount),
			DETAIL = format('Once emergency credit and debt are paid, %s is available.', available), HINT = 'Transfer at most that.';
	END IF;
	movement := submeter.next_movement(transfer_balance.site_id);
	PERFORM submeter.transfer_legs(transfer_balance.site_id, movement, transfer_balance.from_account_id, transfer_balance.to_account_id,
		payer, payee, transfer_balance.amount, transfer_balance.idempotency_key, transfer_balance.note);
	PERFORM submeter.wake_policy(transfer_balance.site_id, clock_timestamp());
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.transfer_balance(int, bigint, bigint, numeric, text, text) IS
'Moves money from one account of a tenant (also a closed one) to another, open one of the same tenant; where it was paid goes with it, so that it can be refunded there. 22023 amount or another tenant, 55000 not available or closed, 23505 key used otherwise, P0002 unknown.';

CREATE FUNCTION submeter.transfer_legs(site_id int, movement bigint, from_account_id bigint, to_account_id bigint, payer bigint, payee bigint,
	amount numeric, idempotency_key text, note text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	transit bigint := submeter.system_ledger_account(transfer_legs.site_id, 'clearing:transfer', 'clearing');
	part record;
	nth int := 0;
	at timestamptz := clock_timestamp();
BEGIN
	FOR part IN
		WITH share AS MATERIALIZED (
			SELECT s.method, s.amount FROM submeter.share_out(transfer_legs.site_id, transfer_legs.from_account_id, 'tenant', transfer_legs.amount, NULL) s
		)
		SELECT s.method, s.amount FROM share s
		UNION ALL
		-- What nobody paid in, a goodwill credit for instance, has no origin there either.
		SELECT NULL, transfer_legs.amount - coalesce(sum(s.amount), 0) FROM share s HAVING transfer_legs.amount > coalesce(sum(s.amount), 0)
	LOOP
		PERFORM submeter.post_leg(transfer_legs.site_id, transfer_legs.movement, nth + 1, transfer_legs.payer, transit, part.amount, 'transfer',
			transfer_legs.from_account_id, transfer_legs.idempotency_key, at, part.method, transfer_legs.note);
		PERFORM submeter.post_leg(transfer_legs.site_id, transfer_legs.movement, nth + 2, transit, transfer_legs.payee, part.amount, 'transfer',
			transfer_legs.to_account_id, transfer_legs.idempotency_key, at, part.method, transfer_legs.note);
		nth := nth + 2;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.transfer_legs(int, bigint, bigint, bigint, bigint, bigint, numeric, text, text) IS
'The legs of a transfer between two accounts: a pair per origin of the money, through the clearing account transfer, so that each leg names the account it is about.';
