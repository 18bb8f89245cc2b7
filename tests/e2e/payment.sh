# shellcheck shell=bash
# Simulated payment providers and merchants there, for end-to-end tests. Source it; it sources courier.sh.
#
#   payment_start [conf line...]         providers, server "db" with two accounts, merchants 1 (Alipay) and 2 (WeChat Pay),
#                                        and a courier "courier" that listens at $PORT
#   ctl COMMAND [NAME=VALUE...] [.PATH]  a command to the providers, see tests/sim/provider/README.md
#   merchant_open ID provider=... mode=...  opens an account there and enters here what it got
#   order PROVIDER AMOUNT KEY [ACCOUNT]  begins a payment and prints its id
#   number ID                            what the provider calls it
#   shown ID                             its code is there
#   receipts ID                          what money came for it: "KIND AMOUNT, ..."
#   order_state ID                       open, paid or closed
#   pay_order ID [NAME=VALUE...]         the payer scans and pays
#   held                                 what the providers' own book says they hold for us
#   booked                               what our books say, before the providers' fees
#   books_agree 'when'                   both are the same, each transaction is credited once, the ledger is verified

# shellcheck source=tests/e2e/courier.sh
. "$(dirname "${BASH_SOURCE[0]}")/courier.sh"

PROVIDER=$here/../sim/provider
PROVIDER_PID=
PORT=$(port_free)

provider_start()
{
	"$PROVIDER/server.py" >"$SM_RUN/provider.out" 2>"$SM_RUN/provider.err" &
	PROVIDER_PID=$!
	wait_for 120 'the providers answer' grep -q second "$SM_RUN/provider.out"
	BASE=$(sed -n 's/^ready //p' "$SM_RUN/provider.out")
	# shellcheck disable=SC2034 # for those who source this
	SECOND=$(sed -n 's/^second //p' "$SM_RUN/provider.out")
}

ctl()
{
	"$PROVIDER/providerctl" "$BASE" "$@"
}

merchant_open()
{
	local id=$1
	shift
	ctl merchant "$@" >"$SM_RUN/merchant.$id" || return
	"$PROVIDER/merchant_sql" 1 "$id" "$BASE" "http://127.0.0.1:$PORT" <"$SM_RUN/merchant.$id" >"$SM_RUN/merchant.sql" || return
	server_psql db -v ON_ERROR_STOP=1 -f "$SM_RUN/merchant.sql" >/dev/null
}

order()
{
	sql "SELECT (submeter.create_payment(1, ${4:-1}, '$1', $2, '$3')).payment_order_id"
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

order_state()
{
	sql "SELECT state FROM submeter.payment_order WHERE payment_order_id = $1"
}

pay_order()
{
	local out_trade_no
	out_trade_no=$(number "$1")
	shift
	ctl scan "order=$out_trade_no" >/dev/null 2>&1 # only Alipay has that
	ctl pay "order=$out_trade_no" "$@" >/dev/null
}

held()
{
	ctl book >"$SM_RUN/book"
	/usr/bin/python3 - "$SM_RUN/book" <<'END'
import json, sys
from decimal import Decimal
total = Decimal(0)
for row in json.load(open(sys.argv[1])):
    total += Decimal(row['paid']) - Decimal(row['refunded'])
print('%.2f' % total)
END
}

booked()
{
	sql "SELECT coalesce(-sum(CASE WHEN t.credit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END), 0.00) FROM submeter.ledger_account l
		JOIN submeter.transfer t ON t.site_id = l.site_id AND l.ledger_account_id IN (t.debit_id, t.credit_id)
		WHERE l.code IN ('clearing:alipay', 'clearing:wechat') AND t.kind <> 'provider_fee'"
}

books_agree()
{
	is "$(booked)" "$(held)" "$1: what the providers hold is what our books say"
	is "$(sql 'SELECT count(*) FROM submeter.payment_receipt GROUP BY merchant_id, provider_transaction HAVING count(*) > 1' | wc -l)" 0 "$1: each transaction once"
	is "$(sql 'SELECT * FROM submeter.verify_ledger(1)')" '' "$1: the ledger is verified"
}

payment_start()
{
	setup 'start the providers' provider_start
	setup 'start the server' field_start "submeter.databases = 'postgres'" "submeter.naptime = '100ms'" "$@"
	setup 'two accounts' sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'Tenant');
		INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101'), (1, 2, 1, 'A-102')"
	setup 'a merchant at Alipay' merchant_open 1 provider=alipay mode=cert
	setup 'a merchant at WeChat Pay' merchant_open 2 provider=wechat mode=key
	setup 'a login for couriers' courier_login
	courier_start courier --listen "127.0.0.1:$PORT"
}

provider_stop()
{
	[ -z "$PROVIDER_PID" ] || kill "$PROVIDER_PID" 2>/dev/null
	wait "$PROVIDER_PID" 2>/dev/null
	((_tap_failed == 0)) || diag "$(tail -n 5 "$SM_RUN/provider.err"
		sql 'SELECT source, verified, outcome FROM submeter.payment_event ORDER BY payment_event_id DESC LIMIT 10'
		sql "SELECT kind, ref, state, attempts, detail FROM submeter.outbound WHERE state NOT IN ('delivered', 'cancelled') LIMIT 10")"
}
at_exit provider_stop
