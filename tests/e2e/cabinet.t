#!/bin/bash
# The person at the cabinet: read, scan, check-model, switch, watch and models, without a database, over Modbus TCP, RTU over TCP,
# serial lines and DL/T 645, against the farm, which shares no code with them; and against pymodbus.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

door=$(port_free)
setup 'start the farm' farm_start "$SM_RUN" <<END
speed 0
port tcp 0
meter 1 DDS238 watts=1234 voltage_v=229.3 pf=0.95 start_kwh=123.45
meter 2 SDM630 watts=4500 voltage_v=228.5 split=40/35/25 start_kwh=98.5
meter 7 LX47LE-125 watts=850 voltage_v=233 leak_ma=7 temperature_c=41
meter 17 EM24 watts=1999 voltage_v=228.8 split=40/40/20 start_kwh=1234.5
meter 30 DTSY1352 watts=2500 voltage_v=230.5 start_kwh=4021.33
port rtu 0 wire=rtu
meter 1 DDS238 watts=1234 voltage_v=229.3 pf=0.95 start_kwh=123.45
meter 3 PRO380 watts=4500 voltage_v=228.5 split=40/35/25 start_kwh=98.5
port line pty
meter 5 DDM18SD watts=888 voltage_v=221.5 start_kwh=90.25
port one 0 wire=dlt645
meter 000000000077 DDSY-645 watts=100 voltage_v=221 start_kwh=7.5
port dlt 0 wire=dlt645
meter 000000000012 DDSY-645 watts=700 voltage_v=221 start_kwh=55.5 password=135790
meter 000000000112 DTSY-645 watts=2500 voltage_v=222 start_kwh=66.5 frame_bytes=12
meter 000000000034 DDS-1997 watts=100 voltage_v=223 start_kwh=77.5
port kiosk dial 127.0.0.1:$door wire=rtu registration=DTU001 heartbeat=HB every=0.2 retry=0.3
meter 9 DDS238 watts=1234 voltage_v=229.3 start_kwh=123.45
END
tcp=127.0.0.1:$(farm_port tcp)
rtu=127.0.0.1:$(farm_port rtu)
dlt=127.0.0.1:$(farm_port dlt)
one=127.0.0.1:$(farm_port one)
line=$(farm_port line):9600:8N1
dds='DDS238-2 ZN/SR'
relay='DLT645-2007 single-phase relay'

tool() { "$POLLER" "$@" 2>"$SM_RUN/stderr"; }
person() { /usr/bin/python3 "$here/cabinet_person.py" "$1" "$POLLER" "${@:2}"; }
flat() { tr '\n' ' ' | sed 's/  */ /g; s/ $//'; }
writes() { farm get "$1" "$2" writes; }
# refused STATUS 'stderr' 'what' ARGUMENTS...
refused()
{
	local status=0
	"$POLLER" "${@:4}" >"$SM_RUN/stdout" 2>"$SM_RUN/stderr" </dev/null || status=$?
	is "$status" "$1" "$3"
	like "$(cat "$SM_RUN/stderr")" "$2" "$3: says why"
}

# models

is "$("$POLLER" models | wc -l)" 32 'models lists the catalogue'
like "$("$POLLER" models)" '^DDS238-2 ZN/SR +Hiking +modbus +1 phase +7 points, switches' 'with what they are'
like "$("$POLLER" models 'em24')" 'Low word first' 'and what to know of one'
"$POLLER" models --text >"$SM_RUN/all.txt"
is "$("$POLLER" models --models "$SM_RUN/all.txt" | grep -c 'own$')" 32 'its own text is a file of models'

# read

is "$(tool read --address "$tcp" --unit 1 --model "$dds" | flat)" \
	'energy_wh 123450 Wh v_a 229.3 V i_a 5.660 A power_w 1234.0 W power_factor 0.950 frequency_hz 50.01 Hz relay closed' 'a meter behind Modbus TCP'
