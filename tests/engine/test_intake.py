"""The intake with its disk, and peers that are a few lines: who is banned, what memory it costs, what a stop keeps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from hashlib import sha1
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from bitarray import bitarray
from bitarray.util import zeros

from fakes import stage
from fakes.peer import soon
from fakes.stage import turns
from unchoke.engine.disk import Disk
from unchoke.engine.download import Download
from unchoke.engine.intake import Intake
from unchoke.engine.partials import MOST_BLOCKS
from unchoke.engine.pieces import TorrentDisk
from unchoke.engine.settings import DiskSettings
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.bandwidth import Limit
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.policy.pipeline import PipelineSettings
from unchoke.storage.base import Buffer
from unchoke.storage.memory import MemoryStorage
from unchoke.types import BLOCK_SIZE, Address, Block

pytestmark = pytest.mark.usefixtures("no_leaks")


class Wire:
    """What we say to a peer."""

    def __init__(self) -> None:
        self.we_interested = True
        self.they_choke = False
        self.fast = True
        self.asked: deque[Block] = deque()

    def send_requests(self, blocks: list[Block]) -> None:
        self.asked.extend(blocks)

    def send_cancel(self, block: Block) -> None:
        if block in self.asked:
            self.asked.remove(block)

    def send_interested(self, interested: bool) -> None:
        self.we_interested = interested


class Giver:
    """A peer that has everything, or ``pieces``. It answers when told, right or wrong."""

    def __init__(self, scene: Scene, host: str, pieces: bitarray | None, *, lies: bool) -> None:
        self.scene = scene
        self.address = Address(host, 6881)
        self.wire = Wire()
        self.down = Limit()
        self.download = Download(scene.layout.piece_count, PipelineSettings(least=scene.depth), 0.0)
        self.download.has_all = pieces is None
        if pieces is not None:
            self.download.pieces.bits |= pieces
        self.lies = lies

    def flush(self) -> None:
        pass

    def close(self, reason: str, *, fault: bool = False) -> None:
        raise AssertionError(f"closed: {reason}")

    def give(self, most: int = 4) -> int:
        """Answer some of what was asked; returns how many."""
        blocks: list[tuple[int, int, memoryview]] = []
        while self.wire.asked and len(blocks) < most:
            piece, begin, length = self.wire.asked.popleft()
            start = piece * self.scene.layout.piece_length + begin
            data = self.scene.data[start : start + length]
            blocks.append((piece, begin, memoryview(bytes(length) if self.lies else data)))
        self.scene.intake.sent(cast(Any, self), cast(Any, blocks))
        return len(blocks)

    def __repr__(self) -> str:
        return f"<Giver {self.address.host} [{len(self.wire.asked)} asked]>"


class Slowly:
    """An executor that runs a job when told to."""

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], object]] = deque()

    def submit(self, job: Callable[[], object], /) -> Future[object]:
        self.jobs.append(job)
        return Future()

    def shutdown(self, wait: bool = True) -> None:
        pass

    def run(self, most: int = 1 << 30) -> None:
        for _ in range(min(most, len(self.jobs))):
            self.jobs.popleft()()


class Full(MemoryStorage):
    """Takes ``takes`` writes."""

    takes = 1 << 30

    def write(self, start: int, data: Buffer) -> None:
        self.takes -= 1
        if self.takes < 0:
            raise NoSpaceError("disk full", "x")
        super().write(start, data)


class Scene:
    """A torrent of ``pieces`` pieces of ``blocks`` blocks, an intake that wants it, and its owner."""

    def __init__(
        self, pieces: int, blocks: int, *, write_buffer: int = 1 << 24, depth: int = 2, seed: int = 1, tail: int = 0
    ) -> None:
        length = blocks * BLOCK_SIZE
        self.data = b"".join(number.to_bytes(4, "big") * (BLOCK_SIZE // 4) for number in range(1, pieces * blocks + 1))[
            : pieces * length - tail
        ]
        self.layout = TorrentLayout(length, [FileEntry(("f",), len(self.data))])
        self.hashes = b"".join(sha1(self.data[at : at + length]).digest() for at in range(0, len(self.data), length))
        self.depth = depth
        self.slowly = Slowly()
        self.disk = Disk(DiskSettings(write_buffer=write_buffer, threads=1), executor=cast(Any, self.slowly))
        self.storage = Full(self.layout)
        self.peers: dict[Any, None] = {}
        self.is_closed = False
        self.banned: list[str] = []
        self.wrong: list[tuple[str, ...]] = []
        self.errors: list[StorageError] = []
        self.chance = Random(seed)
        self.start()

    def start(self, have: bitarray | None = None, wanted: bitarray | None = None) -> None:
        """As after a restart of the session."""
        self.torrent: TorrentDisk = self.disk.torrent(self.storage, self.layout, self.hashes)
        self.picker = PiecePicker(
            self.layout, self.chance, settings=PickerSettings(sequential=True), have=have, wanted=wanted
        )
        self.intake = Intake(
            self,
            self.layout,
            self.torrent,
            self.picker,
            down=Limit(),
            clock=lambda: 0.0,
            call_later=lambda delay, call: asyncio.get_running_loop().call_soon(call),
        )

    def peer(self, host: str = "192.0.2.1", pieces: bitarray | None = None, *, lies: bool = False) -> Giver:
        peer = Giver(self, host, pieces, lies=lies)
        self.peers[peer] = None
        self.picker.add_peer(pieces)
        return peer

    def leave(self, peer: Giver) -> None:
        del self.peers[peer]
        self.intake.stop_asking(cast(Any, peer), 0.0)
        self.picker.remove_peer(peer.download.bits)
        self.intake.drop_untouched()

    @property
    def stored(self) -> bytes:
        return bytes(self.storage.data or b"")

    # IntakeOwner

    def count_redundant(self, peer: object) -> None:
        pass

    def piece_good(self, piece: int) -> None:
        pass

    def piece_wrong(self, piece: int, givers: tuple[Address, ...]) -> None:
        self.wrong.append(tuple(giver.host for giver in givers))

    def ban(self, address: Address, reason: str) -> None:
        self.banned.append(address.host)
        for peer in [peer for peer in self.peers if peer.address.host == address.host]:
            self.leave(peer)

    def storage_failed(self, error: StorageError) -> None:
        self.errors.append(error)
        self.is_closed = True

    def refill_all(self) -> None:
        for peer in list(self.peers):
            self.intake.refill(peer, 0.0)

    # what happens

    async def work(self) -> None:
        """The disk does all it has to."""
        for _ in range(8):
            await turns(2)
            self.slowly.run()
        await turns(2)

    async def complete(self, *, disk_jobs: int = 1 << 30, rounds: int = 20_000) -> None:
        """Peers answer in random order until everything is there."""
        for _ in range(rounds):
            if self.picker.is_done:
                return
            given = 0
            for peer in self.chance.sample(list(self.peers), len(self.peers)):
                if peer in self.peers:
                    self.intake.refill(peer, 0.0)
                    given += peer.give(self.chance.randrange(1, 4))
            self.slowly.run(disk_jobs)
            await turns(2)
        raise AssertionError(f"it does not end: {self.intake} {self.torrent} {self.disk} {self.picker}")

    async def aclose(self) -> None:
        """The end, at which nothing may be left."""
        self.is_closed = True
        self.torrent.close()
        await self.work()
        await soon(self.torrent.flush())
        assert (self.disk.reserved, self.disk.spill.unwritten, self.disk.finishing) == (0, 0, 0)
        await self.disk.aclose()


def host(number: int) -> str:
    return f"192.0.2.{number}"


# ---------------------------------------------------------------------- liars


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("write_buffer", [3 * 16 * BLOCK_SIZE, 1 << 24, 0], ids=["shared", "memory", "spilled"])
async def test_a_liar_among_fifty_is_found_within_a_few_failures_and_only_it(seed: int, write_buffer: int) -> None:
    scene = Scene(60, 16, write_buffer=write_buffer, seed=seed)
    scene.peer(host(99), lies=True)
    for number in range(1, 51):
        scene.peer(host(number))
    await scene.complete()
    assert scene.banned == [host(99)]
    assert len(scene.wrong) <= 6, scene.wrong
    assert scene.stored == scene.data
    await scene.aclose()


async def test_five_liars_among_twenty() -> None:
    scene = Scene(40, 16, write_buffer=4 * 16 * BLOCK_SIZE)
    for number in range(1, 21):
        scene.peer(host(number), lies=number % 4 == 0)
    await scene.complete()
    assert sorted(scene.banned) == sorted(host(number) for number in range(4, 21, 4))
    assert scene.stored == scene.data
    await scene.aclose()


async def test_two_who_ruin_every_piece_together_are_told_apart() -> None:
    """There is nobody else, so that no good copy comes: a piece of one's own convicts the liar."""
    scene = Scene(3, 8, write_buffer=8 * BLOCK_SIZE)
    scene.peer(host(1))
    scene.peer(host(2), lies=True)
    await scene.complete()
    assert scene.banned == [host(2)]
    await scene.aclose()


