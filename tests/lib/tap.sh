# shellcheck shell=bash
# TAP for shell scripts. Source this file (before or after server.sh).
#
#   plan N                        optional; else done_testing prints the plan
#   ok 'what' COMMAND...          passes when the command succeeds
#   is GOT WANT 'what'            isnt GOT UNWANTED 'what'
#   like GOT REGEX 'what'         unlike GOT REGEX 'what'       extended regular expressions
#   pass 'what'   fail 'what'   skip 'what' 'why'
#   wait_for SECONDS 'what' COMMAND...   polls; passes when it succeeds in time, says how long it took
#   hour_lasts, month_lasts       for tests that an hour or a local month ending meanwhile would make another
#                                 case of: wait for its end first when it is near
#   setup 'what' COMMAND...       not a test: the script bails out when it fails
#   diag TEXT...   note TEXT...   bail 'why'
#   done_testing                  the last line of every script; its status is that of the test
#
# Ceilings are for a machine that does nothing else. What is waited for gets SM_PATIENCE times as long,
# because the machine that tests is slow and busy; only a failure takes longer for it.

_tap_count=0
_tap_failed=0
_tap_plan=
SM_PATIENCE=${SM_PATIENCE:-4}

diag()
{
	printf '%s\n' "$@" | sed 's/^/# /' >&2
}

note()
{
	printf '%s\n' "$@" | sed 's/^/# /'
}

bail()
{
	echo "Bail out! $*"
	exit 255
}

plan()
{
	_tap_plan=$1
	echo "1..$1"
}

pass()
{
	_tap_count=$((_tap_count + 1))
	echo "ok $_tap_count - $1"
}

fail()
{
	_tap_count=$((_tap_count + 1))
	_tap_failed=$((_tap_failed + 1))
	echo "not ok $_tap_count - $1"
	diag "failed: $1 (${BASH_SOURCE[-1]##*/} line ${BASH_LINENO[-2]:-?})"
	return 1
}

skip()
{
	_tap_count=$((_tap_count + 1))
	echo "ok $_tap_count - $1 # SKIP $2"
}

ok()
{
	local what=$1
	shift
	if "$@"; then
		pass "$what"
	else
		fail "$what"
		diag "command: $*"
		return 1
	fi
}

is()
{
	if [ "$1" = "$2" ]; then
		pass "$3"
	else
		fail "$3"
		diag "     got: $1" "expected: $2"
		return 1
	fi
}

isnt()
{
	if [ "$1" != "$2" ]; then
		pass "$3"
	else
		fail "$3"
		diag "got what must not be: $1"
		return 1
	fi
}

like()
{
	if [[ $1 =~ $2 ]]; then
		pass "$3"
	else
		fail "$3"
		diag "          got: $1" "does not match: $2"
		return 1
	fi
}

unlike()
{
	if [[ ! $1 =~ $2 ]]; then
		pass "$3"
	else
		fail "$3"
		diag "    got: $1" "matches: $2"
		return 1
	fi
}

wait_for()
{
	local ceiling=$(($1 * SM_PATIENCE)) what=$2 begin=${EPOCHREALTIME/./} end tenths
	shift 2
	end=$((begin + ceiling * 1000000))
	until "$@"; do
		if ((${EPOCHREALTIME/./} >= end)); then
			fail "$what"
			diag "not within $ceiling s: $*"
			return 1
		fi
		sleep 0.05
	done
	tenths=$(((${EPOCHREALTIME/./} - begin) / 100000))
	pass "$what"
	note "after $((tenths / 10)).$((tenths % 10)) s"
}

setup()
{
	local what=$1
	shift
	"$@" || bail "could not $what"
}

_same_until()
{
	[ "$(TZ=Asia/Shanghai date "+$2")" = "$(TZ=Asia/Shanghai date -d "$1" "+$2")" ]
}

hour_lasts()
{
	setup 'let the hour end first' wait_until 60 _same_until '+3 minutes' %H
}

month_lasts()
{
	setup 'let the month end first' wait_until 100 _same_until '+6 minutes' %m
}

done_testing()
{
	[ -n "$_tap_plan" ] || plan "$_tap_count"
	if [ "$_tap_plan" != "$_tap_count" ]; then
		diag "planned $_tap_plan, ran $_tap_count"
		exit 1
	fi
	if ((_tap_count == 0 || _tap_failed > 0)); then
		diag "$_tap_failed of $_tap_count failed"
		exit 1
	fi
	exit 0
}
