"""Many torrents in one session: what idle ones own, how they wake and sleep, what a session finds again, whose turn it is.

Whole engines on virtual time, with real files; half a minute of idling costs nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, ParamSpec, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import stage
from unchoke.engine.options import TorrentOptions
from unchoke.engine.session import Session
from unchoke.engine.settings import DiskSettings, NetworkSettings, Settings
from unchoke.engine.torrent import Torrent
from unchoke.policy.goals import GoalSettings
from unchoke.policy.queue import QueueSettings
from unchoke.protocol.messages import Kind
from unchoke.protocol.tracker.models import AnnounceRequest
from unchoke.testing import FakePeer, InlineExecutor, SimHost, SimNetwork, SimTracker, run
from unchoke.types import Address

P = ParamSpec("P")
T = TypeVar("T")

COUNT = 5
#: Virtual seconds after which a test counts as stuck.
PATIENCE = 300.0


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on virtual time."""

    @functools.wraps(test)
    def on_virtual_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return on_virtual_time


async def soon(work: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await work


async def until(happened: Callable[[], object]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


class World:
    """A network with a host for our session, one for others, and a folder for all data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def network(self) -> SimNetwork:
        return SimNetwork(rng=Random(1))  # it wants the loop, which a fixture does not have

    @functools.cached_property
    def here(self) -> SimHost:
        return self.network.host("10.0.0.1")

    @functools.cached_property
    def there(self) -> SimHost:
        return self.network.host("10.0.0.2")

    def session(self, **queue: int) -> Session:
        """Ours, with a state of its own that lasts from one to the next."""
        return self._session(self.here, self.folder / "state" / "session.sqlite", QueueSettings(**queue))

    def other(self) -> Session:
        """Somebody else's, that remembers nothing."""
        return self._session(self.there, None, QueueSettings())

    def _session(self, host: SimHost, state: Path | None, queue: QueueSettings) -> Session:
        settings = Settings(
            network=NetworkSettings(discovery=False), disk=DiskSettings(threads=1, check_threads=1), queue=queue
        )
        return Session(settings, state=state, network=host, executor=InlineExecutor(), rng=Random(1))

    async def seeds(self, session: Session, what: Sequence[stage.Sample], **options: Any) -> list[Torrent]:
        """Each of them, complete and seeding."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        found = []
        for sample in what:
            sample.write_to(data)
            found.append(await session.add(sample.torrent, folder=data, **options))
        for torrent in found:
            await soon(torrent.done())
        return found

    async def dial(self, session: Session, torrent: Torrent) -> FakePeer:
        """A peer that has shaken hands with this torrent."""
        address = Address(self.here.address, session.port())
        return await soon(FakePeer.dial(self.there, address, torrent.infohash, peer_id=b"-FK0001-abcdefghijkl"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def samples(count: int = COUNT) -> list[stage.Sample]:
    return [
        stage.sample(files={"a": stage.PIECE + 100 + number, "b/c": 700}, name=f"sample-{number}")
        for number in range(count)
    ]


def states(torrents: Sequence[Torrent]) -> list[str]:
    return [torrent.state for torrent in torrents]


async def asleep(*torrents: Torrent) -> None:
    await until(lambda: all(torrent.is_asleep for torrent in torrents))


# ---------------------------------------------------------------------- asleep


@virtual
async def test_an_idle_torrent_owns_no_task_and_holds_nothing_it_can_read_again(world: World) -> None:
    async with world.session() as session:
        before = len(asyncio.all_tasks())
        torrents = await world.seeds(session, samples())
        await asleep(*torrents)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        for torrent in torrents:
            assert torrent.state == "seeding"
            assert torrent.contents is None
            assert torrent.have is None
            assert torrent.swarm is None
            assert torrent.is_complete
            snapshot = torrent.snapshot()
            assert snapshot.done == snapshot.wanted == torrent.row.size


@virtual
async def test_a_seed_wakes_for_a_peer_serves_it_and_sleeps_again(world: World) -> None:
    what = samples()
    async with world.session() as session:
        torrents = await world.seeds(session, what)
        await asleep(*torrents)
        for torrent, sample in list(zip(torrents, what, strict=True))[1:3]:
            async with await world.dial(session, torrent) as peer:
                peer.say(Kind.INTERESTED)
                await soon(peer.until(Kind.UNCHOKE))
                peer.request(0, 0, 1000)
                frame = await soon(peer.until(Kind.PIECE))
                assert frame.body[8:] == sample.data[:1000]
                assert not torrent.is_asleep
        assert torrents[0].is_asleep, "nobody asked for it"
        await asleep(*torrents)
        assert torrents[1].row.uploaded == 1000


@virtual
async def test_a_seed_whose_data_is_gone_says_so_when_it_is_woken(world: World) -> None:
    what = samples(1)
    async with world.session() as session:
        (torrent,) = await world.seeds(session, what)
        await asleep(torrent)
        for path, _ in what[0].files:
            (world.folder / "data" / path).unlink()
        with pytest.raises(Exception, match="hung up"):
            await world.dial(session, torrent)
        await until(lambda: torrent.state == "error")
        assert torrent.error is not None


@virtual
async def test_one_that_sleeps_can_be_asked_stopped_started_and_removed(world: World) -> None:
    what = samples(2)
    async with world.session() as session:
        first, second = await world.seeds(session, what)
        await asleep(first, second)
        assert first.metainfo.infohash == what[0].metainfo.infohash
        assert first.path == world.folder / "data" / "sample-0"
        assert first.file_progress() == [file.length for file in first.metainfo.layout.files]
        await first.stop()
        assert first.state == "stopped"
        await first.start()
        await soon(first.done())
        await asleep(first)
        await session.remove(second, data=True)
        assert not (world.folder / "data" / "sample-1").exists()
        what[0].assert_in(world.folder / "data")


# ---------------------------------------------------------------------- found again


@virtual
async def test_a_restored_session_announces_all_its_torrents_and_not_at_once(world: World) -> None:
    heard: dict[bytes, AnnounceRequest] = {}

    def on_announce(request: AnnounceRequest, _: Address) -> None:
        heard.setdefault(request.infohash, request)

    tracker = SimTracker(world.network.host("10.0.0.9"))
    tracker.server._on_announce = on_announce
    await tracker.start()
    async with world.session() as session:
        await world.seeds(session, samples(), trackers=[tracker.url])
        port = session.port()
    heard.clear()
    async with world.session() as session:
        torrents = list(session.torrents.values())
        assert all(torrent.is_asleep for torrent in torrents)
        assert not heard
        await until(lambda: len(heard) == COUNT)
        assert set(heard) == {torrent.infohash for torrent in torrents}
        assert {request.event.value for request in heard.values()} == {"started"}
        assert {request.left for request in heard.values()} == {0}
        assert {request.port for request in heard.values()} == {session.port()} == {port}
        assert all(torrent.is_asleep for torrent in torrents), "nobody came"
    await tracker.aclose()


@virtual
async def test_torrents_are_as_they_were_when_the_session_opens_again(world: World) -> None:
    goals = GoalSettings(ratio=3.0)
    async with world.session() as session:
        removed, stopped, chosen, limited = await world.seeds(session, samples(4))
        await stopped.stop()
        await chosen.select([1])
        limited.limit(down=1000, up=2000)
        await session.remove(removed)
        (world.folder / "later").mkdir()
        extra = stage.sample(name="extra").torrent
        await session.add(extra, folder=world.folder / "later", start=False, sequential=True, goals=goals)
        order = list(session.torrents)
        added = {torrent.infohash: torrent.row.added_at for torrent in session.torrents.values()}
    async with world.session() as session:
        assert list(session.torrents) == order
        assert {torrent.infohash: torrent.row.added_at for torrent in session.torrents.values()} == added
        found = {torrent.name: torrent for torrent in session.torrents.values()}
        assert sorted(found) == ["extra", "sample-1", "sample-2", "sample-3"]
        assert found["sample-1"].state == "stopped"
        assert found["extra"].state == "stopped"
        assert found["extra"].options.sequential
        assert found["extra"].options.goals == goals
        await until(lambda: states([found["sample-2"], found["sample-3"]]) == ["seeding", "seeding"])
        assert found["sample-2"].options.files == frozenset([1])
        assert (found["sample-3"].options.down, found["sample-3"].options.up) == (1000, 2000)
        await found["sample-1"].start()
        await soon(found["sample-1"].done())


@virtual
async def test_new_torrents_stand_behind_those_that_were_restored(world: World) -> None:
    async with world.session() as session:
        first, *_ = await world.seeds(session, samples(3))
        await session.remove(first)
    async with world.session() as session:
        before = [torrent.row.position for torrent in session.torrents.values()]
        (newest,) = await world.seeds(session, [stage.sample(name="newest")])
        assert newest.row.position > max(before)


# ---------------------------------------------------------------------- whose turn it is


@virtual
async def test_the_second_download_waits_and_goes_when_the_first_is_done(world: World) -> None:
    one, two = stage.sample(name="one"), stage.sample(name="two", size=3 * stage.PIECE)
    async with world.other() as giver, world.session(active_downloads=1) as session:
        await world.seeds(giver, [one, two])
        address = Address(world.there.address, giver.port())
        (world.folder / "take").mkdir()
        first = await session.add(one.torrent, folder=world.folder / "take")
        second = await session.add(two.torrent, folder=world.folder / "take", peers=[address])

        await until(lambda: states([first, second]) == ["downloading", "queued"])
        assert second.snapshot().queue_limit == "downloads"
        first.add_peers([address])
        await soon(first.done())
        assert second.state == "queued"
        await until(lambda: second.state == "seeding")
        assert (world.folder / "take" / "two").read_bytes() == two.data


@virtual
async def test_a_forced_one_does_not_wait_and_the_order_can_be_changed(world: World) -> None:
    async with world.session(active_downloads=1, slow_down=0) as session:
        torrents = [await session.add(sample.torrent, folder=world.folder) for sample in samples(3)]
        first, second, third = torrents
        await until(lambda: states(torrents) == ["downloading", "queued", "queued"])
        session.reorder([third, first, second])
        await until(lambda: states(torrents) == ["queued", "queued", "downloading"])
        await second.start(forced=True)
        await until(lambda: states(torrents) == ["queued", "downloading", "downloading"])
        await third.stop()
        await until(lambda: first.state == "downloading")


@virtual
async def test_a_queue_is_restored_with_its_order(world: World) -> None:
    async with world.session() as session:
        torrents = await world.seeds(session, samples(3))
        session.reorder(torrents[::-1])
    async with world.session(active_seeds=1, slow_up=0) as session:
        assert [torrent.name for torrent in session.torrents.values()] == ["sample-2", "sample-1", "sample-0"]
        last, middle, first = session.torrents.values()
        await until(lambda: states([last, middle, first]) == ["seeding", "queued", "queued"])
        await session.remove(last)
        await until(lambda: states([middle, first]) == ["seeding", "queued"])


# ---------------------------------------------------------------------- done its part


@pytest.mark.parametrize("goals", [GoalSettings(seed_time=20.0), GoalSettings(idle_time=20.0)], ids=["seed", "idle"])
@virtual
async def test_a_seed_that_has_done_its_part_stops(world: World, goals: GoalSettings) -> None:
    async with world.session() as session:
        (torrent,) = await world.seeds(session, samples(1), goals=goals)
        await asyncio.sleep(15)
        assert torrent.state == "seeding"
        await until(lambda: torrent.state == "stopped")
        assert torrent.snapshot().stopped_by == "goal"
    async with world.session() as session:
        (torrent,) = session.torrents.values()
        assert torrent.state == "stopped", "and stays so"


@virtual
async def test_a_goal_is_reached_in_sleep_too(world: World) -> None:
    async with world.session() as session:
        (torrent,) = await world.seeds(session, samples(1), goals=GoalSettings(seed_time=200.0))
        await asleep(torrent)
        await until(lambda: torrent.state == "stopped")
        assert 200 <= torrent.row.seeding_time < 205


@virtual
async def test_a_seed_that_gave_enough_is_removed_and_its_data_stays(world: World) -> None:
    what = stage.sample(name="given")
    goals = GoalSettings(ratio=1.0, action="remove")
    async with world.session() as session, world.other() as taker:
        (torrent,) = await world.seeds(session, [what], goals=goals)
        (world.folder / "taken").mkdir()
        address = Address(world.here.address, session.port())
        other = await taker.add(what.torrent, folder=world.folder / "taken", peers=[address])
        await soon(other.done())
        await until(lambda: not session.torrents)
        assert torrent.closed
        what.assert_in(world.folder / "data")
    async with world.session() as session:
        assert not session.torrents


# ---------------------------------------------------------------------- wishes in the record


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (frozenset(), ""),
        (frozenset([0]), "0"),
        (frozenset(range(100_000)), "0-99999"),
        (frozenset([1, 2, 3, 7, 9, 10]), "1-3,7,9-10"),
        (frozenset(range(0, 10, 2)), "0,2,4,6,8"),
    ],
)
def test_a_selection_is_recorded_in_ranges(files: frozenset[int], text: str) -> None:
    record = TorrentOptions(files=files).to_record()
    assert record == {"files": text}
    assert TorrentOptions.from_record(record).files == files


@given(st.frozensets(st.integers(0, 60)), st.frozensets(st.integers(0, 10**6)))
@settings(max_examples=50)
def test_any_selection_comes_back(files: frozenset[int], high: frozenset[int]) -> None:
    options = TorrentOptions(files=files, high=high)
    assert TorrentOptions.from_record(options.to_record()) == options


@pytest.mark.parametrize("text", ["x", "-1", "3-x", "1,,2", "0-9999999999", f"0-{10**30}", [1], None, 7])
def test_a_damaged_selection_is_passed_over(text: object) -> None:
    assert TorrentOptions.from_record({"high": text, "sequential": True}) == TorrentOptions(sequential=True)
