#!/bin/bash
# Whoever can reach the notify address may send anything: the listener takes whole notifications byte for
# byte, refuses the rest, lets nobody hold it up, and never says yes to what the database has not taken.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

PORT=$(port_free)

# In place of the providers' judge one that writes down what it hears.
trial_judge()
{
	sql "CREATE TABLE public.heard (provider text, headers jsonb, body bytea);
		GRANT ALL ON public.heard TO submeter_owner;
		CREATE OR REPLACE FUNCTION submeter.hear_provider(provider text, headers jsonb, message bytea) RETURNS TABLE (status int, body text)
		LANGUAGE plpgsql AS \$\$
			BEGIN
				INSERT INTO public.heard VALUES (hear_provider.provider, hear_provider.headers, hear_provider.message);
				IF hear_provider.message = 'slow' THEN PERFORM pg_sleep(3); END IF;
				RETURN QUERY SELECT 200, 'success'::text;
			END \$\$"
}

# send CASE WANT 'what'
send()
{
	is "$(timeout 100 /usr/bin/python3 "$here/notifier.py" "$PORT" "$1" 2>&1)" "$2" "$3"
}

heard()
{
	sql "SELECT count(*) FROM public.heard WHERE body = '$1'"
}

health()
{
	/usr/bin/python3 -c 'import sys, urllib.request as u; print(u.urlopen("http://127.0.0.1:%s/health" % sys.argv[1], timeout=20).status)' "$PORT"
}

setup 'start the server' field_start
setup 'make a judge' trial_judge
setup 'make a login for couriers' courier_login
courier_start first --listen "$PORT"
wait_for 30 'it listens' says 200 health

# Whole ones
send good 200 'a notification'
is "$(sql "SELECT provider, headers ->> ':path', headers ->> ':peer', headers ->> 'host' FROM public.heard")" 'trial|/notify/trial/1|127.0.0.1|localhost' 'with its path, sender and headers'
send bytes_as_they_are 200 'as many bytes as there may be'
is "$(sql "SELECT count(*) FROM public.heard WHERE body = (SELECT decode(repeat(string_agg(lpad(to_hex(i), 2, '0'), '' ORDER BY i), 256), 'hex') FROM generate_series(0, 255) i)")" 1 'arrive as they are'
send chunked 200 'one in chunks'
is "$(heard chunked)" 1 'is put together'
send in_pieces 200 'one that comes byte by byte'
is "$(heard pieces)" 1 'as well'
send pipelined '200 200 200' 'three at once on one connection'
is "$(heard p1)$(heard p2)$(heard p3)" 111 'are three'
send expecting '100 200' 'one that asks first'
send old_version 200 'one of HTTP/1.0'
send raw_nul 200 'of a path with an end inside counts what is before it'
send twice 200 'a header that comes twice'
is "$(sql "SELECT submeter.has_header(headers, 'X-Signed'), submeter.header_value(headers, 'X-Signed') IS NULL FROM public.heard WHERE body = 'twice'")" 't|t' 'has no value'

# What is none
sql 'DELETE FROM public.heard'
send too_long 413 'a byte too many'
send endless_chunks closed 'chunks without end'
send bad_chunks 400 'chunks that are none'
send short_body closed 'fewer bytes than promised'
send two_lengths 400 'two lengths'
send length_and_chunks 400 'a length, and chunks'
send bad_length 400 'a length below nothing'
send huge_length 413 'a length beyond everything'
send flood 431 'a flood of headers'
send fat_header 431 'a header without end'
send elsewhere '404 404 404 404 404 404 404 404' 'other paths'
send escaped 404 'a path written differently'
send with_nul 404 'a path with an end inside'
send long_path 414 'a path without end'
send methods '405 405 405 405 405 405' 'other methods'
send no_version 400 'no version'
send garbage closed 'no HTTP at all'
is "$(sql 'SELECT count(*) FROM public.heard')" 0 'none of them is heard'
is "$(health)" 200 'and it works on'

# Slow ones
trials=()
for slow in slow_head slow_body silent slow_reader; do
	timeout 100 /usr/bin/python3 "$here/notifier.py" "$PORT" "$slow" >"$SM_RUN/$slow" 2>&1 &
	trials+=($!)
done
wait "${trials[@]}"
for slow in slow_head slow_body silent slow_reader; do
	is "$(cat "$SM_RUN/$slow")" 'let go' "nobody holds a connection: $slow"
done
send crowd 'closed 200' 'nor all of them for long'
is "$(heard crowd)" 1 'who is real gets through'

# Without a database
sql 'DELETE FROM public.heard'
sql "ALTER TABLE public.heard ADD CHECK (body <> 'refused')"
send refused 503 'what the database fails at comes again'
sql 'ALTER TABLE public.heard DROP CONSTRAINT heard_body_check'
held()
{
	printf 'BEGIN; LOCK TABLE public.heard; SELECT pg_sleep(8);' | server_psql db >/dev/null
}
held &
holder=$!
wait_for 20 'somebody holds the table' says t sql "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'public.heard'::regclass AND mode = 'AccessExclusiveLock'"
send good 503 'what it cannot take in time, too'
send gone sent 'somebody does not even wait'
wait "$holder"
wait_for 30 'who gave up is heard all the same, or not at all' says t sql "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'submeter-courier listen' AND state = 'active'"
send good 200 'afterwards it takes them'
server_stop db fast
send good 503 'a database that is down: the provider comes again'
server_start db --preload
wait_for 60 'when it is back' says 200 health
sql 'DELETE FROM public.heard'
send good 200 'so is everything'
is "$(heard good)" 1 'and it is heard once'

# Told to stop
timeout 100 /usr/bin/python3 "$here/notifier.py" "$PORT" slow >"$SM_RUN/slow" 2>&1 &
slow=$!
wait_for 20 'one is being judged' says t sql "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'submeter-courier listen' AND wait_event = 'PgSleep'"
ok 'the listener is told to stop' courier_end TERM first
wait "$slow"
is "$(cat "$SM_RUN/slow")" 200 'what was being judged is answered'
is "$(heard slow)" 1 'and in the books'
is "$(timeout 100 /usr/bin/python3 "$here/notifier.py" "$PORT" good 2>&1 | tail -n 1 | cut -d: -f1)" ConnectionRefusedError 'nobody is let in any more'
done_testing
