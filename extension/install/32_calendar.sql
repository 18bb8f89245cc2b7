-- Room: calendar. Public holidays, make-up workdays and days with a flag: what makes a day's prices differ from the weekday's.

CREATE FUNCTION submeter.chinese_holidays(year int) RETURNS TABLE (day date, day_type text, name text, source text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	-- As the General Office of the State Council published them: for 2025 on 12 November 2024 (国办发明电〔2024〕12号), for 2026 on
	-- 4 November 2025. Every day off of the notices is a holiday, every day they call working (上班) a workday.
	WITH block(first, days, day_type, name) AS (VALUES
		('2025-01-01'::date, 1, 'holiday', '元旦'),
		('2025-01-26', 1, 'workday', '春节调休'), ('2025-01-28', 8, 'holiday', '春节'), ('2025-02-08', 1, 'workday', '春节调休'),
		('2025-04-04', 3, 'holiday', '清明节'),
		('2025-04-27', 1, 'workday', '劳动节调休'), ('2025-05-01', 5, 'holiday', '劳动节'),
		('2025-05-31', 3, 'holiday', '端午节'),
		('2025-09-28', 1, 'workday', '国庆节调休'), ('2025-10-01', 8, 'holiday', '国庆节、中秋节'), ('2025-10-11', 1, 'workday', '国庆节调休'),
		('2026-01-01', 3, 'holiday', '元旦'), ('2026-01-04', 1, 'workday', '元旦调休'),
		('2026-02-14', 1, 'workday', '春节调休'), ('2026-02-15', 9, 'holiday', '春节'), ('2026-02-28', 1, 'workday', '春节调休'),
		('2026-04-04', 3, 'holiday', '清明节'),
		('2026-05-01', 5, 'holiday', '劳动节'), ('2026-05-09', 1, 'workday', '劳动节调休'),
		('2026-06-19', 3, 'holiday', '端午节'),
		('2026-09-20', 1, 'workday', '国庆节调休'), ('2026-09-25', 3, 'holiday', '中秋节'),
		('2026-10-01', 7, 'holiday', '国庆节'), ('2026-10-10', 1, 'workday', '国庆节调休')
	)
	SELECT b.first + n, b.day_type, b.name, format('国务院办公厅关于%s年部分节假日安排的通知', chinese_holidays.year)
	FROM block b CROSS JOIN LATERAL generate_series(0, b.days - 1) n
	WHERE extract(year FROM b.first) = chinese_holidays.year
	ORDER BY 1
$$;
COMMENT ON FUNCTION submeter.chinese_holidays(int) IS
'Public holidays and make-up workdays of mainland China in a year, as the State Council''s notice has them; no rows for a year this version does not know (it knows 2025 and 2026).';

CREATE FUNCTION submeter.assumed_holidays(year int) RETURNS TABLE (day date, name text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT make_date(assumed_holidays.year, d.month, d.day), d.name
	FROM (VALUES (1, 1, '元旦'), (5, 1, '劳动节'), (10, 1, '国庆节'), (10, 2, '国庆节'), (10, 3, '国庆节')) d(month, day, name)
$$;
COMMENT ON FUNCTION submeter.assumed_holidays(int) IS
'What can be said of a Chinese year before its notice: the holidays with a fixed date. Those of the moon and the make-up workdays are not guessed; they stay as their weekday says.';

CREATE FUNCTION submeter.weekday_type(day date) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN extract(isodow FROM weekday_type.day) >= 6 THEN 'weekend' ELSE 'workday' END
$$;
COMMENT ON FUNCTION submeter.weekday_type(date) IS 'workday or weekend: what a day is as long as calendar_day says nothing else.';

CREATE FUNCTION submeter.is_chinese_calendar(site_id int) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM submeter.site s
		WHERE s.site_id = is_chinese_calendar.site_id
			AND s.time_zone IN ('Asia/Shanghai', 'Asia/Urumqi', 'Asia/Chongqing', 'Asia/Chungking', 'Asia/Harbin', 'Asia/Kashgar', 'PRC'))
$$;
COMMENT ON FUNCTION submeter.is_chinese_calendar(int) IS 'Whether the public holidays of mainland China hold at a site: its time zone is one of theirs.';

CREATE FUNCTION submeter.write_days(site_id int, days jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.calendar_day AS c (site_id, day, day_type, flags, closed, name, assumed, reason)
	SELECT write_days.site_id, d.day, d.day_type, d.flags, d.closed, d.name, d.assumed, d.said
	FROM jsonb_to_recordset(write_days.days) d(day date, day_type text, flags text[], closed boolean, name text, assumed boolean, said text)
	ORDER BY d.day
	ON CONFLICT ON CONSTRAINT calendar_day_pkey DO UPDATE
	SET day_type = EXCLUDED.day_type, flags = EXCLUDED.flags, closed = EXCLUDED.closed, name = EXCLUDED.name, assumed = EXCLUDED.assumed,
		reason = coalesce(EXCLUDED.reason, c.reason)
$$;
COMMENT ON FUNCTION submeter.write_days(int, jsonb) IS 'Writes days [{day, day_type, flags, closed, name, assumed, said}] as they are to be.';

CREATE FUNCTION submeter.change_days(site_id int, days jsonb, reason text, as_of timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF change_days.days IS NULL THEN
		RETURN;
	END IF;
	-- Days that prices see otherwise than before, by type or flags, and on which something was charged that looks at them.
	IF EXISTS (
		SELECT FROM jsonb_to_recordset(change_days.days) d(day date, day_type text, flags text[])
		JOIN submeter.site s ON s.site_id = change_days.site_id
		LEFT JOIN submeter.calendar_day k ON k.site_id = s.site_id AND k.day = d.day
		JOIN submeter.charge c ON c.site_id = s.site_id AND c.settled_to > d.day::timestamp AT TIME ZONE s.time_zone
			AND c.cycle_start < (d.day + 1)::timestamp AT TIME ZONE s.time_zone
		WHERE (coalesce(d.day_type, submeter.weekday_type(d.day)), ARRAY(SELECT f FROM unnest(d.flags) f ORDER BY f)) IS DISTINCT FROM
				(coalesce(k.day_type, submeter.weekday_type(d.day)), ARRAY(SELECT f FROM unnest(k.flags) f ORDER BY f))
			AND c.tariff_id IN (
				SELECT v.tariff_id FROM submeter.tariff_version v
				WHERE v.site_id = s.site_id AND jsonb_path_exists(v.definition, '$.periods[*].windows[*] ? (exists (@.days) || exists (@.flag))')))
	THEN
		PERFORM submeter.run_correction(change_days.site_id, 'days', change_days.days, coalesce(nullif(btrim(change_days.reason), ''), 'calendar'), false, NULL,
			change_days.as_of);
	ELSE
		PERFORM submeter.write_days(change_days.site_id, change_days.days);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.change_days(int, jsonb, text, timestamptz) IS
'Writes days; where something was charged already by tariffs that look at the kind of day, as a correction: settled again at once, debits put aside as debt.';

CREATE FUNCTION submeter.extend_calendar(site_id int, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	this_year int;
	first_year int;
	days jsonb;
BEGIN
	IF NOT submeter.is_chinese_calendar(extend_calendar.site_id) THEN
		RETURN 0;
	END IF;
	SELECT extract(year FROM extend_calendar.as_of AT TIME ZONE s.time_zone), extract(year FROM min(lower(y.during)) AT TIME ZONE s.time_zone)
	INTO this_year, first_year
	FROM submeter.site s LEFT JOIN submeter.supply y ON y.site_id = s.site_id
	WHERE s.site_id = extend_calendar.site_id GROUP BY s.time_zone;
	-- Days of a person's are left as they are; those without a day type, and those assumed, are filled in.
	SELECT jsonb_agg(jsonb_build_object('day', d.day, 'day_type', d.day_type, 'flags', coalesce(c.flags, '{}'), 'closed', coalesce(c.closed, false),
		'name', coalesce(c.name, d.name), 'assumed', d.assumed, 'said', coalesce(c.reason, d.reason)) ORDER BY d.day)
	INTO days
	FROM generate_series(greatest(least(first_year, this_year), this_year - 10), this_year + 1) y(year)
	CROSS JOIN LATERAL (
		SELECT h.day, h.day_type, h.name, false AS assumed, h.source AS reason FROM submeter.chinese_holidays(y.year) h
		UNION ALL
		SELECT a.day, 'holiday', a.name, true, 'the calendar of the year is not loaded: a holiday with a fixed date'
		FROM submeter.assumed_holidays(y.year) a
		WHERE NOT EXISTS (SELECT FROM submeter.chinese_holidays(y.year))) d
	LEFT JOIN submeter.calendar_day c ON c.site_id = extend_calendar.site_id AND c.day = d.day
	WHERE c.day IS NULL OR c.day_type IS NULL OR c.assumed AND NOT d.assumed;
	PERFORM submeter.change_days(extend_calendar.site_id, days, 'public holidays', extend_calendar.as_of);
	RETURN coalesce(jsonb_array_length(days), 0);
END
$$;
COMMENT ON FUNCTION submeter.extend_calendar(int, timestamptz) IS
'Duty: writes the public holidays of the years a Chinese site needs, up to the next one. Of a year this version does not know only those with a fixed date, marked as assumed until load_calendar() says what the notice says. Returns the days written. What a person wrote stays.';

CREATE FUNCTION submeter.calendar_lines(site_id int, csv text, reason text, today date)
RETURNS TABLE (line int, day date, day_type text, flags text[], closed boolean, name text, said text, known boolean, assumed boolean, changed boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	stored submeter.calendar_day;
	first_line jsonb := '{}';
	faults text[] := '{}';
	fault text;
BEGIN
	FOR item IN
		SELECT r.line, r.record FROM submeter.csv_records(calendar_lines.csv, '{day}', '{day_type,name,flags,closed,reason}') r
	LOOP
		line := item.line;
		day := CASE WHEN item.record ->> 'day' !~ ':' THEN (submeter.csv_time(item.record ->> 'day', 'UTC') AT TIME ZONE 'UTC')::date END;
		SELECT c.* INTO stored FROM submeter.calendar_day c WHERE c.site_id = calendar_lines.site_id AND c.day = calendar_lines.day;
		known := FOUND;
		-- A column the file does not have leaves what is on record.
		day_type := CASE WHEN item.record ? 'day_type' THEN item.record ->> 'day_type' ELSE stored.day_type END;
		name := CASE WHEN item.record ? 'name' THEN item.record ->> 'name' ELSE stored.name END;
		flags := CASE WHEN item.record ? 'flags' THEN ARRAY(SELECT DISTINCT f FROM regexp_split_to_table(coalesce(item.record ->> 'flags', ''), '[ ;|]+') f WHERE f <> '' ORDER BY 1)
			ELSE coalesce(stored.flags, '{}') END;
		closed := CASE WHEN NOT item.record ? 'closed' THEN coalesce(stored.closed, false)
			WHEN lower(item.record ->> 'closed') IN ('true', 'yes', '1') THEN true
			WHEN coalesce(lower(item.record ->> 'closed'), 'no') IN ('false', 'no', '0') THEN false END;
		said := coalesce(item.record ->> 'reason', nullif(btrim(calendar_lines.reason), ''));
		assumed := coalesce(stored.assumed, false) AND NOT item.record ? 'day_type';
		changed := NOT known OR (day_type, flags, closed, name, assumed) IS DISTINCT FROM (stored.day_type, stored.flags, stored.closed, stored.name, stored.assumed);
		fault := CASE
			WHEN day IS NULL OR extract(year FROM day) NOT BETWEEN 1990 AND 2200 THEN format('%s is not a day', coalesce('"' || (item.record ->> 'day') || '"', 'nothing'))
			WHEN day_type NOT IN ('workday', 'weekend', 'holiday') THEN format('"%s" is not workday, weekend or holiday', day_type)
			WHEN closed IS NULL THEN format('"%s" is neither true nor false', item.record ->> 'closed')
			WHEN EXISTS (SELECT FROM unnest(flags) f WHERE f !~ '^[a-z][a-z0-9_]{0,62}$') OR cardinality(flags) > 16
				THEN format('"%s" are not flags (lower-case letters, digits and _, separated by blank)', item.record ->> 'flags')
			WHEN first_line ? day::text THEN format('%s stands in line %s already', day, first_line ->> day::text)
			WHEN day <= calendar_lines.today AND changed AND said IS NULL
				AND (coalesce(day_type, submeter.weekday_type(day)), flags) IS DISTINCT FROM
					(coalesce(stored.day_type, submeter.weekday_type(day)), coalesce(stored.flags, '{}'))
				THEN format('%s is not to come any more; changing it needs a reason', day) END;
		IF fault IS NULL THEN
			first_line := first_line || jsonb_build_object(day, line);
			RETURN NEXT;
		ELSE
			faults := faults || format('line %s: %s', line, fault);
		END IF;
	END LOOP;
	PERFORM submeter.refuse_lines('the calendar cannot be loaded', faults);
END
$$;
COMMENT ON FUNCTION submeter.calendar_lines(int, text, text, date) IS
'Checked lines of a calendar file and whether each says something new; 22023 names every line that is wrong.';

CREATE FUNCTION submeter.load_calendar(site_id int, csv text, reason text DEFAULT NULL, dry_run boolean DEFAULT false, as_of timestamptz DEFAULT now())
RETURNS TABLE (line int, day date, day_type text, flags text[], closed boolean, outcome text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	today date;
	lines jsonb;
BEGIN
	PERFORM submeter.authorize('load_calendar', load_calendar.site_id);
	SELECT (load_calendar.as_of AT TIME ZONE s.time_zone)::date INTO today FROM submeter.site s WHERE s.site_id = load_calendar.site_id;
	IF today IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'load_calendar needs a point in time', HINT = 'Leave as_of out for now.';
	END IF;
	lines := (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.line) FROM submeter.calendar_lines(load_calendar.site_id, load_calendar.csv, load_calendar.reason, today) l);
	IF NOT coalesce(load_calendar.dry_run, true) AND jsonb_path_exists(lines, '$[*] ? (@.changed == true)') THEN
		PERFORM submeter.require_approval('load_calendar', load_calendar.site_id, jsonb_build_object('csv', load_calendar.csv, 'reason', load_calendar.reason));
		PERFORM submeter.change_days(load_calendar.site_id, jsonb_path_query_array(lines, '$[*] ? (@.changed == true)'), load_calendar.reason,
			load_calendar.as_of);
	END IF;
	RETURN QUERY
	SELECT l.line, l.day, l.day_type, l.flags, l.closed, CASE WHEN NOT l.changed THEN 'unchanged' WHEN l.known THEN 'changed' ELSE 'new' END
	FROM jsonb_to_recordset(lines) l(line int, day date, day_type text, flags text[], closed boolean, known boolean, changed boolean)
	ORDER BY l.line;
END
$$;
COMMENT ON FUNCTION submeter.load_calendar(int, text, text, boolean, timestamptz) IS
'Loads days from a CSV: day, and any of day_type (workday, weekend, holiday; empty: as the weekday says), name, flags (separated by blank), closed, reason; columns the file lacks stay as they are. Days that are not to come any more change only with a reason, and what was charged in them is settled again. Returns what became of each line; with dry_run nothing is written. One line that is wrong refuses the whole file (22023), and every such line is named. Passes the approval hook with {csv, reason}.';

CREATE FUNCTION submeter.declare_day(site_id int, day date, flag text, declared boolean DEFAULT true, reason text DEFAULT NULL,
	as_of timestamptz DEFAULT now()) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	today date;
	known submeter.calendar_day;
BEGIN
	PERFORM submeter.authorize('declare_day', declare_day.site_id);
	SELECT (declare_day.as_of AT TIME ZONE s.time_zone)::date INTO today FROM submeter.site s WHERE s.site_id = declare_day.site_id;
	IF declare_day.day IS NULL OR declare_day.declared IS NULL OR today IS NULL OR NOT isfinite(declare_day.day)
		OR declare_day.day > today + 400 OR declare_day.flag !~ '^[a-z][a-z0-9_]{0,62}$' IS NOT FALSE
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'declare_day needs a day and a flag',
			DETAIL = format('The day is %s, the flag %s.', coalesce(declare_day.day::text, 'NULL'), coalesce('"' || declare_day.flag || '"', 'NULL')),
			HINT = 'Pass a day within the next 400 days and a flag of lower-case letters, digits and _, such as hot_day.';
	END IF;
	IF declare_day.declared AND NOT EXISTS (
		SELECT FROM submeter.tariff_version v
		WHERE v.site_id = declare_day.site_id AND jsonb_path_exists(v.definition, '$.periods[*].windows[*].flag ? (@ == $flag)', jsonb_build_object('flag', declare_day.flag)))
	THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no tariff of site %s looks at the flag %s', declare_day.site_id, declare_day.flag),
			HINT = 'Flags stand in the windows of a tariff''s periods; create the tariff first, or correct the name.';
	END IF;
	SELECT c.* INTO known FROM submeter.calendar_day c
	WHERE c.site_id = declare_day.site_id AND c.day = declare_day.day FOR UPDATE;
	IF (declare_day.flag = ANY (coalesce(known.flags, '{}'))) = declare_day.declared THEN
		RETURN false;
	END IF;
	-- A price that holds already is not changed by the way: it takes a reason and, where the site wants it, a second person.
	IF declare_day.day <= today THEN
		IF coalesce(btrim(declare_day.reason), '') = '' THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s is not to come any more', declare_day.day),
				DETAIL = 'A day is declared the evening before at the latest, so that tenants can know.',
				HINT = 'Pass a reason to correct it: what was charged is settled again.';
		END IF;
		PERFORM submeter.require_approval('declare_day', declare_day.site_id,
			jsonb_build_object('day', declare_day.day, 'flag', declare_day.flag, 'declared', declare_day.declared));
	END IF;
	PERFORM submeter.change_days(declare_day.site_id, jsonb_build_array(jsonb_build_object('day', declare_day.day, 'day_type', known.day_type,
		'flags', array_remove(known.flags, declare_day.flag) || CASE WHEN declare_day.declared THEN ARRAY[declare_day.flag] ELSE '{}' END,
		'closed', coalesce(known.closed, false), 'name', known.name, 'assumed', coalesce(known.assumed, false), 'said', nullif(btrim(declare_day.reason), ''))),
		declare_day.reason, declare_day.as_of);
	RETURN true;
END
$$;
COMMENT ON FUNCTION submeter.declare_day(int, date, text, boolean, text, timestamptz) IS
'Sets (or with declared false takes back) a flag of a day to come, such as hot_day the evening before; true when that changed something. A day that has begun changes only with a reason (55000 otherwise), is settled again, and passes the approval hook with {day, flag, declared}. 22023 for a flag no tariff of the site looks at.';
