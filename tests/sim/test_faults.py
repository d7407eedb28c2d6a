"""Tiny torrents, and a disk that gets full, fails and loses power: what it promises and what it forgets."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import NoSpaceError, StorageError
from unchoke.storage.base import FileStatus
from unchoke.storage.files import FileStorage
from unchoke.storage.memory import MemoryStorage
from unchoke.testing import CrashedError, Faults, FaultyStorage, RamDisk, make_torrent
from unchoke.testing.faults import PAGE

TORRENT = make_torrent(20 * PAGE + 100, piece_length=PAGE)
SIZE = TORRENT.size


def disk(faults: Faults | None = None, seed: int = 0) -> FaultyStorage:
    return FaultyStorage(MemoryStorage(TORRENT.metainfo.layout), SIZE, faults, rng=Random(seed))


def read(storage: FaultyStorage | MemoryStorage, start: int = 0, length: int = SIZE) -> bytes:
    buffer = bytearray(length)
    storage.read_into(start, memoryview(buffer))
    return bytes(buffer)


# ---------------------------------------------------------------------- torrents


def test_a_tiny_torrent_knows_its_bytes() -> None:
    torrent = make_torrent(100_000, piece_length=16384, seed=5, name="one", trackers=["udp://10.0.0.1:1"])
    assert (torrent.size, torrent.piece_count, torrent.name) == (100_000, 7, "one")
    assert torrent.metainfo.trackers == (("udp://10.0.0.1:1",),)
    for index in range(7):
        assert sha1(torrent.piece(index)).digest() == torrent.metainfo.piece_hash(index)
    assert b"".join(map(torrent.piece, range(7))) == torrent.data
    assert torrent.block(6, 0, 16384) == torrent.data[6 * 16384 :]
    with pytest.raises(IndexError):
        torrent.piece(7)


def test_tiny_torrents_are_the_same_every_time_and_differ_by_seed() -> None:
    one, again, other = make_torrent(seed=1), make_torrent(seed=1), make_torrent(seed=2)
    assert one.infohash == again.infohash != other.infohash
    assert one.data == again.data


def test_a_tiny_torrent_of_files_puts_them_where_they_belong(tmp_path: Path) -> None:
    torrent = make_torrent(files={"a.bin": 5000, "deep/b.bin": 0, "deep/er/c.bin": 70_000}, name="set")
    assert torrent.size == 75_000
    torrent.write_to(tmp_path)
    assert (tmp_path / "set/a.bin").read_bytes() == torrent.data[:5000]
    assert (tmp_path / "set/deep/b.bin").read_bytes() == b""
    assert (tmp_path / "set/deep/er/c.bin").read_bytes() == torrent.data[5000:]


def test_a_ram_disk_keeps_what_was_written_from_run_to_run() -> None:
    ram = RamDisk(TORRENT.data)
    first = ram.open(TORRENT.metainfo, Path("here"))
    assert read(first) == TORRENT.data
    assert first.status() == [FileStatus(SIZE, 1), None]
    first.write(0, b"changed")
    first.close()
    second = ram.open(TORRENT.metainfo, Path("here"), frozenset({0}))
    assert read(second, 0, 7) == b"changed"
    assert second.status() == [FileStatus(SIZE, 2), None]
    with pytest.raises(StorageError):
        first.write(0, b"closed")
    assert ram.open(TORRENT.metainfo, Path("elsewhere")).status() == [None, None]


# ---------------------------------------------------------------------- faults


def test_without_faults_it_is_the_storage_inside() -> None:
    storage = disk()
    storage.prepare()
    storage.write(5, b"hello")
    assert read(storage, 5, 5) == b"hello"
    buffer = bytearray(5)
    assert storage.try_read_into(5, memoryview(buffer))
    assert (bytes(buffer), storage.writes, storage.reads) == (b"hello", 1, 2)
    assert storage.room() is None
    assert storage.vanished() == ""
    assert (storage.root, storage.path(0)) == ("", "memory:")
    assert storage.status() == [FileStatus(10, 1), None]
    assert storage.gaps(0, SIZE) == []
    storage.select({0})
    storage.finished(0)
    storage.shorten()
    assert storage.oversized() == storage.foreign_files(Bitfield(21)) == storage.relocate("there") == []
    storage.delete(Bitfield(21))
    with pytest.raises(StorageError):
        storage.write(0, b"closed")


def test_a_full_disk_takes_what_fits_and_says_so() -> None:
    storage = disk(Faults(room=3 * PAGE))
    storage.write(0, bytes(PAGE))
    with pytest.raises(NoSpaceError):
        storage.write(2 * PAGE - 10, b"x" * 3 * PAGE)
    assert storage.is_written(PAGE, 2 * PAGE)
    assert not storage.is_written(3 * PAGE, 1)
    room = storage.room()
    assert room is not None
    assert (room.free, room.missing) == (0, SIZE - 3 * PAGE)
    storage.write(10, b"over what is there")
    with pytest.raises(NoSpaceError):
        storage.write(4 * PAGE, b"x")
    storage.make_room(PAGE)
    storage.write(4 * PAGE, b"x")
    with pytest.raises(NoSpaceError):
        storage.write(5 * PAGE, b"x")
    storage.make_room(None)
    storage.write(5 * PAGE, b"x")


def test_single_reads_and_writes_fail() -> None:
    storage = disk(Faults(failing_writes={2}, failing_reads={2, 4}))
    storage.write(0, b"one")
    with pytest.raises(StorageError, match="Input/output error"):
        storage.write(0, b"two")
    assert read(storage, 0, 3) == b"one"
    with pytest.raises(StorageError, match="Input/output error"):
        read(storage, 0, 3)
    assert read(storage, 0, 3) == b"one"
    assert not storage.try_read_into(0, memoryview(bytearray(3)))
    with pytest.raises(StorageError):
        read(storage, 0, 3)
    assert storage.try_read_into(0, memoryview(bytearray(3)))


def test_what_was_flushed_survives_a_crash_and_what_was_not_is_old_or_new_page_by_page() -> None:
    storage = disk(seed=3)
    storage.write(0, b"A" * SIZE)
    storage.flush()
    assert storage.is_durable(0, SIZE)
    storage.write(2 * PAGE, b"B" * 12 * PAGE)
    assert not storage.is_durable(0, 3 * PAGE)
    assert storage.is_durable(0, 2 * PAGE)
    storage.crash()
    for refused in (storage.flush, storage.prepare, storage.status, lambda: storage.write(0, b"x"), storage.room):
        with pytest.raises(CrashedError):
            refused()
    assert not storage.try_read_into(0, memoryview(bytearray(1)))
    storage.close()
    after = storage.after_crash()
    pages = [read(after, page * PAGE, PAGE) for page in range(20)]
    assert all(page == b"A" * PAGE for page in (*pages[:2], *pages[14:]))
    middle = {bytes(set(page)) for page in pages[2:14]}
    assert middle == {b"A", b"B"}  # some of each, none mixed


def test_a_crash_in_the_midst_of_a_write_tears_it() -> None:
    storage = disk(Faults(crash_at=3), seed=1)
    storage.write(0, b"A" * PAGE)
    storage.flush()
    with pytest.raises(CrashedError):
        storage.write(0, b"B" * 16 * PAGE)
    after = storage.after_crash()
    kept = [read(after, page * PAGE, 1) for page in range(16)]
    assert set(kept) >= {b"B"}
    assert set(kept) & {b"A", b"\0"}


@pytest.mark.parametrize(("survive", "left"), [(0.0, b"\0"), (1.0, b"A")])
def test_how_much_survives_can_be_told(survive: float, left: bytes) -> None:
    storage = disk(Faults(survive=survive, crash_at=2))
    storage.write(0, b"A" * SIZE)
    with pytest.raises(CrashedError):
        storage.flush()
    assert read(storage.after_crash()) == left * SIZE


def test_it_wraps_files_too(tmp_path: Path) -> None:
    inner = FileStorage(tmp_path, TORRENT.name, TORRENT.metainfo.layout, multi_file=False)
    storage = FaultyStorage(inner, SIZE, Faults(survive=0.0))
    storage.prepare()
    storage.write(0, TORRENT.data[: 2 * PAGE])
    storage.flush()
    storage.write(3 * PAGE, b"lost" * 100)
    storage.crash()
    storage.close()
    inner.close()
    written = (tmp_path / TORRENT.name).read_bytes()
    assert written[: 2 * PAGE] == TORRENT.data[: 2 * PAGE]
    assert not any(written[2 * PAGE :])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_after_a_crash_every_page_is_as_it_was_last_or_as_it_was_flushed(data: st.DataObject, seed: int) -> None:
    storage = disk(seed=seed)
    now, flushed = bytearray(SIZE), bytes(SIZE)
    for number in range(data.draw(st.integers(0, 12))):
        if data.draw(st.integers(0, 3)) == 0:
            storage.flush()
            flushed = bytes(now)
            continue
        start = data.draw(st.integers(0, SIZE - 1))
        length = data.draw(st.integers(0, min(3 * PAGE, SIZE - start)))
        storage.write(start, bytes([number + 1]) * length)
        now[start : start + length] = bytes([number + 1]) * length
    assert read(storage) == now
    storage.crash()
    found = read(storage.after_crash())
    for at in range(0, SIZE, PAGE):
        assert found[at : at + PAGE] in (flushed[at : at + PAGE], now[at : at + PAGE])
