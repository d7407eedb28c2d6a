"""Disks that are full, read-only or gone, under real downloads: it says what is wrong, keeps what it has, and goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import stage
from fakes.commands import Get, Seeder, seeding, write_torrent
from fakes.disks import Disk, plug_in, pull_out, small_disk
from fakes.peer import soon
from fakes.stage import until
from unchoke.engine.session import Session
from unchoke.engine.settings import DiskSettings
from unchoke.engine.torrent import Torrent
from unchoke.errors import GoneError, NoSpaceError, StorageError
from unchoke.types import Address

pytestmark = pytest.mark.platform("mounting disks needs root on Linux")

KIB, MIB = 1 << 10, 1 << 20
NO_SPACE = 9
WHAT = stage.sample(files={"one": 3 * MIB + 5, "two": 5 * MIB, "three": 77}, name="album", piece_length=64 * KIB)
#: Looks at the disk as often as its heartbeat comes.
WATCHFUL = replace(stage.SETTINGS, disk=DiskSettings(look_interval=0.0))


@pytest.fixture
async def seeder(tmp_path: Path) -> AsyncIterator[Seeder]:
    async with seeding(tmp_path, up=8 * MIB) as seeder:
        yield seeder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """16 MiB: twice the torrent."""
    with small_disk(tmp_path / "disk", 16 * MIB) as disk:
        yield disk


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    """One that tries again soon."""
    monkeypatch.setattr("unchoke.engine.life.FIRST_RETRY", 0.0)
    async with Session(WATCHFUL) as session:
        yield session


# ---------------------------------------------------------------------- get, on a full disk


async def test_what_cannot_fit_is_refused_with_figures(tmp_path: Path, disk: Disk) -> None:
    disk.fill(leave=4 * MIB)
    async with Get(write_torrent(WHAT, tmp_path), disk.path, home=tmp_path / "home") as get:
        assert await get.ended() == NO_SPACE
    assert f"no space for album in {disk.path}: it needs 8.0 MiB more, and 4.0 MiB are free" in get.output
    assert len(get.output.splitlines()) == 1


async def test_a_disk_that_fills_on_the_way_and_the_same_command_again(
    tmp_path: Path, seeder: Seeder, disk: Disk
) -> None:
    given, torrent = await seeder.serve(WHAT), write_torrent(WHAT, tmp_path)
    async with Get(torrent, disk.path, home=tmp_path / "home", peer=seeder.address) as get:
        given.at(4 * MIB, disk.fill)
        assert await get.ended() == NO_SPACE
    assert re.search(
        r"the disk is full: .* MiB of album are to come, .* are free; free some space and start again", get.output
    )
    assert len(get.output.splitlines()) == 1
    first = given.blocks
    async with Get(torrent, disk.path, home=tmp_path / "home", peer=seeder.address) as get:
        assert await get.ended() == NO_SPACE
    assert "no space for album" in get.output
    disk.make_room()
    given.begin()
    seeder.limit(0)
    async with Get(torrent, disk.path, home=tmp_path / "home", peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    WHAT.assert_in(disk.path)
    assert (first & given.blocks).count(1) < first.count(1) / 2, (
        "what had been written before the disk was full is kept"
    )


@pytest.mark.long
async def test_with_a_timeout_it_waits_for_room(tmp_path: Path, seeder: Seeder, disk: Disk) -> None:
    given, torrent = await seeder.serve(WHAT), write_torrent(WHAT, tmp_path)
    words = ("-v", "--timeout", "30")
    async with Get(torrent, disk.path, *words, home=tmp_path / "home", peer=seeder.address) as get:
        given.at(4 * MIB, disk.fill)
        await get.said("album: no space")
        disk.make_room()
        assert await get.ended() == 0, get.output
    WHAT.assert_in(disk.path)


@pytest.mark.long
async def test_with_a_timeout_it_waits_no_longer_than_that(tmp_path: Path, disk: Disk) -> None:
    disk.fill(leave=MIB)
    words = ("--timeout", "2")
    async with Get(write_torrent(WHAT, tmp_path), disk.path, *words, home=tmp_path / "home") as get:
        assert await get.ended() == NO_SPACE
    assert "1.0 MiB are free" in get.output


# ---------------------------------------------------------------------- a session


async def test_a_torrent_stands_in_no_space_until_there_is_room(
    tmp_path: Path, seeder: Seeder, session: Session, disk: Disk
) -> None:
    await seeder.serve(WHAT)
    disk.fill(leave=MIB)
    torrent = await session.add(WHAT.torrent, folder=disk.path, peers=[address(seeder)])
    with pytest.raises(NoSpaceError, match=r"1\.0 MiB are free"):
        await soon(torrent.done())
    snapshot = torrent.snapshot()
    assert (snapshot.state, snapshot.space_needed, snapshot.space_free) == ("no space", len(WHAT.data), MIB)
    assert "no space" in snapshot.why()
    disk.make_room()
    await until(lambda: torrent.state == "seeding")
    WHAT.assert_in(disk.path)
    assert torrent.snapshot().why() == ""


async def test_a_disk_that_fills_under_a_session(
    seeder: Seeder, session: Session, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unchoke.engine.life.FIRST_RETRY", 1.1)  # later than the next look of a running torrent
    given = await seeder.serve(WHAT)
    torrent = await session.add(WHAT.torrent, folder=disk.path, peers=[address(seeder)])
    given.at(4 * MIB, disk.fill)
    with pytest.raises(NoSpaceError):
        await soon(torrent.done())
    disk.make_room()
    await until(lambda: torrent.state == "seeding")
    WHAT.assert_in(disk.path)
    assert given.total < 1.5 * len(WHAT.data)


@pytest.mark.long
async def test_a_folder_that_is_moved_away_and_back_while_it_downloads(
    tmp_path: Path, seeder: Seeder, session: Session
) -> None:
    given = await seeder.serve(WHAT)
    seeder.limit(2 * MIB)
    folder, away = tmp_path / "out", tmp_path / "away"
    torrent = await session.add(WHAT.torrent, folder=folder, peers=[address(seeder)])
    await given.reached(2 * MIB)
    folder.rename(away)
    with pytest.raises(StorageError, match="is gone"):
        await soon(torrent.done())
    assert torrent.state == "error"
    assert "is gone: was its disk taken away?" in torrent.snapshot().why()
    await tried_again(torrent)
    assert not folder.exists(), "nothing is made anew"
    assert "gone" in torrent.snapshot().why()
    before = given.total
    seeder.limit(0)
    away.rename(folder)
    await until(lambda: torrent.state == "seeding")
    WHAT.assert_in(folder)
    assert given.total - before < len(WHAT.data) - MIB, "what it had is not fetched again"


@pytest.mark.long
async def test_a_folder_that_is_moved_away_and_back_while_it_seeds(tmp_path: Path, session: Session) -> None:
    WHAT.write_to(tmp_path / "out")
    torrent = await session.add(WHAT.torrent, folder=tmp_path / "out", up=MIB)
    await soon(torrent.done())
    async with Session(stage.SETTINGS) as other:
        leech = await other.add(WHAT.torrent, folder=tmp_path / "leech", peers=[stage.address_of(session)])
        await until(lambda: leech.snapshot().done)
        (tmp_path / "out").rename(tmp_path / "away")
        with pytest.raises(GoneError):
            await soon(torrent.failed())
        assert not (tmp_path / "out").exists()
        (tmp_path / "away").rename(tmp_path / "out")
        await until(lambda: torrent.state == "seeding")
        torrent.limit(up=0)
        leech.add_peers([stage.address_of(session)])
        await soon(leech.done())
    WHAT.assert_in(tmp_path / "out")
    WHAT.assert_in(tmp_path / "leech")


@pytest.mark.long
async def test_a_disk_that_is_pulled_out_and_plugged_in_again(
    tmp_path: Path, seeder: Seeder, session: Session, disk: Disk
) -> None:
    given = await seeder.serve(WHAT)
    seeder.limit(2 * MIB)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    plug_in(disk, mounted)
    try:
        torrent = await session.add(WHAT.torrent, folder=mounted / "out", peers=[address(seeder)])
        await given.reached(2 * MIB)
    finally:
        pull_out(mounted)
    with pytest.raises(StorageError, match=r"gone|another disk"):
        await soon(torrent.done())
    await tried_again(torrent)
    assert list(mounted.iterdir()) == [], "nothing is made where the disk was"
    before = given.total
    plug_in(disk, mounted)
    try:
        await until(lambda: torrent.state == "seeding")
        await torrent.stop()
    finally:
        pull_out(mounted)
    WHAT.assert_in(disk.path / "out")
    assert given.total - before < len(WHAT.data) - MIB


@pytest.mark.long
async def test_a_disk_that_cannot_be_written_for_a_while(
    tmp_path: Path, seeder: Seeder, session: Session, disk: Disk
) -> None:
    given = await seeder.serve(WHAT)
    torrent = await session.add(WHAT.torrent, folder=disk.path, peers=[address(seeder)])
    await given.reached(2 * MIB)
    await torrent.stop()
    disk.remount("ro")
    given.begin()
    await torrent.start()
    with pytest.raises(
        StorageError, match="Read-only file system; choose a folder on a file system that can be written"
    ):
        await soon(torrent.done())
    assert torrent.state == "error"
    disk.remount("rw")
    await until(lambda: torrent.state == "seeding")
    WHAT.assert_in(disk.path)
    assert given.total <= len(WHAT.data) - MIB


def address(seeder: Seeder) -> Address:
    return stage.address_of(seeder.session)


async def tried_again(torrent: Torrent) -> None:
    """It looked whether the cause is gone, and it is not."""
    before = torrent.retry_at
    await until(lambda: torrent.retry_at != before and torrent.error is not None)
