#!/bin/bash
# kill -9 of the poller, of a backend, of a worker and of the whole server, in the middle of readings,
# payments and commands: no reading is lost, nothing is charged or credited twice, and a command that
# was in flight is found out by reading the breaker, never by writing again.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 20
port a 0
meter 1-3 DDS238-2 watts=10000 start_kwh=100
port b 0
meter 4-6 DDS238-2 watts=20000 start_kwh=7000
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && gateway 2 b && shops 1 3 1 10000 && shops 4 6 2 10000'
poller_start
true_in 30 'all meters are read' 'SELECT count(*) = 6 FROM submeter.meter_state WHERE energy_wh IS NOT NULL'

kept=$SM_RUN/kept
: >"$kept"
readings_after()
{
	true_in 40 "$2" "SELECT count(*) = 6 FROM submeter.meter_state WHERE ts > '$1'"
}
# The lease of a lost poller's command is over, without waiting for it.
end_lease()
{
	sql "UPDATE submeter.command SET lease_until = clock_timestamp() WHERE command_id = $1 AND state IN ('claimed', 'sent')"
}

# The poller, while a batch of it hangs in the database: that batch is stored in the end but never
# acknowledged, and what was read since is in the spool only.
setup 'hold the readings' hold_readings
wait_for 30 'readings pile up in the spool' spooled_more_than 40
poller_kill9
spool_list >>"$kept"
isnt "$(lacking "$kept")" 0 'the database lacks readings that the spool has'
release_readings
poller_start
wait_for 40 'the next poller delivers them' says 0 lacking "$kept"
is_sql "SELECT count(*) FROM submeter.reading_suspect" 0 'what the database had already is no second value'

for _ in 1 2 3 4 5; do
	wait_until 20 spooled_more_than 0
	poller_kill9
	spool_list >>"$kept"
	poller_start
done
readings_after "$(clock)" 'killed five times more, it reads on'
wait_for 30 'and has delivered all that was in its spool' says 0 lacking "$kept"

# The poller, between the write and the reading back
setup 'make the relay slow' farm fault a 1 relay-slow 1500 count 1 >/dev/null
id=$(open_breaker 1)
wait_for 20 'the command is sent' says sent command_state "$id"
wait_for 20 'and written' says 1 writes a 1
poller_kill9
wait_for 20 'the breaker opens' is_dark a 1
is "$(command_state "$id")" sent 'nobody has told the database'
poller_start
setup 'end the lease' end_lease "$id"
wait_for 40 'the next poller reads the breaker' says confirmed command_state "$id"
is "$(writes a 1)" 1 'and writes nothing'
close_breaker 1 >/dev/null
wait_for 20 'it can be closed again' is_lit a 1

# A poller that has sent and never written: read, found closed, failed; not sent again
poller_stop
id=$(open_breaker 2)
as_reader()
{
	PGUSER=meter_reader server_psql db -c "$1"
}
is "$(as_reader "SELECT command_id, step FROM submeter.claim_commands('lost', 10)")" "$id|switch" 'another poller takes a command'
is "$(as_reader "SELECT go FROM submeter.send_command(1, $id, 'lost')")" t 'may write it'
poller_start
setup 'end the lease of the lost one' end_lease "$id"
wait_for 40 'and is never heard of again: the breaker is read' says failed command_state "$id"
ok 'it is closed' is_lit a 2
is "$(writes a 2)" 0 'and nothing was written'
is_sql 'SELECT count(*) FROM submeter.open_cause WHERE meter_id = 2' 0 'no cause is left of it'
id=$(open_breaker 2)
wait_for 20 'a new command opens it' says confirmed command_state "$id"
close_breaker 2 >/dev/null
wait_for 20 'and another closes it' is_lit a 2

# A backend of the poller: PostgreSQL ends all of them and recovers; the poller goes on reading.
since=$(clock)
pid=$(poller_backend)
setup 'kill a backend of the poller' kill -9 "$pid"
wait_for 60 'the server is back' sql_true 'SELECT true'
wait_for 60 'the poller is back' new_pid poller_backend "$pid"
readings_after "$(clock)" 'readings come in again'

# A worker, while duties run
pid=$(worker_backend)
setup 'kill a worker' kill -9 "$pid"
wait_for 60 'another worker starts' new_pid worker_backend "$pid"
ran=$(sql "SELECT done FROM submeter.duty_state WHERE duty = 'settle'")
true_in 30 'and works' "SELECT done > $ran FROM submeter.duty_state WHERE duty = 'settle'"
readings_after "$(clock)" 'readings come in again after the worker was killed'

# The whole server, with a command in flight and while money comes in
pay()
{
	local number
	for number in $(seq 1 60); do
		until sql "SELECT submeter.recharge(1, 3, 1, 'cash', 'till-$number')" >/dev/null 2>&1; do
			[ ! -e "$SM_RUN/stop" ] || return 1
			sleep 0.05
		done
		echo "$number" >"$SM_RUN/paid"
	done
}
paid_more_than()
{
	[ "$(cat "$SM_RUN/paid" 2>/dev/null || echo 0)" -gt "$1" ]
}
pay &
payer=$!
at_exit touch "$SM_RUN/stop"
setup 'make the relay slow again' farm fault a 1 relay-slow 1500 count 1 >/dev/null
before=$(writes a 1)
id=$(open_breaker 1)
wait_for 20 'a command is sent' says sent command_state "$id"
wait_for 20 'and is on the wire' says $((before + 1)) writes a 1
wait_for 30 'payments come in' paid_more_than 5
setup 'kill the server' server_kill9 db
wait_for 20 'the breaker opens meanwhile' is_dark a 1
wait_for 30 'the poller keeps what it reads' spooled_more_than 20
spool_list >>"$kept"
setup 'start the server' server_start db
wait_for 60 'the poller reports what became of the command' says confirmed command_state "$id"
is "$(writes a 1)" $((before + 1)) 'it was written once'
wait_for 60 'the readings of the time without database are there' says 0 lacking "$kept"

# The same with the poller killed along with it: a power cut
setup 'make another relay slow' farm fault b 4 relay-slow 1500 count 1 >/dev/null
id=$(open_breaker 4)
wait_for 20 'another command is sent' says sent command_state "$id"
wait_for 20 'and written once' says 1 writes b 4
wait_for 30 'more payments come in' paid_more_than 25
until=$(clock)
server_kill9 db
wait_until 20 spooled_more_than 0
poller_kill9
spool_list >>"$kept"
wait_for 20 'the other breaker opens meanwhile' is_dark b 4
setup 'start the server again' server_start db
poller_start
wait_until 30 sql_true 'SELECT true'
setup 'end the lease of the dead poller' end_lease "$id"
wait_for 60 'the new poller reads the breaker' says confirmed command_state "$id"
is "$(writes b 4)" 1 'and does not write again'
wait_for 60 'all readings of the power cut are there' says 0 lacking "$kept"
wait_for 60 'all payments are made' paid_more_than 59
wait "$payer"
is_sql "SELECT count(*) || ' ' || sum(amount) FROM submeter.transfer WHERE idempotency_key LIKE 'till-%'" '60 60.00' \
	'each payment is credited once'

readings_after "$(clock)" 'after all that, readings come in'
no_gap 10 "$since" "$until" '1, 2, 3, 4, 5, 6' 'no server that died made a hole in the readings'
taken_in_turns 'each command was carried out once'
books 'at the end'
is "$(lacking "$kept")" 0 "not one of $(wc -l <"$kept") spooled readings is lost"
done_testing
