#!/bin/bash
# Faults on demand, looked at byte by byte.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'start the farm' farm_start "$work" <<'CONF'
speed 0
port bus 0
meter 1 DDS238 watts=1000 start_wh=100000 voltage_v=230
meter 2 SDM120 watts=1000 start_wh=5000
port lone 0 connections=1
meter 1 DDS238
port quiet 0 absent=silence
meter 1 DDS238
port line 0 baud=9600 latency_ms=50
meter 1 DDS238
CONF
port=$(farm_port bus)
ask=000100000006010300000002
good=00010000000701030400002710

is "$(raw "$port" $ask 13 2)" $good 'an answer without a fault'

farm fault bus 1 silence count 1
is "$(raw "$port" $ask 1 0.2)" '' 'silence'
is "$(raw "$port" $ask 13 2)" $good 'for one request'
farm fault bus 1 silence
is "$(raw "$port" $ask 1 0.2)$(raw "$port" $ask 1 0.2)" '' 'silence until cleared'
is "$(values "$port" 2 3:float 72)" 5 'the unit beside it answers'
is "$(farm get bus 1 requests)" 5 'unanswered requests are counted'
farm clear bus 1 silence
is "$(raw "$port" $ask 13 2)" $good 'cleared'

farm fault bus 1 drop count 1
began=$EPOCHSECONDS
is "$(raw "$port" $ask 1 10)" '' 'drop: no answer'
ok 'and the connection ends at once' test $((EPOCHSECONDS - began)) -lt 8
is "$(raw "$port" $ask 13 2)" $good 'a new connection works'

farm fault bus 1 exception 6 count 1
is "$(raw "$port" $ask 9 2)" 000100000003018306 'an exception of choice'
farm fault bus wrong-unit count 1
is "$(raw "$port" $ask 13 2)" 00010000000702030400002710 'wrong unit'
farm fault bus wrong-transaction count 1
is "$(raw "$port" $ask 13 2)" 00020000000701030400002710 'wrong transaction'
farm fault bus wrong-function count 1
is "$(raw "$port" $ask 13 2)" 00010000000701040400002710 'wrong function'
farm fault bus wrong-count count 1
is "$(raw "$port" $ask 13 2)" 00010000000701030600002710 'wrong byte count'
farm fault bus short count 1
is "$(raw "$port" $ask 11 2)" 0001000000050103020000 'a register too few'
farm fault bus half count 1
raw_open "$port"
raw_send $ask
is "$(raw_read 6 2)" 000100000007 'half a frame'
is "$(raw_read 1 0.2)" '' 'and no more'
raw_close
farm fault bus duplicate count 1
is "$(raw "$port" $ask 26 2)" $good$good 'the answer twice'
farm fault bus garbage 8 count 1
garbage=$(raw "$port" $ask 8 2)
is ${#garbage} 16 'garbage of the length asked for'
isnt "$garbage" ${good:0:16} 'and not the answer'
farm fault bus split 100 count 1
is "$(raw "$port" $ask 13 5)" $good 'an answer in two pieces is whole in the end'
farm fault bus delay 300 count 1
raw_open "$port"
raw_send $ask
is "$(raw_read 1 0.1)" '' 'a delayed answer is not there at once'
is "$(raw_read 13 5)" $good 'but later'
raw_close

farm fault bus 1 late count 1
raw_open "$port"
raw_send $ask
is "$(raw_read 1 0.2)" '' 'a late answer does not come in time'
raw_send 000200000006010300000002
is "$(raw_read 26 5)" $good"0002${good:4}" 'but during the next request, before its own answer'
raw_close

farm fault bus sentinel count 1
is "$(raw "$port" $ask 13 2)" 000100000007010304ffffffff 'sentinels'
farm fault bus 2 nan count 1
is "$(values "$port" 2 3:float 72)" nan 'not a number'
is "$(values "$port" 2 3:float 72)" 5 'once'

farm fault bus 1 stuck
farm advance 3600 >"$work/out"
is "$(raw "$port" $ask 13 2)" $good 'a stuck register'
is "$(values "$port" 1 4 14)" 1000 'under load'
farm clear bus 1
farm advance 3600 >"$work/out"
is "$(farm get bus 1 register_wh)" 101000 'counts on from there'
farm fault bus 1 rollover 101500
farm advance 3600 >"$work/out"
is "$(farm get bus 1 register_wh)" 500 'roll-over'
farm fault bus 1 reset
is "$(farm get bus 1 register_wh)" 0 'reset'
farm clear all

farm down bus
like "$(raw_open "$port" 2>&1)" 'refused' 'a port that is down refuses'
farm up bus
is "$(raw "$port" $ask 13 2)" 00010000000701030400000000 'and serves again at the same number'

lone=$(farm_port lone)
raw_open "$lone"
raw_send $ask
is "$(raw_read 9 2)" 000100000007010304 'the one connection a small gateway takes'
is "$(complaint "$lone" 1 4 0 1 0.5 | head -c 10)" Connection 'a second one is closed'
raw_close
is "$(raw "$(farm_port quiet)" 000100000006090300000002 1 0.2)" '' 'an absent unit behind a silent line'

raw_open "$(farm_port line)"
raw_send $ask
raw_send 000200000006010300000002
is "$(raw_read 26 5 | cut -c1-4,27-30)" 00010002 'a line answers one after the other'
raw_close
is "$(farm log line overlaps)" 1 'and tells that it was asked before it had answered'

is "$(farm fault bus 1 nonsense 2>&1)" 'farmctl: error no such fault as "nonsense"' 'a fault nobody knows'
is "$(farm fault bus delay 2>&1)" 'farmctl: error delay needs an argument' 'an argument left out'
is "$(farm fault bus stuck count 3 2>&1)" 'farmctl: error cannot read "count"' 'a state has no count'
is "$(farm get bus 7 2>&1)" 'farmctl: error no such unit as "7"' 'an absent unit'
is "$(farm get nowhere 7 2>&1)" 'farmctl: error no such port as "nowhere"' 'an absent port'
is "$(farm set bus 1 load_w=lots 2>&1)" 'farmctl: error cannot set load_w=lots' 'a value that is none'
ok 'the farm ends well' farm_stop
done_testing
