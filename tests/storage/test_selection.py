"""Which files are wanted changes at any time; what was written is never lost, and unwanted files never appear."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage import fileio
from unchoke.storage.base import FileStatus, Gap, MissingDataError
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool

POOL = FilePool(4)
HASH = bytes(range(20))
PART = f".{HASH.hex()}.unchoke-parts"


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    yield
    assert not any(handle.users for handle in POOL._open.values())
    POOL.close_all()


def make(
    folder: Path | str, layout: TorrentLayout, wanted: Collection[int] | None = None, **options: Any
) -> FileStorage:
    options = {"pool": POOL, "portable": False, "infohash": HASH, **options}
    return FileStorage(folder, "t", layout, multi_file=True, wanted=wanted, **options)


def shape(piece: int, *lengths: int) -> TorrentLayout:
    """Files a, b, c … of these lengths; a negative one is a pad file."""
    entries = (FileEntry((chr(97 + at),), abs(length), length < 0) for at, length in enumerate(lengths))
    return TorrentLayout(piece, entries)


def read(storage: FileStorage, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    storage.read_into(start, memoryview(buffer))
    return bytes(buffer)


def stream(layout: TorrentLayout, seed: int = 7) -> bytearray:
    """Bytes of which none is zero, but in pad files."""
    data = bytearray(random.Random(seed).choices(range(1, 256), k=layout.total_length))
    for index, file in enumerate(layout.files):
        if file.pad:
            start = layout.file_start(index)
            data[start : start + file.length] = bytes(file.length)
    return data


def piece_of(layout: TorrentLayout, data: bytearray, piece: int) -> bytes:
    start = piece * layout.piece_length
    return bytes(data[start : start + layout.piece_size(piece)])


def names(folder: Path | str) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir()}


class Model:
    """A storage, and beside it what must be in it."""

    def __init__(self, folder: str, layout: TorrentLayout, suffix: str, preallocate: str) -> None:
        self.folder = folder
        self.layout = layout
        self.data = stream(layout)
        self.suffix = suffix
        self.preallocate = preallocate
        self.wanted: frozenset[int] | None = frozenset()
        self.ever: set[int] = set()
        self.written: set[int] = set()
        self.open()

    def open(self) -> None:
        self.storage = make(self.folder, self.layout, self.wanted, suffix=self.suffix, preallocate=self.preallocate)
        self.storage.prepare()

    def reopen(self) -> None:
        self.storage.flush()
        self.storage.close()
        self.open()

    def select(self, wanted: frozenset[int] | None) -> None:
        self.wanted = wanted
        self.ever |= set(range(len(self.layout.files)) if wanted is None else wanted)
        self.storage.select(wanted)

    def write(self, piece: int) -> None:
        self.storage.write(piece * self.layout.piece_length, piece_of(self.layout, self.data, piece))
        self.written.add(piece)

    def finish(self, file: int) -> None:
        if self.written.issuperset(self.layout.file_pieces(file)):
            self.storage.finished(file)

    def check(self) -> None:
        layout, storage = self.layout, self.storage
        for piece in self.written:
            start, expected = piece * layout.piece_length, piece_of(layout, self.data, piece)
            assert read(storage, start, len(expected)) == expected
            buffer = memoryview(bytearray(len(expected)))
            assert not storage.try_read_into(start, buffer) or buffer == expected
            for gap in storage.gaps(start, len(expected)):
                assert not gap.missing
                assert not any(self.data[gap.start : gap.start + gap.length])
        sizes = storage.sizes()
        for index, file in enumerate(layout.files):
            assert sizes[index] is None or index in self.ever
            assert sizes[index] in (None, file.length) or (
                self.preallocate == "off" and (sizes[index] or 0) < file.length
            )

    def end(self) -> None:
        """All wanted, all written: the files are the stream, and nothing else is there."""
        self.select(None)
        for piece in range(self.layout.piece_count):
            self.write(piece)
        for index in range(len(self.layout.files)):
            self.storage.finished(index)
        self.check()
        self.storage.select(None)  # nothing is in the part file any more, at the latest now
        self.storage.close()
        expected = set()
        for index, file in enumerate(self.layout.files):
            if not file.pad:
                start = self.layout.file_start(index)
                path = Path(self.folder, "t", *file.path)
                assert path.read_bytes() == self.data[start : start + file.length]
                expected.add(str(path.relative_to(self.folder)))
        assert names(self.folder) == expected


lengths = st.lists(st.one_of(st.integers(0, 12), st.integers(-6, 40)), min_size=1, max_size=7)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("select"), st.one_of(st.none(), st.frozensets(st.integers(0, 6), max_size=5))),
        st.tuples(st.just("write"), st.integers(0, 40)),
        st.tuples(st.just("finish"), st.integers(0, 6)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 16), lengths, steps, st.sampled_from(["", ".part"]), st.sampled_from(["off", "sparse", "full"]))
def test_any_selection_in_any_order_loses_nothing(
    piece: int, sizes: list[int], todo: list[tuple[str, Any]], suffix: str, preallocate: str
) -> None:
    layout = shape(piece, *sizes)
    with tempfile.TemporaryDirectory() as folder:
        model = Model(folder, layout, suffix, preallocate)
        for action, value in todo:
            if action == "select":
                model.select(None if value is None else frozenset(file for file in value if file < len(sizes)))
            elif action == "reopen":
                model.reopen()
            elif action == "write" and layout.piece_count:
                model.write(value % layout.piece_count)
            elif action == "finish":
                model.finish(value % len(sizes))
            model.check()
        model.end()


def test_an_unwanted_neighbours_share_waits_in_the_part_file(tmp_path: Path) -> None:
    layout = shape(10, 15, 15, 10)  # pieces: a | a b | b | c
    data = stream(layout)
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    for piece in (0, 1):
        storage.write(piece * 10, piece_of(layout, data, piece))
    assert names(tmp_path) == {"t/a", PART}
    assert storage.sizes() == [15, None, None]
    assert storage.status()[-1] is not None
    assert read(storage, 10, 10) == piece_of(layout, data, 1)
    assert storage.gaps(20, 20) == [Gap(20, 20, True)]
    with pytest.raises(MissingDataError):
        read(storage, 15, 15)
    storage.select([0, 1])
    assert names(tmp_path) == {"t/a", "t/b"}
    assert storage.status()[-1] is None
    assert read(storage, 10, 10) == piece_of(layout, data, 1)
    assert (tmp_path / "t" / "b").read_bytes() == data[15:20] + bytes(10)


def test_a_file_unwanted_later_stays_and_one_not_made_is_not_made(tmp_path: Path) -> None:
    layout = shape(10, 15, 15, 15)
    data = stream(layout)
    storage = make(tmp_path, layout)
    storage.prepare()
    storage.write(0, piece_of(layout, data, 0))
    storage.select([2])
    storage.write(10, piece_of(layout, data, 1))
    storage.write(40, piece_of(layout, data, 4))
    assert names(tmp_path) == {"t/a", "t/c", PART}
    assert (tmp_path / "t" / "a").read_bytes() == data[:15]
    storage.select([])
    assert names(tmp_path) == {"t/a", "t/c", PART}
    for piece in (0, 1, 4):
        assert read(storage, piece * 10, layout.piece_size(piece)) == piece_of(layout, data, piece)


def test_a_file_that_is_there_is_used_itself(tmp_path: Path) -> None:
    layout = shape(10, 15, 15)
    data = stream(layout)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "b").write_bytes(data[15:])
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    storage.write(0, data[:20])
    assert names(tmp_path) == {"t/a", "t/b"}
    assert read(storage, 0, 30) == data


def test_a_file_put_in_its_place_later_is_not_written_over(tmp_path: Path) -> None:
    layout = shape(10, 15, 15)
    data = stream(layout)
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    storage.write(0, data[:20])
    (tmp_path / "t" / "b").write_bytes(b"my diary")
    assert read(storage, 10, 10) == data[10:20]  # the part file's, still
    with pytest.raises(StorageError, match="not ours") as caught:
        storage.select(None)
    assert caught.value.path == str(tmp_path / "t" / "b")
    with pytest.raises(StorageError, match="not ours"):
        storage.write(20, data[20:])
    assert (tmp_path / "t" / "b").read_bytes() == b"my diary"
    (tmp_path / "t" / "b").unlink()
    storage.select(None)
    storage.write(20, data[20:])
    assert read(storage, 0, 30) == data
    assert names(tmp_path) == {"t/a", "t/b"}


def test_a_whole_unwanted_piece_is_kept_too(tmp_path: Path) -> None:
    """A piece that was under way when its file became unwanted may still be written."""
    layout = shape(10, 35, 15)
    data = stream(layout)
    storage = make(tmp_path, layout, [])
    storage.prepare()
    for piece in range(5):
        storage.write(piece * 10, piece_of(layout, data, piece))
    assert names(tmp_path) == {PART}
    assert read(storage, 0, 50) == data
    storage.select([0])
    assert names(tmp_path) == {"t/a", PART}
    storage.select(None)
    assert read(storage, 0, 50) == data
    assert names(tmp_path) == {"t/a", "t/b"}


def test_empty_files_are_made_when_they_are_wanted(tmp_path: Path) -> None:
    storage = make(tmp_path, shape(10, 0, 0), [1], suffix=".part")
    storage.prepare()
    assert names(tmp_path) == {"t/b"}
    storage.select(None)
    assert names(tmp_path) == {"t/a", "t/b"}


def test_a_full_disk_while_shares_are_moved_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = shape(10, 15, 15)
    data = stream(layout)
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    storage.write(0, data[:20])
    with monkeypatch.context() as patch:
        patch.setattr(fileio, "_pwrite", refuse)
        with pytest.raises(NoSpaceError) as caught:
            storage.select(None)
    assert caught.value.path == str(tmp_path / "t" / "b")
    assert names(tmp_path) == {"t/a", PART}
    assert read(storage, 10, 10) == data[10:20]
    storage.write(20, data[20:])  # it is wanted now: made by its first write
    assert read(storage, 0, 30) == data
    storage.select(None)
    assert names(tmp_path) == {"t/a", "t/b"}


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_part_file_is_deleted_with_the_torrent(tmp_path: Path) -> None:
    layout = shape(10, 15, 15)
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    storage.write(0, stream(layout)[:20])
    have = Bitfield(layout.piece_count)
    have[0] = have[1] = 1
    storage.delete(have)
    assert list(tmp_path.iterdir()) == []


def test_a_part_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    layout = shape(10, 15, 20, 15)
    data = stream(layout)
    storage = make(tmp_path, layout, [0, 2])
    storage.prepare()
    storage.write(0, data[:20])
    storage.close()
    storage = make(tmp_path, layout, [0, 2])
    storage.prepare()
    (tmp_path / PART).unlink()
    POOL.close_all()
    with pytest.raises(StorageError, match="is gone"):
        storage.write(30, data[30:40])
    with pytest.raises(MissingDataError):
        read(storage, 10, 10)
    assert "is gone" in storage.vanished()
    assert not (tmp_path / PART).exists()


def test_status_has_an_entry_for_the_part_file(tmp_path: Path) -> None:
    layout = shape(10, 15, -5, 0, 12)
    storage = make(tmp_path, layout, [0])
    assert storage.status() == [None] * 5
    storage.prepare()
    storage.write(10, b"x" * 22)
    status = storage.status()
    assert [entry and entry.size for entry in status] == [15, None, None, None, (tmp_path / PART).stat().st_size]
    storage.select([3])
    assert storage.status()[3:] == [FileStatus(12, (tmp_path / "t" / "d").stat().st_mtime_ns), None]


def test_a_part_file_that_cannot_be_removed_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    layout = shape(10, 15, 15)
    data = stream(layout)
    storage = make(tmp_path, layout, [0])
    storage.prepare()
    storage.write(0, data[:20])
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", keeps)
        patch.setattr(os, "link", keeps)  # where files are renamed for want of links
        storage.select(None)
    assert names(tmp_path) == {"t/a", "t/b", PART}
    assert read(storage, 0, 20) == data[:20]
    storage.select(None)
    assert names(tmp_path) == {"t/a", "t/b"}


class Killed(BaseException):
    """The process is gone: nothing it would do afterwards happens."""


@contextmanager
def killed_at(count: int) -> Iterator[None]:
    """From the ``count``-th change of the file system on every one of them fails, as after kill -9."""
    left = [count]
    calls = ("link", "unlink", "rename", "mkdir", "rmdir", "ftruncate", "pwrite", "fdatasync", "fsync", "utime")

    def guard(call: Any) -> Any:
        def guarded(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return call(*arguments, **options)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, guard(getattr(os, name)))
        patch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, os.unlink, os.rmdir})
        yield


def killed(count: int, action: Any) -> bool:
    try:
        with killed_at(count):
            action()
    except Killed:
        return True
    return False


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_killed_at_any_moment_of_a_selection(tmp_path: Path, suffix: str) -> None:
    layout = shape(10, 15, 8, 4, 20)  # piece 1: a b, piece 2: b c d
    data = stream(layout)
    count = 0
    while True:
        folder = tmp_path / str(count)
        storage = make(folder, layout, [0], suffix=suffix)
        storage.prepare()
        for piece in (0, 1, 2):
            storage.write(piece * 10, piece_of(layout, data, piece))
        storage.flush()
        died = killed(count, partial(storage.select, None))
        POOL.close_all()
        for wanted in ([0], None):  # the new selection may have been recorded or not
            storage = make(folder, layout, wanted, suffix=suffix)
            assert read(storage, 0, 30) == data[:30]
            storage.prepare()
            assert read(storage, 0, 30) == data[:30]
            POOL.close_all()
        assert names(folder) == {f"t/{name}{suffix}" for name in "abcd"}
        if not died:
            break
        count += 1
    assert count > 8


def test_reading_and_writing_while_the_selection_changes(tmp_path: Path) -> None:
    layout = shape(10, *(random.Random(3).choices(range(1, 14), k=60)))
    data = stream(layout)
    storage = make(tmp_path, layout, [])
    storage.prepare()
    pieces = list(range(layout.piece_count))
    random.Random(5).shuffle(pieces)
    written: list[int] = []
    done = threading.Event()

    def choose() -> None:
        chance = random.Random(1)
        while not done.is_set():
            storage.select(chance.sample(range(60), 30))

    def write(piece: int) -> None:
        storage.write(piece * 10, piece_of(layout, data, piece))
        written.append(piece)
        for known in (piece, *written[-5:]):
            assert read(storage, known * 10, layout.piece_size(known)) == piece_of(layout, data, known)

    with ThreadPoolExecutor(4) as threads:
        chooser = threads.submit(choose)
        try:
            list(threads.map(write, pieces))
        finally:
            done.set()
        chooser.result()
    assert read(storage, 0, layout.total_length) == data
    storage.select(None)
    assert read(storage, 0, layout.total_length) == data
    assert PART not in names(tmp_path)
    shutil.rmtree(tmp_path / "t")
