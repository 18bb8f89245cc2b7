# shellcheck shell=bash
# Couriers and the hosts outside that they talk to, for end-to-end tests. Source it; it sources poller.sh.
#
#   courier_login                        the login "carrier" with a courier's rights at site 1
#   courier_start NAME [option...]       runs one; log in $COURIER_LOG
#   courier_end SIGNAL NAME              ends it; its exit status
#   sink_start                           an HTTPS and mail server of its own: HTTPS, SMTP, CERT; files in $SINK
#   channels_start                       the other ends of notice channels: CHANNELS; log in $SINK/log
#   json_text FILE                       the file as a JSON string

# shellcheck source=tests/e2e/poller.sh
. "$(dirname "${BASH_SOURCE[0]}")/poller.sh"

COURIER=${SM_COURIER:-$here/../../poller/submeter-courier}
COURIER_LOG=$SM_RUN/courier.log
SINK=$SM_RUN/sink
SINK_PIDS=()
declare -A COURIERS

courier_login()
{
	sql "CREATE ROLE carrier LOGIN; GRANT submeter_courier TO carrier;
		INSERT INTO submeter.site_member (site_id, login) VALUES (1, 'carrier')"
}

courier_start()
{
	local name=$1
	shift
	"$COURIER" --allow-root --dsn "$(server_conninfo db | sed 's/user=postgres/user=carrier/')" --name "$name" \
		--log-level debug "$@" >>"$COURIER_LOG" 2>&1 &
	COURIERS[$name]=$!
}

courier_end()
{
	local signal=$1 name=$2 status=0
	kill "-$signal" "${COURIERS[$name]}" 2>/dev/null
	wait "${COURIERS[$name]}" 2>/dev/null || status=$?
	unset "COURIERS[$name]"
	return "$status"
}

sink_start()
{
	mkdir -p "$SINK"
	CERT=$SINK/cert
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost' \
		-keyout "$SINK/key" -out "$CERT" 2>/dev/null || return
	# The server reads it in some tests.
	chmod 755 "$SINK" && chmod 644 "$CERT"
	/usr/bin/python3 "$here/../sim/sink.py" "$SINK" --tls "$CERT" "$SINK/key" >"$SINK/out" 2>"$SINK/err" &
	SINK_PIDS+=($!)
	wait_for 20 'the host outside listens' grep -q ready "$SINK/out"
	# shellcheck disable=SC2034 # for those who source this
	HTTPS=https://localhost:$(sed -n 's/^http //p' "$SINK/out")
	# shellcheck disable=SC2034
	SMTP=smtp://localhost:$(sed -n 's/^smtp //p' "$SINK/out")
}

channels_start()
{
	mkdir -p "$SINK"
	/usr/bin/python3 "$here/../sim/channels.py" "$SINK" >"$SINK/channels" 2>"$SINK/channels.err" &
	SINK_PIDS+=($!)
	wait_for 20 'the other ends of channels listen' grep -q ready "$SINK/channels"
	# shellcheck disable=SC2034
	CHANNELS=http://127.0.0.1:$(sed -n 's/^ready //p' "$SINK/channels")
}

json_text()
{
	/usr/bin/python3 -c 'import json, sys; print(json.dumps(open(sys.argv[1]).read()))' "$1"
}

couriers_stop()
{
	local name
	for name in "${!COURIERS[@]}"; do
		courier_end TERM "$name" || true
	done
	((${#SINK_PIDS[@]} == 0)) || kill "${SINK_PIDS[@]}" 2>/dev/null
	((_tap_failed == 0)) || diag "$(tail -n 40 "$COURIER_LOG" "$SINK"/*err 2>/dev/null)"
}
at_exit couriers_stop
