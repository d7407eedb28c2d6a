"""The disk: memory within its budget, every piece hears what became of it, and nothing is left at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha1

import pytest

from fakes.peer import soon
from fakes.stage import turns
from unchoke.engine.disk import READ_SIZE, Disk, Outcome, TorrentDisk
from unchoke.engine.settings import DiskSettings
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.base import Buffer
from unchoke.storage.memory import MemoryStorage

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


class Heard:
    """What became of pieces."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, Outcome, StorageError | None]] = []

    def __call__(self, piece: int, outcome: Outcome, error: StorageError | None) -> None:
        self.pieces.append((piece, outcome, error))


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
    disk = Disk(DiskSettings(write_buffer=write_buffer, read_buffer=read_buffer), executor=later)
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


async def test_the_budget_holds_but_the_first_piece_of_a_torrent_always_fits() -> None:
    disk, torrent, _ = made(write_buffer=LENGTH // 2)
    other = disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES)
    assert torrent.may_open(0)
    assert [torrent.refused, torrent.may_open(1), torrent.refused] == [False, False, True]
    assert other.may_open(0)
    torrent.drop(0)
    torrent.drop(0)
    assert torrent.may_open(1)
    torrent.close()
    other.close()
    assert disk.reserved == 0
    await disk.aclose()


async def test_a_piece_being_written_still_counts() -> None:
    disk, torrent, later = made(write_buffer=2 * LENGTH)
    heard = Heard()
    fill(torrent, 0)
    torrent.finish(0, heard)
    assert torrent.may_open(1)
    assert not torrent.may_open(2)
    torrent.close()
    assert disk.reserved == LENGTH
    later.run()
    await soon(torrent.flush())
    assert disk.reserved == 0
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
        disk = Disk(DiskSettings(), executor=later)
        torrent = disk.torrent(MemoryStorage(LAYOUT), LAYOUT, HASHES)
        fill(torrent, 0)
        torrent.finish(0, Heard())

    asyncio.run(begin())
    later.run()
