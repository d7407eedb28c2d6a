"""The disk: memory within its budget, every piece hears what became of it, and nothing is left at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha1
from typing import Any, cast

import pytest
from bitarray import bitarray

from fakes.peer import soon
from fakes.stage import turns
from unchoke.engine.disk import Disk
from unchoke.engine.pieces import LEAST_OPEN, READ_SIZE, TorrentDisk
from unchoke.engine.settings import DiskSettings
from unchoke.engine.verify import Outcome, Result
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.smartban import DIGEST_SIZE
from unchoke.storage.base import Buffer, MissingDataError, Storage
from unchoke.storage.memory import MemoryStorage
from unchoke.types import BLOCK_SIZE

pytestmark = pytest.mark.usefixtures("no_leaks")

LENGTH = 32 * 1024
DATA = bytes(range(256)) * 500  # 3 whole pieces and a short one
LAYOUT = TorrentLayout(LENGTH, [FileEntry((), len(DATA))])
HASHES = b"".join(sha1(DATA[at : at + LENGTH]).digest() for at in range(0, len(DATA), LENGTH))


class Later:
    """An executor that runs its jobs when told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    def submit(self, job: Callable[[], object], /) -> object:
        self.jobs.append(job)
        return None

    def shutdown(self, wait: bool = True) -> None:
        pass

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


class NoThreads:
    """An executor of a system that is out of threads."""

    def submit(self, job: Callable[[], object], /) -> object:
        raise RuntimeError("can't start new thread")

    def shutdown(self, wait: bool = True) -> None:
        pass


class Woken:
    """An owner that writes down what it hears."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def room_came(self) -> None:
        self.told.append(self.name)

    def write_failed(self, piece: int, error: StorageError) -> None:
        self.told.append(f"{self.name}: {piece} failed")


class Recording(MemoryStorage):
    """Writes down what is written: (start, length)."""

    def __init__(self) -> None:
        super().__init__(LAYOUT)
        self.writes: list[tuple[int, int]] = []

    def write(self, start: int, data: Buffer) -> None:
        self.writes.append((start, len(data)))
        super().write(start, data)


class Forgetful(MemoryStorage):
    """Somebody deletes the file as soon as it is written."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        raise MissingDataError("the file is missing", "x")


