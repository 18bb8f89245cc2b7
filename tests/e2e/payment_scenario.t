#!/bin/bash
# What happens between a payer, a provider and us, case by case, and what stands in the ledger afterwards.
# shellcheck source=tests/e2e/payment.sh
. "$(dirname "$0")/payment.sh"

payment_start
NATIVE='POST /v3/pay/transactions/native'
CLOSE='POST /v3/pay/transactions/out-trade-no/{n}/close'

# ready PROVIDER AMOUNT KEY: an order with its code shown; sets id.
ready()
{
	id=$(order "$@")
	wait_for 60 "$3: a code to show" shown "$id"
}

# Everything that waits for its time is asked now.
ask_now()
{
	sql "UPDATE submeter.payment_order SET next_check_at = now() WHERE next_check_at IS NOT NULL AND payment_order_id IN ($1)"
}

credited()
{
	wait_for 60 "$3" says "$2" receipts "$1"
}

proposed()
{
	is "$(sql "SELECT string_agg((p.detail ->> 'why') || ' ' || p.amount || ' ' || p.state, ', ' ORDER BY p.proposal_id) FROM submeter.proposal p
		JOIN submeter.payment_receipt r ON r.payment_receipt_id = (p.detail ->> 'payment_receipt_id')::bigint WHERE r.payment_order_id = $1")" "$2" "$3"
}

events()
{
	sql "SELECT count(*) FROM submeter.payment_event WHERE payment_order_id = $1 AND $2"
}

at_least()
{
	local want=$1
	shift
	[ "$("$@" 2>/dev/null)" -ge "$want" ]
}

paid_there()
{
	says true ctl pay "order=$(number "$1")" .paid
}

# Refunds: of which provider and what state, how much is back there.
refund_state()
{
	sql "SELECT f.state FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE r.payment_order_id = $1"
}

refund_number()
{
	sql "SELECT f.out_request_no FROM submeter.payment_refund f JOIN submeter.payment_receipt r USING (site_id, payment_receipt_id) WHERE r.payment_order_id = $1"
}

back_there()
{
	ctl book | /usr/bin/python3 -c 'import json, sys
print(*[row["refunded"] for row in json.load(sys.stdin) if row["order"] == sys.argv[1]])' "$(number "$1")"
}

# Asks for a refund of the latest money of account 1.
refund()
{
	sql "SELECT submeter.refund(1, 1, $1, 'asked for', '$2')" >/dev/null
}

balance()
{
	sql 'SELECT submeter.balance(1, 1)'
}

# A notification that comes again
for provider in alipay wechat; do
	ready "$provider" 20 "again-$provider"
	pay_order "$id"
	credited "$id" 'order 20.00' "$provider: paid"
	ctl again "order=$(number "$id")" times=5 parallel=false >/dev/null
	server_stop db immediate
	setup 'start the server again' server_start db
	wait_for 60 "$provider: after a restart the courier is back" at_least 1 eval "ctl again 'order=$(number "$id")' times=5 | grep -cE '\"status\": 200'"
	is "$(receipts "$id")" 'order 20.00' "$provider: the same notification one after the other and after a restart credits nothing"
	ok "$provider: all of them are in the journal" at_least 6 events "$id" "outcome LIKE 'known already%'"
done

# Heard before the create call returned
ctl fault kind=after-delay "endpoint=$NATIVE" arg=4 >/dev/null
id=$(order wechat 3 early-wechat)
wait_for 30 'WeChat Pay: paid while our own call is still under way' paid_there "$id"
credited "$id" 'order 3.00' 'WeChat Pay: and credited'
is "$(events "$id" "source = 'create'")" 0 'WeChat Pay: before the call returned'
wait_for 30 'WeChat Pay: what it returns later' says 1 events "$id" "source = 'create' AND outcome = 'nothing to do'"
ctl fault kind=after-delay endpoint=alipay.trade.precreate arg=4 >/dev/null
id=$(order alipay 3 early-alipay)
wait_for 30 'Alipay: paid while our own call is still under way' paid_there "$id"
credited "$id" 'order 3.00' 'Alipay: and credited'
wait_for 30 'Alipay: what the call returns later changes nothing' says 1 events "$id" "source = 'create' AND outcome = 'nothing to do'"
is "$(order_state "$id")" paid 'Alipay: it is paid'

