#!/bin/bash
# DL/T 645 end to end: meters of both versions on one line are read to the last digit, blocks and follow-up
# frames and refusals of blocks included; breakers move with password and time; trouble on the line
# brings no wrong value into the database; a serial line does the same.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

setup 'start the farm' farm_start "$SM_RUN" <<CONF
speed 0
zone 8
port line 0 wire=dlt645
meter 000000000161 DDSY-645 start_wh=123456780 watts=1000 voltage_v=230 pf=1
meter 210204000012 DTSY-645 start_wh=5000000 watts=3000 voltage_v=220 pf=1 split=50/30/20
meter 210204000013 DTSY-645 start_wh=6000000 watts=3000 voltage_v=220 pf=1 split=50/30/20 blocks=no
meter 210204000014 DTSY-645 start_wh=7000000 watts=3000 voltage_v=221 pf=1 frame_bytes=8
meter 42 DDS-1997 start_wh=77000 watts=500 voltage_v=230 pf=1
meter 43 DTS-1997 start_wh=88000 watts=3000 voltage_v=220 pf=1
port wires pty wire=dlt645 link=$SM_RUN/tty
meter 210204000077 DDSY-645 start_wh=777770 watts=1000 voltage_v=230
CONF
port=$(farm_port line)
one=161
two=210204000012

setup 'start the database' field_start
make_plan()
{
	field_gateway 1 "127.0.0.1:$port" transport=dlt645-over-tcp timeout_ms=500 gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 2 "$SM_RUN/tty:9600:8E1" transport=dlt645 timeout_ms=500 gap_ms=0 'poll_interval=500 ms' &&
		field_meter 1 1 161 'DLT645-2007 single-phase relay' &&
		field_meter 2 1 $two 'DLT645-2007 three-phase relay' &&
		field_meter 3 1 210204000013 'DLT645-2007 three-phase relay' &&
		field_meter 4 1 210204000014 'DLT645-2007 three-phase relay' &&
		field_meter 5 1 42 'DLT645-1997 single-phase' &&
		field_meter 6 1 43 'DLT645-1997 three-phase' &&
		field_meter 7 2 210204000077 'DLT645-2007 single-phase relay' &&
		sql 'SELECT submeter.set_meter_key(1, m, 2, $$000000$$) FROM unnest(ARRAY[1, 2, 3, 4, 7]) AS m'
}
setup 'make a plan' make_plan
poller_start --log-level debug
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
wait_for 20 'a meter of one phase, to the last digit' says '123456780|230.0|4.347|1000|closed' last 1 'energy_wh, v_a, i_a, power_w, relay'
wait_for 10 'one of three phases' says '5000000|220.0|220.0|220.0|3000|1500|900|600|closed' \
	last 2 'energy_wh, v_a, v_b, v_c, power_w, power_a_w, power_b_w, power_c_w, relay'
wait_for 10 'one that refuses blocks' says '6000000|220.0|220.0|220.0|3000|1500|900|600' \
	last 3 'energy_wh, v_a, v_b, v_c, power_w, power_a_w, power_b_w, power_c_w'
wait_for 10 'one that cuts its answers into pieces' says '7000000|221.0|221.0|221.0|3000' last 4 'energy_wh, v_a, v_b, v_c, power_w'
wait_for 10 'one of 1997' says '77000|230|500' last 5 'energy_wh, round(v_a), power_w'
wait_for 10 'one of 1997 with three phases' says '88000|220|220|220|3000' last 6 'energy_wh, round(v_a), round(v_b), round(v_c), power_w'
wait_for 10 'one on a serial line' says '777770|closed' last 7 'energy_wh, relay'
refusals=$(farm get line 210204000013 refusals)
count_of()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(count_of "$1")" -gt "$2" ]
}
n=$(count_of 3)
wait_for 10 'the one without blocks goes on' more_than 3 $((n + 3))
is "$(farm get line 210204000013 refusals)" "$refusals" 'and is not asked for them again'