is "$(tool read --address "$rtu" --wire rtu --unit 1 --model "$dds" | flat)" \
	'energy_wh 123450 Wh v_a 229.3 V i_a 5.660 A power_w 1234.0 W power_factor 0.950 frequency_hz 50.01 Hz relay closed' 'the same behind RTU over TCP'
like "$(tool read --address "$line" --unit 5 --model DDM18SD | flat)" '^energy_wh 90250 Wh .*v_a 221.5 V' 'a meter on a serial line'
like "$(tool read --address "$dlt" --unit 12 --model "$relay" | flat)" '^energy_wh 55500 Wh v_a 221.0 V i_a 3.334 A power_w 700.0 W .*relay closed$' 'a meter of DL/T 645-2007'
like "$(tool read --address "$dlt" --unit 112 --model 'DLT645-2007 three-phase relay' | flat)" \
	'^energy_wh 66500 Wh .*v_a 222.0 V v_b 222.0 V v_c 222.0 V .*power_w 2500.0 W' 'one of three phases, whose blocks come in pieces'
is "$(tool read --address "$dlt" --unit 34 --model 'dlt645-1997 single-phase' | flat)" 'energy_wh 77500 Wh v_a 223.0 V i_a 0.470 A power_w 100.0 W power_factor 0.950' 'a meter of 1997'
is "$(tool read --address "$tcp" --unit 1 --register 10 --count 2 | awk '{ print $4 }' | flat)" '0 12345' 'registers as they are'
is "$(tool read --address "$tcp" --unit 1 --register 10 --count 2)" "$(tool read --address "$tcp" --unit 1 --register 10 --count 2 --libmodbus)" 'libmodbus sees the same'
is "$(tool read --address "$line" --unit 5 --function 4 --register 0 --count 2)" "$(tool read --address "$line" --unit 5 --function 4 --register 0 --count 2 --libmodbus)" 'on the serial line too'
is "$(tool read --address "$dlt" --wire dlt645 --unit 112 --di 0201FF00)" '0201FF00  222.0 222.0 222.0 V  (20 22 20 22 20 22)' 'a data item'
is "$(tool read --address "$dlt" --wire dlt645 --unit 34 --di 9010)" '9010  77.50 kWh  (50 77 00 00)' 'one of 1997'
is "$(tool read --address "$one" --wire dlt645 --unit AAAAAAAAAAAA --di 00010000)" '00010000  7.50 kWh  (50 07 00 00)' 'the only meter of a line needs no address'
like "$(tool read --address "$rtu" --wire rtu --unit 1 --register 12 --frames)" '^[0-9:.]+ > 01 03 00 0C 00 01 44 09' 'frames are shown'
like "$(tool read --address "$rtu" --wire rtu --unit 1 --register 12 --frames)" '"direction": "response", "address": 1, "function": 3, "value": \[2293\]' 'and explained'
refused 1 'exception 02' 'a register that is not there' read --address "$tcp" --unit 1 --register 60000
refused 1 'no answer' 'a meter that is not there' read --address "$rtu" --wire rtu --unit 9 --register 0 --timeout-ms 100
refused 1 'no such data' 'an item that is not there' read --address "$dlt" --unit 12 --wire dlt645 --di 0BADF00D
refused 1 '^submeter-poller: 127.0.0.1:1: ' 'a gateway that is not there' read --address 127.0.0.1:1 --unit 1 --register 0
refused 1 'bus|line|device|No such' 'a line that is not there' read --address /dev/ttyNOTHING:9600:8N1 --unit 1 --register 0
refused 2 'no model "nothing"' 'a model that is not there' read --address "$tcp" --unit 1 --model nothing
refused 2 'unit is not 0 to 255' 'a unit that is none' read --address "$tcp" --unit 300 --model "$dds"
refused 2 'address of up to 12 digits' 'an address that is none' read --address "$dlt" --unit 12x --model "$relay"
refused 1 'does not speak on this wire' 'a model on another wire' read --address "$tcp" --wire modbus-tcp --unit 12 --model "$relay"
refused 2 'one of --model, --register and --di' 'nothing to read' read --address "$tcp" --unit 1
refused 2 'read does not know --from' 'an option of another command' read --address "$tcp" --unit 1 --register 1 --from 3
refused 2 'needs --address' 'nowhere' scan
refused 2 'beyond 65535' 'registers beyond the last' read --address "$tcp" --unit 1 --register 65535 --count 2

