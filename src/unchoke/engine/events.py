"""Events: what happened, as frozen records in the past tense, and the bus that hands them to bounded queues.

Events are for edges. A level (a rate, a progress bar) is asked for with ``snapshot()``, so that no front end can slow the
engine: a subscriber that is slow loses its *oldest* events, and the next one it gets is ``EventsLost(n)``; it then asks
for a snapshot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from weakref import ref

from unchoke.types import Address, InfoHash


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. ``torrent`` is whose event it is."""

    torrent: InfoHash


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The subscriber was slow: ``count`` older events are gone."""

    count: int


@dataclass(frozen=True, slots=True)
class TorrentAdded(Event):
    name: str


@dataclass(frozen=True, slots=True)
class TorrentRemoved(Event):
    pass


@dataclass(frozen=True, slots=True)
class MetadataReceived(Event):
    """Peers gave the info dictionary of a magnet link: files and sizes are known now, and the torrent's own ``name``."""

    name: str


@dataclass(frozen=True, slots=True)
class TorrentRenamed(Event):
    """A torrent named by its v2 infohash turned out to be a hybrid: it goes on under ``infohash``, its v1 one (BEP 52)."""

    infohash: InfoHash


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """The torrent's lifecycle moved: metadata, checking, downloading, seeding, stopped, error (``reason`` then says why)."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PieceCompleted(Event):
    """The piece was received, verified and written."""

    piece: int


@dataclass(frozen=True, slots=True)
class PieceFailed(Event):
    """The piece did not match its hash and is fetched again; ``peers`` are those that gave parts of it."""

    piece: int
    peers: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class TorrentCompleted(Event):
    """Every wanted piece is on disk."""


@dataclass(frozen=True, slots=True)
class PeerConnected(Event):
    address: Address
    incoming: bool


@dataclass(frozen=True, slots=True)
class PeerDisconnected(Event):
    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class PeerBanned(Event):
    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class TrackerAnnounced(Event):
    """A tracker answered: it gave ``peers`` addresses."""

    tracker: str
    peers: int


@dataclass(frozen=True, slots=True)
class TrackerFailed(Event):
    tracker: str
    reason: str


class Subscription:
    """An async iterator over events, for one reader; at most ``limit`` (at least one) wait.

    That of one torrent ends when the torrent is removed. Close it (or leave its ``with``) when done; one that nobody
    holds any more is forgotten.
    """

    __slots__ = ("__weakref__", "_bus", "_closed", "_limit", "_lost", "_queue", "_torrent", "_wake")

    def __init__(self, bus: EventBus, torrent: InfoHash | None, limit: int) -> None:
        self._bus = bus
        self._torrent = torrent
        self._limit = max(1, limit)
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._closed = False
        self._wake: asyncio.Future[None] | None = None

    def _offer(self, event: Event) -> None:
        if self._torrent is not None and event.torrent != self._torrent:
            return
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(event)
        if self._torrent is not None and isinstance(event, TorrentRemoved):
            self.close()
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event | EventsLost:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._wake is not None:
                raise RuntimeError("a subscription has one reader; subscribe again for another")
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        return self._queue.popleft()

    def close(self) -> None:
        """No more events; a waiting reader ends after what is queued."""
        self._closed = True
        self._bus.drop(self)
        self._rouse()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventBus:
    """Publishing costs a list walk and an append a subscriber; without subscribers, nothing."""

    __slots__ = ("_closed", "_subscriptions")

    def __init__(self) -> None:
        # Replaced, never changed: readers come and go while it is walked.
        self._subscriptions: tuple[ref[Subscription], ...] = ()
        self._closed = False

    def publish(self, event: Event) -> None:
        for held in self._subscriptions:
            subscription = held()
            if subscription is not None:
                subscription._offer(event)

    def subscribe(self, torrent: InfoHash | None = None, limit: int = 1024) -> Subscription:
        """Events from now on, of one torrent or of all. On a closed bus there are none."""
        subscription = Subscription(self, torrent, limit)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions = (*self._subscriptions, ref(subscription, self._forget))
        return subscription

    def drop(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(held for held in self._subscriptions if held() not in (None, subscription))

    def _forget(self, gone: ref[Subscription]) -> None:
        self._subscriptions = tuple(held for held in self._subscriptions if held is not gone)

    def close(self) -> None:
        """End every subscription; there will be no more events."""
        self._closed = True
        for held in self._subscriptions:
            subscription = held()
            if subscription is not None:
                subscription.close()

    def __repr__(self) -> str:
        return f"<EventBus [{len(self._subscriptions)} subscribers]>"
