#!/bin/bash
# Breakers behind DL/T 645 and RTU: passwords, clocks, keep-power, keys, locks, and what a crash leaves.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

door=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<END
speed 1
zone 8
port a 0 wire=dlt645
meter 000000000001 DDSY-645 watts=1000 start_kwh=10 password=123456
meter 000000000002 DDSY-645 watts=1000 start_kwh=20 password=654321
meter 000000000003 DTSY-645 watts=1000 start_kwh=30 password=123456
meter 000000000004 DDSY-645 watts=1000 start_kwh=40 password=123456
port b 0
meter 1 LX47LE-125 watts=100
port c 0 wire=rtu
meter 1 DDS238-2 watts=1000 start_kwh=50
port d dial 127.0.0.1:$door wire=q376 terminal=4403:1234 every=5 retry=1
meter 000000000007 DDSY-645 watts=1000 start_kwh=60 password=123456
END
setup 'start the database' field_start 'log_statement = all'
make_plan()
{
	field_gateway 1 "127.0.0.1:$(farm_port a)" transport=dlt645-over-tcp timeout_ms=500 gap_ms=0 'poll_interval=1 s' &&
		field_gateway 2 "127.0.0.1:$(farm_port b)" timeout_ms=500 gap_ms=0 'poll_interval=1 s' &&
		field_gateway 3 "127.0.0.1:$(farm_port c)" transport=rtu-over-tcp timeout_ms=300 gap_ms=0 'poll_interval=1 s' &&
		field_gateway 4 "127.0.0.1:$door" transport=q376-transparent dial_in=true registration=4403-1234 timeout_ms=3000 'poll_interval=1 s' &&
		field_meter 7 4 000000000007 'DLT645-2007 single-phase relay' &&
		field_meter 1 1 000000000001 'DLT645-2007 single-phase relay' && field_meter 2 1 000000000002 'DLT645-2007 single-phase relay' &&
		field_meter 3 1 000000000003 'DLT645-2007 three-phase relay' && field_meter 4 1 000000000004 'DLT645-2007 single-phase relay' &&
		field_meter 5 2 1 LX47LE-125 && field_meter 6 3 1 'DDS238-2 ZN/SR'
}
setup 'make a plan' make_plan
is "$(sql "SELECT count(submeter.set_meter_key(1, m, 2, '123456', '00000042')) FROM unnest('{1,2,3,4,7}'::int[]) m")" 5 'passwords are set'
poller_start --log-level debug

last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
command()
{
	sql "SELECT submeter.request_command(1, $1, '$2', 'test', $3)"
}
state()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}
outcome()
{
	sql "SELECT $2 FROM submeter.command WHERE command_id = $1"
}
# writes PORT PATTERN: how many of the last 16 writes look like that
writes()
{
	farm log "$1" | tr ' ' '\n' | grep '^write=' | grep -c "$2"
}
for meter in 1 2 3 4 5 6 7; do
	setup "read meter $meter" wait_until 20 says t sql "SELECT count(*) > 1 FROM submeter.reading WHERE meter_id = $meter"
done
is "$(last 1 relay)" closed 'the relay bit of status word 3'

