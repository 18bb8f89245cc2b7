#!/bin/bash
# Hosts that answer badly, or are not who they should be: what is known afterwards is what the courier
# reports, nothing is sent to a stranger, followed to another place, unpacked, or taken in without end.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

trial_kind()
{
	sql "CREATE TABLE public.outcome (outbound_id bigint, outcome text, status int, headers jsonb, body bytea);
		GRANT ALL ON public.outcome TO submeter_owner;
		CREATE FUNCTION submeter.trial_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request LANGUAGE sql AS \$\$
			SELECT r.* FROM submeter.outbound o CROSS JOIN LATERAL jsonb_populate_record(NULL::submeter.outbound_request, o.ref) r
			WHERE o.site_id = trial_build.site_id AND o.outbound_id = trial_build.outbound_id \$\$;
		CREATE FUNCTION submeter.trial_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
		RETURNS submeter.outbound_verdict LANGUAGE plpgsql AS \$\$
			BEGIN
				INSERT INTO public.outcome VALUES (outbound_id, outcome, status, headers, body);
				RETURN NULL;
			END \$\$;
		ALTER FUNCTION submeter.trial_build(int, bigint, timestamptz) OWNER TO submeter_owner;
		ALTER FUNCTION submeter.trial_done(int, bigint, text, int, jsonb, bytea, timestamptz) OWNER TO submeter_owner;
		INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description)
		VALUES ('again', 'trial_build', 'trial_done', true, 12, 'trial'), ('once', 'trial_build', 'trial_done', false, 12, 'trial')"
}

hosts_start()
{
	mkdir -p "$SINK" && chmod 755 "$SINK"
	/usr/bin/python3 -W ignore "$here/../sim/badhost.py" "$SINK" >"$SINK/hosts" 2>"$SINK/hosts.err" &
	SINK_PIDS+=($!)
	wait_for 60 'bad hosts listen' grep -q ready "$SINK/hosts"
	chmod 644 "$SINK/ca.crt"
	H2=$(port_free)
	(cd "$SINK" && exec nghttpd -v --echo-upload --address=127.0.0.1 "$H2" good.key good.crt) >"$SINK/h2" 2>&1 &
	SINK_PIDS+=($!)
}

port_of()
{
	sed -n "s/^$1 //p" "$SINK/hosts"
}

# queue KIND URL [options [channel]]: every one has a host of its own, so that none is left alone.
queue()
{
	COUNT=$((${COUNT:-0} + 1))
	sql "SELECT submeter.queue_outbound(1, '$1', jsonb_build_object('method', 'POST', 'url', '$2', 'timeout_ms', 4000, 'body', 'x'::bytea, 'options',
		jsonb_build_object('ca', pg_read_file('$SINK/ca.crt')) || '${3:-{\}}'), gen_random_uuid()::text, '${4:-trial}')"
}

# try WANT KIND URL 'what' [options]: outcome, status and state afterwards; ID is left behind.
try()
{
	ID=$(queue "$2" "$3" "${5:-}")
	wait_for 60 "$4: it is over" says t sql "SELECT count(*) > 0 FROM public.outcome WHERE outbound_id = $ID"
	is "$(sql "SELECT concat_ws(' ', c.outcome, c.status, CASE WHEN o.attempts > 1 OR o.state = 'claimed' THEN 'queued' ELSE o.state END)
		FROM public.outcome c JOIN submeter.outbound o USING (outbound_id) WHERE c.outbound_id = $ID LIMIT 1")" "$1" "$4"
}

detail()
{
	sql "SELECT detail FROM submeter.outbound WHERE outbound_id = $ID"
}

answer()
{
	sql "SELECT $1 FROM public.outcome WHERE outbound_id = $ID LIMIT 1"
}

asked()
{
	grep -c "\"host\": \"$1\", \"path\": \"$2" "$SINK/badhost"
}

setup 'start bad hosts' hosts_start
GOOD=https://localhost:$(port_of good)
PLAIN=http://localhost:$(port_of plain)
setup 'start the server' field_start
setup 'make a kind of request' trial_kind
setup 'make a login for couriers' courier_login
courier_start first

# Who it is
try 'answered 200 delivered' once "$GOOD/ok" 'a good one'
try 'not_sent queued' once "https://localhost:$(port_of expired)/ok" 'a certificate of the past'
like "$(detail)" expired 'is named'
try 'not_sent queued' once "https://localhost:$(port_of other)/ok" 'a certificate for another name'
try 'not_sent queued' once "https://127.0.0.1:$(port_of good)/ok" 'an address that is not in the certificate'
try 'not_sent queued' once "https://localhost:$(port_of old)/ok" 'a version of TLS nobody should speak'
try 'not_sent queued' once "https://localhost:$(port_of plain)/ok" 'no TLS at all'
is "$(asked expired /)$(asked other /)$(asked old /)$(asked plain /)" 0000 'none of them hears anything'
try 'not_sent queued' once "https://localhost:$(port_free)/ok" 'nobody there'
try 'not_sent queued' once 'https://no.such.host.invalid/ok' 'no such host'
try 'not_sent queued' once "https://localhost:$(port_of deaf)/ok" 'somebody who says nothing before TLS'
try 'no_answer unknown' once "http://localhost:$(port_of deaf)/ok" 'somebody who says nothing to a request'
for url in 'ftp://localhost/x' 'gopher://localhost/x' 'file:///etc/passwd' 'dict://localhost/x' 'smtp://localhost/x' '://' 'no address'; do
	try 'not_sent queued' once "$url" "no address for a request: $url"
