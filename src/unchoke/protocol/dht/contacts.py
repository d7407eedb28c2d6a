"""Compact node info: 26 bytes a node for IPv4 (BEP 5), 38 for IPv6 (BEP 32): id, address, port.

Like ``protocol/compact`` it says what the bytes say; which contacts are worth a packet is for ``ids.is_contact``.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address
from struct import Struct
from typing import NamedTuple

from unchoke.errors import ProtocolError
from unchoke.protocol.dht.ids import host_of
from unchoke.types import Address, NodeId

_V4 = Struct("!20s4BH")
_V6 = Struct("!20s16sH")

#: Bytes of one contact, by family.
SIZE = {4: _V4.size, 6: _V6.size}


class Contact(NamedTuple):
    """A node: its id and where it is."""

    id: NodeId
    address: Address


def unpack_contacts(data: bytes, family: int, limit: int | None = None) -> list[Contact]:
    """The contacts in ``data``, the first ``limit`` of them. Raises ProtocolError if it ends within one."""
    if len(data) % SIZE[family]:
        raise ProtocolError(f"compact node info of {len(data)} bytes, no multiple of {SIZE[family]}")
    data = data if limit is None else data[: limit * SIZE[family]]
    if family == 4:
        return [
            Contact(NodeId(node), Address(f"{a}.{b}.{c}.{d}", port)) for node, a, b, c, d, port in _V4.iter_unpack(data)
        ]
    return [Contact(NodeId(node), Address(str(IPv6Address(host)), port)) for node, host, port in _V6.iter_unpack(data)]


def pack_contact(node_id: bytes, address: Address) -> bytes:
    """26 or 38 bytes. The host must be a literal address."""
    return node_id + host_of(address.host).packed + address.port.to_bytes(2)


def pack_contacts(contacts: Iterable[tuple[bytes, Address]]) -> bytes:
    """``contacts`` of one family, in order."""
    return b"".join(pack_contact(node_id, address) for node_id, address in contacts)
