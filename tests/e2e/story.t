#!/bin/bash
# The whole story on real wire traffic, to the Wh and the cent: five shops on measured load curves,
# one of which runs out of money, is warned, told, cut, pays and is reconnected. The time of the
# meters stands still but for the hours given to it, so every register follows from the CSV file.
# shellcheck source=tests/lib/tap.sh
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/demo/lib.sh
. "$(dirname "$0")/../demo/lib.sh"
at_exit market_close
at_exit story_tell

story_tell()
{
	((_tap_failed == 0)) || diag "$(tail -n 40 "$MARKET_POLLER_LOG")"
}

# The column of a shop in market.csv.
column_of()
{
	case $1 in
		A-101) echo 2 ;;
		A-102) echo 3 ;;
		A-103) echo 4 ;;
		B-101) echo 5 ;;
		B-102) echo 6 ;;
	esac
}

# load_mwh UNIT FROM TO: what a shop uses in those hours, in mWh, by the file alone.
load_mwh()
{
	awk -F, -v column="$(column_of "$1")" -v from="$2" -v to="$3" \
		'NR > 1 + from && NR <= 1 + to { sum += $column * 1000000 } END { printf "%.0f", sum }' "$SM_RUN/market.csv"
}

# charge_of WH...: what that much energy costs by the tariff of the property, exactly, by plain arithmetic.
charge_of()
{
	ask "SELECT trim_scale(least(k, 20) * 0.589 + greatest(least(k, 40) - 20, 0) * 0.639 + greatest(k - 40, 0) * 0.889)
		FROM (SELECT $1::numeric / 1000) x(k)"
}

meter_id()
{
	ask "SELECT meter_id FROM submeter.meter WHERE code = '$1'"
}

# Lets hours pass at the meters at once and waits until they are charged.
hours=0
pass_hours()
{
	farm advance $(($1 * 3600)) >/dev/null
	hours=$((hours + $1))
}

answers()
{
	local got
	got=$(ask "$1") && [ "$got" = "$2" ]
}

decided()
{
	answers "SELECT count(*) > 0 FROM submeter.decision d WHERE d.account_id = $bakery AND d.action = '$1' AND d.reason = '$2'" t
}

accepted()
{
	answers "SELECT count(*) FROM submeter.notice n WHERE n.account_id = $bakery AND n.kind = '$1' AND n.state = 'accepted'" "${2:-1}"
}

last_relay()
{
	answers "SELECT relay FROM submeter.reading WHERE meter_id = $meter ORDER BY ts DESC LIMIT 1" "$1"
}

balance()
{
	ask "SELECT submeter.balance(1, (SELECT account_id FROM submeter.account WHERE code = '$1'))"
}

# One charge an account: a month that ends makes two of it.
month_lasts
setup 'open the market' market_open
bakery=$(ask "SELECT account_id FROM submeter.account WHERE code = 'bakery'")
meter=$(meter_id A-101)

# Readings arrive.
wait_for 30 'every meter is read' answers "SELECT count(DISTINCT meter_id) FROM submeter.reading WHERE source = 'poll'" 6
is "$(ask "SELECT string_agg(DISTINCT energy_wh::text, ' ') FROM submeter.reading WHERE meter_id = $meter")" 1234560 \
	'the register is what the meter shows'
is "$(ask 'SELECT sum(accrued) FROM submeter.account_balance')" 0 'nothing is used, nothing is charged'
is "$(balance bakery)" 15.00 'the bakery has what it paid'

# Balances fall, by exactly what the hours cost.
pass_hours 6
wait_for 30 'six hours are charged' market_is_settled
check_shop()
{
	local unit=$1 from_wh=$2 paid=$3 want_mwh want_wh used amount
	want_mwh=$((from_wh * 1000 + $(load_mwh "$unit" 0 "$hours")))
	# shellcheck disable=SC2046 # two words
	is "$(farm get $(meter_of "$unit") register_mwh)" "$want_mwh" "$unit: the farm's register follows the curve"
	want_wh=$((want_mwh / 10000 * 10))
	is "$(ask "SELECT energy_wh FROM submeter.reading WHERE meter_id = $(meter_id "$unit") ORDER BY ts DESC LIMIT 1")" "$want_wh" \
		"$unit: and is read"
	used=$((want_wh - from_wh))
	amount=$(charge_of "$used")
	is "$(ask "SELECT c.energy_wh || ' ' || trim_scale(c.amount) || ' ' || c.rounded FROM submeter.charge c JOIN submeter.supply y USING (site_id, account_id)
		WHERE y.meter_id = $(meter_id "$unit")")" "$used $amount $(ask "SELECT round($amount, 2)")" "$unit: energy, exact amount and rounded amount"
	is "$(ask "SELECT b.available FROM submeter.account_balance b JOIN submeter.supply y USING (site_id, account_id) WHERE y.meter_id = $(meter_id "$unit")")" \
		"$(ask "SELECT $paid - round($amount, 2)")" "$unit: the balance fell by it"
}
check_shop A-101 1234560 15.00
check_shop A-102 980000 100.00
check_shop A-103 45670 500.00
check_shop B-101 7700120 500.00
check_shop B-102 310450 500.00