async def test_a_failed_piece_is_fetched_from_several_again() -> None:
    scene = Scene(1, 8, depth=2)
    first, second = scene.peer(host(1), lies=True), scene.peer(host(2))
    for peer in (first, second):
        scene.intake.refill(cast(Any, peer), 0.0)
    while not scene.wrong:
        for peer in (first, second):
            peer.give(1)
            scene.intake.refill(cast(Any, peer), 0.0)
        await scene.work()
    third, fourth = scene.peer(host(3)), scene.peer(host(4))
    scene.leave(first)
    scene.leave(second)
    for peer in (third, fourth):
        scene.intake.refill(cast(Any, peer), 0.0)
    assert third.wire.asked
    assert fourth.wire.asked
    await scene.complete()
    assert scene.banned == [host(1)], "it has left, and its host is known"
    await scene.aclose()


# ---------------------------------------------------------------------- memory


async def test_pieces_of_16_mib_from_a_hundred_peers_stay_within_the_budget() -> None:
    """A disk that does one job a round, and a budget of one such piece: what does not fit goes through the spill."""
    scene = Scene(3, 1024, depth=16)
    for number in range(1, 101):
        scene.peer(host(number))
    await scene.complete(disk_jobs=1)
    assert scene.stored == scene.data
    assert scene.disk.peak <= scene.disk.settings.write_buffer + scene.disk.spill.capacity
    assert scene.disk.peak > scene.disk.settings.write_buffer, "some of it was spilled"
    assert scene.intake.wasted < len(scene.data) // 10
    await scene.aclose()


