#!/bin/bash
# A poller that starts while the database is away reads on by the plan of its last run, and nothing is lost; one
# that was not alone does not, because another has its gateways.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

farm_start "$SM_RUN" <<'END'
port a 0
meter 1-2 DDS238-2 watts=10000 start_kwh=100
END
setup 'start the database' field_start "submeter.poller_lease = '12s'"
make_plan()
{
	field_gateway 1 "127.0.0.1:$(farm_port a)" 'poll_interval=200 ms' gap_ms=0 &&
		field_meter 1 1 1 'DDS238-2 ZN/SR' && field_meter 2 1 2 'DDS238-2 ZN/SR'
}
setup 'make a plan' make_plan
readings()
{
	sql 'SELECT count(*) FROM submeter.reading'
}
more_than()
{
	[ "$(readings)" -gt "$1" ]
}
waiting_more_than()
{
	[ "$(spool 'SELECT count(*) FROM reading' 2>/dev/null || echo 0)" -gt "$1" ]
}
poller_start
wait_for 20 'the poller reads' more_than 4
poller_kill9
ok 'it has kept its plan' test -s "$SPOOL/plan"
ok 'for nobody else to read' test "$(stat -c %a "$SPOOL/plan")" = 600
before=$(readings)
server_stop db immediate
poller_start
wait_for 20 'started without database it says what it goes by' grep -q 'by the plan of the last run' "$POLLER_LOG"
wait_for 20 'and reads' bash -c "[ \$(/usr/bin/sqlite3 -readonly '$SPOOL/spool.db' 'SELECT count(*) FROM reading') -gt 20 ]"
server_start db >/dev/null
wait_for 40 'what it read is delivered when the database is back' more_than $((before + 20))
is "$(sql "SELECT count(*) FROM (SELECT energy_wh - lag(energy_wh) OVER (PARTITION BY meter_id ORDER BY ts) AS step FROM submeter.reading) s WHERE step < 0")" 0 'in order'
wait_for 30 'it has its lease again' says test sql "SELECT poller FROM submeter.gateway_lease WHERE lease_until > clock_timestamp()"
poller_stop

# What is damaged, or another's, is not used.
printf 'submeter-plan 1 test\n3 1\n1:a\n' >"$SPOOL/plan"
server_stop db immediate
: >"$POLLER_LOG"
poller_start
wait_for 15 'half a plan is none' grep -q 'is damaged and not used' "$POLLER_LOG"
ok 'nothing is read' bash -c "! grep -q answers '$POLLER_LOG'"
poller_stop
server_start db >/dev/null

# Not alone: no plan is kept.
poller_start
"$POLLER" --allow-root --dsn "$(poller_dsn)" --spool "$SM_RUN/spool.other" --name other >>"$SM_RUN/other.log" 2>&1 &
other=$!
at_exit kill "$other"
wait_for 40 'beside another poller none is kept' test ! -e "$SM_RUN/spool.other/plan"
wait_for 40 'by neither' test ! -e "$SPOOL/plan"
poller_stop
done_testing
