"""Canonical peer priority (BEP 40): an order of peers that both ends of a conversation compute alike, each pair its own.

If everybody prefers the conversations that rank highest, a swarm's connections are spread evenly at random, newcomers find
places, and nobody can fill a peer's places from one network. Within one torrent only.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from unchoke.crc32c import crc32c
from unchoke.reach import is_inside
from unchoke.types import Address

#: More than any priority: peers of the local network come first, since they cost the line nothing.
LOCAL = 1 << 32

#: Bytes of an address that always count in full, by its length (the BEP's masks FF.FF.55.55 and FFFF:FFFF:FFFF:5555…).
_WHOLE = {4: 2, 16: 6}


def priority(ours: Address, theirs: Address) -> int:
    """The priority of a conversation between two, the same whichever is ours; higher is better (0 … 2³²-1).

    Raises ValueError for hosts that are no addresses, or of two families.
    """
    one, other = ip_address(ours.host), ip_address(theirs.host.partition("%")[0])
    return _priority(one.packed, ours.port, other.packed, theirs.port)


def _priority(one: bytes, one_port: int, other: bytes, other_port: int) -> int:
    if len(one) != len(other):
        raise ValueError("two families have no common priority")
    if one == other:
        low, high = sorted((one_port, other_port))
        return crc32c(low.to_bytes(2, "big") + high.to_bytes(2, "big"))
    length = len(one)
    first, second = int.from_bytes(one, "big"), int.from_bytes(other, "big")
    # Where both begin alike, one byte more counts than they share: from /16 to /24 (from /48 to /56), and so on.
    shared = length - ((first ^ second).bit_length() + 7) // 8
    masked = 8 * max(length - max(_WHOLE[length], shared + 1), 0)
    mask = (1 << 8 * length) - 1 - (((1 << masked) - 1) // 255 * 0xAA)
    low, high = sorted((first & mask, second & mask))
    return crc32c(low.to_bytes(length, "big") + high.to_bytes(length, "big"))


class Ranking:
    """Ranks addresses as ``PeerList`` asks for it. ``ours(family)``: our host as others see it; ``port()``: where we listen."""

    __slots__ = ("_host", "_ours", "_packed", "_port")

    def __init__(self, ours: Callable[[int], str | None], port: Callable[[], int]) -> None:
        self._ours = ours
        self._port = port
        self._host: str | None = None  # what ``_packed`` was made of
        self._packed = b""

    def __call__(self, address: Address) -> int | None:
        """Higher is better; None if it cannot be told, as long as nobody has told us our own address."""
        if is_inside(address.host):
            return LOCAL
        host = self._ours(6 if ":" in address.host else 4)
        if host is None:
            return None
        if host != self._host:
            self._host, self._packed = host, ip_address(host).packed
        return _priority(self._packed, self._port(), ip_address(address.host).packed, address.port)

    def __repr__(self) -> str:
        return f"<Ranking as {self._ours(4) or '?'} and {self._ours(6) or '?'}>"
