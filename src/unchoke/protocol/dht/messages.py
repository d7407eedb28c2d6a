"""What DHT nodes say to each other, as records: queries, replies and errors (BEP 5, 32, 33, 42, 43, 44, 51).

``krpc`` turns them into datagrams and back. An empty field is one that the message does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from unchoke.errors import ProtocolError
from unchoke.protocol.dht.item import Item
from unchoke.types import Address, NodeId
from unchoke.version import VERSION as OUR_VERSION

#: Error codes (BEP 5, 44).
GENERIC, SERVER, PROTOCOL, UNKNOWN_METHOD = 201, 202, 203, 204
TOO_BIG, BAD_SIGNATURE, SALT_TOO_BIG, CAS_MISMATCH, OUTDATED = 205, 206, 207, 301, 302

#: What we call ourselves: two letters (BEP 20) and two bytes of version (BEP 5).
VERSION = b"UK" + bytes(int(part) for part in OUR_VERSION.split(".")[:2])


class KrpcError(ProtocolError):
    """A datagram that is no message, or a query that nobody can answer.

    ``transaction`` is that of a query, so that its sender can be told ``code``; None where there is nobody to tell.
    """

    def __init__(self, message: str, code: int = PROTOCOL, transaction: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.transaction = transaction


@dataclass(slots=True)
class Query:
    """``target`` is what the method is about (the infohash too); empty for ping and put."""

    transaction: bytes
    method: bytes
    node_id: NodeId
    target: bytes = b""
    want: tuple[int, ...] = ()
    """Families of nodes asked for (BEP 32); empty: that of the packet."""
    port: int = 0
    implied_port: bool = False
    token: bytes = b""
    seed: bool = False
    noseed: bool = False
    scrape: bool = False
    item: Item | None = None
    cas: int | None = None
    seq: int | None = None
    """get: the value only if it is newer than this."""
    read_only: bool = False
    version: bytes = b""


@dataclass(slots=True)
class Reply:
    """``nodes`` and ``nodes6`` are whole compact node infos, ``values`` compact peers, ``samples`` whole infohashes."""

    transaction: bytes
    node_id: NodeId
    nodes: bytes = b""
    nodes6: bytes = b""
    token: bytes = b""
    values: tuple[bytes, ...] = ()
    seeds_filter: bytes = b""
    peers_filter: bytes = b""
    value: bytes = b""
    """BEP 44: bencode, as its hash is of the bytes."""
    key: bytes = b""
    signature: bytes = b""
    seq: int | None = None
    samples: bytes | None = None
    interval: int = 0
    num: int = 0
    external: Address | None = None
    """Where the asker is, as the one who answers sees it (BEP 42)."""
    version: bytes = b""


@dataclass(slots=True)
class Error:
    """A query that was refused, and why."""

    transaction: bytes
    code: int
    text: str
    external: Address | None = None
    version: bytes = b""


Message: TypeAlias = Query | Reply | Error
