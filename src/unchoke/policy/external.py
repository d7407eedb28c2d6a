"""ExternalAddress: our own address as the outside sees it, by the word of those who see it.

Trackers (BEP 24), peers (``yourip``, BEP 10), DHT nodes (BEP 42) and routers tell; each host has one vote, its latest, and the
address with the most votes holds until another has more. Old votes fade, so that a line with a new address is noticed. It is
good enough to order peers by (BEP 40) and to make a node id of, never to trust anybody by.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from unchoke.reach import Reach, household, reach_of

#: Votes kept for each family, the latest. Few, so that a new address of ours soon has the majority (libtorrent: 50).
MOST_VOTES = 50
#: Seconds a vote counts: two announces to a tracker at its usual interval of 30 minutes, and some.
MAX_AGE = 2 * 3600.0


class _Vote(NamedTuple):
    address: str
    at: float


class ExternalAddress:
    """One session's, both families."""

    __slots__ = ("_best", "_votes")

    def __init__(self) -> None:
        self._votes: dict[int, dict[str, _Vote]] = {4: {}, 6: {}}  # family → voter → vote, the latest last
        self._best: dict[int, str | None] = {4: None, 6: None}

    def vote(self, address: str, voter: str, now: float) -> bool:
        """``voter`` (a host) says that it sees us at ``address``. True if our best address is another one from here on.

        What is no address, or none that can be seen from outside, does not count. A host is a household: a /64 for IPv6.
        """
        ours = _parse(address)
        if ours is None or reach_of(address) != Reach.PUBLIC:
            return False
        votes = self._votes[ours.version]
        host = household(voter)
        votes.pop(host, None)
        votes[host] = _Vote(str(ours), now)
        while len(votes) > MOST_VOTES or next(iter(votes.values())).at < now - MAX_AGE:
            del votes[next(iter(votes))]
        return self._count(ours.version)

    def _count(self, family: int) -> bool:
        counts = Counter(vote.address for vote in self._votes[family].values())
        before = self._best[family]
        leader, most = counts.most_common(1)[0]
        if before is None or most > counts[before]:
            self._best[family] = leader
        return self._best[family] != before

    def best(self, family: int) -> str | None:
        """Our address of ``family`` (4 or 6) by most votes, in its usual spelling; None if nobody has told."""
        return self._best[family]

    def votes(self, family: int) -> int:
        """How many hosts agree on ``best``."""
        return sum(vote.address == self._best[family] for vote in self._votes[family].values())

    def __repr__(self) -> str:
        seen = [f"{best} by {self.votes(family)}" for family, best in self._best.items() if best is not None]
        return f"<ExternalAddress [{', '.join(seen) or 'unknown'}]>"


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
