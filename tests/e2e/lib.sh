# shellcheck shell=bash
# A whole property for end-to-end tests of failures: server with workers, farm, poller with its own
# login, shops with tenants, accounts and meters. Source it; it sources poller.sh and the rest. Then
#
#   farm_start "$SM_RUN" <<END ... END    the meters, see tests/sim/README.md
#   property_start [conf line...]         server "db" with quick workers, site 1 in mode automatic,
#                                         notices into files, a flat tariff of PRICE per kWh
#   gateway ID PORT [INTERVAL]            a port of the farm, read every 300 ms unless told
#   shop ID GATEWAY UNIT [MONEY]          tenant, contact, account, meter and supply number ID; its meter
#                                         is taken over as in service, unless UNPROVED is set
#   shops FIRST LAST GATEWAY [MONEY]      the same as units FIRST to LAST of that gateway
#   debit ACCOUNT AVAILABLE               makes the available balance this, by an adjustment
#   recharge ACCOUNT AMOUNT               open_breaker METER [SQL arguments]  (prints the command)
#   true_in SECONDS 'what' QUERY          waits until the query says t
#   is_sql QUERY WANT 'what'
#   is_dark PORT UNIT, is_lit PORT UNIT   what the meter itself says
#   writes PORT UNIT                      how many writes that meter ever got
#   command_state ID                      state of a command
#   taken_in_turns 'what'                 what was confirmed of a meter is open, close, open, close...
#   spooled                               rows in the spool of a poller that may be running
#   spool_list                            "meter milliseconds" of each of them
#   lacking FILE                          how many readings of such a list the database lacks
#   poller_backend, worker_backend        their process numbers
#   hold_readings, release_readings       nobody can store readings in between
#   clock                                 the time now, also while the server is down
#   no_gap SECONDS FROM TO METERS 'what'  readings of these meters in that time are never further apart
#   books 'when'                          all read is charged, once; nothing suspect; ledger verified
#
# Everything that is waited for has a ceiling and no fixed sleep.

# shellcheck source=tests/e2e/poller.sh
. "$(dirname "${BASH_SOURCE[0]}")/poller.sh"

PRICE=2.50
MODEL='DDS238-2 ZN/SR'
HELD=
UNPROVED=

property_start()
{
	mkdir -p "$SM_RUN/notices" && _sm_give "$SM_RUN/notices" || return
	field_start "submeter.databases = 'postgres'" 'submeter.naptime = 20ms' \
		"submeter.notice_directory = '$SM_RUN/notices'" "$@" || return
	sql "UPDATE submeter.duty SET every = '100 ms' WHERE duty IN ('settle', 'switching', 'policy', 'notices');
		UPDATE submeter.site SET locale = 'en';
		UPDATE submeter.credit_policy SET mode = 'automatic', low_balances = '{}', notice_lead = '0 s', no_trip_windows = '[]',
			window_spread = '0 s', close_stagger = '0 s', max_switchings_per_day = 1000, mass_trip_min = 100;
		DO \$\$ BEGIN PERFORM submeter.create_tariff(1, 'flat', '{\"energy\": [{\"price\": $PRICE}]}', now() - interval '40 days'); END \$\$" ||
		return
	# A worker that has just found no extension looks again after 5 s; a fresh one is quicker.
	sql "DO \$\$ BEGIN PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'submeter worker'; END \$\$"
	true_now 60 "SELECT bool_and(done > 0) FROM submeter.duty_state"
}

gateway()
{
	local id=$1 port=$2 interval=${3:-300 ms}
	field_gateway "$id" "127.0.0.1:$(farm_port "$port")" timeout_ms=300 gap_ms=0 "poll_interval=$interval"
}

shop()
{
	local id=$1
	field_meter "$id" "$2" "$3" "$MODEL" || return
	sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, $id, 'T$id', 'Shop $id');
		INSERT INTO submeter.contact (site_id, tenant_id, name) VALUES (1, $id, 'owner of shop $id');
		INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, $id, $id, 'A$id');
		INSERT INTO submeter.meter_setup (site_id, meter_id, rated_current_a) VALUES (1, $id, 10000);
		INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during)
		SELECT 1, $id, $id, t.tariff_id, tstzrange(now() - interval '30 days', NULL) FROM submeter.tariff t" || return
	[ -n "$UNPROVED" ] || sql "DO \$\$ BEGIN PERFORM submeter.adopt_meters(1, '{$id}', 'taken over'); END \$\$" || return
	[ -z "${4:-}" ] || recharge "$id" "$4"
}

shops()
{
	local id
	for ((id = $1; id <= $2; id++)); do
		shop "$id" "$3" "$id" "${4:-}" || return
	done
}

debit()
{
	sql "DO \$\$ BEGIN PERFORM submeter.adjust(1, $1, $2 - submeter.balance(1, $1), 'test', gen_random_uuid()::text); END \$\$"
}

recharge()
{
	sql "DO \$\$ BEGIN PERFORM submeter.recharge(1, $1, $2, 'cash', gen_random_uuid()::text); END \$\$"
}

open_breaker()
{
	sql "SELECT submeter.request_command(1, $1, 'open', 'test', 'operator'${2:+, $2})"
}

close_breaker()
{
	sql "SELECT submeter.request_command(1, $1, 'close', 'test')"
}

sql_true()
{
	says t sql "$1"
}

true_now()
{
	wait_until "$1" sql_true "$2"
}

true_in()
{
	wait_for "$1" "$2" sql_true "$3"
}

is_sql()
{
	is "$(sql "$1" 2>&1)" "$2" "$3"
}

