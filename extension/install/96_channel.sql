-- Room: channels of notices. Which ways there are, whom they reach, and how each is spoken to: a kind of channel is a row
-- of channel_kind with the function that makes its request and the one that judges the answer.

CREATE FUNCTION submeter.hmac(digest text, key bytea, message bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_hmac';
COMMENT ON FUNCTION submeter.hmac(text, bytea, bytea) IS 'HMAC (RFC 2104) with sha1, sha256 or another digest of OpenSSL. 22023 for one it does not know.';

CREATE FUNCTION submeter.push_new_key() RETURNS bytea
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'submeter_push_new_key';
COMMENT ON FUNCTION submeter.push_new_key() IS 'A new private key on P-256: 32 bytes.';

CREATE FUNCTION submeter.push_public_key(private_key bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_push_public_key';
COMMENT ON FUNCTION submeter.push_public_key(bytea) IS 'The uncompressed point, 65 bytes, of a private key on P-256. 22023 when it is none.';

CREATE FUNCTION submeter.es256_sign(message bytea, private_key bytea) RETURNS bytea
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_es256_sign';
COMMENT ON FUNCTION submeter.es256_sign(bytea, bytea) IS 'Signature ES256 (RFC 7518): 64 bytes. 22023 for a key that is none.';

CREATE FUNCTION submeter.push_seal(plain bytea, browser_key bytea, browser_secret bytea, private_key bytea DEFAULT NULL, salt bytea DEFAULT NULL)
RETURNS bytea
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_push_seal';
COMMENT ON FUNCTION submeter.push_seal(bytea, bytea, bytea, bytea, bytea) IS
'A message sealed for one browser (RFC 8291, aes128gcm): its key (65 bytes) and secret (16 bytes). Key and salt of ours are made anew for each. 22023 for a key that is none or a message over 3993 bytes.';

CREATE FUNCTION submeter.base64url(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT rtrim(translate(encode(base64url.bytes, 'base64'), E'+/\n', '-_'), '=')
$$;
COMMENT ON FUNCTION submeter.base64url(bytea) IS 'Base64 with the letters of RFC 4648 section 5, without padding.';

CREATE FUNCTION submeter.base64url_bytes(text text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT decode(rpad(translate(t.plain, '-_', '+/'), (length(t.plain) + 3) / 4 * 4, '='), 'base64')
	FROM (SELECT rtrim(base64url_bytes.text, '=') AS plain) t
$$;
COMMENT ON FUNCTION submeter.base64url_bytes(text) IS 'What base64url() wrote, with or without padding. 22023 when it is none.';

CREATE FUNCTION submeter.sha256_hex(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT encode(sha256(sha256_hex.bytes), 'hex')
$$;
COMMENT ON FUNCTION submeter.sha256_hex(bytea) IS 'SHA-256 in hex digits.';

CREATE TABLE submeter.channel_kind (
	kind text PRIMARY KEY,
	build name NOT NULL,
	judge name NOT NULL,
	reaches text NOT NULL CHECK (reaches IN ('email', 'phone', 'device', 'room')),
	costs boolean NOT NULL,
	settings text[] NOT NULL,
	secrets text[] NOT NULL,
	host text NOT NULL,
	ask_receipt name,
	judge_receipt name,
	receipt_host text,
	description text NOT NULL
);
COMMENT ON TABLE submeter.channel_kind IS 'Reference rows of the extension: the kinds of channels and how each is spoken to.';
COMMENT ON COLUMN submeter.channel_kind.kind IS 'name of the kind';
COMMENT ON COLUMN submeter.channel_kind.build IS 'function (notice_message) → outbound_request';
COMMENT ON COLUMN submeter.channel_kind.judge IS 'function (status, body, as_of) → channel_verdict; what the provider''s answer means';
COMMENT ON COLUMN submeter.channel_kind.reaches IS 'what a contact needs: email, phone, a device, or nothing (a room that many read)';
COMMENT ON COLUMN submeter.channel_kind.costs IS 'true: a message is paid for, and never repeated when it may have arrived';
COMMENT ON COLUMN submeter.channel_kind.settings IS 'settings it must have';
COMMENT ON COLUMN submeter.channel_kind.secrets IS 'secrets it must have, set as channel/NAME/SECRET by set_secret()';
COMMENT ON COLUMN submeter.channel_kind.host IS 'host it is at unless settings.endpoint says otherwise';
COMMENT ON COLUMN submeter.channel_kind.ask_receipt IS 'function (notice_message, receipt, sent_at) → outbound_request that asks the provider whether a message arrived; NULL where it cannot be asked';
COMMENT ON COLUMN submeter.channel_kind.judge_receipt IS 'function (notice_message, receipt, sent_at, status, body) → receipt_verdict; what it answers';
COMMENT ON COLUMN submeter.channel_kind.receipt_host IS 'where it is asked about messages, unless settings.report_endpoint says otherwise; NULL: where they go to';
COMMENT ON COLUMN submeter.channel_kind.description IS 'what it is';
GRANT SELECT ON submeter.channel_kind TO submeter_admin, submeter_operator, submeter_auditor;
INSERT INTO submeter.channel_kind (kind, build, judge, reaches, costs, settings, secrets, host, description) VALUES
	('mail', 'build_mail', 'judge_mail', 'email', false, '{url,from}', '{}', '', 'e-mail by SMTP: url smtp://HOST:587 (STARTTLS) or smtps://HOST:465, from, from_name, user, ca; secret password with a user'),
	('sms_aliyun', 'build_sms_aliyun', 'judge_sms_aliyun', 'phone', true, '{key_id,sign_name,templates}', '{key_secret}', 'https://dysmsapi.aliyuncs.com', 'SMS by Aliyun: key_id, sign_name, templates {KIND: {"code": "SMS_…", "fields": {NAME: PLACEHOLDER}}}'),
	('sms_tencent', 'build_sms_tencent', 'judge_sms_tencent', 'phone', true, '{secret_id,app_id,sign_name,templates}', '{secret_key}', 'https://sms.tencentcloudapi.com', 'SMS by Tencent Cloud: secret_id, app_id, sign_name, region, templates {KIND: {"code": "…", "fields": [PLACEHOLDER, …]}}'),
	('jpush', 'build_jpush', 'judge_jpush', 'device', false, '{app_key}', '{master_secret}', 'https://api.jpush.cn', 'push to an app by JPush: app_key; reports: true when the app tells on every phone what reached it'),
	('webpush', 'build_webpush', 'judge_webpush', 'device', false, '{subject}', '{private_key}', '', 'push to a browser (VAPID): subject mailto:…; the secret is made by make_push_key()'),
	('wechat', 'build_wechat_template', 'judge_wechat_template', 'device', false, '{appid,templates}', '{app_secret}', 'https://api.weixin.qq.com', 'WeChat template message: appid, templates {KIND: {"id": "…", "fields": {KEY: PLACEHOLDER}, "url": "…"}}; return_hosts: hosts of pages whose visitors log in there'),
	('dingtalk', 'build_dingtalk', 'judge_errcode', 'room', false, '{}', '{token}', 'https://oapi.dingtalk.com', 'robot of DingTalk: secret token, and sign when the robot signs'),
	('feishu', 'build_feishu', 'judge_feishu', 'room', false, '{}', '{token}', 'https://open.feishu.cn', 'robot of Feishu: secret token, and sign when the robot signs'),
	('wecom', 'build_wecom', 'judge_errcode', 'room', false, '{}', '{token}', 'https://qyapi.weixin.qq.com', 'robot of WeCom: secret token'),
	('webhook', 'build_webhook', 'judge_status', 'room', false, '{url}', '{key}', '', 'JSON to any address: url; signed with the secret key, header X-Submeter-Signature: t=SECONDS,v1=HEX of HMAC-SHA256 over "SECONDS.BODY"');

-- All that a message's request is made of.
CREATE TYPE submeter.notice_message AS (
	site_id int, notice_id bigint, outbound_id bigint, kind text, channel text, settings jsonb, endpoint text, recipient text, address text, device_keys jsonb,
	locale text, subject text, body text, facts jsonb, urgent boolean, as_of timestamptz
);
COMMENT ON TYPE submeter.notice_message IS 'A notice on its way by one channel to one address.';
CREATE TYPE submeter.channel_verdict AS (state text, receipt text, detail text, gone boolean);
COMMENT ON TYPE submeter.channel_verdict IS 'What a provider''s answer means: state delivered, failed, queued (again later) or unknown; receipt: its number of the message; gone: it does not know the device any more.';
REVOKE ALL ON TYPE submeter.notice_message, submeter.channel_verdict FROM PUBLIC;
GRANT USAGE ON TYPE submeter.notice_message, submeter.channel_verdict TO submeter_owner;

CREATE FUNCTION submeter.check_channel(kind text, settings jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known submeter.channel_kind;
	missing text;
BEGIN
	SELECT k.* INTO known FROM submeter.channel_kind k WHERE k.kind = check_channel.kind;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('there is no kind of channel "%s"', check_channel.kind),
			HINT = (SELECT 'There are ' || string_agg(k.kind, ', ' ORDER BY k.kind) || '.' FROM submeter.channel_kind k);
	END IF;
	SELECT s.name INTO missing FROM unnest(known.settings) s(name)
	WHERE coalesce(check_channel.settings ->> s.name, '') = '' LIMIT 1;
	IF jsonb_typeof(check_channel.settings) IS DISTINCT FROM 'object' OR missing IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the settings of a channel of kind %s lack "%s"', check_channel.kind, missing),
			DETAIL = known.description, HINT = 'Settings are a JSON object; secrets go into set_secret().';
	END IF;
	-- What is meant for a header or an address must not carry lines of its own.
	IF EXISTS (SELECT FROM jsonb_each_text(check_channel.settings) e WHERE e.key <> 'ca' AND jsonb_typeof(check_channel.settings -> e.key) = 'string' AND e.value ~ '[[:cntrl:]]') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a setting of a channel contains control characters',
			HINT = 'Take line breaks and tabs out of it.';
	END IF;
	IF coalesce(check_channel.settings ->> 'url', 'https://x') !~ '^(https?|smtps?)://[A-Za-z0-9.\[\]:_-]+(:[0-9]+)?(/|$)'
		OR EXISTS (SELECT FROM unnest('{endpoint,report_endpoint,authorize_endpoint}'::text[]) e(name)
			WHERE check_channel.settings ->> e.name !~ '^https?://[A-Za-z0-9.\[\]:_-]+(/|$)')
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the address of a channel is not one', DETAIL = known.description,
			HINT = 'Addresses begin with https://, http://, smtp:// or smtps://.';
	END IF;
	IF check_channel.settings ? 'return_hosts' AND (jsonb_typeof(check_channel.settings -> 'return_hosts') <> 'array'
		OR EXISTS (SELECT FROM jsonb_path_query(check_channel.settings, '$.return_hosts[*]') h WHERE coalesce(h #>> '{}', '') !~ '^[A-Za-z0-9.-]+(:[0-9]{1,5})?$'))
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'return_hosts of a channel are not host names', DETAIL = known.description,
			HINT = 'For instance {"return_hosts": ["pay.example.org"]}, without https:// and path.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_channel(text, jsonb) IS 'Checks the settings of a kind of channel. 22023 with what is missing or wrong.';

CREATE FUNCTION submeter.set_channel(site_id int, channel text, kind text, settings jsonb, enabled boolean DEFAULT true, month_budget int DEFAULT NULL,
	per_minute int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM submeter.authorize('set_channel', set_channel.site_id);
	PERFORM submeter.require_text('channel', set_channel.channel);
	PERFORM submeter.check_channel(set_channel.kind, set_channel.settings);
	INSERT INTO submeter.notice_channel AS c (site_id, channel, kind, settings, enabled, month_budget, set_by)
	VALUES (set_channel.site_id, set_channel.channel, set_channel.kind, set_channel.settings, set_channel.enabled, set_channel.month_budget, (submeter.me()).login)
	ON CONFLICT ON CONSTRAINT notice_channel_pkey DO UPDATE
	SET kind = EXCLUDED.kind, settings = EXCLUDED.settings, enabled = EXCLUDED.enabled, month_budget = EXCLUDED.month_budget, set_at = clock_timestamp(), set_by = EXCLUDED.set_by;
	DELETE FROM submeter.channel_token t WHERE t.site_id = set_channel.site_id AND t.channel = set_channel.channel;
	DELETE FROM submeter.outbound_channel o WHERE o.site_id = set_channel.site_id AND o.channel = set_channel.channel;
	INSERT INTO submeter.outbound_channel (site_id, channel, per_minute)
	SELECT set_channel.site_id, set_channel.channel, set_channel.per_minute WHERE set_channel.per_minute IS NOT NULL;
END
$$;
COMMENT ON FUNCTION submeter.set_channel(int, text, text, jsonb, boolean, int, int) IS
'Sets up a way by which the site sends messages: its name as in contact.channels, its kind (see channel_kind), settings without secrets, most messages a month and a minute. Secrets: set_secret(site, ''channel/NAME/SECRET'', …). 22023 for settings that lack something.';

CREATE FUNCTION submeter.make_push_key(site_id int, channel text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	made bytea := submeter.push_new_key();
BEGIN
	PERFORM submeter.authorize('set_channel', make_push_key.site_id);
	PERFORM submeter.put_secret(make_push_key.site_id, format('channel/%s/private_key', make_push_key.channel), made);
	RETURN submeter.base64url(submeter.push_public_key(made));
END
$$;
COMMENT ON FUNCTION submeter.make_push_key(int, text) IS
'Makes the key by which a Web Push channel signs (VAPID) and returns its public half for the web page (applicationServerKey). Browsers that subscribed with an older one have to subscribe again.';

CREATE FUNCTION submeter.push_key(site_id int, channel text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.authorize('register_device', push_key.site_id);
	RETURN submeter.base64url(submeter.push_public_key(submeter.secret_value(push_key.site_id, format('channel/%s/private_key', push_key.channel))));
END
$$;
COMMENT ON FUNCTION submeter.push_key(int, text) IS 'The public key (applicationServerKey) of a Web Push channel. 55000 when none was made.';

CREATE FUNCTION submeter.require_my_person(site_id int, contact_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM submeter.contact c WHERE c.site_id = require_my_person.site_id AND c.contact_id = require_my_person.contact_id
		AND (NOT pg_has_role((submeter.me()).role, 'submeter_tenant', 'member') OR submeter.is_internal() OR c.tenant_id = ANY (submeter.my_tenants())))
	THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('there is no person %s', coalesce(require_my_person.contact_id::text, 'NULL')),
			HINT = 'SELECT * FROM submeter.contact lists them.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_my_person(int, bigint) IS 'P0002 for a person the site does not have and, when a tenant asks, for another tenant''s.';

CREATE FUNCTION submeter.put_device(site_id int, contact_id bigint, kind text, token text, keys jsonb) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	registered bigint;
BEGIN
	-- A device belongs to whoever registered it last: telephones are handed on. A person of several shops keeps it for all.
	DELETE FROM submeter.device d
	WHERE d.site_id = put_device.site_id AND d.kind = put_device.kind AND d.token = put_device.token AND NOT EXISTS (
		SELECT FROM submeter.contact me
		JOIN submeter.contact c ON c.site_id = me.site_id AND (c.contact_id = me.contact_id OR c.phone = me.phone OR lower(c.email) = lower(me.email))
		WHERE me.site_id = put_device.site_id AND me.contact_id = put_device.contact_id AND c.contact_id = d.contact_id);
	INSERT INTO submeter.device AS d (site_id, contact_id, kind, token, keys)
	VALUES (put_device.site_id, put_device.contact_id, put_device.kind, put_device.token, put_device.keys)
	ON CONFLICT ON CONSTRAINT device_site_id_kind_token_contact_id_key DO UPDATE
	SET keys = EXCLUDED.keys, registered_at = clock_timestamp(), gone_at = NULL
	RETURNING d.device_id INTO registered;
	RETURN registered;
END
$$;
COMMENT ON FUNCTION submeter.put_device(int, bigint, text, text, jsonb) IS 'register_device() without asking who calls.';

CREATE FUNCTION submeter.register_device(site_id int, contact_id bigint, kind text, token text, keys jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	wrong text;
BEGIN
	PERFORM submeter.authorize('register_device', register_device.site_id);
	wrong := CASE
		WHEN register_device.kind IS NULL OR register_device.kind NOT IN ('jpush', 'webpush', 'wechat') THEN 'Kinds are jpush, webpush and wechat.'
		WHEN coalesce(register_device.token, '') !~ '^[[:graph:]]+$' OR length(register_device.token) NOT BETWEEN 6 AND 2000 THEN 'The token is empty, too long or has blanks in it.'
		WHEN register_device.kind = 'webpush' AND register_device.token !~ '^https://' THEN 'The address of a browser begins with https://.'
		WHEN register_device.kind = 'webpush' AND (coalesce(register_device.keys ->> 'p256dh', '') !~ '^[A-Za-z0-9_-]{87}=?$' OR coalesce(register_device.keys ->> 'auth', '') !~ '^[A-Za-z0-9_-]{22}(==)?$')
			THEN 'A browser has the keys p256dh (65 bytes) and auth (16 bytes) in base64url.' END;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the device cannot be registered', DETAIL = wrong,
			HINT = 'Pass what the app or the browser''s subscription says, unchanged.';
	END IF;
	PERFORM submeter.require_my_person(register_device.site_id, register_device.contact_id);
	RETURN submeter.put_device(register_device.site_id, register_device.contact_id, register_device.kind, register_device.token, coalesce(register_device.keys, '{}'));
END
$$;
COMMENT ON FUNCTION submeter.register_device(int, bigint, text, text, jsonb) IS
'Notes where a person can be reached by push: an app (jpush, its registration id), a browser (webpush, the address and keys of its subscription) or WeChat (openid). The same device again belongs to the new person, unless it is the same one as a contact of another shop (telephone or mail address). Tenants register for their own people. 22023 for what cannot be one, P0002 unknown person.';

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
