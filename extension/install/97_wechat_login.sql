-- Room: logins at WeChat. A person's openid at the site's official account, which template messages and payments inside
-- WeChat need: the page sends the person to WeChat, WeChat sends back a code, the courier exchanges it.
-- Source of the facts: WeChat's "Web page authorization" of official accounts (scope snsapi_base).

CREATE FUNCTION submeter.wechat_settings(site_id int, channel text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_settings jsonb;
BEGIN
	SELECT c.settings INTO found_settings FROM submeter.notice_channel c
	WHERE c.site_id = wechat_settings.site_id AND c.channel = wechat_settings.channel AND c.kind = 'wechat' AND c.enabled;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('the site has no channel "%s" of kind wechat', coalesce(wechat_settings.channel, 'NULL')),
			HINT = 'An administrator sets one up with set_channel().';
	END IF;
	RETURN found_settings;
END
$$;
COMMENT ON FUNCTION submeter.wechat_settings(int, text) IS 'Settings of a working WeChat channel; P0002 when it is none.';

CREATE FUNCTION submeter.require_return_url(settings jsonb, url text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- A host, perhaps a port, a path: no login before the host, nothing that browsers read as another host.
	host text := lower(substring(require_return_url.url FROM '^https://([A-Za-z0-9.-]+(?::[0-9]{1,5})?)(?:[/?][!$-;=?-\[\]_a-z~]*)?$'));
	hosts jsonb := CASE WHEN jsonb_typeof(require_return_url.settings -> 'return_hosts') = 'array' THEN require_return_url.settings -> 'return_hosts' ELSE '[]' END;
BEGIN
	IF host IS NULL OR length(require_return_url.url) > 1000 OR NOT EXISTS (SELECT FROM jsonb_array_elements_text(hosts) h(name) WHERE lower(h.name) = host) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'people cannot be sent back to this address',
			DETAIL = CASE WHEN host IS NULL OR length(require_return_url.url) > 1000 THEN 'It is not an https address of at most 1000 characters, without # and blanks.'
				ELSE format('Host %s is not one of return_hosts of the channel.', host) END,
			HINT = 'An administrator names the hosts of the site''s pages with set_channel(): {"return_hosts": ["pay.example.org"]}.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_return_url(jsonb, text) IS 'Refuses (22023) to send people to any host but those a channel names.';

CREATE FUNCTION submeter.begin_wechat_login(site_id int, contact_id bigint, channel text, return_url text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	settings jsonb;
	who record := submeter.me();
	token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.authorize('begin_wechat_login', begin_wechat_login.site_id);
	PERFORM submeter.require_my_person(begin_wechat_login.site_id, begin_wechat_login.contact_id);
	settings := submeter.wechat_settings(begin_wechat_login.site_id, begin_wechat_login.channel);
	PERFORM submeter.require_return_url(settings, begin_wechat_login.return_url);
	-- What was begun before is over: one login of a person at a time, and old rows do not pile up.
	DELETE FROM submeter.wechat_login l
	WHERE l.site_id = begin_wechat_login.site_id AND l.contact_id = begin_wechat_login.contact_id AND l.state <> 'asking';
	INSERT INTO submeter.wechat_login (site_id, state_hash, contact_id, channel, asked_by, asked_tenant, created_at, expires_at)
	VALUES (begin_wechat_login.site_id, sha256(convert_to(token, 'UTF8')), begin_wechat_login.contact_id, begin_wechat_login.channel, who.login, who.tenant_id, at, at + interval '10 minutes');
	-- WeChat compares the order of the parameters, too.
	RETURN format('%s/connect/oauth2/authorize?appid=%s&redirect_uri=%s&response_type=code&scope=snsapi_base&state=%s#wechat_redirect',
		coalesce(settings ->> 'authorize_endpoint', 'https://open.weixin.qq.com'), submeter.url_encode(settings ->> 'appid'),
		submeter.url_encode(begin_wechat_login.return_url), token);
END
$$;
COMMENT ON FUNCTION submeter.begin_wechat_login(int, bigint, text, text) IS
'Begins the login of a person at the official account of a WeChat channel and returns the address to send the browser to; WeChat sends it on to return_url with code and state, which go into finish_wechat_login(). Good once, for ten minutes, for the caller; a login begun before is over. Tenants begin those of their own people. 22023 for a return_url that is not https or of a host the channel does not name (return_hosts), P0002 unknown person or channel.';

CREATE FUNCTION submeter.finish_wechat_login(site_id int, state text, code text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	who record := submeter.me();
	item submeter.wechat_login;
	settings jsonb;
BEGIN
	PERFORM submeter.authorize('finish_wechat_login', finish_wechat_login.site_id);
	PERFORM submeter.hide_statement();
	IF coalesce(finish_wechat_login.code, '') !~ '^[0-9A-Za-z_-]+$' OR length(finish_wechat_login.code) NOT BETWEEN 8 AND 512 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the code is not one of WeChat', HINT = 'Pass code and state as they stand in the address WeChat sent the browser to.';
	END IF;
	-- Once, in time, and by whoever began it: a link of somebody else's cannot bind their openid to this person.
	UPDATE submeter.wechat_login l SET state = 'asking'
	WHERE l.site_id = finish_wechat_login.site_id AND l.state_hash = sha256(convert_to(coalesce(finish_wechat_login.state, ''), 'UTF8')) AND l.state = 'begun'
		AND l.expires_at > clock_timestamp() AND l.asked_by = who.login AND l.asked_tenant IS NOT DISTINCT FROM who.tenant_id
	RETURNING l.* INTO item;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = 'there is no such login under way',
			DETAIL = 'The state is unknown, was used already, is older than ten minutes, or belongs to another caller.', HINT = 'Begin again with begin_wechat_login().';
	END IF;
	PERFORM submeter.require_my_person(item.site_id, item.contact_id);
	settings := submeter.wechat_settings(item.site_id, item.channel);
	UPDATE submeter.wechat_login l
	SET code = submeter.secret_seal(convert_to(finish_wechat_login.code, 'UTF8'), format('wechat_login:%s:%s', l.site_id, l.login_id))
	WHERE l.site_id = item.site_id AND l.login_id = item.login_id;
	-- WeChat takes a code for five minutes.
	PERFORM submeter.queue_outbound(item.site_id, 'wechat_openid', jsonb_build_object('login_id', item.login_id, 'channel', item.channel),
		submeter.channel_host('wechat', settings, NULL), item.channel || ':login', NULL, clock_timestamp() + interval '5 minutes', item.login_id::text);
	RETURN item.login_id;
END
$$;
COMMENT ON FUNCTION submeter.finish_wechat_login(int, text, text) IS
'Has WeChat asked whose the code is that it sent the browser back with, and returns the login_id for check_wechat_login(). The openid becomes a device (kind wechat) of the person. 22023 for what is no code, P0002 when the state is unknown, used, too old or another caller''s.';

CREATE FUNCTION submeter.check_wechat_login(site_id int, login_id bigint) RETURNS TABLE(state text, detail text, device_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	who record := submeter.me();
BEGIN
	PERFORM submeter.authorize('check_wechat_login', check_wechat_login.site_id);
	RETURN QUERY SELECT l.state, l.detail, l.device_id FROM submeter.wechat_login l
	WHERE l.site_id = check_wechat_login.site_id AND l.login_id = check_wechat_login.login_id
		AND l.asked_by = who.login AND l.asked_tenant IS NOT DISTINCT FROM who.tenant_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('there is no login %s of yours', coalesce(check_wechat_login.login_id::text, 'NULL')),
			HINT = 'Pass what finish_wechat_login() returned.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_wechat_login(int, bigint) IS
'How a login stands, for a page that asks every second: asking, done (with the device) or failed (why: begin again). P0002 for another caller''s.';

CREATE FUNCTION submeter.build_wechat_openid(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW('GET', format('%s/sns/oauth2/access_token?appid=%s&secret=%s&code=%s&grant_type=authorization_code', coalesce(w.settings ->> 'endpoint', k.host),
			submeter.url_encode(w.settings ->> 'appid'), submeter.url_encode(submeter.secret_text(w.site_id, format('channel/%s/app_secret', w.channel))),
			submeter.url_encode(convert_from(submeter.secret_unseal(l.code, format('wechat_login:%s:%s', l.site_id, l.login_id)), 'UTF8'))),
		'{}'::text[], ''::bytea, 15000, jsonb_strip_nulls(jsonb_build_object('ca', w.settings -> 'ca', 'proxy', w.settings -> 'proxy')))::submeter.outbound_request
	FROM submeter.outbound o
	JOIN submeter.wechat_login l ON l.site_id = o.site_id AND l.login_id = (o.ref ->> 'login_id')::bigint AND l.state = 'asking'
	JOIN submeter.notice_channel w ON w.site_id = o.site_id AND w.channel = l.channel AND w.kind = 'wechat'
	JOIN submeter.channel_kind k ON k.kind = w.kind
	WHERE o.site_id = build_wechat_openid.site_id AND o.outbound_id = build_wechat_openid.outbound_id
$$;
COMMENT ON FUNCTION submeter.build_wechat_openid(int, bigint, timestamptz) IS 'Asks WeChat whose a code is. The address holds the AppSecret, as WeChat wants it: it is made when it is sent and stored nowhere.';

CREATE FUNCTION submeter.wechat_openid_fault(outcome text, status int, said jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- 40029: no code; 40163: used already; 42003: too old. A snapshot page gives the number of a person who is nobody.
	SELECT CASE
		WHEN wechat_openid_fault.outcome <> 'answered' THEN 'WeChat could not be asked in time'
		WHEN wechat_openid_fault.said ->> 'is_snapshotuser' = '1' THEN 'the page was open in WeChat''s snapshot mode: the person opens it in full and tries again'
		WHEN wechat_openid_fault.said ->> 'openid' ~ '^[0-9A-Za-z_-]{6,128}$' THEN NULL
		ELSE left(concat_ws(': ', coalesce(wechat_openid_fault.said ->> 'errcode', format('answer %s', wechat_openid_fault.status)),
			CASE wechat_openid_fault.said ->> 'errcode' WHEN '40029' THEN 'the code is not valid' WHEN '40163' THEN 'the code was used already' WHEN '42003' THEN 'the code is too old'
				ELSE wechat_openid_fault.said ->> 'errmsg' END), 200) END
$$;
COMMENT ON FUNCTION submeter.wechat_openid_fault(text, int, jsonb) IS 'Why WeChat did not say whose a code is; NULL when it did.';

CREATE FUNCTION submeter.wechat_openid_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item submeter.wechat_login;
	request record;
	said jsonb := submeter.answer_json(wechat_openid_done.body);
	fault text := submeter.wechat_openid_fault(wechat_openid_done.outcome, wechat_openid_done.status, said);
	found_id bigint;
BEGIN
	SELECT o.attempts, wechat_openid_done.as_of + interval '2 s' * o.attempts AS again, o.expires_at INTO STRICT request
	FROM submeter.outbound o WHERE o.site_id = wechat_openid_done.site_id AND o.outbound_id = wechat_openid_done.outbound_id;
	-- Asked again after a lost answer WeChat says at worst that the code was used.
	IF (wechat_openid_done.outcome IN ('not_sent', 'no_answer') OR wechat_openid_done.status >= 500 OR said ->> 'errcode' = '-1')
		AND request.attempts < 5 AND request.again < request.expires_at
	THEN
		RETURN ROW('queued', request.again, fault)::submeter.outbound_verdict;
	END IF;
	SELECT l.* INTO item FROM submeter.wechat_login l
	JOIN submeter.outbound o ON o.site_id = l.site_id AND (o.ref ->> 'login_id')::bigint = l.login_id
	WHERE o.site_id = wechat_openid_done.site_id AND o.outbound_id = wechat_openid_done.outbound_id AND l.state = 'asking' FOR UPDATE OF l;
	IF fault IS NULL AND item.login_id IS NOT NULL THEN
		found_id := submeter.put_device(item.site_id, item.contact_id, 'wechat', said ->> 'openid',
			(SELECT jsonb_build_object('appid', c.settings ->> 'appid') FROM submeter.notice_channel c WHERE c.site_id = item.site_id AND c.channel = item.channel));
	END IF;
	UPDATE submeter.wechat_login l
	SET state = CASE WHEN fault IS NULL THEN 'done' ELSE 'failed' END, code = NULL, device_id = found_id, detail = fault, finished_at = wechat_openid_done.as_of
	WHERE l.site_id = item.site_id AND l.login_id = item.login_id;
	RETURN ROW(CASE WHEN fault IS NULL THEN 'delivered' ELSE 'failed' END, NULL, fault)::submeter.outbound_verdict;
END
$$;
COMMENT ON FUNCTION submeter.wechat_openid_done(int, bigint, text, int, jsonb, bytea, timestamptz) IS
'Whose a code is: the openid becomes a device of the person whose login it is, with the appid it belongs to. WeChat''s own troubles are tried again while the code lives.';

INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, keeps_answer, description) VALUES
	('wechat_openid', 'build_wechat_openid', 'wechat_openid_done', true, 6, false, 'whose openid a login at WeChat gave');

CREATE FUNCTION submeter.my_openids(site_id int, appid text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(DISTINCT d.token), '{}')
	FROM submeter.me() who
	JOIN submeter.contact c ON c.login IN (who.login, who.role)
	JOIN submeter.device d ON d.site_id = c.site_id AND d.contact_id = c.contact_id AND d.kind = 'wechat' AND d.gone_at IS NULL AND d.keys ->> 'appid' = my_openids.appid
	WHERE c.site_id = my_openids.site_id
$$;
COMMENT ON FUNCTION submeter.my_openids(int, text) IS 'The openids that are bound to the calling person (contact.login) for an application of WeChat.';

CREATE FUNCTION submeter.jsapi_payer(site_id int, appid text, payer jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bound text[];
BEGIN
	IF coalesce(jsapi_payer.payer ->> 'openid', '') <> '' THEN
		RETURN jsapi_payer.payer;
	END IF;
	bound := submeter.my_openids(jsapi_payer.site_id, jsapi_payer.appid);
	IF cardinality(bound) <> 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the payment cannot be made this way',
			DETAIL = format('For jsapi the payer''s openid at appid %s is needed; the caller has %s bound.', jsapi_payer.appid, CASE cardinality(bound) WHEN 0 THEN 'none' ELSE 'several' END),
			HINT = 'Bind it with begin_wechat_login() at a channel with the merchant''s appid, or pass payer {"openid"}.';
	END IF;
	RETURN coalesce(jsapi_payer.payer, '{}') || jsonb_build_object('openid', bound[1]);
END
$$;
COMMENT ON FUNCTION submeter.jsapi_payer(int, text, jsonb) IS
'Who pays inside WeChat: the openid that was passed or else the one bound to the calling person for the merchant''s appid. 22023 when there is none or are several.';
