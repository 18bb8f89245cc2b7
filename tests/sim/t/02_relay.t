#!/bin/bash
# Relays: the commands of each kind of meter, and what an open relay does to the register.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'start the farm' farm_start "$work" <<'CONF'
speed 0
port bus 0
meter 1 DDS238 watts=2300 start_wh=1000000 voltage_v=230
meter 2 DTSY1352 watts=1000 start_wh=1000000
meter 3 LX47LE-125 watts=800 voltage_v=230
meter 4 SDM120 watts=100
meter 5 Sfere watts=1000
CONF
port=$(farm_port bus)

# write16 UNIT ADDRESS WORD (4 hexadecimal digits each): one register by function 16
write16()
{
	raw "$port" "000100000009$1""10$2""000102$3" "${4:-12}" 2
}

is "$(write_words "$port" 1 26 0)" 'failed: Illegal function' 'DDS238 does not understand function 6'
is "$(farm get bus 1 relay)" closed 'and stays closed'
is "$(write16 01 001a 0000)" 0001000000060110001a0001 'DDS238 acknowledges an opening by function 16'
is "$(values "$port" 1 4 26)" 0 'and reads back as open'
is "$(values "$port" 1 4 12 3 | tr '\n' ' ')" '2300 0 0 ' 'no current, no power, voltage still there'
farm advance 7200 >"$work/out"
is "$(values "$port" 1 4:int 0)" 100000 'the register stands still'
is "$(write16 01 001a 0007 9)" 000100000003019003 'a value that is neither on nor off: exception 3'
write16 01 001a 0001 >"$work/out"
farm advance 3600 >"$work/out"
is "$(values "$port" 1 4:int 0)" 100230 'closed again it counts on, the dark time left out'
is "$(farm get bus 1 switchings)" 2 'it switched twice'

is "$(write_words "$port" 2 0x57 1 1)" written 'DTSY1352: forced open, two words'
is "$(farm get bus 2 relay)" open 'it is open'
is "$(complaint "$port" 2 4 0x57)" 'Illegal data address' 'and has no register that says so'
is "$(write_words "$port" 2 0x57 1 0)" written 'DTSY1352: forced closed'
is "$(farm get bus 2 relay)" closed 'it is closed'
is "$(write_words "$port" 2 0x57 0 1)" 'failed: Illegal data value' 'another mode is refused'

is "$(write_words "$port" 3 13 0)" written 'LX47LE-125: open by function 6'
is "$(values "$port" 3 3:hex 0)" 0x000F 'it says open'
farm set bus 3 locked=yes
is "$(values "$port" 3 3:hex 0)" 0x010F 'and locked'
is "$(write_words "$port" 3 13 65280)" written 'a close command is acknowledged'
is "$(values "$port" 3 3:hex 0)" 0x010F 'but a locked breaker stays open'
farm set bus 3 locked=no
write_words "$port" 3 13 65280 >"$work/out"
is "$(values "$port" 3 3:hex 0)" 0x00F0 'unlocked it closes'
is "$(values "$port" 3 4:hex 13)" 0xFF00 'and the command register shows it'

is "$(complaint "$port" 4 3 0x1A)" '' 'SDM120 has nothing at the relay address but zeros'
is "$(write_words "$port" 4 26 0)" 'failed: Illegal function' 'and takes no writes'
write16 05 0b25 0002 >"$work/out"
is "$(farm get bus 5 relay)" open 'Sfere: 2 opens'
write16 05 0b25 0001 >"$work/out"
is "$(farm get bus 5 relay)" closed 'and 1 closes'

farm fault bus 1 relay-ignore count 1
is "$(write16 01 001a 0000)" 0001000000060110001a0001 'a relay that ignores the command acknowledges it'
is "$(values "$port" 1 4 26)" 1 'but does not move'
write16 01 001a 0000 >"$work/out"
is "$(values "$port" 1 4 26)" 0 'the second command is obeyed'
farm fault bus 1 relay-slow 150 count 1
write16 01 001a 0001 >"$work/out"
is "$(values "$port" 1 4 26)" 0 'a slow relay is still open'
closed()
{
	[ "$(values "$port" 1 4 26)" = 1 ]
}
wait_for 5 'and closes later' closed
farm fault bus 1 reply-lost count 1
is "$(raw "$port" 0001000000090110001a0001020000 1 0.2)" '' 'a reply can get lost'
is "$(farm get bus 1 relay)" open 'with the command obeyed'
like "$(farm log bus)" 'write=[0-9]+:1:16:0x001A:0:ok$' 'the log tells the last write'
farm set bus 1 relay=closed
is "$(values "$port" 1 4 26)" 1 'a person can move it by hand'
is "$(write_words "$port" 1 0 0 0)" written 'DDS238: zeros to the total'
is "$(values "$port" 1 4:int 0) $(values "$port" 1 4:int 10)" '0 0' 'clear the registers'
ok 'the farm ends well' farm_stop
done_testing
