#!/bin/bash
# Links in TLS, with OpenSSL's own programs and Python on the other side: certificates are believed only from
# our authority, in time and for the right name, when we dial and when devices dial in.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

farm_start "$SM_RUN" <<'END'
port a 0
meter 1 DDS238-2 watts=1000 start_kwh=100
END
tls=$SM_RUN/tls
mkdir "$tls"
# authority NAME; certificate NAME AUTHORITY SUBJECT-ALTERNATIVE-NAME [option...]
authority()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
		-keyout "$tls/$1.key" -out "$tls/$1.pem" 2>/dev/null
}
certificate()
{
	local name=$1 by=$2 san=$3
	shift 3
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$tls/$name.key" -out "$tls/$name.csr" 2>/dev/null &&
		openssl x509 -req -in "$tls/$name.csr" -CA "$tls/$by.pem" -CAkey "$tls/$by.key" -CAcreateserial -out "$tls/$name.pem" \
			-extfile <(echo "subjectAltName=$san") "$@" 2>/dev/null &&
		cat "$tls/$name.pem" "$tls/$name.key" >"$tls/$name.both"
}
certificates()
{
	authority ca && authority other && certificate good ca IP:127.0.0.1 -days 2 && certificate wrong ca DNS:elsewhere.example -days 2 &&
		certificate old ca IP:127.0.0.1 -days -1 && certificate foreign other IP:127.0.0.1 -days 2 &&
		certificate poller ca DNS:poller.example -days 2 && certificate device ca DNS:device.example -days 2
}
setup 'make certificates' certificates

# wrap NAME: socat in front of the farm, showing that certificate; its port in $port.
wrap()
{
	port=$(port_free)
	socat "OPENSSL-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,cert=$tls/$1.both,verify=0" "TCP:127.0.0.1:$(farm_port a)" 2>"$SM_RUN/socat.$1" &
	at_exit kill $!
}
setup 'start the database' field_start
dds='DDS238-2 ZN/SR'
n=0
for name in good wrong old foreign; do
	n=$((n + 1))
	wrap "$name"
	setup "plan $name" field_gateway "$n" "127.0.0.1:$port" tls=true 'poll_interval=500 ms' timeout_ms=1000
	setup "meter $name" field_meter "$n" "$n" 1 "$dds"
done
# A gateway that speaks no TLS, one that says nothing, and one that speaks only what is too old.
setup 'plan plain' field_gateway 5 "127.0.0.1:$(farm_port a)" tls=true 'poll_interval=500 ms'
mute=$(port_free)
socat -u "TCP-LISTEN:$mute,bind=127.0.0.1,reuseaddr,fork" OPEN:/dev/null &
at_exit kill $!
setup 'plan mute' field_gateway 6 "127.0.0.1:$mute" tls=true 'poll_interval=500 ms'
old=$(port_free)
openssl s_server -accept "127.0.0.1:$old" -cert "$tls/good.pem" -key "$tls/good.key" -tls1_1 -cipher 'ALL:@SECLEVEL=0' -quiet >/dev/null 2>&1 </dev/null &
at_exit kill $!
setup 'plan old version' field_gateway 7 "127.0.0.1:$old" tls=true 'poll_interval=500 ms'
for n in 5 6 7; do
	setup "meter $n" field_meter "$n" "$n" 1 "$dds"
done
dial=$(port_free)
field_gateway 8 "127.0.0.1:$dial" dial_in=true registration=DEV tls=true 'poll_interval=300 ms'
field_meter 8 8 1 "$dds"

