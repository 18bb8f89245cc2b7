-- Signatures of 100 messages of 600 bytes, each verified 300 times; seconds by the clock of the server.
\pset tuples_only
\pset format unaligned
\pset fieldsep ' '
CREATE TEMP TABLE pem (line text, nr int GENERATED ALWAYS AS IDENTITY, name text);
COPY pem (line) FROM PROGRAM 'umask 077; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null | tee /tmp/submeter_bench.$PPID.pem';
UPDATE pem SET name = 'private';
COPY pem (line) FROM PROGRAM 'openssl rsa -in /tmp/submeter_bench.$PPID.pem -pubout 2>/dev/null; rm -f /tmp/submeter_bench.$PPID.pem';
UPDATE pem SET name = 'public' WHERE name IS NULL;
CREATE TEMP TABLE signed AS
SELECT m.message, submeter.rsa_sha256_sign(m.message, (SELECT string_agg(line, E'\n' ORDER BY nr) FROM pem WHERE name = 'private')) AS signature,
	(SELECT string_agg(line, E'\n' ORDER BY nr) FROM pem WHERE name = 'public') AS pem
FROM (SELECT convert_to(rpad(n::text, 600, 'x'), 'UTF8') AS message FROM generate_series(1, 100) n) m;
ANALYZE signed;
SET max_parallel_workers_per_gather = 0;
SELECT clock_timestamp() AS begun \gset
SELECT 'good', count(*) FILTER (WHERE submeter.rsa_sha256_verify(s.message, s.signature, s.pem)) FROM signed s, generate_series(1, 300) n;
SELECT 'verify', extract(epoch FROM clock_timestamp() - :'begun');
