#!/usr/bin/env bash
# The chapter about putting meters into service does what it says: its SQL runs as printed.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-commissioning.XXXXXX)
at_exit rm -rf "$work"
# What stands behind "-- = " at the end of a statement is what it gives.
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 }
	inside { wanted = $0; if (sub(/^.*;  -- = /, "", wanted)) { sub(/  -- = .*$/, ""); print; print "\\echo wanted " wanted } else print }' \
	doc/commissioning.md >"$work/tour.sql"

server_start tour || bail 'no server'
server_createdb tour tour --bare || bail 'no database'
server_psql tour tour -v ON_ERROR_STOP=1 -f "$work/tour.sql" >"$work/out" 2>"$work/err"
is $? 0 'every statement runs' || diag "$(cat "$work/err")"
ok 'results are written beside statements' test "$(grep -c '^wanted ' "$work/out")" -gt 3
is "$(awk '/^wanted / { sub(/^wanted /, ""); if ($0 != last) print "wanted " $0 ", got " last; next } { last = $0 }' "$work/out")" '' \
	'and they are what the statements give'
is "$(grep -E '^M-[12]\|A-10[12]\|new\|' "$work/out" | wc -l)" 2 'both meters are new at first'
is "$(grep -oE '^(serial|address|nameplate|display|phases|shop|own_trip|clock|signal|in service)\|(passed|open)' "$work/out" | paste -sd ' ')" \
	'serial|passed address|passed nameplate|passed display|passed phases|passed shop|open own_trip|passed clock|passed signal|passed in service|open' \
	'one call does all but the shop'
like "$(grep '^failed|' "$work/out")" 'seen by M-2 \(A-102\), not by this meter: the wires are crossed' 'the load step names the other meter'
like "$(cat "$work/out")" 'to_check\|\{line\}\|\{address,signal\}' 'another address of the gateway is to be checked'
done_testing
