"""The handshake that opens every peer connection (BEP 3): 68 bytes, the same in both directions.

It names the protocol, tells what extensions its sender speaks (eight reserved bytes, their bits by name in ``Reserved``),
which torrent it wants, and who it is. It decides nothing: whether the infohash is ours is the session's question.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

from unchoke.errors import ProtocolError
from unchoke.types import InfoHash, PeerId

PROTOCOL = b"\x13BitTorrent protocol"
HANDSHAKE_LENGTH = 68


class Reserved(IntFlag):
    """Bits of the eight reserved bytes, read as one big-endian number. Unknown bits are kept and ignored."""

    DHT = 1 << 0  # BEP 5
    FAST = 1 << 2  # BEP 6
    V2 = 1 << 4  # BEP 52: "I can upgrade a hybrid torrent"
    EXTENDED = 1 << 20  # BEP 10
    AZUREUS = 1 << 63  # Azureus messaging protocol


#: What we speak.
OURS = Reserved.FAST | Reserved.EXTENDED


class Handshake(NamedTuple):
    """Who speaks, about which torrent (20 bytes, also for v2), and what they can."""

    infohash: InfoHash
    peer_id: PeerId
    reserved: Reserved = OURS

    def encode(self) -> bytes:
        """The 68 bytes of the wire."""
        return PROTOCOL + self.reserved.to_bytes(8, "big") + self.infohash[:20] + self.peer_id


def decode_handshake(data: bytes | bytearray | memoryview) -> Handshake | None:
    """Read a handshake from the start of ``data``; None while it is incomplete.

    Raises ProtocolError as soon as a byte shows that this is none, so that garbage is not waited for.
    """
    head = bytes(data[: len(PROTOCOL)])
    if not PROTOCOL.startswith(head):
        raise ProtocolError("not a BitTorrent handshake")
    if len(data) < HANDSHAKE_LENGTH:
        return None
    reserved = Reserved(int.from_bytes(data[20:28], "big"))
    return Handshake(InfoHash(bytes(data[28:48])), PeerId(bytes(data[48:68])), reserved)
