#!/usr/bin/python3
"""The simulated payment providers, tried by a merchant of their own: requests signed with openssl's
command line, answers and notifications verified with it, archives opened by the system's tools."""
import base64
import csv
import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROVIDER = os.path.join(HERE, '..', 'provider', 'server.py')
WORK = tempfile.mkdtemp(prefix='provider.')
count = 0
failed = 0


def ok(good, what, found=None):
    global count, failed
    count += 1
    failed += not good
    print('%sok %d - %s' % ('' if good else 'not ', count, what))
    if not good and found is not None:
        print('# found: ' + repr(found)[:600])


def file(name, data):
    path = os.path.join(WORK, name)
    with open(path, 'wb') as out:
        out.write(data if isinstance(data, bytes) else data.encode())
    return path


def openssl_sign(pem, message):
    signed = subprocess.run(['openssl', 'dgst', '-sha256', '-sign', file('key', pem), file('text', message)],
                            stdout=subprocess.PIPE, check=True).stdout
    return base64.b64encode(signed).decode()


def openssl_verify(pem, message, signature):
    if 'CERTIFICATE' in pem:
        pem = subprocess.run(['openssl', 'x509', '-pubkey', '-noout', '-in', file('cert', pem)],
                             stdout=subprocess.PIPE, check=True).stdout
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return subprocess.run(['openssl', 'dgst', '-sha256', '-verify', file('pub', pem), '-signature',
                           file('sig', raw), file('text', message)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def http_call(url, data=None, headers=None, method=None):
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict((k.lower(), v) for k, v in answer.headers.items()), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict((k.lower(), v) for k, v in error.headers.items()), error.read()
    except OSError:
        return 0, {}, b''


def control(do, **asked):
    return json.loads(http_call(BASE + '/_control', json.dumps(dict(asked, do=do)).encode())[2])


def wait_for(condition, what):
    for _ in range(500):
        if condition():
            return ok(True, what)
        time.sleep(0.02)
    ok(False, what)


class Merchant(http.server.BaseHTTPRequestHandler):
    """Hears notifications; answers what the test wants."""
    heard = []
    answer = (200, b'success')

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        Merchant.heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, said = Merchant.answer
        self.send_response(status)
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments):
        pass


def alipay_call(shop, method, content, charset_in_url=True, **more):
    stamp = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(control('time')['now'] + 8 * 3600))
    parts = dict({'app_id': shop['app_id'], 'method': method, 'format': 'JSON', 'charset': 'utf-8',
                  'sign_type': 'RSA2', 'timestamp': stamp, 'version': '1.0',
                  'biz_content': json.dumps(content, ensure_ascii=False)}, **more)
    text = '&'.join('%s=%s' % (k, parts[k]) for k in sorted(parts) if parts[k])
    parts['sign'] = openssl_sign(shop['app_private_key'], text)
    form = {k: parts.pop(k) for k in ('biz_content',) + (() if charset_in_url else ('charset',))}
    return http_call(shop['gateway'] + '?' + urllib.parse.urlencode(parts), urllib.parse.urlencode(form).encode())


def alipay_node(body, method):
    """The signed node as it stands in the answer, and the signature."""
    text = body.decode()
    node = '"%s":' % (method.replace('.', '_') + '_response')
    start = text.index(node) + len(node)
    value, end = json.JSONDecoder().raw_decode(text, start)
    return value, text[start:end], json.loads(text).get('sign')


def alipay(shop, method, content, **more):
    return alipay_node(alipay_call(shop, method, content, **more)[2], method)[0]


def wechat_call(shop, verb, path, content=None, key=None, stamp=None, nonce=None, base=None):
    body = json.dumps(content).encode() if content is not None else b''
    stamp = str(int(stamp or control('time')['now']))
    nonce = nonce or os.urandom(16).hex()
    text = '%s\n%s\n%s\n%s\n' % (verb, path, stamp, nonce)
    signature = openssl_sign(key or shop['merchant_private_key'], text.encode() + body + b'\n')
    return http_call((base or BASE) + path, body if content is not None else None, {
        'Accept': 'application/json', 'Content-Type': 'application/json', 'User-Agent': 'merchant/1',
        'Authorization': 'WECHATPAY2-SHA256-RSA2048 mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",'
                         'signature="%s"' % (shop['mchid'], nonce, stamp, shop['merchant_serial'], signature)},
        verb)


