#!/bin/bash
# Somebody looks for the secrets of a site wherever a server shows what it does: its log with everything
# switched on, other people's sessions, statistics, plans, views, the dump, the log of the courier. And the
# keys that seal them are exchanged, lost and laid open.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

# Every secret has this in it, whatever else it is.
MARK=MarkOfASecret
HEXMARK=$(printf %s "$MARK" | od -An -tx1 | tr -d ' \n')
KEY_FILE=$SM_RUN/db/secret_key

# Everything that could show one is switched on, once the site is there.
tell_all()
{
	local setting
	for setting in 'log_statement = all' 'log_min_duration_statement = 0' 'log_parameter_max_length = -1' 'log_parameter_max_length_on_error = -1' \
		'log_min_error_statement = debug5' 'log_error_verbosity = verbose' 'log_duration = on' 'log_min_messages = debug1' \
		'debug_print_parse = on' 'debug_print_rewritten = on' 'debug_print_plan = on' \
		'auto_explain.log_min_duration = 0' 'auto_explain.log_nested_statements = on' 'auto_explain.log_verbose = on' 'auto_explain.log_analyze = on' \
		'pg_stat_statements.track = all' 'pg_stat_statements.track_utility = on'; do
		sql "ALTER SYSTEM SET ${setting% = *} = '${setting#* = }'" || return
	done
	sql 'SELECT pg_reload_conf()' >/dev/null
	wait_until 20 says all sql 'SHOW log_statement'
}

prepare_site()
{
	mkdir -p "$SM_RUN/logs" && chmod 777 "$SM_RUN/logs" &&
		field_start "shared_preload_libraries = 'submeter,auto_explain,pg_stat_statements'" 'logging_collector = on' \
			"log_destination = 'stderr,csvlog,jsonlog'" "log_directory = '$SM_RUN/logs'" "log_filename = 'server.log'" 'log_file_mode = 0644' &&
		sql "CREATE EXTENSION pg_stat_statements; CREATE ROLE watcher LOGIN; GRANT pg_monitor, pg_read_all_stats, pg_read_all_settings TO watcher;
			CREATE ROLE boss LOGIN; GRANT submeter_admin TO boss; INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'boss');
			CREATE ROLE nobody_here LOGIN; GRANT submeter_admin TO nobody_here" && tell_all
}

as()
{
	local role=$1
	shift
	PGUSER='' server_psql db -c "SET SESSION AUTHORIZATION $role" -c "$@"
}

# shown WHERE...: lines of the files that show a secret, also as digits or as a list of bytes of a parse tree
shown()
{
	local listed
	listed=$(printf %s "$MARK" | od -An -td1 | tr -s ' \n' ' ')
	grep -hcE "$MARK|$HEXMARK|${listed# }" "$@" | awk '{ n += $1 } END { print n }'
}

