"""A whole DHT on virtual time: ``DhtNode`` objects, one heap of events, and links that are slow and lose packets.

``DhtWorld(seed=7).grow(500)`` lets nodes join one after another; ``turn`` makes some of them dead and some hostile from one moment to
the next, so that everybody's table is full of them; ``trial`` announces at one node and looks from another. Everything that happens
depends on the seed alone, and ``digest`` says whether two runs were the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from statistics import mean

from unchoke.errors import ProtocolError
from unchoke.protocol.dht import krpc
from unchoke.protocol.dht.contacts import pack_contact
from unchoke.protocol.dht.ids import host_of
from unchoke.protocol.dht.messages import Query, Reply
from unchoke.protocol.dht.node import DhtNode, Event, LookupDone, NodeSettings, PeersFound
from unchoke.types import Address, InfoHash, NodeId

#: Seconds one way, and how many packets of a hundred are lost: homes on several continents.
LATENCY = (0.01, 0.15)
LOSS = 0.01
#: Seconds from one joining node to the next, and from the last until the world is used.
JOIN = 0.2
SETTLE = 30.0


class Hostile:
    """What a node does that has turned: it still has its id and its place in the tables of others."""

    __slots__ = ("_kind", "_node", "_rng")

    KINDS = ("garbage", "fake nodes", "wrong id", "fake peers", "silence after ping")

    def __init__(self, node: DhtNode, kind: str, rng: Random) -> None:
        self._node = node
        self._kind = kind
        self._rng = rng

    def answer(self, data: bytes, source: Address) -> bytes | None:
        try:
            query = krpc.decode(data)
        except ProtocolError:
            return None
        if not isinstance(query, Query):
            return None
        if self._kind == "garbage":
            return self._garbage(query)
        if self._kind == "silence after ping" and query.method != b"ping":
            return None
        reply = Reply(query.transaction, self._node.id, external=source, version=b"XX\0\0")
        if query.method in (b"find_node", b"get_peers", b"get"):
            self._lie(query, reply)
        if self._kind == "wrong id":
            reply.node_id = NodeId(self._rng.randbytes(20))
        return krpc.encode(reply)

    def _lie(self, query: Query, reply: Reply) -> None:
        """Nodes that would be the nearest of all, or peers, none of which exist; and a token, so that it is announced to."""
        reply.token = b"whatever"
        if self._kind == "fake peers":
            reply.values = tuple(self._rng.randbytes(6) for _ in range(150))
        near = (query.target[:-4] + self._rng.randbytes(4) for _ in range(8))
        nodes = b"".join(pack_contact(node_id, public_address(self._rng, self._node.family)) for node_id in near)
        if self._node.family == 4:
            reply.nodes = nodes
        else:
            reply.nodes6 = nodes

    def _garbage(self, query: Query) -> bytes:
        rng = self._rng
        whole = krpc.encode(Reply(query.transaction, self._node.id, nodes=rng.randbytes(26 * 8)))
        shapes: Sequence[Callable[[], bytes]] = (
            lambda: rng.randbytes(200),
            lambda: b"d" + rng.randbytes(100),
            lambda: whole[: rng.randrange(len(whole))],
            lambda: b"d" * 4000,
            lambda: b"d1:rle1:t4:" + query.transaction + b"1:y1:re",
            lambda: krpc.encode(Reply(rng.randbytes(4), self._node.id)),
        )
        return rng.choice(shapes)()


@dataclass(frozen=True, slots=True)
class Trial:
    """One announce and one search for it. ``queries``: of the search, and of the announce, confirmations included."""

    found: bool
    announce_queries: int
    find_queries: int
    seconds: float


class DhtWorld:
    """``settings`` are every node's. ``now`` is virtual; ``messages`` and ``bytes`` count what was sent."""

    def __init__(self, *, seed: int, family: int = 4, settings: NodeSettings | None = None, loss: float = LOSS) -> None:
        self.rng = Random(seed)
        self.family = family
        self.now = 0.0
        self.messages = 0
        self.bytes = 0
        self.nodes: dict[Address, DhtNode] = {}
        self.hostile: dict[Address, Hostile] = {}
        self.dead: set[Address] = set()
        self._settings = settings or NodeSettings()
        self.loss = loss
        self._heap: list[tuple[float, int, Address, bytes | None, Address | None]] = []  # data None: a timer
        self._armed: dict[Address, float] = {}
        self._last = 0
        self._events: dict[Address, list[Event]] = {}
        self._digest = blake2b(digest_size=16)

    # ---- who is there ----

    def grow(self, count: int) -> DhtWorld:
        """So many more nodes join, each by three that are there, and the world comes to rest."""
        for _ in range(count):
            others = self.rng.sample(list(self.nodes), min(3, len(self.nodes)))
            address = self.join()
            self.nodes[address].bootstrap(others, self.now)
            self._moved(address)
            self.run(JOIN)
        self.run(SETTLE)
        return self

    def join(self, address: Address | None = None) -> Address:
        """One more node, that knows nobody."""
        address = address or public_address(self.rng, self.family)
        rng = Random(self.rng.getrandbits(64))
        node = DhtNode(
            family=host_of(address.host).family,
            settings=self._settings,
            rng=rng,
            secret=rng.getrandbits,
            now=self.now,
            external=address.host,
        )
        self.nodes[address] = node
        self._events[address] = []
        return address

    def turn(self, *, dead: float, hostile: float) -> None:
        """From now on these shares of all nodes are dead, and hostile."""
        order = self.rng.sample(list(self.nodes), len(self.nodes))
        dying, turning = round(dead * len(order)), round(hostile * len(order))
        self.dead.update(order[:dying])
        for number, address in enumerate(order[dying : dying + turning]):
            kind = Hostile.KINDS[number % len(Hostile.KINDS)]
            self.hostile[address] = Hostile(self.nodes[address], kind, self.rng)

    def honest(self) -> list[Address]:
        """The nodes that are neither."""
        return [address for address in self.nodes if address not in self.dead and address not in self.hostile]

    # ---- what happens ----

    def trial(self, infohash: InfoHash) -> Trial:
        """Announce at one honest node, then search from another."""
        announcer, finder = self.rng.sample(self.honest(), 2)
        began = self.now
        told = self.do(announcer, lambda node: node.find_peers(infohash, self.now, announce_port=announcer.port))
        heard = self.do(finder, lambda node: node.find_peers(infohash, self.now))
        peers = {address for event in heard if isinstance(event, PeersFound) for address in event.addresses}
        return Trial(announcer in peers, _queries(told), _queries(heard), self.now - began)

    def do(self, address: Address, work: Callable[[DhtNode], int]) -> list[Event]:
        """Begin a piece of work at a node and run until it is done. Returns its events, LookupDone the last."""
        handle = work(self.nodes[address])
        self._moved(address)
        found: list[Event] = []
        while not (found and isinstance(found[-1], LookupDone)):
            found += [e for e in self._events[address] if getattr(e, "handle", None) == handle]
            self._events[address].clear()
            if not found or not isinstance(found[-1], LookupDone):
                self._step()
        return found

    def kick(self, address: Address) -> None:
        """Send what this node has to send: after calling it by hand."""
        self._moved(address)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self._step()
        self.now = until

    def _step(self) -> None:
        self.now, _, address, data, source = heapq.heappop(self._heap)
        if address in self.dead or address not in self.nodes:
            return
        node = self.nodes[address]
        if data is None or source is None:
            if self._armed.get(address) != self.now:
                return
            del self._armed[address]
            node.handle_timer(self.now)
        elif address in self.hostile:
            answer = self.hostile[address].answer(data, source)
            if answer is not None:
                self._send(answer, address, source)
            return
        else:
            self._digest.update(data)
            node.receive_datagram(data, source, self.now)
        self._moved(address)

    def _moved(self, address: Address) -> None:
        """Send what a node has to send, keep what it tells, and note when it wants the clock."""
        node = self.nodes[address]
        for data, to in node.datagrams_to_send(self.now):
            self._send(data, address, to)
        self._events[address] += node.events()
        due = node.get_timer()
        armed = self._armed.get(address)
        if armed is None or due < armed:
            self._armed[address] = due
            self._push(due, address, None, None)

    def _send(self, data: bytes, source: Address, to: Address) -> None:
        self.messages += 1
        self.bytes += len(data)
        if to in self.nodes and self.rng.random() >= self.loss:
            self._push(self.now + self.rng.uniform(*LATENCY), to, data, source)

    def _push(self, when: float, address: Address, data: bytes | None, source: Address | None) -> None:
        self._last += 1
        heapq.heappush(self._heap, (when, self._last, address, data, source))

    @property
    def digest(self) -> str:
        """Of everything that honest nodes received, in order."""
        return self._digest.hexdigest()

    def __repr__(self) -> str:
        return f"<DhtWorld [{len(self.nodes)} nodes, {len(self.dead)} dead, {len(self.hostile)} hostile, at {self.now:.1f} s]>"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a simulation, as the table has it."""

    nodes: int
    trials: int
    found: int
    mean_queries: float
    most_queries: int
    messages: int
    mean_seconds: float
    virtual_seconds: float
    digest: str

    @property
    def success(self) -> float:
        return self.found / self.trials

    def table(self) -> str:
        rows = (
            ("nodes", f"{self.nodes}"),
            ("announced, then found", f"{self.found} of {self.trials} ({self.success:.1%})"),
            ("queries a lookup", f"{self.mean_queries:.1f} on average, {self.most_queries} at most"),
            ("seconds to announce and find", f"{self.mean_seconds:.2f} on average"),
            ("messages", f"{self.messages:,}"),
            ("virtual seconds", f"{self.virtual_seconds:,.1f}"),
            ("run", self.digest),
        )
        return "\n".join(f"{name:<30} {value}" for name, value in rows)


def simulate(*, seed: int, nodes: int = 500, trials: int = 200, dead: float = 0.3, hostile: float = 0.1) -> Report:
    """Grow a world, turn part of it, and try."""
    world = DhtWorld(seed=seed).grow(nodes)
    world.turn(dead=dead, hostile=hostile)
    results = [world.trial(InfoHash(world.rng.randbytes(20))) for _ in range(trials)]
    queries = [count for one in results for count in (one.announce_queries, one.find_queries)]
    return Report(
        nodes=nodes,
        trials=trials,
        found=sum(one.found for one in results),
        mean_queries=mean(queries),
        most_queries=max(queries),
        messages=world.messages,
        mean_seconds=mean(one.seconds for one in results),
        virtual_seconds=world.now,
        digest=world.digest,
    )


def public_address(rng: Random, family: int = 4) -> Address:
    """An address that could be anybody's on the internet."""
    if family == 6:
        return Address(f"2a00:{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}::1", 6881)
    while True:
        address = Address(f"{rng.randrange(1, 224)}." + ".".join(str(rng.randrange(256)) for _ in range(3)), 6881)
        host = host_of(address.host)
        if host.usable and not host.local:
            return address


def _queries(events: Iterable[Event]) -> int:
    """Of the lookup, and of announcing to those that confirmed it."""
    return sum(event.nodes_asked + event.announced for event in events if isinstance(event, LookupDone))