def wechat_signed(headers, body, pem):
    text = '%s\n%s\n' % (headers.get('wechatpay-timestamp'), headers.get('wechatpay-nonce'))
    return openssl_verify(pem, text.encode() + body + b'\n', headers.get('wechatpay-signature', ''))


def wechat_order(shop, number, total=4200):
    return {'appid': shop['appid'], 'mchid': shop['mchid'], 'description': '电费,1号楼', 'out_trade_no': number,
            'notify_url': NOTIFY + '/wechat', 'amount': {'total': total, 'currency': 'CNY'}}


def try_alipay():
    shop = control('merchant', provider='alipay', mode='cert')
    order = {'out_trade_no': 'S1A1', 'total_amount': '42.00', 'subject': '电费 充值'}
    method = 'alipay.trade.precreate'
    sn = {'app_cert_sn': cert_sn(shop['app_cert']), 'alipay_root_cert_sn':
          cert_sn(shop['alipay_root_cert'][shop['alipay_root_cert'].rindex('-----BEGIN'):])}
    answer, text, sign = alipay_node(alipay_call(shop, method, order, notify_url=NOTIFY + '/alipay', **sn)[2], method)
    ok(answer.get('code') == '10000' and answer['qr_code'].startswith('https://qr.alipay.com/'), 'precreate', answer)
    ok(openssl_verify(shop['alipay_cert'], text, sign), 'its answer is signed over its own bytes')
    ok(alipay(shop, method, order).get('sub_code') == 'isv.app-cert-invalid', 'certificate mode wants its numbers')
    changed = alipay(shop, method, dict(order, total_amount='1.00'), **sn)
    ok(changed.get('sub_code') == 'ACQ.CONTEXT_INCONSISTENT', 'an order cannot be changed', changed)
    query = alipay(shop, 'alipay.trade.query', {'out_trade_no': 'S1A1'}, **sn)
    ok(query.get('sub_code') == 'ACQ.TRADE_NOT_EXIST', 'no trade before the scan', query)
    gbk = alipay(shop, 'alipay.trade.precreate', order, charset_in_url=False, **sn)
    ok(gbk.get('sub_code') == 'isv.invalid-signature', 'without charset in the address Chinese is misread', gbk)
    Merchant.answer = (200, b'oops')
    control('pay', order='S1A1', coupon='2.00')
    wait_for(lambda: len(Merchant.heard) == 1, 'a payment is notified')
    path, headers, body = Merchant.heard[0]
    fields = urllib.parse.parse_qs(body.decode(), keep_blank_values=True)
    text = '&'.join('%s=%s' % (k, fields[k][0]) for k in sorted(fields) if k not in ('sign', 'sign_type'))
    ok(openssl_verify(shop['alipay_public_key'], text, fields['sign'][0]), 'and signed without sign and sign_type')
    ok((fields['trade_status'], fields['total_amount'], fields['receipt_amount'], fields['subject']) ==
       (['TRADE_SUCCESS'], ['42.00'], ['40.00'], ['电费 充值']), 'with status and amounts', fields)
    wait_for(lambda: control('pending') and 200 < control('pending')[0]['in_s'] < 241, 'again after four minutes')
    Merchant.answer = (200, b'success')
    control('time', advance=245)
    wait_for(lambda: len(Merchant.heard) == 2 and not control('pending'), 'until the answer is success')
    ok(Merchant.heard[1][2] == body, 'the same bytes')
    refund = {'out_trade_no': 'S1A1', 'refund_amount': '10.00', 'out_request_no': 'R1'}
    first = alipay(shop, 'alipay.trade.refund', refund, **sn)
    second = alipay(shop, 'alipay.trade.refund', refund, **sn)
    ok((first['fund_change'], second['fund_change'], second['refund_fee']) == ('Y', 'N', '10.00'), 'one refund', second)
    wait_for(lambda: len(Merchant.heard) == 3 and b'TRADE_SUCCESS' in Merchant.heard[2][2]
             and b'refund_fee=10.00' in Merchant.heard[2][2], 'a partial refund is notified as a success')
    more = alipay(shop, 'alipay.trade.refund', dict(refund, refund_amount='32.01', out_request_no='R2'), **sn)
    ok(more.get('code') == '40004', 'not more than was paid', more)
    alipay(shop, 'alipay.trade.refund', dict(refund, refund_amount='32.00', out_request_no='R3'), **sn)
    query = alipay(shop, 'alipay.trade.query', {'out_trade_no': 'S1A1'}, **sn)
    ok(query['trade_status'] == 'TRADE_CLOSED', 'wholly refunded: closed', query)
    try_alipay_bill(shop, sn)


