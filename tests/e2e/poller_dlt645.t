#!/bin/bash
# DL/T 645 over TCP: meters of 2007 and 1997 on one line, meters without blocks, answers of several frames, an
# address that asks any meter, and everything a bad line does. No value is ever booked that was not the meter's.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

setup 'start the farm' farm_start "$SM_RUN" <<END
speed 0
port line 0 wire=dlt645
meter 000000000001 DTSY-645 watts=3000 start_wh=123456780 voltage_v=231.5
meter 000000000002 DTSY-645 watts=1500 start_wh=2000000 blocks=no
meter 112233445566 DDSY-645 watts=700 start_wh=3000000 preamble=0
meter 000000000009 DDS-1997 watts=500 start_wh=4000000 voltage_v=229
port pieces 0 wire=dlt645
meter 000000000001 DTSY-645 watts=3000 start_wh=5000000 frame_bytes=8
port slow 0 wire=dlt645 baud=2400
meter 1-6 DDSY-645 watts=100 start_wh=1000000
port alone 0 wire=dlt645
meter 987654321098 DDSY-645 watts=1000 start_wh=6000000
END
setup 'start the database' field_start
make_plan()
{
	local port g=1
	sql "INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('lacking', 'test', 'dlt645-2007');
		INSERT INTO submeter.meter_point (model, metric, di, block_di, block_offset, bytes, type, scale) VALUES
		('lacking', 'energy_wh', '00010000', NULL, NULL, 4, 'bcd', 10),
		('lacking', 'v_a', '02010100', '0299FF00', 0, 2, 'bcd', 0.1),
		('lacking', 'power_w', '02990000', '0299FF00', 2, 3, 'sbcd', 0.1)" || return
	for port in line pieces alone slow; do
		field_gateway $g "127.0.0.1:$(farm_port $port)" transport=dlt645-over-tcp timeout_ms=400 gap_ms=0 'poll_interval=300 ms' || return
		g=$((g + 1))
	done
	field_meter 1 1 1 'DLT645-2007 three-phase relay' && field_meter 2 1 2 'DLT645-2007 three-phase relay' &&
		field_meter 3 1 112233445566 'DLT645-2007 single-phase relay' && field_meter 4 1 9 'DLT645-1997 single-phase' &&
		field_meter 5 2 1 'DLT645-2007 three-phase relay' && field_meter 6 3 AAAAAAAAAAAA 'lacking' &&
		for n in 1 2 3 4 5 6; do field_meter 1$n 4 $n 'DLT645-2007 single-phase relay'; done
}
setup 'make a plan' make_plan
poller_start
last()
{
	sql "SELECT $2 FROM submeter.reading WHERE meter_id = $1 ORDER BY ts DESC LIMIT 1"
}
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}
for meter in 1 2 3 4 5 6; do
	wait_for 20 "meter $meter is read" more_than $meter 1
done
is "$(last 1 'energy_wh, v_a, v_b, v_c, relay, round(power_w::numeric)')" '123456780|231.5|231.5|231.5|closed|3000' 'three phases, by blocks'
is "$(last 2 'energy_wh, relay, v_c IS NOT NULL, abs(power_a_w + power_b_w + power_c_w - power_w) < 1, round(power_w::numeric)')" '2000000|closed|t|t|1500' 'and by items, where it knows no blocks'
is "$(last 3 'energy_wh, relay, v_b')" '3000000|closed|' 'one phase'
is "$(last 4 'energy_wh, v_a')" '4000000|229' 'a meter of 1997'
is "$(last 5 'energy_wh, v_c > 220, round((power_a_w + power_b_w + power_c_w)::numeric)')" '5000000|t|3000' 'answers of several frames'
is "$(last 6 'energy_wh, v_a IS NOT NULL, power_w')" '6000000|t|' 'whoever is there'

# What a meter does not have.
wait_for 5 'what it does not have is on record' says '0299FF00* 02990000=power_w' sql 'SELECT refused FROM submeter.meter_state WHERE meter_id = 6'
is "$(sql 'SELECT count(*) FROM submeter.meter_state WHERE meter_id = 2 AND refused LIKE '\''%0201FF00*%'\'' AND refused LIKE '\''%0203FF00*%'\')" 1 'also the blocks of the other'
sql 'SELECT submeter.evaluate_alarms(1)' >/dev/null
is "$(sql "SELECT rule, meter_id, detail FROM submeter.alarm WHERE rule = 'wrong_map' AND cleared_at IS NULL")" 'wrong_map|6|meter M6 does not have: power_w' 'an alarm says what is missing'
seen=$(readings 2)
wait_for 10 'it is read on' more_than 2 $((seen + 3))
before=$(farm get line 2 refusals)
poller_stop
poller_start
seen=$(readings 2)
wait_for 10 'and after a restart' more_than 2 $((seen + 3))
is "$(farm get line 2 refusals)" "$before" 'without asking again'
kill -HUP "$POLLER_PID"
asked_again()
{
	[ "$(farm get line 2 refusals)" -gt "$before" ]
}
wait_for 10 'unless told to' asked_again

since=$(sql 'SELECT clock_timestamp()')

# A bad line. Values stand still, so that anything else is not the meter's.
for fault in echo tail other late 'late 300' 'preamble 60' repeat duplicate 'split 30' 'slow 2' 'garbage 20' half \
	bad-checksum wildcard wrong-unit wrong-transaction wrong-function short wrong-count bcd silence drop; do
	# shellcheck disable=SC2086 # the fault and its argument
	farm fault line $fault count 3 >/dev/null
	seen=$(readings 1)
	wait_for 20 "read on after: $fault" more_than 1 $((seen + 2))
	farm clear line >/dev/null
done
is "$(sql "SELECT meter_id, energy_wh, v_a FROM submeter.reading WHERE meter_id IN (1, 4) AND energy_wh NOT IN (123456780, 4000000)
	OR meter_id = 1 AND v_a <> 231.5::real OR meter_id = 2 AND energy_wh <> 2000000 OR meter_id = 3 AND energy_wh <> 3000000 LIMIT 5")" '' 'and never a value that was not the meter'\''s'
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'nor one to doubt'
is "$(sql 'SELECT sum(errors) > 0 FROM submeter.meter_state WHERE meter_id <= 4')" t 'errors are counted by meter'
# Six meters of seven items at 2400 baud take 20 s: the bus says that it cannot keep up.
wait_for 60 'a bus that cannot keep up says so' says t sql 'SELECT late_ms > 1000 AND utilisation > 0.8 AND round_ms > 1000 FROM submeter.gateway WHERE gateway_id = 4'
is "$(sql "SELECT count(*), max(n) - min(n) <= 1 FROM (SELECT meter_id, count(*) AS n FROM submeter.reading WHERE meter_id > 10 AND ts > '$since' GROUP BY meter_id) c")" '6|t' 'and gives each of its meters its turn'
is "$(sql 'SELECT bool_and(busy_ms > 0 AND utilisation > 0 AND utilisation <= 1) FROM submeter.gateway')" t 'and the time each bus is in use'

done_testing
