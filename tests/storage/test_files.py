"""FileStorage: a stream of bytes kept in files, seen from outside as a user and the engine see it."""

from __future__ import annotations

import errno
import os
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage import fileio, probe
from unchoke.storage.base import Gap, MissingDataError
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool

POOL = FilePool(8)
PIECE = 16384


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    yield
    POOL.close_all()


def make(folder: Path | str, *files: FileEntry, name: str = "t", **options: Any) -> FileStorage:
    return FileStorage(folder, name, TorrentLayout(PIECE, files), multi_file=True, pool=POOL, portable=False, **options)


def file(path: str, length: int, **kind: bool) -> FileEntry:
    return FileEntry(tuple(path.split("/")), length, **kind)


def read(storage: FileStorage, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    storage.read_into(start, memoryview(buffer))
    return bytes(buffer)


entries = st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(entries, st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=120)), max_size=8), st.data())
def test_writes_and_reads_equal_a_bytearray(
    kinds: list[tuple[int, bool]], writes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    files = [FileEntry((f"{index % 2}", f"f{index}"), length, pad) for index, (length, pad) in enumerate(kinds)]
    layout = TorrentLayout(16, files)
    total = layout.total_length
    mirror = bytearray(total)
    with tempfile.TemporaryDirectory() as folder:
        storage = FileStorage(folder, "t", layout, multi_file=True, pool=POOL, portable=False)
        storage.prepare()
        storage.write(0, mirror)
        for start, chunk in writes:
            start = min(start, total)
            chunk = chunk[: total - start]
            storage.write(start, chunk)
            mirror[start : start + len(chunk)] = chunk
        for index, entry in enumerate(files):
            if entry.pad:
                begin = layout.file_start(index)
                mirror[begin : begin + entry.length] = bytes(entry.length)
        assert read(storage, 0, total) == mirror
        start = data.draw(st.integers(0, total))
        length = data.draw(st.integers(0, total - start))
        assert read(storage, start, length) == mirror[start : start + length]
        for gap in storage.gaps(start, length):
            assert not gap.missing
            assert not any(mirror[gap.start : gap.start + gap.length])
        storage.flush()
        for entry, path in zip(files, storage.paths, strict=True):
            assert (path is None) == entry.pad
            assert path is None or os.path.getsize(path) == entry.length
        storage.close()


def test_files_appear_when_first_written_and_empty_ones_in_prepare(tmp_path: Path) -> None:
    storage = make(
        tmp_path / "new", file("a", 10), file("sub/empty", 0), file("b/c", 10), file("skip", 0), wanted=[0, 1, 2]
    )
    assert not (tmp_path / "new").exists()
    storage.prepare()
    root = tmp_path / "new" / "t"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["sub", "sub/empty"]
    storage.write(10, b"x" * 5)
    assert (root / "b" / "c").read_bytes() == b"xxxxx" + bytes(5)  # at its full size from the first byte on
    assert not (root / "a").exists()
    assert storage.sizes() == [None, 0, 10, None]
    storage.select(None)
    storage.prepare()
    assert (root / "skip").exists()


def test_writing_needs_no_prepare_and_shortens_nothing(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"y" * 30)
    (tmp_path / "t" / "empty").write_bytes(b"not empty")
    storage = make(tmp_path, file("a", 10), file("empty", 0))
    storage.prepare()
    storage.write(0, b"x" * 10)
    assert (tmp_path / "t" / "a").read_bytes() == b"x" * 10 + b"y" * 20
    assert (tmp_path / "t" / "empty").read_bytes() == b"not empty"
    assert storage.oversized() == storage.paths
    storage.shorten()
    assert storage.oversized() == []
    assert storage.sizes() == [10, 0]
    assert read(storage, 0, 10) == b"x" * 10


def test_executable_files_get_their_bits(tmp_path: Path) -> None:
    storage = make(tmp_path, file("run", 1, executable=True), file("empty", 0, executable=True), file("data", 1))
    storage.prepare()
    storage.write(0, b"ab")
    modes = [bool(os.stat(path or "").st_mode & stat.S_IXUSR) for path in storage.paths]
    assert modes == [True, True, False]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    storage = make(tmp_path, file("a", 10), file("b", 10))
    with pytest.raises(MissingDataError, match="is not there") as caught:
        read(storage, 0, 5)
    assert caught.value.path == str(tmp_path / "t" / "a")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"12345")
    with pytest.raises(MissingDataError, match="ends at byte 5"):
        read(storage, 0, 10)
    for start, length in ((-1, 2), (15, 6), (21, 0)):
        with pytest.raises(StorageError, match="outside"):
            read(storage, start, length)
        with pytest.raises(StorageError, match="outside"):
            storage.gaps(start, length)


