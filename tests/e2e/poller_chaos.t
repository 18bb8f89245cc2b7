#!/bin/bash
# The poller and the server are killed again and again at random: every reading has its effect once, registers and charges are right.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

RANDOM=${SEED:=$((RANDOM + 1))}
diag "SEED=$SEED repeats this run"
setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 60
port a 0
meter 1-4 DDS238-2 watts=9000 start_kwh=100
END
setup 'start the database' field_start "submeter.databases = 'postgres'"
a=$(farm_port a)
make_plan()
{
	local dds meter
	dds=$(sql "SELECT model FROM submeter.meter_model WHERE model LIKE 'DDS238%' ORDER BY model LIMIT 1")
	field_gateway 1 "127.0.0.1:$a" timeout_ms=300 gap_ms=0 'poll_interval=100 ms' || return
	for meter in 1 2 3 4; do
		field_meter "$meter" 1 "$meter" "$dds" || return
	done
	sql "INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) SELECT 1, i, '2020-01-01', 32767 FROM generate_series(1, 4) i;
		SELECT submeter.create_tariff(1, 'flat', '{\"energy\":[{\"price\":0.75}]}', '2020-01-01');
		INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, i, 'T' || i, 'T' || i FROM generate_series(1, 4) i;
		INSERT INTO submeter.account (site_id, account_id, code, tenant_id) SELECT 1, i, 'A' || i, i FROM generate_series(1, 4) i;
		INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
			SELECT 1, i, i, (SELECT tariff_id FROM submeter.tariff), '[2020-01-01,)' FROM generate_series(1, 4) i" >/dev/null
}
setup 'make a plan' make_plan
readings()
{
	sql 'SELECT count(*) FROM submeter.reading' 2>/dev/null
}
grown()
{
	local now
	now=$(readings) && [ -n "$now" ] && [ "$now" -gt "$1" ]
}
# What is durable in the spool at a moment: each of these readings must be in the database at the end.
promised=$SM_RUN/promised
promise()
{
	spool '.timeout 5000' "SELECT meter_id || '|' || ts_ms FROM reading" >>"$promised" 2>/dev/null
}
poller_start
wait_for 15 'it reads' grown 10
for turn in 1 2 3 4 5 6 7 8 9 10; do
	case $((RANDOM % 3)) in
		0) poller_kill9 && promise && poller_start ;;
		1) server_kill9 db && promise && server_start db ;;
		*) server_kill9 db && poller_kill9 && promise && poller_start && server_start db ;;
	esac
	seen=$(readings)
	wait_for 30 "it goes on after blow $turn" grown $((${seen:-0} + RANDOM % 40))
done
poller_stop
setup 'what is left is delivered' poller_run --once 2>>"$POLLER_LOG"
is "$(spool 'SELECT count(*) FROM reading')" 0 'nothing is left in the spool'
sort -u "$promised" >"$promised.once"
isnt "$(wc -l <"$promised.once")" 0 'the spool was caught with readings in it'
is "$(printf '%s\n' "CREATE TEMP TABLE promised (line text);" 'COPY promised FROM STDIN;' "$(cat "$promised.once")" '\.' \
	"SELECT count(*) FROM promised p WHERE NOT EXISTS (SELECT FROM submeter.reading r
		WHERE r.meter_id = split_part(p.line, '|', 1)::bigint AND r.ts = to_timestamp(split_part(p.line, '|', 2)::numeric / 1000));" |
	server_psql db)" 0 'everything that was durable is in the database'
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'nothing is suspect, nothing came with two values'
settled()
{
	[ "$(sql "SELECT bool_and(t.settled_to = s.valid_ts) FROM submeter.meter_state s JOIN submeter.meter_settled t USING (site_id, meter_id)")" = t ]
}
wait_for 30 'all is settled' settled
is "$(sql "SELECT count(*) FROM (SELECT meter_id, max(energy_wh) - min(energy_wh) AS wh FROM submeter.reading GROUP BY 1) r
	JOIN (SELECT account_id, sum(energy_wh) AS wh, sum(amount) AS amount FROM submeter.charge GROUP BY 1) c ON c.account_id = r.meter_id
	WHERE c.wh = r.wh AND c.amount = r.wh * 0.00075")" 4 'each meter is charged for what its register moved, once'
is "$(sql "SELECT count(*) FROM (SELECT meter_id, max(energy_wh) - min(energy_wh) AS wh FROM submeter.reading GROUP BY 1) r
	JOIN (SELECT meter_id, sum(energy_wh) AS wh FROM submeter.usage_day GROUP BY 1) u USING (meter_id) WHERE u.wh = r.wh")" 4 'and its days add up to it'
is "$(sql 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the books are right'
unlike "$(cat "$POLLER_LOG")" 'runtime error|Sanitizer' 'no complaint of a sanitizer'
done_testing
