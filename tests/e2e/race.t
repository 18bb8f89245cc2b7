#!/bin/bash
# A recharge races the trip: money comes at every moment from before the announcement to after the
# breaker opened, while answers get lost on the wire. Whatever the order, a tenant who has paid ends up
# with a closed breaker, without the cause arrears and without a command under way; no breaker is
# written to twice for one command, and never is more than one command of a meter live.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

SHOPS=6
ROUNDS=${RACE_ROUNDS:-12}

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 10
port a 0
meter 1-3 DDS238-2 watts=10000 start_kwh=100 relay_ms=50
port b 0
meter 4-6 DDS238-2 watts=10000 start_kwh=100 relay_ms=400
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && gateway 2 b && shops 1 3 1 50 && shops 4 6 2 50'
poller_start
true_in 30 'all meters are read' "SELECT count(*) = $SHOPS FROM submeter.meter_state WHERE relay = 'closed'"

port()
{
	if (($1 <= 3)); then echo a; else echo b; fi
}
# What a shop is at: in_credit, announced, on_way (a command is live or just done), dark
passed()
{
	case $1 in
		announced) sql_true "SELECT announced_at IS NOT NULL FROM submeter.account_state WHERE account_id = $2" || passed on_way "$2" ;;
		on_way) sql_true "SELECT EXISTS (SELECT FROM submeter.open_cause WHERE meter_id = $2)" ;;
		sent) sql_true "SELECT state NOT IN ('queued', 'claimed') FROM submeter.command WHERE meter_id = $2 ORDER BY command_id DESC LIMIT 1" ;;
		dark) is_dark "$(port "$2")" "$2" ;;
	esac
}
# One tenant falls into arrears and pays at a moment of its own.
tenant()
{
	local id=$1 moment=$2
	debit "$id" -5 || return
	if [ "$moment" != at_once ]; then
		wait_until 60 passed "$moment" "$id" || return
		# Not a wait for anything: the moment is to be any.
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
	fi
	recharge "$id" 25
}
is_settled()
{
	local id
	sql_true "SELECT NOT EXISTS (SELECT FROM submeter.open_cause)
		AND NOT EXISTS (SELECT FROM submeter.command WHERE finished_at IS NULL)
		AND NOT EXISTS (SELECT FROM submeter.account_balances(1) WHERE available < 0)" || return
	for ((id = 1; id <= SHOPS; id++)); do
		is_lit "$(port "$id")" "$id" || return
	done
}
# Once everybody has paid, not even a further run of policy and switching brings anything up.
stays_settled()
{
	local ran
	ran=$(sql "SELECT sum(done) FROM submeter.duty_state WHERE duty IN ('policy', 'switching')")
	true_now 30 "SELECT bool_and(done > 0) AND sum(done) >= $ran + 4 FROM submeter.duty_state WHERE duty IN ('policy', 'switching')" && is_settled
}

moments=(at_once announced on_way sent dark)
RANDOM=4711
for ((round = 1; round <= ROUNDS; round++)); do
	tenants=()
	plan=
	if ((round % 3 == 0)); then
		farm fault a $((RANDOM % 3 + 1)) reply-lost count 1 >/dev/null
		farm fault b $((RANDOM % 3 + 4)) reply-lost count 1 >/dev/null
	fi
	for ((id = 1; id <= SHOPS; id++)); do
		# Every moment in turn for every shop, so that none depends on chance.
		moment=${moments[(round + id) % 5]}
		plan+=" $moment"
		RANDOM=$((round * 100 + id))
		tenant "$id" "$moment" &
		tenants+=($!)
	done
	bad=0
	for pid in "${tenants[@]}"; do
		wait "$pid" || bad=1
	done
	is "$bad" 0 "round $round: everybody has paid:$plan"
	wait_for 60 "round $round: everybody has power" is_settled ||
		diag "$(sql "SELECT meter_id, action, state, detail FROM submeter.command ORDER BY command_id DESC LIMIT 12")"
	farm clear all >/dev/null
