#!/bin/bash
# Payments end to end: orders and refunds through the courier to simulated providers, notifications
# back through it. Whatever is lost, doubled, forged or late on the way, money is credited once.
# shellcheck source=tests/e2e/payment.sh
. "$(dirname "$0")/payment.sh"

payment_start

# Both providers, the plain way
for provider in alipay wechat; do
	id=$(order "$provider" 20 "plain-$provider")
	wait_for 20 "$provider: a code to show" shown "$id"
	[ "$provider" = wechat ] || ctl scan "order=$(number "$id")" >/dev/null
	ctl pay "order=$(number "$id")" >/dev/null
	wait_for 20 "$provider: paid and credited" says 'order 20.00' receipts "$id"
	ctl again "order=$(number "$id")" times=32 parallel=true >/dev/null
	wait_for 20 "$provider: thirty-two more notifications are heard" \
		says t sql "SELECT count(*) >= 33 FROM submeter.payment_event WHERE source = 'notify' AND payment_order_id = $id AND verified"
	is "$(receipts "$id")" 'order 20.00' "$provider: and credit nothing"
done
is "$(sql 'SELECT submeter.balance(1, 1)')" 40.00 'the balance has both'

# Nobody tells us: asking finds it.
id=$(order alipay 7 silent)
wait_for 20 'a code' shown "$id"
ctl scan "order=$(number "$id")" >/dev/null
ctl pay "order=$(number "$id")" notify=false >/dev/null
wait_for 40 'a payment nobody told us about is found by asking' says 'order 7.00' receipts "$id"

# What goes wrong on the way
ctl fault kind=after-drop endpoint=alipay.trade.precreate >/dev/null
id=$(order alipay 3 lost)
wait_for 40 'a request that arrived and whose answer was lost is the same order' shown "$id"
is "$(ctl journal "order=$(number "$id")" | grep -o '"method": "alipay.trade.precreate"' | wc -l)" 2 'asked for twice'
for kind in wrong-signature gbk-error no-signature reserialise; do
	ctl fault kind=$kind endpoint=alipay.trade.precreate >/dev/null
	id=$(order alipay 3 "bad-$kind")
	wait_for 40 "an answer with $kind is not believed, the next one is" shown "$id"
done
ctl signtest every=2 >/dev/null
for n in 1 2 3 4; do
	id=$(order wechat 2 "probe-$n")
	wait_for 60 "probe $n: a code" shown "$id"
	ctl pay "order=$(number "$id")" >/dev/null
	wait_for 60 "probe $n: paid whatever is probed" says 'order 2.00' receipts "$id"
done
ctl signtest every=0 >/dev/null
is "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'payment_signature'")" 0 'probes raise no alarm'
id=$(order wechat 5 other)
wait_for 20 'a code' shown "$id"
ctl pay "order=$(number "$id")" amount=499 >/dev/null
wait_for 20 'another amount is credited as it came' says 'other_amount 4.99' receipts "$id"
is "$(sql "SELECT detail ->> 'why' || ' ' || amount FROM submeter.proposal WHERE source = 'payment'")" 'other_amount 4.99' 'and proposed for refund'

# The same thing over both: the second one is closed at its provider, or else proposed for refund.
first=$(order alipay 9 twice)
second=$(order wechat 9 twice)
wait_for 20 'both codes' shown "$first"
wait_for 20 'are shown' shown "$second"
ctl scan "order=$(number "$first")" >/dev/null
ctl pay "order=$(number "$first")" >/dev/null
wait_for 20 'one is paid' says 'order 9.00' receipts "$first"
wait_for 20 'the other is closed at its provider' says closed sql "SELECT state FROM submeter.payment_order WHERE payment_order_id = $second"
is "$(ctl pay "order=$(number "$second")" .paid)" false 'where it cannot be paid any more'

# Money back, the way it came
before=$(sql 'SELECT submeter.balance(1, 1)')
ok 'a refund over two providers' sql "SELECT submeter.refund(1, 1, 60, 'moved out', 'r1')"
wait_for 40 'the providers are asked' says t sql "SELECT bool_and(state <> 'asked') FROM submeter.payment_refund"
for refund in $(sql "SELECT f.out_request_no FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE r.merchant_id = 2 ORDER BY 1"); do
	ctl settle-refund "refund=$refund" >/dev/null
done
wait_for 40 'and all of it arrives' says 60.00 sql "SELECT sum(amount) FROM submeter.payment_refund WHERE state = 'done'"
is "$(sql "SELECT $before - submeter.balance(1, 1)")" 60.00 'taken from the balance once'

# A merchant with platform certificates: they are exchanged, the old one is gone, nobody does anything here.
setup 'a merchant with certificates' merchant_open 3 provider=wechat mode=cert
ctl rotate provider=wechat withdraw=true >/dev/null
id=$(order wechat 6 rotated)
wait_for 90 'an answer signed with a certificate that is not here has it fetched' shown "$id"
ctl pay "order=$(number "$id")" >/dev/null
wait_for 20 'and what it signs is believed' says 'order 6.00' receipts "$id"
is "$(sql 'SELECT count(*) || bool_and(valid_until > now())::text FROM submeter.merchant_key WHERE merchant_id = 3')" 2true \
	'the new one stands beside the old one until that expires'