forget_logs()
{
	local file
	for file in "$SM_RUN"/logs/*; do
		: >"$file"
	done
}

setup 'start a server that tells all' prepare_site
setup 'start the host outside' sink_start
setup 'make a login for couriers' courier_login

# Given in every way a client can
ok 'the log shows everything else' eval 'sql "SELECT length('"'$MARK'"')" >/dev/null; [ "$(shown "$SM_RUN"/logs/*)" != 0 ]'
forget_logs
sql 'SELECT pg_stat_statements_reset()' >/dev/null
as boss "SELECT submeter.set_secret(1, 'plain', '$MARK one')" >/dev/null
as boss "PREPARE put(text) AS SELECT submeter.set_secret(1, 'prepared', \$1)" -c "EXECUTE put('$MARK two')" >/dev/null
as boss "SELECT submeter.set_secret(1, 'bytes', '\\x$HEXMARK'::bytea)" >/dev/null
/usr/bin/python3 - "$(server_socket db)" "$(server_port db)" "$MARK four" <<'END'
import ctypes, sys
pq = ctypes.CDLL('libpq.so.5')
pq.PQconnectdb.restype = pq.PQexecParams.restype = ctypes.c_void_p
pq.PQexecParams.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
link = pq.PQconnectdb(('host=%s port=%s user=boss dbname=postgres' % (sys.argv[1], sys.argv[2])).encode())
for text in (b"SELECT submeter.set_secret(1, 'bound', $1)", b"SELECT submeter.set_secret(1, 'BAD NAME', $1)", b"SELECT submeter.set_secret(1, 'bound', $1::int::text)"):
    pq.PQexecParams(link, text, 1, None, (ctypes.c_char_p * 1)(sys.argv[3].encode()), None, None, 0)
END
is "$(sql "SELECT string_agg(name, ',' ORDER BY name) FROM submeter.secret WHERE site_id = 1")" 'bound,bytes,plain,prepared' 'secrets are set as text, bytes, prepared and bound'
# Refused in every way
as boss "SELECT submeter.set_secret(1, 'BAD NAME', '$MARK')" 2>/dev/null
as boss "SELECT submeter.set_secret(7, 'other', '$MARK')" 2>/dev/null
as nobody_here "SELECT submeter.set_secret(1, 'foreign', '$MARK')" 2>/dev/null
as watcher "SELECT submeter.set_secret(1, 'foreign', '$MARK')" 2>/dev/null
as boss "SELECT submeter.set_secret(1, 'wrong', '$MARK', 5)" 2>/dev/null
as boss "SELECT submeter.set_secret(1, 'wrong', '$MARK'" 2>/dev/null
as boss "SELECT submeter.set_secret(1, 'open', '$MARK" 2>"$SM_RUN/error"
like "$(cat "$SM_RUN/error")" "unterminated quoted string at or near \"'$MARK" 'who typed it wrong is told where'
as boss "SELECT submeter.set_meter_key(1, 1, 2, '$MARK')" 2>/dev/null
as boss "DO \$\$ BEGIN PERFORM submeter.set_secret(1, 'block', '$MARK'); RAISE 'after'; END \$\$" 2>/dev/null
as boss "PREPARE put(text) AS SELECT submeter.set_secret(1, 'BAD NAME', \$1)" -c "EXECUTE put('$MARK two')" 2>/dev/null
as boss "EXPLAIN (VERBOSE, ANALYZE) SELECT submeter.set_secret(1, 'explained', '$MARK')" >/dev/null
is "$(shown "$SM_RUN"/logs/*)" 0 'the log shows none of them'
ok 'the log has the rest' grep -q 'bad\|not usable' "$SM_RUN/logs/server.log"

# Other people's sessions
session()
{
	mkfifo "$SM_RUN/session"
	server_psql db <"$SM_RUN/session" >/dev/null 2>&1 &
	SESSION=$!
	exec 7>"$SM_RUN/session"
}
session
printf '\\set ON_ERROR_STOP 0\n%s\n' "BEGIN; SELECT submeter.set_secret(1, 'held', '$MARK');" >&7
wait_for 20 'a session has set one' says 1 as watcher "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%with a secret%'"
is "$(as watcher "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%$MARK%' AND pid <> pg_backend_pid()")" 0 'nobody sees which'
echo "ROLLBACK; SET SESSION AUTHORIZATION nobody_here; SELECT submeter.set_secret(1, 'held', '$MARK');" >&7
wait_for 20 'one was refused' says 1 as watcher "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%with a secret%'"
is "$(as watcher "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%$MARK%' AND pid <> pg_backend_pid()")" 0 'nobody sees that one either'
exec 7>&-
wait "$SESSION"
is "$(as watcher "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%$MARK%' AND query NOT LIKE 'DO %' AND query NOT LIKE 'EXPLAIN %'")" 0 'nor in the statistics'

# Whatever the catalogue and the views show
is "$(sql "SELECT string_agg(table_name, ', ') FROM information_schema.tables t WHERE table_schema = 'submeter'
	AND query_to_xml(format('SELECT t FROM submeter.%I t', table_name), true, true, '')::text LIKE ANY ('{%$MARK%,%$HEXMARK%}')")" '' 'no table or view shows one'
server_bin db pg_dump -d postgres >"$SM_RUN/dump" 2>/dev/null
ok 'the dump has the sealed ones' grep -q 'COPY submeter.secret' "$SM_RUN/dump"
is "$(shown "$SM_RUN/dump")" 0 'and none in the clear'
is "$(as boss 'SELECT sealed FROM submeter.secret' 2>&1 | grep -c 'permission denied')" 1 'an administrator cannot read them'

# Used: a mail with a password, an answer with a token, a key that does not fit, bytes that are no text
used()
{
	sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Bakery');
		INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, email, channels) VALUES (1, 1, 1, 'owner', 'bakery@x.test', '{mail}');
		INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A1');
		SELECT submeter.set_channel(1, 'mail', 'mail', jsonb_build_object('url', '$SMTP', 'from', 'meter@x.test', 'user', 'meter', 'ca', pg_read_file('$CERT')));
		SELECT submeter.set_channel(1, 'chat', 'wechat', '{\"endpoint\": \"http://127.0.0.1:$(port_free)\", \"appid\": \"wx\", \"templates\": {}}');
		SELECT submeter.set_secret(1, 'channel/mail/password', '$MARK password');
		SELECT submeter.set_secret(1, 'channel/chat/app_secret', '$MARK app');
		SELECT submeter.set_secret(1, 'merchant/1/private_key', '$MARK key');
		SELECT submeter.set_secret(1, 'binary', '\\xff'::bytea || '$MARK');
		INSERT INTO submeter.notice (site_id, account_id, contact_id, channel, event, kind, locale, subject, body, facts, dedupe_key, next_try_at, created_at) VALUES (1, 1, 1, 'mail', 'e', 'test', 'en', 's', 'b', '{}', 'k', now(), now())" >/dev/null
}
setup 'channels with secrets' used
forget_logs
sql "SELECT submeter.ask_wechat_token(1, 'chat', clock_timestamp())" >/dev/null
sql "SELECT submeter.send_by_channel(1, (SELECT max(notice_id) FROM submeter.notice), 'mail', clock_timestamp())" >/dev/null
courier_start first
wait_for 60 'the courier has used the secrets' says 2 sql "SELECT count(*) FROM submeter.outbound WHERE attempts > 0 AND detail IS NOT NULL"
like "$(sql "SELECT detail FROM submeter.outbound WHERE channel = 'mail'")" 'login: SMTP 535' 'the wrong password was tried'
token=$(sql "INSERT INTO submeter.outbound (site_id, kind, ref, host, channel, state, claimed_by, lease_until) VALUES (1, 'wechat_token', '{\"channel\": \"chat\"}', 'h', 'chat', 'claimed', 'me', now() + interval '1 h') RETURNING outbound_id")
/usr/bin/python3 - "$(server_socket db)" "$(server_port db)" "$token" "$MARK" <<'END'
import ctypes, json, sys
pq = ctypes.CDLL('libpq.so.5')
pq.PQconnectdb.restype = pq.PQexecParams.restype = ctypes.c_void_p
pq.PQexecParams.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
link = pq.PQconnectdb(('host=%s port=%s user=carrier dbname=postgres' % (sys.argv[1], sys.argv[2])).encode())
body = json.dumps({'access_token': sys.argv[4] + ' token', 'expires_in': 7200}).encode().hex()
text = b"SELECT submeter.report_outbound(1, %d, 'me', 'answered', 200, '{}', pg_catalog.decode($1, 'hex'), NULL)" % int(sys.argv[3])
pq.PQexecParams(link, text, 1, None, (ctypes.c_char_p * 1)(body.encode()), None, None, 0)
END
is "$(sql "SELECT submeter.wechat_token(1, 'chat', now()) = '$MARK token', (SELECT answer IS NULL FROM submeter.outbound WHERE outbound_id = $token)")" 't|t' 'a token is kept sealed, its answer is not'
sql 'DO $$ BEGIN PERFORM submeter.rsa_sha256_sign('"'x'"', submeter.secret_text(1, '"'merchant/1/private_key'"')); END $$' 2>"$SM_RUN/error"
sql 'DO $$ BEGIN PERFORM submeter.secret_text(1, '"'binary'"'); END $$' 2>>"$SM_RUN/error"
sql 'DO $$ BEGIN PERFORM submeter.push_public_key(submeter.secret_value(1, '"'binary'"')); END $$' 2>>"$SM_RUN/error"
sql 'DO $$ BEGIN PERFORM submeter.wechat_unwrap('"'{}'"', submeter.secret_text(1, '"'plain'"')); END $$' 2>>"$SM_RUN/error"
is "$(grep -c ERROR "$SM_RUN/error")" 4 'keys that do not fit are refused'
is "$(grep -cE "$MARK|$HEXMARK|0xff" "$SM_RUN/error")" 0 'without showing them'
is "$(grep -vh "wechat_token(1, 'chat'" "$SM_RUN"/logs/* | shown -)" 0 'the log of the server shows none of what was used'
is "$(shown "$COURIER_LOG")" 0 'nor does the courier'"'"'s'
is "$(sql "SELECT count(*) FROM submeter.outbound o WHERE o::text ~ '$MARK|$HEXMARK'")" 0 'nor the outbox'
is "$(as watcher "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'submeter%' AND query LIKE '%$MARK%'")" 0 'nor its sessions'
ok 'the courier ends' courier_end TERM first

# The keys that seal
value()
{
	sql "SELECT submeter.secret_text(1, 'plain')" 2>&1
}
sealed()
{
	sql "SELECT submeter.sha256_hex(string_agg(sealed, '' ORDER BY name)::bytea) FROM submeter.secret"
}
before=$(sealed)
mv "$KEY_FILE" "$KEY_FILE.away"
like "$(value)" 'could not open the file of keys' 'no file of keys: said so'
like "$(as boss "SELECT submeter.set_secret(1, 'plain', 'other')" 2>&1)" 'could not open the file of keys' 'and nothing is sealed'
cp "$KEY_FILE.away" "$KEY_FILE" && chmod 644 "$KEY_FILE" && _sm_give "$KEY_FILE"
like "$(value)" 'is not private' 'a file others can read: refused'
: >"$KEY_FILE" && chmod 600 "$KEY_FILE"
like "$(value)" 'has no key for secrets' 'an empty one'
mkdir "$KEY_FILE.d" && sql "ALTER SYSTEM SET submeter.secret_key_file = '$KEY_FILE.d'" && sql 'SELECT pg_reload_conf()' >/dev/null
wait_for 20 'a folder' eval 'value | grep -qE "not private|could not read|could not open"'
sql 'ALTER SYSTEM RESET submeter.secret_key_file' && sql 'SELECT pg_reload_conf()' >/dev/null
openssl rand -base64 32 >"$KEY_FILE"
wait_for 20 'another key alone' eval 'value | grep -q "sealed with a key this server does not have"'
like "$(as boss 'SELECT submeter.rotate_secrets(1)' 2>&1)" 'sealed with a key this server does not have' 'nothing is sealed anew with it'
is "$(sealed)" "$before" 'and nothing is lost'
cat "$KEY_FILE.away" >>"$KEY_FILE"
is "$(value)" "$MARK one" 'with the earlier key behind it all opens'
as boss "SELECT submeter.set_secret(1, 'new', '$MARK new')" >/dev/null
ok 'and is sealed anew' [ "$(as boss 'SELECT submeter.rotate_secrets(1)')" -ge 8 ]
is "$(as boss 'SELECT submeter.rotate_secrets(1)')" 0 'once'
sed -i 1q "$KEY_FILE"
is "$(value)" "$MARK one" 'then the earlier key can go'
is "$(sql "SELECT submeter.secret_text(1, 'new')")" "$MARK new" 'and what was set meanwhile opens'
done_testing
