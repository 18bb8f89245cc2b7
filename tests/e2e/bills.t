#!/usr/bin/env bash
# The bills of a month against the published tariffs, by arithmetic of its own: a few lines of Python over the measured
# loads that know nothing of the product but the registers a meter would have shown.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-bills.XXXXXX)
at_exit rm -rf "$work"
cat >"$work/pencil.py" <<'END'
import datetime, decimal, sys
from decimal import Decimal as D

data, month = sys.argv[1], datetime.datetime.fromisoformat(sys.argv[2])
summer = 5 <= month.month <= 10
after = datetime.datetime(month.year + month.month // 12, month.month % 12 + 1, 1)
CENT = D("0.01")


def column(file, n):
    return [D(line.split(",")[n]) for line in open(f"{data}/{file}").read().split("\n")[1:] if line]


def used(loads, minutes, ratio=1):
    """Energy of each slot in Wh, as the difference of registers in whole Wh."""
    slots, total, last = [], D(0), D(0)
    for n in range(int((after - month).total_seconds()) // (minutes * 60)):
        total += loads[n % len(loads)]
        register = (total * 1000 / ratio).quantize(D(1), decimal.ROUND_HALF_UP)
        slots.append((month + datetime.timedelta(minutes=minutes * n), int(register - last) * ratio))
        last = register
    return slots


def period(ts, sharp=False):
    if sharp and month.month in (7, 8, 9) and ts.hour in (11, 15, 16):
        return "sharp"
    return "peak" if ts.hour in (10, 11, 14, 15, 16, 17, 18) else "valley" if ts.hour < 8 else "flat"


def ladder(slots, bounds, price):
    cost, position = D(0), 0
    for ts, wh in slots:
        edges = [0, *[b * 1000 for b in bounds], 10**18]
        for tier in range(3):
            part = max(min(position + wh, edges[tier + 1]) - max(position, edges[tier]), 0)
            cost += part * (price(ts) + (D(0), D("0.05"), D("0.30"))[tier]) / 1000
        position += wh
    return cost


def bill(code, slots, cost):
    print(f"{code}|{D(sum(wh for _, wh in slots)) / 1000:.3f}|{cost.quantize(CENT, decimal.ROUND_HALF_UP)}")


FUNDS = D("0.00866875")
flat = used(column("homes_hourly.csv", 4), 60)
bill("flat-301", flat, ladder(flat, (260, 600) if summer else (200, 400), lambda ts: D("0.58886875")))

TOU = {"peak": D("0.9863"), "flat": D("0.5802"), "valley": D("0.2205")}
flat = used(column("homes_hourly.csv", 1), 60)
bill("flat-302", flat, ladder(flat, (360, 700) if summer else (300, 500), lambda ts: TOU[period(ts)] + FUNDS))

SHOP = {"sharp": D("1.4291"), "peak": D("1.1433"), "flat": D("0.6725"), "valley": D("0.2556")}
shop = used(column("buildings_hourly.csv", 9), 60)
bill("noodles", shop, sum(wh * SHOP[period(ts, True)] for ts, wh in shop) / 1000)

INDUSTRY = {"peak": D("0.775005"), "flat": D("0.4697"), "valley": D("0.23485")}
workshop = used(column("steel_15min.csv", 1), 15, 40)
energy = sum(wh * INDUSTRY[period(ts)] for ts, wh in workshop) / 1000
demand = D(max(wh for _, wh in workshop) * 4) / 1000 * 32
# 0.6 kvarh for each kWh: a power factor of 1 / sqrt(1.36) = 0.857, so 0.86, four steps of half a per cent below 0.90.
bill("workshop", workshop, (energy + demand) * D("1.02") + sum(wh for _, wh in workshop) * FUNDS / 1000)
END

server_start bills || bail 'no server'
for month in 2024-12-01 2025-07-01; do
	db=month_${month//-/}
	server_createdb bills "$db" || bail 'no database'
	server_psql bills "$db" -v data="$PWD/tests/data" -v month="$month" -f tests/demo/month.sql >"$work/out" 2>"$work/err" ||
		bail "$(cat "$work/err")"
	is "$(server_psql bills "$db" -c 'SELECT count(*) FROM submeter.reading_suspect')" 0 "$month: every reading is plausible"
	is "$(server_psql bills "$db" -c "SELECT submeter.close_cycle(1, ('$month'::date + interval '1 month')::date)")" 4 "$month: four bills"
	/usr/bin/python3 "$work/pencil.py" tests/data "$month" >"$work/wanted" || bail 'pencil.py'
	while IFS='|' read -r account kwh amount; do
		is "$(server_psql bills "$db" -c "SELECT kwh, amount FROM submeter.bill_statement WHERE account = '$account'")" "$kwh|$amount" \
			"$month: what $account pays"
	done <"$work/wanted"
	is "$(server_psql bills "$db" -c "SELECT count(*) FROM submeter.bill b WHERE b.amount <> (SELECT sum(l.amount) FROM submeter.bill_line l
		WHERE l.site_id = b.site_id AND l.bill_id = b.bill_id)")" 0 "$month: lines add up"
	is "$(server_psql bills "$db" -c "SELECT count(*) FROM submeter.bill_line l, LATERAL (SELECT sum(e.kwh) AS kwh FROM submeter.explain_bill(1, l.bill_id, l.line) e) e
		WHERE l.component = 'energy' AND e.kwh IS DISTINCT FROM l.energy_wh * 0.001")" 0 "$month: each line of energy is made of readings"
	is "$(server_psql bills "$db" -c 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 "$month: the ledger is verified"
done
done_testing
