"""Room, preallocation, and disks that fill up, go read-only or go away."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unchoke.errors import GoneError, NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage import space
from unchoke.storage.base import MissingDataError
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool

POOL = FilePool(8)
BLOCK = 1 << 16


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    yield
    assert not any(handle.users for handle in POOL._open.values())
    POOL.close_all()


def make(folder: Path, *lengths: int, piece: int = BLOCK, **options: Any) -> FileStorage:
    entries = (FileEntry((chr(97 + at),), abs(length), length < 0) for at, length in enumerate(lengths))
    layout = TorrentLayout(piece, entries)
    return FileStorage(folder, "t", layout, multi_file=True, pool=POOL, portable=False, **options)


def refusing(code: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def read(storage: FileStorage, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    storage.read_into(start, memoryview(buffer))
    return bytes(buffer)


class TestRoom:
    def test_what_is_missing_shrinks_as_it_is_written(self, tmp_path: Path) -> None:
        storage = make(tmp_path / "not" / "yet", 10 * BLOCK, -BLOCK, 5 * BLOCK, 0)
        room = storage.room()
        assert room.missing == 15 * BLOCK
        assert room.device == tmp_path.stat().st_dev
        assert not (tmp_path / "not").exists()
        storage.prepare()
        storage.write(0, b"x" * 4 * BLOCK)
        storage.flush()
        assert storage.room().missing + BLOCK >= 11 * BLOCK  # metadata may count as data
        assert storage.room().missing < 15 * BLOCK

    def test_free_is_what_an_ordinary_user_may_take(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        figures = SimpleNamespace(f_bavail=5, f_bfree=9, f_frsize=1024, f_bsize=4096)
        monkeypatch.setattr(os, "statvfs", lambda path: figures)
        assert make(tmp_path, 10).room().free == 5120
        monkeypatch.delattr(os, "statvfs")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=77))
        assert make(tmp_path, 10).room().free == 77

    def test_unwanted_files_count_with_their_shares_only(self, tmp_path: Path) -> None:
        storage = make(tmp_path, BLOCK // 2, 3 * BLOCK, BLOCK // 2, 4 * BLOCK, wanted=[0])
        assert storage.room().missing == BLOCK
        storage.select([])
        assert storage.room().missing == 0
        storage.select([3])
        assert storage.room().missing == 4 * BLOCK
        storage.select([2])
        assert storage.room().missing == BLOCK
        storage.prepare()
        storage.write(3 * BLOCK, b"x" * BLOCK)
        storage.flush()
        assert storage.room().missing <= BLOCK // 2

    def test_a_full_file_misses_nothing(self, tmp_path: Path) -> None:
        storage = make(tmp_path, 100 * BLOCK, preallocate="full")
        storage.prepare()
        storage.write(0, b"x")
        assert os.stat(tmp_path / "t" / "a").st_size == 100 * BLOCK
        assert storage.room().missing == 0

    def test_a_system_that_tells_no_blocks(self) -> None:
        assert space.allocated(SimpleNamespace(st_size=100)) == 100  # type: ignore[arg-type]
        assert space.allocated(SimpleNamespace(st_size=100, st_blocks=8)) == 4096  # type: ignore[arg-type]

    def test_a_disk_that_does_not_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "statvfs", refusing(errno.EIO))
        with pytest.raises(StorageError, match="disk reports an error"):
            make(tmp_path, 10).room()


class TestPreallocate:
    def test_the_three_ways(self, tmp_path: Path) -> None:
        sizes = {}
        for way in space.MODES:
            storage = make(tmp_path / way, 100 * BLOCK, preallocate=way)
            storage.prepare()
            storage.write(BLOCK, b"x" * 10)
            status = os.stat(tmp_path / way / "t" / "a")
            sizes[way] = (status.st_size, status.st_blocks * 512 >= 100 * BLOCK)
            assert read(storage, BLOCK, 10) == b"x" * 10
        assert sizes == {"off": (BLOCK + 10, False), "sparse": (100 * BLOCK, False), "full": (100 * BLOCK, True)}

    def test_an_unknown_way_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="none of off, sparse, full"):
            make(tmp_path, 10, preallocate="some")

    def test_a_file_begun_otherwise_is_filled_up(self, tmp_path: Path) -> None:
        storage = make(tmp_path, 10 * BLOCK, preallocate="off")
        storage.prepare()
        storage.write(0, b"abc")
        POOL.close_all()
        storage = make(tmp_path, 10 * BLOCK, preallocate="full")
        storage.write(5, b"def")
        status = os.stat(tmp_path / "t" / "a")
        assert status.st_size == 10 * BLOCK <= status.st_blocks * 512
        assert read(storage, 0, 10) == b"abc\0\0def\0\0"

    def test_no_space_leaves_nothing_reserved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def halfway(fd: int, offset: int, length: int) -> None:
            os.ftruncate(fd, length // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        storage = make(tmp_path, 10 * BLOCK, preallocate="full")
        storage.prepare()
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", halfway)
            for _ in range(2):
                with pytest.raises(NoSpaceError) as caught:
                    storage.write(0, b"abc")
                assert caught.value.path == str(tmp_path / "t" / "a")
                assert storage.sizes() == [0]
        storage.write(0, b"abc")
        assert storage.sizes() == [10 * BLOCK]

    @pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
    def test_where_it_cannot_be_files_are_sparse(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
    ) -> None:
        if code is None:
            monkeypatch.delattr(os, "posix_fallocate")
        else:
            monkeypatch.setattr(os, "posix_fallocate", refusing(code))
        storage = make(tmp_path, 10 * BLOCK, preallocate="full")
        storage.prepare()
        storage.write(0, b"abc")
        assert storage.sizes() == [10 * BLOCK]


class TestGone:
    """Nothing is made anew in the place of what had been there."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> FileStorage:
        storage = make(tmp_path / "dl", BLOCK, BLOCK)
        storage.prepare()
        storage.write(0, b"x" * BLOCK)
        assert storage.vanished() == ""
        return storage

    def test_the_download_folder(self, tmp_path: Path, storage: FileStorage) -> None:
        POOL.close_all()
        (tmp_path / "dl").rename(tmp_path / "away")
        assert "dl is gone: was its disk taken away?" in storage.vanished()
        for start in (0, BLOCK):  # a file that had been there, and one that had not
            with pytest.raises(GoneError, match="is gone: was its disk taken away"):
                storage.write(start, b"y")
        with pytest.raises(MissingDataError, match="is gone") as caught:
            read(storage, 0, 10)
        assert isinstance(caught.value, GoneError)
        with pytest.raises(GoneError, match="is gone"):
            storage.flush()
        assert not (tmp_path / "dl").exists()
        (tmp_path / "away").rename(tmp_path / "dl")
        assert storage.vanished() == ""
        storage.flush()
        storage.write(BLOCK, b"y" * BLOCK)
        assert read(storage, 0, 2 * BLOCK) == b"x" * BLOCK + b"y" * BLOCK

    def test_an_empty_folder_in_its_place(self, tmp_path: Path, storage: FileStorage) -> None:
        """What is seen when a disk is taken away whose mount point is above the folder."""
        POOL.close_all()
        (tmp_path / "dl").rename(tmp_path / "away")
        (tmp_path / "dl").mkdir()
        assert "is gone" in storage.vanished()
        with pytest.raises(GoneError, match="is gone"):
            storage.write(0, b"y")
        assert list((tmp_path / "dl").iterdir()) == []

    def test_another_disk_in_its_place(
        self, tmp_path: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stat = os.stat

        def other(path: Any, **options: Any) -> Any:
            status = stat(path, **options)
            return SimpleNamespace(st_dev=status.st_dev + 1) if path == str(tmp_path / "dl") else status

        monkeypatch.setattr(os, "stat", other)
        assert storage.vanished() == ""  # our files are there: a share that was mounted again
        storage.write(BLOCK, b"y" * BLOCK)
        monkeypatch.setattr(os, "stat", stat)
        POOL.close_all()
        (tmp_path / "dl" / "t").rename(tmp_path / "t")
        assert "on another disk than before" in storage.vanished()
        with pytest.raises(GoneError, match="is gone"):
            storage.write(BLOCK, b"y")
        (tmp_path / "t").rename(tmp_path / "dl" / "t")
        assert storage.vanished() == ""

    def test_another_disk_before_the_first_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        storage = make(tmp_path / "dl", BLOCK)
        storage.prepare()
        stat = os.stat
        monkeypatch.setattr(os, "stat", lambda *a, **o: SimpleNamespace(st_dev=stat(*a, **o).st_dev + 1))
        with pytest.raises(GoneError, match="on another disk"):
            storage.write(0, b"y")
        assert list((tmp_path / "dl").iterdir()) == []

    def test_one_file(self, tmp_path: Path, storage: FileStorage) -> None:
        POOL.close_all()
        (tmp_path / "dl" / "t" / "a").unlink()
        assert "a is gone" in storage.vanished()
        with pytest.raises(GoneError, match="a is gone"):
            storage.write(0, b"y")
        assert not (tmp_path / "dl" / "t" / "a").exists()

    def test_one_file_that_was_there_before(self, tmp_path: Path) -> None:
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "a").write_bytes(b"x" * BLOCK)
        storage = make(tmp_path, BLOCK)
        storage.prepare()
        storage.status()
        (tmp_path / "t" / "a").unlink()
        with pytest.raises(GoneError, match="a is gone"):
            storage.write(0, b"y")

    def test_among_many_files_it_is_found_in_time(self, tmp_path: Path) -> None:
        storage = make(tmp_path, *[1] * 600, piece=1)
        storage.prepare()
        storage.write(0, b"x" * 600)
        (tmp_path / "t" / chr(97 + 550)).unlink()
        assert [storage.vanished() != "" for _ in range(3)].count(True) == 1

    def test_before_it_is_prepared_nothing_is_missed(self, tmp_path: Path) -> None:
        assert make(tmp_path / "new", BLOCK).vanished() == ""


