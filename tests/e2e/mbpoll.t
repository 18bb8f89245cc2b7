#!/bin/bash
# What the poller puts into the database is what mbpoll, which nobody here wrote, reads from the same
# meters at the same moment: every point of every built-in model. mbpoll shows six digits. The time of
# the meters stands still, so both see the same values.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

# Our names in the order of meter numbers; the lines of the farm follow.
models=('DDS238-2 ZN/SR' 'SDM120' 'SDM630' 'DTSY1352' 'DTSD1352' 'Sfere prepaid' 'LX47LE-125' 'DDSU666' 'DDS238-2 ZN/S' 'DDSY1352' 'SDM230' 'SDM72DM-V2' 'DTSU666' 'ADW300'
	'iEM3155' 'B23' 'EM24' 'EM340' 'B23 312' 'PRO380' 'PZEM-016' 'DVH4013' 'WE-504' 'WE-516' 'DDM18SD' 'Compact NSX BSCM')
setup 'start the farm' farm_start "$SM_RUN" <<'END'
speed 0
port a 0
meter 1 DDS238 watts=1234 voltage_v=229.3 pf=0.95 start_kwh=123.45
meter 2 SDM120 watts=567 voltage_v=231.25 pf=0.9 start_kwh=7.125
meter 3 SDM630 watts=4500 voltage_v=228.5 split=40/35/25 start_kwh=98.5
meter 4 DTSY1352 watts=2500 voltage_v=230.5 split=50/30/20 start_kwh=4021.33
meter 5 DTSD1352 watts=750 voltage_v=230 start_kwh=512.05
meter 6 Sfere-prepaid watts=900 voltage_v=230 start_kwh=65.43
meter 7 LX47LE-125 watts=850 voltage_v=233 leak_ma=7 temperature_c=41
meter 8 DDSU666 watts=1500 voltage_v=227.5 start_kwh=33.5
meter 9 DDS238 watts=321 voltage_v=230.1 start_kwh=11.1
meter 10 DDSY1352 watts=432 voltage_v=229 start_kwh=22.22
meter 11 SDM230 watts=654 voltage_v=226.5 start_kwh=44.5
meter 12 SDM72DM-V2 watts=3210 voltage_v=231.5 split=50/30/20 start_kwh=55.25
meter 13 DTSU666 watts=2222 voltage_v=233.3 split=20/30/50 start_kwh=66.5
meter 14 ADW300 watts=3333 voltage_v=232.1 split=25/35/40 start_kwh=77.77
meter 15 iEM3155 watts=4321 voltage_v=230.75 split=60/20/20 start_kwh=888.125
meter 16 B23 watts=2345 voltage_v=229.9 split=10/20/70 start_kwh=99999.87
meter 17 EM24 watts=1999 voltage_v=228.8 split=40/40/20 start_kwh=1234.5
meter 18 EM340 watts=5432 voltage_v=227.7 split=30/30/40 start_kwh=2345.6
meter 19 B23-312 watts=3456 voltage_v=226.5 split=33/33/34 start_kwh=3.456
meter 20 PRO380 watts=4560 voltage_v=231.5 split=45/35/20 start_kwh=456.75
meter 21 PZEM-016 watts=1111 voltage_v=224.4 start_kwh=5.678
meter 22 DVH4013 watts=2121 voltage_v=225.25 split=15/25/60 start_kwh=678.901
meter 23 WE-504 watts=777 voltage_v=223.3 start_kwh=7.891
meter 24 WE-516 watts=6543 voltage_v=232.5 split=50/25/25 start_kwh=89.5
meter 25 DDM18SD watts=888 voltage_v=221.5 start_kwh=90.25
meter 26 NSX-BSCM watts=1000
END
setup 'start the database' field_start
port=$(farm_port a)
plan_all()
{
	local meter
	field_gateway 1 "127.0.0.1:$port" timeout_ms=500 gap_ms=0 'poll_interval=200 ms' || return
	for ((meter = 1; meter <= ${#models[@]}; meter++)); do
		field_meter $meter 1 $meter "${models[meter - 1]}" || return
	done
}
setup 'plan' plan_all
is "$(sql "SELECT string_agg(model, ', ') FROM submeter.meter_model WHERE builtin AND protocol = 'modbus' AND model NOT IN (SELECT model FROM submeter.meter)")" '' \
	'every built-in Modbus model is played'

# mbpoll_value UNIT FUNCTION ADDRESS TYPE: one value, as mbpoll shows it. It has no numbers of 64 bits: two halves.
mbpoll_value()
{
	local type order=() high low
	case $4 in
		u64be | i64be)
			high=$(mbpoll_value "$1" "$2" "$3" u32be) && low=$(mbpoll_value "$1" "$2" $(($3 + 2)) u32be) || return
			echo $(((high << 32) + (low & 0xFFFFFFFF)))
			return
			;;
		u16 | i16) type='' ;;
		u32be | i32be) type=:int order=(-B) ;;
		u32sw | i32sw) type=:int ;;
		f32be) type=:float order=(-B) ;;
		*) return 1 ;;
	esac
	mbpoll -m tcp -p "$port" -a "$1" -t $((7 - $2))$type "${order[@]}" -0 -r "$3" -c 1 -o 2 -1 -q 127.0.0.1 2>&1 |
		sed -n 's/^\[[0-9]*\]:[ \t]*\([^ ]*\).*/\1/p'
}

