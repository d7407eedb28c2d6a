"""Any number of ``get``s at one time, with one set of records; and two that must not meet."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes import stage
from fakes.commands import Get, Seeder, seeding, write_torrent
from fakes.stage import PIECE, Sample

MIB = 1 << 20


def torrent(number: int) -> Sample:
    return stage.sample(files={"one": 30 * PIECE + number, "two": 99}, name=f"album {number}")


@pytest.fixture
async def seeder(tmp_path: Path) -> AsyncIterator[Seeder]:
    async with seeding(tmp_path) as seeder:
        yield seeder


async def ended(*gets: Get) -> list[int]:
    return list(await asyncio.gather(*(get.ended() for get in gets)))


@pytest.mark.long
async def test_two_torrents_into_one_folder(seeder: Seeder, tmp_path: Path) -> None:
    whats = [torrent(1), torrent(2)]
    for what in whats:
        await seeder.serve(what)
    seeder.limit(MIB)
    words = [write_torrent(what, tmp_path) for what in whats]
    async with (
        Get(words[0], tmp_path / "out", home=tmp_path / "home", peer=seeder.address) as one,
        Get(words[1], tmp_path / "out", home=tmp_path / "home", peer=seeder.address) as two,
    ):
        assert await ended(one, two) == [0, 0], one.output + two.output
    found = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {path for what in whats for path, _ in what.files}
    for what in whats:
        for path, data in what.files:
            assert (tmp_path / "out" / path).read_bytes() == data


@pytest.mark.long
async def test_one_torrent_into_two_folders(seeder: Seeder, tmp_path: Path) -> None:
    what = torrent(1)
    await seeder.serve(what)
    seeder.limit(MIB)
    path = write_torrent(what, tmp_path)
    async with (
        Get(path, tmp_path / "a", home=tmp_path / "home", peer=seeder.address) as one,
        Get(path, tmp_path / "b", home=tmp_path / "home", peer=seeder.address) as two,
    ):
        assert await ended(one, two) == [0, 0], one.output + two.output
    what.assert_in(tmp_path / "a")
    what.assert_in(tmp_path / "b")


async def test_the_second_on_the_same_pair_says_who_has_it_and_a_killed_holder_holds_nothing(
    seeder: Seeder, tmp_path: Path
) -> None:
    what = torrent(1)
    given = await seeder.serve(what)
    seeder.limit(MIB // 4)
    path, folder, home = write_torrent(what, tmp_path), tmp_path / "out", tmp_path / "home"
    (tmp_path / "link").symlink_to(folder)
    async with Get(path, folder, home=home, peer=seeder.address) as holder:
        await given.reached(1)
        before = given.total
        async with Get(path, tmp_path / "link", home=home, peer=seeder.address) as second:
            assert await second.ended() == 1
        said = f"unchoke: album 1 in {folder} is in use by process {holder.program.pid}"
        assert second.output == said
        assert given.total < before + len(what.data) / 2
        holder.kill()
        assert await holder.ended() == -9
    seeder.limit(0)
    async with Get(path, folder, home=home, peer=seeder.address) as third:
        assert await third.ended() == 0, third.output
    what.assert_in(folder)
    assert list((home / "data" / "locks").iterdir()) == []


@pytest.mark.long
async def test_six_at_once_keep_their_records_in_one_place(seeder: Seeder, tmp_path: Path) -> None:
    """Each is complete, and the next run knows it without a look into the data."""
    whats = [torrent(number) for number in range(6)]
    for what in whats:
        await seeder.serve(what)
    words = [(write_torrent(what, tmp_path), tmp_path / "out" / what.metainfo.name) for what in whats]
    gets = [Get(path, folder, home=tmp_path / "home", peer=seeder.address) for path, folder in words]
    try:
        assert await ended(*gets) == [0] * 6, [get.output for get in gets]
        assert [get.output.count("\n") for get in gets] == [0] * 6, "one line each"
    finally:
        for get in gets:
            get.kill()
    again = [Get(path, folder, "-v", home=tmp_path / "home") for path, folder in words]
    try:
        assert await ended(*again) == [0] * 6
    finally:
        for get in again:
            get.kill()
    for what, get, (_, folder) in zip(whats, again, words, strict=True):
        what.assert_in(folder)
        assert re.search(r"31 pieces trusted, 0 to hash \(2 files as we left them\)", get.output), get.output
        assert "checked" not in get.output
        assert f"already complete: {folder / what.metainfo.name}" in get.output