error()
{
	sql "SELECT last_error FROM submeter.gateway WHERE gateway_id = $1"
}
readings()
{
	sql "SELECT count(*) FROM submeter.reading WHERE meter_id = $1"
}
more_than()
{
	[ "$(readings "$1")" -gt "$2" ]
}
poller_start --tls-ca "$tls/ca.pem"
wait_for 15 'a meter is read through TLS' more_than 1 2
wait_for 15 'a certificate for another name is refused' says "TLS: the other side's certificate is for another name" error 2
wait_for 15 'one that has expired' says "TLS: the other side's certificate has expired" error 3
wait_for 15 'one by an authority we do not know' says "TLS: the other side's certificate is by no authority we know" error 4
wait_for 15 'no TLS at all' bash -c "[[ \"\$(cat '$POLLER_LOG')\" == *'gateway 1/5'*'TLS: '* ]]"
wait_for 15 'silence' says 'TLS: no answer in time' error 6
wait_for 15 'a version that is too old' bash -c "grep -q 'gateway 1/7.*TLS: .*version' '$POLLER_LOG'"
wait_for 15 'without a certificate of our own nobody can dial in' bash -c "exec 3<>/dev/tcp/127.0.0.1/$dial"
is "$(readings 2)$(readings 3)$(readings 4)$(readings 5)" 0000 'and nothing was asked of any of them'
ok 'the poller stops cleanly' poller_stop

# Devices that dial in.
poller_start --tls-ca "$tls/ca.pem" --tls-cert "$tls/poller.pem" --tls-key "$tls/poller.key"
mkfifo "$SM_RUN/device.in"
/usr/bin/python3 "$here/device.py" 127.0.0.1 "$dial" --ca "$tls/ca.pem" <"$SM_RUN/device.in" >"$SM_RUN/device.out" 2>"$SM_RUN/device.err" &
at_exit kill $!
exec 7>"$SM_RUN/device.in"
wait_for 15 'the poller listens' bash -c "exec 3<>/dev/tcp/127.0.0.1/$dial"
echo "dial a 1000 $(printf DEV | od -An -tx1 | tr -d ' \n')" >&7
wait_for 15 'a device dials in through TLS' more_than 8 2
echo "dial b 1000 $(printf DAV | od -An -tx1 | tr -d ' \n')" >&7
wait_for 10 'a stranger is sent away' grep -qx 'b down' "$SM_RUN/device.out"
exec 9<>"/dev/tcp/127.0.0.1/$dial"
printf 'DEV' >&9
wait_for 10 'who comes without TLS, too' says 1 sql "SELECT count(*) FROM submeter.gateway_stranger WHERE first_bytes = ''"
exec 9>&-
before=$(readings 8)
wait_for 10 'the device stays' more_than 8 $((before + 2))
echo 'close a' >&7
ok 'the poller stops cleanly again' poller_stop

poller_start --tls-ca "$tls/ca.pem" --tls-cert "$tls/poller.both" --tls-require-client
wait_for 15 'the poller listens once more' bash -c "exec 3<>/dev/tcp/127.0.0.1/$dial"
echo "dial c 1000 $(printf DEV | od -An -tx1 | tr -d ' \n')" >&7
wait_for 10 'a device without certificate is refused when one is wanted' grep -qE '^c (down|refused)' "$SM_RUN/device.out"
mkfifo "$SM_RUN/client.in"
openssl s_client -connect "127.0.0.1:$dial" -CAfile "$tls/ca.pem" -cert "$tls/device.pem" -key "$tls/device.key" -verify_return_error -quiet \
	<"$SM_RUN/client.in" >"$SM_RUN/client.out" 2>"$SM_RUN/client.err" &
at_exit kill $!
exec 8>"$SM_RUN/client.in"
printf 'DEV' >&8
wait_for 10 'one with a certificate is asked' test -s "$SM_RUN/client.out"
poller_stop

for wrong in '--tls-ca /nowhere' "--tls-cert $tls/good.pem --tls-key $tls/device.key" "--tls-cert $tls/ca.key"; do
	# shellcheck disable=SC2086
	poller_run --check $wrong >/dev/null 2>"$SM_RUN/wrong"
	is "$?" 3 "files that are of no use: ${wrong%% *}"
	like "$(cat "$SM_RUN/wrong")" 'of no use' 'with a reason'
done
poller_run --check --tls-require-client >/dev/null 2>&1
is "$?" 2 'a certificate can be required only by an authority'
done_testing