# Told and asked at the same time
ids=()
for n in 1 2 3 4 5 6; do
	provider=alipay
	((n % 2 == 0)) || provider=wechat
	ready "$provider" "0.0$n" "race-$n"
	ids+=("$id")
	ctl fault kind=parallel endpoint=notify "order=$(number "$id")" arg=4 >/dev/null
done
ctl hold >/dev/null
for id in "${ids[@]}"; do
	pay_order "$id"
done
ask_now "$(IFS=,; echo "${ids[*]}")" &
ctl hold held=false >/dev/null
wait $!
for n in 1 2 3 4 5 6; do
	credited "${ids[n - 1]}" "order 0.0$n" "race $n: credited once by whoever was first"
	wait_for 30 "race $n: all four are heard" at_least 4 events "${ids[n - 1]}" "source = 'notify' AND verified"
	is "$(receipts "${ids[n - 1]}")" "order 0.0$n" "race $n: and not again"
done

# The refund is told before the payment
for provider in alipay wechat; do
	ready "$provider" 12 "order-$provider"
	ctl hold >/dev/null
	pay_order "$id"
	ask_now "$id"
	credited "$id" 'order 12.00' "$provider: found by asking, while its notification is on the way"
	before=$(balance)
	refund 5 "order-$provider"
	wait_for 60 "$provider: the refund is made" says t sql "SELECT bool_and(state <> 'asked') FROM submeter.payment_refund"
	kind=refund
	[ "$provider" = alipay ] || { ctl settle-refund "refund=$(refund_number "$id")" >/dev/null; kind=REFUND.SUCCESS; }
	ctl again "order=$(number "$id")" "kind=$kind" >/dev/null
	wait_for 30 "$provider: the refund's notification comes first" says 1 events "$id" "source = 'notify' AND outcome LIKE '%refund done'"
	is "$(events "$id" "source = 'notify'")" 1 "$provider: before any other"
	ctl hold held=false >/dev/null
	wait_for 30 "$provider: then the payment's" at_least 2 events "$id" "source = 'notify' AND verified"
	is "$(receipts "$id")" 'order 12.00' "$provider: credited once"
	is "$(sql "SELECT $before - submeter.balance(1, 1)") $(refund_state "$id") $(back_there "$id")" '5.00 done 5.00' "$provider: and paid back once"
done

# Money for an order that was closed here
ready alipay 8 late
sql "SELECT submeter.cancel_payment(1, $id)" >/dev/null
wait_for 30 'an order whose code nobody scanned is closed here' says closed order_state "$id"
pay_order "$id"
credited "$id" 'late 8.00' 'the code lives on: late money is credited'
proposed "$id" 'late 8.00 open' 'and proposed for refund'
is "$(order_state "$id")" paid 'the order is paid'
ready alipay 8 late-silent
sql "SELECT submeter.cancel_payment(1, $id)" >/dev/null
wait_for 30 'another one is closed' says closed order_state "$id"
pay_order "$id" notify=false
ask_now "$id"
credited "$id" 'late 8.00' 'late money nobody told us about is found by the questions that follow a closed order'

# Money for somebody who has moved out
id=$(order wechat 8.5 gone 2)
wait_for 60 'an order of an account' shown "$id"
ok 'that moves out' sql "SELECT submeter.move_out(1, 2, now())"
wait_for 60 'and is closed' says closed sql 'SELECT state FROM submeter.account WHERE account_id = 2'
pay_order "$id"
credited "$id" 'closed_account 8.50' 'money that comes all the same is credited there'
proposed "$id" 'closed_account 8.50 open' 'and proposed for refund'

# Both codes are paid
first=$(order alipay 9 both)
second=$(order wechat 9 both)
wait_for 30 'both codes' shown "$first"
wait_for 30 'are shown' shown "$second"
ctl hold >/dev/null
pay_order "$first"
pay_order "$second"
ctl hold held=false >/dev/null
wait_for 60 'both are credited: one as ordered, the other as money of a second channel' \
	says 'order 9.00, second_channel 9.00' sql "SELECT string_agg(kind || ' ' || amount, ', ' ORDER BY kind) FROM submeter.payment_receipt WHERE payment_order_id IN ($first, $second)"
is "$(sql "SELECT string_agg(state, ' ') FROM submeter.payment_order WHERE payment_order_id IN ($first, $second)")" 'paid paid' 'both orders are paid'
is "$(sql "SELECT count(*) FROM submeter.proposal WHERE detail ->> 'why' = 'second_channel' AND amount = 9 AND state = 'open'")" 1 'and the second is proposed for refund'

