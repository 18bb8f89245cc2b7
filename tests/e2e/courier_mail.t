#!/bin/bash
# Mail servers that do something wrong at one point of the conversation: what is known afterwards is what
# the courier reports, nothing goes to one it cannot be sure of, and no message is lost to a wrong password.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

trial_kind()
{
	sql "CREATE TABLE public.outcome (name text, outcome text, status int, at timestamptz DEFAULT clock_timestamp());
		GRANT ALL ON public.outcome TO submeter_owner;
		CREATE FUNCTION submeter.trial_build(site_id int, outbound_id bigint, as_of timestamptz) RETURNS submeter.outbound_request LANGUAGE sql AS \$\$
			SELECT r.* FROM submeter.outbound o CROSS JOIN LATERAL jsonb_populate_record(NULL::submeter.outbound_request,
				o.ref || jsonb_build_object('body', decode(o.ref ->> 'text', 'base64')::text)) r
			WHERE o.site_id = trial_build.site_id AND o.outbound_id = trial_build.outbound_id \$\$;
		CREATE FUNCTION submeter.trial_done(site_id int, outbound_id bigint, outcome text, status int, headers jsonb, body bytea, as_of timestamptz)
		RETURNS submeter.outbound_verdict LANGUAGE plpgsql AS \$\$
			BEGIN
				INSERT INTO public.outcome SELECT o.ref ->> 'name', trial_done.outcome, trial_done.status FROM submeter.outbound o
				WHERE o.site_id = trial_done.site_id AND o.outbound_id = trial_done.outbound_id;
				RETURN NULL;
			END \$\$;
		ALTER FUNCTION submeter.trial_build(int, bigint, timestamptz) OWNER TO submeter_owner;
		ALTER FUNCTION submeter.trial_done(int, bigint, text, int, jsonb, bytea, timestamptz) OWNER TO submeter_owner;
		INSERT INTO submeter.outbound_kind (kind, build, done, repeatable, max_attempts, description)
		VALUES ('once', 'trial_build', 'trial_done', false, 12, 'trial')"
}

badmail_start()
{
	/usr/bin/python3 "$here/../sim/badmail.py" "$SINK" "$CERT" "$SINK/key" >"$SINK/badmail.out" 2>"$SINK/badmail.err" &
	SINK_PIDS+=($!)
	wait_for 20 'bad mail servers listen' grep -q ready "$SINK/badmail.out"
}

# mail SERVER [text file [options that replace the usual ones]]
mail()
{
	local name=$1 file=${2:-$SM_RUN/text}
	/usr/bin/python3 - "$name" "$(sed -n "s/^$name //p" "$SINK/badmail.out")" "$file" "$CERT" "${3:-{\}}" >"$SM_RUN/mail.sql" <<'END'
import base64, json, sys
name, port, path, cert, options = sys.argv[1:]
usual = {'from': 'meter@x.test', 'to': ['b@x.test'], 'user': 'meter', 'password': 's3cret, word', 'starttls': True, 'ca': open(cert).read()}
usual.update(json.loads(options))
ref = {'method': 'MAIL', 'url': 'smtp://localhost:' + port, 'timeout_ms': 4000 if 'silent' in name or name == 'endless' else 30000, 'name': name, 'text': base64.b64encode(open(path, 'rb').read()).decode(),
       'options': {key: value for key, value in usual.items() if value is not None}}
print("SELECT submeter.queue_outbound(1, 'once', $ref$%s$ref$, '%s', 'trial');" % (json.dumps(ref), name))
END
	server_psql db -f - <"$SM_RUN/mail.sql"
}

outcome()
{
	sql "SELECT outcome || coalesce(' ' || status, '') FROM public.outcome WHERE name = '$1' ORDER BY at LIMIT 1"
}

state()
{
	sql "SELECT state FROM submeter.outbound WHERE host = '$1' ORDER BY outbound_id LIMIT 1"
}

# seen SERVER EXPRESSION: what the server saw of its first connections; e = list of them.
seen()
{
	/usr/bin/python3 - "$SINK/badmail" "$1" "$2" <<'END'
import json, sys
e = [line for line in map(json.loads, open(sys.argv[1])) if line['name'] == sys.argv[2]]
print(eval(sys.argv[3]))
END
}

printf 'Subject: =?UTF-8?B?55S16LS5?=\r\nFrom: a@x.test\r\nTo: b@x.test\r\n\r\nhello\r\n' >"$SM_RUN/text"
setup 'start the host outside' sink_start
setup 'start bad mail servers' badmail_start
setup 'start the server' field_start
setup 'make a kind of request' trial_kind
setup 'make a login for couriers' courier_login

# What is known: outcome, status, state, and whether a whole text arrived there.
cases='good answered 250 delivered True
login answered 250 delivered True
plain answered 250 delivered True
no_auth answered 250 delivered True
no_starttls not_sent queued False
starttls_refused not_sent queued False
starttls_never not_sent queued False
starttls_injected not_sent queued False
auth_refused not_sent queued False
auth_later not_sent queued False
auth_missing not_sent queued False
greeting_421 not_sent queued False
greeting_554 not_sent queued False
greeting_drop not_sent queued False
greeting_silent not_sent queued False
greeting_garbage not_sent queued False
ehlo_drop not_sent queued False
starttls_drop not_sent queued False
auth_drop not_sent queued False
mail_drop not_sent queued False
mail_552 answered 552 failed False
rcpt_drop not_sent queued False
rcpt_450 answered 450 queued False
rcpt_451 answered 451 queued False
rcpt_421 answered 421 queued False
rcpt_550 answered 550 failed False
rcpt_multiline answered 550 failed False
data_drop not_sent queued False
data_silent not_sent queued False
data_554 answered 554 failed False
dot_drop no_answer unknown True
dot_silent no_answer unknown True
dot_452 answered 452 queued True
dot_554 answered 554 failed True
quit_silent answered 250 delivered True'
while read -r name _; do
	mail "$name" >/dev/null