# faults of a wire without numbers

setup 'a fault' farm fault rtu 1 late count 1
like "$(tool read --address "$rtu" --wire rtu --unit 1 --model "$dds" --timeout-ms 200 | flat)" 'v_a 229.3 V i_a 5.660 A' 'an answer that is late is asked for again'
setup 'a fault' farm fault rtu 1 tail 5 count 1
like "$(tool read --address "$rtu" --wire rtu --unit 1 --register 12)" '2293' 'an answer behind the tail of another is found'
setup 'a fault' farm fault rtu 1 other count 1
like "$(tool read --address "$rtu" --wire rtu --unit 1 --register 12)" '2293' 'the answer of another unit is not taken'
setup 'a fault' farm fault rtu 1 bad-checksum count 1
refused 1 'no answer' 'a wrong checksum is no answer' read --address "$rtu" --wire rtu --unit 1 --register 12 --timeout-ms 200
setup 'a fault' farm fault dlt 000000000012 echo count 1
like "$(tool read --address "$dlt" --wire dlt645 --unit 12 --di 02010100)" '221.0 V' 'an echo is no answer'
setup 'a fault' farm fault dlt 000000000012 bcd count 1
like "$(tool read --address "$dlt" --wire dlt645 --unit 12 --di 00010000; cat "$SM_RUN/stderr")" '00010000: ' 'digits that are none are told'
farm clear all >/dev/null

# a device that dials in

like "$(tool read --address "127.0.0.1:$door" --dial-in --wire rtu --unit 9 --model "$dds" | flat)" '^energy_wh 123450 Wh v_a 229.3 V .*relay closed$' 'a meter whose module dials in'
like "$(cat "$SM_RUN/stderr")" 'waiting at 127.0.0.1:[0-9]+ .*dialled in and says .x445455303031(4842)* \(DTU001(HB)*\)' 'and what the module says of itself'
like "$(tool scan --address "127.0.0.1:$door" --dial-in --wire rtu --from 8 --to 10 --timeout-ms 300 | flat)" '^unit 9 DDS238-2 ZN/SR ' 'it is scanned'
like "$(person 'to open: =9' switch open --address "127.0.0.1:$door" --dial-in --wire rtu --unit 9 --model "$dds")" 'the relay register says open' 'and switched'
is "$(writes kiosk 9)" 1 'by one write'
refused 1 'such as 0.0.0.0' 'where nobody can dial in' read --address "meter.example:$door" --dial-in --wire rtu --unit 9 --register 1
refused 2 'watch does not know --dial-in' 'watching it' watch --address "127.0.0.1:$door" --dial-in

# check-model

