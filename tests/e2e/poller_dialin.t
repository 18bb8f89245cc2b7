#!/bin/bash
# Devices that dial in: told by what they say first, heartbeats answered, the newest connection taken over,
# strangers sent away and shown to who is to let them in.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

port=$(port_free)
mkfifo "$SM_RUN/device.in"
/usr/bin/python3 "$here/device.py" 127.0.0.1 "$port" <"$SM_RUN/device.in" >"$SM_RUN/device.out" 2>"$SM_RUN/device.err" &
at_exit kill $!
exec 7>"$SM_RUN/device.in"
hex()
{
	printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'
}
device()
{
	echo "$*" >&7
}
heard()
{
	grep -qx "$1" "$SM_RUN/device.out"
}
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
between()
{
	local value
	value=$(last "$1" energy_wh)
	[ -n "$value" ] && [ "$value" -ge "$2" ] && [ "$value" -le "$3" ]
}
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}

setup 'start the database' field_start
dds='DDS238-2 ZN/SR'
make_plan()
{
	field_gateway 1 "127.0.0.1:$port" dial_in=true registration=MOD1 heartbeat=BEAT heartbeat_answer=OK 'poll_interval=300 ms' gap_ms=0 &&
		field_gateway 2 "127.0.0.1:$port" dial_in=true registration=MOD12 'heartbeat=\xFE' 'heartbeat_answer=\xFF' 'poll_interval=300 ms' gap_ms=0 &&
		field_gateway 3 "127.0.0.1:$port" dial_in=true 'registration=\x00112233' 'poll_interval=300 ms' gap_ms=0 &&
		field_meter 1 1 7 "$dds" && field_meter 2 2 7 "$dds" && field_meter 3 3 7 "$dds"
}
setup 'make a plan' make_plan
poller_start --log-level debug
wait_for 15 'the poller listens' bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
device dial a 1000 "$(hex MOD1)"
wait_for 10 'a device that says its name is read' between 1 10000 20000
device dial b 2000 "$(hex MOD)" "$(hex 12)"
wait_for 10 'the longest name that fits is the right one, in pieces too' between 2 20000 30000
device dial c0 3000 001122330d0d0d0d0d0d0d0d
# 0D is no line end after bytes: it is no Modbus either.
wait_for 10 'what follows the name is no part of it' heard 'c0 down'
device dial c 3000 00112233
wait_for 10 'bytes as a name' between 3 30000 40000
wait_for 5 'all are online' says 3 sql 'SELECT count(*) FROM submeter.gateway WHERE online'

device say a "$(hex BEAT)"
wait_for 5 'a heartbeat is answered' heard "a heard $(hex OK)"
device say a "$(hex "MOD1
BEATBEAT")"
all_heard()
{
	[ "$(awk '$1 == "a" && $2 == "heard" { printf "%s", $3 }' "$SM_RUN/device.out")" = "$1" ]
}
wait_for 5 'between repetitions and line ends, too' all_heard "$(hex OKOKOK)"
device say b FE
wait_for 5 'one of a single byte' heard 'b heard ff'
n=$(readings 1)
wait_for 5 'and reading goes on' more_than 1 $((n + 3))
ok 'over the same connections' bash -c "! grep -qE '^[ab] down' '$SM_RUN/device.out'"

device hush a
device dial a2 5000 "$(hex MOD1)"
wait_for 10 'a device that comes anew takes over at once' between 1 50000 60000
wait_for 5 'and its old connection is closed' heard 'a down'
device close a2
wait_for 10 'a device that hangs up' heard 'a2 down'
device dial a3 7000 "$(hex MOD1)"
wait_for 10 'may come back' between 1 70000 80000

device dial x 1 "$(hex MAD1)"
wait_for 5 'who has another name is sent away' heard 'x down'
device dial y 1 "$(hex MOE1)"
wait_for 5 'who begins like one and ends otherwise, too' heard 'y down'
device dial z 1 "$(hex MAD1)"
wait_for 10 'both are shown to who is to let them in' says "127.0.0.1:$port 127.0.0.1 \x4d414431 MAD1 2
127.0.0.1:$port 127.0.0.1 \x4d4f4531 MOE1 1" \
	sql "SELECT concat_ws(' ', address, peer, first_bytes, first_text, times) FROM submeter.gateway_stranger WHERE first_bytes <> '' ORDER BY 1"
plans()
{
	[ "$(grep -c 'info: plan:' "$POLLER_LOG")" -gt "$1" ]
}
n=$(grep -c 'info: plan:' "$POLLER_LOG")
sql "UPDATE submeter.gateway SET registration = (SELECT first_bytes FROM submeter.gateway_stranger WHERE first_text = 'MAD1') WHERE gateway_id = 3" >/dev/null
wait_for 10 'the plan knows it then' plans "$n"
device dial z2 9000 "$(hex MAD1)"
wait_for 10 'what it says can be copied into the registration' between 3 90000 100000
sql "UPDATE submeter.gateway SET enabled = false WHERE gateway_id = 3" >/dev/null
wait_for 10 'a gateway that is taken out of the plan loses its connection' heard 'z2 down'
n=$(readings 2)
wait_for 5 'the others keep theirs' more_than 2 $((n + 2))
device close b
wait_for 10 'it hangs up' heard 'b down'
# The device dials in at another poller, which is played by hand.
other()
{
	server_psql db -c "SET SESSION AUTHORIZATION meter_reader" -c "$1" >/dev/null
}
other "SELECT * FROM submeter.renew_leases('other', 'x', NULL, true)"
other "SELECT submeter.claim_gateways('other', '{1}', '{1}')"
wait_for 10 'a device that is at another poller now is let go of' heard 'a3 down'
is "$(sql "SELECT online FROM submeter.gateway WHERE gateway_id = 1")" t 'and nothing bad is said of it'
device dial a4 60000 "$(hex MOD1)"
wait_for 10 'until it dials in here again' between 1 600000 700000
is "$(sql 'SELECT poller FROM submeter.gateway_lease WHERE gateway_id = 1')" test 'and is ours'
other "SELECT submeter.release_leases('other', 'x', true)"

sql "UPDATE submeter.gateway SET address = '192.0.2.1:$port' WHERE gateway_id = 1" >/dev/null
wait_for 20 'where this machine cannot listen is told' says 'could not listen on 192.0.2.1' \
	sql "SELECT left(last_error, 29) FROM submeter.gateway WHERE gateway_id = 1"
ok 'the poller stops cleanly' poller_stop
done_testing
