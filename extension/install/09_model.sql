-- Room: meter models. Their text form (described in 09_catalogue.sql) is read strictly: every line that is wrong is named, and then nothing is done.

CREATE FUNCTION submeter.model_lines(definition text)
RETURNS TABLE (line int, word text, model text, arguments text[], options jsonb, rest text)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most_characters CONSTANT int := 1000000;
	-- By word: what its arguments look like, and each of its options. Words that take text have none.
	known CONSTANT jsonb := jsonb_build_object('model', NULL, 'vendor', NULL, 'note', NULL, 'source', NULL,
		'read', ARRAY['^(modbus|dlt645-2007|dlt645-1997)$', '^(phases|max|gap|pause)=[0-9]{1,5}$'],
		'clock', ARRAY['^([0-9A-F]{4}){1,2}( broadcast)?( write)?$', '^$'],
		'point', ARRAY['^[a-z_]+ ([1-4]:[0-9]{1,5} [a-z]+[0-9]*[a-z]*|([0-9A-F]{4}){1,2} (s?bcd|bits)[1-8]) -?[0-9]+([.][0-9]+)?$',
			'^(block=([0-9A-F]{4}){1,2}[+][0-9]{1,3}|mask=[0-9]{1,5}|(closed|open)=[0-9]{1,5}|(lock|keep)=[0-9]{1,5}:[0-9]{1,5})$'],
		'switch', ARRAY['^[a-z_]+ (28|(5|6|16):[0-9]{1,5}|(4|20):([0-9A-F]{4}){1,2}) [0-9]{1,5}(,[0-9]{1,5})*$', '^(settle|valid)=[0-9]{1,5}$'],
		'history', ARRAY['^[a-z]+ ([0-9A-F]{4}){1,2}$', '^(time=[0-9A-F]{8}|(offset|bytes|depth)=[0-9]{1,3}|scale=[0-9]+([.][0-9]+)?)$']);
	faults text[] := '{}';
	source text;
	words text;
	bad text;
	entry record;
BEGIN
	IF coalesce(length(model_lines.definition), 0) NOT BETWEEN 1 AND most_characters THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'this is no description of meter models',
			DETAIL = format('It is empty or has more than %s characters.', most_characters), HINT = 'built_in_models() shows how one looks.';
	END IF;
	FOR entry IN
		SELECT t.n::int AS n, btrim(regexp_replace(regexp_replace(t.text, '(^|\s)#.*$', ''), '\s+', ' ', 'g')) AS text, btrim(substring(t.text FROM '\s#\s*(.*)$')) AS remark
		FROM string_to_table(replace(model_lines.definition, E'\r', ''), E'\n') WITH ORDINALITY t(text, n)
		ORDER BY t.n
	LOOP
		CONTINUE WHEN entry.text = '';
		line := entry.n;
		word := split_part(entry.text, ' ', 1);
		rest := substr(entry.text, length(word) + 2);
		arguments := NULL;
		options := NULL;
		IF NOT known ? word THEN
			faults := faults || format('line %s begins with "%s", which is no word of a model', line, left(word, 40));
			CONTINUE;
		ELSIF rest = '' THEN
			faults := faults || format('line %s says nothing', line);
			CONTINUE;
		ELSIF word = 'model' THEN
			model := rest;
			source := NULL;
		ELSIF model IS NULL THEN
			faults := faults || format('line %s belongs to no model', line);
			CONTINUE;
		ELSIF word = 'source' THEN
			source := rest;
		END IF;
		IF known ->> word IS NOT NULL THEN
			SELECT array_agg(p.token ORDER BY p.place) FILTER (WHERE p.token !~ '='), string_agg(p.token, ' ' ORDER BY p.place) FILTER (WHERE p.token !~ '='),
				coalesce(jsonb_object_agg(split_part(p.token, '=', 1), substr(p.token, strpos(p.token, '=') + 1)) FILTER (WHERE p.token ~ '='), '{}'),
				string_agg(p.token, ', ') FILTER (WHERE p.token ~ '=' AND p.token !~ (known -> word ->> 1))
			INTO arguments, words, options, bad
			FROM string_to_table(rest, ' ') WITH ORDINALITY p(token, place);
			IF words IS NULL OR words !~ (known -> word ->> 0) OR bad IS NOT NULL THEN
				faults := faults || format('line %s is not what stands behind "%s": %s', line, word, left(coalesce(bad, rest), 80));
				CONTINUE;
			END IF;
			rest := nullif(concat_ws('; ', source, entry.remark), '');
		END IF;
		RETURN NEXT;
	END LOOP;
	PERFORM submeter.refuse_lines('meter models', faults);
