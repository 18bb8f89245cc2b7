-- Room: meter keys. Passwords of DL/T 645 meters, and what is never written because of them. The third wrong
-- password locks a meter for a day, so one refusal is enough: after it nothing is written until a person sets a new one.

CREATE FUNCTION submeter.needs_key(site_id int, meter_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (
		SELECT FROM submeter.meter m
		JOIN submeter.meter_model o ON o.model = m.model AND o.protocol <> 'modbus'
		WHERE m.site_id = needs_key.site_id AND m.meter_id = needs_key.meter_id);
END
$$;
COMMENT ON FUNCTION submeter.needs_key(int, bigint) IS 'True for a meter that is written to with a password: one of DL/T 645.';

CREATE FUNCTION submeter.key_refusal(site_id int, meter_id bigint, as_of timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT CASE
		WHEN k.meter_id IS NULL THEN 'no password of the meter is known'
		WHEN k.refused_at IS NOT NULL THEN 'the meter refused its password'
		-- What was not answered may have been refused; a third try could be the one that locks the meter.
		WHEN k.tries >= 2 THEN 'two writes with its password were not answered'
		WHEN k.refusals >= 2 AND k.last_refused_at > key_refusal.as_of - interval '24 hours'
			THEN 'two passwords were refused within a day, and a third would lock the meter'
		END
	FROM (SELECT 1) one
	LEFT JOIN submeter.meter_key k ON k.site_id = key_refusal.site_id AND k.meter_id = key_refusal.meter_id
	WHERE submeter.needs_key(key_refusal.site_id, key_refusal.meter_id));
END
$$;
COMMENT ON FUNCTION submeter.key_refusal(int, bigint, timestamptz) IS
'Why nothing may be written to a meter because of its password; NULL when it may, or needs none. Says nothing of the password itself.';

CREATE FUNCTION submeter.write_refusal(site_id int, meter_id bigint, as_of timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- The policy asks for thousands of meters at once, most of which have neither password nor clock.
	IF NOT submeter.needs_key(write_refusal.site_id, write_refusal.meter_id) THEN
		RETURN NULL;
	END IF;
	RETURN coalesce(submeter.key_refusal(write_refusal.site_id, write_refusal.meter_id, write_refusal.as_of),
		submeter.clock_refusal(write_refusal.site_id, write_refusal.meter_id));
END
$$;
COMMENT ON FUNCTION submeter.write_refusal(int, bigint, timestamptz) IS
'Why the breaker of a meter must not be written to now (its password, its clock), as far as is known; NULL when it may.';

CREATE FUNCTION submeter.require_writable(site_id int, meter_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refusal text := submeter.key_refusal(require_writable.site_id, require_writable.meter_id, require_writable.as_of);
BEGIN
	IF refusal IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('nothing is written to meter %s: %s', require_writable.meter_id, refusal),
			DETAIL = 'Three wrong passwords lock a meter for a day, so there is never a third try.',
			HINT = 'Find out the right password, then SELECT submeter.set_meter_key(…).';
	END IF;
	refusal := submeter.clock_refusal(require_writable.site_id, require_writable.meter_id);
	IF refusal IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('nothing is switched at meter %s: %s', require_writable.meter_id, refusal),
			DETAIL = 'The meter obeys only for minutes after the time it was told at, by its own clock.',
			HINT = 'Set its clock first: SELECT submeter.set_meter_clock(…).';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.require_writable(int, bigint, timestamptz) IS
'Raises 55000 with the reason when the breaker of a meter must not be written to because of its password or its clock.';

CREATE FUNCTION submeter.key_secret(meter_id bigint) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('meter/%s/key', key_secret.meter_id)
$$;
COMMENT ON FUNCTION submeter.key_secret(bigint) IS 'Name of the secret that holds password and operator code of a meter.';

CREATE FUNCTION submeter.set_meter_key(site_id int, meter_id bigint, level int, password text, operator text DEFAULT '00000000') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM submeter.hide_statement();
	PERFORM submeter.authorize('set_meter_key', set_meter_key.site_id);
	-- What is wrong is said without repeating it: messages go to logs.
	IF coalesce(set_meter_key.level NOT BETWEEN 0 AND 97, true) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the level of a password is a number from 0 to 97',
			DETAIL = 'Levels 98 and 99 belong to meters that want a security module; those cannot be written to from here.',
			HINT = 'Most meters take level 2.';
	END IF;
	IF coalesce(set_meter_key.password !~ '^[0-9]{6}$', true) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the password of a meter is six digits', HINT = 'Highest digit first, as it is printed.';
	END IF;
	IF coalesce(set_meter_key.operator !~ '^[0-9]{8}$', true) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the operator code of a meter is eight digits', HINT = 'Leave it out for 00000000.';
	END IF;
	PERFORM submeter.lock_meter(set_meter_key.site_id, set_meter_key.meter_id);
	IF NOT submeter.needs_key(set_meter_key.site_id, set_meter_key.meter_id) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('meter %s has no password', set_meter_key.meter_id),
			DETAIL = 'Its model does not speak DL/T 645.', HINT = 'See meter.model and meter_model.protocol.';
	END IF;
	PERFORM submeter.put_secret(set_meter_key.site_id, submeter.key_secret(set_meter_key.meter_id),
		convert_to(set_meter_key.password || set_meter_key.operator, 'UTF8'));
	INSERT INTO submeter.meter_key AS k (site_id, meter_id, level, changed_by)
	VALUES (set_meter_key.site_id, set_meter_key.meter_id, set_meter_key.level, (submeter.me()).login)
	-- How many passwords the meter has refused lately is its own count, and goes on; what it did not answer may have been refused.
	ON CONFLICT ON CONSTRAINT meter_key_pkey DO UPDATE
	SET level = EXCLUDED.level, changed_at = clock_timestamp(), changed_by = EXCLUDED.changed_by,
		refusals = CASE WHEN k.last_refused_at > clock_timestamp() - interval '24 hours' THEN k.refusals ELSE 0 END + k.tries,
		last_refused_at = CASE WHEN k.tries > 0 THEN clock_timestamp() ELSE k.last_refused_at END, refused_at = NULL, tries = 0;
	INSERT INTO submeter.audit (site_id, relation, operation, new_row, changed_by)
	VALUES (set_meter_key.site_id, 'meter_key', 'UPDATE',
		jsonb_build_object('site_id', set_meter_key.site_id, 'meter_id', set_meter_key.meter_id, 'level', set_meter_key.level), (submeter.me()).login);
	IF submeter.key_refusal(set_meter_key.site_id, set_meter_key.meter_id, clock_timestamp()) IS NULL THEN
		PERFORM submeter.clear_alarm(set_meter_key.site_id, 'key_refused', set_meter_key.meter_id, NULL, clock_timestamp());
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.set_meter_key(int, bigint, int, text, text) IS
'Keeps the password a meter is written to with (level, six digits, operator code); it is sealed, and nobody sees it again. Lets writing go on after a refusal, but for a day after the second one within a day. 22023 malformed or a meter without passwords, P0002 unknown meter, 55000 when the server has no key to seal it with.';

CREATE FUNCTION submeter.take_key(site_id int, meter_id bigint, OUT level int, OUT password text, OUT operator text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	opened text := submeter.secret_text(take_key.site_id, submeter.key_secret(take_key.meter_id));
BEGIN
	-- Counted before it goes out: whatever happens to the poller, the meter may have seen it.
	UPDATE submeter.meter_key k SET tries = k.tries + 1
	WHERE k.site_id = take_key.site_id AND k.meter_id = take_key.meter_id
	RETURNING k.level::int INTO take_key.level;
	IF FOUND THEN
		take_key.password := left(opened, 6);
		take_key.operator := right(opened, 8);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.take_key(int, bigint) IS 'The password for one write to a meter, counted as a try until the meter is known to have taken it.';

CREATE FUNCTION submeter.note_key(site_id int, meter_id bigint, outcome text, is_taken boolean, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused boolean := note_key.outcome = 'refused';
BEGIN
	UPDATE submeter.meter_key k
	SET refused_at = CASE WHEN refused THEN note_key.at ELSE k.refused_at END,
		tries = CASE WHEN refused OR note_key.is_taken THEN 0 WHEN note_key.outcome = 'returned' THEN greatest(k.tries - 1, 0) ELSE k.tries END,
		refusals = CASE WHEN note_key.is_taken THEN 0
			WHEN refused AND k.last_refused_at > note_key.at - interval '24 hours' THEN k.refusals + 1 WHEN refused THEN 1 ELSE k.refusals END,
		last_refused_at = CASE WHEN refused THEN note_key.at ELSE k.last_refused_at END
	WHERE k.site_id = note_key.site_id AND k.meter_id = note_key.meter_id;
	IF FOUND AND submeter.key_refusal(note_key.site_id, note_key.meter_id, note_key.at) IS NOT NULL THEN
		PERFORM submeter.raise_alarm(note_key.site_id, 'key_refused', note_key.meter_id, NULL,
			submeter.key_refusal(note_key.site_id, note_key.meter_id, note_key.at), note_key.at);
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.note_key(int, bigint, text, boolean, timestamptz) IS
'What a write says of the password: refused (nothing more is written, an alarm), taken (the meter acknowledged it or obeyed), or nothing was sent after all.';
