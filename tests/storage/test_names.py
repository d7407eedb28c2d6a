"""What files are called until they are finished, and that no name is taken twice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool
from unchoke.storage.names import Names
from unchoke.storage.paths import map_paths

POOL = FilePool(8)
HASH = bytes(range(20))


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    yield
    POOL.close_all()


def make(folder: Path, *names: str, suffix: str = ".part", **options: Any) -> FileStorage:
    layout = TorrentLayout(10, [FileEntry(tuple(name.split("/")), 10) for name in names])
    options = {"infohash": HASH, "pool": POOL, "portable": False, "suffix": suffix, **options}
    return FileStorage(folder, "t", layout, multi_file=True, **options)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


component = st.sampled_from(
    ["a", "A", "a.part", "A.PART", "é", "é.part", "x" * 252, "y" * 255, "é" * 126, "con", "b.part."]
)


@settings(max_examples=100)
@given(
    st.lists(st.lists(component, min_size=1, max_size=3), min_size=1, max_size=8),
    component,
    st.booleans(),
    st.booleans(),
)
@example([["a"], ["a.part", "b"]], "t", True, False)
@example([["a"]], f".{HASH.hex()}.unchoke-parts", False, False)
@example([["a"]], f".{HASH.hex()}.unchoke-parts", True, True)
def test_no_name_is_taken_twice(paths: list[list[str]], name: str, multi_file: bool, portable: bool) -> None:
    entries = [FileEntry(tuple(path), 5) for path in (paths if multi_file else [[]])]
    layout = TorrentLayout(10, entries)
    final = map_paths(name, layout, multi_file, portable=portable)
    names = Names(final, layout, ".part", HASH)
    indexes = range(len(entries))
    every = [names.finished(file) for file in indexes] + [names.unfinished(file) for file in indexes]
    every += [names.temporary(names.finished(file)) for file in indexes] + [(names.part,)]
    assert len(set(every)) == len(every)
    folders = {parts[:depth] for parts in every for depth in range(1, len(parts))}
    assert not folders & set(every)
    for parts in every:
        assert len(parts[-1].encode("utf-8", "surrogateescape")) <= 255
    if portable:  # nor where case and normal forms fold
        assert len({"/".join(parts).casefold() for parts in every}) == len(every)


def test_names_are_the_same_every_time() -> None:
    layout = TorrentLayout(10, [FileEntry(("a",), 5), FileEntry(("a.part",), 5)])
    final = map_paths("t", layout, True, portable=False)
    one, other = (Names(list(final), layout, ".part", HASH) for _ in range(2))
    assert [one.unfinished(file) for file in (0, 1)] == [other.unfinished(file) for file in (0, 1)]
    assert one.unfinished(1) == ("t", "a.part.part")
    assert one.unfinished(0)[-1].startswith("a~")
    assert one.part == f".{HASH.hex()}.unchoke-parts"
    assert Names(final, layout, "", b"").part == Names(final, layout, "", b"").part != one.part


@pytest.mark.parametrize("suffix", ["/x", "a\0", "x.", "x ", "a:b", "\n", "é" * 17, "\udcff"])
def test_a_suffix_that_is_none(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot end"):
        make(tmp_path, "a", suffix=suffix)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_carries_its_suffix_until_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.delattr(os, "link")
    storage = make(tmp_path, "a", "sub/b")
    storage.prepare()
    assert storage.path(0) == str(tmp_path / "t" / "a.part")
    storage.write(0, b"x" * 15)
    assert files(tmp_path) == {"t/a.part", "t/sub/b.part"}
    assert storage.sizes() == [10, 10]
    storage.finished(0)
    storage.finished(0)
    assert files(tmp_path) == {"t/a", "t/sub/b.part"}
    assert storage.path(0) == str(tmp_path / "t" / "a")
    assert storage.paths == [str(tmp_path / "t" / "a"), str(tmp_path / "t" / "sub" / "b.part")]
    storage.write(5, b"y" * 10)  # a piece that failed later
    again = make(tmp_path, "a", "sub/b")
    assert again.paths == storage.paths
    buffer = bytearray(20)
    again.read_into(0, memoryview(buffer))
    assert buffer == b"xxxxxyyyyyyyyyy" + bytes(5)
    again.finished(1)
    assert files(tmp_path) == {"t/a", "t/sub/b"}
    assert again.vanished() == ""


@pytest.mark.parametrize("links", [True, False])
def test_finishing_writes_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.delattr(os, "link")
    storage = make(tmp_path, "a")
    storage.prepare()
    storage.finished(0)  # of which there is nothing yet
    storage.write(0, b"x" * 10)
    (tmp_path / "t" / "a").write_bytes(b"mine")
    with pytest.raises(StorageError, match="is there already") as caught:
        storage.finished(0)
    assert caught.value.path == str(tmp_path / "t" / "a")
    assert (tmp_path / "t" / "a").read_bytes() == b"mine"
    (tmp_path / "t" / "a").unlink()
    storage.finished(0)
    assert (tmp_path / "t" / "a").read_bytes() == b"x" * 10


def test_a_file_under_its_own_name_is_used(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"0123456789")
    storage = make(tmp_path, "a")
    storage.prepare()
    assert storage.path(0) == str(tmp_path / "t" / "a")
    storage.write(0, b"x")
    assert files(tmp_path) == {"t/a"}


@pytest.mark.parametrize("how", ["finished", "deleted"])
def test_a_crash_between_the_two_names(tmp_path: Path, how: str) -> None:
    storage = make(tmp_path, "a")
    storage.prepare()
    storage.write(0, b"x" * 10)
    os.link(tmp_path / "t" / "a.part", tmp_path / "t" / "a")
    storage = make(tmp_path, "a")
    assert storage.path(0) == str(tmp_path / "t" / "a")
    if how == "finished":
        storage.finished(0)
        assert files(tmp_path) == {"t/a"}
    else:
        have = Bitfield(1)
        have[0] = 1
        storage.delete(have)
        assert list(tmp_path.iterdir()) == []


def test_a_stranger_under_the_unfinished_name_stays(tmp_path: Path) -> None:
    storage = make(tmp_path, "a", suffix="")
    storage.prepare()
    storage.write(0, b"x" * 10)
    (tmp_path / "t" / "a.part").write_bytes(b"mine")
    storage = make(tmp_path, "a")
    storage.finished(0)
    assert (tmp_path / "t" / "a.part").read_bytes() == b"mine"


def test_a_folder_that_is_a_link_inside(tmp_path: Path) -> None:
    (tmp_path / "t" / "real").mkdir(parents=True)
    (tmp_path / "t" / "sub").symlink_to("real")
    storage = make(tmp_path, "sub/a")
    storage.prepare()
    storage.write(0, b"x" * 10)
    storage.finished(0)
    assert (tmp_path / "t" / "real" / "a").read_bytes() == b"x" * 10
    assert not (tmp_path / "t" / "real" / "a.part").exists()


def test_a_rename_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    storage = make(tmp_path, "a")
    storage.prepare()
    storage.write(0, b"x" * 10)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match=r"cannot rename .*a\.part: Read-only") as caught:
        storage.finished(0)
    assert caught.value.path == str(tmp_path / "t" / "a.part")


def test_foreign_files_under_the_unfinished_name(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.part").write_bytes(b"my diary, longer")
    storage = make(tmp_path, "a")
    assert storage.oversized() == [str(tmp_path / "t" / "a.part")]
    (tmp_path / "t" / "a.part").write_bytes(b"my diary")
    assert storage.foreign_files(Bitfield(1)) == [str(tmp_path / "t" / "a.part")]
    storage.delete(Bitfield(1))
    assert files(tmp_path) == {"t/a.part"}