# Cancelled here, but paid before the provider heard of it
for provider in alipay wechat; do
	ready "$provider" 4 "crossed-$provider"
	[ "$provider" = wechat ] || ctl scan "order=$(number "$id")" >/dev/null
	endpoint=alipay.trade.close
	[ "$provider" = alipay ] || endpoint=$CLOSE
	ctl fault kind=delay "endpoint=$endpoint" "order=$(number "$id")" arg=3 >/dev/null
	sql "SELECT submeter.cancel_payment(1, $id)" >/dev/null
	is "$(order_state "$id")" open "$provider: a cancelled order stays open until its provider has closed it"
	pay_order "$id" notify=false
	wait_for 60 "$provider: the provider refuses to close what is paid" at_least 1 events "$id" "source = 'close' AND outcome = 'none'"
	ask_now "$id"
	credited "$id" 'order 4.00' "$provider: and the money is found"
done

# A fen more, a fen less
for case in 'alipay 4.99' 'alipay 5.01' 'wechat 501'; do
	read -r provider amount <<<"$case"
	ready "$provider" 5 "fen-$provider-$amount"
	pay_order "$id" "amount=$amount"
	yuan=$amount
	[ "$provider" = alipay ] || yuan=5.01
	credited "$id" "other_amount $yuan" "$provider: $yuan instead of 5.00 is credited as it came"
	proposed "$id" "other_amount $yuan open" "$provider: and proposed for refund"
done

# Signed by the provider, but for somebody else
for case in 'alipay {"app_id":"2021000000000000"}' 'alipay {"seller_id":"2088000000000000"}' 'wechat {"mchid":"1600000000"}' 'wechat {"appid":"wx0000000000000000"}'; do
	read -r provider field <<<"$case"
	ready "$provider" 6 "foreign-$field"
	ctl fault kind=field endpoint=notify "order=$(number "$id")" "arg=$field" >/dev/null
	before=$(sql 'SELECT coalesce(max(payment_event_id), 0) FROM submeter.payment_event')
	pay_order "$id"
	wait_for 30 "$field: refused" says t sql "SELECT count(*) > 0 FROM submeter.payment_event WHERE payment_event_id > $before AND source = 'notify' AND NOT verified
		AND outcome LIKE 'signed, but for another%'"
	ask_now "$id"
	credited "$id" 'order 6.00' "$field: the money is found by asking"
	ctl forget >/dev/null
done

# An order that was made while we believed it was not
ctl fault kind=after-delay "endpoint=$NATIVE" arg=17 >/dev/null
id=$(order wechat 7 timed-out)
wait_for 90 'made there, our call timed out, asked again: the same order' shown "$id"
is "$(ctl journal "order=$(number "$id")" | grep -o "$NATIVE" | wc -l)" 2 'asked twice'
pay_order "$id"
credited "$id" 'order 7.00' 'paid once'

# Refunds that go wrong
before=$(balance)
for provider in alipay wechat; do
	endpoint=alipay.trade.refund
	[ "$provider" = alipay ] || endpoint='POST /v3/refund/domestic/refunds'
	ready "$provider" 10 "refund-$provider"
	pay_order "$id"
	credited "$id" 'order 10.00' "$provider: paid"
	# Its notification would tell, too.
	ctl hold >/dev/null
	ctl fault kind=after-status "endpoint=$endpoint" arg=500 count=2 >/dev/null
	refund 10 "accepted-$provider"
	wait_for 90 "$provider: a refund that was accepted and then answered with an error is asked for again" says t sql "SELECT attempts = 3 AND state = 'delivered' FROM submeter.outbound
		WHERE kind = 'payment_refund' AND ref ->> 'payment_refund_id' = (SELECT max(payment_refund_id)::text FROM submeter.payment_refund)"
	ctl hold held=false >/dev/null
	[ "$provider" = alipay ] || ctl settle-refund "refund=$(refund_number "$id")" >/dev/null
	sql "UPDATE submeter.payment_refund SET next_check_at = now() WHERE next_check_at IS NOT NULL"
	wait_for 60 "$provider: it is done" says "done" refund_state "$id"
	is "$(back_there "$id")" 10.00 "$provider: and moved money once"
