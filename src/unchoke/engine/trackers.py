"""Trackers: one torrent's side towards its trackers: what they are told of it, what becomes of what they say, and taking leave.

Which tracker is asked when, and how, is the announcer's, which lives from the torrent's start to its end, asleep or awake. Leaving is
bounded, and cut short for whoever cannot wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.announcer import AnnounceCounts, Announcer, AnnouncerOwner
from unchoke.engine.events import Event, TrackerAnnounced, TrackerFailed
from unchoke.errors import TrackerError
from unchoke.policy.announce import TrackerState
from unchoke.protocol.tracker.models import ScrapeCounts
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from unchoke.engine.ledger import Ledger
    from unchoke.engine.scraper import Counts, Scraper


class TrackersOwner(Protocol):
    """What a torrent's trackers ask of it, and tell it."""

    @property
    def infohash(self) -> InfoHash: ...

    def bytes_left(self) -> int: ...

    def peers_wanted(self) -> int: ...

    def addresses_found(self, addresses: Sequence[Address]) -> None: ...

    def trackers_moved(self) -> None: ...

    def publish(self, event: Event) -> None: ...


class Trackers:
    """``make`` makes the announcer, for each start anew; ``patience``: seconds that leaving may take."""

    __slots__ = ("_announcer", "_farewell", "_hurried", "_ledger", "_make", "_owner", "_patience")

    def __init__(
        self, owner: TrackersOwner, ledger: Ledger, make: Callable[[AnnouncerOwner], Announcer], patience: float
    ) -> None:
        self._owner = owner
        self._ledger = ledger
        self._make = make
        self._patience = patience
        self._announcer: Announcer | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._hurried = False

    @property
    def know_us(self) -> bool:
        """They were told that we started, or are about to be."""
        return self._announcer is not None

    @property
    def next_look(self) -> float:
        """When ``heartbeat`` has something to do."""
        return self._announcer.next_look if self._announcer is not None else inf

    def heartbeat(self, now: float) -> None:
        """Say ``started`` if that was not said yet, and what is due."""
        if self._announcer is not None:
            self._announcer.heartbeat(now)
            return
        self._announcer = self._make(self)
        self._ledger.announced()
        self._announcer.start(now)

    def completed(self) -> None:
        """The download has just been completed."""
        if self._announcer is not None:
            self._announcer.completed()

    def want_more_peers(self) -> None:
        """Ask as soon as they allow. Calling it often is fine."""
        if self._announcer is not None:
            self._announcer.want_more_peers()

    def add(self, url: str, *, given: bool = True) -> None:
        """One more, asked at once if we are running; ``given`` by the user himself."""
        if self._announcer is not None:
            self._announcer.add_tracker(url, given=given)

    def snapshot(self) -> tuple[TrackerState, ...]:
        """Each of them as it stands."""
        return self._announcer.snapshot() if self._announcer is not None else ()

    async def scrape(
        self, scraper: Scraper, urls: Iterable[str], given: Collection[str]
    ) -> dict[str, Counts | TrackerError]:
        """What each of ``urls`` counts, asked now (BEP 48), whether the torrent runs or not; ``given``: those the user named."""
        told = await scraper.counts(urls, self._owner.infohash, given=given)
        for url, counts in told.items():
            if self._announcer is not None and isinstance(counts, ScrapeCounts):
                self._announcer.scraped(url, counts)
        return told

    # ------------------------------------------------------------------ leaving

    async def leave(self) -> None:
        """Say ``stopped`` to those that heard ``started``, within ``patience``; not at all when hurried."""
        announcer, self._announcer = self._announcer, None
        if announcer is None:
            return
        if not self._hurried:
            self._farewell = asyncio.get_running_loop().create_task(announcer.aclose(self._patience))
            await asyncio.gather(self._farewell, return_exceptions=True)
            self._farewell = None
        await announcer.aclose(0.0)  # what a farewell cut short left running; else nothing

    def hurry(self) -> None:
        """Whoever waits for our leaving, now or in a moment, waits no longer; until ``calm``."""
        self._hurried = True
        if self._farewell is not None:
            self._farewell.cancel()

    def calm(self) -> None:
        """There is time again for a farewell."""
        self._hurried = False

    # ------------------------------------------------------------------ what the announcer asks (AnnouncerOwner)

    def announce_counts(self) -> AnnounceCounts:
        """Since the start, as trackers want it (BEP 3)."""
        up, down = self._ledger.since_start
        return AnnounceCounts(uploaded=up, downloaded=down, left=self._owner.bytes_left())

    def peers_wanted(self) -> int:
        return self._owner.peers_wanted()

    def peers_found(self, addresses: Sequence[Address], tracker: str) -> None:
        self._owner.publish(TrackerAnnounced(self._owner.infohash, tracker, len(addresses)))
        self._owner.addresses_found(addresses)

    def tracker_changed(self, state: TrackerState) -> None:
        if state.error:
            self._owner.publish(TrackerFailed(self._owner.infohash, state.url, state.error))
        self._owner.trackers_moved()

    def __repr__(self) -> str:
        return f"<Trackers of {self._owner.infohash.hex()[:8]} [{self._announcer or 'not told of us'}]>"
