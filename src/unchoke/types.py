"""The small values that every floor speaks of: hashes, ids, addresses, blocks.

They carry no behaviour beyond saying themselves in words. Sizes are bytes, indexes count from 0.
"""

from __future__ import annotations

from typing import NamedTuple

#: What is asked for in one request. Every client in the field uses 16 KiB; larger requests are refused by most (BEP 3).
BLOCK_SIZE = 16 * 1024


class InfoHash(bytes):
    """The identity of a torrent: SHA-1 (20 bytes, BEP 3) or SHA-256 (32 bytes, BEP 52) of the bencoded info dict."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> InfoHash:
        if len(value) not in (20, 32):
            raise ValueError(f"an infohash has 20 or 32 bytes, not {len(value)}")
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"<InfoHash {self.hex()}>"

    @property
    def truncated(self) -> InfoHash:
        """The 20 bytes that handshakes, trackers and the DHT carry, also for v2 (BEP 52)."""
        return InfoHash(self[:20])


class PeerId(bytes):
    """20 bytes a peer calls itself by (BEP 3, BEP 20)."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> PeerId:
        if len(value) != 20:
            raise ValueError(f"a peer id has 20 bytes, not {len(value)}")
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return "".join(chr(byte) if 32 < byte < 127 else "." for byte in self)

    def __repr__(self) -> str:
        return f"<PeerId {self}>"


class NodeId(bytes):
    """20 bytes a DHT node goes by, in the space that infohashes live in (BEP 5, 42)."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> NodeId:
        if len(value) != 20:
            raise ValueError(f"a node id has 20 bytes, not {len(value)}")
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"<NodeId {self.hex()}>"


class Address(NamedTuple):
    """Where a peer or node listens: a literal IPv4 or IPv6 address (no names) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Block(NamedTuple):
    """A part of a piece as one request asks for it: piece index, byte offset in the piece, length in bytes."""

    piece: int
    begin: int
    length: int