done <<<"$cases"
courier_start first
is_over()
{
	says 0 sql "SELECT count(*) FROM submeter.outbound o WHERE NOT EXISTS (SELECT FROM public.outcome c WHERE c.name = o.ref ->> 'name')"
}
wait_for 120 'every one has an outcome' is_over
begin=$SECONDS
ok 'the courier ends' courier_end TERM first
ok 'without a word from those who say nothing' test $((SECONDS - begin)) -lt 50
while read -r name want; do
	want=${want% *}
	got="$(outcome "$name") $(state "$name")"
	is "$got" "$want" "$name: $want"
done <<<"$cases"
while read -r name want; do
	[ "${want##* }" != False ] || is "$(seen "$name" "[x['text'] for x in e if x['text'] is not None]")" '[]' "$name has no text"
done <<<"$cases"
is "$(seen good "[x['text'] for x in e][0].replace(chr(13), '')")" "$(tr -d '\r' <"$SM_RUN/text")" 'who does all right has the text'
is "$(seen login "[h for h in e[0]['heard'] if 'AUTH' in h]")" "['tls AUTH LOGIN']" 'login by LOGIN'
is "$(seen plain "[h for h in e[0]['heard'] if 'AUTH' in h]")" "['tls AUTH PLAIN']" 'login by PLAIN'
for name in good no_starttls starttls_refused starttls_never starttls_injected; do
	is "$(seen "$name" "sorted({h.split()[1] for x in e for h in x['heard'] if h.startswith('plain')} - {'EHLO', 'HELO', 'STARTTLS', 'QUIT'})")" '[]' "$name: nothing goes in the clear"
done
is "$(seen dot_drop 'len(e)') $(seen dot_silent 'len(e)')" '1 1' 'what may have arrived is not sent again'
like "$(sql "SELECT detail FROM submeter.outbound WHERE host = 'auth_refused'")" 'refused the login: SMTP 535' 'a wrong password is named'
like "$(sql "SELECT detail FROM submeter.outbound WHERE host = 'auth_missing'")" 'refused the login: SMTP 530' 'so is a missing one'

# One who talks without end
sql 'DELETE FROM public.outcome; DELETE FROM submeter.outbound'
mail endless >/dev/null
courier_start talk
wait_for 60 'a server that talks without end' says not_sent outcome endless
is "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${COURIERS[talk]}/status" | awk '{ print ($1 < 200000) }')" 1 'is not remembered'
ok 'the courier ends again' courier_end TERM talk

# A password that stays wrong shows, and costs no message.
sql 'DELETE FROM public.outcome; DELETE FROM submeter.outbound; DELETE FROM submeter.outbound_host'
mail auth_refused >/dev/null
courier_start second
dark()
{
	sql "UPDATE submeter.outbound SET not_before = clock_timestamp() WHERE state = 'queued'; UPDATE submeter.outbound_host SET open_until = NULL"
	says 1 sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'host_down' AND cleared_at IS NULL AND detail LIKE '%auth_refused: the mail server refused the login%'"
}
wait_for 60 'an alarm tells that the login is refused' dark
is "$(state auth_refused)" queued 'the message still waits'
sql "UPDATE submeter.outbound SET ref = jsonb_set(ref, '{url}', to_jsonb('smtp://localhost:$(sed -n 's/^good //p' "$SINK/badmail.out")'::text)), not_before = clock_timestamp();
	UPDATE submeter.outbound_host SET open_until = NULL"
wait_for 60 'put right it goes out' says delivered state auth_refused
is "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'host_down' AND cleared_at IS NULL")" 0 'and the alarm ends'

# Texts that are awkward on the wire
/usr/bin/python3 - "$SM_RUN/awkward" "$SM_RUN/long" <<'END'
import sys
open(sys.argv[1], 'wb').write(b'.begins with a dot\r\n.\r\n..\r\n...\r\n' + bytes(range(32, 256)) + b'\r\n' + b'y' * 5000 + '\r\n电费\r\n. \r\n.'.encode() + b'\r\nend without a line end.')
open(sys.argv[2], 'wb').write(b'z' * 76 + b'\r\n' + (b'.' * 76 + b'\r\n') * 30000)
END
sql 'DELETE FROM public.outcome; DELETE FROM submeter.outbound'
mail good "$SM_RUN/awkward" >/dev/null
wait_for 60 'dots, long lines and eight bits' says 'answered 250' outcome good
mail login "$SM_RUN/long" >/dev/null
wait_for 60 'two megabytes of dots' says 'answered 250' outcome login
mail text_drop "$SM_RUN/long" >/dev/null
wait_for 60 'one who hangs up in the middle of a text' says not_sent outcome text_drop
mail plain "$SM_RUN/text" '{"to": ["b@x.test", "c@x.test"]}' >/dev/null
wait_for 60 'two recipients' says 'answered 250' outcome plain
ok 'the courier ends at last' courier_end TERM second
for pair in good:awkward login:long; do
	is "$(seen "${pair%%:*}" "e[-1]['text'].encode('latin-1').rstrip() == open('$SM_RUN/${pair##*:}', 'rb').read().rstrip()")" True "${pair##*:}: byte for byte"
done
is "$(seen plain "[h for h in e[-1]['heard'] if 'RCPT' in h]")" "['tls RCPT TO:<b@x.test>', 'tls RCPT TO:<c@x.test>']" 'both recipients are named'
done_testing
