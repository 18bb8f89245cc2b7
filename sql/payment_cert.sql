-- Alipay in certificate mode exchanges its certificate: the new one is fetched by the number its answers name, and believed when
-- it chains to the merchant's roots. One that does not is refused, and says so.
\pset footer off
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'went through';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || concat_ws(' | ', SQLERRM, nullif(detail, ''));
END
$$;

-- Two roots, of which the one with a curve does not count, a false one of the same name, and what they make; made anew each time.
CREATE TABLE pg_temp.line (name text, line text, nr int GENERATED ALWAYS AS IDENTITY);
DO $do$
BEGIN
	EXECUTE format('COPY pg_temp.line (name, line) FROM PROGRAM %L (DELIMITER ''|'')', format('/usr/bin/python3 -c %s', quote_literal($py$
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID as n
now = datetime.datetime.utcnow()
day = datetime.timedelta(days=1)
keys = {k: rsa.generate_private_key(public_exponent=65537, key_size=2048) for k in "root twin between old new below forged expired shop merchant".split()}
keys["curve"] = ec.generate_private_key(ec.SECP256R1())
certs = {}
def make(name, common, issuer, serial, ca=False, until=400, digest=hashes.SHA256()):
    subject = x509.Name([x509.NameAttribute(n.COUNTRY_NAME, "CN"), x509.NameAttribute(n.ORGANIZATION_NAME, "A mall"), x509.NameAttribute(n.COMMON_NAME, common)])
    by = certs[issuer].subject if issuer != name else subject
    key = keys.get(name, keys["new"])
    certs[name] = (x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key()).serial_number(serial)
        .not_valid_before(now - 500 * day).not_valid_after(now + until * day).add_extension(x509.BasicConstraints(ca, None), critical=True).sign(keys[issuer], digest))
make("curve", "Root E1", "curve", 1, True)
make("root", "Root R1", "root", 2, True)
make("twin", "Root R1", "twin", 2, True)
make("between", "Class 2 R1", "root", 3, True)
make("old", "Alipay-2088", "root", 10)
make("new", "Alipay-2088", "root", 11)
make("below", "Alipay-2088", "between", 12)
make("forged", "Alipay-2088", "twin", 11)
make("expired", "Alipay-2088", "root", 13, until=-1)
make("shop", "2088-2021", "root", 14)
make("by_shop", "Alipay-2088", "shop", 15)
make("by_curve", "Alipay-2088", "curve", 16)
make("sha1", "Alipay-2088", "root", 17, digest=hashes.SHA1())
for name, cert in certs.items():
    for line in cert.public_bytes(s.Encoding.PEM).decode().splitlines():
        print(name + "|" + line)
for name, key in keys.items():
    for line in key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode().splitlines():
        print(name + "_key|" + line)
$py$)));
END
$do$;
CREATE FUNCTION pg_temp.pem(VARIADIC names text[]) RETURNS text
LANGUAGE sql AS $$SELECT string_agg(l.line, E'\n' ORDER BY u.at, l.nr) || E'\n' FROM unnest(names) WITH ORDINALITY u(name, at) JOIN pg_temp.line l USING (name)$$;

-- 1. What chains: to an RSA root of the bundle, now, with those between that come along. What comes out is that certificate alone.
SELECT names, pg_temp.refusal(format('SELECT submeter.trusted_cert(%L, %L, now())', pg_temp.pem(VARIADIC names), pg_temp.pem('curve', 'root'))) AS outcome
FROM (VALUES (ARRAY['new']), ('{old,root}'), ('{below,between}'), ('{below}'), ('{forged}'), ('{forged,twin}'), ('{expired}'), ('{by_shop,shop}'), ('{by_curve}'), ('{sha1}'), ('{new_key}')) v(names);
SELECT submeter.trusted_cert(pg_temp.pem('below', 'between', 'old'), pg_temp.pem('root'), now()) = pg_temp.pem('below') AS alone;
-- A key in front of it would be taken for the certificate's by whoever reads the text: it is left behind.
SELECT submeter.trusted_cert(pg_temp.pem('merchant_key', 'new'), pg_temp.pem('root'), now()) = pg_temp.pem('new') AS alone;
SELECT pg_temp.refusal(format('SELECT submeter.trusted_cert(%L, %L, %s)', pg_temp.pem('new'), r, t)) AS outcome
FROM (VALUES (pg_temp.pem('root'), 'now() - interval ''501 days'''), (pg_temp.pem('root'), 'now() + interval ''401 days'''), (pg_temp.pem('root'), '''infinity'''), (pg_temp.pem('twin'), 'now()'), ('', 'now()'), ('x', 'now()'), (NULL, 'now()')) v(r, t);
SELECT n, (submeter.cert_facts(pg_temp.pem(n))).valid_until - now() BETWEEN interval '399 days' AND interval '400 days' AS until, (submeter.cert_facts(pg_temp.pem(n))).common_name FROM unnest('{new,shop,new_key}'::text[]) n;

