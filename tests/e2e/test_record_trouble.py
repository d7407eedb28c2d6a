"""Records that cannot be kept, or not be read, never cost the download: it says so in one line, and completes."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fakes import stage
from fakes.commands import Get, Given, Seeder, seeding, write_torrent
from fakes.disks import Disk, small_disk
from fakes.stage import PIECE

MIB = 1 << 20
WHAT = stage.sample(files={"one": 90 * PIECE + 1, "two": 99}, name="album")


@pytest.fixture
async def seeder(tmp_path: Path) -> AsyncIterator[Seeder]:
    async with seeding(tmp_path) as seeder:
        yield seeder


@pytest.fixture
async def given(seeder: Seeder) -> Given:
    return await seeder.serve(WHAT)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", MIB) as disk:
        yield disk


@pytest.fixture
def torrent(tmp_path: Path) -> Path:
    return write_torrent(WHAT, tmp_path)


async def get_without_records(torrent: Path, tmp_path: Path, state: Path, seeder: Seeder) -> list[str]:
    """Download; what it said but for the line that says that it is done."""
    words = ("--state-dir", state)
    async with Get(torrent, tmp_path / "out", *words, home=tmp_path / "home", peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    WHAT.assert_in(tmp_path / "out")
    done = [line for line in get.program.lines if line.startswith(f"done: {tmp_path}/out/album")]
    assert len(done) == 1, get.output
    return [line for line in get.program.lines if line not in done]


async def test_a_state_directory_that_cannot_be(tmp_path: Path, torrent: Path, seeder: Seeder, given: Given) -> None:
    (tmp_path / "file").touch()
    (line,) = await get_without_records(torrent, tmp_path, tmp_path / "file" / "state", seeder)
    assert line.startswith("no record was kept: cannot open the database")


@pytest.mark.long
@pytest.mark.platform("mounting disks needs root on Linux")
async def test_a_read_only_state_directory(
    tmp_path: Path, torrent: Path, seeder: Seeder, given: Given, disk: Disk
) -> None:
    disk.remount("ro")
    (line,) = await get_without_records(torrent, tmp_path, disk.path / "state", seeder)
    assert line.startswith("no record was kept: cannot open the database")
    assert "Read-only file system" in line


@pytest.mark.platform("mounting disks needs root on Linux")
@pytest.mark.parametrize("leave", [0, pytest.param(16384, marks=pytest.mark.long)])
async def test_a_full_state_directory(
    tmp_path: Path, torrent: Path, seeder: Seeder, given: Given, disk: Disk, leave: int
) -> None:
    disk.fill(leave)
    (line,) = await get_without_records(torrent, tmp_path, disk.path / "state", seeder)
    assert line.startswith("no record was kept: ")


@pytest.mark.long
@pytest.mark.platform("mounting disks needs root on Linux")
async def test_a_state_directory_that_fills_on_the_way(
    tmp_path: Path, torrent: Path, seeder: Seeder, given: Given, disk: Disk
) -> None:
    seeder.limit(2 * MIB)
    given.at(MIB, disk.fill)
    (line,) = await get_without_records(torrent, tmp_path, disk.path / "state", seeder)
    assert line.startswith("no record was kept: ")


async def test_garbage_where_the_records_were(tmp_path: Path, torrent: Path, seeder: Seeder, given: Given) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "cli.sqlite").write_bytes(b"garbage" * 4096)
    (line,) = await get_without_records(torrent, tmp_path, state, seeder)
    assert f"{state}/cli.sqlite: it is not a database; it was set aside as " in line
    assert line.endswith("what it knew is lost, and data will be checked")
    kept = [path for path in state.iterdir() if path.is_file() and path.read_bytes() == b"garbage" * 4096]
    assert len(kept) == 1, "it was renamed, and not deleted"
    async with Get(torrent, tmp_path / "out", "-v", "--state-dir", state, home=tmp_path / "home") as again:
        assert await again.ended() == 0
    assert "91 pieces trusted, 0 to hash" in again.output


@pytest.mark.parametrize("whole_folder", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_records_that_are_deleted_under_way(
    tmp_path: Path, torrent: Path, seeder: Seeder, given: Given, whole_folder: bool
) -> None:
    state = tmp_path / "state"
    seeder.limit(4 * MIB)

    def delete() -> None:
        if whole_folder:
            shutil.rmtree(state)
        else:
            for path in state.glob("cli.sqlite*"):
                path.unlink()

    given.at(MIB, delete)
    lines = await get_without_records(torrent, tmp_path, state, seeder)
    if whole_folder:
        assert [line.startswith("no record was kept: ") for line in lines] == [True]
        return
    assert lines == []
    async with Get(torrent, tmp_path / "out", "-v", "--state-dir", state, home=tmp_path / "home") as again:
        assert await again.ended() == 0
    assert "91 pieces trusted, 0 to hash" in again.output
