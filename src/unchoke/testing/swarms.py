"""swarm(): dozens of sessions in one simulated world, in a few lines, with a tracker to find each other by.

    async with swarm(make_torrent(4 << 20), leechers=50, up=256 << 10, seed=7) as world:
        await world.finished()
        print(world.table())

Every session is a whole engine: only lines, threads and files are simulated. ``SimSwarm.log`` has every event with its time
and member; with the same seed it is the same line for line. ``add`` and ``fake`` bring more peers, at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from math import inf
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from unchoke.engine.contents import MakeStorage
from unchoke.engine.events import Event, EventsLost, StateChanged, TorrentCompleted
from unchoke.engine.resume import StateStore
from unchoke.engine.session import Session
from unchoke.engine.settings import Settings
from unchoke.engine.stats import TorrentSnapshot
from unchoke.engine.tasks import Executor
from unchoke.engine.torrent import Torrent
from unchoke.protocol.handshake import Reserved
from unchoke.testing.clock import elapsed
from unchoke.testing.executors import InlineExecutor
from unchoke.testing.fakepeer import Behaviour, FakeServer
from unchoke.testing.network import SimHost, SimNetwork
from unchoke.testing.ram import RamDisk
from unchoke.testing.torrents import TinyTorrent, make_torrent
from unchoke.testing.tracker import SimTracker
from unchoke.types import Address

#: Where the tracker of a simulated swarm stands.
TRACKER_HOST = "10.255.255.1"


class LogLine(NamedTuple):
    """An event of one member; ``at`` in virtual seconds since the simulation began."""

    at: float
    member: str
    event: Any

    def __str__(self) -> str:
        return f"{self.at:.6f} {self.member} {self.event}"


class Member:
    """One engine in the swarm. ``disk`` keeps its data when it is stopped; ``finished_at``: virtual seconds, None until then."""

    def __init__(self, world: SimSwarm, name: str, host: SimHost, settings: Settings, seed: int, disk: RamDisk) -> None:
        self.name = name
        self.host = host
        self.settings = settings
        self.disk = disk
        self.options: dict[str, Any] = {}
        self.storage: MakeStorage = disk.open
        self.state: StateStore | None = None
        self.executor: Executor = InlineExecutor()
        self.session: Session | None = None
        self.finished_at: float | None = None
        self._world = world
        self._rng = Random(seed)
        self._torrent: Torrent | None = None
        self._watch: asyncio.Task[None] | None = None
        self._before = (0, 0)
        self.done = asyncio.Event()

    @property
    def torrent(self) -> Torrent:
        """While it runs."""
        assert self._torrent is not None, f"{self.name} does not run"
        return self._torrent

    @property
    def address(self) -> Address:
        """Where it listens, while it runs."""
        assert self.session is not None, f"{self.name} does not run"
        return Address(self.host.address, self.session.port())

    @property
    def data(self) -> bytes:
        """What its disk holds, right or wrong, from the torrent's first byte to its last; empty if it never ran."""
        return b"".join(bytes(storage.data or b"") for storage in self.disk.storages.values())

    def snapshot(self) -> TorrentSnapshot:
        return self.torrent.snapshot()

    @property
    def uploaded(self) -> int:
        """Bytes of payload, over all its runs."""
        return self._before[0] + (self._torrent.snapshot().uploaded if self._torrent is not None else 0)

    @property
    def downloaded(self) -> int:
        """Bytes of payload, over all its runs; wasted ones too."""
        return self._before[1] + (self._torrent.snapshot().downloaded if self._torrent is not None else 0)

    async def start(self) -> None:
        """Open its session and add the torrent."""
        assert self.session is None, f"{self.name} runs already"
        session = Session(
            self.settings,
            state=self.state,
            network=self.host,
            rng=self._rng,
            executor=self.executor,
            storage=self.storage,
            secret=self._rng.getrandbits,
        )
        self.session = await session.__aenter__()
        self._watch = asyncio.get_running_loop().create_task(self._listen(), name=f"log of {self.name}")
        self._torrent = await session.add(self._world.torrent.metainfo, folder=Path("/", self.name), **self.options)

    async def _listen(self) -> None:
        assert self.session is not None
        async for event in self.session.subscribe(limit=1 << 20):
            self._world.note(self, event)

    async def stop(self) -> None:
        """Leave in an orderly way; ``start`` comes back with the data there is."""
        session, self.session = self.session, None
        if session is None:
            return
        if self._torrent is not None:
            self._before = (self.uploaded, self.downloaded)
            self._torrent = None
        await session.aclose()
        if self._watch is not None:
            await self._watch

    def heard(self, event: Event | EventsLost, at: float) -> None:
        """Its own event."""
        # Who is complete when it starts again has no completion to tell of.
        is_done = isinstance(event, TorrentCompleted) or (isinstance(event, StateChanged) and event.state == "seeding")
        if is_done and self.finished_at is None:
            self.finished_at = at
            self.done.set()

    def __repr__(self) -> str:
        state = "stopped" if self._torrent is None else self._torrent.state
        return f"<Member {self.name} {self.host.address} [{state}]>"


