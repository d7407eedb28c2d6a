"""What happens to files and calls while a torrent rests, and to calls that are cancelled or come while another is under way."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import soon
from unchoke.engine.session import DATABASE, Session
from unchoke.engine.torrent import Torrent
from unchoke.errors import ForeignFileError, GoneError, NotFoundError, StoppedError, UnchokeError
from unchoke.types import Address

pytestmark = pytest.mark.usefixtures("no_leaks")

PAIR = stage.sample(files={"a": 100_000, "b": 100_000}, name="pair")
A, B = (Path("pair", name) for name in "ab")


async def rested(taker: Session, giver: Session, root: Path, **how: object) -> Torrent:
    """``taker`` fetched what it wants from ``giver``, and its torrent is stopped."""
    await stage.seeder(giver, PAIR, root / "from")
    torrent = await taker.add(PAIR.torrent, folder=root / "to", peers=[stage.address_of(giver)], **how)  # type: ignore[arg-type]
    await soon(torrent.done())
    await torrent.stop()
    return torrent


# ---------------------------------------------------------------------- files, while it rests


async def test_a_file_of_somebody_else_that_appeared_is_not_written_over(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        torrent = await rested(taker, giver, tmp_path, files=[0])
        (tmp_path / "to" / B).write_bytes(b"somebody's own")
        await torrent.select(None)
        await torrent.start()
        with pytest.raises(ForeignFileError, match="b holds other data"):
            await soon(torrent.done())
        assert (tmp_path / "to" / B).read_bytes() == b"somebody's own"


async def test_a_file_that_was_changed_or_deleted_is_mended(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        torrent = await rested(taker, giver, tmp_path)
        damaged = bytearray((tmp_path / "to" / A).read_bytes())
        damaged[5] ^= 1
        (tmp_path / "to" / A).write_bytes(damaged)
        (tmp_path / "to" / B).unlink()
        await torrent.start()
        await soon(torrent.done())
        PAIR.assert_in(tmp_path / "to")


async def test_an_empty_tree_is_not_made_again(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        torrent = await rested(taker, giver, tmp_path)
        shutil.rmtree(tmp_path / "to")
        await torrent.start()
        with pytest.raises(GoneError):
            await soon(torrent.done())
        assert not (tmp_path / "to").exists()


async def test_verify_looks_at_data_that_was_trusted(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        await stage.seeder(giver, PAIR, tmp_path / "from")
        PAIR.write_to(tmp_path / "to")
        (tmp_path / "to" / A).write_bytes(bytes(100_000))
        torrent = await taker.add(PAIR.torrent, folder=tmp_path / "to", trust=True, peers=[stage.address_of(giver)])
        await soon(torrent.done())
        await torrent.verify()
        await soon(torrent.done())
        await torrent.stop()
        await torrent.start()
        await soon(torrent.done())
        PAIR.assert_in(tmp_path / "to")


# ---------------------------------------------------------------------- who waits


async def test_who_waits_for_a_stopped_torrent_that_is_verified_hears_what_was_found(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        torrent = await rested(taker, giver, tmp_path)
        await torrent.verify()
        await soon(torrent.done())
        (tmp_path / "to" / B).unlink()
        await torrent.verify()
        with pytest.raises(StoppedError, match="not complete"):
            await soon(torrent.done())


async def test_a_start_during_the_check_of_a_stopped_torrent_holds(tmp_path: Path) -> None:
    async with stage.session() as giver, stage.session(seed=2) as taker:
        torrent = await rested(taker, giver, tmp_path)
        for turns in (0, 1, 2, 4, 8, 16, 32, 64, 128):
            await torrent.verify()
            await stage.turns(turns)
            await torrent.start()
            await stage.until(lambda: torrent.state == "seeding")
            await torrent.stop()


async def test_who_waits_while_it_is_verified_or_queued_goes_on_waiting(tmp_path: Path) -> None:
    async with stage.session() as taker:
        torrent = await stage.leecher(taker, PAIR, tmp_path / "to")
        verifying = asyncio.create_task(torrent.verify())
        waiting = []
        while not verifying.done():
            waiting.append(asyncio.create_task(torrent.done()))
            await asyncio.sleep(0)
        await stage.turns(10)
        assert waiting
        assert not any(task.done() for task in waiting)
        await torrent.stop()
        assert all(isinstance(end, StoppedError) for end in await asyncio.gather(*waiting, return_exceptions=True))


# ---------------------------------------------------------------------- cancelled calls


async def cancelled_after(turns: int, work: Callable[[], Awaitable[object]]) -> None:
    task = asyncio.ensure_future(work())
    await stage.turns(turns)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 9, 13])
async def test_what_runs_still_runs_after_a_call_was_cancelled(tmp_path: Path, turns: int) -> None:
    async with stage.session() as taker:
        torrent = await stage.leecher(taker, PAIR, tmp_path / "to")
        for call in (torrent.verify, lambda: torrent.select([0]), torrent.start, lambda: torrent.select(None)):
            await cancelled_after(turns, call)
            await stage.until(lambda: torrent.state == "downloading")


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20])
async def test_adding_and_removing_when_cancelled_are_done_or_not_begun(tmp_path: Path, turns: int) -> None:
    async with stage.session(state=tmp_path / "state") as taker:
        await cancelled_after(turns, lambda: taker.add(PAIR.torrent, folder=tmp_path / "to"))
        torrent = await taker.add(PAIR.torrent, folder=tmp_path / "to")
        await stage.until(lambda: torrent.state == "downloading")
        await cancelled_after(turns, lambda: taker.remove(torrent))
        assert torrent.closed is (torrent.infohash not in taker.torrents)
        again = await taker.add(PAIR.torrent, folder=tmp_path / "to")
        await stage.until(lambda: again.state == "downloading")


async def test_two_that_remove_and_a_session_that_closes_meanwhile(tmp_path: Path) -> None:
    async with stage.session(state=tmp_path / "state") as taker:
        torrent = await stage.leecher(taker, PAIR, tmp_path / "to")
        await asyncio.gather(taker.remove(torrent, data=True), taker.remove(torrent, data=True), taker.aclose())
    async with stage.session(state=tmp_path / "state") as taker:
        assert not taker.torrents, "it is forgotten"


async def test_a_wish_of_the_wrong_kind_leaves_no_torrent(tmp_path: Path) -> None:
    async with stage.session() as taker:
        with pytest.raises(TypeError):
            await taker.add(PAIR.torrent, folder=tmp_path, trackers=[b"http://127.0.0.1"])  # type: ignore[list-item]
        assert not taker.torrents


# ---------------------------------------------------------------------- records that are not ours


async def test_a_record_that_does_not_fit_spoils_no_other(tmp_path: Path) -> None:
    state = tmp_path / "state"
    good, many, other = (stage.sample(40_000, name=name) for name in ("good", "many", "other"))
    async with stage.session(state=state) as session:
        for what in (good, many, other):
            await session.add(what.torrent, folder=tmp_path, start=False)
    with closing(sqlite3.connect(state / DATABASE)) as database, database:
        database.execute("UPDATE torrents SET running = 1")
        database.execute(
            "UPDATE torrents SET options = ? WHERE name = ?", ('{"files": "7", "suffix": "/../x"}', b"many")
        )
        database.execute(
            "UPDATE metainfo SET data = ? WHERE infohash = ?", (good.torrent, bytes(other.metainfo.infohash))
        )
        columns = "folder, name, size, piece_count, trackers, options, running, complete, added_at, completed_at"
        more = "uploaded, downloaded, wasted, active_time, seeding_time, position"
        database.execute(
            f"INSERT INTO torrents (infohash, {columns}, {more}) SELECT x'00', {columns}, {more} FROM torrents LIMIT 1"
        )
    async with stage.session(state=state) as session:
        by_name = {torrent.name: torrent for torrent in session.torrents.values()}
        assert by_name.keys() == {"good", "many", "other"}
        await stage.until(lambda: by_name["good"].state == "downloading")
        with pytest.raises(UnchokeError, match="do not fit it: file 7 of 1"):
            await soon(by_name["many"].failed())
        with pytest.raises(NotFoundError, match="of another torrent"):
            await soon(by_name["other"].failed())
        for torrent in by_name.values():
            torrent.snapshot().why()
            await session.remove(torrent)


async def test_peers_that_are_told_while_it_falls_asleep_wake_it(tmp_path: Path) -> None:
    async with stage.session(state=tmp_path / "state") as session:
        torrent = await stage.seeder(session, PAIR, tmp_path / "to")
        torrent._looking = True
        falling = asyncio.create_task(torrent._sleep())
        await stage.until(lambda: torrent.is_asleep)
        torrent.add_peers([Address("127.0.0.1", 9)])
        await falling
        await stage.until(lambda: not torrent.is_asleep)
