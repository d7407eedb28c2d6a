"""The info dictionary as a running torrent gives it: whole, a few times over, at its rate, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import TypeVar

import pytest

from unchoke.engine.metadata_server import BURST, MOST_WAITING
from unchoke.engine.settings import Settings
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.protocol import extended, ut_metadata
from unchoke.protocol.messages import Kind
from unchoke.testing import FakePeer, elapsed, make_torrent, run, swarm
from unchoke.testing.fakemetadata import NUMBER, SPEAKS, hello
from unchoke.types import Address

TORRENT = make_torrent(3600 * 1024, piece_length=1024)  # its info dictionary has 5 parts
INFO = bytes(TORRENT.metainfo.info_bytes)
PARTS = ut_metadata.piece_count(len(INFO))
T = TypeVar("T")


class Asker:
    """A peer by script that asks a seed for metadata."""

    def __init__(self, peer: FakePeer) -> None:
        self.peer = peer
        self.theirs = extended.ExtendedHandshake()

    async def greet(self, number: int = NUMBER) -> None:
        hello(self.peer, 0, number)
        self.theirs = extended.decode_extended_handshake((await self.peer.until(Kind.EXTENDED)).body[1:])

    def ask(self, *parts: int) -> None:
        for part in parts:
            self.send(ut_metadata.Request(part).encode())

    def send(self, payload: bytes) -> None:
        self.peer.say(Kind.EXTENDED, bytes([self.theirs.extensions[ut_metadata.NAME]]) + payload)

    async def answers(self, count: int) -> list[ut_metadata.Data | ut_metadata.Reject]:
        found: list[ut_metadata.Data | ut_metadata.Reject] = []
        while len(found) < count:
            frame = await self.peer.until(Kind.EXTENDED)
            message = ut_metadata.decode(frame.body[1:]) if frame.body[0] == NUMBER else None
            if isinstance(message, ut_metadata.Data | ut_metadata.Reject):
                found.append(message)
        return found


def with_seed(play: Callable[[Asker], Awaitable[T]], **metadata: int) -> T:
    """``play`` with a peer of a seed, on virtual time."""

    async def scenario() -> T:
        settings = Settings(metadata=MetadataSettings(**metadata))
        async with swarm(TORRENT, leechers=0, up=float("inf"), settings=settings) as world:
            host = world.network.host("10.9.0.1")
            address: Address = world.seeds[0].address
            async with await FakePeer.dial(host, address, TORRENT.infohash, reserved=SPEAKS) as peer:
                return await play(Asker(peer))

    return run(scenario)


def test_the_whole_is_given_part_by_part() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        assert asker.theirs.metadata_size == len(INFO)
        asker.ask(*reversed(range(PARTS)))
        parts = await asker.answers(PARTS)
        assert [part.piece for part in parts] == list(reversed(range(PARTS)))
        assert all(isinstance(part, ut_metadata.Data) and part.total_size == len(INFO) for part in parts)
        whole = b"".join(bytes(part.payload) for part in reversed(parts) if isinstance(part, ut_metadata.Data))
        assert sha1(whole).digest() == TORRENT.infohash

    with_seed(play)


def test_what_there_is_not_is_rejected() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        asker.ask(PARTS, 10**9, 0)
        first, second, third = await asker.answers(3)
        assert [first, second] == [ut_metadata.Reject(PARTS), ut_metadata.Reject(10**9)]
        assert isinstance(third, ut_metadata.Data)

    with_seed(play)


def test_a_peer_is_given_it_so_often_and_no_more() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        for _ in range(4):
            asker.ask(*range(PARTS))
            await asyncio.sleep(10)
        answers = await asker.answers(4 * PARTS)
        assert all(isinstance(answer, ut_metadata.Data) for answer in answers[: 2 * PARTS])
        assert all(isinstance(answer, ut_metadata.Reject) for answer in answers[2 * PARTS :])

    with_seed(play, served=2)


def test_the_rate_holds_and_what_is_too_early_waits() -> None:
    rate = 4 * 1024

    async def play(asker: Asker) -> float:
        await asker.greet()
        began = elapsed()
        asker.ask(*range(PARTS), *range(PARTS))
        answers = await asker.answers(2 * PARTS)
        assert all(isinstance(answer, ut_metadata.Data) for answer in answers)
        return elapsed() - began

    # The last block may be owed, and goes at the heartbeat after its time.
    least = (2 * len(INFO) - 2 * ut_metadata.PIECE) / rate - BURST
    assert least <= with_seed(play, serve_rate=rate) <= 2 * len(INFO) / rate + 2


def test_more_than_a_row_of_requests_is_rejected_at_once() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        asker.ask(*[0] * (MOST_WAITING + 30))
        answers = await asker.answers(25)
        assert sum(isinstance(answer, ut_metadata.Reject) for answer in answers) >= 20

    with_seed(play, serve_rate=1, served=1000)


def test_a_flood_of_requests_ends_the_conversation() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        asker.ask(*[10**6] * 3000)
        await asker.peer.ended()

    with_seed(play)


def test_who_takes_its_share_is_no_flood() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        for turn in range(300):
            asker.ask(*range(PARTS))
            answers = await asker.answers(PARTS)
            assert all(isinstance(answer, ut_metadata.Data) for answer in answers), turn

    with_seed(play, served=1000, serve_rate=1 << 30)


@pytest.mark.parametrize(
    "payload",
    [b"", b"garbage", b"de", b"d8:msg_typei0e5:piecei-1ee", b"d8:msg_typei1e5:piecei0e10:total_sizei0ee", bytes(20000)],
)
def test_garbage_ends_the_conversation(payload: bytes) -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        asker.send(payload)
        await asker.peer.ended()

    with_seed(play)


def test_late_answers_and_unknown_messages_are_passed_over() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet()
        asker.send(ut_metadata.Data(0, 5, b"hello").encode())
        asker.send(ut_metadata.Reject(3).encode())
        asker.send(b"d8:msg_typei77ee")
        asker.ask(0)
        (answer,) = await asker.answers(1)
        assert answer == ut_metadata.Data(0, len(INFO), INFO[: ut_metadata.PIECE])

    with_seed(play)


def test_who_never_said_a_number_gets_no_answer() -> None:
    async def play(asker: Asker) -> None:
        await asker.greet(number=0)
        asker.ask(0)
        await asyncio.sleep(5)
        asker.peer.say(Kind.INTERESTED)
        await asker.peer.until(Kind.UNCHOKE)
        assert len([frame for frame in asker.peer.frames if frame.kind == Kind.EXTENDED]) == 1

    with_seed(play)


def test_a_peer_that_reads_nothing_holds_little() -> None:
    """It asks for as much as it may, and its line takes next to nothing."""

    async def scenario() -> None:
        generous = Settings(metadata=MetadataSettings(served=1000, serve_rate=1 << 30))
        async with swarm(TORRENT, leechers=0, up=float("inf"), settings=generous) as world:
            host = world.network.host("10.9.0.1", down=1000.0)
            address = world.seeds[0].address
            async with await FakePeer.dial(host, address, TORRENT.infohash, reserved=SPEAKS) as peer:
                asker = Asker(peer)
                await asker.greet()
                asker.ask(*[0] * (MOST_WAITING - 1))
                await asyncio.sleep(3)
                serving = world.seeds[0].torrent.swarm
                assert serving is not None
                (theirs,) = serving.peers
                assert theirs.unsent < 6 * ut_metadata.PIECE
                assert "1 peers have asked" in repr(serving.extensions[1])
            await asyncio.sleep(5)
            assert "0 peers have asked" in repr(serving.extensions[1])

    run(scenario)
