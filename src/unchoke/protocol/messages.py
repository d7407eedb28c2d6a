"""The messages of BEP 3 and BEP 6 as small records, and their bytes.

The two hot kinds travel as *runs*: ``Blocks`` is a list of (piece, begin, payload view), ``Requests`` one of ``Block``;
everything else is a record of its own. Reading a stream of them is the business of ``wire``; here each message is
encoded, and a single body decoded. Framing: four bytes of length, one of kind, the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.types import Block


class Kind(IntEnum):
    """The byte after the length."""

    CHOKE = 0
    UNCHOKE = 1
    INTERESTED = 2
    NOT_INTERESTED = 3
    HAVE = 4
    BITFIELD = 5
    REQUEST = 6
    PIECE = 7
    CANCEL = 8
    PORT = 9  # BEP 5
    SUGGEST = 13  # BEP 6, as the next four
    HAVE_ALL = 14
    HAVE_NONE = 15
    REJECT = 16
    ALLOWED_FAST = 17
    EXTENDED = 20  # BEP 10


FAST_KINDS = frozenset({Kind.SUGGEST, Kind.HAVE_ALL, Kind.HAVE_NONE, Kind.REJECT, Kind.ALLOWED_FAST})


class Blocks(list[tuple[int, int, memoryview]]):
    """A run of ``piece`` messages: (piece, begin, payload). The payloads are borrowed: valid until the call returns."""

    __slots__ = ()


class Requests(list[Block]):
    """A run of ``request`` messages."""

    __slots__ = ()


@dataclass(slots=True)
class Choke:
    pass


@dataclass(slots=True)
class Unchoke:
    pass


@dataclass(slots=True)
class Interested:
    pass


@dataclass(slots=True)
class NotInterested:
    pass


@dataclass(slots=True)
class Have:
    piece: int


@dataclass(slots=True)
class HaveBitfield:
    """The ``bitfield`` message: what the peer has at the start."""

    pieces: Bitfield


@dataclass(slots=True)
class Cancel:
    block: Block


@dataclass(slots=True)
class Port:
    """The peer's DHT port (BEP 5)."""

    port: int


@dataclass(slots=True)
class Suggest:
    """A piece the peer would like us to take, as it has it in memory (BEP 6)."""

    piece: int


@dataclass(slots=True)
class HaveAll:
    pass


@dataclass(slots=True)
class HaveNone:
    pass


@dataclass(slots=True)
class Reject:
    """The peer will not answer this request (BEP 6)."""

    block: Block


@dataclass(slots=True)
class AllowedFast:
    """A piece we may ask for even while choked (BEP 6)."""

    piece: int


@dataclass(slots=True)
class Extended:
    """A message of the extension protocol (BEP 10); ``extension`` 0 is its handshake."""

    extension: int
    payload: bytes


Message = (
    Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | HaveBitfield
    | Cancel
    | Port
    | Suggest
    | HaveAll
    | HaveNone
    | Reject
    | AllowedFast
    | Extended
)

_HEAD = Struct(">IB")
_INDEX = Struct(">IBI")
_BLOCK = Struct(">IBIII")
_PIECE = Struct(">IBII")
_PORT = Struct(">IBH")
_U32 = Struct(">I")
_U32X3 = Struct(">III")

KEEP_ALIVE = b"\0\0\0\0"
CHOKE = _HEAD.pack(1, Kind.CHOKE)
UNCHOKE = _HEAD.pack(1, Kind.UNCHOKE)
INTERESTED = _HEAD.pack(1, Kind.INTERESTED)
NOT_INTERESTED = _HEAD.pack(1, Kind.NOT_INTERESTED)
HAVE_ALL = _HEAD.pack(1, Kind.HAVE_ALL)
HAVE_NONE = _HEAD.pack(1, Kind.HAVE_NONE)


def encode_have(piece: int) -> bytes:
    return _INDEX.pack(5, Kind.HAVE, piece)


