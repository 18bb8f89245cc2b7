# shellcheck shell=bash
# Starts and commands a meter farm from a test script. Source it; then
#
#   farm_start DIR [option...] < CONFIG   starts a farm with the configuration on standard input, its
#                                         files in DIR; waits until every port listens; FARM_PID is it
#   farm COMMAND [word...]                sends a command (see README.md) and prints the answer
#   farm_port NAME                        the number of a port, for ports configured as 0
#   farm_stop                             ends it by its process number; fails if it ended badly
#
# SANITIZE=1 in the environment takes the binaries built with the sanitizers.

_farm_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
_farm_bin=$_farm_here${SANITIZE:+/build-sanitize}
FARM_PID=
FARM_CONTROL=

farm_start()
{
	local dir=$1
	shift
	cat >"$dir/farm.conf"
	FARM_CONTROL=$dir/farm.sock
	FARM_OUT=$dir/farm.out
	: >"$FARM_OUT"
	"$_farm_bin/submeter-farm" --models "$_farm_here/models.conf" --control "$FARM_CONTROL" "$@" \
		"$dir/farm.conf" >"$FARM_OUT" 2>"$dir/farm.err" &
	FARM_PID=$!
	until grep -qx ready "$FARM_OUT"; do
		if ! kill -0 "$FARM_PID" 2>/dev/null; then
			wait "$FARM_PID"
			cat "$dir/farm.err" >&2
			FARM_PID=
			return 1
		fi
		sleep 0.02
	done
}

farm()
{
	"$_farm_bin/farmctl" "$FARM_CONTROL" "$@"
}

farm_port()
{
	awk -v name="$1" '$1 == "port" && $2 == name { print $3 }' "$FARM_OUT"
}

farm_stop()
{
	local status=0

	[ -n "$FARM_PID" ] || return 0
	kill -TERM "$FARM_PID" 2>/dev/null
	wait "$FARM_PID" || status=$?
	FARM_PID=
	return "$status"
}
