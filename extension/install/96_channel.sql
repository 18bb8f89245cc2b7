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
