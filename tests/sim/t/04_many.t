#!/bin/bash
# Many ports in one process, load curves, speed, and configurations with mistakes.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

data=$here/../../data
setup 'start a farm of 1000 ports' farm_start "$work" <<CONF
speed 0
curves homes $data/homes_hourly.csv slot_s=3600
curves minute $data/household_minute.csv slot_s=60 unit=kw
port bus 0 repeat=1000
meter 1-4 DDS238 curve=homes:*
port one 0
meter 1 DDS238 curve=homes:H01
meter 2 DDS238 curve=homes:H01 offset_h=1
meter 3 DDS238 curve=homes:H01 scale=0.5
meter 4 DDS238 curve=minute:active_kw
CONF
is "$(grep -c '^port ' "$FARM_OUT")" 1001 'every port is announced'
is "$(tail -1 "$FARM_OUT")" ready 'and then: ready'
is "$(farm list | cut -d' ' -f1,2)" 'ports=1001 meters=4004' 'all meters are there'
refused=0
for number in $(awk '$1 == "port" { print $3 }' "$FARM_OUT"); do
	[ "$(raw "$number" 000100000006010300000002 9 5)" = 000100000007010304 ] || refused=$((refused + 1))
done
is "$refused" 0 'every port answers'

farm advance 5400 >"$work/out"
is "$(farm get one 1 register_mwh)" $((708900 + 1192200 / 2)) 'a curve is followed inside its slots'
is "$(farm get one 1 power_mw)" 1192200 'with the power of the slot'
is "$(farm get one 2 register_mwh)" $((1192200 + $(sed -n 4p "$data/homes_hourly.csv" | cut -d, -f2 | tr -d .) * 100 / 2)) \
	'an offset starts later in the curve'
is "$(farm get one 3 register_mwh)" $(((708900 + 1192200 / 2) / 2)) 'a scale makes it smaller'
is "$(farm get one 4 register_mwh)" \
	"$(sed -n 2,91p "$data/household_minute.csv" | awk -F'[,]' '{ sum += int($2 * 1e6 * 60 / 3600 + 1e-6) } END { printf "%d", sum }')" \
	'a curve of power by the minute adds up'
farm advance $((1464 * 3600 - 5400)) >"$work/out"
is "$(farm get one 1 register_mwh)" \
	"$(tail -n +2 "$data/homes_hourly.csv" | awk -F, '{ sum += int($2 * 1e6 + 0.5) } END { printf "%d", sum }')" \
	'a whole curve is its sum'
before=$(farm get one 1 register_mwh)
farm advance 5400 >"$work/out"
is $(($(farm get one 1 register_mwh) - before)) $((708900 + 1192200 / 2)) 'and then begins anew'

farm set one 1 load_w=3600 register_wh=0
farm speed 1000 >"$work/out"
counted()
{
	(($(farm get one 1 register_wh) >= 100))
}
wait_for 10 'time runs a thousand times as fast' counted
farm speed 0 >"$work/out"
is "$(farm get one 1 register_mwh)" "$(farm get one 1 register_mwh)" 'speed 0 stands still'
ok 'the farm ends well' farm_stop

# refuses LINE... WANT WHAT: a configuration that is not accepted, and why
refuses()
{
	local want=$1 what=$2
	is "$(farm_start "$work" 2>&1 | sed 's/.*: //')" "$want" "$what"
}

refuses 'expected models, curves, clock, zone, speed, control, port or meter' 'a word nobody knows' <<<'prot x 1'
refuses 'a meter needs a port before it' 'a meter without a port' <<<'meter 1 DDS238'
refuses 'no such model as XYZ' 'a model nobody knows' <<<$'port x 0\nmeter 1 XYZ'
refuses 'port x already has a unit 2' 'a unit twice' <<<$'port x 0\nmeter 1-3 DDS238\nmeter 2 SDM120'
refuses 'cannot set curve=none:*' 'a curve nobody knows' <<<$'port x 0\nmeter 1 DDS238 curve=none:*'
refuses 'cannot set split=50/30/30' 'phases that do not add up' <<<$'port x 0\nmeter 1 SDM630 split=50/30/30'
refuses 'there is already a port x' 'a port twice' <<<$'port x 0\nport x 0'
like "$(farm_start "$work" 2>&1 </dev/null)" 'names no port' 'an empty configuration'
done_testing
