#!/bin/bash
# The poller against a peer that nobody here wrote: a pymodbus server. Unit 1 is a prepaid meter
# without holes in its map; unit 2 is the same with holes, which pymodbus refuses to read along;
# unit 3 has floats. One command switches the breaker of unit 1, and the peer tells what it saw.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

peer_pid=
peer_in=$SM_RUN/peer.in
peer_out=$SM_RUN/peer.out

# Starts the server at a port; 0 takes a free one.
peer_start()
{
	: >"$peer_out"
	/usr/bin/python3 "$here/../sim/pymodbus_server.py" --port "$1" \
		1:3:10=0x0001,0xE240,2301,512,1234,0,987,5002,0,0,0,0,0,0,0,0,1 \
		2:3:10=0x0000,0x03E8,2296,33,0xFFFB 2:3:16=1000,4998 2:3:26=1 \
		3:4:0=0x4366,0x4000 3:4:6=0x3FC0,0 3:4:12=0x43AC,0x8000 3:4:30=0x3F70,0 3:4:70=0x4248,0 3:4:72=0x42F6,0xE979 \
		<"$peer_in" >"$peer_out" 2>"$SM_RUN/peer.err" &
	peer_pid=$!
	exec 7>"$peer_in"
	wait_until 30 grep -q '^ready ' "$peer_out"
}

peer_stop()
{
	[ -n "$peer_pid" ] || return 0
	kill "$peer_pid" 2>/dev/null
	wait "$peer_pid" 2>/dev/null
	peer_pid=
	exec 7>&-
}
at_exit peer_stop

# Sends a command to the peer and prints the line that answers it.
peer()
{
	local lines
	lines=$(wc -l <"$peer_out")
	echo "$*" >&7
	wait_until 10 eval "[ \$(wc -l <'$peer_out') -gt $lines ]"
	sed -n "$((lines + 1))p" "$peer_out"
}

last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}

count()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}

more_than()
{
	[ "$(count "$1")" -gt "$2" ]
}

setup 'make a pipe' mkfifo "$peer_in"
setup 'start the peer' peer_start 0
port=$(awk '/^ready/ { print $2 }' "$peer_out")
setup 'start the database' field_start
setup 'plan' eval 'field_gateway 1 "127.0.0.1:$port" timeout_ms=500 gap_ms=0 poll_interval="200 ms"
	field_meter 1 1 1 "DDS238-2 ZN/SR"; field_meter 2 1 2 "DDS238-2 ZN/SR"; field_meter 3 1 3 SDM120'
poller_start

# Values, as a person with the register map would compute them.
for meter in 1 2 3; do
	wait_for 15 "unit $meter is read" more_than $meter 2
done
columns="concat_ws(' ', energy_wh, v_a, i_a, power_w, power_factor, frequency_hz, relay)"
is "$(last 1 "$columns")" '1234560 230.1 5.12 1234 0.987 50.02 closed' 'a whole map'
is "$(last 2 "$columns")" '10000 229.6 0.33 -5 1 49.98 closed' 'a map with holes, and power that flows back'
is "$(last 3 "$columns")" '123456 230.25 1.5 345 0.9375 50' 'floats'
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'nothing is doubted'

# A register that changes.
before=$(count 1)
is "$(peer u32 1 3 10 123567)" ok 'the register moves on'
wait_for 10 'and is read' says 1235670 last 1 energy_wh
is "$(sql "SELECT string_agg(DISTINCT energy_wh::text, ' ' ORDER BY energy_wh::text) FROM submeter.reading WHERE meter_id = 1")" \
	'1234560 1235670' 'nothing between the two was made up'

# The breaker.
is "$(peer writes)" ok 'nothing was written so far'
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test', 'operator')")
state()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}
wait_for 15 'the breaker opens' says confirmed state "$id"
is "$(peer writes)" 'ok 1:26=0' 'the peer saw one write, to the relay'
is "$(peer get 1 3 26)" 'ok 0' 'and has it'
is "$(sql "SELECT format('%s %s %s', relay_before, relay_after, evidence ->> 'kind') FROM submeter.command WHERE command_id = $id")" \
	'closed open relay_register' 'with evidence'
wait_for 10 'readings show it open' says open last 1 relay
id=$(sql "SELECT submeter.request_command(1, 1, 'close', 'test')")
wait_for 15 'the breaker closes' says confirmed state "$id"
is "$(peer writes)" 'ok 1:26=0 1:26=1' 'by one more write'
wait_for 10 'readings show it closed' says closed last 1 relay

# A device that has no value says all ones: a reading without a register, and no register of 42 GWh.
peer set 2 3 10 0xFFFF 0xFFFF >/dev/null
wait_for 10 'all ones are no register' says '|229.6' last 2 energy_wh,v_a
is "$(sql 'SELECT valid_wh FROM submeter.meter_state WHERE meter_id = 2')" 10000 'the last register stays the baseline'
peer u32 2 3 10 1001 >/dev/null
wait_for 10 'the next value counts' says 10010 sql 'SELECT valid_wh FROM submeter.meter_state WHERE meter_id = 2'

# The peer goes away and comes back at the same place.
peer_stop
wait_for 20 'the gateway is reported as gone' says f sql 'SELECT online FROM submeter.gateway'
setup 'start the peer again' peer_start "$port"
before=$(count 3)
wait_for 40 'readings come again' more_than 3 "$before"
wait_for 10 'the gateway is reported as back' says t sql 'SELECT online FROM submeter.gateway'
is "$(peer writes)" ok 'nothing was written on the way'
ok 'the poller ends well' poller_stop
done_testing
