"""The announcer on a clock of our own, with trackers that are futures; and once with everything real on the loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random

import pytest

from unchoke.engine import announcer as announcer_module
from unchoke.engine.announcer import AnnounceCounts, Announcer
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.net.udp_trackers import UdpTrackers
from unchoke.engine.tracker_server import TrackerServer
from unchoke.errors import TrackerError
from unchoke.policy.announce import AnnounceSettings, TrackerState
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeCounts
from unchoke.types import Address, InfoHash, PeerId

pytestmark = pytest.mark.usefixtures("no_leaks")

HASH = InfoHash(b"h" * 20)
PEER = Address("192.0.2.50", 50)
OK = AnnounceReply(interval=1800, peers=(PEER,), seeds=1, leechers=2, tracker_id=b"id", warning="careful")


class Owner:
    """A torrent of 100 bytes."""

    def __init__(self) -> None:
        self.left = 100
        self.wanted = 40
        self.found: list[tuple[Sequence[Address], str]] = []
        self.changes: list[TrackerState] = []

    def announce_counts(self) -> AnnounceCounts:
        return AnnounceCounts(uploaded=5, downloaded=100 - self.left, left=self.left)

    def peers_wanted(self) -> int:
        return self.wanted

    def peers_found(self, addresses: Sequence[Address], tracker: str) -> None:
        self.found.append((addresses, tracker))

    def tracker_changed(self, state: TrackerState) -> None:
        self.changes.append(state)


class Trackers:
    """All trackers of one scheme: each announce waits until the test answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, AnnounceRequest]] = []
        self.given: list[str] = []
        self.crowded = False
        self._begun: dict[str, Callable[[], None]] = {}
        self._waiting: dict[str, asyncio.Future[AnnounceReply]] = {}

    async def announce(
        self, url: str, request: AnnounceRequest, *, given: bool, begun: Callable[[], None]
    ) -> AnnounceReply:
        self.asked.append((url, request))
        if given:
            self.given.append(url)
        self._begun[url] = begun
        if not self.crowded:
            begun()
        future: asyncio.Future[AnnounceReply] = asyncio.get_running_loop().create_future()
        self._waiting[url] = future
        try:
            return await future
        finally:
            del self._waiting[url]

    def began(self, url: str) -> None:
        """The turn of the announce to ``url`` has come."""
        self._begun[url]()

    @property
    def waiting(self) -> list[str]:
        return list(self._waiting)

    async def answer(self, url: str, result: AnnounceReply | Exception = OK) -> None:
        future = self._waiting[url]
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        await settle()

    def heard(self) -> list[str]:
        """Since the last call: ``"a started"``."""
        words = [f"{url.rpartition('/')[2]} {request.event.value}".strip() for url, request in self.asked]
        self.asked.clear()
        return words


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(6):
        await asyncio.sleep(0)


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(announcer_module, "_now", lambda: clock.now)
    return clock


class Scene:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.owner = Owner()
        self.http = Trackers()
        self.udp = Trackers()
        self.made: list[Announcer] = []

    def announcer(self, *tiers: Sequence[str], user: Sequence[str] = (), **options: object) -> Announcer:
        made = Announcer(
            self.owner,
            tiers,
            infohash=HASH,
            peer_id=PeerId(b"p" * 20),
            port=lambda: 51413,
            key=77,
            http=self.http,
            udp=self.udp,
            settings=AnnounceSettings(**options),  # type: ignore[arg-type]
            rng=InOrder(),
            user_trackers=user,
        )
        self.made.append(made)
        return made

    async def start(self, *tiers: Sequence[str], **options: object) -> Announcer:
        announcer = self.announcer(*tiers, **options)  # type: ignore[arg-type]
        announcer.start(self.clock.now)
        await settle()
        return announcer

    async def wait(self, announcer: Announcer, seconds: float) -> None:
        self.clock.now += seconds
        announcer.heartbeat(self.clock.now)
        await settle()


class InOrder(Random):
    def shuffle(self, x: object) -> None:
        pass


@pytest.fixture
async def scene(clock: Clock) -> AsyncIterator[Scene]:
    scene = Scene(clock)
    yield scene
    for announcer in scene.made:
        await announcer.aclose(0.0)


KEY = "0123456789abcdef0123456789abcdef"
A, B, C, U = "http://t/a", "https://t/b", "http://t/c", "udp://t:1/u"


