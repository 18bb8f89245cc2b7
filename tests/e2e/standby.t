#!/bin/bash
# A hot standby follows a working system and is promoted in the middle of it. It is the same system:
# nobody adopts anything, duties and daemons go on there, and nothing is done or sent twice.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

mkdir -m 777 "$SM_RUN/told_a" "$SM_RUN/told_b"
setup 'start the primary' server_start a --preload "submeter.databases = 'live'" "submeter.workers = 2" \
	"submeter.notice_directory = '$SM_RUN/told_a'"
setup 'create its database' server_createdb a live
setup 'create a property' property_create a live 1 6
setup 'create another property' property_create a live 2 2
# Nobody is told of the recharges that go on while the primary falls: then no message is in a hand at that moment.
ask a live "UPDATE submeter.credit_policy SET mode = 'automatic'; DELETE FROM submeter.contact WHERE tenant_id = 1005"
setup 'read the meters' property_read a live 1 2026-02-01 2026-02-10 >/dev/null

setup 'start the standby' server_standby b a "submeter.notice_directory = '$SM_RUN/told_b'" "hot_standby_feedback = on"
is "$(ask b live 'SELECT pg_is_in_recovery()')" t 'the standby answers questions'
caught_up()
{
	[ "$(ask b live "SELECT pg_last_wal_replay_lsn() >= '$(ask a live 'SELECT pg_current_wal_lsn()')'")" = t ]
}
wait_for 30 'the workers of the primary settle' property_is_settled a live
wait_for 30 'the standby has all of it' caught_up
is "$(property_money b live)" "$(property_money a live)" 'with the same balances'
is "$(worker_pids b)" '' 'no worker runs on the standby'
isnt "$(worker_pids a live)" '' 'those of the primary do'
is "$(ask b live 'SELECT submeter.is_adopted()')" t 'it is the same system, not a copy'
like "$(refused b live "SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
	'{\"meter_id\":1001,\"ts\":\"2026-02-20T00:00:00Z\",\"energy_wh\":5000000}')])")" '^25006' 'but it takes no reading'
like "$(refused b live "SELECT submeter.recharge(1, 1001, 1, 'cash', 'standby')")" '^25006' 'nor money'
like "$(refused b live "SELECT * FROM submeter.claim_commands('p', 1)")" '^25006' 'nor gives out commands'
is "$(ask b live "SELECT submeter.balance(1, 1001) = b.available FROM submeter.account_balances(1) b WHERE b.account_id = 1001")" t 'a balance can be asked there'
is "$(ask b live 'SELECT * FROM submeter.verify_ledger(1)')" '' 'and the ledger verified'

# Work that is half done: a command sent, one queued, people told, a recharge.
ask a live "SELECT submeter.request_command(1, 1001, 'open', 'test'), submeter.claim_commands('p', 1);
	SELECT submeter.send_command(1, command_id, 'p') FROM submeter.command;
	SELECT submeter.request_command(1, 1002, 'open', 'test');
	SELECT submeter.adjust(1, 1003, -400, 'old debt', 'debt'); SELECT submeter.recharge(1, 1004, 7, 'cash', 'seven')" >/dev/null
wait_for 30 'a tenant was told' answers 1 a live \
	"SELECT count(*) FROM submeter.notice WHERE account_id = 1003 AND kind = 'trip_announced' AND state = 'accepted'"

wait_for 30 'and nobody is left to be told' answers 0 a live "SELECT count(*) FROM submeter.notice WHERE state = 'queued'"

# Steps are acknowledged only when the standby has them too, as a property that cannot lose any would run it.
ask a postgres "ALTER SYSTEM SET synchronous_standby_names = '*'"
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
wait_for 30 'the standby is synchronous' answers sync a postgres 'SELECT sync_state FROM pg_stat_replication'
load()
{
	local n=0 hour
	while :; do
		hour=$(date -u -d "2026-02-10 + $n hours" +'%F %H:%M')
		n=$((n + 1))
		property_read a live 1 "$hour" "$(date -u -d "$hour UTC + 1 hour" +'%F %H:%M')" >/dev/null 2>&1 || return
		ask a live "SELECT submeter.recharge(1, 1005, 1.25, 'cash', 'load:$n')" >/dev/null 2>&1 || return
		echo "$n" >>"$SM_RUN/load"
	done
}
has_load()
{
	[ "$(wc -l 2>/dev/null <"$SM_RUN/load")" -ge "$1" ] 2>/dev/null
}
load &
load_pid=$!
wait_for 60 'work goes on' has_load 10
server_kill9 a
wait "$load_pid"
acknowledged=$(wc -l <"$SM_RUN/load")
note "the primary fell with $acknowledged steps acknowledged"
ok 'the standby is promoted' server_promote b
worker_runs()
{
	[ -n "$(worker_pids "$1" live)" ]
}
wait_for 60 'its workers start' worker_runs b
is "$(ask b live 'SELECT submeter.is_awake()')" t 'without adopt()'
is "$(ask b live "SELECT count(*) FROM submeter.transfer WHERE idempotency_key LIKE 'load:%' AND split_part(idempotency_key, ':', 2)::int <= $acknowledged")" \
	"$acknowledged" 'no acknowledged recharge is lost'
