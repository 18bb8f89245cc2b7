-- Room: commission. The proof that a meter feeds the shop it is said to feed: a load switched on and off there and seen by
-- this meter alone, or its breaker opened while somebody stands in the shop.

CREATE FUNCTION submeter.meter_line(site_id int, meter_id bigint, as_of timestamptz) RETURNS bigint[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE parent AS MATERIALIZED (
		SELECT DISTINCT ON (e.meter_id) e.meter_id, e.parent_meter_id FROM submeter.meter_setup e
		WHERE e.site_id = meter_line.site_id AND e.valid_from <= meter_line.as_of
		ORDER BY e.meter_id, e.valid_from DESC, e.entered_at DESC
	), up AS (
		SELECT meter_line.meter_id AS id UNION SELECT p.parent_meter_id FROM up JOIN parent p ON p.meter_id = up.id WHERE p.parent_meter_id IS NOT NULL
	), down AS (
		SELECT meter_line.meter_id AS id UNION SELECT p.meter_id FROM down JOIN parent p ON p.parent_meter_id = down.id
	)
	SELECT array_agg(DISTINCT x.id) FROM (SELECT u.id FROM up u UNION ALL SELECT d.id FROM down d) x
$$;
COMMENT ON FUNCTION submeter.meter_line(int, bigint, timestamptz) IS
'A meter, those upstream and those downstream of it: they see its load too.';

CREATE FUNCTION submeter.load_moves(site_id int, load_on_at timestamptz, load_off_at timestamptz, slack interval)
RETURNS TABLE(meter_id bigint, before_w numeric, during_w numeric, after_w numeric, readings bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH series AS (
		SELECT r.meter_id, r.ts, CASE WHEN r.power_w IS NULL THEN lag(r.ts) OVER w ELSE r.ts END AS from_ts,
			-- A model without a power register moves its energy register all the same.
			coalesce(r.power_w::numeric, (r.energy_wh - lag(r.energy_wh) OVER w) * 3600 / nullif(extract(epoch FROM r.ts - lag(r.ts) OVER w), 0)) AS w
		FROM submeter.reading r
		WHERE r.site_id = load_moves.site_id AND r.ts > load_moves.load_on_at - interval '30 min' AND r.ts < load_moves.load_off_at + interval '30 min'
		WINDOW w AS (PARTITION BY r.meter_id ORDER BY r.ts)
	), part AS (
		SELECT s.meter_id, s.ts, s.w, CASE
			WHEN s.ts <= load_moves.load_on_at - load_moves.slack THEN 'before'
			WHEN s.from_ts >= load_moves.load_on_at + load_moves.slack AND s.ts <= load_moves.load_off_at - load_moves.slack THEN 'during'
			WHEN s.from_ts >= load_moves.load_off_at + load_moves.slack THEN 'after' END AS part
		FROM series s
		WHERE s.w IS NOT NULL AND s.from_ts IS NOT NULL
	), near AS (
		SELECT p.meter_id, p.part, p.w, CASE p.part
			WHEN 'before' THEN row_number() OVER (PARTITION BY p.meter_id, p.part ORDER BY p.ts DESC)
			WHEN 'after' THEN row_number() OVER (PARTITION BY p.meter_id, p.part ORDER BY p.ts) ELSE 1 END AS nth
		FROM part p
		WHERE p.part IS NOT NULL
	), typical AS (
		SELECT n.meter_id, n.part, percentile_disc(0.5) WITHIN GROUP (ORDER BY n.w) AS w, count(*) AS readings
		FROM near n
		WHERE n.nth <= 3
		GROUP BY n.meter_id, n.part
	)
	SELECT t.meter_id, round(max(t.w) FILTER (WHERE t.part = 'before') * k.multiplier), round(max(t.w) FILTER (WHERE t.part = 'during') * k.multiplier),
		round(max(t.w) FILTER (WHERE t.part = 'after') * k.multiplier), sum(t.readings)::bigint
	FROM typical t
	JOIN submeter.meter m ON m.site_id = load_moves.site_id AND m.meter_id = t.meter_id AND m.retired_at IS NULL
	CROSS JOIN LATERAL (
		SELECT coalesce((
			SELECT e.multiplier FROM submeter.meter_setup e
			WHERE e.site_id = m.site_id AND e.meter_id = m.meter_id AND e.valid_from <= load_moves.load_off_at
			ORDER BY e.valid_from DESC, e.entered_at DESC LIMIT 1), 1) AS multiplier) k
	GROUP BY t.meter_id, k.multiplier
$$;
COMMENT ON FUNCTION submeter.load_moves(int, timestamptz, timestamptz, interval) IS
'Power of each meter of a site before, during and after a load was on, after the multiplier: the middle one of up to three readings on each side; readings within slack of a switching count for neither.';

CREATE FUNCTION submeter.is_load_seen(step_up numeric, step_down numeric, load_w numeric) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Heaters draw less at low voltage, and shops live while one tests.
	SELECT abs(is_load_seen.step_up - is_load_seen.load_w) <= greatest(0.3 * is_load_seen.load_w, 50)
		AND abs(is_load_seen.step_down - is_load_seen.load_w) <= greatest(0.3 * is_load_seen.load_w, 50)
$$;
COMMENT ON FUNCTION submeter.is_load_seen(numeric, numeric, numeric) IS 'Whether a power rose and fell by a load, within 30 per cent (at least 50 W).';

CREATE FUNCTION submeter.step_load(site_id int, meter_id bigint, load_w numeric, load_on_at timestamptz, load_off_at timestamptz, slack interval, as_of timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH moved AS MATERIALIZED (
		SELECT v.* FROM submeter.load_moves(step_load.site_id, step_load.load_on_at, step_load.load_off_at, step_load.slack) v
	), other AS (
		SELECT m.code, v.*, u.code AS unit, m.gateway_id IS NOT DISTINCT FROM own.gateway_id AS same_gateway
		FROM moved v
		JOIN submeter.meter m ON m.site_id = step_load.site_id AND m.meter_id = v.meter_id
		JOIN submeter.meter own ON own.site_id = m.site_id AND own.meter_id = step_load.meter_id
		LEFT JOIN submeter.setup_at(step_load.site_id, step_load.as_of) e ON e.meter_id = m.meter_id
		LEFT JOIN submeter.unit u ON u.site_id = m.site_id AND u.unit_id = e.unit_id
		WHERE NOT v.meter_id = ANY (submeter.meter_line(step_load.site_id, step_load.meter_id, step_load.as_of))
			AND submeter.is_load_seen(v.during_w - v.before_w, v.during_w - v.after_w, step_load.load_w)
	), seen AS (
		SELECT o.before_w, o.during_w, o.after_w, o.readings, coalesce(submeter.is_load_seen(o.during_w - o.before_w, o.during_w - o.after_w, step_load.load_w), false) AS own,
			o.during_w - o.before_w AS up, o.during_w - o.after_w AS down,
			(SELECT string_agg(x.code || coalesce(' (' || x.unit || ')', ''), ', ' ORDER BY x.same_gateway DESC, x.code) FROM other x) AS others,
			(SELECT jsonb_agg(jsonb_build_object('meter_id', x.meter_id, 'meter', x.code, 'unit', x.unit, 'before_w', x.before_w, 'during_w', x.during_w, 'after_w', x.after_w)
				ORDER BY x.same_gateway DESC, x.code) FROM other x) AS moved_too
		FROM (SELECT 1) one
		LEFT JOIN moved o ON o.meter_id = step_load.meter_id
	), said AS (
		SELECT s.*, CASE
			WHEN s.before_w IS NULL OR s.during_w IS NULL OR s.after_w IS NULL THEN 'load_unread'
			WHEN s.own AND s.others IS NULL THEN 'load_seen'
			WHEN s.own THEN 'load_twice'
			WHEN s.others IS NOT NULL THEN 'load_elsewhere'
			WHEN least(s.up, s.down) >= 50 AND least(s.up, s.down) >= 0.8 * greatest(s.up, s.down) THEN 'load_size'
			ELSE 'load_nowhere' END AS outcome
		FROM seen s
	)
	SELECT CASE s.outcome WHEN 'load_seen' THEN 'passed' WHEN 'load_unread' THEN 'open' ELSE 'failed' END, s.outcome,
		step_load.load_w || ' W', coalesce((s.up || ' W'), '–'),
		jsonb_build_object('test', 'load', 'load_w', step_load.load_w, 'on_at', step_load.load_on_at, 'off_at', step_load.load_off_at, 'before_w', s.before_w,
			'during_w', s.during_w, 'after_w', s.after_w, 'step_w', s.up, 'readings', s.readings, 'others', s.others, 'moved', s.moved_too,
			'unread', CASE s.outcome WHEN 'load_unread' THEN concat_ws(', ', CASE WHEN s.before_w IS NULL THEN 'before' END,
				CASE WHEN s.during_w IS NULL THEN 'during' END, CASE WHEN s.after_w IS NULL THEN 'after' END) END)
	FROM said s
$$;
COMMENT ON FUNCTION submeter.step_load(int, bigint, numeric, timestamptz, timestamptz, interval, timestamptz) IS
'Which meters of the site saw a load go on and off: this one alone passes; meters up- and downstream of it do not count.';

CREATE FUNCTION submeter.check_load(load_w numeric, load_on_at timestamptz, load_off_at timestamptz, slack interval, as_of timestamptz) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF check_load.load_w IS NULL OR NOT check_load.load_w BETWEEN 100 AND 1000000 OR check_load.load_on_at IS NULL OR check_load.load_off_at IS NULL
		OR check_load.slack IS NULL OR check_load.slack < interval '0' OR check_load.load_off_at - check_load.load_on_at <= 2 * check_load.slack
		OR check_load.load_off_at > check_load.as_of OR check_load.load_off_at - check_load.load_on_at > interval '1 day'
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a load test is not like this',
			DETAIL = format('%s W from %s to %s, slack %s.', coalesce(check_load.load_w::text, 'NULL'), coalesce(check_load.load_on_at::text, 'NULL'),
				coalesce(check_load.load_off_at::text, 'NULL'), coalesce(check_load.slack::text, 'NULL')),
			HINT = 'A known load of at least 100 W was on for longer than twice the slack, and is off again. One of 2000 W for five minutes is good.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_load(numeric, timestamptz, timestamptz, interval, timestamptz) IS 'Refuses (22023) a load test that cannot tell anything.';

CREATE FUNCTION submeter.run_load_step(site_id int, meter_id bigint, load_w numeric, load_on_at timestamptz, load_off_at timestamptz,
	slack interval DEFAULT '5 s', as_of timestamptz DEFAULT now())
RETURNS TABLE(state text, expected text, found text, explanation text, evidence jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	attempt bigint;
	said record;
BEGIN
	PERFORM submeter.authorize('run_load_step', run_load_step.site_id);
	PERFORM submeter.check_load(run_load_step.load_w, run_load_step.load_on_at, run_load_step.load_off_at, run_load_step.slack, run_load_step.as_of);
	attempt := submeter.open_commission(run_load_step.site_id, run_load_step.meter_id);
	PERFORM submeter.require_step(run_load_step.site_id, attempt, 'shop');
	SELECT x.* INTO said FROM submeter.step_load(run_load_step.site_id, run_load_step.meter_id, run_load_step.load_w, run_load_step.load_on_at,
		run_load_step.load_off_at, run_load_step.slack, run_load_step.as_of) x;
	PERFORM submeter.note_check(run_load_step.site_id, attempt, 'shop', said.state, said.outcome, said.expected, said.found, said.evidence, run_load_step.as_of);
	RETURN QUERY SELECT said.state, said.expected, said.found,
		submeter.said_in(run_load_step.site_id, said.outcome, said.expected, said.found, said.evidence), jsonb_strip_nulls(said.evidence);
END
$$;
COMMENT ON FUNCTION submeter.run_load_step(int, bigint, numeric, timestamptz, timestamptz, interval, timestamptz) IS
'A known load was switched on and off in the shop at these times: did this meter see it, and no other? Names the meters that moved instead. open, and nothing recorded, while readings are missing. 22023 malformed, 55000 no attempt under way, P0002 unknown meter.';

-- The supervised trip test.

CREATE FUNCTION submeter.start_trip_test(site_id int, meter_id bigint, reason text, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attempt bigint;
	ttl interval;
	made bigint;
BEGIN
	PERFORM submeter.authorize('start_trip_test', start_trip_test.site_id);
	PERFORM submeter.require_text('reason', start_trip_test.reason);
	PERFORM submeter.require_instant(start_trip_test.as_of, 'start_trip_test');
	attempt := submeter.open_commission(start_trip_test.site_id, start_trip_test.meter_id);
	PERFORM submeter.require_step(start_trip_test.site_id, attempt, 'shop');
	SELECT c.trip_command_id INTO made FROM submeter.commission c WHERE c.site_id = start_trip_test.site_id AND c.commission_id = attempt;
	IF made IS NOT NULL THEN
		RETURN made;
	END IF;
	PERFORM submeter.check_open(start_trip_test.site_id, start_trip_test.meter_id, 'operator');
	IF NOT submeter.can_switch(start_trip_test.site_id, start_trip_test.meter_id, 'open') OR NOT submeter.can_switch(start_trip_test.site_id, start_trip_test.meter_id, 'close')
		OR EXISTS (SELECT FROM submeter.open_cause o WHERE o.site_id = start_trip_test.site_id AND o.meter_id = start_trip_test.meter_id)
		OR EXISTS (SELECT FROM submeter.command c WHERE c.site_id = start_trip_test.site_id AND c.meter_id = start_trip_test.meter_id AND submeter.is_live(c.state))
		OR EXISTS (SELECT FROM submeter.meter_state s WHERE s.site_id = start_trip_test.site_id AND s.meter_id = start_trip_test.meter_id AND s.relay = 'open')
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the breaker of meter %s cannot be tried now', start_trip_test.meter_id),
			DETAIL = 'It cannot be switched from here, is open or to be open, or a command is under way.',
			HINT = 'why_dark() says what is the matter; a load step (run_load_step) proves the same without a breaker.';
	END IF;
	PERFORM submeter.require_approval('start_trip_test', start_trip_test.site_id, jsonb_build_object('meter_id', start_trip_test.meter_id));
	SELECT p.command_ttl INTO ttl FROM submeter.credit_policy p
	WHERE p.site_id = start_trip_test.site_id
		AND p.policy_id = submeter.meter_policy(start_trip_test.site_id, start_trip_test.meter_id, start_trip_test.as_of);
	made := submeter.queue_command(start_trip_test.site_id, start_trip_test.meter_id, 'open', 'operator', 'trip test: ' || start_trip_test.reason, 'direct',
		start_trip_test.as_of, start_trip_test.as_of + ttl, NULL, start_trip_test.as_of);
	UPDATE submeter.commission c SET trip_command_id = made WHERE c.site_id = start_trip_test.site_id AND c.commission_id = attempt;
	RETURN made;
END
$$;
COMMENT ON FUNCTION submeter.start_trip_test(int, bigint, text, timestamptz) IS
'Opens the breaker of a meter that is being put into service, while somebody stands in the shop; returns the command_id. finish_trip_test() closes it again. Passes the approval hook with {meter_id}. 55000 no attempt, protected, or the breaker cannot be tried now; P0002 unknown meter.';

CREATE FUNCTION submeter.step_trip(site_id int, meter_id bigint, command_id bigint, shop_dark boolean)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE w.word WHEN 'trip_dark' THEN 'passed' ELSE 'failed' END, w.word, 'dark', CASE WHEN step_trip.shop_dark THEN 'dark' ELSE 'not dark' END,
		jsonb_build_object('test', 'trip', 'command_id', c.command_id, 'opened_at', c.finished_at, 'relay_before', c.relay_before, 'relay_after', c.relay_after,
			'command_evidence', c.evidence, 'power_w', p.power_w, 'power_at', p.ts, 'detail', c.detail)
	FROM submeter.command c
	LEFT JOIN LATERAL (
		SELECT r.ts, r.power_w FROM submeter.reading r
		WHERE r.site_id = c.site_id AND r.meter_id = c.meter_id AND r.ts > c.finished_at AND r.power_w IS NOT NULL
		ORDER BY r.ts DESC LIMIT 1) p ON true
	CROSS JOIN LATERAL (
		SELECT CASE WHEN c.state <> 'confirmed' THEN 'trip_failed' WHEN NOT step_trip.shop_dark THEN 'trip_elsewhere'
			WHEN abs(p.power_w) >= 20 THEN 'trip_draws' ELSE 'trip_dark' END AS word) w
	WHERE c.site_id = step_trip.site_id AND c.meter_id = step_trip.meter_id AND c.command_id = step_trip.command_id
$$;
COMMENT ON FUNCTION submeter.step_trip(int, bigint, bigint, boolean) IS
'What a trip test came to: the command, what the person in the shop saw, and whether power still flowed.';

CREATE FUNCTION submeter.finish_trip_test(site_id int, meter_id bigint, shop_dark boolean, as_of timestamptz DEFAULT now())
RETURNS TABLE(state text, expected text, found text, explanation text, close_command_id bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	attempt bigint;
	trip submeter.command%ROWTYPE;
	said record;
	closes bigint;
BEGIN
	PERFORM submeter.authorize('finish_trip_test', finish_trip_test.site_id);
	PERFORM submeter.require_instant(finish_trip_test.as_of, 'finish_trip_test');
	attempt := submeter.open_commission(finish_trip_test.site_id, finish_trip_test.meter_id);
	SELECT c.* INTO trip FROM submeter.commission k
	JOIN submeter.command c ON c.site_id = k.site_id AND c.command_id = k.trip_command_id
	WHERE k.site_id = finish_trip_test.site_id AND k.commission_id = attempt;
	IF trip.command_id IS NULL OR finish_trip_test.shop_dark IS NULL OR submeter.is_live(trip.state) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('there is no trip test at meter %s to finish', finish_trip_test.meter_id),
			DETAIL = CASE WHEN trip.command_id IS NULL THEN 'None was started.' WHEN finish_trip_test.shop_dark IS NULL THEN 'shop_dark is NULL.'
				ELSE format('Command %s is %s.', trip.command_id, trip.state) END,
			HINT = 'Start it with start_trip_test(), wait until the command is confirmed, and say whether the shop was dark.';
	END IF;
	SELECT x.* INTO said FROM submeter.step_trip(finish_trip_test.site_id, finish_trip_test.meter_id, trip.command_id, finish_trip_test.shop_dark) x;
	PERFORM submeter.note_check(finish_trip_test.site_id, attempt, 'shop', said.state, said.outcome, said.expected, said.found, said.evidence, finish_trip_test.as_of);
	UPDATE submeter.commission c SET trip_command_id = NULL WHERE c.site_id = finish_trip_test.site_id AND c.commission_id = attempt;
	DELETE FROM submeter.open_cause o
	WHERE o.site_id = finish_trip_test.site_id AND o.meter_id = finish_trip_test.meter_id AND o.cause = 'operator' AND o.command_id = trip.command_id;
	closes := submeter.settle_causes(finish_trip_test.site_id, finish_trip_test.meter_id, finish_trip_test.as_of, 'trip test is over', direct => true);
	RETURN QUERY SELECT said.state, said.expected, said.found,
		submeter.said_in(finish_trip_test.site_id, said.outcome, said.expected, said.found, said.evidence), closes;
END
$$;
COMMENT ON FUNCTION submeter.finish_trip_test(int, bigint, boolean, timestamptz) IS
'Ends a trip test: was the shop dark? Records what came out and closes the breaker again (close_command_id). 55000 while the command is under way or none was started, P0002 unknown meter.';
