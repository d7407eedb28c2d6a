"""Peers that break the rules, over real TCP: each is closed with a reason, those we dialled wait, and nobody else suffers."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, PLAIN, FakeListener, FakePeer, block, frame, new_id, request, soon
from fakes.stage import PIECE, Sample, swarm_of
from unchoke.engine.events import PeerBanned, PeerConnected, PeerDisconnected, PieceFailed, Subscription
from unchoke.engine.peer import MOST_REDUNDANT
from unchoke.engine.session import Session
from unchoke.engine.torrent import Torrent
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake, Reserved
from unchoke.protocol.messages import Kind
from unchoke.types import BLOCK_SIZE, InfoHash

pytestmark = pytest.mark.usefixtures("no_leaks")

#: 4 pieces of 2 blocks: a bitfield of one byte with four spare bits.
WHAT = stage.sample()


@dataclass
class Scene:
    """A session that wants ``WHAT``, and what it tells."""

    session: Session
    torrent: Torrent
    watching: Subscription

    @property
    def port(self) -> int:
        return self.session.port()

    async def dialled_by(self, *, host: str = "127.0.0.2", reserved: Reserved = FAST) -> FakePeer:
        """A peer that connected to us and shook hands."""
        return await FakePeer.dial(self.port, self.torrent.infohash, host=host, reserved=reserved)

    async def why_closed(self) -> str:
        return (await stage.next_event(self.watching, PeerDisconnected)).reason

    def now(self) -> float:
        return self.session.now()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        yield Scene(session, torrent, session.subscribe())


# ---------------------------------------------------------------------- before and in the handshake


async def test_one_that_wants_a_torrent_we_do_not_have_is_closed(scene: Scene) -> None:
    async with await FakePeer.dial(scene.port, None) as peer:
        peer.send(Handshake(InfoHash(b"x" * 20), new_id(), FAST).encode())
        await peer.ended()
    assert not swarm_of(scene.torrent).peers


async def test_one_that_answers_for_another_torrent_is_closed_and_waits(scene: Scene) -> None:
    async with FakeListener(InfoHash(b"x" * 20), host="127.0.0.2") as liar:
        scene.torrent.add_peers([liar.address])
        await (await liar.accept()).ended()
        known = swarm_of(scene.torrent).peerlist.get(liar.address)
        assert known is not None
        assert known.next_try > scene.now()
        assert "another torrent" in known.reason
        assert "another torrent" in scene.torrent.snapshot().last_refusal


async def test_our_own_id_is_ourselves(scene: Scene) -> None:
    async with FakeListener(scene.torrent.infohash, host="127.0.0.2", peer_id=scene.torrent.peer_id) as mirror:
        scene.torrent.add_peers([mirror.address])
        await (await mirror.accept()).ended()
        swarm = swarm_of(scene.torrent)
        assert swarm.peerlist.get(mirror.address) is None
        scene.torrent.add_peers([mirror.address])
        assert swarm.peerlist.get(mirror.address) is None, "an address of our own is never tried again"


async def test_dialling_ourselves_ends_both_ends(scene: Scene) -> None:
    scene.torrent.add_peers([stage.address_of(scene.session)])
    swarm = swarm_of(scene.torrent)
    await stage.until(lambda: not len(swarm.peerlist))
    assert not swarm.peers


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x13BitTorrent protocoX", b"\x00" * 68, bytes(range(256)) * 400],
    ids=["http", "nearly", "zeros", "much"],
)
async def test_garbage_in_place_of_a_handshake(scene: Scene, garbage: bytes) -> None:
    async with await FakePeer.dial(scene.port, None) as peer:
        peer.send(garbage)
        await peer.ended()


async def test_garbage_from_one_we_dialled_makes_it_wait(scene: Scene) -> None:
    async with FakeListener(scene.torrent.infohash, host="127.0.0.2") as listener:
        scene.torrent.add_peers([listener.address])
        peer = await listener.accept(shake=False)
        peer.send(b"220 mail.example.org ESMTP\r\n")
        await peer.ended()
        known = swarm_of(scene.torrent).peerlist.get(listener.address)
        assert known is not None
        assert (known.failures, known.next_try > scene.now()) == (1, True)
        assert "handshake" in known.reason


async def test_one_that_never_sends_is_closed_in_time(scene: Scene) -> None:
    async with await FakePeer.dial(scene.port, None) as peer:
        dialer = scene.session._dialer
        await stage.until(lambda: dialer.waiting)
        timeout = scene.session.settings.network.handshake_timeout
        dialer.heartbeat(scene.now() + timeout - 1)
        assert dialer.waiting == 1
        dialer.heartbeat(scene.now() + timeout + 1)
        assert dialer.waiting == 0
        await peer.ended()


async def test_a_handshake_in_crumbs_is_still_one(scene: Scene) -> None:
    async with await FakePeer.dial(scene.port, None) as peer:
        for byte in Handshake(scene.torrent.infohash, new_id(), FAST).encode():
            peer.send(bytes((byte,)))
            await stage.turns(2)
        await peer.read_handshake()


# ---------------------------------------------------------------------- breaking the protocol


def have(piece: int) -> bytes:
    return m.encode_have(piece)


BAD_BLOCK = struct.pack(">II", 0, BLOCK_SIZE * 2) + bytes(100)
BREAKS = {
    "length of 2^32-1": (b"\xff\xff\xff\xff", "message of 4294967295 bytes"),
    "length just too long": (struct.pack(">I", (1 << 20) + 1), "message of 1048577 bytes"),
    "spare bits": (frame(Kind.BITFIELD, b"\xf8"), "spare bits"),
    "bitfield too long": (frame(Kind.BITFIELD, b"\xf0\x00"), "bitfield of 2 bytes"),
    "bitfield empty": (frame(Kind.BITFIELD), "bitfield of 0 bytes"),
    "have outside": (have(4), "piece 4 of 4"),
    "have of -1": (have(0xFFFFFFFF), "of 4"),
    "have with a tail": (frame(Kind.HAVE, bytes(5)), "piece index of 5 bytes"),
    "choke with a body": (frame(Kind.CHOKE, b"x"), "body of a message that has none"),
    "request of 1 MiB": (request(0, 0, 1 << 20), "request outside"),
    "request outside the piece": (request(0, PIECE - 1, BLOCK_SIZE), "request outside"),
    "request outside the torrent": (request(4, 0, BLOCK_SIZE), "request outside"),
    "request of nothing": (request(0, 0, 0), "request outside"),
    "request that overflows": (request(0, 0xFFFFFFFF, BLOCK_SIZE), "request outside"),
    "short request": (frame(Kind.REQUEST, bytes(8)), "request message of"),
    "cancel cut short": (frame(Kind.CANCEL, bytes(11)), "block of 11 bytes"),
    "piece without data": (frame(Kind.PIECE, bytes(8)), "piece message of"),
    "block outside the piece": (frame(Kind.PIECE, BAD_BLOCK), "block outside"),
    "block of another torrent": (block(77, 0, bytes(BLOCK_SIZE)), "block outside"),
    "block nobody asked for": (block(0, 0, bytes(BLOCK_SIZE)), "nobody asked for"),
    "extended without an id": (frame(Kind.EXTENDED), "without an id"),
    "port of one byte": (frame(Kind.PORT, b"x"), "port of 1 bytes"),
}


@pytest.mark.parametrize(("data", "why"), list(BREAKS.values()), ids=list(BREAKS))
async def test_one_that_breaks_the_protocol_is_closed_with_a_reason_and_waits(
    scene: Scene, data: bytes, why: str
) -> None:
    async with FakeListener(scene.torrent.infohash, host="127.0.0.2") as listener:
        scene.torrent.add_peers([listener.address])
        peer = await listener.accept()
        peer.send(data)
        assert why in await scene.why_closed()
        known = swarm_of(scene.torrent).peerlist.get(listener.address)
        assert known is not None
        assert why in known.reason
        assert known.next_try > scene.now()
        assert not known.connected
        await peer.ended()
    assert not swarm_of(scene.torrent).peerlist.banned, "only wrong data leads to a ban"


@pytest.mark.parametrize(
    "data", [frame(Kind.HAVE_ALL), frame(Kind.REJECT, bytes(12)), frame(Kind.ALLOWED_FAST, bytes(4))]
)
async def test_fast_messages_without_the_extension(scene: Scene, data: bytes) -> None:
    async with await scene.dialled_by(reserved=PLAIN) as peer:
        peer.send(data)
        assert "without the fast extension" in await scene.why_closed()
        await peer.ended()


async def test_an_extended_handshake_that_is_none(scene: Scene) -> None:
    async with await scene.dialled_by(reserved=FAST | Reserved.EXTENDED) as peer:
        peer.send(frame(Kind.EXTENDED, b"\x00" + b"l" * 10_000))
        assert "extended handshake" in await scene.why_closed()


async def test_unknown_messages_and_extensions_are_ignored(scene: Scene) -> None:
    async with await scene.dialled_by(reserved=FAST | Reserved.EXTENDED) as peer:
        peer.send(frame(99, b"future"), frame(Kind.EXTENDED, b"\x2achatter"), frame(Kind.SUGGEST, bytes(4)))
        peer.send(frame(Kind.HAVE_ALL))
        await peer.until(Kind.INTERESTED)


# ---------------------------------------------------------------------- floods, and silence


@pytest.mark.parametrize(
    "data",
    [have(1), m.INTERESTED, m.CHOKE, frame(Kind.SUGGEST, bytes(4)), frame(Kind.ALLOWED_FAST, bytes(4))],
    ids=["have", "interested", "choke", "suggest", "allowed fast"],
)
async def test_a_flood_of_messages_that_say_nothing(scene: Scene, data: bytes) -> None:
    async with await scene.dialled_by() as peer:
        peer.send(data * (MOST_REDUNDANT + 200))
        assert "floods" in await scene.why_closed()


async def test_a_long_conversation_is_no_flood(scene: Scene) -> None:
    async with await scene.dialled_by() as peer:
        swarm = swarm_of(scene.torrent)
        (ours,) = swarm.peers
        for minute in range(30):
            peer.send((m.UNCHOKE + m.CHOKE) * 100)
            await stage.until(lambda: ours.redundant >= 100)
            for second in range(60):
                swarm.heartbeat(scene.now() + (minute + second) / 1000)
        assert ours in swarm.peers


async def test_one_that_says_nothing_whole_is_closed_and_a_keep_alive_keeps(scene: Scene) -> None:
    idle = scene.session.settings.network.idle_timeout
    async with await scene.dialled_by() as quiet, await scene.dialled_by(host="127.0.0.3") as alive:
        swarm = swarm_of(scene.torrent)
        silent, living = swarm.peers
        before = living.received
        quiet.send(frame(Kind.BITFIELD, b"\xf0")[:3])  # a byte a minute comes to this
        alive.send(bytes(4))
        await stage.until(lambda: living.received > before and silent.received > 68)
        living._heard_at += 2  # as if the keep-alive had come two seconds later
        swarm.heartbeat(silent._heard_at + idle + 1)
        assert list(swarm.peers) == [living]
        assert "said nothing" in await scene.why_closed()
        await quiet.ended()


async def test_a_keep_alive_is_a_sign_of_life(scene: Scene) -> None:
    async with await scene.dialled_by() as peer:
        (ours,) = swarm_of(scene.torrent).peers
        ours._heard_at = -1.0
        peer.send(bytes(2))  # half of one is none
        await stage.until(lambda: ours.received == 70)
        assert ours._heard_at == -1.0
        peer.send(bytes(2))
        await stage.until(lambda: ours._heard_at > 0)


# ---------------------------------------------------------------------- wrong data


def broken(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


async def test_one_contributor_of_a_wrong_piece_is_banned(scene: Scene) -> None:
    what, torrent = WHAT, scene.torrent
    async with FakeListener(torrent.infohash, host="127.0.0.2") as liar:
        torrent.add_peers([liar.address])
        peer = await liar.accept()
        peer.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        await peer.serve(broken(what.data), what.piece_length)
        banned = await stage.next_event(scene.watching, PeerBanned)
        assert banned.address == liar.address
        assert "wrong data" in banned.reason
        assert "banned" in await scene.why_closed()
        swarm = swarm_of(torrent)
        swarm.heartbeat(scene.now() + 7200)
        torrent.add_peers([liar.address])
        assert not scene.session.snapshot().half_open, "it is not dialled again"
        async with await FakePeer.dial(scene.port, None, host="127.0.0.2") as again:
            again.send(Handshake(torrent.infohash, new_id(), FAST).encode())
            await again.ended()
        assert not swarm.peers
        assert torrent.snapshot().corrupt >= PIECE
        assert torrent.snapshot().pieces_done == 0

        async with await scene.dialled_by(host="127.0.0.3") as honest:
            honest.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
            await honest.serve(what.data, what.piece_length)
        await soon(torrent.done())


def one_piece() -> Sample:
    return stage.sample(PIECE, name="one")


async def test_of_several_contributors_none_is_banned_before_its_guilt_is_proven(tmp_path: Path) -> None:
    """Two peers give one block each, one of them a wrong one: the piece comes again, and when it is one's alone it is known."""
    what = one_piece()
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        watching = torrent.events()
        port = session.port()
        honest = await FakePeer.dial(port, torrent.infohash, host="127.0.0.2")
        honest.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        first, second = (got.block for got in await honest.take(Kind.REQUEST, 2))
        honest.answer(what.data, PIECE, first)
        honest.send(m.CHOKE, m.encode_reject(second))  # the other block must come from somebody else

        liar = await FakePeer.dial(port, torrent.infohash, host="127.0.0.3")
        liar.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        asked = (await liar.until(Kind.REQUEST)).block
        assert asked == second
        liar.answer(broken(what.data), PIECE, asked)
        failed = await stage.next_event(watching, PieceFailed)
        assert {address.host for address in failed.peers} == {"127.0.0.2", "127.0.0.3"}
        assert not swarm_of(torrent).peerlist.banned

        again = [got.block for got in await liar.take(Kind.REQUEST, 2)]
        assert sorted(again) == sorted([first, second]), "the piece begins again"
        for asked in again:
            liar.answer(broken(what.data), PIECE, asked)
        banned = await stage.next_event(watching, PeerBanned)
        assert banned.address.host == "127.0.0.3"
        await liar.ended()

        honest.send(m.UNCHOKE)
        await honest.serve(what.data, PIECE, most=3)
        await soon(torrent.done())
        what.assert_in(tmp_path)
        await honest.close()
        await liar.close()


