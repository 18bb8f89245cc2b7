#!/bin/bash
# DL/T 645 meters: frames printed in public documents, every kind of item, clock, password, relay.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'start the farm' farm_start "$work" <<CONF
speed 0
clock 2024-05-29T21:30:00
port bus 0 wire=dlt645
meter 161 DDSY-645 watts=0 start_wh=260 voltage_v=100.1 preamble=0
meter 210204000012 DDSY-645 watts=1000 start_wh=123456780 voltage_v=230 pf=1 prepaid_kwh=12.34
meter 210204000013 DTSY-645 watts=3000 start_wh=5000000 voltage_v=220 pf=1 tou=10/20/30/40 frame_bytes=24 separators=yes
meter 210204000014 DTSD-645 watts=1000 blocks=no empty=ff
port old 0 wire=dlt645
meter 42 DDS-1997 watts=500 start_wh=77000 voltage_v=230 pf=1
meter 43 DTS-1997 watts=3000 start_wh=5000 voltage_v=220 pf=1
port line pty wire=dlt645 link=$work/tty
meter 7 DDSY-645 watts=100 start_wh=1000000
port slow 0 wire=dlt645 baud=2400
meter 7 DDSY-645 preamble=0
CONF
port=$(farm_port bus)
old=$(farm_port old)
one=210204000012
three=210204000013

# As printed in a public example of the trade: 0.26 kWh, 100.1 V, meter 161.
is "$(raw "$port" FEFEFEFE68610100000000681104333334331416 20 2)" \
	686101000000006891083333343359333333"8a16" 'the forward active energy, byte by byte'
is "$(raw "$port" FEFEFEFE68610100000000681104333435351816 1 0.2)" 68 'answers begin without FE when the meter sends none'
is "$(raw "$port" FEFEFEFE68610100000000681104333434351716 18 2)" 6861010000000068910633343435344310"16" 'the voltage of phase A'

# A DI is written DI3 first; answers as "address control DI value".
ask()
{
	dlt "$port" --wait 0.3 "$@" | cut -d' ' -f2-
}
is "$(ask $one/00010000)" '91 00010000 12345678' '123456.78 kWh'
is "$(ask $one/00020000)" '91 00020000 00000000' 'nothing in reverse'
is "$(ask $one/00000000)" '91 00000000 12345678' 'the combined energy'
is "$(ask $three/0001FF00)" '91 0001FF00 0020000000150000001000000005000000500000' 'the block: fourth tariff first, total last'
is "$(ask $three/00010400)" '91 00010400 00200000' 'one tariff'
is "$(ask $three/00150000 $three/00290000 $three/003D0000 | cut -d' ' -f3 | tr '\n' ' ')" '00170000 00165000 00165000 ' 'by phase'
is "$(ask $one/00150000)" 'D1 02' 'a meter of one phase has none'
is "$(ask $three/00010500)" 'D1 02' 'nor has a fifth tariff'
is "$(ask $one/0201FF00)" '91 0201FF00 FFFFFFFF2300' 'absent phases are FF in a block'
is "$(ask $three/0201FF00)" '91 0201FF00 220022002200' 'three voltages'
is "$(ask $one/02020100)" '91 02020100 004347' '4.347 A'
is "$(ask $three/0203FF00)" '91 0203FF00 009900009900010200030000' 'power: C, B, A, total'
is "$(ask $three/02060000)" '91 02060000 1000' 'power factor'
like "$(ask $one/02800002)" '^91 02800002 (49|50)[0-9][0-9]$' 'frequency'
is "$(ask $one/02800007)" '91 02800007 0271' 'temperature'
is "$(ask $one/04000401 $one/04000402 | cut -d' ' -f3 | tr '\n' ' ')" "$one $one " 'address and number'
is "$(ask $one/04000409)" '91 04000409 001600' 'pulse constant'
is "$(ask $one/00900100)" '91 00900100 00001234' 'what is left of 12.34 kWh'
is "$(ask 161/00900100)" 'D1 02' 'a meter that is not prepaid has nothing left'
is "$(ask $one/04000503)" '91 04000503 0100' 'status word 3: a prepaid meter, closed'
is "$(ask $one/99999999)" 'D1 02' 'an item nobody knows'
is "$(ask 210204000014/0001FF00)" 'D1 02' 'a meter without blocks'
is "$(ask 210204000014/00010000 | cut -c1-11)" '91 00010000' 'has single items'
is "$(ask 210204000015/00010000)" silence 'an absent meter is silent'
is "$(ask $one/9010)" silence 'a meter of 2007 does not hear 1997'

