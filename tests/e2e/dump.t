#!/bin/bash
# A live system is dumped and restored in parallel into a server of its own. The copy moves nothing
# until it is adopted; then it settles to the same balances and sends nothing twice.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

original="server_psql a live -c"

# What pg_dump has to carry beside the rows: one line per thing, independent of OIDs and of order.
read -r -d '' CATALOG <<'SQL'
SELECT 'table', c.relname, c.relkind, r.rolname, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text, obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') ORDER BY 2;
SELECT 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attacl::text, col_description(attrelid, attnum)
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped ORDER BY c.relname, attname;
SELECT 'policy', tablename, policyname, roles, cmd, qual, with_check FROM pg_policies WHERE schemaname = 'submeter' ORDER BY 2, 3;
SELECT 'trigger', tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE c.relnamespace = 'submeter'::regnamespace AND NOT tgisinternal ORDER BY c.relname, tgname;
SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(x.oid)
FROM pg_constraint x JOIN pg_class c ON c.oid = conrelid WHERE c.relnamespace = 'submeter'::regnamespace ORDER BY c.relname, conname;
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'submeter' ORDER BY indexname;
SELECT 'function', p.oid::regprocedure::text AS f, r.rolname, p.prosecdef, p.proconfig::text, p.proacl::text
FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'submeter'::regnamespace ORDER BY 2;
SELECT 'schema', nspacl::text FROM pg_namespace WHERE nspname = 'submeter';
SELECT 'sequence', schemaname, sequencename, last_value FROM pg_sequences WHERE schemaname = 'submeter' ORDER BY 3;
SQL

