-- Room: commission. Recording the steps, the end of an attempt, and everything in one call.

CREATE FUNCTION submeter.said_in(site_id int, outcome text, expected text, found text, evidence jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT submeter.notice_fill(submeter.commission_sentence(said_in.outcome, s.locale),
		coalesce(said_in.evidence, '{}') || jsonb_build_object('expected', said_in.expected, 'found', said_in.found))
	FROM submeter.site s
	WHERE s.site_id = said_in.site_id
$$;
COMMENT ON FUNCTION submeter.said_in(int, text, text, text, jsonb) IS 'The outcome of a step as a sentence in the language of the site.';

CREATE FUNCTION submeter.require_step(site_id int, commission_id bigint, step text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known text[];
BEGIN
	SELECT c.steps INTO known FROM submeter.commission c
	WHERE c.site_id = require_step.site_id AND c.commission_id = require_step.commission_id;
	IF NOT coalesce(require_step.step = ANY (known), false) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no step of this attempt', coalesce(quote_literal(require_step.step), 'NULL')),
			DETAIL = format('Its steps are %s.', array_to_string(known, ', ')), HINT = 'A meter that feeds no tenant has no step shop.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_step(int, bigint, text) IS 'Refuses (22023) a step an attempt does not have.';

CREATE FUNCTION submeter.check_findings(findings jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	IF jsonb_typeof(check_findings.findings) IS DISTINCT FROM 'object' THEN
		bad := 'findings is a JSON object';
	ELSE
		SELECT p.problem INTO bad
		FROM jsonb_each(check_findings.findings) i
		LEFT JOIN (VALUES ('serial', 'text'), ('device_address', 'text'), ('device_number', 'text'), ('model', 'text'), ('multiplier', 'number'), ('ct', 'number'),
			('pt', 'number'), ('rated_current_a', 'number'), ('phases', 'phases'), ('register_modulus_wh', 'whole'), ('display_kwh', 'number'), ('display_at', 'time'),
			('phase_order', 'word'), ('ct_direction', 'word'), ('load_w', 'number'), ('load_on_at', 'time'), ('load_off_at', 'time'), ('slack_s', 'number'),
			('own_trip', 'text'), ('note', 'text')) k(key, kind) ON k.key = i.key
		CROSS JOIN LATERAL (SELECT i.value #>> '{}') t(typed)
		CROSS JOIN LATERAL (SELECT CASE
			WHEN k.kind IS NULL THEN format('%s is not asked for', i.key)
			WHEN jsonb_typeof(i.value) NOT IN ('string', 'number') THEN format('%s is text or a number', i.key)
			WHEN length(t.typed) > 200 THEN format('%s has at most 200 characters', i.key)
			WHEN k.kind = 'number' AND t.typed !~ '^[0-9]{1,12}(\.[0-9]{1,6})?$' THEN format('%s is a number', i.key)
			WHEN k.kind = 'whole' AND t.typed !~ '^[0-9]{1,15}$' THEN format('%s is a whole number', i.key)
			WHEN k.kind = 'phases' AND t.typed NOT IN ('1', '3') THEN 'phases is 1 or 3'
			WHEN k.kind = 'word' AND t.typed NOT IN ('ok', 'wrong') THEN format('%s is ok or wrong', i.key)
			WHEN k.kind = 'time' AND t.typed !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$'
				THEN format('%s is a time with its offset, like 2026-01-15T10:30:00+08', i.key) END) p(problem)
		WHERE p.problem IS NOT NULL
		ORDER BY i.key LIMIT 1;
	END IF;
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'these findings cannot be used', DETAIL = format('Wanted: %s.', bad),
			HINT = 'For example {"serial": "2501007", "model": "DDS238-2 ZN/SR", "multiplier": 1, "phases": 1, "display_kwh": "1234.56", "display_at": "2026-01-15T10:30:00+08", "own_trip": "off"}.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.check_findings(jsonb) IS 'Refuses (22023) findings with a key nobody asks for or a value that is not what the key is for.';

CREATE FUNCTION submeter.evaluate_step(site_id int, meter_id bigint, step text, findings jsonb, begun_at timestamptz, as_of timestamptz)
RETURNS TABLE(state text, outcome text, expected text, found text, evidence jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	CASE evaluate_step.step
		WHEN 'serial' THEN RETURN QUERY SELECT x.* FROM submeter.step_serial(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.findings) x;
		WHEN 'address' THEN RETURN QUERY SELECT x.* FROM submeter.step_address(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.findings, evaluate_step.begun_at) x;
		WHEN 'nameplate' THEN RETURN QUERY SELECT x.* FROM submeter.step_nameplate(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.findings, evaluate_step.as_of) x;
		WHEN 'display' THEN RETURN QUERY SELECT x.* FROM submeter.step_display(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.findings) x;
		WHEN 'phases' THEN RETURN QUERY SELECT x.* FROM submeter.step_phases(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.findings, evaluate_step.begun_at,
			evaluate_step.as_of) x;
		WHEN 'own_trip' THEN RETURN QUERY SELECT x.* FROM submeter.step_own_trip(evaluate_step.findings) x;
		WHEN 'clock' THEN RETURN QUERY SELECT x.* FROM submeter.step_clock(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.begun_at) x;
		WHEN 'signal' THEN RETURN QUERY SELECT x.* FROM submeter.step_signal(evaluate_step.site_id, evaluate_step.meter_id, evaluate_step.as_of) x;
		WHEN 'shop' THEN
			IF NOT evaluate_step.findings ?& '{load_w,load_on_at,load_off_at}' THEN
				RETURN QUERY SELECT 'open'::text, 'to_do_shop'::text, NULL::text, NULL::text, '{}'::jsonb;
				RETURN;
			END IF;
			PERFORM submeter.check_load((evaluate_step.findings ->> 'load_w')::numeric, (evaluate_step.findings ->> 'load_on_at')::timestamptz,
				(evaluate_step.findings ->> 'load_off_at')::timestamptz, interval '1 s' * coalesce((evaluate_step.findings ->> 'slack_s')::float8, 5), evaluate_step.as_of);
			RETURN QUERY SELECT x.* FROM submeter.step_load(evaluate_step.site_id, evaluate_step.meter_id, (evaluate_step.findings ->> 'load_w')::numeric,
				(evaluate_step.findings ->> 'load_on_at')::timestamptz, (evaluate_step.findings ->> 'load_off_at')::timestamptz,
				interval '1 s' * coalesce((evaluate_step.findings ->> 'slack_s')::float8, 5), evaluate_step.as_of) x;
	END CASE;
END
$$;
COMMENT ON FUNCTION submeter.evaluate_step(int, bigint, text, jsonb, timestamptz, timestamptz) IS
'What a step comes to with these findings: passed, failed, or open when it cannot be told yet.';

CREATE FUNCTION submeter.do_step(site_id int, meter_id bigint, commission_id bigint, step text, findings jsonb, as_of timestamptz)
RETURNS TABLE(state text, expected text, found text, explanation text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	said record;
BEGIN
	SELECT x.* INTO said
	FROM submeter.commission c
	CROSS JOIN LATERAL submeter.evaluate_step(c.site_id, do_step.meter_id, do_step.step, do_step.findings, c.begun_at, do_step.as_of) x
	WHERE c.site_id = do_step.site_id AND c.commission_id = do_step.commission_id;
	PERFORM submeter.note_check(do_step.site_id, do_step.commission_id, do_step.step, said.state, said.outcome, said.expected, said.found,
		said.evidence, do_step.as_of);
	RETURN QUERY SELECT said.state, said.expected, said.found,
		submeter.said_in(do_step.site_id, said.outcome, said.expected, said.found, said.evidence);
END
$$;
COMMENT ON FUNCTION submeter.do_step(int, bigint, bigint, text, jsonb, timestamptz) IS 'Does one step of an attempt and records it if it could be told.';

CREATE FUNCTION submeter.record_commission_check(site_id int, meter_id bigint, step text, findings jsonb DEFAULT '{}', as_of timestamptz DEFAULT now())
RETURNS TABLE(state text, expected text, found text, explanation text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attempt bigint;
BEGIN
	PERFORM submeter.authorize('record_commission_check', record_commission_check.site_id);
	PERFORM submeter.require_instant(record_commission_check.as_of, 'record_commission_check');
	PERFORM submeter.check_findings(record_commission_check.findings);
	attempt := submeter.open_commission(record_commission_check.site_id, record_commission_check.meter_id);
	PERFORM submeter.require_step(record_commission_check.site_id, attempt, record_commission_check.step);
	RETURN QUERY SELECT x.* FROM submeter.do_step(record_commission_check.site_id, record_commission_check.meter_id, attempt, record_commission_check.step,
		record_commission_check.findings, record_commission_check.as_of) x;
END
$$;
COMMENT ON FUNCTION submeter.record_commission_check(int, bigint, text, jsonb, timestamptz) IS
'One step of putting a meter into service, with what the electrician found; passed and failed are recorded, open means that it cannot be told yet and why. 22023 unknown step or malformed findings, 55000 no attempt under way, P0002 unknown meter.';

CREATE FUNCTION submeter.waive_commission_check(site_id int, meter_id bigint, step text, reason text, as_of timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attempt bigint;
BEGIN
	PERFORM submeter.authorize('waive_commission_check', waive_commission_check.site_id);
	PERFORM submeter.require_text('reason', waive_commission_check.reason);
	PERFORM submeter.require_instant(waive_commission_check.as_of, 'waive_commission_check');
	attempt := submeter.open_commission(waive_commission_check.site_id, waive_commission_check.meter_id);
	PERFORM submeter.require_step(waive_commission_check.site_id, attempt, waive_commission_check.step);
	IF waive_commission_check.step = 'shop' AND submeter.can_switch(waive_commission_check.site_id, waive_commission_check.meter_id, 'open') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('that meter %s feeds this shop cannot be waived', waive_commission_check.meter_id),
			DETAIL = 'Its breaker could be opened by rule: a wrong guess would leave somebody else in the dark.',
			HINT = 'Do a load step (run_load_step) or a supervised trip test (start_trip_test).';
	END IF;
	PERFORM submeter.require_approval('waive_commission_check', waive_commission_check.site_id,
		jsonb_build_object('meter_id', waive_commission_check.meter_id, 'step', waive_commission_check.step));
	PERFORM submeter.note_check(waive_commission_check.site_id, attempt, waive_commission_check.step, 'waived', 'waived', NULL,
		waive_commission_check.reason, '{}', waive_commission_check.as_of);
END
$$;
COMMENT ON FUNCTION submeter.waive_commission_check(int, bigint, text, text, timestamptz) IS
'An administrator lets a step of the attempt under way be, with a reason; never the proof that a meter with a breaker feeds this shop (55000). Passes the approval hook with {meter_id, step}.';

CREATE FUNCTION submeter.end_commission(site_id int, commission_id bigint, state text, note text, as_of timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE submeter.commission c
	SET state = end_commission.state, finished_at = end_commission.as_of, finished_by = (submeter.me()).login, recorded_at = clock_timestamp(),
		note = end_commission.note, trip_command_id = NULL,
		proved = CASE end_commission.state WHEN 'passed' THEN (SELECT f.facts FROM submeter.service_facts(c.site_id, ARRAY[c.meter_id], end_commission.as_of) f) END
	WHERE c.site_id = end_commission.site_id AND c.commission_id = end_commission.commission_id
$$;
COMMENT ON FUNCTION submeter.end_commission(int, bigint, text, text, timestamptz) IS 'Ends an attempt; one that passed keeps what it holds for.';

CREATE FUNCTION submeter.require_no_trip_test(site_id int, commission_id bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM submeter.commission c
		WHERE c.site_id = require_no_trip_test.site_id AND c.commission_id = require_no_trip_test.commission_id AND c.trip_command_id IS NOT NULL)
	THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'a trip test is under way',
			DETAIL = 'The breaker was opened for it and is to be closed again.', HINT = 'Call finish_trip_test() first.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_no_trip_test(int, bigint) IS 'Refuses (55000) to end an attempt whose trip test has not been finished: the breaker would stay open.';

CREATE FUNCTION submeter.finish_commission(site_id int, meter_id bigint, note text DEFAULT NULL, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attempt bigint;
	missing text[];
BEGIN
	PERFORM submeter.authorize('finish_commission', finish_commission.site_id);
	PERFORM submeter.require_instant(finish_commission.as_of, 'finish_commission');
	attempt := submeter.open_commission(finish_commission.site_id, finish_commission.meter_id);
	PERFORM submeter.require_no_trip_test(finish_commission.site_id, attempt);
	SELECT submeter.unproved_steps(c.site_id, c.commission_id, c.steps) INTO missing FROM submeter.commission c
	WHERE c.site_id = finish_commission.site_id AND c.commission_id = attempt;
	IF missing <> '{}' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('meter %s is not ready for service: %s', finish_commission.meter_id, array_to_string(missing, ', ')),
			DETAIL = (SELECT string_agg(r.step || ': ' || r.explanation, ' ') FROM submeter.commission_result(finish_commission.site_id, attempt) r WHERE r.step = ANY (missing)),
			HINT = 'Do these steps with record_commission_check(), or end the attempt with fail_commission().';
	END IF;
	PERFORM submeter.end_commission(finish_commission.site_id, attempt, 'passed', finish_commission.note, finish_commission.as_of);
	RETURN attempt;
END
$$;
COMMENT ON FUNCTION submeter.finish_commission(int, bigint, text, timestamptz) IS
'Puts a meter into service when all its steps have passed; from now on its breaker may be opened by rule. Returns the commission_id. 55000 with what is missing, or without an attempt; P0002 unknown meter.';

CREATE FUNCTION submeter.fail_commission(site_id int, meter_id bigint, reason text, as_of timestamptz DEFAULT now()) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	attempt bigint;
BEGIN
	PERFORM submeter.authorize('fail_commission', fail_commission.site_id);
	PERFORM submeter.require_text('reason', fail_commission.reason);
	PERFORM submeter.require_instant(fail_commission.as_of, 'fail_commission');
	PERFORM submeter.lock_commissioned(fail_commission.site_id, fail_commission.meter_id);
	SELECT c.commission_id INTO attempt FROM submeter.commission c
	WHERE c.site_id = fail_commission.site_id AND c.meter_id = fail_commission.meter_id AND c.state = 'open';
	IF attempt IS NULL THEN
		INSERT INTO submeter.commission (site_id, meter_id, kind, begun_at, begun_by, note)
		VALUES (fail_commission.site_id, fail_commission.meter_id, 'withdrawn', fail_commission.as_of, (submeter.me()).login, fail_commission.reason)
		RETURNING commission_id INTO attempt;
	END IF;
	PERFORM submeter.require_no_trip_test(fail_commission.site_id, attempt);
	PERFORM submeter.end_commission(fail_commission.site_id, attempt, 'failed', fail_commission.reason, fail_commission.as_of);
	RETURN attempt;
END
$$;
COMMENT ON FUNCTION submeter.fail_commission(int, bigint, text, timestamptz) IS
'Ends the attempt under way as failed; without one, takes the meter out of service until it is checked again. No rule opens its breaker from now on. Returns the commission_id. P0002 unknown meter, 55000 retired or a trip test under way.';

CREATE FUNCTION submeter.note_crossed(site_id int, meter_ids bigint[], reason text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- Only of a meter that was believed can it be said that it is not to be believed.
	INSERT INTO submeter.commission (site_id, meter_id, kind, state, begun_at, begun_by, finished_at, finished_by, recorded_at, note)
	SELECT note_crossed.site_id, v.meter_id, 'crossed', 'failed', now(), (submeter.me()).login, now(), (submeter.me()).login, clock_timestamp(), note_crossed.reason
	FROM submeter.service_of(note_crossed.site_id, note_crossed.meter_ids) v
	WHERE v.state = 'in_service'
$$;
COMMENT ON FUNCTION submeter.note_crossed(int, bigint[], text) IS
'Takes meters whose wires were found crossed out of service, until it is proved again whom they feed.';

CREATE FUNCTION submeter.adopt_meters(site_id int, meter_ids bigint[], reason text, as_of timestamptz DEFAULT now()) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	unknown bigint;
	taken int;
BEGIN
	PERFORM submeter.authorize('adopt_meters', adopt_meters.site_id);
	PERFORM submeter.require_text('reason', adopt_meters.reason);
	PERFORM submeter.require_instant(adopt_meters.as_of, 'adopt_meters');
	SELECT x.id INTO unknown FROM unnest(adopt_meters.meter_ids) x(id)
	WHERE NOT EXISTS (
		SELECT FROM submeter.meter m
		WHERE m.site_id = adopt_meters.site_id AND m.meter_id = x.id AND m.retired_at IS NULL)
	ORDER BY x.id LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('site %s has no meter %s in service or to be put into service', adopt_meters.site_id, coalesce(unknown::text, 'NULL')),
			HINT = 'SELECT meter_id, meter, state FROM submeter.meter_service lists them; NULL means all that are not in service.';
	END IF;
	PERFORM submeter.require_approval('adopt_meters', adopt_meters.site_id, jsonb_build_object('meter_ids', adopt_meters.meter_ids));
	PERFORM submeter.lock_meter(adopt_meters.site_id, v.meter_id)
	FROM (SELECT s.meter_id FROM submeter.service_of(adopt_meters.site_id, adopt_meters.meter_ids) s WHERE s.state <> 'in_service' ORDER BY s.meter_id) v;
	-- Whoever is at the cabinet is not overruled from the desk.
	INSERT INTO submeter.commission (site_id, meter_id, kind, state, begun_at, begun_by, finished_at, finished_by, recorded_at, proved, note)
	SELECT adopt_meters.site_id, v.meter_id, 'adopted', 'passed', adopt_meters.as_of, (submeter.me()).login, adopt_meters.as_of, (submeter.me()).login,
		clock_timestamp(), f.facts, adopt_meters.reason
	FROM submeter.service_of(adopt_meters.site_id, adopt_meters.meter_ids, adopt_meters.as_of) v
	JOIN submeter.service_facts(adopt_meters.site_id, adopt_meters.meter_ids, adopt_meters.as_of) f ON f.meter_id = v.meter_id
	WHERE v.state <> 'in_service' AND NOT EXISTS (
		SELECT FROM submeter.commission c
		WHERE c.site_id = adopt_meters.site_id AND c.meter_id = v.meter_id AND c.state = 'open');
	GET DIAGNOSTICS taken = ROW_COUNT;
	RETURN taken;
END
$$;
COMMENT ON FUNCTION submeter.adopt_meters(int, bigint[], text, timestamptz) IS
'An administrator takes meters over from another system as being in service, on their word and with a reason: nothing is checked. NULL meter_ids: all that are not in service; those with an attempt under way are left alone. Passes the approval hook with {meter_ids}. Returns how many; P0002 unknown or retired meter.';

CREATE FUNCTION submeter.commission_all(site_id int, meter_id bigint, findings jsonb, as_of timestamptz) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	attempt bigint := submeter.start_commission(commission_all.site_id, commission_all.meter_id, commission_all.as_of);
	said jsonb := '{}';
	item record;
	missing text[];
BEGIN
	FOR item IN
		SELECT s.step, r.state FROM submeter.commission c
		JOIN submeter.commission_steps() s ON s.step = ANY (c.steps)
		JOIN submeter.commission_result(c.site_id, c.commission_id) r ON r.step = s.step
		WHERE c.site_id = commission_all.site_id AND c.commission_id = attempt
			-- What has passed is done again only when there is something new to say.
			AND (r.state NOT IN ('passed', 'waived') OR commission_all.findings ?| CASE s.step
				WHEN 'serial' THEN '{serial}'::text[] WHEN 'address' THEN '{device_address,device_number}' WHEN 'nameplate' THEN '{model,multiplier,ct,phases}'
				WHEN 'display' THEN '{display_kwh}' WHEN 'phases' THEN '{phase_order,ct_direction}' WHEN 'shop' THEN '{load_w}' WHEN 'own_trip' THEN '{own_trip}' ELSE '{}' END)
		ORDER BY s.ordinal
	LOOP
		said := said || (
			SELECT jsonb_build_object(item.step, x.explanation)
			FROM submeter.do_step(commission_all.site_id, commission_all.meter_id, attempt, item.step, commission_all.findings, commission_all.as_of) x);
	END LOOP;
	SELECT submeter.unproved_steps(c.site_id, c.commission_id, c.steps) INTO missing FROM submeter.commission c
	WHERE c.site_id = commission_all.site_id AND c.commission_id = attempt AND c.trip_command_id IS NULL;
	IF missing = '{}' THEN
		PERFORM submeter.end_commission(commission_all.site_id, attempt, 'passed', commission_all.findings ->> 'note', commission_all.as_of);
	END IF;
	RETURN (
		SELECT jsonb_agg(to_jsonb(r) || jsonb_build_object('explanation', coalesce(said -> r.step, to_jsonb(r.explanation))))
		FROM submeter.commission_result(commission_all.site_id, attempt) r);
END
$$;
COMMENT ON FUNCTION submeter.commission_all(int, bigint, jsonb, timestamptz) IS
'Begins an attempt or goes on with the one under way, does every step these findings allow, and ends it when all have passed; returns where each step stands.';

CREATE FUNCTION submeter.commission_meter(site_id int, meter_id bigint, findings jsonb DEFAULT '{}', dry_run boolean DEFAULT false, as_of timestamptz DEFAULT now())
RETURNS TABLE(step text, state text, expected text, found text, explanation text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	report jsonb;
	stands text;
BEGIN
	PERFORM submeter.authorize('commission_meter', commission_meter.site_id);
	PERFORM submeter.require_instant(commission_meter.as_of, 'commission_meter');
	PERFORM submeter.check_findings(commission_meter.findings);
	BEGIN
		report := submeter.commission_all(commission_meter.site_id, commission_meter.meter_id, commission_meter.findings, commission_meter.as_of);
		SELECT CASE v.state WHEN 'in_service' THEN 'passed' ELSE 'open' END INTO stands
		FROM submeter.service_of(commission_meter.site_id, ARRAY[commission_meter.meter_id], commission_meter.as_of) v;
		-- An attempt may be under way at a meter that still is in service.
		IF EXISTS (SELECT FROM jsonb_to_recordset(report) r(state text) WHERE r.state NOT IN ('passed', 'waived')) THEN
			stands := 'open';
		END IF;
		IF coalesce(commission_meter.dry_run, true) THEN
			RAISE EXCEPTION USING ERRCODE = 'SMDRY', MESSAGE = 'dry run';
		END IF;
	EXCEPTION WHEN SQLSTATE 'SMDRY' THEN
		-- Nothing of it has happened; what it came to is known all the same.
		NULL;
	END;
	RETURN QUERY
	SELECT r.step, r.state, r.expected, r.found, r.explanation
	FROM ROWS FROM (jsonb_to_recordset(report) AS (step text, state text, expected text, found text, explanation text))
		WITH ORDINALITY r(step, state, expected, found, explanation, ord)
	ORDER BY r.ord;
	RETURN QUERY SELECT 'in service'::text, stands, NULL::text, NULL::text, NULL::text;
END
$$;
COMMENT ON FUNCTION submeter.commission_meter(int, bigint, jsonb, boolean, timestamptz) IS
'Puts a meter into service in one call, or as far as it goes: each step with state, what was expected and found, and last whether the meter is in service (passed) or something is left (open). Steps that passed stay; call it again with what is missing. dry_run: says it and changes nothing. 22023 malformed findings, 55000 retired, P0002 unknown meter.';
