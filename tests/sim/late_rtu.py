#!/usr/bin/python3
"""A transparent gateway with one Modbus RTU meter behind it, for what goes wrong on such a line.

Function 3 answers with a counter in the two registers from 10 on that grows with every answer; all
others are 1. Prints "ready PORT". Lines on standard input arm a fault for the next question:

    late MS VALUE   answer only after so long, with this value of the counter
    echo            send the question back before the answer
    noise HEX       bytes before the answer
    tail            repeat the last bytes of the answer before this one first
    other           an answer of another unit first
    split MS        the answer in two pieces
    count           prints how many questions came
"""

import asyncio
import sys
import threading


def crc(data):
    """CRC-16 as the Modbus over serial line specification computes it."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class Line:
    """The meter and what is to go wrong next."""

    def __init__(self):
        self.counter = 1000
        self.questions = 0
        self.faults = []
        self.last = b""

    def frame(self, unit, start, count, value):
        words = [1] * count
        for at in range(count):
            if start + at == 10:
                words[at] = value >> 16
            elif start + at == 11:
                words[at] = value & 0xFFFF
        body = bytes([unit, 3, 2 * count]) + b"".join(w.to_bytes(2, "big") for w in words)
        return body + crc(body)

    async def answer(self, question, writer):
        """Answers one question, with the fault that was asked for."""
        self.questions += 1
        unit, start, count = question[0], int.from_bytes(question[2:4], "big"), question[5]
        fault = self.faults.pop(0) if self.faults else ["none"]
        if fault[0] == "late":
            await asyncio.sleep(int(fault[1]) / 1000)
            writer.write(self.frame(unit, start, count, int(fault[2])))
            return
        # Slow as a real line, so that a late answer of before can meet a question under way.
        await asyncio.sleep(0.2)
        self.counter += 1
        good = self.frame(unit, start, count, self.counter)
        before = {
            "echo": question,
            "noise": bytes.fromhex(fault[1]) if fault[0] == "noise" else b"",
            "tail": self.last[-7:],
            "other": self.frame((unit + 1) % 248, start, count, 7),
        }.get(fault[0], b"")
        self.last = good
        if fault[0] == "split":
            writer.write(good[:4])
            await writer.drain()
            await asyncio.sleep(int(fault[1]) / 1000)
            good = good[4:]
        writer.write(before + good)

    async def serve(self, reader, writer):
        """One connection; a question is not held up by the late answer to the one before."""
        try:
            while True:
                question = await reader.readexactly(8)
                if crc(question[:6]) != question[6:]:
                    return
                asyncio.ensure_future(self.answer(question, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def take(self, words):
        if words and words[0] == "count":
            print(self.questions, flush=True)
        elif words:
            self.faults.append(words)


def listen(loop, line):
    for text in sys.stdin:
        loop.call_soon_threadsafe(line.take, text.split())


async def main():
    """Serves until killed."""
    line = Line()
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=listen, args=(asyncio.get_running_loop(), line), daemon=True).start()
    async with server:
        await server.serve_forever()


asyncio.run(main())