def cert_sn(pem):
    shown = subprocess.run(['openssl', 'x509', '-noout', '-issuer', '-serial', '-nameopt', 'RFC2253', '-in',
                            file('cert', pem)], stdout=subprocess.PIPE, check=True).stdout.decode()
    issuer, serial = shown.splitlines()
    return hashlib.md5((issuer[len('issuer='):] + str(int(serial[len('serial='):], 16))).encode()).hexdigest()


def try_alipay_bill(shop, sn):
    day = time.strftime('%Y-%m-%d', time.gmtime(control('time')['now'] + 8 * 3600))
    asked = {'bill_type': 'trade', 'bill_date': day}
    method = 'alipay.data.dataservice.bill.downloadurl.query'
    ok(alipay(shop, method, asked, **sn).get('sub_code') == 'isp.bill_not_exist', 'no bill of today')
    control('time', advance=86400)
    url = alipay(shop, method, asked, **sn)['bill_download_url']
    data = http_call(url)[2]
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = [entry.filename.encode('cp437').decode('gbk') for entry in archive.infolist()]
    ok(len(names) == 2 and names[0].endswith('_业务明细.csv'), 'an archive of two files with GBK names', names)
    rows = list(csv.reader(io.StringIO(archive.read(archive.infolist()[0]).decode('gbk'))))
    rows = [row for row in rows if not row[0].startswith('#')]
    ok(len(rows) == 4 and len(rows[1]) == 25 and rows[1][1] == 'S1A1\t' and rows[1][11] == '42.00'
       and rows[2][2] == '退款' and rows[2][12] == '-10.00', 'with payment and refunds', rows)
    control('time', advance=31)
    ok(http_call(url)[0] == 403, 'its address is good for 30 s')


