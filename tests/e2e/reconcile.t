#!/bin/bash
# Reconciliation end to end: a day at two simulated providers of which we did not hear everything, their files with every awkward
# line fetched through the courier, what people decide, and then their book and ours.
# shellcheck source=tests/e2e/payment.sh
. "$(dirname "$0")/payment.sh"

# paid ORDER: the buyer pays some time of the day, and nobody tells us; paid ORDER SECOND [NAME=VALUE…]
paid()
{
	local number=$1 at=$((MIDNIGHT + $2))
	shift 2
	ctl scan "order=$number" >/dev/null 2>&1
	ctl pay "order=$number" "at=$at" "$@" >/dev/null
}

# deaf PROVIDER NUMBER: whenever we ask about the order, the provider is too busy to answer.
deaf()
{
	local endpoint=alipay.trade.query
	[ "$1" = alipay ] || endpoint='GET /v3/pay/transactions/out-trade-no/{n}'
	ctl fault kind=status arg=429 "endpoint=$endpoint" "order=$2" count=null >/dev/null
}

credited()
{
	sql "SELECT count(*) FROM submeter.payment_receipt"
}

look()
{
	# The duty may have asked before anything was paid, and would ask again in six hours.
	sql "UPDATE submeter.reconcile_day SET next_at = NULL; UPDATE submeter.duty_state SET next_at = now() WHERE duty = 'reconcile'"
}

days_read()
{
	sql "SELECT count(*) FROM submeter.reconcile_day WHERE day = '$DAY' AND state = 'read'"
}

results()
{
	sql "SELECT string_agg(result || ' ' || n, ', ' ORDER BY result) FROM (SELECT result, count(*) AS n FROM submeter.reconcile_row WHERE day = '$DAY' GROUP BY result) x"
}

# upload PROVIDER NUMBER: a person takes the file of the day from the provider's platform and hands it in.
upload()
{
	sql "SELECT count(*) FROM submeter.reconcile(1, '$1', '$DAY', decode('$(ctl bill "order=$2" "day=$DAY" .file)', 'base64'))"
}

setup 'start the providers' provider_start
setup 'start the server' field_start "submeter.databases = 'postgres'" "submeter.naptime = '100ms'"
setup 'accounts' sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 't', 'Tenant');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, 1, 1, 'A-101'), (1, 2, 1, 'A-102')"
setup 'a merchant at Alipay' merchant_open 1 provider=alipay mode=cert fee=0.006
setup 'a merchant at WeChat Pay' merchant_open 2 provider=wechat mode=key fee=0.006
setup 'both were there last week' sql "UPDATE submeter.merchant SET created_at = now() - interval '4 days'"
setup 'a login for couriers' courier_login
DAY=$(sql "SELECT submeter.china_day(now()) - 3")
MIDNIGHT=$(sql "SELECT extract(epoch FROM submeter.china_midnight('$DAY'))::bigint")
courier_start courier --listen "127.0.0.1:$PORT"

# A day: of every third payment we hear nothing, neither by a notification nor by asking.
RANDOM=11
lost=0
for n in {1..18}; do
	providers[n]=$([ $((n % 2)) = 0 ] && echo alipay || echo wechat)
	ids[n]=$(order "${providers[n]}" "$((n + 10)).$((n % 9))1" "day-$n")
done
for n in {1..18}; do
	wait_until 120 shown "${ids[n]}" || fail "order $n: no code"
	numbers[n]=$(number "${ids[n]}")
	at=$((RANDOM * 86400 / 32768))
	case $n in 1) at=0 ;; 2) at=86399 ;; esac
	if ((n % 3 == 0)); then
		deaf "${providers[n]}" "${numbers[n]}"
		paid "${numbers[n]}" "$at" notify=false
		lost=$((lost + 1))
	else
		paid "${numbers[n]}" "$at"
	fi
done
wait_for 120 'we are told of the others' says "$((18 - lost))" credited
# Money back over both providers; of the end of one nobody tells us. And one at each that was made on the provider's platform.
setup 'refunds' sql "SELECT submeter.refund(1, 1, 5, 'too much', 'back-1', 'alipay'), submeter.refund(1, 1, 6, 'too much', 'back-2', 'wechat')"
wait_for 60 'the providers are asked' says t sql "SELECT bool_and(state <> 'asked') FROM submeter.payment_refund"
refund=$(sql "SELECT f.out_request_no FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE r.merchant_id = 2")
ctl hold >/dev/null
ctl settle-refund "refund=$refund" >/dev/null
ctl forget >/dev/null
ctl refund-here "order=${numbers[4]}" amount=1.5 >/dev/null
ctl refund-here "order=${numbers[5]}" amount=250 >/dev/null
for n in {1..18}; do
	at=$(sql "SELECT extract(epoch FROM paid_at)::bigint FROM submeter.payment_receipt WHERE payment_order_id = ${ids[n]}")
	[ -z "$at" ] || ctl backdate "order=${numbers[n]}" "at=$at" >/dev/null
