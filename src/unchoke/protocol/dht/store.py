"""What a DHT node keeps for others: peers of infohashes (BEP 5, 33, 51) and items (BEP 44), both for a while and within bounds.

Each store has room for so many in all and for so many of one host. Where a bound is reached the entry that would expire first
makes room, a host's own where it is the host's bound, and among infohashes the one with the fewest peers: many hosts are needed
to push anything out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

from unchoke.protocol.dht.ids import Host
from unchoke.protocol.dht.item import Item, Verify
from unchoke.protocol.dht.messages import BAD_SIGNATURE, CAS_MISMATCH, OUTDATED
from unchoke.protocol.dht.models import NodeSettings
from unchoke.types import NodeId

if TYPE_CHECKING:
    from random import Random

#: Infohashes in one sample (libtorrent: 20): 400 bytes of an answer.
SAMPLE = 20


#: An infohash, and the host that has announced it.
_Key: TypeAlias = tuple[bytes, bytes]


class _Peer:
    __slots__ = ("expires", "owner", "packed", "seed")

    def __init__(self, packed: bytes, owner: bytes, seed: bool, expires: float) -> None:
        self.packed = packed
        self.owner = owner
        self.seed = seed
        self.expires = expires


#: Peers of one infohash in one IPv6 /64: a home has several machines, but it could as well have any number of addresses.
MAX_NETWORK = 4


class PeerStore:
    """Peers by infohash, one for each host (BEP 33). All live equally long, so the order of coming is that of expiring."""

    __slots__ = ("_by_hash", "_by_owner", "_order", "_sample", "_sampled_at", "_settings")

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._by_hash: dict[bytes, dict[bytes, _Peer]] = {}
        self._by_owner: dict[bytes, dict[_Key, None]] = {}  # what each address, or /64, has announced
        self._order: OrderedDict[_Key, None] = OrderedDict()  # the first to expire first
        self._sample = b""
        self._sampled_at: float | None = None

    def add(self, infohash: bytes, host: Host, port: int, seed: bool, now: float) -> None:
        """A host has announced itself. On loopback, where many programs share one address, each port is a host."""
        packed = host.packed + port.to_bytes(2)
        key = infohash, packed if host.loopback else host.packed
        self._forget(key)
        self._make_room(infohash, host.key)
        peer = _Peer(packed, host.key, seed, now + self._settings.peer_life)
        self._by_hash.setdefault(infohash, {})[key[1]] = peer
        self._by_owner.setdefault(host.key, {})[key] = None
        self._order[key] = None

    def some(self, infohash: bytes, count: int, rng: Random, *, noseed: bool = False) -> tuple[bytes, ...]:
        """Up to ``count`` peers, compact, from anywhere in the list; with ``noseed`` those that are no seeds, if any."""
        peers = self._by_hash.get(infohash)
        if not peers or count <= 0:
            return ()
        chosen = [peer.packed for peer in peers.values() if not (noseed and peer.seed)]
        if len(chosen) > count:
            start = rng.randrange(len(chosen))
            return tuple(islice(chain(chosen, chosen), start, start + count))
        return tuple(chosen)

    def hosts(self, infohash: bytes) -> tuple[list[bytes], list[bytes]]:
        """The packed addresses of seeds, and of other peers."""
        peers = self._by_hash.get(infohash, {}).values()
        return [one.packed[:-2] for one in peers if one.seed], [one.packed[:-2] for one in peers if not one.seed]

    def sample(self, rng: Random, now: float) -> tuple[bytes, int]:
        """Some infohashes, one after another, the same for a while; and for how many seconds still."""
        interval = self._settings.sample_interval
        is_due = self._sampled_at is None or now - self._sampled_at >= interval
        if self._sampled_at is None or is_due or len(self._sample) < SAMPLE * 20:
            known = list(self._by_hash)
            self._sample = b"".join(rng.sample(known, min(SAMPLE, len(known))))
            self._sampled_at = now
        complete = len(self._by_hash) <= SAMPLE
        return self._sample, 0 if complete else int(self._sampled_at + interval - now)

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._order:
            infohash, host = key = next(iter(self._order))
            if self._by_hash[infohash][host].expires > now:
                return
            self._forget(key)

    @property
    def infohashes(self) -> int:
        """How many infohashes there are peers for."""
        return len(self._by_hash)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, infohash: bytes) -> bool:
        return infohash in self._by_hash

    def _make_room(self, infohash: bytes, owner: bytes) -> None:
        settings = self._settings
        theirs = self._by_owner.get(owner, {})
        here = [key for key in theirs if key[0] == infohash] if len(owner) == 8 else []
        if len(here) >= MAX_NETWORK:
            self._forget(here[0])
        elif len(theirs) >= settings.max_peers_host:
            self._forget(next(iter(theirs)))
        peers = self._by_hash.get(infohash, {})
        if len(peers) >= settings.max_peers_each:
            self._forget((infohash, next(iter(peers))))
        if len(self._order) >= settings.max_peers_stored:
            self._forget(next(iter(self._order)))
        if infohash not in self._by_hash and len(self._by_hash) >= settings.max_infohashes:
            least = min(self._by_hash, key=lambda one: len(self._by_hash[one]))
            for host in list(self._by_hash[least]):
                self._forget((least, host))

    def _forget(self, key: _Key) -> None:
        if key not in self._order:
            return
        infohash, host = key
        peers = self._by_hash[infohash]
        theirs = self._by_owner[peers[host].owner]
        del self._order[key], theirs[key]
        if not theirs:
            del self._by_owner[peers[host].owner]
        del peers[host]
        if not peers:
            del self._by_hash[infohash]


class _Kept:
    __slots__ = ("expires", "host", "item")

    def __init__(self, item: Item, host: bytes, expires: float) -> None:
        self.item = item
        self.host = host
        self.expires = expires


class ItemStore:
    """Items by target; ``verify`` checks signatures, and without it no mutable item is taken."""

    __slots__ = ("_by_host", "_items", "_settings", "_verify")

    def __init__(self, settings: NodeSettings, verify: Verify | None) -> None:
        self._settings = settings
        self._verify = verify
        self._items: OrderedDict[NodeId, _Kept] = OrderedDict()  # the first to expire first
        self._by_host: dict[bytes, int] = {}

    def get(self, target: bytes) -> Item | None:
        kept = self._items.get(NodeId(target))
        return kept.item if kept is not None else None

    def put(self, item: Item, cas: int | None, host: bytes, now: float) -> tuple[int, str] | None:
        """Keep an item for a host (``Host.key``). Returns why not, as an error code and words (BEP 44); None if kept."""
        target = item.target
        kept = self._items.get(target)
        if kept is not None and item.is_mutable:
            if cas is not None and cas != kept.item.seq:
                return CAS_MISMATCH, "the stored sequence number is another"
            if item.seq < kept.item.seq or (item.seq == kept.item.seq and item.value != kept.item.value):
                return OUTDATED, "the sequence number is not newer"
        if (kept is None or kept.item != item) and not item.is_genuine(self._verify):
            return BAD_SIGNATURE, "bad signature"
        self._forget(target)
        self._make_room(host)
        self._items[target] = _Kept(item, host, now + self._settings.item_life)
        self._by_host[host] = self._by_host.get(host, 0) + 1
        return None

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        for target in [target for target, _ in self._expired(now)]:
            self._forget(target)

    def __len__(self) -> int:
        return len(self._items)

    def _expired(self, now: float) -> Iterator[tuple[NodeId, _Kept]]:
        for target, kept in self._items.items():
            if kept.expires > now:
                return
            yield target, kept

    def _make_room(self, host: bytes) -> None:
        if self._by_host.get(host, 0) >= self._settings.max_items_host:
            self._forget(next(target for target, kept in self._items.items() if kept.host == host))
        if len(self._items) >= self._settings.max_items:
            self._forget(next(iter(self._items)))

    def _forget(self, target: NodeId) -> None:
        kept = self._items.pop(target, None)
        if kept is None:
            return
        self._by_host[kept.host] -= 1
        if not self._by_host[kept.host]:
            del self._by_host[kept.host]
