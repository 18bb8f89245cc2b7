#!/bin/bash
# A next version that changes tables and a function arrives while the system works. Between ALTER
# EXTENSION UPDATE and create_storage() nothing moves; afterwards all goes on with the data it had,
# and the database is the same as one that began with the new version.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

prefix=$SM_RUN/next
setup 'make a prefix of its own' prefix_create "$prefix"
files=$(prefix_extension "$prefix")

# Version 1.1: a column, an index and a comment in the storage, a new body for a function and a new
# function in the code. The same text ends the install script of 1.1 and makes the update script.
change()
{
	cat <<'SQL'
INSERT INTO submeter.storage_step (version, ddl)
VALUES (2, $step$
ALTER TABLE submeter.unit ADD COLUMN floor int NOT NULL DEFAULT 1;
COMMENT ON COLUMN submeter.unit.floor IS 'floor it is on';
CREATE INDEX unit_floor ON submeter.unit (site_id, floor);
UPDATE submeter.unit SET floor = substr(code, 1, 1)::int WHERE code ~ '^[0-9]';
$step$);
CREATE OR REPLACE FUNCTION submeter.require_text(argument text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF require_text.value IS NULL OR btrim(require_text.value) = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is missing', require_text.argument), HINT = 'Say it in 1.1 words.';
	END IF;
END
$$;
CREATE FUNCTION submeter.floors(site_id int) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT count(*) FROM submeter.unit u WHERE u.site_id = floors.site_id $$;
COMMENT ON FUNCTION submeter.floors(int) IS 'test';
REVOKE ALL ON FUNCTION submeter.floors(int) FROM PUBLIC;
SQL
}
{ echo '\echo Use "ALTER EXTENSION submeter UPDATE" to load this file. \quit'; change; } >"$files/submeter--1.0--1.1.sql"
{ cat "$files/submeter--1.0.sql"; change; } >"$files/submeter--1.1.sql"

read -r -d '' SHAPE <<'SQL'
SELECT 'member', pg_describe_object(classid, objid, objsubid) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'submeter') AND deptype = 'e' ORDER BY 2;
SELECT 'function', p.oid::regprocedure::text, r.rolname, p.prosecdef, p.proconfig::text, p.proacl::text, md5(p.prosrc)
FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'submeter'::regnamespace ORDER BY 2;
SELECT 'table', c.relname, c.relkind, r.rolname, c.relrowsecurity, c.relacl::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relnamespace = 'submeter'::regnamespace AND c.relname !~ '^reading_[0-9]' ORDER BY 2;
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'submeter'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v')
	AND c.relname !~ '^reading_[0-9]' ORDER BY 2, 3;
SELECT 'trigger', tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text !~ 'reading_[0-9]' ORDER BY 2, 3;
SELECT 'policy', tablename, policyname, roles, qual FROM pg_policies WHERE schemaname = 'submeter' ORDER BY 2, 3;
SELECT 'storage', submeter.storage_version();
SQL

setup 'start a server' server_start a --preload --prefix="$prefix" "submeter.databases = 'live'"
setup 'create its database' server_createdb a live
setup 'create a property' property_create a live 1 4
ask a live "INSERT INTO submeter.unit (site_id, code) VALUES (1, '201'), (1, '312'), (1, 'roof')"
setup 'read the meters' property_read a live 1 2026-02-01 2026-02-08 >/dev/null
wait_for 30 'the workers settle' property_is_settled a live
wait_for 30 'and post' answers 4 a live "SELECT count(*) FROM submeter.transfer WHERE kind = 'charge'"
setup 'queue a command' ask a live "SELECT submeter.request_command(1, 1001, 'open', 'test')" >/dev/null
setup 'read on' property_read a live 1 2026-02-08 2026-02-09 >/dev/null
wait_for 30 'all is settled before the update' property_is_settled a live
money=$(property_money a live)
facts=$(property_facts a live)
duties_done()
{
	ask a live "SELECT sum(done) FROM submeter.duty_state"
}

setup 'update the code' ask a live 'ALTER EXTENSION submeter UPDATE TO '\''1.1'\'
is "$(ask a live "SELECT extversion FROM pg_extension WHERE extname = 'submeter'")" 1.1 'ALTER EXTENSION UPDATE'
is "$(ask a live 'SELECT submeter.storage_version(), submeter.is_awake()')" '1|f' 'the storage is of the old version and rests'
outdated='55000 Run SELECT submeter.create_storage() as administrator. '
while IFS='|' read -r what statement; do
	is "$(refused a live "$statement")" "$outdated" "between the two is refused: $what"
done <<'SQL'
ingest|SELECT submeter.ingest(1, '{}')
settle|SELECT submeter.settle()
post_charges|SELECT submeter.post_charges(1)
recharge|SELECT submeter.recharge(1, 1001, 10, 'cash', 'between')
judge_reading|SELECT submeter.judge_reading(1, 1001, '2026-02-03', 'withdraw', 'why')
apply_policy|SELECT submeter.apply_policy(1)
run_duties|SELECT submeter.run_duties()
one duty|SELECT submeter.run_duty(1, 'switching', now())
request_command|SELECT submeter.request_command(1, 1002, 'open', 'test')
claim_commands|SELECT * FROM submeter.claim_commands('p', 10)
the plan of the poller|SELECT * FROM submeter.poller_meters()
balance|SELECT submeter.balance(1, 1001)
verify_ledger|SELECT * FROM submeter.verify_ledger(1)
SQL

