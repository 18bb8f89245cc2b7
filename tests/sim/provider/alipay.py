"""Alipay OpenAPI v2 (gateway.do, RSA2): trades, refunds, notifications, bills."""
import csv
import datetime
import io
import json
import re
import secrets
import urllib.parse
import zipfile
from decimal import Decimal, InvalidOperation

import keys
from world import Call, compact

RETRIES = [240, 600, 600, 3600, 7200, 21600, 54000]
STORM = ['gbk-error', 'refund-processing']
STORM_NOTICES = ['gbk', 'percent', ('tamper', {'total_amount': '9999.00'}), ('field', {'app_id': '2021000000000000'})]
CHINA = datetime.timezone(datetime.timedelta(hours=8))


class GbkInfo(zipfile.ZipInfo):
    """An entry whose name is in GBK without saying so, as in the provider's archives."""

    def _encodeFilenameFlags(self):
        return self.filename.encode('gbk'), self.flag_bits & ~0x800


class Refusal(Exception):
    """What the gateway answers instead: code, sub_code, sub_msg."""

    def __init__(self, sub_code, message, code='40004', msg='Business Failed'):
        super().__init__(message)
        self.body = {'code': code, 'msg': msg, 'sub_code': sub_code, 'sub_msg': message}


class Alipay:
    def __init__(self, world, base):
        self.world = world
        self.base = base
        self.apps = {}
        self.tokens = {}
        self.numbers = {}
        now = world.now()
        self.root_key, self.key = keys.new_rsa(), keys.new_rsa()
        root = keys.name('Simulated Alipay Root R1')
        self.root = keys.certificate(root, self.root_key, root, self.root_key, now, ca=True)
        other_key, other = keys.new_ec(), keys.name('Simulated Alipay Root E1')
        self.other_root = keys.certificate(other, other_key, other, other_key, now, ca=True)
        self.cert = keys.certificate(keys.name('Simulated Alipay Public'), self.key, root,
                                     self.root_key, now)
        self.wrong_key = keys.new_rsa()

    # Set-up and control -------------------------------------------------------------------------

    def merchant(self, mode='key', fee='0.006'):
        """Opens an account; returns all a merchant gets and needs."""
        app_id = '2021' + format(secrets.randbelow(10 ** 12), '012d')
        seller = '2088' + format(secrets.randbelow(10 ** 12), '012d')
        key = keys.new_rsa()
        cert = keys.certificate(keys.name('app ' + app_id), key, self.root.subject, self.root_key,
                                self.world.now())
        self.apps[app_id] = {'app_id': app_id, 'seller': seller, 'mode': mode, 'key': key,
                             'cert': cert, 'orders': {}, 'fee': Decimal(fee)}
        return {'app_id': app_id, 'seller_id': seller, 'mode': mode, 'gateway': self.base + '/gateway.do',
                'app_private_key': keys.private_pem(key), 'app_cert': keys.cert_pem(cert),
                'alipay_public_key': keys.public_pem(self.key),
                'alipay_cert': keys.cert_pem(self.cert),
                'alipay_root_cert': keys.cert_pem(self.other_root) + keys.cert_pem(self.root)}

    def rotate(self):
        """A new signing key and certificate; the old one is not used any more."""
        self.key = keys.new_rsa()
        self.cert = keys.certificate(keys.name('Simulated Alipay Public'), self.key,
                                     self.root.subject, self.root_key, self.world.now())

    def find(self, order):
        for app in self.apps.values():
            if order in app['orders']:
                return app, app['orders'][order]
        raise KeyError('no such order: ' + order)

    def order_of(self, code):
        """The order a code to scan stands for; None: not one of ours."""
        return next((number for app in self.apps.values() for number, trade in app['orders'].items() if trade.get('qr') == code), None)

    def scan(self, order):
        """The buyer scans the QR code: now there is a trade."""
        app, trade = self.find(order)
        self._tick(trade)
        if self.world.now() > trade['qr_until'] or trade['status'] == 'TRADE_CLOSED':
            return {'scanned': False, 'why': 'the code is no longer valid'}
        if trade['status'] is None:
            self._begin(trade)
        return {'scanned': True, 'trade_no': trade['trade_no']}

    def pay(self, order, amount=None, notify=True, finished=False, coupon='0.00', at=None, twice=False):
        """The buyer pays; amount other than asked for, and twice, only to try the merchant."""
        scanned = self.scan(order)
        app, trade = self.find(order)
        if not scanned['scanned'] or trade['status'] != 'WAIT_BUYER_PAY':
            if not twice or not trade['paid']:
                return {'paid': False, 'status': trade['status'], 'why': scanned.get('why', 'not payable')}
            trade = self._second(app, trade)
        trade['status'] = 'TRADE_FINISHED' if finished else 'TRADE_SUCCESS'
        trade['paid'] = at or self.world.now()
        trade['amount'] = Decimal(str(amount)) if amount is not None else trade['amount']
        trade['coupon'] = Decimal(coupon)
        if notify:
            self._notify(app, trade)
        return {'paid': True, 'trade_no': trade['trade_no'], 'amount': str(trade['amount'])}

    def refund_here(self, order, amount, at=None):
        """The merchant refunds on the platform, and not over the interface."""
        trade = self.find(order)[1]
        number = 'platform%d' % self.world.number()
        self._book_refund(trade, number, self._amount(str(amount)))
        trade['refund_at'][number] = at or self.world.now()
        return {'refund': number}

    def backdate(self, order, at):
        """What happened to an order happened at another time."""
        trade = self.find(order)[1]
        if trade['paid']:
            trade['paid'] = at
        trade['refund_at'] = {number: at for number in trade['refund_at']}

    def _fee(self, app, trade):
        return (trade['amount'] * app['fee']).quantize(Decimal('0.01'))

    def _second(self, app, trade):
        """A second transaction of a trade that was paid: the same in all but its number."""
        again = dict(trade, trade_no=self._trade_no(), refunds={}, refund_at={}, refund_state={})
        name = '%s#%d' % (trade['number'], self.world.number())
        app['orders'][name] = again
        self.numbers[again['trade_no']] = name
        return again

    def has_refund(self, number):
        return any(number in trade['refunds'] for app in self.apps.values() for trade in app['orders'].values())

    def settle_refund(self, refund, status='SUCCESS'):
        """A refund that takes its time (fault refund-processing) ends: SUCCESS, or else FAIL."""
        app, trade = next((app, trade) for app in self.apps.values() for trade in app['orders'].values()
                          if refund in trade['refunds'])
        trade['refund_state'][refund] = 'REFUND_SUCCESS' if status == 'SUCCESS' else 'REFUND_FAIL'
        trade['refund_at'][refund] = self.world.now()
        if status == 'SUCCESS':
            self._refunded(app, trade, refund)
        return {'status': status}

    def unsettled(self):
        return [number for app in self.apps.values() for trade in app['orders'].values()
                for number, state in trade['refund_state'].items() if state == 'REFUND_PROCESSING']

    def book(self):
        """Per order what was paid and refunded: the provider's own truth."""
        return [{'provider': 'alipay', 'app_id': app['app_id'], 'order': trade['number'],
                 'trade_no': trade['trade_no'], 'status': trade['status'],
                 'paid': str(trade['amount']) if trade['paid'] else '0.00',
                 'fee': str(self._fee(app, trade)) if trade['paid'] else '0.00',
                 'refunded': str(self._back(trade))}
                for app in self.apps.values() for trade in app['orders'].values()]

    # The gateway --------------------------------------------------------------------------------

    def hear(self, verb, path, query, headers, body, host):
        """One request and the faults it meets."""
        parts = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if path != '/gateway.do':
            return Call(method=None, parts=parts, faults=self.world.faults_of('bill-call', None, host))
        charset = parts.get('charset')
        parts.update(urllib.parse.parse_qsl(body.decode('utf-8', 'replace'), keep_blank_values=True))
        method = parts.get('method', '')
        try:
            content = json.loads(parts.get('biz_content') or '{}')
        except ValueError:
            content = {}
        order = content.get('out_trade_no') or self.numbers.get(content.get('trade_no'), '').partition('#')[0] or None
        faults = self.world.faults_of(method, order, host, STORM)
        self.world.note(provider='alipay', method=method, order=order, content=content, faults=list(faults), host=host)
        return Call(method=method, parts=parts, charset=charset, content=content, faults=faults)

    def answer(self, call):
        """(status, headers, body bytes) of one request."""
        if call.method is None:
            data = self.bill(call.parts.get('token', ''))
            return (200, {'Content-Type': 'application/zip'}, data) if data else \
                (403, {'Content-Type': 'text/html'}, b'expired')
        faults, app = call.faults, None
        if 'status' in faults:
            return int(faults['status']), {'Content-Type': 'text/html'}, b'<html>busy</html>'
        if 'gbk-error' in faults:
            # The edge of the gateway answers by itself: without a signature, in its own character set.
            return 200, {'Content-Type': 'text/html;charset=GBK'}, compact({'error_response': {
                'code': '20000', 'msg': 'Service Currently Unavailable', 'sub_code': 'aop.unknow-error',
                'sub_msg': '系统繁忙'}}).encode('gbk')
        try:
            app = self._authenticate(call.parts, call.charset)
            if 'refuse' in faults or 'busy' in faults:
                raise Refusal(faults.get('refuse') or 'ACQ.SYSTEM_ERROR', '系统错误')
            answer = self._dispatch(call.method, app, call.parts, call.content, faults)
            if call.method.endswith('.pay') and call.method != 'alipay.trade.pay':
                return 200, {'Content-Type': 'text/html'}, b'<html>cashier</html>'
            if 'after-busy' in faults:
                raise Refusal('ACQ.SYSTEM_ERROR', '系统错误')
        except Refusal as refusal:
            answer = refusal.body
        if 'after-status' in faults:
            return int(faults['after-status']), {'Content-Type': 'text/html'}, b''
        return self._signed(call.method, answer, app, faults)

    def _authenticate(self, parts, charset):
        app = self.apps.get(parts.get('app_id'))
        if app is None:
            raise Refusal('isv.invalid-app-id', '无效的AppID参数', '40002', 'Invalid Arguments')
        text = '&'.join('%s=%s' % (k, parts[k]) for k in sorted(parts) if k != 'sign' and parts[k] != '')
        # Without the charset in the address the gateway reads the request as GBK.
        signed = text.encode('utf-8') if (charset or '').lower() == 'utf-8' else text.encode('gbk', 'replace')
        if parts.get('sign_type') != 'RSA2' or not keys.verify(app['key'], signed, parts.get('sign', '')):
            raise Refusal('isv.invalid-signature', '验签出错,待验签字符串:' + text, '40002', 'Invalid Arguments')
        try:
            stamp = datetime.datetime.strptime(parts.get('timestamp', ''), '%Y-%m-%d %H:%M:%S')
        except ValueError:
            raise Refusal('isv.invalid-timestamp', '非法的时间戳参数', '40002', 'Invalid Arguments')
        if abs(stamp.replace(tzinfo=CHINA).timestamp() - self.world.now()) > 900:
            raise Refusal('isv.invalid-timestamp', '非法的时间戳参数', '40002', 'Invalid Arguments')
        if app['mode'] == 'cert' and (parts.get('app_cert_sn') != keys.alipay_sn(app['cert'])
                                      or parts.get('alipay_root_cert_sn') !=
                                      keys.alipay_root_sn([self.other_root, self.root])):
            raise Refusal('isv.app-cert-invalid', '应用公钥证书或支付宝根证书序列号错误', '40002',
                          'Invalid Arguments')
        app['charset'] = 'utf-8' if (charset or '').lower() == 'utf-8' else 'gbk'
        return app

    def _dispatch(self, method, app, parts, content, faults):
        known = {'alipay.trade.precreate': self._precreate, 'alipay.trade.wap.pay': self._page,
                 'alipay.trade.page.pay': self._page, 'alipay.trade.app.pay': self._page,
                 'alipay.trade.create': self._create,
                 'alipay.trade.query': self._query, 'alipay.trade.close': self._close,
                 'alipay.trade.cancel': self._cancel, 'alipay.trade.refund': None,
                 'alipay.trade.fastpay.refund.query': self._refund_query,
                 'alipay.data.dataservice.bill.downloadurl.query': self._bill_url,
                 'alipay.data.bill.accountlog.query': self._account_log,
                 'alipay.open.app.alipaycert.download': self._cert_download}
        if method not in known:
            raise Refusal('isv.invalid-method', '不存在的方法名', '40002', 'Invalid Arguments')
        with self.world.lock:
            answer = self._refund(app, parts, content, 'refund-processing' in faults) \
                if method == 'alipay.trade.refund' else known[method](app, parts, content)
        return dict({'code': '10000', 'msg': 'Success'}, **answer)

    def _signed(self, method, answer, app, faults):
        node = method.replace('.', '_') + '_response' if answer.get('sub_code') != 'isv.invalid-app-id' \
            else 'error_response'
        text = json.dumps(answer, ensure_ascii=False, separators=(',', ':')).replace('/', '\\/')
        signer = self.wrong_key if 'wrong-signature' in faults or 'other-key' in faults else self.key
        pieces = ['"%s":%s' % (node, text)]
        if 'no-signature' not in faults:
            if app is not None and app['mode'] == 'cert':
                pieces.append('"alipay_cert_sn":"%s"' % (secrets.token_hex(16) if 'other-key' in faults
                                                         else keys.alipay_sn(self.cert)))
            pieces.append('"sign":"%s"' % keys.sign(signer, text.encode()))
        whole = '{' + ','.join(pieces) + '}'
        if 'reserialise' in faults:
            whole = json.dumps(json.loads(whole), ensure_ascii=True, indent=1)
        data = whole.encode()
        if 'truncate' in faults:
            data = data[:len(data) // 2]
        return 200, {'Content-Type': 'text/html;charset=utf-8'}, data

    # Methods ------------------------------------------------------------------------------------

    def _amount(self, text):
        try:
            amount = Decimal(str(text))
        except InvalidOperation:
            amount = Decimal(0)
        if not re.fullmatch(r'\d{1,9}(\.\d{1,2})?', str(text)) or not Decimal('0.01') <= amount <= 100000000:
            raise Refusal('ACQ.INVALID_PARAMETER', '参数无效:金额')
        return amount.quantize(Decimal('0.01'))

    def _stamp(self, at):
        return datetime.datetime.fromtimestamp(at, CHINA).strftime('%Y-%m-%d %H:%M:%S')

    def _trade_no(self):
        day = datetime.datetime.fromtimestamp(self.world.now(), CHINA).strftime('%Y%m%d')
        return day + '220014' + format(self.world.number(), '014d')

    def _order(self, app, parts, content, product):
        number = content.get('out_trade_no', '')
        if not re.fullmatch(r'[0-9A-Za-z_]{1,64}', number) or not content.get('subject'):
            raise Refusal('ACQ.INVALID_PARAMETER', '参数无效:out_trade_no, subject')
        amount = self._amount(content.get('total_amount'))
        asked = (str(amount), content['subject'], product, content.get('seller_id'))
        trade = app['orders'].get(number)
        if trade is not None:
            if trade['asked'] != asked:
                raise Refusal('ACQ.CONTEXT_INCONSISTENT', '交易信息被篡改')
            if trade['paid']:
                raise Refusal('ACQ.TRADE_HAS_SUCCESS', '交易已被支付')
            if trade['status'] == 'TRADE_CLOSED':
                raise Refusal('ACQ.TRADE_HAS_CLOSE', '交易已经关闭')
            return trade
        trade = {'number': number, 'asked': asked, 'amount': amount, 'subject': content['subject'],
                 'notify_url': parts.get('notify_url'), 'status': None, 'trade_no': None, 'paid': None,
                 'refunds': {}, 'refund_at': {}, 'refund_state': {}, 'coupon': Decimal(0), 'created': self.world.now(),
                 'buyer': '2088' + format(secrets.randbelow(10 ** 12), '012d'), 'charset': app['charset'],
                 'qr_until': self.world.now() + 7200}
        self._set_end(trade, content)
        app['orders'][number] = trade
        return trade

    def _set_end(self, trade, content):
        if content.get('time_expire'):
            try:
                end = datetime.datetime.strptime(content['time_expire'], '%Y-%m-%d %H:%M:%S')
            except ValueError:
                raise Refusal('ACQ.INVALID_PARAMETER', '参数无效:time_expire')
            trade['qr_until'] = min(trade['qr_until'], end.replace(tzinfo=CHINA).timestamp())
        match = re.fullmatch(r'(\d+)([mhd])', content.get('timeout_express') or '')
        if match:
            trade['qr_until'] = min(trade['qr_until'], trade['created'] + int(match[1]) *
                                    {'m': 60, 'h': 3600, 'd': 86400}[match[2]])

    def _precreate(self, app, parts, content):
        trade = self._order(app, parts, content, 'FACE_TO_FACE_PAYMENT')
        trade.setdefault('qr', 'https://qr.alipay.com/bax' + secrets.token_hex(12))
        return {'out_trade_no': trade['number'], 'qr_code': trade['qr']}

    def _page(self, app, parts, content):
        trade = self._order(app, parts, content, content.get('product_code'))
        if trade['status'] is None:
            self._begin(trade)
        return {}

    def _create(self, app, parts, content):
        if not (content.get('buyer_id') or content.get('buyer_open_id')):
            raise Refusal('ACQ.INVALID_PARAMETER', '参数无效:buyer_id')
        self._page(app, parts, content)
        return {'out_trade_no': content['out_trade_no'],
                'trade_no': app['orders'][content['out_trade_no']]['trade_no']}

    def _begin(self, trade):
        trade['status'], trade['trade_no'] = 'WAIT_BUYER_PAY', self._trade_no()
        self.numbers[trade['trade_no']] = trade['number']

    def _tick(self, trade):
        """A trade nobody paid in time is closed by the provider."""
        if trade['status'] == 'WAIT_BUYER_PAY' and self.world.now() > trade['qr_until']:
            trade['status'] = 'TRADE_CLOSED'

    def _existing(self, app, content):
        # The provider's number goes before the merchant's.
        trade = app['orders'].get(self.numbers.get(content.get('trade_no')) or content.get('out_trade_no'))
        if trade is None or trade['status'] is None:
            raise Refusal('ACQ.TRADE_NOT_EXIST', '交易不存在')
        self._tick(trade)
        return trade

    def _query(self, app, parts, content):
        trade = self._existing(app, content)
        answer = {'trade_no': trade['trade_no'], 'out_trade_no': trade['number'],
                  'buyer_logon_id': '159****5620', 'trade_status': trade['status'],
                  'total_amount': str(trade['amount']), 'buyer_user_id': trade['buyer']}
        if trade['paid']:
            answer.update(receipt_amount=str(trade['amount'] - trade['coupon']),
                          buyer_pay_amount=str(trade['amount'] - trade['coupon']),
                          send_pay_date=self._stamp(trade['paid']))
        return answer

    def _close(self, app, parts, content):
        trade = self._existing(app, content)
        if trade['paid']:
            raise Refusal('ACQ.TRADE_STATUS_ERROR', '交易状态不合法')
        if trade['status'] != 'TRADE_CLOSED':
            trade['status'] = 'TRADE_CLOSED'
            self._notify(app, trade)
        return {'trade_no': trade['trade_no'], 'out_trade_no': trade['number']}

    def _cancel(self, app, parts, content):
        trade = app['orders'].get(content.get('out_trade_no'))
        if trade is None or trade['status'] is None:
            return {'out_trade_no': content.get('out_trade_no'), 'retry_flag': 'N', 'action': 'close'}
        action = 'close'
        if trade['paid']:
            action = 'refund'
            self._book_refund(trade, 'cancel', trade['amount'] - self._back(trade, ''))
        trade['status'] = 'TRADE_CLOSED'
        return {'trade_no': trade['trade_no'], 'out_trade_no': trade['number'], 'retry_flag': 'N',
                'action': action}

    def _back(self, trade, but='REFUND_FAIL'):
        """What went back to the payer; with '' also what failed."""
        done = ('REFUND_SUCCESS',) if but == 'REFUND_FAIL' else ('REFUND_SUCCESS', 'REFUND_PROCESSING')
        return sum((amount for number, amount in trade['refunds'].items()
                    if trade['refund_state'][number] in done), Decimal('0.00'))

    def _book_refund(self, trade, number, amount, state='REFUND_SUCCESS'):
        trade['refunds'][number] = amount
        trade['refund_at'][number] = self.world.now()
        trade['refund_state'][number] = state

    def _refunded(self, app, trade, number):
        if self._back(trade) == trade['amount']:
            trade['status'] = 'TRADE_CLOSED'
        self._notify(app, trade, number)

    def _refund(self, app, parts, content, slowly):
        trade = self._existing(app, content)
        amount = self._amount(content.get('refund_amount'))
        number = content.get('out_request_no') or trade['number']
        if number in trade['refunds'] and trade['refund_state'][number] != 'REFUND_FAIL':
            if trade['refunds'][number] != amount:
                raise Refusal('ACQ.REFUND_AMT_NOT_EQUAL_TOTAL', '退款金额不一致')
            changed = 'N'
        elif not trade['paid'] or trade['status'] != 'TRADE_SUCCESS':
            raise Refusal('ACQ.TRADE_STATUS_ERROR', '交易状态不合法')
        elif self._back(trade, '') + amount > trade['amount']:
            raise Refusal('ACQ.REFUND_AMT_NOT_EQUAL_TOTAL', '退款金额超限')
        else:
            self._book_refund(trade, number, amount, 'REFUND_PROCESSING' if slowly else 'REFUND_SUCCESS')
            changed = 'N' if slowly else 'Y'
            if not slowly:
                self._refunded(app, trade, number)
        return {'trade_no': trade['trade_no'], 'out_trade_no': trade['number'], 'fund_change': changed,
                'refund_fee': str(self._back(trade)), 'buyer_user_id': trade['buyer']}

    def _refund_query(self, app, parts, content):
        trade = self._existing(app, content)
        number = content.get('out_request_no')
        if number not in trade['refunds']:
            return {}
        return {'trade_no': trade['trade_no'], 'out_trade_no': trade['number'], 'out_request_no': number,
                'total_amount': str(trade['amount']), 'refund_amount': str(trade['refunds'][number]),
                'refund_status': trade['refund_state'][number]}

    def _account_log(self, app, parts, content):
        """Movements of the account between two times, the first included and the second not, by pages."""
        size, page = int(content.get('page_size') or 2000), int(content.get('page_no') or 1)
        start, end = content.get('start_time', ''), content.get('end_time', '')
        if not start or not start < end or not 1 <= size <= 2000 or page < 1:
            raise Refusal('INVALID_PARAMETER', '参数有误')
        rows = [(trade['paid'], trade['trade_no'], trade['number'], trade['amount'] - trade['coupon'], '在线支付')
                for trade in app['orders'].values() if trade['paid']]
        rows += [(trade['refund_at'][number], trade['trade_no'], trade['number'], -amount, '退款')
                 for trade in app['orders'].values() for number, amount in trade['refunds'].items()
                 if trade['refund_state'][number] == 'REFUND_SUCCESS']
        rows = [row for row in sorted(rows) if start <= self._stamp(row[0]) < end]
        return {'page_no': str(page), 'page_size': str(size), 'total_size': str(len(rows)), 'detail_list': [
            {'trans_dt': self._stamp(at), 'alipay_order_no': trade_no, 'merchant_order_no': number,
             'trans_amount': str(amount), 'type': kind, 'direction': '收入' if amount > 0 else '支出'}
            for at, trade_no, number, amount, kind in rows[(page - 1) * size:page * size]]}

    def _cert_download(self, app, parts, content):
        import base64
        if content.get('alipay_cert_sn') != keys.alipay_sn(self.cert):
            raise Refusal('isv.invalid-cert-sn', '证书序列号不存在')
        return {'alipay_cert_content': base64.b64encode(keys.cert_pem(self.cert).encode()).decode()}

    # Notifications ------------------------------------------------------------------------------

    def _notify(self, app, trade, refund=None):
        if not trade['notify_url']:
            return
        fields = {'gmt_create': self._stamp(trade['created']), 'charset': trade['charset'],
                  'notify_time': self._stamp(self.world.now()),
                  'subject': trade['subject'], 'buyer_id': trade['buyer'],
                  'invoice_amount': str(trade['amount'] - trade['coupon']), 'version': '1.0',
                  'notify_id': secrets.token_hex(17), 'notify_type': 'trade_status_sync',
                  'fund_bill_list': '[{"amount":"%s","fundChannel":"ALIPAYACCOUNT"}]' % trade['amount'],
                  'out_trade_no': trade['number'], 'total_amount': str(trade['amount']),
                  'trade_status': trade['status'], 'trade_no': trade['trade_no'],
                  'auth_app_id': app['app_id'], 'app_id': app['app_id'], 'seller_id': app['seller'],
                  'receipt_amount': str(trade['amount'] - trade['coupon']), 'point_amount': '0.00',
                  'buyer_pay_amount': str(trade['amount'] - trade['coupon']), 'sign_type': 'RSA2',
                  'buyer_logon_id': '159****5620', 'a_field_to_come': 'a+b %&= ü', 'body': ''}
        if trade['paid']:
            fields['gmt_payment'] = self._stamp(trade['paid'])
        if refund:
            fields.update(refund_fee=str(self._back(trade)), out_biz_no=refund,
                          gmt_refund=self._stamp(trade['refund_at'][refund]) + '.321')

        def make(faults):
            return self._form(fields, trade['charset'], faults)

        self.world.notify(trade['notify_url'], make, lambda status, said: status == 200 and said == b'success',
                          RETRIES, {'provider': 'alipay', 'order': trade['number'],
                                    'kind': 'refund' if refund else 'payment' if trade['paid'] else 'close'},
                          STORM_NOTICES)

    def _form(self, fields, charset, faults):
        """The form of a notification, signed over the bytes of its charset; faults as asked for."""
        fields = dict(fields)
        if 'gbk' in faults:
            charset = fields['charset'] = 'gbk'
        if 'amount' in faults:
            fields['total_amount'] = faults['amount']
        if 'field' in faults:
            fields.update(faults['field'])
        text = '&'.join('%s=%s' % (k, fields[k]) for k in sorted(fields)
                        if k not in ('sign', 'sign_type'))
        key = self.wrong_key if 'wrong-signature' in faults else self.key
        fields['sign'] = keys.sign(key, text.encode(charset, 'replace'))
        if 'tamper' in faults:
            fields.update(faults['tamper'])
        quote = urllib.parse.quote if 'percent' in faults else urllib.parse.quote_plus
        body = '&'.join('%s=%s' % (k, quote(fields[k].encode(charset, 'replace'), safe=''))
                        for k in fields)
        return ({'Content-Type': 'application/x-www-form-urlencoded; charset=' + charset,
                 'User-Agent': 'Mozilla/4.0'}, body.encode())

    # Bills --------------------------------------------------------------------------------------

    def _bill_url(self, app, parts, content):
        day = content.get('bill_date', '')
        if content.get('bill_type') not in ('trade', 'signcustomer') or not re.fullmatch(r'\d{4}-\d\d-\d\d', day):
            raise Refusal('isp.bill_type_error', '账单类型或日期错误')
        today = datetime.datetime.fromtimestamp(self.world.now(), CHINA)
        if day >= today.strftime('%Y-%m-%d'):
            raise Refusal('isp.bill_not_exist', '账单不存在')
        if not self._bill_rows(app, day):
            raise Refusal('isp.bill_not_exist', '账单不存在')
        token = secrets.token_hex(16)
        self.tokens[token] = (app['app_id'], day, self.world.now() + 30)
        return {'bill_download_url': '%s/bill/alipay?token=%s' % (self.base, token)}

    def _bill_rows(self, app, day):
        rows = []
        for trade in app['orders'].values():
            if trade['paid'] and self._stamp(trade['paid'])[:10] == day:
                rows.append((trade, None))
            # Only what moved money: a refund that failed, or is under way, is in no file.
            rows += [(trade, n) for n, at in trade['refund_at'].items()
                     if trade['refund_state'][n] == 'REFUND_SUCCESS' and self._stamp(at)[:10] == day]
        return rows

    def _bill_row(self, app, trade, refund):
        blank = '0.00'
        amount = -trade['refunds'][refund] if refund else trade['amount'] - trade['coupon']
        fee = -self._fee(app, trade) if not refund else Decimal('0.00')
        at = trade['refund_at'][refund] if refund else trade['paid']
        order = -trade['refunds'][refund] if refund else trade['amount']
        return [trade['trade_no'] + '\t', trade['number'] + '\t', '退款' if refund else '交易', trade['subject'],
                self._stamp(trade['created']), self._stamp(at), '', '', '', '', '*店(159****5620)',
                str(order), str(amount), blank, blank, str(trade['coupon']) if not refund else blank, blank,
                blank, '', blank, blank, (refund or '') + ('\t' if refund else ''), str(fee), blank, '']

    def bill(self, token):
        """The zip file of a download address; None when it is not valid any more."""
        app_id, day, until = self.tokens.get(token, (None, None, 0))
        faults = self.world.faults_of('billfile', None)
        if self.world.now() > until or 'expired' in faults:
            return None
        data = self._bill_file(self.apps[app_id], day)
        return data[:len(data) // 2] if 'truncate' in faults else data

    def bill_of(self, order, day):
        return self._bill_file(self.find(order)[0], day)

    def _extra_row(self, number, day):
        row = [''] * 25
        row[0:6] = ['%s220014%014d\t' % (day.replace('-', ''), self.world.number()), number + '\t', '交易', '别的系统',
                    day + ' 12:00:00', day + ' 12:00:00']
        row[11:18] = ['8.88', '8.88'] + ['0.00'] * 5
        row[19:21] = ['0.00', '0.00']
        row[22:24] = ['-0.05', '0.00']
        return row

    def _bill_file(self, app, day):
        account = '#账号:[%s0156]' % app['seller']
        chinese = '%s年%s月%s日' % tuple(day.split('-'))
        period = '#起始日期:[%s 00:00:00]   终止日期:[%s 23:59:59]' % (chinese, chinese)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator='\r\n')
        out.write('#支付宝业务明细查询\r\n%s\r\n%s\r\n#-----业务明细列表-----\r\n' % (account, period))
        writer.writerow('支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,'
                        '对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,'
                        '商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,'
                        '退款批次号/请求号,服务费（元）,分润（元）,备注'.split(','))
        rows = self._bill_rows(app, day)
        for trade, refund in rows:
            faults = self.world.faults_of('bill', trade['number'])
            if 'leave-out' in faults:
                continue
            row = self._bill_row(app, trade, refund)
            if 'amount' in faults:
                row[11] = row[12] = faults['amount']
            writer.writerow(row)
        extra = self.world.faults_of('bill', 'extra')
        if 'extra' in extra:
            writer.writerow(self._extra_row(extra['extra'], day))
        out.write('#-----业务明细列表结束-----\r\n#导出时间:[%s]\r\n' % self._stamp(self.world.now()))
        summary = '#支付宝业务汇总查询\r\n%s\r\n#合计 %d 笔\r\n' % (account, len(rows))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
            stem = '%s0156_%s_' % (app['seller'], day.replace('-', ''))
            for name, text in ((stem + '业务明细.csv', out.getvalue()), (stem + '业务明细(汇总).csv', summary)):
                entry = GbkInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, text.encode('gbk', 'replace'))
        return packed.getvalue()
