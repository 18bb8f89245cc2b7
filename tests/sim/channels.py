#!/usr/bin/python3
"""The other ends of notice channels: SMS gates, robots, push services, a WeChat account and a hook.

    channels.py DIR        prints "ready PORT"; DIR/log gets a line of JSON for every call

Each checks signatures as its provider's documents say and answers as it does, a refusal with the
provider's own error; the paths are the providers'. Web Push is opened with the browser's key. Written
from the documents with python3-cryptography; nothing is shared with the code that is tested.

Secrets are fixed (see SECRETS). GET /browser tells the keys of a new browser and its push address.
Faults: POST /fault {"channel": NAME, "answer": "throttle"|"refuse"|"gone"|"drop"} for the next call.
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import secrets
import sys
import threading
import time
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRETS = {'aliyun': 'ali secret', 'tencent': 'tencent secret', 'dingtalk': 'SECding', 'feishu': 'SECfeishu',
           'jpush': ('appkey', 'master'), 'webhook': 'whsec', 'wechat': ('wxapp', 'wxsecret')}
browsers = {}
faults = {}
tokens = {}
seen = set()
lock = threading.Lock()


def unbase64(text):
    return base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip('=')


def mac(key, message, digest=hashlib.sha256):
    key = key if isinstance(key, bytes) else key.encode()
    return hmac.new(key, message if isinstance(message, bytes) else message.encode(), digest)


def fault(name):
    with lock:
        return faults.pop(name, None)


# Each: (status, answer or None to drop, what to log)

def aliyun(call):
    """ACS3-HMAC-SHA256 of SendSms."""
    wrong = fault('aliyun')
    if wrong == 'drop':
        return 0, None, {}
    auth = dict(part.split('=', 1) for part in call.headers['authorization'].split(' ', 1)[1].split(','))
    names = auth['SignedHeaders'].split(';')
    canonical = '\n'.join([call.verb, call.path, call.canonical_query(),
                           ''.join('%s:%s\n' % (n, call.headers.get(n, '').strip()) for n in names),
                           ';'.join(names), hashlib.sha256(call.body).hexdigest()])
    text = 'ACS3-HMAC-SHA256\n' + hashlib.sha256(canonical.encode()).hexdigest()
    stamp = time.mktime(time.strptime(call.headers['x-acs-date'], '%Y-%m-%dT%H:%M:%SZ')) - time.timezone
    fields = dict(urllib.parse.parse_qsl(call.query))
    if auth['Signature'] != mac(SECRETS['aliyun'], text).hexdigest():
        return 400, {'Code': 'SignatureDoesNotMatch', 'Message': 'expected ' + text}, {}
    if abs(stamp - time.time()) > 900 or call.headers['x-acs-action'] != 'SendSms':
        return 400, {'Code': 'InvalidTimeStamp.Expired', 'Message': 'clock'}, {}
    if call.headers['x-acs-signature-nonce'] in seen:
        return 400, {'Code': 'SignatureNonceUsed', 'Message': 'nonce'}, {}
    seen.add(call.headers['x-acs-signature-nonce'])
    if wrong == 'throttle':
        return 200, {'Code': 'isv.BUSINESS_LIMIT_CONTROL', 'Message': '触发小时级流控'}, fields
    json.loads(fields['TemplateParam'])
    return 200, {'Code': 'OK', 'BizId': '9006%d^0' % len(seen), 'RequestId': secrets.token_hex(8), 'Message': 'OK'}, fields


def tencent(call):
    """TC3-HMAC-SHA256 of SendSms."""
    scheme, rest = call.headers['authorization'].split(' ', 1)
    auth = dict(part.strip().split('=', 1) for part in rest.split(','))
    day, service, end = auth['Credential'].split('/')[1:]
    stamp = call.headers['x-tc-timestamp']
    names = auth['SignedHeaders'].split(';')
    lowered = {n: call.headers.get(n, '') for n in names}
    lowered['x-tc-action'] = lowered.get('x-tc-action', '').lower()
    canonical = '\n'.join([call.verb, '/', call.query, ''.join('%s:%s\n' % (n, lowered[n]) for n in names), ';'.join(names),
                           hashlib.sha256(call.body).hexdigest()])
    text = '\n'.join([scheme, stamp, '%s/%s/%s' % (day, service, end), hashlib.sha256(canonical.encode()).hexdigest()])
    key = mac(mac(mac('TC3' + SECRETS['tencent'], day).digest(), service).digest(), end).digest()

    def refuse(code):
        return 200, {'Response': {'Error': {'Code': code, 'Message': code}, 'RequestId': 'r'}}, {}
    if auth['Signature'] != mac(key, text).hexdigest():
        return refuse('AuthFailure.SignatureFailure')
    if abs(int(stamp) - time.time()) > 300 or time.strftime('%Y-%m-%d', time.gmtime(int(stamp))) != day:
        return refuse('AuthFailure.SignatureExpire')
    asked = json.loads(call.body)
    if fault('tencent') == 'throttle':
        return 200, {'Response': {'SendStatusSet': [{'Code': 'LimitExceeded.PhoneNumberDailyLimit', 'Message': 'limit'}]}}, asked
    return 200, {'Response': {'SendStatusSet': [{'SerialNo': '2028:%d' % time.time_ns(), 'PhoneNumber': asked['PhoneNumberSet'][0],
                                                 'Code': 'Ok', 'Message': 'send success'}], 'RequestId': 'r'}}, asked


def dingtalk(call):
    fields = dict(urllib.parse.parse_qsl(call.query))
    want = base64.b64encode(mac(SECRETS['dingtalk'], '%s\n%s' % (fields['timestamp'], SECRETS['dingtalk'])).digest()).decode()
    if fields['sign'] != want or abs(int(fields['timestamp']) / 1000 - time.time()) > 3600:
        return 200, {'errcode': 310000, 'errmsg': 'sign not match'}, fields
    if fault('dingtalk') == 'throttle':
        return 200, {'errcode': 130101, 'errmsg': 'send too fast'}, {}
    return 200, {'errcode': 0, 'errmsg': 'ok'}, json.loads(call.body)


def feishu(call):
    asked = json.loads(call.body)
    want = base64.b64encode(mac('%s\n%s' % (asked['timestamp'], SECRETS['feishu']), b'').digest()).decode()
    if asked['sign'] != want or abs(int(asked['timestamp']) - time.time()) > 3600:
        return 200, {'code': 19021, 'msg': 'sign match fail or timestamp is not within one hour from current time'}, asked
    return 200, {'code': 0, 'msg': 'success', 'data': {}}, asked


def wecom(call):
    asked = json.loads(call.body)
    if dict(urllib.parse.parse_qsl(call.query)).get('key') != 'wecomkey' or len(asked['text']['content'].encode()) > 2048:
        return 200, {'errcode': 93000, 'errmsg': 'invalid webhook url'}, asked
    return 200, {'errcode': 0, 'errmsg': 'ok'}, asked


def jpush(call):
    want = 'Basic ' + base64.b64encode(':'.join(SECRETS['jpush']).encode()).decode()
    if call.headers.get('authorization') != want:
        return 401, {'error': {'code': 1004, 'message': 'authentication failed'}}, {}
    asked = json.loads(call.body)
    if fault('jpush') == 'gone':
        return 400, {'error': {'code': 1011, 'message': 'cannot find user by this audience'}}, asked
    return 200, {'sendno': '0', 'msg_id': str(time.time_ns())}, asked


def wechat_token(call):
    asked = json.loads(call.body)
    if (asked.get('appid'), asked.get('secret')) != SECRETS['wechat']:
        return 200, {'errcode': 40013, 'errmsg': 'invalid appid'}, {}
    tokens['wechat'] = secrets.token_hex(20)
    return 200, {'access_token': tokens['wechat'], 'expires_in': 7200}, {'asked': 'token'}


def wechat_send(call):
    if fault('wechat') == 'gone':
        tokens['wechat'] = secrets.token_hex(20)
    if dict(urllib.parse.parse_qsl(call.query)).get('access_token') != tokens.get('wechat'):
        return 200, {'errcode': 40001, 'errmsg': 'invalid credential, access_token is invalid or not latest'}, {}
    asked = json.loads(call.body)
    if any(len(value['value']) > 20 for value in asked['data'].values()):
        return 200, {'errcode': 47003, 'errmsg': 'argument invalid!'}, asked
    return 200, {'errcode': 0, 'errmsg': 'ok', 'msgid': time.time_ns() % 10 ** 12}, asked


def webhook(call):
    parts = dict(part.split('=', 1) for part in call.headers['x-submeter-signature'].split(','))
    if parts['v1'] != mac(SECRETS['webhook'], parts['t'].encode() + b'.' + call.body).hexdigest():
        return 401, {}, {}
    return 204, {}, dict(json.loads(call.body), key=call.headers['idempotency-key'])


def new_browser(port):
    key, secret, name = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16), secrets.token_hex(6)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    browsers[name] = (key, point, secret)
    return {'endpoint': 'http://127.0.0.1:%d/push/%s' % (port, name), 'keys': {'p256dh': base64url(point), 'auth': base64url(secret)}}


def check_vapid(call):
    """RFC 8292: the token is signed by the key it comes with, for this service, and not for ever."""
    parts = dict(part.strip().split('=', 1) for part in call.headers['authorization'].split(' ', 1)[1].split(','))
    head, claims, signature = parts['t'].split('.')
    raw = unbase64(signature)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unbase64(parts['k']))
    public.verify(utils.encode_dss_signature(int.from_bytes(raw[:32], 'big'), int.from_bytes(raw[32:], 'big')),
                  (head + '.' + claims).encode(), ec.ECDSA(hashes.SHA256()))
    said = json.loads(unbase64(claims))
    return json.loads(unbase64(head))['alg'] == 'ES256' and said['aud'] == 'http://' + call.headers['host'] \
        and time.time() < said['exp'] < time.time() + 86400 and said['sub'].startswith('mailto:')


def webpush(call):
    """RFC 8291, from the browser's side."""
    if fault('webpush') == 'gone':
        return 410, {}, {}
    try:
        if not check_vapid(call):
            return 403, {}, {}
    except (InvalidSignature, ValueError, KeyError):
        return 403, {}, {}
    key, point, secret = browsers[call.path.rsplit('/', 1)[1]]
    salt, size, length = call.body[:16], int.from_bytes(call.body[16:20], 'big'), call.body[20]
    sender, sealed = call.body[21:21 + length], call.body[21 + length:]
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))

    def hkdf(salt_, material, info, count):
        return HKDF(hashes.SHA256(), count, salt_, info).derive(material)
    material = hkdf(secret, shared, b'WebPush: info\0' + point + sender, 32)
    plain = AESGCM(hkdf(salt, material, b'Content-Encoding: aes128gcm\0', 16)).decrypt(
        hkdf(salt, material, b'Content-Encoding: nonce\0', 12), sealed, None)
    if len(call.body) > size or not plain.endswith(b'\2') or call.headers.get('content-encoding') != 'aes128gcm' or 'ttl' not in call.headers:
        return 400, {}, {}
    return 201, {}, json.loads(plain[:-1])


