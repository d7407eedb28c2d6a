"""What ``get`` makes of what it finds: files that somebody changed, cut or deleted since, a stop at half, a lost power."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bitarray import bitarray
from bitarray.util import ones

from fakes import stage
from fakes.commands import Get, Given, Seeder, on_disk, recorded, seeding, write_torrent
from fakes.peer import soon
from fakes.stage import PIECE, Sample
from unchoke.engine.resume import SqliteStore
from unchoke.engine.session import Session

MIB = 1 << 20
UNFINISHED, FILES = 7, 17
WHAT = stage.sample(files={"one": 9 * PIECE + 5, "two": 20 * PIECE, "tiny": 77, "three": 7 * PIECE}, name="album")
TWO = range(9, 30)  # the pieces in which the file "two" has bytes


@pytest.fixture
async def seeder(tmp_path: Path) -> AsyncIterator[Seeder]:
    async with seeding(tmp_path) as seeder:
        yield seeder


class Place:
    """Where one torrent is got to, again and again."""

    def __init__(self, folder: Path, what: Sample, seeder: Seeder, given: Given) -> None:
        self.out = folder / "out"
        self.home = folder / "home"
        self._torrent = write_torrent(what, folder)
        self._seeder = seeder
        self._given = given

    def start(self, *words: str) -> Get:
        """Begin; what is given is booked from nothing."""
        self._given.begin()
        return Get(self._torrent, self.out, "-v", *words, home=self.home, peer=self._seeder.address)

    async def get(self, *words: str) -> str:
        """To the end, and what it said."""
        async with self.start(*words) as get:
            assert await get.ended() == 0, get.output
        return get.output


@pytest.fixture
async def given(seeder: Seeder) -> Given:
    return await seeder.serve(WHAT)


@pytest.fixture
def place(tmp_path: Path, seeder: Seeder, given: Given) -> Place:
    return Place(tmp_path, WHAT, seeder, given)


def given_pieces(given: Given) -> set[int]:
    """Those of which anything was sent."""
    return {block // 2 for block in given.blocks.search(1)}


def change_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(10 * PIECE)
        byte = file.read(1)
        file.seek(10 * PIECE)
        file.write(bytes([byte[0] ^ 1]))


def cut_in_half(path: Path) -> None:
    os.truncate(path, 10 * PIECE)


def write_something_else(path: Path) -> None:
    path.write_bytes(b"x" * (20 * PIECE))


@pytest.mark.parametrize(
    ("change", "hashed", "fetched"),
    [
        (change_a_byte, 21, {19}),
        pytest.param(cut_in_half, 10, set(range(19, 30)), marks=pytest.mark.long),
        pytest.param(write_something_else, 21, set(TWO), marks=pytest.mark.long),
    ],
)
async def test_only_a_file_that_was_changed_is_hashed_and_healed(
    place: Place, given: Given, change: Callable[[Path], None], hashed: int, fetched: set[int]
) -> None:
    await place.get()
    change(place.out / "album" / "two")
    said = await place.get()
    count = WHAT.metainfo.layout.piece_count - len(TWO)
    assert re.search(rf"{count} pieces trusted, {hashed} to hash \(.*1 files changed since by somebody else", said), (
        said
    )
    assert given_pieces(given) == fetched
    WHAT.assert_in(place.out)


@pytest.mark.long
async def test_files_that_were_deleted_are_fetched_again(place: Place, given: Given) -> None:
    await place.get()
    for path, _ in WHAT.files:
        (place.out / path).unlink()
    said = await place.get()
    assert "its files were deleted, it begins again" in said
    WHAT.assert_in(place.out)
    assert given.total >= len(WHAT.data)


@pytest.mark.long
async def test_one_file_that_was_deleted_is_fetched_again(place: Place, given: Given) -> None:
    await place.get()
    (place.out / "album" / "two").unlink()
    said = await place.get()
    assert "1 files gone" in said
    WHAT.assert_in(place.out)
    assert given_pieces(given) == set(TWO)


@pytest.mark.long
async def test_a_folder_that_is_not_there_is_not_begun_anew(place: Place, given: Given) -> None:
    """Its disk may be missing: a folder made in its place would fill another."""
    await place.get()
    away = place.out.rename(place.out.with_name("away"))
    async with place.start() as get:
        assert await get.ended() == FILES
    assert (
        f"unchoke: the files of album are gone from {place.out}: were they moved, or their disk taken away?"
        in get.output
    )
    assert not place.out.exists()
    away.rename(place.out)
    said = await place.get()
    assert "0 to hash (4 files as we left them)" in said
    assert given.total == 0


async def test_a_folder_that_is_not_there_after_a_kill_is_not_begun_anew(seeder: Seeder, tmp_path: Path) -> None:
    """No clean close has told of any file yet; the pieces on record are enough."""
    what = stage.sample(8 * MIB, piece_length=1 << 15)
    given = await seeder.serve(what)
    seeder.limit(4 * MIB)
    place = Place(tmp_path, what, seeder, given)
    async with place.start() as get:
        await given.reached(6 * MIB)
        get.kill()
        await get.ended()
    away = place.out.rename(tmp_path / "away")
    async with place.start() as get:
        assert await get.ended() == FILES
    assert "the folder itself is gone, so nothing was made" in get.output.lower()
    assert not place.out.exists()
    away.rename(place.out)
    seeder.limit(0)
    await place.get()
    what.assert_in(place.out)


@pytest.mark.long
async def test_a_folder_that_is_moved_away_under_way(seeder: Seeder, tmp_path: Path) -> None:
    what = stage.sample(8 * MIB, piece_length=1 << 15)
    given = await seeder.serve(what)
    seeder.limit(2 * MIB)
    place = Place(tmp_path, what, seeder, given)
    async with place.start() as get:
        await given.reached(2 * MIB)
        away = place.out.rename(tmp_path / "away")
        assert await get.ended() == FILES
    assert "deleted" in get.output or "gone" in get.output
    assert not place.out.exists()
    away.rename(place.out)
    written = on_disk(what, place.out, ones(what.metainfo.layout.piece_count, "big"))
    seeder.limit(0)
    await place.get()
    what.assert_in(place.out)
    assert not (given.blocks & _blocks(written)).any()


async def test_stopped_at_half_nothing_is_fetched_twice(seeder: Seeder, tmp_path: Path) -> None:
    """Also not the blocks of pieces that were not complete: these are long, so that there are many."""
    what = stage.sample(8 * MIB, name="long pieces", piece_length=MIB)
    given = await seeder.serve(what)
    seeder.limit(8 * MIB)
    place = Place(tmp_path, what, seeder, given)
    async with place.start() as get:
        await given.reached(4 * MIB)
        get.interrupt()
        assert await get.ended() == UNFINISHED
    first, sent = given.blocks, given.total
    row = recorded(place.home, what, place.out)
    assert row is not None
    assert row.partial, "blocks of open pieces were kept"
    assert not row.open.any()
    seeder.limit(0)
    said = await place.get()
    assert "blocks of" in said
    assert "0 to hash" in said
    what.assert_in(place.out)
    assert given.total + sent <= len(what.data) + MIB // 2, "what was on its way when it was stopped, and no more"
    assert (first & given.blocks).count(1) * 16384 <= MIB // 2


@pytest.mark.parametrize("booted", [pytest.param(False, marks=pytest.mark.long), True])
async def test_after_a_lost_power_what_was_not_at_rest_is_hashed(
    seeder: Seeder, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, booted: bool
) -> None:
    what = stage.sample(files={"one": 5 * MIB, "two": 3 * MIB}, name="album", piece_length=1 << 15)
    given = await seeder.serve(what)
    seeder.limit(8 * MIB)
    place = Place(tmp_path, what, seeder, given)
    async with place.start() as get:
        await given.reached(6 * MIB)
        get.kill()
        await get.ended()
    row = recorded(place.home, what, place.out)
    assert row is not None
    trusted = row.have.count(1)
    assert trusted
    written = on_disk(what, place.out, ones(what.metainfo.layout.piece_count, "big"))
    given.begin()
    seeder.limit(0)
    if booted:
        other = tmp_path / "boot_id"
        other.write_text("6f1ac4b2-0000-4000-8000-000000000000\n")
        monkeypatch.setattr("unchoke.engine.verdict._BOOT_ID", str(other))
    with caplog.at_level(logging.INFO, "unchoke"):
        store = SqliteStore(place.home / "data" / "cli.sqlite", shared=True)
        async with Session(stage.SETTINGS, state=store) as session:
            torrent = await session.add(
                what.torrent, folder=place.out, peers=[stage.address_of(seeder.session)], start_over=True
            )
            await soon(torrent.done())
    what.assert_in(place.out)
    assert not (given.blocks & _blocks(written)).any(), "hashed, and not fetched again"
    if booted:
        assert re.search(r"album: 0 pieces trusted, \d+ to hash \(2 files open when the power went", caplog.text)
    else:
        assert re.search(
            rf"album: {trusted} pieces trusted, \d+ to hash \(2 files open when we were killed", caplog.text
        )


def _blocks(pieces: bitarray) -> bitarray:
    """Those of pieces of two blocks."""
    return bitarray([bit for bit in pieces for _ in range(2)], "big")
