#!/usr/bin/env bash
# The chapter about money does what it says: its SQL runs as printed, and the amounts in its text are right.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-money.XXXXXX)
at_exit rm -rf "$work"
# What stands behind "-- = " at the end of a statement is what it gives.
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 }
	inside { wanted = $0; if (sub(/^.*;  -- = /, "", wanted)) { sub(/  -- = .*$/, ""); print; print "\\echo wanted " wanted } else print }' \
	doc/money.md >"$work/tour.sql"

server_start money || bail 'no server'
server_createdb money tour --bare || bail 'no database'
ok 'the chapter has its statements' test "$(grep -c ';' "$work/tour.sql")" -gt 30
server_psql money tour -v ON_ERROR_STOP=1 -f "$work/tour.sql" >"$work/out" 2>"$work/err"
is $? 0 'every statement runs' || diag "$(cat "$work/err")"
ok 'amounts are written beside statements' test "$(grep -c '^wanted ' "$work/out")" -gt 8
is "$(awk '/^wanted / { sub(/^wanted /, ""); if ($0 != last) print "wanted " $0 ", got " last; next } { last = $0 }' "$work/out")" '' \
	'and they are what the statements give'

query()
{
	server_psql money tour -c "SET timezone = 'Asia/Shanghai'" -c "$1"
}

is "$(query "SELECT c.account, c.kwh, c.amount FROM submeter.charge_statement c WHERE c.cycle_start = '2026-01-01' ORDER BY c.account_id" | paste -sd ' ')" \
	'bakery|1488.000|998.22 flat301|446.400|286.79 flat302|446.400|270.19' 'January costs what the table says'
like "$(grep '^peak|' "$work/out" | head -n 1)" '^peak\|7.000\|1.1433\|8.00' 'a Monday has seven peak hours'
is "$(grep -E '^(energy|demand|power_factor|adder:funds|fee:service|tax)\|' "$work/out" | awk -F '|' '{ print $1, $3 }' | paste -sd ',')" \
	'energy 3496.80,demand 320.00,power_factor 76.34,adder:funds 223.20,fee:service 100.00,tax 548.12' 'each step of the industrial example'
like "$(grep '^bakery|2026-01-01' "$work/out")" '\|998.22\|987.06\|-11.16$' 'the correction gives back what the text says'
like "$(grep '^bakery|.*48.36 x' "$work/out" | head -n 1)" '\|30.22\|48.36 x 1488 / 2380.8 kWh = 30.22$' 'the bakery bears its part of the corridor'
is "$(query "SELECT l.period, l.amount FROM submeter.bill_line_statement l WHERE l.account = 'bakery' AND l.state = 'issued' AND l.cycle_start = '2026-01-01' ORDER BY l.line" | paste -sd ' ')" \
	'peak|496.19 valley|126.78 flat|375.25' 'the bill of the bakery as printed'
is "$(query 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the ledger is verified'
done_testing
