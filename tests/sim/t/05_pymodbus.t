#!/bin/bash
# The foreign peer: a pymodbus server whose registers change while it runs.
# shellcheck source=tests/sim/t/common.sh
. "$(dirname "$0")/common.sh"

mkfifo "$work/in"
/usr/bin/python3 "$here/../pymodbus_server.py" 1:3:0=1,2 1:3:0x1A=1 2:4:0x48=0x42f6,0xe979 \
	<"$work/in" >"$work/out" 2>"$work/err" &
peer=$!
exec 7>"$work/in"
listening()
{
	grep -q '^ready ' "$work/out"
}
wait_for 30 'pymodbus listens' listening
port=$(awk '/^ready/ { print $2 }' "$work/out")
trap 'kill $peer 2>/dev/null; rm -rf "$work"' EXIT

answers=1
# peer_says COMMAND: sends a command and prints the line that answers it
peer_says()
{
	echo "$*" >&7
	answers=$((answers + 1))
	until [ "$(wc -l <"$work/out")" -ge $answers ]; do
		kill -0 $peer || return 1
		sleep 0.02
	done
	sed -n ${answers}p "$work/out"
}

is "$(values "$port" 1 4:int 0)" 65538 'holding registers'
is "$(values "$port" 2 3:float 0x48)" 123.456 'input registers'
is "$(complaint "$port" 1 4 2)" 'Illegal data address' 'outside the map'
is "$(raw "$port" 00010000000901 1 0.1)$(raw "$port" 0001000000090110001a0001020000 12 5)" 0001000000060110001a0001 \
	'a relay written by function 16'
peer_says writes >"$work/answer"
is "$(cat "$work/answer")" 'ok 1:26=0' 'the write is remembered'
is "$(values "$port" 1 4 26)" 0 'and read back'
peer_says u32 1 3 0 123456 >"$work/answer"
is "$(values "$port" 1 4:int 0)" 123456 'a value changed from outside'
peer_says nonsense 1 3 0 >"$work/answer"
like "$(cat "$work/answer")" '^error ' 'a command nobody knows'
echo quit >&7
ok 'it ends when told' wait $peer
done_testing
