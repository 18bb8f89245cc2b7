-- Room: history. Which readings are missing, what the meters themselves keep of them, and how many came.
-- The duty looks at each reading once, when it is new: what it finds is kept in reading_day and reading_gap. Only when something
-- behind that changed (a late reading, a backfilled one) a meter is counted again from there.

CREATE FUNCTION submeter.gap_limit(gap_after interval, poll_interval interval) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- An hour at most: a stretch that holds a full hour can be filled from hourly registers.
	SELECT greatest(least(coalesce(gap_limit.gap_after, interval '2 hours'), interval '1 hour'), 3 * gap_limit.poll_interval)
$$;
COMMENT ON FUNCTION submeter.gap_limit(interval, interval) IS
'From how far apart two readings have a gap between them: an hour, or what the setup says if that is less, but never less than three poll intervals.';

CREATE FUNCTION submeter.watch_readings(site_id int, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = watch_readings.site_id);
	-- What lies further back is neither filled nor counted again.
	horizon timestamptz := watch_readings.as_of - interval '62 days';
BEGIN
	-- Meters whose first reading came.
	INSERT INTO submeter.reading_watch (site_id, meter_id, base_ts, counted_to, dirty_seq)
	SELECT s.site_id, s.meter_id, f.ts, f.ts, coalesce(d.seq, 0)
	FROM submeter.meter_state s
	JOIN submeter.meter m ON m.site_id = s.site_id AND m.meter_id = s.meter_id AND m.gateway_id IS NOT NULL
	LEFT JOIN submeter.meter_dirty d ON d.site_id = s.site_id AND d.meter_id = s.meter_id
	CROSS JOIN LATERAL (
		SELECT r.ts FROM submeter.reading r
		WHERE r.site_id = s.site_id AND r.meter_id = s.meter_id AND r.ts >= horizon AND r.ts <= watch_readings.as_of AND r.source <> 'backfill'
		ORDER BY r.ts LIMIT 1) f
	WHERE s.site_id = watch_readings.site_id AND s.ts IS NOT NULL
		AND NOT EXISTS (SELECT FROM submeter.reading_watch w WHERE w.site_id = s.site_id AND w.meter_id = s.meter_id);
	-- Those behind whose last reading something changed begin again on the day of the change.
	WITH changed AS (
		SELECT w.meter_id, d.seq, greatest(least(d.from_ts,
			-- The mark starts afresh when settle has seen it; where it may have, the gaps that wait are looked at again.
			CASE WHEN d.seq > w.dirty_seq + 1 THEN (SELECT min(g.from_ts) FROM submeter.reading_gap g
				WHERE g.site_id = w.site_id AND g.meter_id = w.meter_id AND g.state <> 'filled' AND g.to_ts > horizon) END), horizon) AS from_ts
		FROM submeter.reading_watch w
		JOIN submeter.meter_dirty d ON d.site_id = w.site_id AND d.meter_id = w.meter_id
		WHERE w.site_id = watch_readings.site_id AND d.seq <> w.dirty_seq
	), back AS (
		SELECT c.meter_id, c.seq, date_trunc('day', c.from_ts AT TIME ZONE zone) AS day
		FROM changed c
		JOIN submeter.reading_watch w ON w.site_id = watch_readings.site_id AND w.meter_id = c.meter_id AND c.from_ts < w.counted_to
	), base AS (
		SELECT b.meter_id, b.day, coalesce(
			(SELECT r.ts FROM submeter.reading r
			WHERE r.site_id = watch_readings.site_id AND r.meter_id = b.meter_id AND r.ts <= b.day AT TIME ZONE zone AND r.source <> 'backfill'
			ORDER BY r.ts DESC LIMIT 1),
			(SELECT r.ts FROM submeter.reading r
			WHERE r.site_id = watch_readings.site_id AND r.meter_id = b.meter_id AND r.ts > b.day AT TIME ZONE zone AND r.source <> 'backfill'
			ORDER BY r.ts LIMIT 1)) AS ts
		FROM back b
	), gone AS (
		DELETE FROM submeter.reading_day x USING base b
		WHERE x.site_id = watch_readings.site_id AND x.meter_id = b.meter_id AND x.day >= b.day::date
	)
	UPDATE submeter.reading_watch w
	SET dirty_seq = c.seq, base_ts = coalesce(b.ts, w.base_ts), counted_to = coalesce(greatest(b.ts, b.day AT TIME ZONE zone), w.counted_to)
	FROM changed c
	LEFT JOIN base b ON b.meter_id = c.meter_id
	WHERE w.site_id = watch_readings.site_id AND w.meter_id = c.meter_id;