async def test_a_life(scene: Scene) -> None:
    announcer = await scene.start([A])
    assert scene.http.asked[0][1] == AnnounceRequest(
        infohash=HASH,
        peer_id=PeerId(b"p" * 20),
        port=51413,
        uploaded=5,
        downloaded=0,
        left=100,
        event=AnnounceEvent.STARTED,
        numwant=40,
        key=77,
    )
    await scene.http.answer(A)
    assert scene.owner.found == [((PEER,), A)]
    [state] = announcer.snapshot()
    assert (state.status, state.peers, state.seeds, state.leechers, state.message) == ("working", 1, 1, 2, "careful")
    assert scene.owner.changes == [state]
    await scene.wait(announcer, 1799)
    assert scene.http.heard() == ["a started"]
    scene.owner.left, scene.owner.wanted = 0, 10**6
    announcer.completed()
    await settle()
    assert (scene.http.asked[0][1].left, scene.http.asked[0][1].tracker_id) == (0, b"id")
    assert scene.http.asked[0][1].numwant == 200
    await scene.http.answer(A)
    await scene.wait(announcer, 1801)
    await scene.http.answer(A)
    assert scene.http.heard() == ["a completed", "a"]
    closing = asyncio.create_task(announcer.aclose())
    await settle()
    assert scene.http.asked[0][1].numwant == 0
    await scene.http.answer(A)
    await closing
    assert scene.http.heard() == ["a stopped"]


async def test_a_failure_is_kept_as_a_value_and_the_next_one_asked_at_once(scene: Scene) -> None:
    announcer = await scene.start([A, B])
    await scene.http.answer(A, TrackerError("the tracker says: go away", 600.0))
    assert scene.http.heard() == ["a started", "b started"]
    await scene.http.answer(B)
    first, second = announcer.snapshot()
    assert (first.url, first.status) == (B, "working")
    assert (second.error, second.failures, second.status) == ("the tracker says: go away", 1, "failed")
    assert [state.url for state in scene.owner.changes] == [A, B]


async def test_nothing_runs_while_it_waits(scene: Scene) -> None:
    before = len(asyncio.all_tasks())
    announcer = await scene.start([A], [U])
    await scene.http.answer(A)
    await scene.udp.answer(U, TrackerError("timed out"))
    assert len(asyncio.all_tasks()) == before
    await scene.wait(announcer, 1)
    assert len(asyncio.all_tasks()) == before


async def test_silence_lets_the_next_one_try_while_the_first_goes_on(scene: Scene) -> None:
    announcer = await scene.start([U, A])
    await scene.wait(announcer, 14)
    assert scene.http.heard() == []
    await scene.wait(announcer, 1)
    assert scene.http.heard() == ["a started"]
    assert scene.owner.changes[-1].status == "silent"
    await scene.wait(announcer, 1)
    assert len(scene.owner.changes) == 1
    await scene.http.answer(A)
    assert scene.udp.waiting == [U]
    await scene.udp.answer(U)
    assert [state.status for state in announcer.snapshot()] == ["working", "working"]


async def test_schemes_go_their_ways(scene: Scene) -> None:
    announcer = await scene.start([A], [B], ["wss://t/w"], ["UDP://t:1/u"])
    assert scene.http.heard() == ["a started", "b started"]
    assert scene.udp.heard() == ["u started"]
    assert announcer.snapshot()[2].status == "unsupported"


async def test_trackers_of_the_user(scene: Scene) -> None:
    announcer = await scene.start([A], user=[C])
    assert scene.http.heard() == ["a started", "c started"]
    announcer.add_tracker(U)
    announcer.add_tracker(U)
    await settle()
    assert scene.udp.heard() == ["u started"]
    assert [state.tier for state in announcer.snapshot()] == [0, 1, 2]


async def test_more_peers_are_asked_for_as_soon_as_the_tracker_allows(scene: Scene) -> None:
    announcer = await scene.start([A])
    await scene.http.answer(A, AnnounceReply(interval=1800, min_interval=100))
    for _ in range(99):
        announcer.want_more_peers()
        await scene.wait(announcer, 1)
    assert scene.http.heard() == ["a started"]
    await scene.wait(announcer, 1)
    assert scene.http.heard() == ["a"]