-- 2. A merchant, an order, and an answer that is signed with a certificate that is not here.
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't1', 'One');
INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101');
INSERT INTO submeter.merchant (site_id, merchant_id, provider, name, mode, app, seller, app_cert, root_cert, notify_base, api_base)
VALUES (1, 7, 'alipay', 'Mall', 'certificate', '2021', '2088', pg_temp.pem('shop'), pg_temp.pem('curve', 'root'), 'https://pay.example.org', 'https://ali.example.org');
INSERT INTO submeter.merchant_key (site_id, merchant_id, key_name, pem) VALUES (1, 7, 'alipay', pg_temp.pem('old'));
SELECT submeter.set_secret(1, 'merchant/7/private_key', pg_temp.pem('merchant_key'));
CREATE FUNCTION pg_temp.answer(node text, content jsonb, signer text, sn text) RETURNS bytea
LANGUAGE sql AS $$SELECT convert_to(format('{"%s":%s,"alipay_cert_sn":"%s","sign":"%s"}', node, content, sn,
	translate(encode(submeter.rsa_sha256_sign(convert_to(content::text, 'UTF8'), pg_temp.pem(signer || '_key')), 'base64'), E'\n', '')), 'UTF8')$$;
CREATE FUNCTION pg_temp.created(order_id bigint, signer text, sn text) RETURNS bytea
LANGUAGE sql AS $$SELECT pg_temp.answer('alipay_trade_precreate_response', jsonb_build_object('code', '10000', 'out_trade_no', out_trade_no, 'qr_code', 'https://qr.alipay.com/' || order_id), signer, sn)
	FROM submeter.payment_order WHERE payment_order_id = order_id$$;
CREATE FUNCTION pg_temp.download(cert text, signer text) RETURNS bytea
LANGUAGE sql AS $$SELECT pg_temp.answer('alipay_open_app_alipaycert_download_response', jsonb_build_object('code', '10000', 'msg', 'Success', 'alipay_cert_content', translate(encode(convert_to(cert, 'UTF8'), 'base64'), E'\n', '')), signer, '')$$;
CREATE TABLE pg_temp.sent AS SELECT site_id, outbound_id, ''::text AS url, ''::bytea AS body FROM submeter.outbound;
CREATE FUNCTION pg_temp.carry() RETURNS text
LANGUAGE sql
AS $$
	WITH c AS (INSERT INTO pg_temp.sent SELECT x.site_id, x.outbound_id, x.url, x.body FROM submeter.claim_outbound('c', 100) x RETURNING outbound_id)
	SELECT string_agg(concat_ws(' ', o.kind, o.ref ->> 'payment_order_id'), ', ' ORDER BY o.outbound_id) FROM c JOIN submeter.outbound o USING (outbound_id)
$$;
CREATE FUNCTION pg_temp.reply(what text, about text, body bytea) RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.report_outbound(o.site_id, o.outbound_id, 'c', 'answered', 200, '{}', body, NULL)
	FROM submeter.outbound o WHERE o.kind = what AND o.dedupe_key = about AND o.state = 'claimed'
$$;
SELECT submeter.alipay_cert_sn(pg_temp.pem('new')) AS new, submeter.alipay_cert_sn(pg_temp.pem('old')) AS old \gset
SELECT submeter.alipay_cert_sn(pg_temp.pem('forged')) = :'new' AS same_number;
SELECT (submeter.create_payment(1, 1, 'alipay', 10, 'k1')).payment_order_id, (submeter.create_payment(1, 1, 'alipay', 20, 'k2')).payment_order_id;
SELECT pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', pg_temp.created(1, 'new', :'new')) AS first, pg_temp.reply('payment_create', '2', pg_temp.created(2, 'new', :'new')) AS second;
-- Whoever waits for a code is not in the way here.
UPDATE submeter.outbound SET not_before = now() + interval '1 hour' WHERE kind = 'payment_create' AND state = 'queued';
SELECT kind, ref - 'alipay_cert_sn' AS ref, ref ->> 'alipay_cert_sn' = :'new' AS number, state, host FROM submeter.outbound WHERE kind = 'alipay_cert';
SELECT pg_temp.carry();
SELECT url ~ '&method=alipay.open.app.alipaycert.download&' AS method, url ~ ('app_cert_sn=' || submeter.alipay_cert_sn(pg_temp.pem('shop'))) AS app, url ~ 'notify_url' AS notify,
	convert_from(body, 'UTF8') = 'biz_content=' || submeter.url_encode(jsonb_build_object('alipay_cert_sn', :'new')::text) AS asked FROM pg_temp.sent ORDER BY outbound_id DESC LIMIT 1;

