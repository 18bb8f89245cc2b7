# shellcheck shell=bash
# Simulated payment providers, a courier, and the accounts of a site at them, for end-to-end tests. Source it after poller.sh.
# shellcheck disable=SC2154 # $here is the script's

COURIER=$here/../../poller/submeter-courier
PROVIDER=$here/../sim/provider
PORT=$(port_free)

provider_start()
{
	"$PROVIDER/server.py" >"$SM_RUN/provider.out" 2>"$SM_RUN/provider.err" &
	PROVIDER_PID=$!
	wait_for 20 'the providers answer' grep -q ready "$SM_RUN/provider.out"
	BASE=$(sed -n 's/^ready //p' "$SM_RUN/provider.out")
}

courier_start()
{
	"$COURIER" --allow-root --dsn "$(server_conninfo db | sed 's/user=postgres/user=carrier/')" --name "courier$((++COURIER_NR))" \
		--listen "127.0.0.1:$PORT" --log-level debug >>"$SM_RUN/courier.log" 2>&1 &
	COURIER_PID=$!
}

stop_all()
{
	kill "$COURIER_PID" "$PROVIDER_PID" 2>/dev/null
	wait "$COURIER_PID" "$PROVIDER_PID" 2>/dev/null
	((_tap_failed == 0)) || diag "$(tail -n 30 "$SM_RUN/courier.log"; tail -n 5 "$SM_RUN/provider.err"
		sql 'SELECT source, verified, outcome FROM submeter.payment_event ORDER BY payment_event_id DESC LIMIT 10'
		sql "SELECT kind, ref, state, attempts, detail FROM submeter.outbound WHERE state NOT IN ('delivered', 'cancelled') LIMIT 10")"
}

ctl()
{
	"$PROVIDER/providerctl" "$BASE" "$@"
}

# merchant_open ID provider=… mode=…: opens an account there and enters here what it got.
merchant_open()
{
	local id=$1
	shift
	ctl merchant "$@" >"$SM_RUN/merchant.$id" || return
	"$PROVIDER/merchant_sql" 1 "$id" "$BASE" "http://127.0.0.1:$PORT" <"$SM_RUN/merchant.$id" >"$SM_RUN/merchant.sql" || return
	server_psql db -v ON_ERROR_STOP=1 -f "$SM_RUN/merchant.sql" >/dev/null
}

# order PROVIDER AMOUNT KEY: begins a payment and prints its id; number ID: what the provider calls it.
order()
{
	sql "SELECT (submeter.create_payment(1, 1, '$1', $2, '$3')).payment_order_id"
}

number()
{
	sql "SELECT out_trade_no FROM submeter.payment_order WHERE payment_order_id = $1"
}

shown()
{
	says t sql "SELECT (submeter.check_payment(1, $1)).qr IS NOT NULL"
}

receipts()
{
	sql "SELECT string_agg(kind || ' ' || amount, ', ' ORDER BY payment_receipt_id) FROM submeter.payment_receipt WHERE payment_order_id = $1"
}

COURIER_NR=0