# Addresses.
is "$(dlt "$port" AA000012/00010000)" "$one 91 00010000 12345678" 'a short address, answered with the whole one'
is "$(dlt "$(farm_port slow)" AA/13)" '000000000007 93 000000000007' 'a wildcard on a line with one meter'
like "$(dlt "$port" --wait 0.3 AA/00010000)" '^bad ' 'on a line with several the answers collide'

# Long answers.
is "$(ask $three/0001FF00+)" '91 0001FF00 0020000000150000001000000005000000500000' 'a block of exactly one frame'
farm set bus $three frame_bytes=12
is "$(ask $three/0001FF00)" 'B1 0001FF00 0005000000500000' 'cut to what a frame takes'
is "$(ask $three/0001FF00+)" '92 0001FF00 0020000000150000001000000005000000500000' 'the rest follows in numbered frames'
is "$(ask $three/12:33333333)" 'D2 02' 'but not of another item'
farm set bus $three frame_bytes=200

# What is frozen: an hour, a midnight, a month. 1000 W from 21:30.
is "$(ask $one/05060001)" 'D1 02' 'nothing frozen yet'
is "$(ask 210204000014/05060001)" '91 05060001 FFFFFFFFFF' 'or FF, as the meter likes'
farm advance 9000 >"$work/out"
is "$(ask $one/05060001 $one/05060101 | cut -d' ' -f3 | tr '\n' ' ')" \
	'2405300000 0000000012345928000000000000000012345928 ' 'midnight of the 30th: time and energies'
is "$(ask $one/05040001 $one/05040101 $one/05040002 $one/05040102 | cut -d' ' -f3 | tr '\n' ' ')" \
	'2405300000 12345928 2405292300 12345828 ' 'hours, counted backwards'
farm advance $((3 * 86400)) >"$work/out"
is "$(ask $one/05060001 $one/05060002 $one/05060003 | cut -d' ' -f3 | tr '\n' ' ')" '2406020000 2406010000 2405310000 ' 'three days later'
is "$(ask $one/05060103 | cut -d' ' -f3 | tail -c 9)" 12348328 'the 31st: 25.5 kWh after the start'
is "$(ask $one/00010001)" '91 00010001 12350728' 'the settlement of the first of June'
is "$(ask $one/00010002)" 'D1 02' 'and none before'
is "$(ask $three/0504FF01)" '91 0504FF01 AA00000000AA00522350AA2406020000' 'an hour as a block, with separators'
is "$(ask $three/0506FF01 | cut -d' ' -f1,2)" '91 0506FF01' 'a day as a block'
is "$(ask $three/0506FF01+ | cut -d' ' -f3 | tail -c 53)" 0020894000156705001044700005223500522350AA2406020000 'with its time first on the wire'
is "$(ask $one/050601FE)" 'D1 02' 'further back than a meter keeps'
is "$(dlt "$port" $one/04000101 $one/04000102 $one/0400010C | cut -d' ' -f4 | tr '\n' ' ')" '24060200 000000 24060200000000 ' 'date with its Sunday, time, both'

# The clock. PA=02, password 000000, operator 0.
pass=0200000000000000
is "$(ask $one/14:02010004${pass}563412)" '94' 'the time is written'
is "$(ask $one/04000102)" '91 04000102 123456' 'and shown'
is "$(ask $one/14:01010004${pass}0303062026)" 'D4 01' 'a date of the wrong length is not'
is "$(ask $one/14:01010004${pass}01033024)" 'D4 01' 'nor a month 30'
is "$(ask $one/14:00000100${pass}00000000)" 'D4 04' 'the energy cannot be written'
is "$(farm get bus $one clock_sets)" 1 'one change of the clock'
is "$(ask 99/08:561034020624)" silence 'nobody answers a broadcast'
is "$(ask $one/04000102)" '91 04000102 123456' 'too far off: 34:10 is 22 minutes later'
dlt "$port" --wait 0.1 99/08:005812020624 >"$work/out"
is "$(ask $one/04000102)" '91 04000102 123456' 'still too far'
dlt "$port" --wait 0.1 99/08:003612020624 >"$work/out"
is "$(ask $one/04000102)" '91 04000102 123600' 'a small correction is obeyed'
dlt "$port" --wait 0.1 99/08:003512020624 >"$work/out"
is "$(ask $one/04000102)" '91 04000102 123600' 'once a day'
is "$(ask 161/04000102)" '91 04000102 000000' 'near midnight never'

