"""Records: what is remembered of a torrent between two runs, as plain rows, and their binary form in the database.

Every blob carries its length and a CRC-32: SQLite does not notice a flipped bit inside a row, and a record that claims too much
would make us serve rubbish. What does not decode raises RecordError and nothing else, and is then as good as not recorded.
Text of strangers (names, folders) may hold lone surrogates, which SQLite's TEXT cannot; it is kept as bytes.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bitarray import bitarray
from bitarray.util import ones, zeros

from unchoke.errors import StorageError
from unchoke.storage.base import FileStatus

#: What a record is found by: the infohash, and the absolute path of the folder with its links followed.
Key = tuple[bytes, str]

#: The largest integer SQLite holds.
MAX_INT = 2**63 - 1
_MIN_INT = -(2**63)
_CRC = struct.Struct("<I")
_BITS = struct.Struct("<cI")
_COUNT = struct.Struct("<I")
_PARTIAL = struct.Struct("<II")
#: Far more pieces or files than a .torrent file can describe: nine bytes must not ask for gigabytes.
_MAX_BITS = 1 << 28
_NONE, _ALL, _SOME = b"0", b"1", b"b"


class RecordError(StorageError):
    """A row or a blob of the database is not what we wrote."""


@dataclass(slots=True, kw_only=True)
class TorrentRow:
    """One torrent as the list of torrents has it: slim, since thousands are loaded at start. Bytes, seconds, Unix times.

    ``trackers`` are tiers of URLs. ``options`` is whatever JSON the owner wants back. ``position`` is its place in the queue.
    ``folder`` is part of the key (see ``Key``).
    """

    infohash: bytes
    folder: str
    name: str = ""
    size: int = 0
    piece_count: int = 0
    trackers: tuple[tuple[str, ...], ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    running: bool = True
    complete: bool = False
    added_at: float = 0.0
    completed_at: float | None = None
    uploaded: int = 0
    downloaded: int = 0
    wasted: int = 0
    active_time: float = 0.0
    seeding_time: float = 0.0
    position: int = 0

    @property
    def key(self) -> Key:
        return self.infohash, self.folder


@dataclass(slots=True, kw_only=True)
class ResumeRow:
    """What is recorded of a torrent's data.

    ``have``: pieces whose bytes were written; ``durable``: those whose bytes have reached the disk (a subset). ``files``: size and
    mtime of each at its last clean close, the part file last; ``open``: a bit a file that was being written since. ``partial``:
    of pieces not finished at the last clean close, a bit for each 16 KiB block that lies in the files. ``boot_id``: the boot in
    which ``have`` was said; ``device``: ``st_dev`` of the folder then (0: not known).
    """

    have: bitarray
    durable: bitarray
    partial: dict[int, bytes] = field(default_factory=dict)
    files: list[FileStatus | None] = field(default_factory=list)
    open: bitarray = field(default_factory=bitarray)
    boot_id: str = ""
    device: int = 0


@dataclass(slots=True, frozen=True)
class Totals:
    """Bytes over all time and all torrents."""

    uploaded: int = 0
    downloaded: int = 0


def pack_text(text: str) -> bytes:
    """Any ``str``, lone surrogates and NUL included."""
    return text.encode("utf-8", "surrogatepass")


def unpack_text(data: object) -> str:
    """Back again. Raises RecordError."""
    if not isinstance(data, bytes):
        raise RecordError("a text is damaged")
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise RecordError("a text is damaged") from error


def pack_bits(bits: bitarray) -> bytes:
    """Bits and their number; none and all of them take nine bytes."""
    kind = _SOME
    if not bits.any():
        kind = _NONE
    elif bits.all():
        kind = _ALL
    return _seal(_BITS.pack(kind, len(bits)) + (bits.tobytes() if kind == _SOME else b""))


def unpack_bits(data: object) -> bitarray:
    """What ``pack_bits`` was given, in the order of BEP 3 (first bit highest). Raises RecordError."""
    body = _unseal(data, _BITS.size)
    kind, count = _BITS.unpack_from(body)
    rest = body[_BITS.size :]
    if kind == _SOME and len(rest) == (count + 7) // 8:
        bits = bitarray(endian="big")
        bits.frombytes(rest)
        del bits[count:]
        return bits
    if rest or kind not in (_NONE, _ALL) or count > _MAX_BITS:
        raise RecordError("a row of bits is damaged")
    return ones(count, "big") if kind == _ALL else zeros(count, "big")


def pack_files(files: Sequence[FileStatus | None]) -> bytes:
    """Sixteen bytes a file, so that 100,000 files are one row."""
    numbers = array("q", bytes(16 * len(files)))
    absent = (-1, 0)
    numbers[0::2] = array("q", [_clamp((status or absent)[0]) for status in files])
    numbers[1::2] = array("q", [_clamp((status or absent)[1]) for status in files])
    if sys.byteorder == "big":
        numbers.byteswap()
    return _seal(numbers.tobytes())


def unpack_files(data: object) -> list[FileStatus | None]:
    """Back again. Raises RecordError."""
    body = _unseal(data, 0)
    if len(body) % 16:
        raise RecordError("the list of files is damaged")
    numbers = array("q", body)
    if sys.byteorder == "big":
        numbers.byteswap()
    pairs = zip(numbers[0::2], numbers[1::2], strict=True)
    return [None if size < 0 else FileStatus(size, mtime) for size, mtime in pairs]


def pack_partial(partial: Mapping[int, bytes]) -> bytes:
    """Piece, length and bits of each, rising."""
    parts = [_COUNT.pack(len(partial))]
    for piece, blocks in sorted(partial.items()):
        parts += (_PARTIAL.pack(piece, len(blocks)), blocks)
    return _seal(b"".join(parts))


def unpack_partial(data: object) -> dict[int, bytes]:
    """Back again. Raises RecordError."""
    body = _unseal(data, _COUNT.size)
    at = _COUNT.size
    found: dict[int, bytes] = {}
    for _ in range(_COUNT.unpack_from(body)[0]):
        if len(body) - at < _PARTIAL.size:
            raise RecordError("the list of partial pieces is damaged")
        piece, length = _PARTIAL.unpack_from(body, at)
        at += _PARTIAL.size
        found[piece] = body[at : at + length]
        at += length
    if at != len(body):
        raise RecordError("the list of partial pieces is damaged")
    return found


def _seal(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _unseal(data: object, least: int) -> bytes:
    """What was sealed, if it is at least so long and whole."""
    if not isinstance(data, bytes) or len(data) < least + _CRC.size:
        raise RecordError("a blob is damaged: it is too short")
    body = data[: -_CRC.size]
    if _CRC.unpack_from(data, len(body))[0] != zlib.crc32(body):
        raise RecordError("a blob is damaged: its checksum differs")
    return body


def _clamp(number: int) -> int:
    """Times outside of 1677 to 2262 exist on broken disks. They then differ at the next look, which costs a check."""
    return min(MAX_INT, max(_MIN_INT, number))
