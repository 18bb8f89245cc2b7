#!/bin/bash
# Background workers: two databases with two sites each, a site that fails, workers that are
# ended, databases that come and go. Whatever happens to one, the others go on.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

setup 'start a server' server_start a --preload "submeter.databases = 'one, two, later'" "submeter.workers = 2" "submeter.naptime = 50ms"
setup 'create a database' server_createdb a one
setup 'create another' server_createdb a two
setup 'and one that has no extension yet' server_createdb a later --bare
for db in one two; do
	setup 'create a property' property_create a "$db" 1 3
	setup 'create another property' property_create a "$db" 2 3
done

# read_all DB HOUR: one hour of readings of both sites of a database.
read_hour()
{
	local from to
	from=$(date -u -d "2026-02-01 + $2 hours" +'%F %H:%M')
	to=$(date -u -d "$from UTC + 1 hour" +'%F %H:%M')
	property_read a "$1" 1 "$from" "$to" >/dev/null && property_read a "$1" 2 "$from" "$to" >/dev/null
}
has_workers()
{
	[ "$(worker_pids a "$1" | wc -l)" -ge "$2" ]
}
# duty DB SITE DUTY COLUMN...
duty()
{
	ask a "$1" "SELECT $4 FROM submeter.duty_state WHERE site_id = $2 AND duty = '$3'"
}
duty_is()
{
	[ "$(duty "$1" "$2" "$3" "$4")" = "$5" ]
}

# Two databases, two sites, nobody calls a duty.
for db in one two later; do
	wait_for 30 "two workers look after database $db" has_workers "$db" 2
done
for db in one two; do
	setup 'read' read_hour "$db" 0
	for site in 1 2; do
		wait_for 30 "site $site of $db is settled" property_is_settled a "$db" "$site"
	done
	wait_for 30 "every duty of $db has run" answers 0 a "$db" "SELECT count(*) FROM submeter.duty_state WHERE done = 0"
	is "$(ask a "$db" "SELECT sum(failures) FROM submeter.duty_state")" 0 'and none failed'
done
is "$(ask a later 'SELECT 1')" 1 'a database without the extension is left alone'

# A site whose rows cannot be written. Its failures are noted with growing waits; others go on.
ask a one "CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''poison at site %'', NEW.site_id; END';
	CREATE TRIGGER poison BEFORE INSERT OR UPDATE ON submeter.usage_day FOR EACH ROW WHEN (NEW.site_id = 2) EXECUTE FUNCTION public.poison()"
setup 'read' read_hour one 1
setup 'read' read_hour two 1
failed()
{
	[ "$(duty one 2 settle failures)" -ge "$1" ]
}
wait_for 30 'the poisoned site fails' failed 1
is "$(duty one 2 settle error)" 'P0001: poison at site 2' 'the error is on record'
wait_for 30 'the other site of the database is settled' property_is_settled a one 1
wait_for 30 'the other database too' property_is_settled a two
wait=$(duty one 2 settle 'extract(epoch FROM next_at - failed_at)::int')
wait_for 60 'it fails again and again' failed 4
ok 'and waits longer each time' test "$(duty one 2 settle 'extract(epoch FROM next_at - failed_at)::int')" -ge $((wait * 2))
policy_done=$(duty one 2 policy 'done')
policy_ran()
{
	[ "$(duty one 2 policy 'done')" -gt "$policy_done" ]
}
wait_for 30 'other duties of the poisoned site run' policy_ran
is "$(ask a one "SELECT count(*) FROM submeter.charge c JOIN submeter.meter_settled s ON s.site_id = c.site_id WHERE c.site_id = 2 AND c.settled_to > s.settled_to")" \
	0 'nothing of the failed settlement stayed'
setup 'read' read_hour one 2
wait_for 30 'the other site is still settled' property_is_settled a one 1
ask a one 'DROP TRIGGER poison ON submeter.usage_day'
wait_for 60 'without the poison it recovers by itself' property_is_settled a one 2
is "$(duty one 2 settle 'failures, error')" '0|' 'and the failures are forgotten'

# A worker that hangs in one site's duty does not keep its colleague from the other site.
coproc HOLDER { server_psql a one; }
echo "BEGIN; SELECT 'held' FROM submeter.charge WHERE site_id = 1 FOR UPDATE LIMIT 1;" >&"${HOLDER[1]}"
read -r -t 20 held <&"${HOLDER[0]}"
is "$held" held 'somebody holds rows of site 1'
setup 'read' read_hour one 3
hangs()
{
	[ -n "$(hanging)" ]
}
hanging()
{
	ask a one "SELECT pid FROM pg_stat_activity WHERE backend_type = 'submeter worker' AND wait_event_type = 'Lock' AND datname = 'one'"
}
wait_for 30 'a worker hangs in site 1' hangs
wait_for 30 'its colleague settles site 2' property_is_settled a one 2
is "$(ask a one "SELECT query FROM pg_stat_activity WHERE pid = $(hanging)")" 'settle of site 1' 'pg_stat_activity says what it does'
is "$(ask a one "SELECT submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input,
	'{\"meter_id\":1001,\"ts\":\"2026-02-01T00:07:00Z\"}')])")" 1 'readings come in meanwhile'
