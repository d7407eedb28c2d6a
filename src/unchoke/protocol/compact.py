"""Compact peer lists: six bytes a peer for IPv4 (BEP 23), eighteen for IPv6 (BEP 7), network byte order.

What the bytes say and no more: port 0 and addresses that nobody can dial are for the caller to judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from struct import Struct

from unchoke.errors import ProtocolError
from unchoke.types import Address

_V4 = Struct("!4BH")
_V6 = Struct("!16sH")
_PORT = Struct("!H")


def unpack_peers(data: bytes | memoryview) -> list[Address]:
    """IPv4 peers of 6 bytes each. Raises ProtocolError if the length is no multiple of 6."""
    if len(data) % _V4.size:
        raise ProtocolError(f"a compact peer list of {len(data)} bytes, no multiple of {_V4.size}")
    return [Address(f"{a}.{b}.{c}.{d}", port) for a, b, c, d, port in _V4.iter_unpack(data)]


def unpack_peers6(data: bytes | memoryview) -> list[Address]:
    """IPv6 peers of 18 bytes each. Raises ProtocolError if the length is no multiple of 18."""
    if len(data) % _V6.size:
        raise ProtocolError(f"a compact IPv6 peer list of {len(data)} bytes, no multiple of {_V6.size}")
    return [Address(str(IPv6Address(host)), port) for host, port in _V6.iter_unpack(data)]


def pack_address(address: Address) -> bytes:
    """One peer: 6 bytes if its host is an IPv4 address, else 18. Raises ValueError if the host is a name."""
    try:
        if ":" in address.host:
            return IPv6Address(address.host.partition("%")[0]).packed + _PORT.pack(address.port)
        return IPv4Address(address.host).packed + _PORT.pack(address.port)
    except AddressValueError:
        raise ValueError(f"{address.host!r} is no literal address") from None


def pack_peers(addresses: Iterable[Address]) -> bytes:
    """Those of ``addresses`` that are IPv4, 6 bytes each, in order."""
    return b"".join(pack_address(address) for address in addresses if ":" not in address.host)


def pack_peers6(addresses: Iterable[Address]) -> bytes:
    """Those of ``addresses`` that are IPv6, 18 bytes each, in order."""
    return b"".join(pack_address(address) for address in addresses if ":" in address.host)
