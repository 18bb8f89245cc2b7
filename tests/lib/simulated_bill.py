#!/usr/bin/env python3
"""A bill file of the simulated providers in hexadecimal digits: simulated_bill.py alipay|wechat|wechat-plain.

Two payments on 22 March 2026 (100.00, and 50.00 a second before midnight with awkward characters in its name), one the day after,
and refunds of 30.00 and 0.01, one of them the day after.
"""
import datetime
import gzip
import pathlib
import sys
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'sim' / 'provider'))
import alipay  # noqa: E402
import wechat  # noqa: E402
from world import World  # noqa: E402

SUBJECT = '电费,水费 "A" `B` 乗丂'


def at(day, clock):
    return datetime.datetime.fromisoformat('2026-03-%sT%s+08:00' % (day, clock)).timestamp()


def alipay_bill(world):
    side = alipay.Alipay(world, 'http://localhost')
    app = side.apps[side.merchant()['app_id']]
    for number, subject, paid, amount in (('P1', '电费', at('22', '10:00:00'), '100.00'), ('P2', SUBJECT, at('22', '23:59:59'), '50.00'),
                                          ('P3', '电费', at('23', '00:00:00'), '1.00')):
        app['orders'][number] = {'number': number, 'subject': subject, 'created': paid - 9, 'paid': paid, 'amount': Decimal(amount),
                                 'coupon': Decimal(0), 'trade_no': 'T' + number, 'refunds': {}, 'refund_at': {}, 'refund_state': {}}
    first = app['orders']['P1']
    first['refunds'] = {'R1': Decimal('30.00'), 'R2': Decimal('0.01')}
    first['refund_at'] = {'R1': at('22', '12:00:00'), 'R2': at('23', '12:00:00')}
    first['refund_state'] = {'R1': 'REFUND_SUCCESS', 'R2': 'REFUND_SUCCESS'}
    side.tokens['t'] = (app['app_id'], '2026-03-22', world.now() + 60)
    return side.bill('t')


def wechat_bill(world):
    side = wechat.Wechat(world, 'http://localhost')
    merchant = side.merchants[side.merchant()['mchid']]
    for number, subject, paid, amount in (('P1', '电费', at('22', '10:00:00'), 10000), ('P2', SUBJECT, at('22', '23:59:59'), 5000),
                                          ('P3', '电费', at('23', '00:00:00'), 100)):
        merchant['orders'][number] = {'number': number, 'description': subject, 'attach': 'x,`y' if number == 'P2' else None, 'paid': paid,
                                      'amount': amount, 'transaction_id': 'T' + number, 'openid': 'o', 'kind': 'native'}
    for number, amount, created in (('R1', 3000, at('22', '12:00:00')), ('R2', 1, at('23', '12:00:00'))):
        merchant['refunds'][number] = {'number': number, 'order': 'P1', 'amount': amount, 'refund_id': 'W' + number, 'created': created,
                                       'status': 'SUCCESS'}
    return side._bill_text(merchant, '2026-03-22', side._bill_rows(merchant, '2026-03-22'))


kind = sys.argv[1]
bill = alipay_bill(World()) if kind == 'alipay' else wechat_bill(World())
print((gzip.compress(bill) if kind == 'wechat' else bill).hex())
