"""Lineup: the queue of a session: which of its torrents run when not all may, carried out.

``policy.queue`` decides; this gathers what it wants to know, remembers who is slow, and tells torrents to wait or to go on. With
no limit set it does nothing and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from unchoke.policy.queue import Arrangement, Entry, Held, Pace, QueueSettings, Wants, arrange

if TYPE_CHECKING:
    from unchoke.engine.tasks import Tasks
    from unchoke.engine.torrent import Torrent

#: Seconds between two looks at who is slow, where nothing else happens.
INTERVAL = 5.0

#: A torrent in one of these holds a place, or waits for one.
_TAKES_PART = frozenset(("downloading", "seeding", "queued"))
_RUNS = frozenset(("downloading", "seeding"))
#: It finds out what is there; then it runs, if it may.
_BEGINS = frozenset(("starting", "checking"))


class Lineup:
    """``torrents`` gives all of the session's."""

    __slots__ = (
        "_arranged",
        "_coming",
        "_dirty",
        "_next",
        "_now",
        "_paces",
        "_stale",
        "_tasks",
        "_torrents",
        "settings",
    )

    def __init__(self, settings: QueueSettings, torrents: Callable[[], Iterable[Torrent]], tasks: Tasks) -> None:
        self.settings = settings
        self._torrents = torrents
        self._tasks = tasks
        self._paces: dict[Torrent, Pace] = {}
        self._arranged: Arrangement[Torrent] = Arrangement([], {})
        self._coming: dict[Torrent, None] = {}  # were given a place, and are about to take it
        self._dirty = False
        self._stale = False  # the arrangement is older than what has changed
        self._next = self._now = 0.0

    def may_run(self, torrent: Torrent, now: float) -> bool:
        """Is there a place for this torrent, which is about to run?"""
        if self.settings.is_unlimited or torrent.options.forced:
            return True
        self._arrange(now, newcomer=torrent)
        if torrent not in self._arranged.active:
            return False
        self._coming[torrent] = None
        return True

    def held(self, torrent: Torrent) -> Held | None:
        """What a queued torrent waits for."""
        if self._stale:
            self._arrange(self._now)
        return self._arranged.waiting.get(torrent)

    def touch(self) -> None:
        """Something changed: look again at the next heartbeat."""
        self._dirty = self._stale = True

    def forget(self, torrent: Torrent) -> None:
        self._paces.pop(torrent, None)
        self._coming.pop(torrent, None)
        self._arranged.waiting.pop(torrent, None)
        self._dirty = self._stale = True

    def heartbeat(self, now: float) -> None:
        """Once a second: those that lost their place leave, those that got one begin."""
        if self.settings.is_unlimited and not self._arranged.waiting:
            return
        if not self._dirty and now < self._next:
            return
        self._dirty, self._next = False, now + INTERVAL
        self._arrange(now)
        active = self._arranged.active
        for torrent in active:
            if torrent.state == "queued":
                self._tasks.spawn(torrent.unqueue(), "unqueue")
        for torrent in self._arranged.waiting:
            if torrent.state in _RUNS:
                self._tasks.spawn(torrent.queue(), "queue")

    def _arrange(self, now: float, newcomer: Torrent | None = None) -> None:
        self._coming = {torrent: None for torrent in self._coming if torrent.state in _BEGINS}
        entries = [
            self._entry(torrent, now)
            for torrent in self._torrents()
            if torrent.state in _TAKES_PART or torrent is newcomer or torrent in self._coming
        ]
        self._arranged = arrange(entries, self.settings)
        self._stale, self._now = False, now

    def _entry(self, torrent: Torrent, now: float) -> Entry[Torrent]:
        active = torrent.state in _RUNS or torrent in self._coming
        wants: Wants = "seed" if torrent.is_complete else "download"
        slow = False
        if active:
            pace = self._paces.get(torrent)
            if pace is None:
                pace = self._paces[torrent] = Pace()
            rate = 0.0
            if torrent.swarm is not None:
                meter = torrent.swarm.up_rate if wants == "seed" else torrent.swarm.intake.rate
                rate = meter.rate(now)
            slow = pace.update(wants, rate, self.settings, now)
        else:
            self._paces.pop(torrent, None)
        return Entry(torrent, torrent.row.position, wants, torrent.options.forced, slow, active)

    def __repr__(self) -> str:
        return f"<Lineup [{len(self._arranged.active)} active, {len(self._arranged.waiting)} waiting]>"
