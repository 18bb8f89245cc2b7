#!/bin/bash
# Concentrators of Q/GDW 376.1: login, heartbeat, frames passed on, the memory of days.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'a peer that is called' peer station
setup 'start the farm' farm_start "$work" <<CONF
speed 0
clock 2024-05-30T12:00:00
port box dial 127.0.0.1:$peer_port wire=q376 terminal=4401:258 every=0.4 retry=0.2
meter 161 DDSY-645 start_wh=260 watts=0 voltage_v=100.1 preamble=0
meter 162 DDSY-645 start_wh=100000 watts=1000
port quiet dial 127.0.0.1:$peer_port wire=q376 terminal=4401:259 every=60 absent=silence
meter 161 DDSY-645
CONF

# message CONTROL AFN SEQ UNIT+DATA [TERMINAL]: a frame to the concentrator (hex digits)
message()
{
	local user=$1"0144${5:-0201}00$2$3$4" sum=0 i length
	for ((i = 0; i < ${#user}; i += 2)); do
		sum=$((sum + 16#${user:i:2}))
	done
	length=$((${#user} / 2 * 4 + 2))
	length=$(printf '%02x%02x' $((length % 256)) $((length / 256)))
	printf '68%s%s68%s%02x16' "$length" "$length" "$user" $((sum % 256))
}
# The login as bytes: C9 = from the terminal, opening, link test; region 4401, terminal 258; AFN 02, F1.
login=$(message c9 02 71 00000100)
is "$login" 68320032006"8c901440201000271000001008516" 'what a login should be'
wait_for 10 'the concentrator logs in' said "got [0-9]+ $login.*"
box=$(awk -v what="$login" '$1 == "got" && index($3, what) == 1 { print $2; exit }' "$peer_out")
wait_for 10 'and again as long as nobody confirms' said "got $box ($login)?$(message c9 02 72 00000100)"
frame=FEFEFEFE68610100000000681104333334331416
forward=$(message 4b 10 65 "00000100026b6400$(printf '%02x' $((${#frame} / 2)))00${frame}00000000000000000000000000000000")
peer_do send "$box" "$forward"
latest()
{
	awk -v call="$box" '$1 == "got" && $2 == call { n = $3 } END { print n }' "$peer_out"
}
confirm()
{
	local sequence
	sequence=$(latest | sed 's/.*6832003200680*//' | cut -c15-16)
	peer_do send "$box" "$(message 0b 00 "6${sequence:1:1}" 00000100)"
}
heartbeat()
{
	[[ $(farm log box heartbeats) -gt 0 ]] && return
	confirm
	return 1
}
is "$(farm log box answers)" 0 'nothing is passed on before'
wait_for 10 'confirmed, it sends heartbeats' heartbeat
like "$(latest)" '6832003200''68c901440201000[27][0-9a-f]*' 'of the same form'

peer_do send "$box" "$forward"
reply=686101000000006891083333343359333333"8a16"
wait_for 5 'a frame is passed on, the answer comes back' \
	said "got $box (68320032[0-9a-f]{32})*$(message 88 10 65 "00000100021400$reply")(68320032[0-9a-f]{32})*"
absent=68630100000000681104333334331616
peer_do send "$box" "$(message 4b 10 66 "00000100026b0a001000$absent")"
wait_for 5 'a meter that does not answer: denied' said "got $box .*$(message 88 00 66 00000200).*"
farm fault box 161 wrong-unit count 1
peer_do send "$box" "$forward"
wait_for 5 'the answer of another meter' said "got $box .*6860010000000068910833333433.*"
before=$(farm log box malformed)
peer_do send "$box" "$(message 4b 10 67 00000100026b640000 0301)"
ignored()
{
	[ "$(farm log box malformed)" -gt "$before" ]
}
wait_for 5 'a frame for another terminal is ignored' ignored
peer_do send "$box" "$(message 4b 0c 68 00000100)"
wait_for 5 'what it does not know it denies' said "got $box .*$(message 88 00 68 00000200).*"

# F161 of points 1 and 2, the 30th of May: the registers at the midnight after it, as DD MM YY.
farm advance $((20 * 3600)) >"$work/out"
peer_do send "$box" "$(message 4b 0d 69 "01010114300524""02010114300524")"
zero=0000000000
wait_for 5 'the day'"'"'s registers' said "got $box .*$(message 88 0d 69 \
	"010101143005240000310524040026000000$zero${zero}0026000000$zero""020101143005240000310524040000120100$zero${zero}0000120100$zero").*"
peer_do send "$box" "$(message 4b 0d 6a 01010114290524)"
wait_for 5 'a day it does not know' said "got $box .*$(message 88 00 6a 00000200).*"

farm fault box 161 drop count 1
peer_do send "$box" "$forward"
wait_for 5 'a call that is dropped' said "gone $box"
wait_for 5 'begins with a login again' said "got [0-9]+ .*$login.*"
peer_do quit
ok 'the farm ends well' farm_stop
done_testing
