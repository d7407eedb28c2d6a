"""Work: the errands of a DHT node that are under way, so many at a time, and those that wait for their turn.

It moves each errand on whenever something has become of one of its queries: asks whoever is next; when nobody is left, leaves what
is to be left with the nearest; when they have confirmed it, or are late, tells that it is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from unchoke.protocol.dht.errands import Errand
from unchoke.protocol.dht.lookup import Candidate
from unchoke.protocol.dht.messages import Error, Query, Reply
from unchoke.protocol.dht.models import Event
from unchoke.protocol.dht.queries import Pending, Queries
from unchoke.types import Address, NodeId


class Asker(Protocol):
    """Whose errands they are: a ``DhtNode``."""

    @property
    def id(self) -> NodeId: ...
    def ask(self, query: Query, pending: Pending) -> None:
        """Send it."""

    def tell(self, event: Event) -> None: ...


class Work:
    """``most``: errands at a time."""

    __slots__ = ("_asker", "_is_starting", "_most", "_queries", "_running", "_waiting")

    def __init__(self, asker: Asker, queries: Queries, most: int) -> None:
        self._asker = asker
        self._queries = queries
        self._most = most
        self._running: dict[int, Errand] = {}
        self._waiting: deque[Errand] = deque()
        self._is_starting = False

    def begin(self, errand: Errand, now: float) -> int:
        """Start it, or put it in the queue. Returns its handle."""
        self._waiting.append(errand)
        self._start(now)
        return errand.handle

    def cancel(self, handle: int, now: float) -> None:
        """Forget it; unknown handles are fine."""
        errand = self._running.pop(handle, None)
        if errand is not None:
            self._queries.drop(errand)
            self._start(now)
        elif self._waiting:
            self._waiting = deque(one for one in self._waiting if one.handle != handle)

    def replied(
        self, pending: Pending, message: Reply | Error, named: Iterable[tuple[NodeId, Address]], now: float
    ) -> None:
        """A query of an errand has been answered; ``named`` are the nodes in a reply that are worth a packet."""
        errand, candidate = pending.errand, pending.candidate
        if errand is None or candidate is None:
            return
        if pending.leaves:
            _confirmed(errand, pending, message)
        elif isinstance(message, Error):
            errand.lookup.failed(candidate)
        elif errand.lookup.replied(candidate, message.node_id, named):
            candidate.token = message.token
            errand.heard(candidate, message)
        self._advance(errand, now)

    def late(self, pending: Pending, now: float) -> None:
        """A query of an errand has become slow, or has failed."""
        errand, candidate = pending.errand, pending.candidate
        if errand is None or candidate is None or errand.handle not in self._running:
            return  # where several are late at once, as after a machine has slept, the first may have ended it
        if pending.leaves:
            errand.storing -= pending.is_slow  # whoever has just answered and now does not, is not waited for
        elif pending.is_slow:
            errand.lookup.slow(candidate)
        else:
            errand.lookup.failed(candidate)
        self._advance(errand, now)

    def is_refreshing(self) -> bool:
        """Whether a search is under way that only looks after the table."""
        return any(errand.kind == "refresh" for errand in self._running.values())

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    # ---- moving on ----

    def _start(self, now: float) -> None:
        """Not from within itself: of ten thousand that find nobody to ask, each would else stand on the one before."""
        if self._is_starting:
            return
        self._is_starting = True
        while self._waiting and len(self._running) < self._most:
            errand = self._waiting.popleft()
            self._running[errand.handle] = errand
            self._advance(errand, now)
        self._is_starting = False

    def _advance(self, errand: Errand, now: float) -> None:
        if not errand.is_storing:
            while (candidate := errand.lookup.next()) is not None:
                self._ask(errand, candidate, errand.query(self._asker.id), now)
            if not errand.lookup.is_done:
                return
            errand.is_storing = True
            for candidate in errand.lookup.keepers():
                query = errand.leave(candidate, self._asker.id)
                if query is not None:
                    errand.storing += 1
                    self._ask(errand, candidate, query, now, leaves=True)
        if not errand.storing:
            del self._running[errand.handle]
            self._queries.drop(errand)
            if errand.kind != "refresh":
                self._asker.tell(errand.done())
            self._start(now)

    def _ask(self, errand: Errand, candidate: Candidate, query: Query, now: float, *, leaves: bool = False) -> None:
        self._asker.ask(query, self._queries.begin(candidate.address, now, errand, candidate, leaves=leaves))

    def __repr__(self) -> str:
        return f"<Work [{len(self._running)} errands under way, {len(self._waiting)} waiting]>"


def _confirmed(errand: Errand, pending: Pending, message: Reply | Error) -> None:
    if not pending.is_slow:
        errand.storing -= 1
    if isinstance(message, Reply):
        errand.stored += 1
    else:
        errand.refusal = message.code, message.text
