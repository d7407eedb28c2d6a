"""CRC-32C (Castagnoli): the checksum that BEP 40 ranks peers by and BEP 42 ties node ids to addresses with.

Not the CRC-32 of zlib: another polynomial. The inputs are 4 to 36 bytes, so a table and a loop are enough.
"""

from __future__ import annotations


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        entries.append(byte)
    return tuple(entries)


_TABLE = _table()


def crc32c(data: bytes, start: int = 0) -> int:
    """The checksum of ``data``, 32 bits; ``start``: the checksum of what came before it."""
    crc = start ^ 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
