#!/bin/bash
# RTU over TCP and on a serial line: frames with CRC, silence of the absent, faults of the line.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'start the farm' farm_start "$work" <<CONF
speed 0
port bus 0 wire=rtu
meter 1 DDS238 watts=1000 start_wh=100000 voltage_v=230
meter 17 LX47LE-125 watts=800 voltage_v=230
port line pty link=$work/tty
meter 1 DDS238 watts=2300 start_wh=4567890 voltage_v=230 pf=1
port slow 0 wire=rtu baud=9600
meter 1 DDS238
CONF
port=$(farm_port bus)

is "$(crc 010300000002)" 010300000002c40b 'the CRC of the specification'"'"'s example'
ask=010300000002c40b
good=$(crc 01030400002710)
is "$(raw "$port" $ask 9 2)" "$good" 'an answer with its CRC'
is "$(raw "$port" 010300000002c40c 1 0.2)" '' 'a wrong CRC gets no answer'
is "$(farm log bus malformed)" 1 'and is counted'
is "$(raw "$port" "$(crc 090300000002)" 1 0.2)" '' 'an absent unit says nothing'
is "$(raw "$port" "$(crc 0110001a0001020000)" 8 2)" "$(crc 0110001a0001)" 'function 16'
is "$(farm get bus 1 relay)" open 'is obeyed'
is "$(raw "$port" "$(crc 1106000d0000)" 8 2)" "$(crc 1106000d0000)" 'function 6'
like "$(farm log bus)" 'write=[0-9]+:1:16:0x001A:0:ok write=[0-9]+:17:6:0x000D:0:ok$' 'both are in the log'
is "$(raw "$port" "$ask$ask" 18 2)" "$good$good" 'two at once'
raw_open "$port"
raw_send 0103
sleep 0.4
raw_send $ask
is "$(raw_read 9 2)" "$good" 'half a request is forgotten after a while'
raw_close

farm fault bus 1 wrong-unit count 1
is "$(raw "$port" $ask 9 2)" "$(crc 02030400002710)" 'another unit, with its own CRC'
farm fault bus 1 bad-checksum count 1
isnt "$(raw "$port" $ask 9 2)" "$good" 'a wrong CRC'
farm fault bus 1 echo count 1
is "$(raw "$port" $ask 17 2)" "$ask$good" 'the echo of the request'
farm fault bus 1 tail 4 count 1
is "$(raw "$port" $ask 9 2)" "$good" 'no tail without an answer before it'
farm fault bus 1 tail 4 count 1
raw_open "$port"
raw_send $ask
raw_read 9 2 >"$work/out"
farm fault bus 1 tail 4 count 1
raw_send $ask
is "$(raw_read 13 2)" "${good:10:8}$good" 'the tail of the answer before'
raw_close
farm fault bus 1 other count 1
is "$(raw "$port" $ask 18 2)" "$(crc 02030400002710)$good" 'another unit answers first'
farm fault bus 1 repeat 3 count 1
is "$(raw "$port" $ask 27 2)" "$good$good$good" 'the same answer three times'
farm fault bus 1 slow 20 count 1
raw_open "$port"
raw_send $ask
isnt "$(raw_read 9 0.08)" "$good" 'byte by byte takes its time'
raw_close
farm fault bus 1 late count 1
raw_open "$port"
raw_send $ask
is "$(raw_read 1 0.2)" '' 'a late answer'
raw_send $ask
is "$(raw_read 18 2)" "$good$good" 'comes with the next'
raw_close
farm clear all

farm fault bus half-open
raw_open "$port"
raw_send $ask
is "$(raw_read 1 0.3)" '' 'a half-open connection is accepted and never answers'
farm clear bus
is "$(raw_read 9 2)" "$good" 'until it is heard again'
raw_close

is "$(mbpoll -m rtu -b 9600 -P none -a 1 -t 4:int -B -0 -r 0 -c 1 -o 2 -1 -q "$work/tty" 2>&1 | awk '/^\[/ { print $2 }')" \
	456789 'mbpoll reads a meter on the serial line'
is "$(mbpoll -m rtu -b 9600 -P none -a 1 -t 4 -B -0 -r 12 -c 3 -o 2 -1 -q "$work/tty" 2>&1 | awk '/^\[/ { print $2 }' | tr '\n' ' ')" \
	'2300 1000 2300 ' 'again and again'
farm down line
ok 'a line can be unplugged' test ! -e "$work/tty"
farm up line
is "$(mbpoll -m rtu -b 9600 -P none -a 1 -t 4:int -B -0 -r 0 -c 1 -o 2 -1 -q "$work/tty" 2>&1 | awk '/^\[/ { print $2 }')" \
	456789 'and plugged in again'

slow=$(farm_port slow)
raw "$slow" $ask 9 2 >"$work/out"
is "$(farm log slow wire_us)" $((17 * 10 * 1000000 / 9600)) 'seventeen characters of 10 bits at 9600 baud'
raw "$slow" "$(crc 090300000002)" 1 0.1 >"$work/out"
is "$(farm log slow wire_us)" $((25 * 10 * 1000000 / 9600)) 'a question nobody answers takes its time as well'
ok 'the farm ends well' farm_stop
done_testing