-- 3. What is refused, and why.
SELECT what, pg_temp.refusal(format('SELECT submeter.alipay_cert_from(%L, %L, %L, now())', (SELECT to_jsonb(m) FROM submeter.merchant m), coalesce(sn, :'new'), body)) AS outcome
FROM (VALUES ('good', NULL, pg_temp.download(pg_temp.pem('new'), 'new')), ('with one between', submeter.alipay_cert_sn(pg_temp.pem('below')), pg_temp.download(pg_temp.pem('below', 'between'), 'below')),
	('foreign root', NULL, pg_temp.download(pg_temp.pem('forged', 'twin'), 'forged')), ('expired', submeter.alipay_cert_sn(pg_temp.pem('expired')), pg_temp.download(pg_temp.pem('expired'), 'expired')),
	('somebody else''s', submeter.alipay_cert_sn(pg_temp.pem('shop')), pg_temp.download(pg_temp.pem('shop'), 'shop')), ('made by somebody else', submeter.alipay_cert_sn(pg_temp.pem('by_shop')), pg_temp.download(pg_temp.pem('by_shop', 'shop'), 'new')),
	('another number', NULL, pg_temp.download(pg_temp.pem('old'), 'old')), ('signed with the old key', NULL, pg_temp.download(pg_temp.pem('new'), 'old')),
	('no certificate', NULL, pg_temp.download('x', 'new')), ('no base64', NULL, pg_temp.answer('alipay_open_app_alipaycert_download_response', '{"alipay_cert_content":"§"}', 'new', '')),
	('no text', NULL, pg_temp.answer('alipay_open_app_alipaycert_download_response', '{"alipay_cert_content":"/w=="}', 'new', '')), ('nothing', NULL, '{}'), ('no JSON', NULL, 'x'), ('empty', NULL, '')) v(what, sn, body);
-- Refused: a failed row, an alarm, no key, and an hour's rest.
SELECT pg_temp.reply('alipay_cert', '7', pg_temp.download(pg_temp.pem('forged', 'twin'), 'forged')) AS refused;
SELECT state, detail FROM submeter.outbound WHERE kind = 'alipay_cert';
SELECT rule, replace(detail, :'new', 'N') AS detail FROM submeter.alarm WHERE site_id = 1;
SELECT key_name FROM submeter.merchant_key;
CREATE FUNCTION pg_temp.asked(body bytea, after interval) RETURNS bigint
LANGUAGE sql AS $$SELECT submeter.ask_alipay_cert(1, 7, body, clock_timestamp() + after); SELECT count(*) FROM submeter.outbound WHERE kind = 'alipay_cert' AND state = 'queued'$$;
SELECT pg_temp.asked(pg_temp.created(1, 'new', :'new'), '10 minutes') AS too_soon, pg_temp.asked(pg_temp.created(1, 'new', :'old'), '2 hours') AS known, pg_temp.asked('x', '2 hours') AS nonsense,
	pg_temp.asked('{"alipay_cert_sn":"../../x"}', '2 hours') AS no_number, pg_temp.asked('[1]', '2 hours') AS no_object, pg_temp.asked(pg_temp.created(1, 'new', :'new'), '2 hours') AS after_an_hour,
	pg_temp.asked(pg_temp.created(1, 'new', :'new'), '3 hours') AS once;

-- 4. The good one: a key until it expires; what waited goes out again and is believed.
SELECT pg_temp.carry() LIKE '%alipay_cert%' AS asked;
SELECT pg_temp.reply('alipay_cert', '7', '{"alipay_open_app_alipaycert_download_response":{"code":"20000","sub_code":"isp.unknow-error"}}') AS later;
UPDATE submeter.outbound SET not_before = now() WHERE kind = 'alipay_cert' AND state = 'queued';
UPDATE submeter.outbound SET not_before = now() + interval '1 hour' WHERE kind = 'payment_create' AND state = 'queued';
SELECT pg_temp.carry();
UPDATE submeter.outbound SET state = 'queued', claimed_by = NULL, lease_until = NULL, not_before = now() + interval '1 hour' WHERE kind = 'payment_create' AND state = 'claimed';
SELECT pg_temp.reply('alipay_cert', '7', pg_temp.download(pg_temp.pem('new'), 'new')) AS taken;
SELECT key_name = :'new' AS by_number, pem = pg_temp.pem('new') AS pem, valid_until = (submeter.cert_facts(pem)).valid_until AS until, fetched_at < now() AS fetched FROM submeter.merchant_key ORDER BY fetched_at;
SELECT pg_temp.carry();
SELECT pg_temp.reply('payment_create', '1', pg_temp.created(1, 'new', :'new')) AS first, pg_temp.reply('payment_create', '2', pg_temp.created(2, 'old', :'old')) AS with_the_old_one;
SELECT payment_order_id AS id, state, qr FROM submeter.payment_order ORDER BY 1;
SELECT pg_temp.asked(pg_temp.created(1, 'forged', :'new'), '9 hours') AS here_already;
