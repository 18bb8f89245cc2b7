# shellcheck shell=bash
# What the tests of the farm share: TAP, a farm in a folder of its own, mbpoll and a raw client.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$here/../../lib/tap.sh"
# shellcheck source=tests/sim/farm.sh
. "$here/../farm.sh"

work=$(mktemp -d /tmp/farm.XXXXXX)
trap 'farm_stop; rm -rf "$work"' EXIT

# values PORT UNIT TYPE ADDRESS [COUNT]: registers read by mbpoll, one a line (TYPE as mbpoll -t)
values()
{
	mbpoll -m tcp -p "$1" -a "$2" -t "$3" -B -0 -r "$4" -c "${5:-1}" -o 2 -1 -q 127.0.0.1 2>&1 |
		awk '/^\[/ { print $2 }'
}

# complaint PORT UNIT TYPE ADDRESS [COUNT [SECONDS]]: why mbpoll could not read
complaint()
{
	mbpoll -m tcp -p "$1" -a "$2" -t "$3" -B -0 -r "$4" -c "${5:-1}" -o "${6:-2}" -1 -q 127.0.0.1 2>&1 |
		sed -n 's/.* failed: //p'
}

# write_words PORT UNIT ADDRESS WORD...: written by mbpoll; one word goes by function 6, more by 16
write_words()
{
	local port=$1 unit=$2 address=$3
	shift 3
	mbpoll -m tcp -p "$port" -a "$unit" -t 4 -0 -r "$address" -o 2 -q 127.0.0.1 "$@" 2>&1 |
		sed -n 's/.* failed: /failed: /p; s/^Written .*/written/p'
}

# raw_open PORT / raw_send HEX / raw_read BYTES SECONDS / raw_close: bytes on a connection of our own
raw_open()
{
	exec 5<>"/dev/tcp/127.0.0.1/$1"
}

raw_send()
{
	# shellcheck disable=SC2059
	printf "$(sed 's/../\\x&/g' <<<"$1")" >&5
}

raw_read()
{
	timeout "$2" head -c "$1" <&5 | od -An -v -tx1 | tr -d ' \n'
}

raw_close()
{
	exec 5>&- 5<&-
}

# raw PORT HEX BYTES SECONDS: one request, and what comes back within the time
raw()
{
	raw_open "$1"
	raw_send "$2"
	raw_read "$3" "$4"
	raw_close
}

# crc HEX: the bytes with the CRC of a serial Modbus frame behind them
crc()
{
	local value=$((0xFFFF)) i bit
	for ((i = 0; i < ${#1}; i += 2)); do
		value=$((value ^ 16#${1:i:2}))
		for ((bit = 0; bit < 8; bit++)); do
			value=$((value & 1 ? value >> 1 ^ 0xA001 : value >> 1))
		done
	done
	printf '%s%02x%02x' "$1" $((value & 0xFF)) $((value >> 8))
}

# dlt PORT|PATH WORD...: DL/T 645 questions (see dlt_client.py)
dlt()
{
	/usr/bin/python3 "$here/../dlt_client.py" "$@"
}

# peer NAME [option...]: takes the calls of gateways (see dial_peer.py); its port is then in $peer_port,
# what it says in $work/NAME.out; peer_do COMMAND... tells the last one what to do
peer()
{
	mkfifo "$work/$1.in"
	/usr/bin/python3 "$here/../dial_peer.py" "${@:2}" <"$work/$1.in" >"$work/$1.out" 2>"$work/$1.err" &
	eval "exec 7>\"\$work/$1.in\""
	peer_out=$work/$1.out
	until grep -q '^ready ' "$peer_out"; do
		sleep 0.02
	done
	# shellcheck disable=SC2034 # for those who source this
	peer_port=$(awk '/^ready/ { print $2; exit }' "$peer_out")
}

peer_do()
{
	echo "$*" >&7
}

# said REGEX: whether the peer has said such a line
said()
{
	grep -Eq "^$1\$" "$peer_out"
}
