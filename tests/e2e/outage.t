#!/bin/bash
# Three days of dead network, and the return of a whole site. While it is gone nobody is cut on old data.
# When it comes back commands wait, lead times begin anew, what was read meanwhile arrives with its own
# times and is priced by the tariff of those times, and half a property that fell into arrears at once is
# held for a person instead of being cut.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"

# Meters count 1 kWh an hour until the price rises 36 hours ago, and 3 kWh an hour since: whoever
# spreads three days evenly gets another amount than who looks at the readings.
setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 20
port a 0
meter 1-3 DDS238-2 watts=3000 start_wh=268000
meter 4 DDS238-2 watts=3000 start_wh=100000 relay=open
port b 0
meter 5-8 DDS238-2 watts=3000 start_wh=268000
END
setup 'start the property' property_start
setup 'make the shops' eval 'gateway 1 a && gateway 2 b && shops 1 2 1 50 && shop 3 1 3 300 && shop 4 1 4 && shops 5 7 2 300 && shop 8 2 8 5000'
farm down a >/dev/null
farm down b >/dev/null

hour=$(sql "SELECT date_trunc('hour', now())")
rise=$(sql "SELECT '$hour'::timestamptz - interval '36 hours'")
setup 'raise the price' sql "DO \$\$ BEGIN PERFORM submeter.create_tariff(1, 'flat', '{\"energy\": [{\"price\": 4.00}]}', '$rise');
	UPDATE submeter.credit_policy SET notice_lead = '2 s', return_hold = '10 s', mass_trip_min = 5, command_ttl = '10 min'; END \$\$"

# Four days ago until three days ago all was well; then the network went. Breaker 4 was open by then.
register()
{
	echo "(CASE WHEN $1 = 4 THEN 100000 WHEN $2 <= '$rise' THEN 160000 - 1000 * extract(epoch FROM '$rise' - $2) / 3600
		ELSE 160000 + 3000 * extract(epoch FROM $2 - '$rise'::timestamptz) / 3600 END)::bigint"
}
setup 'tell of the past' sql "BEGIN;
	INSERT INTO submeter.command (site_id, meter_id, action, cause, reason, state, requested_by, requested_at, not_before, expires_at, sent_at, finished_at,
		relay_before, relay_after, evidence)
	SELECT 1, 4, 'open', 'arrears', 'in arrears', 'confirmed', 'policy', t, t, t + interval '10 min', t, t, 'closed', 'open', '{\"kind\": \"relay_register\"}'
	FROM (SELECT '$hour'::timestamptz - interval '4 days 1 hour') x(t);
	INSERT INTO submeter.open_cause (site_id, meter_id, cause, since, command_id)
	SELECT 1, 4, 'arrears', finished_at, command_id FROM submeter.command;
	SELECT submeter.adjust(1, 4, -5, 'test', 'before');
	SELECT submeter.ingest(1, array_agg(json_populate_record(NULL::submeter.reading_input, json_build_object(
		'meter_id', m.meter_id, 'ts', t, 'energy_wh', $(register m.meter_id t), 'relay', CASE m.meter_id WHEN 4 THEN 'open' ELSE 'closed' END)) ORDER BY t))
	FROM submeter.meter m, generate_series('$hour'::timestamptz - interval '4 days', '$hour'::timestamptz - interval '3 days', interval '6 hours') t;
	-- Of gateway b nobody could report that it went: its poller went with it.
	UPDATE submeter.gateway SET online = gateway_id = 2, last_contact_at = '$hour'::timestamptz - interval '3 days',
		offline_since = CASE gateway_id WHEN 1 THEN '$hour'::timestamptz - interval '3 days' END;
	COMMIT" >/dev/null

decided()
{
	sql "SELECT d.action || ' ' || d.reason FROM submeter.account_state t
		JOIN submeter.decision d ON d.decision_id = t.last_decision_id WHERE t.account_id = $1"
}
all_decided()
{
	sql "SELECT string_agg(DISTINCT d.action || ' ' || d.reason, ', ') FROM submeter.account_state t
		JOIN submeter.decision d ON d.decision_id = t.last_decision_id WHERE t.account_id IN ($1)"
}
no_writes()
{
	local unit sum=0
	for unit in 1 2 3 4; do sum=$((sum + $(writes a "$unit"))); done
	for unit in 5 6 7 8; do sum=$((sum + $(writes b "$unit"))); done
	is "$sum" 0 "$1"
}