is "$(ask b live "SELECT count(*) FROM submeter.reading WHERE site_id = 1 AND ts >= '2026-02-10' AND ts < timestamptz '2026-02-10' + $acknowledged * interval '1 hour'")" \
	$((acknowledged * 4 * 6)) 'no acknowledged reading is lost'

# The daemons come back to the new primary: the poller repeats its last batches, the desk its last recharge.
next=$((acknowledged + 2))
setup 'readings go on' property_read b live 1 2026-02-10 "$(date -u -d "2026-02-10 + $((next + 24)) hours" +'%F %H:%M')" >/dev/null
ask b live "SELECT submeter.recharge(1, 1005, 1.25, 'cash', 'load:' || n) FROM generate_series(1, $next) n" >/dev/null
wait_for 60 'duties go on' property_is_settled b live
is "$(ask b live "SELECT count(*), sum(amount) FROM submeter.transfer WHERE idempotency_key LIKE 'load:%'")" \
	"$next|$(ask b live "SELECT $next * 1.25")" 'every recharge counts once'
is "$(ask b live "SELECT submeter.recharge(1, 1004, 7, 'cash', 'seven') = min(transfer_id) AND count(*) = 1 FROM submeter.transfer WHERE idempotency_key = 'seven'")" \
	t 'a repeated key is known'
is "$(ask b live "SELECT state FROM submeter.command WHERE meter_id = 1001")" sent 'what was sent is still sent'
is "$(ask b live "UPDATE submeter.command SET lease_until = now() - interval '1 min' WHERE meter_id = 1001;
	SELECT submeter.switch_duty(1, now()) IS NOT NULL")" t 'its answer never comes'
is "$(ask b live "SELECT meter_id, step FROM submeter.claim_commands('q', 10) ORDER BY 1" | tr '\n' ' ')" '1001|verify 1002|switch ' \
	'so the relay is read, not written again; what was queued is carried out'
ask b live "SELECT submeter.recharge(1, 1006, 9, 'cash', 'nine')" >/dev/null
wait_for 30 'notices go out from here' answers 1 b live "SELECT count(*) FROM submeter.notice WHERE account_id = 1006 AND state = 'accepted'"
isnt "$(ls "$SM_RUN/told_b")" '' 'through its own channel'
is "$(cd "$SM_RUN" && for file in told_a/*.eml told_b/*.eml; do [ ! -f "$file" ] || basename "$file"; done | sort | uniq -d)" '' 'no message left from both'
is "$(cd "$SM_RUN" && for file in told_a/*.eml told_b/*.eml; do [ ! -f "$file" ] || basename "$file" .eml; done | sort)" \
	"$(ask b live "SELECT format('notice-%s-%s', site_id, notice_id) FROM submeter.notice WHERE state = 'accepted'" | sort)" 'every message on record left once'
is "$(ask b live "SELECT count(*) FROM submeter.notice WHERE account_id = 1003 AND kind = 'trip_announced'")" 1 'who was told is not told again'
for site in 1 2; do
	is "$(ask b live "SELECT * FROM submeter.verify_ledger($site)")" '' "verify_ledger is empty at site $site"
done

# The same history on one server that never fell comes to the same balances.
setup 'create a database for comparison' server_createdb b steady
setup 'create the same property' property_create b steady 1 6
setup 'with the same readings' property_read b steady 1 2026-02-01 "$(date -u -d "2026-02-10 + $((next + 24)) hours" +'%F %H:%M')" >/dev/null
ask b steady "SELECT submeter.adjust(1, 1003, -400, 'old debt', 'debt'); SELECT submeter.recharge(1, 1004, 7, 'cash', 'seven'), submeter.recharge(1, 1006, 9, 'cash', 'nine');
	SELECT submeter.recharge(1, 1005, 1.25, 'cash', 'load:' || n) FROM generate_series(1, $next) n; SELECT submeter.settle(1)" >/dev/null
is "$(property_money b live | grep '^1|' | cut -d'|' -f 1,2,5)" "$(property_money b steady | cut -d'|' -f 1,2,5)" \
	'balances equal those of a server that never fell'

done_testing
