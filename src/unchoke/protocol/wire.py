"""PeerWire: one side of a peer conversation (BEP 3, 6, 10) without its socket: bytes in, messages out, and what was agreed.

The theory. A conversation has two halves that do not wait for each other, ours and theirs. Each half is first silent,
then sends one handshake, then tells what it has (``bitfield``, ``have all``, ``have none``, or nothing: it has nothing),
then goes on with ``have`` for what it gets. Each half has two flags that the other must know: *choking* (will not answer
requests) and *interested*; both sides start choking and not interested.

    half     may send                              becomes
    SILENT   handshake                             OPENED
    OPENED   one of bitfield/have all/have none    TOLD
    OPENED   have                                  TOLD
    OPENED   anything else                         OPENED   (aria2 and Transmission talk before they tell)
    TOLD     anything but have none                TOLD     (aria2 sends a whole bitfield again where many haves would be longer)

``receive`` turns bytes into items in the order of arrival: *runs* of the two hot kinds (``Blocks``, ``Requests``), records
for the rest. A block's payload is a view into the caller's buffer: valid until the caller reuses it. TCP has no packets,
so a message may end in a later call; its part is carried over in a small buffer that grows as bytes come, never ahead of
them, and its announced length is checked first.

Before a torrent's layout is known (a magnet link) the wire can be on *hold*: it reads, gives what means something without a
layout, and keeps the rest in short (``early``) until ``begin``.

``send_…`` queue bytes, ``data_to_send`` hands them out as vectors, in order. This class chooses nothing and knows no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from struct import Struct

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.layout import TorrentLayout
from unchoke.protocol import early
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import HANDSHAKE_LENGTH, Handshake, Reserved, decode_handshake
from unchoke.types import Block

#: Longest request that we answer. 16 KiB is usual, 128 KiB is what BEP 3 clients of old asked at most.
MAX_REQUEST = 128 * 1024
#: Pieces told one by one to a peer that has heard of us that we have nothing: every client reads ``have`` at any time, some read a
#: bitfield only as the first message.
MOST_HAVES = 1000

Item = m.Message | m.Blocks | m.Requests | Handshake
Buffer = bytes | bytearray | memoryview

_HOT = Struct(">IBII").unpack_from
_U32 = Struct(">I").unpack_from
_NO_LAYOUT = TorrentLayout(1, ())


class Half(Enum):
    SILENT = "silent"
    OPENED = "opened"
    TOLD = "told"


class PeerWire:
    """``max_message``: longest accepted message in bytes, without its four bytes of length."""

    __slots__ = (
        "_carry",
        "_early",
        "_layout",
        "_max_message",
        "_on_hold",
        "_out",
        "_ready",
        "_said_none",
        "extended",
        "fast",
        "framed",
        "handshake",
        "ignored",
        "our_half",
        "our_handshake",
        "their_half",
        "they_choke",
        "they_interested",
        "we_choke",
        "we_interested",
    )

    def __init__(self, *, max_message: int = 1 << 20) -> None:
        self._max_message = max_message
        self._carry = bytearray()
        self._out: list[Buffer] = []
        self._layout = _NO_LAYOUT
        self._ready = False
        self._on_hold = False
        self._early: early.Early | None = None
        self._said_none = False  # before we knew what there is to have
        self.our_half = Half.SILENT
        self.their_half = Half.SILENT
        self.our_handshake: Handshake | None = None
        self.handshake: Handshake | None = None  # theirs
        self.we_choke = True
        self.we_interested = False
        self.they_choke = True
        self.they_interested = False
        self.fast = False  # both speak BEP 6
        self.extended = False  # both speak BEP 10
        self.framed = 0  # bytes of whole messages that came: what counts as a sign of life
        self.ignored = 0  # messages that gave no item: keep-alives, kinds unknown to us

    # ------------------------------------------------------------------ bytes in

    def receive(self, data: memoryview) -> list[Item]:
        """Take bytes, give items. Raises ProtocolError on the first thing no correct peer sends; then the wire is dead.

        After the peer's handshake nothing more is read until ``begin`` has told the torrent's layout, or ``hold`` that it will come
        later; call ``receive`` with an empty view then, for what is left over.
        """
        items: list[Item] = []
        if not self._ready:
            self._carry += data
            if self.handshake is None:
                self._receive_handshake(items)
            elif len(self._carry) > self._max_message:
                raise ProtocolError("more data than a handshake may bring")
            return items
        if self._early is not None and not self._on_hold:
            items += self._kept(self._early)
        if self._carry:
            data = self._complete_carried(data, items)
        if len(data):
            used = self._frame(data, items)
            self.framed += used
            if used < len(data):
                self._carry += data[used:]
        return items

    def _receive_handshake(self, items: list[Item]) -> None:
        handshake = decode_handshake(self._carry)
        if handshake is None:
            return
        del self._carry[:HANDSHAKE_LENGTH]
        self.handshake = handshake
        self.framed += HANDSHAKE_LENGTH
        self.their_half = Half.OPENED
        self._agree()
        items.append(handshake)

    def hold(self) -> None:
        """Both know which torrent, but not yet its layout: read messages, and keep what needs it until ``begin``.

        ``request`` comes without a look at its bounds, to be rejected; ``piece``, which nobody can have asked for, is an error.
        """
        self._early = early.Early()
        self._on_hold = self._ready = True

    def begin(self, layout: TorrentLayout) -> None:
        """Both know the torrent: messages may be read from here on."""
        self._layout = layout
        self._ready = True
        self._on_hold = False

    def _kept(self, kept: early.Early) -> list[m.Message]:
        """What was kept while on hold."""
        self._early = None
        messages = kept.items(self._layout)
        for message in messages:
            self._note(message)
        return messages

    def _complete_carried(self, data: memoryview, items: list[Item]) -> memoryview:
        """Fill the carried message from ``data`` and frame it; what it did not need is returned."""
        carry = self._carry
        while True:
            need = 4 if len(carry) < 4 else 4 + self._checked_length(_U32(carry)[0])
            if len(carry) >= need:
                # At the start of a conversation it may hold several messages; later exactly one. Views into it are
                # borrowed too, so it is given up, not emptied.
                self._carry = bytearray()
                view = memoryview(carry)
                used = self._frame(view, items)
                self.framed += used
                if used < len(view):
                    self._carry += view[used:]
                    carry = self._carry
                    continue
                return data
            if not len(data):
                return data
            take = need - len(carry)
            carry += data[:take]
            data = data[take:]

    def _checked_length(self, length: int) -> int:
        if length > self._max_message:
            raise ProtocolError(f"message of {length} bytes")
        return length

    def _frame(self, data: memoryview, items: list[Item]) -> int:
        """Cut whole messages from ``data`` and return how many bytes they took.

        The hot path, so one function: a ``piece`` costs one ``unpack_from``, one slice and one append (0.3 µs a block,
        where a frozen record for each costs 0.6 and a copy of the payload 0.95: docs/decisions/0002).
        """
        if self._on_hold:
            return self._frame_on_hold(data, items)
        position, end = 0, len(data)
        longest = self._max_message
        blocks: m.Blocks | None = None
        requests: m.Requests | None = None
        while end - position >= 13:
            length, kind, piece, begin = _HOT(data, position)
            if kind == 7 and 9 < length <= longest:
                stop = position + 4 + length
                if stop > end:
                    return position
                if blocks is None:
                    blocks = m.Blocks()
                    items.append(blocks)
                    requests = None
                blocks.append((piece, begin, data[position + 13 : stop]))
                position = stop
            elif kind == 6 and length == 13:
                stop = position + 17
                if stop > end:
                    return position
                if requests is None:
                    requests = m.Requests()
                    items.append(requests)
                    blocks = None
                requests.append(self._checked_request(piece, begin, _U32(data, position + 13)[0]))
                position = stop
            else:
                stop = self._frame_other(data, position, items)
                if stop == position:
                    return position
                position = stop
                blocks = requests = None
        while end - position >= 4:
            stop = self._frame_other(data, position, items)
            if stop == position:
                break
            position = stop
        return position

    def _frame_on_hold(self, data: memoryview, items: list[Item]) -> int:
        """As ``_frame``, without a layout."""
        position, end = 0, len(data)
        while end - position >= 4:
            if end - position >= 17 and data[position + 4] == m.Kind.REQUEST and _U32(data, position)[0] == 13:
                _, _, piece, begin = _HOT(data, position)
                items.append(m.Requests([_blind_request(piece, begin, _U32(data, position + 13)[0])]))
                position += 17
                continue
            stop = self._frame_other(data, position, items)
            if stop == position:
                break
            position = stop
        return position

    def _checked_request(self, piece: int, begin: int, length: int) -> Block:
        layout = self._layout
        if piece >= layout.piece_count or not 0 < length <= MAX_REQUEST or begin + length > layout.piece_size(piece):
            raise ProtocolError(f"request outside the torrent: piece {piece}, {begin} + {length}")
        return Block(piece, begin, length)

    def _frame_other(self, data: memoryview, position: int, items: list[Item]) -> int:
        """One message of a kind that is not hot; returns its end, or ``position`` if it is not whole yet."""
        length = self._checked_length(_U32(data, position)[0])
        stop = position + 4 + length
        if stop > len(data):
            return position
        if length == 0:  # keep-alive
            self.ignored += 1
            return stop
        kind = data[position + 4]
        if kind == m.Kind.PIECE and self._on_hold:
            raise ProtocolError("a block that nobody asked for")
        if kind in (m.Kind.PIECE, m.Kind.REQUEST):
            raise ProtocolError(f"{m.Kind(kind).name.lower()} message of {length} bytes")
        if kind in m.FAST_KINDS and not self.fast:
            raise ProtocolError(f"{m.Kind(kind).name.lower()} without the fast extension")
        if self._on_hold and self._early is not None and kind in early.KINDS:
            self.ignored += not self._early.note(kind, data[position + 5 : stop])
            return stop
        message = m.decode_message(kind, data[position + 5 : stop], self._layout.piece_count)
        if message is None:
            self.ignored += 1
        else:
            self._note(message)
            items.append(message)
        return stop

    def _note(self, message: m.Message) -> None:
        """Follow their half of the conversation."""
        match message:
            case m.HaveNone():
                if self.their_half is Half.TOLD:
                    raise ProtocolError("said that it has nothing, after it told what it has")
                self.their_half = Half.TOLD
            case m.Have() | m.HaveBitfield() | m.HaveAll():
                self.their_half = Half.TOLD
            case m.Choke():
                self.they_choke = True
            case m.Unchoke():
                self.they_choke = False
            case m.Interested():
                self.they_interested = True
            case m.NotInterested():
                self.they_interested = False

    # ------------------------------------------------------------------ messages out

    def send_handshake(self, handshake: Handshake) -> None:
        """First of all, and once."""
        if self.our_half is not Half.SILENT:
            raise RuntimeError("the handshake was sent already")
        self.our_half = Half.OPENED
        self.our_handshake = handshake
        self._out.append(handshake.encode())
        self._agree()

    def _agree(self) -> None:
        if self.handshake is not None and self.our_handshake is not None:
            both = self.handshake.reserved & self.our_handshake.reserved
            self.fast = Reserved.FAST in both
            self.extended = Reserved.EXTENDED in both

    def send_pieces(self, pieces: Bitfield) -> None:
        """Tell what we have: right after the handshakes, once. The shortest form the peer understands is used."""
        if self.our_half is not Half.OPENED or self.handshake is None:
            raise RuntimeError("what we have is told once, after both handshakes")
        self.our_half = Half.TOLD
        if self._said_none and pieces.count() <= MOST_HAVES:
            self._out.extend(map(m.encode_have, pieces))
        elif self.fast and pieces.all():
            self._out.append(m.HAVE_ALL)
        elif self.fast and not pieces.any():
            self._out.append(m.HAVE_NONE)
        elif pieces.any():
            self._out.append(m.encode_bitfield(pieces))

    def send_have_none(self) -> None:
        """On hold: we have nothing yet. What we have is told by ``send_pieces`` when there is a layout."""
        if self.our_half is not Half.OPENED or self.handshake is None:
            raise RuntimeError("what we have is told once, after both handshakes")
        self._said_none = True
        if self.fast:
            self._out.append(m.HAVE_NONE)

    def send_choke(self) -> None:
        if not self.we_choke:
            self.we_choke = True
            self._out.append(m.CHOKE)

    def send_unchoke(self) -> None:
        if self.we_choke:
            self.we_choke = False
            self._out.append(m.UNCHOKE)

    def send_interested(self, interested: bool) -> None:
        if self.we_interested is not interested:
            self.we_interested = interested
            self._out.append(m.INTERESTED if interested else m.NOT_INTERESTED)

    def send_have(self, piece: int) -> None:
        self._out.append(m.encode_have(piece))

    def send_suggest(self, piece: int) -> None:
        """Advice; only with the fast extension (BEP 6)."""
        if self.fast:
            self._out.append(m.encode_suggest(piece))

    def send_requests(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        self._out.append(m.encode_requests(blocks))

    def send_cancel(self, block: tuple[int, int, int]) -> None:
        self._out.append(m.encode_cancel(block))

    def send_reject(self, block: tuple[int, int, int]) -> None:
        """Only with the fast extension; without it silence is the answer, and nothing is sent."""
        if self.fast:
            self._out.append(m.encode_reject(block))

    def send_block(self, piece: int, begin: int, payload: Buffer) -> None:
        """Header and payload as two vectors. The payload is not copied: it must not change until it was sent."""
        self._out.append(m.encode_piece_header(piece, begin, len(payload)))
        self._out.append(payload)

    def send_extended(self, extension: int, payload: bytes) -> None:
        if self.extended:
            self._out.append(m.encode_extended(extension, payload))

    def send_port(self, port: int) -> None:
        self._out.append(m.encode_port(port))

    def send_keep_alive(self) -> None:
        self._out.append(m.KEEP_ALIVE)

    def data_to_send(self) -> list[Buffer]:
        """What is queued, as vectors; the queue is empty afterwards."""
        out, self._out = self._out, []
        return out

    def __repr__(self) -> str:
        def side(choke: bool, interested: bool) -> str:
            return f"{'choking' if choke else 'unchoked'}{', interested' if interested else ''}"

        ours, theirs = side(self.we_choke, self.we_interested), side(self.they_choke, self.they_interested)
        return f"<PeerWire [we: {self.our_half.value}, {ours} | they: {self.their_half.value}, {theirs}]>"


def _blind_request(piece: int, begin: int, length: int) -> Block:
    """A request that cannot be answered; what is wrong without a layout is wrong with any."""
    if not 0 < length <= MAX_REQUEST:
        raise ProtocolError(f"request outside the torrent: piece {piece}, {begin} + {length}")
    return Block(piece, begin, length)
