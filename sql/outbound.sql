-- The courier's outbox: requests are built when claimed, have a lease, and every outcome ends where its kind says.
\pset footer off
SET client_min_messages = warning;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'one', 'One'), (2, 'two', 'Two');
-- A kind of the test's own: what it builds and decides is in ref.
CREATE FUNCTION submeter.test_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request
LANGUAGE plpgsql
AS $$
DECLARE
	ref jsonb := (SELECT o.ref FROM submeter.outbound o WHERE o.site_id = test_build.site_id AND o.outbound_id = test_build.outbound_id);
BEGIN
	IF ref ? 'no_key' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'there is no key';
	ELSIF ref ? 'obsolete' THEN
		RETURN NULL;
	END IF;
	RETURN ROW('POST', 'https://example.org/' || (ref ->> 'n'), '{X-Test: 1}', convert_to(ref ->> 'n', 'UTF8'), 5, NULL)::submeter.outbound_request;
END
$$;
CREATE FUNCTION submeter.test_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz) RETURNS submeter.outbound_verdict
LANGUAGE plpgsql
AS $$
BEGIN
	IF body = 'nonsense' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'this cannot be understood';
	ELSIF body = 'later' THEN
		RETURN ROW('queued', as_of + interval '1 hour', 'it asked to wait')::submeter.outbound_verdict;
	ELSIF body = 'fine' THEN
		RETURN ROW('delivered', NULL, 'as the kind says')::submeter.outbound_verdict;
	END IF;
	RETURN NULL;
END
$$;
GRANT EXECUTE ON FUNCTION submeter.test_build(int, bigint, timestamptz), submeter.test_done(int, bigint, text, int, jsonb, bytea, timestamptz) TO submeter_owner;
INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES ('once', 'test_build', 'test_done', false, 3, 'test'), ('again', 'test_build', 'test_done', true, 3, 'test');
CREATE FUNCTION pg_temp.put(kind text, n text, host text DEFAULT 'example.org', extra jsonb DEFAULT '{}', expires_at timestamptz DEFAULT NULL, dedupe_key text DEFAULT NULL) RETURNS bigint
LANGUAGE sql
AS $$
	SELECT submeter.queue_outbound(1, kind, jsonb_build_object('n', n) || extra, host, 'test', NULL, expires_at, dedupe_key)
$$;
CREATE VIEW pg_temp.box AS
SELECT ref ->> 'n' AS n, kind, state, attempts, CASE WHEN state = 'queued' THEN not_before > clock_timestamp() END AS waits, status, convert_from(answer, 'UTF8') AS answer, detail
FROM submeter.outbound ORDER BY outbound_id;

CREATE ROLE regress_courier LOGIN;
GRANT submeter_courier TO regress_courier;
INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'regress_courier');

-- 1. Claimed once, in order, with the lease of its time limit; nothing of another site.
SELECT count(pg_temp.put('once', n)) FROM unnest('{a,b,c}'::text[]) n;
SELECT submeter.queue_outbound(2, 'once', '{"n":"x"}', 'example.org', 'test') > 0 AS elsewhere;
SELECT pg_temp.put('once', 'd', dedupe_key => 'k') > 0 AS first, pg_temp.put('once', 'd', dedupe_key => 'k') AS second;
SET SESSION AUTHORIZATION regress_courier;
SELECT site_id, method, url, headers, body, timeout_ms, options FROM submeter.claim_outbound('c1', 2);
SELECT url FROM submeter.claim_outbound('c2', 10);
SELECT count(*) FROM submeter.claim_outbound('c3', 10);
SELECT * FROM submeter.claim_outbound('c1', 0);
SELECT * FROM submeter.claim_outbound('', 1);
SELECT state FROM submeter.outbound;
RESET SESSION AUTHORIZATION;
SELECT ref ->> 'n' AS n, claimed_by, round(extract(epoch FROM lease_until - sent_at), 3) AS lease_s FROM submeter.outbound WHERE state = 'claimed' ORDER BY outbound_id;

-- 2. Outcomes. A report by another courier, or a second one, changes nothing.
CREATE FUNCTION pg_temp.report(n text, courier text, outcome text, code int, body bytea DEFAULT NULL, headers jsonb DEFAULT NULL) RETURNS text
LANGUAGE sql
AS $$
	SELECT submeter.report_outbound(site_id, outbound_id, courier, outcome, code, headers, body, NULL) FROM submeter.outbound WHERE ref ->> 'n' = n ORDER BY outbound_id DESC LIMIT 1
