#!/usr/bin/python3
"""A Modbus TCP or RTU-over-TCP server on the Debian package python3-pymodbus, as a peer that nobody here wrote.

    /usr/bin/python3 pymodbus_server.py [--port N] [--rtu] [--map FILE.json] [UNIT:FUNCTION:ADDRESS=V[,V...]]...

Serves holding registers (function 3, written by 6 and 16) and input registers (function 4). The map
is {"UNIT": {"3": {"ADDRESS": [V, ...]}, "4": {...}}}; addresses may be written 0x001A. Prints
"ready PORT" when it listens. Reading outside the map is exception 2; pymodbus does everything else.

Commands on standard input change values while it runs; each gets one line of answer:

    set UNIT FUNCTION ADDRESS VALUE [VALUE...]    16-bit words
    u32 UNIT FUNCTION ADDRESS NUMBER              two words, most significant first
    f32 UNIT FUNCTION ADDRESS NUMBER              two words, IEEE 754
    get UNIT FUNCTION ADDRESS [COUNT]
    writes                                        what came over the wire: UNIT:ADDRESS=V,V ...
    quit                                          as SIGTERM; the end of the input changes nothing
"""

import argparse
import asyncio
import json
import logging
import signal
import struct
import sys
import threading

from pymodbus.datastore import (
    ModbusServerContext,
    ModbusSlaveContext,
    ModbusSparseDataBlock,
)
from pymodbus.server.async_io import ModbusTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

BLOCKS = {3: "h", 4: "i"}


class RecordingBlock(ModbusSparseDataBlock):
    """Registers that remember what was written over the wire."""

    def __init__(self, unit, values, seen):
        super().__init__(values)
        self.unit = unit
        self.seen = seen

    def setValues(self, address, values, use_as_default=False):
        words = values if isinstance(values, list) else [values]
        self.seen.append(f"{self.unit}:{address}={','.join(map(str, words))}")
        super().setValues(address, words, use_as_default)


class Registers:
    """The units' registers, and the commands that look at them and change them."""

    def __init__(self, units):
        self.writes = []
        self.blocks = {}
        slaves = {}
        for unit, functions in units.items():
            for function in BLOCKS:
                self.blocks[unit, function] = RecordingBlock(
                    unit, functions.get(function, {}), self.writes
                )
            slaves[unit] = ModbusSlaveContext(
                hr=self.blocks[unit, 3], ir=self.blocks[unit, 4], zero_mode=True
            )
        self.context = ModbusServerContext(slaves=slaves, single=False)

    def put(self, unit, function, address, words):
        """Changes words behind the wire's back."""
        if any(not 0 <= word <= 0xFFFF for word in words):
            raise ValueError("a word is between 0 and 65535")
        for offset, word in enumerate(words):
            self.blocks[unit, function].values[address + offset] = word

    def run(self, line):
        """Runs one command and returns its answer."""
        name, *rest = line.split()
        if name == "writes":
            return " ".join(["ok", *self.writes])
        unit, function, address = (int(word, 0) for word in rest[:3])
        if name == "get":
            count = int(rest[3]) if len(rest) > 3 else 1
            words = self.blocks[unit, function].getValues(address, count)
            return " ".join(["ok", *map(str, words)])
        if name == "set":
            words = [int(word, 0) for word in rest[3:]]
        elif name == "u32":
            words = list(struct.unpack(">HH", struct.pack(">I", int(rest[3], 0))))
        elif name == "f32":
            words = list(struct.unpack(">HH", struct.pack(">f", float(rest[3]))))
        else:
            raise ValueError(f"no such command as {name}")
        if not words:
            raise ValueError("no value given")
        self.put(unit, function, address, words)
        return "ok"


def parse_units(map_path, items):
    """Builds {unit: {function: {address: [words]}}} from the map file and the arguments."""
    units = {}

    def add(unit, function, address, words):
        if function not in BLOCKS:
            raise ValueError("only functions 3 and 4 have registers")
        block = units.setdefault(unit, {}).setdefault(function, {})
        block[address] = words

    if map_path:
        with open(map_path, encoding="utf-8") as file:
            for unit, functions in json.load(file).items():
                for function, registers in functions.items():
                    for address, words in registers.items():
                        add(int(unit, 0), int(function, 0), int(address, 0), words)
    for item in items:
        where, _, words = item.partition("=")
        unit, function, address = (int(part, 0) for part in where.split(":"))
        add(unit, function, address, [int(word, 0) for word in words.split(",")])
    if not units:
        raise ValueError("no registers given")
    return units


def answer(registers, line):
    """Runs a line and prints its answer; a bad line is answered, not fatal."""
    try:
        print(registers.run(line), flush=True)
    except (ValueError, KeyError, IndexError, OverflowError, struct.error) as error:
        print(f"error {error}", flush=True)


def listen_to_stdin(loop, registers, stop):
    """Hands lines of standard input to the event loop, so that values change between requests."""
    for line in sys.stdin:
        if line.strip() == "quit":
            loop.call_soon_threadsafe(stop.set)
            return
        if line.strip():
            loop.call_soon_threadsafe(answer, registers, line)


async def serve(port, registers, framer):
    """Serves until told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ModbusTcpServer(
        registers.context,
        framer=framer,
        address=("127.0.0.1", port),
        allow_reuse_address=True,
    )
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.wait({serving, server.serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    print("ready", server.server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(
        target=listen_to_stdin, args=(loop, registers, stop), daemon=True
    ).start()
    await stop.wait()
    serving.cancel()


def main():
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--map")
    parser.add_argument("--rtu", action="store_true", help="RTU frames over TCP")
    parser.add_argument("registers", nargs="*")
    options = parser.parse_args()
    try:
        units = parse_units(options.map, options.registers)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # A client that hangs up is no error, but pymodbus logs it as one.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    framer = ModbusRtuFramer if options.rtu else ModbusSocketFramer
    asyncio.run(serve(options.port, Registers(units), framer))


if __name__ == "__main__":
    main()
