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


class Lineup:
    """``torrents`` gives all of the session's."""

    __slots__ = ("_arranged", "_dirty", "_next", "_paces", "_tasks", "_torrents", "settings")

    def __init__(self, settings: QueueSettings, torrents: Callable[[], Iterable[Torrent]], tasks: Tasks) -> None:
        self.settings = settings
        self._torrents = torrents
        self._tasks = tasks
        self._paces: dict[Torrent, Pace] = {}
        self._arranged: Arrangement[Torrent] = Arrangement([], {})
        self._dirty = False
        self._next = 0.0

    def may_run(self, torrent: Torrent, now: float) -> bool:
        """Is there a place for this torrent, which is about to run?"""
        if self.settings.is_unlimited or torrent.options.forced:
            return True
        self._arrange(now, newcomer=torrent)
        return torrent in self._arranged.active

    def held(self, torrent: Torrent) -> Held | None:
        """What a queued torrent waits for."""
        return self._arranged.waiting.get(torrent)

    def touch(self) -> None:
        """Something changed: look again at the next heartbeat."""
        self._dirty = True

    def forget(self, torrent: Torrent) -> None:
        self._paces.pop(torrent, None)
        self._arranged.waiting.pop(torrent, None)
        self._dirty = True

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
            if torrent.state != "queued":
                self._tasks.spawn(torrent.queue(), "queue")

    def _arrange(self, now: float, newcomer: Torrent | None = None) -> None:
        entries = [
            self._entry(torrent, now)
            for torrent in self._torrents()
            if torrent is newcomer or torrent.state in _TAKES_PART
        ]
        self._arranged = arrange(entries, self.settings)

    def _entry(self, torrent: Torrent, now: float) -> Entry[Torrent]:
        active = torrent.state in ("downloading", "seeding")
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
