-- Secrets: sealed at rest, opened only inside functions, tied to their place, sealed anew under another key.
\pset footer off
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'went through';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || regexp_replace(concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, '')), '/[^ "]*/(secret_[a-z]+)', '\1', 'g');
END
$$;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'one', 'One'), (2, 'two', 'Two');

-- 1. What goes in comes out, and only there.
SELECT submeter.set_secret(1, 'merchant/1/private_key', '-----BEGIN…'), submeter.set_secret(1, 'raw', '\x00ff00'::bytea), submeter.set_secret(1, 'empty', '');
SELECT submeter.secret_text(1, 'merchant/1/private_key') AS key, submeter.secret_value(1, 'raw') AS raw, submeter.secret_text(1, 'empty') = '' AS empty;
SELECT submeter.set_secret(1, 'raw', '\x01'::bytea), submeter.set_secret(2, 'raw', 'of another site');
SELECT submeter.secret_value(1, 'raw') AS changed, submeter.secret_text(2, 'raw') AS elsewhere;
-- The same text is never sealed the same way twice, and it is not in there.
SELECT submeter.secret_seal('the same', 'x') <> submeter.secret_seal('the same', 'x') AS differs, position('the same'::bytea IN submeter.secret_seal('the same', 'x')) AS found,
	length(submeter.secret_seal('', 'x')) AS overhead;
SELECT name, set_by, length(sealed) AS bytes FROM submeter.secret WHERE site_id = 1 ORDER BY 1;
SELECT submeter.set_secret(1, 'empty', NULL::text), count(*) FROM submeter.secret WHERE site_id = 1;
SELECT pg_temp.refusal(q) FROM unnest(ARRAY[$$SELECT submeter.set_secret(1, 'Not a name', 'x')$$, $$SELECT submeter.set_secret(1, NULL, 'x')$$,
	$$SELECT submeter.set_secret(3, 'x', 'x')$$, $$SELECT submeter.set_secret(NULL, 'x', 'x')$$, $$SELECT submeter.secret_value(1, 'missing')$$]) q;

-- 2. Moved, changed or foreign values do not open.
UPDATE submeter.secret SET name = 'moved' WHERE site_id = 1 AND name = 'raw';
SELECT pg_temp.refusal($$SELECT submeter.secret_value(1, 'moved')$$) AS moved;
UPDATE submeter.secret SET name = 'raw' WHERE site_id = 1 AND name = 'moved';
SELECT count(*) AS tried, count(*) FILTER (WHERE pg_temp.refusal(format('SELECT submeter.secret_unseal(%L, %L)', set_byte(s, i, get_byte(s, i) # 1), 'x')) NOT LIKE 'went%') AS refused
FROM (SELECT submeter.secret_seal('some bytes', 'x') AS s OFFSET 0) v, generate_series(0, length(s) - 1) i;
SELECT pg_temp.refusal(q) FROM unnest(ARRAY[$$SELECT submeter.secret_unseal('', 'x')$$, $$SELECT submeter.secret_unseal('\x01', 'x')$$,
	format('SELECT submeter.secret_unseal(%L, %L)', submeter.secret_seal('a', 'x'), 'y'), format('SELECT submeter.secret_unseal(%L, %L)', '\x01ffffffffffffffff'::bytea || substr(submeter.secret_seal('a', 'x'), 10), 'x')]) q;

-- 3. Nobody reads them: not in the table, not by the functions.
CREATE ROLE regress_secret_admin LOGIN;
GRANT submeter_admin TO regress_secret_admin;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_secret_admin');
SET SESSION AUTHORIZATION regress_secret_admin;
SELECT pg_temp.refusal(q) FROM unnest(ARRAY['SELECT sealed FROM submeter.secret', $$SELECT submeter.secret_value(1, 'raw')$$, $$SELECT submeter.secret_text(1, 'raw')$$,
	$$SELECT submeter.secret_unseal('', '')$$, $$SELECT submeter.secret_seal('', '')$$, $$SELECT submeter.put_secret(1, 'x', 'x')$$, $$SELECT submeter.set_secret(2, 'x', 'x')$$,
	'SELECT submeter.rotate_secrets(2)', 'SHOW submeter.secret_key_file', $$SET submeter.secret_key_file = '/tmp/x'$$]) q;
SELECT submeter.set_secret(1, 'mine', 'x');
SELECT site_id, name, set_by FROM submeter.secret ORDER BY 2;
RESET SESSION AUTHORIZATION;
-- While one is set, whoever looks at the sessions sees that and no more.
SELECT submeter.set_secret(1, 'mine', 'watched'), (SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS seen;

-- 4. Another key: values sealed earlier open as long as the earlier key is there, and are sealed anew.
SELECT current_setting('submeter.secret_key_file') AS key_file \gset
SELECT format('cat >/dev/null; umask 077; cp %1$s %1$s.first; { openssl rand -hex 32; printf ''# the earlier one\n\n''; cat %1$s.first; } > %1$s', :'key_file') AS program,
	format('cat >/dev/null; mv %1$s.first %1$s', :'key_file') AS undo, format('cat >/dev/null; chmod 644 %s', :'key_file') AS open_it, format('cat >/dev/null; chmod 600 %s', :'key_file') AS close_it,
	format('cat >/dev/null; echo nonsense >> %s', :'key_file') AS spoil \gset
COPY (SELECT 1) TO PROGRAM :'program';
SELECT submeter.secret_value(1, 'raw') AS still_opens,
	substr(sealed, 2, 8) = submeter.secret_key_id() AS under_the_new_one FROM submeter.secret WHERE site_id = 1 AND name = 'raw';
SELECT submeter.rotate_secrets(1) AS rotated, submeter.rotate_secrets(1) AS again;
SELECT site_id, bool_and(substr(sealed, 2, 8) = submeter.secret_key_id()) AS under_the_new_one FROM submeter.secret GROUP BY 1 ORDER BY 1;
SELECT submeter.secret_value(1, 'raw') AS raw, submeter.secret_text(1, 'mine') AS mine;
-- A file that others could read, or with something else in it, is refused; the first key alone opens nothing of the second.
COPY (SELECT 1) TO PROGRAM :'open_it';
SELECT pg_temp.refusal($$SELECT submeter.secret_value(1, 'raw')$$);
COPY (SELECT 1) TO PROGRAM :'close_it';
COPY (SELECT 1) TO PROGRAM :'spoil';
SELECT pg_temp.refusal($$SELECT submeter.secret_value(1, 'raw')$$);
COPY (SELECT 1) TO PROGRAM :'undo';
SELECT pg_temp.refusal($$SELECT submeter.secret_value(1, 'raw')$$);
SELECT submeter.secret_text(2, 'raw') AS not_rotated;
DROP OWNED BY regress_secret_admin;
DROP ROLE regress_secret_admin;