def test_gaps_tell_missing_short_sparse_and_pads(tmp_path: Path) -> None:
    big = 1 << 20
    storage = make(tmp_path, file("a", big), file("p", 100, pad=True), file("b", 50), file("c", 50), file("d", 10))
    assert storage.gaps(0, big + 210) == [Gap(0, big, True), Gap(big, 100, False), Gap(big + 100, 110, True)]
    storage.write(0, b"x")
    storage.write(big - 1, b"x")
    (tmp_path / "t" / "b").write_bytes(b"y" * 20)
    storage.write(big + 200, b"z" * 10)
    gaps = storage.gaps(0, big + 210)
    assert [gap for gap in gaps if gap.missing] == [Gap(big + 120, 80, True)]
    zeros = [gap for gap in gaps if not gap.missing]
    assert zeros[-1] == Gap(big, 100, False)
    for gap in zeros:
        assert not any(read(storage, gap.start, gap.length))
    assert storage.gaps(big + 130, 5) == [Gap(big + 130, 5, True)]
    assert storage.gaps(5, 0) == []


def test_foreign_files(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    files = [file(name, PIECE) for name in ("ours", "theirs", "zeros", "missing", "unwanted", "border")]
    storage = make(tmp_path, *files, file("shared", 10), file("last", PIECE))
    for name in ("ours", "theirs", "unwanted", "shared"):
        (root / name).write_bytes(b"data")
    with open(root / "zeros", "wb") as sparse:
        sparse.truncate(PIECE)
        sparse.write(bytes(100))
    have = Bitfield(storage.layout.piece_count)
    have[0] = 1
    assert storage.foreign_files(have) == [str(root / "theirs"), str(root / "unwanted"), str(root / "shared")]
    storage.select([0, 1, 2, 7])
    assert storage.foreign_files(have) == [str(root / "theirs"), str(root / "shared")]
    have[6] = 1
    assert storage.foreign_files(have) == [str(root / "theirs")]
    # What proves nothing: its only piece has something missing (cut short in the middle, or a neighbour is gone).
    (root / "theirs").write_bytes(b"d" * PIECE)
    assert storage.foreign_files(have) == [str(root / "theirs")]
    have[6] = 0
    (root / "shared").write_bytes(b"0123456789")
    assert storage.foreign_files(have) == [str(root / "theirs")]
    (root / "last").write_bytes(b"d" * PIECE)
    assert storage.foreign_files(have) == [str(root / "theirs"), str(root / "shared"), str(root / "last")]
    assert storage.oversized() == []
    (root / "shared").write_bytes(b"longer than ten bytes")
    assert storage.oversized() == [str(root / "shared")]


def test_all_zeros_looks_at_every_byte(tmp_path: Path) -> None:
    size = 300_000
    storage = make(tmp_path, file("a", size), file("none", 5))
    storage.write(0, bytes(size))
    assert storage.is_all_zeros(0)
    assert storage.is_all_zeros(1)
    storage.write(size - 1, b"\1")
    assert not storage.is_all_zeros(0)


class TestLinks:
    """The download folder may be a link; nothing below it may lead out."""

    def refused(self, storage: FileStorage) -> None:
        for attempt in (lambda: storage.write(0, b"x"), lambda: read(storage, 0, 1), lambda: storage.gaps(0, 1)):
            with pytest.raises(StorageError, match="leads outside"):
                attempt()

    def test_the_folder_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        make(tmp_path / "link", file("a", 1)).write(0, b"x")
        assert (tmp_path / "real" / "t" / "a").read_bytes() == b"x"

    @pytest.mark.parametrize("absolute", [True, False])
    def test_a_file_or_folder_that_leads_out_is_refused(self, tmp_path: Path, absolute: bool) -> None:
        outside, inside = tmp_path / "outside", tmp_path / "in"
        outside.mkdir()
        (outside / "a").write_bytes(b"secret")
        inside.mkdir()
        (inside / "t").symlink_to(outside if absolute else "../outside")
        self.refused(make(inside, file("a", 1)))
        (inside / "u").mkdir()
        (inside / "u" / "a").symlink_to(outside / "a" if absolute else "../../outside/a")
        self.refused(make(inside, file("a", 1), name="u"))
        assert (outside / "a").read_bytes() == b"secret"

    def test_a_link_to_nothing_outside_makes_nothing(self, tmp_path: Path) -> None:
        inside = tmp_path / "in"
        (inside / "t").mkdir(parents=True)
        (inside / "t" / "a").symlink_to(tmp_path / "made")
        (inside / "t" / "sub").symlink_to(tmp_path / "folder")
        self.refused(make(inside, file("a", 1)))
        self.refused(make(inside, file("sub/b", 1)))
        with pytest.raises(StorageError, match="leads outside"):
            make(inside, file("sub/empty", 0)).prepare()
        assert not (tmp_path / "made").exists()
        assert not (tmp_path / "folder").exists()

    def test_links_that_stay_inside_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "t" / "real").mkdir(parents=True)
        (tmp_path / "t" / "sub").symlink_to("real")
        (tmp_path / "t" / "a").symlink_to("real/a")
        storage = make(tmp_path, file("sub/b", 1), file("a", 1))
        storage.write(0, b"ba")
        assert (tmp_path / "t" / "real" / "b").read_bytes() == b"b"
        assert (tmp_path / "t" / "real" / "a").read_bytes() == b"a"
        assert read(storage, 0, 2) == b"ba"

    def test_a_link_in_a_circle_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "a").symlink_to("a")
        with pytest.raises(StorageError):
            make(tmp_path, file("a", 1)).write(0, b"x")


