#!/bin/bash
# submeter-poller decode: frames of public descriptions, written here byte by byte, become JSON that another
# program reads; noise, tails and random bytes never crash it.
. "$(dirname "$0")/../lib/tap.sh"

POLLER=$(dirname "$0")/../../poller/submeter-poller
decode() { "$POLLER" decode "$@"; }
# field NAME < one JSON object: through a JSON reader we did not write
field()
{
	/usr/bin/python3 -c 'import json, sys
value = json.loads(sys.stdin.readline())
for key in sys.argv[1].split("."):
    value = value.get(key) if isinstance(value, dict) else None
print(json.dumps(value))' "$1"
}
# dlt ADDRESS CONTROL DATA: a DL/T 645 frame from the rule of the standard
dlt()
{
	/usr/bin/python3 -c 'import sys
address, control, data = (bytes.fromhex(x) for x in sys.argv[1:4])
body = b"\x68" + address[::-1] + b"\x68" + control + bytes([len(data)]) + bytes((b + 0x33) % 256 for b in data)
print((body + bytes([sum(body) % 256, 0x16])).hex())' "$@"
}

request=$(decode dlt645 68 AA AA AA AA AA AA 68 11 04 33 33 34 33 AE 16)
is "$(field di <<<"$request")" '"00010000"' 'a read that many public documents print'
is "$(field direction <<<"$request") $(field address <<<"$request") $(field value <<<"$request")" '"request" "AAAAAAAAAAAA" null' 'who asks whom'
answer=$(decode dlt645 "FEFEFEFE$(dlt 000000000001 91 0000010078563412)")
is "$(field ok <<<"$answer") $(field value <<<"$answer") $(field unit <<<"$answer")" 'true 123456.78 "kWh"' 'a register behind a preamble'
is "$(field address <<<"$answer") $(field control <<<"$answer")" '"000000000001" "91"' 'of the meter on the nameplate'
is "$(decode dlt645 "$(dlt 000000000001 91 00FF01020022FFFF0523)" | field value)" '[220.0, null, 230.5]' 'an absent phase is null'
is "$(decode dlt645 "$(dlt 000000000001 91 00000000010000"80")" | field value)" '-0.01' 'a combined total below zero'
is "$(decode dlt645 "$(dlt 000000000001 91 000001007A563412)" | field ok)" false 'a half byte that is no digit'
is "$(decode dlt645 "$(dlt 000000000001 D1 02)" | field error)" '"no such data"' 'a refusal in words'
is "$(decode dlt645 "$(dlt 000000000001 81 109078563412)" | field di)" '"9010"' 'an answer of 1997'
is "$(decode dlt645 "$(dlt 000000000001 81 109078563412)" | field value)" 123456.78 'with its value'
is "$(decode dlt645 "$(dlt 000000000001 93 010000000000)" | field value)" '"000000000001"' 'a meter says its address'

is "$(decode modbus-rtu-request 11 03 00 6B 00 03 76 87 | field function)" 3 'a Modbus request'
is "$(decode modbus-rtu-response 110306AE415652434049AD | field value)" '[44609, 22098, 17216]' 'and its answer'
is "$(decode modbus-tcp 00 01 00 00 00 05 07 03 02 08 fd | field value)" '[2301]' 'an answer over TCP'
is "$(decode modbus-tcp 00 01 00 00 00 05 07 03 02 08 fd | field address)" 7 'of unit 7'
is "$(decode modbus-tcp 00 01 00 00 00 03 07 83 02 | field error)" '"exception 02: illegal data address"' 'an exception in words'
like "$(decode q376 68 32 00 32 00 68 C9 03 44 D2 04 00 02 71 00 00 04 00 5D 16)" '"address": "4403-01234".*"afn": "02", "fn": 3' 'a heartbeat of a concentrator'

# A stream: tail of a frame, a good one, one with a wrong checksum, a good one, half a frame.
good=$(dlt 000000000001 91 0000010078563412)
bad=${good%????}0016
stream="33341616$good$bad$good${good:0:20}"
printed=$(/usr/bin/python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))' "$stream" | decode dlt645)
is "$(grep -c '"ok": true' <<<"$printed")" 2 'both good frames of a stream are found'
is "$(grep -c '"ok": false' <<<"$printed")" 3 'and noise, bad and half frame are each reported once'
like "$(tail -1 <<<"$printed")" 'not complete' 'the last of them for its end'

status=0
out=$(mktemp)
for protocol in modbus-rtu-request modbus-rtu-response modbus-tcp dlt645 q376; do
	for seed in 1 2 3 4 5; do
		/usr/bin/python3 -c 'import random, sys
r = random.Random(int(sys.argv[1]))
sys.stdout.buffer.write(bytes(r.choice((r.randrange(256), 0x68, 0x16, 0xFE, 0x91, r.randrange(16))) for _ in range(20000)))' "$seed" |
			decode "$protocol" >"$out" || [ $? = 1 ] || status=1
		/usr/bin/python3 -c 'import json, sys
for line in sys.stdin:
    json.loads(line)' <"$out" || status=1
	done
done
rm -f "$out"
is "$status" 0 'random bytes become JSON in every protocol, and no crash'
ok 'no protocol, no hexadecimal digits: refused' eval '! decode 2>/dev/null && ! decode modbus-tcp zz 2>/dev/null && ! decode nothing 00 2>/dev/null'
done_testing
