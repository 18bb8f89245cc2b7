#!/bin/bash
# Meters of 2007 and of 1997 that keep nothing but the registers of their settlement days, which they are asked for first.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

hour_lasts
begin=$(($(date +%s) / 3600 * 3600 - 58 * 86400))
setup 'start the farm' farm_start "$SM_RUN" <<END
speed 0
clock $(date -u -d "@$begin" +%Y-%m-%dT%H:%M:%S)
zone 8
port a 0 wire=dlt645
meter 1 DDSY-645 watts=1000 start_kwh=100
meter 2 DDS-1997 watts=1000 start_kwh=100
END
setup 'start the database' field_start "submeter.databases = 'postgres'"
a=$(farm_port a)
make_plan()
{
	sql "INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('months', 'x', 'dlt645-2007');
		INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale) VALUES ('months', 'energy_wh', '00010000', 4, 'bcd', 10);
		INSERT INTO submeter.meter_history (model, kind, di, depth) VALUES ('months', 'settlement', '00010001', 12);
		UPDATE submeter.duty SET every = '100 ms' WHERE duty = 'history'" || return
	field_gateway 1 "127.0.0.1:$a" transport=dlt645-over-tcp timeout_ms=500 gap_ms=0 'poll_interval=1 s' || return
	field_meter 1 1 1 months && field_meter 2 1 2 'DLT645-1997 single-phase' || return
	sql "INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (1, 1, '2020-01-01', 60), (1, 2, '2020-01-01', 60);
		SELECT submeter.create_partitions(to_timestamp($begin), now());
		SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', m, 'ts', to_timestamp($begin) + i * interval '1 hour', 'energy_wh', 100000 + i * 1000))])
			FROM generate_series(0, 3) i, generate_series(1, 2) m" >/dev/null
}
setup 'make a plan' make_plan
setup 'months pass for the meter' farm advance $((58 * 86400))
poller_start
ended()
{
	[ "$(sql "SELECT DISTINCT state FROM submeter.reading_gap")" = "$1" ]
}
# Near the day on which months end nothing is asked for: what is the last entry then is in doubt.
near=$(sql "SELECT EXISTS (SELECT FROM submeter.history_stamps(1, 'settlement', '0100', now() - interval '26 hours', now() + interval '26 hours'))")
wait_for 30 'the tasks are done' says 2 sql "SELECT count(*) FROM submeter.history_task WHERE state = 'done'"
if [ "$near" = t ]; then
	is "$(sql "SELECT count(*) FROM submeter.reading WHERE source = 'backfill' AND energy_wh <> 100000 + (extract(epoch FROM ts) - $begin)::bigint * 1000 / 3600")" 0 'near a settlement day nothing wrong is booked'
else
	for meter in 1 2; do
		is "$(sql "SELECT count(*) FROM submeter.reading r JOIN submeter.history_stamps(1, 'settlement', '0100', to_timestamp($begin), now()) s(ts) ON s.ts = r.ts
			WHERE r.meter_id = $meter AND r.source = 'backfill' AND r.energy_wh = 100000 + (extract(epoch FROM r.ts) - $begin)::bigint * 1000 / 3600")" \
			"$(sql "SELECT count(*) FROM submeter.history_stamps(1, 'settlement', '0100', to_timestamp($begin + 10800), now())")" \
			"the register of every month that ended in the gap, of the meter of $((meter == 1 ? 2007 : 1997))"
	done
fi
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'none of it is suspect'
sql "UPDATE submeter.history_task SET finished_at = finished_at - interval '1 hour'"
wait_for 30 'the rest of the gap is not filled' ended "$([ "$near" = t ] && echo unfillable || echo partly)"
poller_stop
done_testing
