-- Room: outbound. What a courier gets: leases that are over, then from queue to queue what is due, built and signed.

CREATE FUNCTION submeter.end_leases(sites int[], as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Index scans remember which entries are dead, and here almost all are.
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT o.site_id, o.outbound_id, o.claimed_by FROM submeter.outbound o
		WHERE o.state = 'claimed' AND o.lease_until < end_leases.as_of AND end_leases.sites @> ARRAY[o.site_id]
		ORDER BY o.lease_until FOR UPDATE SKIP LOCKED
	LOOP
		PERFORM submeter.finish_outbound(item.site_id, item.outbound_id, 'no_answer', NULL, NULL, NULL,
			format('the courier %s did not report', item.claimed_by), end_leases.as_of);
	END LOOP;
	FOR item IN
		SELECT o.site_id, o.outbound_id FROM submeter.outbound o
		WHERE o.state = 'queued' AND o.expires_at <= end_leases.as_of AND end_leases.sites @> ARRAY[o.site_id]
		ORDER BY o.expires_at FOR UPDATE SKIP LOCKED
	LOOP
		PERFORM submeter.finish_outbound(item.site_id, item.outbound_id, 'expired', NULL, NULL, NULL, 'not sent in time', end_leases.as_of);
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.end_leases(int[], timestamptz) IS
'Requests whose courier did not report count as sent without an answer; those that were not sent in time are over.';

CREATE FUNCTION submeter.build_outbound(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.outbound;
	builder name;
	request submeter.outbound_request;
BEGIN
	SELECT o.* INTO STRICT item FROM submeter.outbound o
	WHERE o.site_id = build_outbound.site_id AND o.outbound_id = build_outbound.outbound_id;
	SELECT k.build INTO builder FROM submeter.outbound_kind k WHERE k.kind = item.kind;
	BEGIN
		EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3)', builder) INTO request
		USING build_outbound.site_id, build_outbound.outbound_id, build_outbound.as_of;
	EXCEPTION
		WHEN serialization_failure OR deadlock_detected THEN RAISE;
		WHEN OTHERS THEN
			-- A missing key, for instance: what has to be put right takes a person, so it waits a while.
			UPDATE submeter.outbound o
			SET attempts = o.attempts + 1, detail = SQLSTATE || ': ' || SQLERRM,
				not_before = build_outbound.as_of + least(interval '1 minute' * (o.attempts + 1), interval '10 minutes')
			WHERE o.site_id = item.site_id AND o.outbound_id = item.outbound_id;
			RETURN NULL;
	END;
	IF request.method IS NULL THEN
		UPDATE submeter.outbound o SET state = 'cancelled', finished_at = build_outbound.as_of, detail = 'not needed any more'
		WHERE o.site_id = item.site_id AND o.outbound_id = item.outbound_id;
		RETURN NULL;
	END IF;
	request.timeout_ms := least(greatest(coalesce(request.timeout_ms, 15000), 100), 300000);
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.build_outbound(int, bigint, timestamptz) IS
'Makes and signs one request by the function of its kind; NULL when it is not needed any more or cannot be made now.';

CREATE FUNCTION submeter.channel_room(site_id int, channel text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most int;
BEGIN
	IF NOT EXISTS (SELECT FROM submeter.outbound_channel c WHERE c.site_id = channel_room.site_id AND c.channel = channel_room.channel) THEN
		RETURN NULL;
	END IF;
	-- While another courier counts there is nothing for this one, and no waiting for each other.
	SELECT c.per_minute INTO most FROM submeter.outbound_channel c
	WHERE c.site_id = channel_room.site_id AND c.channel = channel_room.channel FOR UPDATE SKIP LOCKED;
	RETURN coalesce(most - (SELECT count(*) FROM submeter.outbound o
		WHERE o.site_id = channel_room.site_id AND o.channel = channel_room.channel AND o.sent_at > channel_room.as_of - interval '1 minute'), 0);
END
$$;
COMMENT ON FUNCTION submeter.channel_room(int, text, timestamptz) IS
'How many requests a channel takes now; NULL without a limit. Locks the limit until the end of the transaction; 0 while somebody else has it.';

CREATE FUNCTION submeter.host_room(courier text, site_id int, host text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- One request at a time tries a host that failed five times, and it is nobody's while somebody looks at it.
	PERFORM FROM submeter.outbound_host h
	WHERE h.site_id = host_room.site_id AND h.host = host_room.host AND h.failures >= 5 AND h.open_until <= host_room.as_of FOR UPDATE SKIP LOCKED;
	IF FOUND THEN
		UPDATE submeter.outbound_host h SET open_until = host_room.as_of + interval '30 s' WHERE h.site_id = host_room.site_id AND h.host = host_room.host;
		RETURN 1;
	ELSIF EXISTS (SELECT FROM submeter.outbound_host h WHERE h.site_id = host_room.site_id AND h.host = host_room.host
		AND (h.open_until > host_room.as_of OR h.failures >= 5 AND h.open_until IS NOT NULL)) THEN
		RETURN 0;
	END IF;
	-- A courier has sixteen connections to a host at most: more would only wait there while their time runs out, and keep others waiting.
	RETURN 16 - (SELECT count(*) FROM submeter.outbound o WHERE o.state = 'claimed' AND o.claimed_by = host_room.courier AND o.host = host_room.host);
END
$$;
COMMENT ON FUNCTION submeter.host_room(text, int, text, timestamptz) IS
'How many more requests a courier may send to a host now; for one that failed, the caller has the only one.';

CREATE FUNCTION submeter.outbound_queues(sites int[], as_of timestamptz) RETURNS TABLE(site_id int, host text, channel text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Statistics of an outbox are of a time when it was empty: its index gives the order, however much waits.
SET enable_sort = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	-- From one queue to the next, without a look at what waits in it.
	WITH RECURSIVE queue AS (
		(SELECT o.site_id, o.host, o.channel, o.not_before FROM submeter.outbound o WHERE o.state = 'queued' ORDER BY o.site_id, o.host, o.channel, o.not_before LIMIT 1)
		UNION ALL
		SELECT n.* FROM queue q CROSS JOIN LATERAL (
			SELECT o.site_id, o.host, o.channel, o.not_before FROM submeter.outbound o
			WHERE o.state = 'queued' AND (o.site_id, o.host, o.channel) > (q.site_id, q.host, q.channel)
			ORDER BY o.site_id, o.host, o.channel, o.not_before LIMIT 1) n
	)
	SELECT q.site_id, q.host, q.channel FROM queue q
	WHERE q.site_id = ANY (outbound_queues.sites) AND q.not_before <= outbound_queues.as_of
	ORDER BY q.not_before;
END
$$;
COMMENT ON FUNCTION submeter.outbound_queues(int[], timestamptz) IS
'The queues in which something is due, one per site, host and channel, the one that waits longest first.';

CREATE FUNCTION submeter.due_outbound(site_id int, host text, channel text, most bigint, as_of timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_sort = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
	RETURN QUERY
	SELECT o.outbound_id FROM submeter.outbound o
	WHERE o.state = 'queued' AND o.site_id = due_outbound.site_id AND o.host = due_outbound.host AND o.channel = due_outbound.channel
		AND o.not_before <= due_outbound.as_of
	ORDER BY o.not_before, o.outbound_id
	LIMIT due_outbound.most
	FOR UPDATE SKIP LOCKED;
END
$$;
COMMENT ON FUNCTION submeter.due_outbound(int, text, text, bigint, timestamptz) IS
'Locks the requests of a queue that are to be sent next, at most so many; what another courier looks at is passed over.';

CREATE FUNCTION submeter.claim_outbound(courier text, max_requests int)
RETURNS TABLE(site_id int, outbound_id bigint, method text, url text, headers text[], body bytea, timeout_ms int, options jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: courier_sites() guards and limits.
	sites int[] := submeter.courier_sites();
	as_of timestamptz := clock_timestamp();
	queue record;
	next_id bigint;
	request submeter.outbound_request;
	claimed int := 0;
	room bigint;
	found_any boolean;
BEGIN
	PERFORM submeter.require_text('courier', claim_outbound.courier);
	IF claim_outbound.max_requests IS NULL OR claim_outbound.max_requests NOT BETWEEN 1 AND 1000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'max_requests is not between 1 and 1000', HINT = 'Ask for as many as can be sent at once.';
	END IF;
	PERFORM submeter.end_leases(sites, as_of);
	FOR queue IN SELECT * FROM submeter.outbound_queues(sites, as_of) LOOP
		EXIT WHEN claimed >= claim_outbound.max_requests;
		room := least(claim_outbound.max_requests - claimed, submeter.channel_room(queue.site_id, queue.channel, as_of));
		room := CASE WHEN room > 0 THEN least(room, submeter.host_room(claim_outbound.courier, queue.site_id, queue.host, as_of)) END;
		found_any := true;
		-- What is looked at and not needed any more makes room for the next.
		WHILE room > 0 AND found_any LOOP
			found_any := false;
			FOR next_id IN SELECT d FROM submeter.due_outbound(queue.site_id, queue.host, queue.channel, room, as_of) d LOOP
				found_any := true;
				request := submeter.build_outbound(queue.site_id, next_id, as_of);
				CONTINUE WHEN request.method IS NULL;
				UPDATE submeter.outbound o
				SET state = 'claimed', claimed_by = claim_outbound.courier, attempts = o.attempts + 1, method = request.method, sent_at = as_of,
					lease_until = as_of + interval '1 ms' * request.timeout_ms + interval '30 s'
				WHERE o.site_id = queue.site_id AND o.outbound_id = next_id;
				claimed := claimed + 1;
				room := room - 1;
				-- No statement here: passwords would be constants of its plan, and plans can be logged.
				claim_outbound.site_id := queue.site_id;
				claim_outbound.outbound_id := next_id;
				claim_outbound.method := request.method;
				claim_outbound.url := request.url;
				claim_outbound.headers := coalesce(request.headers, '{}');
				claim_outbound.body := coalesce(request.body, '');
				claim_outbound.timeout_ms := request.timeout_ms;
				claim_outbound.options := coalesce(request.options, '{}');
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.claim_outbound(text, int) IS
'Requests for a courier to send, built and signed now, each with a lease of its time limit and 30 s. Hosts that failed or have sixteen of this courier''s requests, and channels at their limit wait. What an earlier courier did not report in time counts as sent without an answer.';

GRANT EXECUTE ON FUNCTION submeter.courier_sites(), submeter.claim_outbound(text, int),
	submeter.report_outbound(int, bigint, text, text, int, jsonb, bytea, text)
TO submeter_courier;