is_dark()
{
	says open farm get "$1" "$2" relay
}

is_lit()
{
	says closed farm get "$1" "$2" relay
}

writes()
{
	farm get "$1" "$2" writes
}

command_state()
{
	sql "SELECT state FROM submeter.command WHERE command_id = $1"
}

taken_in_turns()
{
	is_sql "SELECT count(*) FROM (
			SELECT action, lag(action, 1, 'close') OVER (PARTITION BY meter_id ORDER BY command_id) AS before
			FROM submeter.command WHERE state = 'confirmed') c
		WHERE c.action = c.before" 0 "$1"
}

spool_busy()
{
	/usr/bin/sqlite3 -readonly -cmd '.timeout 5000' "$SPOOL/spool.db" "$1"
}

spooled()
{
	spool_busy 'SELECT count(*) FROM reading'
}

spooled_more_than()
{
	local count
	count=$(spooled 2>/dev/null) && [ "$count" -gt "$1" ]
}

spool_list()
{
	spool_busy "SELECT meter_id || ' ' || ts_ms FROM reading"
}

lacking()
{
	local values
	values=$(sed 's/\(.*\) \(.*\)/(\1::bigint, \2::bigint),/' "$1")
	[ -n "$values" ] || { echo 0; return; }
	# Through a pipe: a list may be longer than an argument.
	server_psql db <<END
SELECT count(*) FROM (VALUES ${values%,}) v(meter_id, ms)
WHERE NOT EXISTS (SELECT FROM submeter.reading r WHERE r.site_id = 1 AND r.meter_id = v.meter_id
	AND r.ts = to_timestamp(0) + v.ms * interval '1 ms')
END
}

poller_backend()
{
	sql "SELECT pid FROM pg_stat_activity WHERE application_name = 'submeter-poller' ORDER BY backend_start LIMIT 1"
}

worker_backend()
{
	sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'submeter worker' LIMIT 1"
}

# Another process than this one works in its place.
new_pid()
{
	local pid
	pid=$("$1" 2>/dev/null) && [ -n "$pid" ] && [ "$pid" != "$2" ]
}

hold_readings()
{
	mkfifo "$SM_RUN/hold" 2>/dev/null
	server_psql db <"$SM_RUN/hold" >/dev/null &
	HELD=$!
	exec 8>"$SM_RUN/hold"
	echo 'BEGIN; LOCK TABLE submeter.reading IN EXCLUSIVE MODE;' >&8
	true_now 20 "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'ExclusiveLock' AND granted
		AND relation = 'submeter.reading'::regclass)"
}

release_readings()
{
	echo 'COMMIT;' >&8
	exec 8>&-
	wait "$HELD"
	HELD=
}

clock()
{
	date -u '+%F %T.%3N+00'
}

# The ends of the time count as readings, so that a meter without any fails as well.
no_gap()
{
	is_sql "SELECT string_agg(format('meter %s: %s before %s', g.meter_id, g.gap, g.ts), '; ') FROM (
			SELECT t.meter_id, t.ts, t.ts - lag(t.ts) OVER (PARTITION BY t.meter_id ORDER BY t.ts) AS gap
			FROM (
				SELECT r.meter_id, r.ts FROM submeter.reading r WHERE r.site_id = 1 AND r.ts >= '$2' AND r.ts < '$3'
				UNION ALL SELECT m.meter_id, x.ts FROM submeter.meter m, (VALUES ('$2'::timestamptz), ('$3')) x(ts)) t
			WHERE t.meter_id IN ($4)) g
		WHERE g.gap > interval '$1 s'" '' "$5"
}

# What was charged against what the registers moved by: each account has one meter here, with
# multiplier 1, that feeds it from its first reading on.
miscounted()
{
	sql "SELECT coalesce(string_agg(format('account %s: read %s Wh, charged %s Wh', m.meter_id, m.wh, coalesce(c.wh, 0)), '; ')
			FILTER (WHERE m.wh <> coalesce(c.wh, 0)), CASE WHEN sum(c.wh) > 0 THEN 'all charged' ELSE 'nothing charged' END)
		FROM (SELECT r.meter_id, max(r.energy_wh) - min(r.energy_wh) AS wh FROM submeter.reading r WHERE r.site_id = 1 GROUP BY 1) m
		LEFT JOIN (SELECT c.account_id, sum(c.energy_wh) AS wh FROM submeter.charge c WHERE c.site_id = 1 GROUP BY 1) c
			ON c.account_id = m.meter_id"
}

books()
{
	local when=$1
	poller_running || poller_start
	wait_for 30 "$when: the spool is empty" says 0 spooled
	poller_stop
	wait_for 30 "$when: every watt-hour read is charged, and once" says 'all charged' miscounted
	is_sql 'SELECT count(*) FROM submeter.reading_suspect' 0 "$when: nothing is suspect"
	[ -z "$PRICE" ] || is_sql "SELECT count(*) FROM submeter.charge WHERE rounded <> round(energy_wh * $PRICE / 1000, 2)" 0 "$when: at the right price"
	sql 'SELECT submeter.post_charges(1)' >/dev/null
	is_sql 'SELECT count(*) FROM submeter.charge WHERE posted <> rounded' 0 "$when: the charges are posted"
	is_sql 'SELECT submeter.post_charges(1)' 0 "$when: a second posting posts nothing"
	is_sql 'SELECT * FROM submeter.verify_ledger(1)' '' "$when: the ledger is verified"
	is_sql "SELECT duty, error FROM submeter.duty_state WHERE failures > 0" '' "$when: no duty fails"
}