async def test_the_good_copy_of_a_failed_piece_names_the_liar_and_nobody_else(tmp_path: Path) -> None:
    """It has left by then; its host is banned all the same."""
    what = one_piece()
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        watching = torrent.events()
        port = session.port()
        liar = await FakePeer.dial(port, torrent.infohash, host="127.0.0.2")
        liar.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        first, second = (got.block for got in await liar.take(Kind.REQUEST, 2))
        liar.answer(broken(what.data), PIECE, first)
        liar.send(m.encode_reject(second))
        honest = await FakePeer.dial(port, torrent.infohash, host="127.0.0.3")
        honest.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        honest.answer(what.data, PIECE, (await honest.until(Kind.REQUEST)).block)
        await stage.next_event(watching, PieceFailed)
        await liar.close()
        third = await FakePeer.dial(port, torrent.infohash, host="127.0.0.4")
        third.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        await third.serve(what.data, PIECE, most=2)
        await soon(torrent.done())
        banned = await stage.next_event(watching, PeerBanned)
        assert banned.address.host == "127.0.0.2"
        assert list(swarm_of(torrent).peerlist.banned) == ["127.0.0.2"]
        await honest.close()
        await third.close()


async def test_a_piece_for_one_alone_goes_on_with_another_when_that_one_rejects(tmp_path: Path) -> None:
    what = one_piece()
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        watching = torrent.events()
        first = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2")
        first.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        one, two = (got.block for got in await first.take(Kind.REQUEST, 2))
        first.answer(broken(what.data), PIECE, one)
        first.send(m.CHOKE, m.encode_reject(two))
        second = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3")
        second.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        second.answer(what.data, PIECE, (await second.until(Kind.REQUEST)).block)
        await stage.next_event(watching, PieceFailed)
        # It is the second's alone now, and the second will not give all of it.
        one, two = (got.block for got in await second.take(Kind.REQUEST, 2))
        second.answer(what.data, PIECE, one)
        second.send(m.encode_reject(two))
        first.send(m.UNCHOKE)
        await first.serve(what.data, PIECE, most=3)
        await soon(torrent.done())
        what.assert_in(tmp_path)
        assert session.disk.reserved == 0
        await first.close()
        await second.close()