async def test_without_memory_many_small_pieces_still_come() -> None:
    scene = Scene(60, 4, write_buffer=0, tail=10_000)
    for number in range(1, 20):
        scene.peer(host(number))
    await scene.complete(disk_jobs=1)
    assert scene.stored == scene.data
    assert scene.disk.reserved == 0
    await scene.aclose()


async def test_a_disk_that_stands_still_stops_the_asking_and_nothing_is_lost() -> None:
    scene = Scene(2, 512, write_buffer=0, depth=64)
    peers = [scene.peer(host(number)) for number in range(1, 11)]
    for _ in range(200):
        for peer in peers:
            scene.intake.refill(cast(Any, peer), 0.0)
            peer.give(8)
        await turns(1)
    assert scene.disk.peak <= scene.disk.spill.capacity
    assert not any(peer.wire.asked for peer in peers)
    await scene.complete()
    assert scene.stored == scene.data
    await scene.aclose()


async def test_what_comes_when_there_is_no_room_is_asked_again() -> None:
    """Answers to questions that were let go come on top of all that was reckoned with."""
    scene = Scene(1, 512, write_buffer=0, depth=500)
    late = [scene.peer(host(number)) for number in range(1, 31)]
    for peer in late:
        scene.intake.refill(cast(Any, peer), 0.0)
        scene.intake.stop_asking(cast(Any, peer), 0.0)
    for peer in late:
        while peer.wire.asked:
            peer.give(50)
    assert scene.disk.peak <= scene.disk.spill.capacity
    await scene.complete()
    assert scene.stored == scene.data
    await scene.aclose()