# Look, clock, ask, write once, look back.
id=$(command 1 open "'operator'")
wait_for 15 'a breaker of DL/T 645 opens' says confirmed state "$id"
is "$(farm get a 000000000001 relay)" open 'and is open'
is "$(outcome "$id" "concat_ws(' ', relay_before, relay_after, evidence ->> 'kind', evidence #>> '{write,function}', evidence #>> '{write,echo}')")" \
	'closed open relay_register 28 true' 'with evidence'
ok 'timed by the clock of the meter, for five minutes' says t outcome "$id" \
	"(evidence #>> '{write,valid_until}')::timestamp - (evidence ->> 'clock')::timestamp BETWEEN interval '299 s' AND interval '304 s'"
is "$(writes a '000000000001:1C:.*:ok$')" 1 'one write was sent'
id=$(command 1 close NULL)
wait_for 15 'and closes' says confirmed state "$id"
is "$(farm get a 000000000001 relay)" closed 'and is closed'
id=$(command 1 close NULL)
wait_for 15 'what is in place already' says confirmed state "$id"
is "$(outcome "$id" "evidence ->> 'already'")" true 'is not written'
is "$(writes a 000000000001:1C)" 2 'two writes in all'

id=$(command 7 open "'operator'")
wait_for 15 'a breaker behind a concentrator opens' says confirmed state "$id"
is "$(farm get d 000000000007 relay)" open 'and is open'

# A wrong password: one write, and no other, whoever asks and however often the poller starts.
id=$(command 2 open "'operator'")
wait_for 15 'a meter that refuses its password fails' says failed state "$id"
is "$(outcome "$id" "evidence ->> 'kind'")" password_refused 'and the evidence says why'
is "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'key_refused' AND meter_id = 2 AND cleared_at IS NULL")" 1 'an alarm'
like "$(sql "SELECT submeter.request_command(1, 2, 'open', 'again')" 2>&1)" 'nothing is written to meter 2: the meter refused its password' 'asking again is refused'
slip_in()
{
	sql "INSERT INTO submeter.open_cause (site_id, meter_id, cause) VALUES (1, 2, 'operator') ON CONFLICT DO NOTHING;
		SELECT submeter.queue_command(1, 2, 'open', 'operator', 'slipped in', 'direct', now(), now() + interval '1 min', NULL, now())"
}
id=$(slip_in | tail -n 1)
wait_for 15 'what slips into the queue is cancelled' says cancelled state "$id"
poller_stop
poller_start --log-level debug
id=$(slip_in | tail -n 1)
wait_for 20 'also by a poller that has just started' says cancelled state "$id"
is "$(outcome "$id" detail)" 'the meter refused its password' 'with its reason'
is "$(writes a 000000000002:1C)" 1 'the meter saw one write'
is "$(farm get a 000000000002 wrong_passwords)" 1 'and one wrong password'
sql "SELECT submeter.set_meter_key(1, 2, 2, '654321')" >/dev/null
id=$(command 2 open "'operator'")
wait_for 15 'with the right one it opens' says confirmed state "$id"

# Nothing of a password anywhere but on the wire.
hidden()
{
	! grep -q -e 654321 -e 123456 "$POLLER_LOG" && [ "$(sql "SELECT count(*) FROM submeter.command WHERE evidence::text ~ '(654321|123456)'")" = 0 ]
}
ok 'no password in log or evidence' hidden
quiet_log()
{
	! grep 654321 "$(server_log db)" | grep -q set_meter_key
}
ok 'nor in the log of the server' quiet_log

# What the breaker says and what the meter measures.
alarmed()
{
	sql "SELECT submeter.evaluate_alarms(1, now()), submeter.evaluate_alarms(1, now() + interval '2 min')" >/dev/null
	[ "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule = '$1' AND meter_id = $2 AND cleared_at IS NULL")" = 1 ]
}
farm set c 1 word:3:26=0
wait_for 20 'open, and a load flows: an alarm' alarmed breaker_mismatch 6
farm set c 1 word:3:26=
farm set c 1 voltage_v=0
wait_for 20 'closed, and no voltage: another one' alarmed no_voltage 6
farm set c 1 voltage_v=230
is "$(farm log a overlaps) $(farm log c overlaps)" '0 0' 'never two questions at once'

# The ack late, twice, or lost: the breaker itself is asked, and never written again.
for fault in 'delay 700' 'repeat 3' 'reply-lost' 'echo' 'other' 'tail'; do
	before=$(farm log a writes)
	# shellcheck disable=SC2086 # the argument of a fault
	id=$(command 3 open "'operator'" && farm fault a 000000000003 $fault count 3 >/dev/null)
	wait_for 25 "$fault: opens" says confirmed state "$id"
	farm clear all >/dev/null
	is "$(farm log a writes)" $((before + 1)) 'written once'
	id=$(command 3 close NULL)
	wait_for 25 'and closes' says confirmed state "$id"
