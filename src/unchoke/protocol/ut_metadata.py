"""ut_metadata: the info dictionary of a torrent, asked for and given in parts of 16 KiB (BEP 9).

Each message is a bencoded dictionary, the payload of an extended message (BEP 10); the bytes of ``Data`` follow their dictionary.
A message type that nobody knows is no error (BEP 9), anything else that is not as it must be is a ProtocolError. Which sizes are
believed, and whom to ask, is ``policy/metadata``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from unchoke.errors import BencodeError, ProtocolError
from unchoke.protocol.bencode import Value, decode_prefix, encode

#: As it stands in the ``m`` of the extended handshake.
NAME = "ut_metadata"
#: Bytes of a part; the last one may have fewer (BEP 9).
PIECE = 16 * 1024

REQUEST, DATA, REJECT = 0, 1, 2

#: Bytes that the dictionary may have: ours have 50, and others may add keys.
_MOST_HEADER = 1024
#: Dictionaries in dictionaries: none is needed.
_MAX_DEPTH = 4
#: Parts and bytes are counted up to here: far above every limit, and what a field of four bytes can say.
_MOST_NUMBER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """Give us this part. ``piece`` counts from 0 and is not checked against any size."""

    piece: int

    def encode(self) -> bytes:
        return encode({b"msg_type": REQUEST, b"piece": self.piece})


@dataclass(frozen=True, slots=True)
class Data:
    """A part. ``total_size``: bytes of the whole; ``payload`` has as many as this part of such a whole has."""

    piece: int
    total_size: int
    payload: bytes | memoryview

    def encode(self) -> bytes:
        header = encode({b"msg_type": DATA, b"piece": self.piece, b"total_size": self.total_size})
        return b"".join((header, self.payload))


@dataclass(frozen=True, slots=True)
class Reject:
    """This part is not given: not there, or asked for too often."""

    piece: int

    def encode(self) -> bytes:
        return encode({b"msg_type": REJECT, b"piece": self.piece})


def piece_count(size: int) -> int:
    """Parts of a whole of ``size`` bytes."""
    return -(-size // PIECE)


def piece_size(piece: int, size: int) -> int:
    """Bytes of one part of a whole of ``size`` bytes; 0 or less for one that it does not have."""
    return min(PIECE, size - piece * PIECE)


def decode(payload: bytes) -> Request | Data | Reject | None:
    """Read one message; None for a type that nobody knows. Raises ProtocolError.

    The bytes of a ``Data`` are a copy.
    """
    if len(payload) > PIECE + _MOST_HEADER:
        raise ProtocolError(f"ut_metadata message of {len(payload)} bytes")
    try:
        header, end = decode_prefix(payload, max_depth=_MAX_DEPTH)
    except BencodeError as error:
        raise ProtocolError(f"ut_metadata: {error}") from None
    if not isinstance(header, dict):
        raise ProtocolError("ut_metadata message that is no dict")
    kind = header.get(b"msg_type")
    if not isinstance(kind, int):
        raise ProtocolError("ut_metadata message without a type")
    if kind not in (REQUEST, DATA, REJECT):
        return None
    piece = _number(header, b"piece", 0)
    if kind == DATA:
        return _data(piece, _number(header, b"total_size", 1), payload[end:])
    return Request(piece) if kind == REQUEST else Reject(piece)


def _data(piece: int, total_size: int, payload: bytes) -> Data:
    expected = piece_size(piece, total_size)
    if expected <= 0 or len(payload) != expected:
        raise ProtocolError(f"ut_metadata part {piece} of {total_size} bytes in all, with {len(payload)}")
    return Data(piece, total_size, payload)


def _number(header: dict[bytes, Value], key: bytes, least: int) -> int:
    value = header.get(key)
    if not isinstance(value, int) or not least <= value <= _MOST_NUMBER:
        raise ProtocolError(f"ut_metadata message without a proper {key.decode()}")
    return value
