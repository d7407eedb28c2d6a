"""KRPC, the language of DHT nodes: queries, replies and errors, one bencoded dictionary a datagram.

``decode`` and ``encode`` are strict: what does not read exactly as we would write it, has a wrong type or an odd length where it
matters, is a KrpcError. Speaks ping, find_node, get_peers and announce_peer (BEP 5), with both families (BEP 32), scrapes
(BEP 33), the asker's address (BEP 42), read-only askers (BEP 43), items (BEP 44) and samples (BEP 51). Who may be
believed and what is answered is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from unchoke.errors import BencodeError
from unchoke.protocol import bencode
from unchoke.protocol.bencode import Raw, Value
from unchoke.protocol.compact import pack_address, unpack_peers, unpack_peers6
from unchoke.protocol.dht.contacts import SIZE
from unchoke.protocol.dht.item import MAX_SALT, MAX_SEQ, MAX_VALUE, Item
from unchoke.protocol.dht.messages import (
    SALT_TOO_BIG,
    TOO_BIG,
    UNKNOWN_METHOD,
    Error,
    KrpcError,
    Message,
    Query,
    Reply,
)
from unchoke.types import Address, NodeId

#: Bytes of a datagram that is looked at. The largest honest ones have two filters and a hundred peers: under 2 KiB.
MAX_PACKET = 4096
#: Bytes of a transaction id that we echo. Others use 2 to 8 (BEP 5: "a short string").
MAX_TRANSACTION = 32
#: Bytes of a token that we keep and give back. Others use 4 to 20.
MAX_TOKEN = 64
#: Bytes of a filter (BEP 33).
FILTER_SIZE = 256
#: Bytes of an error's text that are kept.
MAX_TEXT = 100

#: The methods that have a target, and what their argument is called.
TARGETS = {
    b"find_node": b"target",
    b"get_peers": b"info_hash",
    b"announce_peer": b"info_hash",
    b"get": b"target",
    b"sample_infohashes": b"target",
}


# reading


def decode(data: bytes) -> Message:
    """The message that ``data`` is. Raises KrpcError."""
    if len(data) > MAX_PACKET:
        raise KrpcError(f"a datagram of {len(data)} bytes, over {MAX_PACKET}")
    try:
        message = bencode.decode(data, strict=True)
    except BencodeError as error:
        raise KrpcError(str(error)) from None
    if not isinstance(message, dict):
        raise KrpcError("no dictionary")
    transaction, kind = message.get(b"t"), message.get(b"y")
    if not isinstance(transaction, bytes) or len(transaction) > MAX_TRANSACTION:
        raise KrpcError("no transaction id of sane length")
    if kind == b"q":
        return _query(message, transaction)
    if kind == b"r":
        return _reply(message, transaction)
    if kind == b"e":
        return _error(message, transaction)
    raise KrpcError("neither query nor reply nor error")


def _query(message: dict[bytes, Value], transaction: bytes) -> Query:
    method, args = message.get(b"q"), message.get(b"a")
    if not isinstance(method, bytes) or not isinstance(args, dict):
        raise KrpcError("a query without method or arguments", transaction=transaction)
    try:
        query = Query(transaction, method, NodeId(_fixed(args, b"id", 20)))
        query.version = _text(message.get(b"v"))
        query.read_only = message.get(b"ro") == 1
        if method == b"put":
            _put(query, args)
        elif method != b"ping":
            _about(query, args)
    except KrpcError as error:
        error.transaction = transaction
        raise
    return query


def _about(query: Query, args: dict[bytes, Value]) -> None:
    """Arguments of a query with a target. One of a method that we do not know may have one too."""
    name = TARGETS.get(query.method) or (b"target" if b"target" in args else b"info_hash")
    if query.method not in TARGETS and name not in args:
        raise KrpcError("method unknown", UNKNOWN_METHOD)
    query.target = _fixed(args, name, 20)
    if b"want" in args:
        query.want = _want(args[b"want"])
    if query.method == b"get_peers":
        query.noseed = args.get(b"noseed") == 1
        query.scrape = args.get(b"scrape") == 1
    elif query.method == b"announce_peer":
        query.token = _token(args)
        query.implied_port = args.get(b"implied_port") == 1
        if not query.implied_port or b"port" in args:
            query.port = _number(args, b"port", 0, 65535)
        query.seed = args.get(b"seed") == 1
    elif query.method == b"get" and b"seq" in args:
        query.seq = _number(args, b"seq", 0, MAX_SEQ)


def _put(query: Query, args: dict[bytes, Value]) -> None:
    if b"v" not in args:
        raise KrpcError("put without a value")
    value = bencode.encode(args[b"v"])
    if len(value) > MAX_VALUE:
        raise KrpcError(f"the value has {len(value)} bytes, over {MAX_VALUE}", TOO_BIG)
    query.token = _token(args)
    if b"k" not in args:
        query.item = Item(value)
        return
    salt = args.get(b"salt", b"")
    if not isinstance(salt, bytes):
        raise KrpcError("the salt is no string")
    if len(salt) > MAX_SALT:
        raise KrpcError(f"the salt has {len(salt)} bytes, over {MAX_SALT}", SALT_TOO_BIG)
    seq = _number(args, b"seq", 0, MAX_SEQ)
    query.item = Item(value, _fixed(args, b"k", 32), _fixed(args, b"sig", 64), seq, salt)
    if b"cas" in args:
        query.cas = _number(args, b"cas", 0, MAX_SEQ)


def _reply(message: dict[bytes, Value], transaction: bytes) -> Reply:
    answer = message.get(b"r")
    if not isinstance(answer, dict):
        raise KrpcError("a reply without values")
    reply = Reply(transaction, NodeId(_fixed(answer, b"id", 20)))
    if b"nodes" in answer:
        reply.nodes = _multiple(answer, b"nodes", SIZE[4])
    if b"nodes6" in answer:
        reply.nodes6 = _multiple(answer, b"nodes6", SIZE[6])
    if b"token" in answer:
        reply.token = _token(answer)
    if b"values" in answer:
        reply.values = _values(answer[b"values"])
    if b"BFsd" in answer and b"BFpe" in answer:
        reply.seeds_filter = _fixed(answer, b"BFsd", FILTER_SIZE)
        reply.peers_filter = _fixed(answer, b"BFpe", FILTER_SIZE)
    if b"v" in answer or b"seq" in answer:
        _item(reply, answer)
    if b"samples" in answer:
        reply.samples = _multiple(answer, b"samples", 20)
        reply.interval = _number(answer, b"interval", 0, MAX_SEQ)
        reply.num = _number(answer, b"num", 0, MAX_SEQ)
    reply.external = _external(message.get(b"ip"))
    reply.version = _text(message.get(b"v"))
    return reply


def _item(reply: Reply, answer: dict[bytes, Value]) -> None:
    if b"v" in answer:
        reply.value = bencode.encode(answer[b"v"])
        if len(reply.value) > MAX_VALUE:
            raise KrpcError(f"the value has {len(reply.value)} bytes, over {MAX_VALUE}")
    if b"k" in answer:
        reply.key = _fixed(answer, b"k", 32)
        reply.signature = _fixed(answer, b"sig", 64)
    if b"seq" in answer:
        reply.seq = _number(answer, b"seq", 0, MAX_SEQ)


def _error(message: dict[bytes, Value], transaction: bytes) -> Error:
    match message.get(b"e"):
        case [int(code), bytes(text), *_]:
            words = text[:MAX_TEXT].decode("utf-8", "replace")
            return Error(transaction, code, words, _external(message.get(b"ip")), _text(message.get(b"v")))
    raise KrpcError("an error without code and text")


def _fixed(values: Mapping[bytes, Value], name: bytes, length: int) -> bytes:
    value = values.get(name)
    if not isinstance(value, bytes) or len(value) != length:
        raise KrpcError(f"{name.decode()} is no string of {length} bytes")
    return value


def _multiple(values: Mapping[bytes, Value], name: bytes, size: int) -> bytes:
    value = values[name]
    if not isinstance(value, bytes) or len(value) % size:
        raise KrpcError(f"{name.decode()} is no string of a multiple of {size} bytes")
    return value


def _number(values: Mapping[bytes, Value], name: bytes, least: int, most: int) -> int:
    value = values.get(name)
    if not isinstance(value, int) or not least <= value <= most:
        raise KrpcError(f"{name.decode()} is no number from {least} to {most}")
    return value


def _token(values: Mapping[bytes, Value]) -> bytes:
    value = values.get(b"token")
    if not isinstance(value, bytes) or len(value) > MAX_TOKEN:
        raise KrpcError(f"the token is no string of at most {MAX_TOKEN} bytes")
    return value


def _want(value: Value) -> tuple[int, ...]:
    """Other strings than the two known are for the future, and ignored (BEP 32)."""
    if not isinstance(value, list):
        raise KrpcError("want is no list")
    return tuple(family for family, name in ((4, b"n4"), (6, b"n6")) if name in value)


def _values(value: Value) -> tuple[bytes, ...]:
    """Peers, of both lengths: BEP 32 asks for this though nobody should send it."""
    if not isinstance(value, list):
        raise KrpcError("values is no list")
    if any(type(peer) is not bytes or len(peer) not in (6, 18) for peer in value):
        raise KrpcError("values holds something that is no compact peer")
    return tuple(cast("list[bytes]", value))


def _external(value: Value | None) -> Address | None:
    """Some programs send only the address, or nonsense: nothing hangs on it, so that is no error."""
    if not isinstance(value, bytes) or len(value) not in (6, 18):
        return None
    return (unpack_peers if len(value) == 6 else unpack_peers6)(value)[0]


def _text(value: Value | None) -> bytes:
    return value[:8] if isinstance(value, bytes) else b""


# writing


def encode(message: Message) -> bytes:
    """The datagram of ``message``."""
    if isinstance(message, Query):
        return _encode_query(message)
    body: dict[bytes, bencode.Encodable] = {}
    if message.external is not None:
        body[b"ip"] = pack_address(message.external)
    if isinstance(message, Reply):
        body[b"r"] = _reply_values(message)
    else:
        body[b"e"] = (message.code, message.text)
    body[b"t"] = message.transaction
    if message.version:
        body[b"v"] = message.version
    body[b"y"] = b"r" if isinstance(message, Reply) else b"e"
    return bencode.encode(body)


def _encode_query(query: Query) -> bytes:
    args: dict[bytes, bencode.Encodable] = {b"id": query.node_id}
    if query.target:
        args[TARGETS.get(query.method, b"target")] = query.target
    if query.want:
        args[b"want"] = [b"n%d" % family for family in query.want]
    if query.method == b"announce_peer":
        args |= {b"port": query.port, b"implied_port": int(query.implied_port)}
    if query.token or query.method in (b"announce_peer", b"put"):
        args[b"token"] = query.token
    for name, flag in ((b"seed", query.seed), (b"noseed", query.noseed), (b"scrape", query.scrape)):
        if flag:
            args[name] = 1
    if query.item is not None:
        args |= _item_values(query.item)
    for name, number in ((b"cas", query.cas), (b"seq", query.seq)):
        if number is not None:
            args[name] = number
    body: dict[bytes, bencode.Encodable] = {b"a": args, b"q": query.method, b"t": query.transaction, b"y": b"q"}
    if query.read_only:
        body[b"ro"] = 1
    if query.version:
        body[b"v"] = query.version
    return bencode.encode(body)


def _item_values(item: Item) -> dict[bytes, bencode.Encodable]:
    values: dict[bytes, bencode.Encodable] = {b"v": Raw(item.value)}
    if item.is_mutable:
        values |= {b"k": item.key, b"sig": item.signature, b"seq": item.seq}
        if item.salt:
            values[b"salt"] = item.salt
    return values


def _reply_values(reply: Reply) -> dict[bytes, bencode.Encodable]:
    values: dict[bytes, bencode.Encodable] = {b"id": reply.node_id}
    for name, text in (
        (b"nodes", reply.nodes),
        (b"nodes6", reply.nodes6),
        (b"token", reply.token),
        (b"BFsd", reply.seeds_filter),
        (b"BFpe", reply.peers_filter),
        (b"k", reply.key),
        (b"sig", reply.signature),
    ):
        if text:
            values[name] = text
    if reply.values:  # many, and alike: half the time of the whole message, if each had to be looked at
        values[b"values"] = Raw(b"l%se" % b"".join([b"%d:%s" % (len(peer), peer) for peer in reply.values]))
    if reply.value:
        values[b"v"] = Raw(reply.value)
    if reply.seq is not None:
        values[b"seq"] = reply.seq
    if reply.samples is not None:
        values |= {b"samples": reply.samples, b"interval": reply.interval, b"num": reply.num}
    return values
