"""The swarm, seen by its peers over real TCP: whom it asks for what, what it takes, and that everybody completes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, PLAIN, FakePeer, block, frame, soon
from fakes.stage import PIECE, Sample, swarm_of
from unchoke.bitfield import Bitfield
from unchoke.engine.download import FORGIVEN, GRACE
from unchoke.engine.events import PeerDisconnected, PieceCompleted, Subscription, TorrentCompleted
from unchoke.engine.session import Session
from unchoke.engine.swarm import Swarm
from unchoke.engine.torrent import Torrent
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.messages import Kind
from unchoke.types import BLOCK_SIZE

pytestmark = pytest.mark.usefixtures("no_leaks")

HAVE_ALL = frame(Kind.HAVE_ALL)
ONE = stage.sample(PIECE, name="one")
MANY = stage.sample(8 * PIECE - 5000, name="many")


@dataclass
class Leech:
    session: Session
    torrent: Torrent
    watching: Subscription
    what: Sample

    @property
    def swarm(self) -> Swarm:
        return swarm_of(self.torrent)

    async def peer(self, host: str, *, reserved: Reserved = FAST, has: bytes | None = None) -> FakePeer:
        """A peer that has everything (or sent ``has``), connected to us."""
        peer = await FakePeer.dial(self.session.port(), self.torrent.infohash, host=host, reserved=reserved)
        everything = HAVE_ALL if Reserved.FAST in reserved else m.encode_bitfield(self.full())
        peer.send(everything if has is None else has)
        return peer

    def full(self) -> Bitfield:
        return Bitfield(len(self.swarm.have), filled=True)

    def beat(self, later: float) -> None:
        """The heartbeat, as if so many seconds had passed."""
        self.swarm.heartbeat(self.session.now() + later)

    async def held(self, count: int) -> None:
        """Wait until so many blocks are in."""
        pieces = self.swarm.picker.open
        await stage.until(lambda: sum(list(p.states).count(255) for p in pieces.values()) == count)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Leech]:
    """A session that wants a torrent of one piece, of two blocks."""
    async with stage.session() as session:
        torrent = await stage.leecher(session, ONE, tmp_path)
        yield Leech(session, torrent, torrent.events(), ONE)


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Leech]:
    async with stage.session() as session:
        torrent = await stage.leecher(session, MANY, tmp_path)
        yield Leech(session, torrent, torrent.events(), MANY)


# ---------------------------------------------------------------------- asking


async def test_nothing_is_asked_of_one_that_chokes_us(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as peer:
        await peer.until(Kind.INTERESTED)
        one.beat(1)
        peer.send(m.UNCHOKE)
        await peer.take(Kind.REQUEST, 2)
        assert [got.kind for got in peer.frames].count(Kind.REQUEST) == 2


async def test_allowed_pieces_are_asked_for_while_choked(many: Leech) -> None:
    async with await many.peer("127.0.0.2") as peer:
        peer.send(m.encode_allowed_fast(3))
        asked = [got.block for got in await peer.take(Kind.REQUEST, 2)]
        assert {piece for piece, _, _ in asked} == {3}
        for each in asked:
            peer.answer(MANY.data, PIECE, each)
        assert (await stage.next_event(many.watching, PieceCompleted)).piece == 3
        many.beat(1)
        peer.send(m.UNCHOKE)
        assert (await peer.until(Kind.REQUEST)).block[0] != 3


async def test_an_allowed_piece_that_is_rejected_is_not_allowed(many: Leech) -> None:
    async with await many.peer("127.0.0.2") as peer:
        peer.send(m.encode_allowed_fast(3))
        for got in await peer.take(Kind.REQUEST, 2):
            peer.send(m.encode_reject(got.block))
        peer.send(m.encode_suggest(1) * 20)
        (ours,) = many.swarm.peers
        await stage.until(lambda: ours.redundant > 20)
        many.beat(100)
        assert not ours.download.outstanding


async def test_a_rejected_block_is_asked_of_another(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as first, await one.peer("127.0.0.3") as second:
        second.send(m.UNCHOKE)
        await second.until(Kind.INTERESTED)
        first.send(m.UNCHOKE)
        asked = [got.block for got in await first.take(Kind.REQUEST, 2)]
        first.answer(ONE.data, PIECE, asked[0])
        first.send(m.encode_reject(asked[1]))
        while (got := (await second.until(Kind.REQUEST)).block) != asked[1]:
            pass
        second.answer(ONE.data, PIECE, got)
        await soon(one.torrent.done())


async def test_rejects_do_not_spin(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as peer:
        peer.send(m.UNCHOKE)
        for got in await peer.take(Kind.REQUEST, 2):
            peer.send(m.encode_reject(got.block))
        (ours,) = one.swarm.peers
        await stage.until(lambda: ours.download.rejects == 2)
        peer.send(m.encode_suggest(0) * 50)  # each wakes us up
        await stage.until(lambda: ours.redundant >= 50)
        assert not ours.download.outstanding
        ours.download.paused_until = 0.0  # as if the pause were over
        one.beat(0)
        await peer.take(Kind.REQUEST, 2)


async def test_a_choke_without_the_fast_extension_frees_at_once(one: Leech) -> None:
    async with await one.peer("127.0.0.2", reserved=PLAIN) as first, await one.peer("127.0.0.3") as second:
        second.send(m.UNCHOKE)
        await second.until(Kind.INTERESTED)
        first.send(m.UNCHOKE)
        asked = [got.block for got in await first.take(Kind.REQUEST, 2)]
        first.send(m.CHOKE)
        await second.serve(ONE.data, PIECE, most=2)
        await soon(one.torrent.done())
        assert sorted(second.served) == sorted(asked)


async def test_with_it_the_rejects_free(many: Leech) -> None:
    async with await many.peer("127.0.0.2") as peer:
        peer.send(m.UNCHOKE)
        asked = (await peer.until(Kind.REQUEST)).block
        peer.send(m.CHOKE)
        (ours,) = many.swarm.peers
        await stage.until(lambda: ours.wire.they_choke)
        before = len(ours.download.outstanding)
        assert before
        peer.send(m.encode_reject(asked))
        await stage.until(lambda: len(ours.download.outstanding) == before - 1)


async def test_one_that_is_silent_gives_way_and_is_asked_for_little(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as slow:
        slow.send(m.UNCHOKE)
        await slow.take(Kind.REQUEST, 2)
        one.beat(one.session.settings.pipeline.timeout + 1)
        (ours,) = one.swarm.peers
        assert ours.download.pipeline.snubbed
        assert len(ours.download.outstanding) <= 1
        async with await one.peer("127.0.0.3") as fast:
            fast.send(m.UNCHOKE)
            await fast.serve(ONE.data, PIECE, most=2)
            await soon(one.torrent.done())


async def test_a_peer_that_leaves_in_the_middle_of_a_piece(many: Leech) -> None:
    """What it gave stays; only the rest is asked of the next."""
    async with await many.peer("127.0.0.2") as first:
        first.send(m.UNCHOKE)
        kept = (await first.until(Kind.REQUEST)).block
        first.answer(MANY.data, PIECE, kept)
        await many.held(1)
    await stage.next_event(many.watching, PeerDisconnected)
    async with await many.peer("127.0.0.3") as second:
        second.send(m.UNCHOKE)
        await second.serve(MANY.data, PIECE, most=15)
        await soon(many.torrent.done())
        assert kept not in second.served
        assert len(second.served) == 15


# ---------------------------------------------------------------------- late, and never asked


async def test_a_late_block_is_used_if_still_missing(one: Leech) -> None:
    """Choked meanwhile, without the fast extension: the questions were let go, the answers are on their way."""
    async with await one.peer("127.0.0.2", reserved=PLAIN) as peer:
        peer.send(m.UNCHOKE)
        asked = [got.block for got in await peer.take(Kind.REQUEST, 2)]
        peer.send(m.CHOKE)
        (ours,) = one.swarm.peers
        await stage.until(lambda: not ours.download.outstanding)
        for each in asked:
            peer.answer(ONE.data, PIECE, each)
        await soon(one.torrent.done())
        assert one.torrent.snapshot().wasted == 0


@pytest.mark.parametrize("reserved", [PLAIN, FAST], ids=["plain", "fast"])
async def test_a_late_block_is_dropped_if_not_and_never_punished(many: Leech, reserved: Reserved) -> None:
    async with await many.peer("127.0.0.2", reserved=reserved) as slow:
        slow.send(m.UNCHOKE)
        late = (await slow.until(Kind.REQUEST)).block
        (ours,) = many.swarm.peers
        many.beat(many.session.settings.pipeline.timeout + 1)
        async with await many.peer("127.0.0.3") as quick:
            quick.send(m.UNCHOKE)
            while late not in quick.served:
                quick.answer(MANY.data, PIECE, (await quick.until(Kind.REQUEST)).block)
            # The slow one may have been asked for this very block again; what it sends twice is let go at most once.
            await stage.until(lambda: not many.swarm.picker.needs(ours, late[0], late[1]))
            slow.answer(MANY.data, PIECE, late)
            await stage.until(lambda: many.torrent.snapshot().wasted == BLOCK_SIZE)
            assert ours in many.swarm.peers


async def test_after_two_minutes_it_was_never_asked(many: Leech) -> None:
    async with await many.peer("127.0.0.2") as slow:
        slow.send(m.UNCHOKE)
        late = [got.block for got in await slow.take(Kind.REQUEST, 8)]
        timeout = many.session.settings.pipeline.timeout + 1
        many.beat(timeout)
        many.beat(timeout + GRACE + 11)
        (ours,) = many.swarm.peers
        forgotten = next(each for each in late if (each[0], each[1]) not in ours.download.outstanding)
        slow.answer(MANY.data, PIECE, forgotten)
        assert "nobody asked for" in (await stage.next_event(many.watching, PeerDisconnected)).reason


async def test_without_the_fast_extension_a_few_unasked_blocks_are_forgiven(many: Leech) -> None:
    async with await many.peer("127.0.0.2", reserved=PLAIN) as peer:
        (ours,) = many.swarm.peers
        for _ in range(FORGIVEN):
            peer.send(block(0, 0, MANY.data[:BLOCK_SIZE]))
        await stage.until(lambda: ours.download.unasked == FORGIVEN)
        assert ours in many.swarm.peers
        assert many.torrent.snapshot().wasted == FORGIVEN * BLOCK_SIZE
        peer.send(block(0, 0, MANY.data[:BLOCK_SIZE]))
        assert "nobody asked for" in (await stage.next_event(many.watching, PeerDisconnected)).reason


async def test_an_answer_of_the_wrong_length_answers_nothing(one: Leech) -> None:
    async with await one.peer("127.0.0.2", reserved=PLAIN) as peer:
        peer.send(m.UNCHOKE)
        asked = [got.block for got in await peer.take(Kind.REQUEST, 2)]
        peer.send(block(asked[0][0], asked[0][1], bytes(100)))
        for each in asked:
            peer.answer(ONE.data, PIECE, each)
        await soon(one.torrent.done())


async def test_a_wrong_length_from_one_leaves_the_block_to_others(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as first:
        first.send(m.UNCHOKE)
        asked = [got.block for got in await first.take(Kind.REQUEST, 2)]
        first.send(block(asked[0][0], asked[0][1], bytes(100)))
        await stage.next_event(one.watching, PeerDisconnected)
        async with await one.peer("127.0.0.3") as second:
            second.send(m.UNCHOKE)
            await second.serve(ONE.data, PIECE, most=2)
            await soon(one.torrent.done())
            assert sorted(second.served) == sorted(asked)


async def test_in_the_endgame_two_are_asked_and_the_slower_hears_cancel(one: Leech) -> None:
    async with await one.peer("127.0.0.2") as slow, await one.peer("127.0.0.3") as quick:
        slow.send(m.UNCHOKE)
        asked = [got.block for got in await slow.take(Kind.REQUEST, 2)]
        quick.send(m.UNCHOKE)
        again = [got.block for got in await quick.take(Kind.REQUEST, 2)]
        assert sorted(again) == sorted(asked)
        for each in again:
            quick.answer(ONE.data, PIECE, each)
        cancelled = [got.block for got in await slow.take(Kind.CANCEL, 2)]
        assert sorted(cancelled) == sorted(asked)
        await soon(one.torrent.done())


# ---------------------------------------------------------------------- everybody completes

ALBUM = stage.sample(
    files={
        "a/long name.bin": 3 * PIECE + 1,
        "empty": 0,
        "a/b/tiny": 7,
        "c": 2 * PIECE + 4321,
        "z/empty too": 0,
        "d": 1,
    },
    name="album",
)


async def test_six_sessions_exchange_until_all_have_everything(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(stage.session(seed=number)) for number in range(6)]
        everyone = [stage.address_of(session) for session in sessions]
        await stage.seeder(sessions[0], ALBUM, tmp_path / "0")
        torrents = [
            await session.add(ALBUM.torrent, folder=tmp_path / str(number), peers=everyone)
            for number, session in enumerate(sessions[1:], 1)
        ]
        await soon(asyncio.gather(*(torrent.done() for torrent in torrents)))
    for number in range(6):
        ALBUM.assert_in(tmp_path / str(number))


async def test_leeches_give_to_each_other(tmp_path: Path) -> None:
    """Two have one half each and nobody has all: together they have."""
    what = stage.sample(8 * PIECE, name="halves")
    async with stage.session() as left, stage.session(seed=2) as right:
        for number, name in enumerate(("left", "right")):
            file = tmp_path / name / "halves"
            file.parent.mkdir()
            half = 4 * PIECE * number
            with file.open("wb") as out:
                out.seek(half)
                out.write(what.data[half : half + 4 * PIECE])
        one = await left.add(what.torrent, folder=tmp_path / "left")
        other = await right.add(what.torrent, folder=tmp_path / "right", peers=[stage.address_of(left)])
        watching = one.events()
        await soon(asyncio.gather(one.done(), other.done()))
        await stage.next_event(watching, TorrentCompleted)
        assert one.snapshot().downloaded == other.snapshot().downloaded == 4 * PIECE
        what.assert_in(tmp_path / "left")
        what.assert_in(tmp_path / "right")


async def test_it_says_who_it_is(many: Leech) -> None:
    async with await many.peer("127.0.0.2") as peer:
        await peer.until(Kind.INTERESTED)
        assert "1 peers" in repr(many.swarm)
        (ours,) = many.torrent.peers()
        assert (ours.address.host, ours.incoming, ours.progress) == ("127.0.0.2", True, 1.0)
        assert many.torrent.snapshot().why() == "1 peer, all choke us"
