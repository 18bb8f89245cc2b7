-- Room: reconciliation, the part of people: what a row that is open may become, and that the books say what was decided.

CREATE FUNCTION submeter.reconcile_choices(kind text, result text, payment_receipt_id bigint) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE reconcile_choices.result
			WHEN 'orphan' THEN CASE WHEN reconcile_choices.kind = 'refund' THEN '{foreign}' WHEN reconcile_choices.payment_receipt_id IS NULL THEN '{credit,foreign}' ELSE '{credit}' END
			WHEN 'elsewhere' THEN '{book_refund}'
			WHEN 'amount_differs' THEN '{book_difference}'
			WHEN 'other' THEN '{foreign}'
			ELSE '{}' END::text[] || '{settled}'::text[]
$$;
COMMENT ON FUNCTION submeter.reconcile_choices(text, text, bigint) IS 'The decisions a row allows.';

CREATE FUNCTION submeter.decision_key(site_id int, reconcile_row_id bigint) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('payment:reconcile:%s:%s', decision_key.reconcile_row_id, 1 + count(*))
	FROM submeter.transfer t
	WHERE t.site_id = decision_key.site_id AND t.idempotency_key LIKE format('payment:reconcile:%s:%%', decision_key.reconcile_row_id)
$$;
COMMENT ON FUNCTION submeter.decision_key(int, bigint) IS 'Key of the next movement that is decided for a row; a corrected file may open it again.';

