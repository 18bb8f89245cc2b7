# shellcheck shell=bash
# The world outside the property: Alipay, WeChat Pay and a mail server, all simulated, with keys and
# certificates made on the spot, and the courier that goes there. Source it; it sources lib.sh. Then
#
#   outside_start          starts the servers; they make their keys while the property opens
#   outside_open           the rest, once it is open: the courier, accounts at both providers, channel mail
#   outside_site ID        the courier works for this site, too, and its channel mail is set up
#   outside_close          ends all of it
#   provider COMMAND...    a command to the providers, see tests/sim/provider/README.md
#   mails [N]              what the mail server got, see the script mails

# shellcheck source=tests/demo/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

outside_provider=$market_here/../sim/provider
OUTSIDE_COURIER_PID=
OUTSIDE_PROVIDER_PID=
OUTSIDE_MAIL_PID=

# Where things are; again after a change of SM_RUN.
outside_paths()
{
	OUTSIDE=$SM_RUN/outside
	OUTSIDE_COURIER_LOG=$SM_RUN/courier.log
}
outside_paths

# outside_said FILE WORD: what a server said about itself in its file.
outside_said()
{
	sed -n "s/^$2 //p" "$OUTSIDE/$1"
}

outside_ready()
{
	wait_until 30 grep -q ready "$OUTSIDE/$1" || { cat "$OUTSIDE/$1.log" >&2; return 1; }
}

outside_start()
{
	mkdir -p "$OUTSIDE"
	: >"$OUTSIDE/provider"
	: >"$OUTSIDE/mail"
	openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
		-keyout "$OUTSIDE/key" -out "$OUTSIDE/cert" 2>/dev/null || return
	"$outside_provider/server.py" --tls "$OUTSIDE/cert" "$OUTSIDE/key" >"$OUTSIDE/provider" 2>"$OUTSIDE/provider.log" &
	OUTSIDE_PROVIDER_PID=$!
	/usr/bin/python3 "$market_here/../sim/sink.py" "$OUTSIDE" --tls "$OUTSIDE/cert" "$OUTSIDE/key" >"$OUTSIDE/mail" 2>"$OUTSIDE/mail.log" &
	OUTSIDE_MAIL_PID=$!
}

provider()
{
	"$outside_provider/providerctl" "$(outside_said provider ready)" "$@"
}

mails()
{
	"$market_here/mails" --in "$OUTSIDE" "$@"
}

# outside_merchant NUMBER PROVIDER MODE: opens an account there and enters here what it got.
outside_merchant()
(
	set -o pipefail
	provider merchant "provider=$2" "mode=$3" |
		"$outside_provider/merchant_sql" 1 "$1" "$(outside_said provider ready)" "http://127.0.0.1:$OUTSIDE_PORT" "$OUTSIDE/cert" |
		PGUSER=manager server_psql market market -o /dev/null
)

outside_site()
{
	ask "INSERT INTO submeter.site_member (site_id, login) VALUES ($1, 'carrier')" &&
		PGUSER=manager server_psql market market -v "site=$1" -v "smtp=smtp://localhost:$(outside_said mail smtp)" -v "ca=$(cat "$OUTSIDE/cert")" <<-'END'
			SELECT submeter.set_channel(:site, 'mail', 'mail', jsonb_build_object('url', :'smtp', 'from', 'power@market.example',
				'from_name', s.name, 'user', 'meter', 'ca', :'ca'))
			FROM submeter.site s WHERE s.site_id = :site
			\g /dev/null
			SELECT submeter.set_secret(:site, 'channel/mail/password', 's3cret, word')
			\g /dev/null
		END
}

outside_courier()
{
	OUTSIDE_PORT=$(port_free)
	"$SM_ROOT/poller/submeter-courier" --allow-root --name market --listen "127.0.0.1:$OUTSIDE_PORT" \
		--dsn "host=$(server_socket market) port=$(server_port market) user=carrier dbname=market" \
		>>"$OUTSIDE_COURIER_LOG" 2>&1 &
	OUTSIDE_COURIER_PID=$!
}

outside_open()
{
	outside_ready provider && outside_ready mail && ask 'CREATE ROLE carrier LOGIN IN ROLE submeter_courier' && outside_site 1 && outside_courier &&
		outside_merchant 1 alipay cert && outside_merchant 2 wechat key
}

outside_close()
{
	local pid
	for pid in $OUTSIDE_COURIER_PID $OUTSIDE_PROVIDER_PID $OUTSIDE_MAIL_PID; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	OUTSIDE_COURIER_PID=''
	OUTSIDE_PROVIDER_PID=''
	OUTSIDE_MAIL_PID=''
}