async def test_a_peer_that_leaves_while_its_piece_is_verified_does_no_harm(tmp_path: Path) -> None:
    """The piece had to come from it alone; verified is verified, and the memory comes back."""
    what = one_piece()
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        swarm = swarm_of(torrent)
        swarm.picker.piece_bad(0, single=True)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
            for got in await peer.take(Kind.REQUEST, 2):
                peer.answer(what.data, PIECE, got.block)
            await stage.until(lambda: swarm.intake.is_verifying or swarm.picker.is_done)
            for ours in list(swarm.peers):
                ours.close("gone")
        await soon(torrent.done())
        assert session.disk.reserved == 0
        assert not swarm.picker.open


# ---------------------------------------------------------------------- two of one name


async def test_a_second_conversation_with_the_same_peer_is_refused(scene: Scene) -> None:
    twin = new_id()
    async with (
        await FakePeer.dial(scene.port, scene.torrent.infohash, peer_id=twin) as first,
        await FakePeer.dial(scene.port, None, host="127.0.0.3") as second,
    ):
        await stage.next_event(scene.watching, PeerConnected)
        second.send(Handshake(scene.torrent.infohash, twin, FAST).encode())
        await second.ended()
        assert len(swarm_of(scene.torrent).peers) == 1
        first.send(frame(Kind.HAVE_ALL))
        await first.until(Kind.INTERESTED)


@pytest.mark.parametrize("greater", [True, False], ids=["theirs is greater", "ours is greater"])
async def test_of_two_crossing_dials_the_one_of_the_greater_id_stays(scene: Scene, greater: bool) -> None:
    twin = type(new_id())((b"\xff" if greater else b"\x00") * 20)
    torrent = scene.torrent
    async with FakeListener(torrent.infohash, host="127.0.0.2", peer_id=twin) as listener:
        torrent.add_peers([listener.address])
        ours = await listener.accept(shake=False)
        await ours.read_handshake()
        theirs = await FakePeer.dial(scene.port, torrent.infohash, peer_id=twin)
        await stage.next_event(scene.watching, PeerConnected)
        ours.send(Handshake(torrent.infohash, twin, FAST).encode())
        kept, dropped = (theirs, ours) if greater else (ours, theirs)
        await dropped.ended()
        kept.send(frame(Kind.HAVE_ALL))
        await kept.until(Kind.INTERESTED)
        assert len(swarm_of(torrent).peers) == 1
        known = swarm_of(torrent).peerlist.get(listener.address)
        assert known is not None
        assert known.connected, "it is not dialled again while the other conversation lasts"
        await theirs.close()
