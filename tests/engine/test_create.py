"""create_torrent: what it makes is what is on the disk, the same every time, and never a guess."""

from __future__ import annotations

import errno
import os
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from unchoke.engine import create
from unchoke.engine.create import create_torrent, usual_piece_length
from unchoke.errors import NotFoundError, StorageError, UnsupportedError
from unchoke.protocol.metainfo import Metainfo

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "Größe"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty folder").mkdir()
    (root / "b").write_bytes(os.urandom(50_000))
    (root / "a.b").write_bytes(os.urandom(3))
    (root / "a").mkdir()
    (root / "a" / "z").write_bytes(os.urandom(70_000))
    (root / "sub" / "none").write_bytes(b"")
    (root / "sub" / "deep" / "ü").write_bytes(os.urandom(20_000))
    return root


def content(root: Path, metainfo: Metainfo) -> bytes:
    return b"".join((root.joinpath(*file.path)).read_bytes() for file in metainfo.layout.files)


def hashes(data: bytes, piece_length: int) -> bytes:
    return b"".join(sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length))


@pytest.mark.parametrize("piece_length", [16 * KIB, 64 * KIB, MIB])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_folder(folder: Path, piece_length: int, threads: int) -> None:
    metainfo = Metainfo.from_bytes(create_torrent(folder, piece_length=piece_length, threads=threads))
    assert metainfo.name == "Größe"
    assert [file.path for file in metainfo.layout.files] == [
        ("a", "z"),
        ("a.b",),
        ("b",),
        ("sub", "deep", "ü"),
        ("sub", "none"),
    ]
    assert metainfo.piece_hashes == hashes(content(folder, metainfo), piece_length)


def test_small_buffers_and_many_runs_make_no_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = create_torrent(folder, piece_length=32 * KIB)
    monkeypatch.setattr(create, "_BUFFER", 1000)
    monkeypatch.setattr(create, "_RUN", 1)
    seen: list[tuple[int, int]] = []
    assert create_torrent(folder, piece_length=32 * KIB, progress=lambda *at: seen.append(at), threads=2) == usual
    assert [done for done, _ in seen] == [32 * KIB, 64 * KIB, 96 * KIB, 128 * KIB, 140_003]
    assert {total for _, total in seen} == {140_003}


def test_one_file_and_everything_around_it(folder: Path) -> None:
    data = create_torrent(
        folder / "b",
        trackers=[["http://a/", "http://b/"], "http://c/"],
        web_seeds=["http://w/"],
        private=True,
        comment="hallo",
        source="X",
        created_at=1_700_000_000,
    )
    metainfo = Metainfo.from_bytes(data)
    assert (metainfo.name, metainfo.multi_file, metainfo.layout.total_length) == ("b", False, 50_000)
    assert metainfo.trackers == (("http://a/", "http://b/"), ("http://c/",))
    assert metainfo.web_seeds == ("http://w/",)
    assert (metainfo.private, metainfo.comment, metainfo.source) == (True, "hallo", "X")
    assert metainfo.created_at == 1_700_000_000
    assert metainfo.created_by is not None
    assert metainfo.created_by.startswith("unchoke/")
    one = Metainfo.from_bytes(create_torrent(folder / "b", trackers=["http://a/"]))
    assert one.trackers == (("http://a/",),)
    assert b"announce-list" not in one.data


def test_the_same_input_gives_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = create_torrent(folder)
    monkeypatch.chdir(folder)
    assert create_torrent(".") == create_torrent(str(folder) + "/") == first


@pytest.mark.parametrize(
    ("total", "length"),
    [
        (1, 16 * KIB),
        (1500 * 24 * KIB, 16 * KIB),
        (1500 * 24 * KIB + 1500, 32 * KIB),
        (1500 * 32 * KIB, 32 * KIB),
        (1500 * 47 * KIB, 32 * KIB),
        (1500 * 49 * KIB, 64 * KIB),
        (1024 * MIB, 512 * KIB),
        (1500 * 16 * MIB, 16 * MIB),
        (10**15, 16 * MIB),
    ],
)
def test_the_usual_piece_length_is_the_power_of_two_nearest_a_1500th(total: int, length: int) -> None:
    assert usual_piece_length(total) == length


