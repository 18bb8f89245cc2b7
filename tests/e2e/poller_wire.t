#!/bin/bash
# The poller on the wire: plan, readings, commands, faults of meters and gateways.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 1
port a 0
meter 1 DDS238-2 watts=1000 start_kwh=1234.56
meter 2 SDM120 watts=500 start_kwh=10
meter 3 DDS238-2 watts=2000 start_kwh=77
port b 0
meter 1 DTSY1352 watts=100 start_kwh=5
END
setup 'start the database' field_start
a=$(farm_port a) b=$(farm_port b)
model()
{
	sql "SELECT model FROM submeter.meter_model WHERE model LIKE '$1%' ORDER BY model LIMIT 1"
}
dds='DDS238-2 ZN/SR' dtsy=$(model 'DTSY1352') sdm=$(model 'SDM120')
make_plan()
{
	field_gateway 1 "127.0.0.1:$a" timeout_ms=300 gap_ms=0 'poll_interval=300 ms' &&
		field_gateway 2 "127.0.0.1:$b" timeout_ms=300 gap_ms=0 'poll_interval=300 ms' &&
		field_meter 1 1 1 "$dds" && field_meter 2 1 2 "$sdm" && field_meter 3 1 3 "$dds" &&
		field_meter 4 2 1 "$dtsy"
}
setup "make a plan" make_plan
poller_start --log-level debug

readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
for meter in 1 2 3 4; do
	wait_for 15 "meter $meter is read" more_than $meter 2
done
like "$(last 1 energy_wh)" '^12345[6-9]0$' 'energy in Wh, from 0.01 kWh'
is "$(last 1 relay)" closed 'the relay'
like "$(last 2 'round(v_a)')" '^2[0-9][0-9]$' 'voltage of a float meter'
ok 'gateways are reported' wait_until 20 says 2 sql "SELECT count(*) FROM submeter.gateway WHERE online AND requests > 0"

# commands
command()
{
	sql "SELECT submeter.request_command(1, $1, '$2', 'test', $3)"
}
state()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}
id=$(command 1 open "'operator'")
wait_for 10 'a breaker opens' says confirmed state "$id"
is "$(farm get a 1 relay)" open 'and is open'
is "$(sql "SELECT relay_before || ' ' || relay_after || ' ' || (evidence ->> 'kind') FROM submeter.command WHERE command_id = $id")" \
	'closed open relay_register' 'with evidence'
wait_for 5 'the database sees it in a reading' says open last 1 relay
is "$(farm log a | tr ' ' '\n' | grep -c '^write=')" 1 'one write was sent'

# a lost answer to the write: never written twice, read back decides
setup 'lose answers of writes' farm fault a 1 reply-lost count 1
id=$(command 1 close "NULL")
wait_for 10 'a close whose answer was lost is confirmed by reading' says confirmed state "$id"
is "$(farm log a | tr ' ' '\n' | grep -c '^write=')" 2 'written once'
farm fault a 3 relay-ignore
id=$(command 3 open "'operator'")
wait_for 15 'a breaker that does not obey fails' says failed state "$id"
is "$(farm get a 3 relay)" closed 'and has not moved'
farm clear all
id=$(command 4 open "'operator'")
wait_for 15 'a meter without relay register takes its command' says confirmed state "$id"
is "$(sql "SELECT evidence ->> 'kind' FROM submeter.command WHERE command_id = $id")" echo 'and the evidence says it was only the echo'
is "$(farm get b 1 relay)" open 'it is open'

# a dead meter beside live ones
before=$(readings 1)
farm fault a 2 silence
silent=$(sql 'SELECT clock_timestamp()')
wait_for 20 'a dead meter does not stop its neighbour' more_than 1 $((before + 20))
ok 'it is reported' wait_until 20 says f sql 'SELECT online FROM submeter.meter_state WHERE meter_id = 2'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 2 AND ts > '$silent'")" 0 'and read no more'
farm clear all
sql "INSERT INTO submeter.read_request (site_id, meter_id, reason) VALUES (1, 2, 'test')"
count=$(readings 2)
sql "NOTIFY submeter_poller, 'read'"
wait_for 40 'it is read at once when somebody waits for it' more_than 2 "$count"

# answers that are none
for fault in 'late' 'wrong-unit' 'wrong-transaction' 'wrong-function' 'wrong-count' 'short' 'garbage 9' \
	'half' 'drop' 'duplicate' 'split 30' 'exception 6' 'exception 11'; do
	count=$(readings 1)
	# shellcheck disable=SC2086 # the argument of a fault
	setup "fault $fault" farm fault a 1 $fault count 2
	wait_for 20 "after $fault it goes on" more_than 1 $((count + 2))
done
is "$(sql "SELECT count(*) FROM submeter.reading_suspect")" 0 'nothing wrong came through'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 1 AND energy_wh NOT BETWEEN 1234560 AND 1240000")" 0 'no value of another register'
is "$(farm log a overlaps)" 0 'never two questions at once'

# a gateway that is gone and comes back
farm down a
ok 'a dead gateway is reported' wait_until 15 says f sql 'SELECT online FROM submeter.gateway WHERE gateway_id = 1'
count=$(readings 4)
wait_for 10 'the other gateway is read on' more_than 4 $((count + 5))
id=$(command 3 open "'operator'")
given_back()
{
	says 'queued t' sql "SELECT state || ' ' || (detail LIKE 'gateway: %')::text::char FROM submeter.command WHERE command_id = $id"
}
wait_for 15 'a command for it is given back' given_back
farm up a
count=$(readings 3)
wait_for 40 'it is read again' more_than 3 "$count"
wait_for 40 'the command is carried out' says confirmed state "$id"

# a plan that is partly wrong
sql "INSERT INTO submeter.gateway (site_id, gateway_id, code, address) VALUES (1, 9, 'G9', 'nowhere')"
field_meter 90 1 'x1' "$dds"
ok 'a wrong address is reported' wait_until 15 says 'address "nowhere", transport "modbus-tcp": its address is not host:port' \
	sql 'SELECT last_error FROM submeter.gateway WHERE gateway_id = 9'
ok 'a wrong unit is reported' wait_until 15 says 'bus address "x1" is not a Modbus unit (0 to 255)' \
	sql 'SELECT last_error FROM submeter.meter_state WHERE meter_id = 90'
field_meter 5 2 9 "$dds"
wait_for 15 'a new meter that is not there is reported' says f sql 'SELECT online FROM submeter.meter_state WHERE meter_id = 5'
count=$(readings 4)
wait_for 10 'and does no harm' more_than 4 $((count + 5))

ok 'it stops cleanly' poller_stop
is "$(spool 'SELECT count(*) FROM reading')" 0 'with an empty spool'
is "$(spool 'SELECT count(*) FROM rejected')" 0 'and nothing was refused'
unlike "$(cat "$POLLER_LOG")" 'runtime error|AddressSanitizer' 'no complaint of a sanitizer'
done_testing
