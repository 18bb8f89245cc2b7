-- Room: credit, money that leaves an account: refunds, deposits, transfers. Lock order: see 64_credit.sql.

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