async def test_pieces_of_the_dead_slow_hold_up_nobody() -> None:
    """Each of six has a piece that nobody else has and gives nothing; the seventh has the rest, and gives it."""
    scene = Scene(10, 4, write_buffer=4 * BLOCK_SIZE)
    for number in range(6):
        only = zeros(10, "big")
        only[number] = 1
        slow = scene.peer(host(number + 1), only)
        scene.intake.refill(cast(Any, slow), 0.0)
        assert slow.wire.asked
    rest = zeros(10, "big")
    rest[6:] = 1
    quick = scene.peer(host(9), rest)
    for _ in range(100):
        scene.intake.refill(cast(Any, quick), 0.0)
        quick.give()
        await scene.work()
    assert scene.picker.have == rest
    await scene.aclose()


async def test_a_block_that_cannot_be_written_fails_the_torrent_and_leaves_nothing() -> None:
    scene = Scene(2, 8, write_buffer=0)
    peer = scene.peer()
    scene.storage.takes = 2
    for _ in range(20):
        scene.intake.refill(cast(Any, peer), 0.0)
        peer.give()
        await scene.work()
        if scene.errors:
            break
    assert {type(error) for error in scene.errors} == {NoSpaceError}
    assert not scene.picker.is_done
    await scene.aclose()


# ---------------------------------------------------------------------- selection


async def test_what_is_not_wanted_any_more_is_not_asked_for() -> None:
    scene = Scene(4, 4, depth=16)
    peer = scene.peer()
    scene.intake.refill(cast(Any, peer), 0.0)
    peer.give(6)
    assert {block.piece for block in peer.wire.asked} == {1, 2, 3}
    await scene.work()
    reserved = scene.disk.reserved
    wanted = bitarray("1001", endian="big")
    scene.intake.select(wanted)
    assert {block.piece for block in peer.wire.asked} == {3}
    assert scene.disk.reserved == reserved - 2 * 4 * BLOCK_SIZE
    await scene.complete()
    assert scene.picker.have == wanted
    await scene.aclose()


async def test_interest_follows_the_selection() -> None:
    scene = Scene(4, 2)
    half = bitarray("1100", endian="big")
    peer = scene.peer(pieces=half)
    scene.intake.select(~half)
    assert [peer.wire.we_interested] == [False]
    scene.intake.select(half, high=bitarray("0100", endian="big"))
    assert peer.wire.we_interested
    await scene.work()
    assert peer.wire.asked[0].piece == 1
    await scene.aclose()


async def test_a_spilled_piece_that_is_dropped_and_wanted_again_comes_right() -> None:
    scene = Scene(2, 8, write_buffer=0, depth=4)
    peer = scene.peer()
    scene.intake.refill(cast(Any, peer), 0.0)
    peer.give(3)
    scene.intake.select(bitarray("01", endian="big"))
    scene.intake.select(bitarray("11", endian="big"))
    await scene.complete()
    assert scene.stored == scene.data
    await scene.aclose()


# ---------------------------------------------------------------------- stop and start


@pytest.mark.parametrize("write_buffer", [1 << 24, 0, 5 * BLOCK_SIZE], ids=["memory", "spilled", "both"])
async def test_what_is_held_at_a_stop_is_not_fetched_again(write_buffer: int) -> None:
    scene = Scene(5, 4, write_buffer=write_buffer, depth=8, tail=100)
    peers = [scene.peer(host(number)) for number in range(1, 5)]
    for peer in peers:
        scene.intake.refill(cast(Any, peer), 0.0)
    given = sum(peer.give(3) for peer in peers)
    saving = asyncio.create_task(scene.intake.save_partials())
    await scene.work()
    saved = await soon(saving)
    held = {piece: bitarray(bits, endian="big") for piece, bits in saved.items()}
    kept = sum(bits.count(1) for bits in held.values()) + 4 * scene.picker.have.count(1)
    assert kept == given
    for piece, bits in held.items():
        for number in bits.search(1):
            start = piece * 4 * BLOCK_SIZE + number * BLOCK_SIZE
            size = len(scene.data[start : start + BLOCK_SIZE])
            assert scene.stored[start : start + size] == scene.data[start : start + BLOCK_SIZE]
    assert not any(peer.wire.asked for peer in peers), "what was asked is cancelled"
    scene.intake.refill(cast(Any, peers[0]), 0.0)
    assert not peers[0].wire.asked, "and nothing is asked any more"
    assert scene.disk.reserved == 0

    scene.peers.clear()
    scene.start(have=scene.picker.have)
    scene.intake.take_up(saved)
    fresh = scene.peer(host(7))
    await scene.complete()
    assert scene.stored == scene.data
    assert fresh.download.pipeline.rate.total == len(scene.data) - kept * BLOCK_SIZE
    await scene.aclose()