CREATE FUNCTION submeter.credit_found(site_id int, reconcile_row_id bigint, provider text, account_id bigint, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	found_amount numeric;
	movement bigint;
BEGIN
	SELECT r.* INTO STRICT item FROM submeter.reconcile_row r
	WHERE r.site_id = credit_found.site_id AND r.reconcile_row_id = credit_found.reconcile_row_id;
	-- Through suspense, like all money without an order: the receipt stands for the transaction whoever gets the money.
	IF item.payment_receipt_id IS NULL THEN
		PERFORM submeter.repair_payment(item.site_id, item.reconcile_row_id, 'decision', credit_found.as_of);
	END IF;
	SELECT r.ours INTO STRICT found_amount FROM submeter.reconcile_row r
	WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id;
	PERFORM submeter.lock_account(item.site_id, credit_found.account_id);
	PERFORM submeter.require_open_account(item.site_id, credit_found.account_id);
	movement := submeter.post_movement(item.site_id, credit_found.account_id, found_amount, 'recharge',
		submeter.system_ledger_account(item.site_id, 'suspense:' || credit_found.provider, 'suspense'), submeter.decision_key(item.site_id, item.reconcile_row_id),
		credit_found.as_of, credit_found.provider, item.out_trade_no);
	PERFORM submeter.allocate_recharge(item.site_id, credit_found.account_id, found_amount, movement, credit_found.as_of);
	PERFORM submeter.recharge_follow(item.site_id, credit_found.account_id, found_amount, movement, credit_found.as_of);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.credit_found(int, bigint, text, bigint, timestamptz) IS
'Money of nobody is a recharge of an account: out of suspense, where it goes first if it is not there yet. 55000 for a closed account.';

CREATE FUNCTION submeter.book_found_refund(site_id int, reconcile_row_id bigint, provider text, reason text, as_of timestamptz, OUT account_id bigint, OUT transfer_id bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	clearing bigint := submeter.system_ledger_account(book_found_refund.site_id, 'clearing:' || book_found_refund.provider, 'clearing');
	receipt submeter.payment_receipt;
	refund_id bigint;
BEGIN
	SELECT r.* INTO STRICT item FROM submeter.reconcile_row r
	WHERE r.site_id = book_found_refund.site_id AND r.reconcile_row_id = book_found_refund.reconcile_row_id;
	SELECT t.* INTO STRICT receipt FROM submeter.payment_receipt t
	WHERE t.site_id = item.site_id AND t.payment_receipt_id = item.payment_receipt_id;
	account_id := coalesce(receipt.account_id, submeter.receipt_given_to(receipt.site_id, receipt.payment_receipt_id));
	IF account_id IS NULL THEN
		transfer_id := submeter.next_movement(receipt.site_id);
		PERFORM submeter.post_leg(receipt.site_id, transfer_id, 1, submeter.system_ledger_account(receipt.site_id, 'suspense:' || book_found_refund.provider, 'suspense'), clearing,
			item.amount, 'refund', NULL, submeter.decision_key(item.site_id, item.reconcile_row_id), book_found_refund.as_of, book_found_refund.provider, book_found_refund.reason);
	ELSE
		PERFORM submeter.lock_account(receipt.site_id, account_id);
		transfer_id := submeter.post_movement(receipt.site_id, account_id, -item.amount, 'refund', clearing, submeter.decision_key(item.site_id, item.reconcile_row_id),
			book_found_refund.as_of, book_found_refund.provider, book_found_refund.reason);
		PERFORM submeter.settle_proposals(receipt.site_id, account_id, 'refund', item.amount, transfer_id, book_found_refund.reason);
	END IF;
	INSERT INTO submeter.payment_refund AS f (site_id, payment_receipt_id, account_id, amount, out_request_no, state, transfer_id, reason, asked_by, asked_at, finished_at, detail)
	VALUES (receipt.site_id, receipt.payment_receipt_id, account_id, item.amount,
		format('s%s_found_%s_%s', receipt.site_id, item.reconcile_row_id, transfer_id), 'done', transfer_id, book_found_refund.reason, (submeter.me()).login,
		book_found_refund.as_of, item.happened_at,
		concat_ws(' ', 'made at the provider:', item.refund_no, item.provider_refund))
	RETURNING f.payment_refund_id INTO refund_id;
	UPDATE submeter.reconcile_row r SET payment_refund_id = refund_id, ours = r.amount, booked = 0
	WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id;
END
$$;
COMMENT ON FUNCTION submeter.book_found_refund(int, bigint, text, text, timestamptz) IS
'A refund that was made at the provider is taken from the account its payment went to (or from suspense), and is a refund of ours from then on. The account may fall below zero: the money is gone.';

CREATE FUNCTION submeter.receipt_given_to(site_id int, payment_receipt_id bigint) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.account_id FROM submeter.reconcile_row r
	WHERE r.site_id = receipt_given_to.site_id AND r.payment_receipt_id = receipt_given_to.payment_receipt_id AND r.kind = 'payment' AND r.account_id IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.receipt_given_to(int, bigint) IS 'The account that money without an order was given to by a decision; NULL while it is in suspense.';

CREATE FUNCTION submeter.book_found_difference(site_id int, reconcile_row_id bigint, provider text, reason text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	difference numeric;
	its_account bigint;
	movement bigint;
BEGIN
	SELECT r.* INTO STRICT item FROM submeter.reconcile_row r
	WHERE r.site_id = book_found_difference.site_id AND r.reconcile_row_id = book_found_difference.reconcile_row_id;
	difference := item.amount - item.ours;
	SELECT coalesce(f.account_id, t.account_id, submeter.receipt_given_to(t.site_id, t.payment_receipt_id)) INTO its_account FROM submeter.payment_receipt t
	LEFT JOIN submeter.payment_refund f ON f.site_id = t.site_id AND f.payment_refund_id = item.payment_refund_id
	WHERE t.site_id = item.site_id AND t.payment_receipt_id = item.payment_receipt_id;
	PERFORM submeter.lock_account(item.site_id, its_account);
	movement := submeter.post_movement(item.site_id, its_account, CASE item.kind WHEN 'payment' THEN difference ELSE -difference END, 'adjustment',
		submeter.system_ledger_account(item.site_id, 'clearing:' || book_found_difference.provider, 'clearing'), submeter.decision_key(item.site_id, item.reconcile_row_id),
		book_found_difference.as_of, NULL, book_found_difference.reason);
	UPDATE submeter.reconcile_row r SET ours = r.amount, booked = r.booked + difference
	WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id;
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.book_found_difference(int, bigint, text, text, timestamptz) IS
'The account gets, or gives back, what the provider''s file has more or less than the books.';

CREATE FUNCTION submeter.require_open_row(site_id int, reconcile_row_id bigint, decision text, account_id bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	choices text[];
BEGIN
	SELECT r.* INTO item FROM submeter.reconcile_row r WHERE r.site_id = require_open_row.site_id AND r.reconcile_row_id = require_open_row.reconcile_row_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no row %s of reconciliation', require_open_row.site_id, coalesce(require_open_row.reconcile_row_id::text, 'NULL')),
			HINT = 'SELECT * FROM submeter.reconcile_row WHERE state = ''open'' lists what waits.';
	END IF;
	-- A file of the day that is taken at this moment is waited for.
	PERFORM submeter.lock_day(item.site_id, item.merchant_id, item.day);
	SELECT r.* INTO item FROM submeter.reconcile_row r WHERE r.site_id = require_open_row.site_id AND r.reconcile_row_id = require_open_row.reconcile_row_id FOR UPDATE;
	choices := submeter.reconcile_choices(item.kind, item.result, item.payment_receipt_id);
	IF item.state <> 'open' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('row %s does not wait for a decision', item.reconcile_row_id),
			DETAIL = format('It is %s%s.', item.result, coalesce(', and was decided as ' || item.decision || ' by ' || item.decided_by, '')),
			HINT = 'SELECT * FROM submeter.reconcile_row WHERE state = ''open'' lists what waits.';
	ELSIF require_open_row.decision IS NULL OR NOT require_open_row.decision = ANY (choices) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no decision about row %s', coalesce(require_open_row.decision, 'NULL'), item.reconcile_row_id),
			DETAIL = format('The row (%s) is %s.', item.kind, item.result), HINT = format('Decide it as %s.', array_to_string(choices, ' or '));
	ELSIF (require_open_row.decision = 'credit') <> (require_open_row.account_id IS NOT NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'account_id goes with the decision credit',
			DETAIL = 'Whom money without an order belongs to has to be said; all else follows from the row.', HINT = 'Pass account_id for credit, and for nothing else.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_open_row(int, bigint, text, bigint) IS
'Locks the row a decision is about, and its day. P0002 unknown, 55000 not open, 22023 for a decision the row does not allow.';

CREATE FUNCTION submeter.decide_reconcile(site_id int, reconcile_row_id bigint, decision text, reason text, account_id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	as_of timestamptz := clock_timestamp();
	item submeter.reconcile_row;
	provider text;
	booked record;
	movement bigint;
	its_account bigint := decide_reconcile.account_id;
BEGIN
	PERFORM submeter.authorize('decide_reconcile', decide_reconcile.site_id);
	PERFORM submeter.require_text('reason', decide_reconcile.reason);
	PERFORM submeter.require_open_row(decide_reconcile.site_id, decide_reconcile.reconcile_row_id, decide_reconcile.decision, decide_reconcile.account_id);
	SELECT r.* INTO STRICT item FROM submeter.reconcile_row r WHERE r.site_id = decide_reconcile.site_id AND r.reconcile_row_id = decide_reconcile.reconcile_row_id;
	PERFORM submeter.require_approval('decide_reconcile', decide_reconcile.site_id, jsonb_strip_nulls(jsonb_build_object('reconcile_row_id', item.reconcile_row_id,
		'decision', decide_reconcile.decision, 'account_id', decide_reconcile.account_id)));
	SELECT m.provider INTO STRICT provider FROM submeter.merchant m WHERE m.site_id = item.site_id AND m.merchant_id = item.merchant_id;
	CASE decide_reconcile.decision
		WHEN 'credit' THEN movement := submeter.credit_found(item.site_id, item.reconcile_row_id, provider, decide_reconcile.account_id, as_of);
		WHEN 'book_refund' THEN
			SELECT b.account_id, b.transfer_id INTO its_account, movement FROM submeter.book_found_refund(item.site_id, item.reconcile_row_id, provider, decide_reconcile.reason, as_of) b;
		WHEN 'book_difference' THEN movement := submeter.book_found_difference(item.site_id, item.reconcile_row_id, provider, decide_reconcile.reason, as_of);
		ELSE NULL;
	END CASE;
	UPDATE submeter.reconcile_row r
	SET state = 'done', decision = decide_reconcile.decision, reason = decide_reconcile.reason, decided_by = (submeter.me()).login, decided_at = as_of,
		account_id = coalesce(its_account, r.account_id), transfer_id = coalesce(movement, r.transfer_id), result = item.result
	WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id;
	PERFORM submeter.book_fees(item.site_id, item.merchant_id, item.day, provider, as_of);
	RETURN movement;
END
$$;
COMMENT ON FUNCTION submeter.decide_reconcile(int, bigint, text, text, bigint) IS
'A person decides an open row of reconciliation and says why; returns the movement, NULL when none follows. orphan: credit (to account_id), foreign (not ours; not once it is in suspense); elsewhere: book_refund (taken from the account of the payment); amount_differs: book_difference; other: foreign; any: settled (explained, nothing is booked). Passes the approval hook with {reconcile_row_id, decision, account_id}. P0002 unknown row or account, 55000 not open, or a closed account; 22023 for another decision.';

CREATE FUNCTION submeter.verify_reconcile(site_id int)
RETURNS TABLE (problem text, account_id bigint, transfer_id bigint, expected numeric, found numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH decided AS (
		SELECT t.*, split_part(t.idempotency_key, ':', 3) AS row_id FROM submeter.transfer t
		WHERE t.site_id = verify_reconcile.site_id AND t.idempotency_key LIKE 'payment:reconcile:%'
	), fee AS (
		SELECT split_part(t.idempotency_key, ':', 3) AS merchant, split_part(t.idempotency_key, ':', 4) AS day, max(t.transfer_id) AS transfer_id,
			sum(CASE WHEN l.kind = 'cost' THEN t.amount ELSE -t.amount END) AS amount
		FROM submeter.transfer t
		JOIN submeter.ledger_account l ON l.site_id = t.site_id AND l.ledger_account_id = t.debit_id
		WHERE t.site_id = verify_reconcile.site_id AND t.kind = 'provider_fee'
		GROUP BY 1, 2
	)
	SELECT format('row %s of reconciliation says that it is in the books, and it is not', r.reconcile_row_id), t.account_id, t.transfer_id, r.ours,
		CASE r.kind WHEN 'payment' THEN t.amount ELSE f.amount END + r.booked
	FROM submeter.reconcile_row r
	LEFT JOIN submeter.payment_receipt t ON t.site_id = r.site_id AND t.payment_receipt_id = r.payment_receipt_id
	LEFT JOIN submeter.payment_refund f ON f.site_id = r.site_id AND f.payment_refund_id = r.payment_refund_id
	WHERE r.site_id = verify_reconcile.site_id AND (r.result IN ('matched', 'repaired') AND r.ours IS DISTINCT FROM r.amount
		OR r.ours IS NOT NULL AND r.ours IS DISTINCT FROM CASE r.kind WHEN 'payment' THEN t.amount ELSE f.amount END + r.booked)
	UNION ALL
	SELECT format('row %s of reconciliation was decided without its movement', r.reconcile_row_id), r.account_id, r.transfer_id, r.amount, 0
	FROM submeter.reconcile_row r
	WHERE r.site_id = verify_reconcile.site_id AND r.decision IN ('credit', 'book_refund', 'book_difference')
		AND NOT EXISTS (SELECT FROM decided t WHERE t.transfer_id = r.transfer_id AND t.row_id = r.reconcile_row_id::text)
	UNION ALL
	SELECT 'movement of a decision without the row it is about', t.account_id, t.transfer_id, 0, t.amount
	FROM decided t
	WHERE NOT EXISTS (SELECT FROM submeter.reconcile_row r WHERE r.site_id = t.site_id AND r.reconcile_row_id::text = t.row_id)
	UNION ALL
	SELECT format('fees of %s differ from the file (merchant %s)', coalesce(d.day, f.day), coalesce(d.merchant, f.merchant)), NULL, f.transfer_id, coalesce(d.amount, 0), coalesce(f.amount, 0)
	FROM (
		SELECT d.merchant_id::text AS merchant, to_char(d.day, 'YYYY-MM-DD') AS day, submeter.fees_of(d.site_id, d.merchant_id, d.day) AS amount
		FROM submeter.reconcile_day d WHERE d.site_id = verify_reconcile.site_id) d
	FULL JOIN fee f ON f.merchant = d.merchant AND f.day = d.day
	WHERE coalesce(d.amount, 0) <> coalesce(f.amount, 0)
$$;
COMMENT ON FUNCTION submeter.verify_reconcile(int) IS
'Part of verify_ledger: what rows of reconciliation say of the books is there, decisions have their movements and the other way round, and fees are those of the files.';

CREATE FUNCTION submeter.reconcile_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'reconcile_open', NULL::bigint, NULL::bigint, reconcile_conditions.as_of,
		format('%s rows of %s to %s wait for a decision', count(*), to_char(min(r.day), 'YYYY-MM-DD'), to_char(max(r.day), 'YYYY-MM-DD'))
	FROM submeter.reconcile_row r
	WHERE r.site_id = reconcile_conditions.site_id AND r.state = 'open'
	HAVING count(*) > 0
	UNION ALL
	SELECT 'reconcile_late', NULL, NULL, reconcile_conditions.as_of,
		format('no file of %s of %s', string_agg(DISTINCT m.provider, ' and '), to_char(min(d.day), 'YYYY-MM-DD'))
	FROM submeter.reconcile_day d
	JOIN submeter.merchant m ON m.site_id = d.site_id AND m.merchant_id = d.merchant_id AND submeter.is_reconciled(d.site_id, d.merchant_id, reconcile_conditions.as_of)
	-- A provider that says there is none is asked once more; the others are late at noon of the second day.
	WHERE d.site_id = reconcile_conditions.site_id AND d.state IN ('asked', 'failed') AND d.no_bill_at IS NULL
		AND d.day < submeter.china_day(reconcile_conditions.as_of - interval '12 hours') - 1 AND d.day >= submeter.china_day(reconcile_conditions.as_of) - 60
	HAVING count(*) > 0
$$;
COMMENT ON FUNCTION submeter.reconcile_conditions(int, timestamptz) IS 'Rows of reconciliation that wait for a decision, and days whose file has not come.';