END
$$;
COMMENT ON FUNCTION submeter.watch_readings(int, timestamptz) IS
'Begins to count the readings of new meters, and takes back what was counted after a change.';

CREATE FUNCTION submeter.readings_due(site_id int, as_of timestamptz)
RETURNS TABLE(meter_id bigint, base_ts timestamptz, counted_to timestamptz, poll_ms bigint, gap_limit interval, close_enough interval)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.meter_id, w.base_ts, w.counted_to, (extract(epoch FROM g.poll_interval) * 1000)::bigint AS poll_ms,
		submeter.gap_limit(e.gap_after, g.poll_interval) AS gap_limit, greatest(coalesce(e.gap_after, interval '2 hours'), 2 * g.poll_interval) AS close_enough
	FROM submeter.reading_watch w
	JOIN submeter.meter_state s ON s.site_id = w.site_id AND s.meter_id = w.meter_id AND s.ts > w.counted_to
	JOIN submeter.meter m ON m.site_id = w.site_id AND m.meter_id = w.meter_id
	JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	LEFT JOIN LATERAL (
		SELECT e.gap_after FROM submeter.meter_setup e
		WHERE e.site_id = w.site_id AND e.meter_id = w.meter_id AND e.valid_from <= w.counted_to
		ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1) e ON true
	WHERE w.site_id = readings_due.site_id AND w.counted_to < readings_due.as_of
$$;
COMMENT ON FUNCTION submeter.readings_due(int, timestamptz) IS
'Meters with readings that are not counted yet: from where on to look, up to where it was done, and how far apart readings should be, make a gap, or still fill one.';

CREATE FUNCTION submeter.count_readings(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Compiling the statement would take seconds where running it takes milliseconds.
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = count_readings.site_id);
	found bigint;
