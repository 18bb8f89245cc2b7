#!/bin/bash
# Serial lines and backup addresses: a meter of pymodbus on a line, a line that vanishes and comes back, a line
# another program has; and a gateway that is reached at its second address while the first is down.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

dds='DDS238-2 ZN/SR'
line=$SM_RUN/line
# The far end of the line is a server of pymodbus that frames as RTU; socat is the cable.
mkfifo "$SM_RUN/meter.in"
/usr/bin/python3 "$here/../sim/pymodbus_server.py" --rtu 7:3:0=9,9,9,9,9,9,9,9,9,9,1,2,2301,500,1150,0,999,5000,0,0,0,0,0,0,0,0,1 \
	<"$SM_RUN/meter.in" >"$SM_RUN/meter.out" 2>"$SM_RUN/meter.err" &
at_exit kill $!
exec 7>"$SM_RUN/meter.in"
wait_for 30 'the meter is there' grep -q '^ready ' "$SM_RUN/meter.out"
port=$(awk '/^ready/ { print $2; exit }' "$SM_RUN/meter.out")
plug()
{
	socat "PTY,link=$line,raw,echo=0" "TCP:127.0.0.1:$port" &
	cable=$!
	at_exit kill "$cable"
}
plug
setup 'start the database' field_start
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}
error()
{
	sql "SELECT last_error FROM submeter.gateway WHERE gateway_id = $1"
}
setup 'plan' field_gateway 1 "$line:9600:8N1" transport=rtu 'poll_interval=300 ms' timeout_ms=500 gap_ms=0
setup 'meter' field_meter 1 1 7 "$dds"
poller_start --log-level debug
wait_for 20 'a meter on a serial line is read' more_than 1 3
is "$(sql "SELECT energy_wh || ' ' || v_a FROM submeter.reading WHERE meter_id = 1 LIMIT 1")" '655380 230.1' 'rightly'
id=$(sql "SELECT submeter.request_command(1, 1, 'open', 'test', 'operator')")
wait_for 10 'and switched' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
wait_for 20 'the line in use is shown' says "$line" sql 'SELECT via FROM submeter.gateway'
stty -F "$line" -a >"$SM_RUN/stty" 2>/dev/null || true
like "$(cat "$SM_RUN/stty")" 'speed 9600' 'at its speed'

kill "$cable"
wait "$cable" 2>/dev/null
wait_for 10 'a line that is pulled out' says f sql 'SELECT online FROM submeter.gateway'
plug
before=$(readings 1)
wait_for 40 'is opened again when it is back' more_than 1 "$before"
poller_stop

# A line somebody else has.
/usr/bin/python3 -c '
import fcntl, sys, time
line = open(sys.argv[1], "r+b", buffering=0)
fcntl.flock(line, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)' "$line" >"$SM_RUN/locker" &
locker=$!
at_exit kill "$locker"
wait_for 10 'another program has the line' grep -q locked "$SM_RUN/locker"
poller_start
wait_for 10 'then it is left alone' says 'another program has the serial line' error 1
kill "$locker"
before=$(readings 1)
wait_for 40 'until it is free' more_than 1 "$before"
sql "UPDATE submeter.gateway SET address = '/dev/null:9600:8N1'" >/dev/null
wait_for 15 'what is no line is told' says 'the device is no serial line' error 1
sql "UPDATE submeter.gateway SET address = '/dev/nothing:9600:8N1'" >/dev/null
wait_for 15 'and what is not there' says 'No such file or directory' error 1
sql "UPDATE submeter.gateway SET address = '/dev/ttyS0:9600'" >/dev/null
wait_for 15 'and what is half an address' says 'address "/dev/ttyS0:9600", transport "rtu": its address is not device:baud:8N1' error 1
sql "UPDATE submeter.gateway SET enabled = false" >/dev/null

# Two addresses.
farm_start "$SM_RUN" <<'END'
port a 0
meter 1 DDS238-2 watts=1000 start_kwh=100
port b 0
meter 1 DDS238-2 watts=1000 start_kwh=500
END
first=127.0.0.1:$(farm_port a)
second=127.0.0.1:$(farm_port b)
setup 'two addresses' field_gateway 2 "$first" "backup_address=$second" 'poll_interval=300 ms' timeout_ms=500
setup 'its meter' field_meter 2 2 1 "$dds"
via()
{
	sql 'SELECT via FROM submeter.gateway WHERE gateway_id = 2'
}
wait_for 15 'the first address is used' says "$first" via
farm down a
wait_for 20 'when it is down, the second' says "$second" via
farm up a
before=$(readings 2)
wait_for 10 'which is not left while it works' more_than 2 $((before + 5))
is "$(via)" "$second" 'though the first is back'
farm down b
wait_for 20 'when that is down, the first again' says "$first" via
farm down a
wait_for 20 'when both are down' says f sql 'SELECT online FROM submeter.gateway WHERE gateway_id = 2'
farm up b
wait_for 40 'the one that comes back is found' says "$second" via
ok 'the poller stops cleanly' poller_stop
done_testing
