#!/bin/bash
# A workshop on three phases behind transformers, DL/T 645: one transformer is the wrong way round, the ratio in
# the archive is wrong, and both are found by what the meter says before anybody is charged or cut.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

number=210204000012
setup 'start the farm' farm_start "$SM_RUN" <<CONF
zone 8
port line 0 wire=dlt645
meter $number DTSY-645 start_kwh=500 ct=20 watts=30000 voltage_v=225 pf=1 split=40/35/25 reversed=0/1/0
meter 210204000013 DDSY-645 start_kwh=20 watts=400 voltage_v=225 pf=1
CONF
setup 'start the database' field_start
make_plan()
{
	field_gateway 1 "127.0.0.1:$(farm_port line)" transport=dlt645-over-tcp timeout_ms=300 gap_ms=0 'poll_interval=300 ms' &&
		field_meter 1 1 $number 'DLT645-2007 three-phase relay' && field_meter 2 1 210204000013 'DLT645-2007 single-phase relay' &&
		sql "UPDATE submeter.site SET locale = 'en';
			UPDATE submeter.meter SET serial = bus_address;
			INSERT INTO submeter.meter_setup (site_id, meter_id, phases, rated_current_a) VALUES (1, 1, 3, 6), (1, 2, 1, 60);
			CREATE ROLE electrician LOGIN IN ROLE submeter_field;
			INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'electrician')"
}
setup 'make a plan' make_plan
poller_start

field()
{
	server_psql db -U electrician -c "$1"
}
clock()
{
	date -u '+%F %T.%3N+00'
}
is_read()
{
	[ "$(sql "SELECT count(*) = 2 FROM (SELECT meter_id FROM submeter.reading WHERE ts > '$1'::timestamptz + interval '300 ms' GROUP BY meter_id HAVING count(*) >= $2) r")" = t ]
}
readings_since()
{
	wait_until 30 is_read "$1" "$2"
}
step()
{
	field "SELECT state || ': ' || explanation FROM submeter.record_commission_check(1, 1, '$1', '${2:-{\}}')"
}

setup 'the electrician begins' eval "field 'SELECT submeter.begin_commission(1, 1)' >/dev/null"
setup 'both meters are read' readings_since "$(clock)" 3
like "$(step address "{\"device_address\": \"$number\", \"device_number\": \"210204000099\"}")" '^failed: The device calls itself 210204000099' 'another meter number on the display'
like "$(step address "{\"device_address\": \"$number\", \"device_number\": \"$number\"}")" '^passed' 'the right one'

# The transformers.
like "$(step phases '{"phase_order": "ok"}')" '^failed: The values say: B: -[0-9]+ W flow backwards' 'the transformer of phase B is the wrong way round'
farm set line $number reversed=0/0/0 >/dev/null
setup 'it is turned' readings_since "$(clock)" 3
like "$(step phases '{"phase_order": "ok"}')" '^passed' 'now the phases fit'
like "$(step nameplate '{"model": "DLT645-2007 three-phase relay", "ct": 20, "phases": 3, "rated_current_a": 6}')" '^failed: .*: multiplier\.$' \
	'the transformers say 100/5, the archive nothing'

# The load test finds the same without a nameplate.
on=$(clock)
setup 'before' readings_since "$on" 4
farm set line $number watts=38000 >/dev/null
on=$(clock)
setup 'a welder of 8 kW' readings_since "$on" 4
off=$(clock)
farm set line $number watts=30000 >/dev/null
setup 'after' readings_since "$off" 4
load_step()
{
	field "SELECT state || ': ' || explanation FROM submeter.run_load_step(1, 1, 8000, '$on', '$off', '200 ms')"
}
like "$(load_step)" '^failed: This meter moved by 400 W for a load of 8000 W: its multiplier or a phase is wrong' 'the meter moves by a twentieth'
setup 'the ratio is corrected' sql "DO \$\$ BEGIN PERFORM submeter.correct_setup(1, 1, now() - interval '1 hour', 'transformers 100/5', false, multiplier => 20); END \$\$"
like "$(load_step)" '^passed: A load of 8000 W' 'and the same test passes'
like "$(step nameplate '{"model": "DLT645-2007 three-phase relay", "ct": 20, "phases": 3, "rated_current_a": 6}')" '^passed' 'so does the nameplate'

# Its clock is read by the poller; with that the meter has everything.
has_clock()
{
	[ "$(sql 'SELECT clock_at IS NOT NULL FROM submeter.meter_state WHERE meter_id = 1')" = t ]
}
wait_for 60 'the poller reads its clock' has_clock
like "$(step clock)" '^passed: Its clock is -?[0-9]+ s ahead' 'it is right'
at=$(clock)
shown=$(awk -v wh="$(farm get line $number register_wh)" 'BEGIN { printf "%.2f", wh / 1000 }')
setup 'read on' readings_since "$at" 12
is "$(field "SELECT string_agg(step || ' ' || state, ', ') FROM submeter.commission_meter(1, 1, '{\"serial\": \"$number\", \"own_trip\": \"off\",
	\"display_kwh\": \"$shown\", \"display_at\": \"${at/+00/+00:00}\", \"phase_order\": \"ok\"}') WHERE step IN ('serial', 'display', 'phases', 'shop', 'signal', 'in service')")" \
	'serial passed, display passed, phases passed, shop passed, signal passed, in service passed' 'the rest in one call: it is in service'
done_testing
