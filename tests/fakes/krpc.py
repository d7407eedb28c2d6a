"""KRPC for tests: strategies of messages, of broken ones and of noise, and a stranger who talks to a node by hand."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from unchoke.protocol.dht import krpc
from unchoke.protocol.dht.item import Item, Verify
from unchoke.protocol.dht.messages import Error, Message, Query, Reply
from unchoke.protocol.dht.node import DhtNode, NodeSettings
from unchoke.types import Address, NodeId

ids = st.binary(min_size=20, max_size=20).map(NodeId)
transactions = st.binary(max_size=krpc.MAX_TRANSACTION)
addresses = st.builds(Address, st.ip_addresses(v=4).map(str), st.integers(0, 65535))
versions = st.binary(max_size=8)
numbers = st.integers(0, 2**63 - 1)
#: What is bencode already, as the value of an item.
bencoded = st.sampled_from([b"i7e", b"12:Hello World!", b"de", b"l1:ai-1ee", b"d1:ale1:bi0ee", b"0:"])
items = st.builds(Item, bencoded) | st.builds(
    Item,
    bencoded,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
    numbers,
    st.binary(max_size=64),
)


def _queries(method: bytes, **more: st.SearchStrategy[object]) -> st.SearchStrategy[Query]:
    common = {"node_id": ids, "read_only": st.booleans(), "version": versions}
    return st.builds(Query, transactions, st.just(method), **common, **more)


wants = st.sampled_from([(), (4,), (6,), (4, 6)])
tokens = st.binary(max_size=krpc.MAX_TOKEN)
queries = st.one_of(
    _queries(b"ping"),
    _queries(b"find_node", target=ids, want=wants),
    _queries(b"get_peers", target=ids, want=wants, noseed=st.booleans(), scrape=st.booleans()),
    _queries(
        b"announce_peer",
        target=ids,
        token=tokens,
        port=st.integers(0, 65535),
        implied_port=st.booleans(),
        seed=st.booleans(),
    ),
    _queries(b"get", target=ids, seq=st.none() | numbers),
    _queries(b"put", token=tokens, item=items),
    _queries(b"sample_infohashes", target=ids, want=wants),
)


def _whole(size: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, 3).flatmap(lambda count: st.binary(min_size=size * count, max_size=size * count))


_replies = st.builds(
    Reply,
    transactions,
    ids,
    nodes=_whole(26),
    nodes6=_whole(38),
    token=tokens,
    values=st.lists(st.binary(min_size=6, max_size=6) | st.binary(min_size=18, max_size=18), max_size=5).map(tuple),
    seq=st.none() | numbers,
    samples=st.none() | _whole(20),
    external=st.none() | addresses,
    version=versions,
)


def _consistent(reply: Reply) -> Reply:
    if reply.samples is not None:
        reply.num, reply.interval = 7, 60
    return reply


replies = _replies.map(_consistent)
errors = st.builds(Error, transactions, st.integers(0, 999), st.text(max_size=20), st.none() | addresses, versions)
messages: st.SearchStrategy[Message] = st.one_of(queries, replies, errors)

#: Tokens of bencode and of KRPC in any order: a good part of it gets beyond the first check.
noise = st.lists(
    st.sampled_from(
        [
            b"d",
            b"l",
            b"e",
            b"i7e",
            b"i-1e",
            b"1:a",
            b"2:id",
            b"20:" + b"i" * 20,
            b"1:t",
            b"2:tt",
            b"1:y",
            b"1:q",
            b"1:r",
            b"9:get_peers",
            b"4:ping",
            b"5:nodes",
            b"26:" + b"n" * 26,
            b"6:values",
            b"0:",
            b"999:",
            b"1:v",
            b"5:token",
        ]
    ),
    max_size=14,
).map(b"".join)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good message with bytes changed, cut out or put in; mostly no message any more."""
    data = bytearray(krpc.encode(draw(messages)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def make_node(
    host: str = "8.8.4.4",
    *,
    settings: NodeSettings | None = None,
    now: float = 0.0,
    seed: int = 1,
    node_id: NodeId | None = None,
    verify: Verify | None = None,
) -> DhtNode:
    """A node at ``host``, whose chance is ``seed``'s."""
    rng = Random(seed)
    return DhtNode(
        family=6 if ":" in host else 4,
        settings=settings or NodeSettings(),
        rng=rng,
        secret=rng.getrandbits,
        now=now,
        node_id=node_id,
        external=host,
        verify=verify,
    )


def say(node: DhtNode, message: Message | bytes, source: Address, now: float = 0.0) -> list[Message]:
    """Send a node something, and read what it sends back there."""
    node.datagrams_to_send(now)
    assert node.receive_datagram(message if isinstance(message, bytes) else krpc.encode(message), source, now)
    return [message for message, address in sent(node, now) if address == source]


def sent(node: DhtNode, now: float = 0.0) -> Sequence[tuple[Message, Address]]:
    """What a node sends, read."""
    return [(krpc.decode(data), address) for data, address in node.datagrams_to_send(now)]


def queries_of(node: DhtNode, now: float = 0.0) -> list[tuple[Query, Address]]:
    """What a node asks."""
    return [(message, address) for message, address in sent(node, now) if isinstance(message, Query)]


def public_address(rng: Random) -> Address:
    """An address of the internet."""
    return Address(f"{rng.randrange(11, 100)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}", 6881)