def test_other_things_in_a_files_place(tmp_path: Path) -> None:
    root = tmp_path / "t"
    (root / "folder").mkdir(parents=True)
    os.mkfifo(root / "pipe")
    (root / "file").write_bytes(b"x")
    storage = make(tmp_path, file("folder", 5), file("pipe", 5), file("file/below", 5))
    with pytest.raises(StorageError, match="a folder stands where a file must be"):
        storage.write(0, b"x")
    with pytest.raises(StorageError, match="no ordinary file"):
        storage.write(5, b"x")
    with pytest.raises(StorageError, match="a file stands where a folder must be"):
        storage.write(10, b"x")
    assert storage.gaps(0, 5) == [Gap(0, 5, True)]
    assert storage.sizes() == [None, None, None]


def test_undecodable_names_are_raw_bytes(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    make(tmp_path, file(name, 1)).write(0, b"x")
    assert os.listdir(os.fsencode(tmp_path / "t")) == [b"caf\xe9"]


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, NoSpaceError), (errno.EDQUOT, NoSpaceError), (errno.EIO, StorageError)]
)
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[StorageError]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    storage = make(tmp_path, file("a", 10))
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(kind, match=os.strerror(code)) as caught:
        storage.write(0, b"x")
    assert caught.value.path == str(tmp_path / "t" / "a")
    assert type(caught.value) is kind


def test_short_writes_and_reads_are_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    storage = make(tmp_path, file("a", 10))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:3]], at))
    storage.write(0, b"0123456789")
    assert read(storage, 1, 8) == b"12345678"


def test_systems_without_positioned_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "preadv")
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.delattr(os, "SEEK_DATA")
    storage = make(tmp_path, file("a", 10), file("b", 10))
    storage.write(5, b"0123456789")
    storage.flush()
    assert read(storage, 6, 8) == b"12345678"
    assert storage.gaps(0, 20) == []
    assert not storage.is_all_zeros(0)