def try_wechat():
    shop = control('merchant', provider='wechat', mode='cert')
    path = '/v3/pay/transactions/native'
    status, headers, body = wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W1AA'))
    ok(status == 200 and json.loads(body)['code_url'].startswith('weixin://'), 'native', body)
    ok(wechat_signed(headers, body, shop['platform_cert'])
       and headers['wechatpay-serial'] == shop['platform_serial'], 'signed with the platform certificate')
    other = control('merchant', provider='alipay')['app_private_key']
    ok(wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W1AA'), key=other)[0] == 401, 'another key is refused')
    late = wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W1AA'), stamp=control('time')['now'] - 400)
    ok(late[0] == 401, 'and an old request', late)
    ok(wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W1AA', 1))[0] == 403, 'an order cannot be changed')
    ok(wechat_call(shop, 'POST', path, wechat_order(shop, 'S1'))[0] == 400, 'a short order number is refused')
    Merchant.heard.clear()
    Merchant.answer = (500, b'')
    control('signtest', every=1)
    control('pay', order='S1W1AA')
    wait_for(lambda: len(Merchant.heard) == 1, 'a payment is notified')
    ok(Merchant.heard[0][1]['wechatpay-signature'].startswith('WECHATPAY/SIGNTEST/'), 'as a probe of signatures')
    control('signtest', every=0)
    Merchant.answer = (204, b'')
    control('time', advance=16)
    wait_for(lambda: len(Merchant.heard) == 2, 'and again, well signed, after 15 s')
    heard = Merchant.heard[1]
    ok(wechat_signed(heard[1], heard[2], shop['platform_cert']), 'verified')
    resource = json.loads(heard[2])['resource']
    ok(resource['algorithm'] == 'AEAD_AES_256_GCM' and len(resource['nonce']) == 12, 'with a sealed resource')
    query = json.loads(wechat_call(shop, 'GET', '/v3/pay/transactions/out-trade-no/S1W1AA?mchid=' + shop['mchid'])[2])
    ok(query['trade_state'] == 'SUCCESS' and query['amount']['total'] == 4200, 'query', query)
    closed = wechat_call(shop, 'POST', '/v3/pay/transactions/out-trade-no/S1W1AA/close', {'mchid': shop['mchid']})
    ok(closed[0] == 400, 'what is paid cannot be closed', closed)
    try_wechat_rest(shop)


def try_wechat_rest(shop):
    refund = {'out_trade_no': 'S1W1AA', 'out_refund_no': 'R1', 'notify_url': NOTIFY + '/wechat',
              'amount': {'refund': 200, 'total': 4200, 'currency': 'CNY'}}
    for _ in range(2):
        answer = json.loads(wechat_call(shop, 'POST', '/v3/refund/domestic/refunds', refund)[2])
    ok(answer['status'] == 'PROCESSING', 'a refund is under way', answer)
    control('settle-refund', refund='R1', status='ABNORMAL')
    wait_for(lambda: b'REFUND.ABNORMAL' in Merchant.heard[-1][2], 'and may turn out abnormal')
    control('settle-refund', refund='R1')
    ok(control('book')[-1]['refunded'] == '2.00', 'in the book once', control('book'))
    fresh = control('rotate', provider='wechat')['serial']
    status, headers, body = wechat_call(shop, 'GET', '/v3/certificates')
    ok(headers['wechatpay-serial'] == fresh and len(json.loads(body)['data']) == 2, 'certificates rotate', body[:200])
    day = time.strftime('%Y-%m-%d', time.gmtime(control('time')['now'] + 8 * 3600))
    control('time', advance=2 * 86400)
    status, headers, body = wechat_call(shop, 'GET', '/v3/bill/tradebill?bill_date=%s&bill_type=ALL&tar_type=GZIP' % day)
    bill = json.loads(body)
    path = bill['download_url'][len(BASE):]
    text = gzip.decompress(wechat_call(shop, 'GET', path)[2])
    ok(hashlib.sha1(text).hexdigest() == bill['hash_value'] and text.startswith(b'\xef\xbb\xbf'), 'a bill and its hash')
    rows = [line.split(',`') for line in text.decode('utf-8-sig').split('\r\n')]
    ok(len(rows[1]) == 27 and rows[1][20] == '电费,1号楼' and rows[1][12] == '42.00' and rows[2][16] == '2.00',
       'with commas in names', rows[1:3])
    key = control('merchant', provider='wechat', mode='key')
    status, headers, body = wechat_call(key, 'GET', '/v3/certificates')
    ok(status == 404 and headers['wechatpay-serial'] == key['public_key_id']
       and wechat_signed(headers, body, key['public_key']), 'public key mode has no certificates', body)


def try_faults():
    shop = control('merchant', provider='wechat')
    order = wechat_order(shop, 'S1W2AA')
    path = '/v3/pay/transactions/native'
    control('fault', kind='after-drop', order='S1W2AA')
    ok(wechat_call(shop, 'POST', path, order)[0] == 0, 'accepted, and the connection dropped')
    ok(wechat_call(shop, 'POST', path, order)[0] == 200 and len([e for e in control('journal', order='S1W2AA')]) == 2,
       'the same again is the same order')
    control('fault', kind='wrong-signature', endpoint='POST ' + path)
    status, headers, body = wechat_call(shop, 'POST', path, order)
    ok(not wechat_signed(headers, body, shop['platform_cert']), 'a wrong signature')
    control('fault', kind='status', endpoint='POST ' + path, arg=500)
    ok(wechat_call(shop, 'POST', path, order)[0] == 500, 'an error of the server')
    Merchant.heard.clear()
    control('fault', kind='amount', endpoint='notify', arg=1)
    control('pay', order='S1W2AA')
    wait_for(lambda: len(Merchant.heard) == 1, 'a notification with another amount')
    answers = control('again', order='S1W2AA', times=8)
    ok(len(answers) == 8 and len(Merchant.heard) == 9, 'eight at a time', answers)
    try_transport(shop, path)


def try_transport(shop, path):
    order = wechat_order(shop, 'S1W3AA')
    for kind, arg, good in (('reset', None, False), ('after-reset', None, False), ('length', None, False),
                            ('chunked', None, True), ('duplicate-headers', None, True), ('loris', 0.001, True)):
        control('fault', kind=kind, order='S1W3AA', arg=arg)
        try:
            status, headers, body = wechat_call(shop, 'POST', path, order)
        except Exception:  # http.client: a body that is too short
            status, headers, body = 0, {}, b''
        ok((status == 200 and wechat_signed(headers, body, shop['platform_cert'])) == good, 'fault ' + kind, status)
    for kind in ('delay', 'after-delay'):
        control('fault', kind=kind, order='S1W3AA', arg=0.3)
        begin = time.time()
        ok(wechat_call(shop, 'POST', path, order)[0] == 200 and time.time() - begin >= 0.3, 'fault ' + kind)
    control('fault', kind='after-busy', order='S1W4AA')
    busy = wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W4AA'))
    ok(busy[0] == 500 and control('book')[-1]['order'] == 'S1W4AA', 'an error is told and it was done all the same', busy)
    control('fault', kind='refuse', order='S1W4AA', arg='403 RULE_LIMIT')
    ok(wechat_call(shop, 'POST', path, wechat_order(shop, 'S1W4AA'))[0] == 403, 'any refusal asked for')
    control('fault', kind='drop', host='first', count=None)
    ok(wechat_call(shop, 'POST', path, order)[0] == 0, 'one host is down')
    ok(wechat_call(shop, 'POST', path, order, base=SECOND)[0] == 200, 'the other one is not')
    control('clear')
    ok(storm(shop, 'a') == storm(shop, 'b'), 'a storm of one seed meets the same calls')


def storm(shop, run):
    """Which faults twenty orders meet in a storm; run: another chance part of their numbers."""
    control('storm', rate=0.5, seed=7)
    for number in range(20):
        try:
            wechat_call(shop, 'GET', '/v3/pay/transactions/out-trade-no/W%04d_%s?mchid=%s' % (number, run, shop['mchid']))
        except Exception:  # of http.client, whatever the fault is
            pass
    control('clear')
    found = [e['faults'] for e in control('journal') if (e.get('order') or '').startswith('W00') and e['order'].endswith(run)]
    return found if 4 < sum(map(bool, found)) < 17 else run


def try_alipay_more():
    shop = control('merchant', provider='alipay')
    order = {'out_trade_no': 'S1A2', 'total_amount': '20.00', 'subject': '电费'}
    pre = 'alipay.trade.precreate'
    control('fault', kind='gbk-error', endpoint=pre)
    body = alipay_call(shop, pre, order)[2]
    ok('系统繁忙' in body.decode('gbk') and b'sign' not in body, 'an error of the edge in its own character set', body)
    control('fault', kind='after-busy', endpoint=pre)
    ok(alipay(shop, pre, order, notify_url=NOTIFY + '/alipay')['sub_code'] == 'ACQ.SYSTEM_ERROR', 'a system error')
    ok(alipay(shop, pre, order)['code'] == '10000', 'and it was done all the same')
    control('fault', kind='refuse', endpoint=pre, arg='ACQ.ACCESS_FORBIDDEN')
    ok(alipay(shop, pre, order)['sub_code'] == 'ACQ.ACCESS_FORBIDDEN', 'any refusal asked for')
    Merchant.heard.clear()
    Merchant.answer = (200, b'success')
    control('fault', kind='gbk', endpoint='notify', order='S1A2')
    control('fault', kind='percent', endpoint='notify', order='S1A2')
    control('pay', order='S1A2', finished=True)
    wait_for(lambda: len(Merchant.heard) == 1, 'a payment that is finished at once is notified')
    body = Merchant.heard[0][2]
    fields = urllib.parse.parse_qs(body.decode(), keep_blank_values=True, encoding='gbk')
    text = '&'.join('%s=%s' % (k, fields[k][0]) for k in sorted(fields) if k not in ('sign', 'sign_type'))
    ok(fields['trade_status'] == ['TRADE_FINISHED'] and b'+' not in body.replace(b'%2B', b'') and
       openssl_verify(shop['alipay_public_key'], text.encode('gbk'), fields['sign'][0]), 'in GBK, with %20', body)
    ok(alipay(shop, 'alipay.trade.refund', {'out_trade_no': 'S1A2', 'refund_amount': '1.00', 'out_request_no': 'F1'})
       ['sub_code'] == 'ACQ.TRADE_STATUS_ERROR', 'what is finished is not refunded')
    try_alipay_slow_refund(shop)
    alipay(shop, 'alipay.trade.create', {'out_trade_no': 'S1A4', 'total_amount': '1.00', 'subject': 's', 'buyer_id': '2088'},
           notify_url=NOTIFY + '/alipay')
    Merchant.heard.clear()
    alipay(shop, 'alipay.trade.close', {'out_trade_no': 'S1A4'})
    wait_for(lambda: Merchant.heard and b'trade_status=TRADE_CLOSED' in Merchant.heard[0][2]
             and b'gmt_payment' not in Merchant.heard[0][2], 'a trade that is closed unpaid is notified')
    page = alipay_call(shop, 'alipay.trade.app.pay', {'out_trade_no': 'S1A5', 'total_amount': '1.00', 'subject': 's',
                                                      'timeout_express': '1m'})
    ok(page[0] == 200 and alipay(shop, 'alipay.trade.query', {'out_trade_no': 'S1A5'})['trade_status'] == 'WAIT_BUYER_PAY',
       'an app pays', page)
    control('time', advance=61)
    ok(alipay(shop, 'alipay.trade.query', {'out_trade_no': 'S1A5'})['trade_status'] == 'TRADE_CLOSED', 'not in time: closed')
    now = control('time')['now']
    at = [time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now + 8 * 3600 + s)) for s in (-3600, 1)]
    log = alipay(shop, 'alipay.data.bill.accountlog.query', {'start_time': at[0], 'end_time': at[1], 'page_size': '2', 'page_no': '2'})
    ok(log['total_size'] == '5' and len(log['detail_list']) == 2, 'movements of the account by pages', log)


