-- Room: reconciliation. Each day's file of a provider against orders, receipts and the ledger: what was lost is put right at
-- once, everything else that differs is a row a person decides. Days are China's whatever the site's are.
-- Lock order: reconcile_day, its rows, then as payments do: payment_order, payment_refund, tenant accounts, each by number.

CREATE FUNCTION submeter.china_day(at timestamptz) RETURNS date
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (china_day.at AT TIME ZONE 'Asia/Shanghai')::date
$$;
COMMENT ON FUNCTION submeter.china_day(timestamptz) IS 'The day in China time, by which providers cut their files.';

CREATE FUNCTION submeter.china_midnight(day date) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT china_midnight.day::timestamp AT TIME ZONE 'Asia/Shanghai'
$$;
COMMENT ON FUNCTION submeter.china_midnight(date) IS 'When a day begins in China.';

CREATE FUNCTION submeter.is_reconciled(site_id int, merchant_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- One that takes no new orders still has older ones paid, and refunds.
	SELECT m.enabled OR EXISTS (SELECT FROM submeter.payment_event e
		WHERE e.site_id = m.site_id AND e.merchant_id = m.merchant_id AND e.source <> 'bill' AND e.received_at > is_reconciled.as_of - interval '8 days')
	FROM submeter.merchant m WHERE m.site_id = is_reconciled.site_id AND m.merchant_id = is_reconciled.merchant_id
$$;
COMMENT ON FUNCTION submeter.is_reconciled(int, bigint, timestamptz) IS 'Whether the files of a merchant are wanted: it is enabled, or its provider said something of its orders or refunds in the last eight days.';

CREATE FUNCTION submeter.bill_merchant(site_id int, provider text, account text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_ids bigint[];
BEGIN
	-- A file without lines does not say whose it is. Two applications of one account have one file.
	SELECT array_agg(m.merchant_id ORDER BY m.enabled DESC, m.merchant_id DESC) INTO found_ids FROM submeter.merchant m
	WHERE m.site_id = bill_merchant.site_id AND m.provider = bill_merchant.provider AND m.seller = coalesce(bill_merchant.account, m.seller);
	IF found_ids IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the file is of account %s, which is none of the site''s', coalesce(bill_merchant.account, 'NULL')),
			DETAIL = format('Site %s has no merchant of %s with this seller.', bill_merchant.site_id, bill_merchant.provider),
			HINT = 'SELECT provider, seller FROM submeter.merchant lists the accounts of the site.';
	ELSIF bill_merchant.account IS NULL AND cardinality(found_ids) > 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the file does not say whose it is',
			DETAIL = 'It has no lines, and the site has several accounts at the provider.', HINT = 'There is nothing in it to reconcile.';
	END IF;
	RETURN found_ids[1];
END
$$;
COMMENT ON FUNCTION submeter.bill_merchant(int, text, text) IS
'The merchant of the site whose account at the provider a file is of; 22023 when there is none, or when a file without account could be of several.';

CREATE FUNCTION submeter.check_bill(provider text, day date, file bytea) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen record;
	begins timestamptz := submeter.china_midnight(check_bill.day);
	ends timestamptz := submeter.china_midnight(check_bill.day + 1);
BEGIN
	SELECT min(b.account) AS account, max(b.account) AS last_account,
		min(b.line) FILTER (WHERE b.happened_at < begins OR b.happened_at >= ends) AS strange_day,
		min(b.line) FILTER (WHERE b.kind <> 'other' AND (b.amount IS NULL OR b.amount <= 0 OR scale(trim_scale(b.amount)) > 2 OR b.amount >= 1000000000)) AS strange_amount,
		min(b.line) FILTER (WHERE b.kind <> 'other' AND coalesce(b.provider_transaction, '') = '') AS nameless
	INTO seen
	FROM submeter.provider_bill(check_bill.provider, check_bill.file) b;
	IF seen.account <> seen.last_account THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the file is of more than one account',
			DETAIL = format('It has lines of %s and of %s.', seen.account, seen.last_account), HINT = 'Hand in one file per account.';
	ELSIF coalesce(seen.strange_day, seen.strange_amount, seen.nameless) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the file is not the one of %s', to_char(check_bill.day, 'YYYY-MM-DD')),
			DETAIL = CASE WHEN seen.strange_day IS NOT NULL THEN format('Line %s is of another day in China time.', seen.strange_day)
				WHEN seen.strange_amount IS NOT NULL THEN format('Line %s has an amount that is none.', seen.strange_amount)
				ELSE format('Line %s does not have the provider''s number.', seen.nameless) END,
			HINT = 'Take the daily file of transactions as the provider hands it out.';
	END IF;
	RETURN seen.account;
END
$$;
COMMENT ON FUNCTION submeter.check_bill(text, date, bytea) IS
'Reads a file once without following it and returns whose it is, NULL without lines; 22023 for several accounts, lines of another day, amounts that are none.';

CREATE FUNCTION submeter.keep_bill(site_id int, merchant_id bigint, day date, source text, file bytea, problem text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	digest bytea := sha256(keep_bill.file);
	kept bigint;
BEGIN
	SELECT f.reconcile_file_id INTO kept FROM submeter.reconcile_file f
	WHERE f.site_id = keep_bill.site_id AND f.merchant_id = keep_bill.merchant_id AND f.day = keep_bill.day AND f.sha256 = digest;
	IF kept IS NULL THEN
		INSERT INTO submeter.reconcile_file AS f (site_id, merchant_id, day, source, sha256, bytes, file, problem, taken_by)
		VALUES (keep_bill.site_id, keep_bill.merchant_id, keep_bill.day, keep_bill.source, digest, octet_length(keep_bill.file), keep_bill.file,
			keep_bill.problem, (submeter.me()).login)
		RETURNING f.reconcile_file_id INTO kept;
	END IF;
	RETURN kept;
END
$$;
COMMENT ON FUNCTION submeter.keep_bill(int, bigint, date, text, bytea, text) IS 'Keeps a file, once, and returns its number. The day is locked by the caller.';

CREATE FUNCTION submeter.bill_items(site_id int, merchant_id bigint, day date, provider text, reconcile_file_id bigint, file bytea)
RETURNS TABLE (item text, line int, kind text, provider_transaction text, out_trade_no text, refund_no text, provider_refund text, amount numeric, ours numeric, fee numeric,
	settled numeric, happened_at timestamptz, subject text, payment_order_id bigint, payment_receipt_id bigint, payment_refund_id bigint, result text, reconcile_row_id bigint, known boolean)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH counted AS (
		SELECT n.*, row_number() OVER (PARTITION BY n.name COLLATE "C" ORDER BY n.line) AS nth
		FROM (SELECT b.line, b.kind, b.provider_transaction, b.out_trade_no, b.refund_no, b.provider_refund, b.amount, b.fee, b.settled, b.happened_at, b.subject,
			-- WeChat Pay lists refunds when they are asked for; those on their way are asked about as ever.
			b.kind = 'refund' AND bill_items.provider = 'wechat' AND b.raw NOT LIKE '%,`SUCCESS,`%' AS under_way, CASE b.kind WHEN 'payment' THEN 'p:' || b.provider_transaction
				WHEN 'refund' THEN concat('r:', b.provider_transaction, ':', coalesce(b.refund_no, b.provider_refund))
				ELSE concat('o:', b.provider_transaction, ':', b.refund_no) END AS name
		FROM submeter.provider_bill(bill_items.provider, bill_items.file) b) n
	), item AS (
		SELECT c.*, CASE c.nth WHEN 1 THEN c.name ELSE c.name || '#' || c.nth::text END AS item FROM counted c
	), met AS (
		SELECT i.*, r.payment_receipt_id, r.amount AS received, r.kind AS receipt_kind, o.payment_order_id, coalesce(w.booked, 0) AS booked, w.account_id AS given_to,
			w.reconcile_row_id, w.reconcile_file_id = bill_items.reconcile_file_id AS same_file, w.result AS result_before, w.ours AS ours_before, w.decision IS NOT NULL AS decided,
			(w.payment_receipt_id, w.payment_refund_id) AS links_before,
			coalesce(g.payment_refund_id, f.payment_refund_id) AS payment_refund_id, coalesce(g.state, f.state) AS refund_state, coalesce(g.amount, f.amount) AS paid_back
		FROM item i
		LEFT JOIN submeter.payment_receipt r ON r.site_id = bill_items.site_id AND r.merchant_id = bill_items.merchant_id AND r.provider_transaction = i.provider_transaction
		LEFT JOIN submeter.payment_order o ON o.site_id = bill_items.site_id AND o.out_trade_no = i.out_trade_no AND o.merchant_id = bill_items.merchant_id
		LEFT JOIN submeter.payment_refund f ON f.site_id = bill_items.site_id AND f.out_request_no = i.refund_no AND f.payment_receipt_id = r.payment_receipt_id
		LEFT JOIN submeter.reconcile_row w ON w.site_id = bill_items.site_id AND w.merchant_id = bill_items.merchant_id AND w.day = bill_items.day AND w.item = i.item
		-- The one a decision made; its number is ours, the file has another.
		LEFT JOIN submeter.payment_refund g ON g.site_id = bill_items.site_id AND g.payment_refund_id = w.payment_refund_id
	), judged AS (
		SELECT m.*, CASE
			WHEN m.nth > 1 THEN 'repeated'
			WHEN m.kind = 'payment' AND m.payment_receipt_id IS NOT NULL THEN CASE WHEN m.receipt_kind = 'unknown_order' AND m.given_to IS NULL THEN 'orphan'
				WHEN m.received + m.booked <> m.amount THEN 'amount_differs' ELSE 'matched' END
			WHEN m.kind = 'payment' AND (m.payment_order_id IS NOT NULL OR m.out_trade_no ~ format('^s%s_[0-9]+_', bill_items.site_id)) THEN 'lost'
			WHEN m.kind = 'refund' AND m.refund_state IS NOT NULL THEN CASE WHEN m.refund_state = 'failed' THEN 'elsewhere'
				WHEN m.paid_back + m.booked <> m.amount THEN 'amount_differs'
				WHEN m.refund_state = 'done' OR m.under_way THEN 'matched' ELSE 'lost' END
			WHEN m.kind = 'refund' AND m.payment_receipt_id IS NOT NULL THEN 'elsewhere'
			WHEN m.out_trade_no ~ s.other_numbers THEN 'foreign'
			-- It moved nothing there, and here it was booked back.
			WHEN m.kind = 'other' THEN CASE m.refund_state WHEN 'failed' THEN 'refused' ELSE 'other' END
			ELSE 'orphan' END AS result
		FROM met m
		JOIN submeter.merchant s ON s.site_id = bill_items.site_id AND s.merchant_id = bill_items.merchant_id
	)
	SELECT x.item, x.line, x.kind, x.provider_transaction, x.out_trade_no, x.refund_no, x.provider_refund, coalesce(x.amount, 0)::numeric(14, 2), x.ours, coalesce(x.fee, 0)::numeric(14, 5),
		x.settled::numeric(14, 2), x.happened_at, left(x.subject, 200), CASE x.kind WHEN 'payment' THEN x.payment_order_id END, x.receipt_id, x.refund_id, x.result, x.reconcile_row_id,
		coalesce(x.same_file AND x.ours IS NOT DISTINCT FROM x.ours_before AND (x.receipt_id, x.refund_id) IS NOT DISTINCT FROM x.links_before
			AND (x.decided OR x.result = x.result_before OR x.result_before = 'repaired' AND x.result = 'matched'), false)
	FROM (
		SELECT j.*, CASE WHEN j.nth = 1 AND j.kind <> 'other' THEN j.payment_receipt_id END AS receipt_id, CASE j.nth WHEN 1 THEN j.payment_refund_id END AS refund_id,
			(CASE WHEN j.nth > 1 THEN NULL WHEN j.kind = 'payment' THEN j.received + j.booked
				WHEN j.kind = 'refund' AND j.refund_state <> 'failed' THEN j.paid_back + j.booked END)::numeric(14, 2) AS ours
		FROM judged j) x
$$;
COMMENT ON FUNCTION submeter.bill_items(int, bigint, date, text, bigint, bytea) IS
'The lines of a file beside what is here: receipt, order and refund of each, and what follows from that. Two lines of the same thing are told apart by #2, #3 …; with the row of each that has one; known are those whose row says all that already.';

CREATE FUNCTION submeter.load_bill(site_id int, merchant_id bigint, day date, provider text, reconcile_file_id bigint, file bytea) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	WITH item AS MATERIALIZED (
		SELECT i.*, CASE WHEN i.result IN ('matched', 'foreign', 'refused') THEN 'done' ELSE 'open' END AS state
		FROM submeter.bill_items(load_bill.site_id, load_bill.merchant_id, load_bill.day, load_bill.provider, load_bill.reconcile_file_id, load_bill.file) i
		WHERE NOT i.known
	), changed AS (
		UPDATE submeter.reconcile_row r
		SET reconcile_file_id = load_bill.reconcile_file_id, line = i.line, out_trade_no = i.out_trade_no, refund_no = i.refund_no, provider_refund = i.provider_refund,
			amount = i.amount, ours = i.ours, fee = i.fee, settled = i.settled, happened_at = i.happened_at, subject = i.subject, payment_order_id = i.payment_order_id,
			payment_receipt_id = i.payment_receipt_id, payment_refund_id = i.payment_refund_id,
			-- A decision holds as long as the line says the same; what was put right stays on record as that.
			result = CASE WHEN r.decision IS NOT NULL AND r.amount = i.amount OR r.result = 'repaired' AND i.result = 'matched' THEN r.result ELSE i.result END,
			state = CASE WHEN r.decision IS NOT NULL AND r.amount = i.amount THEN 'done' ELSE i.state END,
			decision = CASE WHEN r.amount = i.amount THEN r.decision END, reason = CASE WHEN r.amount = i.amount THEN r.reason END,
			decided_by = CASE WHEN r.amount = i.amount THEN r.decided_by END, decided_at = CASE WHEN r.amount = i.amount THEN r.decided_at END
		FROM item i
		WHERE r.site_id = load_bill.site_id AND r.reconcile_row_id = i.reconcile_row_id
	)
	INSERT INTO submeter.reconcile_row (site_id, merchant_id, day, item, reconcile_file_id, line, kind, provider_transaction, out_trade_no, refund_no, provider_refund,
		amount, ours, fee, settled, happened_at, subject, payment_order_id, payment_receipt_id, payment_refund_id, result, state)
	SELECT load_bill.site_id, load_bill.merchant_id, load_bill.day, i.item, load_bill.reconcile_file_id, i.line, i.kind, i.provider_transaction, i.out_trade_no, i.refund_no,
		i.provider_refund, i.amount, i.ours, i.fee, i.settled, i.happened_at, i.subject, i.payment_order_id, i.payment_receipt_id, i.payment_refund_id, i.result, i.state
	FROM item i WHERE i.reconcile_row_id IS NULL;
	-- What a corrected file does not have any more.
	UPDATE submeter.reconcile_row r
	SET reconcile_file_id = NULL, line = NULL, amount = NULL, fee = NULL, settled = NULL, decision = NULL, reason = NULL, decided_by = NULL, decided_at = NULL,
		result = CASE WHEN r.ours IS NULL THEN 'withdrawn' ELSE 'missing' END, state = CASE WHEN r.ours IS NULL THEN 'done' ELSE 'open' END
	WHERE r.site_id = load_bill.site_id AND r.merchant_id = load_bill.merchant_id AND r.day = load_bill.day AND r.line IS NOT NULL
		AND r.reconcile_file_id IS DISTINCT FROM load_bill.reconcile_file_id;
END
$$;
COMMENT ON FUNCTION submeter.load_bill(int, bigint, date, text, bigint, bytea) IS
'Makes the rows of a day those of a file: new ones, changed ones, and those it lacks now. The same file changes nothing.';

CREATE FUNCTION submeter.lock_repairs(site_id int, merchant_id bigint, day date) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- All that follows, beforehand and in the order everybody keeps: somebody may hear of one of them at this moment.
	PERFORM FROM submeter.payment_order o
	WHERE o.site_id = lock_repairs.site_id AND o.idempotency_key IN (
		SELECT k.idempotency_key FROM submeter.payment_order k
		JOIN submeter.reconcile_row r ON r.site_id = k.site_id AND r.payment_order_id = k.payment_order_id
		WHERE r.site_id = lock_repairs.site_id AND r.merchant_id = lock_repairs.merchant_id AND r.day = lock_repairs.day AND r.state = 'open' AND r.result = 'lost')
	ORDER BY o.payment_order_id FOR UPDATE;
	PERFORM FROM submeter.payment_refund f
	WHERE f.site_id = lock_repairs.site_id AND f.payment_refund_id IN (
		SELECT r.payment_refund_id FROM submeter.reconcile_row r
		WHERE r.site_id = lock_repairs.site_id AND r.merchant_id = lock_repairs.merchant_id AND r.day = lock_repairs.day AND r.state = 'open' AND r.result = 'lost')
	ORDER BY f.payment_refund_id FOR UPDATE;
	PERFORM FROM submeter.ledger_account l
	WHERE l.site_id = lock_repairs.site_id AND l.kind = 'tenant' AND l.account_id IN (
		SELECT o.account_id FROM submeter.payment_order o
		JOIN submeter.reconcile_row r ON r.site_id = o.site_id AND r.payment_order_id = o.payment_order_id
		WHERE r.site_id = lock_repairs.site_id AND r.merchant_id = lock_repairs.merchant_id AND r.day = lock_repairs.day AND r.state = 'open' AND r.result = 'lost')
	ORDER BY l.ledger_account_id FOR NO KEY UPDATE;
END
$$;
COMMENT ON FUNCTION submeter.lock_repairs(int, bigint, date) IS 'Locks orders, refunds and accounts of all lost lines of a day, so that putting them right waits for nobody in between.';

CREATE FUNCTION submeter.repair_payment(site_id int, reconcile_row_id bigint, source text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	news submeter.payment_news;
	said text;
BEGIN
	SELECT r.* INTO STRICT item FROM submeter.reconcile_row r
	WHERE r.site_id = repair_payment.site_id AND r.reconcile_row_id = repair_payment.reconcile_row_id;
	news.verified := true;
	news.result := 'paid';
	news.out_trade_no := item.out_trade_no;
	news.transaction := item.provider_transaction;
	news.amount := item.amount;
	news.settled := item.settled;
	news.paid_at := item.happened_at;
	said := submeter.apply_payment(item.site_id, item.merchant_id, item.payment_order_id, repair_payment.source, news, repair_payment.as_of);
	UPDATE submeter.reconcile_row r
	SET payment_receipt_id = t.payment_receipt_id, ours = t.amount,
		result = CASE WHEN t.kind = 'unknown_order' THEN 'orphan' WHEN t.amount <> r.amount THEN 'amount_differs' WHEN said LIKE 'known already%' THEN 'matched' ELSE 'repaired' END,
		state = CASE WHEN t.kind = 'unknown_order' OR t.amount <> r.amount THEN 'open' ELSE 'done' END
	FROM submeter.payment_receipt t
	WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id
		AND t.site_id = item.site_id AND t.merchant_id = item.merchant_id AND t.provider_transaction = item.provider_transaction;
END
$$;
COMMENT ON FUNCTION submeter.repair_payment(int, bigint, text, timestamptz) IS
'Books a payment the file has and we had not heard of, the way a notification would; somebody else may have heard of it meanwhile.';

CREATE FUNCTION submeter.repair_lines(site_id int, merchant_id bigint, day date, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.reconcile_row;
	repaired bigint := 0;
BEGIN
	PERFORM submeter.lock_repairs(repair_lines.site_id, repair_lines.merchant_id, repair_lines.day);
	FOR item IN
		SELECT r.* FROM submeter.reconcile_row r
		WHERE r.site_id = repair_lines.site_id AND r.merchant_id = repair_lines.merchant_id AND r.day = repair_lines.day AND r.state = 'open' AND r.result = 'lost'
		ORDER BY r.line
	LOOP
		IF item.kind = 'payment' THEN
			PERFORM submeter.repair_payment(item.site_id, item.reconcile_row_id, 'reconcile', repair_lines.as_of);
		ELSE
			PERFORM submeter.apply_refund(item.site_id, item.payment_refund_id, 'done', format('in the file of %s', to_char(item.day, 'YYYY-MM-DD')), repair_lines.as_of);
			UPDATE submeter.reconcile_row r SET result = 'repaired', state = 'done' WHERE r.site_id = item.site_id AND r.reconcile_row_id = item.reconcile_row_id;
		END IF;
		repaired := repaired + 1;
	END LOOP;
	RETURN repaired;
END
$$;
COMMENT ON FUNCTION submeter.repair_lines(int, bigint, date, timestamptz) IS
'Puts right what is lost of a day: payments of orders of ours that nobody had told us of are credited, refunds under way that are in the file are done. Returns how many.';

CREATE FUNCTION submeter.find_missing(site_id int, merchant_id bigint, day date, until timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	begins timestamptz := submeter.china_midnight(find_missing.day);
	ends timestamptz := least(submeter.china_midnight(find_missing.day + 1), find_missing.until);
BEGIN
	INSERT INTO submeter.reconcile_row (site_id, merchant_id, day, item, kind, provider_transaction, out_trade_no, ours, happened_at, payment_order_id, payment_receipt_id, result, state)
	SELECT t.site_id, t.merchant_id, find_missing.day, 'p:' || t.provider_transaction, 'payment', t.provider_transaction, t.out_trade_no, t.amount, t.paid_at,
		t.payment_order_id, t.payment_receipt_id, 'missing', 'open'
	FROM submeter.payment_receipt t
	WHERE t.site_id = find_missing.site_id AND t.merchant_id = find_missing.merchant_id AND t.paid_at >= begins AND t.paid_at < ends
		AND NOT EXISTS (SELECT FROM submeter.reconcile_row r
			WHERE r.site_id = t.site_id AND r.payment_receipt_id = t.payment_receipt_id AND r.kind = 'payment' AND r.line IS NOT NULL)
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.reconcile_row (site_id, merchant_id, day, item, kind, provider_transaction, out_trade_no, refund_no, ours, happened_at, payment_receipt_id,
		payment_refund_id, result, state)
	SELECT t.site_id, t.merchant_id, find_missing.day, concat('r:', t.provider_transaction, ':', f.out_request_no), 'refund', t.provider_transaction, t.out_trade_no,
		f.out_request_no, f.amount, f.finished_at, t.payment_receipt_id, f.payment_refund_id, 'missing', 'open'
	FROM submeter.payment_refund f
	JOIN submeter.payment_receipt t ON t.site_id = f.site_id AND t.payment_receipt_id = f.payment_receipt_id AND t.merchant_id = find_missing.merchant_id
	WHERE f.site_id = find_missing.site_id AND f.state = 'done' AND f.finished_at >= begins AND f.finished_at < ends
		AND NOT EXISTS (SELECT FROM submeter.reconcile_row r
			WHERE r.site_id = f.site_id AND r.payment_refund_id = f.payment_refund_id AND r.line IS NOT NULL)
	ON CONFLICT DO NOTHING;
	-- What one day lacks another may have: around midnight the provider''s clock decides.
	UPDATE submeter.reconcile_row m SET result = 'other_day', state = 'done'
	WHERE m.site_id = find_missing.site_id AND m.merchant_id = find_missing.merchant_id AND m.state = 'open' AND m.result = 'missing'
		AND EXISTS (SELECT FROM submeter.reconcile_row r
			WHERE r.site_id = m.site_id AND r.kind = m.kind AND r.line IS NOT NULL
				AND CASE m.kind WHEN 'payment' THEN r.payment_receipt_id = m.payment_receipt_id ELSE r.payment_refund_id = m.payment_refund_id END);
END
$$;
COMMENT ON FUNCTION submeter.find_missing(int, bigint, date, timestamptz) IS
'Rows for receipts and refunds of ours, from before an instant, that the file of their day lacks; those that the file of any other day has are no longer missing.';

CREATE FUNCTION submeter.fees_of(site_id int, merchant_id bigint, day date) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Of what is in our books: another system's payments on the same account have fees of their own.
	SELECT round(coalesce(sum(r.fee), 0), 2) FROM submeter.reconcile_row r
	WHERE r.site_id = fees_of.site_id AND r.merchant_id = fees_of.merchant_id AND r.day = fees_of.day
		AND (r.ours IS NOT NULL OR r.result = 'other' AND r.decision IS DISTINCT FROM 'foreign')
$$;
COMMENT ON FUNCTION submeter.fees_of(int, bigint, date) IS 'What a provider keeps of a day, of the lines that are in our books.';

CREATE FUNCTION submeter.book_fees(site_id int, merchant_id bigint, day date, provider text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	key text := format('payment:fee:%s:%s', book_fees.merchant_id, to_char(book_fees.day, 'YYYY-MM-DD'));
	cost bigint := submeter.system_ledger_account(book_fees.site_id, 'fees:' || book_fees.provider, 'cost');
	clearing bigint := submeter.system_ledger_account(book_fees.site_id, 'clearing:' || book_fees.provider, 'clearing');
	booked record;
	difference numeric;
BEGIN
	SELECT count(*) AS times, coalesce(sum(CASE WHEN t.debit_id = cost THEN t.amount ELSE -t.amount END), 0) AS amount INTO booked
	FROM submeter.transfer t
	WHERE t.site_id = book_fees.site_id AND (t.idempotency_key = key OR t.idempotency_key LIKE key || ':%');
	difference := submeter.fees_of(book_fees.site_id, book_fees.merchant_id, book_fees.day) - booked.amount;
	IF difference <> 0 THEN
		PERFORM submeter.post_leg(book_fees.site_id, submeter.next_movement(book_fees.site_id), 1,
			CASE WHEN difference > 0 THEN cost ELSE clearing END, CASE WHEN difference > 0 THEN clearing ELSE cost END, abs(difference), 'provider_fee', NULL,
			key || CASE WHEN booked.times > 0 THEN ':' || (booked.times + 1)::text ELSE '' END, book_fees.as_of, book_fees.provider,
			format('%s, merchant %s', to_char(book_fees.day, 'YYYY-MM-DD'), book_fees.merchant_id));
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.book_fees(int, bigint, date, text, timestamptz) IS
'Books what the provider keeps of a day, as far as it is not booked: one movement, for a corrected file another one with the difference.';

CREATE FUNCTION submeter.lock_day(site_id int, merchant_id bigint, day date) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	INSERT INTO submeter.reconcile_day (site_id, merchant_id, day) VALUES (lock_day.site_id, lock_day.merchant_id, lock_day.day) ON CONFLICT DO NOTHING;
	PERFORM FROM submeter.reconcile_day d
	WHERE d.site_id = lock_day.site_id AND d.merchant_id = lock_day.merchant_id AND d.day = lock_day.day FOR UPDATE;
END
$$;
COMMENT ON FUNCTION submeter.lock_day(int, bigint, date) IS 'Makes the row of a day if need be and locks it: whoever takes a file or decides a row of the day takes turns.';

CREATE FUNCTION submeter.take_bill(site_id int, merchant_id bigint, provider text, day date, file bytea, source text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
	file_id bigint;
	is_over boolean := take_bill.day < submeter.china_day(take_bill.as_of);
BEGIN
	PERFORM submeter.lock_day(take_bill.site_id, take_bill.merchant_id, take_bill.day);
	file_id := submeter.keep_bill(take_bill.site_id, take_bill.merchant_id, take_bill.day, take_bill.source, take_bill.file, NULL);
	PERFORM submeter.load_bill(take_bill.site_id, take_bill.merchant_id, take_bill.day, take_bill.provider, file_id, take_bill.file);
	PERFORM submeter.repair_lines(take_bill.site_id, take_bill.merchant_id, take_bill.day, take_bill.as_of);
	-- Of a day that goes on the file is a beginning, and compared as far as it goes.
	PERFORM submeter.find_missing(take_bill.site_id, take_bill.merchant_id, take_bill.day, CASE WHEN is_over THEN 'infinity' ELSE (
		SELECT coalesce(max(r.happened_at), '-infinity') FROM submeter.reconcile_row r
		WHERE r.site_id = take_bill.site_id AND r.merchant_id = take_bill.merchant_id AND r.day = take_bill.day AND r.line IS NOT NULL) END);
	PERFORM submeter.book_fees(take_bill.site_id, take_bill.merchant_id, take_bill.day, take_bill.provider, take_bill.as_of);
	UPDATE submeter.reconcile_day d
	SET lines = s.lines, paid = s.paid, refunded = s.refunded, fee = s.fee
	FROM (
		SELECT count(r.line) AS lines, coalesce(sum(r.amount) FILTER (WHERE r.kind = 'payment'), 0) AS paid,
			coalesce(sum(r.amount) FILTER (WHERE r.kind = 'refund'), 0) AS refunded, coalesce(sum(r.fee), 0) AS fee
		FROM submeter.reconcile_row r
		WHERE r.site_id = take_bill.site_id AND r.merchant_id = take_bill.merchant_id AND r.day = take_bill.day) s
	WHERE d.site_id = take_bill.site_id AND d.merchant_id = take_bill.merchant_id AND d.day = take_bill.day;
	UPDATE submeter.reconcile_day d
	SET state = 'read', reconcile_file_id = file_id, next_at = NULL, detail = NULL, read_at = CASE WHEN d.reconcile_file_id = file_id THEN d.read_at ELSE take_bill.as_of END
	WHERE is_over AND d.site_id = take_bill.site_id AND d.merchant_id = take_bill.merchant_id AND d.day = take_bill.day;
END
$$;
COMMENT ON FUNCTION submeter.take_bill(int, bigint, text, date, bytea, text, timestamptz) IS
'Follows a checked file of a merchant and day: keeps it, compares it line by line, puts right what was lost, notes what is missing, books the fees. The same file again changes nothing; a corrected one changes what it says differently. A day that goes on is not done with: its whole file is fetched when it is over.';

CREATE FUNCTION submeter.require_bill(site_id int, provider text, day date, file bytea, as_of timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_bill.provider IS NULL OR require_bill.provider NOT IN ('alipay', 'wechat') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a payment provider', coalesce(require_bill.provider, 'NULL')), HINT = 'Use alipay or wechat.';
	ELSIF coalesce(octet_length(require_bill.file), 0) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'there is no file', DETAIL = 'The argument file is NULL or empty.', HINT = 'Pass the bytes of the file as the provider hands it out.';
	ELSIF require_bill.day IS NULL OR NOT isfinite(require_bill.day) OR require_bill.day > submeter.china_day(require_bill.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is not a day to reconcile', coalesce(to_char(require_bill.day, 'YYYY-MM-DD'), 'NULL')),
			DETAIL = 'A day is reconciled once it has begun in China.', HINT = 'Pass the day of the file, in China time.';
	END IF;
	IF NOT EXISTS (SELECT FROM submeter.merchant m WHERE m.site_id = require_bill.site_id AND m.provider = require_bill.provider) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('site %s has no account at %s', require_bill.site_id, require_bill.provider),
			HINT = 'SELECT provider, name, enabled FROM submeter.merchant lists them.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_bill(int, text, date, bytea, timestamptz) IS
'Refuses (22023) what is no provider, no file, or a day that has not begun; 55000 when the site has no account at the provider.';

CREATE FUNCTION submeter.reconcile(site_id int, provider text, day date, file bytea) RETURNS TABLE (result text, rows bigint, amount numeric)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	as_of timestamptz := clock_timestamp();
	merchant bigint;
BEGIN
	PERFORM submeter.authorize('reconcile', reconcile.site_id);
	PERFORM submeter.require_bill(reconcile.site_id, reconcile.provider, reconcile.day, reconcile.file, as_of);
	merchant := submeter.bill_merchant(reconcile.site_id, reconcile.provider, submeter.check_bill(reconcile.provider, reconcile.day, reconcile.file));
	-- Nobody signed the file, and it credits: the second person approves these bytes.
	PERFORM submeter.require_approval('reconcile', reconcile.site_id, jsonb_build_object('provider', reconcile.provider, 'day', reconcile.day,
		'sha256', encode(sha256(reconcile.file), 'hex')));
	PERFORM submeter.take_bill(reconcile.site_id, merchant, reconcile.provider, reconcile.day, reconcile.file, 'uploaded', as_of);
	RETURN QUERY
	SELECT r.result, count(*), sum(coalesce(r.amount, r.ours))
	FROM submeter.reconcile_row r
	WHERE r.site_id = reconcile.site_id AND r.merchant_id = merchant AND r.day = reconcile.day
	GROUP BY r.result ORDER BY r.result;
END
$$;
COMMENT ON FUNCTION submeter.reconcile(int, text, date, bytea) IS
'Compares the daily file of transactions of a provider (day in China time; Alipay: zip of CSV, WeChat Pay: CSV, also gzip) with orders, receipts and the ledger, puts right what was lost, and returns how many rows of the day came out how, with their sums. The same file again changes nothing, a corrected one of the day changes what differs; a day that goes on is compared as far as its file goes, and again when it is over. What is open waits for decide_reconcile(). Passes the approval hook with {provider, day, sha256}. 22023 for a file that cannot be read, is of another day or of an account that is none of the site''s; 55000 without a merchant.';
