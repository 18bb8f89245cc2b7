#!/bin/bash
# Twenty modules that dial in to one door, some inside TLS at another: every one is read, a breaker behind
# one moves, and neither lost memories, dead connections nor power cuts mix their meters up.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

door=$(port_free)
safe=$(port_free)
certificate()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=poller' \
		-addext 'subjectAltName=IP:127.0.0.1' -keyout "$SM_RUN/poller.key" -out "$SM_RUN/poller.pem" 2>"$SM_RUN/openssl.err"
}
setup 'a certificate' certificate
setup 'start the farm' farm_start "$SM_RUN" <<CONF
speed 0
port mod dial 127.0.0.1:$door repeat=20 wire=rtu registration=MOD%%%% heartbeat=HB heartbeat_answer=OK every=0.4 retry=0.3 latency_ms=20
meter 1 DDS238 watts=2300
port tls dial 127.0.0.1:$safe repeat=3 wire=rtu registration=TLS% tls=,,poller.pem retry=0.3
meter 1 DDS238 watts=2300
port naked dial 127.0.0.1:$safe wire=rtu registration=TLS3\r\n retry=0.5
meter 1 DDS238 start_wh=9000000
CONF
for n in {1..20}; do
	farm set "mod$n" 1 register_wh=$((1000000 + n * 1000))
done
for n in 1 2 3; do
	farm set "tls$n" 1 register_wh=$((2000000 + n * 1000))
done
farm down tls3
farm down naked

setup 'start the database' field_start
make_plan()
{
	sql "INSERT INTO submeter.gateway (site_id, gateway_id, code, transport, address, dial_in, registration, heartbeat, heartbeat_answer, gap_ms, timeout_ms, poll_interval, tls)
			SELECT 1, n, 'G' || n, 'rtu-over-tcp', '127.0.0.1:' || CASE WHEN n <= 20 THEN $door ELSE $safe END, true,
				CASE WHEN n <= 20 THEN 'MOD' || lpad(n::text, 4, '0') ELSE 'TLS' || n - 20 END,
				CASE WHEN n <= 20 THEN 'HB' END, CASE WHEN n <= 20 THEN 'OK' END, 0, 500, interval '400 ms', n > 20
			FROM generate_series(1, 23) AS n;
		INSERT INTO submeter.meter (site_id, meter_id, code, gateway_id, bus_address, model)
			SELECT 1, n, 'M' || n, n, '1', (SELECT model FROM submeter.meter_model WHERE model LIKE 'DDS238%R') FROM generate_series(1, 23) AS n"
}
setup 'make a plan' make_plan
poller_start --tls-cert "$SM_RUN/poller.pem" --tls-key "$SM_RUN/poller.key"

# Registers stand still: whatever is not the meter's own is another's.
mixed_up()
{
	sql "SELECT count(*) FROM submeter.reading WHERE energy_wh <> CASE WHEN meter_id <= 20 THEN 1000000 + 1000 * meter_id ELSE 1980000 + 1000 * meter_id END"
}
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
online()
{
	sql "SELECT coalesce(online, false) FROM submeter.gateway WHERE gateway_id = $1"
}
log_of()
{
	farm log "$1" "$2"
}
beats()
{
	[ "$(log_of mod7 heartbeat_answers)" -gt 1 ]
}
wait_for 40 'twenty modules and two inside TLS are read' says 22 read_from
wait_for 10 'their heartbeats are answered' beats
is "$(log_of mod7 registrations)" 1 'over one call each'

id=$(sql "SELECT submeter.request_command(1, 3, 'open', 'test', 'operator')")
wait_for 15 'a breaker behind a module opens' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
is "$(farm get mod3 1 relay) $(farm get mod3 1 writes)" 'open 1' 'it is, and was written to once'
id=$(sql "SELECT submeter.request_command(1, 22, 'open', 'test', 'operator')")
wait_for 15 'and one inside TLS' says confirmed sql "SELECT state FROM submeter.command WHERE command_id = $id"
is "$(farm get tls2 1 relay)" open 'it is'

farm up naked
calls()
{
	[ "$(log_of naked calls)" -gt 2 ]
}
wait_for 15 'a device without TLS at the door with TLS is sent away' calls
is "$(count_of 23)" 0 'and not read'
farm down naked
farm up tls3
wait_for 20 'the right one is' more_than 23 0

n=$(count_of 5)
farm reconnect mod5 hang
wait_for 15 'a module that calls anew, its old call still open, is read over the new one' more_than 5 $((n + 3))
n=$(count_of 6)
farm reconnect mod6
wait_for 15 'one that hung up first, too' more_than 6 $((n + 3))

farm fault mod8 half-open
wait_for 30 'a dead connection is noticed' says f online 8
n=$(count_of 9)
wait_for 10 'the others are read on' more_than 9 $((n + 3))
farm clear mod8
n=$(count_of 8)
wait_for 30 'back, it is read again' more_than 8 $((n + 2))

farm fault mod10 1 late 700 count 3
farm fault mod11 1 other
farm fault mod12 1 echo
farm fault mod13 1 tail
farm fault mod14 1 slow 5
for m in 10 11 12 13 14; do
	n=$(count_of $m)
	wait_for 20 "module $m with trouble on its line is read" more_than $m $((n + 3))
done

for m in {1..20}; do
	farm down "mod$m"
done
# A power cut of all: whoever has not called for half a minute is offline, these come back before.
before=$(sql 'SELECT clock_timestamp()')
for m in {1..20}; do
	farm up "mod$m"
done
all_back()
{
	[ "$(sql "SELECT count(DISTINCT meter_id) FROM submeter.reading WHERE ts > '$before'")" = 23 ]
}
wait_for 40 'after a power cut all are read again' all_back

is "$(mixed_up)" 0 'no meter was ever taken for another'
overlaps=0
for m in {1..20}; do
	overlaps=$((overlaps + $(log_of "mod$m" overlaps)))
done
# The late answers of module 10 are owed longer than the poller waits for them.
ok 'never two questions at a time' test "$overlaps" -le 3
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop
done_testing
