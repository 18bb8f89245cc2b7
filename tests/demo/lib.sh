# shellcheck shell=bash
# A whole property at work, for the demo and for tests of the whole story: a private server with
# workers, the meters of tests/sim on real load curves, and the poller. Source it; then
#
#   market_open [psql variable=value...]   server "market", database "market" with property.sql and
#                                          workers, the farm (its time stands still), the poller
#   market_month           a property next door with its readings of last month, see month.sql
#   market_close           ends the poller and the farm; the server is server.sh's
#   ask SQL                the superuser's question; rows with | between columns
#   ask_as LOGIN SQL       somebody else's
#   meter_of UNIT          PORT and UNIT of a shop's meter, as words for the command farm
#   market_is_settled      every Wh the meters show has been charged (once their time stands still)
#   notice_files KIND SHOP the files of delivered notices
#   notice_part FILE PART  subject or body, decoded by Python's mail library, which nobody here wrote
#
# SM_RUN may be set before; see tests/lib/server.sh.

market_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/server.sh
. "$market_here/../lib/server.sh"
# shellcheck source=tests/sim/farm.sh
. "$market_here/../sim/farm.sh"

MARKET_POLLER_PID=

# Where things are; again after a change of SM_RUN.
market_paths()
{
	MARKET_NOTICES=$SM_RUN/notices
	MARKET_POLLER_LOG=$SM_RUN/poller.log
}
market_paths

ask()
{
	server_psql market market -c "$1"
}

ask_as()
{
	PGUSER=$1 server_psql market market -c "$2"
}

meter_of()
{
	case $1 in
		A-10[123]) echo "hall ${1#A-10}" ;;
		B-10[12]) echo "yard ${1#B-10}" ;;
		main) echo 'yard 9' ;;
	esac
}

# The load curves: five measured homes play the shops, a sixth column is what the main meter sees
# (the sum and 2 % for the wires). They begin at eight in the morning.
market_curves()
{
	awk -F, -v OFS=, '
		NR == 1 { print "ts,bakery,tea,hardware,laundry,clinic,main"; next }
		NR > 9 {
			main = 1.02 * ($5 + $4 + $3 + $2 + $7)
			print $1, $5, $4, $3, $2, $7, main
		}' "$market_here/../data/homes_hourly.csv"
}

# Registers begin where property.sql says that the supplies begin.
market_farm()
{
	market_curves >"$SM_RUN/market.csv"
	farm_start "$SM_RUN" <<-END
		speed 0
		curves market $SM_RUN/market.csv slot_s=3600
		port hall 0
		meter 1 DDS238 curve=market:bakery start_wh=1234560 relay_ms=150
		meter 2 DDS238 curve=market:tea start_wh=980000
		meter 3 DDS238 curve=market:hardware start_wh=45670
		port yard 0
		meter 1 DDS238 curve=market:laundry start_wh=7700120
		meter 2 DDS238 curve=market:clinic start_wh=310450
		meter 9 SDM120 curve=market:main start_kwh=10650
	END
}

# Workers need a database to begin with, so the server is started once more when it exists.
market_server()
{
	mkdir -p "$MARKET_NOTICES"
	_sm_give "$MARKET_NOTICES"
	server_start market --preload "submeter.notice_directory = '$MARKET_NOTICES'" || return
	server_createdb market market || return
	server_stop market || return
	server_start market "submeter.databases = 'market'" 'submeter.naptime = 100ms'
}

market_property()
{
	local setting settings=()
	for setting in "$@"; do
		settings+=(-v "$setting")
	done
	server_psql market market -v "hall=127.0.0.1:$(farm_port hall)" -v "yard=127.0.0.1:$(farm_port yard)" \
		-v 'lead=5 s' "${settings[@]}" -f "$market_here/property.sql"
}

market_poller()
{
	"$SM_ROOT/poller/submeter-poller" --allow-root --name market --spool "$SM_RUN/spool" \
		--dsn "host=$(server_socket market) port=$(server_port market) user=meter_reader dbname=market" \
		>>"$MARKET_POLLER_LOG" 2>&1 &
	MARKET_POLLER_PID=$!
}

market_open()
{
	market_server && market_farm && market_property "$@" && market_poller
}

market_month()
{
	server_psql market market -v "data=$market_here/../data" -v "month=$(TZ=Asia/Shanghai date -d "$(TZ=Asia/Shanghai date +%Y-%m-01) - 1 month" +%F)" \
		-f "$market_here/month.sql"
}

market_close()
{
	if [ -n "$MARKET_POLLER_PID" ]; then
		kill "$MARKET_POLLER_PID" 2>/dev/null
		wait "$MARKET_POLLER_PID" 2>/dev/null
		MARKET_POLLER_PID=
	fi
	farm_stop
}

# The meters show whole 10 Wh.
market_is_settled()
{
	local unit want
	for unit in A-101 A-102 A-103 B-101 B-102; do
		# shellcheck disable=SC2046 # two words
		want=$(($(farm get $(meter_of "$unit") register_wh) / 10 * 10))
		[ "$want" = "$(ask "SELECT y.opening_wh + c.energy_wh FROM submeter.charge c
			JOIN submeter.supply y USING (site_id, account_id) JOIN submeter.meter m USING (site_id, meter_id)
			WHERE m.code = '$unit'")" ] || return
	done
}

notice_files()
{
	ask "SELECT format('%s/notice-%s-%s.eml', '$MARKET_NOTICES', n.site_id, n.notice_id)
		FROM submeter.notice n JOIN submeter.account a USING (site_id, account_id)
		WHERE n.kind = '$1' AND a.code = '$2' AND n.state = 'accepted' ORDER BY n.notice_id"
}

notice_part()
{
	/usr/bin/python3 - "$@" <<-'END'
		import email, email.policy, sys, textwrap
		sys.stdout.reconfigure(encoding="utf-8")
		with open(sys.argv[1], "rb") as file:
		    message = email.message_from_binary_file(file, policy=email.policy.default)
		if sys.argv[2] == "subject":
		    print(message["Subject"])
		else:
		    for line in message.get_content().splitlines():
		        print(textwrap.fill(line, 100))
	END
}
