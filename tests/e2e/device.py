#!/usr/bin/python3
"""Devices that dial in, each with one Modbus meter behind it, for tests of the listening side.

    device.py HOST PORT [--rtu] [--ca FILE [--cert FILE]]      --ca: with TLS

Function 3 answers every register with 1 but the two from 10 on, which hold the meter's counter; it
grows with every answer. Functions 6 and 16 are taken and do nothing. Lines on standard input:

    dial NAME COUNTER [HEX...]   connects; sends the bytes, one piece each; answers from then on
    say NAME HEX                 sends bytes
    hush NAME                    answers nothing any more
    close NAME                   hangs up
    asked NAME                   prints "asked NAME N": how many questions came

Prints "NAME up", "NAME down" (the other side hung up), "NAME refused TEXT", and "NAME heard HEX" for
bytes that are no question.
"""

import argparse
import asyncio
import ssl
import sys
import threading


def crc(data):
    """CRC-16 of Modbus over serial line."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def say(*words):
    print(*words, flush=True)


class Device:
    """One connection and the meter behind it."""

    def __init__(self, name, counter, rtu):
        self.name = name
        self.counter = counter
        self.rtu = rtu
        self.asked = 0
        self.hushed = False
        self.writer = None

    def answer_to(self, pdu):
        """The PDU that answers one, None when it is none."""
        if pdu[0] in (3, 4) and len(pdu) == 5:
            start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
            words = [1] * count
            self.counter += 1
            for at, half in ((10, self.counter >> 16), (11, self.counter & 0xFFFF)):
                if start <= at < start + count:
                    words[at - start] = half
            return bytes([pdu[0], 2 * count]) + b"".join(w.to_bytes(2, "big") for w in words)
        if pdu[0] in (6, 16):
            return pdu[:5]
        return None

    def take(self, data):
        """One question out of the bytes: (bytes used, unit, pdu, head); no bytes when there is none."""
        if self.rtu:
            if len(data) >= 8 and data[1] in (3, 4, 6) and crc(data[:6]) == data[6:8]:
                return 8, data[0], data[1:6], b""
            return 0, 0, b"", b""
        length = int.from_bytes(data[4:6], "big")
        if data[2:4] == b"\0\0" and length >= 6 and data[7:8] in (b"\3", b"\4", b"\6", b"\x10") and len(data) >= 6 + length:
            return 6 + length, data[6], data[7 : 6 + length], data[:4]
        return 0, 0, b"", b""

    def obey_all(self, data):
        """Answers all questions in the bytes; what stands before one, such as the answer to a heartbeat, is told. Gives the rest."""
        at = 0
        while at < len(data):
            used, unit, pdu, head = self.take(data[at:])
            if used == 0:
                at += 1
                continue
            if at > 0:
                say(self.name, "heard", data[:at].hex())
            self.asked += 1
            self.reply(unit, pdu, head)
            data = data[at + used :]
            at = 0
        return data

    def reply(self, unit, pdu, head):
        answer = self.answer_to(pdu)
        if answer is None or self.hushed:
            return
        if self.rtu:
            body = bytes([unit]) + answer
            self.writer.write(body + crc(body))
        else:
            self.writer.write(head + (len(answer) + 1).to_bytes(2, "big") + bytes([unit]) + answer)

    async def live(self, host, port, tls, pieces):
        """Connects, says who it is and answers until the end."""
        try:
            reader, self.writer = await asyncio.open_connection(host, port, ssl=tls)
        except (OSError, ssl.SSLError) as error:
            say(self.name, "refused", error)
            return
        say(self.name, "up")
        for piece in pieces:
            self.writer.write(bytes.fromhex(piece))
            await self.writer.drain()
            await asyncio.sleep(0.1)
        data = b""
        try:
            while True:
                more = await reader.read(4096)
                if not more:
                    break
                data += more
                data = self.obey_all(data)
                if data:
                    say(self.name, "heard", data.hex())
                    data = b""
        except (OSError, ssl.SSLError):
            pass
        say(self.name, "down")
        self.writer.close()


class Devices:
    """All of them, and the commands of standard input."""

    def __init__(self, options):
        self.options = options
        self.devices = {}
        self.tasks = []
        self.tls = None
        if options.ca:
            self.tls = ssl.create_default_context(cafile=options.ca)
            self.tls.check_hostname = False
            if options.cert:
                self.tls.load_cert_chain(options.cert)

    def obey(self, line):
        words = line.split()
        if not words:
            return
        if words[0] == "dial":
            device = Device(words[1], int(words[2]), self.options.rtu)
            self.devices[words[1]] = device
            task = device.live(self.options.host, self.options.port, self.tls, words[3:])
            self.tasks.append(asyncio.get_running_loop().create_task(task))
            return
        device = self.devices[words[1]]
        if words[0] == "say":
            device.writer.write(bytes.fromhex(words[2]))
        elif words[0] == "hush":
            device.hushed = True
        elif words[0] == "close":
            device.writer.close()
        elif words[0] == "asked":
            say("asked", words[1], device.asked)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--rtu", action="store_true")
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    devices = Devices(parser.parse_args())
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def listen():
        for line in sys.stdin:
            loop.call_soon_threadsafe(devices.obey, line)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main())
