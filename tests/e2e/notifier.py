#!/usr/bin/python3
"""Somebody who sends notifications over a bare socket, well or badly.

    notifier.py PORT CASE

prints what came back: the status of every answer on one connection, or "closed" when there was none.
Cases are functions below; every one has 60 seconds.
"""
import re
import socket
import sys
import time

PORT = int(sys.argv[1])
PATH = '/notify/trial/1'
LIMIT_S = 60


def connect():
    return socket.create_connection(('127.0.0.1', PORT), timeout=LIMIT_S)


def head(method='POST', path=PATH, version='1.1', headers=(), length=None):
    lines = ['%s %s HTTP/%s' % (method, path, version), 'Host: localhost', *headers]
    if length is not None:
        lines.append('Content-Length: %d' % length)
    return ('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1')


def answers(link, count=1):
    """The statuses of so many answers; fewer when the connection ends before."""
    got = b''
    seen = []
    try:
        while len(seen) < count:
            more = link.recv(65536)
            got += more
            while True:
                match = re.match(rb'HTTP/1\.[01] (\d{3}) .*?\r\n\r\n', got, re.S)
                if match is None:
                    break
                length = re.search(rb'(?i)content-length: *(\d+)', match.group(0))
                end = match.end() + (int(length.group(1)) if length else 0)
                if len(got) < end and more:
                    break
                seen.append(match.group(1).decode())
                got = got[end:]
            if not more:
                break
    except ConnectionError:
        pass
    return ' '.join(seen) or 'closed'


def talk(*pieces, count=1):
    with connect() as link:
        try:
            for piece in pieces:
                link.sendall(piece)
        except (ConnectionError, BrokenPipeError):
            pass
        return answers(link, count)


def post(body=b'x', **more):
    return head(length=len(body), **more) + body


def good():
    return talk(post(b'good'))


def bytes_as_they_are():
    return talk(post(bytes(range(256)) * 256))


def too_long():
    return talk(post(b'x' * 65537))


def endless_chunks():
    chunk = b'10000\r\n' + b'x' * 65536 + b'\r\n'
    return talk(head(headers=['Transfer-Encoding: chunked']), *[chunk] * 32)


def chunked():
    return talk(head(headers=['Transfer-Encoding: chunked']), b'4\r\nchun\r\n', b'3\r\nked\r\n0\r\n\r\n')


def bad_chunks():
    return talk(head(headers=['Transfer-Encoding: chunked']), b'zz\r\nchun\r\n0\r\n\r\n')


def in_pieces():
    with connect() as link:
        for byte in post(b'pieces'):
            link.sendall(bytes([byte]))
        return answers(link)


def short_body():
    """Fewer bytes than were promised, then nothing more is sent."""
    with connect() as link:
        link.sendall(head(length=10) + b'short')
        link.shutdown(socket.SHUT_WR)
        return answers(link)


def two_lengths():
    return talk(head(headers=['Content-Length: 3'], length=4) + b'xxxx')


def length_and_chunks():
    return talk(head(headers=['Transfer-Encoding: chunked'], length=4) + b'4\r\nxxxx\r\n0\r\n\r\n')


def bad_length():
    return talk(head(headers=['Content-Length: -1']))


def huge_length():
    return talk(head(headers=['Content-Length: 99999999999999999999999']) + b'x')


def twice():
    return talk(post(b'twice', headers=['X-Signed: one', 'X-Signed: two']))


def flood():
    return talk(post(b'flood', headers=['X-%d: %s' % (i, 'y' * 1000) for i in range(300)]))


def fat_header():
    return talk(post(b'fat', headers=['X-Fat: ' + 'y' * 20000]))


def escaped():
    return talk(post(path='/notify/trial/%31'))


def with_nul():
    return talk(post(path='/notify/trial/1%00'))


def raw_nul():
    return talk(b'POST /notify/trial/1\0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx')


def nul_in_header():
    return talk(post(b'nul', headers=['X-Nul: a\0b']))


def elsewhere():
    return ' '.join(talk(post(path=path)) for path in
                    ('/', '/notify', '/notify/trial', '/notify/trial/1/2', '/other', '/notify/../health', '/notify/trial/x', '*'))


def long_path():
    return talk(post(path='/notify/trial/' + '1' * 40000))


def methods():
    return ' '.join(talk(head(method)) for method in ('GET', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'NONSENSE'))


def old_version():
    return talk(post(b'old', version='1.0'))


def no_version():
    return talk(b'POST /notify/trial/1\r\n\r\n')


def garbage():
    return talk(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(200) + b'\r\n\r\n')


def pipelined():
    return talk(post(b'p1') + post(b'p2') + post(b'p3'), count=3)


def expecting():
    with connect() as link:
        link.sendall(head(headers=['Expect: 100-continue'], length=4))
        first = answers(link)
        link.sendall(b'expe')
        return first + ' ' + answers(link)


def trickle(first, piece):
    """Goes on sending a little, for ever; how many seconds it was listened to, in tens."""
    begin = time.monotonic()
    with connect() as link:
        link.sendall(first)
        link.settimeout(1)
        while time.monotonic() - begin < LIMIT_S:
            try:
                link.sendall(piece)
                if not link.recv(1):
                    break
            except socket.timeout:
                continue
            except OSError:
                break
    return 'let go' if time.monotonic() - begin < LIMIT_S - 10 else 'kept'


def slow_head():
    return trickle(b'POST /notify/trial/1 HTTP/1.1\r\nHost: x\r\n', b'X: y\r\n')


def slow_body():
    return trickle(head(length=60000), b'x')


def silent():
    return trickle(b'', b'')


def slow_reader():
    """Asks and does not take the answers."""
    return trickle(post(b'pp') * 3, b'')


def crowd():
    """More connections than one may have, all silent: the next is closed, until these are let go."""
    many = []
    try:
        for _ in range(600):
            many.append(connect())
        first = talk(post(b'crowd'))
        begin = time.monotonic()
        later = first
        while later == 'closed' and time.monotonic() - begin < LIMIT_S:
            time.sleep(0.5)
            later = talk(post(b'crowd'))
        return first + ' ' + later
    finally:
        for other in many:
            other.close()


def gone():
    """Asks, and does not wait for the answer."""
    with connect() as link:
        link.sendall(post(b'gone'))
    return 'sent'


def refused():
    return talk(post(b'refused'))


def slow():
    return talk(post(b'slow'))


if __name__ == '__main__':
    print(globals()[sys.argv[2]](), flush=True)
