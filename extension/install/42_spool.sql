-- Room: history. What the pollers keep on their disks, and what is wrong with it.

CREATE FUNCTION submeter.report_spool(poller text, spool jsonb) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
	noted int;
BEGIN
	PERFORM submeter.require_text('poller', report_spool.poller);
	IF jsonb_typeof(report_spool.spool) IS DISTINCT FROM 'object' OR jsonb_typeof(coalesce(report_spool.spool -> 'events', '[]')) <> 'array'
		OR NOT report_spool.spool ?& '{waiting,rejected,bytes,most_bytes,failing}'
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the report of a spool is malformed',
			HINT = 'For example {"waiting":3,"rejected":0,"bytes":40960,"most_bytes":1073741824,"failing":false,"events":[]}.';
	END IF;
	INSERT INTO submeter.poller_spool AS p (site_id, poller, waiting, rejected, bytes, most_bytes, failing, since, reported_at)
	SELECT s.site_id, report_spool.poller, r.waiting, r.rejected, r.bytes, r.most_bytes, r.failing, CASE WHEN r.failing OR r.bytes >= r.most_bytes / 5 * 4 THEN at END, at
	FROM jsonb_to_record(report_spool.spool) AS r(waiting bigint, rejected bigint, bytes bigint, most_bytes bigint, failing boolean)
	CROSS JOIN unnest(sites) s(site_id)
	ON CONFLICT ON CONSTRAINT poller_spool_pkey DO UPDATE
	SET waiting = EXCLUDED.waiting, rejected = EXCLUDED.rejected, bytes = EXCLUDED.bytes, most_bytes = EXCLUDED.most_bytes, failing = EXCLUDED.failing,
		since = CASE WHEN EXCLUDED.since IS NOT NULL THEN coalesce(p.since, EXCLUDED.since) END, reported_at = EXCLUDED.reported_at;
	-- An event of no site in particular concerns all of them.
	INSERT INTO submeter.spool_event (site_id, poller, event_id, kind, count, from_ts, to_ts, detail, at)
	SELECT s.site_id, report_spool.poller, e.id, e.kind, coalesce(e.count, 0), to_timestamp(e.from_ms / 1000.0), to_timestamp(e.to_ms / 1000.0), e.detail,
		-- A poller whose clock was wrong may say anything.
		CASE WHEN to_timestamp(e.at_ms / 1000.0) BETWEEN at - interval '1 year' AND at THEN to_timestamp(e.at_ms / 1000.0) ELSE at END
	FROM jsonb_to_recordset(coalesce(report_spool.spool -> 'events', '[]')) AS e(id bigint, kind text, site_id int, count bigint, from_ms bigint, to_ms bigint, at_ms bigint, detail text)
	JOIN unnest(sites) s(site_id) ON e.site_id IS NULL OR e.site_id = s.site_id
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS noted = ROW_COUNT;
	RETURN noted;
END
$$;
COMMENT ON FUNCTION submeter.report_spool(text, jsonb) IS
'How the spool of a poller fares, and what went wrong with it: kept in poller_spool and spool_event of the sites it works at, each event once. Returns how many events were new. 22023 when malformed.';

CREATE FUNCTION submeter.spool_conditions(site_id int, as_of timestamptz)
RETURNS TABLE(rule text, meter_id bigint, gateway_id bigint, since timestamptz, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'spool_full', NULL::bigint, NULL::bigint, min(p.since), string_agg(format(CASE WHEN p.failing THEN 'poller %s cannot write to its spool; %s readings wait'
			ELSE 'the spool of poller %s is nearly full; %s readings wait' END, p.poller, p.waiting), '; ' ORDER BY p.poller)
	FROM submeter.poller_spool p
	WHERE p.site_id = spool_conditions.site_id AND p.since IS NOT NULL
	HAVING count(*) > 0
	UNION ALL
	-- Nothing puts these right: they last until somebody has seen them.
	SELECT x.rule, NULL, NULL, min(e.at), CASE x.rule WHEN 'spool_dropped' THEN format('%s readings were given up by a full spool, from %s to %s', sum(e.count), min(e.from_ts), max(e.to_ts))
		WHEN 'clock_jumped' THEN string_agg(format('poller %s: %s', e.poller, e.detail), '; ' ORDER BY e.at)
		ELSE string_agg(format('poller %s: %s', e.poller, e.detail), '; ' ORDER BY e.at) END
	FROM submeter.spool_event e
	CROSS JOIN LATERAL (SELECT CASE e.kind WHEN 'dropped' THEN 'spool_dropped' WHEN 'clock' THEN 'clock_jumped' ELSE 'spool_damaged' END AS rule) x
	WHERE e.site_id = spool_conditions.site_id AND e.at > spool_conditions.as_of - interval '1 year'
		AND e.at > coalesce((SELECT max(a.acknowledged_at) FROM submeter.alarm a WHERE a.site_id = spool_conditions.site_id AND a.rule = x.rule), '-infinity')
	GROUP BY x.rule
$$;
COMMENT ON FUNCTION submeter.spool_conditions(int, timestamptz) IS
'What pollers said of their spools: full or failing now; readings given up, a damaged file or a clock that jumped, until somebody acknowledged it.';

GRANT EXECUTE ON FUNCTION submeter.claim_history(text, int), submeter.report_history(int, bigint, text, text, int, text), submeter.report_spool(text, jsonb) TO submeter_poller;
