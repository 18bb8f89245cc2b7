#!/bin/bash
# Days that were missed are fetched from the concentrator's own record (AFN 0DH, F161) for meters that keep nothing.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

hour_lasts
begin=$(($(date +%s) / 3600 * 3600 - 10 * 86400))
door=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<END
speed 0
clock $(date -u -d "@$begin" +%Y-%m-%dT%H:%M:%S)
zone 8
port box dial 127.0.0.1:$door wire=q376 terminal=4401:1 every=1 retry=0.3
meter 1-3 DDSY-645 watts=1000 start_kwh=100
END
setup 'start the database' field_start "submeter.databases = 'postgres'"
# Meter 2 is not known to the concentrator by a number, meter 3 by one that it does not have.
make_plan()
{
	sql "INSERT INTO submeter.meter_model (model, vendor, protocol) VALUES ('plain', 'x', 'dlt645-2007');
		INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale) VALUES ('plain', 'energy_wh', '00010000', 4, 'bcd', 10);
		INSERT INTO submeter.gateway (site_id, gateway_id, code, transport, address, dial_in, registration, gap_ms, timeout_ms, poll_interval)
			VALUES (1, 1, 'BOX', 'q376-transparent', '127.0.0.1:$door', true, '4401-1', 0, 600, '1 s');
		INSERT INTO submeter.meter (site_id, meter_id, code, gateway_id, bus_address, model, measure_point)
			VALUES (1, 1, 'M1', 1, '1', 'plain', 1), (1, 2, 'M2', 1, '2', 'plain', NULL), (1, 3, 'M3', 1, '3', 'plain', 300);
		INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) SELECT 1, i, '2020-01-01', 60 FROM generate_series(1, 3) i;
		UPDATE submeter.duty SET every = '100 ms' WHERE duty = 'history'" || return
	sql "SELECT submeter.create_partitions(to_timestamp($begin), now());
		SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input, json_build_object('meter_id', m, 'ts', to_timestamp($begin) + i * interval '1 hour', 'energy_wh', 100000 + i * 1000))])
			FROM generate_series(0, 3) i, generate_series(1, 3) m" >/dev/null
}
setup 'make a plan' make_plan
setup 'ten days pass' farm advance $((10 * 86400))
poller_start --log-level debug
gap_of()
{
	sql "SELECT state FROM submeter.reading_gap WHERE meter_id = $1"
}
wait_for 60 'the record is read' says 'done' sql 'SELECT state FROM submeter.history_task WHERE meter_id = 1'
midnights="submeter.history_stamps(1, 'concentrator', '0100', to_timestamp($begin + 10800), now() - interval '1 minute')"
wait_for 30 'every midnight of the gap has its register' says "$(sql "SELECT count(*) FROM $midnights")" \
	sql "SELECT count(*) FROM submeter.reading r JOIN $midnights s(ts) ON s.ts = r.ts
		WHERE r.meter_id = 1 AND r.source = 'backfill' AND r.energy_wh = 100000 + (extract(epoch FROM r.ts) - $begin)::bigint * 1000 / 3600"
is "$(sql "SELECT count(*) >= 9 FROM $midnights")" t 'nine or ten of them'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 1 AND source = 'backfill' AND ts NOT IN (SELECT s.ts FROM $midnights s(ts))")" 0 'and nothing else was booked'
wait_for 30 'a point the concentrator does not have is given up' says 'failed' sql 'SELECT state FROM submeter.history_task WHERE meter_id = 3'
like "$(sql 'SELECT detail FROM submeter.history_task WHERE meter_id = 3')" 'no record' 'with the reason'
is "$(sql 'SELECT count(*) FROM submeter.history_task WHERE meter_id = 2')" 0 'a meter without a point is not asked for'
wait_for 30 'its gap is marked' says unfillable gap_of 2
is "$(sql "SELECT fill_from FROM submeter.missing_reading WHERE meter_id = 1 AND state <> 'lasting'")" '{concentrator}' 'what could fill it is shown'
is "$(sql 'SELECT count(*) FROM submeter.reading_suspect')" 0 'nothing is suspect'
poller_stop
done_testing
