"""Lookup: the search for the nodes nearest to a target, several queries at a time (BEP 5, 42), without the queries.

It says whom to ask next and is told what became of it. Done when the k nearest that are alive have answered. Who is *slow*
is not waited for, but may still answer. What hostile nodes can do is bounded: one candidate for each address; a node whose first
suggestions are all dead is not followed further while others are; an id that its address may not have (BEP 42) counts for nothing
and is asked seldom; and there is a last query, whatever happens.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from enum import Enum

from unchoke.protocol.dht.ids import distance, host_of, identity, is_secure
from unchoke.types import Address, NodeId

#: Candidates kept, the nearest of all that were named: four generations of eight, and their losses.
MAX_CANDIDATES = 64
#: Queries to candidates whose id breaks BEP 42: old programs' nodes are a tenth of the network, and may know peers.
MAX_INSECURE = 6
#: A node that named so many which are dead, and none that lives, is not followed further.
MAX_DEAD = 3
#: Nodes taken from one answer; BEP 5 has eight, some programs send twice that.
MAX_NAMED = 16

#: Where candidates stand whose id we do not know (routers): behind all others.
_UNKNOWN = 1 << 160


class State(Enum):
    """What has become of a candidate."""

    FRESH = "not asked"
    ASKED = "asked"
    SLOW = "slow"
    REPLIED = "replied"
    FAILED = "failed"


class Candidate:
    """A node that may be asked. ``backers`` named it; those we began with have none. ``token``: what it gave us to announce with."""

    __slots__ = ("address", "backers", "dead", "distance", "id", "identity", "lives", "secure", "seq", "state", "token")

    def __init__(self, node_id: NodeId | None, address: Address, target: bytes) -> None:
        self.id = node_id
        self.address = address
        self.identity = identity(address)
        self.backers: list[Candidate] = []
        self.dead = 0  # of those that it named
        self.lives = 0
        self.state = State.FRESH
        self.token = b""
        self.seq: int | None = None
        self.distance = _UNKNOWN
        self.secure = True
        if node_id is not None:
            self.call(node_id, target)

    def call(self, node_id: NodeId, target: bytes) -> None:
        """This is its id."""
        self.id = node_id
        self.distance = distance(node_id, target)
        self.secure = is_secure(node_id, host_of(self.address.host))

    @property
    def is_doubtful(self) -> bool:
        """All who named it have only named dead ones."""
        return bool(self.backers) and all(one.dead >= MAX_DEAD and not one.lives for one in self.backers)

    def __repr__(self) -> str:
        return f"<Candidate {self.address} [{self.state.value}]>"


class Lookup:
    """``starts``: whom we know to begin with; None for an id that we do not know. ``queries`` and ``replies`` are counts."""

    __slots__ = (
        "_alpha",
        "_by_identity",
        "_insecure",
        "_k",
        "_max_queries",
        "_order",
        "_own_id",
        "queries",
        "replies",
        "target",
    )

    def __init__(
        self,
        target: NodeId,
        starts: Iterable[tuple[NodeId | None, Address]],
        *,
        own_id: NodeId,
        k: int,
        alpha: int,
        max_queries: int,
    ) -> None:
        self.target = target
        self.queries = 0
        self.replies = 0
        self._own_id = own_id
        self._k = k
        self._alpha = alpha
        self._max_queries = max_queries
        self._insecure = 0
        self._order: list[Candidate] = []
        self._by_identity: dict[bytes, Candidate] = {}
        for node_id, address in starts:
            self._offer(node_id, address, None)

    # ---- whom to ask ----

    def next(self) -> Candidate | None:
        """Whom to ask now, marked as asked; None if nobody, for the moment or for good (``is_done``)."""
        if self.queries >= self._max_queries or self._under_way() >= self._alpha:
            return None
        candidate = self._nearest_fresh(doubtful=False)
        if candidate is None and not self._under_way() and len(self.closest()) < self._k:
            candidate = self._nearest_fresh(doubtful=True)
        if candidate is not None:
            candidate.state = State.ASKED
            self.queries += 1
            self._insecure += not candidate.secure
        return candidate

    def _nearest_fresh(self, *, doubtful: bool) -> Candidate | None:
        """The nearest not asked yet, unless k that live are nearer."""
        living = 0
        for one in self._order:
            if one.state is State.FRESH:
                if (one.secure or self._insecure < MAX_INSECURE) and (doubtful or not one.is_doubtful):
                    return one
            elif one.secure and one.state in (State.REPLIED, State.ASKED):
                living += 1
                if living >= self._k:
                    return None
        return None

    @property
    def is_done(self) -> bool:
        """Nobody is left to ask or worth waiting for. Ask ``next`` first until it says None."""
        if self._under_way():
            return False
        if len(self.closest()) >= self._k:
            return True
        return not any(one.state is State.SLOW for one in self._order)

    def _under_way(self) -> int:
        return sum(one.state is State.ASKED for one in self._order)

    # ---- what became of it ----

    def replied(self, candidate: Candidate, node_id: NodeId, named: Iterable[tuple[NodeId, Address]]) -> bool:
        """It answered, as ``node_id``, and named these. False if it is not who it was said to be, and may not be."""
        if candidate.state in (State.REPLIED, State.FAILED):
            return False
        if node_id == self._own_id:  # we ourselves, under an id that we once had
            self.failed(candidate)
            return False
        if candidate.id != node_id:
            was_known = candidate.id is not None  # routers' own ids are often wrong, and of no interest
            candidate.call(node_id, self.target)
            if was_known and not candidate.secure:
                self.failed(candidate)
                return False
            self._order.sort(key=_by_distance)
        candidate.state = State.REPLIED
        self.replies += 1
        for backer in candidate.backers:
            backer.lives += 1
        for number, (other, address) in enumerate(named):
            if number >= MAX_NAMED:
                break
            self._offer(other, address, candidate)
        return True

    def slow(self, candidate: Candidate) -> None:
        """It has not answered soon: its turn goes to somebody else."""
        if candidate.state is State.ASKED:
            candidate.state = State.SLOW
            self._blame(candidate)

    def failed(self, candidate: Candidate) -> None:
        """It will not answer, or what it says is worth nothing."""
        if candidate.state is State.ASKED:
            self._blame(candidate)
        candidate.state = State.FAILED

    def closest(self) -> list[Candidate]:
        """The k nearest that have answered, by ids that they may have."""
        return [one for one in self._order if one.state is State.REPLIED and one.secure][: self._k]

    def keepers(self) -> list[Candidate]:
        """With whom to leave something: the ``closest``, and if they are too few, others that have answered (BEP 42 allows it)."""
        others = [one for one in self._order if one.state is State.REPLIED and not one.secure]
        return (self.closest() + others)[: self._k]

    def _blame(self, candidate: Candidate) -> None:
        for backer in candidate.backers:
            backer.dead += 1

    # ---- candidates ----

    def _offer(self, node_id: NodeId | None, address: Address, backer: Candidate | None) -> None:
        if node_id == self._own_id:
            return
        candidate = Candidate(node_id, address, self.target)
        known = self._by_identity.get(candidate.identity)
        if known is not None:
            if known.address == address or known.state not in (State.FAILED, State.SLOW):
                if backer is not None and known.backers and known.state is State.FRESH and backer not in known.backers:
                    known.backers.append(backer)
                return
        elif len(self._order) >= MAX_CANDIDATES and not self._make_room(candidate):
            return
        if backer is not None:
            candidate.backers.append(backer)
        self._by_identity[candidate.identity] = candidate
        insort(self._order, candidate, key=_by_distance)

    def _make_room(self, candidate: Candidate) -> bool:
        """Drop the farthest that has not been asked, if it is farther than ``candidate``."""
        for index in range(len(self._order) - 1, -1, -1):
            last = self._order[index]
            if last.state is State.FRESH:
                if last.distance <= candidate.distance:
                    return False
                del self._order[index], self._by_identity[last.identity]
                return True
        return False

    def __repr__(self) -> str:
        state = "done" if self.is_done else f"{self._under_way()} under way"
        return f"<Lookup {self.target.hex()[:8]} [{self.queries} asked, {self.replies} replied, {state}]>"


def _by_distance(candidate: Candidate) -> int:
    return candidate.distance
