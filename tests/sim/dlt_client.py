#!/usr/bin/python3
"""Asks DL/T 645 meters: a reading of the protocol of its own, for the tests of the farm and for a look.

    dlt_client.py WHERE [option...] COMMAND...

WHERE is a TCP port of this host or the path of a serial line. One command a word:

    ADDRESS/DI          reads; DI has 8 digits (2007) or 4 (1997)
    ADDRESS/DI+         reads, and what follows, as one
    ADDRESS/13          asks for the address
    ADDRESS/CC:HEX      control code CC with the data HEX (before +33)
    99/08:HEX           to everybody (nobody answers)

Prints one line per command: ADDRESS CONTROL DATA, the data without +33 and with its identifier turned
round: "000000000161 91 00010000 00000026" with values highest digits first, "silence" when nothing
came within the time, or "bad" and the bytes. Short addresses are filled with zeros, "AA" with AA.
Options: --wait S (1), --raw prints all bytes that came.
"""
import os
import select
import socket
import sys
import time


def frame(address, control, data):
    """A request as bytes, with four FE before it."""
    fill = "A" if address.startswith("AA") else "9" if address == "99" else "0"
    digits = address.rjust(12, fill)
    body = bytes([0x68]) + bytes.fromhex(digits)[::-1] + bytes([0x68, control, len(data)])
    body += bytes((b + 0x33) % 256 for b in data)
    return b"\xfe" * 4 + body + bytes([sum(body) % 256, 0x16])


def parse(got):
    """The first whole frame of an answer: (address, control, data), or None."""
    for at in range(len(got)):
        part = got[at:]
        if len(part) < 12 or part[0] != 0x68 or part[7] != 0x68 or len(part) < part[9] + 12:
            continue
        end = part[9] + 10
        if part[end] != sum(part[:end]) % 256 or part[end + 1] != 0x16:
            continue
        return part[1:7][::-1].hex().upper(), part[8], bytes((b - 0x33) % 256 for b in part[10:end])
    return None


class Line:
    """A TCP connection or a serial line."""

    def __init__(self, where, wait):
        self.wait = wait
        if where.isdigit():
            self.socket = socket.create_connection(("127.0.0.1", int(where)))
            self.fd = self.socket.fileno()
        else:
            self.fd = os.open(where, os.O_RDWR | os.O_NOCTTY)

    def ask(self, request):
        """Sends; collects what comes until a frame is whole or the time is over."""
        os.write(self.fd, request)
        got = b""
        end = time.monotonic() + self.wait
        while parse(got) is None and (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                more = os.read(self.fd, 4096)
                if not more:
                    break
                got += more
        return got


def turned(data):
    return data[::-1].hex().upper()


def show(answer, di_bytes):
    """One line about an answer."""
    address, control, data = answer
    if control & 0x40 or di_bytes == 0:
        return f"{address} {control:02X} {turned(data)}".rstrip()
    return f"{address} {control:02X} {turned(data[:di_bytes])} {turned(data[di_bytes:])}".rstrip()


def follow(line, address, control, di, answer):
    """Joins the follow-up frames to the first one."""
    whole = answer[2]
    sequence = 0
    while answer is not None and answer[1] & 0x20:
        sequence += 1
        numbered = bytes([sequence]) if len(di) == 4 else b""
        answer = parse(line.ask(frame(address, control + 1, di + numbered)))
        if answer is None or (numbered and answer[2][-1:] != numbered):
            return None
        whole += answer[2][len(di):len(answer[2]) - len(numbered)]
    return answer and (answer[0], answer[1], whole)


def run(line, word, raw):
    """Carries out one command; returns its line of output."""
    address, what = word.split("/")
    di_bytes = 0
    if ":" in what or len(what) == 2:
        control, _, data = what.partition(":")
        control, data = int(control, 16), bytes.fromhex(data)
    else:
        data = bytes.fromhex(what.rstrip("+"))[::-1]
        di_bytes = len(data)
        control = 0x11 if di_bytes == 4 else 0x01
    got = line.ask(frame(address, control, data))
    if raw:
        return got.hex()
    answer = parse(got)
    if answer is None:
        return "bad " + got.hex() if got else "silence"
    if what.endswith("+"):
        answer = follow(line, address, control, data, answer)
    return show(answer, di_bytes) if answer else "bad follow-up"


def main(words):
    wait, raw, rest = 1.0, False, []
    words = iter(words)
    for word in words:
        if word == "--wait":
            wait = float(next(words))
        elif word == "--raw":
            raw = True
        else:
            rest.append(word)
    line = Line(rest[0], wait)
    for word in rest[1:]:
        print(run(line, word, raw), flush=True)


main(sys.argv[1:])
