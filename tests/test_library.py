"""The library as its users write it: each call of its fixed shape, what it raises, and what it leaves on disk."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import unchoke
from fakes import stage
from fakes.peer import FakePeer, frame, soon
from fakes.stage import PIECE, Sample
from unchoke.engine.events import EventsLost, PieceCompleted, StateChanged, TorrentCompleted, TorrentRemoved
from unchoke.engine.session import Session
from unchoke.engine.tracker_server import TrackerServer
from unchoke.errors import (
    DataMismatchError,
    ForeignFileError,
    NoSpaceError,
    NotFoundError,
    StoppedError,
    StorageError,
    UnsupportedError,
)
from unchoke.protocol import messages as m
from unchoke.protocol.messages import Kind
from unchoke.storage import deleting

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample(8 * PIECE - 3)
ALBUM = stage.sample(files={"a/one": PIECE + 5, "a/empty": 0, "b/two": 3 * PIECE, "three": 2 * PIECE - 1}, name="album")


@dataclasses.dataclass
class Pair:
    """A session that seeds ``WHAT`` and ``ALBUM``, and one that has nothing yet."""

    seed: Session
    session: Session
    folder: Path

    async def add(self, what: Sample, **how: Any) -> unchoke.Torrent:
        how.setdefault("folder", self.folder)
        return await self.session.add(what.torrent, peers=[stage.address_of(self.seed)], **how)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with stage.session() as seed, stage.session(seed=2) as session:
        await stage.seeder(seed, WHAT, tmp_path / "seed")
        await stage.seeder(seed, ALBUM, tmp_path / "seed")
        yield Pair(seed, session, tmp_path / "out")


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---------------------------------------------------------------------- add, done, download


@pytest.mark.parametrize("form", ["bytes", "path", "text", "metainfo"])
async def test_a_torrent_in_any_form(pair: Pair, tmp_path: Path, form: str) -> None:
    file = tmp_path / "x.torrent"
    file.write_bytes(WHAT.torrent)
    source: Any = {"bytes": WHAT.torrent, "path": file, "text": str(file), "metainfo": WHAT.metainfo}[form]
    torrent = await pair.session.add(source, folder=str(pair.folder), peers=[stage.address_of(pair.seed)])
    await soon(torrent.done())
    WHAT.assert_in(pair.folder)
    assert torrent.path == pair.folder / "sample"
    await torrent.done()


async def test_several_files_empty_ones_too(pair: Pair) -> None:
    torrent = await pair.add(ALBUM)
    await soon(torrent.done())
    ALBUM.assert_in(pair.folder)
    assert torrent.path == pair.folder / "album"
    assert torrent.file_progress() == [PIECE + 5, 0, 3 * PIECE, 2 * PIECE - 1]


async def test_download_in_one_call(tmp_path: Path) -> None:
    server = TrackerServer(bind="127.0.0.1", port=0)
    await server.start()
    try:
        url = next(url for url in server.urls if url.startswith("http"))
        what = dataclasses.replace(WHAT, torrent=b"d8:announce%d:%s" % (len(url), url.encode()) + WHAT.torrent[1:])
        async with stage.session() as seed:
            what.write_to(tmp_path / "seed")
            torrent = await seed.add(what.torrent, folder=tmp_path / "seed")
            await soon(torrent.done())
            await stage.until(lambda: torrent.snapshot().trackers[0].status == "working")
            path = await soon(unchoke.download(what.torrent, tmp_path / "out", settings=stage.SETTINGS))
        assert path.read_bytes() == what.data
    finally:
        await server.aclose()


@pytest.mark.parametrize("what", [stage.sample(0, name="nothing"), stage.sample(files={"a": 0, "b/c": 0}, name="none")])
async def test_a_torrent_without_a_byte_is_done_at_once(tmp_path: Path, what: Sample) -> None:
    async with stage.session() as session:
        torrent = await session.add(what.torrent, folder=tmp_path)
        await soon(torrent.done())
        what.assert_in(tmp_path)
        snapshot = torrent.snapshot()
        assert (snapshot.progress, snapshot.ratio, snapshot.eta, snapshot.why()) == (1.0, 0.0, None, "")
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(frame(Kind.HAVE_NONE), frame(Kind.BITFIELD))


async def test_v2_only_says_so(tmp_path: Path) -> None:
    async with stage.session() as session:
        metainfo = dataclasses.replace(WHAT.metainfo, infohash_v1=None, infohash_v2=unchoke_hash())
        with pytest.raises(UnsupportedError, match="v2-only"):
            await session.add(metainfo, folder=tmp_path)
        assert session.torrents == {}


def unchoke_hash() -> Any:
    from unchoke.types import InfoHash

    return InfoHash(b"2" * 32)


async def test_chosen_files_take_only_their_pieces(pair: Pair) -> None:
    """File 1 of the four is empty, file 2 begins inside piece 1: pieces 1 to 4 of 7."""
    torrent = await pair.add(ALBUM, files=[1, 2])
    await soon(torrent.done())
    root = pair.folder / "album"
    assert (root / "b/two").read_bytes() == ALBUM.files[2][1]
    assert (root / "a/empty").read_bytes() == b""
    snapshot = torrent.snapshot()
    assert (snapshot.pieces_done, snapshot.progress) == (4, 1.0)
    assert snapshot.downloaded == snapshot.wanted == 4 * PIECE
    assert torrent.file_progress()[2] == 3 * PIECE


async def test_no_file_chosen_is_nothing_to_do(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await session.add(ALBUM.torrent, folder=tmp_path, files=[])
        await soon(torrent.done())
        assert everything_in(tmp_path) == []


async def test_in_order_when_asked(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path, sequential=True)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
            await peer.serve(WHAT.data, PIECE, most=16)
            await soon(torrent.done())
            assert peer.served == sorted(peer.served)


# ---------------------------------------------------------------------- what done() raises


async def test_a_file_that_is_not_ours_is_named_and_left_alone(pair: Pair) -> None:
    pair.folder.mkdir()
    file = pair.folder / "sample"
    file.write_bytes(b"my thesis")
    torrent = await pair.add(WHAT)
    with pytest.raises(ForeignFileError, match="sample") as refused:
        await soon(torrent.done())
    assert refused.value.path == str(file)
    assert file.read_bytes() == b"my thesis"
    assert (torrent.state, torrent.snapshot().reason) == ("error", str(refused.value))
    await pair.session.remove(torrent, data=True)
    assert file.read_bytes() == b"my thesis", "nor is it deleted"

    allowed = await pair.add(WHAT, overwrite=True)
    await soon(allowed.done())
    WHAT.assert_in(pair.folder)


async def test_a_file_that_is_too_long_is_left_alone(pair: Pair) -> None:
    pair.folder.mkdir()
    file = pair.folder / "sample"
    file.write_bytes(WHAT.data + b"!")
    torrent = await pair.add(WHAT)
    with pytest.raises(ForeignFileError, match="longer"):
        await soon(torrent.done())
    await pair.session.remove(torrent, data=True)
    assert file.read_bytes() == WHAT.data + b"!"
    allowed = await pair.add(WHAT, overwrite=True)
    await soon(allowed.done())
    assert file.read_bytes() == WHAT.data


async def test_the_full_disk_is_told_and_what_was_written_counts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    written: list[int] = []

    def fills_up(fd: int, data: Any, offset: int) -> int:
        if len(written) >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(offset)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", fills_up)
    torrent = await pair.add(WHAT)
    with pytest.raises(NoSpaceError, match=r"sample.*free some space"):
        await soon(torrent.done())
    with pytest.raises(NoSpaceError):
        await torrent.failed()
    assert torrent.state == "no space"
    await stage.until(lambda: pair.session.disk.reserved == 0)  # those on their way to the disk come back too
    monkeypatch.undo()
    await torrent.start()
    await soon(torrent.done())
    WHAT.assert_in(pair.folder)
    assert torrent.snapshot().pieces_done == 8


async def test_a_folder_that_cannot_be_made_is_named(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    torrent = await pair.add(WHAT, folder=tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="below"):
        await soon(torrent.done())


async def test_stopped_before_it_was_complete(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        waiting = [asyncio.create_task(torrent.done()) for _ in range(2)]
        await stage.turns(2)
        await torrent.stop()
        for task in waiting:
            with pytest.raises(StoppedError, match="stopped by its user before"):
                await task
        with pytest.raises(StoppedError, match="stopped by its user"):
            await torrent.done()
        other = await session.add(ALBUM.torrent, folder=tmp_path, start=False)
        with pytest.raises(StoppedError, match="not started"):
            await other.done()
        await other.start()
        last = asyncio.create_task(other.done())
        await stage.turns(2)
    with pytest.raises(StoppedError, match="removed"):
        await last


async def test_a_seed_has_everything_or_says_what_is_missing(tmp_path: Path) -> None:
    async with stage.session() as session:
        nothing = await session.add(WHAT.torrent, folder=tmp_path, seed_only=True)
        with pytest.raises(NotFoundError, match="sample"):
            await soon(nothing.done())
        assert everything_in(tmp_path) == []
        await session.remove(nothing)
        (tmp_path / "sample").write_bytes(WHAT.data[:PIECE] + bytes(PIECE))
        part = await session.add(WHAT.torrent, folder=tmp_path, seed_only=True)
        with pytest.raises(DataMismatchError, match="7 of 8 pieces"):
            await soon(part.done())
        WHAT.write_to(tmp_path)
        await part.verify()
        await soon(part.done())


# ---------------------------------------------------------------------- events and snapshots


async def test_events_tell_the_story(pair: Pair) -> None:
    torrent = await pair.add(WHAT, start=False)
    watching = torrent.events()
    await torrent.start()
    await soon(torrent.done())
    await pair.session.remove(torrent)
    story = [event async for event in watching]
    states = [event.state for event in story if isinstance(event, StateChanged)]
    assert states == ["checking", "downloading", "seeding", "stopped"]
    assert sorted(event.piece for event in story if isinstance(event, PieceCompleted)) == list(range(8))
    assert sum(isinstance(event, TorrentCompleted) for event in story) == 1
    assert isinstance(story[-1], TorrentRemoved)


async def test_a_slow_subscriber_loses_the_oldest_and_then_asks_for_a_snapshot(pair: Pair) -> None:
    slow = pair.session.subscribe(limit=2)
    torrent = await pair.add(WHAT)
    await soon(torrent.done())
    first = await anext(slow)
    assert isinstance(first, EventsLost)
    assert first.count > 8
    assert torrent.snapshot().progress == 1.0


async def test_snapshots_are_pictures(pair: Pair) -> None:
    torrent = await pair.add(WHAT, start=False)
    before = torrent.snapshot()
    await torrent.start()
    await soon(torrent.done())
    assert (before.state, before.done, before.wanted) == ("stopped", 0, len(WHAT.data))
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.state = "seeding"  # type: ignore[misc]
    after = pair.session.snapshot().torrents[0]
    assert (after.state, after.done, after.downloaded) == ("seeding", len(WHAT.data), len(WHAT.data))
    assert after.trackers == ()


# ---------------------------------------------------------------------- stop, start, verify


async def fetched_until(session: Session, folder: Path, pieces: int) -> list[tuple[int, int, int]]:
    """Download until so many pieces are there, then stop; the blocks that this took."""
    torrent = await stage.leecher(session, WHAT, folder, sequential=True)
    had = torrent.snapshot().pieces_done
    async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
        peer.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        await peer.serve(WHAT.data, PIECE, most=2 * (pieces - had))
        await stage.until(lambda: torrent.snapshot().pieces_done == pieces)
        await torrent.stop()
    return peer.served


async def test_a_later_session_fetches_only_the_rest(tmp_path: Path) -> None:
    served: list[tuple[int, int, int]] = []
    for pieces in (2, 5, 8):
        async with stage.session(seed=pieces) as session:
            served += await fetched_until(session, tmp_path, pieces)
    WHAT.assert_in(tmp_path)
    assert len(set(served)) == len(served) == 16, "every block was fetched once"


async def test_so_does_the_same_session_when_it_starts_again(tmp_path: Path) -> None:
    async with stage.session() as session:
        served = await fetched_until(session, tmp_path, 3)
        (torrent,) = session.torrents.values()
        await torrent.start()
        served += await fetched_until(session, tmp_path, 8)
    WHAT.assert_in(tmp_path)
    assert len(set(served)) == len(served) == 16


async def test_stop_and_start_again(pair: Pair) -> None:
    torrent = await pair.add(WHAT)
    await soon(torrent.done())
    await torrent.stop()
    assert (torrent.state, torrent.snapshot().progress) == ("stopped", 1.0)
    await torrent.done()
    await torrent.stop()
    await torrent.start()
    await torrent.start()
    await soon(torrent.done())
    assert torrent.snapshot().downloaded == len(WHAT.data)


async def test_verify_finds_what_is_damaged_and_goes_on(pair: Pair) -> None:
    torrent = await pair.add(WHAT)
    await soon(torrent.done())
    with (pair.folder / "sample").open("r+b") as file:
        file.seek(3 * PIECE)
        file.write(b"damage")
    watching = torrent.events()
    await torrent.verify()
    await stage.next_event(watching, TorrentCompleted)
    await soon(torrent.done())
    WHAT.assert_in(pair.folder)
    assert torrent.snapshot().downloaded == len(WHAT.data) + PIECE


async def test_verify_leaves_a_stopped_torrent_stopped(pair: Pair) -> None:
    torrent = await pair.add(WHAT)
    await soon(torrent.done())
    await torrent.stop()
    (pair.folder / "sample").unlink()
    await torrent.verify()
    await stage.until(lambda: torrent.state == "stopped")
    assert (torrent.snapshot().pieces_done, torrent.snapshot().reason) == (0, "verified")
    assert list(pair.folder.iterdir()) == []
    with pytest.raises(StoppedError):
        await torrent.done()


async def test_a_check_that_is_stopped_begins_anew(pair: Pair) -> None:
    torrent = await pair.add(WHAT)
    await soon(torrent.done())
    (pair.folder / "sample").write_bytes(WHAT.data[:PIECE])
    await torrent.verify()
    await torrent.stop()
    assert torrent.snapshot().pieces_done == 0, "nothing is known before it was checked"
    await torrent.start()
    await soon(torrent.done())
    WHAT.assert_in(pair.folder)


# ---------------------------------------------------------------------- remove


@pytest.fixture(params=[True, False], ids=["folders held", "by path"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of deleting: with folders held open, and by path where a system cannot do that."""
    monkeypatch.setattr(deleting, "_HAS_DIR_FD", request.param and deleting._HAS_DIR_FD)


