"""Early: what a peer tells of its pieces while nobody here knows how many there are (a magnet link without its metadata yet).

A bitfield, ``have``, ``have all``, ``have none``, ``allowed fast`` and ``suggest`` mean nothing without the torrent's layout
(BEP 3, 6). They are folded into one field of bits and two short lists, so that hours of ``have`` cost no more than one bitfield;
``items`` says it all again, in order, once the layout is known. What can be seen to be wrong without it is an error at once.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.layout import TorrentLayout
from unchoke.protocol import messages as m

#: Pieces that a torrent of unknown size may have: their SHA-1s alone would be 40 MiB of metadata, more than is accepted. In bits,
#: 256 KiB a peer.
MOST_PIECES = 1 << 21
#: Pieces allowed fast and suggested that are kept: as many as a torrent with its layout keeps of them (``engine/download``).
MOST_ALLOWED_FAST = 64
MOST_SUGGESTED = 16

#: What is kept here instead of being given on.
KINDS = frozenset(
    {
        m.Kind.HAVE,
        m.Kind.BITFIELD,
        m.Kind.SUGGEST,
        m.Kind.HAVE_ALL,
        m.Kind.HAVE_NONE,
        m.Kind.REJECT,
        m.Kind.CANCEL,
        m.Kind.ALLOWED_FAST,
    }
)

_U32 = Struct(">I").unpack


class Early:
    """One peer's."""

    __slots__ = ("_all", "_allowed", "_bits", "_suggested", "_told", "_whole")

    def __init__(self) -> None:
        self._bits = bitarray(endian="big")
        self._whole = False  # a bitfield came: its length is the torrent's
        self._all = False
        self._told = False
        self._allowed: dict[int, None] = {}
        self._suggested: deque[int] = deque(maxlen=MOST_SUGGESTED)

    def note(self, kind: int, body: memoryview) -> bool:
        """Keep one message of ``KINDS``; False if it told nothing new. Raises ProtocolError."""
        match kind:
            case m.Kind.HAVE:
                return self._have(_piece(body))
            case m.Kind.BITFIELD:
                return self._bitfield(body)
            case m.Kind.HAVE_ALL:
                _check_empty(body)
                new, self._all, self._told = not self._all, True, True
                return new
            case m.Kind.HAVE_NONE:
                _check_empty(body)
                if self._told:
                    raise ProtocolError("said that it has nothing, after it told what it has")
                self._told = True
                return True
            case m.Kind.ALLOWED_FAST:
                piece = _piece(body)
                if len(self._allowed) < MOST_ALLOWED_FAST:
                    self._allowed[piece] = None
            case m.Kind.SUGGEST:
                self._suggested.append(_piece(body))
            case _:  # answers to questions that nobody asked
                m.decode_message(kind, body, 0)
        return False

    def _have(self, piece: int) -> bool:
        self._told = True
        missing = piece + 1 - len(self._bits)
        if missing > 0:
            if self._whole:
                raise ProtocolError(f"piece {piece} beyond its own bitfield")
            self._bits.extend(zeros(missing, "big"))
        new = not self._all and not self._bits[piece]
        self._bits[piece] = 1
        return new

    def _bitfield(self, body: memoryview) -> bool:
        if not 0 < 8 * len(body) <= MOST_PIECES:
            raise ProtocolError(f"bitfield of {len(body)} bytes")
        bits = bitarray(endian="big")
        bits.frombytes(bytes(body))
        known = self._bits
        if len(known) > len(bits) or (self._whole and len(known) != len(bits)):
            raise ProtocolError(f"bitfield of {len(body)} bytes, shorter than what it told before")
        known.extend(zeros(len(bits) - len(known), "big"))
        new = not self._all and (not self._told or (bits & ~known).any())
        known |= bits
        self._whole = self._told = True
        return new

    def items(self, layout: TorrentLayout) -> list[m.Message]:
        """All of it as messages of a torrent with this layout. Raises ProtocolError where they do not fit it."""
        count = layout.piece_count
        for piece in (*self._allowed, *self._suggested):
            if piece >= count:
                raise ProtocolError(f"piece {piece} of {count}")
        found: list[m.Message] = []
        if self._whole or self._bits.any():
            field = self._fitted(count)
            if not self._all:
                found.append(m.HaveBitfield(field))
        if self._all:
            found.append(m.HaveAll())
        elif self._told and not found:
            found.append(m.HaveNone())
        found.extend(map(m.AllowedFast, self._allowed))
        found.extend(map(m.Suggest, self._suggested))
        return found

    def _fitted(self, count: int) -> Bitfield:
        bits = self._bits
        if self._whole and len(bits) != (count + 7) // 8 * 8:
            raise ProtocolError(f"bitfield of {len(bits) // 8} bytes for {count} pieces")
        if bits[count:].any():
            raise ProtocolError(f"piece {bits.find(1, count)} of {count}")
        field = Bitfield(count)
        field.bits[: min(len(bits), count)] = bits[:count]
        return field

    def __repr__(self) -> str:
        has = "all" if self._all else str(self._bits.count(1)) if self._told else "?"
        return f"<Early [has {has} | {len(self._allowed)} allowed]>"


def _piece(body: memoryview) -> int:
    if len(body) != 4:
        raise ProtocolError(f"piece number of {len(body)} bytes")
    piece: int = _U32(body)[0]
    if piece >= MOST_PIECES:
        raise ProtocolError(f"piece {piece} of a torrent that can have no more than {MOST_PIECES}")
    return piece


def _check_empty(body: memoryview) -> None:
    if len(body):
        raise ProtocolError("body of a message that has none")
