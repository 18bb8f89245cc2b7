#!/bin/bash
# The courier carries requests out and answers back: HTTPS and mail with certificates checked, every
# kind of answer told apart, nothing that costs money repeated, nothing lost when it or the server
# dies, several couriers side by side.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

# A kind of request whose ref says all: the courier must not know what it carries.
trial_kind()
{
	sql "CREATE TABLE public.outcome (outbound_id bigint, outcome text, status int, body text);
		GRANT ALL ON public.outcome TO submeter_owner;
		CREATE FUNCTION submeter.trial_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request LANGUAGE sql AS \$\$
			SELECT r.* FROM submeter.outbound o CROSS JOIN LATERAL jsonb_populate_record(NULL::submeter.outbound_request,
				o.ref || jsonb_build_object('body', CASE WHEN o.ref ? 'text' THEN convert_to(o.ref ->> 'text', 'UTF8')::text END)) r
			WHERE o.site_id = trial_build.site_id AND o.outbound_id = trial_build.outbound_id \$\$;
		CREATE FUNCTION submeter.trial_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
		RETURNS submeter.outbound_verdict LANGUAGE plpgsql AS \$\$
			BEGIN
				INSERT INTO public.outcome VALUES (outbound_id, outcome, status, encode(body, 'escape'));
				RETURN NULL;
			END \$\$;
		ALTER FUNCTION submeter.trial_build(int, bigint, timestamptz) OWNER TO submeter_owner;
		ALTER FUNCTION submeter.trial_done(int, bigint, text, int, jsonb, bytea, timestamptz) OWNER TO submeter_owner;
		INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description) VALUES ('trial', 'trial_build', 'trial_done', true, 3, 'trial'), ('costly', 'trial_build', 'trial_done', false, 3, 'trial')"
}

# queue KIND METHOD URL [more members of ref]
queue()
{
	sql "SELECT submeter.queue_outbound(1, '$1', jsonb_build_object('method', '$2', 'url', '$3', 'timeout_ms', 2000, 'options', jsonb_build_object('ca',
		pg_read_file('$CERT'))) || '${4:-{\}}', '${5:-sink}', 'trial')"
}

state()
{
	sql "SELECT state || coalesce(' ' || status, '') FROM submeter.outbound WHERE outbound_id = $1"
}

# answered N: the courier has that many answers, or more.
answered()
{
	(($(grep -c ': answered' "$COURIER_LOG") >= $1))
}

# mail RECIPIENT [KIND]
mail()
{
	local message
	message=$(/usr/bin/python3 - "$1" "$CERT" <<'END'
import json, sys
print(json.dumps({'timeout_ms': 20000, 'text': 'Subject: =?UTF-8?B?55S16LS5?=\r\nFrom: a@x.test\r\nTo: b@x.test\r\n\r\nhello\r\n.\r\n..dots\r\n',
    'options': {'from': 'meter@x.test', 'to': [sys.argv[1] + '@x.test'], 'user': 'meter', 'password': 's3cret, word',
                'starttls': True, 'ca': open(sys.argv[2]).read()}}))
END
	)
	queue "${2:-trial}" MAIL "$SMTP" "$message" "mail.$1"
}

setup 'start the host outside' sink_start
setup 'start the server' field_start
setup 'make a kind of request' trial_kind
setup 'make a login for couriers' courier_login
courier_start first

# Answers
good=$(queue trial POST "$HTTPS/ok?key=hidden" '{"headers":["X-One: 1","Content-Type: text/plain"],"text":"电费 a=b"}')
wait_for 20 'a request is carried' says 'delivered 200' state "$good"
is "$(sql "SELECT submeter.header_value(answer_headers, 'Server') LIKE 'BaseHTTP%' AND convert_from(answer, 'UTF8')::jsonb ->> 'method' = 'POST'
	AND convert_from(answer, 'UTF8')::jsonb -> 'headers' ->> 'x-one' = '1' FROM submeter.outbound WHERE outbound_id = $good")" t 'with headers and answer'
is "$(tail -n 1 "$SINK/http" | /usr/bin/python3 -c 'import json,sys; print(json.loads(sys.stdin.read())["body"].encode("latin-1").decode())')" '电费 a=b' \
	'its body arrives byte for byte'
ok 'what stands in a query is not in the log' eval '! grep -q hidden "$COURIER_LOG"'
refused=$(queue trial GET "$HTTPS/status/404")
wait_for 20 'a refusal is final' says 'failed 404' state "$refused"
late=$(queue trial GET "$HTTPS/retry-after/40")
wait_for 20 'one that is asked to wait waits' says 'queued 429' state "$late"
is "$(sql "SELECT not_before - sent_at BETWEEN '40 s' AND '45 s' FROM submeter.outbound WHERE outbound_id = $late")" t 'as long as it was told'
slow=$(queue costly POST "$HTTPS/slow/4" '{"text":"x"}' slow)
wait_for 20 'what may have arrived and costs money is not repeated' says unknown state "$slow"
dropped=$(queue costly POST "$HTTPS/drop" '{"text":"x"}' dropping)
wait_for 20 'nor when the connection broke' says unknown state "$dropped"
is "$(grep -c '"POST", "path": "/drop' "$SINK/http")" 1 'it was sent once'
foreign=$(sql "SELECT submeter.queue_outbound(1, 'trial', '{\"method\":\"GET\",\"url\":\"$HTTPS/secret\",\"timeout_ms\":2000}', 'stranger', 'trial')")
wait_for 20 'a certificate nobody vouches for' says t sql "SELECT attempts > 0 AND detail ~* 'certificate' FROM submeter.outbound WHERE outbound_id = $foreign"
ok 'and nothing was sent there' eval '! grep -q /secret "$SINK/http"'
is "$(sql "SELECT outcome FROM public.outcome WHERE outbound_id = $foreign LIMIT 1")" not_sent 'which is told'
big=$(queue trial GET "$HTTPS/big/5000000" '{}' big)
wait_for 20 'an answer without end is cut off' says t sql "SELECT detail ~ 'longer' FROM submeter.outbound WHERE outbound_id = $big"
scheme=$(queue costly GET 'file:///etc/passwd' '{}' file)
wait_for 20 'files are no hosts' says t sql "SELECT detail ~ 'Protocol' FROM submeter.outbound WHERE outbound_id = $scheme"