def alipay_bill_numbers(order, day):
    """Order and refund number of the lines of an order in the file of a day."""
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(control('bill', order=order, day=day)['file'])))
    rows = csv.reader(io.StringIO(archive.read(archive.infolist()[0]).decode('gbk')))
    return [(row[1].strip(), row[21].strip()) for row in rows if len(row) == 25 and row[1].strip() == order]


def try_alipay_slow_refund(shop):
    alipay(shop, 'alipay.trade.precreate', {'out_trade_no': 'S1A3', 'total_amount': '9.00', 'subject': 's'})
    control('pay', order='S1A3')
    refund = {'out_trade_no': 'S1A3', 'refund_amount': '9.00', 'out_request_no': 'SLOW'}
    control('fault', kind='refund-processing', endpoint='alipay.trade.refund')
    ok(alipay(shop, 'alipay.trade.refund', refund)['fund_change'] == 'N', 'a refund may take its time')
    asked = {'out_trade_no': 'S1A3', 'out_request_no': 'SLOW'}
    ok(alipay(shop, 'alipay.trade.fastpay.refund.query', asked)['refund_status'] == 'REFUND_PROCESSING'
       and control('unsettled') == ['SLOW'] and control('book')[1]['refunded'] == '0.00', 'and is not in the book yet')
    day = time.strftime('%Y-%m-%d', time.gmtime(control('time')['now'] + 8 * 3600))
    ok(alipay_bill_numbers('S1A3', day) == [('S1A3', '')], 'nor in the file of the day', day)
    control('settle-refund', refund='SLOW', status='CLOSED')
    ok(alipay(shop, 'alipay.trade.fastpay.refund.query', asked)['refund_status'] == 'REFUND_FAIL'
       and alipay_bill_numbers('S1A3', day) == [('S1A3', '')], 'one that failed is in none either')
    control('fault', kind='refund-processing', endpoint='alipay.trade.refund')
    alipay(shop, 'alipay.trade.refund', refund)
    control('settle-refund', refund='SLOW')
    ok(alipay_bill_numbers('S1A3', day)[1:] == [('S1A3', 'SLOW')], 'and in the file')
    ok(alipay(shop, 'alipay.trade.fastpay.refund.query', asked)['refund_status'] == 'REFUND_SUCCESS', 'until it is settled')
    alipay(shop, 'alipay.trade.precreate', {'out_trade_no': 'S1A6', 'total_amount': '3.00', 'subject': 's'})
    first, second = control('pay', order='S1A6'), control('pay', order='S1A6', twice=True)
    ok(first['trade_no'] != second['trade_no'] and
       [row['paid'] for row in control('book') if row['order'] == 'S1A6'] == ['3.00', '3.00'], 'a trade paid twice', second)


