#!/bin/bash
# The three installations of the trade, as the README has them, with lines sped up: each is set up by its
# SQL file, and every meter is read.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

sim=$here/../sim
door=$(port_free)

# installation NAME: starts its farm; the poller's door is $door, other ports are free ones
installation()
{
	farm_start "$SM_RUN" < <(
		sed -E "s|\.\./\.\./data|$here/../data|; s/dial 127\.0\.0\.1:[0-9]+/dial 127.0.0.1:$door/; s/^(port [a-z]+) 15[0-9]+/\1 0/
			s/baud=[0-9]+/baud=57600/; s/latency_ms=[0-9]+/latency_ms=5/; s/every=[0-9]+/every=1/; s/retry=[0-9]+/retry=0.5/" "$sim/installations/$1.conf"
	)
}
# rows NAME [psql option...]: its rows; the gateways of the one before are taken out of service
rows()
{
	sql 'UPDATE submeter.gateway SET enabled = false' >/dev/null &&
		server_psql db "${@:2}" -f "$sim/installations/$1.sql" >/dev/null
}
read_from()
{
	sql 'SELECT count(*) FROM submeter.meter m JOIN submeter.gateway g USING (site_id, gateway_id)
		WHERE g.enabled AND EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = m.site_id AND r.meter_id = m.meter_id)'
}

setup 'start the database' field_start

setup 'scattered meters' installation scattered
setup 'as rows' rows scattered -v door="127.0.0.1:$door"
poller_start
wait_for 60 'fourteen modules dial in and are read' says 14 read_from
beats()
{
	[ "$(farm log shop12 heartbeats)" -gt 1 ]
}
wait_for 10 'with heartbeats in between' beats
is "$(sql 'SELECT count(*) FROM submeter.gateway WHERE online AND enabled')" 14 'all are online'
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop

setup 'a small concentrator' installation small_concentrator
setup 'as rows' rows small_concentrator -v address="127.0.0.1:$(farm_port hall)"
poller_start
wait_for 60 '32 meters on one line are read' says 32 read_from
is "$(farm log hall connections_most) $(farm log hall overlaps)" '1 0' 'over one connection, one question at a time'
near()
{
	sql "SELECT count(*) FROM submeter.reading r JOIN submeter.meter m USING (site_id, meter_id)
		WHERE m.bus_address = '$1' AND abs(r.energy_wh - $2) <= 100"
}
isnt "$(near 220100000032 "$(farm get hall 220100000032 register_wh)")" 0 'the last one with its own register'
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop

setup 'a large installation' installation large
# The four lines have numbers of their own choosing here.
lines=$(farm_port hall1)
setup 'as rows' rows large -v door="127.0.0.1:$door" -v port="$lines"
for n in 2 3 4; do
	sql "UPDATE submeter.gateway SET address = '127.0.0.1:$(farm_port "hall$n")' WHERE code = 'HALL$n'" >/dev/null
done
poller_start
wait_for 120 '368 meters are read' says 368 read_from
is "$(farm log tower1 registrations) $(farm log tower2 registrations)" '1 1' 'two concentrators logged in once'
overlaps=0
for name in hall1 hall2 hall3 hall4 tower1 tower2; do
	overlaps=$((overlaps + $(farm log $name overlaps)))
done
is "$overlaps" 0 'one question at a time on every bus'
ok 'the poller stops cleanly' poller_stop
ok 'the farm ends well' farm_stop
done_testing
