"""What a DHT node is told, and what it tells: its settings, and its results as frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from unchoke.protocol.dht.item import Item
from unchoke.types import Address, InfoHash

#: What a piece of work was for.
Kind: TypeAlias = Literal["bootstrap", "refresh", "peers", "get", "put", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node of the DHT. Times are seconds, sizes bytes."""

    k: int = 8
    """Nodes in a bucket, in an answer, and announced to (BEP 5)."""

    alpha: int = 4
    """Queries of one lookup under way at a time (Kademlia: 3; libtorrent: 5)."""

    max_queries: int = 48
    """Queries of one lookup, so that nodes which name ever new ones cannot draw it out. An honest one needs 15 to 30."""

    short_timeout: float = 1.0
    """After this a lookup asks somebody else besides; a later answer still counts (libtorrent: 1)."""

    query_timeout: float = 8.0
    """After this a query has failed (libtorrent: 15)."""

    max_lookups: int = 64
    """Lookups at a time; others wait their turn. Each has up to ``alpha`` queries under way."""

    max_peers: int = 2000
    """Addresses of peers that one lookup gives: a torrent keeps 4,000."""

    read_only: bool = False
    """Answer no queries, and say so in our own (BEP 43)."""

    reply_limit: int = 1400
    """The largest answer: with headers it fits an Ethernet frame, so it is not cut into fragments that get lost."""

    stranger_limit: int = 512
    """The largest answer with peers or samples in it to an address that has not shown that it receives what we send."""

    host_rate: int = 2000
    """Bytes a second that one host gets in answers, four times that once it is known to receive them: 6 and 24 answers of
    usual size. A lookup asks each node once or twice."""

    host_burst: int = 10_000
    """Bytes of answers that a host may get at once."""

    upload_rate: int = 50_000
    """Bytes a second for all answers together: 150 of usual size (libtorrent: 8,000 since 2022)."""

    max_infohashes: int = 2000
    """Infohashes for which peers are kept (libtorrent: 2,000)."""

    max_peers_stored: int = 20_000
    """Peers kept in all: 5 MB."""

    max_peers_each: int = 500
    """Peers kept for one infohash (libtorrent: 500): a hundred answers full."""

    max_peers_host: int = 256
    """Infohashes that one host may announce to us. In a network of thousands few of anybody's come to the same node."""

    peer_life: float = 1800.0
    """How long an announce is believed; others announce again after 15 minutes."""

    max_items: int = 700
    """Items kept (libtorrent: 700): at most 0.8 MB."""

    max_items_host: int = 32
    """Items kept that came from one host."""

    item_life: float = 7200.0
    """How long an item is kept without being put again (BEP 44)."""

    sample_interval: float = 21_600.0
    """How long the same sample of infohashes is given, the most that is allowed (BEP 51)."""


@dataclass(frozen=True, slots=True)
class PeersFound:
    """Peers that a node named, none of them told before for this ``handle``."""

    handle: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class ItemFound:
    """The item looked for, checked; for a mutable one again whenever a newer one turns up."""

    handle: int
    item: Item


@dataclass(frozen=True, slots=True)
class SamplesFound:
    """What a node keeps peers for (BEP 51): some of ``num`` infohashes; it has no others for ``interval`` seconds."""

    handle: int
    node: Address
    infohashes: tuple[InfoHash, ...]
    num: int
    interval: int


@dataclass(frozen=True, slots=True)
class LookupDone:
    """The end of a piece of work; nothing more comes for ``handle``.

    ``nodes_asked`` and ``replies`` count the lookup alone, ``announced`` the nodes that confirmed an announce or a put,
    ``scrape`` is an estimate of (seeds, leechers), None if no node knew the torrent or it was not asked for; ``refusal`` the
    last error (code, text; BEP 5, 44) that a node gave instead of confirming.
    """

    handle: int
    kind: Kind
    nodes_asked: int
    replies: int
    peers: int = 0
    announced: int = 0
    scrape: tuple[int, int] | None = None
    refusal: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class ExternalSeen:
    """``voter`` says that it sees us at ``address`` (BEP 42). Any node may say anything: count votes."""

    address: Address
    voter: str


Event: TypeAlias = PeersFound | ItemFound | SamplesFound | LookupDone | ExternalSeen


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """What a node has and did. ``spare``: nodes kept in reserve, ``dropped``: datagrams not read or not answered.
    ``round_trip``: seconds from a query to its answer, the later ones counting for more; None before the first."""

    good: int
    questionable: int
    bad: int
    spare: int
    lookups: int
    queries_sent: int
    queries_received: int
    replies_received: int
    peers_stored: int
    items_stored: int
    dropped: int
    round_trip: float | None = None
