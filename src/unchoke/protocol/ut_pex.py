"""Peer exchange messages (BEP 11): peers that the sender has met or lost since its last message, both families, with flags.

Only what the bytes say: who may be told, how often, and which addresses are fit to be dialled is not decided here. Fields of a
wrong type count as absent and a rest that is no whole entry is left out, as other clients read them; only something that is
no bencoded dict, or is too long, is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from itertools import chain, repeat
from typing import NamedTuple

from unchoke.errors import BencodeError, ProtocolError
from unchoke.protocol.bencode import Encodable, Value, decode, encode
from unchoke.protocol.compact import pack_peers, pack_peers6, unpack_peers, unpack_peers6
from unchoke.types import Address

#: Bytes of a message. 50 peers of each family take 1.3 KB; a first message, which has no bound, has room for 1,000 of each. Nonsense
#: of this length takes 6 ms to read.
MAX_PAYLOAD = 32 * 1024
#: Entries of each list that are read; the rest is cut off before anything is made of it.
MOST_READ = 200
#: A dict of strings. Whoever nests deeper wants to keep us busy.
_MAX_DEPTH = 3


class PexFlag(IntFlag):
    """What is told of a peer besides its address."""

    ENCRYPTION = 0x01
    """It prefers encrypted conversations."""
    SEED = 0x02
    """It downloads nothing (BEP 21)."""
    UTP = 0x04
    """It speaks uTP (BEP 29)."""
    HOLEPUNCH = 0x08
    """It speaks ``ut_holepunch`` (BEP 55)."""
    REACHABLE = 0x10
    """Somebody has dialled it with success."""


class PexPeer(NamedTuple):
    """A peer the sender has met, and its ``PexFlag`` bits (unknown ones included)."""

    address: Address
    flags: int = 0


@dataclass(frozen=True, slots=True)
class PexMessage:
    """Who came and who went. Both families may be mixed; each keeps its order."""

    added: tuple[PexPeer, ...] = ()
    dropped: tuple[Address, ...] = ()

    def encode(self) -> bytes:
        """The payload after the extension number. Raises ValueError if a host is a name."""
        four = [peer for peer in self.added if ":" not in peer.address.host]
        six = [peer for peer in self.added if ":" in peer.address.host]
        message: dict[bytes, Encodable] = {}
        _put(message, b"added", pack_peers(peer.address for peer in four), b"added.f", four)
        _put(message, b"added6", pack_peers6(peer.address for peer in six), b"added6.f", six)
        _put(message, b"dropped", pack_peers(self.dropped))
        _put(message, b"dropped6", pack_peers6(self.dropped))
        return encode(message)


def _put(
    message: dict[bytes, Encodable], name: bytes, packed: bytes, flags: bytes = b"", peers: Iterable[PexPeer] = ()
) -> None:
    if packed:
        message[name] = packed
        if flags:
            message[flags] = bytes(peer.flags & 0xFF for peer in peers)


def decode_pex(payload: bytes | memoryview) -> PexMessage:
    """Read a peer's message; at most ``MOST_READ`` entries of each of its four lists. Raises ProtocolError."""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a ut_pex message of {len(payload)} bytes")
    try:
        message = decode(payload, max_depth=_MAX_DEPTH, trailing=True)
    except BencodeError as error:
        raise ProtocolError(f"ut_pex: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a ut_pex message that is no dict")
    four = _peers(unpack_peers(_list(message, b"added", 6)), message.get(b"added.f"))
    six = _peers(unpack_peers6(_list(message, b"added6", 18)), message.get(b"added6.f"))
    dropped = unpack_peers(_list(message, b"dropped", 6)), unpack_peers6(_list(message, b"dropped6", 18))
    return PexMessage((*four, *six), (*dropped[0], *dropped[1]))


def _list(message: dict[bytes, Value], name: bytes, size: int) -> bytes:
    """As many whole entries as are read."""
    value = message.get(name)
    return value[: min(len(value) // size, MOST_READ) * size] if isinstance(value, bytes) else b""


def _peers(addresses: list[Address], flags: Value | None) -> Iterable[PexPeer]:
    known = flags if isinstance(flags, bytes) else b""
    return map(PexPeer, addresses, chain(known, repeat(0)))
