-- Room: outbound. What the courier carries: requests are built and signed when they are claimed, performed outside any
-- transaction, and their answers handed to the function that asked. The courier knows nothing of what it carries: a new
-- provider or channel is a row of outbound_kind and its two functions.
-- Lock order: a row of outbound is the first lock of a report; what its function locks comes after it, the host at the end. A
-- claim takes channels, hosts and rows only when nobody has them.

CREATE TABLE submeter.outbound_kind (
	kind text PRIMARY KEY,
	build name NOT NULL,
	done name NOT NULL,
	repeatable boolean NOT NULL,
	max_attempts int NOT NULL DEFAULT 12,
	keeps_answer boolean NOT NULL DEFAULT true,
	description text NOT NULL
);
COMMENT ON TABLE submeter.outbound_kind IS
'Reference rows of the extension: the kinds of requests, who builds them and who takes the answer.';
COMMENT ON COLUMN submeter.outbound_kind.kind IS 'name of the kind';
COMMENT ON COLUMN submeter.outbound_kind.build IS 'function (site_id, outbound_id, as_of) → outbound_request that makes the request when it is claimed; a NULL method: not needed any more';
COMMENT ON COLUMN submeter.outbound_kind.done IS 'function (site_id, outbound_id, outcome, status, headers, body, as_of) → outbound_verdict that says what follows from the answer';
COMMENT ON COLUMN submeter.outbound_kind.repeatable IS 'whether it may be sent again when nobody knows whether it arrived';
COMMENT ON COLUMN submeter.outbound_kind.max_attempts IS 'how often it is tried';
COMMENT ON COLUMN submeter.outbound_kind.keeps_answer IS 'false: the body of the answer holds a secret and is not stored';
COMMENT ON COLUMN submeter.outbound_kind.description IS 'what it is';
GRANT SELECT ON submeter.outbound_kind TO submeter_admin, submeter_auditor;

CREATE TYPE submeter.outbound_request AS (method text, url text, headers text[], body bytea, timeout_ms int, options jsonb);
COMMENT ON TYPE submeter.outbound_request IS
'A request as the courier sends it: an HTTP method or MAIL, the address, header lines, body, milliseconds for all of it, and options (proxy, ca, http2, max_answer_bytes, alone: its answer is reported in a transaction of its own; from, to, starttls, user, password).';
CREATE TYPE submeter.outbound_verdict AS (state text, not_before timestamptz, detail text);
COMMENT ON TYPE submeter.outbound_verdict IS
'What follows from an answer: delivered, failed, unknown, cancelled, or queued again not before a time; NULL: as is usual for its outcome.';
REVOKE ALL ON TYPE submeter.outbound_request, submeter.outbound_verdict FROM PUBLIC;
GRANT USAGE ON TYPE submeter.outbound_request, submeter.outbound_verdict TO submeter_owner;