async def test_pieces_that_lie_there_whole_need_no_peer() -> None:
    scene = Scene(2, 9, tail=5000)
    scene.storage.write(0, scene.data)
    scene.intake.take_up({0: b"\xff\x80", 1: b"\xff\x80"})
    await scene.work()
    assert scene.picker.is_done
    await scene.aclose()


async def test_what_is_not_right_any_more_is_fetched_again_and_blames_nobody() -> None:
    scene = Scene(2, 8)
    scene.storage.write(0, bytes(len(scene.data)))
    scene.intake.take_up({0: b"\x80", 1: b"\xff"})
    scene.peer()
    await scene.complete()
    assert scene.stored == scene.data
    assert sorted(scene.wrong) == [(), (host(1),)]
    assert scene.banned == []
    await scene.aclose()


@pytest.mark.parametrize(
    "record",
    [{-1: b"\x80"}, {3: b"\x80"}, {0: b""}, {0: b"\x80\x00"}, {0: b"\xc0\x00\x00"}, {0: b"\x00\x00"}, {0: b"\x00\x01"}],
)
async def test_records_that_make_no_sense_are_forgotten(record: dict[int, bytes]) -> None:
    scene = Scene(3, 9 if record.get(0, b"") != b"\x80\x00" else 4)
    scene.intake.take_up(record)
    assert not scene.picker.open
    assert not scene.torrent.spilled
    await scene.aclose()


async def test_what_we_have_or_do_not_want_is_not_taken_up() -> None:
    scene = Scene(3, 4)
    scene.start(have=bitarray("100", endian="big"), wanted=bitarray("101", endian="big"))
    scene.intake.take_up({0: b"\x80", 1: b"\x80", 2: b"\x80"})
    assert list(scene.picker.open) == list(scene.torrent.spilled) == [2]
    await scene.aclose()


async def test_a_record_of_everything_is_not_all_taken_up() -> None:
    length = 1024 * BLOCK_SIZE
    layout = TorrentLayout(length, [FileEntry(("f",), 1000 * length)])
    scene = Scene(1, 1)
    scene.layout, scene.storage = layout, Full(layout)
    scene.start()
    scene.intake.take_up({piece: b"\x80" + bytes(127) for piece in range(1000)})
    assert len(scene.picker.open) == MOST_BLOCKS // 1024
    await scene.aclose()


