# shellcheck shell=bash
# Private PostgreSQL servers for tests and the demo. Source this file; it needs bash.
#
# PostgreSQL finds its share and lib directories relative to its own binary. So a prefix is a copy
# of the binaries among symbolic links to the system's files, and "make install DESTDIR=prefix"
# adds ours: nothing of the system is touched, and every test run has its own extension files.
# As root everything of a server runs as the user postgres, else as the caller.
#
#   server_start NAME [--preload] [--tcp] [--prefix=DIR] [conf line...]   create and/or start
#   server_stop NAME [fast|smart|immediate]     server_kill9 NAME         server_running NAME
#   server_psql NAME [DB] [psql arguments...]   server_createdb NAME DB [--bare]
#   server_standby NAME PRIMARY [options of server_start]                 server_promote NAME
#   server_bin NAME PROGRAM arguments...        pg_dump, pg_restore, pgbench... on that server
#   server_conninfo NAME [DB]   server_port NAME   server_socket NAME   server_pid NAME
#   server_log NAME             server_prefix NAME                        server_remove NAME
#   prefix_create DIR           a further prefix with our files, for tests that change them
#   prefix_extension DIR        its writable extension directory
#   server_locate NAME          where in extension/*.sql the first error of CREATE EXTENSION is
#   as_server COMMAND...        run as the user the servers run as
#   at_exit COMMAND...          run when the script ends, last one first
#   port_free                   prints a TCP port of the loopback nobody listens on
#   wait_until SECONDS COMMAND...   poll until it succeeds; 1 when the time, SM_PATIENCE times as long, is over
#
# Settings from outside: SM_RUN (directory of this script's servers; made and removed when not set),
# SM_BASE and SM_PREFIX (shared by the scripts of one test run), SM_KEEP=1 (remove nothing).

SM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SM_PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
[ -x "$SM_PG_CONFIG" ] || SM_PG_CONFIG=$(command -v pg_config) ||
	{ echo 'server.sh: pg_config not found; "make deps" installs it' >&2; exit 1; }
SM_BINDIR=$("$SM_PG_CONFIG" --bindir)
SM_SHAREDIR=$("$SM_PG_CONFIG" --sharedir)
SM_LIBDIR=$("$SM_PG_CONFIG" --pkglibdir)
export LC_ALL=C.UTF-8 TZ=UTC
unset PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE PGDATA
_sm_at_exit=()

# Runs a command as the user the servers run as, from a directory that user can enter.
as_server()
{
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec runuser -u postgres -- "$@")
	else
		(cd / && exec "$@")
	fi
}

# Gives a path to the user the servers run as.
_sm_give()
{
	[ "$(id -u)" != 0 ] || chown postgres: "$@"
}

at_exit()
{
	_sm_at_exit+=("$(printf '%q ' "$@")")
}