class Heard:
    """What became of pieces."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, Outcome, StorageError | None]] = []
        self.digests: list[bytes] = []

    def __call__(self, piece: int, result: Result) -> None:
        self.digests.append(result.digests)
        self.pieces.append((piece, result.outcome, result.error))


class Refusing(MemoryStorage):
    def __init__(self, error: Exception) -> None:
        super().__init__(LAYOUT)
        self.error = error

    def write(self, start: int, data: Buffer) -> None:
        raise self.error

    def read_into(self, start: int, buffer: memoryview) -> None:
        raise self.error

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        return False


def made(
    storage: MemoryStorage | None = None, *, write_buffer: int = 1 << 25, read_buffer: int = 1 << 24
) -> tuple[Disk, TorrentDisk, Later]:
    later = Later()
    disk = Disk(DiskSettings(write_buffer=write_buffer, read_buffer=read_buffer), executor=cast(Any, later))
    return disk, disk.torrent(storage or MemoryStorage(LAYOUT), LAYOUT, HASHES), later


def fill(torrent: TorrentDisk, piece: int, data: bytes = DATA) -> None:
    assert torrent.may_open(piece)
    part = data[piece * LENGTH : (piece + 1) * LENGTH]
    half = len(part) // 2
    torrent.put(piece, half, memoryview(part)[half:])
    torrent.put(piece, 0, memoryview(part)[:half])


async def test_a_good_piece_is_written_and_its_memory_comes_back() -> None:
    storage = MemoryStorage(LAYOUT)
    disk, torrent, later = made(storage)
    heard = Heard()
    for piece in range(LAYOUT.piece_count):
        fill(torrent, piece)
        torrent.finish(piece, heard)
    assert torrent.is_busy
    later.run()
    await soon(torrent.flush())
    assert heard.pieces == [(piece, Outcome.GOOD, None) for piece in range(LAYOUT.piece_count)]
    assert bytes(storage.data or b"") == DATA
    assert (disk.reserved, torrent.is_busy) == (0, False)
    await disk.aclose()


async def test_a_wrong_piece_is_not_written() -> None:
    storage = MemoryStorage(LAYOUT)
    disk, torrent, later = made(storage)
    heard = Heard()
    fill(torrent, 1, bytes(len(DATA)))
    torrent.finish(1, heard)
    later.run()
    await soon(torrent.flush())
    assert heard.pieces == [(1, Outcome.BAD, None)]
    assert storage.data is None
    assert disk.reserved == 0
    await disk.aclose()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(NoSpaceError("disk full", "x"), NoSpaceError), (RuntimeError("a bug"), StorageError)],
    ids=["full", "bug"],
)
async def test_a_refused_piece_hears_why(
    error: Exception, kind: type[StorageError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk, torrent, later = made(Refusing(error))
    heard = Heard()
    fill(torrent, 0)
    torrent.finish(0, heard)
    later.run()
    await soon(torrent.flush())
    ((_, outcome, reason),) = heard.pieces
    assert outcome is Outcome.FAILED
    assert isinstance(reason, kind)
    assert disk.reserved == 0

    read: list[StorageError | None] = []
    torrent.read(0, 100, lambda buffer, view, why: read.append(why))
    later.run()
    await turns(2)
    assert isinstance(read[0], kind)
    await disk.aclose()


async def test_the_budget_holds_and_what_does_not_fit_is_spilled() -> None:
    disk, torrent, _ = made(write_buffer=LENGTH)
    other = disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES)
    assert torrent.may_open(0)
    assert other.may_open(0)
    assert (list(torrent.spilled), list(other.spilled)) == ([], [0])
    torrent.drop(0)
    torrent.drop(0)
    assert other.may_open(1)
    assert disk.reserved == LENGTH
    torrent.close()
    other.close()
    assert (disk.reserved, other.spilled) == (0, {})
    assert disk.peak <= LENGTH
    await disk.aclose()


async def test_a_torrent_spills_only_until_a_few_pieces_are_open() -> None:
    data = bytes(10 * LENGTH)
    layout = TorrentLayout(LENGTH, [FileEntry((), len(data))])
    disk = Disk(DiskSettings(write_buffer=2 * LENGTH), executor=cast(Any, Later()))
    torrent = disk.torrent(MemoryStorage(layout), layout, bytes(200))
    assert [torrent.may_open(piece) for piece in range(5)] == [True] * LEAST_OPEN + [False]
    assert (torrent.refused, list(torrent.spilled)) == (True, [2, 3])
    assert torrent.may_open(5, urgent=True), "a peer that would idle goes round them"
    assert not torrent.may_open(6)
    torrent.close()
    await disk.aclose()


async def test_a_piece_being_written_still_counts() -> None:
    disk, torrent, later = made(write_buffer=2 * LENGTH)
    heard = Heard()
    fill(torrent, 0)
    torrent.finish(0, heard)
    assert torrent.may_open(1)
    assert torrent.may_open(2)
    assert (disk.reserved, list(torrent.spilled)) == (2 * LENGTH, [2])
    torrent.close()
    assert disk.reserved == LENGTH
    later.run()
    await soon(torrent.flush())
    assert disk.reserved == 0
    await disk.aclose()


async def test_buffers_of_one_length_make_room_for_another() -> None:
    layout = TorrentLayout(4 * LENGTH, [FileEntry((), 8 * LENGTH)])
    disk, torrent, _ = made(write_buffer=4 * LENGTH)
    for piece in range(3):
        assert torrent.may_open(piece)
    torrent.close()
    assert disk.held == 3 * LENGTH, "they are kept for the next pieces"
    large = disk.torrent(MemoryStorage(layout), layout, bytes(40))
    assert large.may_open(0)
    assert not large.spilled
    assert disk.held == disk.peak == 4 * LENGTH
    large.close()
    await disk.aclose()


async def test_whoever_waits_longest_hears_of_room_first() -> None:
    layout = TorrentLayout(LENGTH, [FileEntry((), 9 * LENGTH)])
    disk = Disk(DiskSettings(write_buffer=LENGTH), executor=cast(Any, Later()))
    holder = disk.torrent(MemoryStorage(layout), layout, bytes(180))
    assert holder.may_open(0)
    woken: list[str] = []
    waiting = []
    for name in ("first", "second", "gone"):
        torrent = disk.torrent(MemoryStorage(layout), layout, bytes(180))
        torrent.owner = Woken(name, woken)
        for piece in range(LEAST_OPEN):
            assert torrent.may_open(piece)
        waiting.append(torrent)
    for torrent in (waiting[2], waiting[0], waiting[1]):
        assert not torrent.may_open(8)
    waiting[2].close()
    holder.drop(0)
    await turns(2)
    assert woken == ["first"]
    assert holder.may_open(1)
    holder.drop(1)
    await turns(2)
    assert woken == ["first", "second"]
    for torrent in waiting:
        torrent.close()
    await disk.aclose()


async def test_a_job_that_fails_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    disk, torrent, later = made()
    heard = Heard()

    def broken() -> None:
        raise RuntimeError("a bug")

    disk.run(broken)
    fill(torrent, 0)
    torrent.finish(0, heard)
    later.run()
    await soon(torrent.flush())
    assert heard.pieces == [(0, Outcome.GOOD, None)]
    await disk.aclose()


async def test_without_threads_it_is_slow_and_right(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    storage = MemoryStorage(LAYOUT)
    disk = Disk(DiskSettings(), executor=cast(Any, NoThreads()))
    torrent = disk.torrent(storage, LAYOUT, HASHES)
    heard = Heard()
    for piece in range(LAYOUT.piece_count):
        fill(torrent, piece)
        torrent.finish(piece, heard)
    await soon(torrent.flush())
    assert bytes(storage.data or b"") == DATA
    read: list[bytes] = []
    torrent.read(0, 100, lambda buffer, view, why: read.append(bytes(view)))
    await turns(2)
    assert read == [DATA[:100]]
    await disk.aclose()


# ---------------------------------------------------------------------- digests


async def test_a_bad_piece_comes_with_the_digests_of_its_blocks_and_a_good_one_if_asked() -> None:
    disk, torrent, later = made()
    heard = Heard()
    for examine in (False, True):
        fill(torrent, 0)
        torrent.finish(0, heard, examine=examine)
        later.run()
        await soon(torrent.flush())
    wrong = bytearray(DATA)
    wrong[20_000] ^= 1
    fill(torrent, 0, bytes(wrong))
    torrent.finish(0, heard)
    later.run()
    await soon(torrent.flush())
    none, good, bad = heard.digests
    assert none == b""
    assert len(good) == len(bad) == 2 * DIGEST_SIZE
    assert good[:DIGEST_SIZE] == bad[:DIGEST_SIZE]
    assert good[DIGEST_SIZE:] != bad[DIGEST_SIZE:]
    await disk.aclose()


# ---------------------------------------------------------------------- spilled pieces


def spilling(storage: Storage | None = None) -> tuple[Disk, TorrentDisk, Later]:
    """A disk without memory for pieces."""
    later = Later()
    disk = Disk(DiskSettings(write_buffer=0), executor=cast(Any, later))
    return disk, disk.torrent(storage or MemoryStorage(LAYOUT), LAYOUT, HASHES), later


async def drained(later: Later) -> None:
    """Let the disk work until there is nothing to do."""
    for _ in range(6):
        await turns(2)
        later.run()
    await turns(2)


async def test_spilled_pieces_are_written_as_they_come_and_read_back() -> None:
    storage = MemoryStorage(LAYOUT)
    disk, torrent, later = spilling(storage)
    heard = Heard()
    for piece in range(LAYOUT.piece_count):
        fill(torrent, piece)
    assert disk.reserved == 0
    for piece in range(LAYOUT.piece_count):
        torrent.finish(piece, heard)
    assert torrent.is_busy
    await drained(later)
    await soon(torrent.flush())
    assert sorted(piece for piece, outcome, _ in heard.pieces if outcome is Outcome.GOOD) == [0, 1, 2, 3]
    assert bytes(storage.data or b"") == DATA
    assert (torrent.is_busy, disk.spill.unwritten, disk.held, disk.finishing) == (False, 0, 0, 0)
    await disk.aclose()


async def test_a_spilled_piece_that_is_wrong_says_which_blocks() -> None:
    disk, torrent, later = spilling()
    heard = Heard()
    wrong = bytearray(DATA)
    wrong[20_000] ^= 1
    for data in (DATA, bytes(wrong)):
        fill(torrent, 0, data)
        torrent.finish(0, heard, examine=True)
        await drained(later)
    assert [outcome for _, outcome, _ in heard.pieces] == [Outcome.GOOD, Outcome.BAD]
    good, bad = heard.digests
    assert good[:DIGEST_SIZE] == bad[:DIGEST_SIZE]
    assert good[DIGEST_SIZE:] != bad[DIGEST_SIZE:]
    await disk.aclose()


async def test_digests_do_not_depend_on_where_the_piece_was() -> None:
    size = 3 * READ_SIZE + 1000
    data = bytes(range(251)) * (size // 251 + 1)
    layout = TorrentLayout(size, [FileEntry((), size)])
    found = []
    for write_buffer in (2 * size, 0):
        later = Later()
        disk = Disk(DiskSettings(write_buffer=write_buffer), executor=cast(Any, later))
        torrent = disk.torrent(MemoryStorage(layout), layout, sha1(data[:size]).digest())
        assert torrent.may_open(0)
        for begin in range(0, size, BLOCK_SIZE):
            assert torrent.put(0, begin, memoryview(data)[begin : min(begin + BLOCK_SIZE, size)])
        heard = Heard()
        torrent.finish(0, heard, examine=True)
        await drained(later)
        assert heard.pieces == [(0, Outcome.GOOD, None)]
        found.append(heard.digests)
        await disk.aclose()
    assert found[0] == found[1]
    assert len(found[0][0]) == DIGEST_SIZE * layout.block_count(0)


async def test_neighbouring_blocks_are_written_together() -> None:
    storage = Recording()
    disk, torrent, later = spilling(storage)
    fill(torrent, 0)  # the second half first
    assert torrent.may_open(1)
    for begin in (0, BLOCK_SIZE):
        torrent.put(1, begin, memoryview(DATA)[LENGTH + begin : LENGTH + begin + BLOCK_SIZE])
    await drained(later)
    assert storage.writes == [(BLOCK_SIZE, BLOCK_SIZE), (0, BLOCK_SIZE), (LENGTH, LENGTH)]
    torrent.close()
    await disk.aclose()


async def test_a_failed_write_of_a_block_is_told_once_and_nothing_more_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    for error in (NoSpaceError("disk full", "x"), RuntimeError("a bug")):
        disk, torrent, later = spilling(Refusing(error))
        told: list[str] = []
        torrent.owner = Woken("owner", told)
        fill(torrent, 0)
        await drained(later)
        assert told == ["owner: 0 failed"]
        assert not torrent.spilled
        assert not torrent.is_busy
        fill(torrent, 1)
        heard = Heard()
        torrent.finish(1, heard)
        await drained(later)
        ((_, outcome, reason),) = heard.pieces
        assert outcome is Outcome.FAILED
        assert isinstance(reason, StorageError)
        assert told == ["owner: 0 failed"], "who finished it hears it so"
        await disk.aclose()


async def test_a_dropped_piece_is_not_opened_again_before_its_last_write_is_over() -> None:
    """An old block must not fall on a new one."""
    storage = MemoryStorage(LAYOUT)
    disk, torrent, later = spilling(storage)
    told: list[str] = []
    torrent.owner = Woken("owner", told)
    fill(torrent, 0, bytes(len(DATA)))
    await turns(2)  # on its way
    torrent.drop(0)
    assert not torrent.may_open(0)
    assert torrent.may_open(1)
    await drained(later)
    assert told == ["owner"]
    fill(torrent, 0)
    heard = Heard()
    torrent.finish(0, heard)
    await drained(later)
    assert heard.pieces == [(0, Outcome.GOOD, None)]
    assert bytes(storage.data or b"")[:LENGTH] == DATA[:LENGTH]
    torrent.close()
    await disk.aclose()


async def test_what_was_written_and_is_gone_makes_a_bad_piece_without_evidence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    disk, torrent, later = spilling(Forgetful(LAYOUT))
    fill(torrent, 0)
    heard = Heard()
    torrent.finish(0, heard)
    await drained(later)
    assert heard.pieces == [(0, Outcome.BAD, None)]
    assert heard.digests == [b""]
    await disk.aclose()


async def test_a_disk_that_stands_still_bounds_what_is_taken() -> None:
    size = 64 * READ_SIZE
    layout = TorrentLayout(size, [FileEntry((), size)])
    disk = Disk(DiskSettings(write_buffer=0), executor=cast(Any, Later()))
    torrent = disk.torrent(MemoryStorage(layout), layout, bytes(20))
    assert torrent.may_open(0)
    assert torrent.spill_room(0) > 0
    payload = memoryview(bytes(BLOCK_SIZE))
    taken = [torrent.put(0, begin, payload) for begin in range(0, size, BLOCK_SIZE)]
    assert sum(taken) * BLOCK_SIZE == disk.spill.capacity
    assert taken[0]
    assert not taken[-1]
    assert disk.peak == disk.spill.capacity
    assert torrent.spill_room(0, spare=8) <= 0, "nothing more is asked for meanwhile"
    assert torrent.refused
    torrent.drop(0)
    await disk.aclose()


async def test_shares_of_the_spill_are_never_nothing_however_many_spill() -> None:
    disk = Disk(DiskSettings(write_buffer=0), executor=cast(Any, Later()))
    torrents = [disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES) for _ in range(50)]
    assert torrents[0].may_open(0)
    alone = torrents[0].spill_room(0)
    for torrent in torrents[1:]:
        assert torrent.may_open(0)
    assert alone * BLOCK_SIZE == disk.spill.capacity * 3 // 4
    assert torrents[0].spill_room(0) == 16
    assert torrents[0].spill_room(16) == 0
    assert torrents[0].spill_room(16, spare=8) == 8, "one that has nothing else to do"
    for torrent in torrents:
        torrent.close()
    assert disk.spill_share(torrents[0]) == alone
    await disk.aclose()


# ---------------------------------------------------------------------- pieces that end unfinished


@pytest.mark.parametrize("write_buffer", [1 << 20, 0], ids=["memory", "spilled"])
async def test_what_is_held_is_kept(write_buffer: int) -> None:
    storage = Recording()
    later = Later()
    disk = Disk(DiskSettings(write_buffer=write_buffer), executor=cast(Any, later))
    torrent = disk.torrent(storage, LAYOUT, HASHES)
    assert torrent.may_open(1)
    torrent.put(1, BLOCK_SIZE, memoryview(DATA)[LENGTH + BLOCK_SIZE : 2 * LENGTH])
    heard = Heard()
    torrent.keep(1, bitarray("01", endian="big"), heard)
    await drained(later)
    assert heard.pieces == [(1, Outcome.GOOD, None)]
    assert storage.writes == [(LENGTH + BLOCK_SIZE, BLOCK_SIZE)]
    assert (disk.reserved, torrent.is_busy) == (0, False)
    torrent.take_up(1)
    torrent.put(1, 0, memoryview(DATA)[LENGTH : LENGTH + BLOCK_SIZE])
    torrent.finish(1, heard)
    await drained(later)
    assert heard.pieces[1:] == [(1, Outcome.GOOD, None)]
    await disk.aclose()


@pytest.mark.parametrize("write_buffer", [1 << 20, 0], ids=["memory", "spilled"])
async def test_what_cannot_be_kept_says_so(write_buffer: int) -> None:
    later = Later()
    disk = Disk(DiskSettings(write_buffer=write_buffer), executor=cast(Any, later))
    torrent = disk.torrent(Refusing(NoSpaceError("disk full", "x")), LAYOUT, HASHES)
    fill(torrent, 0)
    heard = Heard()
    torrent.keep(0, bitarray("11", endian="big"), heard)
    await drained(later)
    assert [outcome for _, outcome, _ in heard.pieces] == [Outcome.FAILED]
    assert disk.held in (0, LENGTH)
    await disk.aclose()


async def test_reads_use_pooled_buffers() -> None:
    storage = MemoryStorage(LAYOUT)
    storage.write(0, DATA)
    disk, torrent, later = made(storage, read_buffer=READ_SIZE)
    woken: list[str] = []

    def again() -> None:
        woken.append("again")

    assert torrent.may_read(again)
    found = torrent.try_read(5, 1000)
    assert found is not None
    buffer, view = found
    assert bytes(view) == DATA[5:1005]
    assert not torrent.may_read(again)
    torrent.free(buffer)
    await turns(1)
    assert woken == ["again"]
    assert torrent.may_read(again)
    read: list[bytes] = []
    torrent.read(1000, 50, lambda reused, view, why: read.append(bytes(view)))
    later.run()
    await turns(2)
    assert read == [DATA[1000:1050]]
    await disk.aclose()


async def test_flushing_waits_for_this_torrent_alone() -> None:
    disk, torrent, later = made()
    busy = disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES)
    heard = Heard()
    fill(busy, 0)
    busy.finish(0, heard)
    await soon(torrent.flush())
    flushing = asyncio.create_task(busy.flush())
    await turns(3)
    assert not flushing.done()
    later.run()
    await soon(flushing)
    assert heard.pieces
    await disk.aclose()


async def test_real_threads_end_with_it() -> None:
    storage = MemoryStorage(LAYOUT)
    disk = Disk(DiskSettings(threads=2))
    torrent = disk.torrent(storage, LAYOUT, HASHES)
    heard = Heard()
    for piece in range(LAYOUT.piece_count):
        fill(torrent, piece)
        torrent.finish(piece, heard)
    await soon(torrent.flush())
    assert sorted(piece for piece, outcome, _ in heard.pieces if outcome is Outcome.GOOD) == [0, 1, 2, 3]
    assert bytes(storage.data or b"") == DATA
    await disk.aclose()
    await disk.aclose()


def test_a_job_that_ends_after_its_loop_is_dropped() -> None:
    later = Later()

    async def begin() -> None:
        disk = Disk(DiskSettings(), executor=cast(Any, later))
        torrent = disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES)
        fill(torrent, 0)
        torrent.finish(0, Heard())

    asyncio.run(begin())
    later.run()
