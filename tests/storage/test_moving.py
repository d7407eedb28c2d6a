"""relocate: everything is whole in one folder or the other at every moment, and nothing is written over."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage import fileio, probe
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool

POOL = FilePool(4)
HASH = bytes(range(20))
PART = f".{HASH.hex()}.unchoke-parts"
#: a and sub/b are wanted; c shares a piece with sub/b.
LAYOUT = TorrentLayout(
    10,
    [
        FileEntry(("a",), 15, executable=True),
        FileEntry(("sub", "b"), 12),
        FileEntry(("c",), 20),
        FileEntry(("sub", "e"), 0),
    ],
)
DATA = bytes(range(1, 48))
WHOLE = {"t/a", "t/sub/b", "t/sub/e", PART}


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    yield
    POOL.close_all()


def make(folder: Path, **options: Any) -> FileStorage:
    options = {"pool": POOL, "portable": False, "infohash": HASH, "wanted": [0, 1, 3], **options}
    return FileStorage(folder, "t", LAYOUT, multi_file=True, **options)


def filled(folder: Path, **options: Any) -> FileStorage:
    storage = make(folder, **options)
    storage.prepare()
    storage.write(0, DATA[:30])
    for file in (0, 1, 3):
        storage.finished(file)
    return storage


def read(storage: FileStorage) -> bytes:
    buffer = bytearray(30)
    storage.read_into(0, memoryview(buffer))
    return bytes(buffer)


def names(folder: Path) -> set[str]:
    return (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} if folder.exists() else set()
    )


def refusing(code: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def two_disks(code: int) -> Any:
    """What ``link`` is where it gives no second name in another folder; EPERM: nor anywhere."""
    link = os.link

    def links(name: str, to: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if code != errno.EXDEV or src_dir_fd != dst_dir_fd:
            raise OSError(code, os.strerror(code))
        link(name, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    return links


#: How files get from one folder to another: what the system says to a second name.
ways = pytest.mark.parametrize("link", [None, errno.EXDEV, errno.EPERM], ids=["link", "copy", "rename"])


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch, link: int | None) -> None:
    if link is not None:
        monkeypatch.setattr(os, "link", two_disks(link))


@ways
@pytest.mark.usefixtures("no_links")
def test_all_of_it_moves_and_nothing_else(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "deep" / "new"
    storage = filled(old)
    before = storage.status()
    (old / "t" / "sub" / "mine.txt").write_text("mine")
    (old / "other").write_text("other")
    recorded: list[tuple[set[str], str]] = []
    assert storage.relocate(new, lambda: recorded.append((names(new), storage.folder))) == []
    assert recorded == [(WHOLE, str(new))]
    assert names(old) == {"t/sub/mine.txt", "other"}
    assert names(new) == WHOLE
    assert storage.path(1) == str(new / "t" / "sub" / "b")
    assert storage.status() == before  # times too
    assert os.access(new / "t" / "a", os.X_OK)
    assert read(storage) == DATA[:30]
    storage.select(None)
    assert (new / "t" / "c").read_bytes() == DATA[27:30] + bytes(17)
    assert storage.relocate(old) == []
    assert names(new) == set()
    assert not (new / "t").exists()
    assert new.exists()


@ways
@pytest.mark.usefixtures("no_links")
def test_what_stands_there_is_not_written_over(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    storage = filled(old)
    (new / "t" / "sub").mkdir(parents=True)
    for theirs in (b"diary", bytes(12)):
        (new / "t" / "sub" / "b").write_bytes(theirs)
        with pytest.raises(StorageError, match="there already") as caught:
            storage.relocate(new)
        assert caught.value.path == str(new / "t" / "sub" / "b")
        assert names(new) == {"t/sub/b"}
        assert (new / "t" / "sub" / "b").read_bytes() == theirs
        assert names(old) == WHOLE
        assert storage.folder == str(old)
        assert read(storage) == DATA[:30]
    storage.write(0, DATA[:10])  # life goes on
    (new / "t" / "sub" / "b").write_bytes(DATA[15:27])  # equal bytes are as good as moved
    assert storage.relocate(new) == []
    assert names(new) == WHOLE


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    storage = filled(old)
    monkeypatch.setattr(os, "link", two_disks(errno.EXDEV))
    pwrite, left = os.pwrite, [1]

    def full(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        return pwrite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(NoSpaceError if code == errno.ENOSPC else StorageError) as caught:
            storage.relocate(new)
    assert caught.value.path.startswith(str(new))
    assert names(new) == set()
    assert names(old) == WHOLE
    assert storage.relocate(new) == []
    assert read(storage) == DATA[:30]


def test_a_rename_that_fails_midway_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    storage = filled(old)
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    rename = os.rename

    def fails(name: str, to: str, **places: Any) -> None:
        if to == "e":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(name, to, **places)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fails)
        with pytest.raises(StorageError, match="disk reports an error"):
            storage.relocate(new)
    assert names(old) == WHOLE
    assert names(new) == set()
    assert read(storage) == DATA[:30]


class Killed(BaseException):
    """The process is gone: nothing it would do afterwards happens."""


CHANGES = ("link", "unlink", "rename", "mkdir", "rmdir", "ftruncate", "pwrite", "fdatasync", "fsync", "utime")


def killed(count: int, storage: FileStorage, new: Path) -> bool:
    """Relocate, dying before the ``count``-th change of the file system."""
    left = [count]

    def guard(call: Any) -> Any:
        def guarded(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return call(*arguments, **options)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, guard(getattr(os, name)))
        patch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, os.unlink, os.rmdir})
        patch.setattr(os, "supports_fd", {*os.supports_fd, os.utime})
        try:
            storage.relocate(new)
        except Killed:
            return True
    return False


@ways
@pytest.mark.usefixtures("no_links")
def test_killed_at_any_moment_of_a_move(tmp_path: Path) -> None:
    count = 0
    died = True
    while died:
        old, new = tmp_path / f"old{count}", tmp_path / f"new{count}"
        died = killed(count, filled(old, suffix=".part"), new)
        POOL.close_all()
        for name in sorted(WHOLE):  # whole in one of them
            assert any((folder / name).exists() for folder in (old, new))
        storage = make(old, suffix=".part")
        old.mkdir(exist_ok=True)
        assert storage.relocate(new) == []
        assert read(storage) == DATA[:30]
        assert names(new) == WHOLE
        assert names(old) == set()
        POOL.close_all()
        count += 1
    assert count > 5


@ways
@pytest.mark.usefixtures("no_links")
def test_readers_notice_nothing(tmp_path: Path) -> None:
    storage = filled(tmp_path / "0")
    done = threading.Event()

    def keep_reading() -> int:
        reads = 0
        while not done.is_set() or not reads:
            assert read(storage) == DATA[:30]
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(keep_reading) for _ in range(2)]
        try:
            for turn in range(1, 20):
                assert storage.relocate(tmp_path / str(turn)) == []
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_nothing_is_written_while_it_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = filled(tmp_path / "old")
    link, tried = os.link, []

    def writes(*arguments: Any, **places: Any) -> None:
        with pytest.raises(StorageError, match="while the torrent is moved"):
            storage.write(0, b"x")
        tried.append(read(storage))
        link(*arguments, **places)

    monkeypatch.setattr(os, "link", writes)
    storage.relocate(tmp_path / "new")
    assert tried == [DATA[:30]] * len(WHOLE)
    storage.write(0, DATA[:10])
    assert read(storage) == DATA[:30]


def test_a_folder_whose_disk_is_away_is_not_left(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    storage = filled(old)
    POOL.close_all()
    old.rename(tmp_path / "away")
    old.mkdir()
    with pytest.raises(StorageError, match="is gone"):
        storage.relocate(new)
    with pytest.raises(StorageError, match="nothing to move"):
        make(old).relocate(new)
    old.rmdir()
    with pytest.raises(StorageError, match="cannot move"):
        make(old).relocate(new)
    assert storage.folder == str(old)
    (tmp_path / "away").rename(old)
    assert storage.relocate(new) == []
    assert read(storage) == DATA[:30]


def test_the_same_folder_by_another_name(tmp_path: Path) -> None:
    storage = make(tmp_path / "real", suffix=".part")
    storage.prepare()
    storage.write(0, DATA[:30])
    before = names(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert storage.relocate(tmp_path / "link") == []
    assert storage.folder == str(tmp_path / "link")
    assert names(tmp_path / "real") == before
    assert read(storage) == DATA[:30]


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    storage = filled(old)
    unlink = os.unlink

    def fails(name: str, **places: Any) -> None:
        if name == "b":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(name, **places)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fails)
        patch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, fails})
        assert storage.relocate(new) == [str(old / "t" / "sub" / "b")]
    assert storage.folder == str(new)
    assert read(storage) == DATA[:30]
    assert names(old) == {"t/sub/b"}


def test_names_follow_the_rule_of_the_new_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "needs_portable", lambda folder: folder.endswith("fat"))
    layout = TorrentLayout(10, [FileEntry(("what?",), 5)])
    storage = FileStorage(tmp_path / "ext", "t", layout, multi_file=True, pool=POOL)
    storage.prepare()
    storage.write(0, b"12345")
    assert storage.relocate(tmp_path / "fat") == []
    assert storage.portable
    assert storage.path(0) == str(tmp_path / "fat" / "t" / "what_")
    assert (tmp_path / "fat" / "t" / "what_").read_bytes() == b"12345"


def test_a_link_of_the_users_is_copied_and_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "t").mkdir(parents=True)
    (old / "t" / "real").write_bytes(DATA[:15])
    (old / "t" / "a").symlink_to("real")
    storage = make(old, wanted=[0])
    assert storage.relocate(new) == [str(old / "t" / "a")]
    assert not (new / "t" / "a").is_symlink()
    assert (new / "t" / "a").read_bytes() == DATA[:15]
    assert (old / "t" / "real").read_bytes() == DATA[:15]


def test_sparse_files_stay_sparse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", two_disks(errno.EXDEV))
    size = 4 << 20
    layout = TorrentLayout(1 << 20, [FileEntry((), size)])
    storage = FileStorage(tmp_path / "old", "t", layout, multi_file=False, pool=POOL)
    storage.prepare()
    storage.write(1 << 20, b"x")
    storage.relocate(tmp_path / "new")
    status = os.stat(tmp_path / "new" / "t")
    assert status.st_size == size
    gaps = storage.gaps(0, size)
    buffer = memoryview(bytearray(1))
    storage.read_into(1 << 20, buffer)
    assert bytes(buffer) == b"x"
    assert not gaps or status.st_blocks * 512 < size
    assert size > fileio.COPY_SIZE
