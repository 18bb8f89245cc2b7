#!/bin/bash
# Months are closed by the real pg_cron: without our workers, by a job in its own background worker.
# shellcheck source=tests/e2e/life.sh
. "$(dirname "$0")/life.sh"

month_lasts
setup 'start a server' server_start a
setup 'create a database' server_createdb a mall
setup 'stop it' server_stop a
setup 'start it with pg_cron' server_start a "shared_preload_libraries = 'pg_cron,submeter'" "submeter.databases = ''" \
	"cron.database_name = 'mall'" 'cron.use_background_workers = on' 'max_worker_processes = 20'
setup 'create the extension pg_cron' ask a mall 'CREATE EXTENSION pg_cron'

# A shop that was read into this month.
setup 'create a property with a reading in each month' ask a mall "
	INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'mall', 'A mall');
	INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'A tenant');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) VALUES (1, 1, 1, 'a', now() - interval '1 month');
	INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 1, 'm', 'DDS238-2 ZN/SR');
	INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) VALUES (1, 1, 60);
	DO \$\$ BEGIN
		PERFORM submeter.create_partitions(now() - interval '3 months', now() + interval '2 months');
		PERFORM submeter.create_tariff(1, 'flat', '{\"energy\":[{\"price\":1}]}', now() - interval '1 year');
		INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
		SELECT 1, 1, 1, t.tariff_id, tstzrange((submeter.cycle_at(1, (submeter.cycle_at(1, now())).cycle_start - interval '1 day')).cycle_start, NULL) FROM submeter.tariff t;
		PERFORM submeter.ingest(1, ARRAY[jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object('meter_id', 1, 'ts', x.ts, 'energy_wh', x.wh))])
		FROM (SELECT lower(s.during), 1000 FROM submeter.supply s UNION ALL SELECT (submeter.cycle_at(1, now())).cycle_start, 31000) x(ts, wh);
	END \$\$"
is "$(ask a mall 'SELECT count(*) FROM submeter.bill')" 0 'nothing is billed yet'

# In doc/money.md it is '5 0 1 * *'; here nobody wants to wait for the first of the month, and the day is that of the site.
setup 'schedule' ask a mall "SELECT cron.schedule('close', '* * * * *', 'SELECT submeter.close_cycle(site_id, (now() AT TIME ZONE time_zone)::date) FROM submeter.site')"
is "$(ask a mall "SELECT schedule FROM cron.job WHERE jobname = 'close'")" '* * * * *' 'the job is known to pg_cron'
succeeded()
{
	[ "$(ask a mall "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'")" = t ]
}
wait_for 150 'pg_cron ran the job' succeeded
is "$(ask a mall "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'")" 0 'and it did not fail'
is "$(ask a mall "SELECT b.state, b.kwh, b.amount, b.issued_by, b.cycle_end = (submeter.cycle_at(1, now())).cycle_start FROM submeter.bill_statement b")" \
	'issued|30.000|30.00|postgres|t' 'last month is billed'
is "$(ask a mall "SELECT component, kwh, amount FROM submeter.bill_line_statement")" 'energy|30.000|30.00' 'with its line'
is "$(ask a mall 'SELECT billed, posted, rounded FROM submeter.charge WHERE billed IS NOT NULL')" '30.00|30.00|30.00' 'its charge is closed'
ok 'by a process of pg_cron' [ "$(ask a mall "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'submeter worker'")" = 0 ]
is "$(ask a mall 'SELECT * FROM submeter.verify_ledger(1)')" '' 'the ledger is verified'
setup 'unschedule' ask a mall "SELECT cron.unschedule('close')"

done_testing
