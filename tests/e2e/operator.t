#!/bin/bash
# Causes are kept apart: a recharge takes away arrears and nothing else. A breaker that an operator
# opened, or that carries a tag, closes when that cause is removed, and not before.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 10
port a 0
meter 1-4 DDS238-2 watts=10000 start_kwh=100
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && shops 1 4 1 100'
poller_start
true_in 30 'all meters are read' "SELECT count(*) = 4 FROM submeter.meter_state WHERE relay = 'closed'"

causes()
{
	sql "SELECT string_agg(cause, ' ' ORDER BY cause) FROM submeter.open_cause WHERE meter_id = $1"
}
decided()
{
	sql "SELECT d.action || ' ' || d.reason FROM submeter.account_state t
		JOIN submeter.decision d ON d.decision_id = t.last_decision_id WHERE t.account_id = $1"
}
# A run of the policy that began after now has ended.
policy_ran()
{
	local ran
	ran=$(sql "SELECT done FROM submeter.duty_state WHERE duty = 'policy'")
	true_now 30 "SELECT done >= $ran + 2 FROM submeter.duty_state WHERE duty = 'policy'"
}
not_closed()
{
	local port_unit=$1 before=$2 what=$3
	setup 'let the policy run' policy_ran
	is "$(writes a "$port_unit")" "$before" "$what: nothing is written"
	ok "$what: it stays open" is_dark a "$port_unit"
}

# 1: opened by an operator, then in arrears, then paid
id=$(open_breaker 1)
wait_for 20 'an operator opens breaker 1' says confirmed command_state "$id"
setup 'empty account 1' debit 1 -5
wait_for 20 'the arrears come on top' says 'arrears operator' causes 1
is "$(writes a 1)" 1 'an open breaker is not opened again'
setup 'recharge account 1' recharge 1 50
wait_for 20 'the recharge takes the arrears away' says operator causes 1
not_closed 1 1 'with the cause operator left'
is_sql "SELECT count(*) FROM submeter.command WHERE meter_id = 1 AND action = 'close'" 0 'nobody asked for a close'
id=$(close_breaker 1)
wait_for 20 'the operator closes it' says confirmed command_state "$id"
ok 'and it is closed' is_lit a 1
is "$(causes 1)" '' 'no cause is left'

# 2: the other way round: the operator's close does not pay the bill
setup 'empty account 2' debit 2 -5
wait_for 20 'breaker 2 is opened for arrears' is_dark a 2
wait_for 20 'and confirmed' says 'none cut_off' decided 2
is "$(sql "SELECT submeter.request_command(1, 2, 'close', 'test')" 2>&1 | grep -o 'causes to stay open: .*')" \
	'causes to stay open: arrears' 'an operator cannot close it'
open_breaker 2 >/dev/null
setup 'recharge account 2' recharge 2 50
wait_for 20 'the recharge leaves the cause of the operator' says operator causes 2
not_closed 2 1 'opened for arrears and by an operator'
close_breaker 2 >/dev/null
wait_for 20 'it closes when the operator lets it' is_lit a 2
is "$(writes a 2)" 2 'one write to open, one to close'

# 3: a tag
setup 'empty account 3' debit 3 -5
wait_for 20 'breaker 3 is opened for arrears' is_dark a 3
wait_for 20 'the command is done' sql_true "SELECT bool_and(state = 'confirmed') FROM submeter.command WHERE meter_id = 3"
setup 'hang a tag' sql "DO \$\$ BEGIN PERFORM submeter.set_lockout(1, 3, 'works at the cable'); END \$\$"
setup 'recharge account 3' recharge 3 50
wait_for 20 'the recharge leaves the tag' says lockout causes 3
not_closed 3 1 'with a tag'
like "$(sql "SELECT submeter.request_command(1, 3, 'close', 'test')" 2>&1)" 'lockout' 'nor does an operator close it'
like "$(sql "SELECT submeter.clear_cause(1, 3, 'lockout', 'test')" 2>&1)" 'a lockout is not cleared as a cause' 'nor by the back door'
not_closed 3 1 'after both were refused'
setup 'take the tag off' sql "DO \$\$ BEGIN PERFORM submeter.clear_lockout(1, 3, 'works are done'); END \$\$"
wait_for 20 'it closes when the tag is off' is_lit a 3
is "$(writes a 3)" 2 'one write to open, one to close'

# 4: paid too little stays dark; found open by hand stays open
setup 'empty account 4' debit 4 -20
wait_for 20 'breaker 4 is opened for arrears' is_dark a 4
wait_for 20 'the command of breaker 4 is done' says 'none cut_off' decided 4
setup 'recharge too little' recharge 4 10
not_closed 4 1 'paid too little'
is "$(causes 4)" arrears 'the arrears stay on record'
setup 'recharge the rest' recharge 4 60
wait_for 20 'the rest closes it' is_lit a 4
true_in 20 'and the database knows' "SELECT relay = 'closed' FROM submeter.meter_state WHERE meter_id = 4"
wait_for 20 'no command is under way' sql_true "SELECT bool_and(finished_at IS NOT NULL) FROM submeter.command"
farm set a 4 relay=open >/dev/null
wait_for 20 'opened on the spot, it gets the cause unknown' says unknown causes 4
setup 'recharge account 4' recharge 4 50
not_closed 4 2 'opened by nobody knows whom'
is "$(causes 4)" unknown 'and the cause stays'
close_breaker 4 >/dev/null
wait_for 20 'an operator closes it' is_lit a 4

books 'at the end'
done_testing
