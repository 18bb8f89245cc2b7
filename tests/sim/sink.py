#!/usr/bin/python3
"""A host somewhere outside: an HTTP server and a mail server that keep what they get.

    sink.py DIR [--tls CERT KEY]     prints "http PORT", "smtp PORT" and "ready"

HTTP: every request is a line of JSON in DIR/http (method, path, headers, body as text). The path
says what is answered: /status/503, /slow/3 (seconds), /drop, /big/1000000, /retry-after/2, anything
else 200 and the request itself. With --tls it is HTTPS.

Mail (aiosmtpd, a Debian package): every accepted message is a file DIR/mail.N with the envelope in
its first line; AUTH user "meter" password "s3cret, word" is needed; with --tls STARTTLS is offered and
needed. The local part of a recipient says what happens: later (450), never (550), slow (an answer
after 5 s), gone (the connection is dropped after the text), others are accepted.
"""
import asyncio
import http.server
import json
import os
import ssl
import sys
import threading
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

DIRECTORY = sys.argv[1]
TLS = sys.argv[3:5] if len(sys.argv) > 3 else None
lock = threading.Lock()


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        seen = {'method': self.command, 'path': self.path, 'body': body.decode('latin-1'),
                'headers': {name.lower(): value for name, value in self.headers.items()}}
        with lock, open(os.path.join(DIRECTORY, 'http'), 'a') as out:
            out.write(json.dumps(seen) + '\n')
        _, what, *rest = self.path.split('?')[0].split('/') + ['']
        if what == 'slow':
            time.sleep(float(rest[0]))
        if what == 'drop':
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.send_response(int(rest[0]) if what == 'status' else 429 if what == 'retry-after' else 200)
        if what == 'retry-after':
            self.send_header('Retry-After', rest[0])
        data = b'x' * int(rest[0]) if what == 'big' else json.dumps(seen).encode()
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = handle_any


class Mail:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        what = address.split('@')[0]
        if what == 'later':
            return '450 4.2.1 come back later'
        if what == 'never':
            return '550 5.1.1 nobody of that name'
        envelope.rcpt_tos.append(address)
        return '250 OK'

    async def handle_DATA(self, server, session, envelope):
        names = [address.split('@')[0] for address in envelope.rcpt_tos]
        if 'slow' in names:
            await asyncio.sleep(5)
        Mail.count += 1
        path = os.path.join(DIRECTORY, 'mail.%d' % Mail.count)
        with open(path + '.part', 'wb') as out:
            out.write(json.dumps({'from': envelope.mail_from, 'to': envelope.rcpt_tos,
                                  'tls': session.ssl is not None}).encode() + b'\n')
            out.write(envelope.original_content)
        os.rename(path + '.part', path)
        if 'gone' in names:
            server.transport.abort()
        return '250 2.0.0 kept'


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b'meter' and data.password == b's3cret, word'
    # "handled" would mean that the refusal was said already.
    return AuthResult(success=good, handled=False)


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*TLS)
    return made


class MailServer(Controller):
    def factory(self):
        return SMTP(self.handler, hostname='sink', authenticator=authenticate, auth_required=True,
                    auth_require_tls=TLS is not None, require_starttls=TLS is not None,
                    tls_context=context() if TLS else None, enable_SMTPUTF8=False)


def main():
    web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Web)
    web.daemon_threads = True
    if TLS:
        web.socket = context().wrap_socket(web.socket, server_side=True)
    mail = MailServer(Mail(), hostname='127.0.0.1', port=int(os.environ.get('SINK_SMTP_PORT', 0)) or free_port())
    mail.start()
    print('http %d\nsmtp %d\nready' % (web.server_address[1], mail.port), flush=True)
    web.serve_forever()


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


if __name__ == '__main__':
    main()