like "$(ask a one 'SELECT submeter.run_duties()')" '^[01]$' 'run_duties() does not wait for ever for what a worker has in hand'
wait_for 30 'the worker tries again' hangs

# Ended in the middle of it: the duty is rolled back, another worker comes and does it.
victim=$(hanging)
is "$(ask a one "SELECT pg_terminate_backend($victim)")" t 'the hanging worker is terminated'
gone()
{
	! worker_pids a | grep -qx "$1"
}
wait_for 20 'it ends' gone "$victim"
wait_for 30 'another one starts in its place' has_workers one 2
wait_for 30 'and hangs at the same place' hangs
echo 'COMMIT;' >&"${HOLDER[1]}"
wait_for 30 'once the rows are free, site 1 is settled' property_is_settled a one 1
ask a one "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'submeter worker'" >/dev/null
setup 'read' read_hour one 4
wait_for 40 'after all workers were terminated the sites are settled' property_is_settled a one
wait_for 40 'those of the other database are back too' has_workers two 2

# A duty that takes too long is stopped, and the stop is on record.
ask a postgres "ALTER SYSTEM SET submeter.duty_timeout = '300ms'"
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
echo "BEGIN; SELECT 'again' FROM submeter.charge WHERE site_id = 1 FOR UPDATE LIMIT 1;" >&"${HOLDER[1]}"
read -r -t 20 held <&"${HOLDER[0]}"
setup 'read' read_hour one 5
timed_out()
{
	[[ "$(duty one 1 settle error)" == 57014:* ]]
}
wait_for 30 'a duty that takes longer than submeter.duty_timeout is stopped' timed_out
echo 'COMMIT;' >&"${HOLDER[1]}"
echo '\q' >&"${HOLDER[1]}"
ask a postgres 'ALTER SYSTEM RESET submeter.duty_timeout'
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
wait_for 60 'and done later' property_is_settled a one

# A reload changes how long workers nap: two rounds within a nap of a minute cannot both be awaited.
ask a postgres "ALTER SYSTEM SET submeter.naptime = '60s'"
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
naps()
{
	[ "$(ask a one "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'submeter worker' AND datname = 'one' AND state_change < now() - interval '3 s'")" = 2 ]
}
wait_for 30 'workers take long naps when told so' naps
ask a postgres "ALTER SYSTEM SET submeter.naptime = '20ms'"
ask a postgres 'SELECT pg_reload_conf()' >/dev/null
for hour in 6 7 8; do
	setup 'read' read_hour one "$hour"
	wait_for 15 'and short ones' property_is_settled a one
done

# Databases come and go beside them.
ask a postgres 'CREATE DATABASE stranger'
ok 'a database that is not theirs can be dropped' ask a postgres 'DROP DATABASE stranger'
ok 'and made from a template' ask a postgres 'CREATE DATABASE stranger TEMPLATE template1'
setup 'install the extension' ask a later "SET client_min_messages = warning; CREATE EXTENSION submeter CASCADE" >/dev/null
is "$(ask a later 'SELECT submeter.is_awake()')" f 'code alone wakes nobody'
setup 'create the storage' ask a later "SELECT submeter.create_storage()" >/dev/null
setup 'create a property' property_create a later 1 2
setup 'read' property_read a later 1 2026-02-01 2026-02-02 >/dev/null
wait_for 30 'an extension that comes later is served without a restart' property_is_settled a later
ok 'their own database can be dropped by force' ask a postgres 'DROP DATABASE later WITH (FORCE)'
setup 'read' read_hour two 9
wait_for 20 'which disturbs no other' property_is_settled a two
setup 'create it again' server_createdb a later
setup 'create a property' property_create a later 1 2
setup 'read' property_read a later 1 2026-02-01 2026-02-02 >/dev/null
wait_for 40 'and they come back to it' property_is_settled a later
is "$(grep -c 'was terminated by signal\|PANIC\|TRAP' "$(server_log a)")" 0 'no process crashed'
for db in one two later; do
	for site in $(ask a "$db" 'SELECT site_id FROM submeter.site'); do
		is "$(ask a "$db" "SELECT * FROM submeter.verify_ledger($site)")" '' "verify_ledger is empty at site $site of $db"
	done
done

done_testing
