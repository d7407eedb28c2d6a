"""Upkeep: what a DHT node does unasked, a little every few seconds (BEP 5): whom it pings, and which part of its table it searches.

It decides and sends nothing. *Newcomers* are addresses that others have told us of; they wait here, so that nobody makes us a hose
by naming many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unchoke.protocol.dht.limits import Budget
from unchoke.protocol.dht.queries import Queries
from unchoke.protocol.dht.routing import RoutingTable
from unchoke.types import Address, NodeId

if TYPE_CHECKING:
    from random import Random

#: Seconds between two looks at the table. Each pings at most one node: 160 of them once in 15 minutes.
INTERVAL = 5.0
#: Pings a second to newcomers, and at once.
NEWCOMERS_RATE, NEWCOMERS_BURST = 4.0, 16.0
#: Newcomers that wait; of those that have only asked us something far fewer, so that they do not keep the others out.
MAX_NEWCOMERS, MAX_ASKERS = 200, 16
#: Seconds until our own neighbourhood is searched again, as long as there are too few good nodes: at first, and at most.
#: Of two that join at one moment the one may still be unknown when the other asks.
SEARCH = 10.0, 300.0


class Upkeep:
    """``k``: with fewer good nodes than this we are lonely. ``at``: when the next look is due."""

    __slots__ = ("_budget", "_is_new_here", "_k", "_newcomers", "_pause", "_search_at", "at")

    def __init__(self, k: int, now: float) -> None:
        self._k = k
        self._newcomers: dict[Address, None] = {}
        self._budget = Budget(NEWCOMERS_BURST, now)
        self._is_new_here = False
        self._search_at = now
        self._pause = SEARCH[0]
        self.at = now + INTERVAL

    def told_of(self, address: Address, *, asked: bool) -> None:
        """There may be a node; ``asked``: it has asked us something itself."""
        if len(self._newcomers) < (MAX_ASKERS if asked else MAX_NEWCOMERS):
            self._newcomers[address] = None

    def newcomers(self, table: RoutingTable, queries: Queries, now: float) -> list[Address]:
        """Those to ping now."""
        chosen = []
        while self._newcomers and self._budget.fill(NEWCOMERS_RATE, NEWCOMERS_BURST, now) >= 1:
            address = next(iter(self._newcomers))
            del self._newcomers[address]
            if not queries.is_asked(address) and not table.knows(address):
                self._budget.bytes -= 1
                chosen.append(address)
        return chosen

    def searched(self, now: float) -> None:
        """Our neighbourhood is being searched."""
        self._is_new_here = False
        self._search_at = now + SEARCH[0]
        self._pause = SEARCH[0]

    def moved(self) -> None:
        """We have another id, and do not know the neighbourhood."""
        self._is_new_here = True

    def target(self, table: RoutingTable, rng: Random, now: float) -> NodeId | None:
        """The look itself: which id to search for, so that the table stays whole."""
        self.at = now + INTERVAL
        good, *others = table.counts(now)
        is_lonely = good + sum(others) > 0 and good < self._k and now >= self._search_at
        if not self._is_new_here and not is_lonely:
            return table.to_refresh(rng, now)
        self._is_new_here = False
        self._pause = min(2 * self._pause, SEARCH[1])
        self._search_at = now + self._pause
        return table.own_id

    def __repr__(self) -> str:
        return f"<Upkeep [{len(self._newcomers)} newcomers wait{', new here' if self._is_new_here else ''}]>"
