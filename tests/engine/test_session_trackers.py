"""A session and its trackers, everything real on the loopback: what a torrent names, what its user adds, and what is asked besides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conftest import MakeTorrent
from fakes.web import says, serving
from unchoke.engine.events import TrackerFailed
from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.tracker_server import TrackerServer
from unchoke.errors import TrackerError
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceRequest, ScrapeCounts
from unchoke.types import Address

pytestmark = pytest.mark.usefixtures("no_leaks")


class Heard:
    """What the tracker heard; ``come`` waits for so many announces."""

    def __init__(self) -> None:
        self.events: list[AnnounceEvent] = []
        self._more = asyncio.Event()

    def note(self, request: AnnounceRequest, _: Address) -> None:
        self.events.append(request.event)
        self._more.set()

    async def come(self, count: int) -> None:
        while len(self.events) < count:
            self._more.clear()
            await self._more.wait()


@pytest.fixture
async def heard() -> Heard:
    return Heard()


@pytest.fixture
async def tracker(heard: Heard) -> AsyncIterator[TrackerServer]:
    server = TrackerServer(bind="127.0.0.1", port=0, on_announce=heard.note)
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(Settings(network=NetworkSettings(bind="127.0.0.1", discovery=False))) as session:
        yield session


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 100_000)
    return path


async def test_a_tracker_that_the_user_adds_to_a_torrent_that_is_there_is_contacted(
    tracker: TrackerServer, session: Session, heard: Heard, source: Path, make_torrent: MakeTorrent
) -> None:
    path = make_torrent(source)
    torrent = await session.add(path, folder=source.parent)
    await torrent.done()
    assert await session.add(path, folder=source.parent, trackers=[tracker.urls[0]]) is torrent
    await heard.come(1)
    assert heard.events == [AnnounceEvent.STARTED]
    await session.remove(torrent)
    assert heard.events == [AnnounceEvent.STARTED, AnnounceEvent.STOPPED]


async def test_a_torrent_cannot_make_us_ask_a_service_of_this_machine(
    session: Session, source: Path, make_torrent: MakeTorrent
) -> None:
    heads: asyncio.Queue[str] = asyncio.Queue()

    async def service(head: str, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(head)
        await says(b"done")(head, writer)

    async with serving(service) as url:
        with session.subscribe() as events:
            torrent = await session.add(make_torrent(source, trackers=[f"{url}/shutdown"]), folder=source.parent)
            failed = await anext(event async for event in events if isinstance(event, TrackerFailed))
        assert "only announce and scrape are asked of the private host" in failed.reason
        state = torrent.snapshot().trackers[0]
        assert (state.status, state.error_class, state.given) == ("failed", "guard", False)
        assert isinstance((await torrent.scrape())[state.url], TrackerError)
        assert heads.empty()
        torrent.add_tracker(f"{url}/shutdown")  # now it is the user's word
        assert (await heads.get()).startswith("GET /shutdown?info_hash=")


@pytest.mark.parametrize("scheme", [0, 1], ids=["http", "udp"])
async def test_the_counts_of_a_stopped_torrent(
    tracker: TrackerServer, session: Session, heard: Heard, source: Path, make_torrent: MakeTorrent, scheme: int
) -> None:
    url = tracker.urls[scheme]
    torrent = await session.add(make_torrent(source, trackers=[url]), folder=source.parent)
    await heard.come(1)
    assert await torrent.scrape() == {url: ScrapeCounts(seeds=1)}
    state = torrent.snapshot().trackers[0]
    assert (state.seeds, state.leechers, state.downloaded) == (1, 0, 0)
    assert state.scraped is not None
    await torrent.stop()
    assert await torrent.scrape() == {url: None if scheme == 0 else ScrapeCounts()}
