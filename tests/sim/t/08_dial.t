#!/bin/bash
# Gateways that dial in: registration, heartbeats, calling again, a connection left hanging, TLS.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

setup 'a peer that is called' peer plain
setup 'start the farm' farm_start "$work" <<CONF
speed 0
port one dial 127.0.0.1:$peer_port wire=rtu registration=DTU-7\r\n heartbeat=ping heartbeat_answer=pong every=0.2 retry=0.1
meter 1 DDS238 start_wh=100000
port many dial 127.0.0.1:$peer_port repeat=3 wire=dlt645 registration=hex:AA55 retry=0.1
meter 21000000%%%% DDSY-645 start_wh=260 watts=0 preamble=0
CONF

hex()
{
	printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'
}
dtu=$(hex DTU-7)0d0a
wait_for 10 'the gateway registers' said "got [0-9]+ $dtu.*"
number=$(awk -v what="$dtu" '$1 == "got" && index($3, what) == 1 { print $2; exit }' "$peer_out")
wait_for 10 'and sends heartbeats' said "got $number ($dtu)?($(hex ping))+"
peer_do send "$number" "$(hex pong)"
answered()
{
	[ "$(farm log one heartbeat_answers)" = 1 ]
}
wait_for 5 'whose answers it knows' answered
peer_do send "$number" 010300000002c40b
wait_for 5 'a question over the call is answered' said "got $number ($(hex ping))*$(crc 01030400002710)($(hex ping))*"
is "$(farm log one registrations)" 1 'it has registered once'
wait_for 5 'three copies called as well' said 'got [0-9]+ aa55'
ask=$(awk '$1 == "got" && $3 == "aa55" { print $2 }' "$peer_out")
is "$(wc -w <<<"$ask")" 3 'each with its registration'
for number in $ask; do
	peer_do send "$number" FEFEFEFE68AAAAAAAAAAAA68110433333433AE16
done
for copy in 1 2 3; do
	wait_for 5 "meter $copy answers over its own call" said "got [0-9]+ 680${copy}000000002168910833333433593333330*[0-9a-f]+"
done

calls=$(grep -c '^call' "$peer_out")
first=$(awk -v what="$dtu" '$1 == "got" && index($3, what) == 1 { print $2; exit }' "$peer_out")
peer_do close "$first"
again()
{
	[ "$(grep -c "^got [0-9]* $dtu" "$peer_out")" -ge "$1" ]
}
wait_for 5 'a gateway that was hung up on calls again' again 2
farm reconnect one hang
wait_for 5 'one that lost its memory calls again' again 3
is "$(farm log one connections)" 2 'and leaves the old call open'
last=$(awk -v what="$dtu" '$1 == "got" && index($3, what) == 1 { n = $2 } END { print n }' "$peer_out")
before=$((last - 1))
unlike "$(cat "$peer_out")" "gone $before" 'which nobody hangs up'
peer_do send "$last" 010300000002c40b
wait_for 5 'the new one answers' said "got $last .*$(crc 01030400002710).*"
farm down one
wait_for 5 'down: all are gone' said "gone $last"
is "$(farm log one connections)" 0 'the old one too'
calls=$(farm log one calls)
farm up one
wait_for 5 'up again' again 4
is $(($(farm log one calls) - calls)) 1 'with one call'
farm reconnect one
wait_for 5 'reconnect hangs up first' again 5
is "$(farm log one connections)" 1 'and has one connection'
peer_do quit
wait_for 5 'nobody takes the calls now' test "$(farm log one calls)" -gt 0
tries()
{
	[ "$(farm log one calls)" -gt $((calls + 4)) ]
}
wait_for 5 'it keeps trying' tries
ok 'the farm ends well' farm_stop

# A thousand in one process.
setup 'a peer for many' peer crowd
setup 'start a thousand' farm_start "$work" <<CONF
port crowd dial 127.0.0.1:$peer_port repeat=1000 wire=rtu registration=SN%%%%%%%%%%
meter 1 DDS238
CONF
all_there()
{
	[ "$(grep -Ec '^got [0-9]+ 534e(3[0-9]){10}$' "$peer_out")" = 1000 ]
}
wait_for 30 'a thousand gateways call and register' all_there
is "$(awk '$1 == "got" { print $3 }' "$peer_out" | sort -u | wc -l)" 1000 'each under a number of its own'
note "memory of the farm: $(awk '/^VmRSS/ { print $2, $3 }' "/proc/$FARM_PID/status")"
ok 'the farm ends well' farm_stop
peer_do quit

# TLS: a certificate authority of our own, one certificate for both sides.
certificate()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" \
		-addext 'subjectAltName=IP:127.0.0.1' -keyout "$work/$1.key" -out "$work/$1.pem" 2>"$work/openssl.err"
}
setup 'a certificate' certificate good
setup 'and another' certificate bad
setup 'a peer with TLS' peer tls --tls "$work/good.pem,$work/good.key,$work/good.pem"
setup 'start the farm' farm_start "$work" <<CONF
speed 0
port door 0 wire=rtu tls=good.pem,good.key
meter 1 DDS238 start_wh=100000
port strict 0 wire=rtu tls=good.pem,good.key,good.pem
meter 1 DDS238 start_wh=100000
port call dial 127.0.0.1:$peer_port wire=rtu tls=good.pem,good.key,good.pem registration=secret retry=0.2
meter 1 DDS238 start_wh=100000
port wary dial 127.0.0.1:$peer_port wire=rtu tls=good.pem,good.key,bad.pem registration=wary retry=0.5
meter 1 DDS238 start_wh=100000
CONF
# tls_ask PORT [option...]: the answer to a question over TLS
tls_ask()
{
	{
		printf '\x01\x03\x00\x00\x00\x02\xc4\x0b'
		sleep 1.5
	} | timeout 1.5 openssl s_client -quiet -connect "127.0.0.1:$1" "${@:2}" 2>"$work/tls.err" | od -An -v -tx1 | tr -d ' \n'
}
is "$(tls_ask "$(farm_port door)" -CAfile "$work/good.pem" -verify_return_error)" "$(crc 01030400002710)" 'a meter answers inside TLS'
is "$(raw "$(farm_port door)" 010300000002c40b 1 0.5)" 15 'outside there is only an alert'
is "$(tls_ask "$(farm_port strict)")" '' 'a gateway that wants a certificate gets none'
is "$(tls_ask "$(farm_port strict)" -cert "$work/good.pem" -key "$work/good.key")" "$(crc 01030400002710)" 'or the right one'
is "$(tls_ask "$(farm_port strict)" -cert "$work/bad.pem" -key "$work/bad.key")" '' 'or another'
wait_for 10 'a gateway dials with TLS' said "got [0-9]+ $(hex secret)"
number=$(awk -v what="$(hex secret)" '$1 == "got" && $3 == what { print $2; exit }' "$peer_out")
peer_do send "$number" 010300000002c40b
wait_for 5 'and answers' said "got $number $(crc 01030400002710)"
tried()
{
	[ "$(farm log wary calls)" -gt 1 ]
}
wait_for 5 'one that does not trust the peer hangs up' tried
unlike "$(cat "$peer_out")" "$(hex wary)" 'and says nothing'
peer_do quit
ok 'the farm ends well' farm_stop
done_testing
