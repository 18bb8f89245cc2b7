#!/usr/bin/env bash
# The README's tour does what it says: its SQL runs as printed, and the amounts in its text are right.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-readme.XXXXXX)
at_exit rm -rf "$work"
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$work/tour.sql"

server_start readme || bail 'no server'
server_createdb readme tour --bare || bail 'no database'
ok 'the tour has its statements' test "$(grep -c ';' "$work/tour.sql")" -gt 30
server_psql readme tour -v ON_ERROR_STOP=1 -f "$work/tour.sql" >"$work/out" 2>"$work/err"
is $? 0 'every statement of the README runs' || diag "$(cat "$work/err")"

query()
{
	server_psql readme tour -c "$1"
}

is "$(query "SELECT energy_wh, rounded FROM submeter.charge ORDER BY cycle_start LIMIT 1")" '669600|485.27' \
	'January costs what the text says'
is "$(query "SELECT rule, state FROM submeter.reading_suspect")" 'jump|open' 'the strange reading is a suspect'
is "$(query "SELECT count(*) FROM submeter.transfer WHERE kind = 'recharge'")" 1 'the repeated recharge is one movement'
isnt "$(query "SELECT count(*) FROM submeter.decision WHERE mode = 'observe'")" 0 'the policy explained itself'
is "$(query "SELECT count(*) FROM submeter.notice")" 0 'and sent nothing in mode observe'
is "$(query "SELECT string_agg(action || ' ' || state, ', ' ORDER BY command_id) FROM submeter.command")" \
	'open superseded, close queued' 'the breaker by hand'
is "$(grep '^energy|3' "$work/out")" 'energy|3||200.000|0.889|177.80' 'the quote has its third tier'
missing=
for name in $(sed -n '/^\*\*Verbs/,/^\*\*Settings/p' README.md | grep -oE '`[a-z_]+[(`]' | tr -d '`(' | sort -u); do
	[ "$(query "SELECT count(*) > 0 FROM pg_proc WHERE pronamespace = 'submeter'::regnamespace AND proname = '$name'")" = t ] ||
		missing="$missing $name"
done
is "$missing" '' 'every verb of the reference exists'
missing=
for name in $(query "SELECT v.verb FROM submeter.verb v WHERE v.verb NOT IN ('poller', 'courier') ORDER BY 1"); do
	sed -n '/^\*\*Verbs/,/^\*\*Settings/p' README.md | grep -qE "\`${name}[(\`]" || missing="$missing $name"
done
is "$missing" '' 'and every verb is in it'
is "$(query 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the ledger is verified'
done_testing
