#!/bin/bash
# A command has its time and is never sent after it, wherever it waited: for a gateway that is down,
# in the hands of a poller, without a poller, or while the database was away.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 10
port a 0
meter 1-2 DDS238-2 watts=10000 start_kwh=100
port b 0
meter 3-4 DDS238-2 watts=10000 start_kwh=100
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && gateway 2 b && shops 1 2 1 100 && shops 3 4 2 100'
poller_start
true_in 30 'all meters are read' "SELECT count(*) = 4 FROM submeter.meter_state WHERE relay = 'closed'"

soon="expires_at => now() + interval '2 s'"
read_since()
{
	true_in 60 "$3" "SELECT count(*) >= 3 FROM submeter.reading WHERE meter_id = $1 AND ts > '$2'"
}
never_sent()
{
	is_sql "SELECT count(*) FROM submeter.command WHERE command_id = $1 AND sent_at IS NOT NULL" 0 "$2: it is not on record as sent"
	is "$(command_state "$1")" expired "$2: it stays expired"
}

# The gateway is down
farm down a >/dev/null
true_in 60 'the gateway is reported down' 'SELECT NOT online FROM submeter.gateway WHERE gateway_id = 1'
id=$(open_breaker 1 "$soon")
wait_for 30 'a command for it expires' says expired command_state "$id"
is_sql 'SELECT count(*) FROM submeter.open_cause' 0 'with the cause it had put on record'
up=$(clock)
farm up a >/dev/null
read_since 1 "$up" 'the gateway is back and its meters are read'
never_sent "$id" 'gateway back'
is "$(writes a 1)" 0 'nothing was written'
ok 'the breaker is closed' is_lit a 1

# The gateway is silent while the poller has the command in hand
farm fault a 2 silence >/dev/null
id=$(open_breaker 2 "$soon")
wait_for 30 'a command for a silent meter expires' says expired command_state "$id"
up=$(clock)
farm clear all >/dev/null
read_since 2 "$up" 'the meter is read again'
never_sent "$id" 'meter back'
is "$(writes a 2)" 0 'nothing was written to it'

# Nobody carries commands
poller_stop
id=$(open_breaker 3 "$soon")
wait_for 30 'a command without a poller expires' says expired command_state "$id"
up=$(clock)
poller_start
read_since 3 "$up" 'the poller is back'
never_sent "$id" 'poller back'
is "$(writes b 3)" 0 'nothing was written by it'

# The poller has claimed it and is lost; when it expires it is not given to another one
poller_stop
id=$(open_breaker 3 "expires_at => now() + interval '3 s'")
PGUSER=meter_reader server_psql db -c "SELECT submeter.claim_commands('lost', 1)" >/dev/null
is "$(command_state "$id")" claimed 'a poller has a command'
true_now 30 "SELECT expires_at < clock_timestamp() FROM submeter.command WHERE command_id = $id"
is "$(PGUSER=meter_reader server_psql db -c "SELECT go, reason FROM submeter.send_command(1, $id, 'lost')")" 'f|expired' \
	'too late it is not allowed to write'
never_sent "$id" 'asked too late'

# Down with the database: queued, and expired before anything is back
id=$(open_breaker 4 "expires_at => now() + interval '1 s'")
expiry=$(sql "SELECT expires_at FROM submeter.command WHERE command_id = $id")
setup 'stop the server' server_stop db immediate
poller_start
past()
{
	[[ $(clock) > $expiry ]]
}
setup 'let it expire' wait_until 30 past
up=$(clock)
setup 'start the server' server_start db
read_since 4 "$up" 'all is back'
wait_for 30 'a command that expired without database' says expired command_state "$id"
never_sent "$id" 'database back'
is "$(writes b 4)" 0 'nothing was written after the database was away'

# A close that expired is not forgotten: who has paid is never left dark
setup 'empty account 1' debit 1 -5
wait_for 30 'breaker 1 is opened for arrears' is_dark a 1
true_in 20 'and confirmed' "SELECT relay = 'open' FROM submeter.meter_state WHERE meter_id = 1"
setup 'commands live shortly' sql "UPDATE submeter.credit_policy SET command_ttl = '2 s'"
farm down a >/dev/null
setup 'pay' recharge 1 50
true_in 30 'the close expires' "SELECT count(*) > 0 FROM submeter.command WHERE meter_id = 1 AND action = 'close' AND state = 'expired'"
ok 'it is dark' is_dark a 1
is_sql 'SELECT count(*) FROM submeter.open_cause WHERE meter_id = 1' 0 'though no cause is left'
up=$(clock)
farm up a >/dev/null
read_since 1 "$up" 'the gateway is up again'
setup 'commands live longer' sql "UPDATE submeter.credit_policy SET command_ttl = '15 min'"
# Ten minutes later
setup 'let time pass' sql "UPDATE submeter.command SET finished_at = finished_at - interval '11 min' WHERE meter_id = 1 AND state = 'expired'"
wait_for 60 'it is closed after all' is_lit a 1
is "$(writes a 1)" 2 'with one write to open and one to close'

books 'at the end'
done_testing
