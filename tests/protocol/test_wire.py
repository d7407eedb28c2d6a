"""PeerWire: framing whole, in crumbs and with a tail; order and state; two of ours back to back; strangers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake, Reserved
from unchoke.protocol.wire import Half, Item, PeerWire
from unchoke.types import Block, InfoHash, PeerId

LAYOUT = TorrentLayout(65536, [FileEntry(("file",), 10 * 65536 - 100)])
HASH = InfoHash(b"h" * 20)


def hello(name: str, reserved: Reserved = Reserved.FAST | Reserved.EXTENDED) -> Handshake:
    return Handshake(HASH, PeerId(name.encode().ljust(20, b".")), reserved)


def listening(*, fast: bool = True, max_message: int = 1 << 20) -> PeerWire:
    """A wire of ours that has both handshakes behind it."""
    wire = PeerWire(max_message=max_message)
    wire.send_handshake(hello("us", Reserved.FAST if fast else Reserved(0)))
    wire.receive(memoryview(hello("them", Reserved.FAST).encode()))
    wire.begin(LAYOUT)
    wire.data_to_send()
    return wire


def plain(items: list[Item]) -> list[object]:
    """Items as values: runs flattened and copied, so that their cuts do not matter."""
    found: list[object] = []
    for item in items:
        if isinstance(item, m.Blocks):
            found += [("block", piece, begin, bytes(payload)) for piece, begin, payload in item]
        elif isinstance(item, m.Requests):
            found += [("request", *block) for block in item]
        else:
            found.append(item)
    return found


def feed(wire: PeerWire, data: bytes, size: int) -> list[object]:
    """Hand over ``size`` bytes at a time, from one buffer that is written over each time, as the real one is."""
    buffer = bytearray(size)
    found: list[object] = []
    for start in range(0, len(data), size):
        part = data[start : start + size]
        buffer[: len(part)] = part
        found += plain(wire.receive(memoryview(buffer)[: len(part)]))
    return found


def block(piece: int, begin: int, payload: bytes) -> bytes:
    return m.encode_piece_header(piece, begin, len(payload)) + payload


TALK = b"".join(
    [
        m.encode_bitfield(Bitfield(10, filled=True)),
        m.UNCHOKE,
        m.KEEP_ALIVE,
        block(0, 0, b"a" * 16384),
        block(0, 16384, b"b" * 16384),
        m.encode_have(3),
        m.encode_requests([(1, 0, 16384), (1, 16384, 16384), (9, 65336, 100)]),
        block(9, 0, b"c"),
        b"\0\0\0\x03\x63ab",  # a kind nobody knows
        m.INTERESTED,
        m.encode_reject((2, 0, 16384)),
        m.encode_cancel((1, 0, 16384)),
        m.encode_requests([(2, 0, 1)]),
    ]
)
HEARD = [
    m.HaveBitfield(Bitfield(10, filled=True)),
    m.Unchoke(),
    ("block", 0, 0, b"a" * 16384),
    ("block", 0, 16384, b"b" * 16384),
    m.Have(3),
    ("request", 1, 0, 16384),
    ("request", 1, 16384, 16384),
    ("request", 9, 65336, 100),
    ("block", 9, 0, b"c"),
    m.Interested(),
    m.Reject(Block(2, 0, 16384)),
    m.Cancel(Block(1, 0, 16384)),
    ("request", 2, 0, 1),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13, 17, 100, 1000, 16397, 16398, 20000, len(TALK), len(TALK) + 9])
def test_the_same_items_whatever_the_cut(size: int) -> None:
    assert feed(listening(), TALK, size) == HEARD


def test_runs_are_runs() -> None:
    items = listening().receive(memoryview(m.HAVE_ALL + block(0, 0, b"x") * 3 + m.encode_requests([(0, 0, 1)] * 4)))
    assert [type(item) for item in items] == [m.HaveAll, m.Blocks, m.Requests]
    assert [len(item) for item in items[1:]] == [3, 4]  # type: ignore[arg-type]


def test_a_tail_is_kept() -> None:
    wire = listening()
    assert plain(wire.receive(memoryview(m.encode_have(1) + block(1, 0, b"abc")[:9]))) == [m.Have(1)]
    assert plain(wire.receive(memoryview(block(1, 0, b"abc")[9:] + m.encode_have(2)))) == [
        ("block", 1, 0, b"abc"),
        m.Have(2),
    ]


def test_what_follows_the_handshake_waits_for_the_layout() -> None:
    wire = PeerWire()
    data = hello("them").encode() + m.encode_bitfield(Bitfield(10)) + m.UNCHOKE
    assert wire.receive(memoryview(data)) == [hello("them")]
    wire.begin(LAYOUT)
    assert wire.receive(memoryview(b"")) == [m.HaveBitfield(Bitfield(10)), m.Unchoke()]


def test_a_handshake_in_crumbs() -> None:
    wire = PeerWire()
    data = hello("them").encode()
    assert [item for byte in data for item in wire.receive(memoryview(bytes([byte])))] == [hello("them")]


# ------------------------------------------------------------------ two of ours


class Pair:
    """Two wires and a perfect line."""

    def __init__(self, left: Reserved = Reserved.FAST, right: Reserved = Reserved.FAST) -> None:
        self.left, self.right = PeerWire(), PeerWire()
        self.left.send_handshake(hello("left", left))
        self.right.send_handshake(hello("right", right))
        self.deliver()
        self.left.begin(LAYOUT)
        self.right.begin(LAYOUT)

    def deliver(self) -> tuple[list[object], list[object]]:
        """Everything queued on either side reaches the other; what left heard, what right heard."""
        to_right, to_left = b"".join(self.left.data_to_send()), b"".join(self.right.data_to_send())
        return plain(self.left.receive(memoryview(to_left))), plain(self.right.receive(memoryview(to_right)))


def test_both_agree_on_extensions() -> None:
    both = Pair()
    assert both.left.fast
    assert both.right.fast
    assert not both.left.extended
    one = Pair(Reserved.FAST | Reserved.EXTENDED, Reserved(0))
    assert not one.left.fast
    assert not one.right.extended


@pytest.mark.parametrize(
    ("fast", "pieces", "heard"),
    [
        (True, Bitfield(10, filled=True), [m.HaveAll()]),
        (True, Bitfield(10), [m.HaveNone()]),
        (False, Bitfield(10, filled=True), [m.HaveBitfield(Bitfield(10, filled=True))]),
        (False, Bitfield(10), []),
    ],
)
def test_what_we_have_is_told_in_the_shortest_form(fast: bool, pieces: Bitfield, heard: list[object]) -> None:
    pair = Pair(Reserved.FAST if fast else Reserved(0))
    pair.left.send_pieces(pieces)
    assert pair.deliver() == ([], heard)


def test_a_whole_conversation() -> None:
    pair = Pair()
    pair.left.send_pieces(Bitfield(10))
    pair.right.send_pieces(Bitfield(10, filled=True))
    pair.left.send_interested(True)
    pair.right.send_unchoke()
    assert pair.deliver() == ([m.HaveAll(), m.Unchoke()], [m.HaveNone(), m.Interested()])
    assert not pair.left.they_choke
    assert pair.right.they_interested
    pair.left.send_requests([(0, 0, 16384), (0, 16384, 16384)])
    assert pair.deliver()[1] == [("request", 0, 0, 16384), ("request", 0, 16384, 16384)]
    pair.right.send_block(0, 0, memoryview(b"z" * 16384))
    pair.right.send_reject((0, 16384, 16384))
    pair.right.send_choke()
    assert pair.deliver()[0] == [("block", 0, 0, b"z" * 16384), m.Reject(Block(0, 16384, 16384)), m.Choke()]
    assert pair.left.they_choke


def test_nothing_is_said_twice() -> None:
    pair = Pair()
    pair.left.send_interested(True)
    pair.left.send_interested(True)
    pair.left.send_unchoke()
    pair.left.send_unchoke()
    assert pair.deliver()[1] == [m.Interested(), m.Unchoke()]


def test_without_the_fast_extension_nothing_is_rejected() -> None:
    pair = Pair(Reserved(0))
    pair.left.send_reject((0, 0, 16384))
    assert pair.deliver() == ([], [])


def test_a_block_goes_out_as_two_vectors_uncopied() -> None:
    pair = Pair()
    payload = memoryview(bytearray(b"x" * 100))
    pair.left.send_block(1, 0, payload)
    assert pair.left.data_to_send()[1] is payload


# ------------------------------------------------------------------ strangers


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "message of 4294967295 bytes"),
        (b"\x00\x10\x00\x01\x07", "message of 1048577 bytes"),
        (m.encode_requests([(0, 0, 1 << 20)]), "request outside"),
        (m.encode_requests([(10, 0, 16384)]), "request outside"),
        (m.encode_requests([(0, 65536, 1)]), "request outside"),
        (m.encode_requests([(9, 65536 - 100, 1)]), "request outside"),
        (m.encode_requests([(0, 0, 0)]), "request outside"),
        (b"\0\0\0\x0c\x06" + b"\0" * 11, "request message of 12 bytes"),
        (b"\0\0\0\x09\x07" + b"\0" * 8, "piece message of 9 bytes"),
        (b"\0\0\0\x01\x07", "piece message of 1 bytes"),
        (m.encode_have(10), "piece 10 of 10"),
        (b"\0\0\0\x02\x00\x00", "body of a message that has none"),
        (b"\0\0\0\x03\x05\xff\xff", "spare bits"),
        (b"\0\0\0\x02\x05\xff", "bitfield of 1 bytes"),
        (m.encode_bitfield(Bitfield(10)) + m.HAVE_NONE, "said that it has nothing"),
        (m.encode_have(1) + m.HAVE_NONE, "said that it has nothing"),
        (m.HAVE_NONE + m.UNCHOKE + m.HAVE_NONE, "said that it has nothing"),
    ],
)
@pytest.mark.parametrize("crumbs", [False, True])
def test_what_no_correct_peer_sends(data: bytes, reason: str, crumbs: bool) -> None:
    with pytest.raises(ProtocolError, match=reason):
        feed(listening(), data, 1 if crumbs else len(data))


@pytest.mark.parametrize("first", [m.encode_extended(0, b"de"), m.encode_port(6881), m.INTERESTED, m.UNCHOKE])
def test_some_talk_before_they_tell_what_they_have(first: bytes) -> None:
    wire = listening()
    assert wire.receive(memoryview(first + m.HAVE_ALL))[-1] == m.HaveAll()
    assert wire.their_half is Half.TOLD


@pytest.mark.parametrize("data", [m.HAVE_ALL, m.HAVE_NONE, m.encode_reject((0, 0, 1)), m.encode_suggest(1)])
def test_fast_messages_need_the_extension(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="without the fast extension"):
        listening(fast=False).receive(memoryview(data))


def test_an_announced_length_costs_no_memory() -> None:
    wire = listening()
    wire.receive(memoryview(b"\x00\x0f\xff\xff\x07" + b"x" * 10))
    assert len(wire._carry) == 15


def test_garbage_before_the_handshake() -> None:
    with pytest.raises(ProtocolError, match="not a BitTorrent handshake"):
        PeerWire().receive(memoryview(b"\x13BitTorrent protocoL"))


@settings(max_examples=150)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20))
def test_garbage_raises_protocol_errors_and_nothing_else(parts: list[bytes]) -> None:
    wire = listening()
    try:
        for part in parts:
            wire.receive(memoryview(part))
    except ProtocolError:
        pass


messages = st.one_of(
    st.sampled_from([m.CHOKE, m.UNCHOKE, m.INTERESTED, m.NOT_INTERESTED, m.KEEP_ALIVE]),
    st.integers(0, 9).map(m.encode_have),
    st.tuples(st.integers(0, 8), st.integers(0, 3)).map(lambda at: m.encode_requests([(at[0], at[1] * 16384, 16384)])),
    st.tuples(st.integers(0, 8), st.binary(min_size=1, max_size=300)).map(lambda it: block(it[0], 0, it[1])),
    st.binary(max_size=50).map(lambda payload: m.encode_extended(1, payload)),
)


@settings(max_examples=100)
@given(st.lists(messages, max_size=30), st.integers(1, 400))
def test_any_stream_any_cut(stream: list[bytes], size: int) -> None:
    data = b"".join(stream)
    assert feed(listening(), data, size) == feed(listening(), data, len(data) or 1)


# ------------------------------------------------------------------ on hold: the layout comes later


def on_hold(*, fast: bool = True) -> PeerWire:
    """A wire that has both handshakes behind it and no layout."""
    wire = PeerWire()
    wire.send_handshake(hello("us", Reserved.FAST if fast else Reserved(0)))
    wire.receive(memoryview(hello("them", Reserved.FAST).encode()))
    wire.hold()
    wire.data_to_send()
    return wire


FIELD = Bitfield.from_bytes(b"\xa0\x40", 10)  # 0, 2, 9
EARLY = b"".join(
    [
        m.encode_bitfield(FIELD),
        m.encode_extended(0, b"de"),
        m.UNCHOKE,
        m.KEEP_ALIVE,
        m.encode_have(4),
        m.encode_allowed_fast(1),
        m.encode_have(4),
        m.encode_suggest(2),
        m.INTERESTED,
        m.encode_requests([(70000, 0, 16384)]),
        m.encode_port(6881),
        m.encode_reject((0, 0, 16384)),
        m.encode_cancel((0, 0, 16384)),
    ]
)


@pytest.mark.parametrize("size", [1, 3, 17, len(EARLY)])
def test_on_hold_what_needs_no_layout_is_given_and_the_rest_follows(size: int) -> None:
    wire = on_hold()
    assert feed(wire, EARLY, size) == [
        m.Extended(0, b"de"),
        m.Unchoke(),
        m.Interested(),
        ("request", 70000, 0, 16384),
        m.Port(6881),
    ]
    assert (wire.they_choke, wire.they_interested, wire.their_half) == (False, True, Half.OPENED)
    wire.begin(LAYOUT)
    both = Bitfield.from_bytes(b"\xa8\x40", 10)
    assert wire.receive(memoryview(m.encode_have(1))) == [
        m.HaveBitfield(both),
        m.AllowedFast(1),
        m.Suggest(2),
        m.Have(1),
    ]
    assert wire.their_half is Half.TOLD
    assert wire.receive(memoryview(m.CHOKE)) == [m.Choke()]


@pytest.mark.parametrize(
    ("data", "heard"),
    [
        (b"", []),
        (m.HAVE_NONE, [m.HaveNone()]),
        (m.HAVE_NONE + m.encode_have(9), [m.HaveBitfield(Bitfield.from_bytes(b"\0\x40", 10))]),
        (m.HAVE_ALL, [m.HaveAll()]),
        (m.encode_have(3) + m.HAVE_ALL + m.encode_have(5), [m.HaveAll()]),
        (m.encode_bitfield(Bitfield(10)), [m.HaveBitfield(Bitfield(10))]),
        (m.encode_have(9) + m.encode_bitfield(Bitfield(10)), [m.HaveBitfield(Bitfield.from_bytes(b"\0\x40", 10))]),
        (m.encode_bitfield(FIELD) * 2, [m.HaveBitfield(FIELD)]),
    ],
)
def test_what_was_told_on_hold_is_told_again(data: bytes, heard: list[object]) -> None:
    wire = on_hold()
    assert wire.receive(memoryview(data)) == []
    wire.begin(LAYOUT)
    assert wire.receive(memoryview(b"")) == heard
    assert wire.receive(memoryview(b"")) == []
    assert wire.their_half is (Half.TOLD if heard else Half.OPENED)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (block(0, 0, b"x"), "block that nobody asked for"),
        (m.encode_requests([(0, 0, 0)]), "request outside"),
        (m.encode_requests([(0, 0, 1 << 20)]), "request outside"),
        (m.encode_have(1 << 21), "can have no more than"),
        (m.encode_allowed_fast(0xFFFFFFFF), "can have no more than"),
        (m.encode_bitfield(Bitfield(0)), "bitfield of 0 bytes"),
        (m.encode_bitfield(Bitfield((1 << 21) + 8)), "bitfield of 262145 bytes"),
        (m.encode_bitfield(Bitfield(10)) + m.encode_have(16), "beyond its own bitfield"),
        (m.encode_bitfield(Bitfield(10)) + m.encode_bitfield(Bitfield(8)), "shorter than"),
        (m.encode_have(8) + m.encode_bitfield(Bitfield(8)), "shorter than"),
        (m.encode_have(1) + m.HAVE_NONE, "said that it has nothing"),
        (m.HAVE_NONE * 2, "said that it has nothing"),
        (m.HAVE_ALL + m.HAVE_NONE, "said that it has nothing"),
        (b"\0\0\0\x02\x0e\0", "body of a message that has none"),
        (b"\0\0\0\x03\x04\0\0", "piece number of 2 bytes"),
        (b"\0\0\0\x02\x08\0", "block of 1 bytes"),
    ],
)
@pytest.mark.parametrize("crumbs", [False, True])
def test_what_is_wrong_without_a_layout_is_wrong_at_once(data: bytes, reason: str, crumbs: bool) -> None:
    with pytest.raises(ProtocolError, match=reason):
        feed(on_hold(), data, 1 if crumbs else len(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (m.encode_have(10), "piece 10 of 10"),
        (m.encode_bitfield(Bitfield(17)), "bitfield of 3 bytes"),
        (m.encode_bitfield(Bitfield(8)), "bitfield of 1 bytes"),
        (b"\0\0\0\x03\x05\0\x01", "piece 15 of 10"),
        (m.HAVE_ALL + m.encode_have(11), "piece 11 of 10"),
        (m.encode_allowed_fast(10), "piece 10 of 10"),
        (m.encode_suggest(10), "piece 10 of 10"),
    ],
)
def test_what_does_not_fit_the_layout_is_wrong_when_it_comes(data: bytes, reason: str) -> None:
    wire = on_hold()
    wire.receive(memoryview(data))
    wire.begin(LAYOUT)
    with pytest.raises(ProtocolError, match=reason):
        wire.receive(memoryview(b""))


def test_on_hold_fast_messages_need_the_extension_too() -> None:
    with pytest.raises(ProtocolError, match="without the fast extension"):
        on_hold(fast=False).receive(memoryview(m.HAVE_ALL))


def test_on_hold_what_tells_nothing_new_is_counted() -> None:
    wire = on_hold()
    wire.receive(memoryview(m.encode_have(7) * 500 + m.encode_bitfield(FIELD) * 3))
    assert wire.ignored == 499 + 2


def test_a_flood_of_haves_costs_one_bitfield() -> None:
    wire = on_hold()
    for piece in range(0, 1 << 21, 4096):
        wire.receive(memoryview(m.encode_have(piece)))
    wire.begin(TorrentLayout(1024, [FileEntry(("file",), 1024 << 21)]))
    (told,) = wire.receive(memoryview(b""))
    assert isinstance(told, m.HaveBitfield)
    assert told.pieces.count() == 512


@pytest.mark.parametrize("fast", [True, False])
def test_who_was_told_that_we_have_nothing_is_told_what_we_have(fast: bool) -> None:
    left, right = PeerWire(), PeerWire()
    reserved = Reserved.FAST if fast else Reserved(0)
    left.send_handshake(hello("left", reserved))
    right.send_handshake(hello("right", reserved))
    right.receive(memoryview(b"".join(left.data_to_send())))
    left.receive(memoryview(b"".join(right.data_to_send())))
    right.begin(LAYOUT)
    left.hold()
    left.send_have_none()
    assert right.receive(memoryview(b"".join(left.data_to_send()))) == ([m.HaveNone()] if fast else [])
    left.begin(LAYOUT)
    left.send_pieces(FIELD)
    assert right.receive(memoryview(b"".join(left.data_to_send()))) == [m.Have(0), m.Have(2), m.Have(9)]
    with pytest.raises(RuntimeError):
        left.send_pieces(FIELD)


def test_many_pieces_are_told_in_one_message() -> None:
    layout = TorrentLayout(1024, [FileEntry(("file",), 1024 * 5000)])
    wire = on_hold()
    wire.send_have_none()
    wire.begin(layout)
    wire.data_to_send()
    wire.send_pieces(Bitfield(5000, filled=True))
    assert wire.data_to_send() == [m.HAVE_ALL]


@settings(max_examples=150)
@given(st.lists(st.binary(min_size=1, max_size=60) | messages, max_size=20), st.integers(0, 20))
def test_garbage_on_hold_raises_protocol_errors_and_nothing_else(parts: list[bytes], known_at: int) -> None:
    wire = on_hold()
    try:
        for number, part in enumerate(parts):
            if number == known_at:
                wire.begin(LAYOUT)
            wire.receive(memoryview(part))
    except ProtocolError:
        pass