async def test_a_full_disk_at_the_stop_keeps_what_it_can(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(3, 4, depth=12)
    peer = scene.peer()
    scene.intake.refill(cast(Any, peer), 0.0)
    for piece in range(3):
        peer.wire.asked = deque(block for block in peer.wire.asked if block.begin)
        assert peer.wire.asked[0].piece == piece
        peer.give(3)
    scene.storage.takes = 2
    saving = asyncio.create_task(scene.intake.save_partials())
    await scene.work()
    assert await soon(saving) == {0: b"\x70", 1: b"\x70"}
    assert "piece 2 cannot be kept" in caplog.text
    assert scene.disk.reserved == 0
    await scene.aclose()


async def test_a_stop_that_is_cancelled_gives_the_memory_back() -> None:
    scene = Scene(2, 4)
    peer = scene.peer()
    scene.intake.refill(cast(Any, peer), 0.0)
    peer.give(1)
    saving = asyncio.create_task(scene.intake.save_partials())
    await turns(2)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    await scene.aclose()


# ---------------------------------------------------------------------- everything at once


def some(chance: Random, of: str) -> bitarray:
    """24 pieces, each drawn."""
    return bitarray("".join(chance.choices(of, k=24)), endian="big")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("write_buffer", [3 * 8 * BLOCK_SIZE, 0], ids=["little memory", "no memory"])
async def test_peers_come_go_and_lie_and_the_selection_changes_while_the_disk_is_slow(
    seed: int, write_buffer: int
) -> None:
    scene = Scene(24, 8, write_buffer=write_buffer, seed=seed, depth=4, tail=20_000)
    chance = scene.chance
    hosts = iter(range(1, 10_000))
    liars = set()
    everything = scene.picker.wanted.copy()
    for turn in range(150):
        if chance.random() < 0.3 and len(scene.peers) < 12:
            name = f"198.51.{next(hosts)}"
            lies = chance.random() < 0.1
            pieces = None if chance.random() < 0.5 else some(chance, "01")
            scene.peer(name, pieces, lies=lies)
            liars |= {name} if lies else set()
        if chance.random() < 0.1 and scene.peers:
            scene.leave(chance.choice(list(scene.peers)))
        if chance.random() < 0.1:
            scene.intake.select(some(chance, "0111"), some(chance, "01"))
        for peer in chance.sample(list(scene.peers), len(scene.peers)):
            if peer in scene.peers:
                scene.intake.refill(cast(Any, peer), 0.0)
                peer.give(chance.randrange(6))
        if turn % 3 == 0:
            scene.slowly.run(chance.randrange(3))
        await turns(1)
        assert scene.disk.reserved <= write_buffer
        assert scene.disk.peak <= write_buffer + scene.disk.spill.capacity
    scene.intake.select(everything)
    for peer in list(scene.peers):
        scene.leave(peer)
    for _ in range(3):
        scene.peer(f"198.51.{next(hosts)}")
    await scene.complete(disk_jobs=2)
    assert scene.stored == scene.data
    assert set(scene.banned) <= liars
    assert len(scene.banned) == len(set(scene.banned))
    await scene.aclose()


class AtOnce:
    """An executor without threads, as a simulation has it."""

    def submit(self, job: Callable[[], object], /) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(job())
        return done

    def shutdown(self, wait: bool = True) -> None:
        raise AssertionError("it belongs to whoever gave it")


@pytest.mark.parametrize("write_buffer", [1 << 24, 0], ids=["memory", "spilled"])
async def test_it_needs_no_threads(write_buffer: int) -> None:
    scene = Scene(6, 8)
    scene.disk = Disk(DiskSettings(write_buffer=write_buffer), executor=cast(Any, AtOnce()))
    scene.start()
    for number in range(1, 5):
        scene.peer(host(number), lies=number == 2)
    await scene.complete()
    assert scene.stored == scene.data
    assert set(scene.banned) <= {host(2)}
    await scene.aclose()


# ---------------------------------------------------------------------- with real files, threads and sockets


async def test_sessions_without_memory_exchange_through_the_files(tmp_path: Path) -> None:
    what = stage.sample(files={"a": 5 * stage.PIECE + 77, "b": 3, "c": 2 * stage.PIECE}, name="spilled")
    settings = stage.tuned(disk=DiskSettings(write_buffer=stage.PIECE - 1))
    async with stage.session() as seed, stage.session(settings) as leech, stage.session(settings, seed=3) as other:
        await stage.seeder(seed, what, tmp_path / "seed")
        peers = [stage.address_of(seed), stage.address_of(leech)]
        torrents = [
            await session.add(what.torrent, folder=tmp_path / name, peers=peers)
            for name, session in (("leech", leech), ("other", other))
        ]
        for torrent in torrents:
            await soon(torrent.done())
        assert leech.disk.peak
        for session in (leech, other):
            assert (session.disk.reserved, session.disk.spill.unwritten) == (0, 0)
    what.assert_in(tmp_path / "leech")
    what.assert_in(tmp_path / "other")
