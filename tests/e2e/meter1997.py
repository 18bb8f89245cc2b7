#!/usr/bin/python3
"""One meter of DL/T 645-1997 with a private way to move its relay, for tests of writes with a password.

    meter1997.py ADDRESS PASSWORD      twelve digits; level and six digits, as in 02123456

Prints "ready PORT". Reads 9010 (the counter) and C020 (bit 4: the relay is open); a write of DD78
opens the relay, one of DC78 closes it. Every write is printed: "write DI BYTES ok|error04|error02".
"""

import socket
import sys


def frame(address, control, data):
    body = bytes([0x68]) + address + bytes([0x68, control, len(data)])
    body += bytes((byte + 0x33) & 0xFF for byte in data)
    return bytes([0xFE, 0xFE]) + body + bytes([sum(body) & 0xFF, 0x16])


def find(buffer):
    """The first whole frame: (address, control, data, bytes used), or None."""
    for at in range(len(buffer)):
        if buffer[at] != 0x68 or len(buffer) < at + 12 or buffer[at + 7] != 0x68:
            continue
        end = at + 12 + buffer[at + 9]
        if len(buffer) < end or buffer[end - 1] != 0x16:
            continue
        if sum(buffer[at:end - 2]) & 0xFF != buffer[end - 2]:
            continue
        data = bytes((byte - 0x33) & 0xFF for byte in buffer[at + 10:end - 2])
        return buffer[at + 1:at + 7], buffer[at + 8], data, end
    return None


class Meter:
    def __init__(self, address, password):
        self.address = bytes.fromhex(address)[::-1]
        self.password = bytes.fromhex(password[:2]) + bytes.fromhex(password[2:])[::-1]
        self.open = False

    def answer(self, control, data):
        di = data[:2]
        number = di[::-1].hex().upper()
        if control == 0x01 and number == "9010":
            return 0x81, di + bytes.fromhex("78563412")
        if control == 0x01 and number == "C020":
            return 0x81, di + bytes([0x10 if self.open else 0])
        if control == 0x04:
            return self.write(number, data[2:6], data[6:])
        return control | 0xC0, bytes([0x02])

    def write(self, number, password, data):
        error = 0
        if password != self.password:
            error = 0x04
        elif number not in ("DD78", "DC78"):
            error = 0x02
        else:
            self.open = number == "DD78"
        print("write", number, data.hex() or "-", f"error{error:02x}" if error else "ok", flush=True)
        return (0xC4, bytes([error])) if error else (0x84, b"")


def serve(connection, meter):
    buffer = b""
    while True:
        got = connection.recv(512)
        if not got:
            return
        buffer += got
        found = find(buffer)
        while found:
            address, control, data, used = found
            buffer = buffer[used:]
            if address == meter.address:
                control, data = meter.answer(control, data)
                connection.sendall(frame(meter.address, control, data))
            found = find(buffer)


def main():
    meter = Meter(sys.argv[1], sys.argv[2])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    print("ready", listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                serve(connection, meter)
            except ConnectionError:
                pass


main()
