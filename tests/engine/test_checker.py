"""The checker: which pieces are there, whatever shape the data on disk is in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.engine import checker
from unchoke.engine.checker import check, check_blocking
from unchoke.errors import StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.base import Buffer, Gap, MissingDataError
from unchoke.storage.files import FileStorage
from unchoke.storage.memory import MemoryStorage


def hashes(data: Buffer, piece_length: int) -> bytes:
    return b"".join(sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length))


def filled(layout: TorrentLayout, data: Buffer) -> MemoryStorage:
    storage = MemoryStorage(layout)
    storage.write(0, data)
    return storage


def stream(length: int) -> bytes:
    return b"".join(sha1(b"%d" % at).digest() for at in range(length // 20 + 1))[:length]


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def checking_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("check")]


class Inline(Executor):
    """Does the work at once, on the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - an executor hands every error on
            future.set_exception(error)
        return future


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=8),
    st.sets(st.integers(0, 400)),
    st.integers(1, 64),
)
def test_exactly_the_damaged_pieces_are_bad(
    piece_length: int, kinds: list[tuple[int, bool]], damaged: set[int], chunk: int
) -> None:
    layout = TorrentLayout(piece_length, [FileEntry((str(at),), n, pad) for at, (n, pad) in enumerate(kinds)])
    data = bytearray(stream(layout.total_length))
    for at, (length, pad) in enumerate(kinds):
        if pad:
            data[layout.file_start(at) : layout.file_start(at) + length] = bytes(length)
    expected = hashes(data, piece_length)
    storage = filled(layout, data)
    bad = set()
    for place in damaged:
        if place < len(data) and not layout.files[layout.spans(place, 1)[0].file].pad:
            storage.write(place, bytes([data[place] ^ 1]))
            bad.add(place // piece_length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checker, "CHUNK", chunk)
        have = check_blocking(storage, layout, expected, threads=2)
    assert set(have) == set(range(layout.piece_count)) - bad


async def test_files_missing_short_sparse_and_whole(tmp_path: Path) -> None:
    size = 64 * 1024
    names = ("whole", "missing", "short", "zeros", "hole", "last")
    layout = TorrentLayout(16 * 1024, [FileEntry((name,), size) for name in names[:-1]] + [FileEntry(("last",), 5)])
    parts = {name: stream(size) for name in names} | {"zeros": bytes(size), "hole": bytes(size), "last": b"12345"}
    expected = hashes(b"".join(parts.values()), layout.piece_length)
    root = tmp_path / "t"
    root.mkdir()
    (root / "whole").write_bytes(parts["whole"])
    (root / "short").write_bytes(parts["short"][: 40 * 1024])
    (root / "last").write_bytes(parts["last"])
    sparse(root / "hole", size)
    storage = FileStorage(tmp_path, "t", layout, multi_file=True, portable=False)
    reports: list[int] = []
    have = await check(storage, layout, expected, progress=reports.append)
    # The file of zeros is missing: that it would be zeros does not put it there.
    assert list(have) == [0, 1, 2, 3, 8, 9, 16, 17, 18, 19, 20]
    assert reports[-1] == 21
    assert reports == sorted(reports)
    storage.close()


async def test_a_sparse_file_of_other_data_is_not_read(tmp_path: Path) -> None:
    size = 1 << 40  # reading it would take minutes
    layout = TorrentLayout(1 << 24, [FileEntry((), size)])
    sparse(tmp_path / "t", size)
    storage = FileStorage(tmp_path, "t", layout, multi_file=False, portable=False)
    gaps = storage.gaps(0, size)
    assert gaps in ([Gap(0, size, False)], [])
    if gaps:  # the file system tells
        assert not (await check(storage, layout, bytes(20) * layout.piece_count)).any()
    storage.close()


async def test_nothing_there_at_all(tmp_path: Path) -> None:
    layout = TorrentLayout(1 << 24, [FileEntry((str(number),), 1 << 32) for number in range(100)])
    storage = FileStorage(tmp_path, "t", layout, multi_file=True, portable=False)
    assert not (await check(storage, layout, bytes(20) * layout.piece_count)).any()


async def test_only_some_pieces() -> None:
    layout = TorrentLayout(16, [FileEntry((), 100)])
    data = stream(100)
    have = await check(filled(layout, data), layout, hashes(data, 16), pieces=iter([6, 2, 1, 2]))
    assert list(have) == [1, 2, 6]
    assert not (await check(filled(layout, data), layout, hashes(data, 16), pieces=())).any()
    for wrong in ([7], [-1, 2]):
        with pytest.raises(ValueError):
            await check(filled(layout, data), layout, hashes(data, 16), pieces=wrong)


async def test_an_empty_torrent_and_hashes_that_do_not_fit() -> None:
    layout = TorrentLayout(16, [FileEntry((), 0)])
    assert len(await check(MemoryStorage(layout), layout, b"")) == 0
    with pytest.raises(ValueError, match="bytes of hashes"):
        await check(MemoryStorage(layout), layout, bytes(20))


async def test_a_piece_larger_than_memory_allows_is_read_in_chunks() -> None:
    layout = TorrentLayout(3 * checker.CHUNK + 5, [FileEntry((), 4 * checker.CHUNK)])
    data = stream(layout.total_length)

    class Measured(MemoryStorage):
        largest = 0

        def read_into(self, start: int, buffer: memoryview) -> None:
            Measured.largest = max(Measured.largest, len(buffer))
            super().read_into(start, buffer)

    storage = Measured(layout)
    storage.write(0, data)
    assert (await check(storage, layout, hashes(data, layout.piece_length))).all()
    assert Measured.largest <= checker.CHUNK


@pytest.mark.parametrize("executor", [Inline(), None])
async def test_the_executor_is_the_callers_choice(executor: Executor | None) -> None:
    layout = TorrentLayout(16, [FileEntry((), 1000)])
    data = stream(1000)
    reports: list[int] = []
    have = await check(
        filled(layout, data), layout, hashes(data, 16), threads=3, executor=executor, progress=reports.append
    )
    assert have.all()
    assert reports[-1] == layout.piece_count
    assert len(reports) <= 3


class Faulty(MemoryStorage):
    """Says no to some bytes."""

    def __init__(self, layout: TorrentLayout, refuse: Iterable[int], error: Exception) -> None:
        super().__init__(layout)
        self.refuse = set(refuse)
        self.error = error

    def read_into(self, start: int, buffer: memoryview) -> None:
        if self.refuse & set(range(start, start + len(buffer))):
            raise self.error
        super().read_into(start, buffer)


async def test_a_file_that_becomes_shorter_meanwhile_costs_its_pieces_only() -> None:
    layout = TorrentLayout(16, [FileEntry((), 160)])
    data = stream(160)
    storage = Faulty(layout, [40], MissingDataError("gone"))
    storage.write(0, data)
    have = await check(storage, layout, hashes(data, 16))
    assert list(have) == [0, 1, 3, 4, 5, 6, 7, 8, 9]


async def test_a_disk_that_cannot_be_read_ends_the_check() -> None:
    layout = TorrentLayout(16, [FileEntry((), 160)])
    storage = Faulty(layout, [40], StorageError("input/output error"))
    storage.write(0, bytes(160))
    with pytest.raises(StorageError, match="input/output"):
        await check(storage, layout, bytes(200), threads=2)
    with pytest.raises(StorageError, match="input/output"):
        check_blocking(storage, layout, bytes(200), threads=2)


class Slow(MemoryStorage):
    """Each read waits until it is let go; says when the first has begun."""

    def __init__(self, layout: TorrentLayout, begun: Callable[[], object]) -> None:
        super().__init__(layout)
        self.begun = begun
        self.go = threading.Event()
        self.reads = 0
        self.inside = 0

    def read_into(self, start: int, buffer: memoryview) -> None:
        self.reads += 1
        self.inside += 1
        self.begun()
        self.go.wait()
        super().read_into(start, buffer)
        self.inside -= 1


@pytest.mark.parametrize("shared", [False, True])
async def test_cancelled_it_waits_for_its_threads_and_reads_no_more(shared: bool) -> None:
    layout = TorrentLayout(checker.CHUNK, [FileEntry((), 100 * checker.CHUNK)])
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    storage = Slow(layout, lambda: loop.call_soon_threadsafe(begun.set))
    storage.write(0, b"x")
    reports: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        task = asyncio.create_task(
            check(
                storage,
                layout,
                bytes(2000),
                threads=2,
                executor=pool if shared else None,
                progress=reports.append,
            )
        )
        await begun.wait()
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()  # being told twice changes nothing
        await asyncio.sleep(0)
        assert not task.done()
        storage.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert storage.inside == 0
        assert storage.reads <= 2
        assert reports in ([], [0])
        assert checking_threads() == []


def test_blocking_progress_and_ctrl_c() -> None:
    layout = TorrentLayout(16, [FileEntry((), 160)])
    data = stream(160)
    reports: list[int] = []
    assert check_blocking(filled(layout, data), layout, hashes(data, 16), progress=reports.append).all()
    assert reports[-1] == 10

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_blocking(filled(layout, data), layout, hashes(data, 16), progress=interrupt)
    assert checking_threads() == []


def test_zero_pieces_of_untouched_storage_are_there_without_a_read() -> None:
    layout = TorrentLayout(16, [FileEntry((), 40)])
    storage = MemoryStorage(layout)
    have: Bitfield = check_blocking(storage, layout, hashes(bytes(32) + bytes(8), 16))
    assert have.all()
    assert storage.data is None


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 16))
@settings(max_examples=60, deadline=None)
def test_in_a_hole_just_the_pieces_of_zeros_are_there(zeros: list[bool], last: int) -> None:
    """Found by searching the hashes as one string, in which the hash of zeros may also stand across two of them."""
    layout = TorrentLayout(16, [FileEntry((), 16 * (len(zeros) - 1) + last)])
    wanted, across = sha1(bytes(16)).digest(), sha1(b"other").digest()
    found = b""
    for number, zero in enumerate(zeros):
        size = layout.piece_size(number)
        shifted = (across + wanted)[number % 20 :][:20]  # the beginning of the hash of zeros, but not on its place
        found += sha1(bytes(size)).digest() if zero else shifted.ljust(20, b"x") if shifted != wanted else across
    have = check_blocking(MemoryStorage(layout), layout, found)
    assert [bool(have[piece]) for piece in range(len(zeros))] == zeros
