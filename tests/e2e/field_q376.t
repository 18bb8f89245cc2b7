#!/bin/bash
# Concentrators of 376.1 end to end: they log in and are confirmed, their heartbeats are answered, the
# meters behind them are read through them, and what they get wrong brings no wrong value.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

door=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<CONF
speed 0
zone 8
port box dial 127.0.0.1:$door repeat=2 wire=q376 terminal=4401:1 every=1 retry=0.3
meter 23%%00000001-23%%00000010 DDSY-645 watts=1000 voltage_v=230
port stranger dial 127.0.0.1:$door wire=q376 terminal=4401:77 every=1 retry=0.5
meter 1 DDSY-645
CONF
for box in 1 2; do
	for n in 01 02 03 04 05 06 07 08 09 10; do
		farm set "box$box" "230${box}000000$n" register_wh=$((box * 1000000 + 10#$n * 1000))
	done
done
setup 'start the database' field_start
# Each concentrator is said to have an eleventh meter that is not there.
make_plan()
{
	sql "INSERT INTO submeter.gateway (site_id, gateway_id, code, transport, address, dial_in, registration, gap_ms, timeout_ms, poll_interval)
			SELECT 1, n, 'BOX' || n, 'q376-transparent', '127.0.0.1:$door', true, '4401-' || n, 0, 600, interval '300 ms' FROM generate_series(1, 2) AS n;
		INSERT INTO submeter.meter (site_id, meter_id, code, gateway_id, bus_address, model)
			SELECT 1, box * 100 + n, format('M%s-%s', box, n), box, '230' || box || lpad(n::text, 8, '0'), 'DLT645-2007 single-phase relay'
			FROM generate_series(1, 2) AS box CROSS JOIN generate_series(1, 11) AS n"
}
setup 'make a plan' make_plan
poller_start --log-level debug
read_from()
{
	sql 'SELECT count(DISTINCT meter_id) FROM submeter.reading'
}
count_of()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(count_of "$1")" -gt "$2" ]
}
wrong()
{
	sql 'SELECT count(*) FROM submeter.reading WHERE energy_wh <> meter_id / 100 * 1000000 + meter_id % 100 * 1000'
}
wait_for 40 'twenty meters behind two concentrators are read' says 20 read_from
is "$(farm log box1 registrations) $(farm log box2 registrations)" '1 1' 'which logged in once'
beats()
{
	[ "$(farm log box1 heartbeat_answers)" -gt 2 ]
}
wait_for 15 'their heartbeats are answered' beats
is "$(sql 'SELECT count(*) FROM submeter.reading WHERE meter_id IN (111, 211)')" 0 'a meter that is not there gives no reading'
calls()
{
	[ "$(farm log stranger calls)" -gt 1 ]
}
wait_for 15 'a concentrator nobody knows is sent away' calls

while read -r fault; do
	# shellcheck disable=SC2086 # words
	farm fault box2 $fault
	n=$(count_of 202)
	wait_for 40 "read on with: $fault" more_than 202 $((n + 2))
	farm clear box2
done <<'FAULTS'
wrong-unit count 10
wrong-transaction count 10
other count 10
echo count 10
bcd count 10
bad-checksum count 10
half count 5
late count 5
delay 300 count 5
split 50 count 10
slow 1 count 10
silence count 5
repeat 3 count 10
garbage 40 count 3
drop count 1
FAULTS
n=$(count_of 105)
farm reconnect box1 hang
wait_for 30 'a concentrator that logs in anew, its old call still open, is read over the new one' more_than 105 $((n + 2))

# Over a carrier an answer may take many seconds. It is waited for, and nobody else is asked meanwhile.
plans=$(grep -c 'info: plan:' "$POLLER_LOG")
sql 'UPDATE submeter.gateway SET timeout_ms = 40000 WHERE gateway_id = 1; UPDATE submeter.meter SET retired_at = now() WHERE meter_id = 111'
plan_came()
{
	[ "$(grep -c 'info: plan:' "$POLLER_LOG")" -gt "$plans" ]
}
wait_for 20 'a gateway that takes its time' plan_came
n=$(count_of 105)
wait_for 30 'is read' more_than 105 $((n + 1))
errors_of()
{
	sql "SELECT errors FROM submeter.meter_state WHERE meter_id = $1"
}
errors=$(errors_of 105)
overlaps=$(farm log box1 overlaps)
farm fault box1 230100000005 delay 12000 count 1
asked=$(sql 'SELECT clock_timestamp()')
n=$(count_of 105)
wait_for 60 'an answer after twelve seconds' more_than 105 $((n + 2))
is "$(sql "SELECT max(ts - before) > interval '11 s' FROM (SELECT ts, lag(ts) OVER (ORDER BY ts) AS before FROM submeter.reading WHERE meter_id = 105 AND ts > '$asked'::timestamptz - interval '10 s') r")" t 'came that late'
is "$(errors_of 105)" "$errors" 'and is no error'
is "$(farm log box1 overlaps)" "$overlaps" 'nor was anything asked meanwhile'
is "$(wrong)" 0 'no meter was ever taken for another'
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop
done_testing