$$;
SELECT pg_temp.report('a', 'c2', 'answered', 200, 'from another') AS another, pg_temp.report('a', 'c1', 'answered', 200, 'all right') AS right, pg_temp.report('a', 'c1', 'answered', 500, 'late') AS late;
SELECT pg_temp.report('b', 'c1', 'no_answer', NULL) AS b, pg_temp.report('c', 'c2', 'not_sent', NULL) AS c, pg_temp.report('d', 'c2', 'answered', 200, 'nonsense') AS d;
TABLE pg_temp.box;
SELECT pg_temp.report('b', 'c1', 'lost', NULL);
SELECT pg_temp.report('b', 'c1', 'answered', NULL);
SELECT submeter.report_outbound(1, 0, 'c1', 'not_sent', NULL, NULL, NULL, NULL);
-- What usually follows, by outcome and status; what a kind says goes first.
SELECT method, outcome, status, (submeter.outbound_usual(method, outcome, status, NULL, 1, false, now())).state AS once, (submeter.outbound_usual(method, outcome, status, NULL, 1, true, now())).state AS repeatable
FROM (VALUES ('POST', 'answered', 200), ('POST', 'answered', 204), ('POST', 'answered', 302), ('POST', 'answered', 400), ('POST', 'answered', 404), ('POST', 'answered', 408), ('POST', 'answered', 429),
	('POST', 'answered', 500), ('POST', 'answered', 502), ('POST', 'answered', 503), ('POST', 'not_sent', NULL), ('POST', 'no_answer', NULL), ('POST', 'expired', NULL),
	('MAIL', 'answered', 250), ('MAIL', 'answered', 450), ('MAIL', 'answered', 550), ('MAIL', 'not_sent', NULL), ('MAIL', 'no_answer', NULL)) v(method, outcome, status);
SELECT (submeter.outbound_usual('POST', 'answered', 429, '{"Retry-After":"77"}', 1, false, '2026-01-01 00:00+00')).not_before = '2026-01-01 00:01:17+00' AS as_asked,
	bool_and((submeter.outbound_usual('POST', 'not_sent', NULL, NULL, n, false, '2026-01-01 00:00+00')).not_before - '2026-01-01 00:00+00' BETWEEN interval '1 s' * least(power(2, n), 3600) * 0.75 AND interval '1 s' * least(power(2, n), 3600) * 1.25) AS backs_off
FROM generate_series(1, 40) n;
-- A host may say when by seconds or by date; at most a day counts, and nothing that cannot be understood.
SELECT h, submeter.retry_after(jsonb_build_object('retry-after', h), '2026-01-01 00:00+00') - '2026-01-01 00:00+00' AS wait
FROM unnest('{0,77,000100,86400,999999999,9999999999,-1,1.5,"",soon,"Thu, 01 Jan 2026 00:02:00 GMT","Wed, 31 Dec 2025 23:00:00 GMT","Fri, 01 Jan 2027 00:00:00 GMT","Thu, 31 Feb 2026 00:00:00 GMT","Thu, 01 Jan 2026 25:00:00 GMT","Thu, 01 Jan 0000 00:00:00 GMT","Thu, 01 Jan 2026 00:02:00 CST","Thursday, 01-Jan-26 00:02:00 GMT"}'::text[]) WITH ORDINALITY v(h, ord) ORDER BY ord;
SELECT submeter.retry_after('{"Retry-After": null}', now()) IS NULL AS twice, submeter.retry_after(NULL, now()) IS NULL AS no_headers;
DELETE FROM submeter.outbound;
SELECT count(pg_temp.put('again', n)) FROM unnest('{wait,fine}'::text[]) n;
SELECT count(*) FROM submeter.claim_outbound('c', 10);
SELECT pg_temp.report('wait', 'c', 'answered', 200, 'later'), pg_temp.report('fine', 'c', 'answered', 500, 'fine');
TABLE pg_temp.box;

-- 3. A courier that never reports: what may be repeated is, the rest is unknown; too many attempts and too late are the end.
DELETE FROM submeter.outbound;
SELECT count(pg_temp.put(k, k)) FROM unnest('{once,again}'::text[]) k;
SELECT count(*) FROM submeter.claim_outbound('c', 10);
UPDATE submeter.outbound SET lease_until = now() - interval '1 s';
SELECT count(*) FROM submeter.claim_outbound('other', 10);
TABLE pg_temp.box;
SELECT pg_temp.report('again', 'c', 'answered', 200) AS after_the_lease;
UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued';
SELECT count(*) FROM submeter.claim_outbound('c', 10);
SELECT pg_temp.report('again', 'c', 'not_sent', NULL);
UPDATE submeter.outbound SET not_before = now() WHERE state = 'queued';
SELECT count(*) FROM submeter.claim_outbound('c', 10);
SELECT pg_temp.report('again', 'c', 'not_sent', NULL) AS third_time;
SELECT pg_temp.put('once', 'late', expires_at => now() - interval '1 s') > 0 AS late;
SELECT count(*) FROM submeter.claim_outbound('c', 10);
TABLE pg_temp.box;
-- A person sends again what failed or is unknown, with a reason.
SELECT submeter.resend_outbound(1, outbound_id, 'they say it never came') FROM submeter.outbound WHERE ref ->> 'n' = 'once';
SELECT submeter.resend_outbound(1, outbound_id, 'again') FROM submeter.outbound WHERE ref ->> 'n' = 'once';
SELECT url FROM submeter.claim_outbound('c', 10);
SELECT n, state, attempts, detail FROM pg_temp.box WHERE n = 'once';

