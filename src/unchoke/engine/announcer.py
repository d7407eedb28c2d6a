"""Announcer: one torrent's conversation with its trackers: ``started``, regular announces, ``completed``, ``stopped``.

Which tracker is asked when is ``policy.announce``'s choice; how, that of the ``Announcing`` given for the URL's scheme. It has
no task while it waits: the session's heartbeat moves it, and only an announce under way is a task. A tracker's failure is a
value in its ``TrackerState``, kept until it works again; a failure of our own code is logged and looks the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from unchoke.engine.tasks import Tasks
from unchoke.errors import TrackerError
from unchoke.masking import masked, scrubbed
from unchoke.policy.announce import AnnounceSchedule, AnnounceSettings, Due, TrackerState
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeCounts
from unchoke.types import Address, InfoHash, PeerId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceCounts:
    """Bytes of payload since the torrent was started, and bytes still wanted (BEP 3)."""

    uploaded: int
    downloaded: int
    left: int


class AnnouncerOwner(Protocol):
    """What an announcer asks of its torrent, and tells it."""

    def announce_counts(self) -> AnnounceCounts: ...

    def peers_wanted(self) -> int: ...

    def peers_found(self, addresses: Sequence[Address], tracker: str) -> None: ...

    def tracker_changed(self, state: TrackerState) -> None: ...


class Announcing(Protocol):
    """A way to announce; HTTP and UDP are two, a simulator's own is another. Raises TrackerError."""

    async def announce(
        self, url: str, request: AnnounceRequest, *, given: bool, begun: Callable[[], None]
    ) -> AnnounceReply:
        """``given``: the URL is the user's own. ``begun`` is called when the turn of this announce has come."""
        ...


