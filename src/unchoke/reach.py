"""Reach: from how far away a literal address can be reached, and what of an address one customer of a network has.

A stranger's word about an address is worth the more the further it reaches: addresses inside a network mean something else in
each, and being told of one from outside is an attack on it. (RFC 1918, 3927, 4193, 4291, 6598.)
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache


class Reach(IntEnum):
    """From where an address can be reached; the higher, the fewer."""

    PUBLIC = 0
    """From everywhere."""
    PRIVATE = 1
    """From inside its network: private, shared by a provider's customers, unique local."""
    LINK = 2
    """From the same cable or air, and only with the name of an interface (IPv6) or by luck (IPv4)."""
    LOOPBACK = 3
    """From this machine."""
    NOWHERE = 4
    """It is nobody's: multicast, unspecified, reserved, no address at all."""


#: The first that matches decides.
_NETWORKS = tuple(
    (ipaddress.ip_network(network), reach)
    for reach, networks in (
        (Reach.PRIVATE, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
        (Reach.LINK, ("169.254.0.0/16", "fe80::/10")),
        (Reach.LOOPBACK, ("127.0.0.0/8", "::1/128")),
        (Reach.NOWHERE, ("0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8")),
    )
    for network in networks
)
_BY_VERSION = {
    version: tuple(
        (int(net.network_address), int(net.netmask), reach) for net, reach in _NETWORKS if net.version == version
    )
    for version in (4, 6)
}


@lru_cache(maxsize=4096)
def reach_of(host: str) -> Reach:
    """Of a literal address, with or without a scope; an IPv4 address in IPv6's clothes counts as what it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return Reach.NOWHERE
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    number = int(address)
    for network, mask, reach in _BY_VERSION[address.version]:
        if number & mask == network:
            return reach
    return Reach.PUBLIC


def is_inside(host: str) -> bool:
    """Is it an address of this machine or of a local network?"""
    return Reach.PUBLIC < reach_of(host) < Reach.NOWHERE


def household(host: str) -> str:
    """What one customer has, and may speak with any address of: an IPv4 address, or a /64 of IPv6. What is no address is itself."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
