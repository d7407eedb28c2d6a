"""RoutingTable: the nodes we know, many near our own id and few far away (BEP 5, 42).

Only a node that has answered us gets in, one for each address (IPv6: each /64), one of a /24 in a bucket. A bucket has k
places and as many *spares* that wait for one. A node is *good* while it was heard of within 15 minutes, then *questionable*,
and *bad* after two queries in a row that it left unanswered; who is bad loses the place to a spare. Ids that break BEP 42
are never more than spares. Bucket i holds the nodes whose first i bits are ours and the next is not; the last one holds
all that are nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from unchoke.protocol.dht.contacts import Contact
from unchoke.protocol.dht.ids import BITS, host_of, identity, is_secure
from unchoke.types import Address, NodeId

if TYPE_CHECKING:
    from random import Random

#: Seconds for which a node stays good, and after which a quiet bucket is refreshed (BEP 5).
FRESH = 900.0
#: Unanswered queries until a node is bad, and until it is forgotten though nobody waits for its place. With the pauses
#: between pings (``_pause``) the second takes half an hour: a network that is down for a while costs us no table.
BAD, FORGOTTEN = 2, 6
#: Seconds in which several failures count as one: ten lookups during one short outage say no more than one does.
SAME_FAILURE = 10.0


class Node:
    """One that has answered us. ``seen``: when it last answered or asked; ``tried``: when we last asked it in vain."""

    __slots__ = ("address", "fails", "id", "identity", "number", "secure", "seen", "subnet", "tried")

    def __init__(self, node_id: NodeId, address: Address, now: float) -> None:
        host = host_of(address.host)
        self.id = node_id
        self.number = int.from_bytes(node_id)
        self.address = address
        self.identity = identity(address)
        self.subnet = None if host.local else host.subnet
        self.secure = is_secure(node_id, host)
        self.seen = now
        self.tried = now
        self.fails = 0

    @property
    def is_bad(self) -> bool:
        return self.fails >= BAD

    def is_good(self, now: float) -> bool:
        return self.fails < BAD and now - self.seen <= FRESH

    def __repr__(self) -> str:
        state = "bad" if self.is_bad else f"{self.fails} failed"
        return f"<Node {self.id.hex()[:8]} at {self.address} [{state}{'' if self.secure else ', wrong id'}]>"


class Bucket:
    """``spares``: the one that should come next stands last."""

    __slots__ = ("changed", "nodes", "spares")

    def __init__(self, now: float) -> None:
        self.nodes: list[Node] = []
        self.spares: list[Node] = []
        self.changed = now


#: Which of a bucket's nodes are meant.
Members: TypeAlias = Callable[[Bucket], Iterable[Node]]


class RoutingTable:
    """Times are seconds of any steady clock."""

    __slots__ = ("_by_id", "_by_identity", "_number", "buckets", "k", "own_id")

    def __init__(self, own_id: NodeId, k: int, now: float) -> None:
        self.own_id = own_id
        self.k = k
        self.buckets = [Bucket(now)]
        self._number = int.from_bytes(own_id)
        self._by_id: dict[NodeId, Node] = {}
        self._by_identity: dict[bytes, Node] = {}

    # ---- what is heard ----

    def answered(self, node_id: NodeId, address: Address, now: float) -> Node | None:
        """A node has answered us. Returns a questionable one that should be pinged, as its place is wanted."""
        node = self._by_identity.get(identity(address))
        if node is not None and node.id == node_id and node.address == address:
            node.seen = now
            node.fails = 0
            bucket = self._bucket(node.number)
            bucket.changed = now
            return self._promote(bucket, now)
        if node is not None and (node.address == address or node.is_bad):
            self._remove(node)  # it calls itself something else now, or somebody else has its address
        elif node is not None:
            return None
        if not self._is_free(node_id):
            return None
        return self._insert(Node(node_id, address, now), now)

    def asked(self, node_id: NodeId, address: Address, now: float) -> bool:
        """A node asks us something. True if it should be pinged: it is new, and there may be a place for it."""
        node = self._by_identity.get(identity(address))
        if node is not None:
            if node.id == node_id and node.address == address:
                node.seen = now
            return False
        if node_id == self.own_id or node_id in self._by_id or not is_secure(node_id, host_of(address.host)):
            return False
        bucket = self._bucket(int.from_bytes(node_id))
        return self._has_room(bucket) or len(bucket.spares) < self.k

    def failed(self, address: Address, now: float) -> None:
        """A query to this address was not answered."""
        node = self._by_identity.get(identity(address))
        if node is None or node.address != address or (node.fails and now - node.tried < SAME_FAILURE):
            return
        node.fails += 1
        node.tried = now
        bucket = self._bucket(node.number)
        if node in bucket.spares or node.fails >= FORGOTTEN:
            self._remove(node)
        self._promote(bucket, now)

    # ---- what is asked of it ----

    def knows(self, address: Address) -> bool:
        """Whether there is a node at this address."""
        node = self._by_identity.get(identity(address))
        return node is not None and node.address == address

    def closest(self, target: bytes, count: int, now: float) -> list[Contact]:
        """Up to ``count`` good nodes, the nearest to ``target`` first: what others are told."""
        found = self._nearest(int.from_bytes(target), count, lambda bucket: (n for n in bucket.nodes if n.is_good(now)))
        return [Contact(node.id, node.address) for node in found]

    def starts(self, target: bytes, count: int, now: float) -> list[Contact]:
        """Where a lookup of our own begins: the good nodes, then questionable and spare ones; bad ones if there are no others."""
        number = int.from_bytes(target)
        found = self._nearest(number, count, lambda bucket: (n for n in bucket.nodes if n.is_good(now)))
        if len(found) < count:
            found += self._nearest(number, count, lambda b: (n for n in b.nodes if not (n.is_good(now) or n.is_bad)))
            found += self._nearest(number, count, lambda bucket: bucket.spares)
        if not found:
            found = self._nearest(number, count, lambda bucket: bucket.nodes)
        return [Contact(node.id, node.address) for node in found[:count]]

    def to_ping(self, now: float) -> Node | None:
        """The questionable or bad node that has waited longest for a question."""
        due = [
            n for bucket in self.buckets for n in bucket.nodes if now - n.seen > FRESH and now >= n.tried + _pause(n)
        ]
        return min(due, key=lambda node: node.tried, default=None)

    def to_refresh(self, rng: Random, now: float) -> NodeId | None:
        """A random id in the bucket that has been quiet longest, if that is too long; it counts as refreshed now."""
        index = min(range(len(self.buckets)), key=lambda i: self.buckets[i].changed)
        bucket = self.buckets[index]
        if now - bucket.changed <= FRESH or not self._by_id:
            return None
        bucket.changed = now
        low = BITS - index  # bits that are not given by our own id
        number = self._number >> low << low | rng.getrandbits(low)
        if index < len(self.buckets) - 1:  # all but the last differ from us in their next bit
            bit = 1 << low - 1
            number = number & ~bit | (self._number & bit ^ bit)
        return NodeId(number.to_bytes(20))

    def good(self, now: float) -> list[Contact]:
        """All good nodes, those that share least with our id first."""
        return [Contact(n.id, n.address) for bucket in self.buckets for n in bucket.nodes if n.is_good(now)]

    def all(self) -> list[Node]:
        """Everybody, in and out of the buckets' places."""
        return list(self._by_id.values())

    def counts(self, now: float) -> tuple[int, int, int, int]:
        """How many are good, questionable, bad, spare."""
        places = [node for bucket in self.buckets for node in bucket.nodes]
        good = sum(node.is_good(now) for node in places)
        bad = sum(node.is_bad for node in places)
        return good, len(places) - good - bad, bad, len(self._by_id) - len(places)

    # ---- places ----

    def _insert(self, node: Node, now: float) -> Node | None:
        bucket = self._bucket(node.number)
        while node.secure and len(bucket.nodes) >= self.k and bucket is self.buckets[-1] and len(self.buckets) < BITS:
            self._split(now)
            bucket = self._bucket(node.number)
        if not node.secure or len(bucket.nodes) >= self.k or _is_crowded(bucket, node):
            self._spare(bucket, node)
        else:
            bucket.nodes.append(node)
            self._know(node)
        bucket.changed = now
        return self._promote(bucket, now) if node.secure else None

    def _spare(self, bucket: Bucket, node: Node) -> None:
        """The newest comes first, but after everybody with a right id; the eldest of the wrong ones goes."""
        if len(bucket.spares) >= self.k:
            self._remove(next((one for one in bucket.spares if not one.secure), bucket.spares[0]))
        at = len(bucket.spares) if node.secure else sum(not one.secure for one in bucket.spares)
        bucket.spares.insert(at, node)
        self._know(node)

    def _promote(self, bucket: Bucket, now: float) -> Node | None:
        """Give free places, and those of bad nodes, to spares. Returns whom to ping, as somebody waits for the place."""
        while (spare := next((n for n in reversed(bucket.spares) if n.secure), None)) is not None:
            bad = next((node for node in bucket.nodes if node.is_bad), None)
            if len(bucket.nodes) >= self.k and bad is None:
                doubtful = [n for n in bucket.nodes if now - n.seen > FRESH and now - n.tried >= SAME_FAILURE]
                return min(doubtful, key=lambda node: node.seen, default=None)
            if bad is not None and len(bucket.nodes) >= self.k:
                self._remove(bad)
            spare = next((n for n in reversed(bucket.spares) if n.secure and not _is_crowded(bucket, n)), None)
            if spare is None:
                return None
            bucket.spares.remove(spare)
            bucket.nodes.append(spare)
            bucket.changed = now
        return None

    def _split(self, now: float) -> None:
        last = self.buckets[-1]
        nearer = Bucket(last.changed)
        self.buckets.append(nearer)
        depth = len(self.buckets) - 1
        last.nodes, nearer.nodes = self._parted(last.nodes, depth)
        last.spares, nearer.spares = self._parted(last.spares, depth)
        self._promote(last, now)
        self._promote(nearer, now)

    def _parted(self, nodes: list[Node], depth: int) -> tuple[list[Node], list[Node]]:
        near = [self._shared(node.number) >= depth for node in nodes]
        return (
            [node for node, is_near in zip(nodes, near, strict=True) if not is_near],
            [node for node, is_near in zip(nodes, near, strict=True) if is_near],
        )

    def _is_free(self, node_id: NodeId) -> bool:
        """Whether nobody has this id. Who has it and is bad loses it."""
        if node_id == self.own_id:
            return False
        holder = self._by_id.get(node_id)
        if holder is not None and holder.is_bad:
            self._remove(holder)
            return True
        return holder is None

    def _has_room(self, bucket: Bucket) -> bool:
        return len(bucket.nodes) < self.k or bucket is self.buckets[-1] or any(node.is_bad for node in bucket.nodes)

    def _know(self, node: Node) -> None:
        self._by_id[node.id] = node
        self._by_identity[node.identity] = node

    def _remove(self, node: Node) -> None:
        del self._by_id[node.id], self._by_identity[node.identity]
        bucket = self._bucket(node.number)
        (bucket.nodes if node in bucket.nodes else bucket.spares).remove(node)

    # ---- order ----

    def _shared(self, number: int) -> int:
        """How many bits this id has in common with ours, from the first on."""
        return BITS - (self._number ^ number).bit_length()

    def _bucket(self, number: int) -> Bucket:
        return self.buckets[min(self._shared(number), len(self.buckets) - 1)]

    def _groups(self, number: int) -> Iterator[Iterable[Bucket]]:
        """The buckets from near to far: everybody in one group is nearer to ``number`` than everybody in the next."""
        at = min(self._shared(number), len(self.buckets) - 1)
        yield self.buckets[at : at + 1]
        yield self.buckets[at + 1 :]
        for index in range(at - 1, -1, -1):
            yield self.buckets[index : index + 1]

    def _nearest(self, number: int, count: int, members: Members) -> list[Node]:
        found: list[Node] = []
        for group in self._groups(number):
            nodes = [node for bucket in group for node in members(bucket)]
            found += sorted(nodes, key=lambda node: node.number ^ number)
            if len(found) >= count:
                break
        return found[:count]

    def __repr__(self) -> str:
        places = sum(len(bucket.nodes) for bucket in self.buckets)
        return f"<RoutingTable [{places} nodes in {len(self.buckets)} buckets, {len(self._by_id) - places} spare]>"


def _is_crowded(bucket: Bucket, node: Node) -> bool:
    """Whether its neighbourhood has a place in the bucket already."""
    return node.subnet is not None and any(one.subnet == node.subnet for one in bucket.nodes)


def _pause(node: Node) -> float:
    """Seconds from one ping in vain to the next: 1, 2, 4 … minutes."""
    return 30.0 * 2**node.fails if node.fails else 0.0