# A worker that looks (its idle time starts anew) does nothing.
worker_looked()
{
	[ "$(ask a live "SELECT max(state_change) > '$1' FROM pg_stat_activity WHERE backend_type = 'submeter worker'")" = t ]
}
look=$(ask a live 'SELECT clock_timestamp()')
wait_for 30 'a worker looks' worker_looked "$look"
done_before=$(duties_done)
look=$(ask a live 'SELECT clock_timestamp()')
wait_for 30 'and looks again' worker_looked "$look"
is "$(duties_done)" "$done_before" 'but runs no duty'
is "$(property_facts a live)" "$facts" 'no charge, usage or movement changed'
is "$(ask a live "SELECT state FROM submeter.command")" queued 'the command waits'

ask a live "CREATE ROLE anybody LOGIN; GRANT submeter_admin TO anybody"
is "$(PGUSER=anybody refused a live 'SELECT submeter.create_storage()')" '42501 ' 'only the administrator of the database migrates'
is "$(ask a live 'SELECT submeter.create_storage()')" 2 'create_storage() migrates'
is "$(ask a live 'SELECT submeter.create_storage()')" 2 'and once more does nothing'
is "$(ask a live 'SELECT submeter.storage_version(), submeter.is_awake()')" '2|t' 'the storage is of the new version and awake'
is "$(ask a live "SELECT code, floor FROM submeter.unit ORDER BY 1" | tr '\n' ' ')" '201|2 312|3 roof|1 ' 'rows were taken along'
is "$(property_money a live)" "$money" 'every balance is what it was'
is "$(property_facts a live)" "$facts" 'and every charge, day and movement'
is "$(ask a live 'SELECT submeter.floors(1)')" 3 'the new function works'
is "$(refused a live "SELECT submeter.recharge(1, 1001, 1, 'cash', '')")" '22023 Say it in 1.1 words. ' 'and the changed one'

setup 'read on' property_read a live 1 2026-02-09 2026-02-11 >/dev/null
wait_for 30 'the same workers go on' property_is_settled a live
isnt "$(property_money a live)" "$money" 'balances fall again'
is "$(ask a live "SELECT meter_id, step FROM submeter.claim_commands('p', 10)")" '1001|switch' 'the command that waited is given out'
is "$(ask a live "SELECT submeter.recharge(1, 1001, 5, 'cash', 'after') = submeter.recharge(1, 1001, 5, 'cash', 'after')")" t 'money comes in, once'

# A property that began with the new version has the same tables, code and money.
setup 'make a fresh database' server_createdb a fresh --bare
setup 'of the new version' ask a fresh "SET client_min_messages = warning; CREATE EXTENSION submeter VERSION '1.1' CASCADE; SELECT submeter.create_storage()" >/dev/null
ok 'a fresh install of 1.1 has the same members, tables, columns, triggers and policies' \
	diff <(ask a live "$SHAPE") <(ask a fresh "$SHAPE")
setup 'create the same property' property_create a fresh 1 4
setup 'with the same readings' property_read a fresh 1 2026-02-01 2026-02-11 >/dev/null
ask a fresh "SELECT submeter.recharge(1, 1001, 5, 'cash', 'after'); SELECT submeter.settle(1)" >/dev/null
is "$(property_money a fresh | cut -d'|' -f 1,2,5)" "$(property_money a live | cut -d'|' -f 1,2,5)" 'and comes to the same balances'
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(1)')" '' 'verify_ledger is empty'
is "$(ask a fresh 'SELECT * FROM submeter.verify_ledger(1)')" '' 'in both'

# An update script that fails leaves the old version at work.
{ change | sed 's/VALUES (2,/VALUES (3,/'; } >"$files/submeter--1.1--1.2.sql"
{ echo "SELECT 1/0;"; } >>"$files/submeter--1.1--1.2.sql"
ok 'a broken update is refused' test "$(refused a live "ALTER EXTENSION submeter UPDATE TO '1.2'")" != ''
is "$(ask a live 'SELECT submeter.is_awake()')" t 'and the version before works on'
# A migration that fails leaves the old storage as it was, asleep, with its data.
echo "INSERT INTO submeter.storage_step VALUES (3, 'DROP TABLE submeter.read_request; SELECT 1/0');" >"$files/submeter--1.1--1.2.sql"
ask a live "ALTER EXTENSION submeter UPDATE TO '1.2'"
like "$(refused a live 'SELECT submeter.create_storage()')" '^22012' 'a migration that fails says so'
is "$(ask a live "SELECT submeter.storage_version(), to_regclass('submeter.read_request')")" '2|submeter.read_request' 'and takes all of itself back'
is "$(refused a live "SELECT submeter.settle()")" "$outdated" 'nothing works until it succeeds'
ask a live "UPDATE submeter.storage_step SET ddl = 'SELECT 1' WHERE version = 3; SELECT submeter.create_storage()" >/dev/null
is "$(ask a live 'SELECT submeter.is_awake()')" t 'then all does'
is "$(ask a live 'SELECT * FROM submeter.verify_ledger(1)')" '' 'with every account in order'

done_testing