def try_wechat_more():
    shop = control('merchant', provider='wechat', mode='cert')
    path = '/v3/pay/transactions/native'
    one, two = wechat_order(shop, 'S1W5AA'), wechat_order(shop, 'S1W6AA')
    stamp, nonce = control('time')['now'], os.urandom(16).hex()
    ok([wechat_call(shop, 'POST', path, order, stamp=stamp, nonce=nonce)[0] for order in (one, one, two)] == [200, 200, 401],
       'the same nonce with another body is refused')
    for state in ('USERPAYING', 'PAYERROR'):
        control('payer', order='S1W5AA', state=state)
        query = json.loads(wechat_call(shop, 'GET', '/v3/pay/transactions/out-trade-no/S1W5AA?mchid=' + shop['mchid'])[2])
        ok(query['trade_state'] == state, 'a payer is ' + state, query)
    control('time', advance=7300)
    ok(not control('pay', order='S1W5AA')['paid'], 'a code lives two hours')
    wechat_call(shop, 'POST', path, one)
    Merchant.heard.clear()
    Merchant.answer = (204, b'')
    control('fault', kind='absent-associated', endpoint='notify')
    ok(control('pay', order='S1W5AA')['paid'], 'a fresh one of the same order can be paid')
    wait_for(lambda: Merchant.heard and 'associated_data' not in json.loads(Merchant.heard[0][2])['resource'],
             'a resource without associated data')
    refund = {'out_trade_no': 'S1W5AA', 'out_refund_no': 'R9', 'notify_url': NOTIFY + '/wechat?a=1',
              'amount': {'refund': 200, 'total': 4200, 'currency': 'CNY'}}
    ok(wechat_call(shop, 'POST', '/v3/refund/domestic/refunds', refund)[0] == 400, 'no query in a notify address')
    fresh = control('rotate', provider='wechat', overlap=100)['serial']
    seen = {wechat_call(shop, 'GET', '/v3/certificates')[1]['wechatpay-serial'] for _ in range(4)}
    ok(len(seen) > 1 and fresh in seen, 'old and new keys sign in turns', seen)
    control('time', advance=101)
    seen = {wechat_call(shop, 'GET', '/v3/certificates')[1]['wechatpay-serial'] for _ in range(4)}
    ok(seen == {fresh}, 'until the old ones are withdrawn', seen)


provider = subprocess.Popen(['/usr/bin/python3', PROVIDER], stdout=subprocess.PIPE)
try:
    BASE, SECOND = (provider.stdout.readline().decode().split()[1] for _ in range(2))
    merchant = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Merchant)
    threading.Thread(target=merchant.serve_forever, daemon=True).start()
    NOTIFY = 'http://127.0.0.1:%d' % merchant.server_address[1]
    try_alipay()
    try_alipay_more()
    try_wechat()
    try_wechat_more()
    try_faults()
finally:
    provider.terminate()
    subprocess.run(['rm', '-rf', WORK])
print('1..%d' % count)
sys.exit(failed > 0)
