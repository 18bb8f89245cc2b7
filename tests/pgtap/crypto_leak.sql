-- A hundred thousand messages that are not signed, sealed or keys at all cost a backend no memory: neither
-- what OpenSSL allocates stays behind when one is refused, nor the keys that were seen.
BEGIN;
SELECT plan(8);

CREATE FUNCTION pg_temp.resident_kb() RETURNS int LANGUAGE sql VOLATILE
AS $$ SELECT substring(pg_read_file(format('/proc/%s/status', pg_backend_pid())) FROM 'VmRSS:\s+([0-9]+) kB')::int $$;
CREATE TABLE pg_temp.key (pem text);
\set certificate `cat tests/data/provider/alipay_public.crt`
INSERT INTO pg_temp.key VALUES (:'certificate');

-- Runs an expression so often; n is its number and pem a good key. What it raises must be one of ours.
CREATE FUNCTION pg_temp.growth(expression text, times int) RETURNS int LANGUAGE plpgsql
AS $$
DECLARE
	pem text := (SELECT k.pem FROM pg_temp.key k);
	before int;
	ignored text;
BEGIN
	FOR turn IN 1 .. 2 LOOP
		before := pg_temp.resident_kb();
		EXECUTE format('DO $do$ DECLARE x text; pem text := %L; BEGIN FOR n IN 1 .. %s LOOP
			BEGIN x := (%s)::text; EXCEPTION WHEN invalid_parameter_value THEN NULL; END; END LOOP; END $do$', pem, CASE turn WHEN 1 THEN least(times, 2000) ELSE times END, expression);
	END LOOP;
	RETURN pg_temp.resident_kb() - before;
END
$$;
SELECT cmp_ok(pg_temp.growth($$submeter.rsa_sha256_verify('message', decode(md5(n::text) || repeat('00', 240), 'hex'), pem)$$, 100000), '<', 4096, 'signatures that are none');
SELECT cmp_ok(pg_temp.growth($$submeter.alipay_notify_verify(convert_to('a=' || n || '&sign=' || encode(decode(md5(n::text) || repeat('00', 240), 'hex'), 'base64'), 'UTF8'), pem)$$, 5000), '<', 4096, 'notifications');
SELECT cmp_ok(pg_temp.growth($$submeter.alipay_response_verify(convert_to('{"n":{"a":' || n || '},"sign":"AAAA"}', 'UTF8'), 'n', pem)$$, 5000), '<', 4096, 'answers');
SELECT cmp_ok(pg_temp.growth($$submeter.wechat_open(convert_to('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"012345678901","ciphertext":"' || encode(sha256(n::text::bytea), 'base64') || '"}}', 'UTF8'), repeat('k', 32))$$, 3000), '<', 4096, 'sealed messages');
SELECT cmp_ok(pg_temp.growth($$submeter.aes_gcm_decrypt(repeat('k', 32)::bytea, '012345678901', '', sha256(n::text::bytea))$$, 5000), '<', 4096, 'sealed bytes');
SELECT cmp_ok(pg_temp.growth($$submeter.rsa_sha256_verify('', '', 'no key ' || n)$$, 5000), '<', 4096, 'keys that are none');
SELECT cmp_ok(pg_temp.growth($$submeter.rsa_sha256_sign('', 'MII' || md5(n::text) || 'A')$$, 3000), '<', 4096, 'private keys that are none');
-- Each text of a key is a key of its own to the backend, which keeps the last ones.
SELECT cmp_ok(pg_temp.growth($$submeter.rsa_sha256_verify('', '', pem || repeat(E'\n', n % 5000))$$, 3000), '<', 4096, 'many keys');
SELECT * FROM finish();
ROLLBACK;
