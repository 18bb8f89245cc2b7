#!/usr/bin/python3
"""Takes the calls of gateways that dial in, for the tests of the farm.

    dial_peer.py [--port N] [--tls CERT,KEY[,CA]]

Prints "ready PORT", then "call N" for every connection, "got N HEX" for what it says (pieces that come
within 50 ms are one) and "gone N". Commands on standard input: "send N HEX", "close N", "quit".
Connections are numbered from 1 in the order they come.
"""
import selectors
import socket
import ssl
import sys


class Call:
    """One connection."""

    def __init__(self, number, connection):
        self.number = number
        self.socket = connection
        self.got = b""


def say(*words):
    print(*words, flush=True)


def receive(call):
    """Reads what is there; False when the connection has ended."""
    try:
        more = call.socket.recv(65536)
        while getattr(call.socket, "pending", lambda: 0)():
            more += call.socket.recv(65536)
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        return False
    call.got += more
    return bool(more)


def welcome(listener, context, calls, count, selector):
    """Takes a call in; its TLS handshake may fail."""
    connection = listener.accept()[0]
    try:
        if context:
            connection.settimeout(5)
            connection = context.wrap_socket(connection, server_side=True)
    except (ssl.SSLError, OSError) as problem:
        say("refused", type(problem).__name__)
        connection.close()
        return
    calls[connection.fileno()] = Call(count, connection)
    selector.register(connection, selectors.EVENT_READ)
    say("call", count)


def forget(fd, calls, selector):
    """Takes a call off the books and hangs up."""
    call = calls.pop(fd)
    selector.unregister(call.socket)
    call.socket.close()
    return call.number


def obey(words, calls, selector):
    """Carries out a command; False for quit."""
    call = next((c for c in calls.values() if len(words) > 1 and c.number == int(words[1])), None)
    if words[0] == "send" and call:
        call.socket.sendall(bytes.fromhex("".join(words[2:])))
    elif words[0] == "close" and call:
        forget(call.socket.fileno(), calls, selector)
    return words[0] != "quit"


def command(commands):
    """One line of standard input; "quit" at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = commands.read(1)
        if not byte:
            return "quit"
        line += byte
    return line.decode()


def tell(calls):
    """Says what has come since the last quiet moment."""
    for call in calls.values():
        if call.got:
            say("got", call.number, call.got.hex())
            call.got = b""


def main(words):
    """Serves until told to quit."""
    port = int(words[words.index("--port") + 1]) if "--port" in words else 0
    context = None
    if "--tls" in words:
        files = words[words.index("--tls") + 1].split(",")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files[0], files[1])
        if len(files) > 2:
            context.load_verify_locations(files[2])
            context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    commands = sys.stdin.buffer.raw
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(commands, selectors.EVENT_READ)
    say("ready", listener.getsockname()[1])
    calls, count, going = {}, 0, True
    while going:
        ready = selector.select(0.05)
        for key, _ in ready:
            if key.fileobj is listener:
                count += 1
                welcome(listener, context, calls, count, selector)
            elif key.fileobj is commands:
                going = obey(command(commands).split(), calls, selector)
            elif key.fd in calls and not receive(calls[key.fd]):
                say("gone", forget(key.fd, calls, selector))
        if not ready:
            tell(calls)


main(sys.argv[1:])