done
ok 'and it stays so' stays_settled

# The narrow places on purpose. Paid while the open waits for a gateway:
farm down a >/dev/null
before=$(writes a 1)
setup 'empty account 1' debit 1 -5
wait_for 60 'a trip waits for the gateway' sql_true "SELECT state IN ('queued', 'claimed') FROM submeter.command WHERE meter_id = 1 ORDER BY command_id DESC LIMIT 1"
id=$(sql 'SELECT max(command_id) FROM submeter.command WHERE meter_id = 1')
setup 'pay' recharge 1 25
farm up a >/dev/null
wait_for 60 'it is called off' says cancelled command_state "$id"
now=$(clock)
true_in 60 'the gateway is back' "SELECT count(*) = 3 FROM submeter.meter_state WHERE ts > '$now' AND meter_id <= 3"
is "$(writes a 1)" "$before" 'and nothing was written'

# paid while the open is on the wire:
before=$(writes b 4)
farm fault b 4 relay-slow 1200 count 1 >/dev/null
setup 'empty account 4' debit 4 -5
wait_for 60 'an open is on the wire' says $((before + 1)) writes b 4
setup 'pay meanwhile' recharge 4 25
true_in 20 'the cause goes at once' 'SELECT NOT EXISTS (SELECT FROM submeter.open_cause WHERE meter_id = 4)'
wait_for 20 'it opens nevertheless' is_dark b 4
wait_for 20 'and closes again by itself' is_lit b 4
is "$(writes b 4)" $((before + 2)) 'one write each'

# and in arrears again while the close is on the wire:
setup 'empty account 5' debit 5 -5
wait_for 60 'it is opened' is_dark b 5
wait_for 60 'and done' sql_true "SELECT bool_and(finished_at IS NOT NULL) FROM submeter.command WHERE meter_id = 5"
before=$(writes b 5)
farm fault b 5 relay-slow 1200 count 1 >/dev/null
setup 'pay for a while' recharge 5 10
wait_for 20 'a close is on the wire' says $((before + 1)) writes b 5
setup 'empty account 5 again' debit 5 -5
wait_for 20 'it closes first' is_lit b 5
wait_for 20 'and is opened again' is_dark b 5
setup 'pay at last' recharge 5 25
wait_for 60 'at last everybody has power' is_settled

is_sql "SELECT count(*) > 0 FROM submeter.command WHERE action = 'open' AND state = 'confirmed'" t 'some were cut and reconnected'
is_sql "SELECT count(*) FROM submeter.command WHERE state IN ('failed', 'expired')" 0 'no command failed'
taken_in_turns 'opened and closed in turns'
for ((id = 1; id <= SHOPS; id++)); do
	written=$(writes "$(port "$id")" "$id")
	sent=$(sql "SELECT count(*) FROM submeter.command WHERE meter_id = $id AND sent_at IS NOT NULL")
	ok "meter $id: $written writes for $sent commands that were sent" test "$written" -le "$sent"
	ok "meter $id: and it was really switched" test "$written" -gt 0
done
note "$(sql "SELECT string_agg(format('%s %s: %s', action, state, n), ', ' ORDER BY action, state) FROM (
	SELECT action, state, count(*) AS n FROM submeter.command GROUP BY 1, 2) c")"
is_sql "SELECT count(*) FROM submeter.notice n WHERE n.kind = 'reconnected' AND NOT EXISTS (
	SELECT FROM submeter.notice t WHERE t.account_id = n.account_id AND t.kind = 'tripped' AND t.notice_id < n.notice_id)" 0 \
	'nobody is told of light before being told of darkness'
is_sql "SELECT count(*) FROM submeter.transfer WHERE kind = 'recharge' AND account_id = 3" $((ROUNDS + 1)) 'every payment is there once'
books 'at the end'
done_testing
