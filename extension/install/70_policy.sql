-- Room: policy. Balance -> decisions -> notices and commands: who is warned, announced, cut and reconnected, and why not.
-- Facts are gathered by one statement per site and run, decided by a pure function, and only what changed has effects.
-- Lock order: the site's policy lock (advisory), then what switching takes.

CREATE FUNCTION submeter.credit_policy_check() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	NEW.low_balances := (SELECT coalesce(array_agg(DISTINCT x ORDER BY x DESC), '{}') FROM unnest(NEW.low_balances) x);
	IF jsonb_typeof(NEW.no_trip_windows) IS DISTINCT FROM 'array' THEN
		bad := 'it is not a list';
	ELSE
		SELECT format('window %s: %s', w.ord, coalesce(p.problem, 'it is not an object')) INTO bad
		FROM jsonb_array_elements(NEW.no_trip_windows) WITH ORDINALITY w(item, ord)
		CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(w.item) = 'object' THEN submeter.window_problem(w.item) END) p(problem)
		WHERE jsonb_typeof(w.item) <> 'object' OR p.problem IS NOT NULL
		ORDER BY w.ord LIMIT 1;
	END IF;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'no_trip_windows is malformed', DETAIL = format('%s.', bad),
			HINT = 'For example [{"from":"17:00","to":"09:00"},{"days":["weekend","holiday"]}].';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.credit_policy_check() IS
'Trigger of credit_policy: sorts low_balances downward and refuses (22023) windows that are not what no_trip_windows says.';

CREATE FUNCTION submeter.window_problem(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN EXISTS (SELECT FROM jsonb_object_keys(window_problem.item) k WHERE k NOT IN ('from', 'to', 'days'))
			THEN 'it has a key other than from, to and days'
		WHEN (window_problem.item ? 'from') <> (window_problem.item ? 'to') THEN 'from and to belong together'
		WHEN window_problem.item ? 'from' AND NOT coalesce(
			window_problem.item ->> 'from' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$' AND window_problem.item ->> 'to' ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$', false)
			THEN 'from and to are local times like 17:00'
		WHEN window_problem.item ? 'days' AND jsonb_typeof(window_problem.item -> 'days') <> 'array' THEN 'days is a list'
		WHEN window_problem.item ? 'days' AND EXISTS (
			SELECT FROM jsonb_array_elements(CASE jsonb_typeof(window_problem.item -> 'days') WHEN 'array' THEN window_problem.item -> 'days' ELSE '[]' END) d
			WHERE d NOT IN ('"workday"', '"weekend"', '"holiday"', '"closed"'))
			THEN 'days are workday, weekend, holiday and closed'
	END
$$;
COMMENT ON FUNCTION submeter.window_problem(jsonb) IS 'What is wrong with one no-trip window, in words; NULL when nothing is.';

CREATE FUNCTION submeter.site_furnish() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside an INSERT that the privileges of the table already let through.
	made bigint;
BEGIN
	INSERT INTO submeter.credit_policy (site_id, code) VALUES (NEW.site_id, 'standard') RETURNING policy_id INTO made;
	UPDATE submeter.site s SET default_policy_id = made WHERE s.site_id = NEW.site_id AND s.default_policy_id IS NULL;
	INSERT INTO submeter.site_member (site_id, login)
	SELECT NEW.site_id, (submeter.me()).login WHERE NOT submeter.is_internal()
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.ledger_account (site_id, code, kind)
	VALUES (NEW.site_id, 'revenue', 'revenue'), (NEW.site_id, 'adjustment', 'adjustment'), (NEW.site_id, 'clearing:cash', 'clearing')
	ON CONFLICT DO NOTHING;
	INSERT INTO submeter.payment_channel (site_id, channel) VALUES (NEW.site_id, 'cash') ON CONFLICT DO NOTHING;
	INSERT INTO submeter.duty_state (site_id, duty) SELECT NEW.site_id, d.duty FROM submeter.duty d ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.site_furnish() IS
'Gives a new site what it cannot do without: a credit policy (mode observe), its ledger accounts, cash as a way of paying, its duties, and its maker as a member.';

CREATE FUNCTION submeter.day_type(site_id int, day date) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT c.day_type FROM submeter.calendar_day c
		WHERE c.site_id = day_type.site_id AND c.day = day_type.day),
		CASE WHEN extract(isodow FROM day_type.day) >= 6 THEN 'weekend' ELSE 'workday' END)