like "$(tool check-model --address "$tcp" --unit 1 --model "$dds")" '7 good, 0 refused or silent, 0 odd' 'the right model is good'
like "$(tool check-model --address "$tcp" --unit 1 --model "$dds")" 'Compare with the display: 123.450 kWh' 'the rest is for the eye'
cat >"$SM_RUN/own.txt" <<'END'
# Deliberately wrong.
model ours
vendor us
source nobody
read modbus phases=1 max=30 gap=10
point energy_wh    3:10 u32sw 10
point v_a          3:12 u16   1
point i_a          3:13 u16   0.01
point power_w      4:14 i16   1
point frequency_hz 3:18 u16   0.01   # one too far
point relay        3:26 u16   1 closed=2 open=3
END
wrong=$(tool check-model --address "$tcp" --unit 1 --models "$SM_RUN/own.txt" --model ours)
like "$wrong" 'v_a +3:12 +odd +2293.0 V: not between 80 and 300 V'$'\n'' +try a tenth the scale' 'a wrong scale is found, and the right one'
like "$wrong" 'power_w +4:14 +refused: exception 0[12][a-z :]*'$'\n'' +try function 3' 'a wrong function'
like "$wrong" 'frequency_hz +3:18 .*try register 17' 'a register too far'
like "$wrong" 'relay +3:26 +odd +-: 1 is neither the value of open nor of closed' 'a relay that means something else'
is "$(tool check-model --address "$tcp" --unit 1 --models "$SM_RUN/own.txt" --model ours >/dev/null; echo $?)" 1 'and the status says that it is not good'
like "$(tool check-model --address "$tcp" --unit 17 --model EM340)" 'frequency_hz +4:51 +odd' 'a sister of the model is told from it'
is "$(tool check-model --address "$dlt" --unit 12 --model "$relay" | grep -c ' good ')" 7 'a model of DL/T 645'
refused 1 'nobody answers' 'a meter that is not there' check-model --address "$rtu" --wire rtu --unit 99 --model "$dds" --timeout-ms 100
sed -i 's/3:18/3:99999/' "$SM_RUN/own.txt"
refused 2 'own.txt: line 10: the place is not function:register' 'a model that cannot be read' check-model --address "$tcp" --unit 1 --models "$SM_RUN/own.txt"
refused 2 'cannot be opened' 'no such file' read --address "$tcp" --unit 1 --models "$SM_RUN/nothing.txt" --model ours

# scan

found=$(tool scan --address "$tcp" --to 31 --timeout-ms 3000)
is "$(grep '^unit' <<<"$found" | flat)" 'unit 1 unit 2 unit 7 unit 17 unit 30' 'everybody on the bus is found'
is "$(grep -A1 '^unit 1$' <<<"$found" | tail -1 | flat)" " $dds 12 of 12: 123450 Wh 229.3 V 50.01 Hz 1234.0 W closed" 'and what they are'
like "$(grep -A1 '^unit 17$' <<<"$found")" 'EM24 ' 'the word order tells two sisters apart'
like "$(grep -A1 '^unit 7$' <<<"$found")" 'LX47LE-125 ' 'a breaker'
is "$(tool scan --address "$rtu" --wire rtu --to 4 --timeout-ms 500 | grep '^unit' | flat)" 'unit 1 unit 3' 'behind RTU, where absent ones are silent'
found=$(tool scan --address "$dlt" --wire dlt645 --timeout-ms 120 --thorough)
is "$(grep '^meter' <<<"$found" | sort | flat)" 'meter 000000000012 DL/T 645-2007 meter 000000000034 DL/T 645-1997 meter 000000000112 DL/T 645-2007' 'meters of DL/T 645, pair by pair'
like "$(grep -A1 'meter 000000000112' <<<"$found")" 'three-phase relay' 'and what they are'
is "$(tool scan --address "$one" --wire dlt645 --timeout-ms 500 | grep '^meter' | flat)" 'meter 000000000077 DL/T 645-2007' 'one alone is found at once'
is "$(for port in tcp rtu line; do farm log $port writes; done | sort -u)" 0 'and nothing of all this wrote anything'
is "$(farm log dlt writes) $(farm log one writes)" '0 0' 'nor to meters of DL/T 645'

# switch