# Trip and close.
valid=000015020624
is "$(ask $one/1C:${pass}1A00$valid)" 9C 'a trip is acknowledged'
is "$(ask $one/04000503)" '91 04000503 0150' 'open, and told to be'
is "$(ask $one/02030000)" '91 02030000 000000' 'no power'
is "$(ask $one/1C:${pass}1B00$valid)" 9C 'leave to close is acknowledged'
is "$(ask $one/04000503)" '91 04000503 0110' 'but somebody has to press the key'
ok 'press it' farm key bus $one
is "$(ask $one/04000503)" '91 04000503 0100' 'closed'
is "$(farm key bus $one 2>&1)" 'farmctl: error the key does nothing now' 'which does nothing twice'
farm set bus $one relay_ms=200
is "$(ask $one/1C:${pass}1A00$valid)" 9C 'a slow relay acknowledges'
is "$(ask $one/04000503)" '91 04000503 0140' 'before it has moved'
opened()
{
	[ "$(ask $one/04000503)" = '91 04000503 0150' ]
}
wait_for 5 'and moves' opened
is "$(ask $one/1C:${pass}1C00$valid)" 9C 'direct closing'
farm set bus $one relay_ms=0 relay=closed
is "$(ask $one/1C:${pass}1A00000010020624)" 'DC 01' 'an expired command is refused'
is "$(ask $one/1C:${pass}1A00999999999999)" '9C' 'all 99 never expires'
is "$(ask $one/1C:${pass}1C00000000000000)" '9C' 'nor all 00'
is "$(ask $one/1C:${pass}3A00$valid)" 9C 'keep power'
is "$(ask $one/04000503)" '91 04000503 1100' 'is bit 12'
is "$(ask $one/1C:${pass}1A00$valid)" 'DC 01' 'and forbids a trip'
is "$(ask $one/1C:${pass}3B00$valid)" 9C 'released'
is "$(ask $one/1C:${pass}2A00$valid)" 9C 'alarm'
is "$(ask $one/04000503)" '91 04000503 0180' 'is bit 7'
is "$(ask $one/1C:${pass}1D00$valid)" 'DC 01' 'an order nobody knows'
is "$(ask 210204000014/1C:${pass}1A00$valid)" 'DC 01' 'a meter without a relay'
farm fault bus $one relay-ignore count 1
is "$(ask $one/1C:${pass}1A00$valid)" 9C 'a relay that ignores a command acknowledges it'
is "$(ask $one/04000503)" '91 04000503 01C0' 'told to open, closed all the same'
is "$(ask $one/1D000001)" '91 1D000001 000004' 'trips are counted'

# Passwords.
wrong=0200000100000000
is "$(ask $three/1C:${wrong}1A00$valid)" 'DC 04' 'a wrong password'
is "$(ask $three/1C:${pass}2B00$valid)" 9C 'a right one starts the count again'
ask $three/1C:${wrong}1A00$valid $three/1C:${wrong}1A00$valid >"$work/out"
is "$(farm get bus $three wrong_passwords)" 2 'two wrong ones'
is "$(ask $three/1C:0400000000000000"1A00$valid")" 'DC 04' 'a wrong level counts too'
is "$(ask $three/1C:${pass}1A00$valid)" 'DC 04' 'after three the right one is refused'
is "$(ask $three/14:02010004${pass}563412)" 'D4 04' 'for any write'
is "$(farm get bus $three password_locked)" yes 'locked'
farm advance 86401 >"$work/out"
is "$(ask $three/14:02010004${pass}563412)" 94 'for a day'
farm set bus $three password=123456 level=4
is "$(ask $three/14:02010004"0456341200000000"563412)" 94 'lowest digits first on the wire'
like "$(farm log bus)" "write=[0-9]+:$three:14:04000102:563412:ok\$" 'the log tells what was written'
like "$(farm log bus)" "write=[0-9]+:$three:1C:1A:240602150000:error04" 'and what was refused'

