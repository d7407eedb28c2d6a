"""What the DHT tells the rest of the engine, as frozen records, and what it asks of those who follow a torrent in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unchoke.protocol.dht.item import Item
from unchoke.protocol.dht.models import NodeCounts
from unchoke.types import Address, NodeId


class DhtFollower(Protocol):
    """Who wants the peers of one torrent."""

    def dht_found(self, addresses: Sequence[Address]) -> None:
        """Peers, as they come: several times in a lookup, each address once in it. Nobody has vouched for them."""
        ...

    @property
    def dht_seed(self) -> bool:
        """We have all of it: said with the announce (BEP 33), and others who seek no seeds are spared us."""
        ...


@dataclass(frozen=True, slots=True)
class DhtTold:
    """How one followed torrent stands. Times are the loop's; ``asked_at`` is None before the first lookup.

    ``peers`` and ``nodes``: what the last lookup found, and how many nodes answered in it. ``looking``: one is under way.
    ``next_at`` is None while it waits for its turn. ``trouble``: why nobody can be asked now; empty if all is well.
    """

    asked_at: float | None
    next_at: float | None
    peers: int
    nodes: int
    looking: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class DhtFamily:
    """Our node of one address family (4 or 6): its id, our address as others see it ("": unknown), what it has and did."""

    family: int
    node_id: NodeId
    external: str
    counts: NodeCounts


@dataclass(frozen=True, slots=True)
class DhtSnapshot:
    """``state`` in words. ``following``: torrents; ``looking``: lookups for them under way; ``waiting``: theirs is the next turn."""

    state: str
    families: tuple[DhtFamily, ...]
    following: int
    looking: int
    waiting: int
    trouble: str

    @property
    def nodes(self) -> int:
        """Good nodes over both families."""
        return sum(family.counts.good for family in self.families)


@dataclass(frozen=True, slots=True)
class DhtScrape:
    """What nodes say of a swarm's size (BEP 33): estimates, None if none of them knew. Nodes that count name no peers."""

    seeds: int | None
    leechers: int | None


@dataclass(frozen=True, slots=True)
class DhtPut:
    """A value that was put, and how many nodes took it."""

    item: Item
    stored: int
