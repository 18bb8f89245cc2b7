-- Room: poller, leases. Several pollers share the gateways of their sites. Whoever serves a gateway has a lease on it, renewed
-- three times in its time (30 s unless set): a poller that is killed is replaced after that, and one that cannot renew stops in time.
-- Gateways are shared evenly and stay where they are; a poller with too many lets some go, and only what it has let go of is
-- taken by another. A device that dials in belongs to the poller it has its newest connection to.

CREATE FUNCTION submeter.lease_time() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting('submeter.poller_lease', true), ''), '30 s')::interval $$;
COMMENT ON FUNCTION submeter.lease_time() IS
'How long a lease holds after it was renewed, and a poller counts as alive after it was heard of: the setting submeter.poller_lease.';

CREATE FUNCTION submeter.may_serve(site_id int, gateway_id bigint, poller text, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- A gateway nobody holds may be served by those who take no part in leases, such as a program that reads once.
	SELECT coalesce(
		(SELECT l.poller = may_serve.poller FROM submeter.gateway_lease l
		WHERE l.site_id = may_serve.site_id AND l.gateway_id = may_serve.gateway_id AND l.lease_until > may_serve.at),
		NOT EXISTS (SELECT FROM submeter.poller p WHERE p.site_id = may_serve.site_id AND p.poller = may_serve.poller))
$$;
COMMENT ON FUNCTION submeter.may_serve(int, bigint, text, timestamptz) IS
'Whether commands and reads of a gateway are for this poller: it holds the lease, or nobody does and it is no poller on record.';

CREATE FUNCTION submeter.enter_poller(sites int[], poller text, instance text, version text, starting boolean, at timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT enter_poller.starting AND EXISTS (
		SELECT FROM submeter.poller p
		WHERE p.site_id = ANY (enter_poller.sites) AND p.poller = enter_poller.poller AND p.instance <> enter_poller.instance)
	THEN
		RETURN false;
	END IF;
	DELETE FROM submeter.poller p
	WHERE p.poller = enter_poller.poller AND NOT p.site_id = ANY (enter_poller.sites)
		OR p.site_id = ANY (enter_poller.sites) AND p.seen_at < enter_poller.at - interval '1 day';
	INSERT INTO submeter.poller AS p (site_id, poller, instance, version, since, seen_at)
	SELECT s.site_id, enter_poller.poller, enter_poller.instance, enter_poller.version, enter_poller.at, enter_poller.at
	FROM unnest(enter_poller.sites) s(site_id)
	ORDER BY s.site_id
	ON CONFLICT ON CONSTRAINT poller_pkey DO UPDATE
	SET seen_at = EXCLUDED.seen_at, version = EXCLUDED.version, instance = EXCLUDED.instance,
		since = CASE WHEN p.instance = EXCLUDED.instance THEN p.since ELSE EXCLUDED.since END;
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.enter_poller(int[], text, text, text, boolean, timestamptz) IS
'Notes that a poller is alive; false when a newer run has its name.';

CREATE FUNCTION submeter.share_gateways(sites int[], poller text, at timestamptz) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	mine int;
	changed int := 0;
	item record;
	least_other jsonb;
BEGIN
	SELECT count(*) INTO mine
	FROM submeter.gateway_lease l JOIN submeter.gateway g USING (site_id, gateway_id)
	WHERE l.poller = share_gateways.poller AND l.lease_until > share_gateways.at AND NOT l.leaving AND NOT g.dial_in;
	-- Per site, how many gateways the least busy of the other live pollers has.
	SELECT coalesce(jsonb_object_agg(o.site_id, o.least), '{}') INTO least_other
	FROM (
		SELECT p.site_id, min((
			SELECT count(*) FROM submeter.gateway_lease l JOIN submeter.gateway g USING (site_id, gateway_id)
			WHERE l.poller = p.poller AND l.lease_until > share_gateways.at AND NOT l.leaving AND NOT g.dial_in)) AS least
		FROM submeter.poller p
		WHERE p.site_id = ANY (share_gateways.sites) AND p.poller <> share_gateways.poller AND p.seen_at > share_gateways.at - submeter.lease_time()
		GROUP BY p.site_id) o;
	FOR item IN
		SELECT g.site_id, g.gateway_id, (least_other ->> g.site_id::text)::int AS least, g.poller IS NOT NULL AS bound
		FROM submeter.gateway g
		LEFT JOIN submeter.gateway_lease l ON l.site_id = g.site_id AND l.gateway_id = g.gateway_id AND l.lease_until > share_gateways.at
		WHERE g.site_id = ANY (share_gateways.sites) AND g.enabled AND NOT g.dial_in AND l.poller IS NULL
			AND coalesce(g.poller, share_gateways.poller) = share_gateways.poller
		ORDER BY g.site_id, g.gateway_id
	LOOP
		-- Who has fewer comes with its next renewal and takes it.
		CONTINUE WHEN item.least < mine AND NOT item.bound;
		INSERT INTO submeter.gateway_lease (site_id, gateway_id, poller, lease_until, since)
		VALUES (item.site_id, item.gateway_id, share_gateways.poller, share_gateways.at + submeter.lease_time(), share_gateways.at)
		ON CONFLICT ON CONSTRAINT gateway_lease_pkey DO UPDATE
		SET poller = EXCLUDED.poller, lease_until = EXCLUDED.lease_until, since = EXCLUDED.since, leaving = false, taken_from = NULL;
		mine := mine + 1;
		changed := changed + 1;
	END LOOP;
	FOR item IN
		SELECT l.site_id, l.gateway_id, g.poller IS NOT NULL AS foreign
		FROM submeter.gateway_lease l JOIN submeter.gateway g USING (site_id, gateway_id)
		WHERE l.poller = share_gateways.poller AND l.lease_until > share_gateways.at AND NOT l.leaving AND NOT g.dial_in
			AND g.poller IS DISTINCT FROM share_gateways.poller
		ORDER BY l.since DESC, l.site_id, l.gateway_id DESC
	LOOP
		CONTINUE WHEN NOT item.foreign AND coalesce((least_other ->> item.site_id::text)::int, mine) + 1 >= mine;
		UPDATE submeter.gateway_lease l SET leaving = true
		WHERE l.site_id = item.site_id AND l.gateway_id = item.gateway_id;
		IF NOT item.foreign THEN
			least_other := jsonb_set(least_other, ARRAY[item.site_id::text], to_jsonb((least_other ->> item.site_id::text)::int + 1));
		END IF;
		mine := mine - 1;
		changed := changed + 1;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION submeter.share_gateways(int[], text, timestamptz) IS
'Takes gateways nobody holds, as long as no other live poller has fewer, and marks those as leaving that are more than a fair share or belong to another poller by gateway.poller. Returns how many changed. The caller has locked gateway_lease.';

CREATE FUNCTION submeter.renew_leases(poller text, instance text, version text DEFAULT NULL, starting boolean DEFAULT false)
RETURNS TABLE(superseded boolean, alone boolean, lease_ms bigint, held text, lost_site_ids int[], lost_gateway_ids bigint[])
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
	lost record;
BEGIN
	PERFORM submeter.require_text('poller', renew_leases.poller);
	PERFORM submeter.require_text('instance', renew_leases.instance);
	-- One at a time: shares are counted. Readers are not held up.
	LOCK TABLE submeter.gateway_lease IN SHARE ROW EXCLUSIVE MODE;
	at := clock_timestamp();
	IF NOT submeter.enter_poller(sites, renew_leases.poller, renew_leases.instance, renew_leases.version, coalesce(renew_leases.starting, false), at) THEN
		RETURN QUERY SELECT true, false, 0::bigint, ''::text, '{}'::int[], '{}'::bigint[];
		RETURN;
	END IF;
	DELETE FROM submeter.gateway_lease l USING submeter.gateway g
	WHERE g.site_id = l.site_id AND g.gateway_id = l.gateway_id AND l.poller = renew_leases.poller
		AND (NOT g.enabled OR NOT l.site_id = ANY (sites));
	UPDATE submeter.gateway_lease l SET lease_until = at + submeter.lease_time()
	WHERE l.poller = renew_leases.poller AND NOT l.leaving;
	PERFORM submeter.share_gateways(sites, renew_leases.poller, at);
	WITH told AS (
		UPDATE submeter.gateway_lease l SET taken_from = NULL WHERE l.taken_from = renew_leases.poller
		RETURNING l.site_id, l.gateway_id)
	SELECT coalesce(array_agg(t.site_id ORDER BY t.site_id, t.gateway_id), '{}') AS sites,
		coalesce(array_agg(t.gateway_id ORDER BY t.site_id, t.gateway_id), '{}') AS gateways INTO lost
	FROM told t;
	RETURN QUERY
	SELECT false,
		NOT EXISTS (
			SELECT FROM submeter.poller p
			WHERE p.site_id = ANY (sites) AND p.poller <> renew_leases.poller AND p.seen_at > at - submeter.lease_time()),
		(extract(epoch FROM submeter.lease_time()) * 1000)::bigint,
		(SELECT md5(coalesce(string_agg(concat(l.site_id, '/', l.gateway_id), ' ' ORDER BY l.site_id, l.gateway_id), ''))
		FROM submeter.gateway_lease l JOIN submeter.gateway g USING (site_id, gateway_id)
		WHERE l.poller = renew_leases.poller AND NOT l.leaving AND NOT g.dial_in),
		lost.sites, lost.gateways;
END
$$;
COMMENT ON FUNCTION submeter.renew_leases(text, text, text, boolean) IS
'A poller says every ten seconds that it is alive, and learns: whether a newer run has its name (superseded: it must stop), whether it is alone, for how long its leases hold from when it asked, a mark that changes with the gateways it is to connect to, and devices that dialled in elsewhere. starting: its first call, which takes the name over.';

CREATE FUNCTION submeter.claim_gateways(poller text, site_ids int[], gateway_ids bigint[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz;
	claimed int;
	moved boolean;
BEGIN
	PERFORM submeter.require_text('poller', claim_gateways.poller);
	LOCK TABLE submeter.gateway_lease IN SHARE ROW EXCLUSIVE MODE;
	at := clock_timestamp();
	WITH wanted AS (
		SELECT DISTINCT g.site_id, g.gateway_id
		FROM unnest(claim_gateways.site_ids, claim_gateways.gateway_ids) w(site_id, gateway_id)
		JOIN submeter.gateway g ON g.site_id = w.site_id AND g.gateway_id = w.gateway_id AND g.dial_in AND g.enabled
		WHERE w.site_id = ANY (sites)
	), taken AS (
		INSERT INTO submeter.gateway_lease AS l (site_id, gateway_id, poller, lease_until, since)
		SELECT w.site_id, w.gateway_id, claim_gateways.poller, at + submeter.lease_time(), at FROM wanted w ORDER BY 1, 2
		ON CONFLICT ON CONSTRAINT gateway_lease_pkey DO UPDATE
		SET poller = EXCLUDED.poller, lease_until = EXCLUDED.lease_until, leaving = false,
			since = CASE WHEN l.poller = EXCLUDED.poller THEN l.since ELSE EXCLUDED.since END,
			taken_from = CASE WHEN l.poller = EXCLUDED.poller THEN NULL ELSE l.poller END
		RETURNING l.taken_from IS NOT NULL AS moved)
	SELECT count(*), coalesce(bool_or(t.moved), false) INTO claimed, moved FROM taken t;
	IF moved THEN
		PERFORM pg_notify('submeter_poller', 'lease');
	END IF;
	RETURN claimed;
END
$$;
COMMENT ON FUNCTION submeter.claim_gateways(text, int[], bigint[]) IS
'Devices have dialled in at this poller: it serves them from now on, whoever did before; that one is told. Returns how many of them are enabled gateways of its sites that dial in.';

CREATE FUNCTION submeter.release_leases(poller text, instance text, stopping boolean) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	released int;
BEGIN
	PERFORM submeter.require_text('poller', release_leases.poller);
	LOCK TABLE submeter.gateway_lease IN SHARE ROW EXCLUSIVE MODE;
	IF EXISTS (
		SELECT FROM submeter.poller p
		WHERE p.site_id = ANY (sites) AND p.poller = release_leases.poller AND p.instance <> release_leases.instance)
	THEN
		RETURN 0;
	END IF;
	DELETE FROM submeter.gateway_lease l
	WHERE l.poller = release_leases.poller AND l.site_id = ANY (sites) AND (l.leaving OR release_leases.stopping);
	GET DIAGNOSTICS released = ROW_COUNT;
	IF release_leases.stopping THEN
		DELETE FROM submeter.poller p WHERE p.poller = release_leases.poller AND p.site_id = ANY (sites);
	END IF;
	IF released > 0 THEN
		PERFORM pg_notify('submeter_poller', 'lease');
	END IF;
	RETURN released;
END
$$;
COMMENT ON FUNCTION submeter.release_leases(text, text, boolean) IS
'A poller has let go of the gateways that were leaving, or, when it stops, of all; others take them at once. Returns how many. Nothing from a run whose name a newer one has.';

CREATE FUNCTION submeter.report_strangers(site_id int, strangers jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.authorize('poller', report_strangers.site_id);
	IF coalesce(jsonb_typeof(report_strangers.strangers), 'array') <> 'array' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'strangers must be a JSON array of objects',
			HINT = 'For example [{"address":"0.0.0.0:5020","peer":"192.0.2.7","said":"4d4f44","times":1}].';
	END IF;
	INSERT INTO submeter.gateway_stranger AS s (site_id, address, peer, first_bytes, first_text, times, first_seen_at, seen_at)
	SELECT report_strangers.site_id, r.address, r.peer, CASE WHEN r.said = '' THEN '' ELSE '\x' || r.said END,
		regexp_replace(encode(decode(r.said, 'hex'), 'escape'), '\\([0-7]{3}|\\)|[[:cntrl:]]', '.', 'g'), greatest(sum(r.times), 1), at, at
	FROM jsonb_to_recordset(coalesce(report_strangers.strangers, '[]')) AS r(address text, peer text, said text, times bigint)
	WHERE r.address IS NOT NULL AND r.peer IS NOT NULL AND r.said ~ '^([0-9a-f]{2})*$' AND length(r.said) <= 512
	GROUP BY r.address, r.peer, r.said
	ON CONFLICT ON CONSTRAINT gateway_stranger_pkey DO UPDATE
	SET times = s.times + EXCLUDED.times, seen_at = EXCLUDED.seen_at;
	DELETE FROM submeter.gateway_stranger s
	WHERE s.site_id = report_strangers.site_id AND (s.address, s.peer, s.first_bytes) NOT IN (
		SELECT k.address, k.peer, k.first_bytes FROM submeter.gateway_stranger k
		WHERE k.site_id = report_strangers.site_id
		ORDER BY k.seen_at DESC, k.address, k.peer, k.first_bytes
		LIMIT 200);
END
$$;
COMMENT ON FUNCTION submeter.report_strangers(int, jsonb) IS
'Devices that dialled in where this site listens and are no gateway: address, peer, said (hex digits), times since the last report. The latest 200 are kept. 22023 when malformed.';

GRANT EXECUTE ON FUNCTION submeter.renew_leases(text, text, text, boolean), submeter.claim_gateways(text, int[], bigint[]),
	submeter.release_leases(text, text, boolean), submeter.report_strangers(int, jsonb) TO submeter_poller;