class SimSwarm:
    """Made by ``swarm``. ``members`` by name; ``log``: every event of every member."""

    def __init__(self, network: SimNetwork, torrent: TinyTorrent, settings: Settings, rng: Random) -> None:
        self.network = network
        self.torrent = torrent
        self.settings = settings
        self.members: dict[str, Member] = {}
        self.log: list[LogLine] = []
        self.tracker = SimTracker(network.host(TRACKER_HOST), rng=Random(rng.getrandbits(64)))
        self._rng = rng
        self._numbers = count(1)
        self._stack = AsyncExitStack()

    @property
    def seeds(self) -> list[Member]:
        """Members that had everything when they came."""
        return [member for member in self.members.values() if member.options.get("trust")]

    @property
    def leechers(self) -> list[Member]:
        """Members that came for the data."""
        return [member for member in self.members.values() if not member.options.get("trust")]

    def _address(self) -> str:
        number = next(self._numbers)
        return f"10.{number >> 16 & 127}.{number >> 8 & 255}.{number & 255}"

    async def add(
        self,
        name: str,
        *,
        complete: bool = False,
        up: float = inf,
        down: float = inf,
        latency: float | None = None,
        reachable: bool = True,
        settings: Settings | None = None,
        storage: MakeStorage | None = None,
        state: StateStore | None = None,
        executor: Executor | None = None,
        start: bool = True,
        **options: Any,
    ) -> Member:
        """One more member, started. ``complete``: it has everything. ``up``, ``down``, ``latency``, ``reachable``: its line
        (``SimNetwork.host``). ``storage`` makes its storages in place of its ``disk``; ``state`` and ``executor`` are
        ``Session``'s, ``options`` are ``Session.add``'s."""
        host = self.network.host(self._address(), up=up, down=down, latency=latency, reachable=reachable)
        disk = RamDisk(self.torrent.data if complete else None)
        member = Member(
            self, name, host, simulated(settings) if settings else self.settings, self._rng.getrandbits(64), disk
        )
        member.options = {"trackers": [self.tracker.url], **({"trust": True} if complete else {}), **options}
        member.storage = storage or disk.open
        member.state = state
        member.executor = executor or member.executor
        self.members[name] = member
        if start:
            await member.start()
        return member

    async def fake(
        self,
        behaviour: Behaviour,
        *,
        up: float = inf,
        down: float = inf,
        announce: bool = True,
        reserved: int = Reserved.FAST,
    ) -> FakeServer:
        """A scripted peer that listens, known to the tracker as a seed unless told otherwise. ``reserved``: of its handshake."""
        host = self.network.host(self._address(), up=up, down=down)
        server = await self._stack.enter_async_context(FakeServer(host, self.torrent, behaviour, reserved=reserved))
        if announce:
            self.tracker.register(self.torrent.infohash, server.peer_id, server.address)
        return server

    def note(self, member: Member, event: Event | EventsLost) -> None:
        line = LogLine(elapsed(), member.name, event)
        self.log.append(line)
        member.heard(event, line.at)

    async def finished(self, members: Iterable[Member] | None = None, *, within: float = 86400.0) -> None:
        """Wait until all of them (all leechers) have everything. Raises TimeoutError after so many virtual seconds."""
        waiting = list(self.leechers if members is None else members)
        try:
            async with asyncio.timeout(within):
                for member in waiting:
                    await member.done.wait()
        except TimeoutError:
            late = [member.name for member in waiting if member.finished_at is None]
            raise TimeoutError(
                f"not finished after {within:g} s: {', '.join(late[:10])} ({len(late)} in all)"
            ) from None

    def copies(self, member: Member) -> float:
        """How often it has uploaded the whole."""
        return member.uploaded / self.torrent.size

    def table(self) -> str:
        """Who finished when, and gave how much."""
        lines = [f"{'member':12} {'finished':>10} {'down MiB':>9} {'up MiB':>9} {'ratio':>6}"]
        for member in self.members.values():
            when = "from start" if member.options.get("trust") else "never"
            if member.finished_at is not None:
                when = f"{member.finished_at:.3f} s"
            down, up = member.downloaded / 2**20, member.uploaded / 2**20
            ratio = f"{up / down:6.2f}" if down else "     -"
            lines.append(f"{member.name:12} {when:>10} {down:9.2f} {up:9.2f} {ratio}")
        return "\n".join(lines)

    async def aclose(self) -> None:
        """Stop everybody, in the order they came."""
        for member in self.members.values():
            await member.stop()
        await self._stack.aclose()
        await self.tracker.aclose()

    def __repr__(self) -> str:
        ready = sum(member.finished_at is not None for member in self.leechers)
        return f"<SimSwarm of {self.torrent.name!r} [{len(self.seeds)} seeds | {ready} of {len(self.leechers)} done]>"


@asynccontextmanager
async def swarm(
    torrent: TinyTorrent | None = None,
    *,
    seeds: int = 1,
    leechers: int = 50,
    up: float = 256 * 1024,
    down: float = inf,
    latency: float = 0.025,
    jitter: float = 0.0,
    loss: float = 0.0,
    settings: Settings | None = None,
    seed: int = 0,
) -> AsyncIterator[SimSwarm]:
    """So many seeds and leechers of ``torrent``, all there at the start, each with a line of ``up`` and ``down`` bytes/s.

    ``latency``, ``jitter``, ``loss``: ``SimNetwork``. ``settings``: every session's, else the defaults. ``seed``: all chance.
    """
    rng = Random(seed)
    network = SimNetwork(latency=latency, jitter=jitter, loss=loss, rng=Random(rng.getrandbits(64)))
    world = SimSwarm(network, torrent or make_torrent(seed=seed), simulated(settings or Settings()), rng)
    try:
        await world.tracker.start()
        for number in range(seeds):
            await world.add(f"seed{number + 1:02}", complete=True, up=up, down=down)
        for number in range(leechers):
            await world.add(f"leech{number + 1:02}", up=up, down=down)
        yield world
    finally:
        await world.aclose()


def simulated(settings: Settings) -> Settings:
    """The settings with what the machine would decide decided: one thread of each kind, and nobody looked for outside."""
    return replace(
        settings,
        network=replace(settings.network, discovery=False),
        disk=replace(settings.disk, threads=settings.disk.threads or 1, check_threads=settings.disk.check_threads or 1),
    )