# state_of ID: of a command
state_of()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}
order()
{
	sql "SELECT submeter.request_command(1, $1, '$2', 'test', 'operator')"
}
writes_of()
{
	farm get "$1" "$2" writes
}
id=$(order 1 open)
wait_for 15 'a breaker opens' says confirmed state_of "$id"
is "$(farm get line $one relay) $(writes_of line $one)" 'open 1' 'it did, and was written to once'
wait_for 10 'the reading says so' says 'open|0' last 1 'relay, power_w'
id=$(order 1 close)
wait_for 15 'it closes' says confirmed state_of "$id"
is "$(farm get line $one relay)" closed 'it did'
id=$(order 7 open)
wait_for 15 'one on the serial line opens' says confirmed state_of "$id"
is "$(farm get wires 210204000077 relay)" open 'it did'
like "$(farm log line)" "write=[0-9]+:000000000161:1C:1C:[0-9]{12}:ok" 'the order carried the time until which it was valid'

farm set line $two relay_ms=1500
id=$(order 2 open)
wait_for 15 'a slow relay' says confirmed state_of "$id"
is "$(farm get line $two relay) $(writes_of line $two)" 'open 1' 'is waited for and not told twice'
farm set line $two relay_ms=0
farm fault line $two reply-lost count 1
id=$(order 2 close)
wait_for 20 'an answer that was lost' says confirmed state_of "$id"
is "$(farm get line $two relay) $(writes_of line $two)" 'closed 2' 'is made up for by reading'
farm fault line $two relay-ignore count 1
id=$(order 2 open)
not_live()
{
	[[ $(state_of "$1") != @(queued|claimed|sent|unknown) ]]
}
wait_for 30 'a relay that acknowledges and does not move' not_live "$id"
isnt "$(state_of "$id")" confirmed 'is not believed'
is "$(farm get line $two relay)" closed 'closed it is'

# A wrong password: once, and never again.
farm set line 210204000014 password=123456
id=$(order 4 open)
wait_for 20 'a refused password' says failed state_of "$id"
is "$(farm get line 210204000014 wrong_passwords) $(farm get line 210204000014 relay)" '1 closed' 'was tried once'
like "$(sql "SELECT submeter.request_command(1, 4, 'open', 'test', 'operator')" 2>&1)" 'ERROR|[0-9]+' 'asked again'
n=$(count_of 4)
wait_for 10 'reading goes on' more_than 4 $((n + 3))
is "$(farm get line 210204000014 wrong_passwords)" 1 'without a second try'
sql 'SELECT submeter.set_meter_key(1, 4, 2, $$123456$$)' >/dev/null
id=$(order 4 open)
wait_for 20 'with the right one it opens' says confirmed state_of "$id"
is "$(farm get line 210204000014 relay)" open 'it did'

# Trouble on the line. Registers stand still: whatever is not a meter's own is wrong.
wrong()
{
	sql 'SELECT count(*) FROM submeter.reading WHERE energy_wh <> (ARRAY[123456780, 5000000, 6000000, 7000000, 77000, 88000, 777770])[meter_id]'
}
while read -r fault; do
	# shellcheck disable=SC2086 # words
	farm fault line $fault
	n=$(count_of 3)
	wait_for 30 "read on with: $fault" more_than 3 $((n + 3))
	farm clear line
done <<'FAULTS'
echo
tail
other count 20
repeat 3
preamble 600
slow 2 count 30
split 30
late count 10
late 700 count 5
half count 5
garbage 60 count 5
bad-checksum count 10
wrong-unit count 10
wrong-transaction count 10
wildcard count 10
bcd count 10
sentinel count 20
short count 10
wrong-count count 10
silence count 5
drop count 5
delay 200 count 10
exception 1 count 5
FAULTS
is "$(wrong)" 0 'no wrong value came of it'
is "$(sql 'SELECT count(*) FROM submeter.reading WHERE v_a > 240 OR v_b > 240 OR power_w > 3500')" 0 'nor a measurement from FF'

farm down wires
wait_for 30 'a serial line that is unplugged' says f sql 'SELECT coalesce(online, false) FROM submeter.gateway WHERE gateway_id = 2'
farm up wires
n=$(count_of 7)
wait_for 40 'and plugged in again' more_than 7 $((n + 2))
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop
done_testing