@pytest.mark.usefixtures("way")
async def test_removed_with_its_data_nothing_of_it_is_left_and_nothing_else_is_gone(pair: Pair) -> None:
    torrent = await pair.add(ALBUM)
    await soon(torrent.done())
    mine = pair.folder / "album" / "b" / "my notes"
    mine.write_bytes(b"mine")
    (pair.folder / "other").write_bytes(b"other")
    await pair.session.remove(torrent, data=True)
    left = {path.relative_to(pair.folder) for path in pair.folder.rglob("*")}
    assert left == {Path("album"), Path("album/b"), Path("album/b/my notes"), Path("other")}
    assert pair.session.torrents == {}


async def test_removed_without_its_data_stays_on_disk(pair: Pair) -> None:
    torrent = await pair.add(ALBUM)
    await soon(torrent.done())
    await pair.session.remove(torrent)
    ALBUM.assert_in(pair.folder)


async def test_a_torrent_never_checked_is_checked_before_its_data_goes(pair: Pair) -> None:
    WHAT.write_to(pair.folder)
    ours = await pair.add(WHAT, start=False)
    await pair.session.remove(ours, data=True)
    assert list(pair.folder.iterdir()) == []
    (pair.folder / "sample").write_bytes(b"not ours")
    foreign = await pair.add(WHAT, start=False)
    await pair.session.remove(foreign, data=True)
    assert (pair.folder / "sample").read_bytes() == b"not ours"


