#!/bin/bash
# Breakers of DL/T 645 over every wire: on a serial line, behind a concentrator, behind a module that dials
# in and by the key of the meter; what was acknowledged is not believed before it is seen, and a lost
# answer is made up for by reading.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

door=$(port_free)
other=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<CONF
speed 1
zone 8
port wires pty wire=dlt645 link=$SM_RUN/tty
meter 210204000077 DDSY-645 start_kwh=77 watts=1000
port box dial 127.0.0.1:$door wire=q376 terminal=4401:1 every=1 retry=0.3
meter 230100000003 DDSY-645 start_kwh=3 watts=1000
port mod dial 127.0.0.1:$other wire=dlt645 registration=MOD1 retry=0.3
meter 210204000012 DTSY-645 start_kwh=12 watts=3000
CONF
setup 'start the database' field_start
make_plan()
{
	field_gateway 1 "$SM_RUN/tty:9600:8E1" transport=dlt645 timeout_ms=500 gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 2 "127.0.0.1:$door" transport=q376-transparent dial_in=true registration=4401-1 timeout_ms=1000 gap_ms=0 'poll_interval=500 ms' &&
		field_gateway 3 "127.0.0.1:$other" transport=dlt645-over-tcp dial_in=true registration=MOD1 timeout_ms=500 gap_ms=0 'poll_interval=500 ms' &&
		field_meter 1 1 210204000077 'DLT645-2007 single-phase relay' &&
		field_meter 2 2 230100000003 'DLT645-2007 single-phase relay' &&
		field_meter 3 3 210204000012 'DLT645-2007 three-phase relay' &&
		sql 'SELECT submeter.set_meter_key(1, m, 2, $$000000$$) FROM generate_series(1, 3) AS m' >/dev/null
}
setup 'make a plan' make_plan
poller_start
read_from()
{
	sql 'SELECT count(DISTINCT meter_id) FROM submeter.reading'
}
wait_for 30 'all are read' says 3 read_from

state_of()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}
# order METER open|close: the id of the command
order()
{
	sql "SELECT submeter.request_command(1, $1, '$2', 'test'$([ "$2" = close ] || echo ", 'operator'"))"
}
# switched METER PORT ADDRESS 'where': opened and closed, each with one write
switched()
{
	local id
	id=$(order "$1" open)
	wait_for 20 "$4 a breaker opens" says confirmed state_of "$id"
	is "$(farm get "$2" "$3" relay) $(farm get "$2" "$3" writes)" 'open 1' 'it did, written to once'
	like "$(farm log "$2")" "write=[0-9]+:$3:1C:1A:[0-9]{12}:ok\$" 'with a time until which the order held'
	id=$(order "$1" close)
	wait_for 20 'and closes' says confirmed state_of "$id"
	is "$(farm get "$2" "$3" relay) $(farm get "$2" "$3" writes)" 'closed 2' 'it did, written to once'
}
switched 1 wires 210204000077 'on a serial line'
switched 2 box 230100000003 'behind a concentrator'
switched 3 mod 210204000012 'behind a module that dials in'

meter=210204000012
farm set mod $meter relay_ms=1500
id=$(order 3 open)
wait_for 20 'a slow relay' says confirmed state_of "$id"
is "$(farm get mod $meter relay) $(farm get mod $meter writes)" 'open 3' 'is waited for and not told twice'
farm set mod $meter relay_ms=0
farm fault mod $meter reply-lost count 1
id=$(order 3 close)
wait_for 20 'an answer that was lost' says confirmed state_of "$id"
is "$(farm get mod $meter relay) $(farm get mod $meter writes)" 'closed 4' 'is made up for by reading'
farm fault mod $meter repeat 3 count 2
id=$(order 3 open)
wait_for 20 'an answer that comes three times' says confirmed state_of "$id"
is "$(farm get mod $meter writes)" 5 'is one'
id=$(order 3 close)
wait_for 20 'closed again' says confirmed state_of "$id"
farm fault mod $meter relay-ignore count 1
id=$(order 3 open)
not_live()
{
	[[ $(state_of "$1") != @(queued|claimed|sent|unknown) ]]
}
wait_for 40 'a relay that acknowledges and does not move' not_live "$id"
isnt "$(state_of "$id")" confirmed 'is not believed'
is "$(farm get mod $meter relay) $(farm get mod $meter writes)" 'closed 7' 'nor told twice'

# Leave to close: somebody has to press the key.
sql "UPDATE submeter.credit_policy SET close_mode = 'local_key' WHERE site_id = 1" >/dev/null
id=$(order 2 open)
wait_for 20 'opened behind the concentrator' says confirmed state_of "$id"
id=$(order 2 close)
wait_for 20 'closing waits for the key' says awaiting_key state_of "$id"
is "$(farm get box 230100000003 relay) $(farm get box 230100000003 wants_key)" 'open yes' 'of a meter that is still open'
farm key box 230100000003
# The duty that sees to it, which no worker of this server runs.
pressed()
{
	sql 'SELECT submeter.switch_duty(1, clock_timestamp())' >/dev/null
	says confirmed state_of "$1"
}
wait_for 20 'once it is pressed' pressed "$id"
is "$(farm get box 230100000003 relay)" closed 'it is closed'
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop
done_testing
