"""Which files are fetched, in which order, and where they live until they are complete: chosen and changed while it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import soon
from unchoke.engine.events import PieceCompleted
from unchoke.engine.settings import DiskSettings
from unchoke.errors import ForeignFileError

ALBUM = stage.sample(
    files={"a.bin": 50_000, "b.bin": 200_000, "c.bin": 70_000, "d.bin": 120_000}, name="album", piece_length=stage.PIECE
)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def test_unwanted_files_are_never_made_and_can_be_chosen_later(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session() as taker:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        to = tmp_path / "to"
        torrent = await taker.add(ALBUM.torrent, folder=to, files=[1], peers=[stage.address_of(giver)])
        await soon(torrent.done())
        made = names(to)
        assert {name for name in made if not Path(name).name.startswith(".")} == {"album/b.bin"}
        assert (to / "album/b.bin").read_bytes() == dict(ALBUM.files)[Path("album/b.bin")]
        assert torrent.snapshot().wanted == torrent.snapshot().done < len(ALBUM.data)
        before = torrent.snapshot().downloaded
        torrent.add_peers([stage.address_of(giver)])
        await torrent.select(None)
        await soon(torrent.done())
        ALBUM.assert_in(to)  # no part file either
        assert torrent.snapshot().downloaded == len(ALBUM.data), "nothing was fetched twice"
        assert before < len(ALBUM.data)


async def test_a_selection_survives_a_restart_with_its_shares(tmp_path: Path) -> None:
    to, state = tmp_path / "to", tmp_path / "state"
    async with stage.session() as giver:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        async with stage.session(state=state) as taker:
            torrent = await taker.add(ALBUM.torrent, folder=to, files=[0, 2], peers=[stage.address_of(giver)])
            await soon(torrent.done())
        async with stage.session(state=state) as taker:
            (torrent,) = taker.torrents.values()
            assert torrent.options.files == frozenset((0, 2))
            await soon(torrent.done())
            taken = torrent.snapshot().downloaded
            torrent.add_peers([stage.address_of(giver)])
            await torrent.select(None)
            await soon(torrent.done())
            assert torrent.snapshot().downloaded - taken == len(ALBUM.data) - taken
        ALBUM.assert_in(to)


async def test_a_file_that_is_not_wanted_any_more_stays(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session() as taker:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        torrent = await taker.add(ALBUM.torrent, folder=tmp_path / "to", peers=[stage.address_of(giver)])
        await soon(torrent.done())
        await torrent.select([0])
        assert torrent.state == "seeding"
        ALBUM.assert_in(tmp_path / "to")
        with pytest.raises(ValueError, match="file 4 of 4"):
            await torrent.select([4])


async def test_high_comes_first_and_low_last(tmp_path: Path) -> None:
    settings = stage.tuned(disk=DiskSettings(threads=1))  # of two pieces on two threads either may be done first
    async with stage.session() as giver, stage.session(settings) as taker:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        watching = taker.subscribe()
        torrent = await taker.add(
            ALBUM.torrent, folder=tmp_path / "to", high=[3], low=[0, 1], peers=[stage.address_of(giver)]
        )
        await soon(torrent.done())
        layout = torrent.metainfo.layout
        order = [(await stage.next_event(watching, PieceCompleted)).piece for _ in range(layout.piece_count)]
        high = set(layout.file_pieces(3))
        low = set(layout.pieces_of([0, 1])) - layout.pieces_of([2, 3])
        assert set(order[: len(high)]) == high
        assert set(order[-len(low) :]) == low


@pytest.mark.parametrize("preallocate", ["off", "sparse", "full"])
async def test_until_it_is_complete_it_lives_elsewhere_under_other_names(tmp_path: Path, preallocate: str) -> None:
    disk = DiskSettings(incomplete_dir=str(tmp_path / "soon"), incomplete_suffix=".part", preallocate=preallocate)  # type: ignore[arg-type]
    settings = replace(stage.SETTINGS, disk=disk)
    async with stage.session() as giver, stage.session(settings) as taker:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        torrent = await stage.leecher(taker, ALBUM, tmp_path / "to")
        assert torrent.state == "downloading"
        watching = taker.subscribe()
        torrent.add_peers([stage.address_of(giver)])
        await stage.next_event(watching, PieceCompleted)
        assert not names(tmp_path / "to") if (tmp_path / "to").exists() else True
        if torrent.state == "downloading":
            assert any(name.endswith(".part") for name in names(tmp_path / "soon"))
        await soon(torrent.done())
        ALBUM.assert_in(tmp_path / "to")
        assert not names(tmp_path / "soon")
        async with stage.session() as other:  # and is served from where it is now
            again = await other.add(ALBUM.torrent, folder=tmp_path / "third", peers=[stage.address_of(taker)])
            await soon(again.done())
            ALBUM.assert_in(tmp_path / "third")


async def test_what_stands_where_a_file_is_newly_wanted_is_looked_at_first(tmp_path: Path) -> None:
    to = tmp_path / "to"
    diary = to / "album" / "d.bin"
    async with stage.session() as giver, stage.session() as taker:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        torrent = await taker.add(ALBUM.torrent, folder=to, files=[0], peers=[stage.address_of(giver)])
        await soon(torrent.done())
        diary.write_bytes(b"dear diary " * 100)
        (to / "album" / "c.bin").write_bytes(dict(ALBUM.files)[Path("album/c.bin")])
        torrent.add_peers([stage.address_of(giver)])
        await torrent.select([0, 3])
        with pytest.raises(ForeignFileError, match=r"d\.bin"):
            await soon(torrent.done())
        assert diary.read_bytes() == b"dear diary " * 100
        diary.unlink()
        before = torrent.snapshot().downloaded
        await torrent.select([0, 2, 3])
        await torrent.start()
        await soon(torrent.done())
        assert diary.read_bytes() == dict(ALBUM.files)[Path("album/d.bin")]
        fetched = torrent.snapshot().downloaded - before
        assert fetched < 120_000 + 2 * stage.PIECE, "c.bin, which its user had, was used"


async def test_a_torrent_of_the_state_can_be_waited_for_at_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with stage.session() as giver:
        await stage.seeder(giver, ALBUM, tmp_path / "from")
        async with stage.session(state=state) as taker:
            await stage.leecher(taker, ALBUM, tmp_path / "to")
        async with stage.session(state=state) as taker:
            (torrent,) = taker.torrents.values()
            torrent.add_peers([stage.address_of(giver)])
            await soon(torrent.done())
            ALBUM.assert_in(tmp_path / "to")
