#!/usr/bin/env bash
# The chapter about telling people does what it says: its SQL runs as printed and gives what stands beside it.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-notices.XXXXXX)
at_exit rm -rf "$work"
# What stands behind "-- = " at the end of a statement is what it gives.
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 }
	inside { wanted = $0; if (sub(/^.*;  -- = /, "", wanted)) { sub(/  -- = .*$/, ""); print; print "\\echo wanted " wanted } else print }' \
	doc/notices.md >"$work/tour.sql"

server_start notices || bail 'no server'
server_createdb notices tour || bail 'no database'
ok 'the chapter has its statements' test "$(grep -c ';' "$work/tour.sql")" -gt 25
server_psql notices tour -v ON_ERROR_STOP=1 -f "$work/tour.sql" >"$work/out" 2>"$work/err"
is $? 0 'every statement runs' || diag "$(cat "$work/err")"
is "$(grep -c '^wanted ' "$work/out")" 7 'results are written beside statements'
is "$(awk '/^wanted / { sub(/^wanted /, ""); if ($0 != last) print "wanted " $0 ", got " last; next } { last = $0 }' "$work/out")" '' \
	'and they are what the statements give'
is "$(server_psql notices tour -c "SELECT string_agg(k.kind, ', ') FROM submeter.channel_kind k WHERE k.kind NOT IN ('feishu', 'wecom')
	AND NOT EXISTS (SELECT FROM submeter.notice_channel c WHERE c.kind = k.kind)")" '' 'every kind of channel is set up in it'
is "$(server_psql notices tour -c "SELECT string_agg(k.kind, ', ') FROM submeter.channel_kind k
	CROSS JOIN unnest(k.secrets) s(name) JOIN submeter.notice_channel c ON c.kind = k.kind
	WHERE NOT EXISTS (SELECT FROM submeter.secret x WHERE x.name = format('channel/%s/%s', c.channel, s.name))")" '' 'with its secrets'
done_testing