# Ends what this script started, last first, then its servers, then its files.
_sm_cleanup()
{
	local status=$? index name
	trap - EXIT INT TERM HUP
	set +e
	for ((index = ${#_sm_at_exit[@]} - 1; index >= 0; index--)); do
		eval "${_sm_at_exit[index]}"
	done
	[ -n "$_sm_owned" ] || exit "$status"
	for name in "$SM_RUN"/*/data; do
		[ -d "$name" ] || continue
		name=$(basename "$(dirname "$name")")
		if [ "$status" != 0 ]; then
			echo "# the end of the log of server $name:"
			tail -n 40 "$(server_log "$name")" 2>/dev/null | sed 's/^/# /'
		fi >&2
		server_stop "$name" immediate
		[ -n "${SM_KEEP:-}" ] || rm -rf "$(server_socket "$name")"
	done
	[ -n "${SM_KEEP:-}" ] || rm -rf "$SM_RUN"
	exit "$status"
}

# Where the runs live: under the repository when the server's user can get there, else in /tmp.
_sm_base()
{
	local base=$SM_ROOT/.run
	if mkdir -p "$base" 2>/dev/null && [ -w "$base" ] &&
		as_server test -x "$base" -a -r "$base"; then
		echo "$base"
	else
		echo /tmp
	fi
}

# Prepares SM_RUN and the trap. A caller that sets SM_RUN owns it and what is started in it.
_sm_open()
{
	_sm_owned=
	if [ -z "${SM_RUN:-}" ]; then
		SM_RUN=$(mktemp -d "${SM_BASE:-$(_sm_base)}/submeter.XXXXXX")
		_sm_owned=1
	else
		mkdir -p "$SM_RUN"
	fi
	chmod 755 "$SM_RUN"
	trap _sm_cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# Makes a prefix in DIR and installs the built extension there.
prefix_create()
{
	local dir=$1
	mkdir -p "$dir$SM_BINDIR" "$dir$SM_SHAREDIR" "$dir$SM_LIBDIR"
	cp "$SM_BINDIR"/* "$dir$SM_BINDIR/"
	cp -rs "$SM_SHAREDIR/." "$dir$SM_SHAREDIR/"
	cp -rs "$SM_LIBDIR/." "$dir$SM_LIBDIR/"
	# Files of another version that someone installed on this machine are not ours.
	rm -f "$dir$SM_SHAREDIR"/extension/submeter[.-]* "$dir$SM_LIBDIR/submeter.so"
	make -s -C "$SM_ROOT" install-extension DESTDIR="$dir" PG_CONFIG="$SM_PG_CONFIG" </dev/null >&2
}

prefix_extension()
{
	echo "$1$SM_SHAREDIR/extension"
}

# The prefix of this run, made when first needed.
_sm_prefix()
{
	if [ -z "${SM_PREFIX:-}" ]; then
		SM_PREFIX=$SM_RUN/prefix
		[ -d "$SM_PREFIX" ] || prefix_create "$SM_PREFIX" || return 1
	fi
}

server_prefix() { cat "$SM_RUN/$1/prefix"; }
server_socket() { cat "$SM_RUN/$1/socket"; }
server_port() { cat "$SM_RUN/$1/port"; }
server_log() { echo "$SM_RUN/$1/log"; }

# Prints the pid of the postmaster; nothing and 1 when there is none.
server_pid()
{
	local pid
	pid=$(head -n 1 "$SM_RUN/$1/data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] && echo "$pid"
}

# True while the process exists and is not only waiting for its parent to notice its end.
_sm_alive()
{
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	[ "${stat%% *}" != Z ]
}

server_running()
{
	local pid
	pid=$(server_pid "$1") && _sm_alive "$pid"
}

wait_until()
{
	local end=$((SECONDS + $1 * ${SM_PATIENCE:-1}))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

port_free()
{
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		if ! (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
}

# Reads the options of server_start and server_standby into the variables of the caller.
_sm_options()
{
	while (($# > 0)); do
		case $1 in
			--preload) conf+=("shared_preload_libraries = 'submeter'") ;;
			--tcp) conf+=("listen_addresses = '127.0.0.1'") ;;
			--prefix=*) prefix=${1#--prefix=} ;;
			*) conf+=("$1") ;;
		esac
		shift
	done
}

# Makes the directory of a server with its port and socket. The path of a socket must stay short,
# and every user must be able to reach it.
_sm_place()
{
	local dir=$SM_RUN/$1 socket
	mkdir -p "$dir"
	socket=$(mktemp -d /tmp/sm.XXXXXX)
	chmod 755 "$socket"
	_sm_give "$socket" "$dir"
	echo "$2" >"$dir/prefix"
	echo "$socket" >"$dir/socket"
	port_free >"$dir/port"
}

# Settings that every private server has; later lines of postgresql.conf win.
_sm_configure()
{
	local name=$1
	shift
	{
		echo "unix_socket_directories = '$(server_socket "$name")'"
		echo "port = $(server_port "$name")"
		(($# == 0)) || printf '%s\n' "$@"
	} >>"$SM_RUN/$name/data/postgresql.conf"
}

_sm_initdb()
{
	local name=$1
	as_server "$(server_prefix "$name")$SM_BINDIR/initdb" -D "$SM_RUN/$name/data" -U postgres \
		--auth=trust --locale=C.UTF-8 --encoding=UTF8 --no-sync >"$SM_RUN/$name/initdb.log" 2>&1 ||
		{ cat "$SM_RUN/$name/initdb.log" >&2; return 1; }
	# The key that secrets are sealed with, as a server has one.
	(umask 077 && head -c 32 /dev/urandom | base64 >"$SM_RUN/$name/secret_key") &&
		_sm_give "$SM_RUN/$name/secret_key" || return 1
	_sm_configure "$name" \
		"submeter.secret_key_file = '$SM_RUN/$name/secret_key'" \
		"listen_addresses = ''" \
		"timezone = 'UTC'" \
		"log_timezone = 'UTC'" \
		"shared_buffers = 64MB" \
		"max_wal_size = 1GB" \
		"max_connections = 60" \
		"log_line_prefix = '%m [%p] %b %q%u@%d/%a '" \
		"log_checkpoints = off" \
		"wal_level = replica"
}

# Starts an existing data directory and waits until it takes connections. A standby is ready
# when it answers queries.
_sm_boot()
{
	local name=$1 dir=$SM_RUN/$1
	as_server "$(server_prefix "$name")$SM_BINDIR/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 120 -s \
		start </dev/null >"$dir/start.log" 2>&1 && return
	{
		echo "server $name did not start:"
		cat "$dir/start.log"
		tail -n 20 "$dir/log" 2>/dev/null
	} >&2
	return 1
}

server_start()
{
	local name=$1 prefix='' conf=()
	shift
	_sm_options "$@"
	if [ ! -d "$SM_RUN/$name/data" ]; then
		[ -n "$prefix" ] || { _sm_prefix && prefix=$SM_PREFIX; } || return 1
		_sm_place "$name" "$prefix" && _sm_initdb "$name" || return 1
	fi
	((${#conf[@]} == 0)) || _sm_configure "$name" "${conf[@]}"
	server_running "$name" || _sm_boot "$name"
}

server_standby()
{
	local name=$1 primary=$2 prefix conf=()
	shift 2
	prefix=$(server_prefix "$primary")
	_sm_options "$@"
	_sm_place "$name" "$prefix" || return 1
	as_server "$prefix$SM_BINDIR/pg_basebackup" -D "$SM_RUN/$name/data" -R -X stream -c fast \
		--no-sync -d "$(server_conninfo "$primary")" || return 1
	_sm_configure "$name" "hot_standby = on" "${conf[@]}"
	_sm_boot "$name"
}

server_promote()
{
	as_server "$(server_prefix "$1")$SM_BINDIR/pg_ctl" -D "$SM_RUN/$1/data" -w -t 60 -s promote
}

server_stop()
{
	server_running "$1" || return 0
	as_server "$(server_prefix "$1")$SM_BINDIR/pg_ctl" -D "$SM_RUN/$1/data" -w -t 60 -s \
		-m "${2:-fast}" stop </dev/null
}

# Stops a server and removes all of it.
server_remove()
{
	server_stop "$1" immediate
	rm -rf "$(server_socket "$1")" "${SM_RUN:?}/$1"
}

# Kills the postmaster and all its processes at once, as a power cut would, and waits until they
# are gone.
server_kill9()
{
	local name=$1 pid pids
	pid=$(server_pid "$name") || return 1
	pids=$(pgrep -P "$pid")
	# shellcheck disable=SC2086 # a list of pids
	kill -9 "$pid" $pids 2>/dev/null
	for pid in $pid $pids; do
		wait_until 30 _sm_gone "$pid" || return 1
	done
	# Where nobody collects ended processes, the next postmaster would take the dead one for alive.
	if [ -d "/proc/$(server_pid "$name")" ]; then
		rm -f "$SM_RUN/$name/data/postmaster.pid" "$(server_socket "$name")"/.s.PGSQL.*.lock
	fi
}

_sm_gone()
{
	! _sm_alive "$1"
}

server_conninfo()
{
	echo "host=$(server_socket "$1") port=$(server_port "$1") user=postgres dbname=${2:-postgres}"
}

# Runs a client program of the server's version with the connection in the environment.
server_bin()
{
	local name=$1 program=$2
	shift 2
	PGHOST=$(server_socket "$name") PGPORT=$(server_port "$name") PGUSER=${PGUSER:-postgres} \
		"$(server_prefix "$name")$SM_BINDIR/$program" "$@"
}

server_psql()
{
	local name=$1 db=postgres
	shift
	if (($# > 0)) && [[ $1 != -* ]]; then
		db=$1
		shift
	fi
	server_bin "$name" psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$db" "$@"
}

# A new database with the extension and its storage; with --bare an empty one.
server_createdb()
{
	server_psql "$1" -c "CREATE DATABASE \"$2\" TEMPLATE template0" || return 1
	[ "${3:-}" = --bare ] && return
	PGOPTIONS='-c client_min_messages=warning' server_psql "$1" "$2" -o /dev/null \
		-c 'CREATE EXTENSION submeter CASCADE' -c 'SELECT submeter.create_storage()'
}

# CREATE EXTENSION says what is wrong but not where. Runs the parts of the install script and of the
# storage one by one in an empty database and prints the first error with its file and line.
server_locate()
{
	local name=$1 dir=$SM_RUN/locate part args=()
	mkdir -p "$dir/install" "$dir/storage"
	for part in "$SM_ROOT"/extension/install/*.sql; do
		# shellcheck disable=SC2016 # $libdir is for the server
		sed 's|MODULE_PATHNAME|$libdir/submeter|; 1{/^\\echo/d}' "$part" >"$dir/install/${part##*/}"
		args+=(-f "install/${part##*/}")
	done
	args+=(-c 'SET ROLE submeter_owner; SET search_path = pg_catalog, pg_temp')
	for part in "$SM_ROOT"/extension/storage/[0-9]*.sql; do
		cp "$part" "$dir/storage/"
		args+=(-f "storage/${part##*/}")
	done
	server_psql "$name" -c 'DROP DATABASE IF EXISTS locate' -c 'CREATE DATABASE locate TEMPLATE template0'
	(cd "$dir" && PGOPTIONS='-c client_min_messages=warning' server_psql "$name" locate -o /dev/null \
		-c 'CREATE SCHEMA submeter; CREATE EXTENSION btree_gist SCHEMA submeter' \
		-c 'SET check_function_bodies = off' "${args[@]}")
}

_sm_open