done
is "$(balance)" "$before" 'the balance is as before'
ready wechat 11 abnormal
pay_order "$id"
credited "$id" 'order 11.00' 'paid'
refund 11 abnormal
wait_for 60 'a refund under way' says processing refund_state "$id"
ctl settle-refund "refund=$(refund_number "$id")" status=ABNORMAL >/dev/null
wait_for 60 'may turn out abnormal: the card is gone' says abnormal refund_state "$id"
is "$(sql "SELECT count(*) FROM submeter.alarm WHERE rule = 'payment_refund_failed'") $(balance)" "1 $before" 'people are told; the money is not on the account'
ctl settle-refund "refund=$(refund_number "$id")" >/dev/null
wait_for 60 'until somebody settles it at the provider' says "done" refund_state "$id"
is "$(back_there "$id")" 11.00 'then it is done'
ready wechat 13 closed
pay_order "$id"
credited "$id" 'order 13.00' 'paid'
refund 13 closed
wait_for 60 'another refund under way' says processing refund_state "$id"
ctl settle-refund "refund=$(refund_number "$id")" status=CLOSED >/dev/null
wait_for 60 'that the provider gives up' says failed refund_state "$id"
is "$(sql "SELECT submeter.balance(1, 1) - $before") $(back_there "$id")" '13.00 0.00' 'is money on the account again'
ready alipay 14 slow
pay_order "$id"
credited "$id" 'order 14.00' 'paid'
ctl fault kind=refund-processing endpoint=alipay.trade.refund >/dev/null
refund 14 slow
wait_for 60 'a refund that takes its time' says processing refund_state "$id"
ctl settle-refund "refund=$(refund_number "$id")" status=FAIL >/dev/null
sql "UPDATE submeter.payment_refund SET next_check_at = now() WHERE next_check_at IS NOT NULL"
wait_for 60 'and fails at last' says failed refund_state "$id"
is "$(sql "SELECT submeter.balance(1, 1) - $before") $(back_there "$id")" '27.00 0.00' 'is money on the account again'
ready alipay 15 finished
pay_order "$id" finished=true
credited "$id" 'order 15.00' 'finished at once, without having been a success before: credited'
refund 15 finished
wait_for 60 'what is finished cannot be refunded there' says failed refund_state "$id"
is "$(sql "SELECT submeter.balance(1, 1) - $before")" 42.00 'and is money on the account again'

# Paid a second before midnight in China, heard of after it
midnight=$(date -d "$(TZ=Asia/Shanghai date +%F) 00:00:00 +0800" +%s)
for provider in alipay wechat; do
	ready "$provider" 2 "midnight-$provider"
	pay_order "$id" at=$((midnight - 1))
	credited "$id" 'order 2.00' "$provider: paid"
	is "$(sql "SELECT to_char(paid_at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI:SS') FROM submeter.payment_receipt WHERE payment_order_id = $id")" \
		"$(TZ=Asia/Shanghai date -d "@$((midnight - 1))" '+%F %T')" "$provider: it counts for the day it was paid on"
done

# Credited, and the server dies before the provider heard that
for provider in alipay wechat; do
	ready "$provider" 16 "ack-$provider"
	ctl fault kind=timeout endpoint=notify "order=$(number "$id")" arg=0.001 >/dev/null
	pay_order "$id"
	credited "$id" 'order 16.00' "$provider: credited, and the provider did not hear so"
	server_kill9 db
	setup 'start the server again' server_start db
	wait_for 60 "$provider: it comes again and hears now" eval "ctl hurry >/dev/null; [ \"\$(ctl pending)\" = '[]' ]"
	is "$(receipts "$id")" 'order 16.00' "$provider: credited once"
done

# One host of the provider is down
ctl fault kind=drop host=first count=null >/dev/null
sql "UPDATE submeter.merchant SET api_base = '$SECOND'" >/dev/null
ready wechat 1.5 second-host
ctl clear >/dev/null
pay_order "$id"
credited "$id" 'order 1.50' 'over the provider'\''s other host'

# A trade the provider closes by itself, and a payer who tries
ready wechat 2.5 payer
ctl payer "order=$(number "$id")" state=USERPAYING >/dev/null
ask_now "$id"
wait_for 30 'a payer is at it' at_least 1 events "$id" "source = 'query' AND outcome = 'waiting'"
ctl payer "order=$(number "$id")" state=PAYERROR >/dev/null
pay_order "$id"
credited "$id" 'order 2.50' 'it did not work at first'
books_agree 'after all'
is "$(sql "SELECT outcome FROM submeter.payment_event WHERE outcome LIKE 'failed: %'")" '' 'no message failed in our own code'
done_testing
