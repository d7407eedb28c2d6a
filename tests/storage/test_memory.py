"""MemoryStorage: the same answers as files, without files."""

from __future__ import annotations

import pytest

from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.base import Gap, Storage
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