def encode_suggest(piece: int) -> bytes:
    return _INDEX.pack(5, Kind.SUGGEST, piece)


def encode_allowed_fast(piece: int) -> bytes:
    return _INDEX.pack(5, Kind.ALLOWED_FAST, piece)


def encode_bitfield(pieces: Bitfield) -> bytes:
    body = pieces.to_bytes()
    return _HEAD.pack(1 + len(body), Kind.BITFIELD) + body


def encode_requests(blocks: Iterable[tuple[int, int, int]]) -> bytes:
    """Many requests in one string: they go out in one write."""
    pack = _BLOCK.pack
    return b"".join([pack(13, 6, piece, begin, length) for piece, begin, length in blocks])


def encode_cancel(block: tuple[int, int, int]) -> bytes:
    return _BLOCK.pack(13, Kind.CANCEL, *block)


def encode_reject(block: tuple[int, int, int]) -> bytes:
    return _BLOCK.pack(13, Kind.REJECT, *block)


def encode_piece_header(piece: int, begin: int, length: int) -> bytes:
    """What stands before ``length`` bytes of payload."""
    return _PIECE.pack(9 + length, 7, piece, begin)


def encode_port(port: int) -> bytes:
    return _PORT.pack(3, Kind.PORT, port)


def encode_extended(extension: int, payload: bytes) -> bytes:
    return _HEAD.pack(2 + len(payload), Kind.EXTENDED) + bytes((extension,)) + payload


def _empty(record: Callable[[], Message], body: memoryview) -> Message:
    if len(body):
        raise ProtocolError("body of a message that has none")
    return record()


def _index(body: memoryview) -> int:
    if len(body) != 4:
        raise ProtocolError(f"piece index of {len(body)} bytes")
    index: int = _U32.unpack(body)[0]
    return index


def _block(body: memoryview) -> Block:
    if len(body) != 12:
        raise ProtocolError(f"block of {len(body)} bytes")
    return Block(*_U32X3.unpack(body))


def decode_message(kind: int, body: memoryview, piece_count: int) -> Message | None:
    """Read one message that is neither ``request`` nor ``piece``. None: a kind we do not know, to be ignored.

    Raises ProtocolError on a body of the wrong length, and on a piece that the torrent does not have.
    """
    decoder = _DECODERS.get(kind)
    if decoder is not None:
        return decoder(body)
    if kind in _INDEX_RECORDS:
        piece = _index(body)
        if piece >= piece_count:
            raise ProtocolError(f"piece {piece} of {piece_count}")
        return _INDEX_RECORDS[kind](piece)
    if kind == Kind.BITFIELD:
        return HaveBitfield(Bitfield.from_bytes(body, piece_count))
    return None


def _port(body: memoryview) -> Message:
    if len(body) != 2:
        raise ProtocolError(f"port of {len(body)} bytes")
    return Port(int.from_bytes(body, "big"))


def _extended(body: memoryview) -> Message:
    if not len(body):
        raise ProtocolError("extended message without an id")
    return Extended(body[0], bytes(body[1:]))


_INDEX_RECORDS: dict[int, Callable[[int], Message]] = {
    Kind.HAVE: Have,
    Kind.SUGGEST: Suggest,
    Kind.ALLOWED_FAST: AllowedFast,
}

_DECODERS: dict[int, Callable[[memoryview], Message]] = {
    Kind.CHOKE: lambda body: _empty(Choke, body),
    Kind.UNCHOKE: lambda body: _empty(Unchoke, body),
    Kind.INTERESTED: lambda body: _empty(Interested, body),
    Kind.NOT_INTERESTED: lambda body: _empty(NotInterested, body),
    Kind.HAVE_ALL: lambda body: _empty(HaveAll, body),
    Kind.HAVE_NONE: lambda body: _empty(HaveNone, body),
    Kind.CANCEL: lambda body: Cancel(_block(body)),
    Kind.REJECT: lambda body: Reject(_block(body)),
    Kind.PORT: _port,
    Kind.EXTENDED: _extended,
}
