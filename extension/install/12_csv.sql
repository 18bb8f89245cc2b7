-- Room: CSV files. What people keep in spreadsheets, read strictly: every line that is wrong is named, and then nothing is done.

CREATE FUNCTION submeter.refuse_lines(subject text, faults text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cardinality(refuse_lines.faults) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('%s: %s', refuse_lines.subject, CASE cardinality(refuse_lines.faults) WHEN 1 THEN '1 fault' ELSE cardinality(refuse_lines.faults) || ' faults' END),
			DETAIL = array_to_string(refuse_lines.faults[1:20], '; ')
				|| CASE WHEN cardinality(refuse_lines.faults) > 20 THEN format('; and %s more.', cardinality(refuse_lines.faults) - 20) ELSE '.' END,
			HINT = 'Correct the file and load it again; nothing of it was written.';
	END IF;
END
$$;
COMMENT ON FUNCTION submeter.refuse_lines(text, text[]) IS 'Refuses (22023) a file with faults: names the first 20 of them. Nothing when there are none.';

CREATE FUNCTION submeter.csv_rows(csv text) RETURNS TABLE (line int, fields text[])
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most_characters CONSTANT int := 4000000;
	body text := replace(replace(csv_rows.csv, E'\r\n', E'\n'), E'\r', E'\n');
	broken int;
BEGIN
	IF btrim(coalesce(body, ''), E' \n\t\uFEFF') = '' OR length(body) > most_characters THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'this is no CSV file to load',
			DETAIL = CASE WHEN length(body) > most_characters THEN format('It has more than %s characters.', most_characters) ELSE 'It is empty.' END,
			HINT = 'Pass the text of the file: a header line and one line per row, fields separated by comma.';
	END IF;
	-- Spreadsheets mark UTF-8 by a byte order mark; a last line may lack its end.
	body := regexp_replace(body, '^\uFEFF', '') || E'\n';
	RETURN QUERY
	WITH piece AS (
		SELECT p.ord, p.match[1] AS text, right(p.match[1], 1) = E'\n' AS ends_row,
			sum(length(p.match[1])) OVER w - length(p.match[1]) AS before,
			sum(length(p.match[1]) - length(replace(p.match[1], E'\n', ''))) OVER w - length(p.match[1]) + length(replace(p.match[1], E'\n', '')) AS lines_before
		FROM regexp_matches(body, E'((?:"(?:[^"]|"")*"|[^",\n]*)[,\n])', 'g') WITH ORDINALITY p(match, ord)
		WINDOW w AS (ORDER BY p.ord)
	), placed AS (
		SELECT p.*, count(*) FILTER (WHERE p.ends_row) OVER (ORDER BY p.ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS row_no,
			-- Where a quote stands in the wrong place the pieces do not follow on each other.
			substr(body, p.before::int + 1, length(p.text)) <> p.text AS is_broken
		FROM piece p
	)
	SELECT CASE WHEN bool_or(q.is_broken) THEN -min(q.lines_before)::int - 1 ELSE min(q.lines_before)::int + 1 END,
		array_agg(CASE WHEN left(q.text, 1) = '"' THEN replace(substr(q.text, 2, length(q.text) - 3), '""', '"') ELSE btrim(left(q.text, -1), E' \t') END ORDER BY q.ord)
	FROM placed q
	GROUP BY q.row_no
	HAVING bool_or(q.is_broken) OR bool_or(q.text !~ E'^[ \t]*[,\n]$')
	ORDER BY min(q.ord);
END
$$;
COMMENT ON FUNCTION submeter.csv_rows(text) IS
'Rows of a CSV file (RFC 4180: quoted fields, doubled quotes, LF or CRLF, with or without byte order mark) with the line each begins on; empty rows are left out. From where a quote stands in the wrong place the line is negative: csv_records() refuses that.';

CREATE FUNCTION submeter.csv_records(csv text, required text[], optional text[]) RETURNS TABLE (line int, record jsonb)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	header text[];
	names text[];
	faults text[] := '{}';
BEGIN
	FOR item IN SELECT r.line, r.fields FROM submeter.csv_rows(csv_records.csv) r
	LOOP
		IF item.line < 0 THEN
			faults := faults || format('line %s: a quote stands in the middle of a field or is not closed', -item.line);
			EXIT;
		ELSIF header IS NULL THEN
			header := ARRAY(SELECT lower(btrim(f.name)) FROM unnest(item.fields) WITH ORDINALITY f(name, ord) ORDER BY f.ord);
			SELECT array_agg(x.fault ORDER BY x.fault) INTO names FROM (
				SELECT format('line %s: column %s is missing', item.line, r) AS fault FROM unnest(csv_records.required) r WHERE r <> ALL (header)
				UNION ALL
				SELECT format('line %s: column "%s" is not known', item.line, h) FROM unnest(header) h WHERE h <> ALL (csv_records.required || csv_records.optional)
				UNION ALL
				SELECT format('line %s: column %s is there twice', item.line, h) FROM unnest(header) h GROUP BY h HAVING count(*) > 1) x;
			IF names IS NOT NULL THEN
				RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the header of the file is not the one expected',
					DETAIL = array_to_string(names, '; ') || '.',
					HINT = format('The columns are %s%s, separated by comma.', array_to_string(csv_records.required, ', '),
						coalesce(', and if wanted ' || nullif(array_to_string(csv_records.optional, ', '), ''), ''));
			END IF;
		ELSIF cardinality(item.fields) <> cardinality(header) THEN
			faults := faults || format('line %s: %s fields instead of %s', item.line, cardinality(item.fields), cardinality(header));
		ELSE
			line := item.line;
			record := (SELECT jsonb_object_agg(h.name, nullif(btrim(f.value), ''))
				FROM unnest(header) WITH ORDINALITY h(name, ord) JOIN unnest(item.fields) WITH ORDINALITY f(value, ord) USING (ord));
			RETURN NEXT;
		END IF;
	END LOOP;
	PERFORM submeter.refuse_lines('the file cannot be read', faults);
END
$$;
COMMENT ON FUNCTION submeter.csv_records(text, text[], text[]) IS
'Rows of a CSV file as objects by the names in its header, empty fields null. 22023 for columns that are missing, unknown or double, and for lines with another number of fields, each named.';

CREATE FUNCTION submeter.csv_time(value text, time_zone text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF csv_time.value ~ '^\d{4}([-/])\d{1,2}\1\d{1,2}([ T]\d{1,2}:\d{2}(:\d{2})?)?$' THEN
		RETURN csv_time.value::timestamp AT TIME ZONE csv_time.time_zone;
	ELSIF csv_time.value ~ '^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2})? ?(Z|[+-]\d{2}(:?\d{2})?)$' THEN
		RETURN csv_time.value::timestamptz;
	END IF;
	RETURN NULL;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_text_representation THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION submeter.csv_time(text, text) IS
'A date or time of a file: 2026-01-31, 2026/1/31 or 2026-01-31 00:30 local to the zone, or with an offset; NULL when it is none.';
