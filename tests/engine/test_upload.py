"""Serving, seen by the peers that ask: every request has exactly one answer, and one that does not read hurts nobody."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, PLAIN, FakePeer, frame, request, soon
from fakes.stage import PIECE, Sample, swarm_of
from unchoke.engine.disk import READ_SIZE
from unchoke.engine.peer import Peer
from unchoke.engine.session import Session
from unchoke.engine.torrent import Torrent
from unchoke.errors import StorageError
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.messages import Kind
from unchoke.testing import Frame
from unchoke.types import BLOCK_SIZE

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample(8 * PIECE - 1000)
#: A byte a second: one block is let through, then nothing for hours.
TRICKLE = stage.tuned(bandwidth=BandwidthSettings(up=1))


@dataclass
class Seed:
    session: Session
    torrent: Torrent
    what: Sample = WHAT

    async def peer(self, host: str = "127.0.0.2", reserved: Reserved = FAST) -> FakePeer:
        """One that is interested, and unchoked."""
        peer = await FakePeer.dial(self.session.port(), self.torrent.infohash, host=host, reserved=reserved)
        peer.send(m.INTERESTED)
        await peer.until(Kind.UNCHOKE)
        return peer

    @property
    def ours(self) -> Peer:
        """Our end of the only conversation."""
        (peer,) = swarm_of(self.torrent).peers
        return peer

    def blocks(self) -> list[tuple[int, int, int]]:
        layout = self.torrent.metainfo.layout
        return [(*block,) for piece in range(layout.piece_count) for block in layout.blocks(piece)]

    def lift_limit(self) -> None:
        self.session.limit(up=0)
        swarm_of(self.torrent).refill_all()

    def choke_all(self) -> None:
        swarm_of(self.torrent).giving.apply({}, self.session.now())


@pytest.fixture
async def seed(tmp_path: Path) -> AsyncIterator[Seed]:
    async with stage.session() as session:
        yield Seed(session, await stage.seeder(session, WHAT, tmp_path))


@pytest.fixture
async def trickling(tmp_path: Path) -> AsyncIterator[Seed]:
    async with stage.session(TRICKLE) as session:
        yield Seed(session, await stage.seeder(session, WHAT, tmp_path))


def data_of(got: Frame) -> bytes:
    return got.body[8:]


async def answers(peer: FakePeer, count: int) -> list[Frame]:
    """The next ``count`` pieces and rejects."""
    found: list[Frame] = []
    while len(found) < count:
        got = await peer.read()
        assert got is not None
        if got.kind in (Kind.PIECE, Kind.REJECT):
            found.append(got)
    return found


async def settled(peer: FakePeer, seed: Seed) -> None:
    """What was sent so far was answered: a request that is refused at once comes back behind it."""
    seed.choke_all()
    await peer.until(Kind.CHOKE)


# ---------------------------------------------------------------------- what is asked is given


async def test_every_block_asked_for_comes_once_and_right(seed: Seed) -> None:
    async with await seed.peer() as peer:
        assert peer.frames[0].kind == Kind.HAVE_ALL
        asked = seed.blocks()
        peer.send(m.encode_requests(asked))
        got = await answers(peer, len(asked))
        assert Counter(each.block for each in got) == Counter(asked)
        for each in got:
            start = each.block[0] * PIECE + each.block[1]
            assert data_of(each) == WHAT.data[start : start + each.block[2]]
        assert seed.torrent.snapshot().uploaded == len(WHAT.data)


@pytest.mark.parametrize("length", [1, 100, BLOCK_SIZE + 1, PIECE])
async def test_any_length_up_to_the_piece(seed: Seed, length: int) -> None:
    async with await seed.peer() as peer:
        peer.send(request(1, PIECE - length, length))
        (got,) = await answers(peer, 1)
        assert data_of(got) == WHAT.data[2 * PIECE - length : 2 * PIECE]


async def test_when_the_page_cache_says_no_a_thread_reads(seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    from unchoke.storage.files import FileStorage

    monkeypatch.setattr(FileStorage, "try_read_into", lambda self, start, buffer: False)
    async with await seed.peer() as peer:
        asked = seed.blocks()[::-1]
        peer.send(m.encode_requests(asked))
        got = await answers(peer, len(asked))
        assert [each.block for each in got] == asked
        assert b"".join(data_of(each) for each in got[::-1]) == WHAT.data


async def test_asked_twice_is_answered_twice(seed: Seed) -> None:
    async with await seed.peer() as peer:
        peer.send(request(0, 0, 100) * 2)
        assert [each.block for each in await answers(peer, 2)] == [(0, 0, 100)] * 2


# ---------------------------------------------------------------------- what cannot be given is rejected


async def test_a_request_while_choked_is_rejected(seed: Seed) -> None:
    async with await FakePeer.dial(seed.session.port(), seed.torrent.infohash) as peer:
        peer.send(request(0, 0, 100), request(1, 0, 100))
        assert [each.block for each in await answers(peer, 2)] == [(0, 0, 100), (1, 0, 100)]
        assert Kind.PIECE not in [each.kind for each in peer.frames]


async def test_a_piece_we_lack_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "sample").write_bytes(WHAT.data[:PIECE])
    async with stage.session() as session:
        seed = Seed(session, await stage.leecher(session, WHAT, tmp_path))
        async with await seed.peer() as peer:
            assert peer.frames[0].kind == Kind.BITFIELD
            peer.send(request(1, 0, 100), request(0, 0, 100))
            got = await answers(peer, 2)
            assert {each.block: each.kind for each in got} == {(1, 0, 100): Kind.REJECT, (0, 0, 100): Kind.PIECE}


async def test_when_we_choke_what_waits_is_rejected(trickling: Seed) -> None:
    async with await trickling.peer() as peer:
        asked = trickling.blocks()
        peer.send(m.encode_requests(asked))
        first = await answers(peer, 1)
        trickling.choke_all()
        rest = await answers(peer, len(asked) - 1)
        assert first[0].kind == Kind.PIECE
        assert {each.kind for each in rest} == {Kind.REJECT}
        assert Counter(each.block for each in first + rest) == Counter(asked)


async def test_without_the_fast_extension_silence_is_the_answer(trickling: Seed) -> None:
    async with await trickling.peer(reserved=PLAIN) as peer:
        peer.send(m.encode_requests(trickling.blocks()))
        await answers(peer, 1)
        trickling.choke_all()
        await peer.until(Kind.CHOKE)
        trickling.lift_limit()
        trickling.ours.close("enough")
        await peer.ended()
        assert [each.kind for each in peer.frames].count(Kind.PIECE) == 1
        assert Kind.REJECT not in [each.kind for each in peer.frames]


async def test_a_cancel_is_answered_once_too(trickling: Seed) -> None:
    async with await trickling.peer() as peer:
        asked = trickling.blocks()
        peer.send(m.encode_requests(asked))
        got = await answers(peer, 1)
        never_asked = (0, 1, 1)
        for each in [*asked[:6], *asked[:6], never_asked]:
            peer.send(m.encode_cancel(each))
        got += await answers(peer, 5)  # the first was sent already
        assert [each.kind for each in got] == [Kind.PIECE] + [Kind.REJECT] * 5
        trickling.lift_limit()
        got += await answers(peer, len(asked) - 6)
        await settled(peer, trickling)
        assert Counter(each.block for each in got) == Counter(asked)
        assert sum(each.kind in (Kind.PIECE, Kind.REJECT) for each in peer.frames) == len(asked)


async def test_more_than_we_queue_is_rejected(trickling: Seed) -> None:
    from unchoke.engine.upload import MOST_REQUESTS

    async with await trickling.peer() as peer:
        peer.send(request(0, 0, 100) * (MOST_REQUESTS + 500))
        await soon(peer.take(Kind.REJECT, 400))
        assert len(trickling.ours.upload.queue) <= MOST_REQUESTS


async def test_data_that_is_gone_is_rejected_and_the_torrent_says_so(tmp_path: Path) -> None:
    async with stage.session() as session:
        seed = Seed(session, await stage.seeder(session, WHAT, tmp_path))
        os.truncate(tmp_path / "sample", PIECE)
        async with await seed.peer() as peer:
            peer.send(request(3, 0, BLOCK_SIZE))
            assert (await answers(peer, 1))[0].kind == Kind.REJECT
            await peer.ended()
        with pytest.raises(StorageError, match="sample"):
            await soon(seed.torrent.failed())
        assert seed.torrent.state == "error"
        seed.what.write_to(tmp_path)
        await seed.torrent.start()
        await soon(seed.torrent.done())


# ---------------------------------------------------------------------- one that does not read


async def test_one_that_does_not_read_holds_one_batch_and_nobody_up(tmp_path: Path) -> None:
    what = stage.sample(1 << 20, piece_length=1 << 18)
    async with stage.session() as session:
        seed = Seed(session, await stage.seeder(session, what, tmp_path), what)
        async with await seed.peer() as deaf:
            sock = deaf._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf._reader._transport.pause_reading()  # type: ignore[attr-defined]
            ours = seed.ours
            for _ in range(8):  # 8 MiB: more than the kernel takes
                deaf.send(m.encode_requests(seed.blocks() * 2))
            await stage.until(lambda: ours.unsent and len(ours.upload.queue) > 100)
            assert ours.unsent <= READ_SIZE + 64 * 1024
            async with await seed.peer("127.0.0.3") as other:
                other.send(m.encode_requests(seed.blocks()))
                got = await answers(other, len(seed.blocks()))
                assert b"".join(data_of(each) for each in got) == what.data
            assert ours.unsent <= READ_SIZE + 64 * 1024
            ours.close("seen enough")


async def test_not_interested_makes_room_for_another(tmp_path: Path) -> None:
    from unchoke.policy.choker import ChokerSettings

    async with stage.session(stage.tuned(choker=ChokerSettings(slots=1))) as session:
        seed = Seed(session, await stage.seeder(session, WHAT, tmp_path))
        async with (
            await seed.peer() as first,
            await FakePeer.dial(session.port(), seed.torrent.infohash, host="127.0.0.3") as second,
        ):
            second.send(m.INTERESTED)
            await second.until(Kind.HAVE_ALL)
            first.send(frame(Kind.NOT_INTERESTED))
            await second.until(Kind.UNCHOKE)
            await first.until(Kind.CHOKE)