done
sql "UPDATE submeter.payment_refund SET finished_at = to_timestamp($MIDNIGHT + 80000) WHERE state = 'done'"

# Their files: a line is missing, one has another amount, one is of another system; the way there is as bad as it gets.
for n in 1 2; do
	ctl fault kind=leave-out endpoint=bill "order=${numbers[n]}" count=null >/dev/null
done
ctl fault kind=amount endpoint=bill "order=${numbers[7]}" arg=1701 count=null >/dev/null
ctl fault kind=amount endpoint=bill "order=${numbers[8]}" arg='"18.82"' count=null >/dev/null
ctl fault kind=extra endpoint=bill order=extra arg=ORDER-77 count=null >/dev/null
nth=0
for kind in wrong-signature no-signature; do
	ctl fault kind=$kind endpoint=alipay.data.dataservice.bill.downloadurl.query after=$nth >/dev/null
	ctl fault kind=$kind 'endpoint=GET /v3/bill/tradebill' after=$nth >/dev/null
	nth=$((nth + 1))
done
nth=0
for kind in expired truncate truncate wrong-hash wrong-hash; do
	ctl fault kind=$kind endpoint=billfile after=$nth >/dev/null
	nth=$((nth + 1))
done
look
wait_for 240 'both files are fetched in the end' says 2 days_read
is "$(results)" "amount_differs 2, elsewhere 2, matched $((18 - lost - 4 + 1)), missing 2, orphan 2, repaired $((lost + 1))" 'each line is what it is'
is "$(credited)" 18 'what was lost is credited'
is "$(sql "SELECT count(*) FROM submeter.payment_order WHERE state <> 'paid'")" 0 'to the orders it was paid for'
is "$(sql "SELECT count(*) FROM submeter.outbound WHERE kind = 'bill_file' AND answer IS NOT NULL")" 0 'the outbox does not keep the files'
is "$(sql "SELECT count(*) > 0 FROM submeter.reconcile_file WHERE problem IS NOT NULL")" t 'a broken one is kept, with what was wrong'
wait_for 60 'an alarm says that rows wait for a decision' says 1 sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'reconcile_open' AND cleared_at IS NULL"
is "$(sql 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the ledger is verified'

# Days without business: believed when the provider says so again the next day.
wait_for 60 'other days have no file' says t sql "SELECT bool_and(no_bill_at IS NOT NULL AND state = 'asked') FROM submeter.reconcile_day WHERE day < '$DAY'"
sql "UPDATE submeter.reconcile_day SET no_bill_at = no_bill_at - interval '1 day', next_at = NULL WHERE day < '$DAY'"
look
wait_for 60 'the next day that is a fact' says t sql "SELECT bool_and(state = 'empty') FROM submeter.reconcile_day WHERE day < '$DAY'"

# The providers correct their files; people take them from the platform. The rest is decided.
ctl clear >/dev/null
ok 'a corrected file of Alipay' upload alipay "${numbers[2]}"
ok 'a corrected file of WeChat Pay' upload wechat "${numbers[1]}"
is "$(results)" "elsewhere 2, matched $((18 - lost + 1)), repaired $((lost + 1)), withdrawn 2" 'what was missing is there'
ok 'refunds made elsewhere are booked' sql "SELECT submeter.decide_reconcile(1, reconcile_row_id, 'book_refund', 'made by the manager on the platform')
	FROM submeter.reconcile_row WHERE state = 'open'"
wait_for 60 'nothing is left to decide, and the alarm is over' says 0 sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'reconcile_open' AND cleared_at IS NULL"
is "$(upload alipay "${numbers[2]}") $(upload wechat "${numbers[1]}") $(sql "SELECT count(*) FROM submeter.reconcile_row WHERE state = 'open'")" '4 4 0' 'the same files again change nothing'

# The providers' own book and ours
ctl book >"$SM_RUN/book"
is "$(/usr/bin/python3 - "$SM_RUN/book" <<'END'
import json, sys
from decimal import Decimal
total, fees = Decimal(0), Decimal(0)
for row in json.load(open(sys.argv[1])):
    total += Decimal(row['paid']) - Decimal(row['refunded'])
    fees += Decimal(row['fee'])
print('%.2f %.2f' % (total - fees, fees))
END
)" "$(sql "SELECT string_agg(total::text, ' ' ORDER BY part) FROM (
		SELECT split_part(l.code, ':', 1) AS part, sum(CASE WHEN t.debit_id = l.ledger_account_id THEN t.amount ELSE -t.amount END) AS total
		FROM submeter.ledger_account l JOIN submeter.transfer t ON t.site_id = l.site_id AND l.ledger_account_id IN (t.debit_id, t.credit_id)
		WHERE l.code ~ '^(clearing|fees):(alipay|wechat)$' GROUP BY 1) x")" 'what the providers hold, and what they kept, is what our books say'
is "$(sql "SELECT sum(difference) || ' ' || sum(open) FROM submeter.reconcile_statement WHERE day = '$DAY'")" '0.00 0' 'the statement of the day has no difference'
is "$(sql 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the ledger is verified'
done_testing
