#!/bin/bash
# Dead meters and dead gateways of every kind beside live ones: the live ones keep their interval, are
# switched as quickly as ever, and the dead ones come back by themselves.
# alone: it compares how often meters are read with how often they should be.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 20
port a 0
meter 1-6 DDS238-2 watts=10000 start_kwh=100
port b 0
meter 7-8 DDS238-2 watts=10000 start_kwh=100
port c 0
meter 9-10 DDS238-2 watts=10000 start_kwh=100
END
setup 'start the property' property_start
setup 'make the shops' eval "gateway 1 a '500 ms' && gateway 2 b '500 ms' &&
	gateway 3 c '500 ms' && shops 1 6 1 1000 && shops 7 8 2 1000 && shops 9 10 3 1000"
poller_start
true_in 30 'all meters are read' 'SELECT count(*) = 10 FROM submeter.meter_state WHERE energy_wh IS NOT NULL'
is_sql 'SELECT count(*) FROM submeter.gateway WHERE poll_interval = $$500 ms$$' 3 'every half second'

# interval_kept METERS 'what': waits until meter 1 has been read 20 times from now on; each of the
# meters was then read at least three times in four of what the interval gives.
interval_kept()
{
	local meters=$1 what=$2 since result
	since=$(clock)
	true_now 60 "SELECT count(*) >= 20 FROM submeter.reading WHERE meter_id = 1 AND ts >= '$since'"
	result=$(sql "SELECT bool_and(n.share >= 75) || ' ' || string_agg(format('%s: %s %%', m.meter_id, n.share), ', ' ORDER BY m.meter_id)
		FROM submeter.meter m
		CROSS JOIN LATERAL (
			SELECT round(100 * count(*) * 0.5 / extract(epoch FROM clock_timestamp() - '$since'::timestamptz)) AS share
			FROM submeter.reading r WHERE r.meter_id = m.meter_id AND r.ts >= '$since') n
		WHERE m.meter_id IN ($meters)")
	is "${result%% *}" true "$what"
	note "read, of what the interval gives: ${result#* }"
}
offline()
{
	sql "SELECT string_agg(meter_id::text, ' ' ORDER BY meter_id) FROM submeter.meter_state WHERE NOT online"
}

interval_kept '1, 2, 3, 4, 5, 6, 7, 8, 9, 10' 'with all alive the interval is kept'

# Meters that say nothing, nonsense, and never: two of six on bus a, and the whole of gateway b,
# which takes connections and never answers; gateway c is not there at all.
farm fault a 2 silence >/dev/null
farm fault a 4 garbage 9 >/dev/null
farm fault b silence >/dev/null
farm down c >/dev/null
died=$(clock)
wait_for 60 'the dead ones are known' says '2 4 7 8 9 10' offline
true_in 60 'and the dead gateways' "SELECT array_agg(gateway_id) FILTER (WHERE online) = '{1}' FROM submeter.gateway"
interval_kept '1, 3, 5, 6' 'the live ones beside them keep their interval'
id=$(open_breaker 3)
wait_for 5 'a live one beside dead ones is switched at once' says confirmed command_state "$id"
close_breaker 3 >/dev/null
wait_for 5 'and back' is_lit a 3
dead=$(open_breaker 2)
read -r -a asked <<<"$(sql "SELECT sum(requests), sum(errors) FROM submeter.gateway WHERE gateway_id = 1" | tr '|' ' ')"
interval_kept '1, 3, 5, 6' 'also while a command waits for a dead one'
note "bus a until then: ${asked[0]} requests, ${asked[1]} failed"
like "$(command_state "$dead")" '^(queued|claimed)$' 'that command waits'
is "$(writes a 2)" 0 'and nothing was written for it'
no_gap 8 "$died" "$(clock)" '1, 3, 5, 6' 'no live meter was ever left out'
is_sql "SELECT count(*) FROM submeter.reading WHERE meter_id IN (2, 4, 7, 8, 9, 10) AND ts > '$(sql "SELECT max(last_contact_at) + interval '2 s' FROM submeter.meter_state WHERE NOT online")'" 0 \
	'the dead ones have no readings'
is_sql 'SELECT count(*) FROM submeter.command WHERE cause = $$arrears$$' 0 'silence trips nobody'

# A gateway that is slow, but not too slow, delays nobody else
farm clear all >/dev/null
farm up c >/dev/null
now=$(clock)
true_in 90 'all come back by themselves' "SELECT count(*) = 10 FROM submeter.meter_state WHERE online AND ts > '$now'"
wait_for 60 'the command is carried out now' says confirmed command_state "$dead"
is "$(writes a 2)" 1 'with one write'
farm fault b delay 200 >/dev/null
interval_kept '1, 2, 3, 4, 5, 6, 9, 10' 'a slow gateway delays nobody else'
farm clear all >/dev/null
is_sql 'SELECT count(*) FROM submeter.gateway WHERE online' 3 'all gateways are well'

books 'at the end'
done_testing