async def test_a_bug_of_ours_is_a_failure_and_hurts_nobody_else(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    announcer = await scene.start([A], [C])
    await scene.http.answer(A, ZeroDivisionError("oops"))
    await scene.http.answer(C)
    assert [state.status for state in announcer.snapshot()] == ["failed", "working"]
    assert "ZeroDivisionError: oops" in announcer.snapshot()[0].error
    assert "announcing to" in caplog.text
    await scene.wait(announcer, 30)
    assert scene.http.waiting == [A]


async def test_an_owner_that_breaks_does_not_end_the_announces(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(addresses: Sequence[Address], tracker: str) -> None:
        raise ZeroDivisionError

    scene.owner.peers_found = breaks  # type: ignore[method-assign]
    announcer = await scene.start([A])
    await scene.http.answer(A)
    await scene.wait(announcer, 1800)
    assert scene.http.heard() == ["a started", "a"]
    assert "ZeroDivisionError" in caplog.text


async def test_leaving_drops_what_is_under_way_and_tells_only_those_that_know_us(scene: Scene) -> None:
    announcer = await scene.start([A], [C], [U])
    await scene.http.answer(A)
    await scene.http.answer(C)
    scene.http.heard()
    closing = asyncio.create_task(announcer.aclose(60.0))
    await settle()
    assert (scene.http.heard(), scene.udp.waiting) == (["a stopped", "c stopped"], [])
    await scene.http.answer(A, TrackerError("never mind"))
    await scene.http.answer(C)
    await closing
    announcer.heartbeat(10**9)
    announcer.completed()
    announcer.want_more_peers()
    announcer.add_tracker(B)
    await settle()
    assert scene.http.heard() == []
    assert "stopped" in repr(announcer)


async def test_leaving_does_not_wait_for_the_deaf(scene: Scene) -> None:
    announcer = await scene.start([A])
    await scene.http.answer(A)
    await announcer.aclose(0.0)
    assert scene.http.waiting == []


async def test_leaving_can_be_cancelled(scene: Scene) -> None:
    announcer = await scene.start([A])
    await scene.http.answer(A)
    closing = asyncio.create_task(announcer.aclose(60.0))
    await settle()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert scene.http.waiting == []


async def test_no_trackers_at_all(scene: Scene) -> None:
    announcer = await scene.start()
    await scene.wait(announcer, 10**6)
    assert announcer.snapshot() == ()


async def test_what_the_user_named_is_asked_as_the_users(scene: Scene) -> None:
    announcer = await scene.start([A], user=[B])
    announcer.add_tracker(C)
    await settle()
    assert (scene.http.waiting, scene.http.given) == ([A, B, C], [B, C])
    assert [state.given for state in announcer.snapshot()] == [False, True, True]


async def test_who_waits_in_line_is_not_called_silent(scene: Scene) -> None:
    scene.http.crowded = True
    announcer = await scene.start([A, C])
    for _ in range(10):
        await scene.wait(announcer, 15)
    assert (scene.http.waiting, announcer.snapshot()[0].status) == ([A], "announcing")
    scene.http.began(A)
    await scene.wait(announcer, 14)
    assert scene.http.waiting == [A]
    await scene.wait(announcer, 16)
    assert scene.http.waiting == [A, C]
    assert announcer.snapshot()[0].error == "no answer for 30 s, still trying"


async def test_nothing_that_is_shown_gives_a_key_away(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = f"http://t.example/{KEY}/announce?auth={KEY[::-1]}"
    announcer = await scene.start([url])
    await scene.http.answer(url, TrackerError(f"the tracker says: no such key {KEY}", kind="refused"))
    state = announcer.snapshot()[0]
    assert (state.url, state.name) == (url, "http://t.example/…/announce?…")
    assert (state.error, state.error_class) == ("the tracker says: no such key …", "refused")
    await scene.wait(announcer, 60)
    await scene.http.answer(url, ZeroDivisionError())
    await scene.wait(announcer, 60)
    await scene.http.answer(url, AnnounceReply(interval=60, warning=f"{KEY} expires"))
    assert announcer.snapshot()[0].message == "… expires"
    assert "t.example" in caplog.text
    assert KEY not in caplog.text
    assert KEY[::-1] not in caplog.text


async def test_counts_of_a_scrape_are_the_trackers(scene: Scene) -> None:
    announcer = await scene.start([A])
    await scene.http.answer(A, AnnounceReply(interval=60))
    announcer.scraped(A, ScrapeCounts(seeds=5, downloaded=7, leechers=6))
    announcer.scraped("http://nobody/announce", ScrapeCounts())
    state = announcer.snapshot()[0]
    assert (state.seeds, state.leechers, state.downloaded, state.scraped) == (5, 6, 7, scene.clock.now)


# ---- everything real ----

HTML = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
ODD = b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\nd8:intervali9e5:peers1:xe"
FAILURE = b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nd14:failure reason6:no waye"
BROKEN = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (None, "Connection refused"),
        (b"", "no complete answer"),
        (BROKEN, "HTTP 500"),
        (HTML, "web page"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000, "longer than"),
        (FAILURE, "the tracker says: no way"),
        (ODD, "odd length"),
    ],
    ids=["dead", "time-out", "500", "html", "endless", "failure", "odd"],
)
async def test_after_a_hostile_tracker_the_next_of_its_tier_is_asked(sent: bytes | None, words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent or b"")
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    hostile = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hostile.sockets[0].getsockname()[1]}/announce"
    if sent is None:
        hostile.close()
    server = TrackerServer(bind="127.0.0.1", port=0)
    await server.start()
    client = HttpClient()
    settings = AnnounceSettings(http_timeout=0.2)
    owner = Owner()
    done = asyncio.Event()
    owner.tracker_changed = lambda state: done.set() if state.url != url else None  # type: ignore[method-assign]
    announcer = Announcer(
        owner, [[url, server.urls[0]]], infohash=HASH, peer_id=PeerId(b"p" * 20), port=lambda: 1, key=1,
        http=HttpTrackers(client, settings), udp=Trackers(), settings=settings, rng=InOrder(),
    )  # fmt: skip
    try:
        announcer.start(asyncio.get_running_loop().time())
        await done.wait()
        good, bad = announcer.snapshot()
        assert (good.url, good.status, bad.status) == (server.urls[0], "working", "failed")
        assert words in bad.error
        assert words in bad.summary
    finally:
        await announcer.aclose()
        await client.aclose()
        hostile.close()
        await server.aclose()


