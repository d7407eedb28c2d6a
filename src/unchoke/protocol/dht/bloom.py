"""Bloom filters of addresses, with which DHT nodes count a swarm together (BEP 33): 256 bytes, two bits an address.

Filters of several nodes are joined by OR, and the number of addresses is estimated from the bits that are left. A filter says
nothing that could be checked: one far out of line with the others' is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1
from math import log, log1p

#: Bits, and bytes.
BITS = 2048
SIZE = BITS // 8
#: Beyond this a filter is too full to mean anything (BEP 33).
MAX_COUNT = 6000


def make(hosts: Iterable[bytes]) -> bytes:
    """The filter of some packed addresses."""
    bits = 0
    for host in hosts:
        digest = sha1(host).digest()
        bits |= 1 << int.from_bytes(digest[:2], "little") % BITS | 1 << int.from_bytes(digest[2:4], "little") % BITS
    return bits.to_bytes(SIZE, "little")


def estimate(bloom: bytes) -> float:
    """How many addresses a filter has been made of, about."""
    zeros = min(BITS - 1, BITS - int.from_bytes(bloom).bit_count())
    return log(max(zeros, 1) / BITS) / (2 * log1p(-1 / BITS))


def together(blooms: Sequence[bytes]) -> int:
    """How many addresses there are in all of several nodes' filters, without those that are full or far above the rest."""
    counts = [(estimate(bloom), bloom) for bloom in blooms]
    sane = [(count, bloom) for count, bloom in counts if count <= MAX_COUNT]
    if not sane:
        return 0
    # Nodes see different parts of a swarm, and one may know the most: four times the median is still believed.
    usual = 4 * sorted(count for count, _ in sane)[len(sane) // 2] + 20
    bits = 0
    for count, bloom in sane:
        if count <= usual:
            bits |= int.from_bytes(bloom)
    return round(estimate(bits.to_bytes(SIZE)))
