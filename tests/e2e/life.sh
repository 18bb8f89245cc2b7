# shellcheck shell=bash
# What the tests on the life of a database share: a property whose meters are read by statements, so
# that every step is known, and questions about it. Source it; it sources server.sh and tap.sh.
# SERVER is the name of a private server, DB a database of it.
#
#   ask SERVER DB STATEMENT                   the answer as text; errors go to stderr
#   refused SERVER DB STATEMENT               sqlstate and hint of the error it must give
#   answers WANT SERVER DB STATEMENT          true when the answer is exactly WANT
#   property_create SERVER DB SITE TENANTS    site, tariff, and for each tenant account, meter and money
#   property_read SERVER DB SITE FROM TO      a reading of every meter for each quarter in [FROM, TO)
#   property_read_now SERVER DB SITE          one reading of every meter, now
#   property_account SITE TENANT              account_id, property_meter likewise
#   property_is_settled SERVER DB [SITE]      true when nothing waits to be settled
#   property_money SERVER DB                  every account: posted, accrued, available
#   property_facts SERVER DB                  every charge, day of usage and movement
#   worker_pids SERVER [DB]                   pids of our workers

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/server.sh
. "$here/../lib/server.sh"
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"

ask()
{
	server_psql "$1" "$2" -c "$3"
}

refused()
{
	server_psql "$1" "$2" -v VERBOSITY=verbose -c "$3" 2>&1 >/dev/null |
		sed -n 's/^.*ERROR:  \([0-9A-Z]\{5\}\): .*/\1/p; s/^.*HINT:  //p' | tr '\n' ' '
}

answers()
{
	[ "$(ask "$2" "$3" "$4" 2>/dev/null)" = "$1" ]
}

property_account()
{
	echo $(($1 * 1000 + $2))
}

property_meter()
{
	echo $(($1 * 1000 + $2))
}

# Numbers are chosen here, so that a test can name them: account and meter are site x 1000 + tenant.
property_create()
{
	local server=$1 db=$2 site=$3 tenants=$4
	server_psql "$server" "$db" -o /dev/null -v site="$site" -v tenants="$tenants" <<'SQL'
BEGIN;
-- Workers that find nothing to post yet look again soon, not after a minute.
UPDATE submeter.duty SET every = '200 ms' WHERE duty = 'post';
-- The readings are of February: workers would close the months since then on estimates.
INSERT INTO submeter.site (site_id, code, name, close_cycles) VALUES (:site, 'S' || :site, 'a property', false);
UPDATE submeter.credit_policy SET no_trip_windows = '[]', low_balances = '{}' WHERE site_id = :site;
SELECT submeter.create_partitions('2026-01-30', '2026-04-01');
SELECT submeter.create_tariff(:site, 'shop', '{"tiers":{"cycle":"month","mode":"graduated","bounds":[{"upto_kwh":[30,60]}]},
	"energy":[{"tier":1,"price":0.589},{"tier":2,"price":0.639},{"price":0.889}]}', '2020-01-01') AS tariff \gset
INSERT INTO submeter.gateway (site_id, gateway_id, code, address)
VALUES (:site, :site, 'G1', '127.0.0.1:9');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name)
SELECT :site, :site * 1000 + n, 'T' || n, 'tenant ' || n FROM generate_series(1, :tenants) n;
INSERT INTO submeter.contact (site_id, tenant_id, name, phone)
SELECT site_id, tenant_id, 'owner', '13800000000' FROM submeter.tenant WHERE site_id = :site;
INSERT INTO submeter.account (site_id, account_id, tenant_id, code)
SELECT site_id, tenant_id, tenant_id, 'A' || code FROM submeter.tenant WHERE site_id = :site;
INSERT INTO submeter.meter (site_id, meter_id, code, model, gateway_id, bus_address)
SELECT site_id, tenant_id, 'M' || code, 'DDS238-2 ZN/SR', :site, tenant_id % 1000 FROM submeter.tenant WHERE site_id = :site;
INSERT INTO submeter.meter_setup (site_id, meter_id, multiplier, rated_current_a)
SELECT site_id, meter_id, 1, 400 FROM submeter.meter WHERE site_id = :site;
SELECT submeter.adopt_meters(:site, NULL, 'taken over');
INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
SELECT site_id, meter_id, meter_id, :tariff, '[2026-01-31 16:00+00,)' FROM submeter.meter WHERE site_id = :site;
SELECT submeter.recharge(site_id, account_id, 200 + account_id % 1000, 'cash', 'first:' || account_id)
FROM submeter.account WHERE site_id = :site;
COMMIT;
SQL
}

# The register is a function of meter and time alone: whoever reads again reads the same.
property_register()
{
	echo "(1000000 + floor(extract(epoch FROM $1 - timestamptz '2026-01-01') / 900) * (150 + m.meter_id % 1000 * 7))::bigint"
}

property_read()
{
	ask "$1" "$2" "SELECT submeter.ingest($3, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object(
			'meter_id', m.meter_id, 'ts', t.ts, 'energy_wh', $(property_register t.ts), 'relay', 'closed')) ORDER BY m.meter_id, t.ts))
		FROM submeter.meter m CROSS JOIN generate_series('$4'::timestamptz, '$5'::timestamptz - interval '1 s', interval '15 min') t(ts)
		WHERE m.site_id = $3"
}

property_read_now()
{
	ask "$1" "$2" "SELECT submeter.ingest($3, array_agg(jsonb_populate_record(NULL::submeter.reading_input, jsonb_build_object(
			'meter_id', m.meter_id, 'ts', t.ts, 'energy_wh', $(property_register t.ts), 'relay', 'closed'))))
		FROM submeter.meter m CROSS JOIN clock_timestamp() t(ts) WHERE m.site_id = $3"
}

# A cycle that was closed on an estimate is settled beyond the last reading.
property_is_settled()
{
	answers 0 "$1" "$2" "SELECT count(*) FROM submeter.meter m
		LEFT JOIN submeter.meter_settled s USING (site_id, meter_id)
		LEFT JOIN submeter.meter_dirty d USING (site_id, meter_id)
		JOIN submeter.meter_state l USING (site_id, meter_id)
		WHERE ${3:+m.site_id = $3 AND} l.valid_ts IS NOT NULL
			AND (s.settled_to IS NULL OR s.settled_to < l.valid_ts OR d.seq > coalesce(s.seq, 0))"
}

property_money()
{
	ask "$1" "$2" "SELECT s.site_id, b.account_id, b.posted, b.accrued, b.available
		FROM submeter.site s CROSS JOIN LATERAL submeter.account_balances(s.site_id) b ORDER BY 1, 2"
}

property_facts()
{
	ask "$1" "$2" "SELECT 'charge', site_id, account_id, tariff_id, cycle_start, settled_to, energy_wh, amount, rounded, posted
			FROM submeter.charge ORDER BY 2, 3, 4, 5;
		SELECT 'usage', site_id, meter_id, day, energy_wh, hour_wh FROM submeter.usage_day ORDER BY 2, 3, 4;
		SELECT 'transfer', site_id, transfer_id, leg, account_id, kind, amount, idempotency_key, posted_at FROM submeter.transfer ORDER BY 2, 3, 4"
}

worker_pids()
{
	server_psql "$1" -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'submeter worker'${2:+ AND datname = '$2'} ORDER BY pid"
}
