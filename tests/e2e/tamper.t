#!/bin/bash
# The ledger of a working property is sealed by the workers while desks post. A superuser edits it; the seals name the
# row. Then the chain is rewritten as well: the head that left the database says so. Seals survive dump and restore.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

mkdir -m 777 "$SM_RUN/told"
setup 'start the server' server_start a --preload "submeter.databases = 'live'" "submeter.workers = 2" "submeter.notice_directory = '$SM_RUN/told'"
setup 'create its database' server_createdb a live
setup 'create a property' property_create a live 1 6
setup 'create another property' property_create a live 2 2
ask a live "UPDATE submeter.duty SET every = '50 ms' WHERE duty = 'seal'; UPDATE submeter.duty_state SET next_at = '-infinity'"
wait_for 30 'the workers are there and seal' answers t a live "SELECT count(*) > 0 FROM submeter.ledger_seal WHERE site_id = 1"

# Four desks at once, some of whose transactions fail, while the workers seal.
desk()
{
	local n
	for ((n = 1; n <= 60; n++)); do
		echo "SELECT submeter.recharge(1, 1001 + ($1 + $n) % 6, 1.25, 'cash', 'desk $1 $n');"
		((n % 7 != 0)) || echo "BEGIN; SELECT submeter.recharge(1, 1001, 99, 'cash', 'void $1 $n'); ROLLBACK;"
		((n % 10 != 0)) || echo "BEGIN; SELECT submeter.adjust(1, 1002, -1, 'x', 'first $1 $n'); SELECT submeter.adjust(1, 1003, 1, 'x', 'second $1 $n'); COMMIT;"
	done | server_psql a live -f - >/dev/null
}
pids=()
for who in 1 2 3 4; do
	desk "$who" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	ok 'a desk works through its day' wait "$pid"
done
all_sealed()
{
	answers t a live "SELECT (SELECT count(*) FROM submeter.transfer WHERE site_id = 1) = (SELECT sum(legs) FROM submeter.ledger_seal WHERE site_id = 1)"
}
wait_for 30 'every movement is sealed' all_sealed
ok 'in more than one block: the workers sealed while the desks posted' answers t a live 'SELECT count(*) > 1 FROM submeter.ledger_seal WHERE site_id = 1'
is "$(ask a live 'SELECT count(*), sum(amount) FROM submeter.transfer WHERE idempotency_key LIKE '"'desk %'")" '240|300.00' 'nothing was lost'
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(1)')" '' 'verify_ledger is empty'
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(2)')" '' 'and at the other site'

# The head is where nobody of this database reaches: in a message.
ask a live "INSERT INTO submeter.head_recipient (site_id, email, name) VALUES (1, 'auditor@example.org', 'Auditor')"
has_message()
{
	compgen -G "$SM_RUN/told/head-1-*.eml" >/dev/null
}
wait_for 30 'the head has left the database' has_message
message=$(find "$SM_RUN/told" -name 'head-1-*.eml' | head -n 1)
check=$(tr -d '\r' <"$message" | grep -o 'SELECT \* FROM submeter.check_head(.*;')
like "$check" "^SELECT \* FROM submeter.check_head\(1, [0-9]+, '[0-9a-f]{64}'\);$" 'with the statement that checks it'
is "$(ask a live "$check" | cut -d'|' -f 1)" t 'which says that all is well'
ask a live "SELECT submeter.recharge(1, 1001, 2, 'cash', 'late')" >/dev/null
wait_for 30 'the next movement is sealed' all_sealed
is "$(find "$SM_RUN/told" -name 'head-*.eml' | wc -l)" 1 'one message a day, though there were more seals'
ask a live 'CREATE ROLE audit LOGIN; GRANT submeter_auditor TO audit; INSERT INTO submeter.site_member (site_id, login) VALUES (1, '"'audit')"
is "$(PGUSER=audit ask a live "$check" | cut -d'|' -f 1)" t 'an auditor may ask'
like "$(PGUSER=audit refused a live "$(echo "$check" | sed 's/(1,/(2,/')")" '^42501' 'but only about their own property'

# From here on nobody is at work: the workers would seal what comes.
setup 'workers off' ask a postgres "ALTER SYSTEM SET submeter.databases = 'none'"
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
setup 'restart' server_stop a
setup 'start again' server_start a

victim=$(ask a live "SELECT transfer_id FROM submeter.transfer WHERE idempotency_key = 'desk 3 30'")
for statement in "UPDATE submeter.transfer SET amount = 1000 WHERE transfer_id = $victim" "DELETE FROM submeter.transfer WHERE transfer_id = $victim" 'TRUNCATE submeter.transfer' \
	'UPDATE submeter.ledger_seal SET amount = 0' 'TRUNCATE submeter.ledger_seal'; do
	like "$(refused a live "$statement")" '^55000' "refused to a superuser: $statement"
	like "$(PGOPTIONS='-c session_replication_role=replica' refused a live "$statement")" '^55000' 'in replica mode too'