refused 2 'by a person at a terminal' 'no terminal, no switching' switch open --address "$tcp" --unit 1 --model "$dds"
refused 2 'wants open, close' 'another word' switch clear --address "$tcp" --unit 1 --model "$dds"
like "$(person 'to open: =2' switch open --address "$tcp" --unit 1 --model "$dds")" 'not confirmed: nothing was written' 'the wrong unit is typed'
is "$(writes tcp 1)" 0 'nothing was written'
out=$(person 'to open: =1' switch open --address "$tcp" --unit 1 --model "$dds")
is "$?" 0 'the right one opens it'
like "$out" 'before +relay closed.*evidence: the relay register says open' 'with evidence'
is "$(writes tcp 1) $(farm get tcp 1 relay)" '1 open' 'by one write'
like "$(person '' switch open --address "$tcp" --unit 1 --model "$dds")" 'It is open already: nothing was written' 'again, it is open already'
is "$(writes tcp 1)" 1 'without a write'
setup 'a fault' farm fault tcp 1 relay-ignore count 1
out=$(person 'to close: =1' switch close --address "$tcp" --unit 1 --model "$dds")
is "$?" 1 'a breaker that does not move'
like "$out" 'evidence: the relay register says open' 'is told by reading it'
is "$(writes tcp 1)" 2 'and not written again'
farm clear all >/dev/null
setup 'a fault' farm fault tcp 1 reply-lost count 1
like "$(person 'to close: =1' switch close --address "$tcp" --unit 1 --model "$dds" --timeout-ms 300)" 'No answer to the instruction.*says closed' 'an answer that is lost: read, not written again'
is "$(writes tcp 1) $(farm get tcp 1 relay)" '3 closed' 'one write'
like "$(person 'to open: =30' switch open --address "$tcp" --unit 30 --model DTSY1352)" 'evidence: none but the acknowledgement' 'a model without a relay register says so'
like "$(person '' switch open --address "$tcp" --unit 2 --model SDM630)" 'no instruction to open' 'one without breaker'

setup 'a breaker is locked on the spot' farm set tcp 7 locked=yes
setup 'and open' farm set tcp 7 relay=open
like "$(person '' switch close --address "$tcp" --unit 7 --model LX47LE-125)" 'locked on the spot: nothing was written' 'a breaker that is locked is not closed'
is "$(writes tcp 7)" 0 'nor written to'

out=$(person 'to open: =12|digits: =135790' switch open --address "$dlt" --unit 12 --model "$relay")
is "$?" 0 'a meter of DL/T 645 opens with its password'
like "$out" 'evidence: the relay register says open' 'with evidence'
unlike "$out" 135790 'the password is not shown'
is "$(farm log dlt writes) $(farm get dlt 000000000012 relay)" '1 open' 'one write'
printf '135790\n' >"$SM_RUN/password"
chmod 644 "$SM_RUN/password"
like "$(person 'to close: =12' switch close --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")" 'others can read this file' 'a password that others can read is not taken'
chmod 600 "$SM_RUN/password"
out=$(person 'to permit-close: =12' switch permit-close --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")
like "$out" 'press the key' 'closing is permitted'
is "$(farm get dlt 000000000012 relay) $(farm get dlt 000000000012 wants_key)" 'open yes' 'and waits for the key'
setup 'press the key' farm key dlt 000000000012
is "$(farm get dlt 000000000012 relay)" closed 'which closes it'
out=$(person 'to keep: =12' switch keep --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")
is "$?" 0 'a meter is told to keep its power on'
like "$out" 'keep-power off.*evidence: keep-power reads on' 'and its bit is read back'
is "$(farm get dlt 000000000012 keep)" yes 'the meter has it'
like "$(person '' switch keep --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")" 'kept on already: nothing was written' 'once'
like "$(person 'to release: =12' switch release --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")" \
	'keep-power on.*evidence: keep-power reads off' 'and released'
is "$(farm get dlt 000000000012 keep)" no 'the meter has heard it'
setup 'a meter whose clock is off' farm set dlt 000000000012 clock_offset_s=86400
like "$(person 'to open: =12' switch open --address "$dlt" --unit 12 --model "$relay" --password-file "$SM_RUN/password")" "clock is 86[0-9]+ s off.*says open" 'the instruction goes by the clock of the meter'
out=$(person 'to close: =12|digits: =000000' switch close --address "$dlt" --unit 12 --model "$relay")
is "$?" 1 'a wrong password'
like "$out" 'third refusal locks the meter' 'is a warning'
is "$(farm get dlt 000000000012 wrong_passwords)" 1 'and not tried again'

# watch

