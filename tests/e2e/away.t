#!/bin/bash
# The database is away while readings go on: they wait on disk, across restarts of the poller, and
# arrive with their own times and in the right price; breakers stay as they are meanwhile.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 20
port a 0
meter 1-4 DDS238-2 watts=10000 start_kwh=100
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && shops 1 4 1 10000'
poller_start
true_in 30 'all meters are read' 'SELECT count(*) = 4 FROM submeter.meter_state WHERE energy_wh IS NOT NULL'
sql "SELECT submeter.post_charges(1)" >/dev/null
id=$(open_breaker 4)
wait_for 20 'breaker 4 is open' says confirmed command_state "$id"

kept=$SM_RUN/kept
setup 'stop the server' server_stop db fast
wait_for 60 'readings pile up in the spool' spooled_more_than 60
ok 'the poller runs on' poller_running
ok 'it stops cleanly with a full spool' poller_stop
spool_list >"$kept"
left=$(spool_busy "SELECT strftime('%Y-%m-%d %H:%M:%f+00', min(ts_ms) / 1000.0, 'unixepoch') FROM reading")
# The one that begins now reads at once, and that is no matter of this list.
back=$(clock)
poller_start
count=$(wc -l <"$kept")
wait_for 60 'started without database it keeps what is in the spool' spooled_more_than $((count - 1))
setup 'start the server' server_start db
wait_for 60 'all that waited has arrived' says 0 lacking "$kept"
is "$(wc -l <"$kept")" "$(sql "SELECT count(*) FROM submeter.reading WHERE ts >= '$left' AND ts < '$back'")" \
	'and nothing else is there for that time'
is_sql "SELECT count(*) FROM submeter.reading WHERE ts >= '$left' AND ts < '$back' AND received_at < '$back'" 0 \
	'with the times they were read at, not those they came at'
is_sql "SELECT count(DISTINCT ts) > 10 FROM submeter.reading WHERE ts >= '$left' AND ts < '$back' AND meter_id = 1" t \
	'one by one'
is_sql "SELECT bool_and(energy_wh > before) FROM (
	SELECT energy_wh, lag(energy_wh) OVER (ORDER BY ts) AS before FROM submeter.reading
	WHERE ts >= '$left' AND ts < '$back' AND meter_id = 1) r" t 'each with the register of its time'
is_sql "SELECT count(DISTINCT energy_wh) FROM submeter.reading WHERE ts >= '$left' AND meter_id = 4" 1 'an open breaker stops the register'
now=$(clock)
true_in 30 'readings go on' "SELECT count(*) = 4 FROM submeter.meter_state WHERE ts > '$now'"
ok 'breaker 4 is still open' is_dark a 4
is "$(writes a 4)" 1 'and was written once'
id=$(close_breaker 4)
wait_for 30 'commands work again' says confirmed command_state "$id"

# Away and back, again and again, while everything runs
for round in 1 2 3; do
	setup 'stop the server again' server_stop db immediate
	wait_for 30 "round $round: readings wait" spooled_more_than 4
	setup 'start the server again' server_start db
	wait_for 60 "round $round: the spool is emptied" says 0 spooled
done
true_in 60 'the gateway is seen' "SELECT online AND offline_since IS NULL FROM submeter.gateway"
no_gap 10 "$now" "$(clock)" '1, 2, 3, 4' 'short absences made no hole'

books 'at the end'
done_testing
