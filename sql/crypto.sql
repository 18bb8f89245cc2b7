-- Signatures and sealed messages of the payment providers: examples they published themselves, and everything that is to be refused.
\pset footer off
SET client_min_messages = warning;
\getenv srcdir PG_ABS_SRCDIR
\set file :srcdir /tests/data/provider/alipay_root.crt
\set root `cat :file`
\set file :srcdir /tests/data/provider/alipay_public.crt
\set alipay `cat :file`
\set file :srcdir /tests/data/provider/wechat_platform.crt
\set wechat `cat :file`
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
	outcome text;
BEGIN
	EXECUTE statement INTO outcome;
	RETURN coalesce(outcome, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;
-- Keys of our own, made anew each time.
CREATE TABLE pg_temp.pem (line text, nr int GENERATED ALWAYS AS IDENTITY, name text);
COPY pg_temp.pem (line) FROM PROGRAM 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null > /tmp/submeter_regress.$PPID.pem; cat /tmp/submeter_regress.$PPID.pem';
UPDATE pg_temp.pem SET name = 'private' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl rsa -in /tmp/submeter_regress.$PPID.pem -traditional 2>/dev/null';
UPDATE pg_temp.pem SET name = 'pkcs1' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl rsa -in /tmp/submeter_regress.$PPID.pem -pubout 2>/dev/null';
UPDATE pg_temp.pem SET name = 'public' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl rsa -in /tmp/submeter_regress.$PPID.pem -RSAPublicKey_out 2>/dev/null';
UPDATE pg_temp.pem SET name = 'rsa_public' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl req -x509 -key /tmp/submeter_regress.$PPID.pem -subj "/C=CN/O=Test, Inc; #1/CN=支付" -utf8 -days 9 -set_serial 255 2>/dev/null';
UPDATE pg_temp.pem SET name = 'cert' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl pkcs8 -topk8 -in /tmp/submeter_regress.$PPID.pem -passout pass:x 2>/dev/null';
UPDATE pg_temp.pem SET name = 'encrypted' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 2>/dev/null | openssl rsa -pubout 2>/dev/null; rm -f /tmp/submeter_regress.$PPID.pem';
UPDATE pg_temp.pem SET name = 'short' WHERE name IS NULL;
COPY pg_temp.pem (line) FROM PROGRAM 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null | openssl pkey -pubout 2>/dev/null';
UPDATE pg_temp.pem SET name = 'ec' WHERE name IS NULL;
CREATE FUNCTION pg_temp.pem(name text) RETURNS text LANGUAGE sql AS $$SELECT string_agg(line, E'\n' ORDER BY nr) FROM pg_temp.pem p WHERE p.name = $1$$;
CREATE FUNCTION pg_temp.bare(name text) RETURNS text LANGUAGE sql AS $$SELECT string_agg(line, '' ORDER BY nr) FROM pg_temp.pem p WHERE p.name = $1 AND line !~ '^-'$$;
SELECT name, count(*) > 3 AS there FROM pg_temp.pem GROUP BY 1 ORDER BY 1;

-- 1. Published: WeChat Pay's Go SDK (signature and AES-GCM), numbers of Alipay's certificates (its Node SDK), AES-256-GCM (NIST, test case 16)
SELECT submeter.rsa_sha256_verify('source', decode('BKyAfU4iMCuvXMXS0Wzam3V/cnxZ+JaqigPM5OhljS2iOT95OO6Fsuml2JkFANJU9K6q9bLlDhPXuoVz+pp4hAm6pHU4ld815U4jsKu1RkyaII+1CYBUYC8TK0XtJ8FwUXXz8vZHh58rrAVN1XwNyvD1vfpxrMT4SL536GLwvpUHlCqIMzoZUguLli/K8V29QiOhuH6IEqLNJn8e9b3nwNcQ7be3CzYGpDAKBfDGPCqCv8Rw5zndhlffk2FEA70G4hvMwe51qMN/RAJbknXG23bSlObuTCN7Ndj1aJGH6/L+hdwfLpUtJm4QYVazzW7DFD27EpSQEqA8bX9+8m1rLg==', 'base64'), :'wechat') AS signed,
	submeter.rsa_sha256_verify('wrong source', decode('BKyAfU4iMCuvXMXS0Wzam3V/cnxZ+JaqigPM5OhljS2iOT95OO6Fsuml2JkFANJU9K6q9bLlDhPXuoVz+pp4hAm6pHU4ld815U4jsKu1RkyaII+1CYBUYC8TK0XtJ8FwUXXz8vZHh58rrAVN1XwNyvD1vfpxrMT4SL536GLwvpUHlCqIMzoZUguLli/K8V29QiOhuH6IEqLNJn8e9b3nwNcQ7be3CzYGpDAKBfDGPCqCv8Rw5zndhlffk2FEA70G4hvMwe51qMN/RAJbknXG23bSlObuTCN7Ndj1aJGH6/L+hdwfLpUtJm4QYVazzW7DFD27EpSQEqA8bX9+8m1rLg==', 'base64'), :'wechat') AS other;
SELECT convert_from(submeter.aes_gcm_decrypt('testAPIv3Key0000', 'wCq51qZv4Yfg', 'Dl56FrqWQJF1t9LtC3vEUsniZKvbqdR8', decode('FsdXzxryWfKwvLJKf8LG/ToRPTRh8RN9wROC', 'base64')), 'UTF8') AS wechat,
	submeter.aes_gcm_decrypt('\xfeffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308', '\xcafebabefacedbaddecaf888', '\xfeedfacedeadbeeffeedfacedeadbeefabaddad2',
		'\x522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b') AS nist;
SELECT submeter.alipay_root_cert_sn(:'root') AS roots, submeter.alipay_cert_sn(:'alipay') AS leaf, submeter.alipay_cert_sn(:'root') AS the_first, submeter.is_public_key(:'alipay') AS key;
-- Two certificates in a file: the number is that of the first. Issuers are written as RFC 2253 has it, whatever is in them.
SELECT submeter.alipay_cert_sn(:'alipay' || E'\n' || :'wechat') = submeter.alipay_cert_sn(:'alipay') AS first_counts, submeter.alipay_cert_sn(E'Bag Attributes\n  name: x\n' || :'alipay') = submeter.alipay_cert_sn(:'alipay') AS words_before,
	submeter.alipay_cert_sn(pg_temp.pem('cert')) = md5('CN=支付,O=Test\, Inc\; #1,C=CN255') AS awkward_issuer;

-- 2. Our own signatures, with each way of writing a key
SELECT p AS private, k AS public, submeter.rsa_sha256_verify('a message', submeter.rsa_sha256_sign('a message', CASE p WHEN 'bare' THEN pg_temp.bare('private') ELSE pg_temp.pem(p) END),
	CASE k WHEN 'bare' THEN pg_temp.bare('public') ELSE pg_temp.pem(k) END) AS good
FROM unnest('{private,pkcs1,bare}'::text[]) p, unnest('{public,rsa_public,cert,bare}'::text[]) k ORDER BY 1, 2;
SELECT length(submeter.rsa_sha256_sign('', pg_temp.pem('private'))) AS bytes, submeter.rsa_sha256_verify('', submeter.rsa_sha256_sign('', pg_temp.pem('private')), pg_temp.pem('public')) AS nothing_signed;
-- Any changed bit, any length: false, never an error.
WITH s AS MATERIALIZED (SELECT submeter.rsa_sha256_sign('a message', pg_temp.pem('private')) AS s, pg_temp.pem('public') AS k)
SELECT count(*) FILTER (WHERE submeter.rsa_sha256_verify('a message', set_bit(s, i * 16, 1 - get_bit(s, i * 16)), k)) AS changed, count(*) FILTER (WHERE submeter.rsa_sha256_verify('a message', substr(s, 1, i), k)) AS shorter,
	count(*) FILTER (WHERE submeter.rsa_sha256_verify('a message', s || substr(s, 1, i + 1), k)) AS longer, count(*) AS tried FROM s, generate_series(0, 127) i;
-- Keys that are none: one clear error that does not show them.
SELECT k AS key, pg_temp.refusal(format('SELECT submeter.rsa_sha256_verify(%L, %L, %L)', 'a', 'b', CASE k WHEN 'none' THEN '' WHEN 'words' THEN 'no key at all' WHEN 'cut' THEN left(pg_temp.pem('public'), 200) WHEN 'spoilt' THEN overlay(pg_temp.pem('public') PLACING 'AAAA' FROM 40)
	WHEN 'begin' THEN '-----BEGIN PUBLIC KEY-----' WHEN 'long' THEN repeat('A', 100000) ELSE pg_temp.pem(k) END)) AS verify FROM unnest('{none,words,cut,spoilt,begin,long,private,encrypted,short,ec}'::text[]) k;
SELECT k AS key, pg_temp.refusal(format('SELECT submeter.rsa_sha256_sign(%L, %L)', 'a', CASE k WHEN 'none' THEN '' ELSE pg_temp.pem(k) END)) AS sign FROM unnest('{none,public,cert,encrypted}'::text[]) k;
SELECT k AS text, pg_temp.refusal(format('SELECT submeter.alipay_cert_sn(%L)', CASE k WHEN 'none' THEN '' ELSE pg_temp.pem(k) END)) AS cert, pg_temp.refusal(format('SELECT submeter.alipay_root_cert_sn(%L)', CASE k WHEN 'none' THEN '' ELSE pg_temp.pem(k) END)) AS root FROM unnest('{none,public}'::text[]) k;
SELECT pg_temp.refusal(format('SELECT submeter.alipay_root_cert_sn(%L)', :'root' || E'\n' || pg_temp.pem('public'))) AS something_else_in_it;
SELECT pg_temp.refusal(format('SELECT submeter.aes_gcm_decrypt(%L, %L, %L, %L)', k, n, a, c)) AS refusal FROM (VALUES ('short', 'wCq51qZv4Yfg', '', 'x'), ('testAPIv3Key0000', '', '', repeat('x', 16)), ('testAPIv3Key0000', repeat('n', 129), '', repeat('x', 16)),
	('testAPIv3Key0000', 'wCq51qZv4Yfg', '', repeat('x', 15)), ('testAPIv3Key0000', 'wCq51qZv4Yfg', '', repeat('x', 16)), (repeat('k', 24), 'wCq51qZv4Yfg', '', repeat('x', 16))) v(k, n, a, c);

-- 3. Notifications of Alipay
CREATE FUNCTION pg_temp.sign(message bytea) RETURNS text LANGUAGE sql AS $$SELECT translate(encode(submeter.rsa_sha256_sign(message, pg_temp.pem('private')), 'base64'), E'\n', '')$$;
CREATE FUNCTION pg_temp.notify(body text, signed text) RETURNS boolean
LANGUAGE sql AS $$SELECT submeter.alipay_notify_verify(convert_to(body || '&sign=' || submeter.url_encode(pg_temp.sign(convert_to(signed, 'UTF8'))), 'UTF8'), pg_temp.pem('public'))$$;
SELECT what, pg_temp.notify(body, signed) AS believed FROM (VALUES
	('plain', 'b=2&a=1&sign_type=RSA2', 'a=1&b=2'), ('plus and %20', 'a=1+2%203%2B4', 'a=1 2 3+4'), ('percent once', 'a=%2525', 'a=%25'), ('chinese', 'subject=%E7%94%B5%E8%B4%B9', 'subject=电费'),
	('empty counts', 'a=1&b=', 'a=1&b='), ('empty left out', 'a=1&b=', 'a=1'), ('no equals', 'a=1&b', 'a=1&b='), ('names sorted by bytes', 'a1=1&a=2&B=3', 'B=3&a=2&a1=1'), ('unknown field', 'a=1&zzz=9', 'a=1&zzz=9'), ('one more than signed', 'a=1&b=2', 'a=1'),
	('sign_type signed', 'a=1&sign_type=RSA2', 'a=1&sign_type=RSA2'), ('sign_type RSA', 'a=1&sign_type=RSA', 'a=1'), ('twice', 'a=1&a=1', 'a=1&a=1'), ('bad percent', 'a=%zz', 'a=%zz'), ('cut percent', 'a=1%2', 'a=1%2'), ('no name', '=1&a=1', '=1&a=1'), ('html', 'a=%26quot%3B', 'a=&quot;'), ('nothing', '', '')) v(what, body, signed);
SELECT submeter.alipay_notify_verify(b, pg_temp.pem('public')) AS believed FROM unnest(ARRAY['', '&', 'a=1', 'sign=', 'a=1&sign=%41', 'a=1&sign=' || repeat('A', 344), '\x00', 'a=1&sign=x&sign=y']::bytea[]) b;
-- In GBK the bytes count as they came.
SELECT submeter.alipay_notify_verify(convert_to('charset=gbk&subject=', 'UTF8') || convert_to(replace(upper(regexp_replace(encode(convert_to('电费', 'GBK'), 'hex'), '(..)', '%\1', 'g')), '%%', '%'), 'UTF8') || convert_to('&sign=' || submeter.url_encode(pg_temp.sign('charset=gbk&subject='::bytea || convert_to('电费', 'GBK'))), 'UTF8'), pg_temp.pem('public')) AS gbk;
SELECT pg_temp.refusal($$SELECT submeter.alipay_notify_verify('a', 'no key')$$) AS bad_key;

-- 4. Answers of Alipay: the bytes of the node, read by structure
CREATE FUNCTION pg_temp.answer(body text, signed text, node text DEFAULT 'n_response') RETURNS boolean
LANGUAGE sql AS $$SELECT submeter.alipay_response_verify(convert_to(replace(body, 'SIGN', pg_temp.sign(convert_to(signed, 'UTF8'))), 'UTF8'), node, pg_temp.pem('public'))$$;
SELECT what, pg_temp.answer(body, signed) AS believed FROM (VALUES
	('plain', '{"n_response":{"code":"10000"},"sign":"SIGN"}', '{"code":"10000"}'), ('sign first', '{"sign":"SIGN","n_response":{"a":1}}', '{"a":1}'), ('blanks around', E' {\n "n_response" : {"a": 1} ,\r\n\t"alipay_cert_sn":"x", "sign" : "SIGN" } \n', '{"a": 1}'),
	('one blank more', '{"n_response":{"a": 1},"sign":"SIGN"}', '{"a":1}'), ('braces in strings', '{"n_response":{"a":"}{\"]["},"sign":"SIGN"}', '{"a":"}{\"]["}'), ('backslashes', '{"n_response":{"a":"\\\\"},"sign":"SIGN"}', '{"a":"\\\\"}'), ('sign inside', '{"n_response":{"sign":"x","b":{"n":[1,{}]}},"sign":"SIGN"}', '{"sign":"x","b":{"n":[1,{}]}}'),
	('sealed', '{"n_response":"c2VhbGVk","sign":"SIGN"}', '"c2VhbGVk"'), ('node twice', '{"n_response":{"a":1},"sign":"SIGN","n_response":{"a":2}}', '{"a":1}'), ('node twice, other way', '{"n_response":{"a":2},"n_response":{"a":1},"sign":"SIGN"}', '{"a":1}'),
	('node in another value', '{"n_response":{"a":1},"x":{"n_response":{"a":2}},"sign":"SIGN"}', '{"a":1}'), ('node before, in a value', '{"x":{"n_response":{"a":2}},"n_response":{"a":1},"sign":"SIGN"}', '{"a":1}'), ('escaped name', '{"n_response":{"a":1},"n\u005fresponse":{"a":2},"sign":"SIGN"}', '{"a":1}'), ('sign twice', '{"n_response":{"a":1},"sign":"x","sign":"SIGN"}', '{"a":1}'),
	('behind it', '{"n_response":{"a":1},"sign":"SIGN"}{"n_response":{"a":2}}', '{"a":1}'), ('not closed', '{"n_response":{"a":1},"sign":"SIGN"', '{"a":1}'), ('mixed brackets', '{"n_response":{"a":[1}},"sign":"SIGN"}', '{"a":[1}}'), ('a number', '{"n_response":1,"sign":"SIGN"}', '1'), ('no sign', '{"n_response":{"a":1}}', '{"a":1}'), ('sign no text', '{"n_response":{"a":1},"sign":5}', '{"a":1}'),
	('only nested', '{"x":{"n_response":{"a":1}},"sign":"SIGN"}', '{"a":1}'), ('array', '[{"n_response":{"a":1},"sign":"SIGN"}]', '{"a":1}'), ('other node', '{"m_response":{"a":1},"sign":"SIGN"}', '{"a":1}'), ('too deep', '{"n_response":{"a":' || repeat('[', 100) || repeat(']', 100) || '},"sign":"SIGN"}', '{"a":' || repeat('[', 100) || repeat(']', 100) || '}')) v(what, body, signed);
-- In GBK a second byte may be a backslash (誠 is B8 5C in Big5, 乗 81 5C in GBK): the string still ends where it ends.
SELECT submeter.alipay_response_verify('\x7b226e223a7b226d223a22815c227d2c227369676e223a22'::bytea || convert_to(pg_temp.sign('\x7b226d223a22815c227d'), 'UTF8') || '\x227d'::bytea, 'n', pg_temp.pem('public')) AS gbk;
SELECT submeter.alipay_response_verify(b, 'n_response', pg_temp.pem('public')) AS believed FROM unnest(ARRAY['', '{', '{}', '{"', '{"\\', 'null', '\x00', '{"n_response":']::bytea[]) b;
SELECT pg_temp.answer('{"sign":{"a":1}}', '{"a":1}', 'sign') AS node_sign, pg_temp.answer('{"":{"a":1},"sign":"SIGN"}', '{"a":1}', '') AS no_node;

-- 5. WeChat Pay: headers, window, keys, probes
CREATE FUNCTION pg_temp.headers(changes jsonb DEFAULT '{}', at text DEFAULT '1700000000', nonce text DEFAULT 'nonce', body text DEFAULT '{"a":1}') RETURNS jsonb
LANGUAGE sql AS $$SELECT jsonb_build_object('Wechatpay-Serial', 'KEY', 'Wechatpay-Timestamp', at, 'Wechatpay-Nonce', nonce, 'Wechatpay-Signature', pg_temp.sign(convert_to(concat_ws(E'\n', at, nonce, body, ''), 'UTF8'))) || changes$$;
CREATE FUNCTION pg_temp.wechat(headers jsonb, body text DEFAULT '{"a":1}', as_of timestamptz DEFAULT to_timestamp(1700000000)) RETURNS boolean
LANGUAGE sql AS $$SELECT submeter.wechat_verify(headers, convert_to(body, 'UTF8'), jsonb_build_object('KEY', pg_temp.pem('public'), 'PUB_KEY_ID_1', pg_temp.pem('cert')), as_of)$$;
SELECT what, pg_temp.wechat(h, b, to_timestamp(1700000000 + s)) AS believed FROM (VALUES ('plain', pg_temp.headers(), '{"a":1}', 0), ('299 s late', pg_temp.headers(), '{"a":1}', 299), ('300 s late', pg_temp.headers(), '{"a":1}', 300), ('299 s early', pg_temp.headers(), '{"a":1}', -299), ('300 s early', pg_temp.headers(), '{"a":1}', -300),
	('empty body', pg_temp.headers(body => ''), '', 0), ('other body', pg_temp.headers(), '{"a":2}', 0), ('by key id', pg_temp.headers('{"Wechatpay-Serial":"PUB_KEY_ID_1"}'), '{"a":1}', 0), ('unknown key', pg_temp.headers('{"Wechatpay-Serial":"OTHER"}'), '{"a":1}', 0),
	('known type', pg_temp.headers('{"Wechatpay-Signature-Type":"WECHATPAY2-SHA256-RSA2048"}'), '{"a":1}', 0), ('unknown type', pg_temp.headers('{"Wechatpay-Signature-Type":"WECHATPAY2-SM2-WITH-SM3"}'), '{"a":1}', 0), ('empty type', pg_temp.headers('{"Wechatpay-Signature-Type":""}'), '{"a":1}', 0), ('list as type', pg_temp.headers('{"Wechatpay-Signature-Type":[]}'), '{"a":1}', 0),
	('probe', pg_temp.headers('{"Wechatpay-Signature":"WECHATPAY/SIGNTEST/abc="}'), '{"a":1}', 0), ('lower case', (SELECT jsonb_object_agg(lower(key), value) FROM jsonb_each(pg_temp.headers())), '{"a":1}', 0), ('twice', pg_temp.headers('{"wechatpay-nonce":"nonce"}'), '{"a":1}', 0),
	('time in words', pg_temp.headers(at => 'now'), '{"a":1}', 0), ('time with sign', pg_temp.headers(at => '+1700000000'), '{"a":1}', 0), ('line feed in nonce', pg_temp.headers(nonce => E'n\n{'), '{"a":1}', 0), ('empty nonce', pg_temp.headers(nonce => ''), '{"a":1}', 0)) v(what, h, b, s);
SELECT h AS missing, pg_temp.wechat(pg_temp.headers() - h) AS believed FROM unnest('{Wechatpay-Serial,Wechatpay-Timestamp,Wechatpay-Nonce,Wechatpay-Signature}'::text[]) h;
SELECT pg_temp.wechat('[]') AS a_list, pg_temp.wechat('null') AS nothing, pg_temp.wechat(pg_temp.headers(), as_of => 'infinity') AS never;
SELECT pg_temp.refusal($$SELECT submeter.wechat_verify('{}', '', '[]', now())$$) AS keys_no_object, pg_temp.refusal(format('SELECT submeter.wechat_verify(%L, %L, %L, %L)', pg_temp.headers(), '', '{"KEY":"no key"}', to_timestamp(1700000000))) AS key_none;
-- Opening: lengths before anything else, and one error for whatever does not open.
SELECT pg_temp.refusal(format('SELECT submeter.wechat_open(%L::bytea, %L)', convert_to(b, 'UTF8'), k)) AS opened FROM (VALUES ('{"resource":{}}', 'short'), ('nonsense', repeat('k', 32)), ('{}', repeat('k', 32)), ('{"resource":{"algorithm":"x"}}', repeat('k', 32)), ('{"resource":[]}', repeat('k', 32)),
	('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"short","ciphertext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}', repeat('k', 32)), ('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"abcdefghijkl","ciphertext":"AAAA"}}', repeat('k', 32)),
	('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"abcdefghijkl","ciphertext":"not base64 at all!!!!!!!!!!!!!!!!"}}', repeat('k', 32)), ('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"abcdefghijkl","ciphertext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}', repeat('k', 32))) v(b, k);
SELECT submeter.wechat_open('{"resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"wCq51qZv4Yfg","ciphertext":"AAAA"}}', NULL) IS NULL AS no_key;