@pytest.mark.parametrize("length", [0, -1, 8 * KIB, 16 * KIB + 1, 48 * KIB, 512 * MIB])
def test_piece_lengths_that_nobody_should_make(folder: Path, length: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        create_torrent(folder, piece_length=length)


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_other_versions_say_so(folder: Path, version: str) -> None:
    with pytest.raises(UnsupportedError, match=version):
        create_torrent(folder, version=version)


def test_nothing_to_share(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(StorageError, match="nothing to share"):
        create_torrent(tmp_path / "x")
    (tmp_path / "x" / "empty").touch()
    with pytest.raises(StorageError, match="nothing to share"):
        create_torrent(tmp_path / "x")
    with pytest.raises(NotFoundError):
        create_torrent(tmp_path / "y")
    with pytest.raises(StorageError, match="no name"):
        create_torrent("/")


def test_links_to_files_and_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"1")
    (folder / "file link").symlink_to(outside / "x")
    (folder / "folder link").symlink_to(outside)
    paths = [file.path for file in Metainfo.from_bytes(create_torrent(folder)).layout.files]
    assert ("file link",) in paths
    assert ("folder link", "x") in paths


def test_links_that_lead_nowhere_or_in_circles(folder: Path) -> None:
    (folder / "circle").symlink_to(folder)
    with pytest.raises(StorageError, match="in itself"):
        create_torrent(folder)
    (folder / "circle").unlink()
    (folder / "broken").symlink_to(folder / "not there")
    with pytest.raises(StorageError, match="leads nowhere"):
        create_torrent(folder)


def test_pipes_are_left_out_and_never_opened(folder: Path) -> None:
    before = create_torrent(folder)
    os.mkfifo(folder / "pipe")
    assert create_torrent(folder) == before
    with pytest.raises(StorageError, match="neither"):
        create_torrent(folder / "pipe")


def test_names_that_are_no_text_are_kept_as_bytes(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"r\xff")
    root.mkdir()
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"1")
    metainfo = Metainfo.from_bytes(create_torrent(root))
    assert os.fsencode(metainfo.name) == b"r\xff"
    assert os.fsencode(metainfo.layout.files[0].path[0]) == b"caf\xe9"


@pytest.mark.parametrize("call", ["open", "stat"])
def test_an_unreadable_file_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    real = getattr(os, call)

    def refuse(path: Any, *rest: Any, **more: Any) -> Any:
        if path == str(folder / "b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StorageError, match="denied") as caught:
        create_torrent(folder)
    monkeypatch.undo()
    assert caught.value.path == str(folder / "b")


@pytest.mark.parametrize("size", [10, 49_999, 50_001])
def test_a_file_that_changes_its_size(folder: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = create.find_files

    def find_and_change(root: str) -> Any:
        files = list(found(root))
        os.truncate(folder / "b", size)
        return files

    monkeypatch.setattr(create, "find_files", find_and_change)
    with pytest.raises(StorageError, match="changed its size") as caught:
        create_torrent(folder)
    assert caught.value.path == str(folder / "b")


@pytest.mark.parametrize("size", [10, 60_000])
def test_a_file_that_changes_its_size_while_it_is_read(
    folder: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_at = create._read_at

    def read_and_change(fd: int, into: memoryview, offset: int) -> int:
        count = read_at(fd, into, offset)
        os.truncate(folder / "b", size)
        return count

    monkeypatch.setattr(create, "_read_at", read_and_change)
    with pytest.raises(StorageError, match="changed its size"):
        create_torrent(folder / "b", piece_length=16 * KIB, threads=1)


def test_a_caller_that_gives_up_ends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_RUN", 1)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_torrent(folder, piece_length=16 * KIB, progress=stop)
