# shellcheck shell=bash
# A database, a farm and a poller for end-to-end tests. Source it; it sources the rest. Then
#
#   farm_start "$SM_RUN" <<END ... END       see tests/sim/farm.sh
#   field_start [conf line...]               server "db" with site 1 and the login meter_reader
#   field_gateway ID ADDRESS [column=value]  field_meter ID GATEWAY UNIT MODEL
#   poller_start [option...]                 runs it until poller_stop; log in $POLLER_LOG
#   poller_stop   poller_kill9   poller_running   poller_run [option...] (in the foreground)
#   sql STATEMENT                            as the superuser
#   spool STATEMENT                          in the poller's spool, while it does not run
#   says TEXT COMMAND...                     succeeds when the command prints exactly the text

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/server.sh
. "$here/../lib/server.sh"
# shellcheck source=tests/lib/tap.sh
. "$here/../lib/tap.sh"
# shellcheck source=tests/sim/farm.sh
. "$here/../sim/farm.sh"

POLLER=${SM_POLLER:-$here/../../poller/submeter-poller}
POLLER_LOG=$SM_RUN/poller.log
POLLER_PID=
SPOOL=$SM_RUN/spool

sql()
{
	server_psql db -c "$1"
}

spool()
{
	/usr/bin/sqlite3 "$SPOOL/spool.db" "$@"
}

says()
{
	local want=$1
	shift
	[ "$("$@" 2>/dev/null)" = "$want" ]
}

field_start()
{
	server_start db --preload "$@" || return
	sql 'CREATE EXTENSION submeter CASCADE' >/dev/null 2>&1 || return
	sql 'SELECT submeter.create_storage()' >/dev/null 2>&1 || return
	sql "INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'S1', 'a property');
		CREATE ROLE meter_reader LOGIN; GRANT submeter_poller TO meter_reader;
		INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'meter_reader')"
}

field_gateway()
{
	local id=$1 address=$2 names='' values='' pair
	shift 2
	for pair in "$@"; do
		names+=", ${pair%%=*}"
		values+=", '${pair#*=}'"
	done
	sql "INSERT INTO submeter.gateway (site_id, gateway_id, code, address$names)
		VALUES (1, $id, 'G$id', '$address'$values)"
}

field_meter()
{
	sql "INSERT INTO submeter.meter (site_id, meter_id, code, gateway_id, bus_address, model)
		VALUES (1, $1, 'M$1', $2, '$3', '$4')"
}

poller_dsn()
{
	server_conninfo db | sed 's/user=postgres/user=meter_reader/'
}

poller_run()
{
	"$POLLER" --allow-root --dsn "$(poller_dsn)" --spool "$SPOOL" --name test "$@"
}

poller_start()
{
	"$POLLER" --allow-root --dsn "$(poller_dsn)" --spool "$SPOOL" --name test "$@" \
		>>"$POLLER_LOG" 2>&1 &
	POLLER_PID=$!
}

poller_running()
{
	[ -n "$POLLER_PID" ] && kill -0 "$POLLER_PID" 2>/dev/null
}

poller_stop()
{
	local status=0
	[ -n "$POLLER_PID" ] || return 0
	kill -TERM "$POLLER_PID" 2>/dev/null
	wait "$POLLER_PID" || status=$?
	POLLER_PID=
	return "$status"
}

poller_kill9()
{
	kill -9 "$POLLER_PID"
	wait "$POLLER_PID" 2>/dev/null
	POLLER_PID=
}

# Shows the end of the poller's log when a test failed.
poller_tell()
{
	if ((_tap_failed > 0)); then
		diag "$(tail -n 60 "$POLLER_LOG" 2>/dev/null)"
	fi
}

at_exit farm_stop
at_exit poller_stop
at_exit poller_tell
