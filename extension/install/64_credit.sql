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
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((
		SELECT CASE WHEN l.kind = 'deposit' THEN l.total ELSE -l.total END FROM submeter.ledger_account l
		WHERE l.site_id = side_total.site_id AND l.account_id = side_total.account_id AND l.kind = side_total.kind), 0);
END
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