# The warning.
wait_for 30 'the bakery is below 10: a low-balance notice is accepted' accepted low_balance
file=$(notice_files low_balance bakery)
is "$(notice_part "$file" subject)" 'Riverside Market: low electricity balance, A-101' 'its file, read by a foreign mail library: the subject'
like "$(notice_part "$file" body)" "is $(balance bakery) CNY, below 10\.00 CNY" 'and the balance'
is "$(stat -c %a "$file" | cut -c3)" 0 'others on the machine cannot read it'

# Arrears: told first, cut not before the lead time is over, although the money is gone.
pass_hours 6
wait_for 30 'twelve hours are charged' market_is_settled
available=$(balance bakery)
like "$available" '^-[0-9]' 'the bakery is in arrears'
wait_for 30 'the trip is announced' decided announce arrears
wait_for 30 'and the announcement accepted' accepted trip_announced
is "$(farm get hall 1 relay)" closed 'the breaker is still closed'
missing=${available#-}
like "$(notice_part "$(notice_files trip_announced bakery)" body | tr '\n' ' ')" "balance is -$missing CNY.*at least $missing CNY is paid before [0-9-]+ [0-9:]+" \
	'it says what is missing, and until when'

# The trip.
opened()
{
	answers "SELECT state FROM submeter.command WHERE meter_id = $meter AND action = '$1'" confirmed
}
wait_for 40 'the breaker opens' opened open
is "$(farm get hall 1 relay)" open 'the relay of the meter is open'
is "$(farm get hall 1 writes)" 1 'by one write'
is "$(farm log hall | tr ' ' '\n' | sed -n 's/^write=[0-9]*:\(.*\)/\1/p')" 1:16:0x001A:0:ok 'to its unit, by function 16, to the register of the relay'
is "$(ask "SELECT format('%s %s %s %s %s', cause, relay_before, relay_after, evidence ->> 'kind', attempts) FROM submeter.command WHERE meter_id = $meter")" \
	'arrears closed open relay_register 1' 'evidence: closed before, open after, read from the meter'
is "$(ask "SELECT d.decided_at >= n.accepted_at + interval '5 s' AND c.sent_at >= d.decided_at FROM submeter.decision d, submeter.notice n, submeter.command c
	WHERE d.account_id = $bakery AND d.action = 'trip' AND n.account_id = $bakery AND n.kind = 'trip_announced' AND c.decision_id = d.decision_id")" t \
	'not before the lead time after the announcement was accepted'
wait_for 10 'a reading shows it open' last_relay open
is "$(ask "SELECT string_agg(cause, ',') FROM submeter.open_cause WHERE meter_id = $meter")" arrears 'with its cause on record'
is "$(ask "SELECT count(*) FROM submeter.command")" 1 'nobody else was switched'
wait_for 20 'the bakery is told' accepted tripped

# Dark: the register stands still, and the shopkeeper is answered.
dark_mwh=$(farm get hall 1 register_mwh)
dark_from=$hours
pass_hours 5
wait_for 30 'five dark hours are settled' market_is_settled
is "$(farm get hall 1 register_mwh)" "$dark_mwh" 'the register stands still'
is "$(balance bakery)" "$available" 'and so does the balance'
is "$(ask_as bakery "SELECT step, next_step FROM submeter.why_dark(1, (SELECT meter_id FROM submeter.meter)) WHERE next_step IS NOT NULL")" \
	"2|Recharge at least $missing CNY." 'the shopkeeper learns what to do, and sees one meter only'
like "$(ask_as bakery "SELECT submeter.why_dark(1, $(meter_id A-102))" 2>&1)" 'does not exist' "and nothing about a neighbour's"

# A recharge that is too small, and one that is enough.
ask_as cashier "SELECT submeter.recharge(1, $bakery, 0.01, 'cash', 'small')" >/dev/null
is "$(balance bakery)" "$(ask "SELECT $available + 0.01")" 'a cent is credited'
is "$(farm get hall 1 relay)" open 'and closes nothing'
ask_as cashier "SELECT submeter.recharge(1, $bakery, 50, 'cash', 'enough')" >/dev/null
wait_for 30 'the breaker closes' opened close
is "$(farm get hall 1 relay)" closed 'the relay of the meter is closed'
is "$(farm log hall | tr ' ' '\n' | sed -n 's/^write=[0-9]*:\(.*\)/\1/p' | tr '\n' ' ')" '1:16:0x001A:0:ok 1:16:0x001A:1:ok ' 'by the second write there ever was'
is "$(ask "SELECT count(*) FROM submeter.open_cause")" 0 'no cause is left'
wait_for 10 'a reading shows it closed' last_relay closed
wait_for 20 'the bakery is told' accepted reconnected
is "$(ask_as cashier "SELECT submeter.recharge(1, $bakery, 50, 'cash', 'enough')")" \
	"$(ask "SELECT transfer_id FROM submeter.transfer WHERE idempotency_key = 'enough'")" 'the same receipt again is the same movement'

# Power again: the dark hours are missing from the register and from the bill, and from nobody else's.
pass_hours 4
wait_for 30 'four more hours are charged' market_is_settled
dark=$(load_mwh A-101 "$dark_from" $((dark_from + 5)))
is "$(farm get hall 1 register_mwh)" $((1234560000 + $(load_mwh A-101 0 "$hours") - dark)) 'the register went on where it stood'
check_shop A-102 980000 100.00
check_shop B-102 310450 500.00
isnt "$dark" 0 'the dark hours would have had a load'

# The order of what was decided.
is "$(ask "SELECT string_agg(action || ' ' || reason, ', ' ORDER BY decision_id) FROM submeter.decision
	WHERE account_id = $bakery AND action IN ('warn', 'announce', 'trip', 'reconnect')")" \
	'warn low_balance, announce arrears, trip arrears, reconnect paid' 'warned, announced, cut, reconnected: each once, in this order'
is "$(ask "SELECT string_agg(DISTINCT action, ',') FROM submeter.decision WHERE account_id NOT IN ($bakery, (SELECT account_id FROM submeter.account WHERE code = 'tea'))")" \
	none 'about the others there was nothing to decide'
like "$(notice_part "$(notice_files recharge_received tea)" subject)" '^Riverside Market:充值 100\.00 元 已到账$' 'the tea house reads Chinese'

# The day is closed.
is "$(ask_as manager 'SELECT submeter.post_charges(1) > 0')" t "the day's deductions are posted"
is "$(ask_as manager 'SELECT submeter.post_charges(1)')" 0 'once'
used=$(($(farm get hall 1 register_wh) / 10 * 10 - 1234560))
amount=$(charge_of "$used")
is "$(ask "SELECT trim_scale(amount) || ' ' || posted FROM submeter.charge WHERE account_id = $bakery")" "$amount $(ask "SELECT round($amount, 2)")" \
	'the charge of the bakery, through tiers and darkness'
is "$(ask "SELECT sum(amount) FROM submeter.transfer WHERE account_id = $bakery AND kind = 'charge'")" "$(ask "SELECT round($amount, 2)")" \
	'deductions add up to the rounded amount'
is "$(ask 'SELECT sum(amount) FROM submeter.transfer WHERE kind = '"'charge'")" "$(ask 'SELECT sum(rounded) FROM submeter.charge')" 'and so they do for all'
is "$(balance bakery)" "$(ask "SELECT 15 + 0.01 + 50 - round($amount, 2)")" 'paid less used is what is left'
is "$(ask_as manager 'SELECT * FROM submeter.verify_ledger(1)')" '' 'the ledger is verified'
is "$(ask "SELECT count(*) FROM submeter.reading_suspect")" 0 'no reading was doubted'
is "$(ask "SELECT string_agg(part || ': ' || detail, '; ') FROM submeter.health WHERE NOT ok")" '' 'everything is well'
is "$(ask "SELECT string_agg(n.notice_id::text, ' ') FROM submeter.notice n WHERE n.state <> 'accepted'")" '' 'every notice was delivered'

# When the poller is gone, what it said last does not count for ever.
market_close
ask "UPDATE submeter.gateway SET last_contact_at = last_contact_at - interval '3 minutes' WHERE code = 'yard'"
is "$(ask "SELECT string_agg(part, ', ') FROM submeter.health WHERE NOT ok")" 'gateway yard' 'a gateway nobody has spoken to for minutes is not well'

# Everything people look at opens for everybody it is granted to.
is "$(server_psql market market 2>&1 <<'SQL'
DO $$
DECLARE
	item record;
BEGIN
	FOR item IN
		SELECT c.oid::regclass AS relation, r.rolname
		FROM pg_class c, pg_roles r
		WHERE c.relnamespace = 'submeter'::regnamespace AND c.relkind IN ('v', 'r', 'p') AND r.rolname LIKE 'submeter\_%'
			AND has_table_privilege(r.rolname, c.oid, 'SELECT')
	LOOP
		BEGIN
			EXECUTE format('SET LOCAL ROLE %I', item.rolname);
			EXECUTE format('CREATE TEMP TABLE looked ON COMMIT DROP AS SELECT * FROM %s', item.relation);
			RESET ROLE;
			DROP TABLE looked;
		EXCEPTION WHEN OTHERS THEN
			RESET ROLE;
			RAISE NOTICE '% cannot look at %: %', item.rolname, item.relation, SQLERRM;
		END;
	END LOOP;
END
$$;
SQL
)" '' 'no view is granted to a role that cannot read what it shows'
done_testing