-- 4. What cannot be built waits and says why; what is not needed any more is cancelled.
DELETE FROM submeter.outbound;
SELECT count(pg_temp.put('once', 'n' || e::text, extra => e)) FROM unnest('{"{\"no_key\":1}","{\"obsolete\":1}"}'::jsonb[]) e;
SELECT count(*) FROM submeter.claim_outbound('c', 10);
SELECT kind, state, attempts, waits, detail FROM pg_temp.box;

-- 5. A host that fails five times in a row is left alone, then tried by one request; an answer closes the circuit.
DELETE FROM submeter.outbound;
DO $$
BEGIN
	FOR i IN 1 .. 5 LOOP
		PERFORM submeter.queue_outbound(1, 'once', jsonb_build_object('n', i), 'down.example', 'test');
		PERFORM submeter.claim_outbound('c', 1);
		PERFORM submeter.report_outbound(1, o.outbound_id, 'c', 'answered', 500, NULL, NULL, NULL) FROM submeter.outbound o WHERE o.state = 'claimed';
	END LOOP;
END
$$;
SELECT host, failures, open_until > clock_timestamp() AS open, detail FROM submeter.outbound_host;
SELECT pg_temp.put('once', 'x' || n, 'down.example') > 0 AS down, pg_temp.put('once', 'y' || n, 'up.example') > 0 AS up FROM generate_series(1, 3) n;
SELECT url FROM submeter.claim_outbound('c', 10);
UPDATE submeter.outbound_host SET open_until = now() - interval '1 s';
SELECT url AS one_tries FROM submeter.claim_outbound('c', 10);
SELECT count(*) FROM submeter.claim_outbound('c', 10);
SELECT rule, detail, cleared_at IS NULL AS open FROM submeter.alarm;
SELECT pg_temp.report('x1', 'c', 'answered', 404);
SELECT rule, cleared_at IS NULL AS open FROM submeter.alarm;
SELECT count(*) AS known_to_fail FROM submeter.outbound_host;
SELECT url FROM submeter.claim_outbound('c', 10);

-- 6. A channel with a limit.
DELETE FROM submeter.outbound;
INSERT INTO submeter.outbound_channel (site_id, channel, per_minute) VALUES (1, 'test', 2);
SELECT count(pg_temp.put('once', n::text)) FROM generate_series(1, 5) n;
SELECT url FROM submeter.claim_outbound('c', 10);
SELECT count(*) FROM submeter.claim_outbound('c', 10);
UPDATE submeter.outbound SET sent_at = sent_at - interval '1 minute' WHERE sent_at IS NOT NULL;
SELECT count(*) FROM submeter.claim_outbound('c', 10);
-- However much waits for it stands in nobody else's way.
SELECT count(pg_temp.put('once', 'x' || n)) FROM generate_series(1, 100) n;
SELECT submeter.queue_outbound(1, 'once', '{"n":"other"}', 'other.example.org:8080', 'other') IS NOT NULL AS queued;
SELECT url FROM submeter.claim_outbound('c', 1);
-- Nor does what waits for a host with enough to do; there it goes on as soon as something is back.
DELETE FROM submeter.outbound;
DELETE FROM submeter.outbound_channel;
SELECT count(submeter.queue_outbound(1, 'once', jsonb_build_object('n', n), 'mail.example.org', 'mail')) FROM generate_series(1, 40) n;
SELECT submeter.queue_outbound(1, 'once', '{"n":"pay"}', 'pay.example.org', 'pay') IS NOT NULL AS queued;
SELECT split_part(url, '/', 4) = 'pay' AS pays, count(*) FROM submeter.claim_outbound('c', 20) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM submeter.claim_outbound('c', 20);
SELECT count(*) AS by_another FROM submeter.claim_outbound('d', 20);
SELECT submeter.report_outbound(1, min(outbound_id), 'c', 'answered', 200, NULL, NULL, NULL) FROM submeter.outbound WHERE claimed_by = 'c';
SELECT url FROM submeter.claim_outbound('c', 20);

-- 7. What waits and is not taken is said to whoever looks whether all is well.
SELECT count(*) AS not_well FROM submeter.health WHERE part = 'outbox';
UPDATE submeter.outbound SET not_before = now() - interval '11 minutes' WHERE state = 'queued';
SELECT site_id, ok, regexp_replace(detail, 'since .*', 'since …') AS detail FROM submeter.health WHERE part = 'outbox';

DROP OWNED BY regress_courier;
DROP ROLE regress_courier;
