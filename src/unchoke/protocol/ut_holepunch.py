"""Holepunch messages (BEP 55): two peers that nobody can dial are told by a third to dial each other at the same moment.

Three messages of one fixed shape. What is done about them, and whether it can be done, is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from unchoke.errors import ProtocolError
from unchoke.protocol.compact import pack_address
from unchoke.types import Address

_HEAD = Struct(">BB")
_TAIL = Struct(">HI")
#: Bytes of an address of each ``addr_type``.
_SIZES = (4, 16)


class HolepunchKind(IntEnum):
    """What is wanted."""

    RENDEZVOUS = 0
    """Of the relay: bring me together with the peer at this address."""
    CONNECT = 1
    """Of both ends: dial this address over uTP now."""
    ERROR = 2
    """To who asked: it cannot be done."""


class HolepunchError(IntEnum):
    """Why not. Numbers that the BEP does not have are kept as they came."""

    NONE = 0
    NO_SUCH_PEER = 1
    """The address is none that anybody has."""
    NOT_CONNECTED = 2
    """The relay has no conversation with it."""
    NO_SUPPORT = 3
    """It does not speak ``ut_holepunch``."""
    NO_SELF = 4
    """It is the relay itself."""


@dataclass(frozen=True, slots=True)
class HolepunchMessage:
    """``address``: whom to meet, a literal address without scope; ``error``: a ``HolepunchError`` or a stranger's number."""

    kind: HolepunchKind
    address: Address
    error: int = 0

    def encode(self) -> bytes:
        """The payload after the extension number. Raises ValueError if the host is a name."""
        packed = pack_address(self.address)
        return _HEAD.pack(self.kind, len(packed) == 18) + packed + self.error.to_bytes(4, "big")


def decode_holepunch(payload: bytes | memoryview) -> HolepunchMessage:
    """Read a message; bytes behind it are ignored, and a missing error number is 0 (some clients leave it out).

    Raises ProtocolError: unknown kind, unknown kind of address, too short.
    """
    if len(payload) < _HEAD.size:
        raise ProtocolError(f"a ut_holepunch message of {len(payload)} bytes")
    kind, family = _HEAD.unpack_from(payload)
    if kind > HolepunchKind.ERROR or family >= len(_SIZES):
        raise ProtocolError(f"a ut_holepunch message of kind {kind} for an address of kind {family}")
    end = _HEAD.size + _SIZES[family]
    rest = bytes(payload[end : end + _TAIL.size])
    if len(rest) < 2:
        raise ProtocolError(f"a ut_holepunch message of {len(payload)} bytes")
    packed = bytes(payload[_HEAD.size : end])
    host = str(IPv6Address(packed) if family else IPv4Address(packed))
    port, error = _TAIL.unpack(rest.ljust(_TAIL.size, b"\0"))
    return HolepunchMessage(HolepunchKind(kind), Address(host, port), error)
