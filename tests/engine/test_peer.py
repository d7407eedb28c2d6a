"""One peer on a transport of ours: what it does with bytes, floods, silence and the order in which things end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine import peer as peer_module
from unchoke.engine.net.transport import ReceiveBuffer
from unchoke.engine.peer import KEEP_ALIVE, MOST_UNSENT, Peer
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake
from unchoke.types import Address, InfoHash, PeerId

LAYOUT = TorrentLayout(32768, [FileEntry((), 100_000)])
SHAKE = Handshake(InfoHash(b"h" * 20), PeerId(b"p" * 20))


class Link(asyncio.Transport):
    """A transport that keeps what is written; ``deaf``: the other side reads nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 6881)})
        self.written = bytearray()
        self.waiting = 0
        self.deaf = False
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data
        if self.deaf:
            self.waiting += len(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


class Owner:
    """Writes down what it hears; answers each request with a reject, as for a choked peer."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.gone: list[tuple[str, bool]] = []

    def peer_connected(self, peer: Peer) -> None:
        self.heard.append("connected")

    def peer_shook_hands(self, peer: Peer, handshake: Handshake) -> None:
        self.heard.append("hands")
        peer.wire.send_handshake(SHAKE)
        peer.hand_over(self, LAYOUT)

    def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
        self.heard.append("blocks")

    def peer_asked(self, peer: Peer, requests: m.Requests) -> None:
        for block in requests:
            peer.wire.send_reject(block)

    def peer_said(self, peer: Peer, message: m.Message) -> None:
        self.heard.append(type(message).__name__)

    def peer_rests(self, peer: Peer) -> None:
        peer.flush()

    def peer_gone(self, peer: Peer, reason: str, *, fault: bool) -> None:
        self.gone.append((reason, fault))


def made(*, dialed: Address | None = None) -> tuple[Peer, Owner]:
    owner = Owner()
    return Peer(owner, ReceiveBuffer(65536, shared=True), max_message=1 << 20, dialed=dialed), owner


def connected() -> tuple[Peer, Owner, Link]:
    peer, owner = made()
    link = Link()
    peer.connection_made(link)
    return peer, owner, link


def feed(peer: Peer, data: bytes, size: int = 65536) -> None:
    """Bytes as the loop brings them: into the peer's buffer, ``size`` at a time."""
    for at in range(0, len(data), size):
        part = data[at : at + size]
        peer.get_buffer(-1)[: len(part)] = part
        peer.buffer_updated(len(part))


async def test_it_frames_what_comes_however_it_is_cut() -> None:
    conversation = SHAKE.encode() + m.HAVE_NONE + m.UNCHOKE + m.encode_piece_header(0, 0, 9) + bytes(9) + m.CHOKE
    expected = ["connected", "hands", "HaveNone", "Unchoke", "blocks", "Choke"]
    for size in (1, 2, 7, 68, 1000):
        peer, owner, _ = connected()
        feed(peer, SHAKE.encode(), size)
        feed(peer, conversation[68:], size)
        assert owner.heard == expected
        peer.close("done")


async def test_what_came_behind_the_handshake_is_read_when_handed_over() -> None:
    peer, owner, _ = connected()
    feed(peer, SHAKE.encode() + m.HAVE_NONE + m.UNCHOKE)
    peer.resume()
    assert owner.heard == ["connected", "hands", "HaveNone", "Unchoke"]


async def test_one_that_asks_and_never_reads_is_closed_while_little_is_queued() -> None:
    peer, owner, link = connected()
    feed(peer, SHAKE.encode())
    link.deaf = True
    ask = m.encode_requests([(0, 0, 16384)]) * 3000
    rounds = 0
    while not owner.gone and rounds < 1000:
        feed(peer, ask)
        rounds += 1
    assert owner.gone == [("does not read what we send", True)]
    assert link.aborted
    assert link.waiting <= MOST_UNSENT + 2 * 65536


async def test_its_end_is_told_once_whatever_happens_after() -> None:
    peer, owner, link = connected()
    peer.close("first", fault=True)
    peer.close("second")
    feed(peer, b"garbage")
    peer.eof_received()
    peer.flush()
    peer.connection_lost(None)
    assert owner.gone == [("first", True)]
    assert link.aborted
    assert not link.written


async def test_a_connection_made_after_the_end_is_ended() -> None:
    peer, owner = made(dialed=Address("192.0.2.7", 6881))
    peer.close("we are closing")
    link = Link()
    peer.connection_made(link)
    assert link.aborted
    assert owner.heard == []
    assert owner.gone == [("we are closing", False)]


async def test_a_lost_connection_has_its_reason() -> None:
    peer, owner, _ = connected()
    peer.connection_lost(ConnectionResetError("reset by peer"))
    assert owner.gone == [("connection lost: reset by peer", False)]
    peer.heartbeat(1e9, 10.0)
    assert len(owner.gone) == 1


async def test_it_keeps_alive_and_notices_silence() -> None:
    peer, owner, link = connected()
    now = peer.connected_at
    peer.heartbeat(now + KEEP_ALIVE + 1, 240.0)
    assert link.written == bytes(4)
    peer.heartbeat(now + 239, 240.0)
    assert not owner.gone
    peer.heartbeat(now + 241, 240.0)
    assert owner.gone == [("said nothing for 240 s", False)]


async def test_no_keep_alive_behind_what_is_still_unsent() -> None:
    peer, _, link = connected()
    link.waiting = 5
    peer.heartbeat(peer.connected_at + KEEP_ALIVE + 1, 240.0)
    assert not link.written


async def test_a_keeper_of_borrowed_views_fails_loudly() -> None:
    kept: list[memoryview] = []

    class Keeper(Owner):
        def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
            kept.extend(view for _, _, view in blocks)

    peer = Peer(Keeper(), ReceiveBuffer(65536, shared=True), max_message=1 << 20)
    peer.connection_made(Link())
    peer_module.CHECK_BORROWED = True
    try:
        feed(peer, SHAKE.encode())
        feed(peer, m.encode_piece_header(0, 0, 9) + bytes(9))
    finally:
        peer_module.CHECK_BORROWED = False
    try:
        bytes(kept[0])
    except ValueError:
        return
    raise AssertionError("the view is still good")


@given(data=st.binary(max_size=300), size=st.integers(1, 100), shaken=st.booleans())
@settings(max_examples=150, deadline=None)
def test_garbage_ends_a_conversation_or_means_nothing(data: bytes, size: int, shaken: bool) -> None:
    async def play() -> None:
        peer, owner, _ = connected()
        if shaken:
            feed(peer, SHAKE.encode())
        feed(peer, data, size)
        assert all(fault for _, fault in owner.gone)
        peer.close("end")
        assert len(owner.gone) == 1

    asyncio.run(play())
