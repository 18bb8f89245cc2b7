#!/usr/bin/env python3
"""Packs a bill as a provider does: pack_bill.py zip|gzip|bomb [NAME HEX]... prints hexadecimal digits.

zip: entries with names in GBK that are not marked as UTF-8. gzip: one member for each NAME HEX. bomb: a ZIP file of HEX (a number)
megabytes of nothing.
"""
import gzip
import io
import sys
import zipfile


class GbkName(zipfile.ZipInfo):
    """An entry whose name is written in GBK, without the flag that says UTF-8."""

    def _encodeFilenameFlags(self):
        return self.filename.encode('gbk'), self.flag_bits & ~0x800


def pack_zip(entries):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as archive:
        for name, data in entries:
            entry = GbkName(name, (2026, 3, 23, 9, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return packed.getvalue()


def main(kind, *arguments):
    pairs = list(zip(arguments[::2], arguments[1::2]))
    if kind == 'bomb':
        return pack_zip([(name, bytes(int(size) << 20)) for name, size in pairs])
    entries = [(name, bytes.fromhex(data)) for name, data in pairs]
    if kind == 'gzip':
        return b''.join(gzip.compress(data, mtime=0) for _, data in entries)
    return pack_zip(entries)


print(main(*sys.argv[1:]).hex())
