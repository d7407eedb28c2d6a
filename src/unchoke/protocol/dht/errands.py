"""Errands: what a lookup is made for. Each has two legs: ask towards a target, then perhaps leave something with the nearest.

An errand makes the queries, reads the replies and tells the results as events; sending, waiting and counting are the node's.
What strangers say is checked here: peers must be addresses that can be dialled, values must hash or be signed to their target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from unchoke.protocol.compact import unpack_peers, unpack_peers6
from unchoke.protocol.dht import bloom
from unchoke.protocol.dht.ids import host_of, is_contact
from unchoke.protocol.dht.item import Item, Verify
from unchoke.protocol.dht.lookup import Candidate, Lookup
from unchoke.protocol.dht.messages import Query, Reply
from unchoke.protocol.dht.models import Event, ItemFound, Kind, LookupDone, PeersFound, SamplesFound
from unchoke.types import Address, InfoHash, NodeId

#: Peers taken from one reply; more do not fit a datagram that arrives whole.
MAX_VALUES = 200

Tell = Callable[[Event], None]


class Errand:
    """A lookup that asks find_node and leaves nothing. ``stored`` counts who confirmed what was left with them."""

    __slots__ = ("_tell", "handle", "is_storing", "kind", "lookup", "refusal", "stored", "storing", "want")

    method: ClassVar[bytes] = b"find_node"

    def __init__(self, handle: int, kind: Kind, lookup: Lookup, tell: Tell) -> None:
        self.handle = handle
        self.kind = kind
        self.lookup = lookup
        self.stored = 0
        self.storing = 0  # queries of the second leg that are under way
        self.is_storing = False
        self.refusal: tuple[int, str] | None = None
        self.want: tuple[int, ...] = ()
        self._tell = tell

    def query(self, own_id: NodeId) -> Query:
        """The question of the first leg; its transaction id is filled in when it is sent."""
        return Query(b"", self.method, own_id, target=self.lookup.target, want=self.want)

    def heard(self, candidate: Candidate, reply: Reply) -> None:
        """A node has answered the first leg."""

    def leave(self, candidate: Candidate, own_id: NodeId) -> Query | None:
        """What is left with one of the nearest in the second leg."""
        return None

    def done(self) -> LookupDone:
        asked, replies = self.lookup.queries, self.lookup.replies
        return LookupDone(self.handle, self.kind, asked, replies, announced=self.stored, refusal=self.refusal)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} [{'storing' if self.is_storing else self.lookup}]>"


@dataclass(frozen=True, slots=True)
class PeersWanted:
    """``announce_port``: None to look only; 0 for the port that our packets come from (BEP 5, ``implied_port``)."""

    family: int
    announce_port: int | None
    seed: bool
    scrape: bool
    max_peers: int


class FindPeers(Errand):
    """get_peers, then perhaps announce_peer (BEP 5), perhaps with a scrape (BEP 33)."""

    __slots__ = ("_known", "_peer_filters", "_seed_filters", "_wanted")

    method = b"get_peers"

    def __init__(self, handle: int, lookup: Lookup, tell: Tell, wanted: PeersWanted) -> None:
        super().__init__(handle, "peers", lookup, tell)
        self._wanted = wanted
        self._known: set[bytes] = set()
        self._seed_filters: list[bytes] = []
        self._peer_filters: list[bytes] = []

    def query(self, own_id: NodeId) -> Query:
        query = super().query(own_id)
        query.scrape = self._wanted.scrape
        return query

    def heard(self, candidate: Candidate, reply: Reply) -> None:
        if self._wanted.scrape:
            self._count(reply)
        self.found(reply.values[:MAX_VALUES], local=host_of(candidate.address.host).local)

    def found(self, values: Sequence[bytes], *, local: bool) -> None:
        """Tell those of some compact peers that are new and can be dialled; ``local``: who named them is on our network."""
        room = max(0, self._wanted.max_peers - len(self._known))
        fresh = [value for value in dict.fromkeys(values) if value not in self._known][:room]
        peers = [(v, a) for v, a in zip(fresh, _addresses(fresh), strict=True) if self._is_peer(a, local)]
        if peers:
            self._known.update(value for value, _ in peers)
            self._tell(PeersFound(self.handle, tuple(address for _, address in peers)))

    def _is_peer(self, address: Address, local: bool) -> bool:
        return is_contact(address, self._wanted.family, local=local)

    def leave(self, candidate: Candidate, own_id: NodeId) -> Query | None:
        port = self._wanted.announce_port
        if port is None or not candidate.token:
            return None
        query = super().query(own_id)
        query.method = b"announce_peer"
        query.token = candidate.token
        query.port, query.implied_port = port, port == 0
        query.seed = self._wanted.seed
        return query

    def done(self) -> LookupDone:
        scrape = None
        if self._peer_filters:
            scrape = bloom.together(self._seed_filters), bloom.together(self._peer_filters)
        return replace(super().done(), peers=len(self._known), scrape=scrape)

    def _count(self, reply: Reply) -> None:
        """A node that does not know BEP 33 has only peers to count, and may be any sort of them."""
        if reply.seeds_filter:
            self._seed_filters.append(reply.seeds_filter)
            self._peer_filters.append(reply.peers_filter)
        elif reply.values:
            self._peer_filters.append(bloom.make(value[:-2] for value in reply.values[:MAX_VALUES]))


class GetItem(Errand):
    """get (BEP 44)."""

    __slots__ = ("_best", "_salt", "_verify")

    method = b"get"

    def __init__(self, handle: int, lookup: Lookup, tell: Tell, salt: bytes, verify: Verify | None) -> None:
        super().__init__(handle, "get", lookup, tell)
        self._salt = salt
        self._verify = verify
        self._best: Item | None = None

    def heard(self, candidate: Candidate, reply: Reply) -> None:
        if not reply.value:
            return
        item = Item(reply.value)
        if reply.key:
            item = Item(reply.value, reply.key, reply.signature, reply.seq or 0, self._salt)
        best = self._best
        if best is not None and (not item.is_mutable or item.seq <= best.seq):
            return
        if item.target == self.lookup.target and item.is_genuine(self._verify):
            self._best = item
            self._tell(ItemFound(self.handle, item))


class PutItem(Errand):
    """get, to learn who is nearest and for their tokens, then put (BEP 44)."""

    __slots__ = ("_cas", "_item")

    method = b"get"

    def __init__(self, handle: int, lookup: Lookup, tell: Tell, item: Item, cas: int | None) -> None:
        super().__init__(handle, "put", lookup, tell)
        self._item = item
        self._cas = cas

    def query(self, own_id: NodeId) -> Query:
        query = super().query(own_id)
        if self._item.is_mutable:
            query.seq = self._item.seq  # we have no use for the value of those that have it already
        return query

    def heard(self, candidate: Candidate, reply: Reply) -> None:
        candidate.seq = reply.seq

    def leave(self, candidate: Candidate, own_id: NodeId) -> Query | None:
        if not candidate.token:
            return None
        has_one = candidate.seq is not None  # no cas to a node that has nothing to compare with (BEP 44)
        return Query(b"", b"put", own_id, token=candidate.token, item=self._item, cas=self._cas if has_one else None)


class Sample(Errand):
    """sample_infohashes (BEP 51) of the nodes on the way to a target."""

    __slots__ = ()

    method = b"sample_infohashes"

    def heard(self, candidate: Candidate, reply: Reply) -> None:
        if reply.samples is None:
            return
        cut = range(0, len(reply.samples), 20)
        infohashes = tuple(InfoHash(reply.samples[at : at + 20]) for at in cut)
        self._tell(SamplesFound(self.handle, candidate.address, infohashes, reply.num, min(reply.interval, 21_600)))


def _addresses(values: list[bytes]) -> list[Address]:
    if all(len(value) == 6 for value in values):
        return unpack_peers(b"".join(values))
    return [(unpack_peers if len(value) == 6 else unpack_peers6)(value)[0] for value in values]