# The poller on the spot has no network either
poller_start
wait_for 60 'who was in arrears is announced and then held, for the data is old' says 'hold stale_data' all_decided '1, 2'
true_in 30 'both gateways are known to have been gone for three days' "SELECT bool_and(NOT online AND offline_since < '$hour'::timestamptz - interval '70 hours') FROM submeter.gateway"
is_sql "SELECT count(*) FROM submeter.command WHERE meter_id <> 4" 0 'nobody is cut on data three days old'
is_sql "SELECT count(*) >= 2 FROM submeter.read_request" t 'a fresh reading is asked for'
is "$(decided 4)" 'none cut_off' 'who was dark stays dark'
setup 'make the announcement three days old' sql "UPDATE submeter.account_state SET announced_at = announced_at - interval '3 days', trip_due_at = trip_due_at - interval '3 days';
	UPDATE submeter.notice SET created_at = created_at - interval '3 days', accepted_at = accepted_at - interval '3 days'"
setup 'let shop 4 pay while its meter cannot be reached' recharge 4 100
true_in 30 'its close waits' "SELECT state IN ('queued', 'claimed') FROM submeter.command WHERE meter_id = 4 AND action = 'close'"
is "$(decided 5)" 'none in_credit' 'others seem to have money left'

# What the poller of gateway a has read in the three days waits in its spool; that of b has nothing.
poller_stop
{
	for n in 66 60 54 48 42 36 30 24 18 12 6 1; do
		for meter in 1 2 3; do
			echo "$meter|$n"
		done
	done
} | while IFS='|' read -r meter n; do
	if ((n >= 36)); then wh=$((160000 - (n - 36) * 1000)); else wh=$((160000 + (36 - n) * 3000)); fi
	ts=$(($(date -u -d "$hour" +%s) - n * 3600))
	echo "INSERT INTO reading (site_id, meter_id, ts_ms, row)
		VALUES (1, $meter, ${ts}000, '($meter,$(date -u -d "@$ts" +%FT%T.000Z),$wh,,,,,,,,,,,,,,,,,closed,poll)');"
done >"$SM_RUN/backlog.sql"
setup 'fill the spool' spool ".read $SM_RUN/backlog.sql"
is "$(spooled)" 36 'three days of readings wait in the spool'

# The network is back
farm up a >/dev/null
farm up b >/dev/null
poller_start
true_in 60 'the return of the whole site is noted' 'SELECT recovered_at IS NOT NULL FROM submeter.site'
true_in 60 'and that of both gateways' 'SELECT count(*) = 2 FROM submeter.gateway WHERE recovered_at IS NOT NULL'
wait_for 60 'the backlog is delivered' says 0 spooled
is_sql "SELECT count(*) FROM submeter.reading WHERE meter_id <= 3 AND ts < '$hour' AND ts > '$hour'::timestamptz - interval '70 hours'" 36 \
	'with its own times'
is_sql 'SELECT count(*) FROM submeter.reading_suspect' 0 'nothing of it is suspect'
true_in 30 'all meters are read' "SELECT count(*) = 8 FROM submeter.meter_state WHERE ts > '$hour'"

# To the cent: what the registers say at the rise and now, at the price of each time
due()
{
	sql "SELECT coalesce(sum(c.amount), 0) - max((160000 - 100000) * 2.50 + (w.wh - 160000) * 4.00) / 1000 FROM submeter.charge c,
		(SELECT max(energy_wh) AS wh FROM submeter.reading WHERE meter_id = $1) w WHERE c.account_id = $1"
}
settled()
{
	sql_true "SELECT NOT EXISTS (SELECT FROM submeter.meter_dirty d LEFT JOIN submeter.meter_settled s USING (site_id, meter_id) WHERE d.seq > coalesce(s.seq, 0))"
}
priced()
{
	[ "$(due "$1" | sed 's/\.0*$//')" = 0 ]
}

