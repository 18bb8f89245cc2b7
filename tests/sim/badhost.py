#!/usr/bin/python3
"""Hosts that answer badly, and a forward proxy.

    badhost.py DIR      makes its certificates in DIR, prints "NAME PORT" for every one, then "ready"

good, expired, other (a certificate for another name), old (TLS 1.1 only) and plain (no TLS) answer HTTP
by path: /ok, /redirect (to /target), /gzip (ten megabytes of nothing, said to be gzip), /endless, /lying
(a length and fewer bytes), /headers (a flood), /nothing (an empty answer), /smuggled (two answers),
/status/N, /retry/TEXT. proxy speaks CONNECT; deaf takes connections and says nothing. Requests are lines
of JSON in DIR/badhost. DIR/ca vouches for all of them.
"""
import datetime
import gzip
import http.server
import json
import os
import socket
import ssl
import sys
import threading
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

DIRECTORY = sys.argv[1]
lock = threading.Lock()
NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


def keep(**seen):
    with lock, open(os.path.join(DIRECTORY, 'badhost'), 'a') as out:
        out.write(json.dumps(seen) + '\n')


def certificate(name, host, issuer=None, begin=NOW - DAY, end=NOW + DAY):
    """Makes a certificate; NAME.crt and NAME.key are its files."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[1].subject if issuer else subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(issuer[0] if issuer else key, hashes.SHA256()))
    with open(os.path.join(DIRECTORY, name + '.crt'), 'wb') as out:
        out.write(made.public_bytes(serialization.Encoding.PEM))
    with open(os.path.join(DIRECTORY, name + '.key'), 'wb') as out:
        out.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return key, made


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b'', headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        keep(host=self.server.name, path=self.path, headers={key.lower(): value for key, value in self.headers.items()})
        _, what, *rest = self.path.split('?')[0].split('/') + ['']
        if what == 'redirect':
            self.answer(302, headers=[('Location', '/target')])
        elif what == 'gzip':
            self.answer(200, gzip.compress(bytes(10000000)), [('Content-Encoding', 'gzip')])
        elif what == 'endless':
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b'x' * 65536)
        elif what == 'lying':
            self.send_response(200)
            self.send_header('Content-Length', '100')
            self.end_headers()
            self.wfile.write(b'too few')
            self.close_connection = True
        elif what == 'headers':
            self.answer(200, b'flood', [('X-%d' % n, 'y' * 100) for n in range(2000)] + [('Retry-After', '1'), ('Retry-After', '2')])
        elif what == 'nothing':
            self.close_connection = True
            self.connection.close()
        elif what == 'smuggled':
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\ntwo')
        elif what == 'garbage':
            self.wfile.write(b'220 mail.example.org ESMTP\r\n')
            self.close_connection = True
        elif what == 'status':
            self.answer(int(rest[0]))
        elif what == 'retry':
            self.answer(429, headers=[('Retry-After', urllib.parse.unquote(rest[0]))])
        else:
            self.answer(200, b'fine')

    do_GET = do_POST = handle_any


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass


def web(name, files=None, newest=None):
    server = Quiet(('127.0.0.1', 0), Web)
    server.name = name
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(DIRECTORY, files + '.crt'), os.path.join(DIRECTORY, files + '.key'))
        if newest:
            context.set_ciphers('ALL:@SECLEVEL=0')
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(name, server.server_address[1])


def copy(source, target):
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            target.sendall(piece)
    except OSError:
        pass
    for link in (source, target):
        try:
            link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def proxied(link):
    head = b''
    while b'\r\n\r\n' not in head:
        piece = link.recv(65536)
        if not piece:
            return
        head += piece
    method, target, _ = head.split(b'\r\n')[0].decode().split(' ')
    keep(host='proxy', path='%s %s' % (method, target), headers={})
    if method != 'CONNECT' or target.startswith('forbidden'):
        link.sendall(b'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
        link.close()
        return
    host, port = target.rsplit(':', 1)
    other = socket.create_connection((host, int(port)))
    link.sendall(b'HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n')
    threading.Thread(target=copy, args=(other, link), daemon=True).start()
    copy(link, other)


def proxy():
    listener = socket.create_server(('127.0.0.1', 0))
    print('proxy', listener.getsockname()[1])
    while True:
        threading.Thread(target=proxied, args=(listener.accept()[0],), daemon=True).start()


def main():
    open(os.path.join(DIRECTORY, 'badhost'), 'a').close()
    ca = certificate('ca', 'a test')
    certificate('good', 'localhost', ca)
    certificate('other', 'elsewhere.example', ca)
    certificate('expired', 'localhost', ca, NOW - 3 * DAY, NOW - 2 * DAY)
    web('good', 'good')
    web('expired', 'expired')
    web('other', 'other')
    web('old', 'good', ssl.TLSVersion.TLSv1_1)
    web('plain')
    deaf = socket.create_server(('127.0.0.1', 0))
    print('deaf', deaf.getsockname()[1])
    threading.Thread(target=proxy, daemon=True).start()
    threading.Event().wait(0.2)
    print('ready', flush=True)
    threading.Event().wait()


if __name__ == '__main__':
    main()
