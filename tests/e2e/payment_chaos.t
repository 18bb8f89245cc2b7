#!/bin/bash
# Thousands of random payments at once, against providers in a storm of faults, while couriers, the server and single
# sessions are killed: whatever happens on the way, the books are the providers' own in the end.
# EPISODES=N (default 2000; MOST_S=420: none is begun after so many seconds), AT_ONCE=N, RATE=0.15 (of calls and notifications that go wrong), SEED=N repeats a plan.
# shellcheck source=tests/e2e/payment.sh
. "$(dirname "$0")/payment.sh"

RANDOM=${SEED:=$((RANDOM + 1))}
: "${EPISODES:=2000}" "${MOST_S:=420}" "${AT_ONCE:=160}" "${RATE:=0.15}"
diag "SEED=$SEED EPISODES=$EPISODES repeats this run"
ASKED=$SM_RUN/asked
DRIVER=$here/payment_chaos.py
SECOND_PORT=$(port_free)

# Both take notifications, each for its own merchants.
couriers=(courier other)
declare -A LISTEN=([courier]="127.0.0.1:$PORT" [other]="127.0.0.1:$SECOND_PORT")

backend_end()
{
	sql "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'submeter worker')
		AND pid <> pg_backend_pid() ORDER BY random() LIMIT $1) a" >/dev/null 2>&1
}

# One blow; the server is up again afterwards, and both couriers run.
blow()
{
	local name=${couriers[RANDOM % 2]} pid
	case $((RANDOM % 10)) in
		[0-3]) courier_end 9 "$name"; courier_start "$name" --listen "${LISTEN[$name]}" ;;
		4) server_stop db immediate; server_start db >/dev/null 2>&1 ;;
		5) server_kill9 db; server_start db >/dev/null 2>&1 ;;
		6) pid=$(sql "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'submeter-courier%' ORDER BY random() LIMIT 1" 2>/dev/null)
			[ -z "$pid" ] || kill -9 "$pid" ;;
		*) backend_end "$((RANDOM % 4 + 1))" ;;
	esac
	BLOWS=$((BLOWS + 1))
}

no_secret()
{
	! grep -qE "BEGIN (RSA )?PRIVATE|$1" "$(server_log db)" "$COURIER_LOG"
}

payment_start 'wal_level = minimal' 'max_wal_senders = 0' "log_line_prefix = '%m [%p] %a '"
setup 'more accounts' sql "INSERT INTO submeter.account (site_id, account_id, tenant_id, code) SELECT 1, n, 1, 'A-' || 100 + n FROM generate_series(3, 25) n"
PORT=$SECOND_PORT
setup 'another merchant at Alipay' merchant_open 3 provider=alipay mode=key
setup 'another merchant at WeChat Pay' merchant_open 4 provider=wechat mode=cert
setup 'orders that expire soon' sql "UPDATE submeter.merchant SET order_ttl = '2 minutes'"
courier_start other --listen "127.0.0.1:$PORT"
setup 'a storm at the providers' ctl storm "rate=$RATE" "seed=$SEED"
BLOWS=0
begin=$SECONDS
/usr/bin/python3 "$DRIVER" live "$(server_conninfo db)" "$BASE" "$SEED" "$EPISODES" "$AT_ONCE" "$MOST_S" "$ASKED" >"$SM_RUN/live" 2>&1 &
driver=$!
at_exit eval 'kill "$driver" 2>/dev/null'
while _sm_alive "$driver"; do
	wait_until $((BLOWS > 0 ? 8 + RANDOM % 12 : 3)) bash -c "! kill -0 $driver 2>/dev/null" || blow
done
ok 'the episodes were played' wait "$driver"
diag "$(head -n 30 "$SM_RUN/live")"
isnt "$BLOWS" 0 "$BLOWS blows fell meanwhile"
diag "that took $((SECONDS - begin)) s"
begin=$SECONDS
ok 'in the end the books are the providers'\''' eval '/usr/bin/python3 "$DRIVER" end "$(server_conninfo db)" "$BASE" "$SEED" "$ASKED" 300 >"$SM_RUN/end" 2>&1'
diag "$(head -n 400 "$SM_RUN/end")"
is "$(grep -c 'deadlock detected' "$(server_log db)")" 0 'no two sessions ever waited for each other'
diag "the reckoning took $((SECONDS - begin)) s"
books_agree 'after all'
secrets=$(sed -n 's/.*"api_v3_key": "\([^"]*\)".*/\1/p' "$SM_RUN"/merchant.[24] | paste -sd'|')
ok 'no secret is in any log' no_secret "$secrets"
unlike "$(cat "$COURIER_LOG")" 'runtime error|Sanitizer|assert' 'no complaint of a courier about itself'
unlike "$(cat "$(server_log db)")" 'PANIC|TRAP:|signal 11|signal 6' 'nor of the server'
done_testing
