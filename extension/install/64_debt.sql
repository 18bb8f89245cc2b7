-- Room: credit, emergency credit and debt. Lock order: see 64_credit.sql.

CREATE FUNCTION submeter.account_policy(site_id int, account_id bigint, OUT max_balance numeric, OUT emergency_credit numeric,
	OUT emergency_below numeric, OUT debt_share numeric)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT p.max_balance, p.emergency_credit, p.emergency_below, p.debt_share
	INTO account_policy.max_balance, account_policy.emergency_credit, account_policy.emergency_below, account_policy.debt_share
	FROM submeter.account a
	JOIN submeter.site s ON s.site_id = a.site_id
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id)
	WHERE a.site_id = account_policy.site_id AND a.account_id = account_policy.account_id;
END
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
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- A run under way is not waited for; it comes again by itself.
	UPDATE submeter.duty_state d SET next_at = '-infinity'
	WHERE d.site_id = wake_policy.site_id AND d.duty = 'policy' AND d.next_at > wake_policy.as_of
		AND d.duty = (SELECT x.duty FROM submeter.duty_state x
			WHERE x.site_id = d.site_id AND x.duty = 'policy' FOR NO KEY UPDATE SKIP LOCKED);
END
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