# 1997.
was()
{
	dlt "$old" --wait 0.3 "$@" | cut -d' ' -f2-
}
is "$(was 42/9010)" '81 9010 00012625' 'energy of 1997'
is "$(was 42/901F)" '81 901F 0000000000012625000000000000000000012625' 'as a block'
is "$(was 42/9410)" '81 9410 00010225' 'last month'
is "$(was 42/9810)" 'C1 02' 'not the month before'
is "$(was 42/B611 42/B621 42/B630 42/B650 | cut -d' ' -f3 | tr '\n' ' ')" '0230 0217 005000 1000 ' 'voltage, current, power, factor'
is "$(was 43/B61F)" '81 B61F 022002200220' 'three voltages'
is "$(was 42/C010 42/C011 | cut -d' ' -f3 | tr '\n' ' ')" '24060301 000001 ' 'date and time'
is "$(was 42/C032)" '81 C032 000000000042' 'number'
is "$(was 42/00010000)" silence 'a meter of 1997 does not hear 2007'
is "$(was 42/04:11C0020000001512)" 'C4 01' 'a time too short'
is "$(was 42/04:11C002000000081512)" 84 'a time'
is "$(was 42/C011)" '81 C011 121508' 'written'

# A current transformer the wrong way round: its third counts against the other two.
farm set bus $three reversed=0/1/0 frame_bytes=200
is "$(ask $three/0203FF00)" '91 0203FF00 009900809900010200010200' 'negative power of that phase has the top bit'
is "$(ask $three/02020200)" '91 02020200 804500' 'and so has its current'
energy=$(farm get bus $three register_mwh)
farm advance 3600 >"$work/out"
is $(($(farm get bus $three register_mwh) - energy)) 1020000 'the meter counts 34 of 100'
farm set bus $three reversed=1/1/1
farm advance 3600 >"$work/out"
is "$(farm get bus $three export_wh)" 3000 'all of them: it counts backwards'
is "$(ask $three/00020000)" '91 00020000 00000300' 'into the register of that direction'
farm set bus $three reversed=0/0/0

# Faults.
farm fault bus $one bcd count 1
is "$(ask $one/04000409)" '91 04000409 00161B' 'a nibble that is no digit'
farm fault bus $one sentinel count 1
is "$(ask $one/00010000)" '91 00010000 FFFFFFFF' 'all FF'
farm fault bus $one wildcard count 1
is "$(dlt "$port" $one/04000409)" 'AAAAAAAAAAAA 91 04000409 001600' 'an answer with the address AA'
farm fault bus $one wrong-unit count 1
is "$(dlt "$port" $one/04000409)" '210204000013 91 04000409 001600' 'an answer of another meter'
farm fault bus $one other count 1
like "$(dlt "$port" --raw $one/04000409)" '^fefefefe6813.*' 'or before the right one'
farm fault bus $one wrong-transaction count 1
is "$(ask $one/04000409)" '91 04000408 001600' 'an answer about another item'
farm fault bus $one bad-checksum count 1
like "$(ask $one/04000409)" '^fefefefe68' 'a wrong sum'
farm fault bus $one exception 4 count 1
is "$(ask $one/04000409)" 'D1 04' 'an error of choice'
farm fault bus $one preamble 300 count 1
is "$(dlt "$port" --raw $one/04000409 | wc -c)" $((2 * (300 + 4 + 19) + 1)) 'a flood of FE'
farm fault bus $one echo count 1
like "$(dlt "$port" --raw --wait 0.2 $one/04000409)" '^68120000040221681104' 'an echo'
farm fault bus $one reply-lost count 1
is "$(ask $one/1C:${pass}1A00999999999999)" silence 'a lost reply'
is "$(farm get bus $one relay)" open 'to a command obeyed'
farm fault bus $one silence count 1
is "$(ask $one/1C:${pass}1C00999999999999)" silence 'a command never heard'
like "$(farm log bus)" "$one:1C:1C:999999999999:unheard\$" 'is in the log as that'
is "$(raw "$port" 68AA68FEFE6861010000000068110433333433"1416" 12 2 | head -c 22)" 6861010000000068910833 'a frame is found behind bytes that only look like one'

is "$(dlt "$work/tty" 7/00010000 | cut -c1-24)" '000000000007 91 00010000' 'a meter on a serial line'
slow=$(farm_port slow)
before=$(farm log slow wire_us)
dlt "$slow" 7/00010000 >"$work/out"
is $(($(farm log slow wire_us) - before)) $((36 * 11 * 1000000 / 2400)) '16 and 20 characters of 11 bits at 2400 baud'
ok 'the farm ends well' farm_stop
done_testing