ROUTES = {'/': None, '/robot/send': dingtalk, '/cgi-bin/webhook/send': wecom, '/v3/push': jpush, '/hook': webhook,
          '/cgi-bin/stable_token': wechat_token, '/cgi-bin/message/template/send': wechat_send}


class Call:
    def __init__(self, handler):
        self.verb = handler.command
        self.path, _, self.query = handler.path.partition('?')
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get('content-length') or 0))

    def canonical_query(self):
        pairs = sorted(urllib.parse.parse_qsl(self.query, keep_blank_values=True))
        return '&'.join('%s=%s' % (urllib.parse.quote(k, safe='-_.~'), urllib.parse.quote(v, safe='-_.~')) for k, v in pairs)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.reply(200, new_browser(self.server.server_address[1]) if self.path == '/browser' else {})

    def do_POST(self):
        call = Call(self)
        if call.path == '/fault':
            asked = json.loads(call.body)
            with lock:
                faults[asked['channel']] = asked['answer']
            return self.reply(200, {})
        handler = ROUTES.get(call.path) or (
            tencent if 'x-tc-action' in call.headers else aliyun if 'x-acs-action' in call.headers else
            feishu if call.path.startswith('/open-apis/bot/v2/hook/') else webpush if call.path.startswith('/push/') else None)
        status, answer, said = handler(call) if handler else (404, {}, {})
        with lock, open(os.path.join(sys.argv[1], 'log'), 'a') as out:
            out.write(json.dumps({'channel': handler.__name__ if handler else None, 'status': status, 'said': said,
                                  'answer': answer}, ensure_ascii=False) + '\n')
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(2)
            return None
        return self.reply(status, answer)

    def reply(self, status, answer):
        data = b'' if status == 204 else json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(status)
        if status != 204:
            self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.daemon_threads = True
print('ready %d' % server.server_address[1], flush=True)
server.serve_forever()