$$;
COMMENT ON FUNCTION submeter.day_type(int, date) IS
'workday, weekend or holiday: what calendar_day says of a local day, else what the weekday says.';

CREATE FUNCTION submeter.is_closure_day(site_id int, day date) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.calendar_day c
		WHERE c.site_id = is_closure_day.site_id AND c.day = is_closure_day.day AND c.closed)
$$;
COMMENT ON FUNCTION submeter.is_closure_day(int, date) IS 'True on a closure day of the site: nobody can pay, so nobody is cut.';

CREATE FUNCTION submeter.day_spans(windows jsonb, day date, day_type text, closed boolean, time_zone text) RETURNS tstzmultirange
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- Local times become instants one by one, so that a night with a change of the clocks is as long as it is.
	SELECT coalesce(range_agg(tstzrange(
			(day_spans.day + coalesce(w.item ->> 'from', '00:00')::time) AT TIME ZONE day_spans.time_zone,
			CASE WHEN NOT w.item ? 'from' OR w.item ->> 'to' = '24:00' THEN (day_spans.day + 1)::timestamp
				WHEN (w.item ->> 'from')::time < (w.item ->> 'to')::time THEN day_spans.day + (w.item ->> 'to')::time
				ELSE day_spans.day + 1 + (w.item ->> 'to')::time END AT TIME ZONE day_spans.time_zone)), '{}')
	FROM (
		SELECT i.item FROM jsonb_array_elements(day_spans.windows) i(item)
		WHERE NOT i.item ? 'days' OR i.item -> 'days' ? day_spans.day_type OR day_spans.closed AND i.item -> 'days' ? 'closed'
		UNION ALL SELECT '{}' WHERE day_spans.closed
	) w
$$;
COMMENT ON FUNCTION submeter.day_spans(jsonb, date, text, boolean, text) IS
'The times in which nobody is cut by the windows that begin on a local day; a window over midnight has the day type of its start, a closure day is one as a whole.';

CREATE FUNCTION submeter.no_trip_spans(site_id int, policy_id bigint, from_ts timestamptz, to_ts timestamptz) RETURNS tstzmultirange
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT range_agg(submeter.day_spans(p.no_trip_windows, g.day::date, submeter.day_type(s.site_id, g.day::date),
			submeter.is_closure_day(s.site_id, g.day::date), s.time_zone))
		FROM submeter.site s
		JOIN submeter.credit_policy p ON p.site_id = s.site_id AND p.policy_id = no_trip_spans.policy_id
		CROSS JOIN generate_series((no_trip_spans.from_ts AT TIME ZONE s.time_zone)::date - 1, (no_trip_spans.to_ts AT TIME ZONE s.time_zone)::date, interval '1 day') g(day)
		WHERE s.site_id = no_trip_spans.site_id), '{}')
$$;
COMMENT ON FUNCTION submeter.no_trip_spans(int, bigint, timestamptz, timestamptz) IS
'All times from from_ts to to_ts (and somewhat around) in which the policy cuts nobody, joined where they touch.';

CREATE FUNCTION submeter.in_no_trip_window(site_id int, policy_id bigint, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.no_trip_spans(in_no_trip_window.site_id, in_no_trip_window.policy_id, in_no_trip_window.at, in_no_trip_window.at) @> in_no_trip_window.at
$$;
COMMENT ON FUNCTION submeter.in_no_trip_window(int, bigint, timestamptz) IS 'True at an instant at which the policy cuts nobody.';

CREATE FUNCTION submeter.next_trip_time(site_id int, policy_id bigint, from_ts timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN r.span IS NULL THEN next_trip_time.from_ts
		WHEN upper(r.span) <= next_trip_time.from_ts + interval '60 days' THEN upper(r.span)
	END
	FROM (SELECT submeter.no_trip_spans(next_trip_time.site_id, next_trip_time.policy_id, next_trip_time.from_ts,
		next_trip_time.from_ts + interval '61 days')) s(spans)
	LEFT JOIN LATERAL (SELECT u.span FROM unnest(s.spans) u(span) WHERE u.span @> next_trip_time.from_ts) r ON true
$$;
COMMENT ON FUNCTION submeter.next_trip_time(int, bigint, timestamptz) IS
'The earliest instant from from_ts on at which the policy may cut; NULL when there is none within 60 days.';
