"""MemoryStorage: the same answers as files, without files."""

from __future__ import annotations

import pytest

from unchoke.bitfield import Bitfield
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.base import FileStatus, Gap, Storage
from unchoke.storage.memory import MemoryStorage


def read(storage: Storage, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    storage.read_into(start, memoryview(buffer))
    return bytes(buffer)


def test_what_is_written_is_read_and_pads_stay_zeros() -> None:
    files = [FileEntry(("a",), 10), FileEntry((".pad",), 6, pad=True), FileEntry(("b",), 4)]
    storage = MemoryStorage(TorrentLayout(16, files))
    storage.prepare()
    storage.write(5, b"x" * 13)
    storage.flush()
    assert read(storage, 0, 20) == bytes(5) + b"xxxxx" + bytes(6) + b"xx" + bytes(2)
    assert bytes(storage.data or b"") == read(storage, 0, 20)
    buffer = bytearray(2)
    assert storage.try_read_into(8, memoryview(buffer))
    assert buffer == b"xx"


def test_it_is_zeros_for_sure_until_the_first_write() -> None:
    storage = MemoryStorage(TorrentLayout(16, [FileEntry((), 100)]))
    assert storage.gaps(10, 50) == [Gap(10, 50, False)]
    storage.write(0, memoryview(b"abc"))
    assert storage.gaps(10, 50) == []


def test_it_answers_as_files_do() -> None:
    files = [FileEntry(("a",), 10), FileEntry((".pad",), 6, pad=True), FileEntry(("d", "b"), 4)]
    storage: Storage = MemoryStorage(TorrentLayout(16, files))
    assert storage.status() == [None] * 4
    storage.write(5, b"x" * 3)
    storage.write(0, b"x" * 17)
    assert storage.status() == [FileStatus(10, 2), None, FileStatus(1, 1), None]
    storage.select([0])
    storage.finished(0)
    moved: list[str] = []
    assert storage.relocate("elsewhere", lambda: moved.append("moved")) == []
    assert moved == ["moved"]
    assert (storage.root, storage.path(2), storage.vanished(), storage.room()) == ("", "memory:/d/b", "", None)
    assert storage.oversized() == storage.foreign_files(Bitfield(2)) == []
    storage.shorten()
    assert read(storage, 0, 20) == b"x" * 10 + bytes(6) + b"x" + bytes(3)
    storage.delete(Bitfield(2))
    assert storage.status() == [None] * 4
    with pytest.raises(StorageError):
        read(storage, 0, 1)


def test_outside_too_large_and_closed() -> None:
    storage = MemoryStorage(TorrentLayout(16, [FileEntry((), 100)]))
    for start, length in ((-1, 5), (96, 5), (200, 0)):
        with pytest.raises(StorageError):
            storage.write(start, bytes(length))
    storage.close()
    storage.close()
    with pytest.raises(StorageError):
        storage.write(0, b"x")
    with pytest.raises(NoSpaceError):
        MemoryStorage(TorrentLayout(1 << 60, [FileEntry((), 1 << 62)])).prepare()