done
farm fault a 000000000003 relay-ignore
id=$(command 3 open "'operator'")
wait_for 25 'acknowledged and not moved is a failure' says failed state "$id"
is "$(outcome "$id" "evidence #>> '{write,echo}'")" true 'an acknowledgement is no proof'
farm clear all

# Killed between the write and the proof: the next poller reads, and writes nothing.
# confirmed COMMAND: whether it is, once the duty of the workers has looked
confirmed()
{
	sql "SELECT submeter.switch_duty(1, clock_timestamp())" >/dev/null
	says confirmed state "$1"
}
written()
{
	[ "$(farm log "$1" writes)" -gt "$2" ]
}
killed()
{
	local meter=$1 port=$2 unit=$3 id count
	count=$(farm log "$port" writes)
	farm fault "$port" "$unit" relay-slow 2000 >/dev/null
	id=$(command "$meter" open "'operator'")
	wait_until 15 written "$port" "$count" || return
	poller_kill9
	farm clear all
	# The lease of what was sent is longer than any relay takes.
	wait_until 10 says open farm get "$port" "$unit" relay || return
	sql "UPDATE submeter.command SET lease_until = now() WHERE command_id = $id"
	poller_start --log-level debug
	wait_until 40 confirmed "$id" && [ "$(farm log "$port" writes)" = $((count + 1)) ]
}
ok 'killed between write and proof on DL/T 645: read, not written again' killed 1 a 000000000001
ok 'the same on RTU' killed 6 c 1

# The clock of a meter.
farm set a 000000000004 clock_offset_s=-400
sql "UPDATE submeter.meter_state SET clock_at = NULL WHERE meter_id = 4" >/dev/null
id=$(command 4 open "'operator'")
wait_for 15 'a meter whose clock is 400 s behind obeys: the time is its own' says confirmed state "$id"
ok 'its clock is on record' says t sql 'SELECT clock_offset_s BETWEEN -402 AND -397 FROM submeter.meter_state WHERE meter_id = 4'
farm set a 000000000004 clock_offset_s=2000
id=$(command 4 close NULL)
wait_for 20 'a clock that has changed since: the meter says that the time is over' says failed state "$id"
is "$(outcome "$id" "evidence #>> '{write,error}'")" 1 'and the evidence has its error'
id=$(command 4 close NULL)
wait_for 20 'so its clock is read again, and it closes' says confirmed state "$id"
id=$(command 4 open "'operator'")
wait_for 20 'and opens' says confirmed state "$id"
farm set a 000000000004 clock_offset_s=-300000000
sql "UPDATE submeter.meter_state SET clock_at = NULL WHERE meter_id = 4" >/dev/null
before=$(farm log a writes)
id=$(command 4 close NULL)
wait_for 15 'a clock years behind: not sent' says cancelled state "$id"
like "$(outcome "$id" detail)" "the meter's clock is wrong" 'with its reason'
is "$(farm log a writes)" "$before" 'nothing was written'
like "$(sql "SELECT submeter.request_command(1, 4, 'close', 'again')" 2>&1)" 'Set its clock first' 'asking again is refused'
id=$(sql "SELECT submeter.set_meter_clock(1, 4, 'battery was empty')")
wait_for 20 'its clock is set' says confirmed state "$id"
is "$(writes a '000000000004:14:0400010')" 2 'by two writes, date and time'
ok 'and is right' says t sql 'SELECT abs(clock_offset_s) <= 5 FROM submeter.meter_state WHERE meter_id = 4'
id=$(command 4 close NULL)
wait_for 15 'now it closes' says confirmed state "$id"

