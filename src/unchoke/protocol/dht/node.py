"""DhtNode: one node of the DHT, of one address family, without its socket (BEP 5, 32, 42, 43, 51).

Datagrams and time in, datagrams, events and the next timer out. It keeps the routing table, runs lookups (``errands``), and answers
others (``answers``). Nothing that comes from outside raises: what is no message, or answers no question of ours, is counted
and forgotten. A node gets into the table only by answering us, so that naming others, or writing false senders on
datagrams, fills nobody's table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from unchoke.protocol.dht import krpc
from unchoke.protocol.dht.answers import Answers
from unchoke.protocol.dht.contacts import Contact, unpack_contacts
from unchoke.protocol.dht.errands import MAX_VALUES, Errand, FindPeers, GetItem, PeersWanted, PutItem, Sample
from unchoke.protocol.dht.ids import host_of, identity, is_contact, is_secure, secure_id
from unchoke.protocol.dht.item import Item, Verify
from unchoke.protocol.dht.limits import NUISANCE, Limits
from unchoke.protocol.dht.lookup import MAX_NAMED, Lookup
from unchoke.protocol.dht.messages import VERSION, Error, KrpcError, Message, Query, Reply
from unchoke.protocol.dht.models import (
    Event,
    ExternalSeen,
    ItemFound,
    LookupDone,
    NodeCounts,
    NodeSettings,
    PeersFound,
    SamplesFound,
)
from unchoke.protocol.dht.queries import Pending, Queries
from unchoke.protocol.dht.routing import RoutingTable
from unchoke.protocol.dht.upkeep import Upkeep
from unchoke.protocol.dht.work import Work
from unchoke.types import Address, InfoHash, NodeId

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "Contact",
    "DhtNode",
    "Event",
    "ExternalSeen",
    "ItemFound",
    "LookupDone",
    "NodeCounts",
    "NodeSettings",
    "PeersFound",
    "SamplesFound",
]

#: Voters whose last word on our address is remembered, so that each is told once.
MAX_VOTERS = 512


class DhtNode:
    """``family``: 4 or 6. ``secret(bits)``: so many unpredictable bits, for transaction ids and tokens; ``rng`` for all
    else. ``external``: our address, if it is known: the id is made by it (BEP 42) where ``node_id`` is none or does not fit.
    ``verify``: checks signatures (Ed25519); without it mutable items are neither kept nor believed.

    ``sibling`` may be set to the node of the other family on this machine: they name each other's nodes to who asks (BEP 32).
    """

    __slots__ = (
        "_answers",
        "_dropped",
        "_events",
        "_external",
        "_last_handle",
        "_limits",
        "_now",
        "_out",
        "_queries",
        "_received",
        "_replies",
        "_rng",
        "_round_trip",
        "_sent",
        "_table",
        "_upkeep",
        "_verify",
        "_voters",
        "_work",
        "family",
        "read_only",
        "settings",
        "sibling",
    )

    def __init__(
        self,
        *,
        family: int,
        settings: NodeSettings,
        rng: Random,
        secret: Callable[[int], int],
        now: float,
        node_id: NodeId | None = None,
        external: str | None = None,
        verify: Verify | None = None,
    ) -> None:
        self.family = family
        self.settings = settings
        self.read_only = settings.read_only
        self.sibling: DhtNode | None = None
        self._rng = rng
        self._verify = verify
        self._now = now
        self._external: str | None = None
        self._table = RoutingTable(node_id or secure_id(external or "", rng), settings.k, now)
        self._limits = Limits(settings.host_rate, settings.host_burst, settings.upload_rate, now)
        self._answers = Answers(self._families, settings, self._limits, rng=rng, secret=secret, verify=verify, now=now)
        self._queries = Queries(secret, settings.short_timeout, settings.query_timeout)
        self._work = Work(self, self._queries, settings.max_lookups)
        self._last_handle = 0
        self._upkeep = Upkeep(settings.k, now)
        self._voters: dict[str, Address] = {}
        self._out: list[tuple[bytes, Address]] = []
        self._events: list[Event] = []
        self._sent = self._received = self._replies = self._dropped = 0
        self._round_trip: float | None = None
        self.external = external

    # ---- who we are ----

    @property
    def id(self) -> NodeId:
        return self._table.own_id

    @property
    def external(self) -> str | None:
        """Our address as others see it. Set it, and the id changes if this address may not have it (BEP 42)."""
        return self._external

    @external.setter
    def external(self, host: str | None) -> None:
        self._external = host
        seen = host_of(host or "")
        if seen.family == self.family and seen.usable and not is_secure(self.id, seen):
            self._rename(secure_id(host or "", self._rng))

    def _rename(self, node_id: NodeId) -> None:
        old, self._table = self._table, RoutingTable(node_id, self.settings.k, self._now)
        for contact in old.good(self._now):
            self._table.answered(contact.id, contact.address, self._now)
        self._upkeep.moved()

    # ---- work ----

    def bootstrap(self, addresses: Sequence[Address], now: float) -> int:
        """Search our own neighbourhood, beginning with ``addresses`` besides the nodes we know. Ends with LookupDone."""
        self._upkeep.searched(now)
        starts = [(None, a) for a in addresses if is_contact(a, self.family, local=True)]
        errand = Errand(self._handle(), "bootstrap", self._lookup(self.id, now, starts), self.tell)
        errand.want = (4, 6) if self.sibling is not None else ()
        return self._work.begin(errand, now)

    def add_node(self, address: Address, now: float) -> None:
        """Somebody says that there is a node; it is pinged, and has to answer before it counts."""
        if is_contact(address, self.family, local=True):
            self._upkeep.told_of(address, asked=False)
            self._greet(now)

    def find_peers(
        self,
        infohash: InfoHash,
        now: float,
        *,
        announce_port: int | None = None,
        seed: bool = False,
        scrape: bool = False,
    ) -> int:
        """Look for peers; with ``announce_port`` announce ourselves too (0: at the port our packets come from).

        PeersFound as they are named, then LookupDone. Returns the handle that these carry. Who has announced to us is found
        first: in a network of two there is nobody else to ask.
        """
        wanted = PeersWanted(self.family, announce_port, seed, scrape, self.settings.max_peers)
        lookup = self._lookup(NodeId(infohash.truncated), now)
        errand = FindPeers(self._handle(), lookup, self.tell, wanted)
        errand.found(self._answers.peers.some(infohash.truncated, MAX_VALUES, self._rng), local=True)
        return self._work.begin(errand, now)

    def get_item(self, target: NodeId, now: float, *, salt: bytes = b"") -> int:
        """Look for an item (BEP 44): ItemFound if there is one, then LookupDone."""
        return self._work.begin(GetItem(self._handle(), self._lookup(target, now), self.tell, salt, self._verify), now)

    def put_item(self, item: Item, now: float, *, cas: int | None = None) -> int:
        """Leave an item with the nodes nearest to its target; LookupDone says how many took it. ``cas``: only over this seq."""
        return self._work.begin(PutItem(self._handle(), self._lookup(item.target, now), self.tell, item, cas), now)

    def sample(self, target: NodeId, now: float) -> int:
        """Ask the nodes on the way to ``target`` which infohashes they have: SamplesFound, then LookupDone (BEP 51)."""
        return self._work.begin(Sample(self._handle(), "sample", self._lookup(target, now), self.tell), now)

    def cancel(self, handle: int) -> None:
        """Forget a piece of work; no event of it comes any more. Unknown handles are fine."""
        self._work.cancel(handle, self._now)
        self._events = [event for event in self._events if getattr(event, "handle", None) != handle]

    def _handle(self) -> int:
        self._last_handle += 1
        return self._last_handle

    def _lookup(self, target: NodeId, now: float, starts: Sequence[tuple[None, Address]] = ()) -> Lookup:
        settings = self.settings
        known = self._table.starts(target, 2 * settings.k, now)
        return Lookup(
            target,
            [*known, *starts],
            own_id=self.id,
            k=settings.k,
            alpha=settings.alpha,
            max_queries=settings.max_queries,
        )

    def ask(self, query: Query, pending: Pending) -> None:
        """Send a query that has been noted (``Work`` calls this)."""
        query.transaction = pending.transaction
        query.read_only = self.read_only
        query.version = VERSION
        self._sent += 1
        self._send(query, pending.address)

    def tell(self, event: Event) -> None:
        """Add to ``events`` (``Work`` calls this)."""
        self._events.append(event)

    def _send(self, message: Message, address: Address) -> int:
        data = krpc.encode(message)
        self._out.append((data, address))
        return len(data)

    # ---- hearing ----

    def receive_datagram(self, data: bytes, source: Address, now: float) -> bool:
        """Take a datagram. True if it is for a DHT node of this family, whatever became of it."""
        host = host_of(source.host)
        if data[:1] != b"d" or host.family != self.family:
            return False
        self._now = now
        who = identity(source)
        if not host.usable or not (self._limits.admits(who, now) or self._queries.may_answer(data, source)):
            self._dropped += 1
            return True
        try:
            message = krpc.decode(data)
        except KrpcError as error:
            self._refuse(error, len(data), source, now)
            return True
        if isinstance(message, Query):
            self._asked(message, len(data), source, now)
        else:
            self._answered(message, len(data), source, now)
        return True

    def _refuse(self, error: KrpcError, size: int, source: Address, now: float) -> None:
        self._dropped += 1
        who = identity(source)
        if error.transaction is not None and not self.read_only and self._limits.admits(who, now):
            self._send(Error(error.transaction, error.code, str(error), source, VERSION), source)
        self._limits.charge(who, max(NUISANCE, size), now)

    def _asked(self, query: Query, size: int, source: Address, now: float) -> None:
        self._received += 1
        who = identity(source)
        if self.read_only or not self._limits.admits(who, now):
            self._dropped += 1
            return
        reply = self._answers.answer(query, self.id, source, now)
        reply.external = source
        reply.version = VERSION
        self._limits.charge(who, max(NUISANCE, size, self._send(reply, source)), now)
        if not query.read_only and self._table.asked(query.node_id, source, now):
            self._upkeep.told_of(source, asked=True)
            self._greet(now)

    def _answered(self, message: Reply | Error, size: int, source: Address, now: float) -> None:
        pending = self._queries.answered(message.transaction, source)
        if pending is None:
            self._dropped += 1
            self._limits.charge(identity(source), max(NUISANCE, size), now)
            return
        self._replies += 1
        took = now - pending.sent_at
        self._round_trip = took if self._round_trip is None else 0.9 * self._round_trip + 0.1 * took
        self._limits.prove(identity(source), now)
        if isinstance(message, Reply):
            self._seen(message, source, now)
        named = self._contacts(message, self.family, source) if isinstance(message, Reply) else []
        if isinstance(message, Reply) and self.sibling is not None:
            for contact in self._contacts(message, self.sibling.family, source):
                self.sibling.add_node(contact.address, now)
        self._work.replied(pending, message, named, now)

    def _contacts(self, reply: Reply, family: int, source: Address) -> list[Contact]:
        """The nodes that a reply names. Who is not on our network cannot name somebody who is."""
        local = host_of(source.host).local
        found = unpack_contacts(reply.nodes if family == 4 else reply.nodes6, family, MAX_NAMED)
        return [contact for contact in found if is_contact(contact.address, family, local=local)]

    def _seen(self, reply: Reply, source: Address, now: float) -> None:
        """A node has answered: it lives, and knows where we are."""
        doubtful = self._table.answered(reply.node_id, source, now)
        if doubtful is not None and not self._queries.is_asked(doubtful.address):
            self._ping(doubtful.address, now)
        where = reply.external
        if where is not None and host_of(where.host).usable and self._voters.get(source.host) != where:
            self._voters.pop(source.host, None)
            if len(self._voters) >= MAX_VOTERS:
                del self._voters[next(iter(self._voters))]
            self._voters[source.host] = where
            self.tell(ExternalSeen(where, source.host))

    # ---- time ----

    def get_timer(self) -> float:
        """When ``handle_timer`` wants to be called next."""
        due = self._queries.timer()
        return self._upkeep.at if due is None else min(due, self._upkeep.at)

    def handle_timer(self, now: float) -> None:
        """Go on without those who do not answer; look after the table."""
        self._now = now
        for pending in self._queries.overdue(now):
            if not pending.is_slow:
                self._table.failed(pending.address, now)
            self._work.late(pending, now)
        if now >= self._upkeep.at:
            self._look_after(now)

    def _look_after(self, now: float) -> None:
        self._answers.expire(now)
        self._greet(now)
        node = self._table.to_ping(now)
        if node is not None and not self._queries.is_asked(node.address):
            self._ping(node.address, now)
        target = self._upkeep.target(self._table, self._rng, now)
        if target is not None and not self._work.is_refreshing():
            self._work.begin(Errand(self._handle(), "refresh", self._lookup(target, now), self.tell), now)

    def _greet(self, now: float) -> None:
        """Ping those that others have told us of, as fast as we may."""
        for address in self._upkeep.newcomers(self._table, self._queries, now):
            self._ping(address, now)

    def _ping(self, address: Address, now: float) -> None:
        self.ask(Query(b"", b"ping", self.id), self._queries.begin(address, now))

    # ---- what it tells ----

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """The datagrams that are due, each with where it goes. Asking empties the list."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def good_nodes(self) -> list[Contact]:
        """All good nodes of the table: (id, address)."""
        return self._table.good(self._now)

    def closest(self, target: bytes, now: float) -> list[tuple[NodeId, Address]]:
        """The k good nodes nearest to ``target``."""
        return list(self._table.closest(target, self.settings.k, now))

    @property
    def counts(self) -> NodeCounts:
        good, questionable, bad, spare = self._table.counts(self._now)
        return NodeCounts(
            good=good,
            questionable=questionable,
            bad=bad,
            spare=spare,
            lookups=len(self._work),
            queries_sent=self._sent,
            queries_received=self._received,
            replies_received=self._replies,
            peers_stored=len(self._answers.peers),
            items_stored=len(self._answers.items),
            dropped=self._dropped,
            round_trip=self._round_trip,
        )

    def _families(self) -> list[DhtNode]:
        return [self] if self.sibling is None else [self, self.sibling]

    def __repr__(self) -> str:
        counts = self.counts
        state = "read-only, " if self.read_only else ""
        return f"<DhtNode {self.id.hex()[:8]} IPv{self.family} [{state}{counts.good} good nodes, {counts.lookups} lookups]>"