# Lead times begin anew, nothing is sent for a while, and nobody is cut
true_in 60 'old announcements are made anew' "SELECT count(*) = 2 FROM submeter.decision WHERE account_id IN (1, 2) AND action = 'announce' AND reason = 'outage'"
true_in 60 'with messages of their own' "SELECT count(*) = 2 FROM submeter.notice n, submeter.site s
	WHERE n.account_id IN (1, 2) AND n.kind = 'trip_announced' AND n.accepted_at > s.recovered_at"
true_in 60 'those who fell into arrears on paper are announced for the first time' "SELECT count(*) = 4 FROM submeter.decision
	WHERE account_id IN (3, 5, 6, 7) AND action = 'announce' AND reason = 'arrears'"
true_in 60 'a lead time that ends while the site has just come back is held' "SELECT count(DISTINCT account_id) >= 2 FROM submeter.decision WHERE reason = 'site_returned'"
wait_for 90 'then too many would be cut at once: all are held' says 'hold mass_trip' all_decided '1, 2, 3, 5, 6, 7'
true_in 30 'and a person is called' "SELECT count(*) = 1 FROM submeter.open_alarm WHERE rule = 'mass_trip_held'"
is_sql "SELECT count(*) FROM submeter.command WHERE action = 'open' AND requested_at > '$hour'" 0 'nobody is cut'
wait_for 60 'who has paid meanwhile gets light' is_lit a 4
is_sql "SELECT c.sent_at >= s.recovered_at + interval '10 s' FROM submeter.command c, submeter.site s WHERE c.action = 'close'" t \
	'but not before the site had been back for a while'
is "$(writes a 4)" 1 'by one write'

# The readings of gateway b turn up later, from the memory of the meters: priced again
now=$(sql 'SELECT sum(amount) FROM submeter.charge WHERE account_id = 5')
setup 'backfill' sql "DO \$\$ BEGIN PERFORM submeter.ingest(1, array_agg(json_populate_record(NULL::submeter.reading_input, json_build_object(
		'meter_id', m.meter_id, 'ts', t, 'energy_wh', $(register m.meter_id t), 'source', 'backfill'))))
	FROM submeter.meter m, generate_series('$hour'::timestamptz - interval '66 hours', '$hour'::timestamptz - interval '6 hours', interval '6 hours') t
	WHERE m.meter_id BETWEEN 5 AND 8; END \$\$"
poller_stop
wait_for 30 'all is settled' settled
for id in 1 3 5 8; do
	ok "account $id pays the price of each time" priced "$id" || diag "off by $(due "$id")"
done
is_sql "SELECT abs(sum(amount) - $now) > 10 FROM submeter.charge WHERE account_id = 5" t 'without the backfill it had to be spread evenly'
poller_start

# A person agrees to one; the others pay
true_in 60 'data is fresh again' "SELECT count(*) = 8 FROM submeter.meter_state WHERE ts > now() - interval '5 s'"
wait_for 60 'they are still held' says 'hold mass_trip' all_decided '1, 2, 3, 5, 6, 7'
setup 'agree to cut shop 1' sql "DO \$\$ BEGIN PERFORM submeter.tick_decision(1, (SELECT last_decision_id FROM submeter.account_state WHERE account_id = 1)); END \$\$"
wait_for 60 'it is cut' is_dark a 1
# In one transaction: what is left below the least number to hold may be cut by rule.
setup 'let the others pay' sql "DO \$\$ BEGIN PERFORM submeter.recharge(1, id, 5000, 'bank', 'list ' || id) FROM unnest('{2,3,5,6,7}'::bigint[]) id; END \$\$"
wait_for 60 'they are in credit again' says 'none in_credit' all_decided '2, 3, 5, 6, 7'
true_in 30 'the alarm is over' "SELECT count(*) = 0 FROM submeter.open_alarm WHERE rule = 'mass_trip_held'"
setup 'let shop 1 pay' recharge 1 5000
wait_for 60 'it has light again' is_lit a 1
total=0
for unit in 2 3; do total=$((total + $(writes a "$unit"))); done
for unit in 5 6 7 8; do total=$((total + $(writes b "$unit"))); done
is "$total" 0 'no other breaker was ever touched'

PRICE=
books 'at the end'
done_testing