@pytest.mark.usefixtures("way")
async def test_links_are_not_followed_when_deleting(pair: Pair, tmp_path: Path) -> None:
    """Somebody moved a file and a folder away and left links: what they lead to is not ours to delete."""
    torrent = await pair.add(ALBUM)
    await soon(torrent.done())
    await torrent.stop()
    away = pair.folder / "elsewhere"
    away.mkdir()
    (pair.folder / "album/three").rename(away / "three")
    (pair.folder / "album/three").symlink_to(away / "three")
    (pair.folder / "album/b").rename(away / "b")
    (pair.folder / "album/b").symlink_to(away / "b")
    await pair.session.remove(torrent, data=True)
    assert (away / "three").read_bytes() == ALBUM.files[3][1]
    assert (away / "b/two").read_bytes() == ALBUM.files[2][1]
    assert not (pair.folder / "album/a").exists()


async def test_a_file_that_cannot_be_deleted_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    torrent = await pair.add(ALBUM)
    await soon(torrent.done())
    real = os.unlink

    def refuses(path: Any, *, dir_fd: int | None = None) -> None:
        if str(path).endswith("one"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuses)
    with pytest.raises(StorageError, match=r"cannot delete .*one"):
        await pair.session.remove(torrent, data=True)
    assert [path.name for path in pair.folder.rglob("*") if path.is_file()] == ["one"], "the others are deleted"
    assert pair.session.torrents == {}