async def test_against_a_real_tracker_over_http_and_udp() -> None:
    heard: list[tuple[str, int]] = []
    told = asyncio.Event()

    def note(request: AnnounceRequest, address: Address) -> None:
        heard.append((request.event.value, request.left))

    class Here(Owner):
        def tracker_changed(self, state: TrackerState) -> None:
            super().tracker_changed(state)
            told.set()

    server = TrackerServer(bind="127.0.0.1", port=0, on_announce=note)
    await server.start()
    client, endpoint = HttpClient(bind="127.0.0.1"), UdpEndpoint(bind="127.0.0.1")
    http, udp = HttpTrackers(client), UdpTrackers(endpoint)

    def peer(number: int, left: int, url: str) -> tuple[Announcer, Owner]:
        owner = Here()
        owner.left = left
        made = Announcer(
            owner, [[url]], infohash=HASH, peer_id=PeerId(bytes([number]) * 20), port=lambda: number, key=number,
            http=http, udp=udp, settings=AnnounceSettings(), rng=Random(1),
        )  # fmt: skip
        return made, owner

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await told.wait()
            told.clear()

    try:
        seed, seed_owner = peer(1, 0, server.urls[0])
        leech, leech_owner = peer(2, 100, server.urls[1])
        seed.start(asyncio.get_running_loop().time())
        await until(lambda: bool(seed_owner.changes))
        leech.start(asyncio.get_running_loop().time())
        await until(lambda: bool(leech_owner.changes))
        assert [state.error for state in seed_owner.changes + leech_owner.changes] == ["", ""]
        assert leech_owner.found == [((Address("127.0.0.1", 1),), server.urls[1])]
        leech_owner.left = 0
        leech.completed()
        await until(lambda: len(leech_owner.changes) == 2)
        await asyncio.gather(seed.aclose(), leech.aclose())
        assert heard[:3] == [("started", 0), ("started", 100), ("completed", 0)]
        assert sorted(heard[3:]) == [("stopped", 0), ("stopped", 0)]
        assert server.stats()["peers"] == 0
    finally:
        await udp.aclose()
        await endpoint.aclose()
        await client.aclose()
        await server.aclose()
