"""Answers: what a DHT node says to those who ask it, from its routing table and its stores (BEP 5, 32, 33, 44, 51).

An answer to a stranger is hardly larger than everybody's: eight nodes, and as many peers as fit beside them. The filters of a
scrape and items, of which half would be of no use, go to strangers as ``Limits.may_be_large`` allows. Whether a
question is read at all has been decided before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unchoke.protocol.dht import bloom
from unchoke.protocol.dht.contacts import SIZE, pack_contacts
from unchoke.protocol.dht.ids import host_of, identity
from unchoke.protocol.dht.item import Verify
from unchoke.protocol.dht.limits import Limits
from unchoke.protocol.dht.messages import PROTOCOL, Error, Query, Reply
from unchoke.protocol.dht.models import NodeSettings
from unchoke.protocol.dht.store import ItemStore, PeerStore
from unchoke.protocol.dht.tokens import Tokens
from unchoke.types import Address, NodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

#: Bytes of a reply around its variable parts: keys, lengths, id, ip of IPv6, token, version, interval and num.
FRAME = 150
#: Bytes of a compact peer in a list, by family.
VALUE = {4: 2 + 6, 6: 3 + 18}


class Nearest(Protocol):
    """Nodes near a target, of one family: a ``DhtNode``."""

    @property
    def family(self) -> int: ...
    def closest(self, target: bytes, now: float) -> list[tuple[NodeId, Address]]:
        """The k good nodes nearest to ``target``."""


class Answers:
    """``nodes()``: who knows nodes, our own family first. Nothing is sent here; a reply's id and addressee are filled in by others."""

    __slots__ = ("_limits", "_nodes", "_rng", "_settings", "_tokens", "items", "peers")

    def __init__(
        self,
        nodes: Callable[[], Sequence[Nearest]],
        settings: NodeSettings,
        limits: Limits,
        *,
        rng: Random,
        secret: Callable[[int], int],
        verify: Verify | None,
        now: float,
    ) -> None:
        self._nodes = nodes
        self._settings = settings
        self._limits = limits
        self._rng = rng
        self._tokens = Tokens(secret, now)
        self.peers = PeerStore(settings)
        self.items = ItemStore(settings, verify)

    def answer(self, query: Query, own_id: NodeId, source: Address, now: float) -> Reply | Error:
        """What ``source`` is told."""
        reply = Reply(query.transaction, own_id)
        match query.method:
            case b"ping":
                return reply
            case b"announce_peer":
                return self._announced(query, reply, source, now)
            case b"put":
                return self._put(query, reply, source, now)
        self._add_nodes(query, reply, now)
        match query.method:
            case b"get_peers":
                self._add_token(query, reply, source, now)
                self._add_peers(query, reply, source, now)
            case b"get":
                self._add_token(query, reply, source, now)
                self._add_item(query, reply, source, now)
            case b"sample_infohashes":
                self._add_sample(reply, source, now)
        return reply  # find_node, and whatever else has a target: its asker gets nodes at least

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        self.peers.expire(now)
        self.items.expire(now)

    # ---- questions ----

    def _add_nodes(self, query: Query, reply: Reply, now: float) -> None:
        tables = self._nodes()
        wanted = query.want or (tables[0].family,)
        for table in tables:
            if table.family in wanted:
                nodes = pack_contacts(table.closest(query.target, now))
                if table.family == 4:
                    reply.nodes = nodes
                else:
                    reply.nodes6 = nodes

    def _add_token(self, query: Query, reply: Reply, source: Address, now: float) -> None:
        reply.token = self._tokens.make(host_of(source.host).packed, query.target, now)

    def _add_peers(self, query: Query, reply: Reply, source: Address, now: float) -> None:
        if query.target not in self.peers:
            return
        if query.scrape and self._limits.may_be_large(identity(source), 2 * bloom.SIZE, now):
            seeds, others = self.peers.hosts(query.target)
            reply.seeds_filter, reply.peers_filter = bloom.make(seeds), bloom.make(others)
        count = self._room(reply, source, now) // VALUE[host_of(source.host).family]
        reply.values = self.peers.some(query.target, count, self._rng, noseed=query.noseed)

    def _add_item(self, query: Query, reply: Reply, source: Address, now: float) -> None:
        item = self.items.get(query.target)
        if item is None:
            return
        if item.is_mutable:
            reply.seq = item.seq
            if query.seq is not None and item.seq <= query.seq:
                return
        if self._limits.may_be_large(identity(source), len(item.value), now):
            reply.value, reply.key, reply.signature = item.value, item.key, item.signature
            room = self._settings.reply_limit - FRAME - len(item.value) - len(item.key) - len(item.signature)
            reply.nodes = reply.nodes[: max(0, room) // SIZE[4] * SIZE[4]]
            reply.nodes6 = reply.nodes6[: max(0, room - len(reply.nodes)) // SIZE[6] * SIZE[6]]

    def _add_sample(self, reply: Reply, source: Address, now: float) -> None:
        sample, reply.interval = self.peers.sample(self._rng, now)
        reply.samples = sample[: self._room(reply, source, now) // 20 * 20]
        reply.num = self.peers.infohashes

    def _room(self, reply: Reply, source: Address, now: float) -> int:
        """Bytes that there are for peers or samples."""
        proven = self._limits.is_proven(identity(source), now)
        limit = self._settings.reply_limit if proven else self._settings.stranger_limit
        used = FRAME + len(reply.transaction) + len(reply.nodes) + len(reply.nodes6)
        return max(0, limit - used - len(reply.seeds_filter) - len(reply.peers_filter))

    # ---- things to keep ----

    def _announced(self, query: Query, reply: Reply, source: Address, now: float) -> Reply | Error:
        host = host_of(source.host)
        if not self._tokens.is_good(query.token, host.packed, query.target, now):
            return Error(query.transaction, PROTOCOL, "bad token")
        self._limits.prove(identity(source), now)
        port = source.port if query.implied_port else query.port
        if not port:
            return Error(query.transaction, PROTOCOL, "no port")
        self.peers.add(query.target, host, port, query.seed, now)
        return reply

    def _put(self, query: Query, reply: Reply, source: Address, now: float) -> Reply | Error:
        item = query.item
        host = host_of(source.host)
        if item is None or not self._tokens.is_good(query.token, host.packed, item.target, now):
            return Error(query.transaction, PROTOCOL, "bad token")
        self._limits.prove(identity(source), now)
        refusal = self.items.put(item, query.cas, host.key, now)
        return reply if refusal is None else Error(query.transaction, *refusal)
