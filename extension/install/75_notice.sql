-- Room: notices. Messages to people: texts, the outbox, and the file channel that carries them until there is a courier.

CREATE FUNCTION submeter.notice_file_works() RETURNS boolean
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'submeter_notice_directory_set';
COMMENT ON FUNCTION submeter.notice_file_works() IS 'True when submeter.notice_directory is set: the file channel can be used.';

CREATE FUNCTION submeter.notice_file_write(name text, content text) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'submeter_notice_file_write';
COMMENT ON FUNCTION submeter.notice_file_write(text, text) IS
'Writes one message into submeter.notice_directory and returns when it is durable; the same name again replaces it. 22023 for an unsafe name, 55000 without a directory, 58030 and relatives when the disk refuses.';

CREATE FUNCTION submeter.notice_fill(template text, facts jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- One pass: what a fact contains is never taken for a placeholder.
	RETURN (SELECT coalesce(string_agg(CASE WHEN m.part[1] IS NOT NULL THEN coalesce(notice_fill.facts ->> m.part[1], '–') ELSE m.part[2] END, '' ORDER BY m.ord), '')
		FROM regexp_matches(notice_fill.template, '\{([a-z_]+)\}|([^{]+|\{)', 'g') WITH ORDINALITY m(part, ord));
END
$$;
COMMENT ON FUNCTION submeter.notice_fill(text, jsonb) IS
'Fills {placeholders} of a text with facts; what is not known becomes a dash.';

CREATE FUNCTION submeter.notice_header(value text, is_phrase boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- A line break in a header would let a name add headers of its own.
	IF notice_header.value ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a header of a message cannot contain control characters',
			DETAIL = format('Found in %s.', quote_literal(notice_header.value)),
			HINT = 'Take line breaks and tabs out of names and subjects.';
	END IF;
	IF notice_header.value ~ (CASE WHEN notice_header.is_phrase THEN '^[A-Za-z0-9 _-]{0,60}$' ELSE '^[ -~]{0,60}$' END)
		AND position('=?' IN notice_header.value) = 0
	THEN
		RETURN notice_header.value;
	END IF;
	-- RFC 2047: words of at most 75 characters, never cutting a character in two.
	RETURN (
		SELECT string_agg('=?UTF-8?B?' || encode(convert_to(substr(notice_header.value, g.first, 10), 'UTF8'), 'base64') || '?=', E'\r\n ' ORDER BY g.first)
		FROM generate_series(1, length(notice_header.value), 10) g(first));
END
$$;
COMMENT ON FUNCTION submeter.notice_header(text, boolean) IS
'A header value of a mail message, encoded by RFC 2047 where it is not plain ASCII or, in a phrase (a person''s name), has characters that mean something there. 22023 for control characters (header injection).';

CREATE FUNCTION submeter.mail_date(at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- In English whatever the server speaks.
	SELECT (ARRAY['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'])[extract(isodow FROM u.at)::int] || to_char(u.at, ', DD ')
		|| (ARRAY['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'])[extract(month FROM u.at)::int] || to_char(u.at, ' YYYY HH24:MI:SS') || ' +0000'
	FROM (SELECT mail_date.at AT TIME ZONE 'UTC' AS at) u
$$;
COMMENT ON FUNCTION submeter.mail_date(timestamptz) IS 'An instant as RFC 5322 writes it, in UTC.';

CREATE FUNCTION submeter.notice_message(message_id text, recipient text, address text, subject text, body text, sent_at timestamptz)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat(
		'Date: ', submeter.mail_date(notice_message.sent_at), E'\r\n',
		'From: Submeter <submeter@localhost>', E'\r\n',
		'To: ', submeter.notice_header(notice_message.recipient, true), ' <', coalesce(submeter.notice_header(notice_message.address), 'nobody@localhost'), '>', E'\r\n',
		'Subject: ', submeter.notice_header(notice_message.subject), E'\r\n',
		'Message-ID: <', submeter.notice_header(notice_message.message_id), '@submeter.localhost>', E'\r\n',
		'MIME-Version: 1.0', E'\r\n',
		'Content-Type: text/plain; charset=utf-8', E'\r\n',
		'Content-Transfer-Encoding: 8bit', E'\r\n',
		E'\r\n',
		regexp_replace(notice_message.body, E'\r?\n', E'\r\n', 'g'), E'\r\n')
$$;
COMMENT ON FUNCTION submeter.notice_message(text, text, text, text, text, timestamptz) IS
'A message as RFC 5322 wants it: UTF-8 text with MIME headers. 22023 for control characters in a header.';

CREATE FUNCTION submeter.load_notice_templates() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.notice_template AS t (kind, channel, locale, subject, body, builtin)
	SELECT v.kind, 'file', v.locale, v.subject, v.body, true
	FROM (VALUES
		('low_balance', 'zh', '{site}:{unit} 电费余额不足',
			E'{tenant}:\n您的电费账户 {account}({unit})可用余额为 {available} {currency},已低于 {threshold} {currency}。请及时充值,以免影响用电。\n\n{site}'),
		('low_balance', 'en', '{site}: low electricity balance, {unit}',
			E'Dear {tenant},\nthe available balance of your electricity account {account} ({unit}) is {available} {currency}, below {threshold} {currency}. Please recharge in time so that the power stays on.\n\n{site}'),
		('trip_announced', 'zh', '{site}:{unit} 欠费停电预告',
			E'{tenant}:\n您的电费账户 {account}({unit})已欠费,可用余额为 {available} {currency}。若未在 {due_at} 前充值至少 {amount} {currency},将于该时间之后停止供电。充值到账后自动恢复。已付款未到账请联系物业。\n\n{site}'),
		('trip_announced', 'en', '{site}: power will be cut, {unit}',
			E'Dear {tenant},\nyour electricity account {account} ({unit}) is in arrears: the available balance is {available} {currency}. Unless at least {amount} {currency} is paid before {due_at}, the power will be cut after that time. It comes back by itself once the payment is credited. If you have paid already, please contact the property office.\n\n{site}'),
		('tripped', 'zh', '{site}:{unit} 已停电',
			E'{tenant}:\n您的电费账户 {account}({unit})因欠费已于 {at} 停止供电,可用余额为 {available} {currency}。充值至少 {amount} {currency}后自动恢复供电。\n\n{site}'),
		('tripped', 'en', '{site}: the power was cut, {unit}',
			E'Dear {tenant},\nthe power of {unit} (account {account}) was cut at {at} because of arrears; the available balance is {available} {currency}. It comes back by itself once at least {amount} {currency} is paid.\n\n{site}'),
		('reconnected', 'zh', '{site}:{unit} 已恢复供电',
			E'{tenant}:\n{unit}(电费账户 {account})已于 {at} 恢复供电,可用余额为 {available} {currency}。送电前请确认用电设备已关闭。\n\n{site}'),
		('reconnected', 'en', '{site}: the power is back, {unit}',
			E'Dear {tenant},\nthe power of {unit} (account {account}) came back at {at}; the available balance is {available} {currency}. Please check what was left switched on.\n\n{site}'),
		('recharge_received', 'zh', '{site}:充值 {amount} {currency} 已到账',
			E'{tenant}:\n您于 {at} 为电费账户 {account}({unit})充值 {amount} {currency} 已到账,可用余额为 {available} {currency}。\n\n{site}'),
		('recharge_received', 'en', '{site}: {amount} {currency} received',
			E'Dear {tenant},\nyour payment of {amount} {currency} to electricity account {account} ({unit}) was credited at {at}; the available balance is {available} {currency}. Thank you.\n\n{site}'),
		('bill_issued', 'zh', '{site}:{cycle} 电费账单 {amount} {currency}',
			E'{tenant}:\n您的电费账户 {account}({unit}){cycle} 账单(编号 {number})已出:用电量 {kwh} 千瓦时,金额 {amount} {currency},期末余额 {available} {currency}。\n\n{site}'),
		('bill_issued', 'en', '{site}: electricity bill {cycle}, {amount} {currency}',
			E'Dear {tenant},\nthe bill {number} of your electricity account {account} ({unit}) for {cycle} is ready: {kwh} kWh, {amount} {currency}; the balance at its end is {available} {currency}.\n\n{site}'),
		('bill_due', 'zh', '{site}:{cycle} 电费账单 {amount} {currency},请于 {due_at} 前缴费',
			E'{tenant}:\n您的电费账户 {account}({unit}){cycle} 账单(编号 {number})已出:用电量 {kwh} 千瓦时,金额 {amount} {currency},期末余额 {available} {currency}。请于 {due_at} 前缴费。\n\n{site}'),
		('bill_due', 'en', '{site}: electricity bill {cycle}, {amount} {currency}, due {due_at}',
			E'Dear {tenant},\nthe bill {number} of your electricity account {account} ({unit}) for {cycle} is ready: {kwh} kWh, {amount} {currency}; the balance at its end is {available} {currency}. Please pay before {due_at}.\n\n{site}'),
		('press_key', 'zh', '{site}:{unit} 已允许合闸,请按电表按键',
			E'{tenant}:\n{unit}(电费账户 {account})已允许合闸。请先关闭用电设备,再按电表上的按键恢复供电。\n\n{site}'),
		('press_key', 'en', '{site}: press the key of the meter, {unit}',
			E'Dear {tenant},\nthe breaker of {unit} (account {account}) may be closed again. Please switch off what is connected, then press the key of the meter: the power comes back.\n\n{site}')
	) v(kind, locale, subject, body)
	ON CONFLICT (kind, channel, locale) DO UPDATE SET subject = EXCLUDED.subject, body = EXCLUDED.body
	WHERE t.builtin
$$;
COMMENT ON FUNCTION submeter.load_notice_templates() IS
'Writes the built-in texts of notices; texts whose builtin was set to false are the user''s and stay.';

CREATE FUNCTION submeter.notice_facts(site_id int, account_id bigint, locale text, facts jsonb, as_of timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_build_object('site', s.name, 'tenant', t.name, 'account', a.code,
				'currency', CASE WHEN notice_facts.locale = 'zh' AND s.currency = 'CNY' THEN '元' ELSE s.currency END,
				'unit', coalesce(u.units, a.code), 'at', to_char(notice_facts.as_of AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI'))
			|| CASE WHEN notice_facts.facts ? 'available' THEN '{}' ELSE
				jsonb_build_object('available', round(submeter.available_now(notice_facts.site_id, notice_facts.account_id), 2)::text) END
			|| coalesce((
				SELECT jsonb_object_agg(f.key, CASE
					WHEN f.key IN ('due_at', 'at') THEN to_jsonb(to_char((f.value #>> '{}')::timestamptz AT TIME ZONE s.time_zone, 'YYYY-MM-DD HH24:MI'))
					WHEN jsonb_typeof(f.value) = 'number' THEN to_jsonb(round((f.value #>> '{}')::numeric, 2)::text)
					ELSE f.value END)
				FROM jsonb_each(notice_facts.facts) f
				WHERE jsonb_typeof(f.value) <> 'null'), '{}')
		FROM submeter.site s
		JOIN submeter.account a ON a.site_id = s.site_id AND a.account_id = notice_facts.account_id
		JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
		LEFT JOIN LATERAL (
			SELECT string_agg(DISTINCT n.code, ', ' ORDER BY n.code) AS units
			FROM submeter.supply y
			CROSS JOIN LATERAL (
				SELECT e.unit_id FROM submeter.meter_setup e
				WHERE e.site_id = y.site_id AND e.meter_id = y.meter_id AND e.valid_from <= notice_facts.as_of
				ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1) e
			JOIN submeter.unit n ON n.site_id = y.site_id AND n.unit_id = e.unit_id
			WHERE y.site_id = a.site_id AND y.account_id = a.account_id AND y.during @> notice_facts.as_of) u ON true
		WHERE s.site_id = notice_facts.site_id);
END
$$;
COMMENT ON FUNCTION submeter.notice_facts(int, bigint, text, jsonb, timestamptz) IS
'What a text may mention of an account: names, units, the available balance, and the given facts with money to 2 places and times (due_at, at) local to the site.';

CREATE FUNCTION submeter.notice_line(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN left(regexp_replace(notice_line.value, '[[:cntrl:]]+', ' ', 'g'), 250);
END
$$;
COMMENT ON FUNCTION submeter.notice_line(text) IS 'A text as one line of at most 250 letters: what a subject is made of may be longer, or have lines of its own.';

CREATE FUNCTION submeter.notice_text(kind text, locale text, channel text, facts jsonb) RETURNS TABLE(subject text, body text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT submeter.notice_line(submeter.notice_fill(t.subject, notice_text.facts)), regexp_replace(submeter.notice_fill(t.body, notice_text.facts), '[\u0001-\u0009\u000b-\u001f\u007f]', ' ', 'g')
	FROM submeter.notice_template t
	WHERE t.kind = notice_text.kind AND t.locale = notice_text.locale AND t.channel IN (notice_text.channel, 'file')
	ORDER BY t.channel = notice_text.channel DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION submeter.notice_text(text, text, text, jsonb) IS
'The text of an occasion in a language, as its channel has it or else the common one, filled with facts; no row when there is none. A subject is one line, and no text has control characters but line feeds.';

CREATE FUNCTION submeter.mask_address(address text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE
		WHEN mask_address.address LIKE '%@%' THEN left(mask_address.address, 1) || '****' || substring(mask_address.address FROM '@[^@]*$')
		WHEN mask_address.address ~ '^\+?[0-9]+$' THEN left(mask_address.address, 3) || '****' || right(mask_address.address, 4)
		WHEN mask_address.address LIKE 'https://%' THEN substring(mask_address.address FROM '^https://[^/]*') || '/****'
		WHEN mask_address.address <> '' THEN left(mask_address.address, 4) || '****' END;
END
$$;
COMMENT ON FUNCTION submeter.mask_address(text) IS 'An address with most of it hidden, enough to tell which of a person''s it is; NULL for none.';

CREATE FUNCTION submeter.queue_notice(site_id int, account_id bigint, kind text, dedupe_base text, facts jsonb, as_of timestamptz, urgent boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	first_id bigint;
BEGIN
	INSERT INTO submeter.notice (site_id, account_id, contact_id, kind, channel, locale, subject, body, facts, event, dedupe_key, urgent, next_try_at, created_at)
	SELECT queue_notice.site_id, queue_notice.account_id, c.contact_id, queue_notice.kind, c.channels[1], l.locale,
		t.subject, t.body, f.facts, queue_notice.dedupe_base,
		queue_notice.dedupe_base || ':' || c.contact_id::text, queue_notice.urgent, queue_notice.as_of, queue_notice.as_of
	FROM submeter.account a
	JOIN submeter.site s ON s.site_id = a.site_id
	-- A policy that only observes is not heard by any tenant.
	JOIN submeter.credit_policy p ON p.site_id = a.site_id AND p.policy_id = coalesce(a.policy_id, s.default_policy_id) AND p.mode <> 'observe'
	JOIN submeter.contact c ON c.site_id = a.site_id AND c.tenant_id = a.tenant_id
	CROSS JOIN LATERAL (SELECT coalesce(c.locale, s.locale) AS locale) l
	CROSS JOIN LATERAL submeter.notice_facts(a.site_id, a.account_id, l.locale, queue_notice.facts, queue_notice.as_of) f(facts)
	CROSS JOIN LATERAL submeter.notice_text(queue_notice.kind, l.locale, c.channels[1], f.facts) t
	-- A viewer need not know of money; that the power went and came concerns everybody.
	WHERE a.site_id = queue_notice.site_id AND a.account_id = queue_notice.account_id
		AND (c.role <> 'viewer' OR queue_notice.kind IN ('tripped', 'reconnected', 'press_key'))
	ORDER BY c.contact_id
	ON CONFLICT DO NOTHING;
	SELECT min(n.notice_id) INTO first_id
	FROM submeter.notice n
	WHERE n.site_id = queue_notice.site_id AND n.account_id = queue_notice.account_id AND n.event = queue_notice.dedupe_base;
	RETURN first_id;
END
$$;
COMMENT ON FUNCTION submeter.queue_notice(int, bigint, text, text, jsonb, timestamptz, boolean) IS
'Puts one message per contact of the account''s tenant into the outbox, each in the contact''s language and for its first channel; the same dedupe_base again adds nothing. facts: money as numbers, times as due_at and at. Returns the first notice_id, NULL when there is nobody to tell or the policy only observes.';

CREATE FUNCTION submeter.quiet_until(quiet_from time, quiet_to time, time_zone text, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Quiet hours may pass midnight: those of today and those that began yesterday.
	RETURN (SELECT max(q.ends) FROM (
			SELECT (d.day + quiet_until.quiet_from) AT TIME ZONE quiet_until.time_zone AS begins,
				(d.day + CASE WHEN quiet_until.quiet_from < quiet_until.quiet_to THEN 0 ELSE 1 END + quiet_until.quiet_to) AT TIME ZONE quiet_until.time_zone AS ends
			FROM (VALUES ((quiet_until.at AT TIME ZONE quiet_until.time_zone)::date), ((quiet_until.at AT TIME ZONE quiet_until.time_zone)::date - 1)) d(day)
		) q
		WHERE q.begins <= quiet_until.at AND quiet_until.at < q.ends);
END
$$;
COMMENT ON FUNCTION submeter.quiet_until(time, time, text, timestamptz) IS
'When the quiet hours end that hold at this instant; NULL when none do.';

CREATE FUNCTION submeter.notice_try_failed(site_id int, notice_id bigint, failure text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	most_attempts CONSTANT int := 8;
	is_over boolean;
BEGIN
	UPDATE submeter.notice n
	SET attempts = n.attempts + 1, tried = submeter.spent_channels(n.site_id, n.notice_id), last_error = notice_try_failed.failure,
		state = CASE WHEN n.attempts + 1 >= most_attempts THEN 'failed' ELSE 'queued' END,
		next_try_at = notice_try_failed.as_of + interval '30 s' * power(2, n.attempts)
	WHERE n.site_id = notice_try_failed.site_id AND n.notice_id = notice_try_failed.notice_id
	RETURNING n.state = 'failed' INTO is_over;
	IF is_over THEN
		PERFORM submeter.raise_alarm(notice_try_failed.site_id, 'notice_failed', NULL, NULL,
			format('notice %s could not be delivered: %s', notice_try_failed.notice_id, notice_try_failed.failure), notice_try_failed.as_of);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.notice_try_failed(int, bigint, text, timestamptz) IS
'No channel took a notice: the wait doubles from 30 s, the eighth time is final and raises notice_failed.';

CREATE FUNCTION submeter.warned_today(site_id int, notice_id bigint, time_zone text, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- One person may be a contact of several shops: whoever has the same telephone or mail address.
	SELECT EXISTS (
		SELECT FROM submeter.notice mine
		JOIN submeter.contact me ON me.site_id = mine.site_id AND me.contact_id = mine.contact_id
		JOIN submeter.contact c ON c.site_id = me.site_id AND (c.contact_id = me.contact_id OR c.phone = me.phone OR lower(c.email) = lower(me.email))
		JOIN submeter.notice n ON n.site_id = c.site_id AND n.contact_id = c.contact_id AND n.kind = 'low_balance' AND n.notice_id <> mine.notice_id
			AND (n.state = 'sending' OR n.state = 'accepted' AND n.accepted_at <= warned_today.as_of
				AND n.accepted_at >= date_trunc('day', warned_today.as_of AT TIME ZONE warned_today.time_zone) AT TIME ZONE warned_today.time_zone)
		WHERE mine.site_id = warned_today.site_id AND mine.notice_id = warned_today.notice_id)
$$;
COMMENT ON FUNCTION submeter.warned_today(int, bigint, text, timestamptz) IS
'Whether the person a notice is for, as a contact of whichever shop, was warned of another low balance on this local day already.';

CREATE FUNCTION submeter.hold_warning(site_id int, notice_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.notice;
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = hold_warning.site_id);
	fresh jsonb;
BEGIN
	SELECT n.* INTO STRICT item FROM submeter.notice n WHERE n.site_id = hold_warning.site_id AND n.notice_id = hold_warning.notice_id;
	IF submeter.warned_today(item.site_id, item.notice_id, zone, hold_warning.as_of) THEN
		UPDATE submeter.notice n
		SET next_try_at = ((hold_warning.as_of AT TIME ZONE zone)::date + 1 + time '08:00') AT TIME ZONE zone, last_error = 'one warning a day is enough'
		WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
		RETURN true;
	END IF;
	IF (item.created_at AT TIME ZONE zone)::date = (hold_warning.as_of AT TIME ZONE zone)::date THEN
		RETURN false;
	END IF;
	-- It waited over a night: a later warning has taken its place, or the money came, or it says today's balance.
	fresh := submeter.notice_facts(item.site_id, item.account_id, item.locale, jsonb_build_object('threshold', item.facts -> 'threshold'), hold_warning.as_of);
	IF submeter.available_now(item.site_id, item.account_id) >= (item.facts ->> 'threshold')::numeric OR EXISTS (
		SELECT FROM submeter.notice n WHERE n.site_id = item.site_id AND n.account_id = item.account_id AND n.contact_id = item.contact_id AND n.kind = 'low_balance' AND n.notice_id > item.notice_id)
	THEN
		UPDATE submeter.notice n SET state = 'cancelled', last_error = 'no longer so'
		WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
		RETURN true;
	END IF;
	UPDATE submeter.notice n
	SET facts = fresh, subject = t.subject, body = t.body
	FROM submeter.notice_text(item.kind, item.locale, item.channel, fresh) t
	WHERE n.site_id = item.site_id AND n.notice_id = item.notice_id;
	RETURN false;
END
$$;
COMMENT ON FUNCTION submeter.hold_warning(int, bigint, timestamptz) IS
'True when a warning of a low balance is not sent now: the person was warned today already (it comes the next morning, saying that day''s balance), or it is no longer so.';

CREATE FUNCTION submeter.notice_words(site_id int, notice_id bigint, channel text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE submeter.notice n SET subject = t.subject, body = t.body
	FROM submeter.notice x
	CROSS JOIN LATERAL submeter.notice_text(x.kind, x.locale, notice_words.channel, x.facts) t
	WHERE x.site_id = notice_words.site_id AND x.notice_id = notice_words.notice_id AND notice_words.channel <> x.channel
		AND n.site_id = x.site_id AND n.notice_id = x.notice_id
$$;
COMMENT ON FUNCTION submeter.notice_words(int, bigint, text) IS 'Puts a notice into the words of a channel other than the one it was written for.';

CREATE FUNCTION submeter.deliver_notice(site_id int, notice_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	todo record;
	failure text;
BEGIN
	SELECT n.*, c.name AS recipient, c.email, submeter.next_channel(n.site_id, n.contact_id, n.kind, n.tried, deliver_notice.as_of) AS way,
		CASE WHEN NOT n.urgent THEN submeter.quiet_until(c.quiet_from, c.quiet_to, s.time_zone, deliver_notice.as_of) END AS quiet_to
	INTO todo
	FROM submeter.notice n
	JOIN submeter.site s ON s.site_id = n.site_id
	JOIN submeter.contact c ON c.site_id = n.site_id AND c.contact_id = n.contact_id
	WHERE n.site_id = deliver_notice.site_id AND n.notice_id = deliver_notice.notice_id AND n.state = 'queued'
	FOR UPDATE OF n SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	IF todo.quiet_to IS NULL AND todo.kind = 'low_balance' AND submeter.hold_warning(deliver_notice.site_id, deliver_notice.notice_id, deliver_notice.as_of) THEN
		RETURN false;
	ELSIF todo.quiet_to IS NOT NULL OR todo.way IS NULL AND todo.tried = '{}' THEN
		-- Not the message's fault: it waits without using up a try.
		UPDATE submeter.notice n
		SET next_try_at = coalesce(todo.quiet_to, deliver_notice.as_of + interval '5 min'),
			last_error = CASE WHEN todo.quiet_to IS NULL THEN 'no channel of this contact works' ELSE n.last_error END
		WHERE n.site_id = deliver_notice.site_id AND n.notice_id = deliver_notice.notice_id;
		RETURN false;
	ELSIF todo.way IS NULL THEN
		-- Every channel of the person refused: all are tried again later, and in the end somebody has to be told.
		PERFORM submeter.notice_try_failed(deliver_notice.site_id, deliver_notice.notice_id, todo.last_error, deliver_notice.as_of);
		RETURN false;
	ELSIF todo.way <> 'file' THEN
		PERFORM submeter.send_by_channel(deliver_notice.site_id, deliver_notice.notice_id, todo.way, deliver_notice.as_of);
		RETURN false;
	END IF;
	PERFORM submeter.notice_words(deliver_notice.site_id, deliver_notice.notice_id, todo.way);
	BEGIN
		PERFORM submeter.notice_file_write(format('notice-%s-%s.eml', n.site_id, n.notice_id),
			submeter.notice_message(format('notice.%s.%s', n.site_id, n.notice_id), todo.recipient, todo.email, n.subject, n.body, deliver_notice.as_of))
		FROM submeter.notice n WHERE n.site_id = todo.site_id AND n.notice_id = todo.notice_id;
		UPDATE submeter.notice n
		SET state = 'accepted', accepted_at = deliver_notice.as_of, channel = todo.way, address = submeter.mask_address(todo.email), attempts = n.attempts + 1, last_error = NULL,
			delivery = NULL
		WHERE n.site_id = deliver_notice.site_id AND n.notice_id = deliver_notice.notice_id;
		RETURN true;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS failure = MESSAGE_TEXT;
	END;
	PERFORM submeter.notice_try_failed(deliver_notice.site_id, deliver_notice.notice_id, failure, deliver_notice.as_of);
	RETURN false;
END
$$;
COMMENT ON FUNCTION submeter.deliver_notice(int, bigint, timestamptz) IS
'Tries one queued notice: true when a channel took it. Waits through quiet hours (unless urgent) and while no channel works; a failure doubles the wait from 30 s, the eighth is final and raises notice_failed.';

CREATE FUNCTION submeter.deliver_notices(site_id int, as_of timestamptz DEFAULT NULL) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz := coalesce(deliver_notices.as_of, clock_timestamp());
	next_id bigint;
	delivered int := 0;
BEGIN
	PERFORM submeter.guard();
	PERFORM submeter.watch_budgets(deliver_notices.site_id, at);
	UPDATE submeter.notice n SET state = 'cancelled', last_error = 'the person is no contact any more'
	WHERE n.site_id = deliver_notices.site_id AND n.state = 'queued' AND n.next_try_at <= at
		AND NOT EXISTS (SELECT FROM submeter.contact c WHERE c.site_id = n.site_id AND c.contact_id = n.contact_id);
	FOR next_id IN
		SELECT n.notice_id FROM submeter.notice n
		WHERE n.site_id = deliver_notices.site_id AND n.state = 'queued' AND n.next_try_at <= at
		ORDER BY n.urgent DESC, n.next_try_at, n.notice_id
		LIMIT 1000
	LOOP
		IF submeter.deliver_notice(deliver_notices.site_id, next_id, at) THEN
			delivered := delivered + 1;
		END IF;
	END LOOP;
	RETURN delivered;
END
$$;
COMMENT ON FUNCTION submeter.deliver_notices(int, timestamptz) IS
'Duty: hands due notices to their channels, urgent ones first; returns how many were accepted. One that cannot be delivered never stops the others. 55000 in a copied database.';

CREATE FUNCTION submeter.told_at(site_id int, account_id bigint, notice_id bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT min(a.accepted_at)
		FROM submeter.notice n
		JOIN submeter.notice a ON a.site_id = n.site_id AND a.account_id = n.account_id AND a.event = n.event
		WHERE n.site_id = told_at.site_id AND n.account_id = told_at.account_id AND n.notice_id = told_at.notice_id);
END
$$;
COMMENT ON FUNCTION submeter.told_at(int, bigint, bigint) IS
'When the first channel accepted a message about the same event, to whichever contact; NULL while nobody was told.';
