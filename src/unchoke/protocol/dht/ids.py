"""Node ids and hosts: how far ids are apart (BEP 5), which id an address allows (BEP 42), and what kind of address it is.

``host_of`` says everything about a host that the DHT wants to know, once for each: a node sees the same few thousand again
and again, and taking an address apart costs ten times what looking it up does.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from unchoke.crc32c import crc32c
from unchoke.types import Address, NodeId

if TYPE_CHECKING:
    from random import Random

#: Bits of an id.
BITS = 160

#: Which bits of an address count for the id (BEP 42).
_MASKS = {4: 0x030F3FFF, 6: 0x0103070F1F3F7FFF}

#: First and last+1 of the IPv4 networks that are nobody's on the internet: BEP 42's list and RFC 6598 (carriers' NAT).
_LOCAL4 = tuple(
    (int(IPv4Address(first)), int(IPv4Address(first)) + (1 << 32 - bits))
    for first, bits in (
        ("10.0.0.0", 8),
        ("100.64.0.0", 10),
        ("127.0.0.0", 8),
        ("169.254.0.0", 16),
        ("172.16.0.0", 12),
        ("192.168.0.0", 16),
    )
)


class Host(NamedTuple):
    """What an address is. ``key`` stands for whoever has it, ``subnet`` for the neighbourhood that likely has one owner."""

    family: int
    """4, 6, or 0 for text that is no literal address."""
    packed: bytes
    usable: bool
    """A single machine can have it: no multicast, broadcast, or address that stands for another."""
    local: bool
    """No address of the internet: BEP 42 does not apply, and only local nodes are believed when they name it."""
    loopback: bool
    key: bytes
    """The address, for IPv6 its /64: what one subscriber gets."""
    subnet: bytes
    """The /24, for IPv6 the /64."""


_NOBODY = Host(0, b"", False, False, False, b"", b"")


@lru_cache(maxsize=8192)
def host_of(host: str) -> Host:
    """Never raises; what is no literal address (a scope ``%eth0`` may follow) is not usable."""
    try:
        if ":" in host:
            return _host6(IPv6Address(host.partition("%")[0]).packed)
        return _host4(IPv4Address(host).packed)
    except AddressValueError:
        return _NOBODY


def _host4(packed: bytes) -> Host:
    number = int.from_bytes(packed)
    local = any(first <= number < end for first, end in _LOCAL4)
    usable = 0 < packed[0] < 224
    return Host(4, packed, usable, local, packed[0] == 127, packed, packed[:3])


def _host6(packed: bytes) -> Host:
    loopback = packed == bytes(15) + b"\x01"
    local = loopback or packed[0] & 0xFE == 0xFC or (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80)
    usable = local or packed[0] & 0xE0 == 0x20
    return Host(6, packed, usable, local, loopback, packed[:8], packed[:8])


def identity(address: Address) -> bytes:
    """Who is behind an address: one node for each. On loopback each port is somebody else: only we ourselves are there."""
    host = host_of(address.host)
    return host.packed + address.port.to_bytes(2) if host.loopback else host.key


def is_contact(address: Address, family: int, *, local: bool) -> bool:
    """Whether a packet may be sent to an address that a stranger named. ``local``: the stranger is on our own network."""
    host = host_of(address.host)
    return host.family == family and host.usable and (local or not host.local) and 0 < address.port < 65536


def distance(one: bytes, other: bytes) -> int:
    """Kademlia's: exclusive or, as a number."""
    return int.from_bytes(one) ^ int.from_bytes(other)


def is_secure(node_id: bytes, host: Host) -> bool:
    """Whether this host may have this id (BEP 42). Local hosts may have any."""
    if host.local:
        return True
    crc = _prefix(host, node_id[19])
    return node_id[0] == crc >> 24 and node_id[1] == crc >> 16 & 0xFF and (node_id[2] ^ crc >> 8) & 0xF8 == 0


def secure_id(host: str, rng: Random) -> NodeId:
    """A new id for a node at ``host`` (BEP 42); any id where the host is local, empty or no address."""
    rest = rng.randbytes(20)
    found = host_of(host)
    if not found.usable or found.local:
        return NodeId(rest)
    crc = _prefix(found, rest[19])
    return NodeId(bytes((crc >> 24, crc >> 16 & 0xFF, crc >> 8 & 0xF8 | rest[2] & 0x07)) + rest[3:])


def _prefix(host: Host, last: int) -> int:
    """The checksum whose first 21 bits begin an id that ends with the byte ``last``."""
    if host.family == 4:
        masked = int.from_bytes(host.packed) & _MASKS[4] | (last & 7) << 29
        return crc32c(masked.to_bytes(4))
    masked = int.from_bytes(host.packed[:8]) & _MASKS[6] | (last & 7) << 61
    return crc32c(masked.to_bytes(8))
