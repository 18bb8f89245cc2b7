#!/bin/bash
# RTU over TCP: the poller reads and switches a meter of pymodbus with its RTU framer, and a meter on a line
# where answers come late, twice, in pieces, behind noise, echoes and tails. No answer is ever taken for
# that to another question.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

# peer NAME FD COMMAND...: runs a server that prints "ready PORT"; its port is then in $port.
peer()
{
	local name=$1 fd=$2
	shift 2
	mkfifo "$SM_RUN/$name.in"
	"$@" <"$SM_RUN/$name.in" >"$SM_RUN/$name.out" 2>"$SM_RUN/$name.err" &
	at_exit kill $!
	eval "exec $fd>\"\$SM_RUN/$name.in\""
	wait_for 30 "$name listens" grep -q '^ready ' "$SM_RUN/$name.out"
	port=$(awk '/^ready/ { print $2; exit }' "$SM_RUN/$name.out")
}
peer foreign 7 /usr/bin/python3 "$here/../sim/pymodbus_server.py" --rtu 7:3:0=9,9,9,9,9,9,9,9,9,9,1,2,2301,500,1150,0,999,5000,0,0,0,0,0,0,0,0,1
foreign=$port
peer line 8 /usr/bin/python3 "$here/../sim/late_rtu.py"

setup 'start the database' field_start
dds='DDS238-2 ZN/SR'
make_plan()
{
	field_gateway 1 "127.0.0.1:$foreign" transport=rtu-over-tcp timeout_ms=1000 gap_ms=0 'poll_interval=300 ms' &&
		field_meter 1 1 7 "$dds" &&
		field_gateway 2 "127.0.0.1:$port" transport=rtu-over-tcp timeout_ms=3000 gap_ms=10 'poll_interval=300 ms' &&
		field_meter 2 2 5 "$dds"
}
setup 'make a plan' make_plan
poller_start --log-level debug
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 2"
}
more_than()
{
	[ "$(readings)" -gt "$1" ]
}
wait_for 20 'a meter of pymodbus is read' says '655380|230.1|1150|closed' last 1 'energy_wh, v_a, power_w, relay'
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test', 'operator')")
wait_for 10 'its breaker opens' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
echo writes >&7
wait_for 5 'written to once' grep -qx 'ok 7:26=0' "$SM_RUN/foreign.out"

wait_for 15 'the meter on the bad line is read' more_than 2
for fault in echo 'noise 00112233445566778899' 'noise 0503FF0503' tail other 'split 100'; do
	seen=$(readings)
	echo "$fault" >&8
	wait_for 10 "read on after: $fault" more_than $((seen + 3))
done
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 2 AND energy_wh NOT BETWEEN 10000 AND 30000")" 0 'with no value that was not the meter''s'
is "$(sql 'SELECT errors FROM submeter.gateway WHERE gateway_id = 2')" 0 'and no question lost over it'

# An answer that comes after its question was given up: 4,000,000 would be a credible register.
plans=$(grep -c 'info: plan:' "$POLLER_LOG")
sql 'UPDATE submeter.gateway SET timeout_ms = 300 WHERE gateway_id = 2'
plan_came()
{
	[ "$(grep -c 'info: plan:' "$POLLER_LOG")" -gt "$plans" ]
}
wait_for 20 'questions are given up sooner' plan_came
for wait in 400 650 700 750 1200 1700; do
	seen=$(readings)
	echo "late $wait 400000" >&8
	wait_for 20 "read on after an answer that was $wait ms late" more_than $((seen + 3))
done
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 2 AND energy_wh > 30000")" 0 'a late answer is no answer to the next question'
is "$(sql "SELECT count(*) FROM (SELECT energy_wh - lag(energy_wh) OVER (ORDER BY ts) AS step FROM submeter.reading WHERE meter_id = 2) s WHERE step <= 0")" 0 'and nothing is behind by one'
ok 'the poller stops cleanly' poller_stop
done_testing