like "$(tool watch --address "$tcp" --unit 1 --model "$dds" --count 2 | grep -c ' > ')" '^[2-9]' 'watch asks again and again and shows the frames'
"$POLLER" watch --address "$tcp" --listen 127.0.0.1:0 >/dev/null 2>"$SM_RUN/stderr"
like "$(cat "$SM_RUN/stderr")" 'not host:port' 'a port to listen on is a number'
free=$(port_free)
"$POLLER" watch --address "$rtu" --wire rtu --listen "127.0.0.1:$free" >"$SM_RUN/watched" 2>&1 &
watcher=$!
wait_for 5 'the ear listens' grep -q watching "$SM_RUN/watched"
like "$(tool read --address "127.0.0.1:$free" --wire rtu --unit 1 --register 12)" 2293 'what stands between hands everything on'
wait_for 5 'and shows it' grep -q '"value": \[2293\]' "$SM_RUN/watched"
like "$(cat "$SM_RUN/watched")" '> 01 03 00 0C 00 01 44 09.*< 01 03 02 08 F5' 'both ways, in order'
kill -TERM $watcher
wait $watcher
is "$?" 0 'and ends when told'
# Beside another master on a serial line: a pair of pseudo terminals, and somebody else who asks and answers.
socat -d -d "pty,raw,echo=0,link=$SM_RUN/here" "pty,raw,echo=0,link=$SM_RUN/there" 2>"$SM_RUN/socat" &
pair=$!
is_pair() { [ -e "$SM_RUN/here" ] && [ -e "$SM_RUN/there" ]; }
wait_for 5 'a pair of lines' is_pair
"$POLLER" watch --address "$SM_RUN/here:9600:8N1" --wire rtu >"$SM_RUN/heard" 2>&1 &
watcher=$!
wait_for 5 'the ear is on the line' grep -q watching "$SM_RUN/heard"
printf '\x01\x03\x00\x0c\x00\x01\x44\x09\x01\x03\x02\x08\xf5\x7f\xc3' >"$SM_RUN/there"
wait_for 5 'question and answer are heard' grep -q '"value": \[2293\]' "$SM_RUN/heard"
like "$(cat "$SM_RUN/heard")" '> 01 03 00 0C 00 01 44 09.*"direction": "request".*< 01 03 02 08 F5 7F C3' 'and told from one another'
kill -TERM $watcher
wait $watcher
is "$?" 0 'the ear leaves'
"$POLLER" watch --address "$SM_RUN/here:2400:8E1" --wire dlt645 >"$SM_RUN/heard_dlt" 2>&1 &
watcher=$!
wait_for 5 'on a line of DL/T 645' grep -q watching "$SM_RUN/heard_dlt"
printf '\xfe\xfe\xfe\xfe\x68\xaa\xaa\xaa\xaa\xaa\xaa\x68\x11\x04\x33\x33\x34\x33\xae\x16' >"$SM_RUN/there"
wait_for 5 'a question is heard' grep -q '"di": "00010000"' "$SM_RUN/heard_dlt"
kill -TERM $watcher
wait $watcher
kill $pair

refused 2 'wants --listen' 'nothing to watch' watch --address "$tcp"
refused 2 'not both' 'too much to watch' watch --address "$tcp" --listen 127.0.0.1:1 --unit 1 --model "$dds"

# A foreign peer: pymodbus with its RTU framer is what poller_rtu.t plays; here its plain server.
coproc PEER { exec /usr/bin/python3 "$here/../sim/pymodbus_server.py" 9:3:0=0,0,0,0,0,0,0,0,0,0,0,4567,2301,120,276; }
read -r _ peer <&"${PEER[0]}"
is "$(tool read --address "127.0.0.1:$peer" --unit 9 --register 11 --count 2 | awk '{ print $4 }' | flat)" '4567 2301' 'pymodbus is read'
like "$(tool check-model --address "127.0.0.1:$peer" --unit 9 --model 'DDS238-2 ZN/S')" 'v_a +3:12 +good +230.1 V' 'and tried'
echo quit >&"${PEER[1]}"
farm_stop
done_testing
