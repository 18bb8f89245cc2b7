-- Room: ledger. Money only moves here: append-only double entry with the caller's idempotency key.
-- Lock order: ledger accounts of tenants by ledger_account_id; nothing else is locked by a movement. hold_posting() is
-- shared and nobody ever takes it otherwise, so it waits for nothing and has no place in the order.

CREATE FUNCTION submeter.hold_posting(site_id int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(hashtext('submeter.posting'), hold_posting.site_id);
END
$$;
COMMENT ON FUNCTION submeter.hold_posting(int) IS
'Says until the end of the transaction that it may write into transfer. Called before a number is taken from transfer_id_seq, or the sealer would take the numbers up to there for final.';

CREATE FUNCTION submeter.require_amount(amount numeric, signed boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_amount.amount IS NULL OR require_amount.amount IN ('NaN', 'Infinity', '-Infinity')
		OR require_amount.amount = 0 OR require_amount.amount < 0 AND NOT require_amount.signed
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not an amount to post', coalesce(require_amount.amount::text, 'NULL')),
			DETAIL = CASE WHEN require_amount.signed THEN 'An adjustment is a number other than zero.' ELSE 'An amount is greater than zero.' END,
			HINT = 'Pass the amount in the currency of the site.';
	END IF;
	IF scale(trim_scale(require_amount.amount)) > 2 OR abs(require_amount.amount) >= 1000000000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not an amount to post', require_amount.amount),
			DETAIL = 'Money is posted with at most 2 decimals, and below one thousand million.',
			HINT = 'Round it first; submeter never rounds what a person paid.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_amount(numeric, boolean) IS
'Refuses (22023) NULL, NaN, zero, negative (unless signed), more than 2 decimals and absurd amounts.';

CREATE FUNCTION submeter.transfer_sides_exist() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lost record;
BEGIN
	SELECT x.site_id, x.id INTO lost
	FROM (SELECT n.site_id, n.debit_id AS id FROM new_transfer n UNION SELECT n.site_id, n.credit_id FROM new_transfer n) x
	WHERE NOT EXISTS (SELECT FROM submeter.ledger_account l WHERE l.site_id = x.site_id AND l.ledger_account_id = x.id);
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('site %s has no ledger account %s', lost.site_id, lost.id),
			DETAIL = 'Both sides of a movement are accounts of its site''s ledger.', HINT = 'Movements are written by the verbs of Submeter only.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.transfer_sides_exist() IS 'Statement trigger of transfer: both sides of every new row are ledger accounts of its site (23503).';

CREATE FUNCTION submeter.system_ledger_account(site_id int, code text, kind text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id bigint;
BEGIN
	SELECT a.ledger_account_id INTO found_id FROM submeter.ledger_account a
	WHERE a.site_id = system_ledger_account.site_id AND a.code = system_ledger_account.code;
	IF found_id IS NULL THEN
		INSERT INTO submeter.ledger_account (site_id, code, kind)
		VALUES (system_ledger_account.site_id, system_ledger_account.code, system_ledger_account.kind)
		ON CONFLICT DO NOTHING;
		SELECT a.ledger_account_id INTO found_id FROM submeter.ledger_account a
		WHERE a.site_id = system_ledger_account.site_id AND a.code = system_ledger_account.code;
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION submeter.system_ledger_account(int, text, text) IS 'The site''s own ledger account with this code; made when missing.';

CREATE FUNCTION submeter.lock_account(site_id int, account_id bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ledger_id bigint;
BEGIN
	SELECT l.ledger_account_id INTO ledger_id
	FROM submeter.ledger_account l
	WHERE l.site_id = lock_account.site_id AND l.account_id = lock_account.account_id AND l.kind = 'tenant'
	FOR NO KEY UPDATE OF l;
	IF ledger_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002',
			MESSAGE = format('site %s has no account %s', lock_account.site_id, coalesce(lock_account.account_id::text, 'NULL')),
			HINT = 'SELECT account_id, code FROM submeter.account lists the accounts.';
	END IF;
	RETURN ledger_id;
END
$$;
COMMENT ON FUNCTION submeter.lock_account(int, bigint) IS
'Locks the ledger account of a tenant account and returns its number; P0002 for unknown accounts.';

CREATE FUNCTION submeter.require_open_account(site_id int, account_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM submeter.account a
		WHERE a.site_id = require_open_account.site_id AND a.account_id = require_open_account.account_id AND a.state = 'open')
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('account %s is closed', require_open_account.account_id),
			HINT = 'Book it on the tenant''s open account.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_open_account(int, bigint) IS
'Refuses (55000) a new movement on a closed account; asked after the key, so that a repeated call still finds what it did.';

CREATE FUNCTION submeter.require_key(idempotency_key text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.require_text('idempotency_key', require_key.idempotency_key);
	-- Movements nobody asked for by key make their own; one taken beforehand would stop the posting of the whole site.
	IF require_key.idempotency_key ~ '^(charge|adjustment|share|debt|emergency|move_out|seal|payment):' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('idempotency key "%s" is reserved', require_key.idempotency_key),
			DETAIL = 'Keys that begin with charge:, adjustment:, share:, debt:, emergency:, move_out:, seal: or payment: are made by submeter itself.',
			HINT = 'Use a key of your own.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_key(text) IS
'Refuses (22023) a caller''s idempotency key that is NULL, blank or of a kind submeter makes itself.';

CREATE FUNCTION submeter.known_movement(site_id int, idempotency_key text, account_id bigint, kind text, method text, signed_amount numeric)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first submeter.transfer;
BEGIN
	SELECT t.* INTO first FROM submeter.transfer t
	WHERE t.site_id = known_movement.site_id AND t.idempotency_key = known_movement.idempotency_key AND t.leg = 1;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF (first.account_id, first.kind, first.amount) IS DISTINCT FROM (known_movement.account_id, known_movement.kind, abs(known_movement.signed_amount))
		OR first.method IS DISTINCT FROM known_movement.method
		OR (SELECT l.kind = 'tenant' FROM submeter.ledger_account l
			WHERE l.site_id = first.site_id AND l.ledger_account_id = first.credit_id) IS DISTINCT FROM (known_movement.signed_amount > 0)
	THEN
		RAISE EXCEPTION USING ERRCODE = '23505',
			MESSAGE = format('idempotency key "%s" was used for another movement', known_movement.idempotency_key),
			DETAIL = format('Movement %s: %s of %s for account %s%s.', first.transfer_id, first.kind, first.amount, first.account_id,
				coalesce(' by ' || first.method, '')),
			HINT = 'Use a new key for a new movement; repeat a call with exactly its first arguments.';
	END IF;
	RETURN first.transfer_id;
END
$$;
COMMENT ON FUNCTION submeter.known_movement(int, text, bigint, text, text, numeric) IS
'The movement already made under a key by the same call; NULL when the key is new; 23505 when the key stands for something else. Verbs ask require_key() first.';

CREATE FUNCTION submeter.post_movement(site_id int, account_id bigint, signed_amount numeric, kind text, counter_id bigint,
	idempotency_key text, effective_at timestamptz, method text DEFAULT NULL, note text DEFAULT NULL,
	reverses_id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	ledger_id bigint;
	movement bigint;
BEGIN
	PERFORM submeter.hold_posting(post_movement.site_id);
	movement := nextval('submeter.transfer_id_seq');
	SELECT l.ledger_account_id INTO STRICT ledger_id FROM submeter.ledger_account l
	WHERE l.site_id = post_movement.site_id AND l.account_id = post_movement.account_id AND l.kind = 'tenant';
	INSERT INTO submeter.transfer (site_id, transfer_id, debit_id, credit_id, amount, kind, account_id, method, note, reverses_id,
		idempotency_key, effective_at, created_by)
	VALUES (post_movement.site_id, movement,
		CASE WHEN post_movement.signed_amount > 0 THEN post_movement.counter_id ELSE ledger_id END,
		CASE WHEN post_movement.signed_amount > 0 THEN ledger_id ELSE post_movement.counter_id END,
		abs(post_movement.signed_amount), post_movement.kind, post_movement.account_id, post_movement.method, post_movement.note,
		post_movement.reverses_id, post_movement.idempotency_key, post_movement.effective_at, (submeter.me()).login)
	ON CONFLICT (site_id, idempotency_key, leg) DO NOTHING;
	IF NOT FOUND THEN
		-- Another account took the key since the caller looked; the lock of this one did not meet it.
		RETURN submeter.known_movement(post_movement.site_id, post_movement.idempotency_key, post_movement.account_id, post_movement.kind,
			post_movement.method, post_movement.signed_amount);
	END IF;
	UPDATE submeter.ledger_account l SET total = l.total + post_movement.signed_amount
	WHERE l.site_id = post_movement.site_id AND l.account_id = post_movement.account_id AND l.kind = 'tenant';
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.post_movement(int, bigint, numeric, text, bigint, text, timestamptz, text, text, bigint) IS
'Writes one movement between a tenant account (positive: credited) and a ledger account of the site; the account is locked by the caller.';

CREATE FUNCTION submeter.recharge(site_id int, account_id bigint, amount numeric, method text, idempotency_key text,
	note text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('recharge', recharge.site_id);
	PERFORM submeter.require_key(recharge.idempotency_key);
	RETURN submeter.credit_recharge(recharge.site_id, recharge.account_id, recharge.amount, recharge.method, recharge.idempotency_key,
		recharge.note, true, submeter.recharge_fee(recharge.site_id, recharge.method, recharge.amount, clock_timestamp()));
END
$$;
COMMENT ON FUNCTION submeter.recharge(int, bigint, numeric, text, text, text) IS
'Credits money a tenant paid (currency of the site, at most 2 decimals) and returns the movement; a repeated key with the same account, amount and method returns the first one. It pays back emergency credit first, then a share of debt, and the rest is balance. Where recharge_fee() says so, the fee is collected on top and stands beside it in recharge_statement. 22023 bad amount or method, 23505 key used otherwise, P0002 unknown, 55000 closed account or more than the policy''s max_balance.';

CREATE FUNCTION submeter.credit_recharge(site_id int, account_id bigint, amount numeric, method text, idempotency_key text,
	note text, limited boolean, fee numeric) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
	made_at timestamptz;
BEGIN
	PERFORM submeter.require_amount(credit_recharge.amount);
	PERFORM submeter.require_method(credit_recharge.method);
	-- The lock comes first: the same key in two sessions meets here, and the second finds what the first did.
	PERFORM submeter.lock_account(credit_recharge.site_id, credit_recharge.account_id);
	movement := submeter.known_movement(credit_recharge.site_id, credit_recharge.idempotency_key, credit_recharge.account_id, 'recharge',
		credit_recharge.method, credit_recharge.amount);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	PERFORM submeter.require_open_account(credit_recharge.site_id, credit_recharge.account_id);
	IF credit_recharge.limited THEN
		PERFORM submeter.require_room(credit_recharge.site_id, credit_recharge.account_id, credit_recharge.amount);
	END IF;
	made_at := clock_timestamp();
	movement := submeter.post_movement(credit_recharge.site_id, credit_recharge.account_id, credit_recharge.amount, 'recharge',
		submeter.system_ledger_account(credit_recharge.site_id, 'clearing:' || credit_recharge.method, 'clearing'),
		credit_recharge.idempotency_key, made_at, credit_recharge.method, credit_recharge.note);
	PERFORM submeter.post_fee(credit_recharge.site_id, credit_recharge.account_id, movement, credit_recharge.method, credit_recharge.fee,
		credit_recharge.idempotency_key, made_at);
	PERFORM submeter.allocate_recharge(credit_recharge.site_id, credit_recharge.account_id, credit_recharge.amount, movement, made_at);
	PERFORM submeter.recharge_follow(credit_recharge.site_id, credit_recharge.account_id, credit_recharge.amount, movement, made_at);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.credit_recharge(int, bigint, numeric, text, text, text, boolean, numeric) IS
'recharge() without asking who calls. limited false lets it pass the policy''s max_balance: what a provider has taken already must be credited. fee is what was paid on top.';

CREATE FUNCTION submeter.require_method(method text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_method.method IS NULL OR require_method.method !~ '^[a-z][a-z0-9_]{0,31}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a method of payment', coalesce(require_method.method, 'NULL')),
			HINT = 'Use a short lower-case word such as cash, bank or erp.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_method(text) IS 'Refuses (22023) what is no short lower-case word.';

CREATE FUNCTION submeter.recharge_follow(site_id int, account_id bigint, amount numeric, movement bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.queue_notice(recharge_follow.site_id, recharge_follow.account_id, 'recharge_received',
		'recharge:' || recharge_follow.movement::text, jsonb_build_object('amount', recharge_follow.amount),
		recharge_follow.as_of, false);
	-- A tenant is waiting.
	PERFORM submeter.wake_policy(recharge_follow.site_id, recharge_follow.as_of);
END
$$;
COMMENT ON FUNCTION submeter.recharge_follow(int, bigint, numeric, bigint, timestamptz) IS
'After a recharge: tells the tenant and lets the policy run at once.';

CREATE FUNCTION submeter.adjust(site_id int, account_id bigint, amount numeric, reason text, idempotency_key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movement bigint;
BEGIN
	PERFORM submeter.authorize('adjust', adjust.site_id);
	PERFORM submeter.require_amount(adjust.amount, true);
	PERFORM submeter.require_text('reason', adjust.reason);
	PERFORM submeter.require_key(adjust.idempotency_key);
	PERFORM submeter.lock_account(adjust.site_id, adjust.account_id);
	movement := submeter.known_movement(adjust.site_id, adjust.idempotency_key, adjust.account_id, 'adjustment', NULL, adjust.amount);
	IF movement IS NOT NULL THEN
		RETURN movement;
	END IF;
	PERFORM submeter.require_open_account(adjust.site_id, adjust.account_id);
	PERFORM submeter.require_approval('adjust', adjust.site_id,
		jsonb_build_object('account_id', adjust.account_id, 'amount', adjust.amount));
	RETURN submeter.post_movement(adjust.site_id, adjust.account_id, adjust.amount, 'adjustment',
		submeter.system_ledger_account(adjust.site_id, 'adjustment', 'adjustment'), adjust.idempotency_key, clock_timestamp(),
		NULL, adjust.reason);
END
$$;
COMMENT ON FUNCTION submeter.adjust(int, bigint, numeric, text, text) IS
'Credits (positive) or debits (negative) an account with a reason and returns the movement; idempotent by key like recharge. Passes the approval hook with {account_id, amount}.';

CREATE FUNCTION submeter.reverse_movement(site_id int, transfer_id bigint, reason text, idempotency_key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	original submeter.transfer;
	tenant_credited boolean;
	movement bigint;
BEGIN
	PERFORM submeter.authorize('reverse_movement', reverse_movement.site_id);
	PERFORM submeter.require_text('reason', reverse_movement.reason);
	PERFORM submeter.require_key(reverse_movement.idempotency_key);
	SELECT t.* INTO original FROM submeter.transfer t
	WHERE t.site_id = reverse_movement.site_id AND t.transfer_id = reverse_movement.transfer_id AND t.leg = 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no movement %s', reverse_movement.site_id,
			coalesce(reverse_movement.transfer_id::text, 'NULL')), HINT = 'SELECT transfer_id, kind, amount FROM submeter.transfer lists them.';
	END IF;
	IF original.kind NOT IN ('recharge', 'adjustment') OR original.method IN ('alipay', 'wechat') OR original.cycle_start IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('a %s is not reversed', original.kind),
			DETAIL = 'Charges and providers'' payments stay as they are.', HINT = 'Use adjust(), or a refund for a provider''s payment.';
	END IF;
	PERFORM submeter.lock_account(reverse_movement.site_id, original.account_id);
	SELECT l.kind = 'tenant' INTO tenant_credited FROM submeter.ledger_account l
	WHERE l.site_id = original.site_id AND l.ledger_account_id = original.credit_id;
	movement := submeter.known_movement(reverse_movement.site_id, reverse_movement.idempotency_key, original.account_id, 'reversal',
		original.method, CASE WHEN tenant_credited THEN -original.amount ELSE original.amount END);
	IF movement IS NOT NULL THEN
		-- Two movements of one amount are still two.
		IF NOT EXISTS (SELECT FROM submeter.transfer t WHERE t.site_id = original.site_id AND t.transfer_id = movement
			AND t.reverses_id = original.transfer_id)
		THEN
			RAISE EXCEPTION USING ERRCODE = '23505',
				MESSAGE = format('idempotency key "%s" was used for another movement', reverse_movement.idempotency_key),
				DETAIL = format('Movement %s reverses another one than %s.', movement, original.transfer_id),
				HINT = 'Use a new key for a new movement; repeat a call with exactly its first arguments.';
		END IF;
		RETURN movement;
	END IF;
	PERFORM submeter.require_open_account(reverse_movement.site_id, original.account_id);
	IF EXISTS (SELECT FROM submeter.transfer t WHERE t.site_id = original.site_id AND t.reverses_id = original.transfer_id) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('movement %s is reversed already', original.transfer_id),
			HINT = 'A movement is reversed once; post a new one instead.';
	END IF;
	PERFORM submeter.require_approval('reverse_movement', reverse_movement.site_id,
		jsonb_build_object('transfer_id', reverse_movement.transfer_id));
	movement := submeter.post_movement(original.site_id, original.account_id,
		CASE WHEN tenant_credited THEN -original.amount ELSE original.amount END, 'reversal',
		CASE WHEN tenant_credited THEN original.debit_id ELSE original.credit_id END,
		reverse_movement.idempotency_key, clock_timestamp(), original.method, reverse_movement.reason, original.transfer_id);
	PERFORM submeter.reverse_fee(original.site_id, original.transfer_id, movement);
	PERFORM submeter.unallocate_recharge(original.site_id, original.account_id, original.transfer_id, movement);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.reverse_movement(int, bigint, text, text) IS
'Takes back a recharge, its fee with it, or an adjustment by an opposite movement that names it. 55000 for charges, providers'' payments and what is reversed already. Passes the approval hook with {transfer_id}.';
