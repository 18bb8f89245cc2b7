#!/bin/bash
# The clock of the poller's machine jumps, by hours, back and forth: no reading is lost, doubled, out of order or at a wrong time.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 1
port a 0
meter 1-2 DDS238-2 watts=50000 start_kwh=100
END
setup 'start the database' field_start
a=$(farm_port a)
make_plan()
{
	local dds
	dds=$(sql "SELECT model FROM submeter.meter_model WHERE model LIKE 'DDS238%' ORDER BY model LIMIT 1")
	field_gateway 1 "127.0.0.1:$a" timeout_ms=1000 gap_ms=0 'poll_interval=100 ms' && field_meter 1 1 1 "$dds" && field_meter 2 1 2 "$dds"
}
setup 'make a plan' make_plan

# A clock for the poller alone: what it shows beyond the real time stands in a file.
library=$(find /usr/lib -name libfaketimeMT.so.1 | head -n 1)
setup 'faketime is there' test -n "$library"
clock()
{
	echo "$1" >"$SM_RUN/clock.new" && mv "$SM_RUN/clock.new" "$SM_RUN/clock"
}
poller_start_faked()
{
	LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$SM_RUN/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 poller_start
}
readings()
{
	sql 'SELECT count(*) FROM submeter.reading'
}
grown()
{
	local now
	now=$(readings) && [ -n "$now" ] && [ "$now" -gt "$1" ]
}
spooled()
{
	[ "$(spool 'SELECT count(*) FROM reading' 2>/dev/null || echo 0)" -gt "$1" ]
}
said()
{
	[ "$(grep -c "$1" "$POLLER_LOG")" -ge "$2" ]
}
# What is wrong with the readings since a time: far apart (the clock jumps by hours, the machine may be slow), out of order, in the future.
faults()
{
	sql "SELECT count(*) FILTER (WHERE gap > interval '1 min'), count(*) FILTER (WHERE energy_wh < before), count(*) FILTER (WHERE ts > clock_timestamp())
		FROM (SELECT ts, energy_wh, ts - lag(ts) OVER m AS gap, lag(energy_wh) OVER m AS before FROM submeter.reading
			WHERE ts > '$1' WINDOW m AS (PARTITION BY meter_id ORDER BY ts)) x"
}

# While the database is there
clock +0
poller_start_faked
wait_for 15 'it reads' grown 10
since=$(sql 'SELECT max(ts) FROM submeter.reading')
before=$(readings)
clock +3h
wait_for 10 'a jump forth is noticed' said 'clock of this machine jumped' 1
wait_for 15 'it goes on' grown $((before + 30))
clock -2h
wait_for 10 'a jump back as well' said 'clock of this machine jumped' 2
before=$(readings)
wait_for 15 'it goes on' grown $((before + 30))
is "$(faults "$since")" '0|0|0' 'the readings go on as if nothing had happened'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE ts < '$since'::timestamptz - interval '10 min' AND received_at > '$since'")" 0 'none is of an earlier time'

# While it is away
setup 'stop the server' server_stop db fast
clock +26h
wait_for 10 'a jump by more than a day' said 'clock of this machine jumped' 3
wait_for 15 'readings gather' spooled 60
clock -7d
wait_for 15 'and go on' spooled 120
clock +0
wait_for 15 'until the clock is right again' spooled 180
before=$(spool 'SELECT count(*) FROM reading')
setup 'start the server' server_start db
wait_for 30 'all of them come' grown "$before"
drained()
{
	[ "$(spool 'SELECT count(*) FROM reading')" -le 8 ]
}
wait_for 15 'and leave the spool' drained
is "$(faults "$since")" '0|0|0' 'in order, at their times'
poller_stop

# A machine that does not know the time when it starts, and the database is away
since=$(sql 'SELECT clock_timestamp()')
setup 'stop the server' server_stop db fast
clock -900d
poller_start_faked
wait_for 20 'it reads by the plan it kept' spooled 10
setup 'start the server' server_start db
before=$(readings)
wait_for 30 'readings come' grown $((before + 20))
clock +0
wait_for 20 'and go on' grown $((before + 60))
is "$(sql "SELECT count(*) FROM submeter.reading WHERE ts < '$since'::timestamptz - interval '10 min' AND received_at > '$since'")" 0 'none of them years ago'
is "$(faults "$since")" '0|0|0' 'they have the right times'
wait_for 30 'people hear of it' says t sql "SELECT count(*) > 0 FROM submeter.spool_event WHERE kind = 'clock'"
setup 'alarms are looked at' sql 'SELECT submeter.evaluate_alarms(1)' >/dev/null
is "$(sql "SELECT count(*) FROM submeter.open_alarm WHERE rule = 'clock_jumped'")" 1 'by an alarm'
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'no reading is suspect'
poller_stop
unlike "$(cat "$POLLER_LOG")" 'runtime error|Sanitizer' 'no complaint of a sanitizer'
done_testing
