"""Following: which of the followed torrents is looked up when. It keeps order, and looks nothing up itself.

New and hungry torrents come first, the newest of them before the others; every fourth turn is that of the one that has waited longest,
so that ten thousand hungry ones starve nobody. There is one entry a torrent and no task; times are the loop's.
"""

from __future__ import annotations

from itertools import count
from random import Random

from unchoke.engine.dht.records import DhtFollower
from unchoke.engine.timetable import Timetable
from unchoke.types import InfoHash

#: Seconds between two lookups of one torrent, however hungry: its swarm is hardly another one before that (libtorrent asks
#: every 15 minutes only, Transmission at least every 20 s for a torrent with few peers).
SHORTEST = 60.0
#: Seconds after a lookup that nobody answered; doubled for each further one, up to the usual interval.
FIRST_RETRY = 30.0
#: A share of the interval by which announces of torrents that began together drift apart.
SPREAD = 0.1
#: Every so many turns the oldest regular announce goes before all hungry ones.
FAIR = 4


class Followed:
    """One torrent."""

    __slots__ = ("asked_at", "failures", "follower", "hungry", "infohash", "next_at", "nodes", "peers", "running")

    def __init__(self, infohash: InfoHash, follower: DhtFollower) -> None:
        self.infohash = infohash
        self.follower = follower
        self.asked_at: float | None = None
        self.next_at: float | None = None
        self.peers = 0
        self.nodes = 0
        self.failures = 0
        self.hungry = False
        self.running = False

    def __repr__(self) -> str:
        state = "looking" if self.running else "never asked" if self.asked_at is None else f"{self.peers} peers"
        return f"<Followed {self.infohash.hex()[:8]} [{state}]>"


class Following:
    """``interval``: seconds between two announces of one torrent."""

    def __init__(self, interval: float, rng: Random) -> None:
        self._interval = interval
        self._rng = rng
        self._all: dict[InfoHash, Followed] = {}
        self._later: Timetable[InfoHash] = Timetable()
        self._urgent: dict[InfoHash, None] = {}  # new and hungry ones, the last is the newest
        self._due: dict[InfoHash, None] = {}  # regular announces, in the order in which they fell due
        self._turns = count(1)

    def add(self, infohash: InfoHash, follower: DhtFollower) -> None:
        """Look it up as soon as there is a turn. One that is there gets another follower and keeps its times."""
        known = self._all.get(infohash)
        if known is not None:
            known.follower = follower
            return
        self._all[infohash] = Followed(infohash, follower)
        self._urgent[infohash] = None

    def remove(self, infohash: InfoHash) -> None:
        """It is not looked up any more. One that is not there is fine."""
        self._all.pop(infohash, None)
        self._later.forget(infohash)
        self._urgent.pop(infohash, None)
        self._due.pop(infohash, None)

    def hasten(self, infohash: InfoHash, now: float) -> None:
        """Its peers ran out: look it up before its time, but not more often than ``SHORTEST`` allows."""
        entry = self._all.get(infohash)
        if entry is None or entry.running or infohash in self._urgent:
            return
        when = now if entry.asked_at is None else entry.asked_at + SHORTEST
        if entry.next_at is not None and entry.next_at <= when:
            return
        if when <= now:
            self._promote(entry)
            return
        entry.hungry = True
        entry.next_at = when
        self._later.ask(infohash, when)

    def hasten_all(self) -> None:
        """There are nodes at last: those that found nothing while there were hardly any are asked again, in their turn."""
        for entry in self._all.values():
            if not entry.running and entry.asked_at is not None and not entry.peers:
                self._promote(entry)

    def _promote(self, entry: Followed) -> None:
        self._later.forget(entry.infohash)
        self._due.pop(entry.infohash, None)
        self._urgent[entry.infohash] = None
        entry.next_at = None

    def next(self, now: float) -> Followed | None:
        """Whose turn it is, if anybody's; its lookup begins now. ``ended`` must be told of its end."""
        for infohash in self._later.take(now):
            entry = self._all[infohash]
            (self._urgent if entry.hungry else self._due)[infohash] = None
            entry.next_at = None
        waiting = self._due if not self._urgent or (self._due and not next(self._turns) % FAIR) else self._urgent
        if not waiting:
            return None
        infohash = next(iter(waiting)) if waiting is self._due else next(reversed(waiting))
        del waiting[infohash]
        entry = self._all[infohash]
        entry.running = True
        entry.hungry = False
        entry.asked_at = now
        entry.next_at = None
        return entry

    def ended(self, entry: Followed, nodes: int, peers: int, now: float) -> None:
        """Its lookup is over; ``nodes`` answered, and named so many ``peers``."""
        entry.running = False
        entry.peers, entry.nodes = peers, nodes
        entry.failures = 0 if nodes else entry.failures + 1
        if self._all.get(entry.infohash) is not entry:
            return
        wait = self._interval if nodes else min(self._interval, FIRST_RETRY * 2.0 ** min(entry.failures - 1, 10))
        entry.next_at = now + wait * (1 + SPREAD * (self._rng.random() - 0.5))
        self._later.ask(entry.infohash, entry.next_at)

    def get(self, infohash: InfoHash) -> Followed | None:
        return self._all.get(infohash)

    @property
    def waiting(self) -> int:
        """Those whose time has come."""
        return len(self._urgent) + len(self._due)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<Following [{len(self._all)} torrents | {self.waiting} wait for their turn]>"
