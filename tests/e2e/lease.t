#!/bin/bash
# Two pollers at one property: each gateway is asked by one of them only, a killed one is replaced, commands
# come through, one that stops gives back, and the same name started twice is no second poller.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

farm_start "$SM_RUN" <<'END'
port a 0
meter 1 DDS238-2 watts=1000 start_kwh=100
port b 0
meter 1 DDS238-2 watts=1000 start_kwh=200
port c 0
meter 1 DDS238-2 watts=1000 start_kwh=300
port d 0
meter 1 DDS238-2 watts=1000 start_kwh=400
END
setup 'start the database' field_start "submeter.poller_lease = '12s'"
make_plan()
{
	local n=0 port
	for port in a b c d; do
		n=$((n + 1))
		field_gateway "$n" "127.0.0.1:$(farm_port $port)" 'poll_interval=500 ms' gap_ms=0 timeout_ms=500 || return
		field_meter "$n" "$n" 1 'DDS238-2 ZN/SR' || return
	done
}
setup 'make a plan' make_plan

# start NAME: a poller of that name with a spool of its own; its process in pid[NAME].
declare -A pid
start()
{
	"$POLLER" --allow-root --dsn "$(poller_dsn)" --spool "$SM_RUN/spool.$1" --name "$1" >>"$SM_RUN/$1.log" 2>&1 &
	pid[$1]=$!
	at_exit kill "$!"
}
shares()
{
	sql "SELECT string_agg(n::text, ' ' ORDER BY poller) FROM (SELECT poller, count(*) AS n FROM submeter.gateway_lease
		WHERE lease_until > clock_timestamp() AND NOT leaving GROUP BY poller) s"
}
all_read_since()
{
	[ "$(sql "SELECT count(DISTINCT meter_id) FROM submeter.reading WHERE ts > '$1'")" = 4 ]
}
now()
{
	sql 'SELECT clock_timestamp()'
}
# Connections that every port of the farm has open at once.
most_connections()
{
	local port most=0 count
	for port in a b c d; do
		count=$(ss -Htn state established "( sport = :$(farm_port $port) )" | wc -l)
		[ "$count" -le "$most" ] || most=$count
	done
	echo "$most"
}

start one
wait_for 20 'a poller that is alone reads everything' all_read_since '2000-01-01'
is "$(shares)" 4 'and has all the leases'
start two
wait_for 40 'with a second one half of it changes hands' says '2 2' shares
t=$(now)
wait_for 20 'all are read' all_read_since "$t"
double=0
for _ in $(seq 20); do
	[ "$(most_connections)" -le 1 ] || double=$((double + 1))
	sleep 0.05
done
is "$double" 0 'no gateway has two connections'
is "$(sql "SELECT count(*) FROM submeter.health WHERE part IN ('poller one', 'poller two') AND ok")" 2 'both are in health'

# Commands go to who has the gateway.
ids=$(sql "SELECT string_agg(submeter.request_command(1, n, 'open', 'test', 'operator')::text, ',') FROM generate_series(1, 4) n")
wait_for 20 'commands come through at both' says 4 sql "SELECT count(*) FROM submeter.command WHERE command_id IN ($ids) AND state = 'confirmed'"
is "$(sql "SELECT count(DISTINCT claimed_by) FROM submeter.command WHERE command_id IN ($ids)")" 2 'each carried its own'

# Killed while it has a command.
kill -9 "${pid[one]}"
wait "${pid[one]}" 2>/dev/null
killed=$(date +%s)
ids=$(sql "SELECT string_agg(submeter.request_command(1, n, 'close', 'test')::text, ',') FROM generate_series(1, 4) n")
wait_for 60 'a killed poller is replaced' says 4 shares
note "after $(($(date +%s) - killed)) s"
wait_for 20 'its commands survive' says 4 sql "SELECT count(*) FROM submeter.command WHERE command_id IN ($ids) AND state = 'confirmed'"
is "$(for port in a b c d; do farm get $port 1 relay; done | sort -u)" closed 'every breaker is closed'
t=$(now)
wait_for 20 'all are read again' all_read_since "$t"
is "$(sql "SELECT ok FROM submeter.health WHERE part = 'poller one'")" f 'the killed one is missed'

# It comes back under its name at once, though it never gave its leases back.
start one
wait_for 40 'one that comes back has its share' says '2 2' shares

# One that cannot reach the database lets go before its leases run out, for the others take over.
kill -STOP "${pid[one]}"
wait_for 60 'one that stands still is replaced' says 4 shares
t=$(now)
wait_for 20 'by the other one' all_read_since "$t"
kill -CONT "${pid[one]}"
wait_for 40 'and is welcome again' says '2 2' shares

kill -TERM "${pid[two]}"
ok 'a poller that stops' wait "${pid[two]}"
wait_for 15 'gives its leases back at once' says 4 shares
is "$(sql "SELECT string_agg(poller, ' ') FROM submeter.poller")" one 'and is not missed'

# The same name twice: the newer run has it.
cp -r "$SM_RUN/spool.one" "$SM_RUN/spool.copy"
"$POLLER" --allow-root --dsn "$(poller_dsn)" --spool "$SM_RUN/spool.copy" --name one >>"$SM_RUN/copy.log" 2>&1 &
copy=$!
at_exit kill "$copy"
wait_for 25 'a run whose name a newer one has is told' grep -q 'another run of poller "one" was started' "$SM_RUN/one.log"
t=$(now)
wait_for 20 'the newer one reads' all_read_since "$t"
is "$(most_connections)" 1 'alone'
kill -TERM "${pid[one]}"
ok 'the older run stops cleanly' wait "${pid[one]}"
is "$(shares)" 4 'and takes nothing along'
kill -TERM "$copy"
ok 'the newer one, too' wait "$copy"
is "$(sql 'SELECT count(*) FROM submeter.gateway_lease')" 0 'nothing is held any more'
is "$(sql "SELECT count(*) FROM (SELECT 1 FROM submeter.reading GROUP BY meter_id, ts HAVING count(*) > 1) d")" 0 'no reading is there twice'
done_testing
