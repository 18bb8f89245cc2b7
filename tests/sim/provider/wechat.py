"""WeChat Pay APIv3: orders, refunds, certificates, notifications, bills."""
import collections
import datetime
import gzip
import hashlib
import json
import re
import secrets

import keys
from world import Call, compact

RETRIES = [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600]
STORM = ['signtest', ('stale', -400), ('stale', 400)]
STORM_NOTICES = STORM + ['no-signature', 'other-key', 'reserialise', 'no-associated', 'absent-associated',
                         ('field', {'mchid': '1600000000'})]
CHINA = datetime.timezone(datetime.timedelta(hours=8))
NOTIFY_URL = r'https?://[^?#\s]{1,240}'
NUMBER = r'[0-9A-Za-z_\-|*]{6,32}'


class Refusal(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status = status
        self.body = {'code': code, 'message': message}


class Wechat:
    def __init__(self, world, base):
        self.world = world
        self.base = base
        self.merchants = {}
        self.tokens = {}
        self.signtest = 0
        self.calls = 0
        self.root_key = keys.new_rsa()
        self.root = keys.certificate(keys.name('Simulated Tenpay Root'), self.root_key,
                                     keys.name('Simulated Tenpay Root'), self.root_key, world.now(),
                                     ca=True)
        self.platform = [self._platform()]
        self.public_key = keys.new_rsa()
        self.public_id = 'PUB_KEY_ID_' + format(secrets.randbelow(10 ** 22), '022d')
        self.wrong_key = keys.new_rsa()

    def _platform(self):
        key = keys.new_rsa()
        cert = keys.certificate(keys.name('Simulated Tenpay.com sign'), key, self.root.subject,
                                self.root_key, self.world.now())
        return {'key': key, 'cert': cert, 'serial': keys.serial_hex(cert), 'until': None, 'turns': False}

    # Set-up and control -------------------------------------------------------------------------

    def merchant(self, mode='cert', fee='0.006'):
        """mode: cert (platform certificates) or key (public key mode)."""
        mchid = '16' + format(secrets.randbelow(10 ** 8), '08d')
        key, now = keys.new_rsa(), self.world.now()
        cert = keys.certificate(keys.name(mchid), key, self.root.subject, self.root_key, now)
        merchant = {'mchid': mchid, 'appid': 'wx' + secrets.token_hex(8), 'mode': mode, 'key': key,
                    'serial': keys.serial_hex(cert), 'api_v3_key': secrets.token_hex(16), 'orders': {},
                    'refunds': {}, 'fee': float(fee), 'nonces': {}, 'numbers': {}}
        self.merchants[mchid] = merchant
        return {'mchid': mchid, 'appid': merchant['appid'], 'mode': mode, 'base': self.base,
                'api_v3_key': merchant['api_v3_key'], 'merchant_private_key': keys.private_pem(key),
                'merchant_serial': merchant['serial'], 'merchant_cert': keys.cert_pem(cert),
                'public_key_id': self.public_id, 'public_key': keys.public_pem(self.public_key),
                'platform_serial': self.platform[-1]['serial'],
                'platform_cert': keys.cert_pem(self.platform[-1]['cert'])}

    def rotate(self, withdraw=False, overlap=None):
        """A new platform certificate beside the old ones, and what is signed is signed with it;
        withdraw: the old ones are gone; overlap: for so many seconds old and new sign in turns, then
        the old ones are gone."""
        for old in self.platform:
            old['until'] = self.world.now() + (0 if withdraw else overlap) if withdraw or overlap else None
        self.platform.append(dict(self._platform(), turns=bool(overlap)))
        return {'serial': self.platform[-1]['serial']}

    def _live(self):
        """The platform certificates that are not withdrawn yet."""
        return [p for p in self.platform if p['until'] is None or p['until'] > self.world.now()]

    def find(self, number):
        for merchant in self.merchants.values():
            if number in merchant['orders']:
                return merchant, merchant['orders'][number]
        raise KeyError('no such order: ' + number)

    def order_of(self, code):
        """The order a code to scan stands for; None: not one of ours."""
        return next((number for merchant in self.merchants.values() for number, trade in merchant['orders'].items()
                     if code in trade.get('codes', [])), None)

    def payer(self, order, state):
        """The buyer is at it (USERPAYING), or it did not work and may be tried again (PAYERROR)."""
        merchant, trade = self.find(order)
        if trade['paid'] or trade['state'] == 'CLOSED':
            return {'state': trade['state']}
        trade['state'] = state
        return {'state': state}

    def _payable(self, trade):
        until = min(trade['expire'], trade['code_until']) if trade['kind'] == 'native' else trade['expire']
        return trade['state'] in ('NOTPAY', 'USERPAYING', 'PAYERROR') and self.world.now() <= until

    def pay(self, order, amount=None, notify=True, at=None, twice=False):
        """The buyer pays; amount in fen, other than asked for, and twice, only to try the merchant."""
        merchant, trade = self.find(order)
        if twice and trade['paid']:
            trade = dict(trade)
            merchant['orders']['%s#%d' % (order, self.world.number())] = trade
        elif not self._payable(trade):
            return {'paid': False, 'state': trade['state']}
        trade['state'] = 'SUCCESS'
        trade['paid'] = at or self.world.now()
        trade['amount'] = int(amount) if amount is not None else trade['amount']
        trade['transaction_id'] = '42000' + format(self.world.number(), '023d')
        merchant['numbers'][trade['transaction_id']] = next(n for n, t in merchant['orders'].items() if t is trade) \
            if twice else order
        if notify:
            self._notify(merchant, trade['notify_url'], 'TRANSACTION.SUCCESS', 'transaction',
                         self._transaction(merchant, trade), order)
        return {'paid': True, 'transaction_id': trade['transaction_id'], 'amount': trade['amount']}

    def settle_refund(self, refund, status='SUCCESS'):
        """A refund under way ends: SUCCESS, CLOSED or ABNORMAL."""
        merchant = next(m for m in self.merchants.values() if refund in m['refunds'])
        if merchant['refunds'][refund]['status'] not in ('PROCESSING', 'ABNORMAL'):
            return {'status': merchant['refunds'][refund]['status']}
        row = merchant['refunds'][refund]
        row['status'] = status
        if status == 'SUCCESS':
            row['success'] = self.world.now()
        self._notify_refund(merchant, row)
        return {'status': status}

    def refund_here(self, order, amount, at=None):
        """The merchant refunds on the platform, and not over the interface; amount in fen."""
        merchant = self.find(order)[0]
        number = 'platform%d' % self.world.number()
        at = at or self.world.now()
        merchant['refunds'][number] = {
            'number': number, 'order': order, 'amount': int(amount), 'status': 'SUCCESS', 'created': at, 'success': at,
            'refund_id': '503' + format(self.world.number(), '025d'), 'notify_url': None}
        return {'refund': number}

    def backdate(self, order, at):
        """What happened to an order happened at another time."""
        merchant, trade = self.find(order)
        if trade['paid']:
            trade['paid'] = at
        for row in merchant['refunds'].values():
            if row['order'] == order:
                row['created'] = at

    def _fee(self, merchant, amount):
        return round(amount * merchant['fee']) / 100

    def has_refund(self, number):
        return any(number in merchant['refunds'] for merchant in self.merchants.values())

    def unsettled(self):
        return [number for merchant in self.merchants.values() for number, row in merchant['refunds'].items()
                if row['status'] in ('PROCESSING', 'ABNORMAL')]

    def book(self):
        rows = []
        for merchant in self.merchants.values():
            back = collections.Counter()
            for row in merchant['refunds'].values():
                back[row['order']] += row['amount'] if row['status'] == 'SUCCESS' else 0
            for order, trade in merchant['orders'].items():
                paid = trade['amount'] if trade['paid'] else 0
                rows.append({'provider': 'wechat', 'mchid': merchant['mchid'], 'order': trade['number'],
                             'trade_no': trade['transaction_id'], 'status': trade['state'],
                             'fee': '%.2f' % self._fee(merchant, paid),
                             'paid': '%.2f' % (paid / 100), 'refunded': '%.2f' % (back[order] / 100)})
        return rows

    # The interface ------------------------------------------------------------------------------

    def hear(self, verb, path, query, headers, body, host):
        """One request and the faults it meets; headers: lower case."""
        order = self._order_of(path, body)
        endpoint = verb + ' ' + re.sub(r'/(out-trade-no|id|refunds)/[^/]+', r'/\1/{n}', path)
        faults = self.world.faults_of(endpoint, order, host, STORM)
        self.world.note(provider='wechat', endpoint=endpoint, order=order, faults=list(faults), host=host,
                        body=body.decode('utf-8', 'replace')[:2000])
        return Call(verb=verb, path=path, query=query, headers=headers, body=body, faults=faults)

    def answer(self, call):
        """(status, headers, body bytes) of one request."""
        faults, merchant = call.faults, None
        try:
            if 'status' in faults:
                raise Refusal(int(faults['status']), 'SYSTEM_ERROR' if int(faults['status']) >= 500
                              else 'FREQUENCY_LIMITED', '系统繁忙,请稍后重试')
            merchant = self._authenticate(call.verb, call.path, call.query, call.headers, call.body)
            if 'busy' in faults:
                raise Refusal(500, 'SYSTEM_ERROR', '系统错误')
            if 'refuse' in faults:
                status, _, code = faults['refuse'].partition(' ')
                raise Refusal(int(status), code, '业务错误')
            if call.path == '/v3/billdownload/file':
                return self._download(merchant, call.query, faults)
            with self.world.lock:
                status, answer = self._dispatch(call.verb, call.path, call.query, merchant, call.body)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        if 'after-status' in faults or 'after-busy' in faults:
            status, answer = int(faults.get('after-status') or 500), {'code': 'SYSTEM_ERROR', 'message': '系统错误'}
        data = b'' if answer is None else compact(answer).encode()
        signed = self._sign(merchant, data, faults)
        if 'reserialise' in faults and answer is not None:
            data = json.dumps(answer, indent=1).encode()
        if 'truncate' in faults:
            data = data[:len(data) // 2]
        return status, dict({'Content-Type': 'application/json; charset=utf-8'}, **signed), data

    def _order_of(self, path, body):
        match = re.search(r'/(?:out-trade-no|refunds)/([^/?]+)', path)
        if match:
            return match[1]
        try:
            content = json.loads(body or b'{}')
            return content.get('out_trade_no') or content.get('out_refund_no')
        except ValueError:
            return None

    def _authenticate(self, verb, path, query, headers, body):
        header = headers.get('authorization', '')
        scheme, _, rest = header.partition(' ')
        parts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        merchant = self.merchants.get(parts.get('mchid'))
        if scheme != 'WECHATPAY2-SHA256-RSA2048' or merchant is None:
            raise Refusal(401, 'SIGN_ERROR', 'Authorization不合法')
        if 'application/json' not in headers.get('accept', '') or not headers.get('user-agent'):
            raise Refusal(400, 'PARAM_ERROR', '请求头Accept或User-Agent缺失')
        if parts.get('serial_no') != merchant['serial']:
            raise Refusal(401, 'SIGN_ERROR', '商户证书序列号有误')
        text = '%s\n%s\n%s\n%s\n' % (verb, path + ('?' + query if query else ''), parts.get('timestamp'),
                                     parts.get('nonce_str'))
        if not keys.verify(merchant['key'], text.encode() + body + b'\n', parts.get('signature', '')):
            raise Refusal(401, 'SIGN_ERROR', '签名错误,请检查后再试')
        if abs(int(parts.get('timestamp') or 0) - self.world.now()) > 300:
            raise Refusal(401, 'SIGN_ERROR', '时间戳已过期')
        said = hashlib.sha256(text.encode() + body).digest()
        if merchant['nonces'].setdefault(parts['nonce_str'], said) != said:
            raise Refusal(401, 'SIGN_ERROR', '随机串重复使用')
        return merchant

    def _signer(self, merchant):
        if merchant is not None and merchant['mode'] == 'key':
            return self.public_key, self.public_id
        live = self._live()
        signer = live[self.calls % len(live)] if live[-1]['turns'] else live[-1]
        return signer['key'], signer['serial']

    def _sign(self, merchant, data, faults):
        """Headers that sign an answer or a notification."""
        if 'no-signature' in faults:
            return {}
        key, serial = self._signer(merchant)
        if 'other-key' in faults:
            serial = '%040X' % secrets.randbits(150)
        stamp = str(int(self.world.now() + float(faults.get('stale') or 0)))
        nonce = secrets.token_hex(16)
        if 'wrong-signature' in faults:
            key = self.wrong_key
        signature = keys.sign(key, ('%s\n%s\n' % (stamp, nonce)).encode() + data + b'\n')
        self.calls += 1
        if 'signtest' in faults or self.signtest and self.calls % self.signtest == 0:
            signature = 'WECHATPAY/SIGNTEST/' + signature[19:]
        return {'Wechatpay-Timestamp': stamp, 'Wechatpay-Nonce': nonce, 'Wechatpay-Serial': serial,
                'Wechatpay-Signature': signature,
                'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
                'Request-ID': secrets.token_hex(12)}

    def _dispatch(self, verb, path, query, merchant, body):
        values = dict(re.findall(r'([^&=]+)=([^&]*)', query))
        try:
            content = json.loads(body) if body else {}
        except ValueError:
            raise Refusal(400, 'PARAM_ERROR', '请求体不是合法的JSON')
        start = '/v3/pay/transactions/'
        if verb == 'POST' and path in (start + 'native', start + 'jsapi', start + 'h5', start + 'app'):
            return 200, self._order(merchant, content, path[len(start):])
        match = re.fullmatch(start + r'out-trade-no/([^/]+)/close', path)
        if verb == 'POST' and match:
            return 204, self._close(merchant, content, match[1])
        match = re.fullmatch(start + r'(out-trade-no|id)/([^/]+)', path)
        if verb == 'GET' and match:
            return 200, self._query(merchant, values, match[1], match[2])
        if verb == 'POST' and path == '/v3/refund/domestic/refunds':
            return 200, self._refund(merchant, content)
        match = re.fullmatch('/v3/refund/domestic/refunds/([^/]+)', path)
        if verb == 'GET' and match:
            if match[1] not in merchant['refunds']:
                raise Refusal(404, 'RESOURCE_NOT_EXISTS', '退款单不存在')
            return 200, self._refund_view(merchant, merchant['refunds'][match[1]])
        if verb == 'GET' and path in ('/v3/bill/tradebill', '/v3/bill/fundflowbill'):
            return 200, self._bill_url(merchant, values)
        if verb == 'GET' and path == '/v3/certificates':
            return 200, self._certificates(merchant)
        raise Refusal(404, 'RESOURCE_NOT_EXISTS', '接口不存在')

    # Methods ------------------------------------------------------------------------------------

    def _stamp(self, at):
        return datetime.datetime.fromtimestamp(at, CHINA).strftime('%Y-%m-%dT%H:%M:%S+08:00')

    def _expire(self, content):
        now = self.world.now()
        if not content.get('time_expire'):
            return now + 7 * 86400
        try:
            end = datetime.datetime.fromisoformat(content['time_expire'].replace('Z', '+00:00')).timestamp()
        except ValueError:
            raise Refusal(400, 'PARAM_ERROR', 'time_expire格式错误')
        if end > now + 90 * 86400 or end <= now:
            raise Refusal(400, 'PARAM_ERROR', 'time_expire超出范围')
        return max(end, now + 60)

    def _check(self, merchant, content):
        amount = content.get('amount') or {}
        wrong = [name for name, right in (
            ('appid', content.get('appid') == merchant['appid']),
            ('mchid', content.get('mchid') == merchant['mchid']),
            ('description', 0 < len(content.get('description') or '') <= 127),
            ('out_trade_no', re.fullmatch(NUMBER, content.get('out_trade_no') or '')),
            ('attach', len(content.get('attach') or '') <= 128),
            ('amount', isinstance(amount.get('total'), int) and amount['total'] > 0
             and amount.get('currency', 'CNY') == 'CNY'),
            ('notify_url', re.fullmatch(NOTIFY_URL, content.get('notify_url') or '')))
            if not right]
        if wrong:
            raise Refusal(400, 'PARAM_ERROR', '参数错误:' + ','.join(wrong))
        return amount['total']

    def _order(self, merchant, content, kind):
        total = self._check(merchant, content)
        if kind == 'jsapi' and not (content.get('payer') or {}).get('openid'):
            raise Refusal(400, 'PARAM_ERROR', '参数错误:payer.openid')
        asked = (kind, compact(content))
        trade = merchant['orders'].get(content['out_trade_no'])
        if trade is not None:
            if trade['state'] == 'SUCCESS':
                raise Refusal(400, 'ORDERPAID', '该订单已支付')
            if trade['state'] == 'CLOSED':
                raise Refusal(400, 'ORDER_CLOSED', '订单已关闭')
            if trade['asked'] != asked:
                raise Refusal(403, 'OUT_TRADE_NO_USED', '商户订单号重复')
        else:
            trade = {'number': content['out_trade_no'], 'asked': asked, 'amount': total, 'kind': kind,
                     'description': content['description'], 'attach': content.get('attach'),
                     'notify_url': content['notify_url'], 'state': 'NOTPAY', 'paid': None,
                     'transaction_id': None, 'created': self.world.now(), 'expire': self._expire(content),
                     'openid': (content.get('payer') or {}).get('openid') or 'o' + secrets.token_hex(13)}
            merchant['orders'][trade['number']] = trade
        # The code lives two hours; the same order again gets a fresh one.
        trade['code_until'] = self.world.now() + 7200
        if kind == 'native':
            trade.setdefault('codes', []).append('weixin://wxpay/bizpayurl?pr=' + secrets.token_hex(4) + 'zz')
            return {'code_url': trade['codes'][-1]}
        if kind == 'h5':
            return {'h5_url': 'https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=' +
                    secrets.token_hex(16)}
        return {'prepay_id': 'wx' + secrets.token_hex(17)}

    def _existing(self, merchant, number):
        if number not in merchant['orders']:
            raise Refusal(404, 'ORDER_NOT_EXIST', '订单不存在')
        return merchant['orders'][number]

    def _close(self, merchant, content, number):
        if content.get('mchid') != merchant['mchid']:
            raise Refusal(400, 'PARAM_ERROR', '参数错误:mchid')
        trade = self._existing(merchant, number)
        if trade['paid']:
            raise Refusal(400, 'ORDERPAID', '该订单已支付')
        trade['state'] = 'CLOSED'

    def _transaction(self, merchant, trade):
        refunded = any(r['order'] == trade['number'] and r['status'] in ('SUCCESS', 'PROCESSING', 'ABNORMAL')
                       for r in merchant['refunds'].values())
        view = {'appid': merchant['appid'], 'mchid': merchant['mchid'], 'out_trade_no': trade['number'],
                'trade_state': 'REFUND' if refunded else trade['state'],
                'trade_state_desc': {'SUCCESS': '支付成功', 'NOTPAY': '订单未支付', 'CLOSED': '订单已关闭'}
                .get(trade['state'], trade['state']), 'attach': trade['attach'] or '',
                'amount': {'total': trade['amount'], 'currency': 'CNY'}}
        if trade['paid']:
            view.update(transaction_id=trade['transaction_id'], trade_type=trade['kind'].upper(),
                        bank_type='OTHERS', success_time=self._stamp(trade['paid']),
                        payer={'openid': trade['openid']})
            view['amount'].update(payer_total=trade['amount'], payer_currency='CNY')
        return view

    def _query(self, merchant, values, by, number):
        if values.get('mchid') != merchant['mchid']:
            raise Refusal(400, 'PARAM_ERROR', '参数错误:mchid')
        if by == 'id':
            number = merchant['numbers'].get(number)
        return self._transaction(merchant, self._existing(merchant, number))

    def _refund(self, merchant, content):
        number = content.get('out_refund_no') or ''
        amount = content.get('amount') or {}
        order = merchant['numbers'].get(content.get('transaction_id')) or content.get('out_trade_no')
        trade = self._existing(merchant, order)
        if not re.fullmatch(r'[0-9A-Za-z_\-|*@]{1,64}', number) or amount.get('currency') != 'CNY' \
                or not isinstance(amount.get('refund'), int) or amount['refund'] <= 0 \
                or not re.fullmatch(NOTIFY_URL, content.get('notify_url') or 'https://none'):
            raise Refusal(400, 'PARAM_ERROR', '参数错误:out_refund_no, amount')
        row = merchant['refunds'].get(number)
        if row is None:
            if not trade['paid'] or amount.get('total') != trade['amount']:
                raise Refusal(400, 'INVALID_REQUEST', '订单未支付或金额不一致')
            used = [r for r in merchant['refunds'].values() if r['order'] == order and r['status'] != 'CLOSED']
            if sum(r['amount'] for r in used) + amount['refund'] > trade['amount'] or len(used) >= 50:
                raise Refusal(403, 'NOT_ENOUGH', '退款金额超过可退余额')
            row = {'number': number, 'order': order, 'amount': amount['refund'], 'status': 'PROCESSING',
                   'refund_id': '503' + format(self.world.number(), '025d'), 'success': None,
                   'created': self.world.now(), 'notify_url': content.get('notify_url')}
            merchant['refunds'][number] = row
        elif row['amount'] != amount['refund'] or row['order'] != order:
            raise Refusal(400, 'INVALID_REQUEST', '退款参数与原请求不一致')
        return self._refund_view(merchant, row)

    def _refund_view(self, merchant, row):
        trade = merchant['orders'][row['order']]
        view = {'refund_id': row['refund_id'], 'out_refund_no': row['number'],
                'transaction_id': trade['transaction_id'], 'out_trade_no': trade['number'],
                'channel': 'ORIGINAL', 'user_received_account': '支付用户零钱', 'status': row['status'],
                'create_time': self._stamp(row['created']),
                'amount': {'total': trade['amount'], 'refund': row['amount'], 'payer_total': trade['amount'],
                           'payer_refund': row['amount'], 'currency': 'CNY'}}
        if row['success']:
            view['success_time'] = self._stamp(row['success'])
        return view

    def _certificates(self, merchant):
        if merchant['mode'] == 'key':
            raise Refusal(404, 'RESOURCE_NOT_EXISTS', '无可用的平台证书,请在商户平台-API安全申请使用微信支付公钥')
        return {'data': [{'serial_no': p['serial'], 'effective_time': self._stamp(self.world.now() - 86400),
                          'expire_time': self._stamp(self.world.now() + 5 * 365 * 86400),
                          'encrypt_certificate': keys.seal(merchant['api_v3_key'],
                                                           keys.cert_pem(p['cert']).encode(),
                                                           'certificate')} for p in self._live()]}

    # Notifications ------------------------------------------------------------------------------

    def _notify_refund(self, merchant, row):
        if not row['notify_url']:
            return
        view = self._refund_view(merchant, row)
        view['mchid'] = merchant['mchid']
        view['refund_status'] = view.pop('status')
        for name in ('channel', 'create_time'):
            view.pop(name)
        self._notify(merchant, row['notify_url'], 'REFUND.' + row['status'], 'refund', view,
                     merchant['orders'][row['order']]['number'])

    def _notify(self, merchant, url, event, kind, resource, order):
        notice_id = secrets.token_hex(18)

        def make(faults):
            shown = json.loads(json.dumps(resource))
            if 'amount' in faults:
                shown['amount']['total'] = int(faults['amount'])
            if 'field' in faults:
                shown.update(faults['field'])
            sealed = keys.seal(merchant['api_v3_key'], compact(shown).encode(),
                               '' if 'no-associated' in faults or 'absent-associated' in faults else kind)
            if 'absent-associated' in faults:
                del sealed['associated_data']
            body = compact({'id': notice_id, 'create_time': self._stamp(self.world.now()),
                            'resource_type': 'encrypt-resource', 'event_type': event, 'summary': '支付成功',
                            'resource': dict(sealed, original_type=kind)}).encode()
            headers = self._sign(merchant, body, faults)
            if 'reserialise' in faults:
                body = json.dumps(json.loads(body), indent=1).encode()
            return dict({'Content-Type': 'application/json', 'User-Agent': 'Mozilla/4.0'}, **headers), body

        self.world.notify(url, make, lambda status, said: status in (200, 204), RETRIES,
                          {'provider': 'wechat', 'order': order, 'kind': event}, STORM_NOTICES)

    # Bills --------------------------------------------------------------------------------------

    def _bill_url(self, merchant, values):
        day = values.get('bill_date', '')
        now = datetime.datetime.fromtimestamp(self.world.now(), CHINA)
        first_day = (now - datetime.timedelta(days=1 if now.hour >= 10 else 2)).strftime('%Y-%m-%d')
        if not re.fullmatch(r'\d{4}-\d\d-\d\d', day) or day > first_day:
            raise Refusal(400, 'INVALID_REQUEST', '账单还未生成')
        rows = self._bill_rows(merchant, day)
        if not rows:
            raise Refusal(400, 'NO_STATEMENT_EXIST', '账单不存在')
        text = self._bill_text(merchant, day, rows)
        token = secrets.token_hex(16)
        digest = hashlib.sha1(text).hexdigest()
        self.tokens[token] = (text, values.get('tar_type') == 'GZIP', self.world.now() + 30)
        return {'hash_type': 'SHA1', 'hash_value': digest,
                'download_url': '%s/v3/billdownload/file?token=%s' % (self.base, token)}

    def bill_of(self, order, day):
        merchant = self.find(order)[0]
        return gzip.compress(self._bill_text(merchant, day, self._bill_rows(merchant, day)))

    def _bill_rows(self, merchant, day):
        rows = []
        for order, trade in merchant['orders'].items():
            if trade['paid'] and self._stamp(trade['paid'])[:10] == day:
                rows.append((trade, None))
        for row in merchant['refunds'].values():
            if self._stamp(row['created'])[:10] == day:
                rows.append((merchant['orders'][row['order']], row))
        return rows

    def _bill_text(self, merchant, day, rows):
        head = ('交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,'
                '货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,'
                '商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注')
        lines, total, refunded, fees = [head], 0, 0, 0.0
        for trade, row in rows:
            faults = self.world.faults_of('bill', trade['number'])
            if 'leave-out' in faults:
                continue
            amount = trade['amount'] if 'amount' not in faults else int(faults['amount'])
            fee = 0.0 if row else self._fee(merchant, amount)
            at = (self._stamp(row['created'] if row else trade['paid'])[:19]).replace('T', ' ')
            cells = [at, merchant['appid'], merchant['mchid'], '0', '', trade['transaction_id'],
                     trade['number'], trade['openid'], trade['kind'].upper(), 'REFUND' if row else 'SUCCESS',
                     'OTHERS', 'CNY', '0.00' if row else '%.2f' % (amount / 100), '0.00',
                     row['refund_id'] if row else '0', row['number'] if row else '0',
                     '%.2f' % (row['amount'] / 100) if row else '0.00', '0.00', 'ORIGINAL' if row else '',
                     {'SUCCESS': 'SUCCESS', 'PROCESSING': 'PROCESSING'}.get(row['status'], 'FAIL') if row else '', trade['description'], trade['attach'] or '',
                     '%.5f' % fee, '0.60%', '%.2f' % (amount / 100) if not row else '0.00',
                     '%.2f' % (row['amount'] / 100) if row else '0.00', '']
            lines.append(','.join('`' + cell for cell in cells))
            total += 0 if row else amount
            refunded += row['amount'] if row else 0
            fees += fee
        extra = self.world.faults_of('bill', 'extra')
        if 'extra' in extra:
            lines.append(','.join('`' + cell for cell in [
                day + ' 12:00:00', merchant['appid'], merchant['mchid'], '0', '', '42001%023d' % self.world.number(), extra['extra'],
                'openid', 'NATIVE', 'SUCCESS', 'OTHERS', 'CNY', '8.88', '0.00', '0', '0', '0.00', '0.00', '', '', '别的系统', '',
                '0.05000', '0.60%', '8.88', '0.00', '']))
            total += 888
            fees += 0.05
        lines.append('总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额')
        lines.append(','.join('`' + cell for cell in (
            str(len(lines) - 2), '%.2f' % (total / 100), '%.2f' % (refunded / 100), '0.00', '%.5f' % fees,
            '%.2f' % (total / 100), '%.2f' % (refunded / 100))))
        return b'\xef\xbb\xbf' + ('\r\n'.join(lines) + '\r\n').encode()

    def _download(self, merchant, query, faults):
        token = dict(re.findall(r'([^&=]+)=([^&]*)', query)).get('token')
        text, packed, until = self.tokens.get(token, (b'', False, 0))
        faults = dict(faults, **self.world.faults_of('billfile', None))
        if self.world.now() > until or 'expired' in faults:
            return 400, {'Content-Type': 'application/json'}, compact(
                {'code': 'INVALID_REQUEST', 'message': 'token已过期'}).encode()
        if 'wrong-hash' in faults:
            text += b' '
        data = gzip.compress(text) if packed else text
        return 200, {'Content-Type': 'application/octet-stream'}, \
            data[:len(data) // 2] if 'truncate' in faults else data
