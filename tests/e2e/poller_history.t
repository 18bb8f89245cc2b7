#!/bin/bash
# Readings that were missed are fetched from what meters keep, and prices by the hour come out as if nothing had been missing.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

# Three days lie behind the meters, of which the database knows the first hours only. The load changes every hour, so that a
# line drawn over a gap would be wrong.
hour_lasts
begin=$(($(date +%s) / 3600 * 3600 - 72 * 3600))
curve=$SM_RUN/curve.csv
setup 'make a load curve' eval 'awk "BEGIN { print \"hour,shop\"; for (i = 0; i < 100; i++) print i \",\" (i * 7 % 11) * 0.5 + 0.2 }" >"$curve"'
setup 'start the farm' farm_start "$SM_RUN" <<END
speed 0
clock $(date -u -d "@$begin" +%Y-%m-%dT%H:%M:%S)
zone 8
curves load $curve
port a 0 wire=dlt645
meter 1-4 DDSY-645 curve=load:shop start_kwh=100
END
setup 'start the database' field_start "submeter.databases = 'postgres'"
a=$(farm_port a)
make_plan()
{
	sql "INSERT INTO submeter.meter_model (model, vendor, protocol) SELECT m.name, 'x', 'dlt645-2007' FROM unnest('{hours,days,nothing,empty}'::text[]) m(name);
		INSERT INTO submeter.meter_point (model, metric, di, bytes, type, scale) SELECT m.name, 'energy_wh', '00010000', 4, 'bcd', 10 FROM unnest('{hours,days,nothing,empty}'::text[]) m(name);
		INSERT INTO submeter.meter_history (model, kind, di, time_di, depth) VALUES ('hours', 'hourly', '05040101', '05040001', 254),
			('days', 'daily', '05060101', '05060001', 62), ('empty', 'hourly', '05330101', '05330001', 254);
		UPDATE submeter.duty SET every = '100 ms' WHERE duty IN ('history', 'settle')" || return
	field_gateway 1 "127.0.0.1:$a" transport=dlt645-over-tcp timeout_ms=500 gap_ms=0 'poll_interval=1 s' || return
	field_meter 1 1 1 hours && field_meter 2 1 2 days && field_meter 3 1 3 nothing && field_meter 4 1 4 empty || return
	# Meter 5 is the same as meter 1, but nothing of it was ever missing.
	sql "INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 5, 'M5', 'nothing');
		INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) SELECT 1, i, '2020-01-01', 60 FROM generate_series(1, 5) i;
		SELECT submeter.create_tariff(1, 'tou', '{\"periods\":[{\"name\":\"peak\",\"windows\":[{\"from\":\"08:00\",\"to\":\"13:00\"},{\"from\":\"17:00\",\"to\":\"22:00\"}]},{\"name\":\"flat\"}],
			\"energy\":[{\"period\":\"peak\",\"price\":1.2345},{\"price\":0.4321}]}', '2020-01-01');
		INSERT INTO submeter.tenant (site_id, tenant_id, code, name) SELECT 1, i, 'T' || i, 'Shop ' || i FROM generate_series(1, 5) i;
		INSERT INTO submeter.account (site_id, account_id, code, tenant_id) SELECT 1, i, 'A' || i, i FROM generate_series(1, 5) i;
		INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
			SELECT 1, i, i, (SELECT tariff_id FROM submeter.tariff), tstzrange(to_timestamp($begin), NULL) FROM generate_series(1, 5) i" >/dev/null
}
setup 'make a plan' make_plan
# What the meter shows after so many hours, from the curve itself.
shown()
{
	awk -F, -v n="$1" 'NR > 1 && $1 < n { sum += $2 * 1000 } END { printf "%d", 100000 + sum }' "$curve"
}
# hours METER FROM TO: readings of full hours, as the poller would have made them
hours()
{
	local hour
	for ((hour = $2; hour <= $3; hour++)); do
		sql "SELECT submeter.ingest(1, ARRAY[json_populate_record(NULL::submeter.reading_input,
			json_build_object('meter_id', $1, 'ts', to_timestamp($begin + $hour * 3600), 'energy_wh', $(shown "$hour")))])" >/dev/null || return
	done
}
first_hours()
{
	local meter
	for meter in 1 2 3 4 5; do
		hours "$meter" 0 6 || return
	done
}
setup 'the first hours were read in time' first_hours
setup 'three days pass for the meters' farm advance $((72 * 3600))