CREATE FUNCTION submeter.queue_outbound(site_id int, kind text, ref jsonb, host text, channel text, not_before timestamptz DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	queued bigint;
BEGIN
	INSERT INTO submeter.outbound AS o (site_id, kind, ref, host, channel, not_before, expires_at, dedupe_key)
	VALUES (queue_outbound.site_id, queue_outbound.kind, queue_outbound.ref, queue_outbound.host, queue_outbound.channel,
		coalesce(queue_outbound.not_before, clock_timestamp()), coalesce(queue_outbound.expires_at, 'infinity'), queue_outbound.dedupe_key)
	ON CONFLICT DO NOTHING
	RETURNING o.outbound_id INTO queued;
	IF queued IS NOT NULL AND coalesce(queue_outbound.not_before <= clock_timestamp(), true) THEN
		PERFORM pg_notify('submeter_courier', '');
	END IF;
	RETURN queued;
END
$$;
COMMENT ON FUNCTION submeter.queue_outbound(int, text, jsonb, text, text, timestamptz, timestamptz, text) IS
'Puts a request into the courier''s outbox and wakes it when it is due; NULL when one with the same dedupe_key waits already.';

CREATE FUNCTION submeter.outbound_retry_at(attempts int, as_of timestamptz) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN outbound_retry_at.as_of + interval '1 s' * least(power(2, least(outbound_retry_at.attempts, 12)), 3600) * (0.75 + random() / 2);
END
$$;
COMMENT ON FUNCTION submeter.outbound_retry_at(int, timestamptz) IS 'When to try again: after 2 s, 4 s, 8 s … up to an hour, each a quarter more or less.';

CREATE FUNCTION submeter.retry_after(headers jsonb, as_of timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wait text := submeter.header_value(retry_after.headers, 'Retry-After');
	latest timestamptz := retry_after.as_of + interval '1 day';
BEGIN
	IF wait ~ '^[0-9]{1,9}$' THEN
		RETURN least(retry_after.as_of + interval '1 s' * wait::int, latest);
	ELSIF wait ~ '^[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$' THEN
		RETURN least(make_timestamptz(substr(wait, 13, 4)::int, array_position('{Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec}', substr(wait, 9, 3)),
			substr(wait, 6, 2)::int, substr(wait, 18, 2)::int, substr(wait, 21, 2)::int, substr(wait, 24, 2)::float8, 'UTC'), latest);
	END IF;
	RETURN NULL;
EXCEPTION WHEN data_exception THEN
	-- A day there is not.
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.retry_after(jsonb, timestamptz) IS
'When a host wants to be asked again (Retry-After: seconds or a date, RFC 9110), at most a day from as_of; NULL when it does not say or cannot be understood.';

CREATE FUNCTION submeter.outbound_usual(method text, outcome text, status int, headers jsonb, attempts int, repeatable boolean, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	again timestamptz;
BEGIN
	IF outbound_usual.outcome = 'answered' AND outbound_usual.status BETWEEN 200 AND 299 THEN
		RETURN ROW('delivered', NULL, NULL)::submeter.outbound_verdict;
	ELSIF outbound_usual.outcome = 'expired' THEN
		RETURN ROW('failed', NULL, NULL)::submeter.outbound_verdict;
	END IF;
	again := greatest(submeter.outbound_retry_at(outbound_usual.attempts, outbound_usual.as_of), submeter.retry_after(outbound_usual.headers, outbound_usual.as_of));
	IF outbound_usual.outcome = 'answered' AND outbound_usual.method = 'MAIL' THEN
		-- RFC 5321: 4yz is a no for now, 5yz for good; either way it was not taken.
		RETURN CASE WHEN outbound_usual.status >= 500 THEN ROW('failed', NULL, format('the mail server answered %s', outbound_usual.status))::submeter.outbound_verdict
			ELSE ROW('queued', again, NULL)::submeter.outbound_verdict END;
	ELSIF outbound_usual.outcome = 'answered' AND outbound_usual.status BETWEEN 300 AND 499 AND outbound_usual.status NOT IN (408, 425, 429) THEN
		RETURN ROW('failed', NULL, format('answered with status %s', outbound_usual.status))::submeter.outbound_verdict;
	ELSIF outbound_usual.outcome = 'not_sent' OR outbound_usual.repeatable OR outbound_usual.status IN (425, 429, 503) THEN
		RETURN ROW('queued', again, NULL)::submeter.outbound_verdict;
	END IF;
	RETURN ROW('unknown', NULL, 'sent, and nobody knows whether it arrived')::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.outbound_usual(text, text, int, jsonb, int, boolean, timestamptz) IS
'What usually follows: 2xx is delivered, other answers below 500 failed; what was not sent, 429 and 503 are tried again; anything else is repeated if it may be, and unknown otherwise. Of a mail server 4yz is tried again and 5yz final.';

CREATE FUNCTION submeter.watch_hosts(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	down text := (SELECT string_agg(format('%s: %s', h.host, h.detail), '; ' ORDER BY h.host) FROM submeter.outbound_host h
		WHERE h.site_id = watch_hosts.site_id AND h.failures >= 5);
BEGIN
	IF down IS NULL THEN
		PERFORM submeter.clear_alarm(watch_hosts.site_id, 'host_down', NULL, NULL, watch_hosts.as_of);
	ELSE
		PERFORM submeter.raise_alarm(watch_hosts.site_id, 'host_down', NULL, NULL, down, watch_hosts.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.watch_hosts(int, timestamptz) IS 'Raises or clears host_down: hosts outside that failed five times in a row.';

CREATE FUNCTION submeter.note_host(site_id int, host text, detail text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	count int;
BEGIN
	IF note_host.detail IS NULL THEN
		DELETE FROM submeter.outbound_host h WHERE h.site_id = note_host.site_id AND h.host = note_host.host RETURNING h.failures INTO count;
		IF count >= 5 THEN
			PERFORM submeter.watch_hosts(note_host.site_id, note_host.as_of);
		END IF;
		RETURN;
	END IF;
	INSERT INTO submeter.outbound_host AS h (site_id, host, failures, failed_at, detail)
	VALUES (note_host.site_id, note_host.host, 1, note_host.as_of, note_host.detail)
	ON CONFLICT ON CONSTRAINT outbound_host_pkey DO UPDATE
	SET failures = h.failures + 1, failed_at = EXCLUDED.failed_at, detail = EXCLUDED.detail,
		open_until = CASE WHEN h.failures >= 4 THEN note_host.as_of + least(interval '5 s' * power(2, least(h.failures - 4, 8)), interval '10 minutes') END
	RETURNING h.failures INTO count;
	IF count = 5 THEN
		PERFORM submeter.watch_hosts(note_host.site_id, note_host.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.note_host(int, text, text, timestamptz) IS
'A host answered (detail NULL) or failed: five failures in a row open its circuit for 5 s, 10 s, 20 s … up to 10 minutes, and raise host_down.';

CREATE FUNCTION submeter.finish_outbound(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, detail text, as_of timestamptz)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.outbound;
	rule submeter.outbound_kind;
	verdict submeter.outbound_verdict;
	usual submeter.outbound_verdict;
	problem text;
BEGIN
	SELECT o.* INTO STRICT item FROM submeter.outbound o
	WHERE o.site_id = finish_outbound.site_id AND o.outbound_id = finish_outbound.outbound_id;
	SELECT k.* INTO rule FROM submeter.outbound_kind k WHERE k.kind = item.kind;
	usual := submeter.outbound_usual(item.method, finish_outbound.outcome, finish_outbound.status, finish_outbound.headers, item.attempts,
		coalesce(rule.repeatable, false), finish_outbound.as_of);
	BEGIN
		EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3, $4, $5, $6, $7)', rule.done) INTO verdict
		USING finish_outbound.site_id, finish_outbound.outbound_id, finish_outbound.outcome, finish_outbound.status, finish_outbound.headers,
			finish_outbound.body, finish_outbound.as_of;
	EXCEPTION
		-- Whoever met another session tries again as a whole; the courier reports once more.
		WHEN serialization_failure OR deadlock_detected THEN RAISE;
		WHEN OTHERS THEN
			-- The answer must not be lost because we could not understand it.
			problem := SQLSTATE || ': ' || SQLERRM;
			verdict := ROW(CASE WHEN finish_outbound.outcome = 'answered' OR rule.repeatable THEN 'failed' ELSE 'unknown' END, NULL, problem)::submeter.outbound_verdict;
	END;
	IF verdict.state IS NULL THEN
		verdict := usual;
	END IF;
	IF verdict.state = 'queued' AND (item.attempts >= coalesce(rule.max_attempts, 1) OR coalesce(verdict.not_before, finish_outbound.as_of) >= item.expires_at) THEN
		verdict.state := 'failed';
	END IF;
	UPDATE submeter.outbound o
	SET state = verdict.state, lease_until = NULL,
		finished_at = CASE WHEN verdict.state = 'queued' THEN NULL ELSE finish_outbound.as_of END,
		not_before = CASE WHEN verdict.state = 'queued' THEN coalesce(verdict.not_before, usual.not_before, finish_outbound.as_of) ELSE o.not_before END,
		status = coalesce(finish_outbound.status, o.status), answer_headers = coalesce(finish_outbound.headers, o.answer_headers),
		answer = CASE WHEN rule.keeps_answer IS NOT FALSE THEN coalesce(finish_outbound.body, o.answer) END,
		-- Who decides about what is unknown wants to know both: what follows, and what happened.
		detail = coalesce(CASE WHEN verdict.state = 'unknown' THEN concat_ws(': ', verdict.detail, finish_outbound.detail) ELSE verdict.detail END,
			finish_outbound.detail, CASE WHEN verdict.state <> 'delivered' THEN o.detail END)
	WHERE o.site_id = finish_outbound.site_id AND o.outbound_id = finish_outbound.outbound_id;
	RETURN verdict.state;
END
$$;
COMMENT ON FUNCTION submeter.finish_outbound(int, bigint, text, int, jsonb, bytea, text, timestamptz) IS
'Hands the outcome of a request to the function of its kind and stores what follows; whatever that function says, the answer is kept. Returns the state. The row is locked by the caller.';

CREATE FUNCTION submeter.courier_sites() RETURNS int[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- authorize: the sites of the caller, and none at all in a copied database.
	PERFORM submeter.guard();
	RETURN submeter.my_sites();
END
$$;
COMMENT ON FUNCTION submeter.courier_sites() IS
'The sites the calling courier works at; 55000 in a copied database or one whose storage is older than its code.';

CREATE FUNCTION submeter.report_outbound(site_id int, outbound_id bigint, courier text, outcome text, status int, headers jsonb, body bytea, detail text)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.outbound;
	as_of timestamptz := clock_timestamp();
	state_now text;
BEGIN
	PERFORM submeter.authorize('courier', report_outbound.site_id);
	IF report_outbound.outcome IS NULL OR report_outbound.outcome NOT IN ('answered', 'not_sent', 'no_answer')
		OR (report_outbound.outcome = 'answered') <> (report_outbound.status IS NOT NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the outcome of a request is not understood',
			DETAIL = 'It is answered (with a status), not_sent or no_answer.', HINT = 'Use a courier of the same version as the extension.';
	END IF;
	SELECT o.* INTO item FROM submeter.outbound o
	WHERE o.site_id = report_outbound.site_id AND o.outbound_id = report_outbound.outbound_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no request %s', report_outbound.site_id, report_outbound.outbound_id),
			HINT = 'Report what claim_outbound() returned.';
	END IF;
	-- Too late, or another courier has it now: what it says is not believed any more.
	IF item.state <> 'claimed' OR item.claimed_by IS DISTINCT FROM report_outbound.courier THEN
		RETURN item.state;
	END IF;
	state_now := submeter.finish_outbound(item.site_id, item.outbound_id, report_outbound.outcome, report_outbound.status,
		report_outbound.headers, report_outbound.body, report_outbound.detail, as_of);
	-- Last, because all that is sent to the host meets here.
	PERFORM submeter.note_host(item.site_id, item.host,
		CASE WHEN report_outbound.outcome <> 'answered' THEN left(coalesce(report_outbound.detail, report_outbound.outcome), 300)
			WHEN report_outbound.status >= 500 AND item.method <> 'MAIL' THEN format('answered with status %s', report_outbound.status) END, as_of);
	RETURN state_now;
END
$$;
COMMENT ON FUNCTION submeter.report_outbound(int, bigint, text, text, int, jsonb, bytea, text) IS
'What came of a claimed request: answered (with status, headers, body), not_sent (nothing left the machine) or no_answer (sent, then nothing). Returns its state now. A report that is late or by another courier changes nothing. 22023 unknown outcome, P0002 unknown request.';

CREATE FUNCTION submeter.resend_outbound(site_id int, outbound_id bigint, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('resend_outbound', resend_outbound.site_id);
	PERFORM submeter.require_text('reason', resend_outbound.reason);
	PERFORM submeter.require_approval('resend_outbound', resend_outbound.site_id, jsonb_build_object('outbound_id', resend_outbound.outbound_id));
	UPDATE submeter.outbound o
	SET state = 'queued', attempts = 0, not_before = clock_timestamp(), finished_at = NULL, claimed_by = NULL,
		expires_at = CASE WHEN o.expires_at < clock_timestamp() + interval '1 hour' THEN clock_timestamp() + interval '1 day' ELSE o.expires_at END,
		detail = format('sent again by %s: %s', (submeter.me()).login, resend_outbound.reason)
	WHERE o.site_id = resend_outbound.site_id AND o.outbound_id = resend_outbound.outbound_id AND o.state IN ('failed', 'unknown');
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('request %s is not to be sent again', coalesce(resend_outbound.outbound_id::text, 'NULL')),
			DETAIL = 'Only requests that failed or whose outcome is unknown are.', HINT = 'SELECT * FROM submeter.outbound WHERE state IN (''failed'', ''unknown'') lists them.';
	END IF;
	PERFORM pg_notify('submeter_courier', '');
END
$$;
COMMENT ON FUNCTION submeter.resend_outbound(int, bigint, text) IS
'A person has a request sent again that failed or whose outcome is unknown. Passes the approval hook with {outbound_id}. 55000 for any other.';

CREATE FUNCTION submeter.tidy_outbound(site_id int, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM submeter.outbound o
	WHERE o.site_id = tidy_outbound.site_id AND o.state IN ('delivered', 'cancelled') AND o.finished_at < tidy_outbound.as_of - interval '40 days';
	DELETE FROM submeter.outbound o
	WHERE o.site_id = tidy_outbound.site_id AND o.state IN ('failed', 'unknown') AND o.finished_at < tidy_outbound.as_of - interval '1 year'
$$;
COMMENT ON FUNCTION submeter.tidy_outbound(int, timestamptz) IS
'Removes requests that were carried forty days ago (budgets count those of a calendar month), and those that failed a year ago. What providers said about payments stays in payment_event.';