class TestWithoutWaiting:
    def test_open_and_cached(self, tmp_path: Path) -> None:
        storage = make(tmp_path, file("a", 10), file("p", 6, pad=True), file("b", 10))
        storage.write(0, b"x" * 26)
        buffer = bytearray(26)
        if storage.try_read_into(0, memoryview(buffer)):  # some file systems cannot tell
            assert buffer == b"x" * 10 + bytes(6) + b"x" * 10

    def test_unopened_missing_and_short_are_left_to_a_thread(self, tmp_path: Path) -> None:
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "a").write_bytes(b"x" * 5)
        storage = make(tmp_path, file("a", 10), file("b", 10))
        assert not storage.try_read_into(0, memoryview(bytearray(5)))
        read(storage, 0, 5)
        assert not storage.try_read_into(0, memoryview(bytearray(10)))
        assert not storage.try_read_into(0, memoryview(bytearray(20)))

    @pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
    def test_not_supported_is_remembered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        asked: list[int] = []

        def refuse(*_: object) -> int:
            asked.append(code)
            raise OSError(code, os.strerror(code))

        storage = make(tmp_path, file("a", 10))
        storage.write(0, b"x" * 10)
        monkeypatch.setattr(fileio, "_NOWAIT", 8)
        monkeypatch.setattr(fileio, "_cannot_nowait", set())
        monkeypatch.setattr(os, "preadv", refuse)
        for _ in range(3):
            assert not storage.try_read_into(0, memoryview(bytearray(5)))
        assert len(asked) == 1

    def test_what_would_wait_is_asked_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: list[Callable[[], int]] = [
            lambda: 3,
            lambda: (_ for _ in ()).throw(BlockingIOError(errno.EAGAIN, "")),
            lambda: 5,
        ]
        storage = make(tmp_path, file("a", 10))
        storage.write(0, b"x" * 10)
        monkeypatch.setattr(fileio, "_NOWAIT", 8)
        monkeypatch.setattr(fileio, "_cannot_nowait", set())
        monkeypatch.setattr(os, "preadv", lambda *_: answers.pop(0)())
        assert [storage.try_read_into(0, memoryview(bytearray(5))) for _ in range(3)] == [False, False, True]


def test_flush_syncs_what_was_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fail = [OSError(errno.EIO, "")]

    def fdatasync(fd: int) -> None:
        if len(synced) == 1 and fail:
            raise fail.pop()
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    storage = make(tmp_path, file("a", 5), file("b", 5), file("c", 5))
    storage.write(0, b"x" * 10)
    with pytest.raises(StorageError):
        storage.flush()
    storage.flush()
    storage.flush()
    assert synced == [os.stat(tmp_path / "t" / name).st_ino for name in "ab"]


def test_flush_does_not_bring_back_a_deleted_file(tmp_path: Path) -> None:
    storage = make(tmp_path, file("a", 5))
    storage.write(0, b"x")
    POOL.close_all()
    (tmp_path / "t" / "a").unlink()
    with pytest.raises(MissingDataError):
        storage.flush()
    assert not (tmp_path / "t" / "a").exists()


def test_closed_is_closed(tmp_path: Path) -> None:
    storage = make(tmp_path, file("a", 5))
    storage.write(0, b"x" * 5)
    storage.close()
    storage.close()
    assert len(POOL) == 0
    for attempt in (lambda: storage.write(0, b"x"), lambda: read(storage, 0, 1), lambda: storage.gaps(0, 1)):
        with pytest.raises(StorageError, match="closed"):
            attempt()
    assert not storage.try_read_into(0, memoryview(bytearray(1)))


def test_storages_share_the_pool_they_are_given(tmp_path: Path) -> None:
    pool = FilePool(2)
    storages = [
        FileStorage(tmp_path, name, TorrentLayout(PIECE, [file("", 5)]), multi_file=False, pool=pool) for name in "abc"
    ]
    for storage in storages:
        storage.write(0, b"12345")
    assert len(pool) == 2
    assert [read(storage, 0, 5) for storage in storages] == [b"12345"] * 3
    pool.close_all()


def test_three_thousand_files_with_few_descriptors(tmp_path: Path) -> None:
    count = 3000
    storage = FileStorage(
        tmp_path,
        "t",
        TorrentLayout(PIECE, [file(f"{index % 50}/{index}", 10) for index in range(count)]),
        multi_file=True,
        portable=False,
        pool=FilePool(128),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        storage.write(0, b"0123456789" * count)
        storage.flush()
        with ThreadPoolExecutor(4) as threads:
            parts = list(threads.map(lambda at: read(storage, at, 500), range(0, 10 * count, 500)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        storage.close()
    assert b"".join(parts) == b"0123456789" * count


def test_names_are_made_portable_only_where_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def folds(folder: str) -> bool:
        asked.append(folder)
        return True

    monkeypatch.setattr(probe, "needs_portable", folds)
    layout = TorrentLayout(PIECE, [file("a", 1)])
    assert not FileStorage(tmp_path, "t", layout, multi_file=True).portable
    assert asked == []
    storage = FileStorage(tmp_path, "t?", layout, multi_file=True)
    assert storage.portable
    assert storage.paths == [str(tmp_path / "t_" / "a")]
    assert asked == [str(tmp_path)]
    assert FileStorage(tmp_path, "t?", layout, multi_file=True, portable=False).paths == [str(tmp_path / "t?" / "a")]