poller_start
state_is()
{
	[ "$(sql "SELECT state FROM submeter.reading_gap WHERE meter_id = $1")" = "$2" ]
}
wait_for 30 'the gap of a meter that keeps hours is filled' state_is 1 filled
wait_for 30 'that of one that keeps days is asked for' says 2 sql "SELECT count(*) FROM submeter.history_task WHERE meter_id IN (1, 2) AND state = 'done'"
wait_for 30 'one that keeps nothing says so' state_is 3 unfillable
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 1 AND source = 'backfill'")" 66 'every hour of the gap came'
is "$(sql "SELECT count(*) FROM submeter.reading WHERE meter_id = 1 AND source = 'backfill' AND ts <> date_trunc('hour', ts)")" 0 'at full hours'
wrong=0
for hour in 7 8 20 33 47 60 72; do
	[ "$(sql "SELECT energy_wh FROM submeter.reading WHERE meter_id = 1 AND ts = to_timestamp($begin + $hour * 3600)")" = "$(shown "$hour")" ] || wrong=$((wrong + 1))
done
is "$wrong" 0 'with the register of that hour'
is "$(sql "SELECT count(*) FROM submeter.reading r WHERE meter_id = 2 AND source = 'backfill' AND (ts AT TIME ZONE 'Asia/Shanghai')::time <> '00:00'")" 0 'days come at local midnight'
isnt "$(sql "SELECT count(*) FROM submeter.reading r WHERE meter_id = 2 AND source = 'backfill'")" 0 'and do come'
is "$(sql "SELECT outcome FROM (SELECT DISTINCT (SELECT count(*) FROM submeter.reading_suspect) AS outcome) x")" 0 'none of them is suspect'
wait_for 30 'a meter that has no such memory is not asked again' says 'failed|0' sql "SELECT state, found FROM submeter.history_task WHERE meter_id = 4"

# The charges are those of the meter of which nothing was missing, to the cent
setup 'the meter beside it was read all the time' hours 5 7 72
same_energy()
{
	sql "INSERT INTO submeter.reading (site_id, meter_id, ts, energy_wh) SELECT 1, 5, max(ts), max(energy_wh) FROM submeter.reading WHERE meter_id = 1 AND source = 'poll'"
}
setup 'it was read together with the other for the last time' poller_stop
setup 'and shows the same' same_energy
charged_alike()
{
	[ "$(sql "SELECT count(DISTINCT (x.amount, x.energy)) FROM (SELECT account_id, sum(amount) AS amount, sum(energy_wh) AS energy FROM submeter.charge
		WHERE account_id IN (1, 5) GROUP BY 1) x HAVING count(*) = 2")" = 1 ]
}
wait_for 30 'both owe the same, to the last digit' charged_alike
is "$(sql "SELECT sum(estimated_wh) FROM submeter.charge WHERE account_id = 1")" 0 'and nothing of it is an estimate'
isnt "$(sql "SELECT sum(estimated_wh) FROM submeter.charge WHERE account_id = 3")" 0 'of the meter that keeps nothing it is'
is "$(sql "SELECT state, fill_from, estimated FROM submeter.missing_reading WHERE meter_id = 3")" 'unfillable||t' 'and missing_reading says so'
is "$(sql "SELECT sum(c.energy_wh) = (SELECT sum(energy_wh) FROM submeter.charge WHERE account_id = 1) FROM submeter.charge c WHERE account_id = 3")" t 'but the energy is all there'
is "$(sql "SELECT min(rate_restored) >= 0.99 AND min(rate) < 0.4 FROM submeter.reading_success(1, (to_timestamp($begin) AT TIME ZONE 'Asia/Shanghai')::date + 1,
	(to_timestamp($begin) AT TIME ZONE 'Asia/Shanghai')::date + 1) WHERE meter = 'M1'")" t 'the success of a day, before and after'
unlike "$(cat "$POLLER_LOG")" 'runtime error|Sanitizer' 'no complaint of a sanitizer'
done_testing