done

# What it answers
try 'answered 302 failed' once "$GOOD/redirect" 'a redirection'
is "$(asked good /target)" 0 'is not followed'
try 'answered 200 delivered' once "$GOOD/gzip" 'ten megabytes in a small parcel'
is "$(answer "length(body) < 20000 AND headers ->> 'content-encoding' = 'gzip'")" t 'stay packed'
is "$(sed -n 's/.*"path": "\/gzip".*accept-encoding.*/asked for it/p' "$SINK/badhost")" '' 'and were not asked for'
try 'no_answer unknown' once "$GOOD/endless" 'an answer without end'
like "$(detail)" longer 'is cut off'
is "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${COURIERS[first]}/status" | awk '{ print ($1 < 200000) }')" 1 'and not kept'
try 'answered 200 delivered' once "$GOOD/ok" 'an answer as long as allowed' '{"max_answer_bytes": 4}'
try 'no_answer unknown' once "$GOOD/ok" 'a byte more' '{"max_answer_bytes": 3}'
try 'no_answer unknown' once "$GOOD/lying" 'fewer bytes than promised'
try 'no_answer unknown' once "$GOOD/nothing" 'nothing'
try 'no_answer unknown' once "$PLAIN/garbage" 'what is no HTTP, from somebody who has the request'
is "$(asked plain /garbage)" 1 'which is sent once'
try 'answered 200 delivered' once "$GOOD/headers" 'a flood of headers'
is "$(answer 'length(headers::text) < 50000')" t 'is cut off'
try 'answered 200 delivered' once "$GOOD/smuggled" 'two answers'
is "$(answer "convert_from(body, 'UTF8')")" one 'the first counts'
try 'answered 200 delivered' once "$GOOD/ok" 'the next request has its own'
is "$(answer "convert_from(body, 'UTF8')")" fine 'answer'

# What follows
while read -r status once again; do
	try "answered $status $once" once "$GOOD/status/$status" "$status, not to be repeated"
	try "answered $status $again" again "$GOOD/status/$status" "$status, repeatable"
done <<'END'
204 delivered delivered
301 failed failed
308 failed failed
400 failed failed
408 unknown queued
425 queued queued
429 queued queued
500 unknown queued
502 unknown queued
503 queued queued
504 unknown queued
END
moment=$(date -u -d '+600 seconds' '+%a, %d %b %Y %H:%M:%S GMT')
try 'answered 429 queued' once "$GOOD/retry/${moment// /%20}" 'asked to wait until a date'
is "$(sql "SELECT not_before = '$moment'::timestamptz FROM submeter.outbound WHERE outbound_id = $ID")" t 'it waits until then'
try 'answered 429 queued' once "$GOOD/retry/99999999" 'asked to wait for years'
is "$(sql "SELECT not_before < now() + interval '25 hours' FROM submeter.outbound WHERE outbound_id = $ID")" t 'it waits a day'

# On the way
try 'answered 200 delivered' once "$GOOD/ok" 'through a proxy' "{\"proxy\": \"http://localhost:$(port_of proxy)\"}"
is "$(grep -c '"CONNECT localhost' "$SINK/badhost")" 1 'which passes it on unread'
is "$(answer "headers ? 'x-proxy'")" f 'what the proxy says is not the answer'
try 'not_sent queued' once 'https://forbidden.example/ok' 'a proxy that refuses' "{\"proxy\": \"http://localhost:$(port_of proxy)\"}"
try 'not_sent queued' once "$GOOD/ok" 'a proxy that is not there' "{\"proxy\": \"http://localhost:$(port_free)\"}"
try 'not_sent queued' once "https://localhost:$(port_of expired)/ok" 'a stranger behind a proxy' "{\"proxy\": \"http://localhost:$(port_of proxy)\"}"
try 'answered 200 delivered' once "https://localhost:$H2/ok" 'a host that speaks HTTP/2'
is "$(answer "convert_from(body, 'UTF8')")" x 'sends the body back'
ok 'over HTTP/2' grep -q 'recv (stream_id=[0-9]*) :method: POST' "$SINK/h2"
try 'no_answer unknown' once "https://localhost:$H2/ok" 'and nothing else hangs up when spoken to otherwise' '{"http2": false}'

# Not too many
sql "INSERT INTO submeter.outbound_channel (site_id, channel, per_minute) VALUES (1, 'slow', 3)"
for _ in {1..6}; do
	queue once "$GOOD/limited" '' slow >/dev/null
done
wait_for 60 'a channel with a limit takes what it may' says 3 sql "SELECT count(*) FROM submeter.outbound WHERE channel = 'slow' AND state = 'delivered'"
ok 'the courier ends' courier_end TERM first
is "$(asked good /limited)" 3 'and no more'
is "$(grep -c 'localhost:[0-9]*/' "$COURIER_LOG")" 0 'the log has no paths'
done_testing