done

# The superuser takes the guard away for a moment and puts it back.
deed()
{
	ask a live "BEGIN; ALTER TABLE submeter.transfer DISABLE TRIGGER USER; ALTER TABLE submeter.ledger_seal DISABLE TRIGGER USER;
		$1; ALTER TABLE submeter.transfer ENABLE TRIGGER USER; ALTER TABLE submeter.ledger_seal ENABLE TRIGGER USER; COMMIT" >/dev/null
}
copy_as()
{
	ask a postgres "CREATE DATABASE $1 TEMPLATE $2" && ask a "$1" "SELECT submeter.adopt('to try something')" >/dev/null
}
setup 'edit an amount, with the balance so that the books agree' deed "UPDATE submeter.transfer SET amount = 1001.25 WHERE transfer_id = $victim;
	UPDATE submeter.ledger_account l SET total = total + 1000 FROM submeter.transfer t WHERE t.transfer_id = $victim AND t.site_id = 1 AND l.site_id = 1 AND l.ledger_account_id = t.credit_id"
is "$(ask a live 'SELECT problem, transfer_id, found FROM submeter.verify_ledger(1)')" "sealed movement was changed|$victim|1001.25" 'verify_ledger names the movement, and nothing else'
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(2)')" '' 'the other property is not concerned'
setup 'put it back' deed "UPDATE submeter.transfer SET amount = 1.25 WHERE transfer_id = $victim;
	UPDATE submeter.ledger_account l SET total = total - 1000 FROM submeter.transfer t WHERE t.transfer_id = $victim AND t.site_id = 1 AND l.site_id = 1 AND l.ledger_account_id = t.credit_id"
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(1)')" '' 'then all is well again'

# A thorough one deletes the movement, corrects the balance and makes all seals anew from there.
setup 'copy the database' copy_as forged live
ask a forged "BEGIN; ALTER TABLE submeter.transfer DISABLE TRIGGER USER; ALTER TABLE submeter.ledger_seal DISABLE TRIGGER USER;
	UPDATE submeter.ledger_account l SET total = total - t.amount FROM submeter.transfer t WHERE t.transfer_id = $victim AND t.site_id = 1 AND l.site_id = 1 AND l.ledger_account_id = t.credit_id;
	DELETE FROM submeter.transfer WHERE site_id = 1 AND transfer_id = $victim;
	DELETE FROM submeter.ledger_seal s WHERE site_id = 1 AND last_id >= $victim;
	DELETE FROM submeter.head_export;
	SELECT submeter.seal(1); COMMIT" >/dev/null
is "$(ask a forged 'SELECT * FROM submeter.verify_ledger(1)')" '' 'inside the database nothing is wrong any more'
like "$(ask a forged "$check")" '^f\|seal [0-9]+ has another hash|^f\|the chain has no seal' 'but the head in the message says that the chain was rewritten'

# Dump and restore into a database that speaks otherwise; the chain goes on there.
ok 'dump' server_bin a pg_dump -Fc -f "$SM_RUN/live.dump" live
setup 'create a database' server_createdb a elsewhere --bare
for setting in "timezone = 'America/New_York'" "datestyle = 'SQL, DMY'" "bytea_output = 'escape'" "intervalstyle = 'iso_8601'" 'extra_float_digits = 0' "lc_numeric = 'C'"; do
	ask a postgres "ALTER DATABASE elsewhere SET $setting"
done
is "$(server_bin a pg_restore --exit-on-error -d elsewhere "$SM_RUN/live.dump" 2>&1)" '' 'restore'
is "$(ask a elsewhere 'SHOW timezone')" America/New_York 'it speaks otherwise'
setup 'adopt the copy' ask a elsewhere "SELECT submeter.adopt('moved')" >/dev/null
is "$(ask a elsewhere 'SELECT * FROM submeter.verify_ledger(1)')" '' 'the seals hold there'
is "$(ask a elsewhere "$check" | cut -d'|' -f 1)" t 'and the head of before'
head_before=$(ask a elsewhere 'SELECT seal_no, hash FROM submeter.ledger_head(1)')
ask a elsewhere "SELECT submeter.recharge(1, 1001, 3, 'cash', 'elsewhere')" >/dev/null
is "$(ask a elsewhere 'SELECT submeter.seal(1)')" 1 'what comes is sealed'
is "$(ask a elsewhere "SELECT seal_no - 1, encode(previous, 'hex') FROM submeter.ledger_seal WHERE site_id = 1 ORDER BY seal_no DESC LIMIT 1")" "$head_before" 'in the same chain'
is "$(ask a elsewhere 'SELECT * FROM submeter.verify_ledger(1)')" '' 'and verifies'

done_testing
