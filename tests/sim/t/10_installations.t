#!/bin/bash
# The three installations start and answer; so does the example.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

# open_installation NAME: starts it with free ports, calling a number where nobody listens
open_installation()
{
	farm_start "$work" < <(
		sed -E "s|\.\./\.\./data|$here/../../data|; s/dial 127\.0\.0\.1:[0-9]+/dial 127.0.0.1:1/; s/^(port [a-z]+) 15[0-9]+/\1 0/" \
			"$here/../installations/$1.conf"
	)
}
counts()
{
	farm list | cut -d' ' -f1,2
}
setup 'scattered meters' open_installation scattered
is "$(counts)" 'ports=14 meters=14' 'fourteen modules with a meter each'
is "$(farm get shop7 210100000007 model)" DDSY-645 'numbered like their modules'
ok 'ends well' farm_stop
setup 'a small concentrator' open_installation small_concentrator
is "$(counts)" 'ports=1 meters=32' '32 meters on one line'
began=${EPOCHREALTIME/[.,]/}
like "$(dlt "$(farm_port hall)" 220100000032/0201FF00)" '^220100000032 91 0201FF00 [0-9]{12}$' 'the last one answers'
ok 'in the time of a line of 2400 baud' test $((${EPOCHREALTIME/[.,]/} - began)) -ge $((38 * 11 * 1000000 / 2400 + 40000))
ok 'ends well' farm_stop
setup 'a large installation' open_installation large
is "$(counts)" 'ports=6 meters=368' '368 meters behind two concentrators and four lines'
is "$(farm get tower2 230200000120 model)" DDSY-645 'the last meter of the second concentrator'
is "$(raw "$(farm_port hall4)" "$(crc 200400000001)" 7 2 | cut -c1-6)" 200402 'the last one of the fourth line answers'
ok 'ends well' farm_stop
done_testing
