#!/usr/bin/python3
"""The simulated payment providers as one HTTP server on loopback. README.md describes it."""
import argparse
import base64
import json
import os
import socket
import ssl
import struct
import sys
import threading
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
        with self.world.lock:
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

    def do_payer(self, order, state):
        with self.world.lock:
            return self.wechat.payer(order, state)

    def do_settle_refund(self, refund, **how):
        with self.world.lock:
            for provider in (self.wechat, self.alipay):
                if provider.has_refund(refund):
                    return provider.settle_refund(refund, **how)
        raise KeyError('no such refund: ' + refund)

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

    def do_unsettled(self):
        with self.world.lock:
            return self.alipay.unsettled() + self.wechat.unsettled()

    def do_many(self, commands):
        return [self.run(dict(asked)) for asked in commands]

    def do_book(self):
        with self.world.lock:
            return self.alipay.book() + self.wechat.book()

    def do_fault(self, kind, **how):
        self.world.add_fault(kind, **how)
        return {}

    def do_clear(self):
        with self.world.lock:
            self.world.faults.clear()
            self.world.storm = None
        return {}

    def do_storm(self, rate, seed):
        with self.world.lock:
            self.world.storm = {'rate': rate, 'seed': seed}
            self.world.calls.clear()
        return {}

    def do_hold(self, held=True):
        self.world.hold(held)
        return {}

    def do_hurry(self):
        self.world.hurry()
        return {}

    def do_forget(self):
        self.world.forget()
        return {}

    def do_pending(self):
        return self.world.pending()

    def do_again(self, order, times=1, parallel=True, kind=None):
        answers = self.world.again(order, times, parallel, kind)
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
    wbufsize = 65536
    disable_nagle_algorithm = True

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
        if path == '/_control':
            return self._send(self._control(body), {})
        provider = self.server.alipay if path in ('/gateway.do', '/bill/alipay') else \
            self.server.wechat if path.startswith('/v3/') else None
        if provider is None:
            return self._send((404, {'Content-Type': 'text/plain'}, b'not found'), {})
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = provider.hear(self.command, path, query, headers, body, self.server.host)
        result = None
        time.sleep(float(call.faults.get('delay') or 0))
        if 'drop' not in call.faults and 'reset' not in call.faults:
            result = provider.answer(call)
            time.sleep(float(call.faults.get('after-delay') or 0))
        if any(fault in call.faults for fault in ('drop', 'reset', 'after-drop', 'after-reset')):
            return self._cut('reset' in call.faults or 'after-reset' in call.faults)
        self._send(result, call.faults)

    def _control(self, body):
        try:
            answer = self.server.control.run(json.loads(body))
            return 200, {'Content-Type': 'application/json'}, json.dumps(answer, ensure_ascii=False).encode()
        except Exception as error:  # whatever a test asked for wrongly is told to the test
            traceback.print_exc()
            return 400, {'Content-Type': 'application/json'}, json.dumps({'error': repr(error)}).encode()

    def _cut(self, reset):
        """Ends the connection without an answer; reset: by force, not in order."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _send(self, result, faults):
        status, headers, data = result
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
            if 'duplicate-headers' in faults:
                self.send_header(name, value)
        if status != 204:
            if 'chunked' in faults:
                self.send_header('Transfer-Encoding', 'chunked')
                data = b''.join(b'%x\r\n%s\r\n' % (len(data[i:i + 7]), data[i:i + 7])
                                for i in range(0, len(data), 7)) + b'0\r\n\r\n'
            else:
                self.send_header('Content-Length', str(len(data) + (7 if 'length' in faults else 0)))
        self.end_headers()
        if 'loris' in faults:
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(float(faults['loris'] or 0.05))
        elif status != 204:
            self.wfile.write(data)
        if 'length' in faults:
            self.close_connection = True


def listen(port, tls, host):
    """One more host of the providers, with its base address."""
    server = ThreadingHTTPServer(('127.0.0.1', port), Handler)
    server.daemon_threads = True
    server.host = host
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server, '%s://127.0.0.1:%d' % ('https' if tls else 'http', server.server_address[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, default=0, help='port on loopback; 0 (default): a free one')
    parser.add_argument('--tls', nargs=2, metavar=('CERT', 'KEY'), help='speak HTTPS')
    arguments = parser.parse_args()
    world = World()
    first, base = listen(arguments.port, arguments.tls, 'first')
    second, other = listen(0, arguments.tls, 'second')
    alipay, wechat = Alipay(world, base), Wechat(world, base)
    for server in (first, second):
        server.alipay, server.wechat, server.control = alipay, wechat, Control(world, alipay, wechat)
    print('ready %s\nsecond %s' % (base, other), flush=True)
    threading.Thread(target=second.serve_forever, daemon=True).start()
    first.serve_forever()


if __name__ == '__main__':
    main()
