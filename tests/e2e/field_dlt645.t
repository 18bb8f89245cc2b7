#!/bin/bash
# DL/T 645 end to end: meters of both versions on one line are read to the last digit, blocks and follow-up
# frames and refusals of blocks included; trouble on the line brings no wrong value into the database; a
# serial line does the same.
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
two=210204000012

setup 'start the database' field_start
make_plan()
{
	field_gateway 1 "127.0.0.1:$port" transport=dlt645-over-tcp timeout_ms=300 gap_ms=0 'poll_interval=200 ms' &&
		field_gateway 2 "$SM_RUN/tty:9600:8E1" transport=dlt645 timeout_ms=500 gap_ms=0 'poll_interval=500 ms' &&
		field_meter 1 1 161 'DLT645-2007 single-phase relay' &&
		field_meter 2 1 $two 'DLT645-2007 three-phase relay' &&
		field_meter 3 1 210204000013 'DLT645-2007 three-phase relay' &&
		field_meter 4 1 210204000014 'DLT645-2007 three-phase relay' &&
		field_meter 5 1 42 'DLT645-1997 single-phase' &&
		field_meter 6 1 43 'DLT645-1997 three-phase' &&
		field_meter 7 2 210204000077 'DLT645-2007 single-phase relay'
}
setup 'make a plan' make_plan
poller_start --log-level debug
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
wait_for 20 'a meter of one phase, to the last digit' says '123456780|230|4.347|1000|closed' last 1 'energy_wh, v_a, i_a, power_w, relay'
wait_for 10 'one of three phases' says '5000000|220|220|220|3000|1500|900|600|closed' \
	last 2 'energy_wh, v_a, v_b, v_c, power_w, power_a_w, power_b_w, power_c_w, relay'
wait_for 10 'one that refuses blocks' says '6000000|220|220|220|3000|1500|900|600' \
	last 3 'energy_wh, v_a, v_b, v_c, power_w, power_a_w, power_b_w, power_c_w'
wait_for 10 'one that cuts its answers into pieces' says '7000000|221|221|221|3000' last 4 'energy_wh, v_a, v_b, v_c, power_w'
wait_for 10 'one of 1997' says '77000|230|500' last 5 'energy_wh, v_a, power_w'
wait_for 10 'one of 1997 with three phases' says '88000|220|220|220|3000' last 6 'energy_wh, v_a, v_b, v_c, power_w'
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

# Trouble on the line. Registers stand still: whatever is not a meter's own is wrong.
wrong()
{
	sql 'SELECT count(*) FROM submeter.reading WHERE energy_wh <> (ARRAY[123456780, 5000000, 6000000, 7000000, 77000, 88000, 777770])[meter_id]'
}
while read -r fault; do
	# shellcheck disable=SC2086 # words
	farm fault line $fault
	n=$(count_of 3)
	wait_for 30 "read on with: $fault" more_than 3 $((n + 2))
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