# Every row of every table, as a digest.
ROWS="SELECT c.relname, (xpath('/row/d/text()', query_to_xml(format(
		'SELECT count(*) || '':'' || coalesce(md5(string_agg(x::text, chr(10) ORDER BY x::text)), '''') AS d FROM submeter.%I x', c.relname), false, true, '')))[1]
	FROM pg_class c WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1"

setup 'start the original' server_start a --preload "submeter.databases = 'live'" "submeter.workers = 2"
setup 'create its database' server_createdb a live
setup 'create a property' property_create a live 1 6
setup 'create another property' property_create a live 2 2
setup 'read the meters' property_read a live 1 2026-02-01 2026-02-15 >/dev/null
setup 'read the other meters' property_read a live 2 2026-02-01 2026-02-10 >/dev/null
wait_for 30 'the workers of the original settle' property_is_settled a live
wait_for 30 'and post the charges' answers 8 a live "SELECT count(*) FROM submeter.transfer WHERE kind = 'charge'"

# A suspect with a verdict, a tag, a tariff that changes, a person with few rights.
$original "SELECT submeter.judge_reading(1, 1002, '2026-02-03 00:00', 'withdraw', 'test of the meter');
	SELECT submeter.set_lockout(1, 1006, 'work on the riser');
	CREATE ROLE desk LOGIN; GRANT submeter_cashier TO desk; INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'desk')" >/dev/null
# Commands in every state of the way: 1001 sent, 1002 claimed, 1003 of unknown outcome, 1004 queued.
$original "SELECT submeter.request_command(1, m, 'open', 'test') FROM unnest('{1001,1002,1003}'::bigint[]) m;
	SELECT submeter.claim_commands('p', 3);
	SELECT submeter.send_command(1, command_id, 'p') FROM submeter.command WHERE meter_id IN (1001, 1003);
	SELECT submeter.report_command(1, command_id, 'p', 'unknown', 'closed', NULL, NULL, 'no answer') FROM submeter.command WHERE meter_id = 1003;
	SELECT submeter.request_command(1, 1004, 'open', 'test')" >/dev/null
is "$($original "SELECT meter_id, state FROM submeter.command ORDER BY 1" | tr '\n' ' ')" \
	'1001|sent 1002|claimed 1003|unknown 1004|queued ' 'commands are in every state of the way'
# 1005 is in arrears and was announced, but no channel has taken the message yet.
$original "UPDATE submeter.credit_policy SET mode = 'automatic' WHERE site_id = 1;
	SELECT submeter.adjust(1, 1005, -500, 'old debt', 'debt')" >/dev/null
wait_for 30 'a trip is announced and the message waits' answers 1 a live \
	"SELECT count(*) FROM submeter.notice WHERE account_id = 1005 AND kind = 'trip_announced' AND state = 'queued'"

# The dump is taken while readings, workers and the desk go on.
load()
{
	local n=0 hour
	while [ ! -e "$SM_RUN/enough" ]; do
		n=$((n + 1))
		hour=$(date -u -d "2026-02-15 + $n hours" +'%F %H:%M')
		property_read a live 1 "$hour" "$(date -u -d "$hour UTC + 1 hour" +'%F %H:%M')" >/dev/null || return
		$original "SELECT submeter.recharge(1, 1001, 1.25, 'cash', 'live:$n')" >/dev/null || return
		echo "$n" >"$SM_RUN/load"
	done
}
has_load()
{
	[ "$(tail -n 1 "$SM_RUN/load" 2>/dev/null | grep . || echo 0)" -ge "$1" ]
}
load &
load_pid=$!
wait_for 30 'work goes on' has_load 3
mkdir "$SM_RUN/dump"
ok 'pg_dump of the live database' server_bin a pg_dump -Fd -j 2 -f "$SM_RUN/dump/live" live
during=$(cat "$SM_RUN/load")
wait_for 30 'work went on after the dump' has_load $((during + 5))
touch "$SM_RUN/enough"
ok 'and no step of it failed' wait "$load_pid"
wait_for 30 'the original has settled all of it' property_is_settled a live

# The second server: other initdb, other identifier; its workers are told the same database.
mkdir -m 777 "$SM_RUN/notices"
setup 'start the second server' server_start b --preload "submeter.databases = 'live'" "submeter.notice_directory = '$SM_RUN/notices'"
setup 'create an empty database' server_createdb b live --bare
isnt "$(ask a postgres 'SELECT system_identifier FROM pg_control_system()')" \
	"$(ask b postgres 'SELECT system_identifier FROM pg_control_system()')" 'it has an identifier of its own'
ask b postgres 'CREATE ROLE desk LOGIN'
restore_output=$(server_bin b pg_restore -j 4 --exit-on-error -d live "$SM_RUN/dump/live" 2>&1)
is "$?:$restore_output" '0:' 'pg_restore -j 4 --exit-on-error says nothing'
ask b live 'GRANT submeter_cashier TO desk'

ask a live "$CATALOG" >"$SM_RUN/catalog.a"
ask b live "$CATALOG" >"$SM_RUN/catalog.b"
ok 'tables, columns, policies, triggers, constraints, grants, comments are the same' \
	diff <(grep -v '^sequence' "$SM_RUN/catalog.a") <(grep -v '^sequence' "$SM_RUN/catalog.b")
ok 'among them triggers that replica mode does not silence' grep -q '^trigger.*append_only|A|' "$SM_RUN/catalog.b"
is "$(ask b live "SELECT count(*) FROM pg_sequences s WHERE schemaname = 'submeter' AND last_value IS NULL AND sequencename IN ('transfer_id_seq', 'command_command_id_seq', 'decision_decision_id_seq')")" \
	0 'sequences go on where the dump was taken'
is "$(ask b live "SELECT max(transfer_id) <= (SELECT last_value FROM submeter.transfer_id_seq) FROM submeter.transfer")" \
	t 'no number of a movement will come twice'
is "$(server_psql b live -c "DROP EXTENSION submeter" 2>&1 | grep -c 'cannot drop extension submeter because other objects depend on it')" \
	1 'DROP EXTENSION is refused while data depends on it'

# Asleep. The workers have looked (a worker's idle time starts anew at every look) and done nothing.
ROWS_AT_REST=$(ask b live "$ROWS")
looks()
{
	ask b live "SELECT coalesce(max(state_change), '-infinity') FROM pg_stat_activity WHERE backend_type = 'submeter worker' AND datname = 'live'"
}
worker_looked()
{
	[ "$(ask b live "SELECT max(state_change) > '$1' FROM pg_stat_activity WHERE backend_type = 'submeter worker' AND datname = 'live'")" = t ]
}
first_look=$(looks)
wait_for 30 'a worker of the copy looks' worker_looked "$first_look"
second_look=$(looks)
wait_for 30 'and looks again' worker_looked "$second_look"
is "$(ask b live "$ROWS")" "$ROWS_AT_REST" 'and leaves every row as it was'
asleep='55000 When the original is switched off for good, run SELECT submeter.adopt('\''reason'\''). '
while IFS='|' read -r what statement; do
	is "$(refused b live "$statement")" "$asleep" "the copy refuses: $what"
done <<'SQL'
ingest|SELECT submeter.ingest(1, '{}')
settle|SELECT submeter.settle(1)
settle of all sites|SELECT submeter.settle()
post_charges|SELECT submeter.post_charges(1)
recharge|SELECT submeter.recharge(1, 1001, 10, 'cash', 'copy')
adjust|SELECT submeter.adjust(1, 1001, 10, 'why', 'copy')
apply_policy|SELECT submeter.apply_policy(1)
run_duties|SELECT submeter.run_duties()
one duty|SELECT submeter.run_duty(1, 'switching', now())
delivery of notices|SELECT submeter.deliver_notices(1)
request_command|SELECT submeter.request_command(1, 1005, 'open', 'test')
the plan of the poller|SELECT * FROM submeter.poller_gateways()
claim_commands|SELECT * FROM submeter.claim_commands('p', 10)
send_command|SELECT * FROM submeter.send_command(1, 1, 'p')
report_command|SELECT submeter.report_command(1, 1, 'p', 'confirmed', 'closed', 'open', NULL, NULL)
claim_reads|SELECT * FROM submeter.claim_reads('p')
SQL
is "$(ask b live "$ROWS")" "$ROWS_AT_REST" 'what was refused changed nothing'
is "$(ls "$SM_RUN/notices")" '' 'and told nobody'

# Adopted.
is "$(refused b live "SELECT submeter.adopt(' ')")" '22023 Say it in a few words; it stays on record. ' 'adopt() wants a reason'
is "$(PGUSER=desk refused b live "SELECT submeter.adopt('mine')")" '42501 ' 'a cashier cannot adopt a database'
setup 'adopt the copy' ask b live "SELECT submeter.adopt('the original burnt down')" >/dev/null
is "$(ask b live 'SELECT adopted_by, adopt_reason FROM submeter.installation')" 'postgres|the original burnt down' 'who adopted it and why is on record'
is "$(ask b live "SELECT meter_id, state FROM submeter.command ORDER BY 1" | tr '\n' ' ')" \
	'1001|unknown 1002|unknown 1003|unknown 1004|expired ' 'what was in flight is unknown, what was queued has expired'
is "$(ask b live "SELECT count(*) FROM submeter.open_cause WHERE meter_id = 1004")" 0 'an open that never happened left no cause'

# The poller's spool and the desk repeat what came after the dump, with the keys of then.
setup 'read again what came later' property_read b live 1 2026-02-14 "$(date -u -d "2026-02-15 + $(($(cat "$SM_RUN/load") + 1)) hours" +'%F %H:%M')" >/dev/null
ask b live "SELECT submeter.recharge(1, 1001, 1.25, 'cash', 'live:' || n) FROM generate_series(1, $(cat "$SM_RUN/load")) n" >/dev/null
wait_for 40 'its workers settle' property_is_settled b live
is "$(property_money b live | cut -d'|' -f 1,2,5)" "$(property_money a live | cut -d'|' -f 1,2,5)" 'to the same balances as the original'
is "$(ask b live "SELECT account_id, tariff_id, cycle_start, energy_wh, tier_wh, amount, rounded FROM submeter.charge ORDER BY 1, 2, 3")" \
	"$(ask a live "SELECT account_id, tariff_id, cycle_start, energy_wh, tier_wh, amount, rounded FROM submeter.charge ORDER BY 1, 2, 3")" 'with the same charges'
is "$(ask b live "SELECT meter_id, day, energy_wh, hour_wh FROM submeter.usage_day ORDER BY 1, 2" | md5sum)" \
	"$(ask a live "SELECT meter_id, day, energy_wh, hour_wh FROM submeter.usage_day ORDER BY 1, 2" | md5sum)" 'and the same usage'
is "$(ask b live "SELECT count(*) FROM submeter.transfer t WHERE kind = 'recharge' GROUP BY idempotency_key HAVING count(*) > 1")" '' 'no money was credited twice'
for site in 1 2; do
	is "$(ask b live "SELECT * FROM submeter.verify_ledger($site)")" '' "verify_ledger is empty at site $site of the copy"
	is "$(ask a live "SELECT * FROM submeter.verify_ledger($site)")" '' "and of the original"
done

# Nothing is switched again: the only thing to do with what was in flight is to look.
ask b live "UPDATE submeter.command SET retry_at = NULL, lease_until = NULL WHERE state = 'unknown'"
is "$(ask b live "SELECT meter_id, step FROM submeter.claim_commands('q', 10) ORDER BY 1" | tr '\n' ' ')" \
	'1001|verify 1002|verify 1003|verify ' 'the poller is only asked to verify'
is "$(ask b live "SELECT (submeter.send_command(1, command_id, 'q')).go FROM submeter.command WHERE meter_id IN (1001, 1002, 1003)" | tr '\n' ' ')" \
	'f f f ' 'and may not send what it verifies'
is "$(ask b live "SELECT submeter.report_command(1, command_id, 'q', 'confirmed', NULL, 'open', NULL, NULL) FROM submeter.command WHERE meter_id = 1001")" \
	confirmed 'a relay that reads open confirms the open'
# The outbox of the original is not sent; the trip is announced by the copy itself, anew.
wait_for 30 'the announced trip is announced anew' answers 1 b live \
	"SELECT count(*) FROM submeter.notice WHERE account_id = 1005 AND kind = 'trip_announced' AND state = 'accepted'" ||
	diag "$(ask b live "SELECT clock_timestamp(); SELECT * FROM submeter.duty_state WHERE site_id = 1; SELECT * FROM submeter.account_state WHERE account_id = 1005;
		SELECT notice_id, kind, state, next_try_at, attempts, last_error FROM submeter.notice WHERE account_id = 1005;
		SELECT decision_id, action, reason, decided_at, inputs FROM submeter.decision WHERE account_id = 1005 ORDER BY 1;
		SELECT pid, state, wait_event_type, wait_event, state_change FROM pg_stat_activity WHERE backend_type = 'submeter worker'")"
is "$(ask b live "SELECT count(*) FROM submeter.notice WHERE last_error = 'queued in the original installation' AND state = 'cancelled' AND account_id = 1005")" \
	1 'the message of the original stays unsent'
is "$(for file in "$SM_RUN"/notices/notice-*; do basename "$file" .eml; done | sort)" \
	"$(ask b live "SELECT format('notice-%s-%s', site_id, notice_id) FROM submeter.notice WHERE state = 'accepted' ORDER BY 1" | sort)" \
	'every message that left is on record as sent, once'
is "$(ask b live "SELECT submeter.recharge(1, 1002, 5, 'cash', 'after') > (SELECT max(transfer_id) FROM submeter.transfer WHERE idempotency_key <> 'after')")" \
	t 'new movements get new numbers'

# A copy inside the same server is asleep too; a new name makes no copy.
setup 'create a database without workers' server_createdb a quiet
setup 'with a property' property_create a quiet 3 1
ask a postgres 'CREATE DATABASE twin TEMPLATE quiet'
is "$(refused a twin "SELECT submeter.recharge(3, 3001, 10, 'cash', 'twin')")" "$asleep" 'a copy made from a template is asleep'
is "$(ask a twin 'SELECT submeter.is_awake()')" f 'and says so'
ask a postgres 'ALTER DATABASE quiet RENAME TO silent'
is "$(ask a silent 'SELECT submeter.is_awake()')" t 'a database with a new name stays awake'
ask a twin "SELECT submeter.adopt('it is the one now')" >/dev/null
is "$(ask a twin "SELECT submeter.recharge(3, 3001, 10, 'cash', 'twin') IS NOT NULL")" t 'an adopted twin works'

done_testing