WORDS: dict[int, str] = {
    errno.EROFS: "choose a folder on a file system that can be written",
    errno.EACCES: "check the permissions",
    errno.EIO: "check its health",
}


@pytest.mark.parametrize("code", sorted(WORDS))
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    storage = make(tmp_path, BLOCK, BLOCK)
    storage.prepare()
    storage.write(0, b"x" * 10)
    POOL.close_all()
    opened: Callable[..., int] = os.open

    def read_only(path: str, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(code, os.strerror(code))
        return opened(path, flags, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        patch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, read_only})
        for start in (0, BLOCK):
            with pytest.raises(StorageError, match=WORDS[code]):
                storage.write(start, b"y")
        assert read(storage, 0, 10) == b"x" * 10
    storage.write(0, b"y" * 10)
    assert read(storage, 0, 10) == b"y" * 10


def test_flush_syncs_the_folders_in_which_names_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync
    fail = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def note(fd: int) -> None:
        if fail and len(synced) == 2:
            raise fail.pop()
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
        fsync(fd)

    layout = TorrentLayout(10, [FileEntry(("s", "a"), 10), FileEntry(("s", "b"), 10), FileEntry(("c",), 10)])
    storage = FileStorage(tmp_path / "x" / "dl", "t", layout, multi_file=True, pool=POOL, portable=False)
    storage.prepare()
    storage.write(0, b"x" * 20)
    monkeypatch.setattr(os, "fsync", note)
    with pytest.raises(StorageError, match="disk reports an error"):
        storage.flush()
    storage.flush()
    assert sorted(synced) == [".", "x", "x/dl", "x/dl/t", "x/dl/t/s"]
    synced.clear()
    storage.write(0, b"x" * 20)
    storage.flush()
    assert synced == []
    storage.write(20, b"x")
    storage.flush()
    assert synced == ["x/dl", "x/dl/t"]


def test_folders_that_cannot_be_synced_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    storage = make(tmp_path, BLOCK)
    storage.prepare()
    storage.write(0, b"x")
    storage.flush()
    assert read(storage, 0, 1) == b"x"