# A little wrong is set by broadcast. The zone is chosen so that it is half past the hour.
clocks_asked()
{
	sql "NOTIFY submeter_poller, 'clock'"
	[ "$(sql "$1")" = t ]
}
shift_min=$(((30 - $(date -u +%-M) + 60) % 60))
sql "UPDATE submeter.site SET time_zone = 'ABC-08:$(printf %02d $shift_min)'"
for unit in 1 2 3 4; do
	farm set a 00000000000$unit clock_offset_s=$((shift_min * 60 + (unit == 1 ? 90 : 0)))
done
sql 'UPDATE submeter.meter_state SET clock_at = NULL, clock_asked_at = NULL'
wait_for 30 'clocks are read' clocks_asked 'SELECT clock_offset_s BETWEEN 86 AND 93 FROM submeter.meter_state WHERE meter_id = 1'
wait_for 30 'the time is broadcast' clocks_asked 'SELECT clock_set_at IS NOT NULL FROM submeter.gateway WHERE gateway_id = 1'
wait_for 10 'the meter heard it' says 1 farm get a 000000000001 clock_sets
sql 'UPDATE submeter.meter_state SET clock_asked_at = NULL'
wait_for 30 'and is right' clocks_asked 'SELECT abs(clock_offset_s) <= 3 FROM submeter.meter_state WHERE meter_id = 1'
sql "UPDATE submeter.site SET time_zone = 'Asia/Shanghai'; UPDATE submeter.meter_state SET clock_at = NULL"
for unit in 1 2 3 4; do
	farm set a 00000000000$unit clock_offset_s=0
done

# Keep-power: sent to a protected meter, read back, and the meter takes no trip.
sql "UPDATE submeter.meter SET protection = 'protected' WHERE meter_id = 3" >/dev/null
duty()
{
	sql "SELECT submeter.breaker_duty(1, now())" >/dev/null
	[ "$(sql "SELECT keep FROM submeter.meter_state WHERE meter_id = 3")" = "$1" ]
}
wait_for 20 'keep-power is sent and read back' duty on
is "$(farm get a 000000000003 keep)" yes 'the meter has it'
like "$(sql "SELECT submeter.request_command(1, 3, 'open', 'no')" 2>&1)" 'keeps its power on' 'it is not opened'
sql "UPDATE submeter.meter SET protection = 'none' WHERE meter_id = 3" >/dev/null
wait_for 20 'released with the protection' duty off

# Waiting for the key.
sql "UPDATE submeter.credit_policy SET close_mode = 'local_key'" >/dev/null
is "$(farm get a 000000000001 relay)" open 'an open breaker'
id=$(command 1 close NULL)
wait_for 25 'a permitted close waits for the key' says awaiting_key state "$id"
is "$(farm get a 000000000001 wants_key)" yes 'the meter waits'
farm key a 000000000001
wait_for 20 'the key is pressed: confirmed by a reading' confirmed "$id"
sql "UPDATE submeter.credit_policy SET close_mode = 'direct'" >/dev/null

# Locked on the spot.
id=$(command 5 open "'operator'")
wait_for 20 'a smart breaker opens' says confirmed state "$id"
farm set b 1 locked=yes
before=$(farm log b writes)
id=$(command 5 close NULL)
wait_for 20 'locked on the spot it is not closed' says failed state "$id"
is "$(outcome "$id" "evidence ->> 'kind'")" local_lock 'and the evidence says so'
is "$(farm log b writes)" "$before" 'nothing was written'
farm set b 1 locked=no
id=$(command 5 close NULL)
wait_for 20 'unlocked it closes' says confirmed state "$id"

# Closed by hand: on record, and no theft.
id=$(command 6 close NULL)
wait_for 20 'closed' says confirmed state "$id"
id=$(command 6 open "'operator'")
wait_for 20 'opened' says confirmed state "$id"
farm set c 1 relay=closed
by_hand()
{
	sql "SELECT submeter.breaker_duty(1, now())" >/dev/null
	[ "$(sql "SELECT count(*) FROM submeter.breaker_event WHERE meter_id = 6 AND kind = 'closed_by_hand' AND ended_at IS NULL")" = 1 ]
}
wait_for 20 'closed on the spot is on record' by_hand
poller_stop
done_testing
