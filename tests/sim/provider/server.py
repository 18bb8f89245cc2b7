#!/usr/bin/python3
"""The simulated payment providers as one HTTP server on loopback. README.md describes it."""
import argparse
import base64
import json
import os
import ssl
import sys
import time
import traceback
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from alipay import Alipay  # noqa: E402
from wechat import Wechat  # noqa: E402
from world import World  # noqa: E402


class Control:
    """Commands of a test: {"do": NAME, …} → JSON."""

    def __init__(self, world, alipay, wechat):
        self.world, self.alipay, self.wechat = world, alipay, wechat

    def _provider(self, asked):
        return {'alipay': self.alipay, 'wechat': self.wechat}[asked.pop('provider')]

    def _of_order(self, order):
        for provider in (self.alipay, self.wechat):
            try:
                provider.find(order)
                return provider
            except KeyError:
                pass
        raise KeyError('no such order: ' + order)

    def run(self, asked):
        do = asked.pop('do')
        handler = getattr(self, 'do_' + do.replace('-', '_'), None)
        if handler is None:
            raise KeyError('there is no command ' + do)
        return handler(**asked)

    def do_merchant(self, **asked):
        return self._provider(asked).merchant(**asked)

    def do_rotate(self, **asked):
        return self._provider(asked).rotate(**asked) or {}

    def do_scan(self, order):
        with self.world.lock:
            return self.alipay.scan(order)

    def do_pay(self, order, **how):
        with self.world.lock:
            return self._of_order(order).pay(order, **how)

    def do_buy(self, code, **how):
        with self.world.lock:
            for provider in (self.alipay, self.wechat):
                order = provider.order_of(code)
                if order is not None:
                    return dict(provider.pay(order, **how), order=order)
        raise KeyError('no such code: ' + code)

    def do_settle_refund(self, refund, **how):
        with self.world.lock:
            return self.wechat.settle_refund(refund, **how)

    def do_refund_here(self, order, amount, at=None):
        with self.world.lock:
            return self._of_order(order).refund_here(order, amount, at)

    def do_backdate(self, order, at):
        with self.world.lock:
            self._of_order(order).backdate(order, at)
        return {}

    def do_bill(self, order, day):
        with self.world.lock:
            return {'file': base64.b64encode(self._of_order(order).bill_of(order, day)).decode()}

    def do_orders(self):
        return self.do_book()

    def do_book(self):
        with self.world.lock:
            return self.alipay.book() + self.wechat.book()

    def do_fault(self, kind, **how):
        self.world.add_fault(kind, **how)
        return {}

    def do_clear(self):
        with self.world.lock:
            self.world.faults.clear()
        return {}

    def do_hold(self, held=True):
        self.world.hold(held)
        return {}

    def do_forget(self):
        self.world.forget()
        return {}

    def do_pending(self):
        return self.world.pending()

    def do_again(self, order, times=1, parallel=True):
        answers = self.world.again(order, times, parallel)
        return [{'status': status, 'body': body.decode('utf-8', 'replace')} for status, body in answers]

    def do_signtest(self, every):
        self.wechat.signtest = every
        return {}

    def do_time(self, advance=0):
        self.world.advance(advance)
        return {'now': self.world.now()}

    def do_journal(self, provider=None, order=None):
        with self.world.lock:
            return [e for e in self.world.journal if (provider is None or e.get('provider') == provider)
                    and (order is None or e.get('order') == order or
                         e.get('notify', {}).get('order') == order)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'ProviderSimulator'

    def log_message(self, *arguments):
        pass

    def _handle(self):
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = _handle

    def _answer(self):
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        slow = self.server.world.faults_of('any', None) if path != '/_control' else {}
        if 'delay' in slow:
            time.sleep(float(slow['delay']))
        if path == '/_control':
            result = self._control(body)
        elif path == '/gateway.do':
            result = self.server.alipay.gateway(query, body)
        elif path == '/bill/alipay':
            data = self.server.alipay.bill(urllib.parse.parse_qs(query).get('token', [''])[0])
            result = (200, {'Content-Type': 'application/zip'}, data) if data else \
                (403, {'Content-Type': 'text/html'}, b'expired')
        elif path.startswith('/v3/'):
            headers = {name.lower(): value for name, value in self.headers.items()}
            result = self.server.wechat.call(self.command, path, query, headers, body)
        else:
            result = (404, {'Content-Type': 'text/plain'}, b'not found')
        self._send(result, slow)

    def _control(self, body):
        try:
            answer = self.server.control.run(json.loads(body))
            return 200, {'Content-Type': 'application/json'}, json.dumps(answer, ensure_ascii=False).encode()
        except Exception as error:  # whatever a test asked for wrongly is told to the test
            traceback.print_exc()
            return 400, {'Content-Type': 'application/json'}, json.dumps({'error': repr(error)}).encode()

    def _send(self, result, slow):
        if result is None:
            self.close_connection = True
            self.connection.close()
            return
        status, headers, data = result
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
            if 'duplicate-headers' in slow:
                self.send_header(name, value)
        if status != 204:
            self.send_header('Content-Length', str(len(data) + (7 if 'length' in slow else 0)))
        self.end_headers()
        if 'loris' in slow:
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(float(slow['loris'] or 0.05))
        elif status != 204:
            self.wfile.write(data)
        if 'length' in slow:
            self.close_connection = True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, default=0, help='port on loopback; 0 (default): a free one')
    parser.add_argument('--tls', nargs=2, metavar=('CERT', 'KEY'), help='speak HTTPS')
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(('127.0.0.1', arguments.port), Handler)
    server.daemon_threads = True
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    base = '%s://127.0.0.1:%d' % ('https' if arguments.tls else 'http', server.server_address[1])
    server.world = World()
    server.alipay = Alipay(server.world, base)
    server.wechat = Wechat(server.world, base)
    server.control = Control(server.world, server.alipay, server.wechat)
    print('ready ' + base, flush=True)
    server.serve_forever()


if __name__ == '__main__':
    main()