# Alipay's certificate: it signs with a new one, which is fetched, checked against the roots and kept.
ctl rotate provider=alipay >/dev/null
id=$(order alipay 6 rotated-alipay)
wait_for 90 'Alipay: an answer signed with a certificate that is not here has it fetched' shown "$id"
ctl scan "order=$(number "$id")" >/dev/null
ctl pay "order=$(number "$id")" >/dev/null
wait_for 20 'and its notification is believed' says 'order 6.00' receipts "$id"
is "$(sql "SELECT count(*) || ' ' || count(*) FILTER (WHERE key_name = submeter.alipay_cert_sn(pem) AND valid_until > now() AND fetched_at IS NOT NULL) FROM submeter.merchant_key WHERE merchant_id = 1")" \
	'2 1' 'it stands beside the one that was entered until it expires'
is "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule IN ('payment_certificate', 'payment_signature')")" 0 'and nobody had to do anything'

# A service fee: the payer pays it on top, the balance gets the amount, and so does a refund.
ok 'fees from now on' sql "INSERT INTO submeter.recharge_fee (site_id, method, valid_from, rate, fixed, reason) VALUES (1, 'alipay', now(), 0.006, 0, 'x'), (1, 'wechat', now(), 0.005, 0.1, 'x')"
before=$(sql 'SELECT submeter.balance(1, 1)')
for paid in 'alipay 50.30' 'wechat 50.35'; do
	provider=${paid% *}
	id=$(order "$provider" 50 "fee-$provider")
	wait_for 40 "$provider: a code" shown "$id"
	[ "$provider" = wechat ] || ctl scan "order=$(number "$id")" >/dev/null
	ctl pay "order=$(number "$id")" >/dev/null
	wait_for 40 "$provider: amount and fee are paid as ordered" says "order ${paid#* }" receipts "$id"
	is "$(ctl book | /usr/bin/python3 -c 'import json, sys; print(next(row["paid"] for row in json.load(sys.stdin) if row["order"] == sys.argv[1]))' "$(number "$id")")" \
		"${paid#* }" "$provider: it took both"
done
is "$(sql "SELECT submeter.balance(1, 1) - $before || ' ' || sum(amount) FROM submeter.transfer WHERE kind = 'fee'")" '100.00 0.65' 'the balance has the amounts, the site the fees'
for provider in alipay wechat; do
	ok "$provider: money back" sql "SELECT submeter.refund(1, 1, 50, 'moved out', 'fee-$provider-back', '$provider')"
done
wait_for 40 'the providers are asked' says t sql "SELECT bool_and(state <> 'asked') FROM submeter.payment_refund"
for refund in $(sql "SELECT f.out_request_no FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE f.state = 'processing' ORDER BY 1"); do
	ctl settle-refund "refund=$refund" >/dev/null
done
wait_for 40 'and what was credited goes back' says 100.00 sql "SELECT sum(amount) FROM submeter.payment_refund WHERE state = 'done' AND reason = 'moved out' AND transfer_id IN (SELECT transfer_id FROM submeter.transfer WHERE idempotency_key LIKE 'fee-%-back')"
is "$(sql "SELECT submeter.balance(1, 1) - $before || ' ' || count(*) FROM submeter.verify_ledger(1)")" '0.00 0' 'the fee stays, and the books are right'

# Random episodes with faults, while couriers and the server die.
faults=(alipay.trade.precreate alipay.trade.query 'POST /v3/pay/transactions/native' 'GET /v3/pay/transactions/out-trade-no/{n}' notify)
kinds=(drop after-drop wrong-signature truncate reserialise tamper)
RANDOM=7
for n in {1..40}; do
	provider=alipay
	((RANDOM % 2 == 0)) || provider=wechat
	ctl fault kind="${kinds[RANDOM % ${#kinds[@]}]}" endpoint="${faults[RANDOM % ${#faults[@]}]}" >/dev/null 2>&1
	ids[n]=$(order "$provider" "$((n % 7 + 1)).$((n % 9))1" "episode-$n")
	providers[n]=$provider
	case $n in
		12) courier_end 9 courier; courier_start courier --listen "127.0.0.1:$PORT" ;;
		24) server_stop db immediate; server_start db >/dev/null 2>&1 ;;
	esac
done
ctl clear >/dev/null
paid=0
for n in {1..40}; do
	((n % 5 != 0)) || continue
	wait_until 120 shown "${ids[n]}" || { fail "episode $n: no code"; continue; }
	[ "${providers[n]}" = wechat ] || ctl scan "order=$(number "${ids[n]}")" >/dev/null
	((n % 3 != 0)) || ctl fault kind=drop endpoint=notify >/dev/null
	ctl pay "order=$(number "${ids[n]}")" notify="$([ $((n % 4)) = 0 ] && echo false || echo true)" >/dev/null
	paid=$((paid + 1))
done
episodes()
{
	sql "SELECT count(*) FROM submeter.payment_receipt r JOIN submeter.payment_order o USING (site_id, payment_order_id) WHERE o.idempotency_key LIKE 'episode-%'"
}
wait_for 120 'every episode that was paid is credited' says "$paid" episodes

# The providers' own book and ours
books_agree 'at the end'
ok 'no secret is in any log' eval '! grep -qE "BEGIN (RSA )?PRIVATE|$(sed -n "s/.*\"api_v3_key\": \"\([^\"]*\)\".*/\1/p" "$SM_RUN/merchant.2")" "$(server_log db)" "$COURIER_LOG"'
done_testing
