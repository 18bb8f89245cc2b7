-- Room: channels of notices. How a notice goes: whom a channel reaches, which one is next, the request, and what its answer means.

CREATE FUNCTION submeter.notice_addresses(site_id int, contact_id bigint, kind text, settings jsonb) RETURNS TABLE(address text, device_keys jsonb, device_id bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT v.address, v.device_keys, v.device_id
	FROM submeter.channel_kind k
	JOIN submeter.contact c ON c.site_id = notice_addresses.site_id AND c.contact_id = notice_addresses.contact_id
	CROSS JOIN LATERAL (
		SELECT c.email AS address, '{}'::jsonb AS device_keys, NULL::bigint AS device_id WHERE k.reaches = 'email' AND c.email IS NOT NULL
		-- A landline gets no SMS.
		UNION ALL SELECT c.phone, '{}', NULL WHERE k.reaches = 'phone' AND submeter.mobile_number(c.phone) IS NOT NULL
		UNION ALL SELECT '', '{}', NULL WHERE k.reaches = 'room'
		UNION ALL (SELECT d.token, d.keys, d.device_id FROM submeter.device d
			WHERE k.reaches = 'device' AND d.site_id = c.site_id AND d.contact_id = c.contact_id AND d.kind = k.kind AND d.gone_at IS NULL
				-- An openid is known to the account that gave it only.
				AND (k.kind <> 'wechat' OR coalesce(d.keys ->> 'appid' = notice_addresses.settings ->> 'appid', true))
			ORDER BY d.registered_at DESC LIMIT 5)) v
	WHERE k.kind = notice_addresses.kind;
END
$$;
COMMENT ON FUNCTION submeter.notice_addresses(int, bigint, text, jsonb) IS 'Where a channel of a kind, with these settings, reaches a person: none, one, or up to five devices.';

CREATE FUNCTION submeter.sent_in_month(site_id int, channel text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- What waits to be sent is spent as well, or a crowd of messages would all find the last one left.
	RETURN (SELECT (SELECT count(*) FROM submeter.outbound o
				WHERE o.site_id = s.site_id AND o.channel = sent_in_month.channel AND o.kind IN ('notice', 'paid_notice')
					AND o.sent_at >= date_trunc('month', sent_in_month.as_of AT TIME ZONE s.time_zone) AT TIME ZONE s.time_zone)
			+ (SELECT count(*) FROM submeter.outbound o
				WHERE o.site_id = s.site_id AND o.kind IN ('notice', 'paid_notice') AND o.state = 'queued' AND o.channel = sent_in_month.channel AND o.sent_at IS NULL)
		FROM submeter.site s WHERE s.site_id = sent_in_month.site_id);
END
$$;
COMMENT ON FUNCTION submeter.sent_in_month(int, text, timestamptz) IS 'How many messages went by a channel in the calendar month of the site, with those that are on their way.';

CREATE FUNCTION submeter.next_channel(site_id int, contact_id bigint, notice_kind text, tried text[], as_of timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT w.channel
		FROM submeter.contact c
		CROSS JOIN LATERAL unnest(c.channels) WITH ORDINALITY w(channel, ord)
		LEFT JOIN submeter.notice_channel n ON n.site_id = c.site_id AND n.channel = w.channel AND n.enabled
		LEFT JOIN submeter.channel_kind k ON k.kind = n.kind
		WHERE c.site_id = next_channel.site_id AND c.contact_id = next_channel.contact_id AND NOT w.channel = ANY (next_channel.tried)
			AND (w.channel = 'file' AND submeter.notice_file_works()
				OR n.channel IS NOT NULL AND EXISTS (SELECT FROM submeter.notice_addresses(c.site_id, c.contact_id, n.kind, n.settings))
					-- Where texts are approved by the provider, there must be one for the occasion.
					AND (NOT 'templates' = ANY (k.settings) OR n.settings -> 'templates' ? next_channel.notice_kind)
					AND NOT EXISTS (SELECT FROM unnest(k.secrets) x(name) WHERE NOT EXISTS (
						SELECT FROM submeter.secret t WHERE t.site_id = n.site_id AND t.name = format('channel/%s/%s', n.channel, x.name)))
					AND (n.month_budget IS NULL OR submeter.sent_in_month(n.site_id, n.channel, next_channel.as_of) < n.month_budget))
		ORDER BY w.ord LIMIT 1);
END
$$;
COMMENT ON FUNCTION submeter.next_channel(int, bigint, text, text[], timestamptz) IS
'The first channel of a person''s order that was not tried, is set up with its secrets and a text for the occasion, reaches the person, and has messages left this month; NULL when there is none.';

CREATE FUNCTION submeter.channel_host(kind text, settings jsonb, address text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(substring(coalesce(channel_host.settings ->> 'url', channel_host.settings ->> 'endpoint',
			nullif((SELECT k.host FROM submeter.channel_kind k WHERE k.kind = channel_host.kind), ''), channel_host.address) FROM '^[a-z]+://([^/?#]+)'), 'unknown');
END
$$;
COMMENT ON FUNCTION submeter.channel_host(text, jsonb, text) IS 'The host a message goes to.';

CREATE FUNCTION submeter.send_by_channel(site_id int, notice_id bigint, channel text, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	way submeter.notice_channel;
	item submeter.notice;
	target record;
	queued bigint;
	any_queued bigint;
BEGIN
	SELECT c.* INTO STRICT way FROM submeter.notice_channel c WHERE c.site_id = send_by_channel.site_id AND c.channel = send_by_channel.channel;
	SELECT n.* INTO STRICT item FROM submeter.notice n WHERE n.site_id = send_by_channel.site_id AND n.notice_id = send_by_channel.notice_id;
	IF way.kind = 'wechat' AND NOT EXISTS (
		SELECT FROM submeter.channel_token t WHERE t.site_id = way.site_id AND t.channel = way.channel AND t.expires_at > send_by_channel.as_of)
	THEN
		PERFORM submeter.ask_wechat_token(way.site_id, way.channel, send_by_channel.as_of);
		UPDATE submeter.notice n SET next_try_at = send_by_channel.as_of + interval '5 s', last_error = 'waiting for the access token'
		WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
		RETURN false;
	END IF;
	PERFORM submeter.notice_words(item.site_id, item.notice_id, way.channel);
	FOR target IN SELECT a.* FROM submeter.notice_addresses(item.site_id, item.contact_id, way.kind, way.settings) a LOOP
		queued := submeter.queue_outbound(item.site_id, CASE WHEN (SELECT k.costs FROM submeter.channel_kind k WHERE k.kind = way.kind) THEN 'paid_notice' ELSE 'notice' END,
			jsonb_build_object('notice_id', item.notice_id, 'channel', way.channel, 'address', target.address, 'keys', target.device_keys, 'device_id', target.device_id),
			submeter.channel_host(way.kind, way.settings, target.address), way.channel, NULL, send_by_channel.as_of + CASE WHEN item.urgent THEN interval '1 hour' ELSE interval '12 hours' END,
			format('%s:%s:%s', item.notice_id, way.channel, coalesce(target.device_id::text, '')));
		any_queued := coalesce(queued, any_queued);
	END LOOP;
	UPDATE submeter.notice n
	SET state = 'sending', channel = way.channel, outbound_id = coalesce(any_queued, n.outbound_id), next_try_at = send_by_channel.as_of, last_error = NULL,
		address = submeter.mask_address(target.address), delivery = NULL
	WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
	RETURN any_queued IS NOT NULL;
END
$$;
COMMENT ON FUNCTION submeter.send_by_channel(int, bigint, text, timestamptz) IS
'Hands a notice to the courier by one channel, once for every address the person has there.';

CREATE FUNCTION submeter.message_of(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.notice_message
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	message submeter.notice_message;
BEGIN
	SELECT o.site_id, n.notice_id, o.outbound_id, n.kind, w.channel, w.settings, coalesce(w.settings ->> 'endpoint', k.host), c.name, o.ref ->> 'address', o.ref -> 'keys',
		n.locale, n.subject, n.body, n.facts, n.urgent, message_of.as_of
	INTO message
	FROM submeter.outbound o
	JOIN submeter.notice n ON n.site_id = o.site_id AND n.notice_id = (o.ref ->> 'notice_id')::bigint AND n.state = 'sending'
	JOIN submeter.notice_channel w ON w.site_id = o.site_id AND w.channel = o.ref ->> 'channel' AND w.enabled
	JOIN submeter.channel_kind k ON k.kind = w.kind
	JOIN submeter.contact c ON c.site_id = n.site_id AND c.contact_id = n.contact_id
	WHERE o.site_id = message_of.site_id AND o.outbound_id = message_of.outbound_id;
	RETURN message;
END
$$;
COMMENT ON FUNCTION submeter.message_of(int, bigint, timestamptz) IS 'What a request of the outbox has to say; NULL when nobody wants it said any more.';

CREATE FUNCTION submeter.build_notice(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message submeter.notice_message := submeter.message_of(build_notice.site_id, build_notice.outbound_id, build_notice.as_of);
	builder name;
	request submeter.outbound_request;
BEGIN
	IF message.notice_id IS NULL THEN
		-- The channel was switched off meanwhile, or another device took it.
		PERFORM submeter.notice_failed(o.site_id, (o.ref ->> 'notice_id')::bigint, o.outbound_id, o.ref ->> 'channel', 'the channel was switched off', build_notice.as_of)
		FROM submeter.outbound o WHERE o.site_id = build_notice.site_id AND o.outbound_id = build_notice.outbound_id;
		RETURN NULL;
	END IF;
	SELECT k.build INTO STRICT builder FROM submeter.channel_kind k
	JOIN submeter.notice_channel w ON w.kind = k.kind WHERE w.site_id = message.site_id AND w.channel = message.channel;
	EXECUTE format('SELECT * FROM submeter.%I($1)', builder) INTO request USING message;
	-- Servers of our own may have certificates of our own.
	request.options := coalesce(request.options, '{}') || jsonb_strip_nulls(jsonb_build_object('ca', message.settings -> 'ca', 'proxy', message.settings -> 'proxy'));
	RETURN request;
END
$$;
COMMENT ON FUNCTION submeter.build_notice(int, bigint, timestamptz) IS 'Makes the request of a notice by the function of its channel''s kind.';

CREATE FUNCTION submeter.notice_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.outbound;
	rule submeter.outbound_kind;
	judge name;
	said submeter.channel_verdict;
	verdict submeter.outbound_verdict;
BEGIN
	SELECT o.* INTO STRICT item FROM submeter.outbound o WHERE o.site_id = notice_done.site_id AND o.outbound_id = notice_done.outbound_id;
	SELECT k.* INTO STRICT rule FROM submeter.outbound_kind k WHERE k.kind = item.kind;
	verdict := submeter.outbound_usual(item.method, notice_done.outcome, notice_done.status, notice_done.headers, item.attempts, rule.repeatable, notice_done.as_of);
	IF notice_done.outcome = 'answered' AND verdict.state IN ('delivered', 'failed') THEN
		SELECT k.judge INTO judge FROM submeter.channel_kind k
		JOIN submeter.notice_channel w ON w.kind = k.kind WHERE w.site_id = item.site_id AND w.channel = item.ref ->> 'channel';
		IF judge IS NOT NULL THEN
			EXECUTE format('SELECT * FROM submeter.%I($1, $2, $3)', judge) INTO said USING notice_done.status, notice_done.body, notice_done.as_of;
			verdict := ROW(said.state, CASE WHEN said.state = 'queued' THEN notice_done.as_of + interval '1 minute' END, said.detail)::submeter.outbound_verdict;
		END IF;
	END IF;
	IF verdict.state = 'queued' AND item.attempts >= rule.max_attempts THEN
		verdict.state := 'failed';
	END IF;
	IF said.detail = 'the access token is no longer good' THEN
		DELETE FROM submeter.channel_token t WHERE t.site_id = item.site_id AND t.channel = item.ref ->> 'channel';
		PERFORM submeter.ask_wechat_token(item.site_id, item.ref ->> 'channel', notice_done.as_of);
	END IF;
	UPDATE submeter.device d SET gone_at = notice_done.as_of
	WHERE said.gone AND d.site_id = item.site_id AND d.device_id = (item.ref ->> 'device_id')::bigint;
	IF verdict.state = 'delivered' THEN
		UPDATE submeter.notice n
		SET state = 'accepted', accepted_at = notice_done.as_of, receipt = said.receipt, last_error = NULL, outbound_id = item.outbound_id,
			address = submeter.mask_address(item.ref ->> 'address')
		WHERE n.site_id = item.site_id AND n.notice_id = (item.ref ->> 'notice_id')::bigint AND n.state = 'sending';
		IF FOUND AND said.receipt IS NOT NULL THEN
			PERFORM submeter.expect_receipt(item.site_id, item.outbound_id, notice_done.as_of);
		END IF;
	ELSIF verdict.state IN ('failed', 'unknown') THEN
		PERFORM submeter.notice_failed(item.site_id, (item.ref ->> 'notice_id')::bigint, item.outbound_id, item.ref ->> 'channel',
			coalesce(verdict.detail, (SELECT h.detail FROM submeter.outbound_host h WHERE h.site_id = item.site_id AND h.host = item.host), notice_done.outcome), notice_done.as_of);
	END IF;
	RETURN verdict;
END
$$;
COMMENT ON FUNCTION submeter.notice_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'What a channel''s answer means for a notice: accepted by the first address that takes it; when none does, the person''s next channel is tried.';

CREATE FUNCTION submeter.notice_failed(site_id int, notice_id bigint, outbound_id bigint, channel text, error text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	-- Another device may still take it; the key of a message begins with its notice.
	IF EXISTS (SELECT FROM submeter.outbound o WHERE o.site_id = notice_failed.site_id AND o.state IN ('queued', 'claimed') AND o.outbound_id <> notice_failed.outbound_id
		AND o.kind IN ('notice', 'paid_notice') AND o.dedupe_key COLLATE "C" > notice_failed.notice_id::text || ':'
		AND o.dedupe_key COLLATE "C" < notice_failed.notice_id::text || ';')
	THEN
		RETURN;
	END IF;
	UPDATE submeter.notice n
	SET state = 'queued', tried = n.tried || notice_failed.channel, next_try_at = notice_failed.as_of, last_error = format('%s: %s', notice_failed.channel, notice_failed.error)
	WHERE n.site_id = notice_failed.site_id AND n.notice_id = notice_failed.notice_id AND n.state = 'sending';
END
$$;
COMMENT ON FUNCTION submeter.notice_failed(int, bigint, bigint, text, text, timestamptz) IS 'A channel did not take a notice: the person''s next one is tried at once.';

CREATE FUNCTION submeter.spent_channels(site_id int, notice_id bigint) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(DISTINCT c.channel), '{}') FROM (
		SELECT o.ref ->> 'channel' AS channel FROM submeter.outbound o
		WHERE o.site_id = spent_channels.site_id AND o.kind = 'paid_notice' AND (o.ref ->> 'notice_id')::bigint = spent_channels.notice_id AND o.state = 'unknown'
		UNION ALL SELECT unnest(n.undelivered) FROM submeter.notice n
		WHERE n.site_id = spent_channels.site_id AND n.notice_id = spent_channels.notice_id) c
$$;
COMMENT ON FUNCTION submeter.spent_channels(int, bigint) IS 'Channels that are not used for a notice again: it may have arrived by them and was paid for, or they took it and did not deliver it.';

CREATE FUNCTION submeter.watch_budgets(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	spent text := (SELECT string_agg(format('%s: %s of %s messages', c.channel, submeter.sent_in_month(c.site_id, c.channel, watch_budgets.as_of), c.month_budget), ', ' ORDER BY c.channel)
		FROM submeter.notice_channel c
		WHERE c.site_id = watch_budgets.site_id AND c.enabled AND submeter.sent_in_month(c.site_id, c.channel, watch_budgets.as_of) >= c.month_budget);
BEGIN
	IF spent IS NOT NULL THEN
		PERFORM submeter.raise_alarm(watch_budgets.site_id, 'channel_budget', NULL, NULL, spent, watch_budgets.as_of);
	ELSE
		PERFORM submeter.clear_alarm(watch_budgets.site_id, 'channel_budget', NULL, NULL, watch_budgets.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.watch_budgets(int, timestamptz) IS 'Raises or clears channel_budget: channels whose messages of the month are used up.';

CREATE FUNCTION submeter.known_placeholders(kind text) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT '{site,tenant,account,currency,unit,at,available}'::text[] || CASE known_placeholders.kind
		WHEN 'low_balance' THEN '{threshold}' WHEN 'trip_announced' THEN '{due_at,amount}' WHEN 'tripped' THEN '{amount}' WHEN 'recharge_received' THEN '{amount}'
		WHEN 'bill_issued' THEN '{cycle,number,kwh,amount}' WHEN 'bill_due' THEN '{cycle,number,kwh,amount,due_at}' ELSE '{}' END::text[]
$$;
COMMENT ON FUNCTION submeter.known_placeholders(text) IS 'The {placeholders} texts of an occasion may have.';

CREATE FUNCTION submeter.check_template() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	stranger text := (SELECT m.part[1] FROM regexp_matches(NEW.subject || NEW.body, '\{([^{}\s]*)\}', 'g') m(part)
		WHERE NOT m.part[1] = ANY (submeter.known_placeholders(NEW.kind)) LIMIT 1);
BEGIN
	IF stranger IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a text for %s cannot have {%s}', NEW.kind, stranger),
			HINT = format('There are {%s}.', array_to_string(submeter.known_placeholders(NEW.kind), '}, {'));
	ELSIF NEW.subject ~ '[[:cntrl:]]' OR length(NEW.subject) > 200 OR length(NEW.body) > 5000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a text is too long, or its subject has line breaks',
			HINT = 'Subjects have one line of up to 200 letters, bodies up to 5000 letters.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.check_template() IS 'A text names only what there is to fill in, and its subject is one line. 22023.';

CREATE FUNCTION submeter.preview_notice(site_id int, account_id bigint, kind text, locale text, channel text DEFAULT 'file', facts jsonb DEFAULT '{}', as_of timestamptz DEFAULT now())
RETURNS TABLE(subject text, body text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM submeter.authorize('preview_notice', preview_notice.site_id);
	RETURN QUERY
	SELECT t.subject, t.body
	FROM submeter.notice_facts(preview_notice.site_id, preview_notice.account_id, preview_notice.locale, preview_notice.facts, preview_notice.as_of) f(facts)
	CROSS JOIN LATERAL submeter.notice_text(preview_notice.kind, preview_notice.locale, preview_notice.channel, f.facts) t
	WHERE f.facts IS NOT NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = 'there is no such text or account', HINT = 'SELECT kind, channel, locale FROM submeter.notice_template lists the texts.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.preview_notice(int, bigint, text, text, text, jsonb, timestamptz) IS
'A text as this account would get it, with facts of your own such as {"amount": 50}; what is not known shows as a dash. P0002 for an unknown text or account.';

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES
	('notice', 'build_notice', 'notice_done', true, 6, 'a notice by a channel that costs nothing'),
	('paid_notice', 'build_notice', 'notice_done', false, 6, 'a notice that is paid for: never sent again when it may have arrived');
