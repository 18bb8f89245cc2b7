#!/usr/bin/python3
"""The other ends of notice channels: SMS gates, robots, push services, a WeChat account with its login, and a hook.

    channels.py DIR        prints "ready PORT"; DIR/log gets a line of JSON for every call

Each checks signatures as its provider's documents say and answers as it does, a refusal with the
provider's own error; the paths are the providers'. Web Push is opened with the browser's key. Written
from the documents with python3-cryptography; nothing is shared with the code that is tested.

Secrets are fixed (see SECRETS). GET /browser tells the keys of a new browser and its push address. What was
sent can be asked about as at the provider: QuerySendDetails (Aliyun), PullSmsSendStatusByPhoneNumber (Tencent
Cloud), /v3/status/message (JPush). GET /connect/oauth2/authorize is a person who opens it inside WeChat.
Faults: POST /fault {"channel": NAME, "answer": "throttle"|"refuse"|"gone"|"drop"|"lost"|"pending"|"snapshot"} for the
next call: lost, a message that is accepted and does not arrive; pending, one nobody knows about yet.
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import re
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
sent = {}
codes = {}
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


def remember(number, whom, wrong):
    """What becomes of a message that was accepted."""
    with lock:
        sent[number] = (whom, 'lost' if wrong == 'lost' else 'arrived')


def china_day(stamp):
    return time.strftime('%Y-%m-%d', time.gmtime(stamp + 8 * 3600))


# Each: (status, answer or None to drop, what to log)

def aliyun(call):
    """ACS3-HMAC-SHA256 of SendSms and QuerySendDetails."""
    action = call.headers['x-acs-action']
    wrong = fault('aliyun') if action == 'SendSms' else None
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
    if abs(stamp - time.time()) > 900 or call.headers['x-acs-version'] != '2017-05-25':
        return 400, {'Code': 'InvalidTimeStamp.Expired', 'Message': 'clock'}, {}
    if call.headers['x-acs-signature-nonce'] in seen:
        return 400, {'Code': 'SignatureNonceUsed', 'Message': 'nonce'}, {}
    seen.add(call.headers['x-acs-signature-nonce'])
    if action == 'QuerySendDetails':
        return 200, aliyun_details(fields), fields
    if action != 'SendSms':
        return 404, {'Code': 'InvalidAction.NotFound', 'Message': action}, fields
    if wrong == 'throttle':
        return 200, {'Code': 'isv.BUSINESS_LIMIT_CONTROL', 'Message': '触发小时级流控'}, fields
    json.loads(fields['TemplateParam'])
    if not re.fullmatch(r'1[3-9]\d{9}|[1-9]\d{6,14}', fields['PhoneNumbers']):
        return 200, {'Code': 'isv.MOBILE_NUMBER_ILLEGAL', 'Message': fields['PhoneNumbers']}, fields
    number = '9006%d^0' % len(seen)
    remember(number, fields['PhoneNumbers'], wrong)
    return 200, {'Code': 'OK', 'BizId': number, 'RequestId': secrets.token_hex(8), 'Message': 'OK'}, fields


def aliyun_details(fields):
    """QuerySendDetails: SendStatus 1 waits for the operator, 2 failed, 3 arrived."""
    if not {'PhoneNumber', 'SendDate', 'PageSize', 'CurrentPage'} <= set(fields) or not 1 <= int(fields['PageSize']) <= 50:
        return {'Code': 'MissingParameter', 'Message': 'PhoneNumber, SendDate, PageSize, CurrentPage'}
    whom, fate = sent.get(fields.get('BizId'), (None, None))
    found = []
    if whom == fields['PhoneNumber'] and fields['SendDate'] == china_day(time.time()).replace('-', ''):
        status = 1 if fault('aliyun_query') == 'pending' else 3 if fate == 'arrived' else 2
        found.append({'PhoneNum': whom, 'SendStatus': status, 'ErrCode': {1: '', 2: 'MOBILE_NOT_ON_SERVICE', 3: 'DELIVERED'}[status], 'Content': '【商场】',
                      'SendDate': china_day(time.time()) + ' 00:00:00', 'ReceiveDate': time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(time.time() + 8 * 3600))})
    return {'Code': 'OK', 'Message': 'OK', 'RequestId': 'r', 'TotalCount': str(len(found)), 'SmsSendDetailDTOs': {'SmsSendDetailDTO': found}}


def tencent(call):
    """TC3-HMAC-SHA256 of SendSms and PullSmsSendStatusByPhoneNumber."""
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
    if call.headers['x-tc-version'] != '2021-01-11':
        return refuse('NoSuchVersion')
    if call.headers['x-tc-action'] == 'PullSmsSendStatusByPhoneNumber':
        if asked['Offset'] != 0 or not 1 <= asked['Limit'] <= 100 or asked['BeginTime'] < time.time() - 7 * 86400 or not asked['PhoneNumber'].startswith('+'):
            return refuse('InvalidParameter')
        return 200, {'Response': {'PullSmsSendStatusSet': tencent_reports(asked), 'RequestId': 'r'}}, asked
    if call.headers['x-tc-action'] != 'SendSms':
        return refuse('InvalidAction')
    wrong = fault('tencent')
    if wrong == 'throttle':
        return 200, {'Response': {'SendStatusSet': [{'Code': 'LimitExceeded.PhoneNumberDailyLimit', 'Message': 'limit'}]}}, asked
    number = '2028:%d' % time.time_ns()
    remember(number, asked['PhoneNumberSet'][0], wrong)
    return 200, {'Response': {'SendStatusSet': [{'SerialNo': number, 'PhoneNumber': asked['PhoneNumberSet'][0],
                                                 'Code': 'Ok', 'Message': 'send success'}], 'RequestId': 'r'}}, asked


def tencent_reports(asked):
    """Reports of the operators about one number; a message without one is not in the list."""
    if fault('tencent_query') == 'pending':
        return []
    return [{'CountryCode': '86', 'SubscriberNumber': whom[3:], 'PhoneNumber': whom, 'SerialNo': number, 'UserReceiveTime': int(time.time()), 'SessionContext': '',
             'ReportStatus': 'SUCCESS' if fate == 'arrived' else 'FAIL', 'Description': 'DELIVRD' if fate == 'arrived' else 'UNDELIV'}
            for number, (whom, fate) in list(sent.items()) if whom == asked['PhoneNumber']]


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


def jpush_knows(call):
    return call.headers.get('authorization') == 'Basic ' + base64.b64encode(':'.join(SECRETS['jpush']).encode()).decode()


def jpush(call):
    if not jpush_knows(call):
        return 401, {'error': {'code': 1004, 'message': 'authentication failed'}}, {}
    asked = json.loads(call.body)
    wrong = fault('jpush')
    if wrong == 'gone':
        return 400, {'error': {'code': 1011, 'message': 'cannot find user by this audience'}}, asked
    if len(json.dumps(asked['notification'], ensure_ascii=False).encode()) > 4000:
        return 400, {'error': {'code': 1005, 'message': 'The length of the notification is too long'}}, asked
    number = str(time.time_ns())
    remember(number, asked['audience']['registration_id'][0], wrong)
    return 200, {'sendno': '0', 'msg_id': number}, asked


def jpush_status(call):
    """0 on the device, 1 not, 2 no registration id of the app, 3 not sent to it."""
    if not jpush_knows(call):
        return 401, {'error': {'code': 3001, 'message': 'Basic authentication failed'}}, {}
    asked = json.loads(call.body)
    whom, fate = sent.get(str(asked['msg_id']), (None, None))
    return 200, {token: {'status': 2 if fate is None else 3 if token != whom else 1 if fate == 'lost' or asked['date'] != china_day(time.time()) else 0}
                 for token in asked['registration_ids']}, asked


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


def wechat_person(call):
    """A person opens the address of a login inside WeChat: scope snsapi_base asks nobody anything."""
    names = [part.split('=', 1)[0] for part in call.query.split('&')]
    asked = dict(urllib.parse.parse_qsl(call.query))
    if names != ['appid', 'redirect_uri', 'response_type', 'scope', 'state'] or asked['appid'] != SECRETS['wechat'][0] or asked['response_type'] != 'code' \
            or asked['scope'] != 'snsapi_base' or not re.fullmatch('[0-9A-Za-z]{1,128}', asked['state']):
        return 400, {'errmsg': '参数错误'}, asked
    code = secrets.token_hex(16)
    codes[code] = 'o' + secrets.token_hex(13)
    back = urllib.parse.urlsplit(asked['redirect_uri'])
    query = urllib.parse.urlencode(urllib.parse.parse_qsl(back.query) + [('code', code), ('state', asked['state'])])
    return 302, {'location': urllib.parse.urlunsplit(back._replace(query=query))}, {'person': codes[code]}


def wechat_openid(call):
    """Whose a code is: each can be exchanged once."""
    asked = dict(urllib.parse.parse_qsl(call.query))
    if (asked.get('appid'), asked.get('secret')) != SECRETS['wechat'] or asked.get('grant_type') != 'authorization_code':
        return 200, {'errcode': 40125, 'errmsg': 'invalid appsecret'}, {}
    with lock:
        openid = codes.get(asked['code'])
        if openid:
            codes[asked['code']] = ''
    if openid is None:
        return 200, {'errcode': 40029, 'errmsg': 'invalid code'}, {}
    if openid == '':
        return 200, {'errcode': 40163, 'errmsg': 'code been used'}, {}
    answer = {'access_token': secrets.token_hex(20), 'expires_in': 7200, 'refresh_token': secrets.token_hex(20), 'openid': openid, 'scope': 'snsapi_base'}
    return 200, dict(answer, is_snapshotuser=1) if fault('wechat_openid') == 'snapshot' else answer, {'openid': openid}


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
          '/cgi-bin/stable_token': wechat_token, '/cgi-bin/message/template/send': wechat_send, '/v3/status/message': jpush_status,
          '/connect/oauth2/authorize': wechat_person, '/sns/oauth2/access_token': wechat_openid}


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
        if self.path == '/browser':
            return self.reply(200, new_browser(self.server.server_address[1]))
        return self.do_POST()

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
        if status == 302:
            self.send_header('Location', answer['location'])
        if status != 204:
            self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.daemon_threads = True
print('ready %d' % server.server_address[1], flush=True)
server.serve_forever()