BEGIN
	-- One at a time: each reading is counted once.
	PERFORM FROM submeter.duty_state d WHERE d.site_id = count_readings.site_id AND d.duty = 'history' FOR NO KEY UPDATE;
	PERFORM submeter.watch_readings(count_readings.site_id, count_readings.as_of);
	WITH due AS MATERIALIZED (
		SELECT d.* FROM submeter.readings_due(count_readings.site_id, count_readings.as_of) d
	), line AS MATERIALIZED (
		-- Each reading with the one before it, and the two of the poller around both: a is the one before, b this or the next.
		SELECT d.meter_id, r.ts, r.source <> 'backfill' AS live, lag(r.ts) OVER meter AS before,
			max(r.ts) FILTER (WHERE r.source <> 'backfill') OVER (meter ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS a,
			min(r.ts) FILTER (WHERE r.source <> 'backfill') OVER (PARTITION BY d.meter_id ORDER BY r.ts DESC) AS b,
			d.counted_to, d.poll_ms, d.gap_limit, d.close_enough
		FROM due d
		CROSS JOIN LATERAL (
			SELECT r.ts, r.source FROM submeter.reading r
			WHERE r.site_id = count_readings.site_id AND r.meter_id = d.meter_id AND r.ts >= d.base_ts AND r.ts <= count_readings.as_of) r
		WINDOW meter AS (PARTITION BY d.meter_id ORDER BY r.ts)
	), pair AS (
		-- Between a and b there are n slots, the last of which came.
		SELECT l.*, (extract(epoch FROM l.b - l.a) * 1000)::bigint AS apart_ms, greatest(l.before, l.counted_to) AS count_from,
			(greatest(l.before, l.counted_to) AT TIME ZONE zone)::date AS first_day, ((l.ts - interval '1 microsecond') AT TIME ZONE zone)::date AS last_day
		FROM line l
		WHERE l.a IS NOT NULL AND l.b IS NOT NULL AND l.ts > l.counted_to
	), piece AS (
		SELECT p.meter_id, p.first_day + i AS day, p.a, p.apart_ms, round(p.apart_ms::numeric / p.poll_ms)::bigint AS n,
			greatest(p.count_from, (p.first_day + i)::timestamp AT TIME ZONE zone) AS lo, least(p.ts, (p.first_day + i + 1)::timestamp AT TIME ZONE zone) AS hi,
			p.live AND p.first_day + i = p.last_day AS came, (p.before <> p.a OR p.ts <> p.b) AND p.ts - p.before <= p.close_enough AS near
		FROM pair p
		CROSS JOIN LATERAL generate_series(0, p.last_day - p.first_day) i
		WHERE p.apart_ms > 0 AND p.apart_ms * 2 >= p.poll_ms
	), part AS (
		SELECT x.meter_id, x.day, x.came, x.near,
			(extract(epoch FROM x.hi - x.a) * 1000)::bigint * x.n / x.apart_ms - (extract(epoch FROM x.lo - x.a) * 1000)::bigint * x.n / x.apart_ms AS slots
		FROM piece x
	), counted AS (
		INSERT INTO submeter.reading_day AS t (site_id, meter_id, day, expected, got, restored)
		SELECT count_readings.site_id, x.meter_id, x.day, sum(x.slots), count(*) FILTER (WHERE x.came),
			coalesce(sum(x.slots - x.came::int) FILTER (WHERE x.near), 0)
		FROM part x
		GROUP BY x.meter_id, x.day
		HAVING sum(x.slots) > 0
		ON CONFLICT ON CONSTRAINT reading_day_pkey DO UPDATE
		SET expected = t.expected + EXCLUDED.expected, got = t.got + EXCLUDED.got, restored = t.restored + EXCLUDED.restored
	), gap AS MATERIALIZED (
		SELECT l.meter_id, l.a AS from_ts, l.b AS to_ts, count(*) FILTER (WHERE NOT l.live) AS readings, max(l.ts - l.before) AS longest, max(l.gap_limit) AS gap_limit
		FROM line l
		WHERE l.b - l.a > l.gap_limit
		GROUP BY l.meter_id, l.a, l.b
	), noted AS (
		INSERT INTO submeter.reading_gap AS t (site_id, meter_id, from_ts, to_ts, state, readings, longest, noted_at)
		SELECT count_readings.site_id, x.meter_id, x.from_ts, x.to_ts, CASE WHEN x.longest <= x.gap_limit THEN 'filled' ELSE 'open' END, x.readings, x.longest, count_readings.as_of
		FROM gap x
		ON CONFLICT ON CONSTRAINT reading_gap_pkey DO UPDATE
		SET to_ts = EXCLUDED.to_ts, readings = EXCLUDED.readings, longest = EXCLUDED.longest,
			state = CASE WHEN EXCLUDED.state = 'filled' THEN 'filled' WHEN t.state = 'unfillable' AND EXCLUDED.readings > t.readings THEN 'partly'
				WHEN t.state = 'filled' THEN 'open' ELSE t.state END,
			detail = CASE WHEN EXCLUDED.state <> 'filled' THEN t.detail END
		WHERE (t.to_ts, t.readings, t.longest) IS DISTINCT FROM (EXCLUDED.to_ts, EXCLUDED.readings, EXCLUDED.longest)
		RETURNING 1
	), closed AS (
		-- A gap that is none any more, because readings that were late lie in it.
		DELETE FROM submeter.reading_gap t USING due d
		WHERE t.site_id = count_readings.site_id AND t.meter_id = d.meter_id AND t.from_ts >= d.base_ts
			AND NOT EXISTS (SELECT FROM gap x WHERE x.meter_id = t.meter_id AND x.from_ts = t.from_ts)
			AND EXISTS (SELECT FROM line l WHERE l.meter_id = t.meter_id AND l.live AND l.ts > t.from_ts)
	), moved AS (
		UPDATE submeter.reading_watch w SET base_ts = x.ts, counted_to = greatest(x.ts, w.counted_to)
		FROM (SELECT l.meter_id, max(l.ts) AS ts FROM line l WHERE l.live GROUP BY l.meter_id) x
		WHERE w.site_id = count_readings.site_id AND w.meter_id = x.meter_id AND x.ts > w.base_ts
	)
	SELECT count(*) INTO found FROM noted;
	RETURN found;
END
$$;
COMMENT ON FUNCTION submeter.count_readings(int, timestamptz) IS
'Looks through the readings that are new: how many came on each day (reading_day) and where some are missing (reading_gap); returns how many gaps it noted.';

CREATE FUNCTION submeter.meter_memory(model text, site_id int, gateway_id bigint, measure_point int)
RETURNS TABLE(kind text, di text, time_di text, byte_offset int, bytes int, scale numeric, depth int)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT h.kind, h.di, h.time_di, h.byte_offset, h.bytes::int, h.scale, h.depth FROM submeter.meter_history h WHERE h.model = meter_memory.model
	UNION ALL
	-- Q/GDW 1376.1, AFN 0DH F161: total in five BCD bytes, four decimals of a kWh; concentrators keep a month of days.
	SELECT 'concentrator', lpad(to_hex(meter_memory.measure_point), 4, '0'), NULL, 0, 5, 0.1, 31
	FROM submeter.gateway g
	WHERE g.site_id = meter_memory.site_id AND g.gateway_id = meter_memory.gateway_id AND g.transport = 'q376-transparent' AND meter_memory.measure_point IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.meter_memory(text, int, bigint, int) IS
'What is kept of the past of a meter: by itself, as its model does, and by the concentrator it hangs on, whose "di" is the number of the measuring point in hex.';

CREATE FUNCTION submeter.history_stamps(site_id int, kind text, settlement_day text, from_ts timestamptz, to_ts timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH local AS (
		SELECT z.time_zone AS zone, history_stamps.from_ts AT TIME ZONE z.time_zone AS from_at, history_stamps.to_ts AT TIME ZONE z.time_zone AS to_at
		FROM submeter.site z WHERE z.site_id = history_stamps.site_id
	), stamp AS (
		SELECT l.zone, s.at
		FROM local l
		CROSS JOIN LATERAL generate_series(date_trunc(CASE history_stamps.kind WHEN 'hourly' THEN 'hour' WHEN 'settlement' THEN 'month' ELSE 'day' END, l.from_at), l.to_at,
			CASE history_stamps.kind WHEN 'hourly' THEN interval '1 hour' WHEN 'settlement' THEN interval '1 month' ELSE interval '1 day' END) g(at)
		CROSS JOIN LATERAL (SELECT CASE history_stamps.kind WHEN 'settlement'
			THEN g.at + (left(history_stamps.settlement_day, 2)::int - 1) * interval '1 day' + right(history_stamps.settlement_day, 2)::int * interval '1 hour' ELSE g.at END AS at) s
	)
	-- An hour that comes twice, or not at all, cannot be told apart by a meter's clock.
	SELECT s.at AT TIME ZONE s.zone
	FROM stamp s
	WHERE s.at AT TIME ZONE s.zone > history_stamps.from_ts AND s.at AT TIME ZONE s.zone < history_stamps.to_ts
		AND (s.at AT TIME ZONE s.zone) AT TIME ZONE s.zone = s.at
		AND ((s.at AT TIME ZONE s.zone) - interval '1 hour') AT TIME ZONE s.zone = s.at - interval '1 hour'
	ORDER BY 1
$$;
COMMENT ON FUNCTION submeter.history_stamps(int, text, text, timestamptz, timestamptz) IS
'Instants inside a stretch for which a meter keeps a register: full local hours, midnights, or settlement days (DDhh).';

CREATE FUNCTION submeter.history_reach(kind text, depth int) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- The last settlement day may be nearly a month ago, the one before nearly two: which entries there are is looked at one by one.
	SELECT CASE history_reach.kind WHEN 'settlement' THEN history_reach.depth * interval '31 days'
		WHEN 'hourly' THEN (history_reach.depth - 1) * interval '1 hour' ELSE (history_reach.depth - 1) * interval '1 day' END
$$;
COMMENT ON FUNCTION submeter.history_reach(text, int) IS 'How far back a memory of so many entries can reach.';

CREATE FUNCTION submeter.ask_history(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	asked bigint;
BEGIN
	-- The finest memory as far as it reaches, coarser ones for what is older.
	WITH memory AS (
		SELECT g.meter_id, g.from_ts AS gap_from, g.to_ts, h.kind, greatest(g.from_ts, ask_history.as_of - submeter.history_reach(h.kind, h.depth)) AS from_ts,
			CASE h.kind WHEN 'hourly' THEN 1 WHEN 'daily' THEN 2 WHEN 'concentrator' THEN 3 ELSE 4 END AS coarse
		FROM submeter.reading_gap g
		JOIN submeter.meter m ON m.site_id = g.site_id AND m.meter_id = g.meter_id AND m.gateway_id IS NOT NULL AND m.retired_at IS NULL
		CROSS JOIN LATERAL submeter.meter_memory(m.model, m.site_id, m.gateway_id, m.measure_point) h
		WHERE g.site_id = ask_history.site_id AND g.state = 'open'
	), wanted AS (
		SELECT y.meter_id, y.gap_from, y.kind, y.from_ts,
			least(y.to_ts, min(y.from_ts) OVER (PARTITION BY y.meter_id, y.gap_from ORDER BY y.coarse ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) + interval '1 microsecond') AS to_ts
		FROM memory y
	), task AS (
		INSERT INTO submeter.history_task (site_id, meter_id, gap_from, kind, from_ts, to_ts, queued_at)
		SELECT ask_history.site_id, w.meter_id, w.gap_from, w.kind, w.from_ts, w.to_ts, ask_history.as_of
		FROM wanted w
		WHERE w.from_ts < w.to_ts AND EXISTS (
			SELECT FROM submeter.history_stamps(ask_history.site_id, w.kind, '0100', w.from_ts, w.to_ts) t(ts)
			WHERE NOT EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = ask_history.site_id AND r.meter_id = w.meter_id AND r.ts = t.ts))
		ON CONFLICT DO NOTHING
		RETURNING meter_id, gap_from
	)
	UPDATE submeter.reading_gap g
	SET state = CASE WHEN t.meter_id IS NOT NULL THEN 'asked' WHEN g.readings > 0 THEN 'partly' ELSE 'unfillable' END,
		detail = CASE WHEN t.meter_id IS NULL THEN CASE WHEN NOT EXISTS (SELECT FROM submeter.meter m, submeter.meter_memory(m.model, m.site_id, m.gateway_id, m.measure_point)
			WHERE m.site_id = g.site_id AND m.meter_id = g.meter_id) THEN 'the meter keeps nothing' ELSE 'the meter keeps nothing of this time' END END
	FROM submeter.reading_gap o
	LEFT JOIN (SELECT DISTINCT meter_id, gap_from FROM task) t ON t.meter_id = o.meter_id AND t.gap_from = o.from_ts
	WHERE o.site_id = ask_history.site_id AND o.state = 'open' AND g.site_id = o.site_id AND g.meter_id = o.meter_id AND g.from_ts = o.from_ts;
	-- What was asked and has had its answer; readings may still be on their way through the spool.
	UPDATE submeter.reading_gap g
	SET state = CASE WHEN g.readings > 0 THEN 'partly' ELSE 'unfillable' END, detail = coalesce(t.detail, 'the meter did not give it')
	FROM (
		SELECT k.meter_id, k.gap_from, max(k.finished_at) AS finished_at, string_agg(k.kind || ': ' || k.detail, '; ' ORDER BY k.task_id) FILTER (WHERE k.detail IS NOT NULL) AS detail
		FROM submeter.history_task k
		JOIN submeter.reading_gap o ON o.site_id = k.site_id AND o.meter_id = k.meter_id AND o.from_ts = k.gap_from AND o.state = 'asked'
		WHERE k.site_id = ask_history.site_id
		GROUP BY k.meter_id, k.gap_from
		HAVING bool_and(k.state IN ('done', 'failed'))) t
	WHERE g.site_id = ask_history.site_id AND g.meter_id = t.meter_id AND g.from_ts = t.gap_from AND g.state = 'asked'
		AND t.finished_at < ask_history.as_of - interval '2 minutes';
	SELECT count(*) INTO asked FROM submeter.history_task k
	WHERE k.site_id = ask_history.site_id AND k.state = 'queued' AND k.queued_at = ask_history.as_of;
	IF asked > 0 THEN
		PERFORM pg_notify('submeter_poller', 'history');
	END IF;
	RETURN asked;
END
$$;
COMMENT ON FUNCTION submeter.ask_history(int, timestamptz) IS
'Queues what meters keep of open gaps, and gives up gaps of which nothing is kept; returns how many tasks it queued.';

CREATE FUNCTION submeter.history_duty(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.count_readings(history_duty.site_id, history_duty.as_of);
	DELETE FROM submeter.spool_event e WHERE e.site_id = history_duty.site_id AND e.at < history_duty.as_of - interval '1 year';
	RETURN submeter.ask_history(history_duty.site_id, history_duty.as_of);
END
$$;
COMMENT ON FUNCTION submeter.history_duty(int, timestamptz) IS
'Duty: finds gaps among new readings, counts what came, and has the meters'' memories read; returns how many of these were asked for.';

CREATE FUNCTION submeter.history_entries(site_id int, meter_id bigint, kind text, depth int, settlement_day text, from_ts timestamptz, to_ts timestamptz, as_of timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(string_agg(format('%s=%s=%s', to_char(t.ts AT TIME ZONE z.time_zone, 'YYMMDDHH24MI'), (extract(epoch FROM t.ts) * 1000)::bigint, b.back), ' ' ORDER BY t.ts DESC), '')
	FROM submeter.site z
	CROSS JOIN LATERAL submeter.history_stamps(z.site_id, history_entries.kind, history_entries.settlement_day, history_entries.from_ts, history_entries.to_ts) t(ts)
	CROSS JOIN LATERAL (SELECT CASE history_entries.kind
		WHEN 'hourly' THEN floor(extract(epoch FROM history_entries.as_of - t.ts) / 3600)::int + 1
		WHEN 'settlement' THEN (SELECT count(*)::int FROM submeter.history_stamps(z.site_id, history_entries.kind, history_entries.settlement_day, t.ts, history_entries.as_of)) + 1
		ELSE (history_entries.as_of AT TIME ZONE z.time_zone)::date - (t.ts AT TIME ZONE z.time_zone)::date + 1 END AS back) b
	WHERE z.site_id = history_entries.site_id AND b.back <= history_entries.depth
		-- Registers of a settlement day carry no time: near the day their order is in doubt.
		AND (history_entries.kind <> 'settlement' OR NOT EXISTS (
			SELECT FROM submeter.history_stamps(z.site_id, history_entries.kind, history_entries.settlement_day,
				history_entries.as_of - interval '1 day', history_entries.as_of + interval '1 day')))
		AND NOT EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = z.site_id AND r.meter_id = history_entries.meter_id AND r.ts = t.ts)
$$;
COMMENT ON FUNCTION submeter.history_entries(int, bigint, text, int, text, timestamptz, timestamptz, timestamptz) IS
'The entries of a memory that are wanted of a stretch, the newest first: the meter''s own time, the same instant in ms, and that it is the n-th last as of a time, counted from 1.';

CREATE FUNCTION submeter.claim_history(poller text, max_tasks int DEFAULT 100)
RETURNS TABLE(site_id int, task_id bigint, meter_id bigint, kind text, di text, time_di text, byte_offset int, bytes int, scale text, settlement_day text, entries text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- authorize: poller_sites() guards and limits.
	sites int[] := submeter.poller_sites();
	at timestamptz := clock_timestamp();
BEGIN
	PERFORM submeter.require_text('poller', claim_history.poller);
	RETURN QUERY
	WITH due AS (
		SELECT k.site_id, k.task_id
		FROM submeter.history_task k
		JOIN submeter.meter m ON m.site_id = k.site_id AND m.meter_id = k.meter_id AND m.retired_at IS NULL
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled AND g.online IS NOT FALSE
		JOIN submeter.meter_state s ON s.site_id = k.site_id AND s.meter_id = k.meter_id AND s.online IS NOT FALSE
		WHERE k.site_id = ANY (sites) AND (k.state = 'queued' AND coalesce(k.retry_at, '-infinity') <= at OR k.state = 'claimed' AND k.lease_until <= at)
			AND submeter.may_serve(k.site_id, m.gateway_id, claim_history.poller, at)
		ORDER BY k.queued_at, k.task_id
		LIMIT greatest(coalesce(claim_history.max_tasks, 0), 0)
		FOR UPDATE OF k SKIP LOCKED
	), claimed AS (
		UPDATE submeter.history_task k
		SET state = 'claimed', claimed_by = claim_history.poller, lease_until = at + interval '30 min', attempts = k.attempts + 1
		FROM due d
		WHERE k.site_id = d.site_id AND k.task_id = d.task_id
		RETURNING k.*
	)
	SELECT c.site_id, c.task_id, c.meter_id, c.kind, h.di, h.time_di, h.byte_offset, h.bytes, h.scale::text, c.settlement_day,
		submeter.history_entries(c.site_id, c.meter_id, c.kind, h.depth, c.settlement_day, c.from_ts, c.to_ts, at)
	FROM claimed c
	JOIN submeter.meter m ON m.site_id = c.site_id AND m.meter_id = c.meter_id
	JOIN LATERAL submeter.meter_memory(m.model, m.site_id, m.gateway_id, m.measure_point) h ON h.kind = c.kind
	ORDER BY c.queued_at, c.task_id;
END
$$;
COMMENT ON FUNCTION submeter.claim_history(text, int) IS
'Gives a poller up to max_tasks memories to read for half an hour: which identifiers, how the register lies in the data, and the entries wanted as "YYMMDDhhmm=ms=n" (the meter''s time, the same instant in ms, and that it is the n-th last). No meters that are silent.';

CREATE FUNCTION submeter.report_history(site_id int, task_id bigint, poller text, outcome text, readings int, detail text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	at timestamptz := clock_timestamp();
	state text;
BEGIN
	PERFORM submeter.authorize('poller', report_history.site_id);
	IF report_history.outcome IS NULL OR report_history.outcome NOT IN ('done', 'refused', 'failed', 'returned', 'moved') OR coalesce(report_history.readings, 0) < 0
		OR report_history.outcome = 'moved' AND coalesce(report_history.detail, '') !~ '^(0[1-9]|1[0-9]|2[0-8])([01][0-9]|2[0-3])$'
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the report of a task is malformed',
			DETAIL = format('Outcome %s, %s found, detail %s.', coalesce(report_history.outcome, 'NULL'), coalesce(report_history.readings, 0), coalesce(report_history.detail, 'NULL')),
			HINT = 'Outcomes are done, refused (the meter has no such data), failed (no answer), returned (not begun), and moved with the settlement day as DDhh.';
	END IF;
	-- A late report, or one of a poller that has lost the task, changes nothing. An abandoned task is no attempt.
	UPDATE submeter.history_task k
	SET state = CASE WHEN report_history.outcome IN ('done', 'refused') OR report_history.outcome = 'failed' AND k.attempts >= 8 THEN
			CASE report_history.outcome WHEN 'done' THEN 'done' ELSE 'failed' END ELSE 'queued' END,
		attempts = k.attempts - (report_history.outcome = 'returned')::int,
		settlement_day = CASE report_history.outcome WHEN 'moved' THEN report_history.detail ELSE k.settlement_day END,
		found = coalesce(k.found, 0) + coalesce(report_history.readings, 0), lease_until = NULL,
		retry_at = CASE report_history.outcome WHEN 'failed' THEN at + least(interval '5 min' * power(2, least(k.attempts - 1, 7)), interval '6 hours') END,
		detail = CASE report_history.outcome WHEN 'returned' THEN k.detail WHEN 'refused' THEN coalesce(report_history.detail, 'the meter has no such data') ELSE report_history.detail END,
		finished_at = CASE WHEN report_history.outcome IN ('done', 'refused') OR report_history.outcome = 'failed' AND k.attempts >= 8 THEN at END
	WHERE k.site_id = report_history.site_id AND k.task_id = report_history.task_id AND k.state = 'claimed' AND k.claimed_by = report_history.poller
	RETURNING k.state INTO state;
	RETURN state;
END
$$;
COMMENT ON FUNCTION submeter.report_history(int, bigint, text, text, int, text) IS
'What became of a task: done, refused, failed (tried again later, eight times), returned or moved (the settlement day is another one); its readings come through ingest(). Returns its state, NULL when it was not the poller''s any more. 22023 malformed.';

CREATE FUNCTION submeter.reading_success(site_id int, from_day date, to_day date, as_of timestamptz DEFAULT now())
RETURNS TABLE(day date, gateway_id bigint, gateway text, meter_id bigint, meter text, expected bigint, got bigint, restored bigint, rate numeric, rate_restored numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	zone text;
BEGIN
	PERFORM submeter.authorize('reading_success', reading_success.site_id);
	IF reading_success.from_day IS NULL OR reading_success.to_day IS NULL OR NOT isfinite(reading_success.from_day) OR NOT isfinite(reading_success.to_day)
		OR reading_success.from_day > reading_success.to_day OR reading_success.to_day - reading_success.from_day > 3660
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'reading_success needs a first and a last day at most ten years apart',
			DETAIL = format('From %s to %s.', coalesce(reading_success.from_day::text, 'NULL'), coalesce(reading_success.to_day::text, 'NULL')), HINT = 'Both days count: pass the same one twice for one day.';
	END IF;
	zone := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = reading_success.site_id);
	RETURN QUERY
	WITH counted AS (
		SELECT d.day, d.meter_id, d.expected::bigint, d.got::bigint, d.restored::bigint
		FROM submeter.reading_day d
		WHERE d.site_id = reading_success.site_id AND d.day BETWEEN reading_success.from_day AND reading_success.to_day
		UNION ALL
		-- Meters that are silent: what was to come since their last reading.
		SELECT x.day::date, w.meter_id, floor(extract(epoch FROM least((x.day::date + 1)::timestamp AT TIME ZONE zone, reading_success.as_of) - w.base_ts) / p.s)::bigint
			- floor(extract(epoch FROM greatest(x.day::date::timestamp AT TIME ZONE zone, w.base_ts) - w.base_ts) / p.s)::bigint, 0, 0
		FROM submeter.reading_watch w
		JOIN submeter.meter m ON m.site_id = w.site_id AND m.meter_id = w.meter_id AND m.retired_at IS NULL
		JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id AND g.enabled
		JOIN submeter.meter_state s ON s.site_id = w.site_id AND s.meter_id = w.meter_id
		CROSS JOIN LATERAL (SELECT extract(epoch FROM g.poll_interval) AS s) p
		CROSS JOIN LATERAL generate_series(greatest((w.base_ts AT TIME ZONE zone)::date, reading_success.from_day),
			least((reading_success.as_of AT TIME ZONE zone)::date, reading_success.to_day), interval '1 day') x(day)
		WHERE w.site_id = reading_success.site_id AND s.ts <= w.base_ts AND reading_success.as_of - w.base_ts > 2 * g.poll_interval
	)
	SELECT c.day, m.gateway_id, g.code, c.meter_id, m.code, sum(c.expected)::bigint, sum(c.got)::bigint, sum(c.restored)::bigint,
		round(sum(c.got) / nullif(sum(c.expected), 0), 4), round((sum(c.got) + sum(c.restored)) / nullif(sum(c.expected), 0), 4)
	FROM counted c
	JOIN submeter.meter m ON m.site_id = reading_success.site_id AND m.meter_id = c.meter_id
	LEFT JOIN submeter.gateway g ON g.site_id = m.site_id AND g.gateway_id = m.gateway_id
	WHERE c.expected > 0
	-- Each meter, each gateway, the site; of each day.
	GROUP BY GROUPING SETS ((c.day, m.gateway_id, g.code, c.meter_id, m.code), (c.day, m.gateway_id, g.code), (c.day))
	ORDER BY c.day, g.code NULLS FIRST, m.code NULLS FIRST;
END
$$;
COMMENT ON FUNCTION submeter.reading_success(int, date, date, timestamptz) IS
'How many of the readings that were to come came (抄表成功率), on each local day from from_day to to_day: of each meter, of each gateway (meter NULL) and of the site (both NULL); restored and rate_restored also count what was fetched later closely enough for prices by the hour. 22023 for bad days.';
