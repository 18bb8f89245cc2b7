#!/bin/bash
# What the README promises of "make demo", "make up" and "make down": the whole story is seen, what is left
# running can be used as its guide says, and afterwards nothing is left.
# shellcheck source=tests/lib/tap.sh
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

demo=$SM_ROOT/tests/demo
# Apart from what the caller may have left running with "make up".
export SM_DEMO=$SM_RUN/up SM_BASE=$SM_RUN/base
mkdir -m 755 "$SM_BASE"
unset SM_KEEP

# Processes that have it from this script where the folder of runs is.
left()
{
	local pid
	for pid in $(grep -lsxz "SM_BASE=$SM_BASE" /proc/[0-9]*/environ | sed 's|/proc/||; s|/environ||'); do
		! _sm_alive "$pid" || tr '\0' ' ' <"/proc/$pid/cmdline"
	done
}

# The demo's own script, without the folder this test's script owns.
story()
{
	env -u SM_RUN "$demo/demo" </dev/null >"$SM_RUN/out" 2>&1
}

ok 'the whole story is seen' story || diag "$(tail -n 40 "$SM_RUN/out")"
out=$(cat "$SM_RUN/out")
like "$out" 'pay 30\.00 CNY with Alipay, https://qr\.alipay\.com/' 'a code of Alipay is shown'
like "$out" '5 heard, 30\.00 CNY credited once' 'a notification that comes five times credits once'
like "$out" '0 heard, 100\.00 CNY credited once' 'a payment nobody told us about is found by asking'
like "$out" '→ Riverside Market:A-102 电费余额不足' 'a Chinese mail is readable'
like "$out" 'attached: bill-[0-9]+\.html' 'a bill came by mail'
is "$(ls "$SM_BASE")" '' 'no file is left'
is "$(left)" '' 'and no process'

# The guide of what is left running
setup 'leave it running' eval "'$demo/up' >'$SM_RUN/guide' 2>&1"
at_exit "$demo/down"
like "$(left)" 'submeter-courier.*submeter-poller|submeter-poller.*submeter-courier' 'its processes are told from others'
read -r socket port < <(sed -nE 's/^  psql -h ([^ ]+) -p ([0-9]+) .*-U postgres$/\1 \2/p' "$SM_RUN/guide")

# guide_says WORDS FILE: the psql commands under the text with these words.
guide_says()
{
	echo 'SET search_path = submeter;' >"$2"
	awk -v words="$1" 'index($0, words) { inside = 1 } inside && /^  / && !/^  psql/ { print; any = 1 } inside && any && /^[^ ]/ { exit }' "$SM_RUN/guide" |
		sed 's/\\watch 2//' >>"$2"
}

# follow WORDS LOGIN: does what stands there; what came is in "answer".
follow()
{
	guide_says "$1" "$SM_RUN/step"
	answer=$(as "$2" <"$SM_RUN/step" 2>&1)
}

as()
{
	psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -d market -U "$1"
}

has_code()
{
	[ -n "$(echo 'SELECT o.qr FROM submeter.payment_order o WHERE o.qr IS NOT NULL' | as postgres)" ]
}

received()
{
	"$demo/mails" | grep -q "$1"
}

ok 'what is worth asking has answers' follow 'Worth asking' postgres || diag "$answer"
ok 'it is more than a few questions' test "$(grep -c 'SELECT' "$SM_RUN/step")" -gt 8
guide_says 'A payment' "$SM_RUN/step"
ok 'a tenant asks for a code' eval 'head -n 2 "$SM_RUN/step" | as bakery >"$SM_RUN/asked"'
wait_for 60 'a code comes' has_code
ok 'it is scanned, paid and looked at' follow 'A payment' manager || diag "$answer"
like "$answer" '"paid": true' 'the buyer could pay'
wait_for 60 'and is thanked by mail' received '^ *[0-9]* *bakery@market.example .*30.00 CNY received'
ok 'next door the month is closed' follow 'Last month' manager || diag "$answer"
wait_for 60 'and the bill is in the mail' received 'bill-[0-9]*\.html'
saved=$("$demo/mails" last save | sed -n 's/^ *saved as //p')
like "$(cat "$saved")" '^<!DOCTYPE html>.*</html>' 'as a page to print'
ok 'it ends when it is told to' "$demo/down"
ok 'its folder is gone' test ! -e "$SM_DEMO"
is "$(left)" '' 'and so are its processes'
ok 'and its socket' test ! -e "$socket"
done_testing
