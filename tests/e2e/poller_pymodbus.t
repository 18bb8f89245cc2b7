#!/bin/bash
# The poller against a Modbus server that nobody here wrote, looked at with a client that nobody
# here wrote: pymodbus and mbpoll.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

# DDS238-2 ZN/SR: counter at 10 (0.01 kWh), voltage at 12 (0.1 V), power at 14, relay at 26.
mkfifo "$SM_RUN/in"
/usr/bin/python3 "$here/../sim/pymodbus_server.py" 7:3:0=9,9,9,9,9,9,9,9,9,9,1,2,2301,500,1150,0,999,5000,0,0,0,0,0,0,0,0,1 \
	<"$SM_RUN/in" >"$SM_RUN/out" 2>"$SM_RUN/err" &
peer=$!
exec 7>"$SM_RUN/in"
at_exit kill "$peer"
listening()
{
	grep -q '^ready ' "$SM_RUN/out"
}
wait_for 30 'pymodbus listens' listening
port=$(awk '/^ready/ { print $2 }' "$SM_RUN/out")

setup 'start the database' field_start
dds='DDS238-2 ZN/SR'
make_plan()
{
	field_gateway 1 "127.0.0.1:$port" timeout_ms=1000 gap_ms=0 'poll_interval=300 ms' &&
		field_meter 1 1 7 "$dds"
}
setup 'make a plan' make_plan
poller_start
last()
{
	sql "SELECT $1 FROM submeter.reading ORDER BY ts DESC LIMIT 1"
}
mbpoll_says()
{
	mbpoll -m tcp -p "$port" -a 7 -0 -r "$1" -c 1 -t 4 -1 -q 127.0.0.1 | sed -n "s/^\[$1\]:[[:space:]]*\([0-9]*\).*/\1/p"
}
wait_for 20 'a meter is read' says '655380|230.1|1150|closed' last 'energy_wh, v_a, power_w, relay'
is "$("$POLLER" read --address "127.0.0.1:$port" --unit 7 --register 12 | awk '{ print $4 }')" "$(mbpoll_says 12)" 'read and mbpoll see the same register'
ok 'read says when there is no such register' eval '! "$POLLER" read --address "127.0.0.1:$port" --unit 7 --register 60000 2>/dev/null'
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test', 'operator')")
wait_for 10 'a breaker opens' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
is "$(mbpoll_says 26)" 0 'mbpoll sees it open'
wait_for 10 'and a reading, too' says open last relay
echo writes >&7
wait_for 5 'the server was written to once' grep -qx 'ok 7:26=0' "$SM_RUN/out"
ok 'the poller stops cleanly' poller_stop
done_testing
