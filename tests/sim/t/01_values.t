#!/bin/bash
# The farm's meters, read by mbpoll: every word order, exact energy, measurements that agree.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'start the farm' farm_start "$work" <<'CONF'
speed 0
clock 2018-05-31T23:59:58
port bus 0
meter 1 SDM120   watts=1000 start_wh=12345678 voltage_v=230 pf=1
meter 2 DDS238   watts=2300 start_wh=4567890 voltage_v=230 pf=1
meter 3 EM24     watts=3000 start_wh=123456700 voltage_v=231
meter 4 B23      watts=3000 start_wh=9876543210 voltage_v=230
meter 5 DTSD1352 watts=100000 ct=40 start_wh=1000000 voltage_v=220 split=50/30/20
meter 6 DDSU666  watts=1500 start_wh=2500
meter 7 iEM3155  watts=3000 start_wh=7777777
meter 8 PZEM-016 watts=100 start_wh=123456
meter 9 LX47LE-125 watts=2000 voltage_v=230 pf=1 leak_ma=17 temperature_c=41
meter 10 DTSY1352 watts=100 start_wh=655360010
meter 11 SDM630 watts=3000 start_wh=1000
CONF
port=$(farm_port bus)

is "$(values "$port" 1 3:float 0)" 230 'SDM120: voltage as a float'
is "$(values "$port" 1 3:float 12)" 1000 'SDM120: power'
is "$(values "$port" 1 3:float 72)" 12345.7 'SDM120: import energy in kWh (mbpoll prints six digits)'
is "$(values "$port" 1 3:float 342)" 12345.7 'SDM120: total energy'
is "$(raw "$port" 000100000006010400480002 13 2)" 0001000000070104044640e6b6 \
	'SDM120: the energy bit by bit is the float nearest to 12345.678'
is "$(values "$port" 2 4:int 0)" 456789 'DDS238: u32 in steps of 0.01 kWh'
is "$(values "$port" 2 4 12 3 | tr '\n' ' ')" '2300 1000 2300 ' 'DDS238: 230.0 V, 10.00 A, 2300 W'
is "$(values "$port" 2 4 26)" 1 'DDS238: relay closed'
is "$(values "$port" 3 3:hex 66 2 | tr '\n' ' ')" '0xD687 0x0012 ' 'EM24: least significant word first'
is "$(values "$port" 4 4:hex 0x5000 4 | tr '\n' ' ')" '0x0000 0x0000 0x3ADE 0x68B1 ' 'B23: u64'
is "$(values "$port" 5 4:int 0)" 100000 'DTSD1352: the register is on the secondary side of the CT'
is "$(values "$port" 5 4 103 4 | tr '\n' ' ')" '1250 750 500 2500 ' 'DTSD1352: power by phase adds up'
is "$(values "$port" 5 4:hex 60 3 | tr '\n' ' ')" '0x1205 0x1F17 0x3B3A ' 'DTSD1352: its clock, two bytes a register'
is "$(values "$port" 5 4:int 331)" 40 'DTSD1352: the CT ratio'
is "$(values "$port" 6 4:float 0x4000)" 2.5 'DDSU666: energy by function 3'
is "$(values "$port" 6 3:float 0x4000)" 2.5 'DDSU666: and by function 4'
is "$(values "$port" 7 4:hex 3203 4 | tr '\n' ' ')" '0x0000 0x0000 0x0076 0xADF1 ' 'iEM3155: i64 in Wh'
is "$(values "$port" 8 3:hex 5 2 | tr '\n' ' ')" '0xE240 0x0001 ' 'PZEM-016: word-swapped Wh'
is "$(values "$port" 9 3:hex 0)" 0x00F0 'LX47LE-125: closed'
is "$(values "$port" 9 3 5 7 | tr '\n' ' ')" '17 41 41 230 869 100 2000 ' 'LX47LE-125: leakage to power'
is "$(values "$port" 10 4:int 0)" 65536001 'DTSY1352: more than 16 bits'
is "$(values "$port" 11 3:float 12 1) $(values "$port" 11 3:float 14) $(values "$port" 11 3:float 16)" '1020 990 990' \
	'SDM630: three phases'

farm advance 3600 >"$work/out"
is "$(farm get bus 1 register_mwh)" 12346678000 'an hour of 1000 W is 1 kWh to the mWh'
is "$(values "$port" 2 4:int 0)" 457019 'DDS238 counted 2.3 kWh'
is "$(values "$port" 5 4:hex 60 3 | tr '\n' ' ')" '0x1206 0x0100 0x3B3A ' 'the clock went over the end of the month'
is "$(farm get bus 5 register_mwh)" 1002500000 'behind the CT 100 kWh are 2.5'
for _ in 1 2 3 4 5 6 7; do
	farm advance 1 >"$work/out"
done
is "$(farm get bus 5 register_mwh)" "$((1002500000 + 2500 * 7 * 1000 / 3600))" 'many small steps lose nothing'

is "$(complaint "$port" 4 4 0x5009)" 'Illegal data address' 'outside the map: exception 2'
is "$(complaint "$port" 4 3 0x5000)" 'Illegal function' 'a function the meter does not know: exception 1'
is "$(complaint "$port" 1 3 0 81)" 'Illegal data value' 'more registers than the meter gives: exception 3'
is "$(complaint "$port" 99 3 0)" 'Target device failed to respond' 'an absent unit: exception 11'
is "$(values "$port" 2 4 0 18 | wc -l)" 18 'DDS238 answers a block with holes in it'
is "$(complaint "$port" 6 4 0x2000 16)" 'Illegal data address' 'DDSU666 does not'
farm set bus 6 holes=zero
is "$(values "$port" 6 4 0x2000 16 | wc -l)" 16 'unless it is told to'
is "$(raw "$port" 000700000006010400480000 9 2)" 000700000003018403 'no registers at all: exception 3'
is "$(raw "$port" 00070000000201 9 1)$(raw "$port" 000700010006010400480002 9 1)" '' 'what is not Modbus gets no answer'
is "$(farm log bus malformed)" 1 'and is counted'
is "$(farm log bus overlaps)" 0 'nobody asked twice at a time'

farm set bus 2 word:3:0x000C=65535
is "$(values "$port" 2 4 12 2 | tr '\n' ' ')" '65535 1000 ' 'a word can be forced'
farm set bus 2 word:3:0x000C=
is "$(values "$port" 2 4 12)" 2300 'and given back'
ok 'the farm ends well' farm_stop
done_testing
