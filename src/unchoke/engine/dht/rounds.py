"""Rounds: the lookups of followed torrents, begun in the order of ``following``, a bounded number at one time.

There is no task for a torrent, and none here: the heartbeat begins lookups, and each that ends makes room for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random

from unchoke.engine.dht.crank import Crank
from unchoke.engine.dht.following import Followed, Following
from unchoke.engine.dht.records import DhtFollower
from unchoke.engine.dht.search import Search, Searches
from unchoke.protocol.dht.models import Event, PeersFound
from unchoke.types import InfoHash

log = logging.getLogger(__name__)

#: Lookups at one time: a few, one more for so many that wait, and no more than so many. One takes about 50 packets and 5 to
#: 10 seconds.
LOOKUPS, WAITING_FOR_ONE_MORE, MOST_LOOKUPS = 5, 50, 16
#: Seconds after which a lookup is given up, whatever keeps it. A long one takes 50 queries, 4 at a time, of 8 s at most.
LONGEST_LOOKUP = 120.0


class Rounds:
    """``interval``: seconds between two announces of one torrent. ``port``: the one that is announced. ``cranks``: who can be
    asked now."""

    def __init__(
        self,
        interval: float,
        searches: Searches,
        port: Callable[[], int],
        cranks: Callable[[], list[Crank]],
        rng: Random,
    ) -> None:
        self._following = Following(interval, rng)
        self._searches = searches
        self._port = port
        self._cranks = cranks
        self._looking: dict[Search, Followed] = {}
        self._is_soon = False  # a beginning is planned for the loop's next turn

    def follow(self, infohash: InfoHash, follower: DhtFollower) -> None:
        self._following.add(infohash, follower)

    def unfollow(self, infohash: InfoHash) -> None:
        """Its lookup, if one is under way, ends here, and its follower hears no more."""
        self._following.remove(infohash)
        for search, entry in list(self._looking.items()):
            if entry.infohash == infohash:
                del self._looking[search]
                self._searches.cancel(search, _now())

    def hasten(self, infohash: InfoHash) -> None:
        self._following.hasten(infohash, _now())

    def ask_again(self) -> None:
        """There are nodes at last: those that found nothing have another turn."""
        self._following.hasten_all()

    def get(self, infohash: InfoHash) -> Followed | None:
        return self._following.get(infohash)

    def heartbeat(self, now: float) -> None:
        """To be called each second."""
        for search, entry in list(self._looking.items()):
            if entry.asked_at is not None and now - entry.asked_at > LONGEST_LOOKUP:
                log.warning("! %r did not end and is given up", entry)
                self._searches.cancel(search, now)
                self._ended(search)
        self._begin()

    def begin_soon(self) -> None:
        """In the loop's next turn, since this one may be deep inside a node."""
        if not self._is_soon:
            self._is_soon = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin lookups as long as there is room for more and somebody waits."""
        self._is_soon = False
        cranks = self._cranks()
        now = _now()
        while cranks and len(self._looking) < self._places():
            entry = self._following.next(now)
            if entry is None:
                return
            self._look_up(entry, cranks, now)

    def _places(self) -> int:
        return min(MOST_LOOKUPS, LOOKUPS + self._following.waiting // WAITING_FOR_ONE_MORE)

    def _look_up(self, entry: Followed, cranks: Sequence[Crank], now: float) -> None:
        def heard(event: Event) -> None:
            if isinstance(event, PeersFound):
                entry.follower.dht_found(event.addresses)

        port, seed = self._port(), entry.follower.dht_seed
        search = Search(heard, self._ended)
        self._looking[search] = entry
        self._searches.begin(
            search,
            cranks,
            lambda node, now: node.find_peers(entry.infohash, now, announce_port=port, seed=seed),
            now,
        )

    def _ended(self, search: Search) -> None:
        entry = self._looking.pop(search)
        self._following.ended(entry, search.replies, search.peers, _now())
        log.debug("= %r: %d nodes answered, %d took our announce", entry, search.replies, search.announced)
        self.begin_soon()

    @property
    def following(self) -> int:
        """Torrents followed."""
        return len(self._following)

    @property
    def looking(self) -> int:
        """Lookups under way."""
        return len(self._looking)

    @property
    def waiting(self) -> int:
        """Torrents whose time has come."""
        return self._following.waiting

    def __repr__(self) -> str:
        return f"<Rounds [{self.following} torrents followed, {self.looking} being looked up, {self.waiting} wait]>"


def _now() -> float:
    return asyncio.get_running_loop().time()