# The values of a meter as mbpoll reads them and the database's points explain them, a line each.
seen_by_mbpoll()
{
	local metric function address type scale mask closed open raw
	while IFS='|' read -r metric function address type scale mask closed open; do
		raw=$(mbpoll_value "$1" "$function" "$address" "$type") && [ -n "$raw" ] || { echo "$metric unread"; continue; }
		if [ "$metric" = relay ]; then
			case $((raw & mask)) in
				"$closed") echo 'relay closed' ;;
				"$open") echo 'relay open' ;;
				*) echo "relay $raw" ;;
			esac
		else
			awk -v raw="$raw" -v scale="$scale" -v name="$metric" \
				'BEGIN { printf name ~ /^(energy_wh|reactive_varh)$/ ? "%s %.0f\n" : "%s %.5g\n", name, raw * scale }'
		fi
	done < <(sql "SELECT p.metric, p.function, p.address, p.type, p.scale, p.bit_mask, p.closed_value, p.open_value
		FROM submeter.meter_point p JOIN submeter.meter m USING (model) WHERE m.meter_id = $1 ORDER BY p.metric")
}

# The same from the latest reading.
seen_by_database()
{
	local metric value
	while IFS='|' read -r metric value; do
		case $metric in
			relay | energy_wh | reactive_varh) echo "$metric $value" ;;
			*) awk -v value="$value" -v name="$metric" 'BEGIN { printf "%s %.5g\n", name, value }' ;;
		esac
	done < <(sql "SELECT p.metric, to_jsonb(r) ->> p.metric FROM submeter.meter_point p JOIN submeter.meter m USING (model)
		CROSS JOIN LATERAL (SELECT * FROM submeter.reading r WHERE r.meter_id = m.meter_id ORDER BY ts DESC LIMIT 1) r
		WHERE m.meter_id = $1 ORDER BY p.metric")
}

newer()
{
	[ "$(sql "SELECT count(*) FROM (SELECT meter_id FROM submeter.reading WHERE ts > '$1' GROUP BY meter_id HAVING count(*) >= 2) x")" = "${#models[@]}" ]
}

compare()
{
	local meter since
	since=$(sql 'SELECT clock_timestamp()')
	wait_for 15 "$1: all meters are read" newer "$since"
	for ((meter = 1; meter <= ${#models[@]}; meter++)); do
		is "$(seen_by_database $meter)" "$(seen_by_mbpoll $meter)" "$1: ${models[meter - 1]}"
	done
}

poller_start
compare 'at the start'
like "$(seen_by_database 1 | tr '\n' ' ')" '^energy_wh 123450 frequency_hz .*power_w 1234 relay closed v_a 229\.3 $' 'the values are the ones given to the farm'
is "$(seen_by_database 2 | grep energy)" 'energy_wh 7125' 'floats too'

farm advance 7200 >/dev/null
compare 'two hours later'
is "$(seen_by_database 1 | grep energy)" 'energy_wh 125910' 'two hours of 1234 W, in whole 10 Wh'
is "$(seen_by_database 2 | grep energy)" 'energy_wh 8259' 'two hours of 567 W'

# A breaker that mbpoll opens behind the poller's back.
is "$(mbpoll -m tcp -p "$port" -a 7 -t 4 -0 -r 13 -o 2 -q 127.0.0.1 0 2>&1 | grep -c '^Written')" 1 'mbpoll opens the breaker of unit 7'
compare 'after a switch'
is "$(seen_by_database 7 | grep relay)" 'relay open' 'and the readings say so'
poller_stop
done_testing
