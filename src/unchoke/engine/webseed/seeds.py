"""WebSeeds: the web servers that have one torrent's files (BEP 19), and who of them is asked now.

A fetcher is one connection at work; here they are begun, as many as the server's record allows and the session has room for,
and ended. BEP 17 (``httpseeds``) is another protocol, and not spoken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from unchoke.engine.net.ranges import RangeClient
from unchoke.engine.tasks import Tasks
from unchoke.engine.webseed.fetcher import Fetcher
from unchoke.engine.webseed.filler import FetchOwner
from unchoke.engine.webseed.seed import WebSeed
from unchoke.policy.webseed import WebSeedSettings, WebSeedState
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import Address

#: URLs of one torrent that are looked at. Lists of hundreds exist; those behind are not used.
MOST_URLS = 64


class WebSeedOwner(FetchOwner, Protocol):
    """What web seeds ask of whoever takes in what they give."""

    @property
    def has_peers(self) -> bool: ...


class WebSeeds:
    """One torrent's. ``owner`` takes in what comes; ``clock`` is the loop's time."""

    def __init__(
        self,
        owner: WebSeedOwner,
        seeds: Sequence[str],
        metainfo: Metainfo,
        settings: WebSeedSettings,
        client: RangeClient,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self.metainfo = metainfo
        self._client = client
        self.settings = settings
        self._clock = clock
        self.is_closed = False
        self.is_single = sum(not pad for pad in metainfo.layout.files.pads) == 1
        self.seeds = [WebSeed(self, url, number, settings, clock()) for number, url in enumerate(seeds[:MOST_URLS], 1)]
        self._tasks = Tasks("web seeds")
        asyncio.get_running_loop().call_soon(self.begin)

    @property
    def owner(self) -> FetchOwner:
        """Who takes in what they give."""
        return self._owner

    def now(self) -> float:
        """Seconds, of the loop's clock."""
        return self._clock()

    # ------------------------------------------------------------------ who is at work

    def begin(self) -> None:
        """Begin what can be begun now: a connection for each run that somebody may fetch."""
        now = self.now()
        if self.is_closed or self._owner.picker.is_done:
            return
        used = 0
        for seed in self.seeds:
            if used >= self.settings.servers:
                break
            used += self._begin(seed, now)

    def _begin(self, seed: WebSeed, now: float) -> bool:
        """True: it is at work."""
        while len(seed.fetchers) < seed.record.connections(now) and self._client.enter(
            seed.host, self.settings.connections
        ):
            run = seed.next_run()
            if run is None:
                self._client.leave(seed.host)
                break
            fetcher = Fetcher(seed, self._owner, self._client, run)
            seed.fetchers[fetcher] = None
            fetcher.task = self._tasks.spawn(fetcher.work(), seed.label)
        return bool(seed.fetchers)

    def ended(self, seed: WebSeed) -> None:
        """One of its connections is free for others."""
        self._client.leave(seed.host)

    def fetchers(self) -> list[Fetcher]:
        """Connections at work."""
        return [fetcher for seed in self.seeds for fetcher in seed.fetchers]

    def waiting_for_limit(self) -> list[Fetcher]:
        """Those that go on as soon as a limit lets them."""
        return [fetcher for fetcher in self.fetchers() if fetcher.waits_for_limit]

    def wake(self) -> None:
        """There is memory for a piece again, perhaps."""
        for fetcher in self.fetchers():
            fetcher.wake()

    def heartbeat(self, now: float) -> None:
        """Once a second: silent servers are given up, and whoever may begins."""
        for seed in self.seeds:
            seed.recall(now)
            for fetcher in list(seed.fetchers):
                if fetcher.is_late(now):
                    fetcher.give_up()
        self.wake()
        self.begin()

    def has_rivals(self, seed: WebSeed) -> bool:
        return self._owner.has_peers or any(other is not seed and not other.record.is_out for other in self.seeds)

    # ------------------------------------------------------------------ wrong data

    def accuse(self, liar: Address, piece: int) -> bool:
        """A block of this piece was wrong, and this address gave it. False: it is none of ours."""
        found = [seed for seed in self.seeds if seed.address == liar]
        for seed in found:
            seed.lied(piece)
        return bool(found)

    # ------------------------------------------------------------------ seen from outside

    @property
    def is_busy(self) -> bool:
        return any(seed.fetchers for seed in self.seeds)

    def pieces(self) -> Collection[int]:
        """Open pieces that are being fetched."""
        runs = (fetcher.run for fetcher in self.fetchers())
        return {run.piece.index for run in runs if run is not None and run.piece is not None}

    def snapshot(self) -> tuple[WebSeedState, ...]:
        now = self.now()
        return tuple(seed.state(now) for seed in self.seeds)

    def close(self) -> None:
        """Nothing more is asked for or taken. The tasks end soon; ``aclose`` waits for them."""
        self.is_closed = True
        for fetcher in self.fetchers():
            fetcher.close()

    async def aclose(self) -> None:
        self.close()
        await self._tasks.aclose()

    def __repr__(self) -> str:
        return f"<WebSeeds [{len(self.seeds)} servers | {len(self.fetchers())} connections]>"