END
$$;
COMMENT ON FUNCTION submeter.model_lines(text) IS
'The lines of a description of meter models: word, model, arguments without and options with "=", and the rest (text, or source and remark). 22023 names lines that are not understood.';

CREATE FUNCTION submeter.model_rows(lines jsonb) RETURNS TABLE(line int, word text, model text, arguments text[], options jsonb, rest text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT l.* FROM jsonb_to_recordset(model_rows.lines) AS l(line int, word text, model text, arguments text[], options jsonb, rest text) $$;
COMMENT ON FUNCTION submeter.model_rows(jsonb) IS 'The lines of model_lines() out of an array of them.';

CREATE FUNCTION submeter.model_faults(lines jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH parsed AS (
		SELECT * FROM submeter.model_rows(model_faults.lines)
	)
	SELECT array_agg(format('%s has %s', m.model, m.fault) ORDER BY m.model, m.fault)
	FROM (SELECT l.model, CASE WHEN count(*) FILTER (WHERE l.word = 'model') > 1 THEN 'two beginnings'
			WHEN count(*) FILTER (WHERE l.word = 'read') <> 1 THEN 'no line "read", or two' WHEN count(*) FILTER (WHERE l.word = 'vendor') <> 1 THEN 'no vendor, or two'
			WHEN count(*) FILTER (WHERE l.word = 'clock') > 1 THEN 'two clocks'
			WHEN count(*) FILTER (WHERE l.word = 'point') = 0 THEN 'no point' END AS fault
		FROM parsed l GROUP BY l.model
		UNION
		SELECT l.model, format('two lines for %s %s', l.word, l.arguments[1]) FROM parsed l
		WHERE l.word IN ('point', 'switch', 'history') GROUP BY l.model, l.word, l.arguments[1] HAVING count(*) > 1
		UNION
		SELECT l.model, format('no place of its protocol in line %s', p.line)
		FROM parsed l
		JOIN parsed p ON p.model = l.model AND p.word IN ('point', 'switch', 'history')
		WHERE l.word = 'read' AND p.arguments[2] !~ CASE l.arguments[1] || ' ' || p.word
			WHEN 'modbus point' THEN '^[1-4]:' WHEN 'modbus switch' THEN '^(5|6|16):'
			WHEN 'dlt645-2007 point' THEN '^[0-9A-F]{8}$' WHEN 'dlt645-2007 switch' THEN '^(28$|20:[0-9A-F]{8}$)' WHEN 'dlt645-2007 history' THEN '^[0-9A-F]{8}$'
			WHEN 'dlt645-1997 point' THEN '^[0-9A-F]{4}$' WHEN 'dlt645-1997 switch' THEN '^4:[0-9A-F]{4}$' WHEN 'dlt645-1997 history' THEN '^[0-9A-F]{4}$'
			ELSE '^$' END) m
	WHERE m.fault IS NOT NULL
$$;
COMMENT ON FUNCTION submeter.model_faults(jsonb) IS 'What is wrong with models as wholes: lines that are missing, said twice, or of another protocol; NULL when nothing is.';

CREATE FUNCTION submeter.write_models(lines jsonb, builtin boolean) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: the caller's own rights on the tables decide.
	INSERT INTO submeter.meter_model AS m (model, vendor, protocol, phases, max_registers, max_gap, turnaround_ms, clock_di, clock_set, clock_write, note, builtin)
	SELECT l.model, max(l.rest) FILTER (WHERE l.word = 'vendor'), max(l.arguments[1]) FILTER (WHERE l.word = 'read'),
		coalesce(max(l.options ->> 'phases'), '1')::int, coalesce(max(l.options ->> 'max'), '125')::int, coalesce(max(l.options ->> 'gap'), '16')::int,
		coalesce(max(l.options ->> 'pause'), '0')::int, max(l.arguments[1]) FILTER (WHERE l.word = 'clock'), max('broadcast') FILTER (WHERE l.word = 'clock' AND 'broadcast' = ANY (l.arguments)),
		coalesce(bool_or('write' = ANY (l.arguments)) FILTER (WHERE l.word = 'clock'), false),
		string_agg(l.rest, ' ' ORDER BY l.line) FILTER (WHERE l.word = 'note'), write_models.builtin
	FROM submeter.model_rows(write_models.lines) l
	GROUP BY l.model
	ORDER BY l.model
	ON CONFLICT (model) DO UPDATE SET vendor = EXCLUDED.vendor, protocol = EXCLUDED.protocol, phases = EXCLUDED.phases, max_registers = EXCLUDED.max_registers,
		max_gap = EXCLUDED.max_gap, turnaround_ms = EXCLUDED.turnaround_ms, clock_di = EXCLUDED.clock_di, clock_set = EXCLUDED.clock_set, clock_write = EXCLUDED.clock_write, note = EXCLUDED.note
	WHERE m.builtin = EXCLUDED.builtin AND m IS DISTINCT FROM EXCLUDED
$$;
COMMENT ON FUNCTION submeter.write_models(jsonb, boolean) IS 'Writes the models themselves, without points and instructions; those of the other kind stay as they are.';

CREATE FUNCTION submeter.write_points(lines jsonb, models text[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: the caller's own rights on the tables decide.
	-- Only what differs is touched, so that a repetition leaves no trace and wakes nobody.
	WITH wanted AS (
		SELECT l.model, l.arguments[1] AS metric, w.at[1]::smallint AS function, w.at[2]::int AS address, CASE WHEN w.at IS NULL THEN l.arguments[2] END AS di,
			split_part(l.options ->> 'block', '+', 1) AS block_di, split_part(l.options ->> 'block', '+', 2)::int AS block_offset,
			CASE WHEN w.at IS NULL THEN right(l.arguments[3], 1) END::smallint AS bytes, CASE WHEN w.at IS NULL THEN rtrim(l.arguments[3], '0123456789') ELSE l.arguments[3] END AS type,
			l.arguments[4]::numeric AS scale, coalesce(l.options ->> 'mask', '65535')::int AS bit_mask, (l.options ->> 'closed')::int AS closed_value, (l.options ->> 'open')::int AS open_value,
			split_part(l.options ->> 'lock', ':', 1)::int AS lock_mask, split_part(l.options ->> 'lock', ':', 2)::int AS lock_value,
			split_part(l.options ->> 'keep', ':', 1)::int AS keep_mask, split_part(l.options ->> 'keep', ':', 2)::int AS keep_value, l.rest AS source
		FROM submeter.model_rows(write_points.lines) l
		CROSS JOIN LATERAL (SELECT CASE WHEN l.arguments[2] ~ ':' THEN string_to_array(l.arguments[2], ':') END AS at) w
		WHERE l.word = 'point' AND l.model = ANY (write_points.models)
	), gone AS (
		DELETE FROM submeter.meter_point p WHERE p.model = ANY (write_points.models) AND NOT EXISTS (SELECT FROM wanted w WHERE w.model = p.model AND w.metric = p.metric)
	)
	INSERT INTO submeter.meter_point AS p (model, metric, function, address, di, block_di, block_offset, bytes, type, scale, bit_mask, closed_value, open_value, lock_mask, lock_value, keep_mask, keep_value, source)
	SELECT w.model, w.metric, w.function, w.address, w.di, w.block_di, w.block_offset, w.bytes, w.type, w.scale, w.bit_mask, w.closed_value, w.open_value, w.lock_mask, w.lock_value, w.keep_mask, w.keep_value, w.source FROM wanted w
	ON CONFLICT (model, metric) DO UPDATE SET function = EXCLUDED.function, address = EXCLUDED.address, di = EXCLUDED.di, block_di = EXCLUDED.block_di, block_offset = EXCLUDED.block_offset,
		bytes = EXCLUDED.bytes, type = EXCLUDED.type, scale = EXCLUDED.scale, bit_mask = EXCLUDED.bit_mask, closed_value = EXCLUDED.closed_value, open_value = EXCLUDED.open_value,
		lock_mask = EXCLUDED.lock_mask, lock_value = EXCLUDED.lock_value, keep_mask = EXCLUDED.keep_mask, keep_value = EXCLUDED.keep_value, source = EXCLUDED.source
	WHERE p IS DISTINCT FROM EXCLUDED
$$;
COMMENT ON FUNCTION submeter.write_points(jsonb, text[]) IS 'Makes the points of these models like the lines say.';

CREATE FUNCTION submeter.write_switches(lines jsonb, models text[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: the caller's own rights on the tables decide.
	WITH wanted AS (
		SELECT l.model, l.arguments[1] AS action, w.at[1]::smallint AS function, CASE WHEN w.at[1] IN ('5', '6', '16') THEN w.at[2] END::int AS address,
			CASE WHEN w.at[1] IN ('4', '20') THEN w.at[2] END AS di, string_to_array(l.arguments[3], ',')::int[] AS registers,
			coalesce(l.options ->> 'valid', '300')::int AS valid_s, coalesce(l.options ->> 'settle', '3000')::int AS settle_ms, l.rest AS source
		FROM submeter.model_rows(write_switches.lines) l
		CROSS JOIN LATERAL (SELECT string_to_array(l.arguments[2], ':') AS at) w
		WHERE l.word = 'switch' AND l.model = ANY (write_switches.models)
	), gone AS (
		DELETE FROM submeter.meter_switch s WHERE s.model = ANY (write_switches.models) AND NOT EXISTS (SELECT FROM wanted w WHERE w.model = s.model AND w.action = s.action)
	)
	INSERT INTO submeter.meter_switch AS s (model, action, function, address, di, registers, valid_s, settle_ms, source)
	SELECT w.model, w.action, w.function, w.address, w.di, w.registers, w.valid_s, w.settle_ms, w.source FROM wanted w
	ON CONFLICT (model, action) DO UPDATE SET function = EXCLUDED.function, address = EXCLUDED.address, di = EXCLUDED.di, registers = EXCLUDED.registers,
		valid_s = EXCLUDED.valid_s, settle_ms = EXCLUDED.settle_ms, source = EXCLUDED.source
	WHERE s IS DISTINCT FROM EXCLUDED
$$;
COMMENT ON FUNCTION submeter.write_switches(jsonb, text[]) IS 'Makes the switch instructions of these models like the lines say.';

CREATE FUNCTION submeter.write_histories(lines jsonb, models text[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	-- authorize: the caller's own rights on the tables decide.
	WITH wanted AS (
		SELECT l.model, l.arguments[1] AS kind, l.arguments[2] AS di, l.options ->> 'time' AS time_di, coalesce(l.options ->> 'offset', '0')::int AS byte_offset,
			coalesce(l.options ->> 'bytes', '4')::smallint AS bytes, coalesce(l.options ->> 'scale', '10')::numeric AS scale, (l.options ->> 'depth')::int AS depth, l.rest AS source
		FROM submeter.model_rows(write_histories.lines) l
		WHERE l.word = 'history' AND l.model = ANY (write_histories.models)
	), gone AS (
		DELETE FROM submeter.meter_history h WHERE h.model = ANY (write_histories.models) AND NOT EXISTS (SELECT FROM wanted w WHERE w.model = h.model AND w.kind = h.kind)
	)
	INSERT INTO submeter.meter_history AS h (model, kind, di, time_di, byte_offset, bytes, scale, depth, source)
	SELECT w.model, w.kind, w.di, w.time_di, w.byte_offset, w.bytes, w.scale, w.depth, w.source FROM wanted w
	ON CONFLICT (model, kind) DO UPDATE SET di = EXCLUDED.di, time_di = EXCLUDED.time_di, byte_offset = EXCLUDED.byte_offset, bytes = EXCLUDED.bytes, scale = EXCLUDED.scale,
		depth = EXCLUDED.depth, source = EXCLUDED.source
	WHERE h IS DISTINCT FROM EXCLUDED
$$;
COMMENT ON FUNCTION submeter.write_histories(jsonb, text[]) IS 'Makes what these models keep of the past like the lines say.';

CREATE FUNCTION submeter.store_models(definition text, builtin boolean) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines jsonb := (SELECT jsonb_agg(l) FROM submeter.model_lines(store_models.definition) l);
	names text[];
BEGIN
	-- authorize: the caller's own rights on the tables decide.
	PERFORM submeter.refuse_lines('meter models', submeter.model_faults(lines));
	PERFORM submeter.write_models(lines, store_models.builtin);
	-- A name that the other kind has already: what users made stays theirs.
	SELECT array_agg(m.model ORDER BY m.model) INTO names
	FROM submeter.meter_model m
	WHERE m.builtin = store_models.builtin AND m.model IN (SELECT l.model FROM submeter.model_rows(lines) l);
	PERFORM submeter.write_points(lines, names);
	PERFORM submeter.write_switches(lines, names);
	PERFORM submeter.write_histories(lines, names);
	RETURN coalesce(cardinality(names), 0);
END
$$;
COMMENT ON FUNCTION submeter.store_models(text, boolean) IS
'Writes the models of a description, all of the built-in or all of the users'' own kind, and makes those that exist like it; models of the other kind are left alone. Returns how many there are.';

CREATE FUNCTION submeter.load_meter_models() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM submeter.store_models(submeter.built_in_models(), true);
END
$$;
COMMENT ON FUNCTION submeter.load_meter_models() IS
'Writes the built-in meter models, their points, switch instructions and histories; users'' own models are not touched.';

CREATE FUNCTION submeter.add_meter_models(definition text) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	faults text[];
BEGIN
	SELECT array_agg(format('%s is the name of a built-in model', m.model) ORDER BY m.model) INTO faults
	FROM submeter.meter_model m
	WHERE m.builtin AND m.model IN (SELECT l.model FROM submeter.model_lines(add_meter_models.definition) l);
	PERFORM submeter.refuse_lines('meter models', faults);
	RETURN submeter.store_models(add_meter_models.definition, false);
END
$$;
COMMENT ON FUNCTION submeter.add_meter_models(text) IS
'Adds models of one''s own from the text that submeter-poller check-model has tried on a device, or makes those that exist like it. Returns how many. 22023 names what is wrong; nothing is written then. 42501 without the right to write meter models.';

CREATE FUNCTION submeter.meter_models_text(models text[] DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH named AS (
		SELECT m.* FROM submeter.meter_model m WHERE meter_models_text.models IS NULL OR m.model = ANY (meter_models_text.models)
	), line AS (
		SELECT m.model, 0 AS part, '' AS item, concat_ws(E'\n', 'model ' || m.model, 'vendor ' || m.vendor,
			concat_ws(' ', 'read', m.protocol, 'phases=' || m.phases, 'max=' || m.max_registers, 'gap=' || m.max_gap, 'pause=' || m.turnaround_ms),
			'note ' || regexp_replace(m.note, '\s+', ' ', 'g'), 'clock ' || m.clock_di || coalesce(' ' || m.clock_set, '') || CASE WHEN m.clock_write THEN ' write' ELSE '' END) AS text
		FROM named m
		UNION ALL
		SELECT p.model, 1, p.metric, concat_ws(' ', 'source ' || regexp_replace(coalesce(p.source, 'unknown'), '\s+', ' ', 'g') || E'\npoint', p.metric, coalesce(p.di, p.function || ':' || p.address),
			p.type || coalesce(p.bytes::text, ''), p.scale, 'block=' || p.block_di || '+' || p.block_offset, 'mask=' || nullif(p.bit_mask, 65535), 'closed=' || p.closed_value, 'open=' || p.open_value,
			'lock=' || p.lock_mask || ':' || p.lock_value, 'keep=' || p.keep_mask || ':' || p.keep_value)
		FROM submeter.meter_point p JOIN named m USING (model)
		UNION ALL
		SELECT s.model, 2, s.action, concat_ws(' ', 'source ' || regexp_replace(coalesce(s.source, 'unknown'), '\s+', ' ', 'g') || E'\nswitch', s.action,
			CASE WHEN s.function = 28 THEN '28' ELSE s.function || ':' || coalesce(s.di, s.address::text) END, array_to_string(s.registers, ','),
			'settle=' || s.settle_ms, 'valid=' || s.valid_s)
		FROM submeter.meter_switch s JOIN named m USING (model)
		UNION ALL
		SELECT h.model, 3, h.kind, concat_ws(' ', 'source ' || regexp_replace(coalesce(h.source, 'unknown'), '\s+', ' ', 'g') || E'\nhistory', h.kind, h.di, 'time=' || h.time_di,
			'offset=' || h.byte_offset, 'bytes=' || h.bytes, 'scale=' || h.scale, 'depth=' || h.depth)
		FROM submeter.meter_history h JOIN named m USING (model)
	)
	SELECT string_agg(l.text, E'\n' ORDER BY l.model, l.part, l.item) || E'\n' FROM line l
$$;
COMMENT ON FUNCTION submeter.meter_models_text(text[]) IS
'Models of the database as text, for add_meter_models() elsewhere and for the option --models of submeter-poller; all of them without names.';

GRANT EXECUTE ON FUNCTION submeter.add_meter_models(text), submeter.store_models(text, boolean), submeter.write_models(jsonb, boolean),
	submeter.write_points(jsonb, text[]), submeter.write_switches(jsonb, text[]), submeter.write_histories(jsonb, text[]) TO submeter_admin;
