"""FilePool: few descriptors for many files, and none closed under somebody's hands."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unchoke.errors import StorageError
from unchoke.storage.handles import FilePool, Shelf


class Folder:
    """Opens numbered files, and remembers how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[tuple[int, bool]] = []
        self.fail_once = 0

    def open(self, file: int, write: bool) -> tuple[int, int]:
        if self.fail_once:
            code, self.fail_once = self.fail_once, 0
            raise OSError(code, os.strerror(code))
        self.opened.append((file, write))
        return os.open(self.path / str(file), os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o600), 1


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    return Folder(tmp_path)


@pytest.fixture
def pool() -> Iterator[FilePool]:
    pool = FilePool(3)
    yield pool
    pool.close_all()
    assert len(pool) == 0


def use(shelf: Shelf, file: int, write: bool = False) -> bytes:
    handle = shelf.borrow(file, write=write)
    try:
        return os.pread(handle.fd, 10, 0)
    finally:
        shelf.give_back(handle)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_longest_unused_goes_first(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    for file in (0, 1, 2, 0, 3, 0, 1):
        assert use(shelf, file) == b"%d" % file
    assert [file for file, _ in folder.opened] == [0, 1, 2, 3, 1]
    assert len(pool) == 3


def test_a_descriptor_in_use_is_never_closed(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    held = [shelf.borrow(file, write=False) for file in range(6)]
    assert len(pool) == 6
    pool.close_all()
    assert all(is_open(handle.fd) for handle in held)
    for handle in held:
        shelf.give_back(handle)
    assert not any(is_open(handle.fd) for handle in held)


def test_the_limit_holds_again_when_they_come_back(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    held = [shelf.borrow(file, write=False) for file in range(6)]
    for handle in held:
        shelf.give_back(handle)
    assert len(pool) == 3
    assert sum(is_open(handle.fd) for handle in held) == 3


def test_reading_becomes_writing_when_asked(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    reader = shelf.borrow(0, write=False)
    writer = shelf.borrow(0, write=True)
    assert writer is not reader
    assert writer.writable
    assert is_open(reader.fd)
    shelf.give_back(reader)
    assert not is_open(reader.fd)
    assert shelf.borrow(0, write=False) is writer
    shelf.give_back(writer)
    shelf.give_back(writer)
    assert len(pool) == 1


def test_owners_do_not_mix(pool: FilePool, folder: Folder, tmp_path: Path) -> None:
    other_path = tmp_path / "other"
    other_path.mkdir()
    (other_path / "0").write_bytes(b"other")
    one, other = pool.shelf(folder.open), pool.shelf(Folder(other_path).open)
    assert use(one, 0) == b"0"
    assert use(other, 0) == b"other"
    one.close()
    assert len(pool) == 1
    with pytest.raises(StorageError, match="closed"):
        one.borrow(0, write=False)
    assert one.borrow_open(0) is None
    assert use(other, 0) == b"other"


def test_only_open_files_are_lent_without_touching_the_disk(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    assert shelf.borrow_open(0) is None
    use(shelf, 0)
    handle = shelf.borrow_open(0)
    assert handle is not None
    shelf.give_back(handle)
    assert len(folder.opened) == 1


def test_no_descriptor_left_closes_idle_ones_and_tries_again(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    use(shelf, 0)
    use(shelf, 1)
    folder.fail_once = errno.EMFILE
    assert use(shelf, 2) == b"2"
    assert len(pool) == 1
    folder.fail_once = errno.EACCES
    with pytest.raises(PermissionError):
        use(shelf, 3)


def test_closed_while_opening(pool: FilePool, folder: Folder) -> None:
    opened: list[int] = []

    def closing(file: int, write: bool) -> tuple[int, int]:
        fd, device = folder.open(file, write)
        opened.append(fd)
        shelf.close()
        return fd, device

    shelf = pool.shelf(closing)
    with pytest.raises(StorageError, match="closed"):
        shelf.borrow(0, write=False)
    assert not is_open(opened[0])
    assert len(pool) == 0


def test_another_thread_was_faster(pool: FilePool, folder: Folder) -> None:
    """The opener opens the same file itself first, as another thread would."""
    shelves: list[Shelf] = []

    def racing(file: int, write: bool) -> tuple[int, int]:
        if len(folder.opened) == 0:
            fd = folder.open(file, write)
            assert use(shelves[0], file) == b"0"
            return fd
        return folder.open(file, write)

    shelves.append(pool.shelf(racing))
    assert use(shelves[0], 0) == b"0"
    assert len(folder.opened) == 2
    assert len(pool) == 1


def test_a_file_is_dropped_when_nobody_uses_it(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    handle = shelf.borrow(0, write=False)
    use(shelf, 1)
    shelf.drop(0)
    shelf.drop(7)  # which is not open
    assert len(pool) == 1
    assert is_open(handle.fd)
    assert shelf.borrow_open(0) is None
    shelf.give_back(handle)
    assert not is_open(handle.fd)
    shelf.drop()
    assert len(pool) == 0
    assert use(shelf, 1) == b"1"


def test_a_descriptor_opened_elsewhere_is_kept(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)
    fd, device = shelf.opened(lambda: folder.open(3, True))
    shelf.give_back(shelf.put(3, fd, device, writable=True))
    assert use(shelf, 3, write=True) == b"3"
    assert folder.opened == [(3, True)]
    shelf.close()
    with pytest.raises(StorageError, match="closed"):
        shelf.opened(lambda: folder.open(4, False))


def test_many_threads(pool: FilePool, folder: Folder) -> None:
    shelf = pool.shelf(folder.open)

    def work(seed: int) -> bool:
        files = [(seed * 7 + step * step) % 20 for step in range(100)]
        return all(use(shelf, file, write=file % 3 == 0) == b"%d" % file for file in files)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(8)))
    assert len(pool) <= 3


def test_a_pool_needs_room() -> None:
    with pytest.raises(ValueError):
        FilePool(0)