# Mail
first=$(mail bakery)
wait_for 20 'a mail is carried over STARTTLS with a password' says 'delivered 250' state "$first"
is "$(/usr/bin/python3 - "$SINK/mail.1" <<'END'
import email, email.policy, json, sys
head, _, rest = open(sys.argv[1], 'rb').read().partition(b'\n')
message = email.message_from_bytes(rest, policy=email.policy.default)
print(json.loads(head), message['subject'], repr(message.get_payload()))
END
)" "{'from': 'meter@x.test', 'to': ['bakery@x.test'], 'tls': True} 电费 'hello\\r\\n.\\r\\n..dots\\r\\n'" 'a foreign parser reads it'
later=$(mail later)
wait_for 20 'a 450 is tried again' says 'queued 450' state "$later"
never=$(mail never)
wait_for 20 'a 550 is final' says 'failed 550' state "$never"
gone=$(mail gone costly)
wait_for 20 'dropped after its text: nobody knows' says unknown state "$gone"
patient=$(mail slow)
wait_for 20 'a mail server thinks about a text' says claimed state "$patient"
wait_for 20 'what goes elsewhere is not kept waiting' says 'delivered 200' state "$(queue trial POST "$HTTPS/meanwhile" '{"text":"x"}')"
is "$(state "$patient")" claimed 'it still thinks'
wait_for 20 'and takes it' says 'delivered 250' state "$patient"
wrong=$(queue trial MAIL "$SMTP" '{"text":"x","options":{"from":"a@x.test","to":["b@x.test"],"starttls":true}}' 'mail.stranger')
wait_for 20 'no STARTTLS with a stranger' says t sql "SELECT attempts > 0 AND detail ~* 'certificate' FROM submeter.outbound WHERE outbound_id = $wrong"

# Death
sql "DELETE FROM public.outcome"
for n in {1..20}; do
	queue trial POST "$HTTPS/slow/0.3?n=$n" '{"text":"x","timeout_ms":20000}' >/dev/null
done
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'submeter-courier%'" >/dev/null
# A claim whose answer was lost waits for the end of its lease. Earlier requests that are tried again meanwhile do not count.
wait_for 150 'answers survive a lost connection' says 20 sql "SELECT count(DISTINCT c.outbound_id) FROM public.outcome c JOIN submeter.outbound o USING (outbound_id)
	WHERE c.outcome = 'answered' AND o.ref ->> 'url' LIKE '%slow/0.3%'"
is "$(grep -c 'slow/0.3' "$SINK/http")" 20 'and each was sent once'
# The server is away when the answers come, and the leases are over when it is back: what the courier knows comes before that.
for n in {1..10}; do
	queue costly POST "$HTTPS/slow/3?away=$n" '{"text":"x","timeout_ms":20000}' >/dev/null
done
wait_for 20 'all are under way' says 10 grep -c 'slow/3?away' "$SINK/http"
sql "UPDATE submeter.outbound SET lease_until = clock_timestamp() + interval '1 s' WHERE state = 'claimed' AND ref ->> 'url' LIKE '%away%'"
answers=$(($(grep -c ': answered' "$COURIER_LOG") + 10))
setup 'stop the server' server_stop db immediate
wait_for 30 'all are answered' answered "$answers"
setup 'start the server again' server_start db
wait_for 30 'the answers count' says 10 sql "SELECT count(*) FROM submeter.outbound WHERE state = 'delivered' AND ref ->> 'url' LIKE '%away%'"
held=$(queue costly POST "$HTTPS/slow/30?held" '{"text":"x"}')
wait_for 20 'one is under way' says 1 grep -c 'slow/30?held' "$SINK/http"
courier_end KILL first || true
courier_start second
sql "UPDATE submeter.outbound SET lease_until = clock_timestamp() WHERE outbound_id = $held"
wait_for 30 'its courier died: its lease ends, it is unknown' says unknown state "$held"
is "$(grep -c 'slow/30?held' "$SINK/http")" 1 'and not sent again'
ok 'a person may have it sent again' sql "SELECT submeter.resend_outbound(1, $held, 'the provider says it never came')"
wait_for 20 'then it is' says 2 grep -c 'slow/30?held' "$SINK/http"

# Two couriers, many requests
courier_start third
sql "SELECT count(submeter.queue_outbound(1, 'trial', jsonb_build_object('method', 'POST', 'url', '$HTTPS/many?' || n, 'text', 'x', 'timeout_ms', 5000,
	'options', jsonb_build_object('ca', pg_read_file('$CERT'))), 'sink', 'trial')) FROM generate_series(1, 400) n" >/dev/null
wait_for 60 'four hundred requests' says 400 sql "SELECT count(*) FROM submeter.outbound WHERE state = 'delivered' AND ref ->> 'url' LIKE '%many%'"
is "$(grep -c /many "$SINK/http")" 400 'each sent once'
is "$(sql "SELECT count(DISTINCT claimed_by) FROM submeter.outbound WHERE ref ->> 'url' LIKE '%many%'")" 2 'by both'
ok 'one ends when it is told to' courier_end TERM third
ok 'so does the other' courier_end TERM second
done_testing
