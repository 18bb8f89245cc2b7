-- Room: seals. Blocks of movements in a chain of hashes, so that an edit by whoever can edit everything is found out.
--
-- What a block covers must be final. Every writer of transfer holds hold_posting() from before it takes a number until
-- its transaction ends. The sealer reads the last number given out, notes who holds the lock at that moment and waits
-- until all of these are gone: then nobody is left who could still write a number up to that one. Nobody waits for the
-- sealer. Where a writer takes long, the sealer comes again later.

CREATE FUNCTION submeter.transfer_digests(site_id int, after_id bigint, last_id bigint)
RETURNS TABLE (transfer_id bigint, leg smallint, account_id bigint, amount numeric, digest bytea)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.transfer_id, t.leg, t.account_id, t.amount, sha256(convert_to(jsonb_build_array(
		t.site_id, t.transfer_id, t.leg, t.debit_id, t.credit_id, t.amount, t.kind, t.account_id, t.tariff_id,
		to_char(t.cycle_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), t.method, t.note, t.reverses_id, t.idempotency_key,
		to_char(t.effective_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
		to_char(t.posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), t.created_by)::text, 'UTF8'))
	FROM submeter.transfer t
	WHERE t.site_id = transfer_digests.site_id AND t.transfer_id > transfer_digests.after_id AND t.transfer_id <= transfer_digests.last_id
$$;
COMMENT ON FUNCTION submeter.transfer_digests(int, bigint, bigint) IS
'SHA-256 of each row of transfer in a range of numbers. The text digested is a JSON array in UTF-8 of site_id, transfer_id, leg, debit_id, credit_id, amount (2 decimals), kind, account_id, tariff_id, cycle_start, method, note, reverses_id, idempotency_key, effective_at, posted_at, created_by, separated by comma and blank; times in UTC with microseconds, such as "2026-01-31T16:00:00.000000Z"; null for NULL. No setting of a session changes it.';

CREATE FUNCTION submeter.seal_hash(site_id int, seal_no bigint, after_id bigint, last_id bigint, legs int, amount numeric, digests bytea[],
	previous bytea, sealed_at timestamptz) RETURNS bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sha256(seal_hash.previous || convert_to(jsonb_build_array(
		seal_hash.site_id, seal_hash.seal_no, seal_hash.after_id, seal_hash.last_id, seal_hash.legs, seal_hash.amount::numeric(18, 2),
		to_char(seal_hash.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text, 'UTF8')
		|| coalesce((SELECT string_agg(d.digest, '' ORDER BY d.ord) FROM unnest(seal_hash.digests) WITH ORDINALITY d(digest, ord)), ''))
$$;
COMMENT ON FUNCTION submeter.seal_hash(int, bigint, bigint, bigint, int, numeric, bytea[], bytea, timestamptz) IS
'Hash of a seal: SHA-256 over the hash of the seal before (of the first: 32 zero bytes), then the JSON array in UTF-8 of site_id, seal_no, after_id, last_id, legs, amount (2 decimals), sealed_at (UTC as in transfer_digests), then the digests of its rows in order of transfer_id and leg.';

CREATE FUNCTION submeter.final_transfer(site_id int, patience interval DEFAULT '1 s') RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given bigint;
	writers text[];
	waiting_until timestamptz := clock_timestamp() + final_transfer.patience;
BEGIN
	SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO given FROM submeter.transfer_id_seq s;
	writers := submeter.posting_writers(final_transfer.site_id);
	WHILE writers <> '{}' LOOP
		IF clock_timestamp() >= waiting_until THEN
			RETURN NULL;
		END IF;
		PERFORM pg_sleep(0.005);
		writers := ARRAY(SELECT unnest(writers) INTERSECT SELECT unnest(submeter.posting_writers(final_transfer.site_id)));
	END LOOP;
	RETURN given;
END
$$;
COMMENT ON FUNCTION submeter.final_transfer(int, interval) IS
'The highest number of a movement up to which nobody can write at the site any more; NULL when a transaction that posts takes longer than we are patient.';

CREATE FUNCTION submeter.posting_writers(site_id int) RETURNS text[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- The two keys of an advisory lock are shown as unsigned numbers.
	SELECT ARRAY(
		SELECT DISTINCT l.virtualtransaction FROM pg_locks l
		WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
			AND l.classid = (hashtext('submeter.posting')::bigint & 4294967295)::oid AND l.objid = posting_writers.site_id::oid
			AND l.pid IS DISTINCT FROM pg_backend_pid())
$$;
COMMENT ON FUNCTION submeter.posting_writers(int) IS
'Transactions other than this one that hold hold_posting() of the site, prepared ones included.';

CREATE FUNCTION submeter.seal(site_id int, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	upto bigint;
	block bigint;
	sealed bigint := 0;
	-- A block stays small enough to name a row in it at once; a run, short enough for the other duties.
	most_blocks CONSTANT int := 20;
BEGIN
	PERFORM submeter.authorize('seal', seal.site_id);
	IF seal.as_of IS NULL OR NOT isfinite(seal.as_of) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'seal needs a point in time', HINT = 'Leave as_of out to seal as of now.';
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = '25001', MESSAGE = format('sealing cannot work in a %s transaction', current_setting('transaction_isolation')),
			DETAIL = 'It would seal what was there when the transaction began as all there is.', HINT = 'Call it in a transaction of its own with the default isolation.';
	END IF;
	-- One sealer at a time; the workers hold this row as well.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = seal.site_id AND d.duty = 'seal' FOR NO KEY UPDATE;
	upto := submeter.final_transfer(seal.site_id);
	FOR n IN 1 .. most_blocks LOOP
		block := submeter.seal_block(seal.site_id, upto, seal.as_of);
		EXIT WHEN coalesce(block, 0) = 0;
		sealed := sealed + block;
	END LOOP;
	RETURN sealed;
END
$$;
COMMENT ON FUNCTION submeter.seal(int, timestamptz) IS
'Seals the movements nobody can add to any more, in blocks of some 10,000 rows; returns how many rows. The duty runs it every few minutes and then calls export_head(). Posting never waits for it; while a long transaction posts it returns 0 and what is left waits for the next run. 25001 outside read committed.';

CREATE FUNCTION submeter.seal_block(site_id int, upto bigint, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	head submeter.ledger_seal;
	made submeter.ledger_seal;
	most_legs CONSTANT int := 10000;
BEGIN
	SELECT s.seal_no, s.last_id, s.hash, s.sealed_at INTO head.seal_no, head.last_id, head.hash, head.sealed_at
	FROM submeter.ledger_seal s WHERE s.site_id = seal_block.site_id
	ORDER BY s.seal_no DESC LIMIT 1;
	made.after_id := coalesce(head.last_id, 0);
	-- All legs of a movement are in one block.
	made.last_id := coalesce((
		SELECT t.transfer_id FROM submeter.transfer t
		WHERE t.site_id = seal_block.site_id AND t.transfer_id > made.after_id AND t.transfer_id <= seal_block.upto
		ORDER BY t.transfer_id OFFSET most_legs - 1 LIMIT 1), seal_block.upto);
	SELECT count(*), sum(d.amount), array_agg(d.transfer_id ORDER BY d.transfer_id, d.leg), array_agg(d.leg ORDER BY d.transfer_id, d.leg),
		array_agg(d.digest ORDER BY d.transfer_id, d.leg)
	INTO made.legs, made.amount, made.transfer_ids, made.leg_nos, made.digests
	FROM submeter.transfer_digests(seal_block.site_id, made.after_id, made.last_id) d;
	IF made.legs = 0 THEN
		RETURN 0;
	END IF;
	made.seal_no := coalesce(head.seal_no, 0) + 1;
	made.previous := coalesce(head.hash, decode(repeat('00', 32), 'hex'));
	made.sealed_at := greatest(seal_block.as_of, head.sealed_at);
	INSERT INTO submeter.ledger_seal (site_id, seal_no, after_id, last_id, legs, amount, transfer_ids, leg_nos, digests, previous, hash, sealed_at)
	VALUES (seal_block.site_id, made.seal_no, made.after_id, made.last_id, made.legs, made.amount, made.transfer_ids, made.leg_nos, made.digests,
		made.previous, submeter.seal_hash(seal_block.site_id, made.seal_no, made.after_id, made.last_id, made.legs, made.amount, made.digests,
			made.previous, made.sealed_at), made.sealed_at);
	RETURN made.legs;
END
$$;
COMMENT ON FUNCTION submeter.seal_block(int, bigint, timestamptz) IS
'Makes the next seal of a site out of the movements up to a number that is final; returns its rows, 0 when there are none.';

CREATE FUNCTION submeter.ledger_head(site_id int)
RETURNS TABLE (seal_no bigint, hash text, legs bigint, last_transfer_id bigint, sealed_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('ledger_head', ledger_head.site_id);
	RETURN QUERY
	SELECT s.seal_no, encode(s.hash, 'hex'), (SELECT sum(x.legs) FROM submeter.ledger_seal x WHERE x.site_id = s.site_id), s.last_id, s.sealed_at
	FROM submeter.ledger_seal s
	WHERE s.site_id = ledger_head.site_id
	ORDER BY s.seal_no DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION submeter.ledger_head(int) IS
'Head of the chain of seals: number and hash of the last seal, rows sealed so far. Note it down outside the database; check_head() tells later whether it still holds. No row before the first seal.';

CREATE FUNCTION submeter.broken_seals(site_id int, upto bigint DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.seal_no FROM (
		SELECT s.*, lag(s.hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS hash_before, lag(s.last_id, 1, 0::bigint) OVER w AS last_before,
			lag(s.seal_no, 1, 0::bigint) OVER w AS no_before
		FROM submeter.ledger_seal s
		WHERE s.site_id = broken_seals.site_id AND (broken_seals.upto IS NULL OR s.seal_no <= broken_seals.upto)
		WINDOW w AS (ORDER BY s.seal_no)) c
	WHERE c.previous <> c.hash_before OR c.after_id <> c.last_before OR c.seal_no <> c.no_before + 1
		OR c.legs <> cardinality(c.digests) OR c.legs <> cardinality(c.transfer_ids) OR c.legs <> cardinality(c.leg_nos)
		OR c.hash <> submeter.seal_hash(c.site_id, c.seal_no, c.after_id, c.last_id, c.legs, c.amount, c.digests, c.previous, c.sealed_at)
	ORDER BY c.seal_no
$$;
COMMENT ON FUNCTION submeter.broken_seals(int, bigint) IS
'Seals of a site that do not follow from what they say, from the seal before, or from the number before; in order.';

CREATE FUNCTION submeter.check_head(site_id int, seal_no bigint, hash text) RETURNS TABLE (ok boolean, answer text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stored text;
	last_no bigint;
	broken bigint;
BEGIN
	PERFORM submeter.authorize('check_head', check_head.site_id);
	IF check_head.seal_no IS NULL OR check_head.hash IS NULL OR check_head.hash !~ '^\s*(\\x)?[0-9A-Fa-f]{64}\s*$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a head is a number of a seal and its hash',
			DETAIL = 'The hash of a seal has 64 hexadecimal digits.', HINT = 'Copy both from the message or from ledger_head().';
	END IF;
	SELECT max(s.seal_no), max(encode(s.hash, 'hex')) FILTER (WHERE s.seal_no = check_head.seal_no) INTO last_no, stored
	FROM submeter.ledger_seal s WHERE s.site_id = check_head.site_id;
	broken := (SELECT min(b) FROM submeter.broken_seals(check_head.site_id, check_head.seal_no) b);
	ok := coalesce(stored = lower(regexp_replace(check_head.hash, '\s|\\x', '', 'g')), false) AND broken IS NULL;
	answer := CASE
		WHEN stored IS NULL THEN format('the chain has no seal %s, its last one is %s: it was cut off, or restored from before that seal', check_head.seal_no, coalesce(last_no, 0))
		WHEN broken IS NOT NULL THEN format('seal %s does not follow from what it says: it was edited', broken)
		WHEN NOT ok THEN format('seal %s has another hash: the chain was rewritten up to there', check_head.seal_no)
		ELSE format('seal %s stands as it was, with all before it; verify_ledger() compares them with the movements', check_head.seal_no) END;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION submeter.check_head(int, bigint, text) IS
'Whether the chain of seals still contains a head that was noted down earlier (hash in hexadecimal): ok, and in words. false means that the ledger was rewritten or cut off since.';

CREATE FUNCTION submeter.head_message(site_id int, email text, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.notice_message(format('head.%s.%s.%s', s.site_id, h.seal_no, md5(r.email)), r.name, r.email,
		CASE s.locale WHEN 'zh' THEN format('%s:账本封账摘要 %s', s.name, h.seal_no) ELSE format('%s: head of the ledger, seal %s', s.name, h.seal_no) END,
		concat(CASE s.locale WHEN 'zh' THEN '请保存本邮件。以后可用下列语句核对账本自此是否被改动:'
			ELSE 'Keep this message. Later the following statement tells whether the ledger was rewritten since:' END,
			E'\n\n', format('SELECT * FROM submeter.check_head(%s, %s, ''%s'');', s.site_id, h.seal_no, encode(h.hash, 'hex')),
			E'\n\n', format(E'site: %s %s\nseal: %s\nhash: %s\nlast movement: %s\nsealed at: %s', s.site_id, s.code, h.seal_no, encode(h.hash, 'hex'),
				h.last_id, to_char(h.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))),
		head_message.as_of)
	FROM submeter.site s
	JOIN submeter.head_recipient r ON r.site_id = s.site_id AND r.email = head_message.email
	CROSS JOIN LATERAL (SELECT x.* FROM submeter.ledger_seal x WHERE x.site_id = s.site_id ORDER BY x.seal_no DESC LIMIT 1) h
	WHERE s.site_id = head_message.site_id
$$;
COMMENT ON FUNCTION submeter.head_message(int, text, timestamptz) IS
'The message with which a recipient keeps the head of the ledger; NULL before the first seal.';

CREATE FUNCTION submeter.export_head(site_id int, as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	today date;
	head submeter.ledger_seal;
	recipient text;
	exported int := 0;
BEGIN
	PERFORM submeter.authorize('export_head', export_head.site_id);
	SELECT (export_head.as_of AT TIME ZONE s.time_zone)::date INTO today FROM submeter.site s WHERE s.site_id = export_head.site_id;
	SELECT s.* INTO head FROM submeter.ledger_seal s WHERE s.site_id = export_head.site_id ORDER BY s.seal_no DESC LIMIT 1;
	IF head.seal_no IS NULL OR today IS NULL OR NOT submeter.notice_file_works() THEN
		RETURN 0;
	END IF;
	FOR recipient IN
		SELECT r.email FROM submeter.head_recipient r
		WHERE r.site_id = export_head.site_id AND NOT EXISTS (
			SELECT FROM submeter.head_export e WHERE e.site_id = r.site_id AND e.email = r.email AND (e.day >= today OR e.seal_no = head.seal_no))
		ORDER BY r.email
	LOOP
		-- The same name again replaces the file: when this transaction fails, the next one writes the same message.
		PERFORM submeter.notice_file_write(format('head-%s-%s-%s.eml', export_head.site_id, head.seal_no, md5(recipient)),
			submeter.head_message(export_head.site_id, recipient, export_head.as_of));
		INSERT INTO submeter.head_export (site_id, day, email, seal_no, hash, exported_at)
		VALUES (export_head.site_id, today, recipient, head.seal_no, head.hash, export_head.as_of);
		exported := exported + 1;
	END LOOP;
	RETURN exported;
END
$$;
COMMENT ON FUNCTION submeter.export_head(int, timestamptz) IS
'Hands the head of the ledger to every head_recipient, once a local day and only when there is a new one; returns how many messages. Needs submeter.notice_directory. The duty seal calls it.';

CREATE FUNCTION submeter.seal_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sealed bigint := submeter.seal(seal_duty.site_id, seal_duty.as_of);
BEGIN
	BEGIN
		PERFORM submeter.export_head(seal_duty.site_id, seal_duty.as_of);
	EXCEPTION WHEN OTHERS THEN
		-- A full disk of the channel must not keep the ledger from being sealed; the view health says how old the last message is.
		RAISE WARNING USING MESSAGE = format('head of the ledger of site %s was not exported: %s', seal_duty.site_id, SQLERRM);
	END;
	RETURN sealed;
END
$$;
COMMENT ON FUNCTION submeter.seal_duty(int, timestamptz) IS 'Seals what is final and, once a local day, hands the head to those who keep it.';