class Announcer:
    """``tiers`` are the torrent's, ``user_trackers`` a tier each. ``port`` is asked at each announce; ``key`` is 32 bits that
    stay the same while the torrent runs (BEP 7). ``http`` serves http and https, ``udp`` udp."""

    __slots__ = (
        "_http",
        "_in_line",
        "_infohash",
        "_key",
        "_next_look",
        "_owner",
        "_peer_id",
        "_port",
        "_running",
        "_schedule",
        "_settings",
        "_tasks",
        "_tracker_ids",
        "_udp",
        "_under_way",
    )

    def __init__(
        self,
        owner: AnnouncerOwner,
        tiers: Iterable[Sequence[str]],
        *,
        infohash: InfoHash,
        peer_id: PeerId,
        port: Callable[[], int],
        key: int,
        http: Announcing,
        udp: Announcing,
        settings: AnnounceSettings,
        rng: Random,
        user_trackers: Iterable[str] = (),
    ) -> None:
        self._owner = owner
        self._schedule = AnnounceSchedule(tiers, settings, rng, user_trackers=user_trackers)
        self._settings = settings
        self._infohash = infohash.truncated
        self._peer_id = peer_id
        self._port = port
        self._key = key
        self._http = http
        self._udp = udp
        self._tracker_ids: dict[str, bytes] | None = None  # few trackers have any
        self._under_way: dict[str, float] = {}  # URL → when it becomes silent; inf once that is said
        self._in_line: set[str] = set()  # of these: those whose turn has not come, which is not their tracker's fault
        self._next_look = 0.0
        self._running = False
        self._tasks = Tasks(f"announcer of {self._infohash.hex()[:8]}")

    # ---- what the torrent tells ----

    def start(self, now: float) -> None:
        """Join the swarm: every tracker that is due hears ``started``."""
        self._running = True
        self._schedule.start(now)
        self._look(now)

    def heartbeat(self, now: float) -> None:
        """Begin what is due. Costs one comparison when nothing is."""
        if now >= self._next_look:
            self._look(now)

    def completed(self) -> None:
        """The download has just been completed (not: was complete from the start); each tier hears it once."""
        if self._running:
            now = _now()
            self._schedule.completed(now)
            self._look(now)

    def want_more_peers(self) -> None:
        """Announce earlier than planned, as soon as the trackers' ``min interval`` allows. Calling it often is fine."""
        if self._running:
            now = _now()
            self._schedule.want_more_peers(now)
            self._look(now)

    def add_tracker(self, url: str, *, given: bool = True) -> None:
        """One more tracker, a tier of its own, asked at once; ``given`` by the user himself. What is known changes nothing."""
        now = _now()
        if self._schedule.add(url, now, given=given):
            self._owner.tracker_changed(self._schedule.state(url))
            if self._running:
                self._look(now)

    def scraped(self, url: str, counts: ScrapeCounts) -> None:
        """Somebody asked this tracker for its counts alone."""
        seeds, leechers, downloaded = counts.seeds, counts.leechers, counts.downloaded
        self._schedule.scraped(url, _now(), seeds=seeds, leechers=leechers, downloaded=downloaded)

    @property
    def next_look(self) -> float:
        """When ``heartbeat`` has something to do; ``inf``: never, by itself."""
        return self._next_look

    def snapshot(self) -> tuple[TrackerState, ...]:
        """Every tracker as it stands."""
        return self._schedule.states()

    # ---- announcing ----

    def _look(self, now: float) -> None:
        """Begin every announce that is due, and note when to look again."""
        if not self._running:
            return
        for url, deadline in list(self._under_way.items()):
            if deadline <= now and url in self._in_line:
                self._under_way[url] = now + self._settings.silence
            elif deadline <= now:
                self._under_way[url] = float("inf")
                self._schedule.silent(url, now)
                self._owner.tracker_changed(self._schedule.state(url))
        for due in self._schedule.due(now):
            self._schedule.began(due.url, now)
            self._under_way[due.url] = now + self._settings.silence
            self._in_line.add(due.url)
            self._tasks.spawn(self._announce(due), f"announce to {masked(due.url)}")
        self._next_look = min(self._schedule.next_due, *self._under_way.values(), float("inf"))

    async def _announce(self, due: Due) -> None:
        """One announce from its beginning to its place in the schedule."""
        peers: Sequence[Address] = ()
        try:
            reply = await self._ask(due.url, AnnounceEvent(due.event), self._peers_wanted())
            peers = reply.peers
            self._note_success(due, reply)
        except TrackerError as error:
            words = scrubbed(str(error), due.url)
            log.info("< %s: %s", masked(due.url), words)
            self._schedule.failed(due.url, _now(), words, error.retry_in, error.kind)
        except Exception as error:
            log.exception("! announcing to %s failed", masked(due.url))
            self._schedule.failed(due.url, _now(), f"an error of ours: {type(error).__name__}: {error}")
        finally:
            del self._under_way[due.url]
            self._in_line.discard(due.url)
        try:
            if peers:
                self._owner.peers_found(peers, due.url)
            self._owner.tracker_changed(self._schedule.state(due.url))
        finally:
            self._look(_now())

    def _note_success(self, due: Due, reply: AnnounceReply) -> None:
        log.debug("< %s: %d peers, again in %s s", due.url, len(reply.peers), reply.interval)
        if reply.tracker_id:
            self._tracker_ids = (self._tracker_ids or {}) | {due.url: reply.tracker_id}
        self._schedule.succeeded(
            due.url,
            due.event,
            _now(),
            interval=reply.interval,
            min_interval=reply.min_interval,
            peers=len(reply.peers),
            seeds=reply.seeds,
            leechers=reply.leechers,
            downloaded=reply.downloaded,
            message=scrubbed(reply.warning, due.url),
        )

    async def _ask(self, url: str, event: AnnounceEvent, wanted: int) -> AnnounceReply:
        counts = self._owner.announce_counts()
        request = AnnounceRequest(
            infohash=self._infohash,
            peer_id=self._peer_id,
            port=self._port(),
            uploaded=max(0, counts.uploaded),
            downloaded=max(0, counts.downloaded),
            left=max(0, counts.left),
            event=event,
            numwant=wanted,
            key=self._key,
            tracker_id=(self._tracker_ids or {}).get(url, b""),
        )
        log.debug("> %s: %s left=%d", url, event.value or "announce", request.left)
        way = self._udp if url.partition(":")[0].lower() == "udp" else self._http
        begun = partial(self._turn_came, url)
        return await way.announce(url, request, given=self._schedule.is_given(url), begun=begun)

    def _turn_came(self, url: str) -> None:
        """With thousands of torrents on one tracker the way to this moment may be minutes long."""
        if url in self._in_line:
            self._in_line.discard(url)
            now = _now()
            self._schedule.began(url, now)
            self._under_way[url] = max(self._under_way[url], now + self._settings.silence)

    def _peers_wanted(self) -> int:
        return max(0, min(self._owner.peers_wanted(), self._settings.max_peers_wanted))

    # ---- leaving ----

    async def aclose(self, timeout: float | None = None) -> None:
        """Leave the swarm: what is under way is dropped, and all trackers that heard ``started`` hear ``stopped``, at once,
        within ``timeout`` seconds (the setting's, if None). Never raises for a tracker; it may be cancelled."""
        self._running = False
        told = self._schedule.stop()
        await self._tasks.aclose()
        if not told:
            return
        farewells = Tasks(f"{self._tasks.owner}: leaving")
        try:
            tasks = [farewells.spawn(self._say_stopped(url), f"stopped to {masked(url)}") for url in told]
            await asyncio.wait(tasks, timeout=self._settings.stop_timeout if timeout is None else timeout)
        finally:
            await farewells.aclose()

    async def _say_stopped(self, url: str) -> None:
        try:
            await self._ask(url, AnnounceEvent.STOPPED, 0)
        except TrackerError as error:
            log.debug("< %s: on leaving: %s", url, error)

    def __repr__(self) -> str:
        state = "running" if self._running else "stopped"
        return (
            f"<Announcer {self._infohash.hex()[:8]} [{state} | {len(self._under_way)} under way | {self._schedule!r}]>"
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
